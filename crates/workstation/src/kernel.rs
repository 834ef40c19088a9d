//! The seam between the list of steps and the kernel: each call as a value, so that a test can record the calls
//! and fail any of them.

use crate::disks::{Disk, DiskError};
use crate::listen;
use crate::network::Away;
use crate::plan::{Layer, Plan};
use crate::readback::{Disagreement, Role};
use crate::snapshot::Snapshot;
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::mount::{MntFlags, umount2};
use nix::sched::CloneFlags;
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;
use nix::sys::stat::{Mode, mkdirat, umask};
use nix::sys::wait::WaitStatus;
use nix::unistd::{
    Gid, Uid, UnlinkatFlags, fchown, fchownat, pivot_root, setgroups, sethostname, setresgid, setresuid,
    setsid, symlinkat, unlinkat,
};
use octant_sys::clone::{CloneArgs, Cloned, clone3};
use octant_sys::confine::{self, Instruction};
use octant_sys::hooks::Hooks;
use octant_sys::{descriptor, mount, nftables, packet};
use octant_ticket::Redeemed;
use std::ffi::{CStr, CString};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// One call to the kernel, or a few that only make sense together.
#[derive(Debug)]
pub(crate) enum Call<'a> {
    // Mounts and files of the new root.
    /// A detached copy of the mount at the path, with these attributes and private.
    CloneTree {
        of: BorrowedFd<'a>,
        attributes: u64,
        owners: Option<BorrowedFd<'a>>,
    },
    /// The files of a snapshot, in an empty file system.
    Restore {
        snapshot: &'a Snapshot,
        into: BorrowedFd<'a>,
        owner: u32,
    },
    /// A user namespace in which the owner on disk is this user and group, for mounts that show it so.
    OwnerMap {
        uid: u32,
        gid: u32,
        to: u32,
    },
    /// A new file system, detached.
    NewFilesystem {
        kind: &'static CStr,
        options: Vec<(&'static CStr, CString)>,
        attributes: u64,
    },
    MakeDir {
        root: BorrowedFd<'a>,
        path: &'a str,
    },
    PutFile {
        root: BorrowedFd<'a>,
        path: &'a str,
        bytes: &'a [u8],
    },
    PutLink {
        root: BorrowedFd<'a>,
        at: &'a str,
        to: &'a str,
    },
    /// A listening stream socket in the new root, owned by the user.
    Listen {
        root: BorrowedFd<'a>,
        path: &'static str,
        owner: u32,
    },
    AddAttributes {
        tree: BorrowedFd<'a>,
        attributes: u64,
    },
    PrivateMounts,
    AttachRoot {
        root: BorrowedFd<'a>,
    },
    Attach {
        tree: BorrowedFd<'a>,
        root: BorrowedFd<'a>,
        target: &'a str,
    },
    Pivot {
        root: BorrowedFd<'a>,
    },
    DetachOldRoot,
    // Cgroups.
    MakeLeaf {
        parent: BorrowedFd<'a>,
        name: &'a str,
    },
    Limit {
        leaf: BorrowedFd<'a>,
        file: &'static str,
        value: String,
    },
    LimitDisk {
        leaf: BorrowedFd<'a>,
        line: String,
    },
    Give {
        leaf: BorrowedFd<'a>,
        file: &'static str,
        owner: u32,
    },
    AttachHooks {
        hooks: &'a Hooks,
        leaf: BorrowedFd<'a>,
    },
    RemoveLeaf {
        parent: BorrowedFd<'a>,
        name: &'a str,
    },
    // Namespaces, as root of them.
    Write {
        path: String,
        text: String,
    },
    NewTimeNamespace,
    /// Rules for what leaves the network that the process is in.
    ConfineNetwork,
    Hostname {
        name: &'a str,
    },
    NewSessionKeyring,
    /// An anonymous pipe becomes the user's own, so that it can be opened once more by `/dev/stdout`. Anything else is
    /// left as it is: its owner outlives the agent.
    GivePipe {
        pipe: BorrowedFd<'a>,
        owner: u32,
    },
    // What a process does to itself.
    OpenNull,
    /// The host's `/proc`, to list it.
    OpenProc,
    /// The outer side of a new terminal.
    OpenMaster {
        devpts: BorrowedFd<'a>,
    },
    /// Its inner side, with the modes and the size of another terminal.
    OpenTerminal {
        master: BorrowedFd<'a>,
        owner: u32,
        like: BorrowedFd<'a>,
    },
    Place {
        fd: BorrowedFd<'a>,
        number: i32,
        close_on_exec: bool,
    },
    DieWithParent,
    NewSession,
    /// The terminal is the one of the session that the process leads.
    TakeTerminal {
        terminal: BorrowedFd<'a>,
    },
    /// A job of its own, in the foreground of the session's terminal.
    Foreground {
        terminal: BorrowedFd<'a>,
    },
    Rlimit {
        resource: Resource,
        limit: u64,
    },
    Umask {
        mask: u32,
    },
    ChangeDir {
        path: &'a str,
    },
    DefaultSignals,
    DropBounding,
    LockSecurebits,
    Become {
        uids: [u32; 3],
        gid: u32,
    },
    DropCapabilities,
    NotDumpable,
    NoNewPrivs,
    Landlock(&'a crate::landlock::Rules),
    CloseFrom {
        first: u32,
    },
    InstallFilter(Filter<'a>),
}

/// A named filter, which messages show by its name.
pub(crate) struct Filter<'a> {
    pub(crate) name: &'static str,
    pub(crate) program: &'a [Instruction],
    /// Whether the kernel reports what it denies.
    pub(crate) logged: bool,
}

impl std::fmt::Debug for Filter<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, {} instructions", self.name, self.program.len())
    }
}

/// An entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) is_dir: bool,
    pub(crate) is_link: bool,
}

/// What the steps need of the kernel.
pub(crate) trait Kernel {
    /// Makes the call; the descriptor of those that have one.
    fn call(&mut self, call: &Call<'_>) -> io::Result<Option<OwnedFd>>;
    /// clone3(2) of a workstation's first process, in this network. The only way to one, and it uses up the ticket that was
    /// redeemed for it.
    fn clone_workstation(
        &mut self,
        args: &CloneArgs<'_>,
        network: BorrowedFd<'_>,
        redeemed: Redeemed,
    ) -> io::Result<Cloned>;
    /// A network namespace of its own after [`Call::ConfineNetwork`], or without rules where the kernel has none.
    fn new_network(&mut self) -> io::Result<OwnedFd>;
    /// clone3(2) into the namespaces that the process is in already.
    fn fork(&mut self) -> io::Result<Cloned>;
    /// Sends one packet to the other side of the channel.
    fn send(&mut self, channel: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<()>;
    /// Receives one packet, within this many milliseconds where the number is not negative: its length and the
    /// sender's process id.
    fn receive(
        &mut self,
        channel: BorrowedFd<'_>,
        buffer: &mut [u8],
        within_ms: i32,
    ) -> io::Result<(usize, i32)>;
    /// Kills every process of the new workstation and waits for the first one's end.
    fn kill(&mut self, pidfd: BorrowedFd<'_>, leaf: Option<BorrowedFd<'_>>) -> io::Result<()>;

    /// Each disk that the plan bounds.
    fn disks(&mut self, plan: &Plan, sources: &[OwnedFd]) -> Result<Vec<Disk>, DiskError>;
    /// The entries of a directory.
    fn entries(&mut self, dir: BorrowedFd<'_>) -> io::Result<Vec<Entry>>;
    /// Reads the effective state of a process from `/proc`.
    fn observe(&mut self, role: Role, pid: u32) -> io::Result<crate::readback::Observed>;
    /// Whether the rules of a network are those of [`Call::ConfineNetwork`], and no others.
    fn network_is_confined(&mut self, network: BorrowedFd<'_>) -> io::Result<bool>;
    /// Whether the programs of [`Call::AttachHooks`] are asked.
    fn are_attached(&mut self, hooks: &Hooks, leaf: BorrowedFd<'_>) -> io::Result<bool>;
    /// The read-back's verdict, which only a test of what the other layers are worth makes nothing of.
    fn verdict(&self, found: Result<(), Disagreement>) -> Result<(), Disagreement> {
        found
    }
}

/// Which of the processes that take part in a spawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Side {
    /// The spawner.
    #[default]
    Spawner,
    /// The one that makes a network, and ends.
    Network,
    /// PID 1 of the new PID namespace.
    Reaper,
    /// The agent's own process.
    Payload,
}

/// What a test does to the calls of one process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The n-th call fails with `EIO`.
    Fail(Side, u32),
    /// Calls whose text (their `Debug` form) starts so are left out, as if they had been forgotten.
    Forget(Side, String),
    /// The same, and the read-back says nothing about it.
    Overlook(Side, String),
}

/// The running kernel. Only a test's own main function can set a fault, no request can.
#[derive(Debug, Default, Clone)]
pub(crate) struct Real {
    pub(crate) fault: Option<Fault>,
    /// Which process this is.
    pub(crate) side: Side,
    /// How many calls it has made.
    pub(crate) count: u32,
}

impl Real {
    pub(crate) fn new(fault: Option<Fault>) -> Self {
        Self { fault, ..Self::default() }
    }

    fn gate(&mut self) -> io::Result<()> {
        self.count += 1;
        let here = Fault::Fail(self.side, self.count);
        if self.fault.as_ref() == Some(&here) { Err(Errno::EIO.into()) } else { Ok(()) }
    }

    fn clone_to(&mut self, args: &CloneArgs<'_>, child: Side) -> io::Result<Cloned> {
        self.gate()?;
        let cloned = clone3(args)?;
        if matches!(cloned, Cloned::Child) {
            (self.side, self.count) = (child, 0);
        }
        Ok(cloned)
    }

    fn forgotten(&self, call: &Call<'_>) -> bool {
        match &self.fault {
            Some(Fault::Forget(side, text) | Fault::Overlook(side, text)) => {
                *side == self.side && format!("{call:?}").starts_with(text)
            }
            Some(Fault::Fail(..)) | None => false,
        }
    }
}

impl Kernel for Real {
    fn call(&mut self, call: &Call<'_>) -> io::Result<Option<OwnedFd>> {
        // What cleans up after a failure is not failed by injection.
        if !matches!(call, Call::RemoveLeaf { .. }) {
            self.gate()?;
        }
        if self.forgotten(call) {
            return Ok(None);
        }
        match call {
            Call::OwnerMap { uid, gid, to } => owner_map(*uid, *gid, *to).map(Some),
            Call::CloneTree { .. }
            | Call::Restore { .. }
            | Call::NewFilesystem { .. }
            | Call::MakeDir { .. }
            | Call::PutFile { .. }
            | Call::PutLink { .. }
            | Call::Listen { .. }
            | Call::AddAttributes { .. }
            | Call::PrivateMounts
            | Call::AttachRoot { .. }
            | Call::Attach { .. }
            | Call::Pivot { .. }
            | Call::DetachOldRoot => on_mounts(call),
            Call::OpenMaster { .. }
            | Call::OpenTerminal { .. }
            | Call::TakeTerminal { .. }
            | Call::Foreground { .. } => on_terminals(call),
            Call::MakeLeaf { .. }
            | Call::Limit { .. }
            | Call::LimitDisk { .. }
            | Call::Give { .. }
            | Call::AttachHooks { .. }
            | Call::RemoveLeaf { .. } => on_cgroups(call),
            other => on_self(other),
        }
    }

    fn clone_workstation(
        &mut self,
        args: &CloneArgs<'_>,
        network: BorrowedFd<'_>,
        _used_up: Redeemed,
    ) -> io::Result<Cloned> {
        let away = Away::to(network)?;
        let cloned = self.clone_to(args, Side::Reaper);
        if !matches!(cloned, Ok(Cloned::Child)) {
            away.back();
        }
        cloned
    }

    fn new_network(&mut self) -> io::Result<OwnedFd> {
        let namespaces = (CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET).bits();
        let pipe = io::pipe()?;
        let cloned = self.clone_to(&CloneArgs { namespaces, ..CloneArgs::new() }, Side::Network)?;
        let opened = |pid| std::fs::File::open(format!("/proc/{pid}/ns/net"));
        by_a_child(cloned, pipe, opened, || match self.call(&Call::ConfineNetwork) {
            // That there are no rules is found when they are read back.
            Err(error) if nftables::is_missing(&error) => Ok(()),
            done => done.map(drop),
        })
    }

    fn fork(&mut self) -> io::Result<Cloned> {
        self.clone_to(&CloneArgs::new(), Side::Payload)
    }

    fn send(&mut self, channel: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<()> {
        self.gate()?;
        // write(2) rather than send(2): every profile allows it, and the kernel attaches the credentials all the same.
        nix::unistd::write(channel, bytes).map(drop).map_err(io::Error::from)
    }

    fn receive(
        &mut self,
        channel: BorrowedFd<'_>,
        buffer: &mut [u8],
        within_ms: i32,
    ) -> io::Result<(usize, i32)> {
        self.gate()?;
        if within_ms < 0 {
            return Ok((nix::unistd::read(channel, buffer)?, 0));
        }
        wait_readable(channel, within_ms)?;
        let packet = packet::receive(channel, buffer)?;
        Ok((packet.len, packet.sender.map_or(0, |s| s.0)))
    }

    fn kill(&mut self, pidfd: BorrowedFd<'_>, leaf: Option<BorrowedFd<'_>>) -> io::Result<()> {
        // Never failed by injection: it is what cleans up after the failures.
        if let Some(leaf) = leaf {
            write_at(leaf, "cgroup.kill", "1")?;
        }
        // The reaper is PID 1 of its namespace, so its end is everybody's.
        match confine::signal_pidfd(pidfd, Signal::SIGKILL as i32) {
            Err(error) if error.raw_os_error() != Some(Errno::ESRCH as i32) => return Err(error),
            _ => {}
        }
        wait_readable(pidfd, 5000)
    }

    fn disks(&mut self, plan: &Plan, sources: &[OwnedFd]) -> Result<Vec<Disk>, DiskError> {
        crate::disks::of(plan, sources)
    }

    fn entries(&mut self, dir: BorrowedFd<'_>) -> io::Result<Vec<Entry>> {
        self.gate()?;
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let dir = nix::dir::Dir::from_fd(openat(dir, ".", flags, Mode::empty())?)?;
        let mut entries = Vec::new();
        for entry in dir {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            // The kernel says the kind of every entry of a /proc.
            let kind = entry.file_type().ok_or(Errno::EINVAL)?;
            if name != "." && name != ".." {
                let (is_dir, is_link) = (kind == nix::dir::Type::Directory, kind == nix::dir::Type::Symlink);
                entries.push(Entry { name, is_dir, is_link });
            }
        }
        Ok(entries)
    }

    fn observe(&mut self, role: Role, pid: u32) -> io::Result<crate::readback::Observed> {
        self.gate()?;
        crate::readback::Observed::of(role, pid)
    }

    fn network_is_confined(&mut self, network: BorrowedFd<'_>) -> io::Result<bool> {
        self.gate()?;
        let away = Away::to(network)?;
        let found = nftables::allows_only(&listen::ways_out());
        away.back();
        found
    }

    fn are_attached(&mut self, hooks: &Hooks, leaf: BorrowedFd<'_>) -> io::Result<bool> {
        self.gate()?;
        hooks.are_attached(leaf)
    }

    fn verdict(&self, found: Result<(), Disagreement>) -> Result<(), Disagreement> {
        if matches!(self.fault, Some(Fault::Overlook(..))) { Ok(()) } else { found }
    }
}

/// What a child has made by being born, taken while it waits on the pipe; then it does what is to be done inside, and ends.
fn by_a_child(
    cloned: Cloned,
    (mut wait, go): (io::PipeReader, io::PipeWriter),
    take: impl FnOnce(u32) -> io::Result<std::fs::File>,
    inside: impl FnOnce() -> io::Result<()>,
) -> io::Result<OwnedFd> {
    let (pid, pidfd) = match cloned {
        Cloned::Child => {
            // Should the spawner end now, the pipe ends too.
            drop(go);
            let done = wait.read(&mut [0]).and_then(|_| inside());
            confine::exit_now(
                done.map_or_else(|error| error.raw_os_error().unwrap_or(Errno::EIO as i32), |()| 0),
            )
        }
        Cloned::Parent { pid, pidfd } => (pid, pidfd),
    };
    drop(wait);
    let taken = take(pid);
    drop(go);
    let in_time = wait_readable(pidfd.as_fd(), 5000);
    if in_time.is_err() {
        // It is a copy of the spawner, and nobody else would end it.
        confine::signal_pidfd(pidfd.as_fd(), Signal::SIGKILL as i32)?;
    }
    let ended =
        nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap_or(i32::MAX)), None)?;
    in_time?;
    match ended {
        WaitStatus::Exited(_, 0) => taken.map(OwnedFd::from),
        WaitStatus::Exited(_, errno) => Err(io::Error::from_raw_os_error(errno)),
        other => Err(io::Error::other(format!("the process that makes it ended: {other:?}"))),
    }
}

/// Waits until the descriptor can be read, `ETIMEDOUT` after `within_ms`.
pub(crate) fn wait_readable(fd: BorrowedFd<'_>, within_ms: i32) -> io::Result<()> {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let deadline =
        octant_sys::clock::monotonic_ns().saturating_add(u64::from(within_ms.unsigned_abs()) * 1_000_000);
    loop {
        let left = deadline.saturating_sub(octant_sys::clock::monotonic_ns()).div_ceil(1_000_000);
        let timeout =
            PollTimeout::try_from(i32::try_from(left).unwrap_or(i32::MAX)).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(fd, PollFlags::POLLIN)], timeout) {
            Ok(0) => return Err(Errno::ETIMEDOUT.into()),
            Err(Errno::EINTR) => {}
            other => return Ok(other.map(drop)?),
        }
    }
}

/// Writes `text` to the existing file `name` of the directory.
pub(crate) fn write_at(dir: BorrowedFd<'_>, name: &str, text: &str) -> io::Result<()> {
    let fd = openat(dir, name, OFlag::O_WRONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW, Mode::empty())?;
    std::fs::File::from(fd).write_all(text.as_bytes())
}

fn c(path: &str) -> io::Result<CString> {
    CString::new(path).map_err(|_| Errno::EINVAL.into())
}

/// Below the new root, never through a symbolic link.
fn open_below(root: BorrowedFd<'_>, path: &str) -> io::Result<OwnedFd> {
    let how = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC).resolve(
        ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_MAGICLINKS,
    );
    Ok(openat2(root, relative(path), how)?)
}

fn relative(path: &str) -> &str {
    match path.trim_start_matches('/') {
        "" => ".",
        rest => rest,
    }
}

fn on_mounts(call: &Call<'_>) -> io::Result<Option<OwnedFd>> {
    match call {
        Call::CloneTree { of, attributes, owners } => {
            let tree = mount::clone_tree(*of)?;
            match owners.map(|owners| mount::map_owners(tree.as_fd(), owners)) {
                // A file system that cannot do it (EINVAL), is another's or has mapped owners already (EPERM) keeps its
                // owners: the agent then has what the modes give to others.
                Some(Err(error))
                    if [Errno::EINVAL, Errno::EPERM]
                        .map(|e| Some(e as i32))
                        .contains(&error.raw_os_error()) => {}
                Some(Err(error)) => return Err(error),
                Some(Ok(())) | None => {}
            }
            mount::set_attributes(tree.as_fd(), *attributes, true, false)?;
            return Ok(Some(tree));
        }
        Call::NewFilesystem { kind, options, attributes } => {
            let options: Vec<(&CStr, &CStr)> = options.iter().map(|(k, v)| (*k, v.as_c_str())).collect();
            return mount::new_filesystem(kind, &options, *attributes).map(Some);
        }
        Call::MakeDir { root, path } => mkdirat(*root, relative(path), Mode::from_bits_truncate(0o755))?,
        Call::PutFile { root, path, bytes } => {
            let flags =
                OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
            let fd = openat(*root, relative(path), flags, Mode::from_bits_truncate(0o444))?;
            std::fs::File::from(fd).write_all(bytes)?;
        }
        Call::Restore { snapshot, into, owner } => snapshot.write(*into, *owner)?,
        Call::PutLink { root, at, to } => symlinkat(*to, *root, relative(at))?,
        Call::Listen { root, path, owner } => return listen(*root, path, *owner).map(Some),
        Call::AddAttributes { tree, attributes } => mount::set_attributes(*tree, *attributes, false, false)?,
        Call::PrivateMounts => {
            let root = nix::fcntl::open("/", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
            mount::set_attributes(root.as_fd(), 0, true, true)?;
        }
        Call::AttachRoot { root } => mount::attach(*root, c"/")?,
        Call::Attach { tree, root, target } => mount::attach_at(*tree, open_below(*root, target)?.as_fd())?,
        Call::Pivot { root } => {
            nix::unistd::fchdir(*root)?;
            // The old root ends up on top of the new one, so that it needs no place of its own (pivot_root(2)).
            pivot_root(".", ".")?;
        }
        Call::DetachOldRoot => {
            umount2(".", MntFlags::MNT_DETACH)?;
            nix::unistd::chdir("/")?;
        }
        other => return Err(io::Error::other(format!("{other:?} is no call on mounts"))),
    }
    Ok(None)
}

/// The namespace lives as long as its descriptor; the process that it takes to make one ends at once.
fn owner_map(uid: u32, gid: u32, to: u32) -> io::Result<OwnedFd> {
    let pipe = io::pipe()?;
    let cloned = clone3(&CloneArgs { namespaces: CloneFlags::CLONE_NEWUSER.bits(), ..CloneArgs::new() })?;
    let mapped = |pid| {
        std::fs::write(format!("/proc/{pid}/uid_map"), format!("{uid} {to} 1"))?;
        std::fs::write(format!("/proc/{pid}/gid_map"), format!("{gid} {to} 1"))?;
        std::fs::File::open(format!("/proc/{pid}/ns/user"))
    };
    by_a_child(cloned, pipe, mapped, || Ok(()))
}

fn listen(root: BorrowedFd<'_>, path: &str, owner: u32) -> io::Result<OwnedFd> {
    use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket};
    let fd = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    // The new root has no path yet; its descriptor is one.
    let address = format!("/proc/self/fd/{}/{}", root.as_raw_fd(), relative(path));
    bind(fd.as_raw_fd(), &UnixAddr::new(address.as_str())?)?;
    fchownat(
        root,
        relative(path),
        Some(Uid::from_raw(owner)),
        Some(Gid::from_raw(owner)),
        nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW,
    )?;
    listen(&fd, Backlog::new(128)?)?;
    Ok(fd)
}

/// A cgroup's file of bounds on disks.
pub(crate) const IO_MAX: &str = "io.max";

fn on_cgroups(call: &Call<'_>) -> io::Result<Option<OwnedFd>> {
    match call {
        Call::MakeLeaf { parent, name } => {
            mkdirat(*parent, *name, Mode::from_bits_truncate(0o755))?;
            let flags = OFlag::O_DIRECTORY | OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
            return Ok(Some(openat(*parent, *name, flags, Mode::empty())?));
        }
        Call::Limit { leaf, file, value } => write_at(*leaf, file, value)?,
        Call::LimitDisk { leaf, line } => {
            write_at(*leaf, IO_MAX, line)?;
            // The kernel takes what it can make of a line: what it has made of this one has to be this one.
            let fd =
                openat(*leaf, IO_MAX, OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW, Mode::empty())?;
            let found = io::read_to_string(std::fs::File::from(fd))?;
            if !found.lines().any(|has| has.trim_end() == line) {
                return Err(io::Error::other(format!("{IO_MAX} has {found:?} and not {line:?}")));
            }
        }
        Call::Give { leaf, file, owner } => {
            let fd =
                openat(*leaf, *file, OFlag::O_WRONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW, Mode::empty())?;
            fchown(&fd, Some(Uid::from_raw(*owner)), None)?;
        }
        Call::AttachHooks { hooks, leaf } => hooks.attach(*leaf)?,
        Call::RemoveLeaf { parent, name } => unlinkat(*parent, *name, UnlinkatFlags::RemoveDir)?,
        other => return Err(io::Error::other(format!("{other:?} is no call on cgroups"))),
    }
    Ok(None)
}

/// The file system of anonymous pipes (linux/magic.h).
const PIPEFS: i64 = 0x5049_5045;

fn on_terminals(call: &Call<'_>) -> io::Result<Option<OwnedFd>> {
    match call {
        Call::OpenMaster { devpts } => return octant_sys::console::open_master(*devpts).map(Some),
        Call::OpenTerminal { master, owner, like } => {
            let terminal = octant_sys::console::open_terminal(*master)?;
            octant_sys::console::copy_modes(*like, terminal.as_fd())?;
            fchown(&terminal, Some(Uid::from_raw(*owner)), None)?;
            return Ok(Some(terminal));
        }
        Call::TakeTerminal { terminal } => octant_sys::console::take_control(terminal)?,
        Call::Foreground { terminal } => {
            let own = nix::unistd::getpid();
            nix::unistd::setpgid(own, own)?;
            // From the background it would be stopped for asking; the step `signals` takes the block away.
            nix::sys::signal::SigSet::from(Signal::SIGTTOU).thread_block()?;
            nix::unistd::tcsetpgrp(terminal, own)?;
        }
        other => return Err(io::Error::other(format!("{other:?} is no call on terminals"))),
    }
    Ok(None)
}

fn on_self(call: &Call<'_>) -> io::Result<Option<OwnedFd>> {
    match call {
        Call::Write { path, text } => {
            let mut file = std::fs::OpenOptions::new().write(true).open(path)?;
            file.write_all(text.as_bytes())?;
        }
        Call::NewTimeNamespace => {
            nix::sched::unshare(CloneFlags::from_bits_retain(crate::enforce::CLONE_NEWTIME))?
        }
        Call::ConfineNetwork => nftables::allow_only(&listen::ways_out())?,
        Call::Hostname { name } => sethostname(name)?,
        Call::NewSessionKeyring => confine::new_session_keyring()?,
        Call::GivePipe { pipe, owner } => {
            if nix::sys::statfs::fstatfs(pipe)?.filesystem_type().0 == PIPEFS {
                fchown(pipe, Some(Uid::from_raw(*owner)), None)?;
            }
        }
        Call::OpenNull => {
            let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
            return Ok(Some(nix::fcntl::open(c"/dev/null", flags, Mode::empty())?));
        }
        Call::OpenProc => {
            let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
            return Ok(Some(nix::fcntl::open(c"/proc", flags, Mode::empty())?));
        }
        Call::Place { fd, number, close_on_exec } => {
            return descriptor::place(*fd, *number, *close_on_exec).map(Some);
        }
        Call::DieWithParent => prctl::set_pdeathsig(Signal::SIGKILL)?,
        Call::NewSession => setsid().map(drop)?,
        Call::Rlimit { resource, limit } => setrlimit(*resource, *limit, *limit)?,
        Call::Umask { mask } => drop(umask(Mode::from_bits_truncate(*mask))),
        Call::ChangeDir { path } => nix::unistd::chdir(c(path)?.as_c_str())?,
        Call::DefaultSignals => confine::default_signals()?,
        Call::DropBounding => {
            caps::clear(None, caps::CapSet::Ambient).map_err(io::Error::other)?;
            confine::drop_bounding()?;
        }
        Call::LockSecurebits => confine::set_securebits(confine::SECUREBITS)?,
        Call::Become { uids: [real, effective, saved], gid } => {
            setgroups(&[])?;
            let gid = Gid::from_raw(*gid);
            setresgid(gid, gid, gid)?;
            setresuid(Uid::from_raw(*real), Uid::from_raw(*effective), Uid::from_raw(*saved))?;
        }
        Call::DropCapabilities => {
            for set in [caps::CapSet::Inheritable, caps::CapSet::Effective, caps::CapSet::Permitted] {
                caps::clear(None, set).map_err(io::Error::other)?;
            }
        }
        Call::NotDumpable => prctl::set_dumpable(false)?,
        Call::NoNewPrivs => prctl::set_no_new_privs()?,
        Call::Landlock(rules) => rules.enforce()?,
        Call::CloseFrom { first } => descriptor::close_from(*first)?,
        Call::InstallFilter(filter) => confine::install_filter(filter.program, filter.logged)?,
        other => return Err(io::Error::other(format!("{other:?} is no call on the process itself"))),
    }
    Ok(None)
}

/// Whether `layer` may be missing: the plan and the operator of the machine must both accept it.
pub(crate) fn accepted(layer: Layer, plan: &[Layer], operator: &[Layer]) -> bool {
    plan.contains(&layer) && operator.contains(&layer)
}
