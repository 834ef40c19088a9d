//! The methods of `agents`.

use crate::core::{Ending, Event};
use crate::manager::Manager;
use octant_api::agents::{
    AgentInfo, AgentList, Handler, KillRequest, ListRequest, LogChunk, LogsEnd, LogsRequest, ShowRequest,
    SpawnRequest, WaitRequest,
};
use octant_api::error::{ApiError, Code};
use octant_wire::{Call, Sink};
use serde_json::json;
use std::sync::Arc;

/// The service's side of its socket.
#[derive(Debug)]
pub(crate) struct Methods(pub(crate) Arc<Manager>);

/// What `list` shows of an agent: who and how, and loudly which layers it lacks.
fn short(info: AgentInfo) -> AgentInfo {
    AgentInfo { layers: Vec::new(), denials: Vec::new(), grants: Vec::new(), ..info }
}

impl Handler<Call> for Methods {
    async fn spawn(&self, request: SpawnRequest, call: Call) -> Result<AgentInfo, ApiError> {
        let caller = call.caller().principal.clone();
        // A task of its own: a caller who goes away must not leave an agent half started.
        let task = tokio::spawn(Arc::clone(&self.0).spawn(request.envelope, caller));
        let ended = |e| ApiError::new(Code::Internal, "spawn an agent", "agents.spawn", e, "see the ledger");
        task.await.map_err(ended)?
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
        // A task of its own, for the same reason as a spawn.
        let asked = tokio::spawn(self.0.drive(aid, event));
        let ended = |e| ApiError::new(Code::Internal, "end an agent", aid.to_string(), e, "try again");
        asked.await.map_err(ended)?;
        self.0.ended(aid).await
    }
}
