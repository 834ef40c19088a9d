//! The actuator's side: a ticket becomes the right to do one thing, once.

use crate::TTL_MAX_NS;
use crate::form;
use crate::keys::Key;
use hmac::Mac;
use octant_api::ticket::Ticket;
use octant_ids::{ServiceName, Sha256};
use std::collections::BTreeMap;

/// How many redeemed intents an actuator remembers until their tickets have expired. More within a minute than any
/// actuator does; beyond it tickets are refused.
pub const USED_MAX: usize = 4096;
/// How far a ticket's time of issue may be ahead: CLOCK_BOOTTIME is one clock for the whole machine, so this only
/// covers what two processors may differ in reading it. 10 ms.
const AHEAD_NS: u64 = 10_000_000;

/// Proof that a ticket was redeemed: the right to do what its intent says, once. [`Actuator::redeem`] is the only
/// maker. Whoever does the thing takes it by value.
#[derive(Debug)]
#[must_use = "a redeemed ticket is spent; without its effect nothing comes of the intent"]
pub struct Redeemed {
    seq: u64,
    intent: Sha256,
}

impl Redeemed {
    /// The intent's entry.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// The digest of what may be done.
    #[must_use]
    pub fn intent(&self) -> Sha256 {
        self.intent
    }
}

/// Why a ticket is refused. Nothing may be done then; only [`Full`](Self::Full) passes by itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    /// It names another actuator.
    #[error(
        "the ticket of entry {seq} is for {named}, and this is {here}; ask the ledger for one for {here}"
    )]
    OtherActuator {
        /// The entry.
        seq: u64,
        /// Whom it names.
        named: ServiceName,
        /// Who was asked.
        here: ServiceName,
    },
    /// The ledger did not make it, or something in it was changed, or it is of another boot.
    #[error(
        "the ticket of entry {0} does not verify under the key of this boot; only the ledger makes tickets"
    )]
    Forged(u64),
    /// It is for something else.
    #[error(
        "the ticket of entry {seq} is for an intent with digest {intended}, and what was asked has {asked}; append an \
         intent for exactly what is asked"
    )]
    OtherIntent {
        /// The entry.
        seq: u64,
        /// What the ticket is for.
        intended: Sha256,
        /// What was asked.
        asked: Sha256,
    },
    /// It would be valid for longer than any ticket may be, or for no time at all.
    #[error(
        "the ticket of entry {0} is not valid for between 1 ns and 60 s; the ledger and this program are of different \
         versions"
    )]
    Lifetime(u64),
    /// It was issued before this actuator started: whether an earlier one redeemed it is not known.
    #[error("the ticket of entry {0} was issued before this actuator started; append a new intent")]
    BeforeStart(u64),
    /// It was issued in the future.
    #[error("the ticket of entry {seq} was issued {ahead_ns} ns from now; the machine's clocks disagree")]
    Future {
        /// The entry.
        seq: u64,
        /// How far ahead.
        ahead_ns: u64,
    },
    /// Its time is over.
    #[error("the ticket of entry {seq} expired {ago_ns} ns ago; append a new intent")]
    Expired {
        /// The entry.
        seq: u64,
        /// How long ago.
        ago_ns: u64,
    },
    /// It was redeemed before.
    #[error("the ticket of entry {0} was used before; append a new intent for each effect")]
    Used(u64),
    /// Too many were redeemed within their lifetimes.
    #[error("more than {USED_MAX} tickets were redeemed within a minute; try again in a minute")]
    Full,
}

/// What redeems tickets: an actuator's name, its key, and what it redeemed already.
#[derive(Debug)]
pub struct Actuator {
    name: ServiceName,
    key: Key,
    started_ns: u64,
    /// The intents redeemed, with the expiry of their tickets.
    used: BTreeMap<(u64, Sha256), u64>,
}

impl Actuator {
    /// An actuator that starts now (CLOCK_BOOTTIME, nanoseconds).
    #[must_use]
    pub fn new(name: ServiceName, key: Key, now_ns: u64) -> Self {
        Self { name, key, started_ns: now_ns, used: BTreeMap::new() }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &ServiceName {
        &self.name
    }

    /// Redeems a ticket for what has this digest, as the actuator computed it from the bytes that it was given.
    ///
    /// # Errors
    /// [`TicketError`]. A ticket that is refused stays unused.
    pub fn redeem(&mut self, ticket: &Ticket, digest: &Sha256, now_ns: u64) -> Result<Redeemed, TicketError> {
        let seq = ticket.seq;
        if ticket.actuator != self.name {
            let (named, here) = (ticket.actuator.clone(), self.name.clone());
            return Err(TicketError::OtherActuator { seq, named, here });
        }
        // In constant time. Nothing else in it means anything before this.
        let genuine = form::mac(&self.key, ticket).verify_slice(&ticket.mac.0);
        genuine.map_err(|_| TicketError::Forged(seq))?;
        if ticket.intent != *digest {
            return Err(TicketError::OtherIntent { seq, intended: ticket.intent, asked: *digest });
        }
        self.in_time(ticket, now_ns)?;
        let intent = (seq, ticket.intent);
        if self.used.contains_key(&intent) {
            return Err(TicketError::Used(seq));
        }
        if self.used.len() >= USED_MAX {
            // What has expired is refused for that.
            self.used.retain(|_, expires_ns| *expires_ns > now_ns);
        }
        if self.used.len() >= USED_MAX {
            return Err(TicketError::Full);
        }
        self.used.insert(intent, ticket.expires_ns);
        Ok(Redeemed { seq, intent: ticket.intent })
    }

    fn in_time(&self, ticket: &Ticket, now_ns: u64) -> Result<(), TicketError> {
        let Ticket { seq, issued_ns, expires_ns, .. } = *ticket;
        if !(1..=TTL_MAX_NS).contains(&expires_ns.saturating_sub(issued_ns)) {
            return Err(TicketError::Lifetime(seq));
        }
        if issued_ns < self.started_ns {
            return Err(TicketError::BeforeStart(seq));
        }
        let ahead_ns = issued_ns.saturating_sub(now_ns);
        if ahead_ns > AHEAD_NS {
            return Err(TicketError::Future { seq, ahead_ns });
        }
        if now_ns >= expires_ns {
            return Err(TicketError::Expired { seq, ago_ns: now_ns - expires_ns });
        }
        Ok(())
    }

    /// Wipes the key, after which nothing can be redeemed any more: for a copy of this process that goes on as
    /// something else.
    pub fn forget(&mut self) {
        self.key.wipe();
        // A key of zeros would be known to everybody.
        self.started_ns = u64::MAX;
    }
}
