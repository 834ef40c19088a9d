//! A message of the model, as it stands in requests and in answers.

use crate::json::{Droppable, Fields, Node, Object, hint, neutral};
use crate::{Failure, Part};

/// What may be left out of a message.
pub(super) const DROPPABLE: &[Droppable] = &[
    hint("name"),
    hint("id"),
    hint("refusal"),
    hint("cache_control"),
    neutral("annotations", &["[]"]),
    neutral("tool_calls", &["[]"]),
];

/// What the model said: reasoning, words, refusal and calls, in this order, which is the only one that the dialect has.
pub(super) fn assistant(fields: &mut Fields<'_>, salt: &str) -> Result<Vec<Part>, Failure> {
    let mut parts = reasoning(fields)?;
    match fields.take("content") {
        None => {}
        Some(node) if node.is_text() => words(&mut parts, node.string()?, Part::Text),
        Some(node) => {
            for mut part in node.objects()? {
                match part.words("type")?.as_str() {
                    "refusal" => words(&mut parts, part.needed_string("refusal")?, Part::Refusal),
                    "text" | "output_text" => words(&mut parts, part.needed_string("text")?, Part::Text),
                    // Mistral's reasoning models say it among the words.
                    "thinking" => thinking(&mut parts, part)?,
                    other => {
                        return Err(part.wrong(format_args!("no part of an answer is of type {other:?}")));
                    }
                }
            }
        }
    }
    if let Some(refusal) = fields.string("refusal")? {
        words(&mut parts, refusal, Part::Refusal);
    }
    for (number, mut call) in fields.objects("tool_calls")?.into_iter().enumerate() {
        let mut function =
            call.object("function")?.ok_or_else(|| call.wrong("only functions can be called"))?;
        let name = function.needed_string("name")?;
        let id = call.string("id")?.filter(|id| !id.is_empty());
        let id = id.unwrap_or_else(|| crate::tools::made_up_id(salt, number, &name));
        parts.push(Part::ToolCall {
            id,
            name,
            arguments: arguments(function.take("arguments"))?.unwrap_or_default(),
        });
    }
    Ok(parts)
}

/// Arguments are JSON in a string; some write the object itself.
pub(super) fn arguments(node: Option<Node<'_>>) -> Result<Option<String>, Failure> {
    match node {
        Some(node) if node.is_object() => Ok(Some(node.text.to_owned())),
        node => node.map(|node| node.string()).transpose(),
    }
}

fn words(parts: &mut Vec<Part>, text: String, part: fn(String) -> Part) {
    if !text.is_empty() {
        parts.push(part(text));
    }
}

fn thinking(parts: &mut Vec<Part>, mut part: Fields<'_>) -> Result<(), Failure> {
    let mut text = String::new();
    for mut piece in part.objects("thinking")? {
        text.push_str(&piece.words("text")?);
    }
    parts.push(Part::Reasoning { id: None, text, signature: None });
    Ok(())
}

/// `reasoning_content` (`DeepSeek`, vLLM, `SGLang`) or `reasoning` (`OpenRouter`, Groq, Ollama); `reasoning_details`
/// says the same again, with proofs and with what is sealed.
fn reasoning(fields: &mut Fields<'_>) -> Result<Vec<Part>, Failure> {
    let mut parts = Vec::new();
    for detail in fields.objects("reasoning_details")? {
        parts.extend(Detail::read(detail)?.map(Detail::part));
    }
    let said = fields.string("reasoning_content")?;
    let also = fields.string("reasoning")?;
    let text = said.or(also).unwrap_or_default();
    let detailed = parts.iter().any(|part| matches!(part, Part::Reasoning { text, .. } if !text.is_empty()));
    if !text.is_empty() && !detailed {
        parts.insert(0, Part::Reasoning { id: None, text, signature: None });
    }
    Ok(parts)
}

/// One of `reasoning_details`.
pub(super) enum Detail {
    Words { id: Option<String>, text: String, signature: Option<String> },
    Sealed { id: Option<String>, data: String },
}

impl Detail {
    pub(super) fn read(mut fields: Fields<'_>) -> Result<Option<Self>, Failure> {
        let id = fields.string("id")?.filter(|id| !id.is_empty());
        Ok(match fields.words("type")?.as_str() {
            "reasoning.encrypted" => Some(Self::Sealed { id, data: fields.words("data")? }),
            "reasoning.text" => {
                let signature = fields.string("signature")?.filter(|text| !text.is_empty());
                Some(Self::Words { id, text: fields.words("text")?, signature })
            }
            "reasoning.summary" => Some(Self::Words { id, text: fields.words("summary")?, signature: None }),
            _ => None,
        })
    }

    fn part(self) -> Part {
        match self {
            Self::Words { id, text, signature } => Part::Reasoning { id, text, signature },
            Self::Sealed { id, data } => Part::Sealed { id, data },
        }
    }
}

/// Writes a message of the model. Words of several parts become one text.
pub(super) fn write_assistant(mut object: Object<'_>, parts: &[Part], reasoning: bool) {
    object.text("role", "assistant");
    let (mut text, mut refusal, mut thought) = (None::<String>, None::<String>, None::<String>);
    for part in parts {
        match part {
            Part::Text(words) => text.get_or_insert_default().push_str(words),
            Part::Refusal(words) => refusal.get_or_insert_default().push_str(words),
            Part::Reasoning { text, .. } => thought.get_or_insert_default().push_str(text),
            _ => {}
        }
    }
    let calls = parts.iter().any(|part| matches!(part, Part::ToolCall { .. }));
    match &text {
        Some(text) => object.text("content", text),
        // Without anything else a message needs words, be they none.
        None if !calls && refusal.is_none() => object.text("content", ""),
        None => object.null("content"),
    }
    object.maybe_text("refusal", refusal.as_deref());
    if reasoning {
        object.maybe_text("reasoning_content", thought.as_deref().filter(|text| !text.is_empty()));
        write_details(&mut object, parts);
    }
    if calls {
        let mut list = object.list("tool_calls");
        for part in parts {
            if let Part::ToolCall { id, name, arguments } = part {
                let mut call = list.object();
                call.text("id", id);
                call.text("type", "function");
                let mut function = call.object("function");
                function.text("name", name);
                function.text("arguments", if arguments.is_empty() { "{}" } else { arguments });
            }
        }
    }
}

/// Writes `reasoning_details`, if there is anything that words alone do not say.
fn write_details(object: &mut Object<'_>, parts: &[Part]) {
    let more = |part: &Part| match part {
        Part::Reasoning { id, signature, .. } => id.is_some() || signature.is_some(),
        part => matches!(part, Part::Sealed { .. }),
    };
    if !parts.iter().any(more) {
        return;
    }
    let mut list = object.list("reasoning_details");
    let mut number = 0;
    for part in parts {
        match part {
            Part::Reasoning { id, text, signature } => {
                let mut detail = list.object();
                detail.text("type", "reasoning.text");
                detail.maybe_text("id", id.as_deref());
                detail.text("text", text);
                detail.maybe_text("signature", signature.as_deref());
                detail.plain("index", number);
            }
            Part::Sealed { id, data } => write_sealed(list.object(), id.as_deref(), data, number),
            _ => continue,
        }
        number += 1;
    }
}

pub(super) fn write_sealed(mut detail: Object<'_>, id: Option<&str>, data: &str, number: u32) {
    detail.text("type", "reasoning.encrypted");
    detail.maybe_text("id", id);
    detail.text("data", data);
    detail.plain("index", number);
}
