//! A TPM 2.0 for a guest, emulated by swtpm: its state outlives guests and is what makes two boots the same machine.

use octant_sys::clock::monotonic_ns;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

/// How long the emulator may take to start or to answer. It takes some ten milliseconds.
const LIMIT: Duration = Duration::from_secs(20);

/// `TPM2_PCR_Allocate` with the platform's empty password: SHA-256 alone, 24 registers.
///
/// A new emulator has four banks, and firmware and stub then hash the whole kernel image four times. Real machines have
/// one or two.
const ONE_BANK: [u8; 0x37] = [
    0x80, 0x02, 0, 0, 0, 0x37, 0, 0, 0x01, 0x2b, // with a session; length; TPM_CC_PCR_Allocate
    0x40, 0, 0, 0x0c, // TPM_RH_PLATFORM
    0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0, // TPM_RS_PW without nonce, attributes and password
    0, 0, 0, 4, // four selections: the algorithm, three bytes of registers
    0, 0x04, 3, 0, 0, 0, // SHA-1
    0, 0x0b, 3, 0xff, 0xff, 0xff, // SHA-256
    0, 0x0c, 3, 0, 0, 0, // SHA-384
    0, 0x0d, 3, 0, 0, 0, // SHA-512
];
/// `TPM2_Shutdown(TPM_SU_CLEAR)`.
const SHUTDOWN: [u8; 12] = [0x80, 0x01, 0, 0, 0, 0x0c, 0, 0, 0x01, 0x45, 0, 0];

/// A running emulator, for one boot of one guest. Dropping it kills it; it also ends when its guest does.
#[derive(Debug)]
pub(crate) struct Tpm {
    child: Child,
    /// What QEMU connects to.
    pub(crate) socket: PathBuf,
    /// Locked as long as it runs: the emulator itself notices another one only after it has taken its connection.
    _lock: File,
}

/// Makes a new TPM in `state`, which must be an empty directory.
///
/// # Panics
/// When the emulator does not start, or does not answer as a TPM.
pub(crate) fn manufacture(state: &Path) {
    let mut tpm = Tpm::start_with(state, "--server", &["--flags", "not-need-init,startup-clear"]);
    let answers = UnixStream::connect(&tpm.socket).and_then(|stream| {
        Ok([answer(&stream, &ONE_BANK)?, answer(&stream, &SHUTDOWN)?])
        // The connection ends here, and with it the emulator.
    });
    let ended = tpm.ended_within(LIMIT);
    let fine = |answer: &Vec<u8>| answer.get(6..10) == Some(&[0; 4]);
    if !answers.as_ref().is_ok_and(|answers| answers.iter().all(fine)) || ended.is_none() {
        panic!("swtpm answered {answers:?}, and ended with {ended:?}{}", said(state));
    }
}

impl Tpm {
    /// Starts the emulator with what it kept in `state`. Only one can run there at a time.
    ///
    /// # Panics
    /// When another one runs there, or when it does not listen within the limit; what it said is in the message.
    pub(crate) fn start(state: &Path) -> Self {
        Self::start_with(state, "--ctrl", &[])
    }

    /// Starts the emulator with a socket of the kind that `channel` says. It ends with its connection, and writes its
    /// state whenever that changes, so that killing it at any time is a power cut and no more.
    fn start_with(state: &Path, channel: &str, more: &[&str]) -> Self {
        let file =
            |name| File::create(state.join(name)).unwrap_or_else(|e| panic!("{}: {e}", state.display()));
        let lock = file("lock");
        if let Err(error) = lock.try_lock() {
            panic!("the TPM in {} serves another guest ({error}); end that one first", state.display());
        }
        let socket = state.join("socket");
        let _gone_or_never_there = fs::remove_file(&socket);
        let child = Command::new("swtpm")
            .args(["socket", "--tpm2", "--terminate", "--tpmstate", &format!("dir={}", state.display())])
            .args([channel, &format!("type=unixio,path={}", socket.display())])
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file("log"))
            .spawn()
            .unwrap_or_else(|e| panic!("swtpm: {e}; `cargo x test` installs it"));
        let mut tpm = Self { child, socket, _lock: lock };
        let deadline = monotonic_ns() + nanos(LIMIT);
        while !listens(&tpm.socket) {
            let ended = tpm.ended_within(Duration::from_millis(5));
            if ended.is_some() || monotonic_ns() > deadline {
                let how = ended.map_or("does not listen".into(), |status| format!("ended with {status}"));
                panic!("swtpm {how}{}", said(state));
            }
        }
        tpm
    }

    /// Its status, when it ends within `limit`.
    fn ended_within(&mut self, limit: Duration) -> Option<ExitStatus> {
        let deadline = monotonic_ns() + nanos(limit);
        loop {
            // It can always be asked: nobody else waits for it.
            if let Some(status) = self.child.try_wait().ok().flatten() {
                return Some(status);
            }
            if monotonic_ns() > deadline {
                return None;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Tpm {
    fn drop(&mut self) {
        // Both fail only when it has ended with its guest.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Whether somebody takes connections at `socket`: the file alone is there an instant before. A connection that only
/// tries would be the emulator's last.
fn listens(socket: &Path) -> bool {
    /// `__SO_ACCEPTCON`, in the fourth column of proc_net_unix(5).
    const ACCEPTS: &str = "00010000";
    let table = fs::read_to_string("/proc/net/unix").unwrap_or_default();
    let path = socket.to_string_lossy();
    table.lines().any(|line| line.ends_with(&*path) && line.split_whitespace().nth(3) == Some(ACCEPTS))
}

/// What the emulator has complained of.
fn said(state: &Path) -> String {
    let log = fs::read_to_string(state.join("log")).unwrap_or_default();
    if log.is_empty() { String::new() } else { format!("\nit said:\n{log}") }
}

/// Sends one command and reads its answer, which begins with a tag and its own length.
fn answer(mut stream: &UnixStream, request: &[u8]) -> std::io::Result<Vec<u8>> {
    stream.set_read_timeout(Some(LIMIT))?;
    stream.write_all(request)?;
    let mut bytes = vec![0; 6];
    stream.read_exact(&mut bytes)?;
    let length = u32::from_be_bytes([bytes[2], bytes[3], bytes[4], bytes[5]]);
    // No answer of a TPM is longer than its buffer of 4 KiB.
    bytes.resize(usize::try_from(length).unwrap_or(0).clamp(6, 4096), 0);
    stream.read_exact(&mut bytes[6..])?;
    Ok(bytes)
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::Scratch;

    /// `TPM2_ReadClock`, whose answer has the number of resets at its byte 26.
    const READ_CLOCK: [u8; 10] = [0x80, 0x01, 0, 0, 0, 0x0a, 0, 0, 0x01, 0x81];

    /// Switches the TPM on and off again, and says how many resets it has counted.
    fn resets(state: &Path) -> u32 {
        let tpm = Tpm::start_with(state, "--server", &["--flags", "not-need-init,startup-clear"]);
        let answer = answer(&UnixStream::connect(&tpm.socket).unwrap(), &READ_CLOCK).unwrap();
        u32::from_be_bytes(answer[26..30].try_into().unwrap())
    }

    #[test]
    fn a_tpm_keeps_its_state_and_serves_one_guest_at_a_time() {
        let scratch = Scratch::new("tpm");
        let state = scratch.path("");
        manufacture(&state);
        let first = resets(&state);
        assert_eq!(resets(&state), first + 1, "it knows that it was on before");

        let tpm = Tpm::start(&state);
        let second = std::panic::catch_unwind(|| Tpm::start(&state));
        assert!(second.is_err(), "two at once would each write over the other's state");
        let pid = tpm.child.id();
        drop(tpm);
        assert!(!Path::new(&format!("/proc/{pid}")).exists(), "nothing of it is left");
        drop(Tpm::start(&state));
    }
}
