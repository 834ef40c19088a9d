//! Gemini's `generateContent`, as its reference has it.

use super::http::Request;
use super::script::{SIGNATURE, Turn, Why};
use super::wire::{Stop, Wire};
use super::{Asked, Dialect, Refused, Tool, body, bytes_of, key, list, must, text_of};
use serde_json::{Value, json};

pub(super) struct Gemini;

/// A field in either of the two spellings that the reference allows.
fn field<'a>(value: &'a Value, camel: &str, snake: &str) -> Option<&'a Value> {
    value.get(camel).or_else(|| value.get(snake))
}

fn part(role: &str, part: &Value, asked: &mut Asked) -> Result<(), Refused> {
    if let Some(text) = part.get("text") {
        let text = text.as_str().ok_or_else(|| Refused::bad("text is not a string"))?;
        if role == "user" {
            asked.said += text;
        }
    } else if let Some(data) = field(part, "inlineData", "inline_data") {
        let kind = field(data, "mimeType", "mime_type").and_then(Value::as_str).unwrap_or_default();
        if !kind.starts_with("image/") {
            return Err(Refused::bad("inlineData has no type of an image"));
        }
        asked.images.push(bytes_of(&text_of(data, "data")?)?);
    } else if let Some(call) = field(part, "functionCall", "function_call") {
        if call.get("args").is_some_and(|args| !args.is_object()) {
            return Err(Refused::bad("args are not an object"));
        }
        asked.calls.push((asked.calls.len().to_string(), text_of(call, "name")?));
    } else if let Some(answer) = field(part, "functionResponse", "function_response") {
        let response = must(answer, "response")?;
        if !response.is_object() {
            return Err(Refused::bad("a response is not an object"));
        }
        // Which field has it is the caller's to choose.
        let text = response.as_object().into_iter().flatten().map(|(_, value)| match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        });
        let text = text.collect::<Vec<_>>().join(" ");
        asked.results.push((asked.results.len().to_string(), text));
    } else {
        return Err(Refused::bad(format!("a part cannot be {part}")));
    }
    Ok(())
}

fn answer(model: &str, parts: &[Value], finish: Option<&str>, turn: Option<&Turn>) -> Value {
    let mut candidate = json!({"content": {"role": "model", "parts": parts}, "index": 0});
    if let Some(finish) = finish {
        candidate["finishReason"] = finish.into();
    }
    let mut answer = json!({"candidates": [candidate], "modelVersion": model, "responseId": "scripted"});
    if let Some(used) = turn.map(|turn| turn.usage) {
        answer["usageMetadata"] = json!({
            "promptTokenCount": used.input, "cachedContentTokenCount": used.cached,
            "candidatesTokenCount": used.output - used.reasoning, "thoughtsTokenCount": used.reasoning,
            "totalTokenCount": used.input + used.output,
        });
    }
    answer
}

fn thought(text: &str) -> Value {
    json!({"text": text, "thought": true})
}

fn calls(turn: &Turn) -> Vec<Value> {
    let one = |call: &super::script::ToolCall| {
        let mut part = json!({"functionCall": {"name": call.name, "args": call.input()}});
        // The first call of a turn has the signature of the thought before it.
        if call.number == 0 {
            part["thoughtSignature"] = SIGNATURE.into();
        }
        part
    };
    turn.calls.iter().map(one).collect()
}

fn finish(turn: &Turn) -> &'static str {
    match turn.why {
        // Calls end a turn like everything else, which translators trip over.
        Why::Done | Why::Calls => "STOP",
        Why::Length => "MAX_TOKENS",
        Why::Refusal => "SAFETY",
    }
}

fn error(status: u16, message: &str) -> Value {
    let name = match status {
        400 => "INVALID_ARGUMENT",
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        429 => "RESOURCE_EXHAUSTED",
        503 => "UNAVAILABLE",
        504 => "DEADLINE_EXCEEDED",
        _ => "INTERNAL",
    };
    json!({"error": {"code": status, "message": message, "status": name}})
}

impl Dialect for Gemini {
    fn ask(&self, request: &Request) -> Result<Asked, Refused> {
        key(request.header("x-goog-api-key"))?;
        let body = body(request)?;
        let last = request.path.rsplit("/models/").next().unwrap_or_default();
        let (model, method) = last.rsplit_once(':').unwrap_or((last, ""));
        let stream = method == "streamGenerateContent";
        if stream && !request.query.split('&').any(|word| word == "alt=sse") {
            return Err(Refused::bad("only alt=sse is spoken here"));
        }
        let mut asked = Asked { model: model.to_owned(), stream, usage: true, ..Asked::default() };
        if let Some(config) = field(&body, "generationConfig", "generation_config") {
            let schema = field(config, "responseSchema", "response_schema")
                .or_else(|| field(config, "responseJsonSchema", "response_json_schema"));
            let kind = field(config, "responseMimeType", "response_mime_type").and_then(Value::as_str);
            asked.shaped = schema.is_some_and(Value::is_object) && kind == Some("application/json");
        }
        for tool in list(&body, "tools") {
            let declared = field(tool, "functionDeclarations", "function_declarations");
            for function in declared.and_then(Value::as_array).map_or(&[][..], Vec::as_slice) {
                let schema =
                    field(function, "parameters", "parametersJsonSchema").cloned().unwrap_or_default();
                asked.tools.push(Tool { name: text_of(function, "name")?, schema });
            }
        }
        must(&body, "contents")?;
        for content in list(&body, "contents") {
            let role = content.get("role").and_then(Value::as_str).unwrap_or("user");
            if !["user", "model", "function"].contains(&role) {
                return Err(Refused::bad("Please use a valid role: user, model."));
            }
            list(content, "parts").iter().try_for_each(|each| part(role, each, &mut asked))?;
        }
        Ok(asked)
    }

    fn whole(&self, turn: &Turn, model: &str) -> Value {
        let mut parts = Vec::new();
        if !turn.thought.is_empty() {
            parts.push(thought(&turn.thought.concat()));
        }
        if turn.speaks() {
            parts.push(json!({"text": turn.text.whole()}));
        }
        parts.extend(calls(turn));
        answer(model, &parts, Some(finish(turn)), Some(turn))
    }

    fn stream(&self, turn: &Turn, asked: &Asked, wire: &mut Wire<'_>) -> Result<(), Stop> {
        // Lines end as this provider ends them.
        let data = |value: &Value| format!("data: {value}\r\n\r\n").into_bytes();
        let piece = |part: Value| data(&answer(&asked.model, &[part], None, None));
        turn.thought.iter().try_for_each(|text| wire.event(&piece(thought(text))))?;
        turn.text.iter().try_for_each(|text| wire.event(&piece(json!({"text": text}))))?;
        calls(turn).into_iter().try_for_each(|call| wire.event(&piece(call)))?;
        wire.last(&data(&answer(&asked.model, &[json!({"text": ""})], Some(finish(turn)), Some(turn))))
    }

    fn refused(&self, status: u16, message: &str) -> Value {
        error(status, message)
    }

    fn failed(&self) -> Vec<u8> {
        format!("data: {}\r\n\r\n", error(503, "scripted failure within the stream")).into_bytes()
    }

    fn wrong_end(&self) -> Vec<u8> {
        b"data: [DONE]\r\n\r\n".to_vec()
    }
}

/// `:batchEmbedContents`.
pub(super) fn embed(body: &Value) -> Result<Value, Refused> {
    must(body, "requests")?;
    let one = |request: &Value| {
        let parts = list(must(request, "content")?, "parts");
        let text: String = parts.iter().map(|part| text_of(part, "text")).collect::<Result<_, _>>()?;
        Ok(json!({"values": super::embedding(&text)}))
    };
    let vectors = list(body, "requests").iter().map(one).collect::<Result<Vec<_>, Refused>>()?;
    Ok(json!({"embeddings": vectors}))
}
