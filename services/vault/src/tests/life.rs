//! Making, sealing, unsealing, changing; what is on record and what is not.

use super::world::{
    BOOT, Ledger, Mood, PASSPHRASE, Scratch, World, anywhere, file, put, run, unseal, wall_ms,
};
use crate::service::{FirstBoot, VaultConfig};
use octant_api::error::Code;
use octant_api::vault::{
    BackupRequest, DestroyRequest, InitRequest, Kind, ListRequest, NewSlot, PutRequest, RekeyRequest,
    RemoveRequest, RestoreRequest, RevealRequest, RollbackRequest, RotateRequest, SealRequest, ShowRequest,
    SlotAddRequest, SlotKind, SlotRemoveRequest, State, UnsealRequest, VersionState, With,
};
use octant_ids::SecretName;
use std::fs;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

const CANARY: &[u8] = b"canary-4c1b-do-not-leak";

fn name(text: &str) -> SecretName {
    text.parse().unwrap()
}

fn reveal(text: &str, version: Option<u64>) -> RevealRequest {
    RevealRequest { name: name(text), version, reason: "a test".into() }
}

#[test]
fn a_vault_is_made_used_sealed_and_unsealed_and_the_ledger_has_it_first() {
    run(async {
        let world = World::new();
        assert_eq!(world.vault.status().state, State::Absent);
        let error = world.call(&put("db"), Some(b"x")).await.unwrap_err();
        assert_eq!(error.code, Code::Unavailable);
        let made = world.init().await;
        world.put("db", CANARY).await;
        let (revealed, value) = world.call(&reveal("db", None), None).await.unwrap();
        assert_eq!((revealed.version, value.as_deref()), (1, Some(CANARY)));

        let sealed = world.call(&SealRequest {}, None).await.unwrap().0;
        assert!(sealed.was_unsealed);
        for error in [
            world.call(&reveal("db", None), None).await.unwrap_err(),
            world.call(&ListRequest::default(), None).await.unwrap_err(),
        ] {
            assert_eq!(error.code, Code::Unavailable, "{error}");
            assert!(error.message.contains("sealed"), "{error}");
        }
        assert!(world.vault.line().starts_with("SEALED, waits for passphrase"), "{}", world.vault.line());
        let wrong = world.call(&unseal(With::Passphrase), Some(b"wrong horse battery")).await.unwrap_err();
        assert_eq!(wrong.code, Code::Denied);
        let unsealed = world.unseal().await.unwrap();
        assert_eq!((unsealed.slot, unsealed.status.vault), (Some(0), Some(made.vault)));
        let (_, value) = world.call(&reveal("db", None), None).await.unwrap();
        assert_eq!(value.as_deref(), Some(CANARY));

        world.recorded(14).await;
        let told = world.ledger.told();
        let at = |text: &str| {
            told.iter().position(|told| told == text).unwrap_or_else(|| panic!("{text}: {told:#?}"))
        };
        assert!(at("intent vault init") < at("intent vault put"));
        assert!(at("intent vault put") < at("intent vault reveal"));
        assert!(at("decision vault unseal denied: wrong passphrase") < at("intent vault unseal"));
        assert!(at("grant vault certify done=true") > at("intent vault init"));
        assert!(!world.ledger.text().contains("canary"));
        let (scratch, _) = world.end().await;
        assert_eq!(anywhere(&scratch.0, CANARY), None);
    });
}

#[test]
fn what_a_process_leaves_the_next_one_opens() {
    run(async {
        let world = World::new();
        world.init().await;
        for number in 0..40_u8 {
            world.put(&format!("n{number}"), &[number; 100]).await;
        }
        let epoch = world.vault.status().epoch;
        let (scratch, ledger) = world.end().await;
        let world = World::start(scratch, ledger, &[], BOOT);
        assert_eq!(world.vault.status().state, State::Sealed);
        let status = world.unseal().await.unwrap().status;
        assert_eq!((status.epoch, status.secrets), (epoch, Some(40)));
        let (_, value) = world.call(&reveal("n39", None), None).await.unwrap();
        assert_eq!(value.unwrap(), [39; 100]);
    });
}

#[test]
fn versions_are_rotated_rolled_back_and_destroyed() {
    run(async {
        let world = World::new();
        world.init().await;
        world.put("api/key", b"one").await;
        let rotate = RotateRequest { name: name("api/key"), not_after_ms: None, generate: false };
        assert_eq!(world.call(&rotate, Some(b"two")).await.unwrap().0.version, 2);
        assert_eq!(world.call(&reveal("api/key", None), None).await.unwrap().1.unwrap(), b"two");
        assert_eq!(world.call(&reveal("api/key", Some(1)), None).await.unwrap().1.unwrap(), b"one");
        let back = RollbackRequest { name: name("api/key"), version: 1 };
        world.call(&back, None).await.unwrap();
        assert_eq!(world.call(&reveal("api/key", None), None).await.unwrap().1.unwrap(), b"one");
        assert_eq!(world.call(&back, None).await.unwrap_err().code, Code::Conflict);
        let destroy = |version| DestroyRequest { name: name("api/key"), version };
        assert_eq!(
            world.call(&destroy(1), None).await.unwrap_err().code,
            Code::Conflict,
            "it is the current one"
        );
        world.call(&destroy(2), None).await.unwrap();
        assert_eq!(world.call(&reveal("api/key", Some(2)), None).await.unwrap_err().code, Code::Conflict);
        let shown = world.call(&ShowRequest { name: name("api/key") }, None).await.unwrap().0.secret;
        let states: Vec<VersionState> = shown.versions.iter().map(|version| version.state).collect();
        assert_eq!(states, [VersionState::Active, VersionState::Destroyed]);
        // What is destroyed is gone from what the next process reads, too.
        for number in 0..20_u8 {
            world.call(&rotate, Some(&[number; 8])).await.unwrap();
        }
        let (scratch, ledger) = world.end().await;
        let world = World::start(scratch, ledger, &[], BOOT);
        world.unseal().await.unwrap();
        let shown = world.call(&ShowRequest { name: name("api/key") }, None).await.unwrap().0.secret;
        let kept = shown.versions.iter().filter(|v| v.state != VersionState::Destroyed).count();
        assert_eq!((shown.current, kept), (22, octant_api::vault::VERSIONS_MAX));
        world.call(&RemoveRequest { name: name("api/key") }, None).await.unwrap();
        assert_eq!(world.call(&reveal("api/key", None), None).await.unwrap_err().code, Code::NotFound);
    });
}

#[test]
fn what_is_asked_for_has_limits() {
    run(async {
        let world = World::new();
        world.init().await;
        world.put("there", b"x").await;
        let again = world.call(&put("there"), Some(b"y")).await.unwrap_err();
        assert_eq!(again.code, Code::Conflict);
        let none = world.call(&put("none"), None).await.unwrap_err();
        assert_eq!(none.code, Code::InvalidParams);
        let empty = world.call(&put("empty"), Some(b"")).await.unwrap_err();
        assert_eq!(empty.code, Code::InvalidParams);
        let both = PutRequest { generate: true, ..put("both") };
        assert_eq!(world.call(&both, Some(b"x")).await.unwrap_err().code, Code::InvalidParams);
        let late = PutRequest { not_after_ms: Some(1), ..put("late") };
        assert_eq!(world.call(&late, Some(b"x")).await.unwrap_err().code, Code::InvalidParams);
        let about = PutRequest { about: "x".repeat(513), ..put("about") };
        assert_eq!(world.call(&about, Some(b"x")).await.unwrap_err().code, Code::TooLong);
        let bell = PutRequest { about: "\u{7}".into(), ..put("bell") };
        assert_eq!(world.call(&bell, Some(b"x")).await.unwrap_err().code, Code::InvalidParams);
        let seed = PutRequest { kind: Kind::KeyPair, ..put("seed") };
        assert_eq!(world.call(&seed, Some(b"short")).await.unwrap_err().code, Code::InvalidParams);
        // Somebody who still writes is not waited for.
        let (reader, _writer) = std::io::pipe().unwrap();
        let open = world.operator.call_with(&put("open"), &[OwnedFd::from(reader)]).await;
        assert!(open.unwrap_err().to_string().contains("write it whole"));
        let whole = vec![7; octant_api::vault::VALUE_MAX];
        world.call(&put("whole"), Some(&whole)).await.unwrap();
        assert_eq!(world.call(&reveal("whole", None), None).await.unwrap().1.unwrap(), whole);
        assert_eq!(world.call(&ListRequest::default(), None).await.unwrap().0.secrets.len(), 2);
    });
}

#[test]
fn lists_come_in_pages() {
    run(async {
        let world = World::new();
        world.init().await;
        for text in ["a", "b/1", "b/2", "b/3", "c"] {
            world.put(text, b"x").await;
        }
        let mut request = ListRequest { prefix: "b/".into(), after: None, limit: 2 };
        let page = world.call(&request, None).await.unwrap().0;
        assert_eq!(page.secrets.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(), ["b/1", "b/2"]);
        request.after = page.next;
        let page = world.call(&request, None).await.unwrap().0;
        assert_eq!((page.secrets.len(), page.secrets[0].name.as_str(), page.next), (1, "b/3", None));
        let all = world.call(&ListRequest::default(), None).await.unwrap().0;
        assert_eq!((all.secrets.len(), all.next), (5, None));
    });
}

#[test]
fn a_ledger_that_refuses_or_hangs_makes_the_vault_deny_and_not_hang() {
    run(async {
        let world = World::new();
        world.init().await;
        world.put("db", CANARY).await;
        for mood in [Mood::Refuses, Mood::Hangs] {
            *world.ledger.mood.lock().unwrap() = mood;
            let before = fs::read(file(&world.scratch)).unwrap();
            let started = octant_sys::clock::monotonic_ns();
            let (put, shown) = (put("new"), reveal("db", None));
            let (put, shown) = tokio::join!(world.call(&put, Some(b"x")), world.call(&shown, None));
            for error in [put.map(drop).unwrap_err(), shown.map(drop).unwrap_err()] {
                assert!([Code::Unavailable, Code::Busy].contains(&error.code), "{mood:?}: {error}");
            }
            assert!(octant_sys::clock::monotonic_ns() - started < 5_000_000_000, "{mood:?}");
            assert_eq!(fs::read(file(&world.scratch)).unwrap(), before, "{mood:?}");
        }
        // What takes authority away does not wait.
        assert!(world.call(&SealRequest {}, None).await.unwrap().0.was_unsealed);
        *world.ledger.mood.lock().unwrap() = Mood::Good;
        world.unseal().await.unwrap();
        assert_eq!(world.call(&reveal("db", None), None).await.unwrap().1.unwrap(), CANARY);
    });
}

#[test]
fn slots_are_added_and_removed_and_every_one_opens() {
    run(async {
        let world = World::new();
        world.init().await;
        world.put("db", CANARY).await;
        let file_bytes = [9; 48];
        let add = |slot: NewSlot| SlotAddRequest { slot };
        let added = world.call(&add(NewSlot::of(SlotKind::StaticFile)), Some(&file_bytes)).await.unwrap().0;
        assert_eq!(added.slot.slot, 1);
        let shares = NewSlot { threshold: 2, count: 3, ..NewSlot::of(SlotKind::Shares) };
        let (_, shares) = world.call(&add(shares), None).await.unwrap();
        let shares = String::from_utf8(shares.unwrap()).unwrap();
        let shares: Vec<&str> = shares.lines().collect();
        assert_eq!(shares.len(), 3);
        let status = world.vault.status();
        assert!(status.warnings.iter().any(|warning| warning.contains("static file")), "{status:?}");
        assert_eq!(status.slots.iter().filter(|slot| slot.about.contains("STATIC")).count(), 1);

        world.call(&SealRequest {}, None).await.unwrap();
        let by_file = world.call(&unseal(With::StaticFile), Some(&file_bytes)).await.unwrap().0;
        assert_eq!(by_file.slot, Some(1));
        world.call(&SealRequest {}, None).await.unwrap();
        let first = world.call(&unseal(With::Share), Some(shares[2].as_bytes())).await.unwrap().0;
        assert_eq!((first.slot, first.status.state, first.status.shares), (None, State::Sealed, 1));
        // The same one again is no second one.
        let again = world.call(&unseal(With::Share), Some(shares[2].as_bytes())).await.unwrap().0;
        assert_eq!(again.status.shares, 1);
        let typo = shares[0].replace(['a', 'b', 'c'], "d");
        assert_eq!(
            world.call(&unseal(With::Share), Some(typo.as_bytes())).await.unwrap_err().code,
            Code::Denied
        );
        let second = world.call(&unseal(With::Share), Some(shares[0].as_bytes())).await.unwrap().0;
        assert_eq!((second.slot, second.status.state), (Some(2), State::Unsealed));

        for slot in [0, 1] {
            world.call(&SlotRemoveRequest { slot }, None).await.unwrap();
        }
        assert_eq!(world.call(&SlotRemoveRequest { slot: 2 }, None).await.unwrap_err().code, Code::Conflict);
        world.call(&SealRequest {}, None).await.unwrap();
        assert!(world.unseal().await.is_err(), "the passphrase's slot is gone");
        let short = world.call(&add(NewSlot::of(SlotKind::Passphrase)), Some(b"short")).await.unwrap_err();
        assert_eq!(short.code, Code::Unavailable, "sealed comes first: {short}");
    });
}

#[test]
fn a_new_data_key_leaves_the_old_slots_behind() {
    run(async {
        let world = World::new();
        world.init().await;
        world.put("db", CANARY).await;
        let rotate = RotateRequest { name: name("db"), not_after_ms: None, generate: false };
        world.call(&rotate, Some(b"second")).await.unwrap();
        let old = fs::read(file(&world.scratch)).unwrap();
        let slots = vec![NewSlot::of(SlotKind::Passphrase)];
        world.call(&RekeyRequest { slots }, Some(b"another passphrase")).await.unwrap();
        assert_eq!(world.call(&reveal("db", Some(1)), None).await.unwrap().1.unwrap(), CANARY);
        world.put("after", b"x").await;
        world.call(&SealRequest {}, None).await.unwrap();
        assert!(world.unseal().await.is_err(), "the old passphrase opens nothing");
        let unsealed = world.call(&unseal(With::Passphrase), Some(b"another passphrase")).await.unwrap().0;
        assert_eq!(unsealed.status.secrets, Some(2));
        assert_eq!(world.call(&reveal("db", None), None).await.unwrap().1.unwrap(), b"second");
        // The old file under the old passphrase is a state that the ledger knows to be over.
        fs::write(file(&world.scratch), old).unwrap();
        let (scratch, ledger) = world.end().await;
        let world = World::start(scratch, ledger, &[], BOOT);
        let error = world.unseal().await.unwrap_err();
        assert_eq!(error.code, Code::Unverified, "{error}");
    });
}

#[test]
fn a_file_that_was_set_back_is_noticed_and_an_operator_may_accept_it() {
    run(async {
        let world = World::new();
        world.init().await;
        world.put("one", b"x").await;
        let kept = fs::read(file(&world.scratch)).unwrap();
        world.put("two", b"x").await;
        let count = world.ledger.entries.lock().unwrap().len();
        world.recorded(count).await;
        let (scratch, ledger) = world.end().await;
        fs::write(file(&scratch), kept).unwrap();
        let world = World::start(scratch, ledger, &[], BOOT);
        let error = world.unseal().await.unwrap_err();
        assert_eq!(error.code, Code::Unverified);
        assert!(error.message.contains("set back"), "{error}");
        assert_eq!(world.vault.status().state, State::Sealed);
        let accept =
            UnsealRequest { accept_rollback: Some("I restored it".into()), ..unseal(With::Passphrase) };
        let status = world.call(&accept, Some(PASSPHRASE)).await.unwrap().0.status;
        assert_eq!(status.secrets, Some(1));
        // From there on it is later than anything on record.
        let (scratch, ledger) = world.end().await;
        let world = World::start(scratch, ledger, &[], BOOT);
        world.unseal().await.unwrap();
    });
}

#[test]
fn another_machine_is_refused_until_an_operator_says_otherwise() {
    run(async {
        let here = [("product_uuid", "a"), ("board_serial", "1")];
        let world = World::start(Arc::new(Scratch::new()), Arc::default(), &here, BOOT);
        let fingerprint = world.init().await.fingerprint;
        let (scratch, ledger) = world.end().await;
        let world = World::start(scratch, ledger, &[("product_uuid", "a"), ("board_serial", "2")], BOOT);
        let status = world.unseal().await.unwrap().status;
        assert!(status.warnings.iter().any(|w| w.contains("board_serial was 1 and is 2")), "{status:?}");
        let (scratch, ledger) = world.end().await;
        let there = [("product_uuid", "b"), ("board_serial", "1")];
        let world = World::start(scratch, ledger, &there, BOOT);
        let error = world.unseal().await.unwrap_err();
        assert_eq!(error.code, Code::Denied);
        assert!(error.message.contains("product_uuid was a and is b"), "{error}");
        assert_eq!(world.vault.status().state, State::Sealed);
        let accept = UnsealRequest { accept_machine: Some("moved".into()), ..unseal(With::Passphrase) };
        let status = world.call(&accept, Some(PASSPHRASE)).await.unwrap().0.status;
        assert_eq!(status.fingerprint, Some(fingerprint), "the machine keeps its name");
        let (scratch, ledger) = world.end().await;
        let world = World::start(scratch, ledger, &there, BOOT);
        assert!(world.unseal().await.unwrap().status.warnings.iter().all(|w| !w.contains("hardware")));
    });
}

#[test]
fn a_backup_is_put_back_and_a_damaged_one_is_not() {
    run(async {
        let world = World::new();
        world.init().await;
        world.put("db", CANARY).await;
        let path = world.scratch.path("backup");
        let file_of = |write: bool| {
            let file =
                fs::OpenOptions::new().read(true).write(write).create(write).truncate(false).open(&path);
            OwnedFd::from(file.unwrap())
        };
        let copied = world.operator.call_with(&BackupRequest {}, &[file_of(true)]).await.unwrap().0;
        assert_eq!(copied.bytes, fs::metadata(&path).unwrap().len());
        world.call(&RemoveRequest { name: name("db") }, None).await.unwrap();
        let restore = RestoreRequest { reason: "db was removed by mistake".into() };
        let good = fs::read(&path).unwrap();
        let mut bad = good.clone();
        let last = bad.len() - 1;
        bad[last] ^= 1;
        fs::write(&path, bad).unwrap();
        assert!(world.operator.call_with(&restore, &[file_of(false)]).await.is_err());
        assert_eq!(world.vault.status().state, State::Unsealed, "nothing was changed");
        fs::write(&path, good).unwrap();
        world.operator.call_with(&restore, &[file_of(false)]).await.unwrap();
        assert_eq!(world.vault.status().state, State::Sealed);
        let error = world.unseal().await.unwrap_err();
        assert_eq!(error.code, Code::Unverified, "{error}");
        let accept = UnsealRequest { accept_rollback: Some("the backup".into()), ..unseal(With::Passphrase) };
        world.call(&accept, Some(PASSPHRASE)).await.unwrap();
        assert_eq!(world.call(&reveal("db", None), None).await.unwrap().1.unwrap(), CANARY);
        let aside = fs::read_dir(world.scratch.path("state")).unwrap();
        let aside =
            aside.filter(|e| e.as_ref().unwrap().file_name().to_str().unwrap().contains("before-restore"));
        assert_eq!(aside.count(), 1, "what was there is kept");
    });
}

#[test]
fn a_vault_that_disappeared_is_not_a_first_start() {
    run(async {
        let world = World::new();
        world.init().await;
        let (scratch, ledger) = world.end().await;
        fs::remove_file(file(&scratch)).unwrap();
        fs::write(scratch.path("etc/key"), [3; 64]).unwrap();
        let world = World::start(scratch, ledger, &[], BOOT);
        world.vault.first_boot(&VaultConfig::default()).await;
        assert_eq!(world.vault.status().state, State::Absent);
        assert!(world.vault.status().why.contains("its file is gone"), "{}", world.vault.status().why);
        let slot = NewSlot::of(SlotKind::Passphrase);
        let again = InitRequest { slot: slot.clone(), replace: None };
        assert_eq!(world.call(&again, Some(PASSPHRASE)).await.unwrap_err().code, Code::Conflict);
        let replace = InitRequest { slot, replace: Some("the disk died".into()) };
        world.call(&replace, Some(PASSPHRASE)).await.unwrap();
    });
}

/// Between the intent and the file the power can go; after that it is the first start still.
#[test]
fn a_first_start_that_was_cut_off_is_begun_again() {
    run(async {
        let world = World::new();
        world.init().await;
        let (scratch, ledger) = world.end().await;
        let announced =
            |ledger: &Ledger| ledger.told().iter().filter(|told| *told == "intent vault init").count();
        let intent = ledger.told().iter().position(|told| told == "intent vault init").unwrap();
        ledger.entries.lock().unwrap().truncate(intent + 1);
        fs::remove_file(file(&scratch)).unwrap();
        fs::write(scratch.path("etc/key"), [3; 64]).unwrap();
        let world = World::start(scratch, ledger, &[], BOOT);
        world.vault.first_boot(&VaultConfig::default()).await;
        assert_eq!(world.vault.status().state, State::Unsealed, "{}", world.vault.status().why);
        let (scratch, ledger) = world.end().await;
        assert_eq!(announced(&ledger), 2, "{:?}", ledger.told());
        // The one that came to be counts, with its outcome lost too.
        ledger.entries.lock().unwrap().retain(|entry| entry.intent.is_none());
        fs::remove_file(file(&scratch)).unwrap();
        let world = World::start(scratch, ledger, &[], BOOT);
        world.vault.first_boot(&VaultConfig::default()).await;
        assert_eq!(world.vault.status().state, State::Absent);
        assert!(world.vault.status().why.contains("its file is gone"), "{}", world.vault.status().why);
    });
}

/// What the configuration asks for by name is had or said, and nothing is taken in its place.
#[test]
fn a_first_vault_is_kept_by_what_the_configuration_names() {
    run(async {
        let scratch = Arc::new(Scratch::new());
        fs::write(scratch.path("etc/key"), [3; 64]).unwrap();
        let world = World::start(scratch, Arc::new(Ledger::default()), &[], BOOT);
        let wants = |first_boot| VaultConfig { first_boot, ..VaultConfig::default() };
        world.vault.first_boot(&wants(FirstBoot::Tpm)).await;
        assert_eq!(world.vault.status().state, State::Absent, "a key file is no TPM");
        assert!(world.vault.status().why.contains("none works here"), "{}", world.vault.status().why);
        let key = world.scratch.path("etc/key");
        fs::rename(&key, world.scratch.path("etc/away")).unwrap();
        world.vault.first_boot(&wants(FirstBoot::KeyFile)).await;
        assert!(world.vault.status().why.contains("which is not there"), "{}", world.vault.status().why);
        fs::rename(world.scratch.path("etc/away"), &key).unwrap();
        world.vault.first_boot(&wants(FirstBoot::KeyFile)).await;
        assert_eq!(world.vault.status().state, State::Unsealed);
    });
}

#[test]
fn a_static_file_makes_and_opens_a_vault_without_anybody() {
    run(async {
        let scratch = Arc::new(Scratch::new());
        fs::write(scratch.path("etc/key"), [3; 64]).unwrap();
        let world = World::start(scratch, Arc::new(Ledger::default()), &[], BOOT);
        world.vault.first_boot(&VaultConfig::default()).await;
        assert_eq!(world.vault.status().state, State::Unsealed);
        assert!(world.vault.line().contains("STATIC FILE"), "{}", world.vault.line());
        let (scratch, ledger) = world.end().await;
        let world = World::start(Arc::clone(&scratch), Arc::clone(&ledger), &[], BOOT);
        assert!(!world.vault.unseal_alone(0).await);
        assert_eq!(world.vault.status().state, State::Unsealed);
        world.end().await;
        fs::write(scratch.path("etc/key"), [4; 64]).unwrap();
        let world = World::start(scratch, ledger, &[], BOOT);
        assert!(!world.vault.unseal_alone(0).await);
        assert_eq!(world.vault.status().state, State::Sealed);
        assert!(world.vault.status().why.contains("does not open"), "{}", world.vault.status().why);
    });
}

#[test]
fn a_secret_has_a_time() {
    run(async {
        let world = World::new();
        world.init().await;
        let soon = PutRequest { not_after_ms: Some(wall_ms() + 300), ..put("token") };
        world.call(&soon, Some(b"x")).await.unwrap();
        world.call(&reveal("token", None), None).await.unwrap();
        tokio::time::sleep(Duration::from_millis(350)).await;
        let error = world.call(&reveal("token", None), None).await.unwrap_err();
        assert_eq!(error.code, Code::Conflict);
        assert!(error.message.contains("expired"), "{error}");
        assert!(world.vault.status().warnings.iter().any(|warning| warning.contains("token has expired")));
    });
}
