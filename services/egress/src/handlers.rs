//! The methods: from a request to the gate, and back.

use crate::core::BadWord;
use crate::doors::{self, Listener};
use crate::gate::{Client, Gate, NotAdmitted};
use octant_api::egress::{
    AdmitRequest, Admitted, AtGates, DismissRequest, Dismissed, Door, FundRequest, Funded, Handler, Instance,
    ListRequest, ListenRequest, Listening, Preview, PreviewRequest, Settled, Told, WatchRequest, Watched,
};
use octant_api::error::{ApiError, Code};
use octant_ids::Aid;
use octant_service::Notifier;
use octant_wire::{Call, Shutdown, Sink};
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Sockets of an earlier run, by whose they are and what they are for.
pub(crate) type Waiting = BTreeMap<(Aid, Door), OwnedFd>;

/// The service's side of its socket.
#[derive(Debug)]
pub(crate) struct Methods {
    pub(crate) gate: Arc<Gate>,
    pub(crate) notifier: Notifier,
    pub(crate) instance: String,
    pub(crate) waiting: Mutex<Waiting>,
    pub(crate) stop: Shutdown,
}

/// The name of a socket in PID 1's store.
fn kept_name(aid: Aid, door: Door) -> String {
    let what = match door {
        Door::Dns => "dns".to_owned(),
        Door::DnsTcp => "dns-tcp".to_owned(),
        Door::Proxy => "proxy".to_owned(),
        Door::Socks => "socks".to_owned(),
        Door::Port(port) => port.to_string(),
    };
    format!("{aid}.{what}")
}

/// What a name in PID 1's store says.
pub(crate) fn of_kept_name(name: &str) -> Option<(Aid, Door)> {
    let (aid, what) = name.split_once('.')?;
    let door = match what {
        "dns" => Door::Dns,
        "dns-tcp" => Door::DnsTcp,
        "proxy" => Door::Proxy,
        "socks" => Door::Socks,
        port => Door::Port(port.parse().ok()?),
    };
    Some((aid.parse().ok()?, door))
}

fn unknown(what: &str, aid: Aid) -> ApiError {
    let why = "it was not admitted, or is gone";
    ApiError::new(Code::NotFound, what, aid.to_string(), why, "see `octant egress list`")
}

impl Methods {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self, client: &Arc<Client>, door: Door, fd: OwnedFd) -> Result<(), doors::NotADoor> {
        let listener = Listener::new(fd, door)?;
        let serving = doors::serve(Arc::clone(&self.gate), Arc::clone(client), door, listener);
        self.gate.open_door(client, door, tokio::spawn(serving).abort_handle());
        Ok(())
    }

    /// Passes on what is to be drawn from budgets: each question once, and on a new connection all that are not answered.
    async fn tell_questions(&self, items: &Sink<Told>) -> Result<Watched, ApiError> {
        let mut told: BTreeMap<Aid, u64> = BTreeMap::new();
        loop {
            // Before the look, so that no question falls between.
            let drawing = self.gate.drawing.notified();
            tokio::pin!(drawing);
            drawing.as_mut().enable();
            for (number, draw) in self.gate.questions() {
                if told.insert(draw.aid, number) != Some(number) {
                    items.send(&Told::Draw(draw)).await?;
                }
            }
            drawing.await;
        }
    }

    /// Takes a name out of PID 1's store. Where that fails the socket comes back at the next start, and is dropped then.
    fn unstore(&self, aid: Aid, door: Door) {
        if let Err(error) = self.notifier.unstore(&kept_name(aid, door)) {
            tracing::warn!("a socket of {aid} stays in PID 1's store: {error}");
        }
    }
}

impl Handler<Call> for Methods {
    async fn admit(&self, request: AdmitRequest, _: Call) -> Result<Admitted, ApiError> {
        let aid = request.aid;
        let before = self.gate.client(aid).map(|client| self.gate.doors(&client)).unwrap_or_default();
        let mut admitted = self.gate.admit(&request).map_err(|error| {
            let code = match error {
                NotAdmitted::Bad(BadWord::TooMany(_) | BadWord::Credentials(_)) | NotAdmitted::Ports(_) => {
                    Code::Full
                }
                NotAdmitted::Authority(_) => Code::Internal,
                NotAdmitted::Bad(_) => Code::InvalidParams,
                NotAdmitted::Old(..) => Code::Conflict,
            };
            ApiError::new(
                code,
                "admit an agent",
                aid.to_string(),
                error,
                "look at its manifest and its leases",
            )
        })?;
        let client = self.gate.client(aid).ok_or_else(|| unknown("admit an agent", aid))?;
        let now = self.gate.doors(&client);
        for door in before.into_iter().filter(|door| !now.contains(door)) {
            self.unstore(aid, door);
        }
        // What an earlier run was listening on goes on here.
        admitted.missing.retain(|door| {
            let Some(fd) = self.waiting().remove(&(aid, *door)) else { return true };
            match self.open(&client, *door, fd) {
                Ok(()) => false,
                Err(error) => {
                    tracing::warn!(
                        "the socket of {aid} for {door:?} from an earlier run is of no use: {error}"
                    );
                    self.unstore(aid, *door);
                    true
                }
            }
        });
        Ok(admitted)
    }

    async fn listen(&self, request: ListenRequest, mut call: Call) -> Result<Listening, ApiError> {
        let ListenRequest { aid, door } = request;
        let what = "listen for an agent";
        let place = || format!("{aid}, {door:?}");
        let refuse = |why: String| {
            ApiError::new(Code::InvalidParams, what, place(), why, "hand over a socket that listens there")
        };
        let client = self.gate.client(aid).ok_or_else(|| unknown(what, aid))?;
        let fd = call.take_fds().pop().ok_or_else(|| refuse("no socket came with the request".into()))?;
        let kept = fd.try_clone().map_err(|error| refuse(error.to_string()))?;
        self.open(&client, door, fd).map_err(|error| refuse(error.to_string()))?;
        if let Err(error) = self.notifier.store(&kept_name(aid, door), kept.as_fd()) {
            // It is served; only a restart of this service loses it, and `agents` then makes another.
            tracing::warn!("the socket of {aid} for {door:?} cannot be kept over a restart: {error}");
        }
        Ok(Listening {})
    }

    async fn dismiss(&self, request: DismissRequest, _: Call) -> Result<Dismissed, ApiError> {
        let aid = request.aid;
        let mut doors = self.gate.client(aid).map(|client| self.gate.doors(&client)).unwrap_or_default();
        let (usage, drawn) = self.gate.dismiss(aid);
        let settled = drawn.map(|used| Settled { run: self.instance.clone(), used });
        {
            let mut waiting = self.waiting();
            doors.extend(waiting.keys().filter(|(whose, _)| *whose == aid).map(|(_, door)| *door));
            waiting.retain(|(whose, _), _| *whose != aid);
        }
        for door in doors {
            self.unstore(aid, door);
        }
        Ok(Dismissed { usage, settled })
    }

    async fn watch(&self, _: WatchRequest, items: Sink<Told>, _: Call) -> Result<Watched, ApiError> {
        let waiting: BTreeSet<Aid> = self.waiting().keys().map(|(aid, _)| *aid).collect();
        let agents = waiting.into_iter().chain(self.gate.list(None).into_iter().map(|row| row.aid)).collect();
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
            let why = "this is another run of the gate";
            return Err(ApiError::new(Code::Conflict, what, aid.to_string(), why, "wait for its questions"));
        }
        self.gate.client(aid).ok_or_else(|| unknown(what, aid))?.fund(limit);
        Ok(Funded {})
    }

    async fn preview(&self, request: PreviewRequest, _: Call) -> Result<Preview, ApiError> {
        let PreviewRequest { aid, url } = request;
        let what = "preview a connection";
        let client = self.gate.client(aid).ok_or_else(|| unknown(what, aid))?;
        let (host, port) = host_and_port(&url).ok_or_else(|| {
            let why = "it is neither a URL of https or http nor HOST:PORT";
            ApiError::new(Code::InvalidParams, what, &url, why, "write it as https://api.example.org/")
        })?;
        Ok(self.gate.preview(&client, &host, port))
    }

    async fn list(&self, request: ListRequest, _: Call) -> Result<AtGates, ApiError> {
        Ok(AtGates { agents: self.gate.list(request.aid) })
    }
}

/// Where a URL, or a host with a port, leads to.
fn host_and_port(url: &str) -> Option<(String, u16)> {
    let (usual, rest) = match url.split_once("://") {
        Some((scheme, rest)) => match scheme.to_ascii_lowercase().as_str() {
            "https" | "wss" | "tls" => (Some(443), rest),
            "http" | "ws" => (Some(80), rest),
            "tcp" => (None, rest),
            _ => return None,
        },
        None => (None, url),
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    // As a URL has it: who signs in stands before the host.
    let authority = authority.rsplit('@').next().unwrap_or_default();
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port.parse().ok().filter(|port| *port > 0)),
        _ => (authority, usual),
    };
    (!host.is_empty()).then_some((host.to_owned(), port?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_in_the_store_says_whose_and_what() {
        let aid = Aid::from_bytes([9; 16]);
        for door in [Door::Dns, Door::DnsTcp, Door::Proxy, Door::Socks, Door::Port(65_535)] {
            let name = kept_name(aid, door);
            assert!(name.len() <= 64 && !name.contains(':'), "{name}");
            assert_eq!(of_kept_name(&name), Some((aid, door)));
        }
        assert_eq!(of_kept_name("x.dns"), None);
        assert_eq!(of_kept_name(&format!("{aid}.99999")), None);
    }

    #[test]
    fn where_a_url_leads_to() {
        for (url, to) in [
            ("https://api.example.org/v1?x=y", Some(("api.example.org", 443))),
            ("http://api.example.org:8080", Some(("api.example.org", 8080))),
            ("HTTPS://u:p@api.example.org/", Some(("api.example.org", 443))),
            ("api.example.org:22", Some(("api.example.org", 22))),
            ("tcp://db.example.org:5432", Some(("db.example.org", 5432))),
            ("https://[::1]/", Some(("[::1]", 443))),
            ("api.example.org", None),
            ("tcp://db.example.org", None),
            ("ftp://a.example.org/", None),
            ("https://", None),
            ("http://a.example.org:0/", None),
            ("http://a.example.org:x/", None),
        ] {
            let to = to.map(|(host, port)| (host.to_owned(), port));
            assert_eq!(host_and_port(url), to, "{url}");
        }
    }
}
