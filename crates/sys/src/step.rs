//! For tests: a child that is killed before the n-th change that it makes to a file (ptrace(2)), for every n that there is.
//!
//! The child is another run of the test's own program: it calls [`traced`] in the thread that will work, and works. Threads
//! that this one starts are traced too; those that were there before are not.

use nix::errno::Errno;
use nix::libc::{self, c_long, user_regs_struct};
use nix::sys::ptrace;
use nix::sys::signal::{Signal, raise};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Child;

/// Where a system call names the file that it changes: in which of its arguments.
#[derive(Debug, Clone, Copy)]
enum Names {
    Descriptor(usize),
    Path(usize),
}

/// The system calls that change a file or what is durable of it; of `openat` those that may make or empty one.
const CHANGES: [(c_long, Names); 20] = [
    (libc::SYS_write, Names::Descriptor(0)),
    (libc::SYS_writev, Names::Descriptor(0)),
    (libc::SYS_pwrite64, Names::Descriptor(0)),
    (libc::SYS_pwritev, Names::Descriptor(0)),
    (libc::SYS_copy_file_range, Names::Descriptor(2)),
    (libc::SYS_sendfile, Names::Descriptor(0)),
    (libc::SYS_ftruncate, Names::Descriptor(0)),
    (libc::SYS_fallocate, Names::Descriptor(0)),
    (libc::SYS_fsync, Names::Descriptor(0)),
    (libc::SYS_fdatasync, Names::Descriptor(0)),
    (libc::SYS_syncfs, Names::Descriptor(0)),
    (libc::SYS_rename, Names::Path(0)),
    (libc::SYS_renameat2, Names::Path(1)),
    (libc::SYS_link, Names::Path(0)),
    (libc::SYS_linkat, Names::Path(1)),
    (libc::SYS_unlink, Names::Path(0)),
    (libc::SYS_unlinkat, Names::Path(1)),
    (libc::SYS_mkdir, Names::Path(0)),
    (libc::SYS_chmod, Names::Path(0)),
    (libc::SYS_openat, Names::Path(1)),
];

/// Lets the parent, in [`kill_before`], trace this thread; it goes on when the parent is there.
///
/// # Errors
/// As ptrace(2): somebody traces it already.
pub fn traced() -> io::Result<()> {
    ptrace::traceme()?;
    Ok(raise(Signal::SIGSTOP)?)
}

/// What became of a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It was killed before the change that was meant.
    Killed,
    /// It ended before that, with this exit code, after so many changes.
    ByItself {
        /// The exit code; none when a signal ended it.
        code: Option<i32>,
        /// How many changes it made.
        changes: usize,
    },
}

/// Lets the child run until its change number `n`, counted from 0, of a file below `below`, and kills it before that. A path
/// that is not absolute counts as one below. Must be called by the thread that started the child, which has called
/// [`traced`].
///
/// # Errors
/// As ptrace(2) and waitpid(2). The child does not outlive this call.
pub fn kill_before(child: Child, below: &Path, n: usize) -> io::Result<Ended> {
    Stepping { child, inside: BTreeMap::new(), changes: 0, code: None, reaped: false }.run(below, n)
}

struct Stepping {
    child: Child,
    /// The traced threads, and whether each is within a system call.
    inside: BTreeMap<Pid, bool>,
    changes: usize,
    code: Option<i32>,
    /// Whether the child's number belongs to nobody any more.
    reaped: bool,
}

impl Stepping {
    fn run(mut self, below: &Path, n: usize) -> io::Result<Ended> {
        while let Some(status) = self.next()? {
            let (thread, signal) = match status {
                WaitStatus::Stopped(thread, Signal::SIGSTOP) if !self.inside.contains_key(&thread) => {
                    self.start(thread)?;
                    (thread, None)
                }
                WaitStatus::Stopped(thread, signal) => (thread, Some(signal)),
                WaitStatus::PtraceEvent(thread, ..) => (thread, None),
                WaitStatus::PtraceSyscall(thread) => {
                    let inside = self.inside.entry(thread).or_default();
                    *inside = !*inside;
                    if *inside && is_change(thread, below) {
                        if self.changes == n {
                            self.kill()?;
                            return Ok(Ended::Killed);
                        }
                        self.changes += 1;
                    }
                    (thread, None)
                }
                _ => continue,
            };
            match ptrace::syscall(thread, signal) {
                // The process is on its way out; its end is told next.
                Err(Errno::ESRCH) => {}
                resumed => resumed?,
            }
        }
        Ok(Ended::ByItself { code: self.code, changes: self.changes })
    }

    /// The next thing that happens to a thread of the child; none when all have ended.
    fn next(&mut self) -> io::Result<Option<WaitStatus>> {
        // Only what this thread traces or started: other tests wait for theirs.
        let flags = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
        let status = loop {
            match waitpid(None, Some(flags)) {
                Err(Errno::EINTR) => {}
                Err(Errno::ECHILD) => return Ok(None),
                status => break status?,
            }
        };
        let main = Pid::from_raw(self.child.id().cast_signed());
        match status {
            WaitStatus::Exited(pid, code) if pid == main => (self.code, self.reaped) = (Some(code), true),
            WaitStatus::Signaled(pid, ..) if pid == main => self.reaped = true,
            _ => {}
        }
        Ok(Some(status))
    }

    fn start(&mut self, thread: Pid) -> io::Result<()> {
        if self.inside.is_empty() {
            use ptrace::Options;
            let threads = Options::PTRACE_O_TRACECLONE;
            let options = Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_EXITKILL | threads;
            ptrace::setoptions(thread, options)?;
        }
        self.inside.insert(thread, false);
        Ok(())
    }

    /// Ends every thread, and waits until the last is gone.
    fn kill(&mut self) -> io::Result<()> {
        if !self.reaped {
            self.child.kill()?;
        }
        while self.next()?.is_some() {}
        Ok(())
    }
}

impl Drop for Stepping {
    fn drop(&mut self) {
        // It has ended, but for an error on the way, which is what is told.
        let _ended = self.kill();
    }
}

/// Whether the system call that a thread is about to make changes a file below this directory.
fn is_change(thread: Pid, below: &Path) -> bool {
    // A thread that is gone by now changes nothing.
    let Ok(registers) = ptrace::getregs(thread) else { return false };
    let number = registers.orig_rax.cast_signed();
    let Some((_, names)) = CHANGES.iter().find(|row| row.0 == number) else { return false };
    let makes = c_long::from(libc::O_CREAT | libc::O_TRUNC);
    if number == libc::SYS_openat && registers.rdx.cast_signed() & makes == 0 {
        return false;
    }
    let path = match names {
        Names::Descriptor(at) => {
            fs::read_link(format!("/proc/{thread}/fd/{}", argument(&registers, *at))).unwrap_or_default()
        }
        Names::Path(at) => path_of(thread, argument(&registers, *at)),
    };
    match names {
        Names::Path(_) if path.is_relative() => true,
        _ => path.starts_with(below),
    }
}

fn argument(registers: &user_regs_struct, at: usize) -> u64 {
    [registers.rdi, registers.rsi, registers.rdx][at]
}

/// The path that stands at this address in a thread's memory.
fn path_of(thread: Pid, address: u64) -> PathBuf {
    let mut bytes = [0; libc::PATH_MAX as usize];
    let memory = fs::File::open(format!("/proc/{thread}/mem"));
    let read = memory.and_then(|memory| memory.read_at(&mut bytes, address)).unwrap_or(0);
    let text = bytes[..read].split(|byte| *byte == 0).next().unwrap_or_default();
    PathBuf::from(OsStr::from_bytes(text))
}
