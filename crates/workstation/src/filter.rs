//! The system call filters of a workstation: the profile's (libseccomp, default deny), the fallbacks' and the floor's
//! (both made here by hand, what no plan can lift). All are in force; the most restrictive verdict counts, and between
//! error numbers that of the filter that was installed last, which is the floor. The kernel reports what profile and
//! floor deny. The fallbacks are a filter of their own because programs make those calls all the time (the C library with
//! each new thread), and each would be reported as a denial that it is not.

use crate::actions::{self, Action};
use crate::plan::Syscalls;
use crate::profiles::{COLLECTOR, REAPER, profile};
use libseccomp::error::SeccompError;
use libseccomp::{ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall};
use nix::errno::Errno;
use octant_sys::confine::Instruction;
use std::collections::BTreeMap;
use std::io::{Read, Seek};

/// Flags of clone(2) that make namespaces (`CLONE_NEW*` except time, which clone(2) cannot ask for).
pub(crate) const NAMESPACE_FLAGS: u32 = 0x7e02_0000;

/// The highest system call number that this build knows (mseal). A higher one gets `ENOSYS`, so that a program falls
/// back as it would on an older kernel.
pub(crate) const HIGHEST_KNOWN: u32 = 462;
/// The first and the last number below it that stand for no call.
pub(crate) const UNASSIGNED: (u32, u32) = (337, 423);

/// Terminal ioctls that put input into another program's terminal or load a line discipline: TIOCSTI, TIOCLINUX,
/// TIOCSETD.
pub(crate) const DENIED_IOCTLS: [u32; 3] = [0x5412, 0x541c, 0x5423];

/// The ioctls that profiles allow, by command.
const IOCTLS: [(u32, &str); 34] = [
    (0x5401, "TCGETS: is this a terminal"),
    (0x5402, "TCSETS: modes of an own terminal"),
    (0x5403, "TCSETSW: modes of an own terminal"),
    (0x5404, "TCSETSF: modes of an own terminal"),
    (0x5409, "TCSBRK: tcdrain"),
    (0x540a, "TCXONC: tcflow"),
    (0x540b, "TCFLSH: tcflush"),
    (0x540c, "TIOCEXCL: programs that want a terminal for themselves"),
    (0x540d, "TIOCNXCL: and give it back"),
    (0x540e, "TIOCSCTTY: a shell on an own terminal"),
    (0x540f, "TIOCGPGRP: job control"),
    (0x5410, "TIOCSPGRP: job control"),
    (0x5411, "TIOCOUTQ: bytes not yet sent"),
    (0x5413, "TIOCGWINSZ: size of the terminal"),
    (0x5414, "TIOCSWINSZ: size of an own terminal"),
    (0x5420, "TIOCPKT: script and ssh watch an own pseudo-terminal"),
    (0x5422, "TIOCNOTTY: a daemon lets go of its terminal"),
    (0x5429, "TIOCGSID: whose session a terminal is"),
    (0x5441, "TIOCGPTPEER: the other side of an own pseudo-terminal"),
    (0x4004_5431, "TIOCSPTLCK: unlock an own pseudo-terminal"),
    (0x8004_5432, "TIOCGDEV: number of a terminal"),
    (0x8004_5439, "TIOCGPTLCK: is it locked"),
    (0x802c_542a, "TCGETS2: modes of a terminal, newer form"),
    (0x402c_542b, "TCSETS2: modes of an own terminal, newer form"),
    (0x402c_542c, "TCSETSW2: modes of an own terminal, newer form"),
    (0x402c_542d, "TCSETSF2: modes of an own terminal, newer form"),
    (0x5452, "FIOASYNC: signals for a descriptor"),
    (0x541b, "FIONREAD: bytes to read"),
    (0x5421, "FIONBIO: non-blocking"),
    (0x5450, "FIONCLEX: keep over exec"),
    (0x5451, "FIOCLEX: close on exec"),
    (0x8004_5430, "TIOCGPTN: number of an own pseudo-terminal"),
    (0x4004_9409, "FICLONE: cp asks for a reflink first"),
    (0x4020_940d, "FICLONERANGE: cp asks for a reflink first"),
];

/// The prctl operations that profiles allow.
const PRCTLS: [(u32, &str); 13] = [
    (1, "PR_SET_PDEATHSIG: die with the parent"),
    (2, "PR_GET_PDEATHSIG"),
    (3, "PR_GET_DUMPABLE"),
    (4, "PR_SET_DUMPABLE: own core dumps; none fits the limit for them"),
    (15, "PR_SET_NAME: names of threads"),
    (16, "PR_GET_NAME"),
    (23, "PR_CAPBSET_READ: there is nothing to see"),
    (27, "PR_GET_SECUREBITS"),
    (29, "PR_SET_TIMERSLACK"),
    (38, "PR_SET_NO_NEW_PRIVS: already set"),
    (39, "PR_GET_NO_NEW_PRIVS"),
    (41, "PR_SET_THP_DISABLE: runtimes"),
    (0x5356_4d41, "PR_SET_VMA: names of memory areas"),
];

const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;
const X32_BIT: u32 = 0x4000_0000;
// Families and types of sockets (linux/socket.h, linux/net.h), and the protocol that each type has on the internet.
const AF_UNIX: u32 = 1;
const AF_INET: u32 = 2;
const AF_INET6: u32 = 10;
const SOCK_TYPE: u32 = 0xf;
const SOCK_STREAM: u32 = 1;
const SOCK_DGRAM: u32 = 2;
const INTERNET: [(u32, u32); 2] = [(SOCK_STREAM, 6), (SOCK_DGRAM, 17)];
const SYS_SOCKET: u32 = 41;
const SYS_SOCKETPAIR: u32 = 53;
const SYS_CLONE: u32 = 56;
const SYS_IOCTL: u32 = 16;
const SYS_SETRLIMIT: u32 = 160;
const SYS_PRLIMIT64: u32 = 302;
const RLIMIT_CORE: u32 = 4;
const SYS_CLONE3: u32 = 435;
const SYS_OPENAT2: u32 = 437;
/// Set-user-id and set-group-id.
const SET_ID: u32 = 0o6000;
const O_CREAT_OR_TMPFILE: u32 = 0o100 | 0o20_000_000;
/// Calls that give a file a mode: chmod, fchmod, fchmodat, fchmodat2, creat, mkdir, mkdirat, mknod, mknodat, with the
/// argument that holds it.
const MODES: &[(u32, u32)] = &[
    (90, ARG1),
    (91, ARG1),
    (268, ARG2),
    (452, ARG2),
    (85, ARG1),
    (83, ARG1),
    (258, ARG2),
    (133, ARG1),
    (259, ARG2),
];
/// open and openat, with the arguments that hold flags and mode.
const OPENS: &[(u32, u32, u32)] = &[(2, ARG1, ARG2), (257, ARG2, ARG3)];
// Offsets in struct seccomp_data (seccomp(2)); the low half of an argument comes first on this architecture.
const NR: u32 = 0;
const ARCH: u32 = 4;
const ARG0: u32 = 16;
const ARG1: u32 = 24;
const ARG2: u32 = 32;
const ARG3: u32 = 40;
// Return values (linux/seccomp.h).
const KILL_PROCESS: u32 = 0x8000_0000;
const ERRNO: u32 = 0x0005_0000;
const ALLOW: u32 = 0x7fff_0000;
/// The call is not made, and its caller told that it succeeded.
const DONE: u32 = ERRNO;

fn errno(number: Errno) -> u32 {
    ERRNO | (number as i32).unsigned_abs()
}

/// Why there is no filter.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FilterError {
    /// No profile has this name.
    #[error("there is no system call profile {0:?}; octant knows minimal, shell, compiler, python and node")]
    Profile(String),
    /// No system call has this name.
    #[error("{0:?} is no system call that this build knows")]
    Unknown(String),
    /// The floor denies it to everybody, or it is filtered by argument and cannot be granted whole.
    #[error("the system call {name:?} can be granted to no agent: {why}")]
    Floor {
        /// The call.
        name: String,
        /// Why.
        why: &'static str,
    },
    /// libseccomp refused.
    #[error("libseccomp: {0}")]
    Library(#[from] SeccompError),
    /// The compiled program could not be read back.
    #[error("the compiled filter cannot be read: {0}")]
    Io(#[from] std::io::Error),
}

fn statement(code: u16, k: u32) -> Instruction {
    Instruction { code, jt: 0, jf: 0, k }
}

const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const RETURN: u16 = 0x06; // BPF_RET | BPF_K
const AND: u16 = 0x54; // BPF_ALU | BPF_AND | BPF_K
const IF_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const IF_ABOVE: u16 = 0x25; // BPF_JMP | BPF_JGT | BPF_K
const IF_AT_LEAST: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
const IF_ANY_BIT: u16 = 0x45; // BPF_JMP | BPF_JSET | BPF_K
const SKIP: u16 = 0x05; // BPF_JMP | BPF_JA

/// `if (A <test> k) return verdict;`
fn when(test: u16, k: u32, verdict: u32) -> [Instruction; 2] {
    [Instruction { code: test, jt: 0, jf: 1, k }, statement(RETURN, verdict)]
}

/// If A is `number`: these instructions about an argument; allowed otherwise, and whatever they do not deny.
fn by_argument(number: u32, argument: u32, tests: Vec<Instruction>) -> Vec<Instruction> {
    let skip = u8::try_from(tests.len() + 1).unwrap_or(u8::MAX);
    let mut part =
        vec![Instruction { code: IF_EQUAL, jt: 0, jf: skip, k: number }, statement(LOAD, argument)];
    part.extend(tests);
    part.push(statement(RETURN, ALLOW));
    part
}

/// If A is one of the numbers: denied; allowed otherwise.
fn denies(numbers: &[u32]) -> Vec<Instruction> {
    let to_the_end = |i: usize| u8::try_from(numbers.len() - i).unwrap_or(u8::MAX);
    let test =
        |(i, number): (usize, &u32)| Instruction { code: IF_EQUAL, jt: to_the_end(i), jf: 0, k: *number };
    let mut part: Vec<Instruction> = numbers.iter().enumerate().map(test).collect();
    part.extend([statement(RETURN, ALLOW), statement(RETURN, errno(Errno::EPERM))]);
    part
}

/// The parts, each with the first number that it is for, as a tree: a call is compared with a few numbers and not with all
/// of them. The kernel keeps no verdict on a call whose arguments count, and opening a file is one.
fn tree(parts: &[(u32, Vec<Instruction>)]) -> Vec<Instruction> {
    let (left, right) = parts.split_at(parts.len() / 2);
    match (left, right) {
        ([], []) => vec![statement(RETURN, ALLOW)],
        ([], [(_, part), ..]) => part.clone(),
        (_, [(first, _), ..]) => {
            let (code, below) = (IF_AT_LEAST, tree(left));
            let over = u32::try_from(below.len()).unwrap_or(u32::MAX);
            let mut program = vec![Instruction { code, jt: 0, jf: 1, k: *first }, statement(SKIP, over)];
            program.extend(below);
            program.extend(tree(right));
            program
        }
        (_, []) => tree(left),
    }
}

/// A new limit of core dumps is taken for set and is not. The one that there is keeps the kernel from starting the
/// machine's crash handler, and with zero, which programs that want no dump ask for, it would not.
fn core_limit() -> Vec<Instruction> {
    let set = by_argument(SYS_SETRLIMIT, ARG0, when(IF_EQUAL, RLIMIT_CORE, DONE).to_vec());
    // prlimit64 without a new limit is a question; a pointer has 64 bits.
    let mut tests = vec![Instruction { code: IF_EQUAL, jt: 0, jf: 6, k: RLIMIT_CORE }];
    for half in [ARG2, ARG2 + 4] {
        tests.push(statement(LOAD, half));
        tests.extend(when(IF_ANY_BIT, u32::MAX, DONE));
    }
    tree(&[(SYS_SETRLIMIT, set), (SYS_PRLIMIT64, by_argument(SYS_PRLIMIT64, ARG1, tests))])
}

/// The fallbacks: calls that fail as on an older kernel, so that programs do it another way, and one that seems to succeed.
#[must_use]
pub(crate) fn fallbacks() -> Vec<Instruction> {
    let mut program = vec![statement(LOAD, NR)];
    program.extend(when(IF_ABOVE, HIGHEST_KNOWN, errno(Errno::ENOSYS)));
    // What decides is behind a pointer that a filter cannot follow (namespace flags, the mode of a new file); programs
    // fall back to clone and openat.
    program.extend(when(IF_EQUAL, SYS_CLONE3, errno(Errno::ENOSYS)));
    program.extend(when(IF_EQUAL, SYS_OPENAT2, errno(Errno::ENOSYS)));
    // The kernel's own answer for numbers that it has given to nothing, which the profile's filter would not give.
    program.extend([
        Instruction { code: IF_AT_LEAST, jt: 0, jf: 2, k: UNASSIGNED.0 },
        Instruction { code: IF_ABOVE, jt: 1, jf: 0, k: UNASSIGNED.1 },
        statement(RETURN, errno(Errno::ENOSYS)),
    ]);
    program.extend(core_limit());
    program
}

/// Which sockets can be made: local ones, and where there is a network TCP and UDP over IPv4 and IPv6, whose only way
/// out is the gate. Every other family, type and protocol reaches parts of the kernel that few programs need.
fn sockets(network: bool) -> Vec<Instruction> {
    let mut tests = when(IF_EQUAL, AF_UNIX, ALLOW).to_vec();
    if !network {
        tests.push(statement(RETURN, errno(Errno::EAFNOSUPPORT)));
        return tests;
    }
    tests.extend([
        Instruction { code: IF_EQUAL, jt: 2, jf: 0, k: AF_INET },
        Instruction { code: IF_EQUAL, jt: 1, jf: 0, k: AF_INET6 },
        statement(RETURN, errno(Errno::EAFNOSUPPORT)),
        statement(LOAD, ARG1),
        statement(AND, SOCK_TYPE),
    ]);
    for (kind, protocol) in INTERNET {
        // Past what this kind is asked.
        tests.push(Instruction { code: IF_EQUAL, jt: 0, jf: 6, k: kind });
        tests.push(statement(LOAD, ARG2));
        tests.extend(when(IF_EQUAL, 0, ALLOW));
        tests.extend(when(IF_EQUAL, protocol, ALLOW));
        tests.push(statement(RETURN, errno(Errno::EPROTONOSUPPORT)));
    }
    tests.push(statement(RETURN, errno(Errno::EPERM)));
    tests
}

/// The floor: a list of what is denied, everything else is left to the other filters.
#[must_use]
pub(crate) fn floor(network: bool) -> Vec<Instruction> {
    let mut program = vec![statement(LOAD, ARCH)];
    // Foreign system call tables (int 0x80, x32) have other numbers for the same calls: never a fallback, always an attack.
    program.extend([
        Instruction { code: IF_EQUAL, jt: 1, jf: 0, k: AUDIT_ARCH_X86_64 },
        statement(RETURN, KILL_PROCESS),
    ]);
    program.push(statement(LOAD, NR));
    program.extend(when(IF_AT_LEAST, X32_BIT, KILL_PROCESS));
    // The profile's filter must let `seccomp` through, since this one is installed after it.
    let mut numbers: Vec<u32> = actions::floor().map(|row| row.number).collect();
    numbers.sort_unstable();
    let mut parts = arguments(network);
    let mut rest = &numbers[..];
    while let [first, ..] = rest {
        // None of those that are looked at by argument lies between the first and the last of one part.
        let next = parts.range(first..).next().map_or(u32::MAX, |part| *part.0);
        let count = rest.iter().take(DENIED_TOGETHER).take_while(|number| **number < next).count();
        let (part, others) = rest.split_at(count.max(1));
        parts.insert(*first, denies(part));
        rest = others;
    }
    program.extend(tree(&parts.into_iter().collect::<Vec<_>>()));
    program
}

/// How many numbers are compared one after the other.
const DENIED_TOGETHER: usize = 8;

/// What of the floor depends on arguments, by number: the kernel looks at the lower 32 bits of these, so the filter does too.
fn arguments(network: bool) -> BTreeMap<u32, Vec<Instruction>> {
    let denied = errno(Errno::EPERM);
    let ioctls = DENIED_IOCTLS.iter().flat_map(|command| when(IF_EQUAL, *command, denied)).collect();
    let mut rows = vec![
        (SYS_CLONE, ARG0, when(IF_ANY_BIT, NAMESPACE_FLAGS, denied).to_vec()),
        (SYS_SOCKET, ARG0, sockets(network)),
        (SYS_SOCKETPAIR, ARG0, sockets(false)),
        (SYS_IOCTL, ARG1, ioctls),
    ];
    // No file with a set-id bit can be made: inside it would mean nothing, but a granted directory is the host's too.
    rows.extend(MODES.iter().map(|(call, mode)| (*call, *mode, when(IF_ANY_BIT, SET_ID, denied).to_vec())));
    rows.extend(OPENS.iter().map(|(call, flags, mode)| {
        // Without these flags the kernel does not look at the mode.
        let mut tests = vec![Instruction { code: IF_ANY_BIT, jt: 0, jf: 3, k: O_CREAT_OR_TMPFILE }];
        tests.push(statement(LOAD, *mode));
        tests.extend(when(IF_ANY_BIT, SET_ID, denied));
        (*call, *flags, tests)
    }));
    rows.into_iter().map(|(call, argument, tests)| (call, by_argument(call, argument, tests))).collect()
}

fn masked(argument: u32, mask: u64, value: u64) -> ScmpArgCompare {
    ScmpArgCompare::new(argument, ScmpCompareOp::MaskedEqual(mask), value)
}

const LOW: u64 = 0xffff_ffff;

fn context() -> Result<ScmpFilterContext, SeccompError> {
    let mut context = ScmpFilterContext::new(ScmpAction::Errno(Errno::EPERM as i32))?;
    context.set_act_badarch(ScmpAction::KillProcess)?;
    // A binary tree instead of a list; the kernel caches verdicts that depend on the number alone anyway.
    context.set_ctl_optimize(2)?;
    debug_assert!(context.is_arch_present(ScmpArch::Native)?);
    Ok(context)
}

fn call(name: &str) -> Result<ScmpSyscall, FilterError> {
    ScmpSyscall::from_name(name).map_err(|_| FilterError::Unknown(name.to_owned()))
}

fn allow(context: &mut ScmpFilterContext, name: &str) -> Result<(), FilterError> {
    context.add_rule(ScmpAction::Allow, call(name)?)?;
    Ok(())
}

/// The name of the system call that has this number on x86-64.
#[must_use]
pub fn call_name(number: u32) -> Option<String> {
    let known = || ScmpSyscall::from(i32::try_from(number).ok()?).get_name().ok();
    // The library of the build machine may be older than a call.
    actions::DENIALS.iter().find(|row| row.number == number).map(|row| row.name.to_owned()).or_else(known)
}

/// Whether a profile permits a system call of this name, at least with some arguments.
#[must_use]
pub fn permits(name: &str, call: &str) -> bool {
    let Some(profile) = profile(name) else { return false };
    let rows = || profile.groups.iter().flat_map(|group| group.rows);
    match call {
        "socket" | "socketpair" | "ioctl" | "prctl" | "personality" => true,
        "clone" => profile.groups.iter().any(|group| group.clone),
        call => rows().any(|row| row.0 == call),
    }
}

/// Whether a manifest can add this system call: it exists, and neither the floor nor a filter of arguments has it.
#[must_use]
pub fn grantable(name: &str) -> bool {
    actions::denial(name).is_none_or(|row| row.action == Action::Unless)
        && ScmpSyscall::from_name(name).is_ok()
}

/// The filter of a profile with the plan's additions: whatever is not named fails with `EPERM`.
///
/// # Errors
/// [`FilterError`]: an unknown profile or call, or one that the floor denies.
pub(crate) fn of_profile(syscalls: &Syscalls) -> Result<Vec<Instruction>, FilterError> {
    let profile = profile(&syscalls.profile).ok_or_else(|| FilterError::Profile(syscalls.profile.clone()))?;
    let mut context = context()?;
    for row in profile.groups.iter().flat_map(|group| group.rows) {
        allow(&mut context, row.0)?;
    }
    for name in &syscalls.add {
        if let Some(row) = actions::denial(name).filter(|row| row.action != Action::Unless) {
            return Err(FilterError::Floor { name: name.clone(), why: row.why });
        }
        allow(&mut context, name)?;
    }
    if profile.groups.iter().any(|group| group.clone) {
        let plain = masked(0, u64::from(NAMESPACE_FLAGS), 0);
        context.add_rule_conditional(ScmpAction::Allow, call("clone")?, &[plain])?;
    }
    for name in ["socket", "socketpair"] {
        context.add_rule_conditional(
            ScmpAction::Allow,
            call(name)?,
            &[masked(0, LOW, u64::from(AF_UNIX))],
        )?;
    }
    if syscalls.network {
        for family in [AF_INET, AF_INET6] {
            for (kind, own) in INTERNET {
                for protocol in [0, own] {
                    let [family, kind, protocol] = [family, kind, protocol].map(u64::from);
                    let kind = masked(1, u64::from(SOCK_TYPE), kind);
                    let rule = [masked(0, LOW, family), kind, masked(2, LOW, protocol)];
                    context.add_rule_conditional(ScmpAction::Allow, call("socket")?, &rule)?;
                }
            }
        }
    }
    for (command, _) in IOCTLS {
        context.add_rule_conditional(
            ScmpAction::Allow,
            call("ioctl")?,
            &[masked(1, LOW, u64::from(command))],
        )?;
    }
    for (operation, _) in PRCTLS {
        context.add_rule_conditional(
            ScmpAction::Allow,
            call("prctl")?,
            &[masked(0, LOW, u64::from(operation))],
        )?;
    }
    for persona in [0, LOW] {
        // Plain Linux, and the question which one it is.
        context.add_rule_conditional(ScmpAction::Allow, call("personality")?, &[masked(0, LOW, persona)])?;
    }
    // For the floor's own installation only, which takes it away again.
    allow(&mut context, "seccomp")?;
    export(&context)
}

/// The filter of the reaper.
///
/// # Errors
/// [`FilterError::Library`].
pub(crate) fn of_reaper() -> Result<Vec<Instruction>, FilterError> {
    let mut context = context()?;
    for row in REAPER {
        allow(&mut context, row.0)?;
    }
    allow(&mut context, "seccomp")?;
    export(&context)
}

/// The filter of the process that reads what is to be kept.
///
/// # Errors
/// [`FilterError::Library`].
pub(crate) fn of_collector() -> Result<Vec<Instruction>, FilterError> {
    let mut context = context()?;
    for row in COLLECTOR {
        allow(&mut context, row.0)?;
    }
    export(&context)
}

fn export(context: &ScmpFilterContext) -> Result<Vec<Instruction>, FilterError> {
    // libseccomp writes the program to a descriptor; this one is memory.
    let fd = nix::sys::memfd::memfd_create(c"filter", nix::sys::memfd::MFdFlags::MFD_CLOEXEC)
        .map_err(std::io::Error::from)?;
    context.export_bpf(&fd)?;
    let mut file = std::fs::File::from(fd);
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    let (rows, _) = bytes.as_chunks::<8>();
    Ok(rows
        .iter()
        .map(|b| Instruction {
            code: u16::from_ne_bytes([b[0], b[1]]),
            jt: b[2],
            jf: b[3],
            k: u32::from_ne_bytes([b[4], b[5], b[6], b[7]]),
        })
        .collect())
}

#[cfg(test)]
mod tests;
