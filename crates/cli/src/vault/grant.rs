//! Who may use what: `grant`, `revoke`, `leases`.

use super::{Vault, store};
use crate::args::vault::{Grant, Mode, Revoke as RevokeArgs, To};
use crate::error::CliError;
use crate::manifest;
use crate::out::{Out, Table, span};
use octant_api::agents::ENVELOPE_MAX;
use octant_api::vault::{GrantRequest, LeasesRequest, Revoke, RevokeRequest, Subject};
use octant_ids::Aid;
use octant_manifest::Envelope;

/// `octant vault grant`.
pub(super) fn grant(vault: &Vault<'_>, args: &Grant, out: &mut Out) -> Result<(), CliError> {
    let mut modes = args.mode.clone();
    modes.sort_unstable();
    modes.dedup();
    let request = GrantRequest {
        name: args.name.clone(),
        to: subject(&args.to)?,
        modes: modes.iter().map(|mode| (*mode).into()).collect(),
        hosts: args.host.clone(),
        ttl_max_ms: args.ttl.map(|ttl| ttl.0),
        unlimited: args.unlimited,
        until_ms: args.until.map(|when| when.wall_ms()),
        reason: args.reason.clone(),
    };
    if modes.contains(&Mode::Reveal) {
        out.note(&format!(
            "WARNING: reveal lets {} see the value of {}, and nothing can make it unseen",
            request.to, args.name
        ));
    }
    if args.unlimited {
        out.note("WARNING: --unlimited: leases last as long as their holder, until they are revoked");
    }
    let info = vault.service.call(&request)?;
    if out.json {
        return out.json(&info);
    }
    out.line(format_args!("grant {}: {}: {}", info.id, info.name, store::grant(&info)))
}

fn subject(to: &To) -> Result<Subject, CliError> {
    match to {
        To::Subject(subject) => Ok(subject.clone()),
        To::ManifestFile(path) => {
            const KIND: &str = "signed manifest";
            // Whether it is to be believed is seen by whoever starts an agent under it: a grant to a manifest that
            // nobody trusted has signed is to nobody.
            let envelope = Envelope::parse(&manifest::read(path, KIND, ENVELOPE_MAX)?);
            let envelope = envelope.map_err(|error| manifest::invalid(path, KIND, &error))?;
            Ok(Subject::Manifest(envelope.digest()))
        }
    }
}

/// `octant vault revoke`.
pub(super) fn revoke(vault: &Vault<'_>, args: &RevokeArgs, out: &mut Out) -> Result<(), CliError> {
    let RevokeArgs { grant, secret, agent, service } = args;
    let what = grant
        .map(Revoke::Grant)
        .or_else(|| secret.clone().map(Revoke::Secret))
        .or_else(|| agent.map(Revoke::Agent))
        .or_else(|| service.clone().map(Revoke::Service));
    // The command line is not taken without one of the four.
    let Some(what) = what else { return Ok(()) };
    let revoked = vault.service.call(&RevokeRequest { what })?;
    if out.json {
        out.json(&revoked)?;
    } else {
        out.line(format_args!("{} grants and {} leases are gone", revoked.grants, revoked.leases))?;
    }
    if !revoked.durable {
        out.note(
            "WARNING: this is not on stable storage yet; it holds until the vault's process ends: repeat it",
        );
    }
    Ok(())
}

/// `octant vault leases`.
pub(super) fn leases(vault: &Vault<'_>, agent: Option<Aid>, out: &mut Out) -> Result<(), CliError> {
    let list = vault.service.call(&LeasesRequest { agent })?;
    if out.json {
        return out.json(&list);
    }
    let mut table = Table::new(&["HOLDER", "MODE", "LEFT", "GRANT", "SECRET"]);
    for lease in &list.leases {
        table.row([
            lease.holder.to_string(),
            lease.mode.as_str().to_owned(),
            lease.expires_in_ms.map_or_else(|| "-".to_owned(), |ms| span(ms / 1000)),
            lease.grant.to_string(),
            lease.name.to_string(),
        ]);
    }
    out.table(&table)?;
    let shown = u64::try_from(list.leases.len()).unwrap_or(u64::MAX);
    if list.total > shown {
        out.note(&format!("{shown} of {} leases are shown; --agent AID shows one agent's", list.total));
    }
    Ok(())
}
