//! The filters, run by an interpreter of classic BPF: exactly what the tables say is allowed, and nothing else.

use super::*;
use crate::actions::{Action, DENIALS, denial};
use crate::profiles::PROFILES;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// struct seccomp_data.
#[derive(Debug, Clone, Copy)]
struct Data {
    nr: u32,
    arch: u32,
    args: [u64; 6],
}

impl Data {
    fn call(nr: u32, args: [u64; 6]) -> Self {
        Self { nr, arch: AUDIT_ARCH_X86_64, args }
    }

    fn word(&self, offset: u32) -> u32 {
        let half =
            |value: u64, high: bool| u32::try_from(if high { value >> 32 } else { value & LOW }).unwrap();
        match offset {
            0 => self.nr,
            4 => self.arch,
            16..64 => half(self.args[(offset as usize - 16) / 8], offset % 8 == 4),
            _ => panic!("a load at {offset}"),
        }
    }
}

/// What the program says; every operation that is not expected in a filter is a panic.
fn run(program: &[Instruction], data: &Data) -> u32 {
    let (mut pc, mut a) = (0, 0_u32);
    loop {
        let i = program[pc];
        let mut jump = |holds: bool| pc += usize::from(if holds { i.jt } else { i.jf });
        match i.code {
            0x20 => a = data.word(i.k),
            0x54 => a &= i.k,
            0x05 => pc += i.k as usize,
            0x15 => jump(a == i.k),
            0x25 => jump(a > i.k),
            0x35 => jump(a >= i.k),
            0x45 => jump(a & i.k != 0),
            0x06 => return i.k,
            code => panic!("operation {code:#x} at {pc}"),
        }
        pc += 1;
    }
}

/// What the kernel makes of all: the most restrictive action, the floor's when they are equal, then the fallbacks'
/// (seccomp(2)).
fn in_force(profile: &[Instruction], floor: &[Instruction], data: &Data) -> u32 {
    let verdicts = [run(floor, data), run(&fallbacks(), data), run(profile, data)];
    let action = |verdict: &u32| (verdict & 0xffff_0000).cast_signed();
    verdicts.into_iter().min_by_key(action).unwrap()
}

fn number(name: &str) -> u32 {
    let call = ScmpSyscall::from_name(name).unwrap_or_else(|error| panic!("{name}: {error}"));
    u32::try_from(call.as_raw_syscall()).unwrap_or_else(|_| panic!("{name} is no call on this architecture"))
}

fn with_network(name: &str) -> Syscalls {
    Syscalls { profile: name.into(), add: vec![], network: true }
}

fn profile_of(name: &str) -> Vec<Instruction> {
    of_profile(&Syscalls { profile: name.into(), add: vec![], network: false }).unwrap()
}

/// Calls that are decided by an argument.
const BY_ARGUMENT: [&str; 6] = ["clone", "socket", "socketpair", "ioctl", "prctl", "personality"];

#[test]
fn exactly_what_the_table_says_is_allowed() {
    let floor = floor(false);
    let decided: BTreeSet<u32> = BY_ARGUMENT.iter().map(|name| number(name)).collect();
    for profile in PROFILES {
        let granted: BTreeSet<u32> =
            profile.groups.iter().flat_map(|g| g.rows).map(|row| number(row.0)).collect();
        let program = profile_of(profile.name);
        assert!(program.len() < 4096, "{} has {} instructions", profile.name, program.len());
        for nr in 0..=HIGHEST_KNOWN {
            let verdict = in_force(&program, &floor, &Data::call(nr, [0; 6]));
            if decided.contains(&nr) {
                continue;
            }
            let wanted = match nr {
                SYS_CLONE3 | SYS_OPENAT2 | 337..=423 => errno(Errno::ENOSYS),
                nr if granted.contains(&nr) => ALLOW,
                _ => errno(Errno::EPERM),
            };
            assert_eq!(verdict, wanted, "{} call {nr}", profile.name);
        }
    }
}

#[test]
fn the_tables_are_sound() {
    let mut known: BTreeMap<u32, &str> = BTreeMap::new();
    for row in DENIALS {
        // The library of the build machine may be older than a call.
        if let Ok(call) = ScmpSyscall::from_name(row.name)
            && let Ok(number) = u32::try_from(call.as_raw_syscall())
        {
            assert_eq!(number, row.number, "{}", row.name);
        }
        assert!(row.number <= HIGHEST_KNOWN && !row.why.is_empty(), "{row:?}");
        assert_eq!(known.insert(row.number, row.name), None, "{row:?} stands there twice");
    }
    assert!(DENIALS.is_sorted_by_key(|row| row.number));
    // Each number that stands for a call is in exactly one of the two tables.
    let granted = PROFILES.iter().flat_map(|p| p.groups).flat_map(|g| g.rows).map(|row| row.0);
    for name in granted.collect::<BTreeSet<&str>>() {
        assert_eq!(known.insert(number(name), name), None, "{name} is granted and denied");
    }
    let missing: Vec<u32> = (0..=HIGHEST_KNOWN).filter(|nr| !known.contains_key(nr)).collect();
    assert_eq!(missing, (UNASSIGNED.0..=UNASSIGNED.1).collect::<Vec<u32>>());
    for profile in PROFILES {
        let rows: Vec<_> = profile.groups.iter().flat_map(|g| g.rows).collect();
        let names: BTreeSet<&str> = rows.iter().map(|row| row.0).collect();
        assert_eq!(names.len(), rows.len(), "{} names a call twice", profile.name);
        for (name, why) in rows {
            assert!(!why.is_empty() && denial(name).is_none(), "{name}: {why:?}");
            assert!(number(name) <= HIGHEST_KNOWN, "{name}");
        }
        assert!(["read", "write", "execve", "exit_group"].iter().all(|name| names.contains(name)));
    }
}

#[test]
fn an_addition_is_allowed_and_nothing_else_changes() {
    let with = |add: &[&str]| {
        of_profile(&Syscalls {
            profile: "minimal".into(),
            add: add.iter().map(|n| (*n).to_owned()).collect(),
            network: false,
        })
    };
    let program = with(&["mkdir"]).unwrap();
    assert_eq!(in_force(&program, &floor(false), &Data::call(number("mkdir"), [0; 6])), ALLOW);
    assert_eq!(in_force(&program, &floor(false), &Data::call(number("rmdir"), [0; 6])), errno(Errno::EPERM));
    for row in DENIALS {
        match (row.action, with(&[row.name])) {
            // The library of the build machine may be older than a call.
            (Action::Unless, Ok(_) | Err(FilterError::Unknown(_))) => {}
            (Action::Never | Action::Absent | Action::Argument, Err(FilterError::Floor { why, .. })) => {
                assert_eq!(why, row.why);
            }
            (_, other) => panic!("{row:?}: {other:?}"),
        }
    }
    assert!(matches!(with(&["no_such_call"]), Err(FilterError::Unknown(_))));
    let unknown = Syscalls { profile: "everything".into(), add: vec![], network: false };
    assert!(matches!(of_profile(&unknown), Err(FilterError::Profile(_))));
}

#[test]
fn the_reaper_can_do_what_its_table_says() {
    let program = of_reaper().unwrap();
    let granted: BTreeSet<u32> = REAPER.iter().map(|row| number(row.0)).collect();
    for nr in 0..=HIGHEST_KNOWN {
        let verdict = in_force(&program, &floor(false), &Data::call(nr, [1; 6]));
        let allowed = verdict == ALLOW;
        assert_eq!(allowed, granted.contains(&nr), "call {nr}");
    }
}

#[test]
fn no_file_can_be_made_set_id() {
    let (program, floor) = (profile_of("shell"), floor(false));
    let verdict = |name: &str, args: &[u64]| {
        let mut all = [0; 6];
        all[..args.len()].copy_from_slice(args);
        in_force(&program, &floor, &Data::call(number(name), all))
    };
    const CREATE: u64 = 0o101;
    for bits in [0o4755, 0o2755, 0o6000, 0o4755 | 1 << 40] {
        let denied = [
            verdict("chmod", &[0, bits]),
            verdict("fchmod", &[0, bits]),
            verdict("fchmodat", &[0, 0, bits]),
            verdict("creat", &[0, bits]),
            verdict("mkdir", &[0, bits]),
            verdict("mkdirat", &[0, 0, bits]),
            verdict("mknod", &[0, bits | 0o10_0000]),
            verdict("mknodat", &[0, 0, bits]),
            verdict("open", &[0, CREATE, bits]),
            verdict("openat", &[0, 0, CREATE, bits]),
            verdict("openat", &[0, 0, 0o20_200_002, bits]),
            in_force(&program, &floor, &Data::call(452, [0, 0, bits, 0, 0, 0])),
        ];
        assert_eq!(denied, [errno(Errno::EPERM); 12], "{bits:o}");
    }
    // What is in the mode's place when nothing is created does not matter.
    assert_eq!(verdict("openat", &[0, 0, 0, 0o6777]), ALLOW);
    assert_eq!(verdict("open", &[0, CREATE, 0o1777]), ALLOW);
    assert_eq!(verdict("chmod", &[0, 0o1777]), ALLOW);
}

#[test]
fn a_network_is_tcp_and_udp_and_nothing_else() {
    let program = of_profile(&with_network("shell")).unwrap();
    let floor = floor(true);
    for family in 0..64_u64 {
        for kind in 0..16_u64 {
            for protocol in [0, 1, 2, 6, 17, 33, 58, 132, 136, 255, 256, 262] {
                let good = match (family, kind) {
                    (1, _) => true,
                    (2 | 10, 1) => matches!(protocol, 0 | 6),
                    (2 | 10, 2) => matches!(protocol, 0 | 17),
                    _ => false,
                };
                // Flags for the new descriptor, and bits that the kernel does not look at.
                for flags in [0, 0o2_000_000, 0o4000, 1 << 40] {
                    let call =
                        Data::call(SYS_SOCKET, [family | 1 << 33, kind | flags, protocol | 1 << 35, 0, 0, 0]);
                    let verdicts =
                        [in_force(&program, &floor, &call), run(&floor, &call), run(&program, &call)];
                    for verdict in verdicts {
                        assert_eq!(
                            verdict == ALLOW,
                            good,
                            "{family} {kind} {protocol} {flags}: {verdict:#x}"
                        );
                    }
                }
                let pair = Data::call(SYS_SOCKETPAIR, [family, kind, protocol, 0, 0, 0]);
                assert_eq!(in_force(&program, &floor, &pair) == ALLOW, family == 1, "{family}");
            }
        }
    }
    let other = |family| in_force(&program, &floor, &Data::call(SYS_SOCKET, [family, 1, 0, 0, 0, 0]));
    for family in [16, 17, 21, 38, 40] {
        assert_eq!(other(family), errno(Errno::EAFNOSUPPORT), "{family}");
    }
}

#[test]
fn arguments_decide_as_documented() {
    let (program, floor) = (profile_of("shell"), floor(false));
    let verdict = |name: &str, args: [u64; 6]| in_force(&program, &floor, &Data::call(number(name), args));
    let first = |value: u64| [value, 0, 0, 0, 0, 0];
    let second = |value: u64| [0, value, 0, 0, 0, 0];
    assert_eq!(verdict("clone", first(17)), ALLOW);
    assert_eq!(verdict("socket", first(1)), ALLOW);
    for family in (0..64).filter(|f| *f != 1) {
        assert_eq!(verdict("socket", first(family)), errno(Errno::EAFNOSUPPORT), "{family}");
        assert_eq!(verdict("socketpair", first(family)), errno(Errno::EAFNOSUPPORT), "{family}");
    }
    for bit in (0..32).filter(|bit| NAMESPACE_FLAGS & (1 << bit) != 0) {
        assert_eq!(verdict("clone", first(17 | 1 << bit)), errno(Errno::EPERM), "bit {bit}");
    }
    assert_eq!(verdict("ioctl", second(0x5401)), ALLOW);
    for command in DENIED_IOCTLS {
        assert_eq!(verdict("ioctl", second(command.into())), errno(Errno::EPERM));
        // The floor alone denies it too.
        assert_eq!(run(&floor, &Data::call(SYS_IOCTL, second(command.into()))), errno(Errno::EPERM));
    }
    assert_eq!(verdict("prctl", first(15)), ALLOW);
    assert_eq!(verdict("prctl", first(22)), errno(Errno::EPERM), "PR_SET_SECCOMP");
    assert_eq!(verdict("personality", first(LOW)), ALLOW);
    assert_eq!(verdict("personality", first(0x4_0000)), errno(Errno::EPERM));
    // `minimal` starts no process.
    let minimal = profile_of("minimal");
    assert_eq!(in_force(&minimal, &floor, &Data::call(SYS_CLONE, first(17))), errno(Errno::EPERM));
}

/// With a limit of zero the kernel would start the machine's crash handler.
#[test]
fn a_limit_of_core_dumps_seems_to_be_set_and_another_is() {
    let of = |name: &str, args: [u64; 6]| {
        in_force(profile_of_shell(), &floor(false), &Data::call(number(name), args))
    };
    let upper = 1 << 32;
    for core in [4, 4 | upper] {
        assert_eq!(of("setrlimit", [core, 1, 0, 0, 0, 0]), DONE);
        for pointer in [1, upper, upper | 1, u64::MAX] {
            assert_eq!(of("prlimit64", [0, core, pointer, 0, 0, 0]), DONE);
            assert_eq!(of("prlimit64", [77, core, pointer, pointer, 0, 0]), DONE);
        }
        assert_eq!(of("prlimit64", [0, core, 0, 1, 0, 0]), ALLOW, "a question");
    }
    for other in [0, 3, 5, 7, u64::from(u32::MAX)] {
        assert_eq!(of("setrlimit", [other, 1, 0, 0, 0, 0]), ALLOW);
        assert_eq!(of("prlimit64", [0, other, 1, 1, 0, 0]), ALLOW);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn another_table_of_calls_kills(nr: u32, arch: u32, args: [u64; 6]) {
        let program = profile_of_shell();
        for floor in [true, false] {
            let run = |data: &Data| if floor { run(&super::floor(false), data) } else { run(program, data) };
            if arch != AUDIT_ARCH_X86_64 {
                prop_assert_eq!(run(&Data { nr, arch, args }), KILL_PROCESS);
            }
            // -1 is what a tracer writes to skip a call; the kernel never runs a filter on it.
            if nr | X32_BIT != u32::MAX {
                prop_assert_eq!(run(&Data::call(nr | X32_BIT, args)), KILL_PROCESS);
            }
        }
    }

    #[test]
    fn a_number_that_nobody_knows_is_enosys(nr in HIGHEST_KNOWN + 1..X32_BIT, args: [u64; 6]) {
        prop_assert_eq!(in_force(profile_of_shell(), &floor(false), &Data::call(nr, args)), errno(Errno::ENOSYS));
    }

    #[test]
    fn the_upper_half_of_an_argument_changes_nothing(
        call in prop::sample::select(BY_ARGUMENT.to_vec()),
        low in prop_oneof![any::<u32>(), 0_u32..64, 0x5400_u32..0x5460],
        upper: u32,
    ) {
        let at = usize::from(call == "ioctl");
        let mut args = [0_u64; 6];
        args[at] = u64::from(low);
        let plain = in_force(profile_of_shell(), &floor(false), &Data::call(number(call), args));
        args[at] |= u64::from(upper) << 32;
        prop_assert_eq!(in_force(profile_of_shell(), &floor(false), &Data::call(number(call), args)), plain);
    }

    #[test]
    fn the_floor_holds_whatever_the_arguments(
        row in prop::sample::select(actions::floor().collect::<Vec<_>>()),
        args: [u64; 6],
    ) {
        prop_assert_eq!(run(&floor(false), &Data::call(row.number, args)), errno(Errno::EPERM));
    }

    #[test]
    fn two_compilers_of_the_same_rules_agree(
        nr in prop_oneof![0..=HIGHEST_KNOWN, prop::sample::select(vec![16_u32, 41, 53, 56, 135, 157])],
        low in prop::array::uniform6(prop_oneof![
            any::<u32>(),
            0_u32..64,
            0x5400_u32..0x5460,
            prop::sample::select(IOCTLS.iter().chain(&PRCTLS).map(|row| row.0).collect::<Vec<_>>()),
        ]),
        high: [u32; 6],
    ) {
        let args = std::array::from_fn(|i| u64::from(low[i]) | u64::from(high[i]) << 32);
        let data = Data::call(nr, args);
        for (ours, theirs) in compiled_twice() {
            prop_assert_eq!(run(ours, &data), run(theirs, &data), "call {} {:x?}", nr, args);
        }
    }
}

fn profile_of_shell() -> &'static [Instruction] {
    static SHELL: std::sync::OnceLock<Vec<Instruction>> = std::sync::OnceLock::new();
    SHELL.get_or_init(|| profile_of("shell"))
}

#[test]
fn what_a_manifest_is_told_is_what_the_floor_denies() {
    let told = octant_manifest::DENIED_SYSCALLS.iter().map(|row| (row.name, row.why));
    let told: BTreeMap<&str, &str> = told
        .filter(|row| ScmpSyscall::from_name(row.0).is_ok_and(|call| call.as_raw_syscall() >= 0))
        .collect();
    let denied: BTreeMap<&str, &str> = actions::floor().map(|row| (row.name, row.why)).collect();
    let newer = |name: &str| ScmpSyscall::from_name(name).is_err();
    assert_eq!(told, denied.into_iter().filter(|row| !newer(row.0)).collect());
}

/// The programs of every profile, made by libseccomp as they are in force and made of the same tables by seccompiler,
/// which shares no code with it.
fn compiled_twice() -> &'static [(Vec<Instruction>, Vec<Instruction>)] {
    static PAIRS: std::sync::OnceLock<Vec<(Vec<Instruction>, Vec<Instruction>)>> = std::sync::OnceLock::new();
    PAIRS.get_or_init(|| {
        let without = PROFILES.iter().map(|p| (profile_of(p.name), by_seccompiler(p, false)));
        let with =
            PROFILES.iter().map(|p| (of_profile(&with_network(p.name)).unwrap(), by_seccompiler(p, true)));
        without.chain(with).collect()
    })
}

fn by_seccompiler(profile: &crate::profiles::Profile, network: bool) -> Vec<Instruction> {
    use seccompiler::{
        BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
        SeccompRule, TargetArch,
    };
    let condition = |(argument, mask, value)| {
        let masked = SeccompCmpOp::MaskedEq(mask);
        SeccompCondition::new(argument, SeccompCmpArgLen::Qword, masked, value).unwrap()
    };
    let all =
        |row: &[(u8, u64, u64)]| SeccompRule::new(row.iter().copied().map(condition).collect()).unwrap();
    let rule = |argument, mask, value| all(&[(argument, mask, value)]);
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for row in profile.groups.iter().flat_map(|group| group.rows) {
        rules.insert(number(row.0).into(), vec![]);
    }
    rules.insert(number("seccomp").into(), vec![]);
    let mut add = |name, made: Vec<SeccompRule>| {
        rules.insert(number(name).into(), made);
    };
    if profile.groups.iter().any(|group| group.clone) {
        add("clone", vec![rule(0, NAMESPACE_FLAGS.into(), 0)]);
    }
    let mut sockets = vec![rule(0, LOW, 1)];
    if network {
        let rows =
            [(2, 1, 0), (2, 1, 6), (2, 2, 0), (2, 2, 17), (10, 1, 0), (10, 1, 6), (10, 2, 0), (10, 2, 17)];
        let one = |(family, kind, own)| all(&[(0, LOW, family), (1, 0xf, kind), (2, LOW, own)]);
        sockets.extend(rows.map(one));
    }
    add("socket", sockets);
    add("socketpair", vec![rule(0, LOW, 1)]);
    add("ioctl", IOCTLS.iter().map(|row| rule(1, LOW, row.0.into())).collect());
    add("prctl", PRCTLS.iter().map(|row| rule(0, LOW, row.0.into())).collect());
    add("personality", [0, LOW].map(|persona| rule(0, LOW, persona)).to_vec());
    let (allow, deny) = (SeccompAction::Allow, SeccompAction::Errno(Errno::EPERM as u32));
    let program: BpfProgram =
        SeccompFilter::new(rules, deny, allow, TargetArch::x86_64).unwrap().try_into().unwrap();
    program.iter().map(|i| Instruction { code: i.code, jt: i.jt, jf: i.jf, k: i.k }).collect()
}
