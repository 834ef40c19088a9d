//! What is used up: shared out, never copied.

use serde::Serialize;

/// The budgets of an allotment, in the order of their parts, by their fields in a manifest.
pub const BUDGETS: [&str; 5] =
    ["spawning.descendants", "models.tokens", "models.spend_usd", "network.bytes", "network.requests"];

/// So much of a budget is a budget without end: what is taken out of it leaves it as it is.
pub const NO_END: u64 = u64::MAX;

/// A share of budgets. Not `Clone`: a share given to a child is taken from its parent.
#[derive(Debug, PartialEq, Eq, Default, Serialize)]
pub struct Allotment {
    /// How many descendants may be spawned.
    pub(crate) descendants: u64,
    /// How many model tokens may be used.
    pub(crate) tokens: u64,
    /// How much may be spent, in millionths of a US dollar.
    pub(crate) spend_microusd: u64,
    /// How many bytes may go through the gate, both ways together.
    pub(crate) bytes: u64,
    /// How many requests may go through it.
    pub(crate) requests: u64,
}

/// More was asked than is left.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{field}: {} asked and {} left; ask for less, or end another agent of the same parent",
    amount(*.asked), amount(*.left)
)]
pub struct Exhausted {
    /// Which budget.
    pub field: &'static str,
    /// How much was asked.
    pub asked: u64,
    /// How much there is.
    pub left: u64,
}

/// An amount, for people.
pub(crate) fn amount(units: u64) -> String {
    if units == NO_END { "no end".to_owned() } else { units.to_string() }
}

impl Allotment {
    /// A first share, as an operator's signed manifest states it, in the order of [`BUDGETS`].
    #[must_use]
    pub fn new(parts: [u64; 5]) -> Self {
        let [descendants, tokens, spend_microusd, bytes, requests] = parts;
        Self { descendants, tokens, spend_microusd, bytes, requests }
    }

    /// The share's parts, in the order of [`BUDGETS`].
    #[must_use]
    pub fn parts(&self) -> [u64; 5] {
        let Self { descendants, tokens, spend_microusd, bytes, requests } = self;
        [*descendants, *tokens, *spend_microusd, *bytes, *requests]
    }

    fn each(&mut self) -> [&mut u64; 5] {
        let Self { descendants, tokens, spend_microusd, bytes, requests } = self;
        [descendants, tokens, spend_microusd, bytes, requests]
    }

    /// Takes a share out of this one; what is taken and what is left add up to what there was.
    ///
    /// # Errors
    /// Names the first budget that does not have as much; nothing is taken then.
    pub fn split(&mut self, ask: [u64; 5]) -> Result<Self, Exhausted> {
        if let Some(exhausted) = self.lacks(ask) {
            return Err(exhausted);
        }
        Ok(self.take(ask))
    }

    /// Takes a share of at most this out of this one, as far as there is as much.
    #[must_use]
    pub fn take(&mut self, most: [u64; 5]) -> Self {
        let mut share = [0; 5];
        for ((left, most), share) in self.each().into_iter().zip(most).zip(&mut share) {
            *share = most.min(*left);
            if *left != NO_END {
                *left -= *share;
            }
        }
        Self::new(share)
    }

    /// The first budget that does not have as much.
    pub(crate) fn lacks(&self, ask: [u64; 5]) -> Option<Exhausted> {
        let mut rows = BUDGETS.into_iter().zip(self.parts()).zip(ask);
        let ((field, left), asked) = rows.find(|((_, left), asked)| asked > left)?;
        Some(Exhausted { field, asked, left })
    }

    /// Uses up one descendant, if there is one.
    pub(crate) fn spend_descendant(&mut self) {
        self.descendants = self.descendants.saturating_sub(1);
    }

    /// Keeps no more than this.
    pub(crate) fn limit(&mut self, most: [u64; 5]) {
        for (left, most) in self.each().into_iter().zip(most) {
            *left = (*left).min(most);
        }
    }

    /// Gives back a share, such as a child's at its end. Saturates rather than wraps: budgets near the end of
    /// the range are bounded elsewhere, and one without end stays so.
    pub fn restore(&mut self, share: Self) {
        for (left, share) in self.each().into_iter().zip(share.parts()) {
            *left = left.saturating_add(share);
        }
    }
}
