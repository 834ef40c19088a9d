//! Random layers against a model that is so simple that it can be seen to be right: nested maps.

use super::maker::{Tar, Temp, gzipped, import};
use octant_tree::{Dir, hash};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// What is at a place.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    Dir(BTreeMap<String, Node>),
    File(u8),
    Link(String),
}

/// What a layer does.
#[derive(Debug, Clone)]
enum Act {
    Dir,
    File(u8),
    Link(String),
    Hide,
    Opaque,
    Same(Vec<String>),
}

type Path = Vec<String>;

fn dir_at<'a>(
    root: &'a mut BTreeMap<String, Node>,
    path: &[String],
    make: bool,
) -> Option<&'a mut BTreeMap<String, Node>> {
    let Some((name, rest)) = path.split_first() else { return Some(root) };
    if make {
        root.entry(name.clone()).or_insert_with(|| Node::Dir(BTreeMap::new()));
    }
    match root.get_mut(name)? {
        Node::Dir(inner) => dir_at(inner, rest, make),
        _ => None,
    }
}

/// What a layer does to what is below it; `None` when it cannot be.
fn apply(root: &mut BTreeMap<String, Node>, layer: &[(Path, Act)]) -> Option<()> {
    for (path, act) in layer {
        let (name, parent) = path.split_last()?;
        match act {
            Act::Hide => drop(dir_at(root, parent, false).map(|dir| dir.remove(name))),
            Act::Opaque => drop(dir_at(root, parent, false).map(BTreeMap::clear)),
            _ => {}
        }
    }
    for (path, act) in layer {
        let (name, parent) = path.split_last()?;
        let node = match act {
            Act::Hide | Act::Opaque => continue,
            Act::Dir => Node::Dir(BTreeMap::new()),
            Act::File(byte) => Node::File(*byte),
            Act::Link(to) => Node::Link(to.clone()),
            Act::Same(other) => {
                let (name, parent) = other.split_last()?;
                match dir_at(root, parent, false)?.get(name)? {
                    Node::Dir(_) => return None,
                    node => node.clone(),
                }
            }
        };
        let dir = dir_at(root, parent, true)?;
        match (dir.get(name), &node) {
            (Some(Node::Dir(_)), Node::Dir(_)) => {}
            _ => drop(dir.insert(name.clone(), node)),
        }
    }
    Some(())
}

fn tar(layer: &[(Path, Act)]) -> Vec<u8> {
    let mut tar = Tar::default();
    for (path, act) in layer {
        let (name, parent) = path.split_last().unwrap();
        let path = path.join("/");
        let beside = |name: &str| [parent, &[name.to_owned()]].concat().join("/");
        tar = match act {
            Act::Dir => tar.dir(&path),
            Act::File(byte) => tar.file(&path, &[*byte]),
            Act::Link(to) => tar.link(&path, to),
            Act::Hide => tar.file(&beside(&format!(".wh.{name}")), b""),
            Act::Opaque => tar.file(&beside(".wh..wh..opq"), b""),
            Act::Same(other) => tar.same(&path, &other.join("/")),
        };
    }
    tar.end()
}

fn flat(dir: &BTreeMap<String, Node>, at: &str, out: &mut BTreeMap<String, String>) {
    for (name, node) in dir {
        let path = if at.is_empty() { name.clone() } else { format!("{at}/{name}") };
        let text = match node {
            Node::Dir(inner) => {
                flat(inner, &path, out);
                "directory".into()
            }
            Node::File(byte) => format!("file {}", super::maker::sha256(&[*byte])),
            Node::Link(to) => format!("link {to}"),
        };
        out.insert(path, text);
    }
}

fn path() -> impl Strategy<Value = Path> {
    prop::collection::vec("[ab]", 1..4)
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        2 => Just(Act::Dir),
        6 => any::<u8>().prop_map(Act::File),
        1 => prop_oneof![Just("/"), Just(".."), Just("a"), Just("/etc")].prop_map(|to| Act::Link(to.into())),
        2 => Just(Act::Hide),
        1 => Just(Act::Opaque),
        1 => path().prop_map(Act::Same),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn layers_make_what_the_model_says(layers in prop::collection::vec(prop::collection::vec((path(), act()), 0..8), 1..4)) {
        let temp = Temp::new();
        let mut model = BTreeMap::new();
        let possible = layers.iter().try_for_each(|layer| apply(&mut model, layer)).is_some();
        let packed: Vec<_> = layers.iter().map(|layer| gzipped(&tar(layer))).collect();
        let imported = import(&temp, &packed);
        prop_assert_eq!(imported.is_ok(), possible, "{:?}", imported.err().map(|e| e.to_string()));
        let Ok(imported) = imported else { return Ok(()) };
        let root = Dir::open(&temp.root(imported.image.digest)).unwrap();
        let (tree, odd) = root.scan(&mut |file| hash(file)).unwrap();
        prop_assert!(odd.is_empty());
        let found: BTreeMap<String, String> = tree
            .iter()
            .filter(|(place, _)| place.to_string() != "etc" && !place.to_string().starts_with("etc/"))
            .map(|(place, entry)| {
                let text = match entry {
                    octant_tree::Entry::Directory => "directory".into(),
                    octant_tree::Entry::File(content) => format!("file {}", content.sha256),
                    octant_tree::Entry::Link(to) => format!("link {}", String::from_utf8_lossy(to)),
                };
                (place.to_string(), text)
            })
            .collect();
        let mut expected = BTreeMap::new();
        flat(&model, "", &mut expected);
        prop_assert_eq!(found, expected);
    }
}
