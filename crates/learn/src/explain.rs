//! A denied system call in words: by which rule, and what would grant it.

use octant_workstation::{Action, denial, permits, profiles};

/// Why a system call is denied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explained {
    /// The rule.
    pub rule: String,
    /// The manifest's field that decides, where one does.
    pub field: Option<&'static str>,
    /// What would grant it; none when nothing does.
    pub grant: Option<String>,
}

/// Calls that profiles have and the floor denies where they would make a set-user-id file.
const WITH_MODE: [&str; 11] = [
    "chmod",
    "creat",
    "fchmod",
    "fchmodat",
    "fchmodat2",
    "mkdir",
    "mkdirat",
    "mknod",
    "mknodat",
    "open",
    "openat",
];

/// Explains a call by its name.
#[must_use]
pub fn explain(call: &str) -> Explained {
    let add = format!("add = [\"{call}\"] in [syscalls], then octant manifest sign and octant agent spawn");
    let Some(row) = denial(call) else { return of_profiles(call) };
    let why = row.why;
    match row.action {
        Action::Unless => Explained {
            rule: format!("no profile has it: {why}"),
            field: Some("syscalls.add"),
            grant: Some(add),
        },
        Action::Argument => Explained {
            rule: format!("the filter, for the arguments that it had: {why}"),
            field: None,
            grant: None,
        },
        Action::Never => Explained {
            rule: format!("the floor, which no manifest can lift: {why}"),
            field: None,
            grant: None,
        },
        Action::Absent => {
            Explained { rule: format!("it is as on an older kernel: {why}"), field: None, grant: None }
        }
    }
}

/// A call that some profile has, or that nobody knows.
fn of_profiles(call: &str) -> Explained {
    let names: Vec<&str> = profiles().map(|row| row.0).filter(|profile| permits(profile, call)).collect();
    if names.is_empty() {
        return Explained { rule: "no filter knows it".to_owned(), field: None, grant: None };
    }
    let set_id =
        if WITH_MODE.contains(&call) { ", or the floor, which lets nobody make a set-id file" } else { "" };
    Explained {
        rule: format!("its profile, which does not have it{set_id}"),
        field: Some("syscalls.profile"),
        grant: Some(format!("one of the profiles {}, or add = [\"{call}\"] in [syscalls]", names.join(", "))),
    }
}

/// Explains an access that Landlock denied, by the rights that it would have taken and what it was about, as the kernel
/// names them.
#[must_use]
pub fn explain_access(rights: &str, object: &str) -> Explained {
    let any =
        |names: &[&str]| rights.split(',').any(|right| names.iter().any(|name| right.starts_with(name)));
    let path = |field: &'static str| Explained {
        rule: format!("Landlock: {rights} is granted nowhere above it"),
        field: Some(field),
        grant: Some(format!(
            "{object:?}, or a directory above it, in {field}, then octant manifest sign and octant agent spawn"
        )),
    };
    let none = |why: &str| Explained { rule: format!("Landlock: {why}"), field: None, grant: None };
    if any(&["net."]) {
        return Explained {
            rule: "Landlock: an agent without hosts has no ports".to_owned(),
            field: Some("network.hosts"),
            grant: Some("a host in network.hosts, or octant egress lease for one that has some".to_owned()),
        };
    }
    if any(&["scope.signal"]) {
        return none("no process outside of the workstation can be signalled");
    }
    if any(&["scope.", "fs.resolve_unix"]) {
        return none("no socket outside of the workstation can be connected to");
    }
    if any(&["fs.ioctl_dev"]) {
        return none(
            "of a device nothing is granted but reading and writing; programs ask each whether it is a terminal",
        );
    }
    if any(&["fs.make_char", "fs.make_block"]) {
        return none("no device can be made");
    }
    if any(&["fs.write_file", "fs.make_", "fs.remove_", "fs.refer", "fs.truncate"]) {
        return path("filesystem.write");
    }
    if any(&["fs.execute"]) {
        return path("executables.paths");
    }
    if any(&["fs.read_"]) {
        return path("filesystem.read");
    }
    none("a right that this build does not know")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_denied_access_has_the_line_that_would_grant_it() {
        for (rights, field) in [
            ("fs.read_file", Some("filesystem.read")),
            ("fs.read_dir", Some("filesystem.read")),
            ("fs.execute", Some("executables.paths")),
            ("fs.read_file,fs.write_file", Some("filesystem.write")),
            ("fs.make_reg,fs.refer", Some("filesystem.write")),
            ("net.connect_tcp", Some("network.hosts")),
            ("fs.make_char", None),
            ("fs.ioctl_dev", None),
            ("scope.signal", None),
            ("scope.abstract_unix_socket", None),
            ("fs.of_tomorrow", None),
        ] {
            let found = explain_access(rights, "/a/b");
            assert_eq!(found.field, field, "{rights}");
            assert_eq!(found.grant.is_some(), field.is_some(), "{rights}");
        }
        assert!(explain_access("fs.execute", "/a/b").grant.unwrap().contains("\"/a/b\""));
    }

    #[test]
    fn each_denied_call_has_its_reason_and_what_would_grant_it() {
        let floor = explain("mount");
        assert!(floor.rule.starts_with("the floor") && floor.grant.is_none());
        let addable = explain("mq_open");
        assert_eq!(addable.field, Some("syscalls.add"));
        assert!(addable.grant.unwrap().contains("add = [\"mq_open\"]"));
        let argument = explain("socket");
        assert!(argument.rule.contains("local sockets") && argument.grant.is_none());
        let profile = explain("chmod");
        assert!(profile.rule.contains("set-id"));
        let grant = profile.grant.unwrap();
        assert!(grant.contains("shell, ") && !grant.contains("minimal"), "{grant}");
        assert!(!explain("semget").rule.contains("set-id"));
        assert_eq!(explain("4711").grant, None);
    }

    #[test]
    fn every_call_of_the_table_is_explained() {
        for row in octant_workstation::DENIALS {
            let found = explain(row.name);
            assert!(found.rule.contains(row.why), "{}", row.name);
            assert_eq!(found.grant.is_some(), row.action == Action::Unless, "{}", row.name);
        }
    }
}
