//! What a process that must not die does instead of dying: it executes a program that was laid out beforehand.

use crate::confine::Program;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use std::io;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

// A child of a clone inherits the handlers; its faults are its own.
static OWNER: AtomicU32 = AtomicU32::new(0);
static PROGRAM: AtomicPtr<Program> = AtomicPtr::new(std::ptr::null_mut());

/// The signals that the kernel or the C library sends to a process which cannot go on.
const FATAL: [Signal; 5] = [Signal::SIGABRT, Signal::SIGSEGV, Signal::SIGBUS, Signal::SIGILL, Signal::SIGFPE];
// Descriptors above are not handed on. PID 1 keeps far fewer: one hundred and the descriptor stores of its units.
const HIGHEST: libc::c_int = 1 << 16;

/// From now on a fatal signal executes `program` in this process, with every open descriptor handed on. A second call
/// replaces the program.
///
/// # Errors
/// What sigaction(2) reports.
pub fn execute_instead_of_dying(program: Program) -> io::Result<()> {
    // The previous program is leaked on purpose: a handler may be reading it. There are few calls.
    OWNER.store(std::process::id(), Ordering::SeqCst);
    PROGRAM.store(Box::into_raw(Box::new(program)), Ordering::SeqCst);
    let flags = SaFlags::SA_ONSTACK | SaFlags::SA_NODEFER;
    let action = SigAction::new(SigHandler::Handler(on_fatal), flags, SigSet::empty());
    for signal in FATAL {
        // SAFETY: `on_fatal` only makes system calls and reads memory that is never freed.
        unsafe { sigaction(signal, &action) }?;
    }
    Ok(())
}

/// Whether a fatal signal executes a program.
#[must_use]
pub fn is_armed() -> bool {
    !PROGRAM.load(Ordering::SeqCst).is_null()
}

/// Executes the program of [`execute_instead_of_dying`] now. Returns only when none was given or it cannot be executed.
pub fn execute_now() -> io::Error {
    let program = PROGRAM.load(Ordering::SeqCst);
    // SAFETY: the pointer is null or comes from Box::into_raw and is never freed.
    let Some(program) = (unsafe { program.as_ref() }) else {
        return io::Error::from_raw_os_error(libc::ENOENT);
    };
    for fd in 3..HIGHEST {
        // SAFETY: F_SETFD takes no pointer; a number that is not open answers EBADF, which is fine.
        unsafe { libc::fcntl(fd, libc::F_SETFD, 0) };
    }
    program.execute()
}

extern "C" fn on_fatal(_signal: libc::c_int) {
    if OWNER.load(Ordering::SeqCst) == std::process::id() {
        let _cannot_execute = execute_now();
    }
    crate::confine::exit_now(70);
}
