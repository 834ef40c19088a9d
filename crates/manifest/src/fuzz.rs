//! Entries for fuzzers and for the replay of their corpus: any bytes, no panic, and a few things that must hold.

use crate::{
    Action, Answer, Asked, Audience, Ceiling, DECISION_TYPE, Delegated, Draft, Effective, Envelope, Machine,
    Roles, SigningKey, TrustedKeys, dsse, limits, sign,
};
use octant_ids::Sha256;

/// Reads bytes as an envelope and verifies it against a key that did not sign it.
///
/// # Panics
/// When the bytes verify: nobody signed them.
pub fn fuzz_envelope(bytes: &[u8]) {
    let Ok(envelope) = Envelope::parse(bytes) else { return };
    let key = SigningKey::from_seed([0x5a; 32]);
    let files = [("fuzz.pub".to_owned(), key.public_file("fuzz", "admin"))];
    let Ok(keys) = TrustedKeys::from_files(&files) else { return };
    let verdict = envelope.verify(&keys, &Audience { machine: "fuzz", now_ms: 0 });
    assert!(verdict.is_err(), "an envelope verified that the key did not sign");
}

/// Reads bytes as the envelope of an answer, and as what such an envelope says, signed by who may; whether that is an
/// answer to the one request that there is.
///
/// # Panics
/// When an answer counts that nobody signed, or one that does not say what was asked.
pub fn fuzz_answer(bytes: &[u8]) -> bool {
    let key = SigningKey::from_seed([0x5a; 32]);
    let files = [("fuzz.pub".to_owned(), key.public_file("fuzz", "developer"))];
    let Ok(keys) = TrustedKeys::from_files(&files) else { return false };
    let ceiling = Ceiling::new(&Roles::builtin(), Machine { memory_bytes: 1 << 40, cpus: 64 });
    let asked = Asked {
        approval: "3f2a9c0012ab45ef",
        digest: Sha256([7; 32]),
        action: &Action::Spawn,
        role: "analyst",
        machine: "m1",
        now_ms: 1_800_000_000_000,
    };
    let _where_to_look = Answer::request(bytes);
    assert!(Answer::verify(bytes, &asked, &keys, &ceiling).is_err(), "an answer counts that nobody signed");
    let envelope = dsse::sign(DECISION_TYPE, bytes, &[&key]);
    let Ok(done) = Answer::verify(&envelope, &asked, &keys, &ceiling) else { return false };
    let said = serde_json::from_slice::<Answer>(bytes).ok();
    let expected = Answer {
        approval: asked.approval.to_owned(),
        digest: asked.digest,
        decision: done.decision,
        machine: asked.machine.to_owned(),
        not_after_ms: done.not_after_ms,
    };
    assert_eq!(said, Some(expected), "an answer counts that says something else");
    let left = done.not_after_ms.checked_sub(asked.now_ms);
    assert!(left.is_some_and(|left| (1..=limits::ANSWER_MS).contains(&left)), "it counts at a wrong time");
    true
}

/// Reads bytes as a manifest; what is read is signed and becomes a right within its ceiling.
///
/// # Panics
/// When a right is larger than what was asked, or an error's text is unreasonably long.
pub fn fuzz_manifest(bytes: &[u8]) {
    let draft = match Draft::parse(bytes) {
        Ok(draft) => draft,
        Err(error) => {
            assert!(error.to_string().len() < 4 * limits::PATH_BYTES, "an error of unreasonable length");
            return;
        }
    };
    let key = SigningKey::from_seed([0x5a; 32]);
    let operator = &draft.manifest().identity().operator;
    let files = [("fuzz.pub".to_owned(), key.public_file(operator, "admin"))];
    let Ok(keys) = TrustedKeys::from_files(&files) else { return };
    let now_ms = draft.manifest().validity().not_before_ms.unwrap_or(0);
    let machine = draft.manifest().validity().machines.first().map_or("", String::as_str).to_owned();
    let authentic = Envelope::parse(&sign(bytes, &[&key]))
        .map(|envelope| envelope.verify(&keys, &Audience { machine: &machine, now_ms }));
    let Ok(Ok(authentic)) = authentic else { return };
    let declared = authentic.declare();
    assert_eq!(
        declared.as_ref().ok().map(|d| d.manifest()),
        Some(draft.manifest()),
        "signing changes nothing"
    );
    let Ok(declared) = declared else { return };
    let ceiling = Ceiling::new(&Roles::builtin(), Machine { memory_bytes: 1 << 40, cpus: 64 });
    let Ok(mut rights) = Effective::root(&declared, &ceiling) else { return };
    assert!(rights.grants().within(declared.manifest().asked()), "a right is larger than what was asked");
    // The same wish from an agent that has been granted it.
    let Ok(wish) = Delegated::read(bytes, &Audience { machine: &machine, now_ms }) else { return };
    let before = rights.allotment().parts()[0];
    if let Ok(child) = rights.narrow(&wish, &ceiling, None) {
        assert!(child.grants().within(rights.grants()), "a child has more than its parent");
        let after = rights.allotment().parts()[0] + child.allotment().parts()[0] + 1;
        assert_eq!(before, after, "an allotment is not conserved");
    }
}
