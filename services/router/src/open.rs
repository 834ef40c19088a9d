//! A call that is under way: what is reserved for it, what it has used, what became of it. However it ends, it is settled
//! and recorded when this is dropped.

use crate::agents::{Agent, Place, lock};
use crate::ask::Silence;
use crate::judged::Answered;
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
    /// How many tokens its answer may have.
    most: u64,
    /// Whether it can have used those without a word of them: it answers in one piece, or thinks before it speaks.
    unseen: bool,
    /// Whether the upstream may count something, though it has not said so.
    asked: bool,
}

/// A call that is under way.
pub(crate) struct Open {
    pub(crate) router: Arc<Router>,
    pub(crate) agent: Arc<Agent>,
    pub(crate) setup: Arc<Setup>,
    pub(crate) model: String,
    pub(crate) intent: u64,
    /// By what who asked may judge the answer.
    pub(crate) id: u64,
    /// At most so many tokens of the prompt.
    input: u64,
    reserved: Option<Reserved>,
    place: Option<Place>,
    since_ms: u64,
    first_ms: Option<u64>,
    trying: Option<Try>,
    tries: Vec<Value>,
    /// What tries have used that came to nothing.
    wasted: Measured,
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

/// Whether nobody knows what an upstream did after such a failure.
pub(crate) fn unknown(kind: Kind) -> bool {
    matches!(kind, Kind::Cancelled | Kind::Timeout | Kind::Cut | Kind::Malformed)
}

fn shown(usage: Usage, told: bool) -> Value {
    let Usage { input, cache_read, cache_write, output, reasoning } = usage;
    json!({
        "input": input, "output": output, "cache_read": cache_read, "cache_write": cache_write, "reasoning": reasoning,
        "told": told,
    })
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
            id: 0,
            input,
            reserved: Some(reserved),
            place: Some(place),
            since_ms: now_ms(),
            first_ms: None,
            trying: None,
            tries: Vec::new(),
            wasted: Measured::default(),
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

    /// A deployment is to be asked, which may answer with so many tokens, and whether they can be unseen.
    pub(crate) fn tries(&mut self, index: usize, call: octant_route::Call, (most, unseen): (u64, bool)) {
        (self.usage, self.ration) = (None, Ration::new(most));
        self.answer = sha2::Sha256::new();
        if let Some((_, events)) = &mut self.cache {
            events.clear();
        }
        self.trying = Some(Try { index, call, since_ms: now_ms(), most, unseen, asked: false });
    }

    /// The call of the try that is under way.
    pub(crate) fn call(&self) -> Option<&octant_route::Call> {
        self.trying.as_ref().map(|trying| &trying.call)
    }

    /// It is asked from here on, whoever goes away.
    pub(crate) fn asks(&mut self) {
        if let Some(trying) = &mut self.trying {
            trying.asked = true;
        }
    }

    /// The upstream has begun to answer.
    pub(crate) fn hears(&mut self) {
        if let Some(trying) = &mut self.trying {
            lock(&self.setup.health).first_byte(&mut trying.call, now_ms());
            self.first_ms.get_or_insert(now_ms().saturating_sub(self.since_ms));
        }
    }

    /// The deployment did not answer.
    pub(crate) fn try_failed(&mut self, silence: &Silence) {
        let failure = silence.failure();
        let Some(trying) = self.trying.take() else { return };
        // It may have answered what nobody can be told.
        self.end = None;
        let deployment = &self.setup.catalogue.deployments[trying.index];
        let ms = now_ms().saturating_sub(trying.since_ms);
        let why: String = failure.message.chars().take(300).collect();
        let mut row =
            json!({"deployment": deployment.name, "failed": kind(failure.kind), "why": why, "ms": ms});
        if let Silence::Lost(_) = silence {
            let (usage, told) = self.used(&trying, false, unknown(failure.kind));
            let cost = deployment.known.price(usage).unwrap_or(0);
            (row["usage"], row["microusd"]) = (shown(usage, told), json!(cost));
            self.wasted.add(usage, cost);
        }
        self.tries.push(row);
        silence.ends(trying.call, &mut lock(&self.setup.health));
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

    /// What a try has used: as the upstream says, where it came to its end, or else as much as it can have.
    fn used(&self, trying: &Try, whole: bool, unknown: bool) -> (Usage, bool) {
        if !trying.asked {
            return (Usage::default(), true);
        }
        let said = self.usage.unwrap_or_default();
        let owed = if trying.unseen && unknown { trying.most } else { self.ration.owed() };
        // There is no prompt without a token: who says so does not say it.
        if whole && said.input > 0 && (said.output > 0 || owed == 0) {
            return (said, true);
        }
        let input = if said.input > 0 { said.input } else { self.input };
        (Usage { input, output: said.output.max(owed), ..said }, false)
    }

    fn finish(&mut self) {
        let end = self.end.take().unwrap_or_else(|| {
            let why = "who asked went away, or the router ended";
            End::Failed(Failure::new(Kind::Cancelled, why))
        });
        let ms = now_ms().saturating_sub(self.since_ms);
        let mut became = json!({"ms": ms, "first_ms": self.first_ms});
        let mut measured = Measured { ms, first_ms: self.first_ms, ..std::mem::take(&mut self.wasted) };
        let trying = self.trying.take();
        let provider = trying.map(|trying| self.tried(trying, &end, (&mut became, &mut measured)));
        let provider = provider.unwrap_or_default();
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
        self.router
            .metrics
            .count(Of { provider: provider.clone(), model: self.model.clone(), end: name }, &measured);
        self.settle(&measured, name == "ok", &provider);
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

    /// What the last who was asked used, and how that ended for it: said in the outcome, counted, and kept in mind for the
    /// next choice. Gives its provider.
    fn tried(&self, trying: Try, end: &End, (became, measured): (&mut Value, &mut Measured)) -> String {
        let deployment = &self.setup.catalogue.deployments[trying.index];
        let (whole, lost) = match end {
            End::Answered(_) => (true, false),
            // Nobody has read on to what the upstream says at its end.
            End::Unsaid(_) => (false, false),
            End::Failed(failure) => (false, unknown(failure.kind)),
        };
        let (usage, told) = self.used(&trying, whole, lost);
        let cost = deployment.known.price(usage).unwrap_or(0);
        became["deployment"] = json!(deployment.name);
        (became["usage"], became["microusd"]) = (shown(usage, told), json!(cost));
        measured.add(usage, cost);
        let used = Load { input: usage.input, output: usage.output };
        let mut health = lock(&self.setup.health);
        match end {
            End::Answered(_) => {
                let answer =
                    Answered { id: self.id, intent: self.intent, deployment: deployment.name.clone() };
                lock(&self.agent.answered).add(answer);
                health.succeeded(trying.call, used, now_ms());
            }
            End::Unsaid(_) => health.succeeded(trying.call, used, now_ms()),
            End::Failed(failure) => health.failed(trying.call, failure, now_ms()),
        }
        deployment.provider.name.clone()
    }

    fn settle(&mut self, measured: &Measured, answered: bool, provider: &str) {
        let Measured { input, output, microusd, .. } = *measured;
        let tokens = input.saturating_add(output);
        if let Some(Reserved { hold, window }) = self.reserved.take() {
            hold.settle(Amounts { tokens, microusd, ..Amounts::default() });
            self.router.windows.settle(window, Amount { tokens, microusd });
        }
        let (calls, failed) = (u64::from(answered), u64::from(!answered));
        let counted = Counted { calls, failed, input, output, microusd, ..Counted::default() };
        self.router.count_usage(&self.agent, &self.model, provider, &counted);
        drop(self.place.take());
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.finish();
    }
}
