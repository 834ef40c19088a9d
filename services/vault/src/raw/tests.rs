use super::*;
use crate::format::Content;
use crate::hex::Hex;
use crate::slots::{self, Lock};
use crate::state::{Machine, Op};
use crate::values::seal_machine;
use octant_api::vault::{Kind, SecretInfo};
use octant_ids::Sha256;

const BOOT: &str = "00112233445566778899aabbccddeeff";
const FRAMES: usize = 60;

fn data() -> Key {
    Key::from_bytes(&[0xd7; 32]).unwrap()
}

fn content(ops: &[(Op, Vec<u8>)]) -> Vec<u8> {
    let mut content = Content::default();
    ops.iter().for_each(|(op, value)| content.push(&serde_json::to_vec(op).unwrap(), value));
    content.into_bytes()
}

fn secret(at: usize) -> SecretInfo {
    let (about, username, url, labels) = Default::default();
    let name = format!("secret-{at}").parse().unwrap();
    SecretInfo { name, kind: Kind::Opaque, current: 1, versions: Vec::new(), about, username, url, labels }
}

/// A file with more than is handed over at once, after `change` has seen the contents of its frames.
fn file(change: impl FnOnce(&mut Vec<Vec<u8>>)) -> Vec<u8> {
    let machine = SigningKey::from_seed(&[3; 32]).unwrap();
    let mut header = Header {
        vault: Hex([0xa1; 16]),
        key: 1,
        epoch: 7,
        frames: 0,
        created_ms: 1,
        machine: Sha256(machine.public()),
        next_slot: 1,
        slots: Vec::new(),
    };
    let (lock, own) = (Lock::StaticFile {}, slots::file_key(&[5; 32]).unwrap());
    header.slots.push(slots::wrap(&header, 0, String::new(), 1, lock, [6; 32], (&own, &data())).unwrap());
    let record = Machine { public: header.machine, created_ms: 1, facts: Default::default() };
    let seed = seal_machine(&data(), &header.vault.0, &machine).unwrap();
    let mut contents = vec![content(&[(Op::Machine(record), seed)])];
    for at in 1..FRAMES {
        let secret = secret(at);
        let value = Op::Value { name: secret.name.clone(), version: 1 };
        let sealed = vec![u8::try_from(at).unwrap(); 60_000];
        contents.push(content(&[(Op::Secret { secret }, Vec::new()), (value, sealed)]));
    }
    change(&mut contents);
    let (bytes, _) = format::file(&mut header, &data(), &contents).unwrap();
    assert!(bytes.len() > 3 * AT_ONCE);
    bytes
}

fn raw(bytes: &[u8]) -> Raw {
    Raw::parse(bytes.to_vec(), Path::new("vault")).unwrap()
}

fn refused(bytes: &[u8]) -> FormatError {
    raw(bytes).contents(&data(), BOOT, None).map(|contents| contents.opened.epoch).unwrap_err()
}

#[test]
fn two_threads_open_what_one_does() {
    let bytes = file(|_| {});
    let raw = raw(&bytes);
    let (mut one, mut two) = (Vec::new(), Vec::new());
    let keep = |all: &mut Vec<Vec<u8>>, content: &[u8]| {
        all.push(content.to_vec());
        Ok(())
    };
    let first = raw.frames(&data(), &mut |content| keep(&mut one, content)).unwrap();
    let second = raw.frames_apart(&data(), &mut |content| keep(&mut two, content)).unwrap();
    assert_eq!((first.end, first.frames, first.torn), (second.end, second.frames, second.torn));
    assert_eq!(one, two);
    let state = raw.contents(&data(), BOOT, None).unwrap().state;
    assert_eq!(state.secrets.len(), FRAMES - 1);
    let value = |at: usize| state.secrets.get(&secret(at).name).and_then(|secret| secret.values.get(1));
    assert!((1..FRAMES).all(|at| value(at) == Some(&[u8::try_from(at).unwrap(); 60_000][..])));
}

#[test]
fn a_changed_byte_is_found_by_two_threads_as_by_one() {
    let bytes = file(|_| {});
    for at in [bytes.len() / 7, bytes.len() / 2, bytes.len() - 1] {
        let mut bytes = bytes.clone();
        bytes[at] ^= 1;
        let one = raw(&bytes).open(&data()).map(drop).unwrap_err();
        assert_eq!(refused(&bytes), one);
    }
    let torn = &bytes[..bytes.len() - 1];
    assert_eq!(refused(torn), raw(torn).open(&data()).map(drop).unwrap_err());
}

/// Whichever thread finds something first: what stands first in the file is what is said.
#[test]
fn the_first_thing_that_is_wrong_is_the_one_that_is_told() {
    for at in [3, FRAMES / 2, FRAMES - 2] {
        let mut bytes = file(|contents| {
            contents[at] = content(&[(Op::Value { name: secret(0).name, version: 1 }, vec![1])])
        });
        *bytes.last_mut().unwrap() ^= 1;
        let error = refused(&bytes).to_string();
        assert!(error.contains("secret-0"), "{at}: {error}");
    }
    // A change does not go on in the next frame.
    let bytes = file(|contents| {
        let rest = contents[4].split_off(10);
        contents[5].splice(0..0, rest);
    });
    assert!(matches!(refused(&bytes), FormatError::Frame { what: "a frame ends within a part", .. }));
}
