//! How long from asking for a confined process until its first instruction.
//!
//! Every contestant starts `tick`, a static program whose first act is to read the clock; the figure is that
//! stamp minus the time just before the request. bwrap and crun are started as commands, as their users do;
//! Octant is asked through its spawner's socket, as its lifecycle manager does, and separately through the whole
//! path: command line, signature, plan, two durable ledger entries, spawn.

use crate::boot::installed;
use crate::table::Samples;
use octant_sys::clock::monotonic_ns;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// A launcher of `tick`: its name and the whole command.
pub(crate) struct Launcher {
    pub(crate) name: &'static str,
    argv: Vec<String>,
}

impl Launcher {
    pub(crate) fn new(name: &'static str, argv: &[&str]) -> Self {
        Self { name, argv: argv.iter().map(|arg| (*arg).to_owned()).collect() }
    }

    /// One launch: nanoseconds until the program's first instruction.
    pub(crate) fn run(&self) -> Result<u64, String> {
        let before = monotonic_ns();
        let output = Command::new(&self.argv[0])
            .args(&self.argv[1..])
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .output()
            .map_err(|e| format!("{}: {e}", self.name))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let stamp: u64 = text.trim().parse().map_err(|_| {
            format!("{}: no stamp but {text:?} and {:?}", self.name, String::from_utf8_lossy(&output.stderr))
        })?;
        stamp.checked_sub(before).ok_or_else(|| format!("{}: a stamp from before the start", self.name))
    }
}

/// The launchers that this machine has.
pub(crate) fn peers(scratch: &Path, tick: &Path) -> Result<Vec<Launcher>, String> {
    let mut found = Vec::new();
    let tick = tick.display().to_string();
    if installed("bwrap") {
        let tail = ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--cap-drop", "ALL", "/tick"];
        let mut argv = vec!["bwrap", "--unshare-all", "--die-with-parent", "--ro-bind", &tick, "/tick"];
        argv.extend(tail);
        found.push(Launcher::new("bwrap", &argv));
    }
    for runtime in ["crun", "runc"] {
        if installed(runtime) {
            let bundle = scratch.join(runtime);
            bundle_for(runtime, &bundle, Path::new(&tick))?;
            let bundle = bundle.display().to_string();
            let id = format!("octant-bench-{}", std::process::id());
            let argv: &[&str] = if runtime == "crun" {
                &["crun", "--cgroup-manager=disabled", "run", "--bundle", &bundle, &id]
            } else {
                &["runc", "run", "--bundle", &bundle, &id]
            };
            found.push(Launcher::new(if runtime == "crun" { "crun" } else { "runc" }, argv));
        }
    }
    Ok(found)
}

/// The runtime's own default bundle, without a terminal and with `tick` as the program.
fn bundle_for(runtime: &str, dir: &Path, tick: &Path) -> Result<(), String> {
    let failed = |e: std::io::Error| format!("{runtime} bundle: {e}");
    fs::create_dir_all(dir.join("rootfs")).map_err(failed)?;
    fs::copy(tick, dir.join("rootfs/tick")).map_err(failed)?;
    let made = Command::new(runtime).arg("spec").current_dir(dir).status().map_err(failed)?;
    if !made.success() {
        return Err(format!("{runtime} spec: {made}"));
    }
    let text = fs::read_to_string(dir.join("config.json")).map_err(failed)?;
    let mut config: serde_json::Value = serde_json::from_str(&text).map_err(|e| format!("{runtime} spec: {e}"))?;
    config["process"]["terminal"] = false.into();
    config["process"]["args"] = serde_json::json!(["/tick"]);
    fs::write(dir.join("config.json"), config.to_string()).map_err(failed)
}

/// Launches everybody in turn, `rounds` times, after one round that is not counted.
pub(crate) fn race(launchers: &[Launcher], rounds: usize) -> Result<Vec<(&'static str, Samples)>, String> {
    let mut samples = vec![Vec::new(); launchers.len()];
    for round in 0..=rounds {
        for (launcher, samples) in launchers.iter().zip(&mut samples) {
            let took = launcher.run()?;
            if round > 0 {
                samples.push(took);
            }
        }
    }
    Ok(launchers.iter().map(|l| l.name).zip(samples.into_iter().map(Samples::new)).collect())
}
