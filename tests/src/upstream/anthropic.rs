//! Anthropic's messages, as its reference has them.

use super::chat::bearer;
use super::http::Request;
use super::script::{SIGNATURE, Turn, Why};
use super::wire::{Stop, Wire};
use super::{Asked, Dialect, Refused, Tool, body, bytes_of, key, list, must, results_belong, text_of};
use serde_json::{Value, json};

pub(super) struct Messages;

const ID: &str = "msg_scripted";

fn call_id(number: usize) -> String {
    format!("toolu_{number}_of_script")
}

fn image(block: &Value) -> Result<Vec<u8>, Refused> {
    let source = must(block, "source")?;
    if text_of(source, "type")? != "base64" || !text_of(source, "media_type")?.starts_with("image/") {
        return Err(Refused::bad("the source of an image is not base64 of a type"));
    }
    bytes_of(&text_of(source, "data")?)
}

/// Words and images of a list of blocks, or of a text.
fn words(content: &Value, asked: &mut Asked) -> Result<String, Refused> {
    if let Some(text) = content.as_str() {
        return Ok(text.to_owned());
    }
    let mut said = String::new();
    for block in content.as_array().map_or(&[][..], Vec::as_slice) {
        match text_of(block, "type")?.as_str() {
            "text" => said += &text_of(block, "text")?,
            "image" => asked.images.push(image(block)?),
            kind => return Err(Refused::bad(format!("the result of a tool cannot have {kind:?}"))),
        }
    }
    Ok(said)
}

fn block(role: &str, block: &Value, asked: &mut Asked) -> Result<(), Refused> {
    match (role, text_of(block, "type")?.as_str()) {
        ("user", "text") => asked.said += &text_of(block, "text")?,
        ("assistant", "text") => {
            if text_of(block, "text")?.is_empty() {
                return Err(Refused::bad("text content blocks must be non-empty"));
            }
        }
        ("user", "image") => asked.images.push(image(block)?),
        ("user", "tool_result") => {
            let text = words(block.get("content").unwrap_or(&Value::Null), asked)?;
            asked.results.push((text_of(block, "tool_use_id")?, text));
        }
        ("assistant", "tool_use") => {
            if !must(block, "input")?.is_object() {
                return Err(Refused::bad("tool_use.input: Input should be a valid dictionary"));
            }
            asked.calls.push((text_of(block, "id")?, text_of(block, "name")?));
        }
        ("assistant", "thinking") => {
            if text_of(block, "signature")? != SIGNATURE {
                return Err(Refused::bad("Invalid `signature` in `thinking` block"));
            }
        }
        (role, kind) => return Err(Refused::bad(format!("a message of {role} cannot have {kind:?}"))),
    }
    Ok(())
}

fn usage(turn: &Turn, output: u64) -> Value {
    let used = turn.usage;
    json!({"input_tokens": used.input - used.cached, "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": used.cached, "output_tokens": output, "service_tier": "standard"})
}

fn reason(turn: &Turn) -> &'static str {
    match turn.why {
        Why::Done => "end_turn",
        Why::Calls => "tool_use",
        Why::Length => "max_tokens",
        Why::Refusal => "refusal",
    }
}

fn message(turn: &Turn, model: &str, content: &[Value], reason: Option<&str>, output: u64) -> Value {
    json!({"id": ID, "type": "message", "role": "assistant", "model": model, "content": content,
        "stop_reason": reason, "stop_sequence": null, "usage": usage(turn, output)})
}

fn event(kind: &str, mut value: Value) -> Vec<u8> {
    value["type"] = kind.into();
    format!("event: {kind}\ndata: {value}\n\n").into_bytes()
}

fn delta(index: usize, delta: &Value) -> Vec<u8> {
    event("content_block_delta", json!({"index": index, "delta": delta}))
}

fn started(index: usize, block: &Value) -> Vec<u8> {
    event("content_block_start", json!({"index": index, "content_block": block}))
}

fn stopped(index: usize) -> Vec<u8> {
    event("content_block_stop", json!({"index": index}))
}

fn error(status: u16, message: &str) -> Value {
    let kind = match status {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        504 => "timeout_error",
        529 | 503 => "overloaded_error",
        400..500 => "invalid_request_error",
        _ => "api_error",
    };
    json!({"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_scripted"})
}

impl Dialect for Messages {
    fn ask(&self, request: &Request) -> Result<Asked, Refused> {
        // Newer clients give it as a bearer.
        key(request.header("x-api-key").or_else(|| bearer(request)))?;
        if request.header("anthropic-version").is_none() {
            return Err(Refused::bad("anthropic-version: header is required"));
        }
        let body = body(request)?;
        let mut asked = Asked { model: text_of(&body, "model")?, usage: true, ..Asked::default() };
        if must(&body, "max_tokens")?.as_u64().unwrap_or(0) == 0 {
            return Err(Refused::bad("max_tokens: Input should be greater than or equal to 1"));
        }
        asked.stream = body.get("stream").and_then(Value::as_bool).unwrap_or(false);
        let shape = body.pointer("/output_config/format").or_else(|| body.get("output_format"));
        if let Some(shape) = shape.filter(|shape| !shape.is_null()) {
            asked.shaped = text_of(shape, "type")? == "json_schema" && must(shape, "schema")?.is_object();
        }
        for tool in list(&body, "tools") {
            let schema = must(tool, "input_schema")?.clone();
            asked.tools.push(Tool { name: text_of(tool, "name")?, schema });
        }
        must(&body, "messages")?;
        for each in list(&body, "messages") {
            let role = text_of(each, "role")?;
            if !["user", "assistant"].contains(&role.as_str()) {
                return Err(Refused::bad(format!("messages: no role is {role:?}")));
            }
            match must(each, "content")? {
                Value::String(text) if role == "user" => asked.said += text,
                Value::String(_) => {}
                _ => list(each, "content").iter().try_for_each(|each| block(&role, each, &mut asked))?,
            }
        }
        results_belong(&asked)?;
        Ok(asked)
    }

    fn whole(&self, turn: &Turn, model: &str) -> Value {
        let mut content = Vec::new();
        if !turn.thought.is_empty() {
            content
                .push(json!({"type": "thinking", "thinking": turn.thought.concat(), "signature": SIGNATURE}));
        }
        if turn.speaks() {
            content.push(json!({"type": "text", "text": turn.text.whole()}));
        }
        content.extend(turn.calls.iter().map(|call| {
            json!({"type": "tool_use", "id": call_id(call.number), "name": call.name, "input": call.input()})
        }));
        message(turn, model, &content, Some(reason(turn)), turn.usage.output)
    }

    fn stream(&self, turn: &Turn, asked: &Asked, wire: &mut Wire<'_>) -> Result<(), Stop> {
        let begun = message(turn, &asked.model, &[], None, 1);
        wire.event(&event("message_start", json!({"message": begun})))?;
        wire.event(&event("ping", json!({})))?;
        let mut index = 0;
        if !turn.thought.is_empty() {
            wire.event(&started(index, &json!({"type": "thinking", "thinking": "", "signature": ""})))?;
            for piece in &turn.thought {
                wire.event(&delta(index, &json!({"type": "thinking_delta", "thinking": piece})))?;
            }
            wire.event(&delta(index, &json!({"type": "signature_delta", "signature": SIGNATURE})))?;
            wire.event(&stopped(index))?;
            index += 1;
        }
        if turn.speaks() {
            wire.event(&started(index, &json!({"type": "text", "text": ""})))?;
            for piece in turn.text.iter() {
                wire.event(&delta(index, &json!({"type": "text_delta", "text": piece})))?;
            }
            wire.event(&stopped(index))?;
            index += 1;
        }
        // Blocks come one after another, whatever the script: the reference has it so.
        for (at, call) in turn.calls.iter().enumerate() {
            let block =
                json!({"type": "tool_use", "id": call_id(call.number), "name": call.name, "input": {}});
            wire.event(&started(index + at, &block))?;
            for piece in std::iter::once("").chain(call.arguments.iter().map(String::as_str)) {
                wire.event(&delta(index + at, &json!({"type": "input_json_delta", "partial_json": piece})))?;
            }
            wire.event(&stopped(index + at))?;
        }
        let end = json!({"stop_reason": reason(turn), "stop_sequence": null});
        let used = json!({"output_tokens": turn.usage.output});
        wire.last(&event("message_delta", json!({"delta": end, "usage": used})))?;
        wire.last(&event("message_stop", json!({})))
    }

    fn refused(&self, status: u16, message: &str) -> Value {
        error(status, message)
    }

    fn failed(&self) -> Vec<u8> {
        event("error", error(529, "scripted failure within the stream"))
    }

    fn wrong_end(&self) -> Vec<u8> {
        event("message_stop", json!({}))
    }
}
