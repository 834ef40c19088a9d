//! Workspaces that are kept, and that begin with what was.

use crate::bench::{Bench, plan, wait};
use octant_ids::{Layout, Sha256, uid};
use octant_tree::{Dir, Store};
use octant_workstation::{Bind, Plan, PlanError, Step};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::ExitCode;

/// Keeps a directory with a file, a program and a link that leads out; the snapshot.
fn keep(bench: &Bench, more: &[u8]) -> Sha256 {
    let work = bench.dir.join("work");
    fs::create_dir_all(work.join("src")).unwrap();
    fs::write(work.join("src/main.rs"), "fn main() {}").unwrap();
    fs::write(work.join("more"), more).unwrap();
    fs::write(work.join("run.sh"), "#!/bin/sh").unwrap();
    fs::set_permissions(work.join("run.sh"), fs::Permissions::from_mode(0o755)).unwrap();
    let _there = symlink("/etc/shadow", work.join("link"));
    let store = Store::open(&Layout::under(&bench.dir.join("octant")).workspaces()).unwrap();
    store.snapshot(&Dir::open(&work).unwrap(), 1 << 30).unwrap().0.digest()
}

fn begun(snapshot: Sha256) -> Plan {
    let mut plan = plan(&["snapshot"]);
    plan.snapshot = Some(snapshot);
    plan
}

/// What the agent finds and can do.
pub(crate) fn inside() -> ExitCode {
    let mode = fs::metadata("/workspace/run.sh").unwrap().permissions().mode();
    println!("{} {:o}", fs::read_to_string("/workspace/src/main.rs").unwrap(), mode & 0o777);
    println!("{}", fs::read_link("/workspace/link").unwrap().display());
    fs::write("/workspace/src/main.rs", "changed").unwrap();
    fs::write("/workspace/src/new", "new").unwrap();
    fs::remove_file("/workspace/run.sh").unwrap();
    println!("its own");
    ExitCode::SUCCESS
}

pub(crate) fn a_workspace_begins_with_a_snapshot() {
    let mut bench = Bench::new(None);
    let snapshot = keep(&bench, b"");
    let said = (0, "fn main() {} 755\n/etc/shadow\nits own\n".to_owned());
    assert_eq!(bench.run(&begun(snapshot)), said);
    // What the first has changed, the second does not see.
    assert_eq!(bench.run(&begun(snapshot)), said);
}

pub(crate) fn a_snapshot_that_does_not_fit_refuses_the_spawn() {
    let mut bench = Bench::new(None);
    let refused = |bench: &mut Bench, plan: &Plan| {
        let error = bench.spawn(plan).unwrap_err();
        bench.assert_nothing_is_left(plan);
        (error.step, error.to_string())
    };
    let (step, text) = refused(&mut bench, &begun(Sha256::ZERO));
    assert!(step == Step::Sources && text.contains("octant workspace list"), "{text}");
    // More than the workspace may have.
    let large = keep(&bench, &vec![7; 9 << 20]);
    let (step, text) = refused(&mut bench, &begun(large));
    assert!(step == Step::Sources && text.contains("the workspace takes 8388608 in 256"), "{text}");
    // Within it by its bytes, and not by the room that they take.
    let tight = keep(&bench, &vec![7; (8 << 20) - 30]);
    let (step, text) = refused(&mut bench, &begun(tight));
    assert!(step == Step::Tree && text.contains("No space left"), "{text}");
    // One whose bytes have changed.
    let snapshot = keep(&bench, b"original");
    let name = octant_tree::hash(&mut &b"original"[..]).unwrap().0.to_string();
    let objects = Layout::under(&bench.dir.join("octant")).workspaces().join("objects");
    fs::write(objects.join(&name[..2]).join(&name), b"0riginal").unwrap();
    let (step, text) = refused(&mut bench, &begun(snapshot));
    assert!(step == Step::Tree && text.contains("damaged"), "{text}");
    // Nor can something be granted in it.
    let mut plan = begun(snapshot);
    let (source, target) = ("/usr/lib".into(), "/workspace/lib".into());
    plan.binds.push(Bind { source, target, write: false, exec: false });
    assert_eq!(plan.check(), Err(PlanError::Twice("/workspace/lib".into())));
}

/// How a workspace is kept while its agent runs: through the agent's process, and told by its owner.
pub(crate) fn a_running_agents_workspace_is_read_from_outside() {
    let mut bench = Bench::new(None);
    let plan = plan(&["sleep"]);
    let (spawned, mut output) = bench.spawn(&plan).unwrap();
    crate::read_line(&mut output);
    let workspace = PathBuf::from(format!("/proc/{}/root/workspace", spawned.report.payload_pid));
    assert_eq!(fs::read_to_string(workspace.join("file")).unwrap(), "made inside");
    let owner = fs::symlink_metadata(&workspace).unwrap();
    assert!(owner.is_dir() && uid::is_agents(owner.uid()), "{owner:?}");
    bench.client.retire(plan.slot, plan.aid).unwrap();
    wait(&spawned);
    bench.assert_nothing_is_left(&plan);
}
