//! Signed notes, keys, checkpoints, cosignatures and proofs as text: published ones, and what has to be refused.

mod common;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::{Memory, leaves};
use octant_tlog::checkpoint::{
    Checkpoint, CheckpointError, Signed, cosign, hash_from_base64, hash_to_base64, number_from_text, sign,
};
use octant_tlog::merkle::{EMPTY_ROOT, ProofError, inclusion};
use octant_tlog::note::{
    Algorithm, KeyError, LINE_BYTES, Note, NoteError, NoteKey, SIGNATURES, Signature, TEXT_BYTES, Verifier,
    VerifyError,
};
use octant_tlog::proof::{InclusionError, InclusionProof};
use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};
use proptest::sample::Index;

/// The keys of the example of Go's package golang.org/x/mod/sumdb/note.
const PETER: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
const PETER_PRIVATE: &str = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz";
const PETER_NOTE: &str = include_str!("../../../tests/corpus/note/ok-published-go");
/// The example of C2SP signed-note.
const C2SP: &str = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
const C2SP_NOTE: &str = include_str!("../../../tests/corpus/note/ok-published-c2sp");
/// A checkpoint that a public log published, and the public keys of the log and of its witnesses.
const WITNESSED: &str = include_str!("../../../tests/corpus/checkpoint/ok-published-witnessed");
const WITNESSED_LOG: &str =
    "arche2025h1.staging.ct.transparency.dev+ba2f06c0+AU0vHmlGCS/PdN8b2OaGmKprLI8HKM+dJ472xgFYh15f";
const WITNESSES: [&str; 4] = [
    "transparency.dev/DEV:witness-little-garden+d8042a87+BCtusOxINQNUTN5Oj8HObRkh2yHf/MwYaGX4CPdiVEPM",
    "witness1.smartit.nu/witness1+a48c820f+BPSFWg9G6KPiO7QPryYO5Xq4oYJJ+kAvLKLSimDhoxMO",
    "remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2",
    "witness.stagemole.eu+67f7aea0+BEqSG3yu9YrmcM3BHvQYTxwFj3uSWakQepafafpUqklv",
];

fn log() -> NoteKey {
    NoteKey::from_seed("octant/0123456789abcdef", [7; 32]).unwrap()
}

fn witness(n: u8) -> NoteKey {
    NoteKey::cosigner(&format!("witness.example/w{n}"), [100 + n; 32]).unwrap()
}

fn checkpoint() -> Checkpoint {
    let root = Memory::of(&leaves(1000)).frontier.root();
    Checkpoint { origin: log().name().into(), size: 1000, root, extensions: vec![] }
}

fn verifier(text: &str) -> Verifier {
    text.parse().unwrap()
}

#[test]
fn published_notes_and_keys() {
    for (key, note, name) in [(PETER, PETER_NOTE, "PeterNeumann"), (C2SP, C2SP_NOTE, "example.com/foo")] {
        let key = verifier(key);
        assert_eq!((key.name(), key.algorithm()), (name, Algorithm::Ed25519));
        let note = Note::parse(note).unwrap();
        assert_eq!(note.signed_by(&key), Ok(None));
    }
    let key = NoteKey::from_text(PETER_PRIVATE).unwrap();
    assert_eq!(key.to_text(), PETER_PRIVATE);
    assert_eq!(key.verifier(), verifier(PETER));
    assert_eq!(format!("{key:?}"), format!("NoteKey({PETER})"), "a private key is never shown");
}

/// Four witnesses of other people, and a log with a signature of an algorithm that is not spoken here.
#[test]
fn a_published_checkpoint_with_its_witnesses() {
    let signed = Signed::open(WITNESSED, &verifier(WITNESSED_LOG)).unwrap();
    assert_eq!(signed.checkpoint.size, 1_432_088_532);
    assert_eq!(signed.to_text(), WITNESSED);
    let witnesses = WITNESSES.map(verifier);
    for witness in &witnesses {
        assert_eq!(witness.algorithm(), Algorithm::CosignatureV1);
        assert_eq!(signed.cosigned_by(witness), Ok(0x6a12_2120), "{witness}");
    }
    assert_eq!(signed.cosigners(&witnesses).len(), 4);
    let changed = WITNESSED.replacen("1432088532", "1432088533", 1);
    assert!(Signed::open(&changed, &verifier(WITNESSED_LOG)).is_err());
    assert!(Signed::parse_unverified(&changed).unwrap().cosigners(&witnesses).is_empty());
}

#[test]
fn the_cosignature_of_a_fixed_key_is_pinned() {
    let line = cosign(&witness(1), &checkpoint().to_text(), 1_700_000_000);
    let signature = Signature::parse_lines(&line).unwrap().remove(0);
    assert_eq!(signature.bytes.len(), 72);
    assert_eq!(signature.bytes[..8], 1_700_000_000_u64.to_be_bytes());
    let message = format!("cosignature/v1\ntime 1700000000\n{}", checkpoint().to_text());
    let key = ed25519_dalek::VerifyingKey::try_from(witness(1).verifier().public_key()).unwrap();
    let bytes: &[u8; 64] = signature.bytes[8..].try_into().unwrap();
    assert!(key.verify_strict(message.as_bytes(), &ed25519_dalek::Signature::from_bytes(bytes)).is_ok());
}

#[test]
fn keys_that_were_damaged_are_refused() {
    for (text, error) in [
        ("", KeyError::Verifier),
        ("name", KeyError::Verifier),
        ("+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW", KeyError::Name),
        ("a b+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW", KeyError::Name),
        ("PeterNeumann+c74f20a3", KeyError::Verifier),
        ("PeterNeumann+c74f20a3+", KeyError::Verifier),
        ("PeterNeumann+C74F20A3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW", KeyError::Verifier),
        ("PeterNeumann+0c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW", KeyError::Verifier),
        ("PeterNeumann++74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW", KeyError::Verifier),
        ("PeterNeumann+c74f20a4+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW", KeyError::Id),
        ("peterneumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW", KeyError::Id),
        // The same key as that of a witness: the id is another.
        ("PeterNeumann+c74f20a3+BBpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW", KeyError::Id),
        // A key that is longer, with the id that fits.
        ("PeterNeumann+cc469956+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TWBADKEY==", KeyError::Verifier),
        ("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW\n", KeyError::Verifier),
        // The neutral point: every signature of some forms holds for it.
        ("zero+00000000+AQEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", KeyError::Point),
        ("short+00000000+AQEAAAA=", KeyError::Point),
    ] {
        assert_eq!(text.parse::<Verifier>(), Err(error), "{text}");
    }
    for text in ["", PETER, "PRIVATE+KEY+", "PRIVATE+KEY+PeterNeumann+c74f20a3", &PETER_PRIVATE[..70]] {
        assert!(NoteKey::from_text(text).is_err(), "{text}");
    }
    let other_id = PETER_PRIVATE.replace("c74f20a3", "c74f20a4");
    assert!(matches!(NoteKey::from_text(&other_id), Err(KeyError::Id)));
    let long = format!("PRIVATE+KEY+{}", "a".repeat(LINE_BYTES));
    assert!(matches!(NoteKey::from_text(&long), Err(KeyError::Private)));
    for name in ["", "a b", "a+b", "a\nb", "a\u{a0}b", "a\tb"] {
        assert!(matches!(NoteKey::from_seed(name, [1; 32]), Err(KeyError::Name)), "{name:?}");
    }
}

/// ML-DSA-44: such a key is read, its signature is carried, and neither says anything here.
#[test]
fn algorithms_of_others_are_carried() {
    let bytes = STANDARD.encode([&[0x06][..], &[0x5a; 1312]].concat());
    let other = verifier(&format!("witness.example/pq+01020304+{bytes}"));
    assert_eq!((other.algorithm(), other.key_id()), (Algorithm::Other(6), 0x0102_0304));
    let name = other.name().to_owned();
    let line = Signature { name: name.clone(), key_id: other.key_id(), bytes: vec![1; 2428] };
    let mut signed = Signed::open(&sign(&log(), &checkpoint()), &log().verifier()).unwrap();
    assert_eq!(signed.add(&format!("{line}\n")), Ok(1));
    let signed = Signed::open(&signed.to_text(), &log().verifier()).unwrap();
    let unspoken = VerifyError::Algorithm { name, algorithm: Algorithm::Other(6) };
    assert_eq!(signed.note.signed_by(&other), Err(unspoken));
    assert!(matches!(signed.cosigned_by(&other), Err(CheckpointError::Key { .. })));
    assert!(signed.cosigners(&[other]).is_empty());
}

#[test]
fn only_the_log_itself_opens_its_checkpoint() {
    let text = sign(&log(), &checkpoint());
    let signed = Signed::open(&text, &log().verifier()).unwrap();
    assert_eq!(signed.checkpoint, checkpoint());
    assert_eq!(signed.to_text(), text);

    let namesake = NoteKey::from_seed(log().name(), [8; 32]).unwrap().verifier();
    let absent = CheckpointError::Signature(VerifyError::Absent(log().name().into()));
    assert_eq!(Signed::open(&text, &namesake), Err(absent));
    let other = NoteKey::from_seed("octant/ffffffffffffffff", [7; 32]).unwrap();
    assert!(matches!(Signed::open(&text, &other.verifier()), Err(CheckpointError::Origin { .. })));
    // Another log's key under this log's origin: signed, but not by whom it says.
    let forged = sign(&other, &checkpoint());
    assert!(matches!(Signed::open(&forged, &other.verifier()), Err(CheckpointError::Origin { .. })));
    assert!(matches!(Signed::open(&forged, &log().verifier()), Err(CheckpointError::Signature(_))));
    // A witness's key is not a log's key, though it may have the log's name.
    let same = NoteKey::cosigner(log().name(), [7; 32]).unwrap();
    assert!(matches!(Signed::open(&text, &same.verifier()), Err(CheckpointError::Key { .. })));
}

#[test]
fn a_cosignature_is_for_its_time_and_its_text() {
    let mut signed = Signed::open(&sign(&log(), &checkpoint()), &log().verifier()).unwrap();
    let key = witness(1).verifier();
    let absent = CheckpointError::Signature(VerifyError::Absent(key.name().into()));
    assert_eq!(signed.cosigned_by(&key), Err(absent));
    let line = cosign(&witness(1), &signed.note.text, 1_700_000_000);
    assert_eq!(signed.add(&line), Ok(1));
    assert_eq!(signed.add(&line), Ok(0));
    assert_eq!(signed.add(&line.repeat(SIGNATURES)), Ok(0));
    assert_eq!(signed.cosigned_by(&key), Ok(1_700_000_000));
    signed.add(&cosign(&witness(1), &signed.note.text, 1_600_000_000)).unwrap();
    assert_eq!(signed.cosigned_by(&key), Ok(1_700_000_000), "the newest counts");
    assert!(matches!(signed.cosigned_by(&log().verifier()), Err(CheckpointError::Key { .. })));

    let wrong = Err(CheckpointError::Signature(VerifyError::Wrong(key.name().into())));
    let with = |change: &dyn Fn(&mut Signature)| {
        let mut signature = Signature::parse_lines(&line).unwrap().remove(0);
        change(&mut signature);
        let mut signed = Signed::parse_unverified(&sign(&log(), &checkpoint())).unwrap();
        signed.add(&format!("{signature}\n")).unwrap();
        signed.cosigned_by(&key)
    };
    assert_eq!(with(&|_| ()), Ok(1_700_000_000));
    assert_eq!(with(&|s| s.bytes[7] ^= 1), wrong, "another time");
    assert_eq!(with(&|s| s.bytes[8] ^= 1), wrong, "another signature");
    assert_eq!(with(&|s| s.bytes.truncate(71)), wrong);
    assert_eq!(with(&|s| s.bytes.push(0)), wrong);
    assert_eq!(with(&|s| s.bytes.truncate(1)), wrong);

    let mut other = Checkpoint { size: 1001, ..checkpoint() };
    let mut elsewhere = Signed::open(&sign(&log(), &other), &log().verifier()).unwrap();
    elsewhere.add(&line).unwrap();
    assert_eq!(elsewhere.cosigned_by(&key), wrong, "another size");
    other = Checkpoint { extensions: vec!["more".into()], ..checkpoint() };
    let mut elsewhere = Signed::open(&sign(&log(), &other), &log().verifier()).unwrap();
    elsewhere.add(&line).unwrap();
    assert_eq!(elsewhere.cosigned_by(&key), wrong, "another extension");
}

/// A wrong line under the name and id of a key does not hide the right one: whoever carries a checkpoint could
/// otherwise make it useless.
#[test]
fn a_wrong_line_hides_nothing() {
    let text = sign(&log(), &checkpoint());
    let (body, line) = text.split_once("\n\n").unwrap();
    let mut forged = Signature::parse_lines(line).unwrap().remove(0);
    forged.bytes[0] ^= 1;
    for lines in [format!("{forged}\n{line}"), format!("{line}{forged}\n")] {
        assert!(Signed::open(&format!("{body}\n\n{lines}"), &log().verifier()).is_ok());
    }
    let wrong = CheckpointError::Signature(VerifyError::Wrong(log().name().into()));
    assert_eq!(Signed::open(&format!("{body}\n\n{forged}\n"), &log().verifier()), Err(wrong));
}

/// One holder of a key under several names is one witness.
#[test]
fn a_quorum_counts_keys_and_not_names() {
    let mut signed = Signed::open(&sign(&log(), &checkpoint()), &log().verifier()).unwrap();
    let names = ["witness.example/a", "witness.example/b", "witness.example/c"];
    let keys = names.map(|name| NoteKey::cosigner(name, [3; 32]).unwrap());
    for key in &keys {
        signed.add(&cosign(key, &signed.note.text, 1)).unwrap();
    }
    signed.add(&cosign(&witness(1), &signed.note.text, 2)).unwrap();
    let mut all: Vec<_> = keys.iter().map(NoteKey::verifier).collect();
    all.extend([witness(1).verifier(), witness(1).verifier(), witness(2).verifier(), log().verifier()]);
    let have: Vec<_> = signed.cosigners(&all).iter().map(|key| key.name()).collect();
    assert_eq!(have, ["witness.example/a", "witness.example/w1"]);
}

/// A signature whose random point is the neutral one. The plain equation of RFC 8032 holds for it, and whoever has the
/// key can make one; strict verification refuses it, so that implementations do not differ about it.
#[test]
fn a_signature_of_low_order_is_refused() {
    const LOW: &str = "— octant/0123456789abcdef OfVNvAEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAASSKZduSrlFpt0is6Hldu58bFiE57/8KdN158gYP0Gw4=";
    let note = Note::parse(&format!("text\n\n{LOW}\n")).unwrap();
    let key = log().verifier();
    let point = ed25519_dalek::VerifyingKey::try_from(key.public_key()).unwrap();
    let bytes: &[u8; 64] = note.signatures[0].bytes.as_slice().try_into().unwrap();
    let signature = ed25519_dalek::Signature::from_bytes(bytes);
    assert!(ed25519_dalek::Verifier::verify(&point, b"text\n", &signature).is_ok(), "the equation holds");
    assert_eq!(note.signed_by(&key), Err(VerifyError::Wrong(key.name().into())));
}

#[test]
fn notes_beyond_the_limits_are_refused() {
    let line = "— a AAAAAAA=\n";
    let with_text = |length: usize| format!("{}\n\n{line}", "a".repeat(length - 1));
    assert_eq!(Note::parse(&with_text(TEXT_BYTES)).map(|note| note.text.len()), Ok(TEXT_BYTES));
    assert_eq!(Note::parse(&with_text(TEXT_BYTES + 1)), Err(NoteError::TooLong(TEXT_BYTES + 1)));
    let huge = with_text(TEXT_BYTES + SIGNATURES * LINE_BYTES);
    assert_eq!(Note::parse(&huge), Err(NoteError::TooLong(huge.len())));
    assert_eq!(Note::parse(&format!("a\n\n{}", line.repeat(101))), Err(NoteError::TooMany));
    let long = format!("a\n\n{line}— a {}\n", "AAAA".repeat(LINE_BYTES / 4));
    assert_eq!(Note::parse(&long), Err(NoteError::Line(2)));
    assert_eq!(Note::parse("a\tb\n\n"), Err(NoteError::Control(1)));

    let mut signed = Signed::parse_unverified(&sign(&log(), &checkpoint())).unwrap();
    let lines: String = (0_u8..100).map(|n| cosign(&witness(n), "", 0)).collect();
    assert_eq!(signed.add(&lines), Err(CheckpointError::TooMany));
    assert_eq!(signed.note.signatures.len(), 1, "nothing is added then");
    assert_eq!(signed.add("— a AAAA\n"), Err(CheckpointError::Note(NoteError::Line(1))));
    assert_eq!(signed.add("— a AAAAAAA="), Err(CheckpointError::Note(NoteError::Line(1))));
    assert_eq!(signed.add(""), Ok(0));
}

#[test]
fn numbers_and_hashes_have_one_form() {
    for (text, number) in [("0", 0), ("7", 7), ("9223372036854775807", i64::MAX.cast_unsigned())] {
        assert_eq!(number_from_text(text), Some(number));
    }
    for text in [
        "",
        "00",
        "01",
        "+1",
        "-1",
        " 1",
        "1 ",
        "1_0",
        "0x1",
        "١",
        "9223372036854775808",
        "99999999999999999999",
    ] {
        assert_eq!(number_from_text(text), None, "{text:?}");
    }
    let text = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
    assert_eq!(hash_from_base64(text), Some(EMPTY_ROOT));
    assert_eq!(hash_to_base64(&EMPTY_ROOT), text);
    for bad in [
        "",
        &text[..43],
        &text[1..],
        "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFV=",
        &text.repeat(100),
        &text.replace('/', "_"),
    ] {
        assert_eq!(hash_from_base64(bad), None, "{bad}");
    }
}

fn proof() -> InclusionProof {
    let tree = Memory::of(&leaves(1000));
    let hashes = inclusion(&tree, 577, 1000).unwrap();
    InclusionProof { index: 577, hashes, checkpoint: sign(&log(), &checkpoint()) }
}

#[test]
fn a_proof_as_text_proves_its_entry_and_no_other() {
    let (proof, leaves) = (proof(), leaves(1000));
    let again = InclusionProof::parse(&proof.to_text()).unwrap();
    assert_eq!(again, proof);
    let signed = again.verify(&leaves[577], &log().verifier()).unwrap();
    assert_eq!(signed.checkpoint, checkpoint());
    let wrong = again.verify(&leaves[578], &log().verifier());
    assert!(matches!(wrong, Err(InclusionError::Proof(ProofError::Root { .. }))));
    let elsewhere = InclusionProof { index: 578, ..proof.clone() }.verify(&leaves[577], &log().verifier());
    assert!(matches!(elsewhere, Err(InclusionError::Proof(ProofError::Root { .. }))));
    let outside = InclusionProof { index: 1000, ..proof.clone() }.verify(&leaves[577], &log().verifier());
    assert!(matches!(outside, Err(InclusionError::Proof(ProofError::Outside { .. }))));
    let stranger = NoteKey::from_seed(log().name(), [8; 32]).unwrap().verifier();
    assert!(matches!(proof.verify(&leaves[577], &stranger), Err(InclusionError::Checkpoint(_))));
    // Extra data says nothing and is left out.
    let extra = proof.to_text().replacen("\nindex", "\nextra b3BhcXVl\nindex", 1);
    assert_eq!(InclusionProof::parse(&extra), Ok(proof));
}

proptest! {
    #[test]
    fn any_key_text_round_trips(seed in any::<[u8; 32]>(), name in "[!-*,-~à-ÿ東京]{1,40}", cosigner in any::<bool>()) {
        let key = if cosigner { NoteKey::cosigner(&name, seed) } else { NoteKey::from_seed(&name, seed) }.unwrap();
        let again = NoteKey::from_text(&(key.to_text() + "\n")).unwrap();
        prop_assert_eq!(again.to_text(), key.to_text());
        prop_assert_eq!(again.verifier(), key.verifier());
        prop_assert_eq!(key.verifier().to_string().parse(), Ok(key.verifier()));
    }

    #[test]
    fn any_checkpoint_round_trips_and_no_byte_of_it_can_be_changed(
        size in 1_u64..1 << 63, root in any::<[u8; 32]>(), extensions in proptest::collection::vec("[ -~]{1,20}", 0..4),
        at in any::<Index>(), byte in any::<u8>(), time in any::<u64>()
    ) {
        let wanted = Checkpoint { origin: log().name().into(), size, root: octant_ids::Sha256(root), extensions };
        let mut signed = Signed::open(&sign(&log(), &wanted), &log().verifier()).unwrap();
        prop_assert_eq!(&signed.checkpoint, &wanted);
        signed.add(&cosign(&witness(1), &signed.note.text, time)).unwrap();
        let text = signed.to_text();
        prop_assert_eq!(Signed::open(&text, &log().verifier()).unwrap(), signed);
        let mut bytes = text.clone().into_bytes();
        let at = at.index(bytes.len());
        let own = bytes[at] != byte;
        bytes[at] = byte;
        if let Ok(text) = str::from_utf8(&bytes) && own {
            let log = Signed::open(text, &log().verifier());
            let witness = log.as_ref().is_ok_and(|signed| signed.cosigned_by(&witness(1).verifier()).is_ok());
            prop_assert!(!witness, "byte {} does not matter", at);
        }
    }

    #[test]
    fn any_text_is_answered(text in any::<String>(), lines in "(— [a+ ]{0,3} [A-Za-z0-9+/=]{0,12}\n|.{0,9}\n){0,5}") {
        for text in [text, lines] {
            let _ = Signature::parse_lines(&text);
            let _ = Checkpoint::parse(&text);
            octant_tlog::fuzz::note(text.as_bytes());
            octant_tlog::fuzz::checkpoint(text.as_bytes());
            octant_tlog::fuzz::proof(text.as_bytes());
            octant_tlog::fuzz::note(format!("text\n\n{text}").as_bytes());
            octant_tlog::fuzz::checkpoint(format!("a\n1\n{text}\n\n— a AAAAAAA=\n").as_bytes());
            octant_tlog::fuzz::proof(format!("c2sp.org/tlog-proof@v1\nindex 1\n{text}").as_bytes());
        }
    }
}
