//! A test double of the providers of language models: it says what a script says, in every dialect, and fails in every way.
//!
//! Owns: one HTTP port that speaks OpenAI's chat and responses, Anthropic's messages, Ollama, Gemini and Bedrock's converse,
//! each written by hand from its published format, so that what is tested against it is not tested against itself: it shares
//! no code with Octant's own dialects, nor with the HTTP library that Octant uses.
//! Promises: the same request gets the same bytes. The name of the model is the script ([`script`]). Every call is counted
//! and kept, with its headers, its body and how it ended. A request that the provider would not take is refused.
//! Never: a provider. It is not shipped, and no model is behind it.

mod agent;
mod anthropic;
mod bedrock;
mod chat;
mod gemini;
mod http;
mod ollama;
mod responses;
pub mod script;
mod seen;
mod wire;

pub use agent::result as agent_result;
pub use seen::{Call, Outcome};

use http::Request;
use script::{Script, Turn};
use seen::Seen;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::{self, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use wire::{Stop, Wire};

/// The key that is refused; every other one is taken.
pub const WRONG_KEY: &str = "sk-wrong";
/// How long a script that says nothing waits for its caller to go away.
const HANGS: Duration = Duration::from_secs(120);
/// A caller that has a thousand streams open has a thread here for each.
const STACK: usize = 256 << 10;

/// What the double reads out of a request, whatever the dialect.
#[derive(Debug, Default)]
struct Asked {
    model: String,
    stream: bool,
    /// Whether a stream says what it used.
    usage: bool,
    tools: Vec<Tool>,
    images: Vec<Vec<u8>>,
    /// Whether the answer is to have a shape.
    shaped: bool,
    /// The calls of earlier turns: identifier and name.
    calls: Vec<(String, String)>,
    /// What tools gave back, by the identifiers of their calls.
    results: Vec<(String, String)>,
    /// What the user said, all of it.
    said: String,
}

/// A tool that is offered.
#[derive(Debug)]
struct Tool {
    name: String,
    schema: Value,
}

/// Why a request gets no answer.
#[derive(Debug)]
struct Refused {
    status: u16,
    message: String,
}

impl Refused {
    fn new(status: u16, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    fn bad(message: impl Into<String>) -> Self {
        Self::new(400, message)
    }
}

/// One format of requests and answers.
trait Dialect: Sync {
    /// Reads a request as strictly as the provider does.
    fn ask(&self, request: &Request) -> Result<Asked, Refused>;
    /// The answer in one piece.
    fn whole(&self, turn: &Turn, model: &str) -> Value;
    /// The answer in pieces.
    fn stream(&self, turn: &Turn, asked: &Asked, wire: &mut Wire<'_>) -> Result<(), Stop>;
    /// The body of a refusal.
    fn refused(&self, status: u16, message: &str) -> Value;
    /// An event by which a stream says that it failed.
    fn failed(&self) -> Vec<u8>;
    /// What ends a stream, without what has to stand before it.
    fn wrong_end(&self) -> Vec<u8>;
    /// An event that is none.
    fn garbage(&self) -> Vec<u8> {
        b"data: {\"this is\": not JSON\n\n".to_vec()
    }
    /// The type of a stream.
    fn stream_type(&self) -> &'static str {
        "text/event-stream"
    }
}

/// Which dialect a path speaks; none: it is not one of an answer's.
fn dialect(path: &str) -> Option<&'static dyn Dialect> {
    match path {
        "/v1/chat/completions" => Some(&chat::Chat),
        "/v1/responses" => Some(&responses::Responses),
        "/v1/messages" => Some(&anthropic::Messages),
        "/api/chat" => Some(&ollama::Chat),
        "/api/generate" => Some(&ollama::Generate),
        path if path.ends_with(":generateContent") || path.ends_with(":streamGenerateContent") => {
            Some(&gemini::Gemini)
        }
        path if path.ends_with("/converse") || path.ends_with("/converse-stream") => Some(&bedrock::Converse),
        _ => None,
    }
}

/// What all connections share.
#[derive(Debug, Default)]
struct Shared {
    seen: Mutex<Seen>,
    /// Models that have a script other than their name.
    scripts: Mutex<BTreeMap<String, String>>,
}

impl Shared {
    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn script_of(&self, model: &str) -> String {
        let scripts = self.scripts.lock().unwrap_or_else(PoisonError::into_inner);
        scripts.get(model).cloned().unwrap_or_else(|| model.to_owned())
    }

    fn set_script(&self, model: &str, script: &str) {
        let mut scripts = self.scripts.lock().unwrap_or_else(PoisonError::into_inner);
        scripts.insert(model.to_owned(), script.to_owned());
    }
}

/// A double that listens. Its threads end with the process.
#[derive(Debug)]
pub struct Upstream {
    at: SocketAddr,
    shared: Arc<Shared>,
}

impl Upstream {
    /// Listens at `at`, whose port may be 0.
    ///
    /// # Errors
    /// The port is taken.
    pub fn start(at: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(at)?;
        let shared = Arc::new(Shared::default());
        let upstream = Self { at: listener.local_addr()?, shared: Arc::clone(&shared) };
        thread(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&shared);
                // Without a thread the connection is closed, which its caller sees.
                let _started = thread(move || connection(stream, &shared));
            }
        })?;
        Ok(upstream)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.at
    }

    /// The calls since the last [`Self::forget`], in order.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.shared.seen().calls()
    }

    /// Forgets all calls, and how often each model was asked.
    pub fn forget(&self) {
        *self.shared.seen() = Seen::default();
    }

    /// From now on `model` behaves as `script` says.
    pub fn set_script(&self, model: &str, script: &str) {
        self.shared.set_script(model, script);
    }
}

fn thread(work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    std::thread::Builder::new().stack_size(STACK).spawn(work).map(drop)
}

/// Answers what comes over one connection until either side closes it.
fn connection(stream: TcpStream, shared: &Shared) {
    // Pieces go out as they are made.
    let _same_without = stream.set_nodelay(true);
    let Ok(mut writer) = stream.try_clone() else { return };
    let mut reader = BufReader::new(stream);
    while let Ok(Some(request)) = http::read(&mut reader, &mut writer) {
        if answer(&request, &mut writer, shared).is_err() {
            let _closed = writer.shutdown(std::net::Shutdown::Both);
            return;
        }
    }
}

/// Answers a request; an error closes the connection.
fn answer(request: &Request, writer: &mut TcpStream, shared: &Shared) -> Result<(), Stop> {
    if let Some(control) = request.path.strip_prefix("/control/") {
        let (status, body) = controlled(request, control, shared);
        return http::whole(writer, status, &[], &body).map_err(Stop::from);
    }
    let Some(dialect) = dialect(&request.path) else {
        let (status, body) = beside(request);
        let number = shared.seen().begin(request, "");
        let sent = http::whole(writer, status, &[], &body).map_err(Stop::from);
        shared.seen().end(number, Outcome::of(&sent));
        return sent;
    };
    let asked = dialect.ask(request);
    let model = asked.as_ref().map_or("", |asked| &asked.model).to_owned();
    let number = shared.seen().begin(request, &model);
    let said = match asked {
        Ok(asked) => scripted(dialect, &asked, writer, shared),
        Err(refused) => refuse(dialect, &refused, &[], writer),
    };
    shared.seen().end(number, Outcome::of(&said));
    said
}

fn refuse(
    dialect: &dyn Dialect,
    refused: &Refused,
    headers: &[(&str, String)],
    writer: &mut TcpStream,
) -> Result<(), Stop> {
    let body = dialect.refused(refused.status, &refused.message).to_string();
    http::whole(writer, refused.status, headers, body.as_bytes()).map_err(Stop::from)
}

/// What the script of the model says.
fn scripted(
    dialect: &dyn Dialect,
    asked: &Asked,
    writer: &mut TcpStream,
    shared: &Shared,
) -> Result<(), Stop> {
    let Some(script) = Script::of(&shared.script_of(&asked.model)) else {
        let refused = Refused::new(404, format!("the model `{}` does not exist", asked.model));
        return refuse(dialect, &refused, &[], writer);
    };
    std::thread::sleep(script.before_head);
    if script.hangs {
        wire::until_gone(writer, HANGS);
        return Err(Stop::Gone);
    }
    if script.closes {
        return Err(Stop::Scripted);
    }
    if let Some(status) = script.refuses(shared.seen().times(&asked.model)) {
        let refused = Refused::new(status, format!("scripted failure {status}"));
        return refuse(dialect, &refused, &script.headers(), writer);
    }
    let turn = match turn(&script, asked) {
        Ok(turn) => turn,
        Err(refused) => return refuse(dialect, &refused, &[], writer),
    };
    if asked.stream {
        return streamed(dialect, asked, &script, &turn, writer);
    }
    let body = dialect.whole(&turn, &asked.model).to_string();
    wire::whole(writer, &script, body.as_bytes())
}

fn streamed(
    dialect: &dyn Dialect,
    asked: &Asked,
    script: &Script,
    turn: &Turn,
    writer: &mut TcpStream,
) -> Result<(), Stop> {
    http::stream_head(writer, dialect.stream_type(), &script.headers()).map_err(Stop::from)?;
    let mut wire = Wire::new(writer, script, dialect);
    match dialect.stream(turn, asked, &mut wire) {
        // The script has the stream end here as if it were whole.
        Ok(()) | Err(Stop::Early) => wire.end(),
        Err(stop) => Err(stop),
    }
}

/// What is said: by the script, about what was asked.
fn turn(script: &Script, asked: &Asked) -> Result<Turn, Refused> {
    use script::Says;
    match script.says {
        Says::Tools => called(script, asked),
        Says::Agent => agent::turn(script, asked),
        Says::Errands => agent::errands(script, asked),
        Says::Shape if !asked.shaped => Err(Refused::bad("no schema is asked for")),
        Says::Images if asked.images.is_empty() => Err(Refused::bad("there is no image in the request")),
        Says::Images => {
            Ok(Turn::text(script, &asked.images.iter().map(|i| seen_image(i)).collect::<Vec<_>>()))
        }
        _ => Ok(Turn::of(script)),
    }
}

/// Three calls at a time, and once their results are there, what they were.
fn called(script: &Script, asked: &Asked) -> Result<Turn, Refused> {
    for name in ["weather", "clock"] {
        if !asked.tools.iter().any(|tool| tool.name == name && tool.schema.get("properties").is_some()) {
            return Err(Refused::bad(format!("the tool {name} is not offered with its parameters")));
        }
    }
    if asked.results.is_empty() {
        return Ok(Turn::of(script));
    }
    let result = |call: &(String, String)| {
        let found = asked.results.iter().find(|(id, _)| *id == call.0);
        found.map(|(_, text)| format!("{}={text}", call.1))
    };
    let all: Option<Vec<String>> = asked.calls.iter().map(result).collect();
    let all = all.ok_or_else(|| Refused::bad("a call of a tool has no result"))?;
    Ok(Turn::text(script, &[all.join(", ")]))
}

/// What the double says of an image.
#[must_use]
pub fn seen_image(bytes: &[u8]) -> String {
    format!("[image of {} bytes, sha256 {}]", bytes.len(), hex(&Sha256::digest(bytes)))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A vector of a text: four numbers that every format of floats holds exactly.
#[must_use]
pub fn embedding(text: &str) -> [f32; 4] {
    let digest = Sha256::digest(text.as_bytes());
    std::array::from_fn(|at| f32::from(digest[at]) / 256.0 - 0.5)
}

/// Paths that are not an answer's: models, embeddings, counts of tokens.
fn beside(request: &Request) -> (u16, Vec<u8>) {
    let body: Value = serde_json::from_slice(&request.body).unwrap_or(Value::Null);
    let answer = match request.path.as_str() {
        "/v1/models" => Ok(chat::models()),
        "/v1/embeddings" => chat::embeddings(&body),
        "/v1/messages/count_tokens" => Ok(json!({"input_tokens": script::USAGE.input})),
        "/api/tags" => Ok(ollama::tags()),
        "/api/show" => Ok(ollama::show()),
        "/api/version" => Ok(json!({"version": "0.12.0"})),
        "/api/embed" => ollama::embed(&body),
        path if path.ends_with(":batchEmbedContents") => gemini::embed(&body),
        path => Err(Refused::new(404, format!("there is no path {path}"))),
    };
    match answer {
        Ok(value) => (200, value.to_string().into_bytes()),
        Err(refused) => {
            let error = json!({"error": {"message": refused.message, "type": "invalid_request_error"}});
            (refused.status, error.to_string().into_bytes())
        }
    }
}

/// What a test asks of the double itself.
fn controlled(request: &Request, what: &str, shared: &Shared) -> (u16, Vec<u8>) {
    match (request.method.as_str(), what) {
        ("GET", "calls") => (200, shared.seen().json().to_string().into_bytes()),
        ("POST", "forget") => {
            *shared.seen() = Seen::default();
            (200, b"{}".to_vec())
        }
        ("POST", "script") => match serde_json::from_slice::<BTreeMap<String, String>>(&request.body) {
            Ok(scripts) => {
                scripts.iter().for_each(|(model, script)| shared.set_script(model, script));
                (200, b"{}".to_vec())
            }
            Err(why) => (400, json!({"error": why.to_string()}).to_string().into_bytes()),
        },
        _ => (404, br#"{"error": "GET calls, POST forget, POST script {MODEL: SCRIPT}"}"#.to_vec()),
    }
}

/// A field that has to be there.
fn must<'a>(value: &'a Value, field: &str) -> Result<&'a Value, Refused> {
    value.get(field).ok_or_else(|| Refused::bad(format!("{field}: field required")))
}

/// A field that has to be there and to be text.
fn text_of(value: &Value, field: &str) -> Result<String, Refused> {
    let text = must(value, field)?.as_str().map(str::to_owned);
    text.ok_or_else(|| Refused::bad(format!("{field}: not a string")))
}

/// The elements of a field that is a list or is not there.
fn list<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value.get(field).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The body as JSON.
fn body(request: &Request) -> Result<Value, Refused> {
    if request.method != "POST" {
        return Err(Refused::new(405, format!("{} is not allowed", request.method)));
    }
    serde_json::from_slice(&request.body).map_err(|why| Refused::bad(format!("the body is not JSON: {why}")))
}

/// The key of a request, without which there is no answer.
fn key(given: Option<&str>) -> Result<(), Refused> {
    match given {
        Some(key) if !key.is_empty() && key != WRONG_KEY => Ok(()),
        _ => Err(Refused::new(401, "no valid key is given")),
    }
}

/// Bytes out of base64.
fn bytes_of(base64: &str) -> Result<Vec<u8>, Refused> {
    use base64::Engine;
    let bytes = base64::engine::general_purpose::STANDARD.decode(base64);
    bytes.map_err(|why| Refused::bad(format!("an image is not base64: {why}")))
}

/// Bytes out of a `data:` address with base64.
fn data_url(url: &str) -> Result<Vec<u8>, Refused> {
    let data = url.strip_prefix("data:image/").and_then(|rest| rest.split_once(";base64,"));
    bytes_of(data.ok_or_else(|| Refused::bad("an image is not a data address with base64"))?.1)
}

/// Every result belongs to a call that was made.
fn results_belong(asked: &Asked) -> Result<(), Refused> {
    match asked.results.iter().find(|(id, _)| asked.calls.iter().all(|call| call.0 != *id)) {
        None => Ok(()),
        Some((id, _)) => Err(Refused::bad(format!("the result {id} belongs to no call"))),
    }
}
