//! `octant vault reveal`: a value for a person's eyes, and for no program.

use super::secret::Secret;
use super::{Vault, VaultError};
use crate::args::vault::Reveal;
use crate::error::CliError;
use crate::out::Out;
use octant_api::vault::RevealRequest;

/// The command.
pub(super) fn reveal(vault: &Vault<'_>, args: &Reveal, out: &mut Out) -> Result<(), CliError> {
    let name = &args.name;
    let denied = |why| CliError::from(VaultError::RevealDenied { name: name.clone(), why });
    if out.json {
        let next = "leave --json out, or let the program have a lease";
        return Err(VaultError::NotInJson { what: "a value", next }.into());
    }
    if !vault.input.is_terminal() || out.columns.is_none() {
        return Err(denied("standard input and output are not both a terminal"));
    }
    let typed = vault.input.ask(&format!("type the name {name} to see its value on this terminal:"), out)?;
    if typed != name.as_str() {
        return Err(denied("another name was typed"));
    }
    let request = RevealRequest { name: name.clone(), version: args.version, reason: args.reason.clone() };
    let (revealed, fds) = vault.service.call_with(&request, &[])?;
    let pipe = fds.first().ok_or_else(|| vault.service.odd("no value came with the answer"))?;
    let value =
        Secret::receive(pipe).map_err(|error| vault.service.odd(format!("its value: {}", error.why())))?;
    let bytes = value.bytes();
    if u64::try_from(bytes.len()) != Ok(revealed.bytes) {
        let why = format!("it says {} bytes, and {} came", revealed.bytes, bytes.len());
        return Err(vault.service.odd(why));
    }
    out.secret(bytes)?;
    if bytes.last() != Some(&b'\n') {
        out.error(b"\n");
    }
    out.note(&format!(
        "this was version {} of {name}; it stays in what this terminal remembers until that is cleared",
        revealed.version
    ));
    Ok(())
}
