//! `renice`, `ionice`, `chrt`, `taskset` and `prlimit`: how processes are scheduled, and their limits.

use super::become_command;
use super::list::Users;
use crate::options::{Options, Stop, because, failed, parse, run};
use crate::output::{complain, print};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use octant_sys::schedule::{self, Limit, Target};
use std::ffi::OsString;

const RENICE_HELP: &str = "\
Usage: renice [-n] PRIORITY [-p | -g | -u] ID...
Change the nice value of running processes: -20 is the most favourable, 19 the least.

  --relative    add PRIORITY to what it is
  -p    the following are processes (as without an option);  -g groups of processes;  -u users
";

const IONICE_HELP: &str = "\
Usage: ionice [-c CLASS] [-n LEVEL] [-t] -p PID...
       ionice [-c CLASS] [-n LEVEL] [-t] COMMAND...
       ionice -p PID...
Show or set the class of input and output: 0 none, 1 realtime, 2 best-effort, 3 idle; levels are 0 (best) to 7.

  -t    go on where it cannot be set
";

const CHRT_HELP: &str = "\
Usage: chrt [-b | -f | -i | -o | -r] [-R] PRIORITY COMMAND...
       chrt [-b | -f | -i | -o | -r] -p PRIORITY PID
       chrt -p PID
       chrt -m
Show or set the scheduling policy: -f first in first out, -r round robin (as without an option), -o other, -b batch,
-i idle.

  -R    children begin with the usual policy
  -m    show what priorities there are
";

const TASKSET_HELP: &str = "\
Usage: taskset [-c] MASK COMMAND...
       taskset [-c] -p [MASK] PID
Show or set on which processors a process may run.

  -c    MASK is a list like 0,2-3 and no number in hexadecimal
  -p    a running process
";

const PRLIMIT_HELP: &str = "\
Usage: prlimit [-p PID] [--RESOURCE[=SOFT:HARD]]... [COMMAND...]
Show or set the limits of a process. A limit is SOFT:HARD, or one number for both; `unlimited` is none.
Resources: as core cpu data fsize locks memlock msgqueue nice nofile nproc rss rtprio rttime sigpending stack
";

pub(crate) fn renice(arguments: Vec<OsString>) -> i32 {
    run("renice", || {
        let mut words: Vec<String> =
            arguments.iter().skip(1).map(|w| w.to_string_lossy().into_owned()).collect();
        // The value may begin with a dash; the rest is plain enough to be read here.
        if let Err(stop) = Options::read("renice", RENICE_HELP, "", &arguments[..arguments.len().min(2)])
            && matches!(words.first().map(String::as_str), Some("--help" | "--version"))
        {
            return Err(stop);
        }
        let relative =
            words.iter().position(|word| word == "--relative").map(|at| words.remove(at)).is_some();
        let at = words
            .iter()
            .position(|word| word == "-n" || word == "--priority")
            .map(|at| (words.remove(at), at).1);
        let at = at.unwrap_or(0);
        if at >= words.len() {
            return Err(Stop::new(1, "no priority given; renice --help lists what there is"));
        }
        let value: i32 = parse(&words.remove(at))?;
        let (mut kind, mut code, mut any) = ('p', 0, false);
        for word in words {
            match word.as_str() {
                "-p" | "--pid" => kind = 'p',
                "-g" | "--pgrp" => kind = 'g',
                "-u" | "--user" => kind = 'u',
                _ => {
                    any = true;
                    let target = target(kind, &word)?;
                    let old = schedule::nice(target).map_err(failed(&word))?;
                    let new = if relative { old.saturating_add(value) } else { value }.clamp(-20, 19);
                    if let Err(error) = schedule::set_nice(target, new) {
                        complain("renice", &because(&word, &error));
                        code = 1;
                    } else {
                        let what = match target {
                            Target::Process(_) => "process ID",
                            Target::Group(_) => "process group ID",
                            Target::User(_) => "user ID",
                        };
                        print("renice", &format!("{word} ({what}) old priority {old}, new priority {new}\n"));
                    }
                }
            }
        }
        if any { Ok(code) } else { Err(Stop::new(1, "no process given")) }
    })
}

fn target(kind: char, word: &str) -> Result<Target, Stop> {
    Ok(match kind {
        'g' => Target::Group(parse(word)?),
        'u' => {
            Target::User(Users::of_users().id(word).ok_or_else(|| Stop::new(1, format!("no user {word}")))?)
        }
        _ => Target::Process(parse(word)?),
    })
}

const IO_CLASSES: [&str; 4] = ["none", "realtime", "best-effort", "idle"];

pub(crate) fn ionice(arguments: Vec<OsString>) -> i32 {
    run("ionice", || {
        let options =
            Options::read("ionice", IONICE_HELP, "+ c|class= n|classdata= p|pid= t|ignore", &arguments)?;
        let class = options.text("c").map(|text| io_class(&text)).transpose()?;
        let level: Option<u8> = options.parsed("n")?;
        let setting = class.is_some() || level.is_some();
        let class = class.unwrap_or(2);
        let level = if class == 1 || class == 2 { level.unwrap_or(4).min(7) } else { 0 };
        let mut pids: Vec<u32> = options.all("p").map(|pid| parse(&pid)).collect::<Result<_, _>>()?;
        let by_pid = !pids.is_empty();
        if by_pid {
            pids.extend(options.words().iter().map(|pid| parse(pid)).collect::<Result<Vec<u32>, _>>()?);
        } else {
            pids.push(0);
        }
        for pid in pids {
            if setting {
                match schedule::set_io_priority(pid, (class, level)) {
                    Err(_) if options.has("t") => {}
                    other => other.map_err(failed(format_args!("process {pid}")))?,
                }
            } else if by_pid || options.rest.is_empty() {
                let (class, level) =
                    schedule::io_priority(pid).map_err(failed(format_args!("process {pid}")))?;
                let name = IO_CLASSES.get(usize::from(class)).copied().unwrap_or("unknown");
                let level = if class == 3 { String::new() } else { format!(": prio {level}") };
                print("ionice", &format!("{name}{level}\n"));
            }
        }
        if by_pid || options.rest.is_empty() { Ok(0) } else { Err(become_command(&options.rest)) }
    })
}

fn io_class(text: &str) -> Result<u8, Stop> {
    let by_name = IO_CLASSES.iter().position(|name| *name == text).and_then(|at| u8::try_from(at).ok());
    by_name
        .or_else(|| text.parse().ok().filter(|class| *class < 4))
        .ok_or_else(|| Stop::new(1, format!("{text:?} is no class")))
}

/// sched(7), by number.
const POLICIES: [(&str, &str, i32); 6] = [
    ("o", "SCHED_OTHER", 0),
    ("f", "SCHED_FIFO", 1),
    ("r", "SCHED_RR", 2),
    ("b", "SCHED_BATCH", 3),
    ("i", "SCHED_IDLE", 5),
    // Only shown: to set it takes three times, which no option here has.
    ("", "SCHED_DEADLINE", 6),
];
const RESET_ON_FORK: i32 = 0x4000_0000;

pub(crate) fn chrt(arguments: Vec<OsString>) -> i32 {
    run("chrt", || {
        let table = "+ b|batch f|fifo i|idle o|other r|rr R|reset-on-fork p|pid m|max v|verbose";
        let options = Options::read("chrt", CHRT_HELP, table, &arguments)?;
        if options.has("m") {
            let line = |(_, name, policy): &(_, _, i32)| {
                let range = schedule::priorities(*policy).map(|(least, most)| format!("{least}/{most}"));
                format!("{name} min/max priority\t: {}\n", range.unwrap_or_else(|_| "not supported".into()))
            };
            return Ok(print("chrt", &POLICIES.iter().map(line).collect::<String>()));
        }
        let chosen = POLICIES.iter().find(|(letter, ..)| options.has(letter));
        let words = options.words();
        if options.has("p") && words.len() == 1 {
            let pid: u32 = parse(&words[0])?;
            let (policy, priority) = schedule::policy(pid).map_err(failed(format_args!("process {pid}")))?;
            let known = POLICIES.iter().find(|(.., number)| *number == policy & !RESET_ON_FORK);
            let name = known.map_or("unknown", |(_, name, _)| name);
            let reset = if policy & RESET_ON_FORK != 0 { "|SCHED_RESET_ON_FORK" } else { "" };
            let text = format!(
                "pid {pid}'s current scheduling policy: {name}{reset}\npid {pid}'s current scheduling priority: {priority}\n"
            );
            return Ok(print("chrt", &text));
        }
        let (_, _, policy) = chosen.copied().unwrap_or(POLICIES[2]);
        let policy = policy | if options.has("R") { RESET_ON_FORK } else { 0 };
        let [priority, rest @ ..] = &words[..] else {
            return Err(Stop::new(1, "no priority given; chrt --help lists what there is"));
        };
        let priority: i32 = parse(priority)?;
        let pid = match (options.has("p"), rest) {
            (true, [pid]) => parse(pid)?,
            (true, _) => return Err(Stop::new(1, "one process has to be given")),
            (false, _) => 0,
        };
        schedule::set_policy(pid, policy, priority).map_err(failed("scheduling policy"))?;
        if options.has("p") { Ok(0) } else { Err(become_command(&options.rest[1..])) }
    })
}

pub(crate) fn taskset(arguments: Vec<OsString>) -> i32 {
    run("taskset", || {
        let options = Options::read("taskset", TASKSET_HELP, "+ c|cpu-list p|pid a|all-tasks", &arguments)?;
        let words = options.words();
        let as_list = options.has("c");
        let read = |text: &str| if as_list { processor_list(text) } else { processor_mask(text) };
        let show = |set: &CpuSet| {
            let listed = processors(set);
            if as_list {
                format!("list: {}", as_ranges(&listed))
            } else {
                format!("mask: {:x}", mask_of(&listed))
            }
        };
        if !options.has("p") {
            let [mask, ..] = &words[..] else { return Err(Stop::new(1, "no mask given")) };
            sched_setaffinity(Pid::from_raw(0), &read(mask)?).map_err(failed("processors"))?;
            return Err(become_command(&options.rest[1..]));
        }
        let (mask, pid) = match &words[..] {
            [pid] => (None, pid),
            [mask, pid] => (Some(read(mask)?), pid),
            _ => return Err(Stop::new(1, "one process has to be given")),
        };
        let number: i32 = parse(pid)?;
        let at = || failed(format!("process {number}"));
        let now = sched_getaffinity(Pid::from_raw(number)).map_err(at())?;
        print("taskset", &format!("pid {number}'s current affinity {}\n", show(&now)));
        if let Some(mask) = mask {
            sched_setaffinity(Pid::from_raw(number), &mask).map_err(at())?;
            let new = sched_getaffinity(Pid::from_raw(number)).map_err(at())?;
            print("taskset", &format!("pid {number}'s new affinity {}\n", show(&new)));
        }
        Ok(0)
    })
}

fn set_of(numbers: impl IntoIterator<Item = usize>) -> Option<CpuSet> {
    let mut set = CpuSet::new();
    let mut any = false;
    for number in numbers {
        set.set(number).ok()?;
        any = true;
    }
    any.then_some(set)
}

fn processor_mask(text: &str) -> Result<CpuSet, Stop> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    let mask = u128::from_str_radix(&digits.replace(',', ""), 16).ok();
    let set = mask.and_then(|mask| set_of((0..128).filter(|bit| mask >> bit & 1 == 1)));
    set.ok_or_else(|| Stop::new(1, format!("{text:?} is no mask of processors")))
}

fn processor_list(text: &str) -> Result<CpuSet, Stop> {
    numbers(text).and_then(set_of).ok_or_else(|| Stop::new(1, format!("{text:?} is no list of processors")))
}

/// The numbers of a list like `0,2-3`; `0-8:2` has every second one.
pub(crate) fn numbers(text: &str) -> Option<Vec<usize>> {
    let mut out = Vec::new();
    for part in text.trim().split(',') {
        let (range, step) = part.split_once(':').map_or((part, Ok(1)), |(range, step)| (range, step.parse()));
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        if last > 1 << 16 {
            return None;
        }
        out.extend((first..=last).step_by(step.ok().filter(|step| *step > 0)?));
    }
    Some(out)
}

fn processors(set: &CpuSet) -> Vec<usize> {
    (0..CpuSet::count()).filter(|number| set.is_set(*number).unwrap_or(false)).collect()
}

fn mask_of(numbers: &[usize]) -> u128 {
    numbers.iter().filter(|number| **number < 128).fold(0, |mask, number| mask | 1 << number)
}

/// `0-1,4`.
pub(crate) fn as_ranges(numbers: &[usize]) -> String {
    let mut parts: Vec<(usize, usize)> = Vec::new();
    for number in numbers {
        match parts.last_mut() {
            Some((_, last)) if *last + 1 == *number => *last = *number,
            _ => parts.push((*number, *number)),
        }
    }
    let part = |(first, last): &(usize, usize)| {
        match last - first {
            0 => first.to_string(),
            // As util-linux writes two.
            1 => format!("{first},{last}"),
            _ => format!("{first}-{last}"),
        }
    };
    parts.iter().map(part).collect::<Vec<_>>().join(",")
}

/// getrlimit(2): name, number on this architecture, what it is, in what it counts.
const RESOURCES: [(&str, u32, &str, &str); 16] = [
    ("as", 9, "address space limit", "bytes"),
    ("core", 4, "max core file size", "bytes"),
    ("cpu", 0, "CPU time", "seconds"),
    ("data", 2, "max data size", "bytes"),
    ("fsize", 1, "max file size", "bytes"),
    ("locks", 10, "max number of file locks held", "locks"),
    ("memlock", 8, "max locked-in-memory address space", "bytes"),
    ("msgqueue", 12, "max bytes in POSIX mqueues", "bytes"),
    ("nice", 13, "max nice prio allowed to raise", ""),
    ("nofile", 7, "max number of open files", "files"),
    ("nproc", 6, "max number of processes", "processes"),
    ("rss", 5, "max resident set size", "bytes"),
    ("rtprio", 14, "max real-time priority", ""),
    ("rttime", 15, "timeout for real-time tasks", "microsecs"),
    ("sigpending", 11, "max number of pending signals", "signals"),
    ("stack", 3, "max stack size", "bytes"),
];

pub(crate) fn prlimit(arguments: Vec<OsString>) -> i32 {
    run("prlimit", || {
        let table = "+ p|pid= |as? |core? |cpu? |data? |fsize? |locks? |memlock? |msgqueue? |nice? |nofile? |nproc? |rss? \
            |rtprio? |rttime? |sigpending? |stack? c? n? u? s? v? |noheadings |raw";
        let options = Options::read("prlimit", PRLIMIT_HELP, table, &arguments)?;
        let pid: u32 = options.parsed("p")?.unwrap_or(0);
        let (mut shown, mut set) = (Vec::new(), false);
        for row in RESOURCES {
            let letter = match row.0 {
                "core" => "c",
                "nofile" => "n",
                "nproc" => "u",
                "stack" => "s",
                "as" => "v",
                _ => "",
            };
            let value = options.text(row.0).or_else(|| options.text(letter));
            match value.as_deref() {
                None => {}
                Some("") => shown.push(row),
                Some(text) => {
                    set = true;
                    let old = schedule::limit(pid, row.1, None).map_err(failed(row.0))?;
                    schedule::limit(pid, row.1, Some(new_limit(text, old)?)).map_err(failed(row.0))?;
                }
            }
        }
        if !options.rest.is_empty() {
            return Err(become_command(&options.rest));
        }
        if shown.is_empty() && !set {
            shown.extend(RESOURCES);
        }
        let mut text = String::new();
        if !options.has("noheadings") && !shown.is_empty() {
            text.push_str("RESOURCE   DESCRIPTION                             SOFT      HARD UNITS\n");
        }
        for (name, number, about, units) in shown {
            let (soft, hard) = schedule::limit(pid, number, None).map_err(failed(name))?;
            let number = |limit: u64| if limit == u64::MAX { "unlimited".into() } else { limit.to_string() };
            let name = name.to_uppercase();
            text.push_str(&format!(
                "{name:<10} {about:<34} {:>9} {:>9} {units}\n",
                number(soft),
                number(hard)
            ));
        }
        Ok(print("prlimit", &text))
    })
}

fn new_limit(text: &str, (soft, hard): Limit) -> Result<Limit, Stop> {
    let one = |text: &str, old: u64| match text {
        "" => Ok(old),
        "unlimited" | "infinity" => Ok(u64::MAX),
        number => parse(number),
    };
    let (new_soft, new_hard) = match text.split_once(':') {
        Some((new_soft, new_hard)) => (one(new_soft, soft)?, one(new_hard, hard)?),
        None => (one(text, soft)?, one(text, hard)?),
    };
    if new_soft > new_hard {
        return Err(Stop::new(1, format!("{text}: the soft limit would be above the hard one")));
    }
    Ok((new_soft, new_hard))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_written_as_masks_and_lists() {
        assert_eq!(numbers("0,2-4,8-12:2"), Some(vec![0, 2, 3, 4, 8, 10, 12]));
        assert!(["", "x", "1-", "0-99999999", "1:0"].iter().all(|text| numbers(text).is_none()));
        assert_eq!(as_ranges(&[0, 1, 2, 5, 7, 8]), "0-2,5,7,8");
        assert_eq!(processors(&processor_mask("0x13").unwrap()), [0, 1, 4]);
        assert_eq!(mask_of(&processors(&processor_list("0,1,4").unwrap())), 0x13);
        assert!(
            processor_mask("0").is_err() && processor_mask("zz").is_err() && processor_list("99999").is_err()
        );
    }

    #[test]
    fn a_limit_is_one_number_or_two() {
        assert_eq!(new_limit("5", (1, 9)), Ok((5, 5)));
        assert_eq!(new_limit("5:", (1, 9)), Ok((5, 9)));
        assert_eq!(new_limit(":7", (1, 9)), Ok((1, 7)));
        assert_eq!(new_limit("1:unlimited", (1, 9)), Ok((1, u64::MAX)));
        assert!(new_limit("8:7", (1, 9)).is_err() && new_limit("x", (1, 9)).is_err());
    }

    #[test]
    fn classes_have_names_and_numbers() {
        assert_eq!((io_class("idle"), io_class("2")), (Ok(3), Ok(2)));
        assert!(io_class("4").is_err() && io_class("fast").is_err());
    }
}
