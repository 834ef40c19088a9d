//! The writer of logs: what units print, on disk.
//!
//! PID 1 reads what units print and hands each line over without waiting, so that a disk that stands still holds up
//! this process and nobody else. It is no service: it has no socket, and nobody asks it for anything.
//!
//! Owns: the files of logs, how long they get and how many there are.
//! Promises: a line is one line of its unit's file, whole; a unit has at most as many files, as long, as `[log]` says.
//! Never: reads what is in a line.
#![forbid(unsafe_code)]

mod files;

use files::Files;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{MsgFlags, recv};
use octant_api::boot::{BootConfig, BootConfigError};
use octant_api::logs::{LogConfig, PACKET_MAX, open_packet};
use octant_api::unit::{Criticality, Restart, Spec};
use octant_ids::{Exit, ServiceName};
use octant_service::{ServiceError, confine_helper_in};
use octant_sys::{clock, inherit};
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::process::ExitCode;

/// What PID 1 knows of it.
pub const SPEC: Spec = Spec {
    name: "log",
    about: "writes what units print",
    needs: &[],
    restart: Restart::Always,
    criticality: Criticality::Degrades,
    ready_within_ms: 10_000,
    stop_within_ms: 2_000,
    watchdog_ms: 60_000,
    // It has none.
    socket_mode: 0,
    capabilities: &[],
    root: false,
    optional: false,
    argv: &["log-writer"],
};

const PROFILE: &str = include_str!("../profile.json");
/// How often it says how it is.
const BEAT_MS: u16 = 5_000;
/// After it was told to end: so long without a line is the end of what others say on their way down.
const QUIET_MS: u16 = 50;

/// Why it cannot work.
#[derive(Debug, thiserror::Error)]
enum LogError {
    #[error("the descriptor {0} was not passed by PID 1")]
    Descriptor(&'static str),
    #[error("{step}: {source}")]
    System { step: &'static str, source: io::Error },
    #[error("the configuration that PID 1 passed: {0}")]
    Config(#[from] BootConfigError),
    #[error("[log]: {0}")]
    Table(String),
    #[error(transparent)]
    Confine(#[from] ServiceError),
}

fn at<E: Into<io::Error>>(step: &'static str) -> impl FnOnce(E) -> LogError {
    move |source| LogError::System { step, source: source.into() }
}

/// `octant log-writer`, as PID 1 starts it: with the descriptors `config` and `lines`.
#[must_use]
pub fn main() -> ExitCode {
    match run() {
        Ok(()) => Exit::Ok.into(),
        Err(error) => {
            // PID 1 keeps the last line of each unit, for the status.
            let _nobody_else_to_tell = writeln!(io::stderr(), "error: {error}");
            Exit::Failed.into()
        }
    }
}

fn inherited(name: &'static str) -> Result<OwnedFd, LogError> {
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let number = (3..).zip(names.split(':')).find(|(_, known)| *known == name).map(|(number, _)| number);
    inherit::take(number.ok_or(LogError::Descriptor(name))?).map_err(at("take an inherited descriptor"))
}

fn run() -> Result<(), LogError> {
    let mut config = File::from(inherited("config")?);
    let lines = inherited("lines")?;
    let mut bytes = Vec::new();
    config.rewind().and_then(|()| config.read_to_end(&mut bytes)).map_err(at("read the configuration"))?;
    let boot = BootConfig::from_json(&bytes)?;
    let config: LogConfig =
        serde_json::from_value(boot.service.clone()).map_err(|error| LogError::Table(error.to_string()))?;
    config.check().map_err(|(_, why)| LogError::Table(why))?;
    let term = SigSet::from_iter([Signal::SIGTERM]);
    term.thread_block().map_err(at("block SIGTERM"))?;
    let signals =
        SignalFd::with_flags(&term, SfdFlags::SFD_CLOEXEC).map_err(at("a descriptor of signals"))?;
    let init = UnixDatagram::unbound().map_err(at("a socket"))?;
    if let Some(path) = std::env::var_os("NOTIFY_SOCKET") {
        init.connect(path).map_err(at("reach PID 1"))?;
    }
    let dir = boot.layout.log;
    confine_helper_in("log", &[PROFILE], &dir)?;
    serve(&lines, &signals, &init, &mut Files::new(dir, config)).map_err(at("take lines"))
}

fn serve(lines: &OwnedFd, signals: &SignalFd, init: &UnixDatagram, files: &mut Files) -> io::Result<()> {
    let mut first = "READY=1\n";
    let (mut told, mut ending, mut beat_ns) = (None, false, 0);
    loop {
        let (health, now_ns) = (files.health(), clock::monotonic_ns());
        // Each beat, however many lines come in between, and as soon as it is another.
        if told.as_ref() != Some(&health) || now_ns >= beat_ns {
            // A PID 1 that does not listen is no reason to stop writing; the watchdog tells.
            let _not_heard = init.send(format!("{first}WATCHDOG=1\nX_OCTANT_HEALTH={health}").as_bytes());
            (first, told, beat_ns) = ("", Some(health), now_ns + u64::from(BEAT_MS) * 1_000_000);
        }
        let mut ready =
            [PollFd::new(lines.as_fd(), PollFlags::POLLIN), PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        let watched = if ending { &mut ready[..1] } else { &mut ready[..] };
        match poll(watched, PollTimeout::from(if ending { QUIET_MS } else { BEAT_MS })) {
            Ok(0) if ending => return Ok(()),
            Ok(0) => files.probe(),
            Ok(_) => {
                ending |= ready[1].any() == Some(true);
                take(lines, files)?;
            }
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Writes what is there.
fn take(lines: &OwnedFd, files: &mut Files) -> io::Result<()> {
    let mut packet = [0; PACKET_MAX];
    // Health and signals have their turn in between.
    for _ in 0..256 {
        match recv(lines.as_raw_fd(), &mut packet, MsgFlags::MSG_DONTWAIT) {
            Ok(length) => {
                let opened = open_packet(&packet[..length]);
                if let Some((unit, line)) = opened.filter(|(unit, _)| unit.parse::<ServiceName>().is_ok()) {
                    files.write(unit, line);
                }
            }
            Err(Errno::EAGAIN) => break,
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::signal::raise;
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, send, socketpair};
    use octant_api::logs::{Line, Stream};

    #[test]
    fn what_comes_after_the_order_to_end_is_written_too() {
        let dir = std::env::temp_dir().join(format!("octant-log-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let kind = (AddressFamily::Unix, SockType::SeqPacket);
        let (ours, theirs) = socketpair(kind.0, kind.1, None, SockFlag::SOCK_CLOEXEC).unwrap();
        let term = SigSet::from_iter([Signal::SIGTERM]);
        term.thread_block().unwrap();
        let signals = SignalFd::with_flags(&term, SfdFlags::SFD_CLOEXEC).unwrap();
        let (init, heard) = UnixDatagram::pair().unwrap();
        raise(Signal::SIGTERM).unwrap();
        let line = Line { ms: 1, unit: "vault".into(), pid: 2, stream: Stream::Err, text: "stopping".into() };
        let packet = line.packet().unwrap();
        for packet in [&packet[..], b"../../etc/x\n{}\n", b"nonsense"] {
            send(ours.as_raw_fd(), packet, MsgFlags::empty()).unwrap();
        }
        serve(&theirs, &signals, &init, &mut Files::new(dir.clone(), LogConfig::default())).unwrap();
        let text = std::fs::read_to_string(dir.join("vault.log")).unwrap();
        assert_eq!(text.as_bytes(), &packet["vault\n".len()..]);
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 1, "no other file came to be");
        let mut said = [0; 256];
        let length = heard.recv(&mut said).unwrap();
        assert_eq!(&said[..length], b"READY=1\nWATCHDOG=1\nX_OCTANT_HEALTH=ok");
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn the_profile_names_calls_that_there_are() {
        octant_service::Profile::parse(PROFILE).unwrap();
    }
}
