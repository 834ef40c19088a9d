//! The builtins `jobs` and `disown`. brush has no `disown`, and its `jobs` knows neither `-l` nor a job by name.

use brush_core::builtins::Command;
use brush_core::jobs::{Job, JobState};
use brush_core::{Error, ExecutionContext, ExecutionResult, Shell, ShellExtensions};
use std::io::Write;

/// List the jobs of this shell.
#[derive(Debug, clap::Parser)]
pub(crate) struct Jobs {
    /// With process numbers
    #[arg(short = 'l')]
    long: bool,
    /// Process numbers alone
    #[arg(short = 'p')]
    numbers: bool,
    /// Those that run
    #[arg(short = 'r')]
    running: bool,
    /// Those that are stopped
    #[arg(short = 's')]
    stopped: bool,
    /// Job specifications; all jobs when there are none
    jobs: Vec<String>,
}

/// Forget jobs: they run on, and `jobs` and `wait` know them no more.
#[derive(Debug, clap::Parser)]
#[command(disable_help_flag = true)]
pub(crate) struct Disown {
    /// All jobs
    #[arg(short = 'a')]
    all: bool,
    /// Accepted: the shell sends no job a hang-up when it ends
    #[arg(short = 'h')]
    keep: bool,
    /// Those that run
    #[arg(short = 'r')]
    running: bool,
    /// Job specifications or process numbers; the current job when there are none
    jobs: Vec<String>,
}

/// The job that `%1`, `%name` or a process number means.
pub(crate) fn find<'a>(shell: &'a mut Shell<impl ShellExtensions>, spec: &str) -> Option<&'a mut Job> {
    match spec.parse() {
        Ok(number) => shell.jobs_mut().by_number(number),
        Err(_) => shell.jobs_mut().resolve_job_spec(spec),
    }
}

/// The numbers (`%1`) of the jobs that are meant, the others told.
fn chosen(
    context: &mut ExecutionContext<'_, impl ShellExtensions>,
    specs: &[String],
) -> Result<(Vec<usize>, ExecutionResult), Error> {
    let (mut ids, mut result) = (Vec::new(), ExecutionResult::success());
    for spec in specs {
        match find(context.shell, spec) {
            Some(job) => ids.push(job.id),
            None => {
                writeln!(context.stderr(), "{}: {spec}: no such job", context.command_name)?;
                result = ExecutionResult::general_error();
            }
        }
    }
    Ok((ids, result))
}

impl Command for Jobs {
    type Error = Error;

    async fn execute<SE: ShellExtensions>(
        &self,
        mut context: ExecutionContext<'_, SE>,
    ) -> Result<ExecutionResult, Error> {
        let (ids, result) = chosen(&mut context, &self.jobs)?;
        for job in &mut context.shell.jobs_mut().jobs {
            // How it ended is kept in the job.
            let _ = job.poll_done();
        }
        for job in context.shell.jobs().shown() {
            let asked = self.jobs.is_empty() || ids.contains(&job.id);
            let wrong_state = (self.running && !matches!(job.state, JobState::Running))
                || (self.stopped && !matches!(job.state, JobState::Stopped));
            if !asked || wrong_state {
                continue;
            }
            let mut stdout = context.stdout();
            if self.numbers {
                writeln!(stdout, "{}", job.number)?;
            } else if self.long {
                let mark = job.annotation.to_string();
                writeln!(stdout, "[{}]{mark:1} {} {}\t{}", job.id, job.number, job.state, job.command_line)?;
            } else {
                writeln!(stdout, "{job}")?;
            }
            // That it has ended is told once; `wait` still knows how.
            if matches!(job.state, JobState::Done) {
                context.shell.jobs_mut().remove(job.id);
            }
        }
        Ok(result)
    }
}

impl Command for Disown {
    type Error = Error;

    async fn execute<SE: ShellExtensions>(
        &self,
        mut context: ExecutionContext<'_, SE>,
    ) -> Result<ExecutionResult, Error> {
        let (mut ids, result) = chosen(&mut context, &self.jobs)?;
        let jobs = context.shell.jobs_mut();
        if self.all || (self.running && self.jobs.is_empty()) {
            ids = jobs.jobs.iter().map(|job| job.id).collect();
        } else if self.jobs.is_empty() {
            match jobs.current_job() {
                Some(job) => ids.push(job.id),
                None => {
                    writeln!(context.stderr(), "disown: no current job")?;
                    return Ok(ExecutionResult::general_error());
                }
            }
        }
        let jobs = context.shell.jobs_mut();
        if self.running {
            ids.retain(|id| {
                jobs.jobs.iter().any(|job| job.id == *id && matches!(job.state, JobState::Running))
            });
        }
        if !self.keep {
            for id in ids {
                jobs.remove(id);
            }
        }
        Ok(result)
    }
}
