//! `octant manifest learn`: a manifest from what a command was seen to do.

use super::{draft, new, write_new};
use crate::args::Learn;
use crate::error::CliError;
use crate::out::{Out, printable};
use octant_learn::{Place, Usage, observe, outline};
use octant_manifest::Host;
use serde::Serialize;
use std::path::Path;
use std::process::Command;

#[derive(Serialize)]
struct Learned<'a> {
    file: &'a Path,
    profile: &'static str,
    code: Option<i32>,
    memory_bytes: u64,
    tasks: u64,
    not_granted: &'a [String],
}

pub(super) fn run(asked: &Learn, out: &mut Out) -> Result<(), CliError> {
    let Learn { name, role, operator, output, command } = asked;
    let [program, args @ ..] = command.as_slice() else {
        return Err(CliError::NotFound("command to watch".to_owned()));
    };
    if output.exists() {
        return Err(CliError::Exists { path: output.clone() });
    }
    let read = |path: &Path| {
        let path = path.to_owned();
        move |source| CliError::Read { path, source }
    };
    let program = new::located(program);
    let program = Path::new(&program).canonicalize().map_err(read(Path::new(&program)))?;
    let cwd = Path::new(".").canonicalize().map_err(read(Path::new(".")))?;
    let mut watched = Command::new(&program);
    watched.args(args);
    let (status, seen) = observe(watched).map_err(|error| CliError::Refused {
        what: program.display().to_string(),
        why: error.to_string(),
        exit: octant_ids::Exit::Failed,
        next: None,
    })?;
    let (name, role, operator) = (name.clone(), role.clone(), operator.clone());
    let place = Place { cwd, program, args: args.to_vec(), name, role, operator };
    let host = Host { machine: new::machine()?, present: &new::present };
    let (outline, notes) = outline(&seen, &place, &host);
    let mut text = outline.text();
    if !notes.is_empty() {
        text += "\n# Seen and not granted:\n";
        text.extend(notes.iter().map(|note| format!("#   {}\n", printable(note))));
    }
    // What is left to be wrong was named on the command line.
    draft(text.as_bytes(), output)?;
    write_new(output, &text, 0o644)?;
    let profile = outline.profile.name();
    if out.json {
        let (code, Usage { memory_bytes, tasks }) = (status.code(), seen.usage);
        return out.json(&Learned { file: output, profile, code, memory_bytes, tasks, not_granted: &notes });
    }
    out.line(format_args!(
        "{} is written: profile {profile}, from a run that ended with {status}",
        output.display()
    ))?;
    out.line(format_args!(
        "limits: {} of memory and {} processes and threads were seen at once; about twice that is written",
        octant_ids::ByteSize(seen.usage.memory_bytes),
        seen.usage.tasks
    ))?;
    for note in &notes {
        out.line(format_args!("not granted: {}", printable(note)))?;
    }
    out.line("next: read it, then octant manifest sign; another run may need more than this one did")
}
