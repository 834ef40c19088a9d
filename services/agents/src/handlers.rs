//! The methods of `agents`.

use crate::core::held::Suspension;
use crate::core::{Ending, Event};
use crate::manager::{Begin, Manager, Refusal};
use crate::words::Words;
use octant_api::agents::{
    AgentInfo, AgentList, AnswerRequest, Approval, ApprovalList, ApprovalRequest, ApprovalsRequest,
    Artefacts, ArtefactsRequest, BudgetInfo, BudgetRequest, DiscardRequest, FetchRequest, Fetched,
    ForkRequest, Handler, KillRequest, LendRequest, ListRequest, LogChunk, LogsEnd, LogsRequest,
    PermitRequest, Permitted, PinRequest, PrepareRequest, Prepared, PreparedList, PreparedRequest,
    RecordRequest, Recorded, RemoveArtefactsRequest, RemovedArtefacts, ResumeRequest, SaidInfo, SayRequest,
    ServerInfo, ServerList, ServersRequest, ShowRequest, SpawnRequest, SuspendRequest, TakeBackRequest,
    TakenBack, Task, ThrottleRequest, TrustList, TrustRequest, UnthrottleRequest, WaitRequest,
};
use octant_api::egress::HostLease;
use octant_api::error::{ApiError, Code};
use octant_ids::Aid;
use octant_wire::{Call, Sink};
use serde_json::json;
use std::sync::Arc;

/// The service's side of its socket.
#[derive(Debug)]
pub(crate) struct Methods(pub(crate) Arc<Manager>);

impl Methods {
    /// Lets something happen to an agent, in a task of its own for the same reason as a spawn, and says what it is then.
    async fn ask(&self, aid: Aid, what: &str, event: Event) -> Result<AgentInfo, ApiError> {
        let asked = tokio::spawn(self.0.drive(aid, event));
        let ended = |e| ApiError::new(Code::Internal, what, aid.to_string(), e, "try again");
        match asked.await.map_err(ended)? {
            None => self.0.info(aid),
            Some(refusal) => Err(refused(aid, what, refusal)),
        }
    }
}

fn refused(aid: Aid, what: &str, (code, why): Refusal) -> ApiError {
    let next = match code {
        Code::LayerMissing => "see `octant doctor` for how to get the layer",
        Code::Unavailable => "see `octant status`; nothing is given back without a record",
        Code::InvalidParams => "see the command's --help",
        _ => "see `octant agent show`",
    };
    ApiError::new(code, what, aid.to_string(), why, next)
}

/// What is said to an agent at its beginning.
fn words(what: &str, task: Option<Task>) -> Result<Words, ApiError> {
    let wrong =
        |why| ApiError::new(Code::InvalidParams, what, "its task", why, "say it in fewer words, or later");
    Words::of(task).map_err(wrong)
}

/// What `list` shows of an agent: who and how, and loudly which layers it lacks.
fn short(info: AgentInfo) -> AgentInfo {
    let artefacts = info.artefacts.map(|kept| Artefacts { left_out: Vec::new(), ..kept });
    AgentInfo {
        layers: Vec::new(),
        denials: Vec::new(),
        denied_calls: Vec::new(),
        calls_unreported: None,
        denied_accesses: Vec::new(),
        accesses_unreported: None,
        grants: Vec::new(),
        artefacts,
        snapshots: Vec::new(),
        ..info
    }
}

impl Handler<Call> for Methods {
    async fn spawn(&self, request: SpawnRequest, call: Call) -> Result<AgentInfo, ApiError> {
        let caller = call.caller().principal.clone();
        // A task of its own: a caller who goes away must not leave an agent half started.
        let begin = Begin { words: words("spawn an agent", request.task)?, ..Begin::default() };
        let task = tokio::spawn(Arc::clone(&self.0).spawn(request.envelope, caller, begin));
        let ended = |e| ApiError::new(Code::Internal, "spawn an agent", "agents.spawn", e, "see the ledger");
        task.await.map_err(ended)?
    }

    async fn fork(&self, request: ForkRequest, call: Call) -> Result<AgentInfo, ApiError> {
        const WHAT: &str = "fork an agent";
        let of = self.0.find(&request.agent)?;
        let envelope = request.envelope.map_or_else(|| self.0.signed_manifest(of), Ok)?;
        let words = words(WHAT, request.task)?;
        let begin = Begin { workspace: Some(request.workspace), fork_of: Some(of), words };
        let task = Arc::clone(&self.0).spawn(envelope, call.caller().principal.clone(), begin);
        let ended = |e| ApiError::new(Code::Internal, WHAT, of.to_string(), e, "see the ledger");
        tokio::spawn(task).await.map_err(ended)?
    }

    async fn say(&self, request: SayRequest, call: Call) -> Result<SaidInfo, ApiError> {
        let aid = self.0.find(&request.agent)?;
        let said = self.0.say(aid, request.text, request.stop, &call.caller().principal).await;
        said.map_err(|refusal| refused(aid, "say something to an agent", refusal))
    }

    async fn artefacts(&self, request: ArtefactsRequest, _: Call) -> Result<AgentInfo, ApiError> {
        self.0.artefacts(self.0.find(&request.agent)?).await
    }

    async fn fetch(&self, request: FetchRequest, call: Call) -> Result<Fetched, ApiError> {
        let (fetched, pipe) = self.0.fetch(request.tree).await?;
        call.attach(pipe)?;
        Ok(fetched)
    }

    async fn record(&self, request: RecordRequest, call: Call) -> Result<Recorded, ApiError> {
        self.0.record_kept(&request, &call.caller().principal).await
    }

    async fn remove_artefacts(
        &self,
        request: RemoveArtefactsRequest,
        call: Call,
    ) -> Result<RemovedArtefacts, ApiError> {
        let agents = self.0.remove_artefacts(request.tree, &call.caller().principal).await?;
        Ok(RemovedArtefacts { agents })
    }

    async fn list(&self, request: ListRequest, _: Call) -> Result<AgentList, ApiError> {
        Ok(AgentList { agents: self.0.list(request.all).into_iter().map(short).collect() })
    }

    async fn show(&self, request: ShowRequest, _: Call) -> Result<AgentInfo, ApiError> {
        self.0.info(self.0.find(&request.agent)?)
    }

    async fn logs(&self, request: LogsRequest, items: Sink<LogChunk>, _: Call) -> Result<LogsEnd, ApiError> {
        let aid = self.0.find(&request.agent)?;
        self.0.send_log(aid, request.output, request.follow, &items).await
    }

    async fn wait(&self, request: WaitRequest, _: Call) -> Result<AgentInfo, ApiError> {
        self.0.ended(self.0.find(&request.agent)?).await
    }

    async fn kill(&self, request: KillRequest, call: Call) -> Result<AgentInfo, ApiError> {
        let aid = self.0.find(&request.agent)?;
        // Kept for later and not waited for: the kill follows at once.
        let what = json!({"do": "kill", "grace_ms": request.grace_ms});
        self.0.record_command(aid, &call.caller().principal, what);
        let event = Event::EndAsked { why: Ending::Operator, grace_ms: request.grace_ms };
        self.ask(aid, "end an agent", event).await?;
        self.0.ended(aid).await
    }

    async fn suspend(&self, request: SuspendRequest, call: Call) -> Result<AgentInfo, ApiError> {
        let aid = self.0.find(&request.agent)?;
        self.0.record_command(aid, &call.caller().principal, json!({"do": "suspend"}));
        self.ask(aid, "suspend an agent", Event::SuspendAsked(Suspension::Operator)).await
    }

    async fn resume(&self, request: ResumeRequest, call: Call) -> Result<AgentInfo, ApiError> {
        const WHAT: &str = "resume an agent";
        let aid = self.0.find(&request.agent)?;
        let until_ns = request.for_ms.map(|ms| self.0.until(aid, ms)).transpose();
        let until_ns = until_ns.map_err(|why| refused(aid, WHAT, (Code::InvalidParams, why)))?;
        self.0.adoption(aid).await?;
        let what = json!({"do": "resume", "for_ms": request.for_ms});
        let recorded = self.0.record_command_first(aid, &call.caller().principal, what).await;
        recorded.map_err(|refusal| refused(aid, WHAT, refusal))?;
        self.ask(aid, WHAT, Event::ResumeAsked { until_ns }).await
    }

    async fn throttle(&self, request: ThrottleRequest, call: Call) -> Result<AgentInfo, ApiError> {
        const WHAT: &str = "throttle an agent";
        let (aid, percent) = (self.0.find(&request.agent)?, request.cpu_percent);
        self.0.below_share(aid, percent).map_err(|why| refused(aid, WHAT, (Code::InvalidParams, why)))?;
        let what = json!({"do": "throttle", "cpu_percent": percent});
        self.0.record_command(aid, &call.caller().principal, what);
        self.ask(aid, WHAT, Event::ThrottleAsked(percent)).await
    }

    async fn unthrottle(&self, request: UnthrottleRequest, call: Call) -> Result<AgentInfo, ApiError> {
        const WHAT: &str = "give an agent its speed back";
        let aid = self.0.find(&request.agent)?;
        let what = json!({"do": "unthrottle"});
        let recorded = self.0.record_command_first(aid, &call.caller().principal, what).await;
        recorded.map_err(|refusal| refused(aid, WHAT, refusal))?;
        self.ask(aid, WHAT, Event::UnthrottleAsked).await
    }

    async fn lend(&self, request: LendRequest, call: Call) -> Result<HostLease, ApiError> {
        let aid = self.0.find(&request.agent)?;
        let lent = self.0.lend(aid, &request, &call.caller().principal).await;
        lent.map_err(|refusal| refused(aid, "lend a host", refusal))
    }

    async fn take_back(&self, request: TakeBackRequest, call: Call) -> Result<TakenBack, ApiError> {
        let aid = self.0.find(&request.agent)?;
        let taken = self.0.take_back(aid, &request.lease, &call.caller().principal).await;
        taken.map(|cut| TakenBack { cut }).map_err(|refusal| refused(aid, "take back a host", refusal))
    }

    async fn prepare(&self, request: PrepareRequest, call: Call) -> Result<Prepared, ApiError> {
        let caller = call.caller().principal.clone();
        let task = tokio::spawn(Arc::clone(&self.0).prepare(request.envelope, request.count, caller));
        let ended =
            |e| ApiError::new(Code::Internal, "prepare agents", "agents.prepare", e, "see the ledger");
        task.await.map_err(ended)?
    }

    async fn prepared(&self, _: PreparedRequest, _: Call) -> Result<PreparedList, ApiError> {
        Ok(PreparedList { prepared: self.0.prepared() })
    }

    async fn discard(&self, request: DiscardRequest, call: Call) -> Result<PreparedList, ApiError> {
        let prepared = self.0.discard(request.manifest, &call.caller().principal).await?;
        Ok(PreparedList { prepared })
    }

    async fn budget(&self, request: BudgetRequest, _: Call) -> Result<BudgetInfo, ApiError> {
        self.0.budget(self.0.find(&request.agent)?)
    }

    async fn trust(&self, _: TrustRequest, _: Call) -> Result<TrustList, ApiError> {
        let manager = Arc::clone(&self.0);
        let task = tokio::spawn(async move { manager.trust().await });
        let ended =
            |e| ApiError::new(Code::Internal, "look at the trusted set", "agents.trust", e, "see the ledger");
        task.await.map_err(ended)?
    }

    async fn servers(&self, _: ServersRequest, _: Call) -> Result<ServerList, ApiError> {
        Ok(ServerList { servers: self.0.servers() })
    }

    async fn pin(&self, request: PinRequest, call: Call) -> Result<ServerInfo, ApiError> {
        let info = self.0.list_again(&request.server)?;
        // Kept for later and not waited for: it asks, and gives nothing.
        self.0.record_command(
            info.agent,
            &call.caller().principal,
            json!({"do": "ask again", "server": info.name}),
        );
        Ok(info)
    }

    async fn approvals(&self, request: ApprovalsRequest, _: Call) -> Result<ApprovalList, ApiError> {
        let mut approvals = self.0.approvals.list();
        approvals.retain(|approval| request.all || !approval.state.closed());
        Ok(ApprovalList { approvals })
    }

    async fn approval(&self, request: ApprovalRequest, _: Call) -> Result<Approval, ApiError> {
        self.0.approval(&request.id)
    }

    async fn answer(&self, request: AnswerRequest, call: Call) -> Result<Approval, ApiError> {
        let (manager, caller) = (Arc::clone(&self.0), call.caller().principal.clone());
        let task = tokio::spawn(async move { manager.answer(&request.envelope, &caller).await });
        let ended =
            |e| ApiError::new(Code::Internal, "answer a request", "agents.answer", e, "see the ledger");
        task.await.map_err(ended)?
    }

    async fn permit(&self, request: PermitRequest, call: Call) -> Result<Permitted, ApiError> {
        let (manager, caller) = (Arc::clone(&self.0), call.caller().principal.clone());
        let task = tokio::spawn(async move { manager.permit_for(&caller, request).await });
        let ended =
            |e| ApiError::new(Code::Internal, "ask for approval", "agents.permit", e, "see the ledger");
        task.await.map_err(ended)?
    }
}
