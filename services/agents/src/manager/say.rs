//! What operators say to agents, and how agents hear it.

use super::{Manager, Refusal, no_agent};
use crate::words::digest;
use octant_api::agent::{Words, WordsRequest};
use octant_api::agents::SaidInfo;
use octant_api::error::{ApiError, Code};
use octant_ids::{Aid, Principal};
use serde_json::json;
use std::time::Duration;

/// How long an agent can wait for words, in milliseconds.
const WAIT_MAX_MS: u64 = 30_000;

impl Manager {
    /// Says something to an agent. It is on record first, by its digest.
    pub(crate) async fn say(
        &self,
        aid: Aid,
        text: Option<String>,
        stop: bool,
        caller: &Principal,
    ) -> Result<SaidInfo, Refusal> {
        let invalid = |why: String| (Code::InvalidParams, why);
        {
            let inner = self.inner();
            let agent = inner.agents.get(&aid).filter(|agent| !agent.state.phase.ended());
            let agent = agent.ok_or_else(|| (Code::Conflict, "it has ended".to_owned()))?;
            text.as_deref().map_or(Ok(()), |text| agent.saved.words.fits(text)).map_err(invalid)?;
            if text.is_none() && !stop {
                return Err(invalid("there is nothing to say".to_owned()));
            }
        }
        let what = json!({"do": "say", "stop": stop, "text": text.as_deref().map(digest)});
        match text {
            Some(_) => self.record_command_first(aid, caller, what).await?,
            // What takes away never waits.
            None => self.record_command(aid, caller, what),
        }
        let mut inner = self.inner();
        let agent = inner.agents.get_mut(&aid).ok_or_else(|| (Code::Conflict, "it has ended".to_owned()))?;
        text.as_deref().map_or(Ok(()), |text| agent.saved.words.fits(text)).map_err(invalid)?;
        agent.saved.words.say(text, stop);
        let number = agent.saved.words.count();
        agent.said.send_modify(|count| *count += 1);
        self.keep(&mut inner, aid, false);
        Ok(SaidInfo { number })
    }

    /// What was said to an agent, or will be while it waits.
    pub(crate) async fn words(&self, aid: Aid, asked: &WordsRequest) -> Result<Words, ApiError> {
        let gone = || no_agent(&aid.to_string());
        let mut said = self.inner().agents.get(&aid).ok_or_else(gone)?.said.subscribe();
        let waits = async {
            loop {
                said.borrow_and_update();
                let news = {
                    let inner = self.inner();
                    inner
                        .agents
                        .get(&aid)
                        .is_none_or(|agent| agent.saved.words.news(asked.after, asked.stops))
                };
                // The agent does not end before who waits in its socket.
                if news || said.changed().await.is_err() {
                    return;
                }
            }
        };
        let most = Duration::from_millis(asked.wait_ms.min(WAIT_MAX_MS));
        // The time being over is an answer too: nothing was said.
        let _ = tokio::time::timeout(most, waits).await;
        let inner = self.inner();
        inner.agents.get(&aid).map(|agent| agent.saved.words.after(asked.after)).ok_or_else(gone)
    }
}
