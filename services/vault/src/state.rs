//! What the vault knows while it is unsealed, and how each change of it stands in the file. Pure.

use octant_api::vault::{GrantInfo, Mode, SecretInfo, Subject, VersionState};
use octant_ids::{Principal, SecretName, Sha256};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// One change. Its text in a frame is this as JSON; a sealed value may stand beside it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Op {
    /// The machine's key pair was made, or other hardware was accepted. Beside it: the sealed seed.
    Machine(Machine),
    /// A secret's metadata, as they are from now on.
    Secret { secret: SecretInfo },
    /// A version's value. Beside it: the sealed value.
    Value { name: SecretName, version: u64 },
    /// A secret is gone, with its values, grants and leases.
    Remove { name: SecretName },
    /// A grant was given.
    Grant { grant: GrantInfo },
    /// A grant was taken away.
    Ungrant { id: u64 },
    /// A lease was given.
    Lease { lease: LeaseRecord },
    /// A lease lasts longer.
    Extend { token: Sha256, until_ns: Option<u64> },
    /// A lease was given back.
    Release { token: Sha256 },
    /// Every lease of this holder is gone.
    Retire { holder: Principal },
    /// The ledger's entry of the intent of this change, when it was made, and the number of the next grant.
    Seen { ledger: u64, wall_ms: u64, grants: u64 },
}

/// The machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Machine {
    /// The public key.
    pub(crate) public: Sha256,
    /// When it was made, in milliseconds since 1970.
    pub(crate) created_ms: u64,
    /// The hardware when it was made or last accepted.
    pub(crate) facts: BTreeMap<String, String>,
}

/// A lease, without its token.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LeaseRecord {
    /// SHA-256 of the token.
    pub(crate) token: Sha256,
    /// Who holds it.
    pub(crate) holder: Principal,
    /// The cgroup in which it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cgroup: Option<String>,
    /// Of what.
    pub(crate) name: SecretName,
    /// For what.
    pub(crate) mode: Mode,
    /// On which grant it rests.
    pub(crate) grant: u64,
    /// The boot in which it was given. No holder outlives a boot, so no lease does.
    pub(crate) boot: String,
    /// When it ends, on CLOCK_BOOTTIME of that boot, in nanoseconds; absent: with its holder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) until_ns: Option<u64>,
    /// When it ends at the latest, with every renewal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) last_ns: Option<u64>,
}

/// What time it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now {
    /// CLOCK_REALTIME in milliseconds since 1970; it can jump.
    pub(crate) wall_ms: u64,
    /// CLOCK_BOOTTIME in nanoseconds; it cannot.
    pub(crate) boot_ns: u64,
}

/// A secret.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Secret {
    pub(crate) info: SecretInfo,
    pub(crate) values: Values,
}

/// Sealed values by version, in order: a few, and of most secrets one.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Values(Vec<(u64, Box<[u8]>)>);

impl Values {
    fn place(&self, version: u64) -> Result<usize, usize> {
        self.0.binary_search_by_key(&version, |row| row.0)
    }

    /// The one of this version.
    pub(crate) fn get(&self, version: u64) -> Option<&[u8]> {
        let at = self.place(version).ok()?;
        self.0.get(at).map(|row| &*row.1)
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &[u8])> {
        self.0.iter().map(|(version, value)| (*version, &**value))
    }

    fn insert(&mut self, version: u64, value: Box<[u8]>) {
        match self.place(version) {
            Ok(at) => self.0[at].1 = value,
            Err(at) => {
                self.0.reserve_exact(1);
                self.0.insert(at, (version, value));
            }
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
struct Held {
    record: LeaseRecord,
    generation: u64,
}

#[derive(Debug, Clone, PartialEq)]
struct Holder {
    generation: u64,
    alive: usize,
}

/// Everything.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct State {
    pub(crate) machine: Option<(Machine, Box<[u8]>)>,
    /// Boxed: the map's nodes are half empty where names come in order.
    pub(crate) secrets: BTreeMap<SecretName, Box<Secret>>,
    pub(crate) grants: BTreeMap<u64, GrantInfo>,
    by_subject: HashMap<(Subject, SecretName), u64>,
    leases: HashMap<Sha256, Held>,
    holders: HashMap<Principal, Holder>,
    /// When timed leases end, soonest first.
    ends: BTreeSet<(u64, Sha256)>,
    /// Which leases rest on which grant.
    rest: BTreeSet<(u64, Sha256)>,
    /// Whether these two are not kept yet: while a file is read they are not needed, and are made quicker at its end.
    unsettled: bool,
    /// The highest generation of a holder so far.
    generations: u64,
    /// The number of the next grant.
    pub(crate) next_grant: u64,
    /// The ledger's entry of the last change's intent.
    pub(crate) ledger: u64,
    /// The latest time of a change, in milliseconds since 1970: the clock is never believed to be before it.
    pub(crate) wall_ms: u64,
    /// The boot whose leases count.
    boot: String,
}

/// A change that does not fit what is there: the file was not written by this program.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a change does not fit what is there: {0}")]
pub(crate) struct Misfit(pub(crate) String);

/// Whether a version has a value.
fn alive(info: &SecretInfo, version: u64) -> bool {
    info.versions.iter().any(|known| known.version == version && known.state != VersionState::Destroyed)
}

impl State {
    /// Nothing, in this boot.
    pub(crate) fn new(boot: &str) -> Self {
        Self { boot: boot.to_owned(), next_grant: 1, ..Self::default() }
    }

    /// Nothing, for the changes of a file, until [`State::settle`].
    pub(crate) fn unsettled(boot: &str) -> Self {
        Self { unsettled: true, ..Self::new(boot) }
    }

    /// Ends the reading of a file: makes what was not kept meanwhile.
    pub(crate) fn settle(&mut self) {
        if std::mem::take(&mut self.unsettled) {
            let ends = |(token, held): (&Sha256, &Held)| held.record.until_ns.map(|until| (until, *token));
            self.ends = self.leases.iter().filter_map(ends).collect();
            self.rest = self.leases.iter().map(|(token, held)| (held.record.grant, *token)).collect();
        }
    }

    /// The boot whose leases count.
    pub(crate) fn boot(&self) -> &str {
        &self.boot
    }

    /// Makes a change.
    pub(crate) fn apply(&mut self, op: Op, value: &[u8]) -> Result<(), Misfit> {
        match op {
            Op::Machine(machine) => self.machine = Some((machine, value.into())),
            Op::Secret { secret } => self.put(secret),
            Op::Value { name, version } => {
                // In a file that was written anew a value stands behind its secret, and secrets stand there by name.
                let last = self.secrets.last_entry().filter(|last| *last.key() == name);
                let secret = match last {
                    Some(last) => last.into_mut(),
                    None => self
                        .secrets
                        .get_mut(&name)
                        .ok_or_else(|| Misfit(format!("a value of {name}, which is not there")))?,
                };
                secret.values.insert(version, value.into());
            }
            Op::Remove { name } => self.remove(&name),
            Op::Grant { grant } => {
                self.next_grant = self.next_grant.max(grant.id.saturating_add(1));
                let key = (grant.to.clone(), grant.name.clone());
                if let Some(old) = self.by_subject.get(&key) {
                    self.ungrant(*old);
                }
                self.by_subject.insert(key, grant.id);
                self.grants.insert(grant.id, grant);
            }
            Op::Ungrant { id } => self.ungrant(id),
            Op::Lease { lease } => self.take_lease(lease),
            Op::Extend { token, until_ns } => self.extend(token, until_ns),
            Op::Release { token } => {
                self.drop_lease(token);
            }
            Op::Retire { holder } => {
                self.holders.remove(&holder);
            }
            Op::Seen { ledger, wall_ms, grants } => {
                self.next_grant = self.next_grant.max(grants);
                self.ledger = ledger;
                self.wall_ms = self.wall_ms.max(wall_ms);
            }
        }
        Ok(())
    }

    /// Whether a change takes a sealed value away because somebody wants it gone. The oldest of too many versions goes when
    /// the file is written anew anyway.
    pub(crate) fn erases(&self, op: &Op) -> bool {
        match op {
            Op::Remove { name } => self.secrets.contains_key(name),
            Op::Secret { secret } => self.secrets.get(&secret.name).is_some_and(|known| {
                let last = |info: &SecretInfo| info.versions.last().map(|version| version.version);
                let rotated = last(secret) > last(&known.info);
                !rotated && known.values.iter().any(|(version, _)| !alive(secret, version))
            }),
            _ => false,
        }
    }

    fn put(&mut self, mut info: SecretInfo) {
        // A reader makes room for more versions than most secrets ever have.
        info.versions.shrink_to_fit();
        let name = info.name.clone();
        match self.secrets.get_mut(&name) {
            Some(secret) => {
                secret.values.0.retain(|(version, _)| alive(&info, *version));
                secret.info = info;
            }
            None => {
                self.secrets.insert(name, Box::new(Secret { info, values: Values::default() }));
            }
        }
    }

    fn remove(&mut self, name: &SecretName) {
        self.secrets.remove(name);
        let grants: Vec<u64> = self.grants_of(name).map(|grant| grant.id).collect();
        grants.into_iter().for_each(|id| self.ungrant(id));
    }

    /// Its leases die with it, and count no more.
    fn ungrant(&mut self, id: u64) {
        if let Some(grant) = self.grants.remove(&id) {
            self.by_subject.remove(&(grant.to, grant.name));
        }
        self.settle();
        let from = (id, Sha256::ZERO);
        while let Some(row) = self.rest.range(from..).next().filter(|row| row.0 == id).copied() {
            self.rest.remove(&row);
            self.drop_lease(row.1);
        }
    }

    /// A lease of another boot is not kept: it costs one look.
    fn take_lease(&mut self, record: LeaseRecord) {
        if record.boot != self.boot {
            return;
        }
        // No two leases have the same token, but for a file that somebody else wrote.
        self.drop_lease(record.token);
        self.generations += 1;
        let next = self.generations;
        let holder =
            self.holders.entry(record.holder.clone()).or_insert(Holder { generation: next, alive: 0 });
        holder.alive += 1;
        if !self.unsettled {
            self.ends.extend(record.until_ns.map(|until| (until, record.token)));
            self.rest.insert((record.grant, record.token));
        }
        self.leases.insert(record.token, Held { generation: holder.generation, record });
    }

    fn extend(&mut self, token: Sha256, until_ns: Option<u64>) {
        let Some(held) = self.leases.get_mut(&token) else { return };
        let old = std::mem::replace(&mut held.record.until_ns, until_ns);
        if !self.unsettled {
            old.map(|old| self.ends.remove(&(old, token)));
            self.ends.extend(until_ns.map(|until| (until, token)));
        }
    }

    pub(crate) fn drop_lease(&mut self, token: Sha256) -> bool {
        let Some(held) = self.leases.remove(&token) else { return false };
        self.rest.remove(&(held.record.grant, token));
        if let Some(until) = held.record.until_ns {
            self.ends.remove(&(until, token));
        }
        let alive = self.holders.get_mut(&held.record.holder).filter(|h| h.generation == held.generation);
        let Some(holder) = alive else { return false };
        holder.alive -= 1;
        if holder.alive == 0 {
            self.holders.remove(&held.record.holder);
        }
        true
    }

    /// Forgets leases that have ended: as many as have, and no more than `most` at once, so that no call pays for all.
    pub(crate) fn expire(&mut self, now: Now, most: usize) {
        for _ in 0..most {
            match self.ends.first() {
                Some((until, token)) if *until <= now.boot_ns => {
                    let token = *token;
                    self.drop_lease(token);
                }
                _ => break,
            }
        }
        // What holders left behind goes when it is most of what is there.
        if self.leases.len() > 2 * self.alive() + 1024 {
            let dead: Vec<Sha256> =
                self.leases.iter().filter(|(_, held)| !self.held_still(held)).map(|row| *row.0).collect();
            dead.into_iter().for_each(|token| {
                self.drop_lease(token);
            });
        }
    }

    fn held_still(&self, held: &Held) -> bool {
        self.holders.get(&held.record.holder).is_some_and(|holder| holder.generation == held.generation)
    }

    /// How many leases are held, some of which may have ended without having been forgotten yet.
    pub(crate) fn alive(&self) -> usize {
        self.holders.values().map(|holder| holder.alive).sum()
    }

    /// How many of them this holder has.
    pub(crate) fn held_by(&self, holder: &Principal) -> usize {
        self.holders.get(holder).map_or(0, |holder| holder.alive)
    }

    /// The lease of a token, with the grant on which it rests, if both are alive.
    pub(crate) fn lease(&self, token: &Sha256, now: Now) -> Option<(&LeaseRecord, &GrantInfo)> {
        let held = self.leases.get(token).filter(|held| self.held_still(held))?;
        let record = &held.record;
        let grant = self.grants.get(&record.grant)?;
        let lasts = record.until_ns.is_none_or(|until| now.boot_ns < until);
        let granted = self.lasts(grant, now) && grant.modes.contains(&record.mode);
        (lasts && granted).then_some((record, grant))
    }

    /// Every lease that is alive, in no order.
    pub(crate) fn live_leases(&self, now: Now) -> impl Iterator<Item = &LeaseRecord> {
        self.leases.keys().filter_map(move |token| self.lease(token, now).map(|found| found.0))
    }

    /// What was granted to one of these subjects. Both are looked up, whatever the first gives.
    pub(crate) fn grant_of(&self, subjects: &[Subject], name: &SecretName, now: Now) -> Option<&GrantInfo> {
        let find = |subject: &Subject| {
            let id = self.by_subject.get(&(subject.clone(), name.clone()))?;
            self.grants.get(id).filter(|grant| self.lasts(grant, now))
        };
        subjects.iter().map(find).fold(None, |found, next| found.or(next))
    }

    fn lasts(&self, grant: &GrantInfo, now: Now) -> bool {
        grant.until_ms.is_none_or(|until| self.wall(now) < until)
    }

    /// The time, which is never before that of the last change: a clock that was set back brings nothing back to life.
    pub(crate) fn wall(&self, now: Now) -> u64 {
        now.wall_ms.max(self.wall_ms)
    }

    /// The grants of a secret.
    pub(crate) fn grants_of<'a>(&'a self, name: &'a SecretName) -> impl Iterator<Item = &'a GrantInfo> {
        self.grants.values().filter(move |grant| grant.name == *name)
    }

    /// Everything as changes, with the sealed values beside them: what a new file begins with.
    pub(crate) fn changes(&self, now: Now) -> impl Iterator<Item = (Op, &[u8])> {
        let seen = Op::Seen { ledger: self.ledger, wall_ms: self.wall_ms, grants: self.next_grant };
        let machine = self.machine.iter().map(|(machine, seed)| (Op::Machine(machine.clone()), &**seed));
        let secrets = self.secrets.values().flat_map(|secret| {
            let name = &secret.info.name;
            let values = secret
                .values
                .iter()
                .map(|(version, value)| (Op::Value { name: name.clone(), version }, value));
            std::iter::once((Op::Secret { secret: secret.info.clone() }, &[][..])).chain(values)
        });
        let grants = self.grants.values().map(|grant| (Op::Grant { grant: grant.clone() }, &[][..]));
        let leases = self.live_leases(now).map(|lease| (Op::Lease { lease: lease.clone() }, &[][..]));
        std::iter::once((seen, &[][..])).chain(machine).chain(secrets).chain(grants).chain(leases)
    }
}
