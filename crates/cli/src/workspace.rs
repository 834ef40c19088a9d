//! `octant workspace`: snapshots of workspaces. Only the snapshot of an agent asks a service, for the agent's process.

use crate::agents;
use crate::args::Workspace as Command;
use crate::deeds;
use crate::error::CliError;
use crate::out::{Out, Table, Ticking};
use crate::service::Service;
use octant_api::agent::SnapshotRequest;
use octant_api::agents::{AgentInfo, Deed};
use octant_ids::{Exit, Layout, Sha256, uid};
use octant_tree::{Change, Dir, Store, StoreError, Tree, changes, merge};
use serde::Serialize;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The most bytes of an agent's workspace that is compared or merged.
const LIMIT: u64 = 4 << 30;

#[derive(Serialize)]
struct Snapshot {
    snapshot: Sha256,
    entries: usize,
    bytes: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    left_out: Vec<String>,
}

impl Snapshot {
    fn of(tree: &Tree) -> Self {
        Self { snapshot: tree.digest(), entries: tree.len(), bytes: tree.bytes(), left_out: Vec::new() }
    }
}

/// The command.
pub(crate) fn run(command: &Command, layout: &Layout, out: &mut Out) -> Result<(), CliError> {
    match command {
        Command::Snapshot { of: Some(of), limit } => snapshot(layout, of, limit.saturating_mul(1 << 20), out),
        Command::Snapshot { of: None, .. } => own(layout, out),
        Command::List => list(&open(layout)?, out),
        Command::Restore { snapshot, into } => restore(&open(layout)?, snapshot, into, out),
        Command::Diff { before, after } => {
            let (before, after) = (side(layout, before, out)?, side(layout, after, out)?);
            diff(&changes(&before.tree, &after.tree), out)
        }
        Command::Merge { base, ours, theirs } => {
            let (ours, theirs) = (side(layout, ours, out)?, side(layout, theirs, out)?);
            let base = match base {
                Some(base) => side(layout, base, out)?.tree,
                None => tree(&open(layout)?, &common(&ours, &theirs)?.to_string())?,
            };
            join(layout, [base, ours.tree, theirs.tree], out)
        }
        Command::Remove { snapshot } => {
            let digest = {
                let store = open(layout)?;
                let digest = store.find(snapshot)?;
                store.remove(digest)?;
                digest
            };
            deeds::after(layout, Deed::RemoveSnapshot, digest, "", out);
            if out.json { out.json(&digest) } else { out.line(format_args!("{digest} is removed")) }
        }
    }
}

fn open(layout: &Layout) -> Result<Store, CliError> {
    Ok(Store::open(&layout.workspaces())?)
}

fn tree(store: &Store, which: &str) -> Result<Tree, CliError> {
    Ok(store.shelf().tree(store.find(which)?)?)
}

/// The agent's own, in its workstation.
fn own(layout: &Layout, out: &mut Out) -> Result<(), CliError> {
    let kept = Service::of_workstation(layout).call(&SnapshotRequest {})?;
    if out.json {
        return out.json(&kept);
    }
    for row in &kept.left_out {
        out.note(&format!("left out: {}: {}", row.place, row.why));
    }
    out.line(kept.tree.map_or_else(|| "nothing".to_owned(), |tree| tree.to_string()))
}

fn snapshot(layout: &Layout, of: &str, limit: u64, out: &mut Out) -> Result<(), CliError> {
    let (tree, left_out) = if of.contains('/') {
        let dir = Dir::open(Path::new(of)).map_err(|source| CliError::Read { path: of.into(), source })?;
        let store = open(layout)?;
        let (tree, odd) = {
            let _progress = Ticking::new(out.json, format!("keeping what is in {of}"));
            store.gather(&dir, limit)?
        };
        deeds::before(layout, Deed::KeepSnapshot, tree.digest(), of, out)?;
        store.put_tree(&tree)?;
        (tree, odd.iter().map(|odd| odd.0.to_string()).collect())
    } else {
        let service = Service::of(layout, "agents");
        let info = agents::find(&service, of)?;
        agents::snapshot(layout, &service, &info, limit, out)?
    };
    if out.json {
        return out.json(&Snapshot { left_out, ..Snapshot::of(&tree) });
    }
    if !left_out.is_empty() {
        out.note(&format!("left out, since they are no files: {}", left_out.join(", ")));
    }
    out.line(tree.digest())
}

/// The workspace of an agent that runs, as its own process has it. Nothing inside can put something else there: the
/// agent's root is read-only, and `workspace` in it is a mount.
pub(crate) fn of_running(service: &Service, info: &AgentInfo) -> Result<Dir, CliError> {
    let ended = || CliError::Refused {
        what: format!("cannot keep the workspace of {}", info.aid),
        why: "it has ended, and its workspace, which is in memory, with it".into(),
        exit: Exit::NotFound,
        next: Some("take the snapshot while it runs, or keep it all with lifetime.retain".into()),
    };
    let pid = info.pid.ok_or_else(ended)?;
    let path = PathBuf::from(format!("/proc/{pid}/root/workspace"));
    let read = |source| CliError::Read { path: path.clone(), source };
    let dir = Dir::open(&path).map_err(read)?;
    // The number may have become another process's meanwhile: only a workspace is an agent's own, and only a process
    // that still is this agent's was its.
    let owner = nix::sys::stat::fstat(&dir).map_err(|error| read(error.into()))?.st_uid;
    let same = agents::find(service, &info.aid.to_string())?.pid == Some(pid);
    if same && uid::is_agents(owner) { Ok(dir) } else { Err(ended()) }
}

/// A snapshot, and the agent that it was just made of.
struct Side {
    tree: Tree,
    of: Option<AgentInfo>,
}

/// What a text means: a snapshot by the first digits of its digest, or else an agent, of which one is made.
fn side(layout: &Layout, which: &str, out: &mut Out) -> Result<Side, CliError> {
    let store = open(layout)?;
    match store.find(which) {
        Ok(digest) => return Ok(Side { tree: store.shelf().tree(digest)?, of: None }),
        Err(StoreError::NotFound(_)) => drop(store),
        Err(error) => return Err(error.into()),
    }
    let service = Service::of(layout, "agents");
    if !service.path().exists() {
        return Err(StoreError::NotFound(which.to_owned()).into());
    }
    let info = agents::find(&service, which)?;
    let (tree, _) = agents::snapshot(layout, &service, &info, LIMIT, out)?;
    out.note(&format!("the workspace of {} is the snapshot {}", info.aid, tree.digest()));
    Ok(Side { tree, of: Some(info) })
}

/// What a fork and its origin, or two forks of one snapshot, have both begun with.
fn common(ours: &Side, theirs: &Side) -> Result<Sha256, CliError> {
    let found = match (&ours.of, &theirs.of) {
        (Some(ours), Some(theirs)) if ours.fork_of == Some(theirs.aid) => ours.workspace,
        (Some(ours), Some(theirs)) if theirs.fork_of == Some(ours.aid) => theirs.workspace,
        (Some(ours), Some(theirs)) => ours.workspace.filter(|begun| theirs.workspace == Some(*begun)),
        _ => None,
    };
    found.ok_or_else(|| CliError::Refused {
        what: "cannot merge".into(),
        why: "it is not known what both were before".into(),
        exit: Exit::Usage,
        next: Some("say --base SNAPSHOT; a fork and its origin need none".into()),
    })
}

fn list(store: &Store, out: &mut Out) -> Result<(), CliError> {
    let trees = store.trees()?.into_iter().map(|digest| store.shelf().tree(digest));
    let snapshots: Vec<Snapshot> =
        trees.map(|tree| tree.map(|tree| Snapshot::of(&tree))).collect::<Result<_, _>>()?;
    if out.json {
        return out.json(&snapshots);
    }
    let mut table = Table::new(&["FILES", "KIB", "SNAPSHOT"]);
    for row in &snapshots {
        let kib = row.bytes.div_ceil(1 << 10);
        table.row([row.entries.to_string(), kib.to_string(), row.snapshot.to_string()]);
    }
    out.table(&table)
}

fn restore(store: &Store, which: &str, into: &Path, out: &mut Out) -> Result<(), CliError> {
    let tree = tree(store, which)?;
    let write = |source: std::io::Error| match source.kind() {
        ErrorKind::AlreadyExists => CliError::Exists { path: into.to_owned() },
        _ => CliError::Write { path: into.to_owned(), source },
    };
    fs::create_dir(into).map_err(write)?;
    let dir = Dir::open(into).map_err(write)?;
    store.shelf().restore(&tree, &dir)?;
    if out.json {
        return out.json(&Snapshot::of(&tree));
    }
    out.line(format_args!("{} is in {}", tree.digest(), into.display()))
}

fn diff(changes: &[Change], out: &mut Out) -> Result<(), CliError> {
    if out.json {
        let rows: Vec<String> = changes.iter().map(ToString::to_string).collect();
        out.json(&rows)?;
    } else {
        changes.iter().try_for_each(|change| out.line(change))?;
    }
    match changes.len() {
        0 => Ok(()),
        count => Err(CliError::Refused {
            what: "the snapshots differ".into(),
            why: format!("{count} places, see above"),
            exit: Exit::Failed,
            next: None,
        }),
    }
}

fn join(layout: &Layout, [base, ours, theirs]: [Tree; 3], out: &mut Out) -> Result<(), CliError> {
    let merged = merge(&base, &ours, &theirs).map_err(|conflicts| {
        let lines: Vec<String> = conflicts.iter().map(|conflict| format!("\n{conflict}")).collect();
        CliError::Refused {
            what: "cannot merge".into(),
            why: format!("{} conflicts{}", conflicts.len(), lines.concat()),
            exit: Exit::Failed,
            next: Some("restore both, make one of the places named, and take a snapshot of it".into()),
        }
    })?;
    let of = format!("{} and {} on {}", ours.digest(), theirs.digest(), base.digest());
    deeds::before(layout, Deed::MergeSnapshots, merged.digest(), &of, out)?;
    open(layout)?.put_tree(&merged)?;
    if out.json { out.json(&Snapshot::of(&merged)) } else { out.line(merged.digest()) }
}

/// The exit code for what is wrong with the store.
pub(crate) fn exit(error: &StoreError) -> Exit {
    match error {
        StoreError::NotFound(_) => Exit::NotFound,
        StoreError::Damaged { .. } | StoreError::Form(..) | StoreError::Stream(_) => Exit::Unverified,
        StoreError::Bytes(_) => Exit::Invalid,
        StoreError::Keep { source, .. } | StoreError::Write { source, .. }
            if source.kind() == ErrorKind::PermissionDenied =>
        {
            Exit::Denied
        }
        StoreError::Keep { .. } | StoreError::Write { .. } | StoreError::Scan(_) => Exit::Failed,
    }
}

/// What to do next.
pub(crate) fn next(error: &StoreError) -> Option<String> {
    let text = match error {
        StoreError::NotFound(_) => "`octant workspace list` shows every snapshot",
        StoreError::Bytes(_) => "take less, or say --limit",
        _ => return None,
    };
    Some(text.to_owned())
}
