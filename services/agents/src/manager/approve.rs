//! Asking an operator, and carrying out what one allowed.

use super::Begin;
use super::Manager;
use crate::admit::WHAT;
use crate::approvals::ApprovalError;
use octant_api::agents::{AgentInfo, Approval, ApprovalState};
use octant_api::error::{ApiError, Code};
use octant_api::ledger::{AppendRequest, Kind};
use octant_ids::{Principal, Sha256};
use octant_service::record;
use octant_sys::{clock, entropy};
use octant_wire::Shutdown;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

/// How often what nobody answered is looked for. An answer that comes late in between is refused all the same.
const SWEEP: Duration = Duration::from_secs(30);

fn failed(id: &str, error: &ApprovalError) -> ApiError {
    let (code, next) = match error {
        ApprovalError::Unknown(_) => (Code::NotFound, "see `octant approvals list --all`"),
        ApprovalError::Answered { .. } => (Code::Conflict, "spawn it again to ask anew"),
        ApprovalError::Digest { .. } => {
            (Code::Denied, "look at it with `octant approvals show` and answer that")
        }
        ApprovalError::Full => (Code::Busy, "see `octant approvals list`"),
        ApprovalError::Read { .. } | ApprovalError::Damaged { .. } | ApprovalError::Keep(_) => {
            (Code::Unavailable, "see the state directory of agents")
        }
    };
    let shown: String = id.chars().take(64).collect();
    ApiError::new(code, "answer a request", shown, error, next)
}

/// What is on record of an answer.
fn answer(approval: &Approval, what: &str, by: &Principal) -> AppendRequest {
    let what = json!({
        "do": what,
        "approval": approval.id,
        "action": approval.action,
        "subject": approval.subject,
        "digest": approval.digest,
    });
    let mut entry = record(Kind::Command, &what);
    entry.subject = Some(approval.digest);
    if let Principal::Operator(uid) = by {
        entry.operator = Some(*uid);
    }
    entry
}

impl Manager {
    /// Asks an operator for something that a spawn needs; gives what its caller is told. That is on record as the
    /// reason why this spawn is rejected, with the request's digest.
    pub(super) fn ask(
        &self,
        action: &str,
        subject: String,
        caller: &Principal,
        envelope: String,
    ) -> ApiError {
        let mut random = [0; 8];
        if let Err(e) = entropy::fill_unseeded(&mut random) {
            return ApiError::new(Code::Internal, WHAT, "an approval's identifier", e, "try again");
        }
        let id = format!("{:016x}", u64::from_be_bytes(random));
        let asked = self.approvals.ask(id, action, subject, caller.to_string(), envelope, clock::wall_ms());
        match asked {
            Ok(Approval { id, digest, .. }) => {
                let why = format!("it needs an operator's approval: request {id} waits, digest {digest}");
                let next = format!("an operator starts it with `octant approvals allow {id}`");
                ApiError::new(Code::Denied, WHAT, action, why, next)
            }
            Err(error) => {
                let why = format!("it needs an operator's approval, and that cannot be asked for: {error}");
                ApiError::new(Code::Denied, WHAT, action, why, "see `octant approvals list`")
            }
        }
    }

    /// One request.
    pub(crate) fn approval(&self, id: &str) -> Result<Approval, ApiError> {
        self.approvals.show(id).map_err(|error| failed(id, &error))
    }

    /// Allows a request and carries it out: on record first, then used up, then everything is checked as for any spawn.
    /// To be run as a task of its own, as a spawn is.
    pub(crate) async fn allow(
        self: Arc<Self>,
        id: String,
        digest: Sha256,
        caller: Principal,
    ) -> Result<AgentInfo, ApiError> {
        let asked = self.approval(&id)?;
        let (_, recorded) = self.records.append(&[answer(&asked, "allow", &caller)]).await;
        recorded.map_err(|error| {
            let why = format!("the ledger did not accept the answer: {error}");
            ApiError::new(Code::Unavailable, "answer a request", &id, why, "see `octant status`")
        })?;
        let by = caller.to_string();
        let answered = self.approvals.answer(&id, digest, ApprovalState::Allowed, &by, clock::wall_ms());
        let (approval, envelope) = answered.map_err(|error| failed(&id, &error))?;
        self.spawn(envelope, caller, Some(approval), Begin::default()).await
    }

    /// Denies a request; that is on record after.
    pub(crate) fn deny(&self, id: &str, digest: Sha256, caller: &Principal) -> Result<Approval, ApiError> {
        let by = caller.to_string();
        let answered = self.approvals.answer(id, digest, ApprovalState::Denied, &by, clock::wall_ms());
        let (approval, _) = answered.map_err(|error| failed(id, &error))?;
        self.records.later(answer(&approval, "deny", caller));
        Ok(approval)
    }

    /// Denies what nobody answers, until `stop`.
    pub(super) async fn deny_unanswered(&self, stop: &Shutdown) {
        loop {
            self.expire(clock::wall_ms());
            tokio::select! {
                () = tokio::time::sleep(SWEEP) => {}
                () = stop.requested() => return,
            }
        }
    }

    /// Denies what nobody has answered by now.
    pub(crate) fn expire(&self, now_ms: u64) {
        match self.approvals.expire(now_ms) {
            Ok(over) => {
                for approval in over {
                    let what = json!({
                        "approval": approval.id,
                        "action": approval.action,
                        "subject": approval.subject,
                        "digest": approval.digest,
                        "denied": approval.why,
                    });
                    let mut entry = record(Kind::Decision, &what);
                    entry.subject = Some(approval.digest);
                    self.records.later(entry);
                }
            }
            Err(error) => {
                tracing::error!("requests that nobody answered cannot be taken off the queue: {error}")
            }
        }
    }
}
