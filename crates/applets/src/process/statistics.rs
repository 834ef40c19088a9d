//! `vmstat`.

use crate::options::{Options, Stop, failed, parse, run};
use crate::output::print;
use std::ffi::OsString;
use std::fs;
use std::time::Duration;

const HELP: &str = "\
Usage: vmstat [-n] [SECONDS [COUNT]]
Show processes, memory, swap, input and output, and the processors: since the boot, then for every interval.
";

const HEADS: &str = "\
procs -----------memory---------- ---swap-- -----io---- -system-- ------cpu-----
 r  b   swpd   free   buff  cache   si   so    bi    bo   in   cs us sy id wa st
";

/// What the kernel has counted since the boot, and what there is now.
#[derive(Debug, Default, Clone)]
struct Counts {
    running: u64,
    blocked: u64,
    /// swapped, free, buffers, cache, in KiB.
    memory: [u64; 4],
    /// swapped in and out, read and written in KiB, interrupts, switches.
    events: [u64; 6],
    /// user, system, idle, waiting, stolen.
    ticks: [u64; 5],
    seconds: u64,
}

pub(crate) fn vmstat(arguments: Vec<OsString>) -> i32 {
    run("vmstat", || {
        let options = Options::read("vmstat", HELP, "n|one-header w|wide a|active", &arguments)?;
        let words = options.words();
        let every: Option<u64> = words.first().map(|text| parse(text)).transpose()?;
        let count: Option<u64> = words.get(1).map(|text| parse(text)).transpose()?;
        let count = count.unwrap_or(if every.is_some() { u64::MAX } else { 1 });
        if words.len() > 2 || every == Some(0) {
            return Err(Stop::new(1, "an interval of at least one second and a count are all it takes"));
        }
        let mut before = Counts { seconds: 0, ..Counts::default() };
        for round in 0..count {
            if round > 0 {
                std::thread::sleep(Duration::from_secs(every.unwrap_or(1)));
            }
            let now = counts()?;
            let heads = if round == 0 { HEADS } else { "" };
            let code = print("vmstat", &format!("{heads}{}", line(&before, &now)));
            if code != 0 {
                return Ok(code);
            }
            before = now;
        }
        Ok(0)
    })
}

fn counts() -> Result<Counts, Stop> {
    let read = |path: &str| fs::read_to_string(path).map_err(failed(path));
    let (stat, memory) = (read("/proc/stat")?, read("/proc/meminfo")?);
    let vm = read("/proc/vmstat")?;
    Ok(Counts {
        seconds: octant_sys::clock::boottime_ns() / 1_000_000_000,
        ..parse_counts(&stat, &memory, &vm)
    })
}

fn parse_counts(stat: &str, memory: &str, vm: &str) -> Counts {
    let number = |text: &str, key: &str, at: usize| -> u64 {
        let line = text.lines().find(|line| line.split([' ', ':']).next() == Some(key));
        line.and_then(|line| line.split_ascii_whitespace().nth(at)?.parse().ok()).unwrap_or(0)
    };
    let (s, m, v) = (|key, at| number(stat, key, at), |key| number(memory, key, 1), |key| number(vm, key, 1));
    Counts {
        running: s("procs_running", 1),
        blocked: s("procs_blocked", 1),
        memory: [
            m("SwapTotal").saturating_sub(m("SwapFree")),
            m("MemFree"),
            m("Buffers"),
            m("Cached") + m("SReclaimable"),
        ],
        // Swapping is counted in pages of 4 KiB here, reading and writing in KiB.
        events: [v("pswpin") * 4, v("pswpout") * 4, v("pgpgin"), v("pgpgout"), s("intr", 1), s("ctxt", 1)],
        ticks: [
            s("cpu", 1) + s("cpu", 2),
            s("cpu", 3) + s("cpu", 6) + s("cpu", 7),
            s("cpu", 4),
            s("cpu", 5),
            s("cpu", 8),
        ],
        seconds: 0,
    }
}

fn line(before: &Counts, now: &Counts) -> String {
    let seconds = now.seconds.saturating_sub(before.seconds).max(1);
    let rate: Vec<u64> = now
        .events
        .iter()
        .zip(before.events)
        .map(|(now, before)| now.saturating_sub(before) / seconds)
        .collect();
    let ticks: Vec<u64> =
        now.ticks.iter().zip(before.ticks).map(|(now, before)| now.saturating_sub(before)).collect();
    let all = ticks.iter().sum::<u64>().max(1);
    let share: Vec<u64> = ticks.iter().map(|ticks| (ticks * 100 + all / 2) / all).collect();
    let [swapped, free, buffers, cache] = now.memory;
    format!(
        "{:>2} {:>2} {swapped:>6} {free:>6} {buffers:>6} {cache:>6} {:>4} {:>4} {:>5} {:>5} {:>4} {:>4} {:>2} {:>2} {:>2} {:>2} {:>2}\n",
        now.running,
        now.blocked,
        rate[0],
        rate[1],
        rate[2],
        rate[3],
        rate[4],
        rate[5],
        share[0],
        share[1],
        share[2],
        share[3],
        share[4]
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_what_changed_by_the_second() {
        let stat = |user: u64, switches: u64| {
            format!(
                "cpu  {user} 0 50 50 0 0 0 0 0 0\ncpu0 1 1\nintr 10 1 2\nctxt {switches}\nprocs_running 3\nprocs_blocked 1\n"
            )
        };
        let memory = "MemFree: 7 kB\nSwapTotal: 5 kB\nSwapFree: 3 kB\nCached: 2 kB\nSReclaimable: 1 kB\n";
        let before = Counts { seconds: 10, ..parse_counts(&stat(0, 100), memory, "pgpgin 5\n") };
        let now = Counts { seconds: 12, ..parse_counts(&stat(100, 300), memory, "pgpgin 25\n") };
        let fields = line(&before, &now);
        let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
        assert_eq!(
            fields,
            ["3", "1", "2", "7", "0", "3", "0", "0", "10", "0", "0", "100", "100", "0", "0", "0", "0"]
        );
    }
}
