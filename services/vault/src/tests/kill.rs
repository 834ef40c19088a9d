//! Killed at each change of a file, one after the other: a child does a piece of the vault's work, through the service's own
//! methods, and is killed before its n-th change, for every n that there is. Then the vault opens, with what it was made
//! with, and has everything that was acknowledged.

use super::world::{BOOT, Ledger, Scratch, World, call, file, put, run, unseal};
use octant_api::vault::{
    BackupRequest, GrantRequest, InitRequest, Kind, LeaseRequest, ListRequest, Mode, NewSlot, PutRequest,
    RekeyRequest, RestoreRequest, RevealRequest, Revoke, RevokeRequest, RotateRequest, ShowRequest,
    SlotAddRequest, SlotKind, SlotRemoveRequest, State, Subject, UnsealRequest, With,
};
use octant_ids::Aid;
use octant_sys::step::{self, Ended};
use std::fs;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

const SCENE: &str = "OCTANT_VAULT_KILL_SCENE";
const PLACE: &str = "OCTANT_VAULT_KILL_PLACE";
/// More changes than any scene makes: one that never ends is not waited for.
const CHANGES_MAX: usize = 300;
const KEY_FILE: &[u8] = &[5; 48];
const OTHER_FILE: &[u8] = &[6; 48];
const NEW_PASSPHRASE: &[u8] = b"another passphrase";

/// What is acknowledged is written down, a word each.
fn noted(scratch: &Scratch, word: &str) {
    let file = fs::OpenOptions::new().create(true).append(true).open(scratch.path("noted"));
    writeln!(file.unwrap(), "{word}").unwrap();
}

fn was_noted(scratch: &Scratch, word: &str) -> bool {
    fs::read_to_string(scratch.path("noted")).unwrap_or_default().lines().any(|line| line == word)
}

fn open_file(path: &Path, write: bool) -> OwnedFd {
    let file = fs::OpenOptions::new().read(true).write(write).create(write).truncate(false).open(path);
    file.unwrap().into()
}

fn rotate(name: &str) -> RotateRequest {
    RotateRequest { name: name.parse().unwrap(), not_after_ms: None, generate: false }
}

fn agent() -> Aid {
    Aid::new(1_700_000_000_000, [1; 10])
}

/// A value that no part of is taken for the whole.
fn long(byte: u8) -> Vec<u8> {
    vec![byte; 60_000]
}

impl World {
    async fn by_file(&self, bytes: &[u8]) -> bool {
        self.call(&unseal(With::StaticFile), Some(bytes)).await.is_ok()
    }

    async fn value(&self, name: &str, version: Option<u64>) -> Option<Vec<u8>> {
        let request = RevealRequest { name: name.parse().unwrap(), version, reason: "a test".into() };
        self.call(&request, None).await.ok().map(|answer| answer.1.unwrap())
    }

    /// What the child does in each scene.
    async fn play(&self, scene: &str) {
        let note = |word: &str| noted(&self.scratch, word);
        match scene {
            "init" | "replace" => {
                let replace = (scene == "replace").then(|| "a test".to_owned());
                let slot = NewSlot::of(SlotKind::StaticFile);
                self.call(&InitRequest { slot, replace }, Some(OTHER_FILE)).await.unwrap();
                note("init");
                return;
            }
            _ => assert!(self.by_file(KEY_FILE).await),
        }
        match scene {
            "put" => {
                self.put("new", b"a value").await;
                note("new");
                self.put("long", &long(7)).await;
                note("long");
            }
            "rotate" => {
                self.call(&rotate("db"), Some(b"third")).await.unwrap();
                note("third");
                self.call(&rotate("db"), Some(&long(4))).await.unwrap();
                note("fourth");
            }
            "lend" => self.lend().await,
            "slot add" => {
                let slot = NewSlot::of(SlotKind::StaticFile);
                self.call(&SlotAddRequest { slot }, Some(OTHER_FILE)).await.unwrap();
                note("slot");
            }
            "slot remove" => {
                self.call(&SlotRemoveRequest { slot: 1 }, None).await.unwrap();
                note("slot");
            }
            "rekey" => {
                let slots = vec![NewSlot::of(SlotKind::Passphrase)];
                self.call(&RekeyRequest { slots }, Some(NEW_PASSPHRASE)).await.unwrap();
                note("rekey");
                self.put("new", b"a value").await;
                note("new");
            }
            "restore" => {
                let restore = RestoreRequest { reason: "a test".into() };
                let from = open_file(&self.scratch.path("backup"), false);
                self.operator.call_with(&restore, &[from]).await.unwrap();
                note("restore");
            }
            "wear" => {
                for number in 0..4 {
                    self.put(&format!("new/{number}"), b"a value").await;
                    note(&format!("new/{number}"));
                }
            }
            other => panic!("{other:?} is no scene"),
        }
    }

    /// A grant, a lease, and both taken away.
    async fn lend(&self) {
        let grant = GrantRequest {
            name: "db".parse().unwrap(),
            to: Subject::Agent(agent()),
            modes: vec![Mode::Use],
            hosts: Vec::new(),
            ttl_max_ms: None,
            unlimited: true,
            until_ms: None,
            reason: "a test".into(),
        };
        self.call(&grant, None).await.unwrap();
        noted(&self.scratch, "grant");
        let lease = LeaseRequest {
            agent: Some(agent()),
            manifest: None,
            cgroup: None,
            name: "db".parse().unwrap(),
            mode: Mode::Use,
            ttl_ms: None,
        };
        call(&self.agents, &lease, None).await.unwrap();
        noted(&self.scratch, "lease");
        let revoke = RevokeRequest { what: Revoke::Secret("db".parse().unwrap()) };
        assert!(self.call(&revoke, None).await.unwrap().0.durable);
        noted(&self.scratch, "revoke");
    }
}

/// Not a test of its own: the process that the tests below kill.
#[test]
fn child_that_is_traced() {
    let (Ok(scene), Some(place)) = (std::env::var(SCENE), std::env::var_os(PLACE)) else { return };
    step::traced().unwrap();
    // Never dropped: its owner is the parent.
    let scratch = Arc::new(Scratch(place.into()));
    std::mem::forget(Arc::clone(&scratch));
    run(async {
        World::start(scratch, Arc::new(Ledger::default()), &[], BOOT).play(&scene).await;
    });
}

/// Has a child play the scene and kills it before its `n`th change, counted from 0; false when it ended before that.
fn killed(scene: &str, scratch: &Scratch, n: usize) -> bool {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "tests::kill::child_that_is_traced", "--nocapture"])
        .env(SCENE, scene)
        .env(PLACE, &scratch.0)
        .stdout(Stdio::null())
        .spawn();
    match step::kill_before(child.unwrap(), &scratch.path("state"), n).unwrap() {
        Ended::Killed => true,
        Ended::ByItself { code: Some(0), .. } => false,
        ended => panic!("{scene}: {ended:?}"),
    }
}

/// A vault with two slots, a secret of two versions and another one.
fn start() -> Scratch {
    let scratch = Scratch::quick();
    run(async {
        let world = World::start(Arc::new(scratch), Arc::default(), &[], BOOT);
        let slot = NewSlot::of(SlotKind::StaticFile);
        world.call(&InitRequest { slot, replace: None }, Some(KEY_FILE)).await.unwrap();
        let slot = NewSlot::of(SlotKind::Passphrase);
        world.call(&SlotAddRequest { slot }, Some(super::world::PASSPHRASE)).await.unwrap();
        world.put("db", b"first").await;
        world.call(&rotate("db"), Some(b"second")).await.unwrap();
        let other = PutRequest { kind: Kind::Password, ..put("other") };
        world.call(&other, Some(&long(1))).await.unwrap();
        Arc::into_inner(world.end().await.0).unwrap()
    })
}

/// Plays the scene from the same start, killed at each of its changes; `after` looks at what is left.
#[expect(clippy::print_stdout, reason = "shown with a failure: where the kill was")]
fn killed_everywhere(scene: &str, start: &Scratch, after: impl AsyncFn(&World)) -> usize {
    for n in 0..CHANGES_MAX {
        let scratch = Scratch::quick();
        for name in ["state/vault", "backup"] {
            if start.path(name).exists() {
                fs::copy(start.path(name), scratch.path(name)).unwrap();
            }
        }
        let ended = !killed(scene, &scratch, n);
        println!("{scene}: killed before change {n}");
        run(async {
            let making = scratch.path("state/vault.new");
            let world = World::start(Arc::new(scratch), Arc::default(), &[], BOOT);
            assert!(!making.exists(), "what was half made is cleared away");
            assert_ne!(world.vault.status().state, State::Damaged, "{}", world.vault.status().why);
            after(&world).await;
            assert!(!making.exists());
            world.end().await;
        });
        if ended {
            return n;
        }
    }
    panic!("{scene} makes more than {CHANGES_MAX} changes")
}

/// Opens with the file that it was made with, has what was there before, and goes on.
async fn survived(world: &World) {
    assert!(world.by_file(KEY_FILE).await);
    has_what_was_there(world).await;
}

async fn has_what_was_there(world: &World) {
    assert_eq!(world.value("db", Some(1)).await.as_deref(), Some(&b"first"[..]));
    assert_eq!(world.value("db", Some(2)).await.as_deref(), Some(&b"second"[..]));
    assert_eq!(world.value("other", None).await, Some(long(1)));
    // Opened once more, it has what was done after the crash too.
    world.put("after", b"it goes on").await;
    assert_eq!(world.value("after", None).await.as_deref(), Some(&b"it goes on"[..]));
    let bytes = fs::read(file(&world.scratch)).unwrap();
    assert_eq!(bytes.len() as u64, fs::metadata(file(&world.scratch)).unwrap().len());
}

/// What was acknowledged is there, and what was not is there as a whole or not at all.
async fn whole(world: &World, word: &str, name: &str, wanted: &[u8]) {
    match world.value(name, None).await {
        Some(value) => assert_eq!(value, wanted, "{name}"),
        None => assert!(!was_noted(&world.scratch, word), "{name} was acknowledged"),
    }
}

#[test]
fn a_first_vault_can_be_killed_at_every_change() {
    let changes = killed_everywhere("init", &Scratch::quick(), async |world| {
        let there = world.by_file(OTHER_FILE).await;
        assert!(there || !was_noted(&world.scratch, "init"));
        if !there {
            assert_eq!(world.vault.status().state, State::Absent);
            world.play("init").await;
        }
        world.put("after", b"it goes on").await;
    });
    assert!(changes >= 5, "{changes}");
}

#[test]
fn a_vault_in_the_place_of_another_can_be_killed_at_every_change() {
    let start = start();
    let before = fs::read(file(&start)).unwrap();
    let changes = killed_everywhere("replace", &start, async |world| {
        if world.by_file(OTHER_FILE).await {
            let names = fs::read_dir(world.scratch.path("state")).unwrap();
            let kept = names.map(|entry| entry.unwrap().path());
            let mut kept = kept.filter(|path| path.to_str().unwrap().contains("vault.replaced."));
            assert_eq!(fs::read(kept.next().unwrap()).unwrap(), before, "the old one is kept");
        } else {
            assert!(!was_noted(&world.scratch, "init"));
            survived(world).await;
        }
    });
    assert!(changes >= 6, "{changes}");
}

#[test]
fn storing_can_be_killed_at_every_change() {
    let changes = killed_everywhere("put", &start(), async |world| {
        survived(world).await;
        whole(world, "new", "new", b"a value").await;
        whole(world, "long", "long", &long(7)).await;
    });
    assert!(changes >= 5, "{changes}");
}

#[test]
fn rotating_can_be_killed_at_every_change() {
    let changes = killed_everywhere("rotate", &start(), async |world| {
        survived(world).await;
        let version = world.call(&ShowRequest { name: "db".parse().unwrap() }, None).await.unwrap();
        let current = version.0.secret.current;
        let wanted = [b"second".to_vec(), b"third".to_vec(), long(4)];
        assert_eq!(world.value("db", None).await.as_ref(), wanted.get(usize::try_from(current).unwrap() - 2));
        let least = 2
            + u64::from(was_noted(&world.scratch, "third"))
            + u64::from(was_noted(&world.scratch, "fourth"));
        assert!((least..=least + 1).contains(&current), "{current}, {least} was acknowledged");
    });
    assert!(changes >= 5, "{changes}");
}

#[test]
fn lending_can_be_killed_at_every_change() {
    let changes = killed_everywhere("lend", &start(), async |world| {
        survived(world).await;
        let shown = world.call(&ShowRequest { name: "db".parse().unwrap() }, None).await.unwrap().0;
        let (grants, leases) = (shown.grants.len(), shown.leases);
        let noted = |word| was_noted(&world.scratch, word);
        match (noted("grant"), noted("lease"), noted("revoke")) {
            (_, _, true) => assert_eq!((grants, leases), (0, 0)),
            // A revocation that was not acknowledged has happened or not.
            (_, true, false) => assert!([(0, 0), (1, 1)].contains(&(grants, leases))),
            (true, false, _) => assert_eq!(grants, 1),
            (false, ..) => assert_eq!(leases, 0),
        }
    });
    assert!(changes >= 7, "{changes}");
}

#[test]
fn a_new_slot_can_be_killed_at_every_change() {
    let changes = killed_everywhere("slot add", &start(), async |world| {
        let new = world.by_file(OTHER_FILE).await;
        assert!(new || !was_noted(&world.scratch, "slot"));
        world.vault.seal("a test").await;
        survived(world).await;
        assert_eq!(world.vault.status().slots.len(), 2 + usize::from(new));
    });
    assert!(changes >= 5, "{changes}");
}

#[test]
fn a_slot_that_goes_can_be_killed_at_every_change() {
    let changes = killed_everywhere("slot remove", &start(), async |world| {
        survived(world).await;
        match world.vault.status().slots.len() {
            1 => {}
            2 => assert!(!was_noted(&world.scratch, "slot")),
            other => panic!("{other} slots"),
        }
    });
    assert!(changes >= 5, "{changes}");
}

/// Either what the vault was opened with before or what it is opened with from then on, and never neither.
#[test]
fn a_new_data_key_can_be_killed_at_every_change() {
    let changes = killed_everywhere("rekey", &start(), async |world| {
        let old = world.by_file(KEY_FILE).await;
        let by_new = UnsealRequest { ..unseal(With::Passphrase) };
        let new = !old && world.call(&by_new, Some(NEW_PASSPHRASE)).await.is_ok();
        assert!(old || new);
        assert!(new || !was_noted(&world.scratch, "rekey"));
        has_what_was_there(world).await;
        if new {
            whole(world, "new", "new", b"a value").await;
            assert_eq!(world.vault.status().slots.len(), 1);
        }
    });
    assert!(changes >= 7, "{changes}");
}

#[test]
fn a_backup_that_is_put_back_can_be_killed_at_every_change() {
    let start = start();
    let start = run(async {
        let world = World::start(Arc::new(start), Arc::default(), &[], BOOT);
        assert!(world.by_file(KEY_FILE).await);
        let into = open_file(&world.scratch.path("backup"), true);
        world.operator.call_with(&BackupRequest {}, &[into]).await.unwrap();
        world.put("later", b"than the backup").await;
        Arc::into_inner(world.end().await.0).unwrap()
    });
    let before = fs::read(file(&start)).unwrap();
    let changes = killed_everywhere("restore", &start, async |world| {
        survived(world).await;
        if world.value("later", None).await.is_some() {
            assert!(!was_noted(&world.scratch, "restore"));
        } else {
            let names = fs::read_dir(world.scratch.path("state")).unwrap();
            let kept = names.map(|entry| entry.unwrap().path());
            let mut kept = kept.filter(|path| path.to_str().unwrap().contains("before-restore"));
            assert_eq!(fs::read(kept.next().unwrap()).unwrap(), before, "what was there is kept");
        }
    });
    assert!(changes >= 6, "{changes}");
}

#[test]
fn a_worn_file_can_be_killed_at_every_change_while_it_is_written_anew() {
    let start = start();
    let start = run(async {
        let world = World::start(Arc::new(start), Arc::default(), &[], BOOT);
        assert!(world.by_file(KEY_FILE).await);
        // The last of these makes the file's 1022nd change.
        let has = world.vault.status().epoch;
        for number in has..1024 {
            let value = if number % 8 == 0 { vec![3; 2000] } else { vec![3; 10] };
            let request = rotate("worn");
            match number == has {
                true => world.put("worn", &value).await,
                false => drop(world.call(&request, Some(&value)).await.unwrap()),
            }
        }
        Arc::into_inner(world.end().await.0).unwrap()
    });
    let before = fs::metadata(file(&start)).unwrap().len();
    let after = async |world: &World| {
        let len = fs::metadata(file(&world.scratch)).unwrap().len();
        survived(world).await;
        for number in 0..4 {
            let name = format!("new/{number}");
            whole(world, &name, &name, b"a value").await;
        }
        let secrets = world.call(&ListRequest::default(), None).await.unwrap().0.secrets;
        assert!(secrets.iter().any(|secret| secret.name.as_str() == "worn"));
        assert!(len < before / 2 || len >= before, "{len} bytes, and it had {before}");
        len < before / 2
    };
    let seen = std::cell::Cell::new(false);
    let changes = killed_everywhere("wear", &start, async |world| {
        seen.set(after(world).await);
    });
    assert!(seen.get(), "the file was not written anew");
    assert!(changes >= 14, "{changes}");
}
