//! The user namespace in which an ordinary user's spawner is root.

use crate::error::{RunError, at};
use crate::start::restrictions;
use crate::subids::SubIds;
use nix::fcntl::OFlag;
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::wait::waitpid;
use nix::unistd::{Pid, getegid, geteuid, pipe2, read, write};
use octant_sys::clone::{CloneArgs, Cloned, clone3};
use octant_sys::confine::exit_now;
use octant_workstation::Layer;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::OwnedFd;

/// A user namespace of this user's own.
#[derive(Debug)]
pub(crate) struct Namespace {
    fd: OwnedFd,
    /// Why it has this one user and no other, where it does.
    pub(crate) alone: Option<String>,
}

/// Why there is none.
enum NotMade {
    /// The kernel gives none.
    Refused(RunError),
    /// It cannot have these ids.
    Ids(String),
}

impl Namespace {
    /// Makes it, with the user's sub-ids where there are some; root needs none.
    pub(crate) fn make() -> Result<Option<Self>, RunError> {
        if geteuid().is_root() {
            return Ok(None);
        }
        let refused = |why: String| RunError::Namespaces { why, hint: restrictions() };
        let made = SubIds::find().map_err(NotMade::Ids).and_then(|ids| make(|process| ids.map(process)));
        let why = match made {
            Ok(fd) => return Ok(Some(Self { fd, alone: None })),
            Err(NotMade::Refused(error)) => return Err(error),
            Err(NotMade::Ids(why)) => why,
        };
        // A map is written once, so one that came about in part is not used any further.
        match make(map_alone) {
            Ok(fd) => Ok(Some(Self { fd, alone: Some(why) })),
            Err(NotMade::Refused(error)) => Err(error),
            Err(NotMade::Ids(why)) => Err(refused(format!("its user cannot be mapped: {why}"))),
        }
    }

    /// Makes the calling process, which has to be single-threaded, root of it. Its network is one of its own: it could not
    /// come back to the machine's out of a workstation's.
    pub(crate) fn enter(&self) -> io::Result<()> {
        setns(&self.fd, CloneFlags::CLONE_NEWUSER)?;
        Ok(unshare(CloneFlags::CLONE_NEWNET)?)
    }

    /// What its workstation goes without.
    pub(crate) fn missing(&self) -> &'static [Layer] {
        if self.alone.is_some() { &[Layer::Users, Layer::Memfd] } else { &[Layer::Memfd] }
    }
}

/// Makes a namespace, by a process that is there until it has its map.
fn make(map: impl FnOnce(Pid) -> Result<(), String>) -> Result<OwnedFd, NotMade> {
    let failed = |error: io::Error| NotMade::Refused(at("make a user namespace")(error));
    let pipes = || Ok::<_, io::Error>((pipe2(OFlag::O_CLOEXEC)?, pipe2(OFlag::O_CLOEXEC)?));
    let ((word, say), (wait, go)) = pipes().map_err(failed)?;
    match clone3(&CloneArgs::new()).map_err(failed)? {
        Cloned::Child => {
            drop((word, go));
            let text = match unshare(CloneFlags::CLONE_NEWUSER) {
                Ok(()) => String::new(),
                Err(errno) => format!("the kernel gives it no user namespace: {errno}"),
            };
            let _told_by_the_end = write(&say, text.as_bytes());
            drop(say);
            let _until_it_is_mapped = read(&wait, &mut [0]);
            exit_now(0)
        }
        Cloned::Parent { pid, pidfd: _ } => {
            drop((say, wait));
            let process = Pid::from_raw(i32::try_from(pid).map_err(|error| failed(io::Error::other(error)))?);
            let made = mapped(process, word, map);
            drop(go);
            let _its_work_is_done = waitpid(process, None);
            made
        }
    }
}

fn mapped(
    process: Pid,
    word: OwnedFd,
    map: impl FnOnce(Pid) -> Result<(), String>,
) -> Result<OwnedFd, NotMade> {
    let failed = |error: io::Error| NotMade::Refused(at("make a user namespace")(error));
    let mut why = String::new();
    File::from(word).read_to_string(&mut why).map_err(failed)?;
    if !why.is_empty() {
        return Err(NotMade::Refused(RunError::Namespaces { why, hint: restrictions() }));
    }
    map(process).map_err(NotMade::Ids)?;
    Ok(File::open(format!("/proc/{process}/ns/user")).map_err(failed)?.into())
}

/// The one map that everybody may make: oneself. Groups then stay what they are.
fn map_alone(process: Pid) -> Result<(), String> {
    let write = |file: &str, text: String| fs::write(format!("/proc/{process}/{file}"), text);
    write("setgroups", "deny".into())
        .and_then(|()| write("uid_map", format!("0 {} 1", geteuid())))
        .and_then(|()| write("gid_map", format!("0 {} 1", getegid())))
        .map_err(|error| error.to_string())
}
