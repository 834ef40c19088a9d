//! What was denied, each thing once and then as a count.

use std::collections::BTreeMap;

/// How many different denials of one agent are told apart.
const KINDS_MAX: usize = 256;

/// What one agent was denied: each thing is recorded when it happens first, and then as a count, so that a program that
/// tries for ever fills neither the ledger nor the way to it.
#[derive(Debug, Default)]
pub struct Denials {
    seen: BTreeMap<String, u64>,
}

impl Denials {
    /// Counts one, and says whether it is to be recorded now.
    #[must_use]
    pub fn add(&mut self, what: String) -> bool {
        if let Some(count) = self.seen.get_mut(&what) {
            *count += 1;
            return false;
        }
        let new = self.seen.len() < KINDS_MAX;
        let key = if new { what } else { "anything else".to_owned() };
        let count = self.seen.entry(key).or_default();
        *count += u64::from(!new);
        new
    }

    /// What was denied again since the last time, and how often.
    pub fn again(&mut self) -> BTreeMap<String, u64> {
        let again =
            self.seen.iter().filter(|(_, count)| **count > 0).map(|(what, count)| (what.clone(), *count));
        let again = again.collect();
        self.seen.values_mut().for_each(|count| *count = 0);
        again
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_denied_again_is_counted() {
        let mut denials = Denials::default();
        assert!(denials.add("a:1".into()) && !denials.add("a:1".into()) && !denials.add("a:1".into()));
        assert!(denials.add("b:1".into()));
        assert_eq!(denials.again(), BTreeMap::from([("a:1".to_owned(), 2)]));
        assert!(denials.again().is_empty() && !denials.add("a:1".into()));
        for n in 0..10 * KINDS_MAX {
            let _counted = denials.add(format!("c:{n}"));
        }
        assert!(denials.seen.len() <= KINDS_MAX + 1);
        let all: u64 = denials.again().values().sum();
        assert_eq!(all, 1 + (10 * KINDS_MAX - (KINDS_MAX - 2)) as u64);
    }
}
