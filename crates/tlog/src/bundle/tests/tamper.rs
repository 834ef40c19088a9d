//! Tampered exports: each is detected, and the error names the first bad entry.

use super::*;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use serde_json::Value;
use std::sync::LazyLock;

/// The lines with one entry's bytes replaced.
fn altered(lines: &[String], seq: usize, change: impl FnOnce(&mut [u8])) -> Vec<String> {
    let mut lines = lines.to_vec();
    let line = lines.iter_mut().find(|line| line.starts_with(&format!("{{\"seq\":{seq},"))).unwrap();
    let mut document: Value = serde_json::from_str(line).unwrap();
    let mut bytes = STANDARD.decode(document["entry"].as_str().unwrap()).unwrap();
    change(&mut bytes);
    document["entry"] = STANDARD.encode(bytes).into();
    *line = document.to_string();
    lines
}

/// A wall clock that is a millisecond off.
fn later(bytes: &mut [u8]) {
    let wall = 1_773_495_425_123_u64.to_be_bytes();
    let at = bytes.windows(6).position(|window| window == &wall[..6]).unwrap();
    bytes[at + 7] ^= 1;
}

/// Another predecessor: 32 bytes after key 8.
fn other_prev(bytes: &mut [u8]) {
    let at = bytes.windows(3).position(|window| window == [8, 0x58, 32]).unwrap();
    bytes[at + 3] ^= 0xff;
}

fn wrong(lines: &[String], given: Given) -> (Option<u64>, String) {
    let wrong = check(lines, given).unwrap_err();
    (wrong.seq, wrong.to_string())
}

/// An edit of the same length, which keeps the payload JSON.
fn replaced(bytes: &mut [u8], from: &[u8], to: &[u8]) {
    let at = bytes.windows(from.len()).position(|window| window == from).unwrap();
    bytes[at..at + from.len()].copy_from_slice(to);
}

/// One text of a line replaced by another.
fn text(lines: &[String], at: usize, from: &str, to: &str) -> Vec<String> {
    let mut lines = lines.to_vec();
    assert!(lines[at].contains(from));
    lines[at] = lines[at].replacen(from, to, 1);
    lines
}

/// Without a line, but with a count that fits.
fn without(lines: &[String], at: usize) -> Vec<String> {
    let mut lines = lines.to_vec();
    lines.remove(at);
    counted(&lines, lines.len() as u64 - 2)
}

/// With one line more, and a count that fits.
fn with(lines: &[String], at: usize, line: &str) -> Vec<String> {
    let mut lines = lines.to_vec();
    lines.insert(at, line.to_owned());
    counted(&lines, lines.len() as u64 - 2)
}

fn counted(lines: &[String], count: u64) -> Vec<String> {
    let entries = lines[..lines.len() - 1].iter().cloned();
    entries.chain([end(count)]).collect()
}

/// Name, lines, the first bad entry (0 for none), what the error says.
type Row = (&'static str, Vec<String>, u64, &'static str);

/// Every way to tamper that the file itself shows.
pub(super) fn rows() -> Vec<Row> {
    [entries(), order(), whole()].concat()
}

/// Entries and what stands beside them.
fn entries() -> Vec<Row> {
    let log = Log::sample();
    let (all, part) = (log.complete(), log.export(3, 9, None));
    let other = log.line(4, true).replacen("\"seq\":4", "\"seq\":3", 1);
    let replace = |line: String| [&part[..1], &[line], &part[2..]].concat();
    let stray = text(&all, 5, "{\"seq\":5,", "{\"seq\":5,\"payload\":\"x\",");
    vec![
        ("edited", altered(&all, 5, |b| replaced(b, b"first", b"worst")), 5, "entry 5: it was altered"),
        ("edited-last", altered(&all, 12, |b| replaced(b, b"still", b"never")), 1, "the root of all entries"),
        ("edited-form", altered(&all, 5, |b| b[0] ^= 1), 5, "canonical form"),
        ("edited-part", altered(&part, 5, |b| replaced(b, b"first", b"worst")), 5, "not in the tree"),
        ("edited-payload", text(&all, 7, "something", "anything"), 7, "its payload was altered"),
        ("timestamp", altered(&all, 4, later), 4, "entry 4: it was altered"),
        ("timestamp-part", altered(&part, 4, later), 4, "not in the tree"),
        ("link", altered(&all, 5, other_prev), 5, "neither the entry before"),
        ("no-proof", replace(log.line(3, false)), 3, "it has no proof"),
        ("other-proof", replace(other), 3, "says that it is entry 4"),
        ("stray-payload", stray, 5, "does not belong there"),
        ("salt-alone", text(&all, 7, "\"payload\"", "\"x\""), 7, "not one that an export has"),
    ]
}

/// Which entries are there, and in which order.
fn order() -> Vec<Row> {
    let log = Log::sample();
    let (all, part, mine) = (log.complete(), log.export(3, 9, None), log.export(1, 12, Some(agent(1))));
    let inserted = log.line(6, false).replacen("\"seq\":6", "\"seq\":5", 1);
    let reordered = [&all[..5], &[all[6].clone(), all[5].clone()], &all[7..]].concat();
    let other = [&mine[..2], &[log.line(6, true)], &mine[3..]].concat();
    vec![
        ("deleted", without(&all, 5), 5, "it is missing; entry 6"),
        ("deleted-part", without(&part, 1), 3, "it is missing; entry 4"),
        ("inserted", with(&all, 5, &inserted), 5, "says that it is entry 6"),
        ("reordered", reordered, 5, "it is missing; entry 6"),
        ("duplicated", with(&all, 6, &all[5]), 6, "there twice"),
        ("cut", all[..9].to_vec(), 9, "the file ends here"),
        ("cut-counted", [&all[..9], &[end(8)]].concat(), 9, "the file ends here"),
        ("counted", counted(&all, 11), 13, "counts 11 entries, there are 12"),
        ("partition-row", without(&mine, 3), 9, "one of that agent's entries is missing"),
        ("partition-first", without(&mine, 1), 5, "one of that agent's entries is missing"),
        ("partition-other", other, 6, "not about the agent"),
        ("after", [all.as_slice(), &[end(12)]].concat(), 0, "something follows"),
    ]
}

/// The first line.
fn whole() -> Vec<Row> {
    let all = Log::sample().complete();
    vec![
        ("header-size", text(&all, 0, "\"to\":12", "\"to\":11"), 0, "contradicts itself"),
        ("header-root", text(&all, 0, "\\n12\\n", "\\n11\\n"), 0, "does not verify"),
        ("header-format", text(&all, 0, "export-1", "export-2"), 0, "not an export"),
        (
            "header-origin",
            text(&all, 0, "\"origin\":\"octant/0", "\"origin\":\"octant/1"),
            0,
            "of another log",
        ),
    ]
}

#[test]
fn every_tampering_that_the_file_shows_names_its_entry() {
    for (name, lines, seq, says) in rows() {
        let found = wrong(&lines, knowing(None));
        assert_eq!(found.0, Some(seq).filter(|seq| *seq > 0), "{name}: {}", found.1);
        assert!(found.1.contains(says), "{name}: {}", found.1);
        // It shows without any key as well.
        assert_eq!(wrong(&lines, Given::default()).0, found.0, "{name}");
    }
}

/// What only a checkpoint from outside shows: without one the export verifies, and says that this is not proven.
#[test]
fn what_only_an_outside_checkpoint_shows() {
    let log = Log::sample();
    let mut rewritten = Log::default();
    for (i, seq) in (0_usize..).zip(1..=12_u64) {
        let text = if seq < 4 { "{}" } else { "\"anew\"" };
        rewritten.append(&Draft::new(Principal::Init, Kind::Note, Json::from_text(text.into()).unwrap()));
        assert_eq!(rewritten.entries.len(), i + 1);
    }
    let mut shorter = log.header(1, 8, None);
    (shorter.checkpoint, shorter.complete) = (log.checkpoint(&log_key(), 8), true);
    let older = log.export_under(&shorter);
    let rows = [
        (
            "cut tail:",
            &older,
            log.checkpoint(&log_key(), 12),
            9,
            "cut: the outside checkpoint kept covers 12",
        ),
        ("restored copy:", &older, log.checkpoint(&log_key(), 10), 9, "covers 10 entries, this export 8"),
        (
            "rewritten chain:",
            &rewritten.complete(),
            log.checkpoint(&log_key(), 6),
            1,
            "another root over the first 6",
        ),
        (
            "split view:",
            &log.complete(),
            rewritten.checkpoint(&log_key(), 12),
            1,
            "another root over the first 12",
        ),
    ];
    for (class, lines, checkpoint, seq, says) in rows {
        let alone = Given { witnesses: vec![], quorum: Some(0), ..knowing(None) };
        let report = check(lines, alone).unwrap();
        assert!(report.not_proven.iter().any(|line| line.starts_with(class)), "{class} {report:#?}");
        let found = wrong(lines, Given { witnesses: vec![], ..knowing(Some(&checkpoint)) });
        assert_eq!(found.0, Some(seq), "{class} {}", found.1);
        assert!(found.1.contains(says), "{class} {}", found.1);
    }
}

#[test]
fn a_checkpoint_that_another_key_signed_is_refused() {
    let log = Log::sample();
    let thief = NoteKey::from_seed(log_key().name(), [66; 32]).unwrap();
    let mut header = log.header(1, 12, None);
    header.checkpoint = log.checkpoint(&thief, 12);
    assert!(wrong(&log.export_under(&header), Given::default()).1.contains("its checkpoint does not verify"));
    header.key = thief.verifier().to_string();
    let lines = log.export_under(&header);
    assert!(wrong(&lines, knowing(None)).1.contains("not the one that was given"));
    let report = check(&lines, Given::default()).unwrap();
    assert!(report.not_proven.iter().any(|line| line.starts_with("who signed:")), "{report:#?}");
    // An outside checkpoint of another log, or of nobody.
    let other = NoteKey::from_seed("octant/other", [66; 32]).unwrap();
    let found = wrong(&log.complete(), knowing(Some(&log.checkpoint(&other, 3))));
    assert!(found.1.contains("it is of octant/other"), "{}", found.1);
    let found = wrong(&log.complete(), knowing(Some(&log.checkpoint(&thief, 3))));
    assert!(found.1.contains("none of this log"), "{}", found.1);
}

#[test]
fn lines_have_limits() {
    let log = Log::sample();
    let mut lines = log.complete();
    lines[3] = format!("{{\"seq\":3,\"entry\":\"{}\"}}", "A".repeat(LINE_MAX));
    assert!(wrong(&lines, Given::default()).1.contains("longer than"));
    lines[3] = format!("{{\"seq\":3,\"entry\":{}", "[".repeat(100_000));
    assert_eq!(wrong(&lines, Given::default()).0, Some(3));
    lines[3] = format!("{{\"seq\":3,\"{}\":1}}", "x".repeat(100_000));
    assert!(wrong(&lines, Given::default()).1.len() < 512);
    let mut header = log.header(1, 12, None);
    header.witnesses = vec![witness_key(1).verifier().to_string(); WITNESSES_MAX + 1];
    assert!(wrong(&log.export_under(&header), Given::default()).1.contains("more than 64 witnesses"));
    let mut part = log.export(3, 3, None);
    let many = format!("[{}]", vec!["\"AAAA\""; 64].join(","));
    part[1] = format!("{}{many}}}", &part[1][..part[1].find('[').unwrap()]);
    assert!(wrong(&part, Given::default()).1.contains("at most 63"));
    // Nothing follows an error.
    let mut check = Check::new(Given::default());
    assert!(check.line(b"x").is_err() && check.line(log.complete()[0].as_bytes()).is_err());
    assert!(check.finish().is_err());
}

static EXPORTS: LazyLock<[(Vec<String>, Report); 3]> = LazyLock::new(|| {
    let log = Log::sample();
    [log.complete(), log.export(2, 9, None), log.export(1, 12, Some(agent(1)))].map(|lines| {
        let report = check(&lines, knowing(None)).unwrap();
        (lines, report)
    })
});

proptest! {
    /// Whatever byte is changed, the file does not verify, or it says the same: white space, the case of a digit.
    #[test]
    fn any_changed_byte_is_noticed(
        which in 0_usize..3,
        line in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
        flip in 1_u8..,
    ) {
        let (lines, before) = &EXPORTS[which];
        let mut bytes: Vec<Vec<u8>> = lines.iter().map(|line| line.clone().into_bytes()).collect();
        let line = line.index(bytes.len());
        let place = at.index(bytes[line].len());
        bytes[line][place] ^= flip;
        let mut check = Check::new(knowing(None));
        let result = bytes.iter().try_for_each(|line| check.line(line)).and_then(|()| check.finish());
        // In the first line stand the file's own witnesses, which do not count when others are given, and the
        // cosignatures, of which one may be missing.
        if let Ok(report) = result {
            prop_assert_eq!(line, 0, "only the first line has something that is not proven");
            prop_assert!(report == *before || !report.has_quorum());
        }
    }

    #[test]
    fn any_lines_are_survived(lines in prop::collection::vec(any::<Vec<u8>>(), 0..4)) {
        let mut bytes = Vec::new();
        for line in lines {
            bytes.extend_from_slice(&line);
            bytes.push(b'\n');
        }
        fuzz_export(&bytes);
    }
}
