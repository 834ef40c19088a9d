//! A state that is not the plan's is refused, whichever part of it was tampered with.

use super::*;
use crate::plan::tests::sample;
use octant_ids::uid::AGENT_RANGE;

const OWN: u64 = 1;
/// What the fake kernel's `/proc` has to mask.
pub(crate) const MASKED: [&str; 2] = ["/proc/kcore", "/proc/sys"];

fn own() -> Vec<(String, u64)> {
    NAMESPACE_NAMES.iter().map(|name| ((*name).to_owned(), OWN)).collect()
}

/// What the kernel would show of a process that is as the sample plan says.
pub(crate) fn as_planned(plan: &Plan, role: Role) -> Observed {
    let base = plan.uid_base().unwrap();
    let users = Users::Range(base);
    let (agent, keeper) = (users.agent(), users.reaper());
    let own = own();
    let expected = Expected {
        plan,
        masked: &MASKED,
        users,
        leaf: None,
        own_namespaces: &own,
        network: OWN + 1,
        stdio: &[],
    };
    let option = |bits: u64, bit: u64, name: &str| (bits & bit != 0).then(|| name.to_owned());
    let mounts = expected.mounts().into_iter().map(|(at, bits)| Mount {
        at,
        options: [
            Some(if bits & attr::RDONLY == 0 { "rw" } else { "ro" }.to_owned()),
            option(bits, attr::NOSUID, "nosuid"),
            option(bits, attr::NODEV, "nodev"),
            option(bits, attr::NOEXEC, "noexec"),
        ]
        .into_iter()
        .flatten()
        .collect(),
        propagation: String::new(),
        kind: "tmpfs".into(),
    });
    let map = format!("         0 {base:>10} {AGENT_RANGE:>10}\n");
    Observed {
        uids: match role {
            Role::Payload => vec![agent; 4],
            Role::Reaper => vec![agent, keeper, keeper, keeper],
        },
        gids: vec![agent; 4],
        groups: vec![],
        capabilities: vec![0; 5],
        no_new_privs: true,
        seccomp: 2,
        filters: if role == Role::Payload { 3 } else { 2 },
        uid_map: map.clone(),
        gid_map: map,
        namespaces: NAMESPACE_NAMES.iter().map(|name| ((*name).to_owned(), OWN + 1)).collect(),
        mounts: mounts.collect(),
        descriptors: match role {
            Role::Reaper => vec![(9, "socket:[7]".into())],
            Role::Payload => vec![
                (0, "/dev/null".into()),
                (1, "pipe:[5]".into()),
                (2, "pipe:[6]".into()),
                (3, "socket:[7]".into()),
            ],
        },
    }
}

fn judge(role: Role, seen: &Observed) -> Result<(), Disagreement> {
    let plan = sample();
    judge_by(&plan, Users::Range(plan.uid_base().unwrap()), &[], role, seen)
}

fn judge_by(
    plan: &Plan,
    users: Users,
    stdio: &[String],
    role: Role,
    seen: &Observed,
) -> Result<(), Disagreement> {
    let own = own();
    Expected { plan, masked: &MASKED, users, leaf: None, own_namespaces: &own, network: OWN + 1, stdio }
        .agrees(role, seen)
}

#[test]
fn standard_descriptors_of_a_person_are_the_given_ones_and_no_others() {
    let plan = Plan { stdio: Stdio::Caller, ..sample() };
    let users = Users::Range(plan.uid_base().unwrap());
    let given = ["/home/ada/in", "pipe:[5]", "/dev/pts/0"].map(str::to_owned);
    let mut seen = as_planned(&plan, Role::Payload);
    for (number, name) in (0..).zip(&given) {
        seen.descriptors[number as usize] = (number, name.clone());
    }
    assert_eq!(judge_by(&plan, users, &given, Role::Payload, &seen), Ok(()));
    assert!(judge(Role::Payload, &seen).is_err(), "a service gives pipes");
    seen.descriptors[2].1 = "/dev/pts/1".into();
    assert!(judge_by(&plan, users, &given, Role::Payload, &seen).is_err());
    // The reaper has the pipe for what was stopped besides, where there is one.
    let mut seen = as_planned(&plan, Role::Reaper);
    seen.descriptors.push((10, "pipe:[8]".into()));
    assert_eq!(judge_by(&plan, users, &given, Role::Reaper, &seen), Ok(()));
    assert!(judge(Role::Reaper, &seen).is_err());
}

#[test]
fn one_user_is_that_of_the_spawner_alone() {
    let plan = sample();
    let mut seen = as_planned(&plan, Role::Reaper);
    (seen.uids, seen.gids, seen.groups) = (vec![0; 4], vec![0; 4], vec![65_534]);
    assert!(judge_by(&plan, Users::One, &[], Role::Reaper, &seen).is_err(), "a range is mapped");
    let map = "      1000          0          1\n";
    (seen.uid_map, seen.gid_map) = (map.into(), map.into());
    assert_eq!(judge_by(&plan, Users::One, &[], Role::Reaper, &seen), Ok(()));
    assert!(judge(Role::Reaper, &seen).is_err());
}

#[test]
fn the_planned_state_passes() {
    for role in [Role::Reaper, Role::Payload] {
        assert_eq!(judge(role, &as_planned(&sample(), role)), Ok(()));
    }
    // The reaper lets go of the channel as soon as it has spoken.
    let mut gone = as_planned(&sample(), Role::Reaper);
    gone.descriptors.clear();
    assert_eq!(judge(Role::Reaper, &gone), Ok(()));
}

#[test]
fn every_tampered_part_is_refused_by_its_name() {
    type Change = fn(&mut Observed);
    let cases: [(Change, &str); 26] = [
        (|s| s.uids[0] = 0, "the user"),
        (|s| s.uids[2] = 0, "the user"),
        (|s| s.uids[3] += 1, "the user"),
        (|s| s.gids[1] = 0, "the group"),
        (|s| s.groups.push(0), "the group"),
        (|s| s.capabilities[0] = 1, "the capabilities"),
        (|s| s.capabilities[3] = 1 << 21, "the capabilities"),
        (|s| s.capabilities[4] = 1 << 40, "the capabilities"),
        (|s| s.no_new_privs = false, "no_new_privs"),
        (|s| s.seccomp = 0, "seccomp"),
        (|s| s.filters = 2, "seccomp"),
        (|s| s.uid_map = "0 0 4294967295\n".into(), "the uid map"),
        (|s| s.gid_map = s.gid_map.replace("65536", "65537"), "the gid map"),
        (|s| s.uid_map += "65536 0 1\n", "the uid map"),
        (|s| s.namespaces[3].1 = OWN, "a namespace"),
        (|s| s.namespaces[6].1 = OWN, "a namespace"),
        (|s| s.namespaces[3].1 += 1, "the network"),
        (|s| drop(s.namespaces.pop()), "the list of namespaces"),
        (|s| s.descriptors.push((4, "/etc".into())), "the list of descriptors"),
        (|s| s.descriptors[0].1 = "/srv".into(), "the list of descriptors"),
        (|s| drop(s.mounts.pop()), "the list of mounts"),
        (|s| s.mounts.push(s.mounts[0].clone()), "the list of mounts"),
        (|s| s.mounts[0].propagation = "shared:1".into(), "a mount"),
        (|s| mount(s, "/").retain(|o| o != "ro"), "a mount"),
        (|s| mount(s, "/srv/logs").retain(|o| o != "ro"), "a mount"),
        (|s| mount(s, "/workspace").retain(|o| o != "noexec"), "a mount"),
    ];
    for (change, what) in cases {
        // What their namespaces have is looked at with the reaper.
        let refused = [Role::Payload, Role::Reaper].into_iter().find_map(|role| {
            let mut seen = as_planned(&sample(), role);
            change(&mut seen);
            judge(role, &seen).err()
        });
        assert_eq!(refused.unwrap().what, what);
    }
}

fn mount<'a>(seen: &'a mut Observed, at: &str) -> &'a mut Vec<String> {
    &mut seen.mounts.iter_mut().find(|m| m.at == at).unwrap().options
}

#[test]
fn the_agent_shares_no_namespace_and_the_reaper_only_its_clock() {
    let mut seen = as_planned(&sample(), Role::Reaper);
    let time = seen.namespaces.iter().position(|ns| ns.0 == "time").unwrap();
    seen.namespaces[time].1 = OWN;
    assert_eq!(judge(Role::Reaper, &seen), Ok(()));
    let mut seen = as_planned(&sample(), Role::Payload);
    seen.namespaces[time].1 = OWN;
    assert_eq!(judge(Role::Payload, &seen).unwrap_err().what, "a namespace");
    // And in all others they are together.
    let (reaper, mut agent) = (as_planned(&sample(), Role::Reaper), as_planned(&sample(), Role::Payload));
    agent.namespaces[time].1 += 1;
    assert_eq!(Expected::are_together(&reaper, &agent), Ok(()));
    for other in (0..agent.namespaces.len()).filter(|i| *i != time) {
        let mut apart = agent.clone();
        apart.namespaces[other].1 += 1;
        assert_eq!(Expected::are_together(&reaper, &apart).unwrap_err().what, "a namespace");
    }
}

#[test]
fn the_kernels_own_words_are_read() {
    let own = Observed::of(Role::Reaper, std::process::id()).unwrap();
    assert_eq!((own.uids.len(), own.capabilities.len(), own.namespaces.len()), (4, 5, 8));
    assert!(own.mounts.iter().any(|m| m.at == "/proc" && m.kind == "proc"));
    assert!(own.descriptors.iter().any(|fd| fd.0 == 0));
    assert!(judge(Role::Payload, &own).is_err());
    let mut seen = Observed::default();
    assert!(seen.read_status("Uid:\t0\t0\t0\t0\n").is_err(), "a field is missing");
    assert_eq!(mount_of("nonsense"), None);
}

/// The reaper closes its channel while it is looked at; that is no reason to refuse a spawn.
#[test]
fn a_descriptor_that_is_closed_meanwhile_is_none() {
    use std::sync::atomic::{AtomicBool, Ordering};
    static OVER: AtomicBool = AtomicBool::new(false);
    let busy = std::thread::spawn(|| {
        while !OVER.load(Ordering::Relaxed) {
            let open: Vec<_> = (0..50).map(|_| fs::File::open("/dev/null").unwrap()).collect();
            drop(open);
        }
    });
    let failed = (0..1000).filter_map(|_| Observed::of(Role::Reaper, std::process::id()).err()).next();
    OVER.store(true, Ordering::Relaxed);
    busy.join().unwrap();
    assert!(failed.is_none(), "{failed:?}");
}
