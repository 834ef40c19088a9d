//! `free`.

use super::proc_file;
use crate::output::{complain, help_or_version, print};
use std::ffi::OsString;

const HELP: &str = "\
Usage: free [-b | -k | -m | -h]
Show used and free memory.

  -b    in bytes
  -k    in KiB (the default)
  -m    in MiB
  -h    in the largest unit that fits
";

pub(crate) fn free(arguments: Vec<OsString>) -> i32 {
    if let Some(code) = help_or_version(&arguments, "free", HELP) {
        return code;
    }
    let option = arguments.get(1).map_or("-k", |text| text.to_str().unwrap_or("?"));
    let unit = match option {
        "-b" => Unit::Bytes,
        "-k" => Unit::Kibi,
        "-m" => Unit::Mebi,
        "-h" => Unit::Largest,
        other => {
            complain("free", &format_args!("unknown option {other}; free --help lists what there is"));
            return 2;
        }
    };
    match proc_file("free", "/proc/meminfo") {
        Ok(text) => print("free", &table(&text, unit)),
        Err(code) => code,
    }
}

#[derive(Debug, Clone, Copy)]
enum Unit {
    Bytes,
    Kibi,
    Mebi,
    Largest,
}

impl Unit {
    fn show(self, kib: u64) -> String {
        match self {
            Self::Bytes => (kib * 1024).to_string(),
            Self::Kibi => kib.to_string(),
            Self::Mebi => (kib / 1024).to_string(),
            Self::Largest => {
                let (mut whole, mut rest, mut unit) = (kib, 0, "Ki");
                for larger in ["Mi", "Gi", "Ti"] {
                    if whole < 1024 {
                        break;
                    }
                    (rest, whole, unit) = (whole % 1024 * 10 / 1024, whole / 1024, larger);
                }
                format!("{whole}.{rest}{unit}")
            }
        }
    }
}

/// The two lines of `free`; what the kernel does not tell counts as 0.
fn table(meminfo: &str, unit: Unit) -> String {
    let kib = |key: &str| -> u64 {
        meminfo
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix(':')?.split_ascii_whitespace().next())
            .and_then(|number| number.parse().ok())
            .unwrap_or(0)
    };
    let (total, free, available) = (kib("MemTotal"), kib("MemFree"), kib("MemAvailable"));
    let cache = kib("Buffers") + kib("Cached") + kib("SReclaimable");
    let (swap, swap_free) = (kib("SwapTotal"), kib("SwapFree"));
    let memory = [total, total.saturating_sub(available), free, kib("Shmem"), cache, available];
    let swap = [swap, swap.saturating_sub(swap_free), swap_free];
    let row = |label: &str, cells: &[u64]| {
        let cells: String = cells.iter().map(|cell| format!("{:>12}", unit.show(*cell))).collect();
        format!("{label:<6}{cells}\n")
    };
    let heads: String = ["total", "used", "free", "shared", "buff/cache", "available"]
        .iter()
        .map(|head| format!("{head:>12}"))
        .collect();
    format!("{:<6}{heads}\n{}{}", "", row("Mem:", &memory), row("Swap:", &swap))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMINFO: &str = "MemTotal:        2048 kB\nMemFree:          512 kB\nMemAvailable:    1536 kB\n\
        Buffers:           64 kB\nCached:           128 kB\nSwapCached:         9 kB\nShmem:             32 kB\n\
        SReclaimable:      64 kB\nSwapTotal:          0 kB\nSwapFree:           0 kB\n";

    #[test]
    fn the_table_adds_up() {
        let text = table(MEMINFO, Unit::Kibi);
        let rows: Vec<Vec<&str>> =
            text.lines().skip(1).map(|line| line.split_ascii_whitespace().collect()).collect();
        assert_eq!(rows[0], ["Mem:", "2048", "512", "512", "32", "256", "1536"]);
        assert_eq!(rows[1], ["Swap:", "0", "0", "0"]);
    }

    #[test]
    fn units_are_those_asked_for() {
        assert_eq!(Unit::Bytes.show(2), "2048");
        assert_eq!(Unit::Mebi.show(2047), "1");
        assert_eq!(Unit::Largest.show(1536), "1.5Mi");
        assert_eq!(Unit::Largest.show(3 * 1024 * 1024), "3.0Gi");
        assert_eq!(Unit::Largest.show(7), "7.0Ki");
    }
}
