//! Whole commands against sockets that play the services.

use super::{Dir, octant};
use octant_ids::{Aid, Exit, Sha256};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::thread::{self, JoinHandle};

/// What a playing service sends for one request.
pub(crate) struct Answer {
    pub(crate) items: Vec<Value>,
    pub(crate) end: Result<Value, Value>,
}

pub(crate) fn result(end: Value) -> Answer {
    Answer { items: vec![], end: Ok(end) }
}

/// Answers `turns` connections with one request each.
pub(crate) fn play(
    dir: &Dir,
    name: &str,
    turns: usize,
    script: impl Fn(&str, &Value) -> Answer + Send + 'static,
) -> JoinHandle<()> {
    let listener = UnixListener::bind(dir.0.join(format!("run/{name}.sock"))).unwrap();
    thread::spawn(move || {
        for _ in 0..turns {
            let (mut peer, _) = listener.accept().unwrap();
            let mut line = String::new();
            BufReader::new(peer.try_clone().unwrap()).read_line(&mut line).unwrap();
            let request: Value = serde_json::from_str(&line).unwrap();
            let id = &request["id"];
            let answer = script(request["method"].as_str().unwrap(), &request["params"]);
            for item in answer.items {
                let line = json!({"jsonrpc": "2.0", "method": "stream", "params": {"id": id, "item": item}});
                // A command that has seen enough hangs up.
                if writeln!(peer, "{line}").is_err() {
                    break;
                }
            }
            let line = match answer.end {
                Ok(result) => json!({"jsonrpc": "2.0", "id": id, "result": result}),
                Err(error) => json!({"jsonrpc": "2.0", "id": id, "error": error}),
            };
            let _gone = writeln!(peer, "{line}");
        }
    })
}

pub(crate) fn aid() -> String {
    Aid::new(1_773_495_425_123, [7; 10]).to_string()
}

/// An agent as the service answers it, with the members of `change` in place of its own.
fn agent(change: Value) -> Value {
    let mut info = json!({
        "aid": aid(), "name": "incident-report", "role": "analyst", "operator": "operator",
        "state": "running", "started_ms": 1_773_495_425_123_u64, "manifest_digest": Sha256::ZERO.to_string(),
    });
    let members = change.as_object().unwrap().clone();
    info.as_object_mut().unwrap().extend(members);
    info
}

/// A directory with a signed manifest.
fn signed() -> (Dir, String) {
    let dir = Dir::new();
    let at = |name: &str| dir.0.join(name).to_str().unwrap().to_owned();
    let into = dir.0.to_str().unwrap();
    assert_eq!(octant(&dir.0, &["manifest", "keygen", "alice", "--into", into]).0, Exit::Ok);
    let (exit, text, _) = octant(&dir.0, &["manifest", "new", "hello", "--operator", "alice"]);
    assert_eq!(exit, Exit::Ok);
    std::fs::write(at("manifest.toml"), text).unwrap();
    let (exit, _, stderr) = octant(
        &dir.0,
        &["manifest", "sign", &at("manifest.toml"), "--key", &at("alice.key"), "-o", &at("signed")],
    );
    assert_eq!(exit, Exit::Ok, "{stderr}");
    let signed = at("signed");
    (dir, signed)
}

#[test]
fn a_manifest_goes_from_new_to_verified_and_an_altered_one_does_not() {
    let (dir, signed) = signed();
    let at = |name: &str| dir.0.join(name).to_str().unwrap().to_owned();
    let (exit, stdout, stderr) = octant(&dir.0, &["manifest", "check", &at("manifest.toml")]);
    assert_eq!(exit, Exit::Ok, "{stderr}");
    assert!(stdout.contains("utilities   cat ls sh"), "{stdout}");
    assert!(stdout.lines().all(|line| line.len() <= 80 || line.contains("/tmp")), "{stdout}");

    let (exit, _, stderr) = octant(&dir.0, &["manifest", "verify", &signed]);
    assert_eq!(exit, Exit::NotFound, "the instance has no trusted set yet: {stderr}");
    std::fs::create_dir_all(at("etc/trusted")).unwrap();
    std::fs::copy(at("alice.pub"), at("etc/trusted/alice.pub")).unwrap();
    let (exit, stdout, stderr) = octant(&dir.0, &["manifest", "verify", &signed]);
    assert_eq!(exit, Exit::Ok, "{stderr}");
    assert!(stdout.contains("is signed by alice (analyst)"), "{stdout}");

    let envelope = std::fs::read_to_string(&signed).unwrap();
    let mut altered: Value = serde_json::from_str(&envelope).unwrap();
    let payload = altered["payload"].as_str().unwrap();
    altered["payload"] = json!(format!("QUFB{}", &payload[4..]));
    std::fs::write(&signed, altered.to_string()).unwrap();
    let (exit, _, stderr) = octant(&dir.0, &["manifest", "verify", &signed]);
    assert_eq!(exit, Exit::Unverified, "{stderr}");
    assert!(stderr.contains("altered") && stderr.contains("next: the trusted keys are in"), "{stderr}");
}

#[test]
fn a_profile_is_written_out_for_this_machine_and_its_working_directory() {
    let dir = Dir::new();
    let work = dir.0.join("work");
    std::fs::create_dir(&work).unwrap();
    let new = ["manifest", "new", "tests", "--operator", "alice", "--profile", "shell", "--workspace"];
    let args: Vec<&str> =
        new.into_iter().chain([work.to_str().unwrap(), "--", "/usr/bin/env", "-i"]).collect();
    let (exit, text, stderr) = octant(&dir.0, &args);
    assert_eq!(exit, Exit::Ok, "{stderr}");
    assert!(text.contains("role = \"developer\"") && text.contains("profile = \"shell\""), "{text}");
    let real = work.canonicalize().unwrap();
    assert!(text.contains(&format!("write = [{:?}]", real)) && text.contains(&format!("cwd = {real:?}")));
    assert!(text.contains("executable = \"/usr/bin/env\"\nargs = [\"-i\"]"), "{text}");
    let last = args.len() - 2;
    let (exit, _, stderr) = octant(&dir.0, &[&args[..last], &["no-such-program"]].concat());
    assert_eq!(exit, Exit::Invalid);
    assert!(stderr.contains("program.executable") && stderr.contains("no-such-program"), "{stderr}");
    let (exit, _, stderr) = octant(&dir.0, &[&args[..6], &["perl"]].concat());
    assert_eq!(exit, Exit::Usage);
    assert!(stderr.contains("minimal, shell, python, node, compiler"), "{stderr}");
}

#[test]
fn two_manifests_are_compared_and_intersected() {
    let (dir, signed) = signed();
    let at = |name: &str| dir.0.join(name).to_str().unwrap().to_owned();
    let text = std::fs::read_to_string(at("manifest.toml")).unwrap();
    let wider = text
        .replace("pids_max = 16", "pids_max = 99")
        .replace("utilities = [\"sh\", \"ls\", \"cat\"]", "utilities = [\"sh\", \"awk\"]")
        .replace("ttl = \"5min\"", "ttl = \"1min\"");
    std::fs::write(at("wider.toml"), wider).unwrap();
    let (exit, stdout, stderr) = octant(&dir.0, &["manifest", "diff", &signed, &at("wider.toml")]);
    assert_eq!(exit, Exit::Ok, "{stderr}");
    for line in ["resources.pids_max: MORE", "executables.utilities: LESS AND MORE", "lifetime.ttl: less"] {
        assert!(stdout.contains(line), "{line} in {stdout}");
    }
    assert!(stdout.contains("grants more in: executables.utilities, resources.pids_max"), "{stdout}");
    let (_, stdout, _) = octant(&dir.0, &["manifest", "diff", &signed, &at("manifest.toml")]);
    assert_eq!(stdout, "they say the same\n");

    let args = ["--json", "manifest", "intersect", &signed, &at("wider.toml")];
    let (exit, stdout, stderr) = octant(&dir.0, &args);
    assert_eq!(exit, Exit::Ok, "{stderr}");
    let answer: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(answer["startable"], true);
    assert!(answer["narrowed"].as_array().unwrap().iter().any(|n| n["field"] == "resources.pids_max"));
    let pids =
        answer["grants"].as_array().unwrap().iter().find(|row| row[0] == "resources.pids_max").unwrap();
    assert_eq!(pids[1], "16");
}

#[test]
fn check_names_all_that_is_wrong_and_explain_each_line() {
    let (dir, signed) = signed();
    let at = |name: &str| dir.0.join(name).to_str().unwrap().to_owned();
    let text = std::fs::read_to_string(at("manifest.toml")).unwrap();
    let bad = text.replace("pids_max = 16", "pids_max = 0").replace("add = []", "add = [\"bpf\"]");
    std::fs::write(at("bad.toml"), &bad).unwrap();
    let (exit, stdout, stderr) = octant(&dir.0, &["--json", "manifest", "check", &at("bad.toml")]);
    assert_eq!(exit, Exit::Invalid);
    let report: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(report["rules"], json!(["schema", "deny-list"]));
    let line = bad.lines().position(|l| l == "pids_max = 0").unwrap() + 1;
    let problems = report["problems"].as_array().unwrap();
    assert!(problems.iter().any(|p| p["field"] == "resources.pids_max" && p["line"] == line), "{stdout}");
    assert!(stderr.contains("bpf") && stderr.contains("pids_max"), "{stderr}");

    std::fs::write(at("net.toml"), text.replace("allowed = []", "allowed = [\"any\"]")).unwrap();
    let (exit, stdout, _) = octant(&dir.0, &["manifest", "check", &at("net.toml")]);
    assert_eq!(exit, Exit::Ok);
    assert!(stdout.contains("is valid") && stdout.contains("cannot enforce skills.allowed"), "{stdout}");

    let (exit, stdout, stderr) = octant(&dir.0, &["--json", "manifest", "explain", &signed]);
    assert_eq!(exit, Exit::Ok, "{stderr}");
    let rows: Value = serde_json::from_str(&stdout).unwrap();
    let rows = rows.as_array().unwrap();
    assert!(
        rows.iter().all(|row| !row["about"].as_str().unwrap().is_empty()),
        "each has a meaning: {stdout}"
    );
    let row = rows.iter().find(|row| row["field"] == "lifetime.ttl").unwrap();
    assert_eq!(row["line"], text.lines().position(|l| l.starts_with("ttl")).unwrap() + 1);
    let (_, stdout, _) = octant(&dir.0, &["manifest", "schema"]);
    assert!(serde_json::from_str::<Value>(&stdout).unwrap()["properties"]["resources"].is_object());
}

#[test]
fn a_key_is_trusted_expires_and_is_revoked() {
    let (dir, signed) = signed();
    let at = |name: &str| dir.0.join(name).to_str().unwrap().to_owned();
    let verify = || octant(&dir.0, &["manifest", "verify", &signed]);
    let (exit, stdout, stderr) = octant(&dir.0, &["trust", "add", &at("alice.pub")]);
    assert_eq!(exit, Exit::Ok, "{stderr}");
    assert!(stdout.contains("alice.pub is trusted"), "{stdout}");
    assert_eq!(verify().0, Exit::Ok);
    assert_eq!(octant(&dir.0, &["trust", "add", &at("alice.pub")]).0, Exit::Failed, "it is there");

    let (_, stdout, _) = octant(&dir.0, &["--json", "trust", "list"]);
    let keys: Value = serde_json::from_str(&stdout).unwrap();
    let id = keys[0]["key"].as_str().unwrap().to_owned();
    assert_eq!((&keys[0]["operator"], &keys[0]["revoked"]), (&json!("alice"), &Value::Null));
    let missing = octant(&dir.0, &["trust", "revoke", "0000", "--reason", "x"]);
    assert_eq!(missing.0, Exit::NotFound);
    let (exit, _, stderr) = octant(&dir.0, &["trust", "revoke", &id[..16], "--reason", "laptop\nlost"]);
    assert_eq!(exit, Exit::Ok, "{stderr}");
    let (exit, _, stderr) = verify();
    assert_eq!(exit, Exit::Unverified);
    assert!(stderr.contains("revoked: laptop lost"), "{stderr}");
    assert!(octant(&dir.0, &["trust", "list"]).1.contains("no, revoked: laptop lost"));

    // The same operator goes on with another key, which has an end.
    std::fs::create_dir(at("next")).unwrap();
    octant(&dir.0, &["manifest", "keygen", "alice", "--into", &at("next")]);
    std::fs::rename(at("next/alice.pub"), at("next/alice-2.pub")).unwrap();
    let (exit, _, stderr) = octant(&dir.0, &["trust", "add", &at("next/alice-2.pub"), "--until", "2020"]);
    assert_eq!(exit, Exit::Invalid, "{stderr}");
    let args = ["trust", "add", &at("next/alice-2.pub"), "--until", "2020-01-01T00:00:00Z"];
    assert_eq!(octant(&dir.0, &args).0, Exit::Ok);
    octant(
        &dir.0,
        &["manifest", "sign", &at("manifest.toml"), "--key", &at("next/alice.key"), "-o", &signed],
    );
    let (exit, _, stderr) = verify();
    assert_eq!(exit, Exit::Unverified);
    assert!(stderr.contains("counted until"), "{stderr}");
}

#[test]
fn what_a_command_does_becomes_a_manifest() {
    let dir = Dir::new();
    let at = |name: &str| dir.0.join(name).to_str().unwrap().to_owned();
    let learn = ["manifest", "learn", "--operator", "alice", "-o", &at("learned.toml"), "--"];
    let (exit, stdout, stderr) = octant(&dir.0, &[&learn[..], &["/bin/sh", "-c", "exit 3"]].concat());
    assert_eq!(exit, Exit::Ok, "{stderr}");
    assert!(stdout.contains("profile ") && stdout.contains("exit status: 3"), "{stdout}");
    let (exit, stdout, stderr) = octant(&dir.0, &["manifest", "check", &at("learned.toml")]);
    assert_eq!(exit, Exit::Ok, "{stderr}");
    assert!(stdout.contains("execute     /usr") && stdout.contains("-c exit 3"), "{stdout}");
    let (exit, _, _) = octant(&dir.0, &[&learn[..], &["/bin/true"]].concat());
    assert_eq!(exit, Exit::Failed, "it is not overwritten");
}

#[test]
fn a_private_key_is_for_its_owner_alone_and_is_never_overwritten() {
    use std::os::unix::fs::PermissionsExt;
    let (dir, _) = signed();
    let key = dir.0.join("alice.key");
    assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    let before = std::fs::read(&key).unwrap();
    let into = dir.0.to_str().unwrap();
    let (exit, _, stderr) = octant(&dir.0, &["manifest", "keygen", "alice", "--into", into]);
    assert_eq!(exit, Exit::Failed);
    assert!(stderr.contains("cannot write") && stderr.contains("alice.key"), "{stderr}");
    assert_eq!(std::fs::read(&key).unwrap(), before);
    assert_eq!(octant(&dir.0, &["manifest", "keygen", "Not A Name", "--into", into]).0, Exit::Invalid);
    assert!(!dir.0.join("Not A Name.key").exists());
}

#[test]
fn an_error_in_a_manifest_names_its_line() {
    let (dir, _) = signed();
    let path = dir.0.join("manifest.toml");
    let text = std::fs::read_to_string(&path).unwrap().replace("pids_max = 16", "pids_max = 0");
    std::fs::write(&path, text).unwrap();
    let (exit, _, stderr) = octant(&dir.0, &["manifest", "check", path.to_str().unwrap()]);
    assert_eq!(exit, Exit::Invalid);
    assert!(stderr.contains("resources.pids_max") && stderr.contains("line "), "{stderr}");
}

#[test]
fn spawn_prints_the_identifier_alone_and_warns_of_what_is_missing() {
    let (dir, signed) = signed();
    let agents = play(&dir, "agents", 2, |method, params| match method {
        "agents.spawn" => {
            assert!(params["envelope"].as_str().unwrap().contains("payloadType"));
            result(agent(json!({"missing_layers": ["cgroup"]})))
        }
        "agents.wait" => result(agent(json!({"state": "terminated", "exit": {"code": 3}}))),
        other => panic!("{other}"),
    });
    let (exit, stdout, stderr) = octant(&dir.0, &["agent", "spawn", "--wait", &signed]);
    assert_eq!(exit, Exit::Failed);
    assert_eq!(stdout, format!("{}\n", aid()));
    assert!(stderr.contains(&format!("WARNING: {} runs without: cgroup\n", aid())), "{stderr}");
    assert_eq!(stderr.matches("ended with code 3").count(), 1, "{stderr}");
    assert!(stderr.contains("next: `octant agent logs"), "{stderr}");
    agents.join().unwrap();
}

#[test]
fn what_is_prepared_is_asked_for_listed_and_freed() {
    let (dir, signed) = signed();
    let row = |agents: Value| {
        json!({
            "manifest_digest": Sha256::ZERO.to_string(), "name": "report", "operator": "ada",
            "asked_by": "operator:0", "count": 3, "agents": agents,
        })
    };
    let agents = play(&dir, "agents", 4, move |method, params| match method {
        "agents.prepare" => {
            assert!(params["envelope"].as_str().unwrap().contains("payloadType") && params["count"] == 3);
            result(row(json!([aid()])))
        }
        "agents.prepared" => result(json!({"prepared": [row(json!([aid()]))]})),
        "agents.discard" => {
            assert!(params.get("manifest").is_none_or(|digest| *digest == Sha256::ZERO.to_string()));
            result(json!({"prepared": [row(json!([aid(), aid()]))]}))
        }
        other => panic!("{other}"),
    });
    let (exit, stdout, stderr) = octant(&dir.0, &["agent", "prepare", "--count", "3", &signed]);
    assert_eq!((exit, stdout), (Exit::Ok, format!("{}\n", aid())));
    assert!(stderr.contains("can be used 1 more times"), "{stderr}");
    let (_, stdout, _) = octant(&dir.0, &["agent", "prepared"]);
    assert!(
        stdout.contains("WAITING") && stdout.contains("report") && stdout.contains("00000000"),
        "{stdout}"
    );
    assert!(stdout.lines().all(|line| line.chars().count() <= 80), "{stdout}");
    for more in [&[][..], &["--manifest", &Sha256::ZERO.to_string()]] {
        let (_, stdout, _) = octant(&dir.0, &[&["agent", "prepared", "--drop"], more].concat());
        assert_eq!(stdout, format!("{0}\n{0}\n", aid()));
    }
    let (exit, ..) = octant(&dir.0, &["agent", "prepared", "--manifest", &Sha256::ZERO.to_string()]);
    assert_eq!(exit, Exit::Usage, "what is not dropped is listed whole");
    agents.join().unwrap();
}

#[test]
fn a_plain_manifest_is_not_spawned() {
    let (dir, _) = signed();
    let file = dir.0.join("manifest.toml");
    for verb in ["spawn", "prepare"] {
        let (exit, _, stderr) = octant(&dir.0, &["agent", verb, file.to_str().unwrap()]);
        assert_eq!(exit, Exit::Invalid);
        assert!(stderr.contains("not signed") && stderr.contains("octant manifest sign"), "{stderr}");
    }
}

#[test]
fn a_service_error_keeps_its_exit_code_and_its_next_step() {
    let (dir, signed) = signed();
    let agents = play(&dir, "agents", 1, |_, _| Answer {
        items: vec![],
        end: Err(json!({
            "code": -32012, "message": "put a layer in place (cgroup): no pids controller",
            "data": {"what": "", "where": "", "why": "", "next": "ask octant doctor"},
        })),
    });
    let (exit, stdout, stderr) = octant(&dir.0, &["agent", "spawn", &signed]);
    assert_eq!((exit, stdout.as_str()), (Exit::LayerMissing, ""));
    assert_eq!(
        stderr,
        "octant: put a layer in place (cgroup): no pids controller\n  next: ask octant doctor\n"
    );
    agents.join().unwrap();
}

#[test]
fn the_list_of_agents_fits_the_console_with_whole_identifiers() {
    let dir = Dir::new();
    let agents = play(&dir, "agents", 1, |_, params| {
        assert_eq!(params["all"], true);
        let ended = agent(json!({"state": "archived", "exit": {"signal": 9}, "name": "x".repeat(60)}));
        result(json!({"agents": [agent(json!({"missing_layers": ["cgroup"]})), ended]}))
    });
    let (exit, stdout, _) = octant(&dir.0, &["agent", "list", "--all"]);
    assert_eq!(exit, Exit::Ok);
    assert!(stdout.lines().all(|line| line.len() <= 80), "{stdout}");
    assert!(stdout.contains(&aid()) && stdout.contains("cgroup   incident-report"), "{stdout}");
    assert!(stdout.contains("signal 9"), "{stdout}");
    agents.join().unwrap();
}

#[test]
fn logs_go_where_they_were_written_to_and_cannot_control_the_terminal() {
    let dir = Dir::new();
    let agents = play(&dir, "agents", 2, |method, params| match method {
        "agents.list" => result(json!({"agents": [agent(json!({}))]})),
        "agents.logs" => {
            assert_eq!((params["agent"].as_str(), &params["follow"]), (Some(aid().as_str()), &json!(true)));
            // "out\n", ESC "[2J", "err\n"
            let chunk = |stream: &str, data: &str| json!({"stream": stream, "data": data});
            let items =
                vec![chunk("stdout", "b3V0Cg=="), chunk("stdout", "G1sySg=="), chunk("stderr", "ZXJyCg==")];
            Answer { items, end: Ok(json!({"state": "terminated", "lost_bytes": 17})) }
        }
        other => panic!("{other}"),
    });
    let (exit, stdout, stderr) = octant(&dir.0, &["agent", "logs", "-f", "incident-report"]);
    assert_eq!(exit, Exit::Ok, "{stderr}");
    assert_eq!(stdout, "out\n?[2J");
    assert_eq!(stderr, "err\noctant: 17 bytes that it wrote first are not kept any more\n");
    agents.join().unwrap();
}

pub(super) fn entry(seq: u64, kind: &str, actor: &Value, payload: &Value) -> Value {
    json!({
        "seq": seq, "boot_id": "0".repeat(32), "mono_ns": 5, "wall_ms": 1_773_495_425_123_u64, "actor": actor,
        "kind": kind, "payload": payload, "prev": Sha256::ZERO.to_string(), "hash": Sha256::ZERO.to_string(),
    })
}

#[test]
fn the_ledger_reads_as_one_line_an_entry() {
    let dir = Dir::new();
    let ledger = play(&dir, "ledger", 2, |method, params| {
        assert_eq!((method, &params["last"]), ("ledger.tail", &json!(2)));
        let items = vec![
            entry(9, "unit", &json!("init"), &json!({"unit": "ledger", "to": "ready"})),
            entry(10, "note", &json!({"agent": aid()}), &json!({"text": "x".repeat(100)})),
        ];
        Answer { items, end: Ok(json!({"next": 11})) }
    });
    let (exit, stdout, stderr) = octant(&dir.0, &["ledger", "tail", "-n", "2"]);
    assert_eq!(exit, Exit::Ok, "{stderr}");
    let lines: Vec<&str> = stdout.lines().collect();
    assert_eq!(lines[0], "     9 13:37:05.123 init           unit      ledger -> ready");
    assert_eq!(lines[1].len(), 80);
    let end = &aid()[26..];
    assert!(lines[1].starts_with(&format!("    10 13:37:05.123 agent-..{end} note      xxx")), "{stdout}");
    let (_, stdout, _) = octant(&dir.0, &["ledger", "tail", "-n", "2", "--json"]);
    let documents: Vec<Value> = stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(documents[1]["actor"]["agent"], aid());
    ledger.join().unwrap();
}

#[test]
fn an_entry_that_does_not_exist_is_not_its_neighbour() {
    let dir = Dir::new();
    let ledger = play(&dir, "ledger", 2, |_, _| {
        result(json!({"entries": [entry(9, "note", &json!("init"), &json!({"text": "hello"}))]}))
    });
    let (exit, _, stderr) = octant(&dir.0, &["ledger", "show", "8"]);
    assert_eq!((exit, stderr.as_str()), (Exit::NotFound, "octant: there is no ledger entry 8\n"));
    let (exit, stdout, _) = octant(&dir.0, &["ledger", "show", "9"]);
    assert_eq!(exit, Exit::Ok);
    assert!(
        stdout.contains("\"text\": \"hello\"") && stdout.contains("2026-03-14T13:37:05.123Z"),
        "{stdout}"
    );
    ledger.join().unwrap();
}

#[test]
fn a_damaged_ledger_is_exit_7_and_says_where() {
    let dir = Dir::new();
    let ledger = play(&dir, "ledger", 1, |_, _| {
        result(json!({
            "entries": 41, "segments": 1, "bytes": 9000, "head": Sha256::ZERO.to_string(),
            "root": Sha256::ZERO.to_string(),
            "damage": {"segment": "00000001.log", "offset": 8800, "seq": 42, "what": "the hash does not fit",
                       "next": "restore the segment from a copy"},
        }))
    });
    let (exit, stdout, stderr) = octant(&dir.0, &["ledger", "verify"]);
    assert_eq!(exit, Exit::Unverified);
    assert!(stdout.starts_with("41 entries in 1 segments"), "{stdout}");
    assert_eq!(
        stderr,
        "octant: ledger entry 42 (00000001.log at byte 8800) does not verify: the hash does not fit\n  next: \
         restore the segment from a copy\n"
    );
    ledger.join().unwrap();
}

#[test]
fn an_agent_notes_through_its_own_socket_and_nobody_else_has_one() {
    let dir = Dir::new();
    let (exit, _, stderr) = octant(&dir.0, &["note", "hello"]);
    assert_eq!(exit, Exit::Unavailable);
    assert!(stderr.contains("works inside a workstation only"), "{stderr}");
    let agent = play(&dir, "agent", 1, |method, params| {
        assert_eq!((method, &params["text"]), ("agent.note", &json!("hello")));
        result(json!({"seq": 12, "hash": Sha256::ZERO.to_string()}))
    });
    assert_eq!(octant(&dir.0, &["note", "hello"]), (Exit::Ok, "ledger entry 12\n".into(), String::new()));
    agent.join().unwrap();
}

#[test]
fn a_service_that_hangs_up_is_unavailable() {
    let dir = Dir::new();
    let listener = UnixListener::bind(dir.0.join("run/ledger.sock")).unwrap();
    let hang_up = thread::spawn(move || drop(listener.accept().unwrap()));
    let (exit, _, stderr) = octant(&dir.0, &["ledger", "verify"]);
    assert_eq!(exit, Exit::Unavailable, "{stderr}");
    assert!(stderr.contains("ledger.verify"), "{stderr}");
    hang_up.join().unwrap();
}

#[test]
fn a_query_goes_on_to_the_next_page_and_not_in_a_circle() {
    let dir = Dir::new();
    let ledger = play(&dir, "ledger", 3, |_, params| {
        let from = params["from"].as_u64().unwrap();
        let entry = |seq| entry(seq, "note", &json!("init"), &json!({}));
        match (from, params["limit"].as_u64().unwrap()) {
            (0, 3) => result(json!({"entries": [entry(1), entry(2)], "next": 3})),
            (3, 1) => result(json!({"entries": [entry(3)], "next": 4})),
            (7, _) => result(json!({"entries": [], "next": 7})),
            other => panic!("{other:?}"),
        }
    });
    let (exit, stdout, stderr) = octant(&dir.0, &["ledger", "query", "--limit", "3"]);
    assert_eq!((exit, stdout.lines().count()), (Exit::Ok, 3), "{stderr}");
    assert_eq!(stderr, "octant: there is more: --from 4\n");
    let (exit, _, stderr) = octant(&dir.0, &["ledger", "query", "--from", "7"]);
    assert_eq!(exit, Exit::Unavailable);
    assert!(stderr.contains("begins at 7"), "{stderr}");
    ledger.join().unwrap();
}

#[test]
fn attempts_are_made_inside_a_workstation_only() {
    let dir = Dir::new();
    for what in ["connect", "mount", "trace"] {
        let (exit, stdout, stderr) = octant(&dir.0, &["self", "--try", what]);
        assert_eq!((exit, stdout.as_str()), (Exit::Unavailable, ""), "{stderr}");
        assert!(stderr.contains("works inside a workstation only"), "{stderr}");
    }
}

/// A request as the service shows it, about this text.
fn request(what: &str) -> Value {
    json!({
        "id": "3f2a9c0012ab45ef", "action": "spawn", "subject": "lead", "role": "analyst", "agent": aid(),
        "asked_by": "agent", "digest": octant_manifest::digest(what.as_bytes()).to_string(),
        "asked_ms": 1_773_495_425_123_u64, "expires_ms": u64::MAX / 2, "state": "waiting", "why": "",
        "what": serde_json::from_str::<Value>(what).unwrap(),
    })
}

const WHAT: &str = r#"{"action":"spawn","machine":"m1","params":{"manifest":"one\n\u001b[2Jtwo"}}"#;

#[test]
fn an_answer_is_signed_over_what_was_shown_and_given_to_the_service() {
    let (dir, _) = signed();
    let at = |name: &str| dir.0.join(name).to_str().unwrap().to_owned();
    let agents = play(&dir, "agents", 4, |method, params| match method {
        "agents.approval" => result(request(WHAT)),
        "agents.answer" => {
            let envelope = params["envelope"].as_str().unwrap();
            assert_eq!(octant_manifest::Answer::request(envelope.as_bytes()).unwrap(), "3f2a9c0012ab45ef");
            let mut answered = request(WHAT);
            answered["state"] = json!("allowed");
            result(answered)
        }
        other => panic!("{other}"),
    });
    let (exit, stdout, stderr) = octant(&dir.0, &["approvals", "show", "3f2a9c0012ab45ef"]);
    assert_eq!(exit, Exit::Ok, "{stderr}");
    assert!(stdout.contains("    manifest:\n      | one\n"), "all of it is shown: {stdout}");
    assert!(!stdout.contains('\u{1b}'), "and moves no cursor: {stdout:?}");
    let allow = ["approvals", "allow", "3f2a9c0012ab45ef", "--key"];
    let (key, zero) = (at("alice.key"), Sha256::ZERO.to_string());
    let args = [&allow[..], &[&key]].concat();
    let (exit, stdout, stderr) = octant(&dir.0, &args);
    assert_eq!(exit, Exit::Ok, "{stderr}");
    assert!(stdout.starts_with("3f2a9c0012ab45ef is allowed"), "{stdout}");
    // Another digest than the one that was looked at before: nothing is signed.
    let args = [&args[..], &["--digest", &zero]].concat();
    let (exit, _, stderr) = octant(&dir.0, &args);
    assert_eq!(exit, Exit::Denied, "{stderr}");
    agents.join().unwrap();
}

#[test]
fn an_answer_can_be_signed_where_no_service_is_and_not_over_something_else() {
    let (dir, _) = signed();
    let at = |name: &str| dir.0.join(name).to_str().unwrap().to_owned();
    let sign = |request: Value| {
        std::fs::write(at("request.json"), request.to_string()).unwrap();
        let (key, out) = (at("alice.key"), at("answer.json"));
        octant(&dir.0, &["approvals", "sign", "allow", &at("request.json"), "--key", &key, "-o", &out])
    };
    let mut other = request(WHAT);
    other["what"]["params"]["manifest"] = json!("three");
    let (exit, _, stderr) = sign(other);
    assert_eq!(exit, Exit::Invalid, "{stderr}");
    assert!(stderr.contains("not what its digest is of") && !dir.0.join("answer.json").exists(), "{stderr}");
    let mut bare = request(WHAT);
    bare.as_object_mut().unwrap().remove("what");
    assert_eq!(sign(bare).0, Exit::Invalid);
    let (exit, _, stderr) = sign(request(WHAT));
    assert_eq!(exit, Exit::Ok, "{stderr}");
    let agents = play(&dir, "agents", 1, |method, params| {
        assert_eq!(method, "agents.answer");
        assert!(params["envelope"].as_str().unwrap().contains("payloadType"));
        let data = json!({"what": "", "where": "", "why": "", "next": ""});
        let error = json!({"code": -32009, "message": "no trusted key signed this", "data": data});
        Answer { items: vec![], end: Err(error) }
    });
    let (exit, _, stderr) = octant(&dir.0, &["approvals", "answer", &at("answer.json")]);
    assert_eq!(exit, Exit::Unverified, "{stderr}");
    agents.join().unwrap();
}

#[test]
fn a_key_has_the_end_that_it_was_made_with_and_no_second_one() {
    let dir = Dir::new();
    let at = |name: &str| dir.0.join(name).to_str().unwrap().to_owned();
    let into = dir.0.to_str().unwrap();
    let keygen =
        |until: &str| octant(&dir.0, &["manifest", "keygen", "bob", "--until", until, "--into", into]);
    assert_eq!(keygen("tomorrow").0, Exit::Invalid);
    assert!(!dir.0.join("bob.key").exists(), "what would not be trusted is not made");
    assert_eq!(keygen("2030-01-01T00:00:00Z").0, Exit::Ok);
    let later = ["trust", "add", &at("bob.pub"), "--until", "2040-01-01T00:00:00Z"];
    let (exit, _, stderr) = octant(&dir.0, &later);
    assert!(exit == Exit::Invalid && stderr.contains("twice"), "{stderr}");
    let (exit, stdout, stderr) = octant(&dir.0, &["trust", "add", &at("bob.pub")]);
    assert_eq!(exit, Exit::Ok, "{stderr}");
    assert!(stdout.contains("agents does not run"), "{stdout}");
    let (_, stdout, _) = octant(&dir.0, &["trust", "list"]);
    assert!(stdout.contains("until 2030-01-01") && stdout.contains("SINCE"), "{stdout}");
}
