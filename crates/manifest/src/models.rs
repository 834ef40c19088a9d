//! The domain of language models: which may be asked, how fast, for how much, and where what is said may go.

use crate::domains::budget;
use crate::error::Problem;
use crate::money;
use crate::pattern::{NamePattern, PatternSet};
use crate::reader::{Document, Field, Gather, Result, Whole};
use serde::{Deserialize, Serialize};

pub(crate) const MODELS: [&str; 12] = [
    "allowed",
    "tokens",
    "tokens_per_minute",
    "tokens_per_day",
    "spend_usd",
    "spend_usd_per_minute",
    "spend_usd_per_day",
    "max_price_usd",
    "data",
    "keep_prompts",
    "cache",
    "extras",
];

/// Where what is said to a model may go. In order of how far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DataClass {
    /// No further than this machine.
    Local,
    /// To providers that say they keep nothing of it.
    NoRetention,
    /// To every provider.
    Any,
}

impl DataClass {
    /// Every class.
    pub const ALL: [Self; 3] = [Self::Local, Self::NoRetention, Self::Any];

    /// Its name in a manifest.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::NoRetention => "no-retention",
            Self::Any => "any",
        }
    }
}

/// Which models may be asked, and how. How much in total is a budget, which is used up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Models {
    /// The models.
    pub allowed: PatternSet<NamePattern>,
    /// The most tokens in one minute.
    pub tokens_per_minute: u64,
    /// The most that is spent in one minute, in millionths of a US dollar.
    pub microusd_per_minute: u64,
    /// The most tokens in one day, of UTC.
    pub tokens_per_day: u64,
    /// The most that is spent in one day, in millionths of a US dollar.
    pub microusd_per_day: u64,
    /// The most that a million tokens may cost, of the prompt or of the answer, in millionths of a US dollar.
    pub max_price_microusd: Option<u64>,
    /// Where what is said may go.
    pub data: DataClass,
    /// Whether prompts and answers are kept, and not their digests alone.
    pub keep_prompts: bool,
    /// Whether an answer may be one that the same agent had to the same request before.
    pub cache: bool,
    /// Whether it may ask providers for more than answers to what stands in its requests.
    pub extras: bool,
}

impl Models {
    /// Everything, of these models.
    pub(crate) fn of(allowed: PatternSet<NamePattern>) -> Self {
        Self {
            allowed,
            tokens_per_minute: u64::MAX,
            microusd_per_minute: u64::MAX,
            tokens_per_day: u64::MAX,
            microusd_per_day: u64::MAX,
            max_price_microusd: None,
            data: DataClass::Any,
            keep_prompts: true,
            cache: true,
            extras: true,
        }
    }

    /// What both have.
    #[must_use]
    pub fn meet(&self, other: &Self) -> Self {
        let Self {
            allowed,
            tokens_per_minute,
            microusd_per_minute,
            tokens_per_day,
            microusd_per_day,
            max_price_microusd,
            data,
            keep_prompts,
            cache,
            extras,
        } = other;
        let cheaper = match (self.max_price_microusd, *max_price_microusd) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        Self {
            allowed: self.allowed.meet(allowed),
            tokens_per_minute: self.tokens_per_minute.min(*tokens_per_minute),
            microusd_per_minute: self.microusd_per_minute.min(*microusd_per_minute),
            tokens_per_day: self.tokens_per_day.min(*tokens_per_day),
            microusd_per_day: self.microusd_per_day.min(*microusd_per_day),
            max_price_microusd: cheaper,
            data: self.data.min(*data),
            keep_prompts: self.keep_prompts && *keep_prompts,
            cache: self.cache && *cache,
            extras: self.extras && *extras,
        }
    }

    pub(crate) fn rows(&self) -> [(&'static str, String); 10] {
        let Self {
            allowed,
            tokens_per_minute,
            microusd_per_minute,
            tokens_per_day,
            microusd_per_day,
            max_price_microusd,
            data,
            keep_prompts,
            cache,
            extras,
        } = self;
        [
            ("models.allowed", allowed.to_string()),
            ("models.tokens_per_minute", tokens_per_minute.to_string()),
            ("models.spend_usd_per_minute", money::text(*microusd_per_minute)),
            ("models.tokens_per_day", most(*tokens_per_day)),
            ("models.spend_usd_per_day", money::text(*microusd_per_day)),
            ("models.max_price_usd", max_price_microusd.map_or("unlimited".to_owned(), money::text)),
            ("models.data", data.name().to_owned()),
            ("models.keep_prompts", keep_prompts.to_string()),
            ("models.cache", cache.to_string()),
            ("models.extras", extras.to_string()),
        ]
    }
}

fn most(count: u64) -> String {
    if count == u64::MAX { "unlimited".to_owned() } else { count.to_string() }
}

pub(crate) fn models(document: &Document<'_>) -> Whole<Models> {
    let section = document.section("models", &MODELS)?;
    let total = budget(document)?;
    let mut all = Gather::default();
    let allowed = all.take(section.patterns("allowed"));
    // Without a rate of its own, all of it may be used in one minute.
    let tokens = section.get("tokens_per_minute").map_or(Ok(total.tokens), |f| f.number());
    let spend = section.get("spend_usd_per_minute").map_or(Ok(total.spend_microusd), |f| f.microusd());
    // A day has none of its own: what is not said is no cap.
    let daily = section.get("tokens_per_day").map_or(Ok(u64::MAX), |f| f.number());
    let daily_spend = section.get("spend_usd_per_day").map_or(Ok(u64::MAX), |f| f.microusd());
    let price = section.get("max_price_usd").map(|f| f.microusd()).transpose();
    let data = section.get("data").map_or(Ok(DataClass::Any), |f| data_class(&f));
    let flag = |key| section.get(key).map_or(Ok(false), |f| f.flag());
    let (tokens, spend, price) = (all.take(tokens), all.take(spend), all.take(price));
    let (daily, daily_spend) = (all.take(daily), all.take(daily_spend));
    let (data, keep, cache) = (all.take(data), all.take(flag("keep_prompts")), all.take(flag("cache")));
    let extras = all.take(flag("extras"));
    let whole = || {
        Some(Models {
            allowed: allowed?,
            tokens_per_minute: tokens?,
            microusd_per_minute: spend?,
            tokens_per_day: daily?,
            microusd_per_day: daily_spend?,
            max_price_microusd: price?,
            data: data?,
            keep_prompts: keep?,
            cache: cache?,
            extras: extras?,
        })
    };
    all.done(whole())
}

fn data_class(field: &Field<'_>) -> Result<DataClass> {
    let text = field.text()?;
    DataClass::ALL.into_iter().find(|class| class.name() == text).ok_or_else(|| {
        let want = "one of local, no-retention, any";
        field.refuse(Problem::Name { text: text.to_owned(), want })
    })
}
