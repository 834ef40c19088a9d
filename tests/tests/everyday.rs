//! Everyday work inside: each command of `everyday/*.toml` is an agent under the profile that the file is named for, whose
//! manifest is what `octant manifest new --profile` writes for this machine.

use crate::exports::said;
use crate::namespace::Instance;
use octant_tests::environment::binary;
use serde::Deserialize;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file of `everyday/`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Corpus {
    command: Vec<Case>,
}

/// One command, and what comes of it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    /// The programs of the machine that it needs; `rust` is a toolchain, wherever it is installed.
    #[serde(default)]
    needs: Vec<String>,
    /// A module of the machine's Python that it needs.
    module: Option<String>,
    /// A script for the machine's bash, or else
    run: Option<String>,
    /// a program with its arguments.
    exec: Option<Vec<String>>,
    /// All that it writes, to either output.
    prints: Option<String>,
    #[serde(default)]
    exit: i32,
}

impl Case {
    fn command(&self) -> Vec<String> {
        match (&self.run, &self.exec) {
            (Some(script), None) => {
                ["/usr/bin/bash", "-c", &format!("set -eu\n{script}")].map(str::to_owned).to_vec()
            }
            (None, Some(exec)) => exec.clone(),
            _ => panic!("{:?} has not one of run and exec", self.name),
        }
    }

    /// What it needs that this machine has not.
    fn missing(&self) -> Vec<String> {
        let mut programs: Vec<&str> = self.needs.iter().map(String::as_str).collect();
        programs.extend(self.run.as_ref().map(|_| "bash"));
        let there = |name: &&str| match *name {
            "rust" => toolchain().is_some(),
            name => fs::exists(Path::new("/usr/bin").join(name)).is_ok_and(|there| there),
        };
        let programs = programs.into_iter().filter(|name| !there(name)).map(str::to_owned);
        let module = self.module.iter().filter(|name| {
            let import = format!("import {name}");
            !Command::new("/usr/bin/python3").args(["-c", &import]).output().is_ok_and(|o| o.status.success())
        });
        programs.chain(module.map(|name| format!("Python's {name}"))).collect()
    }
}

/// The directory of the Rust toolchain that is in use.
fn toolchain() -> Option<PathBuf> {
    let printed = Command::new("rustc").args(["--print", "sysroot"]).output().ok()?;
    let dir = PathBuf::from(String::from_utf8(printed.stdout).ok()?.trim());
    dir.join("bin/cargo").is_file().then_some(dir)
}

/// Writes and signs the manifest of a case: the profile's, with the toolchain where that is what it needs.
fn manifest(dir: &Path, profile: &str, case: &Case) -> PathBuf {
    let mut new = Command::new(binary());
    new.args([
        "manifest",
        "new",
        "everyday",
        "--operator",
        "everyday",
        "--role",
        "admin",
        "--profile",
        profile,
    ]);
    let mut command = case.command();
    let rust = toolchain().filter(|_| case.needs.iter().any(|need| need == "rust"));
    if let (Some(dir), Some(script)) = (&rust, command.last_mut()) {
        *script = format!("export PATH={}/bin:$PATH\n{script}", dir.display());
    }
    let (code, mut text) = said(new.arg("--").args(command));
    assert_eq!(code, Some(0), "{}: {text}", case.name);
    if let Some(dir) = rust {
        let paths = "paths = [";
        assert_eq!(text.matches(paths).count(), 1, "{text}");
        text = text.replace(paths, &format!("{paths}{:?}, ", dir.display().to_string()));
    }
    let source = dir.join("manifest.toml");
    fs::write(&source, text).unwrap_or_else(|e| panic!("{}: {e}", source.display()));
    let envelope = dir.join("manifest.signed.json");
    let mut sign = Command::new(binary());
    sign.args(["manifest", "sign", "--key"]).arg(dir.join("../everyday.key"));
    let signed = said(sign.arg("--output").arg(&envelope).arg(source));
    assert_eq!(signed.0, Some(0), "{}: {}", case.name, signed.1);
    envelope
}

/// Runs the cases in one instance, one after the other, and says of each that differs how it does.
fn failures(profile: &str, cases: &[Case]) -> Vec<String> {
    let instance = Instance::new(profile);
    let keys = instance.scratch.path("cases");
    fs::create_dir_all(&keys).unwrap_or_else(|e| panic!("{}: {e}", keys.display()));
    let mut keygen = Command::new(binary());
    let made = said(keygen.args(["manifest", "keygen", "everyday", "--role", "admin", "--into"]).arg(&keys));
    assert_eq!(made.0, Some(0), "{}", made.1);
    let public = fs::read(keys.join("everyday.pub")).unwrap_or_else(|e| panic!("{e}"));
    instance.write("etc/trusted/everyday.pub", &public);
    let mut job = String::new();
    for (i, case) in cases.iter().enumerate() {
        let dir = keys.join(i.to_string());
        fs::create_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
        let envelope = manifest(&dir, profile, case);
        let at = dir.display();
        let _ = writeln!(
            job,
            "octant agent spawn --wait --json {} >{at}/spawn 2>&1; echo $? >{at}/code",
            envelope.display()
        );
        let aid =
            format!("$(sed -n 's/.*\"aid\": *\"\\(agent-[0-9a-z]*\\)\".*/\\1/p' {at}/spawn | head -n 1)");
        let _ = writeln!(job, "octant agent logs {aid} >{at}/log 2>&1");
    }
    let script = keys.join("job.sh");
    fs::write(&script, job).unwrap_or_else(|e| panic!("{e}"));
    let (code, text) = instance.accepting(&format!("sh {}", script.display()));
    let failed = cases.iter().enumerate().filter_map(|(i, case)| {
        let read = |name| fs::read_to_string(keys.join(i.to_string()).join(name)).unwrap_or_default();
        let (ended, log) = (read("code"), read("log"));
        let good =
            ended.trim() == case.exit.to_string() && case.prints.as_ref().is_none_or(|text| *text == log);
        let wanted = case.prints.as_deref().unwrap_or("(anything)");
        (!good).then(|| {
            format!(
                "{profile}: {:?} ended with {}, expected {}; it wrote\n{log}--- expected\n{wanted}--- {}",
                case.name,
                ended.trim(),
                case.exit,
                read("spawn")
            )
        })
    });
    let failed: Vec<String> = failed.collect();
    assert!(code == Some(0) || !failed.is_empty(), "{text}");
    failed
}

/// Straight to standard error, since the test harness keeps what a test that passes prints.
fn say(line: &str) {
    writeln!(std::io::stderr(), "everyday: {line}").unwrap_or_else(|e| panic!("{e}"));
}

fn corpus(profile: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("everyday/{profile}.toml"));
    let text = fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let corpus: Corpus = toml::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let mut cases = Vec::new();
    for case in &corpus.command {
        let missing = case.missing();
        if missing.is_empty() {
            cases.push(case.clone());
        } else {
            say(&format!("SKIPPED {profile}, {:?}: this machine has no {}", case.name, missing.join(", ")));
        }
    }
    let failed = failures(profile, &cases);
    let (ran, all) = (cases.len(), corpus.command.len());
    say(&format!("{profile}: {} of {ran} passed, {} skipped", ran - failed.len(), all - ran));
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
}

#[test]
fn everyday_work_of_one_program() {
    corpus("minimal");
}

#[test]
fn everyday_work_of_shells() {
    corpus("shell");
}

#[test]
fn everyday_work_in_python() {
    corpus("python");
}

#[test]
fn everyday_work_in_node() {
    corpus("node");
}

#[test]
fn everyday_work_of_compilers() {
    corpus("compiler");
}
