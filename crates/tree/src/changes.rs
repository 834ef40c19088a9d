//! What differs between two trees, and what becomes of two that were one.

use crate::place::Place;
use crate::tree::{Content, Entry, Tree};
use std::collections::BTreeSet;
use std::fmt;

/// How a place differs from one tree to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Where.
    pub place: Place,
    /// What was there; `None` for nothing.
    pub before: Option<Entry<Content>>,
    /// What is there; `None` for nothing.
    pub after: Option<Entry<Content>>,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match (&self.before, &self.after) {
            (None, _) => '+',
            (_, None) => '-',
            _ => '~',
        };
        let directory = [&self.before, &self.after].into_iter().flatten().all(Entry::is_directory);
        write!(f, "{sign} {}{}", self.place, if directory { "/" } else { "" })
    }
}

/// Why two trees cannot become one: both have changed this place, and not to the same.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Conflict {
    /// Both changed what is there.
    #[error("{0}: changed on both sides, and differently")]
    Both(Place),
    /// One took away, or changed into something else, what the other put something into.
    #[error("{0}: no directory any more on one side, and something changed below it on the other")]
    Below(Place),
}

/// What differs, in the order of places.
#[must_use]
pub fn changes(before: &Tree, after: &Tree) -> Vec<Change> {
    places([before, after])
        .into_iter()
        .filter(|place| before.get(place) != after.get(place))
        .map(|place| Change {
            before: before.get(place).cloned(),
            after: after.get(place).cloned(),
            place: place.clone(),
        })
        .collect()
}

/// What becomes of a tree that two have changed: at each place what the one has that changed it.
///
/// # Errors
/// Every [`Conflict`], in order; then nothing is decided.
pub fn merge(base: &Tree, ours: &Tree, theirs: &Tree) -> Result<Tree, Vec<Conflict>> {
    let mut conflicts = BTreeSet::new();
    // Where nothing is decided, and so nothing below is.
    let mut open = BTreeSet::new();
    let mut merged = Vec::new();
    for place in places([base, ours, theirs]) {
        let (was, our, their) = (base.get(place), ours.get(place), theirs.get(place));
        let entry = if our == their || their == was {
            our
        } else if our == was {
            their
        } else {
            conflicts.insert(Conflict::Both(place.clone()));
            open.insert(place.clone());
            continue;
        };
        merged.extend(entry.map(|entry| (place, entry)));
    }
    let mut tree = Tree::default();
    for (place, entry) in merged {
        // A directory comes before what lies in it, so it is there by now or it is not going to be.
        match place.parent() {
            Some(parent) if open.contains(&parent) => {
                open.insert(place.clone());
            }
            Some(parent) if tree.get(&parent) != Some(&Entry::Directory) => {
                conflicts.insert(Conflict::Below(parent.clone()));
                open.extend([parent, place.clone()]);
            }
            // Neither can it be too large a tree that way: it has at most what its three parts have.
            _ if tree.put(place.clone(), entry.clone()).is_err() => {
                conflicts.insert(Conflict::Below(place.clone()));
            }
            _ => {}
        }
    }
    if conflicts.is_empty() { Ok(tree) } else { Err(conflicts.into_iter().collect()) }
}

fn places<const N: usize>(trees: [&Tree; N]) -> BTreeSet<&Place> {
    trees.into_iter().flat_map(|tree| tree.iter().map(|(place, _)| place)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use octant_ids::Sha256;
    use proptest::prelude::*;

    fn place(name: &str) -> Place {
        Place::parse(name.as_bytes()).unwrap()
    }

    fn file(byte: u8) -> Entry<Content> {
        Entry::File(Content { sha256: Sha256([byte; 32]), size: 1, exec: byte % 2 == 1 })
    }

    fn tree(entries: &[(&str, Entry<Content>)]) -> Tree {
        let mut tree = Tree::default();
        for (name, entry) in entries {
            tree.put(place(name), entry.clone()).unwrap();
        }
        tree
    }

    /// Trees with few places, so that three of them often meet.
    fn any_tree() -> impl Strategy<Value = Tree> {
        let entry =
            prop_oneof![Just(Entry::Directory), (0_u8..3).prop_map(file), Just(Entry::Link(b"/".to_vec())),];
        prop::collection::vec(("[ab](/[ab]){0,2}", entry), 0..6).prop_map(|entries| {
            let mut tree = Tree::default();
            for (name, entry) in entries {
                let _through_a_link = tree.put(place(&name), entry);
            }
            tree
        })
    }

    fn apply(tree: &Tree, changes: &[Change]) -> Tree {
        let mut tree = tree.clone();
        for change in changes.iter().rev().filter(|change| change.after.is_none()) {
            tree.remove(&change.place);
        }
        for change in changes {
            if let Some(entry) = &change.after {
                tree.put(change.place.clone(), entry.clone()).unwrap();
            }
        }
        tree
    }

    proptest! {
        #[test]
        fn the_changes_make_one_tree_of_the_other(a in any_tree(), b in any_tree()) {
            prop_assert_eq!(apply(&a, &changes(&a, &b)), b.clone());
            prop_assert!(changes(&a, &a).is_empty());
            prop_assert_eq!(changes(&a, &b).len(), changes(&b, &a).len());
        }

        #[test]
        fn a_side_that_changed_nothing_decides_nothing(base in any_tree(), side in any_tree()) {
            prop_assert_eq!(merge(&base, &side, &base), Ok(side.clone()));
            prop_assert_eq!(merge(&base, &base, &side), Ok(side.clone()));
            prop_assert_eq!(merge(&base, &side, &side), Ok(side));
        }

        #[test]
        fn neither_side_is_the_first(base in any_tree(), a in any_tree(), b in any_tree()) {
            prop_assert_eq!(merge(&base, &a, &b), merge(&base, &b, &a));
        }

        #[test]
        fn what_is_merged_has_the_changes_of_both_and_no_others(base in any_tree(), a in any_tree(), b in any_tree()) {
            if let Ok(merged) = merge(&base, &a, &b) {
                let found = changes(&base, &merged);
                let (ours, theirs) = (changes(&base, &a), changes(&base, &b));
                prop_assert!(found.iter().all(|change| ours.contains(change) || theirs.contains(change)));
                prop_assert!(ours.iter().chain(&theirs).all(|change| found.contains(change)));
            }
        }

        #[test]
        fn a_conflict_is_where_both_changed_something(base in any_tree(), a in any_tree(), b in any_tree()) {
            for conflict in merge(&base, &a, &b).err().unwrap_or_default() {
                let (Conflict::Both(place) | Conflict::Below(place)) = &conflict;
                let touched = |side: &Tree| {
                    changes(&base, side).iter().any(|c| c.place == *place || c.place.is_below(place))
                };
                prop_assert!(touched(&a) && touched(&b), "{}", conflict);
            }
        }
    }

    #[test]
    fn conflicts_are_named_one_by_one() {
        let base = tree(&[("d/x", file(0)), ("f", file(0)), ("g", file(0))]);
        let ours = tree(&[("f", file(1)), ("g", file(1))]);
        let theirs = tree(&[("d/x", file(0)), ("d/new", file(2)), ("f", file(2)), ("g", file(1))]);
        let conflicts = merge(&base, &ours, &theirs).unwrap_err();
        assert_eq!(conflicts, [Conflict::Both(place("f")), Conflict::Below(place("d"))]);
        assert_eq!(
            changes(&base, &ours).iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["- d/", "- d/x", "~ f", "~ g"]
        );
    }

    #[test]
    fn changes_apart_become_one() {
        let base = tree(&[("d/x", file(0)), ("f", file(0))]);
        let ours = tree(&[("d/x", file(1)), ("f", file(0)), ("e/y", file(2))]);
        let theirs = tree(&[("d/x", file(0)), ("d/z", file(2))]);
        let merged = merge(&base, &ours, &theirs).unwrap();
        assert_eq!(merged, tree(&[("d/x", file(1)), ("d/z", file(2)), ("e/y", file(2))]));
    }
}
