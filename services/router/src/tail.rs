//! Takes the chunk that says what a stream of chat completions used out of it, where the router has asked for it and the
//! program has not: some programs take the first choice of every chunk, and that one has none.

use serde_json::Value;

/// The longest event that is looked at; a longer one passes as it is.
const EVENT_MAX: usize = 1 << 20;

/// Looks through a stream, event by event.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    event: Vec<u8>,
}

impl Tail {
    /// More came: what is whole is passed on.
    pub(crate) fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        for byte in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.event.extend_from_slice(byte);
            let ends = self.event.ends_with(b"\n\n") || self.event.ends_with(b"\n\r\n");
            if ends || self.event.len() > EVENT_MAX {
                self.end(out);
            }
        }
    }

    /// Nothing more comes.
    pub(crate) fn end(&mut self, out: &mut Vec<u8>) {
        let event = std::mem::take(&mut self.event);
        if !is_usage(&event) {
            out.extend(event);
        }
    }
}

fn is_usage(event: &[u8]) -> bool {
    let Some(data) = event.strip_prefix(b"data:") else { return false };
    // Quick for what is none: nearly every event.
    if data.len() > 8192 || memchr::memmem::find(data, b"\"usage\"").is_none() {
        return false;
    }
    let chunk: Value = serde_json::from_slice(data.trim_ascii()).unwrap_or_default();
    chunk["usage"].is_object() && chunk["choices"].as_array().is_some_and(Vec::is_empty)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chunk_with_the_usage_goes_and_every_other_byte_stays_however_it_is_cut() {
        let before = "data: {\"choices\":[{\"delta\":{\"content\":\"a \\\"usage\\\"\"}}],\"usage\":null}\n\n: ping\n\n";
        let usage = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1}}\r\n\r\n";
        let after = "data: [DONE]\n\nrest";
        let text = format!("{before}{usage}{after}");
        for size in [1, 2, 3, 7, 50, 1000] {
            let (mut tail, mut out) = (Tail::default(), Vec::new());
            text.as_bytes().chunks(size).for_each(|piece| tail.push(piece, &mut out));
            tail.end(&mut out);
            assert_eq!(String::from_utf8(out).unwrap(), format!("{before}{after}"), "{size}");
        }
    }
}
