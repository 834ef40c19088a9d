//! What an operator is shown of a call that needs approval, and approves: everything that its effect depends on.

use crate::text::{digest, head, tail};
use octant_api::text::Json;
use serde_json::{Value, json};

/// How long arguments are at most that are shown whole, as JSON, in bytes.
const WHOLE_MAX: usize = 32 << 10;
/// How much of a longer text is shown of its beginning and of its end, in bytes. Its digest stands for the rest.
const PART: usize = 1 << 10;

/// The arguments as an operator is shown them. A command is shown whole: one of which a part is not seen cannot be approved.
pub(super) fn shown(name: &str, arguments: &Value) -> Result<Json, String> {
    let odd = |error| format!("not called: it cannot be shown to an operator: {error}");
    let whole = Json::of(arguments).map_err(odd)?;
    if whole.text().len() <= WHOLE_MAX || name == "shell_run" {
        return Ok(whole);
    }
    let fields = arguments.as_object().into_iter().flatten();
    let short: serde_json::Map<String, Value> =
        fields.map(|(name, value)| (name.clone(), of_part(value))).collect();
    Json::of(&short).map_err(odd)
}

fn of_part(value: &Value) -> Value {
    match value.as_str() {
        Some(text) if text.len() > 2 * PART => json!({
            "bytes": text.len(),
            "sha256": digest(text),
            "beginning": head(text, PART),
            "end": tail(text, PART),
        }),
        _ => value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_long_is_shown_by_its_digest_and_a_command_whole() {
        let short = json!({ "command": "ls" });
        assert_eq!(shown("shell_run", &short).unwrap().text(), "{\"command\":\"ls\"}");
        let long = "\u{1b}".repeat(WHOLE_MAX);
        let whole = shown("shell_run", &json!({ "command": &long })).unwrap();
        assert_eq!(whole.read::<Value>().unwrap()["command"], long);
        let text = |text: &str| shown("file_write", &json!({ "path": "a", "text": text })).unwrap();
        let first = text(&long);
        assert!(first.text().len() < WHOLE_MAX && first.text().contains("\"path\":\"a\""), "{first:?}");
        assert!(first.text().contains(&digest(&long).to_string()));
        // The middle counts, seen or not.
        let mut other = long.clone().into_bytes();
        other[WHOLE_MAX / 2] = b'x';
        assert_ne!(text(&String::from_utf8(other).unwrap()), first);
    }
}
