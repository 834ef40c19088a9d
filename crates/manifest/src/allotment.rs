//! What is used up: shared out, never copied.

use serde::Serialize;

/// A share of budgets. Not `Clone`: a share given to a child is taken from its parent.
#[derive(Debug, PartialEq, Eq, Default, Serialize)]
pub struct Allotment {
    /// How many descendants may be spawned.
    pub(crate) descendants: u64,
    /// How many model tokens may be used.
    pub(crate) tokens: u64,
    /// How much may be spent, in millionths of a US dollar.
    pub(crate) spend_microusd: u64,
}

/// More was asked than is left.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {asked} asked and {left} left; ask for less, or end another agent of the same parent")]
pub struct Exhausted {
    /// Which budget.
    pub field: &'static str,
    /// How much was asked.
    pub asked: u64,
    /// How much there is.
    pub left: u64,
}

impl Allotment {
    /// A first share, as an operator's signed manifest states it.
    #[must_use]
    pub fn new(descendants: u64, tokens: u64, spend_microusd: u64) -> Self {
        Self { descendants, tokens, spend_microusd }
    }

    /// The share's parts: descendants, tokens, millionths of a US dollar.
    #[must_use]
    pub fn parts(&self) -> [u64; 3] {
        let Self { descendants, tokens, spend_microusd } = self;
        [*descendants, *tokens, *spend_microusd]
    }

    /// Takes a share out of this one; what is taken and what is left add up to what there was.
    ///
    /// # Errors
    /// Names the first budget that does not have as much; nothing is taken then.
    pub fn split(&mut self, ask: [u64; 3]) -> Result<Self, Exhausted> {
        if let Some(exhausted) = self.lacks(ask) {
            return Err(exhausted);
        }
        let Self { descendants, tokens, spend_microusd } = self;
        for (left, asked) in [descendants, tokens, spend_microusd].into_iter().zip(ask) {
            *left -= asked;
        }
        Ok(Self::new(ask[0], ask[1], ask[2]))
    }

    /// The first budget that does not have as much.
    pub(crate) fn lacks(&self, ask: [u64; 3]) -> Option<Exhausted> {
        let fields = ["spawning.descendants", "models.tokens", "models.spend_usd"];
        let mut rows = fields.into_iter().zip(self.parts()).zip(ask);
        let ((field, left), asked) = rows.find(|((_, left), asked)| asked > left)?;
        Some(Exhausted { field, asked, left })
    }

    /// Uses up one descendant, if there is one.
    pub(crate) fn spend_descendant(&mut self) {
        self.descendants = self.descendants.saturating_sub(1);
    }

    /// Keeps no more than this.
    pub(crate) fn limit(&mut self, most: [u64; 3]) {
        let Self { descendants, tokens, spend_microusd } = self;
        for (left, most) in [descendants, tokens, spend_microusd].into_iter().zip(most) {
            *left = (*left).min(most);
        }
    }

    /// Gives back a share, such as a child's at its end. Saturates rather than wraps: budgets near the end of
    /// the range are bounded elsewhere.
    pub fn restore(&mut self, share: Self) {
        let Self { descendants, tokens, spend_microusd } = share;
        self.descendants = self.descendants.saturating_add(descendants);
        self.tokens = self.tokens.saturating_add(tokens);
        self.spend_microusd = self.spend_microusd.saturating_add(spend_microusd);
    }
}
