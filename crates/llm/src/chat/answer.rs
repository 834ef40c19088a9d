//! Answers of chat completions that are no streams, and what both forms say alike.

use super::message::{assistant, write_assistant};
use crate::json::{Fields, Object};
use crate::{Answer, Failure, Kind, Part, StopReason, Usage};

pub(crate) fn read_answer(mut fields: Fields<'_>) -> Result<Answer, Failure> {
    if let Some(error) = fields.take("error") {
        return Err(crate::failures::within(error));
    }
    let id = fields.words("id")?;
    let model = fields.words("model")?;
    let mut choices = fields.need("choices")?.objects()?.into_iter();
    let mut choice = choices.next().ok_or_else(|| fields.wrong("an answer without a choice"))?;
    let mut message = choice.object("message")?.ok_or_else(|| choice.wrong("a choice without a message"))?;
    let parts = assistant(&mut message, &id)?;
    let word = choice.string("finish_reason")?.filter(|word| !word.is_empty());
    let reason = reason(word.as_deref().ok_or_else(|| choice.wrong("it does not say why it ended"))?)?;
    let calls = parts.iter().any(|part| matches!(part, Part::ToolCall { .. }));
    let refused = parts.iter().any(|part| matches!(part, Part::Refusal(_)));
    let usage = fields.object("usage")?.map(read_usage).transpose()?.unwrap_or_default();
    Ok(Answer { id, model, parts, usage, reason: settled(reason, calls, refused), sequence: None })
}

/// Why it ended, in the word of the dialect.
pub(crate) fn reason(word: &str) -> Result<StopReason, Failure> {
    Ok(match word {
        "stop" | "eos" | "end_turn" => StopReason::End,
        "length" | "max_tokens" | "model_length" => StopReason::Length,
        "tool_calls" | "function_call" => StopReason::ToolCalls,
        "content_filter" | "sensitive" => StopReason::Filtered,
        "insufficient_system_resource" => {
            return Err(Failure::new(Kind::Overloaded, "the upstream has no room to finish its answer"));
        }
        "error" | "abort" | "network_error" => {
            return Err(Failure::new(
                Kind::Upstream,
                format!("the upstream ended its answer with {word:?}: ask again"),
            ));
        }
        other => {
            let what =
                format!("an answer that ended because of {other:?}, which is no reason in chat completions");
            return Err(Failure::new(Kind::Malformed, what));
        }
    })
}

/// Many say `stop` where calls wait for their results; an agent that believes it stops.
pub(super) fn settled(reason: StopReason, calls: bool, refused: bool) -> StopReason {
    match reason {
        StopReason::End if calls => StopReason::ToolCalls,
        StopReason::End if refused => StopReason::Refusal,
        reason => reason,
    }
}

/// The word for why it ended.
pub(super) fn word(reason: StopReason, refused: bool) -> Result<&'static str, Failure> {
    Ok(match reason {
        StopReason::End | StopReason::Sequence => "stop",
        StopReason::Refusal if refused => "stop",
        StopReason::Length => "length",
        StopReason::ToolCalls => "tool_calls",
        StopReason::Refusal | StopReason::Filtered => "content_filter",
        StopReason::Paused => return Err(paused()),
    })
}

/// What is said of a paused turn in dialects that have none.
pub(crate) fn paused() -> Failure {
    Failure::new(Kind::Untranslatable, "the provider paused its turn, which this dialect cannot say")
}

pub(crate) fn read_usage(mut fields: Fields<'_>) -> Result<Usage, Failure> {
    let mut count = |name: &str| fields.count(name).map(Option::unwrap_or_default);
    let (input, mut output) = (count("prompt_tokens")?, count("completion_tokens")?);
    let (total, hit) = (count("total_tokens")?, count("prompt_cache_hit_tokens")?);
    let mut details = fields.object("prompt_tokens_details")?;
    let mut detail = |name: &str| match &mut details {
        Some(details) => details.count(name).map(Option::unwrap_or_default),
        None => Ok(0),
    };
    let (cached, cache_write) = (detail("cached_tokens")?, detail("cache_write_tokens")?);
    let more = fields.object("completion_tokens_details")?;
    let reasoning = more.map(|mut more| more.count("reasoning_tokens")).transpose()?.flatten().unwrap_or(0);
    // Some count reasoning beside the words of the answer; the total shows it.
    if reasoning > 0 && total == input.saturating_add(output).saturating_add(reasoning) {
        output = output.saturating_add(reasoning);
    }
    Ok(Usage { input, cache_read: cached.max(hit), cache_write, output, reasoning })
}

pub(super) fn write_usage(mut object: Object<'_>, usage: &Usage) {
    object.plain("prompt_tokens", usage.input);
    object.plain("completion_tokens", usage.output);
    object.plain("total_tokens", usage.input.saturating_add(usage.output));
    {
        let mut details = object.object("prompt_tokens_details");
        details.plain("cached_tokens", usage.cache_read);
        if usage.cache_write > 0 {
            details.plain("cache_write_tokens", usage.cache_write);
        }
    }
    object.object("completion_tokens_details").plain("reasoning_tokens", usage.reasoning);
}

/// The identifier; some clients need one that is not empty.
pub(super) fn id(id: &str) -> &str {
    if id.is_empty() { "chatcmpl-0" } else { id }
}

pub(crate) fn write_answer(mut object: Object<'_>, answer: &Answer) -> Result<(), Failure> {
    object.text("id", id(&answer.id));
    object.text("object", "chat.completion");
    object.plain("created", 0);
    object.text("model", &answer.model);
    {
        let mut choices = object.list("choices");
        let mut choice = choices.object();
        choice.plain("index", 0);
        write_assistant(choice.object("message"), &answer.parts, true);
        choice.null("logprobs");
        let refused = answer.parts.iter().any(|part| matches!(part, Part::Refusal(_)));
        choice.text("finish_reason", word(answer.reason, refused)?);
    }
    write_usage(object.object("usage"), &answer.usage);
    Ok(())
}
