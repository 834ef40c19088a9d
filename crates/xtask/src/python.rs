//! The Python environment of the programs in tests/python, which check Octant's exports and read and write its vault files
//! without Octant's code.

use crate::sh::{self, Res};
use crate::workspace::Workspace;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the environment of the programs has, beside Python itself.
const REQUIREMENTS: &str = "tests/python/requirements.txt";
const TESTS: &str = "tests/python";
/// Written last: an environment without it was interrupted, one with another text is of other requirements.
const MADE_OF: &str = "made-of";

/// The environment of the programs in tests/python; gives its interpreter.
///
/// # Errors
/// As [`made`].
pub(crate) fn environment(workspace: &Workspace) -> Res<PathBuf> {
    made(workspace, &workspace.target.join("python"), REQUIREMENTS, "the programs in Python (about 25 MB)")
}

/// Makes an environment with these packages unless it is there; gives its interpreter.
///
/// # Errors
/// There is no Python 3 with `venv`, or the packages cannot be fetched.
pub(crate) fn made(workspace: &Workspace, dir: &Path, requirements: &str, of: &str) -> Res<PathBuf> {
    let python =
        sh::which("python3").ok_or("python3 is not on PATH; `cargo x packages` says what needs it")?;
    let file = workspace.root.join(requirements);
    let wanted = made_of(&python, &file)?;
    let interpreter = dir.join("bin/python");
    if std::fs::read_to_string(dir.join(MADE_OF)).is_ok_and(|found| found == wanted)
        && sh::output(Command::new(&interpreter).args(["-c", "pass"])).is_ok()
    {
        return Ok(interpreter);
    }
    println!("      fetching the packages of {of}");
    sh::remove(dir)?;
    let failed = |error: String| {
        format!(
            "the Python environment {} cannot be made; it needs Python 3.10 or later with its `venv` (python3-venv), \
             and the packages of {requirements} from an index that pip reaches\n{error}",
            dir.display()
        )
    };
    sh::output(Command::new(&python).args(["-m", "venv"]).arg(dir)).map_err(failed)?;
    let words = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"];
    // Nothing is compiled: a machine that lacks a wheel is told so, instead of asked for another compiler.
    let words = words.iter().chain(&["--only-binary=:all:", "--requirement"]);
    sh::output(Command::new(&interpreter).args(words).arg(&file)).map_err(failed)?;
    sh::write(&dir.join(MADE_OF), wanted)?;
    Ok(interpreter)
}

/// What an environment has to be made of: this Python and these packages.
fn made_of(python: &Path, requirements: &Path) -> Res<String> {
    let version = sh::text(Command::new(python).args(["-c", "import sys; print(sys.prefix, sys.version)"]))?;
    Ok(format!("{version}{}", sh::read_text(requirements)?))
}

/// Runs the tests of the programs themselves.
///
/// # Errors
/// One fails; what it said is in the message.
pub(crate) fn self_test(workspace: &Workspace, python: &Path) -> Res {
    let words = ["-m", "unittest", "discover", "--quiet", "--start-directory", TESTS];
    // Compiled files would lie in the checkout.
    let mut command = Command::new(python);
    sh::output(command.arg("-B").args(words).current_dir(&workspace.root)).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_requirements_make_another_environment() {
        let Some(python) = sh::which("python3") else { return };
        let file = std::env::temp_dir().join(format!("xtask-python-{}", std::process::id()));
        sh::write(&file, "one==1\n").unwrap();
        let one = made_of(&python, &file).unwrap();
        assert_eq!(made_of(&python, &file).unwrap(), one);
        sh::write(&file, "one==2\n").unwrap();
        assert_ne!(made_of(&python, &file).unwrap(), one);
        sh::remove(&file).unwrap();
    }

    #[test]
    fn every_package_has_one_version() {
        for requirements in [REQUIREMENTS, crate::peers::MITMPROXY, crate::peers::LITELLM] {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(requirements);
            let text = sh::read_text(&path).unwrap();
            let lines = text.lines().filter(|line| !line.starts_with(['#', '-']));
            let named: Vec<_> = lines.map(|line| line.split_once("==").expect(line)).collect();
            assert!(
                named.len() >= 3
                    && named.iter().all(|(name, version)| !name.is_empty() && !version.is_empty()),
                "{requirements}"
            );
        }
    }
}
