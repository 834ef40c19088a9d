//! What tests and benches add to the image: their scripts, their agents' signed manifests, and what these run.

use crate::cpio::Cpio;
use crate::environment::{Scratch, binary, path};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The operator's name in the key that `cargo x` makes.
const OPERATOR: &str = "operator";

/// The folder with the guest's scripts and manifests.
#[must_use]
pub fn guest_files() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("guest")
}

/// Signs `manifest` with the operator's key that the image trusts, into `envelope`.
///
/// # Panics
/// When a file cannot be read, made or signed.
pub fn sign(manifest: &Path, envelope: &Path) {
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

/// One of the tests' agents: what differs between their manifests.
#[derive(Debug, Clone, Copy)]
pub struct Agent<'a> {
    /// Its name, and that of its manifest.
    pub name: &'a str,
    /// Its role, which names the ceiling over it.
    pub role: &'a str,
    /// What is executed: a granted utility, or a program whose path is then granted.
    pub program: &'a str,
    /// Its arguments, as a list in a manifest.
    pub args: &'a str,
    /// The trees that it may read, the same way.
    pub read: &'a str,
    /// `memory_max` and `memory_high`.
    pub memory: [&'a str; 2],
    /// `cpu_quota_percent` and `cpu_weight`.
    pub cpu: [u32; 2],
    /// Further lines of its limits.
    pub limits: &'a str,
    /// Further utilities, a comma before each.
    pub utilities: &'a str,
    /// The lines about models.
    pub models: &'a str,
}

impl Agent<'_> {
    /// What most of them have.
    pub const USUAL: Agent<'static> = Agent {
        name: "",
        role: "developer",
        program: "/bin/sh",
        args: "",
        read: r#""/srv/test""#,
        memory: ["128MiB"; 2],
        cpu: [100; 2],
        limits: "",
        utilities: "",
        models: "allowed = []",
    };

    /// The text of its manifest, by an operator of this name.
    #[must_use]
    pub fn manifest(&self, operator: &str) -> String {
        let path =
            if self.program.starts_with("/bin/") { String::new() } else { format!("{:?}", self.program) };
        include_str!("../guest/agent.toml")
            .replace("@NAME@", self.name)
            .replace("@ROLE@", self.role)
            .replace("@OPERATOR@", operator)
            .replace("@EXECUTABLE@", self.program)
            .replace("@ARGS@", &self.args.replace("@CALLS@", &calls()))
            .replace("@READ@", self.read)
            .replace("@PATHS@", &path)
            .replace("@MEMORY_MAX@", self.memory[0])
            .replace("@MEMORY_HIGH@", self.memory[1])
            .replace("@QUOTA@", &self.cpu[0].to_string())
            .replace("@WEIGHT@", &self.cpu[1].to_string())
            .replace("@LIMITS@", self.limits)
            .replace("@UTILITIES@", self.utilities)
            .replace("@MODELS@", self.models)
    }
}

const SCRIPT: Agent<'static> = Agent::USUAL;
const LOAD: Agent<'static> = Agent { program: "/opt/octant-load", read: "", ..Agent::USUAL };

/// An agent that works on its task with a language model: the double is its provider.
const LOOP: Agent<'static> = Agent {
    program: "/bin/octant",
    args: r#""agent", "loop", "--model", "double/agent-in3000""#,
    read: "",
    utilities: r#", "octant", "sha256sum""#,
    models: "allowed = [\"double/*\"]\ntokens = 1000000\nspend_usd = 1",
    ..Agent::USUAL
};
/// The same with enough for one question and not for two.
const POOR: &str = "allowed = [\"double/*\"]\ntokens = 12000\nspend_usd = 1";

/// Some bounds on disks.
const IO: &str = "io_read_bytes_per_second = \"1MiB\"\nio_write_ops_per_second = 100";

/// The agents of the guest's scripts.
const AGENTS: [Agent<'static>; 18] = [
    Agent { name: "memory", args: r#""/srv/test/memory.sh""#, memory: ["32MiB"; 2], ..SCRIPT },
    Agent { name: "pids", args: r#""/srv/test/pids.sh""#, ..SCRIPT },
    Agent { name: "limits", args: r#""-c", "while :; do :; done""#, cpu: [50; 2], ..SCRIPT },
    Agent { name: "disks", args: r#""-c", "sleep 100""#, read: r#""/srv/disk/part""#, limits: IO, ..SCRIPT },
    Agent { name: "diskless", args: r#""-c", "exit""#, limits: IO, ..SCRIPT },
    Agent { name: "writer", args: r#""/srv/test/writer.sh""#, ..SCRIPT },
    Agent { name: "vault", args: r#""/srv/test/vault-agent.sh""#, ..SCRIPT },
    Agent {
        name: "probe",
        program: "/opt/octant-probe",
        args: r#""also=opt", "also=srv", "pids=32", "terminals", "octant", "@CALLS@""#,
        ..SCRIPT
    },
    Agent { name: "neighbour", args: r#""neighbour", "300""#, ..LOAD },
    Agent { name: "forks", args: r#""forks""#, ..LOAD },
    Agent { name: "swell", args: r#""memory""#, memory: ["128MiB", "32MiB"], ..LOAD },
    Agent { name: "eat", args: r#""memory""#, memory: ["32MiB"; 2], ..LOAD },
    Agent { name: "disk", args: r#""disk""#, ..LOAD },
    Agent { name: "descriptors", args: r#""descriptors""#, ..LOAD },
    Agent { name: "worker", ..LOOP },
    Agent { name: "poor", models: POOR, ..LOOP },
    Agent { name: "heavy", args: r#""busy", "2""#, cpu: [200, 400], ..LOAD },
    Agent { name: "light", args: r#""busy", "2""#, cpu: [200, 100], ..LOAD },
];

/// What the probe is told of the system calls that its manifest's profile grants.
fn calls() -> String {
    let calls = octant_workstation::granted("shell").unwrap_or_else(|| panic!("no profile shell"));
    format!("calls={}", calls.iter().map(u32::to_string).collect::<Vec<_>>().join(","))
}

/// Writes the manifest of one of the tests' agents.
fn manifest(scratch: &Scratch, agent: &Agent<'_>) -> PathBuf {
    let target = scratch.path(&format!("{}.toml", agent.name));
    fs::write(&target, agent.manifest(OPERATOR)).unwrap_or_else(|e| panic!("{}: {e}", target.display()));
    target
}

/// Signs the manifest of an agent that runs this script, both of them in `dir`, for an instance on this machine.
///
/// # Panics
/// When a file cannot be read, made or signed.
pub fn agent_below(scratch: &Scratch, dir: &Path, script: &str) {
    let file = dir.join("uses.sh");
    fs::write(&file, script).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let (args, read) =
        (format!("{:?}", file.display().to_string()), format!("{:?}", dir.display().to_string()));
    let source = manifest(scratch, &Agent { name: "vault", args: &args, read: &read, ..Agent::USUAL });
    sign(&source, &dir.join("vault.signed.json"));
}

/// A cpio archive with everything that the tests need below `/srv/test`, and the probe in `/opt`.
///
/// # Panics
/// When a file cannot be read, made or signed.
#[must_use]
pub fn overlay(scratch: &Scratch) -> PathBuf {
    overlay_with(scratch, &[])
}

/// The same with further files, by their paths.
///
/// # Panics
/// When a file cannot be read, made or signed.
#[must_use]
pub fn overlay_with(scratch: &Scratch, more: &[(&str, &str)]) -> PathBuf {
    let mut archive = Cpio::default();
    ["opt", "srv", "srv/test"].iter().for_each(|dir| archive.directory(dir));
    let read = |path: &Path| fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    for agent in &AGENTS {
        let envelope = scratch.path(&format!("{}.signed.json", agent.name));
        sign(&manifest(scratch, agent), &envelope);
        archive.file(&format!("srv/test/{}.signed.json", agent.name), 0o644, &read(&envelope));
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
    for name in ["octant-probe", "octant-load", "octant-upstream"] {
        archive.file(&format!("opt/{name}"), 0o755, &read(&path("OCTANT_HELPERS").join(name)));
    }
    let target = scratch.path("overlay.cpio");
    fs::write(&target, archive.finish()).unwrap_or_else(|e| panic!("{}: {e}", target.display()));
    target
}

/// A cpio archive with this program at `name` and nothing else.
///
/// # Panics
/// When the program cannot be read or the archive not be written.
#[must_use]
pub fn program_overlay(scratch: &Scratch, name: &str, program: &Path) -> PathBuf {
    let mut archive = Cpio::default();
    archive.directory("opt");
    let bytes = fs::read(program).unwrap_or_else(|e| panic!("{}: {e}", program.display()));
    archive.file(name, 0o755, &bytes);
    let target = scratch.path("program.cpio");
    fs::write(&target, archive.finish()).unwrap_or_else(|e| panic!("{}: {e}", target.display()));
    target
}

/// What a neighbour in the guest felt of whatever ran beside it, in microseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Felt {
    /// What ran.
    pub beside: String,
    /// Half of its work was done within this time of when it was due.
    pub p50: u64,
    /// 99 of 100 were.
    pub p99: u64,
}

/// What `guest/bombs.sh` says of the neighbour, in a console's lines.
#[must_use]
pub fn felt(console: &[String]) -> Vec<Felt> {
    let one = |line: &String| {
        let (beside, said) = line.strip_prefix("# neighbour beside ")?.split_once(": units ")?;
        let words: Vec<&str> = said.split_whitespace().collect();
        let number = |name| {
            let at = words.iter().position(|word| *word == name)?;
            words.get(at + 1)?.parse().ok()
        };
        Some(Felt { beside: beside.into(), p50: number("p50")?, p99: number("p99")? })
    };
    console.iter().filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_neighbour_felt_is_read_from_its_line() {
        let line = |text: &str| text.to_owned();
        let console = [
            line("# neighbour beside a fork bomb: units 600 failed 0 p50 81 p99 1204 most 9000"),
            line("# neighbour beside nothing: "),
            line("ok 1 - beside nothing no work of a neighbour fails"),
        ];
        assert_eq!(felt(&console), [Felt { beside: "a fork bomb".into(), p50: 81, p99: 1204 }]);
    }
}
