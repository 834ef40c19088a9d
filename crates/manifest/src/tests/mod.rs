//! Tests of the whole pipeline. The laws of grants and budgets are in `laws`, refusals in `refusals`.

mod answers;
mod config;
mod corpus;
mod delegation;
mod domains;
mod fields;
mod laws;
mod outline;
mod refusals;
mod rights;
mod rules;
mod signing;

use crate::{
    Audience, Authentic, Ceiling, Declared, Effective, Envelope, Machine, ManifestErrors, RightsError, Roles,
    SigningKey, TrustedKeys, VerifyError, sign, template,
};
use std::sync::LazyLock;

/// A key for tests; the byte tells keys apart.
fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed([seed; 32])
}

/// A trusted set of one operator, `ada`.
fn trusts(key: &SigningKey, role: &str) -> TrustedKeys {
    TrustedKeys::from_files(&[("ada.pub".into(), key.public_file("ada", role))]).unwrap()
}

fn here() -> Audience<'static> {
    Audience { machine: "m1", now_ms: 1_800_000_000_000 }
}

fn authentic(text: &str, role: &str) -> Result<Authentic, VerifyError> {
    let key = key(1);
    Envelope::parse(&sign(text.as_bytes(), &[&key])).unwrap().verify(&trusts(&key, role), &here())
}

fn declared(text: &str, role: &str) -> Result<Declared, ManifestErrors> {
    authentic(text, role).unwrap().declare()
}

fn ceiling() -> Ceiling {
    // Made once: the roles are a text to be read.
    static CEILING: LazyLock<Ceiling> =
        LazyLock::new(|| Ceiling::new(&Roles::builtin(), Machine { memory_bytes: 8 << 30, cpus: 2 }));
    CEILING.clone()
}

fn root(text: &str, role: &str) -> Result<Effective, RightsError> {
    Effective::root(&declared(text, role).unwrap(), &ceiling()).map_err(one)
}

/// The one reason.
fn one(mut reasons: Vec<RightsError>) -> RightsError {
    assert_eq!(reasons.len(), 1, "{reasons:?}");
    reasons.remove(0)
}

/// The template with one line replaced; the line must be there.
fn with(from: &str, to: &str) -> String {
    let text = template("hello", "analyst", "ada");
    assert!(text.contains(from), "the template has no {from:?}");
    text.replacen(from, to, 1)
}
