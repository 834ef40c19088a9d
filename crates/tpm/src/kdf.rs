//! The specification's key derivations and its parameter encryption, for SHA-256 and AES-128 (Part 1, sections 11.4.10
//! and 21.3).
//!
//! Every output here is 256 bits, which is one block of the hash; so there is one iteration, and its counter is 1.

use aes::Aes128;
use cfb_mode::cipher::{AsyncStreamCipher, KeyIvInit};
use hmac::{Hmac, Mac};
use p256::elliptic_curve::generic_array::GenericArray;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// A key of the hash's length. A session's key is one, and so is everything else that is derived here.
pub(crate) type Key = Zeroizing<[u8; 32]>;

/// HMAC-SHA256 (RFC 2104).
pub(crate) fn hmac(key: &Key, parts: &[&[u8]]) -> Hmac<Sha256> {
    // A key that is shorter than the hash's block is continued with zeros; done here, no length can be wrong.
    let mut block = Zeroizing::new([0; 64]);
    block[..32].copy_from_slice(&**key);
    let mut mac = <Hmac<Sha256> as hmac::digest::KeyInit>::new(GenericArray::from_slice(&*block));
    parts.iter().for_each(|part| mac.update(part));
    mac
}

/// KDFa (section 11.4.10.2): `label` without its final zero byte.
pub(crate) fn kdf_a(key: &Key, label: &str, party_u: &[u8], party_v: &[u8]) -> Key {
    let (counter, bits) = (1_u32.to_be_bytes(), 256_u32.to_be_bytes());
    let mac = hmac(key, &[&counter, label.as_bytes(), &[0], party_u, party_v, &bits]);
    Zeroizing::new(mac.finalize().into_bytes().into())
}

/// KDFe (section 11.4.10.3): a key from the x coordinate that two parties have agreed on.
pub(crate) fn kdf_e(z: &[u8], label: &str, party_u: &[u8], party_v: &[u8]) -> Key {
    let hash = Sha256::new().chain_update(1_u32.to_be_bytes()).chain_update(z).chain_update(label);
    let hash = hash.chain_update([0]).chain_update(party_u).chain_update(party_v);
    Zeroizing::new(hash.finalize().into())
}

/// The cipher of one parameter (section 21.3): its key and its first vector are made of the session's key and of both
/// nonces, so that none is used twice.
fn cipher<C>(session_key: &Key, nonce_newer: &[u8], nonce_older: &[u8]) -> C
where
    C: KeyIvInit<KeySize = p256::elliptic_curve::consts::U16, IvSize = p256::elliptic_curve::consts::U16>,
{
    let derived = kdf_a(session_key, "CFB", nonce_newer, nonce_older);
    let (key, vector) = derived.split_at(16);
    C::new(GenericArray::from_slice(key), GenericArray::from_slice(vector))
}

/// Encrypts a command's parameter in place.
pub(crate) fn encrypt(session_key: &Key, nonce_caller: &[u8], nonce_tpm: &[u8], parameter: &mut [u8]) {
    cipher::<cfb_mode::Encryptor<Aes128>>(session_key, nonce_caller, nonce_tpm).encrypt(parameter);
}

/// Decrypts a reply's parameter in place.
pub(crate) fn decrypt(session_key: &Key, nonce_tpm: &[u8], nonce_caller: &[u8], parameter: &mut [u8]) {
    cipher::<cfb_mode::Decryptor<Aes128>>(session_key, nonce_tpm, nonce_caller).decrypt(parameter);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hmac_is_that_of_rfc_4231() {
        // Test case 1, whose key has 20 bytes: the same as that key continued with zeros.
        let mut key = Zeroizing::new([0; 32]);
        key[..20].fill(0x0b);
        let want = [
            0xb0, 0x34, 0x4c, 0x61, 0xd8, 0xdb, 0x38, 0x53, 0x5c, 0xa8, 0xaf, 0xce, 0xaf, 0x0b, 0xf1, 0x2b,
            0x88, 0x1d, 0xc2, 0x00, 0xc9, 0x83, 0x3d, 0xa7, 0x26, 0xe9, 0x37, 0x6c, 0x2e, 0x32, 0xcf, 0xf7,
        ];
        assert!(hmac(&key, &[b"Hi ", b"There"]).verify_slice(&want).is_ok());
    }

    #[test]
    fn a_parameter_comes_back_as_it_was_and_not_with_the_nonces_exchanged() {
        let key = Zeroizing::new([7; 32]);
        let mut parameter = *b"thirty-five bytes, not whole blocks";
        encrypt(&key, b"caller", b"tpm", &mut parameter);
        assert_ne!(&parameter, b"thirty-five bytes, not whole blocks");
        let mut other = parameter;
        // A parameter goes under (newer, older); in a command the caller's nonce is the newer one.
        decrypt(&key, b"caller", b"tpm", &mut parameter);
        assert_eq!(&parameter, b"thirty-five bytes, not whole blocks");
        decrypt(&key, b"tpm", b"caller", &mut other);
        assert_ne!(parameter, other);
    }
}
