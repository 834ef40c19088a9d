//! The builtin `printf`. brush's own repeats a format that takes no operand for as long as there are operands, and so for
//! ever; all else is left to it.

use crate::{Extensions, original};
use brush_core::builtins::{BoxFuture, Registration};
use brush_core::{CommandArg, Error, ExecutionContext, ExecutionExitCode, ExecutionResult};

const NAME: &str = "printf";

/// The builtin with its name.
pub(crate) fn registration() -> Option<(&'static str, Registration<Extensions>)> {
    original(NAME).map(|original| (NAME, Registration { execute_func: run, ..original.clone() }))
}

fn run(
    context: ExecutionContext<'_, Extensions>,
    mut arguments: Vec<CommandArg>,
) -> BoxFuture<'_, Result<ExecutionResult, Error>> {
    Box::pin(async move {
        let words: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        arguments.truncate(taken(&words));
        match original(NAME) {
            Some(original) => (original.execute_func)(context, arguments).await,
            None => Ok(ExecutionExitCode::NotFound.into()),
        }
    })
}

/// How many words there is something to do with: without a conversion the format is written once, and operands are not
/// looked at (POSIX, printf).
fn taken(words: &[String]) -> usize {
    let format = match words.get(1).map(String::as_str) {
        Some("-v") => 3,
        Some("--") => 2,
        Some(joined) if joined.starts_with("-v") => 2,
        _ => 1,
    };
    match words.get(format) {
        Some(text) if !converts(text) => format + 1,
        _ => words.len(),
    }
}

fn converts(format: &str) -> bool {
    let mut rest = format;
    while let Some(at) = rest.find('%') {
        match rest[at + 1..].strip_prefix('%') {
            Some(after) => rest = after,
            None => return true,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operands_are_for_conversions() {
        let count = |line: &str| taken(&line.split(' ').map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(["printf a b", "printf -v x a b", "printf -- 100%% b c"].map(count), [2, 4, 3]);
        assert_eq!(["printf %s b", "printf -vx %%%d 1 2", "printf a%", "printf"].map(count), [3, 5, 2, 1]);
    }
}
