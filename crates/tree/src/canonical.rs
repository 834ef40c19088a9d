//! The one form of a tree as bytes, and so its digest.
//!
//! `octant-tree 1` and a newline, then each entry in the order of its place's bytes, each field ended by NUL:
//! `d PLACE`, `f SHA256 SIZE PLACE` (`x` instead of `f` for a program), `l PLACE TARGET`.

use crate::limits::{ENTRIES, LINK_BYTES};
use crate::place::{Place, PlaceError};
use crate::tree::{Content, Entry, Tree, TreeError};
use octant_ids::Sha256;
use sha2::Digest;

const HEAD: &[u8] = b"octant-tree 1\n";

/// Why bytes are not the form of a tree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormError {
    /// Another version or something else.
    #[error("it does not start as a tree does")]
    Head,
    /// It ends in the middle of an entry.
    #[error("it ends within entry {0}")]
    Cut(usize),
    /// An entry of a kind that there is not, or a field that is none.
    #[error("entry {0} cannot be read")]
    Entry(usize),
    /// A place that is none.
    #[error("entry {0}: {1}")]
    Place(usize, PlaceError),
    /// Something that cannot be in a tree.
    #[error("entry {0}: {1}")]
    Tree(usize, TreeError),
    /// Not in order, twice, or a directory above that is not written out: not the one form of this tree.
    #[error("it is not in canonical form")]
    Order,
}

impl Tree {
    /// The tree as bytes: the same tree always gives the same.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = HEAD.to_vec();
        let mut field = |bytes: &[u8]| {
            out.extend_from_slice(bytes);
            out.push(0);
        };
        for (place, entry) in self {
            match entry {
                Entry::Directory => field(b"d"),
                Entry::File(content) => {
                    field(if content.exec { b"x" } else { b"f" });
                    field(content.sha256.to_string().as_bytes());
                    field(content.size.to_string().as_bytes());
                }
                Entry::Link(_) => field(b"l"),
            }
            field(place.as_bytes());
            if let Entry::Link(to) = entry {
                field(to);
            }
        }
        out
    }

    /// The SHA-256 of its bytes, which names it.
    #[must_use]
    pub fn digest(&self) -> Sha256 {
        Sha256(sha2::Sha256::digest(self.to_bytes()).into())
    }

    /// The tree that these bytes are the form of.
    ///
    /// # Errors
    /// [`FormError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, FormError> {
        let mut fields = bytes.strip_prefix(HEAD).ok_or(FormError::Head)?.split_inclusive(|&b| b == 0);
        let mut tree = Self::default();
        let mut last: Option<Place> = None;
        for number in 1.. {
            let Some(kind) = fields.next() else { break };
            if number > ENTRIES {
                return Err(FormError::Tree(number, TreeError::Entries));
            }
            let mut field = || {
                let field = fields.next().and_then(|field| field.strip_suffix(b"\0"));
                field.ok_or(FormError::Cut(number))
            };
            let place = |bytes: &[u8]| Place::parse(bytes).map_err(|error| FormError::Place(number, error));
            let (place, entry) = match kind {
                b"d\0" => (place(field()?)?, Entry::Directory),
                b"f\0" | b"x\0" => {
                    let content = content(kind == b"x\0", field()?, field()?);
                    (place(field()?)?, Entry::File(content.ok_or(FormError::Entry(number))?))
                }
                b"l\0" => (place(field()?)?, Entry::Link(link(field()?).ok_or(FormError::Entry(number))?)),
                _ => return Err(FormError::Entry(number)),
            };
            if last.as_ref().is_some_and(|last| *last >= place) {
                return Err(FormError::Order);
            }
            last = Some(place.clone());
            tree.put(place, entry).map_err(|error| FormError::Tree(number, error))?;
        }
        // What `put` made by itself was not there.
        if tree.to_bytes() == bytes { Ok(tree) } else { Err(FormError::Order) }
    }
}

fn content(exec: bool, sha256: &[u8], size: &[u8]) -> Option<Content> {
    let sha256 = std::str::from_utf8(sha256).ok()?.parse().ok()?;
    let size = std::str::from_utf8(size).ok()?.parse().ok()?;
    Some(Content { sha256, size, exec })
}

fn link(to: &[u8]) -> Option<Vec<u8>> {
    ((1..=LINK_BYTES).contains(&to.len())).then(|| to.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry() -> impl Strategy<Value = Entry<Content>> {
        prop_oneof![
            Just(Entry::Directory),
            (any::<[u8; 32]>(), any::<u64>(), any::<bool>())
                .prop_map(|(digest, size, exec)| Entry::File(Content { sha256: Sha256(digest), size, exec })),
            prop::collection::vec(1_u8.., 1..9).prop_map(Entry::Link),
        ]
    }

    proptest! {
        #[test]
        fn a_tree_is_what_its_bytes_say(entries in prop::collection::vec(("[ab.-]{1,2}(/[a\u{e9}]){0,2}", entry()), 0..20)) {
            let mut tree = Tree::default();
            for (name, entry) in entries {
                if let Ok(place) = Place::parse(name.as_bytes()) {
                    let _through_a_link = tree.put(place, entry);
                }
            }
            prop_assert_eq!(Tree::from_bytes(&tree.to_bytes()), Ok(tree));
        }

        #[test]
        fn bytes_that_are_read_are_the_only_form(bytes in "octant-tree 1\n([dl]\0[ab/]{1,3}\0([ab]\0)?){0,4}") {
            if let Ok(tree) = Tree::from_bytes(bytes.as_bytes()) {
                prop_assert_eq!(tree.to_bytes(), bytes.as_bytes());
            }
        }
    }

    #[test]
    fn other_forms_are_refused() {
        let read = |text: &str| Tree::from_bytes(format!("octant-tree 1\n{text}").as_bytes());
        let digest = "a5".repeat(32);
        assert!(read(&format!("d\0a\0x\0{digest}\x007\0a/b\0l\0c\0a/b\0")).is_ok());
        assert_eq!(Tree::from_bytes(b"octant-tree 2\n"), Err(FormError::Head));
        assert_eq!(read("d\0b\0d\0a\0"), Err(FormError::Order));
        assert_eq!(read("d\0a\0d\0a\0"), Err(FormError::Order));
        assert_eq!(read("d\0a/b\0"), Err(FormError::Order));
        assert_eq!(read(&format!("f\0{digest}\x0007\0a\0")), Err(FormError::Order));
        assert_eq!(read("d\0a"), Err(FormError::Cut(1)));
        assert_eq!(read("d\0"), Err(FormError::Cut(1)));
        assert_eq!(read("q\0a\0"), Err(FormError::Entry(1)));
        assert_eq!(read("l\0a\0\0"), Err(FormError::Entry(1)));
        assert!(matches!(read("d\0../a\0"), Err(FormError::Place(1, _))));
        assert!(matches!(read("l\0a\0/\0d\0a/b\0"), Err(FormError::Tree(2, _))));
    }

    /// tests/corpus/tree: seeds named `ok-*` are read and written the same again; all others are refused.
    #[test]
    fn the_corpus_is_told_apart() {
        let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/corpus/tree");
        let mut count = 0;
        for entry in std::fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            let (name, bytes) = (entry.file_name(), std::fs::read(entry.path()).unwrap());
            let read = Tree::from_bytes(&bytes);
            assert_eq!(read.is_ok(), name.to_str().unwrap().starts_with("ok-"), "{name:?}: {read:?}");
            if let Ok(tree) = read {
                assert_eq!(tree.to_bytes(), bytes, "{name:?}");
            }
            count += 1;
        }
        assert!(count >= 19, "the corpus is not where it was");
    }
}
