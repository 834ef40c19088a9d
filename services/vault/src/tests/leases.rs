//! Grants and leases: who gets what, for how long, and that nobody else learns anything.

use super::world::{BOOT, Ledger, Mood, Scratch, World, call, put, run};
use crate::core::{self, Asking};
use crate::state::{LeaseRecord, Now, Op, State};
use octant_api::error::{ApiError, Code};
use octant_api::text::Base64;
use octant_api::vault::{
    GrantInfo, GrantRequest, Kind, LEASES_PER_AGENT, Lease, LeaseRequest, LeasesRequest, Mode, OpenRequest,
    PutRequest, ReleaseRequest, RenewRequest, RetireRequest, Revoke, RevokeRequest, RotateRequest,
    SignRequest, Subject, Token,
};
use octant_ids::{Aid, Principal, SecretName, Sha256};
use octant_wire::Client;
use proptest::prelude::*;
use std::sync::Arc;

fn aid(number: u8) -> Aid {
    Aid::new(1_700_000_000_000, [number; 10])
}

fn name(text: &str) -> SecretName {
    text.parse().unwrap()
}

fn grant(text: &str, to: Subject, mode: Mode) -> GrantRequest {
    GrantRequest {
        name: name(text),
        to,
        modes: vec![mode],
        hosts: Vec::new(),
        ttl_max_ms: None,
        unlimited: false,
        until_ms: None,
        reason: "a test".into(),
    }
}

fn lease(agent: u8, text: &str, mode: Mode) -> LeaseRequest {
    LeaseRequest {
        agent: Some(aid(agent)),
        manifest: Some(Sha256([agent; 32])),
        cgroup: Some(format!("/agents/{agent}")),
        name: name(text),
        mode,
        ttl_ms: None,
    }
}

fn open(agent: u8, token: &Token) -> OpenRequest {
    OpenRequest {
        agent: Some(aid(agent)),
        cgroup: Some(format!("/agents/{agent}")),
        token: token.clone(),
        host: None,
        requests: None,
    }
}

async fn leased(client: &Client, request: &LeaseRequest) -> Result<Lease, ApiError> {
    call(client, request, None).await.map(|done| done.0)
}

/// A vault with the secret `db`, granted to agent 1 for `mode`.
async fn granted(mode: Mode) -> World {
    let world = World::new();
    world.init().await;
    world.put("db", b"the value").await;
    world.call(&grant("db", Subject::Agent(aid(1)), mode), None).await.unwrap();
    world
}

#[test]
fn who_uses_a_value_never_gives_it_to_the_agent() {
    run(async {
        let world = granted(Mode::Use).await;
        let held = leased(&world.agents, &lease(1, "db", Mode::Use)).await.unwrap();
        assert!(held.expires_in_ms.is_some_and(|ms| ms <= 3_600_000), "{held:?}");
        let (opened, value) = call(&world.egress, &open(1, &held.token), None).await.unwrap();
        assert_eq!((opened.version, value.as_deref()), (1, Some(&b"the value"[..])));
        let error = call(&world.agents, &open(1, &held.token), None).await.unwrap_err();
        assert_eq!(error.code, Code::Denied);
        assert!(error.message.contains("the lease is for use"), "{error}");
        let reveal = leased(&world.agents, &lease(1, "db", Mode::Reveal)).await.unwrap_err();
        assert_eq!(reveal.code, Code::Denied, "use was granted, and not more");
    });
}

#[test]
fn a_value_that_may_be_seen_goes_through_agents_and_nobody_else() {
    run(async {
        let world = granted(Mode::Reveal).await;
        let held = leased(&world.agents, &lease(1, "db", Mode::Reveal)).await.unwrap();
        assert_eq!(call(&world.agents, &open(1, &held.token), None).await.unwrap().1.unwrap(), b"the value");
        assert_eq!(call(&world.egress, &open(1, &held.token), None).await.unwrap_err().code, Code::Denied);
    });
}

#[test]
fn unknown_and_forbidden_are_the_same_bytes() {
    run(async {
        let world = granted(Mode::Use).await;
        let mut answers = Vec::new();
        for (agent, text, mode) in [
            (2, "db", Mode::Use),
            (2, "nothing/of/the/kind", Mode::Use),
            (1, "db", Mode::Reveal),
            (1, "db2", Mode::Use),
            (1, "db", Mode::Sign),
        ] {
            let error = leased(&world.agents, &lease(agent, text, mode)).await.unwrap_err();
            answers.push(serde_json::to_string(&error).unwrap());
        }
        answers.dedup();
        assert_eq!(answers.len(), 1, "{answers:#?}");
        // The same for tokens: made up, somebody else's, from another cgroup, given back.
        let held = leased(&world.agents, &lease(1, "db", Mode::Use)).await.unwrap();
        let back = leased(&world.agents, &lease(1, "db", Mode::Use)).await.unwrap();
        let release = ReleaseRequest {
            agent: Some(aid(1)),
            cgroup: Some("/agents/1".into()),
            token: back.token.clone(),
        };
        assert_eq!(call(&world.agents, &release, None).await.unwrap().0.leases, 1);
        let elsewhere = OpenRequest { cgroup: Some("/agents/9".into()), ..open(1, &held.token) };
        let asked = [open(1, &Token([0; 32])), open(2, &held.token), elsewhere, open(1, &back.token)];
        let mut answers = Vec::new();
        for request in asked {
            let error = call(&world.egress, &request, None).await.unwrap_err();
            answers.push(serde_json::to_string(&error).unwrap());
        }
        answers.dedup();
        assert_eq!(answers.len(), 1, "{answers:#?}");
        assert!(!answers[0].contains("db"), "{answers:#?}");
        // And each refusal is on record.
        let denied = |told: &Vec<String>| told.iter().filter(|text| text.contains("denied")).count();
        for _ in 0..200 {
            if denied(&world.ledger.told()) >= 9 {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("{:#?}", world.ledger.told());
    });
}

#[test]
fn a_manifest_can_be_granted_to_and_a_service_can_hold_a_lease_itself() {
    run(async {
        let world = granted(Mode::Use).await;
        let to = Subject::Manifest(Sha256([7; 32]));
        world.call(&grant("db", to, Mode::Use), None).await.unwrap();
        leased(&world.agents, &lease(7, "db", Mode::Use)).await.unwrap();
        // The gate uses values for agents, and has no other lease of theirs.
        let used = LeaseRequest { cgroup: None, ..lease(7, "db", Mode::Use) };
        let held = leased(&world.egress, &used).await.unwrap();
        let open = OpenRequest { cgroup: None, ..open(7, &held.token) };
        assert_eq!(call(&world.egress, &open, None).await.unwrap().1.unwrap(), b"the value");
        world.call(&grant("db", Subject::Manifest(Sha256([7; 32])), Mode::Reveal), None).await.unwrap();
        let error = leased(&world.egress, &LeaseRequest { mode: Mode::Reveal, ..used }).await.unwrap_err();
        assert_eq!(error.code, Code::Denied);
        let own = LeaseRequest { agent: None, manifest: None, cgroup: None, ..lease(0, "db", Mode::Use) };
        assert_eq!(leased(&world.egress, &own).await.unwrap_err().code, Code::Denied);
        let to = Subject::Service("egress".parse().unwrap());
        world.call(&grant("db", to, Mode::Use), None).await.unwrap();
        let held = leased(&world.egress, &own).await.unwrap();
        let token = held.token.clone();
        let open = OpenRequest { agent: None, cgroup: None, token, host: None, requests: Some(3) };
        assert_eq!(call(&world.egress, &open, None).await.unwrap().1.unwrap(), b"the value");
        let told = world.ledger.entries.lock().unwrap().iter().any(|entry| {
            let payload: serde_json::Value = entry.payload.read().unwrap();
            entry.kind.as_str() == "intent" && payload["do"] == "vault open" && payload["requests"] == 3
        });
        assert!(told, "for how many it was is on record: {:#?}", world.ledger.told());
        assert!(call(&world.agents, &open, None).await.is_err(), "agents is somebody else");
        // Whoever is no service asks for no lease.
        let error = world.call(&own, None).await.unwrap_err();
        assert_eq!(error.code, Code::Denied);
    });
}

#[test]
fn a_key_pair_signs_and_is_never_handed_out() {
    run(async {
        let world = World::new();
        world.init().await;
        let pair = PutRequest { kind: Kind::KeyPair, generate: true, ..put("signer") };
        world.call(&pair, None).await.unwrap();
        for mode in [Mode::Use, Mode::Reveal] {
            let error = world.call(&grant("signer", Subject::Agent(aid(1)), mode), None).await.unwrap_err();
            assert_eq!(error.code, Code::InvalidParams, "{error}");
        }
        world.call(&grant("signer", Subject::Agent(aid(1)), Mode::Sign), None).await.unwrap();
        let held = leased(&world.agents, &lease(1, "signer", Mode::Sign)).await.unwrap();
        assert!(call(&world.agents, &open(1, &held.token), None).await.is_err());
        let sign = SignRequest {
            agent: Some(aid(1)),
            cgroup: Some("/agents/1".into()),
            token: held.token.clone(),
            message: Base64(b"release 1.2".to_vec()),
            host: None,
        };
        let signed = call(&world.agents, &sign, None).await.unwrap().0;
        let public: [u8; 32] = signed.public_key.0.try_into().unwrap();
        let signature: [u8; 64] = signed.signature.0.try_into().unwrap();
        octant_crypto::sign::verify(&public, b"release 1.2", &signature).unwrap();
        let reveal = octant_api::vault::RevealRequest {
            name: name("signer"),
            version: None,
            reason: "curious".into(),
        };
        assert!(world.call(&reveal, None).await.is_err());
    });
}

#[test]
fn a_key_pair_that_is_granted_for_hosts_signs_for_them_alone() {
    run(async {
        let world = World::new();
        world.init().await;
        let pair = PutRequest { kind: Kind::KeyPair, generate: true, ..put("deploy") };
        world.call(&pair, None).await.unwrap();
        let hosts = vec!["git.example.org".into()];
        let request = GrantRequest { hosts, ..grant("deploy", Subject::Agent(aid(1)), Mode::Sign) };
        world.call(&request, None).await.unwrap();
        let held = leased(&world.agents, &lease(1, "deploy", Mode::Sign)).await.unwrap();
        let sign = |host: Option<&str>| SignRequest {
            agent: Some(aid(1)),
            cgroup: Some("/agents/1".into()),
            token: held.token.clone(),
            message: Base64(b"a login".to_vec()),
            host: host.map(str::to_owned),
        };
        let signed = call(&world.agents, &sign(Some("git.example.org")), None).await.unwrap().0;
        assert_eq!(Some(signed.public_key), held.public_key);
        for elsewhere in [None, Some("example.org"), Some("other.example.org")] {
            let error = call(&world.agents, &sign(elsewhere), None).await.unwrap_err();
            assert_eq!(error.code, Code::Denied, "{elsewhere:?}");
        }
    });
}

#[test]
fn hosts_of_a_grant_are_demanded() {
    run(async {
        let world = granted(Mode::Use).await;
        let hosts = vec!["api.example.org".into(), "*.example.net".into()];
        let request = GrantRequest { hosts, ..grant("db", Subject::Agent(aid(1)), Mode::Use) };
        world.call(&request, None).await.unwrap();
        let held = leased(&world.agents, &lease(1, "db", Mode::Use)).await.unwrap();
        for (host, good) in [
            (Some("api.example.org"), true),
            (Some("API.example.org."), true),
            (Some("x.y.example.net"), true),
            (Some("example.net"), false),
            (Some("evilexample.net"), false),
            (Some("api.example.org.evil.org"), false),
            (None, false),
        ] {
            let request = OpenRequest { host: host.map(str::to_owned), ..open(1, &held.token) };
            assert_eq!(call(&world.egress, &request, None).await.is_ok(), good, "{host:?}");
        }
        for bad in ["*", "*.*.org", "Example.org", "a b", "-a.org", ""] {
            let hosts = vec![bad.to_owned()];
            let request = GrantRequest { hosts, ..grant("db", Subject::Agent(aid(1)), Mode::Use) };
            assert!(world.call(&request, None).await.is_err(), "{bad:?}");
        }
    });
}

#[test]
fn revoking_cuts_leases_at_once_also_while_the_ledger_hangs() {
    run(async {
        let world = granted(Mode::Use).await;
        let held = leased(&world.agents, &lease(1, "db", Mode::Use)).await.unwrap();
        *world.ledger.mood.lock().unwrap() = Mood::Hangs;
        let revoke = RevokeRequest { what: Revoke::Secret(name("db")) };
        let revoked = world.call(&revoke, None).await.unwrap().0;
        assert_eq!((revoked.grants, revoked.leases, revoked.durable), (1, 1, true));
        *world.ledger.mood.lock().unwrap() = Mood::Good;
        assert!(call(&world.egress, &open(1, &held.token), None).await.is_err());
        assert!(leased(&world.agents, &lease(1, "db", Mode::Use)).await.is_err());
    });
}

/// What one opening gives whose intent the ledger holds while `meanwhile` happens, and what is on record of it.
async fn opened_while<T>(
    world: &World,
    token: &Token,
    meanwhile: impl Future<Output = T>,
) -> (Result<Vec<u8>, ApiError>, Vec<String>) {
    // Outcomes are not waited for.
    let settled = async || {
        let with = |told: &[String], kind| told.iter().filter(|what| what.starts_with(kind)).count();
        loop {
            let told = world.ledger.told();
            if with(&told, "intent") == with(&told, "outcome") {
                return told;
            }
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    };
    let before = settled().await.len();
    *world.ledger.mood.lock().unwrap() = Mood::Holds("vault open");
    let request = open(1, token);
    let (opened, ()) = tokio::join!(call(&world.egress, &request, None), async {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        meanwhile.await;
        *world.ledger.mood.lock().unwrap() = Mood::Good;
    });
    (opened.map(|(_, value)| value.unwrap()), settled().await.split_off(before))
}

#[test]
fn a_value_is_given_only_if_it_still_may_be_when_its_intent_is_on_record() {
    run(async {
        let world = granted(Mode::Use).await;
        let held = leased(&world.agents, &lease(1, "db", Mode::Use)).await.unwrap();
        let rotate = RotateRequest { name: name("db"), not_after_ms: None, generate: false };
        let (opened, told) = opened_while(&world, &held.token, world.call(&rotate, Some(b"another"))).await;
        assert_eq!(opened.unwrap(), b"another");
        let intents: Vec<&String> = told.iter().filter(|what| *what == "intent vault open").collect();
        assert_eq!(intents.len(), 2, "the record names the version that was given: {told:?}");
        let revoke = RevokeRequest { what: Revoke::Secret(name("db")) };
        let (opened, told) = opened_while(&world, &held.token, world.call(&revoke, None)).await;
        assert_eq!(opened.unwrap_err().code, Code::Denied);
        assert!(told.contains(&"outcome done=false".to_owned()), "{told:?}");
    });
}

#[test]
fn an_agents_end_ends_its_leases_and_no_other() {
    run(async {
        let world = granted(Mode::Use).await;
        world.call(&grant("db", Subject::Manifest(Sha256([2; 32])), Mode::Use), None).await.unwrap();
        let mut held = Vec::new();
        for _ in 0..LEASES_PER_AGENT {
            held.push(leased(&world.agents, &lease(1, "db", Mode::Use)).await.unwrap().token);
        }
        let more = leased(&world.agents, &lease(1, "db", Mode::Use)).await.unwrap_err();
        assert_eq!(more.code, Code::Busy, "{more}");
        let other = leased(&world.agents, &lease(2, "db", Mode::Use)).await.unwrap().token;
        let count = LEASES_PER_AGENT as u64;
        let retired = call(&world.agents, &RetireRequest { agent: aid(1) }, None).await.unwrap().0;
        assert_eq!(retired.leases, count);
        for token in &held {
            assert!(call(&world.egress, &open(1, token), None).await.is_err());
        }
        call(&world.egress, &open(2, &other), None).await.unwrap();
        assert!(leased(&world.agents, &lease(1, "db", Mode::Use)).await.is_err(), "it has ended");
        assert_eq!(world.call(&LeasesRequest::default(), None).await.unwrap().0.total, 1);
    });
}

#[test]
fn leases_outlive_the_vaults_process_and_no_boot() {
    run(async {
        let world = granted(Mode::Use).await;
        let held = leased(&world.agents, &lease(1, "db", Mode::Use)).await.unwrap();
        let (scratch, ledger) = world.end().await;
        let world = World::start(scratch, ledger, &[], BOOT);
        world.unseal().await.unwrap();
        call(&world.egress, &open(1, &held.token), None).await.unwrap();
        let (scratch, ledger) = world.end().await;
        let world = World::start(scratch, ledger, &[], "ffffffffffffffffffffffffffffffff");
        world.unseal().await.unwrap();
        assert!(call(&world.egress, &open(1, &held.token), None).await.is_err());
        assert_eq!(world.vault.status().leases, Some(0));
    });
}

#[test]
fn a_lease_is_renewed_within_its_grant() {
    run(async {
        let world = World::start(Arc::new(Scratch::new()), Arc::new(Ledger::default()), &[], BOOT);
        world.init().await;
        world.put("db", b"x").await;
        let to = Subject::Agent(aid(1));
        let short = GrantRequest { ttl_max_ms: Some(60_000), ..grant("db", to.clone(), Mode::Use) };
        world.call(&short, None).await.unwrap();
        let request = LeaseRequest { ttl_ms: Some(10_000), ..lease(1, "db", Mode::Use) };
        let held = leased(&world.agents, &request).await.unwrap();
        assert!(held.expires_in_ms.unwrap() <= 10_000);
        let renew = RenewRequest {
            agent: Some(aid(1)),
            cgroup: Some("/agents/1".into()),
            token: held.token.clone(),
            ttl_ms: Some(3_600_000),
        };
        let longer = call(&world.agents, &renew, None).await.unwrap().0;
        let ms = longer.expires_in_ms.unwrap();
        assert!((50_000..=60_000).contains(&ms), "{longer:?}");
        let somebody = RenewRequest { agent: Some(aid(2)), ..renew };
        assert!(call(&world.agents, &somebody, None).await.is_err());
        for wrong in [
            GrantRequest { ttl_max_ms: Some(86_400_001), ..grant("db", to.clone(), Mode::Use) },
            GrantRequest { ttl_max_ms: Some(0), ..grant("db", to.clone(), Mode::Use) },
            GrantRequest { ttl_max_ms: Some(1), unlimited: true, ..grant("db", to.clone(), Mode::Use) },
        ] {
            assert_eq!(world.call(&wrong, None).await.unwrap_err().code, Code::InvalidParams);
        }
        let unlimited = GrantRequest { unlimited: true, ..grant("db", to, Mode::Use) };
        world.call(&unlimited, None).await.unwrap();
        let held = leased(&world.agents, &lease(1, "db", Mode::Use)).await.unwrap();
        assert_eq!((held.expires_in_ms, held.renewable_ms), (None, None));
    });
}

/// A state with a secret and a grant of it to agent 1.
fn state(ttl_max_ms: Option<u64>, until_ms: Option<u64>) -> State {
    let mut state = State::new(BOOT);
    let value = core::Value { bytes: 1, public_key: None, not_after_ms: None };
    let now = Now { wall_ms: 1_000, boot_ns: 0 };
    let secret = core::put(&state, &put("db"), &value, now).unwrap();
    state.apply(Op::Secret { secret }, &[]).unwrap();
    state.apply(Op::Value { name: name("db"), version: 1 }, &[0; 64]).unwrap();
    let grant = GrantInfo {
        id: 1,
        name: name("db"),
        to: Subject::Agent(aid(1)),
        modes: vec![Mode::Use],
        hosts: Vec::new(),
        ttl_max_ms,
        until_ms,
        created_ms: 0,
        by: 0,
        reason: String::new(),
    };
    state.apply(Op::Grant { grant }, &[]).unwrap();
    state
}

fn who() -> Asking {
    Asking {
        service: "egress".parse().unwrap(),
        holder: Principal::Agent(aid(1)),
        manifest: None,
        cgroup: Some("/agents/1".into()),
    }
}

fn take(state: &State, ttl_ms: u64, now: Now) -> LeaseRecord {
    let request = LeaseRequest { ttl_ms: Some(ttl_ms), ..lease(1, "db", Mode::Use) };
    core::lease(state, &who(), &request, Sha256([3; 32]), BOOT, now).unwrap()
}

const MS: u64 = 1_000_000;

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    /// A lease lives exactly as long as it was given for, whatever the wall clock does meanwhile, renewals never take it
    /// beyond its grant, and clearing away what has ended changes nothing of that.
    #[test]
    fn leases_end_by_the_clock_that_cannot_jump(
        ttl_max in 1_u64..10_000,
        ttl in 1_u64..20_000,
        steps in proptest::collection::vec((0_u64..4_000, 0_u64..u64::MAX / 2, any::<bool>(), 1_u64..20_000), 1..20),
    ) {
        let mut state = state(Some(ttl_max), None);
        let mut now = Now { wall_ms: 1_000, boot_ns: 5 * MS };
        let last = now.boot_ns + ttl_max * MS;
        let record = take(&state, ttl, now);
        let mut until = record.until_ns.unwrap();
        prop_assert_eq!(until, (now.boot_ns + ttl * MS).min(last));
        state.apply(Op::Lease { lease: record }, &[]).unwrap();
        for (forward_ms, wall_ms, renew, ttl) in steps {
            now = Now { wall_ms, boot_ns: now.boot_ns + forward_ms * MS };
            state.expire(now, 64);
            let found = core::held(&state, &who(), &Sha256([3; 32]), now);
            prop_assert_eq!(found.is_ok(), now.boot_ns < until, "{:?} {}", now, until);
            if let (Ok((lease, _)), true) = (found, renew) {
                until = core::renew(lease, Some(ttl), now).unwrap().unwrap();
                prop_assert!(until <= last);
                state.apply(Op::Extend { token: Sha256([3; 32]), until_ns: Some(until) }, &[]).unwrap();
            }
            state.apply(Op::Seen { ledger: 0, wall_ms, grants: 1 }, &[]).unwrap();
        }
    }

    /// A grant that ended stays ended, also when the clock is set back: the time of the last change is a floor.
    #[test]
    fn a_clock_that_is_set_back_brings_nothing_back(until in 2_000_u64..50_000, walls in proptest::collection::vec(0_u64..100_000, 1..20)) {
        let mut state = state(Some(1_000), Some(until));
        let mut highest = 0;
        for wall_ms in walls {
            highest = highest.max(wall_ms);
            let now = Now { wall_ms, boot_ns: 0 };
            let found = state.grant_of(&[Subject::Agent(aid(1))], &name("db"), now).is_some();
            prop_assert_eq!(found, highest < until);
            state.apply(Op::Seen { ledger: 0, wall_ms, grants: 1 }, &[]).unwrap();
        }
    }

    /// What is written and read back is the same: the changes of a state make that state.
    #[test]
    fn a_states_changes_make_the_state(leases in 0_u8..20, ungrant in any::<bool>()) {
        let mut state = state(None, None);
        let now = Now { wall_ms: 1_000, boot_ns: 0 };
        for number in 0..leases {
            let lease = LeaseRecord { token: Sha256([number; 32]), ..take(&state, 1_000, now) };
            state.apply(Op::Lease { lease }, &[]).unwrap();
        }
        if ungrant {
            state.apply(Op::Ungrant { id: 1 }, &[]).unwrap();
        }
        let mut again = State::new(BOOT);
        for (op, value) in state.changes(now) {
            let text = serde_json::to_vec(&op).unwrap();
            again.apply(serde_json::from_slice(&text).unwrap(), value).unwrap();
        }
        prop_assert_eq!(&again.secrets, &state.secrets);
        prop_assert_eq!(&again.grants, &state.grants);
        prop_assert_eq!(again.next_grant, state.next_grant);
        prop_assert_eq!(again.live_leases(now).count(), state.live_leases(now).count());
    }
}
