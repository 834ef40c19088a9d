//! Ollama's chat and generate, as its reference has them: JSON lines.

use super::http::Request;
use super::script::{Turn, Why};
use super::wire::{Stop, Wire};
use super::{Asked, Dialect, Refused, Tool, body, bytes_of, list, must, text_of};
use serde_json::{Value, json};

pub(super) struct Chat;
pub(super) struct Generate;

const CREATED: &str = "2024-01-01T00:00:00.000000000Z";

fn line(value: &Value) -> Vec<u8> {
    format!("{value}\n").into_bytes()
}

fn begun(body: &Value) -> Result<Asked, Refused> {
    let mut asked = Asked { model: text_of(body, "model")?, usage: true, ..Asked::default() };
    // What is not said streams.
    asked.stream = body.get("stream").and_then(Value::as_bool).unwrap_or(true);
    asked.shaped = body.get("format").is_some_and(Value::is_object);
    Ok(asked)
}

/// The lines that tell of an answer, from a first piece of it to the last.
fn last(turn: &Turn, model: &str) -> Value {
    let reason = if turn.why == Why::Length { "length" } else { "stop" };
    json!({
        "model": model, "created_at": CREATED, "done": true, "done_reason": reason,
        "total_duration": 5_000_000, "load_duration": 1_000_000, "prompt_eval_count": turn.usage.input,
        "prompt_eval_duration": 1_000_000, "eval_count": turn.usage.output, "eval_duration": 3_000_000,
    })
}

fn calls(turn: &Turn) -> Vec<Value> {
    let one = |call: &super::script::ToolCall| json!({"function": {"index": call.number, "name": call.name, "arguments": call.input()}});
    turn.calls.iter().map(one).collect()
}

fn message(turn: &Turn) -> Value {
    let mut message = json!({"role": "assistant", "content": turn.text.whole()});
    if !turn.thought.is_empty() {
        message["thinking"] = json!(turn.thought.concat());
    }
    if !turn.calls.is_empty() {
        message["tool_calls"] = calls(turn).into();
    }
    message
}

/// Every result is of the next call that has none: this dialect has no identifiers.
fn said(message: &Value, asked: &mut Asked) -> Result<(), Refused> {
    let content = message.get("content").and_then(Value::as_str).unwrap_or_default();
    match text_of(message, "role")?.as_str() {
        "system" => {}
        "user" => {
            asked.said += content;
            for image in list(message, "images") {
                asked.images.push(bytes_of(image.as_str().unwrap_or_default())?);
            }
        }
        "assistant" => {
            for call in list(message, "tool_calls") {
                let function = must(call, "function")?;
                if !must(function, "arguments")?.is_object() {
                    return Err(Refused::bad("arguments are not an object"));
                }
                asked.calls.push((asked.calls.len().to_string(), text_of(function, "name")?));
            }
        }
        "tool" => asked.results.push((asked.results.len().to_string(), content.to_owned())),
        role => return Err(Refused::bad(format!("no role is {role:?}"))),
    }
    Ok(())
}

impl Dialect for Chat {
    fn ask(&self, request: &Request) -> Result<Asked, Refused> {
        let body = body(request)?;
        let mut asked = begun(&body)?;
        for tool in list(&body, "tools") {
            let function = must(tool, "function")?;
            let schema = must(function, "parameters")?.clone();
            asked.tools.push(Tool { name: text_of(function, "name")?, schema });
        }
        list(&body, "messages").iter().try_for_each(|message| said(message, &mut asked))?;
        Ok(asked)
    }

    fn whole(&self, turn: &Turn, model: &str) -> Value {
        let mut answer = last(turn, model);
        answer["message"] = message(turn);
        answer
    }

    fn stream(&self, turn: &Turn, asked: &Asked, wire: &mut Wire<'_>) -> Result<(), Stop> {
        let piece = |field: &str, value: Value| {
            let mut message = json!({"role": "assistant", "content": ""});
            message[field] = value;
            line(&json!({"model": asked.model, "created_at": CREATED, "message": message, "done": false}))
        };
        for thought in &turn.thought {
            wire.event(&piece("thinking", json!(thought)))?;
        }
        for text in turn.text.iter() {
            wire.event(&piece("content", json!(text)))?;
        }
        for call in calls(turn) {
            wire.event(&piece("tool_calls", json!([call])))?;
        }
        let mut end = last(turn, &asked.model);
        end["message"] = json!({"role": "assistant", "content": ""});
        wire.last(&line(&end))
    }

    fn refused(&self, _: u16, message: &str) -> Value {
        json!({"error": message})
    }

    fn failed(&self) -> Vec<u8> {
        line(&json!({"error": "scripted failure within the stream"}))
    }

    fn wrong_end(&self) -> Vec<u8> {
        line(&json!({"model": "", "created_at": CREATED, "done": false}))
    }

    fn garbage(&self) -> Vec<u8> {
        b"{\"this is\": not JSON\n".to_vec()
    }

    fn stream_type(&self) -> &'static str {
        "application/x-ndjson"
    }
}

impl Dialect for Generate {
    fn ask(&self, request: &Request) -> Result<Asked, Refused> {
        let body = body(request)?;
        let mut asked = begun(&body)?;
        asked.said = text_of(&body, "prompt")?;
        for image in list(&body, "images") {
            asked.images.push(bytes_of(image.as_str().unwrap_or_default())?);
        }
        Ok(asked)
    }

    fn whole(&self, turn: &Turn, model: &str) -> Value {
        let mut answer = last(turn, model);
        answer["response"] = json!(turn.text.whole());
        if !turn.thought.is_empty() {
            answer["thinking"] = json!(turn.thought.concat());
        }
        answer
    }

    fn stream(&self, turn: &Turn, asked: &Asked, wire: &mut Wire<'_>) -> Result<(), Stop> {
        let piece = |thought: &str, text: &str| {
            let mut piece =
                json!({"model": asked.model, "created_at": CREATED, "response": text, "done": false});
            if !thought.is_empty() {
                piece["thinking"] = thought.into();
            }
            line(&piece)
        };
        turn.thought.iter().try_for_each(|thought| wire.event(&piece(thought, "")))?;
        turn.text.iter().try_for_each(|text| wire.event(&piece("", &text)))?;
        let mut end = last(turn, &asked.model);
        end["response"] = "".into();
        wire.last(&line(&end))
    }

    fn refused(&self, status: u16, message: &str) -> Value {
        Chat.refused(status, message)
    }

    fn failed(&self) -> Vec<u8> {
        Chat.failed()
    }

    fn wrong_end(&self) -> Vec<u8> {
        Chat.wrong_end()
    }

    fn garbage(&self) -> Vec<u8> {
        Chat.garbage()
    }

    fn stream_type(&self) -> &'static str {
        Chat.stream_type()
    }
}

fn details() -> Value {
    json!({"parent_model": "", "format": "gguf", "family": "script", "families": ["script"],
        "parameter_size": "0B", "quantization_level": "F32"})
}

/// `/api/tags`.
pub(super) fn tags() -> Value {
    json!({"models": [{"name": "text", "model": "text", "modified_at": CREATED, "size": 0, "digest": "00",
        "details": details()}]})
}

/// `/api/show`.
pub(super) fn show() -> Value {
    json!({"modelfile": "", "parameters": "", "template": "", "details": details(), "model_info": {},
        "capabilities": ["completion", "tools", "vision", "thinking"], "modified_at": CREATED})
}

/// `/api/embed`.
pub(super) fn embed(body: &Value) -> Result<Value, Refused> {
    let texts: Vec<&str> = match must(body, "input")? {
        Value::String(one) => vec![one],
        _ => list(body, "input").iter().filter_map(Value::as_str).collect(),
    };
    let vectors: Vec<[f32; 4]> = texts.iter().map(|text| super::embedding(text)).collect();
    Ok(
        json!({"model": text_of(body, "model")?, "embeddings": vectors, "total_duration": 1, "load_duration": 1,
        "prompt_eval_count": 5 * texts.len()}),
    )
}
