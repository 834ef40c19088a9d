//! What others put between programs and providers: LiteLLM's proxy and Portkey's gateway, each told of the same double, with
//! no retries, no callbacks and no records.
//!
//! `cargo x bench` installs both below the target directory and says where (`OCTANT_LITELLM`, `OCTANT_PORTKEY`).

use crate::gate_peers::installed;
use crate::vault::text;
use octant_sys::clock::monotonic_ns;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How long one may take until it answers: a Python program with very many modules, on a busy machine.
const ANSWERS_WITHIN_NS: u64 = 300_000_000_000;
/// LiteLLM wants a long one that is not a word.
const MASTER: &str = "sk-8c1d0f6a2b7e4935a1f0c6d8e2b47935";

/// A running gateway; dropping it ends it and all that it started.
pub(crate) struct Gateway {
    pub(crate) name: &'static str,
    pub(crate) at: SocketAddr,
    /// What its requests have besides.
    pub(crate) headers: Vec<String>,
    child: Child,
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let group = format!("-{}", self.child.id());
        let _killed = Command::new("kill").args(["-KILL", "--", &group]).status();
        let _reaped = self.child.wait();
    }
}

impl Gateway {
    /// LiteLLM's proxy before the double, or why there is none.
    pub(crate) fn litellm(scratch: &Path, upstream: SocketAddr) -> Result<Self, String> {
        let program = installed("OCTANT_LITELLM", "LiteLLM")?;
        let config = scratch.join("litellm.yaml");
        let said = format!(
            "model_list:\n  - model_name: text\n    litellm_params:\n      model: openai/text\n      api_base: http://{upstream}/v1\n      \
             api_key: sk-bench\n      num_retries: 0\nlitellm_settings:\n  callbacks: []\n  num_retries: 0\n  telemetry: false\n\
             general_settings:\n  master_key: {MASTER}\n"
        );
        fs::write(&config, said).map_err(|e| format!("{}: {e}", config.display()))?;
        let at = free()?;
        let port = at.port().to_string();
        let mut command = Command::new(program);
        command.arg("--config").arg(config).args([
            "--host",
            "127.0.0.1",
            "--port",
            &port,
            "--num_workers",
            "1",
        ]);
        // Else it fetches its table of prices from the internet.
        command.envs([("LITELLM_LOCAL_MODEL_COST_MAP", "True"), ("LITELLM_TELEMETRY", "False")]);
        command.env("LITELLM_LOG", "ERROR");
        let headers = vec![format!("Authorization: Bearer {MASTER}")];
        Self::start("LiteLLM", command, at, headers, "/health/liveliness")
    }

    /// Portkey's gateway before the double, or why there is none.
    pub(crate) fn portkey(upstream: SocketAddr) -> Result<Self, String> {
        let dir = installed("OCTANT_PORTKEY", "Portkey's gateway")?;
        let at = free()?;
        let mut command = Command::new("node");
        command.arg(dir.join("node_modules/@portkey-ai/gateway/build/start-server.js"));
        command.arg(format!("--port={}", at.port())).arg("--headless");
        let headers = ["Authorization: Bearer sk-bench".to_owned(), "x-portkey-provider: openai".to_owned()];
        let host = format!("x-portkey-custom-host: http://{upstream}/v1");
        Self::start("Portkey's gateway", command, at, headers.into_iter().chain([host]).collect(), "/")
    }

    fn start(
        name: &'static str,
        mut command: Command,
        at: SocketAddr,
        headers: Vec<String>,
        alive: &str,
    ) -> Result<Self, String> {
        // In a group of its own, by which its processes are found again.
        command.process_group(0).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().map_err(|why| format!("{name} not started ({why})"))?;
        let mut gateway = Self { name, at, headers, child };
        let until = monotonic_ns() + ANSWERS_WITHIN_NS;
        while !answers(at, alive) {
            let ended = gateway.child.try_wait().ok().flatten();
            if ended.is_some() || monotonic_ns() > until {
                return Err(format!("{name} does not answer ({ended:?})"));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(gateway)
    }

    /// Nanoseconds of processor time of all its processes, as far as they have not ended.
    pub(crate) fn busy_ns(&self) -> Result<u64, String> {
        let group = self.child.id().to_string();
        // proc_pid_stat(5): behind the name, which can have spaces, come the state, the parent and the group.
        let its = |process: &Path| {
            let stat = fs::read_to_string(process.join("stat")).unwrap_or_default();
            stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(2)) == Some(&group)
        };
        busy_ns(its)
    }
}

/// Nanoseconds of processor time of all processes that are meant (proc_pid_schedstat), over all their threads.
pub(crate) fn busy_ns(meant: impl Fn(&Path) -> bool) -> Result<u64, String> {
    let all = fs::read_dir("/proc").map_err(|e| format!("/proc: {e}"))?.flatten().map(|entry| entry.path());
    let threads =
        all.filter(|process| meant(process)).filter_map(|process| fs::read_dir(process.join("task")).ok());
    let one = |thread: fs::DirEntry| {
        let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    };
    Ok(threads.flatten().flatten().filter_map(one).sum())
}

/// A port that nobody has: what a run before this one left behind does not answer in a peer's place.
fn free() -> Result<SocketAddr, String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(text)?;
    listener.local_addr().map_err(text)
}

fn answers(at: SocketAddr, path: &str) -> bool {
    let ask = || -> Result<String, String> {
        let mut stream = TcpStream::connect(at).map_err(text)?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).map_err(text)?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n\r\n").map_err(text)?;
        let mut first = [0; 12];
        stream.read_exact(&mut first).map_err(text)?;
        Ok(String::from_utf8_lossy(&first).into_owned())
    };
    ask().is_ok_and(|said| said.ends_with(" 200"))
}
