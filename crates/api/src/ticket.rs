//! Tickets: what shows an actuator that the ledger has an intent. Making and checking one is for the crate of that
//! name; here is its shape.

use octant_ids::{ServiceName, Sha256};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Proof that an intent is on stable storage, for one actuator, once, for a short time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ticket {
    /// The intent's entry.
    pub seq: u64,
    /// The digest of what is intended, as the entry's `subject` says. The actuator computes it again from what it is
    /// about to do.
    #[schemars(with = "String")]
    pub intent: Sha256,
    /// Who may act on it.
    #[schemars(with = "String")]
    pub actuator: ServiceName,
    /// When it was issued: CLOCK_BOOTTIME, nanoseconds.
    pub issued_ns: u64,
    /// When it stops being valid: CLOCK_BOOTTIME, nanoseconds.
    pub expires_ns: u64,
    /// HMAC-SHA256 (RFC 2104) of everything above, under the key that PID 1 gave to the ledger and this actuator.
    #[schemars(with = "String")]
    pub mac: Sha256,
}
