//! `octant vault import`: every entry of a file becomes a secret, or it is said why not. A value is never shown.

use super::entry::{Entry, FILE_MAX, parse};
use super::secret::{Secret, pipe_of};
use super::shred::shred;
use super::store::{VALUE, all};
use super::{Vault, VaultError};
use crate::args::vault::Import;
use crate::error::CliError;
use crate::manifest::invalid;
use crate::out::{Out, Table};
use octant_api::error::Code;
use octant_api::vault::{Kind, PutRequest, RotateRequest, VALUE_MAX};
use octant_ids::SecretName;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;

const WHAT: &str = "the file of secrets";
const DOLLAR: &str = "it has a $, which is taken as it is: nothing is substituted";

/// What became of one entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Fate {
    Stored,
    Rotated,
    /// It is there already, and was not to be rotated.
    Exists,
    /// The key is no name of a secret. It is not shown: it may be a piece of a value.
    NoName,
    /// There is no value.
    Empty,
    /// The value is longer than the vault's.
    TooLong,
    /// The vault did not take it.
    Refused,
}

impl Fate {
    fn taken(self) -> bool {
        matches!(self, Self::Stored | Self::Rotated)
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Rotated => "rotated",
            Self::Exists => "EXISTS",
            Self::NoName => "NO NAME",
            Self::Empty => "EMPTY",
            Self::TooLong => "TOO LONG",
            Self::Refused => "REFUSED",
        }
    }
}

#[derive(Debug, Serialize)]
struct Row {
    line: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<SecretName>,
    result: Fate,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u64>,
    #[serde(skip_serializing_if = "String::is_empty")]
    why: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    dollar: bool,
}

#[derive(Serialize)]
struct Document<'a> {
    file: &'a Path,
    count: usize,
    stored: usize,
    shredded: bool,
    entries: &'a [Row],
}

/// The command.
pub(super) fn import(vault: &Vault<'_>, args: &Import, out: &mut Out) -> Result<(), CliError> {
    let path = &args.file;
    let file = File::open(path).map_err(|source| CliError::Read { path: path.clone(), source })?;
    let text = Secret::read(file.as_fd(), FILE_MAX).map_err(|e| e.of(WHAT, path.display().to_string()))?;
    let entries = parse(text.bytes()).map_err(|wrong| invalid(path, "file of secrets", &wrong))?;
    if entries.is_empty() {
        return Err(invalid(path, "file of secrets", &"there are no entries in it"));
    }
    let there = all(vault, &args.prefix)?.into_iter().map(|secret| secret.name).collect();
    let (mut rows, mut broken) = (Vec::new(), None);
    for entry in &entries {
        match store(vault, args, entry, &there) {
            Ok(row) => rows.push(row),
            Err(error) => {
                broken = Some(error);
                break;
            }
        }
    }
    let (count, stored) = (entries.len(), rows.iter().filter(|row| row.result.taken()).count());
    if !out.json {
        print(&rows, out)?;
        out.line(format_args!("{stored} of {count} entries are stored"))?;
    }
    // Wiped before anybody is asked anything.
    drop(entries);
    drop(text);
    let whole = broken.is_none() && stored == count;
    let shredded = whole && to_be_shredded(vault, args, out)?;
    if shredded {
        shred(path, &file)?;
    }
    if out.json {
        out.json(&Document { file: path, count, stored, shredded, entries: &rows })?;
    } else if shredded {
        out.line(format_args!("{} is overwritten and removed", path.display()))?;
        out.note("a disk that copies on write, and flash, may still have the old blocks of it");
    }
    match broken {
        Some(error) => Err(error),
        None if whole => Ok(()),
        None => Err(VaultError::NotAllStored { path: path.clone(), left: count - stored, count }.into()),
    }
}

fn print(rows: &[Row], out: &mut Out) -> Result<(), CliError> {
    let mut table = Table::new(&["LINE", "RESULT", "NAME"]);
    for row in rows {
        let name = row.name.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string);
        table.row([row.line.to_string(), row.result.as_str().to_owned(), name]);
    }
    out.table(&table)?;
    for row in rows {
        let line = format!("line {}: ", row.line);
        if !row.why.is_empty() {
            out.paragraph(&line, &row.why)?;
        }
        if row.dollar {
            out.paragraph(&line, DOLLAR)?;
        }
    }
    Ok(())
}

fn to_be_shredded(vault: &Vault<'_>, args: &Import, out: &mut Out) -> Result<bool, CliError> {
    if args.shred || args.keep || out.json {
        return Ok(args.shred);
    }
    let path = args.file.display();
    if vault.input.is_terminal() {
        return Ok(vault
            .input
            .agrees(&format!("Everything is stored. Overwrite and remove {path}?"), out)?);
    }
    out.note(&format!("{path} still has every value: --shred overwrites and removes it"));
    Ok(false)
}

/// One entry. An error is about the vault, not about the entry: others would fare no better.
fn store(
    vault: &Vault<'_>,
    args: &Import,
    entry: &Entry<'_>,
    there: &BTreeSet<SecretName>,
) -> Result<Row, CliError> {
    let key = std::str::from_utf8(&entry.key).unwrap_or_default();
    let name: Option<SecretName> = format!("{}{key}", args.prefix).parse().ok().filter(|_| !key.is_empty());
    let (value, mut version) = (entry.value.bytes(), None);
    let (result, why) = match &name {
        None => (Fate::NoName, "its key is not a secret's name".to_owned()),
        Some(_) if value.is_empty() => (Fate::Empty, "it has no value".to_owned()),
        Some(_) if value.len() > VALUE_MAX => {
            (Fate::TooLong, format!("its value has more than {VALUE_MAX} bytes"))
        }
        Some(name) if there.contains(name) && !args.rotate => {
            (Fate::Exists, "it is there already; --rotate gives it a new version".to_owned())
        }
        Some(name) => match send(vault, name, value, there.contains(name)) {
            Ok(made) => {
                version = Some(made);
                (if there.contains(name) { Fate::Rotated } else { Fate::Stored }, String::new())
            }
            Err(CliError::Api(error)) if about_this_one(error.code) => (Fate::Refused, error.message),
            Err(error) => return Err(error),
        },
    };
    let dollar = entry.dollar && result.taken();
    Ok(Row { line: entry.line, name, result, version, why, dollar })
}

fn about_this_one(code: Code) -> bool {
    matches!(code, Code::Conflict | Code::InvalidParams | Code::TooLong | Code::NotFound | Code::Failed)
}

fn send(vault: &Vault<'_>, name: &SecretName, value: &[u8], there: bool) -> Result<u64, CliError> {
    let pipe = pipe_of(value, VALUE)?;
    let fds = [pipe.as_fd()];
    let name = name.clone();
    let changed = if there {
        vault.service.call_with(&RotateRequest { name, not_after_ms: None, generate: false }, &fds)?.0
    } else {
        let request = PutRequest {
            name,
            kind: Kind::Opaque,
            about: String::new(),
            username: String::new(),
            url: String::new(),
            labels: BTreeMap::new(),
            not_after_ms: None,
            generate: false,
        };
        vault.service.call_with(&request, &fds)?.0
    };
    Ok(changed.version)
}
