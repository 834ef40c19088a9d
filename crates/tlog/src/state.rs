//! What a log comes to, entry by entry: its tip, its tree, the open partitions and the open intents. The ledger makes
//! entries with it and everybody else checks them with it, so that there is one reading of the rules.
//!
//! Rules of partitions: a `lifecycle` entry opens an agent's partition, every entry about the agent continues it, a
//! `seal` closes it and states how many entries it has, the hash of the last one and their root. After that nothing
//! follows.

use crate::cbor::{self, CborError, Reader};
use crate::entry::{
    BootId, Content, Draft, ENTRY_MAX, EntryError, Place, Stamp, View, decode_actor, encode, encode_actor,
};
use crate::merkle::{Frontier, leaf_hash};
use octant_api::ledger::{Kind, PAYLOAD_MAX, Partition};
use octant_api::text::Json;
use octant_ids::{Aid, Principal, Sha256};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};

/// The most partitions that are open at once: more than agents can run.
pub const PARTITIONS_MAX: usize = 16_384;
/// The most intents that are open at once. Of more, the oldest are no longer waited for.
pub const INTENTS_MAX: usize = 4_096;
/// How many of one actor's intents are open at once. Of more, its own oldest are no longer waited for.
pub const INTENTS_OF_ONE: usize = 1_024;
/// How many sealed partitions are remembered, so that none of them is opened again. Whoever makes agents' identifiers
/// makes none twice; this holds it to that for as long as it could be a mistake.
const SEALED_MAX: usize = 4_096;
/// The version of the encoded state.
const VERSION: u64 = 1;

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
}

/// An agent's partition that is not sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    /// How many entries it has.
    pub entries: u64,
    /// The hash of the last one.
    pub head: Sha256,
    /// The boot of the last one.
    pub boot: BootId,
    /// How many entries the agent itself made.
    pub own_entries: u64,
    /// How many bytes they have.
    pub own_bytes: u64,
    /// Their tree.
    tree: Frontier,
}

/// What a seal states: the payload of the entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    /// How many entries the partition has, without the seal.
    pub entries: u64,
    /// The hash of the last one.
    pub head: Sha256,
    /// The root of the tree over their hashes (RFC 6962).
    pub root: Sha256,
}

impl Open {
    /// What a seal of it states.
    #[must_use]
    pub fn seal(&self) -> Sealed {
        Sealed { entries: self.entries, head: self.head, root: self.tree.root() }
    }
}

/// What a log has come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    tip: Tip,
    tree: Frontier,
    partitions: BTreeMap<Aid, Open>,
    intents: BTreeMap<u64, Waiting>,
    sealed: VecDeque<Aid>,
}

/// An intent without outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Waiting {
    boot: BootId,
    actor: Principal,
}

/// Why bytes are not the next entry of a log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// Not an entry.
    #[error(transparent)]
    Entry(#[from] EntryError),
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
    /// A place in a partition that is not the next one.
    #[error("it is entry {found} of {agent}, expected {expected}: one of that agent's entries is missing")]
    Partition {
        /// The agent.
        agent: Aid,
        /// Its number there.
        found: u64,
        /// The number that would be next.
        expected: u64,
    },
    /// Another predecessor in its partition.
    #[error("it follows another entry of {agent} than the one before it")]
    PartitionLink {
        /// The agent.
        agent: Aid,
    },
    /// A seal that states something else than what is there.
    #[error("it seals {agent} with other entries, head or root than the log has")]
    Seal {
        /// The agent.
        agent: Aid,
    },
    /// Against the rules of partitions.
    #[error(transparent)]
    Rule(#[from] Rule),
}

/// Why a draft cannot become an entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rule {
    /// There is nothing to continue.
    #[error("{0} has no open partition: a lifecycle entry opens it")]
    NotOpen(Aid),
    /// Nothing follows a seal.
    #[error("the partition of {0} is sealed")]
    Sealed(Aid),
    /// Too many are open.
    #[error("{PARTITIONS_MAX} partitions are open")]
    Full,
    /// Only who intended something says what became of it, or the ledger that nobody did.
    #[error("entry {intent} is an intent of {actor}, who alone says what became of it")]
    Outcome {
        /// The intent.
        intent: u64,
        /// Whose it is.
        actor: Principal,
    },
    /// An entry that nobody could read.
    #[error("the entry would have {0} bytes, or its payload more than {PAYLOAD_MAX}")]
    Long(usize),
    /// A seal of nobody.
    #[error("a seal names the agent whose partition it closes")]
    Nobody,
}

/// A state to which [`State::back`] can return.
#[derive(Debug)]
pub struct Mark {
    tip: Tip,
    tree: Frontier,
    touched: Vec<(Aid, Option<Open>)>,
    intents: BTreeMap<u64, Waiting>,
    sealed: VecDeque<Aid>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            tip: Tip::START,
            tree: Frontier::default(),
            partitions: BTreeMap::new(),
            intents: BTreeMap::new(),
            sealed: VecDeque::new(),
        }
    }
}

/// What applying an entry needs to know of it.
struct Step<'a> {
    kind: Kind,
    actor: &'a Principal,
    intent: Option<u64>,
    partition: Option<Partition>,
    boot: BootId,
    hash: Sha256,
    bytes: u64,
}

impl State {
    /// The end of the chain.
    #[must_use]
    pub fn tip(&self) -> Tip {
        self.tip
    }

    /// The tree over all entries.
    #[must_use]
    pub fn tree(&self) -> &Frontier {
        &self.tree
    }

    /// The open partition of an agent.
    #[must_use]
    pub fn partition(&self, agent: Aid) -> Option<&Open> {
        self.partitions.get(&agent)
    }

    /// Every open partition.
    pub fn partitions(&self) -> impl Iterator<Item = (Aid, &Open)> {
        self.partitions.iter().map(|(agent, open)| (*agent, open))
    }

    /// Every intent that has no outcome yet, with the boot during which it was appended, oldest first.
    pub fn intents(&self) -> impl Iterator<Item = (u64, BootId)> + '_ {
        self.intents.iter().map(|(seq, waiting)| (*seq, waiting.boot))
    }

    /// The actor's oldest open intent, when it has as many as it can have.
    #[must_use]
    pub fn too_many_intents(&self, actor: &Principal) -> Option<u64> {
        let mut own = self.intents.iter().filter(|(_, waiting)| waiting.actor == *actor);
        let oldest = own.next().map(|(seq, _)| *seq);
        oldest.filter(|_| 1 + own.count() >= INTENTS_OF_ONE)
    }

    /// Remembers where it stands, before entries about these agents are appended.
    #[must_use]
    pub fn mark(&self, agents: impl IntoIterator<Item = Aid>) -> Mark {
        let touched = agents.into_iter().map(|agent| (agent, self.partitions.get(&agent).cloned())).collect();
        Mark {
            tip: self.tip,
            tree: self.tree.clone(),
            touched,
            intents: self.intents.clone(),
            sealed: self.sealed.clone(),
        }
    }

    /// Returns to where it stood: what was appended since could not be kept.
    pub fn back(&mut self, mark: Mark) {
        for (agent, open) in mark.touched {
            match open {
                Some(open) => drop(self.partitions.insert(agent, open)),
                None => drop(self.partitions.remove(&agent)),
            }
        }
        (self.tip, self.tree) = (mark.tip, mark.tree);
        (self.intents, self.sealed) = (mark.intents, mark.sealed);
    }

    /// Whether a draft keeps the rules; nothing is changed.
    ///
    /// # Errors
    /// [`Rule`].
    pub fn check(
        &self,
        actor: &Principal,
        kind: Kind,
        intent: Option<u64>,
        agent: Option<Aid>,
    ) -> Result<(), Rule> {
        if let (Kind::Outcome, Some(seq)) = (kind, intent)
            && let Some(waiting) = self.intents.get(&seq)
            && waiting.actor != *actor
            && !is_ledger(actor)
        {
            return Err(Rule::Outcome { intent: seq, actor: waiting.actor.clone() });
        }
        let Some(agent) = agent else {
            return if kind == Kind::Seal { Err(Rule::Nobody) } else { Ok(()) };
        };
        if self.partitions.contains_key(&agent) {
            return Ok(());
        }
        if self.sealed.contains(&agent) {
            return Err(Rule::Sealed(agent));
        }
        match kind {
            Kind::Lifecycle if self.partitions.len() >= PARTITIONS_MAX => Err(Rule::Full),
            Kind::Lifecycle => Ok(()),
            _ => Err(Rule::NotOpen(agent)),
        }
    }

    fn place(&self, agent: Option<Aid>) -> Option<Partition> {
        let agent = agent?;
        let (seq, prev) =
            self.partitions.get(&agent).map_or((1, Sha256::ZERO), |open| (open.entries + 1, open.head));
        Some(Partition { agent, seq, prev })
    }

    /// Makes a draft the next entry: appends its canonical bytes to `out`. `completed` gets each subtree that became
    /// complete: height, index, root.
    ///
    /// # Errors
    /// [`Rule`]; nothing has changed.
    pub fn seal(
        &mut self,
        boot: BootId,
        draft: &Draft,
        stamp: Stamp,
        out: &mut Vec<u8>,
        completed: impl FnMut(u8, u64, Sha256),
    ) -> Result<Tip, Rule> {
        self.check(&draft.actor, draft.kind, draft.intent, draft.agent)?;
        let place =
            Place { seq: self.tip.seq + 1, prev: self.tip.hash, boot, partition: self.place(draft.agent) };
        let start = out.len();
        let mut payload = draft.content.len();
        match draft.agent.and_then(|agent| self.partitions.get(&agent)) {
            Some(open) if draft.kind == Kind::Seal => {
                let mut draft = draft.clone();
                draft.content = sealed_content(&open.seal(), &draft.content);
                payload = draft.content.len();
                encode(out, &draft, &place, stamp);
            }
            _ => encode(out, draft, &place, stamp),
        }
        let long = out.len() - start;
        if long > ENTRY_MAX || payload > PAYLOAD_MAX {
            out.truncate(start);
            return Err(Rule::Long(long));
        }
        let hash = leaf_hash(&out[start..]);
        let (kind, actor, intent) = (draft.kind, &draft.actor, draft.intent);
        let bytes = (out.len() - start) as u64;
        self.apply(&Step { kind, actor, intent, partition: place.partition, boot, hash, bytes }, completed);
        Ok(self.tip)
    }

    /// Takes bytes as the next entry, after every check there is. `completed` as for [`State::seal`].
    ///
    /// # Errors
    /// [`Broken`]; nothing has changed.
    pub fn accept<'a>(
        &mut self,
        bytes: &'a [u8],
        completed: impl FnMut(u8, u64, Sha256),
    ) -> Result<View<'a>, Broken> {
        let view = View::of(bytes)?;
        if view.seq != self.tip.seq + 1 {
            return Err(Broken::Number { found: view.seq, expected: self.tip.seq + 1 });
        }
        if view.prev != self.tip.hash {
            return Err(Broken::Link { found: view.prev, expected: self.tip.hash });
        }
        let agent = view.partition.map(|partition| partition.agent);
        if let (Some(found), Some(expected)) = (view.partition, self.place(agent)) {
            let agent = found.agent;
            if found.seq != expected.seq {
                return Err(Broken::Partition { agent, found: found.seq, expected: expected.seq });
            }
            if found.prev != expected.prev {
                return Err(Broken::PartitionLink { agent });
            }
        }
        self.check(&view.actor, view.kind, view.intent, agent)?;
        if let (Kind::Seal, Some(agent)) = (view.kind, agent) {
            let said: Option<Sealed> = view.payload.and_then(|text| serde_json::from_str(text).ok());
            if said.is_none() || said != self.partitions.get(&agent).map(Open::seal) {
                return Err(Broken::Seal { agent });
            }
        }
        let (kind, actor, intent) = (view.kind, &view.actor, view.intent);
        let (hash, bytes) = (leaf_hash(bytes), bytes.len() as u64);
        let step = Step { kind, actor, intent, partition: view.partition, boot: view.boot, hash, bytes };
        self.apply(&step, completed);
        Ok(view)
    }

    fn apply(&mut self, step: &Step<'_>, completed: impl FnMut(u8, u64, Sha256)) {
        self.tip = Tip { seq: self.tip.seq + 1, hash: step.hash };
        self.tree.push(step.hash, completed);
        match step.kind {
            Kind::Intent => {
                while self.intents.len() >= INTENTS_MAX {
                    self.intents.pop_first();
                }
                let waiting = Waiting { boot: step.boot, actor: step.actor.clone() };
                self.intents.insert(self.tip.seq, waiting);
            }
            Kind::Outcome => drop(step.intent.map(|seq| self.intents.remove(&seq))),
            _ => {}
        }
        let Some(Partition { agent, .. }) = step.partition else { return };
        if step.kind == Kind::Seal {
            self.partitions.remove(&agent);
            self.sealed.push_back(agent);
            if self.sealed.len() > SEALED_MAX {
                self.sealed.pop_front();
            }
            return;
        }
        let open = self.partitions.entry(agent).or_insert_with(|| Open {
            entries: 0,
            head: Sha256::ZERO,
            boot: step.boot,
            own_entries: 0,
            own_bytes: 0,
            tree: Frontier::default(),
        });
        (open.entries, open.head, open.boot) = (open.entries + 1, step.hash, step.boot);
        open.tree.push(step.hash, |_, _, _| {});
        if *step.actor == Principal::Agent(agent) {
            open.own_entries += 1;
            open.own_bytes += step.bytes;
        }
    }
}

/// Whether it is the ledger itself.
fn is_ledger(actor: &Principal) -> bool {
    matches!(actor, Principal::Service(name) if name.as_str() == "ledger")
}

/// A seal's payload: what the log counted, and the reason that was given, if any.
fn sealed_content(sealed: &Sealed, given: &Content) -> Content {
    #[derive(Serialize)]
    struct Payload<'a> {
        #[serde(flatten)]
        sealed: &'a Sealed,
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    }
    #[derive(Deserialize)]
    struct Given {
        reason: Option<String>,
    }
    let reason = match given {
        Content::Payload(payload) => payload.read::<Given>().ok().and_then(|given| given.reason),
        Content::Commitment(_) | Content::Outside(_) => None,
    };
    #[expect(clippy::expect_used, reason = "a struct of numbers and texts has a JSON form")]
    Content::Payload(Json::of(&Payload { sealed, reason }).expect("a JSON form"))
}

// The encoded state, with which a segment starts: entries before it need not be read to go on.
impl State {
    /// The state as deterministic CBOR.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        cbor::array(&mut out, 7);
        cbor::unsigned(&mut out, VERSION);
        cbor::unsigned(&mut out, self.tip.seq);
        cbor::bytes(&mut out, &self.tip.hash.0);
        encode_tree(&mut out, &self.tree);
        cbor::array(&mut out, self.partitions.len() as u64);
        for (agent, open) in &self.partitions {
            cbor::array(&mut out, 7);
            cbor::bytes(&mut out, &agent.to_bytes());
            cbor::unsigned(&mut out, open.entries);
            cbor::bytes(&mut out, &open.head.0);
            cbor::bytes(&mut out, &open.boot);
            cbor::unsigned(&mut out, open.own_entries);
            cbor::unsigned(&mut out, open.own_bytes);
            encode_tree(&mut out, &open.tree);
        }
        cbor::array(&mut out, self.intents.len() as u64);
        for (seq, waiting) in &self.intents {
            cbor::array(&mut out, 3);
            cbor::unsigned(&mut out, *seq);
            cbor::bytes(&mut out, &waiting.boot);
            encode_actor(&mut out, &waiting.actor);
        }
        cbor::array(&mut out, self.sealed.len() as u64);
        self.sealed.iter().for_each(|agent| cbor::bytes(&mut out, &agent.to_bytes()));
        out
    }

    /// Reads what [`State::encode`] wrote.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, StateError> {
        let mut reader = Reader::new(bytes);
        exactly(reader.array()?, 7)?;
        exactly(reader.unsigned()?, VERSION)?;
        let tip = Tip { seq: reader.unsigned()?, hash: Sha256(reader.fixed()?) };
        let tree = decode_tree(&mut reader)?;
        exactly(tree.size(), tip.seq)?;
        let mut partitions = BTreeMap::new();
        for _ in 0..at_most(reader.array()?, PARTITIONS_MAX)? {
            exactly(reader.array()?, 7)?;
            let agent = Aid::from_bytes(reader.fixed()?);
            let open = Open {
                entries: reader.unsigned()?,
                head: Sha256(reader.fixed()?),
                boot: reader.fixed()?,
                own_entries: reader.unsigned()?,
                own_bytes: reader.unsigned()?,
                tree: decode_tree(&mut reader)?,
            };
            partitions.insert(agent, open);
        }
        let mut intents = BTreeMap::new();
        for _ in 0..at_most(reader.array()?, INTENTS_MAX)? {
            exactly(reader.array()?, 3)?;
            let (seq, boot) = (reader.unsigned()?, reader.fixed()?);
            let actor = decode_actor(&mut reader).map_err(|_| StateError::Number(seq))?;
            intents.insert(seq, Waiting { boot, actor });
        }
        let mut sealed = VecDeque::new();
        for _ in 0..at_most(reader.array()?, SEALED_MAX)? {
            sealed.push_back(Aid::from_bytes(reader.fixed()?));
        }
        reader.end()?;
        Ok(Self { tip, tree, partitions, intents, sealed })
    }
}

/// Why bytes are not an encoded state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// Not the CBOR that it is made of.
    #[error("it is not a state: {0}")]
    Form(#[from] CborError),
    /// A number that cannot stand there.
    #[error("it has a {0} where that cannot be")]
    Number(u64),
}

fn exactly(found: u64, expected: u64) -> Result<(), StateError> {
    if found == expected { Ok(()) } else { Err(StateError::Number(found)) }
}

fn at_most(found: u64, most: usize) -> Result<u64, StateError> {
    if usize::try_from(found).is_ok_and(|found| found <= most) {
        Ok(found)
    } else {
        Err(StateError::Number(found))
    }
}

fn encode_tree(out: &mut Vec<u8>, tree: &Frontier) {
    cbor::array(out, 1 + tree.peaks().len() as u64);
    cbor::unsigned(out, tree.size());
    tree.peaks().iter().for_each(|peak| cbor::bytes(out, &peak.0));
}

fn decode_tree(reader: &mut Reader<'_>) -> Result<Frontier, StateError> {
    let items = at_most(reader.array()?, 65)?;
    let size = reader.unsigned()?;
    let peaks = (1..items).map(|_| Ok(Sha256(reader.fixed()?))).collect::<Result<_, StateError>>()?;
    Frontier::from_parts(size, peaks).ok_or(StateError::Number(size))
}

#[cfg(test)]
mod tests;
