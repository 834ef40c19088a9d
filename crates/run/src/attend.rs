//! Waiting for the program: its output, its end, and what the person and the system want of it meanwhile.

use crate::error::{RunError, at};
use crate::terminal::{Connected, Standard};
use crate::watch::Watch;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use octant_ids::Millis;
use octant_sys::confine::signal_pidfd;
use octant_workstation::Spawned;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// By itself or by a signal: with this code.
    Code(u8),
    /// Its time was over.
    Overdue,
    /// Something that is guarded was replaced from outside.
    Unguarded,
}

impl Ended {
    /// The exit code; that of SIGKILL where the time was over.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Code(code) => code,
            Self::Overdue | Self::Unguarded => 137,
        }
    }

    /// What the record says.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::Code(_) => "it ended",
            Self::Overdue => "its time to live was over",
            Self::Unguarded => "what is guarded in the workspace was replaced from outside",
        }
    }
}

/// Signals that are meant for the program.
const PASSED_ON: [Signal; 6] =
    [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGUSR1, Signal::SIGUSR2];
/// Signals that are for this process.
const OWN: [Signal; 4] = [Signal::SIGCHLD, Signal::SIGWINCH, Signal::SIGTSTP, Signal::SIGCONT];

/// Where a signal comes from that no process sent: of those that are meant for the program, a key of the terminal.
const SI_KERNEL: i32 = 0x80;

/// How long the kernel may take to end what was killed, in milliseconds.
const END_MS: u16 = 5_000;

/// Everything inside ends with this at the latest.
#[derive(Debug)]
pub(crate) struct Tied(OwnedFd);

impl Tied {
    /// To the first process of a workstation, whose end is everybody's.
    pub(crate) fn to(spawned: &Spawned) -> Result<Self, RunError> {
        spawned.pidfd.try_clone().map(Self).map_err(at("keep the program's handle"))
    }
}

impl Drop for Tied {
    fn drop(&mut self) {
        // It has ended in the usual case; and if not, it does so with this process at the latest (PR_SET_PDEATHSIG).
        if signal_pidfd(self.0.as_fd(), Signal::SIGKILL as i32).is_ok() {
            let _ended = poll(&mut [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)], END_MS);
        }
    }
}

/// Who waits.
#[derive(Debug)]
pub(crate) struct Attendant {
    pid: Pid,
    pidfd: OwnedFd,
    // Its listener stays open for as long as the workstation is there, and nobody answers.
    _socket: OwnedFd,
    signals: SignalFd,
    deadline: TimerFd,
    watch: Watch,
    connected: Connected,
}

impl Attendant {
    /// Takes over a program that has just started.
    pub(crate) fn new(
        spawned: Spawned,
        standard: Standard,
        ttl: Option<Millis>,
        guarded: Vec<String>,
    ) -> Result<Self, RunError> {
        let failed = at("attend to the program");
        let made = (|| {
            let signals = SigSet::from_iter(PASSED_ON.into_iter().chain(OWN));
            sigprocmask(SigmaskHow::SIG_BLOCK, Some(&signals), None)?;
            let signals = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
            let deadline = TimerFd::new(ClockId::CLOCK_BOOTTIME, TimerFlags::TFD_CLOEXEC)?;
            if let Some(ttl) = ttl {
                let span = TimeSpec::from_duration(Duration::from_millis(ttl.0));
                deadline.set(Expiration::OneShot(span), TimerSetTimeFlags::empty())?;
            }
            let Spawned { pid, pidfd, socket, terminal, report: _, workspace: _none, models: _nor } = spawned;
            let watch = Watch::new(pid, guarded)?;
            let pid = Pid::from_raw(i32::try_from(pid).map_err(io::Error::other)?);
            let connected = standard.connect(terminal)?;
            Ok(Self { pid, pidfd, _socket: socket, signals, deadline, watch, connected })
        })();
        made.map_err(failed)
    }

    /// Until it has ended, and everything that it wrote has been passed on. Whatever fails, nothing runs on.
    pub(crate) fn attend(mut self) -> Result<Ended, RunError> {
        let ended = self.wait();
        if ended.is_err() {
            let _it_may_have_ended = signal_pidfd(self.pidfd.as_fd(), Signal::SIGKILL as i32);
            let _it_is_killed = waitpid(self.pid, None);
        }
        let drained = ended.and_then(|ended| self.connected.drain().map(|()| ended));
        let left = self.connected.leave();
        drained.and_then(|ended| left.map(|()| ended)).map_err(at("attend to the program"))
    }

    fn wait(&mut self) -> io::Result<Ended> {
        // What changed before the watch was there is no change for it.
        let mut mounts_changed = true;
        loop {
            match waitpid(self.pid, Some(WaitPidFlag::WNOHANG))? {
                WaitStatus::Exited(_, code) => {
                    return Ok(Ended::Code(u8::try_from(code & 0xff).unwrap_or(1)));
                }
                WaitStatus::Signaled(_, signal, _) => {
                    return Ok(Ended::Code(u8::try_from(128 + signal as i32).unwrap_or(255)));
                }
                _ => {}
            }
            if mounts_changed && self.watch.lost()?.is_some() {
                return self.kill(Ended::Unguarded);
            }
            let ready = self.poll()?;
            mounts_changed = ready.mounts;
            if ready.overdue {
                return self.kill(Ended::Overdue);
            }
            for i in ready.relays {
                if let Some(relay) = self.connected.relays.get_mut(i) {
                    relay.step()?;
                }
            }
            while let Some(info) = self.signals.read_signal()? {
                let signal = i32::try_from(info.ssi_signo).ok().and_then(|n| Signal::try_from(n).ok());
                self.signal(signal, info.ssi_code == SI_KERNEL)?;
            }
            if ready.stopped {
                self.stop()?;
            }
        }
    }

    /// Ends everything inside.
    fn kill(&self, why: Ended) -> io::Result<Ended> {
        self.pass_on(Signal::SIGKILL)?;
        waitpid(self.pid, None)?;
        Ok(why)
    }

    fn poll(&self) -> io::Result<Ready> {
        let mut fds = vec![
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.deadline.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.connected.stopped.as_fd(), PollFlags::POLLIN),
        ];
        let mounts_at = fds.len();
        fds.extend(self.watch.changes().map(|fd| PollFd::new(fd, PollFlags::POLLPRI)));
        let fixed = fds.len();
        let wants: Vec<_> = self
            .connected
            .relays
            .iter()
            .enumerate()
            .filter_map(|(i, relay)| Some((i, relay.wants()?)))
            .collect();
        fds.extend(wants.iter().map(|(_, (fd, flags))| PollFd::new(*fd, *flags)));
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let is_ready = |at: usize| fds.get(at).is_some_and(|fd| fd.any() == Some(true));
        let relays =
            wants.iter().enumerate().filter(|(at, _)| is_ready(fixed + at)).map(|(_, row)| row.0).collect();
        let stopped = fds.get(2).and_then(PollFd::revents).is_some_and(|got| got.contains(PollFlags::POLLIN));
        Ok(Ready { overdue: is_ready(1), mounts: fixed > mounts_at && is_ready(mounts_at), stopped, relays })
    }

    /// A signal came, from a process or by a key: by a key where the terminal is not read, or not yet again in the moment
    /// after `fg`.
    fn signal(&mut self, signal: Option<Signal>, by_key: bool) -> io::Result<()> {
        match signal {
            Some(signal) if by_key && self.connected.type_key(signal)? => Ok(()),
            Some(Signal::SIGWINCH) => self.connected.resize(),
            Some(Signal::SIGCONT) => {
                self.connected.enter()?;
                self.pass_on(Signal::SIGCONT)
            }
            // The program is stopped first; the word of it then stops this process.
            Some(signal) if signal == Signal::SIGTSTP || PASSED_ON.contains(&signal) => self.pass_on(signal),
            _ => Ok(()),
        }
    }

    fn pass_on(&self, signal: Signal) -> io::Result<()> {
        match signal_pidfd(self.pidfd.as_fd(), signal as i32) {
            Err(error) if error.raw_os_error() == Some(Errno::ESRCH as i32) => Ok(()),
            done => done,
        }
    }

    /// The program was stopped: so is this job, until the person's shell continues it.
    fn stop(&mut self) -> io::Result<()> {
        let mut words = [0; 64];
        // Several stops that came together are one.
        let _there_is_at_least_one = nix::unistd::read(&self.connected.stopped, &mut words);
        self.connected.leave()?;
        // The whole job, as the terminal would have done it; this process has the signal blocked and takes it now. Where
        // no shell is there to continue it, the kernel does not stop it.
        kill(Pid::from_raw(0), Signal::SIGTSTP)?;
        let stop = SigSet::from(Signal::SIGTSTP);
        sigprocmask(SigmaskHow::SIG_UNBLOCK, Some(&stop), None)?;
        sigprocmask(SigmaskHow::SIG_BLOCK, Some(&stop), None)?;
        self.connected.enter()?;
        self.pass_on(Signal::SIGCONT)
    }
}

/// What there is to do.
struct Ready {
    overdue: bool,
    mounts: bool,
    stopped: bool,
    relays: Vec<usize>,
}
