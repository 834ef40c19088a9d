//! Files by the digest of their bytes, and trees of them, below one directory.
//!
//! `objects/<first two digits>/<digest>` has a file's bytes, `trees/<digest>` a tree's canonical form. A tree is put when
//! all its files are on the disk. What is read is hashed again: nothing that differs from its name is given out.

use crate::canonical::FormError;
use crate::dir::Dir;
use crate::place::Place;
use crate::scan::{Odd, ScanError};
use crate::tree::{Content, Entry, Tree};
use nix::fcntl::{Flock, FlockArg};
use octant_ids::Sha256;
use sha2::Digest;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// The most bytes of a tree's canonical form.
const FORM_BYTES: u64 = 256 << 20;

/// Why something cannot be kept or given out.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file of the store.
    #[error("cannot {what} {path}: {source}", path = path.display())]
    Keep {
        /// What was being done.
        what: &'static str,
        /// To what.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is no such tree.
    #[error("there is no tree {0}")]
    NotFound(String),
    /// Bytes that their name does not fit.
    #[error("the store is damaged: {what} {name} has other bytes now")]
    Damaged {
        /// A file or a tree.
        what: &'static str,
        /// Its name.
        name: Sha256,
    },
    /// A tree that cannot be understood.
    #[error("the tree {0}: {1}")]
    Form(Sha256, FormError),
    /// A directory that cannot be read.
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// A directory that cannot be written.
    #[error("cannot write {place}: {source}")]
    Write {
        /// Where in it.
        place: Place,
        /// Why.
        source: io::Error,
    },
    /// A stream that is not what [`crate::pack`] writes.
    #[error("the stream of files cannot be taken: {0}")]
    Stream(&'static str),
    /// More bytes than there may be.
    #[error("the files have more than {0} bytes")]
    Bytes(u64),
}

/// What a store gives out, for whoever only reads: what a digest names does not change, so nothing is locked.
#[derive(Debug)]
pub struct Shelf {
    dir: PathBuf,
}

/// The store below one directory.
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
    shelf: Shelf,
    /// Held by whoever adds or removes, so that nothing is removed that is about to be named.
    _lock: Flock<File>,
}

impl Shelf {
    /// That of the store in this directory.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// A tree.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], or it is damaged.
    pub fn tree(&self, digest: Sha256) -> Result<Tree, StoreError> {
        let path = self.dir.join("trees").join(digest.to_string());
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(StoreError::NotFound(digest.to_string()));
            }
            Err(error) => return Err(keep("open", &path)(error)),
        };
        let mut bytes = Vec::new();
        file.take(FORM_BYTES).read_to_end(&mut bytes).map_err(keep("read", &path))?;
        if Sha256(sha2::Sha256::digest(&bytes).into()) != digest {
            return Err(StoreError::Damaged { what: "the tree", name: digest });
        }
        Tree::from_bytes(&bytes).map_err(|error| StoreError::Form(digest, error))
    }

    /// Writes a tree into an empty directory.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn restore(&self, tree: &Tree, dir: &Dir) -> Result<(), StoreError> {
        for (place, entry) in tree {
            let failed = |source| StoreError::Write { place: place.clone(), source };
            match entry {
                Entry::Directory => dir.make_directory(place).map_err(failed)?,
                Entry::Link(to) => dir.make_link(place, to).map_err(failed)?,
                Entry::File(content) => {
                    let mut file = dir.make_file(place, content.exec).map_err(failed)?;
                    self.get(content, &mut |bytes| file.write_all(bytes).map_err(failed))?;
                }
            }
        }
        Ok(())
    }

    /// Gives a file's bytes to `to`; an error at the end when they are not those that it is named by.
    pub(crate) fn get(
        &self,
        content: &Content,
        to: &mut dyn FnMut(&[u8]) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let path = self.object(content.sha256);
        let mut file = File::open(&path).map_err(keep("open", &path))?;
        let (mut hasher, mut size) = (sha2::Sha256::new(), 0);
        let damaged = || StoreError::Damaged { what: "the file", name: content.sha256 };
        copy(&mut file, "read", &path, &mut |bytes| {
            hasher.update(bytes);
            size += bytes.len() as u64;
            if size > content.size { Err(damaged()) } else { to(bytes) }
        })?;
        let same = (Sha256(hasher.finalize().into()), size) == (content.sha256, content.size);
        if same { Ok(()) } else { Err(damaged()) }
    }

    fn object(&self, digest: Sha256) -> PathBuf {
        let name = digest.to_string();
        self.dir.join("objects").join(&name[..2]).join(name)
    }
}

impl Store {
    /// Opens the store, which is made when it is not there; for one at a time. What is in it is for its owner alone.
    ///
    /// # Errors
    /// [`StoreError::Keep`].
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        for path in [dir, &dir.join("objects"), &dir.join("trees")] {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(keep("make", path))?;
        }
        let place = dir.join("lock");
        let file = File::options().create(true).truncate(false).write(true).open(&place);
        let file = file.map_err(keep("open", &place))?;
        let lock = Flock::lock(file, FlockArg::LockExclusive);
        let lock = lock.map_err(|(_, error)| keep("lock", &place)(error.into()))?;
        Ok(Self { dir: dir.to_owned(), shelf: Shelf::new(dir), _lock: lock })
    }

    /// Keeps what is in a directory: its tree, and what is no part of one (mounts too). `limit` is the most bytes.
    ///
    /// # Errors
    /// [`StoreError`]; no tree has been put then.
    pub fn snapshot(&self, dir: &Dir, limit: u64) -> Result<(Tree, Vec<Odd>), StoreError> {
        let (tree, odd) = self.gather(dir, limit)?;
        self.put_tree(&tree)?;
        Ok((tree, odd))
    }

    /// The same without the last step, [`Store::put_tree`]: nobody can use the tree before that.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn gather(&self, dir: &Dir, limit: u64) -> Result<(Tree, Vec<Odd>), StoreError> {
        let (mut left, mut own) = (limit, None);
        let scanned = dir.scan(&mut |file| {
            let kept = self.put(file, left).map_err(|error| {
                own = Some(error);
                io::Error::other("it cannot be kept")
            })?;
            left -= kept.1;
            Ok(kept)
        });
        let (tree, odd) = match (scanned, own) {
            (_, Some(StoreError::Bytes(_))) => return Err(StoreError::Bytes(limit)),
            (_, Some(error)) => return Err(error),
            (scanned, None) => scanned?,
        };
        Ok((tree, odd))
    }

    /// What it gives out.
    #[must_use]
    pub fn shelf(&self) -> &Shelf {
        &self.shelf
    }

    /// The digest of every tree, in order.
    ///
    /// # Errors
    /// [`StoreError::Keep`].
    pub fn trees(&self) -> Result<Vec<Sha256>, StoreError> {
        self.names("trees")
    }

    /// The one tree whose digest begins with these digits, at least 8.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]: there is none, or more than one.
    pub fn find(&self, digits: &str) -> Result<Sha256, StoreError> {
        let all = self.trees()?;
        let mut found = all.iter().filter(|digest| digest.to_string().starts_with(digits));
        match (found.next(), found.next()) {
            (Some(digest), None) if digits.len() >= 8 => Ok(*digest),
            _ => Err(StoreError::NotFound(digits.to_owned())),
        }
    }

    /// Keeps a tree whose files are all kept.
    ///
    /// # Errors
    /// [`StoreError`]: also when one of its files is not there.
    pub fn put_tree(&self, tree: &Tree) -> Result<Sha256, StoreError> {
        for (_, entry) in tree {
            if let Entry::File(content) = entry {
                let path = self.shelf.object(content.sha256);
                fs::symlink_metadata(&path).map_err(keep("find", &path))?;
            }
        }
        let all = File::open(&self.dir).map_err(keep("open", &self.dir))?;
        nix::unistd::syncfs(&all).map_err(|error| keep("sync", &self.dir)(error.into()))?;
        let digest = tree.digest();
        let path = self.dir.join("trees").join(digest.to_string());
        self.add(&mut tree.to_bytes().as_slice(), FORM_BYTES, |_| path.clone())?;
        File::open(self.dir.join("trees")).and_then(|dir| dir.sync_all()).map_err(keep("sync", &self.dir))?;
        Ok(digest)
    }

    /// Removes a tree, and the files that no other tree has.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn remove(&self, digest: Sha256) -> Result<(), StoreError> {
        let mut used = BTreeSet::new();
        for other in self.trees()?.into_iter().filter(|other| *other != digest) {
            let tree = self.shelf.tree(other)?;
            used.extend(tree.iter().filter_map(|(_, entry)| match entry {
                Entry::File(content) => Some(content.sha256),
                _ => None,
            }));
        }
        let path = self.dir.join("trees").join(digest.to_string());
        fs::remove_file(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => StoreError::NotFound(digest.to_string()),
            _ => keep("remove", &path)(error),
        })?;
        for shelf in self.list("objects")? {
            for object in self.names(&format!("objects/{shelf}"))? {
                if !used.contains(&object) {
                    let path = self.shelf.object(object);
                    fs::remove_file(&path).map_err(keep("remove", &path))?;
                }
            }
        }
        Ok(())
    }

    /// How many bytes all its files have.
    ///
    /// # Errors
    /// [`StoreError::Keep`].
    pub fn bytes(&self) -> Result<u64, StoreError> {
        let mut bytes = 0;
        for shelf in self.list("objects")? {
            for object in self.names(&format!("objects/{shelf}"))? {
                let path = self.shelf.object(object);
                bytes += fs::symlink_metadata(&path).map_err(keep("look at", &path))?.len();
            }
        }
        Ok(bytes)
    }

    /// Keeps a file's bytes, at most `limit`.
    pub(crate) fn put(&self, from: &mut impl Read, limit: u64) -> Result<(Sha256, u64), StoreError> {
        self.add(from, limit, |digest| self.shelf.object(digest))
    }

    fn add(
        &self,
        from: &mut impl Read,
        limit: u64,
        place: impl FnOnce(Sha256) -> PathBuf,
    ) -> Result<(Sha256, u64), StoreError> {
        let new = self.dir.join("new");
        let mut file = File::create(&new).map_err(keep("make", &new))?;
        let mut hasher = sha2::Sha256::new();
        let mut size = 0;
        copy(from, "read a file for", &new, &mut |bytes| {
            hasher.update(bytes);
            size += bytes.len() as u64;
            if size > limit {
                return Err(StoreError::Bytes(limit));
            }
            file.write_all(bytes).map_err(keep("write", &new))
        })?;
        let digest = Sha256(hasher.finalize().into());
        let place = place(digest);
        if let Some(shelf) = place.parent() {
            fs::create_dir_all(shelf).map_err(keep("make", shelf))?;
        }
        fs::rename(&new, &place).map_err(keep("rename to", &place))?;
        Ok((digest, size))
    }

    fn list(&self, name: &str) -> Result<Vec<String>, StoreError> {
        let path = self.dir.join(name);
        let names = Dir::open(&path).and_then(|dir| dir.names()).map_err(keep("read", &path))?;
        Ok(names.into_iter().filter_map(|name| name.into_string().ok()).collect())
    }

    fn names(&self, name: &str) -> Result<Vec<Sha256>, StoreError> {
        Ok(self.list(name)?.iter().filter_map(|name| name.parse().ok()).collect())
    }
}

fn keep(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Keep { what, path, source }
}

fn copy(
    from: &mut impl Read,
    what: &'static str,
    path: &Path,
    to: &mut dyn FnMut(&[u8]) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => to(&buffer[..count])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(keep(what, path)(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::sync::atomic::{AtomicU32, Ordering};

    struct Temp(PathBuf);

    impl Temp {
        fn new() -> Self {
            static NEXT: AtomicU32 = AtomicU32::new(0);
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let dir = std::env::temp_dir().join(format!("octant-tree-{}-{number}", std::process::id()));
            fs::create_dir_all(dir.join("work/src")).unwrap();
            fs::write(dir.join("work/src/main.rs"), "fn main() {}").unwrap();
            fs::write(dir.join("work/run.sh"), "#!/bin/sh").unwrap();
            fs::set_permissions(dir.join("work/run.sh"), fs::Permissions::from_mode(0o755)).unwrap();
            fs::create_dir(dir.join("work/empty")).unwrap();
            symlink("/etc/shadow", dir.join("work/link")).unwrap();
            Self(dir)
        }

        fn dir(&self, name: &str) -> Dir {
            fs::create_dir_all(self.0.join(name)).unwrap();
            Dir::open(&self.0.join(name)).unwrap()
        }

        fn store(&self) -> Store {
            Store::open(&self.0.join("store")).unwrap()
        }

        fn objects(&self) -> usize {
            let shelves = fs::read_dir(self.0.join("store/objects")).unwrap();
            shelves.map(|shelf| fs::read_dir(shelf.unwrap().path()).unwrap().count()).sum()
        }
    }

    impl Drop for Temp {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn what_is_restored_is_what_was_kept() {
        let temp = Temp::new();
        nix::unistd::mkfifo(&temp.0.join("work/pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let store = temp.store();
        let (tree, odd) = store.snapshot(&temp.dir("work"), 1 << 20).unwrap();
        assert_eq!(odd.iter().map(|odd| odd.0.to_string()).collect::<Vec<_>>(), ["pipe"]);
        assert_eq!(store.trees().unwrap(), [tree.digest()]);
        assert_eq!(store.find(&tree.digest().to_string()[..8]).unwrap(), tree.digest());
        assert!(matches!(store.find(&tree.digest().to_string()[..7]), Err(StoreError::NotFound(_))));
        assert_eq!(store.shelf().tree(tree.digest()).unwrap(), tree);
        let again = temp.dir("again");
        store.shelf().restore(&tree, &again).unwrap();
        assert_eq!(again.scan(&mut |file| crate::hash(file)).unwrap(), (tree.clone(), vec![]));
        // Into what is there already nothing is written.
        assert!(matches!(store.shelf().restore(&tree, &again), Err(StoreError::Write { .. })));
        let mode = fs::metadata(temp.0.join("store")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }

    #[test]
    fn the_same_bytes_are_kept_once_and_go_with_the_last_tree() {
        let temp = Temp::new();
        let store = temp.store();
        let (first, _) = store.snapshot(&temp.dir("work"), 1 << 20).unwrap();
        fs::write(temp.0.join("work/copy"), "fn main() {}").unwrap();
        fs::write(temp.0.join("work/more"), "more").unwrap();
        let (second, _) = store.snapshot(&temp.dir("work"), 1 << 20).unwrap();
        assert_eq!(temp.objects(), 3);
        store.remove(second.digest()).unwrap();
        assert_eq!(temp.objects(), 2);
        store.shelf().restore(&first, &temp.dir("again")).unwrap();
        store.remove(first.digest()).unwrap();
        assert_eq!(temp.objects(), 0);
        assert!(matches!(store.remove(first.digest()), Err(StoreError::NotFound(_))));
    }

    #[test]
    fn too_much_is_refused_and_no_tree_is_left() {
        let temp = Temp::new();
        let store = temp.store();
        assert!(matches!(store.snapshot(&temp.dir("work"), 20), Err(StoreError::Bytes(20))));
        assert!(store.trees().unwrap().is_empty());
        store.snapshot(&temp.dir("work"), 21).unwrap();
    }

    #[test]
    fn damage_is_found() {
        let temp = Temp::new();
        let store = temp.store();
        let (tree, _) = store.snapshot(&temp.dir("work"), 1 << 20).unwrap();
        let object = store.shelf.object(crate::hash(&mut &b"fn main() {}"[..]).unwrap().0);
        for bytes in ["fn main() {;", "fn main() {}}", ""] {
            fs::write(&object, bytes).unwrap();
            let error = store.shelf().restore(&tree, &temp.dir(&format!("to{}", bytes.len()))).unwrap_err();
            assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
        }
        fs::write(temp.0.join("store/trees").join(tree.digest().to_string()), "octant-tree 1\n").unwrap();
        assert!(matches!(store.shelf().tree(tree.digest()), Err(StoreError::Damaged { .. })));
        // A tree of files that are not there is not kept.
        fs::remove_file(object).unwrap();
        assert!(matches!(store.put_tree(&tree), Err(StoreError::Keep { .. })));
    }
}
