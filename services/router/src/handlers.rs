//! The methods: from a request to the router, and back.

use crate::agents::{Agent, lock};
use crate::core::BadWord;
use crate::http;
use crate::issued::NoKey;
use crate::router::Router;
use octant_api::egress::{Door, Instance, Settled, Told};
use octant_api::error::{ApiError, Code};
use octant_api::router::{
    AdmitRequest, Admitted, DismissRequest, Dismissed, ExplainRequest, Explained, FundRequest, Funded,
    Handler, IssueRequest, Issued, KeysFound, KeysRequest, ListenRequest, Listening, Metrics, MetricsRequest,
    Providers, ProvidersRequest, ReloadRequest, Reloaded, RevokeRequest, Revoked, Status, StatusRequest,
    TestRequest, Tested, UsageRequest, Used, WatchRequest, Watched,
};
use octant_ids::Aid;
use octant_service::Notifier;
use octant_wire::{Call, Shutdown, Sink};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::AbortHandle;

/// Listeners that an earlier run had, by whose they are.
#[derive(Debug, Default)]
pub(crate) struct Waiting(BTreeMap<Aid, Vec<OwnedFd>>);

impl Waiting {
    pub(crate) fn add(&mut self, aid: Aid, fd: OwnedFd) {
        self.0.entry(aid).or_default().push(fd);
    }
}

/// What follows an agent in the names of its listeners in PID 1's store: that in its network, and its Unix socket.
const LISTENERS: [&str; 2] = [".models", ".llm"];

fn kept_name(aid: Aid, listener: &Listener) -> String {
    let [tcp, unix] = LISTENERS;
    let kind = if matches!(listener, Listener::Tcp(_)) { tcp } else { unix };
    format!("{aid}{kind}")
}

/// What a name in PID 1's store says.
pub(crate) fn of_kept_name(name: &str) -> Option<Aid> {
    LISTENERS.iter().find_map(|kind| name.strip_suffix(kind))?.parse().ok()
}

/// A listener of an agent.
#[derive(Debug)]
enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    /// Serves it, for this agent.
    fn serve(self, router: &Arc<Router>, agent: &Arc<Agent>) -> AbortHandle {
        let (router, agent) = (Arc::clone(router), Arc::clone(agent));
        match self {
            Self::Tcp(listener) => tokio::spawn(http::serve(router, agent, listener)).abort_handle(),
            Self::Unix(listener) => tokio::spawn(http::serve(router, agent, listener)).abort_handle(),
        }
    }
}

/// The service's side of its socket.
#[derive(Debug)]
pub(crate) struct Methods {
    pub(crate) router: Arc<Router>,
    pub(crate) notifier: Notifier,
    pub(crate) instance: String,
    pub(crate) waiting: Mutex<Waiting>,
    pub(crate) stop: Shutdown,
}

fn unknown(what: &str, aid: Aid) -> ApiError {
    let why = "it was not admitted, or is gone";
    ApiError::new(Code::NotFound, what, aid.to_string(), why, "see `octant router status`")
}

fn no_key(what: &str, name: &str, why: &NoKey) -> ApiError {
    let (code, next) = match why {
        NoKey::Unknown(_) => (Code::NotFound, "see `octant router key list`"),
        NoKey::Taken(_) => (Code::Conflict, "see `octant router key list`"),
        NoKey::Full => (Code::Full, "see `octant router key list`"),
        NoKey::Name(_) | NoKey::NoModel | NoKey::Word(_) | NoKey::Ttl => {
            (Code::InvalidParams, "see `octant router key new --help`")
        }
        NoKey::Chance(_) | NoKey::Record(_) | NoKey::Keep(_) | NoKey::Unread(_) | NoKey::Task(_) => {
            (Code::Unavailable, "see `octant status`, and that the router's own directory can be written to")
        }
    };
    ApiError::new(code, what, name.chars().take(100).collect::<String>(), why, next)
}

/// A listener at the place where programs look for models, and nowhere else; or a Unix socket, which has its place from who
/// made it.
fn listener(fd: OwnedFd) -> io::Result<Listener> {
    let unix = std::os::unix::net::UnixListener::from(fd);
    unix.set_nonblocking(true)?;
    if unix.local_addr().is_ok() {
        return UnixListener::from_std(unix).map(Listener::Unix);
    }
    let listener = std::net::TcpListener::from(OwnedFd::from(unix));
    let (ip, port) = Door::Models.place();
    let (is, wanted) = (listener.local_addr()?, ip.map(|ip| SocketAddr::new(ip, port)));
    if wanted != Some(is) {
        return Err(io::Error::other(format!("it is bound to {is}, not to {wanted:?}")));
    }
    TcpListener::from_std(listener).map(Listener::Tcp)
}

impl Methods {
    /// Serves an agent's listeners from here on; `stores`: PID 1 does not have them yet.
    fn open(&self, agent: &Arc<Agent>, fds: Vec<OwnedFd>, stores: bool) -> io::Result<()> {
        let mut all = Vec::new();
        for fd in fds {
            let kept = fd.try_clone()?;
            let listener = listener(fd)?;
            if stores && let Err(error) = self.notifier.store(&kept_name(agent.aid, &listener), kept.as_fd())
            {
                // It is in use; only a restart of this service loses it.
                tracing::warn!("a listener of {} cannot be kept over a restart: {error}", agent.aid);
            }
            all.push(listener);
        }
        agent.listens(all.into_iter().map(|listener| listener.serve(&self.router, agent)).collect());
        Ok(())
    }

    /// Passes on what is to be drawn from budgets: each question once, and on a new connection all that are not answered.
    async fn tell_questions(&self, items: &Sink<Told>) -> Result<Watched, ApiError> {
        let mut told: BTreeMap<Aid, u64> = BTreeMap::new();
        loop {
            // Before the look, so that no question falls between.
            let drawing = self.router.agents.drawing.notified();
            tokio::pin!(drawing);
            drawing.as_mut().enable();
            let agents = self.router.agents.list();
            for (number, draw) in agents.iter().filter_map(|agent| agent.purse.question()) {
                if told.insert(draw.aid, number) != Some(number) {
                    items.send(&Told::Draw(draw)).await?;
                }
            }
            drawing.await;
        }
    }

    /// Takes an agent's listeners out of PID 1's store. Where that fails they come back at the next start, and are dropped
    /// then.
    fn unstore(&self, aid: Aid) {
        for kind in LISTENERS {
            if let Err(error) = self.notifier.unstore(&format!("{aid}{kind}")) {
                tracing::warn!("a listener of {aid} stays in PID 1's store: {error}");
            }
        }
    }
}

impl Handler<Call> for Methods {
    async fn admit(&self, request: AdmitRequest, _: Call) -> Result<Admitted, ApiError> {
        let aid = request.aid;
        let (agent, cut) = self.router.agents.admit(&request).map_err(|error| {
            let code = match error {
                BadWord::TooMany(_) => Code::Full,
                BadWord::Model(_) => Code::InvalidParams,
                BadWord::Old(..) => Code::Conflict,
            };
            ApiError::new(code, "admit an agent", aid.to_string(), error, "look at its manifest")
        })?;
        // What an earlier run was listening on goes on here.
        let kept = lock(&self.waiting).0.remove(&aid);
        if let Some(fds) = kept
            && let Err(error) = self.open(&agent, fds, false)
        {
            tracing::warn!("the listeners of {aid} from an earlier run are of no use: {error}");
            self.unstore(aid);
        }
        Ok(Admitted { cut, listens: agent.has_listener() })
    }

    async fn listen(&self, request: ListenRequest, mut call: Call) -> Result<Listening, ApiError> {
        let (aid, what) = (request.aid, "listen for an agent");
        let refuse = |why: String| {
            let next = "hand over a socket that listens there";
            ApiError::new(Code::InvalidParams, what, aid.to_string(), why, next)
        };
        let agent = self.router.agents.get(aid).ok_or_else(|| unknown(what, aid))?;
        let fds = call.take_fds();
        if fds.is_empty() {
            return Err(refuse("no socket came with the request".into()));
        }
        self.open(&agent, fds, true).map_err(|error| refuse(error.to_string()))?;
        Ok(Listening {})
    }

    async fn dismiss(&self, request: DismissRequest, _: Call) -> Result<Dismissed, ApiError> {
        let aid = request.aid;
        let agent = self.router.agents.dismiss(aid);
        let had = lock(&self.waiting).0.remove(&aid).is_some();
        if had || agent.is_some() {
            self.unstore(aid);
        }
        let settled = agent.map(|agent| {
            self.router.forget(&agent);
            Settled { run: self.instance.clone(), used: agent.purse.close() }
        });
        Ok(Dismissed { settled })
    }

    async fn watch(&self, _: WatchRequest, items: Sink<Told>, _: Call) -> Result<Watched, ApiError> {
        let waiting: BTreeSet<Aid> = lock(&self.waiting).0.keys().copied().collect();
        let known = self.router.agents.list();
        let agents = waiting.into_iter().chain(known.iter().map(|agent| agent.aid)).collect();
        items.send(&Told::Began(Instance { instance: self.instance.clone(), agents })).await?;
        tokio::select! {
            ended = self.tell_questions(&items) => ended,
            () = self.stop.requested() => Ok(Watched {}),
        }
    }

    async fn fund(&self, request: FundRequest, _: Call) -> Result<Funded, ApiError> {
        let FundRequest { aid, run, limit } = request;
        let what = "fund an agent";
        if run != self.instance {
            let why = "this is another run of the router";
            return Err(ApiError::new(Code::Conflict, what, aid.to_string(), why, "wait for its questions"));
        }
        self.router.agents.get(aid).ok_or_else(|| unknown(what, aid))?.purse.fund(limit);
        Ok(Funded {})
    }

    async fn status(&self, _: StatusRequest, _: Call) -> Result<Status, ApiError> {
        Ok(self.router.status())
    }

    async fn providers(&self, _: ProvidersRequest, _: Call) -> Result<Providers, ApiError> {
        Ok(Providers { deployments: self.router.rows() })
    }

    async fn explain(&self, request: ExplainRequest, _: Call) -> Result<Explained, ApiError> {
        let agent = match request.aid {
            Some(aid) => Some(self.router.agents.get(aid).ok_or_else(|| unknown("explain a call", aid))?),
            None => None,
        };
        Ok(self.router.explain(agent.as_deref(), &request.model, &request.prompt))
    }

    async fn usage(&self, request: UsageRequest, _: Call) -> Result<Used, ApiError> {
        Ok(Used { rows: self.router.tally.rows(request.by.as_deref()) })
    }

    async fn issue(&self, request: IssueRequest, call: Call) -> Result<Issued, ApiError> {
        let (by, name) = (call.caller().principal.to_string(), request.name.clone());
        let key = self.router.keyring.issue(&self.router, &by, request).await;
        let key = key.map_err(|why| no_key("make a key", &name, &why))?;
        // Its listener may have waited for it.
        self.router.door.set(&self.router);
        Ok(Issued { key })
    }

    async fn keys(&self, _: KeysRequest, _: Call) -> Result<KeysFound, ApiError> {
        let (at, fault) = self.router.door.stands();
        Ok(KeysFound { at, fault, keys: self.router.keyring.list() })
    }

    async fn revoke(&self, request: RevokeRequest, call: Call) -> Result<Revoked, ApiError> {
        let by = call.caller().principal.to_string();
        let cut = self.router.keyring.revoke(&self.router, &by, &request.name).await;
        self.router.door.set(&self.router);
        cut.map(|cut| Revoked { cut }).map_err(|why| no_key("take a key back", &request.name, &why))
    }

    async fn metrics(&self, _: MetricsRequest, _: Call) -> Result<Metrics, ApiError> {
        Ok(Metrics { text: self.router.metrics.text() })
    }

    async fn test(&self, request: TestRequest, call: Call) -> Result<Tested, ApiError> {
        let by = call.caller().principal.to_string();
        Ok(Tested { rows: self.router.test(&request.model, &by).await? })
    }

    async fn reload(&self, _: ReloadRequest, _: Call) -> Result<Reloaded, ApiError> {
        let deployments = self.router.reload().map_err(|why| {
            let next = "correct it and reload again; until then what was read before is in force";
            ApiError::new(Code::InvalidParams, "read router.toml", self.router.file(), why, next)
        })?;
        Ok(Reloaded { deployments, warnings: self.router.warnings() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_in_the_store_says_whose() {
        let aid = Aid::from_bytes([9; 16]);
        for kind in LISTENERS {
            assert_eq!(of_kept_name(&format!("{aid}{kind}")), Some(aid));
        }
        assert_eq!(of_kept_name("x.models"), None);
        assert_eq!(of_kept_name(&format!("{aid}.dns")), None);
    }

    #[test]
    fn a_socket_elsewhere_is_not_taken() {
        let elsewhere = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(listener(elsewhere.into()).unwrap_err().to_string().contains("127.0.0.1:7070"));
    }
}
