//! Recovery shares that were given, until there are enough.

use octant_crypto::share_text::{Label, LabelledShare};

/// How long shares wait for the others: long enough for people to come one after the other, not for ever in memory.
const WAIT_NS: u64 = 600 * 1_000_000_000;

/// Shares of one slot.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    label: Option<Label>,
    shares: Vec<LabelledShare>,
    last_ns: u64,
}

impl Gathered {
    /// Adds a share of the set with this label; shares of another set, and those that waited too long, go.
    pub(crate) fn add(&mut self, label: Label, share: LabelledShare, now_ns: u64) -> u32 {
        if self.label != Some(label) || now_ns.saturating_sub(self.last_ns) > WAIT_NS {
            self.clear();
        }
        (self.label, self.last_ns) = (Some(label), now_ns);
        if !self.shares.iter().any(|known| known.share().x() == share.share().x()) {
            self.shares.push(share);
        }
        self.count(now_ns)
    }

    /// How many there are.
    pub(crate) fn count(&mut self, now_ns: u64) -> u32 {
        if now_ns.saturating_sub(self.last_ns) > WAIT_NS {
            self.clear();
        }
        u32::try_from(self.shares.len()).unwrap_or(u32::MAX)
    }

    /// Takes them all, whatever comes of them.
    pub(crate) fn take(&mut self) -> Vec<LabelledShare> {
        self.label = None;
        std::mem::take(&mut self.shares)
    }

    /// Forgets them.
    pub(crate) fn clear(&mut self) {
        drop(self.take());
    }
}
