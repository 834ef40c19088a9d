//! What a transcript is made of: everything that happened, in order. A loop's state is nothing but these, played again.

use crate::picture::Picture;
use octant_ids::Exit;
use octant_llm::StopReason;
use serde::{Deserialize, Serialize};

/// The shape of entries that this build writes and reads.
pub const VERSION: u32 = 1;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "entry", rename_all = "snake_case")]
pub enum Entry {
    /// A loop began, or went on from here.
    Began {
        /// The shape of what follows.
        version: u32,
        /// The agent that it is the loop of; empty outside of a workstation.
        agent: String,
        /// The model.
        model: String,
    },
    /// An operator said something: the task first.
    Said {
        /// Its number among what was said to this agent, from 1.
        number: u64,
        /// The words.
        text: String,
        /// Whether more may be said once the turn is over.
        more: bool,
    },
    /// The model answered, to the end.
    Answered(Answer),
    /// There was no answer, or not all of it.
    NoAnswer {
        /// Why.
        why: String,
        /// What follows from it.
        then: Then,
    },
    /// A tool is about to be called.
    Calling {
        /// By which call.
        id: String,
    },
    /// It waits for an operator's approval, and was not carried out.
    Waits {
        /// Which call.
        id: String,
        /// The request for approval.
        request: String,
    },
    /// A tool's result.
    Result {
        /// Of which call.
        id: String,
        /// What the model is told.
        text: String,
        /// Whether the tool failed.
        failed: bool,
        /// The picture that the model is shown with it: where it is, and what it was then. It is read again with each question.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        picture: Option<Picture>,
    },
    /// The loop itself told the model something.
    Told {
        /// The words.
        text: String,
    },
    /// Long results and arguments before this message were shortened for the model. The transcript keeps them whole.
    Shortened {
        /// The number of messages.
        upto: usize,
    },
    /// The messages before this one were replaced by a summary. The transcript keeps them.
    Compacted {
        /// The number of messages.
        upto: usize,
        /// The summary.
        summary: String,
        /// What making it used.
        usage: Used,
    },
    /// An operator stopped the turn.
    Stopped,
    /// It is over.
    Ended {
        /// How.
        end: End,
        /// What to say of it.
        why: String,
    },
}

impl Entry {
    /// A result that is no more than words.
    #[must_use]
    pub fn words(id: &str, text: String, failed: bool) -> Self {
        Self::Result { id: id.to_owned(), text, failed, picture: None }
    }
}

/// What follows from an answer that did not come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Then {
    /// It is asked again, a few times.
    Again,
    /// The conversation is too long for the model.
    Less,
    /// It is over.
    End(End),
}

/// An answer of the model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// What it is made of, in order.
    pub pieces: Vec<Piece>,
    /// Why it ended.
    pub stop: Stop,
    /// What it used.
    pub usage: Used,
}

/// A part of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Piece {
    /// Words.
    Text {
        /// The words.
        text: String,
    },
    /// What it thought before.
    Reasoning {
        /// The provider's identifier.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<String>,
        /// The words.
        text: String,
        /// What proves that they are the provider's own.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        signature: Option<String>,
    },
    /// The same, kept by the provider to itself.
    Sealed {
        /// The provider's identifier.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<String>,
        /// What it is.
        data: String,
    },
    /// Why it does not answer.
    Refusal {
        /// The words.
        text: String,
    },
    /// A call of a tool.
    Call(Call),
}

/// A call of a tool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// By which its result is told apart.
    pub id: String,
    /// The tool.
    pub name: String,
    /// Its arguments, as the model wrote them.
    pub arguments: String,
}

/// What was used, in tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Used {
    /// Of prompts.
    pub input: u64,
    /// Of answers.
    pub output: u64,
}

impl Used {
    /// Both together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            input: self.input.saturating_add(other.input),
            output: self.output.saturating_add(other.output),
        }
    }
}

/// Why an answer ended ([`StopReason`], as a transcript writes it).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stop {
    /// It was complete.
    End,
    /// There was no more room.
    Length,
    /// It waits for the results of tools.
    ToolCalls,
    /// It will not answer.
    Refusal,
    /// The provider paused it.
    Paused,
}

impl From<StopReason> for Stop {
    fn from(reason: StopReason) -> Self {
        match reason {
            StopReason::End | StopReason::Sequence => Self::End,
            StopReason::Length => Self::Length,
            StopReason::ToolCalls => Self::ToolCalls,
            StopReason::Refusal | StopReason::Filtered => Self::Refusal,
            StopReason::Paused => Self::Paused,
        }
    }
}

/// How a loop ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// The model says that the task is done.
    Done,
    /// It made as many steps as it may.
    Steps,
    /// It took as long as it may.
    Time,
    /// Its budget is used up.
    Budget,
    /// It did the same again and again.
    Stuck,
    /// The model will not do it.
    Refused,
    /// The model cannot be asked in this way: the request, the model's name or the key is wrong.
    Invalid,
    /// The model did not answer.
    Unavailable,
    /// An operator stopped it.
    Stopped,
}

impl End {
    /// The exit code.
    #[must_use]
    pub fn exit(self) -> Exit {
        match self {
            Self::Done => Exit::Ok,
            Self::Steps | Self::Time => Exit::Deadline,
            Self::Budget => Exit::Denied,
            Self::Stuck | Self::Refused | Self::Stopped => Exit::Failed,
            Self::Invalid => Exit::Invalid,
            Self::Unavailable => Exit::Unavailable,
        }
    }

    /// Its name, as the transcript writes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Steps => "steps",
            Self::Time => "time",
            Self::Budget => "budget",
            Self::Stuck => "stuck",
            Self::Refused => "refused",
            Self::Invalid => "invalid",
            Self::Unavailable => "unavailable",
            Self::Stopped => "stopped",
        }
    }
}
