//! The builtin `command`. brush's own does not know functions, aliases and reserved words with `-v`, as scripts do when
//! they ask what there is; running a command is left to it.

use crate::{Extensions, OWN_PROGRAM, original};
use brush_core::builtins::{BoxFuture, Registration};
use brush_core::{CommandArg, Error, ExecutionContext, ExecutionExitCode, ExecutionResult, Shell};
use std::io::Write;
use std::path::Path;

const NAME: &str = "command";

/// The builtin with its name.
pub(crate) fn registration() -> Option<(&'static str, Registration<Extensions>)> {
    original(NAME).map(|original| (NAME, Registration { execute_func: run, ..original.clone() }))
}

fn run(
    context: ExecutionContext<'_, Extensions>,
    arguments: Vec<CommandArg>,
) -> BoxFuture<'_, Result<ExecutionResult, Error>> {
    let words: Vec<String> = arguments.iter().skip(1).map(ToString::to_string).collect();
    Box::pin(async move {
        match (words.first().map(String::as_str), original(NAME)) {
            (Some("-v"), _) => describe(context, &words[1..], false),
            (Some("-V"), _) => describe(context, &words[1..], true),
            (_, Some(original)) => (original.execute_func)(context, arguments).await,
            (_, None) => Ok(ExecutionExitCode::NotFound.into()),
        }
    })
}

fn describe(
    context: ExecutionContext<'_, Extensions>,
    names: &[String],
    with_words: bool,
) -> Result<ExecutionResult, Error> {
    let names = if names.first().is_some_and(|name| name == "--") { &names[1..] } else { names };
    let mut result = ExecutionResult::general_error();
    for name in names {
        match find(context.shell, name) {
            Some((what, kind)) => {
                let line = if with_words { format!("{name} is {kind}") } else { what };
                writeln!(context.stdout(), "{line}")?;
                result = ExecutionResult::success();
            }
            None if with_words => writeln!(context.stderr(), "{NAME}: {name}: not found")?,
            None => {}
        }
    }
    Ok(result)
}

/// What a name means, in the order in which the shell looks: as it is typed, and in words.
fn find(shell: &mut Shell<Extensions>, name: &str) -> Option<(String, String)> {
    if let Some(value) = shell.aliases().get(name) {
        return Some((format!("alias {name}='{value}'"), format!("an alias for {value}")));
    }
    let word = |kind: &str| Some((name.to_owned(), kind.to_owned()));
    if shell.is_keyword(name) {
        return word("a shell keyword");
    }
    if shell.funcs().get(name).is_some() {
        return word("a function");
    }
    if shell.builtins().get(name).is_some_and(|builtin| !builtin.disabled) {
        return word("a shell builtin");
    }
    let path = if name.contains('/') {
        let path = shell.absolute_path(Path::new(name));
        nix::unistd::access(&path, nix::unistd::AccessFlags::X_OK).ok()?;
        name.to_owned()
    } else {
        let path = shell.find_first_executable_in_path_using_cache(name)?;
        if path == Path::new(OWN_PROGRAM) {
            // It has no file of its own: the name is what runs it.
            return word("a utility of this program");
        }
        path.to_string_lossy().into_owned()
    };
    Some((path.clone(), path))
}
