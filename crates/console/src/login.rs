//! `login`: from a name to a shell; and the accounts, for root.

use crate::accounts::{AccountError, Accounts, PASSPHRASE_MIN, is_name};
use crate::attempts::Attempts;
use crate::dialogue::{End, Event, State};
use crate::files::{self, FileError};
use crate::keys::{self, AskError, Asked, TrustError};
use crate::line::Line;
use crate::record::{RecordError, tell};
use crate::terminal::{Answer, Terminal};
use crate::{change, directory, layout, motd, say, session, wizard};
use nix::fcntl::{Flock, FlockArg};
use octant_api::operator::Op;
use octant_ids::{Exit, Layout};
use octant_manifest::KeyId;
use octant_sys::clock;
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

const HELP: &str = "\
Usage: login                         ask for a name and passphrase or key, then run a shell
       login --add NAME [--uid N]    make an account (user id 0, which may do everything)
                   [--key KEY]       opened by this key alone, without a passphrase
       login --passphrase NAME       change its passphrase
       login --key NAME KEY          have a key open it too
       login --no-key NAME KEY       no longer
       login --key-only NAME         forget its passphrase: its keys alone open it
       login --remove NAME           remove it
       login --list                  show all, and what opens each
KEY is the identifier, or its beginning, of a key that `octant trust list` shows. Revoked there, it opens nothing.
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
    /// The trusted set.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// A key that is not one of the trusted set.
    #[error(
        "{0:?} is not the beginning of just one key that counts; `octant trust list` shows them, `octant trust add` adds one"
    )]
    NoKey(String),
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
    /// A challenge.
    #[error(transparent)]
    Ask(#[from] AskError),
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
            Self::Account(AccountError::Unknown(_)) | Self::NoKey(_) => Exit::NotFound,
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
    if words.is_empty() { once(&layout) } else { change::run(&layout, &words) }
}

pub(crate) fn print(text: &str) -> Result<(), LoginError> {
    io::Write::write_all(&mut io::stdout(), text.as_bytes()).map_err(LoginError::Terminal)
}

/// A new passphrase from the terminal, twice.
pub(crate) fn new_passphrase() -> Result<Line, LoginError> {
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
    let terminal = Terminal::open().map_err(LoginError::Terminal)?;
    let mut desk = Desk { terminal, name: name.clone(), layout, asked: None, opened: None };
    let end = desk.questions()?;
    let End::In(account_name) = &end else { return Ok(end) };
    let accounts = Accounts::load(&directory(layout))?;
    // It may have been removed this very moment.
    let Some(account) = accounts.find(account_name) else { return Ok(End::Refused) };
    let who = format!("{account_name}@{name}");
    let key = desk.opened;
    if let Some(key) = key {
        tell(layout, Op::Answered, &format!("{}@{name}", &key.to_string()[..16]), 0)?;
    }
    tell(layout, Op::Login, &who, account.uid)?;
    desk.terminal.write(&motd::message()).map_err(LoginError::Terminal)?;
    drop(desk);
    let ended = session::run(account, &name, || key.is_none_or(|key| counts(layout, key)));
    tell(layout, Op::Logout, &who, account.uid)?;
    let ended = ended.map_err(LoginError::Shell)?;
    say(&format!("logged out: {}", ended.how));
    Ok(if ended.told { End::Told } else { end })
}

/// Whether the key that opened a session still counts. A set that cannot be read lets nobody in and throws nobody out: it
/// may be just what the operator who is in was about to put right.
fn counts(layout: &Layout, key: KeyId) -> bool {
    keys::trusted(&layout.trusted()).map_or(true, |trusted| trusted.counts(key, clock::wall_ms()))
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
    /// The challenge that is shown, until its answer.
    asked: Option<Asked>,
    /// The key that has answered.
    opened: Option<KeyId>,
}

impl Desk<'_> {
    fn questions(&mut self) -> Result<End, LoginError> {
        let host = nix::unistd::gethostname().unwrap_or_default();
        let heading = format!("\nOctant on {}, {}\n", host.to_string_lossy(), self.name);
        self.terminal.write(&heading).map_err(LoginError::Terminal)?;
        let mut deadline = clock::monotonic_ns() + WITHIN_NS;
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
                    let question = "passphrase (Enter for a key): ";
                    (self.terminal.ask(question, false, deadline), Some(name.clone()))
                }
                State::Answer { name, .. } => {
                    let until = self.asked.as_ref().map_or(deadline, Asked::until_ns);
                    (self.terminal.ask("answer: ", true, until), Some(name.clone()))
                }
            };
            let event = match (answer.map_err(LoginError::Terminal)?, name) {
                (Answer::Line(line), None) => {
                    Event::Name(String::from_utf8_lossy(line.bytes()).trim().to_owned())
                }
                (Answer::Line(line), Some(name)) => match state {
                    State::Passphrase { .. } if line.is_empty() && is_name(&name) => {
                        self.challenged(&name)?
                    }
                    _ => self.checked(&name, line.bytes())?,
                },
                (Answer::Cancelled, _) => Event::Cancelled,
                (Answer::Ended, _) => Event::Ended,
                (Answer::TimedOut, _) => Event::TimedOut,
            };
            // Who has carried a challenge away and back begins with all the time again.
            if matches!(state, State::Answer { .. }) {
                deadline = clock::monotonic_ns() + WITHIN_NS;
            }
            state = state.step(event);
        }
    }

    /// Shows a challenge, unless an answer would have to wait: nobody signs for nothing. Whether there is such an account
    /// makes no difference.
    fn challenged(&mut self, name: &str) -> Result<Event, LoginError> {
        let directory = directory(self.layout);
        let lock = lock(&directory)?;
        let wait = load(&directory.join("attempts.json")).wait_ms(None, &self.name, clock::wall_ms());
        drop(lock);
        if wait > 0 {
            return self.told_to_wait(wait);
        }
        let asked = Asked::new(self.layout, &self.name, name, clock::monotonic_ns(), clock::wall_ms());
        let asked = match asked {
            // Another way in may be open.
            Err(error @ AskError::Terminal(_)) => {
                self.terminal.write(&format!("{error}\n")).map_err(LoginError::Terminal)?;
                return Ok(Event::Cancelled);
            }
            other => other?,
        };
        let text = format!(
            "within 5 minutes, where your key is:\noctant account answer --key FILE \\\n{}\n",
            asked.challenge()
        );
        self.terminal.write(&text).map_err(LoginError::Terminal)?;
        self.asked = Some(asked);
        Ok(Event::ByKey)
    }

    fn told_to_wait(&mut self, wait_ms: u64) -> Result<Event, LoginError> {
        let text = format!("too many wrong answers: wait {} s\n", wait_ms.div_ceil(1_000));
        self.terminal.write(&text).map_err(LoginError::Terminal)?;
        Ok(Event::Cancelled)
    }

    /// Whether what was typed opens the account: as the answer to what was asked, or as its passphrase.
    fn opens(&mut self, name: &str, typed: &[u8], accounts: &Accounts) -> Result<bool, LoginError> {
        let Some(asked) = self.asked.take() else { return Ok(accounts.check(name, typed)?.is_some()) };
        let trusted = keys::trusted(&self.layout.trusted())?;
        self.opened = asked.opened(typed, accounts, &trusted, clock::monotonic_ns(), clock::wall_ms());
        Ok(self.opened.is_some())
    }

    /// Counts the attempt before it is checked, so that nothing that happens after can make it uncounted.
    fn checked(&mut self, name: &str, typed: &[u8]) -> Result<Event, LoginError> {
        let directory = directory(self.layout);
        let _one_at_a_time = lock(&directory)?;
        let path = directory.join("attempts.json");
        let mut attempts = load(&path);
        if attempts.heed(clock::wall_ms())
            && let Err(error) = store(&path, &attempts)
        {
            say(&format!("login: {error}"));
        }
        let counts = self.asked.is_none().then_some(name);
        let wait = attempts.wait_ms(counts, &self.name, clock::wall_ms());
        if wait > 0 {
            self.asked = None;
            return self.told_to_wait(wait);
        }
        attempts.failed(counts, &self.name, clock::wall_ms());
        if let Err(error) = store(&path, &attempts) {
            say(&format!("login: {error}; every attempt waits until it can be"));
            std::thread::sleep(UNKEPT);
        }
        let accounts = Accounts::load(&directory)?;
        if !self.opens(name, typed, &accounts)? {
            // What was typed as a name may be a passphrase: only names that there are go on record.
            let known = accounts.find(name).map_or("", |account| &account.name);
            let who = format!("{known}@{}", self.name);
            tell(self.layout, Op::Refused, &who, 0)?;
            self.terminal.write("that is not right\n").map_err(LoginError::Terminal)?;
            return Ok(Event::Checked(false));
        }
        attempts.succeeded(name, &self.name);
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
