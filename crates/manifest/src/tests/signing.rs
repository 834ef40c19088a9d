//! Envelopes, keys, audience.

use super::{authentic, here, key, trusts, with};
use crate::{
    Audience, Envelope, EnvelopeError, KeyFileError, PAYLOAD_TYPE, PrivateKeyError, Problem, SigningKey,
    TrustedKeys, VerifyError, limits, pae, sign, template,
};
use serde_json::{Value, json};

fn envelope() -> Value {
    let text = template("hello", "analyst", "ada");
    serde_json::from_slice(&sign(text.as_bytes(), &[&key(1)])).unwrap()
}

fn parse(value: &Value) -> Result<Envelope, EnvelopeError> {
    Envelope::parse(value.to_string().as_bytes())
}

fn verdict(value: &Value) -> Result<(), VerifyError> {
    parse(value).unwrap().verify(&trusts(&key(1), "analyst"), &here()).map(|_| ())
}

#[test]
fn what_is_signed_is_dsses_encoding() {
    // The example of DSSE's protocol.md.
    let encoded = pae("http://example.com/HelloWorld", b"hello world");
    assert_eq!(encoded, b"DSSEv1 29 http://example.com/HelloWorld 11 hello world");
}

#[test]
fn a_key_is_that_of_rfc_8032() {
    // Test 1 of RFC 8032, 7.1.
    let seed = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
    let seed: octant_ids::Sha256 = seed.parse().unwrap();
    let file = SigningKey::from_seed(seed.0).public_file("ada", "admin");
    assert_eq!(file, "ed25519 11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo= ada role=admin\n");
}

#[test]
fn a_private_key_file_round_trips_and_never_shows_itself() {
    let one = key(9);
    let file = one.private_file();
    assert_eq!(SigningKey::from_private_file(&file).unwrap().id(), one.id());
    let seed = file.split_whitespace().nth(1).unwrap();
    assert!(!format!("{one:?}").contains(seed));
    assert_eq!(SigningKey::from_private_file("ed25519 x").unwrap_err(), PrivateKeyError::Form);
    assert_eq!(
        SigningKey::from_private_file("octant-ed25519-private AAAA").unwrap_err(),
        PrivateKeyError::Seed
    );
    let long = format!("octant-ed25519-private {}", "A".repeat(400));
    assert_eq!(SigningKey::from_private_file(&long).unwrap_err(), PrivateKeyError::Seed);
}

#[test]
fn a_good_envelope_passes_in_either_alphabet_and_with_fields_of_others() {
    assert_eq!(verdict(&envelope()), Ok(()));
    let mut value = envelope();
    value["comment"] = json!({"from": "another implementation"});
    value["signatures"][0]["keyid"] = json!("");
    for field in ["/payload", "/signatures/0/sig"] {
        let text = value.pointer(field).unwrap().as_str().unwrap();
        let url_safe = text.replace('+', "-").replace('/', "_").replace('=', "");
        *value.pointer_mut(field).unwrap() = json!(url_safe);
    }
    assert_eq!(verdict(&value), Ok(()));
}

#[test]
fn an_envelope_is_refused_by_its_form() {
    let change = |pointer: &str, to: Value| {
        let mut value = envelope();
        *value.pointer_mut(pointer).unwrap() = to;
        parse(&value).map(|_| ()).unwrap_err()
    };
    let toml = template("hello", "analyst", "ada");
    assert!(matches!(Envelope::parse(toml.as_bytes()).unwrap_err(), EnvelopeError::Unsigned(_)));
    assert!(matches!(Envelope::parse(b"").unwrap_err(), EnvelopeError::Unsigned(_)));
    assert!(matches!(change("/signatures", json!([])), EnvelopeError::Unsigned(_)));
    assert!(matches!(change("/signatures", json!(1)), EnvelopeError::Json { .. }));
    assert!(matches!(Envelope::parse(b"{\"payload\":").unwrap_err(), EnvelopeError::Json { line: 1, .. }));
    let other = change("/payloadType", json!("application/vnd.in-toto+json"));
    assert_eq!(
        other,
        EnvelopeError::PayloadType { found: "application/vnd.in-toto+json".into(), wanted: PAYLOAD_TYPE }
    );
    assert_eq!(change("/payload", json!("%")), EnvelopeError::Base64("payload".into()));
    assert_eq!(change("/signatures/0/sig", json!("%")), EnvelopeError::Base64("signatures[0].sig".into()));
    let short = EnvelopeError::SignatureLength { index: 0, bytes: 3 };
    assert_eq!(change("/signatures/0/sig", json!("AAAA")), short);
    let many = vec![envelope()["signatures"][0].clone(); limits::SIGNATURES + 1];
    assert_eq!(change("/signatures", json!(many)), EnvelopeError::TooManySignatures(limits::SIGNATURES + 1));
    let long = "A".repeat((limits::MANIFEST_BYTES + 3) / 3 * 4);
    assert!(matches!(change("/payload", json!(long)), EnvelopeError::PayloadTooLarge { .. }));
    let huge = vec![b' '; limits::ENVELOPE_BYTES + 1];
    assert_eq!(Envelope::parse(&huge).unwrap_err(), EnvelopeError::TooLarge(limits::ENVELOPE_BYTES + 1));
}

#[test]
fn the_payload_type_is_part_of_what_is_signed() {
    // A signature made over the same bytes under another type does not count for this one.
    let text = template("hello", "analyst", "ada");
    let signature = key(1).sign(&pae("text/plain", text.as_bytes()));
    let mut value = envelope();
    assert_eq!(value["payloadType"], PAYLOAD_TYPE);
    use base64::Engine;
    value["signatures"][0]["sig"] = json!(base64::engine::general_purpose::STANDARD.encode(signature));
    assert_eq!(verdict(&value), Err(VerifyError::Tampered { operator: "ada".into() }));
}

#[test]
fn an_altered_bit_is_noticed_wherever_it_is() {
    let text = template("hello", "analyst", "ada").into_bytes();
    let keys = trusts(&key(1), "analyst");
    let signature = envelope()["signatures"].clone();
    use base64::Engine;
    // A stride that meets every section and every bit of a byte.
    for at in (0..text.len()).step_by(19) {
        let mut altered = text.clone();
        altered[at] ^= 1 << (at % 8);
        let payload = base64::engine::general_purpose::STANDARD.encode(altered);
        let value = json!({"payload": payload, "payloadType": PAYLOAD_TYPE, "signatures": signature});
        let verdict = parse(&value).unwrap().verify(&keys, &here());
        assert_eq!(verdict.unwrap_err(), VerifyError::Tampered { operator: "ada".into() }, "byte {at}");
    }
}

#[test]
fn an_unknown_key_a_revoked_key_and_no_key_are_told_apart() {
    let text = template("hello", "analyst", "ada");
    let by = |who: &SigningKey| Envelope::parse(&sign(text.as_bytes(), &[who])).unwrap();
    let keys = trusts(&key(1), "analyst");
    let stranger = by(&key(2)).verify(&keys, &here()).unwrap_err();
    assert_eq!(stranger, VerifyError::UnknownKey(key(2).id().to_string()));
    let nobody = by(&key(1)).verify(&TrustedKeys::default(), &here()).unwrap_err();
    assert_eq!(nobody, VerifyError::NoTrustedKeys);

    let revoked = format!("# lost laptop\n{} stolen\n", key(1).id());
    let files = [
        ("ada.pub".to_owned(), key(1).public_file("ada", "analyst")),
        ("bob.pub".to_owned(), key(3).public_file("bob", "analyst")),
        ("revoked".to_owned(), revoked.clone()),
    ];
    let keys = TrustedKeys::from_files(&files).unwrap();
    let expected = VerifyError::RevokedKey { id: key(1).id(), reason: "stolen".into() };
    assert_eq!(by(&key(1)).verify(&keys, &here()).unwrap_err(), expected);
    // Also when the public key's file is gone and only the hint tells.
    let files =
        [("bob.pub".to_owned(), key(3).public_file("bob", "analyst")), ("revoked".to_owned(), revoked)];
    let without = TrustedKeys::from_files(&files).unwrap();
    assert_eq!(by(&key(1)).verify(&without, &here()).unwrap_err(), expected);
    // A good signature beside it counts; the revoked one gives no name.
    let both = Envelope::parse(&sign(text.as_bytes(), &[&key(1), &key(3)])).unwrap();
    let authentic = both.verify(&keys, &here()).unwrap();
    assert_eq!(authentic.signers().iter().map(|s| s.operator.as_str()).collect::<Vec<_>>(), ["bob"]);
    let problem = authentic.declare().unwrap_err().0.remove(0).problem;
    assert_eq!(problem, Problem::Operator { named: "ada".into(), signed: "bob".into() });
}

#[test]
fn the_key_identifier_is_only_a_hint() {
    let mut value = envelope();
    value["signatures"][0]["keyid"] = json!(key(2).id().to_string());
    assert_eq!(verdict(&value), Ok(()), "a wrong hint does not harm a good signature");
    let text = template("hello", "analyst", "ada");
    let mut forged: Value = serde_json::from_slice(&sign(text.as_bytes(), &[&key(2)])).unwrap();
    forged["signatures"][0]["keyid"] = json!(key(1).id().to_string());
    assert_eq!(verdict(&forged), Err(VerifyError::Tampered { operator: "ada".into() }));
}

#[test]
fn the_audience_decides_where_when() {
    let at = |text: &str, machine, now_ms| {
        let keys = trusts(&key(1), "analyst");
        let envelope = Envelope::parse(&sign(text.as_bytes(), &[&key(1)])).unwrap();
        envelope.verify(&keys, &Audience { machine, now_ms }).map(|_| ())
    };
    let named =
        with("machines = [\"*\"]", "machines = [\"m1\", \"m2\"]\nnot_before = 2030-01-01T01:00:00+01:00");
    let from = 1_893_456_000_000; // 2030-01-01T00:00:00Z
    let until = 2_051_222_400_000; // 2035-01-01T00:00:00Z
    assert_eq!(at(&named, "m1", from), Ok(()));
    assert_eq!(at(&named, "m2", until - 1), Ok(()));
    let early = VerifyError::NotYetValid { not_before_ms: from, now_ms: from - 1 };
    assert_eq!(at(&named, "m1", from - 1), Err(early));
    assert_eq!(at(&named, "m1", until), Err(VerifyError::Expired { not_after_ms: until, now_ms: until }));
    let machines = vec!["m1".to_owned(), "m2".to_owned()];
    assert_eq!(at(&named, "m3", from), Err(VerifyError::WrongAudience { machine: "m3".into(), machines }));
    let nowhere = with("machines = [\"*\"]", "machines = []");
    assert!(matches!(at(&nowhere, "m1", 0), Err(VerifyError::WrongAudience { .. })));
    let damaged = with("max_spawns = 100", "max_spawns = ");
    assert!(matches!(at(&damaged, "m1", 0), Err(VerifyError::Manifest(_))));
}

#[test]
fn a_trusted_set_that_is_not_understood_trusts_nobody() {
    let files = |rows: &[(&str, &str)]| {
        let rows: Vec<_> = rows.iter().map(|(n, t)| ((*n).to_owned(), (*t).to_owned())).collect();
        TrustedKeys::from_files(&rows).map(|keys| keys.len())
    };
    let good = key(1).public_file("ada", "admin");
    let other = key(1).public_file("bob", "admin");
    assert_eq!(files(&[("ada.pub", &format!("# ada's laptop\n\n{good}"))]), Ok(1));
    assert_eq!(files(&[("revoked.txt", "")]), Err(KeyFileError::Stray("revoked.txt".into())));
    assert_eq!(files(&[("a.pub", "# none\n")]), Err(KeyFileError::Empty("a.pub".into())));
    let twice = KeyFileError::Twice { file: "b.pub".into(), id: key(1).id() };
    assert_eq!(files(&[("a.pub", &good), ("b.pub", &other)]), Err(twice));
    assert!(matches!(files(&[("revoked", "\nnonsense")]), Err(KeyFileError::Revocation { line: 2, .. })));
    let weak = format!("ed25519 AQ{}= ada", "A".repeat(41));
    let lines = [
        "rsa AAAA ada",
        "ed25519 AAAA ada",
        "ed25519 %%%% ada",
        "ed25519 AAAA ada admin",
        "ed25519 AAAA Ada/../x",
        &weak,
        &format!("{good}{other}"),
    ];
    for line in lines {
        let error = files(&[("a.pub", line)]).unwrap_err();
        assert!(matches!(error, KeyFileError::Line { .. }), "{line}: {error}");
    }
    let many: Vec<_> = (0..=limits::KEY_FILES).map(|i| (format!("{i}.pub"), String::new())).collect();
    assert!(matches!(TrustedKeys::from_files(&many), Err(KeyFileError::TooMany(_))));
    let long = "#".repeat(limits::KEY_FILE_BYTES + 1);
    assert!(matches!(files(&[("a.pub", &long)]), Err(KeyFileError::TooLarge { .. })));
}

#[test]
fn a_signature_of_another_operator_than_the_named_one_does_not_count() {
    let text = with("operator = \"ada\"", "operator = \"eve\"");
    let error = authentic(&text, "analyst").unwrap().declare().unwrap_err();
    assert_eq!(error.0[0].problem, Problem::Operator { named: "eve".into(), signed: "ada".into() });
}

#[test]
fn a_key_counts_until_its_time_and_its_operator_goes_on_with_the_next() {
    let text = template("hello", "analyst", "ada");
    let until = |date: &str| {
        let line = key(1).public_file("ada", "analyst");
        let files = [
            ("ada.pub".to_owned(), format!("{} until={date}\n", line.trim_end())),
            ("ada-2.pub".to_owned(), key(2).public_file("ada", "analyst")),
        ];
        TrustedKeys::from_files(&files)
    };
    let by = |who: &[&SigningKey], keys: &TrustedKeys| {
        Envelope::parse(&sign(text.as_bytes(), who)).unwrap().verify(keys, &here())
    };
    // It is 2027-01-15T08:00:00Z here.
    let keys = until("2027-01-15T08:00:00Z").unwrap();
    let error = by(&[&key(1)], &keys).unwrap_err();
    assert!(matches!(error, VerifyError::ExpiredKey { until_ms: 1_800_000_000_000, .. }), "{error}");
    assert_eq!(by(&[&key(1), &key(2)], &keys).unwrap().signers()[0].key, key(2).id());
    assert!(by(&[&key(1)], &until("2027-01-15T09:00:00.001+01:00").unwrap()).is_ok(), "a moment before");
    for bad in ["2027-01-15", "soon", "", "2027-01-15T08:00:00"] {
        assert!(until(bad).is_err(), "{bad}");
    }
    let shown: Vec<_> = keys.iter().map(|k| (k.operator, k.until_ms, k.revoked)).collect();
    assert_eq!(shown, [("ada".into(), Some(1_800_000_000_000), None), ("ada".into(), None, None)]);
}
