//! What may be done, and what comes of it: from a request and what is known to changes, or a refusal. Pure.

use crate::refusal::Refusal;
use crate::state::{LeaseRecord, Now, Op, Secret, State};
use octant_api::vault::{
    GrantInfo, GrantRequest, Kind, LABELS_MAX, LEASES_PER_AGENT, LEASES_PER_VAULT, LeaseRequest, Mode,
    PutRequest, Revoke, SecretInfo, Subject, TEXT_MAX, TTL_DEFAULT_MS, TTL_MAX_MS, VALUE_MAX, VERSIONS_MAX,
    VersionInfo, VersionState,
};
use octant_ids::{Principal, SecretName, Sha256};

/// The most secrets of a vault.
pub(crate) const SECRETS_MAX: usize = 200_000;
/// The most grants of a vault.
const GRANTS_MAX: usize = 100_000;
/// The most hosts of a grant.
const HOSTS_MAX: usize = 64;
const NS_PER_MS: u64 = 1_000_000;

/// What is to be sealed as one version's value.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Value<'a> {
    /// How long it is.
    pub(crate) bytes: usize,
    /// The public key of a key pair.
    pub(crate) public_key: Option<&'a str>,
    /// From when on it is refused.
    pub(crate) not_after_ms: Option<u64>,
}

fn check_value(kind: Kind, value: &Value<'_>, now_ms: u64) -> Result<(), Refusal> {
    if value.bytes == 0 || value.bytes > VALUE_MAX {
        return Err(Refusal::Length { what: "the value", bytes: value.bytes, least: 1, most: VALUE_MAX });
    }
    if kind == Kind::KeyPair && value.bytes != 32 {
        return Err(Refusal::Length { what: "a key pair's seed", bytes: value.bytes, least: 32, most: 32 });
    }
    match value.not_after_ms {
        Some(end) if end <= now_ms => Err(Refusal::PastExpiry),
        _ => Ok(()),
    }
}

fn version(version: u64, value: &Value<'_>, now_ms: u64) -> VersionInfo {
    VersionInfo {
        version,
        state: VersionState::Active,
        created_ms: now_ms,
        not_after_ms: value.not_after_ms,
        public_key: value.public_key.map(str::to_owned),
    }
}

/// The metadata of a new secret.
pub(crate) fn put(
    state: &State,
    asked: &PutRequest,
    value: &Value<'_>,
    now: Now,
) -> Result<SecretInfo, Refusal> {
    if state.secrets.contains_key(&asked.name) {
        return Err(Refusal::Exists(asked.name.clone()));
    }
    if state.secrets.len() >= SECRETS_MAX {
        return Err(Refusal::TooMany { what: "secrets", most: SECRETS_MAX });
    }
    let texts = [("about", &asked.about), ("username", &asked.username), ("url", &asked.url)];
    let labels = asked.labels.iter().flat_map(|(key, value)| [("a label", key), ("a label", value)]);
    for (what, text) in texts.into_iter().chain(labels) {
        check_text(what, text)?;
    }
    if asked.labels.len() > LABELS_MAX {
        return Err(Refusal::TooMany { what: "labels", most: LABELS_MAX });
    }
    let now_ms = state.wall(now);
    check_value(asked.kind, value, now_ms)?;
    Ok(SecretInfo {
        name: asked.name.clone(),
        kind: asked.kind,
        current: 1,
        versions: vec![version(1, value, now_ms)],
        about: asked.about.clone(),
        username: asked.username.clone(),
        url: asked.url.clone(),
        labels: asked.labels.clone(),
    })
}

/// Whether a text can be kept and shown.
pub(crate) fn check_text(what: &'static str, text: &str) -> Result<(), Refusal> {
    if text.len() > TEXT_MAX {
        return Err(Refusal::Length { what, bytes: text.len(), least: 0, most: TEXT_MAX });
    }
    if text.chars().any(char::is_control) {
        return Err(Refusal::Control(what));
    }
    Ok(())
}

/// The metadata of a secret with a new version, which is the current one. What was current stays for a rollback; the
/// oldest value goes where there would be too many.
pub(crate) fn rotate(
    state: &State,
    name: &SecretName,
    value: &Value<'_>,
    now: Now,
) -> Result<SecretInfo, Refusal> {
    let secret = secret(state, name)?;
    let now_ms = state.wall(now);
    check_value(secret.info.kind, value, now_ms)?;
    let mut info = secret.info.clone();
    let next = info.versions.last().map_or(1, |last| last.version + 1);
    for old in info.versions.iter_mut().filter(|old| old.state == VersionState::Active) {
        old.state = VersionState::Deprecated;
    }
    let kept = info.versions.iter().filter(|old| old.state != VersionState::Destroyed).count();
    let excess = (kept + 1).saturating_sub(VERSIONS_MAX);
    for old in info.versions.iter_mut().filter(|old| old.state != VersionState::Destroyed).take(excess) {
        old.state = VersionState::Destroyed;
    }
    // What is gone is remembered for a while, not for ever.
    let mut forget = info.versions.len().saturating_sub(4 * VERSIONS_MAX);
    info.versions.retain(|old| {
        let goes = forget > 0 && old.state == VersionState::Destroyed;
        forget -= usize::from(goes);
        !goes
    });
    info.versions.push(version(next, value, now_ms));
    info.current = next;
    Ok(info)
}

/// The metadata of a secret whose current version is an earlier one again.
pub(crate) fn rollback(state: &State, name: &SecretName, to: u64, now: Now) -> Result<SecretInfo, Refusal> {
    let mut info = secret(state, name)?.info.clone();
    let now_ms = state.wall(now);
    let found = info.versions.iter().find(|version| version.version == to);
    match found {
        None => return Err(Refusal::NoVersion { name: name.clone(), version: to }),
        Some(version) if version.state == VersionState::Destroyed => {
            return Err(Refusal::Destroyed { name: name.clone(), version: to });
        }
        Some(_) if info.current == to => return Err(Refusal::Current { name: name.clone(), version: to }),
        Some(version) if version.not_after_ms.is_some_and(|end| end <= now_ms) => {
            return Err(Refusal::Expired { name: name.clone(), version: to });
        }
        Some(_) => {}
    }
    for version in &mut info.versions {
        match version.state {
            VersionState::Active => version.state = VersionState::Deprecated,
            VersionState::Deprecated if version.version == to => version.state = VersionState::Active,
            VersionState::Deprecated | VersionState::Destroyed => {}
        }
    }
    info.current = to;
    Ok(info)
}

/// The metadata of a secret one of whose versions has no value any more.
pub(crate) fn destroy(state: &State, name: &SecretName, gone: u64) -> Result<SecretInfo, Refusal> {
    let mut info = secret(state, name)?.info.clone();
    if info.current == gone {
        return Err(Refusal::Current { name: name.clone(), version: gone });
    }
    let found = info.versions.iter_mut().find(|version| version.version == gone);
    let found = found.ok_or_else(|| Refusal::NoVersion { name: name.clone(), version: gone })?;
    if found.state == VersionState::Destroyed {
        return Err(Refusal::Destroyed { name: name.clone(), version: gone });
    }
    found.state = VersionState::Destroyed;
    Ok(info)
}

/// The secret of this name, for an operator.
pub(crate) fn secret<'a>(state: &'a State, name: &SecretName) -> Result<&'a Secret, Refusal> {
    state.secrets.get(name).map(|secret| &**secret).ok_or_else(|| Refusal::NoSecret(name.clone()))
}

/// A version that can be used, with its sealed value.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usable<'a> {
    pub(crate) info: &'a SecretInfo,
    pub(crate) version: &'a VersionInfo,
    pub(crate) sealed: &'a [u8],
}

/// The current version of a secret, or the one that is asked for.
pub(crate) fn usable<'a>(
    state: &'a State,
    secret: &'a Secret,
    which: Option<u64>,
    now: Now,
) -> Result<Usable<'a>, Refusal> {
    let info = &secret.info;
    let (name, number) = (&info.name, which.unwrap_or(info.current));
    let version = info.versions.iter().find(|version| version.version == number);
    let version = version.ok_or_else(|| Refusal::NoVersion { name: name.clone(), version: number })?;
    if version.not_after_ms.is_some_and(|end| end <= state.wall(now)) {
        return Err(Refusal::Expired { name: name.clone(), version: number });
    }
    let sealed = secret.values.get(number);
    let sealed = sealed.ok_or_else(|| Refusal::Destroyed { name: name.clone(), version: number })?;
    Ok(Usable { info, version, sealed })
}

/// A new grant.
pub(crate) fn grant(state: &State, asked: &GrantRequest, by: u32, now: Now) -> Result<GrantInfo, Refusal> {
    let kind = secret(state, &asked.name)?.info.kind;
    check_text("the reason", &asked.reason)?;
    let mut modes = asked.modes.clone();
    modes.sort_unstable();
    modes.dedup();
    if modes.is_empty() {
        return Err(Refusal::NoMode);
    }
    // A key pair's seed never leaves, and nothing else signs.
    if let Some(mode) = modes.iter().find(|mode| (kind == Kind::KeyPair) != (**mode == Mode::Sign)) {
        return Err(Refusal::Mode { name: asked.name.clone(), kind, mode: *mode });
    }
    if asked.hosts.len() > HOSTS_MAX {
        return Err(Refusal::TooMany { what: "hosts", most: HOSTS_MAX });
    }
    if let Some(host) = asked.hosts.iter().find(|host| !is_host_pattern(host)) {
        return Err(Refusal::Host(host.chars().take(80).collect()));
    }
    if !asked.hosts.is_empty() && modes.contains(&Mode::Reveal) {
        return Err(Refusal::HostsOfReveal);
    }
    let ttl_max_ms = match (asked.ttl_max_ms, asked.unlimited) {
        (Some(ttl), false) if ttl == 0 || ttl > TTL_MAX_MS => return Err(Refusal::Ttl { ms: ttl }),
        (Some(_), true) => return Err(Refusal::TtlAndUnlimited),
        (Some(ttl), false) => Some(ttl),
        (None, true) => None,
        (None, false) => Some(TTL_DEFAULT_MS),
    };
    if asked.until_ms.is_some_and(|until| until <= state.wall(now)) {
        return Err(Refusal::PastExpiry);
    }
    let replaces = state.grant_of(std::slice::from_ref(&asked.to), &asked.name, now).is_some();
    if state.grants.len() >= GRANTS_MAX && !replaces {
        return Err(Refusal::TooMany { what: "grants", most: GRANTS_MAX });
    }
    Ok(GrantInfo {
        id: state.next_grant,
        name: asked.name.clone(),
        to: asked.to.clone(),
        modes,
        hosts: asked.hosts.clone(),
        ttl_max_ms,
        until_ms: asked.until_ms,
        created_ms: state.wall(now),
        by,
        reason: asked.reason.clone(),
    })
}

/// `example.org` or `*.example.org`, in lower case.
fn is_host_pattern(text: &str) -> bool {
    let name = text.strip_prefix("*.").unwrap_or(text);
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
    };
    name.len() <= 253 && name.split('.').all(label)
}

/// Whether a host is one of these. `*.example.org` is every name below it, and not itself.
pub(crate) fn host_is_granted(hosts: &[String], host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    hosts.iter().any(|pattern| match pattern.strip_prefix("*.") {
        None => *pattern == host,
        Some(parent) => host.strip_suffix(parent).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.')),
    })
}

/// What is taken away, and how many grants and leases that is.
pub(crate) fn revoke(state: &State, what: &Revoke, now: Now) -> (Vec<Op>, u64, u64) {
    let grants: Vec<u64> = match what {
        Revoke::Grant(id) => state.grants.get(id).map(|grant| grant.id).into_iter().collect(),
        Revoke::Secret(name) => state.grants_of(name).map(|grant| grant.id).collect(),
        Revoke::Agent(aid) => {
            let to = Subject::Agent(*aid);
            state.grants.values().filter(|grant| grant.to == to).map(|grant| grant.id).collect()
        }
        Revoke::Service(_) => Vec::new(),
    };
    let holder = match what {
        Revoke::Agent(aid) => Some(Principal::Agent(*aid)),
        Revoke::Service(name) => Some(Principal::Service(name.clone())),
        Revoke::Grant(_) | Revoke::Secret(_) => None,
    };
    let gone = |lease: &&LeaseRecord| grants.contains(&lease.grant) || holder.as_ref() == Some(&lease.holder);
    let leases = state.live_leases(now).filter(gone).count() as u64;
    let count = grants.len() as u64;
    let mut ops: Vec<Op> = grants.into_iter().map(|id| Op::Ungrant { id }).collect();
    ops.extend(holder.map(|holder| Op::Retire { holder }));
    (ops, count, leases)
}

/// Who asks for a lease.
#[derive(Debug, Clone)]
pub(crate) struct Asking {
    /// The service that calls.
    pub(crate) service: octant_ids::ServiceName,
    /// The agent for whom it calls, or the service itself.
    pub(crate) holder: Principal,
    /// The digest of the agent's manifest.
    pub(crate) manifest: Option<Sha256>,
    /// The cgroup of the agent's process.
    pub(crate) cgroup: Option<String>,
}

impl Asking {
    fn subjects(&self) -> Vec<Subject> {
        match &self.holder {
            Principal::Agent(aid) => {
                std::iter::once(Subject::Agent(*aid)).chain(self.manifest.map(Subject::Manifest)).collect()
            }
            Principal::Service(name) => vec![Subject::Service(name.clone())],
            Principal::Init | Principal::Operator(_) | Principal::Stranger(_) => Vec::new(),
        }
    }
}

/// A new lease. What does not exist and what was not granted are refused alike: the refusal comes before the secrets are
/// looked at, by what the asker was granted alone.
pub(crate) fn lease(
    state: &State,
    who: &Asking,
    asked: &LeaseRequest,
    token: Sha256,
    boot: &str,
    now: Now,
) -> Result<LeaseRecord, Refusal> {
    let (name, mode) = (&asked.name, asked.mode);
    let grant = state.grant_of(&who.subjects(), name, now).filter(|grant| grant.modes.contains(&mode));
    let grant = grant.ok_or(Refusal::NotGranted)?;
    if state.held_by(&who.holder) >= LEASES_PER_AGENT {
        return Err(Refusal::TooMany { what: "leases of one holder", most: LEASES_PER_AGENT });
    }
    if state.alive() >= LEASES_PER_VAULT {
        return Err(Refusal::TooMany { what: "leases", most: LEASES_PER_VAULT });
    }
    let last_ns = grant.ttl_max_ms.map(|ms| now.boot_ns.saturating_add(ms.saturating_mul(NS_PER_MS)));
    Ok(LeaseRecord {
        token,
        holder: who.holder.clone(),
        cgroup: who.cgroup.clone(),
        name: name.clone(),
        mode,
        grant: grant.id,
        boot: boot.to_owned(),
        until_ns: until(last_ns, asked.ttl_ms, now)?,
        last_ns,
    })
}

/// When a lease ends that is given or renewed now.
fn until(last_ns: Option<u64>, ttl_ms: Option<u64>, now: Now) -> Result<Option<u64>, Refusal> {
    if ttl_ms == Some(0) {
        return Err(Refusal::Ttl { ms: 0 });
    }
    let after = |ms: u64| now.boot_ns.saturating_add(ms.saturating_mul(NS_PER_MS));
    Ok(match (ttl_ms, last_ns) {
        (Some(ms), Some(last)) => Some(after(ms).min(last)),
        (Some(ms), None) => Some(after(ms)),
        (None, Some(last)) => Some(after(TTL_DEFAULT_MS).min(last)),
        (None, None) => None,
    })
}

/// The lease of a token, if it is this holder's. Everything that is wrong with a token has one answer.
pub(crate) fn held<'a>(
    state: &'a State,
    who: &Asking,
    token: &Sha256,
    now: Now,
) -> Result<(&'a LeaseRecord, &'a GrantInfo), Refusal> {
    let found = state.lease(token, now);
    found
        .filter(|(lease, _)| lease.holder == who.holder && lease.cgroup == who.cgroup)
        .ok_or(Refusal::NoLease)
}

/// When a lease ends after its renewal.
pub(crate) fn renew(lease: &LeaseRecord, ttl_ms: Option<u64>, now: Now) -> Result<Option<u64>, Refusal> {
    until(lease.last_ns, ttl_ms, now)
}

fn held_to_host(grant: &GrantInfo, host: Option<&str>) -> Result<(), Refusal> {
    let granted = grant.hosts.is_empty() || host.is_some_and(|host| host_is_granted(&grant.hosts, host));
    if granted { Ok(()) } else { Err(Refusal::HostNotGranted) }
}

/// What a token opens, for the service that asks: who uses a value for others never gives it to them, and who passes one
/// on gets it only where the holder may see it.
pub(crate) fn open<'a>(
    state: &'a State,
    who: &Asking,
    token: &Sha256,
    host: Option<&str>,
    now: Now,
) -> Result<(Usable<'a>, Mode), Refusal> {
    let (lease, grant) = held(state, who, token, now)?;
    let relays = who.service.as_str() == "agents";
    let own = lease.holder == Principal::Service(who.service.clone());
    match lease.mode {
        Mode::Use if !relays => {}
        Mode::Reveal if relays || own => {}
        Mode::Use | Mode::Sign | Mode::Reveal => return Err(Refusal::WrongMode(lease.mode)),
    }
    held_to_host(grant, host)?;
    let secret = state.secrets.get(&lease.name).ok_or(Refusal::NoLease)?;
    Ok((usable(state, secret, None, now)?, lease.mode))
}

/// What a token signs with. Where the grant names hosts, the service that asks says for which one it has seen that the
/// signature is.
pub(crate) fn sign<'a>(
    state: &'a State,
    who: &Asking,
    token: &Sha256,
    host: Option<&str>,
    now: Now,
) -> Result<Usable<'a>, Refusal> {
    let (lease, grant) = held(state, who, token, now)?;
    if lease.mode != Mode::Sign {
        return Err(Refusal::WrongMode(lease.mode));
    }
    held_to_host(grant, host)?;
    let secret = state.secrets.get(&lease.name).ok_or(Refusal::NoLease)?;
    usable(state, secret, None, now)
}
