//! What of an agent's doings an editor is told, and when a turn is over.

use octant_loop::Shown;
use serde_json::{Value, json};

/// Where a session is.
#[derive(Debug, Default)]
pub(super) struct Turn {
    /// How many of the words that were said have been heard.
    heard: u64,
    /// The number of the last prompt's words.
    wanted: u64,
}

impl Turn {
    /// A prompt was said, under this number.
    pub(super) fn begin(&mut self, number: u64) {
        self.wanted = number;
    }

    /// Why the turn of the last prompt is over, if this says so. A turn that ended before the prompt was heard is another's.
    pub(super) fn shown(&mut self, shown: &Shown) -> Option<&'static str> {
        match shown {
            Shown::Said { .. } => {
                self.heard += 1;
                None
            }
            Shown::Turn { stopped } if self.heard >= self.wanted => {
                Some(if *stopped { "cancelled" } else { "end_turn" })
            }
            Shown::Ended { end, .. } => match end.as_str() {
                "done" => Some("end_turn"),
                "stopped" => Some("cancelled"),
                "refused" => Some("refusal"),
                "steps" | "time" | "stuck" => Some("max_turn_requests"),
                "budget" => Some("max_tokens"),
                // The end of its output says that it failed.
                _ => None,
            },
            _ => None,
        }
    }
}

fn text(text: &str) -> Value {
    json!({ "type": "text", "text": text })
}

fn kind(name: &str) -> &'static str {
    match name {
        "file_read" | "file_list" => "read",
        "file_write" | "file_edit" => "edit",
        "file_search" => "search",
        "shell_run" => "execute",
        _ => "other",
    }
}

/// The update that tells it; none for what is told otherwise.
pub(super) fn update(shown: &Shown) -> Option<Value> {
    let update = match shown {
        Shown::Text { text: said } => {
            json!({ "sessionUpdate": "agent_message_chunk", "content": text(said) })
        }
        Shown::Thought { text: said } | Shown::Note { text: said } => {
            json!({ "sessionUpdate": "agent_thought_chunk", "content": text(said) })
        }
        Shown::Said { text: said } => json!({ "sessionUpdate": "user_message_chunk", "content": text(said) }),
        Shown::Call { id, name, arguments } => json!({
            "sessionUpdate": "tool_call",
            "toolCallId": id,
            "title": name,
            "kind": kind(name),
            "status": "in_progress",
            // Long ones have their middle left out, and are text then.
            "rawInput": serde_json::from_str::<Value>(arguments).unwrap_or_else(|_| json!({ "text": arguments })),
        }),
        Shown::Waits { id, request } => json!({
            "sessionUpdate": "tool_call_update",
            "toolCallId": id,
            "status": "pending",
            "content": [{ "type": "content",
                "content": text(&format!("waits for an operator: octant approvals allow {request}")) }],
        }),
        Shown::Result { id, text: said, failed } => json!({
            "sessionUpdate": "tool_call_update",
            "toolCallId": id,
            "status": if *failed { "failed" } else { "completed" },
            "content": [{ "type": "content", "content": text(said) }],
        }),
        Shown::Ended { end, why } if end != "done" => {
            json!({ "sessionUpdate": "agent_thought_chunk", "content": text(&format!("ended, {end}: {why}")) })
        }
        Shown::Began { .. } | Shown::Turn { .. } | Shown::Ended { .. } => return None,
    };
    Some(update)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_is_over_once_its_prompt_was_heard() {
        let said = || Shown::Said { text: "x".into() };
        let over = Shown::Turn { stopped: false };
        let mut turn = Turn::default();
        turn.begin(1);
        assert_eq!(turn.shown(&over), None, "it waits since its beginning");
        assert_eq!((turn.shown(&said()), turn.shown(&over)), (None, Some("end_turn")));
        turn.begin(2);
        assert_eq!(turn.shown(&Shown::Turn { stopped: true }), None);
        turn.shown(&said());
        assert_eq!(turn.shown(&Shown::Turn { stopped: true }), Some("cancelled"));
    }

    #[test]
    fn calls_are_told_from_their_beginning_to_their_result() {
        let (id, name) = ("c".to_owned(), "shell_run".to_owned());
        let begun =
            update(&Shown::Call { id: id.clone(), name, arguments: "{\"command\":\"ls\"}".into() }).unwrap();
        assert_eq!((&begun["kind"], &begun["rawInput"]["command"]), (&json!("execute"), &json!("ls")));
        let done = update(&Shown::Result { id, text: "x".into(), failed: true }).unwrap();
        assert_eq!((&done["toolCallId"], &done["status"]), (&json!("c"), &json!("failed")));
        assert!(update(&Shown::Turn { stopped: false }).is_none());
    }
}
