//! Programs of others that the bench measures beside the gate, each in one version, below the target directory. None of them
//! becomes part of Octant, and one that cannot be had is left out and named.

use crate::python;
use crate::sh::{self, Res};
use crate::workspace::Workspace;
use std::path::PathBuf;
use std::process::Command;

/// What each is made of.
const PEERS: &str = "tests/peers";
/// What mitmproxy's environment has.
pub(crate) const MITMPROXY: &str = "tests/peers/mitmproxy.txt";

/// Installs what can be; gives the variables that tell the bench where it is.
pub(crate) fn install(workspace: &Workspace) -> Vec<(&'static str, PathBuf)> {
    let all =
        [("OCTANT_SANDBOX_RUNTIME", sandbox_runtime(workspace)), ("OCTANT_MITMPROXY", mitmproxy(workspace))];
    let there = |(variable, installed): (&'static str, Res<PathBuf>)| match installed {
        Ok(path) => Some((variable, path)),
        Err(why) => {
            println!("      left out: {why}");
            None
        }
    };
    all.into_iter().filter_map(there).collect()
}

/// @anthropic-ai/sandbox-runtime: the directory that has its `node_modules`.
fn sandbox_runtime(workspace: &Workspace) -> Res<PathBuf> {
    /// Written last: a directory without it was interrupted, one with another text is of other versions.
    const MADE_OF: &str = "made-of";
    let dir = workspace.target.join("peers/node");
    let lock = sh::read_text(&workspace.root.join(PEERS).join("package-lock.json"))?;
    if std::fs::read_to_string(dir.join(MADE_OF)).is_ok_and(|found| found == lock) {
        return Ok(dir);
    }
    println!("      fetching the proxy of sandbox-runtime (about 3 MB)");
    sh::remove(&dir)?;
    for name in ["package.json", "package-lock.json"] {
        sh::write(&dir.join(name), sh::read_text(&workspace.root.join(PEERS).join(name))?)?;
    }
    // Scripts of packages are nobody's to run here.
    let words = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"];
    sh::output(Command::new("npm").args(words).current_dir(&dir))?;
    sh::write(&dir.join(MADE_OF), lock)?;
    Ok(dir)
}

/// mitmproxy: its program without a screen.
fn mitmproxy(workspace: &Workspace) -> Res<PathBuf> {
    let dir = workspace.target.join("peers/mitmproxy");
    python::made(workspace, &dir, MITMPROXY, "mitmproxy (about 40 MB)")?;
    Ok(dir.join("bin/mitmdump"))
}
