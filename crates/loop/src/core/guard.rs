//! Against a model that does the same again and again.

use crate::entry::Call;
use crate::text::digest;
use octant_ids::Sha256;
use std::collections::VecDeque;

/// How many calls back it looks.
const BACK: usize = 24;
/// From how many times on the model is told.
const WARN: usize = 3;

/// The calls made last, each with its result.
#[derive(Debug, Clone, Default)]
pub(super) struct Guard {
    last: VecDeque<Sha256>,
}

impl Guard {
    /// Takes a call with its result, and says how often it saw the same lately.
    pub(super) fn saw(&mut self, call: &Call, result: &str) -> usize {
        let both = digest(&format!("{}\0{}\0{result}", call.name, call.arguments));
        self.last.push_back(both);
        if self.last.len() > BACK {
            self.last.pop_front();
        }
        self.times(both)
    }

    fn times(&self, both: Sha256) -> usize {
        self.last.iter().filter(|seen| **seen == both).count()
    }

    /// How often what came last came lately.
    pub(super) fn most(&self) -> usize {
        self.last.back().map_or(0, |both| self.times(*both))
    }
}

/// The result as the model is told it.
pub(super) fn with_warning(text: &str, times: usize) -> String {
    if times < WARN {
        return text.to_owned();
    }
    format!(
        "{text}\n[the same call had this same result {times} times; do something else, or end with what you have]"
    )
}
