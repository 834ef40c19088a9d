//! How long a wrong passphrase makes everybody wait: by the account and by the terminal, over restarts. A wrong answer of a
//! key counts for the terminal alone, and waits for it alone: nobody guesses a signature, and whoever guesses passphrases at
//! one terminal does not keep the owner of a key out at another.
//!
//! Names that are not there count like those that are, or the wait would tell them apart. They are kept as digests: what
//! is typed at the wrong question is often a passphrase.

use octant_ids::Sha256;
use serde::{Deserialize, Serialize};
use sha2::Digest;
use std::collections::BTreeMap;

/// So many failures cost nothing: people mistype.
const FREE: u32 = 3;
/// The first wait, which doubles with each failure.
const FIRST_MS: u64 = 1_000;
/// The longest wait. Long enough that 50,000 guesses take a year; short enough that whoever hammers on a console keeps
/// its owner out for minutes only.
const LONGEST_MS: u64 = 10 * 60 * 1_000;
/// After so long without a failure the count begins anew.
const FORGET_MS: u64 = 24 * 60 * 60 * 1_000;
/// So many keys are kept; the one that failed the longest ago goes first.
const KEYS_MAX: usize = 512;

/// The failures of one account or terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Failures {
    count: u32,
    /// The last one, wall clock.
    last_ms: u64,
}

/// All that count.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Attempts {
    by_key: BTreeMap<String, Failures>,
}

fn account_key(name: &str) -> String {
    let digest = Sha256(
        sha2::Sha256::new().chain_update(b"octant console name\0").chain_update(name).finalize().into(),
    );
    format!("account {}", &digest.to_string()[..32])
}

fn terminal_key(terminal: &str) -> String {
    format!("terminal {terminal}")
}

/// What counts: without a name the terminal alone.
fn keys(name: Option<&str>, terminal: &str) -> impl Iterator<Item = String> {
    name.map(account_key).into_iter().chain([terminal_key(terminal)])
}

impl Attempts {
    /// Brings what lies in the future, as a clock that was ahead leaves it, to now: else nobody could wait it out. Whether
    /// there was any.
    pub(crate) fn heed(&mut self, now_ms: u64) -> bool {
        let ahead = self.by_key.values_mut().filter(|failures| failures.last_ms > now_ms);
        ahead.map(|failures| failures.last_ms = now_ms).count() > 0
    }

    /// How long to wait before a passphrase for this account, or without a name the answer of a key, is heard at this
    /// terminal.
    pub(crate) fn wait_ms(&self, name: Option<&str>, terminal: &str, now_ms: u64) -> u64 {
        keys(name, terminal)
            .map(|key| self.by_key.get(&key).map_or(0, |failures| failures.wait_ms(now_ms)))
            .fold(0, u64::max)
    }

    /// A wrong one.
    pub(crate) fn failed(&mut self, name: Option<&str>, terminal: &str, now_ms: u64) {
        for key in keys(name, terminal) {
            let failures = self.by_key.entry(key).or_insert(Failures { count: 0, last_ms: now_ms });
            if now_ms.saturating_sub(failures.last_ms) > FORGET_MS {
                failures.count = 0;
            }
            *failures = Failures { count: failures.count.saturating_add(1), last_ms: now_ms };
        }
        while self.by_key.len() > KEYS_MAX {
            let oldest =
                self.by_key.iter().min_by_key(|(_, failures)| failures.last_ms).map(|(key, _)| key.clone());
            oldest.map(|key| self.by_key.remove(&key));
        }
    }

    /// The right one.
    pub(crate) fn succeeded(&mut self, name: &str, terminal: &str) {
        self.by_key.remove(&account_key(name));
        self.by_key.remove(&terminal_key(terminal));
    }
}

impl Failures {
    fn wait_ms(self, now_ms: u64) -> u64 {
        let Some(doublings) = self.count.checked_sub(FREE) else { return 0 };
        let whole = FIRST_MS.checked_shl(doublings.min(40)).unwrap_or(LONGEST_MS).min(LONGEST_MS);
        match now_ms.checked_sub(self.last_ms) {
            Some(passed) => whole.saturating_sub(passed),
            // The clock was set back: nobody waits longer than the whole, and nobody less.
            None => whole,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_doubles_the_wait_up_to_a_limit() {
        let mut attempts = Attempts::default();
        let mut waits = Vec::new();
        for _ in 0..16 {
            attempts.failed(Some("alice"), "ttyS0", 1_000);
            waits.push(attempts.wait_ms(Some("alice"), "ttyS0", 1_000) / 1_000);
        }
        assert_eq!(waits, [0, 0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600, 600, 600]);
        assert_eq!(attempts.wait_ms(Some("alice"), "ttyS0", 501_000), 100_000);
        assert_eq!(attempts.wait_ms(Some("alice"), "ttyS0", 0), 600_000, "a clock that was set back");
        for _ in 0..100 {
            attempts.failed(Some("alice"), "ttyS0", 1_000);
        }
        assert_eq!(attempts.wait_ms(Some("alice"), "ttyS0", 1_000), 600_000);
    }

    #[test]
    fn a_clock_that_was_ahead_is_waited_out_like_any_other() {
        let mut attempts = Attempts::default();
        for _ in 0..5 {
            attempts.failed(Some("alice"), "ttyS0", 1_000_000_000);
        }
        assert!(attempts.heed(1_000));
        assert!(!attempts.heed(1_000));
        let waits = [1_000, 3_000, 5_000].map(|now| attempts.wait_ms(Some("alice"), "ttyS0", now));
        assert_eq!(waits, [4_000, 2_000, 0]);
    }

    #[test]
    fn another_terminal_and_another_account_wait_too() {
        let mut attempts = Attempts::default();
        for _ in 0..5 {
            attempts.failed(Some("alice"), "ttyS0", 0);
        }
        let waits = [("alice", "tty1"), ("bob", "ttyS0"), ("bob", "tty1")]
            .map(|(n, t)| attempts.wait_ms(Some(n), t, 0));
        assert_eq!(waits, [4_000, 4_000, 0]);
        attempts.succeeded("alice", "ttyS0");
        assert_eq!(attempts, Attempts::default());
    }

    #[test]
    fn who_guesses_passphrases_at_one_terminal_keeps_no_key_out_at_another() {
        let mut attempts = Attempts::default();
        for _ in 0..20 {
            attempts.failed(Some("alice"), "tty1", 0);
        }
        assert_eq!(attempts.wait_ms(Some("alice"), "ttyS0", 0), LONGEST_MS);
        assert_eq!((attempts.wait_ms(None, "ttyS0", 0), attempts.wait_ms(None, "tty1", 0)), (0, LONGEST_MS));
        // Nor do wrong answers of a key keep anybody's passphrase out elsewhere.
        for _ in 0..20 {
            attempts.failed(None, "tty2", 0);
        }
        assert_eq!(
            (attempts.wait_ms(Some("bob"), "ttyS0", 0), attempts.wait_ms(None, "tty2", 0)),
            (0, LONGEST_MS)
        );
    }

    #[test]
    fn a_day_later_the_count_begins_anew_and_it_never_grows_without_end() {
        let mut attempts = Attempts::default();
        for _ in 0..9 {
            attempts.failed(Some("alice"), "ttyS0", 0);
        }
        attempts.failed(Some("alice"), "ttyS0", FORGET_MS + 1);
        assert_eq!(attempts.wait_ms(Some("alice"), "ttyS0", FORGET_MS + 1), 0);
        for n in 0..2_000 {
            attempts.failed(Some(&format!("name {n}")), "ttyS0", FORGET_MS + n);
        }
        assert!(attempts.by_key.len() <= KEYS_MAX);
        assert_eq!(
            attempts.wait_ms(Some("anybody"), "ttyS0", FORGET_MS + 2_000),
            LONGEST_MS - 1,
            "the terminal is never forgotten"
        );
        let text = serde_json::to_string(&attempts).unwrap();
        assert!(!text.contains("name 1999"), "what was typed is not kept");
        assert_eq!(serde_json::from_str::<Attempts>(&text).unwrap(), attempts);
    }
}
