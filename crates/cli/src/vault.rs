//! `octant vault`: asks the service that keeps secrets, and brings it what opens it and what it is to keep.
//!
//! `octant secret` is the same from inside a workstation, for what an agent was granted.
//!
//! No secret byte is in an argument, in the environment or in a message: each rides in a pipe beside its request.

mod copy;
mod dotenv;
mod entry;
mod error;
mod grant;
mod import;
mod input;
mod json;
mod lease;
mod policy;
mod reveal;
mod secret;
mod shares;
mod shred;
mod slots;
mod status;
mod store;
mod unseal;

pub(crate) use error::VaultError;
pub(crate) use input::Input;
pub(crate) use lease::run as of_agent;

use crate::args::Vault as Command;
use crate::args::vault::{Place, Slots};
use crate::error::CliError;
use crate::out::Out;
use crate::service::Service;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use nix::sys::prctl;
use octant_api::vault::{SealRequest, VALUE_MAX};
use octant_ids::Layout;
use secret::Secret;
use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Standard input, where a file is named.
const STANDARD_INPUT: &str = "-";

/// What every command here works with.
struct Vault<'a> {
    service: Service,
    etc: &'a Path,
    input: Input<'a>,
}

/// How somebody is asked for a secret line.
struct Asked {
    /// What it is, in messages.
    what: &'static str,
    question: &'static str,
    /// The question after it, where a typing error would be found too late.
    again: Option<&'static str>,
}

/// The command.
pub(crate) fn run(
    command: &Command,
    layout: &Layout,
    input: Input<'_>,
    out: &mut Out,
) -> Result<(), CliError> {
    // No core dump and no debugger of the same user gets at a secret. It is one more wall: nothing rests on it.
    let _as_it_was = prctl::set_dumpable(false);
    let vault = Vault { service: Service::of(layout, "vault"), etc: &layout.etc, input };
    match command {
        Command::Init(args) => slots::init(&vault, args, out),
        Command::Status => status::status(&vault, out),
        Command::Unseal(args) => unseal::unseal(&vault, args, out),
        Command::Seal => seal(&vault, out),
        Command::Put(args) => store::put(&vault, args, out),
        Command::Rotate(args) => store::rotate(&vault, args, out),
        Command::Rollback(which) => store::rollback(&vault, which, out),
        Command::Destroy(which) => store::destroy(&vault, which, out),
        Command::Rm { name, yes } => store::remove(&vault, name, *yes, out),
        Command::List { prefix } => store::list(&vault, prefix, out),
        Command::Show { name, ssh: false } => store::show(&vault, name, out),
        Command::Show { name, ssh: true } => store::show_ssh(&vault, name, out),
        Command::Import(args) => import::import(&vault, args, out),
        Command::Reveal(args) => reveal::reveal(&vault, args, out),
        Command::Grant(args) => grant::grant(&vault, args, out),
        Command::Revoke(args) => grant::revoke(&vault, args, out),
        Command::Leases { agent } => grant::leases(&vault, *agent, out),
        Command::Slots { command: None } => slots::list(&vault, out),
        Command::Slots { command: Some(Slots::Add(args)) } => slots::add(&vault, args, out),
        Command::Slots { command: Some(Slots::Rm { slot, yes }) } => slots::remove(&vault, *slot, *yes, out),
        Command::Policy(command) => policy::run(command, layout, out),
        Command::Rekey(args) => slots::rekey(&vault, args, out),
        Command::Backup { file } => copy::backup(&vault, file, out),
        Command::Restore(args) => copy::restore(&vault, args, out),
        Command::Doctor => status::doctor(&vault, out),
        Command::Identity => status::identity(&vault, out),
    }
}

impl Vault<'_> {
    /// A key file: the one that is named, or the one where the service looks by itself.
    fn key_file(&self, place: &Place) -> PathBuf {
        match place {
            Place::File(path) => path.clone(),
            Place::Usual => self.etc.join("vault/key"),
        }
    }

    /// A secret of one line: from a file, from standard input, or from whoever sits there.
    fn one_line(&self, file: Option<&Path>, asked: &Asked, out: &mut Out) -> Result<Secret, CliError> {
        let what = asked.what;
        let path = match file.filter(|path| *path != STANDARD_INPUT) {
            None if self.input.is_terminal() => return Ok(self.typed(asked, out)?),
            path => path,
        };
        let (line, from) = match path {
            None => (self.input.line(what, VALUE_MAX)?, "standard input".to_owned()),
            Some(path) => {
                let mut line = Secret::read_file(path, what, VALUE_MAX)?;
                line.chomp();
                (line, path.display().to_string())
            }
        };
        if line.bytes().is_empty() {
            return Err(VaultError::Empty { what, from }.into());
        }
        if line.bytes().contains(&b'\n') {
            return Err(VaultError::Lines { what, from }.into());
        }
        Ok(line)
    }

    fn typed(&self, asked: &Asked, out: &mut Out) -> Result<Secret, VaultError> {
        let Some(again) = asked.again else {
            let [line] = self.input.ask_hidden([asked.question], asked.what, VALUE_MAX, out)?;
            return Ok(line);
        };
        let [line, second] = self.input.ask_hidden([asked.question, again], asked.what, VALUE_MAX, out)?;
        if line == second { Ok(line) } else { Err(VaultError::Mismatch) }
    }

    /// Whether to go on: as the command line says, or as whoever sits at the terminal says.
    fn confirm(&self, yes: bool, what: &str, question: &str, out: &mut Out) -> Result<(), VaultError> {
        if yes {
            return Ok(());
        }
        if !self.input.is_terminal() {
            return Err(VaultError::NoTerminal { what: what.to_owned() });
        }
        if self.input.agrees(question, out)? {
            return Ok(());
        }
        Err(VaultError::NotConfirmed { what: what.to_owned() })
    }
}

fn seal(vault: &Vault<'_>, out: &mut Out) -> Result<(), CliError> {
    let sealed = vault.service.call(&SealRequest {})?;
    if out.json {
        return out.json(&sealed);
    }
    out.line(match (sealed.was_unsealed, sealed.settled) {
        (false, _) => "the vault was sealed already",
        (true, true) => "the vault is sealed",
        (true, false) => "the vault is sealed; what was under way still holds a key, and ends by itself",
    })
}

/// Descriptors as a call takes them.
fn borrowed(fds: &[OwnedFd]) -> Vec<BorrowedFd<'_>> {
    fds.iter().map(AsFd::as_fd).collect()
}

/// In place of an error of the command line that would show an argument which can be a secret that somebody put there.
pub(crate) fn hide(args: &[OsString], error: &clap::Error) -> Option<CliError> {
    let for_vault = args.iter().any(|arg| arg == "vault" || arg == "secret");
    let shown = match error.kind() {
        ErrorKind::TooManyValues => true,
        ErrorKind::UnknownArgument => match error.get(ContextKind::InvalidArg) {
            Some(ContextValue::String(arg)) => !is_option(arg),
            _ => true,
        },
        _ => false,
    };
    (for_vault && shown).then(|| VaultError::SpareArgument.into())
}

/// Whether the text looks like a mistyped option.
fn is_option(text: &str) -> bool {
    let name = text.trim_start_matches('-');
    text.starts_with("--") && name.len() < 24 && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-')
}
