//! Packages of JavaScript, each in one version, below the target directory: the clients that the tests speak with, and what the
//! bench measures beside Octant. None of them becomes part of it.

use crate::sh::{self, Res};
use crate::workspace::Workspace;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Written last: a directory without it was interrupted, one with another text is of other versions.
const MADE_OF: &str = "made-of";

/// The clients of language models that tests/node speaks with: the directory that has their `node_modules`.
///
/// # Errors
/// As [`made`].
pub(crate) fn clients(workspace: &Workspace) -> Res<PathBuf> {
    made(workspace, &workspace.target.join("node"), "tests/node", "the clients in JavaScript (about 15 MB)")
}

/// Makes a directory with the `node_modules` of a lock file in `of` unless it is there; gives it.
///
/// # Errors
/// There is no npm, or the packages cannot be fetched.
pub(crate) fn made(workspace: &Workspace, dir: &Path, of: &str, what: &str) -> Res<PathBuf> {
    let source = workspace.root.join(of);
    let lock = sh::read_text(&source.join("package-lock.json"))?;
    if std::fs::read_to_string(dir.join(MADE_OF)).is_ok_and(|found| found == lock) {
        return Ok(dir.to_owned());
    }
    println!("      fetching {what}");
    sh::remove(dir)?;
    for name in ["package.json", "package-lock.json"] {
        sh::write(&dir.join(name), sh::read_text(&source.join(name))?)?;
    }
    // Scripts of packages are nobody's to run here.
    let words = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"];
    sh::output(Command::new("npm").args(words).current_dir(dir))
        .map_err(|error| format!("{what}: npm cannot fetch the packages of {of}\n{error}"))?;
    sh::write(&dir.join(MADE_OF), lock)?;
    Ok(dir.to_owned())
}
