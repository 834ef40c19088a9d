//! What entries have in common, as the index knows it: the terms of an entry, and what a query asks of them.

use octant_api::ledger::{Entry, Kind, QueryRequest};
use octant_ids::{Principal, Sha256};
use std::ops::RangeInclusive;

/// What a term is about, with its number in the index. A query asks in this order: the first is the rarest and leaves
/// the least to be looked at for the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum What {
    Subject = 0,
    Intent = 1,
    Agent = 2,
    Actor = 3,
    Kind = 4,
}

/// Something that entries have in common, with its bytes as they stand in the index.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Term {
    pub(super) what: What,
    pub(super) key: Vec<u8>,
}

impl Term {
    fn subject(subject: &Sha256) -> Self {
        Self { what: What::Subject, key: subject.0.to_vec() }
    }

    fn intent(seq: u64) -> Self {
        Self { what: What::Intent, key: seq.to_be_bytes().to_vec() }
    }

    fn agent(agent: octant_ids::Aid) -> Self {
        Self { what: What::Agent, key: agent.to_bytes().to_vec() }
    }

    /// The text of a principal names its sort, so no two of them have the same.
    fn actor(actor: &Principal) -> Self {
        Self { what: What::Actor, key: actor.to_string().into_bytes() }
    }

    fn kind(kind: Kind) -> Self {
        // The place in ALL is the number that the kind has on disk; every kind is there.
        let number =
            Kind::ALL.iter().zip(0..).find(|(other, _)| **other == kind).map_or(u8::MAX, |found| found.1);
        Self { what: What::Kind, key: vec![number] }
    }

    /// The terms of an entry.
    pub(super) fn of(entry: &Entry) -> impl Iterator<Item = Self> {
        [Self::kind(entry.kind), Self::actor(&entry.actor)]
            .into_iter()
            .chain(entry.partition.map(|partition| Self::agent(partition.agent)))
            .chain(entry.subject.as_ref().map(Self::subject))
            .chain(entry.intent.map(Self::intent))
    }
}

/// One condition of a query: an entry has one of these terms, or this number.
#[derive(Debug)]
pub(super) struct Condition {
    pub(super) any: Vec<Term>,
    pub(super) or_seq: Option<u64>,
}

/// A query as the index answers it.
#[derive(Debug)]
pub(super) struct Asked {
    /// All of them must hold; the rarest first.
    pub(super) conditions: Vec<Condition>,
    /// The times that an entry may have, as they stand in the index.
    pub(super) times: Option<RangeInclusive<i64>>,
}

/// A time as it stands in the index. Only times beyond the year 292 million are not told apart there; a query for one
/// gets all of them as candidates.
pub(super) fn stored_ms(wall_ms: u64) -> i64 {
    i64::try_from(wall_ms).unwrap_or(i64::MAX)
}

impl Asked {
    pub(super) fn of(query: &QueryRequest) -> Self {
        let one = |term| Condition { any: vec![term], or_seq: None };
        let mut conditions = Vec::new();
        conditions.extend(query.subject.as_ref().map(|subject| one(Term::subject(subject))));
        conditions
            .extend(query.intent.map(|seq| Condition { any: vec![Term::intent(seq)], or_seq: Some(seq) }));
        conditions.extend(query.agent.map(|agent| one(Term::agent(agent))));
        conditions.extend(query.actor.as_ref().map(|actor| one(Term::actor(actor))));
        if !query.kinds.is_empty() {
            // From the list of all kinds, so that a kind which is named a thousand times is looked up once.
            let named = Kind::ALL.into_iter().filter(|kind| query.kinds.contains(kind));
            conditions.push(Condition { any: named.map(Term::kind).collect(), or_seq: None });
        }
        let times = (query.since_ms.is_some() || query.until_ms.is_some()).then(|| {
            let earliest = query.since_ms.map_or(0, stored_ms);
            let latest = match query.until_ms.map(i64::try_from) {
                Some(Ok(until)) => until - 1,
                Some(Err(_)) | None => i64::MAX,
            };
            earliest..=latest
        });
        Self { conditions, times }
    }
}
