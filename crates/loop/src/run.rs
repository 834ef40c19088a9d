//! Acts on what [`crate::core`] says comes next.

mod ears;
mod notes;
mod spent;

use crate::core::{NO_SUMMARY, Next, Settings, State};
use crate::entry::{Call, End, Entry, Piece, Then, Used, VERSION};
use crate::error::LoopError;
use crate::model::{Endpoint, Model};
use crate::picture;
use crate::show::{Form, Show, Shown};
use crate::socket::{Came, Socket};
use crate::text::digest;
use crate::tools::{Tools, equip};
use crate::transcript::{DIRECTORY, Line, Transcript};
use ears::Ears;
use notes::Notes;
use octant_api::agent::Word;
use octant_api::agents::ApprovalState;
use octant_llm::{Delta, Event, Failure, Kind, Request};
use octant_sys::clock;
use octant_wire::WireError;
use serde_json::{Value, json};
use spent::Spent;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

/// How long an operator's answer is waited for at a time, in milliseconds.
const APPROVAL_MS: u64 = 2_000;
/// How long it waits before the model is asked again, twice that at first, and at most, in milliseconds.
const BACK_OFF_MS: u64 = 250;
const BACK_OFF_MAX_MS: u64 = 60_000;
/// What is looked for while it waits.
const LOOK: Duration = Duration::from_millis(100);

/// What a loop begins with.
#[derive(Debug, Clone)]
pub struct Places {
    /// The workspace.
    pub workspace: PathBuf,
    /// The agent's socket; none outside of a workstation.
    pub socket: Option<PathBuf>,
    /// Where the model is.
    pub model: Endpoint,
    /// The key for it: a placeholder inside a workstation.
    pub key: Option<String>,
    /// The task, where nobody says one through the socket.
    pub task: Option<String>,
    /// The tools that are wanted, each a name or the beginning of one (`file_*`); none: all.
    pub tools: Vec<String>,
    /// In which form it is shown; none: lines where more may be said, else text.
    pub form: Option<Form>,
}

/// Runs a loop to its end, from where its transcript ends.
///
/// # Errors
/// What keeps it from beginning, or from going on. It goes on from its transcript then.
pub fn run(mut settings: Settings, places: &Places, out: &mut dyn Write) -> Result<End, LoopError> {
    let mut socket = places.socket.as_deref().map(Socket::new);
    let agent = socket.as_mut().map(Socket::who).transpose()?.map(|info| info.aid.to_string());
    let model = Model::new(places.model.clone(), places.key.clone())?;
    // Who does not say what it knows of a model is asked all the same.
    let known = model.known().unwrap_or_default();
    let facts = known.get(&settings.model).copied().unwrap_or_default();
    // What the manifest says is the most; it may know less of the model than who asks it.
    settings.window = settings.window.into_iter().chain(facts.window).min();
    let tools = Tools::new(&places.workspace, socket.as_mut(), &places.tools, facts.sees)?;
    equip(&mut settings, &tools);
    let (mut state, mut spent_ms, mut entries) = (State::default(), 0, 0_u64);
    let transcript = Transcript::open(&places.workspace, |line| {
        spent_ms = line.spent_ms;
        entries += 1;
        state.apply(&line.entry);
    })?;
    let mut begun = Loop {
        show: Show::new(places.form.unwrap_or(Form::Text), out),
        state,
        transcript,
        tools,
        model,
        ears: None,
        notes: Notes::default(),
        spent: Spent::start(spent_ms),
        socket,
        settings,
        places,
        idle: false,
    };
    let (version, model) = (VERSION, begun.settings.model.clone());
    let agent = agent.unwrap_or_default();
    begun.record(Entry::Began { version, agent, model: model.clone() })?;
    if let Some(socket) = &mut begun.socket {
        let ears = Ears::open(socket, begun.state.heard())?;
        if places.form.is_none() && ears.more() {
            begun.show.form = Form::Lines;
        }
        begun.ears = Some(ears);
    }
    begun.show.show(Shown::Began { model, again: entries > 0 })?;
    begun.go()
}

struct Loop<'a> {
    settings: Settings,
    places: &'a Places,
    state: State,
    transcript: Transcript,
    tools: Tools,
    model: Model,
    socket: Option<Socket>,
    ears: Option<Ears>,
    notes: Notes,
    spent: Spent,
    show: Show<'a>,
    /// Whether it was shown that it waits for what is said next.
    idle: bool,
}

impl Loop<'_> {
    /// Writes down what happened, and lets it count.
    fn record(&mut self, entry: Entry) -> Result<(), LoopError> {
        let line = Line { spent_ms: self.spent.ms(), at_ms: clock::wall_ms(), entry };
        self.transcript.append(&line)?;
        self.state.apply(&line.entry);
        Ok(())
    }

    fn go(&mut self) -> Result<End, LoopError> {
        loop {
            self.listen()?;
            self.look_at_tools()?;
            match self.state.next(&self.settings, self.spent.ms()) {
                Next::Listen => {
                    if !std::mem::replace(&mut self.idle, true) {
                        self.turn_over()?;
                    }
                    let Some(ears) = &mut self.ears else { return Err(LoopError::NoTask) };
                    ears.wait();
                }
                Next::Ask(request) => self.ask(request)?,
                Next::Summarise { request, upto } => self.summarise(request, upto)?,
                Next::Call { call, arguments } => self.call(&call, &arguments)?,
                Next::Await { id, request } => self.await_answer(id, &request)?,
                Next::Note(entry) => self.note(entry)?,
                Next::End => return self.finish(),
            }
        }
    }

    /// Takes what the socket offers by now, before a question that names it.
    fn look_at_tools(&mut self) -> Result<(), LoopError> {
        let Some(socket) = self.socket.as_mut().filter(|_| self.state.hears()) else { return Ok(()) };
        if !self.tools.look_again(socket) {
            return Ok(());
        }
        equip(&mut self.settings, &self.tools);
        self.show.show(Shown::Note { text: format!("there are other tools now: {:?}", self.tools) })
    }

    /// Takes what was said meanwhile.
    fn listen(&mut self) -> Result<(), LoopError> {
        self.ears.as_mut().map(Ears::take);
        if let Some(at) = self.ears.as_mut().and_then(Ears::stopped_at) {
            // What was said before the stop is heard, so that it is not done after it.
            while let Some((word, more)) = self.ears.as_mut().and_then(|ears| ears.word(at)) {
                self.hear(word, more)?;
            }
            self.idle = false;
            self.record(Entry::Stopped)?;
        }
        while self.state.hears()
            && let Some((word, more)) = self.ears.as_mut().and_then(|ears| ears.word(u64::MAX))
        {
            self.hear(word, more)?;
        }
        if !self.state.begun() {
            let more = self.ears.as_ref().is_some_and(Ears::more);
            match &self.places.task {
                Some(text) => self.record(Entry::Said { number: 0, text: text.clone(), more })?,
                None if more => {}
                None => return Err(LoopError::NoTask),
            }
        }
        Ok(())
    }

    fn hear(&mut self, word: Word, more: bool) -> Result<(), LoopError> {
        self.idle = false;
        self.record(Entry::Said { number: word.number, text: word.text.clone(), more })?;
        self.show.show(Shown::Said { text: word.text })
    }

    fn turn_over(&mut self) -> Result<(), LoopError> {
        self.notes.send(self.socket.as_mut());
        if self.state.begun() {
            let stopped = self.state.stopped();
            self.show.show(Shown::Turn { stopped })?;
        }
        Ok(())
    }

    fn ask(&mut self, mut request: Request) -> Result<(), LoopError> {
        picture::show(&mut request);
        let late = self.late();
        let (mut shown, show, ears) = (Ok(()), &mut self.show, &self.ears);
        let stop = || ears.as_ref().is_some_and(Ears::stops) || late.is_over();
        let answer = self.model.ask(&request, &stop, &mut |event| {
            let text = match event {
                Event::Delta { delta: Delta::Text(text) | Delta::Refusal(text), .. } => {
                    Shown::Text { text: text.clone() }
                }
                Event::Delta { delta: Delta::Reasoning(text), .. } => Shown::Thought { text: text.clone() },
                _ => return,
            };
            if shown.is_ok() {
                shown = show.show(text);
            }
        });
        shown?;
        match answer {
            Ok(answer) => self.record(Entry::Answered(answer)),
            Err(failure) => self.no_answer(failure),
        }
    }

    fn no_answer(&mut self, failure: Failure) -> Result<(), LoopError> {
        let then = match failure.kind {
            // What stopped it says what follows.
            Kind::Cancelled => return Ok(()),
            Kind::ContextLength => Then::Less,
            Kind::Spent => Then::End(End::Budget),
            Kind::Invalid
            | Kind::Untranslatable
            | Kind::Unauthenticated
            | Kind::Forbidden
            | Kind::NotFound
            | Kind::TooLarge => Then::End(End::Invalid),
            Kind::RateLimited
            | Kind::Upstream
            | Kind::Overloaded
            | Kind::Unreachable
            | Kind::Timeout
            | Kind::Cut
            | Kind::Malformed => Then::Again,
        };
        let why = failure.message;
        // The end says why by itself.
        if !matches!(then, Then::End(_)) {
            self.show.show(Shown::Note { text: format!("no whole answer: {why}") })?;
        }
        self.record(Entry::NoAnswer { why, then })?;
        if then == Then::Again {
            let ms = failure.retry_after_ms.unwrap_or(BACK_OFF_MS << self.state.again().min(7));
            self.rest(ms.min(BACK_OFF_MAX_MS));
        }
        Ok(())
    }

    /// Waits, until it is stopped or its time is over.
    fn rest(&self, ms: u64) {
        let end = clock::monotonic_ns().saturating_add(ms * 1_000_000);
        let late = self.late();
        while clock::monotonic_ns() < end && !late.is_over() && !self.stops() {
            sleep(LOOK);
        }
    }

    fn stops(&self) -> bool {
        self.ears.as_ref().is_some_and(Ears::stops)
    }

    fn late(&self) -> spent::Late {
        self.spent.late(self.settings.max_ms)
    }

    fn summarise(&mut self, mut request: Request, upto: usize) -> Result<(), LoopError> {
        picture::show(&mut request);
        self.show.show(Shown::Note { text: "the conversation is long, a summary takes its place".into() })?;
        let late = self.late();
        let ears = &self.ears;
        let stop = || ears.as_ref().is_some_and(Ears::stops) || late.is_over();
        let (text, usage) = match self.model.ask(&request, &stop, &mut |_| ()) {
            Ok(answer) => {
                let text: String = answer.pieces.iter().filter_map(said).collect();
                (text, answer.usage)
            }
            Err(failure) if matches!(failure.kind, Kind::ContextLength | Kind::TooLarge) => {
                (String::new(), Used::default())
            }
            Err(failure) => return self.no_answer(failure),
        };
        let summary = if text.trim().is_empty() { NO_SUMMARY.to_owned() } else { text };
        self.notes.add(format!("compacted {upto} messages, summary {}", digest(&summary)));
        self.record(Entry::Compacted { upto, summary, usage })
    }

    fn call(&mut self, call: &Call, arguments: &Value) -> Result<(), LoopError> {
        self.record(Entry::Calling { id: call.id.clone() })?;
        let (id, name) = (call.id.clone(), call.name.clone());
        self.show.show(Shown::Call { id, name, arguments: call.arguments.clone() })?;
        let ears = &self.ears;
        let stop = || ears.as_ref().is_some_and(Ears::stops);
        let end_ns = self.late().end_ns();
        let came = self.tools.call(&call.name, arguments, self.socket.as_mut(), end_ns, &stop);
        if let Some(request) = came.waits {
            self.record(Entry::Waits { id: call.id.clone(), request: request.clone() })?;
            return self.show.show(Shown::Waits { id: call.id.clone(), request });
        }
        let how = if came.failed { "failed" } else { "ok" };
        let (of, from) = (digest(&call.arguments), digest(&came.text));
        let (step, bytes) = (self.state.counts().0, came.text.len());
        self.notes.add(format!("step {step}: {} {of} {how}, {bytes} bytes {from}", call.name));
        self.notes.send(self.socket.as_mut());
        let Came { text, failed, picture, .. } = came;
        self.note(Entry::Result { id: call.id.clone(), text, failed, picture })
    }

    fn await_answer(&mut self, id: String, request: &str) -> Result<(), LoopError> {
        let late = self.late();
        while !self.stops() && !late.is_over() {
            let Some(socket) = &mut self.socket else { break };
            let info = match socket.approval(request, APPROVAL_MS) {
                Ok(info) => info,
                Err(error @ LoopError::Socket { source: WireError::Api(_), .. }) => {
                    let text = format!("not called: whether it is approved cannot be asked: {error}");
                    return self.note(Entry::words(&id, text, true));
                }
                // The service starts anew. The request outlives that.
                Err(_) => {
                    self.rest(APPROVAL_MS);
                    continue;
                }
            };
            match info.state {
                ApprovalState::Waiting => {}
                ApprovalState::Allowed => {
                    self.state.approved(&id);
                    return Ok(());
                }
                _ => {
                    let why = if info.why.is_empty() { "no reason given" } else { &info.why };
                    let text = format!("not called: an operator did not approve {} ({why})", info.action);
                    return self.note(Entry::words(&id, text, true));
                }
            }
        }
        Ok(())
    }

    /// Writes down what needs nobody, and shows it.
    fn note(&mut self, entry: Entry) -> Result<(), LoopError> {
        match &entry {
            Entry::Result { id, text, failed, .. } => {
                self.show.show(Shown::Result { id: id.clone(), text: text.clone(), failed: *failed })?;
            }
            Entry::Shortened { .. } => {
                self.show.show(Shown::Note { text: "old results are shortened".into() })?
            }
            Entry::Told { text } => self.show.show(Shown::Note { text: text.clone() })?,
            _ => {}
        }
        self.record(entry)
    }

    /// Leaves the result, and says how it ended.
    fn finish(&mut self) -> Result<End, LoopError> {
        let (end, why) = self.state.end().map_or((End::Done, ""), |found| found);
        let (why, (steps, calls, used)) = (why.to_owned(), self.state.counts());
        let result = json!({
            "end": end.name(),
            "why": why,
            "text": self.state.text(),
            "steps": steps,
            "calls": calls,
            "tokens": { "input": used.input, "output": used.output },
            "compactions": self.state.compactions(),
            "files": self.state.files(),
        });
        let place = self.places.workspace.join(DIRECTORY);
        replace(&place, "result.json", &format!("{result}\n"))?;
        replace(&place, "result.txt", self.state.text())?;
        self.notes.add(format!(
            "ended, {}: {steps} steps, {calls} calls, {} and {} tokens, result {}",
            end.name(),
            used.input,
            used.output,
            digest(self.state.text())
        ));
        self.notes.send_all(self.socket.as_mut());
        self.show.show(Shown::Ended { end: end.name().to_owned(), why })?;
        Ok(end)
    }
}

fn said(piece: &Piece) -> Option<&str> {
    match piece {
        Piece::Text { text } => Some(text),
        _ => None,
    }
}

/// Writes a file at once, or not at all.
fn replace(directory: &Path, name: &str, text: &str) -> Result<(), LoopError> {
    let (path, beside) = (directory.join(name), directory.join(format!("{name}.new")));
    let write = || {
        let mut file = File::create(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, &path)
    };
    write().map_err(|source| LoopError::Keep { step: "write", path: path.clone(), source })
}
