//! Checks an export line by line, in memory that does not grow with it.

use super::keys::Keys;
use super::links::Links;
use super::report::{Fault, Report, Wrong};
use super::{FORMAT, Header, LINE_MAX, WITNESSES_MAX};
use crate::checkpoint::{Signed, hash_from_base64};
use crate::entry::{View, commitment};
use crate::merkle::{EMPTY_ROOT, MAX_PROOF, leaf_hash, verify_inclusion};
use crate::note::Verifier;
use crate::state::{Broken, State};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use octant_api::ledger::Kind;
use octant_ids::Sha256;
use serde::Deserialize;

/// How much of somebody else's text an error repeats.
const QUOTE_MAX: usize = 200;

/// What whoever checks has from elsewhere.
#[derive(Debug, Clone, Default)]
pub struct Given {
    /// The log's key.
    pub key: Option<Verifier>,
    /// Keys of witnesses. Where there are some, those in the file do not count.
    pub witnesses: Vec<Verifier>,
    /// How many of the witnesses have to have cosigned. Without it: all that are given, else as the file says.
    pub quorum: Option<u32>,
    /// Checkpoints that were kept outside.
    pub checkpoints: Vec<Kept>,
}

/// A checkpoint that was kept outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// What it is called in reports: a file's name.
    pub name: String,
    /// The checkpoint, whose signature is checked here.
    pub signed: Signed,
}

/// A check in progress. The first error ends it.
#[derive(Debug)]
pub struct Check {
    given: Given,
    line: u64,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Header,
    Entries(Box<Body>),
    Ended(Box<Body>),
    /// An error was answered.
    Over,
}

/// Everything after the first line.
#[derive(Debug)]
pub(super) struct Body {
    pub(super) header: Header,
    pub(super) signed: Signed,
    pub(super) key: Verifier,
    pub(super) witnesses: Vec<Verifier>,
    pub(super) entries: u64,
    /// The number and the hash of the entry before.
    pub(super) last: Option<(u64, Sha256)>,
    pub(super) order: Order,
    pub(super) keys: Keys,
    /// For each checkpoint from outside, the root of this log at its size, once that is reached.
    pub(super) roots: Vec<Option<Sha256>>,
    pub(super) payloads: u64,
    pub(super) absent: u64,
    pub(super) elsewhere: u64,
    pub(super) seals: u64,
}

/// How entries follow each other.
#[derive(Debug)]
pub(super) enum Order {
    /// Every entry of the log is there.
    All(Box<State>, Option<Suspect>),
    /// Some are, each with a proof.
    Some(Links),
}

/// An entry that names another predecessor than is there: one of the two was altered, and the next line says which.
#[derive(Debug, Clone, Copy)]
pub(super) struct Suspect {
    line: u64,
    seq: u64,
    hash: Sha256,
}

impl Suspect {
    /// What is wrong, in the light of what the entry after it names as its predecessor.
    fn wrong(self, named_next: Option<Sha256>) -> Wrong {
        if named_next.is_some_and(|named| named != self.hash) {
            return Wrong { line: self.line, seq: Some(self.seq), fault: Fault::AlteredLink };
        }
        Wrong { line: self.line - 1, seq: Some(self.seq - 1), fault: Fault::Altered }
    }
}

/// A line after the first.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    seq: Option<u64>,
    entry: Option<String>,
    payload: Option<String>,
    salt: Option<Sha256>,
    proof: Option<Vec<String>>,
    end: Option<u64>,
}

impl Check {
    /// Before the first line.
    #[must_use]
    pub fn new(given: Given) -> Self {
        Self { given, line: 0, stage: Stage::Header }
    }

    /// Takes the next line, without its newline.
    ///
    /// # Errors
    /// What is wrong, by line and entry. Nothing more can be checked after that.
    pub fn line(&mut self, bytes: &[u8]) -> Result<(), Wrong> {
        self.line += 1;
        let line = self.line;
        let stage = std::mem::replace(&mut self.stage, Stage::Over);
        let whole = |fault| Wrong { line, seq: None, fault };
        if bytes.len() > LINE_MAX {
            return Err(whole(Fault::Long));
        }
        self.stage = match stage {
            Stage::Header => Stage::Entries(Box::new(Body::open(&self.given, bytes).map_err(whole)?)),
            Stage::Entries(mut body) => {
                if body.line(&self.given, line, bytes)? {
                    Stage::Ended(body)
                } else {
                    Stage::Entries(body)
                }
            }
            Stage::Ended(_) | Stage::Over => return Err(whole(Fault::After)),
        };
        Ok(())
    }

    /// After the last line: what is proven.
    ///
    /// # Errors
    /// What is wrong with the file as a whole.
    pub fn finish(self) -> Result<Report, Wrong> {
        let line = self.line;
        match self.stage {
            Stage::Ended(body) => body.finish(&self.given, line),
            Stage::Entries(mut body) => {
                let seq = Some(body.next());
                Err(body.suspected(None).unwrap_or(Wrong { line: line + 1, seq, fault: Fault::Cut }))
            }
            Stage::Header | Stage::Over => Err(Wrong { line: line + 1, seq: None, fault: Fault::Cut }),
        }
    }
}

fn quote(error: &serde_json::Error) -> String {
    error.to_string().chars().take(QUOTE_MAX).collect()
}

impl Body {
    fn open(given: &Given, bytes: &[u8]) -> Result<Self, Fault> {
        let header: Header = serde_json::from_slice(bytes).map_err(|error| Fault::Format(quote(&error)))?;
        if header.format != FORMAT {
            return Err(Fault::Format(format!("it is not {FORMAT}")));
        }
        let found: Verifier = header.key.parse()?;
        let key = match &given.key {
            Some(key) if *key != found => {
                return Err(Fault::OtherKey { found: found.to_string(), given: key.to_string() });
            }
            _ => found,
        };
        let signed = Signed::open(&header.checkpoint, &key).map_err(Fault::Checkpoint)?;
        if header.witnesses.len() > WITNESSES_MAX {
            return Err(Fault::Witnesses);
        }
        let witnesses = header.witnesses.iter().map(|text| text.parse()).collect::<Result<_, _>>()?;
        fits(&header, signed.checkpoint.size)?;
        if header.origin != signed.checkpoint.origin {
            return Err(Fault::Header("its checkpoint is of another log"));
        }
        let order = if header.complete {
            Order::All(Box::default(), None)
        } else {
            Order::Some(Links::new(header.from))
        };
        let roots =
            given.checkpoints.iter().map(|kept| (kept.signed.checkpoint.size == 0).then_some(EMPTY_ROOT));
        Ok(Self {
            roots: roots.collect(),
            header,
            signed,
            key,
            witnesses,
            entries: 0,
            last: None,
            order,
            keys: Keys::default(),
            payloads: 0,
            absent: 0,
            elsewhere: 0,
            seals: 0,
        })
    }

    /// The entry that comes next, or the first that can.
    fn next(&self) -> u64 {
        self.last.map_or(self.header.from, |(seq, _)| seq + 1)
    }

    /// What an earlier line left open.
    fn suspected(&mut self, named_next: Option<Sha256>) -> Option<Wrong> {
        match &mut self.order {
            Order::All(_, suspect) => suspect.take().map(|suspect| suspect.wrong(named_next)),
            Order::Some(_) => None,
        }
    }

    /// One line; whether it was the last.
    fn line(&mut self, given: &Given, line: u64, bytes: &[u8]) -> Result<bool, Wrong> {
        let row = serde_json::from_slice::<Row>(bytes).map_err(|error| Fault::Line(quote(&error)));
        let row = row.and_then(|row| match row {
            Row { seq: None, entry: None, payload: None, salt: None, proof: None, end: Some(said) } => {
                Ok(Err(said))
            }
            Row { seq: Some(seq), entry: Some(entry), payload, salt, proof, end: None } => {
                let bytes =
                    STANDARD.decode(entry).map_err(|_| Fault::Line("its entry is not base 64".into()))?;
                Ok(Ok((seq, bytes, (payload, salt), proof)))
            }
            _ => Err(Fault::Line("it is neither an entry nor the end".into())),
        });
        let at = |seq, fault| Wrong { line, seq: Some(seq), fault };
        let (seq, bytes, erasable, proof) = match row {
            Ok(Ok(entry)) => entry,
            Ok(Err(said)) => {
                if let Some(wrong) = self.suspected(None) {
                    return Err(wrong);
                }
                return self.end(said).map(|()| true).map_err(|fault| at(self.next(), fault));
            }
            Err(fault) => return Err(self.suspected(None).unwrap_or_else(|| at(self.next(), fault))),
        };
        let view = View::of(&bytes).map_err(Fault::from);
        if let Some(wrong) = self.suspected(view.as_ref().ok().map(|view| view.prev)) {
            return Err(wrong);
        }
        self.expected(seq).map_err(|fault| at(self.next(), fault))?;
        let view = view.map_err(|fault| at(seq, fault))?;
        if view.seq != seq {
            return Err(at(seq, Fault::Number(view.seq)));
        }
        let hash = leaf_hash(&bytes);
        self.place(&view, &bytes, hash, proof, line).map_err(|fault| at(seq, fault))?;
        self.content(&view, erasable).map_err(|fault| at(seq, fault))?;
        self.last = Some((seq, hash));
        self.entries += 1;
        self.remember(given);
        Ok(false)
    }

    /// Whether an entry of this number comes next.
    fn expected(&self, seq: u64) -> Result<(), Fault> {
        let next = self.next();
        if seq < next || seq > self.header.to {
            return Err(Fault::Order(seq));
        }
        if seq > next && self.header.agent.is_none() {
            return Err(Fault::Missing(seq));
        }
        Ok(())
    }

    /// Whether the entry is in the tree, and follows what stands before it.
    fn place(
        &mut self,
        view: &View<'_>,
        bytes: &[u8],
        hash: Sha256,
        proof: Option<Vec<String>>,
        line: u64,
    ) -> Result<(), Fault> {
        match &mut self.order {
            Order::All(..) if proof.is_some() => return Err(Fault::ProofForm),
            Order::All(state, suspect) => match state.accept(bytes, |_, _, _| {}) {
                Ok(_) => {}
                // Before the first entry there is none that can have been altered.
                Err(Broken::Link { .. }) if view.seq > 1 => {
                    *suspect = Some(Suspect { line, seq: view.seq, hash })
                }
                Err(broken) => return Err(broken.into()),
            },
            Order::Some(links) => {
                let proof = proof.ok_or(Fault::NoProof)?;
                if proof.len() > MAX_PROOF {
                    return Err(Fault::ProofForm);
                }
                let proof: Option<Vec<Sha256>> = proof.iter().map(|hash| hash_from_base64(hash)).collect();
                let tree = &self.signed.checkpoint;
                // Entries count from 1, and the one on this line lies within the range.
                verify_inclusion(&hash, view.seq - 1, tree.size, &proof.ok_or(Fault::ProofForm)?, &tree.root)
                    .map_err(Fault::Proof)?;
                if self.header.agent.is_some() && view.partition.map(|p| p.agent) != self.header.agent {
                    return Err(Fault::Agent);
                }
                links.accept(view, hash)?;
            }
        }
        Ok(())
    }

    /// The entry's payload, and what it says about the log itself.
    fn content(&mut self, view: &View<'_>, erasable: (Option<String>, Option<Sha256>)) -> Result<(), Fault> {
        match (view.commitment, erasable) {
            (Some(wanted), (Some(payload), Some(salt))) => {
                if commitment(&salt.0, &payload) != wanted {
                    return Err(Fault::Payload);
                }
                self.payloads += 1;
            }
            (Some(_), (None, None)) => self.absent += 1,
            (None, (None, None)) => {}
            _ => return Err(Fault::Stray),
        }
        self.elsewhere += u64::from(view.outside.is_some());
        if !self.header.complete {
            return Ok(());
        }
        match view.kind {
            Kind::Key => self.keys.accept(view.seq, view.payload),
            Kind::Seal => {
                self.seals += 1;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// The roots at the sizes of the checkpoints from outside.
    fn remember(&mut self, given: &Given) {
        let Order::All(state, _) = &self.order else { return };
        for (root, kept) in self.roots.iter_mut().zip(&given.checkpoints) {
            if kept.signed.checkpoint.size == state.tree().size() {
                *root = Some(state.tree().root());
            }
        }
    }

    fn end(&self, said: u64) -> Result<(), Fault> {
        if said != self.entries {
            return Err(Fault::Count { said, found: self.entries });
        }
        // Of one agent, there may be nothing up to the end of the range.
        let next = self.next();
        if self.header.agent.is_none() && next <= self.header.to {
            return Err(Fault::Cut);
        }
        Ok(())
    }
}

/// Whether the first line's range makes sense for a tree of this size.
fn fits(header: &Header, size: u64) -> Result<(), Fault> {
    let Header { from, to, agent, complete, .. } = header;
    if *complete && (agent.is_some() || *from != 1 || *to != size) {
        return Err(Fault::Header("a complete export is of all entries from 1 to the checkpoint's size"));
    }
    if *from == 0 || *to > size || *to < from - 1 {
        return Err(Fault::Header("its range is not one of the checkpoint's entries"));
    }
    Ok(())
}
