//! What operators do to the ledger: erase a payload, accept a damage, archive segments.

use crate::error::CliError;
use crate::out::{Out, Ticking, printable};
use crate::service::Service;
use octant_api::ledger::{AcknowledgeRequest, ArchiveRequest, EraseRequest};

/// `octant ledger erase`.
pub(super) fn erase(service: &Service, seq: u64, reason: &str, out: &mut Out) -> Result<(), CliError> {
    let appended = service.call(&EraseRequest { seq, reason: reason.to_owned() })?;
    if out.json {
        return out.json(&appended);
    }
    out.line(format_args!("the payload of entry {seq} is erased; entry {} says so", appended.seq))
}

/// `octant ledger acknowledge`.
pub(super) fn acknowledge(service: &Service, seq: u64, reason: &str, out: &mut Out) -> Result<(), CliError> {
    let progress = Ticking::new(out.json, "keeping what can be relied on".to_owned());
    let appended = service.call(&AcknowledgeRequest { seq, reason: reason.to_owned() })?;
    drop(progress);
    if out.json {
        return out.json(&appended);
    }
    out.line(format_args!(
        "the loss from entry {seq} on is acknowledged and on record as entry {}",
        appended.seq
    ))?;
    out.line("the log signs with a new key from here on")?;
    out.line("next: `octant ledger checkpoint --key` prints the new key; give it to whoever verifies, and to witnesses")
}

/// `octant ledger archive`.
pub(super) fn archive(service: &Service, before: u64, out: &mut Out) -> Result<(), CliError> {
    let progress = Ticking::new(out.json, "moving segments".to_owned());
    let archived = service.call(&ArchiveRequest { before })?;
    drop(progress);
    if out.json {
        return out.json(&archived);
    }
    if archived.segments.is_empty() {
        return out.line(format_args!("no whole segment comes before entry {before}; nothing was moved"));
    }
    archived.segments.iter().try_for_each(|segment| out.line(printable(segment)))?;
    let count = archived.segments.len();
    out.line(format_args!("{count} segments are now in {}", printable(&archived.directory)))?;
    out.line(format_args!("the first entry that can be read is {}", archived.first))
}
