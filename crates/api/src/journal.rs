//! What PID 1 writes to the ledger about itself: boot phases and unit transitions, the `journal` descriptor.
//!
//! One datagram is one [`Record`], at most [`Record::MAX`] bytes:
//! `magic[4] kind u8 flags u8 unit_len u8 0 text_len u16 0 0 0 0 mono_ns u64 unit[unit_len] text[text_len]`,
//! little endian. The bounds let PID 1 keep a fixed number of them while the ledger is away.

/// What a record is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A phase of the boot or of the shutdown.
    Boot = 1,
    /// A unit's transition.
    Unit = 2,
    /// Records that had to be dropped because the ledger took none for too long; the text is their number.
    Lost = 3,
}

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// What it is about.
    pub kind: Kind,
    /// Whether it happened before the ledger was there to take it.
    pub backfilled: bool,
    /// When it happened, CLOCK_MONOTONIC nanoseconds.
    pub mono_ns: u64,
    /// The unit that it is about; empty for PID 1 itself. At most [`Record::UNIT_MAX`] bytes.
    pub unit: String,
    /// What happened. At most [`Record::TEXT_MAX`] bytes.
    pub text: String,
}

const MAGIC: [u8; 4] = *b"OCJ1";
const HEAD: usize = 24;

impl Record {
    /// The most bytes of a datagram.
    pub const MAX: usize = 512;
    /// The most bytes of a unit's name.
    pub const UNIT_MAX: usize = 31;
    /// The most bytes of the text.
    pub const TEXT_MAX: usize = Self::MAX - HEAD - Self::UNIT_MAX;

    /// The datagram. Texts that are too long are cut at a character's border.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let unit = cut(&self.unit, Self::UNIT_MAX);
        let text = cut(&self.text, Self::TEXT_MAX);
        let mut out = Vec::with_capacity(HEAD + unit.len() + text.len());
        out.extend_from_slice(&MAGIC);
        // Both lengths fit by the cuts above.
        out.extend_from_slice(&[self.kind as u8, u8::from(self.backfilled), short(unit.len()), 0]);
        out.extend_from_slice(&u16::try_from(text.len()).unwrap_or(0).to_le_bytes());
        out.extend_from_slice(&[0; 6]);
        out.extend_from_slice(&self.mono_ns.to_le_bytes());
        out.extend_from_slice(unit.as_bytes());
        out.extend_from_slice(text.as_bytes());
        out
    }

    /// The reading of a datagram; `None` when it is not exactly what [`Record::encode`] makes.
    #[must_use]
    pub fn decode(datagram: &[u8]) -> Option<Self> {
        if datagram.len() > Self::MAX {
            return None;
        }
        let (head, body) = datagram.split_first_chunk::<HEAD>()?;
        let (kind, flags, unit_len) = (head[4], head[5], usize::from(head[6]));
        let text_len = usize::from(u16::from_le_bytes([head[8], head[9]]));
        let padding_is_zero = head[7] == 0 && head[10..16].iter().all(|b| *b == 0);
        if head[..4] != MAGIC || !padding_is_zero || flags > 1 || body.len() != unit_len + text_len {
            return None;
        }
        let kind = [Kind::Boot, Kind::Unit, Kind::Lost].into_iter().find(|k| *k as u8 == kind)?;
        let (unit, text) = body.split_at_checked(unit_len)?;
        if unit_len > Self::UNIT_MAX || text_len > Self::TEXT_MAX {
            return None;
        }
        Some(Self {
            kind,
            backfilled: flags == 1,
            mono_ns: u64::from_le_bytes(*head[16..].first_chunk()?),
            unit: std::str::from_utf8(unit).ok()?.to_owned(),
            text: std::str::from_utf8(text).ok()?.to_owned(),
        })
    }
}

fn short(length: usize) -> u8 {
    u8::try_from(length).unwrap_or(0)
}

/// The longest prefix of at most `max` bytes that ends at a character's border.
#[must_use]
pub fn cut(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(text: &str) -> Record {
        Record {
            kind: Kind::Unit,
            backfilled: true,
            mono_ns: 123_456_789,
            unit: "ledger".into(),
            text: text.into(),
        }
    }

    #[test]
    fn a_record_is_read_back_and_never_longer_than_the_limit() {
        let sample = record("starting -> ready");
        assert_eq!(Record::decode(&sample.encode()), Some(sample));
        let long = Record { unit: "a".repeat(99), ..record(&"ä".repeat(600)) };
        let bytes = long.encode();
        assert!(bytes.len() <= Record::MAX);
        assert!(long.text.starts_with(&Record::decode(&bytes).unwrap().text));
    }

    #[test]
    fn what_encode_does_not_make_is_refused() {
        let good = record("x").encode();
        for at in [0, 4, 5, 6, 7, 8, 9, 10] {
            let mut bad = good.clone();
            bad[at] ^= 0x40;
            assert_eq!(Record::decode(&bad), None, "byte {at}");
        }
        assert_eq!(Record::decode(&good[..good.len() - 1]), None);
        assert_eq!(Record::decode(&[]), None);
        let mut not_text = good;
        *not_text.last_mut().unwrap() = 0xff;
        assert_eq!(Record::decode(&not_text), None);
    }
}
