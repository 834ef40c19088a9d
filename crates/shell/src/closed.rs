//! `echo` and `printf` into a closed pipe end their subshell, as SIGPIPE would. A subshell of brush is no process, so
//! that a loop of builtins would go on for ever.

use crate::Extensions;
use brush_builtins::{BuiltinSet, default_builtins};
use brush_core::builtins::{BoxFuture, Registration};
use brush_core::{
    CommandArg, Error, ExecutionContext, ExecutionControlFlow, ExecutionExitCode, ExecutionResult,
};
use std::collections::HashMap;
use std::io;
use std::sync::LazyLock;

/// The builtins that scripts write with.
const WRITERS: [&str; 2] = ["echo", "printf"];

/// What brush does for them.
static ORIGINALS: LazyLock<HashMap<String, Registration<Extensions>>> = LazyLock::new(|| {
    let mut all = default_builtins(BuiltinSet::BashMode);
    all.retain(|name, _| WRITERS.contains(&name.as_str()));
    all
});

/// The same builtins with the closed pipe told apart.
pub(crate) fn writers() -> impl Iterator<Item = (String, Registration<Extensions>)> {
    ORIGINALS
        .iter()
        .map(|(name, original)| (name.clone(), Registration { execute_func: run, ..original.clone() }))
}

fn run(
    context: ExecutionContext<'_, Extensions>,
    arguments: Vec<CommandArg>,
) -> BoxFuture<'_, Result<ExecutionResult, Error>> {
    Box::pin(async move {
        let subshell = context.shell.is_subshell();
        let Some(original) = ORIGINALS.get(&context.command_name) else {
            return Ok(ExecutionExitCode::NotFound.into());
        };
        match (original.execute_func)(context, arguments).await {
            Err(error) if subshell && is_closed(&error) => Ok(ExecutionResult {
                next_control_flow: ExecutionControlFlow::ExitShell,
                exit_code: ExecutionExitCode::BrokenPipe,
            }),
            result => result,
        }
    })
}

fn is_closed(error: &Error) -> bool {
    error.as_io_error().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
