//! Children: within their parent in every domain, out of its allotment, and nothing that an operator signed.

use super::{ceiling, here, root, with};
use crate::{
    Delegated, Effective, Kept, Origin, Problem, Retention, RightsError, Roles, VerifyError,
    role::RolesError, template,
};
use octant_ids::Millis;
use proptest::collection::vec;
use proptest::prelude::{Strategy, any, proptest};
use proptest::sample::{select, subsequence};
use proptest::{prop_assert, prop_assert_eq};

fn delegated(text: &str) -> Delegated {
    Delegated::read(text.as_bytes(), &here()).unwrap()
}

/// A manifest that may spawn.
fn spawning(depth: u64, descendants: u64) -> String {
    let may = format!("allowed = true\ndepth = {depth}\ndescendants = {descendants}");
    with("allowed = false", &may)
}

/// The same manifest, for an agent that may spawn.
fn spawning_of(text: &str) -> String {
    text.replace("allowed = false", "allowed = true\ndepth = 1\ndescendants = 4")
}

/// A parent of the role with most, which may spawn.
fn parent(depth: u64, descendants: u64) -> Effective {
    root(&spawning(depth, descendants).replace("\"analyst\"", "\"admin\""), "admin").unwrap()
}

#[test]
fn a_child_executes_what_its_parent_may_only_by_the_same_digest() {
    let line = |more: &str| format!("paths = [\"/opt/tool\"]{more}");
    let pin = |byte: &str| format!("\nsha256 = [\"{}  /opt/tool\"]", byte.repeat(64));
    let pins = |rights: &Effective| rights.grants().pins().iter().count();
    let text = spawning(2, 8).replace("\"analyst\"", "\"admin\"").replace("paths = []", &line(&pin("a")));
    let mut parent = root(&text, "admin").unwrap();
    let mut child = |own: &str| {
        let text = with("paths = []", &line(own)).replace("\"analyst\"", "\"admin\"");
        parent.narrow(&delegated(&text), &ceiling(), None).unwrap()
    };
    let silent = child("");
    assert_eq!(pins(&silent), 1);
    assert!(silent.narrowed().iter().any(|narrowed| narrowed.field == "executables.sha256"));
    assert_eq!(pins(&child(&pin("a"))), 1);
    assert_eq!(pins(&child(&pin("b"))), 2, "which no file has");
}

#[test]
fn a_child_gets_what_it_asks_within_its_parent() {
    let text = spawning(2, 8).replace("read = []", "read = [\"/srv/logs\"]");
    let mut parent = root(&text.replace("join = []", "join = [\"a\", \"b\"]"), "analyst").unwrap();
    let child = with("read = []", "read = [\"/srv/logs/auth\", \"/data\"]")
        .replace("utilities = [\"sh\", \"ls\", \"cat\"]", "utilities = [\"sh\", \"rm\"]")
        .replace("pids_max = 16", "pids_max = 64")
        .replace("join = []", "join = [\"b\", \"c\"]")
        .replace("ttl = \"5min\"", "ttl = \"4min\"");
    let child = parent.narrow(&delegated(&child), &ceiling(), Some(Millis(1000))).unwrap();
    assert!(child.grants().within(parent.grants()));
    assert_eq!(child.read_only().map(|p| p.as_str()).collect::<Vec<_>>(), ["/srv/logs/auth"]);
    assert_eq!(child.utilities().collect::<Vec<_>>(), ["sh"]);
    assert_eq!(child.grants().rooms().iter().collect::<Vec<_>>(), ["b"]);
    assert_eq!(child.resources().pids_max, 16);
    assert_eq!(child.ttl(), Some(Millis(1000)), "not longer than its parent");
    assert_eq!(child.identity().operator, "ada", "who signed for the root answers for it");
    assert_eq!(*child.origin(), Origin::Delegated { parent: parent.digest() });
    let fields: Vec<&str> = child.narrowed().iter().map(|n| n.field).collect();
    for field in
        ["filesystem.read", "executables.utilities", "resources.pids_max", "rooms.join", "lifetime.ttl"]
    {
        assert!(fields.contains(&field), "{field} in {fields:?}");
    }
}

#[test]
fn an_image_is_the_same_one_or_none() {
    let image = |digit: &str| format!("root = \"image:sha256:{}\"\nread = []", digit.repeat(64));
    let program = |text: String| {
        text.replace("\"/bin/sh\"", "\"/app/tool\"").replace("cwd = \"/workspace\"", "cwd = \"/app\"")
    };
    let text = program(with("read = []", &image("a")));
    let mut rights = root(&spawning_of(&text), "analyst").unwrap();
    assert_eq!(rights.narrowed(), []);
    assert_eq!(rights.grants().root().to_string(), format!("sha256:{}", "a".repeat(64)));
    let child = rights.narrow(&delegated(&text), &ceiling(), None).unwrap();
    assert_eq!((child.grants().root(), child.narrowed()), (rights.grants().root(), &[][..]));
    // Another image is not within this one, and so its program is not.
    let other = text.replace(&"a".repeat(64), &"b".repeat(64));
    let reasons = rights.narrow(&delegated(&other), &ceiling(), None).unwrap_err();
    assert!(matches!(reasons[..], [RightsError::ProgramNarrowed(_), ..]), "{reasons:?}");
    // A child of an agent without an image has none.
    let child = with("read = []", &image("a"));
    let child = parent(1, 1).narrow(&delegated(&child), &ceiling(), None).unwrap();
    let narrowed: Vec<_> = child.narrowed().iter().map(|n| (n.field, n.got.as_str())).collect();
    assert_eq!(narrowed, [("filesystem.root", "none")]);
}

#[test]
fn a_child_begins_with_its_parents_snapshot_or_with_none() {
    let line = format!("workspace = \"snapshot:sha256:{}\"\nread = []", "a".repeat(64));
    let text = with("read = []", &line).replace("\"analyst\"", "\"developer\"");
    let mut rights = root(&spawning_of(&text), "developer").unwrap();
    let child = rights.narrow(&delegated(&text), &ceiling(), None).unwrap();
    assert!(child.grants().workspace().digest().is_some());
    assert_eq!(child.grants().workspace(), rights.grants().workspace());
    let other = text.replace(&"a".repeat(64), &"b".repeat(64));
    let child = rights.narrow(&delegated(&other), &ceiling(), None).unwrap();
    assert_eq!(child.grants().workspace().digest(), None);
    // What an operator names when it is spawned is nothing that an agent can choose for a child.
    let open = text.replace(&format!("snapshot:sha256:{}", "a".repeat(64)), "any");
    let mut rights = root(&spawning_of(&open), "developer").unwrap();
    assert_eq!(rights.grants().workspace(), Kept::Any);
    for asked in [&text, &open] {
        let child = rights.narrow(&delegated(asked), &ceiling(), None).unwrap();
        assert_eq!(child.grants().workspace(), Kept::None);
        assert_eq!(child.narrowed()[0].field, "filesystem.workspace");
    }
}

#[test]
fn of_a_child_is_kept_what_both_keep_and_no_more_of_it() {
    let keeping = |lines: &str| with("retain = []", lines);
    let text = keeping(
        "retain = [\"/workspace/out\", \"/workspace/log\"]\nretain_bytes = \"2MiB\"\nretain_files = 9",
    );
    let mut rights = root(&spawning_of(&text), "analyst").unwrap();
    assert_eq!(rights.narrowed(), []);
    let child = keeping("retain = [\"/workspace/out/a\", \"/workspace/private\"]\nretain_files = 2");
    let child = rights.narrow(&delegated(&child), &ceiling(), None).unwrap();
    let kept = child.grants().retain();
    assert_eq!(
        (kept.places.to_string().as_str(), kept.bytes.0, kept.files),
        ("[\"/workspace/out/a\"]", 2 << 20, 2)
    );
    let fields: Vec<_> = child.narrowed().iter().map(|n| n.field).collect();
    assert_eq!(fields, ["lifetime.retain", "lifetime.retain_bytes"]);
    let child = parent(1, 1).narrow(&delegated(&text), &ceiling(), None).unwrap();
    assert_eq!(child.grants().retain(), &Retention::none());
}

#[test]
fn a_child_is_refused_with_all_its_reasons_and_takes_nothing() {
    let mut parent = parent(1, 2);
    let child = spawning(1, 1)
        .replace("executable = \"/bin/sh\"", "executable = \"/bin/rm\"")
        .replace("\"cat\"", "\"rm\"")
        .replace("cwd = \"/workspace\"", "cwd = \"/srv/x\"")
        .replace("read = []", "read = [\"/srv/x\"]")
        .replace("\"ada\"", "\"eve\"")
        .replace("\"analyst\"", "\"wizard\"");
    let reasons = parent.narrow(&delegated(&child), &ceiling(), None).unwrap_err();
    let has = |wanted: fn(&RightsError) -> bool| assert!(reasons.iter().any(wanted), "{reasons:?}");
    has(|e| matches!(e, RightsError::ChildOperator { .. }));
    has(|e| matches!(e, RightsError::UnknownRole { field: "identity.role", .. }));
    has(|e| matches!(e, RightsError::ProgramNarrowed(_)));
    has(|e| matches!(e, RightsError::CwdNarrowed(_)));
    assert_eq!(reasons.len(), 4);
    assert_eq!(parent.allotment().parts(), [2, 0, 0, 0, 0]);
}

#[test]
fn who_may_not_spawn_has_no_child() {
    let mut leaf = root(&template("leaf", "analyst", "ada"), "analyst").unwrap();
    let reasons = leaf.narrow(&delegated(&template("x", "analyst", "ada")), &ceiling(), None).unwrap_err();
    assert_eq!(reasons[0], RightsError::MayNotSpawn);
    assert!(matches!(reasons[1], RightsError::Exhausted(_)), "{reasons:?}");
}

#[test]
fn a_role_gives_only_what_it_may() {
    let mut parent = root(&spawning(2, 8), "analyst").unwrap();
    let child = template("x", "admin", "ada");
    let reasons = parent.narrow(&delegated(&child), &ceiling(), None).unwrap_err();
    assert!(
        matches!(&reasons[..], [RightsError::ChildRole { asked, .. }] if asked == "admin"),
        "{reasons:?}"
    );
    // Its own role bounds it too, and not only its parent.
    let wide = "profile = \"compiler\"";
    let admin = spawning(2, 8).replace("\"analyst\"", "\"admin\"").replace("profile = \"shell\"", wide);
    let mut parent = root(&admin, "admin").unwrap();
    let child = with("profile = \"shell\"", wide);
    let child = parent.narrow(&delegated(&child), &ceiling(), None).unwrap();
    assert_eq!(child.profile().name(), "python");
}

#[test]
fn each_generation_has_one_less_below_it() {
    let mut line = vec![parent(3, 100)];
    for (left, ask) in [(2, 9), (1, 6), (0, 3)] {
        let child = line.last_mut().unwrap().narrow(&delegated(&spawning(9, ask)), &ceiling(), None).unwrap();
        assert_eq!(child.grants().generations(), left);
        line.push(child);
    }
    assert_eq!(
        line[3].allotment().parts(),
        [0, 0, 0, 0, 0],
        "who may spawn nobody holds no descendants back"
    );
    let reasons = line[3].narrow(&delegated(&spawning(1, 1)), &ceiling(), None).unwrap_err();
    assert!(reasons.contains(&RightsError::MayNotSpawn));
}

#[test]
fn a_life_without_end_is_not_handed_down() {
    let text = spawning(1, 4).replace("ttl = \"5min\"", "ttl = \"unlimited\"");
    let approved = ceiling().with_unlimited_lifetime_approved();
    let declared = super::declared(&text, "analyst").unwrap();
    let mut parent = Effective::root(&declared, &approved).unwrap();
    let endless = with("ttl = \"5min\"", "ttl = \"unlimited\"");
    let child = parent.narrow(&delegated(&endless), &ceiling(), None).unwrap();
    assert_eq!(child.ttl(), Some(Millis(8 * 3_600_000)), "its role's");
}

#[test]
fn a_delegated_manifest_is_for_a_machine_and_a_time_too() {
    let elsewhere = with("machines = [\"*\"]", "machines = [\"m2\"]");
    let error = Delegated::read(elsewhere.as_bytes(), &here()).unwrap_err();
    assert!(matches!(error, VerifyError::WrongAudience { .. }), "{error}");
    let over = with("2035-01-01T00:00:00Z", "2020-01-01T00:00:00Z");
    let error = Delegated::read(over.as_bytes(), &here()).unwrap_err();
    assert!(matches!(error, VerifyError::Expired { .. }), "{error}");
    let signed = crate::sign(with("", "").as_bytes(), &[&super::key(1)]);
    assert!(
        matches!(Delegated::read(&signed, &here()), Err(VerifyError::Manifest(_))),
        "an envelope is none"
    );
}

#[test]
fn spawning_is_asked_for_in_full_or_not_at_all() {
    let refused = |to: &str| {
        let error = crate::Draft::parse(with("allowed = false", to).as_bytes()).unwrap_err();
        let first = error.iter().next().unwrap();
        (first.field.clone(), first.problem.clone())
    };
    for (to, field) in
        [("allowed = true", "spawning.depth"), ("allowed = true\ndepth = 1", "spawning.descendants")]
    {
        let (named, problem) = refused(to);
        assert!(named == field && matches!(problem, Problem::Missing(_)), "{to}: {named}");
    }
    for (to, field) in [
        ("depth = 1", "spawning.depth"),
        ("allowed = false\ndescendants = 1", "spawning.descendants"),
        ("allowed = true\ndepth = 0\ndescendants = 1", "spawning.depth"),
        ("allowed = true\ndepth = 17\ndescendants = 1", "spawning.depth"),
        ("allowed = true\ndepth = 1\ndescendants = 0", "spawning.descendants"),
    ] {
        let (named, problem) = refused(to);
        assert!(named == field && matches!(problem, Problem::Impossible { .. }), "{to}: {named}");
    }
    let many: Vec<String> = (0..33).map(|n| format!("\"r{n}\"")).collect();
    let text = with("join = []", &format!("join = [{}]", many.join(", ")));
    assert!(crate::Draft::parse(text.as_bytes()).is_err());
}

#[test]
fn a_role_says_what_it_lets_spawn() {
    let base = include_str!("../roles.toml");
    assert!(matches!(Roles::parse(&base.replace("rooms = \"all\"\n", "")), Err(RolesError::Toml(_))));
    let text = spawning(9, 900);
    let rights = root(&text, "analyst").unwrap();
    let of = |field| rights.narrowed().iter().find(|n| n.field == field).map(|n| n.got.clone());
    assert_eq!(of("spawning.depth").as_deref(), Some("2"));
    assert_eq!(of("spawning.descendants").as_deref(), Some("16"));
    assert_eq!(rights.allotment().parts(), [16, 0, 0, 0, 0]);
}

/// Any manifest of a child that can be read: what it asks in each domain, as lines of the template.
fn wish() -> impl Strategy<Value = String> {
    let list = |of: Vec<&'static str>| {
        let most = of.len();
        subsequence(of, 0..=most).prop_map(|names| format!("{names:?}"))
    };
    let paths = || list(vec!["/srv", "/srv/a", "/srv/a/b", "/data"]);
    let sizes = select(vec!["32MiB", "64MiB", "128MiB"]);
    let domains = (paths(), paths(), list(vec!["sh", "ls", "cat", "rm"]), list(vec!["a", "b"]));
    let policy = select(vec!["terminate", "wind-down", "adopt"]);
    let profile = select(vec!["minimal", "shell", "python", "node", "compiler"]);
    let role = select(vec!["analyst", "developer", "admin"]);
    let spawn = (1_u64..6, 1_u64..12);
    (domains, sizes, 1_u64..64, 1_u64..9, policy, profile, role, spawn).prop_map(
        |(
            (read, write, utilities, rooms),
            memory,
            pids,
            minutes,
            policy,
            profile,
            role,
            (depth, descendants),
        )| {
            spawning(depth, descendants)
                .replace("read = []", &format!("read = {read}"))
                .replace("write = []", &format!("write = {write}"))
                .replace("utilities = [\"sh\", \"ls\", \"cat\"]", &format!("utilities = {utilities}"))
                .replace("executable = \"/bin/sh\"", "executable = \"/data/tool\"")
                .replace("paths = []", "paths = [\"/data\"]")
                .replace("profile = \"shell\"", &format!("profile = {profile:?}"))
                .replace("memory_max = \"64MiB\"", &format!("memory_max = {memory:?}"))
                .replace("memory_high = \"48MiB\"", "memory_high = \"16MiB\"")
                .replace("pids_max = 16", &format!("pids_max = {pids}"))
                .replace("ttl = \"5min\"", &format!("ttl = \"{minutes}min\""))
                .replace("\"terminate\"", &format!("{policy:?}"))
                .replace("join = []", &format!("join = {rooms}"))
                .replace("role = \"analyst\"", &format!("role = {role:?}"))
        },
    )
}

fn total<'a>(all: impl IntoIterator<Item = &'a Effective>) -> u64 {
    all.into_iter().map(|rights| rights.allotment().parts()[0]).sum()
}

proptest! {
    /// A line of five generations, each from whatever its author wrote.
    #[test]
    fn a_child_is_within_every_ancestor_in_every_domain(
        wishes in vec(wish(), 5),
        lefts in vec(proptest::option::of(1_u64..600_000), 5),
    ) {
        let text = spawning(8, 900).replace("\"analyst\"", "\"admin\"")
            .replace("read = []", "read = [\"/srv\", \"/data\"]")
            .replace("write = []", "write = [\"/srv/a\"]")
            .replace("paths = []", "paths = [\"/data\"]")
            .replace("profile = \"shell\"", "profile = \"compiler\"")
            .replace("\"terminate\"", "\"adopt\"")
            .replace("join = []", "join = [\"a\", \"b\"]");
        let mut line = vec![root(&text, "admin").unwrap()];
        let mut spawned = 0;
        for (wish, left) in wishes.iter().zip(lefts) {
            let Ok(wish) = Delegated::read(wish.as_bytes(), &here()) else { continue };
            let before = total(&line);
            let child = line.last_mut().unwrap().narrow(&wish, &ceiling(), left.map(Millis));
            match child {
                Ok(child) => {
                    line.push(child);
                    spawned += 1;
                }
                Err(reasons) => {
                    prop_assert!(!reasons.is_empty());
                    prop_assert_eq!(total(&line), before, "a refusal takes nothing");
                }
            }
        }
        for (i, child) in line.iter().enumerate() {
            for ancestor in &line[..i] {
                prop_assert!(child.grants().within(ancestor.grants()), "{:?}\n{:?}", child, ancestor);
                prop_assert!(child.grants().generations() < ancestor.grants().generations());
                prop_assert_eq!(&child.identity().operator, &ancestor.identity().operator);
            }
        }
        prop_assert_eq!(total(&line) + spawned, 900, "conserved");
    }

    /// Whatever children come and go, what there is and what was used up add up to what there was.
    #[test]
    fn descendants_are_conserved_over_lives(steps in vec((any::<bool>(), 1_u64..6, any::<proptest::sample::Index>()), 0..40)) {
        let mut root = parent(3, 60);
        let (mut children, mut spawned) = (Vec::new(), 0);
        for (spawn, ask, pick) in steps {
            if spawn {
                if let Ok(child) = root.narrow(&delegated(&spawning(1, ask)), &ceiling(), None) {
                    children.push(child);
                    spawned += 1;
                }
            } else if !children.is_empty() {
                root.take_back(children.swap_remove(pick.index(children.len())));
            }
            prop_assert_eq!(total(children.iter().chain([&root])) + spawned, 60);
        }
    }
}

#[test]
fn what_is_known_to_be_left_bounds_an_allotment_and_does_not_raise_it() {
    let mut rights = parent(1, 8);
    rights.limit_allotment([u64::MAX, 5, 5, 5, 5]);
    assert_eq!(rights.allotment().parts(), [8, 0, 0, 0, 0]);
    rights.limit_allotment([3, 0, 0, 0, 0]);
    assert_eq!(rights.allotment().parts(), [3, 0, 0, 0, 0]);
}

#[test]
fn an_agents_own_place_is_not_the_machines_to_hand_down() {
    let text = |read: &str, write: &str, execute: &str| {
        spawning(2, 8)
            .replace("\"analyst\"", "\"admin\"")
            .replace("read = []", &format!("read = [{read}]"))
            .replace("write = []", &format!("write = [{write}]"))
            .replace("paths = []", &format!("paths = [{execute}]"))
            .replace("profile = \"shell\"", "profile = \"python\"")
            .replace("depth = 2", "depth = 1")
            .replace("descendants = 8", "descendants = 1")
    };
    let parent = text("", "\"/tmp/shared\"", "\"/tmp\"").replace("depth = 1", "depth = 2");
    let mut parent = root(&parent.replace("descendants = 1", "descendants = 8"), "admin").unwrap();
    let mut child = |text: &str| parent.narrow(&delegated(text), &ceiling(), None);
    let file = "\"/tmp/x/file\"";
    for text in [text(file, "", ""), text("", "", file), text("\"/tmp/sharedx\"", "", "")] {
        let reasons = child(&text).unwrap_err();
        assert!(
            reasons.iter().any(|reason| matches!(reason, RightsError::ParentsOwn { own: "/tmp", .. })),
            "{reasons:?}"
        );
    }
    let shared = "\"/tmp/shared/a\"";
    for text in [text(shared, "", ""), text("", shared, "\"/tmp\""), text("", "", "\"/tmp\"")] {
        child(&text).unwrap();
    }
}
