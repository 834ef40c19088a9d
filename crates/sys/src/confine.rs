//! What a process does to itself before it runs a program it does not trust, and cannot undo.

use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Securebits (capabilities(7)): root has no special meaning, a change of user id neither gives nor takes
/// capabilities, ambient capabilities cannot be raised; each bit locked.
pub const SECUREBITS: u32 = 0b1110_1111;

/// One instruction of a classic BPF program (struct sock_filter).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    /// Operation.
    pub code: u16,
    /// Jump distance when the condition holds.
    pub jt: u8,
    /// Jump distance when it does not.
    pub jf: u8,
    /// Operand.
    pub k: u32,
}

fn done(result: libc::c_long) -> io::Result<()> {
    if result >= 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sets the calling thread's securebits, which are locked once [`SECUREBITS`] are set.
///
/// # Errors
/// `EPERM` without CAP_SETPCAP in the caller's user namespace or when the bits are locked otherwise.
pub fn set_securebits(bits: u32) -> io::Result<()> {
    // SAFETY: PR_SET_SECUREBITS takes no pointer.
    done(unsafe { libc::prctl(libc::PR_SET_SECUREBITS, libc::c_ulong::from(bits)) }.into())
}

/// Empties the calling thread's bounding set (capabilities(7)).
///
/// # Errors
/// `EPERM` without CAP_SETPCAP in the caller's user namespace.
pub fn drop_bounding() -> io::Result<()> {
    for capability in 0..libc::c_ulong::MAX {
        // SAFETY: PR_CAPBSET_DROP takes no pointer.
        let dropped = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability) };
        match done(dropped.into()) {
            // The first number that the kernel has no capability for.
            Err(error) if capability > 0 && error.raw_os_error() == Some(libc::EINVAL) => break,
            other => other?,
        }
    }
    Ok(())
}

/// The calling thread's securebits.
///
/// # Errors
/// What prctl(2) reports.
pub fn securebits() -> io::Result<u32> {
    // SAFETY: PR_GET_SECUREBITS takes no pointer.
    let bits = unsafe { libc::prctl(libc::PR_GET_SECUREBITS) };
    u32::try_from(bits).map_err(|_| io::Error::last_os_error())
}

/// Leaves the inherited session keyring for a new, empty one (keyctl(2), KEYCTL_JOIN_SESSION_KEYRING).
///
/// # Errors
/// What keyctl(2) reports; `ENOSYS` on a kernel without keyrings.
pub fn new_session_keyring() -> io::Result<()> {
    let null = std::ptr::null::<libc::c_char>();
    // SAFETY: a null name asks for an anonymous keyring; nothing is read or written in this process.
    done(unsafe {
        libc::syscall(libc::SYS_keyctl, libc::c_long::from(libc::KEYCTL_JOIN_SESSION_KEYRING), null)
    })
}

/// Installs a seccomp filter for the calling thread; it also binds whatever it executes. The kernel makes an audit record
/// of each call that a `logged` one denies, unless the sysctl `kernel.seccomp.actions_logged` is without that verdict.
///
/// # Errors
/// `EINVAL` for a program that the kernel's verifier refuses or that has more than 4096 instructions, `EACCES`
/// without no_new_privs.
pub fn install_filter(program: &[Instruction], logged: bool) -> io::Result<()> {
    let too_long = |_| io::Error::from_raw_os_error(libc::EINVAL);
    let len = u16::try_from(program.len()).map_err(too_long)?;
    let prog = libc::sock_fprog { len, filter: program.as_ptr().cast::<libc::sock_filter>().cast_mut() };
    let flags = if logged { libc::SECCOMP_FILTER_FLAG_LOG } else { 0 };
    // SAFETY: `Instruction` has the layout of struct sock_filter, `len` counts them, the kernel only reads.
    done(unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const prog) })
}

/// The Landlock ABI version of the running kernel, 0 where it has none or it is switched off.
#[must_use]
pub fn landlock_abi() -> u32 {
    let null = std::ptr::null::<libc::c_void>();
    // SAFETY: with a null attribute, size 0 and flag 1 the call only returns the version.
    let version = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, null, 0, 1) };
    u32::try_from(version).unwrap_or(0)
}

/// Gives every signal its default action and an empty mask, as a program expects to find them.
///
/// # Errors
/// What sigprocmask(2) reports.
pub fn default_signals() -> io::Result<()> {
    for signal in 1..=64 {
        // The two that cannot be set answer EINVAL and are at their default.
        let _at_default = default_action(signal);
    }
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
    Ok(())
}

/// The limit of core dumps of everything that Octant starts: one byte. It keeps the kernel from starting what its
/// core_pattern names, as root and outside of every workstation, which a limit of zero does not (core(5), do_coredump in
/// fs/coredump.c); and no file fits in it.
pub const CORE_LIMIT: u64 = 1;

/// Children that end are this process's to wait for, also where it was started with SIGCHLD ignored: the kernel then
/// reaps them itself, tells nobody, and a process that waits for one waits for ever.
///
/// # Errors
/// What rt_sigaction(2) reports.
pub fn wait_for_children() -> io::Result<()> {
    default_action(libc::SIGCHLD)
}

fn default_action(signal: i32) -> io::Result<()> {
    // The kernel's struct sigaction with SIG_DFL (0), no flags, no mask. Not libc's function, which leaves out the two
    // signals that it keeps for itself, although they too may have been inherited as ignored.
    let default = [0_u64; 4];
    let null = std::ptr::null::<u64>();
    // SAFETY: `default` has the size of the kernel's struct, 8 that of its mask; SIG_DFL is no function of ours.
    done(unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), null, 8) })
}

/// A program with its arguments and environment, laid out beforehand so that starting it allocates nothing.
#[derive(Debug)]
pub struct Program {
    path: CString,
    // The pointers below point into these; they are never touched again.
    _texts: Vec<CString>,
    argv: Vec<*const libc::c_char>,
    envp: Vec<*const libc::c_char>,
}

impl Program {
    /// Lays out `path`, `args` (the first is the program's own name) and `env` (`NAME=value`).
    #[must_use]
    pub fn new(path: CString, args: Vec<CString>, env: Vec<CString>) -> Self {
        let pointers = |texts: &[CString]| -> Vec<*const libc::c_char> {
            texts.iter().map(|t| t.as_ptr()).chain([std::ptr::null()]).collect()
        };
        let (argv, envp) = (pointers(&args), pointers(&env));
        Self { path, _texts: args.into_iter().chain(env).collect(), argv, envp }
    }

    /// The program's path.
    #[must_use]
    pub fn path(&self) -> &CStr {
        &self.path
    }

    /// Replaces the calling process. Returns only when that failed.
    #[must_use]
    pub fn execute(&self) -> io::Error {
        // SAFETY: path is NUL-terminated; both arrays end in null and point to texts that `self` owns.
        unsafe { libc::execve(self.path.as_ptr(), self.argv.as_ptr(), self.envp.as_ptr()) };
        io::Error::last_os_error()
    }
}

/// Ends the process at once: no destructors, no exit handlers, no flushing of what a parent may also flush.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit has no precondition.
    unsafe { libc::_exit(code) }
}

/// Sends a signal to the process behind a pidfd.
///
/// # Errors
/// `ESRCH` when it has ended; otherwise what pidfd_send_signal(2) reports.
pub fn signal_pidfd(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    let null = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: a null siginfo makes the kernel fill in its own, as kill(2) does.
    done(unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, null, 0) })
}
