//! The keys of an edition in the trusted set, beside those that an operator has put there.

use crate::StoreError;
use crate::disk::Disk;
use std::fs;
use std::path::Path;

/// How the files of editions begin in the trusted set.
const PREFIX: &str = "config-";
const REVOKED: &str = "revoked";
/// Where a file is made before it is in the set: a stray one there would make all of it unreadable.
const BESIDE: &str = "trusted.new";

/// Makes `set` what an edition says in `wanted`: revocations first, then what is trusted no more, then what is new.
pub(crate) fn put(disk: &Disk, wanted: &Path, set: &Path) -> Result<Vec<String>, StoreError> {
    let mut words = Vec::new();
    let new = files(wanted);
    let old = files(set);
    let beside = set.with_file_name(BESIDE);
    let place = |name: &str, text: &str| {
        // Every service may read whom the machine trusts.
        disk.write_as(&beside, text.as_bytes(), 0o644)?;
        disk.rename(&beside, &set.join(name))
    };
    if let Some((_, list)) = new.iter().find(|(name, _)| name == REVOKED) {
        let known = old.iter().find(|(name, _)| name == REVOKED).map_or("", |(_, text)| text.as_str());
        let id = |line: &str| line.split_whitespace().next().map(str::to_owned);
        let missing: Vec<&str> =
            list.lines().filter(|line| !known.lines().any(|had| id(had) == id(line))).collect();
        if !missing.is_empty() {
            let gap = if known.is_empty() || known.ends_with('\n') { "" } else { "\n" };
            place(REVOKED, &format!("{known}{gap}{}\n", missing.join("\n")))?;
        }
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
            place(&name, text)?;
        }
    }
    Ok(words)
}

/// The key itself in the line of a key file.
fn key(text: &str) -> Option<&str> {
    let line = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'))?;
    line.split_whitespace().nth(1)
}

fn files(dir: &Path) -> Vec<(String, String)> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut files: Vec<(String, String)> = entries
        .filter_map(|entry| {
            Some((entry.file_name().into_string().ok()?, fs::read_to_string(entry.path()).ok()?))
        })
        .collect();
    files.sort();
    files
}
