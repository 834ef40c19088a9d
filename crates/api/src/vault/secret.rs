//! Secrets and their versions, without values.

use super::GrantInfo;
use octant_ids::SecretName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The longest text of a secret's metadata, in bytes.
pub const TEXT_MAX: usize = 512;
/// The most labels of a secret.
pub const LABELS_MAX: usize = 16;
/// How many versions of a secret keep their values; the oldest of more is destroyed.
pub const VERSIONS_MAX: usize = 16;

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Any bytes.
    #[default]
    Opaque,
    /// An Ed25519 key pair (RFC 8032); the value is its seed of 32 bytes. It signs; it is never handed out.
    KeyPair,
    /// A password; the name of its user stands in the metadata.
    Password,
    /// An OAuth 2.0 refresh token (RFC 6749 section 1.5); where it is exchanged stands in the metadata.
    OauthRefresh,
}

impl Kind {
    /// The kind's name as the wire and the vault's file write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Opaque => "opaque",
            Self::KeyPair => "key_pair",
            Self::Password => "password",
            Self::OauthRefresh => "oauth_refresh",
        }
    }
}

/// What can be done with a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum VersionState {
    /// It is the one that is used.
    Active,
    /// It was used before, and can be again.
    Deprecated,
    /// Its value is gone.
    Destroyed,
}

/// One version of a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VersionInfo {
    /// Its number: 1, 2, 3, ...
    pub version: u64,
    /// What can be done with it.
    pub state: VersionState,
    /// When it was stored, in milliseconds since 1970.
    pub created_ms: u64,
    /// From when on it is refused, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_after_ms: Option<u64>,
    /// The public key of a key pair: 64 hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_key: Option<String>,
}

/// What is known of a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SecretInfo {
    /// Its name.
    #[schemars(with = "String")]
    pub name: SecretName,
    /// What its value is.
    pub kind: Kind,
    /// The version in use.
    pub current: u64,
    /// Every version, oldest first.
    pub versions: Vec<VersionInfo>,
    /// What it is for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub about: String,
    /// The user whose password it is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub username: String,
    /// Where it is used: of an OAuth refresh token, where it is exchanged.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub url: String,
    /// An operator's own words about it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// Parameters of `vault.put`. The descriptor has the value; a key pair that is made here needs none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PutRequest {
    /// The new secret's name.
    #[schemars(with = "String")]
    pub name: SecretName,
    /// What its value is.
    #[serde(default)]
    pub kind: Kind,
    /// What it is for; at most 512 bytes, as every text here.
    #[serde(default)]
    pub about: String,
    /// The user whose password it is.
    #[serde(default)]
    pub username: String,
    /// Where it is used.
    #[serde(default)]
    pub url: String,
    /// At most 16.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// From when on it is refused, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_after_ms: Option<u64>,
    /// Whether the vault makes the value: 32 random bytes, of a key pair its seed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub generate: bool,
}

/// Parameters of `vault.rotate`. The descriptor has the new value, unless it is made here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RotateRequest {
    /// The secret.
    #[schemars(with = "String")]
    pub name: SecretName,
    /// From when on the new version is refused, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_after_ms: Option<u64>,
    /// Whether the vault makes the value.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub generate: bool,
}

/// Parameters of `vault.rollback`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RollbackRequest {
    /// The secret.
    #[schemars(with = "String")]
    pub name: SecretName,
    /// The version that is to be used again.
    pub version: u64,
}

/// Parameters of `vault.destroy`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DestroyRequest {
    /// The secret.
    #[schemars(with = "String")]
    pub name: SecretName,
    /// The version whose value is destroyed; not the current one.
    pub version: u64,
}

/// Parameters of `vault.remove`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RemoveRequest {
    /// The secret.
    #[schemars(with = "String")]
    pub name: SecretName,
}

/// Answer of what changes the vault: the change is on stable storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Changed {
    /// The vault's epoch with this change.
    pub epoch: u64,
    /// The version that it made or made current; 0 where it is about no version.
    #[serde(default)]
    pub version: u64,
}

/// Parameters of `vault.list`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListRequest {
    /// Only names that begin so.
    #[serde(default)]
    pub prefix: String,
    /// Only names after this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub after: Option<SecretName>,
    /// At most so many; 0 and everything above 500 is 500.
    #[serde(default)]
    pub limit: u32,
}

/// Answer of `vault.list`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Page {
    /// The secrets, by name.
    pub secrets: Vec<SecretInfo>,
    /// The name to go on after; absent when there is no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub next: Option<SecretName>,
}

/// Parameters of `vault.show`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ShowRequest {
    /// The secret.
    #[schemars(with = "String")]
    pub name: SecretName,
}

/// Answer of `vault.show`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Details {
    /// What is known of it.
    pub secret: SecretInfo,
    /// Who may have leases of it.
    pub grants: Vec<GrantInfo>,
    /// How many leases of it are alive.
    pub leases: u64,
}

/// Parameters of `vault.reveal`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RevealRequest {
    /// The secret.
    #[schemars(with = "String")]
    pub name: SecretName,
    /// Which version; the current one when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// Why a person has to see it; goes on record.
    pub reason: String,
}

/// Answer of `vault.reveal`; the descriptor has the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Revealed {
    /// What the value is.
    pub kind: Kind,
    /// Its version.
    pub version: u64,
    /// Its length in bytes.
    pub bytes: u64,
}
