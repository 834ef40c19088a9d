//! `octant agent authority`: what an agent can do, and from whom it has that.

use crate::error::CliError;
use crate::out::{Out, printable};
use octant_api::agents::{AgentInfo, Denial};
use octant_ids::{Aid, Sha256};
use serde::Serialize;

#[derive(Serialize)]
struct Authority<'a> {
    agent: Aid,
    name: &'a str,
    role: &'a str,
    /// The operator whose signature all of it comes from.
    granted_by: &'a str,
    manifest: Sha256,
    /// The agents above it, the nearest first: each gave a part of its own rights.
    lineage: &'a [Aid],
    grants: &'a [String],
    narrowed: &'a [Denial],
    missing_layers: &'a [String],
    /// Whether anything of it can still be used.
    in_force: bool,
}

/// `lineage` has the agents above it, the nearest first.
pub(super) fn show(info: &AgentInfo, lineage: &[AgentInfo], out: &mut Out) -> Result<(), CliError> {
    let in_force = !info.state.ended();
    if out.json {
        return out.json(&Authority {
            agent: info.aid,
            name: &info.name,
            role: &info.role,
            granted_by: &info.operator,
            manifest: info.manifest_digest,
            lineage: &lineage.iter().map(|agent| agent.aid).collect::<Vec<_>>(),
            grants: &info.grants,
            narrowed: &info.denials,
            missing_layers: &info.missing_layers,
            in_force,
        });
    }
    out.line(format_args!("{} {} ({})", info.aid, printable(&info.name), info.state.as_str()))?;
    if info.operator.is_empty() {
        return out.line("nobody granted it anything: its manifest was refused");
    }
    for parent in lineage {
        let digest = parent.manifest_digest.to_string();
        out.line(format_args!(
            "within the rights of {} {}, manifest {}",
            parent.aid,
            printable(&parent.name),
            &digest[..16]
        ))?;
    }
    let (digest, role) = (info.manifest_digest.to_string(), printable(&info.role));
    let operator = printable(&info.operator);
    // Under another agent it is that one's manifest, or one above it, that the operator signed.
    let signed = if info.depth == 0 { "who signed" } else { "who signed for the first above it; its own is" };
    out.line(format_args!(
        "granted by operator {operator}, {signed} manifest {}, within the role {role}",
        &digest[..16]
    ))?;
    out.line(if in_force { "it can:" } else { "it could, and has ended:" })?;
    for grant in &info.grants {
        out.line(format_args!("  {}", printable(grant)))?;
    }
    for Denial { field, got, .. } in &info.denials {
        let got = if got.is_empty() { "nothing" } else { got };
        out.line(format_args!("narrowed: {} to {}", printable(field), printable(got)))?;
    }
    for layer in &info.missing_layers {
        out.line(format_args!("NOT KEPT IN by the layer {}, which this machine lacks", printable(layer)))?;
    }
    Ok(())
}
