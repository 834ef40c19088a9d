//! `octant vault unseal`.

use super::secret::Secret;
use super::{Asked, Vault, VaultError, borrowed, status};
use crate::args::vault::{Place, UnsealArgs};
use crate::error::CliError;
use crate::out::{Out, Ticking, printable};
use octant_api::vault::{SlotKind, State, Status, StatusRequest, UnsealRequest, Unsealed, VALUE_MAX, With};
use std::path::Path;

const KEY_FILE: &str = "the key file";
const PASSPHRASE: Asked = Asked { what: "the passphrase", question: "passphrase", again: None };
const SHARE: Asked = Asked { what: "the recovery share", question: "recovery share", again: None };

/// The command.
pub(super) fn unseal(vault: &Vault<'_>, args: &UnsealArgs, out: &mut Out) -> Result<(), CliError> {
    let way = Way { vault, args };
    if args.passphrase || args.passphrase_file.is_some() {
        return way.by_passphrase(out);
    }
    if !args.share.is_empty() {
        return way.by_shares(out);
    }
    if let Some(place) = &args.key_file {
        let key = Secret::read_file(&vault.key_file(place), KEY_FILE, VALUE_MAX)?;
        return way.by(With::StaticFile, Some((&key, KEY_FILE)), out);
    }
    if args.machine {
        return way.by(With::Machine, None, out);
    }
    way.interactively(out)
}

struct Way<'a> {
    vault: &'a Vault<'a>,
    args: &'a UnsealArgs,
}

impl Way<'_> {
    /// Asks whoever sits there for what there is a slot for.
    fn interactively(&self, out: &mut Out) -> Result<(), CliError> {
        if !self.vault.input.is_terminal() {
            return Err(VaultError::NoWay.into());
        }
        let status = self.vault.service.call(&StatusRequest {})?;
        match status.state {
            State::Sealed => {}
            State::Absent => return Err(VaultError::Absent { why: status.why }.into()),
            State::Damaged => return Err(VaultError::Damaged { why: status.why }.into()),
            State::Unsealed => return self.done(&Unsealed { status, slot: None }, out),
        }
        if has(&status, SlotKind::Passphrase) {
            return self.by_passphrase(out);
        }
        if !has(&status, SlotKind::Shares) {
            return self.by(With::Machine, None, out);
        }
        loop {
            let answer = self.share(&Place::Usual, out)?;
            if answer.status.state == State::Unsealed {
                return self.done(&answer, out);
            }
            out.note(&missing(&answer.status));
        }
    }

    fn by_passphrase(&self, out: &mut Out) -> Result<(), CliError> {
        let passphrase = self.vault.one_line(self.args.passphrase_file.as_deref(), &PASSPHRASE, out)?;
        self.by(With::Passphrase, Some((&passphrase, PASSPHRASE.what)), out)
    }

    /// One after the other; a share after the last one that was needed is not even read.
    fn by_shares(&self, out: &mut Out) -> Result<(), CliError> {
        let mut last = None;
        for place in &self.args.share {
            let answer = last.insert(self.share(place, out)?);
            if answer.status.state == State::Unsealed {
                break;
            }
        }
        last.map_or(Ok(()), |answer| self.done(&answer, out))
    }

    fn share(&self, place: &Place, out: &mut Out) -> Result<Unsealed, CliError> {
        let file: Option<&Path> = match place {
            Place::Usual => None,
            Place::File(path) => Some(path),
        };
        // Somebody who took the option for the share itself does not want to read it in an error.
        let text = file.map(|path| path.to_string_lossy());
        if text.is_some_and(|text| text.starts_with("octant-share-1-")) && !file.is_some_and(Path::exists) {
            return Err(VaultError::SpareArgument.into());
        }
        let share = self.vault.one_line(file, &SHARE, out)?;
        self.give(With::Share, Some((&share, SHARE.what)), out)
    }

    /// By what unseals at once, or fails.
    fn by(&self, with: With, secret: Option<(&Secret, &'static str)>, out: &mut Out) -> Result<(), CliError> {
        let answer = self.give(with, secret, out)?;
        if answer.status.state != State::Unsealed {
            let state = answer.status.state.as_str();
            return Err(self.vault.service.odd(format!("it took what unseals it, and is {state}")));
        }
        self.done(&answer, out)
    }

    fn give(
        &self,
        with: With,
        secret: Option<(&Secret, &'static str)>,
        out: &Out,
    ) -> Result<Unsealed, CliError> {
        let fds = secret.map(|(secret, what)| secret.pipe(what)).transpose()?;
        let fds = Vec::from_iter(fds);
        let _progress = Ticking::new(out.json, "unsealing the vault".to_owned());
        let request = UnsealRequest {
            with,
            accept_machine: self.args.accept_machine.clone(),
            accept_rollback: self.args.accept_rollback.clone(),
        };
        Ok(self.vault.service.call_with(&request, &borrowed(&fds))?.0)
    }

    fn done(&self, answer: &Unsealed, out: &mut Out) -> Result<(), CliError> {
        let status = &answer.status;
        if out.json {
            out.json(answer)?;
        } else {
            match (status.state, answer.slot) {
                (State::Unsealed, Some(slot)) => {
                    out.line(format_args!("the vault is unsealed, by slot {slot}"))?;
                }
                (State::Unsealed, None) => out.line("the vault was unsealed already")?,
                (_, _) => out.line(missing(status))?,
            }
            for warning in &status.warnings {
                out.note(&format!("WARNING: {warning}"));
            }
        }
        if status.state == State::Damaged {
            return Err(VaultError::Damaged { why: status.why.clone() }.into());
        }
        Ok(())
    }
}

fn has(status: &Status, kind: SlotKind) -> bool {
    status.slots.iter().any(|slot| slot.kind == kind)
}

/// What is still missing, in the vault's own words.
fn missing(status: &Status) -> String {
    let wanted: Vec<String> =
        status.slots.iter().filter(|slot| slot.kind == SlotKind::Shares).map(status::slot).collect();
    let given = status::shares(status);
    printable(&format!("the vault is still sealed: {} ({given}; {})", status.why, wanted.join("; ")))
}
