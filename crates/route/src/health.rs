//! How each deployment does: who may be asked now, who has to be waited for, and who is out until an operator has looked.
//!
//! What a failure is whose:
//!
//! | failure | whose | what follows |
//! |---|---|---|
//! | the request is wrong, too large, cannot be said | the caller's | nothing; it answered |
//! | the prompt is longer than the window | nobody's | nothing; it answered |
//! | no key, a wrong one (401); no more money | the key's | the key is out until an operator has looked |
//! | forbidden (403) | the key's, for this model | three without a success between or shortly before: out until an operator has looked |
//! | no such model (404), 5xx, cut, malformed, time over | the deployment's | counts in its breaker |
//! | too many requests (429) | the deployment's | it is left alone as long as it asks, or for twice as long each time |
//! | nobody could be reached | the provider's too | counts in both breakers |
//! | there is no key for it now | nobody's | it is left alone for a while, twice as long each time |
//! | who asked has gone away | nobody's | a try is given back |
//! | a word about the key, or about money, once the answer has begun | nobody's | nothing; it answered |
//!
//! Times are milliseconds of a clock that never goes back.

use crate::breaker::Breaker;
use crate::bucket::Bucket;
use crate::catalogue::{Catalogue, Deployment};
use crate::headers::{LONGEST_MS, Unit, told};
use crate::measure::{Latency, Share};
use crate::seed;
use octant_ids::SecretName;
use octant_llm::{Failure, Kind};
use std::collections::BTreeMap;
use std::fmt;

/// For how long a deployment is left alone that has too many requests and does not say for how long: the first time, at most.
const COOL_MS: (u64, u64) = (1000, 60_000);
/// No `Retry-After` is believed for longer.
const RETRY_AFTER_MOST_MS: u64 = 3_600_000;
/// So many answers that something is forbidden, without a success between, are the key's.
const FORBIDDEN: u32 = 3;
/// For so long a success shows that the key may ask this model: what is forbidden then is what a prompt says, and whoever says
/// it three times takes the model from nobody else.
const WELL_MS: u64 = 300_000;
/// When somebody looks again whether one of the calls has ended that are all there may be at a time.
const AT_ONCE_MS: u64 = 50;

/// Whose failure something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// Of who asks: another upstream would say the same.
    Caller,
    /// Nobody's: another upstream may do it.
    Nobody,
    /// Of the key.
    Key,
    /// Of the deployment.
    Deployment,
    /// Of the provider: all its deployments'.
    Provider,
}

/// Whose failure something is.
#[must_use]
pub fn blame(kind: Kind) -> Blame {
    match kind {
        Kind::Invalid | Kind::TooLarge => Blame::Caller,
        Kind::Untranslatable | Kind::ContextLength | Kind::Cancelled => Blame::Nobody,
        Kind::Unauthenticated | Kind::Forbidden | Kind::Spent => Blame::Key,
        Kind::NotFound
        | Kind::RateLimited
        | Kind::Upstream
        | Kind::Overloaded
        | Kind::Timeout
        | Kind::Cut
        | Kind::Malformed => Blame::Deployment,
        Kind::Unreachable => Blame::Provider,
    }
}

/// Why a deployment has to be waited for, or is out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// Its provider does not take the key.
    KeyRefused,
    /// There is no more money behind the key.
    KeySpent,
    /// Its provider forbids the key this model.
    Forbidden,
    /// It has failed too often.
    Failing,
    /// Its provider could not be reached too often.
    Unreachable,
    /// It has asked to be left alone.
    Cooling,
    /// There is no key for it now: the vault is sealed, or does not answer.
    NoKey,
    /// So many requests or tokens there are not yet: which limit.
    Pace(String),
    /// As many calls are under way as there may be.
    AtOnce,
    /// The operator has taken it out of the file.
    Gone,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KeyRefused => f.write_str("its provider refused the key"),
            Self::KeySpent => f.write_str("there is no more money behind the key"),
            Self::Forbidden => f.write_str("its provider forbids the key this model"),
            Self::Failing => f.write_str("it failed too often"),
            Self::Unreachable => f.write_str("its provider could not be reached too often"),
            Self::Cooling => f.write_str("it had too many requests and is left alone"),
            Self::NoKey => f.write_str("the vault gives no key for it now"),
            Self::Pace(what) => write!(f, "its limit of {what} is used up for now"),
            Self::Gone => f.write_str("router.toml does not have it any more"),
            Self::AtOnce => f.write_str("as many calls are under way as it may have"),
        }
    }
}

/// Whether a deployment may be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It may.
    Ready,
    /// It may then.
    Waits {
        /// When.
        until_ms: u64,
        /// Why.
        why: Why,
    },
    /// Not before an operator has looked.
    Out(Why),
}

/// What a call takes or took, in tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
    /// Of the prompt.
    pub input: u64,
    /// Of the answer; before the call, as many as it may have.
    pub output: u64,
}

impl Load {
    fn of(self, unit: Unit) -> u64 {
        match unit {
            Unit::Requests => 1,
            Unit::Tokens => self.input.saturating_add(self.output),
            Unit::Input => self.input,
            Unit::Output => self.output,
        }
    }
}

/// A call under way. It is given back by [`Health::succeeded`], [`Health::failed`] or [`Health::abandoned`], whatever happens.
#[derive(Debug)]
#[must_use]
pub struct Call {
    deployment: usize,
    name: String,
    load: Load,
    started_ms: u64,
    first_ms: Option<u64>,
    era: u64,
    provider_era: u64,
}

impl Call {
    /// Which deployment, when the call began.
    #[must_use]
    pub fn deployment(&self) -> usize {
        self.deployment
    }
}

#[derive(Debug)]
struct One {
    name: String,
    full: String,
    provider: String,
    key: Option<SecretName>,
    breaker: Breaker,
    /// Until when it is left alone, and why.
    cool: (u64, Why),
    cooled: u32,
    forbidden: u32,
    /// When it answered last.
    well_ms: Option<u64>,
    /// Configured limits and those that the provider has told, each with the word for it.
    buckets: Vec<(String, Unit, Bucket, bool)>,
    at_once: Option<u32>,
    under_way: u32,
    latency: Latency,
    share: Share,
    seed: u64,
}

impl One {
    fn new(deployment: &Deployment, seed: u64, now_ms: u64) -> Self {
        let pace = deployment.limits;
        let bucket =
            |word: &str, unit, limit: u64| (word.to_owned(), unit, Bucket::per_minute(limit, now_ms), true);
        let rpm = pace.rpm.map(|limit| bucket("rpm", Unit::Requests, limit));
        let tpm = pace.tpm.map(|limit| bucket("tpm", Unit::Tokens, limit));
        Self {
            name: deployment.name.clone(),
            full: deployment.full.clone(),
            provider: deployment.provider.name.clone(),
            key: deployment.key.clone(),
            breaker: Breaker::new(seed),
            cool: (0, Why::Cooling),
            cooled: 0,
            forbidden: 0,
            well_ms: None,
            buckets: rpm.into_iter().chain(tpm).collect(),
            at_once: pace.at_once,
            under_way: 0,
            latency: Latency::default(),
            share: Share::default(),
            seed,
        }
    }

    /// Leaves it alone: as long as it asks, or for twice as long each time.
    fn cool(&mut self, why: Why, retry_after_ms: Option<u64>, now_ms: u64) {
        let own = COOL_MS.0.saturating_mul(1 << self.cooled.min(16)).min(COOL_MS.1);
        let own = seed::jitter(self.seed, u64::from(self.cooled), own);
        let pause = retry_after_ms.map_or(own, |ms| ms.min(RETRY_AFTER_MOST_MS));
        self.cooled = self.cooled.saturating_add(1);
        let until_ms = now_ms.saturating_add(pause);
        if until_ms > self.cool.0 {
            self.cool = (until_ms, why);
        }
    }

    fn standing(&self, load: Load, now_ms: u64) -> Standing {
        if self.forbidden >= FORBIDDEN {
            return Standing::Out(Why::Forbidden);
        }
        let mut waits = vec![self.cool.clone()];
        waits.extend(self.breaker.until_ms(now_ms).map(|until_ms| (until_ms, Why::Failing)));
        if self.at_once.is_some_and(|most| self.under_way >= most) {
            waits.push((now_ms.saturating_add(AT_ONCE_MS), Why::AtOnce));
        }
        let paced = self.buckets.iter().map(|(word, unit, bucket, _)| {
            (bucket.ready_ms(load.of(*unit), now_ms), Why::Pace(word.clone()))
        });
        waits.extend(paced);
        // The longest wait is the one that counts.
        match waits
            .into_iter()
            .filter(|(until_ms, _)| *until_ms > now_ms)
            .max_by_key(|(until_ms, _)| *until_ms)
        {
            Some((until_ms, why)) => Standing::Waits { until_ms, why },
            None => Standing::Ready,
        }
    }

    /// What was taken before and not used goes back to what the operator has limited; providers say themselves what is left.
    fn ended(&mut self, taken: Load, used: Load) {
        self.under_way = self.under_way.saturating_sub(1);
        for (_, unit, bucket, own) in &mut self.buckets {
            if *own {
                bucket.give_back(taken.of(*unit).saturating_sub(used.of(*unit)));
            }
        }
    }
}

/// How each deployment of a catalogue does.
#[derive(Debug)]
pub struct Health {
    ones: Vec<One>,
    keys: BTreeMap<SecretName, Why>,
    providers: BTreeMap<String, Breaker>,
    seed: u64,
}

impl Health {
    /// Everybody is well.
    #[must_use]
    pub fn new(catalogue: &Catalogue, seed: u64, now_ms: u64) -> Self {
        let mut health = Self { ones: Vec::new(), keys: BTreeMap::new(), providers: BTreeMap::new(), seed };
        health.reload(catalogue, now_ms);
        health
    }

    /// Takes another catalogue. What is known of deployments that stayed as they were is kept; keys that were out are tried
    /// again, since an operator has looked.
    pub fn reload(&mut self, catalogue: &Catalogue, now_ms: u64) {
        let mut old = std::mem::take(&mut self.ones);
        self.keys.clear();
        for (index, deployment) in (0_u64..).zip(&catalogue.deployments) {
            let fresh = One::new(deployment, seed::number(self.seed, index), now_ms);
            let same = |one: &One| one.name == fresh.name && one.full == fresh.full && one.key == fresh.key;
            let kept = old.iter().position(same).map(|at| old.swap_remove(at));
            let mut one = kept.unwrap_or_else(|| One::new(deployment, fresh.seed, now_ms));
            one.forbidden = 0;
            one.at_once = fresh.at_once;
            one.buckets.retain(|(_, _, _, own)| !own);
            one.buckets.extend(fresh.buckets);
            self.ones.push(one);
            let provider = deployment.provider.name.clone();
            let seed = seed::number(self.seed, u64::MAX - index);
            self.providers.entry(provider).or_insert_with(|| Breaker::new(seed));
        }
    }

    /// Whether a deployment may be asked for so much.
    #[must_use]
    pub fn standing(&self, deployment: usize, load: Load, now_ms: u64) -> Standing {
        let Some(one) = self.ones.get(deployment) else {
            return Standing::Out(Why::Gone);
        };
        if let Some(why) = one.key.as_ref().and_then(|key| self.keys.get(key)) {
            return Standing::Out(why.clone());
        }
        let provider = self.providers.get(&one.provider).and_then(|breaker| breaker.until_ms(now_ms));
        match (one.standing(load, now_ms), provider) {
            (Standing::Waits { until_ms, why }, Some(other)) if until_ms >= other => {
                Standing::Waits { until_ms, why }
            }
            (Standing::Ready | Standing::Waits { .. }, Some(until_ms)) => {
                Standing::Waits { until_ms, why: Why::Unreachable }
            }
            (standing, _) => standing,
        }
    }

    /// Begins a call.
    ///
    /// # Errors
    /// That it may not be, now or at all: whoever was faster has taken the place, or the one try of a breaker.
    pub fn started(&mut self, deployment: usize, load: Load, now_ms: u64) -> Result<Call, Standing> {
        let standing = self.standing(deployment, load, now_ms);
        let Some(one) = self.ones.get_mut(deployment).filter(|_| standing == Standing::Ready) else {
            return Err(standing);
        };
        one.under_way += 1;
        for (_, unit, bucket, _) in &mut one.buckets {
            bucket.take(load.of(*unit), now_ms);
        }
        let era = one.breaker.start(now_ms);
        let provider_era = self.providers.get_mut(&one.provider).map_or(0, |breaker| breaker.start(now_ms));
        let name = one.name.clone();
        Ok(Call { deployment, name, load, started_ms: now_ms, first_ms: None, era, provider_era })
    }

    /// The first byte of an answer came.
    pub fn first_byte(&mut self, call: &mut Call, now_ms: u64) {
        if call.first_ms.is_none() {
            call.first_ms = Some(now_ms);
            let us = now_ms.saturating_sub(call.started_ms).saturating_mul(1000);
            if let Some((one, _)) = self.parts(call) {
                one.latency.first(us, now_ms);
            }
        }
    }

    /// A call ended with its terminal event, and used so much.
    pub fn succeeded(&mut self, mut call: Call, used: Load, now_ms: u64) {
        self.first_byte(&mut call, now_ms);
        let Some((one, provider)) = self.parts(&call) else { return };
        one.ended(call.load, used);
        one.breaker.good(call.era, now_ms);
        provider.good(call.provider_era, now_ms);
        one.cooled = 0;
        (one.forbidden, one.well_ms) = (0, Some(now_ms));
        one.share.ended(true, now_ms);
        let since = now_ms.saturating_sub(call.first_ms.unwrap_or(now_ms));
        one.latency.tokens(since.saturating_mul(1000), used.output, now_ms);
    }

    /// A call failed.
    pub fn failed(&mut self, call: Call, failure: &Failure, now_ms: u64) {
        let begun = call.first_ms.is_some();
        // A key is refused before an answer begins: what is said later, of money too, is not about it.
        let whose = Some(blame(failure.kind)).filter(|whose| !begun || *whose != Blame::Key);
        let whose = whose.unwrap_or(Blame::Nobody);
        let Some((one, provider)) = self.parts(&call) else { return };
        one.ended(call.load, Load::default());
        match whose {
            Blame::Provider => provider.bad(call.provider_era, now_ms),
            // Nobody knows whether it came to the provider at all.
            _ if matches!(failure.kind, Kind::Timeout | Kind::Cancelled | Kind::Untranslatable) => {
                provider.nothing(call.provider_era, now_ms);
            }
            _ => provider.good(call.provider_era, now_ms),
        }
        match (whose, failure.kind) {
            (_, Kind::Cancelled | Kind::Untranslatable) => one.breaker.nothing(call.era, now_ms),
            (Blame::Caller | Blame::Nobody, _) => one.breaker.answered(call.era),
            (Blame::Key, Kind::Forbidden) => {
                one.breaker.nothing(call.era, now_ms);
                if one.well_ms.is_none_or(|well_ms| now_ms.saturating_sub(well_ms) >= WELL_MS) {
                    one.forbidden = one.forbidden.saturating_add(1);
                }
            }
            (Blame::Key, kind) => {
                one.breaker.nothing(call.era, now_ms);
                let why = if kind == Kind::Spent { Why::KeySpent } else { Why::KeyRefused };
                if let Some(key) = one.key.clone() {
                    self.keys.insert(key, why);
                }
            }
            (Blame::Deployment, Kind::RateLimited) => {
                one.share.ended(false, now_ms);
                one.breaker.nothing(call.era, now_ms);
                one.cool(Why::Cooling, failure.retry_after_ms, now_ms);
            }
            (Blame::Deployment | Blame::Provider, _) => {
                one.share.ended(false, now_ms);
                one.breaker.bad(call.era, now_ms);
                if failure.retry_after_ms.is_some() {
                    one.cool(Why::Cooling, failure.retry_after_ms, now_ms);
                }
            }
        }
    }

    /// A call was not made, since there is no key for it now. Nobody has refused the key, so it is looked for again after a
    /// pause that doubles.
    pub fn without_key(&mut self, call: Call, now_ms: u64) {
        if let Some((one, provider)) = self.parts(&call) {
            one.ended(call.load, Load::default());
            one.breaker.nothing(call.era, now_ms);
            provider.nothing(call.provider_era, now_ms);
            one.cool(Why::NoKey, None, now_ms);
        }
    }

    /// A call ended because who asked has gone away.
    pub fn abandoned(&mut self, call: Call, now_ms: u64) {
        self.failed(call, &Failure::new(Kind::Cancelled, ""), now_ms);
    }

    /// An answer that ended well did not pass the check of who asked. To be said once for a call, and by who made it: it counts
    /// against the deployment for everybody.
    pub fn rejected(&mut self, deployment: usize, now_ms: u64) {
        if let Some(one) = self.ones.get_mut(deployment) {
            one.share.rejected(now_ms);
        }
    }

    /// Takes what an answer's headers say of limits.
    pub fn headers(&mut self, call: &Call, headers: &[(&str, &str)], now_ms: u64, unix_now_ms: u64) {
        let Some((one, _)) = self.parts(call) else { return };
        let told = told(headers, unix_now_ms);
        if !told.is_empty() {
            one.buckets.retain(|(_, _, _, own)| *own);
        }
        for limit in told {
            let full_in_ms = limit.full_in_ms.min(LONGEST_MS);
            let bucket = Bucket::told(limit.limit, limit.left, full_in_ms, now_ms);
            one.buckets.push((limit.what, limit.unit, bucket, false));
        }
    }

    /// How long an answer of so many tokens will take, in microseconds; 0 where nobody has measured it lately.
    #[must_use]
    pub fn expected_us(&self, deployment: usize, output: u64, now_ms: u64) -> u64 {
        self.ones.get(deployment).map_or(0, |one| one.latency.expected_us(output, now_ms))
    }

    /// Thousandths of calls that ended well; what was long ago counts little.
    #[must_use]
    pub fn success(&self, deployment: usize, now_ms: u64) -> u64 {
        self.ones.get(deployment).map_or(0, |one| one.share.permille(now_ms))
    }

    /// Time to the first byte in microseconds, where it was measured.
    #[must_use]
    pub fn first_us(&self, deployment: usize) -> Option<u64> {
        self.ones.get(deployment)?.latency.first_us()
    }

    /// How many calls are under way.
    #[must_use]
    pub fn under_way(&self, deployment: usize) -> u32 {
        self.ones.get(deployment).map_or(0, |one| one.under_way)
    }

    /// The deployment of a call, which may stand elsewhere since a reload, and its provider.
    fn parts(&mut self, call: &Call) -> Option<(&mut One, &mut Breaker)> {
        let same = |one: &One| one.name == call.name;
        let at = match self.ones.get(call.deployment) {
            Some(one) if same(one) => call.deployment,
            _ => self.ones.iter().position(same)?,
        };
        let one = self.ones.get_mut(at)?;
        let provider = self.providers.get_mut(&one.provider)?;
        Some((one, provider))
    }
}
