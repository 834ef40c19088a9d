//! What an agent may reach, and whether it may go on. Pure but for the counters, which only grow.

use crate::inject::Credential;
use octant_api::egress::{
    CREDENTIALS_MAX, Caps, Credential as Said, HostLease, Login, REASON_MAX, RULES_MAX,
};
use octant_ids::{Aid, SecretName, Sha256};
use octant_manifest::{DatabaseLogin, HostGrant, HostName, HostPattern, Protocol};
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What was used of something that has an end.
#[derive(Debug, Default)]
pub(crate) struct Used {
    pub(crate) bytes: AtomicU64,
    pub(crate) connections: AtomicU64,
}

impl Used {
    /// Takes as many of `wanted` bytes as there are yet below the limit.
    pub(crate) fn take_bytes(&self, wanted: u64, most: Option<u64>) -> u64 {
        let mut got = 0;
        let take = |used: u64| {
            got = wanted.min(most.unwrap_or(u64::MAX).saturating_sub(used));
            Some(used.saturating_add(got))
        };
        // The closure never declines.
        let _ = self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        got
    }

    /// Takes one connection, if there is one yet below the limit. What was decided before it was taken may have been
    /// decided for others too.
    pub(crate) fn take_connection(&self, most: Option<u64>) -> bool {
        let take = |used: u64| most.is_none_or(|most| used < most).then(|| used.saturating_add(1));
        self.connections.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }

    /// Gives back what was taken and not used.
    pub(crate) fn return_bytes(&self, count: u64) {
        self.bytes.fetch_sub(count, Ordering::Relaxed);
    }
}

/// A lease in force.
#[derive(Debug, Clone)]
pub(crate) struct Lease {
    pub(crate) said: HostLease,
    pub(crate) grant: HostGrant,
    /// Kept from word to word, so that a new word gives nothing back.
    pub(crate) used: Arc<Used>,
}

/// Everything that one agent may reach: one word of `agents`, never changed.
#[derive(Debug, Clone)]
pub(crate) struct Rights {
    pub(crate) generation: u64,
    pub(crate) grants: Vec<HostGrant>,
    pub(crate) leases: Vec<Lease>,
    pub(crate) caps: Caps,
    /// The secrets that are used for it.
    pub(crate) credentials: Vec<Credential>,
    /// The databases that it is logged in to, and by which secret.
    pub(crate) logins: Vec<(SecretName, DatabaseLogin)>,
    /// The manifest that it runs under.
    pub(crate) manifest: Option<Sha256>,
}

/// Why a word of `agents` cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadWord {
    #[error("{0} hosts and leases are more than {RULES_MAX}")]
    TooMany(usize),
    #[error("{0}")]
    Host(octant_manifest::PatternError),
    #[error("the lease {0} stands there twice")]
    Twice(String),
    #[error("{0}")]
    Credential(String),
    #[error("{0} secrets are more than {CREDENTIALS_MAX}")]
    Credentials(usize),
    #[error("the reason of the lease {0} is longer than {REASON_MAX} bytes")]
    Reason(String),
}

/// What allows a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Rule {
    /// A line of the manifest.
    Grant(HostGrant),
    /// A lease, by its identifier.
    Lease(String),
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Grant(grant) => write!(f, "{grant}"),
            Self::Lease(id) => write!(f, "lease {id}"),
        }
    }
}

/// What a secret is used for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// It is put into a request.
    Request { method: String, path_sha256: Sha256 },
    /// It logs in to a database.
    Login { user: String, database: String },
}

/// What may be spoken to a host on a port, and by which rule.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Allowed {
    tls: Option<Rule>,
    http: Option<Rule>,
    tcp: Option<Rule>,
}

impl Allowed {
    /// The rule for anything at all. It comes first: who may say anything may say TLS too.
    pub(crate) fn opaque(&self) -> Option<&Rule> {
        self.tcp.as_ref()
    }

    /// The rule for a protocol.
    pub(crate) fn rule(&self, protocol: Protocol) -> Option<&Rule> {
        match protocol {
            Protocol::Tls => self.tls.as_ref(),
            Protocol::Http => self.http.as_ref(),
            Protocol::Tcp => self.tcp.as_ref(),
        }
    }

    /// Any of the rules, for who only looks.
    pub(crate) fn any(&self) -> Option<&Rule> {
        self.tcp.as_ref().or(self.tls.as_ref()).or(self.http.as_ref())
    }

    fn add(&mut self, protocol: Protocol, rule: Rule) {
        let place = match protocol {
            Protocol::Tls => &mut self.tls,
            Protocol::Http => &mut self.http,
            Protocol::Tcp => &mut self.tcp,
        };
        place.get_or_insert(rule);
    }
}

/// Why a connection is not let through, or not any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Denied {
    #[error("no grant names {0}")]
    NoGrant(String),
    #[error("{host} is granted on {}, not on port {port}", list(ports))]
    OtherPort { host: String, port: u16, ports: Vec<u16> },
    #[error("the address {0} stands for no name that this agent has asked for")]
    NoName(std::net::IpAddr),
    #[error("an address is no name: only names are granted")]
    Address,
    #[error("{0}")]
    BadName(octant_manifest::PatternError),
    #[error("the agent has {0} connections open, as many as it may")]
    Connections(u64),
    #[error("all agents together have {0} connections open, as many as the gate has descriptors for")]
    Full(u64),
    #[error("all {0} bytes that the agent may send and receive are used up")]
    Bytes(u64),
    #[error("the agent's budget {0} is used up, or nobody could say that it is not")]
    Budget(&'static str),
    #[error("the lease {0} is over")]
    LeaseOver(String),
    #[error("the connections of the lease {0} are used up")]
    LeaseConnections(String),
    #[error("the bytes of the lease {0} are used up")]
    LeaseBytes(String),
    #[error("the rule that allowed it is gone")]
    Revoked,
    #[error("the agent is gone")]
    Dismissed,
    #[error("{host} is granted for {granted}, and it does not begin as that")]
    OtherProtocol { host: String, granted: &'static str },
    #[error("the TLS server name is {got}, not {host}")]
    ServerName { host: String, got: String },
    #[error("it is no TLS that can be read: {0}")]
    Hello(String),
    #[error("a request names {got}, not {host}")]
    Host { host: String, got: String },
    #[error("a request cannot be read in one way only: {0}")]
    Request(Cow<'static, str>),
    #[error("a placeholder that is not this agent's for {0} was about to be sent there")]
    Canary(String),
    #[error("what stands for {secret} is in {place}, where no secret is put")]
    Misplaced { secret: String, place: String },
    #[error("no grant logs {user} in at {host} to the database {database}")]
    Login { user: String, database: String, host: String },
    #[error("a request to cancel at {0} is for a session that this agent does not have")]
    Cancel(String),
    #[error("{secret} cannot be used at {host}: {why}")]
    NoSecret { secret: String, host: String, why: String },
    #[error("{0} has no address that may be connected to: {1}")]
    Refused(String, String),
}

impl Denied {
    /// The field of the manifest that decides it; none where no field does.
    pub(crate) fn field(&self) -> Option<&'static str> {
        match self {
            Self::NoGrant(_)
            | Self::OtherPort { .. }
            | Self::NoName(_)
            | Self::Address
            | Self::BadName(_)
            | Self::OtherProtocol { .. }
            | Self::ServerName { .. }
            | Self::Hello(_)
            | Self::Host { .. }
            | Self::Request(_) => Some("network.hosts"),
            Self::Connections(_) => Some("network.connections"),
            Self::Budget(field) => Some(field),
            Self::Canary(_)
            | Self::Misplaced { .. }
            | Self::NoSecret { .. }
            | Self::Login { .. }
            | Self::Cancel(_) => Some("credentials.grants"),
            // What is lent or configured stands in no manifest, and a cap that is not drawn stands in none. Descriptors
            // are the machine's.
            Self::Full(_)
            | Self::LeaseOver(_)
            | Self::LeaseConnections(_)
            | Self::LeaseBytes(_)
            | Self::Revoked
            | Self::Bytes(_)
            | Self::Dismissed
            | Self::Refused(..) => None,
        }
    }

    /// What to do about it, where `to` was denied to the agent: with the command that would grant it, where there is one.
    pub(crate) fn next(&self, aid: Aid, to: &str, port: u16) -> String {
        let lend = || match port {
            // A question for a name says nothing of what is to be spoken.
            53 => format!("octant egress lease {aid} PROTOCOL://{to}:PORT --for TIME --reason TEXT"),
            443 => format!("octant egress lease {aid} tls://{to}:443 --for TIME --reason TEXT"),
            80 => format!("octant egress lease {aid} http://{to}:80 --for TIME --reason TEXT"),
            port => format!("octant egress lease {aid} tcp://{to}:{port} --for TIME --reason TEXT"),
        };
        match self {
            Self::LeaseOver(_) | Self::LeaseConnections(_) | Self::LeaseBytes(_) | Self::Revoked => {
                format!("lend it again: {}", lend())
            }
            Self::Budget(field) => format!(
                "see `octant agent budget {aid}`; raise {field} in its manifest, sign it with `octant manifest sign` and spawn \
                 it anew, or end an agent below it"
            ),
            Self::NoSecret { secret, host, .. } => format!(
                "see octant vault status; octant vault grant {secret} --to manifest-file:FILE --mode use --host {host}"
            ),
            _ => self.advice().map_or_else(
                || format!("add it to network.hosts and sign the manifest anew, or lend it: {}", lend()),
                str::to_owned,
            ),
        }
    }

    /// What to do about it, where that is the same for every agent and no command.
    pub(crate) fn advice(&self) -> Option<&'static str> {
        Some(match self {
            Self::NoGrant(_)
            | Self::OtherPort { .. }
            | Self::LeaseOver(_)
            | Self::LeaseConnections(_)
            | Self::LeaseBytes(_)
            | Self::Revoked
            | Self::Budget(_)
            | Self::NoSecret { .. } => return None,
            Self::NoName(_) | Self::Address | Self::BadName(_) => {
                "connect by the host's name, and grant that name"
            }
            Self::Connections(_) => "close some, or raise network.connections",
            Self::Full(_) => "try again when others have ended; octant egress list shows whose they are",
            Self::Bytes(_) => "see octant agent budget AID, or raise the cap and start it anew",
            Self::Dismissed => "start the agent anew",
            Self::OtherProtocol { .. } => "grant the protocol that is spoken: tls, http or tcp",
            Self::ServerName { .. } | Self::Hello(_) | Self::Host { .. } | Self::Request(_) => {
                "let the program name the host that it connects to; tcp://HOST:PORT grants a connection unread"
            }
            Self::Canary(_) => {
                "look at what the agent was told to do: what it holds for one host is of no use at another"
            }
            Self::Misplaced { .. } => {
                "send it where its grant says; without a place there as the whole of Authorization (after its scheme), x-api-key, api-key, x-goog-api-key or private-token"
            }
            Self::Login { .. } => {
                "let the program name the user and the database that its grant has (PGUSER, PGDATABASE or the URL)"
            }
            Self::Cancel(_) => "cancel from the agent whose session it is, while that is open",
            Self::Refused(..) => {
                "private and local addresses are reached only where the machine's octant.toml says so: [egress] allow_addresses"
            }
        })
    }
}

fn list(ports: &[u16]) -> String {
    ports.iter().map(u16::to_string).collect::<Vec<_>>().join(", ")
}

impl Lease {
    /// Why it gives nothing any more.
    fn over(&self, now_ms: u64) -> Option<Denied> {
        let id = || self.said.id.clone();
        let used = |counter: &AtomicU64, most: Option<u64>| {
            most.is_some_and(|most| counter.load(Ordering::Relaxed) >= most)
        };
        if now_ms >= self.said.until_ms {
            return Some(Denied::LeaseOver(id()));
        }
        used(&self.used.bytes, self.said.bytes).then(|| Denied::LeaseBytes(id()))
    }

    /// Why it gives no new connection.
    fn full(&self) -> Option<Denied> {
        let most = self.said.connections?;
        (self.used.connections.load(Ordering::Relaxed) >= most)
            .then(|| Denied::LeaseConnections(self.said.id.clone()))
    }
}

impl Rights {
    /// What a word of `agents` comes to. `kept` gives what was used of a lease so far.
    pub(crate) fn read(
        generation: u64,
        hosts: &[String],
        leases: &[HostLease],
        caps: Caps,
        kept: impl Fn(&str) -> Option<Arc<Used>>,
    ) -> Result<Self, BadWord> {
        let count = hosts.len() + leases.len();
        if count > RULES_MAX {
            return Err(BadWord::TooMany(count));
        }
        let grants = hosts.iter().map(|host| host.parse().map_err(BadWord::Host));
        let grants = grants.collect::<Result<Vec<HostGrant>, _>>()?;
        let mut seen = BTreeSet::new();
        let lease = |said: &HostLease| {
            if !seen.insert(said.id.clone()) {
                return Err(BadWord::Twice(said.id.clone()));
            }
            if said.reason.len() > REASON_MAX {
                return Err(BadWord::Reason(said.id.clone()));
            }
            let grant = said.host.parse().map_err(BadWord::Host)?;
            Ok(Lease { said: said.clone(), grant, used: kept(&said.id).unwrap_or_default() })
        };
        let leases = leases.iter().map(lease).collect::<Result<_, _>>()?;
        Ok(Self {
            generation,
            grants,
            leases,
            caps,
            credentials: Vec::new(),
            logins: Vec::new(),
            manifest: None,
        })
    }

    /// With the secrets that are used for it.
    pub(crate) fn using(
        mut self,
        said: &[Said],
        logins: &[Login],
        manifest: Option<Sha256>,
    ) -> Result<Self, BadWord> {
        let count = said.len() + logins.len();
        if count > CREDENTIALS_MAX {
            return Err(BadWord::Credentials(count));
        }
        let login = |login: &Login| login.to.parse().map(|to| (login.secret.clone(), to));
        self.logins = logins.iter().map(login).collect::<Result<_, _>>().map_err(BadWord::Host)?;
        let read = said.iter().map(Credential::read).collect::<Result<_, _>>();
        (self.credentials, self.manifest) = (read.map_err(BadWord::Credential)?, manifest);
        Ok(self)
    }

    /// Whether a secret is used at this host, so that what is said to it is read.
    pub(crate) fn inspects(&self, host: &HostName) -> bool {
        self.credentials.iter().any(|credential| credential.host.matches(host))
    }

    /// Whether it is logged in to a database there, so that what is said there is PostgreSQL's.
    pub(crate) fn logs_in(&self, host: &HostName, port: u16) -> bool {
        self.logins.iter().any(|(_, to)| to.host == *host && to.port == port)
    }

    /// The databases there that it is logged in to.
    pub(crate) fn logins_at(&self, host: &HostName, port: u16) -> Vec<Login> {
        let there = self.logins.iter().filter(|(_, to)| to.host == *host && to.port == port);
        there.map(|(secret, to)| Login { secret: secret.clone(), to: to.to_string() }).collect()
    }

    /// The hosts for which its programs trust the authority that is made for it.
    pub(crate) fn vouched(&self) -> Vec<HostPattern> {
        let databases = self.logins.iter().map(|(_, to)| HostPattern::from(to.host.clone()));
        self.credentials.iter().map(|credential| credential.host.clone()).chain(databases).collect()
    }

    /// Whether it has a secret for this, there.
    pub(crate) fn gives(&self, secret: &SecretName, host: &HostName, port: u16, purpose: &Purpose) -> bool {
        match purpose {
            Purpose::Request { .. } => {
                self.credentials.iter().any(|c| c.secret == *secret && c.host.matches(host))
            }
            Purpose::Login { user, database } => self.logins.iter().any(|(with, to)| {
                with == secret && to.host == *host && to.port == port && to.admits(user, database)
            }),
        }
    }

    /// What stands for secrets at this host.
    pub(crate) fn credentials_at(&self, host: &HostName) -> Vec<Said> {
        self.credentials.iter().filter(|c| c.host.matches(host)).map(Credential::said).collect()
    }

    /// Every port that some rule names.
    pub(crate) fn ports(&self) -> BTreeSet<u16> {
        let leased = self.leases.iter().map(|lease| lease.grant.port);
        self.grants.iter().map(|grant| grant.port).chain(leased).collect()
    }

    /// Whether a name may be known at all: on whatever port.
    pub(crate) fn names(&self, host: &HostName, now_ms: u64) -> bool {
        self.grants.iter().any(|grant| grant.host.matches(host))
            || self.leases.iter().any(|lease| lease.over(now_ms).is_none() && lease.grant.host.matches(host))
    }

    /// Whether a connection may be made, what may be spoken on it, and by which rule. Every way out asks this.
    pub(crate) fn decide(&self, host: &HostName, port: u16, now_ms: u64) -> Result<Allowed, Denied> {
        let mut allowed = Allowed::default();
        for grant in self.grants.iter().filter(|grant| grant.port == port && grant.host.matches(host)) {
            allowed.add(grant.protocol, Rule::Grant(grant.clone()));
        }
        let mut ended = None;
        for lease in self.leases.iter().filter(|l| l.grant.port == port && l.grant.host.matches(host)) {
            match lease.over(now_ms).or_else(|| lease.full()) {
                None => allowed.add(lease.grant.protocol, Rule::Lease(lease.said.id.clone())),
                Some(why) => ended = Some(why),
            }
        }
        if allowed.any().is_some() {
            return Ok(allowed);
        }
        Err(ended.unwrap_or_else(|| self.elsewhere(host, port)))
    }

    fn elsewhere(&self, host: &HostName, port: u16) -> Denied {
        let ports = self.grants.iter().filter(|grant| grant.host.matches(host)).map(|grant| grant.port);
        let ports: Vec<u16> = ports.collect::<BTreeSet<_>>().into_iter().collect();
        let host = host.to_string();
        if ports.is_empty() { Denied::NoGrant(host) } else { Denied::OtherPort { host, port, ports } }
    }

    /// The lease of a rule.
    pub(crate) fn lease(&self, rule: &Rule) -> Option<&Lease> {
        let Rule::Lease(id) = rule else { return None };
        self.leases.iter().find(|lease| lease.said.id == *id)
    }

    /// Whether a connection that this rule allowed may go on.
    pub(crate) fn still(&self, rule: &Rule, now_ms: u64) -> Result<(), Denied> {
        match rule {
            Rule::Grant(grant) if self.grants.contains(grant) => Ok(()),
            Rule::Grant(_) => Err(Denied::Revoked),
            Rule::Lease(_) => match self.lease(rule) {
                Some(lease) => lease.over(now_ms).map_or(Ok(()), Err),
                None => Err(Denied::Revoked),
            },
        }
    }
}

/// How fast: a bucket that fills by time and that every byte is taken from.
#[derive(Debug)]
pub(crate) struct Bucket {
    per_second: u64,
    level: u64,
    at_ns: u64,
}

/// A bucket holds what comes in so long, so that a pause is not lost and a rush is short.
const BUCKET_NS: u64 = 250_000_000;
const SECOND_NS: u64 = 1_000_000_000;

impl Bucket {
    /// A full one.
    pub(crate) fn new(per_second: u64, now_ns: u64) -> Self {
        let mut bucket = Self { per_second, level: 0, at_ns: now_ns };
        bucket.level = bucket.most();
        bucket
    }

    fn most(&self) -> u64 {
        share(self.per_second, BUCKET_NS).max(1)
    }

    /// Takes up to `wanted` bytes, or says in how many nanoseconds there will be one.
    pub(crate) fn take(&mut self, wanted: u64, now_ns: u64) -> Result<u64, u64> {
        let new = share(self.per_second, now_ns.saturating_sub(self.at_ns));
        // Time of which nothing came yet is kept.
        if new > 0 {
            self.level = self.level.saturating_add(new).min(self.most());
            self.at_ns = now_ns;
        }
        if self.level == 0 {
            return Err(SECOND_NS.checked_div(self.per_second).unwrap_or(SECOND_NS).max(1_000_000));
        }
        let got = wanted.min(self.level);
        self.level -= got;
        Ok(got)
    }

    /// Puts back what was taken and not used.
    pub(crate) fn give_back(&mut self, count: u64) {
        self.level = self.level.saturating_add(count).min(self.most());
    }
}

fn share(per_second: u64, ns: u64) -> u64 {
    let all = u128::from(per_second) * u128::from(ns) / u128::from(SECOND_NS);
    u64::try_from(all).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn lease(id: &str, host: &str, until_ms: u64) -> HostLease {
        HostLease {
            id: id.into(),
            host: host.into(),
            until_ms,
            bytes: None,
            connections: None,
            reason: "a test".into(),
            by: "operator:0".into(),
        }
    }

    const CAPS: Caps = Caps { connections: 8, bytes: None, bytes_per_second: None, drawn: false };

    fn rights(hosts: &[&str], leases: &[HostLease]) -> Rights {
        let hosts: Vec<String> = hosts.iter().map(|&h| h.to_owned()).collect();
        Rights::read(1, &hosts, leases, CAPS, |_| None).unwrap()
    }

    fn host(name: &str) -> HostName {
        name.parse().unwrap()
    }

    #[test]
    fn only_what_is_granted_is_allowed() {
        let rights = rights(&["tls://api.example.org:443", "tls://*.example.net:443"], &[]);
        let tls =
            |name: &str, port| rights.decide(&host(name), port, 0).map(|a| a.rule(Protocol::Tls).cloned());
        assert!(tls("api.example.org", 443).unwrap().is_some());
        assert!(tls("a.b.example.net", 443).unwrap().is_some());
        for name in
            ["example.net", "example.org", "api.example.org.evil.org", "xapi.example.org", "badexample.net"]
        {
            assert_eq!(tls(name, 443), Err(Denied::NoGrant(name.into())), "{name}");
        }
        let elsewhere = Denied::OtherPort { host: "api.example.org".into(), port: 80, ports: vec![443] };
        assert_eq!(tls("api.example.org", 80), Err(elsewhere));
        assert!(rights.decide(&host("api.example.org"), 443, 0).unwrap().opaque().is_none());
    }

    #[test]
    fn a_lease_ends_by_time_bytes_connections_and_word() {
        let mut said = lease("l1", "tcp://db.example.org:5432", 100);
        said.bytes = Some(10);
        said.connections = Some(2);
        let rights_of_nobody = rights(&[], &[]);
        let rights = rights(&[], &[said]);
        let ask = |now| rights.decide(&host("db.example.org"), 5432, now);
        let rule = ask(99).unwrap().opaque().unwrap().clone();
        assert_eq!(ask(100), Err(Denied::LeaseOver("l1".into())));
        assert_eq!(rights.still(&rule, 100), Err(Denied::LeaseOver("l1".into())));
        let used = &rights.lease(&rule).unwrap().used;
        used.connections.store(2, Ordering::Relaxed);
        assert_eq!(ask(1), Err(Denied::LeaseConnections("l1".into())));
        assert_eq!(rights.still(&rule, 1), Ok(()), "those that are open go on");
        assert_eq!(used.take_bytes(8, Some(10)), 8);
        assert_eq!(used.take_bytes(8, Some(10)), 2);
        assert_eq!(rights.still(&rule, 1), Err(Denied::LeaseBytes("l1".into())));
        assert_eq!(rights_of_nobody.still(&rule, 1), Err(Denied::Revoked));
    }

    #[test]
    fn connections_of_a_lease_are_taken_one_by_one() {
        let used = Used::default();
        let taken = (0..5).filter(|_| used.take_connection(Some(2))).count();
        assert_eq!((taken, used.connections.load(Ordering::Relaxed)), (2, 2));
        assert!(used.take_connection(None));
    }

    #[test]
    fn a_new_word_gives_nothing_back() {
        let said = lease("l1", "tcp://db.example.org:5432", 100);
        let first = rights(&[], std::slice::from_ref(&said));
        first.leases[0].used.bytes.store(7, Ordering::Relaxed);
        let kept = |id: &str| first.leases.iter().find(|l| l.said.id == id).map(|l| Arc::clone(&l.used));
        let second = Rights::read(2, &[], std::slice::from_ref(&said), CAPS, kept).unwrap();
        assert_eq!(second.leases[0].used.bytes.load(Ordering::Relaxed), 7);
        let twice = Rights::read(3, &[], &[said.clone(), said], CAPS, |_| None);
        assert_eq!(twice.unwrap_err(), BadWord::Twice("l1".into()));
        let many = vec!["tls://a.example.org:443".to_owned(); RULES_MAX + 1];
        assert!(matches!(Rights::read(1, &many, &[], CAPS, |_| None), Err(BadWord::TooMany(_))));
    }

    proptest! {
        #[test]
        fn no_more_than_the_limit_is_ever_taken(most in 0_u64..1000, wants in proptest::collection::vec(0_u64..300, 0..20)) {
            let used = Used::default();
            let mut all = 0;
            for want in wants {
                let got = used.take_bytes(want, Some(most));
                prop_assert!(got <= want);
                all += got;
            }
            prop_assert!(all <= most);
            prop_assert_eq!(used.bytes.load(Ordering::Relaxed), all);
        }

        #[test]
        fn a_bucket_gives_its_rate_and_one_rush(rate in 1_u64..1_000_000, steps in proptest::collection::vec(0_u64..400_000_000, 1..60)) {
            let mut bucket = Bucket::new(rate, 0);
            let (mut now, mut all) = (0, 0);
            for step in steps {
                now += step;
                if let Ok(got) = bucket.take(u64::MAX, now) {
                    all += got;
                }
            }
            prop_assert!(all <= share(rate, now) + share(rate, BUCKET_NS).max(1));
        }
    }
}
