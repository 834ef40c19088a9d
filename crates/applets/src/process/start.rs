//! `time`, `watch`, `flock` and `run-parts`: running commands.

use super::become_command;
use crate::options::{Options, Stop, failed, parse, run};
use crate::output::{complain, print};
use nix::fcntl::{Flock, FlockArg};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;
use octant_sys::clock;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

const TIME_HELP: &str = "\
Usage: time [-p] [-o FILE [-a]] COMMAND...
Run a command and say how long it took.

  -p    as POSIX writes it
  -o    to FILE instead of standard error;  -a behind what is there
";

const WATCH_HELP: &str = "\
Usage: watch [-n SECONDS] [-t] [-e] [-g] [-x] COMMAND...
Run a command again and again and show what it writes.

  -n    every so many seconds (2)
  -t    without the line of heads
  -e    end when it fails;  -g when its output changes
  -x    run it without a shell
";

const FLOCK_HELP: &str = "\
Usage: flock [options] FILE COMMAND...
       flock [options] FILE -c 'COMMAND LINE'
       flock [options] NUMBER
Hold a lock while a command runs, or lock an open descriptor of the shell.

  -s, --shared     a lock that several may hold;  -x, --exclusive one that only one may (as without an option)
  -u, --unlock     give it back
  -n, --nonblock   fail rather than wait;  -w, --timeout SECONDS wait so long
  -E, --conflict-exit-code N   the exit code then (1)
  -o, --close      close the descriptor before the command runs
";

const RUN_PARTS_HELP: &str = "\
Usage: run-parts [--test | --list] [--report] [--exit-on-error] [--reverse] [-a ARGUMENT]... DIRECTORY
Run all programs of a directory, in the order of their names. Names are letters, digits, _ and - only.
";

/// The exit code as a shell has it.
fn code_of(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// Runs a command and waits; its exit code, 126 or 127 when it cannot be executed.
fn status_of(name: &str, command: &mut Command) -> i32 {
    match command.status() {
        Ok(status) => code_of(status),
        Err(error) => {
            complain(name, &format_args!("{}: {error}", command.get_program().display()));
            if error.kind() == io::ErrorKind::NotFound { 127 } else { 126 }
        }
    }
}

pub(crate) fn time(arguments: Vec<OsString>) -> i32 {
    run("time", || {
        let options =
            Options::read("time", TIME_HELP, "+ p|portability o|output= a|append v|verbose", &arguments)?;
        let Some((program, rest)) = options.rest.split_first() else {
            return Err(Stop::new(125, "no command given"));
        };
        let start = clock::monotonic_ns();
        let code = status_of("time", Command::new(program).args(rest));
        let real = clock::monotonic_ns() - start;
        let usage = getrusage(UsageWho::RUSAGE_CHILDREN).map_err(failed("what the command used"))?;
        let (user, system) = (micros(usage.user_time()), micros(usage.system_time()));
        let text = if options.has("p") {
            format!("real {}\nuser {}\nsys {}\n", seconds(real / 1000), seconds(user), seconds(system))
        } else {
            let share = (user + system).saturating_mul(100_000) / real.max(1);
            format!(
                "{}user {}system {}:{}elapsed {share}%CPU {}maxresident k\n",
                seconds(user),
                seconds(system),
                real / 60_000_000_000,
                seconds(real / 1000 % 60_000_000),
                usage.max_rss()
            )
        };
        match options.value("o") {
            None => {
                // Nothing is left to tell it to when standard error itself is gone.
                let _ = io::Write::write_all(&mut io::stderr(), text.as_bytes());
            }
            Some(path) => {
                let mut open = OpenOptions::new();
                let file = open
                    .create(true)
                    .write(true)
                    .append(options.has("a"))
                    .truncate(!options.has("a"))
                    .open(path);
                file.and_then(|mut file| io::Write::write_all(&mut file, text.as_bytes()))
                    .map_err(failed(path.display()))?;
            }
        }
        Ok(code)
    })
}

fn micros(time: TimeVal) -> u64 {
    let part = |value: i64| u64::try_from(value).unwrap_or(0);
    part(time.tv_sec()) * 1_000_000 + part(time.tv_usec())
}

fn seconds(micros: u64) -> String {
    format!("{}.{:02}", micros / 1_000_000, micros / 10_000 % 100)
}

/// A time in seconds, which may have a part behind a point.
fn duration(text: &str) -> Result<Duration, Stop> {
    let seconds: f64 = parse(text)?;
    Duration::try_from_secs_f64(seconds).map_err(|_| Stop::new(1, format!("{text:?} is no time in seconds")))
}

pub(crate) fn watch(arguments: Vec<OsString>) -> i32 {
    run("watch", || {
        let table = "+ n|interval= t|no-title e|errexit g|chgexit x|exec d|differences b|beep c|color";
        let options = Options::read("watch", WATCH_HELP, table, &arguments)?;
        let words = options.words();
        if words.is_empty() {
            return Err(Stop::new(1, "no command given"));
        }
        let pause = options.text("n").map_or(Ok(Duration::from_secs(2)), |text| duration(&text))?;
        let pause = pause.max(Duration::from_millis(100));
        let mut before: Option<Vec<u8>> = None;
        loop {
            let mut command = match options.has("x") {
                true => Command::new(&options.rest[0]),
                false => shell(),
            };
            match options.has("x") {
                true => command.args(&options.rest[1..]),
                false => command.arg("-c").arg(words.join(" ")),
            };
            let output = command.output().map_err(failed(&words[0]))?;
            let mut shown = output.stdout;
            shown.extend(output.stderr);
            let title = format!("Every {}s: {}\n\n", pause.as_secs_f32(), words.join(" "));
            let title = if options.has("t") { "" } else { &title };
            let code = print("watch", &format!("\x1b[H\x1b[2J{title}{}", screen(&shown)));
            if code != 0 || (options.has("e") && !output.status.success()) {
                return Ok(if code == 0 { 8 } else { code });
            }
            if options.has("g") && before.as_ref().is_some_and(|before| *before != shown) {
                return Ok(0);
            }
            before = Some(shown);
            std::thread::sleep(pause);
        }
    })
}

/// What a terminal shows: as many lines as it has, where it says so; no commands to it but colours and the like.
fn screen(bytes: &[u8]) -> String {
    let lines = std::env::var("LINES").ok().and_then(|text| text.parse().ok());
    let lines = lines.or_else(|| octant_sys::console::size(io::stdout()).map(|(rows, _)| usize::from(rows)));
    let text = String::from_utf8_lossy(bytes);
    let cut: Vec<&str> = text.lines().take(lines.unwrap_or(24).saturating_sub(3).max(1)).collect();
    cut.join("\n") + "\n"
}

/// This binary's own shell, wherever it is.
pub(crate) fn shell() -> Command {
    let mut command = Command::new("/proc/self/exe");
    std::os::unix::process::CommandExt::arg0(&mut command, "sh");
    command
}

pub(crate) fn flock(arguments: Vec<OsString>) -> i32 {
    run("flock", || {
        let table =
            "+ s|shared x|exclusive e u|unlock n|nonblock |nb w|timeout= E|conflict-exit-code= o|close c=";
        let options = Options::read("flock", FLOCK_HELP, table, &arguments)?;
        let Some((file, command)) = options.rest.split_first() else {
            return Err(Stop::new(64, "no file given; flock --help lists what there is"));
        };
        let conflict = options.parsed("E")?.unwrap_or(1);
        let wait = match (options.has("n") || options.has("nb"), options.text("w")) {
            (true, _) => Some(Duration::ZERO),
            (_, Some(text)) => Some(duration(&text)?),
            _ => None,
        };
        let number = file.to_str().and_then(|text| text.parse::<i32>().ok()).filter(|_| command.is_empty());
        let opened = match number {
            Some(number) => octant_sys::descriptor::copy_of(number),
            None => open_lock(Path::new(file)).map(OwnedFd::from),
        };
        let opened = opened.map_err(failed(file.display()))?;
        if options.has("u") {
            // An own lock can always be made a shared one, and dropping that gives it back; where another holds one
            // there is nothing to give back.
            return match lock(opened, FlockArg::LockSharedNonblock, Some(Duration::ZERO)) {
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(failed(file.display())(error)),
                _ => Ok(0),
            };
        }
        let kind =
            if options.has("s") { FlockArg::LockSharedNonblock } else { FlockArg::LockExclusiveNonblock };
        let held = match lock(opened, kind, wait) {
            Ok(held) => held,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(Stop::silent(conflict)),
            Err(error) => return Err(failed(file.display())(error)),
        };
        let code = match (number, command) {
            (Some(_), _) => {
                // The lock belongs to the open file, which the shell goes on having.
                std::mem::forget(held);
                return Ok(0);
            }
            (None, [flag, line]) if flag == "-c" => status_of("flock", shell().arg("-c").arg(line)),
            (None, [program, rest @ ..]) => {
                if !options.has("o") {
                    keep_open(&held).map_err(failed(file.display()))?;
                }
                status_of("flock", Command::new(program).args(rest))
            }
            (None, []) => return Err(Stop::new(64, "no command given")),
        };
        // It ends with this process and with what the command left running, not before.
        std::mem::forget(held);
        Ok(code)
    })
}

fn open_lock(path: &Path) -> io::Result<File> {
    let made = OpenOptions::new().read(true).create(true).append(true).open(path);
    // A directory, or a file that can only be read.
    made.or_else(|error| File::open(path).map_err(|_| error))
}

fn keep_open(held: &Flock<OwnedFd>) -> io::Result<()> {
    nix::fcntl::fcntl(&**held, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty()))?;
    Ok(())
}

/// Tries again every 10 ms, so that a time can be kept without a signal; without a limit the kernel waits.
fn lock(fd: OwnedFd, kind: FlockArg, within: Option<Duration>) -> io::Result<Flock<OwnedFd>> {
    let waiting = match (kind, within) {
        (FlockArg::LockSharedNonblock, None) => FlockArg::LockShared,
        (FlockArg::LockExclusiveNonblock, None) => FlockArg::LockExclusive,
        (kind, _) => kind,
    };
    let deadline = clock::monotonic_ns()
        .saturating_add(within.map_or(0, |within| u64::try_from(within.as_nanos()).unwrap_or(u64::MAX)));
    let mut fd = fd;
    loop {
        match Flock::lock(fd, waiting) {
            Ok(held) => return Ok(held),
            Err((back, nix::Error::EINTR)) => fd = back,
            Err((back, nix::Error::EWOULDBLOCK)) if clock::monotonic_ns() < deadline => {
                fd = back;
                std::thread::sleep(Duration::from_millis(10));
            }
            Err((_, error)) => return Err(error.into()),
        }
    }
}

pub(crate) fn run_parts(arguments: Vec<OsString>) -> i32 {
    run("run-parts", || {
        let table = "+ |test |list |report v|verbose |exit-on-error |reverse a|arg=";
        let options = Options::read("run-parts", RUN_PARTS_HELP, table, &arguments)?;
        let [directory] = &options.rest[..] else {
            return Err(Stop::new(1, "one directory has to be given"));
        };
        let directory = Path::new(directory);
        let mut parts: Vec<PathBuf> = fs::read_dir(directory)
            .map_err(failed(directory.display()))?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| is_part(path, options.has("list")))
            .collect();
        parts.sort();
        if options.has("reverse") {
            parts.reverse();
        }
        let extra: Vec<String> = options.all("a").collect();
        let mut code = 0;
        for part in parts {
            if options.has("test") || options.has("list") {
                print("run-parts", &format!("{}\n", part.display()));
                continue;
            }
            if options.has("report") || options.has("v") {
                complain("run-parts", &format_args!("executing {}", part.display()));
            }
            let ended = status_of("run-parts", Command::new(&part).args(&extra));
            if ended != 0 {
                complain("run-parts", &format_args!("{} exited with return code {ended}", part.display()));
                code = 1;
                if options.has("exit-on-error") {
                    return Ok(ended);
                }
            }
        }
        Ok(code)
    })
}

/// Debian's rule of names; what an editor leaves behind does not run.
fn is_part(path: &Path, list: bool) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("");
    let plain =
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    let meta = fs::metadata(path).ok();
    plain && meta.is_some_and(|meta| meta.is_file() && (list || meta.permissions().mode() & 0o111 != 0))
}

/// For `setsid` and the like: starts a command and, when `wait`, takes its exit code.
pub(super) fn start(words: &[OsString], wait: bool) -> Result<i32, Stop> {
    let Some((program, rest)) = words.split_first() else { return Err(become_command(words)) };
    let mut child = Command::new(program).args(rest).spawn().map_err(failed(program.display()))?;
    if !wait {
        return Ok(0);
    }
    Ok(code_of(child.wait().map_err(failed(program.display()))?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    #[test]
    fn a_lock_keeps_others_out_until_it_is_given_back() {
        let path = std::env::temp_dir().join(format!("octant-flock-{}", std::process::id()));
        let open = || OwnedFd::from(open_lock(&path).unwrap());
        let held = lock(open(), FlockArg::LockExclusiveNonblock, None).unwrap();
        let refused =
            lock(open(), FlockArg::LockSharedNonblock, Some(Duration::from_millis(30))).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        drop(held);
        let one = lock(open(), FlockArg::LockSharedNonblock, Some(Duration::ZERO)).unwrap();
        let other = lock(open(), FlockArg::LockSharedNonblock, Some(Duration::ZERO)).unwrap();
        assert_ne!(one.as_raw_fd(), other.as_raw_fd());
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn times_are_in_hundredths() {
        assert_eq!((seconds(1_234_567), seconds(0)), ("1.23".into(), "0.00".into()));
        assert_eq!(duration("0.5").unwrap(), Duration::from_millis(500));
        assert!(duration("-1").is_err() && duration("x").is_err() && duration("1e300").is_err());
    }

    #[test]
    fn only_programs_with_plain_names_are_parts() {
        let directory = std::env::temp_dir().join(format!("octant-parts-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        for (name, mode) in [("10-a", 0o755), ("b.sh", 0o755), ("c", 0o644), ("d~", 0o755)] {
            fs::write(directory.join(name), "").unwrap();
            fs::set_permissions(directory.join(name), fs::Permissions::from_mode(mode)).unwrap();
        }
        let takes = |list| ["10-a", "b.sh", "c", "d~"].map(|name| is_part(&directory.join(name), list));
        assert_eq!((takes(false), takes(true)), ([true, false, false, false], [true, false, true, false]));
        fs::remove_dir_all(directory).unwrap();
    }
}
