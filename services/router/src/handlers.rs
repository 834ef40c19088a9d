//! The methods: from a request to the router, and back.

use crate::agents::{Agent, lock};
use crate::core::BadWord;
use crate::http;
use crate::router::Router;
use octant_api::egress::{Door, Instance, Settled, Told};
use octant_api::error::{ApiError, Code};
use octant_api::router::{
    AdmitRequest, Admitted, DismissRequest, Dismissed, ExplainRequest, Explained, FundRequest, Funded,
    Handler, ListenRequest, Listening, Metrics, MetricsRequest, Providers, ProvidersRequest, ReloadRequest,
    Reloaded, Status, StatusRequest, TestRequest, Tested, UsageRequest, Used, WatchRequest, Watched,
};
use octant_ids::Aid;
use octant_service::Notifier;
use octant_wire::{Call, Shutdown, Sink};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;

/// Listeners that an earlier run had, by whose they are.
#[derive(Debug, Default)]
pub(crate) struct Waiting(BTreeMap<Aid, OwnedFd>);

impl Waiting {
    pub(crate) fn add(&mut self, aid: Aid, fd: OwnedFd) {
        self.0.insert(aid, fd);
    }
}

/// What follows an agent in the name of its listener in PID 1's store.
const LISTENER: &str = ".models";

fn kept_name(aid: Aid) -> String {
    format!("{aid}{LISTENER}")
}

/// What a name in PID 1's store says.
pub(crate) fn of_kept_name(name: &str) -> Option<Aid> {
    name.strip_suffix(LISTENER)?.parse().ok()
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

/// A listener at the place where programs look for models, and nowhere else.
fn listener(fd: OwnedFd) -> io::Result<TcpListener> {
    let listener = std::net::TcpListener::from(fd);
    listener.set_nonblocking(true)?;
    let (ip, port) = Door::Models.place();
    let (is, wanted) = (listener.local_addr()?, ip.map(|ip| SocketAddr::new(ip, port)));
    if wanted != Some(is) {
        return Err(io::Error::other(format!("it is bound to {is}, not to {wanted:?}")));
    }
    TcpListener::from_std(listener)
}

impl Methods {
    fn open(&self, agent: &Arc<Agent>, fd: OwnedFd) -> io::Result<()> {
        let serving = http::serve(Arc::clone(&self.router), Arc::clone(agent), listener(fd)?);
        agent.listens(tokio::spawn(serving).abort_handle());
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

    /// Takes a listener out of PID 1's store. Where that fails it comes back at the next start, and is dropped then.
    fn unstore(&self, aid: Aid) {
        if let Err(error) = self.notifier.unstore(&kept_name(aid)) {
            tracing::warn!("the listener of {aid} stays in PID 1's store: {error}");
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
        if let Some(fd) = kept
            && let Err(error) = self.open(&agent, fd)
        {
            tracing::warn!("the listener of {aid} from an earlier run is of no use: {error}");
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
        let fd = call.take_fds().pop().ok_or_else(|| refuse("no socket came with the request".into()))?;
        let kept = fd.try_clone().map_err(|error| refuse(error.to_string()))?;
        self.open(&agent, fd).map_err(|error| refuse(error.to_string()))?;
        if let Err(error) = self.notifier.store(&kept_name(aid), kept.as_fd()) {
            // It is in use; only a restart of this service loses it.
            tracing::warn!("the listener of {aid} cannot be kept over a restart: {error}");
        }
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
        let agents = self.router.agents.list();
        let wanted = agents.iter().filter(|agent| request.aid.is_none_or(|aid| aid == agent.aid));
        Ok(Used { rows: wanted.flat_map(|agent| agent.rows()).collect() })
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
        assert_eq!(of_kept_name(&kept_name(aid)), Some(aid));
        assert_eq!(of_kept_name("x.models"), None);
        assert_eq!(of_kept_name(&format!("{aid}.dns")), None);
    }

    #[test]
    fn a_socket_elsewhere_is_not_taken() {
        let elsewhere = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(listener(elsewhere.into()).unwrap_err().to_string().contains("127.0.0.1:7070"));
    }
}
