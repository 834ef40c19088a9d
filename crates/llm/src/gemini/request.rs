//! Requests of Gemini's `generateContent`.

use super::write_said;
use crate::chat::{ends_with_question, no_arguments};
use crate::json::{Droppable, Fields, List, Object, hint, neutral};
use crate::tools::{Namer, name_of, turns, words};
use crate::{
    Effort, Failure, Format, Image, Message, Part, Reasoning, Request, Role, Sampling, Tool, ToolChoice,
};

/// What may be left out of a request.
const DROPPABLE: &[Droppable] =
    &[hint("labels"), hint("safetySettings"), neutral("cachedContent", &["\"\""])];
const CONFIG: &[Droppable] = &[
    neutral("candidateCount", &["1"]),
    neutral("responseModalities", &["[\"TEXT\"]"]),
    neutral("responseLogprobs", &["false"]),
    hint("mediaResolution"),
];
const PART: &[Droppable] = &[hint("partMetadata"), neutral("thought", &["false"])];

pub(crate) fn read_request(mut fields: Fields<'_>) -> Result<Request, Failure> {
    let mut request = Request { stream_usage: true, ..Request::default() };
    request.model = fields.words("model")?.trim_start_matches("models/").to_owned();
    if let Some(mut system) = fields.object("systemInstruction")? {
        for mut part in system.objects("parts")? {
            request.system.push(Part::Text(part.needed_string("text")?));
        }
    }
    let mut namer = Namer::default();
    for mut content in fields.need("contents")?.objects()? {
        let role = match content.string("role")?.as_deref() {
            None | Some("user" | "function") => Role::User,
            Some("model") => Role::Assistant,
            Some(other) => return Err(content.wrong(format_args!("no role is called {other:?}"))),
        };
        let mut parts = Vec::new();
        for part in content.objects("parts")? {
            read_part(part, &mut namer, &mut parts)?;
        }
        request.messages.push(Message { role, parts });
    }
    for mut tool in fields.objects("tools")? {
        for mut function in tool.objects("functionDeclarations")? {
            request.tools.push(Tool {
                name: function.needed_string("name")?,
                description: function.string("description")?,
                schema: function.take("parametersJsonSchema").map_or_else(no_arguments, |node| node.json()),
                strict: None,
            });
            function.rest(&[])?;
        }
        tool.rest(&[])?;
    }
    if let Some(mut config) = fields.object("toolConfig")?
        && let Some(mut calling) = config.object("functionCallingConfig")?
    {
        let mut names = calling.strings("allowedFunctionNames")?;
        request.tool_choice = match (calling.words("mode")?.as_str(), names.len()) {
            ("" | "AUTO" | "MODE_UNSPECIFIED", 0) => ToolChoice::Auto,
            ("NONE", 0) => ToolChoice::None,
            ("ANY", 0) => ToolChoice::Any,
            ("ANY", 1) => ToolChoice::Named(names.remove(0)),
            _ => return Err(Failure::untranslatable(calling.at, "no other dialect has this choice")),
        };
    }
    if let Some(config) = fields.object("generationConfig")? {
        read_config(config, &mut request)?;
    }
    fields.rest(DROPPABLE)?;
    Ok(request)
}

fn read_config(mut config: Fields<'_>, request: &mut Request) -> Result<(), Failure> {
    request.max_output = config.count("maxOutputTokens")?;
    request.sampling = Sampling {
        temperature: config.number("temperature")?,
        top_p: config.number("topP")?,
        top_k: config.count("topK")?,
        seed: config.take("seed").map(|node| node.integer()).transpose()?,
        stop: config.strings("stopSequences")?,
        frequency_penalty: config.number("frequencyPenalty")?.filter(|penalty| *penalty != 0.0),
        presence_penalty: config.number("presencePenalty")?.filter(|penalty| *penalty != 0.0),
    };
    let schema = config.take("responseJsonSchema");
    request.format = match (config.words("responseMimeType")?.as_str(), schema) {
        ("" | "text/plain", None) => Format::Text,
        ("application/json", None) => Format::Json,
        ("application/json", Some(schema)) => {
            Format::Schema { name: "answer".to_owned(), schema: schema.json(), strict: None }
        }
        _ => return Err(Failure::untranslatable(config.at, "no other dialect has this form")),
    };
    if let Some(mut thinking) = config.object("thinkingConfig")? {
        let budget = thinking.take("thinkingBudget").map(|node| node.integer()).transpose()?;
        let effort = match thinking.words("thinkingLevel")?.to_ascii_uppercase().as_str() {
            "MINIMAL" => Some(Effort::Minimal),
            "LOW" => Some(Effort::Low),
            "MEDIUM" => Some(Effort::Medium),
            "HIGH" => Some(Effort::High),
            "XHIGH" => Some(Effort::Highest),
            _ => None,
        };
        // Below 0 the model decides.
        let budget = budget.and_then(|budget| u64::try_from(budget).ok());
        let shown = thinking.flag("includeThoughts")?.unwrap_or(false);
        thinking.rest(&[])?;
        request.reasoning = Some(Reasoning { effort, budget, shown });
    }
    config.rest(CONFIG)
}

fn read_part(mut part: Fields<'_>, namer: &mut Namer, parts: &mut Vec<Part>) -> Result<(), Failure> {
    let proof = part.string("thoughtSignature")?;
    let thought = part.flag("thought")?.unwrap_or(false);
    let sealed = |parts: &mut Vec<Part>, proof: Option<String>| {
        parts.extend(proof.map(|data| Part::Sealed { id: None, data }));
    };
    if let Some(text) = part.string("text")? {
        match (thought, text.is_empty()) {
            (true, _) => parts.push(Part::Reasoning { id: None, text, signature: proof }),
            (false, false) => {
                sealed(parts, proof);
                parts.push(Part::Text(text));
            }
            (false, true) => sealed(parts, proof),
        }
    } else if let Some(mut data) = part.object("inlineData")? {
        let media_type = data.needed_string("mimeType")?;
        if !media_type.starts_with("image/") {
            return Err(Failure::untranslatable(part.at, format_args!("{media_type} is no image")));
        }
        parts.push(Part::Image(Image::Bytes { media_type, base64: data.needed_string("data")? }));
    } else if let Some(mut call) = part.object("functionCall")? {
        let name = call.needed_string("name")?;
        let id = namer.call(call.string("id")?, &name);
        let arguments = call.take("args").map_or_else(|| "{}".to_owned(), |node| node.text.to_owned());
        sealed(parts, proof.filter(|proof| proof != super::NO_PROOF));
        parts.push(Part::ToolCall { id, name, arguments });
    } else if let Some(mut result) = part.object("functionResponse")? {
        let (id, name) = (result.string("id")?, result.needed_string("name")?);
        let id =
            namer.result(id, Some(&name)).ok_or_else(|| result.wrong("a result that no call waits for"))?;
        let response = result.need("response")?;
        let whole = response.text.to_owned();
        let mut response = response.object()?;
        let (said, error) =
            (response.string("output").ok().flatten(), response.string("error").ok().flatten());
        let failed = error.is_some();
        let text = said.or(error).unwrap_or(whole);
        let parts_of = if text.is_empty() { Vec::new() } else { vec![Part::Text(text)] };
        parts.push(Part::ToolResult { id, parts: parts_of, failed });
    }
    part.rest(PART)
}

pub(crate) fn write_request(mut object: Object<'_>, request: &Request) -> Result<(), Failure> {
    let (system, _) = words(&request.system, false);
    if !system.is_empty() {
        object.object("systemInstruction").list("parts").object().text("text", &system);
    }
    {
        let mut list = object.list("contents");
        for (number, message) in turns(request) {
            let at = format!("messages.{number}");
            let mut entry = list.object();
            match message.role {
                Role::User => {
                    entry.text("role", "user");
                    write_asked(&mut entry.list("parts"), request, &message, number)?;
                }
                Role::Assistant => {
                    entry.text("role", "model");
                    write_said(&mut entry.list("parts"), &message.parts, true);
                }
                Role::System => {
                    return Err(Failure::untranslatable(at, "Gemini's system speaks before all turns only"));
                }
            }
        }
    }
    write_tools(&mut object, request)?;
    write_config(&mut object, request);
    ends_with_question(request, "Gemini")
}

fn write_asked(
    list: &mut List<'_>,
    request: &Request,
    message: &Message,
    number: usize,
) -> Result<(), Failure> {
    let mut pictures = Vec::new();
    for part in &message.parts {
        if let Part::ToolResult { id, parts, failed } = part {
            let mut entry = list.object();
            let mut result = entry.object("functionResponse");
            result.text("id", id);
            result.text("name", name_of(request, number, id)?);
            let (text, _) = words(parts, false);
            result.object("response").text(if *failed { "error" } else { "output" }, &text);
            pictures.extend(parts.iter().filter(|part| matches!(part, Part::Image(_))));
        }
    }
    let rest = message.parts.iter().filter(|part| !matches!(part, Part::ToolResult { .. }));
    for part in pictures.into_iter().chain(rest) {
        match part {
            Part::Text(text) => list.object().text("text", text),
            Part::Image(Image::Bytes { media_type, base64 }) => {
                let mut entry = list.object();
                let mut data = entry.object("inlineData");
                data.text("mimeType", media_type);
                data.text("data", base64);
            }
            Part::Image(Image::Url(_)) => {
                let at = format!("messages.{number}");
                return Err(Failure::untranslatable(at, "Gemini takes pictures in base64, not by any URL"));
            }
            _ => {}
        }
    }
    Ok(())
}

fn write_tools(object: &mut Object<'_>, request: &Request) -> Result<(), Failure> {
    if request.tools.is_empty() {
        return Ok(());
    }
    if request.parallel_tools == Some(false) {
        return Err(Failure::untranslatable("parallel_tool_calls", "Gemini cannot forbid several calls"));
    }
    {
        let mut tools = object.list("tools");
        let mut tool = tools.object();
        let mut list = tool.list("functionDeclarations");
        for tool in &request.tools {
            let mut entry = list.object();
            entry.text("name", &tool.name);
            entry.text("description", tool.description.as_deref().unwrap_or_default());
            entry.raw("parametersJsonSchema", tool.schema.get());
        }
    }
    let mode = match &request.tool_choice {
        ToolChoice::Auto => return Ok(()),
        ToolChoice::None => "NONE",
        ToolChoice::Any | ToolChoice::Named(_) => "ANY",
    };
    let mut config = object.object("toolConfig");
    let mut calling = config.object("functionCallingConfig");
    calling.text("mode", mode);
    if let ToolChoice::Named(name) = &request.tool_choice {
        calling.list("allowedFunctionNames").text(name);
    }
    Ok(())
}

fn write_config(object: &mut Object<'_>, request: &Request) {
    let Sampling { temperature, top_p, top_k, seed, stop, frequency_penalty, presence_penalty } =
        &request.sampling;
    let mut config = object.object("generationConfig");
    config.maybe("temperature", *temperature);
    config.maybe("topP", *top_p);
    config.maybe("topK", *top_k);
    config.maybe("seed", *seed);
    config.texts("stopSequences", stop);
    config.maybe("frequencyPenalty", *frequency_penalty);
    config.maybe("presencePenalty", *presence_penalty);
    config.maybe("maxOutputTokens", request.max_output);
    match &request.format {
        Format::Text => {}
        Format::Json => config.text("responseMimeType", "application/json"),
        Format::Schema { schema, .. } => {
            config.text("responseMimeType", "application/json");
            config.raw("responseJsonSchema", schema.get());
        }
    }
    if let Some(reasoning) = &request.reasoning {
        let mut thinking = config.object("thinkingConfig");
        match (reasoning.budget, reasoning.effort) {
            (Some(budget), _) => thinking.plain("thinkingBudget", budget),
            (None, Some(Effort::None)) => thinking.plain("thinkingBudget", 0),
            (None, Some(Effort::Minimal)) => thinking.text("thinkingLevel", "MINIMAL"),
            (None, Some(Effort::Low)) => thinking.text("thinkingLevel", "LOW"),
            (None, Some(Effort::Medium)) => thinking.text("thinkingLevel", "MEDIUM"),
            (None, Some(Effort::High | Effort::Highest)) => thinking.text("thinkingLevel", "HIGH"),
            (None, None) => {}
        }
        if reasoning.shown {
            thinking.plain("includeThoughts", true);
        }
    }
}
