//! What a client is answered.

use crate::request::Revision;
use octant_api::error::{ApiError, Code};
use serde_json::{Map, Value, json};

/// How long a client may keep a list, in milliseconds: until it asks again. What an agent may do gets less at any time.
const KEEP_MS: u64 = 0;
/// The longest page of a list, in bytes: a line has twice as many.
const PAGE_BYTES: usize = 512 << 10;
/// Where an error's parts are: the result of a call that failed has the form of a success, and the schema of a tool speaks
/// of that alone.
const ERROR: &str = "octant/error";

/// Who serves, as the protocol writes it.
#[must_use]
pub fn describe_server() -> Value {
    json!({ "name": "octant", "title": "Octant", "version": env!("CARGO_PKG_VERSION") })
}

/// What is served: tools, whose list does not change by itself.
fn capabilities() -> Value {
    json!({ "tools": {} })
}

/// An answer in the form of its revision.
fn answer(revision: Revision, mut result: Map<String, Value>, list: bool) -> Value {
    if revision == Revision::V2026 {
        result.insert("resultType".to_owned(), json!("complete"));
        let meta = result.entry("_meta").or_insert_with(|| json!({}));
        meta["io.modelcontextprotocol/serverInfo"] = describe_server();
        if list {
            result.insert("ttlMs".to_owned(), json!(KEEP_MS));
            result.insert("cacheScope".to_owned(), json!("private"));
        }
    }
    Value::Object(result)
}

fn object<const N: usize>(fields: [(&str, Value); N]) -> Map<String, Value> {
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// The answer to `initialize`: the one revision with a handshake that is served.
#[must_use]
pub fn initialized(instructions: &str) -> Value {
    Value::Object(object([
        ("protocolVersion", json!(Revision::V2025.name())),
        ("capabilities", capabilities()),
        ("serverInfo", describe_server()),
        ("instructions", json!(instructions)),
    ]))
}

/// The answer to `server/discover`.
#[must_use]
pub fn discovered(revision: Revision, instructions: &str) -> Value {
    let versions = Revision::ALL.map(Revision::name);
    let result = object([
        ("supportedVersions", json!(versions)),
        ("capabilities", capabilities()),
        ("instructions", json!(instructions)),
    ]);
    answer(revision, result, true)
}

/// The answer to `ping`.
#[must_use]
pub fn pong() -> Value {
    json!({})
}

/// The answer to `tools/list`: the page that begins behind so many of these tools, and where the next one does.
#[must_use]
pub fn listed(revision: Revision, tools: Vec<Value>, from: usize) -> Value {
    let (all, mut bytes) = (tools.len(), 0);
    let fits = |tool: &Value| {
        // One always does: none is nearly as long.
        let first = bytes == 0;
        bytes += tool.to_string().len();
        first || bytes <= PAGE_BYTES
    };
    let page: Vec<Value> = tools.into_iter().skip(from).take_while(fits).collect();
    let next = from.saturating_add(page.len());
    let mut result = object([("tools", json!(page))]);
    if next < all {
        result.insert("nextCursor".to_owned(), json!(next.to_string()));
    }
    answer(revision, result, true)
}

/// The answer to `tools/call`, from the text of what the method answered. What the method refused is an answer too, so that
/// a model can read what to do next.
///
/// # Errors
/// The method's answer is not JSON.
pub fn result_of(revision: Revision, done: Result<&[u8], &ApiError>) -> Result<Value, ApiError> {
    let text = |text: &str| json!([{ "type": "text", "text": text }]);
    let result = match done {
        Ok(answered) => {
            let value = serde_json::from_slice::<Value>(answered).map_err(|error| {
                let next = "report it as a fault of Octant";
                ApiError::new(Code::Internal, "write the answer", "tools/call", error, next)
            })?;
            let shown = text(&String::from_utf8_lossy(answered));
            object([("content", shown), ("structuredContent", value), ("isError", json!(false))])
        }
        Err(error) => {
            let meta = json!({ ERROR: error });
            object([("content", text(&error.to_string())), ("isError", json!(true)), ("_meta", meta)])
        }
    };
    Ok(answer(revision, result, false))
}

/// The answer to a call of another's tool, from what was taken of the result.
#[must_use]
pub fn result_with(revision: Revision, taken: Map<String, Value>) -> Value {
    answer(revision, taken, false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_what_its_revision_has() {
        let (old, new) = (listed(Revision::V2025, vec![], 0), listed(Revision::V2026, vec![], 0));
        assert_eq!(old, json!({ "tools": [] }));
        let served = json!({ "io.modelcontextprotocol/serverInfo": describe_server() });
        assert_eq!(
            new,
            json!({ "tools": [], "resultType": "complete", "ttlMs": 0, "cacheScope": "private", "_meta": served })
        );
        assert_eq!(initialized("x")["protocolVersion"], "2025-11-25");
        assert_eq!(
            discovered(Revision::V2026, "x")["supportedVersions"],
            json!(["2026-07-28", "2025-11-25"])
        );
    }

    #[test]
    fn a_long_list_comes_in_pages_with_each_tool_once() {
        let tool = |n: usize| json!({ "name": n.to_string(), "description": "x".repeat(100_000) });
        let tools: Vec<Value> = (0..12).map(tool).collect();
        let (mut got, mut from) = (Vec::new(), 0);
        for pages in 1.. {
            let page = listed(Revision::V2025, tools.clone(), from);
            assert!(page.to_string().len() < 1 << 20);
            got.extend(page["tools"].as_array().unwrap().clone());
            let Some(next) = page.get("nextCursor") else {
                assert_eq!(pages, 3);
                break;
            };
            from = next.as_str().unwrap().parse().unwrap();
        }
        assert_eq!(got, tools);
        assert_eq!(listed(Revision::V2025, tools, 99), json!({ "tools": [] }));
    }

    #[test]
    fn what_a_tool_answered_is_text_and_value_and_what_it_refused_says_what_next() {
        let done = result_of(Revision::V2025, Ok(br#"{"seq":7}"#)).unwrap();
        let text = json!([{ "type": "text", "text": "{\"seq\":7}" }]);
        assert_eq!(done, json!({ "content": text, "structuredContent": { "seq": 7 }, "isError": false }));
        let error = ApiError::new(Code::Busy, "take a note", "agent.note", "too many", "note less");
        let refused = result_of(Revision::V2026, Err(&error)).unwrap();
        assert_eq!(refused["content"][0]["text"], "take a note (agent.note): too many; note less");
        assert_eq!(refused["_meta"][ERROR]["data"]["next"], "note less");
        assert_eq!((&refused["isError"], refused.get("structuredContent")), (&json!(true), None));
        assert!(result_of(Revision::V2026, Ok(b"{")).is_err());
    }
}
