//! Requests of Ollama's chat and generate.

use crate::chat::{ends_with_question, no_arguments, push_result, read_effort, read_sampling};
use crate::json::{Droppable, Fields, List, Node, Object, hint, neutral};
use crate::tools::{Namer, as_object, name_of, words};
use crate::{
    Effort, Failure, Format, Image, Message, Part, Reasoning, Request, Role, Sampling, Tool, ToolChoice,
};

/// What may be left out of a request.
const DROPPABLE: &[Droppable] = &[
    hint("keep_alive"),
    hint("truncate"),
    hint("shift"),
    neutral("raw", &["false"]),
    neutral("logprobs", &["false"]),
    neutral("top_logprobs", &["0"]),
    neutral("template", &["\"\""]),
    neutral("suffix", &["\"\""]),
    neutral("context", &["[]"]),
];
/// What may be left out of the options: how the server uses its machine.
const OPTIONS: &[Droppable] = &[
    hint("num_ctx"),
    hint("num_keep"),
    hint("num_batch"),
    hint("num_gpu"),
    hint("main_gpu"),
    hint("num_thread"),
    hint("use_mmap"),
    hint("low_vram"),
    hint("numa"),
    neutral("mirostat", &["0"]),
    neutral("repeat_penalty", &["1", "1.0"]),
    neutral("min_p", &["0", "0.0"]),
    neutral("typical_p", &["1", "1.0"]),
];
const CALL: &[Droppable] = &[hint("type")];

pub(crate) fn read_chat(mut fields: Fields<'_>) -> Result<Request, Failure> {
    let mut request = Request { model: fields.needed_string("model")?, ..Request::default() };
    let mut namer = Namer::default();
    for message in fields.objects("messages")? {
        read_message(&mut request, message, &mut namer)?;
    }
    for mut tool in fields.objects("tools")? {
        let mut function =
            tool.object("function")?.ok_or_else(|| tool.wrong("only functions can be called"))?;
        request.tools.push(Tool {
            name: function.needed_string("name")?,
            description: function.string("description")?,
            schema: function.take("parameters").map_or_else(no_arguments, |node| node.json()),
            strict: None,
        });
        function.rest(&[])?;
        tool.rest(CALL)?;
    }
    read_rest(fields, request)
}

pub(crate) fn read_generate(mut fields: Fields<'_>) -> Result<Request, Failure> {
    let mut request = Request { model: fields.needed_string("model")?, ..Request::default() };
    let system = fields.words("system")?;
    if !system.is_empty() {
        request.system.push(Part::Text(system));
    }
    let mut parts = Vec::new();
    let prompt = fields.words("prompt")?;
    if !prompt.is_empty() {
        parts.push(Part::Text(prompt));
    }
    parts.extend(read_images(&mut fields)?);
    request.messages.push(Message { role: Role::User, parts });
    read_rest(fields, request)
}

fn read_rest(mut fields: Fields<'_>, mut request: Request) -> Result<Request, Failure> {
    if let Some(format) = fields.take("format") {
        request.format = if format.is_object() {
            Format::Schema { name: "answer".to_owned(), schema: format.json(), strict: None }
        } else {
            match format.string()?.as_str() {
                "" => Format::Text,
                "json" => Format::Json,
                other => return Err(format.wrong(format_args!("no format is called {other:?}"))),
            }
        };
    }
    if let Some(mut options) = fields.object("options")? {
        request.sampling = read_sampling(&mut options)?;
        request.sampling.stop = options.strings("stop")?;
        request.sampling.seed = options.take("seed").map(|node| node.integer()).transpose()?;
        if let Some(limit) = options.take("num_predict") {
            // Below 0 there is no limit.
            request.max_output = u64::try_from(limit.integer()?).ok();
        }
        options.rest(OPTIONS)?;
    }
    request.reasoning = fields.take("think").map(|node| read_think(&node)).transpose()?;
    request.stream = fields.flag("stream")?.unwrap_or(true);
    request.stream_usage = true;
    fields.rest(DROPPABLE)?;
    Ok(request)
}

fn read_think(node: &Node<'_>) -> Result<Reasoning, Failure> {
    let effort = match node.text {
        "true" => None,
        "false" => Some(Effort::None),
        _ => Some(read_effort(node)?),
    };
    Ok(Reasoning { effort, budget: None, shown: true })
}

fn read_message(request: &mut Request, mut fields: Fields<'_>, namer: &mut Namer) -> Result<(), Failure> {
    let role = fields.needed_string("role")?;
    let mut parts = Vec::new();
    let thought = fields.words("thinking")?;
    if !thought.is_empty() {
        parts.push(Part::Reasoning { id: None, text: thought, signature: None });
    }
    let text = fields.words("content")?;
    if !text.is_empty() {
        parts.push(Part::Text(text));
    }
    parts.extend(read_images(&mut fields)?);
    for mut call in fields.objects("tool_calls")? {
        let id = call.string("id")?.filter(|id| !id.is_empty());
        let mut function =
            call.object("function")?.ok_or_else(|| call.wrong("only functions can be called"))?;
        let name = function.needed_string("name")?;
        let arguments =
            function.take("arguments").map_or_else(|| "{}".to_owned(), |node| node.text.to_owned());
        parts.push(Part::ToolCall { id: namer.call(id, &name), name, arguments });
    }
    let named = fields.string("tool_name")?.or(fields.string("name")?);
    let id = fields.string("tool_call_id")?.filter(|id| !id.is_empty());
    let role = match role.as_str() {
        "system" if request.messages.is_empty() => {
            request.system.extend(parts);
            return fields.rest(&[]);
        }
        "system" => Role::System,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "tool" => {
            let id = namer
                .result(id, named.as_deref())
                .ok_or_else(|| fields.wrong("a result that no call waits for"))?;
            fields.rest(&[])?;
            push_result(&mut request.messages, Part::ToolResult { id, parts, failed: false });
            return Ok(());
        }
        other => return Err(fields.wrong(format_args!("no role is called {other:?}"))),
    };
    fields.rest(&[])?;
    request.messages.push(Message { role, parts });
    Ok(())
}

/// What a picture is, by its first bytes.
fn sort(base64: &str) -> Option<&'static str> {
    let sorts =
        [("iVBOR", "image/png"), ("/9j/", "image/jpeg"), ("R0lGOD", "image/gif"), ("UklGR", "image/webp")];
    sorts.iter().find(|(begin, _)| base64.starts_with(begin)).map(|(_, sort)| *sort)
}

/// Pictures stand there in base64 alone; what they are, their first bytes say.
fn read_images(fields: &mut Fields<'_>) -> Result<Vec<Part>, Failure> {
    let mut images = Vec::new();
    for base64 in fields.strings("images")? {
        let Some(media_type) = sort(&base64) else {
            return Err(fields.wrong("an image that is no PNG, JPEG, GIF or WebP in base64"));
        };
        images.push(Part::Image(Image::Bytes { media_type: media_type.to_owned(), base64 }));
    }
    Ok(images)
}

pub(crate) fn write_chat(mut object: Object<'_>, request: &Request) -> Result<(), Failure> {
    object.text("model", &request.model);
    {
        let mut list = object.list("messages");
        let (text, _) = words(&request.system, false);
        if !text.is_empty() {
            let mut entry = list.object();
            entry.text("role", "system");
            entry.text("content", &text);
        }
        for (number, message) in request.messages.iter().enumerate() {
            write_message(&mut list, request, message, number)?;
        }
    }
    if request.tool_choice != ToolChoice::None && !request.tools.is_empty() {
        if request.tool_choice != ToolChoice::Auto {
            return Err(Failure::untranslatable("tool_choice", "Ollama's models call what they like"));
        }
        if request.parallel_tools == Some(false) {
            return Err(Failure::untranslatable("parallel_tool_calls", "Ollama cannot forbid several calls"));
        }
        let mut list = object.list("tools");
        for tool in &request.tools {
            let mut entry = list.object();
            entry.text("type", "function");
            let mut function = entry.object("function");
            function.text("name", &tool.name);
            function.text("description", tool.description.as_deref().unwrap_or_default());
            function.raw("parameters", tool.schema.get());
        }
    }
    write_rest(object, request)
}

fn write_message(
    list: &mut List<'_>,
    request: &Request,
    message: &Message,
    number: usize,
) -> Result<(), Failure> {
    let mut pictures: Vec<&Image> = Vec::new();
    let mut others = Vec::new();
    for part in &message.parts {
        let Part::ToolResult { id, parts, failed } = part else {
            others.push(part.clone());
            continue;
        };
        let mut entry = list.object();
        entry.text("role", "tool");
        entry.text("tool_name", name_of(request, number, id)?);
        entry.text("tool_call_id", id);
        entry.text("content", &words(parts, *failed).0);
        pictures.extend(parts.iter().filter_map(as_image));
    }
    pictures.extend(others.iter().filter_map(as_image));
    if others.is_empty() && pictures.is_empty() && !message.parts.is_empty() {
        return Ok(());
    }
    let mut entry = list.object();
    entry.text(
        "role",
        match message.role {
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::System => "system",
        },
    );
    let said = |part: &Part| match part {
        Part::Text(text) | Part::Refusal(text) => Some(text.clone()),
        _ => None,
    };
    entry.text("content", &others.iter().filter_map(said).collect::<Vec<_>>().join("\n"));
    let thought = |part: &Part| match part {
        Part::Reasoning { text, .. } => Some(text.clone()),
        _ => None,
    };
    let thought: String = others.iter().filter_map(thought).collect();
    entry.maybe_text("thinking", Some(thought.as_str()).filter(|text| !text.is_empty()));
    write_images(&mut entry, &pictures, &format!("messages.{number}"))?;
    if others.iter().any(|part| matches!(part, Part::ToolCall { .. })) {
        let mut calls = entry.list("tool_calls");
        for part in &others {
            if let Part::ToolCall { id, name, arguments } = part {
                let mut call = calls.object();
                call.text("id", id);
                let mut function = call.object("function");
                function.text("name", name);
                function.raw("arguments", &as_object(arguments));
            }
        }
    }
    Ok(())
}

fn as_image(part: &Part) -> Option<&Image> {
    match part {
        Part::Image(image) => Some(image),
        _ => None,
    }
}

fn write_images(entry: &mut Object<'_>, images: &[&Image], at: &str) -> Result<(), Failure> {
    if images.is_empty() {
        return Ok(());
    }
    let mut list = entry.list("images");
    for image in images {
        match image {
            Image::Bytes { base64, .. } if sort(base64).is_some() => list.text(base64),
            Image::Bytes { media_type, .. } => {
                return Err(Failure::untranslatable(
                    at,
                    format_args!("Ollama knows no picture of type {media_type}"),
                ));
            }
            Image::Url(_) => {
                return Err(Failure::untranslatable(at, "Ollama takes pictures in base64 only, not by URL"));
            }
        }
    }
    Ok(())
}

pub(crate) fn write_generate(mut object: Object<'_>, request: &Request) -> Result<(), Failure> {
    object.text("model", &request.model);
    if !request.tools.is_empty() && request.tool_choice != ToolChoice::None {
        return Err(Failure::untranslatable("tools", "Ollama's generate has none: ask its chat"));
    }
    let [Message { role: Role::User, parts }] = request.messages.as_slice() else {
        return Err(Failure::untranslatable("messages", "Ollama's generate takes one prompt: ask its chat"));
    };
    if parts.iter().any(|part| matches!(part, Part::ToolResult { .. })) {
        return Err(Failure::untranslatable("messages.0", "Ollama's generate has no results of tools"));
    }
    object.text("prompt", &words(parts, false).0);
    let (system, _) = words(&request.system, false);
    object.maybe_text("system", Some(system.as_str()).filter(|text| !text.is_empty()));
    let images: Vec<&Image> = parts.iter().filter_map(as_image).collect();
    write_images(&mut object, &images, "messages.0")?;
    write_rest(object, request)
}

fn write_rest(mut object: Object<'_>, request: &Request) -> Result<(), Failure> {
    match &request.format {
        Format::Text => {}
        Format::Json => object.text("format", "json"),
        Format::Schema { schema, .. } => object.raw("format", schema.get()),
    }
    if let Some(reasoning) = &request.reasoning {
        match reasoning.effort {
            Some(Effort::None) => object.plain("think", false),
            Some(Effort::Minimal | Effort::Low) => object.text("think", "low"),
            Some(Effort::Medium) => object.text("think", "medium"),
            Some(Effort::High | Effort::Highest) => object.text("think", "high"),
            None => object.plain("think", reasoning.budget != Some(0)),
        }
    }
    write_options(&mut object, request);
    // A stream is what is sent where nothing is said.
    object.plain("stream", request.stream);
    ends_with_question(request, "Ollama's chat")
}

fn write_options(object: &mut Object<'_>, request: &Request) {
    let Sampling { temperature, top_p, top_k, seed, stop, frequency_penalty, presence_penalty } =
        &request.sampling;
    if request.max_output.is_none() && request.sampling == Sampling::default() {
        return;
    }
    let mut options = object.object("options");
    options.maybe("temperature", *temperature);
    options.maybe("top_p", *top_p);
    options.maybe("top_k", *top_k);
    options.maybe("seed", *seed);
    options.texts("stop", stop);
    options.maybe("frequency_penalty", *frequency_penalty);
    options.maybe("presence_penalty", *presence_penalty);
    options.maybe("num_predict", request.max_output);
}
