//! The laws of grants and budgets.

use crate::grants::{
    Grants, Kept, NameSet, OnParentDeath, OnTimeout, Profile, Resources, Retention, Traffic,
};
use crate::{
    Action, Allotment, Approvals, CredentialGrant, DataClass, GrantPath, HostGrant, HostName, HostPattern,
    Io, Models, NamePattern, PathSet, Pattern, PatternSet, Pins,
};
use octant_ids::{ByteSize, Millis, Sha256};
use proptest::collection::{btree_set, vec};
use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};
use proptest::{prop_assert, prop_assert_eq};

fn path() -> impl Strategy<Value = GrantPath> {
    // Few names, some a prefix of another, so that trees overlap often and strings mislead.
    vec(prop_oneof![Just("a"), Just("ab"), Just("b")], 0..4)
        .prop_map(|parts| GrantPath::parse(&format!("/{}", parts.join("/"))).unwrap())
}

fn paths() -> impl Strategy<Value = PathSet> {
    vec(path(), 0..5).prop_map(|paths| paths.into_iter().collect())
}

fn names() -> impl Strategy<Value = NameSet> {
    let name = prop_oneof![Just("ls"), Just("cat"), Just("sh"), Just("awk")].prop_map(str::to_owned);
    prop_oneof![1 => Just(NameSet::All), 4 => btree_set(name, 0..4).prop_map(NameSet::Only)]
}

fn resources() -> impl Strategy<Value = Resources> {
    let few = prop_oneof![0_u64..4, Just(u64::MAX)];
    let bound = || proptest::option::of(1_u64..4);
    let io = (bound(), bound(), bound(), bound());
    let io = io.prop_map(|(read_bytes, write_bytes, read_ops, write_ops)| Io {
        read_bytes,
        write_bytes,
        read_ops,
        write_ops,
    });
    (vec(few, 10), io).prop_map(|(n, io)| Resources {
        memory_max: ByteSize(n[0]),
        memory_high: ByteSize(n[1]),
        pids_max: n[2],
        cpu_quota_percent: n[3],
        cpu_weight: n[4],
        workspace_bytes: ByteSize(n[5]),
        workspace_inodes: n[6],
        tmp_bytes: ByteSize(n[7]),
        nofile: n[8],
        fsize: ByteSize(n[9]),
        io,
    })
}

fn patterns<P: Pattern + std::fmt::Debug + 'static>(
    one: impl Strategy<Value = P> + 'static,
) -> impl Strategy<Value = PatternSet<P>> {
    prop_oneof![1 => Just(PatternSet::All), 6 => vec(one, 0..5).prop_map(|p| p.into_iter().collect())]
}

fn parsed<P: Pattern>(text: &str) -> P {
    text.parse().unwrap_or_else(|e| panic!("{e}"))
}

fn host() -> impl Strategy<Value = HostPattern> {
    // Some a suffix of another as a string and not as a name.
    let labels = vec(proptest::sample::select(vec!["a", "ba", "b"]), 1..4);
    (proptest::bool::ANY, labels).prop_map(|(below, labels)| {
        parsed(&format!("{}{}.org", if below { "*." } else { "" }, labels.join(".")))
    })
}

fn host_grant() -> impl Strategy<Value = HostGrant> {
    let (port, protocol) = (1_u16..3, proptest::sample::select(crate::Protocol::ALL.to_vec()));
    (host(), port, protocol).prop_map(|(host, port, protocol)| HostGrant { host, port, protocol })
}

const KEY: &str = "SHA256:II89XAYBZc6bTX4f3LFTMNuPCHTb1fJJ3Xvd6n563FY";

fn credential() -> impl Strategy<Value = CredentialGrant> {
    let secret = proptest::sample::select(vec!["x", "prod/y"]);
    let way = proptest::sample::select(vec!["use", "ssh", "postgres", "sign", "reveal"]);
    let places = [
        "",
        " in header x-key",
        " in basic me",
        " in query GET /a k",
        " in form POST /a k",
        " in json POST /a k",
    ];
    let place = proptest::sample::select([&places[..], &[" in sigv4 A r s", " in sigv4 A q s"]].concat());
    let database = proptest::sample::select(vec!["*", "a", "b"]);
    (way, secret, host(), place, database).prop_map(|(way, secret, host, place, database)| match way {
        "use" => parsed(&format!("use {secret} at {host}{place}")),
        "ssh" => parsed(&format!("ssh {secret} to git@{}:22 key {KEY}", host.to_string().replace('*', "a"))),
        "postgres" => {
            let host = host.to_string().replace('*', "a");
            parsed(&format!("postgres {secret} to app@{host}:5432/{database}"))
        }
        _ => parsed(&format!("{way} {secret}")),
    })
}

fn name_pattern() -> impl Strategy<Value = NamePattern> {
    proptest::sample::select(vec!["*", "a", "a*", "ab", "ab*", "a/b", "a/*", "b"]).prop_map(parsed)
}

fn approvals() -> impl Strategy<Value = Approvals> {
    let actions =
        ["spawn", "adopt", "lease:*", "lease:a", "message:a*", "message:ab", "tool:a", "spend:1", "spend:2"];
    vec(proptest::sample::select(actions.to_vec()).prop_map(parsed::<Action>), 0..5)
        .prop_map(|actions| actions.into_iter().collect())
}

fn models() -> impl Strategy<Value = Models> {
    let rate = || prop_oneof![0_u64..4, Just(u64::MAX)];
    let price = proptest::option::of(0_u64..4);
    let data = proptest::sample::select(DataClass::ALL.to_vec());
    let rates = (rate(), rate(), rate(), rate());
    (patterns(name_pattern()), rates, price, data, any::<(bool, bool, bool)>()).prop_map(
        |(
            allowed,
            (tokens_per_minute, microusd_per_minute, tokens_per_day, microusd_per_day),
            max_price_microusd,
            data,
            (keep_prompts, cache, extras),
        )| {
            Models {
                allowed,
                tokens_per_minute,
                microusd_per_minute,
                tokens_per_day,
                microusd_per_day,
                max_price_microusd,
                data,
                keep_prompts,
                cache,
                extras,
            }
        },
    )
}

fn grants() -> impl Strategy<Value = Grants> {
    let policy = (
        proptest::sample::select(OnTimeout::ALL.to_vec()),
        proptest::sample::select(OnParentDeath::ALL.to_vec()),
    );
    let profile = proptest::sample::select(Profile::ALL.to_vec());
    let ttl = proptest::option::of((0_u64..4).prop_map(Millis));
    let kept = || {
        prop_oneof![
            Just(Kept::Any),
            (0_u8..3).prop_map(|byte| Kept::Only(Sha256([byte; 32]))),
            Just(Kept::None),
        ]
    };
    let pin = (path(), (0_u8..2).prop_map(|byte| Sha256([byte; 32])));
    let files = ((kept(), kept(), paths(), paths(), paths()), vec(pin, 0..4));
    let retain = (paths(), 0_u64..4, prop_oneof![0_u64..4, Just(u64::MAX)]);
    let retain =
        retain.prop_map(|(places, bytes, files)| Retention { places, bytes: ByteSize(bytes), files });
    let policy = (policy, retain);
    let hosts = (patterns(host_grant()), patterns(host_grant()));
    let outside = (hosts, patterns(credential()), models());
    let traffic = (0_u64..4, proptest::option::of(0_u64..4))
        .prop_map(|(connections, rate)| Traffic { connections, bytes_per_second: rate.map(ByteSize) });
    let outside =
        ((outside, traffic), patterns(name_pattern()), (patterns(name_pattern()), names()), approvals());
    let sets = (names(), names(), names());
    (files, sets, profile, resources(), ttl, policy, 0_u64..4, outside).prop_map(
        |(files, sets, profile, resources, ttl, policy, generations, outside)| {
            let ((root, workspace, read, write, execute), pins) = files;
            let (utilities, syscalls, rooms) = sets;
            let ((((hosts, leases), credentials, models), traffic), skills, (tools, serves), approvals) =
                outside;
            let ((on_timeout, on_parent_death), retain) = policy;
            Grants {
                root,
                workspace,
                read: read.join(&write).join(&execute),
                write,
                pins: Pins::of(pins, &execute),
                execute,
                utilities,
                profile,
                syscalls,
                resources,
                ttl,
                on_timeout,
                on_parent_death,
                retain,
                generations,
                rooms,
                hosts,
                leases,
                traffic,
                credentials,
                models,
                skills,
                tools,
                serves,
                approvals,
            }
        },
    )
}

proptest! {
    #[test]
    fn what_two_patterns_meet_in_is_what_both_name(
        a in host(), b in host(), c in name_pattern(), d in name_pattern(),
        labels in vec(proptest::sample::select(vec!["a", "ba", "b"]), 1..5),
        name in proptest::sample::select(vec!["a", "ab", "abc", "a/b", "a/", "b"]),
    ) {
        let host: HostName = format!("{}.org", labels.join(".")).parse().unwrap();
        let both = a.meet(&b);
        prop_assert_eq!(both.clone(), b.meet(&a));
        prop_assert_eq!(both.is_some_and(|p| p.matches(&host)), a.matches(&host) && b.matches(&host));
        prop_assert_eq!(c.meet(&d).is_some_and(|p| p.matches(name)), c.matches(name) && d.matches(name));
    }
}

proptest! {
    #[test]
    fn meet_is_commutative_associative_and_idempotent(a in grants(), b in grants(), c in grants()) {
        prop_assert_eq!(a.meet(&b), b.meet(&a));
        prop_assert_eq!(a.meet(&b).meet(&c), a.meet(&b.meet(&c)));
        prop_assert_eq!(a.meet(&a), a);
    }

    #[test]
    fn a_meet_is_within_both_and_holds_whatever_is(a in grants(), b in grants(), c in grants()) {
        let meet = a.meet(&b);
        prop_assert!(meet.within(&a) && meet.within(&b));
        prop_assert_eq!(c.within(&meet), c.within(&a) && c.within(&b), "the largest such");
        if a.within(&b) && b.within(&a) {
            prop_assert_eq!(a, b);
        }
    }

    #[test]
    fn a_chain_is_within_every_link(links in vec(grants(), 1..6)) {
        let end = links.iter().skip(1).fold(links[0].clone(), |all, link| all.meet(link));
        prop_assert!(links.iter().all(|link| end.within(link)));
    }

    #[test]
    fn an_approval_is_demanded_by_a_meet_when_either_demands_it(
        links in vec(grants(), 1..6),
        asked in proptest::sample::select(vec!["spawn", "lease:a", "lease:b", "message:ab", "spend:1.5"]),
    ) {
        let action: Action = parsed(asked);
        let end = links.iter().skip(1).fold(links[0].clone(), |all, link| all.meet(link));
        let demanded = links.iter().any(|link| link.approvals.cover(&action));
        prop_assert_eq!(end.approvals.cover(&action), demanded, "more is asked for, never less");
    }

    #[test]
    fn a_path_is_granted_by_a_meet_when_both_grant_it(a in paths(), b in paths(), path in path()) {
        prop_assert_eq!(a.meet(&b).covers(&path), a.covers(&path) && b.covers(&path));
        prop_assert_eq!(a.join(&b).covers(&path), a.covers(&path) || b.covers(&path));
    }

    #[test]
    fn path_sets_are_minimal(set in paths()) {
        let members: Vec<_> = set.iter().collect();
        for (i, a) in members.iter().enumerate() {
            prop_assert!(!members.iter().enumerate().any(|(j, b)| i != j && a.covers(b)));
        }
    }

    #[test]
    fn what_may_be_written_or_executed_may_be_read(a in grants(), b in grants()) {
        let meet = a.meet(&b);
        prop_assert!(meet.write.iter().chain(meet.execute.iter()).all(|p| meet.read.covers(p)));
    }

    #[test]
    fn what_is_narrowed_is_named_and_nothing_else(a in grants(), b in grants()) {
        let meet = a.meet(&b);
        prop_assert_eq!(a.narrowed_to(&meet).is_empty(), a == meet);
        prop_assert!(a.narrowed_to(&meet).iter().all(|n| n.asked != n.got));
    }

    #[test]
    fn normalised_paths_stay_as_they_are(text in "/[a.]{0,3}(/{1,2}[ab.]{0,3}){0,4}") {
        if let Ok(path) = GrantPath::parse(&text) {
            prop_assert_eq!(GrantPath::parse(path.as_str()), Ok(path.clone()));
            prop_assert!(path.components().all(|c| c != "." && c != ".." && !c.is_empty()));
        }
    }

    #[test]
    fn budgets_are_conserved(start in any::<[u32; 5]>(), asks in vec(any::<[u16; 5]>(), 0..8)) {
        let total = start.map(u64::from);
        let mut pool = Allotment::new(total);
        let mut shares = Vec::new();
        for ask in asks {
            let before = pool.parts();
            match pool.split(ask.map(u64::from)) {
                Ok(share) => shares.push(share),
                Err(error) => {
                    prop_assert!(error.asked > error.left);
                    prop_assert_eq!(pool.parts(), before, "a refusal takes nothing");
                }
            }
            let held = shares.iter().fold(pool.parts(), |sum, s| {
                let parts = s.parts();
                std::array::from_fn(|budget| sum[budget] + parts[budget])
            });
            prop_assert_eq!(held, total);
        }
        for share in shares {
            pool.restore(share);
        }
        prop_assert_eq!(pool.parts(), total);
    }
}

#[test]
fn paths_are_compared_by_component() {
    let path = |text| GrantPath::parse(text).unwrap();
    assert!(path("/a").covers(&path("/a/b")) && path("/").covers(&path("/a")));
    assert!(!path("/a").covers(&path("/ab")) && !path("/a/b").covers(&path("/a")));
    assert_eq!(path("//a/./b/").as_str(), "/a/b");
    assert!(path("/a/b") < path("/a-b"), "component order, not byte order");
}
