//! Kernel modules: where modules.dep(5) has them, what they need, and loading them in order.

use nix::kmod::{DeleteModuleFlags, ModuleInitFlags, delete_module, finit_module};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CStr, CString};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// finit_module(2): the file is compressed; the kernel (MODULE_DECOMPRESS) unpacks it.
const COMPRESSED: u32 = 4;

/// The content of modules.dep: each module's file, and the files that it needs.
#[derive(Debug, Default)]
pub struct Modules {
    // By the module's name with `-` written as `_`, as the kernel does.
    files: BTreeMap<String, (String, Vec<String>)>,
}

/// A module that cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum ModuleError {
    /// modules.dep does not have it.
    #[error("module {0}: not in modules.dep; add it to the image or take it out of the list")]
    Unknown(String),
    /// The kernel or the file system refused.
    #[error("module {path}: {source}")]
    Load {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Modules {
    /// Reads modules.dep's text.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut files = BTreeMap::new();
        for line in text.lines() {
            if let Some((file, needs)) = line.split_once(':') {
                let needs = needs.split_ascii_whitespace().map(str::to_owned).collect();
                files.insert(name_of(file), (file.to_owned(), needs));
            }
        }
        Self { files }
    }

    /// Reads the modules.dep of the kernel that runs; a kernel without modules has none.
    #[must_use]
    pub fn here() -> Self {
        Self::parse(&fs::read_to_string(directory().join("modules.dep")).unwrap_or_default())
    }

    /// The files to load for a module, in order. modules.dep lists everything that a module needs, the nearest first,
    /// so backwards is the right order (modules.dep(5)).
    ///
    /// # Errors
    /// modules.dep does not have it.
    pub fn order(&self, name: &str) -> Result<Vec<&str>, ModuleError> {
        let (file, needs) =
            self.files.get(&name_of(name)).ok_or_else(|| ModuleError::Unknown(name.to_owned()))?;
        Ok(needs.iter().rev().chain([file]).map(String::as_str).collect())
    }
}

/// Where the modules of the kernel that runs are.
#[must_use]
pub fn directory() -> PathBuf {
    let release = nix::sys::utsname::uname().map(|name| name.release().to_owned()).unwrap_or_default();
    Path::new("/lib/modules").join(release)
}

/// The modules that are part of the kernel itself.
#[must_use]
pub fn built_in() -> BTreeSet<String> {
    let list = fs::read_to_string(directory().join("modules.builtin")).unwrap_or_default();
    list.lines().map(name_of).collect()
}

/// `kernel/drivers/block/virtio-blk.ko.xz` -> `virtio_blk`.
#[must_use]
pub fn name_of(file: &str) -> String {
    let base = file.rsplit('/').next().unwrap_or(file);
    base.split(".ko").next().unwrap_or(base).replace('-', "_")
}

/// The names in a list, and whether each may be missing from this kernel: one a line, `#` begins a comment, a leading
/// `-` marks what not every kernel has.
fn names(list: &str) -> impl Iterator<Item = (&str, bool)> {
    let lines = list.lines().map(|line| line.split('#').next().unwrap_or("").trim());
    lines.filter(|name| !name.is_empty()).map(|name| match name.strip_prefix('-') {
        Some(name) => (name.trim_start(), true),
        None => (name, false),
    })
}

/// Loads what the list names (`/etc/octant/modules`). Modules that are built in or loaded already are no error; every other failure is returned
/// and the rest goes on, because which of them the boot needs shows where they are needed.
pub fn load_listed(list: &Path) -> Vec<ModuleError> {
    let Ok(text) = fs::read_to_string(list) else { return Vec::new() };
    let (dir, modules, built_in) = (directory(), Modules::here(), built_in());
    let (mut done, mut troubles) = (BTreeSet::new(), Vec::new());
    for (name, optional) in names(&text).filter(|(name, _)| !built_in.contains(&name_of(name))) {
        match modules.order(name) {
            Err(_) if optional => {}
            Err(error) => troubles.push(error),
            Ok(files) => {
                for file in files.into_iter().filter(|file| !built_in.contains(&name_of(file))) {
                    if done.insert(file)
                        && let Err(source) = load(&dir.join(file), c"")
                    {
                        troubles.push(ModuleError::Load { path: dir.join(file), source });
                    }
                }
            }
        }
    }
    troubles
}

/// Loads a module's file with these parameters; one that is loaded already is no error.
///
/// # Errors
/// What opening the file or finit_module(2) reports.
pub fn load(path: &Path, parameters: &CStr) -> io::Result<()> {
    match insert(path, parameters) {
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
        other => other,
    }
}

/// As [`load`], for who wants to know that it is there already.
///
/// # Errors
/// What opening the file or finit_module(2) reports; `EEXIST` when it is loaded.
pub fn insert(path: &Path, parameters: &CStr) -> io::Result<()> {
    let plain = path.extension().is_some_and(|extension| extension == "ko");
    let flags = ModuleInitFlags::from_bits_retain(if plain { 0 } else { COMPRESSED });
    Ok(finit_module(File::open(path)?, parameters, flags)?)
}

/// Takes a module out of the kernel, unless something uses it.
///
/// # Errors
/// What delete_module(2) reports.
pub fn remove(name: &str) -> io::Result<()> {
    Ok(delete_module(&CString::new(name_of(name))?, DeleteModuleFlags::O_NONBLOCK)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEP: &str = "kernel/drivers/block/virtio_blk.ko.xz: kernel/drivers/virtio/virtio_ring.ko.xz kernel/drivers/virtio/virtio.ko.xz\n\
                       kernel/drivers/virtio/virtio.ko.xz:\n\
                       kernel/fs/dm-verity.ko: kernel/md/dm-bufio.ko kernel/md/dm-mod.ko\n";

    #[test]
    fn a_module_is_loaded_after_what_it_needs() {
        let modules = Modules::parse(DEP);
        assert_eq!(
            modules.order("virtio-blk").unwrap(),
            [
                "kernel/drivers/virtio/virtio.ko.xz",
                "kernel/drivers/virtio/virtio_ring.ko.xz",
                "kernel/drivers/block/virtio_blk.ko.xz"
            ]
        );
        assert_eq!(modules.order("dm_verity").unwrap().last(), Some(&"kernel/fs/dm-verity.ko"));
        assert!(matches!(modules.order("zfs"), Err(ModuleError::Unknown(_))));
    }

    #[test]
    fn lists_have_comments_and_empty_lines() {
        let list = "# disk\nvirtio_blk\n\n  -ext4 # data\n";
        assert_eq!(names(list).collect::<Vec<_>>(), [("virtio_blk", false), ("ext4", true)]);
    }
}
