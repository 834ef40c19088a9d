//! `pgrep`, `pkill`, `pidof` and `killall`.

use super::list::{Process, Units, Users, base, printable, processes};
use crate::options::{Options, Stop, because, failed, run};
use crate::output::{complain, print};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use regex::RegexBuilder;
use std::ffi::OsString;
use std::path::Path;

const PGREP_HELP: &str = "\
Usage: pgrep [options] PATTERN
Print the processes whose name matches a regular expression.

  -f, --full             match the whole command line
  -x, --exact            match all of it
  -i, --ignore-case      do not distinguish case
  -v, --inverse          those that do not match
  -u, --euid USER,...    only of these users;  -U, --uid by the real one;  -G, --group
  -P, --parent PID,...   only children of these;  -g, --pgroup;  -s, --session;  -t, --terminal
  -n, --newest           only the newest;  -o, --oldest the oldest
  -O, --older SECONDS    only those that have run for longer
  -r, --runstates ABC    only in these states
  -l, --list-name        with the name;  -a, --list-full with the command line
  -d, --delimiter TEXT   between the numbers
  -c, --count            their number only
";

const PKILL_HELP: &str = "\
Usage: pkill [-SIGNAL] [options] PATTERN
Send a signal (TERM) to the processes whose name matches a regular expression. The options are pgrep's, and:

  --signal SIGNAL        this signal
  -e, --echo             say to whom
";

const PIDOF_HELP: &str = "\
Usage: pidof [-s] [-x] [-q] [-o PID,...] [-S SEPARATOR] NAME...
Print the processes that run programs of these names, the newest first.

  -s    only one
  -x    scripts too
  -q    print nothing
  -o    without these;  %PPID is the caller's parent
  -S    between the numbers
";

const KILLALL_HELP: &str = "\
Usage: killall [-SIGNAL] [-q] [-v] [-w] NAME...
Send a signal (TERM) to all processes of these names.

  -s SIGNAL   this signal
  -q          say nothing where there is none
  -v          say to whom
  -w          wait until they have ended
";

const TABLE: &str = "f|full x|exact i|ignore-case v|inverse u|euid= U|uid= G|group= P|parent= g|pgroup= s|session= \
    t|terminal= n|newest o|oldest O|older= r|runstates= l|list-name a|list-full d|delimiter= c|count \
    |signal= e|echo";

pub(crate) fn pgrep(arguments: Vec<OsString>) -> i32 {
    run("pgrep", || {
        let options = Options::read("pgrep", PGREP_HELP, TABLE, &arguments).map_err(usage)?;
        let found = found(&options)?;
        if options.has("c") {
            let code = print("pgrep", &format!("{}\n", found.len()));
            return Ok(if found.is_empty() { 1 } else { code });
        }
        let show = |process: &Process| match (options.has("a"), options.has("l")) {
            (true, _) => format!("{} {}", process.pid, printable(&process.command())),
            (_, true) => format!("{} {}", process.pid, printable(&process.name)),
            _ => process.pid.to_string(),
        };
        let between = options.text("d").unwrap_or_else(|| "\n".into());
        let lines: Vec<String> = found.iter().map(show).collect();
        if lines.is_empty() {
            return Ok(1);
        }
        Ok(print("pgrep", &format!("{}\n", lines.join(&between))))
    })
}

/// pgrep's exit code for a wrong command line is 2.
fn usage(stop: Stop) -> Stop {
    Stop { code: stop.code * 2, ..stop }
}

pub(crate) fn pkill(arguments: Vec<OsString>) -> i32 {
    run("pkill", || {
        let (signal, arguments) = take_signal(&arguments);
        let options = Options::read("pkill", PKILL_HELP, TABLE, &arguments).map_err(usage)?;
        let signal = match options.text("signal").or(signal) {
            None => Signal::SIGTERM as i32,
            Some(name) => number(&name).ok_or_else(|| usage(no_signal(&name)))?,
        };
        let mut code = 1;
        for process in found(&options)? {
            match send(process.pid, signal) {
                Ok(()) => {
                    code = 0;
                    if options.has("e") {
                        let text = format!("{} killed (pid {})\n", printable(&process.name), process.pid);
                        print("pkill", &text);
                    }
                }
                // It has ended meanwhile.
                Err(nix::Error::ESRCH) => {}
                Err(error) => complain("pkill", &because(process.pid, &error.into())),
            }
        }
        Ok(code)
    })
}

fn no_signal(name: &str) -> Stop {
    Stop::new(1, format!("{name:?} is no signal; kill -l lists them"))
}

/// kill(2) with a signal by its number, real-time ones and 0 (a question only) among them.
fn send(pid: u32, signal: i32) -> nix::Result<()> {
    let pid = Pid::from_raw(i32::try_from(pid).map_err(|_| nix::Error::ESRCH)?);
    match Signal::try_from(signal) {
        Ok(signal) => kill(pid, signal),
        Err(_) if signal == 0 => kill(pid, None),
        Err(error) => Err(error),
    }
}

/// Takes a signal out of the arguments that is written like an option: `-9`, `-HUP`, `-SIGHUP`.
fn take_signal(arguments: &[OsString]) -> (Option<String>, Vec<OsString>) {
    let mut rest = arguments.to_vec();
    let is_signal = |word: &OsString| {
        let word = word.to_str()?.strip_prefix('-')?;
        let plain =
            word.bytes().all(|byte| byte.is_ascii_digit()) || (word.len() > 1 && number(word).is_some());
        (plain && number(word).is_some()).then(|| word.to_owned())
    };
    let at = (1..rest.len()).find(|at| is_signal(&rest[*at]).is_some());
    let signal = at.and_then(|at| is_signal(&rest.remove(at)));
    (signal, rest)
}

/// A signal's number by its name or number.
fn number(name: &str) -> Option<i32> {
    if let Ok(number) = name.parse::<i32>() {
        return (number == 0 || Signal::try_from(number).is_ok()).then_some(number);
    }
    let name = name.to_ascii_uppercase();
    let whole = if name.starts_with("SIG") { name } else { format!("SIG{name}") };
    whole.parse::<Signal>().ok().map(|signal| signal as i32)
}

/// The processes that pgrep's options choose; never itself.
fn found(options: &Options) -> Result<Vec<Process>, Stop> {
    let units = Units::here();
    let all = processes(Path::new("/proc"), &units).map_err(failed("/proc"))?;
    choose(options, all, &units)
}

fn choose(options: &Options, all: Vec<Process>, units: &Units) -> Result<Vec<Process>, Stop> {
    let pattern = options.words().first().cloned();
    let by_option = "uUGPgstOrno".chars().any(|letter| options.has(&letter.to_string()));
    let pattern = match (pattern, by_option, options.rest.len()) {
        (None, false, _) => return Err(Stop::new(2, "no pattern given; pgrep --help lists what there is")),
        (_, _, 2..) => return Err(Stop::new(2, "only one pattern can be given; join several by |")),
        (pattern, ..) => pattern.unwrap_or_default(),
    };
    let whole = if options.has("x") { format!("^(?:{pattern})$") } else { pattern };
    let pattern = RegexBuilder::new(&whole).case_insensitive(options.has("i")).size_limit(1 << 20).build();
    let pattern = pattern.map_err(|error| Stop::new(2, format!("the pattern is wrong: {error}")))?;
    let (users, groups) = (Users::of_users(), Users::of_groups());
    let ids = |key: &str, names: &Users| -> Result<Option<Vec<u32>>, Stop> {
        let Some(text) = options.text(key) else { return Ok(None) };
        let id = |name: &str| {
            names.id(name).ok_or_else(|| Stop::new(2, format!("{name:?} is not known here and is no number")))
        };
        text.split(',').map(id).collect::<Result<_, _>>().map(Some)
    };
    let none = Users::default();
    let (euid, uid, gid) = (ids("u", &users)?, ids("U", &users)?, ids("G", &groups)?);
    let (parent, group, session) = (ids("P", &none)?, ids("g", &none)?, ids("s", &none)?);
    let terminals = options.text("t");
    let older: Option<u64> = options.parsed("O").map_err(usage)?;
    let states = options.text("r");
    let within = |list: &Option<Vec<u32>>, id: u32| list.as_ref().is_none_or(|list| list.contains(&id));
    let takes = |process: &Process| {
        let text = if options.has("f") { process.command() } else { process.name.clone() };
        pattern.is_match(&text)
            && within(&euid, process.uid.1)
            && within(&uid, process.uid.0)
            && within(&gid, process.gid.0)
            && within(&parent, process.parent)
            && within(&group, process.group)
            && within(&session, process.session)
            && terminals.as_ref().is_none_or(|list| list.split(',').any(|name| name == process.terminal))
            && older.is_none_or(|least| units.uptime.saturating_sub(process.start / units.ticks) > least)
            && states.as_ref().is_none_or(|states| states.contains(process.state))
    };
    let own = std::process::id();
    let mut found: Vec<Process> =
        all.into_iter().filter(|p| p.pid != own && takes(p) != options.has("v")).collect();
    found.sort_by_key(|process| (process.start, process.pid));
    if options.has("n") {
        found = found.pop().into_iter().collect();
    } else if options.has("o") {
        found.truncate(1);
    }
    found.sort_by_key(|process| process.pid);
    Ok(found)
}

pub(crate) fn pidof(arguments: Vec<OsString>) -> i32 {
    run("pidof", || {
        let options = Options::read("pidof", PIDOF_HELP, "s x q o= S= c n", &arguments)?;
        let all = processes(Path::new("/proc"), &Units::here()).map_err(failed("/proc"))?;
        let without: Vec<String> = options
            .all("o")
            .flat_map(|list| list.split(',').map(str::to_owned).collect::<Vec<_>>())
            .collect();
        let parent = nix::unistd::getppid().to_string();
        let left_out = |pid: u32| {
            let pid = pid.to_string();
            without.iter().any(|word| *word == pid || (word == "%PPID" && parent == pid))
        };
        let names = options.words();
        let mut found: Vec<String> = all
            .iter()
            .rev()
            .filter(|p| p.pid != std::process::id() && !left_out(p.pid))
            .filter(|process| names.iter().any(|name| runs(process, name, options.has("x"))))
            .map(|process| process.pid.to_string())
            .collect();
        if options.has("s") {
            found.truncate(1);
        }
        if found.is_empty() {
            return Ok(1);
        }
        if options.has("q") {
            return Ok(0);
        }
        let between = options.text("S").unwrap_or_else(|| " ".into());
        Ok(print("pidof", &format!("{}\n", found.join(&between))))
    })
}

/// Whether a process runs the program of this name or path; with `scripts` also an interpreter with it.
fn runs(process: &Process, name: &str, scripts: bool) -> bool {
    let matches =
        |word: &str| word == name || (!name.contains('/') && base(word.trim_start_matches('-')) == name);
    let Some(first) = process.words.first() else { return process.name == name };
    let shown = name.get(..15).unwrap_or(name);
    matches(first)
        || (first.contains(' ') && process.name == shown)
        || (scripts && (process.words.get(1).is_some_and(|word| matches(word)) || process.name == shown))
}

pub(crate) fn killall(arguments: Vec<OsString>) -> i32 {
    run("killall", || {
        let (signal, arguments) = take_signal(&arguments);
        let options =
            Options::read("killall", KILLALL_HELP, "s|signal= q|quiet v|verbose w|wait", &arguments)?;
        let signal = match options.text("s").or(signal) {
            None => Signal::SIGTERM as i32,
            Some(name) => number(&name).ok_or_else(|| no_signal(&name))?,
        };
        let names = options.words();
        if names.is_empty() {
            return Err(Stop::new(1, "no name given"));
        }
        let mut code = 0;
        for name in names {
            let all = processes(Path::new("/proc"), &Units::here()).map_err(failed("/proc"))?;
            let own = std::process::id();
            let hit: Vec<u32> =
                all.iter().filter(|p| p.pid != own && runs(p, &name, false)).map(|p| p.pid).collect();
            if hit.is_empty() {
                code = 1;
                if !options.has("q") {
                    complain("killall", &format_args!("{name}: no process found"));
                }
            }
            for pid in hit {
                match send(pid, signal) {
                    Ok(()) if options.has("v") => drop(print("killall", &format!("killed {name} ({pid})\n"))),
                    Ok(()) | Err(nix::Error::ESRCH) => {}
                    Err(error) => {
                        code = 1;
                        complain("killall", &because(format_args!("{name} ({pid})"), &error.into()));
                    }
                }
                while options.has("w") && send(pid, 0) != Err(nix::Error::ESRCH) {
                    std::thread::sleep(std::time::Duration::from_millis(50));
                }
            }
        }
        Ok(code)
    })
}

#[cfg(test)]
mod tests {
    use super::super::list::tests::UNITS;
    use super::*;

    fn some(pid: u32, name: &str, words: &[&str], start: u64) -> Process {
        Process {
            pid,
            name: name.into(),
            words: words.iter().map(|word| (*word).to_owned()).collect(),
            start,
            parent: pid / 10,
            ..Process::default()
        }
    }

    fn chosen(line: &[&str]) -> Result<Vec<u32>, Stop> {
        let all = vec![
            some(3_000_001, "sshd", &["/usr/sbin/sshd", "-D"], 10),
            some(3_000_002, "sh", &["-sh"], 30),
            some(3_000_003, "Sh2", &["sh", "x.sh"], 20),
        ];
        let line: Vec<OsString> = ["pgrep"].iter().chain(line).map(OsString::from).collect();
        let options = Options::read("pgrep", "", TABLE, &line)?;
        Ok(choose(&options, all, &UNITS)?.iter().map(|process| process.pid - 3_000_000).collect())
    }

    #[test]
    fn a_pattern_and_options_choose() {
        assert_eq!(chosen(&["sh"]).unwrap(), [1, 2]);
        assert_eq!(chosen(&["-x", "sh"]).unwrap(), [2]);
        assert_eq!(chosen(&["-i", "sh"]).unwrap(), [1, 2, 3]);
        assert_eq!(chosen(&["-f", "x[.]sh$"]).unwrap(), [3]);
        assert_eq!((chosen(&["-n", "."]).unwrap(), chosen(&["-o", "."]).unwrap()), (vec![2], vec![1]));
        assert_eq!(chosen(&["-v", "sshd"]).unwrap(), [2, 3]);
        assert_eq!(chosen(&["-P", "300000"]).unwrap(), [1, 2, 3]);
        assert_eq!(chosen(&["-U", "77"]).unwrap(), [0_u32; 0]);
        let codes = [&[][..], &["("], &["a", "b"], &["-u", "no such user", "x"], &["-O", "x", "y"]];
        assert!(codes.iter().all(|line| chosen(line).unwrap_err().code == 2));
    }

    #[test]
    fn signals_are_known_by_name_and_number() {
        assert_eq!(
            ["9", "KILL", "sigkill", "0", "99", "NOSUCH"].map(number),
            [Some(9), Some(9), Some(9), Some(0), None, None]
        );
        let words = |line: &[&str]| line.iter().map(OsString::from).collect::<Vec<_>>();
        let (signal, rest) = take_signal(&words(&["pkill", "-f", "-HUP", "x"]));
        assert_eq!((signal.as_deref(), rest), (Some("HUP"), words(&["pkill", "-f", "x"])));
        assert_eq!(take_signal(&words(&["pkill", "-x", "y"])).0, None);
    }

    #[test]
    fn a_program_is_known_by_its_base_name_or_its_path() {
        let process = some(1, "python3", &["/usr/bin/python3", "/opt/tool.py"], 1);
        assert!(runs(&process, "python3", false) && runs(&process, "/usr/bin/python3", false));
        assert!(!runs(&process, "tool.py", false) && runs(&process, "tool.py", true));
        assert!(!runs(&process, "/bin/python3", false) && !runs(&process, "python", false));
        assert!(
            runs(&some(1, "sh", &["-sh"], 1), "sh", false)
                && runs(&some(1, "kthreadd", &[], 1), "kthreadd", false)
        );
    }
}
