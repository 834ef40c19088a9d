//! `OpenAI`'s responses, as its reference has them.

use super::chat::{bearer, error};
use super::http::Request;
use super::script::{ToolCall, Turn, Why};
use super::wire::{Stop, Wire};
use super::{Asked, Dialect, Refused, Tool, body, data_url, key, list, must, results_belong, text_of};
use serde_json::{Value, json};

pub(super) struct Responses;

const ID: &str = "resp_scripted";
const MESSAGE: &str = "msg_scripted";
const THOUGHT: &str = "rs_scripted";

fn call_id(number: usize) -> String {
    format!("call_{number}_of_response")
}

/// Parts of a message: words, and images as addresses.
fn parts(item: &Value, asked: &mut Asked) -> Result<String, Refused> {
    let content = must(item, "content")?;
    if let Some(text) = content.as_str() {
        return Ok(text.to_owned());
    }
    let mut said = String::new();
    for part in list(item, "content") {
        match must(part, "type")?.as_str() {
            Some("input_text" | "output_text") => said += &text_of(part, "text")?,
            Some("refusal") => said += &text_of(part, "refusal")?,
            Some("input_image") => asked.images.push(data_url(&text_of(part, "image_url")?)?),
            other => return Err(Refused::bad(format!("a part of a message cannot be {other:?}"))),
        }
    }
    Ok(said)
}

fn item(item: &Value, asked: &mut Asked) -> Result<(), Refused> {
    match item.get("type").and_then(Value::as_str).unwrap_or("message") {
        "message" => {
            let said = parts(item, asked)?;
            if text_of(item, "role")? == "user" {
                asked.said += &said;
            }
        }
        "function_call" => {
            text_of(item, "arguments")?;
            asked.calls.push((text_of(item, "call_id")?, text_of(item, "name")?));
        }
        "function_call_output" => {
            let output = must(item, "output")?;
            let text = match output {
                Value::String(text) => text.clone(),
                _ => {
                    list(item, "output").iter().map(|part| text_of(part, "text")).collect::<Result<_, _>>()?
                }
            };
            asked.results.push((text_of(item, "call_id")?, text));
        }
        "reasoning" => {
            text_of(item, "id")?;
            must(item, "summary")?;
        }
        kind => return Err(Refused::bad(format!("an item of the input cannot be {kind:?}"))),
    }
    Ok(())
}

fn thought(turn: &Turn) -> Value {
    let summary = json!([{"type": "summary_text", "text": turn.thought.concat()}]);
    json!({"type": "reasoning", "id": THOUGHT, "summary": summary})
}

fn part(turn: &Turn, text: &str) -> Value {
    match turn.why {
        Why::Refusal => json!({"type": "refusal", "refusal": text}),
        _ => json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []}),
    }
}

fn message(turn: &Turn, status: &str, content: &[Value]) -> Value {
    let status = if turn.why == Why::Length && status == "completed" { "incomplete" } else { status };
    json!({"type": "message", "id": MESSAGE, "role": "assistant", "status": status, "content": content})
}

fn call(call: &ToolCall, status: &str, arguments: &str) -> Value {
    json!({"type": "function_call", "id": format!("fc_{}", call.number), "call_id": call_id(call.number),
        "name": call.name, "arguments": arguments, "status": status})
}

/// The response around its output.
fn response(model: &str, status: &str, output: &[Value], turn: Option<&Turn>) -> Value {
    let usage = turn.map(|turn| turn.usage).map(|used| {
        json!({
            "input_tokens": used.input, "input_tokens_details": {"cached_tokens": used.cached},
            "output_tokens": used.output, "output_tokens_details": {"reasoning_tokens": used.reasoning},
            "total_tokens": used.input + used.output,
        })
    });
    let incomplete = (status == "incomplete").then(|| json!({"reason": "max_output_tokens"}));
    json!({
        "id": ID, "object": "response", "created_at": 1_700_000_000, "model": model, "status": status,
        "output": output, "usage": usage, "error": null, "incomplete_details": incomplete, "instructions": null,
        "max_output_tokens": null, "parallel_tool_calls": true, "previous_response_id": null,
        "reasoning": {"effort": null, "summary": null}, "store": false, "temperature": 1.0,
        "text": {"format": {"type": "text"}}, "tool_choice": "auto", "tools": [], "top_p": 1.0,
        "truncation": "disabled", "metadata": {},
    })
}

fn status(turn: &Turn) -> &'static str {
    if turn.why == Why::Length { "incomplete" } else { "completed" }
}

fn output(turn: &Turn) -> Vec<Value> {
    let mut output = Vec::new();
    if !turn.thought.is_empty() {
        output.push(thought(turn));
    }
    if turn.speaks() {
        output.push(message(turn, "completed", &[part(turn, &turn.text.whole())]));
    }
    output.extend(turn.calls.iter().map(|each| call(each, "completed", &each.arguments.concat())));
    output
}

/// The events of one stream, which are numbered.
struct Numbered<'a, 'b> {
    wire: &'a mut Wire<'b>,
    next: u64,
}

impl Numbered<'_, '_> {
    fn bytes(&mut self, kind: &str, mut event: Value) -> Vec<u8> {
        event["type"] = kind.into();
        event["sequence_number"] = self.next.into();
        self.next += 1;
        format!("event: {kind}\ndata: {event}\n\n").into_bytes()
    }

    fn event(&mut self, kind: &str, event: Value) -> Result<(), Stop> {
        let bytes = self.bytes(kind, event);
        self.wire.event(&bytes)
    }

    fn thought(&mut self, turn: &Turn) -> Result<(), Stop> {
        let at = json!({"item_id": THOUGHT, "output_index": 0, "summary_index": 0});
        let with = |field: &str, value: Value| {
            let mut event = at.clone();
            event[field] = value;
            event
        };
        let whole = turn.thought.concat();
        let part = |text: &str| json!({"type": "summary_text", "text": text});
        let begun = json!({"type": "reasoning", "id": THOUGHT, "summary": []});
        self.event("response.output_item.added", json!({"output_index": 0, "item": begun}))?;
        self.event("response.reasoning_summary_part.added", with("part", part("")))?;
        for piece in &turn.thought {
            self.event("response.reasoning_summary_text.delta", with("delta", json!(piece)))?;
        }
        self.event("response.reasoning_summary_text.done", with("text", json!(whole)))?;
        self.event("response.reasoning_summary_part.done", with("part", part(&whole)))?;
        self.event("response.output_item.done", json!({"output_index": 0, "item": thought(turn)}))
    }

    fn text(&mut self, turn: &Turn, index: usize) -> Result<(), Stop> {
        let kind = if turn.why == Why::Refusal { "refusal" } else { "output_text" };
        let with = |field: &str, value: Value| {
            let mut event = json!({"item_id": MESSAGE, "output_index": index, "content_index": 0});
            event[field] = value;
            event
        };
        let begun = message(turn, "in_progress", &[]);
        self.event("response.output_item.added", json!({"output_index": index, "item": begun}))?;
        self.event("response.content_part.added", with("part", part(turn, "")))?;
        for piece in turn.text.iter() {
            self.event(&format!("response.{kind}.delta"), with("delta", json!(piece)))?;
        }
        let whole = turn.text.whole();
        let field = if turn.why == Why::Refusal { "refusal" } else { "text" };
        self.event(&format!("response.{kind}.done"), with(field, json!(whole)))?;
        self.event("response.content_part.done", with("part", part(turn, &whole)))?;
        let item = message(turn, "completed", &[part(turn, &whole)]);
        self.event("response.output_item.done", json!({"output_index": index, "item": item}))
    }

    fn calls(&mut self, turn: &Turn, before: usize) -> Result<(), Stop> {
        for argument in turn.arguments() {
            let (each, index) = (&turn.calls[argument.place], before + argument.place);
            let at = |field: &str, text: &str| {
                let mut event = json!({"item_id": format!("fc_{}", each.number), "output_index": index});
                event[field] = text.into();
                event
            };
            if argument.at == 0 {
                let begun = call(each, "in_progress", "");
                self.event("response.output_item.added", json!({"output_index": index, "item": begun}))?;
            }
            self.event("response.function_call_arguments.delta", at("delta", argument.piece))?;
            if argument.last {
                let whole = each.arguments.concat();
                self.event("response.function_call_arguments.done", at("arguments", &whole))?;
                let item = call(each, "completed", &whole);
                self.event("response.output_item.done", json!({"output_index": index, "item": item}))?;
            }
        }
        Ok(())
    }
}

impl Dialect for Responses {
    fn ask(&self, request: &Request) -> Result<Asked, Refused> {
        key(bearer(request))?;
        let body = body(request)?;
        let mut asked = Asked { model: text_of(&body, "model")?, usage: true, ..Asked::default() };
        asked.stream = body.get("stream").and_then(Value::as_bool).unwrap_or(false);
        if body.pointer("/text/format/type").and_then(Value::as_str) == Some("json_schema") {
            let format = must(must(&body, "text")?, "format")?;
            text_of(format, "name")?;
            asked.shaped = must(format, "schema")?.is_object();
        }
        for tool in list(&body, "tools") {
            if text_of(tool, "type")? != "function" {
                return Err(Refused::bad("only functions can be tools"));
            }
            let schema = tool.get("parameters").cloned().unwrap_or_default();
            asked.tools.push(Tool { name: text_of(tool, "name")?, schema });
        }
        match must(&body, "input")? {
            Value::String(text) => asked.said.clone_from(text),
            _ => list(&body, "input").iter().try_for_each(|each| item(each, &mut asked))?,
        }
        results_belong(&asked)?;
        Ok(asked)
    }

    fn whole(&self, turn: &Turn, model: &str) -> Value {
        response(model, status(turn), &output(turn), Some(turn))
    }

    fn stream(&self, turn: &Turn, asked: &Asked, wire: &mut Wire<'_>) -> Result<(), Stop> {
        let mut events = Numbered { wire, next: 0 };
        let begun = response(&asked.model, "in_progress", &[], None);
        events.event("response.created", json!({"response": begun}))?;
        events.event("response.in_progress", json!({"response": begun}))?;
        let mut index = 0;
        if !turn.thought.is_empty() {
            events.thought(turn)?;
            index += 1;
        }
        if turn.speaks() {
            events.text(turn, index)?;
            index += 1;
        }
        events.calls(turn, index)?;
        let kind = format!("response.{}", status(turn));
        let whole = response(&asked.model, status(turn), &output(turn), Some(turn));
        let last = events.bytes(&kind, json!({"response": whole}));
        events.wire.last(&last)
    }

    fn refused(&self, status: u16, message: &str) -> Value {
        error(status, message)
    }

    fn failed(&self) -> Vec<u8> {
        let mut response = response("", "failed", &[], None);
        response["error"] = json!({"code": "server_error", "message": "scripted failure within the stream"});
        let event = json!({"type": "response.failed", "sequence_number": 99, "response": response});
        format!("event: response.failed\ndata: {event}\n\n").into_bytes()
    }

    fn wrong_end(&self) -> Vec<u8> {
        b"data: [DONE]\n\n".to_vec()
    }
}
