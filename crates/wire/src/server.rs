//! Accepting connections.

use crate::connection;
use crate::frame;
use crate::peer::Identity;
use crate::socket::Socket;
use crate::stop::Shutdown;
use crate::{Call, outbox::Outbox};
use octant_api::error::{ApiError, Code};
use octant_api::rpc::Dispatch;
use octant_ids::{Principal, ServiceName};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How much one listener and one peer may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at once.
    pub connections: usize,
    /// Requests in flight on one connection.
    pub in_flight: usize,
    /// How long a peer may take to finish a line that it began, and to read what is kept for it.
    pub stall: Duration,
    /// How long a connection may be silent with nothing in flight.
    pub idle: Duration,
    /// How long requests in flight have to finish when the service stops.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // 256 connections of 64 requests are far beyond what one machine's services and operators need,
            // and 256 buffers of 1 MiB are what a hostile peer can make a service hold.
            connections: 256,
            in_flight: 64,
            stall: Duration::from_secs(30),
            // Clients reconnect by themselves, so an hour only clears away what was forgotten.
            idle: Duration::from_secs(3600),
            grace: Duration::from_secs(3),
        }
    }
}

/// How many connections are told at once that there is no place for them.
const REFUSALS: usize = 64;
/// How long each of them is given to read that.
const LINGER: Duration = Duration::from_secs(1);

/// Of a listener's connections a third can be of one service, which may call for many at once, and an eighth of all
/// strangers together: nobody keeps the operator out by holding them all.
const SERVICE_SHARE: usize = 3;
const STRANGERS_SHARE: usize = 8;

/// Who holds how many connections, as far as that is bounded for them alone.
#[derive(Debug, Default)]
pub(crate) struct Shares(BTreeMap<Option<ServiceName>, Arc<Semaphore>>);

/// A connection's part of its holder's share.
pub(crate) type Part = Option<OwnedSemaphorePermit>;

impl Shares {
    /// Takes one of a listener's `connections` for `who`; none when they hold their share of them.
    pub(crate) fn take(&mut self, who: &Principal, connections: usize) -> Option<Part> {
        let (holder, share) = match who {
            Principal::Stranger(_) => (None, STRANGERS_SHARE),
            Principal::Service(name) => (Some(name.clone()), SERVICE_SHARE),
            Principal::Init | Principal::Operator(_) | Principal::Agent(_) => return Some(None),
        };
        let share =
            self.0.entry(holder).or_insert_with(|| Arc::new(Semaphore::new((connections / share).max(1))));
        Arc::clone(share).try_acquire_owned().ok().map(Some)
    }
}

/// Serves every connection to `listener` until `stop`, then lets requests in flight finish.
///
/// # Errors
/// The listener itself failed for good; a failing connection never ends it.
pub async fn serve<D: Dispatch<Call>>(
    listener: UnixListener,
    service: D,
    identity: Identity,
    limits: Limits,
    stop: Shutdown,
) -> io::Result<()> {
    let service = Arc::new(service);
    let places = Arc::new(Semaphore::new(limits.connections));
    let refusals = Arc::new(Semaphore::new(REFUSALS));
    let mut shares = Shares::default();
    let result = loop {
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) if out_of_resources(&error) => {
                    tracing::warn!("cannot accept a connection: {error}; trying again");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
                Err(error) => break Err(error),
            },
            () = stop.requested() => break Ok(()),
        };
        let known = identity.caller(&stream).and_then(|caller| Ok((caller, Socket::new(stream)?)));
        let (caller, socket) = match known {
            Ok(known) => known,
            Err(error) => {
                tracing::warn!(
                    "a connection is closed: its peer's identity cannot be read, or it cannot be watched: {error}"
                );
                continue;
            }
        };
        let part = shares.take(&caller.principal, limits.connections);
        let (Some(part), Ok(place)) = (part, Arc::clone(&places).try_acquire_owned()) else {
            // Beyond the second bound a connection is closed without a word.
            if let Ok(place) = Arc::clone(&refusals).try_acquire_owned() {
                tokio::spawn(async move {
                    turn_away(socket, limits.connections).await;
                    drop(place);
                });
            }
            continue;
        };
        let (service, stop) = (Arc::clone(&service), stop.clone());
        tokio::spawn(async move {
            connection::run(socket, service, caller, limits, stop).await;
            drop((place, part));
        });
    };
    // Every place free again means that every connection has ended; each ends itself within its grace.
    let all = u32::try_from(limits.connections).unwrap_or(u32::MAX);
    let _ = tokio::time::timeout(limits.grace * 2, places.acquire_many(all)).await;
    result
}

fn out_of_resources(error: &io::Error) -> bool {
    use nix::errno::Errno;
    [Errno::EMFILE, Errno::ENFILE, Errno::ENOMEM, Errno::ENOBUFS]
        .iter()
        .any(|errno| error.raw_os_error() == Some(*errno as i32))
}

/// Tells a peer that there is no place for it, and waits a moment for it to read that: closing at once would
/// fail its writing before it looks for an answer.
async fn turn_away(socket: Socket, connections: usize) {
    let error = ApiError::new(
        Code::Busy,
        "connect",
        "socket",
        format!("{connections} connections are open, or all of this user's share of them"),
        "try again when others have closed theirs",
    );
    let mut line = Vec::new();
    frame::write_error(&mut line, None, &error);
    let socket = Arc::new(socket);
    let outbox = Outbox::new(Arc::clone(&socket), LINGER);
    // Who does not take the answer does not get it.
    let _ = outbox.send(&line).await;
    let closed = async {
        let mut scrap = Vec::new();
        while let Ok(mut ready) = socket.readable().await {
            scrap.clear();
            match Socket::receive(&mut ready, &mut scrap, None) {
                Ok(0) => return,
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return,
                _ => {}
            }
        }
    };
    let _ = tokio::time::timeout(LINGER, closed).await;
}
