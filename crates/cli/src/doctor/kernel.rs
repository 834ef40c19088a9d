//! What the kernel offers: which layers of isolation, and how to get what is missing.
//!
//! [`gather`] looks (files below `/proc` and `/sys`, and system calls that change nothing); [`judge`] is
//! pure and says what it means.

use super::{Check, Part, Verdict};
use landlock::{ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, Scope};
use nix::errno::Errno;
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// What was found; plain data, so that every answer can be tested.
#[derive(Debug, Clone, Default)]
pub(crate) struct Facts {
    /// `uname -r`.
    pub(crate) release: String,
    /// Whether this process is root in its user namespace.
    pub(crate) root: bool,
    /// The kinds of namespaces below `/proc/self/ns`.
    pub(crate) namespaces: Vec<String>,
    /// Kinds whose `/proc/sys/user/max_*_namespaces` is 0.
    pub(crate) exhausted: Vec<String>,
    /// A switch that forbids user namespaces to ordinary users, by its path below `/proc/sys`.
    pub(crate) userns_switch: Option<&'static str>,
    /// Where cgroup v2 is mounted.
    pub(crate) cgroup2: Option<PathBuf>,
    /// Its controllers.
    pub(crate) controllers: Vec<String>,
    /// Controllers that cgroup v1 holds.
    pub(crate) v1_controllers: Vec<String>,
    /// The kernel's Landlock ABI, as far as this build knows it; 0 where there is none.
    pub(crate) landlock: u32,
    /// `/proc/sys/kernel/seccomp/actions_avail`.
    pub(crate) seccomp_actions: Vec<String>,
    /// What keeps the kernel from reporting denied system calls: no audit, `audit=0`, or no `errno` in
    /// `kernel.seccomp.actions_logged`.
    pub(crate) unreported: Option<&'static str>,
    /// The kernel's packet filter, with which a workstation's own network is closed once more.
    pub(crate) nftables: Asked,
    /// Programs in a cgroup that the kernel asks where an agent connects to.
    pub(crate) hooks: Asked,
    /// Whether `memfd_create` takes MFD_NOEXEC_SEAL.
    pub(crate) memfd_noexec: bool,
    /// `/proc/filesystems`.
    pub(crate) filesystems: Vec<String>,
    /// `/proc/sys/kernel/yama/ptrace_scope`.
    pub(crate) ptrace_scope: Option<String>,
}

/// What the kernel says of something that only root can ask about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Asked {
    /// It is there.
    Yes,
    /// It is not, and why.
    No(String),
    /// This process may not ask.
    #[default]
    Unknown,
}

impl Asked {
    fn of<T>(answer: &io::Result<T>) -> Self {
        match answer {
            Ok(_) => Self::Yes,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Self::Unknown,
            Err(error) => Self::No(error.to_string()),
        }
    }
}

/// The namespaces that a workstation consists of: name below `/proc/self/ns`, kernel option.
const NAMESPACES: [(&str, &str); 8] = [
    ("user", "CONFIG_USER_NS"),
    ("mnt", "CONFIG_NAMESPACES"),
    ("pid", "CONFIG_PID_NS"),
    ("net", "CONFIG_NET_NS"),
    ("ipc", "CONFIG_IPC_NS"),
    ("uts", "CONFIG_UTS_NS"),
    ("cgroup", "CONFIG_CGROUPS"),
    ("time", "CONFIG_TIME_NS"),
];

/// The controllers that a manifest's limits need.
const CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];

/// Looks at the system whose root is `root`.
pub(crate) fn gather(root: &Path) -> Facts {
    let text = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default();
    let words = |path: &str| text(path).split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let (cgroup2, v1_controllers) = cgroups(&text("proc/self/mountinfo"));
    let controllers = cgroup2.as_deref().and_then(Path::to_str).map_or_else(Vec::new, |mount| {
        words(&format!("{}/cgroup.controllers", mount.trim_start_matches('/')))
    });
    Facts {
        release: text("proc/sys/kernel/osrelease").trim().to_owned(),
        root: nix::unistd::geteuid().is_root(),
        namespaces: names(&root.join("proc/self/ns")),
        exhausted: NAMESPACES
            .iter()
            .filter(|(kind, _)| text(&format!("proc/sys/user/max_{kind}_namespaces")).trim() == "0")
            .map(|(kind, _)| (*kind).to_owned())
            .collect(),
        userns_switch: userns_switch(&text),
        cgroup2,
        controllers,
        v1_controllers,
        landlock: landlock_abi(),
        seccomp_actions: words("proc/sys/kernel/seccomp/actions_avail"),
        unreported: unreported(&words),
        nftables: Asked::of(&octant_sys::nftables::allows_only(&[])),
        hooks: Asked::of(&octant_sys::hooks::Hooks::load(&[])),
        memfd_noexec: memfd_noexec(),
        filesystems: words("proc/filesystems"),
        ptrace_scope: Some(text("proc/sys/kernel/yama/ptrace_scope").trim().to_owned())
            .filter(|scope| !scope.is_empty()),
    }
}

/// Whoever may not read audit records can still tell whether there are any.
fn unreported(words: &impl Fn(&str) -> Vec<String>) -> Option<&'static str> {
    let audit = octant_sys::audit::listen();
    if audit.is_err_and(|error| error.raw_os_error() == Some(Errno::EPROTONOSUPPORT as i32)) {
        return Some("the kernel has no audit");
    }
    if words("proc/cmdline").iter().any(|word| word == "audit=0" || word == "audit=off") {
        return Some("audit=0");
    }
    let logged = words("proc/sys/kernel/seccomp/actions_logged");
    (!logged.iter().any(|action| action == "errno")).then_some("kernel.seccomp.actions_logged lacks errno")
}

fn names(dir: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect()
}

/// Debian's and Ubuntu's own switches.
fn userns_switch(text: &impl Fn(&str) -> String) -> Option<&'static str> {
    if text("proc/sys/kernel/unprivileged_userns_clone").trim() == "0" {
        return Some("kernel.unprivileged_userns_clone");
    }
    (text("proc/sys/kernel/apparmor_restrict_unprivileged_userns").trim() == "1")
        .then_some("kernel.apparmor_restrict_unprivileged_userns")
}

/// Where cgroup v2 is mounted, and which controllers v1 mounts hold (proc_pid_mountinfo(5): the file system's
/// type and its options follow the field "-").
fn cgroups(mountinfo: &str) -> (Option<PathBuf>, Vec<String>) {
    let mut found = (None, Vec::new());
    for line in mountinfo.lines() {
        let Some((left, right)) = line.split_once(" - ") else { continue };
        let mut right = right.split(' ');
        match right.next() {
            Some("cgroup2") => found.0 = left.split(' ').nth(4).map(PathBuf::from).or(found.0),
            Some("cgroup") => {
                let options = right.nth(1).unwrap_or_default();
                let controllers = options.split(',').filter(|o| *o != "rw" && !o.starts_with("name="));
                found.1.extend(controllers.map(str::to_owned));
            }
            _ => {}
        }
    }
    found
}

/// The highest ABI whose rights the kernel takes: a ruleset is made and dropped, nothing is restricted.
fn landlock_abi() -> u32 {
    let known = [(6, ABI::V6), (5, ABI::V5), (4, ABI::V4), (3, ABI::V3), (2, ABI::V2), (1, ABI::V1)];
    known.iter().find(|(_, abi)| takes(*abi)).map_or(0, |(number, _)| *number)
}

fn takes(abi: ABI) -> bool {
    let ruleset = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    let ruleset = ruleset.handle_access(AccessFs::from_all(abi));
    let ruleset = match abi {
        ABI::V4 | ABI::V5 => ruleset.and_then(|r| r.handle_access(AccessNet::from_all(abi))),
        ABI::V6 => ruleset
            .and_then(|r| r.handle_access(AccessNet::from_all(abi)))
            .and_then(|r| r.scope(Scope::from_all(abi))),
        _ => ruleset,
    };
    ruleset.and_then(Ruleset::create).is_ok()
}

/// memfd_create(2): MFD_NOEXEC_SEAL is 8, from Linux 6.3 on; older kernels answer EINVAL.
fn memfd_noexec() -> bool {
    !matches!(memfd_create(c"octant-doctor", MFdFlags::from_bits_retain(8)), Err(Errno::EINVAL))
}

/// What the facts mean.
pub(crate) fn judge(facts: &Facts) -> Vec<Check> {
    let mut checks = vec![kernel(facts), privileges(facts)];
    checks.extend(NAMESPACES.iter().map(|(kind, option)| namespace(facts, kind, option)));
    checks.extend([
        cgroup(facts),
        limits(facts),
        landlock(facts),
        seccomp(facts),
        reports(facts),
        nftables(facts),
        hooks(facts),
        memfd(facts),
    ]);
    checks.extend([filesystem(facts, "tmpfs", "CONFIG_TMPFS"), ptrace(facts)]);
    checks
}

/// What the kernel answered, and how it came out where that is no.
fn asked(layer: &'static str, answer: &Asked, what: &str, no: (Verdict, &str)) -> Check {
    match answer {
        Asked::Yes => check(layer, Verdict::Ok, what, ""),
        Asked::Unknown => check(layer, Verdict::Unknown, "only root can ask", "Ask as root."),
        Asked::No(why) => check(layer, no.0, why, no.1),
    }
}

fn nftables(facts: &Facts) -> Check {
    let how = "Load the module nf_tables, or use a kernel with CONFIG_NF_TABLES and CONFIG_NF_TABLES_INET. \
               `--accept-missing=nftables` goes on without: what leaves an agent's network is then stopped by its empty \
               routing table and its filter alone.";
    asked("nftables", &facts.nftables, "nf_tables", (Verdict::Missing, how))
}

fn hooks(facts: &Facts) -> Check {
    let how = "Use a kernel with CONFIG_CGROUP_BPF and CONFIG_BPF_SYSCALL, and a container that allows bpf(2). Agents with \
               hosts are refused until then, or until `--accept-missing=hooks`.";
    asked("hooks", &facts.hooks, "programs of cgroups", (Verdict::Weaker, how))
}

fn check(what: &'static str, verdict: Verdict, found: impl Into<String>, how: impl Into<String>) -> Check {
    Check::new(Part::Kernel, what, verdict, found, how)
}

/// Kernel versions as two numbers; (0, 0) for what cannot be read.
fn version(release: &str) -> (u32, u32) {
    let mut parts = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

/// 5.14 has cgroup.kill; clone into a cgroup (5.7), pidfd_open (5.3), openat2 (5.6), close_range (5.9) and the
/// time namespace (5.6) are older.
fn kernel(facts: &Facts) -> Check {
    if version(&facts.release) >= (5, 14) {
        return check("kernel", Verdict::Ok, &facts.release, "");
    }
    check(
        "kernel",
        Verdict::Missing,
        format!("{} is older than 5.14", facts.release),
        "Octant needs pidfds, clone into a cgroup and cgroup.kill: boot Linux 5.14 or newer (6.12 is what it \
         is tested with).",
    )
}

fn privileges(facts: &Facts) -> Check {
    if facts.root {
        return check("privileges", Verdict::Ok, "root", "");
    }
    match facts.userns_switch {
        None => check("privileges", Verdict::Ok, "an ordinary user, with user namespaces", ""),
        Some(switch) => check(
            "privileges",
            Verdict::Missing,
            format!("{switch} forbids user namespaces"),
            format!(
                "Run Octant as root, or allow user namespaces with `sysctl {switch}={}`.",
                if switch.ends_with("clone") { 1 } else { 0 }
            ),
        ),
    }
}

fn namespace(facts: &Facts, kind: &str, option: &str) -> Check {
    let layer = match kind {
        "user" => "user namespace",
        "mnt" => "mount namespace",
        "pid" => "pid namespace",
        "net" => "network namespace",
        "ipc" => "ipc namespace",
        "uts" => "uts namespace",
        "cgroup" => "cgroup namespace",
        _ => "time namespace",
    };
    if !facts.namespaces.iter().any(|n| n == kind) {
        let how = format!("Boot a kernel with {option}=y; the kernels of Debian, Ubuntu and Fedora have it.");
        return check(layer, Verdict::Missing, format!("no /proc/self/ns/{kind}"), how);
    }
    if facts.exhausted.iter().any(|n| n == kind) {
        let how = format!("Allow some: `sysctl user.max_{kind}_namespaces=4096`.");
        return check(layer, Verdict::Missing, format!("user.max_{kind}_namespaces is 0"), how);
    }
    check(layer, Verdict::Ok, "available", "")
}

fn cgroup(facts: &Facts) -> Check {
    match &facts.cgroup2 {
        Some(mount) => check("cgroup v2", Verdict::Ok, format!("mounted at {}", mount.display()), ""),
        None => check(
            "cgroup v2",
            Verdict::Missing,
            "not mounted",
            "As PID 1 of a machine Octant mounts it itself. On a development machine: `mount -t cgroup2 none \
             /sys/fs/cgroup`, or boot with systemd.unified_cgroup_hierarchy=1.",
        ),
    }
}

fn limits(facts: &Facts) -> Check {
    let lacking: Vec<&str> =
        CONTROLLERS.into_iter().filter(|c| !facts.controllers.iter().any(|have| have == c)).collect();
    if lacking.is_empty() {
        return check("cgroup limits", Verdict::Ok, facts.controllers.join(" "), "");
    }
    let held = lacking.iter().any(|c| facts.v1_controllers.iter().any(|have| have == c));
    let how = if held {
        "cgroup v1 holds these controllers: boot with cgroup_no_v1=all systemd.unified_cgroup_hierarchy=1. \
         For development only, `octant up --accept-missing=cgroup` starts agents without these limits; the \
         ledger and `octant agent list` show it."
    } else {
        "The parent cgroup must pass them on: `echo +cpu +memory +pids >.../cgroup.subtree_control` in every \
         cgroup above; a container needs its own cgroup namespace with delegation (docker: --cgroupns=private, \
         podman: --cgroups=enabled). For development only: `octant up --accept-missing=cgroup`."
    };
    check("cgroup limits", Verdict::Missing, format!("no {} controller", lacking.join(", ")), how)
}

fn landlock(facts: &Facts) -> Check {
    match facts.landlock {
        0 => check(
            "Landlock",
            Verdict::Missing,
            "not in this kernel, or not switched on",
            "Boot with lsm=landlock,... (what /sys/kernel/security/lsm lists, with landlock in front) on a \
             kernel with CONFIG_SECURITY_LANDLOCK=y.",
        ),
        abi @ 1..6 => check(
            "Landlock",
            Verdict::Weaker,
            format!("ABI {abi}"),
            "ABI 6 (Linux 6.12) also confines signals and abstract sockets; namespaces confine both here too.",
        ),
        abi => check("Landlock", Verdict::Ok, format!("ABI {abi} or newer"), ""),
    }
}

fn seccomp(facts: &Facts) -> Check {
    let needed = ["kill_process", "errno"];
    if needed.iter().all(|action| facts.seccomp_actions.iter().any(|have| have == action)) {
        return check("seccomp", Verdict::Ok, facts.seccomp_actions.join(" "), "");
    }
    let how = "Boot a kernel with CONFIG_SECCOMP_FILTER=y (and /proc mounted, where this is read).";
    check("seccomp", Verdict::Missing, "no filters with kill_process and errno", how)
}

fn reports(facts: &Facts) -> Check {
    match facts.unreported {
        None => check("reports", Verdict::Ok, "denied system calls are audit records", ""),
        Some(why) => check(
            "reports",
            Verdict::Weaker,
            why,
            "Without them `octant agent why` shows no denied system call; they are denied all the same. It takes a kernel with \
             CONFIG_AUDIT=y, booted without audit=0, and `errno` in `sysctl kernel.seccomp.actions_logged`.",
        ),
    }
}

fn memfd(facts: &Facts) -> Check {
    if facts.memfd_noexec {
        return check("memfd_noexec", Verdict::Ok, "MFD_NOEXEC_SEAL", "");
    }
    let how = "Linux 6.3 and newer can forbid executable memory files. Without it a workstation's seccomp \
               filter refuses execveat with an empty path instead.";
    check("memfd_noexec", Verdict::Weaker, "memfd_create has no MFD_NOEXEC_SEAL", how)
}

fn filesystem(facts: &Facts, name: &'static str, option: &str) -> Check {
    if facts.filesystems.iter().any(|n| n == name) {
        return check(name, Verdict::Ok, "available", "");
    }
    let how = format!("Boot a kernel with {option}=y.");
    check(name, Verdict::Missing, "not in /proc/filesystems", how)
}

fn ptrace(facts: &Facts) -> Check {
    match facts.ptrace_scope.as_deref() {
        Some("1" | "2" | "3") => check("ptrace_scope", Verdict::Ok, "restricted", ""),
        Some(scope) => check(
            "ptrace_scope",
            Verdict::Weaker,
            scope,
            "`sysctl kernel.yama.ptrace_scope=1` keeps processes of one user from tracing each other outside \
             workstations too.",
        ),
        None => check(
            "ptrace_scope",
            Verdict::Weaker,
            "no Yama",
            "A kernel with CONFIG_SECURITY_YAMA=y keeps processes of one user from tracing each other. Inside \
             a workstation seccomp refuses ptrace in any case.",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A kernel that has everything.
    fn complete() -> Facts {
        let all = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        Facts {
            release: "6.12.43+deb13-cloud-amd64".into(),
            root: true,
            namespaces: NAMESPACES.iter().map(|n| n.0.to_owned()).collect(),
            exhausted: vec![],
            userns_switch: None,
            cgroup2: Some("/sys/fs/cgroup".into()),
            controllers: all(&["cpu", "io", "memory", "pids"]),
            v1_controllers: vec![],
            landlock: 6,
            seccomp_actions: all(&["kill_process", "errno"]),
            unreported: None,
            nftables: Asked::Yes,
            hooks: Asked::Yes,
            memfd_noexec: true,
            filesystems: all(&["nodev", "tmpfs"]),
            ptrace_scope: Some("1".into()),
        }
    }

    fn verdict(facts: &Facts, layer: &str) -> (Verdict, String) {
        let found = judge(facts).into_iter().find(|c| c.what == layer).unwrap();
        (found.verdict, found.how)
    }

    #[test]
    fn a_complete_kernel_has_nothing_to_say() {
        let checks = judge(&complete());
        assert!(checks.iter().all(|c| c.verdict == Verdict::Ok && c.how.is_empty()), "{checks:?}");
    }

    /// Each fact that is taken away changes one row, and that row says how to get it back.
    #[test]
    fn whatever_is_missing_is_named_with_the_way_to_get_it() {
        type Break = fn(&mut Facts);
        let rows: [(Break, &str, Verdict, &str); 19] = [
            (|f| f.release = "5.10.0".into(), "kernel", Verdict::Missing, "5.14"),
            (|f| f.namespaces.retain(|n| n != "time"), "time namespace", Verdict::Missing, "CONFIG_TIME_NS"),
            (|f| f.exhausted.push("user".into()), "user namespace", Verdict::Missing, "max_user_namespaces"),
            (|f| f.cgroup2 = None, "cgroup v2", Verdict::Missing, "mount -t cgroup2"),
            (|f| f.controllers.clear(), "cgroup limits", Verdict::Missing, "subtree_control"),
            (
                |f| (f.controllers, f.v1_controllers) = (vec![], vec!["pids".into()]),
                "cgroup limits",
                Verdict::Missing,
                "cgroup_no_v1=all",
            ),
            (|f| f.landlock = 0, "Landlock", Verdict::Missing, "lsm=landlock"),
            (|f| f.landlock = 4, "Landlock", Verdict::Weaker, "6.12"),
            (|f| f.seccomp_actions.clear(), "seccomp", Verdict::Missing, "CONFIG_SECCOMP_FILTER"),
            (|f| f.unreported = Some("audit=0"), "reports", Verdict::Weaker, "CONFIG_AUDIT"),
            (|f| f.nftables = Asked::No("no".into()), "nftables", Verdict::Missing, "CONFIG_NF_TABLES_INET"),
            (|f| f.hooks = Asked::No("no".into()), "hooks", Verdict::Weaker, "CONFIG_CGROUP_BPF"),
            (|f| f.nftables = Asked::Unknown, "nftables", Verdict::Unknown, "as root"),
            (|f| f.hooks = Asked::Unknown, "hooks", Verdict::Unknown, "as root"),
            (|f| f.memfd_noexec = false, "memfd_noexec", Verdict::Weaker, "6.3"),
            (|f| f.filesystems.clear(), "tmpfs", Verdict::Missing, "CONFIG_TMPFS"),
            (|f| f.ptrace_scope = None, "ptrace_scope", Verdict::Weaker, "YAMA"),
            (|f| f.ptrace_scope = Some("0".into()), "ptrace_scope", Verdict::Weaker, "sysctl"),
            (
                |f| (f.root, f.userns_switch) = (false, Some("kernel.unprivileged_userns_clone")),
                "privileges",
                Verdict::Missing,
                "kernel.unprivileged_userns_clone=1",
            ),
        ];
        for (take_away, layer, expected, hint) in rows {
            let mut facts = complete();
            take_away(&mut facts);
            let (verdict, how) = verdict(&facts, layer);
            assert_eq!(verdict, expected, "{layer}");
            assert!(how.contains(hint), "{layer}: {how}");
            let others = judge(&facts).into_iter().filter(|c| c.what != layer);
            assert!(others.filter(|c| c.verdict != Verdict::Ok).count() == 0, "{layer}");
        }
    }

    #[test]
    fn hybrid_cgroup_mounts_are_told_apart() {
        let text = "\
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime shared:5 - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
broken";
        let (mount, v1) = cgroups(text);
        assert_eq!(mount, Some("/sys/fs/cgroup/unified".into()));
        assert_eq!(v1, ["cpu", "cpuacct"]);
    }

    #[test]
    fn this_machine_can_be_looked_at() {
        let facts = gather(Path::new("/"));
        assert!(version(&facts.release) > (0, 0), "{facts:?}");
        assert!(!judge(&facts).is_empty());
    }
}
