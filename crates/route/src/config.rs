//! The operator's file, `/etc/octant/router.toml`, as it is written.

use crate::ability::Abilities;
use crate::budget::{Amount, Limits};
use crate::choose::Strategy;
use crate::data::{Long, ModelEntry};
use crate::error::Text;
use crate::price::Rates;
use crate::provider::Provider;
use octant_ids::SecretName;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use toml::Spanned;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct File {
    pub(crate) strategy: Option<Strategy>,
    pub(crate) retry: Option<RetryEntry>,
    pub(crate) cache: Option<CacheEntry>,
    pub(crate) listen: Option<ListenEntry>,
    pub(crate) operators: LimitsEntry,
    pub(crate) keys: LimitsEntry,
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
pub(crate) struct ListenEntry {
    pub(crate) at: Spanned<SocketAddr>,
    #[serde(default)]
    pub(crate) plain: bool,
}

/// Where programs outside of workstations ask, with keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listen {
    /// The address.
    pub at: SocketAddr,
}

impl Listen {
    /// Whether other machines can reach it.
    #[must_use]
    pub fn public(&self) -> bool {
        !self.at.ip().to_canonical().is_loopback()
    }
}

impl ListenEntry {
    pub(crate) fn check(self, text: &mut Text<'_>) -> Listen {
        let (at, listen) = (self.at.span().start, Listen { at: self.at.into_inner() });
        if listen.public() && !self.plain {
            let why = format!(
                "{} can be reached from other machines, and what is said there is not encrypted: keep to 127.0.0.1 with \
                 something that speaks TLS before it, or say plain = true",
                listen.at
            );
            text.wrong(at, "listen.at", why);
        }
        if listen.at.port() < 1024 {
            let why = format!("{} is a port for root alone: take one from 1024 on", listen.at.port());
            text.wrong(at, "listen.at", why);
        }
        listen
    }
}

/// How much several callers may use together.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LimitsEntry {
    tokens_per_minute: Option<u64>,
    microusd_per_minute: Option<u64>,
    tokens_per_day: Option<u64>,
    microusd_per_day: Option<u64>,
    tokens: Option<u64>,
    microusd: Option<u64>,
}

impl From<LimitsEntry> for Limits {
    fn from(entry: LimitsEntry) -> Self {
        let amount = |tokens: Option<u64>, microusd: Option<u64>| Amount {
            tokens: tokens.unwrap_or(u64::MAX),
            microusd: microusd.unwrap_or(u64::MAX),
        };
        Self {
            minute: amount(entry.tokens_per_minute, entry.microusd_per_minute),
            day: amount(entry.tokens_per_day, entry.microusd_per_day),
            total: amount(entry.tokens, entry.microusd),
        }
    }
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
