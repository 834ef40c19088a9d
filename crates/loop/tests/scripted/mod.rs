//! A model and an agent's socket that do what a test says. Doubles: nothing of them is a provider.

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;

/// What a model answers.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    /// Words, and the end.
    Text(String),
    /// Calls, each a tool's name and the text of its arguments.
    Calls(Vec<(&'static str, String)>),
    /// Words that end at the answer's greatest length.
    Length(String),
    /// An HTTP status, and the error's type, code and text.
    Fails(u16, &'static str, &'static str),
    /// The beginning of an answer, and then the connection ends.
    Cut(String),
    /// Bytes of a stream, as they are.
    Raw(String),
}

/// One call.
pub(crate) fn call(name: &'static str, arguments: &Value) -> Reply {
    Reply::Calls(vec![(name, arguments.to_string())])
}

/// A model that answers each request by a function of it.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) url: String,
    pub(crate) asked: Arc<Mutex<Vec<Value>>>,
}

impl Model {
    pub(crate) fn start(answer: impl Fn(usize, &Value) -> Reply + Send + Sync + 'static) -> Self {
        Self::known(json!({}), answer)
    }

    /// The same, of which this is known.
    pub(crate) fn known(
        facts: Value,
        answer: impl Fn(usize, &Value) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&asked);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Some(request) = read(&mut stream.as_ref().unwrap()) else { continue };
                if request.is_null() {
                    list(&mut stream.unwrap(), &facts);
                    continue;
                }
                let number = {
                    let mut seen = seen.lock().unwrap();
                    seen.push(request.clone());
                    seen.len() - 1
                };
                write(&mut stream.unwrap(), &answer(number, &request));
            }
        });
        Self { url, asked }
    }

    /// The n-th request.
    pub(crate) fn request(&self, number: usize) -> Value {
        self.asked.lock().unwrap()[number].clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

fn read(stream: &mut &TcpStream) -> Option<Value> {
    let mut lines = BufReader::new(stream);
    let (mut length, mut line) = (0, String::new());
    lines.read_line(&mut line).ok()?;
    let lists = line.starts_with("GET /v1/models ");
    loop {
        line.clear();
        if lines.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line == "\r\n" {
            break;
        }
    }
    if lists {
        return Some(Value::Null);
    }
    let mut body = vec![0; length];
    lines.read_exact(&mut body).ok()?;
    Some(serde_json::from_slice(&body).unwrap())
}

/// The list of models, with the one that there is.
fn list(stream: &mut TcpStream, facts: &Value) {
    let mut row = json!({ "id": "scripted", "object": "model" });
    row.as_object_mut().unwrap().extend(facts.as_object().unwrap().clone());
    let body = json!({ "object": "list", "data": [row] }).to_string();
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    // Who asked may have gone.
    let _ = stream.write_all((head + &body).as_bytes());
}

fn chunk(delta: &Value, finish: Option<&str>) -> String {
    let choice = json!({ "index": 0, "delta": delta, "finish_reason": finish });
    let chunk = json!({ "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "scripted",
        "choices": [choice] });
    format!("data: {chunk}\n\n")
}

fn stream_of(reply: &Reply) -> String {
    let first = chunk(&json!({ "role": "assistant", "content": "" }), None);
    let usage = json!({ "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "scripted",
        "choices": [], "usage": { "prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110 } });
    let words = |text: &str| -> String {
        let (a, b) = text.split_at(text.floor_char_boundary(text.len() / 2));
        [a, b].iter().map(|part| chunk(&json!({ "content": part }), None)).collect()
    };
    let end = |why: &str| format!("{}data: {usage}\n\ndata: [DONE]\n\n", chunk(&json!({}), Some(why)));
    match reply {
        Reply::Text(text) => first + &words(text) + &end("stop"),
        Reply::Length(text) => first + &words(text) + &end("length"),
        Reply::Cut(text) => first + &words(text),
        Reply::Raw(text) => text.clone(),
        Reply::Fails(..) => String::new(),
        Reply::Calls(calls) => {
            let mut text = first;
            for (index, (name, arguments)) in calls.iter().enumerate() {
                let begin = json!({ "index": index, "id": format!("call_{index}"), "type": "function",
                    "function": { "name": name, "arguments": "" } });
                text += &chunk(&json!({ "tool_calls": [begin] }), None);
                let (a, b) = arguments.split_at(arguments.floor_char_boundary(arguments.len() / 2));
                for part in [a, b] {
                    let more = json!({ "index": index, "function": { "arguments": part } });
                    text += &chunk(&json!({ "tool_calls": [more] }), None);
                }
            }
            text + &end("tool_calls")
        }
    }
}

fn write(stream: &mut TcpStream, reply: &Reply) {
    let text = match reply {
        Reply::Fails(status, code, message) => {
            let body = json!({ "error": { "message": message, "type": code, "code": code, "param": null } })
                .to_string();
            format!(
                "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            )
        }
        reply => {
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
            format!("{head}{}", stream_of(reply))
        }
    };
    // Who asked may have gone.
    let _ = stream.write_all(text.as_bytes());
}

/// What the fake of an agent's socket answers: a result, or an error object.
pub(crate) type Said = Result<Value, Value>;

/// An agent's socket that answers each method by a function of it.
#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) path: PathBuf,
    pub(crate) calls: Arc<Mutex<Vec<(String, Value)>>>,
}

impl Socket {
    pub(crate) fn start(
        directory: &Path,
        answer: impl Fn(&str, &Value, usize) -> Option<Said> + Send + Sync + 'static,
    ) -> Self {
        let path = directory.join("agent.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let calls = Arc::new(Mutex::new(Vec::new()));
        let (seen, answer) = (Arc::clone(&calls), Arc::new(answer));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (seen, answer) = (Arc::clone(&seen), Arc::clone(&answer));
                thread::spawn(move || serve(&stream.unwrap(), &seen, &*answer));
            }
        });
        Self { path, calls }
    }

    /// The parameters of every call of a method.
    pub(crate) fn of(&self, method: &str) -> Vec<Value> {
        self.calls.lock().unwrap().iter().filter(|row| row.0 == method).map(|row| row.1.clone()).collect()
    }
}

fn serve(
    stream: &UnixStream,
    seen: &Mutex<Vec<(String, Value)>>,
    answer: &dyn Fn(&str, &Value, usize) -> Option<Said>,
) {
    for line in BufReader::new(stream).lines().map_while(Result::ok) {
        let request: Value = serde_json::from_str(&line).unwrap();
        let method = request["method"].as_str().unwrap().to_owned();
        let params = request["params"].clone();
        let before = {
            let mut seen = seen.lock().unwrap();
            let before = seen.iter().filter(|row| row.0 == method).count();
            seen.push((method.clone(), params.clone()));
            before
        };
        let said = answer(&method, &params, before).unwrap_or_else(|| usual(&method, &params));
        let answer = match said {
            Ok(result) => json!({ "jsonrpc": "2.0", "id": request["id"], "result": result }),
            Err(error) => json!({ "jsonrpc": "2.0", "id": request["id"], "error": error }),
        };
        let mut stream = stream;
        if stream.write_all(format!("{answer}\n").as_bytes()).is_err() {
            return;
        }
    }
}

/// The name of the agent that the fake is of.
pub(crate) const AID: &str = "agent-01kb5c3zq0000000000000000a";

fn usual(method: &str, params: &Value) -> Said {
    let zero = "0".repeat(64);
    match method {
        "agent.self" => Ok(json!({ "aid": AID, "name": "one", "role": "worker", "operator": "alice",
            "state": "running", "depth": 0, "manifest_digest": zero, "grants": [] })),
        "agent.permit" => Ok(json!({})),
        "agent.note" => Ok(json!({ "seq": 1, "hash": zero })),
        "agent.words" => {
            if params["wait_ms"].as_u64().unwrap_or(0) > 0 {
                thread::sleep(std::time::Duration::from_millis(50));
            }
            Ok(json!({ "words": [], "more": false, "stops": 0, "stopped_at": 0 }))
        }
        "tools/list" => Ok(json!({ "tools": [], "resultType": "complete" })),
        other => Err(json!({ "code": -32601, "message": format!("no {other}") })),
    }
}
