//! What the tests add to the image: their scripts, their agents' signed manifests, and the probe.

use octant_tests::cpio::Cpio;
use octant_tests::environment::{Scratch, binary, path};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The operator's name in the key that `cargo x` makes.
const OPERATOR: &str = "operator";

/// The folder with the guest's scripts and manifests.
pub(crate) fn guest_files() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("guest")
}

/// Signs `manifest` with the operator's key that the image trusts, into `envelope`.
pub(crate) fn sign(manifest: &Path, envelope: &Path) {
    let signed = Command::new(binary())
        .args(["manifest", "sign", "--key"])
        .arg(path("OCTANT_OPERATOR_KEY"))
        .arg("--output")
        .arg(envelope)
        .arg(manifest)
        .output()
        .unwrap_or_else(|e| panic!("manifest sign: {e}"));
    assert!(signed.status.success(), "{}: {}", manifest.display(), String::from_utf8_lossy(&signed.stderr));
}

/// The tests' agents: name, executable, arguments, and further trees whose files may be executed.
const AGENTS: [(&str, &str, &str, &str); 6] = [
    ("memory", "/bin/sh", r#""/srv/test/memory.sh""#, ""),
    ("pids", "/bin/sh", r#""/srv/test/pids.sh""#, ""),
    ("limits", "/bin/sh", r#""-c", "while :; do :; done""#, ""),
    ("writer", "/bin/sh", r#""/srv/test/writer.sh""#, ""),
    ("vault", "/bin/sh", r#""/srv/test/vault-agent.sh""#, ""),
    (
        "probe",
        "/opt/octant-probe",
        r#""also=opt", "also=srv", "pids=32", "terminals", "octant", "@CALLS@""#,
        r#""/opt/octant-probe""#,
    ),
];

/// What the probe is told of the system calls that its manifest's profile grants.
fn calls() -> String {
    let calls = octant_workstation::granted("shell").unwrap_or_else(|| panic!("no profile shell"));
    format!("calls={}", calls.iter().map(u32::to_string).collect::<Vec<_>>().join(","))
}

/// Writes the manifest of one of the tests' agents.
fn manifest(scratch: &Scratch, (name, executable, args, paths): (&str, &str, &str, &str)) -> PathBuf {
    let text = include_str!("../guest/agent.toml")
        .replace("@NAME@", name)
        .replace("@OPERATOR@", OPERATOR)
        .replace("@EXECUTABLE@", executable)
        .replace("@ARGS@", &args.replace("@CALLS@", &calls()))
        .replace("@ROLE@", "developer")
        .replace("@MEMORY@", if name == "memory" { "32MiB" } else { "128MiB" })
        .replace("@QUOTA@", if name == "limits" { "50" } else { "100" })
        .replace("@READ@", r#""/srv/test""#)
        .replace("@PATHS@", paths);
    let target = scratch.path(&format!("{name}.toml"));
    fs::write(&target, text).unwrap_or_else(|e| panic!("{}: {e}", target.display()));
    target
}

/// Signs the manifest of an agent that runs this script, both of them in `dir`, for an instance on this machine.
pub(crate) fn agent_below(scratch: &Scratch, dir: &Path, script: &str) {
    let file = dir.join("uses.sh");
    fs::write(&file, script).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let args = format!("\"{}\"", file.display());
    let source = manifest(scratch, ("vault", "/bin/sh", &args, ""));
    let read = |path: &Path| fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let text = read(&source).replace("/srv/test", &dir.display().to_string());
    fs::write(&source, text).unwrap_or_else(|e| panic!("{}: {e}", source.display()));
    sign(&source, &dir.join("vault.signed.json"));
}

/// A cpio archive with everything that the tests need below `/srv/test`, and the probe in `/opt`.
pub(crate) fn overlay(scratch: &Scratch) -> PathBuf {
    overlay_with(scratch, &[])
}

/// The same with further files, by their paths.
pub(crate) fn overlay_with(scratch: &Scratch, more: &[(&str, &str)]) -> PathBuf {
    let mut archive = Cpio::default();
    ["opt", "srv", "srv/test"].iter().for_each(|dir| archive.directory(dir));
    let read = |path: &Path| fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    for agent in AGENTS {
        let envelope = scratch.path(&format!("{}.signed.json", agent.0));
        sign(&manifest(scratch, agent), &envelope);
        archive.file(&format!("srv/test/{}.signed.json", agent.0), 0o644, &read(&envelope));
    }
    let scripts = fs::read_dir(guest_files()).unwrap_or_else(|e| panic!("{}: {e}", guest_files().display()));
    for script in
        scripts.flatten().map(|entry| entry.path()).filter(|p| p.extension().is_some_and(|e| e == "sh"))
    {
        let name = script.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        archive.file(&format!("srv/test/{name}"), 0o755, &read(&script));
    }
    for (name, content) in more {
        archive.file(name, 0o644, content.as_bytes());
    }
    archive.file("opt/octant-probe", 0o755, &read(&path("OCTANT_PROBE")));
    let target = scratch.path("overlay.cpio");
    fs::write(&target, archive.finish()).unwrap_or_else(|e| panic!("{}: {e}", target.display()));
    target
}
