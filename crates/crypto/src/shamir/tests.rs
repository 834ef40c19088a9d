//! The field against its definition, and the scheme against what it promises.

use super::*;
use proptest::prelude::{Just, ProptestConfig, Strategy, any, proptest};
use proptest::sample::subsequence;
use proptest::{prop_assert, prop_assert_eq};

/// The product by the definition: multiply the polynomials over GF(2), bit by bit, then take the remainder modulo
/// x^8 + x^4 + x^3 + x + 1 by long division.
fn product(a: u8, b: u8) -> u8 {
    let mut wide = 0_u16;
    for bit in 0..8 {
        if b >> bit & 1 == 1 {
            wide ^= u16::from(a) << bit;
        }
    }
    for bit in (8..15).rev() {
        if wide >> bit & 1 == 1 {
            wide ^= 0x11b << (bit - 8);
        }
    }
    u8::try_from(wide).unwrap()
}

fn power(a: u8, exponent: u8) -> u8 {
    (0..exponent).fold(1, |power, _| product(power, a))
}

/// The value of a polynomial at `x`, lowest coefficient first: each term by itself.
fn value(coefficients: &[u8], x: u8) -> u8 {
    coefficients.iter().zip(0..).fold(0, |sum, (c, degree)| sum ^ product(*c, power(x, degree)))
}

#[test]
fn the_field_is_that_of_aes() {
    for a in 0..=255 {
        for b in 0..=255 {
            assert_eq!(multiply(a, b), product(a, b), "{a} * {b}");
        }
    }
    // FIPS 197 section 4.2 and its example of x times a polynomial.
    assert_eq!((multiply(0x57, 0x83), multiply(0x57, 0x13)), (0xc1, 0xfe));
    assert_eq!([0x02, 0x04, 0x08, 0x10].map(|x| multiply(0x57, x)), [0xae, 0x47, 0x8e, 0x07]);
}

#[test]
fn every_element_but_zero_has_its_inverse() {
    for a in 1..=255 {
        assert_eq!(multiply(a, invert(a)), 1, "{a}");
    }
    // FIPS 197's S-box begins with the inverse: that of 0x53 is 0xca.
    assert_eq!((invert(0x53), invert(0)), (0xca, 0));
}

fn key(bytes: &[u8; KEY_LEN]) -> Key {
    Key::from_bytes(bytes).unwrap()
}

/// Shares made by the slow functions above from coefficients that are known.
fn slow_shares(secret: &[u8; KEY_LEN], others: &[[u8; KEY_LEN]], count: u8) -> Vec<Share> {
    let share = |x| {
        let y = std::array::from_fn(|at| {
            let coefficients: Vec<u8> = [secret].into_iter().chain(others).map(|c| c[at]).collect();
            value(&coefficients, x)
        });
        Share::new(x, key(&y)).unwrap()
    };
    (1..=count).map(share).collect()
}

/// Two lines and a parabola that a person can check: s + a x, and s + a x + b x^2.
#[test]
fn shares_are_the_values_of_the_polynomial() {
    let (secret, a, b) = ([0x42; KEY_LEN], [0x57; KEY_LEN], [0x83; KEY_LEN]);
    let line: Vec<u8> = slow_shares(&secret, &[a], 4).iter().map(|share| share.y()[0]).collect();
    assert_eq!(line, [0x42 ^ 0x57, 0x42 ^ 0xae, 0x42 ^ 0x57 ^ 0xae, 0x42 ^ 0x47]);
    let coefficients = [key(&a), key(&b)];
    for share in slow_shares(&secret, &[a, b], COUNT_MAX) {
        let mut y = [0; KEY_LEN];
        evaluate(&secret, &coefficients, share.x(), &mut y);
        assert_eq!(&y, share.y(), "at {}", share.x());
    }
}

/// A shape, and numbers of as many shares as are needed, in any order.
fn shape() -> impl Strategy<Value = (u8, u8, Vec<u8>)> {
    (THRESHOLD_MIN..=COUNT_MAX).prop_flat_map(|count| (THRESHOLD_MIN..=count, Just(count))).prop_flat_map(
        |(threshold, count)| {
            let chosen = subsequence((1..=count).collect::<Vec<u8>>(), usize::from(threshold));
            chosen.prop_shuffle().prop_map(move |chosen| (threshold, count, chosen))
        },
    )
}

fn chosen<'a>(shares: &'a [Share], numbers: &'a [u8]) -> impl Iterator<Item = &'a Share> {
    numbers.iter().map(|number| shares.iter().find(|share| share.x() == *number).unwrap())
}

proptest! {
    #[test]
    fn any_of_them_that_are_enough_give_the_secret(secret: [u8; KEY_LEN], (threshold, count, numbers) in shape()) {
        let shares = split(&secret, threshold, count).unwrap();
        prop_assert_eq!(shares.iter().map(Share::x).collect::<Vec<_>>(), (1..=count).collect::<Vec<_>>());
        let combined = combine(chosen(&shares, &numbers), threshold).unwrap();
        prop_assert_eq!(combined.bytes(), &secret);
        // All of them, too.
        let combined = combine(&shares, threshold).unwrap();
        prop_assert_eq!(combined.bytes(), &secret);
    }

    #[test]
    fn shares_of_another_implementation_are_put_together(
        secret: [u8; KEY_LEN], others in proptest::collection::vec(any::<[u8; KEY_LEN]>(), 1..6),
    ) {
        let threshold = u8::try_from(others.len()).unwrap() + 1;
        let shares = slow_shares(&secret, &others, COUNT_MAX);
        let combined = combine(&shares, threshold).unwrap();
        prop_assert_eq!(combined.bytes(), &secret);
        let last = &shares[shares.len() - usize::from(threshold)..];
        let combined = combine(last, threshold).unwrap();
        prop_assert_eq!(combined.bytes(), &secret);
    }

    #[test]
    fn too_few_are_refused(secret: [u8; KEY_LEN], (threshold, count, mut numbers) in shape()) {
        let shares = split(&secret, threshold, count).unwrap();
        numbers.pop();
        let refused = combine(chosen(&shares, &numbers), threshold).unwrap_err();
        prop_assert_eq!(refused, ShamirError::TooFew { have: threshold - 1, threshold });
    }

    #[test]
    fn one_share_twice_is_refused(secret: [u8; KEY_LEN], (threshold, count, mut numbers) in shape()) {
        let shares = split(&secret, threshold, count).unwrap();
        numbers.push(numbers[0]);
        let refused = combine(chosen(&shares, &numbers), threshold).unwrap_err();
        prop_assert_eq!(refused, ShamirError::Duplicate(numbers[0]));
    }

    #[test]
    fn a_wrong_share_among_more_than_enough_is_found(secret: [u8; KEY_LEN], bit in 0..256_usize, wrong in 1..=4_u8) {
        let shares = split(&secret, 3, 4).unwrap();
        let mut y = *shares[usize::from(wrong) - 1].y();
        y[bit / 8] ^= 1 << (bit % 8);
        let bad = Share::new(wrong, key(&y)).unwrap();
        let mixed = shares.iter().map(|share| if share.x() == wrong { &bad } else { share });
        prop_assert_eq!(combine(mixed, 3).unwrap_err(), ShamirError::Inconsistent(4));
    }

    #[test]
    fn two_splits_of_one_secret_have_no_share_in_common(secret: [u8; KEY_LEN]) {
        let (a, b) = (split(&secret, 2, 16).unwrap(), split(&secret, 2, 16).unwrap());
        prop_assert!(a.iter().zip(&b).all(|(a, b)| a.y() != b.y()));
        // And those of both together give something else.
        prop_assert!(combine([&a[0], &b[1]], 2).unwrap().bytes() != &secret);
    }
}

proptest! {
    // Each case puts shares together 256 times.
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// For every byte that the secret could have, there is exactly one value of the missing share that gives it: the
    /// others say nothing about which.
    #[test]
    fn one_too_few_leave_every_secret_possible(secret: [u8; KEY_LEN], (threshold, count, mut numbers) in shape()) {
        let shares = split(&secret, threshold, count).unwrap();
        let missing = numbers.pop().unwrap();
        let mut possible = [0_u32; 256];
        for value in 0..=255 {
            let guess = Share::new(missing, key(&[value; KEY_LEN])).unwrap();
            let with = chosen(&shares, &numbers).chain([&guess]);
            possible[usize::from(combine(with, threshold).unwrap().bytes()[0])] += 1;
        }
        prop_assert_eq!(possible, [1; 256]);
    }
}

#[test]
fn impossible_shapes_are_refused() {
    for (threshold, count) in [(0, 0), (0, 3), (1, 1), (1, 3), (4, 3), (2, 17), (17, 17), (255, 255), (2, 1)]
    {
        let wanted = ShamirError::Shape { threshold, count };
        assert_eq!(split(&[0; KEY_LEN], threshold, count).unwrap_err(), wanted);
        assert_eq!(check_shape(threshold, count), Err(wanted));
    }
    for threshold in [0, 1, 17, 255] {
        let refused = combine([], threshold).unwrap_err();
        assert_eq!(refused, ShamirError::Shape { threshold, count: COUNT_MAX });
    }
    assert_eq!(combine([], 2).unwrap_err(), ShamirError::TooFew { have: 0, threshold: 2 });
}

#[test]
fn number_zero_would_be_the_secret() {
    for x in [0, 17, 255] {
        assert_eq!(Share::new(x, key(&[1; KEY_LEN])).unwrap_err(), ShamirError::Number(x));
    }
}
