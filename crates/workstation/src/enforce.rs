//! From a plan to a running workstation: one straight list of steps for each of the three processes that take part.
//!
//! - [`stand`] and [`release`] run in the spawner: prepare everything detached, clone, read back; let go. What builds takes
//!   a ticket that was redeemed, and so it does not compile without one.
//! - [`crate::inside::reaper`] runs as PID 1 of the new PID namespace: composes the new root, forks the agent, confines itself, reaps.
//! - the payload runs as the agent: gives everything up in an order that cannot be changed, waits, executes.

mod leaf;

use self::leaf::{attach_hooks, make_leaf, remove_leaf};
use crate::kernel::{Call, Kernel, accepted};
use crate::network::Network;
use crate::owners::Owners;
use crate::plan::{Bind, Layer, Plan, Proc, Report, Scratch, Stdio, WORKSPACE, below_own, within};
use crate::readback::{Expected, Role};
use crate::snapshot::Snapshot;
use crate::step::{SpawnError, Step};
use crate::tickets::Tickets;
use crate::users::Users;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, setsockopt, socketpair, sockopt};
use octant_api::egress;
use octant_ids::uid::AGENT_INSIDE;
use octant_sys::clone::{CloneArgs, Cloned};
use octant_sys::confine::{Instruction, Program};
use octant_sys::hooks::Hooks;
use octant_sys::mount::attr;
use octant_ticket::Redeemed;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

/// Every namespace that clone3 makes for a workstation: its network is there before, and the time namespace is made by the
/// reaper, because its clocks can only be set before a process is in it.
pub(crate) const NAMESPACES: i32 = 0x3e02_0000;
/// CLONE_NEWTIME, which libc does not name.
pub(crate) const CLONE_NEWTIME: i32 = 0x80;
/// The device nodes: the first five of every workstation, `tty` where there are terminals.
pub(crate) const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];
/// What of the machine `/proc` shows to a [`Proc::Machine`]; every other entry that is no process is masked, also those
/// that a kernel has added since.
pub(crate) const SHOWN: [&str; 7] =
    ["cpuinfo", "filesystems", "loadavg", "meminfo", "stat", "uptime", "version"];
/// The most pseudo-terminals of one agent.
const TERMINALS: &CStr = c"64";
/// The agent's socket, inside.
pub(crate) const SOCKET: &str = "/run/octant/agent.sock";
/// Where it asks models, inside: what the router says at [`octant_api::egress::Door::Models`], for programs that speak HTTP
/// over a Unix socket.
pub(crate) const LLM_SOCKET: &str = "/run/octant/llm.sock";
/// The reaper's user inside: not the agent's, so that the agent can neither trace it nor change its limits. Its real
/// user is the agent's, which is what lets it pass signals on (kill(2)).
pub(crate) const REAPER_INSIDE: u32 = AGENT_INSIDE + 1;
/// A user and group that own no file. In a tree whose owners are mapped by them every file belongs to somebody that the
/// kernel cannot name, and it lets nobody write to such a file, whatever its mode: a read-only mount alone would let the
/// agent connect to every socket of the host in it that others may connect to.
const NOBODY: u32 = 0xfff0_0000;
/// How long the new processes may take for their steps, in milliseconds. Generous: it only ends what hangs.
const HANDSHAKE_MS: i32 = 10_000;

/// What the spawner holds over all spawns.
#[derive(Debug)]
pub(crate) struct Site<'a> {
    /// The cgroup v2 directory of all agents.
    pub(crate) agents_cgroup: Option<BorrowedFd<'a>>,
    /// Layers that the operator accepts as missing.
    pub(crate) accept_missing: &'a [Layer],
    /// The device nodes, opened once, in the order of [`DEVICES`].
    pub(crate) devices: &'a [OwnedFd],
    /// The Octant binary, opened once.
    pub(crate) octant: BorrowedFd<'a>,
    /// The user of the service `agents`, who may kill and freeze.
    pub(crate) agents_uid: u32,
    /// The compiled filters.
    pub(crate) filters: Filters,
    /// The Landlock ABI version of the kernel.
    pub(crate) landlock_abi: u32,
    /// The spawner's own namespaces, which none of an agent's may be.
    pub(crate) own_namespaces: &'a [(String, u64)],
    /// The spawner's key, for the new process to forget.
    pub(crate) tickets: &'a Tickets,
    /// Who the processes are where they are not of a slot's range.
    pub(crate) caller: Option<Users>,
    /// What is asked where agents connect to, or why nothing is.
    pub(crate) hooks: Result<&'a Hooks, &'a str>,
    /// What granted trees are shown through.
    pub(crate) owners: &'a Owners,
}

impl Site<'_> {
    /// Who the plan's processes are; `missing` gets the layer that is not there.
    fn users(&self, plan: &Plan, missing: &mut Vec<Layer>) -> Made<Users> {
        let Some(users) = self.caller else {
            let base = plan.uid_base();
            let base = base.map_err(|error| SpawnError::refused(Step::Check, error.to_string()))?;
            return Ok(Users::Range(base));
        };
        for layer in users.missing() {
            if !accepted(*layer, &plan.accept_missing, self.accept_missing) {
                let text = format!(
                    "layer {layer}: the spawner was not started by root, who alone can put it in place"
                );
                return Err(SpawnError::refused(Step::IdMap, text));
            }
            missing.push(*layer);
        }
        Ok(users)
    }
}

/// The compiled filters of one spawn; cached by the caller.
#[derive(Debug, Clone)]
pub(crate) struct Filters {
    pub(crate) profile: Rc<[Instruction]>,
    pub(crate) fallbacks: Rc<[Instruction]>,
    pub(crate) reaper: Rc<[Instruction]>,
    pub(crate) floor: Rc<[Instruction]>,
    pub(crate) digest: String,
}

/// What comes with the plan: the opened and proven sources, in the order of the plan's binds, and the agent's standard
/// descriptors.
#[derive(Debug)]
pub(crate) struct Granted {
    pub(crate) sources: Vec<OwnedFd>,
    /// What the plan's workspace begins with.
    pub(crate) snapshot: Option<Snapshot>,
    /// `None` for nothing to read.
    pub(crate) stdin: Option<OwnedFd>,
    pub(crate) stdout: OwnedFd,
    pub(crate) stderr: OwnedFd,
    /// A pipe on which the reaper says that the program was stopped.
    pub(crate) stopped: Option<OwnedFd>,
}

impl Granted {
    fn standard(&self) -> impl Iterator<Item = &OwnedFd> {
        self.stdin.iter().chain([&self.stdout, &self.stderr])
    }

    /// Puts the agent's own terminal in place of the terminal of whoever started it, which never goes inside.
    fn take_terminal(&mut self, own: &OwnedFd) -> Made<()> {
        for fd in self.stdin.iter_mut().chain([&mut self.stdout, &mut self.stderr]) {
            if is_terminal(fd) {
                *fd = own
                    .try_clone()
                    .map_err(|error| SpawnError::failed(Step::Descriptors, "copy the terminal", &error))?;
            }
        }
        Ok(())
    }
}

fn is_terminal(fd: &OwnedFd) -> bool {
    nix::unistd::isatty(fd).unwrap_or(false)
}

/// A terminal of the agent's own, in its own `/dev/pts`.
#[derive(Debug)]
pub(crate) struct Terminal {
    /// Where what is typed goes, and what is shown comes from.
    pub(crate) outside: OwnedFd,
    /// What the agent has.
    pub(crate) inside: OwnedFd,
}

/// A workstation that stands: everything is in place and was read back, and its program waits to be let go.
#[derive(Debug)]
pub(crate) struct Standing {
    pub(crate) pid: u32,
    pub(crate) pidfd: OwnedFd,
    pub(crate) socket: OwnedFd,
    /// The router's socket, where it asks models.
    pub(crate) models: Option<OwnedFd>,
    /// The outer side of its terminal, where it has one.
    pub(crate) terminal: Option<OwnedFd>,
    /// The mount at `/workspace`, where the plan has it given out.
    pub(crate) workspace: Option<OwnedFd>,
    pub(crate) report: Report,
    /// By which its program is let go. When this is closed first, the workstation ends.
    pub(crate) channel: OwnedFd,
    /// Its cgroup leaf.
    leaf: Option<OwnedFd>,
}

/// A tree that is attached inside.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(crate) fd: OwnedFd,
    pub(crate) target: String,
}

/// Everything that is made before the clone.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) root: OwnedFd,
    pub(crate) trees: Vec<Tree>,
    /// What is attached over entries of `/proc`, once that is there.
    pub(crate) masks: Vec<Tree>,
    pub(crate) socket: OwnedFd,
    pub(crate) models: Option<OwnedFd>,
    pub(crate) terminal: Option<Terminal>,
}

pub(crate) type Made<T> = Result<T, SpawnError>;

/// Makes one call under a step's name.
pub(crate) fn run<K: Kernel>(kernel: &mut K, step: Step, call: Call<'_>) -> Made<()> {
    kernel.call(&call).map(drop).map_err(|error| SpawnError::failed(step, format!("{call:?}"), &error))
}

/// Makes one call that has a descriptor.
pub(crate) fn get<K: Kernel>(kernel: &mut K, step: Step, call: Call<'_>) -> Made<OwnedFd> {
    match kernel.call(&call) {
        Ok(Some(fd)) => Ok(fd),
        Ok(None) => Err(SpawnError::refused(step, format!("{call:?} gave no descriptor"))),
        Err(error) => Err(SpawnError::failed(step, format!("{call:?}"), &error)),
    }
}

/// Builds the workstation and lets its program run, on one ticket.
pub(crate) fn spawn<K: Kernel>(
    kernel: &mut K,
    plan: &Plan,
    redeemed: Redeemed,
    site: &Site<'_>,
    granted: Granted,
    network: Option<Network>,
) -> Made<Standing> {
    let standing = stand(kernel, plan, redeemed, site, granted, network)?;
    match release(kernel, standing.channel.as_fd()) {
        Ok(()) => Ok(standing),
        Err(error) => {
            let killed = kernel.kill(standing.pidfd.as_fd(), standing.leaf.as_ref().map(AsFd::as_fd));
            remove_leaf(kernel, plan, site, standing.leaf);
            Err(and_not_killed(error, killed))
        }
    }
}

/// Builds the workstation, up to the program's start. `redeemed` is for this plan: [`Tickets::redeem`] has made it of the
/// very bytes that the plan was read from. `network` is one that is there already, if one is.
pub(crate) fn stand<K: Kernel>(
    kernel: &mut K,
    plan: &Plan,
    redeemed: Redeemed,
    site: &Site<'_>,
    mut granted: Granted,
    network: Option<Network>,
) -> Made<Standing> {
    plan.check().map_err(|error| SpawnError::refused(Step::Check, error.to_string()))?;
    let mut missing = Vec::new();
    let users = site.users(plan, &mut missing)?;
    if site.landlock_abi < plan.landlock_floor.max(1) {
        let found = site.landlock_abi;
        let text = format!("the plan asks for Landlock ABI {}, this kernel has {found}", plan.landlock_floor);
        return Err(SpawnError::refused(Step::Landlock, text));
    }
    let program = program_of(plan)?;
    let network = match network {
        Some(network) => network,
        None => Network::make(kernel)?,
    };
    if !network.confined {
        if !accepted(Layer::Nftables, &plan.accept_missing, site.accept_missing) {
            let text = "layer nftables: the kernel has no nf_tables for IPv4 and IPv6 (CONFIG_NF_TABLES, \
                        CONFIG_NF_TABLES_INET)";
            return Err(SpawnError::refused(Step::Network, text));
        }
        missing.push(Layer::Nftables);
    }
    let prepared = prepare(kernel, plan, site, &granted, users)?;
    if let Some(terminal) = &prepared.terminal {
        granted.take_terminal(&terminal.inside)?;
    }
    if matches!(plan.stdio, Stdio::Pipes | Stdio::Served) {
        for pipe in granted.standard().map(AsFd::as_fd) {
            run(kernel, Step::Descriptors, Call::GivePipe { pipe, owner: users.agent() })?;
        }
    }
    let leaf = make_leaf(kernel, plan, site, &granted.sources, &mut missing)?;
    let parts = Parts { users, redeemed, network, prepared, program, granted };
    let built = attach_hooks(kernel, plan, site, leaf.as_ref().map(AsFd::as_fd), &mut missing)
        .and_then(|()| build(kernel, plan, site, parts, leaf.as_ref()));
    match built {
        Ok(mut standing) => {
            standing.report.missing = missing;
            Ok(Standing { leaf, ..standing })
        }
        Err(error) => {
            remove_leaf(kernel, plan, site, leaf);
            Err(error)
        }
    }
}

/// What the new processes use up.
#[derive(Debug)]
pub(crate) struct Inside {
    pub(crate) users: Users,
    pub(crate) prepared: Prepared,
    pub(crate) program: Program,
    pub(crate) granted: Granted,
}

/// What [`build`] uses up.
#[derive(Debug)]
struct Parts {
    users: Users,
    redeemed: Redeemed,
    network: Network,
    prepared: Prepared,
    program: Program,
    granted: Granted,
}

/// From the clone to the read-back. Whatever fails, no process is left.
fn build<K: Kernel>(
    kernel: &mut K,
    plan: &Plan,
    site: &Site<'_>,
    parts: Parts,
    leaf: Option<&OwnedFd>,
) -> Made<Standing> {
    let channel = |error: nix::Error| SpawnError::failed(Step::Channel, "socketpair", &error.into());
    let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
        .map_err(channel)?;
    // The kernel then says which process sent a message, in our own PID namespace.
    setsockopt(&ours, sockopt::PassCred, &true).map_err(channel)?;

    let args = CloneArgs { namespaces: NAMESPACES, cgroup: leaf.map(AsFd::as_fd), parent: true };
    let Parts { users, redeemed, network, prepared, program, granted } = parts;
    let cloned = kernel.clone_workstation(&args, network.fd.as_fd(), redeemed);
    let (pid, pidfd) = match cloned.map_err(|error| SpawnError::failed(Step::Clone, "clone3", &error))? {
        Cloned::Child => {
            drop(ours);
            // The reaper goes on with a copy of the spawner's memory, for as long as the agent lives.
            site.tickets.forget();
            crate::inside::reaper(kernel, plan, site, Inside { users, prepared, program, granted }, theirs)
        }
        Cloned::Parent { pid, pidfd } => (pid, pidfd),
    };
    drop(theirs);
    let stdio = standard(&granted);
    drop((granted, program));
    let masked: Vec<&str> = prepared.masks.iter().map(|mask| mask.target.as_str()).collect();
    let (leaf_fd, own_namespaces) = (leaf.map(AsFd::as_fd), site.own_namespaces);
    let (network, stdio) = (network.id, &stdio);
    let expected = Expected { plan, masked: &masked, users, leaf: leaf_fd, own_namespaces, network, stdio };
    match bring_up(kernel, &expected, site, pid, ours.as_fd()) {
        Ok(report) => {
            let Prepared { socket, models, terminal, trees, .. } = prepared;
            let terminal = terminal.map(|terminal| terminal.outside);
            let workspace = trees.into_iter().find(|tree| plan.retain && tree.target == WORKSPACE);
            let workspace = workspace.map(|tree| tree.fd);
            let (channel, leaf) = (ours, None);
            Ok(Standing { pid, pidfd, socket, models, terminal, workspace, report, channel, leaf })
        }
        Err(error) => Err(and_not_killed(error, kernel.kill(pidfd.as_fd(), leaf.map(AsFd::as_fd)))),
    }
}

/// Why there is no workstation, with the reason why something of it runs all the same, if that is so.
fn and_not_killed(error: SpawnError, killed: io::Result<()>) -> SpawnError {
    match killed {
        Ok(()) => error,
        Err(kill) => SpawnError { text: format!("{}; and it cannot be killed: {kill}", error.text), ..error },
    }
}

/// The spawner's side while the new processes take their steps.
fn bring_up<K: Kernel>(
    kernel: &mut K,
    expected: &Expected<'_>,
    site: &Site<'_>,
    pid: u32,
    channel: BorrowedFd<'_>,
) -> Made<Report> {
    for file in ["uid_map", "gid_map"] {
        let text = expected.users.map();
        run(kernel, Step::IdMap, Call::Write { path: format!("/proc/{pid}/{file}"), text })?;
    }
    go(kernel, channel)?;
    let disagree =
        |error: crate::readback::Disagreement| SpawnError::refused(Step::ReadBack, error.to_string());
    // Both say that they are confined, in either order, and are looked at while the other is still busy. What is seen is
    // judged when both have: one that fails takes the other with it, and its own word says more.
    let (mut reaper, mut agent) = (None, None);
    let (reaper, (payload, agent)) = loop {
        (reaper, agent) = match (reaper, agent) {
            (Some(reaper), Some(agent)) => break (reaper, agent),
            others => others,
        };
        match next(kernel, channel)? {
            Some((Word::Ready(Role::Reaper), _)) => reaper = Some(kernel.observe(Role::Reaper, pid)),
            Some((Word::Ready(role @ Role::Payload), sender)) => {
                agent = Some((sender, kernel.observe(role, sender)));
            }
            Some((Word::Failed(error), _)) => return Err(error),
            None => {
                let text = "the new process ended before it was confined";
                return Err(SpawnError::refused(Step::Handshake, text));
            }
        }
    };
    let read = |error: io::Error| SpawnError::failed(Step::ReadBack, "read /proc of the new process", &error);
    let (reaper, agent) = (reaper.map_err(read)?, agent.map_err(read)?);
    kernel.verdict(expected.agrees(Role::Reaper, &reaper)).map_err(disagree)?;
    kernel.verdict(expected.agrees(Role::Payload, &agent)).map_err(disagree)?;
    kernel.verdict(Expected::are_together(&reaper, &agent)).map_err(disagree)?;
    kernel.verdict(expected.only_in_leaf(&[pid, payload])).map_err(disagree)?;
    Ok(Report {
        missing: Vec::new(),
        landlock_abi: site.landlock_abi,
        uid_base: expected.users.base(),
        payload_pid: payload,
        filters: site.filters.digest.clone(),
        filter_count: agent.filters,
        namespaces: agent.namespaces,
        mounts: reaper.mounts.iter().map(ToString::to_string).collect(),
    })
}

/// What the agent's standard descriptors are to be, as `/proc` names them.
fn standard(granted: &Granted) -> Vec<String> {
    let name = |fd: &OwnedFd| {
        if is_terminal(fd) {
            // It is the first of its own `/dev/pts`, which has no place in this mount namespace.
            return "/dev/pts/0".to_owned();
        }
        let link = std::fs::read_link(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(fd)));
        link.map_or_else(|error| error.to_string(), |path| path.to_string_lossy().into_owned())
    };
    let null = granted.stdin.is_none().then(|| "/dev/null".to_owned());
    null.into_iter().chain(granted.standard().map(name)).collect()
}

/// Lets the program of a workstation that stands run.
pub(crate) fn release<K: Kernel>(kernel: &mut K, channel: BorrowedFd<'_>) -> Made<()> {
    go(kernel, channel)?;
    // The channel closes at execve; a word before that is the reason why there was none.
    match next(kernel, channel)? {
        None => Ok(()),
        Some((Word::Failed(error), _)) => Err(error),
        Some((Word::Ready(_), _)) => Err(SpawnError::refused(Step::Handshake, "a second ready")),
    }
}

fn go<K: Kernel>(kernel: &mut K, channel: BorrowedFd<'_>) -> Made<()> {
    let sent = |error: io::Error| SpawnError::failed(Step::Handshake, "send to the new process", &error);
    kernel.send(channel, GO).map_err(sent)
}

/// The spawner's word that the next part may begin.
pub(crate) const GO: &[u8] = b"go";

/// What a new process says.
enum Word {
    Ready(Role),
    Failed(SpawnError),
}

/// The next word and who said it; `None` at the end of the channel.
fn next<K: Kernel>(kernel: &mut K, channel: BorrowedFd<'_>) -> Made<Option<(Word, u32)>> {
    let mut buffer = [0; 1024];
    let (len, sender) = kernel
        .receive(channel, &mut buffer, HANDSHAKE_MS)
        .map_err(|error| SpawnError::failed(Step::Handshake, "wait for the new process", &error))?;
    let sender = u32::try_from(sender).unwrap_or(0);
    let short = || SpawnError::refused(Step::Handshake, "a word that is none");
    match buffer.get(..len).unwrap_or_default() {
        [] => Ok(None),
        [b'R', 0] => Ok(Some((Word::Ready(Role::Reaper), sender))),
        [b'R', 1] => Ok(Some((Word::Ready(Role::Payload), sender))),
        [b'F', s0, s1, e0, e1, e2, e3, text @ ..] => {
            let step = Step::from_number(u16::from_le_bytes([*s0, *s1])).ok_or_else(short)?;
            let errno = i32::from_le_bytes([*e0, *e1, *e2, *e3]);
            let text = String::from_utf8_lossy(text).into_owned();
            Ok(Some((Word::Failed(SpawnError { step, errno, text }), sender)))
        }
        _ => Err(short()),
    }
}

fn program_of(plan: &Plan) -> Made<Program> {
    let c = |text: &str| {
        CString::new(text)
            .map_err(|_| SpawnError::refused(Step::Check, format!("{text:?} has a NUL character")))
    };
    let program = &plan.program;
    let args = std::iter::once(&program.path).chain(&program.args).map(|t| c(t)).collect::<Result<_, _>>()?;
    let env = program.env.iter().map(|t| c(t)).collect::<Result<_, _>>()?;
    Ok(Program::new(c(&program.path)?, args, env))
}

// ---- before the clone -------------------------------------------------------------------------------------------

/// The new root, complete but for the attached trees, and the trees: nothing of it has a path yet.
fn prepare<K: Kernel>(
    kernel: &mut K,
    plan: &Plan,
    site: &Site<'_>,
    granted: &Granted,
    users: Users,
) -> Made<Prepared> {
    let sources = &granted.sources;
    let root = get(
        kernel,
        Step::Tree,
        Call::NewFilesystem {
            kind: c"tmpfs",
            // Owned by the host's root, who is nobody inside: even root of the user namespace could not change it.
            options: vec![(c"mode", c"0755".into()), (c"size", c"1m".into()), (c"nr_inodes", c"4096".into())],
            attributes: attr::NOSUID | attr::NODEV | attr::NOEXEC,
        },
    )?;
    lay_out(kernel, plan, root.as_fd(), sources)?;
    let mut listen = |path| {
        let listen = Call::Listen { root: root.as_fd(), path, owner: users.agent() };
        get(kernel, Step::Socket, listen)
    };
    let socket = listen(SOCKET)?;
    let models = plan.models.then(|| listen(LLM_SOCKET)).transpose()?;

    let mut trees = Vec::new();
    for (fd, name) in site.devices.iter().zip(devices_of(plan)) {
        // A device node is what this mount is for, so it alone is not nodev.
        let (target, attributes) = (format!("/dev/{name}"), attr::NOSUID | attr::NOEXEC);
        trees.push(clone_tree(kernel, fd.as_fd(), target, attributes, None)?);
    }
    if plan.octant {
        let attributes = attr::NOSUID | attr::NODEV | attr::RDONLY;
        trees.push(clone_tree(kernel, site.octant, "/octant".into(), attributes, None)?);
    }
    let terminal = terminals(kernel, plan, granted, users, &mut trees)?;
    scratch_trees(kernel, plan, granted, users, &mut trees)?;
    granted_trees(kernel, plan, (sources, site.owners), users, &mut trees)?;
    // From here on nothing can be made in the root any more.
    run(kernel, Step::Tree, Call::AddAttributes { tree: root.as_fd(), attributes: attr::RDONLY })?;
    let masks = masks(kernel, plan, site, users)?;
    Ok(Prepared { root, trees, masks, socket, models, terminal })
}

/// The writable file systems in memory, with what they begin with and the places for what is granted in them.
fn scratch_trees<K: Kernel>(
    kernel: &mut K,
    plan: &Plan,
    granted: &Granted,
    users: Users,
    trees: &mut Vec<Tree>,
) -> Made<()> {
    for (target, scratch) in scratches(plan) {
        let call = Call::NewFilesystem {
            kind: c"tmpfs",
            options: scratch_options(scratch, users.agent())?,
            attributes: scratch_attributes(scratch),
        };
        let fd = get(kernel, Step::Tree, call)?;
        if let Some(snapshot) = granted.snapshot.as_ref().filter(|_| target == WORKSPACE) {
            let (into, owner) = (fd.as_fd(), users.agent());
            run(kernel, Step::Tree, Call::Restore { snapshot, into, owner })?;
        }
        let mut made = vec!["/".to_owned()];
        for (bind, source) in plan
            .binds
            .iter()
            .zip(&granted.sources)
            .filter(|(bind, _)| below_own(&bind.target) == Some(target))
        {
            place(kernel, plan, fd.as_fd(), target, bind, source, &mut made)?;
        }
        trees.push(Tree { fd, target: target.into() });
    }
    Ok(())
}

/// A `/dev/pts` where the plan has one, and the first terminal in it where the program gets that.
fn terminals<K: Kernel>(
    kernel: &mut K,
    plan: &Plan,
    granted: &Granted,
    users: Users,
    trees: &mut Vec<Tree>,
) -> Made<Option<Terminal>> {
    if !plan.terminals {
        return match plan.stdio {
            Stdio::Terminal => Err(SpawnError::refused(Step::Check, "a plan with a terminal has a /dev/pts")),
            Stdio::Pipes | Stdio::Served | Stdio::Caller => Ok(None),
        };
    }
    let call = Call::NewFilesystem {
        kind: c"devpts",
        options: vec![(c"mode", c"0600".into()), (c"ptmxmode", c"0666".into()), (c"max", TERMINALS.into())],
        attributes: TERMINAL_ATTRIBUTES,
    };
    let devpts = get(kernel, Step::Tree, call)?;
    let terminal = match plan.stdio {
        Stdio::Terminal => Some(open_terminal(kernel, devpts.as_fd(), granted, users)?),
        Stdio::Pipes | Stdio::Served | Stdio::Caller => None,
    };
    trees.push(Tree { fd: devpts, target: "/dev/pts".into() });
    Ok(terminal)
}

/// The first terminal of a `/dev/pts`, which is like the one that it stands for.
fn open_terminal<K: Kernel>(
    kernel: &mut K,
    devpts: BorrowedFd<'_>,
    granted: &Granted,
    users: Users,
) -> Made<Terminal> {
    let like = granted.standard().find(|fd| is_terminal(fd));
    let like =
        like.ok_or_else(|| SpawnError::refused(Step::Request, "no standard descriptor is a terminal"))?;
    let outside = get(kernel, Step::Tree, Call::OpenMaster { devpts })?;
    let call = Call::OpenTerminal { master: outside.as_fd(), owner: users.agent(), like: like.as_fd() };
    let inside = get(kernel, Step::Tree, call)?;
    Ok(Terminal { outside, inside })
}

/// The device nodes of this plan.
pub(crate) fn devices_of(plan: &Plan) -> &'static [&'static str] {
    if plan.terminals { &DEVICES } else { &DEVICES[..5] }
}

/// The writable file systems in memory, with their places.
pub(crate) fn scratches(plan: &Plan) -> impl Iterator<Item = (&'static str, &Scratch)> {
    let workspace = (!plan.workspace_is_bound()).then_some((WORKSPACE, &plan.workspace));
    workspace.into_iter().chain([("/tmp", &plan.tmp)]).chain(plan.shm.iter().map(|shm| ("/dev/shm", shm)))
}

pub(crate) fn scratch_attributes(scratch: &Scratch) -> u64 {
    attr::NOSUID | attr::NODEV | if scratch.exec { 0 } else { attr::NOEXEC }
}

/// A terminal is a device node.
pub(crate) const TERMINAL_ATTRIBUTES: u64 = attr::NOSUID | attr::NOEXEC;
pub(crate) const MASK_ATTRIBUTES: u64 = attr::NOSUID | attr::NODEV | attr::NOEXEC | attr::RDONLY;

/// What hides the entries of `/proc` that are not [`SHOWN`]: an empty directory over each directory, and over each file
/// the null device, which cannot be opened there. Their names are those of a `/proc` that was made for this, so that
/// what hides entries of the spawner's own does not count.
fn masks<K: Kernel>(kernel: &mut K, plan: &Plan, site: &Site<'_>, users: Users) -> Made<Vec<Tree>> {
    if plan.proc == Proc::Processes {
        return Ok(Vec::new());
    }
    let all = match users {
        Users::Range(_) => {
            Call::NewFilesystem { kind: c"proc", options: Vec::new(), attributes: MASK_ATTRIBUTES }
        }
        // The spawner does not own the PID namespace that it is in; the names are the same in the host's.
        Users::Beside(_) | Users::One => Call::OpenProc,
    };
    let all = get(kernel, Step::Proc, all)?;
    let entries = kernel
        .entries(all.as_fd())
        .map_err(|error| SpawnError::failed(Step::Proc, "list the entries of /proc", &error))?;
    let null = site.devices.first().ok_or_else(|| SpawnError::refused(Step::Proc, "no null device"))?;
    let mut trees = Vec::new();
    for entry in entries {
        let process = entry.name.bytes().all(|b| b.is_ascii_digit());
        if process || entry.is_link || SHOWN.contains(&entry.name.as_str()) {
            continue;
        }
        let target = format!("/proc/{}", entry.name);
        trees.push(if entry.is_dir {
            let options = vec![(c"mode", c"0555".into()), (c"nr_inodes", c"1".into())];
            let empty = Call::NewFilesystem { kind: c"tmpfs", options, attributes: MASK_ATTRIBUTES };
            Tree { fd: get(kernel, Step::Proc, empty)?, target }
        } else {
            clone_tree(kernel, null.as_fd(), target, MASK_ATTRIBUTES, None)?
        });
    }
    Ok(trees)
}

/// The granted trees, a path before what lies below it.
fn granted_trees<K: Kernel>(
    kernel: &mut K,
    plan: &Plan,
    (sources, owners): (&[OwnedFd], &Owners),
    users: Users,
    trees: &mut Vec<Tree>,
) -> Made<()> {
    let to = users.agent();
    let mut binds: Vec<_> = plan.binds.iter().zip(sources).collect();
    binds.sort_by(|a, b| a.0.target.cmp(&b.0.target));
    for (bind, source) in binds {
        let (target, attributes) = (bind.target.clone(), bind_attributes(bind));
        if !users.of_root() {
            // Everything that this user owns is the agent's, and the kernel maps no owners for who is not root.
            trees.push(clone_tree(kernel, source.as_fd(), target, attributes, None)?);
            continue;
        }
        let (uid, gid) = owner_of(plan, bind, source.as_fd())?;
        let owners = owners.map(kernel, uid, gid, to)?;
        trees.push(clone_tree(kernel, source.as_fd(), target, attributes, Some(owners.as_fd()))?);
    }
    Ok(())
}

fn clone_tree<K: Kernel>(
    kernel: &mut K,
    of: BorrowedFd<'_>,
    target: String,
    attributes: u64,
    owners: Option<BorrowedFd<'_>>,
) -> Made<Tree> {
    let fd = get(kernel, Step::Tree, Call::CloneTree { of, attributes, owners })?;
    Ok(Tree { fd, target })
}

/// The user and group whose files in a granted tree are to be the agent's: those of its owner on the host. A grant to
/// write would be none otherwise, since nothing on the host belongs to the slot's users. [`NOBODY`] where others can
/// read anyway and no more than that is granted, except for what lies in a tree that can be written: it shows the same
/// owner as that.
fn owner_of(plan: &Plan, bind: &Bind, source: BorrowedFd<'_>) -> Made<(u32, u32)> {
    const OTHERS_READ: u32 = 0o004;
    let stat = nix::sys::stat::fstat(source)
        .map_err(|error| SpawnError::failed(Step::Sources, bind.source.clone(), &error.into()))?;
    let in_written = plan
        .binds
        .iter()
        .any(|other| other.write && other.target != bind.target && within(&bind.target, &other.target));
    let enough = !bind.write && !in_written && stat.st_mode & OTHERS_READ != 0;
    Ok(if enough { (NOBODY, NOBODY) } else { (stat.st_uid, stat.st_gid) })
}

pub(crate) fn bind_attributes(bind: &Bind) -> u64 {
    attr::NOSUID
        | attr::NODEV
        | if bind.write { 0 } else { attr::RDONLY }
        | if bind.exec { 0 } else { attr::NOEXEC }
}

fn scratch_options(scratch: &Scratch, owner: u32) -> Made<Vec<(&'static CStr, CString)>> {
    let text = |value: String| {
        CString::new(value).map_err(|_| SpawnError::refused(Step::Tree, "a number with a NUL character"))
    };
    Ok(vec![
        (c"mode", c"0700".into()),
        (c"size", text(scratch.bytes.to_string())?),
        (c"nr_inodes", text(scratch.inodes.to_string())?),
        (c"uid", text(owner.to_string())?),
        (c"gid", text(owner.to_string())?),
    ])
}

/// The certificate of the authority that vouches for the gate, below [`etc`].
pub(crate) const AUTHORITY: &str = "octant/ca.pem";
/// The same, and every authority that is trusted outside.
pub(crate) const BUNDLE: &str = "octant/trust.pem";

/// Where Octant's own files of `/etc` are: an image has an `/etc` of its own.
pub(crate) fn etc(image: bool) -> &'static str {
    if image { crate::image::ETC } else { "/etc" }
}

/// Directories, files and links of the new root.
fn lay_out<K: Kernel>(kernel: &mut K, plan: &Plan, root: BorrowedFd<'_>, sources: &[OwnedFd]) -> Made<()> {
    let mut made = vec!["/".to_owned()];
    let hosts_bin = plan.links.iter().any(|link| link.at == "/bin");
    // An image has an /etc and perhaps a /bin of its own.
    let etc = etc(plan.root.is_some());
    let bin = if plan.root.is_some() { crate::image::BIN } else { "/bin" };
    let own_bin = plan.root.is_some() || !hosts_bin;
    let (etc_octant, fixed) = (format!("{etc}/octant"), ["/dev", "/proc", "/run/octant"]);
    let chosen = [(etc_octant.as_str(), true), (bin, own_bin), ("/dev/pts", plan.terminals)];
    let chosen = chosen.into_iter().filter(|row| row.1).map(|row| row.0);
    let scratch = scratches(plan).map(|row| row.0);
    for path in fixed.into_iter().chain(chosen).chain(scratch).chain([WORKSPACE]) {
        make_dirs(kernel, root, path, &mut made)?;
    }
    let applets: String = plan.utilities.iter().flat_map(|name| [name.as_str(), "\n"]).collect();
    let user = format!(
        "agent:x:{AGENT_INSIDE}:{AGENT_INSIDE}:agent:/workspace:/bin/sh\nroot:x:0:0:::\nnobody:x:65534:65534:::\n"
    );
    let group = format!("agent:x:{AGENT_INSIDE}:\nroot:x:0:\nnogroup:x:65534:\n");
    let hosts = format!("127.0.0.1 localhost {0}\n::1 localhost {0}\n", plan.aid);
    let files = [
        ("passwd", user.as_str()),
        ("group", &group),
        ("hosts", &hosts),
        ("nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n"),
        ("octant/applets", &applets),
    ];
    let resolver = format!("nameserver {}\n", egress::DNS);
    let names = plan.syscalls.network.then_some(("resolv.conf", resolver.as_str()));
    let bundle = plan.trust.as_ref().map(|authority| crate::roots::with(authority));
    let trust = plan.trust.iter().map(|authority| (AUTHORITY, authority.as_str()));
    let trust = trust.chain(bundle.iter().map(|bundle| (BUNDLE, bundle.as_str())));
    for (name, text) in files.into_iter().chain(names).chain(trust) {
        let path = &format!("{etc}/{name}");
        run(kernel, Step::Tree, Call::PutFile { root, path, bytes: text.as_bytes() })?;
    }
    for name in devices_of(plan) {
        run(kernel, Step::Tree, Call::PutFile { root, path: &format!("/dev/{name}"), bytes: b"" })?;
    }
    let mut links: Vec<(String, &str)> = vec![
        ("/dev/fd".into(), "/proc/self/fd"),
        ("/dev/stdin".into(), "/proc/self/fd/0"),
        ("/dev/stdout".into(), "/proc/self/fd/1"),
        ("/dev/stderr".into(), "/proc/self/fd/2"),
    ];
    if plan.terminals {
        links.push(("/dev/ptmx".into(), "pts/ptmx"));
    }
    if plan.octant {
        run(kernel, Step::Tree, Call::PutFile { root, path: "/octant", bytes: b"" })?;
        links.extend(plan.utilities.iter().map(|name| (format!("{bin}/{name}"), "/octant")));
    }
    links.extend(plan.links.iter().map(|link| (link.at.clone(), link.to.as_str())));
    let outside = |bind: &Bind| below_own(&bind.target).is_none() && bind.target != WORKSPACE;
    for (bind, source) in plan.binds.iter().zip(sources).filter(|(bind, _)| outside(bind)) {
        place(kernel, plan, root, "", bind, source, &mut made)?;
    }
    for (at, to) in &links {
        make_dirs(kernel, root, parent_of(at), &mut made)?;
        run(kernel, Step::Tree, Call::PutLink { root, at, to })?;
    }
    Ok(())
}

/// The place where a granted path is going to be attached: a directory or an empty file, below `prefix`.
fn place<K: Kernel>(
    kernel: &mut K,
    plan: &Plan,
    root: BorrowedFd<'_>,
    prefix: &str,
    bind: &Bind,
    source: &OwnedFd,
    made: &mut Vec<String>,
) -> Made<()> {
    // Below another bind the place must exist in what is bound there.
    if plan.binds.iter().any(|other| other.target != bind.target && within(&bind.target, &other.target)) {
        return Ok(());
    }
    let path = bind.target.strip_prefix(prefix).unwrap_or(&bind.target);
    let is_dir = nix::sys::stat::fstat(source)
        .map(|s| s.st_mode & nix::sys::stat::SFlag::S_IFMT.bits() == nix::sys::stat::SFlag::S_IFDIR.bits())
        .map_err(|error| SpawnError::failed(Step::Sources, bind.source.clone(), &error.into()))?;
    if is_dir {
        return make_dirs(kernel, root, path, made);
    }
    make_dirs(kernel, root, parent_of(path), made)?;
    run(kernel, Step::Tree, Call::PutFile { root, path, bytes: b"" })
}

fn parent_of(path: &str) -> &str {
    match path.rfind('/') {
        None | Some(0) => "/",
        Some(end) => &path[..end],
    }
}

fn make_dirs<K: Kernel>(
    kernel: &mut K,
    root: BorrowedFd<'_>,
    path: &str,
    made: &mut Vec<String>,
) -> Made<()> {
    if made.iter().any(|done| done == path) {
        return Ok(());
    }
    make_dirs(kernel, root, parent_of(path), made)?;
    run(kernel, Step::Tree, Call::MakeDir { root, path })?;
    made.push(path.to_owned());
    Ok(())
}

// ---- the cgroup leaf --------------------------------------------------------------------------------------------

#[cfg(test)]
mod tests;
