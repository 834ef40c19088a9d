//! What whoever looks at a loop sees of it: as text, or as lines of JSON for a program.

use crate::error::LoopError;
use crate::text::{middle_out, visible};
use serde::{Deserialize, Serialize};
use std::io::Write;

/// How much of a result, or of arguments, is shown, in bytes.
const SHOWN_MAX: usize = 4096;
/// The same as text, where a person reads it.
const LINE_MAX: usize = 400;

/// In which form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// For people. What a terminal would obey is spelled out.
    Text,
    /// One [`Shown`] a line, as JSON.
    Lines,
}

/// Something that is seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "show", rename_all = "snake_case")]
pub enum Shown {
    /// The loop begins, or goes on from its transcript.
    Began {
        /// The model.
        model: String,
        /// Whether there was something in the transcript.
        again: bool,
    },
    /// What an operator said.
    Said {
        /// The words.
        text: String,
    },
    /// A piece of what the model says.
    Text {
        /// The piece.
        text: String,
    },
    /// A piece of what it thinks.
    Thought {
        /// The piece.
        text: String,
    },
    /// It calls a tool.
    Call {
        /// Which call.
        id: String,
        /// Which tool.
        name: String,
        /// With which arguments; long ones with their middle left out.
        arguments: String,
    },
    /// The call waits for an operator.
    Waits {
        /// Which call.
        id: String,
        /// The request for approval.
        request: String,
    },
    /// The tool's result.
    Result {
        /// Of which call.
        id: String,
        /// The result; a long one with its middle left out.
        text: String,
        /// Whether the tool failed.
        failed: bool,
    },
    /// Something that happened beside.
    Note {
        /// The words.
        text: String,
    },
    /// The turn is over, and something can be said.
    Turn {
        /// Whether it was stopped.
        stopped: bool,
    },
    /// It is over.
    Ended {
        /// How ([`crate::entry::End::name`]).
        end: String,
        /// Why.
        why: String,
    },
}

/// Where it is shown.
pub(crate) struct Show<'a> {
    pub(crate) form: Form,
    to: &'a mut dyn Write,
    text: Text,
}

/// A loop as text: what comes next depends on whether the last line is at its end.
#[derive(Debug, Default)]
pub struct Text {
    within: bool,
}

impl std::fmt::Debug for Show<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Show").field("form", &self.form).finish_non_exhaustive()
    }
}

impl<'a> Show<'a> {
    pub(crate) fn new(form: Form, to: &'a mut dyn Write) -> Self {
        Self { form, to, text: Text::default() }
    }

    /// Shows it at once.
    pub(crate) fn show(&mut self, shown: Shown) -> Result<(), LoopError> {
        let text = match self.form {
            Form::Lines => {
                let shown = short(shown);
                serde_json::to_string(&shown).map_err(|error| LoopError::Output(error.into()))? + "\n"
            }
            Form::Text => self.text.of(&shown),
        };
        self.to.write_all(text.as_bytes()).and_then(|()| self.to.flush()).map_err(LoopError::Output)
    }
}

impl Text {
    /// What is written for it.
    pub fn of(&mut self, shown: &Shown) -> String {
        if let Shown::Text { text } | Shown::Thought { text } = shown {
            self.within = !text.ends_with('\n') && (self.within || !text.is_empty());
            return visible(text);
        }
        let line = |text: &str| visible(&middle_out(text, LINE_MAX).replace('\n', "\n  "));
        let text = match shown {
            Shown::Text { .. } | Shown::Thought { .. } => String::new(),
            Shown::Began { model, again: false } => line(&format!("[octant] asks {model}")),
            Shown::Began { model, again: true } => line(&format!("[octant] goes on, asks {model}")),
            Shown::Said { text } => line(&format!("[said] {text}")),
            Shown::Call { name, arguments, .. } => line(&format!("[call] {name} {arguments}")),
            // Whoever writes this can write anything: what is shown for an operator to type is a command and no more.
            Shown::Waits { request, .. } if !request.bytes().all(|byte| byte.is_ascii_alphanumeric()) => {
                line("[waits] for an operator: octant approvals")
            }
            Shown::Waits { request, .. } => {
                line(&format!("[waits] for an operator: octant approvals allow {request}"))
            }
            Shown::Result { text, failed: false, .. } => line(&format!("[result] {}", text.trim_end())),
            Shown::Result { text, failed: true, .. } => line(&format!("[failed] {}", text.trim_end())),
            Shown::Note { text } => line(&format!("[octant] {text}")),
            Shown::Turn { stopped: true } => "[octant] stopped; say something".to_owned(),
            Shown::Turn { stopped: false } => "[octant] waits for what is said next".to_owned(),
            Shown::Ended { end, why } => line(&format!("[octant] ended, {end}: {why}")),
        };
        let before = if std::mem::take(&mut self.within) { "\n" } else { "" };
        format!("{before}{text}\n")
    }
}

fn short(shown: Shown) -> Shown {
    let cut = |text: String| middle_out(&text, SHOWN_MAX);
    match shown {
        Shown::Call { id, name, arguments } => Shown::Call { id, name, arguments: cut(arguments) },
        Shown::Result { id, text, failed } => Shown::Result { id, text: cut(text), failed },
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_harmless_and_lines_are_whole() {
        let mut bytes = Vec::new();
        let mut show = Show::new(Form::Text, &mut bytes);
        show.show(Shown::Text { text: "a\x1b]0;x\x07".into() }).unwrap();
        let (id, failed) = (String::new(), false);
        show.show(Shown::Result { id, text: "b\x1b[2J\nc".into(), failed }).unwrap();
        assert_eq!(String::from_utf8(bytes).unwrap(), "a\\u{1b}]0;x\\u{7}\n[result] b\\u{1b}[2J\n  c\n");
        let waits =
            |request: &str| Text::default().of(&Shown::Waits { id: "c".into(), request: request.into() });
        assert!(waits("0123abcd").ends_with("allow 0123abcd\n") && !waits("1; rm -r /").contains("rm"));
        let mut bytes = Vec::new();
        let mut show = Show::new(Form::Lines, &mut bytes);
        let shown = Shown::Text { text: "a\n\x1b".into() };
        show.show(shown.clone()).unwrap();
        assert_eq!(serde_json::from_slice::<Shown>(&bytes).unwrap(), shown);
        assert_eq!(bytes.iter().filter(|byte| **byte == b'\n').count(), 1);
    }
}
