//! Streams without an end, events without an end, answers without an end: a failure, and no more memory than for the
//! largest event.

use octant_llm::{Dialect, Event, Kind};

/// Pushes the same piece again and again until the decoder says that it is enough.
fn until_failed(dialect: Dialect, begin: &[u8], piece: &[u8]) -> (usize, Kind) {
    let mut decoder = dialect.decoder();
    assert_eq!(decoder.push(begin), []);
    let mut bytes = 0;
    while bytes < 64 << 20 {
        bytes += piece.len();
        if let Some(Event::Failed(failure)) = decoder.push(piece).last() {
            assert!(decoder.ended());
            assert_eq!(decoder.push(piece), [], "more after the end");
            return (bytes, failure.kind);
        }
    }
    panic!("{dialect:?} takes {bytes} bytes");
}

#[test]
fn a_line_has_an_end() {
    let piece = vec![b'a'; 1 << 20];
    for dialect in
        [Dialect::Chat, Dialect::Anthropic, Dialect::Responses, Dialect::Gemini, Dialect::OllamaChat]
    {
        let (bytes, kind) = until_failed(dialect, b"data: ", &piece);
        assert_eq!((bytes >> 20, kind), (8, Kind::Malformed), "{dialect:?}");
    }
}

#[test]
fn an_event_of_many_lines_has_an_end() {
    let line = format!("data: {}\n", "a".repeat(1 << 16));
    let (bytes, kind) = until_failed(Dialect::Chat, b"", line.as_bytes());
    assert!(bytes < 9 << 20);
    assert_eq!(kind, Kind::Malformed);
}

#[test]
fn a_frame_has_an_end() {
    let mut decoder = Dialect::Bedrock.decoder();
    let mut frame = vec![0xff; 4];
    frame.extend_from_slice(&[0; 8]);
    let events = decoder.push(&frame);
    assert!(matches!(events.as_slice(), [Event::Failed(failure)] if failure.kind == Kind::Malformed));
}

#[test]
fn a_frame_that_was_damaged_is_no_frame() {
    let mut out = Vec::new();
    let mut encoder = Dialect::Bedrock.encoder(&octant_llm::Request::default());
    encoder.event(&Event::Started { id: String::new(), model: String::new() }, &mut out);
    for at in 0..out.len() {
        let mut other = out.clone();
        other[at] ^= 1;
        let mut decoder = Dialect::Bedrock.decoder();
        let mut events = decoder.push(&other);
        events.extend(decoder.end());
        assert!(!events.iter().any(|event| matches!(event, Event::Started { .. })), "byte {at}");
    }
}

#[test]
fn an_answer_has_an_end_where_it_is_kept() {
    let mut draft = octant_llm::Draft::default();
    draft.event(&Event::BlockStarted { index: 0, block: octant_llm::Block::Text }).unwrap();
    let piece = octant_llm::Delta::Text("a".repeat(1 << 20));
    let mut events = std::iter::repeat_n(Event::Delta { index: 0, delta: piece }, 65);
    let failure = events.find_map(|event| draft.event(&event).err()).unwrap();
    assert_eq!(failure.kind, Kind::Malformed);
}
