//! What others put between a program and the network: the HTTP proxy of @anthropic-ai/sandbox-runtime, by CONNECT, with an
//! allow list of the one host, and mitmproxy, which inspects.
//!
//! `cargo x bench` installs both below the target directory and says where (`OCTANT_SANDBOX_RUNTIME`, `OCTANT_MITMPROXY`).

use crate::gate_outside::HOST;
use octant_sys::clock::monotonic_ns;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const RUNTIME: &str = include_str!("sandbox_runtime.mjs");
/// How long one may take to listen: a Python program with many modules, on a busy machine.
const LISTENS_WITHIN_NS: u64 = 60_000_000_000;

/// A running proxy; dropping it ends it.
pub(crate) struct Proxy {
    pub(crate) name: &'static str,
    pub(crate) at: SocketAddr,
    /// The authority that its clients trust.
    pub(crate) trusts: PathBuf,
    child: Child,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _killed = self.child.kill();
        let _reaped = self.child.wait();
    }
}

impl Proxy {
    /// The proxy of @anthropic-ai/sandbox-runtime, or why there is none.
    pub(crate) fn sandbox_runtime(authority: &Path) -> Result<Self, String> {
        const NAME: &str = "the proxy of sandbox-runtime";
        let dir = installed("OCTANT_SANDBOX_RUNTIME", NAME)?;
        let at = SocketAddr::from((Ipv4Addr::LOCALHOST, 7101));
        let mut command = Command::new("node");
        command.args(["--input-type=module", "--eval", RUNTIME, "--"]).arg(dir);
        command.args([at.port().to_string(), HOST.to_string()]);
        Self::start(NAME, command, at, authority.to_owned())
    }

    /// mitmproxy, or why there is none.
    pub(crate) fn mitmproxy(scratch: &Path, authority: &Path) -> Result<Self, String> {
        const NAME: &str = "mitmproxy";
        let program = installed("OCTANT_MITMPROXY", NAME)?;
        let (at, own) = (SocketAddr::from((Ipv4Addr::LOCALHOST, 7102)), scratch.join("mitmproxy"));
        let mut command = Command::new(program);
        command.args([
            "--quiet",
            "--listen-host",
            &at.ip().to_string(),
            "--listen-port",
            &at.port().to_string(),
        ]);
        // As ours: bodies are passed on as they come, and the host is held to its certificate.
        command.args(["--set", "stream_large_bodies=1", "--set", &format!("confdir={}", own.display())]);
        command.args(["--set", &format!("ssl_verify_upstream_trusted_ca={}", authority.display())]);
        Self::start(NAME, command, at, own.join("mitmproxy-ca-cert.pem"))
    }

    fn start(
        name: &'static str,
        mut command: Command,
        at: SocketAddr,
        trusts: PathBuf,
    ) -> Result<Self, String> {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit());
        let child = command.spawn().map_err(|why| format!("{name} not started ({why})"))?;
        let mut proxy = Self { name, at, trusts, child };
        let until = monotonic_ns() + LISTENS_WITHIN_NS;
        while TcpStream::connect(at).is_err() {
            let ended = proxy.child.try_wait().ok().flatten();
            if ended.is_some() || monotonic_ns() > until {
                return Err(format!("{name} does not listen ({ended:?})"));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(proxy)
    }
}

pub(crate) fn installed(variable: &str, name: &str) -> Result<PathBuf, String> {
    std::env::var_os(variable).map(PathBuf::from).ok_or_else(|| format!("{name} not installed"))
}
