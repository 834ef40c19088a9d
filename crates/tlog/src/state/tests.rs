use super::*;
use crate::entry::{boot_id, decode};
use proptest::prelude::*;

fn principal() -> impl Strategy<Value = Principal> {
    prop_oneof![
        Just(Principal::Init),
        any::<u32>().prop_map(Principal::Operator),
        Just(Principal::Service("agents".parse().unwrap())),
        (0_u8..3).prop_map(|n| Principal::Agent(agent(n))),
        any::<u32>().prop_map(Principal::Stranger),
    ]
}

fn agent(n: u8) -> Aid {
    Aid::new(u64::from(n), [n; 10])
}

fn content() -> impl Strategy<Value = Content> {
    prop_oneof![
        any::<String>().prop_map(|text| Content::Payload(Json::of(&text).unwrap())),
        Just(Content::Payload(Json::from_text("{ \"a\": 1.50, \"a\": [null] }".into()).unwrap())),
        any::<[u8; 32]>().prop_map(|digest| Content::Commitment(Sha256(digest))),
        any::<([u8; 32], u64)>().prop_map(|(digest, bytes)| Content::Outside(octant_api::ledger::Outside {
            sha256: Sha256(digest),
            bytes
        })),
    ]
}

prop_compose! {
    fn draft()(
        actor in principal(),
        kind in prop::sample::select(Kind::ALL.to_vec()),
        intent in prop::option::of(0_u64..20),
        agent in prop::option::of((0_u8..3).prop_map(agent)),
        digests in any::<[Option<[u8; 32]>; 3]>(),
        content in content(),
        observed_ns: Option<u64>,
        backfilled: bool,
    ) -> Draft {
        let [manifest, policy, subject] = digests.map(|digest| digest.map(Sha256));
        Draft { actor, kind, backfilled, intent, agent, manifest, policy, subject, content, observed_ns }
    }
}

const BOOT: BootId = [7; 16];

/// The drafts that keep the rules, as entries.
fn log(drafts: &[Draft]) -> (State, Vec<Vec<u8>>) {
    let mut state = State::default();
    let mut entries = Vec::new();
    for (draft, n) in drafts.iter().zip(1..) {
        let mut out = Vec::new();
        let before = state.clone();
        match state.seal(BOOT, draft, Stamp { mono_ns: n, wall_ms: n }, &mut out, |_, _, _| {}) {
            Ok(tip) => {
                assert_eq!(tip, Tip { seq: before.tip.seq + 1, hash: leaf_hash(&out) });
                entries.push(out);
            }
            Err(_) => assert_eq!((&before, out.len()), (&state, 0)),
        }
    }
    (state, entries)
}

fn accept_all(entries: &[Vec<u8>]) -> Result<State, Broken> {
    let mut state = State::default();
    for entry in entries {
        state.accept(entry, |_, _, _| {})?;
    }
    Ok(state)
}

/// A log in which every draft became an entry.
fn logs(least: usize) -> impl Strategy<Value = (State, Vec<Vec<u8>>)> {
    let opened = prop::collection::vec(draft(), least..12).prop_map(move |drafts| {
        let open = (0..3).map(|n| Draft {
            agent: Some(agent(n)),
            ..Draft::new(Principal::Init, Kind::Lifecycle, Json::of(&n).unwrap())
        });
        let drafts: Vec<Draft> = open.chain(drafts).collect();
        log(&drafts)
    });
    opened.prop_filter("long enough", move |(_, entries)| entries.len() >= least)
}

proptest! {
    #[test]
    fn what_is_sealed_is_accepted_and_leads_to_the_same_state((state, entries) in logs(1)) {
        prop_assert_eq!(accept_all(&entries).unwrap(), state.clone());
        prop_assert_eq!(State::decode(&state.encode()).unwrap(), state);
    }

    #[test]
    fn any_changed_byte_is_refused_or_moves_the_tip(
        (state, mut entries) in logs(1),
        which in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
        flip in 1_u8..,
    ) {
        let entry = which.get_mut(&mut entries);
        let place = at.index(entry.len());
        entry[place] ^= flip;
        prop_assert_ne!(accept_all(&entries).map(|state| state.tip), Ok(state.tip));
    }

    #[test]
    fn removal_repetition_and_exchange_are_refused(
        (state, entries) in logs(2),
        a in any::<prop::sample::Index>(),
        b in any::<prop::sample::Index>(),
    ) {
        let (a, b) = (a.index(entries.len()), b.index(entries.len()));
        let mut without = entries.clone();
        without.remove(a);
        prop_assert_ne!(accept_all(&without).map(|state| state.tip), Ok(state.tip));
        let mut twice = entries.clone();
        twice.insert(a, entries[a].clone());
        prop_assert!(accept_all(&twice).is_err());
        if a != b {
            let mut exchanged = entries.clone();
            exchanged.swap(a, b);
            prop_assert!(accept_all(&exchanged).is_err());
        }
    }

    #[test]
    fn a_mark_leads_back(drafts in prop::collection::vec(draft(), 1..12), more in prop::collection::vec(draft(), 1..8)) {
        let (mut state, _) = log(&drafts);
        let before = state.clone();
        let mark = state.mark(more.iter().filter_map(|draft| draft.agent));
        for draft in &more {
            let _ = state.seal(BOOT, draft, Stamp { mono_ns: 1, wall_ms: 1 }, &mut Vec::new(), |_, _, _| {});
        }
        state.back(mark);
        prop_assert_eq!(state, before);
    }

    #[test]
    fn any_bytes_are_refused_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let refused = State::default().accept(&bytes, |_, _, _| {}).is_err();
        prop_assert!(refused);
        let _ = State::decode(&bytes);
    }

    #[test]
    fn an_entry_reads_as_it_was_drafted(draft in draft(), n in 1_u64..) {
        let mut out = Vec::new();
        let place = Place { seq: n, prev: Sha256([1; 32]), boot: BOOT, partition: None };
        encode(&mut out, &draft, &place, Stamp { mono_ns: 5, wall_ms: 6 });
        let entry = decode(&out).unwrap();
        prop_assert_eq!((entry.seq, entry.prev, entry.hash), (n, Sha256([1; 32]), leaf_hash(&out)));
        prop_assert_eq!(boot_id(&entry.boot_id), Some(BOOT));
        prop_assert_eq!((&entry.actor, entry.kind, entry.intent), (&draft.actor, draft.kind, draft.intent));
        prop_assert_eq!(entry.mono_ns, draft.observed_ns.unwrap_or(5));
        prop_assert_eq!((entry.manifest, entry.policy, entry.subject), (draft.manifest, draft.policy, draft.subject));
        match &draft.content {
            Content::Payload(payload) => prop_assert_eq!(&entry.payload, payload),
            Content::Commitment(digest) => prop_assert_eq!(entry.erasable.unwrap().commitment, *digest),
            Content::Outside(outside) => prop_assert_eq!(entry.outside, Some(*outside)),
        }
    }

    #[test]
    fn what_another_program_encodes_canonically_is_the_same(draft in draft()) {
        let mut out = Vec::new();
        let place = Place { seq: 1, prev: Sha256::ZERO, boot: BOOT, partition: None };
        encode(&mut out, &draft, &place, Stamp { mono_ns: 5, wall_ms: 6 });
        let value: ciborium::Value = ciborium::from_reader(&out[..]).unwrap();
        let mut again = Vec::new();
        ciborium::into_writer(&value, &mut again).unwrap();
        prop_assert_eq!(again, out);
        let keys: Vec<u64> = value.as_map().unwrap().iter().map(|(k, _)| u64::try_from(k.as_integer().unwrap()).unwrap()).collect();
        prop_assert!(keys.is_sorted_by(|a, b| a < b));
    }
}

fn lifecycle(n: u8) -> Draft {
    Draft { agent: Some(agent(n)), ..Draft::new(Principal::Init, Kind::Lifecycle, Json::of(&"x").unwrap()) }
}

#[test]
fn a_partition_is_opened_continued_and_sealed_once() {
    let mut state = State::default();
    let stamp = Stamp { mono_ns: 1, wall_ms: 1 };
    let mut append = |draft: &Draft| {
        let mut out = Vec::new();
        state.seal(BOOT, draft, stamp, &mut out, |_, _, _| {}).map(|tip| (tip, out))
    };
    let note = Draft { kind: Kind::Note, actor: Principal::Agent(agent(1)), ..lifecycle(1) };
    assert_eq!(append(&note).unwrap_err(), Rule::NotOpen(agent(1)));
    let (first, _) = append(&lifecycle(1)).unwrap();
    let (second, bytes) = append(&note).unwrap();
    let entry = decode(&bytes).unwrap();
    assert_eq!(entry.partition, Some(Partition { agent: agent(1), seq: 2, prev: first.hash }));
    let seal = Draft { kind: Kind::Seal, ..lifecycle(1) };
    let (_, bytes) = append(&seal).unwrap();
    let said: Sealed = decode(&bytes).unwrap().payload.read().unwrap();
    let root = crate::merkle::node_hash(&first.hash, &second.hash);
    assert_eq!(said, Sealed { entries: 2, head: second.hash, root });
    for kind in [Kind::Lifecycle, Kind::Note, Kind::Seal] {
        assert_eq!(append(&Draft { kind, ..lifecycle(1) }).unwrap_err(), Rule::Sealed(agent(1)));
    }
    assert_eq!(append(&Draft { agent: None, ..seal }).unwrap_err(), Rule::Nobody);
}

#[test]
fn a_row_that_was_dropped_from_a_partition_is_named_although_the_chain_was_mended() {
    let note = |n: u8| Draft { kind: Kind::Note, ..lifecycle(n) };
    let (_, entries) = log(&[lifecycle(1), lifecycle(2), note(1), note(2), note(1)]);
    // Takes entry 3 out and links what follows anew, as somebody with the ledger's files could.
    let mut state = State::default();
    state.accept(&entries[0], |_, _, _| {}).unwrap();
    state.accept(&entries[1], |_, _, _| {}).unwrap();
    let relinked = |bytes: &[u8], state: &State| {
        let (draft, place, stamp) = View::of(bytes).unwrap().parts().unwrap();
        let mut out = Vec::new();
        encode(&mut out, &draft, &Place { seq: state.tip.seq + 1, prev: state.tip.hash, ..place }, stamp);
        out
    };
    let fourth = relinked(&entries[3], &state);
    state.accept(&fourth, |_, _, _| {}).unwrap();
    let fifth = relinked(&entries[4], &state);
    let broken = state.accept(&fifth, |_, _, _| {}).unwrap_err();
    assert_eq!(broken, Broken::Partition { agent: agent(1), found: 3, expected: 2 });
}

#[test]
fn intents_are_open_until_their_outcome() {
    let intent = Draft::new(Principal::Init, Kind::Intent, Json::of(&1).unwrap());
    let outcome = Draft { kind: Kind::Outcome, intent: Some(1), ..intent.clone() };
    let (state, _) = log(&[intent.clone(), intent.clone()]);
    assert_eq!(state.intents().collect::<Vec<_>>(), [(1, BOOT), (2, BOOT)]);
    let (state, _) = log(&[intent.clone(), intent, outcome]);
    assert_eq!(state.intents().collect::<Vec<_>>(), [(2, BOOT)]);
}

#[test]
fn the_canonical_form_is_pinned() {
    let draft = Draft {
        intent: Some(3),
        ..Draft::new(
            Principal::Service("agents".parse().unwrap()),
            Kind::Outcome,
            Json::from_text("{\"ok\":true}".into()).unwrap(),
        )
    };
    let mut out = Vec::new();
    let boot = boot_id("000102030405060708090a0b0c0d0e0f").unwrap();
    let place = Place { seq: 1, prev: Sha256::ZERO, boot, partition: None };
    encode(&mut out, &draft, &place, Stamp { mono_ns: 5, wall_ms: 6 });
    let hexadecimal: String = out.iter().map(|byte| format!("{byte:02x}")).collect();
    let expected = [
        "ab000201010201",
        "0350000102030405060708090a0b0c0d0e0f",
        "04050506",
        "068202666167656e7473",
        "0703",
        "085820",
        &"00".repeat(32),
        "0a03",
        "116b7b226f6b223a747275657d",
    ];
    assert_eq!(hexadecimal, expected.concat());
}
