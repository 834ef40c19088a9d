//! Capability manifests: what an agent may do, signed by an operator.
//!
//! Owns: the signed envelope, the manifest's schema, the arithmetic of rights.
//! Promises: the signature is checked over the exact bytes before they are read as a manifest; a right can
//! only get smaller on its way to an agent; every refusal names what, where, why and what to do next.
//! Never: does I/O, reads a clock, makes randomness, or grants what this build cannot enforce.
//!
//! The steps are types, so that none can be left out:
//!
//! ```text
//! bytes -> Envelope -> Authentic -> Declared -> Effective
//! ```
//!
//! ```
//! use octant_manifest::{Audience, Ceiling, Effective, Envelope, Machine, Roles, SigningKey, TrustedKeys};
//!
//! let key = SigningKey::from_seed([7; 32]);
//! let keys = TrustedKeys::from_files(&[("ada.pub".into(), key.public_file("ada", "admin"))])?;
//! let text = octant_manifest::template("hello", "admin", "ada");
//! let envelope = octant_manifest::sign(text.as_bytes(), &[&key]);
//!
//! let declared = Envelope::parse(&envelope)?
//!     .verify(&keys, &Audience { machine: "any", now_ms: 0 })?
//!     .declare()?;
//! let ceiling = Ceiling::new(&Roles::builtin(), Machine { memory_bytes: 1 << 30, cpus: 2 });
//! let rights = Effective::root(&declared, &ceiling).map_err(|reasons| format!("{reasons:?}"))?;
//! assert_eq!(rights.identity().name, "hello");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A wish is not a right:
//!
//! ```compile_fail,E0308
//! # use octant_manifest::{Declared, Effective};
//! fn lower(_: &Effective) {}
//! fn skip(wish: &Declared) { lower(wish) }
//! ```
//!
//! A draft that nobody has signed does not become a wish:
//!
//! ```compile_fail,E0308
//! # use octant_manifest::{Ceiling, Draft, Effective};
//! fn skip(draft: &Draft, ceiling: &Ceiling) { let _ = Effective::root(draft, ceiling); }
//! ```
//!
//! An envelope that has not been verified has no manifest:
//!
//! ```compile_fail,E0599
//! # use octant_manifest::Envelope;
//! fn skip(envelope: Envelope) { let _ = envelope.declare(); }
//! ```
//!
//! A right cannot be put together from its parts:
//!
//! ```compile_fail,E0451
//! # use octant_manifest::{Effective, Declared, Ceiling};
//! fn forge(honest: Effective) -> Effective { Effective { grants: honest.grants, ..honest } }
//! ```
//!
//! Nor read from somewhere:
//!
//! ```compile_fail,E0277
//! # use octant_manifest::Effective;
//! fn load(text: &str) -> Effective { serde_json::from_str(text).unwrap() }
//! ```
//!
//! What an agent writes for a child is not what an operator signed:
//!
//! ```compile_fail,E0308
//! # use octant_manifest::{Ceiling, Delegated, Effective};
//! fn crown(child: &Delegated, ceiling: &Ceiling) { let _ = Effective::root(child, ceiling); }
//! ```
//!
//! Nor is a share of a budget copied:
//!
//! ```compile_fail,E0599
//! # use octant_manifest::Allotment;
//! fn twice(share: Allotment) -> (Allotment, Allotment) { (share.clone(), share) }
//! ```
#![forbid(unsafe_code)]

mod action;
mod allotment;
mod answer;
mod config;
mod credential;
mod date;
mod delegated;
mod denied;
mod domains;
mod dsse;
mod effective;
mod envelope;
mod error;
mod fields;
mod fuzz;
mod grants;
mod host;
mod io;
mod keys;
pub mod limits;
mod login;
mod models;
mod money;
mod outline;
mod path;
mod pattern;
mod pins;
mod place;
mod reader;
mod role;
mod rule;
mod schema;

pub use action::{Action, Approvals};
pub use allotment::{Allotment, BUDGETS, Exhausted, NO_END};
pub use answer::{Answer, AnswerError, Answered, Asked, DECISION_TYPE, Decision};
pub use config::{
    AcceptedConfig, CONFIG_TYPE, Change, CheckTable, ConfigErrors, ConfigProblem, ConfigRefusal, ConfigSite,
    Effect, MachineConfig, SignedConfig, Wrong, changes, config_template, sign_config, table,
};
pub use credential::{CredentialGrant, DatabaseLogin, SshLogin, Way};
pub use date::parse as unix_ms;
pub use delegated::Delegated;
pub use denied::{DENIED_SYSCALLS, Denied};
pub use domains::{Budget, Unenforceable};
pub use dsse::pae;
pub use effective::{Ceiling, Effective, Machine, Origin, RightsError};
pub use envelope::{Audience, Authentic, Envelope, EnvelopeError, PAYLOAD_TYPE, Signer, VerifyError, sign};
pub use error::{ManifestError, ManifestErrors, Problem};
pub use fields::{FIELDS, FieldInfo, Kind, field_info, json_schema, manual};
pub use fuzz::{fuzz_answer, fuzz_envelope, fuzz_manifest};
pub use grants::{
    Grants, Kept, NameSet, Narrowed, OnParentDeath, OnTimeout, Profile, Resources, Retention, Traffic,
};
pub use host::{HostGrant, HostName, HostPattern, Protocol};
pub use io::Io;
pub use keys::{KeyFileError, KeyId, KeyInfo, PrivateKeyError, SigningKey, TrustedKeys};
pub use login::{CHALLENGE_MAX, ChallengeError, LoginChallenge, LoginPlace};
pub use models::{DataClass, Models};
pub use money::micro as micro_usd;
pub use outline::{Host, Outline, template};
pub use path::{GrantPath, PathError, PathSet};
pub use pattern::{NamePattern, Pattern, PatternError, PatternSet};
pub use pins::Pins;
pub use place::{Field as PlaceField, Place, Scope};
pub use role::Roles;
pub use rule::{Rule, broken, broken_by_child};
pub use schema::{Declared, Draft, Identity, Manifest, Program, VERSION, Validity, digest, lines};

#[cfg(test)]
mod tests;
