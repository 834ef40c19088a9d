//! Every option that POSIX gives a utility is tried; those that are missing are the ones that docs/utilities.md names.

use octant_applets::notes;
use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::process::{Command, Stdio};

const BINARY: &str = env!("CARGO_BIN_EXE_octant");

/// Utilities of POSIX with their options (POSIX.1-2017): a letter, with `:` where a value follows, and the values and operands
/// that are good for a try. `sh` and the shell's own commands are elsewhere; ps has its own tests.
#[rustfmt::skip] // one utility a line
const OPTIONS: &[(&str, &str, &[&str])] = &[
    ("awk", "F:f:v:", &["x=1", "f"]),
    ("cat", "u", &["f"]),
    ("chgrp", "hHLPR", &["0", "f"]),
    ("chmod", "R", &["600", "f"]),
    ("chown", "hHLPR", &["0", "f"]),
    ("cmp", "ls", &["f", "f"]),
    ("comm", "123", &["f", "f"]),
    ("cp", "RfipHLP", &["f", "g"]),
    ("csplit", "ksf:n:", &["1", "f", "1"]),
    ("cut", "b:c:f:d:ns", &["1", "f"]),
    ("date", "u", &[]),
    ("df", "kPt", &["."]),
    ("diff", "bcefruC:U:", &["1", "f", "f"]),
    ("du", "aHkLsx", &["f"]),
    ("env", "i", &[]),
    ("expand", "t:", &["4", "f"]),
    ("file", "dhiM:m:", &["f", "f"]),
    ("find", "HL", &["f"]),
    ("fold", "bsw:", &["4", "f"]),
    ("grep", "EFclqinsvxe:f:", &["f", "f"]),
    ("head", "n:", &["1", "f"]),
    ("id", "Ggunr", &[]),
    ("join", "a:e:o:t:v:1:2:", &["1", "f", "f"]),
    ("kill", "s:l", &["15"]),
    ("ln", "fsLP", &["f", "g"]),
    ("ls", "ACFHLRSacdfgiklmnopqrstux1", &["f"]),
    ("mkdir", "pm:", &["755", "d"]),
    ("mkfifo", "m:", &["600", "p"]),
    ("more", "cein:p:st:u", &["1", "f"]),
    ("mv", "fi", &["f", "g"]),
    ("nice", "n:", &["1", "true"]),
    ("nl", "b:d:f:h:i:l:n:ps:v:w:", &["1", "f"]),
    ("od", "A:j:N:t:bcdosvx", &["x", "f"]),
    ("paste", "sd:", &["x", "f"]),
    ("patch", "bcelnNRd:D:i:o:p:r:", &["1", "f"]),
    ("pathchk", "pP", &["f"]),
    ("pr", "adFfh:l:mn:o:prs:tw:ei", &["66", "f"]),
    ("pwd", "LP", &[]),
    ("rm", "firR", &["f"]),
    ("rmdir", "p", &["d"]),
    ("sed", "ne:f:E", &["p", "f"]),
    ("sort", "cCmo:udfinrbt:k:", &["1", "f"]),
    ("split", "l:a:b:", &["2", "f"]),
    ("strings", "an:t:", &["4", "f"]),
    ("stty", "ag", &[]),
    ("tail", "c:fn:", &["1", "f"]),
    ("tee", "ai", &["f"]),
    ("touch", "acmr:t:d:", &["f", "f"]),
    ("tr", "cCds", &["a", "b"]),
    ("uname", "amnrsv", &[]),
    ("unexpand", "at:", &["4", "f"]),
    ("uniq", "cduf:s:", &["1", "f"]),
    ("wc", "clmw", &["f"]),
    ("who", "abdHlmpqrstTu", &[]),
    ("xargs", "E:I:L:n:ps:tx", &["4", "true"]),
];

/// What a utility says to an option that it does not have.
const UNKNOWN: &[&str] = &[
    "unexpected argument",
    "invalid option",
    "unknown option",
    "unrecognized option",
    "Unknown option",
    "not supported",
];

fn unknown(name: &str, letter: char, values: &[&str], with_value: bool) -> bool {
    let directory = std::env::temp_dir().join(format!(
        "octant-{}-posix-{name}-{}",
        std::process::id(),
        u32::from(letter)
    ));
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join("f"), "b\na\nb\n").unwrap();
    let mut command = Command::new(BINARY);
    command.arg(name).arg(format!("-{letter}"));
    // The first value is the option's; without one it is an operand only where all of them are.
    command.args(if with_value || !takes_value(name) { values } else { &values[1..] });
    command
        .current_dir(&directory)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut errors = Vec::new();
    if name == "tail" && letter == 'f' {
        // It never ends; an unknown option would.
        std::thread::sleep(std::time::Duration::from_millis(500));
        child.kill().unwrap();
    }
    child.stderr.take().unwrap().read_to_end(&mut errors).unwrap();
    child.wait().unwrap();
    fs::remove_dir_all(&directory).unwrap();
    let errors = String::from_utf8_lossy(&errors);
    UNKNOWN.iter().any(|text| errors.contains(text))
}

fn takes_value(name: &str) -> bool {
    OPTIONS.iter().any(|(other, options, _)| *other == name && options.contains(':'))
}

#[test]
fn the_missing_options_are_those_that_are_said_to_be() {
    let mut wrong = Vec::new();
    for (name, options, values) in OPTIONS {
        if octant_applets::find(name.as_ref()).is_none() {
            continue;
        }
        let letters: Vec<char> = options.chars().collect();
        let missing: BTreeSet<String> = letters
            .iter()
            .enumerate()
            .filter(|(_, letter)| **letter != ':')
            .filter(|(at, letter)| unknown(name, **letter, values, letters.get(at + 1) == Some(&':')))
            .map(|(_, letter)| format!("-{letter}"))
            .collect();
        let said: BTreeSet<String> =
            notes::of(name).missing.iter().map(|option| (*option).to_owned()).collect();
        if missing != said {
            wrong.push(format!("{name}: missing are {missing:?}, docs/utilities.md says {said:?}"));
        }
    }
    assert!(wrong.is_empty(), "crates/applets/src/notes.rs:\n{}", wrong.join("\n"));
}
