//! The domains that other services enforce: network, credentials, models, skills and tools.

use crate::credential::{CredentialGrant, SshLogin, Way};
use crate::error::Problem;
use crate::grants::{Grants, Models, Traffic};
use crate::host::{HostGrant, HostPattern, Protocol};
use crate::limits;
use crate::money;
use crate::pattern::{NamePattern, Pattern, PatternSet};
use crate::reader::{Document, Field, Gather, Result, Whole};
use crate::schema::{ranged, within};
use octant_ids::ByteSize;
use serde::Serialize;

const MODELS: [&str; 5] = ["allowed", "tokens", "tokens_per_minute", "spend_usd", "spend_usd_per_minute"];

/// What is used up, in total over the agent's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Budget {
    /// How many model tokens.
    pub tokens: u64,
    /// How much money, in millionths of a US dollar.
    pub spend_microusd: u64,
}

impl Budget {
    /// Each amount with its field, as a number and as text.
    #[must_use]
    pub fn rows(&self) -> [(&'static str, u64, String); 2] {
        let Self { tokens, spend_microusd } = self;
        [
            ("models.tokens", *tokens, tokens.to_string()),
            ("models.spend_usd", *spend_microusd, money::text(*spend_microusd)),
        ]
    }
}

/// The grants of these domains.
pub(crate) struct Services {
    pub(crate) hosts: PatternSet<HostGrant>,
    pub(crate) traffic: Traffic,
    pub(crate) credentials: PatternSet<CredentialGrant>,
    pub(crate) models: Models,
    pub(crate) skills: PatternSet<NamePattern>,
    pub(crate) tools: PatternSet<NamePattern>,
}

pub(crate) fn services(document: &Document<'_>) -> Whole<Services> {
    let mut all = Gather::default();
    let network = all.take(network(document));
    let hosts = network.as_ref().map(|network| &network.0);
    let credentials = hosts.and_then(|hosts| all.take(credentials(document, hosts)));
    let models = all.take(models(document));
    let skills = all.take(skills(document));
    let whole = || {
        let (skills, tools) = skills?;
        let (hosts, traffic) = network?;
        Some(Services { hosts, traffic, credentials: credentials?, models: models?, skills, tools })
    };
    all.done(whole())
}

/// Few programs have as many open, and each is two descriptors of the gate's.
const CONNECTIONS: u64 = 64;

fn network(document: &Document<'_>) -> Whole<(PatternSet<HostGrant>, Traffic)> {
    let section = document.section("network", &["hosts", "connections", "bytes_per_second"])?;
    let mut all = Gather::default();
    all.take(section.no_strays());
    let hosts = all.take(section.patterns("hosts"));
    let connections = section.get("connections");
    let connections = connections.map_or(Ok(CONNECTIONS), |field| {
        ranged(field, 1..=limits::CONNECTIONS, "each is two descriptors of the gate")
    });
    let rate = section.get("bytes_per_second").map(|field| {
        let rate = field.bytes()?;
        within(field, rate.0, rate.to_string(), 1024..=u64::MAX, "less is no connection at all").map(ByteSize)
    });
    let (connections, rate) = (all.take(connections), all.take(rate.transpose()));
    let traffic = || Some(Traffic { connections: connections?, bytes_per_second: rate? });
    all.done(hosts.zip(traffic()))
}

fn credentials(document: &Document<'_>, hosts: &PatternSet<HostGrant>) -> Whole<PatternSet<CredentialGrant>> {
    let section = document.section("credentials", &["grants"])?;
    section.no_strays()?;
    // A secret is used over TLS that the gate itself originates.
    let reached = |host: &HostPattern| {
        hosts.iter().any(|grant| grant.protocol == Protocol::Tls && host.within(&grant.host))
    };
    let logs_in = |to: &SshLogin| {
        let spoken = |grant: &HostGrant| grant.protocol == Protocol::Tcp && grant.port == to.port;
        hosts.iter().any(|grant| spoken(grant) && grant.host.matches(&to.host))
    };
    let read = |field: &Field<'_>| -> Result<CredentialGrant> {
        let grant: CredentialGrant = field.pattern()?;
        match &grant.way {
            Way::Use(host) if !reached(host) => Err(field.refuse(Problem::CredentialHost(grant.to_string()))),
            Way::Ssh(to) if !logs_in(to) => {
                let wanted = format!("tcp://{}:{}", to.host, to.port);
                Err(field.refuse(Problem::SshHost(grant.to_string(), wanted)))
            }
            _ => Ok(grant),
        }
    };
    section.each("grants", read)
}

fn skills(document: &Document<'_>) -> Whole<(PatternSet<NamePattern>, PatternSet<NamePattern>)> {
    let section = document.section("skills", &["allowed", "tools"])?;
    let mut all = Gather::default();
    all.take(section.no_strays());
    let (skills, tools) = (all.take(section.patterns("allowed")), all.take(section.patterns("tools")));
    all.done(skills.zip(tools))
}

fn models(document: &Document<'_>) -> Whole<Models> {
    let section = document.section("models", &MODELS)?;
    let total = budget(document)?;
    let mut all = Gather::default();
    let allowed = all.take(section.patterns("allowed"));
    // Without a rate of its own, all of it may be used in one minute.
    let tokens = section.get("tokens_per_minute").map_or(Ok(total.tokens), |f| f.number());
    let spend = section.get("spend_usd_per_minute").map_or(Ok(total.spend_microusd), |f| f.microusd());
    let (tokens, spend) = (all.take(tokens), all.take(spend));
    let whole =
        || Some(Models { allowed: allowed?, tokens_per_minute: tokens?, microusd_per_minute: spend? });
    all.done(whole())
}

/// The budgets that a manifest asks.
pub(crate) fn budget(document: &Document<'_>) -> Whole<Budget> {
    let section = document.section("models", &MODELS)?;
    let mut all = Gather::default();
    all.take(section.no_strays());
    let tokens = all.take(section.get("tokens").map_or(Ok(0), |f| f.number()));
    let spend_microusd = all.take(section.get("spend_usd").map_or(Ok(0), |f| f.microusd()));
    let whole = || Some(Budget { tokens: tokens?, spend_microusd: spend_microusd? });
    all.done(whole())
}

/// Something that is asked and that this build has nothing to enforce with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{field}: this build cannot grant {what}: {why}; remove {field} or leave it empty")]
pub struct Unenforceable {
    /// Where it stands.
    pub field: &'static str,
    /// What was asked.
    pub what: &'static str,
    /// What is missing.
    pub why: &'static str,
}

const VAULT: &str = "signing and revealing are leased by the vault's own grants and not by manifests yet; see octant vault grant";
const ROUTER: &str = "the router does not exist yet";

/// A row each, in the order of the schema. What is here disappears with the service that enforces it.
pub(crate) fn unenforceable(asked: &Grants, budget: &Budget) -> Vec<Unenforceable> {
    let not_by_manifest = |grant: &CredentialGrant| matches!(grant.way, Way::Sign | Way::Reveal);
    let rows = [
        (asked.credentials.iter().any(not_by_manifest), "credentials.grants", "sign and reveal", VAULT),
        (!asked.models.allowed.is_empty(), "models.allowed", "models", ROUTER),
        (budget.tokens > 0, "models.tokens", "a model budget", ROUTER),
        (budget.spend_microusd > 0, "models.spend_usd", "a model budget", ROUTER),
        (!asked.skills.is_empty(), "skills.allowed", "skills", "there is no skill runtime yet"),
        (!asked.tools.is_empty(), "skills.tools", "tools", "there is no tool registry yet"),
    ];
    rows.into_iter()
        .filter(|(asked, ..)| *asked)
        .map(|(_, field, what, why)| Unenforceable { field, what, why })
        .collect()
}
