//! `octant manifest new`: the text of a manifest to start from, or of a whole profile on this machine.

use super::draft;
use crate::args::NewManifest;
use crate::error::CliError;
use crate::out::Out;
use octant_manifest::{Host, Machine, Outline, Profile};
use octant_sys::capacity;
use std::io;
use std::path::{Path, PathBuf};

/// Where a program without a directory is looked for: what the profiles make executable.
const PROGRAMS: [&str; 2] = ["/usr/local/bin", "/usr/bin"];

pub(super) fn run(asked: &NewManifest, out: &mut Out) -> Result<(), CliError> {
    let text = outline(asked)?.text();
    // What was named on the command line is the only thing in it that can be wrong, and the schema knows.
    draft(text.as_bytes(), Path::new("(new manifest)"))?;
    if out.json { out.json(&text) } else { out.raw(text.as_bytes()) }
}

fn outline(asked: &NewManifest) -> Result<Outline, CliError> {
    let NewManifest { name, role, operator, profile, workspace, command } = asked;
    let mut outline = match profile {
        None => Outline::minimal(name, role.as_deref().unwrap_or("analyst"), operator),
        Some(profile) => {
            // The machine's own files are beyond an analyst.
            let least = if *profile == Profile::Minimal { "analyst" } else { "developer" };
            let host = Host { machine: machine()?, present: &present };
            Outline::of_profile(*profile, name, role.as_deref().unwrap_or(least), operator, &host)
        }
    };
    if let Some(dir) = workspace {
        outline = outline.in_directory(&absolute(dir)?);
    }
    if let [program, args @ ..] = command.as_slice() {
        outline.executable = located(program);
        outline.args = args.to_vec();
    }
    Ok(outline)
}

/// This machine, as the bound of what profiles ask.
pub(crate) fn machine() -> Result<Machine, CliError> {
    let failed = |step| move |source| CliError::System { step, source };
    Ok(Machine {
        memory_bytes: capacity::memory_bytes().map_err(failed("ask how much memory this machine has"))?,
        cpus: capacity::cpus().map_err(failed("ask how many processors this machine has"))?,
    })
}

/// Whether a path can be granted: a file or directory that no symbolic link leads to.
pub(crate) fn present(path: &str) -> bool {
    let path = Path::new(path);
    path.canonicalize().is_ok_and(|real| real == path) && (path.is_dir() || path.is_file())
}

/// The directory by the one name that can be granted: absolute, without links.
fn absolute(dir: &Path) -> Result<String, CliError> {
    let fail = |source| CliError::Read { path: dir.to_owned(), source };
    let real = dir.canonicalize().map_err(fail)?;
    real.into_os_string().into_string().map_err(|_| fail(io::Error::other("its path is not text")))
}

/// Where a program is that was named without a directory. What is not found stays as it is, for the manifest's
/// own check to refuse by name.
pub(super) fn located(program: &str) -> String {
    if program.contains('/') {
        return program.to_owned();
    }
    let found = PROGRAMS.iter().map(|dir| PathBuf::from(dir).join(program)).find(|path| path.is_file());
    found.map_or_else(|| program.to_owned(), |path| path.display().to_string())
}
