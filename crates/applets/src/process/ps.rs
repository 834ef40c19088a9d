//! `ps`.

use super::list::{Process, Units, Users, printable, processes};
use crate::options::{Stop, failed, parse, run};
use crate::output::{help_or_version, print};
use std::ffi::OsString;
use std::fmt::Write;
use std::path::Path;

const HELP: &str = "\
Usage: ps [options]
List processes; without an option those of the caller on this terminal.

  -e, -A, ax         all
  -a                 all on a terminal, without the leaders of sessions
  -C NAME,...        those of these names
  -p, --pid N,...    these
  --ppid N,...       the children of these
  -u, -U USER,...    those of these users
  -t TTY,...         those on these terminals
  -f, -F, -l, u, l   more columns
  -o COLUMN[=HEAD],...   these columns: pid ppid pgid sid user uid euid group gid tty stat s time etime etimes
                     cputime pcpu pmem rss vsz nice ni pri nlwp psr comm args cmd command start lstart
  --sort [-]COLUMN,...   in this order
  --no-headers, h    without the line of heads
  -w, w              accepted: lines are never cut
  --forest, f        as a tree
";

/// What is listed, how.
#[derive(Debug, Default, PartialEq, Eq)]
struct Wish {
    all: bool,
    on_terminals: bool,
    names: Vec<String>,
    pids: Vec<u32>,
    parents: Vec<u32>,
    users: Vec<String>,
    terminals: Vec<String>,
    columns: Vec<(String, Option<String>)>,
    sort: Vec<String>,
    no_heads: bool,
    forest: bool,
}

pub(crate) fn ps(arguments: Vec<OsString>) -> i32 {
    if let Some(code) = help_or_version(&arguments, "ps", HELP) {
        return code;
    }
    run("ps", || {
        let words: Vec<String> = arguments.iter().skip(1).map(|w| w.to_string_lossy().into_owned()).collect();
        let wish = wish(&words)?;
        let units = Units::here();
        let all = processes(Path::new("/proc"), &units).map_err(failed("/proc"))?;
        let users = (Users::of_users(), Users::of_groups());
        let own = all.iter().find(|process| process.pid == std::process::id()).cloned().unwrap_or_default();
        let mut chosen: Vec<(usize, Process)> =
            all.into_iter().filter(|process| wish.takes(process, &own, &users.0)).map(|p| (0, p)).collect();
        sort(&mut chosen, &wish.sort, &units, &users)?;
        if wish.forest {
            chosen = forest(chosen);
        }
        let text = table(&chosen, &wish, &units, &users)?;
        let code = print("ps", &text);
        // procps: nothing chosen is a failure.
        Ok(if chosen.is_empty() { 1 } else { code })
    })
}

fn listed(text: &str) -> impl Iterator<Item = String> + '_ {
    text.split([',', ' ']).filter(|part| !part.is_empty()).map(str::to_owned)
}

fn numbers(text: &str) -> Result<Vec<u32>, Stop> {
    listed(text).map(|part| parse(&part)).collect()
}

fn columns(text: &str) -> Vec<(String, Option<String>)> {
    let mut out = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (part, after) = rest.split_once([',', ' ']).unwrap_or((rest, ""));
        match part.split_once('=') {
            // A head may contain anything, so that it ends the list; an empty one does not.
            Some((name, head)) if !head.is_empty() => {
                out.push((name.to_owned(), Some(rest[name.len() + 1..].to_owned())));
                break;
            }
            Some((name, _)) => out.push((name.to_owned(), Some(String::new()))),
            None if part.is_empty() => {}
            None => out.push((part.to_owned(), None)),
        }
        rest = after;
    }
    out
}

const FULL: &str = "UID,pid,ppid,c,stime,tty,time,cmd";
const BSD_USER: &str = "user,pid,pcpu,pmem,vsz,rss,tty,stat,start,bsdtime,command";
const BSD: &str = "pid,tty,stat,bsdtime,command";
const LONG: &str = "s,uid,pid,ppid,c,pri,ni,vsz,tty,time,comm";
const PLAIN: &str = "pid,tty,time,comm";

fn wish(words: &[String]) -> Result<Wish, Stop> {
    let mut out = Wish::default();
    let mut format = PLAIN;
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if let Some(long) = word.strip_prefix("--") {
            let (name, value) = long.split_once('=').map_or((long, None), |(n, v)| (n, Some(v.to_owned())));
            let mut value = || {
                value
                    .clone()
                    .or_else(|| words.next().cloned())
                    .ok_or_else(|| Stop::new(1, format!("--{name} needs a value")))
            };
            match name {
                "no-headers" | "no-heading" | "noheaders" => out.no_heads = true,
                "headers" => out.no_heads = false,
                "forest" => out.forest = true,
                "sort" => out.sort.extend(listed(&value()?)),
                "format" => out.columns.extend(columns(&value()?)),
                "pid" => out.pids.extend(numbers(&value()?)?),
                "ppid" => out.parents.extend(numbers(&value()?)?),
                "user" | "User" => out.users.extend(listed(&value()?)),
                "tty" => out.terminals.extend(listed(&value()?)),
                _ => return Err(unknown(word)),
            }
            continue;
        }
        let (letters, dashed) = word.strip_prefix('-').map_or((word.as_str(), false), |l| (l, true));
        if letters.bytes().all(|byte| byte.is_ascii_digit() || byte == b',') {
            out.pids.extend(numbers(letters)?);
            continue;
        }
        for (at, letter) in letters.char_indices() {
            let joined = &letters[at + letter.len_utf8()..];
            if "oCptUOG".contains(letter) || (dashed && letter == 'u') {
                let value = if joined.is_empty() { words.next().cloned() } else { Some(joined.to_owned()) };
                let value = value.ok_or_else(|| Stop::new(1, format!("-{letter} needs a value")))?;
                out.valued(letter, &value)?;
                break;
            }
            format = out.letter(letter, dashed, format).ok_or_else(|| unknown(word))?;
        }
    }
    if out.columns.is_empty() {
        out.columns = columns(format);
    }
    Ok(out)
}

fn unknown(word: &str) -> Stop {
    Stop::new(1, format!("unknown option {word}; ps --help lists what there is"))
}

impl Wish {
    fn valued(&mut self, letter: char, value: &str) -> Result<(), Stop> {
        match letter {
            'o' => self.columns.extend(columns(value)),
            'C' => self.names.extend(listed(value)),
            'p' => self.pids.extend(numbers(value)?),
            't' => self.terminals.extend(listed(value)),
            'u' | 'U' => self.users.extend(listed(value)),
            other => return Err(unknown(&format!("-{other}"))),
        }
        Ok(())
    }

    /// Heeds a letter; gives the format that follows from it.
    fn letter(&mut self, letter: char, dashed: bool, format: &'static str) -> Option<&'static str> {
        // Without a dash these are the options of BSD, with one those of Unix; some letters mean both.
        let bsd = if format == PLAIN && !dashed { BSD } else { format };
        match letter {
            'e' | 'A' if dashed => self.all = true,
            'x' => self.all = true,
            'a' => {
                self.on_terminals = true;
                return Some(bsd);
            }
            'e' | 'w' | 'c' | 'n' | 'r' | 'S' | 'y' | 'H' => {}
            'h' if !dashed => self.no_heads = true,
            'f' if !dashed => self.forest = true,
            'f' | 'F' => return Some(FULL),
            'l' => return Some(LONG),
            'u' => return Some(BSD_USER),
            _ => return None,
        }
        Some(bsd)
    }

    fn takes(&self, process: &Process, own: &Process, users: &Users) -> bool {
        let by_list = !(self.names.is_empty()
            && self.pids.is_empty()
            && self.parents.is_empty()
            && self.users.is_empty()
            && self.terminals.is_empty());
        if by_list {
            let terminal =
                |wanted: &String| process.terminal == wanted.strip_prefix("/dev/").unwrap_or(wanted);
            return self.names.iter().any(|name| name.get(..15).unwrap_or(name) == process.name)
                || self.pids.contains(&process.pid)
                || self.parents.contains(&process.parent)
                || self.users.iter().any(|user| users.id(user) == Some(process.uid.1))
                || self.terminals.iter().any(terminal);
        }
        self.all
            || (self.on_terminals && process.terminal != "?" && process.session != process.pid)
            || (!self.on_terminals && process.uid.1 == own.uid.1 && process.terminal == own.terminal)
    }
}

/// The width of a process's number: as many digits as the kernel may give it.
const NUMBER: usize = 0;

/// A column's head, its least width, and whether it is put to the right.
fn layout(column: &str) -> Option<(&'static str, usize, bool)> {
    Some(match column {
        "pid" => ("PID", NUMBER, true),
        "ppid" => ("PPID", NUMBER, true),
        "pgid" | "pgrp" => ("PGID", NUMBER, true),
        "sid" | "sess" | "session" => ("SID", NUMBER, true),
        "tid" | "lwp" => ("LWP", NUMBER, true),
        "user" | "euser" => ("USER", 8, false),
        // What -f has as its first column: a name under the head of a number.
        "UID" => ("UID", 8, false),
        "ruser" => ("RUSER", 8, false),
        "uid" | "euid" => ("UID", 5, true),
        "ruid" => ("RUID", 5, true),
        "group" | "egroup" => ("GROUP", 8, false),
        "gid" | "egid" => ("GID", 5, true),
        "tty" | "tt" | "tname" => ("TTY", 8, false),
        "stat" => ("STAT", 4, false),
        "s" | "state" => ("S", 1, false),
        "time" | "cputime" => ("TIME", 8, true),
        "bsdtime" => ("TIME", 6, true),
        "times" | "cputimes" => ("TIME", 5, true),
        "etime" => ("ELAPSED", 11, true),
        "etimes" => ("ELAPSED", 7, true),
        "c" => ("C", 2, true),
        "pcpu" | "%cpu" => ("%CPU", 4, true),
        "pmem" | "%mem" => ("%MEM", 4, true),
        "rss" | "rssize" => ("RSS", 5, true),
        "vsz" | "vsize" => ("VSZ", 6, true),
        "nice" | "ni" => ("NI", 3, true),
        "pri" => ("PRI", 3, true),
        "nlwp" | "thcount" => ("NLWP", 4, true),
        "psr" => ("PSR", 3, true),
        "stime" | "start" | "bsdstart" => ("START", 5, true),
        "lstart" => ("STARTED", 24, true),
        "comm" | "ucmd" | "ucomm" => ("COMMAND", 15, false),
        "args" | "cmd" | "command" => ("COMMAND", 27, false),
        _ => return None,
    })
}

fn head(column: &str) -> &'static str {
    match column {
        "comm" | "cmd" => "CMD",
        "stime" => "STIME",
        other => layout(other).map_or("", |(head, ..)| head),
    }
}

/// A cell; a number also as one, for sorting.
fn cell(
    process: &Process,
    column: &str,
    units: &Units,
    (users, groups): &(Users, Users),
) -> (String, Option<u64>) {
    let seconds = process.ticks / units.ticks;
    let elapsed = units.uptime.saturating_sub(process.start / units.ticks);
    let number = |value: u64| (value.to_string(), Some(value));
    let text = |value: String| (value, None);
    let permille = |part: u64, whole: u64| {
        let permille = part.saturating_mul(1000) / whole.max(1);
        (format!("{}.{}", permille / 10, permille % 10), Some(permille))
    };
    match column {
        "pid" | "tid" | "lwp" => number(process.pid.into()),
        "ppid" => number(process.parent.into()),
        "pgid" | "pgrp" => number(process.group.into()),
        "sid" | "sess" | "session" => number(process.session.into()),
        "user" | "euser" | "UID" => text(users.name(process.uid.1)),
        "ruser" => text(users.name(process.uid.0)),
        "uid" | "euid" => number(process.uid.1.into()),
        "ruid" => number(process.uid.0.into()),
        "group" | "egroup" => text(groups.name(process.gid.1)),
        "gid" | "egid" => number(process.gid.1.into()),
        "tty" | "tt" | "tname" => text(process.terminal.clone()),
        "stat" => text(process.states()),
        "s" | "state" => text(process.state.to_string()),
        "time" | "cputime" => (clock(seconds, true), Some(seconds)),
        "bsdtime" => (format!("{}:{:02}", seconds / 60, seconds % 60), Some(seconds)),
        "times" | "cputimes" => number(seconds),
        "etime" => (clock(elapsed, false), Some(elapsed)),
        "etimes" => number(elapsed),
        "c" => number(permille(process.ticks, elapsed * units.ticks).1.unwrap_or(0) / 10),
        "pcpu" | "%cpu" => permille(process.ticks, elapsed * units.ticks),
        "pmem" | "%mem" => permille(process.resident_kib, units.memory_kib),
        "rss" | "rssize" => number(process.resident_kib),
        "vsz" | "vsize" => number(process.virtual_kib),
        "nice" | "ni" => (process.nice.to_string(), u64::try_from(process.nice + 20).ok()),
        "pri" => (process.priority.to_string(), u64::try_from(process.priority + 100).ok()),
        "nlwp" | "thcount" => number(process.threads),
        "psr" => number(process.processor),
        "stime" | "start" | "bsdstart" => {
            (started(units.booted + process.start / units.ticks, elapsed), Some(process.start))
        }
        "lstart" => (date(units.booted + process.start / units.ticks), Some(process.start)),
        "comm" | "ucmd" | "ucomm" => text(printable(&process.name)),
        _ => text(printable(&process.command())),
    }
}

/// `[days-]hours:minutes:seconds`; without the hours where there are none, unless `hours`.
fn clock(seconds: u64, hours: bool) -> String {
    let (d, h, m, s) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
    match (d, h) {
        (0, 0) if !hours => format!("{m:02}:{s:02}"),
        (0, h) => format!("{h:02}:{m:02}:{s:02}"),
        (d, h) => format!("{d}-{h:02}:{m:02}:{s:02}"),
    }
}

/// The hour of the start, or its day when it is more than a day ago; in UTC, as everything here is.
fn started(at: u64, elapsed: u64) -> String {
    if elapsed < 86_400 {
        return format!("{:02}:{:02}", at / 3_600 % 24, at / 60 % 60);
    }
    let (_, month, day) = crate::calendar::date(at / 86_400);
    format!("{}{day:02}", crate::calendar::MONTHS[month - 1])
}

fn date(at: u64) -> String {
    let (year, month, day) = crate::calendar::date(at / 86_400);
    let weekday = crate::calendar::DAYS[usize::try_from((at / 86_400 + 4) % 7).unwrap_or(0)];
    let month = crate::calendar::MONTHS[month - 1];
    format!("{weekday} {month} {day:>2} {:02}:{:02}:{:02} {year}", at / 3_600 % 24, at / 60 % 60, at % 60)
}

fn sort(
    chosen: &mut [(usize, Process)],
    keys: &[String],
    units: &Units,
    users: &(Users, Users),
) -> Result<(), Stop> {
    for key in keys.iter().rev() {
        let (column, down) = match key.strip_prefix('-') {
            Some(column) => (column, true),
            None => (key.strip_prefix('+').unwrap_or(key), false),
        };
        if layout(column).is_none() {
            return Err(Stop::new(1, format!("no column {column:?} to sort by; ps --help lists them")));
        }
        chosen.sort_by(|(_, one), (_, other)| {
            let (one, other) = (cell(one, column, units, users), cell(other, column, units, users));
            let order = one.1.cmp(&other.1).then_with(|| one.0.cmp(&other.0));
            if down { order.reverse() } else { order }
        });
    }
    Ok(())
}

/// Children behind their parents, one step further in.
fn forest(chosen: Vec<(usize, Process)>) -> Vec<(usize, Process)> {
    fn under(parent: u32, depth: usize, left: &mut Vec<Process>, out: &mut Vec<(usize, Process)>) {
        while let Some(at) = left.iter().position(|process| process.parent == parent && process.pid != parent)
        {
            let process = left.remove(at);
            let pid = process.pid;
            out.push((depth, process));
            under(pid, depth + 1, left, out);
        }
    }
    let mut left: Vec<Process> = chosen.into_iter().map(|(_, process)| process).collect();
    let mut out = Vec::with_capacity(left.len());
    while !left.is_empty() {
        let is_root = |process: &Process| {
            !left.iter().any(|other| other.pid == process.parent && other.pid != process.pid)
        };
        let root = left.remove(left.iter().position(is_root).unwrap_or(0));
        let pid = root.pid;
        out.push((0, root));
        under(pid, 1, &mut left, &mut out);
    }
    out
}

fn table(
    chosen: &[(usize, Process)],
    wish: &Wish,
    units: &Units,
    users: &(Users, Users),
) -> Result<String, Stop> {
    let mut text = String::new();
    let layouts: Vec<_> = wish
        .columns
        .iter()
        .map(|(name, head)| {
            layout(name)
                .map(|(_, width, right)| (name.as_str(), head, width, right))
                .ok_or_else(|| Stop::new(1, format!("no column {name:?}; ps --help lists them")))
        })
        .collect::<Result<_, _>>()?;
    let last = layouts.len().saturating_sub(1);
    let width_of = |width: usize| if width == NUMBER { units.pid_digits } else { width };
    let line = |cells: Vec<String>, text: &mut String| {
        for (at, (cell, (_, _, width, right))) in cells.into_iter().zip(&layouts).enumerate() {
            let (gap, width) = (if at == 0 { "" } else { " " }, width_of(*width));
            // Writing to a String cannot fail.
            let _ = match (right, at == last) {
                (true, _) => write!(text, "{gap}{cell:>width$}"),
                (false, true) => write!(text, "{gap}{cell}"),
                (false, false) => write!(text, "{gap}{cell:<width$}"),
            };
        }
        text.push('\n');
    };
    let heads: Vec<String> = layouts
        .iter()
        .map(|(name, own, ..)| own.as_ref().map_or_else(|| head(name).to_owned(), Clone::clone))
        .collect();
    // POSIX: no line of heads when all of them are empty.
    if !wish.no_heads && heads.iter().any(|head| !head.is_empty()) {
        line(heads, &mut text);
    }
    for (depth, process) in chosen {
        let cells = layouts.iter().map(|(name, ..)| {
            let cell = cell(process, name, units, users).0;
            let branch = *depth > 0 && matches!(*name, "args" | "cmd" | "command" | "comm");
            if branch { format!("{} \\_ {cell}", "   ".repeat(depth - 1)) } else { cell }
        });
        line(cells.collect(), &mut text);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::super::list::process;
    use super::super::list::tests::{STAT, UNITS};
    use super::*;

    fn read(line: &[&str]) -> Wish {
        wish(&line.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>()).unwrap()
    }

    fn names(wish: &Wish) -> String {
        wish.columns.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(",")
    }

    #[test]
    fn what_scripts_write_is_understood() {
        assert_eq!((names(&read(&["aux"])), read(&["aux"]).all), (BSD_USER.to_owned(), true));
        assert_eq!((names(&read(&["-ef"])), read(&["-ef"]).all), (FULL.to_owned(), true));
        assert_eq!((names(&read(&["ax"])), names(&read(&["-e"]))), (BSD.to_owned(), PLAIN.to_owned()));
        let wish = read(&["-o", "pid=,args=WHAT, HOW", "-p", "1,2", "--no-headers", "--ppid=3", "-C", "sh"]);
        assert_eq!(
            wish.columns,
            [("pid".into(), Some(String::new())), ("args".into(), Some("WHAT, HOW".into()))]
        );
        assert_eq!(
            (wish.pids, wish.parents, wish.names, wish.no_heads),
            (vec![1, 2], vec![3], vec!["sh".into()], true)
        );
        assert_eq!(read(&["-o", "pid=", "-o", "comm="]).columns.len(), 2);
        assert_eq!((read(&["42"]).pids, read(&["-u", "0"]).users), (vec![42], vec!["0".into()]));
        assert!(
            wish_fails(&["-Z"])
                && wish_fails(&["-p", "x"])
                && wish_fails(&["--nothing"])
                && wish_fails(&["-o"])
        );
    }

    fn wish_fails(line: &[&str]) -> bool {
        wish(&line.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>()).is_err()
    }

    #[test]
    fn a_line_has_the_columns_asked_for() {
        let found = process(STAT, "Uid:\t7\t7\nGid:\t8\t8\n", b"/bin/x\0-v\0", &UNITS).unwrap();
        let users = (Users::default(), Users::default());
        let wish = read(&["-o", "pid,user,stat,time,etime,pcpu,pmem,rss", "-o", "args=WHAT"]);
        let text = table(&[(0, found.clone()), (1, found)], &wish, &UNITS, &users).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "    PID USER     STAT     TIME     ELAPSED %CPU %MEM   RSS WHAT");
        assert_eq!(lines[1], "     42 7        SNsl+ 00:01:02       16:39  6.2 10.0   100 /bin/x -v");
        assert!(lines[2].ends_with("100  \\_ /bin/x -v"));
        assert!(table(&[], &read(&["-o", "nothing"]), &UNITS, &users).is_err());
    }

    #[test]
    fn the_tree_loses_nobody_even_in_a_circle() {
        let of = |pid, parent| (0, Process { pid, parent, ..Process::default() });
        let tree = forest(vec![of(1, 0), of(5, 9), of(3, 2), of(2, 1), of(9, 5)]);
        let shape: Vec<(usize, u32)> = tree.iter().map(|(depth, process)| (*depth, process.pid)).collect();
        assert_eq!(shape, [(0, 1), (1, 2), (2, 3), (0, 5), (1, 9)]);
    }

    #[test]
    fn times_are_told_as_ps_does() {
        assert_eq!(clock(59, false), "00:59");
        assert_eq!(clock(3_600, false), "01:00:00");
        assert_eq!(clock(90_061, true), "1-01:01:01");
        assert_eq!((started(3_720, 5), started(0, 90_000).as_str()), ("01:02".into(), "Jan01"));
        assert_eq!(date(1_000_000_000), "Sun Sep  9 01:46:40 2001");
    }
}
