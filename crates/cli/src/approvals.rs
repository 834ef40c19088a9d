//! `octant approvals`: what waits for an operator, and the answers, which are signed with an operator's key.

use crate::args::{Answer as By, Approvals as Command, Decide};
use crate::error::CliError;
use crate::manifest::{invalid, read, signing_key, text, write_over};
use crate::out::{Out, Table, printable, revealed, span, utc};
use crate::service::Service;
use octant_api::agent;
use octant_api::agents::{
    AnswerRequest, Approval, ApprovalRequest, ApprovalState, ApprovalsRequest, ENVELOPE_MAX,
};
use octant_ids::{Exit, Layout};
use octant_manifest::{Answer, Decision, digest};
use octant_sys::clock;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::path::Path;

/// The longest file of a request: all of a manifest, every byte of which JSON can write with six.
const REQUEST_MAX: usize = 2 << 20;

/// How long an answer counts that is given at once, in milliseconds.
const ANSWER_MS: u64 = 15 * 60 * 1000;

/// The command.
pub(crate) fn run(command: &Command, layout: &Layout, out: &mut Out) -> Result<(), CliError> {
    let service = Service::of(layout, "agents");
    match command {
        Command::List { all } => list(&service, *all, out),
        Command::Show(asked) => show(&service.call(&ApprovalRequest { id: asked.id.clone() })?, out),
        Command::Allow(by) => decide(&service, by, Decision::Allow, out),
        Command::Deny(by) => decide(&service, by, Decision::Deny, out),
        Command::Sign { decision, file, by, output } => {
            let bytes = text(read(file, "request", REQUEST_MAX)?, file, "request")?;
            let asked: Approval = serde_json::from_str(&bytes).map_err(|e| invalid(file, "request", &e))?;
            let decision = match decision {
                Decide::Allow => Decision::Allow,
                Decide::Deny => Decision::Deny,
            };
            let envelope = sign(&asked, decision, &by.key, by.time.0)?;
            match output {
                None => out.raw(envelope.as_bytes()),
                Some(output) => write_over(output, envelope.as_bytes()),
            }
        }
        Command::Answer { file } => {
            let envelope = text(read(file, "answer", ENVELOPE_MAX)?, file, "answer")?;
            told(&service.call(&AnswerRequest { envelope })?, out)
        }
        Command::Wait { asked, time } => {
            let id = asked.id.clone();
            let own = Service::of_workstation(layout);
            wait(&own.call(&agent::ApprovalRequest { id, wait_ms: time.0 })?, out)
        }
    }
}

fn decide(service: &Service, by: &By, decision: Decision, out: &mut Out) -> Result<(), CliError> {
    let asked = service.call(&ApprovalRequest { id: by.asked.id.clone() })?;
    if let Some(seen) = by.digest.filter(|seen| *seen != asked.digest) {
        return Err(CliError::Refused {
            what: format!("cannot {decision} {}", asked.id),
            why: format!("it has the digest {} and not {seen}", asked.digest),
            exit: Exit::Denied,
            next: Some("look at it with `octant approvals show`".to_owned()),
        });
    }
    let envelope = sign(&asked, decision, &by.by.key, by.by.time.0)?;
    told(&service.call(&AnswerRequest { envelope })?, out)
}

/// Answers a request for somebody who was shown what it says will be done.
pub(crate) fn answer(service: &Service, id: &str, decision: Decision, key: &Path) -> Result<(), CliError> {
    let asked = service.call(&ApprovalRequest { id: id.to_owned() })?;
    let envelope = sign(&asked, decision, key, ANSWER_MS)?;
    service.call(&AnswerRequest { envelope }).map(|_| ())
}

/// Signs an answer to a request, after what it says will be done was found to be what its digest is of.
fn sign(asked: &Approval, decision: Decision, key: &Path, time_ms: u64) -> Result<String, CliError> {
    #[derive(Deserialize)]
    struct Here {
        machine: String,
    }
    let refuse = |why: String| CliError::Refused {
        what: format!("cannot {decision} {}", asked.id),
        why,
        exit: Exit::Invalid,
        next: Some("take the request from `octant --json approvals show`, while it waits".to_owned()),
    };
    let what = asked.what.as_ref().ok_or_else(|| {
        refuse(format!("it is {}, and says nothing that would be done", asked.state.as_str()))
    })?;
    if digest(what.text().as_bytes()) != asked.digest {
        return Err(refuse("what it says will be done is not what its digest is of".to_owned()));
    }
    let Here { machine } = what.read().map_err(|e| refuse(format!("it does not say where: {e}")))?;
    let not_after_ms = clock::wall_ms().saturating_add(time_ms);
    let (approval, digest) = (asked.id.clone(), asked.digest);
    let envelope = Answer { approval, digest, decision, machine, not_after_ms }.sign(&signing_key(key)?);
    String::from_utf8(envelope).map_err(|e| refuse(e.to_string()))
}

/// Whether it counts for something now, or nothing any more.
fn left(asked: &Approval) -> String {
    let seconds = asked.expires_ms.saturating_sub(clock::wall_ms()) / 1000;
    if asked.state.closed() { "-".to_owned() } else { span(seconds) }
}

fn told(asked: &Approval, out: &mut Out) -> Result<(), CliError> {
    if out.json {
        return out.json(asked);
    }
    let next = match asked.state {
        ApprovalState::Allowed => format!(": what asked for it can be done once within {}", left(asked)),
        _ => String::new(),
    };
    out.line(format_args!("{} is {}{next}", asked.id, asked.state.as_str()))
}

/// Exit 0 only when it is allowed.
fn wait(asked: &agent::ApprovalInfo, out: &mut Out) -> Result<(), CliError> {
    if out.json {
        out.json(asked)?;
    } else {
        out.line(format_args!("{} is {}", asked.id, asked.state.as_str()))?;
    }
    let (exit, next) = match asked.state {
        ApprovalState::Allowed => return Ok(()),
        ApprovalState::Waiting => (Exit::Deadline, "wait again, or do something else"),
        ApprovalState::Used | ApprovalState::Denied | ApprovalState::Expired => {
            (Exit::Denied, "do something else")
        }
    };
    let why = if asked.why.is_empty() { "nobody has answered yet" } else { &asked.why };
    let (what, why) = (format!("{} is {}", asked.action, asked.state.as_str()), printable(why));
    Err(CliError::Refused { what, why, exit, next: Some(next.to_owned()) })
}

pub(crate) fn list(service: &Service, all: bool, out: &mut Out) -> Result<(), CliError> {
    let list = service.call(&ApprovalsRequest { all })?;
    if out.json {
        return out.json(&list);
    }
    let mut table = Table::new(&["REQUEST", "STATE", "LEFT", "ACTION", "FOR"]);
    for asked in &list.approvals {
        let state = asked.state.as_str().to_owned();
        let (action, subject) = (asked.action.clone(), printable(&asked.subject));
        table.row([asked.id.clone(), state, left(asked), action, subject]);
    }
    out.table(&table)
}

fn show(asked: &Approval, out: &mut Out) -> Result<(), CliError> {
    if out.json {
        return out.json(asked);
    }
    let agent = asked.agent.map_or_else(|| "to be spawned".to_owned(), |agent| agent.to_string());
    let rows = [
        ("request", asked.id.clone()),
        ("state", asked.state.as_str().to_owned()),
        ("action", asked.action.clone()),
        ("for", format!("{}, role {}", printable(&asked.subject), asked.role)),
        ("agent", agent),
        ("asked by", asked.asked_by.clone()),
        ("asked", utc(asked.asked_ms)),
        ("until", utc(asked.expires_ms)),
        ("digest", asked.digest.to_string()),
        ("why", asked.why.clone()),
    ];
    rows.iter().filter(|row| !row.1.is_empty()).try_for_each(|(name, value)| out.wrapped(name, value))?;
    let Some(what) = &asked.what else { return Ok(()) };
    let odd = |e| CliError::Answer {
        service: "agents".into(),
        path: "agents.approval".into(),
        why: format!("{e}"),
    };
    let what: Map<String, Value> = what.read().map_err(odd)?;
    out.line("exactly this:")?;
    what.iter().try_for_each(|(name, value)| part(name, value, 1, out))
}

/// A part of what will be done, with nothing left out. What agents wrote cannot move the cursor, and cannot hide.
fn part(name: &str, value: &Value, depth: usize, out: &mut Out) -> Result<(), CliError> {
    let (indent, name) = ("  ".repeat(depth), revealed(name));
    match value {
        Value::Object(parts) => {
            out.line(format_args!("{indent}{name}:"))?;
            parts.iter().try_for_each(|(name, value)| part(name, value, depth + 1, out))
        }
        Value::Array(items) if items.iter().any(Value::is_object) => {
            out.line(format_args!("{indent}{name}:"))?;
            let mut each = items.iter().enumerate();
            each.try_for_each(|(at, item)| part(&(at + 1).to_string(), item, depth + 1, out))
        }
        Value::String(text) if text.contains('\n') => {
            out.line(format_args!("{indent}{name}:"))?;
            text.lines().try_for_each(|line| out.line(format_args!("{indent}  | {}", revealed(line))))
        }
        Value::String(text) => out.line(format_args!("{indent}{name}: {}", revealed(text))),
        other => out.line(format_args!("{indent}{name}: {}", revealed(&other.to_string()))),
    }
}
