//! The named system call profiles: reviewed data, each call with the reason why it is there.
//!
//! Calls that are filtered by argument (`clone`, `ioctl`, `prctl`, `personality`, `socket`, `socketpair`) are in
//! [`crate::filter`].

use libseccomp::ScmpSyscall;
use std::collections::BTreeSet;

/// A system call and why a profile allows it.
pub(crate) type Row = (&'static str, &'static str);

/// Calls that belong together.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Group {
    /// The calls.
    pub(crate) rows: &'static [Row],
    /// Whether `clone` (without namespace flags) belongs to the group.
    pub(crate) clone: bool,
}

/// A named profile.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Profile {
    /// The name that a manifest uses.
    pub(crate) name: &'static str,
    /// What it is for.
    pub(crate) why: &'static str,
    /// What it allows.
    pub(crate) groups: &'static [&'static Group],
}

/// Every profile that a manifest can name.
pub(crate) const PROFILES: [Profile; 5] = [
    Profile {
        name: "minimal",
        why: "one static program that reads and reports",
        groups: &[&RUN, &LOOK, &PLUMB],
    },
    Profile {
        name: "shell",
        why: "the shell and the utilities: pipes, redirects, background jobs",
        groups: &[&RUN, &LOOK, &PLUMB, &CHANGE, &PROCESS],
    },
    Profile {
        name: "compiler",
        why: "compilers, linkers, build tools and git",
        groups: &[&RUN, &LOOK, &PLUMB, &CHANGE, &PROCESS, &RUNTIME],
    },
    Profile {
        name: "python",
        why: "Python with its standard library",
        groups: &[&RUN, &LOOK, &PLUMB, &CHANGE, &PROCESS, &RUNTIME],
    },
    Profile {
        name: "node",
        why: "Node and its packages",
        groups: &[&RUN, &LOOK, &PLUMB, &CHANGE, &PROCESS, &RUNTIME],
    },
];

/// What the reaper inside a workstation does, all of it.
pub(crate) const REAPER: [Row; 8] = [
    ("write", "the word to the spawner"),
    ("close", "let go of the channel"),
    ("wait4", "reap"),
    ("kill", "pass a signal on"),
    ("rt_sigtimedwait", "wait for the next signal"),
    ("rt_sigreturn", "return from a signal handler"),
    ("restart_syscall", "the kernel's own way back into an interrupted wait"),
    ("exit_group", "pass the exit code on"),
];

/// What the process does that reads what is to be kept of a workspace, all of it. It starts with what was opened for it,
/// and its memory is what it has allocated.
pub(crate) const COLLECTOR: [Row; 19] = [
    ("openat", "the directory itself, to list it"),
    ("openat2", "what is in it, beneath it and through no link"),
    ("getdents64", "list a directory"),
    ("newfstatat", "what is under a name"),
    ("fstat", "what was opened"),
    ("statx", "what was opened"),
    ("readlinkat", "what a link says"),
    ("fcntl", "flags of descriptors"),
    ("lseek", "a listing from its beginning"),
    ("read", "a file"),
    ("write", "the stream"),
    ("close", "let go of what was read"),
    ("brk", "heap"),
    ("mmap", "heap"),
    ("munmap", "heap"),
    ("mremap", "heap"),
    ("madvise", "heap"),
    ("rt_sigreturn", "return from a signal handler"),
    ("exit_group", "the end"),
];

/// The profile of this name.
pub(crate) fn profile(name: &str) -> Option<&'static Profile> {
    PROFILES.iter().find(|profile| profile.name == name)
}

/// The numbers of the calls that a profile allows whole, whatever their arguments; `None` when there is no such profile.
#[must_use]
pub fn granted(name: &str) -> Option<BTreeSet<u32>> {
    let rows = profile(name)?.groups.iter().flat_map(|group| group.rows);
    // Each has a number, or there would be no filter of the profile.
    Some(
        rows.filter_map(|row| u32::try_from(ScmpSyscall::from_name(row.0).ok()?.as_raw_syscall()).ok())
            .collect(),
    )
}

/// The names of all profiles with what each is for.
pub fn profiles() -> impl Iterator<Item = (&'static str, &'static str)> {
    PROFILES.iter().map(|profile| (profile.name, profile.why))
}

/// What any program needs to start, compute and end.
const RUN: Group = Group {
    clone: false,
    rows: &[
        ("read", "read what was opened; also the wait for the spawner's release"),
        ("write", "write to what was opened; also the word to the spawner"),
        ("readv", "vectored read, used by musl and by Rust's standard library"),
        ("writev", "vectored write, used by musl's stdio and by Rust's standard library"),
        ("close", "close a descriptor"),
        ("execve", "the spawner's release; which file can be executed is the mounts' and Landlock's affair"),
        ("exit", "a thread's end"),
        ("exit_group", "the process's end"),
        ("brk", "heap"),
        ("mmap", "heap, stacks, file mappings"),
        ("munmap", "give memory back"),
        ("mremap", "realloc of large blocks"),
        ("mprotect", "stacks with guard pages, relocations made read-only"),
        ("madvise", "give memory back lazily"),
        ("rt_sigaction", "signal handlers"),
        ("rt_sigprocmask", "signal masks"),
        ("rt_sigreturn", "return from a signal handler"),
        ("sigaltstack", "Rust's stack overflow message needs a stack of its own"),
        ("arch_prctl", "thread-local storage at start"),
        ("set_tid_address", "thread start in libc"),
        ("set_robust_list", "robust mutexes in libc start"),
        ("rseq", "registered by glibc at start"),
        ("futex", "locks"),
        ("getrandom", "hash seeds, keys"),
        ("prlimit64", "stack size at start; without capabilities a limit can only be lowered"),
        ("getrlimit", "older programs' form of it"),
        ("restart_syscall", "the kernel's own way back into an interrupted sleep"),
        ("clock_gettime", "time where the vDSO cannot give it"),
        ("clock_getres", "resolution of clocks"),
        ("clock_nanosleep", "sleep"),
        ("nanosleep", "sleep, older form"),
        ("gettimeofday", "time, older form"),
        ("time", "time, oldest form"),
        ("getpid", "own ids"),
        ("gettid", "own ids"),
        ("getppid", "own ids"),
        ("getuid", "own ids"),
        ("geteuid", "own ids"),
        ("getgid", "own ids"),
        ("getegid", "own ids"),
        ("getresuid", "own ids"),
        ("getresgid", "own ids"),
        ("getgroups", "own ids"),
        ("getpgrp", "own ids"),
        ("getpgid", "own ids"),
        ("getsid", "own ids"),
        ("uname", "name of the kernel"),
        ("sysinfo", "amount of memory for cache sizes"),
        ("getcpu", "allocator arenas by processor"),
        ("sched_yield", "spin locks"),
        ("sched_getaffinity", "number of processors"),
        ("getrusage", "own usage"),
        ("times", "own usage"),
        ("capget", "programs that report what they may do; there is nothing to report"),
        ("tgkill", "abort and raise; only own processes can be reached"),
        ("tkill", "raise in older libc"),
        ("kill", "own processes; no other is in the PID namespace"),
        ("membarrier", "asked for at start by some runtimes"),
        ("pause", "wait for a signal"),
        ("alarm", "own timer"),
        ("setitimer", "own timer"),
        ("getitimer", "own timer"),
        ("rt_sigtimedwait", "wait for a signal"),
        ("rt_sigpending", "own pending signals"),
        ("rt_sigsuspend", "wait for a signal"),
        ("rt_sigqueueinfo", "signal with a value to own processes"),
    ],
};

/// Reading the granted files.
const LOOK: Group = Group {
    clone: false,
    rows: &[
        ("open", "open a file; which ones is the mounts' and Landlock's affair"),
        ("openat", "open a file"),
        ("stat", "attributes of a file"),
        ("fstat", "attributes of a file"),
        ("lstat", "attributes of a file"),
        ("newfstatat", "attributes of a file"),
        ("statx", "attributes of a file"),
        ("statfs", "free space"),
        ("fstatfs", "free space"),
        ("access", "can it be opened"),
        ("faccessat", "can it be opened"),
        ("faccessat2", "can it be opened"),
        ("readlink", "target of a link"),
        ("readlinkat", "target of a link"),
        ("getdents", "list a directory, older form"),
        ("getdents64", "list a directory"),
        ("lseek", "move in a file"),
        ("pread64", "read at a place"),
        ("preadv", "read at a place"),
        ("preadv2", "read at a place"),
        ("getcwd", "where am I"),
        ("chdir", "go there; the root cannot be left"),
        ("fchdir", "go there"),
        ("fadvise64", "hint for reading ahead"),
        ("readahead", "hint for reading ahead"),
        ("getxattr", "extended attributes, asked by ls and cp"),
        ("lgetxattr", "extended attributes"),
        ("fgetxattr", "extended attributes"),
        ("listxattr", "extended attributes"),
        ("llistxattr", "extended attributes"),
        ("flistxattr", "extended attributes"),
    ],
};

/// Descriptors, waiting, and the agent's socket.
const PLUMB: Group = Group {
    clone: false,
    rows: &[
        ("dup", "redirects"),
        ("dup2", "redirects"),
        ("dup3", "redirects"),
        ("fcntl", "flags of descriptors, file locks"),
        ("flock", "file locks"),
        ("pipe", "pipes"),
        ("pipe2", "pipes"),
        ("poll", "wait for descriptors"),
        ("ppoll", "wait for descriptors"),
        ("select", "wait for descriptors"),
        ("pselect6", "wait for descriptors"),
        ("epoll_create", "wait for descriptors"),
        ("epoll_create1", "wait for descriptors"),
        ("epoll_ctl", "wait for descriptors"),
        ("epoll_wait", "wait for descriptors"),
        ("epoll_pwait", "wait for descriptors"),
        ("epoll_pwait2", "wait for descriptors"),
        ("eventfd", "wake-ups between threads"),
        ("eventfd2", "wake-ups between threads"),
        ("timerfd_create", "timers as descriptors"),
        ("timerfd_settime", "timers as descriptors"),
        ("timerfd_gettime", "timers as descriptors"),
        ("signalfd", "signals as descriptors"),
        ("signalfd4", "signals as descriptors"),
        ("close_range", "programs that close what they inherited"),
        ("connect", "the agent's socket"),
        ("sendto", "a connected socket"),
        ("recvfrom", "a connected socket"),
        ("sendmsg", "a connected socket"),
        ("recvmsg", "a connected socket"),
        ("sendmmsg", "a connected socket"),
        ("recvmmsg", "a connected socket"),
        ("shutdown", "end of a connection"),
        ("getsockname", "own address"),
        ("getpeername", "the other's address"),
        ("getsockopt", "options of an own socket"),
        ("setsockopt", "options of an own socket"),
        ("bind", "own sockets in own directories; there is no other address family"),
        ("listen", "own sockets in own directories"),
        ("accept", "own sockets in own directories"),
        ("accept4", "own sockets in own directories"),
        ("umask", "mode of new files"),
        ("sendfile", "copy between descriptors"),
        ("splice", "copy between descriptors"),
        ("tee", "copy between descriptors"),
        ("copy_file_range", "copy between files"),
    ],
};

/// Changing files where that is granted.
const CHANGE: Group = Group {
    clone: false,
    rows: &[
        ("pwrite64", "write at a place"),
        ("pwritev", "write at a place"),
        ("pwritev2", "write at a place"),
        ("truncate", "shorten a file"),
        ("ftruncate", "shorten a file"),
        ("fallocate", "reserve space"),
        ("fsync", "make durable"),
        ("fdatasync", "make durable"),
        ("sync_file_range", "make durable"),
        ("syncfs", "make durable"),
        ("sync", "make durable"),
        ("msync", "make a mapping durable"),
        ("creat", "make a file"),
        ("mkdir", "make a directory"),
        ("mkdirat", "make a directory"),
        ("rmdir", "remove a directory"),
        ("unlink", "remove a file"),
        ("unlinkat", "remove a file"),
        ("rename", "rename"),
        ("renameat", "rename"),
        ("renameat2", "rename"),
        ("link", "second name for a file"),
        ("linkat", "second name for a file"),
        ("symlink", "symbolic link"),
        ("symlinkat", "symbolic link"),
        ("mknod", "named pipes; device nodes need a capability that nobody inside has"),
        ("mknodat", "named pipes; device nodes need a capability that nobody inside has"),
        ("chmod", "modes of own files"),
        ("fchmod", "modes of own files"),
        ("fchmodat", "modes of own files"),
        ("fchmodat2", "modes of own files"),
        ("chown", "no-op chown by cp -p and tar; another owner needs a capability"),
        ("fchown", "no-op chown by cp -p and tar"),
        ("lchown", "no-op chown by cp -p and tar"),
        ("fchownat", "no-op chown by cp -p and tar"),
        ("utime", "times of own files"),
        ("utimes", "times of own files"),
        ("futimesat", "times of own files"),
        ("utimensat", "times of own files"),
        ("setxattr", "attributes of own files"),
        ("lsetxattr", "attributes of own files"),
        ("fsetxattr", "attributes of own files"),
        ("removexattr", "attributes of own files"),
        ("lremovexattr", "attributes of own files"),
        ("fremovexattr", "attributes of own files"),
        ("inotify_init", "tail -f and build tools watch files"),
        ("inotify_init1", "tail -f and build tools watch files"),
        ("inotify_add_watch", "tail -f and build tools watch files"),
        ("inotify_rm_watch", "tail -f and build tools watch files"),
    ],
};

/// Starting and minding other processes and threads.
const PROCESS: Group = Group {
    clone: true,
    rows: &[
        ("fork", "start a process"),
        ("vfork", "start a process"),
        ("wait4", "wait for a child"),
        ("waitid", "wait for a child"),
        ("setpgid", "job control"),
        (
            "setuid",
            "make and others give back ids before they start a program; one's own are all there is to set",
        ),
        ("setgid", "give back ids"),
        ("setreuid", "give back ids"),
        ("setregid", "give back ids"),
        ("setresuid", "give back ids"),
        ("setresgid", "give back ids"),
        ("setsid", "background jobs"),
        ("getpriority", "nice"),
        ("setpriority", "nice, only to less"),
        ("sched_setaffinity", "taskset within the granted processors"),
        ("sched_getparam", "thread priorities"),
        ("sched_setparam", "thread priorities; real time needs a capability"),
        ("sched_getscheduler", "thread priorities"),
        ("sched_setscheduler", "thread priorities; real time needs a capability"),
        ("sched_getattr", "thread priorities"),
        ("sched_setattr", "thread priorities; real time needs a capability"),
        ("sched_get_priority_max", "thread priorities"),
        ("sched_get_priority_min", "thread priorities"),
        ("sched_rr_get_interval", "thread priorities"),
        ("setrlimit", "ulimit, only to less"),
        ("get_robust_list", "debuggers of own threads"),
        ("timer_create", "own timers"),
        ("timer_settime", "own timers"),
        ("timer_gettime", "own timers"),
        ("timer_getoverrun", "own timers"),
        ("timer_delete", "own timers"),
        ("pidfd_open", "wait for a process without a race"),
        ("pidfd_send_signal", "signal a process without a race"),
        ("rt_tgsigqueueinfo", "signal a thread of one's own with a value"),
        ("ioprio_get", "ionice"),
        ("ioprio_set", "ionice, only to less"),
    ],
};

/// Language runtimes and compilers.
const RUNTIME: Group = Group {
    clone: false,
    rows: &[
        ("mlock", "keys kept out of swap, within the limit of locked memory"),
        ("mlock2", "keys kept out of swap"),
        ("munlock", "keys kept out of swap"),
        ("mincore", "garbage collectors ask which pages are resident"),
        ("memfd_create", "multiprocessing; without MFD_EXEC, by the sysctl of the PID namespace"),
        ("pkey_alloc", "V8 protects its code pages"),
        ("pkey_free", "V8 protects its code pages"),
        ("pkey_mprotect", "V8 protects its code pages"),
        ("get_mempolicy", "NUMA-aware allocators ask"),
        ("set_mempolicy", "NUMA-aware allocators set it for themselves"),
        ("mbind", "NUMA-aware allocators set it for themselves"),
        ("landlock_create_ruleset", "programs that confine themselves further"),
        ("landlock_add_rule", "programs that confine themselves further"),
        ("landlock_restrict_self", "programs that confine themselves further"),
        ("shmget", "shared memory within the own IPC namespace"),
        ("shmat", "shared memory within the own IPC namespace"),
        ("shmdt", "shared memory within the own IPC namespace"),
        ("shmctl", "shared memory within the own IPC namespace"),
        ("semget", "semaphores within the own IPC namespace"),
        ("semop", "semaphores within the own IPC namespace"),
        ("semtimedop", "semaphores within the own IPC namespace"),
        ("semctl", "semaphores within the own IPC namespace"),
    ],
};
