//! What operators say to an agent: its task, more words, and stops. Pure.

use octant_api::agent::{self, Word};
use octant_api::agents::{Task, WORD_MAX, WORDS_MAX};
use octant_ids::Sha256;
use serde::{Deserialize, Serialize};
use sha2::Digest;

/// Everything that was said to one agent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Words {
    said: Vec<String>,
    more: bool,
    stops: u64,
    /// How much had been said at the last of them.
    stopped_at: u64,
}

/// What stands on record for words.
pub(crate) fn digest(text: &str) -> Sha256 {
    Sha256(sha2::Sha256::digest(text).into())
}

impl Words {
    /// What a spawn says, or why it cannot be said.
    pub(crate) fn of(task: Option<Task>) -> Result<Self, String> {
        let Some(Task { text, more }) = task else { return Ok(Self::default()) };
        let mut words = Self { more, ..Self::default() };
        if let Some(text) = text {
            words.fits(&text)?;
            words.said.push(text);
        } else if !more {
            return Err("there is neither a text nor more to come".to_owned());
        }
        Ok(words)
    }

    /// Why it cannot be said, if so.
    pub(crate) fn fits(&self, text: &str) -> Result<(), String> {
        let before: usize = self.said.iter().map(String::len).sum();
        match text.len() {
            _ if text.trim().is_empty() => Err("it is empty".to_owned()),
            bytes if bytes > WORD_MAX => Err(format!("it has {bytes} bytes, more than {WORD_MAX}")),
            bytes if before + bytes > WORDS_MAX => {
                Err(format!("with it more than {WORDS_MAX} bytes were said to this agent"))
            }
            _ => Ok(()),
        }
    }

    /// Adds what fits, behind a stop where there is one.
    pub(crate) fn say(&mut self, text: Option<String>, stop: bool) {
        if stop {
            (self.stops, self.stopped_at) = (self.stops + 1, self.count());
        }
        self.said.extend(text);
    }

    /// How much was said.
    pub(crate) fn count(&self) -> u64 {
        self.said.len() as u64
    }

    /// The first that was said.
    pub(crate) fn first(&self) -> Option<&str> {
        self.said.first().map(String::as_str)
    }

    /// Whether there is something new to who knows so much.
    pub(crate) fn news(&self, after: u64, stops: Option<u64>) -> bool {
        self.count() > after || stops.is_some_and(|known| known != self.stops)
    }

    /// What was said after a number.
    pub(crate) fn after(&self, after: u64) -> agent::Words {
        let numbered = (1..).zip(&self.said).filter(|(number, _)| *number > after);
        let words = numbered.map(|(number, text)| Word { number, text: text.clone() }).collect();
        agent::Words { words, more: self.more, stops: self.stops, stopped_at: self.stopped_at }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(text: Option<&str>, more: bool) -> Result<Words, String> {
        Words::of(Some(Task { text: text.map(str::to_owned), more }))
    }

    #[test]
    fn what_was_said_comes_by_its_number() {
        let mut words = task(Some("one"), true).unwrap();
        assert!(words.news(0, None) && !words.news(1, Some(0)) && words.news(1, Some(3)));
        words.say(Some("two".into()), false);
        words.say(None, true);
        assert_eq!(words.after(1).words, [Word { number: 2, text: "two".into() }]);
        let heard = words.after(0);
        assert_eq!((heard.words.len(), heard.stops, heard.stopped_at), (2, 1, 2));
        words.say(Some("three".into()), true);
        assert_eq!((words.after(2).words.len(), words.after(2).stopped_at), (1, 2), "the stop came first");
        assert!(words.news(3, Some(0)) && !words.news(3, None));
    }

    #[test]
    fn what_is_empty_or_too_long_is_not_said() {
        assert!(task(None, false).is_err() && task(Some(" \n"), true).is_err());
        assert!(task(None, true).is_ok() && Words::of(None).is_ok());
        assert!(task(Some(&"x".repeat(WORD_MAX + 1)), false).is_err());
        let mut words = Words::default();
        let text = "x".repeat(WORD_MAX);
        (0..WORDS_MAX / WORD_MAX).for_each(|_| {
            words.fits(&text).unwrap();
            words.say(Some(text.clone()), false);
        });
        assert!(words.fits("x").unwrap_err().contains("more than"));
    }
}
