//! `octant vault policy`: release keys, and the approvals by which a TPM slot opens after an update. All of it works
//! without a running Octant.

use super::VaultError;
use super::secret::Secret;
use crate::args::vault::{Approve, Policy as Command};
use crate::error::CliError;
use crate::manifest::{invalid, read, text, write_new};
use crate::out::{Out, Table};
use octant_api::vault::POLICY_REF;
use octant_ids::{Layout, Sha256};
use octant_tpm::{APPROVALS_MAX, Approval, PcrValues, PolicyRef, ReleaseError, ReleaseKey, ReleasePublicKey};
use serde::Serialize;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

const KEY: &str = "the release key";
const PUBLIC_KEY: &str = "public release key";
const LIST: &str = "list of approvals";
/// A key in PEM has about 250 bytes.
const PEM_MAX: usize = 4096;
/// More than the list of the most approvals has, and what the vault reads of it.
const LIST_MAX: usize = 256 << 10;

/// The command.
pub(super) fn run(command: &Command, layout: &Layout, out: &mut Out) -> Result<(), CliError> {
    match command {
        Command::Keygen { into } => keygen(into, out),
        Command::Approve(args) => approve(args, out),
        Command::Show { file, key } => {
            let file = file.clone().unwrap_or_else(|| layout.etc.join("vault/approvals.json"));
            show(&file, key.as_deref(), out)
        }
    }
}

#[derive(Serialize)]
struct KeyPair<'a> {
    private: &'a Path,
    public: &'a Path,
    key: ReleasePublicKey,
}

fn keygen(into: &Path, out: &mut Out) -> Result<(), CliError> {
    let (private, public) = (into.join("release.key"), into.join("release.pub"));
    let key = ReleaseKey::generate().map_err(failed)?;
    let public_text = key.public().to_pem().map_err(failed)?;
    write_new(&private, &key.to_pem().map_err(failed)?, 0o400).map_err(in_the_way)?;
    if let Err(error) = write_new(&public, &public_text, 0o644) {
        // A private key without its public half is of no use, and would stand in the way of the next try.
        fs::remove_file(&private).map_err(|source| CliError::Write { path: private, source })?;
        return Err(in_the_way(error));
    }
    if out.json {
        return out.json(&KeyPair { private: &private, public: &public, key: key.public() });
    }
    out.line(format_args!(
        "private key: {} (keep it secret, and off the machines that it is for)",
        private.display()
    ))?;
    out.line(format_args!("public key:  {}", public.display()))?;
    out.line("next: `octant vault slots add --tpm --release-key release.pub` on the machines")
}

/// What is wrong with a key that no file is to blame for.
fn failed(error: ReleaseError) -> CliError {
    let (step, source) = match error {
        ReleaseError::Randomness(source) => ("read the system's random source", source),
        other => ("use the release key", io::Error::other(other)),
    };
    CliError::System { step, source }
}

fn in_the_way(error: CliError) -> CliError {
    match error {
        CliError::Write { path, source } if source.kind() == io::ErrorKind::AlreadyExists => {
            VaultError::Exists { path }.into()
        }
        other => other,
    }
}

/// What every approval of a vault is for.
fn policy_ref() -> Result<PolicyRef, CliError> {
    PolicyRef::new(POLICY_REF).map_err(failed)
}

fn approve(args: &Approve, out: &mut Out) -> Result<(), CliError> {
    let what = "set of PCR values";
    let values = PcrValues::new(args.pcr.iter().copied())
        .map_err(|error| invalid(Path::new("--pcr"), what, &error))?;
    for (number, value) in values.iter() {
        if value == Sha256::ZERO {
            out.note(&format!(
                "WARNING: PCR {number} is zero when nothing was measured into it: every system that measures nothing \
                 is approved"
            ));
        }
    }
    let mut list = args.into.as_deref().map_or_else(|| Ok(Vec::new()), |into| approvals(into, true))?;
    let approval = private_key(&args.key)?.approve(&values, &policy_ref()?).map_err(failed)?;
    let known = list.contains(&approval);
    if !known {
        if let Some(path) = args.into.as_ref().filter(|_| list.len() >= APPROVALS_MAX) {
            return Err(VaultError::TooManyApprovals { path: path.clone(), max: APPROVALS_MAX }.into());
        }
        list.push(approval.clone());
    }
    let document = pretty(&list)?;
    let file = match (&args.output, &args.into) {
        (None, None) => return if out.json { out.json(&list) } else { out.raw(document.as_bytes()) },
        (Some(file), _) => {
            write_new(file, &document, 0o644).map_err(in_the_way)?;
            file
        }
        (None, Some(file)) => {
            if !known {
                replace(file, &document)?;
            }
            file
        }
    };
    if out.json {
        return out.json(&Approved { file, approvals: list.len(), approval: &approval });
    }
    let how = if known { "are approved already" } else { "are approved" };
    out.line(format_args!("PCRs {} {how}; {} has {} approvals", approval.pcrs, file.display(), list.len()))
}

#[derive(Serialize)]
struct Approved<'a> {
    file: &'a PathBuf,
    approvals: usize,
    approval: &'a Approval,
}

/// The private key; its text is wiped when this returns, and the key when it is dropped.
fn private_key(path: &Path) -> Result<ReleaseKey, CliError> {
    let pem = Secret::read_file(path, KEY, PEM_MAX)?;
    let pem = std::str::from_utf8(pem.bytes()).map_err(|_| ReleaseError::PrivateKey);
    pem.and_then(ReleaseKey::from_pem).map_err(|error| invalid(path, "private release key", &error))
}

/// What a file has; nothing where it is not there and `new` says that it may be made.
fn approvals(path: &Path, new: bool) -> Result<Vec<Approval>, CliError> {
    match read(path, LIST, LIST_MAX) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| invalid(path, LIST, &error)),
        Err(CliError::Read { source, .. }) if new && source.kind() == io::ErrorKind::NotFound => {
            Ok(Vec::new())
        }
        Err(error) => Err(error),
    }
}

fn pretty(list: &[Approval]) -> Result<String, CliError> {
    let text = serde_json::to_string_pretty(list).map_err(|error| CliError::Stdout(error.into()))?;
    Ok(text + "\n")
}

/// Puts a file in another one's place: the vault reads the old list or the new one, never a half.
fn replace(path: &Path, text: &str) -> Result<(), CliError> {
    let fail = |source| CliError::Write { path: path.to_owned(), source };
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let write = || {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(&new)?;
        // Also where the umask of whoever runs this is tighter: the vault's user has to read it, and it is no secret.
        file.set_permissions(Permissions::from_mode(0o644))?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(dir)?.sync_all()
    };
    write().map_err(fail)
}

#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    approval: &'a Approval,
    /// Absent when no key was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    signed: Option<bool>,
}

fn show(file: &Path, key: Option<&Path>, out: &mut Out) -> Result<(), CliError> {
    let key = key.map(public_key).transpose()?;
    let (list, policy_ref) = (approvals(file, false)?, policy_ref()?);
    let signed = |approval: &Approval| key.as_ref().map(|key| approval.is_signed_by(key, &policy_ref));
    let shown: Vec<Shown<'_>> =
        list.iter().map(|approval| Shown { approval, signed: signed(approval) }).collect();
    if out.json {
        return out.json(&shown);
    }
    let mut table = Table::new(&["PCRS", "SIGNED", "POLICY"]);
    for Shown { approval, signed } in &shown {
        let signed = match signed {
            None => "-",
            Some(true) => "yes",
            Some(false) => "NO",
        };
        table.row([approval.pcrs.to_string(), signed.to_owned(), approval.policy.to_string()]);
    }
    out.table(&table)
}

fn public_key(path: &Path) -> Result<ReleasePublicKey, CliError> {
    let pem = text(read(path, PUBLIC_KEY, PEM_MAX)?, path, PUBLIC_KEY)?;
    ReleasePublicKey::from_pem(&pem).map_err(|error| invalid(path, PUBLIC_KEY, &error))
}
