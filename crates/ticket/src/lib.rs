//! Tickets: how an actuator knows that the ledger has the intent of what it is about to do.
//!
//! PID 1 makes one key for each actuator at boot and gives the ledger all of them and each actuator its own ([`Keys`]).
//! The ledger answers a durable intent with a ticket ([`Issuer`]); the actuator computes the digest of what it was told
//! to do from those very bytes, redeems the ticket for it ([`Actuator`]), and only then acts. The function that acts
//! takes the [`Redeemed`] by value, so that it cannot be called without one:
//!
//! ```
//! use octant_ids::Sha256;
//! use octant_ticket::{Actuator, Issuer, Key, Keys, Redeemed, SECOND_NS};
//!
//! fn act(redeemed: Redeemed) -> u64 {
//!     redeemed.seq()
//! }
//!
//! let name = "spawner".parse()?;
//! let keys = Keys::new([(name, Key::new(&[7; 32]))])?;
//! let own = keys.get("spawner").cloned().ok_or("no key")?;
//! let mut spawner = Actuator::new("spawner".parse()?, own, 1_000);
//! let digest = Sha256([3; 32]);
//! let ticket = Issuer::new(keys).issue(42, digest, "spawner", 2_000, SECOND_NS).ok_or("no key")?;
//! assert_eq!(act(spawner.redeem(&ticket, &digest, 3_000)?), 42);
//! assert!(spawner.redeem(&ticket, &digest, 3_000).is_err());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Owns: the keys' form, the ticket's MAC and its form in fixed frames, the rules by which one is redeemed.
//! Promises: a ticket is redeemed at most once, by the actuator that it names, for the intent that it names, between
//! its issue and its expiry, and never one that was issued before the actuator started; a [`Redeemed`] comes from
//! nowhere else.
//! Never: reads a clock, makes randomness, opens anything, shows a key.
//!
//! What does not compile. Without a ticket:
//!
//! ```compile_fail,E0451
//! let made = octant_ticket::Redeemed { seq: 1, intent: octant_ids::Sha256([3; 32]) };
//! ```
//!
//! ```compile_fail,E0277
//! let made: octant_ticket::Redeemed = Default::default();
//! ```
//!
//! A copy of one that was redeemed:
//!
//! ```compile_fail,E0599
//! fn twice(redeemed: octant_ticket::Redeemed) -> (octant_ticket::Redeemed, octant_ticket::Redeemed) {
//!     (Clone::clone(&redeemed), redeemed.clone())
//! }
//! ```
//!
//! One for two effects:
//!
//! ```compile_fail,E0382
//! fn act(_: octant_ticket::Redeemed) {}
//! fn twice(redeemed: octant_ticket::Redeemed) {
//!     act(redeemed);
//!     act(redeemed);
//! }
//! ```
//!
//! The ticket itself in its place:
//!
//! ```compile_fail,E0308
//! fn act(_: octant_ticket::Redeemed) {}
//! fn unchecked(ticket: octant_api::ticket::Ticket) {
//!     act(ticket);
//! }
//! ```
#![forbid(unsafe_code)]

mod form;
mod issue;
mod keys;
mod redeem;
#[cfg(test)]
mod tests;

pub use form::{LEN, decode, encode};
pub use issue::Issuer;
pub use keys::{KEYS_MAX, Key, Keys, KeysError};
pub use redeem::{Actuator, Redeemed, TicketError, USED_MAX};

/// One second, in the unit of a ticket's times.
pub const SECOND_NS: u64 = 1_000_000_000;
/// The longest life of a ticket: far longer than from the ledger's answer to the effect, and short enough that what was
/// not used is soon worth nothing.
pub const TTL_MAX_NS: u64 = 60 * SECOND_NS;
