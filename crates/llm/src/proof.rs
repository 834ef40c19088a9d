//! Whose proof is it: what a provider signed or sealed means nothing to another, which refuses the whole request for it.
//!
//! Between the dialects every proof begins with the dialect that it came in. A program whose own dialect that is sees it
//! without; any other hands back what it got, and so it is known where it belongs.

use crate::{Block, Delta, Dialect, Event, Part, Request};

/// What every mark begins with.
const MARK: &str = "octant.";

fn mark(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Chat => "octant.chat.",
        Dialect::Responses => "octant.responses.",
        Dialect::Anthropic => "octant.anthropic.",
        Dialect::OllamaChat | Dialect::OllamaGenerate => "octant.ollama.",
        Dialect::Gemini => "octant.gemini.",
        Dialect::Bedrock => "octant.bedrock.",
    }
}

fn marked(dialect: Dialect, proof: &mut String) {
    if !proof.starts_with(MARK) {
        proof.insert_str(0, mark(dialect));
    }
}

fn bare(dialect: Dialect, proof: &mut String) {
    if let Some(bare) = proof.strip_prefix(mark(dialect)) {
        *proof = bare.to_owned();
    }
}

fn each(parts: &mut [Part], change: &impl Fn(&mut String)) {
    for part in parts {
        match part {
            Part::Reasoning { signature: Some(proof), .. } | Part::Sealed { data: proof, .. } => {
                change(proof)
            }
            _ => {}
        }
    }
}

/// Marks the proofs of a request or an answer that was read in this dialect.
pub(crate) fn mark_parts(dialect: Dialect, parts: &mut [Part]) {
    each(parts, &|proof| marked(dialect, proof));
}

/// Takes the marks of this dialect off, for a program that speaks it.
pub(crate) fn bare_parts(dialect: Dialect, parts: &mut [Part]) {
    each(parts, &|proof| bare(dialect, proof));
}

/// What a provider of this dialect can be given back: its own proofs, without their marks. Of foreign reasoning the
/// words stay, and what is sealed goes.
pub(crate) fn own_only(dialect: Dialect, request: &Request) -> Request {
    let mut request = request.clone();
    for message in &mut request.messages {
        bare_parts(dialect, &mut message.parts);
        message.parts.retain(|part| !matches!(part, Part::Sealed { data, .. } if data.starts_with(MARK)));
        for part in &mut message.parts {
            if let Part::Reasoning { signature, .. } = part {
                signature.take_if(|proof| proof.starts_with(MARK));
            }
        }
    }
    request
}

/// Whether there is the begin of a mark in JSON text.
pub(crate) fn stands_in(body: &[u8]) -> bool {
    let begin = b"\"octant.";
    body.windows(begin.len()).any(|window| window == begin)
}

/// Whether a request holds any proof at all.
pub(crate) fn any(request: &Request) -> bool {
    let proof =
        |part: &Part| matches!(part, Part::Reasoning { signature: Some(_), .. } | Part::Sealed { .. });
    request.messages.iter().any(|message| message.parts.iter().any(proof))
}

/// Marks, or takes marks off, where a proof begins in a stream: in a sealed block, or in the first piece of a signature.
#[derive(Debug)]
pub(crate) struct Marker {
    dialect: Dialect,
    /// The block whose signature has begun.
    begun: Option<u32>,
}

impl Marker {
    pub(crate) fn new(dialect: Dialect) -> Self {
        Self { dialect, begun: None }
    }

    /// Marks what a provider said.
    pub(crate) fn mark(&mut self, event: &mut Event) {
        if let Some(proof) = self.proof(event) {
            marked(self.dialect, proof);
        }
    }

    /// Takes marks off what a program gets; the same event where there are none of its own.
    pub(crate) fn bare(&mut self, event: &Event) -> Option<Event> {
        let may = matches!(
            event,
            Event::BlockStarted { block: Block::Sealed { .. }, .. }
                | Event::Delta { delta: Delta::Signature(_), .. }
        );
        let mut event = may.then(|| event.clone())?;
        let proof = self.proof(&mut event)?;
        bare(self.dialect, proof);
        Some(event)
    }

    fn proof<'a>(&mut self, event: &'a mut Event) -> Option<&'a mut String> {
        match event {
            Event::BlockStarted { block: Block::Sealed { data, .. }, .. } => Some(data),
            Event::Delta { index, delta: Delta::Signature(piece) } if self.begun != Some(*index) => {
                self.begun = Some(*index);
                Some(piece)
            }
            _ => None,
        }
    }
}
