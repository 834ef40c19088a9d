//! `ps`.

use crate::output::{complain, help_or_version, print};
use nix::unistd::{SysconfVar, sysconf};
use std::ffi::OsString;
use std::fmt::Write;
use std::fs;
use std::path::Path;

const HELP: &str = "\
Usage: ps
List all processes that /proc shows: identifier, parent, user, state, resident memory in KiB, processor time
and command. The usual options for all processes (-e, -A, -f, a, u, x, w) are accepted.
";

/// proc(5): the kernel counts in ticks; 100 a second wherever it was not asked.
const TICKS_A_SECOND: u64 = 100;
const PAGE_KIB: u64 = 4;

pub(crate) fn ps(arguments: Vec<OsString>) -> i32 {
    if let Some(code) = help_or_version(&arguments, "ps", HELP) {
        return code;
    }
    for argument in arguments.iter().skip(1) {
        let letters = argument.to_str().unwrap_or("?");
        if !letters.strip_prefix('-').unwrap_or(letters).chars().all(|c| "eAfauxw".contains(c)) {
            complain("ps", &format_args!("unknown option {letters}; ps --help lists what there is"));
            return 2;
        }
    }
    let ticks = number(sysconf(SysconfVar::CLK_TCK)).unwrap_or(TICKS_A_SECOND).max(1);
    let page_kib = number(sysconf(SysconfVar::PAGE_SIZE)).map_or(PAGE_KIB, |bytes| bytes / 1024);
    match processes(Path::new("/proc")) {
        Ok(processes) => print("ps", &table(&processes, ticks, page_kib)),
        Err(error) => {
            complain("ps", &format_args!("cannot read /proc: {error}"));
            1
        }
    }
}

fn number(answer: nix::Result<Option<i64>>) -> Option<u64> {
    answer.ok().flatten().and_then(|value| u64::try_from(value).ok())
}

#[derive(Debug, PartialEq, Eq)]
struct Process {
    pid: u32,
    parent: u32,
    uid: String,
    state: char,
    ticks: u64,
    pages: u64,
    command: String,
}

/// Every process under `proc`, by number. One that ends while it is read is left out.
fn processes(proc: &Path) -> std::io::Result<Vec<Process>> {
    let mut found: Vec<Process> = fs::read_dir(proc)?
        .filter_map(|entry| {
            let directory = entry.ok()?.path();
            directory.file_name()?.to_str()?.parse::<u32>().ok()?;
            let read = |file: &str| fs::read(directory.join(file)).ok();
            let text = |file: &str| read(file).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
            process(&text("stat")?, &text("status")?, &read("cmdline")?)
        })
        .collect();
    found.sort_by_key(|process| process.pid);
    Ok(found)
}

/// One process out of its `stat`, `status` and `cmdline` (proc(5)).
fn process(stat: &str, status: &str, cmdline: &[u8]) -> Option<Process> {
    // The name stands in brackets and may itself contain brackets and spaces.
    let (pid, rest) = stat.split_once(" (")?;
    let (name, rest) = rest.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    // Counted from `state`, which proc(5) numbers 3.
    let field = |number: usize| fields.get(number - 3).copied();
    let uid = status.lines().find_map(|line| line.strip_prefix("Uid:"))?.split_ascii_whitespace().next()?;
    let words: Vec<_> = cmdline
        .split(|byte| *byte == 0)
        .filter(|word| !word.is_empty())
        .map(String::from_utf8_lossy)
        .collect();
    Some(Process {
        pid: pid.parse().ok()?,
        parent: field(4)?.parse().ok()?,
        uid: uid.to_owned(),
        state: field(3)?.chars().next()?,
        ticks: field(14)?.parse::<u64>().ok()? + field(15)?.parse::<u64>().ok()?,
        pages: field(24)?.parse().ok()?,
        command: if words.is_empty() { format!("[{name}]") } else { words.join(" ") },
    })
}

fn table(processes: &[Process], ticks: u64, page_kib: u64) -> String {
    let mut text = String::from("    PID    PPID    UID S    RSS    TIME COMMAND\n");
    for process in processes {
        let seconds = process.ticks / ticks;
        // A control character in a command must not reach the terminal.
        let command: String = process.command.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{:>7} {:>7} {:>6} {} {:>6} {:>4}:{:02} {command}",
            process.pid,
            process.parent,
            process.uid,
            process.state,
            process.pages * page_kib,
            seconds / 60,
            seconds % 60,
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "42 (a) b (c) S 1 42 42 0 -1 4194560 1 0 0 0 6000 200 0 0 20 0 1 0 100 4096 25 1844 0";

    #[test]
    fn a_name_with_brackets_does_not_shift_the_fields() {
        let found = process(STAT, "Name:\tx\nUid:\t7\t0\t0\t0\n", b"/bin/x\0-v\0\x1b[31m\0").unwrap();
        assert_eq!((found.pid, found.parent, found.uid.as_str(), found.state), (42, 1, "7", 'S'));
        assert_eq!((found.ticks, found.pages), (6200, 25));
        let text = table(&[found], 100, 4);
        assert_eq!(text.lines().nth(1), Some("     42       1      7 S    100    1:02 /bin/x -v ?[31m"));
    }

    #[test]
    fn a_kernel_thread_shows_its_name() {
        let found = process(STAT, "Uid:\t0\n", b"").unwrap();
        assert_eq!(found.command, "[a) b (c]");
        assert_eq!(process("", "", b""), None);
    }

    #[test]
    fn this_process_is_listed() {
        let all = processes(Path::new("/proc")).unwrap();
        assert!(all.iter().any(|process| process.pid == std::process::id()));
    }
}
