//! The log over its life: partitions and seals, intents and tickets, quotas and reserve, witnesses, erasure, archive,
//! acknowledged loss, exports.

use super::{BOOT, Dir, STAMP, append, boot, draft, item, no_tickets, open, segment, verify};
use crate::core;
use crate::files::tile_path;
use crate::publish::{Witnesses, new_key};
use crate::refusal::Refusal;
use crate::store::{Item, Options, Store};
use crate::{Ledger, PageLimits, WriterLimits};
use octant_api::error::Code;
use octant_api::ledger::{
    AcknowledgeRequest, AppendRequest, ArchiveRequest, Entry, EraseRequest, Kind, Outside,
};
use octant_api::text::Json;
use octant_ids::{Aid, Principal, Sha256};
use octant_ticket::{Actuator, Issuer, Key, Keys};
use octant_tlog::checkpoint::{Checkpoint, Signed, sign};
use octant_tlog::entry::{Draft, boot_id};
use octant_tlog::note::NoteKey;
use octant_tlog::state::{Rule, Tip};
use octant_tlog::tile::Tile;
use std::fs;

const ALL: PageLimits = PageLimits { entries: 100_000, bytes: 1 << 30, looked_at: 100_000 };

fn agent(n: u8) -> Aid {
    Aid::new(u64::from(n), [n; 10])
}

fn lifecycle(n: u8) -> Item {
    Draft { kind: Kind::Lifecycle, agent: Some(agent(n)), ..draft("provisioned") }.into()
}

fn note_of(n: u8, text: &str) -> Item {
    Draft { actor: Principal::Agent(agent(n)), agent: Some(agent(n)), ..draft(text) }.into()
}

fn intent(text: &str) -> Item {
    Draft { kind: Kind::Intent, ..draft(text) }.into()
}

fn one(store: &mut Store, item: Item) -> Result<u64, Refusal> {
    store.commit(&[item], STAMP).unwrap().remove(0).map(|appended| appended.seq)
}

fn all(store: &Store) -> Vec<Entry> {
    store.reader().page(1, ALL, |_| true).unwrap().entries
}

fn operator() -> Principal {
    Principal::Operator(0)
}

#[test]
fn a_refused_draft_does_not_take_its_batch_with_it() {
    let dir = Dir::quick();
    let mut store = open(&dir.0);
    let done =
        store.commit(&[item("a"), note_of(1, "too early"), lifecycle(1), note_of(1, "b")], STAMP).unwrap();
    assert_eq!(done[1], Err(Refusal::Rule(Rule::NotOpen(agent(1)))));
    let seqs: Vec<_> = done.iter().filter_map(|done| done.as_ref().ok()).map(|done| done.seq).collect();
    assert_eq!(seqs, [1, 2, 3]);
    assert_eq!(all(&store)[2].partition.unwrap().seq, 2);
    assert_eq!(verify(&store.reader()).damage, None);
}

#[test]
fn an_agents_notes_end_with_its_quota_and_the_systems_records_about_it_do_not() {
    let dir = Dir::quick();
    let options = Options { agent_entries: 3, agent_bytes: 4000, ..Options::default() };
    let (mut store, _) = Store::open(&dir.0, boot(), options.clone()).unwrap();
    one(&mut store, lifecycle(1)).unwrap();
    one(&mut store, lifecycle(2)).unwrap();
    let long = "x".repeat(4000);
    assert!(matches!(one(&mut store, note_of(1, &long)), Err(Refusal::Quota { what: "bytes", .. })));
    for _ in 0..3 {
        one(&mut store, note_of(1, "short")).unwrap();
    }
    drop(store);
    // What an agent has used up is known after a restart, too.
    let (mut store, _) = Store::open(&dir.0, boot(), options).unwrap();
    assert!(matches!(
        one(&mut store, note_of(1, "short")),
        Err(Refusal::Quota { what: "entries", limit: 3, .. })
    ));
    one(&mut store, lifecycle(1)).unwrap();
    one(&mut store, note_of(2, "another agent")).unwrap();
    assert_eq!(store.reader().refusal(), None, "one agent's quota is nobody else's refusal");
}

#[test]
fn what_is_kept_for_the_system_is_not_for_notes_and_intents() {
    let dir = Dir::quick();
    let options = Options { reserve_bytes: u64::MAX, ..Options::default() };
    let (mut store, _) = Store::open(&dir.0, boot(), options).unwrap();
    one(&mut store, lifecycle(1)).unwrap();
    assert!(matches!(one(&mut store, intent("spawn")), Err(Refusal::NoSpace { .. })));
    assert!(matches!(one(&mut store, note_of(1, "x")), Err(Refusal::NoSpace { .. })));
    assert!(matches!(store.reader().refusal(), Some(Refusal::NoSpace { .. })), "head and health say so");
    let refused = store.probe().unwrap_err();
    assert!(matches!(refused, Refusal::NoSpace { .. }));
    fs::write(dir.0.join("more"), vec![1; 1 << 20]).unwrap();
    assert_eq!(store.probe(), Err(refused), "in other words it would be another state, and one more record");
    // Ends, outcomes and seals go on.
    one(&mut store, lifecycle(1)).unwrap();
    let seal = Draft { kind: Kind::Seal, agent: Some(agent(1)), ..draft("x") };
    one(&mut store, seal.into()).unwrap();
    assert_eq!(all(&store).len(), 3);
}

#[test]
fn intents_that_a_boot_left_open_are_unknown_after_the_next() {
    let dir = Dir::quick();
    let mut store = open(&dir.0);
    let done = one(&mut store, intent("done")).unwrap();
    let outcome = Draft { kind: Kind::Outcome, intent: Some(done), ..draft("ok") };
    one(&mut store, outcome.into()).unwrap();
    let open_one = one(&mut store, intent("interrupted")).unwrap();
    drop(store);
    let start = |boot: &str| {
        let ledger =
            Ledger::open(&dir.0, boot, Options::default(), WriterLimits::default(), no_tickets()).unwrap();
        ledger.writer().append(draft("after the start")).unwrap().blocking_recv().unwrap().unwrap();
        ledger.reader().page(1, ALL, |entry| entry.kind == Kind::Outcome).unwrap().entries
    };
    assert_eq!(start(BOOT).len(), 1, "in the same boot whoever acts can still say what became of it");
    let outcomes = start("ffffffffffffffffffffffffffffffff");
    let unknown: serde_json::Value = outcomes[1].payload.read().unwrap();
    assert_eq!((outcomes.len(), outcomes[1].intent), (2, Some(open_one)));
    assert_eq!(unknown["unknown"], true);
    assert_eq!(outcomes[1].actor.to_string(), "service:ledger");
    assert_eq!(start("eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee").len(), 2, "and only once");
}

#[test]
fn the_oldest_of_too_many_open_intents_is_unknown() {
    let dir = Dir::quick();
    let mut store = open(&dir.0);
    let intents: Vec<Item> = (0..octant_tlog::state::INTENTS_OF_ONE).map(|_| intent("x")).collect();
    for part in intents.chunks(512) {
        store.commit(part, STAMP).unwrap();
    }
    one(&mut store, intent("one more")).unwrap();
    let outcomes = store.reader().page(1, ALL, |entry| entry.kind == Kind::Outcome).unwrap().entries;
    assert_eq!((outcomes.len(), outcomes[0].intent), (1, Some(1)));
    assert_eq!(verify(&store.reader()).damage, None);
}

#[test]
fn partitions_that_earlier_boots_left_are_sealed() {
    let dir = Dir::quick();
    let mut store = open(&dir.0);
    store.commit(&[lifecycle(1), lifecycle(2)], STAMP).unwrap();
    assert_eq!(store.seal_stale(), Ok(0), "they are of this boot");
    drop(store);
    let later = boot_id("ffffffffffffffffffffffffffffffff").unwrap();
    let (mut store, _) = Store::open(&dir.0, later, Options::default()).unwrap();
    one(&mut store, lifecycle(2)).unwrap();
    assert_eq!(store.seal_stale(), Ok(1));
    let seal = all(&store).pop().unwrap();
    let payload: serde_json::Value = seal.payload.read().unwrap();
    assert_eq!((seal.kind, seal.partition.unwrap().agent), (Kind::Seal, agent(1)));
    assert_eq!((payload["entries"].as_u64(), payload["reason"].is_string()), (Some(1), true));
}

#[test]
fn a_ticket_is_for_the_one_who_acts_on_a_durable_intent() {
    let key = || Keys::new([("spawner".parse().unwrap(), Key::new(&[7; 32]))]).unwrap();
    let issuer = Issuer::new(key());
    let agents = Principal::Service("agents".parse().unwrap());
    let request = AppendRequest {
        ticket_for: Some("spawner".parse().unwrap()),
        subject: Some(Sha256([5; 32])),
        ..AppendRequest::new(Kind::Intent, Json::of("spawn").unwrap())
    };
    let (actuator, subject) = core::ticket_for(&agents, &request, &issuer).unwrap().unwrap();
    assert_eq!((actuator.as_str(), subject), ("spawner", Sha256([5; 32])));
    let ticket = issuer.issue(3, subject, "spawner", 1_000, 1_000).unwrap();
    let mut spawner = Actuator::new("spawner".parse().unwrap(), Key::new(&[7; 32]), 0);
    assert!(spawner.redeem(&ticket, &Sha256([6; 32]), 1_500).is_err(), "another plan");
    assert_eq!(spawner.redeem(&ticket, &subject, 1_500).unwrap().seq(), 3);
    assert!(spawner.redeem(&ticket, &subject, 1_500).is_err(), "twice");
    let code = |caller: &Principal, request: &AppendRequest, issuer: &Issuer| {
        core::ticket_for(caller, request, issuer).unwrap_err().code
    };
    let vault = Principal::Service("vault".parse().unwrap());
    assert_eq!(code(&vault, &request, &issuer), Code::Denied);
    let no_subject = AppendRequest { subject: None, ..request.clone() };
    assert_eq!(code(&agents, &no_subject, &issuer), Code::InvalidParams);
    let note = AppendRequest { kind: Kind::Note, ..request.clone() };
    assert_eq!(code(&agents, &note, &issuer), Code::InvalidParams);
    let other = AppendRequest { ticket_for: Some("vault".parse().unwrap()), ..request.clone() };
    assert_eq!(code(&agents, &other, &issuer), Code::Denied);
    assert_eq!(code(&agents, &request, &no_tickets()), Code::Unavailable);
}

#[test]
fn payloads_kept_outside_or_erasable_are_in_the_entry_by_digest_only() {
    let dir = Dir::quick();
    let mut store = open(&dir.0);
    let caller = Principal::Service("vault".parse().unwrap());
    let item = |request: AppendRequest| {
        core::item(&caller, request, Tip { seq: 9, hash: Sha256::ZERO }, || Ok([4; 32]))
    };
    let secret = AppendRequest {
        erasable: true,
        ..AppendRequest::new(Kind::Note, Json::of("the name of a person").unwrap())
    };
    let outside = Outside { sha256: Sha256([8; 32]), bytes: 1 << 30 };
    let large = AppendRequest {
        outside: Some(outside),
        ..AppendRequest::new(Kind::Message, Json::from_text("null".into()).unwrap())
    };
    assert_eq!(
        item(AppendRequest { erasable: true, ..large.clone() }).unwrap_err().code,
        Code::InvalidParams
    );
    store.commit(&[item(secret).unwrap(), item(large).unwrap()], STAMP).unwrap();
    let entries = all(&store);
    assert_eq!(entries[0].payload.text(), "\"the name of a person\"");
    assert_eq!(entries[0].erasable.unwrap().salt, Some(Sha256([4; 32])));
    assert_eq!((entries[1].payload.text(), entries[1].outside), ("null", Some(outside)));
    assert_eq!(verify(&store.reader()).damage, None);
    let bytes = fs::read(segment(&dir.0)).unwrap();
    assert!(!bytes.windows(6).any(|window| window == b"person"), "the segment does not have it");

    let request = EraseRequest { seq: 1, reason: "asked for by that person".to_owned() };
    let refused = store.erase(&operator(), &EraseRequest { reason: " ".into(), ..request.clone() });
    assert_eq!(refused.unwrap_err().code, Code::InvalidParams);
    let refused = store.erase(&operator(), &EraseRequest { seq: 2, ..request.clone() });
    assert_eq!(refused.unwrap_err().code, Code::Conflict);
    let head = entries[0].hash;
    assert_eq!(store.erase(&operator(), &request).unwrap().seq, 3);
    let entries = all(&store);
    assert_eq!((entries[0].payload.text(), entries[0].erasable.unwrap().salt), ("null", None));
    assert_eq!((entries[0].hash, entries[2].kind), (head, Kind::Erasure));
    assert_eq!(entries[2].actor, operator());
    assert_eq!(verify(&store.reader()).damage, None);
}

#[test]
fn a_payload_that_disappears_or_changes_without_a_record_is_missed() {
    let dir = Dir::quick();
    let mut store = open(&dir.0);
    let caller = Principal::Service("vault".parse().unwrap());
    let request = AppendRequest { erasable: true, ..AppendRequest::new(Kind::Note, Json::of("x").unwrap()) };
    let item = core::item(&caller, request, Tip::START, || Ok([4; 32])).unwrap();
    store.commit(&[item], STAMP).unwrap();
    let path = dir.0.join("payloads/00000000000000000001");
    let right = fs::read(&path).unwrap();
    fs::write(&path, [&right[..33], b"y\""].concat()).unwrap();
    assert_eq!(verify(&open_again(store, &dir).reader()).damage.unwrap().seq, 1);
    fs::remove_file(&path).unwrap();
    let damage = verify(&open(&dir.0).reader()).damage.unwrap();
    assert!(damage.seq == 1 && damage.what.contains("no erasure"), "{damage:?}");
}

fn open_again(store: Store, dir: &Dir) -> Store {
    drop(store);
    open(&dir.0)
}

fn witness(n: u8) -> NoteKey {
    NoteKey::cosigner(&format!("witness{n}.example"), [n; 32]).unwrap()
}

#[test]
fn the_log_is_complete_only_with_a_quorum_of_its_witnesses() {
    let dir = Dir::quick();
    let witnesses = || Witnesses::new((1..=3).map(|n| witness(n).verifier()).collect(), 2);
    let options = || Options { witnesses: witnesses(), ..Options::default() };
    let (mut store, _) = Store::open(&dir.0, boot(), options()).unwrap();
    append(&mut store, 1, 5);
    store.publish(true).unwrap();
    let signed = store.reader().publication().latest.unwrap();
    let line = |key: &NoteKey| octant_tlog::checkpoint::cosign(key, &signed.note.text, 1_700_000_000);
    let cosign = |store: &mut Store, size: u64, lines: &str| {
        let published = store.reader().publication();
        match published.cosigned(size, lines, &witnesses())? {
            None => Ok(published.witnessed),
            Some(checked) => store.cosign(checked),
        }
    };
    assert_eq!(cosign(&mut store, 4, &line(&witness(1))).unwrap_err().code, Code::NotFound);
    assert_eq!(cosign(&mut store, 5, &line(&witness(9))).unwrap_err().code, Code::Denied, "nobody's witness");
    let many = line(&witness(1)).repeat(4);
    assert_eq!(cosign(&mut store, 5, &many).unwrap_err().code, Code::Denied, "more than there are witnesses");
    let mut forged = line(&witness(1));
    forged.replace_range(forged.len() - 10..forged.len() - 6, "AAAA");
    assert_eq!(cosign(&mut store, 5, &forged).unwrap_err().code, Code::Denied);
    let one = cosign(&mut store, 5, &line(&witness(1))).unwrap();
    assert_eq!((one.have.len(), one.complete_to), (1, 0));
    let again = cosign(&mut store, 5, &line(&witness(1))).unwrap();
    assert_eq!((again.have.len(), again.complete_to), (1, 0), "the same twice is one");
    let two = cosign(&mut store, 5, &line(&witness(2))).unwrap();
    assert_eq!((two.have.len(), two.complete_to), (2, 5));
    let report = |store: &Store| {
        store.reader().verify(&std::sync::atomic::AtomicBool::new(false), &[], &witnesses()).unwrap()
    };
    assert_eq!(report(&store).damage, None);
    assert_eq!(report(&store).not_proven.len(), 2, "{:?}", report(&store).not_proven);
    append(&mut store, 6, 1);
    store.publish(true).unwrap();
    let after = store.reader().publication().witnessed;
    assert_eq!((after.have.len(), after.complete_to), (0, 5));
    drop(store);
    let (store, _) = Store::open(&dir.0, boot(), options()).unwrap();
    assert_eq!(store.reader().publication().witnessed.complete_to, 5, "it is kept over a restart");
    assert_eq!(report(&store).damage, None);
    drop(store);
    // A cosignature that was changed on disk is damage.
    let path = dir.0.join("checkpoint.witnessed");
    let text = fs::read_to_string(&path).unwrap();
    let at = text.rfind("witness2.example ").unwrap() + 30;
    let mut bytes = text.into_bytes();
    bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
    fs::write(&path, bytes).unwrap();
    let (store, _) = Store::open(&dir.0, boot(), options()).unwrap();
    assert!(report(&store).damage.is_some());
}

fn small() -> Options {
    Options { segment_bytes: 4000, ..Options::default() }
}

#[test]
fn archived_segments_are_gone_and_everything_still_proves() {
    let dir = Dir::quick();
    let (mut store, _) = Store::open(&dir.0, boot(), small()).unwrap();
    append(&mut store, 1, 300);
    store.publish(true).unwrap();
    let early = store.reader().publication().latest.unwrap().to_text();
    let firsts = store.reader().firsts();
    let before = firsts[3] + 1;
    let archived = store.archive(&operator(), ArchiveRequest { before }).unwrap();
    assert_eq!((archived.segments.len(), archived.first), (3, firsts[3]));
    append(&mut store, 302, 300);
    let check = |store: &Store| {
        let none = std::sync::atomic::AtomicBool::new(false);
        let report =
            store.reader().verify(&none, std::slice::from_ref(&early), &Witnesses::default()).unwrap();
        assert_eq!((report.entries, report.archived, report.damage), (601, firsts[3] - 1, None));
        assert_eq!(report.outside[0].wrong, None);
        assert_eq!(store.reader().page(1, ALL, |_| true).unwrap().entries[0].seq, firsts[3]);
        let root = store.reader().root(300).unwrap();
        assert_eq!(root, Signed::parse_unverified(&early).unwrap().checkpoint.root);
    };
    check(&store);
    drop(store);
    let (mut store, _) = Store::open(&dir.0, boot(), small()).unwrap();
    check(&store);
    assert_eq!(store.archive(&operator(), ArchiveRequest { before: 1 }).unwrap_err().code, Code::NotFound);
    // The last one stays, whatever is asked.
    let all = store.archive(&operator(), ArchiveRequest { before: u64::MAX }).unwrap();
    append(&mut store, 603, 3);
    assert!(store.reader().firsts().len() == 1 && all.first <= 601);
    // A segment that disappears without being archived is missed.
    drop(store);
    let lone = Dir::quick();
    let (mut store, _) = Store::open(&lone.0, boot(), small()).unwrap();
    append(&mut store, 1, 300);
    let firsts = store.reader().firsts();
    drop(store);
    fs::remove_file(lone.0.join("segments").join(crate::segment::file_name(firsts[0]))).unwrap();
    let (store, _) = Store::open(&lone.0, boot(), small()).unwrap();
    assert!(matches!(store.reader().refusal(), Some(Refusal::Damaged(damage)) if damage.seq == 1));
    drop(store);
    // Nor does it help to say that it was: the log does not say so.
    fs::write(lone.0.join("archived"), format!("{}\n", firsts[1])).unwrap();
    let (store, _) = Store::open(&lone.0, boot(), small()).unwrap();
    let damage = verify(&store.reader()).damage.unwrap();
    assert!(damage.seq == 1 && damage.what.contains("nobody has put on record"), "{damage:?}");
}

fn damage_of(store: &Store) -> octant_api::ledger::Damage {
    match store.reader().refusal() {
        Some(Refusal::Damaged(damage)) => damage,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_loss_that_an_operator_accepts_is_on_record_under_a_new_key() {
    for (segment_bytes, entries, cut) in [(1 << 20, 40, 25), (4000, 300, 25), (4000, 300, 170)] {
        let dir = Dir::quick();
        let options = || Options { segment_bytes, ..Options::default() };
        let (mut store, _) = Store::open(&dir.0, boot(), options()).unwrap();
        append(&mut store, 1, entries);
        store.publish(true).unwrap();
        let before = store.reader().publication();
        let firsts = store.reader().firsts();
        drop(store);
        let first = firsts.iter().rfind(|first| **first <= cut).unwrap();
        let path = dir.0.join("segments").join(crate::segment::file_name(*first));
        let mut bytes = fs::read(&path).unwrap();
        let text = format!("entry {cut}\"");
        let at = bytes.windows(text.len()).position(|window| window == text.as_bytes()).unwrap();
        bytes[at] ^= 1;
        fs::write(&path, bytes).unwrap();
        let (mut store, _) = Store::open(&dir.0, boot(), options()).unwrap();
        verify(&store.reader());
        let damage = damage_of(&store);
        assert_eq!(damage.seq, cut, "{damage:?}");
        assert!(store.commit(&[item("x")], STAMP).is_err());
        let request = |seq| AcknowledgeRequest { seq, reason: "the disk was dropped".into() };
        assert_eq!(store.acknowledge(&operator(), &request(cut + 1)).unwrap_err().code, Code::InvalidParams);
        let done = store.acknowledge(&operator(), &request(cut)).unwrap();
        assert_eq!(done.seq, cut, "the record of the loss takes the place of what is lost");
        append(&mut store, cut + 2, 5);
        store.publish(true).unwrap();
        let after = store.reader().publication();
        assert_ne!(before.key, after.key);
        let outside = [before.latest.unwrap().to_text(), after.latest.unwrap().to_text()];
        let none = std::sync::atomic::AtomicBool::new(false);
        let report = store.reader().verify(&none, &outside, &Witnesses::default()).unwrap();
        assert!(report.outside[0].wrong.is_some(), "the old checkpoint shows the loss for ever");
        assert_eq!((report.entries, report.outside[1].wrong.as_ref()), (cut + 6, None));
        assert_eq!(verify(&store.reader()).damage, None);
        assert!(!dir.0.join("acknowledging").exists());
        let lost: serde_json::Value = all(&store)[usize::try_from(cut).unwrap() - 1].payload.read().unwrap();
        assert_eq!((lost["from"].as_u64(), lost["acknowledged"]["seq"].as_u64()), (Some(cut), Some(entries)));
        let aside = fs::read_dir(dir.0.join("damaged")).unwrap().next().unwrap().unwrap().path();
        assert!(aside.join(path.file_name().unwrap()).exists(), "nothing is deleted");
        drop(store);
        let (store, _) = Store::open(&dir.0, boot(), options()).unwrap();
        assert_eq!((store.reader().refusal(), verify(&store.reader()).damage), (None, None));
    }
}

#[test]
fn an_acknowledgement_that_a_crash_cut_short_is_put_on_record_at_the_next_start() {
    let dir = Dir::quick();
    let mut store = open(&dir.0);
    append(&mut store, 1, 5);
    drop(store);
    // As it stands after everything was set aside and before the entries were appended.
    let (key, root) = (new_key(&[1; 40]).unwrap(), open(&dir.0).reader().root(5).unwrap());
    crate::publish::write_key(&dir.0, &key).unwrap();
    let checkpoint = Checkpoint { origin: key.name().to_owned(), size: 5, root, extensions: Vec::new() };
    fs::write(dir.0.join("checkpoint"), sign(&key, &checkpoint)).unwrap();
    let change = serde_json::json!({
        "caller": operator(), "lost": { "from": 6, "reason": "x" },
        "replaces": { "key": new_key(&[2; 40]).unwrap().verifier().to_string() },
    });
    fs::write(dir.0.join("acknowledging"), change.to_string()).unwrap();
    for _ in 0..2 {
        let limits = WriterLimits::default();
        let ledger = Ledger::open(&dir.0, BOOT, Options::default(), limits, no_tickets()).unwrap();
        let entries = ledger.reader().page(6, ALL, |_| true).unwrap().entries;
        let kinds: Vec<_> = entries.iter().map(|entry| (entry.kind, entry.actor.clone())).collect();
        let own = Principal::Service("ledger".parse().unwrap());
        assert_eq!(kinds, [(Kind::Lost, operator()), (Kind::Key, own)]);
        assert!(entries[1].payload.text().contains(&ledger.reader().publication().key));
    }
}

#[test]
fn damage_to_what_is_derived_is_accepted_without_losing_an_entry() {
    let make = || {
        let dir = Dir::quick();
        let (mut store, _) = Store::open(&dir.0, boot(), small()).unwrap();
        append(&mut store, 1, 600);
        drop(store);
        dir
    };
    let spoil = |path: &std::path::Path, at: usize| {
        let mut bytes = fs::read(path).unwrap();
        bytes[at] ^= 1;
        fs::write(path, bytes).unwrap();
    };
    for (name, at) in [("checkpoint", 3), ("tile", 77)] {
        let dir = make();
        let path = match name {
            "tile" => tile_path(&dir.0, Tile { level: 0, index: 1, width: 256 }),
            name => dir.0.join(name),
        };
        spoil(&path, at);
        let (mut store, _) = Store::open(&dir.0, boot(), small()).unwrap();
        verify(&store.reader());
        let damage = damage_of(&store);
        store
            .acknowledge(&operator(), &AcknowledgeRequest { seq: damage.seq, reason: "a bad sector".into() })
            .unwrap();
        append(&mut store, 603, 2);
        assert_eq!((verify(&store.reader()).entries, verify(&store.reader()).damage), (604, None), "{name}");
    }
    let healthy = make();
    let (mut store, _) = Store::open(&healthy.0, boot(), small()).unwrap();
    let request = AcknowledgeRequest { seq: 1, reason: "no need".into() };
    assert_eq!(store.acknowledge(&operator(), &request).unwrap_err().code, Code::Conflict);
}

#[test]
fn everything_that_is_derived_is_made_again() {
    let dir = Dir::quick();
    let (mut store, _) = Store::open(&dir.0, boot(), small()).unwrap();
    append(&mut store, 1, 600);
    drop(store);
    fs::remove_dir_all(dir.0.join("tile")).unwrap();
    for file in fs::read_dir(dir.0.join("segments")).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|ending| ending == "state") {
            fs::remove_file(path).unwrap();
        }
    }
    let (mut store, _) = Store::open(&dir.0, boot(), small()).unwrap();
    assert_eq!(store.reader().refusal(), None);
    append(&mut store, 601, 3);
    assert_eq!((verify(&store.reader()).entries, verify(&store.reader()).damage), (603, None));
    assert!(tile_path(&dir.0, Tile { level: 0, index: 1, width: 256 }).exists());
}

#[test]
fn keys_have_origins_of_their_own() {
    let (one, two) = (new_key(&[1; 40]).unwrap(), new_key(&[2; 40]).unwrap());
    assert_eq!(one.name(), "octant/0101010101010101");
    assert_ne!(one.verifier(), two.verifier());
}
