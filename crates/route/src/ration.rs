//! How much of an answer may still come.
//!
//! An upstream is told how many tokens its answer may have, and what it used is known at the end. Between, the bytes that come
//! are all there is to go by, and they say only what is certain: nothing that people write or programs print has more than
//! [`BYTES`] bytes for a token on average. An upstream that keeps to what it was told is never cut by this; one that does not is cut
//! where it has certainly used more than was reserved, or at once where it says so itself.

/// The most bytes of an answer for a token, on average over the answer.
pub(crate) const BYTES: u64 = 16;

/// Counts an answer.
#[derive(Debug, Clone)]
pub struct Ration {
    most: u64,
    bytes: u64,
    told: u64,
}

/// An answer has more tokens than were reserved for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the answer has at least {tokens} tokens, and {most} were reserved: it is cut here")]
pub struct Over {
    /// How many there are at least.
    pub tokens: u64,
    /// How many were reserved.
    pub most: u64,
}

impl Ration {
    /// Of an answer that may have so many tokens.
    #[must_use]
    pub fn new(most: u64) -> Self {
        Self { most, bytes: 0, told: 0 }
    }

    /// So many bytes of text, reasoning or arguments came.
    ///
    /// # Errors
    /// That the answer is certainly over.
    pub fn bytes(&mut self, count: usize) -> Result<(), Over> {
        self.bytes = self.bytes.saturating_add(count as u64);
        self.check()
    }

    /// The upstream says that the answer has so many tokens until now.
    ///
    /// # Errors
    /// That it is over.
    pub fn told(&mut self, tokens: u64) -> Result<(), Over> {
        self.told = self.told.max(tokens);
        self.check()
    }

    fn check(&self) -> Result<(), Over> {
        let tokens = self.told.max(self.bytes.div_ceil(BYTES));
        if tokens > self.most { Err(Over { tokens, most: self.most }) } else { Ok(()) }
    }

    /// What an answer that ended without a word of its usage is taken for: all that was reserved, or as many tokens as it has
    /// bytes where that is less.
    #[must_use]
    pub fn owed(&self) -> u64 {
        self.told.max(self.bytes.min(self.most))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_cut_at_the_unit() {
        let mut ration = Ration::new(10);
        assert_eq!(ration.bytes(160), Ok(()));
        assert_eq!(ration.bytes(1), Err(Over { tokens: 11, most: 10 }));
        let mut ration = Ration::new(10);
        assert_eq!(ration.told(10), Ok(()));
        assert_eq!(ration.told(11), Err(Over { tokens: 11, most: 10 }));
        assert_eq!(Ration::new(0).bytes(1), Err(Over { tokens: 1, most: 0 }));
        assert_eq!(Ration::new(u64::MAX).bytes(usize::MAX), Ok(()));
    }

    #[test]
    fn who_does_not_say_what_was_used_owes_no_less_than_that() {
        let mut ration = Ration::new(10);
        assert_eq!(ration.owed(), 0);
        let _ = ration.bytes(7);
        assert_eq!(ration.owed(), 7);
        let _ = ration.bytes(70);
        assert_eq!(ration.owed(), 10);
        let _ = ration.told(12);
        assert_eq!(ration.owed(), 12, "the upstream's own word is the truth");
    }
}
