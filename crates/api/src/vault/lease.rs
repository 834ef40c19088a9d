//! Who may use what, for how long.

use crate::text::{Base64, PrincipalShape};
use octant_ids::{Aid, Principal, SecretName, ServiceName, Sha256};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// How long a lease lasts when nobody says, in milliseconds.
pub const TTL_DEFAULT_MS: u64 = 3_600_000;
/// The longest that a grant can let leases last without an operator's word that they may be without end: 24 hours.
pub const TTL_MAX_MS: u64 = 86_400_000;
/// The most leases of one agent or service.
pub const LEASES_PER_AGENT: usize = 64;
/// The most leases that are alive at once.
pub const LEASES_PER_VAULT: usize = 100_000;

/// What a lease is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// A service uses the value for the holder, who never sees it.
    Use,
    /// The vault signs with the key pair.
    Sign,
    /// The holder sees the value. A higher risk: nothing can make it unseen.
    Reveal,
}

impl Mode {
    /// The mode's name as the wire and the ledger write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Use => "use",
            Self::Sign => "sign",
            Self::Reveal => "reveal",
        }
    }
}

/// To whom a grant is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// One agent, which runs.
    Agent(#[schemars(with = "String")] Aid),
    /// Every agent that runs under the manifest with this digest.
    Manifest(#[schemars(with = "String")] Sha256),
    /// A service, for itself.
    Service(#[schemars(with = "String")] ServiceName),
}

/// Why a text is not a [`Subject`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} names nobody: write agent:AID, manifest:SHA256 or service:NAME")]
pub struct SubjectError(String);

impl FromStr for Subject {
    type Err = SubjectError;
    fn from_str(text: &str) -> Result<Self, SubjectError> {
        let wrong = || SubjectError(text.chars().take(100).collect());
        let (kind, value) = text.split_once(':').ok_or_else(wrong)?;
        match kind {
            "agent" => value.parse().map(Self::Agent).map_err(|_| wrong()),
            "manifest" => value.parse().map(Self::Manifest).map_err(|_| wrong()),
            "service" => value.parse().map(Self::Service).map_err(|_| wrong()),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agent(aid) => write!(f, "agent:{aid}"),
            Self::Manifest(digest) => write!(f, "manifest:{digest}"),
            Self::Service(name) => write!(f, "service:{name}"),
        }
    }
}

/// Parameters of `vault.grant`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GrantRequest {
    /// The secret.
    #[schemars(with = "String")]
    pub name: SecretName,
    /// To whom.
    pub to: Subject,
    /// For what; at least one.
    pub modes: Vec<Mode>,
    /// The hosts for which a value may be used or signed with; not with `reveal`. Empty: as the service's own rules say.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// The longest that a lease lasts in all, with every renewal, in milliseconds; at most [`TTL_MAX_MS`]. Absent: one
    /// hour, or without end where `unlimited` says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_max_ms: Option<u64>,
    /// Whether leases may last as long as their holder.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unlimited: bool,
    /// When the grant itself ends, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<u64>,
    /// Why; goes on record.
    #[serde(default)]
    pub reason: String,
}

/// A grant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GrantInfo {
    /// Its number.
    pub id: u64,
    /// The secret.
    #[schemars(with = "String")]
    pub name: SecretName,
    /// To whom.
    pub to: Subject,
    /// For what.
    pub modes: Vec<Mode>,
    /// For which hosts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
    /// The longest that a lease lasts; absent: as long as its holder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_max_ms: Option<u64>,
    /// When the grant itself ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<u64>,
    /// When it was given, in milliseconds since 1970.
    pub created_ms: u64,
    /// By which operator, by user id.
    pub by: u32,
    /// Why.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// What is taken away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Revoke {
    /// One grant, and the leases that rest on it.
    Grant(u64),
    /// Every grant of a secret, and its leases.
    Secret(#[schemars(with = "String")] SecretName),
    /// Every lease of an agent, and every grant to that agent by its identifier.
    Agent(#[schemars(with = "String")] Aid),
    /// Every lease of a service.
    Service(#[schemars(with = "String")] ServiceName),
}

/// Parameters of `vault.revoke`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RevokeRequest {
    /// What.
    pub what: Revoke,
}

/// Answer of `vault.revoke`: it holds from now on, also where the ledger has not taken the record yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Revoked {
    /// How many grants are gone.
    pub grants: u64,
    /// How many leases are gone.
    pub leases: u64,
    /// Whether the change is on stable storage; if not, it holds until the vault's process ends.
    pub durable: bool,
}

/// Parameters of `vault.leases`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LeasesRequest {
    /// Only those of this agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub agent: Option<Aid>,
}

/// One lease, without its token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LeaseInfo {
    /// Who holds it.
    #[schemars(with = "PrincipalShape")]
    pub holder: Principal,
    /// Of what.
    #[schemars(with = "String")]
    pub name: SecretName,
    /// For what.
    pub mode: Mode,
    /// On which grant it rests.
    pub grant: u64,
    /// How long it lasts from now, in milliseconds; absent: as long as its holder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_ms: Option<u64>,
}

/// Answer of `vault.leases`: at most 1000 of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LeaseList {
    /// The leases.
    pub leases: Vec<LeaseInfo>,
    /// How many there are.
    pub total: u64,
}

/// What proves that its holder has a lease: 64 hexadecimal digits, 256 random bits. The vault keeps only its SHA-256,
/// and takes it only from the holder that it was given to.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub struct Token(#[schemars(with = "String")] pub [u8; 32]);

/// The text is no [`Token`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a token is 64 lower-case hexadecimal digits")]
pub struct TokenError;

impl TryFrom<String> for Token {
    type Error = TokenError;
    fn try_from(text: String) -> Result<Self, TokenError> {
        text.parse::<Sha256>().map(|bytes| Self(bytes.0)).map_err(|_| TokenError)
    }
}

impl From<Token> for String {
    fn from(token: Token) -> Self {
        Sha256(token.0).to_string()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// On whose behalf a service asks: itself, or an agent whose socket the call came through.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LeaseRequest {
    /// The agent; absent when the service asks for itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub agent: Option<Aid>,
    /// The digest of the manifest that the agent runs under.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub manifest: Option<Sha256>,
    /// The cgroup of the process that asked, as the kernel names it; what later presents the token must be in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<String>,
    /// The secret.
    #[schemars(with = "String")]
    pub name: SecretName,
    /// For what.
    pub mode: Mode,
    /// For how long, in milliseconds; the shorter of one hour and what the grant allows when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_ms: Option<u64>,
}

/// A lease as its holder gets it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Lease {
    /// What proves it.
    pub token: Token,
    /// For what.
    pub mode: Mode,
    /// How long it lasts, in milliseconds; absent: as long as its holder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_ms: Option<u64>,
    /// How long it can last with every renewal, from now, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renewable_ms: Option<u64>,
    /// For which hosts a value may be used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
    /// The user whose password it is, when it is one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub username: String,
    /// The public key of a key pair: 32 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_key: Option<Base64>,
}

/// Parameters of `vault.renew`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RenewRequest {
    /// The agent; absent when the service asks for itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub agent: Option<Aid>,
    /// The cgroup of the process that asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<String>,
    /// The lease.
    pub token: Token,
    /// For how long from now, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_ms: Option<u64>,
}

/// Parameters of `vault.release`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReleaseRequest {
    /// The agent; absent when the service asks for itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub agent: Option<Aid>,
    /// The cgroup of the process that asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<String>,
    /// The lease.
    pub token: Token,
}

/// Answer of `vault.release` and `vault.retire`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Released {
    /// How many leases are gone.
    pub leases: u64,
}

/// Parameters of `vault.open`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OpenRequest {
    /// The agent; absent when the service asks for itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub agent: Option<Aid>,
    /// The cgroup of the process that asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<String>,
    /// The lease.
    pub token: Token,
    /// For which host the value is used; demanded where the grant names hosts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// For how many requests that wait for it together; without, for one. It goes on record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<u64>,
}

/// Answer of `vault.open`; the descriptor has the value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Opened {
    /// The version.
    pub version: u64,
    /// The value's length in bytes.
    pub bytes: u64,
    /// The user whose password it is, when it is one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub username: String,
}

/// Parameters of `vault.sign`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SignRequest {
    /// The agent; absent when the service asks for itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub agent: Option<Aid>,
    /// The cgroup of the process that asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<String>,
    /// The lease.
    pub token: Token,
    /// What is signed, at most 64 KiB; a longer one by its digest.
    pub message: Base64,
    /// For which host the service has seen that it is; demanded where the grant names hosts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
}

/// Answer of `vault.sign`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Signed {
    /// The version of the key pair.
    pub version: u64,
    /// Its public key: 32 bytes.
    pub public_key: Base64,
    /// The signature (Ed25519): 64 bytes.
    pub signature: Base64,
}

/// Parameters of `vault.retire`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RetireRequest {
    /// The agent that has ended.
    #[schemars(with = "String")]
    pub agent: Aid,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_have_a_text_of_their_own() {
        let texts = ["service:router", &format!("manifest:{}", Sha256([7; 32]))];
        for text in texts {
            assert_eq!(text.parse::<Subject>().unwrap().to_string(), text);
        }
        for bad in ["", "router", "service:", "service:No", "agent:x", "host:a", "manifest:00"] {
            assert!(bad.parse::<Subject>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_token_is_never_shown() {
        let token = Token([0xab; 32]);
        assert!(!format!("{token:?}").contains("ab"));
        let text = serde_json::to_string(&token).unwrap();
        assert_eq!(serde_json::from_str::<Token>(&text).unwrap(), token);
        assert!(serde_json::from_str::<Token>("\"abab\"").is_err());
    }
}
