//! What follows from what happened. Pure: a [`State`] is its entries played in order ([`State::apply`]), and [`State::next`]
//! says what comes next. Whoever acts on it writes the entry down first, so that a loop that was ended anywhere goes on
//! from its transcript.

mod guard;
mod window;

pub use window::NO_SUMMARY;

use crate::entry::{Answer, Call, End, Entry, Piece, Stop, Then, Used};
use crate::picture::Picture;
use crate::shape;
use guard::Guard;
use octant_llm::{Json, Message, Part, Request, Role, ToolChoice};
use serde_json::Value;
use std::collections::{BTreeSet, VecDeque};

/// How often in a row the model is asked again where no whole answer came.
const AGAIN_MAX: u32 = 3;
/// How many answers in a row can be empty.
const EMPTY_MAX: u32 = 3;
/// How many tokens there is room for where nobody says it.
const WINDOW: u64 = 100_000;
/// The most calls of one answer.
pub const CALLS_MAX: usize = 64;

/// What the model is told where nothing else is said.
pub const SYSTEM: &str = "You are an agent in a confined workstation. Work on the task with the tools you have, step by \
    step, until it is done; look at results before you go on. /workspace is yours. What a tool refuses is refused by the \
    operator's manifest: do not try to get around it. When the task is done, answer with the result and call no tool.";

/// Something that the model may call.
#[derive(Debug, Clone, PartialEq)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// What it does, for the model.
    pub about: Option<String>,
    /// JSON Schema of its arguments.
    pub schema: Value,
}

/// What does not change while a loop runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The model.
    pub model: String,
    /// What it is told first.
    pub system: String,
    /// What it may call.
    pub tools: Vec<Tool>,
    /// How often it may be asked.
    pub max_steps: u64,
    /// How long it may take in all, in milliseconds.
    pub max_ms: u64,
    /// The tokens that question and answer have room for together; none: not known.
    pub window: Option<u64>,
    /// The tokens that an answer may have.
    pub max_output: Option<u64>,
    /// How often the same call with the same result ends it.
    pub repeats: usize,
}

/// What comes next.
#[derive(Debug, Clone, PartialEq)]
pub enum Next {
    /// Something to be said by an operator.
    Listen,
    /// The model is asked.
    Ask(Request),
    /// The model is asked for a summary of the messages before this one.
    Summarise {
        /// What it is asked.
        request: Request,
        /// The number of messages.
        upto: usize,
    },
    /// A tool is called.
    Call {
        /// The call.
        call: Call,
        /// Its arguments, which fit the tool's schema.
        arguments: Value,
    },
    /// An operator's answer is waited for, before the call is made.
    Await {
        /// The call.
        id: String,
        /// The request for approval.
        request: String,
    },
    /// This happens, without anybody being asked.
    Note(Entry),
    /// Nothing: it is over.
    End,
}

/// Where a call is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
enum Stands {
    /// Not made yet.
    #[default]
    New,
    /// Made, and its result is not known.
    Begun,
    /// It waits for an operator, and was not carried out.
    Waits(String),
    /// An operator has answered: it is made again.
    Asked,
}

/// Everything that counts of what happened.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// The agent whose loop it was at last.
    agent: String,
    /// The conversation, as the model is shown it.
    messages: Vec<Message>,
    /// The calls of the last answer that have no result yet.
    open: VecDeque<(Call, Stands)>,
    /// Whether the model has something to answer.
    owes: bool,
    /// What it is told before it is asked again, where its answer was none.
    nudge: Option<&'static str>,
    /// The task; empty before it was said.
    task: String,
    /// The number of what was said last to this agent.
    heard: u64,
    more: bool,
    stopped: bool,
    steps: u64,
    calls: u64,
    used: Used,
    again: u32,
    empty: u32,
    guard: Guard,
    /// What was learned of the window, where the model has less than the settings say.
    window: Option<u64>,
    /// How far results were shortened.
    shortened: usize,
    compactions: u64,
    /// What the model said last.
    text: String,
    /// The files that it wrote.
    files: BTreeSet<String>,
    ended: Option<(End, String)>,
}

impl State {
    /// Plays one entry.
    pub fn apply(&mut self, entry: &Entry) {
        match entry {
            Entry::Began { agent, .. } => {
                if *agent != self.agent {
                    (self.agent, self.heard, self.more) = (agent.clone(), 0, false);
                }
            }
            Entry::Said { number, text, more } => self.said(*number, text, *more),
            Entry::Answered(answer) => self.answered(answer),
            Entry::NoAnswer { then: Then::Again, .. } => self.again += 1,
            Entry::NoAnswer { then: Then::Less, .. } => {
                self.again += 1;
                // It is not known how much less; a third is.
                self.window = Some(window::tokens(&self.messages) * 2 / 3);
            }
            Entry::NoAnswer { why, then: Then::End(end) } => self.ended = Some((*end, why.clone())),
            Entry::Calling { id } => self.stand(id, Stands::Begun),
            Entry::Waits { id, request } => self.stand(id, Stands::Waits(request.clone())),
            Entry::Result { id, text, failed, picture } => self.result(id, text, *failed, picture.as_ref()),
            Entry::Told { text } => {
                self.push(Role::User, text_part(text));
                (self.nudge, self.owes) = (None, true);
            }
            Entry::Shortened { upto } => {
                window::shorten(&mut self.messages, *upto);
                self.shortened = *upto;
            }
            Entry::Compacted { upto, summary, usage } => {
                self.used = self.used.and(*usage);
                self.compactions += 1;
                (self.shortened, self.again) = (0, 0);
                window::compact(&mut self.messages, *upto, &self.task, summary);
            }
            Entry::Stopped => {
                self.close("an operator stopped the turn before this call was made");
                (self.owes, self.nudge, self.stopped) = (false, None, true);
                if !self.more {
                    self.ended = Some((End::Stopped, "an operator stopped it".to_owned()));
                }
            }
            Entry::Ended { end, why } => self.ended = Some((*end, why.clone())),
        }
    }

    fn said(&mut self, number: u64, text: &str, more: bool) {
        if self.task.is_empty() {
            text.clone_into(&mut self.task);
        }
        self.close("nobody waited for the result of this call");
        (self.heard, self.more, self.owes, self.ended) = (number, more, true, None);
        (self.again, self.empty, self.nudge, self.stopped) = (0, 0, None, false);
        self.push(Role::User, text_part(text));
    }

    fn answered(&mut self, answer: &Answer) {
        self.steps += 1;
        self.again = 0;
        self.used = self.used.and(answer.usage);
        let (mut parts, mut text) = (Vec::new(), String::new());
        for piece in &answer.pieces {
            if let Piece::Text { text: said } | Piece::Refusal { text: said } = piece {
                text += said;
            }
            if let Piece::Call(call) = piece {
                self.open.push_back((call.clone(), Stands::New));
            }
            parts.push(part_of(piece));
        }
        let nothing = text.trim().is_empty() && self.open.is_empty();
        self.empty = if nothing { self.empty + 1 } else { 0 };
        if !parts.is_empty() {
            self.messages.push(Message { role: Role::Assistant, parts });
        }
        if !text.trim().is_empty() {
            self.text = text;
        }
        (self.owes, self.nudge) = match answer.stop {
            Stop::End | Stop::ToolCalls if nothing => (true, Some(EMPTY)),
            Stop::End | Stop::ToolCalls => (!self.open.is_empty(), None),
            Stop::Length => (true, self.open.is_empty().then_some(CUT)),
            Stop::Paused => (true, None),
            Stop::Refusal => {
                self.close("not called: the answer was a refusal");
                self.ended = Some((End::Refused, "the model will not answer".to_owned()));
                (false, None)
            }
        };
    }

    fn stand(&mut self, id: &str, stands: Stands) {
        if let Some(row) = self.open.iter_mut().find(|row| row.0.id == id) {
            row.1 = stands;
        }
    }

    /// An operator has answered a request: the call can be made again.
    pub fn approved(&mut self, id: &str) {
        self.stand(id, Stands::Asked);
    }

    fn result(&mut self, id: &str, text: &str, failed: bool, picture: Option<&Picture>) {
        let Some(at) = self.open.iter().position(|row| row.0.id == id) else { return };
        let Some((call, _)) = self.open.remove(at) else { return };
        self.calls += 1;
        if !failed && matches!(call.name.as_str(), "file_write" | "file_edit") {
            self.files.extend(path_of(&call));
        }
        let times = self.guard.saw(&call, text);
        let text = guard::with_warning(text, times);
        let mut parts = vec![text_part(&text)];
        parts.extend(picture.map(|picture| Part::Image(picture.mark())));
        self.push(Role::User, Part::ToolResult { id: call.id, parts, failed });
    }

    /// Gives every open call a result, so that the conversation stays one.
    fn close(&mut self, why: &str) {
        while let Some((call, stands)) = self.open.pop_front() {
            let why = if stands == Stands::Begun { INTERRUPTED } else { why };
            let result = Part::ToolResult { id: call.id, parts: vec![text_part(why)], failed: true };
            self.push(Role::User, result);
        }
    }

    /// Adds to the last message where it is the same one's.
    fn push(&mut self, role: Role, part: Part) {
        match self.messages.last_mut() {
            Some(last) if last.role == role => last.parts.push(part),
            _ => self.messages.push(Message { role, parts: vec![part] }),
        }
    }

    /// What comes next, after so many milliseconds in all.
    #[must_use]
    pub fn next(&self, settings: &Settings, spent_ms: u64) -> Next {
        if self.ended.is_some() {
            return Next::End;
        }
        if self.task.is_empty() {
            return Next::Listen;
        }
        let late = spent_ms >= settings.max_ms;
        if let Some((call, stands)) = self.open.front() {
            return self.next_call(settings, call, stands, late);
        }
        if !self.owes {
            let done = || Next::Note(ended(End::Done, "the task is done"));
            return if self.more { Next::Listen } else { done() };
        }
        if late {
            return Next::Note(ended(End::Time, &format!("{} ms are over", settings.max_ms)));
        }
        if self.steps >= settings.max_steps {
            return Next::Note(ended(End::Steps, &format!("the model was asked {} times", self.steps)));
        }
        if self.guard.most() >= settings.repeats {
            let why = format!("the same call had the same result {} times", self.guard.most());
            return Next::Note(ended(End::Stuck, &why));
        }
        if self.empty >= EMPTY_MAX {
            return Next::Note(ended(End::Stuck, &format!("{EMPTY_MAX} answers were empty")));
        }
        if self.again > AGAIN_MAX {
            let why = format!("no whole answer came, {} times in a row", self.again);
            return Next::Note(ended(End::Unavailable, &why));
        }
        match self.nudge {
            Some(text) => Next::Note(Entry::Told { text: text.to_owned() }),
            None => self.next_ask(settings),
        }
    }

    fn next_call(&self, settings: &Settings, call: &Call, stands: &Stands, late: bool) -> Next {
        let result = |text: &str| Next::Note(Entry::words(&call.id, text.to_owned(), true));
        match stands {
            Stands::Begun => result(INTERRUPTED),
            _ if late => result("not called: the time is over"),
            Stands::Waits(request) => Next::Await { id: call.id.clone(), request: request.clone() },
            Stands::New | Stands::Asked => match shape::arguments(&settings.tools, call) {
                Ok(arguments) => Next::Call { call: call.clone(), arguments },
                Err(why) => result(&why),
            },
        }
    }

    fn next_ask(&self, settings: &Settings) -> Next {
        let window = settings.window.unwrap_or(WINDOW);
        let window = self.window.map_or(window, |learned| learned.min(window));
        let fixed = window::fixed(settings);
        // A fifth is for the answer, and for what the estimate is wrong by.
        let room = (window - window / 5).saturating_sub(fixed);
        if window::tokens(&self.messages) > room {
            let upto = window::old(&self.messages);
            if upto > self.shortened && window::can_shorten(&self.messages, upto) {
                return Next::Note(Entry::Shortened { upto });
            }
            if let Some(upto) = window::cut(&self.messages, room / 3) {
                return Next::Summarise { request: self.summary(settings, upto), upto };
            }
            if self.window.is_some() {
                let why = "the task alone is longer than the model's window";
                return Next::Note(ended(End::Invalid, why));
            }
        }
        Next::Ask(self.request(settings, self.messages.clone(), ToolChoice::Auto))
    }

    fn summary(&self, settings: &Settings, upto: usize) -> Request {
        let mut messages = self.messages[..upto].to_vec();
        let ask = text_part(window::SUMMARISE);
        match messages.last_mut() {
            Some(last) if last.role == Role::User => last.parts.push(ask),
            _ => messages.push(Message { role: Role::User, parts: vec![ask] }),
        }
        self.request(settings, messages, ToolChoice::None)
    }

    fn request(&self, settings: &Settings, messages: Vec<Message>, tool_choice: ToolChoice) -> Request {
        let tool = |tool: &Tool| octant_llm::Tool {
            name: tool.name.clone(),
            description: tool.about.clone(),
            schema: Json::from(tool.schema.clone()),
            strict: None,
        };
        Request {
            model: settings.model.clone(),
            system: vec![text_part(&settings.system)],
            messages,
            tools: settings.tools.iter().map(tool).collect(),
            tool_choice,
            max_output: settings.max_output,
            stream: true,
            stream_usage: true,
            ..Request::default()
        }
    }

    /// The number of what was said last.
    #[must_use]
    pub fn heard(&self) -> u64 {
        self.heard
    }

    /// Whether something can be said to the model now, without coming between a call and its result.
    #[must_use]
    pub fn hears(&self) -> bool {
        self.open.is_empty()
    }

    /// How it ended, and why; none while it goes on.
    #[must_use]
    pub fn end(&self) -> Option<(End, &str)> {
        self.ended.as_ref().map(|(end, why)| (*end, why.as_str()))
    }

    /// Whether there is a task.
    #[must_use]
    pub fn begun(&self) -> bool {
        !self.task.is_empty()
    }

    /// Whether the turn was stopped.
    #[must_use]
    pub fn stopped(&self) -> bool {
        self.stopped
    }

    /// How often in a row no whole answer came.
    #[must_use]
    pub fn again(&self) -> u32 {
        self.again
    }

    /// What the model said last.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// How often the model was asked, how often a tool was called, and what all of it used.
    #[must_use]
    pub fn counts(&self) -> (u64, u64, Used) {
        (self.steps, self.calls, self.used)
    }

    /// The files that it wrote with the tools for that.
    #[must_use]
    pub fn files(&self) -> &BTreeSet<String> {
        &self.files
    }

    /// How often the conversation was compacted.
    #[must_use]
    pub fn compactions(&self) -> u64 {
        self.compactions
    }

    /// The conversation, as the model is shown it.
    #[must_use]
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }
}

/// What the model is told of a call of which nobody knows whether it was carried out.
const INTERRUPTED: &str = "interrupted: this call was begun and its result is not known; it may have been carried out, wholly \
    or in part. Look before you make it again.";

/// What it is told of an answer that was cut at its greatest length, and of one without anything in it.
const CUT: &str = "Your answer was cut at its greatest length. Go on from there, with less at a time.";
const EMPTY: &str = "Your answer was empty. Call a tool, or answer with the result if the task is done.";

fn path_of(call: &Call) -> Option<String> {
    let arguments: Value = serde_json::from_str(&call.arguments).ok()?;
    arguments["path"].as_str().map(str::to_owned)
}

fn ended(end: End, why: &str) -> Entry {
    Entry::Ended { end, why: why.to_owned() }
}

fn text_part(text: &str) -> Part {
    Part::Text(text.to_owned())
}

fn part_of(piece: &Piece) -> Part {
    match piece.clone() {
        Piece::Text { text } => Part::Text(text),
        Piece::Reasoning { id, text, signature } => Part::Reasoning { id, text, signature },
        Piece::Sealed { id, data } => Part::Sealed { id, data },
        Piece::Refusal { text } => Part::Refusal(text),
        Piece::Call(Call { id, name, arguments }) => Part::ToolCall { id, name, arguments },
    }
}

#[cfg(test)]
mod tests;
