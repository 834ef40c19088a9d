//! What checking an export comes to.

use super::{LINE_MAX, WITNESSES_MAX};
use crate::checkpoint::CheckpointError;
use crate::entry::EntryError;
use crate::merkle::ProofError;
use crate::note::KeyError;
use crate::state::{Broken, PARTITIONS_MAX};
use octant_ids::{Aid, Sha256};
use serde::Serialize;

/// What an export proves. Only [`super::Check::finish`] makes one, and only of an export that nothing is wrong with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// How many entries the file has.
    pub entries: u64,
    /// The first entry of its range.
    pub from: u64,
    /// The last entry of its range.
    pub to: u64,
    /// Of the range, only entries about this agent are there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<Aid>,
    /// Every entry that the checkpoint covers is there.
    pub complete: bool,
    /// The log's name.
    pub origin: String,
    /// How many entries the checkpoint covers.
    pub size: u64,
    /// Their root.
    pub root: Sha256,
    /// The hash of the last entry in the file; zeros when there is none.
    pub head: Sha256,
    /// The log's verifier key.
    pub key: String,
    /// Whether that key was given, or only stands in the file.
    pub key_given: bool,
    /// The witnesses whose cosignature on the checkpoint is right.
    pub cosigned: Vec<Cosigned>,
    /// How many have to be; 0 for none.
    pub quorum: u32,
    /// How many erasable payloads are there and fit what their entries commit to.
    pub payloads: u64,
    /// How many erasable payloads are not there.
    pub absent: u64,
    /// How many payloads are kept elsewhere.
    pub elsewhere: u64,
    /// How many seals were compared with everything that they close.
    pub seals: u64,
    /// The checkpoints from outside that the log continues.
    pub outside: Vec<Compared>,
    /// What is proven, a sentence a thing.
    pub proven: Vec<String>,
    /// What is not proven, a sentence a thing.
    pub not_proven: Vec<String>,
}

impl Report {
    /// Whether as many witnesses have cosigned as have to.
    #[must_use]
    pub fn has_quorum(&self) -> bool {
        self.cosigned.len() as u64 >= u64::from(self.quorum)
    }
}

/// A witness that has cosigned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cosigned {
    /// Its name.
    pub name: String,
    /// When, by its clock: seconds since 1970.
    pub at_seconds: u64,
    /// Whether its key was given, or only stands in the file.
    pub given: bool,
}

/// A checkpoint from outside that was compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Compared {
    /// What it was called.
    pub name: String,
    /// How many entries it covers.
    pub size: u64,
}

/// Where an export is wrong, and how.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}{at}: {fault}", at = .seq.map(|seq| format!(", entry {seq}")).unwrap_or_default())]
pub struct Wrong {
    /// The line, from 1.
    pub line: u64,
    /// The first entry that cannot be relied on; none where the whole file cannot be.
    pub seq: Option<u64>,
    /// What is wrong.
    #[source]
    pub fault: Fault,
}

/// What can be wrong with an export.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Not the first line of an export.
    #[error("this is not an export that this program knows: {0}")]
    Format(String),
    /// The first line contradicts itself.
    #[error("the first line contradicts itself: {0}")]
    Header(&'static str),
    /// More than any line may have.
    #[error("the line is longer than {LINE_MAX} bytes")]
    Long,
    /// More witnesses than a log can have.
    #[error("the first line names more than {WITNESSES_MAX} witnesses")]
    Witnesses,
    /// A key in the first line is none.
    #[error("a key in the first line cannot be read: {0}")]
    Key(#[from] KeyError),
    /// Another key than the one that was given.
    #[error("the file's key is {found}, and not the one that was given, which is {given}")]
    OtherKey {
        /// The key in the file.
        found: String,
        /// The key that was given.
        given: String,
    },
    /// The checkpoint in the first line is none, or not signed.
    #[error("its checkpoint does not verify: {0}")]
    Checkpoint(CheckpointError),
    /// Neither an entry nor the end.
    #[error("the line is not one that an export has: {0}")]
    Line(String),
    /// An entry that should be there is not.
    #[error("it is missing; entry {0} stands in its place")]
    Missing(u64),
    /// An entry that should not be there.
    #[error("entry {0} stands in its place: it is there twice, or the order was changed")]
    Order(u64),
    /// The line and its entry have two numbers.
    #[error("the entry on this line says that it is entry {0}")]
    Number(u64),
    /// The next entry names another predecessor, and is itself confirmed by what follows it.
    #[error("it was altered: the entry after it names a predecessor of another hash")]
    Altered,
    /// It names another predecessor than is there, and what follows does not confirm it.
    #[error("it was altered: neither the entry before it nor the one after it fits it")]
    AlteredLink,
    /// It does not follow what stands before it.
    #[error(transparent)]
    Broken(#[from] Broken),
    /// The proof is missing or wrong.
    #[error("it is not in the tree of the checkpoint, or was altered: {0}")]
    Proof(ProofError),
    /// There is no proof.
    #[error("it has no proof, and the export is not complete")]
    NoProof,
    /// A proof that is none of a tree of that size.
    #[error("its proof is not a list of hashes in base 64, of at most 63")]
    ProofForm,
    /// An entry about somebody else.
    #[error("it is not about the agent whose entries these are")]
    Agent,
    /// The erasable payload is not what was committed to.
    #[error("its payload was altered: it is not the one that the entry commits to")]
    Payload,
    /// A payload beside an entry that commits to none, or half of one.
    #[error("a payload or a salt stands beside it that does not belong there")]
    Stray,
    /// A seal that states something else than what is there.
    #[error("it seals other entries than those that are there")]
    Seal,
    /// An entry about an agent whose partition is sealed.
    #[error("it is about an agent whose partition was sealed before")]
    AfterSeal,
    /// More partitions than a log can have open.
    #[error("more than {PARTITIONS_MAX} agents have entries and no seal")]
    Partitions,
    /// A `key` entry that makes no sense.
    #[error("it changes the log's key, but {0}")]
    KeyEntry(&'static str),
    /// The log's entries name another key than the one that signed.
    #[error("the entries name another key than the one that signed the checkpoint")]
    LastKey,
    /// The recomputed root is not the signed one.
    #[error(
        "the root of all entries is not the one in the checkpoint: this entry or a later one was altered, and everything after it made to fit"
    )]
    Root,
    /// The last line counts otherwise.
    #[error("the last line counts {said} entries, there are {found}")]
    Count {
        /// What it says.
        said: u64,
        /// How many there are.
        found: u64,
    },
    /// The file ends too early.
    #[error("the file ends here, before its last line: it was cut off")]
    Cut,
    /// Something follows.
    #[error("something follows the last line")]
    After,
    /// A checkpoint from outside covers more than there is.
    #[error(
        "cut: the outside checkpoint {name} covers {covers} entries, this export {size}; if the export is the older one of the two, make a new one"
    )]
    Shorter {
        /// What the checkpoint was called.
        name: String,
        /// How many entries it covers.
        covers: u64,
        /// How many the file's own checkpoint covers.
        size: u64,
    },
    /// A checkpoint from outside has another root.
    #[error(
        "the outside checkpoint {name} has another root over the first {covers} entries: this entry or a later one of them is not the one that was signed then"
    )]
    Differs {
        /// What the checkpoint was called.
        name: String,
        /// How many entries it covers.
        covers: u64,
    },
    /// A checkpoint from outside is not signed by this log.
    #[error("the outside checkpoint {name} is none of this log: {why}")]
    Foreign {
        /// What the checkpoint was called.
        name: String,
        /// What shows it.
        why: String,
    },
}

impl From<EntryError> for Fault {
    fn from(error: EntryError) -> Self {
        Self::Broken(error.into())
    }
}
