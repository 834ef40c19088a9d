//! Takes a key out of what an upstream says: one that sends it back, in an error or elsewhere, tells it to nobody.

use zeroize::Zeroizing;

/// What stands in a key's place.
const IN_PLACE: &[u8] = b"[key]";
/// The shortest key that is looked for: what is shorter stands everywhere by chance.
const LEAST: usize = 8;

/// Looks through bytes as they come.
pub(crate) struct Scrub {
    key: Zeroizing<Vec<u8>>,
    /// The end of what came, which may be the beginning of the key.
    held: Vec<u8>,
    pub(crate) found: u64,
}

impl std::fmt::Debug for Scrub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scrub").field("found", &self.found).finish_non_exhaustive()
    }
}

impl Scrub {
    pub(crate) fn new(key: &[u8]) -> Self {
        let key = if key.len() < LEAST { &[] } else { key };
        Self { key: Zeroizing::new(key.to_vec()), held: Vec::new(), found: 0 }
    }

    /// What can be passed on now that this came.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        if self.key.is_empty() {
            return bytes.to_vec();
        }
        let mut all = std::mem::take(&mut self.held);
        all.extend_from_slice(bytes);
        let mut out = Vec::with_capacity(all.len());
        let mut rest = all.as_slice();
        while let Some(at) = memchr::memmem::find(rest, &self.key) {
            out.extend_from_slice(&rest[..at]);
            out.extend_from_slice(IN_PLACE);
            self.found += 1;
            rest = &rest[at + self.key.len()..];
        }
        let longest = (self.key.len() - 1).min(rest.len());
        let held = (1..=longest).rev().find(|count| self.key.starts_with(&rest[rest.len() - count..]));
        let (now, later) = rest.split_at(rest.len() - held.unwrap_or(0));
        out.extend_from_slice(now);
        self.held = later.to_vec();
        out
    }

    /// What is left at the end.
    pub(crate) fn end(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.held)
    }

    /// A whole text.
    pub(crate) fn whole(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut out = self.push(bytes);
        out.extend(self.end());
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_key_comes_through_in_no_pieces(before in "[ska-]{0,12}", after in "[ska-]{0,12}", cuts in prop::collection::vec(0_usize..40, 0..8)) {
            let key = b"sk-ask-sk-a";
            let text = [before.as_bytes(), key, after.as_bytes(), key].concat();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let mut scrub = Scrub::new(key);
            let mut out = Vec::new();
            for pair in cuts.windows(2) {
                out.extend(scrub.push(&text[pair[0]..pair[1]]));
            }
            out.extend(scrub.end());
            prop_assert!(memchr::memmem::find(&out, key).is_none());
            prop_assert_eq!(&out, &Scrub::new(key).whole(&text));
        }
    }

    #[test]
    fn without_a_key_everything_goes_at_once() {
        let mut scrub = Scrub::new(b"");
        assert_eq!((scrub.push(b"abc"), scrub.end()), (b"abc".to_vec(), Vec::new()));
        let mut scrub = Scrub::new(b"secret-key");
        assert_eq!(scrub.push(b"data: {}\n\n"), b"data: {}\n\n", "nothing is held that cannot be the key");
    }
}
