//! Keeping a conversation within what a model can read.

use super::Settings;
use crate::text::{head, tail};
use octant_llm::{Message, Part, Role};

/// How long a result may be once it is old, in bytes.
const RESULT_MAX: usize = 600;
/// How long arguments may be once they are old, in bytes.
const ARGUMENTS_MAX: usize = 2000;
/// How many of the last messages are never shortened.
const FRESH: usize = 4;
/// What a picture counts for, in bytes.
const IMAGE_BYTES: usize = 6000;
/// What every part counts for beside its text, in bytes.
const PART_BYTES: usize = 24;
/// Bytes of a token. English has four, code and other languages less.
const TOKEN_BYTES: usize = 3;

/// What the model is asked for a summary with.
pub(super) const SUMMARISE: &str = "The conversation gets too long. Write down everything of it that is needed to go on, for \
    somebody who will see nothing else of it: the task word for word, what was decided and why, what was done and with \
    which results, which files and commands matter, what failed, and what comes next. Only the summary; call no tool.";

/// The summary where the model could not make one.
pub const NO_SUMMARY: &str = "No summary could be made of what came before. /workspace/.octant/transcript.jsonl has it; look at the state of the files.";

fn bytes(part: &Part) -> usize {
    PART_BYTES
        + match part {
            Part::Text(text) | Part::Reasoning { text, .. } | Part::Refusal(text) => text.len(),
            Part::CacheMark { .. } => 0,
            Part::Image(_) => IMAGE_BYTES,
            Part::Sealed { data, .. } => data.len(),
            Part::ToolCall { name, arguments, .. } => name.len() + arguments.len(),
            Part::ToolResult { parts, .. } => parts.iter().map(bytes).sum(),
        }
}

fn tokens_of(bytes: usize) -> u64 {
    u64::try_from(bytes / TOKEN_BYTES).unwrap_or(u64::MAX)
}

/// About how many tokens messages have.
pub(super) fn tokens(messages: &[Message]) -> u64 {
    tokens_of(messages.iter().flat_map(|message| &message.parts).map(bytes).sum())
}

/// About how many tokens everything else of a request has.
pub(super) fn fixed(settings: &Settings) -> u64 {
    let tools = settings.tools.iter().map(|tool| {
        let about = tool.about.as_ref().map_or(0, String::len);
        tool.name.len() + about + tool.schema.to_string().len() + PART_BYTES
    });
    tokens_of(settings.system.len() + tools.sum::<usize>())
}

/// How many messages are old.
pub(super) fn old(messages: &[Message]) -> usize {
    messages.len().saturating_sub(FRESH)
}

fn long(part: &Part) -> bool {
    match part {
        Part::ToolResult { parts, .. } => parts.iter().any(|part| match part {
            Part::Text(text) => text.len() > RESULT_MAX,
            part => matches!(part, Part::Image(_)),
        }),
        Part::ToolCall { arguments, .. } => arguments.len() > ARGUMENTS_MAX,
        _ => false,
    }
}

/// Whether shortening the first messages changes anything.
pub(super) fn can_shorten(messages: &[Message], upto: usize) -> bool {
    messages[..upto].iter().flat_map(|message| &message.parts).any(long)
}

/// Shortens results and arguments in the first messages.
pub(super) fn shorten(messages: &mut [Message], upto: usize) {
    for part in messages.iter_mut().take(upto).flat_map(|message| &mut message.parts) {
        match part {
            Part::ToolResult { parts, .. } => parts.iter_mut().for_each(shorten_result),
            Part::ToolCall { arguments, .. } if arguments.len() > ARGUMENTS_MAX => {
                // They stay an object, which is what every provider wants there.
                *arguments = format!("{{\"left_out\":\"{} bytes of arguments\"}}", arguments.len());
            }
            _ => {}
        }
    }
}

fn shorten_result(part: &mut Part) {
    match part {
        Part::Text(text) if text.len() > RESULT_MAX => {
            let (first, last) = (head(text, RESULT_MAX / 2), tail(text, RESULT_MAX / 4));
            let left = text.len() - first.len() - last.len();
            *text = format!("{first}\n[... {left} bytes of an old result left out ...]\n{last}");
        }
        Part::Image(_) => {
            *part = Part::Text("[an old picture left out]".to_owned());
        }
        _ => {}
    }
}

/// Before which message the conversation is cut, so that about `keep` tokens are left and no result is parted from its call;
/// none where there is nothing to be gained.
pub(super) fn cut(messages: &[Message], keep: u64) -> Option<usize> {
    let mut kept = 0;
    let mut at = messages.len();
    for (index, message) in messages.iter().enumerate().rev() {
        kept += tokens(std::slice::from_ref(message));
        if kept > keep {
            break;
        }
        if message.role == Role::Assistant {
            at = index;
        }
    }
    // What remains of one message that was said alone is that message.
    (at > 1).then_some(at)
}

/// Replaces the messages before `upto` by the task and a summary.
pub(super) fn compact(messages: &mut Vec<Message>, upto: usize, task: &str, summary: &str) {
    let upto = upto.min(messages.len());
    let text = format!(
        "The task:\n{task}\n\nThe conversation before this was replaced by a summary:\n{summary}\n\nGo on from here."
    );
    let summary = Message { role: Role::User, parts: vec![Part::Text(text)] };
    messages.splice(..upto, [summary]);
}
