//! What is measured of a deployment: how fast it is, and how often it ends well.

/// For how long what was measured is worth something. Who was slow or failed is tried again after that.
const FRESH_MS: u64 = 300_000;
/// After how long a call counts half.
const HALF_LIFE_MS: u64 = 300_000;
/// A call, in the counts.
const ONE: u64 = 1 << 16;

/// How fast: moving averages, each new measure an eighth.
#[derive(Debug, Clone, Default)]
pub(crate) struct Latency {
    first_us: Option<u64>,
    token_us: Option<u64>,
    at_ms: u64,
}

fn blend(old: Option<u64>, new: u64) -> Option<u64> {
    Some(old.map_or(new, |old| old - old / 8 + new / 8))
}

impl Latency {
    /// The first byte came.
    pub(crate) fn first(&mut self, us: u64, now_ms: u64) {
        self.fresh(now_ms);
        self.first_us = blend(self.first_us, us);
    }

    /// So many tokens came in so long, after the first byte.
    pub(crate) fn tokens(&mut self, us: u64, tokens: u64, now_ms: u64) {
        if let Some(each) = us.checked_div(tokens) {
            self.fresh(now_ms);
            self.token_us = blend(self.token_us, each);
        }
    }

    fn fresh(&mut self, now_ms: u64) {
        if now_ms.saturating_sub(self.at_ms) > FRESH_MS {
            *self = Self::default();
        }
        self.at_ms = now_ms;
    }

    /// How long an answer will take; 0 for who has not been measured lately, so that it is.
    pub(crate) fn expected_us(&self, output: u64, now_ms: u64) -> u64 {
        if now_ms.saturating_sub(self.at_ms) > FRESH_MS {
            return 0;
        }
        let tokens = self.token_us.unwrap_or(0).saturating_mul(output);
        self.first_us.unwrap_or(0).saturating_add(tokens)
    }

    /// Time to the first byte, where it was measured.
    pub(crate) fn first_us(&self) -> Option<u64> {
        self.first_us
    }
}

/// How often calls end well: both counts fade, so that what was long ago counts little.
#[derive(Debug, Clone, Default)]
pub(crate) struct Share {
    good: u64,
    all: u64,
    at_ms: u64,
}

/// What is left of a count after so long: halved each half-life, on a straight line between.
fn faded(count: u64, for_ms: u64) -> u64 {
    let Some(count) = u32::try_from(for_ms / HALF_LIFE_MS).ok().and_then(|times| count.checked_shr(times))
    else {
        return 0;
    };
    let part = for_ms % HALF_LIFE_MS;
    count
        - u64::try_from(u128::from(count) * u128::from(part) / u128::from(2 * HALF_LIFE_MS)).unwrap_or(count)
}

impl Share {
    fn fade(&mut self, now_ms: u64) {
        let since = now_ms.saturating_sub(self.at_ms);
        self.good = faded(self.good, since);
        self.all = faded(self.all, since);
        self.at_ms = self.at_ms.max(now_ms);
    }

    /// A call ended.
    pub(crate) fn ended(&mut self, well: bool, now_ms: u64) {
        self.fade(now_ms);
        self.all = self.all.saturating_add(ONE);
        self.good = self.good.saturating_add(if well { ONE } else { 0 });
    }

    /// A call that ended well did not pass the caller's own check.
    pub(crate) fn rejected(&mut self, now_ms: u64) {
        self.fade(now_ms);
        self.good = self.good.saturating_sub(ONE);
    }

    /// Thousandths of calls that ended well. One that ended well stands at the beginning, so that nobody is judged by one call.
    pub(crate) fn permille(&self, now_ms: u64) -> u64 {
        let since = now_ms.saturating_sub(self.at_ms);
        let (good, all) = (faded(self.good, since) + ONE, faded(self.all, since) + ONE);
        good.min(all).saturating_mul(1000) / all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_long_ago_counts_little() {
        let mut share = Share::default();
        assert_eq!(share.permille(0), 1000, "nobody is judged before the first call");
        for _ in 0..9 {
            share.ended(false, 1000);
        }
        assert_eq!(share.permille(1000), 100);
        assert!(share.permille(HALF_LIFE_MS) > 150);
        assert_eq!(share.permille(1000 + HALF_LIFE_MS), 1000 * 2 / 11);
        assert!(share.permille(1000 + 20 * HALF_LIFE_MS) > 990, "and is forgiven at last");
        assert_eq!(share.permille(u64::MAX), 1000);
        share.ended(true, 1000);
        let before = share.permille(1000);
        share.rejected(1000);
        assert!(share.permille(1000) < before, "the caller's own check counts");
    }

    #[test]
    fn fading_never_grows() {
        let mut last = u64::MAX;
        for ms in (0..3 * HALF_LIFE_MS).step_by(7919) {
            let now = faded(1_000_000, ms);
            assert!(now <= last, "{ms}");
            last = now;
        }
        assert_eq!(faded(1_000_000, HALF_LIFE_MS), 500_000);
        assert_eq!(faded(u64::MAX, u64::MAX), 0);
    }

    #[test]
    fn who_was_not_measured_lately_is_tried() {
        let mut latency = Latency::default();
        assert_eq!(latency.expected_us(100, 5), 0);
        latency.first(8000, 10);
        latency.tokens(100_000, 10, 10);
        assert_eq!(latency.expected_us(100, 10), 8000 + 100 * 10_000);
        latency.first(16_000, 20);
        assert_eq!(latency.first_us(), Some(9000), "an eighth of the way");
        latency.tokens(5, 0, 20);
        assert_eq!(latency.expected_us(0, 20 + FRESH_MS), 9000);
        assert_eq!(latency.expected_us(0, 21 + FRESH_MS), 0);
        latency.first(16_000, 21 + FRESH_MS);
        assert_eq!(latency.first_us(), Some(16_000), "and what was measured before is forgotten");
    }
}
