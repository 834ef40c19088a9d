//! A server of tools that somebody else wrote, in a workstation of its own, and an agent that calls it from another: both
//! are programs by the official SDK of the protocol, which knows nothing of Octant.

use crate::exports::said;
use crate::namespace::{Instance, ended};
use octant_tests::agents::guest_files;
use octant_tests::environment::{binary, path};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where the interpreter's own library is, which the environment only points to.
pub(crate) fn base(python: &Path) -> String {
    let (code, text) = said(Command::new(python).args(["-c", "import sys; print(sys.base_prefix)"]));
    assert_eq!(code, Some(0), "{text}");
    text.trim().to_owned()
}

/// The signed manifest of a program in Python, with one line about skills.
fn manifest(dir: &Path, name: &str, program: &str, skills: &str) -> PathBuf {
    let (python, script) = (path("OCTANT_PYTHON"), guest_files().join("../python").join(program));
    let script = fs::canonicalize(&script).unwrap_or_else(|e| panic!("{}: {e}", script.display()));
    let mut new = Command::new(binary());
    new.args([
        "manifest",
        "new",
        name,
        "--operator",
        "maker",
        "--role",
        "admin",
        "--profile",
        "python",
        "--",
    ]);
    // The profile's own interpreter, and then that of the environment.
    let (code, text) = said(new.arg("/usr/bin/python3").arg("-B").arg(&script));
    assert_eq!(code, Some(0), "{text}");
    // The environment is wherever the target directory is, which can be below /tmp.
    let environment = python.parent().and_then(Path::parent).unwrap_or(&python).display().to_string();
    let mut paths = vec![environment, "/usr".to_owned(), base(&python)];
    paths.dedup();
    let line = |line: &str| match line {
        line if line.starts_with("paths = [") => format!("paths = {paths:?}"),
        line if line.starts_with("read = [") => format!("read = [{script:?}, {}", &line["read = [".len()..]),
        line if line.starts_with("executable = ") => format!("executable = {python:?}"),
        "[skills]" => format!("[skills]\n{skills}"),
        line => line.to_owned(),
    };
    let text: Vec<String> = text.lines().map(line).collect();
    let (source, envelope) =
        (dir.join(name).with_extension("toml"), dir.join(name).with_extension("signed.json"));
    fs::write(&source, text.join("\n")).unwrap_or_else(|e| panic!("{}: {e}", source.display()));
    let mut sign = Command::new(binary());
    sign.args(["manifest", "sign", "--key"]).arg(dir.join("maker.key")).arg("--output").arg(&envelope);
    let (code, text) = said(sign.arg(&source));
    assert_eq!(code, Some(0), "{text}");
    envelope
}

#[test]
fn a_server_of_tools_by_the_official_sdk_is_approved_and_called_from_another_workstation() {
    let instance = Instance::new("servers");
    let dir = instance.scratch.path("files");
    fs::create_dir_all(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    // The environment can be where only an administrator's manifests reach.
    let mut keygen = Command::new(binary());
    let (code, text) =
        said(keygen.args(["manifest", "keygen", "maker", "--role", "admin", "--into"]).arg(&dir));
    assert_eq!(code, Some(0), "{text}");
    let public = fs::read(dir.join("maker.pub")).unwrap_or_else(|e| panic!("{e}"));
    instance.write("etc/trusted/maker.pub", &public);
    let server = manifest(&dir, "server", "tools_server.py", "serves = \"notes\"");
    let caller = manifest(&dir, "caller", "tools_caller.py", "tools = [\"notes__*\"]");
    let job = format!(
        "octant agent spawn {} || exit 1\n\
         until octant mcp servers | grep 'waits for an operator'; do sleep 0.2; done\n\
         id=$(octant approvals list | sed -n 's/ .*offer:notes.*//p')\n\
         octant approvals show $id\n\
         octant approvals allow $id --key {}\n\
         until octant mcp tools notes | grep '^yes .*notes__read'; do sleep 0.2; done\n\
         octant agent spawn --wait {}; octant agent logs caller; octant agent why caller; octant ledger verify",
        server.display(),
        dir.join("maker.key").display(),
        caller.display(),
    );
    ended(
        &instance.accepting(&job),
        0,
        &[
            "description: Adds two numbers.",
            "listed: notes__add notes__read",
            "added: {'result': 5}",
            "not read: True",
            "this agent's manifest does not allow it",
            "the tool others__add (once)",
        ],
    );
}
