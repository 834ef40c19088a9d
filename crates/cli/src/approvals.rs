//! `octant approvals`: what waits for an operator, and the answers.

use crate::agents;
use crate::args::{Answer, Approvals as Command};
use crate::error::CliError;
use crate::out::{Out, Table, span, utc};
use crate::service::Service;
use octant_api::agents::{
    AllowRequest, Approval, ApprovalRequest, ApprovalState, ApprovalsRequest, DenyRequest,
};
use octant_ids::{Layout, Sha256};
use octant_sys::clock;

/// The command.
pub(crate) fn run(command: &Command, layout: &Layout, out: &mut Out) -> Result<(), CliError> {
    let service = Service::of(layout, "agents");
    match command {
        Command::List { all } => list(&service, *all, out),
        Command::Show(asked) => show(&service.call(&ApprovalRequest { id: asked.id.clone() })?, out),
        Command::Allow(answer) => {
            let (id, digest) = (answer.asked.id.clone(), digest(&service, answer)?);
            agents::print(&service.call(&AllowRequest { id, digest })?, out)
        }
        Command::Deny(answer) => {
            let (id, digest) = (answer.asked.id.clone(), digest(&service, answer)?);
            let approval = service.call(&DenyRequest { id, digest })?;
            if out.json {
                return out.json(&approval);
            }
            out.line(format_args!("{} is {}", approval.id, approval.state.as_str()))
        }
    }
}

/// The digest that the answer is to: what the operator names, else what the request has now.
fn digest(service: &Service, answer: &Answer) -> Result<Sha256, CliError> {
    if let Some(digest) = answer.digest {
        return Ok(digest);
    }
    Ok(service.call(&ApprovalRequest { id: answer.asked.id.clone() })?.digest)
}

fn list(service: &Service, all: bool, out: &mut Out) -> Result<(), CliError> {
    let list = service.call(&ApprovalsRequest { all })?;
    if out.json {
        return out.json(&list);
    }
    let now = clock::wall_ms();
    let mut table = Table::new(&["REQUEST", "STATE", "LEFT", "ACTION", "FOR"]);
    for approval in &list.approvals {
        let left = match approval.state {
            ApprovalState::Waiting => span(approval.expires_ms.saturating_sub(now) / 1000),
            ApprovalState::Allowed | ApprovalState::Denied | ApprovalState::Expired => "-".to_owned(),
        };
        let state = approval.state.as_str().to_owned();
        table.row([approval.id.clone(), state, left, approval.action.clone(), approval.subject.clone()]);
    }
    out.table(&table)
}

fn show(approval: &Approval, out: &mut Out) -> Result<(), CliError> {
    if out.json {
        return out.json(approval);
    }
    let rows = [
        ("request", approval.id.clone()),
        ("state", approval.state.as_str().to_owned()),
        ("action", approval.action.clone()),
        ("for", approval.subject.clone()),
        ("asked by", approval.asked_by.clone()),
        ("asked", utc(approval.asked_ms)),
        ("until", utc(approval.expires_ms)),
        ("digest", approval.digest.to_string()),
    ];
    rows.iter().try_for_each(|(name, value)| out.wrapped(name, value))?;
    if approval.why.is_empty() { Ok(()) } else { out.wrapped("why", &approval.why) }
}
