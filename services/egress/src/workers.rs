//! Inspection workers as the gate has them: one for each agent that secrets are used for, made when it is needed, ended
//! with its agent; and what the gate answers to one about a connection. Which agent asks, and for which host, the socket
//! tells; a worker cannot say it.

use crate::core::{Denied, Purpose, Rule};
use crate::flow::relay;
use crate::gate::{Client, Gate, NotPassed, Passage, SecretUse, UsedFor};
use crate::inject::Misuse;
use crate::packets::{ABOUT_MAX, Packets, pair};
use crate::said::{Answer, Ask, Begin, End, Inspect, Said, What, short};
use crate::starter::Start;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use octant_ids::SecretName;
use octant_manifest::{HostName, Protocol};
use serde_json::json;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::{AbortHandle, JoinSet};

/// How much a worker asks at once about one connection; what comes beyond waits.
const ASKS_MAX: usize = 32;
/// How many requests of one connection have secrets at once.
const USES_MAX: usize = 256;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What workers are made with.
pub(crate) struct Workers {
    start: Box<dyn Start>,
    /// The roots that the configuration adds.
    roots: OwnedFd,
}

impl Workers {
    pub(crate) fn new(start: Box<dyn Start>, roots: OwnedFd) -> Self {
        Self { start, roots }
    }
}

/// One agent's worker; it ends when this is dropped.
pub(crate) struct Worker {
    gate: Arc<Gate>,
    number: u64,
    socket: Packets,
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker").field("number", &self.number).finish_non_exhaustive()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.end();
    }
}

impl Worker {
    async fn new(gate: &Arc<Gate>, client: &Client) -> io::Result<Self> {
        let authority = client.authority().ok_or_else(|| io::Error::other("the agent has no authority"))?;
        let (ours, theirs) = pair()?;
        let socket = Packets::new(ours, ABOUT_MAX)?;
        let number = gate.workers.start.start(theirs)?;
        let worker = Self { gate: Arc::clone(gate), number, socket };
        worker.socket.send(&Begin {}, &[authority.fd(), gate.workers.roots.as_fd()]).await?;
        Ok(worker)
    }

    /// Ends it, whatever it is at.
    pub(crate) fn end(&self) {
        self.gate.workers.start.end(self.number);
    }
}

/// A connection at its worker, and what the gate knows of it.
struct AtWorker {
    gate: Arc<Gate>,
    client: Arc<Client>,
    host: HostName,
    port: u16,
    rule: Rule,
    socket: Packets,
    uses: Mutex<BTreeMap<u64, SecretUse>>,
    /// The connection to the host, and what passes bytes on between it and the worker.
    upstream: Mutex<Option<(Arc<Passage>, AbortHandle)>>,
}

/// Hands a connection to the agent's worker, and answers what that asks until the connection is over.
pub(crate) async fn inspect(
    gate: &Arc<Gate>,
    client: &Arc<Client>,
    stream: TcpStream,
    hello: &[u8],
    to: (HostName, u16, Rule),
) {
    let (host, port, rule) = to;
    match hand_over(gate, client, stream, hello, &host, port).await {
        Ok(socket) => {
            let (gate, client) = (Arc::clone(gate), Arc::clone(client));
            let (uses, upstream) = Default::default();
            let at = AtWorker { gate, client, host, port, rule, socket, uses, upstream };
            Arc::new(at).serve().await;
        }
        Err(error) => tracing::error!("{} has no inspection worker for {host}: {error}", client.aid),
    }
}

async fn hand_over(
    gate: &Arc<Gate>,
    client: &Arc<Client>,
    stream: TcpStream,
    hello: &[u8],
    host: &HostName,
    port: u16,
) -> io::Result<Packets> {
    let credentials = client.rights().credentials_at(host);
    let logins = client.rights().logins_at(host, port);
    let message =
        Inspect { host: host.to_string(), port, hello: STANDARD.encode(hello), credentials, logins };
    let (ours, theirs) = pair()?;
    let fds = [stream.as_fd(), theirs.as_fd()];
    let before = client.worker();
    if let Some(worker) = &before
        && worker.socket.send(&message, &fds).await.is_ok()
    {
        return Packets::new(ours, ABOUT_MAX);
    }
    // There was none yet, or it has ended. Of several connections that find this out one makes another.
    let making = client.making.lock().await;
    let since = client.worker().filter(|now| before.as_ref().is_none_or(|old| !Arc::ptr_eq(old, now)));
    let worker = match since {
        Some(worker) => worker,
        None => client.has_worker(Worker::new(gate, client).await?),
    };
    drop(making);
    worker.socket.send(&message, &fds).await?;
    Packets::new(ours, ABOUT_MAX)
}

impl AtWorker {
    async fn serve(self: Arc<Self>) {
        let mut asks = JoinSet::new();
        loop {
            let (Ask { id, what }, _) = match self.socket.receive().await {
                Ok(Some(ask)) => ask,
                Ok(None) => break,
                Err(error) => {
                    tracing::warn!("the worker of {} says what is no word: {error}", self.client.aid);
                    break;
                }
            };
            match what {
                What::Became { of, end } => self.became(of, end),
                What::Refused(misuse) => self.refused(misuse),
                asked => {
                    while asks.try_join_next().is_some() {}
                    if asks.len() >= ASKS_MAX {
                        asks.join_next().await;
                    }
                    let at = Arc::clone(&self);
                    asks.spawn(async move { at.answer(id, asked).await });
                }
            }
        }
        if let Some((passage, relaying)) = lock(&self.upstream).take() {
            passage.ended("closed");
            relaying.abort();
        }
    }

    fn became(&self, of: u64, end: End) {
        // A worker that says it of nothing changes nothing.
        if let Some(mut used) = lock(&self.uses).remove(&of) {
            used.became(match end {
                End::Answered(status) => json!({"done": true, "status": status}),
                End::LoggedIn => json!({"done": true}),
                End::Failed(why) => json!({"done": false, "why": short(&why)}),
            });
        }
    }

    fn refused(&self, misuse: Misuse) {
        self.gate.denied(&self.client, self.host.as_str(), self.port, &misuse.denied(&self.host));
    }

    async fn answer(self: Arc<Self>, id: u64, what: What) {
        let done = match what {
            What::Open => self.open().await.map(|(said, fd)| (said, Some(fd))),
            What::Request => {
                let taken = self.client.take_request().await;
                taken.map(|()| (Said::Taken, None)).map_err(NotPassed::Denied)
            }
            What::Use { secret, method, path_sha256 } => {
                let purpose = Purpose::Request { method: short(&method), path_sha256 };
                let given = self.give(id, &secret, purpose).await;
                given.map(|(said, fd)| (said, Some(fd)))
            }
            What::LogIn { secret, user, database } => {
                let given = self.give(id, &secret, Purpose::Login { user, database }).await;
                given.map(|(said, fd)| (said, Some(fd)))
            }
            What::Became { .. } | What::Refused(_) => return,
        };
        let (said, fd) = match done {
            Ok(done) => done,
            Err(NotPassed::Denied(why)) => {
                self.gate.denied(&self.client, self.host.as_str(), self.port, &why);
                let text = format!("{why}; {}", why.next(self.client.aid, self.host.as_str(), self.port));
                (if matches!(why, Denied::Budget(_)) { Said::Over(text) } else { Said::Denied(text) }, None)
            }
            Err(NotPassed::Failed(why)) => (Said::Failed(why), None),
        };
        let fds: Vec<_> = fd.iter().map(AsFd::as_fd).collect();
        // A worker that is gone takes its connections with it.
        let _ = self.socket.send(&Answer { id, said }, &fds).await;
    }

    /// Makes the connection to the host, in place of the one before. The worker has one end of a socket whose other end is
    /// here, so that bytes are counted, held to caps and cut by the gate, whatever the worker does.
    async fn open(&self) -> Result<(Said, OwnedFd), NotPassed> {
        let failed = |error: io::Error| NotPassed::Failed(error.to_string());
        // What was allowed when the program connected may have been revoked since.
        let allowed = self.client.decide(&self.host, self.port)?;
        let rule = allowed.rule(Protocol::Tls).unwrap_or(&self.rule);
        let protocol = Protocol::Tls.name();
        let mut passage = self.gate.pass(&self.client, &self.host, self.port, protocol, rule).await?;
        let host = passage.stream.take().ok_or_else(|| NotPassed::Failed("it is gone".into()))?;
        let (ours, theirs) = UnixStream::pair().map_err(failed)?;
        let theirs = theirs.into_std().map_err(failed)?;
        let passage = Arc::new(passage);
        let through = Arc::clone(&passage);
        let relaying = tokio::spawn(async move {
            let end = relay(&ours, &host, &through.flow).await;
            through.ended_by(&end);
        });
        if let Some((before, relaying)) = lock(&self.upstream).replace((passage, relaying.abort_handle())) {
            before.ended("closed");
            relaying.abort();
        }
        Ok((Said::Opened, theirs.into()))
    }

    /// Gives a secret for one request or one login, where the agent has it for that.
    async fn give(
        &self,
        id: u64,
        secret: &SecretName,
        purpose: Purpose,
    ) -> Result<(Said, OwnedFd), NotPassed> {
        let connection = lock(&self.upstream).as_ref().map(|(passage, _)| passage.intent);
        let no = |why: &str| {
            let (secret, host) = (secret.to_string(), self.host.to_string());
            Err(Denied::NoSecret { secret, host, why: why.to_owned() }.into())
        };
        if !self.client.rights().gives(secret, &self.host, self.port, &purpose) {
            return no("no grant names it for this host");
        }
        let Some(connection) = connection else { return no("there is no connection to send it on") };
        if lock(&self.uses).len() >= USES_MAX {
            return no("too many requests of one connection use secrets");
        }
        let (host, port) = (&self.host, self.port);
        let request = UsedFor { host, port, purpose: &purpose, connection };
        let (used, value) = self.gate.use_secret(&self.client, secret, &request).await?;
        lock(&self.uses).insert(id, used);
        Ok((Said::Given { bytes: value.bytes }, value.fd))
    }
}
