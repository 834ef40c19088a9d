//! The fixed form of a ticket, for frames, and what its MAC covers.
//!
//! `name_len u8, name[31] padded with zeros, seq u64, intent[32], issued u64, expires u64, mac[32]`, integers big endian.
//! The MAC (HMAC-SHA256, RFC 2104) covers the length of the domain, the domain, and everything before it in this form:
//! every field has its place whatever the others hold, so no two tickets have the same bytes.

use crate::keys::Key;
use hmac::{Hmac, Mac};
use octant_api::ticket::Ticket;
use octant_ids::{ServiceName, Sha256};

/// The length of a ticket in a fixed frame.
pub const LEN: usize = COVERED + 32;
const NAME: usize = ServiceName::MAX;
const COVERED: usize = 1 + NAME + 8 + 32 + 8 + 8;
/// What tells these MACs from any other that a key might ever make.
const DOMAIN: &[u8; 19] = b"octant ticket, v. 1";

fn covered(ticket: &Ticket) -> [u8; COVERED] {
    let name = ticket.actuator.as_str().as_bytes();
    let mut out = [0; COVERED];
    // A name has at most 31 bytes.
    out[0] = u8::try_from(name.len()).unwrap_or(u8::MAX);
    out[1..=name.len()].copy_from_slice(name);
    let (_, rest) = out.split_at_mut(1 + NAME);
    rest[..8].copy_from_slice(&ticket.seq.to_be_bytes());
    rest[8..40].copy_from_slice(&ticket.intent.0);
    rest[40..48].copy_from_slice(&ticket.issued_ns.to_be_bytes());
    rest[48..].copy_from_slice(&ticket.expires_ns.to_be_bytes());
    out
}

/// The MAC over everything in a ticket but its MAC.
pub(crate) fn mac(key: &Key, ticket: &Ticket) -> Hmac<sha2::Sha256> {
    #[expect(clippy::expect_used, reason = "HMAC takes a key of any length (RFC 2104 section 2)")]
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(key.bytes()).expect("a key of 32 bytes");
    mac.update(&[u8::try_from(DOMAIN.len()).unwrap_or(u8::MAX)]);
    mac.update(DOMAIN);
    mac.update(&covered(ticket));
    mac
}

/// The bytes of a ticket.
#[must_use]
pub fn encode(ticket: &Ticket) -> [u8; LEN] {
    let mut out = [0; LEN];
    out[..COVERED].copy_from_slice(&covered(ticket));
    out[COVERED..].copy_from_slice(&ticket.mac.0);
    out
}

/// The ticket of these bytes; `None` when they are not exactly what [`encode`] makes of one.
#[must_use]
pub fn decode(bytes: &[u8]) -> Option<Ticket> {
    let bytes: &[u8; LEN] = bytes.try_into().ok()?;
    let (name, rest) = bytes[1..].split_at(NAME);
    let (name, padding) = name.split_at_checked(usize::from(bytes[0]))?;
    if padding.iter().any(|byte| *byte != 0) {
        return None;
    }
    let number = |at: usize| rest[at..].first_chunk().map(|eight| u64::from_be_bytes(*eight));
    let digest = |at: usize| rest[at..].first_chunk().map(|bytes| Sha256(*bytes));
    Some(Ticket {
        actuator: std::str::from_utf8(name).ok()?.parse().ok()?,
        seq: number(0)?,
        intent: digest(8)?,
        issued_ns: number(40)?,
        expires_ns: number(48)?,
        mac: digest(56)?,
    })
}
