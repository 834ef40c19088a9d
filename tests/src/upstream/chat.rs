//! `OpenAI`'s chat completions, as its reference has them.

use super::http::Request;
use super::script::{Turn, Why};
use super::wire::{Stop, Wire};
use super::{Asked, Dialect, Refused, Tool, body, data_url, key, list, must, results_belong, text_of};
use serde_json::{Value, json};

pub(super) struct Chat;

/// The answers' identifier.
const ID: &str = "chatcmpl-scripted";
const CREATED: u64 = 1_700_000_000;

/// The identifier of a call.
pub(super) fn call_id(number: usize) -> String {
    format!("call_{number}_of_script")
}

/// The bearer of an `Authorization`.
pub(super) fn bearer(request: &Request) -> Option<&str> {
    request.header("authorization")?.strip_prefix("Bearer ")
}

/// A stream's event without a name.
pub(super) fn data(value: &Value) -> Vec<u8> {
    format!("data: {value}\n\n").into_bytes()
}

/// What a message says, and the images in it.
fn content(message: &Value, asked: &mut Asked) -> Result<String, Refused> {
    let content = message.get("content").unwrap_or(&Value::Null);
    if let Some(text) = content.as_str() {
        return Ok(text.to_owned());
    }
    let mut said = String::new();
    for part in content.as_array().map_or(&[][..], Vec::as_slice) {
        match must(part, "type")?.as_str() {
            Some("text") => said += &text_of(part, "text")?,
            Some("refusal") => said += &text_of(part, "refusal")?,
            Some("image_url") => {
                asked.images.push(data_url(&text_of(must(part, "image_url")?, "url")?)?);
            }
            other => return Err(Refused::bad(format!("a part of a message cannot be {other:?}"))),
        }
    }
    Ok(said)
}

fn message(message: &Value, asked: &mut Asked) -> Result<(), Refused> {
    let role = text_of(message, "role")?;
    let said = content(message, asked)?;
    match role.as_str() {
        "system" | "developer" => {}
        "user" => asked.said += &said,
        "assistant" => {
            for call in list(message, "tool_calls") {
                let function = must(call, "function")?;
                // Arguments are JSON as text, never an object.
                text_of(function, "arguments")?;
                asked.calls.push((text_of(call, "id")?, text_of(function, "name")?));
            }
        }
        "tool" => asked.results.push((text_of(message, "tool_call_id")?, said)),
        role => return Err(Refused::bad(format!("no role is {role:?}"))),
    }
    Ok(())
}

fn usage(turn: &Turn) -> Value {
    let used = turn.usage;
    json!({
        "prompt_tokens": used.input, "completion_tokens": used.output, "total_tokens": used.input + used.output,
        "prompt_tokens_details": {"cached_tokens": used.cached, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": used.reasoning, "audio_tokens": 0,
            "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0},
    })
}

fn finish(turn: &Turn) -> &'static str {
    match turn.why {
        Why::Done | Why::Refusal => "stop",
        Why::Calls => "tool_calls",
        Why::Length => "length",
    }
}

fn chunk(model: &str, delta: &Value, finish: Option<&str>) -> Value {
    json!({
        "id": ID, "object": "chat.completion.chunk", "created": CREATED, "model": model,
        "service_tier": "default", "system_fingerprint": "fp_scripted",
        "choices": [{"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish}],
    })
}

impl Dialect for Chat {
    fn ask(&self, request: &Request) -> Result<Asked, Refused> {
        key(bearer(request))?;
        let body = body(request)?;
        let mut asked = Asked { model: text_of(&body, "model")?, ..Asked::default() };
        asked.stream = body.get("stream").and_then(Value::as_bool).unwrap_or(false);
        asked.usage = body.pointer("/stream_options/include_usage").and_then(Value::as_bool).unwrap_or(false);
        if !asked.stream && body.get("stream_options").is_some_and(|options| !options.is_null()) {
            return Err(Refused::bad("stream_options is only allowed when stream is enabled"));
        }
        asked.shaped = match body.pointer("/response_format/type").and_then(Value::as_str) {
            Some("json_schema") => {
                let format = must(must(&body, "response_format")?, "json_schema")?;
                text_of(format, "name")?;
                must(format, "schema")?.is_object()
            }
            _ => false,
        };
        for tool in list(&body, "tools") {
            let function = must(tool, "function")?;
            let schema = function.get("parameters").cloned().unwrap_or_default();
            asked.tools.push(Tool { name: text_of(function, "name")?, schema });
        }
        must(&body, "messages")?;
        for each in list(&body, "messages") {
            message(each, &mut asked)?;
        }
        results_belong(&asked)?;
        Ok(asked)
    }

    fn whole(&self, turn: &Turn, model: &str) -> Value {
        let said = turn.speaks().then(|| turn.text.whole());
        let refused = turn.why == Why::Refusal;
        let mut message = json!({
            "role": "assistant", "annotations": [],
            "content": said.as_ref().filter(|_| !refused), "refusal": said.as_ref().filter(|_| refused),
        });
        if !turn.thought.is_empty() {
            message["reasoning_content"] = json!(turn.thought.concat());
        }
        if !turn.calls.is_empty() {
            message["tool_calls"] = turn
                .calls
                .iter()
                .map(|call| {
                    json!({
                        "id": call_id(call.number), "type": "function",
                        "function": {"name": call.name, "arguments": call.arguments.concat()},
                    })
                })
                .collect();
        }
        json!({
            "id": ID, "object": "chat.completion", "created": CREATED, "model": model, "usage": usage(turn),
            "service_tier": "default", "system_fingerprint": "fp_scripted",
            "choices": [{"index": 0, "message": message, "logprobs": null, "finish_reason": finish(turn)}],
        })
    }

    fn stream(&self, turn: &Turn, asked: &Asked, wire: &mut Wire<'_>) -> Result<(), Stop> {
        let chunk = |delta: &Value, finish: Option<&str>| {
            let mut chunk = chunk(&asked.model, delta, finish);
            if asked.usage {
                chunk["usage"] = Value::Null;
            }
            data(&chunk)
        };
        wire.event(&chunk(&json!({"role": "assistant", "content": "", "refusal": null}), None))?;
        for piece in &turn.thought {
            wire.event(&chunk(&json!({"reasoning_content": piece}), None))?;
        }
        let field = if turn.why == Why::Refusal { "refusal" } else { "content" };
        for piece in turn.text.iter() {
            wire.event(&chunk(&json!({field: piece}), None))?;
        }
        for argument in turn.arguments() {
            let call = &turn.calls[argument.place];
            if argument.at == 0 {
                let first = json!({"index": argument.place, "id": call_id(call.number), "type": "function",
                    "function": {"name": call.name, "arguments": ""}});
                wire.event(&chunk(&json!({"tool_calls": [first]}), None))?;
            }
            let more = json!({"index": argument.place, "function": {"arguments": argument.piece}});
            wire.event(&chunk(&json!({"tool_calls": [more]}), None))?;
        }
        wire.last(&chunk(&json!({}), Some(finish(turn))))?;
        if asked.usage {
            let mut last = self::chunk(&asked.model, &Value::Null, None);
            last["choices"] = json!([]);
            last["usage"] = usage(turn);
            wire.last(&data(&last))?;
        }
        wire.last(b"data: [DONE]\n\n")
    }

    fn refused(&self, status: u16, message: &str) -> Value {
        error(status, message)
    }

    fn failed(&self) -> Vec<u8> {
        data(&error(500, "scripted failure within the stream"))
    }

    fn wrong_end(&self) -> Vec<u8> {
        b"data: [DONE]\n\n".to_vec()
    }
}

/// How `OpenAI` says that something failed.
pub(super) fn error(status: u16, message: &str) -> Value {
    let (kind, code) = match status {
        400 | 404 | 413 | 422 => {
            ("invalid_request_error", if status == 404 { "model_not_found" } else { "" })
        }
        401 => ("invalid_request_error", "invalid_api_key"),
        403 => ("permission_error", ""),
        429 => ("requests", "rate_limit_exceeded"),
        _ => ("server_error", ""),
    };
    let code = if code.is_empty() { Value::Null } else { code.into() };
    json!({"error": {"message": message, "type": kind, "param": null, "code": code}})
}

/// `/v1/models`.
pub(super) fn models() -> Value {
    json!({"object": "list", "data": [{"id": "text", "object": "model", "created": CREATED, "owned_by": "script"}]})
}

/// `/v1/embeddings`.
pub(super) fn embeddings(body: &Value) -> Result<Value, Refused> {
    let texts: Vec<String> = match must(body, "input")? {
        Value::String(one) => vec![one.clone()],
        Value::Array(many) => many.iter().filter_map(|text| text.as_str().map(str::to_owned)).collect(),
        _ => return Err(Refused::bad("input is neither text nor a list")),
    };
    let base64 = body.get("encoding_format").and_then(Value::as_str) == Some("base64");
    let one = |(index, text): (usize, &String)| {
        let vector = super::embedding(text);
        let bytes: Vec<u8> = vector.iter().flat_map(|number| number.to_le_bytes()).collect();
        let embedding = if base64 { json!(in_base64(&bytes)) } else { json!(vector) };
        json!({"object": "embedding", "index": index, "embedding": embedding})
    };
    Ok(json!({
        "object": "list", "model": text_of(body, "model")?,
        "data": texts.iter().enumerate().map(one).collect::<Vec<_>>(),
        "usage": {"prompt_tokens": 5 * texts.len(), "total_tokens": 5 * texts.len()},
    }))
}

fn in_base64(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
