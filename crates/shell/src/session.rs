//! Commands one after another, from a terminal or from standard input.

use crate::{Extensions, Failure};
use brush_core::terminal::TerminalControl;
use brush_core::{ExecutionControlFlow, ExecutionExitCode, Shell, ShellValue, SourceInfo};
use std::io::{self, IsTerminal, Write};

/// What came of asking for a command.
#[derive(Debug)]
pub(crate) enum Read {
    Command(String),
    /// Ctrl-C on the line.
    Interrupted,
    End,
}

/// Where commands come from.
pub(crate) trait Input {
    /// Reads a whole command, which may be several lines.
    async fn read(&mut self, shell: &mut Shell<Extensions>) -> Result<Read, Failure>;
}

/// Runs commands until there are no more or one ends the shell.
pub(crate) async fn run(shell: &mut Shell<Extensions>, input: &mut impl Input) -> Result<(), Failure> {
    let interactive = shell.options().interactive;
    // Until the end: the terminal goes back to the process group that had it.
    let terminal = (interactive && io::stdin().is_terminal()).then(TerminalControl::acquire);
    let _terminal = terminal.transpose().map_err(Failure::Run)?;
    if interactive {
        shell.watch_terminal_signals().map_err(Failure::Run)?;
    }
    shell.start_interactive_session().map_err(Failure::Run)?;
    loop {
        if interactive {
            before_prompt(shell).await.map_err(Failure::Run)?;
        }
        match input.read(shell).await? {
            Read::Command(command) => {
                if execute(shell, command).await {
                    break;
                }
            }
            Read::Interrupted => shell.set_last_exit_status(ExecutionExitCode::Interrupted.into()),
            Read::End => break,
        }
    }
    shell.end_interactive_session().map_err(Failure::Run)?;
    if interactive {
        // The terminal may be gone; there is nobody to tell then.
        let _ = writeln!(shell.stderr(), "exit");
    }
    shell.on_exit().await.map_err(Failure::Run)
}

/// Runs one command; says whether it ended the shell.
async fn execute(shell: &mut Shell<Extensions>, command: String) -> bool {
    let lines = command.lines().count().max(1);
    let parameters = shell.default_exec_params();
    let result = shell.run_string(command, &SourceInfo::from("main"), &parameters).await;
    shell.increment_interactive_line_offset(lines);
    match result {
        // A person's interrupt ends the command, and the shell asks for the next.
        Ok(result) if matches!(result.next_control_flow, ExecutionControlFlow::ExitShell) => {
            let interrupted = shell.options().interactive && shell.inbox().take_interrupt();
            if interrupted {
                shell.set_last_exit_status(ExecutionExitCode::Interrupted.into());
                let _ = writeln!(shell.stderr());
            }
            !interrupted
        }
        Ok(_) => false,
        Err(error) => {
            let _ = shell.display_error(&mut shell.stderr(), &error);
            false
        }
    }
}

/// Tells of jobs that have ended and runs `PROMPT_COMMAND`, which leaves `$?` alone.
async fn before_prompt(shell: &mut Shell<Extensions>) -> Result<(), brush_core::Error> {
    shell.inbox().take_interrupt();
    shell.check_for_completed_jobs()?;
    let commands: Vec<String> = match shell.env_var("PROMPT_COMMAND").map(|variable| variable.value()) {
        Some(ShellValue::String(command)) => vec![command.clone()],
        Some(ShellValue::IndexedArray(commands)) => commands.values().cloned().collect(),
        _ => Vec::new(),
    };
    for command in commands {
        let (status, statuses) = (shell.last_exit_status(), shell.last_pipeline_statuses().to_vec());
        let parameters = shell.default_exec_params();
        shell.run_string(command, &SourceInfo::from("PROMPT_COMMAND"), &parameters).await?;
        *shell.last_pipeline_statuses_mut() = statuses;
        shell.set_last_exit_status(status);
    }
    Ok(())
}
