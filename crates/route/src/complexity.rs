//! How hard a request looks, from its form alone: no word of it is understood.
//!
//! | what | points |
//! |---|---|
//! | bytes of all text: above 2,000; 16,000; 100,000 | 1; 2; 3 |
//! | turns: above 8 | 1 |
//! | tools: some; above 8 | 1; 2 |
//! | code: a fenced block | 1 |
//! | pictures | 1 |
//! | an answer that keeps to a schema | 1 |
//! | an answer of more than 8,000 tokens asked for | 1 |
//! | reasoning asked for: little; some or without a word of how much; much | 1; 2; 5 |
//!
//! No point and one are simple, two to four medium, five and more hard.

use crate::ability::images;
use octant_llm::{Effort, Format, Part, Request};
use serde::Deserialize;
use std::fmt;

/// How hard a request looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// A question.
    Simple,
    /// Work.
    #[default]
    Medium,
    /// Hard work.
    Hard,
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Simple => "simple",
            Self::Medium => "medium",
            Self::Hard => "hard",
        })
    }
}

/// How hard a request looks, and by what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complexity {
    /// The class.
    pub class: Class,
    /// What counted, with its points.
    pub points: Vec<(&'static str, u32)>,
}

/// The steps of a measure: the points of the last one that is passed.
fn steps(value: usize, steps: &[(usize, u32)]) -> u32 {
    steps.iter().rev().find(|(above, _)| value > *above).map_or(0, |(_, points)| *points)
}

/// Says how hard a request looks.
#[must_use]
pub fn class(request: &Request) -> Complexity {
    let mut text = Seen::default();
    text.parts(&request.system);
    for message in &request.messages {
        text.parts(&message.parts);
    }
    let thinking = request.reasoning.as_ref().map_or(0, |reasoning| {
        let by_budget = reasoning.budget.map(|budget| match budget {
            0 => 0,
            1..=2048 => 1,
            2049..=8192 => 2,
            _ => 5,
        });
        let by_effort = reasoning.effort.map(|effort| match effort {
            Effort::None => 0,
            Effort::Minimal | Effort::Low => 1,
            Effort::Medium => 2,
            Effort::High | Effort::Highest => 5,
        });
        by_budget.max(by_effort).unwrap_or(2)
    });
    let all = [
        ("bytes", steps(text.bytes, &[(2000, 1), (16_000, 2), (100_000, 3)])),
        ("turns", steps(request.messages.len(), &[(8, 1)])),
        ("tools", steps(request.tools.len(), &[(0, 1), (8, 2)])),
        ("code", u32::from(text.code)),
        ("pictures", steps(images(request), &[(0, 1)])),
        ("schema", u32::from(matches!(request.format, Format::Schema { .. }))),
        ("long answer", u32::from(request.max_output.is_some_and(|most| most > 8000))),
        ("reasoning", thinking),
    ];
    let points: Vec<(&'static str, u32)> = all.into_iter().filter(|(_, points)| *points > 0).collect();
    let class = match points.iter().map(|(_, points)| points).sum::<u32>() {
        0..=1 => Class::Simple,
        2..=4 => Class::Medium,
        _ => Class::Hard,
    };
    Complexity { class, points }
}

#[derive(Debug, Default)]
struct Seen {
    bytes: usize,
    code: bool,
}

impl Seen {
    fn parts(&mut self, parts: &[Part]) {
        for part in parts {
            match part {
                Part::Text(text) | Part::Reasoning { text, .. } | Part::Refusal(text) => self.text(text),
                Part::ToolCall { arguments, .. } => self.text(arguments),
                Part::ToolResult { parts, .. } => {
                    for part in parts {
                        // A result of a tool has text and pictures, never another result.
                        if let Part::Text(text) = part {
                            self.text(text);
                        }
                    }
                }
                Part::CacheMark { .. } | Part::Image(_) | Part::Sealed { .. } => {}
            }
        }
    }

    fn text(&mut self, text: &str) {
        self.bytes = self.bytes.saturating_add(text.len());
        self.code |= text.contains("```");
    }
}
