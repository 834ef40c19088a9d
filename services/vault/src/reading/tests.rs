use super::*;
use octant_api::vault::{Kind, Subject, VersionInfo, VersionState};
use octant_ids::Aid;
use serde_json::{Value, json};

const BOOT: &str = "00112233445566778899aabbccddeeff";

fn name(text: &str) -> SecretName {
    text.parse().unwrap()
}

fn lease(token: u8, until_ns: Option<u64>) -> LeaseRecord {
    LeaseRecord {
        token: Sha256([token; 32]),
        holder: Principal::Agent(Aid::new(1_700_000_000_000, [6; 10])),
        cgroup: Some("/agents/6".to_owned()),
        name: name("db"),
        mode: Mode::Use,
        grant: 1,
        boot: BOOT.to_owned(),
        until_ns,
        last_ns: until_ns,
    }
}

fn given(token: u8, until_ns: Option<u64>) -> Op {
    Op::Lease { lease: lease(token, until_ns) }
}

fn grant() -> Op {
    let (modes, hosts, reason) = (vec![Mode::Use], vec!["*.example.org".to_owned()], "why".to_owned());
    let to = Subject::Agent(Aid::new(1_700_000_000_000, [6; 10]));
    let (ttl_max_ms, until_ms, created_ms, by) = (Some(7), None, 3, 1000);
    Op::Grant {
        grant: GrantInfo {
            id: 1,
            name: name("db"),
            to,
            modes,
            hosts,
            ttl_max_ms,
            until_ms,
            created_ms,
            by,
            reason,
        },
    }
}

fn secret() -> Op {
    let state = VersionState::Active;
    let version = VersionInfo { version: 1, state, created_ms: 2, not_after_ms: Some(9), public_key: None };
    Op::Secret {
        secret: SecretInfo {
            name: name("db"),
            kind: Kind::Password,
            current: 1,
            versions: vec![version],
            about: "an \"about\" with \u{e4}".to_owned(),
            username: "u".to_owned(),
            url: String::new(),
            labels: [("team".to_owned(), "a".to_owned())].into(),
        },
    }
}

/// What is read of these texts, in this order.
fn read(by: Option<Now>, texts: &[Vec<u8>]) -> Result<State, ReadingError> {
    let mut reading = Reading::new(BOOT, by);
    texts.iter().try_for_each(|text| reading.take(text, b"sealed"))?;
    Ok(reading.end())
}

fn written(ops: &[Op]) -> Vec<Vec<u8>> {
    ops.iter().map(|op| serde_json::to_vec(op).unwrap()).collect()
}

/// The same change with `op` behind its members, as another program may write it.
fn op_last(op: &Op) -> Vec<u8> {
    let Value::Object(members) = serde_json::to_value(op).unwrap() else { unreachable!() };
    let (of, rest): (Vec<_>, Vec<_>) = members.into_iter().partition(|(name, _)| name == "op");
    let text = |(name, value): &(String, Value)| format!("{}: {value}", json!(name));
    let all: Vec<String> = rest.iter().chain(&of).map(text).collect();
    format!(" {{ {} }} ", all.join(" , ")).into_bytes()
}

fn at(boot_ns: u64) -> Now {
    Now { wall_ms: 1, boot_ns }
}

#[test]
fn a_change_is_the_same_wherever_its_op_stands() {
    let value = Op::Value { name: name("db"), version: 1 };
    let extended = Op::Extend { token: Sha256([2; 32]), until_ns: Some(90) };
    let seen = Op::Seen { ledger: 4, wall_ms: 5, grants: 6 };
    let ops =
        [secret(), value, grant(), given(1, None), given(2, Some(50)), extended, seen, Op::Ungrant { id: 9 }];
    let mut state = State::new(BOOT);
    ops.iter().for_each(|op| state.apply(op.clone(), b"sealed").unwrap());
    assert_eq!(read(None, &written(&ops)).unwrap(), state);
    let last: Vec<Vec<u8>> = ops.iter().map(op_last).collect();
    assert_eq!(read(None, &last).unwrap(), state);
}

#[test]
fn what_is_no_change_is_refused_wherever_its_op_stands() {
    let lease = serde_json::to_value(lease(1, None)).unwrap();
    for (members, wrong) in [
        (r#""name":"db","version":1"#, r#","more":1"#),
        (r#""name":"db","version":1"#, r#","version":1"#),
        (r#""name":"db""#, ""),
        (r#""name":"/db","version":1"#, ""),
        (r#""name":"db","version":-1"#, ""),
    ] {
        for text in
            [format!(r#"{{"op":"value",{members}{wrong}}}"#), format!(r#"{{{members}{wrong},"op":"value"}}"#)]
        {
            assert!(matches!(read(None, &[text.clone().into_bytes()]), Err(ReadingError::Text(_))), "{text}");
        }
    }
    for (member, value) in
        [("more", json!(1)), ("token", json!("00")), ("boot", json!(7)), ("holder", json!({}))]
    {
        let mut lease = lease.clone();
        lease[member] = value;
        // Also of another boot, and when it has ended.
        let text = json!({ "op": "lease", "lease": lease }).to_string().into_bytes();
        assert!(matches!(read(Some(at(90)), &[text]), Err(ReadingError::Text(_))), "{member}");
    }
    for text in [
        &b""[..],
        b"[]",
        b"{}",
        br#"{"op":"none"}"#,
        br#"{"op":"value","op":"value","name":"db","version":1}"#,
    ] {
        assert!(matches!(read(None, &[text.to_vec()]), Err(ReadingError::Text(_))), "{text:?}");
    }
}

#[test]
fn leases_that_have_ended_or_are_of_another_boot_leave_nothing() {
    let other = Op::Lease { lease: LeaseRecord { boot: "another".to_owned(), ..lease(3, None) } };
    let ops = [secret(), grant(), given(1, Some(50)), given(2, Some(51)), other];
    let state = read(Some(at(50)), &written(&ops)).unwrap();
    assert_eq!(state.alive(), 1);
    assert!(state.lease(&Sha256([1; 32]), at(0)).is_none());
    assert!(state.lease(&Sha256([2; 32]), at(50)).is_some());
    let mut all = read(None, &written(&ops)).unwrap();
    assert_eq!(all.alive(), 2);
    all.expire(at(50), usize::MAX);
    assert_eq!(all.live_leases(at(50)).count(), state.live_leases(at(50)).count());
    // A token that a file gives twice is the last one's.
    let state =
        read(Some(at(50)), &written(&[secret(), grant(), given(1, None), given(1, Some(50))])).unwrap();
    assert_eq!(state.alive(), 0);
}

#[test]
fn a_lease_that_is_extended_beyond_its_end_is_asked_for_again() {
    let extended = |until_ns| Op::Extend { token: Sha256([1; 32]), until_ns };
    let ops = |until_ns| written(&[secret(), grant(), given(1, Some(50)), extended(until_ns)]);
    for until_ns in [None, Some(51)] {
        assert!(matches!(read(Some(at(50)), &ops(until_ns)), Err(ReadingError::Again)), "{until_ns:?}");
        assert_eq!(read(None, &ops(until_ns)).unwrap().alive(), 1);
    }
    assert_eq!(read(Some(at(50)), &ops(Some(49))).unwrap().alive(), 0);
    assert_eq!(read(Some(at(49)), &ops(None)).unwrap().alive(), 1);
}
