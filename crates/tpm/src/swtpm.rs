//! An emulated TPM for tests: the program `swtpm` as a child, on a socket, without a resource manager.

use crate::transport::Stream;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

/// How long a command may take. Tests share the machine with builds.
const TIMEOUT: Duration = Duration::from_secs(60);
/// How long the emulator has to come up: so many times this.
const WAIT: Duration = Duration::from_millis(10);
const WAITS: u32 = 3000;

/// A running emulator with a state of its own. Both end with it.
#[derive(Debug)]
pub struct Swtpm {
    child: Child,
    dir: PathBuf,
}

impl Swtpm {
    /// A TPM as it leaves the factory, started.
    ///
    /// # Errors
    /// There is no `swtpm`, or it does not come up.
    pub fn start() -> io::Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        // Short, since the path of a socket has at most 107 bytes.
        let dir = std::env::temp_dir().join(format!("octant-tpm-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&dir)?;
        match spawn(&dir) {
            Ok(child) => Ok(Self { child, dir }),
            Err(error) => {
                let _ = std::fs::remove_dir_all(&dir);
                Err(error)
            }
        }
    }

    /// Turns it off and on again: PCRs are as after a reset, what is sealed stays sealed.
    ///
    /// # Errors
    /// It does not come up again.
    pub fn restart(&mut self) -> io::Result<()> {
        self.stop()?;
        self.child = spawn(&self.dir)?;
        Ok(())
    }

    fn stop(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        for socket in ["tpm", "control"] {
            std::fs::remove_file(self.dir.join(socket))?;
        }
        Ok(())
    }

    /// A connection. It serves one at a time.
    ///
    /// # Errors
    /// It has ended.
    pub fn connect(&self) -> io::Result<Stream<UnixStream>> {
        let socket = UnixStream::connect(self.dir.join("tpm"))?;
        socket.set_read_timeout(Some(TIMEOUT))?;
        Ok(Stream(socket))
    }

    /// The path of its socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.dir.join("tpm")
    }
}

impl Drop for Swtpm {
    fn drop(&mut self) {
        // It may have ended already, and what is left in the temporary directory is no reason to fail.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn spawn(dir: &Path) -> io::Result<Child> {
    let socket = |name: &str| format!("type=unixio,path={}", dir.join(name).display());
    let mut command = Command::new("swtpm");
    command.args(["socket", "--tpm2", "--flags", "not-need-init,startup-clear"]);
    command.arg("--tpmstate").arg(format!("dir={}", dir.display()));
    command.args(["--server", &socket("tpm"), "--ctrl", &socket("control")]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| {
        let message = format!("swtpm cannot be started ({error}); `cargo x test` installs it");
        io::Error::new(error.kind(), message)
    })?;
    for _ in 0..WAITS {
        // The socket is there before anybody listens at it.
        if UnixStream::connect(dir.join("tpm")).is_ok() {
            return Ok(child);
        }
        if child.try_wait()?.is_some() {
            break;
        }
        thread::sleep(WAIT);
    }
    let _ = child.kill();
    let said = child.wait_with_output()?.stderr;
    Err(io::Error::other(format!("swtpm did not come up: {}", String::from_utf8_lossy(&said).trim())))
}
