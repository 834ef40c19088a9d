//! Secrets as grants: which, how, and for which host.

use crate::host::HostPattern;
use crate::pattern::{Pattern, PatternError};
use octant_ids::SecretName;
use std::fmt;
use std::str::FromStr;

const GRANT: &str = "\"use SECRET at HOST\", \"sign SECRET\" or \"reveal SECRET\"";

/// One way to use one secret: `use prod/github at api.github.com`, `sign prod/key`, `reveal prod/token`.
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
    /// A service uses the value for the agent towards this host; the agent never sees it.
    Use(HostPattern),
    /// The vault signs with it.
    Sign,
    /// The agent sees the value.
    Reveal,
}

impl Pattern for CredentialGrant {
    fn meet(&self, other: &Self) -> Option<Self> {
        let way = match (&self.way, &other.way) {
            (Way::Use(a), Way::Use(b)) => Way::Use(a.meet(b)?),
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
        let words: Vec<&str> = text.split(' ').collect();
        let (secret, way) = match words[..] {
            ["use", secret, "at", host] => (secret, Way::Use(host.parse()?)),
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
            Way::Use(host) => write!(f, "use {secret} at {host}"),
            Way::Sign => write!(f, "sign {secret}"),
            Way::Reveal => write!(f, "reveal {secret}"),
        }
    }
}
