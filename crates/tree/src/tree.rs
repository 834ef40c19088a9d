//! A tree: what is at each place.

use crate::limits::ENTRIES;
use crate::place::Place;
use octant_ids::Sha256;
use std::collections::BTreeMap;
use std::collections::btree_map;

/// What a file is: its bytes, by their digest, and whether it is a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Content {
    /// The SHA-256 of its bytes.
    pub sha256: Sha256,
    /// How many bytes.
    pub size: u64,
    /// Whether it can be executed.
    pub exec: bool,
}

/// What is at a place. `F` is what is known of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry<F> {
    /// A directory.
    Directory,
    /// A file.
    File(F),
    /// A symbolic link and what it says.
    Link(Vec<u8>),
}

impl<F> Entry<F> {
    /// Whether it is a directory.
    #[must_use]
    pub const fn is_directory(&self) -> bool {
        matches!(self, Self::Directory)
    }
}

/// Why something cannot be put into a tree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// What should lie in a file or behind a link.
    #[error("{place} lies below {through}, which is not a directory; nothing is reached through a link")]
    Through {
        /// What was to be put.
        place: Place,
        /// What is in the way.
        through: Place,
    },
    /// Too many entries.
    #[error("there are more than {ENTRIES} files, directories and links")]
    Entries,
}

/// What is at each place. Everything lies in a directory of the same tree: no place is reached through a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree<F = Content>(BTreeMap<Place, Entry<F>>);

impl<F> Default for Tree<F> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<F> Tree<F> {
    /// Puts something at a place, in the stead of what is there. A directory on a directory changes nothing; anything
    /// else takes what lay below the place with it. Directories above that are missing are made.
    ///
    /// # Errors
    /// [`TreeError`]: something above is no directory, or the tree has become too large.
    pub fn put(&mut self, place: Place, entry: Entry<F>) -> Result<(), TreeError> {
        self.make_above(&place)?;
        if !entry.is_directory() || self.0.get(&place).is_some_and(|old| !old.is_directory()) {
            self.remove_below(&place);
        }
        self.0.insert(place, entry);
        if self.0.len() > ENTRIES { Err(TreeError::Entries) } else { Ok(()) }
    }

    fn make_above(&mut self, place: &Place) -> Result<(), TreeError> {
        let mut missing = Vec::new();
        let mut above = place.parent();
        while let Some(here) = above {
            match self.0.get(&here) {
                Some(Entry::Directory) => break,
                Some(_) => return Err(TreeError::Through { place: place.clone(), through: here }),
                None => {}
            }
            above = here.parent();
            missing.push(here);
        }
        self.0.extend(missing.into_iter().map(|here| (here, Entry::Directory)));
        Ok(())
    }

    /// Takes away what is at a place and all below it; whether there was something.
    pub fn remove(&mut self, place: &Place) -> bool {
        self.remove_below(place);
        self.0.remove(place).is_some()
    }

    /// Takes away all that lies below a place.
    pub fn remove_below(&mut self, place: &Place) {
        let (first, after) = place.range_below();
        let below: Vec<Place> = self.0.range(first..after).map(|(place, _)| place.clone()).collect();
        for place in below {
            self.0.remove(&place);
        }
    }

    /// Takes away everything.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// What is at a place.
    #[must_use]
    pub fn get(&self, place: &Place) -> Option<&Entry<F>> {
        self.0.get(place)
    }

    /// Every place and what is there; a directory before what lies in it.
    pub fn iter(&self) -> btree_map::Iter<'_, Place, Entry<F>> {
        self.0.iter()
    }

    /// How many entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The same tree with other knowledge of its files.
    ///
    /// # Errors
    /// The first that `of` gives.
    pub fn try_map<G, E>(&self, mut of: impl FnMut(&Place, &F) -> Result<G, E>) -> Result<Tree<G>, E> {
        let entries = self.0.iter().map(|(place, entry)| {
            let entry = match entry {
                Entry::Directory => Entry::Directory,
                Entry::File(file) => Entry::File(of(place, file)?),
                Entry::Link(to) => Entry::Link(to.clone()),
            };
            Ok((place.clone(), entry))
        });
        entries.collect::<Result<_, E>>().map(Tree)
    }
}

impl Tree {
    /// How many bytes all its files have.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0.values().map(|entry| if let Entry::File(content) = entry { content.size } else { 0 }).sum()
    }
}

impl<'a, F> IntoIterator for &'a Tree<F> {
    type Item = (&'a Place, &'a Entry<F>);
    type IntoIter = btree_map::Iter<'a, Place, Entry<F>>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(name: &str) -> Place {
        Place::parse(name.as_bytes()).unwrap()
    }

    fn names(tree: &Tree<u8>) -> Vec<String> {
        tree.iter().map(|(place, _)| place.to_string()).collect()
    }

    #[test]
    fn what_is_above_is_made_and_what_is_below_goes_with_it() {
        let mut tree = Tree::default();
        tree.put(place("a/b/c"), Entry::File(1)).unwrap();
        tree.put(place("a-b"), Entry::File(2)).unwrap();
        assert_eq!(names(&tree), ["a", "a-b", "a/b", "a/b/c"]);
        tree.put(place("a"), Entry::Directory).unwrap();
        assert_eq!(tree.len(), 4);
        tree.put(place("a"), Entry::Link(b"/".to_vec())).unwrap();
        assert_eq!(names(&tree), ["a", "a-b"]);
    }

    #[test]
    fn nothing_is_put_through_a_link_or_a_file() {
        let mut tree = Tree::default();
        tree.put(place("a"), Entry::Link(b"/etc".to_vec())).unwrap();
        tree.put(place("f"), Entry::File(1)).unwrap();
        for name in ["a/passwd", "a/b/c", "f/x"] {
            let error = tree.put(place(name), Entry::File(2)).unwrap_err();
            assert!(matches!(error, TreeError::Through { .. }), "{error}");
        }
        assert_eq!(names(&tree), ["a", "f"]);
    }
}
