//! An answer as a whole: what is read and written where nobody asked for a stream.

use crate::{Block, Delta, Event, Failure, Kind, Message, Part, Role, StopReason, Usage, stream::Stream};

/// The most bytes of an answer that is put together from a stream.
pub(crate) const ANSWER_BYTES: usize = 64 << 20;

/// A complete answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The provider's identifier of the answer; empty where it gives none.
    pub id: String,
    /// The model that answered.
    pub model: String,
    /// What it said, in order: text, refusals, reasoning and calls.
    pub parts: Vec<Part>,
    /// What it used.
    pub usage: Usage,
    /// Why it ended.
    pub reason: StopReason,
    /// The sequence at which it stopped.
    pub sequence: Option<String>,
}

impl Answer {
    /// Puts an answer together.
    ///
    /// # Errors
    /// The failure with which the events end; [`Kind::Cut`] where they end with nothing; [`Kind::Malformed`] where they
    /// are too many bytes or speak of blocks that never began; [`Kind::Untranslatable`] for a foreign block.
    pub fn collect(events: &[Event]) -> Result<Self, Failure> {
        let mut draft = Draft::default();
        for event in events {
            draft.event(event)?;
        }
        draft.end()
    }

    /// What was said, as a turn to hand back.
    #[must_use]
    pub fn message(&self) -> Message {
        Message { role: Role::Assistant, parts: self.parts.clone() }
    }

    /// The same as events.
    #[must_use]
    pub fn events(self) -> Vec<Event> {
        self.events_and(None)
    }

    /// The same, with something foreign in it.
    pub(crate) fn events_and(self, foreign: Option<String>) -> Vec<Event> {
        let mut stream = Stream::default();
        stream.start(self.id, self.model);
        for part in self.parts {
            let (block, deltas) = match part {
                Part::Text(text) => (Block::Text, vec![Delta::Text(text)]),
                Part::Refusal(text) => (Block::Refusal, vec![Delta::Refusal(text)]),
                Part::Reasoning { id, text, signature } => {
                    let proof = signature.map(Delta::Signature);
                    (
                        Block::Reasoning { id },
                        [Some(Delta::Reasoning(text)), proof].into_iter().flatten().collect(),
                    )
                }
                Part::Sealed { id, data } => (Block::Sealed { id, data }, Vec::new()),
                Part::ToolCall { id, name, arguments } => {
                    (Block::ToolCall { id, name }, vec![Delta::Arguments(arguments)])
                }
                // Nothing that a model says.
                Part::CacheMark { .. } | Part::Image(_) | Part::ToolResult { .. } => continue,
            };
            let index = stream.open(block);
            deltas.into_iter().for_each(|delta| stream.delta(index, delta));
            stream.stop(index);
        }
        if let Some(sort) = foreign {
            stream.whole(Block::Foreign { sort }, None);
        }
        stream.usage(self.usage);
        stream.finish(self.reason, self.sequence);
        stream.take()
    }
}

/// An answer of which more is to come: bounded, and complete only with its terminal event.
#[derive(Debug, Default)]
pub struct Draft {
    id: String,
    model: String,
    parts: Vec<Part>,
    usage: Usage,
    end: Option<(StopReason, Option<String>)>,
    bytes: usize,
}

impl Draft {
    /// One more event.
    ///
    /// # Errors
    /// As [`Answer::collect`].
    pub fn event(&mut self, event: &Event) -> Result<(), Failure> {
        match event {
            Event::Started { id, model } => (self.id, self.model) = (id.clone(), model.clone()),
            Event::BlockStarted { block, .. } => self.parts.push(begun(block)?),
            Event::Delta { index, delta } => self.delta(*index, delta)?,
            Event::BlockStopped { .. } => {}
            Event::Usage(usage) => self.usage = *usage,
            Event::Finished { reason, sequence } => self.end = Some((*reason, sequence.clone())),
            Event::Failed(failure) => return Err(failure.clone()),
        }
        Ok(())
    }

    /// What has been said so far, complete or not.
    #[must_use]
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// The block of this index, as far as it has come.
    pub(crate) fn part(&self, index: u32) -> Option<&Part> {
        self.parts.get(usize::try_from(index).ok()?)
    }

    /// What was used so far.
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.usage
    }

    fn delta(&mut self, index: u32, delta: &Delta) -> Result<(), Failure> {
        let place = usize::try_from(index).ok().and_then(|index| self.parts.get_mut(index));
        let piece = match (place, delta) {
            (Some(Part::Text(text)), Delta::Text(piece))
            | (Some(Part::Refusal(text)), Delta::Refusal(piece))
            | (Some(Part::Reasoning { text, .. }), Delta::Reasoning(piece))
            | (Some(Part::ToolCall { arguments: text, .. }), Delta::Arguments(piece)) => {
                text.push_str(piece);
                piece
            }
            (Some(Part::Reasoning { signature, .. }), Delta::Signature(piece)) => {
                signature.get_or_insert_default().push_str(piece);
                piece
            }
            _ => return Err(Failure::new(Kind::Malformed, "a piece of a block that never began")),
        };
        self.bytes += piece.len();
        if self.bytes > ANSWER_BYTES {
            let what = format!("an answer of more than {ANSWER_BYTES} bytes");
            return Err(Failure::new(Kind::Malformed, what));
        }
        Ok(())
    }

    /// The whole answer.
    ///
    /// # Errors
    /// [`Kind::Cut`] when it has no terminal event.
    pub fn end(self) -> Result<Answer, Failure> {
        let Some((reason, sequence)) = self.end else { return Err(cut()) };
        let Self { id, model, parts, usage, .. } = self;
        Ok(Answer { id, model, parts, usage, reason, sequence })
    }
}

/// What a stream without its terminal event ends with.
pub(crate) fn cut() -> Failure {
    Failure::new(
        Kind::Cut,
        "the upstream ended its answer before the terminal event; what came of it is not complete: ask again",
    )
}

fn begun(block: &Block) -> Result<Part, Failure> {
    Ok(match block {
        Block::Text => Part::Text(String::new()),
        Block::Refusal => Part::Refusal(String::new()),
        Block::Reasoning { id } => Part::Reasoning { id: id.clone(), text: String::new(), signature: None },
        Block::Sealed { id, data } => Part::Sealed { id: id.clone(), data: data.clone() },
        Block::ToolCall { id, name } => {
            Part::ToolCall { id: id.clone(), name: name.clone(), arguments: String::new() }
        }
        Block::Foreign { sort } => return Err(Block::refused(sort)),
    })
}
