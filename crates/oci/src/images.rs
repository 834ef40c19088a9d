//! Where imported images are kept.
//!
//! `<state>/images/<digest of the manifest>/` has `root/`, the tree; `tree`, its canonical form; `image.json`, what else is
//! known. `names/<name>` has the digest that a name stands for. An import writes below `new-<pid>` and renames when
//! everything is on the disk; what a dead one has left, the next one removes. `lock` keeps two from meeting.

use crate::Limits;
use crate::error::ImageError;
use crate::import::{Choice, Chosen, Imported, choose, unpack};
use crate::layout::Layout;
use crate::model::{Config, Platform};
use nix::fcntl::{Flock, FlockArg};
use octant_ids::Sha256;
use octant_tree::{Dir, Tree, changes, hash, remove_all};
use serde::{Deserialize, Serialize};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

/// The version of what is on disk, of [`Record`] and of the room that an import makes for a workstation's own places.
const VERSION: u32 = 1;
const NAMES: &str = "names";
const NEW: &str = "new-";

/// An imported image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Image {
    /// The digest of its manifest.
    pub digest: Sha256,
    /// The names that stand for it here.
    pub names: Vec<String>,
    /// What is known of it.
    #[serde(flatten)]
    pub record: Record,
}

/// What is known of an imported image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// [`VERSION`].
    version: u32,
    /// What it is for.
    pub platform: Platform,
    /// The digest of its tree.
    pub tree: Sha256,
    /// How many files, directories and links.
    pub entries: u64,
    /// How many bytes its files have.
    pub bytes: u64,
    /// How many device nodes and pipes were left out.
    pub left_out: u64,
    /// How its maker meant it to be run.
    pub config: Config,
}

/// Why a text is no name for an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no name for an image: 1 to 64 of a-z, 0-9, '.', '_', ':' and '-', a letter or digit first, and no digest"
)]
pub struct NameError(String);

/// The images of one machine.
#[derive(Debug)]
pub struct Images {
    dir: PathBuf,
}

impl Images {
    /// Those that are kept in this directory, which need not be there yet.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// Imports an image from a layout on disk; its name then stands for it.
    ///
    /// # Errors
    /// [`ImageError`]; nothing that is used has been changed then.
    pub fn import(
        &self,
        from: &Path,
        choice: &Choice,
        limits: &Limits,
        name: Option<&str>,
    ) -> Result<Imported, ImageError> {
        self.import_after(from, choice, limits, name, &mut |_| true)
    }

    /// The same; `before` is told the digest when everything of a new image is on the disk and nobody can use it yet, and
    /// can still refuse.
    ///
    /// # Errors
    /// [`ImageError`]; [`ImageError::Unrecorded`] where it refused.
    pub fn import_after(
        &self,
        from: &Path,
        choice: &Choice,
        limits: &Limits,
        name: Option<&str>,
        before: &mut dyn FnMut(Sha256) -> bool,
    ) -> Result<Imported, ImageError> {
        name.map(check_name).transpose()?;
        let names = self.dir.join(NAMES);
        fs::create_dir_all(&names).map_err(keep("make", &names))?;
        let _lock = self.lock()?;
        self.sweep()?;
        let layout = Layout::open(from, limits)?;
        let chosen = choose(&layout, choice, limits)?;
        let known = self.dir.join(chosen.digest.to_string()).exists();
        if !known {
            self.add(&layout, &chosen, limits, before)?;
        }
        if let Some(name) = name {
            let text = chosen.digest.to_string();
            write_whole(&names.join(".new"), text.as_bytes())?;
            let place = names.join(name);
            fs::rename(names.join(".new"), &place).map_err(keep("rename to", &place))?;
            sync_dir(&names)?;
        }
        Ok(Imported { image: self.image(chosen.digest)?, known })
    }

    fn add(
        &self,
        layout: &Layout,
        chosen: &Chosen,
        limits: &Limits,
        before: &mut dyn FnMut(Sha256) -> bool,
    ) -> Result<(), ImageError> {
        let new = self.dir.join(format!("{NEW}{}", std::process::id()));
        let done = self.unpacked(layout, chosen, limits, &new).and_then(|()| {
            if !before(chosen.digest) {
                return Err(ImageError::Unrecorded);
            }
            let place = self.dir.join(chosen.digest.to_string());
            fs::rename(&new, &place).map_err(keep("rename to", &place))?;
            sync_dir(&self.dir)
        });
        if done.is_err() {
            // What cannot be removed now the next import removes; the error that led here is the one to tell.
            let _left = self.sweep();
        }
        done
    }

    /// Writes everything of an image below `new`, onto the disk.
    fn unpacked(
        &self,
        layout: &Layout,
        chosen: &Chosen,
        limits: &Limits,
        new: &Path,
    ) -> Result<(), ImageError> {
        let root = new.join("root");
        fs::create_dir_all(&root).map_err(keep("make", &root))?;
        let dir = Dir::open(&root).map_err(keep("open", &root))?;
        let unpacked = unpack(layout, chosen, limits, &dir)?;
        let record = Record {
            version: VERSION,
            platform: chosen.platform.clone(),
            tree: unpacked.tree.digest(),
            entries: unpacked.tree.len() as u64,
            bytes: unpacked.tree.bytes(),
            left_out: unpacked.nodes,
            config: chosen.config.clone(),
        };
        let place = new.join("image.json");
        let text = serde_json::to_vec_pretty(&record).map_err(|error| keep("write", &place)(error.into()))?;
        write_whole(&new.join("tree"), &unpacked.tree.to_bytes())?;
        write_whole(&place, &text)?;
        let all = File::open(new).map_err(keep("open", new))?;
        nix::unistd::syncfs(&all).map_err(|error| keep("sync", new)(error.into()))
    }

    /// Every image, by digest.
    ///
    /// # Errors
    /// [`ImageError`].
    pub fn list(&self) -> Result<Vec<Image>, ImageError> {
        let digests = self.names(&self.dir)?.into_iter().filter_map(|name| name.parse().ok());
        digests.map(|digest| self.image(digest)).collect()
    }

    /// The image that a name, a digest, or at least 8 digits that only one digest begins with, stands for.
    ///
    /// # Errors
    /// [`ImageError::NotFound`], or something cannot be read.
    pub fn find(&self, which: &str) -> Result<Image, ImageError> {
        let not_found = || ImageError::NotFound(format!("{which:?}"));
        if check_name(which).is_ok() {
            let place = self.dir.join(NAMES).join(which);
            match fs::read_to_string(&place) {
                Ok(text) => {
                    let digest =
                        text.parse().map_err(|error| keep("read", &place)(io::Error::other(error)))?;
                    return self.image(digest);
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(keep("read", &place)(error)),
            }
        }
        let digits = which.strip_prefix("sha256:").unwrap_or(which);
        if digits.len() < 8 {
            return Err(not_found());
        }
        let names = self.names(&self.dir)?;
        let mut found =
            names.iter().filter(|name| name.starts_with(digits)).filter_map(|name| name.parse().ok());
        match (found.next(), found.next()) {
            (Some(digest), None) => self.image(digest),
            _ => Err(not_found()),
        }
    }

    /// Reads an image's files again and compares them with what was imported.
    ///
    /// # Errors
    /// [`ImageError::Changed`] when anything differs.
    pub fn verify(&self, digest: Sha256) -> Result<Image, ImageError> {
        let image = self.image(digest)?;
        let place = self.dir.join(digest.to_string());
        let bytes = fs::read(place.join("tree")).map_err(keep("read", &place.join("tree")))?;
        let kept = Tree::from_bytes(&bytes).map_err(|source| ImageError::Form { digest, source })?;
        let changed = |why: String| ImageError::Changed { digest, why };
        if kept.digest() != image.record.tree {
            return Err(changed("its list of files is another".into()));
        }
        let root = Dir::open(&place.join("root")).map_err(keep("open", &place.join("root")))?;
        let (found, odd) =
            root.scan(&mut |file| hash(file)).map_err(|source| ImageError::Scan { digest, source })?;
        if let Some(odd) = odd.first() {
            return Err(changed(format!("{} is no file, directory or link", odd.0)));
        }
        match changes(&kept, &found).first() {
            Some(change) => Err(changed(format!("{} differs", change.place))),
            None => Ok(image),
        }
    }

    /// Removes an image and the names that stand for it.
    ///
    /// # Errors
    /// [`ImageError`].
    pub fn remove(&self, digest: Sha256) -> Result<Image, ImageError> {
        let _lock = self.lock()?;
        self.sweep()?;
        let image = self.image(digest)?;
        for name in &image.names {
            let place = self.dir.join(NAMES).join(name);
            fs::remove_file(&place).map_err(keep("remove", &place))?;
        }
        // Renamed first: half an image is never one.
        let place = self.dir.join(digest.to_string());
        fs::rename(&place, self.dir.join(format!("{NEW}removed"))).map_err(keep("rename", &place))?;
        self.sweep()?;
        Ok(image)
    }

    fn image(&self, digest: Sha256) -> Result<Image, ImageError> {
        let place = self.dir.join(digest.to_string()).join("image.json");
        let text = match fs::read(&place) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(ImageError::NotFound(digest.to_string()));
            }
            Err(error) => return Err(keep("read", &place)(error)),
        };
        let record: Record =
            serde_json::from_slice(&text).map_err(|error| keep("read", &place)(error.into()))?;
        if record.version != VERSION {
            let why = format!("imported by another version of Octant ({}); import it again", record.version);
            return Err(ImageError::Changed { digest, why });
        }
        let mut names = Vec::new();
        for name in self.names(&self.dir.join(NAMES))? {
            let place = self.dir.join(NAMES).join(&name);
            if fs::read_to_string(&place).map_err(keep("read", &place))?.parse() == Ok(digest) {
                names.push(name);
            }
        }
        Ok(Image { digest, names, record })
    }

    fn lock(&self) -> Result<Flock<File>, ImageError> {
        let place = self.dir.join("lock");
        let file = File::options().create(true).truncate(false).write(true).open(&place);
        let file = file.map_err(keep("open", &place))?;
        Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, error)| keep("lock", &place)(error.into()))
    }

    /// Removes what imports and removals have left that did not come to their end.
    fn sweep(&self) -> Result<(), ImageError> {
        let dir = Dir::open(&self.dir).map_err(keep("open", &self.dir))?;
        for name in self.names(&self.dir)?.iter().filter(|name| name.starts_with(NEW)) {
            remove_all(dir.as_fd(), OsStr::new(name)).map_err(keep("remove", &self.dir.join(name)))?;
        }
        Ok(())
    }

    /// The names in a directory, sorted; none when it is not there.
    fn names(&self, dir: &Path) -> Result<Vec<String>, ImageError> {
        let names = match Dir::open(dir).and_then(|dir| dir.names()) {
            Ok(names) => names,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(keep("read", dir)(error)),
        };
        let names = names.into_iter().filter_map(|name| name.into_string().ok());
        Ok(names.filter(|name| !name.starts_with('.')).collect())
    }
}

fn keep(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ImageError {
    let path = path.to_owned();
    move |source| ImageError::Keep { what, path, source }
}

fn check_name(name: &str) -> Result<(), NameError> {
    let good = (1..=64).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._:-".contains(&b))
        && !name.starts_with("sha256:")
        && name.parse::<Sha256>().is_err();
    if good { Ok(()) } else { Err(NameError(name.to_owned())) }
}

fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), ImageError> {
    let write = || -> io::Result<()> {
        let mut file = File::create(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(keep("write", path))
}

fn sync_dir(path: &Path) -> Result<(), ImageError> {
    File::open(path).and_then(|dir| dir.sync_all()).map_err(keep("sync", path))
}
