//! A manifest from what a program was seen to do, and in words what another was denied.
//!
//! Owns: the watching of a program (it is confined by nothing meanwhile), and what follows from that for a manifest.
//! Promises: what is written grants what was seen and was needed, by file where files are few and by directory where
//! they are many; what no manifest can grant is named and left out.
//! Never: promises that another run needs no more, grants the network, or runs anything that it was not given.
#![forbid(unsafe_code)]

mod calls;
mod explain;
mod reduce;
mod seen;
mod usage;

pub use explain::{Explained, explain, explain_access};
pub use reduce::{Place, outline};
pub use seen::Seen;
pub use usage::Usage;

use crate::usage::Meter;
use octant_sys::observe;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, ExitStatus};
use std::thread;

/// Why a program could not be watched.
#[derive(Debug, thiserror::Error)]
pub enum LearnError {
    /// The kernel has no user notification of system calls, or refuses it here.
    #[error(
        "the program cannot be watched: {0}; it takes a kernel from 5.5 on, and no filter around this that forbids it"
    )]
    Watch(io::Error),
    /// The program itself does not start.
    #[error("the program does not start: {0}")]
    Start(io::Error),
    /// The watcher's thread is gone.
    #[error("the watching ended by a fault of its own; report it as a fault of Octant")]
    Gone,
}

/// Runs a program and everything that it starts to the end, watched and not confined.
///
/// # Errors
/// [`LearnError`].
pub fn observe(mut command: Command) -> Result<(ExitStatus, Seen), LearnError> {
    let (ours, theirs) = UnixStream::pair().map_err(LearnError::Watch)?;
    observe::watched(&mut command, OwnedFd::from(theirs));
    let watcher = thread::Builder::new().name("watcher".into()).spawn(move || watch(&ours));
    let watcher = watcher.map_err(LearnError::Watch)?;
    let started = command.spawn();
    // The other end of the channel is in it: where the program did not start, the watcher sees that.
    drop(command);
    let status = started.and_then(|mut child| child.wait()).map_err(LearnError::Start)?;
    let seen = watcher.join().map_err(|_| LearnError::Gone)?.map_err(LearnError::Watch)?;
    Ok((status, seen))
}

/// exit_group(2) on x86-64.
const EXIT_GROUP: i32 = 231;

fn watch(channel: &UnixStream) -> io::Result<Seen> {
    let listener = observe::listener(channel.as_fd())?;
    let mut seen = Seen::default();
    let mut meter = Meter::default();
    while let Some(call) = observe::next(listener.as_fd())? {
        seen.look(&call);
        meter.seen(call.thread, call.number == EXIT_GROUP);
        observe::go_on(listener.as_fd(), &call)?;
    }
    seen.usage = meter.most;
    Ok(seen)
}
