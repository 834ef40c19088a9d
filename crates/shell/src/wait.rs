//! The builtin `wait`. brush's own knows no process numbers, forgets the job's exit code and has no `-n`.

use crate::jobs::find;
use brush_core::builtins::Command;
use brush_core::{Error, ExecutionContext, ExecutionResult, Shell, ShellExtensions};
use std::future::{Future, poll_fn};
use std::io::Write;
use std::task::Poll;

/// POSIX: what `wait` says of a process that is no child of this shell.
const NO_CHILD: u8 = 127;

/// Added to the number of the signal that ended the waiting.
const SIGNALLED: u8 = 128;

/// Wait for jobs in the background to end.
#[derive(Debug, clap::Parser)]
pub(crate) struct Wait {
    /// Wait for the next one to end
    #[arg(short = 'n')]
    next: bool,
    /// Accepted: a job that is stopped is not waited for
    #[arg(short = 'f')]
    ended: bool,
    /// Put the process number of the job that ended into this variable
    #[arg(short = 'p', value_name = "VARIABLE")]
    variable: Option<String>,
    /// Process numbers or job specifications; all jobs when there are none
    ids: Vec<String>,
}

impl Command for Wait {
    type Error = Error;

    async fn execute<SE: ShellExtensions>(
        &self,
        context: ExecutionContext<'_, SE>,
    ) -> Result<ExecutionResult, Error> {
        let inbox = context.shell.inbox().clone();
        let mut stderr = context.stderr();
        // A signal with a trap ends the waiting; the trap runs when this command has returned.
        let (number, code) = tokio::select! {
            biased;
            waited = self.wait(context.shell, &mut stderr) => waited?,
            signal = inbox.any_arrived() => {
                (None, SIGNALLED.saturating_add(u8::try_from(signal).unwrap_or(0)))
            }
        };
        if let (Some(variable), Some(number)) = (&self.variable, number) {
            let value = brush_core::ShellVariable::new(number.to_string());
            context.shell.env_mut().set_global(variable.clone(), value)?;
        }
        Ok(ExecutionResult::new(code))
    }
}

impl Wait {
    /// Waits; gives the number of the last job that ended and its exit code.
    async fn wait(
        &self,
        shell: &mut Shell<impl ShellExtensions>,
        stderr: &mut impl Write,
    ) -> Result<(Option<i32>, u8), Error> {
        if self.next {
            return self.wait_for_next(shell).await;
        }
        if self.ids.is_empty() {
            shell.jobs_mut().wait_all().await?;
            return Ok((None, 0));
        }
        let mut last = (None, 0);
        for id in &self.ids {
            last = match find(shell, id) {
                Some(job) => {
                    let (id, number) = (job.id, job.number());
                    let code = job.wait().await?.exit_code.into();
                    // That it has ended is known now; its exit code is kept for another `wait`.
                    if job.exit().is_some() {
                        shell.jobs_mut().remove(id);
                    }
                    (Some(number), code)
                }
                None => match id.parse().ok().and_then(|number| shell.jobs().ended(number)) {
                    Some(code) => (None, code),
                    None => {
                        writeln!(stderr, "wait: {id}: not a job of this shell")?;
                        (None, NO_CHILD)
                    }
                },
            };
        }
        Ok(last)
    }

    async fn wait_for_next(
        &self,
        shell: &mut Shell<impl ShellExtensions>,
    ) -> Result<(Option<i32>, u8), Error> {
        let mut wanted = Vec::new();
        for id in &self.ids {
            wanted.extend(find(shell, id).map(|job| job.id));
        }
        let jobs = shell.jobs_mut();
        let is_wanted = |id| self.ids.is_empty() || wanted.contains(&id);
        let mut ends: Vec<_> = jobs
            .jobs
            .iter_mut()
            .filter(|job| is_wanted(job.id))
            .map(|job| (job.id, job.number(), Box::pin(job.wait())))
            .collect();
        if ends.is_empty() {
            return Ok((None, NO_CHILD));
        }
        let (id, number, ended) = poll_fn(|task| {
            let first = ends.iter_mut().find_map(|(id, number, end)| match end.as_mut().poll(task) {
                Poll::Ready(ended) => Some((*id, *number, ended)),
                Poll::Pending => None,
            });
            first.map_or(Poll::Pending, Poll::Ready)
        })
        .await;
        drop(ends);
        let code = ended?.exit_code.into();
        jobs.remove(id);
        Ok((Some(number), code))
    }
}
