//! Secrets as grants: which, how, and for which host.

use crate::host::HostPattern;
use crate::pattern::{Pattern, PatternError};
use crate::place::Place;
use octant_ids::SecretName;
use std::fmt;
use std::str::FromStr;

const GRANT: &str =
    "\"use SECRET at HOST\", the same with \"in PLACE\", \"sign SECRET\" or \"reveal SECRET\"";

/// One way to use one secret: `use prod/github at api.github.com`, `use prod/pypi at upload.pypi.org in basic __token__`,
/// `sign prod/key`, `reveal prod/token`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct CredentialGrant {
    /// Which secret.
    pub secret: SecretName,
    /// How.
    pub way: Way,
}

/// What is done with a secret, in the vault's words.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// A service uses the value for the agent towards this host, in this place; the agent never sees it.
    Use(HostPattern, Place),
    /// The vault signs with it.
    Sign,
    /// The agent sees the value.
    Reveal,
}

impl Pattern for CredentialGrant {
    fn meet(&self, other: &Self) -> Option<Self> {
        let way = match (&self.way, &other.way) {
            // A place is whole or not at all: none is part of another.
            (Way::Use(a, here), Way::Use(b, there)) if here == there => Way::Use(a.meet(b)?, here.clone()),
            (Way::Sign, Way::Sign) => Way::Sign,
            (Way::Reveal, Way::Reveal) => Way::Reveal,
            _ => return None,
        };
        (self.secret == other.secret).then(|| Self { secret: self.secret.clone(), way })
    }
}

impl FromStr for CredentialGrant {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let refuse = |why| PatternError::new(text, why, GRANT);
        let (grant, place) = match text.split_once(" in ") {
            // What stands after the word is a place, and there is one.
            Some((_, "")) => return Err(refuse("the place is missing in which the secret is put")),
            Some((grant, place)) => (grant, Some(place)),
            None => (text, None),
        };
        let words: Vec<&str> = grant.split(' ').collect();
        let (secret, way) = match words[..] {
            ["use", secret, "at", host] => {
                (secret, Way::Use(host.parse()?, place.unwrap_or_default().parse()?))
            }
            _ if place.is_some() => return Err(refuse("only what is used at a host is put in a place")),
            ["use", ..] => return Err(refuse("the host is missing for which the secret may be used")),
            ["sign", secret] => (secret, Way::Sign),
            ["reveal", secret] => (secret, Way::Reveal),
            _ => return Err(refuse("it is not a way to use a secret")),
        };
        let secret = secret.parse().map_err(|_| refuse("the vault has no names of this form"))?;
        Ok(Self { secret, way })
    }
}

impl fmt::Display for CredentialGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secret = self.secret.as_str();
        match &self.way {
            Way::Use(host, Place::Usual) => write!(f, "use {secret} at {host}"),
            Way::Use(host, place) => write!(f, "use {secret} at {host} in {place}"),
            Way::Sign => write!(f, "sign {secret}"),
            Way::Reveal => write!(f, "reveal {secret}"),
        }
    }
}
