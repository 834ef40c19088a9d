//! Utilities beside those of the machine: how long each takes to start, and to go through a large file.
//!
//! Octant's, GNU's and BusyBox's take turns, each a whole process. The file is made once, and read once before, so that all
//! find it in the page cache; it is of 1 GiB unless `OCTANT_BENCH_MB` says how many MB.

use crate::boot::found;
use crate::table::{Row, Samples, ms, spread};
use octant_sys::clock::monotonic_ns;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const STARTS: usize = 200;
const PASSES: usize = 3;

/// Who takes part: what its row calls it, and how it is called.
struct Contestant {
    name: &'static str,
    program: PathBuf,
    /// Whether the utility is its first argument.
    multicall: bool,
}

/// The rows of the table.
pub(crate) fn rows(binary: &Path, scratch: &Path) -> Result<Vec<Row>, String> {
    let mut rows = Vec::new();
    eprintln!("bench: start of utilities");
    for (name, arguments) in [("true", &[][..]), ("cat", &["/dev/null"]), ("ls", &["/dev/null"])] {
        rows.push(start(binary, name, arguments)?);
    }
    let megabytes = std::env::var("OCTANT_BENCH_MB").ok().and_then(|text| text.parse().ok()).unwrap_or(1024);
    eprintln!("bench: utilities on {megabytes} MiB");
    let large = scratch.join("large");
    text(&large, megabytes * 1024 * 1024).map_err(|error| format!("{}: {error}", large.display()))?;
    let large = large.display().to_string();
    for (name, arguments) in [
        ("cat", vec![large.as_str()]),
        ("wc", vec![&large]),
        ("wc", vec!["-l", &large]),
        ("grep", vec!["-c", "qx", &large]),
        ("grep", vec!["-cE", "q[aeiou]+x|zz9", &large]),
        ("grep", vec!["-ci", "qx", &large]),
        ("grep", vec!["-cv", "qx", &large]),
        ("sort", vec!["-o", "/dev/null", &large]),
    ] {
        rows.push(pass(binary, name, &arguments, megabytes)?);
    }
    fs::remove_file(&large).map_err(|error| format!("{large}: {error}"))?;
    Ok(rows)
}

fn contestants(binary: &Path, name: &str, with_busybox: bool) -> Vec<Contestant> {
    let mut all = vec![Contestant { name: "Octant", program: binary.to_owned(), multicall: true }];
    all.extend(found(name).map(|program| Contestant { name: "GNU", program, multicall: false }));
    if with_busybox {
        all.extend(found("busybox").map(|program| Contestant { name: "BusyBox", program, multicall: true }));
    }
    all
}

/// Nanoseconds of one whole process.
fn run(contestant: &Contestant, name: &str, arguments: &[&str]) -> Result<u64, String> {
    let mut command = Command::new(&contestant.program);
    if contestant.multicall {
        command.arg(name);
    }
    // grep looks where its output goes, and into /dev/null it stops at the first match.
    let output = if name == "grep" { Stdio::piped() } else { Stdio::null() };
    command.args(arguments).env("LC_ALL", "C").stdin(Stdio::null()).stdout(output);
    let before = monotonic_ns();
    let ended = command.spawn().and_then(Child::wait_with_output);
    let took = monotonic_ns() - before;
    let ended = ended.map_err(|error| format!("{}: {error}", contestant.program.display()))?.status;
    if ended.success() || (name == "grep" && ended.code() == Some(1)) {
        return Ok(took);
    }
    Err(format!("{} {name} {arguments:?}: {ended}", contestant.name))
}

fn race(
    contestants: &[Contestant],
    name: &str,
    arguments: &[&str],
    rounds: usize,
) -> Result<Vec<Samples>, String> {
    let mut samples = vec![Vec::new(); contestants.len()];
    for _ in 0..rounds {
        for (contestant, samples) in contestants.iter().zip(&mut samples) {
            samples.push(run(contestant, name, arguments)?);
        }
    }
    Ok(samples.into_iter().map(Samples::new).collect())
}

/// Whether the first is within so many tenths of another, where that took part.
fn within(contestants: &[Contestant], samples: &[Samples], name: &str, tenths: u64) -> Option<bool> {
    let at = contestants.iter().position(|contestant| contestant.name == name)?;
    Some(samples[0].median() * 10 <= samples[at].median() * tenths)
}

fn peers(contestants: &[Contestant], samples: &[Samples], shown: fn(&Samples) -> String) -> String {
    let others = contestants.iter().zip(samples).skip(1);
    others
        .map(|(contestant, samples)| format!("{} {}", contestant.name, shown(samples)))
        .collect::<Vec<_>>()
        .join("; ")
}

fn start(binary: &Path, name: &str, arguments: &[&str]) -> Result<Row, String> {
    let contestants = contestants(binary, name, true);
    let samples = race(&contestants, name, arguments, STARTS)?;
    let (gnu, busybox) =
        (within(&contestants, &samples, "GNU", 20), within(&contestants, &samples, "BusyBox", 35));
    Ok(Row {
        what: [&["utility:", name][..], arguments, &["from start to end"]].concat().join(" "),
        ours: spread(&samples[0]),
        peers: peers(&contestants, &samples, spread),
        goal: "≤ 2x GNU, ≤ 3.5x BusyBox".into(),
        met: gnu.zip(busybox).map(|(gnu, busybox)| gnu && busybox),
    })
}

fn pass(binary: &Path, name: &str, arguments: &[&str], megabytes: u64) -> Result<Row, String> {
    let contestants = contestants(binary, name, false);
    let samples = race(&contestants, name, arguments, PASSES)?;
    let options: Vec<&str> = arguments.iter().copied().filter(|word| !word.starts_with('/')).collect();
    // A bar would end the cell.
    let options = options.join(" ").replace('|', "\\|");
    Ok(Row {
        what: format!("utility: {name} {options} on {megabytes} MiB of text"),
        ours: ms(samples[0].median()),
        peers: peers(&contestants, &samples, |samples| ms(samples.median())),
        goal: "≤ 1.5x GNU".into(),
        met: within(&contestants, &samples, "GNU", 15),
    })
}

/// Lines of words, the same each time.
fn text(path: &Path, bytes: u64) -> std::io::Result<()> {
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
    let (mut written, mut state) = (0, 0x9e37_79b9_7f4a_7c15_u64);
    let mut line = Vec::new();
    while written < bytes {
        line.clear();
        for _ in 0..8 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let length = 2 + usize::from(state.to_le_bytes()[7] % 7);
            line.extend(
                state.to_le_bytes()[..length.min(7)]
                    .iter()
                    .map(|byte| b"abcdefghijklmnopqrstuvwxyz0123456789"[usize::from(*byte) % 36]),
            );
            line.push(b' ');
        }
        line.push(b'\n');
        out.write_all(&line)?;
        written += line.len() as u64;
    }
    out.flush()
}
