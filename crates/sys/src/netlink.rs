//! The one network interface that every namespace needs: loopback, and which addresses lead to it.

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};
use std::io;
use std::net::IpAddr;
use std::os::fd::AsRawFd;

/// The index of the loopback interface in every network namespace.
const LOOPBACK: u32 = 1;
/// NLM_F_REQUEST | NLM_F_ACK.
const REQUEST: u16 = 5;
/// NLM_F_CREATE | NLM_F_REPLACE.
const REPLACE: u16 = 0x500;

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
    ask(libc::RTM_NEWLINK, 0, &body)
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
    let family = u8::try_from(family).map_err(|_| io::Error::from_raw_os_error(libc::EAFNOSUPPORT))?;
    // struct rtmsg: family, lengths of destination and source, tos, table, protocol, scope, type; flags.
    let scope = if address.is_ipv4() { libc::RT_SCOPE_HOST } else { libc::RT_SCOPE_UNIVERSE };
    let mut body =
        vec![family, bits, 0, 0, libc::RT_TABLE_LOCAL, libc::RTPROT_STATIC, scope, libc::RTN_LOCAL];
    body.extend_from_slice(&0_u32.to_ne_bytes());
    attribute(&mut body, libc::RTA_DST, &bytes)?;
    attribute(&mut body, libc::RTA_OIF, &LOOPBACK.to_ne_bytes())?;
    ask(libc::RTM_NEWROUTE, REPLACE, &body)
}

/// Adds a struct rtattr: length, type, value.
fn attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) -> io::Result<()> {
    let length = u16::try_from(4 + value.len()).map_err(|_| io::Error::from_raw_os_error(libc::EMSGSIZE))?;
    body.extend_from_slice(&length.to_ne_bytes());
    body.extend_from_slice(&kind.to_ne_bytes());
    body.extend_from_slice(value);
    Ok(())
}

/// Sends one request and waits for the kernel's word on it.
fn ask(kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
    let route = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        Some(SockProtocol::NetlinkRoute),
    )?;
    // struct nlmsghdr: length, type, flags, sequence, port.
    let length = u32::try_from(16 + body.len()).map_err(|_| io::Error::from_raw_os_error(libc::EMSGSIZE))?;
    let mut message = length.to_ne_bytes().to_vec();
    message.extend_from_slice(&kind.to_ne_bytes());
    message.extend_from_slice(&(REQUEST | flags).to_ne_bytes());
    message.extend_from_slice(&1_u32.to_ne_bytes());
    message.extend_from_slice(&0_u32.to_ne_bytes());
    message.extend_from_slice(body);
    send(route.as_raw_fd(), &message, MsgFlags::empty())?;
    let mut answer = [0_u8; 128];
    let length = recv(route.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    // struct nlmsgerr behind the 16 bytes of head: 0, or a negative errno.
    let code = answer[..length].get(16..20).and_then(|bytes| bytes.first_chunk());
    match code.map(|bytes| i32::from_ne_bytes(*bytes)) {
        Some(0) => Ok(()),
        Some(negative) => Err(io::Error::from_raw_os_error(negative.saturating_neg())),
        None => Err(io::Error::from_raw_os_error(libc::EPROTO)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{SocketAddr, TcpListener, TcpStream};

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
