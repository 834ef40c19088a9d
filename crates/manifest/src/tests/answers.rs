//! Signed answers: each way in which one is none has a reason of its own.

use super::{ceiling, key, trusts};
use crate::{
    Action, Answer, AnswerError, Asked, Decision, EnvelopeError, TrustedKeys, VerifyError, limits, sign,
};
use octant_ids::Sha256;
use serde_json::Value;

const NOW: u64 = 1_800_000_000_000;
const SPAWN: Action = Action::Spawn;

fn answer() -> Answer {
    Answer {
        approval: "3f2a9c0012ab45ef".into(),
        digest: Sha256([7; 32]),
        decision: Decision::Allow,
        machine: "m1".into(),
        not_after_ms: NOW + 60_000,
    }
}

fn asked() -> Asked<'static> {
    Asked {
        approval: "3f2a9c0012ab45ef",
        digest: Sha256([7; 32]),
        action: &SPAWN,
        role: "analyst",
        machine: "m1",
        now_ms: NOW,
    }
}

fn verdict(answer: &Answer) -> Result<Decision, AnswerError> {
    let envelope = answer.sign(&key(1));
    let done = Answer::verify(&envelope, &asked(), &trusts(&key(1), "developer"), &ceiling());
    done.map(|done| done.decision)
}

#[test]
fn an_answer_counts_for_the_request_the_deed_the_machine_and_the_time_that_it_names() {
    assert_eq!(verdict(&answer()), Ok(Decision::Allow));
    assert_eq!(verdict(&Answer { decision: Decision::Deny, ..answer() }), Ok(Decision::Deny));
    assert_eq!(Answer::request(&answer().sign(&key(9))).unwrap(), answer().approval);
    type Reason = fn(&AnswerError) -> bool;
    let wrong: [(Answer, Reason); 5] = [
        (Answer { approval: "0".into(), ..answer() }, |e| matches!(e, AnswerError::Request { .. })),
        (Answer { digest: Sha256::ZERO, ..answer() }, |e| matches!(e, AnswerError::Digest { .. })),
        (Answer { machine: "m2".into(), ..answer() }, |e| matches!(e, AnswerError::Machine { .. })),
        (Answer { not_after_ms: NOW, ..answer() }, |e| matches!(e, AnswerError::Expired { .. })),
        (Answer { not_after_ms: NOW + limits::ANSWER_MS + 1, ..answer() }, |e| *e == AnswerError::TooLong),
    ];
    for (answer, reason) in wrong {
        let error = verdict(&answer).unwrap_err();
        assert!(reason(&error), "{error}");
    }
}

#[test]
fn only_a_key_that_counts_answers() {
    let by =
        |seed, keys: &TrustedKeys| Answer::verify(&answer().sign(&key(seed)), &asked(), keys, &ceiling());
    let signer = |error| match error {
        AnswerError::Signer(error) => error,
        other => panic!("{other}"),
    };
    let ada = key(1).public_file("ada", "developer");
    let error = signer(by(2, &trusts(&key(1), "developer")).unwrap_err());
    assert!(matches!(error, VerifyError::UnknownKey(_)), "{error}");
    assert_eq!(signer(by(1, &TrustedKeys::default()).unwrap_err()), VerifyError::NoTrustedKeys);
    let files = [("ada.pub".into(), ada.clone()), ("revoked".into(), format!("{} lost", key(1).id()))];
    let error = signer(by(1, &TrustedKeys::from_files(&files).unwrap()).unwrap_err());
    assert!(matches!(error, VerifyError::RevokedKey { .. }), "{error}");
    let files = [("ada.pub".into(), format!("{} until=2020-01-01T00:00:00Z", ada.trim_end()))];
    let error = signer(by(1, &TrustedKeys::from_files(&files).unwrap()).unwrap_err());
    assert!(matches!(error, VerifyError::ExpiredKey { .. }), "{error}");
}

#[test]
fn a_role_answers_for_what_it_approves_and_whom_it_may_appoint() {
    let by = |holds: &str, asked: &Asked<'_>| {
        Answer::verify(&answer().sign(&key(1)), asked, &trusts(&key(1), holds), &ceiling()).map(|_| ())
    };
    let forever = Asked { action: &Action::UnlimitedLifetime, ..asked() };
    let over_admins = Asked { role: "admin", ..asked() };
    for (holds, asked, may) in [
        ("admin", &forever, true),
        ("developer", &forever, false),
        ("developer", &asked(), true),
        ("developer", &over_admins, false),
        ("admin", &over_admins, true),
        ("analyst", &asked(), false),
        ("nobody", &asked(), false),
    ] {
        let done = by(holds, asked);
        assert_eq!(done.is_ok(), may, "{holds} {asked:?}: {done:?}");
        assert!(may || matches!(done, Err(AnswerError::Role { .. })));
    }
}

#[test]
fn what_was_signed_as_something_else_is_no_answer_and_an_answer_is_no_manifest() {
    let keys = trusts(&key(1), "admin");
    let verify = |bytes: &[u8]| Answer::verify(bytes, &asked(), &keys, &ceiling()).unwrap_err();
    let payload = serde_json::to_vec(&answer()).unwrap();
    let manifest = sign(&payload, &[&key(1)]);
    let error = verify(&manifest);
    assert!(matches!(error, AnswerError::Envelope(EnvelopeError::PayloadType { .. })), "{error}");
    let mut relabelled: Value = serde_json::from_slice(&manifest).unwrap();
    relabelled["payloadType"] = crate::DECISION_TYPE.into();
    let error = verify(relabelled.to_string().as_bytes());
    assert!(
        matches!(error, AnswerError::Signer(VerifyError::Tampered { .. })),
        "the type is signed: {error}"
    );
    assert!(matches!(verify(&payload), AnswerError::Form(_) | AnswerError::Envelope(_)));
    assert!(matches!(verify(b"allow"), AnswerError::Unsigned(_)));
    let with = |payload: &[u8]| crate::dsse::sign(crate::DECISION_TYPE, payload, &[&key(1)]);
    for odd in [&b"{}"[..], b"null", b"{\"approval\":\"a\",\"decision\":\"allow\"}"] {
        assert!(matches!(verify(&with(odd)), AnswerError::Form(_)));
    }
    let mut more: Value = serde_json::to_value(answer()).unwrap();
    more["and"] = "also that".into();
    assert!(matches!(verify(&with(more.to_string().as_bytes())), AnswerError::Form(_)));
    // What is not signed is on record too, so it is bounded.
    let mut padded = answer().sign(&key(1));
    assert!(Answer::verify(&padded, &asked(), &keys, &ceiling()).is_ok());
    padded.resize(limits::ANSWER_BYTES + 1, b' ');
    assert!(matches!(verify(&padded), AnswerError::TooLarge(_)));
}
