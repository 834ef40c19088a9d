//! Asking an operator, taking signed answers, and using each once.

use super::Manager;
use crate::approvals::{ApprovalError, Now, Stands, Wanted};
use octant_api::agent;
use octant_api::agents::{Approval, ApprovalState, PARAMS_MAX, PermitRequest, Permitted};
use octant_api::error::{ApiError, Code};
use octant_api::ledger::{AppendRequest, Kind};
use octant_api::text::Json;
use octant_ids::{Aid, Principal, Sha256};
use octant_manifest::{Action, Answer, AnswerError, Answered, Asked, Decision, Signer, VerifyError};
use octant_mcp::client::BETWEEN;
use octant_service::record;
use octant_sys::{clock, entropy};
use octant_wire::Shutdown;
use serde::Serialize;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

const WHAT: &str = "answer a request";
const ASK: &str = "ask for approval";
/// How often what nobody answered is looked for. An answer that comes late in between is refused all the same.
const SWEEP: Duration = Duration::from_secs(30);
/// Which services ask for which sorts of action: for what they do themselves, and nothing else.
const SORTS: [(&str, &[&str]); 4] = [
    ("comms", &["message"]),
    ("egress", &["lease", "spend"]),
    ("router", &["tool", "spend"]),
    ("vault", &["lease"]),
];

/// Something that may have to be approved.
pub(super) struct Deed<'a> {
    pub(super) action: Action,
    /// The agent that does it; none where it is still to be spawned.
    pub(super) agent: Option<Aid>,
    pub(super) family: Option<Aid>,
    pub(super) name: &'a str,
    pub(super) role: &'a str,
    pub(super) manifest: Sha256,
    pub(super) by: String,
    pub(super) method: &'a str,
    pub(super) params: Json,
}

/// An approval that was used up for a deed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Used {
    pub(crate) id: String,
    pub(crate) digest: Sha256,
}

/// Now, for the queue.
pub(crate) fn now() -> Now {
    Now { wall_ms: clock::wall_ms(), boot_ns: clock::boottime_ns() }
}

fn failed(id: &str, error: &ApprovalError) -> ApiError {
    let (code, next) = match error {
        ApprovalError::Unknown(_) => (Code::NotFound, "see `octant approvals list --all`"),
        ApprovalError::Closed { .. } => (Code::Conflict, "what was to be done can be asked for anew"),
        ApprovalError::InUse => (Code::Conflict, "ask for another"),
        ApprovalError::Full { .. } => (Code::Busy, "see `octant approvals list`"),
        ApprovalError::Io { .. } | ApprovalError::Damaged { .. } | ApprovalError::Keep(_) => {
            (Code::Unavailable, "see the state directory of agents")
        }
    };
    let shown: String = id.chars().take(64).collect();
    ApiError::new(code, WHAT, shown, error, next)
}

fn no_answer(id: &str, error: &AnswerError) -> ApiError {
    let code = match error {
        AnswerError::Unsigned(_)
        | AnswerError::Signer(
            VerifyError::NoTrustedKeys
            | VerifyError::UnknownKey(_)
            | VerifyError::Tampered { .. }
            | VerifyError::RevokedKey { .. }
            | VerifyError::ExpiredKey { .. },
        ) => Code::Unverified,
        AnswerError::Envelope(_) | AnswerError::Form(_) => Code::InvalidParams,
        AnswerError::TooLarge(_) => Code::TooLong,
        AnswerError::Signer(_)
        | AnswerError::Machine { .. }
        | AnswerError::Request { .. }
        | AnswerError::Digest { .. }
        | AnswerError::Expired { .. }
        | AnswerError::TooLong
        | AnswerError::Role { .. } => Code::Denied,
    };
    // The text ends with what to do next.
    ApiError::new(code, WHAT, id.chars().take(64).collect::<String>(), error, "")
}

fn unavailable(place: &str, why: impl std::fmt::Display) -> ApiError {
    ApiError::new(Code::Unavailable, ASK, place, why, "see `octant status`")
}

/// What is on record of a request, and of what becomes of it.
fn about(approval: &Approval, mut what: serde_json::Value, kind: Kind) -> AppendRequest {
    what["approval"] = json!(approval.id);
    what["action"] = json!(approval.action);
    what["subject"] = json!(approval.subject);
    what["agent"] = json!(approval.agent);
    what["digest"] = json!(approval.digest);
    AppendRequest { subject: Some(approval.digest), ..record(kind, &what) }
}

impl Manager {
    /// Whether an agent may do this now: yes, without or with an approval that is used up here, or a refusal. Where nobody
    /// was asked yet somebody is, and the same call has to be made again after the answer.
    ///
    /// When one is used everything is checked at that moment: the agent lives, who signed for its rights is still trusted,
    /// and so is who answered.
    pub(crate) async fn permit(
        self: &Arc<Self>,
        aid: Aid,
        action: Action,
        method: &str,
        params: &(impl Serialize + ?Sized),
    ) -> Result<Option<Used>, ApiError> {
        let wrong = |e: serde_json::Error| unavailable(method, e);
        let params = Json::of(params).map_err(wrong)?;
        let deed = {
            let mut inner = self.inner();
            let rights = inner.agents.get(&aid).and_then(|agent| agent.rights.as_ref());
            let Some(rights) = rights else {
                let why =
                    "what this agent may do could not be established again after a restart, or it has ended";
                return Err(unavailable(method, why));
            };
            if !rights.grants().approvals().cover(&action) {
                return Ok(None);
            }
            let identity = rights.identity().clone();
            let saved = &inner.alive(aid)?.saved;
            let family = saved.ancestors.first().copied().unwrap_or(aid);
            (family, identity.name, identity.role, saved.info.manifest_digest)
        };
        let (family, name, role, manifest) = deed;
        let deed = Deed {
            action,
            agent: Some(aid),
            family: Some(family),
            name: &name,
            role: &role,
            manifest,
            by: Principal::Agent(aid).to_string(),
            method,
            params,
        };
        self.approved(deed).await.map(Some)
    }

    /// The same for another service.
    pub(crate) async fn permit_for(
        self: &Arc<Self>,
        caller: &Principal,
        asked: PermitRequest,
    ) -> Result<Permitted, ApiError> {
        let refuse = |code, why: String, next| ApiError::new(code, ASK, "agents.permit", why, next);
        let PermitRequest { agent, action, method, params } = asked;
        let action: Action = action.parse().map_err(|e| refuse(Code::InvalidParams, format!("{e}"), ""))?;
        if !action.single() {
            let why = format!("{action} is not one action");
            return Err(refuse(Code::InvalidParams, why, "name the one that is to be done"));
        }
        let own =
            SORTS.iter().find(|(name, _)| matches!(caller, Principal::Service(s) if s.as_str() == *name));
        if !own.is_some_and(|(_, sorts)| sorts.contains(&action.sort())) {
            let why = format!("{caller} does not do {action}, and asks only for what it does");
            return Err(refuse(Code::Denied, why, "let the service ask that does it"));
        }
        if params.text().len() > PARAMS_MAX || method.len() > 64 {
            let why = format!("the parameters have more than {PARAMS_MAX} bytes, or the method more than 64");
            return Err(refuse(Code::TooLong, why, "name what is long by its digest"));
        }
        let used = self.permit(agent, action, &method, &params).await?;
        Ok(Permitted { approval: used.map(|used| used.id) })
    }

    /// The same for a tool of the agent's own program. The program is the agent: what it does without asking, its workstation
    /// decides alone.
    pub(crate) async fn permit_own(
        self: &Arc<Self>,
        aid: Aid,
        asked: &agent::PermitRequest,
    ) -> Result<Permitted, ApiError> {
        let agent::PermitRequest { tool, arguments } = asked;
        let refuse = |code, why: String, next| ApiError::new(code, ASK, "agent.permit", why, next);
        if arguments.text().len() > agent::PERMIT_MAX {
            let why = format!("the arguments have more than {} bytes", agent::PERMIT_MAX);
            return Err(refuse(Code::TooLong, why, "do it in parts"));
        }
        let action =
            Action::named("tool", tool).map_err(|e| refuse(Code::InvalidParams, e.to_string(), ""))?;
        if tool.contains(BETWEEN) {
            let why = format!("{action} is a tool of a server");
            return Err(refuse(Code::InvalidParams, why, "call it: that asks for approval"));
        }
        let used = self.permit(aid, action, "agent.permit", asked).await?;
        Ok(Permitted { approval: used.map(|used| used.id) })
    }

    /// Uses up the approval of a deed, on record first; asks for one where there is none.
    pub(super) async fn approved(self: &Arc<Self>, deed: Deed<'_>) -> Result<Used, ApiError> {
        let wanted = self.wanted(&deed)?;
        let mut random = [0; 8];
        entropy::fill_unseeded(&mut random).map_err(|e| unavailable("an approval's identifier", e))?;
        let id = format!("{:016x}", u64::from_be_bytes(random));
        let stands = self.approvals.ask(id, &wanted, now());
        let refuse =
            |code, why: String, next: String| ApiError::new(code, ASK, wanted.action.as_str(), why, next);
        match stands {
            Ok(Stands::Allowed { asked, answer }) => {
                let _in_use = self.approvals.in_use(asked.id.clone());
                self.use_up(&asked, &answer, &deed).await
            }
            Ok(Stands::Waits { asked, new }) => {
                if new {
                    let what = json!({"asked_by": asked.asked_by, "expires_ms": asked.expires_ms});
                    self.record_about(about(&asked, what, Kind::Decision), asked.agent);
                }
                let Approval { id, digest, .. } = asked;
                let why = format!("it needs an operator's approval: request {id} waits, digest {digest}");
                let next = format!(
                    "an operator allows it with `octant approvals allow {id}`; then do the same again"
                );
                Err(refuse(Code::ApprovalNeeded, why, next).waits_for(id))
            }
            Ok(Stands::Denied(asked)) => {
                let why = format!("an operator denied it: request {}, {}", asked.id, asked.why);
                Err(refuse(Code::Denied, why, "do something else".to_owned()))
            }
            Err(error) => {
                let code = failed("", &error).code;
                let why = format!("it needs an operator's approval, and that cannot be asked for: {error}");
                Err(refuse(code, why, "see `octant approvals list`".to_owned()))
            }
        }
    }

    /// The request for a deed: exactly what will be done, as text.
    fn wanted(&self, deed: &Deed<'_>) -> Result<Wanted, ApiError> {
        #[derive(Serialize)]
        struct Exactly<'a> {
            approval: &'static str,
            machine: &'a str,
            agent: Option<Aid>,
            name: &'a str,
            role: &'a str,
            manifest: Sha256,
            action: String,
            method: &'a str,
            params: &'a Json,
        }
        let what = Json::of(&Exactly {
            approval: "v1",
            machine: &self.site.machine,
            agent: deed.agent,
            name: deed.name,
            role: deed.role,
            manifest: deed.manifest,
            action: deed.action.to_string(),
            method: deed.method,
            params: &deed.params,
        });
        Ok(Wanted {
            action: deed.action.to_string(),
            subject: deed.name.to_owned(),
            role: deed.role.to_owned(),
            agent: deed.agent,
            family: deed.family,
            asked_by: deed.by.clone(),
            what: what.map_err(|e| unavailable(deed.method, e))?,
        })
    }

    /// Checks an answer once more, against those who are trusted now.
    async fn check(
        self: &Arc<Self>,
        asked: &Approval,
        action: &Action,
        answer: &str,
    ) -> Result<Answered, ApiError> {
        let trusted = self.trusted().await?;
        let Approval { id, digest, role, .. } = asked;
        let now_ms = self.approvals.time(now());
        let asked =
            Asked { approval: id, digest: *digest, action, role, machine: &self.site.machine, now_ms };
        Answer::verify(answer.as_bytes(), &asked, &trusted, &self.site.ceiling).map_err(|e| no_answer(id, &e))
    }

    async fn use_up(
        self: &Arc<Self>,
        asked: &Approval,
        answer: &str,
        deed: &Deed<'_>,
    ) -> Result<Used, ApiError> {
        // Who signed for the agent's rights is trusted still.
        if let Some(aid) = deed.agent {
            self.chain_of(aid).await?;
        }
        let Answered { decision: Decision::Allow, signer, .. } =
            self.check(asked, &deed.action, answer).await?
        else {
            return Err(unavailable(&asked.id, "the answer that is kept does not allow it"));
        };
        let what = json!({"used": true, "operator": signer.operator, "key": signer.key});
        self.record_first(about(asked, what, Kind::Decision), asked.agent).await?;
        self.approvals.used(&asked.id).map_err(|error| failed(&asked.id, &error))?;
        Ok(Used { id: asked.id.clone(), digest: asked.digest })
    }

    /// One request.
    pub(crate) fn approval(&self, id: &str) -> Result<Approval, ApiError> {
        self.approvals.show(id).map_err(|error| failed(id, &error))
    }

    /// Waits for the answer to a request of an agent's own. Others' look like none.
    pub(crate) async fn approval_of(&self, aid: Aid, id: &str, wait: Duration) -> Result<Approval, ApiError> {
        let asked = self.approval(id)?;
        if asked.agent != Some(aid) {
            return Err(failed(id, &ApprovalError::Unknown(id.to_owned())));
        }
        match tokio::time::timeout(wait, self.approvals.answered(id)).await {
            Ok(answered) => answered.map_err(|error| failed(id, &error)),
            Err(_) => self.approval(id),
        }
    }

    /// Takes an operator's signed answer: checked first, then on record with the signature, then it counts. To be run as
    /// a task of its own: what is on record is kept, also when its caller goes away.
    pub(crate) async fn answer(
        self: &Arc<Self>,
        envelope: &str,
        caller: &Principal,
    ) -> Result<Approval, ApiError> {
        let id = Answer::request(envelope.as_bytes()).map_err(|e| no_answer("an answer", &e))?;
        // One answer after the other, so that the first on record is the one that counts.
        let _in_order = self.approvals.turn.lock().await;
        let asked = self.approvals.waiting(&id, now()).map_err(|error| failed(&id, &error))?;
        let action: Action =
            asked.action.parse().map_err(|e: octant_manifest::PatternError| unavailable(&id, e))?;
        if asked.agent.is_some_and(|aid| self.has_ended(aid)) {
            let why = "the agent that asked has ended".to_owned();
            return Err(failed(&id, &ApprovalError::Closed { state: ApprovalState::Expired, why }));
        }
        let Answered { decision, signer, not_after_ms } = self.check(&asked, &action, envelope).await?;
        let Signer { operator, role, key } = signer;
        let signed: Result<Json, _> = Json::from_text(envelope.to_owned());
        let signed = signed.map_err(|e| unavailable(&id, e))?;
        let what = json!({
            "do": "answer",
            "decision": decision,
            "operator": operator,
            "role": role,
            "key": key,
            "until_ms": not_after_ms,
            "answer": signed,
        });
        let mut entry = about(&asked, what, Kind::Command);
        if let Principal::Operator(uid) = caller {
            entry.operator = Some(*uid);
        }
        self.record_first(entry, None).await?;
        let until_ms = (decision == Decision::Allow).then_some(not_after_ms);
        let answered = self.approvals.answer(&id, until_ms, &operator, envelope, now());
        answered.map_err(|error| failed(&id, &error))
    }

    /// Denies what nobody answers, until `stop`.
    pub(super) async fn deny_unanswered(&self, stop: &Shutdown) {
        loop {
            self.expire(now());
            tokio::select! {
                () = tokio::time::sleep(SWEEP) => {}
                () = stop.requested() => return,
            }
        }
    }

    /// Denies what nobody has answered or used by now.
    pub(crate) fn expire(&self, now: Now) {
        match self.approvals.expire(now, |aid| self.has_ended(aid)) {
            Ok(over) => {
                for asked in over {
                    self.record_about(about(&asked, json!({"denied": asked.why}), Kind::Decision), None);
                }
            }
            Err(error) => {
                tracing::error!("requests that nobody answered cannot be taken off the queue: {error}")
            }
        }
    }

    fn has_ended(&self, aid: Aid) -> bool {
        self.inner().agents.get(&aid).is_none_or(|agent| agent.state.phase.ended())
    }

    /// Puts something on record before it counts, in an agent's partition where that is open.
    async fn record_first(&self, mut entry: AppendRequest, agent: Option<Aid>) -> Result<(), ApiError> {
        entry.agent = agent.filter(|aid| self.inner().agents.get(aid).is_some_and(|agent| !agent.sealed));
        let (_, recorded) = self.records.append(&[entry]).await;
        recorded.map_err(|error| {
            let why = format!("the ledger did not accept it: {error}");
            ApiError::new(
                Code::Unavailable,
                WHAT,
                "ledger",
                why,
                "see `octant status`; nothing counts without a record",
            )
        })
    }

    /// Puts something on record without waiting.
    fn record_about(&self, mut entry: AppendRequest, agent: Option<Aid>) {
        let inner = self.inner();
        entry.agent = agent.filter(|aid| inner.agents.get(aid).is_some_and(|agent| !agent.sealed));
        // While `inner` is held, so that nothing comes into the queue behind the seal that belongs before it.
        self.records.later(entry);
    }
}
