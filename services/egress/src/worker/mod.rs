//! The inspection worker of one agent: a process of its own, in which TLS to a host that a secret is used at ends, and
//! requests are read. It has its agent's authority, the connections that the gate hands to it and the secrets of requests
//! under way, and no way to anything else: it opens no file and no socket, and starts no program.

mod ahead;
mod asking;
mod database;
mod inspect;
pub(crate) mod target;
pub(crate) mod upstream;
mod using;

use crate::authority::{ROOTS_MAX, Voucher, unsealed};
use crate::packets::{Packets, TO_WORKER_MAX};
use crate::said::{Begin, Inspect};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use octant_outside::tls::{extra_roots, towards_hosts};
use octant_service::confine_helper;
use rustls::ClientConfig;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::runtime::Builder;

/// What a worker may ask of the kernel.
pub(crate) const PROFILE: &str = include_str!("../../worker.json");
/// How much memory a worker has, in bytes; who needs more is ended, and one agent's connections with it.
const MEMORY_MAX: u64 = 256 << 20;
/// How many descriptors: three for each of as many connections as an agent has at the most.
const DESCRIPTORS_MAX: u64 = 4096;
/// A worker that does not come back from what it reads within this time is ended by the kernel.
const BACK_WITHIN_S: u32 = 30;
const BACK_EVERY: Duration = Duration::from_secs(5);

/// What a worker has for all connections.
pub(crate) struct Work {
    pub(crate) voucher: Voucher,
    pub(crate) roots: ClientConfig,
    sessions: Mutex<database::Sessions>,
}

/// Works until the gate closes the socket.
///
/// # Errors
/// Why it cannot work at all.
pub(crate) fn run(socket: OwnedFd) -> Result<(), String> {
    limits().map_err(|error| format!("limit itself: {error}"))?;
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("make a runtime: {error}"))?;
    // Nothing was read so far; from here on nothing can be reached.
    confine_helper("egress-worker", &[PROFILE]).map_err(|error| error.to_string())?;
    runtime.block_on(async {
        let socket = Packets::new(socket, TO_WORKER_MAX).map_err(|error| error.to_string())?;
        tokio::spawn(async {
            loop {
                nix::unistd::alarm::set(BACK_WITHIN_S);
                tokio::time::sleep(BACK_EVERY).await;
            }
        });
        serve(&socket).await.map_err(|error| format!("listen to the gate: {error}"))
    })
}

fn limits() -> io::Result<()> {
    let (_, files) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let files = files.min(DESCRIPTORS_MAX);
    setrlimit(Resource::RLIMIT_NOFILE, files, files)?;
    setrlimit(Resource::RLIMIT_DATA, MEMORY_MAX, MEMORY_MAX)?;
    Ok(setrlimit(Resource::RLIMIT_CORE, 0, 0)?)
}

async fn serve(socket: &Packets) -> io::Result<()> {
    let Some((Begin {}, fds)) = socket.receive().await? else { return Ok(()) };
    let work = Arc::new(work(fds)?);
    while let Some((connection, fds)) = socket.receive::<Inspect>().await? {
        let mut fds = fds.into_iter();
        let (Some(stream), Some(control)) = (fds.next(), fds.next()) else {
            return Err(io::Error::other("a connection came without its sockets"));
        };
        let work = Arc::clone(&work);
        tokio::spawn(async move {
            let served = if connection.logins.is_empty() {
                inspect::serve(&work, connection, stream, control).await
            } else {
                database::serve(&work, connection, stream, control).await
            };
            if let Err(error) = served {
                tracing::debug!("an inspected connection ended: {error}");
            }
        });
    }
    Ok(())
}

fn work(fds: Vec<OwnedFd>) -> io::Result<Work> {
    let mut fds = fds.into_iter();
    let (Some(authority), Some(roots)) = (fds.next(), fds.next()) else {
        return Err(io::Error::other("its authority did not come"));
    };
    let voucher = Voucher::read(authority).map_err(io::Error::other)?;
    let roots = extra_roots(&unsealed(roots, ROOTS_MAX)?)?;
    Ok(Work { voucher, roots: towards_hosts(roots).map_err(io::Error::other)?, sessions: Mutex::default() })
}
