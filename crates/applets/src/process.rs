//! Utilities over processes, by procfs.

mod files;
mod find;
mod list;
mod place;
mod ps;
mod schedule;
pub(crate) mod start;
mod statistics;
mod timeout;
mod top;
mod tree;

pub(crate) use files::{fuser, lsof, pmap, pwdx};
pub(crate) use find::{killall, pgrep, pidof, pkill};
pub(crate) use place::{lsns, nsenter, setsid, su, unshare};
pub(crate) use ps::ps;
pub(crate) use schedule::{as_ranges, chrt, ionice, numbers, prlimit, renice, taskset};
pub(crate) use start::{flock, run_parts, time, watch};
pub(crate) use statistics::vmstat;
pub(crate) use timeout::timeout;
pub(crate) use top::top;
pub(crate) use tree::pstree;

use crate::options::{Stop, failed};
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Becomes the command; only returns when it cannot be executed, with the exit code that POSIX gives that.
fn become_command(words: &[OsString]) -> Stop {
    let Some((program, arguments)) = words.split_first() else {
        return Stop::new(1, "no command given");
    };
    let error = Command::new(program).args(arguments).exec();
    let code = if error.kind() == std::io::ErrorKind::NotFound { 127 } else { 126 };
    Stop { code, ..failed(program.display())(error) }
}
