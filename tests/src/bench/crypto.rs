//! What a secret costs: its seal with the derivation of the seal's key, a signature, and the key of a passphrase.

use crate::table::{Row, Samples, ms, us};
use octant_crypto::aead::{SALT_LEN, TAG_LEN, open, seal};
use octant_crypto::memory::{Key, Pool};
use octant_crypto::passphrase::{Argon2Cost, passphrase_key};
use octant_crypto::sign::{SigningKey, verify};
use octant_sys::clock::monotonic_ns;

const ROUNDS: usize = 20_000;
const GUESSES: usize = 9;
const TEXT: [u8; 256] = [7; 256];
const INFO: &[&[u8]] = &[b"bench", b"a/path/of/some/length", &[0; 8]];

/// Nanoseconds of each round, after some that warm up.
fn times(rounds: usize, mut round: impl FnMut() -> bool) -> Result<Samples, String> {
    let mut samples = Vec::with_capacity(rounds);
    for number in 0..rounds + rounds / 10 {
        let before = monotonic_ns();
        let right = round();
        let took = monotonic_ns() - before;
        if !right {
            return Err("a seal, a signature or a passphrase gave something wrong".into());
        }
        if number >= rounds / 10 {
            samples.push(took);
        }
    }
    Ok(Samples::new(samples))
}

fn row(what: &str, samples: &Samples, limit_ns: u64) -> Row {
    Row {
        what: what.into(),
        ours: format!("p50 {}, p99 {}", us(samples.median()), us(samples.at(990))),
        peers: String::new(),
        goal: format!("p50 ≤ {}", us(limit_ns)),
        met: Some(samples.median() <= limit_ns),
    }
}

/// The rows of the table.
pub(crate) fn rows() -> Result<Vec<Row>, String> {
    eprintln!("bench: seals, signatures, passphrases");
    let failed = |error: octant_crypto::CryptoError| error.to_string();
    let key = Key::random().map_err(failed)?;
    let salt = octant_crypto::random::<SALT_LEN>().map_err(failed)?;
    let sealing = times(ROUNDS, || seal(&key, &salt, INFO, INFO, &TEXT).len() == TEXT.len() + TAG_LEN)?;
    let sealed = seal(&key, &salt, INFO, INFO, &TEXT);
    let pool = Pool::new(1, TEXT.len()).map_err(failed)?;
    let opening = times(ROUNDS, || {
        let opened = pool.take(TEXT.len()).map(|mut out| open(&key, &salt, INFO, INFO, &sealed, &mut out));
        opened == Some(Ok(()))
    })?;
    let signer = SigningKey::generate().map_err(failed)?;
    let public = signer.public();
    let signing = times(ROUNDS / 10, || signer.sign(&TEXT) != [0; 64])?;
    let signature = signer.sign(&TEXT);
    let checking = times(ROUNDS / 10, || verify(&public, &TEXT, &signature).is_ok())?;
    let cost = Argon2Cost::DEFAULT;
    let guessing = times(GUESSES, || passphrase_key(b"correct horse", &salt, cost).is_ok())?;
    Ok(vec![
        row("a seal of 256 bytes, with the derivation of its key", &sealing, 10_000),
        row("opening it into locked memory", &opening, 10_000),
        row("a signature of 256 bytes (Ed25519), the key expanded for it", &signing, 200_000),
        row("checking it, strictly", &checking, 200_000),
        Row {
            what: "the key of a passphrase (Argon2id, 64 MiB, three passes): what one guess costs".into(),
            ours: ms(guessing.median()),
            peers: String::new(),
            goal: "none: quicker is no better".into(),
            met: None,
        },
    ])
}
