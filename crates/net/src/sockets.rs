//! Which sockets there are (sock_diag(7)).

use nix::libc;
use octant_sys::netlink::{Netlink, Request, attributes};
use std::io;
use std::net::{IpAddr, SocketAddr};

/// SOCK_DIAG_BY_FAMILY.
const BY_FAMILY: u16 = 20;
/// UDIAG_SHOW_NAME, UDIAG_SHOW_PEER and UDIAG_SHOW_RQLEN.
const UNIX_SHOW: u32 = 1 | 4 | 0x10;
/// TCP's states, by their number, as ss(8) writes them.
pub const STATES: [&str; 13] = [
    "UNKNOWN",
    "ESTAB",
    "SYN-SENT",
    "SYN-RECV",
    "FIN-WAIT-1",
    "FIN-WAIT-2",
    "TIME-WAIT",
    "UNCONN",
    "CLOSE-WAIT",
    "LAST-ACK",
    "LISTEN",
    "CLOSING",
    "NEW-SYN-RECV",
];
/// The state of a socket that waits for connections, and of one that is connected to nobody.
pub const LISTEN: u8 = 10;
/// See [`LISTEN`].
pub const UNCONNECTED: u8 = 7;

/// A socket of the Internet's families.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Internet {
    /// Its state: a place in [`STATES`].
    pub state: u8,
    /// Its own address.
    pub local: SocketAddr,
    /// The other end's.
    pub peer: SocketAddr,
    /// The link that it is bound to; 0 for any.
    pub link: u32,
    /// What waits to be read, and to be sent; of one that listens, how many connections wait and can.
    pub queues: (u32, u32),
    /// Its owner.
    pub uid: u32,
    /// Its inode, by which processes have it.
    pub inode: u32,
}

/// A Unix socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unix {
    /// SOCK_STREAM and others.
    pub kind: u8,
    /// As [`Internet::state`].
    pub state: u8,
    /// Its path, or `@` and its name; empty without.
    pub name: String,
    /// The other end's inode; 0 for none.
    pub peer: u32,
    /// As [`Internet::queues`].
    pub queues: (u32, u32),
    /// Its inode.
    pub inode: u32,
}

/// Every socket of a protocol (IPPROTO_TCP, IPPROTO_UDP) in both families, in any of these states: one bit each.
///
/// # Errors
/// What the kernel answers; a family that it does not have has no sockets.
pub fn internet(protocol: u8, states: u32) -> io::Result<Vec<Internet>> {
    let mut all = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        // struct inet_diag_req_v2: family, protocol, extensions, padding, states, which socket.
        let mut head = vec![u8::try_from(family).unwrap_or_default(), protocol, 0, 0];
        head.extend_from_slice(&states.to_ne_bytes());
        head.extend_from_slice(&[0; 48]);
        let listed = Netlink::sockets()?
            .list(&Request::new(BY_FAMILY, 0, &head), |_, body| all.extend(of_internet(body)));
        match listed {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
            other => other?,
        }
    }
    Ok(all)
}

/// Every Unix socket.
///
/// # Errors
/// What the kernel answers.
pub fn unix() -> io::Result<Vec<Unix>> {
    // struct unix_diag_req: family, protocol, padding, states, inode, what to show, cookie.
    let mut head = vec![u8::try_from(libc::AF_UNIX).unwrap_or_default(), 0, 0, 0];
    for word in [u32::MAX, 0, UNIX_SHOW, 0, 0] {
        head.extend_from_slice(&word.to_ne_bytes());
    }
    let mut all = Vec::new();
    Netlink::sockets()?.list(&Request::new(BY_FAMILY, 0, &head), |_, body| all.extend(of_unix(body)))?;
    Ok(all)
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}

/// struct inet_diag_msg: family, state, timer, retransmissions; ports, addresses, link, cookie; expiry, queues, owner, inode.
fn of_internet(body: &[u8]) -> Option<Internet> {
    let port = |at: usize| body.get(at..)?.first_chunk().map(|bytes| u16::from_be_bytes(*bytes));
    let address = |at: usize| -> Option<IpAddr> {
        if i32::from(*body.first()?) == libc::AF_INET {
            return body.get(at..)?.first_chunk::<4>().map(|octets| IpAddr::from(*octets));
        }
        body.get(at..)?.first_chunk::<16>().map(|octets| IpAddr::from(*octets))
    };
    Some(Internet {
        state: *body.get(1)?,
        local: (address(8)?, port(4)?).into(),
        peer: (address(24)?, port(6)?).into(),
        link: word(body, 40)?,
        queues: (word(body, 56)?, word(body, 60)?),
        uid: word(body, 64)?,
        inode: word(body, 68)?,
    })
}

/// struct unix_diag_msg: family, type, state, padding; inode, cookie. Then attributes.
fn of_unix(body: &[u8]) -> Option<Unix> {
    let mut socket = Unix {
        kind: *body.get(1)?,
        state: *body.get(2)?,
        name: String::new(),
        peer: 0,
        queues: (0, 0),
        inode: word(body, 4)?,
    };
    for (kind, value) in attributes(body.get(16..)?) {
        match kind {
            0 => {
                // An abstract name begins with a zero.
                let text: Vec<u8> = value.iter().map(|byte| if *byte == 0 { b'@' } else { *byte }).collect();
                let text = if value.first() == Some(&0) {
                    &text[..]
                } else {
                    value.strip_suffix(b"\0").unwrap_or(value)
                };
                socket.name = String::from_utf8_lossy(text).into_owned();
            }
            2 => socket.peer = word(value, 0)?,
            4 => socket.queues = (word(value, 0)?, word(value, 4)?),
            _ => {}
        }
    }
    Some(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::unix::net::UnixListener;

    #[test]
    fn the_kernel_lists_what_is_open() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let stream = TcpStream::connect(at).unwrap();
        let six = UdpSocket::bind("[::1]:0");
        let tcp = internet(6, u32::MAX).unwrap();
        assert!(tcp.iter().any(|socket| socket.local == at && socket.state == LISTEN && socket.inode > 0));
        let own = stream.local_addr().unwrap();
        assert!(tcp.iter().any(|socket| socket.local == own && socket.peer == at && socket.state == 1));
        let listening = internet(6, 1 << LISTEN).unwrap();
        assert!(listening.iter().all(|socket| socket.state == LISTEN) && !listening.is_empty());
        if let Ok(six) = six {
            let at = six.local_addr().unwrap();
            assert!(internet(17, u32::MAX).unwrap().iter().any(|socket| socket.local == at));
        }
        let path = std::env::temp_dir().join(format!("octant-sockets-{}", std::process::id()));
        let _listener = UnixListener::bind(&path).unwrap();
        let found = unix().unwrap().into_iter().find(|socket| path.to_str() == Some(&socket.name));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(found.map(|socket| (socket.state, socket.kind)), Some((LISTEN, 1)));
    }

    #[test]
    fn what_the_kernel_says_may_be_cut_anywhere() {
        for cut in 0..72 {
            let _must_not_panic = (of_internet(&[2; 72][..cut]), of_unix(&[2; 72][..cut]));
        }
        assert!(of_internet(&[2; 71]).is_none() && of_internet(&[2; 72]).is_some());
    }
}
