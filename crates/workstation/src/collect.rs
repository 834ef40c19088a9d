//! What is to be kept of a workspace, read after its agent's end.
//!
//! The files are the agent's and for nobody else to read, and `agents`, which keeps them, may read nothing but its own
//! state. So the spawner forks a process that becomes the very user that the agent was, has no capability, no network and
//! a filter of its own, and writes what it reads into a pipe of `agents`: it can read what the agent could read in that one
//! directory, and who takes the stream has not opened a file of the agent's. The descriptor of the directory is one of
//! the mount that was the agent's `/workspace`, which `agents` has kept since the spawn and cannot read through.

use crate::enforce::{Made, run};
use crate::kernel::{Call, Filter, Real};
use crate::request::unseal;
use crate::step::{SpawnError, Step};
use nix::fcntl::{OFlag, openat};
use nix::sched::CloneFlags;
use nix::sys::resource::Resource;
use nix::sys::stat::{Mode, SFlag, fstat};
use octant_sys::clone::{CloneArgs, Cloned, clone3};
use octant_sys::confine::{Instruction, exit_now};
use octant_sys::descriptor;
use octant_tree::{Dir, Place, Wish};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, BufWriter};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The most bytes of a wish.
pub(crate) const MAX_WISH: usize = 256 * 1024;
/// How long it may compute, in seconds.
const CPU_SECONDS: u64 = 120;
/// The file systems that a workspace can be (linux/magic.h).
const TMPFS: i64 = 0x0102_1994;

/// A [`Wish`] as it is sent.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    places: Option<Vec<String>>,
    bytes: u64,
    entries: u64,
}

/// A wish as bytes.
pub(crate) fn to_bytes(wish: &Wish) -> Result<Vec<u8>, SpawnError> {
    let places = wish.places.as_ref().map(|all| all.iter().map(ToString::to_string).collect());
    let form = Form { places, bytes: wish.bytes, entries: wish.entries };
    serde_json::to_vec(&form)
        .map_err(|error| SpawnError::refused(Step::Collect, format!("write what is to be kept: {error}")))
}

fn of_bytes(bytes: &[u8]) -> Made<Wish> {
    let wrong = |text: String| SpawnError::refused(Step::Collect, text);
    let form: Form = serde_json::from_slice(bytes).map_err(|error| wrong(error.to_string()))?;
    let place = |text: &String| Place::parse(text.as_bytes()).map_err(|error| wrong(error.to_string()));
    let places = form.places.map(|all| all.iter().map(place).collect::<Made<_>>()).transpose()?;
    Ok(Wish { places, bytes: form.bytes, entries: form.entries })
}

/// Starts the process that reads, and gives its handle. `fds` are the wish in sealed memory of `wish_len` bytes, the
/// workspace, and the writing end of a pipe.
pub(crate) fn start(
    fds: Vec<OwnedFd>,
    wish_len: usize,
    agent: u32,
    filter: &[Instruction],
    forget: impl FnOnce(),
) -> Made<(u32, OwnedFd)> {
    let Ok([wish, workspace, stream]) = <[OwnedFd; 3]>::try_from(fds) else {
        let text = "it comes with what is to be kept, the workspace and a pipe";
        return Err(SpawnError::refused(Step::Collect, text));
    };
    let wish = of_bytes(&unseal(wish, wish_len, MAX_WISH)?)?;
    is_workspace(workspace.as_fd(), agent)?;
    crate::spawner::only_a_pipe("the stream", stream.as_fd(), OFlag::O_WRONLY)?;
    let namespaces = CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWIPC;
    let args = CloneArgs { namespaces: namespaces.bits(), parent: true, ..CloneArgs::new() };
    match clone3(&args).map_err(|error| SpawnError::failed(Step::Collect, "clone3", &error))? {
        Cloned::Child => {
            forget();
            let done = confine(&workspace, &stream, agent, filter).is_ok()
                && read(&workspace, &wish, stream).is_ok();
            exit_now(i32::from(!done))
        }
        Cloned::Parent { pid, pidfd } => Ok((pid, pidfd)),
    }
}

/// Whoever asks could name any directory: only what the agent of this slot owns, in memory, is its workspace.
fn is_workspace(fd: BorrowedFd<'_>, agent: u32) -> Made<()> {
    let failed = |error: nix::Error| SpawnError::failed(Step::Collect, "the workspace", &error.into());
    let stat = fstat(fd).map_err(failed)?;
    let kind = nix::sys::statfs::fstatfs(fd).map_err(failed)?.filesystem_type().0;
    let directory = stat.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFDIR.bits();
    if directory && stat.st_uid == agent && kind == TMPFS {
        return Ok(());
    }
    Err(SpawnError::refused(Step::Collect, "that is no workspace of an agent in this slot"))
}

/// Becomes the agent's user, and nothing else.
fn confine(workspace: &OwnedFd, stream: &OwnedFd, agent: u32, filter: &[Instruction]) -> Made<()> {
    let mut kernel = Real::default();
    let limits =
        [(Resource::RLIMIT_CORE, 0), (Resource::RLIMIT_FSIZE, 0), (Resource::RLIMIT_CPU, CPU_SECONDS)];
    for (resource, limit) in limits {
        run(&mut kernel, Step::Collect, Call::Rlimit { resource, limit })?;
    }
    descriptor::close_all_but(&[workspace.as_fd(), stream.as_fd()])
        .map_err(|error| SpawnError::failed(Step::Collect, "close_range", &error))?;
    // Its bounding set has been empty since the spawner's start.
    let calls = [
        Call::Become { uids: [agent; 3], gid: agent },
        Call::DropCapabilities,
        Call::NotDumpable,
        Call::NoNewPrivs,
        Call::InstallFilter(Filter { name: "collector", program: filter, logged: false }),
    ];
    calls.into_iter().try_for_each(|call| run(&mut kernel, Step::Collect, call))
}

fn read(workspace: &OwnedFd, wish: &Wish, stream: OwnedFd) -> io::Result<()> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let dir = Dir::of(openat(workspace, ".", flags, Mode::empty())?);
    octant_tree::pack(&dir, wish, &mut BufWriter::with_capacity(64 << 10, File::from(stream)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_is_what_its_bytes_say_and_leads_nowhere() {
        let places = ["out", "a/b"].map(|name| Place::parse(name.as_bytes()).unwrap()).to_vec();
        for places in [Some(places), None] {
            let wish = Wish { places, bytes: 7, entries: 9 };
            assert_eq!(of_bytes(&to_bytes(&wish).unwrap()), Ok(wish));
        }
        for bad in [
            r#"{"places":["../x"],"bytes":1,"entries":1}"#,
            r#"{"places":["/x"],"bytes":1,"entries":1}"#,
            "{}",
        ] {
            assert_eq!(of_bytes(bad.as_bytes()).unwrap_err().step, Step::Collect);
        }
    }

    #[test]
    fn a_directory_of_somebody_else_is_no_workspace() {
        let tmp = File::open("/").unwrap();
        assert!(is_workspace(tmp.as_fd(), 0).is_err(), "not in memory");
        let proc = File::open("/proc").unwrap();
        assert!(is_workspace(proc.as_fd(), 0).is_err());
    }
}
