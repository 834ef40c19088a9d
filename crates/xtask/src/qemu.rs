//! The virtual machine: how it is accelerated, how it is started, what its console says.

use crate::kernel::Kernel;
use crate::sh::{self, Res};
use crate::workspace::Workspace;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

pub(crate) const QEMU: &str = "qemu-system-x86_64";

/// What stands on every machine's kernel command line. panic=-1: a kernel that cannot go on restarts, which -no-reboot
/// makes the end.
pub(crate) const COMMAND_LINE: &str = "console=ttyS0 panic=-1 octant.data=/dev/vda";

/// How long a working KVM may take to run a kernel to its end without a root. It takes about one second.
const PROBE_LIMIT: Duration = Duration::from_secs(20);

/// Who executes the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Accel {
    /// The processor.
    Kvm,
    /// QEMU, about ten times slower.
    Tcg,
}

impl Accel {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        }
    }

    fn arguments(self) -> [&'static str; 4] {
        match self {
            Self::Kvm => ["-accel", "kvm", "-cpu", "host"],
            Self::Tcg => ["-accel", "tcg", "-cpu", "max"],
        }
    }

    /// KVM where it really runs a kernel, else TCG; `OCTANT_ACCEL` decides without a look.
    ///
    /// A /dev/kvm that opens and makes a machine is not enough: nested in another machine it may lack registers
    /// or instructions that a kernel uses, and fail long after. So a kernel is run once, and what came of it is
    /// kept as long as processor, host kernel and guest kernel stay the same.
    ///
    /// # Errors
    /// `OCTANT_ACCEL` is neither kvm nor tcg.
    pub(crate) fn choose(workspace: &Workspace, kernel: &Kernel) -> Res<Self> {
        match std::env::var("OCTANT_ACCEL").as_deref() {
            Ok("kvm") => return Ok(Self::Kvm),
            Ok("tcg") => return Ok(Self::Tcg),
            Ok(other) => return Err(format!("OCTANT_ACCEL={other}: write kvm or tcg")),
            Err(_) => {}
        }
        if std::fs::File::options().read(true).write(true).open("/dev/kvm").is_err() {
            return Ok(Self::Tcg);
        }
        let kept = workspace.image().join("accel");
        let this = format!("{}\n{}\n", host(), kernel.release);
        if let Some(found) =
            std::fs::read_to_string(&kept).ok().and_then(|text| text.strip_prefix(&this).map(str::to_owned))
        {
            return Ok(if found == "kvm" { Self::Kvm } else { Self::Tcg });
        }
        println!("      trying /dev/kvm with a kernel, once");
        let found = if kvm_runs(kernel)? { Self::Kvm } else { Self::Tcg };
        sh::write(&kept, this + found.name())?;
        Ok(found)
    }
}

/// What must stay the same for the answer to stay true.
fn host() -> String {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo")
        .lines()
        .find(|line| line.starts_with("model name"))
        .unwrap_or_default()
        .to_owned();
    format!("{cpu} {}", read("/proc/sys/kernel/osrelease").trim())
}

/// Runs a kernel without a root: one that gets so far as to miss it has run.
fn kvm_runs(kernel: &Kernel) -> Res<bool> {
    let mut command = Command::new(QEMU);
    command.args([
        "-M",
        "q35",
        "-m",
        "256",
        "-nodefaults",
        "-no-user-config",
        "-no-reboot",
        "-display",
        "none",
    ]);
    command.args(Accel::Kvm.arguments()).args([
        "-serial",
        "stdio",
        "-append",
        "console=ttyS0 panic=-1",
        "-kernel",
    ]);
    let mut guest = Guest::start(command.arg(&kernel.vmlinuz).stderr(Stdio::null()))?;
    let deadline = sh::now() + PROBE_LIMIT;
    loop {
        match guest.line(deadline.saturating_duration_since(sh::now())) {
            Event::Line(line) if line.contains("Kernel panic - not syncing: VFS") => return Ok(true),
            Event::Line(_) => {}
            Event::Ended | Event::Silent => return Ok(false),
        }
    }
}

/// A machine to boot.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) kernel: Kernel,
    pub(crate) initrd: PathBuf,
    /// The data disk, which is written.
    pub(crate) data: PathBuf,
    pub(crate) accel: Accel,
    pub(crate) memory_mib: u64,
    pub(crate) cpus: u64,
    /// Added to the kernel's command line.
    pub(crate) append: String,
}

impl Machine {
    /// The command that runs it; `serial` is what its console is connected to.
    pub(crate) fn command(&self, serial: &str) -> Command {
        let mut command = Command::new(QEMU);
        command
            .args(["-M", "q35", "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"])
            .args(self.accel.arguments())
            .args(["-smp", &self.cpus.to_string(), "-m", &self.memory_mib.to_string()])
            .args(["-device", "virtio-rng-pci", "-device", "i6300esb"])
            .args(["-serial", serial])
            .arg("-kernel")
            .arg(&self.kernel.vmlinuz)
            .arg("-initrd")
            .arg(&self.initrd)
            .args(["-append", &format!("{COMMAND_LINE} {}", self.append)])
            .args(["-device", "virtio-blk-pci,drive=data", "-drive"])
            .arg(format!("file={},format=raw,if=none,id=data", escaped(&self.data)));
        command
    }
}

/// QEMU reads a comma in a file name as the end of it unless it is doubled.
fn escaped(path: &Path) -> String {
    path.to_string_lossy().replace(',', ",,")
}

/// The longest kernel command line on x86 (`COMMAND_LINE_SIZE`), less what else stands on it.
const MAX_JOB: usize = 1800;

/// A command as the value of `octant.job=`: PID 1 reads `%20` as a space, and nothing else specially.
///
/// # Errors
/// The command cannot be said in that form.
pub(crate) fn encoded(job: &str) -> Res<String> {
    let why = if job.contains(|c: char| c.is_control()) {
        "it has a line break or another control character"
    } else if job.contains("%20") {
        "it has %20, which PID 1 would read as a space"
    } else if job.matches('"').count() % 2 == 1 {
        "it has a double quote without its pair, which the kernel would read as the start of a long value"
    } else if job.is_empty() {
        "it is empty"
    } else {
        let text = job.replace(' ', "%20");
        if text.len() <= MAX_JOB {
            return Ok(text);
        }
        "it is too long for a kernel command line"
    };
    Err(format!("this job cannot be given to a machine: {why}; put it into a script in an --overlay"))
}

/// A running guest whose console is read. Dropping it kills it.
pub(crate) struct Guest {
    child: Child,
    lines: Receiver<String>,
}

/// What came from the console.
pub(crate) enum Event {
    Line(String),
    Ended,
    /// Nothing within the time.
    Silent,
}

impl Guest {
    /// # Errors
    /// QEMU cannot be started.
    pub(crate) fn start(command: &mut Command) -> Res<Self> {
        let started = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let mut child = started.map_err(|error| format!("{QEMU} could not be started: {error}"))?;
        let Some(console) = child.stdout.take() else { return Err("QEMU's console is not a pipe".into()) };
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            let lines = BufReader::new(console).split(b'\n').map_while(Result::ok);
            for line in lines {
                let text = String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned();
                if sender.send(text).is_err() {
                    return;
                }
            }
        });
        Ok(Self { child, lines })
    }

    /// The next line, waiting for `limit` at the most.
    pub(crate) fn line(&mut self, limit: Duration) -> Event {
        match self.lines.recv_timeout(limit) {
            Ok(line) => Event::Line(line),
            Err(RecvTimeoutError::Timeout) => Event::Silent,
            Err(RecvTimeoutError::Disconnected) => Event::Ended,
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to kill and only its status to collect.
        let _already_ended = self.child.kill();
        let _status_is_not_needed = self.child.wait();
    }
}

/// How far a boot has come, by what its console said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Phase {
    Firmware,
    Kernel,
    /// PID 1 runs; its last message.
    Octant(String),
    /// The job has ended with this code; the machine is going down.
    JobEnded(u8),
    /// The kernel gave up; why.
    Panic(String),
}

impl Phase {
    /// The phase after `line`.
    pub(crate) fn after(self, line: &str) -> Self {
        let text = unstamped(line);
        if let Some(code) = job_exit(text) {
            return Self::JobEnded(code);
        }
        match self {
            Self::Panic(_) | Self::JobEnded(_) => self,
            _ if text.starts_with("Kernel panic") => Self::Panic(text.to_owned()),
            _ if text.starts_with("octant:") => Self::Octant(text.to_owned()),
            Self::Firmware if line.starts_with('[') => Self::Kernel,
            other => other,
        }
    }

    /// For a message: "it hung while ...".
    pub(crate) fn shown(&self) -> String {
        match self {
            Self::Firmware => "firmware or the kernel's unpacking: nothing came from the console".into(),
            Self::Kernel => "the kernel was starting: PID 1 had said nothing".into(),
            Self::Octant(last) => format!("PID 1 was running; its last message was {last:?}"),
            Self::JobEnded(code) => format!("the machine was going down after the job's exit code {code}"),
            Self::Panic(text) => text.clone(),
        }
    }
}

/// `octant: job exit CODE`.
fn job_exit(text: &str) -> Option<u8> {
    text.strip_prefix("octant: job exit ")?.split_whitespace().next()?.parse().ok()
}

/// A console line without the kernel's time stamp.
fn unstamped(line: &str) -> &str {
    let Some(rest) = line.trim_start().strip_prefix('[') else { return line };
    match rest.split_once("] ") {
        Some((stamp, text)) if stamp.trim().parse::<f64>().is_ok() => text,
        _ => line,
    }
}

/// Whether a line is the kernel's own talk, which goes into the log but not on the screen.
pub(crate) fn is_kernel_chatter(line: &str) -> bool {
    let text = unstamped(line);
    let bad = ["Kernel panic", "BUG:", "Oops:", "WARNING:", "Call Trace:", "Out of memory", "segfault at"];
    text.len() != line.len() && !text.starts_with("octant") && !bad.iter().any(|word| text.contains(word))
}

/// How a boot without a person ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) phase: Phase,
    /// It was killed since its time was over.
    pub(crate) killed: bool,
}

/// Boots `machine`, shows what is worth it, writes every line to `log`, and waits for the end.
///
/// # Errors
/// QEMU cannot be started or the log cannot be written.
pub(crate) fn watch(machine: &Machine, limit: Duration, log: &Path) -> Res<Outcome> {
    let mut guest = Guest::start(&mut machine.command("stdio"))?;
    let mut file = std::fs::File::create(log).map_err(|error| format!("{}: {error}", log.display()))?;
    let deadline = sh::now() + limit;
    let mut phase = Phase::Firmware;
    loop {
        match guest.line(deadline.saturating_duration_since(sh::now())) {
            Event::Line(line) => {
                writeln!(file, "{line}").map_err(|error| format!("{}: {error}", log.display()))?;
                if !is_kernel_chatter(&line) {
                    println!("{line}");
                }
                phase = phase.after(&line);
            }
            Event::Ended => return Ok(Outcome { phase, killed: false }),
            Event::Silent => return Ok(Outcome { phase, killed: true }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn phases(lines: &[&str]) -> Phase {
        lines.iter().fold(Phase::Firmware, |phase, line| phase.after(line))
    }

    #[test]
    fn the_phase_follows_the_console() {
        assert_eq!(phases(&["SeaBIOS"]), Phase::Firmware);
        assert_eq!(phases(&["[    0.000000] Linux version 6.12"]), Phase::Kernel);
        assert_eq!(
            phases(&["[    1.2] Run /init", "octant: mounts"]),
            Phase::Octant("octant: mounts".into())
        );
        assert_eq!(phases(&["[    1.2] octant: modules"]), Phase::Octant("octant: modules".into()));
        assert_eq!(
            phases(&["octant: ready", "octant: job exit 3", "[ 9.1] reboot: Power down"]),
            Phase::JobEnded(3)
        );
        let panic = "Kernel panic - not syncing: Attempted to kill init!";
        assert_eq!(phases(&[&format!("[    2.1] {panic}"), "[    2.2] CPU: 0"]), Phase::Panic(panic.into()));
    }

    #[test]
    fn only_the_whole_line_of_pid_1_is_an_exit_code() {
        assert_eq!(phases(&["the report says octant: job exit 0"]), Phase::Firmware);
        assert_eq!(job_exit("octant: job exit 256"), None);
        assert_eq!(job_exit("octant: job exit 0"), Some(0));
    }

    #[test]
    fn kernel_talk_is_hidden_but_not_its_cries() {
        assert!(is_kernel_chatter("[    0.52] pci 0000:00:1f.2: BAR 4"));
        assert!(is_kernel_chatter("[    0.0] Kernel command line: console=ttyS0 panic=-1"));
        for line in [
            "octant: ready",
            "[    2.1] Kernel panic - x",
            "[ 1.0] octant: job exit 0",
            "[alice] hello",
            "plain",
        ] {
            assert!(!is_kernel_chatter(line), "{line}");
        }
    }

    #[test]
    fn a_job_survives_the_kernel_command_line_or_is_refused() {
        assert_eq!(encoded("sh /a/b.sh; echo \"50%\" é").unwrap(), "sh%20/a/b.sh;%20echo%20\"50%\"%20é");
        for bad in ["", "a\nb", "echo %20", "echo \"", &"x ".repeat(1000)] {
            assert!(encoded(bad).is_err(), "{bad:.20}");
        }
    }

    #[test]
    fn a_comma_in_a_path_stays_in_the_path() {
        assert_eq!(escaped(Path::new("/a,b/c")), "/a,,b/c");
    }
}
