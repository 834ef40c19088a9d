//! `octant acp`: an editor drives agents over the Agent Client Protocol, version 1, on standard input and output.
//!
//! A session is an agent of the manifest whose program is the agent loop: what the editor's user says goes to it as words, what
//! it shows comes back as updates. The agent works in its workstation, and the editor's files are not there: of the editor
//! nothing is asked but permission.

mod message;
mod turn;

use crate::agents::{Lines, envelope};
use crate::approvals;
use crate::error::CliError;
use crate::out::{Out, revealed};
use crate::service::Service;
use message::{Asked, Line, REFUSED, WRONG, answer, failure, notification, read, request};
use octant_api::agents::{
    AgentInfo, Approval, ApprovalRequest, ApprovalState, KillRequest, LogsRequest, Output, SayRequest,
    ShowRequest, SpawnRequest, Task,
};
use octant_ids::Layout;
use octant_loop::Shown;
use octant_manifest::Decision;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use turn::{Turn, update};

/// The version of the protocol.
const VERSION: u64 = 1;
/// The longest line from the editor, in bytes.
const LINE_MAX: u64 = 8 << 20;
/// How many sessions there are at once.
const SESSIONS_MAX: usize = 16;
/// How long an agent has to end when the editor goes away, in milliseconds.
const GRACE_MS: u64 = 2_000;

/// What happens.
enum Event {
    /// A line of the editor's; none at its end.
    Line(Option<Vec<u8>>),
    /// Something that an agent shows.
    Shown(String, Shown),
    /// Its output has ended.
    Gone(String),
}

/// A conversation with one agent.
#[derive(Debug, Default)]
struct Session {
    /// The prompt that waits for the end of its turn: the id of its request.
    prompt: Option<Value>,
    /// Whether this command spawned it, and ends it.
    own: bool,
    turn: Turn,
}

struct Server<'a> {
    layout: &'a Layout,
    service: Service,
    manifest: &'a Path,
    key: Option<&'a Path>,
    sessions: BTreeMap<String, Session>,
    /// Permissions that the editor's user was asked for: the number of the request, the session and the approval.
    asked: BTreeMap<u64, (String, String)>,
    next: u64,
    events: Sender<Event>,
    out: &'a mut Out,
}

/// The command.
pub(crate) fn run(
    manifest: &Path,
    key: Option<&Path>,
    layout: &Layout,
    out: &mut Out,
) -> Result<(), CliError> {
    // It is said before an editor waits for an answer.
    envelope(manifest)?;
    let (events, happened) = channel();
    let told = events.clone();
    thread::spawn(move || lines(BufReader::new(io::stdin()), &told));
    let mut server = Server {
        service: Service::of(layout, "agents"),
        layout,
        manifest,
        key,
        sessions: BTreeMap::new(),
        asked: BTreeMap::new(),
        next: 1,
        events,
        out,
    };
    let done = server.serve(&happened);
    server.end();
    done
}

/// Standard input, a line at a time.
fn lines(mut input: impl BufRead, told: &Sender<Event>) {
    loop {
        let mut line = Vec::new();
        let got = input.by_ref().take(LINE_MAX).read_until(b'\n', &mut line);
        let more = matches!(got, Ok(got) if got > 0);
        if told.send(Event::Line(more.then_some(line))).is_err() || !more {
            return;
        }
    }
}

/// What an agent shows, from its beginning.
fn watch(service: &Service, session: &str, told: &Sender<Event>) {
    let request = LogsRequest { agent: session.to_owned(), output: Some(Output::Stdout), follow: true };
    let mut lines = Lines::default();
    let gone = |_| CliError::NotFound("editor".to_owned());
    let ended = service.stream(&request, |chunk| {
        lines.add(&chunk.data.0).into_iter().try_for_each(|line| {
            // What no loop wrote is shown as it is.
            let shown = line
                .unwrap_or_else(|bytes| Shown::Text { text: String::from_utf8_lossy(&bytes).into_owned() });
            told.send(Event::Shown(session.to_owned(), shown)).map_err(gone)
        })
    });
    drop(ended);
    // Where nobody listens any more nobody needs to be told.
    let _ = told.send(Event::Gone(session.to_owned()));
}

impl Server<'_> {
    fn serve(&mut self, happened: &Receiver<Event>) -> Result<(), CliError> {
        // The channel does not end before this: one end of it is kept here.
        while let Ok(event) = happened.recv() {
            match event {
                Event::Line(None) => return Ok(()),
                Event::Line(Some(line)) => self.line(&line)?,
                Event::Shown(session, shown) => self.shown(&session, shown)?,
                Event::Gone(session) => self.gone(&session)?,
            }
        }
        Ok(())
    }

    fn send(&mut self, line: &Value) -> Result<(), CliError> {
        self.out.raw(format!("{line}\n").as_bytes())
    }

    fn line(&mut self, line: &[u8]) -> Result<(), CliError> {
        match read(line) {
            Ok(Line::Request { id, asked }) => {
                let done = self.request(&id, &asked);
                match done {
                    Ok(Some(result)) => self.send(&answer(&id, &result)),
                    // Its turn answers it.
                    Ok(None) => Ok(()),
                    Err((code, why)) => self.send(&failure(&id, code, &why)),
                }
            }
            Ok(Line::Cancel { session }) => self.cancel(&session),
            Ok(Line::Answer { id, result }) => self.permitted(id, &result),
            Ok(Line::Nothing) => Ok(()),
            Err((id, code, why)) => self.send(&failure(&id, code, &why)),
        }
    }

    fn request(&mut self, id: &Value, asked: &Asked) -> Result<Option<Value>, (i64, String)> {
        match asked {
            Asked::Initialize => Ok(Some(json!({
                "protocolVersion": VERSION,
                "agentCapabilities": {
                    "loadSession": true,
                    "promptCapabilities": { "image": false, "audio": false, "embeddedContext": true },
                    "mcpCapabilities": { "http": false, "sse": false },
                },
                "agentInfo": { "name": "octant", "title": "Octant", "version": env!("CARGO_PKG_VERSION") },
                "authMethods": [],
            }))),
            Asked::Authenticate => Ok(Some(json!({}))),
            Asked::New => self.begin().map(Some),
            Asked::Load { session } => self.load(session).map(Some),
            Asked::Prompt { session, text } => self.prompt(id, session, text).map(|()| None),
        }
    }

    fn room(&self) -> Result<(), (i64, String)> {
        let full = self.sessions.len() >= SESSIONS_MAX;
        if full { Err((REFUSED, format!("there are {SESSIONS_MAX} sessions"))) } else { Ok(()) }
    }

    fn begin(&mut self) -> Result<Value, (i64, String)> {
        self.room()?;
        let envelope = envelope(self.manifest).map_err(refused)?;
        let task = Some(Task { text: None, more: true });
        let info = self.service.call(&SpawnRequest { envelope, task }).map_err(refused)?;
        Ok(json!({ "sessionId": self.follow(&info, true) }))
    }

    fn load(&mut self, session: &str) -> Result<Value, (i64, String)> {
        self.room()?;
        let info = self.service.call(&ShowRequest { agent: session.to_owned() }).map_err(refused)?;
        if info.aid.to_string() != session || self.sessions.contains_key(session) {
            return Err((WRONG, format!("{session} is no agent's identifier, or loaded already")));
        }
        self.follow(&info, false);
        Ok(Value::Null)
    }

    fn follow(&mut self, info: &AgentInfo, own: bool) -> String {
        let session = info.aid.to_string();
        self.sessions.insert(session.clone(), Session { own, ..Session::default() });
        let (service, events, of) =
            (Service::of(self.layout, "agents"), self.events.clone(), session.clone());
        thread::spawn(move || watch(&service, &of, &events));
        session
    }

    fn prompt(&mut self, id: &Value, session: &str, text: &str) -> Result<(), (i64, String)> {
        let Some(known) = self.sessions.get_mut(session) else {
            return Err((WRONG, format!("there is no session {session}")));
        };
        if known.prompt.is_some() {
            return Err((REFUSED, "the turn before is not over".to_owned()));
        }
        let request = SayRequest { agent: session.to_owned(), text: Some(text.to_owned()), stop: false };
        let said = self.service.call(&request).map_err(refused)?;
        known.prompt = Some(id.clone());
        known.turn.begin(said.number);
        Ok(())
    }

    fn cancel(&mut self, session: &str) -> Result<(), CliError> {
        if self.sessions.get(session).is_none_or(|known| known.prompt.is_none()) {
            return Ok(());
        }
        let request = SayRequest { agent: session.to_owned(), text: None, stop: true };
        // One that has ended is stopped, and its turn says so.
        if let Err(error) = self.service.call(&request) {
            self.out.note(&error.to_string());
        }
        Ok(())
    }

    fn shown(&mut self, session: &str, shown: Shown) -> Result<(), CliError> {
        let Some(known) = self.sessions.get_mut(session) else { return Ok(()) };
        let over = known.turn.shown(&shown);
        if let Some(update) = update(&shown) {
            let params = json!({ "sessionId": session, "update": update });
            self.send(&notification("session/update", &params))?;
        }
        if let Shown::Waits { id, request } = &shown {
            self.ask_permission(session, id, request)?;
        }
        match over {
            Some(reason) => self.over(session, Ok(reason)),
            None => Ok(()),
        }
    }

    /// Answers the prompt whose turn is over.
    fn over(&mut self, session: &str, how: Result<&str, &str>) -> Result<(), CliError> {
        let prompt = self.sessions.get_mut(session).and_then(|known| known.prompt.take());
        let Some(id) = prompt else { return Ok(()) };
        match how {
            Ok(reason) => self.send(&answer(&id, &json!({ "stopReason": reason }))),
            Err(why) => self.send(&failure(&id, REFUSED, why)),
        }
    }

    fn gone(&mut self, session: &str) -> Result<(), CliError> {
        self.over(session, Err("the agent has ended; `octant agent show` says how"))?;
        self.sessions.remove(session);
        Ok(())
    }

    /// Asks the editor's user, where an answer can be signed; an operator is asked in any case.
    fn ask_permission(&mut self, session: &str, call: &str, approval: &str) -> Result<(), CliError> {
        if self.key.is_none() {
            return Ok(());
        }
        let asked = match self.service.call(&ApprovalRequest { id: approval.to_owned() }) {
            Ok(asked) => asked,
            Err(error) => {
                self.out.note(&error.to_string());
                return Ok(());
            }
        };
        // An agent's output is the agent's: it can name a request of another one, or the same again and again.
        if !is_of(&asked, session) || self.asked.values().any(|(_, known)| known == approval) {
            self.out.note(&format!(
                "{session} names a request for approval that is not its own to show: not asked"
            ));
            return Ok(());
        }
        let (number, what) = (self.next, asked.what.as_ref().map_or("", |what| what.text()));
        // What it would do comes first; that is a part of what is signed, which follows whole.
        let params = serde_json::from_str::<Value>(what).unwrap_or_default()["params"].take();
        self.next += 1;
        self.asked.insert(number, (session.to_owned(), approval.to_owned()));
        let shown = format!(
            "{}\n{}\n\nexactly this:\n{}",
            asked.action,
            revealed(&params.to_string()),
            revealed(what)
        );
        let params = json!({
            "sessionId": session,
            "toolCall": {
                "toolCallId": call,
                "title": asked.action,
                "content": [{ "type": "content", "content": { "type": "text", "text": shown } }],
            },
            "options": [
                { "optionId": "allow", "name": "Allow this once", "kind": "allow_once" },
                { "optionId": "deny", "name": "Deny", "kind": "reject_once" },
            ],
        });
        self.send(&request(number, "session/request_permission", &params))
    }

    fn permitted(&mut self, id: u64, result: &Value) -> Result<(), CliError> {
        let (Some((_, approval)), Some(key)) = (self.asked.remove(&id), self.key) else { return Ok(()) };
        let decision = match result["outcome"]["optionId"].as_str() {
            Some("allow") => Decision::Allow,
            Some("deny") => Decision::Deny,
            // It was taken back with its turn: nobody has decided.
            _ => return Ok(()),
        };
        if let Err(error) = approvals::answer(&self.service, &approval, decision, key) {
            self.out.note(&error.to_string());
        }
        Ok(())
    }

    /// Ends the agents that were spawned for the editor.
    fn end(&mut self) {
        for (agent, _) in std::mem::take(&mut self.sessions).into_iter().filter(|row| row.1.own) {
            if let Err(error) = self.service.call(&KillRequest { agent, grace_ms: GRACE_MS }) {
                self.out.note(&error.to_string());
            }
        }
    }
}

/// Whether a request for approval is this agent's, and waits.
fn is_of(asked: &Approval, session: &str) -> bool {
    let its = asked.agent.is_some_and(|agent| agent.to_string() == session);
    its && asked.state == ApprovalState::Waiting
}

fn refused(error: CliError) -> (i64, String) {
    let next = error.next().map_or_else(String::new, |next| format!("; {next}"));
    (REFUSED, format!("{error}{next}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_asked_for_what_another_agent_wants() {
        let own = octant_ids::Aid::from_bytes([1; 16]);
        let asked = |agent: Option<octant_ids::Aid>, state: ApprovalState| -> Approval {
            let mut asked: Approval = serde_json::from_value(json!({
                "id": "0123456789abcdef", "action": "spawn", "subject": "a", "role": "developer", "asked_by": "a",
                "digest": "00".repeat(32), "asked_ms": 1, "expires_ms": 2, "state": "waiting", "why": "",
            }))
            .unwrap();
            (asked.agent, asked.state) = (agent, state);
            asked
        };
        let other = octant_ids::Aid::from_bytes([2; 16]);
        assert!(is_of(&asked(Some(own), ApprovalState::Waiting), &own.to_string()));
        for (agent, state) in [
            (Some(other), ApprovalState::Waiting),
            (None, ApprovalState::Waiting),
            (Some(own), ApprovalState::Allowed),
        ] {
            assert!(!is_of(&asked(agent, state), &own.to_string()), "{agent:?} {state:?}");
        }
    }
}
