//! `octant secret`: what an agent does, inside its workstation, with the secrets that it was granted.

use super::secret::Secret;
use super::{Input, STANDARD_INPUT, VaultError};
use crate::args::secret::{Lease as LeaseArgs, Secret as Command, Sign};
use crate::error::CliError;
use crate::out::{Out, span};
use crate::service::Service;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use nix::sys::prctl;
use octant_api::agent::{LeaseRequest, ReleaseRequest, RevealRequest, SignRequest};
use octant_api::text::Base64;
use octant_api::vault::{Lease, Mode, Token};
use octant_ids::{Layout, SecretName};
use std::path::Path;

const TOKEN: &str = "the token";
const MESSAGE: &str = "the message";
/// The longest message that is signed whole.
const MESSAGE_MAX: usize = 64 << 10;
/// A token in text.
const TOKEN_MAX: usize = 64;
/// An Ed25519 signature.
const SIGNATURE_LEN: usize = 64;
/// How long a lease lasts, in milliseconds, that is used once and given back: what is left of it when this process is
/// killed meanwhile.
const ONCE_MS: u64 = 60_000;

/// The command.
pub(crate) fn run(
    command: &Command,
    layout: &Layout,
    input: Input<'_>,
    out: &mut Out,
) -> Result<(), CliError> {
    // See `octant vault`: another process of the agent's does not get at the value by way of this one.
    let _as_it_was = prctl::set_dumpable(false);
    let holder = Holder(Service::of_workstation(layout));
    match command {
        Command::Get { name } => holder.get(name, out),
        Command::Sign(args) => holder.sign(args, input, out),
        Command::Lease(args) => holder.lease(args, out),
        Command::Release => holder.release(input, out),
    }
}

/// The agent of this workstation, who holds leases.
struct Holder(Service);

impl Holder {
    /// `octant secret get`
    fn get(&self, name: &SecretName, out: &mut Out) -> Result<(), CliError> {
        if out.json {
            let next = "leave --json out: the value alone is printed";
            return Err(VaultError::NotInJson { what: "a value", next }.into());
        }
        let value = self.once(name, Mode::Reveal, out, |token| self.reveal(token))?;
        out.secret(value.bytes())
    }

    fn reveal(&self, token: Token) -> Result<Secret, CliError> {
        let (opened, fds) = self.0.call_with(&RevealRequest { token }, &[])?;
        let pipe = fds.first().ok_or_else(|| self.0.odd("no value came with the answer"))?;
        let value =
            Secret::receive(pipe).map_err(|error| self.0.odd(format!("its value: {}", error.why())))?;
        let came = value.bytes().len();
        if u64::try_from(came) != Ok(opened.bytes) {
            return Err(self.0.odd(format!("it says {} bytes, and {came} came", opened.bytes)));
        }
        Ok(value)
    }

    /// `octant secret sign`
    fn sign(&self, args: &Sign, input: Input<'_>, out: &mut Out) -> Result<(), CliError> {
        if args.raw && out.json {
            let next = "leave --raw out: the document has the signature in base64";
            return Err(VaultError::NotInJson { what: "a raw signature", next }.into());
        }
        let message = message(&args.file, input)?;
        let signed = self.once(&args.name, Mode::Sign, out, |token| {
            let message = Base64(message.bytes().to_vec());
            self.0.call(&SignRequest { token, message })
        })?;
        let signature = &signed.signature.0;
        if signature.len() != SIGNATURE_LEN {
            return Err(self.0.odd(format!("a signature of {} bytes", signature.len())));
        }
        match (args.raw, out.json) {
            (_, true) => out.json(&signed),
            (true, false) => out.raw(signature),
            (false, false) => out.line(STANDARD.encode(signature)),
        }
    }

    /// Does something with a lease of its own, which is given back whatever came of it.
    fn once<T>(
        &self,
        name: &SecretName,
        mode: Mode,
        out: &mut Out,
        act: impl FnOnce(Token) -> Result<T, CliError>,
    ) -> Result<T, CliError> {
        let request = LeaseRequest { name: name.clone(), mode, ttl_ms: Some(ONCE_MS) };
        let Lease { token, .. } = self.0.call(&request)?;
        let done = act(token.clone());
        if let Err(error) = self.0.call(&ReleaseRequest { token }) {
            // What was done is done, and the lease ends by itself.
            let left = span(ONCE_MS / 1000);
            out.note(&format!(
                "the lease of {name} could not be given back, and ends within {left}: {error}"
            ));
        }
        done
    }

    /// `octant secret lease`
    fn lease(&self, args: &LeaseArgs, out: &mut Out) -> Result<(), CliError> {
        let request = LeaseRequest {
            name: args.name.clone(),
            mode: args.mode.into(),
            ttl_ms: args.ttl.map(|ttl| ttl.0),
        };
        let lease = self.0.call(&request)?;
        if out.json {
            return out.json(&lease);
        }
        out.line(String::from(lease.token))?;
        let ends = lease.expires_in_ms.map_or_else(
            || "lasts as long as this agent".to_owned(),
            |ms| format!("ends in {}", span(ms / 1000)),
        );
        out.note(&format!("the lease of {} for {} {ends}", args.name, lease.mode.as_str()));
        Ok(())
    }

    /// `octant secret release`
    fn release(&self, input: Input<'_>, out: &mut Out) -> Result<(), CliError> {
        let not = || VaultError::NotToken { from: "standard input".to_owned() };
        let line = input.line(TOKEN, TOKEN_MAX)?;
        let text = std::str::from_utf8(line.bytes()).map_err(|_| not())?;
        let token = Token::try_from(text.to_owned()).map_err(|_| not())?;
        let released = self.0.call(&ReleaseRequest { token })?;
        if out.json {
            return out.json(&released);
        }
        out.line(if released.leases > 0 {
            "the lease is given back"
        } else {
            "there was no such lease any more"
        })
    }
}

/// What is to be signed.
fn message(file: &Path, input: Input<'_>) -> Result<Secret, VaultError> {
    let read = if file == Path::new(STANDARD_INPUT) {
        input.whole(MESSAGE, MESSAGE_MAX)
    } else {
        Secret::read_file(file, MESSAGE, MESSAGE_MAX)
    };
    read.map_err(|error| match error {
        VaultError::TooLong { from, max, .. } => VaultError::MessageTooLong { from, max },
        other => other,
    })
}
