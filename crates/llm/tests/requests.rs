//! Any conversation, written in any dialect that can say it and read again: the same, and the same once more.

use octant_llm::{
    Dialect, Effort, Format, Image, Json, Kind, Manner, Message, Part, Reasoning, Request, Role, Sampling,
    Tool, ToolChoice,
};
use proptest::prelude::*;

const PNG: &str = "iVBORw0KGgo=";

fn words() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z]{1,9}", "[^ \n\\pC]{1,6}"]
}

fn object() -> impl Strategy<Value = String> {
    (words(), 1..u64::MAX).prop_map(|(text, number)| {
        // Names that are not in the order of the alphabet, and a number that no float holds.
        format!("{{\"z\":{},\"a\":{number}123456789}}", serde_json::Value::from(text))
    })
}

/// A turn of the user, and what the model made of it: words, or calls whose results follow.
fn round() -> impl Strategy<Value = Vec<Message>> {
    let asked = (words(), any::<bool>()).prop_map(|(text, picture)| {
        let mut parts = vec![Part::Text(text)];
        if picture {
            let media_type = "image/png".to_owned();
            parts.push(Part::Image(Image::Bytes { media_type, base64: PNG.to_owned() }));
        }
        Message { role: Role::User, parts }
    });
    let calls = prop::collection::vec((words(), object(), words(), any::<bool>()), 0..3);
    (asked, words(), calls).prop_map(|(asked, text, calls)| {
        let mut said = vec![Part::Text(text)];
        let mut results = Vec::new();
        for (number, (name, arguments, result, failed)) in calls.into_iter().enumerate() {
            let id = format!("call_{number}_{}", arguments.len());
            said.push(Part::ToolCall { id: id.clone(), name, arguments });
            results.push(Part::ToolResult { id, parts: vec![Part::Text(result)], failed });
        }
        let mut round = vec![asked, Message { role: Role::Assistant, parts: said }];
        if !results.is_empty() {
            round.push(Message { role: Role::User, parts: results });
        }
        round
    })
}

fn request() -> impl Strategy<Value = Request> {
    let tools = prop::collection::vec((words(), object(), any::<bool>()), 0..3);
    let choice = prop_oneof![
        Just(ToolChoice::Auto),
        Just(ToolChoice::Any),
        Just(ToolChoice::None),
        words().prop_map(ToolChoice::Named)
    ];
    let format = prop_oneof![
        3 => Just(Format::Text),
        1 => Just(Format::Json),
        1 => object().prop_map(|schema| Format::Schema {
            name: "answer".to_owned(), schema: Json::parse(&schema).unwrap(), strict: None
        })
    ];
    let effort = prop::option::of(prop_oneof![Just(Effort::Low), Just(Effort::Medium), Just(Effort::High)]);
    let rounds = prop::collection::vec(round(), 0..4);
    let rest = (choice, format, effort, prop::option::of(0..100_u64), any::<bool>());
    (rounds, words(), words(), tools, rest).prop_map(|(rounds, system, last, tools, rest)| {
        let (tool_choice, format, effort, max_output, stream) = rest;
        let mut messages: Vec<Message> = rounds.into_iter().flatten().collect();
        messages.push(Message { role: Role::User, parts: vec![Part::Text(last)] });
        let tool = |(name, schema, said): (String, String, bool)| Tool {
            name,
            description: said.then(|| "What it does.".to_owned()),
            schema: Json::parse(&schema).unwrap(),
            strict: None,
        };
        Request {
            model: "model-1".to_owned(),
            system: vec![Part::Text(system)],
            messages,
            tools: tools.into_iter().map(tool).collect(),
            tool_choice,
            max_output,
            sampling: Sampling { temperature: Some(0.5), ..Sampling::default() },
            format,
            reasoning: effort.map(|effort| Reasoning { effort: Some(effort), budget: None, shown: true }),
            stream,
            ..Request::default()
        }
    })
}

/// What is said, by whom, in its order: results before words, as every dialect has them.
fn content(request: &Request) -> Vec<(Role, String)> {
    let mut said: Vec<(Role, String)> = Vec::new();
    for message in &request.messages {
        for part in &message.parts {
            let text = match part {
                Part::Text(text) | Part::Refusal(text) => text.clone(),
                Part::Image(Image::Bytes { base64, .. }) => base64.clone(),
                Part::ToolCall { id, name, arguments } => format!("call {id} {name} {arguments}"),
                Part::ToolResult { id, parts, failed } => {
                    // Where a dialect has no flag for it, it stands in the words.
                    let words: String = parts.iter().map(|part| format!("{part:?}")).collect();
                    let marked = words.contains("[the tool failed] ");
                    let words =
                        words.replace("[the tool failed] ", "").replace("Text(\"[the tool failed]\")", "");
                    format!(
                        "result {id} {words} {}",
                        *failed || marked || words.contains("[the tool failed]")
                    )
                }
                _ => continue,
            };
            said.push((message.role, text));
        }
    }
    said
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_asked_is_read(request in request()) {
        let manner = Manner { reasoning: true, ..Manner::default() };
        for dialect in Dialect::ALL {
            let body = match dialect.write_request_as(&request, manner) {
                Ok(body) => body,
                Err(failure) => {
                    prop_assert_eq!(failure.kind, Kind::Untranslatable);
                    prop_assert!(failure.field.is_some(), "{:?} does not say what", failure);
                    continue;
                }
            };
            let read = dialect.read_request(&body).unwrap();
            prop_assert_eq!(content(&read), content(&request), "{:?}", dialect);
            if !read.tools.is_empty() {
                prop_assert_eq!(&read.tool_choice, &request.tool_choice, "{:?}", dialect);
            }
            for (one, other) in read.tools.iter().zip(&request.tools) {
                prop_assert_eq!((&one.name, &one.schema), (&other.name, &other.schema));
            }
            prop_assert_eq!(read.sampling.temperature, request.sampling.temperature);
            let again = dialect.write_request_as(&read, manner).unwrap();
            prop_assert_eq!(dialect.read_request(&again).unwrap(), read, "{:?} a second time", dialect);
        }
    }

    #[test]
    fn hostile_requests_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        for dialect in Dialect::ALL {
            prop_assert!(dialect.read_request(&bytes).is_err());
        }
    }
}

fn chat(body: &str) -> Result<Request, octant_llm::Failure> {
    Dialect::Chat.read_request(body.as_bytes())
}

#[test]
fn limits_are_limits() {
    let deep = |depth: usize| {
        let schema = format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        format!(
            "{{\"model\":\"m\",\"messages\":[],\"tools\":[{{\"type\":\"function\",\"function\":{{\"name\":\"f\",\"parameters\":{schema}}}}}]}}"
        )
    };
    assert!(chat(&deep(60)).is_ok());
    assert_eq!(chat(&deep(61)).unwrap_err().kind, Kind::Invalid);
    assert_eq!(chat(&deep(1_000_000)).unwrap_err().kind, Kind::Invalid);
    let names: String = (0..129).map(|number| format!(",\"n{number}\":null")).collect();
    assert!(
        chat(&format!("{{\"model\":\"m\",\"messages\":[]{names}}}")).unwrap_err().message.contains("names")
    );
    let many = "{\"role\":\"user\",\"content\":\"\"},".repeat(16_385);
    let many = format!("{{\"model\":\"m\",\"messages\":[{}]}}", many.trim_end_matches(','));
    assert!(chat(&many).unwrap_err().message.contains("elements"));
    let large = vec![b' '; (32 << 20) + 1];
    assert_eq!(Dialect::Chat.read_request(&large).unwrap_err().kind, Kind::TooLarge);
}

/// A program talks to one dialect while the router asks now this provider and now that one.
#[test]
fn a_proof_goes_back_to_whose_it_is_alone() {
    let signed = |signature: &str| {
        format!(
            "{{\"model\":\"m\",\"max_tokens\":9,\"messages\":[{{\"role\":\"user\",\"content\":\"Hi\"}},{{\"role\":\"assistant\",\
             \"content\":[{{\"type\":\"thinking\",\"thinking\":\"Hm\",\"signature\":\"{signature}\"}},{{\"type\":\"text\",\"text\":\"Ho\"}}]}},\
             {{\"role\":\"user\",\"content\":\"And?\"}}]}}"
        )
    };
    let sent = |signature: &str, to: Dialect| {
        let request = Dialect::Anthropic.read_request(signed(signature).as_bytes()).unwrap();
        String::from_utf8(to.write_request(&request).unwrap()).unwrap()
    };
    assert!(sent("abc", Dialect::Anthropic).contains("\"signature\":\"abc\""));
    assert!(!sent("abc", Dialect::Responses).contains("abc"));
    assert!(sent("octant.responses.xyz", Dialect::Responses).contains("\"encrypted_content\":\"xyz\""));
    let back = sent("octant.responses.xyz", Dialect::Anthropic);
    assert!(!back.contains("thinking") && !back.contains("xyz"), "{back}");
    assert!(Dialect::Anthropic.holds_foreign_proof(signed("octant.gemini.xyz").as_bytes()));
    assert!(!Dialect::Anthropic.holds_foreign_proof(signed("abc").as_bytes()));
}
