//! Clients of language models that programs use, unmodified: what each gives to its caller is what the script says.

use crate::exports::said;
use octant_tests::environment::{Scratch, path};
use octant_tests::upstream::script::{Pieces, SIGNATURE, Says, Script, Turn, Why};
use octant_tests::upstream::{Upstream, seen_image};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The clients in Python, and in JavaScript.
pub(crate) const PYTHON: [&str; 4] = ["chat", "responses", "anthropic", "ollama"];
/// The same for programs of asyncio: many of their questions are in flight at once.
pub(crate) const ASYNCIO: [&str; 4] = ["async-chat", "async-responses", "async-anthropic", "async-ollama"];
pub(crate) const NODE: [&str; 5] = ["chat", "responses", "anthropic", "ai-chat", "ai-anthropic"];
/// What goes well.
pub(crate) const WELL: [&str; 12] = [
    "text",
    "text-bytes",
    "tools",
    "tools-bytes",
    "tools-mixed",
    "shape",
    "image",
    "think",
    "refuse",
    "length",
    "count2000",
    "text-slow100",
];
/// What the provider refuses.
pub(crate) const REFUSED: [&str; 6] = [
    "text-status400",
    "text-status401",
    "text-status429-retry7",
    "text-status500",
    "text-status529",
    "nonsense",
];
/// What breaks, each both in a stream and in one piece.
pub(crate) const BROKEN: [&str; 4] = ["text-cut4", "text-torn4", "text-garbage4", "text-dead"];
/// What breaks in a stream alone.
pub(crate) const ENDLESS: [&str; 3] = ["text-broken4", "text-noend", "text-wrongend"];
/// The image that clients send.
const IMAGE: &str =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

/// One question of one client.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) client: &'static str,
    pub(crate) stream: bool,
    /// What stands before the script in the name of the model.
    pub(crate) before: String,
    pub(crate) script: &'static str,
}

impl Case {
    /// Every client with every script, in both ways.
    pub(crate) fn all(clients: &[&'static str], before: &str, scripts: &[&'static str]) -> Vec<Self> {
        let case = |client, script, stream| Self { client, stream, before: before.to_owned(), script };
        let of = |client: &&'static str| {
            let client = *client;
            scripts.iter().flat_map(move |script| [false, true].map(|stream| case(client, *script, stream)))
        };
        clients.iter().flat_map(of).collect()
    }

    /// What the client is, of whichever kind.
    pub(crate) fn family(&self) -> &'static str {
        self.client.strip_prefix("async-").unwrap_or(self.client)
    }

    fn json(&self) -> Value {
        json!({"client": self.client, "stream": self.stream, "model": format!("{}{}", self.before, self.script)})
    }
}

/// What the clients are told: where they speak to, and what they ask; a place that is absent is in their environment.
pub(crate) fn spec(base: Option<&str>, cases: &[Case]) -> Value {
    let cases: Vec<Value> = cases.iter().map(Case::json).collect();
    match base {
        Some(base) => json!({"openai": format!("{base}/v1"), "anthropic": base, "ollama": base,
            "key": "sk-of-a-test", "cases": cases}),
        None => json!({ "cases": cases }),
    }
}

/// What the clients printed: one object a line.
pub(crate) fn lines(output: &str) -> Vec<Value> {
    let objects = output.lines().filter_map(|line| serde_json::from_str(line).ok());
    objects.filter(|object: &Value| object["case"].is_u64()).collect()
}

/// The programs of clients, and what they are called with.
pub(crate) fn python_words(spec: &Path) -> (PathBuf, Vec<String>) {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/llm_clients.py");
    (
        path("OCTANT_PYTHON"),
        ["-B".into(), program, spec.into()].map(|p: PathBuf| p.display().to_string()).into(),
    )
}

/// The same in JavaScript.
pub(crate) fn node_words(spec: &Path) -> (PathBuf, Vec<String>) {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("node/llm_clients.mjs");
    let place = path("OCTANT_NODE_CLIENTS");
    ("node".into(), [program, spec.into(), place].map(|p: PathBuf| p.display().to_string()).into())
}

/// Why it ends, as this client says it.
pub(crate) fn stop_of(client: &str, why: Why) -> &'static [&'static str] {
    match (client, why) {
        ("chat", Why::Done) | ("ollama", Why::Done | Why::Calls | Why::Refusal) => &["stop"],
        ("chat", Why::Refusal) => &["stop", "content_filter"],
        ("chat", Why::Calls) => &["tool_calls"],
        ("responses", Why::Length) => &["max_output_tokens"],
        ("responses", _) => &["completed"],
        ("anthropic", Why::Done) => &["end_turn"],
        ("anthropic", Why::Calls) => &["tool_use"],
        ("anthropic", Why::Length) => &["max_tokens"],
        ("anthropic", Why::Refusal) => &["refusal"],
        ("ai-chat" | "ai-anthropic", Why::Done) => &["stop"],
        ("ai-chat" | "ai-anthropic", Why::Calls) => &["tool-calls"],
        ("ai-chat" | "ai-anthropic", Why::Refusal) => &["content-filter"],
        _ => &["length"],
    }
}

/// What the script says, as text.
fn text(script: &Script) -> String {
    match script.says {
        Says::Images => {
            use base64::Engine;
            let image = base64::engine::general_purpose::STANDARD.decode(IMAGE);
            seen_image(&image.unwrap_or_else(|why| panic!("{why}")))
        }
        _ => Turn::of(script).text.whole(),
    }
}

/// What a client gave, where the script goes well; what is wrong with it.
pub(crate) fn well(case: &Case, said: &Value) -> Result<(), String> {
    let script = Script::of(case.script).ok_or("no such script")?;
    let turn = Turn::of(&script);
    let of = |field: &str| said[field].as_str().unwrap_or_default();
    let same = |what: &str, found: &Value, wanted: &Value| match found == wanted {
        true => Ok(()),
        false => Err(format!("{what} is {found}, not {wanted}")),
    };
    if !said["error"].is_null() {
        return Err(format!("it failed: {}", said["error"]));
    }
    let whole = text(&script);
    let found = format!("{}{}", of("text"), of("refusal"));
    let short = format!("sha256 {}", digest(&whole));
    if found != whole && !(whole.len() > 4096 && found == short) {
        return Err(format!("the text is {found:?}, not {whole:?}"));
    }
    same("the thought", &said["thought"], &json!(turn.thought.concat()))?;
    if !stop_of(case.family(), turn.why).contains(&of("stop")) {
        return Err(format!("it ends by {}, not {:?}", said["stop"], stop_of(case.family(), turn.why)));
    }
    same("the prompt", &said["input"], &json!(turn.usage.input))?;
    same("the answer", &said["output"], &json!(turn.usage.output))?;
    let calls: Vec<Value> = turn.calls.iter().map(|call| json!([call.name, call.input()])).collect();
    same("what is called", said.get("calls").unwrap_or(&json!([])), &json!(calls))?;
    if !calls.is_empty() {
        let after = "weather=weather 0: Zürich, weather=weather 1: 東京, clock=clock 2: UTC";
        same("what follows from the results", &said["after"], &json!(after))?;
    }
    Ok(())
}

fn digest(text: &str) -> String {
    use sha2::{Digest, Sha256};
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What a client raised, where the script refuses.
pub(crate) fn refused(case: &Case, said: &Value, statuses: &[u64]) -> Result<(), String> {
    let error = &said["error"];
    if !error["status"].as_u64().is_some_and(|status| statuses.contains(&status)) {
        return Err(format!("the status is none of {statuses:?}: {error}"));
    }
    let again = case.script.contains("retry7") && case.family() != "ollama";
    if again && error["again"] != "7" {
        return Err(format!("it does not say when to come again: {error}"));
    }
    Ok(())
}

/// What a client raised, where the answer breaks: what came before is right, and it is no end.
pub(crate) fn broken(said: &Value) -> Result<(), String> {
    let Pieces::Of(pieces) = Turn::of(&Script::of("text").ok_or("no script")?).text else { return Ok(()) };
    let found = said["text"].as_str().unwrap_or_default();
    if !pieces.concat().starts_with(found) {
        return Err(format!("the text before was {found:?}"));
    }
    if said["error"].is_null() { Err(format!("it passes for complete: {said}")) } else { Ok(()) }
}

/// Checks what was said in every case; all that is wrong at once.
#[track_caller]
pub(crate) fn check(cases: &[Case], said: &[Value], of: impl Fn(&Case, &Value) -> Result<(), String>) {
    assert_eq!(said.len(), cases.len(), "the last line: {:?}", said.last());
    let wrong = |(case, said): (&Case, &Value)| {
        of(case, said)
            .err()
            .map(|why| format!("{} {} {}{}: {why}", case.client, case.stream, case.before, case.script))
    };
    let wrong: Vec<String> = cases.iter().zip(said).filter_map(wrong).collect();
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

/// The status of a refusal, as the double gives it.
pub(crate) fn status(script: &str) -> u64 {
    let word = script.split('-').find_map(|word| word.strip_prefix("status"));
    word.and_then(|number| number.parse().ok()).unwrap_or(404)
}

/// Asks the double itself.
fn direct(program: fn(&Path) -> (PathBuf, Vec<String>), clients: &[&'static str]) {
    let upstream = Upstream::start(([127, 0, 0, 1], 0).into()).unwrap_or_else(|why| panic!("{why}"));
    let scratch = Scratch::new("clients");
    let scripts = [&WELL[..], &REFUSED, &BROKEN].concat();
    let mut cases = Case::all(clients, "", &scripts);
    // A client may pass over an event of a stream that is none.
    cases.retain(|case| !case.stream || case.script != "text-garbage4");
    let file = scratch.path("spec.json");
    let base = format!("http://{}", upstream.address());
    fs::write(&file, spec(Some(&base), &cases).to_string()).unwrap_or_else(|why| panic!("{why}"));
    let (program, words) = program(&file);
    let (code, output) = said(Command::new(program).args(words));
    assert_eq!(code, Some(0), "{output}");
    check(&cases, &lines(&output), |case, said| match case.script {
        script if REFUSED.contains(&script) => refused(case, said, &[status(script)]),
        script if BROKEN.contains(&script) => broken(said),
        "think" if case.family() == "anthropic" && said["signature"] != SIGNATURE => {
            Err("no signature".into())
        }
        _ => well(case, said),
    });
}

#[test]
fn clients_in_python_and_the_double_understand_each_other() {
    direct(python_words, &[PYTHON, ASYNCIO].concat());
}

#[test]
fn clients_in_javascript_and_the_double_understand_each_other() {
    direct(node_words, &NODE);
}
