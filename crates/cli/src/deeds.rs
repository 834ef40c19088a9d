//! What an operator does with images and snapshots, on record. They are the operator's own files, so these commands work
//! where no Octant runs; then there is no ledger to tell, and that is said.

use crate::error::CliError;
use crate::out::Out;
use crate::service::Service;
use octant_api::agents::{Deed, RecordRequest};
use octant_ids::{Layout, Sha256};
use std::io::ErrorKind;

/// What is said where there is none.
pub(crate) const NO_LEDGER: &str = "not in the ledger: no Octant runs here";
/// The most bytes of what a deed is of.
const OF_BYTES: usize = 1024;

/// Puts a deed on record that lets agents begin with something: before it is done.
///
/// # Errors
/// Octant runs, and the record was not accepted.
pub(crate) fn before(
    layout: &Layout,
    deed: Deed,
    digest: Sha256,
    of: &str,
    out: &mut Out,
) -> Result<(), CliError> {
    let mut of = of.to_owned();
    while of.len() > OF_BYTES {
        of.pop();
    }
    match Service::of(layout, "agents").call(&RecordRequest { deed, digest, of }) {
        Err(CliError::Connect { source, .. })
            if [ErrorKind::NotFound, ErrorKind::ConnectionRefused].contains(&source.kind()) =>
        {
            out.note(NO_LEDGER);
            Ok(())
        }
        done => done.map(drop),
    }
}

/// Puts a deed on record that takes something away: it is done already.
pub(crate) fn after(layout: &Layout, deed: Deed, digest: Sha256, of: &str, out: &mut Out) {
    if let Err(error) = before(layout, deed, digest, of, out) {
        out.note(&format!("WARNING: it is done and not in the ledger: {error}"));
    }
}
