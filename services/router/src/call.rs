//! One call: from what a program asks to whom it goes, what is set apart for it, and who is asked next where one fails.

use crate::agents::{Agent, Place, lock};
use crate::ask::{Sending, Silence, Spoken, ask};
use crate::core::Denied;
use crate::extras;
use crate::http::{self, Asked, Reply, failed};
use crate::judged;
use crate::listing;
use crate::open::{Open, Reserved, unknown};
use crate::relay::{self, Voice};
use crate::router::{Router, Setup, now_ms};
use crate::secrets::Coming;
use crate::splice;
use crate::surface::Ask;
use octant_api::agents::Amounts;
use octant_ids::Sha256;
use octant_llm::{Dialect, Failure, Kind, Request, estimate};
use octant_route::{
    Abilities, Ability, Amount, CacheKey, Choice, Load, Next, OutputField, Plan, cache_key, cacheable,
};
use serde_json::{Value, json};
use sha2::Digest as _;
use std::sync::Arc;
use std::time::Duration;

/// For how many tokens of an answer a place is kept where neither the request nor what is known of the model says how many.
const OUTPUT: u64 = 8192;
/// For how many at the most where the request does not say.
const OUTPUT_MAX: u64 = 32_768;
/// With fewer tokens of an answer than this nobody is asked who did not say that so few are enough.
const OUTPUT_LEAST: u64 = 16;
/// How many tokens a model is taken to have room for of which nobody has said it.
const WINDOW: u64 = 1_000_000;
/// How long an upstream may take to begin its answer, where the whole call may take longer.
const BEGINS_WITHIN_MS: u64 = 300_000;
/// The pause where somebody else was faster to take the place of a deployment.
const TAKEN: Duration = Duration::from_millis(5);

/// An answer that is kept, to be given again.
pub(crate) type Kept = Vec<octant_llm::Event>;

/// Answers a request of an agent.
pub(crate) async fn answer(router: &Arc<Router>, agent: &Arc<Agent>, what: Ask, asked: Asked) -> Reply {
    match what {
        Ask::Alive => http::alive(),
        Ask::Version => http::version(),
        Ask::List(dialect) => listing::list(router, agent, dialect),
        Ask::Show(dialect, model) => listing::show(router, agent, dialect, model, &asked.body),
        Ask::Count => listing::count(&asked.body),
        Ask::Judge => judged::judge(router, agent, &asked.body),
        Ask::Embed(dialect) => match Call::embed(router, agent, dialect, asked).await {
            Ok(reply) => reply,
            Err(failure) => failed(dialect, &failure),
        },
        Ask::Answer(dialect) => match Call::speak(router, agent, dialect, asked).await {
            Ok(reply) => reply,
            Err(failure) => failed(dialect, &failure),
        },
    }
}

/// What is asked for.
pub(crate) enum Wanted {
    Answer(Request),
    /// Vectors, and a request that looks like it to who chooses.
    Vectors(octant_llm::embeddings::Request, Request),
}

/// What is known of a prompt before anybody has counted it.
#[derive(Debug, Default)]
struct Weight {
    /// At most so many tokens, unless it has what cannot be weighed.
    input: u64,
    /// What it asks for beyond an answer to what stands in it.
    extra: Option<String>,
    /// Whether it has what cannot be weighed.
    unbounded: bool,
}

/// A call before anybody is asked.
pub(crate) struct Call {
    pub(crate) router: Arc<Router>,
    pub(crate) agent: Arc<Agent>,
    pub(crate) setup: Arc<Setup>,
    pub(crate) dialect: Dialect,
    pub(crate) wanted: Wanted,
    pub(crate) asked: Asked,
    /// Why it can be said in its own dialect alone, where that is so.
    untranslatable: Option<Failure>,
}

/// Waits, where there is something to wait for: a timer takes its millisecond even for no time at all.
async fn pause(ms: u64) {
    if ms > 0 {
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }
}

fn refusal(agent: &Agent, why: &Denied) -> Failure {
    let mut failure =
        Failure::new(why.kind(), format!("octant: {why}; {}", why.next(agent.aid, agent.by.as_deref())));
    failure.field = why.field().map(str::to_owned);
    failure.retry_after_ms = why.retry_after_ms();
    failure
}

impl Call {
    /// A call for an answer.
    async fn speak(
        router: &Arc<Router>,
        agent: &Arc<Agent>,
        dialect: Dialect,
        asked: Asked,
    ) -> Result<Reply, Failure> {
        one_meaning(&asked.body)?;
        let (request, untranslatable) = match dialect.read_request(&asked.body) {
            Ok(request) => (request, None),
            // An upstream that speaks the same may understand it.
            Err(failure) if failure.kind == Kind::Untranslatable => {
                (bare(dialect, &asked.body)?, Some(failure))
            }
            Err(failure) => return Err(failure),
        };
        Self::run(router, agent, dialect, Wanted::Answer(request), asked, untranslatable).await
    }

    /// A call for vectors.
    async fn embed(
        router: &Arc<Router>,
        agent: &Arc<Agent>,
        dialect: Dialect,
        asked: Asked,
    ) -> Result<Reply, Failure> {
        one_meaning(&asked.body)?;
        let vectors = octant_llm::embeddings::read_request(dialect, &asked.body)?;
        let mut like = crate::router::question(&vectors.model, "", Some(0));
        like.messages.clear();
        Self::run(router, agent, dialect, Wanted::Vectors(vectors, like), asked, None).await
    }

    async fn run(
        router: &Arc<Router>,
        agent: &Arc<Agent>,
        dialect: Dialect,
        wanted: Wanted,
        asked: Asked,
        untranslatable: Option<Failure>,
    ) -> Result<Reply, Failure> {
        let deny = |model: &str, why: Denied| {
            router.denied(agent, model, &why);
            refusal(agent, &why)
        };
        let setup = router.setup().ok_or_else(|| {
            let next =
                format!("see octant router status; correct {} and run octant router reload", router.file());
            Failure::new(
                Kind::Overloaded,
                format!("the operator's configuration of models is not in force; {next}"),
            )
        })?;
        let call = Self {
            router: Arc::clone(router),
            agent: Arc::clone(agent),
            setup,
            dialect,
            wanted,
            asked,
            untranslatable,
        };
        let model = call.request().model.clone();
        let place = agent.place(call.asked.body.len()).map_err(|why| deny(&model, why))?;
        let Weight { mut input, extra, unbounded } = call.weighs();
        if let Some(what) = extra.filter(|_| !agent.rights().extras) {
            return Err(deny(&model, Denied::Extras(what)));
        }
        let (mut choice, seed, load) =
            router.choose(&call.setup, Some(agent), (call.request(), call.needs()), input);
        if choice.candidates.is_empty() {
            let granted = agent.rights().grants(&model);
            let named = choice.left_out.iter().any(|left| left.reason != octant_route::Reason::NotAllowed);
            if !granted && !named {
                return Err(deny(&model, Denied::NoGrant(model.chars().take(100).collect())));
            }
            return Err(choice.refusal(&call.setup.catalogue, &model));
        }
        if unbounded {
            // What is read elsewhere, or is no text, can fill all of what the model has room for.
            let windows = choice.candidates.iter().map(|candidate| call.window(candidate.deployment));
            input = windows.fold(input, u64::max);
        }
        let key = call.key();
        if let Some(reply) = key.and_then(|key| call.cached(&key)) {
            return reply;
        }
        let reserved = call.reserve(&mut choice, input).await.map_err(|why| deny(&model, why))?;
        call.go(choice, seed, (input, load), reserved, place).await
    }

    /// What an answer is kept by, where it may be given again: the manifest and the operator both say so, and nobody expects
    /// another one each time.
    fn key(&self) -> Option<CacheKey> {
        let Wanted::Answer(request) = &self.wanted else { return None };
        let may = self.agent.rights().cache && self.setup.cache.is_some() && self.untranslatable.is_none();
        (may && cacheable(request, false).is_ok()).then(|| cache_key(&self.agent.aid.to_string(), request))
    }

    /// The answer that this agent had to the same request before.
    fn cached(&self, key: &CacheKey) -> Option<Result<Reply, Failure>> {
        let events = lock(self.setup.cache.as_ref()?).get(key, now_ms())?.clone();
        let request = self.request();
        let body = if request.stream {
            let (mut out, mut encoder) = (Vec::new(), self.dialect.encoder(request));
            events.iter().for_each(|event| encoder.event(event, &mut out));
            encoder.unsaid().map_or(Ok((self.dialect.stream_type(), out)), |failure| Err(failure.clone()))
        } else {
            self.dialect.write_answer(request, &events).map(|out| (http::JSON, out))
        };
        let (kind, body) = match body {
            Ok(found) => found,
            Err(failure) => return Some(Err(failure)),
        };
        let counted = octant_api::router::Usage { cached: 1, ..Default::default() };
        self.router.count_usage(&self.agent, &request.model, "", &counted);
        let digest = |bytes: &[u8]| Sha256(sha2::Sha256::digest(bytes).into());
        let payload = json!({
            "do": "ask a model", "cached": true, "model": request.model,
            "prompt_sha256": digest(&self.asked.body), "answer_sha256": digest(&body),
        });
        self.router.book.decided(self.agent.on_record(), &payload);
        Some(Ok(http::whole(200, kind, body)))
    }

    /// What who chooses looks at.
    pub(crate) fn request(&self) -> &Request {
        match &self.wanted {
            Wanted::Answer(request) | Wanted::Vectors(_, request) => request,
        }
    }

    /// What it needs of a model.
    fn needs(&self) -> Abilities {
        match &self.wanted {
            Wanted::Answer(request) => Abilities::needed(request),
            Wanted::Vectors(..) => Abilities::default().with(Ability::Embeddings),
        }
    }

    /// How many tokens the prompt can have, and what it asks for beyond an answer.
    fn weighs(&self) -> Weight {
        let Wanted::Answer(request) = &self.wanted else {
            // There is no token without a byte.
            return Weight { input: self.asked.body.len() as u64, ..Weight::default() };
        };
        if self.untranslatable.is_none() {
            return Weight { input: estimate(request), extra: extras::of_request(request), unbounded: false };
        }
        let body: Value = serde_json::from_slice(&self.asked.body).unwrap_or_default();
        let extra = extras::of_body(&body);
        let unbounded = extra.is_some() || extras::has_media(&body);
        Weight { input: self.asked.body.len() as u64, extra, unbounded }
    }

    /// How many tokens there can be room for.
    fn window(&self, index: usize) -> u64 {
        self.setup.catalogue.deployments[index].known.window.unwrap_or(WINDOW)
    }

    /// How many tokens of an answer a deployment may be asked for where the request does not say.
    fn usual(&self, index: usize) -> u64 {
        self.setup.catalogue.deployments[index].known.max_output.unwrap_or(OUTPUT).min(OUTPUT_MAX)
    }

    /// What an answer of so many tokens can cost there.
    fn cost(&self, index: usize, input: u64, output: u64) -> u64 {
        let rates = self.setup.catalogue.deployments[index].known.rates(input);
        rates.map_or(0, |rates| rates.most(input, output))
    }

    /// How many tokens of an answer what is reserved pays for there.
    fn affords(&self, index: usize, input: u64, amounts: Amounts) -> u64 {
        let rates = self.setup.catalogue.deployments[index].known.rates(input);
        let money = rates.map_or(u64::MAX, |rates| rates.affordable(amounts.microusd, input));
        let wanted = self.request().max_output.unwrap_or_else(|| self.usual(index));
        amounts.tokens.saturating_sub(input).min(money).min(wanted)
    }

    /// Sets apart what the dearest of the candidates can use; who is dearer than what there is leaves.
    async fn reserve(&self, choice: &mut Choice, input: u64) -> Result<Reserved, Denied> {
        let indices: Vec<usize> = choice.candidates.iter().map(|candidate| candidate.deployment).collect();
        let explicit = self.request().max_output;
        let most = |index: usize| explicit.unwrap_or_else(|| self.usual(index));
        let least = |index: usize| explicit.unwrap_or_else(|| self.usual(index).min(OUTPUT_LEAST));
        let of = |output: &dyn Fn(usize) -> u64| {
            let tokens = indices.iter().map(|index| input.saturating_add(output(*index)));
            let microusd = indices.iter().map(|index| self.cost(*index, input, output(*index)));
            (tokens.collect::<Vec<u64>>(), microusd.collect::<Vec<u64>>())
        };
        let ((tokens, microusd), (least_tokens, least_microusd)) = (of(&most), of(&least));
        let amounts = |tokens: Option<u64>, microusd: Option<u64>| Amounts {
            tokens: tokens.unwrap_or(0),
            microusd: microusd.unwrap_or(0),
            ..Amounts::default()
        };
        let most = amounts(tokens.into_iter().max(), microusd.into_iter().max());
        let needed = amounts(least_tokens.into_iter().min(), least_microusd.into_iter().min());
        let mut hold = self.agent.purse.reserve(needed, most).await?;
        // As much as the windows of the minute have room for, where that is enough.
        let room = self.router.room(&self.agent);
        let within = Amounts { tokens: room.tokens, microusd: room.microusd, ..Amounts::default() };
        if room.tokens >= needed.tokens && room.microusd >= needed.microusd {
            hold.shrink(within);
        }
        let has = hold.amounts();
        let window =
            self.router.window(&self.agent, Amount { tokens: has.tokens, microusd: has.microusd }).await?;
        choice.candidates.retain(|candidate| {
            self.affords(candidate.deployment, input, has) >= least(candidate.deployment)
        });
        Ok(Reserved { hold, window })
    }

    /// Puts it on record and asks one after the other.
    async fn go(
        self,
        choice: Choice,
        seed: u64,
        (input, load): (u64, Load),
        reserved: Reserved,
        place: Place,
    ) -> Result<Reply, Failure> {
        let amounts = reserved.hold.amounts();
        let model = self.request().model.clone();
        let mut plan = Plan::new(&self.setup.catalogue, &choice, load, seed, now_ms(), u64::MAX);
        let mut next = plan.next(&lock(&self.setup.health), now_ms());
        // The vault puts its own entry on record while the ledger takes this one; nothing is asked before both are there.
        let mut early = self.early(&next);
        let mut open = self.opened(&choice, input, reserved, place).await?;
        open.id = seed;
        open.keeps(self.key(), self.agent.rights().keep_prompts.then(|| self.asked.body.to_vec()));
        loop {
            let (index, after_ms) = match next {
                Next::Try { deployment, after_ms } => (deployment, after_ms),
                Next::Give(failure) => {
                    open.failed(failure.clone());
                    return Err(failure);
                }
            };
            pause(after_ms).await;
            let started = lock(&self.setup.health).started(index, load, now_ms());
            let Ok(call) = started else {
                tokio::time::sleep(TAKEN).await;
                next = plan.next(&lock(&self.setup.health), now_ms());
                continue;
            };
            let most = self.affords(index, input, amounts);
            open.tries(index, call, (most, self.unseen(index)));
            let own = self.setup.catalogue.deployments[index].full.clone();
            let left_ms = plan.until_ms().saturating_sub(now_ms()).clamp(1, BEGINS_WITHIN_MS);
            let within = Duration::from_millis(left_ms);
            let key = early.take().filter(|(of, _)| *of == index).map(|(_, key)| key);
            let tried = tokio::select! {
                biased;
                why = self.agent.revoked(&model, &own) => {
                    let failure = refusal(&self.agent, &why);
                    open.failed(Failure::new(Kind::Cancelled, failure.message.clone()));
                    return Err(failure);
                }
                tried = self.attempt(index, most, (within, key), &mut open) => tried,
            };
            match tried {
                Ok(ready) => return Ok(judged::with_id(relay::reply(ready, open, model, own), seed)),
                Err(silence) => {
                    open.try_failed(&silence);
                    plan.failed(index, silence.failure(), false);
                }
            }
            next = plan.next(&lock(&self.setup.health), now_ms());
        }
    }

    /// The key of who is asked next, where that is at once: it comes while something else is waited for.
    fn early(&self, next: &Next) -> Option<(usize, Coming)> {
        let Next::Try { deployment, after_ms: 0 } = *next else { return None };
        let name = self.setup.catalogue.deployments[deployment].key.as_ref()?;
        Some((deployment, self.router.keys.key(name, &self.setup.endpoints[deployment].host)))
    }

    /// Puts it on record, and opens it. Who asks can go away meanwhile: what is on record then has its end all the same, and
    /// what was set apart is back.
    async fn opened(
        &self,
        choice: &Choice,
        input: u64,
        reserved: Reserved,
        place: Place,
    ) -> Result<Open, Failure> {
        let (router, agent, setup) =
            (Arc::clone(&self.router), Arc::clone(&self.agent), Arc::clone(&self.setup));
        let (model, payload) = (self.request().model.clone(), self.intent(choice, reserved.hold.amounts()));
        let opening = tokio::spawn(async move {
            match router.book.intent(agent.on_record(), payload).await {
                Ok(intent) => {
                    Ok(Open::new(&router, &agent, &setup, (&model, intent, input), reserved, place))
                }
                Err(why) => {
                    router.windows.settle(reserved.window, Amount::default());
                    Err(why)
                }
            }
        });
        opening.await.unwrap_or_else(|error| Err(error.to_string())).map_err(|why| {
            Failure::new(
                Kind::Overloaded,
                format!("octant: nothing is asked that cannot be put on record: {why}"),
            )
        })
    }

    /// What goes on record before an upstream gets a byte.
    fn intent(&self, choice: &Choice, amounts: Amounts) -> Value {
        let row = |index: usize| {
            let deployment = &self.setup.catalogue.deployments[index];
            json!({
                "deployment": deployment.name, "model": deployment.full, "host": self.setup.endpoints[index].host,
                "key": deployment.key,
            })
        };
        let request = self.request();
        let mut intent = json!({
            "do": "ask a model",
            "model": request.model,
            "dialect": format!("{:?}", self.dialect),
            "stream": request.stream,
            "prompt_sha256": Sha256(sha2::Sha256::digest(&self.asked.body).into()),
            "to": choice.candidates.iter().map(|candidate| row(candidate.deployment)).collect::<Vec<_>>(),
            "reserved": {"tokens": amounts.tokens, "microusd": amounts.microusd},
            "generation": self.agent.rights().generation,
        });
        if let Some(by) = &self.agent.by {
            intent["by"] = json!(by);
        }
        intent
    }

    /// Asks one deployment, until it has begun to answer.
    async fn attempt(
        &self,
        index: usize,
        most: u64,
        (within, key): (Duration, Option<Coming>),
        open: &mut Open,
    ) -> Result<relay::Ready, Silence> {
        let deployment = &self.setup.catalogue.deployments[index];
        let theirs = deployment.provider.dialect;
        let stream = self.request().stream;
        let (path, body) = match &self.wanted {
            Wanted::Answer(request) => {
                (Some(deployment.path(stream)), self.written(request, index, theirs, most)?)
            }
            Wanted::Vectors(vectors, _) => {
                let mut vectors = vectors.clone();
                vectors.model.clone_from(&deployment.model);
                (deployment.embeddings_path(), octant_llm::embeddings::write_request(theirs, &vectors)?)
            }
        };
        let path = path.ok_or_else(|| {
            Failure::new(Kind::Untranslatable, format!("{} makes no vectors", deployment.provider.name))
        })?;
        let same = theirs == self.dialect;
        let hints = same.then_some(&self.asked.hints);
        open.asks();
        let Some(call) = open.call() else {
            return Err(Failure::new(Kind::Upstream, "the try is over").into());
        };
        let sending = Sending { index, path, body, hints, within, key };
        let spoken = ask(&self.router, &self.setup, sending, call).await?;
        open.hears();
        let voice = Voice { ours: self.dialect, theirs, same };
        let begun = self.begin(spoken, voice, open, theirs).await;
        begun.map_err(|failure| match unknown(failure.kind) {
            true => Silence::Lost(failure),
            false => Silence::Failed(failure),
        })
    }

    /// Whether a deployment can use tokens of an answer without saying any of it.
    fn unseen(&self, index: usize) -> bool {
        let Wanted::Answer(request) = &self.wanted else { return false };
        let deployment = &self.setup.catalogue.deployments[index];
        // Of these Anthropic's alone think only where they are told to.
        let told = deployment.provider.dialect != Dialect::Anthropic
            || self.untranslatable.is_some()
            || Abilities::needed(request).has(Ability::Reasoning);
        !request.stream || (told && deployment.known.abilities().has(Ability::Reasoning))
    }

    async fn begin(
        &self,
        spoken: Spoken,
        voice: Voice,
        open: &mut Open,
        theirs: Dialect,
    ) -> Result<relay::Ready, Failure> {
        match &self.wanted {
            Wanted::Vectors(vectors, _) => relay::vectors(spoken, vectors, voice, open).await,
            Wanted::Answer(request) if request.stream && !spoken.is_json() => {
                let strip = voice.same && theirs == Dialect::Chat && !wants_usage(&self.asked.body);
                relay::stream(spoken, request, voice, strip, open).await
            }
            Wanted::Answer(request) => relay::whole(spoken, request, voice, open).await,
        }
    }

    /// What this upstream gets: the program's own bytes where it speaks the same.
    fn written(
        &self,
        request: &Request,
        index: usize,
        theirs: Dialect,
        most: u64,
    ) -> Result<Vec<u8>, Failure> {
        let deployment = &self.setup.catalogue.deployments[index];
        let limits = request.max_output.is_none()
            && (deployment.known.max_output.is_some() || most < self.usual(index));
        let older = deployment.provider.max_output == OutputField::MaxTokens;
        // Reasoning that another provider signed is refused by this one: it is left out by translating.
        if theirs == self.dialect && !theirs.holds_foreign_proof(&self.asked.body) {
            let torn = || Failure::new(Kind::Invalid, "a field of the request stands there twice");
            let mut body =
                splice::with(&self.asked.body, "model", &json!(deployment.model)).ok_or_else(torn)?;
            let field = match theirs {
                Dialect::Chat if older => Some("max_tokens"),
                Dialect::Chat => Some("max_completion_tokens"),
                Dialect::Responses => Some("max_output_tokens"),
                _ => None,
            };
            // What this upstream does not heed is no limit.
            let unheeded =
                older && request.max_output.is_some() && splice::field(&body, "max_tokens").is_none();
            if let Some(field) = field.filter(|_| limits || unheeded) {
                body = splice::with(&body, field, &json!(most)).ok_or_else(torn)?;
            }
            let asks = request.stream && theirs == Dialect::Chat && deployment.provider.stream_usage;
            if asks && !wants_usage(&body) {
                body = splice::with(&body, "stream_options", &json!({"include_usage": true}))
                    .ok_or_else(torn)?;
            }
            return Ok(body);
        }
        if let Some(failure) = &self.untranslatable {
            return Err(failure.clone());
        }
        let mut request = request.clone();
        request.model.clone_from(&deployment.model);
        if limits || theirs == Dialect::Anthropic {
            request.max_output = request.max_output.or(Some(most));
        }
        theirs.write_request_as(&request, deployment.provider.manner())
    }
}

/// Refuses what an upstream could read in another way than it was read here.
fn one_meaning(body: &[u8]) -> Result<(), Failure> {
    splice::ambiguous(body).map_or(Ok(()), |name| {
        let what = format!(
            "{name:.64?}: names of fields are written in small letters, since some readers know no other"
        );
        Err(Failure::new(Kind::Invalid, what).at(name.chars().take(64).collect::<String>()))
    })
}

/// Whether a program wants to know what a stream of chat completions used.
fn wants_usage(body: &[u8]) -> bool {
    let options =
        splice::field(body, "stream_options").and_then(|value| serde_json::from_slice::<Value>(value).ok());
    options.is_some_and(|options| options["include_usage"] == json!(true))
}

/// What is read of a request that one dialect alone can say.
fn bare(dialect: Dialect, body: &[u8]) -> Result<Request, Failure> {
    let value =
        |name: &str| splice::field(body, name).and_then(|value| serde_json::from_slice::<Value>(value).ok());
    let model = value("model").and_then(|model| model.as_str().map(str::to_owned));
    let model = model.ok_or_else(|| Failure::new(Kind::Invalid, "the model is missing").at("model"))?;
    let count = |name: &str, value: Option<Value>| match value.filter(|value| !value.is_null()) {
        None => Ok(None),
        Some(value) => value.as_u64().map(Some).ok_or_else(|| {
            Failure::new(Kind::Invalid, format!("{name}: must be a whole number from 0")).at(name)
        }),
    };
    // Only what this dialect heeds counts, and of two the longer one.
    let mut output = match dialect {
        Dialect::Responses => count("max_output_tokens", value("max_output_tokens"))?,
        Dialect::OllamaChat | Dialect::OllamaGenerate => {
            // Below 0 there is no limit.
            value("options").and_then(|options| options["num_predict"].as_u64())
        }
        _ => {
            let new = count("max_completion_tokens", value("max_completion_tokens"))?;
            new.filter(|_| dialect == Dialect::Chat).max(count("max_tokens", value("max_tokens"))?)
        }
    };
    let choices = count("n", value("n"))?.max(count("best_of", value("best_of"))?).unwrap_or(1);
    if choices > 1 {
        // Each may be as long as is said, so it has to be said.
        let missing = || Failure::new(Kind::Invalid, "n: say max_completion_tokens too").at("n");
        output = Some(output.ok_or_else(missing)?.saturating_mul(choices));
    }
    let mut request = crate::router::question(&model, "", output);
    let usual = matches!(dialect, Dialect::OllamaChat | Dialect::OllamaGenerate);
    request.stream = value("stream").map_or(usual, |stream| stream == json!(true));
    Ok(request)
}
