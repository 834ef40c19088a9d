//! Whatever is done to a vault: closed and opened again it is what it was.

use super::world::{BOOT, Scratch, file, put};
use crate::core::{self, Asking, Value};
use crate::format::Header;
use crate::hex::Hex;
use crate::refusal::Refusal;
use crate::slots::{self, Lock};
use crate::state::{LeaseRecord, Machine, Now, Op, State};
use crate::store::{self, Place, Store};
use crate::values::{Picked, open_value, seal_machine, seal_value};
use crate::vault::{Open, commit, locked, now};
use octant_api::vault::{GrantRequest, LEASES_PER_AGENT, LeaseRequest, Mode, Revoke, SecretInfo, Subject};
use octant_crypto::memory::Key;
use octant_crypto::sign::SigningKey;
use octant_ids::{Aid, Principal, SecretName, Sha256};
use proptest::prelude::*;

const DATA: [u8; 32] = [0x77; 32];
const MS: u64 = 1_000_000;

/// An open vault without a service around it.
struct Kept {
    scratch: Scratch,
    open: Option<(Place, Open)>,
    /// How far the clock is ahead of the real one.
    ahead_ms: u64,
    tokens: u8,
    ledger: u64,
}

impl Kept {
    fn new() -> Self {
        let scratch = Scratch::quick();
        let (key, machine) = (Key::from_bytes(&DATA).unwrap(), SigningKey::generate().unwrap());
        let mut header = Header {
            vault: Hex([1; 16]),
            key: 1,
            epoch: 1,
            frames: 0,
            created_ms: 1,
            machine: Sha256(machine.public()),
            next_slot: 1,
            slots: Vec::new(),
        };
        let (lock, own) = (Lock::StaticFile {}, slots::file_key(&[5; 32]).unwrap());
        header.slots.push(slots::wrap(&header, 0, String::new(), 1, lock, [6; 32], (&own, &key)).unwrap());
        let mut state = State::new(BOOT);
        let record = Machine { public: header.machine, created_ms: 1, facts: Default::default() };
        let seed = seal_machine(&key, &header.vault.0, &machine).unwrap();
        state.apply(Op::Machine(record), &seed).unwrap();
        let place = Place::take(&scratch.path("state")).unwrap();
        let store = place.create(header, &key, &store::snapshot(&state, now()).unwrap(), None).unwrap();
        let open = opened(key, machine, state, store);
        Self { scratch, open: Some((place, open)), ahead_ms: 0, tokens: 0, ledger: 0 }
    }

    fn open(&self) -> &Open {
        &self.open.as_ref().unwrap().1
    }

    fn now(&self) -> Now {
        let real = now();
        Now { wall_ms: real.wall_ms, boot_ns: real.boot_ns + self.ahead_ms * MS }
    }

    /// The state, with what has ended cleared away.
    fn state(&self) -> State {
        let mut state = locked(&self.open().state);
        state.expire(self.now(), usize::MAX);
        state.clone()
    }

    /// Commits what was decided, if anything was.
    fn change(&mut self, decided: Result<Vec<(Op, Vec<u8>)>, Refusal>) {
        let Ok(changes) = decided else { return };
        self.ledger += 1;
        let before = locked(&self.open().store).epoch;
        assert_eq!(commit(self.open(), changes, self.ledger).unwrap(), before + 1);
    }

    /// A secret's new version with its value.
    fn stored(&self, info: SecretInfo, value: &[u8]) -> Vec<(Op, Vec<u8>)> {
        let open = self.open();
        let sealed =
            seal_value(&open.key, &open.vault, &info, info.versions.last().unwrap(), &mut value.to_vec())
                .unwrap();
        let (name, version) = (info.name.clone(), info.current);
        vec![(Op::Secret { secret: info }, Vec::new()), (Op::Value { name, version }, sealed)]
    }

    /// Ends the vault and opens what it left.
    fn reopen(&mut self) {
        let (place, open) = self.open.take().unwrap();
        let header = locked(&open.store).header.clone();
        drop((place, open));
        let place = Place::take(&self.scratch.path("state")).unwrap();
        let raw = place.read().unwrap().unwrap();
        assert_eq!(raw.header, header);
        let key = Key::from_bytes(&DATA).unwrap();
        let contents = raw.contents(&key, BOOT, Some(self.now())).unwrap();
        assert_eq!(contents.opened.torn, 0);
        let store = Store::open(&place, raw, &contents.opened).unwrap();
        self.open = Some((place, opened(key, contents.machine, contents.state, store)));
    }
}

fn opened(key: Key, machine: SigningKey, state: State, store: Store) -> Open {
    Open::new((key, machine), 0, state, store, Vec::new())
}

/// Something that is done.
#[derive(Debug, Clone, Copy)]
enum Step {
    Put(u8, usize),
    Rotate(u8, usize),
    Rollback(u8, u64),
    Destroy(u8, u64),
    Remove(u8),
    Grant(u8, u8, Option<u64>),
    RevokeGrant(u64),
    RevokeSecret(u8),
    RevokeAgent(u8),
    Lease(u8, u8, u64),
    Renew(u8, u64),
    Release(u8),
    Retire(u8),
    Later(u64),
    WriteAnew,
    Reopen,
}

fn steps() -> impl Strategy<Value = Step> {
    let (name, agent, len) = (0..4_u8, 0..3_u8, prop_oneof![20 => 1..80_usize, 1 => Just(65_536)]);
    let ttl = 1..5_000_u64;
    prop_oneof![
        4 => (name.clone(), len.clone()).prop_map(|(name, len)| Step::Put(name, len)),
        4 => (name.clone(), len).prop_map(|(name, len)| Step::Rotate(name, len)),
        2 => (name.clone(), 1..4_u64).prop_map(|(name, version)| Step::Rollback(name, version)),
        2 => (name.clone(), 1..4_u64).prop_map(|(name, version)| Step::Destroy(name, version)),
        1 => name.clone().prop_map(Step::Remove),
        6 => (name.clone(), agent.clone(), proptest::option::of(ttl.clone()))
            .prop_map(|(name, agent, ttl)| Step::Grant(name, agent, ttl)),
        1 => (1..6_u64).prop_map(Step::RevokeGrant),
        1 => name.clone().prop_map(Step::RevokeSecret),
        1 => agent.clone().prop_map(Step::RevokeAgent),
        8 => (name, agent.clone(), ttl.clone()).prop_map(|(name, agent, ttl)| Step::Lease(name, agent, ttl)),
        2 => (any::<u8>(), ttl.clone()).prop_map(|(lease, ttl)| Step::Renew(lease, ttl)),
        1 => any::<u8>().prop_map(Step::Release),
        1 => agent.prop_map(Step::Retire),
        2 => ttl.prop_map(Step::Later),
        1 => Just(Step::WriteAnew),
        2 => Just(Step::Reopen),
    ]
}

fn name(number: u8) -> SecretName {
    format!("secret/{number}").parse().unwrap()
}

fn agent(number: u8) -> Aid {
    Aid::new(1_700_000_000_000, [number; 10])
}

fn who(number: u8) -> Asking {
    Asking {
        service: "egress".parse().unwrap(),
        holder: Principal::Agent(agent(number)),
        manifest: None,
        cgroup: None,
    }
}

fn plain(ops: impl IntoIterator<Item = Op>) -> Vec<(Op, Vec<u8>)> {
    ops.into_iter().map(|op| (op, Vec::new())).collect()
}

/// A lease that is alive, by any number.
fn any_lease(state: &State, number: u8, now: Now) -> Option<LeaseRecord> {
    let mut leases: Vec<&LeaseRecord> = state.live_leases(now).collect();
    leases.sort_by_key(|lease| lease.token);
    (!leases.is_empty()).then(|| leases[usize::from(number) % leases.len()].clone())
}

impl Kept {
    fn do_it(&mut self, step: Step) {
        let (state, now) = (self.state(), self.now());
        let value = |bytes| Value { bytes, public_key: None, not_after_ms: None };
        let revoke = |what: Revoke| Ok(plain(core::revoke(&state, &what, now).0));
        let decided = match step {
            Step::Put(number, len) => core::put(&state, &put(name(number).as_str()), &value(len), now)
                .map(|info| self.stored(info, &vec![number; len])),
            Step::Rotate(number, len) => core::rotate(&state, &name(number), &value(len), now)
                .map(|info| self.stored(info, &vec![number; len])),
            Step::Rollback(number, version) => core::rollback(&state, &name(number), version, now)
                .map(|secret| plain([Op::Secret { secret }])),
            Step::Destroy(number, version) => {
                core::destroy(&state, &name(number), version).map(|secret| plain([Op::Secret { secret }]))
            }
            Step::Remove(number) => {
                core::secret(&state, &name(number)).map(|_| plain([Op::Remove { name: name(number) }]))
            }
            Step::Grant(number, to, ttl_max_ms) => {
                let asked = GrantRequest {
                    name: name(number),
                    to: Subject::Agent(agent(to)),
                    modes: vec![Mode::Use],
                    hosts: Vec::new(),
                    ttl_max_ms,
                    unlimited: ttl_max_ms.is_none(),
                    until_ms: None,
                    reason: "a test".into(),
                };
                core::grant(&state, &asked, 0, now).map(|grant| plain([Op::Grant { grant }]))
            }
            Step::RevokeGrant(id) => revoke(Revoke::Grant(id)),
            Step::RevokeSecret(number) => revoke(Revoke::Secret(name(number))),
            Step::RevokeAgent(number) => revoke(Revoke::Agent(agent(number))),
            Step::Lease(number, to, ttl) => self.leased(&state, name(number), to, ttl),
            Step::Renew(number, ttl) => any_lease(&state, number, now)
                .map_or(Err(Refusal::NoLease), |lease| {
                    core::renew(&lease, Some(ttl), now).map(|until_ns| (lease.token, until_ns))
                })
                .map(|(token, until_ns)| plain([Op::Extend { token, until_ns }])),
            Step::Release(number) => any_lease(&state, number, now)
                .map_or(Err(Refusal::NoLease), |lease| Ok(plain([Op::Release { token: lease.token }]))),
            Step::Retire(number) => Ok(plain([Op::Retire { holder: Principal::Agent(agent(number)) }])),
            Step::Later(ms) => return self.ahead_ms += ms,
            Step::WriteAnew => return self.write_anew(&state),
            Step::Reopen => return self.reopen(),
        };
        self.change(decided);
    }

    fn leased(
        &mut self,
        state: &State,
        name: SecretName,
        to: u8,
        ttl: u64,
    ) -> Result<Vec<(Op, Vec<u8>)>, Refusal> {
        self.tokens += 1;
        let asked = LeaseRequest {
            agent: Some(agent(to)),
            manifest: None,
            cgroup: None,
            name,
            mode: Mode::Use,
            // Some as long as their holder, where the grant says so.
            ttl_ms: (ttl > 2_500).then_some(ttl),
        };
        let token = Sha256([self.tokens; 32]);
        core::lease(state, &who(to), &asked, token, BOOT, self.now())
            .map(|lease| plain([Op::Lease { lease }]))
    }

    fn write_anew(&self, state: &State) {
        let mut store = locked(&self.open().store);
        let (header, epoch) = (store.header.clone(), store.epoch + 1);
        let contents = store::snapshot(state, self.now()).unwrap();
        store.rewrite(header, &self.open().key, epoch, &contents).unwrap();
    }
}

/// What counts of two states is the same.
fn same(now: Now, before: &State, after: &State) -> Result<(), TestCaseError> {
    prop_assert_eq!(&before.secrets, &after.secrets);
    prop_assert_eq!(&before.grants, &after.grants);
    prop_assert_eq!(&before.machine, &after.machine);
    prop_assert_eq!(
        (before.next_grant, before.ledger, before.wall_ms),
        (after.next_grant, after.ledger, after.wall_ms)
    );
    let leases = |state: &State| {
        let mut leases: Vec<LeaseRecord> = state.live_leases(now).cloned().collect();
        leases.sort_by_key(|lease| lease.token);
        leases
    };
    prop_assert_eq!(leases(before), leases(after));
    // What counts against a holder's limit is what the holder has.
    for state in [before, after] {
        prop_assert_eq!(state.alive(), leases(state).len());
        for number in 0..3 {
            let holder = Principal::Agent(agent(number));
            let has = leases(state).iter().filter(|lease| lease.holder == holder).count();
            prop_assert_eq!(state.held_by(&holder), has);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn what_is_closed_opens_as_it_was(steps in proptest::collection::vec(steps(), 1..60)) {
        let mut kept = Kept::new();
        for step in steps {
            kept.do_it(step);
        }
        let before = kept.state();
        let epoch = locked(&kept.open().store).epoch;
        kept.reopen();
        let after = kept.state();
        prop_assert_eq!(locked(&kept.open().store).epoch, epoch);
        same(kept.now(), &before, &after)?;
        for secret in after.secrets.values() {
            let usable = core::usable(&after, secret, None, kept.now()).unwrap();
            let picked = Picked::from(usable);
            let mut value = vec![0; picked.bytes()];
            open_value(&kept.open().key, &kept.open().vault, &picked, &mut value).unwrap();
            let number = secret.info.name.as_str().as_bytes()[7] - b'0';
            prop_assert!(!value.is_empty() && value.iter().all(|byte| *byte == number));
        }
    }
}

#[test]
fn leases_of_a_grant_that_was_taken_away_do_not_count() {
    let mut kept = Kept::new();
    kept.do_it(Step::Put(0, 1));
    kept.do_it(Step::Grant(0, 0, None));
    for _ in 0..LEASES_PER_AGENT {
        kept.do_it(Step::Lease(0, 0, 1));
    }
    let holder = Principal::Agent(agent(0));
    assert_eq!(kept.state().held_by(&holder), LEASES_PER_AGENT);
    // Given anew, a grant is another one, and what rested on the old one is gone.
    kept.do_it(Step::Grant(0, 0, None));
    assert_eq!(kept.state().held_by(&holder), 0);
    kept.do_it(Step::Lease(0, 0, 1));
    assert_eq!((kept.state().held_by(&holder), kept.state().alive()), (1, 1));
    kept.do_it(Step::RevokeSecret(0));
    assert_eq!((kept.state().held_by(&holder), kept.state().alive()), (0, 0));
}

/// Only what has no value any more is forgotten, however often others were rotated and destroyed.
#[test]
fn a_version_that_has_its_value_is_never_forgotten() {
    let mut kept = Kept::new();
    kept.do_it(Step::Put(0, 1));
    for version in 2..200 {
        kept.do_it(Step::Rotate(0, 1));
        if version > 2 {
            kept.do_it(Step::Destroy(0, version - 1));
        }
    }
    kept.reopen();
    let state = kept.state();
    let secret = core::secret(&state, &name(0)).unwrap();
    assert_eq!(secret.values.iter().map(|row| row.0).collect::<Vec<_>>(), [1, 199]);
    assert!(secret.info.versions.len() < 100, "{}", secret.info.versions.len());
    assert_eq!(core::rollback(&state, &name(0), 1, kept.now()).unwrap().current, 1);
}

/// A vault that is restarted often wears as one that is not.
#[test]
fn a_file_is_written_anew_also_when_its_changes_came_in_many_runs() {
    let mut kept = Kept::new();
    let mut largest = 0;
    for round in 0..60 {
        for _ in 0..20 {
            kept.do_it(Step::Retire(0));
        }
        kept.reopen();
        let len = std::fs::metadata(file(&kept.scratch)).unwrap().len();
        assert!(len < 250_000, "{round}: {len} bytes");
        largest = largest.max(len);
    }
    let len = std::fs::metadata(file(&kept.scratch)).unwrap().len();
    assert!(len < largest / 2, "{len} of {largest}: it was never written anew");
}
