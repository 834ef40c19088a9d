//! The methods: from a request to the gate, and back.

use crate::authority::Authority;
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
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What PID 1 keeps for an agent over a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Thing {
    /// A socket in its network.
    Door(Door),
    /// Its authority, which its programs trust.
    Authority,
}

/// What an earlier run had, by whose it is.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    doors: BTreeMap<(Aid, Door), OwnedFd>,
    authorities: BTreeMap<Aid, OwnedFd>,
}

impl Waiting {
    pub(crate) fn add(&mut self, (aid, thing): (Aid, Thing), fd: OwnedFd) {
        match thing {
            Thing::Door(door) => drop(self.doors.insert((aid, door), fd)),
            Thing::Authority => drop(self.authorities.insert(aid, fd)),
        }
    }

    fn agents(&self) -> impl Iterator<Item = Aid> {
        self.doors.keys().map(|(aid, _)| *aid).chain(self.authorities.keys().copied())
    }

    /// Forgets an agent; which things of it there were.
    fn forget(&mut self, aid: Aid) -> Vec<Thing> {
        let mine = self.doors.keys().filter(|(whose, _)| *whose == aid);
        let mut things: Vec<Thing> = mine.map(|(_, door)| Thing::Door(*door)).collect();
        self.doors.retain(|(whose, _), _| *whose != aid);
        things.extend(self.authorities.remove(&aid).map(|_| Thing::Authority));
        things
    }
}

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
fn kept_name(aid: Aid, thing: Thing) -> String {
    let what = match thing {
        Thing::Authority => "authority".to_owned(),
        Thing::Door(Door::Dns) => "dns".to_owned(),
        Thing::Door(Door::DnsTcp) => "dns-tcp".to_owned(),
        Thing::Door(Door::Proxy) => "proxy".to_owned(),
        Thing::Door(Door::Socks) => "socks".to_owned(),
        Thing::Door(Door::Port(port)) => port.to_string(),
        // Refused before it is kept.
        Thing::Door(Door::Models) => "models".to_owned(),
    };
    format!("{aid}.{what}")
}

/// What a name in PID 1's store says.
pub(crate) fn of_kept_name(name: &str) -> Option<(Aid, Thing)> {
    let (aid, what) = name.split_once('.')?;
    let thing = match what {
        "authority" => Thing::Authority,
        "dns" => Thing::Door(Door::Dns),
        "dns-tcp" => Thing::Door(Door::DnsTcp),
        "proxy" => Thing::Door(Door::Proxy),
        "socks" => Thing::Door(Door::Socks),
        port => Thing::Door(Door::Port(port.parse().ok()?)),
    };
    Some((aid.parse().ok()?, thing))
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
    fn unstore(&self, aid: Aid, thing: Thing) {
        if let Err(error) = self.notifier.unstore(&kept_name(aid, thing)) {
            tracing::warn!("{thing:?} of {aid} stays in PID 1's store: {error}");
        }
    }

    fn store(&self, aid: Aid, thing: Thing, fd: BorrowedFd<'_>) {
        if let Err(error) = self.notifier.store(&kept_name(aid, thing), fd) {
            // It is in use; only a restart of this service loses it.
            tracing::warn!("{thing:?} of {aid} cannot be kept over a restart: {error}");
        }
    }

    /// The authority that an agent had in an earlier run.
    fn kept_authority(&self, aid: Aid) -> Option<Authority> {
        let kept = Authority::kept(self.waiting().authorities.remove(&aid)?);
        // The agent then has another one, which its programs do not trust; `agents` says so.
        kept.inspect_err(|error| {
            tracing::error!("the authority of {aid} from an earlier run is lost: {error}")
        })
        .ok()
    }
}

impl Handler<Call> for Methods {
    async fn admit(&self, request: AdmitRequest, _: Call) -> Result<Admitted, ApiError> {
        let aid = request.aid;
        let known = self.gate.client(aid);
        let before = known.as_ref().map(|client| self.gate.doors(client)).unwrap_or_default();
        let kept = self.kept_authority(aid);
        let was = kept.as_ref().map(|kept| kept.pem().to_owned());
        let mut admitted = self.gate.admit(&request, kept).map_err(|error| {
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
        if let (None, Some(authority)) =
            (known, client.authority().filter(|now| was.as_deref() != Some(now.pem())))
        {
            if was.is_some() {
                self.unstore(aid, Thing::Authority);
            }
            self.store(aid, Thing::Authority, authority.fd());
        }
        let now = self.gate.doors(&client);
        for door in before.into_iter().filter(|door| !now.contains(door)) {
            self.unstore(aid, Thing::Door(door));
        }
        // What an earlier run was listening on goes on here.
        admitted.missing.retain(|door| {
            let Some(fd) = self.waiting().doors.remove(&(aid, *door)) else { return true };
            match self.open(&client, *door, fd) {
                Ok(()) => false,
                Err(error) => {
                    tracing::warn!(
                        "the socket of {aid} for {door:?} from an earlier run is of no use: {error}"
                    );
                    self.unstore(aid, Thing::Door(*door));
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
        if door == Door::Models {
            return Err(refuse("models are asked through the router".into()));
        }
        let client = self.gate.client(aid).ok_or_else(|| unknown(what, aid))?;
        let fd = call.take_fds().pop().ok_or_else(|| refuse("no socket came with the request".into()))?;
        let kept = fd.try_clone().map_err(|error| refuse(error.to_string()))?;
        self.open(&client, door, fd).map_err(|error| refuse(error.to_string()))?;
        self.store(aid, Thing::Door(door), kept.as_fd());
        Ok(Listening {})
    }

    async fn dismiss(&self, request: DismissRequest, _: Call) -> Result<Dismissed, ApiError> {
        let aid = request.aid;
        let mut things = Vec::new();
        if let Some(client) = self.gate.client(aid) {
            things.extend(self.gate.doors(&client).into_iter().map(Thing::Door));
            things.extend(client.authority().map(|_| Thing::Authority));
        }
        let (usage, drawn) = self.gate.dismiss(aid);
        let settled = drawn.map(|used| Settled { run: self.instance.clone(), used });
        things.extend(self.waiting().forget(aid));
        for thing in things {
            self.unstore(aid, thing);
        }
        Ok(Dismissed { usage, settled })
    }

    async fn watch(&self, _: WatchRequest, items: Sink<Told>, _: Call) -> Result<Watched, ApiError> {
        let waiting: BTreeSet<Aid> = self.waiting().agents().collect();
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
        let doors = [Door::Dns, Door::DnsTcp, Door::Proxy, Door::Socks, Door::Port(65_535)];
        for thing in doors.map(Thing::Door).into_iter().chain([Thing::Authority]) {
            let name = kept_name(aid, thing);
            assert!(name.len() <= 64 && !name.contains(':'), "{name}");
            assert_eq!(of_kept_name(&name), Some((aid, thing)));
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
