//! The filters, run by an interpreter of classic BPF: exactly what the tables say is allowed, and nothing else.

use super::*;
use crate::profiles::PROFILES;
use proptest::prelude::*;
use std::collections::BTreeSet;

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

/// What the kernel makes of both: the more restrictive action, the floor's when they are equal (seccomp(2)).
fn both(profile: &[Instruction], floor: &[Instruction], data: &Data) -> u32 {
    let (profile, floor) = (run(profile, data), run(floor, data));
    let action = |verdict: u32| (verdict & 0xffff_0000).cast_signed();
    if action(profile) < action(floor) { profile } else { floor }
}

fn number(name: &str) -> u32 {
    let call = ScmpSyscall::from_name(name).unwrap_or_else(|error| panic!("{name}: {error}"));
    u32::try_from(call.as_raw_syscall()).unwrap_or_else(|_| panic!("{name} is no call on this architecture"))
}

fn profile_of(name: &str) -> Vec<Instruction> {
    of_profile(&Syscalls { profile: name.into(), add: vec![] }).unwrap()
}

/// Calls that are decided by an argument.
const BY_ARGUMENT: [&str; 6] = ["clone", "socket", "socketpair", "ioctl", "prctl", "personality"];

#[test]
fn exactly_what_the_table_says_is_allowed() {
    let floor = floor();
    let decided: BTreeSet<u32> = BY_ARGUMENT.iter().map(|name| number(name)).collect();
    for profile in PROFILES {
        let granted: BTreeSet<u32> =
            profile.groups.iter().flat_map(|g| g.rows).map(|row| number(row.0)).collect();
        let program = profile_of(profile.name);
        assert!(program.len() < 4096, "{} has {} instructions", profile.name, program.len());
        for nr in 0..=HIGHEST_KNOWN {
            let verdict = both(&program, &floor, &Data::call(nr, [0; 6]));
            if decided.contains(&nr) {
                continue;
            }
            let wanted = match nr {
                SYS_CLONE3 | SYS_OPENAT2 => errno(Errno::ENOSYS),
                nr if granted.contains(&nr) => ALLOW,
                _ => errno(Errno::EPERM),
            };
            assert_eq!(verdict, wanted, "{} call {nr}", profile.name);
        }
    }
}

#[test]
fn the_tables_are_sound() {
    for (nr, name) in FLOOR {
        // The library of the build machine may be older than a call.
        if let Ok(call) = ScmpSyscall::from_name(name)
            && let Ok(known) = u32::try_from(call.as_raw_syscall())
        {
            assert_eq!(known, *nr, "{name}");
        }
        assert!(*nr <= HIGHEST_KNOWN, "{name}");
    }
    for profile in PROFILES {
        let rows: Vec<_> = profile.groups.iter().flat_map(|g| g.rows).collect();
        let names: BTreeSet<&str> = rows.iter().map(|row| row.0).collect();
        assert_eq!(names.len(), rows.len(), "{} names a call twice", profile.name);
        for (name, why) in rows {
            assert!(!why.is_empty() && !floored(name), "{name}: {why:?}");
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
        })
    };
    let program = with(&["mkdir"]).unwrap();
    assert_eq!(both(&program, &floor(), &Data::call(number("mkdir"), [0; 6])), ALLOW);
    assert_eq!(both(&program, &floor(), &Data::call(number("rmdir"), [0; 6])), errno(Errno::EPERM));
    for name in FLOOR.iter().map(|row| row.1).chain(BY_ARGUMENT).chain(["clone3", "openat2"]) {
        assert!(matches!(with(&[name]), Err(FilterError::Floor(_))), "{name} could be added");
    }
    assert!(matches!(with(&["no_such_call"]), Err(FilterError::Unknown(_))));
    let unknown = Syscalls { profile: "everything".into(), add: vec![] };
    assert!(matches!(of_profile(&unknown), Err(FilterError::Profile(_))));
}

#[test]
fn the_reaper_can_do_what_its_table_says() {
    let program = of_reaper().unwrap();
    let granted: BTreeSet<u32> = REAPER.iter().map(|row| number(row.0)).collect();
    for nr in 0..=HIGHEST_KNOWN {
        let allowed = both(&program, &floor(), &Data::call(nr, [1; 6])) == ALLOW;
        assert_eq!(allowed, granted.contains(&nr), "call {nr}");
    }
}

#[test]
fn no_file_can_be_made_set_id() {
    let (program, floor) = (profile_of("shell"), floor());
    let verdict = |name: &str, args: &[u64]| {
        let mut all = [0; 6];
        all[..args.len()].copy_from_slice(args);
        both(&program, &floor, &Data::call(number(name), all))
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
            both(&program, &floor, &Data::call(452, [0, 0, bits, 0, 0, 0])),
        ];
        assert_eq!(denied, [errno(Errno::EPERM); 12], "{bits:o}");
    }
    // What is in the mode's place when nothing is created does not matter.
    assert_eq!(verdict("openat", &[0, 0, 0, 0o6777]), ALLOW);
    assert_eq!(verdict("open", &[0, CREATE, 0o1777]), ALLOW);
    assert_eq!(verdict("chmod", &[0, 0o1777]), ALLOW);
}

#[test]
fn arguments_decide_as_documented() {
    let (program, floor) = (profile_of("shell"), floor());
    let verdict = |name: &str, args: [u64; 6]| both(&program, &floor, &Data::call(number(name), args));
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
    assert_eq!(both(&minimal, &floor, &Data::call(SYS_CLONE, first(17))), errno(Errno::EPERM));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn another_table_of_calls_kills(nr: u32, arch: u32, args: [u64; 6]) {
        let program = profile_of_shell();
        for floor in [true, false] {
            let run = |data: &Data| if floor { run(&super::floor(), data) } else { run(program, data) };
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
        prop_assert_eq!(both(profile_of_shell(), &floor(), &Data::call(nr, args)), errno(Errno::ENOSYS));
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
        let plain = both(profile_of_shell(), &floor(), &Data::call(number(call), args));
        args[at] |= u64::from(upper) << 32;
        prop_assert_eq!(both(profile_of_shell(), &floor(), &Data::call(number(call), args)), plain);
    }

    #[test]
    fn the_floor_holds_whatever_the_arguments(row in prop::sample::select(FLOOR), args: [u64; 6]) {
        prop_assert_eq!(run(&floor(), &Data::call(row.0, args)), errno(Errno::EPERM));
    }
}

fn profile_of_shell() -> &'static [Instruction] {
    static SHELL: std::sync::OnceLock<Vec<Instruction>> = std::sync::OnceLock::new();
    SHELL.get_or_init(|| profile_of("shell"))
}
