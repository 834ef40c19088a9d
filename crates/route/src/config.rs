//! The operator's file, `/etc/octant/router.toml`, as it is written.

use crate::ability::Abilities;
use crate::choose::Strategy;
use crate::data::{Long, ModelEntry};
use crate::price::Rates;
use crate::provider::Provider;
use octant_ids::SecretName;
use serde::Deserialize;
use std::collections::BTreeMap;
use toml::Spanned;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct File {
    pub(crate) strategy: Option<Strategy>,
    pub(crate) retry: Option<RetryEntry>,
    pub(crate) cache: Option<CacheEntry>,
    pub(crate) aliases: BTreeMap<Spanned<String>, Spanned<String>>,
    pub(crate) provider: Vec<Spanned<Provider>>,
    pub(crate) model: Vec<ModelEntry>,
    pub(crate) deployment: Vec<DeploymentEntry>,
    pub(crate) group: Vec<GroupEntry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RetryEntry {
    pub(crate) tries: Option<Spanned<u32>>,
    pub(crate) deadline_ms: Option<Spanned<u64>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CacheEntry {
    pub(crate) bytes: Spanned<u64>,
    pub(crate) entries: Spanned<u32>,
    pub(crate) ttl_ms: Spanned<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeploymentEntry {
    pub(crate) name: Spanned<String>,
    pub(crate) provider: Spanned<String>,
    pub(crate) model: Spanned<String>,
    pub(crate) key: Option<Spanned<SecretName>>,
    pub(crate) weight: Option<Spanned<u32>>,
    pub(crate) rpm: Option<Spanned<u64>>,
    pub(crate) tpm: Option<Spanned<u64>>,
    pub(crate) at_once: Option<Spanned<u32>>,
    pub(crate) retention: Option<Retention>,
    #[serde(default)]
    pub(crate) values: BTreeMap<Spanned<String>, Spanned<String>>,
    pub(crate) like: Option<Spanned<String>>,
    pub(crate) window: Option<u64>,
    pub(crate) max_output: Option<u64>,
    pub(crate) can: Option<Abilities>,
    pub(crate) price: Option<Rates>,
    pub(crate) long: Option<Long>,
}

/// What a provider keeps of prompts and answers, by contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Retention {
    /// Nothing.
    None,
    /// Nobody has said.
    Unknown,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GroupEntry {
    pub(crate) name: Spanned<String>,
    #[serde(default)]
    pub(crate) deployments: Vec<Spanned<String>>,
    #[serde(default)]
    pub(crate) fallbacks: Vec<Spanned<String>>,
    pub(crate) strategy: Option<Strategy>,
    pub(crate) simple: Option<Spanned<String>>,
    pub(crate) medium: Option<Spanned<String>>,
    pub(crate) hard: Option<Spanned<String>>,
}
