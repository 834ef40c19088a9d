//! Token buckets: how much there is now, and how it comes back.

/// Parts of a unit, so that what comes back in a millisecond is a whole number where a limit is said for a minute.
const PART: u128 = 60_000;

/// What a bucket holds whose limit nobody has said.
const UNSAID: u128 = u128::MAX >> 1;

/// A bucket that fills up.
#[derive(Debug, Clone)]
pub(crate) struct Bucket {
    capacity: u128,
    level: u128,
    at_ms: u64,
    fills: Fills,
}

#[derive(Debug, Clone)]
enum Fills {
    /// So many parts come back in so many milliseconds.
    Evenly { gain: u128, in_ms: u128 },
    /// Nothing comes back before, and everything then.
    At { ms: u64 },
}

impl Bucket {
    /// A full one, of so many in a minute.
    pub(crate) fn per_minute(limit: u64, now_ms: u64) -> Self {
        let capacity = u128::from(limit) * PART;
        let fills = Fills::Evenly { gain: capacity, in_ms: 60_000 };
        Self { capacity, level: capacity, at_ms: now_ms, fills }
    }

    /// As a provider has said: so many are left of the limit, and it will be full again in so many milliseconds. It fills evenly,
    /// or, where nobody has said how much it holds, at that time and not before.
    pub(crate) fn told(limit: Option<u64>, left: u64, full_in_ms: u64, now_ms: u64) -> Self {
        let level = u128::from(left) * PART;
        let Some(limit) = limit else {
            let fills = Fills::At { ms: now_ms.saturating_add(full_in_ms) };
            return Self { capacity: UNSAID, level, at_ms: now_ms, fills };
        };
        let capacity = (u128::from(limit) * PART).max(level).max(PART);
        // Who has nothing missing says nothing of how fast it comes back.
        let (gain, in_ms) = match capacity - level {
            0 => (capacity, full_in_ms.max(60_000)),
            missing => (missing, full_in_ms.max(1)),
        };
        Self { capacity, level, at_ms: now_ms, fills: Fills::Evenly { gain, in_ms: u128::from(in_ms) } }
    }

    fn level(&self, now_ms: u64) -> u128 {
        let back = match self.fills {
            Fills::At { ms } if now_ms >= ms => self.capacity,
            Fills::At { .. } => 0,
            Fills::Evenly { gain, in_ms } => {
                gain.saturating_mul(u128::from(now_ms.saturating_sub(self.at_ms))) / in_ms
            }
        };
        self.capacity.min(self.level.saturating_add(back))
    }

    /// When so many will be there; what is more than it can hold is there when it is full.
    pub(crate) fn ready_ms(&self, count: u64, now_ms: u64) -> u64 {
        let wanted = (u128::from(count) * PART).min(self.capacity);
        let missing = wanted.saturating_sub(self.level(now_ms));
        match self.fills {
            _ if missing == 0 => now_ms,
            Fills::At { ms } => ms,
            Fills::Evenly { gain, in_ms } => {
                let wait = missing.saturating_mul(in_ms).div_ceil(gain);
                now_ms.saturating_add(u64::try_from(wait).unwrap_or(u64::MAX))
            }
        }
    }

    /// Takes so many, or what there is.
    pub(crate) fn take(&mut self, count: u64, now_ms: u64) {
        self.level = self.level(now_ms).saturating_sub(u128::from(count) * PART);
        self.at_ms = self.at_ms.max(now_ms);
    }

    /// Gives back what was taken and not used.
    pub(crate) fn give_back(&mut self, count: u64) {
        self.level = self.level.saturating_add(u128::from(count) * PART).min(self.capacity);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_minute_gives_what_it_says_and_no_more() {
        let mut bucket = Bucket::per_minute(60, 0);
        let mut taken = 0;
        for now in 0..120_000 {
            if bucket.ready_ms(1, now) == now {
                bucket.take(1, now);
                taken += 1;
            }
        }
        assert_eq!(taken, 60 + 119, "the full bucket, and one a second after it");
    }

    #[test]
    fn a_provider_s_word_is_believed() {
        let bucket = Bucket::told(Some(100), 0, 10_000, 5);
        assert_eq!(bucket.ready_ms(1, 5), 105, "a hundredth of the time brings a hundredth");
        assert_eq!(bucket.ready_ms(1000, 5), 10_005, "more than fits waits for all");
        let bucket = Bucket::told(None, 0, 10_000, 5);
        assert_eq!(bucket.ready_ms(1, 5), 10_005);
        let mut bucket = Bucket::told(None, 3, 10_000, 5);
        assert_eq!(bucket.ready_ms(4, 5), 10_005, "what is left is not all that it holds");
        assert_eq!(bucket.ready_ms(4, 10_005), 10_005);
        for _ in 0..3 {
            assert_eq!(bucket.ready_ms(1, 5), 5);
            bucket.take(1, 5);
        }
        assert_eq!(bucket.ready_ms(1, 5), 10_005);
        bucket.give_back(1);
        assert_eq!(bucket.ready_ms(1, 5), 5);
    }

    proptest! {
        #[test]
        fn what_is_promised_is_there(limit in 1_u64..10_000_000, steps in prop::collection::vec((0_u64..20_000_000, 0_u64..100_000), 1..50)) {
            let mut bucket = Bucket::per_minute(limit, 0);
            let mut now = 0;
            for (count, later) in steps {
                let ready = bucket.ready_ms(count, now);
                prop_assert_eq!(bucket.ready_ms(count, ready), ready);
                now = ready.saturating_add(later).min(1 << 50);
                bucket.take(count, now);
            }
        }
    }
}
