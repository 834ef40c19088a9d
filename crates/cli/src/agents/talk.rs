//! `octant agent say`, `attach` and `loop`: what is said to agents, and what is heard of them.

use super::{how, verdict};
use crate::args::{Loop, Words};
use crate::error::CliError;
use crate::manifest;
use crate::out::Out;
use crate::service::Service;
use octant_api::agents::{LogsRequest, Output, SayRequest, ShowRequest, Task, WORD_MAX, WaitRequest};
use octant_ids::{Exit, Layout};
use octant_loop::core::{SYSTEM, Settings};
use octant_loop::entry::End;
use octant_loop::model::Endpoint;
use octant_loop::{Form, Places, Shown, Text};
use std::io::{self, Write};
use std::path::Path;

/// The longest line of a loop, in bytes. What is longer is no line of one.
const LINE_MAX: usize = 1 << 20;

/// What is said at a spawn.
pub(super) fn task(words: &Words) -> Result<Option<Task>, CliError> {
    let text = text(words.task.as_deref(), words.task_file.as_deref(), "task")?;
    Ok((text.is_some() || words.more).then_some(Task { text, more: words.more }))
}

fn text(given: Option<&str>, file: Option<&Path>, kind: &'static str) -> Result<Option<String>, CliError> {
    match (given, file) {
        (Some(text), _) => Ok(Some(text.to_owned())),
        (None, Some(file)) => manifest::text(manifest::read(file, kind, WORD_MAX)?, file, kind).map(Some),
        (None, None) => Ok(None),
    }
}

/// `octant agent say`
pub(super) fn say(
    service: &Service,
    agent: String,
    text: Option<&str>,
    stop: bool,
    out: &mut Out,
) -> Result<(), CliError> {
    let said = service.call(&SayRequest { agent, text: text.map(str::to_owned), stop })?;
    if out.json { out.json(&said) } else { Ok(()) }
}

/// The lines of a loop out of bytes that come in pieces; what is none comes as it is.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    left: Vec<u8>,
}

impl Lines {
    pub(crate) fn add(&mut self, bytes: &[u8]) -> Vec<Result<Shown, Vec<u8>>> {
        self.left.extend_from_slice(bytes);
        let mut lines = Vec::new();
        while let Some(at) = self.left.iter().position(|byte| *byte == b'\n') {
            let rest = self.left.split_off(at + 1);
            let line = std::mem::replace(&mut self.left, rest);
            lines.push(serde_json::from_slice(&line).map_err(|_| line));
        }
        // A program that is no loop need not write lines; what begins as one of a loop does is waited for.
        if self.left.first().is_some_and(|byte| *byte != b'{') || self.left.len() > LINE_MAX {
            lines.push(Err(std::mem::take(&mut self.left)));
        }
        lines
    }
}

/// `octant agent attach`
pub(super) fn attach(service: &Service, agent: String, out: &mut Out) -> Result<(), CliError> {
    let request = LogsRequest { agent: agent.clone(), output: None, follow: true };
    let (mut lines, mut as_text) = (Lines::default(), Text::default());
    let end = service.stream(&request, |chunk| {
        if out.json {
            return out.json(&chunk);
        }
        if chunk.stream == Output::Stderr {
            out.foreign_error(&chunk.data.0);
            return Ok(());
        }
        lines.add(&chunk.data.0).into_iter().try_for_each(|line| match line {
            Ok(shown) => out.raw(as_text.of(&shown).as_bytes()),
            Err(bytes) => out.foreign(&bytes),
        })
    })?;
    out.foreign(&lines.left)?;
    if end.lost_bytes > 0 {
        out.note(&format!("{} bytes that it wrote first are not kept any more", end.lost_bytes));
    }
    let info = service.call(&ShowRequest { agent: agent.clone() })?;
    // Its output can end before it does.
    let info = if info.state.ended() { info } else { service.call(&WaitRequest { agent })? };
    verdict(&info)?;
    out.note(&format!("{} {}", info.aid, how(&info)));
    Ok(())
}

/// Standard output, for a loop.
struct Sink<'a>(&'a mut Out);

impl Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.raw(bytes).map(|()| bytes.len()).map_err(io::Error::other)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().map_err(io::Error::other)
    }
}

/// What a model says is done with every right of this process. In every workstation none can be added (no_new_privs); in an
/// operator's shell that is not so.
fn confined(no_new_privs: bool) -> Result<(), CliError> {
    if no_new_privs {
        return Ok(());
    }
    Err(CliError::Refused {
        what: "cannot run a loop here".to_owned(),
        why: "nothing confines it: what the model says would be done with all of your rights".to_owned(),
        exit: Exit::Denied,
        next: Some(
            "spawn an agent whose program it is (docs/agent-loop.md), or run it in a workspace with octant run"
                .to_owned(),
        ),
    })
}

/// `octant agent loop`
pub(super) fn run_loop(asked: &Loop, layout: &Layout, out: &mut Out) -> Result<(), CliError> {
    confined(nix::sys::prctl::get_no_new_privs().unwrap_or(false))?;
    let system = text(asked.system.as_deref(), asked.system_file.as_deref(), "system prompt")?;
    let settings = Settings {
        model: asked.model.clone(),
        system: system.unwrap_or_else(|| SYSTEM.to_owned()),
        tools: Vec::new(),
        max_steps: asked.max_steps,
        max_ms: asked.max_time.0,
        window: asked.window,
        max_output: asked.max_output,
        repeats: asked.repeats.into(),
    };
    let socket = layout.socket("agent");
    let form = match asked.form {
        Some(crate::args::Shows::Text) => Some(Form::Text),
        Some(crate::args::Shows::Lines) => Some(Form::Lines),
        None => out.json.then_some(Form::Lines),
    };
    let places = Places {
        workspace: asked.workspace.clone(),
        socket: socket.exists().then_some(socket),
        model: endpoint(asked.base_url.as_deref(), None)?,
        key: key(),
        task: text(asked.task.as_deref(), asked.task_file.as_deref(), "task")?,
        tools: asked.tools.clone(),
        form,
    };
    let end = octant_loop::run(settings, &places, &mut Sink(out))?;
    if end == End::Done {
        return Ok(());
    }
    Err(CliError::Refused {
        what: "the task is not done".to_owned(),
        why: end.name().to_owned(),
        exit: end.exit(),
        next: Some(next(end).to_owned()),
    })
}

fn next(end: End) -> &'static str {
    match end {
        End::Budget => {
            "what it reached is in .octant/result.json; raise models.tokens or models.spend_usd, sign and spawn it anew"
        }
        End::Steps | End::Time => {
            "what it reached is in .octant/result.json; raise --max-steps or --max-time"
        }
        End::Invalid => "see the last lines of .octant/transcript.jsonl, and `octant router status` outside",
        End::Unavailable => "see `octant router status` outside; it goes on from its transcript",
        End::Done | End::Stuck | End::Refused | End::Stopped => {
            "see .octant/transcript.jsonl in its workspace"
        }
    }
}

/// The variable that SDKs take the address of models from.
const BASE_URL: &str = "OPENAI_BASE_URL";

/// Where models are asked: what is given, what the environment has, or this machine's router.
pub(crate) fn endpoint(given: Option<&str>, router: Option<&Path>) -> Result<Endpoint, CliError> {
    let environment = std::env::var(BASE_URL).ok().filter(|url| !url.is_empty());
    match (given.or(environment.as_deref()), router) {
        (Some(url), _) => Ok(Endpoint::of_url(url)?),
        (None, Some(router)) => Ok(Endpoint::of_socket(router)),
        (None, None) => Err(CliError::Refused {
            what: "cannot ask a model".to_owned(),
            why: format!("{BASE_URL} is not set"),
            exit: Exit::Usage,
            next: Some(
                "give --base-url URL; in a workstation it is set where the manifest grants models".to_owned(),
            ),
        }),
    }
}

/// The key for it, which in a workstation is a placeholder.
pub(crate) fn key() -> Option<String> {
    std::env::var("OPENAI_API_KEY").ok().filter(|key| !key.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_runs_where_something_confines_it() {
        assert!(confined(true).is_ok());
        assert_eq!(confined(false).map_err(|error| error.exit()), Err(Exit::Denied));
    }

    #[test]
    fn lines_of_a_loop_come_whole_and_everything_else_as_it_is() {
        let mut lines = Lines::default();
        let text = r#"{"show":"text","text":"a"}"#;
        assert!(lines.add(&text.as_bytes()[..9]).is_empty());
        let got = lines.add(format!("{}\nplain\nhalf", &text[9..]).as_bytes());
        assert_eq!(got[0], Ok(Shown::Text { text: "a".into() }));
        assert_eq!(got[1..], [Err(b"plain\n".to_vec()), Err(b"half".to_vec())]);
        assert_eq!(lines.add(b"{\"other\":1}\n"), [Err(b"{\"other\":1}\n".to_vec())]);
    }
}
