//! The router, for all agents: what the operator's file says, how the upstreams do, and what every call needs.

use crate::agents::{Agent, Agents, lock};
use crate::book::Book;
use crate::call;
use crate::core::Denied;
use crate::door::Door;
use crate::issued::Keyring;
use crate::kept::{Keeper, Said};
use crate::metrics::Metrics;
use crate::secrets::Keys;
use crate::tally::Tally;
use crate::upstream::{Endpoint, Upstreams};
use crate::windows::{NoWindow, Windows};
use octant_api::router::{DataClass, DeploymentRow, Explained, Status, Usage};
use octant_ids::Aid;
use octant_llm::{Part, Request};
use octant_manifest::PatternSet;
use octant_route::{
    Abilities, Amount, Cache, Catalogue, Choice, Deployment, Exceeded, Health, Limits, Load, Reservation,
    Span, Standing, Wish, choose, class,
};
use octant_sys::{clock, entropy};
use serde_json::json;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// How many bytes the operator's file may have; what it may say is for its reader to judge.
const FILE_MAX: u64 = 1 << 20;

/// Milliseconds of a clock that never goes back, as [`Health`] counts.
pub(crate) fn now_ms() -> u64 {
    clock::monotonic_ns() / 1_000_000
}

/// Chance, for weights. Where the kernel has none yet they are drawn the same way each time.
fn seed() -> u64 {
    let mut bytes = [0; 8];
    entropy::fill_seeded(&mut bytes).map_or(0, |()| u64::from_be_bytes(bytes))
}

/// What the operator's file came to.
#[derive(Debug)]
pub(crate) struct Setup {
    pub(crate) catalogue: Catalogue,
    pub(crate) health: Mutex<Health>,
    /// The answers that may be given again; none where the file keeps none.
    pub(crate) cache: Option<Mutex<Cache<call::Kept>>>,
    /// Where each deployment is, in their order.
    pub(crate) endpoints: Vec<Endpoint>,
}

/// The router.
pub(crate) struct Router {
    pub(crate) agents: Agents,
    pub(crate) book: Box<dyn Book>,
    pub(crate) keys: Box<dyn Keys>,
    pub(crate) upstreams: Arc<Upstreams>,
    pub(crate) metrics: Metrics,
    pub(crate) windows: Windows,
    pub(crate) keyring: Keyring,
    pub(crate) door: Door,
    pub(crate) tally: Tally,
    setup: Mutex<Option<Arc<Setup>>>,
    fault: Mutex<String>,
    file: PathBuf,
    /// Where what was said is kept, for agents whose manifest says so.
    keeper: Keeper,
}

impl std::fmt::Debug for Router {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Router")
            .field("file", &self.file)
            .field("agents", &self.agents)
            .finish_non_exhaustive()
    }
}

/// What is wanted, in the words of [`octant_route`].
pub(crate) fn class_of(data: DataClass) -> octant_route::DataClass {
    match data {
        DataClass::Any => octant_route::DataClass::Any,
        DataClass::NoRetention => octant_route::DataClass::NoRetention,
        DataClass::Local => octant_route::DataClass::LocalOnly,
    }
}

fn read(path: &Path) -> Result<String, String> {
    let mut text = String::new();
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(text),
        Err(error) => return Err(format!("{}: {error}", path.display())),
    };
    file.take(FILE_MAX).read_to_string(&mut text).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(text)
}

impl Router {
    pub(crate) fn new(
        book: Box<dyn Book>,
        keys: Box<dyn Keys>,
        upstreams: Upstreams,
        file: PathBuf,
        state: &Path,
        door: Door,
    ) -> Self {
        let agents = Agents::default();
        Self {
            keyring: Keyring::open(state.join("keys.json"), &agents),
            windows: Windows::open(state.join("windows.json")),
            tally: Tally::open(state.join("usage.json")),
            door,
            agents,
            book,
            keys,
            upstreams: Arc::new(upstreams),
            metrics: Metrics::default(),
            setup: Mutex::default(),
            fault: Mutex::default(),
            file,
            keeper: Keeper::new(state.join("kept")),
        }
    }

    /// Keeps what was said, beside everything else.
    pub(crate) fn keep(&self, aid: Aid, intent: u64, said: Said) {
        let keeper = self.keeper.clone();
        tokio::task::spawn_blocking(move || {
            if let Err(error) = keeper.keep(aid, intent, &said) {
                tracing::error!("{aid}: what was said in call {intent} is not kept: {error}");
            }
        });
    }

    /// Reads the operator's file; how many deployments there are now. What is wrong is nowhere in force.
    pub(crate) fn reload(self: &Arc<Self>) -> Result<u64, String> {
        let made = self.made();
        *lock(&self.fault) = made.as_ref().err().cloned().unwrap_or_default();
        let setup = made?;
        let count = setup.catalogue.deployments.len() as u64;
        *lock(&self.setup) = Some(Arc::new(setup));
        self.door.set(self);
        Ok(count)
    }

    fn made(&self) -> Result<Setup, String> {
        let catalogue = Catalogue::read(&read(&self.file)?).map_err(|faults| faults.to_string())?;
        let endpoints = catalogue.deployments.iter().map(|deployment| {
            let parsed = Endpoint::parse(deployment.base(), deployment.provider.plain);
            parsed.map_err(|error| format!("deployment {}: {error}", deployment.name))
        });
        let endpoints = endpoints.collect::<Result<Vec<_>, _>>()?;
        let before = self.setup();
        let health = match before.as_ref().map(|setup| lock(&setup.health)) {
            Some(mut health) => {
                // Calls that are under way end in what they began with.
                let fresh = Health::new(&catalogue, seed(), now_ms());
                let mut kept = std::mem::replace(&mut *health, fresh);
                kept.reload(&catalogue, now_ms());
                kept
            }
            None => Health::new(&catalogue, seed(), now_ms()),
        };
        let cache = catalogue.cache.map(|limits| Mutex::new(Cache::new(limits)));
        Ok(Setup { catalogue, health: Mutex::new(health), cache, endpoints })
    }

    /// What the operator's file came to; none where none has been right yet.
    pub(crate) fn setup(&self) -> Option<Arc<Setup>> {
        lock(&self.setup).clone()
    }

    pub(crate) fn file(&self) -> String {
        self.file.display().to_string()
    }

    /// What is strange, and not wrong.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let Some(setup) = self.setup() else { return Vec::new() };
        let untold =
            setup.catalogue.deployments.iter().filter(|d| d.known.price.is_none() && !d.provider.local);
        let untold = untold.map(|d| {
            format!("deployment {}: no price is known for {}, so no agent can ask it", d.name, d.full)
        });
        let (_, closed) = self.door.stands();
        untold.chain((!closed.is_empty()).then(|| format!("nobody listens outside: {closed}"))).collect()
    }

    /// In which windows a caller's calls count: its own, and those of all of its sort.
    fn accounts(&self, agent: &Agent) -> Vec<(Aid, Limits)> {
        let rights = agent.rights();
        let mut accounts = vec![(agent.aid, rights.limits)];
        accounts.extend(rights.above.iter().copied());
        if let (Some(by), Some(setup)) = (&agent.by, self.setup()) {
            accounts.push(match by.starts_with(KEY) {
                true => (together(KEYS), setup.catalogue.keys),
                false => (together(OPERATORS), setup.catalogue.operators),
            });
        }
        accounts
    }

    /// The most that the windows of a caller have room for.
    pub(crate) fn room(&self, agent: &Agent) -> Amount {
        self.windows.room(&self.accounts(agent))
    }

    /// Reserves in the windows of a caller.
    pub(crate) async fn window(&self, agent: &Agent, amount: Amount) -> Result<Reservation<Aid>, Denied> {
        let reserved = self.windows.reserve(&self.accounts(agent), amount).await;
        reserved.map_err(|why| match why {
            NoWindow::Exceeded(exceeded) => Denied::Window {
                field: field(agent, &exceeded),
                span: exceeded.span,
                // Who wants more than there ever is need not come again.
                again_in_ms: exceeded.again_in_ms.filter(|_| exceeded.wanted <= exceeded.cap),
            },
            NoWindow::Unkept(why) => Denied::Unkept(why),
        })
    }

    /// Counts what a caller used.
    pub(crate) fn count_usage(&self, agent: &Agent, model: &str, provider: &str, more: &Usage) {
        agent.count(more);
        self.tally.count(&agent.who(), model, provider, more);
    }

    /// Forgets an agent that has ended, or a key.
    pub(crate) fn forget(&self, agent: &Agent) {
        self.windows.forget(&agent.aid);
        // One above it that has gone before it was counted in as long as this one was there.
        let gone = |above: &&(Aid, Limits)| self.agents.get(above.0).is_none();
        for (above, _) in agent.rights().above.iter().filter(gone) {
            self.windows.forget(above);
        }
        self.tell_again(agent);
        self.book.hurry();
    }

    /// Records a denial.
    pub(crate) fn denied(&self, agent: &Agent, model: &str, why: &Denied) {
        let model: String = model.chars().take(128).collect();
        self.count_usage(agent, &model, "", &Usage { denied: 1, ..Default::default() });
        if lock(&agent.denials).add(format!("{model}: {why}")) {
            let next = why.next(agent.aid, agent.by.as_deref());
            let mut payload = json!({
                "do": "ask a model", "denied": why.to_string(), "model": model, "next": next, "field": why.field(),
            });
            if let Some(by) = &agent.by {
                payload["by"] = json!(by);
            }
            self.book.decided(agent.on_record(), &payload);
        }
    }

    fn tell_again(&self, agent: &Agent) {
        let again = lock(&agent.denials).again();
        if !again.is_empty() {
            let payload = json!({"do": "ask a model", "denied": "again", "times": again});
            self.book.decided(agent.on_record(), &payload);
        }
    }

    /// Records what was denied more than once since the last time.
    pub(crate) fn tell_all_again(&self) {
        self.agents.list().iter().for_each(|agent| self.tell_again(agent));
        self.keyring.tell_again(self);
    }

    /// How many agents and how many calls there are.
    pub(crate) fn count(&self) -> (usize, u64) {
        let agents = self.agents.list();
        (agents.len(), agents.iter().map(|agent| agent.show().open).sum())
    }

    pub(crate) fn deployments(&self) -> usize {
        self.setup().map_or(0, |setup| setup.catalogue.deployments.len())
    }

    /// Whether a model that nobody was granted is denied to everybody who was not granted every model.
    pub(crate) fn probe(&self) -> Result<(), String> {
        const NOBODYS: &str = "octant-nobody/granted-this";
        for agent in self.agents.list() {
            let rights = agent.rights();
            let named = rights.models.iter().any(|grant| grant.matches(NOBODYS));
            if !named && rights.decide(NOBODYS, NOBODYS).is_ok() {
                return Err(format!("{} may ask {NOBODYS}, which no grant names", agent.aid));
            }
        }
        Ok(())
    }

    pub(crate) fn status(&self) -> Status {
        let setup = self.setup();
        Status {
            file: self.file(),
            fault: lock(&self.fault).clone(),
            providers: setup.as_ref().map_or(0, |setup| setup.catalogue.deployments.len() as u64),
            models: setup.as_ref().map_or(0, |setup| setup.catalogue.names().len() as u64),
            agents: self.agents.list().iter().map(|agent| agent.show()).collect(),
        }
    }

    /// Every deployment, and how it stands.
    pub(crate) fn rows(&self) -> Vec<DeploymentRow> {
        let Some(setup) = self.setup() else { return Vec::new() };
        let (now, health) = (now_ms(), lock(&setup.health));
        let row = |(index, deployment): (usize, &Deployment)| {
            let (state, left_ms) = match health.standing(index, Load::default(), now) {
                Standing::Ready => ("ready".to_owned(), 0),
                Standing::Waits { until_ms, why } => (format!("waits: {why}"), until_ms.saturating_sub(now)),
                Standing::Out(why) => (format!("out: {why}"), 0),
            };
            DeploymentRow {
                name: deployment.name.clone(),
                provider: deployment.provider.name.clone(),
                model: deployment.full.clone(),
                url: deployment.base().to_owned(),
                key: deployment.key.as_ref().map(ToString::to_string).unwrap_or_default(),
                state,
                left_ms,
            }
        };
        setup.catalogue.deployments.iter().enumerate().map(row).collect()
    }

    /// Chooses whom a request goes to.
    pub(crate) fn choose(
        &self,
        setup: &Setup,
        agent: Option<&Agent>,
        (request, needs): (&Request, Abilities),
        input: u64,
    ) -> (Choice, u64, Load) {
        let rights = agent.map(Agent::rights);
        let all = PatternSet::All;
        let price = rights.as_ref().and_then(|rights| rights.max_price_microusd);
        let seed = seed();
        let wish = Wish {
            asked: &request.model,
            allowed: rights.as_ref().map_or(&all, |rights| &rights.models),
            needs,
            data: rights.as_ref().map_or(octant_route::DataClass::Any, |rights| class_of(rights.data)),
            cap: price.map(|price| octant_route::Cap { input: price, output: price }),
            priced: rights.as_ref().is_some_and(|rights| rights.priced),
            input,
            output: request.max_output,
            class: class(request).class,
            strategy: None,
            seed,
        };
        (choose(&setup.catalogue, &lock(&setup.health), &wish, now_ms()), seed, wish.load())
    }

    /// What would be done with a call, without doing it.
    pub(crate) fn explain(&self, agent: Option<&Agent>, model: &str, prompt: &str) -> Explained {
        let Some(setup) = self.setup() else {
            let next = format!("correct {} and run octant router reload", self.file());
            return Explained { denied: lock(&self.fault).clone(), next, lines: Vec::new() };
        };
        let request = question(model, prompt, None);
        let input = octant_llm::estimate(&request);
        let (choice, ..) = self.choose(&setup, agent, (&request, Abilities::needed(&request)), input);
        let name = |index: usize| {
            let deployment = &setup.catalogue.deployments[index];
            format!("{} ({})", deployment.name, deployment.full)
        };
        let looks = class(&request);
        let mut lines = vec![format!("the request looks {} and has up to {input} tokens", looks.class)];
        for candidate in &choice.candidates {
            let waits = candidate.waits.as_ref().map(|(_, why)| format!("; has to be waited for: {why}"));
            lines.push(format!(
                "asks {} in {} by {}, {}{}",
                name(candidate.deployment),
                candidate.group,
                candidate.strategy,
                candidate.score,
                waits.unwrap_or_default()
            ));
        }
        for left in &choice.left_out {
            lines.push(format!("not {} in {}: {}", name(left.deployment), left.group, left.reason));
        }
        let refused = choice.candidates.is_empty();
        Explained {
            denied: if refused { choice.refusal(&setup.catalogue, model).message } else { String::new() },
            next: if refused { "octant router providers; docs/router.md".into() } else { String::new() },
            lines,
        }
    }
}

/// How who shows a key is called.
const KEY: &str = "key:";
/// What all operators use together, and all keys.
const OPERATORS: u8 = 1;
const KEYS: u8 = 2;

/// A number that nobody has.
fn together(sort: u8) -> Aid {
    let mut aid = [0; 16];
    (aid[6], aid[15]) = (2, sort);
    Aid::from_bytes(aid)
}

/// What says how much there is in a window: of a manifest, of a key, or of router.toml.
fn field(agent: &Agent, exceeded: &Exceeded<Aid>) -> String {
    let span = match exceeded.span {
        Span::Minute => "_per_minute",
        Span::Day => "_per_day",
        Span::Total => "",
    };
    let tokens = exceeded.unit == "tokens";
    match &agent.by {
        None => {
            let field = format!("models.{}{span}", if tokens { "tokens" } else { "spend_usd" });
            if exceeded.account == agent.aid {
                field
            } else {
                format!("{field} of {}, above it,", exceeded.account)
            }
        }
        Some(by) => {
            let unit = if tokens { "tokens" } else { "microusd" };
            let all = if by.starts_with(KEY) { "keys" } else { "operators" };
            let of = if exceeded.account == agent.aid { by.as_str() } else { all };
            format!("{unit}{span} of {of}")
        }
    }
}

/// A question of one line.
pub(crate) fn question(model: &str, prompt: &str, max_output: Option<u64>) -> Request {
    Request {
        model: model.to_owned(),
        messages: vec![octant_llm::Message {
            role: octant_llm::Role::User,
            parts: vec![Part::Text(prompt.to_owned())],
        }],
        max_output,
        ..Request::default()
    }
}
