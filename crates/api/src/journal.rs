//! What PID 1 writes to the ledger about itself: boot phases, unit transitions, operators' commands and its
//! configuration; the `journal` descriptor.
//!
//! One datagram is one [`Record`], at most [`Record::MAX`] bytes:
//! `magic[4] kind u8 flags u8 unit_len u8 0 text_len u16 uid u32 0 0 mono_ns u64 unit[unit_len] text[text_len]`,
//! little endian; `uid` is zero unless the kind is a command. The bounds let PID 1 keep a fixed number of them while the ledger is away.

/// What a record is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A phase of the boot or of the shutdown.
    Boot,
    /// A unit's transition.
    Unit,
    /// Records that had to be dropped because the ledger took none for too long; the text is their number.
    Lost,
    /// An operator's command, or the refusal of one.
    Command {
        /// Who asked, as the kernel said of the connection.
        uid: u32,
    },
    /// The configuration that PID 1 has read: each file with the SHA-256 of its bytes.
    Config,
}

impl Kind {
    /// Its number and user id in a datagram.
    fn encode(self) -> (u8, u32) {
        match self {
            Self::Boot => (1, 0),
            Self::Unit => (2, 0),
            Self::Lost => (3, 0),
            Self::Command { uid } => (4, uid),
            Self::Config => (5, 0),
        }
    }

    fn decode(number: u8, uid: u32) -> Option<Self> {
        let known = [Self::Boot, Self::Unit, Self::Lost, Self::Command { uid }, Self::Config];
        known.into_iter().find(|kind| kind.encode() == (number, uid))
    }
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
        let (kind, uid) = self.kind.encode();
        let mut out = Vec::with_capacity(HEAD + unit.len() + text.len());
        out.extend_from_slice(&MAGIC);
        // Both lengths fit by the cuts above.
        out.extend_from_slice(&[kind, u8::from(self.backfilled), short(unit.len()), 0]);
        out.extend_from_slice(&u16::try_from(text.len()).unwrap_or(0).to_le_bytes());
        out.extend_from_slice(&uid.to_le_bytes());
        out.extend_from_slice(&[0; 2]);
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
        let uid = u32::from_le_bytes(*head[10..].first_chunk()?);
        let padding_is_zero = head[7] == 0 && head[14..16].iter().all(|b| *b == 0);
        if head[..4] != MAGIC || !padding_is_zero || flags > 1 || body.len() != unit_len + text_len {
            return None;
        }
        let kind = Kind::decode(kind, uid)?;
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
    fn every_kind_is_read_back_and_only_a_command_has_a_user() {
        let uids = [0, 1, 1000, u32::MAX];
        for kind in [Kind::Boot, Kind::Unit, Kind::Lost, Kind::Config]
            .into_iter()
            .chain(uids.map(|uid| Kind::Command { uid }))
        {
            let sample = Record { kind, ..record("restart") };
            assert_eq!(Record::decode(&sample.encode()), Some(sample));
        }
        for kind in [Kind::Boot, Kind::Unit, Kind::Lost, Kind::Config] {
            let mut bad = Record { kind, ..record("restart") }.encode();
            bad[10] = 1;
            assert_eq!(Record::decode(&bad), None, "{kind:?}");
        }
    }

    #[test]
    fn what_encode_does_not_make_is_refused() {
        let good = record("x").encode();
        for at in [0, 4, 5, 6, 7, 8, 9, 10, 13, 14, 15] {
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
