//! What passes as it is, and is only watched.

use octant_llm::{Dialect, Kind, Meter, StopReason};

/// Tools of the provider's own, fields and reasons of a later version: nothing to translate, and nothing wrong.
#[test]
fn what_it_does_not_know_passes() {
    let stream = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":5,\"output_tokens\":1}}}\n\n\
        event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"server_tool_use\"}}\n\n\
        event: something_new\ndata: {\"type\":\"something_new\"}\n\n\
        event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"of_tomorrow\"},\"usage\":{\"output_tokens\":9}}\n\n";
    let mut meter = Meter::new(Dialect::Anthropic);
    stream.as_bytes().chunks(3).for_each(|piece| meter.push(piece));
    assert!(!meter.ended());
    meter.push(b"event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n");
    assert!(meter.ended());
    assert_eq!(meter.end(), Ok(None));
    assert_eq!((meter.usage().input, meter.usage().output), (5, 9));
}

#[test]
fn a_cut_is_a_failure_also_where_bytes_pass() {
    let mut meter = Meter::new(Dialect::Chat);
    meter.push(b"data: {\"choices\":[{\"delta\":{\"content\":\"x\"},\"finish_reason\":\"stop\"}]}\n\n");
    assert_eq!(meter.end().unwrap_err().kind, Kind::Cut);
    let mut meter = Meter::new(Dialect::Chat);
    meter.push(b"data: [DONE]\n\n");
    assert_eq!(meter.end().unwrap_err().kind, Kind::Cut);
}

#[test]
fn an_error_inside_is_seen() {
    let mut meter = Meter::new(Dialect::Responses);
    meter.push(b"data: {\"type\":\"response.failed\",\"response\":{\"status\":\"failed\",\"error\":{\"code\":\"server_error\",\"message\":\"no\"}}}\n\n");
    assert!(meter.ended());
    assert_eq!(meter.end().unwrap_err().message, "no");
}

#[test]
fn a_whole_answer_is_measured() {
    let body = br#"{"object":"response","status":"completed","output":[{"type":"web_search_call"},{"type":"function_call"}],"usage":{"input_tokens":3,"output_tokens":4}}"#;
    let (usage, reason) = Meter::whole(Dialect::Responses, body).unwrap();
    assert_eq!((usage.input, usage.output, reason), (3, 4, Some(StopReason::ToolCalls)));
    let body = br#"{"candidates":[{"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":3,"candidatesTokenCount":2,"thoughtsTokenCount":5}}"#;
    let (usage, reason) = Meter::whole(Dialect::Gemini, body).unwrap();
    assert_eq!((usage.output, usage.reasoning, reason), (7, 5, Some(StopReason::End)));
    assert_eq!(Meter::whole(Dialect::Chat, b"{}").unwrap_err().kind, Kind::Malformed);
}
