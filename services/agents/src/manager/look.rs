//! Looking at agents.

use super::{Manager, no_agent};
use crate::log::Log;
use octant_api::agents::AgentInfo;
use octant_api::error::{ApiError, Code};
use octant_ids::Aid;
use std::sync::Arc;

impl Manager {
    /// What is known of an agent.
    pub(crate) fn info(&self, aid: Aid) -> Result<AgentInfo, ApiError> {
        let inner = self.inner();
        inner.agents.get(&aid).map(|agent| agent.saved.info.clone()).ok_or_else(|| no_agent(&aid.to_string()))
    }

    /// Every agent, oldest first.
    pub(crate) fn list(&self, ended: bool) -> Vec<AgentInfo> {
        let inner = self.inner();
        let infos = inner.agents.values().map(|agent| &agent.saved.info);
        infos.filter(|info| ended || !info.state.ended()).cloned().collect()
    }

    /// The agent that a text means: an identifier, the last 4 or more characters of one, or a name. An agent
    /// that has not ended comes before those of the same name that have.
    pub(crate) fn find(&self, text: &str) -> Result<Aid, ApiError> {
        let inner = self.inner();
        if let Ok(aid) = text.parse::<Aid>() {
            return inner.agents.get(&aid).map(|_| aid).ok_or_else(|| no_agent(text));
        }
        let named: Vec<&AgentInfo> = inner
            .agents
            .values()
            .map(|agent| &agent.saved.info)
            .filter(|info| info.name == text || (text.len() >= 4 && info.aid.to_string().ends_with(text)))
            .collect();
        let live: Vec<&AgentInfo> = named.iter().copied().filter(|info| !info.state.ended()).collect();
        match (live.as_slice(), named.as_slice()) {
            ([one], _) | ([], [one]) => Ok(one.aid),
            ([], []) => Err(no_agent(text)),
            ([], several) | (several, _) => {
                let aids: Vec<String> =
                    several.iter().rev().take(8).map(|info| info.aid.to_string()).collect();
                let why = format!("{} agents are meant by it: {}", several.len(), aids.join(", "));
                let shown: String = text.chars().take(64).collect();
                Err(ApiError::new(Code::Conflict, "find an agent", shown, why, "name one by its identifier"))
            }
        }
    }

    pub(crate) fn log(&self, aid: Aid) -> Result<Arc<Log>, ApiError> {
        let inner = self.inner();
        inner.agents.get(&aid).map(|agent| Arc::clone(&agent.log)).ok_or_else(|| no_agent(&aid.to_string()))
    }

    /// Waits until an agent has ended.
    pub(crate) async fn ended(&self, aid: Aid) -> Result<AgentInfo, ApiError> {
        let changed = self.inner().agents.get(&aid).map(|agent| agent.changed.subscribe());
        let mut changed = changed.ok_or_else(|| no_agent(&aid.to_string()))?;
        // An error means that the agent was forgotten, which happens only after its end.
        let _ = changed.wait_for(|state| state.ended()).await;
        self.info(aid)
    }

    /// How many agents have not ended, and how many of them lack a layer.
    pub(crate) fn count(&self) -> (usize, usize) {
        let inner = self.inner();
        let live = inner.agents.values().map(|a| &a.saved.info).filter(|info| !info.state.ended());
        live.fold((0, 0), |(all, bare), info| (all + 1, bare + usize::from(!info.missing_layers.is_empty())))
    }

    /// Whether the spawner takes requests.
    pub(crate) async fn spawner_healthy(&self) -> Result<(), String> {
        self.blocking(|spawner| spawner.ping())
            .await?
            .map_err(|e| format!("the spawner does not answer: {e}"))
    }
}
