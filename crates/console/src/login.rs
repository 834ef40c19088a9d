//! `login`: from a name to a shell; and the accounts, for root.

use crate::accounts::{AccountError, Accounts, PASSPHRASE_MIN};
use crate::attempts::Attempts;
use crate::dialogue::{End, Event, State};
use crate::files::{self, FileError};
use crate::line::Line;
use crate::record::{RecordError, tell};
use crate::terminal::{Answer, Terminal};
use crate::{directory, layout, motd, say, session, wizard};
use nix::fcntl::{Flock, FlockArg};
use octant_api::operator::Op;
use octant_ids::{Exit, Layout};
use octant_sys::clock;
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

const HELP: &str = "\
Usage: login                        ask for a name and passphrase, then run a shell
       login --add NAME [--uid N]   make an account (user id 0, which may do everything)
       login --passphrase NAME      change its passphrase
       login --remove NAME          remove it
       login --list                 show all
Accounts are the machine's, for its console; only root can use this. What services let an operator do follows from the
user id: 0, or one that [init] operators in octant.toml names.
";

/// How long the questions of one login may take.
const WITHIN_NS: u64 = 60_000_000_000;
/// What a wait is when it cannot be kept over a restart: a full disk must not lock its repairer out, nor help a guesser.
const UNKEPT: Duration = Duration::from_secs(5);

/// Why there is no login.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoginError {
    /// Not root.
    #[error(
        "login has to run as root: it starts shells of other users and reads what passphrases are checked against"
    )]
    NotRoot,
    /// A wrong command line.
    #[error("{0}; login --help lists what there is")]
    Usage(String),
    /// Accounts.
    #[error(transparent)]
    Account(#[from] AccountError),
    /// The record.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The terminal.
    #[error("the terminal: {0}")]
    Terminal(#[source] io::Error),
    /// The lock that keeps two terminals from counting at once.
    #[error("{path}: {source}")]
    Lock {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The shell.
    #[error("the shell cannot be run: {0}")]
    Shell(#[source] io::Error),
    /// The two passphrases differ, or nobody typed one.
    #[error("{0}")]
    NotTyped(&'static str),
}

impl LoginError {
    fn exit(&self) -> Exit {
        match self {
            Self::NotRoot => Exit::Denied,
            Self::Usage(_) => Exit::Usage,
            Self::Account(AccountError::Unknown(_)) => Exit::NotFound,
            Self::Record(_) => Exit::Unavailable,
            _ => Exit::Failed,
        }
    }
}

/// The program `login`; what follows its name.
#[must_use]
pub fn login(arguments: &[OsString]) -> Exit {
    match main(arguments) {
        Ok(exit) => exit,
        Err(error) => {
            say(&format!("login: {error}"));
            error.exit()
        }
    }
}

fn main(arguments: &[OsString]) -> Result<Exit, LoginError> {
    let words: Vec<&str> = arguments.iter().filter_map(|word| word.to_str()).collect();
    if matches!(words[..], ["--help" | "-h"]) {
        print(HELP)?;
        return Ok(Exit::Ok);
    }
    if matches!(words[..], ["--version" | "-V"]) {
        print(&format!("login (octant) {}\n", env!("CARGO_PKG_VERSION")))?;
        return Ok(Exit::Ok);
    }
    if !nix::unistd::geteuid().is_root() {
        return Err(LoginError::NotRoot);
    }
    let layout = layout();
    match words[..] {
        [] => once(&layout),
        ["--list"] => list(&layout),
        ["--add", name] => add(&layout, name, 0),
        ["--add", name, "--uid", uid] => {
            let uid = uid.parse().map_err(|_| LoginError::Usage(format!("{uid:?} is no user id")))?;
            add(&layout, name, uid)
        }
        ["--passphrase", name] => {
            // Before it is typed, to say at once what cannot be, and after it, when nobody else changes them.
            Accounts::load(&directory(&layout))?.is_there(name)?;
            let passphrase = new_passphrase()?;
            let _one_at_a_time = lock(&directory(&layout))?;
            let mut accounts = Accounts::load(&directory(&layout))?;
            accounts.can_change(name, passphrase.bytes())?;
            tell(&layout, Op::Account, name, CHANGED)?;
            accounts.change(name, passphrase.bytes())?;
            Ok(Exit::Ok)
        }
        ["--remove", name] => {
            // Taking away waits for no record.
            let _one_at_a_time = lock(&directory(&layout))?;
            Accounts::load(&directory(&layout))?.remove(name)?;
            tell(&layout, Op::Account, name, REMOVED)?;
            Ok(Exit::Ok)
        }
        _ => Err(LoginError::Usage("these words are not understood".into())),
    }
}

/// What [`Op::Account`]'s number says.
pub(crate) const MADE: u32 = 0;
const CHANGED: u32 = 1;
const REMOVED: u32 = 2;

fn print(text: &str) -> Result<(), LoginError> {
    io::Write::write_all(&mut io::stdout(), text.as_bytes()).map_err(LoginError::Terminal)
}

fn list(layout: &Layout) -> Result<Exit, LoginError> {
    let accounts = Accounts::load(&directory(layout))?;
    let line = |account: &crate::accounts::Account| format!("{:<16} {}\n", account.name, account.uid);
    print(&format!("NAME             UID\n{}", accounts.list().iter().map(line).collect::<String>()))?;
    Ok(Exit::Ok)
}

fn add(layout: &Layout, name: &str, uid: u32) -> Result<Exit, LoginError> {
    let passphrase = new_passphrase()?;
    let _one_at_a_time = lock(&directory(layout))?;
    let mut accounts = Accounts::load(&directory(layout))?;
    accounts.can_add(name, uid, passphrase.bytes())?;
    tell(layout, Op::Account, name, MADE)?;
    accounts.add(name, uid, passphrase.bytes())?;
    Ok(Exit::Ok)
}

/// A new passphrase from the terminal, twice.
fn new_passphrase() -> Result<Line, LoginError> {
    let mut terminal = Terminal::open().map_err(LoginError::Terminal)?;
    let deadline = clock::monotonic_ns() + 5 * WITHIN_NS;
    match ask_twice(&mut terminal, deadline).map_err(LoginError::Terminal)? {
        Twice::Same(line) => Ok(line),
        Twice::Differ => Err(LoginError::NotTyped("the two passphrases differ; nothing was changed")),
        Twice::None => Err(LoginError::NotTyped("no passphrase was typed; nothing was changed")),
    }
}

/// What came of asking for a new passphrase.
pub(crate) enum Twice {
    /// The same both times.
    Same(Line),
    /// Another one the second time.
    Differ,
    /// Whoever was asked went away.
    None,
}

/// Asks for a new passphrase, twice.
pub(crate) fn ask_twice(terminal: &mut Terminal, deadline: u64) -> io::Result<Twice> {
    terminal.write(&format!("at least {PASSPHRASE_MIN} characters; nothing is shown while you type\n"))?;
    let Answer::Line(first) = terminal.ask("new passphrase: ", false, deadline)? else {
        return Ok(Twice::None);
    };
    let Answer::Line(again) = terminal.ask("the same again: ", false, deadline)? else {
        return Ok(Twice::None);
    };
    Ok(if first.bytes() == again.bytes() { Twice::Same(first) } else { Twice::Differ })
}

/// One login at the terminal on standard input.
fn once(layout: &Layout) -> Result<Exit, LoginError> {
    Ok(match round(layout)? {
        End::In(_) | End::Left | End::Told => Exit::Ok,
        End::Refused | End::Late => Exit::Denied,
    })
}

/// One login: the questions, then the shell until it ends.
pub(crate) fn round(layout: &Layout) -> Result<End, LoginError> {
    let name = terminal_name();
    if Accounts::load(&directory(layout))?.list().is_empty() {
        return wizard::run(layout, &name);
    }
    let mut desk =
        Desk { terminal: Terminal::open().map_err(LoginError::Terminal)?, name: name.clone(), layout };
    let end = desk.questions()?;
    let End::In(account_name) = &end else { return Ok(end) };
    let accounts = Accounts::load(&directory(layout))?;
    // It may have been removed this very moment.
    let Some(account) = accounts.list().iter().find(|account| account.name == *account_name) else {
        return Ok(End::Refused);
    };
    let who = format!("{account_name}@{name}");
    tell(layout, Op::Login, &who, account.uid)?;
    desk.terminal.write(&motd::message()).map_err(LoginError::Terminal)?;
    drop(desk);
    let ended = session::run(account, &name);
    tell(layout, Op::Logout, &who, account.uid)?;
    let ended = ended.map_err(LoginError::Shell)?;
    say(&format!("logged out: {}", ended.how));
    Ok(if ended.told { End::Told } else { end })
}

/// The terminal's name without `/dev/`; the console is whatever the kernel has made it.
pub(crate) fn terminal_name() -> String {
    let path = nix::unistd::ttyname(io::stdin()).unwrap_or_default();
    let name = path.strip_prefix("/dev").unwrap_or(&path).to_string_lossy().into_owned();
    if name != "console" {
        return name;
    }
    // Of several the last one is /dev/console (Documentation/admin-guide/serial-console.rst).
    let active = std::fs::read_to_string("/sys/class/tty/console/active").unwrap_or_default();
    active.split_ascii_whitespace().last().map_or(name, str::to_owned)
}

/// A terminal with somebody at it.
struct Desk<'a> {
    terminal: Terminal,
    name: String,
    layout: &'a Layout,
}

impl Desk<'_> {
    fn questions(&mut self) -> Result<End, LoginError> {
        let host = nix::unistd::gethostname().unwrap_or_default();
        let heading = format!("\nOctant on {}, {}\n", host.to_string_lossy(), self.name);
        self.terminal.write(&heading).map_err(LoginError::Terminal)?;
        let deadline = clock::monotonic_ns() + WITHIN_NS;
        let mut state = State::new();
        loop {
            let (answer, name) = match &state {
                State::Over(End::Late) => {
                    self.terminal.write("nobody answered in time\n").map_err(LoginError::Terminal)?;
                    return Ok(End::Late);
                }
                State::Over(end) => return Ok(end.clone()),
                State::Name { .. } => (self.terminal.ask("octant login: ", true, deadline), None),
                State::Passphrase { name, .. } => {
                    (self.terminal.ask("passphrase: ", false, deadline), Some(name.clone()))
                }
            };
            let event = match (answer.map_err(LoginError::Terminal)?, name) {
                (Answer::Line(line), None) => {
                    Event::Name(String::from_utf8_lossy(line.bytes()).trim().to_owned())
                }
                (Answer::Line(line), Some(name)) => self.checked(&name, line.bytes())?,
                (Answer::Cancelled, _) => Event::Cancelled,
                (Answer::Ended, _) => Event::Ended,
                (Answer::TimedOut, _) => Event::TimedOut,
            };
            state = state.step(event);
        }
    }

    /// Counts the attempt before it is checked, so that nothing that happens after can make it uncounted.
    fn checked(&mut self, name: &str, passphrase: &[u8]) -> Result<Event, LoginError> {
        let directory = directory(self.layout);
        let _one_at_a_time = lock(&directory)?;
        let path = directory.join("attempts.json");
        let mut attempts = load(&path);
        if attempts.heed(clock::wall_ms())
            && let Err(error) = store(&path, &attempts)
        {
            say(&format!("login: {error}"));
        }
        let wait = attempts.wait_ms(name, &self.name, clock::wall_ms());
        if wait > 0 {
            let text = format!("too many wrong passphrases: wait {} s\n", wait.div_ceil(1_000));
            self.terminal.write(&text).map_err(LoginError::Terminal)?;
            return Ok(Event::Cancelled);
        }
        attempts.failed(name, &self.name, clock::wall_ms());
        if let Err(error) = store(&path, &attempts) {
            say(&format!("login: {error}; every attempt waits until it can be"));
            std::thread::sleep(UNKEPT);
        }
        let accounts = Accounts::load(&directory)?;
        let Some(account) = accounts.check(name, passphrase)? else {
            // What was typed as a name may be a passphrase: only names that there are go on record.
            let known = accounts.list().iter().any(|account| account.name == name);
            let who = format!("{}@{}", if known { name } else { "" }, self.name);
            tell(self.layout, Op::Refused, &who, 0)?;
            self.terminal.write("that is not right\n").map_err(LoginError::Terminal)?;
            return Ok(Event::Checked(false));
        };
        attempts.succeeded(&account.name, &self.name);
        if let Err(error) = store(&path, &attempts) {
            say(&format!("login: {error}"));
        }
        Ok(Event::Checked(true))
    }
}

/// The counts; where they cannot be read they begin anew, and are said to.
fn load(path: &Path) -> Attempts {
    let read = files::read(path).map(|text| text.map(|text| serde_json::from_str(&text)));
    match read {
        Ok(None) => Attempts::default(),
        Ok(Some(Ok(attempts))) => attempts,
        Ok(Some(Err(error))) => begin_anew(&error.to_string(), path),
        Err(error) => begin_anew(&error.to_string(), path),
    }
}

/// Only root can have damaged the file, or the disk: the wait for that is one that nobody can take away.
fn begin_anew(why: &str, path: &Path) -> Attempts {
    say(&format!("login: {}: {why}; the counts begin anew", path.display()));
    std::thread::sleep(UNKEPT);
    Attempts::default()
}

fn store(path: &Path, attempts: &Attempts) -> Result<(), FileError> {
    let text = serde_json::to_string(attempts)
        .map_err(|error| FileError::Content { path: path.to_owned(), why: error.to_string() })?;
    files::write(path, &text)
}

/// Two terminals do not count at once, or one of the counts would be lost.
pub(crate) fn lock(directory: &Path) -> Result<Flock<File>, LoginError> {
    let path = directory.join("lock");
    let fail = |source| LoginError::Lock { path: path.clone(), source };
    files::make_directory(directory).map_err(fail)?;
    let file =
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path).map_err(fail)?;
    Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, error)| fail(error.into()))
}
