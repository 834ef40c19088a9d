//! Exports that verify, and every way in which one does not.

mod corpus;
mod tamper;

use super::*;
use crate::checkpoint::{Checkpoint, Signed, cosign, sign};
use crate::entry::{Content, Draft, Stamp, commitment};
use crate::merkle::{Nodes, inclusion};
use crate::note::{NoteKey, Verifier};
use crate::state::State;
use octant_api::ledger::{Kind, Outside};
use octant_api::text::Json;
use octant_ids::Principal;
use std::collections::BTreeMap;

const SALT: Sha256 = Sha256([0x5c; 32]);
const ERASABLE: &str = r#"{"text":"said \"something\" that may have to go"}"#;

fn log_key() -> NoteKey {
    NoteKey::from_seed("octant/00112233aabbccdd", [7; 32]).unwrap()
}

fn witness_key(n: u8) -> NoteKey {
    NoteKey::cosigner(&format!("witness-{n}.example"), [n; 32]).unwrap()
}

fn agent(n: u8) -> Aid {
    Aid::new(1_773_495_425_123 + u64::from(n), [n; 10])
}

/// A log with everything that an export needs of it.
#[derive(Default)]
struct Log {
    state: State,
    entries: Vec<Vec<u8>>,
    agents: Vec<Option<Aid>>,
    erasable: BTreeMap<u64, &'static str>,
    nodes: BTreeMap<(u8, u64), Sha256>,
}

impl Nodes for Log {
    type Error = ();
    fn node(&self, height: u8, index: u64) -> Result<Sha256, ()> {
        self.nodes.get(&(height, index)).copied().ok_or(())
    }
}

impl Log {
    fn append(&mut self, draft: &Draft) -> u64 {
        let mut bytes = Vec::new();
        let n = self.entries.len() as u64;
        let stamp = Stamp { mono_ns: 1_000_000_000 + n, wall_ms: 1_773_495_425_123 + n };
        let nodes = &mut self.nodes;
        let keep = |height, index, hash| {
            nodes.insert((height, index), hash);
        };
        let tip = self.state.seal([7; 16], draft, stamp, &mut bytes, keep).unwrap();
        self.entries.push(bytes);
        self.agents.push(draft.agent);
        tip.seq
    }

    /// Twelve entries: two agents, one of them sealed, and every kind of payload.
    fn sample() -> Self {
        let mut log = Self::default();
        let json = |text: &str| Json::from_text(text.to_owned()).unwrap();
        let service = || Principal::Service("agents".parse().unwrap());
        let about = |n, draft| Draft { agent: Some(agent(n)), ..draft };
        let lifecycle = || Draft::new(service(), Kind::Lifecycle, json(r#"{"to":"running"}"#));
        log.append(&Draft::new(Principal::Init, Kind::Boot, json(r#"{"phase":"services"}"#)));
        log.append(&Draft {
            subject: Some(Sha256([9; 32])),
            ..Draft::new(service(), Kind::Intent, json("{}"))
        });
        log.append(&about(1, Draft { manifest: Some(Sha256([3; 32])), ..lifecycle() }));
        log.append(&Draft {
            intent: Some(2),
            ..Draft::new(service(), Kind::Outcome, json(r#"{"ok":true}"#))
        });
        let note = |n, text: &str| about(n, Draft::new(Principal::Agent(agent(n)), Kind::Note, json(text)));
        log.append(&note(1, r#"{"text":"first"}"#));
        log.append(&about(2, lifecycle()));
        let content = Content::Commitment(commitment(&SALT.0, ERASABLE));
        let seq = log.append(&Draft { content, ..note(1, "null") });
        log.erasable.insert(seq, ERASABLE);
        let content = Content::Outside(Outside { sha256: Sha256([4; 32]), bytes: 1 << 33 });
        log.append(&Draft { content, ..note(2, "null") });
        log.append(&note(1, r#"{"text":"last"}"#));
        log.append(&about(1, Draft::new(service(), Kind::Seal, json("null"))));
        log.append(&Draft::new(Principal::Operator(0), Kind::Command, json(r#"{"do":"restart"}"#)));
        log.append(&note(2, r#"{"text":"still here","é":[1.50,null]}"#));
        log
    }

    fn size(&self) -> u64 {
        self.entries.len() as u64
    }

    fn checkpoint(&self, key: &NoteKey, size: u64) -> String {
        let root = crate::merkle::root(self, size).unwrap();
        let checkpoint = Checkpoint { origin: key.name().to_owned(), size, root, extensions: vec![] };
        sign(key, &checkpoint)
    }

    /// The checkpoint of everything, cosigned by two witnesses.
    fn cosigned(&self) -> String {
        let mut signed = Signed::parse_unverified(&self.checkpoint(&log_key(), self.size())).unwrap();
        for n in [1, 2] {
            let line = cosign(&witness_key(n), &signed.note.text.clone(), 1_773_495_500);
            signed.add(&line).unwrap();
        }
        signed.to_text()
    }

    fn header(&self, from: u64, to: u64, agent: Option<Aid>) -> Header {
        Header {
            format: FORMAT.to_owned(),
            origin: log_key().name().to_owned(),
            key: log_key().verifier().to_string(),
            checkpoint: self.cosigned(),
            witnesses: [1, 2].map(|n| witness_key(n).verifier().to_string()).to_vec(),
            quorum: 2,
            from,
            to,
            agent,
            complete: agent.is_none() && from == 1 && to == self.size(),
        }
    }

    fn line(&self, seq: u64, proven: bool) -> String {
        let index = usize::try_from(seq - 1).unwrap();
        let proof = proven.then(|| inclusion(self, seq - 1, self.size()).unwrap());
        let erasable = self.erasable.get(&seq).map(|payload| (*payload, &SALT));
        line_of_entry(seq, &self.entries[index], erasable, proof.as_deref()).unwrap()
    }

    fn export(&self, from: u64, to: u64, agent: Option<Aid>) -> Vec<String> {
        self.export_under(&self.header(from, to, agent))
    }

    fn export_under(&self, header: &Header) -> Vec<String> {
        let mine = |seq: &u64| {
            header.agent.is_none() || self.agents[usize::try_from(*seq - 1).unwrap()] == header.agent
        };
        let seqs: Vec<u64> = (header.from..=header.to).filter(mine).collect();
        let entries = seqs.iter().map(|seq| self.line(*seq, !header.complete));
        std::iter::once(header.line().unwrap()).chain(entries).chain([end(seqs.len() as u64)]).collect()
    }

    fn complete(&self) -> Vec<String> {
        self.export(1, self.size(), None)
    }
}

fn check(lines: &[String], given: Given) -> Result<Report, Wrong> {
    let mut check = Check::new(given);
    for line in lines {
        check.line(line.as_bytes())?;
    }
    check.finish()
}

/// Whoever has the log's key, both witnesses' and this checkpoint.
fn knowing(checkpoint: Option<&str>) -> Given {
    let kept = |text: &&str| Kept { name: "kept".into(), signed: Signed::parse_unverified(text).unwrap() };
    Given {
        key: Some(log_key().verifier()),
        witnesses: witnesses(),
        quorum: None,
        checkpoints: checkpoint.iter().map(kept).collect(),
    }
}

fn witnesses() -> Vec<Verifier> {
    [1, 2].map(|n| witness_key(n).verifier()).to_vec()
}

#[test]
fn a_complete_export_proves_everything_to_who_has_the_keys() {
    let log = Log::sample();
    let report = check(&log.complete(), knowing(Some(&log.checkpoint(&log_key(), 5)))).unwrap();
    assert_eq!((report.entries, report.size, report.complete), (12, 12, true));
    assert_eq!((report.head, report.root), (log.state.tip().hash, log.state.tree().root()));
    assert_eq!((report.payloads, report.absent, report.elsewhere, report.seals), (1, 0, 1, 1));
    assert_eq!((report.has_quorum(), report.quorum, report.cosigned.len()), (true, 2, 2));
    assert_eq!(report.cosigned[0].at_seconds, 1_773_495_500);
    let open = [
        "what 1 entries said whose payload is kept elsewhere",
        "cut tail: whether entries after entry 5 were cut off the end since the newest cosignature, at \
         2026-03-14T13:38:20.000Z",
        "restored copy: whether the log was set back to an earlier state after entry 5 since the newest \
         cosignature, at 2026-03-14T13:38:20.000Z",
    ];
    assert_eq!(report.not_proven, open);
    let newest = knowing(Some(&log.checkpoint(&log_key(), 12)));
    assert_eq!(check(&log.complete(), newest).unwrap().not_proven, open[..1]);
    assert!(report.proven[0].starts_with("the 12 entries of octant/00112233aabbccdd are all here"));
    assert!(
        report.proven.contains(&"the log continues the checkpoint kept, which covers 5 entries".to_owned())
    );
}

#[test]
fn what_nothing_from_outside_shows_is_said() {
    let log = Log::sample();
    let report = check(&log.complete(), Given::default()).unwrap();
    let says = |start: &str| report.not_proven.iter().any(|line| line.starts_with(start));
    for class in
        ["cut tail:", "restored copy:", "rewritten chain:", "split view:", "who signed:", "that witness"]
    {
        assert!(says(class), "{class} {:#?}", report.not_proven);
    }
    // The file's own witnesses are counted, and said to be its own.
    assert!(report.has_quorum() && report.cosigned.iter().all(|by| !by.given));
    // With a checkpoint of half the log, only the other half is open.
    let given = Given { witnesses: vec![], ..knowing(Some(&log.checkpoint(&log_key(), 6))) };
    let report = check(&log.complete(), given).unwrap();
    assert!(
        report.not_proven.iter().any(|line| line.contains("wrote entries after entry 6 anew")),
        "{report:#?}"
    );
}

/// What was the newest checkpoint once has the cosignatures of then for ever.
#[test]
fn cosignatures_do_not_show_that_nothing_came_after() {
    let log = Log::sample();
    let report = check(&log.complete(), knowing(None)).unwrap();
    assert!(report.has_quorum());
    let says = |start: &str| report.not_proven.iter().any(|line| line.starts_with(start));
    let at = "newest cosignature, at 2026-03-14T13:38:20";
    for class in ["cut tail:", "restored copy:"] {
        let line = report.not_proven.iter().find(|line| line.starts_with(class)).unwrap();
        assert!(line.contains(at), "{line}");
    }
    assert!(!says("rewritten chain:") && !says("split view:"), "{:#?}", report.not_proven);
}

#[test]
fn parts_are_proven_entry_by_entry() {
    let log = Log::sample();
    for (from, to) in [(1, 1), (1, 11), (3, 9), (12, 12), (5, 4)] {
        let report = check(&log.export(from, to, None), knowing(None)).unwrap();
        assert_eq!((report.entries, report.complete), (to + 1 - from, false), "{from} {to}");
        assert!(report.not_proven.iter().any(|line| line.contains("other entries of 12")), "{report:#?}");
    }
}

#[test]
fn an_agents_entries_are_all_there_when_its_seal_says_so() {
    let log = Log::sample();
    let report = check(&log.export(1, 12, Some(agent(1))), knowing(None)).unwrap();
    assert_eq!((report.entries, report.seals), (5, 1));
    assert!(report.proven.iter().any(|line| line.contains("none of the agent's entries is missing")));
    let report = check(&log.export(1, 12, Some(agent(2))), knowing(None)).unwrap();
    assert_eq!((report.entries, report.seals), (3, 0));
    assert!(report.not_proven.iter().any(|line| line.contains("no seal is among these")));
    let report = check(&log.export(6, 12, Some(agent(1))), knowing(None)).unwrap();
    assert_eq!((report.entries, report.seals), (3, 0));
    assert!(report.not_proven.iter().any(|line| line.contains("before entry 6")));
    let missing = |line: &&String| line.contains("none of the agent's entries");
    let said = report.proven.iter().find(missing).unwrap();
    assert_eq!(said, "none of the agent's entries from entry 6 on is missing before its seal");
    // The range begins later than the log, but not later than the agent.
    let report = check(&log.export(3, 12, Some(agent(1))), knowing(None)).unwrap();
    assert_eq!((report.entries, report.seals), (5, 1));
    let said = report.proven.iter().find(missing).unwrap();
    assert_eq!(said, "none of the agent's entries is missing before its seal");
    assert!(!report.not_proven.iter().any(|line| line.contains("before entry")), "{report:#?}");
    assert_eq!(check(&log.export(1, 12, Some(agent(3))), knowing(None)).unwrap().entries, 0);
}

#[test]
fn an_erased_payload_is_missing_and_nothing_else() {
    let mut log = Log::sample();
    log.erasable.clear();
    let report = check(&log.complete(), knowing(None)).unwrap();
    assert_eq!((report.payloads, report.absent), (0, 1));
    assert!(report.not_proven[0].contains("1 entries said whose payload was erased or left out"));
}

#[test]
fn a_quorum_counts_known_witnesses_that_have_cosigned() {
    let log = Log::sample();
    let mut header = log.header(1, 12, None);
    let mut signed = Signed::parse_unverified(&log.checkpoint(&log_key(), 12)).unwrap();
    signed.add(&cosign(&witness_key(1), &signed.note.text.clone(), 5)).unwrap();
    header.checkpoint = signed.to_text();
    let lines = log.export_under(&header);
    let of = |given: Given| check(&lines, given).unwrap();
    let report = of(knowing(None));
    assert_eq!((report.quorum, report.cosigned.len(), report.has_quorum()), (2, 1, false));
    let missing = "that witness witness-2.example has seen this log: ";
    assert!(report.not_proven.iter().any(|line| line.starts_with(missing)), "{report:#?}");
    assert!(report.not_proven.iter().any(|line| line.starts_with("split view")), "{report:#?}");
    assert!(of(Given { quorum: Some(1), ..knowing(None) }).has_quorum());
    // One holder of a key is one witness, whatever it is called.
    let twice = Given { witnesses: vec![witness_key(1).verifier(); 2], ..knowing(None) };
    assert_eq!((of(twice.clone()).cosigned.len(), of(twice).has_quorum()), (1, false));
    // Without any, the file's own word is taken for what it is.
    let report = of(Given::default());
    assert_eq!((report.quorum, report.has_quorum()), (2, false));
}

/// A log whose tail was lost, and which went on with a new key.
#[test]
fn a_changed_key_is_followed_through_the_entries() {
    let new = NoteKey::from_seed("octant/ffffffffffffffff", [8; 32]).unwrap();
    let mut log = Log::sample();
    let kept = log.checkpoint(&log_key(), 7);
    let (old, last) = (log_key().verifier().to_string(), log.cosigned());
    let change = |replaces| KeyChange { key: new.verifier().to_string(), replaces };
    let of = |change: &KeyChange| {
        Draft::new(Principal::Service("ledger".parse().unwrap()), Kind::Key, Json::of(change).unwrap())
    };
    log.append(&of(&change(Some(Replaced { key: old.clone(), checkpoint: Some(last) }))));
    let under = |log: &Log, key: &NoteKey| Header {
        key: key.verifier().to_string(),
        origin: key.name().to_owned(),
        checkpoint: log.checkpoint(key, log.size()),
        ..log.header(1, log.size(), None)
    };
    let given = |checkpoint: &str| Given {
        key: Some(new.verifier()),
        witnesses: vec![],
        quorum: Some(0),
        ..knowing(Some(checkpoint))
    };
    let report = check(&log.export_under(&under(&log, &new)), given(&kept)).unwrap();
    assert_eq!(report.outside, [Compared { name: "kept".into(), size: 7 }]);
    // The old key does not sign what comes after it.
    let old_signs = check(&log.export_under(&under(&log, &log_key())), Given::default()).unwrap_err();
    assert_eq!(old_signs.fault, Fault::LastKey);
    // What the old key had signed beyond what was kept is said, and is wrong when somebody has it.
    let mut cut = Log::default();
    cut.append(&Draft::new(Principal::Init, Kind::Boot, Json::of(&1).unwrap()));
    let full = Log::sample();
    let last = Replaced { key: old, checkpoint: Some(full.cosigned()) };
    cut.append(&of(&change(Some(last))));
    let lines = cut.export_under(&under(&cut, &new));
    let report = check(&lines, Given { checkpoints: vec![], ..given(&kept) }).unwrap();
    assert!(
        report.not_proven.iter().any(|line| line.contains("entry 2 begins anew after a loss")),
        "{report:#?}"
    );
    let wrong = check(&lines, given(&kept)).unwrap_err();
    assert!(matches!(wrong.fault, Fault::Shorter { covers: 7, size: 2, .. }), "{wrong}");
    assert_eq!(wrong.seq, Some(3));
}

#[test]
fn key_entries_that_make_no_sense_are_refused() {
    let key = |n: u8| NoteKey::from_seed("octant/x", [n; 32]).unwrap().verifier().to_string();
    let rows = [
        (KeyChange { key: "?".into(), replaces: None }, "does not name a key"),
        (
            KeyChange { key: key(1), replaces: Some(Replaced { key: "?".into(), checkpoint: None }) },
            "the key that it replaces is none",
        ),
    ];
    for (change, says) in rows {
        let mut log = Log::default();
        log.append(&Draft::new(Principal::Init, Kind::Key, Json::of(&change).unwrap()));
        let wrong = check(&log.complete(), knowing(None)).unwrap_err();
        assert!(wrong.to_string().contains(says) && wrong.seq == Some(1), "{wrong}");
    }
}
