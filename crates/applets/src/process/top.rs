//! `top`: the busiest processes, again and again. What agents do is `octant top`'s.

use super::list::{Process, Units, Users, printable, processes};
use crate::options::{Options, Stop, failed, run};
use crate::output::print;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

const HELP: &str = "\
Usage: top [-b] [-n COUNT] [-d SECONDS] [-p PID,...] [-u USER]
Show the busiest processes, again and again; q ends it, M sorts by memory, P by processor, N by number.

  -b    print page after page, without a terminal
  -n    so many pages
  -d    every so many seconds (3)
  -p    only these processes;  -u only this user's
";

/// By what is sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Processor,
    Memory,
    Number,
}

pub(crate) fn top(arguments: Vec<OsString>) -> i32 {
    run("top", || {
        let options =
            Options::read("top", HELP, "b|batch-mode n|iterations= d|delay= p|pid= u|user= w?", &arguments)?;
        let count: u64 = options.parsed("n")?.unwrap_or(u64::MAX);
        let delay: f64 = options.parsed("d")?.unwrap_or(3.0);
        // Between a twentieth of a second and a day.
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "clamped to a small range before"
        )]
        let delay_ms = (delay.clamp(0.05, 86_400.0) * 1000.0) as u32;
        let batch = options.has("b");
        let keys = if batch { None } else { Keys::new() };
        if !batch && keys.is_none() {
            return Err(Stop::new(1, "standard input is no terminal; top -b prints page after page"));
        }
        let mut order = Order::Processor;
        let mut before: HashMap<u32, u64> = HashMap::new();
        let mut before_ns = 0;
        for round in 0..count {
            let units = Units::here();
            let now_ns = octant_sys::clock::boottime_ns();
            let mut all = processes(Path::new("/proc"), &units).map_err(failed("/proc"))?;
            retain(&mut all, &options)?;
            let passed = (now_ns - before_ns).saturating_mul(units.ticks) / 1_000_000_000;
            let rows: Vec<(u64, Process)> =
                all.into_iter().map(|process| (share(&process, &before, passed), process)).collect();
            before = rows.iter().map(|(_, process)| (process.pid, process.ticks)).collect();
            before_ns = now_ns;
            let (height, width) = match &keys {
                Some(_) => octant_sys::console::size(io::stdout())
                    .map_or((24, 80), |(h, w)| (usize::from(h), usize::from(w))),
                None => (usize::MAX, usize::MAX),
            };
            let text = page(rows, order, &units, (height, width));
            let code = print("top", &if batch { text + "\n" } else { format!("\x1b[H\x1b[J{text}") });
            if code != 0 || round + 1 == count {
                return Ok(code);
            }
            match keys.as_ref().map(|keys| keys.wait(delay_ms)) {
                None => std::thread::sleep(std::time::Duration::from_millis(delay_ms.into())),
                Some(Some(b'q' | 3)) => break,
                Some(Some(b'M')) => order = Order::Memory,
                Some(Some(b'P')) => order = Order::Processor,
                Some(Some(b'N')) => order = Order::Number,
                Some(_) => {}
            }
        }
        Ok(0)
    })
}

fn retain(all: &mut Vec<Process>, options: &Options) -> Result<(), Stop> {
    if let Some(list) = options.text("p") {
        all.retain(|process| list.split(',').any(|pid| pid == process.pid.to_string()));
    }
    if let Some(user) = options.text("u") {
        let uid = Users::of_users().id(&user).ok_or_else(|| Stop::new(1, format!("no user {user}")))?;
        all.retain(|process| process.uid.1 == uid);
    }
    Ok(())
}

/// How much of one processor it used since the last page, in thousandths; on the first page since it began.
fn share(process: &Process, before: &HashMap<u32, u64>, passed: u64) -> u64 {
    let used = process.ticks.saturating_sub(before.get(&process.pid).copied().unwrap_or(0));
    used.saturating_mul(1000) / passed.max(1)
}

fn page(
    mut rows: Vec<(u64, Process)>,
    order: Order,
    units: &Units,
    (height, width): (usize, usize),
) -> String {
    let states = |wanted: &str| rows.iter().filter(|(_, process)| wanted.contains(process.state)).count();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: Vec<&str> = load.split_ascii_whitespace().take(3).collect();
    let mut lines = vec![
        format!(
            "top - up {}:{:02}, load average: {}",
            units.uptime / 3_600,
            units.uptime / 60 % 60,
            load.join(", ")
        ),
        format!(
            "Tasks: {} total, {} running, {} sleeping, {} stopped, {} zombie",
            rows.len(),
            states("R"),
            states("SDI"),
            states("Tt"),
            states("Z")
        ),
        memory(&fs::read_to_string("/proc/meminfo").unwrap_or_default()),
        String::new(),
        "    PID USER      PR  NI    VIRT    RES S  %CPU  %MEM     TIME+ COMMAND".into(),
    ];
    match order {
        Order::Processor => rows.sort_by_key(|(share, process)| (std::cmp::Reverse(*share), process.pid)),
        Order::Memory => {
            rows.sort_by_key(|(_, process)| (std::cmp::Reverse(process.resident_kib), process.pid))
        }
        Order::Number => rows.sort_by_key(|(_, process)| process.pid),
    }
    let users = Users::of_users();
    for (share, process) in rows.iter().take(height.saturating_sub(lines.len() + 1)) {
        let memory = process.resident_kib * 1000 / units.memory_kib;
        let hundredths = process.ticks * 100 / units.ticks;
        lines.push(format!(
            "{:>7} {:<8} {:>3} {:>3} {:>7} {:>6} {} {:>3}.{} {:>3}.{} {:>6}:{:02}.{:02} {}",
            process.pid,
            users.name(process.uid.1),
            process.priority,
            process.nice,
            process.virtual_kib,
            process.resident_kib,
            process.state,
            share / 10,
            share % 10,
            memory / 10,
            memory % 10,
            hundredths / 6_000,
            hundredths / 100 % 60,
            hundredths % 100,
            printable(&process.name),
        ));
    }
    lines.iter().map(|line| line.chars().take(width).collect::<String>() + "\n").collect()
}

fn memory(text: &str) -> String {
    let mib = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        line.and_then(|line| line.split_ascii_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) / 1024
    };
    let (total, available) = (mib("MemTotal"), mib("MemAvailable"));
    let used = total.saturating_sub(available);
    format!("MiB Mem: {total} total, {} free, {used} used, {available} available", mib("MemFree"))
}

/// The terminal without line editing, for single keys; as it was when this is dropped.
struct Keys(Termios);

impl Keys {
    fn new() -> Option<Self> {
        let old = tcgetattr(io::stdin()).ok()?;
        let mut raw = old.clone();
        raw.local_flags.remove(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG);
        tcsetattr(io::stdin(), SetArg::TCSANOW, &raw).ok()?;
        Some(Self(old))
    }

    /// A key that was pressed within this time.
    fn wait(&self, ms: u32) -> Option<u8> {
        let stdin = io::stdin();
        let mut fds = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(ms).unwrap_or(PollTimeout::MAX);
        if poll(&mut fds, timeout).ok()? == 0 {
            return None;
        }
        let mut key = [0];
        match nix::unistd::read(&stdin, &mut key) {
            // The terminal is gone.
            Ok(0) | Err(nix::Error::EIO) => Some(b'q'),
            read => read.ok().map(|_| key[0]),
        }
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        let _nothing_left_to_do = tcsetattr(io::stdin(), SetArg::TCSANOW, &self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::super::list::tests::UNITS;
    use super::*;

    #[test]
    fn the_busiest_come_first_and_no_line_is_too_long() {
        let of = |pid, ticks, kib| Process {
            pid,
            ticks,
            resident_kib: kib,
            state: 'S',
            name: "x".into(),
            ..Process::default()
        };
        let before = HashMap::from([(1, 90), (2, 0)]);
        let rows: Vec<_> =
            [of(1, 100, 5), of(2, 50, 1), of(3, 10, 9)].map(|p| (share(&p, &before, 100), p)).into();
        assert_eq!(rows.iter().map(|row| row.0).collect::<Vec<_>>(), [100, 500, 100]);
        let pids = |order, size| {
            let text = page(rows.clone(), order, &UNITS, size);
            assert!(text.lines().all(|line| line.chars().count() <= size.1));
            text.lines().skip(5).map(|line| line[..7].trim().parse::<u32>().unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(pids(Order::Processor, (24, 40)), [2, 1, 3]);
        assert_eq!(pids(Order::Memory, (24, 80)), [3, 1, 2]);
        assert_eq!(pids(Order::Number, (7, 80)), [1]);
    }
}
