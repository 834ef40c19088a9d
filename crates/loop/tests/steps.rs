//! The loop against a scripted model.

mod scripted;

use octant_loop::core::Settings;
use octant_loop::entry::{End, Entry};
use octant_loop::model::Endpoint;
use octant_loop::transcript::{DIRECTORY, Line, NAME};
use octant_loop::{Form, LoopError, Places, Shown, run};
use scripted::{AID, Model, Reply, Socket, call};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

fn scratch(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("octant-loop-{}-{name}", std::process::id()));
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).unwrap();
    path
}

fn settings() -> Settings {
    Settings {
        model: "scripted".into(),
        system: "Be brief.".into(),
        tools: Vec::new(),
        max_steps: 20,
        max_ms: 120_000,
        window: None,
        max_output: None,
        repeats: 6,
    }
}

/// A run that is under way or over.
struct Run {
    workspace: PathBuf,
    settings: Settings,
    places: Places,
}

impl Run {
    fn new(name: &str, model: &Model) -> Self {
        let workspace = scratch(name);
        let places = Places {
            workspace: workspace.clone(),
            socket: None,
            model: Endpoint::of_url(&model.url).unwrap(),
            key: Some("none".into()),
            task: Some("Do it.".into()),
            tools: Vec::new(),
            form: Some(Form::Lines),
        };
        Self { workspace, settings: settings(), places }
    }

    fn go(&self) -> (Result<End, LoopError>, Vec<Shown>) {
        let mut out = Vec::new();
        let end = run(self.settings.clone(), &self.places, &mut out);
        let text = String::from_utf8(out).unwrap();
        (end, text.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
    }

    fn ended(&self) -> (End, Vec<Shown>) {
        let (end, shown) = self.go();
        (end.unwrap(), shown)
    }

    fn transcript(&self) -> Vec<Line> {
        lines(&self.workspace).iter().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn result(&self) -> Value {
        serde_json::from_slice(&fs::read(self.workspace.join(DIRECTORY).join("result.json")).unwrap())
            .unwrap()
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.workspace);
    }
}

fn lines(workspace: &Path) -> Vec<String> {
    let text = fs::read_to_string(workspace.join(DIRECTORY).join(NAME)).unwrap();
    text.lines().map(str::to_owned).collect()
}

/// How many results of tools a request has.
fn results(request: &Value) -> usize {
    request["messages"].as_array().unwrap().iter().filter(|message| message["role"] == "tool").count()
}

/// The last message of a request.
fn last(request: &Value) -> String {
    request["messages"].as_array().unwrap().last().unwrap()["content"].to_string()
}

/// Five steps: a file is written, run, edited, run again and found; what is answered depends on what came before alone.
fn five(request: &Value) -> Reply {
    match results(request) {
        0 => call("file_write", &json!({ "path": "add.sh", "text": "echo $((40 + 1)) | tee -a count\n" })),
        1 => call("shell_run", &json!({ "command": "sh add.sh" })),
        2 => call("file_edit", &json!({ "path": "add.sh", "old": "40 + 1", "new": "40 + 2" })),
        3 => call("shell_run", &json!({ "command": "sh add.sh" })),
        4 => call("file_search", &json!({ "text": "40 + 2" })),
        _ => Reply::Text("It prints 42.".into()),
    }
}

#[test]
fn a_task_of_five_steps_is_done_with_files_and_shell() {
    let model = Model::start(|_, request| five(request));
    let run = Run::new("five", &model);
    let (end, shown) = run.ended();
    assert_eq!(end, End::Done);
    assert_eq!(fs::read_to_string(run.workspace.join("count")).unwrap(), "41\n42\n");
    let result = run.result();
    assert_eq!((&result["end"], &result["text"]), (&json!("done"), &json!("It prints 42.")));
    assert_eq!((&result["steps"], &result["calls"]), (&json!(6), &json!(5)));
    assert_eq!(result["tokens"], json!({ "input": 600, "output": 60 }));
    assert_eq!(result["files"], json!(["add.sh"]));
    let said: String = shown
        .iter()
        .filter_map(|row| if let Shown::Text { text } = row { Some(text.as_str()) } else { None })
        .collect();
    assert_eq!(said, "It prints 42.");
    assert!(matches!(shown.last(), Some(Shown::Ended { end, .. }) if end == "done"));
    let first = model.request(0);
    assert_eq!((&first["messages"][0]["role"], &first["stream"]), (&json!("system"), &json!(true)));
    assert_eq!(first["messages"][1]["content"], "Do it.");
    assert!(last(&model.request(2)).contains("41\\n[exit code 0]"), "{}", last(&model.request(2)));
    assert!(last(&model.request(5)).contains("add.sh:1:"));
}

#[test]
fn from_wherever_it_was_ended_it_goes_on_and_makes_no_call_twice() {
    let model = Model::start(|_, request| five(request));
    let whole = Run::new("whole", &model);
    whole.ended();
    let all = lines(&whole.workspace);
    for cut in 1..all.len() {
        let run = Run::new(&format!("cut-{cut}"), &model);
        let directory = run.workspace.join(DIRECTORY);
        fs::create_dir_all(&directory).unwrap();
        // And the half of what would have come next.
        let half = &all[cut][..all[cut].len() / 2];
        fs::write(directory.join(NAME), all[..cut].join("\n") + "\n" + half).unwrap();
        let before: Vec<Line> = all[..cut].iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        let begun = before.iter().filter(|line| matches!(line.entry, Entry::Calling { .. })).count();
        let ended = before.iter().filter(|line| matches!(line.entry, Entry::Result { .. })).count();
        if begun > 0 {
            // What was carried out by then.
            fs::copy(whole.workspace.join("add.sh"), run.workspace.join("add.sh")).unwrap();
        }
        assert_eq!(run.ended().0, End::Done, "cut behind line {cut}");
        let after = run.transcript();
        let calls = after.iter().filter(|line| matches!(line.entry, Entry::Calling { .. })).count();
        assert_eq!(calls, 5, "cut behind line {cut}: each call was made once");
        let interrupted = after.iter().filter(
            |line| matches!(&line.entry, Entry::Result { text, .. } if text.starts_with("interrupted")),
        );
        assert_eq!(interrupted.count(), begun - ended, "cut behind line {cut}");
    }
}

#[test]
fn what_has_ended_says_so_again_and_asks_nobody() {
    let model = Model::start(|_, _| Reply::Text("Done.".into()));
    let run = Run::new("again", &model);
    assert_eq!(run.ended().0, End::Done);
    let (end, shown) = run.ended();
    assert_eq!((end, model.count()), (End::Done, 1));
    assert!(matches!(shown.first(), Some(Shown::Began { again: true, .. })));
}

#[test]
fn wrong_calls_are_answered_so_that_the_model_can_do_better() {
    let model = Model::start(|number, _| match number {
        0 => Reply::Calls(vec![
            ("file_read", "{\"path\": \"a".into()),
            ("file_read", "{\"paths\": \"a\"}".into()),
            ("shell_run", "{\"command\": 7}".into()),
            ("rm_rf", "{}".into()),
            ("file_write", json!({ "path": "big", "text": "x".repeat(800 << 10) }).to_string()),
            ("file_read", "[".repeat(100_000)),
        ]),
        _ => Reply::Text("ok".into()),
    });
    let run = Run::new("wrong", &model);
    assert_eq!(run.ended().0, End::Done);
    let told: Vec<String> = run
        .transcript()
        .into_iter()
        .filter_map(|line| match line.entry {
            Entry::Result { text, failed: true, .. } => Some(text),
            Entry::Calling { .. } => panic!("none of them is made"),
            _ => None,
        })
        .collect();
    let wanted = [
        "not JSON",
        "has no \"path\"",
        "has to be a string",
        "there is no tool",
        "do it in parts",
        "not JSON",
    ];
    assert_eq!(told.len(), wanted.len());
    for (text, wanted) in told.iter().zip(wanted) {
        assert!(text.contains(wanted), "{text}");
    }
}

#[test]
fn a_cut_stream_is_asked_again_and_counts_for_nothing() {
    let model = Model::start(|number, _| match number {
        0 => Reply::Cut("Half of".into()),
        1 => Reply::Fails(503, "overloaded", "no room"),
        2 => Reply::Raw("data: {\"choices\": 7}\n\n".into()),
        _ => Reply::Text("Whole.".into()),
    });
    let run = Run::new("cut", &model);
    assert_eq!(run.ended().0, End::Done);
    assert_eq!(run.result()["text"], "Whole.");
    assert_eq!(run.result()["steps"], 1);
    assert_eq!(model.request(3)["messages"], model.request(0)["messages"]);
}

#[test]
fn without_an_answer_it_ends_and_says_why() {
    let rows = [
        (Reply::Fails(429, "insufficient_quota", "the budget is used up"), End::Budget, 1),
        (Reply::Fails(401, "invalid_api_key", "wrong key"), End::Invalid, 1),
        (Reply::Fails(404, "model_not_found", "no such model"), End::Invalid, 1),
        (Reply::Cut(String::new()), End::Unavailable, 4),
    ];
    for (index, (reply, wanted, asked)) in rows.into_iter().enumerate() {
        let model = Model::start(move |_, _| reply.clone());
        let run = Run::new(&format!("none-{index}"), &model);
        let (end, _) = run.ended();
        assert_eq!((end, model.count()), (wanted, asked), "{index}");
        assert!(!run.result()["why"].as_str().unwrap().is_empty());
    }
}

#[test]
fn what_was_reached_is_kept_when_the_budget_ends() {
    let model = Model::start(|number, request| match number {
        0 | 1 => five(request),
        _ => Reply::Fails(429, "insufficient_quota", "the budget is used up"),
    });
    let run = Run::new("budget", &model);
    assert_eq!(run.ended().0, End::Budget);
    let result = run.result();
    assert_eq!(
        (&result["end"], &result["calls"], &result["files"]),
        (&json!("budget"), &json!(2), &json!(["add.sh"]))
    );
    assert!(result["why"].as_str().unwrap().contains("budget is used up"));
}

#[test]
fn steps_and_repetition_end_it() {
    let model = Model::start(|_, _| call("shell_run", &json!({ "command": "echo same" })));
    let run = Run::new("stuck", &model);
    assert_eq!(run.ended().0, End::Stuck);
    assert_eq!(model.count(), 6);
    assert!(last(&model.request(3)).contains("do something else"), "{}", last(&model.request(3)));
    let model = Model::start(|number, _| call("shell_run", &json!({ "command": format!("echo {number}") })));
    let mut run = Run::new("steps", &model);
    run.settings.max_steps = 3;
    assert_eq!(run.ended().0, End::Steps);
    assert_eq!((model.count(), run.result()["calls"].as_u64()), (3, Some(3)));
    let model = Model::start(|_, _| Reply::Text(String::new()));
    let run = Run::new("empty", &model);
    assert_eq!((run.ended().0, model.count()), (End::Stuck, 3));
}

#[test]
fn time_ends_a_command_and_then_the_loop() {
    let model = Model::start(|_, _| call("shell_run", &json!({ "command": "sleep 300" })));
    let mut run = Run::new("time", &model);
    run.settings.max_ms = 1_500;
    assert_eq!(run.ended().0, End::Time);
    assert_eq!(model.count(), 1);
}

#[test]
fn an_answer_that_was_cut_at_its_length_goes_on() {
    let model = Model::start(|number, _| match number {
        0 => Reply::Length("The first part".into()),
        _ => Reply::Text("and the second.".into()),
    });
    let run = Run::new("length", &model);
    assert_eq!(run.ended().0, End::Done);
    assert!(last(&model.request(1)).contains("Go on from there"));
}

#[test]
fn a_long_conversation_is_shortened_and_then_summarised() {
    let model = Model::start(|number, request| {
        let asks_summary = request["tool_choice"] == "none";
        match results(request) {
            _ if asks_summary => Reply::Text("SUMMARY: 3 files were looked at.".into()),
            _ if number > 14 => Reply::Text("Done.".into()),
            _ => call(
                "shell_run",
                &json!({ "command": format!("seq {number} {}; printf x%.0s $(seq 3000)", number + 400) }),
            ),
        }
    });
    let mut run = Run::new("window", &model);
    run.settings.window = Some(6_000);
    assert_eq!(run.ended().0, End::Done);
    let kinds = run.transcript();
    let shortened = kinds.iter().filter(|line| matches!(line.entry, Entry::Shortened { .. })).count();
    let compacted = kinds.iter().filter(|line| matches!(line.entry, Entry::Compacted { .. })).count();
    assert!(shortened > 0 && compacted > 0, "{shortened} {compacted}");
    let last = model.request(model.count() - 1);
    let first = last["messages"][1]["content"].to_string();
    assert!(first.contains("Do it.") && first.contains("SUMMARY"), "{first}");
    // No result is without its call.
    for request in model.asked.lock().unwrap().iter() {
        let mut open: Vec<String> = Vec::new();
        for message in request["messages"].as_array().unwrap() {
            for call in message["tool_calls"].as_array().into_iter().flatten() {
                open.push(call["id"].to_string());
            }
            if message["role"] == "tool" {
                let of = message["tool_call_id"].to_string();
                let at = open.iter().position(|id| *id == of);
                open.remove(at.expect("a result without its call"));
            }
        }
        assert!(open.is_empty(), "a call without its result");
    }
}

#[test]
fn what_is_known_of_the_model_bounds_the_conversation() {
    let long = |number: usize| call("shell_run", &json!({ "command": format!("seq {number} 4000") }));
    for (facts, most, shortens) in [
        (json!({}), None, false),
        (json!({ "context_length": 20_000 }), None, true),
        (json!({ "context_length": 200_000 }), Some(20_000), true),
        (json!({ "context_length": 20_000 }), Some(200_000), true),
    ] {
        let model = Model::known(facts.clone(), move |number, request| match number {
            _ if request["tool_choice"] == "none" => Reply::Text("SUMMARY".into()),
            0..8 => long(number),
            _ => Reply::Text("Done.".into()),
        });
        let mut run = Run::new("known", &model);
        run.settings.window = most;
        assert_eq!(run.ended().0, End::Done);
        let shortened = run.transcript().iter().any(|line| matches!(line.entry, Entry::Shortened { .. }));
        assert_eq!(shortened, shortens, "{facts} {most:?}");
    }
}

#[test]
fn a_picture_is_shown_to_a_model_that_sees_and_is_once_in_the_transcript() {
    let sees = json!({ "architecture": { "input_modalities": ["text", "image"] } });
    let picture = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x02\0\0\0\x03and more";
    for (facts, shown) in [
        (sees, true),
        (json!({ "architecture": { "input_modalities": ["text"] } }), false),
        (json!({}), false),
    ] {
        let model = Model::known(facts, |_, request| match results(request) {
            0 => call("file_read", &json!({ "path": "a.png" })),
            1 => call("shell_run", &json!({ "command": "true" })),
            _ => Reply::Text("Blue.".into()),
        });
        let run = Run::new("picture", &model);
        fs::write(run.workspace.join("a.png"), picture).unwrap();
        assert_eq!(run.ended().0, End::Done);
        let data = "data:image/png;base64,iVBOR";
        for number in [1, 2] {
            let asked = model.request(number).to_string();
            assert_eq!(asked.matches(data).count(), usize::from(shown), "{asked}");
            assert!(asked.contains("2 x 3 pixels"), "{asked}");
        }
        let kept = lines(&run.workspace).join("\n");
        assert!(!kept.contains("iVBOR"), "{kept}");
        assert_eq!(kept.contains("\"sha256\""), shown);
    }
}

#[test]
fn a_window_that_is_smaller_than_was_said_is_learned() {
    let model = Model::start(|number, request| match number {
        0..4 => call("shell_run", &json!({ "command": format!("echo {number}; seq 2000") })),
        4 => Reply::Fails(400, "context_length_exceeded", "too long for this model"),
        _ if request["tool_choice"] == "none" => {
            Reply::Fails(400, "context_length_exceeded", "still too long")
        }
        _ => Reply::Text("Done.".into()),
    });
    let run = Run::new("smaller", &model);
    assert_eq!(run.ended().0, End::Done);
    assert!(model.request(model.count() - 1).to_string().len() < model.request(4).to_string().len());
}

/// A socket with a task, and one tool `send`.
fn with_socket(
    run: &mut Run,
    answer: impl Fn(&str, &Value, usize) -> Option<scripted::Said> + Send + Sync + 'static,
) -> Socket {
    let socket = Socket::start(&run.workspace, move |method, params, before| {
        if let Some(said) = answer(method, params, before) {
            return Some(said);
        }
        match method {
            "agent.words" if params["after"] == 0 => {
                let words = json!([{ "number": 1, "text": "Send it." }]);
                Some(Ok(json!({ "words": words, "more": false, "stops": 0, "stopped_at": 0 })))
            }
            "tools/list" => {
                let schema = json!({ "type": "object", "properties": { "room": { "type": "string" } } });
                let tool = |name: &str| json!({ "name": name, "description": "x", "inputSchema": schema });
                Some(Ok(json!({ "tools": [tool("send"), tool("weather__forecast")] })))
            }
            _ => None,
        }
    });
    run.places.socket = Some(socket.path.clone());
    run.places.task = None;
    socket
}

fn tool_result(text: &str, failed: bool) -> scripted::Said {
    Ok(json!({ "content": [{ "type": "text", "text": text }], "isError": failed }))
}

fn needs(request: &str) -> scripted::Said {
    let error = json!({ "code": -32016, "message": "needs approval", "data": { "what": "", "where": "", "why": "",
        "next": "", "rules": [], "approval": request } });
    Ok(json!({ "content": [{ "type": "text", "text": "needs approval" }], "isError": true,
        "_meta": { "octant/error": error } }))
}

fn approval(state: &str) -> scripted::Said {
    Ok(
        json!({ "id": "3f2a", "action": "message:team", "digest": "0".repeat(64), "state": state, "expires_ms": 1, "why": "by bob" }),
    )
}

#[test]
fn tools_of_the_socket_are_called_and_steps_are_noted_by_digest() {
    let model = Model::start(|_, request| match results(request) {
        0 => Reply::Calls(vec![
            ("octant_send", "{\"room\":\"the-secret-room\"}".into()),
            ("weather__forecast", "{}".into()),
        ]),
        _ => Reply::Text("Sent.".into()),
    });
    let mut run = Run::new("socket", &model);
    let socket = with_socket(&mut run, |method, params, _| match (method, params["name"].as_str()) {
        ("tools/call", Some("send")) => Some(tool_result("{\"seq\":7}", false)),
        ("tools/call", _) => Some(tool_result("this agent's manifest does not allow it", true)),
        _ => None,
    });
    assert_eq!(run.ended().0, End::Done);
    assert_eq!(model.request(0)["messages"][1]["content"], "Send it.");
    let names: Vec<&str> = model.asked.lock().unwrap()[0]["tools"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tool| tool["function"]["name"].as_str().unwrap().to_owned().leak() as &str)
        .collect();
    assert!(
        names.contains(&"octant_send")
            && names.contains(&"weather__forecast")
            && names.contains(&"shell_run")
    );
    let calls = socket.of("tools/call");
    assert_eq!((calls.len(), &calls[0]["arguments"]["room"]), (2, &json!("the-secret-room")));
    assert!(last(&model.request(1)).contains("does not allow it"), "the model reads a refusal");
    let notes = socket.of("agent.note").iter().map(Value::to_string).collect::<String>();
    assert!(
        notes.contains("step 1: octant_send ")
            && notes.contains("weather__forecast")
            && notes.contains("ended, done")
    );
    assert!(!notes.contains("secret-room") && !notes.contains("Sent."), "{notes}");
    assert!(matches!(&run.transcript()[0].entry, Entry::Began { agent, .. } if agent == AID));
}

#[test]
fn what_the_socket_offers_by_now_is_what_the_model_is_asked_with() {
    let model = Model::start(|_, request| match results(request) {
        0 => call("shell_run", &json!({ "command": "touch later" })),
        1 => call("git__push", &json!({})),
        _ => Reply::Text("Pushed.".into()),
    });
    let mut run = Run::new("offered", &model);
    let later = run.workspace.join("later");
    let socket = with_socket(&mut run, move |method, _, _| match method {
        "tools/list" if later.exists() => {
            let tool =
                json!({ "name": "git__push", "description": "x", "inputSchema": { "type": "object" } });
            Some(Ok(json!({ "tools": [tool] })))
        }
        "tools/call" => Some(tool_result("pushed", false)),
        _ => None,
    });
    let (end, shown) = run.ended();
    assert_eq!((end, socket.of("tools/call").len()), (End::Done, 1));
    let names = |number: usize| model.request(number)["tools"].to_string();
    assert!(names(0).contains("octant_send") && !names(0).contains("git__push"));
    assert!(!names(1).contains("octant_send") && names(1).contains("git__push"));
    let told = |row: &&Shown| matches!(row, Shown::Note { text } if text.contains("git__push"));
    assert_eq!(shown.iter().filter(told).count(), 1, "{shown:?}");
}

#[test]
fn an_approval_is_waited_for_and_the_call_made_once_more() {
    let model = Model::start(|_, request| match results(request) {
        0 => call("octant_send", &json!({ "room": "team" })),
        _ => Reply::Text("Sent.".into()),
    });
    let mut run = Run::new("approval", &model);
    let socket = with_socket(&mut run, |method, _, before| match (method, before) {
        ("tools/call", 0) => Some(needs("3f2a")),
        ("tools/call", _) => Some(tool_result("{\"seq\":8}", false)),
        ("agent.approval", 0) => Some(approval("waiting")),
        ("agent.approval", _) => Some(approval("allowed")),
        _ => None,
    });
    let (end, shown) = run.ended();
    assert_eq!(end, End::Done);
    assert!(shown.iter().any(|row| matches!(row, Shown::Waits { request, .. } if request == "3f2a")));
    assert_eq!((socket.of("tools/call").len(), socket.of("agent.approval").len()), (2, 2));
    assert!(last(&model.request(1)).contains("seq"));
}

#[test]
fn what_an_operator_denies_is_told_to_the_model() {
    let model = Model::start(|_, request| match results(request) {
        0 => call("octant_send", &json!({ "room": "team" })),
        _ => Reply::Text("It was not allowed.".into()),
    });
    let mut run = Run::new("denied", &model);
    let socket = with_socket(&mut run, |method, _, _| match method {
        "tools/call" => Some(needs("3f2a")),
        "agent.approval" => Some(approval("denied")),
        _ => None,
    });
    assert_eq!(run.ended().0, End::Done);
    assert_eq!(socket.of("tools/call").len(), 1);
    assert!(last(&model.request(1)).contains("did not approve"), "{}", last(&model.request(1)));
}

/// An error of a native method.
fn error(code: i32, approval: Option<&str>) -> scripted::Said {
    let data = json!({ "what": "ask for approval", "where": "tool:shell_run", "why": "an operator says", "next": "",
        "rules": [], "approval": approval });
    Err(json!({ "code": code, "message": "an operator says", "data": data }))
}

#[test]
fn its_own_tools_wait_for_an_operator_also_over_a_crash() {
    let model = Model::start(|_, request| match results(request) {
        0 => call("shell_run", &json!({ "command": "echo x >> ran" })),
        _ => Reply::Text("Done.".into()),
    });
    let mut run = Run::new("own", &model);
    let ran = run.workspace.join("ran");
    let (before, away) = (ran.clone(), std::sync::atomic::AtomicBool::new(true));
    let socket = with_socket(&mut run, move |method, _, asked| match (method, asked) {
        ("agent.permit", 0) => Some(error(-32016, Some("3f2a"))),
        ("agent.approval", _) if away.swap(false, std::sync::atomic::Ordering::Relaxed) => {
            assert!(!before.exists(), "it ran before it was allowed");
            Some(approval("waiting"))
        }
        ("agent.approval", _) => Some(approval("allowed")),
        _ => None,
    });
    let (end, shown) = run.ended();
    assert_eq!((end, fs::read_to_string(&ran).unwrap().as_str()), (End::Done, "x\n"));
    assert!(shown.iter().any(|row| matches!(row, Shown::Waits { request, .. } if request == "3f2a")));
    let asked = socket.of("agent.permit");
    assert_eq!((asked.len(), &asked[0]), (2, &asked[1]), "exactly what was approved");
    assert_eq!(
        (&asked[0]["tool"], &asked[0]["arguments"]["command"]),
        (&json!("shell_run"), &json!("echo x >> ran"))
    );
    // Ended while it waited, it waits for the same request, and does not ask anew.
    let all = run.transcript();
    let at = all.iter().position(|line| matches!(line.entry, Entry::Waits { .. })).unwrap();
    let mut again = Run::new("own-again", &model);
    fs::create_dir_all(again.workspace.join(DIRECTORY)).unwrap();
    let kept = lines(&run.workspace)[..=at].join("\n") + "\n";
    fs::write(again.workspace.join(DIRECTORY).join(NAME), kept).unwrap();
    let socket = with_socket(&mut again, |method, _, _| match method {
        "agent.approval" => Some(approval("allowed")),
        _ => None,
    });
    assert_eq!(again.ended().0, End::Done);
    assert_eq!((socket.of("agent.approval").len(), socket.of("agent.permit").len()), (1, 1));
    assert_eq!(fs::read_to_string(again.workspace.join("ran")).unwrap(), "x\n");
}

#[test]
fn what_no_operator_allows_its_own_tools_do_not_do() {
    let model = Model::start(|_, request| match results(request) {
        0 => call("shell_run", &json!({ "command": "touch a" })),
        1 => call("file_write", &json!({ "path": "b", "text": "x" })),
        2 => call("file_write", &json!({ "path": "c", "text": "x" })),
        _ => Reply::Text("It was not allowed.".into()),
    });
    let mut run = Run::new("own-denied", &model);
    with_socket(&mut run, |method, params, _| match (method, params["arguments"]["path"].as_str()) {
        ("agent.permit", None) => Some(error(-32016, Some("3f2a"))),
        ("agent.permit", Some("b")) => Some(error(-32001, None)),
        // What is no answer is no permission.
        ("agent.permit", _) => Some(Ok(json!(7))),
        ("agent.approval", _) => Some(approval("denied")),
        _ => None,
    });
    assert_eq!(run.ended().0, End::Done);
    for (request, wanted) in ["did not approve", "not called: ", "cannot be asked"].iter().enumerate() {
        let told = last(&model.request(request + 1));
        assert!(told.contains(wanted), "{told}");
    }
    for name in ["a", "b", "c"] {
        assert!(!run.workspace.join(name).exists(), "{name}");
    }
}

#[test]
fn a_conversation_goes_on_as_long_as_more_may_be_said_and_a_stop_ends_a_turn() {
    let model = Model::start(|number, _| match number {
        0 => Reply::Text("One.".into()),
        1 => call("shell_run", &json!({ "command": "touch running; sleep 300" })),
        _ => Reply::Text("Three.".into()),
    });
    let mut run = Run::new("talk", &model);
    run.settings.max_ms = 60_000;
    let marker = run.workspace.join("running");
    let (asked, quiet) = (std::sync::Arc::clone(&model.asked), std::sync::atomic::AtomicUsize::new(0));
    with_socket(&mut run, move |method, params, _| {
        if method != "agent.words" {
            return None;
        }
        // It has answered for long, and listens, before it is told more.
        let waits = !asked.lock().unwrap().is_empty()
            && quiet.fetch_add(1, std::sync::atomic::Ordering::Relaxed) >= 100;
        let word = |number: u64, text: &str| json!([{ "number": number, "text": text }]);
        let running = marker.exists();
        let (words, stops) = match params["after"].as_u64().unwrap() {
            0 => (word(1, "first"), 0),
            1 if !waits => (json!([]), 0),
            1 => (word(2, "second"), 0),
            2 if !running => (json!([]), 0),
            2 => (word(3, "third"), 1),
            // The conversation is closed.
            _ => (json!([]), 1),
        };
        std::thread::sleep(std::time::Duration::from_millis(20));
        let more = params["after"].as_u64().unwrap() < 2;
        Some(Ok(json!({ "words": words, "more": more, "stops": stops, "stopped_at": 2 * stops })))
    });
    let (end, shown) = run.ended();
    assert_eq!((end, model.count()), (End::Done, 3));
    let told = last(&model.request(2));
    assert!(told.contains("third"), "{told}");
    assert!(model.request(2).to_string().contains("an operator stopped it"), "{}", model.request(2));
    assert!(shown.iter().any(|row| matches!(row, Shown::Turn { .. })));
}

#[test]
fn hostile_output_reaches_no_terminal_as_it_is() {
    let model = Model::start(|number, _| match number {
        0 => call("shell_run", &json!({ "command": "printf '\\033]0;owned\\007'" })),
        _ => Reply::Text("\u{1b}[2J\u{202e}\u{9b}31m".into()),
    });
    let mut run = Run::new("hostile", &model);
    run.places.form = Some(Form::Text);
    let mut out = Vec::new();
    assert_eq!(octant_loop::run(run.settings.clone(), &run.places, &mut out).unwrap(), End::Done);
    let text = String::from_utf8(out).unwrap();
    assert!(text.chars().all(|c| c == '\n' || (!c.is_control() && c != '\u{202e}')), "{text:?}");
    assert!(text.contains("\\u{1b}[2J"), "{text}");
}
