//! What this crate does to the trusted set: an edition's keys come and go in it beside those that an operator has put
//! there, and what operators have said with `octant trust` is kept where the set itself does not outlive a boot.

use crate::StoreError;
use crate::disk::Disk;
use nix::sys::statfs::{OVERLAYFS_SUPER_MAGIC, TMPFS_MAGIC, statfs};
use octant_ids::Layout;
use std::fs;
use std::io;
use std::path::Path;

/// How the files of editions begin in the trusted set.
const PREFIX: &str = "config-";
const REVOKED: &str = "revoked";
/// Where a file is made before it is in the set: a stray one there would make all of it unreadable.
const BESIDE: &str = "trusted.new";
/// Such a stray one, on purpose.
const UNKNOWN: &str = "what-was-kept-is-not-known";
/// linux/magic.h; the type of an initramfs when tmpfs is not built in.
const RAMFS_MAGIC: i64 = 0x8584_58f6;

/// Keeps a file of the trusted set below the state directory, where the set is not on a disk: in memory it is the
/// image's again at the next boot, and of a container's root nobody knows how long it lasts. Gives whether it was kept.
///
/// # Errors
/// The step that failed.
pub fn keep(layout: &Layout, name: &str, text: &str) -> Result<bool, StoreError> {
    let set = layout.trusted();
    let fail = |error: nix::Error| StoreError { path: set.clone(), source: error.into() };
    let kind = statfs(&set).map_err(fail)?.filesystem_type();
    if kind != TMPFS_MAGIC && kind != OVERLAYFS_SUPER_MAGIC && kind.0 != RAMFS_MAGIC {
        return Ok(false);
    }
    let (disk, kept) = (Disk::default(), layout.trusted_kept());
    disk.make_dir(&kept)?;
    place(&disk, &kept, name, text)?;
    Ok(true)
}

/// Puts what was kept into the trusted set, and says what was left out. Before anybody reads the set.
///
/// # Errors
/// The step that failed. Revocations may be among what is not known then, and nobody is trusted: the set has a file
/// in it that cannot be read as one of it.
pub fn remember(layout: &Layout) -> Result<Vec<String>, StoreError> {
    let (disk, set) = (Disk::default(), layout.trusted());
    let unknown = set.join(UNKNOWN);
    let done = put_kept(&disk, &layout.trusted_kept(), &set);
    match done {
        Ok(_) => disk.remove(&unknown)?,
        Err(_) => disk.write_as(&unknown, b"", 0o644)?,
    }
    done
}

fn put_kept(disk: &Disk, kept: &Path, set: &Path) -> Result<Vec<String>, StoreError> {
    let (kept, old) = (files(kept)?, files(set)?);
    let mut words = Vec::new();
    if let Some((_, list)) = kept.iter().find(|(name, _)| name == REVOKED) {
        revoke(disk, set, &old, list)?;
    }
    for (name, text) in kept.iter().filter(|(name, _)| name != REVOKED) {
        match old.iter().find(|(known, line)| known == name || key(line) == key(text)) {
            None => place(disk, set, name, text)?,
            Some((_, line)) if line == text => {}
            Some((known, _)) => {
                words.push(format!("trusted set: {known} of the image counts, not the {name} that was added"))
            }
        }
    }
    Ok(words)
}

/// Makes `set` what an edition says in `wanted`: revocations first, then what is trusted no more, then what is new.
pub(crate) fn put(disk: &Disk, wanted: &Path, set: &Path) -> Result<Vec<String>, StoreError> {
    let mut words = Vec::new();
    let (new, old) = (files(wanted)?, files(set)?);
    if let Some((_, list)) = new.iter().find(|(name, _)| name == REVOKED) {
        revoke(disk, set, &old, list)?;
    }
    let keys: Vec<(String, &String)> = new
        .iter()
        .filter(|(name, _)| name != REVOKED)
        .map(|(name, text)| (format!("{PREFIX}{name}"), text))
        .collect();
    for (name, text) in old.iter().filter(|(name, _)| name.starts_with(PREFIX)) {
        if !keys.iter().any(|(wanted, new)| wanted == name && *new == text) {
            disk.remove(&set.join(name))?;
        }
    }
    for (name, text) in keys {
        let same = |(known, line): &&(String, String)| {
            !known.starts_with(PREFIX) && known != REVOKED && key(line) == key(text)
        };
        if let Some((known, _)) = old.iter().find(same) {
            words.push(format!("the key of {name} is in {known} already, which stays as it is"));
        } else if !old.iter().any(|(known, line)| *known == name && line == text) {
            place(disk, set, &name, text)?;
        }
    }
    Ok(words)
}

/// Adds to the list of revoked keys of a set, which has the files `old`, those that are not on it.
fn revoke(disk: &Disk, set: &Path, old: &[(String, String)], list: &str) -> Result<(), StoreError> {
    let known = old.iter().find(|(name, _)| name == REVOKED).map_or("", |(_, text)| text.as_str());
    let id = |line: &str| line.split_whitespace().next().map(str::to_owned);
    let missing: Vec<&str> =
        list.lines().filter(|line| !known.lines().any(|had| id(had) == id(line))).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let gap = if known.is_empty() || known.ends_with('\n') { "" } else { "\n" };
    place(disk, set, REVOKED, &format!("{known}{gap}{}\n", missing.join("\n")))
}

/// A file in a set. Every service may read whom the machine trusts.
fn place(disk: &Disk, set: &Path, name: &str, text: &str) -> Result<(), StoreError> {
    let beside = set.with_file_name(BESIDE);
    disk.write_as(&beside, text.as_bytes(), 0o644)?;
    disk.rename(&beside, &set.join(name))
}

/// The key itself in the line of a key file.
fn key(text: &str) -> Option<&str> {
    let line = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'))?;
    line.split_whitespace().nth(1)
}

/// The files of a directory; none where it is not there. One that cannot be read is not the same as none.
fn files(dir: &Path) -> Result<Vec<(String, String)>, StoreError> {
    let fail = |path: &Path| {
        let path = path.to_owned();
        move |source| StoreError { path, source }
    };
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(fail(dir))?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(fail(dir))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name != UNKNOWN {
            files.push((name, fs::read_to_string(&path).map_err(fail(&path))?));
        }
    }
    files.sort();
    Ok(files)
}
