//! Which models an agent may ask. Pure.

use octant_api::router::{AdmitRequest, DataClass, IssueRequest, MODELS_MAX, WindowLimits};
use octant_ids::Aid;
use octant_llm::Kind;
use octant_manifest::{NamePattern, PatternError, PatternSet};
use octant_route::{Amount, Limits, Span};

/// Everything that one agent may ask: one word of `agents`, never changed.
#[derive(Debug, Clone)]
pub(crate) struct Rights {
    pub(crate) generation: u64,
    pub(crate) models: PatternSet<NamePattern>,
    /// How much may be used in each window.
    pub(crate) limits: Limits,
    /// The agents above it, in whose windows its calls count too.
    pub(crate) above: Vec<(Aid, Limits)>,
    /// Whether what has no price is not asked: nothing can be taken for it.
    pub(crate) priced: bool,
    pub(crate) max_price_microusd: Option<u64>,
    pub(crate) data: DataClass,
    pub(crate) keep_prompts: bool,
    pub(crate) cache: bool,
    pub(crate) extras: bool,
    /// Whether it is over: nothing is allowed any more.
    pub(crate) dismissed: bool,
}

/// Why a word of `agents` cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadWord {
    #[error("{0} are more models than {MODELS_MAX}, or more agents above it than {ABOVE_MAX}")]
    TooMany(usize),
    #[error("{0}")]
    Model(PatternError),
    #[error("generation {0} is not newer than {1}, which is in force")]
    Old(u64, u64),
}

/// Why a call is not let through, or not any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Denied {
    #[error("no grant names the model {0:?}")]
    NoGrant(String),
    #[error("it asks its provider for more than an answer to what stands in it: {0}")]
    Extras(String),
    #[error("{0} is used up")]
    Budget(&'static str),
    #[error("what is left of {0} is reserved for calls that are under way")]
    Reserved(&'static str),
    #[error("nobody said in time that there is anything left of the agent's budgets")]
    NoWord,
    #[error("{field} is used up {span}")]
    Window {
        field: String,
        span: Span,
        /// In how many milliseconds the next begins, where one does.
        again_in_ms: Option<u64>,
    },
    #[error("what may be used cannot be written down: {0}")]
    Unkept(String),
    #[error("the agent has {0} calls under way, as many as it may")]
    Calls(u64),
    #[error("the requests that the agent has under way have {0} bytes together, as many as they may")]
    Bytes(u64),
    #[error("the grant that allowed it is gone")]
    Revoked,
    #[error("the agent, or the key, is gone")]
    Dismissed,
}

impl Denied {
    /// The field of the manifest that decides it; none where no field does.
    pub(crate) fn field(&self) -> Option<&str> {
        match self {
            Self::NoGrant(_) | Self::Revoked => Some("models.allowed"),
            Self::Extras(_) => Some("models.extras"),
            Self::Budget(field) | Self::Reserved(field) => Some(field),
            Self::Window { field, .. } => Some(field),
            Self::NoWord | Self::Calls(_) | Self::Bytes(_) | Self::Dismissed | Self::Unkept(_) => None,
        }
    }

    /// What sort of failure a program sees.
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::NoGrant(_) | Self::Extras(_) | Self::Revoked | Self::Dismissed => Kind::Forbidden,
            Self::Window { span: Span::Minute, .. } | Self::Reserved(_) | Self::Calls(_) | Self::Bytes(_) => {
                Kind::RateLimited
            }
            Self::Budget(_) | Self::Window { .. } => Kind::Spent,
            Self::NoWord | Self::Unkept(_) => Kind::Overloaded,
        }
    }

    /// When it may be tried again, where that is known.
    pub(crate) fn retry_after_ms(&self) -> Option<u64> {
        match self {
            Self::Window { again_in_ms, .. } => *again_in_ms,
            Self::Reserved(_) | Self::Calls(_) | Self::Bytes(_) => Some(1000),
            _ => None,
        }
    }

    /// What to do about it, for an agent, or for who asks without one.
    pub(crate) fn next(&self, aid: Aid, by: Option<&str>) -> String {
        match self {
            Self::Unkept(_) => {
                "see that the router's own directory can be written to, and octant status".to_owned()
            }
            Self::Window { field, again_in_ms, .. } if by.is_some() => {
                let wait = again_in_ms.map_or("", |_| "wait for the next, or ");
                format!("{wait}let it have more: {field}")
            }
            Self::NoGrant(_) if by.is_some() => "ask one that GET /v1/models lists".to_owned(),
            Self::Revoked | Self::Dismissed if by.is_some() => {
                "ask an operator for another key: octant router key new".to_owned()
            }
            Self::NoGrant(model) => format!(
                "ask one that GET /v1/models lists, or add {model:?} to models.allowed, sign the manifest anew and spawn it"
            ),
            Self::Budget(field) => format!(
                "see `octant agent budget {aid}`; raise {field} in its manifest, sign it with `octant manifest sign` and spawn \
                 it anew"
            ),
            Self::Extras(_) => {
                "leave it out, or write extras = true under [models] in its manifest, sign it anew and spawn it".to_owned()
            }
            Self::Reserved(_) => "wait until some have ended, or ask for fewer tokens of answer".to_owned(),
            Self::Window { field, .. } => format!("wait for the next, or raise {field} in its manifest"),
            Self::Calls(_) | Self::Bytes(_) => "wait until some have ended".to_owned(),
            Self::NoWord => "see `octant status`; try again".to_owned(),
            Self::Revoked | Self::Dismissed => "spawn the agent anew".to_owned(),
        }
    }
}

/// How many agents one is below, at the most.
const ABOVE_MAX: usize = 256;

fn amount(tokens: Option<u64>, microusd: Option<u64>) -> Amount {
    Amount { tokens: tokens.unwrap_or(u64::MAX), microusd: microusd.unwrap_or(u64::MAX) }
}

fn limits_of(said: &WindowLimits) -> Limits {
    Limits {
        minute: amount(said.tokens_per_minute, said.microusd_per_minute),
        day: amount(said.tokens_per_day, said.microusd_per_day),
        total: amount(said.tokens, said.microusd),
    }
}

impl Rights {
    /// What a word of `agents` comes to.
    pub(crate) fn read(said: &AdmitRequest) -> Result<Self, BadWord> {
        if said.models.len() > MODELS_MAX || said.above.len() > ABOVE_MAX {
            return Err(BadWord::TooMany(said.models.len().max(said.above.len())));
        }
        let models = said.models.iter().map(|model| model.parse().map_err(BadWord::Model));
        Ok(Self {
            generation: said.generation,
            models: models.collect::<Result<_, _>>()?,
            limits: Limits {
                minute: Amount { tokens: said.tokens_per_minute, microusd: said.microusd_per_minute },
                day: amount(said.tokens_per_day, said.microusd_per_day),
                total: Amount::UNLIMITED,
            },
            above: said.above.iter().map(|above| (above.aid, limits_of(&above.limits))).collect(),
            priced: true,
            max_price_microusd: said.max_price_microusd,
            data: said.data,
            keep_prompts: said.keep_prompts,
            cache: said.cache,
            extras: said.extras,
            dismissed: false,
        })
    }

    /// What whoever shows a key may ask.
    pub(crate) fn of_key(said: &IssueRequest) -> Result<Self, BadWord> {
        if said.models.len() > MODELS_MAX {
            return Err(BadWord::TooMany(said.models.len()));
        }
        let models = said.models.iter().map(|model| model.parse().map_err(BadWord::Model));
        let models = models.collect::<Result<_, _>>()?;
        let WindowLimits { microusd_per_minute, microusd_per_day, microusd, .. } = said.limits;
        let limits = limits_of(&said.limits);
        // Where money is counted.
        let priced = microusd_per_minute.or(microusd_per_day).or(microusd).is_some();
        let (max_price_microusd, data) = (said.max_price_microusd, said.data);
        Ok(Self { models, limits, priced, max_price_microusd, data, ..Self::operators() })
    }

    /// An operator's: every model, without a limit of its own.
    pub(crate) fn operators() -> Self {
        Self {
            generation: 0,
            models: PatternSet::All,
            limits: Limits::default(),
            above: Vec::new(),
            priced: false,
            max_price_microusd: None,
            data: DataClass::Any,
            keep_prompts: false,
            cache: false,
            extras: true,
            dismissed: false,
        }
    }

    /// The same, and nothing is allowed any more.
    pub(crate) fn none(&self) -> Self {
        Self { models: PatternSet::Only(Default::default()), dismissed: true, ..self.clone() }
    }

    /// Whether a name is granted: what a program asks for, or what that comes to.
    pub(crate) fn grants(&self, name: &str) -> bool {
        // What is no name of one model is in no grant.
        name.parse::<NamePattern>().is_ok_and(|name| !name.open() && self.models.covers(&name))
    }

    /// Whether a model may be asked, or be asked any longer, by the name that the program has for it or by its own. Every
    /// call asks this, before and while it is under way.
    pub(crate) fn decide(&self, asked: &str, own: &str) -> Result<(), Denied> {
        if self.dismissed {
            return Err(Denied::Dismissed);
        }
        if self.grants(asked) || self.grants(own) {
            return Ok(());
        }
        Err(Denied::NoGrant(asked.chars().take(100).collect()))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn word(aid: Aid, models: &[&str]) -> AdmitRequest {
        AdmitRequest {
            aid,
            generation: 1,
            models: models.iter().map(|&model| model.to_owned()).collect(),
            tokens_per_minute: u64::MAX,
            microusd_per_minute: u64::MAX,
            tokens_per_day: None,
            microusd_per_day: None,
            above: Vec::new(),
            max_price_microusd: None,
            data: DataClass::Any,
            keep_prompts: false,
            cache: false,
            extras: false,
            manifest: None,
        }
    }

    #[test]
    fn only_what_is_granted_is_allowed() {
        let rights = Rights::read(&word(Aid::from_bytes([1; 16]), &["small", "anthropic/*"])).unwrap();
        for model in ["small", "anthropic/claude", "anthropic/a/b"] {
            assert_eq!(rights.decide(model, ""), Ok(()), "{model}");
        }
        for model in [
            "",
            "*",
            "smal",
            "small2",
            "Small",
            "anthropic",
            "anthropic/*",
            "x anthropic/claude",
            "anthropic/ x",
        ] {
            assert!(matches!(rights.decide(model, "other"), Err(Denied::NoGrant(_))), "{model}");
        }
        assert_eq!(rights.decide("my-alias", "anthropic/claude"), Ok(()), "by what it comes to");
        assert_eq!(rights.none().decide("small", "small"), Err(Denied::Dismissed));
        let many = vec!["a"; MODELS_MAX + 1];
        assert_eq!(
            Rights::read(&word(Aid::from_bytes([1; 16]), &many)).unwrap_err(),
            BadWord::TooMany(MODELS_MAX + 1)
        );
    }
}
