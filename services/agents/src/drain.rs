//! Reading what an agent writes.

use crate::log::{CHUNK, Log};
use nix::fcntl::OFlag;
use octant_api::agents::Output;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt, Interest};
use tokio::net::unix::pipe;
use tokio::task::JoinHandle;

/// How much is read from one stream before a pause, and the pause: at most 10 MiB a second, so that an agent
/// that only writes does not take this service's time from the others. Its pipe fills, and it waits.
const BEFORE_PAUSE: usize = 1 << 20;
const PAUSE: Duration = Duration::from_millis(100);

/// A pipe: the end to read, the end to write.
pub(crate) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(nix::unistd::pipe2(OFlag::O_CLOEXEC)?)
}

/// A descriptor whose readability can be waited for.
pub(crate) fn watch(fd: Arc<OwnedFd>) -> io::Result<AsyncFd<Arc<OwnedFd>>> {
    #[expect(
        deprecated,
        reason = "its replacement is unsafe for types that change their descriptor; this one keeps it"
    )]
    AsyncFd::with_interest(fd, Interest::READABLE)
}

/// Reads a stream into the log until its last writer is gone.
pub(crate) fn start(fd: OwnedFd, stream: Output, log: Arc<Log>) -> io::Result<JoinHandle<()>> {
    let mut pipe = pipe::Receiver::from_owned_fd(fd)?;
    Ok(tokio::spawn(async move {
        let mut buffer = vec![0; CHUNK];
        let mut since_pause = 0;
        loop {
            match pipe.read(&mut buffer).await {
                Ok(0) => return,
                Ok(bytes) => {
                    log.write(stream, &buffer[..bytes]);
                    since_pause += bytes;
                }
                Err(error) => {
                    tracing::error!("an agent's output cannot be read any more: {error}");
                    return;
                }
            }
            if since_pause >= BEFORE_PAUSE {
                since_pause = 0;
                tokio::time::sleep(PAUSE).await;
            }
        }
    }))
}
