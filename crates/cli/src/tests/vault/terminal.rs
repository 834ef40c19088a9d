//! What is asked on a terminal: a pseudo-terminal, and a thread that types.

use super::*;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::pty::openpty;
use nix::sys::termios::{LocalFlags, tcgetattr};
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// A terminal with somebody who types.
struct Terminal {
    screen: File,
    keyboard: OwnedFd,
}

impl Terminal {
    fn new() -> Self {
        let pty = openpty(None, None).unwrap();
        Self { screen: File::from(pty.master), keyboard: pty.slave }
    }

    fn echoes(&self) -> bool {
        tcgetattr(&self.keyboard).unwrap().local_flags.contains(LocalFlags::ECHO)
    }

    /// Runs a command here. `hidden` is typed once the terminal does not show what is typed, `seen` at once.
    fn run(&self, dir: &Dir, args: &[&str], seen: &str, hidden: &str) -> Done {
        let args = [&["vault"][..], args].concat();
        (&self.screen).write_all(seen.as_bytes()).unwrap();
        let done = thread::scope(|scope| {
            if !hidden.is_empty() {
                scope.spawn(|| {
                    while self.echoes() {
                        thread::sleep(Duration::from_millis(1));
                    }
                    (&self.screen).write_all(hidden.as_bytes()).unwrap();
                });
            }
            octant_on(Links::default(), &dir.0, &args, &self.keyboard, Some(80))
        });
        assert!(self.echoes(), "the terminal shows again what is typed");
        done
    }

    /// What the terminal has shown of what was typed.
    fn shown(&self) -> String {
        fcntl(&self.screen, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
        let mut shown = Vec::new();
        let _nothing_more = (&self.screen).read_to_end(&mut shown);
        String::from_utf8(shown).unwrap()
    }
}

fn initialised() -> Value {
    json!({"vault": "ab".repeat(16), "fingerprint": Sha256::ZERO.to_string(), "slot": slot(1, "passphrase")})
}

#[test]
fn a_new_passphrase_is_typed_twice_and_not_shown() {
    let (dir, terminal) = (Dir::new(), Terminal::new());
    let vault = play(&dir, 1, |_| reply(initialised()));
    let (exit, _, stderr) = terminal.run(&dir, &["init", "--passphrase"], "", "hunter22\nhunter22\n");
    assert_eq!(exit, Exit::Ok, "{stderr}");
    assert!(stderr.starts_with("new passphrase: \nthe same passphrase again: \n"), "{stderr}");
    assert_eq!(vault.join().unwrap()[0].pipes, [b"hunter22"]);
    assert_eq!(terminal.shown(), "");
}

/// Nobody plays the vault here: it is not asked.
#[test]
fn two_passphrases_that_differ_are_refused() {
    let (dir, terminal) = (Dir::new(), Terminal::new());
    for (typed, exit, why) in [
        ("hunter2\nhunter3\n", Exit::Invalid, "not the same the second time"),
        ("\n", Exit::Invalid, "nothing came from the terminal"),
        ("hunter2\n\x03", Exit::Failed, "the question for the passphrase was broken off"),
        ("hunt\x1a", Exit::Failed, "the question for the passphrase was broken off"),
        ("\x04", Exit::Failed, "the question for the passphrase was broken off"),
    ] {
        let (found, stdout, stderr) = terminal.run(&dir, &["init", "--passphrase"], "", typed);
        assert_eq!((found, stdout.as_str()), (exit, ""), "{stderr}");
        assert!(stderr.contains(why) && !stderr.contains("hunt"), "{stderr}");
    }
    assert_eq!(terminal.shown(), "");
}

#[test]
fn keys_that_change_the_line_do_and_a_long_one_stays_whole() {
    let (dir, terminal) = (Dir::new(), Terminal::new());
    let vault = play(&dir, 2, |_| reply(json!({"epoch": 8, "version": 1})));
    // Erase a character, kill the line, erase one of two bytes.
    let (exit, _, stderr) = terminal.run(&dir, &["put", "a"], "", "wrong\x15hunterx\x7f\u{e4}\x082\r");
    assert_eq!((exit, stderr.as_str()), (Exit::Ok, "value: \n"));
    // The kernel's own line editing would cut it at 4095 bytes.
    let long = "0123456789".repeat(600);
    let (exit, _, stderr) = terminal.run(&dir, &["put", "b"], "", &format!("{long}\n"));
    assert_eq!(exit, Exit::Ok, "{stderr}");
    let asked = vault.join().unwrap();
    assert_eq!(asked[0].pipes, [b"hunter2"]);
    assert!(asked[1].pipes == [long.as_bytes()]);
    assert_eq!(terminal.shown(), "");
}

#[test]
fn unseal_asks_for_what_there_is_a_slot_for() {
    let (dir, terminal) = (Dir::new(), Terminal::new());
    let vault = play(&dir, 2, |asked| match asked.method.as_str() {
        "vault.status" => {
            reply(status(json!({"state": "sealed", "slots": [slot(1, "shares"), slot(2, "passphrase")]})))
        }
        _ => reply(json!({"status": status(json!({})), "slot": 2})),
    });
    let (exit, stdout, stderr) = terminal.run(&dir, &["unseal"], "", "hunter2\n");
    assert_eq!((exit, stdout.as_str()), (Exit::Ok, "the vault is unsealed, by slot 2\n"), "{stderr}");
    assert_eq!(stderr, "passphrase: \n");
    let asked = vault.join().unwrap();
    assert_eq!(
        (&asked[1].params["with"], &asked[1].pipes),
        (&json!("passphrase"), &vec![b"hunter2".to_vec()])
    );
}

#[test]
fn unseal_asks_for_shares_until_they_are_enough() {
    let (dir, terminal) = (Dir::new(), Terminal::new());
    let taken = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&taken);
    let vault = play(&dir, 3, move |asked| match asked.pipes.first().map(Vec::as_slice) {
        None => reply(status(json!({"state": "sealed", "slots": [slot(1, "shares")]}))),
        Some(b"share-a") => {
            counter.fetch_add(1, Ordering::SeqCst);
            let status = status(
                json!({"state": "sealed", "why": "1 more", "shares": 1, "slots": [slot(1, "shares")]}),
            );
            reply(json!({"status": status}))
        }
        Some(_) => reply(json!({"status": status(json!({})), "slot": 1})),
    });
    // What is typed ahead of the second question is thrown away with it: it is typed when that stands there.
    let (exit, stdout, stderr) = thread::scope(|scope| {
        let typist = scope.spawn(|| {
            for (before, share) in [(0, "share-a\n"), (1, "share-b\n")] {
                while taken.load(Ordering::SeqCst) < before || terminal.echoes() {
                    thread::sleep(Duration::from_millis(1));
                }
                (&terminal.screen).write_all(share.as_bytes()).unwrap();
            }
        });
        let done = octant_on(Links::default(), &dir.0, &["vault", "unseal"], &terminal.keyboard, Some(80));
        typist.join().unwrap();
        done
    });
    assert_eq!((exit, stdout.as_str()), (Exit::Ok, "the vault is unsealed, by slot 1\n"), "{stderr}");
    assert!(
        stderr.contains("still sealed: 1 more (1 given since the last unseal; shares: about shares)"),
        "{stderr}"
    );
    vault.join().unwrap();
}

#[test]
fn without_a_slot_for_people_the_machine_unseals() {
    for (state, turns, exit) in [
        (json!({"state": "sealed", "slots": [slot(1, "tpm")]}), 2, Exit::Ok),
        (json!({}), 1, Exit::Ok),
        (json!({"state": "absent", "why": "none was made"}), 1, Exit::NotFound),
        (json!({"state": "damaged"}), 1, Exit::Unhealthy),
    ] {
        let (dir, terminal) = (Dir::new(), Terminal::new());
        let vault = play(&dir, turns, move |asked| match asked.method.as_str() {
            "vault.status" => reply(status(state.clone())),
            _ => reply(json!({"status": status(json!({})), "slot": 1})),
        });
        let (found, _, stderr) = terminal.run(&dir, &["unseal"], "", "");
        assert_eq!(found, exit, "{stderr}");
        let asked = vault.join().unwrap();
        assert!(asked.get(1).is_none_or(|asked| asked.params == json!({"with": "machine"})));
    }
}

#[test]
fn a_removal_is_asked_about() {
    let (dir, terminal) = (Dir::new(), Terminal::new());
    for answer in ["n\n", "\n", "maybe\n"] {
        let (exit, _, stderr) = terminal.run(&dir, &["rm", "a/b"], answer, "");
        assert_eq!((exit, stderr.contains("was not confirmed")), (Exit::Failed, true), "{stderr}");
    }
    let vault = play(&dir, 1, |_| reply(json!({"epoch": 8})));
    let (exit, stdout, stderr) = terminal.run(&dir, &["rm", "a/b"], "y\n", "");
    assert_eq!((exit, stdout.as_str()), (Exit::Ok, "a/b is removed\n"), "{stderr}");
    assert!(stderr.contains("Remove a/b with all its versions, grants and leases? [y/N]"), "{stderr}");
    vault.join().unwrap();
}

#[test]
fn a_value_is_shown_to_who_types_its_name() {
    let (dir, terminal) = (Dir::new(), Terminal::new());
    let reveal = ["reveal", "prod/a", "--version", "3", "--reason", "by hand"];
    let (exit, stdout, stderr) = terminal.run(&dir, &reveal, "prod/b\n", "");
    assert_eq!((exit, stdout.as_str()), (Exit::Denied, ""));
    assert!(stderr.contains("another name was typed"), "{stderr}");
    let vault = play(&dir, 3, |asked| {
        assert_eq!(asked.params, json!({"name": "prod/a", "version": 3, "reason": "by hand"}));
        reply_with(json!({"kind": "opaque", "version": 3, "bytes": 7}), &["hunter2"])
    });
    let (exit, stdout, stderr) = terminal.run(&dir, &reveal, "prod/a\n", "");
    assert_eq!((exit, stdout.as_str()), (Exit::Ok, "hunter2"), "{stderr}");
    assert!(!stderr.contains("hunter2"), "{stderr}");
    for columns in [None, Some(80)] {
        (&terminal.screen).write_all(b"prod/a\n").unwrap();
        let args = [&["vault"][..], &reveal].concat();
        let (exit, stdout, _) = octant_on(Links::default(), &dir.0, &args, &terminal.keyboard, columns);
        let expected = if columns.is_some() { (Exit::Ok, "hunter2") } else { (Exit::Denied, "") };
        assert_eq!((exit, stdout.as_str()), expected);
        if columns.is_none() {
            // The answer that was not read.
            nix::sys::termios::tcflush(&terminal.keyboard, nix::sys::termios::FlushArg::TCIFLUSH).unwrap();
        }
    }
    let (exit, _, _) = terminal.run(&dir, &reveal, "prod/a\n", "");
    assert_eq!(exit, Exit::Ok);
    vault.join().unwrap();
}

#[test]
fn a_value_that_does_not_arrive_whole_is_not_shown() {
    for pipes in [&[][..], &["hunter"]] {
        let (dir, terminal) = (Dir::new(), Terminal::new());
        let vault =
            play(&dir, 1, move |_| reply_with(json!({"kind": "opaque", "version": 3, "bytes": 7}), pipes));
        let (exit, stdout, stderr) = terminal.run(&dir, &["reveal", "a", "--reason", "r"], "a\n", "");
        assert_eq!((exit, stdout.as_str()), (Exit::Unavailable, ""));
        assert!(!stderr.contains("hunter"), "{stderr}");
        vault.join().unwrap();
    }
}

#[test]
fn after_an_import_it_is_asked_whether_to_shred() {
    for (answer, gone) in [("n\n", false), ("y\n", true)] {
        let (dir, terminal) = (Dir::new(), Terminal::new());
        let env = dir.0.join(".env");
        fs::write(&env, "A=hunter2\n").unwrap();
        let vault = play(&dir, 2, |asked| match asked.method.as_str() {
            "vault.list" => reply(json!({"secrets": []})),
            _ => reply(json!({"epoch": 8, "version": 1})),
        });
        let (exit, _, stderr) = terminal.run(&dir, &["import", env.to_str().unwrap()], answer, "");
        assert_eq!(exit, Exit::Ok, "{stderr}");
        assert!(stderr.contains("Overwrite and remove"), "{stderr}");
        assert_eq!(!env.exists(), gone);
        vault.join().unwrap();
    }
}
