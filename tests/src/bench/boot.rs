//! How long a PID 1 takes from its first instruction until eight trivial services run.
//!
//! Every contestant starts in the same way: a new mount and PID namespace, a stamp by `tick`, then the init in
//! the same process. The figure is the last service's stamp minus the first. `s6-svscan`, `runsvdir` and
//! BusyBox init start without any order; Octant and dinit start a graph of four levels (1, 2, 4, 1) and wait for
//! readiness at each.

use crate::table::Samples;
use octant_sys::clock::monotonic_ns;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

const SERVICES: usize = 8;
/// For each service, the ones that it waits for: four levels of 1, 2, 4 and 1.
pub(crate) const NEEDS: [&[usize]; SERVICES] = [&[], &[0], &[0], &[1], &[1], &[2], &[2], &[3, 4, 5, 6]];

/// An init with its eight services laid out in a directory of its own.
pub(crate) struct Contestant {
    pub(crate) name: &'static str,
    dir: PathBuf,
    argv: Vec<String>,
}

impl Contestant {
    fn new(name: &'static str, scratch: &Path) -> std::io::Result<Self> {
        let dir = scratch.join(name);
        fs::create_dir_all(&dir)?;
        Ok(Self { name, dir, argv: Vec::new() })
    }

    fn stamps(&self) -> PathBuf {
        self.dir.join("stamps")
    }

    fn write(&self, name: &str, text: &str, mode: u32) -> std::io::Result<()> {
        let path = self.dir.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&path, text)?;
        fs::set_permissions(path, fs::Permissions::from_mode(mode))
    }

    /// s6-svscan or runsvdir: a directory for each service with an executable `run`, here the program itself by
    /// a script-free link is not possible since it takes an argument, so `run` is a shell script of one line.
    fn scanned(name: &'static str, scratch: &Path, tick: &Path, argv: &[&str]) -> std::io::Result<Self> {
        let mut made = Self::new(name, scratch)?;
        for i in 0..SERVICES {
            let run = format!("#!/bin/sh\nexec {} {}\n", tick.display(), made.stamps().display());
            made.write(&format!("scan/t{i}/run"), &run, 0o755)?;
        }
        made.argv = argv.iter().map(|arg| (*arg).to_owned()).collect();
        made.argv.push(made.dir.join("scan").display().to_string());
        Ok(made)
    }

    fn busybox(scratch: &Path, tick: &Path) -> std::io::Result<Self> {
        let mut made = Self::new("busybox", scratch)?;
        let mut table = String::new();
        for i in 0..SERVICES {
            // It takes equal lines for one service.
            let link = made.dir.join(format!("t{i}"));
            std::os::unix::fs::symlink(tick, &link)?;
            table.push_str(&format!("::respawn:{} {}\n", link.display(), made.stamps().display()));
        }
        made.write("etc/inittab", &table, 0o644)?;
        let bind = format!("mount --bind {} /etc && exec busybox init", made.dir.join("etc").display());
        made.argv = vec!["sh".into(), "-c".into(), bind];
        Ok(made)
    }

    fn dinit(scratch: &Path, tick: &Path) -> std::io::Result<Self> {
        let mut made = Self::new("dinit", scratch)?;
        for (i, needs) in NEEDS.iter().enumerate() {
            let mut text = format!(
                "type = process\ncommand = {} {}\nready-notification = pipevar:TICK_READY_FD\n",
                tick.display(),
                made.stamps().display()
            );
            needs.iter().for_each(|need| text.push_str(&format!("depends-on: t{need}\n")));
            made.write(&format!("units/t{i}"), &text, 0o644)?;
        }
        made.write("units/boot", &format!("type = internal\ndepends-on: t{}\n", SERVICES - 1), 0o644)?;
        let (units, socket) = (made.dir.join("units"), made.dir.join("socket"));
        made.argv = ["dinit", "-m", "-d", &units.display().to_string(), "-p", &socket.display().to_string()]
            .map(str::to_owned)
            .to_vec();
        Ok(made)
    }

    fn octant(scratch: &Path, tick: &Path, binary: &Path) -> std::io::Result<Self> {
        let mut made = Self::new("octant", scratch)?;
        for (i, needs) in NEEDS.iter().enumerate() {
            let needs: Vec<String> = needs.iter().map(|need| format!("\"t{need}\"")).collect();
            made.unit(&format!("t{i}"), tick, &needs.join(", "))?;
        }
        made.namespace_init(binary);
        Ok(made)
    }

    /// Octant with one trivial unit that needs all of its services, so that its stamp is "everything is ready".
    pub(crate) fn octant_ready(scratch: &Path, tick: &Path, binary: &Path) -> std::io::Result<Self> {
        let mut made = Self::new("octant-ready", scratch)?;
        made.unit("last", tick, "\"ledger\", \"spawner\", \"agents\"")?;
        made.namespace_init(binary);
        Ok(made)
    }

    fn unit(&self, name: &str, tick: &Path, needs: &str) -> std::io::Result<()> {
        let (tick, stamps) = (tick.display(), self.stamps());
        let text = format!(
            "exec = [\"{tick}\", \"{}\"]\ntype = \"notify\"\nuser = 0\nneeds = [{needs}]\n",
            stamps.display()
        );
        self.write(&format!("instance/etc/units/{name}.toml"), &text, 0o644)
    }

    fn namespace_init(&mut self, binary: &Path) {
        let (binary, dir) = (binary.display().to_string(), self.dir.join("instance").display().to_string());
        let argv = [&binary, "init", "--mode", "namespace", "--dir", &dir, "--accept-missing", "cgroup"];
        self.argv = argv.map(str::to_owned).to_vec();
    }

    /// From the first instruction of PID 1 until everything is ready and one more process has started.
    pub(crate) fn run_to_ready(&self, tick: &Path) -> Result<u64, String> {
        self.run_until(tick, 1)
    }

    /// One start: nanoseconds from just before the init until its last service ran.
    pub(crate) fn run(&self, tick: &Path) -> Result<u64, String> {
        self.run_until(tick, SERVICES)
    }

    fn run_until(&self, tick: &Path, services: usize) -> Result<u64, String> {
        let _none_before_the_first_run = fs::remove_file(self.stamps());
        let mut child = Command::new("unshare")
            .args(["-pfm", "--mount-proc", "--kill-child"])
            .arg(tick)
            .arg(self.stamps())
            .args(&self.argv)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|e| format!("unshare: {e}"))?;
        let deadline = monotonic_ns() + 10_000_000_000;
        let stamps = loop {
            let stamps = read_stamps(&self.stamps());
            if stamps.len() > services {
                break Ok(stamps);
            }
            if monotonic_ns() > deadline {
                break Err(format!("{}: {} of {services} services after 10 s", self.name, stamps.len()));
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        let stopped = child.kill().and_then(|()| child.wait());
        stopped.map_err(|e| format!("{}: {e}", self.name))?;
        let stamps = stamps?;
        Ok(stamps[services] - stamps[0])
    }
}

/// The stamps in the order in which they were written; a line that is still being written is left out.
fn read_stamps(path: &Path) -> Vec<u64> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let mut stamps: Vec<u64> =
        text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')?.parse().ok()).collect();
    stamps.sort_unstable();
    stamps
}

/// Where a program is on the path.
pub(crate) fn found(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(|file| file.exists())
}

/// Whether a program is on the path.
pub(crate) fn installed(program: &str) -> bool {
    found(program).is_some()
}

/// Runs everybody in turn, `rounds` times, after one round that is not counted.
pub(crate) fn race(
    scratch: &Path,
    tick: &Path,
    binary: &Path,
    rounds: usize,
) -> Result<Vec<(&'static str, Samples)>, String> {
    let made =
        |result: std::io::Result<Contestant>| result.map_err(|e| format!("laying out the services: {e}"));
    let mut contestants = vec![made(Contestant::octant(scratch, tick, binary))?];
    if installed("busybox") {
        contestants.push(made(Contestant::busybox(scratch, tick))?);
    }
    if installed("dinit") {
        contestants.push(made(Contestant::dinit(scratch, tick))?);
    }
    if installed("runsvdir") {
        contestants.push(made(Contestant::scanned("runit", scratch, tick, &["runsvdir"]))?);
    }
    if installed("s6-svscan") {
        contestants.push(made(Contestant::scanned("s6", scratch, tick, &["s6-svscan"]))?);
    }
    let mut samples = vec![Vec::new(); contestants.len()];
    for round in 0..=rounds {
        for (contestant, samples) in contestants.iter().zip(&mut samples) {
            let took = contestant.run(tick)?;
            if round > 0 {
                samples.push(took);
            }
        }
    }
    Ok(contestants.iter().map(|c| c.name).zip(samples.into_iter().map(Samples::new)).collect())
}
