//! Speaking to PID 1 (sd_notify(3), with `X_OCTANT_HEALTH` beside the known fields).

use crate::Health;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use octant_sys::{clock, packet};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::Arc;

/// The longest status or reason that is sent, in bytes; what PID 1 shows is shorter.
const TEXT_MAX: usize = 256;
/// How long PID 1 may take to read what was sent before.
const ROOM_WITHIN_NS: u64 = 500_000_000;

/// Sends notifications to whoever started this process. Without a NOTIFY_SOCKET there is nobody, and
/// everything succeeds.
#[derive(Debug, Clone)]
pub struct Notifier(Option<Arc<UnixDatagram>>);

impl Notifier {
    /// Connects to the socket at `path`.
    ///
    /// # Errors
    /// What connect(2) reports.
    pub(crate) fn connect(path: Option<&Path>) -> io::Result<Self> {
        let Some(path) = path else { return Ok(Self(None)) };
        let socket = UnixDatagram::unbound()?;
        socket.connect(path)?;
        // A PID 1 that does not read must not hold up a service; the watchdog is told again soon.
        socket.set_nonblocking(true)?;
        Ok(Self(Some(Arc::new(socket))))
    }

    fn send(&self, text: &str, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let Some(socket) = &self.0 else { return Ok(()) };
        let until = clock::monotonic_ns().saturating_add(ROOM_WITHIN_NS);
        loop {
            let error = match packet::send(socket.as_fd(), text.as_bytes(), fds) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => error,
                sent => return sent,
            };
            // Ten are kept for PID 1, and what ends an agent is more: it has read them in a moment. All services are woken
            // then, and another may have taken the room.
            let left_ms = until.saturating_sub(clock::monotonic_ns()).div_ceil(1_000_000);
            if left_ms == 0 {
                return Err(error);
            }
            let mut room = [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)];
            poll(&mut room, PollTimeout::try_from(left_ms).unwrap_or(PollTimeout::ZERO))?;
        }
    }

    /// Sends fields and reports a failure to the log: there is nobody else to tell.
    pub(crate) fn tell(&self, text: &str) {
        if let Err(error) = self.send(text, &[]) {
            tracing::warn!("cannot notify PID 1 of {:?}: {error}", text.lines().next().unwrap_or_default());
        }
    }

    /// Sets the line that `octant status` shows beside the service.
    pub fn status(&self, text: &str) {
        self.tell(&format!("STATUS={}", one_line(text)));
    }

    /// Puts a descriptor into PID 1's store: after a restart it comes back from
    /// [`Inherited::stored`](crate::Inherited::stored) under the same name.
    ///
    /// # Errors
    /// `EINVAL` for a name that is empty or has a colon, a newline or more than 64 bytes; otherwise what
    /// sendmsg(2) reports.
    pub fn store(&self, name: &str, fd: BorrowedFd<'_>) -> io::Result<()> {
        check_name(name)?;
        self.send(&format!("FDSTORE=1\nFDNAME={name}"), &[fd])
    }

    /// Takes a name out of PID 1's store.
    ///
    /// # Errors
    /// As [`Notifier::store`].
    pub fn unstore(&self, name: &str) -> io::Result<()> {
        check_name(name)?;
        self.send(&format!("FDSTOREREMOVE=1\nFDNAME={name}"), &[])
    }

    pub(crate) fn health(&self, health: &Health, ready: bool) {
        let reason = match health {
            Health::Ok => "ok".to_owned(),
            Health::Bad(reason) => one_line(reason),
        };
        self.tell(&format!("{}WATCHDOG=1\nX_OCTANT_HEALTH={reason}", if ready { "READY=1\n" } else { "" }));
    }
}

fn check_name(name: &str) -> io::Result<()> {
    let valid = !name.is_empty() && name.len() <= 64 && !name.contains([':', '\n']);
    if valid { Ok(()) } else { Err(io::Error::from(io::ErrorKind::InvalidInput)) }
}

fn one_line(text: &str) -> String {
    let mut line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    line.truncate(line.floor_char_boundary(TEXT_MAX));
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

    fn pair() -> (Notifier, std::os::fd::OwnedFd) {
        let (ours, theirs) =
            socketpair(AddressFamily::Unix, SockType::Datagram, None, SockFlag::SOCK_CLOEXEC).unwrap();
        (Notifier(Some(Arc::new(UnixDatagram::from(ours)))), theirs)
    }

    fn got(socket: &std::os::fd::OwnedFd) -> (String, usize) {
        let mut buffer = [0; 1024];
        let packet = packet::receive(socket.as_fd(), &mut buffer).unwrap();
        (String::from_utf8(buffer[..packet.len].to_vec()).unwrap(), packet.fds.len())
    }

    #[test]
    fn fields_cannot_be_smuggled_in_through_a_text() {
        let (notifier, socket) = pair();
        notifier.health(&Health::Bad("disk full\nREADY=1".into()), false);
        assert_eq!(got(&socket).0, "WATCHDOG=1\nX_OCTANT_HEALTH=disk full READY=1");
        notifier.status(&format!("é\n{}", "é".repeat(300)));
        let status = got(&socket).0;
        assert!(status.len() <= TEXT_MAX + "STATUS=".len() && !status.contains('\n'));
        notifier.health(&Health::Ok, true);
        assert_eq!(got(&socket).0, "READY=1\nWATCHDOG=1\nX_OCTANT_HEALTH=ok");
    }

    #[test]
    fn a_descriptor_is_stored_under_its_name() {
        let (notifier, socket) = pair();
        let null = std::fs::File::open("/dev/null").unwrap();
        notifier.store("agent-1", null.as_fd()).unwrap();
        assert_eq!(got(&socket), ("FDSTORE=1\nFDNAME=agent-1".to_owned(), 1));
        notifier.unstore("agent-1").unwrap();
        assert_eq!(got(&socket).0, "FDSTOREREMOVE=1\nFDNAME=agent-1");
        for bad in ["", "a:b", "a\nb", &"x".repeat(65)] {
            assert!(notifier.store(bad, null.as_fd()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_full_queue_is_waited_for_a_moment_and_no_longer() {
        let (notifier, socket) = pair();
        notifier.0.as_ref().unwrap().set_nonblocking(true).unwrap();
        let mut sent = 0;
        while notifier.unstore("a").is_ok() {
            sent += 1;
        }
        assert!(sent > 0, "it ends by itself, since nobody reads");
        let reader = std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(5));
            got(&socket);
            socket
        });
        notifier.unstore("b").unwrap();
        drop(reader.join().unwrap());
    }

    #[test]
    fn of_many_who_wait_for_room_each_gets_some() {
        const SENDERS: usize = 8;
        const EACH: usize = 50;
        let (notifier, socket) = pair();
        notifier.0.as_ref().unwrap().set_nonblocking(true).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..SENDERS {
                scope.spawn(|| (0..EACH).for_each(|_| notifier.unstore("a").unwrap()));
            }
            (0..SENDERS * EACH).for_each(|_| drop(got(&socket)));
        });
    }
}
