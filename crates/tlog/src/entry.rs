//! The canonical form of an entry: deterministic CBOR, a map with the keys below in ascending order.
//!
//! | key | value | when |
//! |---|---|---|
//! | 0 | version, 2 | always |
//! | 1 | hash algorithm of every digest in the entry and of the entry itself: 1 is SHA-256 | always |
//! | 2 | sequence number from 1 | always |
//! | 3 | boot id, 16 bytes | always |
//! | 4 | CLOCK_MONOTONIC, nanoseconds | always |
//! | 5 | wall clock, milliseconds since 1970 | always |
//! | 6 | actor: `[0]` PID 1, `[1, uid]` operator, `[2, name]` service, `[3, 16 bytes]` agent, `[4, uid]` stranger | always |
//! | 7 | kind, the index in [`Kind::ALL`] | always |
//! | 8 | hash of the entry before, 32 bytes | always |
//! | 9 | `true`: observed before the ledger could be reached | if so |
//! | 10 | the intent's number | if any |
//! | 11, 12, 13 | agent (16 bytes), number in its partition from 1, hash of the partition's entry before | about an agent |
//! | 14, 15, 16 | digest of the manifest, the policy, the subject | if any |
//! | 17 | payload: JSON text | exactly one of these three |
//! | 18 | commitment to a payload that can be erased: SHA-256 of salt (32 bytes) and JSON text | |
//! | 19 | `[digest, length]` of a payload that is kept elsewhere | |
//!
//! The entry's hash is its leaf hash in the Merkle tree: SHA-256 of a zero byte and these bytes.

use crate::cbor::{self, CborError, Reader};
use crate::merkle::leaf_hash;
use octant_api::ledger::{Entry, Erasable, Kind, Outside, PAYLOAD_MAX, Partition};
use octant_api::text::Json;
use octant_ids::{Aid, Principal, ServiceName, Sha256};
use serde_json::value::RawValue;
use sha2::Digest;

/// The version of the canonical form.
pub const VERSION: u64 = 2;
/// The hash algorithm SHA-256 in an entry.
pub const SHA_256: u64 = 1;
/// The most canonical bytes of an entry: what an entry bundle of C2SP tlog-tiles can hold.
pub const ENTRY_MAX: usize = 65_535;

/// A boot's identifier.
pub type BootId = [u8; 16];

/// The boot identifier of 32 hexadecimal digits.
#[must_use]
pub fn boot_id(text: &str) -> Option<BootId> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let mut out = [0; 16];
    if pairs.len() != 16 || !rest.is_empty() || text.bytes().any(|b| b.is_ascii_uppercase()) {
        return None;
    }
    for (place, pair) in out.iter_mut().zip(pairs) {
        *place = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    // `from_str_radix` takes a sign.
    text.bytes().all(|b| b.is_ascii_hexdigit()).then_some(out)
}

/// The digits of a boot identifier.
#[must_use]
pub fn boot_id_text(id: &BootId) -> String {
    use std::fmt::Write as _;
    id.iter().fold(String::with_capacity(32), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// What an entry holds of its payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// The payload itself.
    Payload(Json),
    /// A commitment to a payload that can be erased ([`commitment`]).
    Commitment(Sha256),
    /// The digest of a payload that is kept elsewhere.
    Outside(Outside),
}

impl Content {
    /// How many bytes of payload the entry itself holds.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Payload(payload) => payload.text().len(),
            Self::Commitment(_) | Self::Outside(_) => 0,
        }
    }

    /// Whether the entry holds no byte of it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What commits to an erasable payload: without the salt, which is erased with it, nobody can try payloads.
#[must_use]
pub fn commitment(salt: &[u8; 32], payload: &str) -> Sha256 {
    Sha256(sha2::Sha256::new().chain_update(salt).chain_update(payload).finalize().into())
}

/// An entry before it has a place in the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// Who did it.
    pub actor: Principal,
    /// What it is about.
    pub kind: Kind,
    /// Whether it was observed before the ledger could be reached.
    pub backfilled: bool,
    /// The entry that announced it.
    pub intent: Option<u64>,
    /// The agent that it is about.
    pub agent: Option<Aid>,
    /// The digest of the manifest under which it was done.
    pub manifest: Option<Sha256>,
    /// The digest of the policy by which it was decided.
    pub policy: Option<Sha256>,
    /// The digest of what it is about.
    pub subject: Option<Sha256>,
    /// What happened.
    pub content: Content,
    /// When PID 1 observed it (CLOCK_MONOTONIC, nanoseconds), where that is not when it is appended.
    pub observed_ns: Option<u64>,
}

impl Draft {
    /// A draft with a payload and nothing else.
    #[must_use]
    pub fn new(actor: Principal, kind: Kind, payload: Json) -> Self {
        Self {
            actor,
            kind,
            backfilled: false,
            intent: None,
            agent: None,
            manifest: None,
            policy: None,
            subject: None,
            content: Content::Payload(payload),
            observed_ns: None,
        }
    }
}

/// When an entry is appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// CLOCK_MONOTONIC, nanoseconds.
    pub mono_ns: u64,
    /// Milliseconds since 1970.
    pub wall_ms: u64,
}

/// Where an entry stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Its number.
    pub seq: u64,
    /// The hash of the entry before it.
    pub prev: Sha256,
    /// The boot during which it is appended.
    pub boot: BootId,
    /// Its place in its agent's partition.
    pub partition: Option<Partition>,
}

/// Appends the canonical bytes of a draft at a place.
pub fn encode(out: &mut Vec<u8>, draft: &Draft, place: &Place, stamp: Stamp) {
    let optional = [draft.backfilled, draft.intent.is_some()].into_iter().map(u64::from).sum::<u64>()
        + if place.partition.is_some() { 3 } else { 0 }
        + [draft.manifest, draft.policy, draft.subject].iter().map(|d| u64::from(d.is_some())).sum::<u64>();
    cbor::map(out, 10 + optional);
    for (key, value) in [(0, VERSION), (1, SHA_256), (2, place.seq)] {
        number(out, key, value);
    }
    blob(out, 3, &place.boot);
    number(out, 4, draft.observed_ns.unwrap_or(stamp.mono_ns));
    number(out, 5, stamp.wall_ms);
    cbor::unsigned(out, 6);
    encode_actor(out, &draft.actor);
    number(out, 7, draft.kind as u64);
    blob(out, 8, &place.prev.0);
    if draft.backfilled {
        cbor::unsigned(out, 9);
        cbor::yes(out);
    }
    if let Some(intent) = draft.intent {
        number(out, 10, intent);
    }
    if let Some(partition) = &place.partition {
        blob(out, 11, &partition.agent.to_bytes());
        number(out, 12, partition.seq);
        blob(out, 13, &partition.prev.0);
    }
    for (key, digest) in [(14, draft.manifest), (15, draft.policy), (16, draft.subject)] {
        if let Some(digest) = digest {
            blob(out, key, &digest.0);
        }
    }
    match &draft.content {
        Content::Payload(payload) => {
            cbor::unsigned(out, 17);
            cbor::text(out, payload.text());
        }
        Content::Commitment(commitment) => blob(out, 18, &commitment.0),
        Content::Outside(outside) => {
            cbor::unsigned(out, 19);
            cbor::array(out, 2);
            cbor::bytes(out, &outside.sha256.0);
            cbor::unsigned(out, outside.bytes);
        }
    }
}

fn number(out: &mut Vec<u8>, key: u64, value: u64) {
    cbor::unsigned(out, key);
    cbor::unsigned(out, value);
}

fn blob(out: &mut Vec<u8>, key: u64, value: &[u8]) {
    cbor::unsigned(out, key);
    cbor::bytes(out, value);
}

pub(crate) fn encode_actor(out: &mut Vec<u8>, actor: &Principal) {
    cbor::array(out, if *actor == Principal::Init { 1 } else { 2 });
    match actor {
        Principal::Init => cbor::unsigned(out, 0),
        Principal::Operator(uid) => {
            cbor::unsigned(out, 1);
            cbor::unsigned(out, u64::from(*uid));
        }
        Principal::Service(name) => {
            cbor::unsigned(out, 2);
            cbor::text(out, name.as_str());
        }
        Principal::Agent(aid) => {
            cbor::unsigned(out, 3);
            cbor::bytes(out, &aid.to_bytes());
        }
        Principal::Stranger(uid) => {
            cbor::unsigned(out, 4);
            cbor::unsigned(out, u64::from(*uid));
        }
    }
}

/// Why bytes are not an entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// Not deterministic CBOR of the shape that entries have.
    #[error("it is not an entry in canonical form: {0}")]
    Form(#[from] CborError),
    /// Another version of the form.
    #[error("it is of version {0}, this program knows {VERSION}; use the program that wrote it")]
    Version(u64),
    /// A hash algorithm that this program does not know.
    #[error(
        "its hash algorithm is {0}, this program knows {SHA_256} (SHA-256); use the program that wrote it"
    )]
    Algorithm(u64),
    /// A key that does not belong there: unknown, missing, doubled or out of order.
    #[error("key {0} stands where it does not belong")]
    Key(u64),
    /// A value that no entry has.
    #[error("its {0} is none that an entry can have")]
    Value(&'static str),
    /// More bytes than an entry can have.
    #[error("it has {0} bytes, an entry has at most {ENTRY_MAX}")]
    Long(usize),
}

/// An entry as it stands in its canonical bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View<'a> {
    /// Its number.
    pub seq: u64,
    /// The boot during which it was appended.
    pub boot: BootId,
    /// CLOCK_MONOTONIC, nanoseconds.
    pub mono_ns: u64,
    /// Milliseconds since 1970.
    pub wall_ms: u64,
    /// Who did it.
    pub actor: Principal,
    /// What it is about.
    pub kind: Kind,
    /// The hash of the entry before it.
    pub prev: Sha256,
    /// Whether it was observed before the ledger could be reached.
    pub backfilled: bool,
    /// The entry that announced it.
    pub intent: Option<u64>,
    /// Its place in its agent's partition.
    pub partition: Option<Partition>,
    /// The digest of the manifest.
    pub manifest: Option<Sha256>,
    /// The digest of the policy.
    pub policy: Option<Sha256>,
    /// The digest of what it is about.
    pub subject: Option<Sha256>,
    /// The payload's text, where the entry holds it.
    pub payload: Option<&'a str>,
    /// The commitment to a payload that can be erased.
    pub commitment: Option<Sha256>,
    /// The digest of a payload that is kept elsewhere.
    pub outside: Option<Outside>,
}

/// The pairs of the map, one key after the other.
struct Pairs<'a> {
    reader: Reader<'a>,
    left: u64,
    /// The key whose value is next; none at the end.
    key: Option<u64>,
}

impl<'a> Pairs<'a> {
    fn open(bytes: &'a [u8]) -> Result<Self, EntryError> {
        let mut reader = Reader::new(bytes);
        let left = reader.map()?;
        let mut pairs = Self { reader, left, key: None };
        pairs.next()?;
        Ok(pairs)
    }

    fn next(&mut self) -> Result<(), EntryError> {
        self.key = match self.left.checked_sub(1) {
            None => None,
            Some(left) => {
                self.left = left;
                Some(self.reader.unsigned()?)
            }
        };
        Ok(())
    }

    /// The value of this key if it is the next one. Asked for in ascending order, this refuses any other order.
    fn optional<T>(
        &mut self,
        key: u64,
        read: impl FnOnce(&mut Reader<'a>) -> Result<T, EntryError>,
    ) -> Result<Option<T>, EntryError> {
        if self.key != Some(key) {
            return Ok(None);
        }
        let value = read(&mut self.reader)?;
        self.next()?;
        Ok(Some(value))
    }

    fn needed<T>(
        &mut self,
        key: u64,
        read: impl FnOnce(&mut Reader<'a>) -> Result<T, EntryError>,
    ) -> Result<T, EntryError> {
        self.optional(key, read)?.ok_or(EntryError::Key(key))
    }

    fn number(&mut self, key: u64) -> Result<u64, EntryError> {
        self.needed(key, |r| Ok(r.unsigned()?))
    }

    fn digest(&mut self, key: u64) -> Result<Option<Sha256>, EntryError> {
        self.optional(key, |r| Ok(Sha256(r.fixed()?)))
    }

    fn end(self) -> Result<(), EntryError> {
        match self.key {
            Some(key) => Err(EntryError::Key(key)),
            None => Ok(self.reader.end()?),
        }
    }
}

impl<'a> View<'a> {
    /// Reads canonical bytes. What is accepted has no other form, so an entry and its bytes are one and the same.
    ///
    /// # Errors
    /// [`EntryError`].
    pub fn of(bytes: &'a [u8]) -> Result<Self, EntryError> {
        if bytes.len() > ENTRY_MAX {
            return Err(EntryError::Long(bytes.len()));
        }
        let mut pairs = Pairs::open(bytes)?;
        match pairs.number(0)? {
            VERSION => {}
            other => return Err(EntryError::Version(other)),
        }
        match pairs.number(1)? {
            SHA_256 => {}
            other => return Err(EntryError::Algorithm(other)),
        }
        let seq = pairs.number(2)?;
        let boot = pairs.needed(3, |r| Ok(r.fixed()?))?;
        let (mono_ns, wall_ms) = (pairs.number(4)?, pairs.number(5)?);
        let actor = pairs.needed(6, decode_actor)?;
        let kind = usize::try_from(pairs.number(7)?).ok().and_then(|kind| Kind::ALL.get(kind).copied());
        let kind = kind.ok_or(EntryError::Value("kind"))?;
        let prev = pairs.needed(8, |r| Ok(Sha256(r.fixed()?)))?;
        let backfilled = pairs.optional(9, |r| Ok(r.yes()?))?.is_some();
        let intent = pairs.optional(10, |r| Ok(r.unsigned()?))?;
        let agent = pairs.optional(11, |r| Ok(Aid::from_bytes(r.fixed()?)))?;
        let partition = match agent {
            None => None,
            Some(agent) => {
                let seq = pairs.number(12)?;
                let prev = pairs.needed(13, |r| Ok(Sha256(r.fixed()?)))?;
                Some(Partition { agent, seq, prev })
            }
        };
        let (manifest, policy, subject) = (pairs.digest(14)?, pairs.digest(15)?, pairs.digest(16)?);
        let payload = pairs.optional(17, |r| Ok(r.text()?))?;
        let commitment = pairs.digest(18)?;
        let outside = pairs.optional(19, |r| match r.array()? {
            2 => Ok(Outside { sha256: Sha256(r.fixed()?), bytes: r.unsigned()? }),
            _ => Err(EntryError::Value("outside payload")),
        })?;
        pairs.end()?;
        match (payload, commitment, outside) {
            (Some(text), None, None) => {
                if text.len() > PAYLOAD_MAX || serde_json::from_str::<&RawValue>(text).is_err() {
                    return Err(EntryError::Value("payload"));
                }
            }
            (None, Some(_), None) | (None, None, Some(_)) => {}
            _ => return Err(EntryError::Key(17)),
        }
        Ok(Self {
            seq,
            boot,
            mono_ns,
            wall_ms,
            actor,
            kind,
            prev,
            backfilled,
            intent,
            partition,
            manifest,
            policy,
            subject,
            payload,
            commitment,
            outside,
        })
    }

    /// What [`encode`] makes the same bytes of.
    ///
    /// # Errors
    /// [`EntryError::Value`]: as [`View::entry`].
    pub fn parts(&self) -> Result<(Draft, Place, Stamp), EntryError> {
        let content = match (self.payload, self.commitment, self.outside) {
            (Some(text), ..) => Json::from_text(text.to_owned()).ok().map(Content::Payload),
            (_, Some(commitment), _) => Some(Content::Commitment(commitment)),
            (.., outside) => outside.map(Content::Outside),
        };
        let draft = Draft {
            actor: self.actor.clone(),
            kind: self.kind,
            backfilled: self.backfilled,
            intent: self.intent,
            agent: self.partition.map(|partition| partition.agent),
            manifest: self.manifest,
            policy: self.policy,
            subject: self.subject,
            content: content.ok_or(EntryError::Value("payload"))?,
            observed_ns: None,
        };
        let place = Place { seq: self.seq, prev: self.prev, boot: self.boot, partition: self.partition };
        Ok((draft, place, Stamp { mono_ns: self.mono_ns, wall_ms: self.wall_ms }))
    }

    /// The entry for people and programs. An erasable payload is `null` until somebody puts it there.
    ///
    /// # Errors
    /// [`EntryError::Value`]: the payload is no JSON, which [`View::of`] has excluded.
    pub fn entry(&self, hash: Sha256) -> Result<Entry, EntryError> {
        let payload = self.payload.unwrap_or("null").to_owned();
        Ok(Entry {
            seq: self.seq,
            boot_id: boot_id_text(&self.boot),
            mono_ns: self.mono_ns,
            wall_ms: self.wall_ms,
            actor: self.actor.clone(),
            kind: self.kind,
            backfilled: self.backfilled,
            intent: self.intent,
            partition: self.partition,
            manifest: self.manifest,
            policy: self.policy,
            subject: self.subject,
            payload: Json::from_text(payload).map_err(|_| EntryError::Value("payload"))?,
            erasable: self.commitment.map(|commitment| Erasable { commitment, salt: None }),
            outside: self.outside,
            prev: self.prev,
            hash,
        })
    }
}

pub(crate) fn decode_actor(reader: &mut Reader<'_>) -> Result<Principal, EntryError> {
    let items = reader.array()?;
    let tag = reader.unsigned()?;
    let uid =
        |reader: &mut Reader<'_>| u32::try_from(reader.unsigned()?).map_err(|_| EntryError::Value("actor"));
    match (items, tag) {
        (1, 0) => Ok(Principal::Init),
        (2, 1) => Ok(Principal::Operator(uid(reader)?)),
        (2, 2) => {
            let name: ServiceName = reader.text()?.parse().map_err(|_| EntryError::Value("actor"))?;
            Ok(Principal::Service(name))
        }
        (2, 3) => Ok(Principal::Agent(Aid::from_bytes(reader.fixed()?))),
        (2, 4) => Ok(Principal::Stranger(uid(reader)?)),
        _ => Err(EntryError::Value("actor")),
    }
}

/// Reads an entry by itself, without its place in the chain.
///
/// # Errors
/// [`EntryError`].
pub fn decode(bytes: &[u8]) -> Result<Entry, EntryError> {
    View::of(bytes)?.entry(leaf_hash(bytes))
}
