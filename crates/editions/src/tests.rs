use super::*;
use std::os::unix::fs::PermissionsExt;

struct Scratch(PathBuf, Editions);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("octant-editions-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(path.join("etc/trusted")).unwrap();
        let editions = Editions::of(&Layout::under(&path));
        Self(path, editions)
    }

    /// The store as the next start finds it.
    fn again(&self) -> Editions {
        Editions::of(&Layout::under(&self.0))
    }

    fn set(&self) -> PathBuf {
        self.0.join("etc/trusted")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn info(serial: u64) -> Info {
    Info {
        serial,
        digest: "00".repeat(32),
        source: "file:/a b".into(),
        operator: "ada".into(),
        key: "11".repeat(32),
        trust: "trusted".into(),
        at_ms: 7,
    }
}

fn files(serial: u64) -> Vec<(String, Vec<u8>)> {
    let key = format!("ed25519 KEY{serial} ada role=admin\n");
    let rows = [(OCTANT, "[init]\n".to_owned()), ("trusted/ada.pub", key), (INFO, info(serial).text())];
    rows.into_iter().map(|(name, text)| (name.to_owned(), text.into_bytes())).collect()
}

fn good(editions: &Editions, serial: u64) -> u32 {
    let edition = editions.add(serial, &files(serial)).unwrap();
    editions.choose(edition).unwrap();
    editions.mark_good(edition).unwrap();
    edition
}

#[test]
fn what_is_known_of_an_edition_is_read_as_it_was_written() {
    assert_eq!(Info::parse(&info(3).text()), Some(info(3)));
    let spoiled = Info { source: "disk:A\nserial 9".into(), ..info(3) };
    assert_eq!(Info::parse(&spoiled.text()).unwrap().serial, 3, "a source adds no line of its own");
    assert_eq!(Info::parse("serial 3\n"), None);
}

#[test]
fn an_edition_that_never_worked_is_left_after_two_starts_and_never_taken_again() {
    let scratch = Scratch::new("tries");
    let editions = &scratch.1;
    assert_eq!(editions.begin(), Choice { edition: BASE, open: false, words: Vec::new() });
    let first = good(editions, 5);
    let second = editions.add(6, &files(6)).unwrap();
    assert_eq!((editions.current(), editions.serial().unwrap()), (first, 6));
    editions.choose(second).unwrap();
    for _ in 0..TRIES {
        assert_eq!(scratch.again().begin(), Choice { edition: second, open: true, words: Vec::new() });
    }
    let third = scratch.again().begin();
    assert_eq!((third.edition, third.open), (first, false));
    assert!(third.words[0].contains("did not get healthy with it in 2 starts; configuration 1 again"));
    assert!(editions.choose(second).unwrap_err().to_string().contains("did not work"));
    assert!(editions.choose(77).unwrap_err().to_string().contains("no such edition"));
    assert_eq!(editions.worked(), Some(first));
}

#[test]
fn an_orderly_end_does_not_count_as_a_try() {
    let scratch = Scratch::new("orderly");
    let edition = scratch.1.add(1, &files(1)).unwrap();
    scratch.1.choose(edition).unwrap();
    for _ in 0..5 {
        assert!(scratch.again().begin().open);
        scratch.again().uncount().unwrap();
    }
    for _ in 0..5 {
        assert_eq!(scratch.again().begin().edition, edition, "there is nothing to go back to");
    }
    assert_eq!(scratch.again().fall_back(edition, "no health").unwrap(), BASE);
    assert_eq!(scratch.again().begin().edition, BASE);
}

#[test]
fn the_edition_that_brought_the_first_operator_is_not_left_for_nobody() {
    let scratch = Scratch::new("first");
    let editions = &scratch.1;
    editions.mark_good(BASE).unwrap();
    let mut with = files(1);
    with.pop();
    with.push((INFO.into(), Info { trust: "first-use".into(), ..info(1) }.text().into_bytes()));
    let first = editions.add(1, &with).unwrap();
    editions.choose(first).unwrap();
    assert_eq!((editions.worked(), editions.way_back(first)), (Some(BASE), None));
    assert!((0..5).all(|_| scratch.again().begin().edition == first));
    editions.mark_good(first).unwrap();
    let second = editions.add(2, &files(2)).unwrap();
    assert_eq!(editions.way_back(second), Some(first));
}

#[test]
fn an_edition_that_is_gone_is_left_for_the_one_that_worked() {
    let scratch = Scratch::new("gone");
    let (first, second) = (good(&scratch.1, 1), good(&scratch.1, 2));
    assert_eq!(scratch.1.worked(), Some(second));
    scratch.1.choose(first).unwrap();
    fs::remove_dir_all(scratch.1.place(first)).unwrap();
    let choice = scratch.again().begin();
    assert_eq!((choice.edition, choice.words.len()), (BASE, 1), "{choice:?}");
    fs::write(scratch.1.dir().join("serial"), "many").unwrap();
    assert!(scratch.again().serial().is_err(), "what is not known is not 0");
}

/// The power goes after each step of taking, choosing, marking and leaving an edition.
#[test]
fn after_a_power_cut_at_any_step_there_is_a_whole_edition_and_the_serial_number_never_falls() {
    for cut in 0.. {
        let scratch = Scratch::new("cut");
        let first = good(&scratch.1, 1);
        let other = scratch.again();
        other.disk.left.set(Some(cut));
        let done = other.add(2, &files(2)).and_then(|second| {
            other.choose(second)?;
            other.mark_good(second)?;
            let third = other.add(3, &files(3))?;
            other.choose(third)?;
            other.fall_back(third, "no health")
        });
        let after = scratch.again();
        let (serial, choice) = (after.serial().unwrap(), after.begin());
        assert!(choice.edition >= first, "cut {cut}: {choice:?}");
        let place = after.place(choice.edition);
        for name in [OCTANT, "trusted/ada.pub"] {
            assert!(!fs::read(place.join(name)).unwrap().is_empty(), "cut {cut}: {name}");
        }
        let in_force = after.info(choice.edition).unwrap().serial;
        assert!(serial >= in_force && after.list().iter().all(|n| after.info(*n).unwrap().serial <= serial));
        assert!(!after.dir().join("new").exists(), "cut {cut}");
        // Whatever is in force, another one can be taken and works.
        assert!(good(&after, 9) > choice.edition, "cut {cut}");
        if done.is_ok() {
            assert!(cut > 30, "the steps are counted: {cut}");
            return;
        }
    }
}

#[test]
fn few_old_editions_are_kept_and_never_the_one_that_worked() {
    let scratch = Scratch::new("prune");
    for serial in 1..30 {
        good(&scratch.1, serial);
    }
    assert_eq!(scratch.1.list(), (21..30).collect::<Vec<u32>>());
}

#[test]
fn an_editions_keys_come_and_go_beside_those_of_the_operator() {
    let scratch = Scratch::new("trust");
    let (editions, set) = (&scratch.1, scratch.set());
    fs::write(set.join("root.pub"), "ed25519 ROOT root role=admin\n").unwrap();
    fs::write(set.join("revoked"), "aa lost").unwrap();
    let mut with = files(1);
    with.push(("trusted/root.pub".into(), b"ed25519 ROOT root role=analyst\n".to_vec()));
    with.push(("trusted/revoked".into(), b"aa other words\nbb stolen\n".to_vec()));
    let first = editions.add(1, &with).unwrap();
    let words = editions.trust(first, &set).unwrap();
    assert_eq!(words, ["the key of config-root.pub is in root.pub already, which stays as it is"]);
    let names = || {
        let mut names: Vec<String> = fs::read_dir(&set)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    let mode = fs::metadata(set.join("config-ada.pub")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o644, "services read it");
    assert_eq!(names(), ["config-ada.pub", "revoked", "root.pub"]);
    assert_eq!(fs::read_to_string(set.join("revoked")).unwrap(), "aa lost\nbb stolen\n");
    assert!(editions.trust(BASE, &set).unwrap().is_empty());
    assert_eq!(names(), ["revoked", "root.pub"], "what is revoked stays so");
}

/// A set in memory, as on a machine whose `/etc` is the image's; the state is on a disk all the same.
fn in_memory(scratch: &Scratch) -> Layout {
    let etc = PathBuf::from(format!("/dev/shm/octant-editions-{}", std::process::id()));
    let _ = fs::remove_dir_all(&etc);
    fs::create_dir_all(etc.join("trusted")).unwrap();
    Layout { etc, ..Layout::under(&scratch.0) }
}

#[test]
fn what_was_said_of_a_set_in_memory_is_there_after_the_next_boot() {
    const OWNER: &str = "ed25519 OWNER alice role=admin\n";
    let scratch = Scratch::new("kept");
    let layout = in_memory(&scratch);
    let set = layout.trusted();
    let boots = |image: &[(&str, &str)]| {
        fs::remove_dir_all(&set).unwrap();
        fs::create_dir_all(&set).unwrap();
        image.iter().for_each(|(name, text)| fs::write(set.join(name), text).unwrap());
        remember(&layout)
    };
    let read = |name: &str| fs::read_to_string(set.join(name)).unwrap_or_default();
    assert!(boots(&[]).unwrap().is_empty(), "nothing was ever said");
    assert_eq!(fs::read_dir(&set).unwrap().count(), 0);
    assert!(keep(&layout, "alice.pub", OWNER).unwrap());
    assert!(keep(&layout, "revoked", "aa lost\n").unwrap());
    assert!(boots(&[("revoked", "bb stolen")]).unwrap().is_empty());
    assert_eq!((read("alice.pub").as_str(), read("revoked").as_str()), (OWNER, "bb stolen\naa lost\n"));
    let mode = fs::metadata(layout.trusted_kept()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    // The same key under two names would make the set unreadable.
    let words = boots(&[("owner.pub", "ed25519 OWNER alice role=analyst\n")]).unwrap();
    assert_eq!(words.len(), 1, "{words:?}");
    assert!(words[0].contains("owner.pub of the image counts"), "{words:?}");
    assert!(!set.join("alice.pub").exists());
    // What is not known may be a revocation.
    fs::create_dir(layout.trusted_kept().join("bob.pub")).unwrap();
    assert!(boots(&[("owner.pub", OWNER)]).is_err());
    let strays = || fs::read_dir(&set).unwrap().flatten().any(|e| e.path().extension().is_none());
    assert!(strays(), "a set with a stray file in it trusts nobody");
    fs::remove_dir(layout.trusted_kept().join("bob.pub")).unwrap();
    remember(&layout).unwrap();
    let names: Vec<_> = fs::read_dir(&set).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "{names:?}: the owner's key and what is revoked");
    fs::remove_dir_all(&layout.etc).unwrap();
    // On a disk it lasts by itself, and there is one place where it is said.
    assert!(!keep(&Layout::under(&scratch.0), "alice.pub", OWNER).unwrap());
}
