//! Changes of accounts, by root: each is on record before it is made, and what takes away waits for no record.

use crate::accounts::{Account, Accounts, OpenedBy};
use crate::login::{LoginError, lock, new_passphrase, print};
use crate::record::tell;
use crate::{directory, keys};
use octant_api::operator::{AccountChange, Op};
use octant_ids::{Exit, Layout, Sha256};

/// What follows the program's name, where something does.
pub(crate) fn run(layout: &Layout, words: &[&str]) -> Result<Exit, LoginError> {
    match *words {
        ["--list"] => list(layout),
        ["--add", name, ref options @ ..] => add(layout, name, options),
        ["--passphrase", name] => passphrase(layout, name),
        ["--key", name, key] => {
            let key = trusted_key(layout, key)?;
            let _one_at_a_time = lock(&directory(layout))?;
            let mut accounts = Accounts::load(&directory(layout))?;
            accounts.can_add_key(name)?;
            recorded(layout, name, AccountChange::Key)?;
            Ok(accounts.add_key(name, key).map(|()| Exit::Ok)?)
        }
        ["--no-key", name, key] => {
            taken(layout, name, AccountChange::NoKey, |accounts| Ok(accounts.remove_key(name, key)?))
        }
        ["--key-only", name] => {
            taken(layout, name, AccountChange::NoPassphrase, |accounts| Ok(accounts.key_only(name)?))
        }
        ["--remove", name] => {
            taken(layout, name, AccountChange::Removed, |accounts| Ok(accounts.remove(name)?))
        }
        _ => Err(LoginError::Usage("these words are not understood".into())),
    }
}

pub(crate) fn recorded(layout: &Layout, name: &str, change: AccountChange) -> Result<(), LoginError> {
    Ok(tell(layout, Op::Account, name, change as u32)?)
}

fn taken(
    layout: &Layout,
    name: &str,
    change: AccountChange,
    take: impl FnOnce(&mut Accounts) -> Result<(), LoginError>,
) -> Result<Exit, LoginError> {
    let _one_at_a_time = lock(&directory(layout))?;
    take(&mut Accounts::load(&directory(layout))?)?;
    recorded(layout, name, change)?;
    Ok(Exit::Ok)
}

fn list(layout: &Layout) -> Result<Exit, LoginError> {
    let accounts = Accounts::load(&directory(layout))?;
    let line =
        |account: &Account| format!("{:<16} {:<10} {}\n", account.name, account.uid, account.opened_by());
    let lines: String = accounts.list().iter().map(line).collect();
    print(&format!("{:<16} {:<10} OPENED BY\n{lines}", "NAME", "UID"))?;
    Ok(Exit::Ok)
}

fn trusted_key(layout: &Layout, beginning: &str) -> Result<Sha256, LoginError> {
    let trusted = keys::trusted(&layout.trusted())?;
    keys::find(&trusted, beginning).ok_or_else(|| LoginError::NoKey(beginning.to_owned()))
}

fn add(layout: &Layout, name: &str, options: &[&str]) -> Result<Exit, LoginError> {
    let (mut uid, mut key) = (0, None);
    for pair in options.chunks(2) {
        match *pair {
            ["--uid", number] => {
                uid = number.parse().map_err(|_| LoginError::Usage(format!("{number:?} is no user id")))?;
            }
            ["--key", beginning] => key = Some(trusted_key(layout, beginning)?),
            _ => return Err(LoginError::Usage("these words are not understood".into())),
        }
    }
    let typed = if key.is_none() { Some(new_passphrase()?) } else { None };
    let by = match (&key, &typed) {
        (Some(key), _) => OpenedBy::Key(*key),
        (None, typed) => OpenedBy::Passphrase(typed.as_ref().map_or(b"", |line| line.bytes())),
    };
    let _one_at_a_time = lock(&directory(layout))?;
    let mut accounts = Accounts::load(&directory(layout))?;
    accounts.can_add(name, uid, by)?;
    recorded(layout, name, AccountChange::Made)?;
    Ok(accounts.add(name, uid, by).map(|()| Exit::Ok)?)
}

fn passphrase(layout: &Layout, name: &str) -> Result<Exit, LoginError> {
    // Before it is typed, to say at once what cannot be, and after it, when nobody else changes them.
    Accounts::load(&directory(layout))?.is_there(name)?;
    let passphrase = new_passphrase()?;
    let _one_at_a_time = lock(&directory(layout))?;
    let mut accounts = Accounts::load(&directory(layout))?;
    accounts.can_change(name, passphrase.bytes())?;
    recorded(layout, name, AccountChange::Passphrase)?;
    Ok(accounts.change(name, passphrase.bytes()).map(|()| Exit::Ok)?)
}
