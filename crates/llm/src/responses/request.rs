//! Requests of responses.

use super::answer::{read_reasoning, write_reasoning};
use crate::chat::{effort_word, ends_with_question, no_arguments, push_result, read_effort, read_sampling};
use crate::json::{Droppable, Fields, List, Node, Object, hint, neutral};
use crate::tools::FAILED;
use crate::{
    Effort, Failure, Format, Image, Message, Part, Reasoning, Request, Role, Sampling, Tool, ToolChoice,
};

/// What may be left out of a request.
const DROPPABLE: &[Droppable] = &[
    hint("metadata"),
    hint("safety_identifier"),
    hint("prompt_cache_key"),
    hint("prompt_cache_retention"),
    hint("prompt_cache_options"),
    hint("stream_options"),
    // It counts tools of the provider's own, which are refused.
    hint("max_tool_calls"),
    neutral("store", &["false"]),
    neutral("background", &["false"]),
    neutral("truncation", &["\"disabled\""]),
    neutral("service_tier", &["\"auto\"", "\"default\""]),
    neutral("top_logprobs", &["0"]),
];
/// What may be left out of an item.
const ITEM: &[Droppable] = &[
    hint("id"),
    hint("status"),
    hint("phase"),
    hint("type"),
    hint("name"),
    neutral("caller", &["{\"type\":\"direct\"}"]),
];
const PART: &[Droppable] =
    &[hint("detail"), hint("annotations"), hint("logprobs"), hint("prompt_cache_breakpoint")];

pub(crate) fn read_request(mut fields: Fields<'_>) -> Result<Request, Failure> {
    let mut request = Request { model: fields.needed_string("model")?, ..Request::default() };
    let instructions = fields.words("instructions")?;
    if !instructions.is_empty() {
        request.system.push(Part::Text(instructions));
    }
    let input = fields.need("input")?;
    if input.is_text() {
        request.messages.push(Message { role: Role::User, parts: vec![Part::Text(input.string()?)] });
    } else {
        for item in input.objects()? {
            read_item(&mut request, item)?;
        }
    }
    for tool in fields.objects("tools")? {
        request.tools.push(read_tool(tool)?);
    }
    request.tool_choice = fields.take("tool_choice").map_or(Ok(ToolChoice::Auto), read_tool_choice)?;
    request.parallel_tools = fields.flag("parallel_tool_calls")?;
    request.max_output = fields.count("max_output_tokens")?;
    request.sampling = read_sampling(&mut fields)?;
    if let Some(mut text) = fields.object("text")? {
        if let Some(format) = text.object("format")? {
            request.format = read_format(format)?;
        }
        text.rest(&[neutral("verbosity", &["\"medium\""])])?;
    }
    if let Some(mut reasoning) = fields.object("reasoning")? {
        let effort = reasoning.take("effort").map(|node| read_effort(&node)).transpose()?;
        let shown = reasoning.take("summary").or(reasoning.take("generate_summary")).is_some();
        reasoning.rest(&[])?;
        request.reasoning = Some(Reasoning { effort, budget: None, shown });
    }
    if let Some(include) = fields.take("include") {
        let at = include.at.clone();
        for node in include.list()? {
            if node.string()? != "reasoning.encrypted_content" {
                return Err(Failure::untranslatable(
                    at,
                    format_args!("{} comes from OpenAI alone", node.text),
                ));
            }
        }
    }
    request.stream = fields.flag("stream")?.unwrap_or(false);
    request.stream_usage = true;
    request.user = fields.string("user")?;
    fields.rest(DROPPABLE)?;
    Ok(request)
}

/// Items of the model that follow each other are one turn.
fn push_said(messages: &mut Vec<Message>, parts: Vec<Part>) {
    match messages.last_mut() {
        Some(last) if last.role == Role::Assistant => last.parts.extend(parts),
        _ => messages.push(Message { role: Role::Assistant, parts }),
    }
}

fn read_item(request: &mut Request, mut item: Fields<'_>) -> Result<(), Failure> {
    let sort = item.string("type")?;
    match sort.as_deref() {
        None | Some("message") => {
            let role = item.needed_string("role")?;
            let parts = read_content(item.need("content")?)?;
            match role.as_str() {
                "assistant" => push_said(&mut request.messages, parts),
                "user" => request.messages.push(Message { role: Role::User, parts }),
                "system" | "developer" if request.messages.is_empty() => request.system.extend(parts),
                "system" | "developer" => request.messages.push(Message { role: Role::System, parts }),
                other => return Err(item.wrong(format_args!("no role is called {other:?}"))),
            }
        }
        Some("function_call") => {
            let call = Part::ToolCall {
                id: item.needed_string("call_id")?,
                name: item.needed_string("name")?,
                arguments: item.words("arguments")?,
            };
            push_said(&mut request.messages, vec![call]);
        }
        Some("function_call_output") => {
            let id = item.needed_string("call_id")?;
            let parts = read_content(item.need("output")?)?;
            push_result(&mut request.messages, Part::ToolResult { id, parts, failed: false });
        }
        Some("reasoning") => {
            let part = read_reasoning(&mut item)?;
            push_said(&mut request.messages, part.into_iter().collect());
        }
        Some(other) => {
            return Err(Failure::untranslatable(
                item.at,
                format_args!("{other} is an item that no other dialect has"),
            ));
        }
    }
    item.rest(ITEM)
}

fn read_content(node: Node<'_>) -> Result<Vec<Part>, Failure> {
    if node.is_text() {
        let text = node.string()?;
        return Ok(if text.is_empty() { Vec::new() } else { vec![Part::Text(text)] });
    }
    let mut parts = Vec::new();
    for mut part in node.objects()? {
        parts.push(match part.needed_string("type")?.as_str() {
            "input_text" | "output_text" | "text" => Part::Text(part.needed_string("text")?),
            "refusal" => Part::Refusal(part.needed_string("refusal")?),
            "input_image" => match part.string("image_url")? {
                Some(url) => Part::Image(Image::from_url(url)),
                None => return Err(Failure::untranslatable(part.at, "an image that only OpenAI has")),
            },
            other => {
                return Err(Failure::untranslatable(part.at, format_args!("{other} is no text or image")));
            }
        });
        part.rest(PART)?;
    }
    Ok(parts)
}

fn read_tool(mut tool: Fields<'_>) -> Result<Tool, Failure> {
    let sort = tool.needed_string("type")?;
    if sort != "function" {
        let why = format!("{sort} is a tool of the provider's own, which other dialects do not have");
        return Err(Failure::untranslatable(tool.at, why));
    }
    let read = Tool {
        name: tool.needed_string("name")?,
        description: tool.string("description")?,
        schema: tool.take("parameters").map_or_else(no_arguments, |node| node.json()),
        strict: tool.flag("strict")?,
    };
    tool.rest(&[neutral("defer_loading", &["false"])])?;
    Ok(read)
}

fn read_tool_choice(node: Node<'_>) -> Result<ToolChoice, Failure> {
    if node.is_text() {
        return match node.string()?.as_str() {
            "auto" => Ok(ToolChoice::Auto),
            "none" => Ok(ToolChoice::None),
            "required" => Ok(ToolChoice::Any),
            other => Err(node.wrong(format_args!("no choice is called {other:?}"))),
        };
    }
    let mut fields = node.object()?;
    if fields.needed_string("type")? != "function" {
        return Err(Failure::untranslatable(fields.at, "only one function can be named"));
    }
    Ok(ToolChoice::Named(fields.needed_string("name")?))
}

fn read_format(mut format: Fields<'_>) -> Result<Format, Failure> {
    let read = match format.needed_string("type")?.as_str() {
        "text" => Format::Text,
        "json_object" => Format::Json,
        "json_schema" => Format::Schema {
            name: format.needed_string("name")?,
            schema: format.need("schema")?.json(),
            strict: format.flag("strict")?,
        },
        other => return Err(format.wrong(format_args!("no format is called {other:?}"))),
    };
    format.rest(&[])?;
    Ok(read)
}

pub(crate) fn write_request(mut object: Object<'_>, request: &Request) -> Result<(), Failure> {
    object.text("model", &request.model);
    let said = |part: &&Part| !matches!(part, Part::CacheMark { .. });
    let system: Vec<Part> = request.system.iter().filter(said).cloned().collect();
    let as_message = match system.as_slice() {
        [] => false,
        [Part::Text(text)] => {
            object.text("instructions", text);
            false
        }
        _ => true,
    };
    {
        let mut list = object.list("input");
        if as_message {
            write_content(list.object(), Role::System, &system, "system")?;
        }
        for (number, message) in request.messages.iter().enumerate() {
            write_message(&mut list, message, &format!("messages.{number}"))?;
        }
    }
    write_tools(&mut object, request);
    object.maybe("max_output_tokens", request.max_output);
    let Sampling { temperature, top_p, top_k, seed, stop, frequency_penalty, presence_penalty } =
        &request.sampling;
    let absent = [
        ("top_k", top_k.is_some()),
        ("seed", seed.is_some()),
        ("stop", !stop.is_empty()),
        ("frequency_penalty", frequency_penalty.is_some()),
        ("presence_penalty", presence_penalty.is_some()),
    ];
    if let Some((field, _)) = absent.iter().find(|(_, said)| *said) {
        return Err(Failure::untranslatable(*field, "OpenAI's responses cannot say it"));
    }
    object.maybe("temperature", *temperature);
    object.maybe("top_p", *top_p);
    write_format(&mut object, &request.format);
    write_thinking(&mut object, request);
    object.maybe_text("user", request.user.as_deref());
    object.plain("store", false);
    if request.stream {
        object.plain("stream", true);
    }
    ends_with_question(request, "OpenAI's responses")
}

fn write_thinking(object: &mut Object<'_>, request: &Request) {
    let Some(reasoning) = &request.reasoning else { return };
    let effort = reasoning.as_effort();
    {
        let mut fields = object.object("reasoning");
        fields.maybe_text("effort", effort.map(effort_word));
        fields.maybe_text("summary", (reasoning.shown && effort != Some(Effort::None)).then_some("auto"));
    }
    if effort != Some(Effort::None) {
        object.list("include").text("reasoning.encrypted_content");
    }
}

fn write_tools(object: &mut Object<'_>, request: &Request) {
    if request.tools.is_empty() {
        return;
    }
    {
        let mut list = object.list("tools");
        for tool in &request.tools {
            let mut entry = list.object();
            entry.text("type", "function");
            entry.text("name", &tool.name);
            entry.maybe_text("description", tool.description.as_deref());
            entry.raw("parameters", tool.schema.get());
            // Where nothing is said this dialect is strict, and others are not.
            entry.plain("strict", tool.strict.unwrap_or(false));
        }
    }
    match &request.tool_choice {
        ToolChoice::Auto => {}
        ToolChoice::None => object.text("tool_choice", "none"),
        ToolChoice::Any => object.text("tool_choice", "required"),
        ToolChoice::Named(name) => {
            let mut choice = object.object("tool_choice");
            choice.text("type", "function");
            choice.text("name", name);
        }
    }
    object.maybe("parallel_tool_calls", request.parallel_tools);
}

fn write_format(object: &mut Object<'_>, format: &Format) {
    let word = match format {
        Format::Text => return,
        Format::Json => "json_object",
        Format::Schema { .. } => "json_schema",
    };
    let mut text = object.object("text");
    let mut inner = text.object("format");
    inner.text("type", word);
    if let Format::Schema { name, schema, strict } = format {
        inner.text("name", name);
        inner.raw("schema", schema.get());
        inner.maybe("strict", *strict);
    }
}

/// Each result, call and piece of reasoning is an item; words between them are a message.
fn write_message(list: &mut List<'_>, message: &Message, at: &str) -> Result<(), Failure> {
    let mut words: Vec<Part> = Vec::new();
    for part in &message.parts {
        let item = matches!(
            part,
            Part::ToolCall { .. } | Part::ToolResult { .. } | Part::Reasoning { .. } | Part::Sealed { .. }
        );
        if !item {
            words.push(part.clone());
            continue;
        }
        flush(list, message.role, &mut words, at)?;
        match part {
            Part::ToolCall { id, name, arguments } => {
                let mut entry = list.object();
                entry.text("type", "function_call");
                entry.text("call_id", id);
                entry.text("name", name);
                entry.text("arguments", if arguments.is_empty() { "{}" } else { arguments });
            }
            Part::ToolResult { id, parts, failed } => {
                let mut entry = list.object();
                entry.text("type", "function_call_output");
                entry.text("call_id", id);
                write_output(&mut entry, parts, *failed, at)?;
            }
            // What is not the provider's own, it refuses.
            Part::Reasoning { signature: None, .. } => {}
            part => write_reasoning(&mut list.object(), part),
        }
    }
    flush(list, message.role, &mut words, at)
}

fn flush(list: &mut List<'_>, role: Role, words: &mut Vec<Part>, at: &str) -> Result<(), Failure> {
    if words.iter().all(|part| matches!(part, Part::CacheMark { .. })) {
        return Ok(());
    }
    let words = std::mem::take(words);
    if role != Role::Assistant {
        return write_content(list.object(), role, &words, at);
    }
    // A list of parts of the model needs identifiers of OpenAI's own; words alone do not.
    for part in &words {
        match part {
            Part::Text(text) => {
                let mut entry = list.object();
                entry.text("type", "message");
                entry.text("role", "assistant");
                entry.text("content", text);
            }
            Part::CacheMark { .. } => {}
            part => write_content(list.object(), role, std::slice::from_ref(part), at)?,
        }
    }
    Ok(())
}

fn write_output(entry: &mut Object<'_>, parts: &[Part], failed: bool, at: &str) -> Result<(), Failure> {
    match parts {
        [] => entry.text("output", if failed { FAILED.trim_end() } else { "" }),
        [Part::Text(text)] if failed => entry.text("output", &format!("{FAILED}{text}")),
        [Part::Text(text)] => entry.text("output", text),
        parts => {
            let mut list = entry.list("output");
            if failed {
                write_part(list.object(), Role::User, &Part::Text(FAILED.trim_end().to_owned()), at)?;
            }
            for part in parts.iter().filter(|part| !matches!(part, Part::CacheMark { .. })) {
                write_part(list.object(), Role::User, part, at)?;
            }
        }
    }
    Ok(())
}

fn write_content(mut entry: Object<'_>, role: Role, parts: &[Part], at: &str) -> Result<(), Failure> {
    entry.text("type", "message");
    entry.text(
        "role",
        match role {
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::System => "system",
        },
    );
    let mut list = entry.list("content");
    for part in parts.iter().filter(|part| !matches!(part, Part::CacheMark { .. })) {
        write_part(list.object(), role, part, at)?;
    }
    Ok(())
}

fn write_part(mut entry: Object<'_>, role: Role, part: &Part, at: &str) -> Result<(), Failure> {
    match part {
        Part::Text(text) => {
            entry.text("type", if role == Role::Assistant { "output_text" } else { "input_text" });
            entry.text("text", text);
        }
        Part::Refusal(text) if role == Role::Assistant => {
            entry.text("type", "refusal");
            entry.text("refusal", text);
        }
        Part::Image(image) if role == Role::User => {
            entry.text("type", "input_image");
            entry.text("image_url", &image.as_url());
            entry.text("detail", "auto");
        }
        _ => return Err(Failure::untranslatable(at, "not in a message of this speaker")),
    }
    Ok(())
}
