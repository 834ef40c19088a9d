//! The shell beside others: its start, and scripts of builtins alone. In turn, so that what else the machine does meets
//! all of them.

use crate::boot::found;
use crate::table::{Row, Samples, spread};
use octant_sys::clock::monotonic_ns;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Rounds of the start and of each script.
const STARTS: usize = 50;
const ROUNDS: usize = 11;

/// What is run, and how many times longer than bash it may take.
const SCRIPTS: [(&str, &str, u64); 3] = [
    ("shell: a loop of 20,000 rounds", "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done", 5),
    (
        "shell: 5,000 rounds of expansions and a case",
        "i=0; while [ $i -lt 5000 ]; do x=a$i; y=${x#a}; case $y in *99) z=$x;; esac; i=$((i+1)); done",
        5,
    ),
    ("shell: 500 command substitutions", "i=0; while [ $i -lt 500 ]; do x=$(echo $i); i=$((i+1)); done", 1),
];

/// A shell: the name that it is called by, and where it is.
struct Shell {
    name: &'static str,
    called: &'static str,
    path: PathBuf,
}

impl Shell {
    fn run(&self, script: &str) -> Result<u64, String> {
        let mut command = Command::new(&self.path);
        command.arg0(self.called);
        if self.name == "busybox" {
            command.arg("sh");
        }
        command.args(["-c", script]).stdin(Stdio::null()).stdout(Stdio::null());
        let before = monotonic_ns();
        let status = command.status().map_err(|error| format!("{}: {error}", self.path.display()))?;
        let took = monotonic_ns() - before;
        if status.success() { Ok(took) } else { Err(format!("{}: {status}: {script}", self.name)) }
    }
}

/// The rows; a shell that is not installed is named.
pub(crate) fn rows(binary: &Path) -> Result<Vec<Row>, String> {
    eprintln!("bench: shell");
    let mut shells = vec![Shell { name: "octant", called: "sh", path: binary.to_owned() }];
    let mut missing = Vec::new();
    for name in ["bash", "dash", "busybox"] {
        match found(name) {
            Some(path) => shells.push(Shell { name, called: name, path }),
            None => missing.push(format!("{name} not installed")),
        }
    }
    let start = race(&shells, ":", STARTS)?;
    let mut rows = vec![Row {
        what: "shell: start and end (sh -c :)".into(),
        ours: start.first().map(|(_, samples)| spread(samples)).unwrap_or_default(),
        peers: peers(&start, &missing),
        goal: "≤ 8 ms".into(),
        met: start.first().map(|(_, samples)| samples.median() <= 8_000_000),
    }];
    for (what, script, times) in SCRIPTS {
        let results = race(&shells, script, ROUNDS)?;
        let median = |name: &str| results.iter().find(|(of, _)| *of == name).map(|(_, s)| s.median());
        rows.push(Row {
            what: what.into(),
            ours: results.first().map(|(_, samples)| spread(samples)).unwrap_or_default(),
            peers: peers(&results, &missing),
            goal: if times == 1 { "≤ bash".into() } else { format!("≤ {times}x bash") },
            met: median("octant").zip(median("bash")).map(|(ours, bash)| ours <= times * bash),
        });
    }
    Ok(rows)
}

fn race(shells: &[Shell], script: &str, rounds: usize) -> Result<Vec<(&'static str, Samples)>, String> {
    let mut times: Vec<Vec<u64>> = vec![Vec::new(); shells.len()];
    for round in 0..=rounds {
        for (shell, times) in shells.iter().zip(&mut times) {
            let took = shell.run(script)?;
            // The first round reads the files from the disk.
            if round > 0 {
                times.push(took);
            }
        }
    }
    Ok(shells.iter().zip(times).map(|(shell, times)| (shell.name, Samples::new(times))).collect())
}

fn peers(results: &[(&'static str, Samples)], missing: &[String]) -> String {
    let measured = results.iter().skip(1).map(|(name, samples)| format!("{name} {}", spread(samples)));
    measured.chain(missing.iter().cloned()).collect::<Vec<_>>().join("; ")
}
