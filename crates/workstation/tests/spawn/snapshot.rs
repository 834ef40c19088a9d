//! Workspaces that are kept, and that begin with what was.

use crate::bench::{Bench, plan, wait};
use octant_ids::{Layout, Sha256, uid};
use octant_tree::{Dir, LeftOut, Place, Store, Tree, Wish};
use octant_workstation::{Bind, Plan, PlanError, Spawned, Step};
use std::fs::{self, File};
use std::io::BufReader;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
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

/// What an agent leaves behind whose report is to be kept.
pub(crate) fn report() -> ExitCode {
    let file = |name: &str, text: &str| fs::write(format!("/workspace/{name}"), text).unwrap();
    fs::create_dir_all("/workspace/report/figures").unwrap();
    file("report/text", "what was found");
    file("report/figures/one", "1");
    file("report/closed", "closed");
    fs::set_permissions("/workspace/report/closed", fs::Permissions::from_mode(0o000)).unwrap();
    file("private", "not to be kept");
    symlink("/etc/shadow", "/workspace/report/link").unwrap();
    symlink("/etc", "/workspace/way").unwrap();
    println!("made");
    ExitCode::SUCCESS
}

fn retained() -> Plan {
    let mut plan = plan(&["report"]);
    plan.retain = true;
    plan
}

fn wish(places: &[&str]) -> Wish {
    let places = places.iter().map(|place| Place::parse(place.as_bytes()).unwrap()).collect();
    Wish { places: Some(places), bytes: 1 << 20, entries: 64 }
}

/// Has the spawner read, and keeps what comes.
fn collect(
    bench: &mut Bench,
    plan: &Plan,
    wish: &Wish,
    from: BorrowedFd<'_>,
) -> Result<(Tree, LeftOut), String> {
    let (read, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap();
    let reader = bench.client.collect(plan.slot, plan.aid, wish, from, write.as_fd());
    let _reader = reader.map_err(|error| error.to_string())?;
    drop(write);
    let store = Store::open(&bench.dir.join("artefacts")).unwrap();
    let kept = store.unpack(&mut BufReader::new(File::from(read)), wish).map_err(|error| error.to_string());
    // This process reaps, as PID 1 does; of its children only that one ends by itself.
    nix::sys::wait::waitpid(None, Some(nix::sys::wait::WaitPidFlag::__WALL)).unwrap();
    kept
}

fn workspace(spawned: &Spawned) -> OwnedFd {
    spawned.workspace.as_ref().unwrap().try_clone().unwrap()
}

pub(crate) fn what_is_to_be_kept_is_read_after_the_end() {
    let mut bench = Bench::new(None);
    let plan = retained();
    let (spawned, _output) = bench.spawn(&plan).unwrap();
    let mount = workspace(&spawned);
    assert_eq!(wait(&spawned), 0);
    let wish = wish(&["report", "none", "way/passwd"]);
    let (tree, left_out) = collect(&mut bench, &plan, &wish, mount.as_fd()).unwrap();
    let names: Vec<String> = tree.iter().map(|(place, _)| place.to_string()).collect();
    assert_eq!(names, ["report", "report/figures", "report/figures/one", "report/link", "report/text"]);
    let left: Vec<&str> = left_out.named.iter().map(|row| row.0.as_str()).collect();
    assert_eq!(left, ["report/closed", "none", "way/passwd"]);
    let shelf = octant_tree::Shelf::new(&bench.dir.join("artefacts"));
    let again = bench.dir.join("again");
    fs::create_dir(&again).unwrap();
    shelf.restore(&tree, &Dir::open(&again).unwrap()).unwrap();
    assert_eq!(fs::read_to_string(again.join("report/text")).unwrap(), "what was found");
    // The workstation is gone, and its files are there for as long as the handle is.
    bench.client.retire(plan.slot, plan.aid).unwrap();
    bench.assert_nothing_is_left(&plan);
    assert_eq!(collect(&mut bench, &plan, &wish, mount.as_fd()).unwrap().0, tree);
}

pub(crate) fn only_an_ended_agents_workspace_is_read() {
    let mut bench = Bench::new(None);
    let mut running = plan(&["sleep"]);
    running.retain = true;
    let (spawned, mut output) = bench.spawn(&running).unwrap();
    crate::read_line(&mut output);
    let mount = workspace(&spawned);
    let error = collect(&mut bench, &running, &wish(&["file"]), mount.as_fd()).unwrap_err();
    assert!(error.contains("an agent that runs"), "{error}");
    bench.client.kill(running.slot, running.aid).unwrap();
    wait(&spawned);
    assert_eq!(collect(&mut bench, &running, &wish(&["file"]), mount.as_fd()).unwrap().0.len(), 1);
    // Another slot's agent is another user.
    let other = Plan { slot: running.slot + 1, ..running.clone() };
    let error = collect(&mut bench, &other, &wish(&["file"]), mount.as_fd()).unwrap_err();
    assert!(error.contains("no workspace"), "{error}");
    for path in ["/etc", "/tmp", "/proc/self"] {
        let elsewhere = File::open(path).unwrap();
        let error = collect(&mut bench, &running, &wish(&["passwd"]), elsewhere.as_fd()).unwrap_err();
        assert!(error.contains("no workspace"), "{path}: {error}");
    }
    bench.client.retire(running.slot, running.aid).unwrap();
    // One that is not to be kept gives no handle out.
    let plan = plan(&["exit", "0"]);
    let (spawned, _output) = bench.spawn(&plan).unwrap();
    assert!(spawned.workspace.is_none());
    wait(&spawned);
    bench.client.retire(plan.slot, plan.aid).unwrap();
}
