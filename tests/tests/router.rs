//! The router, with real programs in workstations and the tests' double as every provider.

use crate::egress::{found, random, wanted};
use crate::exports::{Said, said};
use crate::namespace::{Instance, ended};
use crate::router_matrix::{
    ASYNCIO, BROKEN, Case, ENDLESS, NODE, PYTHON, WELL, broken, check, lines, refused, spec, status, well,
};
use octant_tests::agents::{Agent, guest_files};
use octant_tests::environment::{binary, path};
use octant_tests::upstream::script::{Script, Turn};
use octant_tests::upstream::{Outcome, Upstream, agent_result};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The dialects of the double, as the operator's file names them: how a key is shown, what follows the address.
const DIALECTS: [(&str, &str, &str); 6] = [
    ("chat", "bearer", "/v1"),
    ("responses", "bearer", "/v1"),
    ("anthropic", "header:x-api-key", ""),
    ("ollama", "none", ""),
    ("gemini", "header:x-goog-api-key", "/v1beta"),
    ("bedrock", "bearer", ""),
];
/// The secret in the vault.
const NAME: &str = "double/key";
/// What workstations have in a key's place.
const NO_KEY: &str = "octant-has-the-key";

/// An instance whose router has the double as a provider in each dialect.
struct Models {
    instance: Instance,
    upstream: Upstream,
    /// What programs read.
    files: PathBuf,
    key: String,
}

impl Models {
    /// With a deployment of each script in each dialect, and these lines besides.
    fn new(name: &str, scripts: &[&str], more: &str) -> Self {
        let instance = Instance::new(name);
        let upstream = Upstream::start(([127, 0, 0, 1], 0).into()).unwrap_or_else(|why| panic!("{why}"));
        let files = instance.scratch.path("files");
        fs::create_dir_all(&files).unwrap_or_else(|e| panic!("{}: {e}", files.display()));
        let models = Self { instance, upstream, files, key: format!("sk-{}", random()) };
        models.write("key", &models.key);
        let (code, text) = said(
            Command::new(binary())
                .args(["manifest", "keygen", "maker", "--role", "admin", "--into"])
                .arg(&models.files),
        );
        assert_eq!(code, Some(0), "{text}");
        let public = fs::read(models.files.join("maker.pub")).unwrap_or_else(|e| panic!("{e}"));
        models.instance.write("etc/trusted/maker.pub", &public);
        let config = DIALECTS.iter().map(|dialect| models.provider(dialect, scripts));
        let config = config.fold(more.to_owned(), |all, one| all + &one);
        models.instance.write("etc/router.toml", config.as_bytes());
        models
    }

    fn provider(&self, (dialect, auth, path): &(&str, &str, &str), scripts: &[&str]) -> String {
        let at = self.upstream.address();
        let usage = match *dialect {
            "chat" => "stream_usage = true\n",
            "anthropic" => "headers = { anthropic-version = \"2023-06-01\" }\n",
            _ => "",
        };
        let provider = format!(
            "[[provider]]\nname = \"double-{dialect}\"\nbase = \"http://{at}{path}\"\ndialect = \"{dialect}\"\nauth = \"{auth}\"\n\
             {usage}local = true\n"
        );
        let key = if *auth == "none" { String::new() } else { format!("key = \"{NAME}\"\n") };
        scripts.iter().fold(provider, |all, script| {
            all + &format!(
                "[[deployment]]\nname = \"{dialect}-{script}\"\nprovider = \"double-{dialect}\"\nmodel = \"{script}\"\n{key}\
                 window = 200000\nmax_output = 8192\n\
                 can = [\"tools\", \"parallel_tools\", \"vision\", \"structured\", \"reasoning\", \"streaming\"]\n\
                 price = {{ input = 1000000, output = 2000000 }}\n"
            )
        })
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.files.join(name);
        fs::write(&path, text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    }

    /// The signed manifest of a program that may ask these models.
    fn agent(&self, name: &str, profile: &str, words: &[String], places: &[String], models: &str) -> PathBuf {
        let mut new = Command::new(binary());
        new.args(["manifest", "new", name, "--operator", "maker", "--role", "admin", "--profile", profile]);
        let output = new.output().unwrap_or_else(|e| panic!("manifest new: {e}"));
        let mut manifest: toml::Table = String::from_utf8_lossy(&output.stdout).parse().unwrap();
        let mut set = |section: &str, field: &str, value: toml::Value| {
            manifest[section].as_table_mut().unwrap().insert(field.into(), value);
        };
        let list = |all: &[String]| toml::Value::Array(all.iter().map(|one| one.clone().into()).collect());
        set("program", "executable", words[0].clone().into());
        set("program", "args", list(&words[1..]));
        set("lifetime", "ttl", "10min".into());
        let allowed: toml::Table = models.parse().unwrap_or_else(|e| panic!("{models}: {e}"));
        allowed.into_iter().for_each(|(field, value)| set("models", &field, value));
        let read = manifest["filesystem"]["read"].as_array_mut().unwrap();
        read.extend(places.iter().map(|place| toml::Value::from(place.clone())));
        // Not the profile's own, of which /tmp is one: what is there of the machine would not be there inside.
        let paths: Vec<String> = places.iter().cloned().chain(["/usr".to_owned()]).collect();
        manifest["executables"].as_table_mut().unwrap().insert("paths".into(), list(&paths));
        self.signed(name, &manifest.to_string())
    }

    /// A manifest's envelope.
    fn signed(&self, name: &str, manifest: &str) -> PathBuf {
        self.write(&format!("{name}.toml"), manifest);
        let (source, envelope) =
            (self.files.join(format!("{name}.toml")), self.files.join(format!("{name}.signed.json")));
        let mut sign = Command::new(binary());
        sign.args(["manifest", "sign", "--key"]).arg(self.files.join("maker.key")).arg("--output");
        let (code, text) = said(sign.arg(&envelope).arg(&source));
        assert_eq!(code, Some(0), "{text}");
        envelope
    }

    /// The same of a program in Python below tests/python.
    fn python(&self, name: &str, program: &str, args: &[&str], models: &str) -> PathBuf {
        let (python, script) = (path("OCTANT_PYTHON"), guest_files().join("../python").join(program));
        let target = self.files.join(program);
        fs::copy(&script, &target).unwrap_or_else(|e| panic!("{}: {e}", script.display()));
        let environment = python.parent().and_then(Path::parent).unwrap_or(&python).display().to_string();
        let mut places = vec![environment, crate::servers::base(&python), self.files.display().to_string()];
        places.retain(|place| !place.starts_with("/usr"));
        let words = [python.display().to_string(), "-Bu".to_owned(), target.display().to_string()];
        let words: Vec<String> = words.into_iter().chain(args.iter().map(|arg| (*arg).to_owned())).collect();
        self.agent(name, "python", &words, &places, models)
    }

    /// Runs a job once the vault has the key and the router may use it.
    fn up(&self, seconds: u32, job: &str) -> Said {
        let files = self.files.display();
        let job = format!(
            "set -e\n\
             echo 'correct horse battery' | octant vault init --passphrase > /dev/null\n\
             octant vault put {NAME} --from {files}/key; rm {files}/key\n\
             octant vault grant {NAME} --to service:router --mode use --host 127.0.0.1 --reason test\n\
             until_says() {{ n=0; while ! octant agent logs $1 | grep -q \"$2\"; do n=$((n+1)); [ $n -lt 300 ]; sleep 0.1; done; }}\n\
             {job}"
        );
        self.instance.accepting_for(seconds, &job)
    }
}

/// Every command that shows an operator something of the agent, the key or the router.
const ANSWERS: &str = "octant --json status; octant agent list --all; octant router status; octant router providers; \
    octant router usage; octant router log agent; octant --json router log agent; octant router metrics; octant --json ledger query; octant ledger tail -n 500; \
    octant vault list; octant vault show double/key; \
    for c in show authority budget why logs; do octant agent $c agent; octant --json agent $c agent; done";

#[test]
fn an_agent_of_somebody_else_works_with_its_models_and_the_key_is_nowhere() {
    let models = Models::new("models", &["agent", "text"], "");
    let plain = ["double-responses/text", "double-anthropic/text", "double-ollama/text"];
    let args = [&["double-chat/agent"], &plain[..]].concat();
    models.python(
        "agent",
        "llm_agent.py",
        &args,
        "allowed = [\"double-*\"]\nspend_usd = 1\ntokens = 1000000",
    );
    models.write("wanted", &wanted("key", &models.key));
    let (files, state) = (models.files.display(), models.instance.dir());
    let hunt = guest_files().join("../python/hunt.py");
    let hunt = format!("python3 -B {} {files}/wanted {} < {files}/answers", hunt.display(), state.display());
    let job = format!(
        "octant agent spawn {files}/agent.signed.json\n\
         until_says agent 'stands still'\n\
         octant agent logs agent; octant router log agent; octant agent budget agent; echo ledger:; octant ledger query; echo hunt:\n\
         ( {ANSWERS}; ) > {files}/answers 2>&1 || true\n\
         {hunt}\n\
         octant agent kill agent; octant ledger verify; echo models: done"
    );
    let outcome = models.up(180, &job);
    let answer = format!("answer: {}", agent_result());
    ended(&outcome, 0, &[&answer, "not granted: 403", &format!("key: {NO_KEY}"), "models: done"]);
    assert!(!outcome.1.contains("GOT OUT"), "{}", outcome.1);
    for model in plain {
        assert!(outcome.1.contains(&format!("{model}: \"Gr")), "{model}: {}", outcome.1);
    }
    // Six questions for the task, and one of each other client. Each had the key, and nothing of the workstation's.
    let calls = models.upstream.calls();
    assert_eq!(calls.len(), 9, "{:?}", calls.iter().map(|call| &call.model).collect::<Vec<_>>());
    for call in &calls {
        let keys = call.headers.iter().filter(|(_, value)| value.ends_with(&models.key)).count();
        assert_eq!(keys, usize::from(!call.path.starts_with("/api/")), "{} {:?}", call.path, call.headers);
        assert!(call.headers.iter().all(|(_, value)| !value.contains(NO_KEY)), "{:?}", call.headers);
        assert_eq!(call.outcome, Outcome::Said, "{}", call.path);
    }
    let ledger =
        outcome.1.split("ledger:\n").nth(1).and_then(|rest| rest.split("hunt:\n").next()).unwrap_or_default();
    let intents =
        ledger.lines().filter(|line| line.contains(" intent ") && line.contains("ask a model")).count();
    assert_eq!(intents, calls.len(), "each call is on record once: {ledger}");
    // While it is used it is in the memory of services, and of nobody and nothing else.
    let places = found(&outcome.1, "key");
    let service = |kind: &&str| !["agent", "answers", "state"].iter().any(|word| kind.starts_with(word));
    assert!(places.iter().all(service), "{places:?}");
}

/// As programs of OpenAI's SDK do: the key in a header, and the status of what comes.
const OUTSIDE: &str = "\
import sys, urllib.request, urllib.error
at, key, body = sys.argv[1:]
head = {'x-api-key': key, 'content-type': 'application/json'}
try:
    print('outside:', urllib.request.urlopen(urllib.request.Request(at, body.encode(), head)).status)
except urllib.error.HTTPError as error:
    print('outside:', error.code)
";

#[test]
fn a_program_outside_asks_with_a_key_until_it_is_taken_back() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
    let at = free.unwrap_or_else(|e| panic!("a free port: {e}"));
    let models = Models::new("outside", &["text"], &format!("[listen]\nat = \"{at}\"\n"));
    models.write("ask.py", OUTSIDE);
    let body = r#"{"model":"double-chat/text","max_tokens":50,"messages":[{"role":"user","content":"Hi"}]}"#;
    models.write("body", body);
    let (files, state) = (models.files.display(), models.instance.dir());
    let job = format!(
        "key=$(octant router key new ci --model 'double-*' --tokens-per-day 100000)\n\
         ask() {{ python3 -B {files}/ask.py http://{at}/v1/chat/completions \"$1\" \"$(cat {files}/body)\"; }}\n\
         ask \"$key\"; ask octk_wrong; octant router key list; octant router usage key:ci\n\
         octant router key revoke ci; ask \"$key\"; octant ledger query; octant ledger verify\n\
         if grep -rqF \"$key\" {}; then echo GOT OUT; fi; echo outside: done",
        state.display()
    );
    let outcome = models.up(120, &job);
    ended(&outcome, 0, &[&format!("programs ask at http://{at}"), "key:ci", "outside: done"]);
    let statuses: Vec<&str> = outcome.1.lines().filter_map(|line| line.strip_prefix("outside: ")).collect();
    assert_eq!(statuses, ["200", "401", "401", "done"], "{}", outcome.1);
    assert!(!outcome.1.contains("GOT OUT"), "{}", outcome.1);
    assert_eq!(models.upstream.calls().len(), 1);
}

#[test]
fn sixty_four_callers_spend_a_budget_to_the_unit_and_no_more() {
    const CALLS: usize = 40;
    let models = Models::new("crowd", &["text-in100-out50-slow20"], "");
    let allowed = format!("allowed = [\"double-*\"]\nspend_usd = 100\ntokens = {}", CALLS * 150 + 149);
    models.python("crowd", "llm_crowd.py", &["double-chat/text-in100-out50-slow20", "64"], &allowed);
    let files = models.files.display();
    let job = format!(
        "octant agent spawn --wait {files}/crowd.signed.json\n\
         octant agent logs crowd; octant agent budget crowd; octant ledger verify; echo crowd: done"
    );
    let outcome = models.up(180, &job);
    ended(&outcome, 0, &["end: ", "crowd: done"]);
    let answered = outcome.1.lines().find_map(|line| line.strip_prefix("answered: ")?.parse::<usize>().ok());
    let asked = models.upstream.calls().len();
    assert_eq!(answered, Some(asked), "{}", outcome.1);
    // What a call may use is set apart before it; with the last ones less is left than that, and nothing is overspent.
    assert!((CALLS - 3..=CALLS).contains(&asked), "{asked} calls: {}", outcome.1);
    let row = outcome.1.lines().find(|line| line.starts_with("models.tokens"));
    let row: Vec<&str> = row.unwrap_or_default().split_whitespace().collect();
    assert_eq!(row.get(2), Some(&(asked * 150).to_string().as_str()), "{}", outcome.1);
}

#[test]
fn what_dies_in_the_middle_of_a_stream_is_no_clean_end() {
    let group = "[retry]\ntries = 2\n[[group]]\nname = \"both\"\ndeployments = [\"chat-text-dead\"]\nfallbacks = [\"other\"]\n\
                 [[group]]\nname = \"other\"\ndeployments = [\"chat-text\"]\n";
    let models = Models::new("killed", &["text", "text-dead", "count200-pace100"], group);
    let allowed = "allowed = [\"double-*\", \"both\", \"other\"]\nspend_usd = 100\ntokens = 1000000";
    models.python("killed", "llm_stream.py", &["double-chat/count200-pace100", "both"], allowed);
    let files = models.files.display();
    let job = format!(
        "octant agent spawn {files}/killed.signed.json\n\
         until_says killed begun\n\
         for p in /proc/[0-9]*; do if tr '\\0' ' ' < $p/cmdline 2>/dev/null | grep -q 'svc[ ]router'; then kill -9 ${{p#/proc/}}; fi; done\n\
         until_says killed 'again: '\n\
         octant agent logs killed; octant router log killed; octant ledger query; octant ledger verify; echo killed: done"
    );
    let outcome = models.up(180, &job);
    ended(&outcome, 0, &["begun", "again: stop", "killed: done"]);
    let cut = outcome.1.lines().find_map(|line| line.strip_prefix("cut: ")).unwrap_or_default();
    assert!(cut.ends_with("Error"), "a stream that was cut ended with {cut:?}: {}", outcome.1);
    // Who asked has gone, and so has the call.
    let calls = models.upstream.calls();
    let streamed = calls.iter().find(|call| call.model == "count200-pace100").unwrap();
    assert_eq!(streamed.outcome, Outcome::Gone, "{}", outcome.1);
    let tried: Vec<&str> =
        calls.iter().map(|call| call.model.as_str()).filter(|m| m.starts_with("text")).collect();
    assert!(tried.ends_with(&["text-dead", "text"]) || tried.ends_with(&["text"]), "{tried:?}");
}

/// Runs clients inside with these cases; gives what each printed.
fn clients(models: &Models, name: &str, profile: &str, cases: &[Case]) -> Vec<Value> {
    models.write("spec.json", &spec(None, cases).to_string());
    let (files, allowed) =
        (models.files.display(), "allowed = [\"double-*\"]\nspend_usd = 100\ntokens = 10000000");
    let spec = models.files.join("spec.json");
    if profile == "python" {
        models.python(name, "llm_clients.py", &[&spec.display().to_string()], allowed);
    } else {
        let (_, words) = crate::router_matrix::node_words(&spec);
        let words: Vec<String> = ["/usr/bin/node".to_owned()].into_iter().chain(words).collect();
        let place = |path: &str| Path::new(path).parent().unwrap_or(Path::new("/")).display().to_string();
        let places = [place(&words[1]), words[3].clone(), files.to_string()];
        models.agent(name, profile, &words, &places, allowed);
    }
    let job = format!(
        "octant agent spawn --wait {files}/{name}.signed.json || octant agent why {name}; octant agent logs {name}; \
         octant ledger verify; echo clients: done"
    );
    let outcome = models.up(600, &job);
    ended(&outcome, 0, &["clients: done"]);
    let said = lines(&outcome.1);
    assert_eq!(said.len(), cases.len(), "{}", outcome.1);
    said
}

/// What the provider refuses, but for the key: one that was refused is not shown again until an operator has looked.
const OTHERS: [&str; 4] = ["text-status400", "text-status429-retry7", "text-status500", "text-status529"];
const KEY_REFUSED: &str = "text-status401";

/// What a client can get for its provider's status: 529 is Anthropic's, and 503 everybody's.
fn statuses(case: &Case) -> Vec<u64> {
    match status(case.script) {
        529 => vec![503, 529],
        status => vec![status],
    }
}

/// What the provider will not say: not every dialect has a word for that, and Ollama's clients hear of a failure where it was
/// kept back.
fn refusal(case: &Case, said: &Value) -> Result<(), String> {
    let text = ["text", "refusal"].map(|field| said[field].as_str().unwrap_or_default()).concat();
    let filters = ["gemini", "bedrock"].iter().any(|dialect| case.before.contains(dialect));
    let kept_back = case.family() == "ollama" && filters && !said["error"].is_null();
    match text == Turn::of(&Script::of(case.script).ok_or("no script")?).text.whole() || kept_back {
        true => Ok(()),
        false => Err(format!("it says {said}")),
    }
}

/// What goes well through the router goes as well as straight, whatever the provider speaks; what breaks is no end.
fn through(name: &str, profile: &str, all: &[&'static str], own: &[(&str, &[&'static str])]) {
    let scripts = [&WELL[..], &OTHERS, &[KEY_REFUSED], &BROKEN, &ENDLESS].concat();
    let models = Models::new(name, &scripts, "[retry]\ntries = 1\n");
    let mut cases = Vec::new();
    for (dialect, ..) in DIALECTS {
        // Every client with every provider; faults with some.
        cases.extend(Case::all(all, &format!("double-{dialect}/"), &WELL));
    }
    for (dialect, clients) in own {
        let before = format!("double-{dialect}/");
        cases.extend(Case::all(clients, &before, &OTHERS));
        cases.extend(Case::all(clients, &before, &BROKEN));
        cases.extend(Case::all(clients, &before, &ENDLESS).into_iter().filter(|case| case.stream));
    }
    // Once and last: all providers here have the same key.
    let (last, clients) = own[0];
    let alone = [clients[0].trim_start_matches("async-")];
    let last = Case::all(&alone, &format!("double-{last}/"), &[KEY_REFUSED]);
    cases.extend(last.into_iter().filter(|case| case.stream));
    let said = self::clients(&models, name, profile, &cases);
    check(&cases, &said, |case, said| match case.script {
        "refuse" => refusal(case, said),
        script if OTHERS.contains(&script) || script == KEY_REFUSED => refused(case, said, &statuses(case)),
        script if BROKEN.contains(&script) || ENDLESS.contains(&script) => broken(said),
        _ => well(case, said),
    });
}

#[test]
fn clients_in_python_get_through_the_router_what_they_get_straight() {
    let own: [(&str, &[&str]); 3] = [
        ("chat", &["chat", "anthropic"]),
        ("anthropic", &["anthropic", "responses"]),
        ("ollama", &["ollama", "chat"]),
    ];
    through("inpython", "python", &PYTHON, &own);
}

#[test]
fn clients_of_asyncio_get_the_same_with_many_questions_in_flight() {
    let own: [(&str, &[&str]); 4] = [
        ("gemini", &["async-chat", "async-ollama"]),
        ("bedrock", &["async-anthropic", "async-chat"]),
        ("responses", &["async-responses", "async-anthropic"]),
        ("chat", &["async-ollama", "async-chat"]),
    ];
    through("inasyncio", "python", &ASYNCIO, &own);
}

#[test]
fn clients_in_javascript_get_through_the_router_what_they_get_straight() {
    let own: [(&str, &[&str]); 2] =
        [("responses", &["responses", "ai-chat"]), ("anthropic", &["ai-anthropic", "chat"])];
    through("injavascript", "node", &NODE, &own);
}

#[test]
fn an_editor_drives_an_agent_with_its_protocol_s_own_library() {
    let models = Models::new("editor", &["errands"], "");
    let agent = Agent {
        name: "editor",
        role: "admin",
        program: "/bin/octant",
        args: "\"agent\", \"loop\", \"--model\", \"double-chat/errands\"",
        read: "",
        utilities: ", \"octant\"",
        models: "allowed = [\"double-*\"]\ntokens = 1000000\nspend_usd = 1",
        ..Agent::USUAL
    };
    let manifest = agent.manifest("maker");
    let manifest = manifest
        .replace("hosts = []", "hosts = []\nleases = [\"tls://*.example.org:443\"]")
        .replace("required = []", "required = [\"lease:*\"]");
    let envelope = models.signed("editor", &manifest);
    let (python, files) = (path("OCTANT_PYTHON"), models.files.display());
    let client = guest_files().join("../python/acp_client.py");
    let job = format!(
        "timeout 120 {} -B {} octant acp --manifest {} --key {files}/maker.key || {{ octant agent list --all; octant agent logs editor; false; }}\n\
         octant agent list --all; octant ledger query; octant ledger verify; echo editor: done",
        python.display(),
        client.display(),
        envelope.display(),
    );
    let outcome = models.up(180, &job);
    ended(&outcome, 0, &["editor: done"]);
    let saw = |what: &str| -> Value {
        let line = outcome.1.lines().find_map(|line| line.strip_prefix(what)?.strip_prefix(": "));
        line.and_then(|line| serde_json::from_str(line).ok())
            .unwrap_or_else(|| panic!("no {what} in {}", outcome.1))
    };
    let turn = |stop: &str, said: &str, calls: &[&str], ended: &[&str], asked: &[&str]| json!({"stop": stop, "said": said, "calls": calls, "ended": ended, "asked": asked});
    assert_eq!(saw("initialized"), json!({"version": 1, "load": true}));
    let (write, borrow) = ("file_write edit", "octant_borrow other");
    assert_eq!(saw("written"), turn("end_turn", "1 errands are done.", &[write], &["completed"], &[]));
    let (allowed, denied) = (saw("allowed"), saw("denied"));
    assert_eq!(
        (&allowed["ended"], &denied["ended"]),
        (&json!(["completed"]), &json!(["failed"])),
        "{allowed} {denied}"
    );
    assert!(allowed["asked"][0].as_str().is_some_and(|asked| asked.ends_with(": allow_once")), "{allowed}");
    assert!(denied["asked"][0].as_str().is_some_and(|asked| asked.ends_with(": reject_once")), "{denied}");
    let cancelled = saw("cancelled");
    assert_eq!(
        (&cancelled["stop"], &cancelled["calls"]),
        (&json!("cancelled"), &json!(["shell_run execute"]))
    );
    assert_eq!(saw("after"), turn("end_turn", "4 errands are done.", &[], &[], &[]));
    assert!(saw("unknown")["error"].is_string());
    assert_eq!(saw("loaded"), json!({"calls": [write, borrow, borrow, "shell_run execute"]}));
    assert_eq!(saw("went on"), turn("end_turn", "5 errands are done.", &[write], &["completed"], &[]));
}
