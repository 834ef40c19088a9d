//! Agents that wait for a spawn of their manifest.

use super::envelope;
use crate::error::CliError;
use crate::out::{Out, Table, Ticking};
use crate::service::Service;
use octant_api::agents::{DiscardRequest, PrepareRequest, PreparedList, PreparedRequest};
use octant_ids::Sha256;
use std::path::Path;

pub(super) fn prepare(service: &Service, file: &Path, count: u64, out: &mut Out) -> Result<(), CliError> {
    let envelope = envelope(file)?;
    let made = {
        let _progress = Ticking::new(out.json, format!("preparing {count}"));
        service.call(&PrepareRequest { envelope, count })?
    };
    if out.json {
        return out.json(&made);
    }
    if (made.agents.len() as u64) < made.count {
        out.note(&format!(
            "its manifest can be used {} more times, so no more of them are prepared",
            made.agents.len()
        ));
    }
    made.agents.iter().try_for_each(|aid| out.line(aid))
}

pub(super) fn list(service: &Service, out: &mut Out) -> Result<(), CliError> {
    let list = service.call(&PreparedRequest {})?;
    if out.json {
        return out.json(&list);
    }
    // The digest last: on a narrow console its beginning is enough to tell one from another.
    let mut table = Table::new(&["WAITING", "WANTED", "OPERATOR", "NAME", "MANIFEST"]);
    for row in list.prepared {
        let (waiting, wanted) = (row.agents.len().to_string(), row.count.to_string());
        table.row([waiting, wanted, row.operator, row.name, row.manifest_digest.to_string()]);
    }
    out.table(&table)
}

pub(super) fn drop(service: &Service, manifest: Option<Sha256>, out: &mut Out) -> Result<(), CliError> {
    let list: PreparedList = service.call(&DiscardRequest { manifest })?;
    if out.json {
        return out.json(&list);
    }
    list.prepared.iter().flat_map(|row| &row.agents).try_for_each(|aid| out.line(aid))
}
