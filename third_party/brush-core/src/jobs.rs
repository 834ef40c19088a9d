//! Job management

use std::collections::VecDeque;
use std::fmt::Display;
use std::sync::Arc;

use futures::FutureExt;

use crate::ExecutionResult;
use crate::error;
use crate::processes;
use crate::signals::Inbox;
use crate::sys;
use crate::trace_categories;
use crate::traps;

pub(crate) type JobJoinHandle = tokio::task::JoinHandle<Result<ExecutionResult, error::Error>>;
pub(crate) type JobResult = (Job, Result<ExecutionResult, error::Error>);

/// Manages the jobs that are currently managed by the shell.
#[derive(Default)]
pub struct JobManager {
    /// The jobs that are currently managed by the shell.
    pub jobs: Vec<Job>,
    /// The number of the last job that was started in the background (`$!`).
    last_background: Option<i32>,
    /// Exit codes of jobs that have ended and left the list, by number, for a later `wait`.
    ended: VecDeque<(i32, u8)>,
    /// In a subshell: the jobs of its parent, for `$(jobs -p)`.
    inherited: Vec<JobSketch>,
}

/// What `jobs` shows of a job.
#[derive(Clone)]
pub struct JobSketch {
    /// The shell-internal ID of the job.
    pub id: usize,
    /// What `$!` is for the job.
    pub number: i32,
    /// The annotation of the job.
    pub annotation: JobAnnotation,
    /// The state of the job.
    pub state: JobState,
    /// The command line of the job.
    pub command_line: String,
}

/// So many jobs that have ended stay in the list, and so many exit codes are remembered beyond it.
const REMEMBERED: usize = 1024;

/// Represents a task that is part of a job.
pub enum JobTask {
    /// An external process.
    External(processes::ChildProcess),
    /// An internal asynchronous task.
    Internal(JobJoinHandle),
}

/// Represents the result of waiting on a job task.
pub enum JobTaskWaitResult {
    /// The task has completed.
    Completed(ExecutionResult),
    /// The task was stopped.
    Stopped,
}

impl JobTask {
    /// Returns whether the task is an external process.
    pub const fn is_external(&self) -> bool {
        matches!(self, Self::External(_))
    }

    /// Waits for the task to complete. Returns the result of the wait.
    pub async fn wait(&mut self) -> Result<JobTaskWaitResult, error::Error> {
        match self {
            Self::External(process) => {
                let wait_result = process.wait().await?;
                match wait_result {
                    processes::ProcessWaitResult::Completed(output) => {
                        Ok(JobTaskWaitResult::Completed(output.into()))
                    }
                    processes::ProcessWaitResult::Stopped => Ok(JobTaskWaitResult::Stopped),
                }
            }
            Self::Internal(handle) => Ok(JobTaskWaitResult::Completed(handle.await??)),
        }
    }

    /// Polls the task for completion. Returns `Some(result)` if the task has completed,
    /// or `None` if it is still running. The result is the execution result of the task.
    /// Behaves in a best-effort manner; if an internal error occurs during polling,
    /// it will return `None`.
    fn poll(&mut self) -> Option<Result<ExecutionResult, error::Error>> {
        match self {
            Self::External(process) => {
                let check_result = process.poll();
                check_result.map(|polled_result| polled_result.map(|output| output.into()))
            }
            Self::Internal(handle) => {
                let checkable_handle = handle;
                checkable_handle.now_or_never().and_then(|r| r.ok())
            }
        }
    }
}

impl JobManager {
    /// Returns a new job manager.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a job to the job manager and marks it as the current job;
    /// returns an immutable reference to the job.
    ///
    /// # Arguments
    ///
    /// * `job` - The job to add.
    #[allow(
        clippy::missing_panics_doc,
        reason = "push() guarantees the vector length is >= 1"
    )]
    pub fn add_as_current(&mut self, mut job: Job) -> &Job {
        for j in &mut self.jobs {
            if matches!(j.annotation, JobAnnotation::Current) {
                j.annotation = JobAnnotation::Previous;
                break;
            }
        }

        self.forget_ended();
        let id = self.jobs.iter().map(|job| job.id).max().unwrap_or(0) + 1;
        job.id = id;
        job.annotation = JobAnnotation::Current;
        self.jobs.push(job);

        #[allow(clippy::unwrap_used, reason = "we just pushed an element")]
        self.jobs.last().unwrap()
    }

    /// Adds a job that runs in the background: its number is `$!` from now on.
    pub(crate) fn add_in_background(&mut self, job: Job) -> &Job {
        self.last_background = Some(job.number);
        self.add_as_current(job)
    }

    /// The number of the last job that was started in the background (`$!`).
    pub const fn last_background(&self) -> Option<i32> {
        self.last_background
    }

    /// The jobs of a subshell: none, but it knows `$!`.
    pub(crate) fn for_subshell(&self) -> Self {
        let own = self.jobs.iter().map(Job::sketch);
        Self {
            last_background: self.last_background,
            inherited: own.chain(self.inherited.iter().cloned()).collect(),
            ..Self::default()
        }
    }

    /// The jobs that `jobs` shows: in a subshell without jobs of its own, those of its parent.
    pub fn shown(&self) -> Vec<JobSketch> {
        if self.jobs.is_empty() {
            self.inherited.clone()
        } else {
            self.jobs.iter().map(Job::sketch).collect()
        }
    }

    /// Takes jobs that have ended out of a long list, so that a script which never waits does not
    /// fill the memory.
    fn forget_ended(&mut self) {
        if self.jobs.len() < REMEMBERED {
            return;
        }
        for job in &mut self.jobs {
            // Whether it has ended shows below.
            let _ = job.poll_done();
        }
        let (ended, left) = std::mem::take(&mut self.jobs)
            .into_iter()
            .partition::<Vec<_>, _>(|job| job.exit.is_some());
        self.jobs = left;
        for job in ended {
            self.remember(&job);
        }
    }

    fn remember(&mut self, job: &Job) {
        if self.ended.len() == REMEMBERED {
            self.ended.pop_front();
        }
        self.ended
            .push_back((job.number, job.exit.unwrap_or_default()));
    }

    /// Takes a job out of the list.
    pub fn remove(&mut self, id: usize) -> Option<Job> {
        let place = self.jobs.iter().position(|job| job.id == id)?;
        let job = self.jobs.remove(place);
        if job.exit.is_some() {
            self.remember(&job);
        }
        if let Some(last) = self.jobs.last_mut()
            && job.is_current()
        {
            last.annotation = JobAnnotation::Current;
        }
        Some(job)
    }

    /// The exit code of a job that has ended and left the list.
    pub fn ended(&self, number: i32) -> Option<u8> {
        let found = self.ended.iter().rev().find(|(n, _)| *n == number);
        found.map(|(_, code)| *code)
    }

    /// The job with this number, or which has a process of this number.
    pub fn by_number(&mut self, number: i32) -> Option<&mut Job> {
        self.jobs
            .iter_mut()
            .find(|job| job.number == number || job.process_ids().any(|pid| pid == number))
    }

    /// Returns the current job, if there is one.
    pub fn current_job(&self) -> Option<&Job> {
        self.jobs
            .iter()
            .find(|j| matches!(j.annotation, JobAnnotation::Current))
    }

    /// Returns a mutable reference to the current job, if there is one.
    pub fn current_job_mut(&mut self) -> Option<&mut Job> {
        self.jobs
            .iter_mut()
            .find(|j| matches!(j.annotation, JobAnnotation::Current))
    }

    /// Returns the previous job, if there is one.
    pub fn prev_job(&self) -> Option<&Job> {
        self.jobs
            .iter()
            .find(|j| matches!(j.annotation, JobAnnotation::Previous))
    }

    /// Returns a mutable reference to the previous job, if there is one.
    pub fn prev_job_mut(&mut self) -> Option<&mut Job> {
        self.jobs
            .iter_mut()
            .find(|j| matches!(j.annotation, JobAnnotation::Previous))
    }

    /// Tries to resolve the given job specification to a job.
    ///
    /// # Arguments
    ///
    /// * `job_spec` - The job specification to resolve.
    pub fn resolve_job_spec(&mut self, job_spec: &str) -> Option<&mut Job> {
        let remainder = job_spec.strip_prefix('%')?;

        match remainder {
            "%" | "+" => self.current_job_mut(),
            "-" => self.prev_job_mut(),
            s if s.chars().all(char::is_numeric) => {
                let id = s.parse::<usize>().ok()?;
                self.jobs.iter_mut().find(|j| j.id == id)
            }
            "" => self.current_job_mut(),
            s => {
                let named = |job: &Job| match s.strip_prefix('?') {
                    Some(part) => job.command_line.contains(part),
                    None => job.command_line.starts_with(s),
                };
                // Only a name that fits one job says which.
                let mut fitting = self.jobs.iter_mut().filter(|job| named(job));
                let found = fitting.next();
                if fitting.next().is_some() { None } else { found }
            }
        }
    }

    /// Waits for all managed jobs to complete.
    pub async fn wait_all(&mut self) -> Result<Vec<Job>, error::Error> {
        for job in &mut self.jobs {
            job.wait().await?;
        }

        let swept = self.sweep_completed_jobs();
        for job in &swept {
            self.remember(job);
        }
        Ok(swept)
    }

    /// Polls all managed jobs for completion.
    pub fn poll(&mut self) -> Result<Vec<JobResult>, error::Error> {
        let mut results = vec![];

        let mut i = 0;
        while i != self.jobs.len() {
            if let Some(result) = self.jobs[i].poll_done()? {
                let job = self.jobs.remove(i);
                self.remember(&job);
                results.push((job, result));
            } else if matches!(self.jobs[i].state, JobState::Done) {
                // TODO(jobs): This is a workaround to remove jobs that are done but for which we
                // don't know what happened.
                let job = self.jobs.remove(i);
                self.remember(&job);
                results.push((job, Ok(ExecutionResult::success())));
            } else {
                i += 1;
            }
        }

        Ok(results)
    }

    fn sweep_completed_jobs(&mut self) -> Vec<Job> {
        let mut completed_jobs = vec![];

        let mut i = 0;
        while i != self.jobs.len() {
            if self.jobs[i].tasks.is_empty() {
                completed_jobs.push(self.jobs.remove(i));
            } else {
                i += 1;
            }
        }

        completed_jobs
    }
}

/// Represents the current execution state of a job.
#[derive(Clone)]
pub enum JobState {
    /// Unknown state.
    Unknown,
    /// The job is running.
    Running,
    /// The job is stopped.
    Stopped,
    /// The job has completed.
    Done,
}

impl Display for JobState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unknown => write!(f, "Unknown"),
            Self::Running => write!(f, "Running"),
            Self::Stopped => write!(f, "Stopped"),
            Self::Done => write!(f, "Done"),
        }
    }
}

/// Represents an annotation for a job.
#[derive(Clone)]
pub enum JobAnnotation {
    /// No annotation.
    None,
    /// The job is the current job.
    Current,
    /// The job is the previous job.
    Previous,
}

impl Display for JobAnnotation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::None => write!(f, ""),
            Self::Current => write!(f, "+"),
            Self::Previous => write!(f, "-"),
        }
    }
}

/// Encapsulates a set of processes managed by the shell as a single unit.
pub struct Job {
    /// The tasks that make up the job.
    tasks: VecDeque<JobTask>,

    /// If available, the process group ID of the job's processes.
    pgid: Option<sys::process::ProcessId>,

    /// What `$!` is for the job: the process ID of its last command, or, where that is shell code,
    /// a number that no process has.
    number: i32,

    /// Where signals for the shell code of the job go.
    inbox: Option<Arc<Inbox>>,

    /// How the job has ended.
    exit: Option<u8>,

    /// The annotation of the job (e.g., current, previous).
    annotation: JobAnnotation,

    /// The shell-internal ID of the job.
    pub id: usize,

    /// The command line of the job.
    pub command_line: String,

    /// The current operational state of the job.
    pub state: JobState,
}

impl Display for JobSketch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "[{}]{:3}{}\t{}",
            self.id,
            self.annotation.to_string(),
            self.state,
            self.command_line
        )
    }
}

impl Display for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.sketch().fmt(f)
    }
}

impl Job {
    /// Returns a new job object.
    ///
    /// # Arguments
    ///
    /// * `children` - The job's known child processes.
    /// * `command_line` - The command line of the job.
    /// * `state` - The current operational state of the job.
    pub(crate) fn new<I>(tasks: I, command_line: String, state: JobState) -> Self
    where
        I: IntoIterator<Item = JobTask>,
    {
        let tasks: VecDeque<_> = tasks.into_iter().collect();
        let number = match tasks.back() {
            Some(JobTask::External(process)) => process.pid().unwrap_or(0),
            _ => 0,
        };
        Self {
            id: 0,
            tasks,
            pgid: None,
            number,
            inbox: None,
            exit: None,
            annotation: JobAnnotation::None,
            command_line,
            state,
        }
    }

    /// Gives the job what signals for its shell code are sent to, and the number for it, where no
    /// process has one.
    #[must_use]
    pub(crate) fn with_inbox(mut self, inbox: Arc<Inbox>, number: i32, own_group: bool) -> Self {
        if self.number == 0 {
            self.number = number;
        }
        self.inbox = Some(inbox);
        if own_group {
            self.pgid = self.representative_pid();
        }
        self
    }

    /// What `$!` is for the job.
    pub const fn number(&self) -> i32 {
        self.number
    }

    fn sketch(&self) -> JobSketch {
        JobSketch {
            id: self.id,
            number: self.number,
            annotation: self.annotation.clone(),
            state: self.state.clone(),
            command_line: self.command_line.clone(),
        }
    }

    /// How the job has ended, if it has.
    pub const fn exit(&self) -> Option<u8> {
        self.exit
    }

    /// The processes of the job that have not been waited for.
    pub fn process_ids(&self) -> impl Iterator<Item = i32> {
        self.tasks.iter().filter_map(|task| match task {
            JobTask::External(process) => process.pid(),
            JobTask::Internal(_) => None,
        })
    }

    /// Returns a pid-style string for the job.
    pub fn to_pid_style_string(&self) -> String {
        std::format!("[{}] {}", self.id, self.number)
    }

    /// Returns the annotation of the job.
    pub fn annotation(&self) -> JobAnnotation {
        self.annotation.clone()
    }

    /// Returns the command name of the job.
    pub fn command_name(&self) -> &str {
        self.command_line
            .split_ascii_whitespace()
            .next()
            .unwrap_or_default()
    }

    /// Returns whether the job is the current job.
    pub const fn is_current(&self) -> bool {
        matches!(self.annotation, JobAnnotation::Current)
    }

    /// Returns whether the job is the previous job.
    pub const fn is_prev(&self) -> bool {
        matches!(self.annotation, JobAnnotation::Previous)
    }

    /// Polls whether the job has completed.
    pub fn poll_done(
        &mut self,
    ) -> Result<Option<Result<ExecutionResult, error::Error>>, error::Error> {
        let mut result: Option<Result<ExecutionResult, error::Error>> = None;

        tracing::debug!(target: trace_categories::JOBS, "Polling job {} for completion...", self.id);

        while !self.tasks.is_empty() {
            let task = &mut self.tasks[0];
            match task.poll() {
                Some(r) => {
                    self.tasks.remove(0);
                    result = Some(r);
                }
                None => {
                    return Ok(None);
                }
            }
        }

        tracing::debug!(target: trace_categories::JOBS, "Job {} has completed.", self.id);

        self.state = JobState::Done;
        if let Some(result) = &result {
            let code = result.as_ref().map_or(1, |result| result.exit_code.into());
            self.exit.get_or_insert(code);
        }

        Ok(result)
    }

    /// Waits for the job to complete. Its last command says how it has ended, and a job that has
    /// ended says so again.
    pub async fn wait(&mut self) -> Result<ExecutionResult, error::Error> {
        while let Some(task) = self.tasks.back_mut() {
            match task.wait().await? {
                JobTaskWaitResult::Completed(execution_result) => {
                    self.exit.get_or_insert(execution_result.exit_code.into());
                    self.tasks.pop_back();
                }
                JobTaskWaitResult::Stopped => {
                    self.state = JobState::Stopped;
                    return Ok(ExecutionResult::stopped());
                }
            }
        }

        self.state = JobState::Done;

        Ok(ExecutionResult::new(self.exit.unwrap_or_default()))
    }

    /// Moves the job to execute in the background.
    pub fn move_to_background(&mut self) -> Result<(), error::Error> {
        if matches!(self.state, JobState::Stopped) {
            if let Some(pgid) = self.process_group_id() {
                sys::signal::continue_process(pgid)?;
                self.state = JobState::Running;
                Ok(())
            } else {
                Err(error::ErrorKind::FailedToSendSignal.into())
            }
        } else {
            error::unimp("move job to background")
        }
    }

    /// Moves the job to execute in the foreground.
    pub fn move_to_foreground(&mut self) -> Result<(), error::Error> {
        if matches!(self.state, JobState::Stopped) {
            if let Some(pgid) = self.process_group_id() {
                sys::signal::continue_process(pgid)?;
                self.state = JobState::Running;
            } else {
                return Err(error::ErrorKind::FailedToSendSignal.into());
            }
        }

        if let Some(pgid) = self.process_group_id() {
            sys::terminal::move_to_foreground(pgid)?;
        }

        Ok(())
    }

    /// Kills the job.
    ///
    /// # Arguments
    ///
    /// * `signal` - The signal to send to the job.
    pub fn kill(&self, signal: traps::TrapSignal) -> Result<(), error::Error> {
        let traps::TrapSignal::Signal(to_send) = signal else {
            return Err(error::ErrorKind::InvalidSignal(signal.to_string()).into());
        };
        if self.exit.is_some() {
            return Err(error::ErrorKind::FailedToSendSignal.into());
        }
        if let Some(inbox) = &self.inbox {
            inbox.post(to_send);
        }
        let targets: Vec<i32> = match self.pgid {
            Some(group) => vec![-group],
            None => self.process_ids().collect(),
        };
        for target in &targets {
            sys::signal::kill_process(*target, signal)?;
        }
        // What is stopped would not see its end.
        if matches!(self.state, JobState::Stopped)
            && matches!(to_send, sys::signal::Signal::SIGTERM | sys::signal::Signal::SIGHUP)
        {
            for target in targets {
                sys::signal::continue_process(target)?;
            }
        }
        Ok(())
    }

    /// Tries to retrieve a "representative" pid for the job.
    pub fn representative_pid(&self) -> Option<sys::process::ProcessId> {
        for task in &self.tasks {
            match task {
                JobTask::External(p) => {
                    if let Some(pid) = p.pid() {
                        return Some(pid);
                    }
                }
                JobTask::Internal(_) => (),
            }
        }
        None
    }

    /// Tries to retrieve the process group ID (PGID) of the job.
    pub fn process_group_id(&self) -> Option<sys::process::ProcessId> {
        // TODO(jobs): Don't assume that the first PID is the PGID.
        self.pgid.or_else(|| self.representative_pid())
    }
}
