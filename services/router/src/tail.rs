//! Knows the chunk that says what a stream of chat completions used. It is taken out where the router has asked for it and
//! the program has not: some programs take the first choice of every chunk, and that one has none.

use serde_json::Value;

/// The longest event that is looked at; a longer one is another.
const EVENT_MAX: usize = 8192;

/// Whether this event, with its line ends, is that chunk.
pub(crate) fn is_usage(event: &[u8]) -> bool {
    let Some(data) = event.strip_prefix(b"data:") else { return false };
    // Quick for what is none: nearly every event.
    if data.len() > EVENT_MAX || memchr::memmem::find(data, b"\"usage\"").is_none() {
        return false;
    }
    let chunk: Value = serde_json::from_slice(data.trim_ascii()).unwrap_or_default();
    chunk["usage"].is_object() && chunk["choices"].as_array().is_some_and(Vec::is_empty)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_chunk_with_the_usage_is_one() {
        assert!(is_usage(b"data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1}}\r\n\r\n"));
        for other in [
            "data: {\"choices\":[{\"delta\":{\"content\":\"a \\\"usage\\\"\"}}],\"usage\":null}\n\n",
            "data: {\"choices\":[{\"delta\":{}}],\"usage\":{\"prompt_tokens\":1}}\n\n",
            ": \"usage\"\n\n",
            "data: [DONE]\n\n",
            "data: {\"choices\":[],\"usage\"\n\n",
        ] {
            assert!(!is_usage(other.as_bytes()), "{other}");
        }
    }
}
