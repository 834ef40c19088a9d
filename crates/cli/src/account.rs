//! `octant account`: what an operator does elsewhere to log in at a machine's console. The accounts are the machine's own,
//! and its `login` changes them.

use crate::args::Account as Command;
use crate::error::CliError;
use crate::manifest::signing_key;
use crate::out::{Out, utc};
use octant_ids::Exit;
use octant_manifest::LoginChallenge;
use serde::Serialize;

#[derive(Serialize)]
struct Signed<'a> {
    machine: &'a str,
    terminal: &'a str,
    account: &'a str,
    asked_ms: u64,
    key: String,
    answer: String,
}

/// The command.
pub(crate) fn run(command: &Command, out: &mut Out) -> Result<(), CliError> {
    let Command::Answer { challenge, key } = command;
    // A terminal may have broken the line.
    let text: String = challenge.split_whitespace().collect();
    let asked: LoginChallenge = text.parse().map_err(|error| CliError::Refused {
        what: "cannot answer".to_owned(),
        why: format!("{error}"),
        exit: Exit::Invalid,
        next: Some("copy the whole line that begins with login1:".to_owned()),
    })?;
    let key = signing_key(key)?;
    let answer = asked.answer(&key);
    let (machine, terminal, account) = (asked.machine(), asked.terminal(), asked.account());
    if out.json {
        let (asked_ms, key) = (asked.time_ms(), key.id().to_string());
        return out.json(&Signed { machine, terminal, account, asked_ms, key, answer });
    }
    out.note(&format!(
        "for {account} at {terminal} of machine {machine}, which asked at {}, by its clock",
        utc(asked.time_ms())
    ));
    out.line(answer)
}
