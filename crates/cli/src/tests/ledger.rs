//! `octant ledger` against a socket that plays the ledger, and against exports in tests/corpus/export.

use super::services::{Answer, aid, entry, play, result};
use super::{Dir, octant};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use octant_ids::{Exit, Sha256};
use octant_tlog::checkpoint::{Checkpoint, sign};
use octant_tlog::merkle::{Frontier, Nodes, inclusion, leaf_hash};
use octant_tlog::note::NoteKey;
use octant_tlog::proof::InclusionProof;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

fn corpus(name: &str) -> String {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/corpus/export");
    folder.join(name).to_str().unwrap().to_owned()
}

fn lines(name: &str) -> Vec<String> {
    fs::read_to_string(corpus(name)).unwrap().lines().map(str::to_owned).collect()
}

/// What `ledger.export` answers when it sends these lines.
fn exported(lines: &[String], entries: u64) -> Answer {
    let items = lines.iter().map(|line| json!({"line": line})).collect();
    Answer { items, end: Ok(json!({"entries": entries, "size": 12})) }
}

fn report(change: Value) -> Value {
    let mut report = json!({
        "entries": 12, "segments": 1, "bytes": 4000, "head": Sha256::ZERO.to_string(),
        "root": Sha256::ZERO.to_string(), "checkpointed": 12,
        "not_proven": ["that no entries from 1 on were cut off the end"],
    });
    report.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    report
}

/// The log of the corpus, with what proofs are made of.
struct Log {
    nodes: BTreeMap<(u8, u64), Sha256>,
    entries: Vec<Vec<u8>>,
    tree: Frontier,
}

impl Nodes for Log {
    type Error = ();
    fn node(&self, height: u8, index: u64) -> Result<Sha256, ()> {
        self.nodes.get(&(height, index)).copied().ok_or(())
    }
}

impl Log {
    fn of_the_corpus() -> Self {
        let (mut nodes, mut tree, mut entries) = (BTreeMap::new(), Frontier::default(), Vec::new());
        for line in lines("ok-complete") {
            let row: Value = serde_json::from_str(&line).unwrap();
            let Some(text) = row["entry"].as_str() else { continue };
            let bytes = STANDARD.decode(text).unwrap();
            tree.push(leaf_hash(&bytes), |height, index, hash| {
                nodes.insert((height, index), hash);
            });
            entries.push(bytes);
        }
        Self { nodes, entries, tree }
    }

    fn key() -> NoteKey {
        NoteKey::from_seed("octant/00112233aabbccdd", [7; 32]).unwrap()
    }

    fn checkpoint(&self) -> String {
        let (origin, size, root) = (Self::key().name().to_owned(), self.tree.size(), self.tree.root());
        sign(&Self::key(), &Checkpoint { origin, size, root, extensions: vec![] })
    }

    fn info(&self) -> Value {
        json!({
            "checkpoint": self.checkpoint(), "key": Self::key().verifier().to_string(), "size": self.tree.size(),
            "root": self.tree.root().to_string(), "witnessed": witnessed(0, &[]),
        })
    }

    fn proof(&self, seq: u64) -> Value {
        let hashes = inclusion(self, seq - 1, self.tree.size()).unwrap();
        let bytes = &self.entries[usize::try_from(seq - 1).unwrap()];
        let proof = InclusionProof { index: seq - 1, hashes, checkpoint: self.checkpoint() };
        json!({
            "seq": seq, "hash": leaf_hash(bytes).to_string(), "entry": STANDARD.encode(bytes),
            "proof": proof.to_text(), "key": Self::key().verifier().to_string(),
        })
    }
}

fn witnessed(quorum: u32, have: &[&str]) -> Value {
    json!({"quorum": quorum, "witnesses": ["w1", "w2"], "have": have, "complete_to": 7})
}

#[test]
fn an_export_is_written_whole_or_not_at_all() {
    let dir = Dir::new();
    let file = dir.0.join("evidence.octant");
    let path = file.to_str().unwrap();
    let good = lines("ok-complete");
    let mut cut = good.clone();
    cut.truncate(5);
    let tampered = lines("bad-5-edited");
    let (first, second) = (good.clone(), good.clone());
    let turn = std::sync::atomic::AtomicU32::new(0);
    let ledger = play(&dir, "ledger", 5, move |method, params| {
        assert_eq!(method, "ledger.export");
        assert_eq!(params["from"], 1);
        match turn.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
            0 => exported(&tampered, 12),
            1 => exported(&cut, 4),
            2 => exported(&first, 11),
            3 => exported(&first, 12),
            _ => exported(&second, 12),
        }
    });
    let files = |dir: &Path| fs::read_dir(dir).unwrap().count();
    let before = files(&dir.0);
    for (exit, says) in [
        (Exit::Unverified, "line 6, entry 5: it was altered"),
        (Exit::Unverified, "entry 5: the file ends here"),
        (Exit::Unavailable, "it says that it sent 11 entries"),
    ] {
        let (found, _, stderr) = octant(&dir.0, &["ledger", "export", path]);
        assert_eq!(found, exit, "{stderr}");
        assert!(stderr.contains(says), "{stderr}");
        assert_eq!(files(&dir.0), before, "nothing is left of it");
    }
    let (exit, stdout, stderr) = octant(&dir.0, &["ledger", "export", path]);
    assert_eq!(exit, Exit::Ok, "{stderr}");
    assert!(stdout.contains("12 entries (1 to 12 of 12) of octant/00112233aabbccdd"), "{stdout}");
    assert_eq!(fs::read_to_string(&file).unwrap(), good.join("\n") + "\n");
    // It is not written over, and the ledger is not even asked.
    let (exit, _, stderr) = octant(&dir.0, &["ledger", "export", path]);
    assert_eq!(exit, Exit::Failed);
    assert!(stderr.contains("is there already") && stderr.contains("next: ") && stderr.contains("--force"));
    let (exit, _, stderr) = octant(&dir.0, &["ledger", "export", "--force", path]);
    assert_eq!(exit, Exit::Ok, "{stderr}");
    assert_eq!(files(&dir.0), before + 1);
    ledger.join().unwrap();
}

#[test]
fn an_export_of_something_else_than_was_asked_for_is_refused() {
    let dir = Dir::new();
    let ledger = play(&dir, "ledger", 1, |_, params| {
        assert_eq!((&params["from"], &params["to"]), (&json!(2), &json!(9)));
        exported(&lines("ok-part"), 7)
    });
    let path = dir.0.join("x");
    let (exit, _, stderr) =
        octant(&dir.0, &["ledger", "export", path.to_str().unwrap(), "--from", "2", "--to", "9"]);
    assert_eq!(exit, Exit::Unavailable);
    assert!(stderr.contains("other entries than those that were asked for"), "{stderr}");
    assert!(!path.exists());
    ledger.join().unwrap();
}

#[test]
fn a_file_is_verified_without_a_ledger() {
    let dir = Dir::new();
    let (file, log, kept) = (corpus("ok-complete"), corpus("log.pub"), corpus("kept.checkpoint"));
    let (one, two) = (corpus("witness-1.pub"), corpus("witness-2.pub"));
    let known = ["--key", &log, "--witness", &one, "--witness", &two, "--checkpoint", &kept];
    let all: Vec<&str> = ["ledger", "verify", &file].into_iter().chain(known).collect();
    let (exit, stdout, stderr) = octant(&dir.0, &all);
    assert_eq!((exit, stderr.as_str()), (Exit::Ok, ""));
    assert!(stdout.contains("verifies: 12 entries (1 to 12 of 12)"), "{stdout}");
    assert!(stdout.contains("\nproven: the 12 entries of octant/00112233aabbccdd are all here"), "{stdout}");
    assert!(!stdout.contains("split view") && !stdout.contains("who signed"), "{stdout}");
    // The checkpoint that was kept is older than the cosignatures, which say only what was newest then.
    let folded = stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    let open = "not proven: cut tail: whether entries after entry 5 were cut off the end since the newest";
    assert!(folded.contains(open), "{stdout}");
    // With nothing from elsewhere, what is open is listed, and fits the console.
    let (exit, stdout, stderr) = octant(&dir.0, &["ledger", "verify", &file]);
    assert_eq!((exit, stderr.as_str()), (Exit::Ok, ""));
    for class in ["who signed:", "cut tail:", "restored copy:", "rewritten chain:", "split view:"] {
        assert!(stdout.contains(&format!("\nnot proven: {class}")), "{stdout}");
    }
    assert!(stdout.lines().skip(1).all(|line| line.len() <= 80), "{stdout}");
    let (_, stdout, _) = octant(&dir.0, &["--json", "ledger", "verify", &file]);
    let document: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((&document["size"], &document["key_given"]), (&json!(12), &json!(false)));
    // The key itself instead of a file with it.
    let vkey = Log::key().verifier().to_string();
    assert_eq!(octant(&dir.0, &["ledger", "verify", &file, "--key", &vkey]).0, Exit::Ok);
}

#[test]
fn a_tampered_file_is_exit_7_and_names_the_entry() {
    let dir = Dir::new();
    let verify = |args: &[&str]| {
        let args: Vec<&str> = ["ledger", "verify"].into_iter().chain(args.iter().copied()).collect();
        octant(&dir.0, &args)
    };
    let edited = corpus("bad-5-edited");
    let (exit, stdout, stderr) = verify(&[&edited]);
    assert_eq!((exit, stdout.as_str()), (Exit::Unverified, ""));
    let says = "does not verify: line 6, entry 5: it was altered";
    assert!(stderr.contains(says) && stderr.contains("next: nothing from entry 5 on"), "{stderr}");
    let (exit, _, stderr) =
        verify(&[&corpus("foreign-rewritten"), "--checkpoint", &corpus("kept.checkpoint")]);
    assert_eq!(exit, Exit::Unverified);
    assert!(stderr.contains("has another root over the first 5 entries"), "{stderr}");
    let stranger = NoteKey::from_seed("octant/other", [9; 32]).unwrap().verifier().to_string();
    let (exit, _, stderr) = verify(&[&corpus("ok-complete"), "--key", &stranger]);
    assert_eq!(exit, Exit::Unverified);
    assert!(stderr.contains("octant/other") && stderr.contains("checkpoint --key"), "{stderr}");
    let (exit, _, stderr) = verify(&[&corpus("ok-complete"), "--quorum", "3"]);
    assert_eq!(exit, Exit::Unverified);
    assert!(stderr.contains("is not complete: 2 of 3 witnesses have cosigned"), "{stderr}");
    assert_eq!(verify(&[&corpus("nothing")]).0, Exit::NotFound);
    let (exit, _, stderr) = verify(&[&edited, "--key", "octant/x+00000000+AQID"]);
    assert_eq!(exit, Exit::Invalid);
    assert!(stderr.contains("is not a valid verifier key"), "{stderr}");
    assert_eq!(verify(&[&edited, "--checkpoint", &corpus("log.pub")]).0, Exit::Invalid);
}

#[test]
fn the_ledgers_own_report_says_what_is_not_proven() {
    let dir = Dir::new();
    let kept = corpus("kept.checkpoint");
    let text = fs::read_to_string(&kept).unwrap();
    let turn = std::sync::atomic::AtomicU32::new(0);
    let compared = |wrong: Option<&str>| {
        let root = Sha256::ZERO.to_string();
        json!({"from": "given", "size": 5, "root": root, "cosigned": ["w1"], "wrong": wrong})
    };
    let ledger = play(&dir, "ledger", 4, move |method, params| {
        assert_eq!(method, "ledger.verify");
        let given = params["checkpoints"].as_array();
        result(report(match turn.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
            0 => json!({"archived": 3, "witnessed": witnessed(2, &["w1", "w2"])}),
            1 => json!({"outside": [compared(None)]}),
            2 => {
                assert_eq!(given.unwrap(), &[json!(text)]);
                json!({"outside": [compared(Some("its root is another"))]})
            }
            _ => json!({"witnessed": witnessed(2, &["w1"])}),
        }))
    });
    let (exit, stdout, stderr) = octant(&dir.0, &["ledger", "verify"]);
    assert_eq!((exit, stderr.as_str()), (Exit::Ok, ""));
    assert!(stdout.contains("\nnot proven: that no entries from 1 on were cut off the end\n"), "{stdout}");
    assert!(
        stdout.contains("3 of them are archived") && stdout.contains("complete up to entry 7"),
        "{stdout}"
    );
    let (exit, stdout, _) = octant(&dir.0, &["ledger", "verify", "--checkpoint", &kept]);
    assert_eq!(exit, Exit::Ok);
    let folded = stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    let line = format!("proven: it continues {kept}, which covers 5 entries; cosigned by w1");
    assert!(folded.contains(&line), "{stdout}");
    let (exit, _, stderr) = octant(&dir.0, &["ledger", "verify", "--checkpoint", &kept]);
    assert_eq!(exit, Exit::Unverified);
    let says = format!("the ledger against the checkpoint {kept} does not verify: its root is another");
    assert!(stderr.contains(&says), "{stderr}");
    let (exit, _, stderr) = octant(&dir.0, &["ledger", "verify"]);
    assert_eq!(exit, Exit::Unverified);
    let says =
        "the ledger is not complete: 1 of 2 witnesses have cosigned its newest checkpoint, missing: w2";
    assert!(stderr.contains(says) && stderr.contains("octant ledger feed"), "{stderr}");
    ledger.join().unwrap();
}

/// A payload that is kept apart is no reason to give up an entry.
#[test]
fn a_damaged_payload_is_named_with_the_ledgers_own_next_step() {
    let dir = Dir::new();
    let next =
        "put the payload back from a copy, or accept that it is lost: `octant ledger erase 7 --reason TEXT`";
    let damage = |place: &str, next: &str| json!({"segment": place, "offset": 0, "seq": 7, "what": "its payload is gone", "next": next});
    let answers = [damage("payloads", next), damage("00000000000000000001.seg", "octant ledger acknowledge")];
    let turn = std::sync::atomic::AtomicUsize::new(0);
    let ledger = play(&dir, "ledger", 2, move |_, _| {
        let at = turn.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        result(report(json!({"damage": answers[at]})))
    });
    let (exit, _, stderr) = octant(&dir.0, &["ledger", "verify"]);
    assert_eq!(exit, Exit::Unverified);
    let says = "the payload of ledger entry 7 does not verify: its payload is gone";
    assert!(stderr.contains(says) && stderr.contains(&format!("next: {next}")), "{stderr}");
    assert!(!stderr.contains("acknowledge"), "{stderr}");
    let (exit, _, stderr) = octant(&dir.0, &["ledger", "verify"]);
    assert_eq!(exit, Exit::Unverified);
    assert!(stderr.contains("ledger entry 7 (00000000000000000001.seg at byte 0)"), "{stderr}");
    assert!(stderr.contains("next: octant ledger acknowledge"), "{stderr}");
    ledger.join().unwrap();
    for (command, other) in [("erase", "octant ledger acknowledge"), ("acknowledge", "octant ledger erase")] {
        let (exit, stdout, _) = octant(&dir.0, &["ledger", command, "--help"]);
        let folded = stdout.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(exit == Exit::Ok && folded.contains(other), "{command}: {stdout}");
    }
}

#[test]
fn a_given_key_is_asked_of_the_ledgers_checkpoint() {
    let dir = Dir::new();
    let ledger = play(&dir, "ledger", 5, |method, params| match method {
        "ledger.checkpoint" => result(Log::of_the_corpus().info()),
        _ => {
            // The checkpoint that the key was found right for is the one that the ledger has to agree with.
            assert_eq!(params["checkpoints"], json!([Log::of_the_corpus().checkpoint()]));
            result(report(json!({})))
        }
    });
    let (exit, _, stderr) = octant(&dir.0, &["ledger", "verify", "--key", &corpus("log.pub")]);
    assert_eq!(exit, Exit::Ok, "{stderr}");
    let stranger = NoteKey::from_seed("octant/00112233aabbccdd", [9; 32]).unwrap().verifier().to_string();
    let (exit, stdout, stderr) = octant(&dir.0, &["ledger", "verify", "--key", &stranger]);
    assert_eq!((exit, stdout.as_str()), (Exit::Unverified, ""));
    assert!(stderr.contains("the ledger's newest checkpoint does not verify"), "{stderr}");
    // Its checkpoint has no cosignature.
    let (exit, _, stderr) = octant(&dir.0, &["ledger", "verify", "--witness", &corpus("witness-1.pub")]);
    assert_eq!(exit, Exit::Unverified);
    assert!(stderr.contains("0 of 1 witnesses") && stderr.contains("missing: witness-1.example"), "{stderr}");
    ledger.join().unwrap();
}

#[test]
fn a_proof_is_checked_before_it_is_handed_on() {
    let dir = Dir::new();
    let log = Log::of_the_corpus();
    let (right, wrong) = (log.proof(5), log.proof(6));
    let text = right["proof"].as_str().unwrap().to_owned();
    let mut altered = right.clone();
    altered["hash"] = json!(Sha256::ZERO.to_string());
    altered.as_object_mut().unwrap().remove("entry");
    let turn = std::sync::atomic::AtomicU32::new(0);
    let ledger = play(&dir, "ledger", 5, move |method, params| {
        assert_eq!((method, &params["seq"]), ("ledger.prove", &json!(5)));
        result(match turn.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
            0 | 1 => right.clone(),
            2 => wrong.clone(),
            3 => altered.clone(),
            _ => right.clone(),
        })
    });
    let (exit, stdout, stderr) = octant(&dir.0, &["ledger", "prove", "5"]);
    assert_eq!((exit, stdout.as_str()), (Exit::Ok, text.as_str()), "{stderr}");
    assert!(stderr.contains("--key KEY"), "{stderr}");
    let file = dir.0.join("proof");
    let args = ["ledger", "prove", "5", "-o", file.to_str().unwrap(), "--key", &corpus("log.pub")];
    let (exit, _, stderr) = octant(&dir.0, &args);
    assert_eq!((exit, stderr.as_str(), fs::read_to_string(&file).unwrap()), (Exit::Ok, "", text));
    for says in ["it is of another entry", "leads to the root"] {
        let (exit, stdout, stderr) = octant(&dir.0, &["ledger", "prove", "5"]);
        assert_eq!((exit, stdout.as_str()), (Exit::Unverified, ""));
        assert!(stderr.contains(says), "{stderr}");
    }
    let stranger = NoteKey::from_seed("octant/other", [9; 32]).unwrap().verifier().to_string();
    let (exit, _, stderr) = octant(&dir.0, &["ledger", "prove", "5", "--key", &stranger]);
    assert_eq!(exit, Exit::Unverified, "{stderr}");
    ledger.join().unwrap();
}

#[test]
fn checkpoints_go_out_and_come_back() {
    let dir = Dir::new();
    let ledger = play(&dir, "ledger", 4, |method, params| match method {
        "ledger.checkpoint" => result(Log::of_the_corpus().info()),
        "ledger.import" => {
            let root = Sha256::ZERO.to_string();
            let wrong =
                params["checkpoint"].as_str().unwrap().contains("\n5\n").then_some("it has 4 entries");
            result(json!({"from": "given", "size": 5, "root": root, "cosigned": ["w1"], "wrong": wrong}))
        }
        other => panic!("{other}"),
    });
    let log = Log::of_the_corpus();
    assert_eq!(octant(&dir.0, &["ledger", "checkpoint"]).1, log.checkpoint());
    let (_, stdout, _) = octant(&dir.0, &["ledger", "checkpoint", "--key"]);
    assert_eq!(stdout, format!("{}\n", Log::key().verifier()));
    let file = dir.0.join("kept");
    fs::write(&file, log.checkpoint()).unwrap();
    let (exit, stdout, _) = octant(&dir.0, &["ledger", "import-checkpoint", file.to_str().unwrap()]);
    assert_eq!(exit, Exit::Ok);
    assert!(stdout.contains("covers 5 entries\ncosigned by w1\n"), "{stdout}");
    let (exit, _, stderr) = octant(&dir.0, &["ledger", "import-checkpoint", &corpus("kept.checkpoint")]);
    assert_eq!(exit, Exit::Unverified);
    assert!(stderr.contains("does not verify: it has 4 entries"), "{stderr}");
    // What is no checkpoint is not sent.
    assert_eq!(octant(&dir.0, &["ledger", "import-checkpoint", &corpus("log.pub")]).0, Exit::Invalid);
    ledger.join().unwrap();
}

#[test]
fn erasing_acknowledging_and_archiving_say_what_they_did() {
    let dir = Dir::new();
    let ledger = play(&dir, "ledger", 4, |method, params| match method {
        "ledger.archive" if params["before"] == 5 => {
            result(json!({"directory": "/a", "segments": [], "first": 1}))
        }
        "ledger.archive" => result(json!({"directory": "/a", "segments": ["1.log", "2.log"], "first": 900})),
        _ => {
            let known = [("ledger.erase", 7), ("ledger.acknowledge", 40)];
            assert!(known.contains(&(method, params["seq"].as_u64().unwrap())), "{method}");
            assert_eq!(params["reason"], "why not");
            result(json!({"seq": 99, "hash": Sha256::ZERO.to_string()}))
        }
    });
    let (exit, stdout, _) = octant(&dir.0, &["ledger", "erase", "7", "--reason", "why not"]);
    assert_eq!((exit, stdout.as_str()), (Exit::Ok, "the payload of entry 7 is erased; entry 99 says so\n"));
    let (exit, stdout, _) = octant(&dir.0, &["ledger", "acknowledge", "40", "--reason", "why not"]);
    assert_eq!(exit, Exit::Ok);
    assert!(stdout.contains("on record as entry 99") && stdout.contains("next: "), "{stdout}");
    let (_, stdout, _) = octant(&dir.0, &["ledger", "archive", "--before", "900"]);
    assert_eq!(stdout, "1.log\n2.log\n2 segments are now in /a\nthe first entry that can be read is 900\n");
    let (_, stdout, _) = octant(&dir.0, &["ledger", "archive", "--before", "5"]);
    assert!(stdout.contains("nothing was moved"), "{stdout}");
    ledger.join().unwrap();
    assert_eq!(octant(&dir.0, &["ledger", "erase", "7"]).0, Exit::Usage);
}

#[test]
fn queries_and_tails_choose_by_agent_subject_and_time() {
    let dir = Dir::new();
    let ledger = play(&dir, "ledger", 2, |method, params| {
        if method == "ledger.tail" {
            assert_eq!((&params["from"], &params["follow"]), (&json!(3), &json!(false)));
            let mine = entry(4, "note", &json!({"agent": aid()}), &json!({"text": "mine"}));
            let other = entry(3, "note", &json!("init"), &json!({"text": "other"}));
            let mut seal = entry(5, "seal", &json!("init"), &json!({"entries": 6}));
            seal["partition"] = json!({"agent": aid(), "seq": 7, "prev": Sha256::ZERO.to_string()});
            return Answer { items: vec![other, mine, seal], end: Ok(json!({"next": 6})) };
        }
        assert_eq!(params["agent"], aid());
        assert_eq!(params["subject"], "ab".repeat(32));
        assert_eq!(params["kinds"], json!(["note", "seal"]));
        assert_eq!(params["since_ms"], 1_773_495_425_000_u64);
        assert_eq!(params["until_ms"], 1_773_500_000_000_u64);
        result(json!({"entries": []}))
    });
    let (exit, stdout, _) = octant(&dir.0, &["ledger", "tail", "--from", "3", "--agent", &aid()]);
    assert_eq!((exit, stdout.lines().count()), (Exit::Ok, 2), "{stdout}");
    // Whose seal it is stands in its place alone.
    let seal = format!("seal      agent-..{} entries=6", &aid()[26..]);
    assert!(stdout.contains("mine") && stdout.contains(&seal), "{stdout}");
    let digest = "ab".repeat(32);
    let query =
        ["ledger", "query", "--agent", &aid(), "--subject", &digest, "--kind", "note", "--kind", "seal"];
    let times = ["--since", "2026-03-14T13:37:05Z", "--until", "1773500000000"];
    let (exit, _, stderr) = octant(&dir.0, &[query.as_slice(), &times].concat());
    assert_eq!(exit, Exit::Ok, "{stderr}");
    ledger.join().unwrap();
    let (exit, _, stderr) = octant(&dir.0, &["ledger", "query", "--since", "tomorrow"]);
    assert_eq!(exit, Exit::Usage);
    assert!(stderr.contains("10min ago"), "{stderr}");
}

/// An intent is open while its boot lasts, unknown after it, and done when the outcome says so.
#[test]
fn an_intent_shows_what_became_of_it() {
    for (outcome, boot, says) in [
        (true, "0", "entry 9: ok=true"),
        (false, "0", "open: there is none yet"),
        (false, "1", "unknown: there is none"),
    ] {
        let dir = Dir::new();
        let turns = if outcome { 2 } else { 3 };
        let ledger = play(&dir, "ledger", turns, move |method, params| {
            let intent = entry(8, "intent", &json!("init"), &json!({"do": "spawn"}));
            if method == "ledger.tail" {
                let mut newest = entry(20, "note", &json!("init"), &json!({}));
                newest["boot_id"] = json!(boot.repeat(32));
                return Answer { items: vec![newest], end: Ok(json!({"next": 21})) };
            }
            if params["intent"].is_null() {
                return result(json!({"entries": [intent]}));
            }
            let mut done = entry(9, "outcome", &json!("init"), &json!({"ok": true}));
            done["intent"] = json!(8);
            result(json!({"entries": if outcome { vec![intent, done] } else { vec![intent] }}))
        });
        let (exit, stdout, stderr) = octant(&dir.0, &["ledger", "show", "8"]);
        assert_eq!(exit, Exit::Ok, "{stderr}");
        assert!(stdout.contains(says), "{stdout}");
        ledger.join().unwrap();
    }
}

#[test]
fn an_entry_shows_its_partition_digests_and_where_its_payload_is() {
    let dir = Dir::new();
    let digest = |n: u8| Sha256([n; 32]).to_string();
    let ledger = play(&dir, "ledger", 3, move |_, params| {
        let with = |seq: u64, change: Value| {
            let mut entry = entry(seq, "note", &json!("init"), &Value::Null);
            entry.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
            entry
        };
        let erased = with(1, json!({"erasable": {"commitment": digest(1)}}));
        let rows = vec![
            with(
                2,
                json!({
                    "manifest": digest(3), "subject": digest(4), "payload": {"text": "kept"},
                    "partition": {"agent": aid(), "seq": 4, "prev": digest(5)},
                    "erasable": {"commitment": digest(1), "salt": digest(2)},
                }),
            ),
            with(3, json!({"outside": {"sha256": digest(6), "bytes": 70_000}})),
        ];
        let all: Vec<Value> = std::iter::once(erased).chain(rows).collect();
        result(json!({"entries": [all[usize::try_from(params["from"].as_u64().unwrap() - 1).unwrap()]]}))
    });
    let show = |seq: &str| octant(&dir.0, &["ledger", "show", seq]).1;
    let erased = show("1");
    assert!(
        erased.contains("erased; what was there is committed to") && !erased.contains("null"),
        "{erased}"
    );
    let whole = show("2").split_whitespace().collect::<Vec<_>>().join(" ");
    for part in [
        format!("agent {}", aid()),
        format!("its entry 4, after {}", digest(5)),
        format!("manifest {}", digest(3)),
        format!("subject {}", digest(4)),
        "can be erased".to_owned(),
        "\"text\": \"kept\"".to_owned(),
    ] {
        assert!(whole.contains(&part), "{part}: {whole}");
    }
    let outside = show("3");
    assert!(outside.contains("70000 bytes, kept elsewhere"), "{outside}");
    ledger.join().unwrap();
}
