//! `octant trust`: the operators' keys that this machine trusts. Files alone; nothing has to run. Where `agents` runs, a
//! change is followed and on record when the command is done.

use crate::args::Trust as Command;
use crate::error::CliError;
use crate::manifest::{ending, invalid, read, text, trusted_files};
use crate::out::{Out, Table, utc};
use crate::service::Service;
use octant_api::agents::{TrustList, TrustRequest};
use octant_ids::{Exit, Layout};
use octant_manifest::{KeyInfo, TrustedKeys, limits};
use octant_sys::clock;
use serde::Serialize;
use std::fs;
use std::path::{Path, PathBuf};

const REVOKED: &str = "revoked";

/// The command.
pub(crate) fn run(command: &Command, layout: &Layout, out: &mut Out) -> Result<(), CliError> {
    let dir = layout.trusted();
    match command {
        Command::List => list(&dir, layout, out),
        Command::Add { file, until } => {
            add(layout, file, until.as_deref(), out)?;
            tell(layout, out)
        }
        Command::Revoke { key, reason } => {
            revoke(layout, key, reason, out)?;
            tell(layout, out)
        }
    }
}

/// What `agents` has on record of the set, as it is now; nothing where it does not run.
fn recorded(layout: &Layout) -> Result<Option<TrustList>, CliError> {
    match Service::of(layout, "agents").call(&TrustRequest {}) {
        Ok(list) => Ok(Some(list)),
        Err(CliError::Connect { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

fn tell(layout: &Layout, out: &mut Out) -> Result<(), CliError> {
    match recorded(layout)? {
        Some(_) => out.line("on record in the ledger"),
        None => out.line("agents does not run: it follows and records that before it does anything else"),
    }
}

#[derive(Serialize)]
struct Listed {
    #[serde(flatten)]
    key: KeyInfo,
    /// Since when it is so on record, in milliseconds since 1970; nothing where nobody could be asked.
    since_ms: Option<u64>,
}

fn keys(dir: &Path, files: &[(String, String)]) -> Result<TrustedKeys, CliError> {
    TrustedKeys::from_files(files).map_err(|e| invalid(dir, "set of trusted keys", &e))
}

/// The files of the set; none when there is no directory yet.
fn files(dir: &Path) -> Result<Vec<(String, String)>, CliError> {
    if dir.exists() { trusted_files(dir) } else { Ok(Vec::new()) }
}

fn list(dir: &Path, layout: &Layout, out: &mut Out) -> Result<(), CliError> {
    let recorded = recorded(layout)?.unwrap_or_default().keys;
    let since = |key: &KeyInfo| recorded.iter().find(|row| row.key == key.key.0).map(|row| row.since_ms);
    let keys = keys(dir, &files(dir)?)?;
    let found: Vec<Listed> = keys.iter().map(|key| Listed { since_ms: since(&key), key }).collect();
    if out.json {
        return out.json(&found);
    }
    let now = clock::wall_ms();
    let mut table = Table::new(&["KEY", "OPERATOR", "ROLE", "SINCE", "COUNTS"]);
    for Listed { key, since_ms } in &found {
        let since = since_ms.map_or_else(|| "-".to_owned(), utc);
        let counts = match (&key.revoked, key.until_ms) {
            (Some(reason), _) => format!("no, revoked: {}", crate::out::printable(reason)),
            (None, Some(until)) if now >= until => format!("no, since {}", utc(until)),
            (None, Some(until)) => format!("until {}", utc(until)),
            (None, None) => "yes".to_owned(),
        };
        let id = key.key.to_string()[..16].to_owned();
        table.row([id, key.operator.clone(), key.role.clone(), since, counts]);
    }
    out.table(&table)
}

/// Takes a public key into the set, as a file of its own name. The set with it must be one that is read.
fn add(layout: &Layout, file: &Path, until: Option<&str>, out: &mut Out) -> Result<(), CliError> {
    let dir = &layout.trusted();
    let kind = "public key";
    let line = text(read(file, kind, limits::KEY_FILE_BYTES)?, file, kind)?;
    let line = ending(line, until);
    let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut set = files(dir)?;
    if set.iter().any(|(known, _)| *known == name) {
        return Err(CliError::Exists { path: dir.join(name) });
    }
    set.push((name.clone(), line.clone()));
    keys(dir, &set)?;
    fs::create_dir_all(dir).map_err(|source| CliError::Write { path: dir.to_owned(), source })?;
    let path = dir.join(&name);
    replace(&path, &line)?;
    if let Err(error) = keep(layout, &name, &line, out) {
        // Trusted until the next boot alone is not what was asked for.
        fs::remove_file(&path).map_err(|source| CliError::Write { path, source })?;
        return Err(error);
    }
    out.line(format_args!("{} is trusted from the next spawn on", path.display()))
}

/// Puts a key on the list of revoked ones. It is named whole or by the beginning of its identifier.
fn revoke(layout: &Layout, key: &str, reason: &str, out: &mut Out) -> Result<(), CliError> {
    let dir = &layout.trusted();
    let set = files(dir)?;
    let known = keys(dir, &set)?;
    let found: Vec<KeyInfo> = known.iter().filter(|k| k.key.to_string().starts_with(key)).collect();
    let id = match &found[..] {
        [one] => one.key.to_string(),
        // A key that is not in the set can be revoked too, so that it is never trusted.
        [] if key.len() == 64 => key.to_owned(),
        [] => return Err(CliError::NotFound(format!("trusted key {key}"))),
        many => {
            let next =
                Some("give more of the identifier; octant --json trust list shows it whole".to_owned());
            let why = format!("{} keys begin so", many.len());
            return Err(CliError::Refused { what: key.to_owned(), why, exit: Exit::Usage, next });
        }
    };
    let reason: String = reason.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let list = set.iter().find(|(name, _)| name == REVOKED).map_or("", |(_, text)| text.as_str());
    let gap = if list.is_empty() || list.ends_with('\n') { "" } else { "\n" };
    let list = format!("{list}{gap}{id} {reason}\n");
    let mut with: Vec<(String, String)> = set.iter().filter(|(name, _)| name != REVOKED).cloned().collect();
    with.push((REVOKED.to_owned(), list.clone()));
    keys(dir, &with)?;
    fs::create_dir_all(dir).map_err(|source| CliError::Write { path: dir.to_owned(), source })?;
    replace(&dir.join(REVOKED), &list)?;
    out.line(format_args!(
        "key {} is revoked; what it signed is void, and agents that run under it are frozen",
        &id[..16]
    ))?;
    keep(layout, REVOKED, &list, out)
}

/// Keeps a file of the set for the next boot, where the set does not last as long.
fn keep(layout: &Layout, name: &str, text: &str, out: &mut Out) -> Result<(), CliError> {
    match octant_editions::keep(layout, name, text) {
        Ok(true) => out.line(format_args!(
            "kept for the next boots in {}, since {} is not on a disk",
            layout.trusted_kept().display(),
            layout.trusted().display()
        )),
        Ok(false) => Ok(()),
        Err(error) => Err(CliError::Write { path: error.path, source: error.source }),
    }
}

/// A reader sees the old file or the new one, never a half. The new one is made outside the set, where a stray file
/// would make all of it unreadable.
fn replace(path: &Path, text: &str) -> Result<(), CliError> {
    let write = |path: &Path| {
        let path = path.to_owned();
        move |source| CliError::Write { path, source }
    };
    let dir = path.parent().unwrap_or(Path::new("/"));
    let new: PathBuf = dir.with_extension("new");
    fs::write(&new, text).map_err(write(&new))?;
    fs::rename(&new, path).map_err(write(path))
}
