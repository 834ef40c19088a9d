//! `octant agent why`: what an agent was denied, by what, and what would grant it.
//!
//! What no layer reports is not made up: a path that is not there inside is an ordinary "no such file" to the kernel. That
//! is said, and so is where system calls are not reported, or not all. What the kernel reported is with the agent; what the
//! gate denied stands in the ledger, and so do calls of others' tools; both are read there.

mod gate;
mod tools;

use crate::error::CliError;
use crate::ledger;
use crate::manifest::{self, Loaded};
use crate::out::{Out, printable};
use crate::service::Service;
use octant_api::agents::{AgentInfo, AgentState, DeniedAccess, DeniedCall, ExitInfo};
use octant_api::ledger::{Entry, Kind, QueryRequest};
use octant_ids::{Aid, Exit, Principal};
use octant_learn::{Explained, explain, explain_access};
use serde::Serialize;
use std::path::Path;

/// How many entries of a service about an agent are looked at.
const ENTRIES_MAX: u32 = 20_000;

/// Gives what a service has put on record about an agent to `see`; why there may be more of `what`, if there may.
fn each(
    service: &Service,
    (actor, kinds): (&str, Vec<Kind>),
    aid: Aid,
    what: &str,
    mut see: impl FnMut(&Entry),
) -> Option<String> {
    let actor = actor.parse().ok().map(Principal::Service);
    let request = QueryRequest { actor, agent: Some(aid), kinds, ..QueryRequest::default() };
    let more = ledger::each(service, request, ENTRIES_MAX, |entry| {
        see(&entry);
        Ok(())
    });
    let first = format!("{what} after its first {ENTRIES_MAX} entries");
    match more {
        Ok(None) => None,
        Ok(Some(from)) => Some(format!("{first}: octant ledger query --agent {aid} --from {from}")),
        Err(error) => Some(format!("{what}: {error}")),
    }
}

/// SIGSYS, with which the filter ends a program of a foreign architecture.
const SIGSYS: i32 = 31;

/// One denial.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Denied {
    /// What was denied.
    what: String,
    /// By which rule or layer.
    rule: String,
    /// The manifest's field, and its line where the manifest is at hand.
    field: Option<String>,
    line: Option<usize>,
    /// What would grant it.
    grant: String,
}

const PATHS: [&str; 2] = [
    "paths that were not granted: they do not exist inside, which the kernel reports to nobody",
    "files that are mounted so that they cannot be written or executed: only the program sees the refusal",
];

#[derive(Serialize)]
struct Report {
    denied: Vec<Denied>,
    not_reported: Vec<String>,
}

/// What no layer reports of this agent.
fn unreported(info: &AgentInfo) -> Vec<String> {
    let calls = info.calls_unreported.as_ref().map(|why| format!("system calls that a filter denied: {why}"));
    let accesses = info.accesses_unreported.as_ref().map(|why| format!("what Landlock denied: {why}"));
    PATHS.map(str::to_owned).into_iter().chain(calls).chain(accesses).collect()
}

pub(super) fn show(
    info: &AgentInfo,
    file: Option<&Path>,
    ledger: &Service,
    out: &mut Out,
) -> Result<(), CliError> {
    let loaded = file.map(|file| same(info, file)).transpose()?;
    let line = |field: &str| loaded.as_ref().and_then(|loaded| loaded.lines.get(field).copied());
    let gate = gate::read(ledger, info.aid);
    let mut denied = denials(info, &line);
    denied.extend(gate.rows(&line));
    let tools = tools::read(ledger, info.aid);
    denied.extend(tools.rows(&line));
    let not_reported = unreported(info).into_iter().chain(gate.missing).chain(tools.missing);
    let not_reported: Vec<String> = not_reported.collect();
    if out.json {
        return out.json(&Report { denied, not_reported });
    }
    if denied.is_empty() {
        out.line("nothing that is known of was denied to it")?;
    }
    for Denied { what, rule, field, line, grant } in &denied {
        out.line(format_args!("{}: {}", printable(what), printable(rule)))?;
        let line = line.map_or_else(String::new, |line| format!(", line {line}"));
        if let Some(field) = field {
            out.line(format_args!("    manifest: {}{line}", printable(field)))?;
        }
        out.line(format_args!("    to grant it: {}", printable(grant)))?;
    }
    out.line("not reported by any layer, and so not here:")?;
    not_reported.iter().try_for_each(|text| out.line(format_args!("    {}", printable(text))))?;
    out.line("octant manifest learn, with the same command, finds all of them")
}

/// The manifest in the file, if it is the agent's.
fn same(info: &AgentInfo, file: &Path) -> Result<Loaded, CliError> {
    let loaded = manifest::load(file)?;
    if loaded.digest == info.manifest_digest {
        return Ok(loaded);
    }
    Err(CliError::Refused {
        what: file.display().to_string(),
        why: format!("this is not the manifest of {}: its digest is {}", info.aid, info.manifest_digest),
        exit: Exit::Invalid,
        next: Some("give the file that was signed for it".to_owned()),
    })
}

fn denials(info: &AgentInfo, line: &dyn Fn(&str) -> Option<usize>) -> Vec<Denied> {
    let mut found = Vec::new();
    if info.state == AgentState::Rejected {
        found.push(Denied {
            what: info.reason.clone().unwrap_or_default(),
            rule: "the spawn was refused".to_owned(),
            field: None,
            line: None,
            grant: "correct what is named there, then octant manifest sign and octant agent spawn".to_owned(),
        });
    }
    for denial in &info.denials {
        let got = if denial.got.is_empty() { "nothing" } else { &denial.got };
        found.push(Denied {
            what: format!("{} asked, {got} given", denial.asked),
            rule: "the ceiling of its role, or its parent's rights".to_owned(),
            line: line(&denial.field),
            field: Some(denial.field.clone()),
            grant: format!(
                "octant manifest sign by an operator whose role has it, with a role within that; this agent's is {}",
                info.role
            ),
        });
    }
    if info.exit == Some(ExitInfo::Signal(SIGSYS)) {
        found.push(Denied {
            what: "a system call of a foreign architecture".to_owned(),
            rule: "the system call filter, which ends the program".to_owned(),
            field: None,
            line: None,
            grant: "nothing: build the program for this machine's architecture".to_owned(),
        });
    }
    found.extend(info.denied_calls.iter().map(|row| call(row, line)));
    found.extend(info.denied_accesses.iter().map(|row| access(row, line)));
    found
}

fn times(count: u64) -> String {
    if count == 1 { "once".to_owned() } else { format!("{count} times") }
}

/// A denied system call, with what would grant it.
fn call(row: &DeniedCall, line: &dyn Fn(&str) -> Option<usize>) -> Denied {
    let times = times(row.count);
    let Explained { rule, field, grant } = explain(&row.call);
    Denied {
        what: format!("the system call {} ({times}, by {})", row.call, row.program),
        rule,
        line: field.and_then(line),
        field: field.map(str::to_owned),
        grant: grant.unwrap_or_else(|| "nothing".to_owned()),
    }
}

/// An access that Landlock denied, with what would grant it.
fn access(row: &DeniedAccess, line: &dyn Fn(&str) -> Option<usize>) -> Denied {
    let Explained { rule, field, grant } = explain_access(&row.rights, &row.object);
    Denied {
        what: format!("{} ({})", row.name(), times(row.count)),
        rule,
        line: field.and_then(line),
        field: field.map(str::to_owned),
        grant: grant.unwrap_or_else(|| "nothing".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use octant_api::agents::Denial as Narrowed;

    fn info(state: &str) -> AgentInfo {
        serde_json::from_value(serde_json::json!({
            "aid": Aid::new(1_700_000_000_000, [7; 10]), "name": "a", "role": "analyst",
            "operator": "ada", "state": state, "manifest_digest": octant_ids::Sha256::ZERO.to_string(),
        }))
        .unwrap()
    }

    #[test]
    fn each_denial_has_its_rule_and_what_would_grant_it() {
        assert_eq!(denials(&info("running"), &|_| None), []);
        let mut rejected = info("rejected");
        rejected.reason = Some("no trusted key".into());
        assert!(denials(&rejected, &|_| None)[0].what.contains("no trusted key"));
        let mut narrowed = info("running");
        let field = "resources.pids_max".to_owned();
        narrowed.denials = vec![Narrowed { field: field.clone(), asked: "900".into(), got: String::new() }];
        narrowed.exit = Some(ExitInfo::Signal(SIGSYS));
        let text = octant_manifest::template("a", "analyst", "ada");
        let loaded = Loaded {
            draft: octant_manifest::Draft::parse(text.as_bytes()).unwrap(),
            lines: octant_manifest::lines(text.as_bytes()),
            digest: octant_ids::Sha256::ZERO,
        };
        let found = denials(&narrowed, &|field| loaded.lines.get(field).copied());
        assert_eq!(found.len(), 2);
        let at = text.lines().position(|l| l.starts_with("pids_max")).unwrap() + 1;
        assert_eq!((found[0].field.as_deref(), found[0].line), (Some(&field[..]), Some(at)));
        assert!(found[0].what.contains("nothing given") && found[0].grant.contains("analyst"));
        assert!(found[1].rule.contains("filter"));
    }

    #[test]
    fn a_denied_call_is_shown_with_what_would_grant_it() {
        let mut info = info("running");
        let row = |call: &str, count| DeniedCall {
            call: call.into(),
            count,
            first_ms: 1,
            last_ms: 2,
            program: "python3".into(),
        };
        info.denied_calls = vec![row("mount", 1), row("mq_open", 3)];
        let found = denials(&info, &|_| None);
        assert_eq!(found[0].what, "the system call mount (once, by python3)");
        assert_eq!((found[0].grant.as_str(), &found[0].field), ("nothing", &None));
        assert_eq!(found[1].what, "the system call mq_open (3 times, by python3)");
        assert!(found[1].grant.contains("mq_open") && found[1].field.as_deref() == Some("syscalls.add"));
    }

    #[test]
    fn a_denied_access_is_shown_with_the_line_that_would_grant_it() {
        let mut info = info("running");
        let (rights, object) = ("fs.execute".to_owned(), "/workspace/a\u{1b}b".to_owned());
        info.denied_accesses = vec![DeniedAccess { rights, object, count: 2, first_ms: 1, last_ms: 2 }];
        let found = &denials(&info, &|field| (field == "executables.paths").then_some(7))[0];
        assert_eq!((found.field.as_deref(), found.line), (Some("executables.paths"), Some(7)));
        assert!(found.what.ends_with("(2 times)") && found.grant.contains("executables.paths"));
        assert!(!found.grant.contains('\u{1b}'), "{}", found.grant);
    }

    #[test]
    fn what_is_not_reported_is_said() {
        let mut info = info("running");
        assert_eq!(unreported(&info), PATHS);
        info.calls_unreported = Some("audit=0".into());
        info.accesses_unreported = Some("audit is off".into());
        assert!(unreported(&info)[2].contains("audit=0") && unreported(&info)[3].contains("Landlock"));
    }
}
