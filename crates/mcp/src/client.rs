//! The other side: what Octant says to a server of tools that somebody else wrote, and how it hears it.
//!
//! Nothing that comes from there is believed. What is neither an answer, a request nor a notification is refused, and of a
//! tool only the parts are taken that are pinned: what an operator has seen is all that an agent is ever shown.

use crate::answer::describe_server;
use crate::request::Revision;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use std::borrow::Cow;

/// The most tools that a server offers.
pub const TOOLS_MAX: usize = 128;
/// The longest text of one tool, in bytes.
pub const TOOL_MAX: usize = 16 << 10;
/// The longest text of all its tools together, in bytes: what changes is shown to an operator in one request.
pub const LIST_MAX: usize = 256 << 10;
/// The longest name of a tool, in bytes.
pub const TOOL_NAME_MAX: usize = 64;
/// How deep what describes a tool nests: a request for approval has it seven levels deep.
const TOOL_DEPTH: usize = 24;
/// The longest cursor between two pages of a list.
const CURSOR_MAX: usize = 1024;
/// How many parts a result has.
const PARTS_MAX: usize = 256;
/// What stands between a server's name and a tool's: no server has it in its name.
pub const BETWEEN: &str = "__";
/// The revisions that begin with the handshake. What they have of tools is the same in all of them, as far as it is used.
const HANDSHAKE: [&str; 4] = ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"];
/// The parts of a tool that are pinned, and shown to agents. Nothing else of it is.
const PARTS: [&str; 6] = ["annotations", "description", "inputSchema", "name", "outputSchema", "title"];

/// What a server says that this side does not take.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// A line.
    #[error("it is no message of JSON-RPC 2.0: {0}")]
    Message(String),
    /// The answer to the handshake.
    #[error("it answers with the revision {0:?}, which is not spoken here")]
    Revision(String),
    /// A server of other things.
    #[error("it says that it has no tools")]
    NoTools,
    /// A page.
    #[error("its list of tools is none: {0}")]
    List(&'static str),
    /// A tool.
    #[error("its tool {name:?} cannot be offered: {why}")]
    Tool {
        /// What it calls it.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// A result.
    #[error("what it answered is no result of a tool: {0}")]
    Result(&'static str),
    /// A result that is a question.
    #[error("it asks for input instead of an answer, and nobody is asked on its behalf")]
    Asks,
}

/// What came from a server.
#[derive(Debug, PartialEq)]
pub enum Heard {
    /// The answer to a request.
    Answer {
        /// Which.
        id: u64,
        /// The result, or the error's code and message.
        result: Result<Value, (i64, String)>,
    },
    /// A request of its own.
    Request {
        /// The text of its id.
        id: String,
        /// What it wants.
        method: String,
    },
    /// Its list of tools is another.
    Changed,
    /// Something that needs no answer and is dropped: progress, its log, lists of what is not used.
    Dropped,
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    jsonrpc: Cow<'a, str>,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    method: Option<Cow<'a, str>>,
    result: Option<Value>,
    error: Option<Failed>,
}

#[derive(Deserialize)]
struct Failed {
    code: i64,
    message: String,
}

/// Reads a line.
///
/// # Errors
/// [`Unfit::Message`].
pub fn hear(line: &[u8]) -> Result<Heard, Unfit> {
    let no = |why: &str| Unfit::Message(why.to_owned());
    // What is wrong with it may quote it at any length.
    let unfit = |e: serde_json::Error| Unfit::Message(e.to_string().chars().take(200).collect());
    let line: Line<'_> = serde_json::from_slice(line).map_err(unfit)?;
    if line.jsonrpc != "2.0" {
        return Err(no("its jsonrpc is not 2.0"));
    }
    match line {
        Line { method: Some(method), id: Some(id), result: None, error: None, .. } => match id.get() {
            id if id.len() > 64 => Err(no("the id of its request is too long")),
            id if id.starts_with(['"', '-']) || id.starts_with(|c: char| c.is_ascii_digit()) => {
                Ok(Heard::Request { id: id.to_owned(), method: method.into_owned() })
            }
            _ => Err(no("the id of its request is neither a text nor a number")),
        },
        Line { method: Some(method), id: None, result: None, error: None, .. } => match &*method {
            "notifications/tools/list_changed" => Ok(Heard::Changed),
            _ => Ok(Heard::Dropped),
        },
        Line { method: None, id: Some(id), result, error, .. } => {
            let id = id.get().parse().map_err(|_| no("it answers something that nobody asked"))?;
            match (result, error) {
                (Some(result), None) => Ok(Heard::Answer { id, result: Ok(result) }),
                (None, Some(error)) => Ok(Heard::Answer { id, result: Err((error.code, error.message)) }),
                _ => Err(no("an answer has a result or an error")),
            }
        }
        _ => Err(no("it is neither a request, an answer nor a notification")),
    }
}

/// Who asks, as the protocol writes it.
fn capabilities() -> Value {
    // None: a server asks nothing of this side.
    json!({})
}

#[derive(Serialize)]
struct Call<'a> {
    name: &'a str,
    arguments: &'a RawValue,
    #[serde(rename = "_meta", skip_serializing_if = "Option::is_none")]
    meta: Option<Value>,
}

fn meta(revision: Revision) -> Option<Value> {
    (revision == Revision::V2026).then(|| {
        json!({
            "io.modelcontextprotocol/protocolVersion": revision.name(),
            "io.modelcontextprotocol/clientCapabilities": capabilities(),
            "io.modelcontextprotocol/clientInfo": describe_server(),
        })
    })
}

fn request(id: u64, method: &str, params: &impl Serialize) -> String {
    // Values and texts that were read before: there is nothing in them that JSON cannot say.
    json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }).to_string()
}

/// The handshake.
#[must_use]
pub fn initialize(id: u64) -> String {
    let params = json!({
        "protocolVersion": Revision::V2025.name(),
        "capabilities": capabilities(),
        "clientInfo": describe_server(),
    });
    request(id, "initialize", &params)
}

/// Its second part.
#[must_use]
pub fn initialized() -> String {
    json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }).to_string()
}

/// The question that stands for the handshake where there is none.
#[must_use]
pub fn discover(id: u64) -> String {
    request(id, "server/discover", &json!({ "_meta": meta(Revision::V2026) }))
}

/// Asks for a page of the list of tools.
#[must_use]
pub fn list_tools(revision: Revision, id: u64, cursor: Option<&str>) -> String {
    let mut params = Map::new();
    params.extend(cursor.map(|cursor| ("cursor".to_owned(), json!(cursor))));
    params.extend(meta(revision).map(|meta| ("_meta".to_owned(), meta)));
    request(id, "tools/list", &params)
}

/// Calls a tool by the server's own name of it. The arguments go there as [`crate::request::read`] gave them, which is in one
/// line whatever a reader takes for the end of one.
#[must_use]
pub fn call_tool(revision: Revision, id: u64, name: &str, arguments: &RawValue) -> String {
    #[derive(Serialize)]
    struct Line<'a> {
        jsonrpc: &'a str,
        id: u64,
        method: &'a str,
        params: Call<'a>,
    }
    let params = Call { name, arguments, meta: meta(revision) };
    let line = Line { jsonrpc: "2.0", id, method: "tools/call", params };
    serde_json::to_string(&line).unwrap_or_default()
}

/// Takes a request back.
#[must_use]
pub fn cancel(id: u64) -> String {
    let params = json!({ "requestId": id, "reason": "nobody waits for it any more" });
    json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": params }).to_string()
}

/// Answers a request of the server's own: a `ping` with nothing, everything else with a refusal.
#[must_use]
pub fn answer_to(id: &str, method: &str) -> String {
    let said = match method {
        "ping" => r#""result":{}"#.to_owned(),
        _ => {
            let error =
                json!({ "code": -32601, "message": "a server of tools asks nothing of its callers here" });
            format!("\"error\":{error}")
        }
    };
    format!(r#"{{"jsonrpc":"2.0","id":{id},{said}}}"#)
}

/// Which revision the answer to the handshake begins.
///
/// # Errors
/// A revision that is not spoken, or no tools.
pub fn begun(result: &Value) -> Result<Revision, Unfit> {
    let version = result["protocolVersion"].as_str().unwrap_or_default();
    if !HANDSHAKE.contains(&version) {
        return Err(Unfit::Revision(shown(version)));
    }
    with_tools(result).map(|()| Revision::V2025)
}

/// The same of the answer to `server/discover`.
///
/// # Errors
/// As [`begun`].
pub fn found(result: &Value) -> Result<Revision, Unfit> {
    let versions = result["supportedVersions"].as_array().map_or(&[][..], Vec::as_slice);
    if !versions.iter().any(|version| version == Revision::V2026.name()) {
        return Err(Unfit::Revision(shown(versions.first().and_then(Value::as_str).unwrap_or_default())));
    }
    with_tools(result).map(|()| Revision::V2026)
}

fn with_tools(result: &Value) -> Result<(), Unfit> {
    if result["capabilities"]["tools"].is_object() { Ok(()) } else { Err(Unfit::NoTools) }
}

fn shown(text: &str) -> String {
    text.chars().take(64).collect()
}

/// A tool, as a server offers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offered {
    /// The server's own name of it.
    pub name: String,
    /// Everything that is taken of it, in the one form that is pinned: the parts in order, without spaces.
    pub text: String,
}

/// The tools of a page of the list, and where the next begins.
///
/// # Errors
/// What is no list, or what in it cannot be offered.
pub fn page(result: Value) -> Result<(Vec<Offered>, Option<String>), Unfit> {
    let Value::Object(mut result) = result else { return Err(Unfit::List("it is no object")) };
    let Some(Value::Array(tools)) = result.remove("tools") else {
        return Err(Unfit::List("there is no array tools"));
    };
    if tools.len() > TOOLS_MAX {
        return Err(Unfit::List("it has more than 128 tools"));
    }
    let next = match result.remove("nextCursor") {
        None | Some(Value::Null) => None,
        Some(Value::String(cursor)) if cursor.len() <= CURSOR_MAX => Some(cursor),
        Some(_) => return Err(Unfit::List("its nextCursor is no text of at most 1024 bytes")),
    };
    let tools: Result<Vec<Offered>, Unfit> = tools.into_iter().map(offered).collect();
    Ok((tools?, next))
}

fn offered(tool: Value) -> Result<Offered, Unfit> {
    let Value::Object(mut tool) = tool else { return Err(Unfit::List("a tool is no object")) };
    let name = tool.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    let refuse = |why: &str| Err(Unfit::Tool { name: shown(&name), why: why.to_owned() });
    let legal = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    if name.is_empty() || name.len() > TOOL_NAME_MAX || !name.chars().all(legal) {
        return refuse("a name has 1 to 64 letters, digits and _ - .");
    }
    tool.retain(|part, value| PARTS.contains(&part.as_str()) && !value.is_null());
    for (part, value) in &tool {
        let good = match part.as_str() {
            "name" | "title" | "description" => value.is_string(),
            "inputSchema" => value["type"] == "object",
            _ => value.is_object(),
        };
        if !good {
            return refuse(&format!("its {part} is not what the protocol says"));
        }
    }
    if !tool.contains_key("inputSchema") {
        return refuse("it has no inputSchema");
    }
    let tool = Value::Object(tool);
    if depth(&tool) > TOOL_DEPTH {
        return refuse("what describes it nests deeper than 24 levels");
    }
    let mut text = String::new();
    write_canonical(&tool, &mut text);
    if text.len() > TOOL_MAX {
        return refuse("what describes it is longer than 16 KiB");
    }
    Ok(Offered { name, text })
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(parts) => 1 + parts.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// Writes a value in one form: the parts of objects by their names, nothing between them.
fn write_canonical(value: &Value, to: &mut String) {
    match value {
        Value::Array(items) => {
            to.push('[');
            for (at, item) in items.iter().enumerate() {
                to.push_str(if at > 0 { "," } else { "" });
                write_canonical(item, to);
            }
            to.push(']');
        }
        Value::Object(parts) => {
            let mut parts: Vec<(&String, &Value)> = parts.iter().collect();
            parts.sort_by_key(|(name, _)| *name);
            to.push('{');
            for (at, (name, value)) in parts.into_iter().enumerate() {
                to.push_str(if at > 0 { "," } else { "" });
                to.push_str(&json!(name).to_string());
                to.push(':');
                write_canonical(value, to);
            }
            to.push('}');
        }
        other => to.push_str(&other.to_string()),
    }
}

/// A pinned tool as agents are shown it: under the server's name.
///
/// # Errors
/// The text is no tool.
pub fn listed_as(server: &str, text: &str) -> Result<Value, serde_json::Error> {
    let mut tool: Map<String, Value> = serde_json::from_str(text)?;
    let name = tool.get("name").and_then(Value::as_str).unwrap_or_default();
    let name = json!(format!("{server}{BETWEEN}{name}"));
    tool.insert("name".to_owned(), name);
    Ok(Value::Object(tool))
}

/// A server and its own name of a tool, from the name by which agents call it.
#[must_use]
pub fn split(name: &str) -> Option<(&str, &str)> {
    name.split_once(BETWEEN)
}

/// What of a result goes on to who called: its content, its value, and whether the tool failed.
///
/// # Errors
/// What is no result, or asks for something.
pub fn taken(result: Value) -> Result<Map<String, Value>, Unfit> {
    let Value::Object(mut result) = result else { return Err(Unfit::Result("it is no object")) };
    match result.remove("resultType") {
        None => {}
        Some(kind) if kind == "complete" => {}
        Some(_) => return Err(Unfit::Asks),
    }
    let content = match result.remove("content") {
        Some(Value::Array(parts)) if parts.len() <= PARTS_MAX => parts,
        Some(Value::Array(_)) => return Err(Unfit::Result("it has more than 256 parts")),
        _ => return Err(Unfit::Result("there is no array content")),
    };
    if !content.iter().all(|part| part["type"].is_string()) {
        return Err(Unfit::Result("a part of its content says no type"));
    }
    let failed = match result.remove("isError") {
        None | Some(Value::Null) => false,
        Some(Value::Bool(failed)) => failed,
        Some(_) => return Err(Unfit::Result("its isError is neither true nor false")),
    };
    let mut taken = Map::new();
    taken.insert("content".to_owned(), Value::Array(content));
    match result.remove("structuredContent") {
        None | Some(Value::Null) => {}
        Some(value @ Value::Object(_)) => drop(taken.insert("structuredContent".to_owned(), value)),
        Some(_) => return Err(Unfit::Result("its structuredContent is no object")),
    }
    taken.insert("isError".to_owned(), json!(failed));
    Ok(taken)
}

#[cfg(test)]
mod tests;
