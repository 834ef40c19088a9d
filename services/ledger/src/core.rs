//! The chain, without I/O, clock or randomness: how an entry becomes bytes, and when bytes are the next entry.
//!
//! The canonical form is compact JSON with the fields in the order below. An entry's hash is SHA-256 of its
//! canonical bytes, which contain the hash of the entry before it.

use octant_api::ledger::{Appended, Entry, Kind};
use octant_api::text::Json;
use octant_ids::{Principal, Sha256};
use serde::{Deserialize, Serialize, Serializer};
use sha2::Digest;

/// The version of the canonical form, its first field.
const VERSION: u8 = 1;

/// An entry that has no place in the chain yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// Who did it.
    pub actor: Principal,
    /// What it is about.
    pub kind: Kind,
    /// The entry that announced it.
    pub intent: Option<u64>,
    /// What happened.
    pub payload: Json,
    /// When PID 1 observed it (CLOCK_MONOTONIC, nanoseconds), where that is not when it is appended.
    pub observed_ns: Option<u64>,
    /// Whether it was observed before the ledger could be reached.
    pub backfilled: bool,
}

/// When an entry is appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// CLOCK_MONOTONIC, nanoseconds.
    pub mono_ns: u64,
    /// Milliseconds since 1970.
    pub wall_ms: u64,
}

#[derive(Serialize)]
struct Written<'a> {
    v: u8,
    seq: u64,
    boot_id: &'a str,
    mono_ns: u64,
    wall_ms: u64,
    actor: &'a Principal,
    kind: Kind,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    backfilled: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    intent: Option<u64>,
    payload: &'a Json,
    #[serde(serialize_with = "hexadecimal")]
    prev: Sha256,
}

/// The digest's text, made without the formatting machinery: every entry that is appended or verified needs it.
fn hexadecimal<S: Serializer>(digest: &Sha256, serializer: S) -> Result<S::Ok, S::Error> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [0; 64];
    for (pair, byte) in text.as_chunks_mut::<2>().0.iter_mut().zip(digest.0) {
        *pair = [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]];
    }
    serializer.serialize_str(std::str::from_utf8(&text).map_err(serde::ser::Error::custom)?)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Read {
    v: u8,
    seq: u64,
    boot_id: String,
    mono_ns: u64,
    wall_ms: u64,
    actor: Principal,
    kind: Kind,
    #[serde(default)]
    backfilled: bool,
    #[serde(default)]
    intent: Option<u64>,
    payload: Json,
    prev: Sha256,
}

/// Why bytes are not the next entry of the chain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// Not the form that entries have.
    #[error("it is not an entry: {0}")]
    Form(String),
    /// Another version of the form.
    #[error("it is of version {0}, this program knows {VERSION}")]
    Version(u8),
    /// The same content, written otherwise.
    #[error("its bytes are not in canonical form")]
    NotCanonical,
    /// Another number than the next one.
    #[error("it has number {found}, expected {expected}")]
    Number {
        /// Its number.
        found: u64,
        /// The number that would be next.
        expected: u64,
    },
    /// It names another predecessor.
    #[error("it follows {found}, but the entry before it has the hash {expected}")]
    Link {
        /// The hash that it names.
        found: Sha256,
        /// The hash of the entry before it.
        expected: Sha256,
    },
}

/// SHA-256 of bytes.
#[must_use]
pub fn hash(bytes: &[u8]) -> Sha256 {
    Sha256(sha2::Sha256::digest(bytes).into())
}

/// The end of the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tip {
    /// The number of the last entry; 0 before the first.
    pub seq: u64,
    /// Its hash; zeros before the first.
    pub hash: Sha256,
}

impl Tip {
    /// The tip before the first entry.
    pub const START: Self = Self { seq: 0, hash: Sha256::ZERO };

    /// Makes a draft the next entry: appends its canonical bytes to `out` and moves the tip.
    ///
    /// # Errors
    /// The draft has no JSON form, which no draft made of these types has; the tip is where it was.
    pub fn seal(
        &mut self,
        boot_id: &str,
        draft: &Draft,
        stamp: Stamp,
        out: &mut Vec<u8>,
    ) -> Result<Appended, serde_json::Error> {
        let start = out.len();
        let written = Written {
            v: VERSION,
            seq: self.seq + 1,
            boot_id,
            mono_ns: draft.observed_ns.unwrap_or(stamp.mono_ns),
            wall_ms: stamp.wall_ms,
            actor: &draft.actor,
            kind: draft.kind,
            backfilled: draft.backfilled,
            intent: draft.intent,
            payload: &draft.payload,
            prev: self.hash,
        };
        if let Err(error) = serde_json::to_writer(&mut *out, &written) {
            out.truncate(start);
            return Err(error);
        }
        *self = Self { seq: self.seq + 1, hash: hash(&out[start..]) };
        Ok(Appended { seq: self.seq, hash: self.hash })
    }

    /// Takes bytes as the next entry and moves the tip, after every check there is.
    ///
    /// # Errors
    /// [`Broken`]; the tip is where it was.
    pub fn accept(&mut self, bytes: &[u8]) -> Result<Entry, Broken> {
        let entry = decode(bytes)?;
        if entry.seq != self.seq + 1 {
            return Err(Broken::Number { found: entry.seq, expected: self.seq + 1 });
        }
        if entry.prev != self.hash {
            return Err(Broken::Link { found: entry.prev, expected: self.hash });
        }
        let mut again = Vec::with_capacity(bytes.len());
        encode_to(&mut again, &entry).map_err(|error| Broken::Form(error.to_string()))?;
        if again != bytes {
            return Err(Broken::NotCanonical);
        }
        *self = Self { seq: entry.seq, hash: entry.hash };
        Ok(entry)
    }
}

/// The canonical bytes of an entry.
///
/// # Errors
/// As [`Tip::seal`].
pub fn encode(entry: &Entry) -> Result<Vec<u8>, serde_json::Error> {
    let mut out = Vec::new();
    encode_to(&mut out, entry).map(|()| out)
}

fn encode_to(out: &mut Vec<u8>, entry: &Entry) -> Result<(), serde_json::Error> {
    let written = Written {
        v: VERSION,
        seq: entry.seq,
        boot_id: &entry.boot_id,
        mono_ns: entry.mono_ns,
        wall_ms: entry.wall_ms,
        actor: &entry.actor,
        kind: entry.kind,
        backfilled: entry.backfilled,
        intent: entry.intent,
        payload: &entry.payload,
        prev: entry.prev,
    };
    serde_json::to_writer(out, &written)
}

/// Reads an entry by itself, without its place in the chain.
///
/// # Errors
/// [`Broken::Form`], [`Broken::Version`].
pub fn decode(bytes: &[u8]) -> Result<Entry, Broken> {
    let read: Read = serde_json::from_slice(bytes).map_err(|error| Broken::Form(error.to_string()))?;
    if read.v != VERSION {
        return Err(Broken::Version(read.v));
    }
    Ok(Entry {
        seq: read.seq,
        boot_id: read.boot_id,
        mono_ns: read.mono_ns,
        wall_ms: read.wall_ms,
        actor: read.actor,
        kind: read.kind,
        backfilled: read.backfilled,
        intent: read.intent,
        payload: read.payload,
        prev: read.prev,
        hash: hash(bytes),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use octant_ids::Aid;
    use proptest::prelude::*;

    fn principal() -> impl Strategy<Value = Principal> {
        prop_oneof![
            Just(Principal::Init),
            any::<u32>().prop_map(Principal::Operator),
            Just(Principal::Service("agents".parse().unwrap())),
            (any::<u64>(), any::<[u8; 10]>()).prop_map(|(ms, random)| Principal::Agent(Aid::new(ms, random))),
        ]
    }

    fn draft() -> impl Strategy<Value = Draft> {
        let payload = prop_oneof![
            any::<String>().prop_map(|text| Json::of(&text).unwrap()),
            any::<(i64, bool)>().prop_map(|value| Json::of(&value).unwrap()),
            Just(Json::from_text("{ \"a\": 1.50, \"a\": [null] }".into()).unwrap()),
        ];
        let kind = prop::sample::select(Kind::ALL.to_vec());
        (principal(), kind, any::<Option<u64>>(), payload, any::<Option<u64>>(), any::<bool>()).prop_map(
            |(actor, kind, intent, payload, observed_ns, backfilled)| Draft {
                actor,
                kind,
                intent,
                payload,
                observed_ns,
                backfilled,
            },
        )
    }

    fn chain(drafts: &[Draft]) -> Vec<Vec<u8>> {
        let mut tip = Tip::START;
        drafts
            .iter()
            .zip(1..)
            .map(|(draft, n)| {
                let mut out = Vec::new();
                let stamp = Stamp { mono_ns: n, wall_ms: n };
                let appended = tip.seal("00", draft, stamp, &mut out).unwrap();
                assert_eq!((appended.seq, appended.hash), (n, hash(&out)));
                out
            })
            .collect()
    }

    fn accept_all(records: &[Vec<u8>]) -> Result<Tip, Broken> {
        let mut tip = Tip::START;
        for record in records {
            tip.accept(record)?;
        }
        Ok(tip)
    }

    proptest! {
        #[test]
        fn what_is_sealed_is_accepted_and_reads_the_same(drafts in prop::collection::vec(draft(), 1..8)) {
            let records = chain(&drafts);
            let tip = accept_all(&records).unwrap();
            prop_assert_eq!(tip.seq, drafts.len() as u64);
            for (record, draft) in records.iter().zip(&drafts) {
                let entry = decode(record).unwrap();
                prop_assert_eq!(&entry.actor, &draft.actor);
                prop_assert_eq!(&entry.payload, &draft.payload);
                prop_assert_eq!(entry.intent, draft.intent);
                prop_assert_eq!(encode(&entry).unwrap(), record.clone());
            }
        }

        #[test]
        fn any_changed_byte_breaks_the_chain_or_moves_its_tip(
            drafts in prop::collection::vec(draft(), 1..6),
            which in any::<prop::sample::Index>(),
            at in any::<prop::sample::Index>(),
            flip in 1_u8..,
        ) {
            let mut records = chain(&drafts);
            let good = accept_all(&records).unwrap();
            let record = which.get_mut(&mut records);
            let place = at.index(record.len());
            record[place] ^= flip;
            prop_assert_ne!(accept_all(&records), Ok(good));
        }

        #[test]
        fn removal_repetition_and_exchange_break_the_chain(
            drafts in prop::collection::vec(draft(), 2..6),
            a in any::<prop::sample::Index>(),
            b in any::<prop::sample::Index>(),
        ) {
            let records = chain(&drafts);
            let (a, b) = (a.index(records.len()), b.index(records.len()));
            let mut without = records.clone();
            without.remove(a);
            prop_assert_ne!(accept_all(&without), accept_all(&records));
            let mut twice = records.clone();
            twice.insert(a, records[a].clone());
            prop_assert!(accept_all(&twice).is_err());
            if a != b {
                let mut exchanged = records.clone();
                exchanged.swap(a, b);
                prop_assert!(accept_all(&exchanged).is_err());
            }
        }
    }

    #[test]
    fn the_canonical_form_is_pinned() {
        let draft = Draft {
            actor: Principal::Service("agents".parse().unwrap()),
            kind: Kind::Outcome,
            intent: Some(3),
            payload: Json::from_text("{\"ok\":true}".into()).unwrap(),
            observed_ns: None,
            backfilled: false,
        };
        let mut out = Vec::new();
        let mut tip = Tip::START;
        let appended = tip.seal("ab", &draft, Stamp { mono_ns: 5, wall_ms: 6 }, &mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "{\"v\":1,\"seq\":1,\"boot_id\":\"ab\",\"mono_ns\":5,\"wall_ms\":6,\"actor\":{\"service\":\"agents\"},\
             \"kind\":\"outcome\",\"intent\":3,\"payload\":{\"ok\":true},\"prev\":\"00000000000000000000000000000000\
             00000000000000000000000000000000\"}"
        );
        // From `printf ... | sha256sum`, so that another implementation can check the form.
        assert_eq!(
            appended.hash.to_string(),
            "9522557c58366a8f4aed6a2f04dc3725fa5d28857eb97bde468a6938f913187a"
        );
    }
}
