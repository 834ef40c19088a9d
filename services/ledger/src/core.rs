//! The rules, without I/O, clock or randomness: who may append what under whose name, who gets tickets of whom, and what
//! matches a query. The canonical form and the chain are in the crate `tlog`.

use crate::files::Erasable;
use crate::store::Item;
use octant_api::error::{ApiError, Code};
use octant_api::ledger::{AppendRequest, Entry, Kind, PAYLOAD_MAX, QueryRequest};
use octant_ids::{Principal, ServiceName, Sha256};
use octant_ticket::Issuer;
use octant_tlog::entry::{Content, Draft, commitment};
use octant_tlog::state::Tip;
use std::io;

/// Who may ask for tickets of whom: what the actuator does, it does for this service only.
const TICKETS: &[(&str, &str)] = &[("agents", "spawner")];

fn is_agents(caller: &Principal) -> bool {
    matches!(caller, Principal::Service(name) if name.as_str() == "agents")
}

/// Decides whose entry it is, and whether the caller may append it. `random` is the salt of an erasable payload.
pub(crate) fn item(
    caller: &Principal,
    request: AppendRequest,
    tip: Tip,
    random: impl FnOnce() -> io::Result<[u8; 32]>,
) -> Result<Item, ApiError> {
    let refuse = |code, place: &str, why: String, next| {
        Err(ApiError::new(code, "append to the ledger", place, why, next))
    };
    let actor = match (request.actor, request.operator) {
        (None, None) => caller.clone(),
        (Some(aid), None) if is_agents(caller) => Principal::Agent(aid),
        (None, Some(uid)) if is_agents(caller) && request.kind == Kind::Command => Principal::Operator(uid),
        (Some(_), Some(_)) => {
            let why = "an agent and an operator are named".to_owned();
            return refuse(Code::InvalidParams, "actor", why, "name one of them");
        }
        _ => {
            let why = format!("{caller} appends under its own name only");
            return refuse(Code::Denied, "actor", why, "leave `actor` and `operator` out");
        }
    };
    if request.agent.is_some() && request.actor.is_some() && request.agent != request.actor {
        let why = "an agent speaks about itself only".to_owned();
        return refuse(Code::InvalidParams, "agent", why, "leave `agent` out where `actor` is named");
    }
    if let Some(whose) = anothers(caller, &request) {
        let why = format!("entries of kind {} are {whose}", request.kind.as_str());
        return refuse(Code::Denied, "kind", why, "use another kind");
    }
    let len = request.payload.text().len();
    if len > PAYLOAD_MAX {
        let why = format!("it has {len} bytes, more than {PAYLOAD_MAX}");
        return refuse(Code::TooLong, "payload", why, "keep it elsewhere and give its digest as `outside`");
    }
    if let Some(intent) = request.intent.filter(|seq| *seq == 0 || *seq > tip.seq) {
        let why = format!("there is no entry {intent}");
        let next = "give the number that the intent's append answered";
        return refuse(Code::InvalidParams, "intent", why, next);
    }
    let (content, payload) = content(&request, random)?;
    let agent = request.actor.or(request.agent);
    let (kind, intent) = (request.kind, request.intent);
    let AppendRequest { manifest, policy, subject, .. } = request;
    let draft = Draft {
        actor,
        kind,
        backfilled: false,
        intent,
        agent,
        manifest,
        policy,
        subject,
        content,
        observed_ns: None,
    };
    Ok(Item { draft, payload })
}

/// Whose entries of this kind are, where they are not the caller's.
fn anothers(caller: &Principal, request: &AppendRequest) -> Option<&'static str> {
    let one_of = |names: &[&str]| names.iter().any(|name| *caller == service(name));
    match request.kind {
        Kind::Boot | Kind::Unit => Some("PID 1's"),
        Kind::Config if !one_of(&["network"]) => Some("PID 1's and the service network's"),
        Kind::Erasure | Kind::Key | Kind::Archive => Some("the ledger's own"),
        Kind::Command if request.operator.is_none() => Some("of operators"),
        Kind::Lifecycle | Kind::Seal if !is_agents(caller) => Some("the service agents'"),
        Kind::Decision if !one_of(&["governance", "vault", "agents", "egress", "router"]) => {
            Some("the services governance's, vault's, egress's, router's and agents'")
        }
        _ => None,
    }
}

fn service(name: &str) -> Principal {
    // A name of the table of services; if it were none, nobody would be it.
    name.parse().map_or(Principal::Stranger(u32::MAX), Principal::Service)
}

/// What the entry holds of the payload, and what is kept beside it.
fn content(
    request: &AppendRequest,
    random: impl FnOnce() -> io::Result<[u8; 32]>,
) -> Result<(Content, Option<Erasable>), ApiError> {
    let refuse = |code, place: &str, why: String, next| {
        Err(ApiError::new(code, "append to the ledger", place, why, next))
    };
    match (request.outside, request.erasable) {
        (None, false) => Ok((Content::Payload(request.payload.clone()), None)),
        (Some(outside), false) if request.payload.text() == "null" => Ok((Content::Outside(outside), None)),
        (Some(_), _) => {
            let why = "there is a payload, or it is to be erasable, and another is kept outside".to_owned();
            refuse(
                Code::InvalidParams,
                "outside",
                why,
                "give `null` as the payload, and leave `erasable` out",
            )
        }
        (None, true) if request.kind == Kind::Seal => {
            let why = "a seal states what the ledger counted".to_owned();
            refuse(Code::InvalidParams, "erasable", why, "leave it out")
        }
        (None, true) => {
            let salt = match random() {
                Ok(salt) => salt,
                Err(error) => {
                    return refuse(Code::Unavailable, "salt", error.to_string(), "try again in a moment");
                }
            };
            let text = request.payload.text().to_owned();
            Ok((Content::Commitment(commitment(&salt, &text)), Some(Erasable { salt, text })))
        }
    }
}

/// Whether the caller gets a ticket of this actuator, and for what.
pub(crate) fn ticket_for(
    caller: &Principal,
    request: &AppendRequest,
    issuer: &Issuer,
) -> Result<Option<(ServiceName, Sha256)>, ApiError> {
    let Some(actuator) = request.ticket_for.clone() else { return Ok(None) };
    let refuse = |code, why: String, next| {
        Err(ApiError::new(code, "ask for a ticket", actuator.to_string(), why, next))
    };
    let allowed = TICKETS.iter().any(|(asks, acts)| *caller == service(asks) && actuator.as_str() == *acts);
    if !allowed {
        return refuse(
            Code::Denied,
            format!("{caller} gets no tickets for {actuator}"),
            "leave `ticket_for` out",
        );
    }
    let Some(subject) = request.subject.filter(|_| request.kind == Kind::Intent) else {
        let why = "a ticket is for an intent with a subject".to_owned();
        return refuse(Code::InvalidParams, why, "give the digest of what is intended as `subject`");
    };
    if !issuer.knows(actuator.as_str()) {
        let why = "PID 1 gave no key for it".to_owned();
        return refuse(Code::Unavailable, why, "restart the machine with one version of the program");
    }
    Ok(Some((actuator, subject)))
}

/// Whether an entry meets every condition of a query.
pub(crate) fn matches_query(query: &QueryRequest, entry: &Entry) -> bool {
    query.actor.as_ref().is_none_or(|actor| *actor == entry.actor)
        && query.agent.is_none_or(|agent| entry.partition.is_some_and(|place| place.agent == agent))
        && query.subject.is_none_or(|subject| entry.subject == Some(subject))
        && (query.kinds.is_empty() || query.kinds.contains(&entry.kind))
        && query.intent.is_none_or(|seq| entry.seq == seq || entry.intent == Some(seq))
        && query.since_ms.is_none_or(|since| entry.wall_ms >= since)
        && query.until_ms.is_none_or(|until| entry.wall_ms < until)
}
