//! Who may sit at the machine's console, and what comes before and after the shell there.
//!
//! Owns: operators' accounts, what their passphrases are checked against and which keys open them, how long a wrong answer
//! makes everybody wait, the questions of the first boot, the message of the day, the shell's session and its end.
//! Promises: a login, a refusal and a logout are on PID 1's record before the next thing happens; a name that is not
//! there costs the same time and gets the same answer as a wrong passphrase or key; an answer to a challenge counts once; a passphrase is never shown, kept or
//! logged; what cannot be read or recorded refuses.
//! Never: talks to the network, decides what an operator may ask of services (their sockets do, by the user id).
#![forbid(unsafe_code)]

mod accounts;
mod attempts;
mod change;
mod dialogue;
mod files;
mod getty;
mod keys;
mod line;
mod login;
mod motd;
mod record;
mod session;
mod terminal;
mod wizard;

pub use getty::getty;
pub use login::login;

use octant_ids::Layout;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The Octant that this process belongs to: `OCTANT_DIR` names the directory of one that `octant up` runs.
fn layout() -> Layout {
    std::env::var_os("OCTANT_DIR").map_or_else(Layout::system, |dir| Layout::under(Path::new(&dir)))
}

/// Where accounts and failed attempts are kept; root's alone.
fn directory(layout: &Layout) -> PathBuf {
    layout.state.join("console")
}

/// Says a line on standard error, which on a terminal is the terminal.
fn say(text: &str) {
    // There is nobody else to tell.
    let _ = writeln!(io::stderr(), "{text}");
}
