//! The ledger's side: a ticket for an intent that is durable.

use crate::TTL_MAX_NS;
use crate::form;
use crate::keys::Keys;
use hmac::Mac;
use octant_api::ticket::Ticket;
use octant_ids::{ServiceName, Sha256};

/// Makes tickets. Only the ledger has one, since only it has every key.
#[derive(Debug, Clone, Default)]
pub struct Issuer(Keys);

impl Issuer {
    /// An issuer with these keys.
    #[must_use]
    pub fn new(keys: Keys) -> Self {
        Self(keys)
    }

    /// Whether tickets for this actuator can be made. To be asked before an intent is appended: one whose ticket
    /// cannot be made would announce what is then never done.
    #[must_use]
    pub fn knows(&self, actuator: &str) -> bool {
        self.0.get(actuator).is_some()
    }

    /// A ticket for entry `seq`, which is on stable storage and whose subject is `intent`. Valid from `now_ns`
    /// (CLOCK_BOOTTIME) for `ttl_ns`, at most [`TTL_MAX_NS`]. `None` when there is no key for this actuator.
    #[must_use]
    pub fn issue(
        &self,
        seq: u64,
        intent: Sha256,
        actuator: &str,
        now_ns: u64,
        ttl_ns: u64,
    ) -> Option<Ticket> {
        let key = self.0.get(actuator)?;
        let actuator: ServiceName = actuator.parse().ok()?;
        let expires_ns = now_ns.saturating_add(ttl_ns.min(TTL_MAX_NS));
        let mut ticket = Ticket { seq, intent, actuator, issued_ns: now_ns, expires_ns, mac: Sha256::ZERO };
        ticket.mac = Sha256(form::mac(key, &ticket).finalize().into_bytes().into());
        Some(ticket)
    }
}
