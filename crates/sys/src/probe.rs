//! Raw system calls for the program that attacks a workstation from inside. Nothing else uses this.
//!
//! Every call here is made with arguments that the kernel itself would refuse, so that one that gets through the
//! filters does no harm: it fails with an error number that a filter does not give.

use std::io;

/// The error number of a filter that denies.
pub const EPERM: i32 = libc::EPERM;

/// System calls that no workstation allows, by name; none of them does anything with invalid arguments.
pub const DENIED: &[(&str, i64)] = &[
    ("ptrace", libc::SYS_ptrace),
    ("process_vm_readv", libc::SYS_process_vm_readv),
    ("process_vm_writev", libc::SYS_process_vm_writev),
    ("pidfd_getfd", libc::SYS_pidfd_getfd),
    ("kcmp", libc::SYS_kcmp),
    ("keyctl", libc::SYS_keyctl),
    ("add_key", libc::SYS_add_key),
    ("request_key", libc::SYS_request_key),
    ("io_uring_setup", libc::SYS_io_uring_setup),
    ("io_uring_enter", libc::SYS_io_uring_enter),
    ("io_uring_register", libc::SYS_io_uring_register),
    ("bpf", libc::SYS_bpf),
    ("perf_event_open", libc::SYS_perf_event_open),
    ("userfaultfd", libc::SYS_userfaultfd),
    ("kexec_load", libc::SYS_kexec_load),
    ("kexec_file_load", libc::SYS_kexec_file_load),
    ("init_module", libc::SYS_init_module),
    ("finit_module", libc::SYS_finit_module),
    ("delete_module", libc::SYS_delete_module),
    ("mount", libc::SYS_mount),
    ("umount2", libc::SYS_umount2),
    ("pivot_root", libc::SYS_pivot_root),
    ("chroot", libc::SYS_chroot),
    ("open_tree", libc::SYS_open_tree),
    ("move_mount", libc::SYS_move_mount),
    ("fsopen", libc::SYS_fsopen),
    ("fsmount", libc::SYS_fsmount),
    ("fsconfig", libc::SYS_fsconfig),
    ("fspick", libc::SYS_fspick),
    ("mount_setattr", libc::SYS_mount_setattr),
    ("setns", libc::SYS_setns),
    ("unshare", libc::SYS_unshare),
    ("open_by_handle_at", libc::SYS_open_by_handle_at),
    ("name_to_handle_at", libc::SYS_name_to_handle_at),
    ("quotactl", libc::SYS_quotactl),
    ("swapon", libc::SYS_swapon),
    ("swapoff", libc::SYS_swapoff),
    ("reboot", libc::SYS_reboot),
    ("iopl", libc::SYS_iopl),
    ("ioperm", libc::SYS_ioperm),
    ("acct", libc::SYS_acct),
    ("syslog", libc::SYS_syslog),
    ("settimeofday", libc::SYS_settimeofday),
    ("clock_settime", libc::SYS_clock_settime),
    ("sethostname", libc::SYS_sethostname),
    ("execveat", libc::SYS_execveat),
    ("fanotify_init", libc::SYS_fanotify_init),
    ("modify_ldt", libc::SYS_modify_ldt),
    ("memfd_secret", libc::SYS_memfd_secret),
    ("seccomp", libc::SYS_seccomp),
];

fn errno(result: libc::c_long) -> i32 {
    if result >= 0 { 0 } else { io::Error::last_os_error().raw_os_error().unwrap_or(0) }
}

/// Makes one of the calls of [`DENIED`] with every argument invalid; its error number. `EINVAL` for any other call.
#[must_use]
pub fn attempt(number: i64) -> i32 {
    if !DENIED.iter().any(|row| row.1 == number) {
        return libc::EINVAL;
    }
    // SAFETY: -1 is no valid address, descriptor, length or flag set for any call of the table.
    errno(unsafe { libc::syscall(number, -1_i64, -1_i64, -1_i64, -1_i64, -1_i64, -1_i64) })
}

/// The error numbers of the call with this number, first with every argument -1 and then with every argument 0, each
/// made in a child; `None` for a child that the call ended or held for longer than a fifth of a second.
///
/// # Errors
/// `EDEADLK` in a process with threads; what fork(2) and waitpid(2) report.
pub fn census(number: i64) -> io::Result<[Option<i32>; 2]> {
    single()?;
    Ok([in_child(number, -1)?, in_child(number, 0)?])
}

fn in_child(number: i64, argument: i64) -> io::Result<Option<i32>> {
    // SAFETY: one thread (checked by the caller), so the copy holds no lock of another.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            let after = libc::timeval { tv_sec: 0, tv_usec: 200_000 };
            let timer =
                libc::itimerval { it_interval: libc::timeval { tv_sec: 0, tv_usec: 0 }, it_value: after };
            // SAFETY: `timer` lives until the call returns, and the old one is not asked for.
            unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const timer, std::ptr::null_mut()) };
            // SAFETY: neither value is an address of anything, so the kernel reads and writes none of this memory;
            // whatever else the call does to this process, all that it does afterwards is end.
            let result =
                unsafe { libc::syscall(number, argument, argument, argument, argument, argument, argument) };
            crate::confine::exit_now(errno(result))
        }
        pid => {
            let mut status = 0;
            // SAFETY: `status` lives until the call returns.
            if unsafe { libc::waitpid(pid, &raw mut status, libc::__WALL) } < 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status)))
        }
    }
}

/// The error number of a mapping of the file that can be executed, 0 when it was made; it is taken away again.
#[must_use]
pub fn map_executable(file: std::os::fd::BorrowedFd<'_>) -> i32 {
    let (length, rights) = (4096, libc::PROT_READ | libc::PROT_EXEC);
    let fd = std::os::fd::AsRawFd::as_raw_fd(&file);
    // SAFETY: the kernel chooses a place that nothing else uses.
    let at = unsafe { libc::mmap(std::ptr::null_mut(), length, rights, libc::MAP_PRIVATE, fd, 0) };
    if at == libc::MAP_FAILED {
        return io::Error::last_os_error().raw_os_error().unwrap_or(0);
    }
    // SAFETY: the mapping was just made and nothing points into it.
    unsafe { libc::munmap(at, length) };
    0
}

/// The error number of shmget(2) for an existing segment with this key.
#[must_use]
pub fn shared_segment(key: i32) -> i32 {
    // SAFETY: no pointers, and nothing is made without IPC_CREAT.
    errno(unsafe { libc::syscall(libc::SYS_shmget, key, 1_i64, 0_i64) })
}

/// Makes a System V segment with this key, for a probe to look for; its identifier.
///
/// # Errors
/// What shmget(2) reports.
pub fn make_segment(key: i32) -> io::Result<i32> {
    // SAFETY: no pointers.
    let id = unsafe { libc::shmget(key, 4096, libc::IPC_CREAT | libc::IPC_EXCL | 0o666) };
    if id < 0 { Err(io::Error::last_os_error()) } else { Ok(id) }
}

/// Removes a segment of [`make_segment`].
///
/// # Errors
/// What shmctl(2) reports.
pub fn remove_segment(id: i32) -> io::Result<()> {
    // SAFETY: IPC_RMID looks at no buffer.
    let removed = unsafe { libc::shmctl(id, libc::IPC_RMID, std::ptr::null_mut()) };
    if removed < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The error number of a call whose number no kernel has yet.
#[must_use]
pub fn unknown() -> i32 {
    // SAFETY: the kernel has no such call, a filter answers for it.
    errno(unsafe { libc::syscall(1000, -1_i64) })
}

/// The error number of clone3(2) with an argument that cannot be read.
#[must_use]
pub fn clone3() -> i32 {
    // SAFETY: a null argument makes no process.
    errno(unsafe { libc::syscall(libc::SYS_clone3, 0_i64, 0_i64) })
}

/// The error number of ioctl(2) with a whole 64-bit command, of which the kernel looks at the lower half.
#[must_use]
pub fn ioctl(fd: i32, command: u64) -> i32 {
    // SAFETY: a null argument: the kernel fails with EFAULT where it would read or write one.
    errno(unsafe { libc::syscall(libc::SYS_ioctl, fd, command, 0_i64) })
}

/// The error number of prctl(2) with a whole 64-bit operation and no further argument.
#[must_use]
pub fn personality(persona: u64) -> i32 {
    // SAFETY: changes at most the caller's own personality, for what it executes later.
    errno(unsafe { libc::syscall(libc::SYS_personality, persona) })
}

/// The error number of socket(2) with whole 64-bit arguments; a socket that was made is closed.
#[must_use]
pub fn socket(domain: u64, kind: u64, protocol: u64) -> i32 {
    // SAFETY: no pointers.
    let fd = unsafe { libc::syscall(libc::SYS_socket, domain, kind, protocol) };
    if fd < 0 {
        return errno(fd);
    }
    // SAFETY: the descriptor was just made and nothing else knows it.
    unsafe { libc::syscall(libc::SYS_close, fd) };
    0
}

/// The error number of memfd_create(2) with these flags; the memory is given back.
#[must_use]
pub fn memory_file(flags: u32) -> i32 {
    // SAFETY: the name is NUL-terminated.
    let fd = unsafe { libc::syscall(libc::SYS_memfd_create, c"probe".as_ptr(), flags) };
    if fd < 0 {
        return errno(fd);
    }
    // SAFETY: the descriptor was just made and nothing else knows it.
    unsafe { libc::syscall(libc::SYS_close, fd) };
    0
}

/// The error number of clone(2) with these namespace flags; a child that was made ends at once and is reaped.
///
/// # Errors
/// `EDEADLK` in a process with threads, as in [`crate::clone::clone3`].
pub fn clone(flags: u64) -> io::Result<i32> {
    single()?;
    // SAFETY: no memory is shared and no stack given, as fork(2) does; one thread (checked above).
    let pid =
        unsafe { libc::syscall(libc::SYS_clone, flags | libc::SIGCHLD as u64, 0_i64, 0_i64, 0_i64, 0_i64) };
    if pid == 0 {
        crate::confine::exit_now(0);
    }
    if pid < 0 {
        return Ok(errno(pid));
    }
    ended(i32::try_from(pid).unwrap_or(0)).map(|_| 0)
}

/// How a child ended that used a foreign table of system calls: the signal's number, or `None` when it survived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Foreign {
    /// `int 0x80`, the 32-bit table.
    Int80,
    /// The x32 bit in the number.
    X32,
}

/// Makes a harmless call (getpid) through a foreign table in a child.
///
/// # Errors
/// `EDEADLK` in a process with threads; what fork(2) reports.
pub fn foreign(table: Foreign) -> io::Result<Option<i32>> {
    single()?;
    // SAFETY: one thread (checked above), so the copy holds no lock of another.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            match table {
                Foreign::Int80 => int80(),
                // SAFETY: getpid has no arguments.
                Foreign::X32 => drop(unsafe { libc::syscall(0x4000_0000 + libc::SYS_getpid) }),
            }
            crate::confine::exit_now(0)
        }
        pid => ended(pid),
    }
}

#[cfg(target_arch = "x86_64")]
fn int80() {
    // SAFETY: 20 is getpid in the 32-bit table; it has no arguments and only sets eax (and clobbers r8 to r11).
    unsafe {
        std::arch::asm!("int 0x80", inlateout("eax") 20 => _, out("r8") _, out("r9") _, out("r10") _, out("r11") _);
    }
}

fn single() -> io::Result<()> {
    use std::os::unix::fs::MetadataExt;
    let threads = std::fs::metadata("/proc/self/task")?.nlink().saturating_sub(2);
    if threads == 1 { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::EDEADLK)) }
}

fn ended(pid: i32) -> io::Result<Option<i32>> {
    let mut status = 0;
    // SAFETY: `status` lives until the call returns.
    if unsafe { libc::waitpid(pid, &raw mut status, libc::__WALL) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(libc::WIFSIGNALED(status).then(|| libc::WTERMSIG(status)))
}
