//! Secrets, without their values: `put`, `rotate`, `rollback`, `destroy`, `rm`, `list`, `show`.

use super::secret::Secret;
use super::{STANDARD_INPUT, Vault, VaultError, borrowed};
use crate::args::vault::{Put, Rotate, Value, Version};
use crate::error::CliError;
use crate::out::{Out, Table, printable, span, utc};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use octant_api::vault::{
    Changed, DestroyRequest, Details, GrantInfo, Kind, ListRequest, PutRequest, RemoveRequest,
    RollbackRequest, RotateRequest, SecretInfo, ShowRequest, VALUE_MAX, VersionInfo, VersionState,
};
use octant_ids::{SecretName, Sha256};
use octant_ssh::ed25519_key;
use octant_sys::clock;
use serde::Serialize;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

pub(super) const VALUE: &str = "the value";

/// `octant vault put`.
pub(super) fn put(vault: &Vault<'_>, args: &Put, out: &mut Out) -> Result<(), CliError> {
    let kind = Kind::from(args.kind);
    let request = PutRequest {
        name: args.name.clone(),
        kind,
        about: args.about.clone(),
        username: args.username.clone(),
        url: args.url.clone(),
        labels: args.label.iter().cloned().collect::<BTreeMap<_, _>>(),
        not_after_ms: args.value.expires.map(|when| when.wall_ms()),
        generate: args.value.generate,
    };
    let fds = value(vault, &args.value, kind != Kind::KeyPair, out)?;
    let (changed, _) = vault.service.call_with(&request, &borrowed(fds.as_slice()))?;
    print(&changed, &format!("{} is stored, version {}", args.name, changed.version), out)
}

/// `octant vault rotate`.
pub(super) fn rotate(vault: &Vault<'_>, args: &Rotate, out: &mut Out) -> Result<(), CliError> {
    let request = RotateRequest {
        name: args.name.clone(),
        not_after_ms: args.value.expires.map(|when| when.wall_ms()),
        generate: args.value.generate,
    };
    let fds = value(vault, &args.value, true, out)?;
    let (changed, _) = vault.service.call_with(&request, &borrowed(fds.as_slice()))?;
    print(&changed, &format!("{} has version {} now", args.name, changed.version), out)
}

/// The value, in a pipe; none when the vault makes it.
fn value(vault: &Vault<'_>, args: &Value, text: bool, out: &mut Out) -> Result<Option<OwnedFd>, CliError> {
    if args.generate {
        return Ok(None);
    }
    let (value, from) = match args.from.as_deref().filter(|path| *path != STANDARD_INPUT) {
        Some(path) => (Secret::read_file(path, VALUE, VALUE_MAX)?, path.display().to_string()),
        None if vault.input.is_terminal() => {
            let [value] = vault.input.ask_hidden(["value"], VALUE, VALUE_MAX, out)?;
            (value, "the terminal".to_owned())
        }
        None => (vault.input.whole(VALUE, VALUE_MAX)?, "standard input".to_owned()),
    };
    if value.bytes().is_empty() {
        return Err(VaultError::Empty { what: VALUE, from }.into());
    }
    if text && value.bytes().last() == Some(&b'\n') {
        out.note(&format!("the value from {from} ends with a newline, which is part of it"));
    }
    Ok(Some(value.pipe(VALUE)?))
}

fn print(changed: &Changed, text: &str, out: &mut Out) -> Result<(), CliError> {
    if out.json { out.json(changed) } else { out.line(text) }
}

/// `octant vault rollback`.
pub(super) fn rollback(vault: &Vault<'_>, which: &Version, out: &mut Out) -> Result<(), CliError> {
    let Version { name, version } = which;
    let changed = vault.service.call(&RollbackRequest { name: name.clone(), version: *version })?;
    print(&changed, &format!("{name} is at version {version} again"), out)
}

/// `octant vault destroy`.
pub(super) fn destroy(vault: &Vault<'_>, which: &Version, out: &mut Out) -> Result<(), CliError> {
    let Version { name, version } = which;
    let changed = vault.service.call(&DestroyRequest { name: name.clone(), version: *version })?;
    print(&changed, &format!("the value of version {version} of {name} is destroyed"), out)
}

/// `octant vault rm`.
pub(super) fn remove(vault: &Vault<'_>, name: &SecretName, yes: bool, out: &mut Out) -> Result<(), CliError> {
    let question = format!("Remove {name} with all its versions, grants and leases?");
    vault.confirm(yes, &format!("the removal of {name}"), &question, out)?;
    let changed = vault.service.call(&RemoveRequest { name: name.clone() })?;
    print(&changed, &format!("{name} is removed"), out)
}

#[derive(Serialize)]
struct Listed {
    secrets: Vec<SecretInfo>,
}

/// Every secret whose name begins so, page after page.
pub(super) fn all(vault: &Vault<'_>, prefix: &str) -> Result<Vec<SecretInfo>, CliError> {
    let mut request = ListRequest { prefix: prefix.to_owned(), ..ListRequest::default() };
    let mut secrets = Vec::new();
    loop {
        let page = vault.service.call(&request)?;
        secrets.extend(page.secrets);
        match (page.next, &request.after) {
            (None, _) => return Ok(secrets),
            // Pages that lead backwards would never end.
            (Some(next), Some(after)) if next <= *after => {
                return Err(vault.service.odd(format!("the page after {after} leads back to {next}")));
            }
            (next, _) => request.after = next,
        }
    }
}

/// `octant vault list`.
pub(super) fn list(vault: &Vault<'_>, prefix: &str, out: &mut Out) -> Result<(), CliError> {
    let secrets = all(vault, prefix)?;
    if out.json {
        return out.json(&Listed { secrets });
    }
    let now = clock::wall_ms();
    let mut table = Table::new(&["NAME", "KIND", "VERSION", "ENDS", "ABOUT"]);
    for secret in &secrets {
        let current = secret.versions.iter().find(|version| version.version == secret.current);
        table.row([
            secret.name.to_string(),
            secret.kind.as_str().to_owned(),
            secret.current.to_string(),
            ends(current.and_then(|version| version.not_after_ms), now),
            secret.about.clone(),
        ]);
    }
    out.table(&table)
}

/// The day on which something ends.
fn ends(at_ms: Option<u64>, now_ms: u64) -> String {
    match at_ms {
        None => "-".to_owned(),
        Some(at) if at <= now_ms => "EXPIRED".to_owned(),
        Some(at) => utc(at).chars().take(10).collect(),
    }
}

/// `octant vault show`.
pub(super) fn show(vault: &Vault<'_>, name: &SecretName, out: &mut Out) -> Result<(), CliError> {
    let details = vault.service.call(&ShowRequest { name: name.clone() })?;
    if out.json {
        return out.json(&details);
    }
    let Details { secret, grants, leases } = &details;
    out.wrapped("name", secret.name.as_str())?;
    out.wrapped("kind", secret.kind.as_str())?;
    for (name, text) in [("about", &secret.about), ("username", &secret.username), ("url", &secret.url)] {
        if !text.is_empty() {
            out.wrapped(name, text)?;
        }
    }
    for (name, text) in &secret.labels {
        out.wrapped("label", &format!("{name}={text}"))?;
    }
    let now = clock::wall_ms();
    for info in &secret.versions {
        let mark = if info.version == secret.current { "*" } else { "" };
        out.wrapped(&format!("version {}{mark}", info.version), &version(info, now))?;
    }
    for info in grants {
        out.wrapped(&format!("grant {}", info.id), &grant(info))?;
    }
    out.wrapped("leases", &leases.to_string())
}

/// `octant vault show --ssh`
pub(super) fn show_ssh(vault: &Vault<'_>, name: &SecretName, out: &mut Out) -> Result<(), CliError> {
    if out.json {
        let next = "leave --ssh out: the document has the public key in hexadecimal";
        return Err(VaultError::NotInJson { what: "a line of authorized_keys", next }.into());
    }
    let Details { secret, .. } = vault.service.call(&ShowRequest { name: name.clone() })?;
    let current = secret.versions.iter().find(|version| version.version == secret.current);
    let key = current.and_then(|version| version.public_key.as_ref()?.parse::<Sha256>().ok());
    let key = key.ok_or_else(|| VaultError::NoPublicKey { name: name.clone() })?;
    out.line(format_args!("ssh-ed25519 {} {name}", STANDARD.encode(ed25519_key(&key.0))))
}

fn version(info: &VersionInfo, now_ms: u64) -> String {
    let state = match info.state {
        VersionState::Active => "active",
        VersionState::Deprecated => "deprecated",
        VersionState::Destroyed => "destroyed",
    };
    let mut text = format!("{state}, stored {}", utc(info.created_ms));
    if let Some(at) = info.not_after_ms {
        text += &format!(", {} {}", if at <= now_ms { "EXPIRED" } else { "until" }, utc(at));
    }
    if let Some(key) = &info.public_key {
        text += &format!(", public key {key}");
    }
    text
}

/// A grant on one line.
pub(super) fn grant(info: &GrantInfo) -> String {
    let modes: Vec<&str> = info.modes.iter().map(|mode| mode.as_str()).collect();
    let mut text = format!("{} to {}", modes.join(", "), info.to);
    if !info.hosts.is_empty() {
        text += &format!(", for {}", info.hosts.join(", "));
    }
    match info.ttl_max_ms {
        Some(ms) => text += &format!(", leases up to {}", span(ms / 1000)),
        None => text += ", leases WITHOUT END",
    }
    if let Some(until) = info.until_ms {
        text += &format!(", until {}", utc(until));
    }
    text += &format!(", by operator:{}", info.by);
    if !info.reason.is_empty() {
        text += &format!(": {}", info.reason);
    }
    printable(&text)
}
