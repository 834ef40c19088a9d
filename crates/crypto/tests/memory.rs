//! Hunts the memory of its own process for keys: after each use there is none but in memory for secrets.
//!
//! One test, in a process of its own. It knows what it hunts for only XORed with a mask, so that it does not find itself.

use hkdf::Hkdf;
use octant_crypto::aead::{SALT_LEN, framed, open, seal, seal_in_place, subkey};
use octant_crypto::memory::{Key, Pool};
use octant_crypto::passphrase::{Argon2Cost, passphrase_key};
use octant_crypto::share_text::{Label, LabelledShare, combine, split};
use octant_crypto::sign::{SigningKey, sign_once};
use sha2::{Digest, Sha256, Sha512};
use std::fs::File;
use std::hint::black_box;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use zeroize::{Zeroize, Zeroizing, zeroize_stack};

const MASK: u8 = 0x5a;
/// What of a secret is hunted for: each of its halves may be left alone.
const HALF: usize = 16;
const SALT: [u8; SALT_LEN] = [3; SALT_LEN];

/// Half of a secret, masked, and what to call it.
type Needle = (&'static str, [u8; HALF]);

fn needles(name: &'static str, secret: &[u8]) -> Vec<Needle> {
    secret.as_chunks::<HALF>().0.iter().map(|half| (name, half.map(|byte| black_box(byte) ^ MASK))).collect()
}

/// Masks what `secret` gives and wipes where it was.
#[inline(never)]
fn masked<const N: usize>(name: &'static str, secret: impl FnOnce() -> [u8; N]) -> Vec<Needle> {
    #[inline(never)]
    fn apart<const N: usize>(name: &'static str, secret: impl FnOnce() -> [u8; N]) -> Vec<Needle> {
        let mut bytes = secret();
        let found = needles(name, &bytes);
        bytes.zeroize();
        found
    }
    let found = apart(name, secret);
    zeroize_stack::<0x20000>();
    found
}

/// Readable and writable memory that is not for secrets, from /proc/self/smaps.
fn ordinary() -> Vec<Range<usize>> {
    let all = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let bounds = |line: &str| {
        let (range, rest) = line.split_once(' ')?;
        let (start, end) = range.split_once('-')?;
        let bound = |text| usize::from_str_radix(text, 16).ok();
        Some((bound(start)?..bound(end)?, rest.starts_with("rw")))
    };
    let mut found = Vec::new();
    let mut current = None;
    for line in all.lines() {
        current = bounds(line).or(current);
        if let (Some(flags), Some((range, true))) = (line.strip_prefix("VmFlags:"), &current) {
            // Not in a dump: the mark of memory for secrets, whatever the kernel has for it.
            if !flags.contains(" dd") {
                found.push(range.clone());
            }
        }
    }
    found
}

/// The names of the needles that are somewhere. `window` is where memory is copied to, and is itself left out.
fn hunt(needles: &[Needle], window: &mut [u8]) -> Vec<String> {
    let memory = File::open("/proc/self/mem").unwrap();
    let own = window.as_ptr_range();
    let own = own.start.addr()..own.end.addr();
    let mut found = Vec::new();
    let mut begins = [false; 256];
    needles.iter().for_each(|(_, half)| begins[usize::from(half[0] ^ MASK)] = true);
    for range in ordinary() {
        let mut at = range.start;
        while at < range.end {
            let end = if at < own.start { range.end.min(own.start) } else { range.end };
            if own.contains(&at) {
                at = own.end;
                continue;
            }
            let len = window.len().min(end - at);
            memory.read_exact_at(&mut window[..len], at as u64).unwrap();
            for (place, seen) in
                window[..len].windows(HALF).enumerate().filter(|(_, seen)| begins[usize::from(seen[0])])
            {
                let hits =
                    needles.iter().filter(|(_, half)| seen.iter().zip(half).all(|(s, h)| s ^ MASK == *h));
                found.extend(hits.map(|(name, _)| format!("{name} at {:#x} of {range:x?}", at + place)));
            }
            // Nothing may hide across the border of two windows.
            at += if at + len == end { len } else { len - HALF };
        }
    }
    found
}

/// The key of the seal that the test makes, computed as the documentation says.
fn key_of_the_seal(key: &Key, info: &[&[u8]]) -> [u8; 44] {
    let mut okm = [0; 44];
    let text = framed(&[&[b"octant seal 1".as_slice()], info].concat());
    Hkdf::<Sha256>::new(Some(&SALT), key.bytes()).expand(&text, &mut okm).unwrap();
    okm
}

#[inline(never)]
fn planted_on_the_stack<T>(key: &Key, hunt: impl FnOnce() -> T) -> T {
    let planted = black_box(*key.bytes());
    let found = hunt();
    black_box(&planted);
    found
}

#[test]
fn no_key_stays_anywhere_but_in_memory_for_secrets() {
    let mut window = vec![0; 1 << 20];
    let info: [&[u8]; 1] = [b"hunted"];
    let key = Key::random().unwrap();
    let signer = SigningKey::generate().unwrap();
    let mut hunted = needles("the key", key.bytes());
    hunted.extend(needles("the seed", signer.seed().bytes()));
    hunted.extend(masked("the key of the seal", || key_of_the_seal(&key, &info)));
    hunted.extend(masked("what signs", || Sha512::digest(signer.seed().bytes()).into()));
    hunted.extend(masked("HKDF's inner key", || Hkdf::<Sha256>::extract(Some(&SALT), key.bytes()).0.into()));

    // What is planted is found, on the heap and on the stack, each of its halves.
    let planted = Zeroizing::new(key.bytes().to_vec());
    assert_eq!(hunt(&hunted, &mut window).len(), 2);
    drop(planted);
    assert!(planted_on_the_stack(signer.seed(), || hunt(&hunted, &mut window).len()) >= 2);
    zeroize_stack::<0x20000>();
    assert_eq!(hunt(&hunted, &mut window), Vec::<String>::new(), "before anything is done");

    let sealed = seal(&key, &SALT, &info, &[], &[7; 256]);
    assert_eq!(hunt(&hunted, &mut window), Vec::<String>::new(), "seal");
    black_box(seal(&key, &SALT, &info, &[], signer.seed().bytes()));
    assert_eq!(hunt(&hunted, &mut window), Vec::<String>::new(), "seal a seed");
    let pool = Pool::new(2, 256).unwrap();
    let mut seed = pool.take(signer.seed().bytes().len()).unwrap();
    seed.copy_from_slice(signer.seed().bytes());
    black_box(seal_in_place(&key, &SALT, &info, &[], &mut seed));
    assert_eq!(hunt(&hunted, &mut window), Vec::<String>::new(), "seal in place");
    drop(seed);
    let mut out = pool.take(256).unwrap();
    open(&key, &SALT, &info, &[], &sealed, &mut out).unwrap();
    assert_eq!(hunt(&hunted, &mut window), Vec::<String>::new(), "open");
    let derived = subkey(&key, &SALT, &info).unwrap();
    hunted.extend(needles("the derived key", derived.bytes()));
    assert_eq!(hunt(&hunted, &mut window), Vec::<String>::new(), "subkey");
    black_box(octant_crypto::aead::mac(&key, &info));
    assert_eq!(hunt(&hunted, &mut window), Vec::<String>::new(), "mac");
    black_box(signer.sign(&[7; 256]));
    assert_eq!(hunt(&hunted, &mut window), Vec::<String>::new(), "sign");
    black_box(sign_once(signer.seed().bytes(), &[7; 256]));
    assert_eq!(hunt(&hunted, &mut window), Vec::<String>::new(), "sign once");

    let label = Label::new([1; 16], 1, 3, 5).unwrap();
    let shares = split(&key, &label).unwrap();
    hunted.extend(shares.iter().flat_map(|share| needles("a share", share.share().y())));
    assert_eq!(hunt(&hunted, &mut window), Vec::<String>::new(), "split");
    let read: Vec<_> = shares.iter().map(|share| LabelledShare::parse(&share.to_text()).unwrap()).collect();
    assert_eq!(hunt(&hunted, &mut window), Vec::<String>::new(), "the text of a share");
    black_box(combine(&read, &label).unwrap());
    assert_eq!(hunt(&hunted, &mut window), Vec::<String>::new(), "combine");

    let mut passphrase = pool.take(64).unwrap();
    octant_sys::entropy::fill_seeded(&mut passphrase).unwrap();
    hunted.extend(needles("the passphrase", &passphrase));
    let slow = passphrase_key(&passphrase, &SALT, Argon2Cost::DEFAULT).unwrap();
    hunted.extend(needles("the key of the passphrase", slow.bytes()));
    assert_eq!(hunt(&hunted, &mut window), Vec::<String>::new(), "a passphrase");
}
