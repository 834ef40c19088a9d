//! Bedrock's converse, as its reference has it, and the frames in which it streams.

use super::http::Request;
use super::script::{SIGNATURE, Turn, Why};
use super::wire::{Stop, Wire};
use super::{Asked, Dialect, Refused, Tool, body, bytes_of, list, must, results_belong, text_of};
use serde_json::{Value, json};

pub(super) struct Converse;

fn call_id(number: usize) -> String {
    format!("tooluse_{number}_of_script")
}

/// The checksum of frames (CRC-32, IEEE 802.3), bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| (sum >> 1) ^ (0xEDB8_8320 & (sum & 1).wrapping_neg()))
    })
}

/// A number that a frame has four bytes for.
fn four(number: usize) -> [u8; 4] {
    u32::try_from(number).unwrap_or(u32::MAX).to_be_bytes()
}

/// A frame (`application/vnd.amazon.eventstream`): lengths, their checksum, headers, payload, the checksum of it all.
fn frame(headers: &[(&str, &str)], payload: &Value) -> Vec<u8> {
    let payload = payload.to_string().into_bytes();
    let mut names = Vec::new();
    for (name, value) in headers {
        names.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
        names.extend(name.as_bytes());
        // The type of the value: a string.
        names.push(7);
        names.extend(u16::try_from(value.len()).unwrap_or(u16::MAX).to_be_bytes());
        names.extend(value.as_bytes());
    }
    let mut frame = Vec::new();
    frame.extend(four(names.len() + payload.len() + 16));
    frame.extend(four(names.len()));
    frame.extend(crc32(&frame).to_be_bytes());
    frame.extend(names);
    frame.extend(payload);
    frame.extend(crc32(&frame).to_be_bytes());
    frame
}

fn event(kind: &str, payload: &Value) -> Vec<u8> {
    let headers = [(":event-type", kind), (":content-type", "application/json"), (":message-type", "event")];
    frame(&headers, payload)
}

fn block(role: &str, block: &Value, asked: &mut Asked) -> Result<(), Refused> {
    if let Some(text) = block.get("text").and_then(Value::as_str) {
        if text.is_empty() {
            return Err(Refused::bad("The text field in the ContentBlock object is blank."));
        }
        if role == "user" {
            asked.said += text;
        }
    } else if let Some(image) = block.get("image") {
        text_of(image, "format")?;
        asked.images.push(bytes_of(&text_of(must(image, "source")?, "bytes")?)?);
    } else if let Some(call) = block.get("toolUse") {
        if !must(call, "input")?.is_object() {
            return Err(Refused::bad("toolUse.input is not an object"));
        }
        asked.calls.push((text_of(call, "toolUseId")?, text_of(call, "name")?));
    } else if let Some(result) = block.get("toolResult") {
        let words = list(result, "content").iter().map(|part| match part.get("json") {
            Some(json) => Ok(json.to_string()),
            None => text_of(part, "text"),
        });
        asked.results.push((text_of(result, "toolUseId")?, words.collect::<Result<_, _>>()?));
    } else if block.get("reasoningContent").is_none() && block.get("cachePoint").is_none() {
        return Err(Refused::bad(format!("a block cannot be {block}")));
    }
    Ok(())
}

fn reason(turn: &Turn) -> &'static str {
    match turn.why {
        Why::Done => "end_turn",
        Why::Calls => "tool_use",
        Why::Length => "max_tokens",
        Why::Refusal => "content_filtered",
    }
}

fn usage(turn: &Turn) -> Value {
    let used = turn.usage;
    json!({"inputTokens": used.input - used.cached, "outputTokens": used.output,
        "totalTokens": used.input + used.output, "cacheReadInputTokens": used.cached, "cacheWriteInputTokens": 0})
}

impl Dialect for Converse {
    fn ask(&self, request: &Request) -> Result<Asked, Refused> {
        let authorized = request.header("authorization").unwrap_or_default();
        let signed = authorized.starts_with("AWS4-HMAC-SHA256 Credential=")
            && ["SignedHeaders=", "Signature="].iter().all(|word| authorized.contains(word))
            && request.header("x-amz-date").is_some();
        if !signed && !authorized.starts_with("Bearer ") {
            return Err(Refused::new(403, "The request is not signed."));
        }
        let body = body(request)?;
        let words: Vec<&str> = request.path.trim_start_matches('/').split('/').collect();
        let ["model", model @ .., method] = words.as_slice() else {
            return Err(Refused::new(404, "no such operation"));
        };
        let stream = *method == "converse-stream";
        let mut asked = Asked { model: model.join("/"), stream, usage: true, ..Asked::default() };
        asked.shaped = body.pointer("/outputConfig/textFormat/structure/jsonSchema/schema").is_some();
        for tool in body.pointer("/toolConfig/tools").and_then(Value::as_array).map_or(&[][..], Vec::as_slice)
        {
            if let Some(spec) = tool.get("toolSpec") {
                let schema = must(must(spec, "inputSchema")?, "json")?.clone();
                asked.tools.push(Tool { name: text_of(spec, "name")?, schema });
            }
        }
        must(&body, "messages")?;
        for message in list(&body, "messages") {
            let role = text_of(message, "role")?;
            list(message, "content").iter().try_for_each(|each| block(&role, each, &mut asked))?;
        }
        results_belong(&asked)?;
        Ok(asked)
    }

    fn whole(&self, turn: &Turn, _: &str) -> Value {
        let mut content = Vec::new();
        if !turn.thought.is_empty() {
            let text = json!({"text": turn.thought.concat(), "signature": SIGNATURE});
            content.push(json!({"reasoningContent": {"reasoningText": text}}));
        }
        if turn.speaks() {
            content.push(json!({"text": turn.text.whole()}));
        }
        content.extend(turn.calls.iter().map(|call| {
            json!({"toolUse": {"toolUseId": call_id(call.number), "name": call.name, "input": call.input()}})
        }));
        json!({"output": {"message": {"role": "assistant", "content": content}}, "stopReason": reason(turn),
            "usage": usage(turn), "metrics": {"latencyMs": 5}})
    }

    fn stream(&self, turn: &Turn, _: &Asked, wire: &mut Wire<'_>) -> Result<(), Stop> {
        let delta = |index: usize, delta: Value| {
            event("contentBlockDelta", &json!({"contentBlockIndex": index, "delta": delta}))
        };
        let stopped = |index: usize| event("contentBlockStop", &json!({"contentBlockIndex": index}));
        wire.event(&event("messageStart", &json!({"role": "assistant"})))?;
        let mut index = 0;
        if !turn.thought.is_empty() {
            for text in &turn.thought {
                wire.event(&delta(index, json!({"reasoningContent": {"text": text}})))?;
            }
            wire.event(&delta(index, json!({"reasoningContent": {"signature": SIGNATURE}})))?;
            wire.event(&stopped(index))?;
            index += 1;
        }
        if turn.speaks() {
            turn.text.iter().try_for_each(|text| wire.event(&delta(index, json!({"text": text}))))?;
            wire.event(&stopped(index))?;
            index += 1;
        }
        for (at, call) in turn.calls.iter().enumerate() {
            let start = json!({"toolUse": {"toolUseId": call_id(call.number), "name": call.name}});
            let begun = json!({"contentBlockIndex": index + at, "start": start});
            wire.event(&event("contentBlockStart", &begun))?;
            for piece in &call.arguments {
                wire.event(&delta(index + at, json!({"toolUse": {"input": piece}})))?;
            }
            wire.event(&stopped(index + at))?;
        }
        wire.last(&event("messageStop", &json!({"stopReason": reason(turn)})))?;
        wire.last(&event("metadata", &json!({"usage": usage(turn), "metrics": {"latencyMs": 5}})))
    }

    fn refused(&self, _: u16, message: &str) -> Value {
        json!({"message": message})
    }

    fn failed(&self) -> Vec<u8> {
        let headers = [
            (":exception-type", "throttlingException"),
            (":content-type", "application/json"),
            (":message-type", "exception"),
        ];
        frame(&headers, &json!({"message": "scripted failure within the stream"}))
    }

    fn wrong_end(&self) -> Vec<u8> {
        event("metadata", &json!({"metrics": {"latencyMs": 5}}))
    }

    fn garbage(&self) -> Vec<u8> {
        let mut frame = event("contentBlockDelta", &json!({"contentBlockIndex": 0, "delta": {"text": "x"}}));
        // The checksum is wrong.
        let last = frame.len() - 1;
        frame[last] ^= 1;
        frame
    }

    fn stream_type(&self) -> &'static str {
        "application/vnd.amazon.eventstream"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_usual_one() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
    }
}
