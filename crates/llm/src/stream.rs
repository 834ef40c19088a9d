//! What every reader of a stream writes into: events of which none can come in a wrong place.

use crate::{Block, Delta, Event, Failure, Kind, StopReason, Usage};

/// Blocks of one answer.
const BLOCKS: u32 = 16_384;

/// Events on their way out.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    events: Vec<Event>,
    open: Vec<u32>,
    /// Of those, the calls of which no arguments have come.
    unfilled: Vec<u32>,
    next: u32,
    started: bool,
    ended: bool,
}

impl Stream {
    pub(crate) fn take(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// Whether there was a terminal event; nothing comes after it.
    pub(crate) fn ended(&self) -> bool {
        self.ended
    }

    pub(crate) fn has_started(&self) -> bool {
        self.started
    }

    /// The answer begins, if it has not.
    pub(crate) fn start(&mut self, id: String, model: String) {
        if !self.ended && !std::mem::replace(&mut self.started, true) {
            self.events.push(Event::Started { id, model });
        }
    }

    /// A block begins; its index.
    pub(crate) fn open(&mut self, block: Block) -> u32 {
        self.start(String::new(), String::new());
        let index = self.next;
        if index == BLOCKS {
            self.fail(Failure::new(Kind::Malformed, format!("an answer with more than {BLOCKS} blocks")));
        }
        if !self.ended {
            self.next += 1;
            self.open.push(index);
            if matches!(block, Block::ToolCall { .. }) {
                self.unfilled.push(index);
            }
            self.events.push(Event::BlockStarted { index, block });
        }
        index
    }

    pub(crate) fn delta(&mut self, index: u32, delta: Delta) {
        if !self.ended && !delta.text().is_empty() && self.open.contains(&index) {
            self.unfilled.retain(|&call| call != index);
            self.events.push(Event::Delta { index, delta });
        }
    }

    pub(crate) fn stop(&mut self, index: u32) {
        // Some say nothing where a tool takes nothing, and others cannot read nothing.
        if self.unfilled.contains(&index) {
            self.delta(index, Delta::Arguments("{}".to_owned()));
        }
        if let Some(place) = self.open.iter().position(|&open| open == index)
            && !self.ended
        {
            self.open.remove(place);
            self.events.push(Event::BlockStopped { index });
        }
    }

    /// A block that is complete.
    pub(crate) fn whole(&mut self, block: Block, delta: Option<Delta>) -> u32 {
        let index = self.open(block);
        if let Some(delta) = delta {
            self.delta(index, delta);
        }
        self.stop(index);
        index
    }

    pub(crate) fn usage(&mut self, usage: Usage) {
        self.start(String::new(), String::new());
        if !self.ended {
            self.events.push(Event::Usage(usage));
        }
    }

    pub(crate) fn finish(&mut self, reason: StopReason, sequence: Option<String>) {
        self.start(String::new(), String::new());
        while let Some(&index) = self.open.first() {
            self.stop(index);
        }
        if !std::mem::replace(&mut self.ended, true) {
            self.events.push(Event::Finished { reason, sequence });
        }
    }

    pub(crate) fn fail(&mut self, failure: Failure) {
        if !std::mem::replace(&mut self.ended, true) {
            self.events.push(Event::Failed(failure));
        }
    }
}
