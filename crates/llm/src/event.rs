//! What comes back: one stream of events, whatever the dialect, and whether or not it was asked for as a stream.

/// One step of an answer.
///
/// An answer is `Started`, then blocks, each begun, filled and stopped under its index (several may be open at a time),
/// with `Usage` whenever it is known, and ends with exactly one of `Finished` and `Failed`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The answer begins.
    Started {
        /// The provider's identifier of the answer; empty where it gives none.
        id: String,
        /// The model that answers, as the provider names it.
        model: String,
    },
    /// A block begins; indices grow from 0 and are never used again.
    BlockStarted {
        /// Which.
        index: u32,
        /// What it is.
        block: Block,
    },
    /// A piece of a block that has begun and has not stopped. Never empty.
    Delta {
        /// Of which.
        index: u32,
        /// The piece.
        delta: Delta,
    },
    /// Nothing more comes of a block.
    BlockStopped {
        /// Which.
        index: u32,
    },
    /// What was used so far; a later one replaces an earlier one.
    Usage(Usage),
    /// The answer is complete.
    Finished {
        /// Why it ended.
        reason: StopReason,
        /// The sequence at which it stopped, where the provider says it.
        sequence: Option<String>,
    },
    /// The answer ends here and is not complete.
    Failed(crate::Failure),
}

/// What a block of an answer is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Block {
    /// Words for the reader.
    Text,
    /// Words that say why it does not answer.
    Refusal,
    /// What the model thought before.
    Reasoning {
        /// The provider's identifier of the block, where it has one (needed to hand it back).
        id: Option<String>,
    },
    /// Reasoning that the provider keeps to itself: handed back unread.
    Sealed {
        /// The provider's identifier of the block, where it has one.
        id: Option<String>,
        /// What it is, as the provider wrote it.
        data: String,
    },
    /// What no other dialect has, as a tool of the provider's own: it passes where bytes pass, and is refused by name
    /// where it would have to be translated. Nothing of what it holds is told.
    Foreign {
        /// What the provider calls it.
        sort: String,
    },
    /// A call of a tool; its arguments come as pieces of JSON text.
    ToolCall {
        /// By which the result is told apart from those of other calls; made up where the provider gives none.
        id: String,
        /// Which tool.
        name: String,
    },
}

/// A piece of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delta {
    /// Of words.
    Text(String),
    /// Of a refusal.
    Refusal(String),
    /// Of reasoning.
    Reasoning(String),
    /// Of what proves that the reasoning is the provider's own.
    Signature(String),
    /// Of a call's arguments: JSON text, cut anywhere.
    Arguments(String),
}

impl Block {
    /// What is said where a foreign block would have to be translated.
    pub(crate) fn refused(sort: &str) -> crate::Failure {
        let what = format!("the answer has a block of type {sort:?}, which no other dialect has");
        crate::Failure::new(crate::Kind::Untranslatable, what)
    }
}

impl Delta {
    /// The piece itself.
    #[must_use]
    pub fn text(&self) -> &str {
        let (Self::Text(text)
        | Self::Refusal(text)
        | Self::Reasoning(text)
        | Self::Signature(text)
        | Self::Arguments(text)) = self;
        text
    }
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// The model had nothing more to say.
    End,
    /// It has no more room: `max_output` or the window.
    Length,
    /// It came to a sequence at which it was to stop.
    Sequence,
    /// It waits for the results of tools.
    ToolCalls,
    /// It will not answer.
    Refusal,
    /// What it said was kept back by the provider's filter.
    Filtered,
    /// The provider paused a long turn, which goes on when the answer is handed back.
    Paused,
}

/// What an answer used, in tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Of the prompt, all of it: also what was read from and written to the provider's cache.
    pub input: u64,
    /// Of those, read from the provider's cache.
    pub cache_read: u64,
    /// Of those, written to the provider's cache.
    pub cache_write: u64,
    /// Of the answer, all of it: also reasoning.
    pub output: u64,
    /// Of those, reasoning.
    pub reasoning: u64,
}
