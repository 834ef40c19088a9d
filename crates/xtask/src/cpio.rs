//! A writer of the archive that the kernel unpacks as its first root: cpio, "newc" form.
//! Layout: the kernel's Documentation/driver-api/early-userspace/buffer-format.rst.

use crate::sh::{self, Res};
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// What stands at one path.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    Directory { mode: u32 },
    File { mode: u32, bytes: Vec<u8> },
    Link { to: String },
    CharDevice { mode: u32, major: u32, minor: u32 },
}

/// A tree of files that becomes an archive. The same tree gives the same bytes: owner 0, time 0, paths sorted.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    nodes: BTreeMap<String, Node>,
}

const S_IFDIR: u32 = 0o040_000;
const S_IFREG: u32 = 0o100_000;
const S_IFLNK: u32 = 0o120_000;
const S_IFCHR: u32 = 0o020_000;

impl Tree {
    /// A directory; the ones above it are made too. A path is relative and without a trailing slash.
    pub(crate) fn directory(&mut self, path: &str, mode: u32) {
        self.parents(path);
        self.nodes.insert(path.to_owned(), Node::Directory { mode });
    }

    pub(crate) fn file(&mut self, path: &str, mode: u32, bytes: impl Into<Vec<u8>>) {
        self.parents(path);
        self.nodes.insert(path.to_owned(), Node::File { mode, bytes: bytes.into() });
    }

    pub(crate) fn link(&mut self, path: &str, to: &str) {
        self.parents(path);
        self.nodes.insert(path.to_owned(), Node::Link { to: to.to_owned() });
    }

    pub(crate) fn char_device(&mut self, path: &str, mode: u32, major: u32, minor: u32) {
        self.parents(path);
        self.nodes.insert(path.to_owned(), Node::CharDevice { mode, major, minor });
    }

    /// How many paths there are.
    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Writes the tree below `dir`, for programs that pack it themselves. Device nodes are left out: they need
    /// rights, and whoever packs makes them.
    ///
    /// # Errors
    /// Something cannot be written.
    pub(crate) fn write_to(&self, dir: &Path) -> Res {
        for (path, node) in &self.nodes {
            let at = dir.join(path);
            let set = |mode: &u32| {
                let set = std::fs::set_permissions(&at, std::fs::Permissions::from_mode(*mode));
                set.map_err(|error| format!("cannot set the mode of {}: {error}", at.display()))
            };
            match node {
                Node::Directory { mode } => sh::make_dir(&at).and_then(|()| set(mode))?,
                Node::File { mode, bytes } => sh::write(&at, bytes).and_then(|()| set(mode))?,
                Node::Link { to } => std::os::unix::fs::symlink(to, &at)
                    .map_err(|error| format!("cannot make the link {}: {error}", at.display()))?,
                Node::CharDevice { .. } => {}
            }
        }
        Ok(())
    }

    fn parents(&mut self, path: &str) {
        for (at, _) in path.match_indices('/') {
            self.nodes.entry(path[..at].to_owned()).or_insert(Node::Directory { mode: 0o755 });
        }
    }

    /// The archive.
    pub(crate) fn archive(&self) -> Vec<u8> {
        let mut out = Vec::new();
        // A map sorted by path has each directory before what is in it, as the kernel needs it.
        for (inode, (path, node)) in (1..).zip(&self.nodes) {
            let empty: &[u8] = &[];
            let (mode, links, device, bytes) = match node {
                Node::Directory { mode } => (S_IFDIR | mode, 2, (0, 0), empty),
                Node::File { mode, bytes } => (S_IFREG | mode, 1, (0, 0), bytes.as_slice()),
                Node::Link { to } => (S_IFLNK | 0o777, 1, (0, 0), to.as_bytes()),
                Node::CharDevice { mode, major, minor } => (S_IFCHR | mode, 1, (*major, *minor), empty),
            };
            entry(&mut out, [inode, mode, links, device.0, device.1], path, bytes);
        }
        entry(&mut out, [0, 0, 1, 0, 0], "TRAILER!!!", &[]);
        // The kernel looks for the next archive at a multiple of four; 512 is what cpio itself pads to.
        pad(&mut out, 512);
        out
    }
}

fn entry(out: &mut Vec<u8>, [inode, mode, links, major, minor]: [u32; 5], path: &str, bytes: &[u8]) {
    // A file of 4 GiB does not fit in the form, nor in memory before this is reached.
    let size = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let name_size = u32::try_from(path.len() + 1).unwrap_or(u32::MAX);
    // inode, mode, uid, gid, links, time, size, device of the file system, device of the node, name, checksum
    let fields = [inode, mode, 0, 0, links, 0, size, 0, 0, major, minor, name_size, 0];
    out.extend_from_slice(b"070701");
    for field in fields {
        out.extend_from_slice(format!("{field:08x}").as_bytes());
    }
    out.extend_from_slice(path.as_bytes());
    out.push(0);
    pad(out, 4);
    out.extend_from_slice(bytes);
    pad(out, 4);
}

fn pad(out: &mut Vec<u8>, to: usize) {
    out.resize(out.len().next_multiple_of(to), 0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    fn sample() -> Tree {
        let mut tree = Tree::default();
        tree.file("etc/octant/octant.toml", 0o644, "a = 1\n");
        tree.link("bin/ls", "/octant");
        tree.file("octant", 0o755, vec![7; 4097]);
        tree.directory("tmp", 0o1777);
        tree.char_device("dev/console", 0o600, 5, 1);
        tree
    }

    #[test]
    fn the_archive_is_what_the_kernels_form_says() {
        let mut tree = Tree::default();
        tree.file("a", 0o644, "hi");
        let archive = tree.archive();
        let head = "070701000000010000 81a4".replace(' ', "");
        assert!(archive.starts_with(head.as_bytes()), "{:?}", String::from_utf8_lossy(&archive[..32]));
        assert_eq!(archive.len() % 512, 0);
        // 110 bytes of header and "a\0" make 112; the two bytes of the file are padded to four.
        assert_eq!(&archive[110..116], b"a\0hi\0\0");
        assert!(archive[116..].starts_with(b"070701"));
    }

    #[test]
    fn the_same_tree_gives_the_same_bytes_and_parents_come_first() {
        assert_eq!(sample().archive(), sample().archive());
        let paths: Vec<String> = sample().nodes.into_keys().collect();
        for (at, path) in paths.iter().enumerate() {
            if let Some((parent, _)) = path.rsplit_once('/') {
                assert!(paths[..at].iter().any(|before| before == parent), "{path} before its directory");
            }
        }
        assert!(paths.contains(&"etc/octant".to_owned()));
    }

    #[test]
    fn another_program_reads_it() {
        if sh::which("cpio").is_none() {
            return; // An independent reader where there is one; the form itself is checked above.
        }
        let file = std::env::temp_dir().join(format!("xtask-{}.cpio", std::process::id()));
        sh::write(&file, sample().archive()).unwrap();
        let input = std::fs::File::open(&file).unwrap();
        let listing =
            Command::new("cpio").args(["-tv", "--quiet"]).stdin(Stdio::from(input)).output().unwrap();
        sh::remove(&file).unwrap();
        let listing = String::from_utf8(listing.stdout).unwrap();
        for part in ["drwxrwxrwt", "-> /octant", "4097", "crw-------", "etc/octant/octant.toml"] {
            assert!(listing.contains(part), "{part} in:\n{listing}");
        }
    }
}
