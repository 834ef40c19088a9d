//! `octant vault backup` and `restore`. The copy is sealed as the vault is: whoever has it needs a way to unseal, too.

use super::{Vault, VaultError};
use crate::args::vault::Restore;
use crate::error::CliError;
use crate::out::{Out, Ticking, printable};
use octant_api::vault::{BackupRequest, Copied, RestoreRequest};
use serde::Serialize;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

#[derive(Serialize)]
struct Document<'a> {
    file: &'a Path,
    #[serde(flatten)]
    copied: &'a Copied,
}

/// `octant vault backup`.
pub(super) fn backup(vault: &Vault<'_>, path: &Path, out: &mut Out) -> Result<(), CliError> {
    let write = |source: io::Error| CliError::Write { path: path.to_owned(), source };
    let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let file = opened.map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => VaultError::Exists { path: path.to_owned() }.into(),
        _ => write(source),
    })?;
    let progress = Ticking::new(out.json, "writing the copy".to_owned());
    let copied = vault.service.call_with(&BackupRequest {}, &[file.as_fd()]).and_then(|(copied, _)| {
        let bytes = file.metadata().map_err(write)?.len();
        if bytes != copied.bytes {
            let why = format!("it says that it wrote {} bytes, and {bytes} are there", copied.bytes);
            return Err(vault.service.odd(why));
        }
        file.sync_all().map_err(write)?;
        Ok(copied)
    });
    drop(progress);
    let copied = copied.inspect_err(|_| {
        // Half a copy looks like one. What cannot be removed is reported as what led here.
        let _gone = fs::remove_file(path);
    })?;
    sync_dir(path).map_err(write)?;
    if out.json {
        return out.json(&Document { file: path, copied: &copied });
    }
    out.line(format_args!(
        "{}: {} bytes, vault {}, epoch {}",
        path.display(),
        copied.bytes,
        printable(&copied.vault),
        copied.epoch
    ))?;
    out.line("it is sealed: keep what unseals it elsewhere, and not beside it")
}

fn sync_dir(path: &Path) -> io::Result<()> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(dir)?.sync_all()
}

/// `octant vault restore`.
pub(super) fn restore(vault: &Vault<'_>, args: &Restore, out: &mut Out) -> Result<(), CliError> {
    let path = &args.file;
    let read = |source| CliError::Read { path: path.clone(), source };
    let file = File::open(path).map_err(read)?;
    if !file.metadata().map_err(read)?.is_file() {
        let why = "it is no regular file".to_owned();
        return Err(CliError::Invalid { path: path.clone(), kind: "copy of a vault", why });
    }
    let question = "Replace the vault by this copy? What changed since then is not in it.";
    vault.confirm(args.yes, "the replacement of the vault", question, out)?;
    let progress = Ticking::new(out.json, "restoring the copy".to_owned());
    let request = RestoreRequest { reason: args.reason.clone() };
    let (copied, _) = vault.service.call_with(&request, &[file.as_fd()])?;
    drop(progress);
    if out.json {
        return out.json(&Document { file: path, copied: &copied });
    }
    let Copied { vault: id, epoch, bytes } = &copied;
    out.line(format_args!("vault {}, epoch {epoch}, {bytes} bytes, is in place and sealed", printable(id)))?;
    out.line(
        "next: `octant vault unseal --accept-rollback REASON`; on another machine than the one that it was made on, \
         with --accept-machine REASON too",
    )
}
