//! Profiles and filters.

use crate::confine;
use crate::profile::{BASE, Profile, ProfileError};
use octant_ids::Layout;
use std::path::{Path, PathBuf};

#[test]
fn the_base_profile_is_valid_and_makes_a_filter() {
    let profile = Profile::parse(BASE).unwrap();
    assert!(confine::filter(&profile).is_ok());
    for (i, line) in profile.syscalls.iter().enumerate() {
        let same = |other: &&crate::profile::Syscall| other.name == line.name && other.args.is_empty();
        assert!(profile.syscalls[..i].iter().find(same).is_none(), "{} is allowed twice", line.name);
    }
}

#[test]
fn what_no_service_needs_is_in_no_base() {
    let profile = Profile::parse(BASE).unwrap();
    for name in [
        "execve",
        "execveat",
        "fork",
        "vfork",
        "ptrace",
        "mount",
        "setuid",
        "bpf",
        "io_uring_setup",
        "kill",
        "bind",
    ] {
        assert!(profile.syscalls.iter().all(|line| line.name != name), "{name}");
    }
}

#[test]
fn profiles_without_reasons_or_with_unknown_names_are_refused() {
    let parse = |text: &str| Profile::parse(text).unwrap_err();
    assert!(matches!(parse("{"), ProfileError::Json(_)));
    assert!(matches!(parse(r#"{"more":1}"#), ProfileError::Json(_)));
    assert!(matches!(parse(r#"{"syscalls":[{"name":"read","why":" "}]}"#), ProfileError::NoReason(_)));
    assert!(matches!(
        parse(r#"{"paths":[{"path":"/x","access":"read","why":""}]}"#),
        ProfileError::NoReason(_)
    ));
    assert!(matches!(parse(r#"{"signals":""}"#), ProfileError::NoReason(_)));
    for (text, found) in [
        (r#"{"syscalls":[{"name":"reed","why":"x"}]}"#, "reed"),
        (r#"{"syscalls":[{"name":"read","args":[{"index":6,"value":0}],"why":"x"}]}"#, "argument 6"),
    ] {
        let profile = Profile::parse(text).unwrap();
        match confine::filter(&profile) {
            Err(confine::FilterError::Profile(error)) => assert!(error.to_string().contains(found)),
            _ => panic!("{text}"),
        }
    }
}

#[test]
fn granted_paths_follow_the_layout() {
    let layout = Layout::under(Path::new("/o"));
    let cgroup = PathBuf::from("/sys/fs/cgroup/agents");
    let place = |path: &str, cgroup: Option<&PathBuf>| {
        let text = format!(r#"{{"paths":[{{"path":"{path}","access":"write","why":"x"}}]}}"#);
        Profile::parse(&text).unwrap().paths[0].place(&layout, cgroup)
    };
    assert_eq!(place("{etc}/trusted", None).unwrap(), Some(PathBuf::from("/o/etc/trusted")));
    assert_eq!(place("{run}", None).unwrap(), Some(PathBuf::from("/o/run")));
    assert_eq!(place("/proc", None).unwrap(), Some(PathBuf::from("/proc")));
    assert_eq!(place("{agents_cgroup}", Some(&cgroup)).unwrap(), Some(cgroup.clone()));
    assert_eq!(place("{agents_cgroup}", None).unwrap(), None);
    for bad in ["relative", "{home}/x", "{etc"] {
        assert!(matches!(place(bad, None), Err(ProfileError::Place(_))), "{bad}");
    }
}
