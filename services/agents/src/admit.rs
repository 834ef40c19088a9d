//! From the bytes of an envelope to rights, each refusal with its code.

use octant_api::error::{ApiError, Code};
use octant_ids::Sha256;
use octant_manifest::{
    Audience, Ceiling, Declared, Delegated, Effective, Envelope, EnvelopeError, KeyFileError, ManifestErrors,
    RightsError, Rule, TrustedKeys, VerifyError, broken, broken_by_child, limits,
};
use std::fmt::Display;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// What every refused spawn says that it was doing.
pub(crate) const WHAT: &str = "spawn an agent";

/// Why the trusted set cannot be used. Nobody is trusted then.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TrustError {
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{}: the name is not text", .0.display())]
    Name(PathBuf),
    #[error(transparent)]
    Keys(#[from] KeyFileError),
}

/// Reads the trusted set, anew for each spawn: a revocation counts from the moment that it is written.
pub(crate) fn trusted(dir: &Path) -> Result<TrustedKeys, TrustError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| TrustError::Io { path, source }
    };
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(TrustedKeys::default()),
        other => other.map_err(failed(dir))?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed(dir))?.path();
        let name = path.file_name().and_then(|n| n.to_str()).ok_or_else(|| TrustError::Name(path.clone()))?;
        let mut text = String::new();
        // One byte more than a key file may have, so that a longer one is seen to be longer.
        let most = limits::KEY_FILE_BYTES as u64 + 1;
        let read = File::open(&path).and_then(|file| file.take(most).read_to_string(&mut text));
        read.map_err(failed(&path))?;
        files.push((name.to_owned(), text));
        if files.len() > limits::KEY_FILES {
            break;
        }
    }
    Ok(TrustedKeys::from_files(&files)?)
}

/// A manifest that was admitted.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(crate) declared: Declared,
    pub(crate) rights: Effective,
}

/// A manifest that an operator has to approve.
#[derive(Debug)]
pub(crate) struct Asks {
    pub(crate) name: String,
    pub(crate) role: String,
    pub(crate) digest: Sha256,
    /// All of it.
    pub(crate) text: String,
}

/// Why a manifest was not admitted.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) error: ApiError,
    /// What is asked for, where an operator's approval of a life without end is all that is missing so far.
    pub(crate) asks: Option<Box<Asks>>,
}

impl From<ApiError> for Refused {
    fn from(error: ApiError) -> Self {
        Self { error, asks: None }
    }
}

/// The digest of the manifest in an envelope, as far as there is one: what the record of a refusal names.
pub(crate) fn digest(envelope: &Result<Envelope, EnvelopeError>) -> Sha256 {
    envelope.as_ref().map_or(Sha256::ZERO, Envelope::digest)
}

/// Verifies, reads and bounds.
pub(crate) fn admit(
    envelope: Result<Envelope, EnvelopeError>,
    trusted: Result<TrustedKeys, ApiError>,
    audience: &Audience<'_>,
    ceiling: &Ceiling,
) -> Result<Admitted, Refused> {
    let envelope = envelope.map_err(|e| envelope_refused(&e))?;
    // Shown to whoever is asked. What is admitted has been read as text.
    let text = String::from_utf8_lossy(envelope.payload()).into_owned();
    let trusted = trusted?;
    let authentic = envelope.verify(&trusted, audience).map_err(|e| not_verified(&e))?;
    let declared = authentic.declare().map_err(|e| manifest_refused(&e))?;
    let rights = Effective::root(&declared, ceiling).map_err(|reasons| Refused {
        // Where anything else is wrong with it nobody is asked.
        asks: (reasons[..] == [RightsError::UnlimitedLifetime]).then(|| {
            let identity = declared.manifest().identity();
            let (name, role) = (identity.name.clone(), identity.role.clone());
            Box::new(Asks { name, role, digest: declared.digest(), text })
        }),
        error: rights_refused(&reasons, &broken(&reasons)),
    })?;
    Ok(Admitted { declared, rights })
}

/// Reads what an agent wrote for a child.
pub(crate) fn child(text: &str, audience: &Audience<'_>) -> Result<Delegated, ApiError> {
    Delegated::read(text.as_bytes(), audience).map_err(|e| not_verified(&e))
}

/// Every reason for which a child cannot be, in one refusal.
pub(crate) fn child_refused(reasons: &[RightsError]) -> ApiError {
    rights_refused(reasons, &broken_by_child(reasons))
}

/// The trusted set cannot be used.
pub(crate) fn untrusted(error: &TrustError) -> ApiError {
    let next = "correct the trusted set; nobody is trusted until then";
    refused(Code::Unavailable, "the trusted set", error, next)
}

/// A refusal whose text already ends with what to do next.
fn refused(code: Code, place: &str, why: &dyn Display, next: &str) -> ApiError {
    ApiError::new(code, WHAT, place, why, next)
}

/// The same for broken rules.
pub(crate) fn broke(code: Code, place: &str, why: &dyn Display, rules: &[Rule]) -> ApiError {
    refused(code, place, why, "").breaks(rules.iter().map(|rule| rule.name()))
}

fn envelope_refused(error: &EnvelopeError) -> ApiError {
    let code = match error {
        EnvelopeError::Unsigned(_) => Code::Unverified,
        EnvelopeError::TooLarge(_) | EnvelopeError::PayloadTooLarge { .. } => Code::TooLong,
        EnvelopeError::Json { .. }
        | EnvelopeError::PayloadType { .. }
        | EnvelopeError::Base64(_)
        | EnvelopeError::TooManySignatures(_)
        | EnvelopeError::SignatureLength { .. } => Code::InvalidParams,
    };
    broke(code, "envelope", error, &[Rule::Signature])
}

fn not_verified(error: &VerifyError) -> ApiError {
    let code = match error {
        VerifyError::Manifest(errors) => return manifest_refused(errors),
        VerifyError::NoTrustedKeys
        | VerifyError::UnknownKey(_)
        | VerifyError::Tampered { .. }
        | VerifyError::RevokedKey { .. }
        | VerifyError::ExpiredKey { .. } => Code::Unverified,
        VerifyError::WrongAudience { .. } | VerifyError::NotYetValid { .. } | VerifyError::Expired { .. } => {
            Code::Denied
        }
    };
    broke(code, "envelope", error, &error.rules())
}

fn manifest_refused(errors: &ManifestErrors) -> ApiError {
    broke(Code::InvalidParams, "manifest", errors, &errors.rules())
}

/// Every reason in one refusal, which has the code of the first.
fn rights_refused(reasons: &[RightsError], rules: &[Rule]) -> ApiError {
    let code = match reasons.first() {
        Some(
            RightsError::UnknownRole { .. }
            | RightsError::BeyondMachine { .. }
            | RightsError::Unenforceable(_),
        ) => Code::InvalidParams,
        Some(
            RightsError::RoleCeiling { .. }
            | RightsError::MayNotSpawn
            | RightsError::ChildOperator { .. }
            | RightsError::ChildRole { .. }
            | RightsError::UnlimitedLifetime
            | RightsError::ProgramNarrowed(_)
            | RightsError::CwdNarrowed(_)
            | RightsError::Exhausted(_),
        )
        | None => Code::Denied,
    };
    let all: Vec<String> = reasons.iter().map(ToString::to_string).collect();
    broke(code, "manifest", &all.join("\n"), rules)
}
