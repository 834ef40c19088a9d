//! What becomes of each system call that no profile has: reviewed data, complete for every number that this build knows.
//!
//! A call that a profile has is allowed there and `EPERM` under the others, unless the manifest adds it
//! ([`crate::profiles`]). Numbers that no kernel has given to anything are `ENOSYS`, and a foreign system call table (int
//! 0x80, x32) kills the process: a program for this machine has no reason to use one.

/// What a denied call gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// `EPERM`, unless the manifest's `syscalls.add` names it.
    Unless,
    /// `EPERM`, whoever signs: the floor.
    Never,
    /// `ENOSYS`, whoever signs, so that programs do it another way.
    Absent,
    /// Decided by an argument; cannot be granted whole.
    Argument,
}

/// A system call that no profile allows whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Denial {
    /// Its number on x86-64.
    pub number: u32,
    /// Its name, as in syscalls(2).
    pub name: &'static str,
    /// What it gets.
    pub action: Action,
    /// Why.
    pub why: &'static str,
}

/// The row of this call, where no profile allows it whole.
#[must_use]
pub fn denial(name: &str) -> Option<&'static Denial> {
    DENIALS.iter().find(|row| row.name == name)
}

/// The calls that no plan can lift. Capabilities, namespaces and mounts stop most of them as well.
pub(crate) fn floor() -> impl Iterator<Item = &'static Denial> {
    DENIALS.iter().filter(|row| row.action == Never)
}

const fn row(number: u32, name: &'static str, action: Action, why: &'static str) -> Denial {
    Denial { number, name, action, why }
}

use Action::{Absent, Argument, Never, Unless};

const AIO: &str = "few programs use this older form of asynchronous input and output";
const CLOCK: &str = "it changes the machine's clock or name for everybody";
const EXEC: &str = "it starts a program by descriptor, which no list of paths sees";
const HANDLES: &str = "it opens files past the workstation's mount view";
const IDS: &str = "without capabilities it can do nothing";
const IO: &str = "it reaches devices directly";
const IPC: &str = "no profile needs message queues";
const KERNEL: &str = "it reaches kernel facilities that have no per-agent limit";
const KEYS: &str = "kernel keyrings are shared beyond the workstation";
const LOCAL: &str = "only local sockets; other families are EAFNOSUPPORT, as on a kernel without them";
const LOCKED: &str = "no memory can be locked";
const LSM: &str = "it tells about or changes security modules, which are not the agent's affair";
const MODULES: &str = "it puts code into the kernel";
const MOUNTS: &str = "it changes which files the workstation has";
const NEWER: &str = "programs fall back to what older kernels have";
const OLD: &str = "it is obsolete, and kept by few programs other than exploits";
const OTHERS: &str = "it reads or writes another process's memory or descriptors";
const PERSONA: &str = "only plain Linux; others weaken the layout of memory";
const PIPES: &str =
    "it maps pages of a process into a pipe, which has had its share of escapes; pipes work without";
const POINTER: &str =
    "what decides is behind a pointer that a filter cannot follow, and programs fall back to the older form";
const POWER: &str = "it ends or replaces the running system";
const PROBES: &str = "the kernel itself puts it into traced programs, and newer ones then ask no filter";
const RARE: &str = "it is emulated by the kernel, slowly, for programs that are long gone";
const REQUESTS: &str =
    "only the requests that are named; the others reach drivers or the process's own confinement";
const SECCOMP: &str = "it could only narrow, and its notifications could stand in for calls";
const SECRET: &str = "it makes memory that the supervisor cannot look into";
const SPACES: &str = "it leaves or nests the workstation's namespaces";
const UNBUILT: &str = "no kernel of this architecture has had it for years";
const URING: &str = "it does work that the system call filter does not see";

/// Every system call that no profile allows whole, by number.
pub const DENIALS: &[Denial] = &[
    row(16, "ioctl", Argument, REQUESTS),
    row(41, "socket", Argument, LOCAL),
    row(53, "socketpair", Argument, LOCAL),
    row(56, "clone", Argument, SPACES),
    row(68, "msgget", Unless, IPC),
    row(69, "msgsnd", Unless, IPC),
    row(70, "msgrcv", Unless, IPC),
    row(71, "msgctl", Unless, IPC),
    row(101, "ptrace", Never, OTHERS),
    row(103, "syslog", Never, KERNEL),
    row(116, "setgroups", Unless, IDS),
    row(122, "setfsuid", Unless, IDS),
    row(123, "setfsgid", Unless, IDS),
    row(126, "capset", Unless, IDS),
    row(134, "uselib", Never, OLD),
    row(135, "personality", Argument, PERSONA),
    row(136, "ustat", Never, OLD),
    row(139, "sysfs", Never, OLD),
    row(151, "mlockall", Unless, LOCKED),
    row(152, "munlockall", Unless, LOCKED),
    row(153, "vhangup", Never, IO),
    row(154, "modify_ldt", Never, OLD),
    row(155, "pivot_root", Never, MOUNTS),
    row(156, "_sysctl", Never, OLD),
    row(157, "prctl", Argument, REQUESTS),
    row(159, "adjtimex", Never, CLOCK),
    row(161, "chroot", Never, MOUNTS),
    row(163, "acct", Never, KERNEL),
    row(164, "settimeofday", Never, CLOCK),
    row(165, "mount", Never, MOUNTS),
    row(166, "umount2", Never, MOUNTS),
    row(167, "swapon", Never, KERNEL),
    row(168, "swapoff", Never, KERNEL),
    row(169, "reboot", Never, POWER),
    row(170, "sethostname", Never, CLOCK),
    row(171, "setdomainname", Never, CLOCK),
    row(172, "iopl", Never, IO),
    row(173, "ioperm", Never, IO),
    row(174, "create_module", Never, MODULES),
    row(175, "init_module", Never, MODULES),
    row(176, "delete_module", Never, MODULES),
    row(177, "get_kernel_syms", Never, OLD),
    row(178, "query_module", Never, OLD),
    row(179, "quotactl", Never, KERNEL),
    row(180, "nfsservctl", Never, OLD),
    row(181, "getpmsg", Unless, UNBUILT),
    row(182, "putpmsg", Unless, UNBUILT),
    row(183, "afs_syscall", Unless, UNBUILT),
    row(184, "tuxcall", Unless, UNBUILT),
    row(185, "security", Unless, UNBUILT),
    row(205, "set_thread_area", Unless, UNBUILT),
    row(206, "io_setup", Unless, AIO),
    row(207, "io_destroy", Unless, AIO),
    row(208, "io_getevents", Unless, AIO),
    row(209, "io_submit", Unless, AIO),
    row(210, "io_cancel", Unless, AIO),
    row(211, "get_thread_area", Unless, UNBUILT),
    row(212, "lookup_dcookie", Never, OLD),
    row(214, "epoll_ctl_old", Unless, UNBUILT),
    row(215, "epoll_wait_old", Unless, UNBUILT),
    row(216, "remap_file_pages", Unless, RARE),
    row(227, "clock_settime", Never, CLOCK),
    row(236, "vserver", Unless, UNBUILT),
    row(240, "mq_open", Unless, IPC),
    row(241, "mq_unlink", Unless, IPC),
    row(242, "mq_timedsend", Unless, IPC),
    row(243, "mq_timedreceive", Unless, IPC),
    row(244, "mq_notify", Unless, IPC),
    row(245, "mq_getsetattr", Unless, IPC),
    row(246, "kexec_load", Never, POWER),
    row(248, "add_key", Never, KEYS),
    row(249, "request_key", Never, KEYS),
    row(250, "keyctl", Never, KEYS),
    row(256, "migrate_pages", Never, OTHERS),
    row(272, "unshare", Never, SPACES),
    row(278, "vmsplice", Unless, PIPES),
    row(279, "move_pages", Never, OTHERS),
    row(298, "perf_event_open", Never, KERNEL),
    row(300, "fanotify_init", Never, KERNEL),
    row(301, "fanotify_mark", Never, KERNEL),
    row(303, "name_to_handle_at", Never, HANDLES),
    row(304, "open_by_handle_at", Never, HANDLES),
    row(305, "clock_adjtime", Never, CLOCK),
    row(308, "setns", Never, SPACES),
    row(310, "process_vm_readv", Never, OTHERS),
    row(311, "process_vm_writev", Never, OTHERS),
    row(312, "kcmp", Never, OTHERS),
    row(313, "finit_module", Never, MODULES),
    row(317, "seccomp", Never, SECCOMP),
    row(320, "kexec_file_load", Never, POWER),
    row(321, "bpf", Never, KERNEL),
    row(322, "execveat", Never, EXEC),
    row(323, "userfaultfd", Never, KERNEL),
    row(333, "io_pgetevents", Unless, AIO),
    row(335, "uretprobe", Unless, PROBES),
    row(336, "uprobe", Unless, PROBES),
    row(425, "io_uring_setup", Never, URING),
    row(426, "io_uring_enter", Never, URING),
    row(427, "io_uring_register", Never, URING),
    row(428, "open_tree", Never, MOUNTS),
    row(429, "move_mount", Never, MOUNTS),
    row(430, "fsopen", Never, MOUNTS),
    row(431, "fsconfig", Never, MOUNTS),
    row(432, "fsmount", Never, MOUNTS),
    row(433, "fspick", Never, MOUNTS),
    row(435, "clone3", Absent, POINTER),
    row(437, "openat2", Absent, POINTER),
    row(438, "pidfd_getfd", Never, OTHERS),
    row(440, "process_madvise", Never, OTHERS),
    row(442, "mount_setattr", Never, MOUNTS),
    row(443, "quotactl_fd", Never, KERNEL),
    row(447, "memfd_secret", Never, SECRET),
    row(448, "process_mrelease", Never, OTHERS),
    row(449, "futex_waitv", Unless, NEWER),
    row(450, "set_mempolicy_home_node", Unless, NEWER),
    row(451, "cachestat", Unless, NEWER),
    row(453, "map_shadow_stack", Unless, NEWER),
    row(454, "futex_wake", Unless, NEWER),
    row(455, "futex_wait", Unless, NEWER),
    row(456, "futex_requeue", Unless, NEWER),
    row(457, "statmount", Never, MOUNTS),
    row(458, "listmount", Never, MOUNTS),
    row(459, "lsm_get_self_attr", Unless, LSM),
    row(460, "lsm_set_self_attr", Unless, LSM),
    row(461, "lsm_list_modules", Unless, LSM),
    row(462, "mseal", Unless, NEWER),
];
