//! Chat completions and Anthropic's messages, in both directions.
use octant_llm::{Answer, Dialect, Event, Part, Request, StopReason, Usage};

const CHAT: &str = "data: {\"id\":\"c1\",\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}]}\n\n\
data: {\"id\":\"c1\",\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hé\"},\"finish_reason\":null}]}\n\n\
data: {\"id\":\"c1\",\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"a\",\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"\"}}]},\"finish_reason\":null}]}\n\n\
data: {\"id\":\"c1\",\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":1,\"id\":\"b\",\"type\":\"function\",\"function\":{\"name\":\"g\",\"arguments\":\"\"}}]},\"finish_reason\":null}]}\n\n\
data: {\"id\":\"c1\",\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":1,\"function\":{\"arguments\":\"{\\\"y\\\":\"}},{\"index\":0,\"function\":{\"arguments\":\"{}\"}}]},\"finish_reason\":null}]}\n\n\
data: {\"id\":\"c1\",\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":1,\"function\":{\"arguments\":\"1}\"}}]},\"finish_reason\":null}]}\n\n\
data: {\"id\":\"c1\",\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n\
data: {\"id\":\"c1\",\"model\":\"m\",\"choices\":[],\"usage\":{\"prompt_tokens\":10,\"completion_tokens\":5,\"total_tokens\":15,\"prompt_tokens_details\":{\"cached_tokens\":4}}}\n\n\
data: [DONE]\n\n";

fn call(id: &str, name: &str, arguments: &str) -> Part {
    Part::ToolCall { id: id.into(), name: name.into(), arguments: arguments.into() }
}

#[test]
fn parallel_calls_of_chat_arrive_at_a_program_of_anthropics() {
    let mut decoder = Dialect::Chat.decoder();
    let mut encoder = Dialect::Anthropic.encoder(&Request::default());
    let mut out = Vec::new();
    for byte in CHAT.bytes() {
        for event in decoder.push(&[byte]) {
            encoder.event(&event, &mut out);
        }
    }
    assert_eq!(decoder.end(), []);
    let text = String::from_utf8(out.clone()).unwrap();
    assert!(text.contains("\"stop_reason\":\"tool_use\""), "{text}");
    assert!(text.contains("\"input_tokens\":6,"), "{text}");
    let mut decoder = Dialect::Anthropic.decoder();
    let events = decoder.push(&out);
    let answer = Answer::collect(&events).unwrap();
    let usage = Usage { input: 10, cache_read: 4, output: 5, ..Usage::default() };
    assert_eq!((answer.reason, answer.usage), (StopReason::ToolCalls, usage));
    assert_eq!(answer.parts, [Part::Text("Hé".into()), call("a", "f", "{}"), call("b", "g", "{\"y\":1}")]);
}

#[test]
fn a_stream_without_its_end_is_cut() {
    for at in 0..CHAT.len() - 4 {
        let mut decoder = Dialect::Chat.decoder();
        let mut events = decoder.push(&CHAT.as_bytes()[..at]);
        events.extend(decoder.end());
        let failures = events.iter().filter(|event| matches!(event, Event::Failed(_))).count();
        assert_eq!((failures, matches!(events.last(), Some(Event::Failed(_)))), (1, true), "cut at {at}");
    }
}
