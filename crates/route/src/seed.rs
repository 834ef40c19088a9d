//! Chance that comes from outside: one seed, and numbers made of it.

/// The number `index` of a seed's.
pub(crate) fn number(seed: u64, index: u64) -> u64 {
    // splitmix64 (Steele, Lea, Flood 2014): quality enough for weights and jitter.
    let mut z = seed.wrapping_add(index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Between half of `most` and `most`, so that those who failed together do not come back together.
pub(crate) fn jitter(seed: u64, index: u64, most: u64) -> u64 {
    let half = most / 2;
    most - number(seed, index) % (half + 1)
}

/// The order in which weights are drawn without putting back: heavier ones come first more often.
pub(crate) fn order(seed: u64, weights: &[u32]) -> Vec<usize> {
    let mut left: Vec<usize> = (0..weights.len()).collect();
    let mut out = Vec::with_capacity(weights.len());
    let mut total: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
    for draw in 0_u64.. {
        if left.is_empty() || total == 0 {
            break;
        }
        let mut at = number(seed, draw) % total;
        let found = left.iter().position(|index| {
            let weight = u64::from(weights[*index]);
            let here = at < weight;
            at = at.saturating_sub(weight);
            here
        });
        let index = left.remove(found.unwrap_or(0));
        total -= u64::from(weights[index]);
        out.push(index);
    }
    out.extend(left);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_drawn_once_and_as_often_as_its_weight_says() {
        let weights = [1, 2, 7, 0];
        let mut first = [0_u32; 4];
        for seed in 0..10_000 {
            let order = order(seed, &weights);
            let mut sorted = order.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, [0, 1, 2, 3]);
            assert_eq!(order[3], 3, "without weight it comes last");
            first[order[0]] += 1;
        }
        for (count, expected) in first.into_iter().zip([1000_u32, 2000, 7000, 0]) {
            assert!(count.abs_diff(expected) < 200, "{first:?}");
        }
    }

    #[test]
    fn jitter_stays_between_half_and_all() {
        for index in 0..1000 {
            assert!((50..=100).contains(&jitter(7, index, 100)));
            assert!((1..=1).contains(&jitter(7, index, 1)));
        }
        assert_eq!(jitter(1, 2, 0), 0);
    }
}
