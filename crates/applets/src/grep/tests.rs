//! Patterns in the form of the crate, and what they match; the whole of grep is compared with GNU's by
//! crates/octant/tests/differential.rs.

use super::matcher::Matcher;
use super::options::Settings;
use super::syntax::Dialect;
use crate::options::Stop;
use std::ffi::OsString;

fn settings(words: &[&str]) -> Result<Settings, Stop> {
    let line: Vec<OsString> =
        std::iter::once("grep").chain(words.iter().copied()).map(OsString::from).collect();
    Settings::read(&line, "")
}

fn matcher(words: &[&str], utf8: bool) -> Matcher {
    let mut settings = settings(words).unwrap();
    settings.utf8 = utf8;
    Matcher::new(&settings, |_| ()).unwrap()
}

/// The lines that match, counted from one.
fn lines(words: &[&str], text: &[u8]) -> Vec<usize> {
    let matcher = matcher(words, true);
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(line) = matcher.next_line(text, at) {
        found.push(text[..line.start].iter().filter(|byte| **byte == b'\n').count() + 1);
        at = line.end;
    }
    found
}

#[test]
fn basic_and_extended_patterns_mean_what_they_mean_to_gnu() {
    let text = b"ab\nx*y\na{1\n(a)\n\n]-\n a+b\n";
    for (words, expected) in [
        (&["*y"][..], &[2][..]),
        (&["\\(*y\\)"], &[2]),
        (&["^*"], &[]),
        (&["-E", "*y"], &[2]),
        (&["a\\{1"], &[]),
        (&["-E", "a{1"], &[3]),
        (&["a{1"], &[3]),
        (&["(a)"], &[4]),
        (&["-E", "a)"], &[4]),
        (&["-E", "(|b)$"], &[1, 2, 3, 4, 5, 6, 7]),
        (&["[]-]"], &[6]),
        (&["[^]a-z0-9{}()*+ -]"], &[]),
        (&["a\\+b"], &[1]),
        (&["a+b"], &[7]),
        (&["-E", "a+b"], &[1]),
        (&["x^y\\|^ab$"], &[1]),
        (&["-w", "a"], &[3, 4, 7]),
        (&["-x", "a\\|ab"], &[1]),
        (&["-F", "a{1\n(a"], &[3, 4]),
        (&["\\(a\\)b\\|\\(x\\).*\\2"], &[1]),
        (&["\\W\\s*a"], &[4, 7]),
        (&["-E", "^\\s|\\<y"], &[2, 7]),
        (&["[[:space:]]"], &[7]),
        (&["-i", "AB"], &[1]),
        (&["-P", "a(?=b)"], &[1]),
    ] {
        // A basic pattern with a brace that is not closed is wrong.
        if words == ["a\\{1"] {
            assert!(Matcher::new(&settings(words).unwrap(), |_| ()).is_err());
            continue;
        }
        assert_eq!(lines(words, text), expected, "{words:?}");
    }
}

#[test]
fn no_match_reaches_beyond_its_line() {
    for pattern in ["[^x]*", "\\W*", "\\S*", "\\s*", "[[:cntrl:]]*", "[[:space:]]", "$", "^", "a*"] {
        let matcher = matcher(&["-o", pattern], true);
        let text = b"ab\n\nb\n";
        let mut at = 0;
        while let Some(line) = matcher.next_line(text, at) {
            assert!(line.start >= at && line.end > line.start, "{pattern}");
            assert_eq!(
                text[line.start..line.end].iter().filter(|byte| **byte == b'\n').count(),
                1,
                "{pattern}"
            );
            assert!(line.start == 0 || text[line.start - 1] == b'\n', "{pattern}");
            at = line.end;
        }
    }
}

#[test]
fn the_longest_of_the_leftmost_is_printed() {
    for (words, line, expected) in [
        (&["-oE", "ab|abcd"][..], "xabcd", Some(1..5)),
        (&["-oE", "a?(ab)?"], "ab", Some(0..2)),
        (&["-owE", "a|a-b"], "xa a-b-c", Some(3..6)),
        (&["-o", "\\(a\\)\\1*"], "baaa", Some(1..4)),
        (&["-oF", "a\nabc"], "abcd", Some(0..3)),
        (&["-o", "é."], "aéb", Some(1..4)),
    ] {
        assert_eq!(matcher(words, true).find(line.as_bytes(), 0), expected, "{words:?}");
    }
}

#[test]
fn wrong_patterns_are_told_in_gnus_words() {
    let basic = Dialect { extended: false, utf8: true, line_end: b'\n' };
    let extended = Dialect { extended: true, ..basic };
    for (dialect, pattern, expected) in [
        (basic, "a\\", "Trailing backslash"),
        (basic, "\\(a", "Unmatched ( or \\("),
        (basic, "a\\)", "Unmatched ) or \\)"),
        (extended, "(a", "Unmatched ( or \\("),
        (extended, "[a", "Unmatched [, [^, [:, [., or [="),
        (basic, "[[:foo:]]", "Invalid character class name"),
        (basic, "[:alpha:]", "character class syntax is [[:space:]], not [:space:]"),
        (basic, "[b-a]", "Invalid range end"),
        (basic, "\\(a\\)\\2", "Invalid back reference"),
        (basic, "a\\{1", "Unmatched \\{"),
        (basic, "a\\{1a", "Invalid content of \\{\\}"),
        (extended, "a{2,1}", "Invalid content of \\{\\}"),
        (extended, "a{99999}", "Regular expression too big"),
        (extended, "a{99999999999}", "Regular expression too big"),
        (basic, "[[.space.]]", "Invalid collation character"),
    ] {
        assert_eq!(dialect.form(pattern.as_bytes()), Err(expected), "{pattern}");
    }
    assert_eq!(extended.form(b"*a").unwrap().warnings, ["* at start of expression"]);
    assert!(basic.form(b"\\(a\\)\\1").unwrap().refers_back);
}

#[test]
fn bytes_are_characters_in_the_c_locale() {
    let text = b"\xc3\xa9\n\xff\n";
    assert_eq!(matcher(&["^.$"], true).next_line(text, 0), Some(0..3));
    assert_eq!(matcher(&["^.$"], false).next_line(text, 0), Some(3..5));
    assert_eq!(matcher(&["^..$"], false).next_line(text, 0), Some(0..3));
}

#[test]
fn a_wrong_command_line_is_told() {
    for words in [
        &[][..],
        &["-e"],
        &["--foo", "x"],
        &["-A", "x", "y"],
        &["-m", "x", "y"],
        &["-E", "-F", "x"],
        &["--binary-files=x", "y"],
        &["-d", "x", "y"],
        &["-P", "a\nb"],
        &["--color=x", "y"],
        &["-f", "/missing/x"],
    ] {
        assert_eq!(settings(words).unwrap_err().code, 2, "{words:?}");
    }
    let settings = settings(&["-n12", "--max-c=3", "x", "f", "-e", "y"]).unwrap();
    assert_eq!((settings.before, settings.most), (Some(12), Some(3)));
    assert_eq!((settings.patterns, settings.files.len()), (vec![b"y".to_vec()], 2));
}

#[test]
fn perls_patterns_that_the_crate_reads_otherwise_are_left_to_the_other_engine() {
    for pattern in [
        "a++",
        "(?=a)",
        "(?<n>a)",
        "(a)\\1",
        "[[:alpha:]]",
        "a{,3}",
        "\\Ka",
        "(?i)a",
        "*a",
        "[]a]",
        "a}",
        "\\x41",
        "a**",
    ] {
        assert_eq!(super::perl::form(pattern.as_bytes(), b'\n'), None, "{pattern}");
    }
    for (pattern, line, expected) in [
        ("\\d+", "ab12", Some(2..4)),
        ("a|ab", "ab", Some(0..1)),
        ("<.+?>", "x<a><b>", Some(1..4)),
        ("[^\\s-]{2,}", "a -bc", Some(3..5)),
        ("(?:é|x)\\b", "aé", Some(1..3)),
        ("a(?=b)", "ab", Some(0..1)),
        ("x\\Kb", "xb", Some(1..2)),
    ] {
        assert_eq!(matcher(&["-oP", pattern], true).find(line.as_bytes(), 0), expected, "{pattern}");
    }
}
