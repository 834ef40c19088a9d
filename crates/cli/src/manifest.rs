//! `octant manifest`: all of it works without a running Octant.

mod check;
mod compare;
mod learn;
mod new;

use crate::args::Manifest as Command;
use crate::error::CliError;
use crate::out::{Out, utc};
use octant_ids::{Layout, Sha256};
use octant_manifest::{
    Audience, Budget, Draft, Envelope, Manifest, NO_END, NameSet, Retention, SigningKey, Traffic,
    TrustedKeys, digest, json_schema, limits, lines, sign,
};
use octant_sys::clock;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// A private key file is one short line.
const KEY_FILE_MAX: usize = 4096;

/// The command.
pub(crate) fn run(command: &Command, layout: &Layout, out: &mut Out) -> Result<(), CliError> {
    match command {
        Command::New(asked) => new::run(asked, out),
        Command::Check { file } => check::check(file, out),
        Command::Explain { file } => check::explain(file, out),
        Command::Diff { first, second } => compare::diff(first, second, out),
        Command::Intersect { parent, child } => compare::intersect(parent, child, out),
        Command::Learn(asked) => learn::run(asked, out),
        Command::Schema => out.json(&json_schema()),
        Command::Sign { file, key, output } => sign_file(file, key, output.as_deref(), out),
        Command::Verify { file, trusted, machine } => {
            let trusted = trusted.clone().unwrap_or_else(|| layout.trusted());
            let machine = machine.clone().map_or_else(|| machine_id(&layout.etc.join("machine-id")), Ok)?;
            verify(file, &trusted, &machine, out)
        }
        Command::Keygen { name, role, until, into } => keygen(name, role, until.as_deref(), into, out),
    }
}

/// A manifest, signed or not, as it stands in a file. Nobody vouches for it.
pub(crate) struct Loaded {
    pub(crate) draft: Draft,
    pub(crate) lines: BTreeMap<String, usize>,
    /// The SHA-256 of the manifest's bytes.
    pub(crate) digest: Sha256,
}

/// The bytes of a manifest: the file's own, or those within a signed one.
fn take(file: &Path) -> Result<Vec<u8>, CliError> {
    let bytes = read(file, "manifest", limits::ENVELOPE_BYTES)?;
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        return Ok(bytes);
    }
    let envelope = Envelope::parse(&bytes).map_err(|e| invalid(file, "signed manifest", &e))?;
    Ok(envelope.payload().to_vec())
}

pub(crate) fn load(file: &Path) -> Result<Loaded, CliError> {
    let bytes = take(file)?;
    Ok(Loaded { draft: draft(&bytes, file)?, lines: lines(&bytes), digest: digest(&bytes) })
}

fn sign_file(file: &Path, key: &Path, output: Option<&Path>, out: &mut Out) -> Result<(), CliError> {
    let bytes = read(file, "manifest", limits::MANIFEST_BYTES)?;
    draft(&bytes, file)?;
    let signing = signing_key(key)?;
    let envelope = sign(&bytes, &[&signing]);
    let Some(output) = output else { return out.raw(&envelope) };
    write_over(output, &envelope)?;
    let id = signing.id().to_string();
    if out.json {
        return out.json(&Signed { file: output, key: &id });
    }
    out.line(format_args!("{} is signed with key {}", output.display(), &id[..16]))
}

/// An operator's private key.
pub(crate) fn signing_key(file: &Path) -> Result<SigningKey, CliError> {
    let text = text(read(file, "private key", KEY_FILE_MAX)?, file, "private key")?;
    SigningKey::from_private_file(&text).map_err(|e| invalid(file, "private key", &e))
}

/// A reader sees the old file or the new one, never a half: the new one is renamed into place.
pub(crate) fn write_over(path: &Path, bytes: &[u8]) -> Result<(), CliError> {
    let write = |source| CliError::Write { path: path.to_owned(), source };
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    fs::write(&new, bytes).and_then(|()| fs::rename(&new, path)).map_err(write)
}

#[derive(Serialize)]
struct Signed<'a> {
    file: &'a Path,
    key: &'a str,
}

#[derive(Serialize)]
struct Verified<'a> {
    operator: &'a str,
    role: &'a str,
    key: String,
    digest: String,
    manifest: &'a Manifest,
}

/// This machine's identifier in manifests' audiences, as the service that spawns agents finds it: without the
/// file, only manifests for every machine are for this one.
fn machine_id(file: &Path) -> Result<String, CliError> {
    match fs::read_to_string(file) {
        Ok(text) => Ok(text.trim().to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(source) => Err(CliError::Read { path: file.to_owned(), source }),
    }
}

fn verify(file: &Path, trusted: &Path, machine: &str, out: &mut Out) -> Result<(), CliError> {
    let keys = trusted_keys(trusted)?;
    let bytes = read(file, "signed manifest", limits::ENVELOPE_BYTES)?;
    let envelope = Envelope::parse(&bytes).map_err(|e| invalid(file, "signed manifest", &e))?;
    let audience = Audience { machine, now_ms: clock::wall_ms() };
    let authentic = envelope.verify(&keys, &audience).map_err(|error| CliError::Unverified {
        what: file.display().to_string(),
        why: error.to_string(),
        next: format!("the trusted keys are in {}", trusted.display()),
    })?;
    let declared = authentic.declare().map_err(|e| invalid(file, "signed manifest", &e))?;
    let signer = declared.signer();
    if out.json {
        let (key, digest) = (signer.key.to_string(), declared.digest().to_string());
        let (operator, role) = (&signer.operator, &signer.role);
        return out.json(&Verified { operator, role, key, digest, manifest: declared.manifest() });
    }
    out.line(format_args!(
        "{} is signed by {} ({}); it asks for:",
        file.display(),
        signer.operator,
        signer.role
    ))?;
    summary(declared.manifest(), out)
}

/// The trusted set of a directory, as the service that spawns agents reads it.
fn trusted_keys(dir: &Path) -> Result<TrustedKeys, CliError> {
    TrustedKeys::from_files(&trusted_files(dir)?).map_err(|e| invalid(dir, "set of trusted keys", &e))
}

/// Its files, by name.
pub(crate) fn trusted_files(dir: &Path) -> Result<Vec<(String, String)>, CliError> {
    let fail = |source| CliError::Read { path: dir.to_owned(), source };
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let bytes = read(&path, "public key", limits::KEY_FILE_BYTES)?;
        files.push((name, text(bytes, &path, "public key")?));
    }
    files.sort();
    Ok(files)
}

#[derive(Serialize)]
struct KeyPair<'a> {
    private: &'a Path,
    public: &'a Path,
    key: &'a str,
}

/// A public key line with the end of the key; the line as it is without one.
pub(crate) fn ending(line: String, until: Option<&str>) -> String {
    match until {
        Some(date) => format!("{} until={date}\n", line.trim_end()),
        None => line,
    }
}

fn keygen(name: &str, role: &str, until: Option<&str>, into: &Path, out: &mut Out) -> Result<(), CliError> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|e| CliError::System {
        step: "read the system's random source",
        source: io::Error::other(e),
    })?;
    let key = SigningKey::from_seed(seed);
    let public_text = ending(key.public_file(name, role), until);
    // What the trusted set would not take is not written in the first place.
    let file = format!("{name}.pub");
    TrustedKeys::from_files(&[(file.clone(), public_text.clone())])
        .map_err(|e| invalid(Path::new(&file), "public key", &e))?;
    let (private, public) = (into.join(format!("{name}.key")), into.join(file));
    write_new(&private, &key.private_file(), 0o600)?;
    if let Err(error) = write_new(&public, &public_text, 0o644) {
        // A private key without its public half is of no use, and would stand in the way of the next try.
        fs::remove_file(&private).map_err(|source| CliError::Write { path: private, source })?;
        return Err(error);
    }
    let id = key.id().to_string();
    if out.json {
        return out.json(&KeyPair { private: &private, public: &public, key: &id });
    }
    out.line(format_args!("private key: {} (keep it secret; it signs manifests)", private.display()))?;
    out.line(format_args!("public key:  {}", public.display()))?;
    out.line("next: octant trust add, with the public key, on the machines that shall trust it")
}

/// Writes a file that must not be there yet.
pub(crate) fn write_new(path: &Path, text: &str, mode: u32) -> Result<(), CliError> {
    let write = |source| CliError::Write { path: path.to_owned(), source };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(write)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(write)
}

fn draft(bytes: &[u8], file: &Path) -> Result<Draft, CliError> {
    Draft::parse(bytes).map_err(|error| invalid(file, "manifest", &error))
}

pub(crate) fn invalid(path: &Path, kind: &'static str, why: &impl Display) -> CliError {
    CliError::Invalid { path: path.to_owned(), kind, why: why.to_string() }
}

/// A whole file of at most `limit` bytes.
pub(crate) fn read(path: &Path, kind: &'static str, limit: usize) -> Result<Vec<u8>, CliError> {
    let fail = |source| CliError::Read { path: path.to_owned(), source };
    let limit = u64::try_from(limit).unwrap_or(u64::MAX);
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(limit.saturating_add(1)).read_to_end(&mut bytes));
    if u64::try_from(read.map_err(fail)?).is_ok_and(|read| read > limit) {
        return Err(CliError::TooLarge { path: path.to_owned(), kind, limit });
    }
    Ok(bytes)
}

/// The same as text.
pub(crate) fn text(bytes: Vec<u8>, path: &Path, kind: &'static str) -> Result<String, CliError> {
    String::from_utf8(bytes).map_err(|error| invalid(path, kind, &error))
}

/// What a manifest asks for, a line a thing, in the manifest's own words.
fn summary(manifest: &Manifest, out: &mut Out) -> Result<(), CliError> {
    let (identity, program, asked) = (manifest.identity(), manifest.program(), manifest.asked());
    let (validity, limits) = (manifest.validity(), asked.resources());
    let family = match asked.generations() {
        0 => "nobody".to_owned(),
        deep => format!("{} descendants in {deep} generations", manifest.descendants()),
    };
    let rows = [
        ("agent", format!("{}, role {}, operator {}", identity.name, identity.role, identity.operator)),
        ("program", format!("{} {}", program.executable, program.args.join(" "))),
        ("in", program.cwd.to_string()),
        ("read", listed(asked.read_only())),
        ("write", listed(asked.write().iter())),
        ("execute", listed(asked.execute().iter())),
        ("utilities", names(asked.utilities())),
        ("syscalls", format!("profile {}, and {}", asked.profile().name(), names(asked.syscalls()))),
        ("network", listed(asked.hosts().iter())),
        ("lendable", listed(asked.leases().iter())),
        ("traffic", traffic(asked.traffic())),
        ("in all", budgets(manifest.budget())),
        ("secrets", listed(asked.credentials().iter())),
        ("models", listed(asked.models().allowed.iter())),
        ("skills", listed(asked.skills().iter())),
        ("tools", listed(asked.tools().iter())),
        ("memory", format!("{}, slowed from {}", limits.memory_max, limits.memory_high)),
        ("processes", limits.pids_max.to_string()),
        ("cpu", format!("{} % of one processor, weight {}", limits.cpu_quota_percent, limits.cpu_weight)),
        ("disks", limits.io.summary()),
        ("workspace", format!("{}, {} files", limits.workspace_bytes, limits.workspace_inodes)),
        ("kept", kept(asked.retain())),
        ("tmp", limits.tmp_bytes.to_string()),
        ("lifetime", asked.ttl().map_or("without limit".to_owned(), |t| format!("{} s", t.0 / 1000))),
        ("orphaned", asked.on_parent_death().name().to_owned()),
        ("spawns", family),
        ("rooms", names(asked.rooms())),
        ("asks for", listed(asked.approvals().iter())),
        ("valid", format!("until {}, {} times", utc(validity.not_after_ms), validity.max_spawns)),
        ("machines", validity.machines.join(" ")),
    ];
    rows.iter().try_for_each(|(name, value)| out.wrapped(name, value))
}

/// What is used up over its life, where that has an end.
fn budgets(budget: &Budget) -> String {
    let finite = budget.rows().into_iter().filter(|(_, units, _)| (1..NO_END).contains(units));
    let said: Vec<String> = finite.map(|(field, _, text)| format!("{field} {text}")).collect();
    if said.is_empty() { "as much as it likes".to_owned() } else { said.join(", ") }
}

/// How much may go through the gate at once.
fn traffic(traffic: Traffic) -> String {
    let rate =
        traffic.bytes_per_second.map_or("as fast as it goes".to_owned(), |rate| format!("{rate} a second"));
    format!("{} connections at once, {rate}", traffic.connections)
}

/// What of the workspace outlives the agent.
fn kept(retain: &Retention) -> String {
    match retain.places.is_empty() {
        true => "nothing".to_owned(),
        false => format!("{}, {} in {} files", listed(retain.places.iter()), retain.bytes, retain.files),
    }
}

fn names(set: &NameSet) -> String {
    match set {
        NameSet::All => "all".to_owned(),
        NameSet::Only(_) => listed(set.iter()),
    }
}

fn listed(items: impl Iterator<Item = impl Display>) -> String {
    let items: Vec<String> = items.map(|item| item.to_string()).collect();
    if items.is_empty() { "nothing".to_owned() } else { items.join(" ") }
}
