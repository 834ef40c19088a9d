//! The messages of the Agent Client Protocol: JSON-RPC 2.0, one object a line. What an editor sends is checked here.

use serde::Deserialize;
use serde_json::{Value, json};

/// The codes of JSON-RPC that are used.
pub(super) const PARSE: i64 = -32700;
pub(super) const UNKNOWN: i64 = -32601;
pub(super) const WRONG: i64 = -32602;
/// What was asked for was refused, or failed.
pub(super) const REFUSED: i64 = -32000;

/// A line of the editor's.
#[derive(Debug, PartialEq)]
pub(super) enum Line {
    /// A request.
    Request { id: Value, asked: Asked },
    /// A turn is to be stopped.
    Cancel { session: String },
    /// The answer to a request of this side.
    Answer { id: u64, result: Value },
    /// A notification that is not known, or an empty line.
    Nothing,
}

/// A request.
#[derive(Debug, PartialEq)]
pub(super) enum Asked {
    Initialize,
    Authenticate,
    New,
    Load { session: String },
    Prompt { session: String, text: String },
}

#[derive(Deserialize)]
struct Raw {
    jsonrpc: String,
    #[serde(default)]
    id: Option<Value>,
    method: Option<String>,
    #[serde(default)]
    params: Value,
    #[serde(default)]
    result: Value,
}

/// Reads a line; an error says which request it answers.
pub(super) fn read(line: &[u8]) -> Result<Line, (Value, i64, String)> {
    if line.trim_ascii().is_empty() {
        return Ok(Line::Nothing);
    }
    let raw: Raw = serde_json::from_slice(line).map_err(|error| (Value::Null, PARSE, error.to_string()))?;
    let id = raw.id.unwrap_or(Value::Null);
    if raw.jsonrpc != "2.0" {
        return Err((id, PARSE, "its jsonrpc is not 2.0".to_owned()));
    }
    let Some(method) = raw.method else {
        // An error is an answer too: nothing was decided.
        return Ok(id.as_u64().map_or(Line::Nothing, |id| Line::Answer { id, result: raw.result }));
    };
    if id.is_null() {
        return Ok(match (&*method, raw.params["sessionId"].as_str()) {
            ("session/cancel", Some(session)) => Line::Cancel { session: session.to_owned() },
            _ => Line::Nothing,
        });
    }
    match asked(&method, &raw.params) {
        Ok(asked) => Ok(Line::Request { id, asked }),
        Err((code, why)) => Err((id, code, why)),
    }
}

fn asked(method: &str, params: &Value) -> Result<Asked, (i64, String)> {
    let session = || {
        let session = params["sessionId"].as_str().map(str::to_owned);
        session.ok_or_else(|| (WRONG, "there is no sessionId".to_owned()))
    };
    let servers = || match params["mcpServers"].as_array().is_some_and(|servers| !servers.is_empty()) {
        true => {
            Err((WRONG, "servers of tools are named in the agent's manifest, not by the editor".to_owned()))
        }
        false => Ok(()),
    };
    match method {
        "initialize" if params["protocolVersion"].is_u64() => Ok(Asked::Initialize),
        "initialize" => Err((WRONG, "protocolVersion is no number".to_owned())),
        "authenticate" => Ok(Asked::Authenticate),
        "session/new" => servers().map(|()| Asked::New),
        "session/load" => Ok(Asked::Load { session: servers().and_then(|()| session())? }),
        "session/prompt" => Ok(Asked::Prompt { session: session()?, text: prompt(&params["prompt"])? }),
        other => Err((UNKNOWN, format!("there is no method {other}"))),
    }
}

/// The words of a prompt.
fn prompt(blocks: &Value) -> Result<String, (i64, String)> {
    let mut text = String::new();
    for block in blocks.as_array().into_iter().flatten() {
        let said = match (block["type"].as_str(), &block["resource"]["text"], &block["uri"]) {
            (Some("text"), ..) => block["text"].as_str().unwrap_or_default().to_owned(),
            (Some("resource"), Value::String(inside), _) => {
                format!("\n<file uri={}>\n{inside}\n</file>\n", block["resource"]["uri"])
            }
            (Some("resource_link"), _, Value::String(uri)) => format!(" {uri} "),
            (kind, ..) => {
                return Err((
                    WRONG,
                    format!("a part of the prompt is of a kind that is not taken: {kind:?}"),
                ));
            }
        };
        text += &said;
    }
    if text.trim().is_empty() { Err((WRONG, "the prompt is empty".to_owned())) } else { Ok(text) }
}

pub(super) fn answer(id: &Value, result: &Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "result": result })
}

pub(super) fn failure(id: &Value, code: i64, why: &str) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "error": { "code": code, "message": why } })
}

pub(super) fn notification(method: &str, params: &Value) -> Value {
    json!({ "jsonrpc": "2.0", "method": method, "params": params })
}

pub(super) fn request(id: u64, method: &str, params: &Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, proptest};

    fn of(method: &str, params: &Value) -> Result<Asked, i64> {
        let line = request(1, method, params).to_string();
        match read(line.as_bytes()) {
            Ok(Line::Request { id, asked }) => {
                assert_eq!(id, 1);
                Ok(asked)
            }
            Err((id, code, _)) => {
                assert_eq!(id, 1);
                Err(code)
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn requests_are_read_and_what_is_wrong_is_refused() {
        assert_eq!(of("initialize", &json!({ "protocolVersion": 1 })), Ok(Asked::Initialize));
        assert_eq!(of("initialize", &json!({})), Err(WRONG));
        assert_eq!(of("session/new", &json!({ "cwd": "/x", "mcpServers": [] })), Ok(Asked::New));
        assert_eq!(of("session/new", &json!({ "cwd": "/x", "mcpServers": [{ "name": "a" }] })), Err(WRONG));
        assert_eq!(of("session/fork", &json!({})), Err(UNKNOWN));
        let blocks = json!([
            { "type": "text", "text": "look at" },
            { "type": "resource_link", "uri": "file:///a", "name": "a" },
            { "type": "resource", "resource": { "uri": "file:///b", "text": "inside" } },
        ]);
        let text = "look at file:///a \n<file uri=\"file:///b\">\ninside\n</file>\n".to_owned();
        let asked = of("session/prompt", &json!({ "sessionId": "s", "prompt": blocks }));
        assert_eq!(asked, Ok(Asked::Prompt { session: "s".into(), text }));
        for blocks in [json!([]), json!([{ "type": "image", "data": "" }]), json!("text")] {
            assert_eq!(of("session/prompt", &json!({ "sessionId": "s", "prompt": blocks })), Err(WRONG));
        }
        let cancel = notification("session/cancel", &json!({ "sessionId": "s" })).to_string();
        assert_eq!(read(cancel.as_bytes()), Ok(Line::Cancel { session: "s".into() }));
    }

    proptest! {
        #[test]
        fn any_line_is_read_or_refused(line in any::<Vec<u8>>()) {
            // That it comes back is what is tested.
            let _ = read(&line);
        }
    }
}
