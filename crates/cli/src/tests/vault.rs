//! `octant vault` against a socket that plays the vault, and reads what comes in pipes beside the requests.

mod grants;
mod import;
mod lease;
mod policy;
mod slots;
mod store;
mod terminal;
mod unseal;

use super::{Dir, Done, octant, octant_on};
use crate::Links;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use octant_ids::{Exit, Sha256};
use octant_sys::packet;
use serde_json::{Value, json};
use std::fs::File;
use std::io::{self, PipeReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread::{self, JoinHandle};

/// One request as it came.
struct Asked {
    method: String,
    params: Value,
    /// What was in each pipe beside it.
    pipes: Vec<Vec<u8>>,
    /// Regular files beside it.
    files: Vec<File>,
}

/// What is answered, and what goes into a pipe each beside the answer.
struct Reply {
    end: Result<Value, Value>,
    pipes: Vec<Vec<u8>>,
}

fn reply(end: Value) -> Reply {
    Reply { end: Ok(end), pipes: vec![] }
}

fn reply_with(end: Value, pipes: &[&str]) -> Reply {
    Reply { end: Ok(end), pipes: pipes.iter().map(|text| text.as_bytes().to_vec()).collect() }
}

fn refusal(code: i32, message: &str) -> Reply {
    let data = json!({"what": "", "where": "", "why": "", "next": "do something else"});
    Reply { end: Err(json!({"code": code, "message": message, "data": data})), pipes: vec![] }
}

/// The reading end of a pipe with the content, and nobody to write more.
fn piped(content: &[u8]) -> PipeReader {
    let (reading, mut writing) = io::pipe().unwrap();
    writing.write_all(content).unwrap();
    reading
}

fn request(peer: &UnixStream) -> (String, Vec<OwnedFd>) {
    let (mut line, mut fds, mut buffer) = (Vec::new(), Vec::new(), vec![0; 1 << 16]);
    while line.last() != Some(&b'\n') {
        let mut part = packet::receive(peer.as_fd(), &mut buffer).unwrap();
        assert!(part.len > 0, "the request ends within a line");
        line.extend_from_slice(&buffer[..part.len]);
        fds.append(&mut part.fds);
    }
    (String::from_utf8(line).unwrap(), fds)
}

fn read(line: &str, fds: Vec<OwnedFd>) -> Asked {
    let document: Value = serde_json::from_str(line).unwrap();
    let (mut pipes, mut files) = (Vec::new(), Vec::new());
    for mut file in fds.into_iter().map(File::from) {
        if file.metadata().unwrap().is_file() {
            files.push(file);
            continue;
        }
        let mut content = Vec::new();
        // Does not end unless the other side has closed its end.
        file.read_to_end(&mut content).unwrap();
        for form in [String::from_utf8_lossy(&content).into_owned(), STANDARD.encode(&content)] {
            assert!(form.len() < 4 || !line.contains(&form), "a secret is in the message");
        }
        pipes.push(content);
    }
    let method = document["method"].as_str().unwrap().to_owned();
    Asked { method, params: document["params"].clone(), pipes, files }
}

/// Answers `turns` connections with one request each; gives the requests.
fn play(
    dir: &Dir,
    turns: usize,
    script: impl Fn(&Asked) -> Reply + Send + 'static,
) -> JoinHandle<Vec<Asked>> {
    play_at(dir, "vault", turns, script)
}

/// The same behind the socket of this name.
fn play_at(
    dir: &Dir,
    name: &str,
    turns: usize,
    script: impl Fn(&Asked) -> Reply + Send + 'static,
) -> JoinHandle<Vec<Asked>> {
    let listener = UnixListener::bind(dir.0.join(format!("run/{name}.sock"))).unwrap();
    thread::spawn(move || {
        let turn = |_| {
            let (mut peer, _) = listener.accept().unwrap();
            let (line, fds) = request(&peer);
            let asked = read(&line, fds);
            let answer = script(&asked);
            let end = match answer.end {
                Ok(result) => json!({"jsonrpc": "2.0", "id": 1, "result": result}),
                Err(error) => json!({"jsonrpc": "2.0", "id": 1, "error": error}),
            };
            let text = format!("{end}\n");
            let pipes: Vec<PipeReader> = answer.pipes.iter().map(|content| piped(content)).collect();
            let fds: Vec<_> = pipes.iter().map(AsFd::as_fd).collect();
            packet::send(peer.as_fd(), &text.as_bytes()[..1], &fds).unwrap();
            peer.write_all(&text.as_bytes()[1..]).unwrap();
            asked
        };
        (0..turns).map(turn).collect()
    })
}

/// A command with this on standard input, and its answer into a file or pipe.
fn octant_given(dir: &Path, args: &[&str], input: &[u8]) -> Done {
    octant_on(Links::default(), dir, args, &piped(input), None)
}

fn slot(number: u32, kind: &str) -> Value {
    json!({"slot": number, "kind": kind, "created_ms": 1_773_495_425_123_u64, "about": format!("about {kind}")})
}

/// A status with the members of `change` in place of its own.
fn status(change: Value) -> Value {
    let mut status = json!({
        "state": "unsealed", "vault": "ab".repeat(16), "epoch": 7, "fingerprint": Sha256::ZERO.to_string(),
        "slots": [slot(1, "passphrase")], "memory": "memfd_secret", "secrets": 17, "leases": 3,
    });
    let members = change.as_object().unwrap().clone();
    status.as_object_mut().unwrap().extend(members);
    status
}

#[test]
fn the_status_shouts_what_is_bound_to_nothing() {
    let dir = Dir::new();
    let vault = play(&dir, 2, |asked| {
        assert_eq!((asked.method.as_str(), &asked.params), ("vault.status", &json!({})));
        let mut labelled = slot(1, "shares");
        labelled["label"] = json!("board\u{1b}[2J");
        let slots = json!([labelled, slot(2, "static_file")]);
        let (why, warnings) = ("no share\nwas given", json!(["the ledger\u{1b} is late"]));
        reply(status(
            json!({"state": "sealed", "why": why, "slots": slots, "shares": 1, "warnings": warnings}),
        ))
    });
    let (exit, stdout, stderr) = octant(&dir.0, &["vault", "status"]);
    assert_eq!((exit, stderr.as_str()), (Exit::Ok, ""), "{stdout}");
    for line in [
        "  state       sealed",
        "  why         no share?was given",
        "  epoch       7",
        "  slot 1      shares \"board\\u{1b}[2J\": about shares",
        "  slot 2      STATIC static_file: about static_file",
        "  shares      1 given since the last unseal",
        "  keys in     memfd_secret",
        "  secrets     17",
        "  WARNING     the ledger? is late",
        "next: `octant vault unseal`",
    ] {
        assert!(stdout.lines().any(|found| found == line), "{line}: {stdout}");
    }
    assert!(stdout.lines().all(|line| line.len() <= 80), "{stdout}");
    let (_, stdout, _) = octant(&dir.0, &["vault", "status", "--json"]);
    let document: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((&document["slots"][1]["kind"], &document["shares"]), (&json!("static_file"), &json!(1)));
    vault.join().unwrap();
}

/// With two slots that take shares, nobody knows which of them the next share is of.
#[test]
fn shares_that_are_missing_are_counted_where_one_slot_takes_them() {
    let mut shares = slot(4, "shares");
    (shares["threshold"], shares["count"]) = (json!(3), json!(5));
    for (slots, expected) in [
        (json!([shares]), "shares      1 given since the last unseal, 2 missing: slot 4 takes 3 of 5"),
        (json!([shares, shares]), "shares      1 given since the last unseal"),
        (json!([slot(4, "shares")]), "shares      1 given since the last unseal"),
    ] {
        let dir = Dir::new();
        let vault =
            play(&dir, 1, move |_| reply(status(json!({"state": "sealed", "shares": 1, "slots": slots}))));
        let (_, stdout, stderr) = octant(&dir.0, &["vault", "status"]);
        assert!(stdout.lines().any(|line| line.trim() == expected), "{expected}: {stdout}{stderr}");
        vault.join().unwrap();
    }
}

#[test]
fn a_damaged_vault_is_exit_10() {
    let dir = Dir::new();
    let vault = play(&dir, 2, |_| reply(status(json!({"state": "damaged", "why": "page 3 does not fit"}))));
    for args in [&["vault", "status"][..], &["vault", "status", "--json"]] {
        let (exit, stdout, stderr) = octant(&dir.0, args);
        assert_eq!(exit, Exit::Unhealthy);
        assert!(stdout.contains("damaged"), "{stdout}");
        assert!(stderr.contains("page 3 does not fit") && stderr.contains("octant vault doctor"), "{stderr}");
    }
    vault.join().unwrap();
}

#[test]
fn sealing_says_whether_there_was_anything_to_seal() {
    let dir = Dir::new();
    let vault = play(&dir, 3, |asked| {
        assert_eq!(asked.method, "vault.seal");
        reply(json!({"was_unsealed": true}))
    });
    let done = |args: &[&str]| octant(&dir.0, args);
    assert_eq!(done(&["vault", "seal"]), (Exit::Ok, "the vault is sealed\n".into(), String::new()));
    assert_eq!(done(&["vault", "seal", "--json"]).1, "{\"was_unsealed\":true}\n");
    assert_eq!(done(&["--json", "vault", "seal"]).0, Exit::Ok);
    vault.join().unwrap();
}

#[test]
fn the_doctor_is_exit_10_when_something_is_bad() {
    for (mark, exit) in [("bad", Exit::Unhealthy), ("warning", Exit::Ok), ("skipped", Exit::Ok)] {
        let dir = Dir::new();
        let vault = play(&dir, 2, move |asked| {
            assert_eq!(asked.method, "vault.doctor");
            reply(json!({"checks": [
                {"what": "memory", "mark": "good", "found": "memfd_secret"},
                {"what": "tpm", "mark": mark, "found": "no answer\u{7}", "next": "look at its cable"},
            ]}))
        });
        let (found, stdout, stderr) = octant(&dir.0, &["vault", "doctor"]);
        assert_eq!(found, exit, "{stdout}{stderr}");
        assert!(stdout.contains("memory  good") && stdout.contains("no answer?"), "{stdout}");
        assert!(stdout.contains("next, tpm: look at its cable"), "{stdout}");
        assert_eq!(stderr.contains("1 of 2 checks are bad"), exit == Exit::Unhealthy, "{stderr}");
        let (found, stdout, _) = octant(&dir.0, &["vault", "doctor", "--json"]);
        assert_eq!(found, exit);
        assert_eq!(serde_json::from_str::<Value>(&stdout).unwrap()["checks"][1]["mark"], mark);
        vault.join().unwrap();
    }
}

#[test]
fn the_identity_says_what_differs_from_then() {
    let dir = Dir::new();
    let vault = play(&dir, 2, |asked| {
        assert_eq!(asked.method, "vault.identity");
        let key = STANDARD.encode([7; 32]);
        reply(json!({
            "public_key": key, "fingerprint": Sha256::ZERO.to_string(), "created_ms": 0,
            "facts": [
                {"name": "product_uuid", "then": "a", "now": "b", "identifies": true},
                {"name": "kernel", "then": "6.1", "now": "6.12", "identifies": false},
                {"name": "tpm", "identifies": true},
            ],
            "certificate": {"statement": "the log's key\u{1b}", "public_key": key, "signature": key},
        }))
    });
    let (exit, stdout, stderr) = octant(&dir.0, &["vault", "identity"]);
    assert_eq!(exit, Exit::Ok);
    for text in [
        "BwcHBw",
        "the log's key?",
        "product_uuid  a     b     OTHER MACHINE",
        "6.12  changed",
        "tpm           -     -\n",
    ] {
        assert!(stdout.contains(text), "{text}: {stdout}");
    }
    assert!(stderr.contains("this is another machine: product_uuid differs"), "{stderr}");
    let (_, stdout, stderr) = octant(&dir.0, &["vault", "identity", "--json"]);
    assert_eq!(stderr, "");
    assert_eq!(serde_json::from_str::<Value>(&stdout).unwrap()["facts"][0]["now"], "b");
    vault.join().unwrap();
}

/// Whoever writes a secret into the command line by mistake does not see it again in the error.
#[test]
fn an_argument_that_is_one_too_many_is_not_shown() {
    let dir = Dir::new();
    for args in [
        &["vault", "put", "a/b", "hunter2"][..],
        &["vault", "init", "--passphrase", "hunter2"],
        &["vault", "init", "--passphrase=hunter2"],
        &["vault", "unseal", "hunter2"],
        &["vault", "unseal", "--passphrase=--hunter2"],
        &["vault", "put", "a/b", "--", "--hunter2"],
        &["vault", "rotate", "a/b", "-----hunter2"],
        &["vault", "rekey", "--passphrase", "hunter2"],
        &["secret", "release", "hunter2"],
        &["secret", "get", "a", "hunter2"],
    ] {
        let (exit, stdout, stderr) = octant(&dir.0, args);
        assert_eq!((exit, stdout.as_str()), (Exit::Usage, ""), "{args:?}");
        assert!(!stderr.contains("hunter"), "{args:?}: {stderr}");
        assert!(stderr.contains("never arguments"), "{args:?}: {stderr}");
    }
    let (exit, _, stderr) = octant(&dir.0, &["vault", "put", "a", "--lable", "b=c"]);
    assert_eq!((exit, stderr.contains("--label")), (Exit::Usage, true), "{stderr}");
}

#[test]
fn a_refusal_keeps_its_exit_code_and_its_next_step() {
    let dir = Dir::new();
    let vault = play(&dir, 1, |_| refusal(-32003, "put a secret (a): the vault is sealed"));
    let (exit, stdout, stderr) = octant_given(&dir.0, &["vault", "put", "a"], b"hunter2");
    assert_eq!((exit, stdout.as_str()), (Exit::Unavailable, ""));
    assert_eq!(stderr, "octant: put a secret (a): the vault is sealed\n  next: do something else\n");
    let asked = vault.join().unwrap();
    assert_eq!(asked[0].pipes, [b"hunter2"]);
    let (exit, _, stderr) = octant(&Dir::new().0, &["vault", "status"]);
    assert_eq!((exit, stderr.contains("cannot reach vault")), (Exit::Unavailable, true), "{stderr}");
}
