//! The vault's library without its socket, and a vault of a hundred thousand secrets: how long it takes to start, and what
//! memory its process needs then.

use crate::instance::{Instance, Process};
use crate::table::{Row, Samples, mb, ms, spread};
use crate::vault::{text, with_key_file};
use octant_api::vault::{SealRequest, UnsealRequest, With};
use octant_ids::{Layout, SecretName, uid};
use octant_sys::clock::monotonic_ns;
use octant_vault::measure::{self, Bare};
use octant_wire::blocking::Client;
use std::fs;
use std::os::unix::fs::chown;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

/// Values that are opened of each length.
const OPENS: u64 = 200_000;
const SECRETS: usize = 100_000;
const LEASES: usize = 100_000;
/// How many of the leases came after the file was written anew for the last time.
const LAST: usize = 2_000;
const STARTS: usize = 9;
const UNSEALS: usize = 5;
const KEY_FILE: [u8; 64] = [9; 64];

/// Nanoseconds of processor time that this thread has had (proc_pid_schedstat).
fn busy_ns() -> Result<u64, String> {
    let text = fs::read_to_string("/proc/thread-self/schedstat").map_err(text)?;
    text.split(' ').next().and_then(|ns| ns.parse().ok()).ok_or_else(|| format!("schedstat: {text:?}"))
}

fn opens(bare: &Bare, bytes: usize) -> Result<Row, String> {
    let name: SecretName = format!("bench/of-{bytes}-bytes").parse().map_err(text)?;
    let token = bare.put(&name, &vec![7; bytes])?;
    (0..OPENS / 10).try_for_each(|_| bare.open(&token).map(drop))?;
    let (before, busy) = (monotonic_ns(), busy_ns()?);
    for _ in 0..OPENS {
        if bare.open(&token)?.first() != Some(&7) {
            return Err("a wrong value".to_owned());
        }
    }
    let (took, busy) = (monotonic_ns() - before, busy_ns()?.saturating_sub(busy));
    let a_second = |ns: u64| OPENS.saturating_mul(1_000_000_000) / ns.max(1);
    Ok(Row {
        what: format!("values of {bytes} bytes opened a second of one processor, in the library"),
        ours: format!("{} ({} by the clock)", a_second(busy), a_second(took)),
        peers: String::new(),
        goal: "≥ 100000".into(),
        met: Some(a_second(busy) >= 100_000),
    })
}

/// The part that starts a vault in a process of its own: prints nanoseconds by the clock and of the processor.
pub(crate) fn starter(args: &[String]) -> ExitCode {
    let Some(dir) = args.first() else { return ExitCode::from(2) };
    let started = measure::keyed(Path::new(dir), &KEY_FILE).and_then(|keyed| {
        let (before, busy) = (monotonic_ns(), busy_ns()?);
        let started = keyed.start()?;
        Ok((monotonic_ns() - before, busy_ns()?.saturating_sub(busy), started.secrets(), started.leases()))
    });
    match started {
        Ok((ns, busy, SECRETS, 0)) => {
            println!("{ns} {busy}");
            ExitCode::SUCCESS
        }
        Ok((.., secrets, leases)) => {
            eprintln!("bench: {dir}: {secrets} secrets and {leases} leases");
            ExitCode::FAILURE
        }
        Err(why) => {
            eprintln!("bench: {dir}: {why}");
            ExitCode::FAILURE
        }
    }
}

fn start(state: &Path) -> Result<(u64, u64), String> {
    let own = std::env::current_exe().map_err(text)?;
    let mut command = Command::new(own);
    command.arg("vault-start").arg(state).stdin(Stdio::null()).stderr(Stdio::inherit());
    let output = command.output().map_err(|e| format!("vault-start: {e}"))?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let figures = text.split_once(' ').and_then(|(ns, busy)| Some((ns.parse().ok()?, busy.parse().ok()?)));
    figures.ok_or_else(|| format!("vault-start: {}: {text:?}", output.status))
}

fn starts(state: &Path) -> Result<Row, String> {
    start(state)?;
    let all = (0..STARTS).map(|_| start(state)).collect::<Result<Vec<_>, _>>()?;
    let (took, busy): (Vec<u64>, Vec<u64>) = all.into_iter().unzip();
    let (took, busy) = (Samples::new(took), Samples::new(busy));
    let bytes = fs::metadata(state.join("vault")).map_err(text)?.len();
    Ok(Row {
        what: format!(
            "from the data key to an unsealed vault of {SECRETS} secrets and {LEASES} leases that have ended"
        ),
        ours: format!(
            "{}, of the processor {}; the file has {}",
            spread(&took),
            ms(busy.median()),
            mb(bytes)
        ),
        peers: String::new(),
        goal: "≤ 300 ms".into(),
        met: Some(took.median() <= 300_000_000),
    })
}

/// The service with the same file: unsealed at its start, then sealed and unsealed.
fn service(binary: &Path, dir: &Path) -> Result<Vec<Row>, String> {
    let state = Layout::under(dir).state_of("vault");
    let instance = Instance::start(binary, dir)?;
    let process = Process::with_open(&state.join("lock"))?;
    let (now, peak) = (process.status("VmRSS:")?, process.status("VmHWM:")?);
    let mut client = Client::connect(&instance.socket("vault")).map_err(text)?;
    let mut samples = Vec::new();
    for _ in 0..UNSEALS {
        client.call(&SealRequest {}).map_err(text)?;
        let request = UnsealRequest { with: With::Machine, accept_machine: None, accept_rollback: None };
        let before = monotonic_ns();
        let unsealed = client.call(&request).map_err(text)?;
        samples.push(monotonic_ns() - before);
        if unsealed.status.secrets != Some(SECRETS as u64) {
            return Err(format!("{:?} secrets after vault.unseal", unsealed.status.secrets));
        }
    }
    let after = process.status("VmRSS:")?;
    Ok(vec![
        Row {
            what: "vault.unseal of the same vault by its static file, over the socket".into(),
            ours: spread(&Samples::new(samples)),
            peers: String::new(),
            goal: "none: the one before it is".into(),
            met: None,
        },
        Row {
            what: format!("resident memory of the vault's process with {SECRETS} secrets"),
            ours: format!(
                "{} after its start, at most {} until then; {} after {UNSEALS} seals and unseals",
                mb(now),
                mb(peak),
                mb(after)
            ),
            peers: String::new(),
            goal: "none yet".into(),
            met: None,
        },
    ])
}

/// The rows of the table.
pub(crate) fn rows(binary: &Path, scratch: &Path) -> Result<Vec<Row>, String> {
    eprintln!("bench: vault, the library");
    let small = scratch.join("bare");
    fs::create_dir_all(&small).map_err(text)?;
    let bare = Bare::make(&small, &KEY_FILE)?;
    let mut rows = vec![opens(&bare, 64)?, opens(&bare, 256)?];
    eprintln!("bench: a vault of {SECRETS} secrets");
    let dir = scratch.join("full");
    let state = Layout::under(&dir).state_of("vault");
    fs::create_dir_all(&state).map_err(text)?;
    Bare::make(&state, &KEY_FILE)?.fill(SECRETS, LEASES, LAST)?;
    rows.push(starts(&state)?);
    let user = uid::of_service("vault");
    for path in [state.clone(), state.join("vault"), state.join("lock")] {
        chown(&path, user, user).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    with_key_file(&dir, &KEY_FILE)?;
    rows.extend(service(binary, &dir)?);
    Ok(rows)
}
