//! A running `octant up` for the benches: started, waited for, measured, ended.

use octant_ids::uid;
use octant_sys::clock::monotonic_ns;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The instance; dropping it ends it in order.
pub(crate) struct Instance {
    child: Child,
    binary: PathBuf,
    pub(crate) dir: PathBuf,
}

impl Instance {
    /// Starts one below `dir` and waits until `octant health` says that every unit is well.
    pub(crate) fn start(binary: &Path, dir: &Path) -> Result<Self, String> {
        let child = Command::new(binary)
            .args(["up", "--accept-missing", "cgroup", "--dir"])
            .arg(dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|e| format!("octant up: {e}"))?;
        let mut instance = Self { child, binary: binary.to_owned(), dir: dir.to_owned() };
        let deadline = monotonic_ns() + 20_000_000_000;
        while !instance.octant(&["health"])?.status.success() {
            if monotonic_ns() > deadline {
                return Err("octant up: not healthy after 20 s".into());
            }
            if let Ok(Some(ended)) = instance.child.try_wait() {
                return Err(format!("octant up: ended with {ended}"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(instance)
    }

    /// Runs an operator's command against it.
    pub(crate) fn octant(&self, args: &[&str]) -> Result<std::process::Output, String> {
        Command::new(&self.binary)
            .arg("--dir")
            .arg(&self.dir)
            .args(args)
            .stdin(Stdio::null())
            .output()
            .map_err(|e| format!("octant {}: {e}", args.join(" ")))
    }

    /// The same, for a command that has to succeed: what it says.
    pub(crate) fn must(&self, args: &[&str]) -> Result<String, String> {
        let output = self.octant(args)?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(format!("octant {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr)))
    }

    /// A service's socket.
    pub(crate) fn socket(&self, service: &str) -> PathBuf {
        octant_ids::Layout::under(&self.dir).socket(service)
    }

    /// The proportional set size in bytes of every process of a service's user.
    pub(crate) fn pss_of_service(service: &str) -> Result<u64, String> {
        let user = uid::of_service(service).ok_or_else(|| format!("no service {service}"))?;
        let its = |process: &Path| fs::metadata(process).is_ok_and(|status| status.uid() == user);
        let all =
            fs::read_dir("/proc").map_err(|e| format!("/proc: {e}"))?.flatten().map(|entry| entry.path());
        let total: u64 = all.filter(|process| its(process)).map(|process| pss_of(&process)).sum();
        if total == 0 { Err(format!("no process of {service} was found")) } else { Ok(total) }
    }

    /// The proportional set size in bytes of every process of this binary below the instance.
    pub(crate) fn pss(&self) -> Result<u64, String> {
        let mut total = 0;
        for process in fs::read_dir("/proc").map_err(|e| format!("/proc: {e}"))?.flatten() {
            if fs::read_link(process.path().join("exe")).is_ok_and(|exe| exe == self.binary) {
                total += pss_of(&process.path());
            }
        }
        if total == 0 { Err("no process of the instance was found".into()) } else { Ok(total) }
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // `up` passes the signal on as an orderly stop; a bench that fails must not leave it behind either.
        let _asked = Command::new("kill").arg("-TERM").arg(self.child.id().to_string()).status();
        let deadline = monotonic_ns() + 10_000_000_000;
        while monotonic_ns() < deadline && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(10));
        }
        let _killed = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// `Pss:` of smaps_rollup (proc_pid_smaps(5)), in bytes; 0 for a process that has just ended.
fn pss_of(process: &Path) -> u64 {
    let text = fs::read_to_string(process.join("smaps_rollup")).unwrap_or_default();
    let kib = text
        .lines()
        .find_map(|line| line.strip_prefix("Pss:")?.trim().strip_suffix("kB")?.trim().parse().ok());
    kib.unwrap_or(0_u64) * 1024
}

/// A service's process, known by a file that it alone has open.
pub(crate) struct Process(PathBuf);

impl Process {
    pub(crate) fn with_open(file: &Path) -> Result<Self, String> {
        let has_it = |process: &Path| {
            let open = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
            open.into_iter().any(|entry| fs::read_link(entry.path()).is_ok_and(|path| path == file))
        };
        let all =
            fs::read_dir("/proc").map_err(|e| format!("/proc: {e}"))?.flatten().map(|entry| entry.path());
        let found = all.into_iter().find(|process| has_it(process));
        found.map(Self).ok_or_else(|| format!("no process has {} open", file.display()))
    }

    /// Bytes of a line of proc_pid_status(5).
    pub(crate) fn status(&self, line: &str) -> Result<u64, String> {
        let path = self.0.join("status");
        let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let kib = text
            .lines()
            .find_map(|l| l.strip_prefix(line)?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
        kib.map(|kib| kib * 1024).ok_or_else(|| format!("{}: no {line}", path.display()))
    }

    /// Nanoseconds of processor time (proc_pid_schedstat), over all threads.
    pub(crate) fn busy_ns(&self) -> Result<u64, String> {
        let dir = self.0.join("task");
        let mut total = 0;
        for thread in fs::read_dir(&dir).map_err(|e| format!("{}: {e}", dir.display()))?.flatten() {
            let text = fs::read_to_string(thread.path().join("schedstat")).unwrap_or_default();
            total += text.split(' ').next().and_then(|ns| ns.parse::<u64>().ok()).unwrap_or(0);
        }
        Ok(total)
    }

    /// Waits until it rests: until what it does by itself is done.
    pub(crate) fn rests(&self) -> Result<(), String> {
        let ends = monotonic_ns() + 120_000_000_000;
        let mut before = self.busy_ns()?;
        while monotonic_ns() < ends {
            std::thread::sleep(Duration::from_secs(2));
            let now = self.busy_ns()?;
            if now.saturating_sub(before) < 50_000_000 {
                return Ok(());
            }
            before = now;
        }
        Err("the process does not come to rest".into())
    }
}
