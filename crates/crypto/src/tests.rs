//! What the tests of the modules share, and what is true of all types.

use crate::memory::{Buffer, Key, Pool};
use crate::shamir::Share;
use crate::share_text::{Label, LabelledShare};
use crate::sign::SigningKey;
use crate::{CryptoError, random};

/// The bytes of hexadecimal digits.
pub(crate) fn hex(digits: &str) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok()).unwrap();
    let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
    assert!(rest.is_empty(), "an even number of digits");
    pairs.iter().map(|[high, low]| digit(*high) << 4 | digit(*low)).collect()
}

pub(crate) fn hex_of<const N: usize>(digits: &str) -> [u8; N] {
    hex(digits).try_into().unwrap()
}

/// Bytes of which no two that follow each other appear in a text by accident.
const SECRET: [u8; 32] = [
    0xa7, 0xd3, 0x9b, 0xe5, 0xc1, 0x8f, 0xf3, 0xad, 0xb5, 0xd9, 0xe9, 0xfb, 0x95, 0x83, 0xc7, 0xdf, 0xa3,
    0xef, 0x8b, 0xb3, 0xcb, 0xf7, 0x9d, 0xd1, 0xbf, 0xe3, 0x89, 0xc5, 0xfd, 0x97, 0xdb, 0xab,
];

/// Neither as a list of numbers, nor as digits in either case, nor as base32.
fn shows(text: &str, secret: &[u8]) -> bool {
    let low = text.to_lowercase();
    secret.windows(2).any(|two| {
        let [a, b] = [two[0], two[1]];
        [format!("{a}, {b}"), format!("{a:02x}{b:02x}"), format!("{a:02x}, {b:02x}"), format!("0x{a:02x}")]
            .iter()
            .any(|form| low.contains(form))
    })
}

#[test]
fn no_debug_output_has_a_secret_byte_in_it() {
    let key = Key::from_bytes(&SECRET).unwrap();
    let pool = Pool::new(2, 64).unwrap();
    let mut buffer = pool.take(32).unwrap();
    buffer.copy_from_slice(&SECRET);
    let share = Share::new(3, Key::from_bytes(&SECRET).unwrap()).unwrap();
    let signer = SigningKey::from_seed(&SECRET).unwrap();
    let label = Label { vault: [1; 16], slot: 1, set: [2; 8], threshold: 2, count: 3 };
    let paper = LabelledShare::new(label, Share::new(2, Key::from_bytes(&SECRET).unwrap()).unwrap()).unwrap();
    for shown in [
        format!("{key:?} {key:#?} {pool:?} {buffer:?} {buffer:#?}"),
        format!("{share:?} {share:#?} {signer:?} {signer:#?}"),
        format!("{paper:?} {paper:#?}"),
    ] {
        assert!(!shows(&shown, &SECRET), "{shown}");
    }
    // The test would find it.
    assert!(shows(&format!("{SECRET:?}"), &SECRET) && shows(&format!("{SECRET:02x?}"), &SECRET));
    assert!(format!("{share:?}").contains('3') && format!("{pool:?}").contains('1'));
    assert_eq!((format!("{key:?}"), format!("{buffer:?}")), ("Key(..)".into(), "Buffer(32 bytes)".into()));
}

#[test]
fn an_error_names_the_kernels_reason_and_the_way_out() {
    let text = CryptoError::Memory(12).to_string();
    assert!(text.contains("Cannot allocate memory") && text.contains("RLIMIT_MEMLOCK"), "{text}");
    let text = CryptoError::Random(11).to_string();
    assert!(text.contains("Resource temporarily unavailable"), "{text}");
}

#[test]
fn two_random_values_differ() {
    assert_ne!(random::<32>().unwrap(), random::<32>().unwrap());
    assert!(random::<0>().unwrap().is_empty());
}

#[test]
fn what_holds_secrets_may_move_between_threads() {
    fn is_both<T: Send + Sync + 'static>() {}
    is_both::<Pool>();
    is_both::<Buffer>();
    is_both::<Key>();
    is_both::<SigningKey>();
    is_both::<LabelledShare>();
}
