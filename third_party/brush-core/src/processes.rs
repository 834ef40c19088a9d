//! Process management

use futures::FutureExt;

use crate::{error, sys};

/// A waitable future that will yield the results of a child process's execution.
pub(crate) type WaitableChildProcess = std::pin::Pin<
    Box<dyn futures::Future<Output = Result<std::process::Output, std::io::Error>> + Send + Sync>,
>;

/// Tracks a child process being awaited.
pub struct ChildProcess {
    /// A waitable future that will yield the results of a child process's execution.
    exec_future: WaitableChildProcess,
    /// If available, the process ID of the child.
    pid: Option<sys::process::ProcessId>,
    /// If available, the process group ID of the child.
    pgid: Option<sys::process::ProcessId>,
    /// What arrives for the shell that waits.
    inbox: Option<std::sync::Arc<crate::signals::Inbox>>,
    /// Whether the child becomes a job when it is stopped: it is in the foreground of an
    /// interactive shell.
    on_terminal: bool,
    /// Whether the child's interrupt is the shell's too, which may not have had it (another process
    /// group) or not have it yet.
    shares_interrupt: bool,
}

impl ChildProcess {
    /// Wraps a child process and its future.
    pub fn new(
        child: sys::process::Child,
        pid: Option<sys::process::ProcessId>,
        pgid: Option<sys::process::ProcessId>,
    ) -> Self {
        Self {
            exec_future: Box::pin(child.wait_with_output()),
            pid,
            pgid,
            inbox: None,
            on_terminal: false,
            shares_interrupt: false,
        }
    }

    /// Has what arrives in `inbox` end the waiting; `on_terminal` where a stop makes the child a
    /// job, `shares_interrupt` where an interrupt of the child is one of the command line.
    #[must_use]
    pub(crate) fn attending(
        mut self,
        inbox: std::sync::Arc<crate::signals::Inbox>,
        on_terminal: bool,
        shares_interrupt: bool,
    ) -> Self {
        self.inbox = Some(inbox);
        self.on_terminal = on_terminal;
        self.shares_interrupt = shares_interrupt;
        self
    }

    /// Has the end of the child be of no interest to a terminal: it is in the background.
    pub(crate) const fn leave_terminal(&mut self) {
        self.on_terminal = false;
        self.shares_interrupt = false;
    }

    /// Returns the process's ID.
    pub const fn pid(&self) -> Option<sys::process::ProcessId> {
        self.pid
    }

    /// Returns the process's group ID.
    pub const fn pgid(&self) -> Option<sys::process::ProcessId> {
        self.pgid
    }

    /// Waits for the process to exit.
    pub async fn wait(&mut self) -> Result<ProcessWaitResult, error::Error> {
        use std::os::unix::process::ExitStatusExt as _;

        let inbox = self
            .inbox
            .clone()
            .unwrap_or_else(crate::signals::Inbox::root);
        let _told = self.pid.map(|pid| inbox.with_child(pid));
        let mut stops = self
            .on_terminal
            .then(sys::signal::chld_signal_listener)
            .transpose()?;

        // An interrupt that came before the child was there, or had the terminal, is passed on.
        let came_before = self.shares_interrupt && inbox.is_interrupted();
        let passes_on = came_before || self.on_terminal;
        let mut interrupted = false;

        loop {
            let stop = async {
                match &mut stops {
                    Some(stops) => stops.recv().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                output = &mut self.exec_future => {
                    let output = output?;
                    let ended_by = output.status.signal();
                    if self.shares_interrupt && ended_by == Some(nix::libc::SIGINT) {
                        inbox.post(sys::signal::Signal::SIGINT);
                    }
                    break Ok(ProcessWaitResult::Completed(output));
                },
                () = inbox.interrupted(), if passes_on && !interrupted => {
                    interrupted = true;
                    if let Some(pid) = self.pid {
                        let _ = nix::sys::signal::kill(
                            nix::unistd::Pid::from_raw(pid),
                            sys::signal::Signal::SIGINT,
                        );
                    }
                },
                signal = inbox.fatal_arrived() => {
                    // It may have been started too late to be told with the others of its job.
                    if let (Some(pid), false) = (self.pid, inbox.is_root()) {
                        let _ = nix::sys::signal::kill(
                            nix::unistd::Pid::from_raw(pid),
                            sys::signal::Signal::try_from(signal).ok(),
                        );
                    }
                    break Ok(ProcessWaitResult::Completed(std::process::Output {
                        status: std::process::ExitStatus::from_raw(signal),
                        stdout: vec![],
                        stderr: vec![],
                    }));
                },
                _ = stop => {
                    if sys::signal::poll_for_stopped_children()? {
                        break Ok(ProcessWaitResult::Stopped);
                    }
                },
            }
        }
    }

    pub(crate) fn poll(&mut self) -> Option<Result<std::process::Output, error::Error>> {
        let checkable_future = &mut self.exec_future;
        checkable_future
            .now_or_never()
            .map(|result| result.map_err(Into::into))
    }
}

/// Represents the result of waiting for an executing process.
pub enum ProcessWaitResult {
    /// The process completed.
    Completed(std::process::Output),
    /// The process stopped and has not yet completed.
    Stopped,
}
