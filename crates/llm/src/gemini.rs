//! Gemini's `generateContent`.

mod answer;
mod request;

pub(crate) use answer::{Reader, Writer, read_usage, reason, write_answer};
pub(crate) use request::{read_request, write_request};

use crate::Part;
use crate::json::List;
use crate::tools::as_object;

/// What the provider takes in place of a proof that nobody has kept; without one it refuses calls of earlier turns.
const NO_PROOF: &str = "skip_thought_signature_validator";

/// What the model said, as parts. What is sealed stands with the part behind it; alone at the end, with empty words.
fn write_said(list: &mut List<'_>, parts: &[Part], demand_proof: bool) {
    let mut sealed: Option<&str> = None;
    let mut first_call = demand_proof;
    for part in parts {
        if matches!(part, Part::Sealed { .. } | Part::Reasoning { .. }) {
            write_sealed(list, sealed.take());
        }
        if let Part::Sealed { data, .. } = part {
            sealed = Some(data);
            continue;
        }
        // Thoughts are worth handing back only with what proves them.
        if demand_proof && matches!(part, Part::Reasoning { signature: None, .. }) {
            continue;
        }
        let mut entry = list.object();
        match part {
            Part::Text(text) | Part::Refusal(text) => entry.text("text", text),
            Part::Reasoning { text, signature, .. } => {
                entry.text("text", text);
                entry.plain("thought", true);
                entry.maybe_text("thoughtSignature", signature.as_deref());
                continue;
            }
            Part::ToolCall { id, name, arguments } => {
                let mut call = entry.object("functionCall");
                call.text("id", id);
                call.text("name", name);
                call.raw("args", &as_object(arguments));
                drop(call);
                let proof = sealed.take().or(first_call.then_some(NO_PROOF));
                first_call = false;
                entry.maybe_text("thoughtSignature", proof);
            }
            _ => {}
        }
        entry.maybe_text("thoughtSignature", sealed.take());
    }
    write_sealed(list, sealed);
}

/// What is sealed and stands with nothing.
fn write_sealed(list: &mut List<'_>, sealed: Option<&str>) {
    if let Some(data) = sealed {
        let mut entry = list.object();
        entry.text("text", "");
        entry.text("thoughtSignature", data);
    }
}
