//! Chain and partitions where not every entry of the log is there: what is there has to fit together.
//!
//! Where every entry is there, [`crate::state::State`] knows the rules; here an agent may have entries before the first
//! that is seen.

use super::report::Fault;
use crate::entry::View;
use crate::merkle::Frontier;
use crate::state::{Broken, PARTITIONS_MAX, Rule, Sealed, Tip};
use octant_api::ledger::{Kind, Partition};
use octant_ids::{Aid, Sha256};
use std::collections::BTreeMap;

/// An agent's entries so far.
#[derive(Debug)]
struct Seen {
    entries: u64,
    head: Sha256,
    /// Their tree, when the first was seen.
    tree: Option<Frontier>,
}

/// What the entries so far come to.
#[derive(Debug)]
pub(super) struct Links {
    /// Entries before the first are in the log and not here.
    partial: bool,
    last: Option<Tip>,
    agents: BTreeMap<Aid, Seen>,
    /// The last partition that was sealed.
    pub(super) sealed: Option<Aid>,
    /// How many seals were compared with everything that they close.
    pub(super) seals: u64,
}

impl Links {
    /// Before the first entry, which has number `from` or a higher one.
    pub(super) fn new(from: u64) -> Self {
        Self { partial: from > 1, last: None, agents: BTreeMap::new(), sealed: None, seals: 0 }
    }

    /// Takes the next entry.
    pub(super) fn accept(&mut self, view: &View<'_>, hash: Sha256) -> Result<(), Fault> {
        // Before the first entry of the log stands the start of the chain.
        let before = if view.seq == 1 { Some(Tip::START) } else { self.last };
        if let Some(tip) = before.filter(|tip| tip.seq + 1 == view.seq && tip.hash != view.prev) {
            return Err(Broken::Link { found: view.prev, expected: tip.hash }.into());
        }
        self.last = Some(Tip { seq: view.seq, hash });
        match view.partition {
            None if view.kind == Kind::Seal => Err(Fault::Seal),
            None => Ok(()),
            Some(partition) => self.follow(view, &partition, hash),
        }
    }

    fn follow(&mut self, view: &View<'_>, partition: &Partition, hash: Sha256) -> Result<(), Fault> {
        let agent = partition.agent;
        let (expected, prev) = match self.agents.get(&agent) {
            Some(seen) => (seen.entries + 1, seen.head),
            None if self.sealed == Some(agent) => return Err(Fault::AfterSeal),
            None if self.partial && partition.seq > 1 => (partition.seq, partition.prev),
            None => (1, Sha256::ZERO),
        };
        if expected == 1 && partition.seq == 1 && view.kind != Kind::Lifecycle {
            return Err(Broken::Rule(Rule::NotOpen(agent)).into());
        }
        if partition.seq != expected {
            return Err(Broken::Partition { agent, found: partition.seq, expected }.into());
        }
        if partition.prev != prev {
            return Err(Broken::PartitionLink { agent }.into());
        }
        if view.kind == Kind::Seal {
            return self.seal(view, partition);
        }
        if !self.agents.contains_key(&agent) {
            if self.agents.len() == PARTITIONS_MAX {
                return Err(Fault::Partitions);
            }
            let tree = (expected == 1).then(Frontier::default);
            self.agents.insert(agent, Seen { entries: 0, head: Sha256::ZERO, tree });
        }
        if let Some(seen) = self.agents.get_mut(&agent) {
            (seen.entries, seen.head) = (expected, hash);
            if let Some(tree) = &mut seen.tree {
                tree.push(hash, |_, _, _| {});
            }
        }
        Ok(())
    }

    fn seal(&mut self, view: &View<'_>, partition: &Partition) -> Result<(), Fault> {
        let said: Sealed =
            view.payload.and_then(|text| serde_json::from_str(text).ok()).ok_or(Fault::Seal)?;
        let seen = self.agents.remove(&partition.agent);
        self.sealed = Some(partition.agent);
        if (said.entries.checked_add(1), said.head) != (Some(partition.seq), partition.prev) {
            return Err(Fault::Seal);
        }
        if let Some(tree) = seen.and_then(|seen| seen.tree) {
            if tree.root() != said.root {
                return Err(Fault::Seal);
            }
            self.seals += 1;
        }
        Ok(())
    }
}
