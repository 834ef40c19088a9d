//! `logger`: a line for the kernel's log, where PID 1's own are.

use crate::options::{Options, Stop, failed, run};
use crate::output::{complain, print};
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, Write};

const HELP: &str = "\
Usage: logger [-p [FACILITY.]LEVEL] [-t TAG] [-s] [-i] [-f FILE] [MESSAGE...]
Write a message, or each line of standard input, to the kernel's log (/dev/kmsg); dmesg shows it. The ledger is what cannot
be altered unnoticed: `octant note` writes there, from inside a workstation too.

  -p    emerg alert crit err warning notice info debug (user.notice)
  -t    what it begins with (logger);  -i with the process's number
  -s    to standard error as well;  -f each line of a file
";

/// syslog(3).
const LEVELS: [&str; 8] = ["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"];
const FACILITIES: [(&str, u8); 12] = [
    ("user", 1),
    ("mail", 2),
    ("daemon", 3),
    ("auth", 4),
    ("syslog", 5),
    ("lpr", 6),
    ("news", 7),
    ("uucp", 8),
    ("cron", 9),
    ("authpriv", 10),
    ("ftp", 11),
    ("local0", 16),
];
/// The kernel takes 1024 bytes less what it adds (LOG_LINE_MAX).
const LINE_MAX: usize = 976;

pub(crate) fn logger(arguments: Vec<OsString>) -> i32 {
    run("logger", || {
        let options =
            Options::read("logger", HELP, "p|priority= t|tag= s|stderr i|id? f|file= e", &arguments)?;
        let priority = options.text("p").map_or(Ok(13), |text| priority(&text))?;
        let tag = options.text("t").unwrap_or_else(|| "logger".into());
        let tag = if options.has("i") { format!("{tag}[{}]", std::process::id()) } else { tag };
        let mut log = OpenOptions::new().write(true).open("/dev/kmsg").map_err(failed("/dev/kmsg"))?;
        let mut write = |text: &str| -> Result<(), Stop> {
            let line = line(priority, &tag, text);
            if options.has("s") {
                complain(&tag, &text);
            }
            log.write_all(line.as_bytes()).map_err(failed("/dev/kmsg"))
        };
        if !options.rest.is_empty() {
            write(&options.words().join(" "))?;
            return Ok(0);
        }
        let input: Box<dyn io::Read> = match options.value("f") {
            Some(path) => Box::new(File::open(path).map_err(failed(path.display()))?),
            None => Box::new(io::stdin()),
        };
        let mut input = io::BufReader::new(input);
        let mut bytes = Vec::new();
        // A line without an end must not be held whole in memory; what is beyond the limit starts another line.
        while io::Read::take(&mut input, LINE_MAX as u64)
            .read_until(b'\n', &mut bytes)
            .map_err(failed("the input"))?
            > 0
        {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            if !text.trim_end().is_empty() {
                write(text.trim_end_matches(['\n', '\r']))?;
            }
            bytes.clear();
        }
        Ok(print("logger", ""))
    })
}

fn line(priority: u8, tag: &str, text: &str) -> String {
    let plain: String = format!("{tag}: {text}")
        .chars()
        .map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c })
        .collect();
    let cut = &plain[..plain.floor_char_boundary(LINE_MAX)];
    format!("<{priority}>{cut}\n")
}

fn priority(text: &str) -> Result<u8, Stop> {
    let (facility, level) = text.split_once('.').unwrap_or(("user", text));
    let level = match level {
        "error" => "err",
        "warn" => "warning",
        "panic" => "emerg",
        level => level,
    };
    let facility = FACILITIES.iter().find(|(name, _)| *name == facility).map(|(_, number)| *number);
    let level = LEVELS.iter().position(|name| *name == level).and_then(|level| u8::try_from(level).ok());
    let both = facility.zip(level).map(|(facility, level)| facility * 8 + level);
    both.ok_or_else(|| {
        Stop::new(
            1,
            format!("{text:?} is no priority; user.notice is one, and logger --help lists the levels"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_its_priority_and_nothing_that_commands_a_terminal() {
        assert_eq!(
            line(priority("daemon.err").unwrap(), "x", "a\x1b[2J\nb"),
            "<27>x: a\u{fffd}[2J\u{fffd}b\n"
        );
        assert_eq!((priority("info").unwrap(), priority("user.notice").unwrap()), (14, 13));
        assert!(priority("x.y").is_err() && priority("user.loud").is_err());
        assert!(line(13, "x", &"ä".repeat(2000)).len() <= LINE_MAX + 5);
    }
}
