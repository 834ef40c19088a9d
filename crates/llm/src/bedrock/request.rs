//! Requests of Bedrock's `converse`.

use crate::chat::{effort_word, no_arguments, read_effort};
use crate::json::{Droppable, Fields, Json, List, Object, hint, neutral};
use crate::tools::{as_object, plain_id, turns};
use crate::{
    Effort, Failure, Format, Image, Kind, Message, Part, Reasoning, Request, Role, Sampling, Tool, ToolChoice,
};

/// What may be left out of a request.
const DROPPABLE: &[Droppable] = &[
    hint("requestMetadata"),
    hint("projectIdentifier"),
    hint("performanceConfig"),
    neutral("additionalModelResponseFieldPaths", &["[]"]),
    neutral("additionalModelRequestFields", &["{}"]),
    neutral("promptVariables", &["{}"]),
];

pub(crate) fn read_request(mut fields: Fields<'_>) -> Result<Request, Failure> {
    let mut request = Request { stream_usage: true, ..Request::default() };
    request.model = fields.words("modelId")?;
    read_tools(&mut fields, &mut request)?;
    for block in fields.objects("system")? {
        request.system.push(read_block(block)?);
    }
    for mut message in fields.objects("messages")? {
        let role = match message.needed_string("role")?.as_str() {
            "user" => Role::User,
            "assistant" => Role::Assistant,
            "system" => Role::System,
            other => return Err(message.wrong(format_args!("no role is called {other:?}"))),
        };
        let parts = message.objects("content")?.into_iter().map(read_block).collect::<Result<_, _>>()?;
        request.messages.push(Message { role, parts });
    }
    if let Some(mut config) = fields.object("inferenceConfig")? {
        request.max_output = config.count("maxTokens")?;
        request.sampling = Sampling {
            temperature: config.number("temperature")?,
            top_p: config.number("topP")?,
            stop: config.strings("stopSequences")?,
            ..Sampling::default()
        };
        config.rest(&[])?;
    }
    if let Some(mut more) = fields.object("additionalModelRequestFields")? {
        if let Some(mut thinking) = more.object("thinking")? {
            let budget = thinking.count("budget_tokens")?;
            request.reasoning = Some(Reasoning { effort: None, budget, shown: true });
        }
        more.rest(&[])?;
    }
    if let Some(mut config) = fields.object("outputConfig")? {
        if let Some(effort) = config.take("effort") {
            let effort = Some(read_effort(&effort)?);
            request.reasoning = Some(Reasoning { effort, budget: None, shown: true });
        }
        if let Some(mut format) = config.object("textFormat")? {
            request.format = read_format(&mut format)?;
        }
        config.rest(&[])?;
    }
    fields.rest(DROPPABLE)?;
    Ok(request)
}

fn read_format(format: &mut Fields<'_>) -> Result<Format, Failure> {
    let mut structure = format.need("structure")?.object()?;
    let mut schema = structure.need("jsonSchema")?.object()?;
    Ok(Format::Schema {
        name: schema.string("name")?.unwrap_or_else(|| "answer".to_owned()),
        schema: Json::parse(&schema.needed_string("schema")?)?,
        strict: None,
    })
}

fn read_tools(fields: &mut Fields<'_>, request: &mut Request) -> Result<(), Failure> {
    let Some(mut config) = fields.object("toolConfig")? else { return Ok(()) };
    for mut tool in config.objects("tools")? {
        if let Some(mut spec) = tool.object("toolSpec")? {
            let schema = match spec.object("inputSchema")? {
                Some(mut schema) => schema.need("json")?.json(),
                None => no_arguments(),
            };
            request.tools.push(Tool {
                name: spec.needed_string("name")?,
                description: spec.string("description")?,
                schema,
                strict: spec.flag("strict")?,
            });
        } else if let Some(mut mark) = tool.object("cachePoint")? {
            request.system.push(read_mark(&mut mark)?);
        }
        tool.rest(&[])?;
    }
    if let Some(mut choice) = config.object("toolChoice")? {
        request.tool_choice = if let Some(mut tool) = choice.object("tool")? {
            ToolChoice::Named(tool.needed_string("name")?)
        } else if choice.take("any").is_some() {
            ToolChoice::Any
        } else {
            ToolChoice::Auto
        };
    }
    Ok(())
}

fn read_mark(mark: &mut Fields<'_>) -> Result<Part, Failure> {
    Ok(Part::CacheMark { hour: mark.string("ttl")?.as_deref() == Some("1h") })
}

/// A block as it stands in requests and in answers.
pub(super) fn read_block(mut block: Fields<'_>) -> Result<Part, Failure> {
    if let Some(text) = block.string("text")? {
        return Ok(Part::Text(text));
    }
    if let Some(mut image) = block.object("image")? {
        let format = image.needed_string("format")?;
        let mut source = image.need("source")?.object()?;
        let base64 = source.string("bytes")?;
        let base64 =
            base64.ok_or_else(|| Failure::untranslatable(image.at, "a picture that only Bedrock has"))?;
        return Ok(Part::Image(Image::Bytes { media_type: format!("image/{format}"), base64 }));
    }
    if let Some(mut call) = block.object("toolUse")? {
        return Ok(Part::ToolCall {
            id: call.needed_string("toolUseId")?,
            name: call.needed_string("name")?,
            arguments: call.need("input")?.text.to_owned(),
        });
    }
    if let Some(mut result) = block.object("toolResult")? {
        let mut parts = Vec::new();
        for mut part in result.objects("content")? {
            parts.push(match part.take("json") {
                Some(json) => Part::Text(json.text.to_owned()),
                None => read_block(part)?,
            });
        }
        let failed = result.string("status")?.as_deref() == Some("error");
        return Ok(Part::ToolResult { id: result.needed_string("toolUseId")?, parts, failed });
    }
    if let Some(mut reasoning) = block.object("reasoningContent")? {
        if let Some(data) = reasoning.string("redactedContent")? {
            return Ok(Part::Sealed { id: None, data });
        }
        let mut said = reasoning.need("reasoningText")?.object()?;
        let signature = said.string("signature")?.filter(|text| !text.is_empty());
        return Ok(Part::Reasoning { id: None, text: said.words("text")?, signature });
    }
    match block.object("cachePoint")? {
        Some(mut mark) => read_mark(&mut mark),
        None => Err(Failure::untranslatable(block.at, "a block that no other dialect has")),
    }
}

pub(crate) fn write_request(mut object: Object<'_>, request: &Request) -> Result<(), Failure> {
    let marked = write_tools(&mut object, request)?;
    let system = if marked { request.system.get(1..).unwrap_or_default() } else { &request.system };
    if !system.is_empty() {
        write_blocks(object.list("system"), system, "system")?;
    }
    {
        let mut list = object.list("messages");
        for (number, message) in turns(request) {
            let mut entry = list.object();
            entry.text(
                "role",
                match message.role {
                    Role::User => "user",
                    Role::Assistant => "assistant",
                    Role::System => "system",
                },
            );
            write_blocks(entry.list("content"), &message.parts, &format!("messages.{number}"))?;
        }
    }
    let Sampling { temperature, top_p, top_k, seed, stop, frequency_penalty, presence_penalty } =
        &request.sampling;
    let absent = [
        ("top_k", top_k.is_some()),
        ("seed", seed.is_some()),
        ("frequency_penalty", frequency_penalty.is_some()),
        ("presence_penalty", presence_penalty.is_some()),
    ];
    if let Some((field, _)) = absent.iter().find(|(_, said)| *said) {
        return Err(Failure::untranslatable(*field, "Bedrock's converse cannot say it"));
    }
    {
        let mut config = object.object("inferenceConfig");
        config.maybe("maxTokens", request.max_output);
        config.maybe("temperature", *temperature);
        config.maybe("topP", *top_p);
        config.texts("stopSequences", stop);
    }
    write_output(&mut object, request)
}

fn write_output(object: &mut Object<'_>, request: &Request) -> Result<(), Failure> {
    let reasoning = request.reasoning.as_ref();
    if let Some(budget) = reasoning.and_then(|reasoning| reasoning.budget).filter(|budget| *budget > 0) {
        let mut more = object.object("additionalModelRequestFields");
        let mut thinking = more.object("thinking");
        thinking.text("type", "enabled");
        thinking.plain("budget_tokens", budget.max(1024));
    }
    let effort =
        reasoning.filter(|reasoning| reasoning.budget.is_none()).and_then(|reasoning| reasoning.effort);
    let word = match effort {
        None | Some(Effort::None) => None,
        Some(Effort::Minimal) => Some("low"),
        Some(Effort::Highest) => Some("max"),
        Some(effort) => Some(effort_word(effort)),
    };
    let schema = match &request.format {
        Format::Text => None,
        Format::Json => {
            let why = "Bedrock's converse can hold a model to a schema only: give one (json_schema)";
            return Err(Failure::untranslatable("response_format", why));
        }
        Format::Schema { name, schema, .. } => Some((name, schema)),
    };
    if word.is_some() || schema.is_some() {
        let mut config = object.object("outputConfig");
        config.maybe_text("effort", word);
        if let Some((name, schema)) = schema {
            let mut format = config.object("textFormat");
            format.text("type", "json_schema");
            let mut structure = format.object("structure");
            let mut inner = structure.object("jsonSchema");
            inner.text("schema", schema.get());
            inner.text("name", name);
        }
    }
    Ok(())
}

/// Writes the tools; whether the mark that [`Request::system`] begins with is theirs.
fn write_tools(object: &mut Object<'_>, request: &Request) -> Result<bool, Failure> {
    if request.tools.is_empty() {
        return Ok(false);
    }
    if request.tool_choice == ToolChoice::None {
        return Err(Failure::untranslatable(
            "tool_choice",
            "Bedrock's converse cannot forbid calls: send no tools",
        ));
    }
    if request.parallel_tools == Some(false) {
        return Err(Failure::untranslatable(
            "parallel_tool_calls",
            "Bedrock's converse cannot forbid several calls",
        ));
    }
    let mut config = object.object("toolConfig");
    let mut marked = false;
    {
        let mut list = config.list("tools");
        for tool in &request.tools {
            let mut entry = list.object();
            let mut spec = entry.object("toolSpec");
            spec.text("name", &tool.name);
            spec.maybe_text("description", tool.description.as_deref().filter(|text| !text.is_empty()));
            spec.object("inputSchema").raw("json", tool.schema.get());
            spec.maybe("strict", tool.strict);
        }
        if let Some(Part::CacheMark { hour }) = request.system.first() {
            write_mark(list.object(), *hour);
            marked = true;
        }
    }
    match &request.tool_choice {
        ToolChoice::Auto | ToolChoice::None => {}
        ToolChoice::Any => drop(config.object("toolChoice").object("any")),
        ToolChoice::Named(name) => config.object("toolChoice").object("tool").text("name", name),
    }
    Ok(marked)
}

fn write_mark(mut entry: Object<'_>, hour: bool) {
    let mut mark = entry.object("cachePoint");
    mark.text("type", "default");
    mark.maybe_text("ttl", hour.then_some("1h"));
}

fn write_blocks(mut list: List<'_>, parts: &[Part], at: &str) -> Result<(), Failure> {
    for part in parts {
        match part {
            Part::Text(text) | Part::Refusal(text) if text.is_empty() => {}
            // What is not the provider's own, it refuses.
            Part::Reasoning { signature: None, .. } => {}
            part => write_block(list.object(), part, at)?,
        }
    }
    Ok(())
}

/// A block as it stands in requests and in answers.
pub(super) fn write_block(mut entry: Object<'_>, part: &Part, at: &str) -> Result<(), Failure> {
    match part {
        Part::Text(text) | Part::Refusal(text) => entry.text("text", text),
        Part::CacheMark { hour } => write_mark(entry, *hour),
        Part::Image(Image::Bytes { media_type, base64 }) => {
            let format = media_type.strip_prefix("image/").unwrap_or_default();
            if !matches!(format, "png" | "jpeg" | "gif" | "webp") {
                return Err(Failure::untranslatable(
                    at,
                    format_args!("Bedrock takes no picture of type {media_type}"),
                ));
            }
            let mut image = entry.object("image");
            image.text("format", format);
            image.object("source").text("bytes", base64);
        }
        Part::Image(Image::Url(_)) => {
            return Err(Failure::untranslatable(at, "Bedrock takes pictures in base64 only, not by URL"));
        }
        Part::Reasoning { text, signature, .. } => {
            let mut reasoning = entry.object("reasoningContent");
            let mut said = reasoning.object("reasoningText");
            said.text("text", text);
            said.maybe_text("signature", signature.as_deref());
        }
        Part::Sealed { data, .. } => entry.object("reasoningContent").text("redactedContent", data),
        Part::ToolCall { id, name, arguments } => {
            let mut call = entry.object("toolUse");
            call.text("toolUseId", &plain_id(id));
            call.text("name", name);
            call.raw("input", &as_object(arguments));
        }
        Part::ToolResult { id, parts, failed } => {
            let mut result = entry.object("toolResult");
            result.text("toolUseId", &plain_id(id));
            let mut list = result.list("content");
            for part in parts.iter().filter(|part| !matches!(part, Part::CacheMark { .. })) {
                if !matches!(part, Part::Text(_) | Part::Image(_)) {
                    return Err(Failure::new(
                        Kind::Invalid,
                        format!("{at}: a result of words and pictures only"),
                    ));
                }
                write_block(list.object(), part, at)?;
            }
            drop(list);
            result.maybe_text("status", failed.then_some("error"));
        }
    }
    Ok(())
}
