//! A throw-away agent: `octant run` with a manifest that grants next to nothing, its key and record in a directory that
//! is removed afterwards. It needs no running Octant and no operator's key.

use super::attempts::{ATTEMPTS, Attempt, OWN, PIDS};
use super::{Check, Part, Verdict};
use nix::errno::Errno;
use octant_ids::ByteSize;
use octant_manifest::Outline;
use serde::{Deserialize, Serialize};
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Seek};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

/// How long it may take from the first step to the last attempt.
const WITHIN: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// The most that is read of what it and its supervisor wrote.
const TEXT_MAX: u64 = 64 << 10;

/// What one attempt came to. Without an error number it was about to be made; 0 is success.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Answer {
    pub(super) attempt: String,
    pub(super) errno: Option<i32>,
}

/// What became of the agent.
#[derive(Debug, Clone)]
pub(super) enum Tried {
    /// Its supervisor could not be started, or did not end in its time.
    Not(String),
    /// It ended, or was never begun; what it said, and what its supervisor said.
    Ended { status: ExitStatus, answers: Vec<Answer>, said: String },
}

/// Runs one. Layers that are `lacking` are known, and are gone without, so that the others are tried.
pub(super) fn try_one(lacking: &[&str]) -> Tried {
    let dir = std::env::temp_dir().join(format!("octant-doctor-{}", std::process::id()));
    let made = DirBuilder::new().mode(0o700).create(&dir);
    if let Err(error) = made {
        return Tried::Not(format!("{}: {error}", dir.display()));
    }
    let tried = supervised(&dir, lacking).unwrap_or_else(|error| Tried::Not(error.to_string()));
    // Somebody else's cleaning up is no failure of the agent's.
    let _gone = fs::remove_dir_all(&dir);
    tried
}

fn manifest() -> String {
    let mut outline = Outline::minimal("doctor", "admin", "doctor");
    outline.executable = "/bin/sh".into();
    outline.args = vec!["-c".into(), format!("exec {OWN} self --probe {}", std::process::id())];
    outline.max_spawns = 1;
    outline.utilities = vec!["sh".into()];
    outline.resources.pids_max = PIDS as u64;
    // Each of those processes is this whole binary.
    outline.resources.memory_max = ByteSize(128 << 20);
    outline.resources.memory_high = ByteSize(112 << 20);
    outline.text()
}

fn supervised(dir: &Path, lacking: &[&str]) -> io::Result<Tried> {
    let file = |name: &str| File::options().read(true).write(true).create_new(true).open(dir.join(name));
    let work = dir.join("work");
    DirBuilder::new().mode(0o700).create(&work)?;
    let path: PathBuf = dir.join("manifest.toml");
    fs::write(&path, manifest())?;
    let (mut said, mut complained) = (file("out")?, file("errors")?);
    let accepted: Vec<&str> =
        [("cgroup limits", "cgroup"), ("cgroup v2", "cgroup"), ("nftables", "nftables")]
            .iter()
            .filter(|(what, _)| lacking.contains(what))
            .map(|(_, layer)| *layer)
            .collect();
    let mut command = Command::new("/proc/self/exe");
    command.arg("run").arg("--manifest").arg(&path);
    if !accepted.is_empty() {
        command.arg(format!("--accept-missing={}", accepted.join(",")));
    }
    command.env("XDG_CONFIG_HOME", dir).env("XDG_STATE_HOME", dir).env("USER", "doctor").current_dir(&work);
    command.stdin(Stdio::null()).stdout(said.try_clone()?).stderr(complained.try_clone()?);
    let mut child = command.spawn()?;
    let rounds = WITHIN.as_millis() / LOOK_AGAIN.as_millis();
    for _ in 0..rounds {
        if let Some(status) = child.try_wait()? {
            let answers =
                text(&mut said)?.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
            return Ok(Tried::Ended { status, answers, said: text(&mut complained)? });
        }
        std::thread::sleep(LOOK_AGAIN);
    }
    child.kill()?;
    child.wait()?;
    Ok(Tried::Not(format!("it was not done within {} s", WITHIN.as_secs())))
}

fn text(file: &mut File) -> io::Result<String> {
    file.rewind()?;
    let mut bytes = Vec::new();
    file.take(TEXT_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn check(what: &str, verdict: Verdict, found: impl Into<String>, how: impl Into<String>) -> Check {
    Check::new(Part::Agent, what, verdict, found, how)
}

/// What the answers mean, where these layers are known to be missing.
pub(super) fn judge(tried: &Tried, lacking: &[&str]) -> Vec<Check> {
    const WHAT: &str = "throw-away agent";
    let (status, answers, said) = match tried {
        Tried::Not(why) => {
            let how = "Nothing was tried inside a workstation. See the rows above for what is missing.";
            return vec![check(WHAT, Verdict::Broken, why, how)];
        }
        Tried::Ended { status, answers, said } => (status, answers, said),
    };
    if answers.is_empty() {
        let why = said.lines().last().unwrap_or("it said nothing").to_owned();
        let verdict = if status.code() == Some(8) { Verdict::Missing } else { Verdict::Broken };
        let how = if said.contains("step execute failed") {
            "A workstation stands, and nothing runs in it. It has no libraries of the machine's: this binary has to be \
             linked statically, as a release is."
        } else {
            "No workstation could be built, so nothing was tried inside one. The text names the step and the cause."
        };
        return vec![check(WHAT, verdict, why, how)];
    }
    let mut checks = vec![check(WHAT, Verdict::Ok, format!("{} attempts were made", ATTEMPTS.len()), "")];
    checks.extend(ATTEMPTS.iter().map(|attempt| judge_one(attempt, answers, *status, lacking)));
    let accepted: Vec<&str> = said.lines().filter(|line| line.contains("without layer")).collect();
    if let (Some(first), true) = (accepted.first(), lacking.is_empty()) {
        let how = "Agents of this user go without this layer; started by root they have it.";
        checks[0] = check(WHAT, Verdict::Weaker, first.trim_start_matches("octant run: "), how);
    }
    checks
}

fn judge_one(attempt: &Attempt, answers: &[Answer], status: ExitStatus, lacking: &[&str]) -> Check {
    let what = format!("denied: {}", attempt.name);
    let about: Vec<&Answer> = answers.iter().filter(|answer| answer.attempt == attempt.name).collect();
    let errno = about.iter().find_map(|answer| answer.errno);
    let layer = attempt.layer;
    match errno {
        Some(0) if lacking.contains(&layer) => {
            let how = format!("The layer {layer} is missing here; the row {layer:?} says how to get it.");
            check(&what, Verdict::Missing, format!("NOT DENIED: without {layer}"), how)
        }
        Some(0) => {
            let how = format!(
                "The layer {layer} has to stop this and does not. Start no agents that you do not trust on this \
                 kernel, and report this with `octant doctor --json` and the kernel's version."
            );
            check(&what, Verdict::Broken, format!("NOT DENIED by {layer}"), how)
        }
        Some(errno) => {
            let errno = Errno::from_raw(errno);
            let found = format!("{errno:?} by {layer}");
            if attempt.denials.contains(&errno) {
                return check(&what, Verdict::Ok, found, "");
            }
            let how = format!(
                "It was stopped, but {layer} answers otherwise: another layer stopped it, and this one may not be in \
                 force."
            );
            check(&what, Verdict::Weaker, format!("{errno:?}, not by {layer}"), how)
        }
        // The kernel may kill all of an agent that takes too much.
        None if !about.is_empty() && killed(status) => {
            check(&what, Verdict::Ok, format!("killed by {layer}"), "")
        }
        None => {
            let how = "The agent ended before this was tried; the last row before this one is what it did.";
            check(&what, Verdict::Broken, "not tried", how)
        }
    }
}

/// `octant run` passes a signal on as 128 and its number.
fn killed(status: ExitStatus) -> bool {
    status.code() == Some(128 + 9) || status.signal() == Some(9)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all_denied() -> Vec<Answer> {
        let denied = |attempt: &Attempt| Answer {
            attempt: attempt.name.into(),
            errno: Some(attempt.denials[0] as i32),
        };
        ATTEMPTS.iter().map(denied).collect()
    }

    fn ended(answers: Vec<Answer>, code: i32) -> Tried {
        Tried::Ended { status: ExitStatus::from_raw(code << 8), answers, said: String::new() }
    }

    #[test]
    fn an_agent_that_was_denied_everything_is_in_order() {
        let checks = judge(&ended(all_denied(), 0), &[]);
        assert_eq!(checks.len(), ATTEMPTS.len() + 1);
        assert!(
            checks.iter().all(|check| check.verdict == Verdict::Ok && check.how.is_empty()),
            "{checks:?}"
        );
    }

    /// Each attempt that gets through changes its own row alone, to the worst that there is.
    #[test]
    fn whatever_gets_through_is_named_with_the_layer_that_let_it() {
        for (at, attempt) in ATTEMPTS.iter().enumerate() {
            let mut answers = all_denied();
            answers[at].errno = Some(0);
            let checks = judge(&ended(answers.clone(), 0), &[]);
            assert_eq!(checks[at + 1].verdict, Verdict::Broken, "{}", attempt.name);
            assert!(checks[at + 1].found.contains(attempt.layer));
            assert_eq!(checks.iter().filter(|check| check.verdict != Verdict::Ok).count(), 1);
            let known = judge(&ended(answers.clone(), 0), &[attempt.layer]);
            assert_eq!(known[at + 1].verdict, Verdict::Missing, "{}", attempt.name);
            answers[at].errno = Some(Errno::ENOTTY as i32);
            let other = judge(&ended(answers.clone(), 0), &[]);
            assert_eq!(other[at + 1].verdict, Verdict::Weaker, "{}", attempt.name);
            answers.remove(at);
            assert_eq!(judge(&ended(answers, 0), &[])[at + 1].verdict, Verdict::Broken, "not tried");
        }
    }

    #[test]
    fn an_agent_that_is_killed_for_its_memory_was_denied_it() {
        let mut answers = all_denied();
        answers.last_mut().unwrap().errno = None;
        assert_eq!(judge(&ended(answers.clone(), 137), &[]).last().unwrap().verdict, Verdict::Ok);
        assert_eq!(judge(&ended(answers, 1), &[]).last().unwrap().verdict, Verdict::Broken);
    }

    #[test]
    fn a_workstation_that_cannot_be_built_is_one_row_with_the_reason() {
        let tried = Tried::Ended {
            status: ExitStatus::from_raw(8 << 8),
            answers: vec![],
            said: "octant run: layer cgroup is missing".into(),
        };
        let checks = judge(&tried, &[]);
        assert_eq!((checks.len(), checks[0].verdict), (1, Verdict::Missing));
        assert!(checks[0].found.contains("layer cgroup"));
        assert_eq!(judge(&Tried::Not("no room".into()), &[])[0].verdict, Verdict::Broken);
    }

    #[test]
    fn the_manifest_is_one() {
        octant_manifest::Draft::parse(manifest().as_bytes()).unwrap();
    }
}
