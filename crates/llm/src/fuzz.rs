//! The entry for fuzzers of what programs and providers send, and for the replay of their corpus.

use crate::{Answer, Dialect, Event, Meter, Request};

/// Reads bytes as a stream, an answer, a failure and a request of a dialect, which the first byte names; what was read
/// is said again in every dialect. Whether they are a complete stream or a request.
///
/// # Panics
/// When events come in no order, a stream ends twice or not at all, or what this crate writes it cannot read.
#[must_use]
pub fn fuzz_llm(bytes: &[u8]) -> bool {
    let Some((&first, body)) = bytes.split_first() else { return false };
    let dialects = Dialect::ALL;
    let Some(&dialect) = dialects.get(usize::from(first) % dialects.len()) else { return false };
    let mut good = false;
    for size in [body.len().max(1), 1 + usize::from(first) % 7] {
        let mut decoder = dialect.decoder();
        let mut meter = Meter::new(dialect);
        let mut events = Vec::new();
        for piece in body.chunks(size) {
            events.extend(decoder.push(piece));
            meter.push(piece);
        }
        events.extend(decoder.end());
        let _what_passes_is_not_judged = meter.end();
        in_order(&events);
        good = matches!(events.last(), Some(Event::Finished { .. }));
        said_again(&events);
    }
    if let Ok(events) = dialect.read_answer(body) {
        in_order(&events);
        said_again(&events);
    }
    let _read = dialect.read_failure(u16::from(first) + 400, &[("retry-after", "7")], body);
    let _read = crate::embeddings::read_request(dialect, body);
    let _read = crate::embeddings::read_answer(dialect, body);
    match dialect.read_request(body) {
        Ok(request) => {
            asked_again(&request);
            true
        }
        Err(_) => good,
    }
}

fn asked_again(request: &Request) {
    let _bound = crate::estimate(request);
    for to in Dialect::ALL {
        if let Ok(body) = to.write_request(request) {
            let read = to.read_request(&body);
            assert!(read.is_ok(), "{to:?} cannot read its own request: {read:?}");
        }
    }
}

fn said_again(events: &[Event]) {
    for to in Dialect::ALL {
        let mut encoder = to.encoder(&Request::default());
        let (mut out, mut heard, mut decoder) = (Vec::new(), Vec::new(), to.decoder());
        for event in events {
            encoder.event(event, &mut out);
            heard.extend(decoder.push(&out));
            out.clear();
        }
        heard.extend(decoder.end());
        in_order(&heard);
        let failed = |events: &[Event]| matches!(events.last(), Some(Event::Failed(_)));
        assert!(
            encoder.ended() && (failed(&heard) || !failed(events)),
            "{to:?} makes a good end of a failure"
        );
        if Answer::collect(events).is_ok()
            && let Ok(body) = to.write_answer(&Request::default(), events)
        {
            let read = to.read_answer(&body);
            assert!(read.is_ok(), "{to:?} cannot read its own answer: {read:?}");
        }
    }
}

/// What [`Event`] promises.
fn in_order(events: &[Event]) {
    let (mut open, mut next) = (Vec::new(), 0);
    for (place, event) in events.iter().enumerate() {
        match event {
            Event::Started { .. } => assert_eq!(place, 0, "it begins in the middle"),
            Event::BlockStarted { index, .. } => {
                assert_eq!(*index, next, "indices grow by one");
                next += 1;
                open.push(*index);
            }
            Event::Delta { index, delta } => {
                assert!(
                    open.contains(index) && !delta.text().is_empty(),
                    "a piece of no block, or an empty one"
                );
            }
            Event::BlockStopped { index } => {
                assert!(open.contains(index), "a block ends twice");
                open.retain(|other| other != index);
            }
            Event::Usage(_) => {}
            Event::Finished { .. } => assert!(open.is_empty(), "blocks are open at the end"),
            Event::Failed(_) => {}
        }
        let terminal = matches!(event, Event::Finished { .. } | Event::Failed(_));
        assert_eq!(terminal, place + 1 == events.len(), "the terminal event is the last one");
    }
    assert!(!events.is_empty(), "no terminal event");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// tests/corpus/llm: seeds named `ok-*` are complete streams or requests, all others are not; damaged ones are
    /// answered.
    #[test]
    fn the_corpus_of_dialects() {
        let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/corpus/llm");
        let mut count = 0;
        for entry in std::fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            let (name, bytes) = (entry.file_name(), std::fs::read(entry.path()).unwrap());
            assert_eq!(fuzz_llm(&bytes), name.to_str().unwrap().starts_with("ok-"), "{name:?}");
            for at in (0..bytes.len()).step_by(1 + bytes.len() / 16) {
                let _cut = fuzz_llm(&bytes[..at]);
                let mut other = bytes.clone();
                other[at] ^= 0x5f;
                let _damaged = fuzz_llm(&other);
            }
            count += 1;
        }
        assert!(count >= 20, "the corpus is not where it was");
    }
}
