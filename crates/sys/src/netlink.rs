//! Netlink: requests to the kernel about networks, and its answers. What the messages mean is their user's; only what every
//! namespace needs, loopback and which addresses lead to it, is here.

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, setsockopt,
    socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// The index of the loopback interface in every network namespace.
const LOOPBACK: u32 = 1;
/// NLM_F_REQUEST, NLM_F_ACK and NLM_F_DUMP.
const REQUEST: u16 = 1;
const ACK: u16 = 4;
const DUMP: u16 = 0x300;
/// NLM_F_DUMP_INTR: what is listed changed meanwhile.
const INTERRUPTED: u16 = 0x10;
/// NLM_F_CREATE | NLM_F_REPLACE.
pub const REPLACE: u16 = 0x500;
/// NLM_F_CREATE | NLM_F_EXCL.
pub const CREATE: u16 = 0x600;
/// NLMSG_ERROR and NLMSG_DONE.
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// struct nlmsghdr: length, type, flags, sequence, port.
const HEAD: usize = 16;
/// NLA_TYPE_MASK.
const TYPE: u16 = 0x3fff;
/// What the kernel puts into one packet of a list at most, and a link with all its attributes fits into.
const PACKET_MAX: usize = 64 << 10;
/// The most packets of a list: some million routes.
const PACKETS_MAX: usize = 1 << 14;
/// How many seconds an answer may take.
const ANSWER_S: i64 = 5;

/// A request: its type, a structure of the kernel's, attributes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    kind: u16,
    flags: u16,
    body: Vec<u8>,
}

impl Request {
    /// A request that begins with this structure, in the machine's own byte order.
    #[must_use]
    pub fn new(kind: u16, flags: u16, structure: &[u8]) -> Self {
        let mut body = structure.to_vec();
        body.resize(body.len().next_multiple_of(4), 0);
        Self { kind, flags, body }
    }

    /// Adds an attribute (struct nlattr).
    ///
    /// # Errors
    /// `EMSGSIZE` for a value of more than 64 KiB.
    pub fn with(mut self, kind: u16, value: &[u8]) -> io::Result<Self> {
        let length = u16::try_from(4 + value.len()).map_err(|_| error_of(libc::EMSGSIZE))?;
        self.body.extend_from_slice(&length.to_ne_bytes());
        self.body.extend_from_slice(&kind.to_ne_bytes());
        self.body.extend_from_slice(value);
        self.body.resize(self.body.len().next_multiple_of(4), 0);
        Ok(self)
    }

    /// What it says beyond its head: for an attribute that has others inside.
    #[must_use]
    pub fn into_body(self) -> Vec<u8> {
        self.body
    }

    fn bytes(&self, more: u16) -> io::Result<Vec<u8>> {
        let length = u32::try_from(HEAD + self.body.len()).map_err(|_| error_of(libc::EMSGSIZE))?;
        let mut message = length.to_ne_bytes().to_vec();
        message.extend_from_slice(&self.kind.to_ne_bytes());
        message.extend_from_slice(&(REQUEST | self.flags | more).to_ne_bytes());
        message.extend_from_slice(&1_u32.to_ne_bytes());
        message.extend_from_slice(&0_u32.to_ne_bytes());
        message.extend_from_slice(&self.body);
        Ok(message)
    }
}

/// A socket of one of netlink's protocols, for one request after the other.
#[derive(Debug)]
pub struct Netlink(OwnedFd);

impl Netlink {
    /// Of links, addresses, routes and neighbours.
    ///
    /// # Errors
    /// What socket(2) reports.
    pub fn route() -> io::Result<Self> {
        Self::open(SockProtocol::NetlinkRoute)
    }

    /// Of sockets.
    ///
    /// # Errors
    /// What socket(2) reports.
    pub fn sockets() -> io::Result<Self> {
        Self::open(SockProtocol::NetlinkSockDiag)
    }

    fn open(protocol: SockProtocol) -> io::Result<Self> {
        let fd = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, Some(protocol))?;
        setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::seconds(ANSWER_S))?;
        Ok(Self(fd))
    }

    /// Sends one request and waits for the kernel's word on it.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn ask(&self, request: &Request) -> io::Result<()> {
        send(self.0.as_raw_fd(), &request.bytes(ACK)?, MsgFlags::empty())?;
        let mut answer = vec![0; PACKET_MAX];
        let length = recv(self.0.as_raw_fd(), &mut answer, MsgFlags::empty())?;
        acknowledged(answer[..length].get(HEAD..).unwrap_or_default())
    }

    /// Sends one request for a list and gives each message of the answer: its type and what follows its head.
    ///
    /// # Errors
    /// What the kernel answers; `EINTR` where the list changed while it was sent, so that it may lack something.
    pub fn list(&self, request: &Request, mut each: impl FnMut(u16, &[u8])) -> io::Result<()> {
        send(self.0.as_raw_fd(), &request.bytes(DUMP)?, MsgFlags::empty())?;
        let (mut packet, mut changed) = (vec![0; PACKET_MAX], false);
        for _ in 0..PACKETS_MAX {
            let length = recv(self.0.as_raw_fd(), &mut packet, MsgFlags::empty())?;
            for (kind, flags, body) in messages(&packet[..length]) {
                changed |= flags & INTERRUPTED != 0;
                match kind {
                    DONE if changed => return Err(error_of(libc::EINTR)),
                    DONE => return Ok(()),
                    ERROR => acknowledged(body)?,
                    kind => each(kind, body),
                }
            }
        }
        Err(error_of(libc::EMSGSIZE))
    }
}

/// A socket, without blocking, on which the kernel tells of changes: one bit a group (RTMGRP_LINK, ...). It is there to wait on;
/// [`drain`] empties it.
///
/// # Errors
/// What socket(2) and bind(2) report.
pub fn changes(groups: u32) -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(AddressFamily::Netlink, SockType::Raw, flags, Some(SockProtocol::NetlinkRoute))?;
    bind(fd.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
    Ok(fd)
}

/// Reads away what waits on such a socket: what is there is asked for anew, so that a loss does no harm.
///
/// # Errors
/// What recv(2) reports beyond that there is no more, or that some was lost.
pub fn drain(changes: BorrowedFd<'_>) -> io::Result<()> {
    let mut packet = [0; 4 << 10];
    loop {
        match recv(changes.as_fd().as_raw_fd(), &mut packet, MsgFlags::MSG_TRUNC) {
            Ok(_) | Err(nix::errno::Errno::ENOBUFS | nix::errno::Errno::EINTR) => {}
            Err(nix::errno::Errno::EAGAIN) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

/// The attributes of a message, each its type and its value; what is cut off at the end is left out.
pub fn attributes(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(*rest.first_chunk()?));
        let one = rest.get(..length).filter(|_| length >= 4)?;
        let kind = u16::from_ne_bytes(*one[2..].first_chunk()?) & TYPE;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, &one[4..]))
    })
}

fn messages(mut rest: &[u8]) -> impl Iterator<Item = (u16, u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::try_from(u32::from_ne_bytes(*rest.first_chunk()?)).ok()?;
        let one = rest.get(..length).filter(|_| length >= HEAD)?;
        let number = |at: usize| Some(u16::from_ne_bytes(*one.get(at..)?.first_chunk()?));
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((number(4)?, number(6)?, &one[HEAD..]))
    })
}

/// struct nlmsgerr: 0, or a negative errno.
fn acknowledged(body: &[u8]) -> io::Result<()> {
    match body.first_chunk().map(|code| i32::from_ne_bytes(*code)) {
        Some(0) => Ok(()),
        Some(negative) => Err(error_of(negative.saturating_neg())),
        None => Err(error_of(libc::EPROTO)),
    }
}

fn error_of(code: i32) -> io::Error {
    io::Error::from_raw_os_error(code)
}

/// Brings the loopback interface up.
///
/// # Errors
/// `EPERM` without CAP_NET_ADMIN in the namespace; otherwise what the kernel answers.
pub fn loopback_up() -> io::Result<()> {
    let up = libc::IFF_UP.cast_unsigned();
    // struct ifinfomsg: family, padding, type, index, flags, which flags to change.
    let mut body = vec![0; 4];
    for word in [LOOPBACK, up, up] {
        body.extend_from_slice(&word.to_ne_bytes());
    }
    Netlink::route()?.ask(&Request::new(libc::RTM_NEWLINK, 0, &body))
}

/// Makes every address with these leading bits one of this namespace's own, on loopback: what is sent to it arrives
/// here, and a socket can be bound to it (ip-route(8): `local PREFIX dev lo`).
///
/// # Errors
/// `EPERM` without CAP_NET_ADMIN in the namespace; otherwise what the kernel answers.
pub fn local_route(address: IpAddr, bits: u8) -> io::Result<()> {
    let (family, bytes) = match address {
        IpAddr::V4(v4) => (libc::AF_INET, v4.octets().to_vec()),
        IpAddr::V6(v6) => (libc::AF_INET6, v6.octets().to_vec()),
    };
    let family = u8::try_from(family).map_err(|_| error_of(libc::EAFNOSUPPORT))?;
    // struct rtmsg: family, lengths of destination and source, tos, table, protocol, scope, type; flags.
    let scope = if address.is_ipv4() { libc::RT_SCOPE_HOST } else { libc::RT_SCOPE_UNIVERSE };
    let mut body =
        vec![family, bits, 0, 0, libc::RT_TABLE_LOCAL, libc::RTPROT_STATIC, scope, libc::RTN_LOCAL];
    body.extend_from_slice(&0_u32.to_ne_bytes());
    let request = Request::new(libc::RTM_NEWROUTE, REPLACE, &body)
        .with(libc::RTA_DST, &bytes)?
        .with(libc::RTA_OIF, &LOOPBACK.to_ne_bytes())?;
    Netlink::route()?.ask(&request)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{SocketAddr, TcpListener, TcpStream};

    #[test]
    fn what_is_cut_or_has_a_wrong_length_ends_the_list() {
        let body = Request::new(0, 0, &[]).with(1, b"abcde").unwrap().with(2, b"x").unwrap().into_body();
        let all: Vec<_> = attributes(&body).collect();
        assert_eq!(all, [(1, &b"abcde"[..]), (2, b"x")]);
        for cut in 0..body.len() {
            assert!(attributes(&body[..cut]).count() <= 2);
            assert!(attributes(&body[..cut]).all(|(kind, value)| (kind == 1) == (value == b"abcde")));
        }
        // A length that is shorter than its own head would never end.
        assert_eq!(attributes(&[3, 0, 1, 0, 9, 9, 9, 9]).count(), 0);
        assert_eq!(messages(&[15, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).count(), 0);
    }

    /// Runs in a network namespace of its own; needs root.
    #[test]
    fn every_address_of_a_local_route_arrives_here() {
        std::thread::spawn(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            loopback_up().unwrap();
            let reach = |to: &str| TcpStream::connect(to.parse::<SocketAddr>().unwrap());
            assert!(reach("198.18.3.4:80").is_err());
            for (address, bits) in [("198.18.0.0", 15), ("fd4f:6374:616e:7400::", 64)] {
                for _ in 0..2 {
                    local_route(address.parse().unwrap(), bits).unwrap();
                }
            }
            let listener = TcpListener::bind("[::]:80").unwrap();
            for to in ["198.18.3.4:80", "198.19.255.254:80", "[fd4f:6374:616e:7400::5]:80"] {
                let stream = reach(to).unwrap();
                let (accepted, _) = listener.accept().unwrap();
                let local = accepted.local_addr().unwrap();
                assert_eq!(local.ip().to_canonical(), stream.peer_addr().unwrap().ip());
            }
            assert!(reach("198.20.0.1:80").is_err());
        })
        .join()
        .unwrap();
    }
}
