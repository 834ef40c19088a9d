//! The domains that other services enforce: network, credentials, models, skills and tools.

use crate::allotment::{NO_END, amount};
use crate::credential::{CredentialGrant, DatabaseLogin, SshLogin, Way};
use crate::error::Problem;
use crate::grants::{Grants, NameSet, Traffic};
use crate::host::{HostGrant, HostPattern, Protocol};
use crate::limits;
use crate::models::{MODELS, Models, models};
use crate::money;
use crate::pattern::{NamePattern, Pattern, PatternSet};
use crate::reader::{Document, Field, Gather, Result, Whole};
use crate::schema::{ranged, within};
use octant_ids::ByteSize;
use serde::Serialize;

const NETWORK: [&str; 6] = ["hosts", "leases", "connections", "bytes_per_second", "bytes", "requests"];

/// What is used up, in total over the agent's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Budget {
    /// How many model tokens.
    pub tokens: u64,
    /// How much money, in millionths of a US dollar.
    pub spend_microusd: u64,
    /// How many bytes through the gate, both ways together.
    pub bytes: u64,
    /// How many requests through it.
    pub requests: u64,
}

impl Budget {
    /// Each amount with its field, as a number and as text.
    #[must_use]
    pub fn rows(&self) -> [(&'static str, u64, String); 4] {
        let Self { tokens, spend_microusd, bytes, requests } = self;
        let size = if *bytes == NO_END { amount(*bytes) } else { ByteSize(*bytes).to_string() };
        [
            ("models.tokens", *tokens, tokens.to_string()),
            ("models.spend_usd", *spend_microusd, money::text(*spend_microusd)),
            ("network.bytes", *bytes, size),
            ("network.requests", *requests, amount(*requests)),
        ]
    }

    /// The parts of an allotment with it, and so many descendants.
    pub(crate) fn with(&self, descendants: u64) -> [u64; 5] {
        let Self { tokens, spend_microusd, bytes, requests } = self;
        [descendants, *tokens, *spend_microusd, *bytes, *requests]
    }
}

/// The grants of these domains.
pub(crate) struct Services {
    pub(crate) hosts: PatternSet<HostGrant>,
    pub(crate) leases: PatternSet<HostGrant>,
    pub(crate) traffic: Traffic,
    pub(crate) credentials: PatternSet<CredentialGrant>,
    pub(crate) models: Models,
    pub(crate) skills: PatternSet<NamePattern>,
    pub(crate) tools: PatternSet<NamePattern>,
    pub(crate) serves: NameSet,
}

pub(crate) fn services(document: &Document<'_>) -> Whole<Services> {
    let mut all = Gather::default();
    let network = all.take(network(document));
    let hosts = network.as_ref().map(|network| &network.0);
    let credentials = hosts.and_then(|hosts| all.take(credentials(document, hosts)));
    let models = all.take(models(document));
    let skills = all.take(skills(document));
    let whole = || {
        let (skills, tools, serves) = skills?;
        let (hosts, leases, traffic) = network?;
        let (credentials, models) = (credentials?, models?);
        Some(Services { hosts, leases, traffic, credentials, models, skills, tools, serves })
    };
    all.done(whole())
}

/// Few programs have as many open, and each is two descriptors of the gate's.
const CONNECTIONS: u64 = 64;

/// What may be reached, what may be asked for, and how much at once.
type Network = (PatternSet<HostGrant>, PatternSet<HostGrant>, Traffic);

fn network(document: &Document<'_>) -> Whole<Network> {
    let section = document.section("network", &NETWORK)?;
    let mut all = Gather::default();
    all.take(section.no_strays());
    let hosts = all.take(section.patterns("hosts"));
    let leases = all.take(section.patterns("leases"));
    let connections = section.get("connections");
    let connections = connections.map_or(Ok(CONNECTIONS), |field| {
        ranged(field, 1..=limits::CONNECTIONS, "each is two descriptors of the gate")
    });
    let rate = section.get("bytes_per_second").map(|field| {
        let rate = field.bytes()?;
        within(field, rate.0, rate.to_string(), 1024..=u64::MAX, "less is no connection at all").map(ByteSize)
    });
    let (connections, rate) = (all.take(connections), all.take(rate.transpose()));
    let whole = || Some((hosts?, leases?, Traffic { connections: connections?, bytes_per_second: rate? }));
    all.done(whole())
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
    let opens = |to: &DatabaseLogin| {
        let spoken = |grant: &HostGrant| grant.protocol == Protocol::Tls && grant.port == to.port;
        hosts.iter().any(|grant| spoken(grant) && grant.host.matches(&to.host))
    };
    let read = |field: &Field<'_>| -> Result<CredentialGrant> {
        let grant: CredentialGrant = field.pattern()?;
        match &grant.way {
            Way::Use(host, _) if !reached(host) => {
                Err(field.refuse(Problem::CredentialHost(grant.to_string())))
            }
            Way::Ssh(to) if !logs_in(to) => {
                let wanted = format!("tcp://{}:{}", to.host, to.port);
                Err(field.refuse(Problem::LoginHost(grant.to_string(), wanted)))
            }
            Way::Postgres(to) if !opens(to) => {
                let wanted = format!("tls://{}:{}", to.host, to.port);
                Err(field.refuse(Problem::LoginHost(grant.to_string(), wanted)))
            }
            _ => Ok(grant),
        }
    };
    section.each("grants", read)
}

/// How a server of tools is called. There is no `_` in it, so that what comes before the first `__` of a tool's name is
/// always a server, and no server has another's tools.
const SERVER: &str = "a name of 1 to 24 small letters, digits and - that does not begin with -";
const SERVER_BYTES: usize = 24;

/// Skills, tools that may be called, and the name of a server.
type Skills = (PatternSet<NamePattern>, PatternSet<NamePattern>, NameSet);

fn skills(document: &Document<'_>) -> Whole<Skills> {
    let section = document.section("skills", &["allowed", "tools", "serves"])?;
    let mut all = Gather::default();
    all.take(section.no_strays());
    let (skills, tools) = (all.take(section.patterns("allowed")), all.take(section.patterns("tools")));
    let serves = section.get("serves").map(|field| {
        let name = field.name("-", SERVER)?;
        let fits = name.len() <= SERVER_BYTES && !name.starts_with('-');
        if fits { Ok(name) } else { Err(field.refuse(Problem::Name { text: name, want: SERVER })) }
    });
    let serves = all.take(serves.transpose());
    let whole = || Some((skills?, tools?, NameSet::Only(serves?.into_iter().collect())));
    all.done(whole())
}

/// The budgets that a manifest asks.
pub(crate) fn budget(document: &Document<'_>) -> Whole<Budget> {
    let section = document.section("models", &MODELS)?;
    let mut all = Gather::default();
    all.take(section.no_strays());
    let tokens = all.take(section.get("tokens").map_or(Ok(0), |f| f.number()));
    let spend_microusd = all.take(section.get("spend_usd").map_or(Ok(0), |f| f.microusd()));
    let network = document.section("network", &NETWORK)?;
    // Who reaches nothing needs nothing; who does is bounded where it is said.
    let some = |field| network.patterns::<HostGrant>(field).is_ok_and(|hosts| !hosts.is_empty());
    let absent = if some("hosts") || some("leases") { NO_END } else { 0 };
    let finite = |field: Field<'_>, units: u64| {
        within(field, units, units.to_string(), 0..=NO_END - 1, "so much is no end; leave it out")
    };
    let bytes = network.get("bytes").map_or(Ok(absent), |f| f.bytes().and_then(|size| finite(f, size.0)));
    let requests = network.get("requests").map_or(Ok(absent), |f| f.number().and_then(|n| finite(f, n)));
    let (bytes, requests) = (all.take(bytes), all.take(requests));
    let whole = || {
        let (tokens, spend_microusd) = (tokens?, spend_microusd?);
        Some(Budget { tokens, spend_microusd, bytes: bytes?, requests: requests? })
    };
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

/// A row each, in the order of the schema. What is here disappears with the service that enforces it.
pub(crate) fn unenforceable(asked: &Grants) -> Vec<Unenforceable> {
    let not_by_manifest = |grant: &CredentialGrant| matches!(grant.way, Way::Sign | Way::Reveal);
    let rows = [
        (asked.credentials.iter().any(not_by_manifest), "credentials.grants", "sign and reveal", VAULT),
        (!asked.skills.is_empty(), "skills.allowed", "skills", "there is no skill runtime yet"),
    ];
    rows.into_iter()
        .filter(|(asked, ..)| *asked)
        .map(|(_, field, what, why)| Unenforceable { field, what, why })
        .collect()
}
