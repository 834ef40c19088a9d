//! Requests of Anthropic's messages.

use crate::chat::{effort_word, no_arguments, read_effort};
use crate::json::{Droppable, Fields, List, Node, Object, hint, neutral};
use crate::tools::{as_object, plain_id, turns};
use crate::{
    Effort, Failure, Format, Image, Kind, Message, Part, Reasoning, Request, Role, Sampling, Tool, ToolChoice,
};

/// The most tokens of an answer where the request does not say it; the dialect demands a number. Who knows the model
/// puts its own limit into [`Request::max_output`].
pub const ANTHROPIC_MAX_OUTPUT: u64 = 4096;

/// What may be left out of a request.
const DROPPABLE: &[Droppable] = &[
    neutral("service_tier", &["\"auto\"", "\"standard_only\""]),
    neutral("speed", &["\"standard\""]),
    neutral("mcp_servers", &["[]"]),
    hint("inference_geo"),
    hint("diagnostics"),
];
/// What may be left out of a block.
const BLOCK: &[Droppable] = &[neutral("citations", &["[]"]), hint("caller"), hint("toolset_name")];
/// What may be left out of a tool.
const TOOL: &[Droppable] = &[
    hint("eager_input_streaming"),
    hint("input_examples"),
    neutral("defer_loading", &["false"]),
    neutral("allowed_callers", &["[\"direct\"]"]),
];

pub(crate) fn read_request(mut fields: Fields<'_>) -> Result<Request, Failure> {
    let mut request = Request { model: fields.needed_string("model")?, ..Request::default() };
    request.max_output = Some(fields.need("max_tokens")?.count()?);
    read_tools(&mut fields, &mut request)?;
    if let Some(system) = fields.take("system") {
        request.system.extend(read_content(system)?);
    }
    for mut message in fields.need("messages")?.objects()? {
        let role = match message.needed_string("role")?.as_str() {
            "user" => Role::User,
            "assistant" => Role::Assistant,
            "system" => Role::System,
            other => return Err(message.wrong(format_args!("no role is called {other:?}"))),
        };
        let parts = read_content(message.need("content")?)?;
        message.rest(&[])?;
        request.messages.push(Message { role, parts });
    }
    // The whole prompt is to be kept: a mark behind its last part.
    if let Some(mark) = fields.object("cache_control")? {
        let mark = read_mark(mark)?;
        if let Some(last) = request.messages.last_mut() {
            last.parts.push(mark);
        }
    }
    request.sampling = Sampling {
        temperature: fields.number("temperature")?,
        top_p: fields.number("top_p")?,
        top_k: fields.count("top_k")?,
        stop: fields.strings("stop_sequences")?,
        ..Sampling::default()
    };
    read_thinking(&mut fields, &mut request)?;
    request.stream = fields.flag("stream")?.unwrap_or(false);
    request.stream_usage = true;
    if let Some(mut metadata) = fields.object("metadata")? {
        request.user = metadata.string("user_id")?;
    }
    fields.rest(DROPPABLE)?;
    Ok(request)
}

fn read_thinking(fields: &mut Fields<'_>, request: &mut Request) -> Result<(), Failure> {
    let mut reasoning = None;
    if let Some(mut thinking) = fields.object("thinking")? {
        let shown = thinking.string("display")?.as_deref() != Some("omitted");
        let (effort, budget) = match thinking.needed_string("type")?.as_str() {
            "disabled" => (Some(Effort::None), None),
            "adaptive" => (None, None),
            "enabled" => (None, Some(thinking.need("budget_tokens")?.count()?)),
            other => return Err(thinking.wrong(format_args!("no thinking is called {other:?}"))),
        };
        thinking.rest(&[])?;
        reasoning = Some(Reasoning { effort, budget, shown });
    }
    if let Some(mut config) = fields.object("output_config")? {
        if let Some(effort) = config.take("effort") {
            let effort = read_effort(&effort)?;
            let reasoning = reasoning.get_or_insert_default();
            reasoning.effort.get_or_insert(effort);
        }
        if let Some(mut format) = config.object("format")? {
            format.take("type");
            let schema = format.need("schema")?.json();
            request.format = Format::Schema { name: "answer".to_owned(), schema, strict: Some(true) };
        }
        config.rest(&[])?;
    }
    request.reasoning = reasoning;
    Ok(())
}

fn read_tools(fields: &mut Fields<'_>, request: &mut Request) -> Result<(), Failure> {
    let mut mark = None;
    for mut tool in fields.objects("tools")? {
        if let Some(sort) = tool.string("type")?
            && sort != "custom"
        {
            let why = format!("{sort} is a tool of the provider's own, which other dialects do not have");
            return Err(Failure::untranslatable(tool.at, why));
        }
        request.tools.push(Tool {
            name: tool.needed_string("name")?,
            description: tool.string("description")?,
            schema: tool.take("input_schema").map_or_else(no_arguments, |node| node.json()),
            strict: tool.flag("strict")?,
        });
        if let Some(control) = tool.object("cache_control")? {
            mark = Some(read_mark(control)?);
        }
        tool.rest(TOOL)?;
    }
    request.system.extend(mark);
    if let Some(mut choice) = fields.object("tool_choice")? {
        request.tool_choice = match choice.needed_string("type")?.as_str() {
            "auto" => ToolChoice::Auto,
            "none" => ToolChoice::None,
            "any" => ToolChoice::Any,
            "tool" => ToolChoice::Named(choice.needed_string("name")?),
            other => return Err(choice.wrong(format_args!("no choice is called {other:?}"))),
        };
        request.parallel_tools = choice.flag("disable_parallel_tool_use")?.map(|not| !not);
        choice.rest(&[])?;
    }
    Ok(())
}

fn read_mark(mut control: Fields<'_>) -> Result<Part, Failure> {
    Ok(Part::CacheMark { hour: control.string("ttl")?.as_deref() == Some("1h") })
}

fn read_content(node: Node<'_>) -> Result<Vec<Part>, Failure> {
    if node.is_text() {
        let text = node.string()?;
        return Ok(if text.is_empty() { Vec::new() } else { vec![Part::Text(text)] });
    }
    let mut parts = Vec::new();
    for mut block in node.objects()? {
        let mark = block.object("cache_control")?.map(read_mark).transpose()?;
        parts.push(read_block(&mut block)?);
        parts.extend(mark);
        block.rest(BLOCK)?;
    }
    Ok(parts)
}

/// A block as it stands in requests and in answers.
pub(super) fn read_block(block: &mut Fields<'_>) -> Result<Part, Failure> {
    Ok(match block.needed_string("type")?.as_str() {
        "text" => Part::Text(block.needed_string("text")?),
        "image" => Part::Image(read_source(block)?),
        "thinking" => Part::Reasoning {
            id: None,
            text: block.words("thinking")?,
            signature: block.string("signature")?.filter(|text| !text.is_empty()),
        },
        "redacted_thinking" => Part::Sealed { id: None, data: block.needed_string("data")? },
        "tool_use" => {
            let (id, name) = (block.needed_string("id")?, block.needed_string("name")?);
            let input = block.need("input")?;
            if !input.is_object() {
                return Err(input.wrong("must be an object"));
            }
            Part::ToolCall { id, name, arguments: input.text.to_owned() }
        }
        "tool_result" => Part::ToolResult {
            id: block.needed_string("tool_use_id")?,
            parts: block.take("content").map_or(Ok(Vec::new()), read_content)?,
            failed: block.flag("is_error")?.unwrap_or(false),
        },
        other => {
            let why = format!("{other} is a block that no other dialect has");
            return Err(Failure::untranslatable(block.at.clone(), why));
        }
    })
}

fn read_source(block: &mut Fields<'_>) -> Result<Image, Failure> {
    let mut source = block.object("source")?.ok_or_else(|| block.wrong("an image without a source"))?;
    match source.needed_string("type")?.as_str() {
        "base64" => Ok(Image::Bytes {
            media_type: source.needed_string("media_type")?,
            base64: source.needed_string("data")?,
        }),
        "url" => Ok(Image::Url(source.needed_string("url")?)),
        other => Err(Failure::untranslatable(source.at, format_args!("an image from {other}"))),
    }
}

pub(crate) fn write_request(mut object: Object<'_>, request: &Request) -> Result<(), Failure> {
    object.text("model", &request.model);
    object.plain("max_tokens", request.max_output.unwrap_or(ANTHROPIC_MAX_OUTPUT));
    let tools_marked = write_tools(&mut object, request);
    let system = if tools_marked { request.system.get(1..).unwrap_or_default() } else { &request.system };
    if !system.is_empty() {
        write_blocks(object.list("system"), system, "system")?;
    }
    {
        let mut list = object.list("messages");
        for (number, message) in turns(request) {
            let mut entry = list.object();
            entry.text("role", role(message.role));
            let at = format!("messages.{number}");
            write_blocks(entry.list("content"), &results_first(&message.parts), &at)?;
        }
    }
    write_sampling(&mut object, &request.sampling)?;
    write_thinking(&mut object, request)?;
    if let Some(user) = &request.user {
        object.object("metadata").text("user_id", user);
    }
    if request.stream {
        object.plain("stream", true);
    }
    Ok(())
}

/// The dialect demands that a turn begins with the results that were waited for.
fn results_first(parts: &[Part]) -> Vec<Part> {
    let is_result = |part: &&Part| matches!(part, Part::ToolResult { .. });
    let rest = parts.iter().filter(|part| !is_result(part));
    parts.iter().filter(is_result).chain(rest).cloned().collect()
}

fn role(role: Role) -> &'static str {
    match role {
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::System => "system",
    }
}

fn write_sampling(object: &mut Object<'_>, sampling: &Sampling) -> Result<(), Failure> {
    let Sampling { temperature, top_p, top_k, seed, stop, frequency_penalty, presence_penalty } = sampling;
    if temperature.is_some_and(|temperature| temperature > 1.0) {
        return Err(Failure::untranslatable("temperature", "Anthropic's goes from 0 to 1"));
    }
    let absent = [
        ("seed", seed.is_some()),
        ("frequency_penalty", frequency_penalty.is_some()),
        ("presence_penalty", presence_penalty.is_some()),
    ];
    if let Some((field, _)) = absent.iter().find(|(_, said)| *said) {
        return Err(Failure::untranslatable(*field, "Anthropic's messages cannot say it"));
    }
    object.maybe("temperature", *temperature);
    object.maybe("top_p", *top_p);
    object.maybe("top_k", *top_k);
    object.texts("stop_sequences", stop);
    Ok(())
}

/// Whether the answer goes on with calls whose thinking was not handed back: the provider refuses to think then.
fn thinking_is_missing(request: &Request) -> bool {
    let turns = turns(request);
    let last = turns.iter().rfind(|(_, message)| message.role == Role::Assistant);
    let goes_on = turns.last().is_some_and(|(_, message)| {
        message.role == Role::User && message.parts.iter().any(|part| matches!(part, Part::ToolResult { .. }))
    });
    let thought = |part: &Part| match part {
        Part::Reasoning { signature, .. } => signature.is_some(),
        part => matches!(part, Part::Sealed { .. }),
    };
    goes_on && last.is_some_and(|(_, message)| !message.parts.iter().any(thought))
}

fn write_thinking(object: &mut Object<'_>, request: &Request) -> Result<(), Failure> {
    let reasoning = request.reasoning.as_ref().filter(|_| !thinking_is_missing(request));
    let effort = reasoning.and_then(|reasoning| reasoning.effort);
    if let Some(reasoning) = reasoning {
        let mut thinking = object.object("thinking");
        match (reasoning.budget, reasoning.effort) {
            (_, Some(Effort::None)) | (Some(0), _) => thinking.text("type", "disabled"),
            (Some(budget), _) => {
                thinking.text("type", "enabled");
                thinking.plain("budget_tokens", budget.max(1024));
            }
            (None, _) => thinking.text("type", "adaptive"),
        }
    }
    let word = match effort {
        None | Some(Effort::None) => None,
        Some(Effort::Minimal) => Some("low"),
        Some(Effort::Highest) => Some("max"),
        Some(effort) => Some(effort_word(effort)),
    };
    let schema = match &request.format {
        Format::Text => None,
        Format::Json => {
            let why = "Anthropic's messages can hold a model to a schema only: give one (json_schema)";
            return Err(Failure::untranslatable("response_format", why));
        }
        Format::Schema { schema, .. } => Some(schema),
    };
    if word.is_some() || schema.is_some() {
        let mut config = object.object("output_config");
        config.maybe_text("effort", word);
        if let Some(schema) = schema {
            let mut format = config.object("format");
            format.text("type", "json_schema");
            format.raw("schema", schema.get());
        }
    }
    Ok(())
}

/// Writes the tools; whether the mark that [`Request::system`] begins with is theirs.
fn write_tools(object: &mut Object<'_>, request: &Request) -> bool {
    let Some(last) = request.tools.len().checked_sub(1) else { return false };
    let mark = match request.system.first() {
        Some(Part::CacheMark { hour }) => Some(*hour),
        _ => None,
    };
    {
        let mut list = object.list("tools");
        for (number, tool) in request.tools.iter().enumerate() {
            let mut entry = list.object();
            entry.text("name", &tool.name);
            entry.maybe_text("description", tool.description.as_deref());
            entry.raw("input_schema", tool.schema.get());
            entry.maybe("strict", tool.strict);
            if number == last {
                write_mark(&mut entry, mark);
            }
        }
    }
    let word = match &request.tool_choice {
        ToolChoice::Auto if request.parallel_tools.is_none() => return mark.is_some(),
        ToolChoice::Auto => "auto",
        ToolChoice::None => "none",
        ToolChoice::Any => "any",
        ToolChoice::Named(_) => "tool",
    };
    let mut choice = object.object("tool_choice");
    choice.text("type", word);
    if let ToolChoice::Named(name) = &request.tool_choice {
        choice.text("name", name);
    }
    if request.tool_choice != ToolChoice::None {
        choice.maybe("disable_parallel_tool_use", request.parallel_tools.map(|may| !may));
    }
    mark.is_some()
}

fn write_mark(entry: &mut Object<'_>, mark: Option<bool>) {
    if let Some(hour) = mark {
        let mut control = entry.object("cache_control");
        control.text("type", "ephemeral");
        control.maybe_text("ttl", hour.then_some("1h"));
    }
}

/// Writes blocks; a mark stands in the block before it. Empty texts, which the provider refuses, are left out.
fn write_blocks(mut list: List<'_>, parts: &[Part], at: &str) -> Result<(), Failure> {
    for (number, part) in parts.iter().enumerate() {
        let mark = match parts.get(number + 1) {
            Some(Part::CacheMark { hour }) => Some(*hour),
            _ => None,
        };
        match part {
            Part::CacheMark { .. } => {}
            Part::Text(text) | Part::Refusal(text) if text.is_empty() => {}
            // What is not the provider's own, it refuses.
            Part::Reasoning { signature: None, .. } => {}
            part => {
                let mut entry = list.object();
                write_block(&mut entry, part, at)?;
                write_mark(&mut entry, mark);
            }
        }
    }
    Ok(())
}

/// A block as it stands in requests and in answers.
pub(super) fn write_block(entry: &mut Object<'_>, part: &Part, at: &str) -> Result<(), Failure> {
    match part {
        Part::Text(text) | Part::Refusal(text) => {
            entry.text("type", "text");
            entry.text("text", text);
        }
        Part::Image(image) => {
            entry.text("type", "image");
            let mut source = entry.object("source");
            match image {
                Image::Url(url) => {
                    source.text("type", "url");
                    source.text("url", url);
                }
                Image::Bytes { media_type, base64 } => {
                    source.text("type", "base64");
                    source.text("media_type", media_type);
                    source.text("data", base64);
                }
            }
        }
        Part::Reasoning { text, signature, .. } => {
            entry.text("type", "thinking");
            entry.text("thinking", text);
            entry.text("signature", signature.as_deref().unwrap_or_default());
        }
        Part::Sealed { data, .. } => {
            entry.text("type", "redacted_thinking");
            entry.text("data", data);
        }
        Part::ToolCall { id, name, arguments } => {
            entry.text("type", "tool_use");
            entry.text("id", &plain_id(id));
            entry.text("name", name);
            entry.raw("input", &as_object(arguments));
        }
        Part::ToolResult { id, parts, failed } => {
            entry.text("type", "tool_result");
            entry.text("tool_use_id", &plain_id(id));
            write_blocks(entry.list("content"), parts, at)?;
            if *failed {
                entry.plain("is_error", true);
            }
        }
        Part::CacheMark { .. } => {
            return Err(Failure::new(Kind::Invalid, format!("{at}: a mark of the cache is no block")));
        }
    }
    Ok(())
}
