//! Standard descriptors: what goes inside as it is, and what stays outside and is copied.
//!
//! A terminal stays outside: who has it could read what is typed into it later, and put input into it. The program gets
//! one of its own. A socket stays outside too, since descriptors come through one.

use crate::error::{RunError, at};
use crate::relay::{Relay, unblock};
use nix::fcntl::OFlag;
use nix::sys::signal::Signal;
use nix::sys::stat::{SFlag, fstat};
use nix::sys::termios::{SetArg, SpecialCharacterIndices, Termios, cfmakeraw, tcgetattr, tcsetattr};
use nix::unistd::{getpgrp, isatty, pipe2, tcgetpgrp};
use octant_workstation::Stdio;
use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The names of the three.
const NAMES: [&str; 3] = ["input", "output", "error"];

/// What the program gets, and what this process keeps.
#[derive(Debug)]
pub(crate) struct Standard {
    inside: Vec<OwnedFd>,
    /// The pipe on which the word comes that the program was stopped: its two sides.
    stopped: (OwnedFd, OwnedFd),
    relays: Vec<Relay>,
    terminal: Option<OwnedFd>,
    /// Whether what is typed may be read: not where another program of the same pipeline may want to.
    keyboard: bool,
}

fn copy(number: usize) -> Result<OwnedFd, RunError> {
    let fd = match number {
        0 => io::stdin().as_fd().try_clone_to_owned(),
        1 => io::stdout().as_fd().try_clone_to_owned(),
        _ => io::stderr().as_fd().try_clone_to_owned(),
    };
    fd.map_err(at("take the standard descriptors"))
}

impl Standard {
    /// Looks at what this process was started with.
    pub(crate) fn take() -> Result<Self, RunError> {
        let failed = |errno: nix::Error| at("make a pipe")(errno.into());
        let mut inside = Vec::new();
        let (mut relays, mut terminal, mut piped) = (Vec::new(), None, false);
        for (number, name) in NAMES.into_iter().enumerate() {
            let fd = copy(number)?;
            let kind = fstat(&fd).map_err(failed)?.st_mode & SFlag::S_IFMT.bits();
            if kind == SFlag::S_IFDIR.bits() {
                return Err(RunError::Directory(name));
            }
            if kind == SFlag::S_IFSOCK.bits() {
                let (read, write) = pipe2(OFlag::O_CLOEXEC).map_err(failed)?;
                let (kept, given) = if number == 0 { (write, read) } else { (read, write) };
                let (from, to) = if number == 0 { (fd, kept) } else { (kept, fd) };
                relays.push(Relay::new(from, to));
                inside.push(given);
                continue;
            }
            if terminal.is_none() && isatty(&fd).unwrap_or(false) {
                terminal = Some(fd.try_clone().map_err(at("copy the terminal"))?);
            }
            piped |= number == 1 && kind == SFlag::S_IFIFO.bits();
            inside.push(fd);
        }
        // The terminal of the session where there is one: it can be read and written, whatever way it was given.
        let own = OpenOptions::new().read(true).write(true).open("/dev/tty");
        let terminal = terminal.map(|given| own.map_or(given, OwnedFd::from));
        let stopped = pipe2(OFlag::O_CLOEXEC).map_err(failed)?;
        Ok(Self { inside, stopped, relays, terminal, keyboard: !piped })
    }

    /// What the plan says about it.
    pub(crate) fn stdio(&self) -> Stdio {
        if self.terminal.is_some() { Stdio::Terminal } else { Stdio::Caller }
    }

    /// In the order that the spawner knows.
    pub(crate) fn for_spawner(&self) -> Vec<BorrowedFd<'_>> {
        self.inside.iter().chain([&self.stopped.1]).map(AsFd::as_fd).collect()
    }

    /// Once the program runs: closes what is now the program's, and connects its terminal with the person's.
    pub(crate) fn connect(self, outside: Option<OwnedFd>) -> io::Result<Connected> {
        let Self { inside, stopped, mut relays, terminal, keyboard } = self;
        drop(inside);
        unblock(stopped.0.as_fd())?;
        let mut person = None;
        if let (Some(terminal), Some(outside)) = (terminal, outside) {
            unblock(outside.as_fd())?;
            relays.insert(SHOWN, Relay::new(outside.try_clone()?, terminal.try_clone()?));
            relays.insert(TYPED, Relay::new(terminal.try_clone()?, outside.try_clone()?));
            let mut person_s = Person { terminal, outside, before: None, keyboard };
            person_s.enter(&mut relays)?;
            person = Some(person_s);
        }
        Ok(Connected { relays, stopped: stopped.0, person })
    }
}

/// The relay of what the program shows, where there is a terminal.
const SHOWN: usize = 0;
/// The relay of what is typed.
const TYPED: usize = 1;

/// What this process copies while the program runs.
#[derive(Debug)]
pub(crate) struct Connected {
    pub(crate) relays: Vec<Relay>,
    /// Readable when the program was stopped.
    pub(crate) stopped: OwnedFd,
    person: Option<Person>,
}

/// The person's terminal and the outer side of the program's.
#[derive(Debug)]
struct Person {
    terminal: OwnedFd,
    outside: OwnedFd,
    /// The modes to go back to; none while nothing was changed.
    before: Option<Termios>,
    keyboard: bool,
}

impl Person {
    /// Passes on every key, if this process is in the foreground; from the background the terminal is not touched.
    fn enter(&mut self, relays: &mut [Relay]) -> io::Result<()> {
        let foreground = tcgetpgrp(&self.terminal).is_ok_and(|group| group == getpgrp());
        let typing = foreground && self.keyboard;
        if let Some(typed) = relays.get_mut(TYPED) {
            typed.open = typing;
        }
        if typing && self.before.is_none() {
            let before = tcgetattr(&self.terminal)?;
            let mut raw = before.clone();
            cfmakeraw(&mut raw);
            tcsetattr(&self.terminal, SetArg::TCSADRAIN, &raw)?;
            self.before = Some(before);
        }
        self.resize()
    }

    fn leave(&mut self) -> io::Result<()> {
        match self.before.take() {
            Some(before) => Ok(tcsetattr(&self.terminal, SetArg::TCSADRAIN, &before)?),
            None => Ok(()),
        }
    }

    fn resize(&self) -> io::Result<()> {
        octant_sys::console::copy_size(self.terminal.as_fd(), self.outside.as_fd())
    }
}

impl Connected {
    /// The terminal is the program's again, after this process was stopped or in the background.
    pub(crate) fn enter(&mut self) -> io::Result<()> {
        match &mut self.person {
            Some(person) => person.enter(&mut self.relays),
            None => Ok(()),
        }
    }

    /// Gives the terminal back as it was.
    pub(crate) fn leave(&mut self) -> io::Result<()> {
        self.person.as_mut().map_or(Ok(()), Person::leave)
    }

    /// The key on the person's terminal that made this signal, typed on the program's: that tells its whole foreground
    /// job, whichever that is. False where there is no such key or no such terminal.
    pub(crate) fn type_key(&mut self, signal: Signal) -> io::Result<bool> {
        let key = match signal {
            Signal::SIGINT => SpecialCharacterIndices::VINTR,
            Signal::SIGQUIT => SpecialCharacterIndices::VQUIT,
            Signal::SIGTSTP => SpecialCharacterIndices::VSUSP,
            _ => return Ok(false),
        };
        let (Some(person), Some(typed)) = (&self.person, self.relays.get_mut(TYPED)) else {
            return Ok(false);
        };
        let keys = tcgetattr(&person.terminal)?.control_chars;
        typed.add(keys.get(key as usize).map_or(&[], std::slice::from_ref));
        Ok(true)
    }

    /// The window has another size.
    pub(crate) fn resize(&self) -> io::Result<()> {
        self.person.as_ref().map_or(Ok(()), Person::resize)
    }

    /// After the program's end: shows what is still on its way.
    pub(crate) fn drain(&mut self) -> io::Result<()> {
        let typed = self.person.is_some().then_some(TYPED);
        let shown = self.relays.iter_mut().enumerate().filter(|(i, _)| Some(*i) != typed);
        shown.map(|(_, relay)| relay).try_for_each(Relay::drain)
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        // Whatever went wrong, the person's terminal is as it was.
        let _nothing_more_can_be_done = self.leave();
    }
}
