//! The notify socket: what units say about themselves, in the words of sd_notify(3).

use crate::graph::Notice;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, bind, setsockopt, socket, sockopt};
use nix::unistd::{Gid, chown};
use octant_ids::uid::NOTIFY_GROUP;
use octant_sys::packet;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// The most bytes of a datagram.
const MAX: usize = 4096;
/// How many datagrams that say nothing are skipped before others get their turn.
const SKIPPED_MAX: u32 = 64;
/// The longest name of a stored descriptor.
const NAME_MAX: usize = 64;

/// The socket.
#[derive(Debug)]
pub(crate) struct Notify {
    socket: OwnedFd,
}

/// A datagram and who sent it.
#[derive(Debug)]
pub(crate) struct Message {
    /// The sender's process id, from the kernel.
    pub(crate) pid: u32,
    /// The text.
    pub(crate) text: String,
    /// Descriptors that came with it.
    pub(crate) fds: Vec<OwnedFd>,
}

/// What a datagram asks for, in its own order.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Say {
    /// Something for the graph.
    Notice(Notice),
    /// A line for the status.
    Status(String),
    /// Keep the descriptors under this name.
    Store(String),
    /// Drop the descriptors of this name.
    Remove(String),
}

impl Notify {
    /// The socket at `path`, which every unit may write to by its group and no other user; who wrote is told by the
    /// kernel.
    ///
    /// # Errors
    /// What socket(2), bind(2) and chown(2) report.
    pub(crate) fn new(path: &Path) -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(AddressFamily::Unix, SockType::Datagram, flags, None)?;
        setsockopt(&fd, sockopt::PassCred, &true)?;
        crate::sockets::remove_stale(path)?;
        bind(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
        chown(path, None, Some(Gid::from_raw(NOTIFY_GROUP)))?;
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o660))?;
        Ok(Self { socket: fd })
    }

    /// The socket of a replaced PID 1.
    #[must_use]
    pub(crate) fn resume(socket: OwnedFd) -> Self {
        Self { socket }
    }

    /// The next datagram; `None` when there is none, or when too many were skipped at once. A datagram that is too long, is no text or has no sender is
    /// skipped: nothing in it can be trusted.
    ///
    /// # Errors
    /// What recvmsg(2) reports beyond that.
    pub(crate) fn receive(&self) -> io::Result<Option<Message>> {
        let mut buffer = [0; MAX];
        for _ in 0..SKIPPED_MAX {
            let packet = match packet::receive(self.socket.as_fd(), &mut buffer) {
                Ok(packet) => packet,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.raw_os_error() == Some(nix::libc::EMSGSIZE) => continue,
                Err(error) => return Err(error),
            };
            let pid = packet.sender.and_then(|(pid, _)| u32::try_from(pid).ok()).filter(|pid| *pid > 0);
            let text = std::str::from_utf8(&buffer[..packet.len]);
            if let (Some(pid), Ok(text)) = (pid, text) {
                return Ok(Some(Message { pid, text: text.to_owned(), fds: packet.fds }));
            }
        }
        Ok(None)
    }
}

impl AsFd for Notify {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Reads a datagram's lines. Unknown ones are skipped, as the protocol wants.
#[must_use]
pub(crate) fn parse(text: &str) -> Vec<Say> {
    let mut out = Vec::new();
    let (mut store, mut remove, mut name) = (false, false, None);
    for line in text.lines() {
        match line.split_once('=') {
            Some(("READY", "1")) => out.push(Say::Notice(Notice::Ready)),
            Some(("WATCHDOG", "1")) => out.push(Say::Notice(Notice::Alive)),
            Some(("STATUS", status)) => out.push(Say::Status(status.to_owned())),
            Some(("X_OCTANT_HEALTH", "ok")) => out.push(Say::Notice(Notice::Healthy)),
            Some(("X_OCTANT_HEALTH", why)) => out.push(Say::Notice(Notice::Unhealthy(why.to_owned()))),
            Some(("FDSTORE", "1")) => store = true,
            Some(("FDSTOREREMOVE", "1")) => remove = true,
            Some(("FDNAME", value)) => name = Some(value),
            // MAINPID would let a unit choose which process counts as its own; the rest is not for us.
            _ => {}
        }
    }
    // The name reaches its owner in LISTEN_FDNAMES, whose separator is the colon.
    let valid = |name: &&str| {
        !name.is_empty() && name.len() <= NAME_MAX && name.bytes().all(|b| b.is_ascii_graphic() && b != b':')
    };
    if let Some(name) = name.filter(valid) {
        if store {
            out.push(Say::Store(name.to_owned()));
        } else if remove {
            out.push(Say::Remove(name.to_owned()));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::socketpair;

    #[test]
    fn nonsense_without_end_gives_way_to_others() {
        // Packets rather than datagrams: of those only a handful can wait.
        let (fd, sender) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_NONBLOCK).unwrap();
        setsockopt(&fd, sockopt::PassCred, &true).unwrap();
        let notify = Notify::resume(fd);
        for _ in 0..SKIPPED_MAX {
            nix::unistd::write(&sender, b"\xff").unwrap();
        }
        nix::unistd::write(&sender, b"READY=1").unwrap();
        assert!(notify.receive().unwrap().is_none());
        assert_eq!(notify.receive().unwrap().unwrap().text, "READY=1");
    }

    #[test]
    fn the_known_words_are_understood_and_others_skipped() {
        let said = parse(
            "READY=1\nSTATUS=serving = fine\nMAINPID=1\nX_OCTANT_HEALTH=disk full\n\nnonsense\nWATCHDOG=0",
        );
        assert_eq!(
            said,
            [
                Say::Notice(Notice::Ready),
                Say::Status("serving = fine".into()),
                Say::Notice(Notice::Unhealthy("disk full".into())),
            ]
        );
        assert_eq!(parse("FDSTORE=1\nFDNAME=agent-7"), [Say::Store("agent-7".into())]);
        assert_eq!(parse("FDNAME=x\nFDSTOREREMOVE=1"), [Say::Remove("x".into())]);
        assert!(parse("FDSTORE=1").is_empty());
        assert!(parse("FDSTORE=1\nFDNAME=a:b").is_empty());
        assert!(parse(&format!("FDSTORE=1\nFDNAME={}", "a".repeat(65))).is_empty());
    }
}
