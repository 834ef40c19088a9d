//! `octant ledger witness`, `feed` and `witness-key`: they run in the foreground, on this machine or another, and
//! need no privilege.

use crate::error::CliError;
use crate::ledger::keys::verifier;
use crate::manifest::{invalid, read, text, write_new};
use crate::out::{Out, printable};
use clap::{Args, Subcommand};
use octant_ids::{Exit, Layout, Millis};
use octant_sys::entropy;
use octant_tlog::note::NoteKey;
use octant_wire::{Shutdown, shutdown};
use octant_witness::{
    Address, Config, Feeder, Level, Limits, Listener, Overview, Plan, Say, Target, TargetError, Trouble,
    Witness as Core, serve,
};
use serde::Serialize;
use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};

/// A key file is one line.
const KEY_FILE_MAX: usize = 16 << 10;
/// How long a witness may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Looking more often finds nothing new: the ledger signs a checkpoint a second.
const EVERY_MIN: Duration = Duration::from_millis(100);
/// How many requests work at once; the others wait. Each spends its time on the disk.
const WORKERS: usize = 8;

const WITNESS: &str = "\
The witness cosigns a log's checkpoints (C2SP tlog-witness) as long as each continues the one before, and refuses a fork \
and a rollback for good: keep DIR, and never restore an old copy of it. `octant ledger checkpoint --key` prints a log's \
key on its machine.

Example:
  octant ledger witness --key w1.key --state w1 --log log.pub --listen [::]:7380";

const FEED: &str = "\
Only a cosignature that verifies with the witness's key is given to the ledger. A witness that holds another tree than \
this ledger is reported as a fork or a rollback; --once then exits with 7.

Example:
  octant ledger feed --witness w1.pub=http://192.0.2.7:7380 --every 5s";

/// `octant ledger witness`.
#[derive(Debug, Args)]
// The line that would be made is longer than a console is wide.
#[command(
    after_help = WITNESS,
    override_usage = "octant ledger witness --key FILE --state DIR --log KEY --listen WHERE"
)]
pub(crate) struct Witness {
    /// The witness's private key (made by `octant ledger witness-key new`)
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Where it remembers what it cosigned; made when it is not there
    #[arg(long, value_name = "DIR")]
    state: PathBuf,
    /// The verifier key of a log, or a file with it; may be given again
    #[arg(long, value_name = "KEY", required = true)]
    log: Vec<String>,
    /// Where to listen: ADDRESS:PORT or unix:PATH; may be given again
    #[arg(long, value_name = "WHERE", required = true)]
    listen: Vec<Address>,
}

/// `octant ledger feed`.
#[derive(Debug, Args)]
#[command(after_help = FEED)]
pub(crate) struct Feed {
    /// A witness: its verifier key or a file with it, an equals sign, and http://ADDRESS:PORT or unix:PATH; may be
    /// given again
    #[arg(long, value_name = "KEY=URL", required = true)]
    witness: Vec<String>,
    /// Bring the newest checkpoint to each witness once; exit 0 only when all have cosigned it
    #[arg(long)]
    once: bool,
    /// How long to wait between two checkpoints (ms, s, min)
    #[arg(long, value_name = "TIME", value_parser = crate::args::millis, default_value = "2s", conflicts_with = "once")]
    every: Millis,
}

/// `octant ledger witness-key`.
#[derive(Debug, Subcommand)]
pub(crate) enum WitnessKey {
    /// Make a witness's private key and print its verifier key
    #[command(after_help = "Example:\n  octant ledger witness-key new --name w1.example w1.key >w1.pub")]
    New {
        /// The witness's name: a domain or a path below one, without spaces or plus signs
        #[arg(long, value_name = "NAME")]
        name: String,
        /// Where to write the private key; it must not be there yet
        file: PathBuf,
    },
    /// Print the verifier key that belongs to a private key
    #[command(after_help = "Example:\n  octant ledger witness-key show w1.key >w1.pub")]
    Show {
        /// The private key
        file: PathBuf,
    },
}

#[derive(Serialize)]
struct KeyDocument<'a> {
    private: &'a Path,
    key: String,
}

/// The command `octant ledger witness-key`.
pub(crate) fn key(command: &WitnessKey, out: &mut Out) -> Result<(), CliError> {
    let (file, key) = match command {
        WitnessKey::New { name, file } => (file, new_key(name, file)?),
        WitnessKey::Show { file } => (file, read_key(file)?),
    };
    let key = key.verifier().to_string();
    if out.json { out.json(&KeyDocument { private: file, key }) } else { out.line(key) }
}

fn new_key(name: &str, file: &Path) -> Result<NoteKey, CliError> {
    let mut seed = [0; 32];
    entropy::fill_seeded(&mut seed)
        .map_err(|source| CliError::System { step: "read the system's random source", source })?;
    let key = NoteKey::cosigner(name, seed).map_err(|error| invalid(file, "witness key", &error))?;
    write_new(file, &format!("{}\n", key.to_text()), 0o600)?;
    Ok(key)
}

fn read_key(file: &Path) -> Result<NoteKey, CliError> {
    let content = text(read(file, "witness key", KEY_FILE_MAX)?, file, "witness key")?;
    NoteKey::from_text(&content).map_err(|error| invalid(file, "witness key", &error))
}

fn target(given: &str) -> Result<Target, CliError> {
    let refused = |error: TargetError| CliError::Refused {
        what: "this witness cannot be fed".to_owned(),
        why: error.to_string(),
        exit: Exit::Invalid,
        next: None,
    };
    let (key, url) = Target::split(given).map_err(refused)?;
    Target::new(verifier(key)?, url).map_err(refused)
}

/// The command `octant ledger witness`.
pub(crate) fn witness(args: &Witness) -> Result<(), CliError> {
    let refused = |why: String| CliError::Refused {
        what: "the witness does not start".to_owned(),
        why,
        exit: Exit::Failed,
        next: None,
    };
    let key = read_key(&args.key)?;
    let logs = args.log.iter().map(|log| verifier(log)).collect::<Result<_, _>>()?;
    let config = Config { key, logs, dir: args.state.clone(), say: lines() };
    let core = Arc::new(Core::open(config).map_err(|error| refused(error.to_string()))?);
    runtime()?.block_on(async {
        let mut listeners = Vec::new();
        for address in &args.listen {
            let listener = Listener::bind(address).await;
            listeners
                .push(listener.map_err(|error| refused(format!("cannot listen at {address}: {error}")))?);
        }
        let say = lines();
        for listener in &listeners {
            say(Level::Info, &format!("witness {} listens at {listener}", core.verifier()));
        }
        let stop = until_signal()?;
        notify("READY=1\nX_OCTANT_HEALTH=ok");
        serve(listeners, core, Limits::default(), stop)
            .await
            .map_err(|error| refused(format!("a listener failed: {error}")))
    })
}

/// The command `octant ledger feed`.
pub(crate) fn feed(args: &Feed, layout: &Layout, out: &mut Out) -> Result<(), CliError> {
    let targets: Vec<Target> = args.witness.iter().map(|given| target(given)).collect::<Result<_, _>>()?;
    let plan = Plan {
        ledger: layout.socket("ledger"),
        targets: targets.clone(),
        every: args.every.duration().max(EVERY_MIN),
        patience: PATIENCE,
        say: lines(),
    };
    runtime()?.block_on(async {
        if args.once {
            let results = Feeder::new(plan, |_| {}).once().await;
            return report(&targets, results, out);
        }
        let stop = until_signal()?;
        // A FORK or ROLLBACK makes the unit unhealthy, so that `octant health` fails. Being ready again changes nothing.
        let tell = |now: &Overview| {
            let Overview { witnesses, cosigning, alarm } = now;
            let health = printable(alarm.as_deref().unwrap_or("ok"));
            notify(&format!(
                "READY=1\nSTATUS={cosigning} of {witnesses} witnesses cosign\nX_OCTANT_HEALTH={health}"
            ));
        };
        Feeder::new(plan, tell).run(stop).await;
        Ok(())
    })
}

#[derive(Serialize)]
struct FedDocument<'a> {
    witness: &'a str,
    size: Option<u64>,
    time: Option<u64>,
    error: Option<String>,
}

/// What became of `--once`: a line a witness, and the gravest trouble as the end.
fn report(
    targets: &[Target],
    results: Vec<Result<octant_witness::Cosigned, Trouble>>,
    out: &mut Out,
) -> Result<(), CliError> {
    let (mut troubles, mut alarm) = (0, None);
    for (target, result) in targets.iter().zip(results) {
        let witness = target.key.name();
        let (size, time) = result.as_ref().ok().map(|cosigned| (cosigned.size, cosigned.time)).unzip();
        let error = result.as_ref().err().map(ToString::to_string);
        if out.json {
            out.json(&FedDocument { witness, size, time, error: error.clone() })?;
        } else {
            let line = match (&error, size) {
                (Some(error), _) => format!("{witness}: {error}"),
                (None, size) => format!("{witness}: has cosigned {} entries", size.unwrap_or_default()),
            };
            out.line(printable(&line))?;
        }
        troubles += usize::from(error.is_some());
        alarm = alarm.or(error.filter(|_| result.is_err_and(|trouble| trouble.is_alarm())));
    }
    match (alarm, troubles) {
        (Some(why), _) => Err(CliError::Unverified {
            what: "the ledger".to_owned(),
            why,
            next: "compare with `octant ledger verify --checkpoint FILE` and a checkpoint that was kept elsewhere"
                .to_owned(),
        }),
        (None, 0) => Ok(()),
        (None, troubles) => Err(CliError::Refused {
            what: "the checkpoint is not cosigned by all".to_owned(),
            why: format!("{troubles} of {} witnesses have not", targets.len()),
            exit: Exit::Unhealthy,
            next: None,
        }),
    }
}

fn runtime() -> Result<Runtime, CliError> {
    let runtime = Builder::new_current_thread().enable_all().max_blocking_threads(WORKERS).build();
    runtime.map_err(|source| CliError::System { step: "start the runtime", source })
}

/// Ends when this process is told to: SIGTERM or SIGINT.
fn until_signal() -> Result<Shutdown, CliError> {
    let fail = |source| CliError::System { step: "wait for signals", source };
    let mut terminate = signal(SignalKind::terminate()).map_err(fail)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(fail)?;
    let (trigger, stop) = shutdown();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        notify("STOPPING=1");
        trigger.pull();
    });
    Ok(stop)
}

/// Lines on standard error, as services write them: where it runs as a unit, PID 1 collects them.
fn lines() -> Say {
    Arc::new(|level, text| {
        let level = match level {
            Level::Info => "info",
            Level::Warning => "warning",
            Level::Error => "error",
        };
        // When standard error is gone there is nobody left to tell.
        let _gone = writeln!(io::stderr().lock(), "{level}: {}", printable(text));
    })
}

/// Tells whoever started this process, where somebody wants to know (sd_notify(3)).
fn notify(text: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET").filter(|path| !path.is_empty()) else { return };
    // Who started this process and does not listen will see how it ends.
    let _sent = UnixDatagram::unbound().and_then(|socket| socket.send_to(text.as_bytes(), path));
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;
    use octant_witness::Cosigned;
    use std::fs;
    use std::io::Read;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixStream;
    use std::process::{Command, Stdio};
    use std::sync::Mutex;

    /// A writer that is read afterwards.
    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Page {
        fn out(&self, json: bool) -> Out {
            Out::to(json, None, Box::new(self.clone()), Box::new(io::sink()))
        }

        fn text(&self) -> String {
            String::from_utf8(std::mem::take(&mut self.0.lock().unwrap())).unwrap()
        }
    }

    #[test]
    fn a_new_key_is_secret_shown_again_and_never_replaced() {
        let dir = std::env::temp_dir().join(format!("octant-cli-witness-key-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let (file, page) = (dir.join("w1.key"), Page::default());
        let new = |name: &str| {
            key(&WitnessKey::New { name: name.into(), file: file.clone() }, &mut page.out(false))
        };
        assert_eq!(new("two words").unwrap_err().exit(), Exit::Invalid);
        assert!(!file.exists());
        new("w1.example").unwrap();
        let printed = page.text();
        assert!(printed.starts_with("w1.example+") && printed.ends_with('\n'), "{printed}");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(matches!(new("w1.example").unwrap_err(), CliError::Write { .. }));
        key(&WitnessKey::Show { file: file.clone() }, &mut page.out(false)).unwrap();
        assert_eq!(page.text(), printed);
        // What was printed is what a feeder is given, as it is or in a file.
        let public = dir.join("w1.pub");
        fs::write(&public, &printed).unwrap();
        for given in [printed.trim(), public.to_str().unwrap()] {
            let target = target(&format!("{given}=http://127.0.0.1:7380")).unwrap();
            assert_eq!(target.key.to_string(), printed.trim());
        }
        let https = target(&format!("{}=https://w1.example", printed.trim())).unwrap_err();
        assert!(https.exit() == Exit::Invalid && https.to_string().contains("no TLS"), "{https}");
        // A witness with this key does not start without a directory of its own.
        let config = |state: &Path| Witness {
            key: file.clone(),
            state: state.to_owned(),
            log: vec![printed.trim().to_owned()],
            listen: Vec::new(),
        };
        let error = witness(&config(&dir.join("state"))).unwrap_err();
        assert!(error.to_string().contains("a log signs with Ed25519"), "{error}");
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn once_ends_with_the_gravest_trouble() {
        let keys = ["w1", "w2"].map(|name| NoteKey::cosigner(name, [1; 32]).unwrap().verifier());
        let targets = keys.map(|key| Target::new(key, "unix:/w").unwrap());
        let (page, cosigned) =
            (Page::default(), Cosigned { size: 9, time: 5, witnessed: Default::default() });
        let done = report(&targets, vec![Ok(cosigned.clone()), Ok(cosigned.clone())], &mut page.out(false));
        assert!(done.is_ok());
        assert_eq!(page.text(), "w1: has cosigned 9 entries\nw2: has cosigned 9 entries\n");
        let refused = || Trouble::Refused { status: 503, words: "later".to_owned() };
        let error = report(&targets, vec![Ok(cosigned), Err(refused())], &mut page.out(true)).unwrap_err();
        assert!(error.exit() == Exit::Unhealthy && error.to_string().contains("1 of 2"), "{error}");
        let lines = page.text();
        assert!(lines.starts_with(r#"{"witness":"w1","size":9,"time":5,"error":null}"#), "{lines}");
        let alarm = vec![Err(refused()), Err(Trouble::Rollback { theirs: 9, ours: 6 })];
        let error = report(&targets, alarm, &mut page.out(false)).unwrap_err();
        assert!(error.exit() == Exit::Unverified && error.to_string().contains("ROLLBACK"), "{error}");
    }

    /// The arguments of the process that the test below starts, a line each.
    const ARGS: &str = "OCTANT_CLI_WITNESS_ARGS";

    /// Not a test of its own: the process that the test below starts.
    #[test]
    fn child_that_is_the_command() {
        let Ok(args) = std::env::var(ARGS) else { return };
        let exit = crate::main(args.lines().map(Into::into).collect());
        assert_eq!(exit, std::process::ExitCode::SUCCESS);
    }

    #[test]
    fn it_says_when_it_is_ready_and_ends_when_it_is_told_to() {
        let dir = std::env::temp_dir().join(format!("octant-cli-witness-run-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let (file, socket) = (dir.join("w1.key"), dir.join("w1.sock"));
        new_key("w1.example", &file).unwrap();
        let log = NoteKey::from_seed("octant/0123456789abcdef", [1; 32]).unwrap().verifier();
        let told = UnixDatagram::bind(dir.join("notify")).unwrap();
        told.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let args = format!(
            "octant\nledger\nwitness\n--key\n{}\n--state\n{}\n--log\n{log}\n--listen\nunix:{}",
            file.display(),
            dir.join("state").display(),
            socket.display()
        );
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "witness::tests::child_that_is_the_command", "--nocapture"])
            .env(ARGS, args)
            .env("NOTIFY_SOCKET", dir.join("notify"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let heard = || {
            let mut buffer = [0; 1024];
            let length = told.recv(&mut buffer).unwrap();
            String::from_utf8(buffer[..length].to_vec()).unwrap()
        };
        assert_eq!(heard(), "READY=1\nX_OCTANT_HEALTH=ok");
        // Ready means that it can be asked.
        let mut stream = UnixStream::connect(&socket).unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
        kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM).unwrap();
        assert_eq!(heard(), "STOPPING=1");
        assert!(child.wait().unwrap().success());
        fs::remove_dir_all(&dir).unwrap();
    }
}
