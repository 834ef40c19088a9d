//! `octant note` and `octant self`: what an agent can ask, from inside its workstation.

use crate::error::CliError;
use crate::out::Out;
use crate::service::Service;
use octant_api::agent::{NoteRequest, SelfRequest};
use octant_ids::Layout;

/// `octant note TEXT`
pub(crate) fn note(text: &str, layout: &Layout, out: &mut Out) -> Result<(), CliError> {
    let noted = Service::of_workstation(layout).call(&NoteRequest { text: text.to_owned() })?;
    if out.json { out.json(&noted) } else { out.line(format_args!("ledger entry {}", noted.seq)) }
}

/// `octant self`
pub(crate) fn describe(layout: &Layout, out: &mut Out) -> Result<(), CliError> {
    let info = Service::of_workstation(layout).call(&SelfRequest {})?;
    if out.json {
        return out.json(&info);
    }
    let rows = [
        ("agent", info.aid.to_string()),
        ("name", info.name.clone()),
        ("role", info.role.clone()),
        ("operator", info.operator.clone()),
        ("state", info.state.as_str().to_owned()),
        ("manifest", info.manifest_digest.to_string()),
    ];
    rows.iter().try_for_each(|(name, value)| out.wrapped(name, value))?;
    info.grants.iter().try_for_each(|grant| out.wrapped("grant", grant))
}
