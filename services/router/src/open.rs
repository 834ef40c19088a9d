//! A call that is under way: what is reserved for it, what it has used, what became of it. However it ends, it is settled
//! and recorded when this is dropped.

use crate::agents::{Agent, Place, lock};
use crate::ask::Silence;
use crate::kept::Said;
use crate::metrics::{Measured, Of};
use crate::purse::Hold;
use crate::router::{Router, Setup, now_ms};
use octant_api::agents::Amounts;
use octant_api::router::Usage as Counted;
use octant_ids::{Aid, Sha256};
use octant_llm::{Event, Failure, Kind, StopReason, Usage};
use octant_route::{Amount, CacheKey, Load, Ration, Reservation, keepable};
use serde_json::{Value, json};
use sha2::Digest as _;
use std::sync::Arc;

/// How many events of an answer are kept, to be given again.
const EVENTS_MAX: usize = 20_000;

/// How a call ended.
#[derive(Debug, Clone)]
enum End {
    Answered(StopReason),
    Failed(Failure),
    /// What was said cannot be said to who asked: no fault of the upstream's.
    Unsaid(Failure),
}

/// What is set apart for a call.
#[derive(Debug)]
pub(crate) struct Reserved {
    pub(crate) hold: Hold,
    pub(crate) window: Reservation<Aid>,
}

/// A try that is under way.
#[derive(Debug)]
struct Try {
    index: usize,
    call: octant_route::Call,
    since_ms: u64,
    /// Whether the upstream may count something, though it has not said so.
    heard: bool,
}

/// A call that is under way.
pub(crate) struct Open {
    pub(crate) router: Arc<Router>,
    pub(crate) agent: Arc<Agent>,
    pub(crate) setup: Arc<Setup>,
    pub(crate) model: String,
    pub(crate) intent: u64,
    /// At most so many tokens of the prompt.
    input: u64,
    reserved: Option<Reserved>,
    place: Option<Place>,
    since_ms: u64,
    first_ms: Option<u64>,
    trying: Option<Try>,
    tries: Vec<Value>,
    usage: Option<Usage>,
    ration: Ration,
    answer: sha2::Sha256,
    end: Option<End>,
    /// What it is kept by, to be given again, and what has come of it.
    cache: Option<(CacheKey, Vec<Event>)>,
    /// What was said, where that is kept.
    said: Option<Said>,
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Invalid => "invalid",
        Kind::Untranslatable => "untranslatable",
        Kind::Unauthenticated => "unauthenticated",
        Kind::Forbidden => "forbidden",
        Kind::NotFound => "not_found",
        Kind::TooLarge => "too_large",
        Kind::ContextLength => "context_length",
        Kind::RateLimited => "rate_limited",
        Kind::Spent => "spent",
        Kind::Upstream => "upstream",
        Kind::Overloaded => "overloaded",
        Kind::Unreachable => "unreachable",
        Kind::Timeout => "timeout",
        Kind::Cut => "cut",
        Kind::Malformed => "malformed",
        Kind::Cancelled => "cancelled",
    }
}

fn stop(reason: StopReason) -> &'static str {
    match reason {
        StopReason::End => "end",
        StopReason::Length => "length",
        StopReason::Sequence => "sequence",
        StopReason::ToolCalls => "tool_calls",
        StopReason::Refusal => "refusal",
        StopReason::Filtered => "filtered",
        StopReason::Paused => "paused",
    }
}

impl Open {
    pub(crate) fn new(
        router: &Arc<Router>,
        agent: &Arc<Agent>,
        setup: &Arc<Setup>,
        (model, intent, input): (&str, u64, u64),
        reserved: Reserved,
        place: Place,
    ) -> Self {
        Self {
            router: Arc::clone(router),
            agent: Arc::clone(agent),
            setup: Arc::clone(setup),
            model: model.to_owned(),
            intent,
            input,
            reserved: Some(reserved),
            place: Some(place),
            since_ms: now_ms(),
            first_ms: None,
            trying: None,
            tries: Vec::new(),
            usage: None,
            ration: Ration::new(u64::MAX),
            answer: sha2::Sha256::new(),
            end: None,
            cache: None,
            said: None,
        }
    }

    /// What is kept of it: the answer, to be given again; the prompt and the answer, for operators.
    pub(crate) fn keeps(&mut self, key: Option<CacheKey>, prompt: Option<Vec<u8>>) {
        self.cache = key.map(|key| (key, Vec::new()));
        self.said = prompt.map(|prompt| Said { prompt, answer: Vec::new() });
    }

    /// A deployment is asked, which may answer with so many tokens.
    pub(crate) fn tries(&mut self, index: usize, call: octant_route::Call, most: u64) {
        (self.usage, self.ration) = (None, Ration::new(most));
        self.answer = sha2::Sha256::new();
        if let Some((_, events)) = &mut self.cache {
            events.clear();
        }
        self.trying = Some(Try { index, call, since_ms: now_ms(), heard: false });
    }

    /// The call of the try that is under way.
    pub(crate) fn call(&self) -> Option<&octant_route::Call> {
        self.trying.as_ref().map(|trying| &trying.call)
    }

    /// The upstream has begun to answer.
    pub(crate) fn hears(&mut self) {
        if let Some(trying) = &mut self.trying {
            trying.heard = true;
            lock(&self.setup.health).first_byte(&mut trying.call, now_ms());
            self.first_ms.get_or_insert(now_ms().saturating_sub(self.since_ms));
        }
    }

    /// The deployment did not answer.
    pub(crate) fn try_failed(&mut self, silence: &Silence) {
        let failure = silence.failure();
        let Some(Try { index, call, since_ms, heard: _ }) = self.trying.take() else { return };
        // It may have answered what nobody can be told.
        self.end = None;
        let name = &self.setup.catalogue.deployments[index].name;
        let ms = now_ms().saturating_sub(since_ms);
        let why: String = failure.message.chars().take(300).collect();
        self.tries.push(json!({"deployment": name, "failed": kind(failure.kind), "why": why, "ms": ms}));
        silence.ends(call, &mut lock(&self.setup.health));
    }

    /// Bytes went to who asked.
    pub(crate) fn said(&mut self, bytes: &[u8]) {
        self.answer.update(bytes);
        if let Some(said) = &mut self.said {
            said.more(bytes);
        }
    }

    /// What the upstream says.
    ///
    /// # Errors
    /// That it has said more than was reserved for it.
    pub(crate) fn event(&mut self, event: &Event) -> Result<(), Failure> {
        if let Some((_, events)) = &mut self.cache {
            events.push(event.clone());
            // What is so long is kept by nobody.
            if events.len() > EVENTS_MAX {
                self.cache = None;
            }
        }
        let over = |over: octant_route::Over| Failure::new(Kind::Spent, over.to_string());
        match event {
            Event::Delta { delta, .. } => {
                use octant_llm::Delta::{Arguments, Reasoning, Refusal, Signature, Text};
                let (Text(text) | Refusal(text) | Reasoning(text) | Signature(text) | Arguments(text)) =
                    delta;
                self.ration.bytes(text.len()).map_err(over)?;
            }
            Event::Usage(usage) => {
                self.usage = Some(*usage);
                self.ration.told(usage.output).map_err(over)?;
            }
            Event::Finished { reason, .. } => self.end = Some(End::Answered(*reason)),
            Event::Failed(failure) => self.failed(failure.clone()),
            Event::Started { .. } | Event::BlockStarted { .. } | Event::BlockStopped { .. } => {}
        }
        Ok(())
    }

    /// The call came to nothing, or not to its end; the first word counts.
    pub(crate) fn failed(&mut self, failure: Failure) {
        self.end.get_or_insert(End::Failed(failure));
    }

    /// The program's dialect has no word for something that the upstream said: however that ended, this is how the call did.
    pub(crate) fn unsaid(&mut self, failure: Failure) {
        self.end = Some(End::Unsaid(failure));
    }

    /// What the try that is under way has used: as the upstream says, or else as much as it can have.
    fn used(&self, trying: &Try) -> (Usage, bool) {
        match self.usage {
            Some(usage) => (usage, true),
            None if trying.heard => {
                (Usage { input: self.input, output: self.ration.owed(), ..Usage::default() }, false)
            }
            None => (Usage::default(), true),
        }
    }

    fn finish(&mut self) {
        let end = self.end.take().unwrap_or_else(|| {
            let why = "who asked went away, or the router ended";
            End::Failed(Failure::new(Kind::Cancelled, why))
        });
        let now = now_ms();
        let mut became = json!({"ms": now.saturating_sub(self.since_ms), "first_ms": self.first_ms});
        let mut measured =
            Measured { ms: now.saturating_sub(self.since_ms), first_ms: self.first_ms, ..Default::default() };
        let mut provider = String::new();
        if let Some(trying) = self.trying.take() {
            let deployment = &self.setup.catalogue.deployments[trying.index];
            let (usage, told) = self.used(&trying);
            let cost = deployment.known.price(usage).unwrap_or(0);
            provider.clone_from(&deployment.provider.name);
            became["deployment"] = json!(deployment.name);
            became["usage"] = json!({
                "input": usage.input, "output": usage.output, "cache_read": usage.cache_read,
                "cache_write": usage.cache_write, "reasoning": usage.reasoning, "told": told,
            });
            became["microusd"] = json!(cost);
            (measured.input, measured.output, measured.microusd) = (usage.input, usage.output, cost);
            let used = Load { input: usage.input, output: usage.output };
            let mut health = lock(&self.setup.health);
            match &end {
                End::Answered(_) | End::Unsaid(_) => health.succeeded(trying.call, used, now),
                End::Failed(failure) => health.failed(trying.call, failure, now),
            }
        }
        if let End::Answered(reason) = &end {
            self.put(*reason);
        }
        if let Some(said) = self.said.take() {
            self.router.keep(self.agent.aid, self.intent, said);
        }
        let name = match &end {
            End::Answered(reason) => {
                became["done"] = json!(true);
                became["stop"] = json!(stop(*reason));
                "ok"
            }
            End::Failed(failure) | End::Unsaid(failure) => {
                became["done"] = json!(false);
                let why: String = failure.message.chars().take(500).collect();
                (became["failed"], became["why"]) = (json!(kind(failure.kind)), json!(why));
                kind(failure.kind)
            }
        };
        became["answer_sha256"] = json!(Sha256(std::mem::take(&mut self.answer).finalize().into()));
        became["tries"] = json!(self.tries);
        self.router.metrics.count(Of { provider, model: self.model.clone(), end: name }, &measured);
        self.settle(&measured, name == "ok");
        self.router.book.outcome(self.agent.on_record(), self.intent, &became);
        if self.agent.rights().dismissed {
            // The agent has ended, and its partition is sealed soon.
            self.router.book.hurry();
        }
    }

    /// Keeps the answer, to be given again.
    fn put(&mut self, reason: StopReason) {
        if let (Some((key, events)), Some(cache)) = (self.cache.take(), &self.setup.cache)
            && keepable(reason).is_ok()
        {
            let bytes = events.iter().map(|event| match event {
                Event::Delta { delta, .. } => delta.text().len(),
                _ => 64,
            });
            let bytes = bytes.sum();
            lock(cache).put(key, events, bytes, now_ms());
        }
    }

    fn settle(&mut self, measured: &Measured, answered: bool) {
        let Measured { input, output, microusd, .. } = *measured;
        let tokens = input.saturating_add(output);
        if let Some(Reserved { hold, window }) = self.reserved.take() {
            hold.settle(Amounts { tokens, microusd, ..Amounts::default() });
            self.router.settle(window, Amount { tokens, microusd });
        }
        let (calls, failed) = (u64::from(answered), u64::from(!answered));
        let counted = Counted { calls, failed, input, output, microusd, ..Counted::default() };
        self.agent.count(&self.model, &counted);
        drop(self.place.take());
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.finish();
    }
}
