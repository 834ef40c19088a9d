//! Looking at agents.

use super::{Agent, Manager, no_agent, no_agent_but};
use crate::log::{Cursor, Log};
use octant_api::agents::{AgentInfo, LogChunk, LogsEnd, Output};
use octant_api::error::{ApiError, Code};
use octant_api::text::Base64;
use octant_ids::Aid;
use octant_wire::Sink;
use std::sync::Arc;

impl Manager {
    /// What is known of an agent.
    pub(crate) fn info(&self, aid: Aid) -> Result<AgentInfo, ApiError> {
        let inner = self.inner();
        let info = inner.agents.get(&aid).map(|agent| agent.saved.info.clone());
        let mut info = info.ok_or_else(|| no_agent(&aid.to_string()))?;
        if !info.state.ended() {
            info.calls_unreported = info.calls_unreported.or_else(|| self.reports.missing());
            let missing = || self.reports.landlock_missing();
            info.accesses_unreported = info.accesses_unreported.or_else(missing);
        }
        Ok(info)
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
        self.find_among(text, |_| true, no_agent)
    }

    /// The same among the descendants of an agent. Who is no descendant of it looks like nobody.
    pub(crate) fn find_below(&self, above: Aid, text: &str) -> Result<Aid, ApiError> {
        let nobody = |text: &str| no_agent_but(text, "see `octant agent children --all`");
        self.find_among(text, |agent| agent.saved.ancestors.contains(&above), nobody)
    }

    fn find_among(
        &self,
        text: &str,
        known: impl Fn(&Agent) -> bool,
        nobody: impl Fn(&str) -> ApiError,
    ) -> Result<Aid, ApiError> {
        let inner = self.inner();
        if let Ok(aid) = text.parse::<Aid>() {
            let found = inner.agents.get(&aid).filter(|agent| known(agent));
            return found.map(|_| aid).ok_or_else(|| nobody(text));
        }
        let named: Vec<&AgentInfo> = inner
            .agents
            .values()
            .filter(|agent| known(agent))
            .map(|agent| &agent.saved.info)
            // One that is prepared has no name yet that it could be called by.
            .filter(|info| {
                (info.name == text && !info.prepared)
                    || (text.len() >= 4 && info.aid.to_string().ends_with(text))
            })
            .collect();
        let live: Vec<&AgentInfo> = named.iter().copied().filter(|info| !info.state.ended()).collect();
        match (live.as_slice(), named.as_slice()) {
            ([one], _) | ([], [one]) => Ok(one.aid),
            ([], []) => Err(nobody(text)),
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

    /// Sends what an agent wrote, from the oldest that is kept.
    pub(crate) async fn send_log(
        &self,
        aid: Aid,
        output: Option<Output>,
        follow: bool,
        items: &Sink<LogChunk>,
    ) -> Result<LogsEnd, ApiError> {
        let log = self.log(aid)?;
        let mut news = log.news();
        let mut at = Cursor::default();
        loop {
            // What is said to be closed here was written before, so it is read below.
            let closed = news.borrow_and_update().closed;
            let failed =
                |e| ApiError::new(Code::Failed, "read an agent's output", aid.to_string(), e, "try again");
            while let Some((stream, data)) = log.read(&mut at).map_err(failed)? {
                if output.is_none_or(|wanted| wanted == stream) {
                    items.send(&LogChunk { stream, data: Base64(data) }).await?;
                }
            }
            if !follow || closed || news.changed().await.is_err() {
                break;
            }
        }
        Ok(LogsEnd { state: self.info(aid)?.state, lost_bytes: log.lost() })
    }

    /// Waits until an agent has ended.
    pub(crate) async fn ended(&self, aid: Aid) -> Result<AgentInfo, ApiError> {
        let changed = self.inner().agents.get(&aid).map(|agent| agent.changed.subscribe());
        let mut changed = changed.ok_or_else(|| no_agent(&aid.to_string()))?;
        // An error means that the agent was forgotten, which happens only after its end.
        let _ = changed.wait_for(|state| state.ended()).await;
        self.info(aid)
    }

    /// How many agents have not ended, how many of them lack a layer, and how many more are prepared.
    pub(crate) fn count(&self) -> (usize, usize, usize) {
        let inner = self.inner();
        let live = inner.agents.values().map(|a| &a.saved.info).filter(|info| !info.state.ended());
        live.fold((0, 0, 0), |(all, bare, prepared), info| {
            let lacks = usize::from(!info.missing_layers.is_empty());
            let waits = usize::from(info.prepared);
            (all + 1 - waits, bare + lacks, prepared + waits)
        })
    }

    /// Whether the spawner takes requests.
    pub(crate) async fn spawner_healthy(&self) -> Result<(), String> {
        self.blocking(|spawner| spawner.ping())
            .await?
            .map_err(|e| format!("the spawner does not answer: {e}"))
    }
}
