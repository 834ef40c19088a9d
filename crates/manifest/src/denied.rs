//! The system calls that no manifest can add, whoever signs it.

/// A row of the permanent deny list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Denied {
    /// The system call's name, as in syscalls(2).
    pub name: &'static str,
    /// What it would break.
    pub why: &'static str,
}

const MODULES: &str = "it puts code into the kernel";
const POWER: &str = "it ends or replaces the running system";
const MOUNTS: &str = "it changes which files the workstation has";
const SPACES: &str = "it leaves or nests the workstation's namespaces";
const OTHERS: &str = "it reads or writes another process's memory or descriptors";
const KERNEL: &str = "it reaches kernel facilities that have no per-agent limit";
const CLOCK: &str = "it changes the machine's clock or name for everybody";
const IO: &str = "it reaches devices directly";
const URING: &str = "it does work that the system call filter does not see";
const KEYS: &str = "kernel keyrings are shared beyond the workstation";
const HANDLES: &str = "it opens files past the workstation's mount view";
const OLD: &str = "it is obsolete, and kept by few programs other than exploits";
const EXEC: &str = "it starts a program by descriptor, which no list of paths sees";
const SECRET: &str = "it makes memory that the supervisor cannot look into";
const SECCOMP: &str = "it could only narrow, and its notifications could stand in for calls";

/// The permanent deny list, sorted by name.
pub const DENIED_SYSCALLS: &[Denied] = &[
    Denied { name: "_sysctl", why: OLD },
    Denied { name: "acct", why: KERNEL },
    Denied { name: "add_key", why: KEYS },
    Denied { name: "adjtimex", why: CLOCK },
    Denied { name: "bpf", why: KERNEL },
    Denied { name: "chroot", why: MOUNTS },
    Denied { name: "clock_adjtime", why: CLOCK },
    Denied { name: "clock_settime", why: CLOCK },
    Denied { name: "create_module", why: MODULES },
    Denied { name: "delete_module", why: MODULES },
    Denied { name: "execveat", why: EXEC },
    Denied { name: "fanotify_init", why: KERNEL },
    Denied { name: "fanotify_mark", why: KERNEL },
    Denied { name: "finit_module", why: MODULES },
    Denied { name: "fsconfig", why: MOUNTS },
    Denied { name: "fsmount", why: MOUNTS },
    Denied { name: "fsopen", why: MOUNTS },
    Denied { name: "fspick", why: MOUNTS },
    Denied { name: "get_kernel_syms", why: OLD },
    Denied { name: "init_module", why: MODULES },
    Denied { name: "io_uring_enter", why: URING },
    Denied { name: "io_uring_register", why: URING },
    Denied { name: "io_uring_setup", why: URING },
    Denied { name: "ioperm", why: IO },
    Denied { name: "iopl", why: IO },
    Denied { name: "kcmp", why: OTHERS },
    Denied { name: "kexec_file_load", why: POWER },
    Denied { name: "kexec_load", why: POWER },
    Denied { name: "keyctl", why: KEYS },
    Denied { name: "listmount", why: MOUNTS },
    Denied { name: "lookup_dcookie", why: OLD },
    Denied { name: "memfd_secret", why: SECRET },
    Denied { name: "migrate_pages", why: OTHERS },
    Denied { name: "modify_ldt", why: OLD },
    Denied { name: "mount", why: MOUNTS },
    Denied { name: "mount_setattr", why: MOUNTS },
    Denied { name: "move_mount", why: MOUNTS },
    Denied { name: "move_pages", why: OTHERS },
    Denied { name: "name_to_handle_at", why: HANDLES },
    Denied { name: "nfsservctl", why: OLD },
    Denied { name: "open_by_handle_at", why: HANDLES },
    Denied { name: "open_tree", why: MOUNTS },
    Denied { name: "open_tree_attr", why: MOUNTS },
    Denied { name: "perf_event_open", why: KERNEL },
    Denied { name: "pidfd_getfd", why: OTHERS },
    Denied { name: "pivot_root", why: MOUNTS },
    Denied { name: "process_madvise", why: OTHERS },
    Denied { name: "process_mrelease", why: OTHERS },
    Denied { name: "process_vm_readv", why: OTHERS },
    Denied { name: "process_vm_writev", why: OTHERS },
    Denied { name: "ptrace", why: OTHERS },
    Denied { name: "query_module", why: OLD },
    Denied { name: "quotactl", why: KERNEL },
    Denied { name: "quotactl_fd", why: KERNEL },
    Denied { name: "reboot", why: POWER },
    Denied { name: "request_key", why: KEYS },
    Denied { name: "seccomp", why: SECCOMP },
    Denied { name: "setdomainname", why: CLOCK },
    Denied { name: "sethostname", why: CLOCK },
    Denied { name: "setns", why: SPACES },
    Denied { name: "settimeofday", why: CLOCK },
    Denied { name: "statmount", why: MOUNTS },
    Denied { name: "stime", why: CLOCK },
    Denied { name: "swapoff", why: KERNEL },
    Denied { name: "swapon", why: KERNEL },
    Denied { name: "sysfs", why: OLD },
    Denied { name: "syslog", why: KERNEL },
    Denied { name: "umount", why: MOUNTS },
    Denied { name: "umount2", why: MOUNTS },
    Denied { name: "unshare", why: SPACES },
    Denied { name: "uselib", why: OLD },
    Denied { name: "userfaultfd", why: KERNEL },
    Denied { name: "ustat", why: OLD },
    Denied { name: "vhangup", why: IO },
];

/// The row that forbids this system call, if there is one.
pub(crate) fn denied(name: &str) -> Option<&'static Denied> {
    DENIED_SYSCALLS.binary_search_by(|row| row.name.cmp(name)).ok().map(|at| &DENIED_SYSCALLS[at])
}
