//! Octant's dialects against the double, which shares no code with them: what is asked is understood, what is answered is
//! understood, and what is said again in another dialect is the same.

use octant_llm::{
    Answer, Delta, Dialect, Event, Format, Image, Json, Kind, Message, Part, Reasoning, Request, Role,
    StopReason, Tool,
};
use octant_tests::upstream::script::{REASONING, Says, Script, Turn, USAGE, Why};
use octant_tests::upstream::{Upstream, seen_image};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;

/// What goes well in every dialect that has it.
const WELL: [&str; 12] = [
    "text",
    "text-bytes",
    "tools",
    "tools-bytes",
    "tools-mixed",
    "shape",
    "image",
    "think",
    "think-bytes",
    "refuse",
    "length",
    "count2000",
];
/// What does not end as it has to, with what it is then.
const BROKEN: [(&str, &[Kind]); 6] = [
    ("text-cut5", &[Kind::Cut]),
    ("text-torn5", &[Kind::Cut, Kind::Malformed]),
    ("text-noend", &[Kind::Cut]),
    ("text-wrongend", &[Kind::Cut, Kind::Malformed]),
    ("text-garbage5", &[Kind::Malformed]),
    ("text-broken5", &[Kind::Upstream, Kind::Overloaded, Kind::RateLimited]),
];
/// In these programs ask.
const SPOKEN: [Dialect; 4] = [Dialect::Chat, Dialect::Responses, Dialect::Anthropic, Dialect::OllamaChat];
const IMAGE: &str =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

/// Whether a dialect can be asked for this at all.
fn has(dialect: Dialect, script: &str) -> bool {
    !(dialect == Dialect::OllamaGenerate && script.starts_with("tools"))
}

fn request(script: &str, stream: bool) -> Request {
    let mut parts = vec![Part::Text("What is it like – 今日?".to_owned())];
    let what = script.split('-').next().unwrap_or_default();
    if what == "image" {
        parts.push(Part::Image(Image::Bytes { media_type: "image/png".into(), base64: IMAGE.into() }));
    }
    let tool = |name: &str, field: &str| Tool {
        name: name.to_owned(),
        description: Some(format!("the {name}")),
        schema: json_of(
            &json!({"type": "object", "properties": {field: {"type": "string"}}, "required": [field]}),
        ),
        strict: None,
    };
    let shape = json!({"type": "object", "properties": {"city": {"type": "string"}, "degrees": {"type": "integer"}},
        "required": ["city", "degrees"], "additionalProperties": false});
    Request {
        model: script.to_owned(),
        system: Vec::new(),
        messages: vec![Message { role: Role::User, parts }],
        tools: if what == "tools" {
            vec![tool("weather", "city"), tool("clock", "zone")]
        } else {
            Vec::new()
        },
        max_output: Some(4096),
        format: match what {
            "shape" => Format::Schema { name: "degrees".into(), schema: json_of(&shape), strict: Some(true) },
            _ => Format::Text,
        },
        reasoning: (what == "think").then_some(Reasoning { effort: None, budget: Some(1024), shown: true }),
        stream,
        stream_usage: stream,
        ..Request::default()
    }
}

fn json_of(value: &Value) -> Json {
    Json::parse(&value.to_string()).unwrap_or_else(|why| panic!("{why}"))
}

/// The path at which a model answers.
fn place(dialect: Dialect, model: &str, stream: bool) -> String {
    match (dialect, stream) {
        (Dialect::Chat, _) => "/v1/chat/completions".to_owned(),
        (Dialect::Responses, _) => "/v1/responses".to_owned(),
        (Dialect::Anthropic, _) => "/v1/messages".to_owned(),
        (Dialect::OllamaChat, _) => "/api/chat".to_owned(),
        (Dialect::OllamaGenerate, _) => "/api/generate".to_owned(),
        (Dialect::Gemini, true) => format!("/v1beta/models/{model}:streamGenerateContent?alt=sse"),
        (Dialect::Gemini, false) => format!("/v1beta/models/{model}:generateContent"),
        (Dialect::Bedrock, true) => format!("/model/{model}/converse-stream"),
        (Dialect::Bedrock, false) => format!("/model/{model}/converse"),
    }
}

/// Asks the double, and gives the status and as much of the body as came.
fn asked(upstream: &Upstream, dialect: Dialect, request: &Request) -> (u16, Vec<u8>) {
    let body =
        dialect.write_request(request).unwrap_or_else(|why| panic!("{dialect:?} {}: {why}", request.model));
    let mut stream = TcpStream::connect(upstream.address()).unwrap_or_else(|why| panic!("{why}"));
    let head = format!(
        "POST {} HTTP/1.1\r\nhost: double\r\nconnection: close\r\ncontent-length: {}\r\nauthorization: Bearer sk-1\r\n\
         x-api-key: sk-1\r\nx-goog-api-key: sk-1\r\nanthropic-version: 2023-06-01\r\n\r\n",
        place(dialect, &request.model, request.stream),
        body.len()
    );
    stream.write_all(&[head.as_bytes(), &body].concat()).unwrap_or_else(|why| panic!("{why}"));
    // The double keeps its connections; it has said all when nothing more is to come.
    stream.shutdown(std::net::Shutdown::Write).unwrap_or_else(|why| panic!("{why}"));
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap_or_else(|why| panic!("{why}"));
    let end = all.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or_else(|| panic!("no head"));
    let head = String::from_utf8_lossy(&all[..end]).into_owned();
    let status = head.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or(0);
    let rest = &all[end + 4..];
    (status, if head.contains("transfer-encoding: chunked") { unchunked(rest) } else { rest.to_vec() })
}

/// A body without the borders of its chunks, as far as it came.
fn unchunked(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(at) = rest.windows(2).position(|two| two == b"\r\n") {
        let size =
            std::str::from_utf8(&rest[..at]).ok().and_then(|size| usize::from_str_radix(size, 16).ok());
        let Some(size) = size.filter(|size| *size > 0) else { break };
        let from = at + 2;
        body.extend(&rest[from..rest.len().min(from + size)]);
        rest = rest.get(from + size + 2..).unwrap_or_default();
    }
    body
}

/// The events of a stream whose bytes come in pieces of these sizes, over and over.
fn events(dialect: Dialect, body: &[u8], sizes: &[usize]) -> Vec<Event> {
    let mut decoder = dialect.decoder();
    let (mut events, mut rest) = (Vec::new(), body);
    for size in sizes.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (piece, after) = rest.split_at((*size).min(rest.len()));
        events.extend(decoder.push(piece));
        rest = after;
    }
    events.extend(decoder.end());
    events
}

/// What an answer says, as far as it is the same in every dialect.
#[derive(Debug, PartialEq)]
struct Said {
    text: String,
    thought: String,
    calls: Vec<(String, Value)>,
    input: u64,
    output: u64,
}

impl Said {
    fn of(events: &[Event]) -> Result<(Self, StopReason), String> {
        let answer = Answer::collect(events).map_err(|why| format!("{:?}: {why}", why.kind))?;
        let mut said = Self {
            text: String::new(),
            thought: String::new(),
            calls: Vec::new(),
            input: answer.usage.input,
            output: answer.usage.output,
        };
        for part in &answer.parts {
            match part {
                Part::Text(text) | Part::Refusal(text) => said.text += text,
                Part::Reasoning { text, .. } => said.thought += text,
                Part::ToolCall { name, arguments, .. } => {
                    let arguments =
                        serde_json::from_str(arguments).map_err(|why| format!("{arguments}: {why}"))?;
                    said.calls.push((name.clone(), arguments));
                }
                // Proof of a thought that is not shown.
                Part::Sealed { .. } => {}
                other => return Err(format!("nobody said {other:?}")),
            }
        }
        Ok((said, answer.reason))
    }

    /// What the script has.
    fn scripted(name: &str) -> Self {
        let script = Script::of(name).unwrap_or_else(|| panic!("{name} is no script"));
        let turn = Turn::of(&script);
        let image = || {
            use base64::Engine;
            base64::engine::general_purpose::STANDARD.decode(IMAGE).unwrap_or_else(|why| panic!("{why}"))
        };
        Self {
            text: if script.says == Says::Images { seen_image(&image()) } else { turn.text.whole() },
            thought: turn.thought.concat(),
            calls: turn.calls.iter().map(|call| (call.name.clone(), call.input())).collect(),
            input: turn.usage.input,
            output: turn.usage.output,
        }
    }
}

/// Whether a reason is the script's, in what a dialect can say of it.
fn right(dialect: Dialect, script: &str, reason: StopReason) -> bool {
    let why = Script::of(script).map(|script| Turn::of(&script).why);
    match why {
        Some(Why::Done) => reason == StopReason::End,
        Some(Why::Calls) => reason == StopReason::ToolCalls,
        Some(Why::Length) => reason == StopReason::Length,
        Some(Why::Refusal) => match dialect {
            Dialect::OllamaChat | Dialect::OllamaGenerate => reason == StopReason::End,
            Dialect::Gemini | Dialect::Bedrock => reason == StopReason::Filtered,
            _ => reason == StopReason::Refusal,
        },
        None => false,
    }
}

/// One exchange in pieces or whole; what is wrong with it.
fn exchange(upstream: &Upstream, dialect: Dialect, script: &str, stream: bool) -> Result<Vec<Event>, String> {
    let request = request(script, stream);
    let (status, body) = asked(upstream, dialect, &request);
    if status != 200 {
        return Err(format!("{status} {}", String::from_utf8_lossy(&body)));
    }
    let all = match stream {
        true => events(dialect, &body, &[body.len().max(1)]),
        false => dialect.read_answer(&body).map_err(|why| format!("{:?}: {why}", why.kind))?,
    };
    if stream && body.len() < 1 << 16 {
        // Borders within characters, lines and frames change nothing but where pieces are cut.
        for sizes in [&[1][..], &[2, 3, 1], &[7, 1, 64]] {
            if Said::of(&events(dialect, &body, sizes)) != Said::of(&all) {
                return Err(format!("in pieces of {sizes:?} it is another"));
            }
        }
    }
    let (said, reason) = Said::of(&all)?;
    let scripted = Said::scripted(script);
    if said != scripted {
        return Err(format!("{said:?}\n  is not {scripted:?}"));
    }
    if right(dialect, script, reason) { Ok(all) } else { Err(format!("it ends by {reason:?}")) }
}

/// The same said again in a dialect that programs speak.
fn again(spoken: Dialect, script: &str, all: &[Event]) -> Result<(), String> {
    let request = request(script, true);
    let mut encoder = spoken.encoder(&request);
    let mut out = Vec::new();
    all.iter().for_each(|event| encoder.event(event, &mut out));
    let (said, _) = Said::of(&events(spoken, &out, &[5, 1, 1024]))?;
    let (before, _) = Said::of(all)?;
    if said != before {
        return Err(format!("{said:?}\n  is not {before:?}"));
    }
    let whole = spoken.write_answer(&request, all).map_err(|why| format!("{:?}: {why}", why.kind))?;
    let whole = spoken.read_answer(&whole).map_err(|why| format!("{:?}: {why}", why.kind))?;
    if Said::of(&whole)?.0 == before { Ok(()) } else { Err(format!("whole it is {whole:?}")) }
}

/// Whether the provider's filter ended it, for which Ollama has no word: there it is a failure.
fn kept_back(all: &[Event]) -> bool {
    matches!(all.last(), Some(Event::Finished { reason: StopReason::Filtered, .. }))
}

fn double() -> Upstream {
    Upstream::start(([127, 0, 0, 1], 0).into()).unwrap_or_else(|why| panic!("{why}"))
}

#[track_caller]
fn none(wrong: &[String]) {
    // Some of them are long.
    let short: Vec<String> = wrong.iter().map(|why| why.chars().take(600).collect()).collect();
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), short.join("\n"));
}

#[test]
fn every_dialect_is_understood_and_said_again_in_every_other() {
    let (upstream, mut wrong) = (double(), Vec::new());
    for dialect in Dialect::ALL {
        for script in WELL.into_iter().filter(|script| has(dialect, script)) {
            for stream in [false, true] {
                match exchange(&upstream, dialect, script, stream) {
                    Err(why) => wrong.push(format!("{dialect:?} {script} {stream}: {why}")),
                    Ok(all) => wrong.extend(SPOKEN.into_iter().filter_map(|spoken| {
                        if spoken == Dialect::OllamaChat && kept_back(&all) {
                            return None;
                        }
                        let why = again(spoken, script, &all).err()?;
                        Some(format!("{dialect:?} {script} {stream} in {spoken:?}: {why}"))
                    })),
                }
            }
        }
    }
    none(&wrong);
    assert_eq!(USAGE.reasoning + REASONING, 4);
}

#[test]
fn what_breaks_off_is_a_failure_in_every_dialect_and_in_every_translation() {
    let (upstream, mut wrong) = (double(), Vec::new());
    for dialect in Dialect::ALL {
        for (script, kinds) in BROKEN {
            let (status, body) = asked(&upstream, dialect, &request(script, true));
            let all = events(dialect, &body, &[3, 11]);
            let last = match all.last() {
                Some(Event::Failed(failure)) => Some(failure.kind),
                _ => None,
            };
            if status != 200 || !last.is_some_and(|kind| kinds.contains(&kind)) {
                wrong.push(format!("{dialect:?} {script}: {status} {last:?}"));
            }
            for spoken in SPOKEN {
                let (mut encoder, mut out) = (spoken.encoder(&request(script, true)), Vec::new());
                all.iter().for_each(|event| encoder.event(event, &mut out));
                let ends = events(spoken, &out, &[1]);
                if !matches!(ends.last(), Some(Event::Failed(_))) {
                    wrong.push(format!("{dialect:?} {script} in {spoken:?}: it passes for complete"));
                }
                // What came before is passed on.
                let text = |events: &[Event]| -> String {
                    let piece = |event: &Event| match event {
                        Event::Delta { delta: Delta::Text(text), .. } => Some(text.clone()),
                        _ => None,
                    };
                    events.iter().filter_map(piece).collect()
                };
                if text(&ends) != text(&all) {
                    wrong.push(format!("{dialect:?} {script} in {spoken:?}: {:?}", text(&ends)));
                }
            }
        }
    }
    none(&wrong);
}

/// The turn after calls of tools: their results belong to the right calls, in every dialect that has tools.
#[test]
fn results_of_tools_come_to_the_calls_that_they_belong_to() {
    let (upstream, mut wrong) = (double(), Vec::new());
    for dialect in Dialect::ALL.into_iter().filter(|dialect| has(*dialect, "tools")) {
        let mut request = request("tools", false);
        let (_, body) = asked(&upstream, dialect, &request);
        let Ok(answer) = dialect.read_answer(&body).and_then(|events| Answer::collect(&events)) else {
            wrong.push(format!("{dialect:?}: {}", String::from_utf8_lossy(&body)));
            continue;
        };
        let result = |part: &Part| match part {
            Part::ToolCall { id, name, arguments } => Some(Part::ToolResult {
                id: id.clone(),
                parts: vec![Part::Text(format!("{name} of {arguments}"))],
                failed: false,
            }),
            _ => None,
        };
        let results: Vec<Part> = answer.parts.iter().filter_map(result).collect();
        request.messages.push(answer.message());
        request.messages.push(Message { role: Role::User, parts: results });
        let (status, body) = asked(&upstream, dialect, &request);
        let after = dialect.read_answer(&body).map_err(|why| why.to_string()).and_then(|all| Said::of(&all));
        let told = Turn::of(&Script::of("tools").unwrap()).calls;
        let told: Vec<Value> = told.iter().map(|call| call.input()).collect();
        let text = after.map(|(said, _)| said.text).unwrap_or_default();
        let parts: Vec<&str> = text.split("weather=weather of ").collect();
        let found = parts.len() == 3 && text.contains("clock=clock of ");
        if status != 200 || !found {
            wrong.push(format!(
                "{dialect:?}: {status} {text:?}, not {told:?}: {}",
                String::from_utf8_lossy(&body)
            ));
        }
    }
    none(&wrong);
}

#[test]
fn refusals_of_providers_keep_what_they_are() {
    let (upstream, mut wrong) = (double(), Vec::new());
    let expected = [
        ("text-status400", Kind::Invalid),
        ("text-status401", Kind::Unauthenticated),
        ("text-status403", Kind::Forbidden),
        ("text-status404", Kind::NotFound),
        ("text-status429-retry7", Kind::RateLimited),
        ("text-status500", Kind::Upstream),
        ("text-status529", Kind::Overloaded),
    ];
    for dialect in Dialect::ALL {
        for (script, kind) in expected {
            let (status, body) = asked(&upstream, dialect, &request(script, false));
            let headers: &[(&str, &str)] =
                if script.ends_with("retry7") { &[("retry-after", "7")] } else { &[] };
            let failure = dialect.read_failure(status, headers, &body);
            // Only Anthropic and Ollama have a word for 529.
            let right = failure.kind == kind || (status == 529 && failure.kind == Kind::Upstream);
            if !right || !failure.message.contains("scripted failure") {
                wrong.push(format!("{dialect:?} {script}: {failure:?}"));
            }
            if kind == Kind::RateLimited && failure.retry_after_ms != Some(7000) {
                wrong.push(format!("{dialect:?} {script}: {:?}", failure.retry_after_ms));
            }
        }
    }
    none(&wrong);
}
