//! `octant agent artefacts` and `octant agent fork`.

use super::{find, resolve};
use crate::error::CliError;
use crate::out::{Out, Table, Ticking};
use crate::service::Service;
use crate::{deeds, workspace};
use octant_api::agents::{
    AgentInfo, AgentState, Artefacts, ArtefactsRequest, Deed, FetchRequest, ForkRequest,
    RemoveArtefactsRequest, ResumeRequest, ShowRequest, Snapshot, SuspendRequest, Task,
};
use octant_ids::{Exit, Layout, Sha256};
use octant_tree::{Dir, Entry, LeftOut, Store, StoreError, Tree, Wish};
use serde::Serialize;
use std::fs::{self, File};
use std::io::{self, BufReader, ErrorKind};
use std::path::Path;

/// Everything that a pipe of artefacts can have: whoever kept them was bounded.
const ALL: Wish = Wish { places: None, bytes: u64::MAX, entries: u64::MAX };

/// What to do with what is kept, beside telling it.
#[derive(Clone, Copy)]
pub(super) struct Todo<'a> {
    pub(super) into: Option<&'a Path>,
    pub(super) remove: bool,
}

/// The command `artefacts`: what was kept at the end, or this snapshot.
pub(super) fn run(
    service: &Service,
    which: &str,
    snapshot: Option<&str>,
    todo: Todo<'_>,
    out: &mut Out,
) -> Result<(), CliError> {
    match snapshot {
        Some(digest) => snapshot_of(service, which, digest, todo, out),
        None => artefacts(service, which, todo, out),
    }
}

fn artefacts(service: &Service, which: &str, todo: Todo<'_>, out: &mut Out) -> Result<(), CliError> {
    let agent = resolve(service, which)?;
    let info = service.call(&ArtefactsRequest { agent })?;
    let (kept, tree) = kept(&info)?;
    if !todo.remove {
        for row in &kept.left_out {
            out.note(&format!("left out: {}: {}", row.place, row.why));
        }
        if kept.more_left_out > 0 {
            out.note(&format!("left out: {} more", kept.more_left_out));
        }
    }
    hand_out(service, tree, kept, todo, out)
}

fn snapshot_of(
    service: &Service,
    which: &str,
    digest: &str,
    todo: Todo<'_>,
    out: &mut Out,
) -> Result<(), CliError> {
    let info = find(service, which)?;
    let agent = info.aid.to_string();
    let info = service.call(&ShowRequest { agent })?;
    let mut meant = info.snapshots.iter().filter(|taken| taken.tree.to_string().starts_with(digest));
    match (meant.next(), meant.next()) {
        (Some(taken), None) => hand_out(service, taken.tree, taken, todo, out),
        (found, _) => Err(CliError::Refused {
            what: format!("there is no one snapshot {} of {}", crate::out::printable(digest), info.aid),
            why: if found.is_some() { "several begin so".into() } else { "none begins so".into() },
            exit: Exit::NotFound,
            next: Some("`octant agent show` lists them".into()),
        }),
    }
}

/// One of them as a line.
pub(super) fn taken(taken: &Snapshot) -> String {
    let Snapshot { tree, taken_ms, entries, bytes, left_out } = taken;
    let at = crate::out::utc(*taken_ms);
    let left_out = if *left_out > 0 { format!("; {left_out} left out") } else { String::new() };
    format!("{tree}: {entries} entries, {bytes} bytes, {at}{left_out}")
}

fn hand_out(
    service: &Service,
    tree: Sha256,
    row: &impl Serialize,
    Todo { into, remove }: Todo<'_>,
    out: &mut Out,
) -> Result<(), CliError> {
    if remove {
        service.call(&RemoveArtefactsRequest { tree })?;
        return if out.json { out.json(&tree) } else { out.line(format_args!("{tree} is removed")) };
    }
    if let Some(into) = into {
        fetch(service, tree, into, out)?;
    }
    if out.json {
        return out.json(row);
    }
    match into {
        Some(into) => out.line(format_args!("{tree} is in {}", into.display())),
        None => list(&take(service, tree, |from| octant_tree::list(from, &ALL))?, out),
    }
}

/// What was kept of an agent, and the digest of its tree.
fn kept(info: &AgentInfo) -> Result<(&Artefacts, Sha256), CliError> {
    let refused = |why: String, next: &str| CliError::Refused {
        what: format!("there is nothing kept of {}", info.aid),
        why,
        exit: Exit::NotFound,
        next: Some(next.into()),
    };
    let Some(kept) = &info.artefacts else {
        let why = if info.state.ended() { "its manifest names nothing" } else { "it has not ended" };
        return Err(refused(why.into(), "name places in lifetime.retain of its manifest"));
    };
    match (kept.tree, &kept.failed) {
        (Some(tree), _) if !kept.removed => Ok((kept, tree)),
        (Some(_), _) => Err(refused("it was removed".into(), "`octant ledger query` shows by whom")),
        (None, failed) => Err(refused(failed.clone().unwrap_or_default(), "see the log of agents")),
    }
}

/// What was kept, in one line.
pub(super) fn told(kept: &Artefacts) -> String {
    let left_out = kept.left_out.len() as u64 + kept.more_left_out;
    let text = match (kept.tree, &kept.failed) {
        (Some(tree), _) => format!("{tree}: {} entries, {} bytes", kept.entries, kept.bytes),
        (None, failed) => format!("nothing: {}", crate::out::printable(failed.as_deref().unwrap_or("-"))),
    };
    let left_out = if left_out > 0 { format!("; {left_out} left out") } else { String::new() };
    format!("{text}{left_out}{}", if kept.removed { "; removed" } else { "" })
}

fn list(tree: &Tree, out: &mut Out) -> Result<(), CliError> {
    let mut table = Table::new(&["BYTES", "FILE"]);
    for (place, entry) in tree {
        let (bytes, sign) = match entry {
            Entry::Directory => ("-".to_owned(), "/"),
            Entry::Link(_) => ("-".to_owned(), " ->"),
            Entry::File(content) => (content.size.to_string(), if content.exec { "*" } else { "" }),
        };
        table.row([bytes, format!("{place}{sign}")]);
    }
    out.table(&table)
}

fn fetch(service: &Service, tree: Sha256, into: &Path, out: &Out) -> Result<(), CliError> {
    let write = |source: io::Error| match source.kind() {
        ErrorKind::AlreadyExists => CliError::Exists { path: into.to_owned() },
        _ => CliError::Write { path: into.to_owned(), source },
    };
    fs::create_dir(into).map_err(write)?;
    let dir = Dir::open(into).map_err(write)?;
    let _progress = Ticking::new(out.json, format!("fetching {tree}"));
    take(service, tree, |from| dir.unpack(from, &ALL)).map(drop)
}

/// Has a tree given out, and gives it on; what came is what was asked for.
fn take(
    service: &Service,
    tree: Sha256,
    to: impl FnOnce(&mut BufReader<File>) -> Result<(Tree, LeftOut), StoreError>,
) -> Result<Tree, CliError> {
    let (_, fds) = service.call_with(&FetchRequest { tree }, &[])?;
    let pipe = fds.into_iter().next().ok_or_else(|| service.odd("no pipe came with it"))?;
    let (got, left_out) = to(&mut BufReader::new(File::from(pipe)))?;
    if got.digest() == tree {
        return Ok(got);
    }
    let first = left_out.named.first().map(|(place, why)| format!(": {place}: {why}")).unwrap_or_default();
    Err(CliError::Unverified {
        what: format!("the artefacts {tree}"),
        why: format!("not all of them came{first}"),
        next: "see the log of agents; `octant agent artefacts AGENT --remove` removes what is damaged".into(),
    })
}

/// Keeps the whole workspace of an agent as a snapshot, as far as the record: that of one that runs as it is, that of one
/// that has ended from what was kept of it.
pub(crate) fn snapshot(
    layout: &Layout,
    service: &Service,
    info: &AgentInfo,
    limit: u64,
    out: &mut Out,
) -> Result<(Tree, Vec<String>), CliError> {
    let store = Store::open(&layout.workspaces())?;
    let _progress = Ticking::new(out.json, format!("keeping the workspace of {}", info.aid));
    let (tree, odd) = if info.state.ended() {
        let agent = info.aid.to_string();
        let info = service.call(&ArtefactsRequest { agent })?;
        let (kept, tree) = kept(&info)?;
        if !kept.whole {
            return Err(CliError::Refused {
                what: format!("cannot keep the workspace of {}", info.aid),
                why: "it has ended, and only a part of what was in it is kept".into(),
                exit: Exit::Failed,
                next: Some(
                    "`octant agent artefacts --out DIR` and `octant workspace snapshot DIR` keep that part"
                        .into(),
                ),
            });
        }
        (take(service, tree, |from| store.receive(from, &ALL))?, Vec::new())
    } else {
        store.gather(&workspace::of_running(service, info)?, limit)?
    };
    deeds::before(layout, Deed::KeepSnapshot, tree.digest(), &format!("the workspace of {}", info.aid), out)?;
    store.put_tree(&tree)?;
    Ok((tree, odd.iter().map(|odd| odd.0.to_string()).collect()))
}

/// What a fork begins with beside the workspace.
pub(super) struct Begin<'a> {
    /// The signed manifest, where it is another.
    pub(super) file: Option<&'a Path>,
    /// The most MiB that the workspace may have.
    pub(super) limit_mib: u64,
    /// What is said to it.
    pub(super) task: Option<Task>,
}

/// The command `fork`: the new agent begins with what the workspace has at one moment.
pub(super) fn fork(
    layout: &Layout,
    service: &Service,
    which: &str,
    begin: Begin<'_>,
    out: &mut Out,
) -> Result<(), CliError> {
    let Begin { file, limit_mib, task } = begin;
    let envelope = file.map(super::envelope).transpose()?;
    let info = find(service, which)?;
    let agent = info.aid.to_string();
    let runs = matches!(info.state, AgentState::Running | AgentState::Throttled);
    if runs {
        service.call(&SuspendRequest { agent: agent.clone() })?;
    }
    let made = snapshot(layout, service, &info, limit_mib.saturating_mul(1 << 20), out);
    if runs {
        // Whatever became of the snapshot.
        service.call(&ResumeRequest { agent: agent.clone(), for_ms: None })?;
    }
    let (tree, left_out) = made?;
    if !left_out.is_empty() {
        out.note(&format!("left out, since they are no files: {}", left_out.join(", ")));
    }
    let workspace = tree.digest();
    let info = service.call(&ForkRequest { agent, workspace, envelope, task })?;
    if !info.missing_layers.is_empty() {
        out.note(&format!("WARNING: {} runs without: {}", info.aid, info.missing_layers.join(", ")));
    }
    if out.json {
        return out.json(&info);
    }
    out.note(&format!("its workspace begins with the snapshot {workspace}"));
    out.line(info.aid)
}
