//! What leaves a machine is judged elsewhere: by `octant ledger verify FILE`, which needs no running Octant, and by the
//! program in tests/python, which shares no code with it.

use octant_tests::agents::guest_files;
use octant_tests::environment::{binary, path};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The exit code and everything that a command said.
pub(crate) type Said = (Option<i32>, String);

pub(crate) fn said(command: &mut Command) -> Said {
    let Output { status, stdout, stderr } =
        command.output().unwrap_or_else(|e| panic!("{}: {e}", command.get_program().display()));
    let text = format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    (status.code(), text)
}

fn octant(export: &Path, key: &Path, checkpoint: Option<&Path>) -> Said {
    let mut command = Command::new(binary());
    command.args(["ledger", "verify"]).arg(export).arg("--key").arg(key);
    command.args(checkpoint.iter().flat_map(|file| [Path::new("--checkpoint"), file]));
    said(&mut command)
}

fn python(export: &Path, key: &Path, checkpoint: Option<&Path>) -> Said {
    let mut command = Command::new(path("OCTANT_PYTHON"));
    // Compiled files would lie in the checkout.
    command.arg("-B").arg(guest_files().join("../python/verify_export.py")).arg(export).arg("--key").arg(key);
    command.args(checkpoint.iter().flat_map(|file| [Path::new("--checkpoint"), file]));
    said(&mut command)
}

/// Both accept the file, knowing the log's key and maybe a checkpoint that was kept.
#[track_caller]
pub(crate) fn accepted(export: &Path, key: &Path, checkpoint: Option<&Path>) {
    let (code, text) = octant(export, key, checkpoint);
    assert_eq!(code, Some(0), "{text}");
    let (code, text) = python(export, key, checkpoint);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("\"ok\": true") && text.contains("\"key_given\": true"), "{text}");
}

/// Both refuse the file, and name the same first entry that cannot be relied on.
#[track_caller]
pub(crate) fn refused(export: &Path, key: &Path, checkpoint: Option<&Path>, seq: Option<u64>) {
    let (code, text) = octant(export, key, checkpoint);
    assert_eq!(code, Some(7), "{text}");
    assert!(seq.is_none_or(|seq| text.contains(&format!("entry {seq}:"))), "no entry {seq:?} in:\n{text}");
    let (code, text) = python(export, key, checkpoint);
    let named = seq.map_or("null".to_owned(), |seq| seq.to_string());
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains(&format!("\"first_bad_seq\": {named},")), "not {named}: {text}");
}

/// The key of another log.
pub(crate) fn foreign_key() -> PathBuf {
    guest_files().join("../corpus/export/log.pub")
}

/// The number of the entry on a line of an export.
fn seq_of(line: &str) -> u64 {
    let digits = line.strip_prefix("{\"seq\":").unwrap_or_else(|| panic!("no entry: {line}"));
    let digits: String = digits.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or_else(|e| panic!("{line}: {e}"))
}

/// One bit of an entry's bytes, which stand there in base 64.
fn edited(line: &str) -> String {
    let start = line.find("\"entry\":\"").map(|at| at + 9).unwrap_or_else(|| panic!("no entry: {line}"));
    let length = line[start..].find('"').unwrap_or_else(|| panic!("no end: {line}"));
    let at = start + length / 2;
    let other = if line.as_bytes()[at] == b'A' { "B" } else { "A" };
    format!("{}{other}{}", &line[..at], &line[at + 1..])
}

/// A copy of an export in which one entry is not what it was, and the number of that entry.
pub(crate) fn edited_entry(export: &Path) -> (PathBuf, u64) {
    let text = fs::read_to_string(export).unwrap_or_else(|e| panic!("{}: {e}", export.display()));
    let mut lines: Vec<&str> = text.lines().collect();
    let middle = lines.len() / 2;
    let (seq, changed) = (seq_of(lines[middle]), edited(lines[middle]));
    lines[middle] = &changed;
    let tampered = export.with_extension("tampered");
    fs::write(&tampered, lines.join("\n") + "\n").unwrap_or_else(|e| panic!("{e}"));
    (tampered, seq)
}

/// An export verifies with its log's key and with no other; edited, with an entry left out, or cut it does not.
#[track_caller]
pub(crate) fn holds_and_breaks(export: &Path, key: &Path) {
    accepted(export, key, None);
    refused(export, &foreign_key(), None, None);
    let text = fs::read_to_string(export).unwrap_or_else(|e| panic!("{}: {e}", export.display()));
    let lines: Vec<&str> = text.lines().collect();
    let (middle, last) = (lines.len() / 2, lines.len() - 1);
    assert!(last >= 5, "too few entries to lose one:\n{text}");
    let tampered = export.with_extension("tampered");
    let refused = |lines: &[&str], seq: u64| {
        fs::write(&tampered, lines.join("\n") + "\n").unwrap_or_else(|e| panic!("{e}"));
        refused(&tampered, key, None, Some(seq));
    };
    // Not the last: above it stands only the root, which does not say where.
    for at in [1, middle] {
        let edited = edited(lines[at]);
        let mut changed = lines.clone();
        changed[at] = &edited;
        refused(&changed, seq_of(lines[at]));
    }
    refused(&[&lines[..middle], &lines[middle + 1..]].concat(), seq_of(lines[middle]));
    // Cut with and without a last line that pretends that nothing is missing.
    let cut = &lines[..middle];
    refused(cut, seq_of(lines[middle]));
    let end = format!("{{\"end\":{}}}", cut.len() - 1);
    refused(&[cut, &[&end]].concat(), seq_of(lines[middle]));
}
