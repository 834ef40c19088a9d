//! The message of the day: what the machine's own services say of it right now.

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use octant_sys::clock;
use serde::Deserialize;
use std::io::Read;
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};

/// How long one question may take: a login must not wait for a service that hangs.
const WITHIN_MS: u64 = 2_000;
/// The most bytes of an answer.
const ANSWER_MAX: usize = 1 << 20;

/// What `octant --json status` says.
#[derive(Debug, Deserialize)]
struct Status {
    phase: String,
    reason: String,
    units: Vec<Unit>,
}

#[derive(Debug, Deserialize)]
struct Unit {
    name: String,
    state: String,
    health: Option<String>,
}

/// The message.
pub(crate) fn message() -> String {
    let host = nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let up = clock::boottime_ns() / 1_000_000_000;
    let version = env!("CARGO_PKG_VERSION");
    let health = health(ask(&["--json", "status"]).as_deref());
    let ledger = ledger(ask(&["ledger", "checkpoint"]).as_deref());
    format!(
        "\nOctant {version} on {host}, up {}:{:02}\nhealth: {health}\nledger: {ledger}\n\n",
        up / 3_600,
        up / 60 % 60
    )
}

fn health(answer: Option<&str>) -> String {
    let Some(status) = answer.and_then(|text| serde_json::from_str::<Status>(text).ok()) else {
        return "PID 1 did not answer in time".into();
    };
    let bad = |unit: &&Unit| {
        !matches!(unit.state.as_str(), "ready" | "done") || unit.health.as_deref() == Some("unhealthy")
    };
    let ready = status.units.iter().filter(|unit| !bad(unit)).count();
    let not: Vec<&str> = status.units.iter().filter(bad).map(|unit| unit.name.as_str()).collect();
    let mut text = format!("{}, {ready} of {} units as they should be", status.phase, status.units.len());
    if !not.is_empty() {
        text += &format!("; not: {}", not.join(" "));
    }
    if !status.reason.is_empty() {
        text += &format!(" ({})", status.reason);
    }
    plain(&text)
}

/// A checkpoint's second line is the number of entries, its third the root hash (C2SP tlog-checkpoint).
fn ledger(answer: Option<&str>) -> String {
    let parts = answer.and_then(|text| {
        let mut lines = text.lines().skip(1);
        Some((lines.next()?.parse::<u64>().ok()?, lines.next()?.to_owned()))
    });
    match parts {
        Some((entries, root)) => plain(&format!("checkpoint of {entries} entries, root {root}")),
        None => "did not answer in time; octant status says why".into(),
    }
}

fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// What this program answers to these words as the operator's command line; none when it takes too long or fails.
fn ask(words: &[&str]) -> Option<String> {
    let mut command = Command::new("/proc/self/exe");
    std::os::unix::process::CommandExt::arg0(&mut command, "octant");
    command.args(words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().ok()?;
    let text = read(&mut child);
    // One that has answered has ended already, or is about to.
    if text.is_none() {
        let _may_have_ended = child.kill();
    }
    let ended = child.wait().ok()?;
    text.filter(|_| ended.success())
}

fn read(child: &mut Child) -> Option<String> {
    let mut out = child.stdout.take()?;
    let deadline = clock::monotonic_ns() + WITHIN_MS * 1_000_000;
    let mut bytes = Vec::new();
    let mut part = [0; 4096];
    loop {
        let left = deadline.saturating_sub(clock::monotonic_ns()) / 1_000_000;
        let timeout = PollTimeout::try_from(left).ok().filter(|_| left > 0)?;
        match poll(&mut [PollFd::new(out.as_fd(), PollFlags::POLLIN)], timeout) {
            Err(nix::Error::EINTR) => continue,
            Ok(1..) => {}
            _ => return None,
        }
        match out.read(&mut part).ok()? {
            0 => return String::from_utf8(bytes).ok(),
            length if bytes.len() + length > ANSWER_MAX => return None,
            length => bytes.extend_from_slice(&part[..length]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_is_what_the_units_are() {
        let unit = |name: &str, state: &str, health: &str| {
            format!("{{\"name\":\"{name}\",\"state\":\"{state}\",\"health\":{health}}}")
        };
        let status = |units: &[String], reason: &str| {
            format!(
                "{{\"phase\":\"running\",\"reason\":\"{reason}\",\"now_ns\":1,\"units\":[{}]}}",
                units.join(",")
            )
        };
        let good = [unit("ledger", "ready", "\"ok\""), unit("job", "done", "null")];
        assert_eq!(health(Some(&status(&good, ""))), "running, 2 of 2 units as they should be");
        let bad = [unit("ledger", "ready", "\"unhealthy\""), unit("vault", "back-off", "\"ok\"")];
        assert_eq!(
            health(Some(&status(&bad, "x\\u001b"))),
            "running, 0 of 2 units as they should be; not: ledger vault (x?)"
        );
        for none in [None, Some(""), Some("{}")] {
            assert_eq!(health(none), "PID 1 did not answer in time");
        }
    }

    #[test]
    fn the_ledgers_line_is_its_checkpoint() {
        assert_eq!(ledger(Some("origin\n42\nqL0=\n\n- x y\n")), "checkpoint of 42 entries, root qL0=");
        for none in [None, Some(""), Some("origin\nmany\nroot\n")] {
            assert!(ledger(none).starts_with("did not answer"));
        }
    }
}
