//! `octant top`: everything that lives here, as it goes.
//!
//! Owns: what is shown where, the keys, and what they ask for.
//! Promises: a service that is away or slow is shown as such and holds nothing up; what a key does is done by the same
//! calls as the command of that name; the terminal is left as it was found. It only writes to the terminal, and never
//! asks it anything: a serial console does.
//!
//! | file | what |
//! |---|---|
//! | `snapshot.rs` | what is known at one moment, and where it comes from |
//! | `view.rs` | from that to lines: pure |
//! | `keys.rs` | from bytes to keys: pure |
//! | `screen.rs` | the terminal |

mod keys;
mod screen;
mod snapshot;
#[cfg(test)]
mod tests;
mod view;

use crate::error::CliError;
use crate::out::Out;
use crate::{agents, approvals};
use keys::Key;
use nix::unistd::isatty;
use octant_api::agents::{KillRequest, ResumeRequest, ShowRequest, SuspendRequest};
use octant_api::rpc::Request;
use octant_ids::{Aid, Layout};
use screen::{Event, Screen};
use snapshot::{Gatherer, Snapshot};
use std::cell::RefCell;
use std::io::{self, Write};
use std::rc::Rc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;
use view::{Mode, View};

/// How often everything is asked for.
const REFRESH: Duration = Duration::from_secs(1);
/// How long a killed agent has to end, in milliseconds.
const GRACE_MS: u64 = 0;

/// What the terminal asks of those who know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ask {
    Suspend(Aid),
    Resume(Aid),
    Kill(Aid),
    Why(Aid),
    Approvals,
}

/// What they answer.
#[derive(Debug)]
enum Told {
    Now(Box<Snapshot>),
    Remark(String),
    Text(String, Vec<String>),
}

/// The command.
pub(crate) fn run(layout: &Layout, out: &mut Out) -> Result<(), CliError> {
    let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
    let terminal = isatty(io::stdin()).unwrap_or(false) && out.columns.is_some();
    if out.json || dumb || !terminal {
        return once(layout, out);
    }
    out.flush()?;
    let failed = |source| CliError::System { step: "use the terminal", source };
    let mut screen = Screen::open(io::stdin(), io::stdout()).map_err(failed)?;
    watch(layout.clone(), &mut screen).map_err(failed)
}

/// Where nothing can be drawn over: what is known now, once.
fn once(layout: &Layout, out: &mut Out) -> Result<(), CliError> {
    let mut gatherer = Gatherer::new(layout);
    gatherer.look();
    // What a processor did takes two looks.
    thread::sleep(Duration::from_millis(200));
    let snapshot = gatherer.look();
    if out.json {
        return out.json(&snapshot);
    }
    let view = View { once: true, ..View::default() };
    let columns = out.columns.unwrap_or(120);
    let rows = view::height(&snapshot);
    view::lines(&snapshot, &view, columns, rows).iter().try_for_each(|line| out.line(line.text.trim_end()))
}

/// Shows what is known until the operator has seen enough.
fn watch(layout: Layout, screen: &mut Screen) -> io::Result<()> {
    let (asking, asked) = channel();
    let (telling, told) = channel();
    // It may be waiting for a service when the terminal goes, and ends with this process.
    let _ends_by_itself = thread::spawn(move || know(&layout, &asked, &telling));
    let (mut snapshot, mut view) = (Snapshot::default(), View::default());
    loop {
        for told in told.try_iter() {
            match told {
                Told::Now(now) => snapshot = *now,
                Told::Remark(text) => view.remark = text,
                Told::Text(title, lines) => view.mode = Mode::Text { title, lines, from: 0 },
            }
        }
        let (columns, rows) = screen.size();
        view.fit(&snapshot, rows);
        screen.draw(&view::lines(&snapshot, &view, columns, rows))?;
        for event in screen.events()? {
            let Event::Key(key) = event else { return Ok(()) };
            match press(&mut view, &snapshot, key) {
                Pressed::Nothing => {}
                Pressed::Ask(ask) => {
                    // Who knows has ended only with this process.
                    let _asked = asking.send(ask);
                }
                Pressed::Quit => return Ok(()),
            }
        }
    }
}

/// What a key comes to.
#[derive(Debug, PartialEq, Eq)]
enum Pressed {
    Nothing,
    Ask(Ask),
    Quit,
}

fn press(view: &mut View, snapshot: &Snapshot, key: Key) -> Pressed {
    view.remark.clear();
    match (&mut view.mode, key) {
        (_, Key::Interrupt) => return Pressed::Quit,
        (Mode::Sure(aid), Key::Letter('y')) => {
            let aid = *aid;
            view.mode = Mode::Table;
            return Pressed::Ask(Ask::Kill(aid));
        }
        (Mode::Sure(_), _) => {
            view.mode = Mode::Table;
            "not killed".clone_into(&mut view.remark);
        }
        (Mode::Text { from, .. }, Key::Up) => *from = from.saturating_sub(1),
        (Mode::Text { from, lines, .. }, Key::Down) => *from = (*from + 1).min(lines.len().saturating_sub(1)),
        (Mode::Text { .. }, Key::Letter('q') | Key::Escape) => view.mode = Mode::Table,
        (Mode::Text { .. }, _) => {}
        (Mode::Table, Key::Letter('q')) => return Pressed::Quit,
        (Mode::Table, Key::Up) => view.chosen = view.chosen.saturating_sub(1),
        (Mode::Table, Key::Down) => view.chosen += 1,
        (Mode::Table, Key::Letter('a')) => return Pressed::Ask(Ask::Approvals),
        (Mode::Table, Key::Letter(letter)) => return act(view, snapshot, letter),
        (Mode::Table, Key::Escape) => {}
    }
    Pressed::Nothing
}

/// A letter that is about the chosen agent.
fn act(view: &mut View, snapshot: &Snapshot, letter: char) -> Pressed {
    let Some(aid) = snapshot.agents.get(view.chosen).map(|agent| agent.aid) else {
        "there is no agent".clone_into(&mut view.remark);
        return Pressed::Nothing;
    };
    match letter {
        's' => Pressed::Ask(Ask::Suspend(aid)),
        'r' => Pressed::Ask(Ask::Resume(aid)),
        'w' => Pressed::Ask(Ask::Why(aid)),
        'k' => {
            view.mode = Mode::Sure(aid);
            Pressed::Nothing
        }
        _ => Pressed::Nothing,
    }
}

/// Asks the services, once a second and whenever something was asked for.
fn know(layout: &Layout, asked: &Receiver<Ask>, telling: &Sender<Told>) {
    let mut gatherer = Gatherer::new(layout);
    loop {
        let now = Told::Now(Box::new(gatherer.look()));
        if telling.send(now).is_err() {
            return;
        }
        match asked.recv_timeout(REFRESH) {
            Ok(ask) => {
                let told = carry_out(&gatherer, ask);
                let told = told.unwrap_or_else(|error| Told::Remark(error.to_string()));
                if telling.send(told).is_err() {
                    return;
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

fn carry_out(gatherer: &Gatherer, ask: Ask) -> Result<Told, CliError> {
    fn done<R: Request>(gatherer: &Gatherer, request: &R, text: String) -> Result<Told, CliError> {
        gatherer.agents.call(request).map(|_| Told::Remark(text))
    }
    match ask {
        Ask::Suspend(aid) => {
            done(gatherer, &SuspendRequest { agent: aid.to_string() }, format!("{aid} is suspended"))
        }
        Ask::Resume(aid) => {
            done(gatherer, &ResumeRequest { agent: aid.to_string(), for_ms: None }, format!("{aid} goes on"))
        }
        Ask::Kill(aid) => {
            let request = KillRequest { agent: aid.to_string(), grace_ms: GRACE_MS };
            done(gatherer, &request, format!("{aid} is killed"))
        }
        Ask::Why(aid) => {
            let info = gatherer.agents.call(&ShowRequest { agent: aid.to_string() })?;
            let lines = printed(|out| agents::why(&info, &gatherer.ledger, out))?;
            Ok(Told::Text(format!("why: {} {aid}", info.name), lines))
        }
        Ask::Approvals => {
            let mut lines = printed(|out| approvals::list(&gatherer.agents, false, out))?;
            lines.push(String::new());
            lines.push("octant approvals show REQUEST, then allow or deny it with your key".to_owned());
            Ok(Told::Text("approvals that wait".to_owned(), lines))
        }
    }
}

/// What a command would print.
fn printed(command: impl FnOnce(&mut Out) -> Result<(), CliError>) -> Result<Vec<String>, CliError> {
    #[derive(Clone, Default)]
    struct Kept(Rc<RefCell<Vec<u8>>>);
    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.borrow_mut().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let kept = Kept::default();
    let mut out = Out::to(false, None, Box::new(kept.clone()), Box::new(kept.clone()));
    command(&mut out)?;
    drop(out);
    Ok(String::from_utf8_lossy(&kept.0.borrow()).lines().map(str::to_owned).collect())
}
