//! Requests of chat completions.

use super::message::{DROPPABLE as MESSAGE, assistant, write_assistant};
use crate::dialect::Manner;
use crate::json::{Droppable, Fields, Json, List, Node, Object, hint, neutral};
use crate::tools::words;
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
    hint("prediction"),
    neutral("store", &["false"]),
    neutral("n", &["1"]),
    neutral("logprobs", &["false"]),
    neutral("top_logprobs", &["0"]),
    neutral("logit_bias", &["{}"]),
    neutral("service_tier", &["\"auto\"", "\"default\""]),
    neutral("verbosity", &["\"medium\""]),
    neutral("modalities", &["[\"text\"]", "[ \"text\" ]"]),
];
const PART: &[Droppable] = &[];
const IMAGE: &[Droppable] = &[hint("detail")];
const FUNCTION: &[Droppable] = &[hint("cache_control")];

pub(crate) fn read_request(mut fields: Fields<'_>) -> Result<Request, Failure> {
    let mut request = Request { model: fields.needed_string("model")?, ..Request::default() };
    for message in fields.need("messages")?.objects()? {
        read_message(&mut request, message)?;
    }
    for mut tool in fields.objects("tools")? {
        let Some(function) = tool.object("function")? else {
            return Err(Failure::untranslatable(tool.at, "only functions can be said in other dialects"));
        };
        request.tools.push(read_function(function)?);
        tool.take("type");
        tool.rest(FUNCTION)?;
    }
    request.tool_choice = fields.take("tool_choice").map_or(Ok(ToolChoice::Auto), read_tool_choice)?;
    request.parallel_tools = fields.flag("parallel_tool_calls")?;
    let (old, new) = (fields.count("max_tokens")?, fields.count("max_completion_tokens")?);
    // Some heed one, some the other.
    request.max_output = new.max(old);
    request.sampling = read_sampling(&mut fields)?;
    request.sampling.stop = fields.strings("stop")?;
    request.sampling.seed = fields.take("seed").map(|node| node.integer()).transpose()?;
    if let Some(format) = fields.object("response_format")? {
        request.format = read_format(format)?;
    }
    if let Some(effort) = fields.take("reasoning_effort") {
        let effort = Some(read_effort(&effort)?);
        request.reasoning = Some(Reasoning { effort, budget: None, shown: true });
    }
    request.stream = fields.flag("stream")?.unwrap_or(false);
    if let Some(mut options) = fields.object("stream_options")? {
        request.stream_usage = options.flag("include_usage")?.unwrap_or(false);
        options.rest(&[hint("include_obfuscation")])?;
    }
    request.user = fields.string("user")?;
    fields.rest(DROPPABLE)?;
    Ok(request)
}

/// What all dialects of JSON with small letters call the same.
pub(crate) fn read_sampling(fields: &mut Fields<'_>) -> Result<Sampling, Failure> {
    Ok(Sampling {
        temperature: fields.number("temperature")?,
        top_p: fields.number("top_p")?,
        top_k: fields.count("top_k")?,
        frequency_penalty: fields.number("frequency_penalty")?.filter(|penalty| *penalty != 0.0),
        presence_penalty: fields.number("presence_penalty")?.filter(|penalty| *penalty != 0.0),
        ..Sampling::default()
    })
}

pub(crate) fn read_effort(node: &Node<'_>) -> Result<Effort, Failure> {
    Ok(match node.string()?.as_str() {
        "none" => Effort::None,
        "minimal" => Effort::Minimal,
        "low" => Effort::Low,
        "medium" => Effort::Medium,
        "high" => Effort::High,
        "xhigh" | "max" => Effort::Highest,
        other => return Err(node.wrong(format_args!("no effort is called {other:?}"))),
    })
}

pub(crate) fn effort_word(effort: Effort) -> &'static str {
    match effort {
        Effort::None => "none",
        Effort::Minimal => "minimal",
        Effort::Low => "low",
        Effort::Medium => "medium",
        Effort::High => "high",
        Effort::Highest => "xhigh",
    }
}

fn read_message(request: &mut Request, mut fields: Fields<'_>) -> Result<(), Failure> {
    let role = fields.needed_string("role")?;
    let (role, parts) = match role.as_str() {
        "system" | "developer" => {
            let parts = read_content(fields.need("content")?)?;
            fields.rest(MESSAGE)?;
            if request.messages.is_empty() {
                request.system.extend(parts);
                return Ok(());
            }
            (Role::System, parts)
        }
        "user" => (Role::User, read_content(fields.need("content")?)?),
        "assistant" => {
            let salt = request.messages.len().to_string();
            (Role::Assistant, assistant(&mut fields, &salt)?)
        }
        "tool" => {
            let id = fields.needed_string("tool_call_id")?;
            let parts = fields.take("content").map_or(Ok(Vec::new()), read_content)?;
            let result = Part::ToolResult { id, parts, failed: false };
            fields.rest(MESSAGE)?;
            push_result(&mut request.messages, result);
            return Ok(());
        }
        other => return Err(fields.wrong(format_args!("no role is called {other:?}"))),
    };
    fields.rest(MESSAGE)?;
    request.messages.push(Message { role, parts });
    Ok(())
}

/// A result stands in a message of the user, with those before it.
pub(crate) fn push_result(messages: &mut Vec<Message>, result: Part) {
    let is_result = |part: &Part| matches!(part, Part::ToolResult { .. });
    match messages.last_mut() {
        Some(last) if last.role == Role::User && last.parts.iter().all(is_result) => last.parts.push(result),
        _ => messages.push(Message { role: Role::User, parts: vec![result] }),
    }
}

fn read_content(node: Node<'_>) -> Result<Vec<Part>, Failure> {
    if node.is_text() {
        let text = node.string()?;
        return Ok(if text.is_empty() { Vec::new() } else { vec![Part::Text(text)] });
    }
    let mut parts = Vec::new();
    for mut fields in node.objects()? {
        match fields.needed_string("type")?.as_str() {
            "text" => parts.push(Part::Text(fields.needed_string("text")?)),
            "image_url" => {
                let mut image =
                    fields.object("image_url")?.ok_or_else(|| fields.wrong("image_url is missing"))?;
                parts.push(Part::Image(Image::from_url(image.needed_string("url")?)));
                image.rest(IMAGE)?;
            }
            other => {
                return Err(Failure::untranslatable(fields.at, format_args!("{other} is no text or image")));
            }
        }
        if fields.take("cache_control").is_some() {
            parts.push(Part::CacheMark { hour: false });
        }
        fields.rest(PART)?;
    }
    Ok(parts)
}

fn read_function(mut fields: Fields<'_>) -> Result<Tool, Failure> {
    let tool = Tool {
        name: fields.needed_string("name")?,
        description: fields.string("description")?,
        schema: fields.take("parameters").map_or_else(no_arguments, |node| node.json()),
        strict: fields.flag("strict")?,
    };
    fields.rest(FUNCTION)?;
    Ok(tool)
}

/// The schema of a tool that takes nothing.
pub(crate) fn no_arguments() -> Json {
    Json::from(serde_json::json!({ "type": "object", "properties": {} }))
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
    match fields.object("function")? {
        Some(mut function) => Ok(ToolChoice::Named(function.needed_string("name")?)),
        None => Err(Failure::untranslatable(fields.at, "only one function can be named")),
    }
}

fn read_format(mut fields: Fields<'_>) -> Result<Format, Failure> {
    let format = match fields.needed_string("type")?.as_str() {
        "text" => Format::Text,
        "json_object" => Format::Json,
        "json_schema" => {
            let mut schema =
                fields.object("json_schema")?.ok_or_else(|| fields.wrong("json_schema is missing"))?;
            let format = Format::Schema {
                name: schema.needed_string("name")?,
                schema: schema.need("schema")?.json(),
                strict: schema.flag("strict")?,
            };
            schema.rest(&[])?;
            format
        }
        other => return Err(fields.wrong(format_args!("no format is called {other:?}"))),
    };
    fields.rest(&[])?;
    Ok(format)
}

pub(crate) fn write_request(
    mut object: Object<'_>,
    request: &Request,
    manner: Manner,
) -> Result<(), Failure> {
    object.text("model", &request.model);
    {
        let mut list = object.list("messages");
        if request.system.iter().any(|part| matches!(part, Part::Text(_))) {
            write_content(list.object(), "system", &request.system, "system")?;
        }
        for (number, message) in request.messages.iter().enumerate() {
            write_message(&mut list, message, number, manner)?;
        }
    }
    write_tools(&mut object, request);
    let limit = if manner.max_tokens { "max_tokens" } else { "max_completion_tokens" };
    object.maybe(limit, request.max_output);
    let Sampling { temperature, top_p, top_k, seed, stop, frequency_penalty, presence_penalty } =
        &request.sampling;
    if top_k.is_some() {
        return Err(Failure::untranslatable("top_k", "chat completions cannot say it"));
    }
    object.maybe("temperature", *temperature);
    object.maybe("top_p", *top_p);
    object.maybe("seed", *seed);
    object.texts("stop", stop);
    object.maybe("frequency_penalty", *frequency_penalty);
    object.maybe("presence_penalty", *presence_penalty);
    write_format(&mut object, &request.format);
    object.maybe_text(
        "reasoning_effort",
        request.reasoning.as_ref().and_then(Reasoning::as_effort).map(effort_word),
    );
    object.maybe_text("user", request.user.as_deref());
    if request.stream {
        object.plain("stream", true);
        if manner.stream_usage {
            object.object("stream_options").plain("include_usage", true);
        }
    }
    ends_with_question(request, "chat completions")
}

/// A conversation that ends with words of the model asks for more of them, which most dialects cannot say.
pub(crate) fn ends_with_question(request: &Request, dialect: &str) -> Result<(), Failure> {
    match request.messages.last() {
        Some(last) if last.role == Role::Assistant => {
            let why = format!("{dialect} cannot ask the model to go on with words of its own");
            Err(Failure::untranslatable(format!("messages.{}", request.messages.len() - 1), why))
        }
        _ => Ok(()),
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
            let mut function = entry.object("function");
            function.text("name", &tool.name);
            function.maybe_text("description", tool.description.as_deref());
            function.raw("parameters", tool.schema.get());
            function.maybe("strict", tool.strict);
        }
    }
    match &request.tool_choice {
        ToolChoice::Auto => {}
        ToolChoice::None => object.text("tool_choice", "none"),
        ToolChoice::Any => object.text("tool_choice", "required"),
        ToolChoice::Named(name) => {
            let mut choice = object.object("tool_choice");
            choice.text("type", "function");
            choice.object("function").text("name", name);
        }
    }
    object.maybe("parallel_tool_calls", request.parallel_tools);
}

fn write_format(object: &mut Object<'_>, format: &Format) {
    match format {
        Format::Text => {}
        Format::Json => object.object("response_format").text("type", "json_object"),
        Format::Schema { name, schema, strict } => {
            let mut format = object.object("response_format");
            format.text("type", "json_schema");
            let mut inner = format.object("json_schema");
            inner.text("name", name);
            inner.raw("schema", schema.get());
            inner.maybe("strict", *strict);
        }
    }
}

/// Results first, which have messages of their own; the pictures in them go into the message after those.
fn write_message(
    list: &mut List<'_>,
    message: &Message,
    number: usize,
    manner: Manner,
) -> Result<(), Failure> {
    let at = || format!("messages.{number}");
    match message.role {
        Role::Assistant => {
            write_assistant(list.object(), &message.parts, manner.reasoning);
            return Ok(());
        }
        Role::System => return write_content(list.object(), "system", &message.parts, &at()),
        Role::User => {}
    }
    let mut rest = Vec::new();
    for part in &message.parts {
        let Part::ToolResult { id, parts, failed } = part else { continue };
        let (text, pictures) = words(parts, *failed);
        let mut entry = list.object();
        entry.text("role", "tool");
        entry.text("tool_call_id", id);
        entry.text("content", &text);
        if pictures > 0 {
            rest.push(Part::Text(format!("What call {id} gave back as pictures:")));
            rest.extend(parts.iter().filter(|part| matches!(part, Part::Image(_))).cloned());
        }
    }
    rest.extend(message.parts.iter().filter(|part| !matches!(part, Part::ToolResult { .. })).cloned());
    let had_results = message.parts.iter().any(|part| matches!(part, Part::ToolResult { .. }));
    if rest.is_empty() && had_results {
        return Ok(());
    }
    write_content(list.object(), "user", &rest, &at())
}

/// One text stands as itself, anything else as a list.
fn write_content(mut object: Object<'_>, role: &str, parts: &[Part], at: &str) -> Result<(), Failure> {
    object.text("role", role);
    let said: Vec<&Part> = parts.iter().filter(|part| !matches!(part, Part::CacheMark { .. })).collect();
    match said.as_slice() {
        [] => object.text("content", ""),
        [Part::Text(text)] => object.text("content", text),
        _ => {
            let mut list = object.list("content");
            for part in said {
                let mut entry = list.object();
                match part {
                    Part::Text(text) => {
                        entry.text("type", "text");
                        entry.text("text", text);
                    }
                    Part::Image(image) if role == "user" => {
                        entry.text("type", "image_url");
                        entry.object("image_url").text("url", &image.as_url());
                    }
                    _ => {
                        return Err(Failure::untranslatable(
                            at,
                            format_args!("not in a message of the {role}"),
                        ));
                    }
                }
            }
        }
    }
    Ok(())
}
