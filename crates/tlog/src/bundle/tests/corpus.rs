//! The files in tests/corpus/export: what tests/python/verify_export.py is tried with, and seeds for fuzzing.

use super::*;
use std::fs;
use std::path::PathBuf;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/corpus/export")
}

/// Every file with its content. `ok-*` verify with log.pub and witness-*.pub, `bad-N-*` do not, and entry N is the first
/// bad one; 0 where the whole file is. `foreign-*` verify until they are compared with kept.checkpoint.
fn files() -> Vec<(String, String)> {
    let log = Log::sample();
    let text = |lines: &[String]| lines.join("\n") + "\n";
    let mut files = vec![
        ("log.pub".to_owned(), format!("{}\n", log_key().verifier())),
        ("witness-1.pub".to_owned(), format!("{}\n", witness_key(1).verifier())),
        ("witness-2.pub".to_owned(), format!("{}\n", witness_key(2).verifier())),
        ("kept.checkpoint".to_owned(), log.checkpoint(&log_key(), 5)),
        ("ok-complete".to_owned(), text(&log.complete())),
        ("ok-part".to_owned(), text(&log.export(3, 9, None))),
        ("ok-agent".to_owned(), text(&log.export(1, 12, Some(agent(1))))),
    ];
    let mut erased = Log::sample();
    erased.erasable.clear();
    files.push(("ok-erased".to_owned(), text(&erased.complete())));
    let mut rewritten = Log::default();
    for n in 0..12 {
        rewritten.append(&Draft::new(Principal::Init, Kind::Note, Json::of(&n).unwrap()));
    }
    files.push(("foreign-rewritten".to_owned(), text(&rewritten.complete())));
    let bad = tamper::rows().into_iter();
    files.extend(bad.map(|(name, lines, seq, _)| (format!("bad-{seq}-{name}"), text(&lines))));
    files
}

#[test]
fn the_corpus_is_what_this_code_writes() {
    let folder = folder();
    for (name, text) in files() {
        let path = folder.join(name);
        if std::env::var_os("UPDATE").is_some() {
            fs::create_dir_all(&folder).unwrap();
            fs::write(&path, &text).unwrap();
        }
        let kept = fs::read_to_string(&path).unwrap_or_default();
        let path = path.display();
        assert!(
            kept == text,
            "{path} differs; UPDATE=1 cargo test -p octant-tlog rewrites it: a new format?"
        );
    }
}

/// Whatever is there, also what fuzzing found.
#[test]
fn the_corpus_is_read_without_a_panic_and_told_apart() {
    let mut seen = 0;
    for file in fs::read_dir(folder()).unwrap() {
        let file = file.unwrap();
        let (name, bytes) = (file.file_name().into_string().unwrap(), fs::read(file.path()).unwrap());
        seen += 1;
        fuzz_export(&bytes);
        let mut check = Check::new(knowing(None));
        let lines = bytes.strip_suffix(b"\n").unwrap_or(&bytes).split(|byte| *byte == b'\n');
        let result = lines.into_iter().try_for_each(|line| check.line(line)).and_then(|()| check.finish());
        if name.starts_with("ok-") || name.starts_with("foreign-") {
            assert!(result.is_ok(), "{name}: {result:?}");
        } else if let Some(number) = name.strip_prefix("bad-").and_then(|rest| rest.split('-').next()) {
            let expected: u64 = number.parse().unwrap();
            assert_eq!(result.unwrap_err().seq.unwrap_or(0), expected, "{name}");
        }
    }
    assert!(seen >= 30, "the corpus is not where it was");
}
