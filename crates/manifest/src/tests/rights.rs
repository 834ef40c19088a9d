//! From a wish to a right.

use super::{ceiling, declared, one, root, with};
use crate::{Ceiling, Effective, Io, Machine, Origin, RightsError, Roles, role::RolesError, template};

#[test]
fn the_built_in_roles_are_valid_and_ordered_as_they_say() {
    let roles = Roles::parse(include_str!("../roles.toml")).unwrap();
    assert_eq!(Roles::builtin().names().collect::<Vec<_>>(), ["admin", "analyst", "developer"]);
    for name in roles.names() {
        let role = roles.get(name).unwrap();
        for lower in &role.assigns {
            let meet = role.ceiling.meet(&roles.get(lower).unwrap().ceiling);
            assert_eq!(meet, roles.get(lower).unwrap().ceiling, "{lower} is within {name}");
        }
        assert!(role.ceiling.ttl.is_some(), "no role lets an agent live without end");
    }
}

#[test]
fn roles_are_data_and_checked() {
    let base = include_str!("../roles.toml");
    assert!(matches!(Roles::parse("x"), Err(RolesError::Toml(_))));
    assert!(matches!(Roles::parse(&base.replace("nofile", "no_file")), Err(RolesError::Toml(_))));
    assert!(matches!(Roles::parse(&base.replace("\"/srv\"", "\"srv\"")), Err(RolesError::Path(..))));
    let stray = base.replace("assigns = [\"analyst\"]", "assigns = [\"root\"]");
    assert!(matches!(Roles::parse(&stray), Err(RolesError::Assigns(..))));
}

#[test]
fn what_is_within_the_role_is_given_in_full() {
    let text = with("read = []", "read = [\"/srv/logs\"]");
    let rights = root(&text, "analyst").unwrap();
    assert_eq!(rights.narrowed(), []);
    assert_eq!(rights.read_only().map(|p| p.as_str()).collect::<Vec<_>>(), ["/srv/logs"]);
    assert_eq!(rights.utilities().collect::<Vec<_>>(), ["cat", "ls", "sh"]);
    assert_eq!(rights.resources().pids_max, 16);
    assert_eq!(rights.ttl().unwrap().0, 300_000);
    assert!(matches!(rights.origin(), Origin::Signed { operator, .. } if operator == "ada"));
}

#[test]
fn what_is_beyond_the_role_is_narrowed_and_said() {
    let text = with("read = []", "read = [\"/srv/logs\", \"/root\"]")
        .replace("write = []", "write = [\"/srv\"]")
        .replace("profile = \"shell\"", "profile = \"compiler\"")
        .replace("add = []", "add = [\"getcpu\"]")
        .replace("pids_max = 16", "pids_max = 1000")
        .replace("ttl = \"5min\"", "ttl = \"100h\"")
        .replace("\"terminate\"", "\"adopt\"");
    let rights = root(&text, "analyst").unwrap();
    let of = |field| {
        let row = rights.narrowed().iter().find(|n| n.field == field);
        row.map(|n| (n.asked.as_str(), n.got.as_str()))
    };
    assert_eq!(of("filesystem.read"), Some(("[\"/root\", \"/srv\"]", "[\"/srv\"]")));
    assert_eq!(of("filesystem.write"), Some(("[\"/srv\"]", "[\"/srv/reports\"]")));
    assert_eq!(of("syscalls.profile"), Some(("compiler", "python")));
    assert_eq!(of("syscalls.add"), Some(("[\"getcpu\"]", "[]")));
    assert_eq!(of("resources.pids_max"), Some(("1000", "256")));
    assert_eq!(of("lifetime.ttl"), Some(("360000000ms", "28800000ms")));
    assert_eq!(of("lifetime.on_parent_death"), Some(("adopt", "wind-down")));
    assert_eq!(rights.narrowed().len(), 7);
    let text = text.replace("role = \"analyst\"", "role = \"admin\"");
    assert_eq!(root(&text, "admin").unwrap().narrowed(), []);
}

#[test]
fn an_operator_cannot_give_a_role_beyond_its_own() {
    let text = template("hello", "admin", "ada");
    let error = root(&text, "analyst").unwrap_err();
    let (operator, holds, asked) = ("ada".into(), "analyst".into(), "admin".into());
    assert_eq!(error, RightsError::RoleCeiling { operator, holds, asked });
    assert!(root(&text, "admin").is_ok());
    for (named, held) in [("wizard", "admin"), ("analyst", "wizard")] {
        let error = root(&template("hello", named, "ada"), held).unwrap_err();
        assert!(matches!(error, RightsError::UnknownRole { .. }), "{named} by {held}: {error}");
    }
}

#[test]
fn a_limit_that_the_machine_cannot_keep_is_refused() {
    let small = Ceiling::new(&Roles::builtin(), Machine { memory_bytes: 63 << 20, cpus: 2 });
    let text = template("hello", "analyst", "ada");
    let error = Effective::root(&declared(&text, "analyst").unwrap(), &small).map_err(one).unwrap_err();
    assert!(matches!(error, RightsError::BeyondMachine { field: "resources.memory_max", .. }), "{error}");
    let text = with("cpu_quota_percent = 100", "cpu_quota_percent = 201");
    let error = root(&text, "analyst").unwrap_err();
    assert!(matches!(error, RightsError::BeyondMachine { field: "resources.cpu_quota_percent", .. }));
}

#[test]
fn a_life_without_end_needs_an_approval() {
    let text = with("ttl = \"5min\"", "ttl = \"unlimited\"");
    assert_eq!(root(&text, "analyst").unwrap_err(), RightsError::UnlimitedLifetime);
    let approved = ceiling().with_unlimited_lifetime_approved();
    let rights = Effective::root(&declared(&text, "analyst").unwrap(), &approved).unwrap();
    assert_eq!(rights.ttl(), None);
    // The approval does not lengthen a life that has an end.
    let text = with("ttl = \"5min\"", "ttl = \"100h\"");
    let rights = Effective::root(&declared(&text, "analyst").unwrap(), &approved).unwrap();
    assert_eq!(rights.ttl().unwrap().0, 8 * 3_600_000);
}

#[test]
fn a_program_that_is_narrowed_away_is_refused_before_anything_starts() {
    let text = with("executable = \"/bin/sh\"", "executable = \"/root/tool\"")
        .replace("paths = []", "paths = [\"/root\"]");
    assert!(matches!(root(&text, "analyst").unwrap_err(), RightsError::ProgramNarrowed(_)));
    let text = with("cwd = \"/workspace\"", "cwd = \"/root\"").replace("read = []", "read = [\"/root\"]");
    assert!(matches!(root(&text, "analyst").unwrap_err(), RightsError::CwdNarrowed(_)));
}

#[test]
fn a_snapshot_is_for_roles_that_may_see_what_others_made() {
    let line = format!("workspace = \"snapshot:sha256:{}\"\nread = []", "a".repeat(64));
    let text = with("read = []", &line);
    let rights = root(&text, "analyst").unwrap();
    let narrowed: Vec<_> = rights.narrowed().iter().map(|n| (n.field, n.got.as_str())).collect();
    assert_eq!(narrowed, [("filesystem.workspace", "none")]);
    let text = text.replace("role = \"analyst\"", "role = \"developer\"");
    let rights = root(&text, "developer").unwrap();
    assert_eq!(rights.narrowed(), []);
    assert!(rights.grants().workspace().digest().is_some());
}

#[test]
fn a_bound_on_disks_is_what_is_written_and_none_otherwise() {
    let io = |lines: &str| {
        let text = with("nofile = 256", &format!("nofile = 256\n{lines}"));
        root(&text, "analyst").unwrap().resources().io
    };
    assert_eq!(io(""), Io::UNLIMITED);
    assert_eq!(io("").summary(), "unlimited");
    let some = io("io_read_bytes_per_second = \"1MiB\"\nio_write_ops_per_second = 100");
    assert_eq!(some, Io { read_bytes: Some(1 << 20), write_ops: Some(100), ..Io::UNLIMITED });
    assert_eq!(some.summary(), "1MiB read, 100 writes a second");
}
