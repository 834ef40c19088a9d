//! What profiles expand to: complete, readable, and within the roles.

use super::{ceiling, declared};
use crate::{Draft, Effective, Host, Io, Machine, Outline, Profile};

fn host(present: &dyn Fn(&str) -> bool) -> Host<'_> {
    Host { machine: Machine { memory_bytes: (6 << 30) + 12_345, cpus: 2 }, present }
}

fn outline(profile: Profile) -> Outline {
    Outline::of_profile(profile, "work", "developer", "ada", &host(&|_| true))
}

#[test]
fn every_profile_expands_to_a_manifest_that_nothing_narrows() {
    for profile in Profile::ALL {
        for text in [outline(profile).text(), outline(profile).in_directory("/home/ada/project").text()] {
            let declared = declared(&text, "developer").unwrap();
            let rights = Effective::root(&declared, &ceiling()).unwrap();
            assert!(rights.narrowed().is_empty(), "{}: {:?}", profile.name(), rights.narrowed());
            assert_eq!(rights.profile(), profile);
        }
    }
}

#[test]
fn an_outline_is_read_as_it_was_written() {
    let mut wish = outline(Profile::Compiler).in_directory("/home/ada/a \"b\"\\c");
    wish.args = vec!["@NAME@".into(), "two\nlines\u{1b}".into(), "é".into()];
    wish.syscalls = vec!["getcpu".into()];
    let text = wish.text();
    let manifest = Draft::parse(text.as_bytes()).unwrap();
    let manifest = manifest.manifest();
    assert_eq!(manifest.program().args, wish.args);
    assert_eq!(manifest.program().cwd.as_str(), wish.cwd);
    assert_eq!(*manifest.asked().resources(), wish.resources);
    assert_eq!(manifest.asked().ttl(), wish.ttl);
    assert_eq!(manifest.validity().not_after_ms, wish.not_after_ms);
    assert!(manifest.asked().syscalls().contains("getcpu"));
    for path in &wish.execute {
        assert!(manifest.asked().execute().iter().any(|p| p.as_str() == path), "{path}");
    }
}

#[test]
fn what_is_not_on_the_machine_is_not_granted() {
    let all = outline(Profile::Python);
    assert!(all.read.iter().any(|p| p == "/etc/ssl/certs") && all.execute.iter().any(|p| p == "/usr"));
    let host = host(&|path| path == "/etc/ld.so.cache");
    let few = Outline::of_profile(Profile::Python, "work", "developer", "ada", &host);
    assert_eq!(few.read, ["/etc/ld.so.cache"]);
    let minimal = outline(Profile::Minimal);
    assert!(minimal.read.is_empty() && minimal.execute.is_empty(), "nothing of the machine");
}

#[test]
fn bounds_on_disks_are_written_where_there_are_some() {
    let mut outline = Outline::minimal("a", "analyst", "ada");
    assert!(!outline.text().contains("io_"));
    outline.resources.io = Io { read_bytes: Some(1 << 20), write_ops: Some(100), ..Io::UNLIMITED };
    let draft = Draft::parse(outline.text().as_bytes()).unwrap();
    assert_eq!(draft.manifest().asked().resources(), &outline.resources);
}
