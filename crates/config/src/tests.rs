use super::*;
use crate::taker::first_there;
use octant_editions::{BASE, Editions};
use octant_manifest::{SigningKey, Wrong, sign_config};
use proptest::prelude::*;

pub(crate) struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("octant-config-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(path.join("etc/trusted")).unwrap();
        fs::create_dir_all(path.join("state")).unwrap();
        Self(path)
    }

    fn layout(&self) -> Layout {
        Layout::under(&self.0)
    }

    fn trust(&self, key: &SigningKey, operator: &str, role: &str) {
        let file = self.0.join(format!("etc/trusted/{operator}.pub"));
        fs::write(file, key.public_file(operator, role)).unwrap();
    }

    fn take(&self, bytes: &[u8], first: First) -> Result<Taken, TakeError> {
        Here::look(&self.layout())?.take(bytes, "file:/x", first, fine)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn fine(_: &str, _: &[&str], _: &str) -> Result<(), Wrong> {
    Ok(())
}

fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed([seed; 32])
}

fn text(serial: u64, more: &str) -> String {
    format!(
        "config = 1\nserial = {serial}\n[audience]\nmachines = [\"*\"]\nnot_after = 9000-01-01T00:00:00Z\n{more}"
    )
}

fn operators(key: &SigningKey, role: &str) -> String {
    let line = key.public_file("ada", role);
    let key = line.split_whitespace().nth(1).unwrap();
    format!("[operators.ada]\nkey = \"{key}\"\nrole = \"{role}\"\n")
}

fn new(taken: Taken) -> u32 {
    match taken {
        Taken::New(edition, _) => edition,
        Taken::Known(edition) => panic!("{edition} is known"),
    }
}

#[test]
fn an_edition_is_made_of_what_a_trusted_operator_signed_and_its_serial_number_only_grows() {
    let scratch = Scratch::new("take");
    let (ada, eve) = (key(1), key(2));
    scratch.trust(&ada, "ada", "admin");
    scratch.trust(&eve, "eve", "developer");
    let signed = |serial, key: &SigningKey| {
        sign_config(text(serial, "[machine]\nhostname = \"a\"\n").as_bytes(), &[key])
    };
    let first = new(scratch.take(&signed(5, &ada), First::No).unwrap());
    let editions = Editions::of(&scratch.layout());
    assert_eq!(
        (first, editions.current(), editions.serial().unwrap()),
        (1, BASE, 5),
        "it is not in force yet"
    );
    let octant = fs::read_to_string(editions.place(1).join("octant.toml")).unwrap();
    assert_eq!(octant, "[init]\nhostname = \"a\"\n");
    assert!(matches!(scratch.take(&signed(5, &ada), First::No), Ok(Taken::Known(1))));
    let why = |bytes: &[u8]| scratch.take(bytes, First::No).unwrap_err().to_string();
    let other = sign_config(text(5, "").as_bytes(), &[&ada]);
    assert!(
        why(&other).contains("its serial number is 5 and 5 was accepted already; sign it with serial = 6")
    );
    assert!(why(&signed(4, &ada)).contains("serial number is 4"));
    assert!(why(&signed(6, &eve)).contains("eve signed this with the role \"developer\""));
    assert!(why(&signed(6, &key(3))).contains("no trusted key signed this"));
    assert!(why(text(6, "").as_bytes()).contains("octant config sign"));
    fs::write(scratch.0.join("etc/trusted/revoked"), format!("{} lost", ada.id())).unwrap();
    assert!(why(&signed(6, &ada)).contains("was revoked: lost"));
    assert_eq!(
        (editions.list(), editions.serial().unwrap()),
        (vec![1], 5),
        "what is refused changes nothing"
    );
}

#[test]
fn a_machine_that_nobody_owns_takes_its_first_operator_once() {
    let ada = key(1);
    let signed =
        |serial, key: &SigningKey| sign_config(text(serial, &operators(&ada, "admin")).as_bytes(), &[key]);
    let take = |name: &str, first, prepare: &dyn Fn(&Scratch)| {
        let scratch = Scratch::new(name);
        prepare(&scratch);
        let taken = scratch.take(&signed(1, &ada), first).map_err(|error| error.to_string());
        let trust = Editions::of(&scratch.layout()).info(1).map(|info| info.trust);
        taken.map(|_| trust.unwrap())
    };
    let nothing = |_: &Scratch| {};
    assert_eq!(take("first", First::Yes(None), &nothing).unwrap(), "first-use");
    assert_eq!(take("named", First::Yes(Some(ada.id())), &nothing).unwrap(), "named");
    let error = take("other", First::Yes(Some(key(9).id())), &nothing).unwrap_err();
    assert!(error.contains("octant.operator= on the kernel command line names the key"), "{error}");
    let error = take("no", First::No, &nothing).unwrap_err();
    assert!(error.contains("this machine trusts no operator's key"), "{error}");
    let owned = |scratch: &Scratch| scratch.trust(&key(7), "root", "admin");
    let error = take("owned", First::Yes(None), &owned).unwrap_err();
    assert!(error.contains("no trusted key signed this"), "{error}");
    let account = |scratch: &Scratch| {
        fs::create_dir_all(scratch.0.join("state/console")).unwrap();
        fs::write(scratch.0.join("state/console/accounts"), "x").unwrap();
    };
    assert!(take("account", First::Yes(None), &account).is_err(), "an account is an owner");
    let scratch = Scratch::new("stranger");
    let eve = scratch.take(&signed(1, &key(2)), First::Yes(None)).unwrap_err().to_string();
    assert!(eve.contains("no trusted key signed this"), "{eve}");
    let analyst = sign_config(text(1, &operators(&ada, "analyst")).as_bytes(), &[&ada]);
    assert!(scratch.take(&analyst, First::Yes(None)).is_err(), "the first operator is one who may");
    scratch.take(&signed(1, &ada), First::Yes(None)).unwrap();
    let again = sign_config(text(2, &operators(&key(2), "admin")).as_bytes(), &[&key(2)]);
    assert!(scratch.take(&again, First::Yes(None)).is_err(), "the first is the only one");
}

#[test]
fn a_power_cut_before_the_first_edition_is_in_force_leaves_no_machine_without_owners() {
    let (scratch, ada) = (Scratch::new("cut"), key(1));
    let signed = |serial| sign_config(text(serial, &operators(&ada, "admin")).as_bytes(), &[&ada]);
    let first = new(scratch.take(&signed(1), First::Yes(None)).unwrap());
    // Here the power goes; at the next start the same lies at the source.
    let Ok(Taken::Known(edition)) = scratch.take(&signed(1), First::Yes(None)) else { panic!("known") };
    let (editions, source) = (Editions::of(&scratch.layout()), Source::Smbios);
    let known = |edition| taker::known(&editions, edition, &source).unwrap();
    assert!(known(edition).contains("in force now"));
    assert_eq!(editions.current(), first);
    assert!(known(edition).contains("is the one from smbios"));
    // What somebody has chosen since stays.
    scratch.trust(&ada, "ada", "admin");
    let second = new(scratch.take(&signed(2), First::No).unwrap());
    assert!(known(second).contains("is not in force; octant config apply"));
    editions.choose(second).unwrap();
    assert!(known(first).contains("older than what is in force"));
    editions.choose(BASE).unwrap();
    known(second);
    assert_eq!(editions.current(), BASE);
}

#[test]
fn sources_are_told_apart_and_the_first_that_is_there_counts() {
    let parse = |text: &str| text.parse::<Source>().map_err(|error| error.to_string());
    assert_eq!(parse("smbios"), Ok(Source::Smbios));
    assert_eq!(parse("disk:OCTANT-CFG"), Ok(Source::Disk("OCTANT-CFG".into())));
    assert_eq!(parse("file:/a").unwrap().to_string(), "file:/a");
    for text in ["", "url:http://x", "https://x", "file:a", "disk:", "smbios:x", "inline:"] {
        assert!(parse(text).unwrap_err().contains("there is no such source"), "{text}");
    }
    let scratch = Scratch::new("sources");
    let file = |name: &str| Source::File(scratch.0.join(name));
    assert!(file("absent").read().unwrap().is_none());
    fs::write(scratch.0.join("large"), vec![b' '; limits::ENVELOPE_BYTES + 1]).unwrap();
    assert!(matches!(file("large").read(), Err(SourceError::TooLarge(_))));
    std::os::unix::fs::symlink(scratch.0.join("large"), scratch.0.join("link")).unwrap();
    assert!(matches!(file("link").read(), Err(SourceError::Read { .. })), "through no link");
    assert!(matches!(file("state").read(), Err(SourceError::Read { .. })), "no directory");
    fs::write(scratch.0.join("one"), "1").unwrap();
    fs::write(scratch.0.join("two"), "2").unwrap();
    let order = [file("absent"), file("two"), file("one")];
    let (found, absent) = first_there(&order).unwrap();
    assert_eq!((found, absent), (Some((&order[1], b"2".to_vec())), vec![order[0].to_string()]));
    assert!(first_there(&[file("state"), file("one")]).is_err(), "one that cannot be read hides no other");
    for (text, bytes) in [("eyJhIjo_fQ", "{\"a\":?}"), ("eyJhIjo/fQ==", "{\"a\":?}")] {
        let inline = parse(&format!("inline:{text}")).unwrap();
        let read = inline.read().unwrap().unwrap();
        assert_eq!(inline.open(read).unwrap().unwrap(), bytes.as_bytes(), "{text}");
        assert_eq!(inline.to_string(), "inline");
    }
}

proptest! {
    /// Whatever byte of an envelope is another: it is refused, or it says the very same.
    #[test]
    fn a_flipped_byte_is_refused(at in any::<prop::sample::Index>(), bit in 0_u8..8) {
        let scratch = Scratch::new("flip");
        let ada = key(1);
        scratch.trust(&ada, "ada", "admin");
        let whole = text(3, "[machine]\nhostname = \"a\"\n");
        let mut bytes = sign_config(whole.as_bytes(), &[&ada]);
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        if let Ok(Taken::New(_, accepted)) = scratch.take(&bytes, First::No) {
            prop_assert_eq!(accepted.text, whole.into_bytes());
        }
    }
}
