//! Hosts that are lent to an agent for a while: by an operator, or because it asked and its manifest lets it.

use super::Manager;
use super::network::{NoNetwork, gate_failed};
use octant_api::agent::BorrowRequest;
use octant_api::agents::LendRequest;
use octant_api::egress::{HostLease, REASON_MAX};
use octant_api::error::{ApiError, Code};
use octant_ids::{Aid, Principal};
use octant_manifest::{Action, HostGrant, PatternError};
use octant_sys::{clock, entropy};
use serde_json::{Value, json};
use std::sync::Arc;

/// The longest that a host is lent, in milliseconds: a day.
const LEND_MAX_MS: u64 = 24 * 60 * 60 * 1000;
/// How many hosts an agent can be lent at a time.
const LEASES_MAX: usize = 64;

/// A host to be lent, as it is asked for.
struct Wish {
    grant: HostGrant,
    ttl_ms: u64,
    bytes: Option<u64>,
    connections: Option<u64>,
    reason: String,
}

impl Wish {
    /// Reads a wish.
    fn of(asked: &LendRequest) -> Result<Self, NoNetwork> {
        let invalid = |why: String| (Code::InvalidParams, why);
        let grant = asked.host.parse().map_err(|error: PatternError| invalid(error.to_string()))?;
        if !(1..=LEND_MAX_MS).contains(&asked.ttl_ms) {
            return Err(invalid(format!("{} ms are not between 1 and {LEND_MAX_MS}", asked.ttl_ms)));
        }
        if asked.reason.trim().is_empty() || asked.reason.len() > REASON_MAX {
            return Err(invalid(format!("a lease has a reason of 1 to {REASON_MAX} bytes")));
        }
        let LendRequest { ttl_ms, bytes, connections, .. } = *asked;
        Ok(Self { grant, ttl_ms, bytes, connections, reason: asked.reason.clone() })
    }
}

impl Manager {
    /// Lends an agent a host, since an operator says so.
    pub(crate) async fn lend(
        &self,
        aid: Aid,
        asked: &LendRequest,
        by: &Principal,
    ) -> Result<HostLease, NoNetwork> {
        let wish = Wish::of(asked)?;
        self.lend_wish(aid, wish, by, Value::Null).await
    }

    /// Lends an agent a host that it asks for itself: within what its manifest lets it ask for, and where that says so once
    /// an operator has approved exactly this.
    pub(crate) async fn borrow(
        self: &Arc<Self>,
        aid: Aid,
        asked: BorrowRequest,
    ) -> Result<HostLease, ApiError> {
        const WHAT: &str = "borrow a host";
        let refused = |(code, why): NoNetwork| {
            let next = match code {
                Code::Denied => "do without, or let an operator lend it: octant egress lease",
                Code::Unavailable => "try again",
                _ => "see `octant lease --help`",
            };
            ApiError::new(code, WHAT, asked.host.clone(), why, next)
        };
        let BorrowRequest { host, ttl_ms, bytes, connections, reason } = asked.clone();
        let wish =
            Wish::of(&LendRequest { agent: aid.to_string(), host, ttl_ms, bytes, connections, reason });
        let wish = wish.map_err(refused)?;
        let name = wish.grant.to_string();
        if name.contains('*') {
            let why = "a host is asked for by its own name".to_owned();
            return Err(refused((Code::InvalidParams, why)));
        }
        // Nobody is asked about what could not be had anyway.
        let askable = |grants: &octant_manifest::Grants| grants.leases().covers(&wish.grant);
        if !self.with_grants(aid, |grants| grants.is_some_and(askable)) {
            let why = "its manifest does not let it ask for this host (network.leases)".to_owned();
            return Err(refused((Code::Denied, why)));
        }
        self.room_for_lease(aid).map_err(refused)?;
        let action = Action::named("lease", &name);
        let action = action.map_err(|error| refused((Code::InvalidParams, error.to_string())))?;
        let approval = self.permit(aid, action, "agent.borrow", &asked).await?;
        let lent = self.lend_wish(aid, wish, &Principal::Agent(aid), json!(approval)).await;
        lent.map_err(refused)
    }

    fn room_for_lease(&self, aid: Aid) -> Result<(), NoNetwork> {
        let now_ms = clock::boottime_ns() / 1_000_000;
        let inner = self.inner();
        let leases = inner.agents.get(&aid).map_or(&[][..], |agent| &agent.saved.leases);
        match leases.iter().filter(|lease| lease.until_ms > now_ms).count() {
            count if count >= LEASES_MAX => Err((Code::Busy, format!("it has {count} leases already"))),
            _ => Ok(()),
        }
    }

    async fn lend_wish(
        &self,
        aid: Aid,
        wish: Wish,
        by: &Principal,
        approval: Value,
    ) -> Result<HostLease, NoNetwork> {
        if !self.has_network(aid) {
            let why = "its workstation was built without a network, since its manifest names no host";
            return Err((Code::Conflict, why.to_owned()));
        }
        self.room_for_lease(aid)?;
        let Wish { grant, ttl_ms, bytes, connections, reason } = wish;
        let mut id = [0; 6];
        entropy::fill_seeded(&mut id).map_err(|error| (Code::Unavailable, error.to_string()))?;
        let id = id.iter().map(|byte| format!("{byte:02x}")).collect();
        let now_ms = clock::boottime_ns() / 1_000_000;
        let until_ms = now_ms.saturating_add(ttl_ms);
        let (host, by_whom) = (grant.to_string(), by.to_string());
        let lease = HostLease { id, host, until_ms, bytes, connections, reason, by: by_whom };
        let mut what = json!({"do": "lend a host", "lease": lease, "ttl_ms": ttl_ms});
        if !approval.is_null() {
            what["approval"] = approval;
        }
        self.record_command_first(aid, by, what).await?;
        let slot = {
            let mut inner = self.inner();
            let gone = || (Code::Conflict, "it has ended".to_owned());
            let agent =
                inner.agents.get_mut(&aid).filter(|agent| agent.state.phase.live()).ok_or_else(gone)?;
            agent.saved.leases.retain(|lease| lease.until_ms > now_ms);
            agent.saved.leases.push(lease.clone());
            let slot = agent.saved.slot.ok_or_else(gone)?;
            self.keep(&mut inner, aid, false);
            slot
        };
        let told = self.open_network(aid, slot).await;
        if told.is_err() {
            // What was refused is in force nowhere: not here to come into force later, and not at the gate, which may have
            // taken it before a socket could not be had. A gate that does not answer is told anew when it is back.
            self.drop_lease(aid, &lease.id);
            if let Some(request) = self.admission(aid)
                && let Err(error) = self.gate.call(&request).await
            {
                tracing::warn!("{aid}: the gate was not told that a lease was refused: {error}");
            }
        }
        told.map(|_| lease)
    }

    /// Takes back what was lent; how many connections that cut. Agents below it lose what they were lent of the same.
    pub(crate) async fn take_back(&self, aid: Aid, lease: &str, by: &Principal) -> Result<u64, NoNetwork> {
        let Some(host) = self.drop_lease(aid, lease) else {
            return Err((Code::NotFound, format!("it has no lease {lease}")));
        };
        let below = self.drop_below(aid, &host);
        // Every one is told before the first failure is: authority is taken away as far as it can be.
        let mut told = self.tell_less(aid).await;
        for (aid, leases) in &below {
            let less = self.tell_less(*aid).await;
            told = told.and_then(|cut| less.map(|less| cut + less));
            self.record_command(*aid, by, json!({"do": "take back a host", "leases": leases, "host": host}));
        }
        let children: Vec<Aid> = below.iter().map(|row| row.0).collect();
        let what = json!({"do": "take back a host", "lease": lease, "host": host, "also_of": children});
        self.record_command(aid, by, what);
        told
    }

    /// Tells the gate that an agent has less; how many connections that cut.
    async fn tell_less(&self, aid: Aid) -> Result<u64, NoNetwork> {
        let request = self.admission(aid).ok_or((Code::Conflict, "it has no network".to_owned()))?;
        self.gate.call(&request).await.map(|admitted| admitted.cut).map_err(gate_failed)
    }

    /// Takes a lease out; of which host it was.
    fn drop_lease(&self, aid: Aid, lease: &str) -> Option<String> {
        let mut inner = self.inner();
        let leases = &mut inner.agents.get_mut(&aid)?.saved.leases;
        let at = leases.iter().position(|row| row.id == lease)?;
        let host = leases.remove(at).host;
        self.keep(&mut inner, aid, false);
        Some(host)
    }

    /// Takes out what agents below one were lent within a host; who lost which leases.
    fn drop_below(&self, above: Aid, host: &str) -> Vec<(Aid, Vec<String>)> {
        use octant_manifest::Pattern as _;
        let Ok(gone) = host.parse::<HostGrant>() else { return Vec::new() };
        let within = |lease: &HostLease| lease.host.parse().is_ok_and(|host: HostGrant| host.within(&gone));
        let mut inner = self.inner();
        let mut lost = Vec::new();
        for (aid, agent) in &mut inner.agents {
            if agent.saved.ancestors.contains(&above) {
                let taken: Vec<HostLease> =
                    agent.saved.leases.extract_if(.., |lease| within(lease)).collect();
                lost.push((*aid, taken.into_iter().map(|lease| lease.id).collect::<Vec<_>>()));
            }
        }
        lost.retain(|(_, leases)| !leases.is_empty());
        for (aid, _) in &lost {
            self.keep(&mut inner, *aid, false);
        }
        lost
    }
}
