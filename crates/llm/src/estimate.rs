//! How many tokens a prompt can have at most, before anybody has counted them.

use crate::{Image, Part, Request};

/// What a message, a tool or a part costs beside its bytes: marks of speakers, names of fields.
const FRAME: u64 = 16;
/// The most that any provider counts for one picture (Anthropic: 1,600; `OpenAI` in tiles of high detail: 2,500 and
/// more for large ones; Gemini: 258 a tile).
const PICTURE: u64 = 6_000;

/// An upper bound of the tokens of a prompt, for reserving: no tokenizer makes more tokens than there are bytes, and
/// what frames the texts is counted generously. The truth is [`crate::Usage`].
#[must_use]
pub fn estimate(request: &Request) -> u64 {
    let messages = request.messages.iter().map(|message| FRAME.saturating_add(parts(&message.parts)));
    let tools = request.tools.iter().map(|tool| {
        let description = tool.description.as_ref().map_or(0, String::len);
        bytes(tool.name.len()) + bytes(description) + bytes(tool.schema.get().len()) + FRAME
    });
    let format = match &request.format {
        crate::Format::Schema { schema, .. } => bytes(schema.get().len()) + FRAME,
        crate::Format::Text | crate::Format::Json => 0,
    };
    messages.chain(tools).fold(parts(&request.system) + format + FRAME, u64::saturating_add)
}

fn bytes(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

fn parts(parts: &[Part]) -> u64 {
    parts.iter().map(part).fold(0, u64::saturating_add)
}

fn part(part: &Part) -> u64 {
    let own = match part {
        Part::Text(text) | Part::Refusal(text) => bytes(text.len()),
        Part::CacheMark { .. } => 0,
        Part::Image(Image::Url(_) | Image::Bytes { .. }) => PICTURE,
        Part::Reasoning { text, signature, .. } => {
            bytes(text.len()) + bytes(signature.as_ref().map_or(0, String::len))
        }
        Part::Sealed { data, .. } => bytes(data.len()),
        Part::ToolCall { id, name, arguments } => bytes(id.len() + name.len() + arguments.len()),
        Part::ToolResult { id, parts: inner, .. } => bytes(id.len()).saturating_add(parts(inner)),
    };
    own.saturating_add(FRAME)
}
