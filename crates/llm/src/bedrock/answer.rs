//! Answers of Bedrock's `converse` that are no streams, and what both forms say alike.

use super::request::{read_block, write_block};
use crate::chat::paused;
use crate::json::{Fields, Object};
use crate::{Answer, Failure, Kind, StopReason, Usage};

pub(crate) fn read_answer(mut fields: Fields<'_>, foreign: &mut Option<String>) -> Result<Answer, Failure> {
    let mut output = fields.need("output")?.object()?;
    let mut message = output.need("message")?.object()?;
    let mut parts = Vec::new();
    for block in message.need("content")?.objects()? {
        match read_block(block) {
            Ok(part) => parts.push(part),
            Err(failure) if failure.kind == Kind::Untranslatable => *foreign = Some("a block".to_owned()),
            Err(failure) => return Err(failure),
        }
    }
    let reason = reason(&fields.needed_string("stopReason")?)?;
    let usage = fields.object("usage")?.map(read_usage).transpose()?.unwrap_or_default();
    Ok(Answer { id: String::new(), model: String::new(), parts, usage, reason, sequence: None })
}

/// Why it ended, in the word of the dialect.
pub(crate) fn reason(word: &str) -> Result<StopReason, Failure> {
    Ok(match word {
        "end_turn" => StopReason::End,
        "tool_use" => StopReason::ToolCalls,
        "max_tokens" | "model_context_window_exceeded" => StopReason::Length,
        "stop_sequence" => StopReason::Sequence,
        "guardrail_intervened" | "content_filtered" => StopReason::Filtered,
        "refusal" => StopReason::Refusal,
        "malformed_model_output" | "malformed_tool_use" => {
            return Err(Failure::new(
                Kind::Upstream,
                format!("the model's answer was bad ({word}): ask again"),
            ));
        }
        other => {
            let what = format!("an answer that ended because of {other:?}, which is no reason of Bedrock's");
            return Err(Failure::new(Kind::Malformed, what));
        }
    })
}

/// The word for why it ended.
pub(super) fn word(reason: StopReason) -> Result<&'static str, Failure> {
    match reason {
        StopReason::End => Ok("end_turn"),
        StopReason::ToolCalls => Ok("tool_use"),
        StopReason::Length => Ok("max_tokens"),
        StopReason::Sequence => Ok("stop_sequence"),
        StopReason::Refusal | StopReason::Filtered => Ok("content_filtered"),
        StopReason::Paused => Err(paused()),
    }
}

/// What the cache held stands beside the rest of the prompt.
pub(crate) fn read_usage(mut fields: Fields<'_>) -> Result<Usage, Failure> {
    let mut count = |name: &str| fields.count(name).map(Option::unwrap_or_default);
    let (cache_read, cache_write) = (count("cacheReadInputTokens")?, count("cacheWriteInputTokens")?);
    let input = count("inputTokens")?.saturating_add(cache_read).saturating_add(cache_write);
    Ok(Usage { input, cache_read, cache_write, output: count("outputTokens")?, reasoning: 0 })
}

pub(super) fn write_usage(mut object: Object<'_>, usage: &Usage) {
    let beside = usage.cache_read.saturating_add(usage.cache_write);
    object.plain("inputTokens", usage.input.saturating_sub(beside));
    object.plain("outputTokens", usage.output);
    object.plain("totalTokens", usage.input.saturating_add(usage.output));
    object.plain("cacheReadInputTokens", usage.cache_read);
    object.plain("cacheWriteInputTokens", usage.cache_write);
}

pub(crate) fn write_answer(mut object: Object<'_>, answer: &Answer) -> Result<(), Failure> {
    {
        let mut output = object.object("output");
        let mut message = output.object("message");
        message.text("role", "assistant");
        let mut list = message.list("content");
        for part in &answer.parts {
            write_block(list.object(), part, "content")?;
        }
    }
    object.text("stopReason", word(answer.reason)?);
    write_usage(object.object("usage"), &answer.usage);
    object.object("metrics").plain("latencyMs", 0);
    Ok(())
}
