//! Answers of Anthropic's messages that are no streams, and what both forms say alike.

use super::request::{read_block, write_block};
use crate::json::{Fields, Object};
use crate::{Answer, Failure, Kind, Part, StopReason, Usage};

pub(crate) fn read_answer(mut fields: Fields<'_>, foreign: &mut Option<String>) -> Result<Answer, Failure> {
    if fields.string("type")?.as_deref() == Some("error") {
        let error = fields.need("error")?;
        return Err(crate::failures::within(error));
    }
    let id = fields.words("id")?;
    let model = fields.words("model")?;
    let mut parts = Vec::new();
    for mut block in fields.need("content")?.objects()? {
        match read_block(&mut block) {
            Ok(part) => parts.push(part),
            Err(failure) if failure.kind == Kind::Untranslatable => *foreign = failure.code,
            Err(failure) => return Err(failure),
        }
    }
    let word = fields.string("stop_reason")?.ok_or_else(|| fields.wrong("it does not say why it ended"))?;
    let sequence = fields.string("stop_sequence")?;
    let mut usage = Count::default();
    if let Some(counts) = fields.object("usage")? {
        usage.read(counts)?;
    }
    Ok(Answer { id, model, parts, usage: usage.usage(), reason: reason(&word)?, sequence })
}

/// Why it ended, in the word of the dialect.
pub(crate) fn reason(word: &str) -> Result<StopReason, Failure> {
    Ok(match word {
        "end_turn" => StopReason::End,
        "max_tokens" | "model_context_window_exceeded" => StopReason::Length,
        "stop_sequence" => StopReason::Sequence,
        "tool_use" => StopReason::ToolCalls,
        "pause_turn" => StopReason::Paused,
        "refusal" => StopReason::Refusal,
        other => {
            let what = format!(
                "an answer that ended because of {other:?}, which is no reason in Anthropic's messages"
            );
            return Err(Failure::new(Kind::Malformed, what));
        }
    })
}

/// The word for why it ended.
pub(super) fn word(reason: StopReason) -> &'static str {
    match reason {
        StopReason::End => "end_turn",
        StopReason::Length => "max_tokens",
        StopReason::Sequence => "stop_sequence",
        StopReason::ToolCalls => "tool_use",
        StopReason::Refusal | StopReason::Filtered => "refusal",
        StopReason::Paused => "pause_turn",
    }
}

/// What was used, as the dialect counts it: what the cache held stands beside the rest of the prompt. A stream says it
/// in two pieces; what the later one does not say, the earlier has said.
#[derive(Debug, Default)]
pub(crate) struct Count {
    input: u64,
    read: u64,
    written: u64,
    output: u64,
    thinking: u64,
}

impl Count {
    pub(crate) fn read(&mut self, mut fields: Fields<'_>) -> Result<(), Failure> {
        for (name, own) in [
            ("input_tokens", &mut self.input),
            ("cache_read_input_tokens", &mut self.read),
            ("cache_creation_input_tokens", &mut self.written),
            ("output_tokens", &mut self.output),
        ] {
            if let Some(count) = fields.count(name)? {
                *own = count;
            }
        }
        if let Some(mut details) = fields.object("output_tokens_details")? {
            self.thinking = details.count("thinking_tokens")?.unwrap_or(self.thinking);
        }
        Ok(())
    }

    pub(crate) fn usage(&self) -> Usage {
        Usage {
            input: self.input.saturating_add(self.read).saturating_add(self.written),
            cache_read: self.read,
            cache_write: self.written,
            output: self.output,
            reasoning: self.thinking,
        }
    }
}

pub(super) fn write_usage(mut object: Object<'_>, usage: &Usage) {
    let beside = usage.cache_read.saturating_add(usage.cache_write);
    object.plain("input_tokens", usage.input.saturating_sub(beside));
    object.plain("cache_creation_input_tokens", usage.cache_write);
    object.plain("cache_read_input_tokens", usage.cache_read);
    object.plain("output_tokens", usage.output);
    if usage.reasoning > 0 {
        object.object("output_tokens_details").plain("thinking_tokens", usage.reasoning);
    }
}

/// The identifier; some clients need one that is not empty.
pub(super) fn id(id: &str) -> &str {
    if id.is_empty() { "msg_0" } else { id }
}

pub(crate) fn write_answer(mut object: Object<'_>, answer: &Answer) -> Result<(), Failure> {
    object.text("id", id(&answer.id));
    object.text("type", "message");
    object.text("role", "assistant");
    object.text("model", &answer.model);
    {
        let mut list = object.list("content");
        for part in &answer.parts {
            if !matches!(part, Part::Text(text) if text.is_empty()) {
                write_block(&mut list.object(), part, "content")?;
            }
        }
    }
    object.text("stop_reason", word(answer.reason));
    match &answer.sequence {
        Some(sequence) => object.text("stop_sequence", sequence),
        None => object.null("stop_sequence"),
    }
    write_usage(object.object("usage"), &answer.usage);
    Ok(())
}
