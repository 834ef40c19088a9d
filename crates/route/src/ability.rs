//! What a model can do, and what a request needs of it.

use octant_llm::{Effort, Format, Message, Part, Request};
use serde::Deserialize;
use std::fmt;

/// Something that a model can do and another cannot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ability {
    /// Answer a conversation.
    Answers,
    /// Make vectors of texts.
    Embeddings,
    /// Call tools.
    Tools,
    /// Call several at a time.
    ParallelTools,
    /// See pictures.
    Vision,
    /// Keep to JSON, or to a schema of it.
    Structured,
    /// Think before it answers.
    Reasoning,
    /// Answer in pieces.
    Streaming,
}

impl Ability {
    /// All of them, in the order of the documents.
    pub const ALL: [Self; 8] = [
        Self::Answers,
        Self::Embeddings,
        Self::Tools,
        Self::ParallelTools,
        Self::Vision,
        Self::Structured,
        Self::Reasoning,
        Self::Streaming,
    ];

    /// As the data files write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Answers => "answers",
            Self::Embeddings => "embeddings",
            Self::Tools => "tools",
            Self::ParallelTools => "parallel_tools",
            Self::Vision => "vision",
            Self::Structured => "structured",
            Self::Reasoning => "reasoning",
            Self::Streaming => "streaming",
        }
    }
}

/// A set of abilities. Shown as names with commas between.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "Vec<Ability>")]
pub struct Abilities(u16);

impl Abilities {
    /// The set with this one too.
    #[must_use]
    pub fn with(self, ability: Ability) -> Self {
        Self(self.0 | 1 << ability as u16)
    }

    /// The set with this one too, where `wanted`.
    #[must_use]
    pub fn with_if(self, ability: Ability, wanted: bool) -> Self {
        if wanted { self.with(ability) } else { self }
    }

    /// Whether this one is in it.
    #[must_use]
    pub fn has(self, ability: Ability) -> bool {
        self.0 & 1 << ability as u16 != 0
    }

    /// Those that the other has not.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// What a request needs of the model that answers it.
    #[must_use]
    pub fn needed(request: &Request) -> Self {
        let thinks = request.reasoning.as_ref().is_some_and(|reasoning| {
            reasoning.effort.is_some_and(|effort| effort > Effort::None)
                || reasoning.budget.is_some_and(|n| n > 0)
        });
        Self::from(vec![Ability::Answers])
            .with_if(Ability::Tools, !request.tools.is_empty())
            .with_if(
                Ability::ParallelTools,
                !request.tools.is_empty() && request.parallel_tools == Some(true),
            )
            .with_if(Ability::Vision, images(request) > 0)
            .with_if(Ability::Structured, request.format != Format::Text)
            .with_if(Ability::Reasoning, thinks)
            .with_if(Ability::Streaming, request.stream)
    }
}

impl From<Vec<Ability>> for Abilities {
    fn from(list: Vec<Ability>) -> Self {
        list.into_iter().fold(Self::default(), Self::with)
    }
}

impl fmt::Display for Abilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut between = "";
        for ability in Ability::ALL.into_iter().filter(|ability| self.has(*ability)) {
            write!(f, "{between}{}", ability.name())?;
            between = ", ";
        }
        Ok(())
    }
}

/// How many pictures a request has, those in results of tools too.
pub(crate) fn images(request: &Request) -> usize {
    fn count(parts: &[Part]) -> usize {
        parts.iter().fold(0, |sum, part| match part {
            Part::Image(_) => sum + 1,
            // A result of a tool has text and pictures, never another result.
            Part::ToolResult { parts, .. } => {
                sum + parts.iter().filter(|p| matches!(p, Part::Image(_))).count()
            }
            _ => sum,
        })
    }
    request.messages.iter().map(|message: &Message| count(&message.parts)).sum::<usize>()
        + count(&request.system)
}
