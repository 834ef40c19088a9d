//! Trap handling for the shell.

use std::sync::{Arc, OnceLock};

use crate::signals::{self, Inbox};
use crate::sys::signal::{Disposition, Signal, ignored_at_start, set_disposition};
use crate::{
    ExecutionControlFlow, ExecutionParameters, ExecutionResult, ProcessGroupPolicy, error,
    traps::TrapSignal,
};

/// The signals that end a shell with an `EXIT` trap no sooner than that has run.
const ENDS: [Signal; 3] = [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM];

/// The signals that an interactive shell does not die of.
const SURVIVED: [Signal; 3] = [Signal::SIGTERM, Signal::SIGQUIT, Signal::SIGTSTP];

impl<SE: crate::extensions::ShellExtensions> crate::Shell<SE> {
    /// Runs any exit steps for the shell.
    ///
    /// This currently includes invoking the `EXIT` trap handler, if any.
    pub async fn on_exit(&mut self) -> Result<(), error::Error> {
        self.run_exit_trap(&self.default_exec_params()).await
    }

    async fn run_exit_trap(&mut self, params: &ExecutionParameters) -> Result<(), error::Error> {
        if self.traps.handles(TrapSignal::Exit) {
            let result = self.invoke_trap_handler(TrapSignal::Exit, params).await?;
            // An `exit` in the trap has the last word.
            if matches!(result.next_control_flow, ExecutionControlFlow::ExitShell) {
                self.set_last_exit_status(result.exit_code.into());
            }
        }

        Ok(())
    }

    /// Ends a subshell: its `EXIT` trap runs, and what it asked of loops, functions and the shell
    /// stays inside it.
    pub(crate) async fn end_subshell(
        &mut self,
        params: &ExecutionParameters,
        outcome: Result<ExecutionResult, error::Error>,
    ) -> ExecutionResult {
        let result = outcome.unwrap_or_else(|err| {
            let _ = self.display_error(&mut params.stderr(self), &err);
            err.into_result(self)
        });
        self.set_last_exit_status(result.exit_code.into());
        if let Err(err) = self.run_exit_trap(params).await {
            let _ = self.display_error(&mut params.stderr(self), &err);
        }
        ExecutionResult::new(self.last_exit_status())
    }

    /// Where signals for this shell arrive.
    pub const fn inbox(&self) -> &Arc<Inbox> {
        &self.inbox
    }

    /// Makes this shell, a copy for a job in the background, one that signals are sent to.
    pub(crate) fn lead_job(&mut self, inbox: Arc<Inbox>) {
        self.inbox = inbox;
        self.owns_inbox = true;
        if !self.options.enable_job_control {
            // POSIX: such a job does not end by what ends the command in the foreground.
            for signal in [Signal::SIGINT, Signal::SIGQUIT] {
                self.traps.register_handler(
                    TrapSignal::Signal(signal),
                    String::new(),
                    crate::SourceInfo::default(),
                );
            }
        }
        for signal in self.traps.ignored() {
            self.inbox.set_ignored(signal, true);
        }
    }

    /// Takes the place of the shell that this one is a copy of, for a job that is nothing else.
    pub(crate) fn take_over(&mut self, other: &mut Self) {
        self.owns_inbox = std::mem::replace(&mut other.owns_inbox, false);
    }

    /// Has this shell live through what a terminal sends; an interrupt ends the command alone.
    pub fn watch_terminal_signals(&mut self) -> Result<(), error::Error> {
        for signal in SURVIVED {
            self.inbox.set_ignored(signal, true);
            signals::watch(signal)?;
        }
        signals::watch(Signal::SIGINT)?;
        Ok(())
    }

    /// Sets a trap: a command, an empty one to ignore the signal, or none for what the signal does
    /// by itself.
    pub fn set_trap(
        &mut self,
        signal: TrapSignal,
        command: Option<&str>,
    ) -> Result<(), error::Error> {
        if let TrapSignal::Signal(signal) = signal {
            if !self.may_trap(signal) {
                return Ok(());
            }
        }
        match command {
            Some(command) => {
                let place = self.call_stack().current_pos_as_source_info();
                self.traps.register_handler(signal, command.to_owned(), place);
            }
            None => self.traps.remove_handlers(signal),
        }
        match signal {
            TrapSignal::Signal(signal) => self.apply_trap(signal)?,
            TrapSignal::Exit => {
                for signal in ENDS {
                    self.apply_trap(signal)?;
                }
            }
            TrapSignal::Debug | TrapSignal::Err | TrapSignal::Return => {}
        }
        Ok(())
    }

    /// POSIX: what was ignored when the shell started stays so, unless a person sits before it.
    fn may_trap(&self, signal: Signal) -> bool {
        static IGNORED: OnceLock<u64> = OnceLock::new();
        let ignored = *IGNORED.get_or_init(ignored_at_start);
        // The language's runtime ignores SIGPIPE itself.
        let by_caller = signal != Signal::SIGPIPE && ignored & (1 << (signal as i32)) != 0;
        let impossible = matches!(signal, Signal::SIGKILL | Signal::SIGSTOP);
        !impossible && (self.options.interactive || !by_caller)
    }

    /// Has a signal do what the traps say, where it is for this shell.
    fn apply_trap(&self, signal: Signal) -> Result<(), error::Error> {
        if !self.owns_inbox {
            return Ok(());
        }
        let handler = self.traps.get_handler(TrapSignal::Signal(signal));
        let ignored = handler.is_some_and(|handler| handler.command.is_empty());
        let survived = self.options.interactive && SURVIVED.contains(&signal);
        self.inbox.set_caught(signal, handler.is_some() && !ignored);
        self.inbox
            .set_ignored(signal, ignored || (handler.is_none() && survived));
        if self.is_subshell() {
            return Ok(());
        }
        let to_end = ENDS.contains(&signal) && self.traps.handles(TrapSignal::Exit);
        let to_prompt = self.options.interactive && signal == Signal::SIGINT;
        if ignored {
            set_disposition(signal, Disposition::Ignored)?;
        } else if handler.is_some() || survived || to_end || to_prompt {
            signals::watch(signal)?;
        } else if signal != Signal::SIGCHLD {
            set_disposition(signal, Disposition::Default)?;
        }
        Ok(())
    }

    /// Does what the signals that have arrived ask for: runs their traps, or ends the shell (an
    /// interactive one: the command line).
    pub(crate) async fn attend_signals(
        &mut self,
        params: &ExecutionParameters,
        result: &mut ExecutionResult,
    ) -> Result<(), error::Error> {
        if let Some(signal) = self.inbox.fatal() {
            *result = ExecutionResult::new(u8::try_from(signal).unwrap_or(0).wrapping_add(128));
            result.next_control_flow = ExecutionControlFlow::ExitShell;
            return Ok(());
        }
        if !self.owns_inbox {
            return Ok(());
        }
        let signal = |n| Signal::try_from(n).map(TrapSignal::Signal);
        let busy = |n| signal(n).is_ok_and(|s| self.call_stack.is_trap_signal_active(s));
        for arrived in self.inbox.take_caught(busy) {
            let Ok(signal) = signal(arrived) else { continue };
            let handled = self.invoke_trap_handler(signal, params).await?;
            if !handled.is_normal_flow() {
                *result = handled;
                break;
            }
        }
        Ok(())
    }

    /// Invokes the handler registered for `signal`, if any.
    ///
    /// Behavior varies by signal type:
    ///
    /// * **Per-signal recursion guard** — each trap guards against its own self-recursion, but
    ///   different traps *can* fire from within each other's handlers (matching bash semantics).
    ///
    /// * **Inheritance** — in functions and subshells, some traps are only inherited when the
    ///   corresponding shell option is enabled (e.g. `errtrace` / `set -E` for `ERR`, `functrace` /
    ///   `set -T` for `DEBUG`/`RETURN`).
    ///
    /// * **`$?` preservation** — `last_exit_status` is saved before and restored after the handler
    ///   runs so the trap does not clobber the status that triggered it.
    ///
    /// # Arguments
    ///
    /// * `signal`: Signal to run handler for.
    ///
    /// * `params`: Execution parameters to use for handler.
    pub(crate) async fn invoke_trap_handler(
        &mut self,
        signal: TrapSignal,
        params: &ExecutionParameters,
    ) -> Result<ExecutionResult, error::Error> {
        // Per-signal self-recursion guard: don't re-enter a trap that is
        // already being handled. Different traps *can* fire from each
        // other's handlers (e.g. ERR inside EXIT, EXIT inside ERR).
        if self.call_stack().is_trap_signal_active(signal) {
            return Ok(ExecutionResult::success());
        }

        // Don't fire traps that have been explicitly suppressed (e.g. DEBUG
        // during programmable completion).
        if self.call_stack().is_trap_delivery_suppressed() {
            return Ok(ExecutionResult::success());
        }

        // In functions and subshells, some traps are only inherited when the
        // corresponding option is enabled.
        if (self.in_function() || self.is_subshell())
            && !self.is_trap_inherited_in_current_scope(signal)
        {
            return Ok(ExecutionResult::success());
        }

        let Some(handler) = self.traps.get_handler(signal).cloned() else {
            return Ok(ExecutionResult::success());
        };

        let mut params = params.clone();
        params.process_group_policy = ProcessGroupPolicy::SameProcessGroup;

        // Preserve $? across trap handler execution so the handler doesn't
        // clobber the status that triggered it.
        let orig_last_exit_status = self.last_exit_status;

        // N.B. We use manual enter/leave rather than an RAII guard because a guard
        // would need to hold `&mut Shell`, preventing the mutable borrow required by
        // `run_string()`. This is safe because `result` is captured into a variable
        // (never early-returned with `?`), so `leave_trap_handler()` always runs.
        self.enter_trap_handler(signal, Some(&handler));

        let result = self
            .run_string(&handler.command, &handler.source_info, &params)
            .await;

        self.leave_trap_handler();
        self.last_exit_status = orig_last_exit_status;

        result
    }

    /// Returns whether the given trap signal is inherited in the current
    /// function or subshell scope.
    fn is_trap_inherited_in_current_scope(&self, signal: TrapSignal) -> bool {
        match signal {
            TrapSignal::Err => self.options().shell_functions_inherit_err_trap,
            TrapSignal::Debug | TrapSignal::Return => {
                self.options()
                    .shell_functions_inherit_debug_and_return_traps
            }
            // EXIT and system signals are always inherited — i.e. their visibility is
            // not gated by errtrace/functrace options. (The actual trap *state* for
            // subshells is managed separately via `Shell::clone`.)
            TrapSignal::Exit | TrapSignal::Signal(_) => true,
        }
    }
}
