//! One secret of 64 bytes sealed and opened, beside what else a machine's owner would use for it.
//!
//! The peers are commands, measured whole, as their users start them; Python's `cryptography` does the same construction
//! as we do within its process. A command of ours is a process and one call of a service: its floor is beside the figures
//! of the library.

use crate::boot::installed;
use crate::instance::Instance;
use crate::table::{Row, Samples, ms, us};
use crate::vault::text;
use octant_sys::clock::monotonic_ns;
use octant_vault::measure::Bare;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Rounds of a race between commands.
const ROUNDS: usize = 25;
/// Seals and openings in the library.
const TIMES: usize = 20_000;
const TEXT: [u8; 64] = [b'7'; 64];
const PYTHON: &str = include_str!("vault_peers.py");

/// A command that seals what is in a file, and one that writes what another file has in it to its output.
struct Tool {
    name: String,
    seal: Vec<String>,
    open: Vec<String>,
    /// What the first command makes.
    sealed: PathBuf,
    /// Where systemd-creds finds the host's key: one of the bench's own.
    host_key: PathBuf,
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

impl Tool {
    fn run(&self, argv: &[String]) -> Result<Output, String> {
        let (program, args) = argv.split_first().ok_or("no command")?;
        let output = Command::new(program)
            .args(args)
            .env("SYSTEMD_CREDENTIAL_SECRET", &self.host_key)
            .stdin(Stdio::null())
            .output()
            .map_err(|error| format!("{program}: {error}"))?;
        if output.status.success() {
            return Ok(output);
        }
        let why = String::from_utf8_lossy(&output.stderr);
        Err(why.lines().last().unwrap_or("it failed without a word").trim().to_owned())
    }

    /// Whether it does here what it shall.
    fn works(&self) -> Result<(), String> {
        let _none_before = fs::remove_file(&self.sealed);
        self.run(&self.seal)?;
        match self.run(&self.open)?.stdout == TEXT {
            true => Ok(()),
            false => Err("what it opens is not what it sealed".to_owned()),
        }
    }

    fn timed(&self, argv: &[String]) -> Result<u64, String> {
        // Some do not write over a file that is there.
        if argv == self.seal {
            let _gone = fs::remove_file(&self.sealed);
        }
        let before = monotonic_ns();
        self.run(argv).map_err(|why| format!("{}: {why}", self.name))?;
        Ok(monotonic_ns() - before)
    }
}

fn systemd(dir: &Path, plain: &str, key: &str, name: &str) -> Tool {
    let sealed = dir.join(format!("systemd-{key}"));
    let (file, key) = (sealed.display().to_string(), format!("--with-key={key}"));
    Tool {
        name: format!("systemd-creds, {name}"),
        seal: words(&["systemd-creds", "encrypt", &key, "--name=bench", plain, &file]),
        open: words(&["systemd-creds", "decrypt", "--name=bench", &file, "-"]),
        sealed,
        host_key: dir.join("host-key"),
    }
}

fn age(dir: &Path, plain: &str) -> Result<Tool, String> {
    let (key, sealed) = (dir.join("age.key"), dir.join("age.sealed"));
    let made = Command::new("age-keygen").arg("-o").arg(&key).stderr(Stdio::null()).status();
    made.map_err(|error| format!("age-keygen: {error}"))?;
    let file = fs::read_to_string(&key).map_err(text)?;
    let to = file.lines().find_map(|line| line.strip_prefix("# public key: "));
    let to = to.ok_or("age-keygen: no public key")?;
    let (key, out) = (key.display().to_string(), sealed.display().to_string());
    Ok(Tool {
        name: "age, X25519".to_owned(),
        seal: words(&["age", "-r", to, "-o", &out, plain]),
        open: words(&["age", "-d", "-i", &key, &out]),
        sealed,
        host_key: PathBuf::new(),
    })
}

/// The tools that work here, and why the others do not.
fn tools(dir: &Path) -> Result<(Vec<Tool>, Vec<String>), String> {
    let plain = dir.join("plain");
    fs::write(&plain, TEXT).map_err(text)?;
    let plain = plain.display().to_string();
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    let mut offer = |tool: Tool| match tool.works() {
        Ok(()) => found.push(tool),
        Err(why) => missing.push(format!("{} not possible here ({why})", tool.name)),
    };
    let has = |program: &str| installed(program);
    if has("systemd-creds") {
        offer(systemd(dir, &plain, "host", "the host's key"));
        // Up to version 255 this is what it called the key that is none.
        let null = systemd(dir, &plain, "null", "no key");
        offer(if null.works().is_ok() { null } else { systemd(dir, &plain, "tpm2-absent", "no key") });
    }
    if has("age") && has("age-keygen") {
        offer(age(dir, &plain)?);
    }
    let absent = ["systemd-creds", "age"].into_iter().filter(|program| !has(program));
    missing.extend(absent.map(|program| format!("{program} not installed")));
    Ok((found, missing))
}

/// Medians of Python's sealing and opening.
fn python() -> Result<(u64, u64), String> {
    let output = Command::new("python3").arg("-c").arg(PYTHON).stdin(Stdio::null()).output();
    let missing = || "Python's cryptography not installed".to_owned();
    let output = output.map_err(|_| missing())?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let both = text.split_once(' ').and_then(|(seal, open)| Some((seal.parse().ok()?, open.parse().ok()?)));
    both.ok_or_else(missing)
}

/// What a command of ours costs at the least: a process that makes one call and prints the answer.
fn floor(instance: &Instance) -> Result<u64, String> {
    let before = monotonic_ns();
    let shown = instance.octant(&["ledger", "show", "1"])?;
    let took = monotonic_ns() - before;
    if shown.status.success() { Ok(took) } else { Err("octant ledger show 1 failed".to_owned()) }
}

fn library(mut work: impl FnMut() -> Result<(), String>) -> Result<Samples, String> {
    let mut samples = Vec::with_capacity(TIMES);
    for at in 0..TIMES + TIMES / 10 {
        let before = monotonic_ns();
        work()?;
        if at >= TIMES / 10 {
            samples.push(monotonic_ns() - before);
        }
    }
    Ok(Samples::new(samples))
}

/// The rows of the table.
pub(crate) fn rows(instance: &Instance, scratch: &Path) -> Result<Vec<Row>, String> {
    eprintln!("bench: vault, beside other tools");
    let dir = scratch.join("peers");
    fs::create_dir_all(dir.join("bare")).map_err(text)?;
    let (tools, missing) = tools(&dir)?;
    let mut commands = vec![[Vec::new(), Vec::new()]; tools.len()];
    let mut floors = Vec::new();
    for _ in 0..ROUNDS {
        floors.push(floor(instance)?);
        for (tool, samples) in tools.iter().zip(&mut commands) {
            samples[0].push(tool.timed(&tool.seal)?);
            samples[1].push(tool.timed(&tool.open)?);
        }
    }
    let bare = Bare::make(&dir.join("bare"), &[9; 64])?;
    let name = "bench/of-64-bytes".parse().map_err(text)?;
    let token = bare.put(&name, &TEXT)?;
    let ours = [library(|| bare.seal(&name, &TEXT).map(drop))?, library(|| bare.open(&token).map(drop))?];
    let python = python();
    let floor = Samples::new(floors);
    let row = |what: &str, at: usize| {
        let medians = commands.iter().map(|samples| Samples::new(samples[at].clone()).median());
        let mut peers: Vec<String> =
            tools.iter().zip(medians).map(|(tool, median)| format!("{} {}", tool.name, ms(median))).collect();
        peers.push(match &python {
            Ok(both) => format!("Python's cryptography, in its process, {}", us([both.0, both.1][at])),
            Err(why) => why.clone(),
        });
        peers.extend(missing.iter().cloned());
        Row {
            what: format!("{what} one secret of 64 bytes; peers: the whole command"),
            ours: format!(
                "{} in the library; a command of ours with one call, `octant ledger show`, {}",
                us(ours[at].median()),
                ms(floor.median())
            ),
            peers: peers.join("; "),
            goal: "none: a command is mostly its process".into(),
            met: None,
        }
    };
    Ok(vec![row("sealing", 0), row("opening", 1)])
}
