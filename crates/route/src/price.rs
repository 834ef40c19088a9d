//! What tokens cost, in millionths of a US dollar. Integers only; what is owed is rounded up.

use octant_llm::Usage;
use serde::Deserialize;

/// Millionths of a US dollar for a million tokens of each kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rates {
    /// Of the prompt.
    pub input: u64,
    /// Of the prompt, read from the provider's cache; absent: as the rest of the prompt.
    #[serde(default)]
    pub cache_read: Option<u64>,
    /// Of the prompt, written to the provider's cache; absent: as the rest of the prompt.
    #[serde(default)]
    pub cache_write: Option<u64>,
    /// Of the answer, reasoning too.
    pub output: u64,
}

/// The most that a million tokens may cost, in millionths of a US dollar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cap {
    /// Of the prompt.
    pub input: u64,
    /// Of the answer.
    pub output: u64,
}

impl Rates {
    /// The dearest that a million tokens of the prompt can become.
    #[must_use]
    pub fn dearest_input(&self) -> u64 {
        self.input.max(self.cache_write.unwrap_or(0)).max(self.cache_read.unwrap_or(0))
    }

    /// Whether no kind of token costs more than the cap says. Keeping a prompt in the cache is the caller's own choice and
    /// its surcharge is not looked at.
    #[must_use]
    pub fn within(&self, cap: Cap) -> bool {
        self.input <= cap.input && self.output <= cap.output
    }

    /// The most that a call can cost which has no more than so many tokens.
    #[must_use]
    pub fn most(&self, input: u64, output: u64) -> u64 {
        owed(
            u128::from(input) * u128::from(self.dearest_input())
                + u128::from(output) * u128::from(self.output),
        )
    }

    /// How many tokens of an answer so many millionths of a dollar pay for, after a prompt of so many tokens.
    #[must_use]
    pub fn affordable(&self, microusd: u64, input: u64) -> u64 {
        let prompt = u128::from(input) * u128::from(self.dearest_input());
        let Some(rest) = (u128::from(microusd) * MILLION).checked_sub(prompt) else { return 0 };
        rest.checked_div(u128::from(self.output)).map_or(u64::MAX, |n| u64::try_from(n).unwrap_or(u64::MAX))
    }
}

const MILLION: u128 = 1_000_000;

fn owed(millionths: u128) -> u64 {
    u64::try_from(millionths.div_ceil(MILLION)).unwrap_or(u64::MAX)
}

/// What was used costs, in millionths of a US dollar, rounded up.
#[must_use]
pub fn price(rates: &Rates, usage: Usage) -> u64 {
    // A provider that says that more was cached than there was is not believed in its own disfavour.
    let read = usage.cache_read.min(usage.input);
    let write = usage.cache_write.min(usage.input - read);
    let plain = usage.input - read - write;
    let of = |tokens: u64, rate: u64| u128::from(tokens) * u128::from(rate);
    owed(
        of(plain, rates.input)
            .saturating_add(of(read, rates.cache_read.unwrap_or(rates.input)))
            .saturating_add(of(write, rates.cache_write.unwrap_or(rates.input)))
            .saturating_add(of(usage.output, rates.output)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RATES: Rates = Rates {
        input: 3_000_000,
        cache_read: Some(300_000),
        cache_write: Some(3_750_000),
        output: 15_000_000,
    };

    #[test]
    fn each_kind_has_its_rate_and_what_is_owed_is_rounded_up() {
        let usage = Usage { input: 1000, cache_read: 600, cache_write: 100, output: 10, reasoning: 5 };
        assert_eq!(price(&RATES, usage), 300 * 3 + 180 + 375 + 150);
        assert_eq!(price(&RATES, Usage { input: 1, cache_read: 1, ..Usage::default() }), 1, "0.3 is 1");
        assert_eq!(price(&RATES, Usage::default()), 0);
        let plain = Rates { cache_read: None, cache_write: None, ..RATES };
        assert_eq!(price(&plain, usage), 1000 * 3 + 150, "without a rate of its own the cache saves nothing");
        let mad = Usage { input: 10, cache_read: u64::MAX, cache_write: u64::MAX, output: 0, reasoning: 0 };
        assert_eq!(price(&RATES, mad), 3, "no more is read than there was");
    }

    proptest! {
        #[test]
        fn nothing_costs_more_than_the_most(
            input in 0_u64..10_000_000, read in any::<u64>(), write in any::<u64>(), output in 0_u64..10_000_000
        ) {
            let usage = Usage { input, cache_read: read, cache_write: write, output, reasoning: 0 };
            prop_assert!(price(&RATES, usage) <= RATES.most(input, output));
        }

        #[test]
        fn what_is_affordable_can_be_paid_and_one_more_cannot(money in 0_u64..1_000_000_000, input in 0_u64..1_000_000) {
            let output = RATES.affordable(money, input);
            prop_assert!(output == 0 || RATES.most(input, output) <= money);
            prop_assert!(RATES.most(input, output + 1) > money);
        }
    }

    #[test]
    fn nothing_overflows() {
        let mad = Rates { input: u64::MAX, cache_read: None, cache_write: None, output: u64::MAX };
        let usage = Usage { input: u64::MAX, output: u64::MAX, ..Usage::default() };
        assert_eq!(price(&mad, usage), u64::MAX);
        assert_eq!(Rates::default().affordable(0, 5), u64::MAX, "what costs nothing is always affordable");
    }
}
