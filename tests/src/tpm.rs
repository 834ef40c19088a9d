//! A TPM 2.0 for a guest, emulated by swtpm: its state outlives guests and is what makes two boots the same machine.

use octant_sys::clock::monotonic_ns;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How long the emulator may take to start, in nanoseconds. It takes some ten milliseconds.
const LIMIT_NS: u64 = 20_000_000_000;

/// A running emulator, for one boot of one guest. Dropping it kills it; it also ends when its guest does.
#[derive(Debug)]
pub(crate) struct Tpm {
    child: Child,
    /// What QEMU connects to.
    pub(crate) socket: PathBuf,
    /// Locked as long as it runs: the emulator itself notices another one only after it has taken its connection.
    _lock: File,
}

impl Tpm {
    /// Starts the emulator with what it kept in the directory `state`, or as a new TPM where that is empty. Only one
    /// can run there at a time.
    ///
    /// # Panics
    /// When another one runs there, or when it does not listen within the limit; what it said is in the message.
    pub(crate) fn start(state: &Path) -> Self {
        Self::start_with(state, "--ctrl", &[])
    }

    /// Starts the emulator with a socket of the kind that `channel` says. It ends with its connection, and writes its
    /// state whenever that changes, so that killing it at any time is a power cut and no more.
    fn start_with(state: &Path, channel: &str, more: &[&str]) -> Self {
        let file = |name| {
            let path = state.join(name);
            File::create(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
        };
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
        let deadline = monotonic_ns() + LIMIT_NS;
        while !listens(&tpm.socket) {
            // It can always be asked: nobody else waits for it.
            let ended = tpm.child.try_wait().ok().flatten();
            if ended.is_some() || monotonic_ns() > deadline {
                let how = ended.map_or("does not listen".into(), |status| format!("ended with {status}"));
                let said = fs::read_to_string(state.join("log")).unwrap_or_default();
                panic!("swtpm {how}; it said: {said}");
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        tpm
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::Scratch;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    /// `TPM2_ReadClock`, whose answer of 35 bytes has the number of resets at byte 26.
    const READ_CLOCK: [u8; 10] = [0x80, 0x01, 0, 0, 0, 0x0a, 0, 0, 0x01, 0x81];

    /// Switches the TPM on and off again, and says how many resets it has counted.
    fn resets(state: &Path) -> u32 {
        let tpm = Tpm::start_with(state, "--server", &["--flags", "not-need-init,startup-clear"]);
        let mut stream = UnixStream::connect(&tpm.socket).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(&READ_CLOCK).unwrap();
        let mut answer = [0; 35];
        stream.read_exact(&mut answer).unwrap();
        u32::from_be_bytes(answer[26..30].try_into().unwrap())
    }

    #[test]
    fn a_tpm_keeps_its_state_and_serves_one_guest_at_a_time() {
        let scratch = Scratch::new("tpm");
        let state = scratch.path("");
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
