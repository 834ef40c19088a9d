//! Answers of responses that are no streams, and what both forms say alike.

use crate::chat::paused;
use crate::json::{Fields, Object};
use crate::tools::made_up;
use crate::{Answer, Failure, Kind, Part, Request, StopReason, Usage};

pub(crate) fn read_answer(mut fields: Fields<'_>) -> Result<Answer, Failure> {
    let (id, model) = (fields.words("id")?, fields.words("model")?);
    let mut parts = Vec::new();
    for mut item in fields.objects("output")? {
        read_item(&mut item, &mut parts)?;
    }
    let calls = parts.iter().any(|part| matches!(part, Part::ToolCall { .. }));
    let refused = parts.iter().any(|part| matches!(part, Part::Refusal(_)));
    let usage = fields.object("usage")?.map(read_usage).transpose()?.unwrap_or_default();
    let reason = reason(&mut fields, calls, refused)?;
    Ok(Answer { id, model, parts, usage, reason, sequence: None })
}

fn read_item(item: &mut Fields<'_>, parts: &mut Vec<Part>) -> Result<(), Failure> {
    match item.needed_string("type")?.as_str() {
        "message" => {
            for mut part in item.need("content")?.objects()? {
                parts.push(match part.needed_string("type")?.as_str() {
                    "refusal" => Part::Refusal(part.needed_string("refusal")?),
                    "output_text" => Part::Text(part.needed_string("text")?),
                    other => return Err(foreign(other)),
                });
            }
        }
        "function_call" => parts.push(Part::ToolCall {
            id: item.needed_string("call_id")?,
            name: item.needed_string("name")?,
            arguments: item.words("arguments")?,
        }),
        "reasoning" => parts.extend(read_reasoning(item)?),
        other => return Err(foreign(other)),
    }
    Ok(())
}

/// Of an item or a part that nobody can have asked for.
pub(super) fn foreign(sort: &str) -> Failure {
    Failure::new(
        Kind::Malformed,
        format!("the answer has something of type {sort:?}, which no other dialect has"),
    )
}

/// An item of reasoning: words, what proves them, or what is sealed. Nothing of all that is nothing.
pub(super) fn read_reasoning(item: &mut Fields<'_>) -> Result<Option<Part>, Failure> {
    let id = item.string("id")?;
    let mut pieces = Vec::new();
    for mut piece in item.objects("summary")? {
        pieces.push(piece.words("text")?);
    }
    let contents = item.objects("content")?;
    if pieces.is_empty() {
        for mut piece in contents {
            pieces.push(piece.words("text")?);
        }
    }
    let proof = item.string("encrypted_content")?.filter(|text| !text.is_empty());
    Ok(match (pieces.join("\n\n"), proof) {
        (text, Some(data)) if text.is_empty() => Some(Part::Sealed { id, data }),
        (text, None) if text.is_empty() => None,
        (text, signature) => Some(Part::Reasoning { id, text, signature }),
    })
}

/// An item of reasoning, as it stands in requests and in answers.
pub(super) fn write_reasoning(entry: &mut Object<'_>, part: &Part) {
    entry.text("type", "reasoning");
    let (id, text, proof) = match part {
        Part::Reasoning { id, text, signature } => (id, text.as_str(), signature.as_deref()),
        Part::Sealed { id, data } => (id, "", Some(data.as_str())),
        _ => return,
    };
    entry.maybe_text("id", id.as_deref());
    write_summary(entry, text);
    entry.maybe_text("encrypted_content", proof);
}

fn write_summary(entry: &mut Object<'_>, text: &str) {
    let mut list = entry.list("summary");
    if !text.is_empty() {
        let mut piece = list.object();
        piece.text("type", "summary_text");
        piece.text("text", text);
    }
}

/// Why it ended. The dialect has no word for a call that waits; there is one if there is one.
pub(crate) fn reason(response: &mut Fields<'_>, calls: bool, refused: bool) -> Result<StopReason, Failure> {
    if let Some(error) = response.take("error") {
        return Err(crate::failures::within(error));
    }
    let status = response.words("status")?;
    let why = match response.object("incomplete_details")? {
        Some(mut details) => details.words("reason")?,
        None => String::new(),
    };
    match (status.as_str(), why.as_str()) {
        ("completed", _) if calls => Ok(StopReason::ToolCalls),
        ("completed", _) if refused => Ok(StopReason::Refusal),
        ("completed", _) => Ok(StopReason::End),
        ("incomplete", "content_filter") => Ok(StopReason::Filtered),
        ("incomplete", "max_output_tokens") => Ok(StopReason::Length),
        ("cancelled", _) => Err(Failure::new(Kind::Upstream, "the provider cancelled its answer")),
        ("failed", _) => Err(Failure::new(Kind::Upstream, "the provider failed and did not say why")),
        _ => Err(response.wrong(format_args!("an answer that is {status:?} because of {why:?}"))),
    }
}

pub(crate) fn read_usage(mut fields: Fields<'_>) -> Result<Usage, Failure> {
    let mut usage = Usage {
        input: fields.count("input_tokens")?.unwrap_or(0),
        output: fields.count("output_tokens")?.unwrap_or(0),
        ..Usage::default()
    };
    if let Some(mut details) = fields.object("input_tokens_details")? {
        usage.cache_read = details.count("cached_tokens")?.unwrap_or(0);
        usage.cache_write = details.count("cache_write_tokens")?.unwrap_or(0);
    }
    if let Some(mut details) = fields.object("output_tokens_details")? {
        usage.reasoning = details.count("reasoning_tokens")?.unwrap_or(0);
    }
    Ok(usage)
}

fn write_usage(mut object: Object<'_>, usage: &Usage) {
    object.plain("input_tokens", usage.input);
    {
        let mut details = object.object("input_tokens_details");
        details.plain("cached_tokens", usage.cache_read);
        details.plain("cache_write_tokens", usage.cache_write);
    }
    object.plain("output_tokens", usage.output);
    object.object("output_tokens_details").plain("reasoning_tokens", usage.reasoning);
    object.plain("total_tokens", usage.input.saturating_add(usage.output));
}

/// What is said of an answer beside what it says itself.
#[derive(Debug, Clone)]
pub(super) struct Head {
    pub(super) id: String,
    pub(super) model: String,
    parallel: bool,
    max_output: Option<u64>,
}

impl Head {
    pub(super) fn new(request: &Request) -> Self {
        Self {
            id: own_id(""),
            model: request.model.clone(),
            parallel: request.parallel_tools.unwrap_or(true),
            max_output: request.max_output,
        }
    }

    pub(super) fn start(&mut self, id: &str, model: &str) {
        (self.id, self.model) = (own_id(id), model.to_owned());
    }

    /// The identifier of the item of a block.
    pub(super) fn item_id(&self, index: usize, part: &Part) -> String {
        let kind = match part {
            Part::Reasoning { id: Some(id), .. } | Part::Sealed { id: Some(id), .. } => return id.clone(),
            Part::Reasoning { .. } | Part::Sealed { .. } => "rs",
            Part::ToolCall { .. } => "fc",
            _ => "msg",
        };
        made_up(kind, &self.id, index, "")
    }

    /// The whole object; `write` writes its items.
    pub(super) fn write(
        &self,
        mut object: Object<'_>,
        state: State<'_>,
        parts: &[Part],
    ) -> Result<(), Failure> {
        let (status, why) = match state {
            State::Running => ("in_progress", None),
            State::Failed(_) => ("failed", None),
            State::Ended(reason, _) => word(reason, parts)?,
        };
        object.text("id", &self.id);
        object.text("object", "response");
        object.plain("created_at", 0);
        object.text("status", status);
        match state {
            State::Failed(failure) => {
                let mut error = object.object("error");
                let code = crate::failures::openai_code(failure.kind).or(failure.code.as_deref());
                error.text("code", code.unwrap_or("server_error"));
                error.text("message", &failure.message);
            }
            State::Running | State::Ended(..) => object.null("error"),
        }
        match why {
            Some(why) => object.object("incomplete_details").text("reason", why),
            None => object.null("incomplete_details"),
        }
        object.null("instructions");
        object.maybe("max_output_tokens", self.max_output);
        object.text("model", &self.model);
        {
            let mut list = object.list("output");
            for (index, part) in parts.iter().enumerate() {
                write_item(list.object(), &self.item_id(index, part), part, true);
            }
        }
        object.plain("parallel_tool_calls", self.parallel);
        object.null("previous_response_id");
        object.plain("store", false);
        object.null("temperature");
        object.object("text").object("format").text("type", "text");
        object.text("tool_choice", "auto");
        drop(object.list("tools"));
        object.null("top_p");
        object.text("truncation", "disabled");
        match state {
            State::Ended(_, usage) => write_usage(object.object("usage"), usage),
            State::Running | State::Failed(_) => object.null("usage"),
        }
        object.null("user");
        drop(object.object("metadata"));
        Ok(())
    }
}

/// How far an answer is.
#[derive(Debug, Clone, Copy)]
pub(super) enum State<'a> {
    Running,
    Ended(StopReason, &'a Usage),
    Failed(&'a Failure),
}

fn own_id(id: &str) -> String {
    if id.is_empty() { "resp_0".to_owned() } else { id.to_owned() }
}

/// The status of an answer that ended, and why it is not complete.
pub(super) fn word(
    reason: StopReason,
    parts: &[Part],
) -> Result<(&'static str, Option<&'static str>), Failure> {
    let refused = parts.iter().any(|part| matches!(part, Part::Refusal(_)));
    match reason {
        StopReason::End | StopReason::Sequence | StopReason::ToolCalls => Ok(("completed", None)),
        StopReason::Refusal if refused => Ok(("completed", None)),
        StopReason::Length => Ok(("incomplete", Some("max_output_tokens"))),
        StopReason::Filtered | StopReason::Refusal => Ok(("incomplete", Some("content_filter"))),
        StopReason::Paused => Err(paused()),
    }
}

/// An item, as it is when it begins or when it is done.
pub(super) fn write_item(mut entry: Object<'_>, id: &str, part: &Part, done: bool) {
    let status = if done { "completed" } else { "in_progress" };
    match part {
        Part::ToolCall { id: call, name, arguments } => {
            entry.text("type", "function_call");
            entry.text("id", id);
            entry.text("call_id", call);
            entry.text("name", name);
            entry.text("arguments", if done && arguments.is_empty() { "{}" } else { arguments });
            entry.text("status", status);
        }
        Part::Reasoning { text, signature, .. } => {
            entry.text("type", "reasoning");
            entry.text("id", id);
            write_summary(&mut entry, text);
            entry.maybe_text("encrypted_content", signature.as_deref());
        }
        Part::Sealed { data, .. } => {
            entry.text("type", "reasoning");
            entry.text("id", id);
            write_summary(&mut entry, "");
            entry.text("encrypted_content", data);
        }
        part => {
            entry.text("type", "message");
            entry.text("id", id);
            entry.text("role", "assistant");
            entry.text("status", status);
            let mut content = entry.list("content");
            if done {
                write_content_part(content.object(), part);
            }
        }
    }
}

/// A part of a message.
pub(super) fn write_content_part(mut entry: Object<'_>, part: &Part) {
    match part {
        Part::Refusal(text) => {
            entry.text("type", "refusal");
            entry.text("refusal", text);
        }
        Part::Text(text) => {
            entry.text("type", "output_text");
            entry.text("text", text);
            drop(entry.list("annotations"));
            drop(entry.list("logprobs"));
        }
        _ => {}
    }
}

pub(crate) fn write_answer(object: Object<'_>, request: &Request, answer: &Answer) -> Result<(), Failure> {
    let mut head = Head::new(request);
    head.start(&answer.id, &answer.model);
    head.write(object, State::Ended(answer.reason, &answer.usage), &answer.parts)
}
