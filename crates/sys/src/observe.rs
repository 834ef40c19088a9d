//! Watching the system calls of a program: each waits until its watcher has looked at it, and then goes on as it would
//! have (seccomp user notification, seccomp_unotify(2)). Nothing is denied here.

use crate::confine::Instruction;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// A system call that waits for its watcher.
#[derive(Debug, Clone, Copy)]
pub struct Call {
    id: u64,
    /// The thread that makes it.
    pub thread: u32,
    /// Its number.
    pub number: i32,
    /// Its arguments.
    pub args: [u64; 6],
}

const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const RETURN: u16 = 0x06; // BPF_RET | BPF_K
const IF_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const SENDMSG: u32 = 46;
const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;
const USER_NOTIF: u32 = 0x7fc0_0000;
const ALLOW: u32 = 0x7fff_0000;

/// Every call of this architecture is told, but sendmsg(2): by that the program hands its watcher the listener.
const PROGRAM: [Instruction; 6] = [
    Instruction { code: LOAD, jt: 0, jf: 0, k: 4 },
    Instruction { code: IF_EQUAL, jt: 0, jf: 2, k: AUDIT_ARCH_X86_64 },
    Instruction { code: LOAD, jt: 0, jf: 0, k: 0 },
    Instruction { code: IF_EQUAL, jt: 0, jf: 1, k: SENDMSG },
    Instruction { code: RETURN, jt: 0, jf: 0, k: ALLOW },
    Instruction { code: RETURN, jt: 0, jf: 0, k: USER_NOTIF },
];

fn done(result: libc::c_long) -> io::Result<libc::c_long> {
    if result >= 0 { Ok(result) } else { Err(io::Error::last_os_error()) }
}

/// Has the command watched when it is spawned: its listener arrives on the other end of `channel`, a socket. Somebody
/// must receive it and answer in another thread, or the spawn stands still.
///
/// The program gets no new privileges: a set-user-id program in it runs as who calls it.
pub fn watched(command: &mut Command, channel: OwnedFd) {
    let install = move || {
        // SAFETY: PR_SET_NO_NEW_PRIVS takes no pointer.
        done(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }.into())?;
        let filter = PROGRAM.as_ptr().cast::<libc::sock_filter>().cast_mut();
        let prog = libc::sock_fprog { len: 6, filter };
        let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
        // SAFETY: `Instruction` has the layout of struct sock_filter, PROGRAM has 6, the kernel only reads.
        let listener = done(unsafe {
            libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const prog)
        })?;
        let fd = [i32::try_from(listener).map_err(io::Error::other)?];
        let rights = [ControlMessage::ScmRights(&fd)];
        sendmsg::<()>(channel.as_raw_fd(), &[IoSlice::new(b"l")], &rights, MsgFlags::empty(), None)?;
        Ok(())
    };
    // SAFETY: between fork and exec the closure makes system calls alone; the one allocation, of the message, is made by
    // a libc whose fork leaves the allocator usable.
    unsafe { command.pre_exec(install) };
}

/// The next call that waits; none when nobody is left who is watched.
///
/// # Errors
/// The kernel's.
pub fn next(listener: BorrowedFd<'_>) -> io::Result<Option<Call>> {
    loop {
        let mut poll = libc::pollfd { fd: listener.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one pollfd, which lives longer than the call.
        let ready = unsafe { libc::poll(&raw mut poll, 1, -1) };
        match done(ready.into()) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            other => other?,
        };
        if poll.revents & libc::POLLIN == 0 {
            return Ok(None);
        }
        // SAFETY: all zero is a value of this plain structure, and the one that the kernel asks for.
        let mut told: libc::seccomp_notif = unsafe { std::mem::zeroed() };
        // SAFETY: the request writes one struct seccomp_notif, which `told` is.
        let got = unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut told) };
        match done(got.into()) {
            // Whoever made it has ended, or was interrupted, before it was looked at.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EINTR)) => {}
            Err(error) => return Err(error),
            Ok(_) => {
                let (number, args) = (told.data.nr, told.data.args);
                return Ok(Some(Call { id: told.id, thread: told.pid, number, args }));
            }
        }
    }
}

/// Lets a call go on. That whoever made it has ended is no error.
///
/// # Errors
/// The kernel's.
pub fn go_on(listener: BorrowedFd<'_>, call: &Call) -> io::Result<()> {
    let flags = 1; // SECCOMP_USER_NOTIF_FLAG_CONTINUE
    let answer = libc::seccomp_notif_resp { id: call.id, val: 0, error: 0, flags };
    // SAFETY: the request reads one struct seccomp_notif_resp, which `answer` is.
    let sent =
        unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, &raw const answer) };
    match done(sent.into()) {
        Err(error) if error.raw_os_error() != Some(libc::ENOENT) => Err(error),
        _ => Ok(()),
    }
}

/// The listener that came on a channel.
///
/// # Errors
/// The kernel's; `UnexpectedEof` when the program was not started after all.
pub fn listener(channel: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let mut space = nix::cmsg_space!(i32);
    let mut byte = [0];
    let mut parts = [io::IoSliceMut::new(&mut byte)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = nix::sys::socket::recvmsg::<()>(channel.as_raw_fd(), &mut parts, Some(&mut space), flags)?;
    for part in message.cmsgs()? {
        if let nix::sys::socket::ControlMessageOwned::ScmRights(fds) = part
            && let Some(fd) = fds.first()
        {
            // SAFETY: the kernel has just made this descriptor for us; nothing else owns it.
            return Ok(unsafe { OwnedFd::from_raw_fd(*fd) });
        }
    }
    Err(io::ErrorKind::UnexpectedEof.into())
}
