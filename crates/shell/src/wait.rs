//! The builtin `wait`. brush's own knows no process numbers and forgets the job's exit code.

use brush_core::builtins::Command;
use brush_core::{Error, ExecutionContext, ExecutionExitCode, ExecutionResult, ShellExtensions};
use std::io::Write;

/// POSIX: what `wait` says of a process that is no child of this shell.
const NO_CHILD: u8 = 127;

/// Wait for jobs in the background to end.
#[derive(Debug, clap::Parser)]
pub(crate) struct Wait {
    /// Process numbers or job specifications; all jobs when there are none
    ids: Vec<String>,
}

impl Command for Wait {
    type Error = Error;

    async fn execute<SE: ShellExtensions>(
        &self,
        context: ExecutionContext<'_, SE>,
    ) -> Result<ExecutionResult, Error> {
        if self.ids.is_empty() {
            context.shell.jobs_mut().wait_all().await?;
            return Ok(ExecutionResult::success());
        }
        let mut result = ExecutionResult::success();
        for id in &self.ids {
            let jobs = context.shell.jobs_mut();
            let job = if id.starts_with('%') {
                jobs.resolve_job_spec(id)
            } else {
                let pid = id.parse().ok();
                jobs.jobs.iter_mut().find(|job| pid.is_some() && job.representative_pid() == pid)
            };
            result = match job {
                // Its control flow was for the job's own shell.
                Some(job) => ExecutionResult::from(job.wait().await?.exit_code),
                None => {
                    writeln!(context.stderr(), "wait: {id}: not a job of this shell that still runs")?;
                    ExecutionExitCode::Custom(NO_CHILD).into()
                }
            };
        }
        Ok(result)
    }
}
