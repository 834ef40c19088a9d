//! How the vault and the machine are: `status`, `doctor`, `identity`.

use super::{Vault, VaultError};
use crate::error::CliError;
use crate::out::{Out, Table, printable, utc};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use octant_api::vault::{
    DoctorRequest, Fact, IdentityRequest, Mark, SlotInfo, SlotKind, State, Status, StatusRequest,
};

/// `octant vault status`.
pub(super) fn status(vault: &Vault<'_>, out: &mut Out) -> Result<(), CliError> {
    let status = vault.service.call(&StatusRequest {})?;
    if out.json {
        out.json(&status)?;
    } else {
        print(&status, out)?;
    }
    if status.state == State::Damaged {
        return Err(VaultError::Damaged { why: status.why }.into());
    }
    Ok(())
}

fn print(status: &Status, out: &mut Out) -> Result<(), CliError> {
    out.wrapped("state", status.state.as_str())?;
    if !status.why.is_empty() {
        out.wrapped("why", &status.why)?;
    }
    if let Some(vault) = &status.vault {
        out.wrapped("vault", vault)?;
        out.wrapped("epoch", &status.epoch.to_string())?;
    }
    if let Some(fingerprint) = &status.fingerprint {
        out.wrapped("machine", &fingerprint.to_string())?;
    }
    for info in &status.slots {
        out.wrapped(&format!("slot {}", info.slot), &slot(info))?;
    }
    if status.shares > 0 {
        out.wrapped("shares", &shares(status))?;
    }
    if !status.memory.is_empty() {
        out.wrapped("keys in", &status.memory)?;
    }
    for (name, count) in [("secrets", status.secrets), ("leases", status.leases)] {
        if let Some(count) = count {
            out.wrapped(name, &count.to_string())?;
        }
    }
    status.warnings.iter().try_for_each(|warning| out.wrapped("WARNING", warning))?;
    match status.state {
        State::Absent => out.line("next: `octant vault init` makes one"),
        State::Sealed => out.line("next: `octant vault unseal`"),
        State::Unsealed | State::Damaged => Ok(()),
    }
}

/// How many shares were given, and how many are missing where one slot alone takes them.
pub(super) fn shares(status: &Status) -> String {
    let given = format!("{} given since the last unseal", status.shares);
    let mut slots = status.slots.iter().filter(|info| info.kind == SlotKind::Shares);
    match (slots.next(), slots.next()) {
        (Some(only), None) if only.threshold > 0 => {
            let missing = u32::from(only.threshold).saturating_sub(status.shares);
            format!(
                "{given}, {missing} missing: slot {} takes {} of {}",
                only.slot, only.threshold, only.count
            )
        }
        _ => given,
    }
}

/// A slot on one line. What is bound to nothing is not to be overlooked.
pub(super) fn slot(info: &SlotInfo) -> String {
    let shout = if info.kind == SlotKind::StaticFile { "STATIC " } else { "" };
    let label = if info.label.is_empty() { String::new() } else { format!(" {:?}", info.label) };
    let about = if info.about.is_empty() { String::new() } else { format!(": {}", info.about) };
    format!("{shout}{}{label}{about}", info.kind.as_str())
}

/// `octant vault doctor`.
pub(super) fn doctor(vault: &Vault<'_>, out: &mut Out) -> Result<(), CliError> {
    let report = vault.service.call(&DoctorRequest {})?;
    if out.json {
        out.json(&report)?;
    } else {
        let mut table = Table::new(&["CHECK", "RESULT", "FOUND"]);
        for check in &report.checks {
            table.row([check.what.clone(), mark(check.mark).to_owned(), check.found.clone()]);
        }
        out.table(&table)?;
        let advised = report.checks.iter().filter(|check| !check.next.is_empty());
        for check in advised {
            out.paragraph(&format!("next, {}: ", check.what), &check.next)?;
        }
    }
    let bad = report.checks.iter().filter(|check| check.mark == Mark::Bad).count();
    if bad > 0 {
        return Err(VaultError::Unwell { bad, count: report.checks.len() }.into());
    }
    Ok(())
}

fn mark(mark: Mark) -> &'static str {
    match mark {
        Mark::Good => "good",
        Mark::Warning => "WARNING",
        Mark::Bad => "BAD",
        Mark::Skipped => "skipped",
    }
}

/// `octant vault identity`.
pub(super) fn identity(vault: &Vault<'_>, out: &mut Out) -> Result<(), CliError> {
    let identity = vault.service.call(&IdentityRequest {})?;
    if out.json {
        return out.json(&identity);
    }
    out.wrapped("machine", &identity.fingerprint.to_string())?;
    out.wrapped("public key", &STANDARD.encode(&identity.public_key.0))?;
    out.wrapped("made", &utc(identity.created_ms))?;
    if let Some(certificate) = &identity.certificate {
        out.wrapped("states", &certificate.statement)?;
        out.wrapped("signature", &STANDARD.encode(&certificate.signature.0))?;
    }
    if identity.facts.is_empty() {
        return Ok(());
    }
    let mut table = Table::new(&["FACT", "THEN", "NOW", ""]);
    for fact in &identity.facts {
        let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
        table.row([fact.name.clone(), value(&fact.then), value(&fact.now), changed(fact).to_owned()]);
    }
    out.table(&table)?;
    let others: Vec<&str> =
        identity.facts.iter().filter(|f| f.identifies && f.then != f.now).map(|f| f.name.as_str()).collect();
    if !others.is_empty() {
        out.note(&format!("WARNING: this is another machine: {} differs", printable(&others.join(", "))));
    }
    Ok(())
}

fn changed(fact: &Fact) -> &'static str {
    match (fact.then == fact.now, fact.identifies) {
        (true, _) => "",
        (false, true) => "OTHER MACHINE",
        (false, false) => "changed",
    }
}
