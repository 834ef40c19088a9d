//! Why a deployment is not asked.

use crate::ability::Abilities;
use crate::health::Why;
use octant_llm::Kind;
use std::fmt;

/// Why a deployment is not asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// Neither the name that was asked for nor the model's is allowed to who asks.
    NotAllowed,
    /// It cannot do what the request needs.
    Lacks(Abilities),
    /// Nobody has said what it can do.
    Unknown(Abilities),
    /// Prompt and answer do not fit.
    Window {
        /// The tokens that are needed.
        needs: u64,
        /// The tokens that there are.
        has: u64,
    },
    /// It does not answer at such length.
    Output {
        /// The tokens that are asked for.
        asked: u64,
        /// The most that it says.
        has: u64,
    },
    /// It is not this machine, and prompts may not leave it.
    NotLocal,
    /// Nobody has said that it keeps nothing.
    Keeps,
    /// It costs more than it may.
    Price,
    /// Nobody knows what it costs, and what it may cost is limited.
    NoPrice,
    /// An operator has to look first.
    Out(Why),
}

impl Reason {
    /// The sort of failure that it is for who asks.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::NotAllowed | Self::NotLocal | Self::Keeps | Self::Price | Self::NoPrice => Kind::Forbidden,
            Self::Lacks(_) | Self::Unknown(_) | Self::Output { .. } => Kind::Invalid,
            Self::Window { .. } => Kind::ContextLength,
            Self::Out(_) => Kind::Overloaded,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAllowed => f.write_str("the manifest's models.allowed does not name it"),
            Self::Lacks(what) => write!(f, "it cannot do what the request needs: {what}"),
            Self::Unknown(what) => {
                write!(f, "nobody has said that it can do what the request needs ({what}): write can = [...] for it in router.toml")
            }
            Self::Window { needs, has } => {
                write!(f, "prompt and answer need up to {needs} tokens, and its window has {has}")
            }
            Self::Output { asked, has } => {
                write!(f, "an answer of {asked} tokens is asked for, and it says no more than {has}")
            }
            Self::NotLocal => f.write_str("prompts may not leave this machine, and it is not on it"),
            Self::Keeps => {
                f.write_str("nothing may be kept of prompts, and router.toml does not say retention = \"none\" for it")
            }
            Self::Price => f.write_str("it costs more than the manifest or the operator allows"),
            Self::NoPrice => {
                f.write_str("its price is not known, and what may be spent is limited: write price = {...} for it in router.toml")
            }
            Self::Out(why) => write!(f, "{why}, until an operator has looked"),
        }
    }
}
