//! `octant agent` inside a workstation, where it reaches the agents below this one; and the order of a family.

use crate::agents::{logs, print, state, verdict};
use crate::args::Agent as Command;
use crate::error::CliError;
use crate::manifest;
use crate::out::{Out, Table, Ticking};
use crate::service::Service;
use octant_api::agent::{
    CHILD_MANIFEST_MAX, Child, ChildrenRequest, KillRequest, LogsRequest, SpawnRequest, WaitRequest,
};
use octant_api::agents::Output;
use octant_ids::{Aid, Exit, Layout};
use std::collections::BTreeSet;
use std::path::Path;

/// The agent's own socket, where there is one: inside a workstation, and nowhere else.
pub(crate) fn inside(layout: &Layout) -> Option<Service> {
    let own = Service::of_workstation(layout);
    own.path().exists().then_some(own)
}

/// What only an agent can ask.
pub(crate) fn outside() -> CliError {
    CliError::Refused {
        what: "cannot ask for the agents below this one".to_owned(),
        why: "this is no workstation".to_owned(),
        exit: Exit::Usage,
        next: Some(
            "an operator starts agents from signed manifests, and sees all with `octant agent tree`"
                .to_owned(),
        ),
    }
}

pub(crate) fn run(own: &Service, command: &Command, out: &mut Out) -> Result<(), CliError> {
    match command {
        Command::Spawn { manifest: Some(file), wait, .. } => spawn(own, file, *wait, out),
        Command::Children { all } => children(own, *all, out),
        Command::Logs { which, follow, only } => {
            let (agent, output) = (which.agent.clone(), only.map(Output::from));
            logs(own, &LogsRequest { agent, output, follow: *follow }, out)
        }
        Command::Wait(which) => {
            let child = wait(own, which.agent.clone(), out)?;
            if out.json {
                out.json(&child)?;
            }
            verdict(&child)?;
            if out.json { Ok(()) } else { print(&child, out) }
        }
        Command::Kill { which, grace } => {
            let child = own.call(&KillRequest { agent: which.agent.clone(), grace_ms: grace.0 })?;
            print(&child, out)
        }
        Command::Spawn { .. }
        | Command::Say { .. }
        | Command::Attach(_)
        | Command::Loop(_)
        | Command::Prepare { .. }
        | Command::Prepared { .. }
        | Command::List { .. }
        | Command::Tree { .. }
        | Command::Show(_)
        | Command::Authority(_)
        | Command::Budget(_)
        | Command::Why { .. }
        | Command::Suspend(_)
        | Command::Resume { .. }
        | Command::Throttle { .. }
        | Command::Artefacts { .. }
        | Command::Fork { .. } => Err(CliError::Refused {
            what: "cannot do that inside a workstation".to_owned(),
            why: "it is for operators".to_owned(),
            exit: Exit::Denied,
            next: Some("an agent has: spawn --manifest FILE, children, wait, kill, logs; its budgets are in `octant self`".to_owned()),
        }),
    }
}

fn spawn(own: &Service, file: &Path, wait_too: bool, out: &mut Out) -> Result<(), CliError> {
    const KIND: &str = "manifest";
    let manifest = manifest::text(manifest::read(file, KIND, CHILD_MANIFEST_MAX)?, file, KIND)?;
    let child = own.call(&SpawnRequest { manifest })?;
    for row in &child.narrowed {
        let got = if row.got.is_empty() { "nothing" } else { &row.got };
        out.note(&format!("{}: asked {}, got {got}", row.field, row.asked));
    }
    if !out.json {
        out.line(child.aid)?;
        out.flush()?;
    }
    if !wait_too {
        return if out.json { out.json(&child) } else { Ok(()) };
    }
    let child = wait(own, child.aid.to_string(), out)?;
    if out.json {
        out.json(&child)?;
    }
    verdict(&child)
}

fn wait(own: &Service, agent: String, out: &Out) -> Result<Child, CliError> {
    let text = format!("waiting for {agent}; Ctrl-C stops the waiting, not the agent");
    let _progress = Ticking::new(out.json, text);
    own.call(&WaitRequest { agent })
}

fn children(own: &Service, all: bool, out: &mut Out) -> Result<(), CliError> {
    let children = own.call(&ChildrenRequest { all })?;
    if out.json {
        return out.json(&children);
    }
    let agents = &children.agents;
    let members = agents.iter().map(|child| (child.aid, child.parent)).collect::<Vec<_>>();
    let mut table = Table::new(&["AGENT", "STATE", "NAME"]);
    for row in order(&members) {
        let child = &agents[row.member];
        table.row([child.aid.to_string(), state(child.state, child.exit), row.below(&child.name)]);
    }
    out.table(&table)?;
    out.line(format_args!("{} more descendants may be spawned", children.descendants_left))
}

/// A place in a family.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// Which member, by its place in the list.
    pub(crate) member: usize,
    /// How many of those in the list are above it.
    depth: usize,
}

impl Row {
    /// A name, set in as far as it is below others.
    pub(crate) fn below(&self, name: &str) -> String {
        format!("{}{name}", "  ".repeat(self.depth))
    }
}

/// Each member after the one that it is under, and before the next of that one's: from identifiers and whom they are
/// under. Whose parent is not in the list stands at the left. Every member comes once, whatever the list says.
pub(crate) fn order(members: &[(Aid, Option<Aid>)]) -> Vec<Row> {
    let known: BTreeSet<Aid> = members.iter().map(|(aid, _)| *aid).collect();
    let mut rows = Vec::with_capacity(members.len());
    let first = |(_, parent): &(Aid, Option<Aid>)| parent.is_none_or(|parent| !known.contains(&parent));
    let mut next: Vec<(usize, usize)> =
        (0..members.len()).rev().filter(|i| first(&members[*i])).map(|i| (i, 0)).collect();
    let mut seen: BTreeSet<usize> = next.iter().map(|(i, _)| *i).collect();
    while let Some((member, depth)) = next.pop() {
        rows.push(Row { member, depth });
        let under = |i: &usize| members[*i].1 == Some(members[member].0);
        let children: Vec<usize> =
            (0..members.len()).rev().filter(under).filter(|i| seen.insert(*i)).collect();
        next.extend(children.into_iter().map(|i| (i, depth + 1)));
    }
    // In a circle, which the service never says.
    rows.extend((0..members.len()).filter(|i| !seen.contains(i)).map(|member| Row { member, depth: 0 }));
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aid(n: u64) -> Aid {
        Aid::new(n, [0; 10])
    }

    fn shape(members: &[(u64, Option<u64>)]) -> Vec<(u64, usize)> {
        let list: Vec<_> = members.iter().map(|(me, above)| (aid(*me), above.map(aid))).collect();
        order(&list).iter().map(|row| (members[row.member].0, row.depth)).collect()
    }

    #[test]
    fn a_family_stands_below_each_other() {
        let members = [(1, None), (2, None), (3, Some(1)), (4, Some(3)), (5, Some(1)), (6, Some(9))];
        assert_eq!(shape(&members), [(1, 0), (3, 1), (4, 2), (5, 1), (2, 0), (6, 0)]);
        assert_eq!(shape(&[(1, Some(2)), (2, Some(1)), (3, Some(3))]), [(1, 0), (2, 0), (3, 0)]);
        assert_eq!(shape(&[]), []);
    }
}
