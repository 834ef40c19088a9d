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

#[cfg(test)]
mod tests {
    use super::*;

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
