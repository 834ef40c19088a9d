//! Any answer, said in any dialect, cut anywhere: the same content, in its order; and never a clean end where there
//! was none.

use octant_llm::{
    Answer, Block, Delta, Dialect, Event, Failure, Kind, Meter, Part, Request, StopReason, Usage,
};
use proptest::prelude::*;

/// What can be told of an answer whatever the dialect: each sort of thing in its order.
#[derive(Debug, PartialEq, Eq)]
struct Content {
    words: String,
    refusal: String,
    thoughts: String,
    proofs: Vec<String>,
    calls: Vec<(String, String, String)>,
}

impl Content {
    fn of(parts: &[Part], has: &Has) -> Self {
        let mut own = Self {
            words: String::new(),
            refusal: String::new(),
            thoughts: String::new(),
            proofs: vec![],
            calls: vec![],
        };
        for part in parts {
            match part {
                Part::Text(text) => own.words.push_str(text),
                Part::Refusal(text) if has.refusals => own.refusal.push_str(text),
                Part::Refusal(text) => own.words.push_str(text),
                Part::Reasoning { text, signature, .. } => {
                    own.thoughts.push_str(text);
                    own.proofs.extend(signature.clone().filter(|_| has.proofs));
                }
                Part::Sealed { data, .. } if has.proofs => own.proofs.push(data.clone()),
                Part::ToolCall { id, name, arguments } if has.calls => {
                    own.calls.push((id.clone(), name.clone(), arguments.clone()));
                }
                _ => {}
            }
        }
        own
    }
}

/// What a dialect has words for.
#[derive(Debug, Clone, Copy)]
struct Has {
    refusals: bool,
    proofs: bool,
    calls: bool,
}

fn has(dialect: Dialect) -> Has {
    let (refusals, proofs, calls) = match dialect {
        Dialect::Chat | Dialect::Responses => (true, true, true),
        Dialect::Anthropic | Dialect::Gemini | Dialect::Bedrock => (false, true, true),
        Dialect::OllamaChat => (false, false, true),
        Dialect::OllamaGenerate => (false, false, false),
    };
    Has { refusals, proofs, calls }
}

fn both(one: Has, other: Has) -> Has {
    Has {
        refusals: one.refusals && other.refusals,
        proofs: one.proofs && other.proofs,
        calls: one.calls && other.calls,
    }
}

fn words() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z ]{1,12}", "[\\PC\n\r\"\\\\\u{2028}é漢😀]{1,8}", Just("data: [DONE]\n\n".to_owned())]
}

fn arguments() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("{}".to_owned()),
        words().prop_map(|text| {
            serde_json::json!({ "z": text, "a": [1, 2.5, null], "n": 9_007_199_254_740_993_u64 }).to_string()
        }),
        Just("{\"z\":12345678901234567890123,\"a\":1}".to_owned()),
    ]
}

/// A block: what it is, and its pieces.
fn block() -> impl Strategy<Value = (Block, Vec<Delta>)> {
    let texts = || prop::collection::vec(words(), 1..4);
    prop_oneof![
        4 => texts().prop_map(|texts| (Block::Text, texts.into_iter().map(Delta::Text).collect())),
        1 => texts().prop_map(|texts| (Block::Refusal, texts.into_iter().map(Delta::Refusal).collect())),
        2 => (texts(), prop::option::of("octant\\.anthropic\\.[A-Za-z0-9+/]{8}")).prop_map(|(texts, proof)| {
            let said = texts.into_iter().map(Delta::Reasoning);
            (Block::Reasoning { id: None }, said.chain(proof.map(Delta::Signature)).collect())
        }),
        1 => "octant\\.(gemini|responses)\\.[A-Za-z0-9+/]{8}".prop_map(|data| (Block::Sealed { id: None, data }, Vec::new())),
        4 => (arguments(), 1_usize..5).prop_map(|(text, pieces)| {
            let letters: Vec<char> = text.chars().collect();
            let size = letters.len().div_ceil(pieces);
            let pieces = letters.chunks(size).map(|piece| Delta::Arguments(piece.iter().collect())).collect();
            (Block::ToolCall { id: String::new(), name: "tool".to_owned() }, pieces)
        }),
    ]
}

/// A valid sequence of events: calls are filled in turns, as providers do.
fn events() -> impl Strategy<Value = Vec<Event>> {
    let usage = (0..9_u64, 0..9_u64, 0..9_u64, 0..9_u64);
    (prop::collection::vec(block(), 0..6), usage, 0..3_usize).prop_map(|(blocks, usage, end)| {
        let mut events = vec![Event::Started { id: "id-1".to_owned(), model: "model-1".to_owned() }];
        let mut calls: Vec<(u32, std::vec::IntoIter<Delta>)> = Vec::new();
        let (mut called, mut refused) = (false, false);
        for (index, (mut block, deltas)) in (0_u32..).zip(blocks) {
            if let Block::ToolCall { id, name } = &mut block {
                *id = format!("call_{index}");
                name.push_str(&index.to_string());
                called = true;
            }
            refused |= block == Block::Refusal;
            let is_call = matches!(block, Block::ToolCall { .. });
            events.push(Event::BlockStarted { index, block });
            if is_call {
                calls.push((index, deltas.into_iter()));
                continue;
            }
            events.extend(deltas.into_iter().map(|delta| Event::Delta { index, delta }));
            events.push(Event::BlockStopped { index });
        }
        while !calls.is_empty() {
            calls.retain_mut(|(index, deltas)| {
                let next = deltas.next().map(|delta| Event::Delta { index: *index, delta });
                let more = next.is_some();
                events.push(next.unwrap_or(Event::BlockStopped { index: *index }));
                more
            });
        }
        let (fresh, cache_read, cache_write, output) = usage;
        events.push(Event::Usage(Usage {
            input: fresh + cache_read + cache_write,
            cache_read,
            cache_write,
            output,
            reasoning: 0,
        }));
        let reason = match end {
            0 => StopReason::Length,
            _ if called => StopReason::ToolCalls,
            _ if refused => StopReason::Refusal,
            _ => StopReason::End,
        };
        events.push(Event::Finished { reason, sequence: None });
        events
    })
}

fn said(dialect: Dialect, events: &[Event]) -> Vec<u8> {
    let request = Request { stream_usage: true, ..Request::default() };
    let mut encoder = dialect.encoder(&request);
    let mut out = Vec::new();
    events.iter().for_each(|event| encoder.event(event, &mut out));
    out
}

/// Reads bytes in pieces of these sizes, again and again; checks that the events are in order.
fn heard(dialect: Dialect, bytes: &[u8], sizes: &[usize]) -> Vec<Event> {
    let mut decoder = dialect.decoder();
    let mut events = Vec::new();
    let (mut rest, mut sizes) = (bytes, sizes.iter().cycle());
    while !rest.is_empty() {
        let (piece, behind) = rest.split_at((*sizes.next().unwrap()).clamp(1, rest.len()));
        events.extend(decoder.push(piece));
        rest = behind;
    }
    events.extend(decoder.end());
    assert_eq!(decoder.end(), [], "more after the end");
    in_order(&events);
    events
}

/// The grammar of events, as `Event` tells it.
fn in_order(events: &[Event]) {
    let (mut open, mut next, mut over) = (Vec::new(), 0, false);
    for (place, event) in events.iter().enumerate() {
        assert!(!over, "{event:?} after the end");
        match event {
            Event::Started { .. } => assert_eq!(place, 0, "it begins in the middle"),
            Event::BlockStarted { index, .. } => {
                assert_eq!(*index, next, "indices grow by one");
                next += 1;
                open.push(*index);
            }
            Event::Delta { index, delta } => {
                assert!(open.contains(index), "a piece of block {index}, which is not open");
                assert!(!delta.text().is_empty(), "an empty piece");
            }
            Event::BlockStopped { index } => {
                assert!(open.contains(index), "block {index} ends twice");
                open.retain(|other| other != index);
            }
            Event::Usage(_) => {}
            Event::Finished { .. } => {
                over = true;
                assert!(open.is_empty(), "blocks are open at the end");
            }
            Event::Failed(_) => over = true,
        }
    }
    assert!(over, "no terminal event");
}

/// How many bytes of a stream its end needs: with them it is complete, with one less it is not.
fn terminal(dialect: Dialect, bytes: &[u8]) -> usize {
    let complete = |at: usize| {
        let mut decoder = dialect.decoder();
        let mut events = decoder.push(&bytes[..at]);
        events.extend(decoder.end());
        matches!(events.last(), Some(Event::Finished { .. }))
    };
    // More bytes never make a complete stream incomplete.
    let (mut without, mut with) = (0, bytes.len());
    while with - without > 1 {
        let middle = usize::midpoint(without, with);
        if complete(middle) { with = middle } else { without = middle }
    }
    assert!(complete(with), "the whole stream is complete");
    with
}

/// The dialects that can say it: one has no calls, and says so.
fn able(events: &[Event]) -> Vec<Dialect> {
    let calls = |event: &Event| matches!(event, Event::BlockStarted { block: Block::ToolCall { .. }, .. });
    let mut able = Dialect::ALL.to_vec();
    if events.iter().any(calls) {
        able.retain(|dialect| *dialect != Dialect::OllamaGenerate);
        let failure =
            Answer::collect(&heard(Dialect::OllamaGenerate, &said(Dialect::OllamaGenerate, events), &[9]));
        assert!(failure.unwrap_err().message.contains("ask its chat"));
    }
    able
}

fn kept_reason(dialect: Dialect, reason: StopReason) -> StopReason {
    // Two dialects have no word for a refusal.
    match (dialect, reason) {
        (Dialect::OllamaChat | Dialect::OllamaGenerate, StopReason::Refusal) => StopReason::End,
        (Dialect::Gemini | Dialect::Bedrock, StopReason::Refusal) => StopReason::Filtered,
        (_, reason) => reason,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_said_is_heard(events in events(), sizes in prop::collection::vec(1_usize..40, 1..6)) {
        let asked = Answer::collect(&events).unwrap();
        for dialect in able(&events) {
            let bytes = said(dialect, &events);
            let answer = Answer::collect(&heard(dialect, &bytes, &sizes)).unwrap();
            let has = has(dialect);
            let content = Content::of(&asked.parts, &has);
            prop_assert_eq!(&Content::of(&answer.parts, &has), &content, "{:?}", dialect);
            let reason = kept_reason(dialect, asked.reason);
            prop_assert_eq!(answer.reason, reason, "{:?}", dialect);
            prop_assert_eq!(answer.usage.input, asked.usage.input);
            prop_assert_eq!(answer.usage.output, asked.usage.output);
            let mut meter = Meter::new(dialect);
            bytes.chunks(sizes[0]).for_each(|piece| meter.push(piece));
            let end = meter.end().unwrap();
            prop_assert_eq!(meter.usage(), answer.usage, "{:?}", dialect);
            prop_assert!(end.is_some());
            // Not as a stream: the same.
            let whole = dialect.write_answer(&Request::default(), &events).unwrap();
            let answer = Answer::collect(&dialect.read_answer(&whole).unwrap()).unwrap();
            prop_assert_eq!(&Content::of(&answer.parts, &has), &content, "{:?} as a whole", dialect);
            prop_assert_eq!(answer.reason, reason, "{:?} as a whole", dialect);
            prop_assert_eq!(Meter::whole(dialect, &whole).unwrap().0, answer.usage, "{:?}", dialect);
        }
    }

    #[test]
    fn between_each_two(events in events(), size in 1_usize..64) {
        let asked = Answer::collect(&events).unwrap();
        for from in able(&events) {
            let heard_there = heard(from, &said(from, &events), &[size]);
            for to in able(&events) {
                if Answer::collect(&heard_there).unwrap().reason == StopReason::Filtered
                    && matches!(to, Dialect::OllamaChat | Dialect::OllamaGenerate)
                {
                    continue;
                }
                let answer = Answer::collect(&heard(to, &said(to, &heard_there), &[size])).unwrap();
                let has = both(has(from), has(to));
                // What one of them says as words stands where words stand.
                let mut before = Content::of(&asked.parts, &has);
                let mut after = Content::of(&answer.parts, &has);
                before.words.retain(|letter| letter != ' ');
                after.words.retain(|letter| letter != ' ');
                prop_assert_eq!(after, before, "{:?} to {:?}", from, to);
                prop_assert_eq!(answer.usage.output, asked.usage.output);
            }
        }
    }

    #[test]
    fn cut_before_its_end_it_failed(events in events(), place in 0.0..1.0_f64) {
        for dialect in able(&events) {
            let bytes = said(dialect, &events);
            let end = terminal(dialect, &bytes);
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
            let at = (end as f64 * place) as usize;
            let heard = heard(dialect, &bytes[..at], &[7]);
            let failures: Vec<&Failure> = heard.iter().filter_map(|event| match event {
                Event::Failed(failure) => Some(failure),
                _ => None,
            }).collect();
            prop_assert_eq!(failures.len(), 1, "{:?}", dialect);
            prop_assert_eq!(failures[0].kind, Kind::Cut, "{:?}: {}", dialect, failures[0]);
            let mut meter = Meter::new(dialect);
            meter.push(&bytes[..at]);
            prop_assert_eq!(meter.end().unwrap_err().kind, Kind::Cut);
        }
    }

    #[test]
    fn a_failure_inside_a_stream_is_heard_as_one(events in events(), place in 0_usize..40, which in 0_usize..4) {
        let kind = [Kind::RateLimited, Kind::Overloaded, Kind::Upstream, Kind::Cut][which];
        let mut events = events;
        events.truncate(1 + place % (events.len() - 1));
        events.push(Event::Failed(Failure::new(kind, "it went wrong")));
        for dialect in able(&events) {
            let heard = heard(dialect, &said(dialect, &events), &[11]);
            let Some(Event::Failed(failure)) = heard.last() else { panic!("{dialect:?} ends well: {heard:?}") };
            prop_assert!(failure.message.contains("it went wrong"), "{:?}: {}", dialect, failure);
            if matches!(dialect, Dialect::Chat | Dialect::Responses) {
                prop_assert_eq!(failure.kind, kind, "{:?}", dialect);
            }
        }
    }

    #[test]
    fn hostile_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..400), size in 1_usize..50) {
        for dialect in Dialect::ALL {
            let events = heard(dialect, &bytes, &[size]);
            prop_assert!(matches!(events.last(), Some(Event::Failed(_))));
        }
    }

    #[test]
    fn damaged_streams_are_answered(events in events(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        for dialect in Dialect::ALL {
            let mut bytes = said(dialect, &events);
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let _in_order = heard(dialect, &bytes, &[13]);
            if let Ok(whole) = dialect.write_answer(&Request::default(), &events) {
                let _answered = dialect.read_answer(&whole[..whole.len().min(at)]);
            }
        }
    }
}

#[test]
fn a_million_pieces_arrive_in_their_order() {
    const PIECES: u32 = 1_000_000;
    let mut decoder = Dialect::Chat.decoder();
    let mut encoder = Dialect::Anthropic.encoder(&Request::default());
    let (mut out, mut piece) = (Vec::new(), Vec::new());
    for number in 0..PIECES {
        piece.clear();
        out.clear();
        let text = number.to_string();
        for part in ["data: {\"choices\":[{\"delta\":{\"content\":\"", &text, "\"}}]}\n\n"] {
            piece.extend_from_slice(part.as_bytes());
        }
        let (one, other) = piece.split_at(number as usize % piece.len());
        for half in [one, other] {
            for event in decoder.push(half) {
                encoder.event(&event, &mut out);
            }
        }
        let end = format!("\"delta\":{{\"type\":\"text_delta\",\"text\":\"{text}\"}}}}\n\n");
        assert!(out.ends_with(end.as_bytes()), "piece {number}: {}", String::from_utf8_lossy(&out));
    }
}
