//! The network's utilities.

mod fetch;
mod host;
mod ip;
mod nc;
mod ntp;
mod options;
mod ping;
mod ss;

pub(crate) use fetch::fetch;
pub(crate) use host::host;
pub(crate) use ip::ip;
pub(crate) use nc::nc;
pub(crate) use ntp::ntp;
pub(crate) use ping::{ping, ping6};
pub(crate) use ss::{netstat, ss};

use crate::output::complain;
use std::fmt::Display;

/// Why a utility ends, and with which code.
#[derive(Debug)]
pub(crate) struct Failed {
    code: i32,
    why: String,
}

/// A code of its own for a failure.
fn failed(code: i32, why: impl Display) -> Failed {
    Failed { code, why: why.to_string() }
}

/// The exit code; the reason of a failure goes to standard error.
fn ended(name: &str, result: Result<i32, Failed>) -> i32 {
    result.unwrap_or_else(|failed| {
        complain(name, &failed.why);
        failed.code
    })
}
