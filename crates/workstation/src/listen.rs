//! Sockets in an agent's network that the gate serves: the one way out of it.

use crate::network::Away;
use crate::step::{SpawnError, Step};
use nix::errno::Errno;
use octant_api::egress::{Door, NAMES_V4, NAMES_V6};
use octant_ids::{Aid, Sha256};
use octant_sys::nftables::Way;
use octant_sys::{netlink, packet};
use serde::{Deserialize, Serialize};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{BorrowedFd, OwnedFd};

/// How many sockets one request asks for: as many as go with its answer.
pub const DOORS_MAX: usize = packet::MAX_FDS;
/// The most bytes of a request.
pub(crate) const MAX_LISTEN: usize = 4096;

/// What is to be listened on, and by whom it can be reached. The ticket is for exactly this.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listen {
    /// The agent.
    pub aid: Aid,
    /// What for; [`DOORS_MAX`] at the most.
    pub doors: Vec<Door>,
}

impl Listen {
    /// Its bytes.
    ///
    /// # Errors
    /// [`SpawnError`]: it cannot be written.
    pub fn to_bytes(&self) -> Result<Vec<u8>, SpawnError> {
        serde_json::to_vec(self).map_err(|error| SpawnError::refused(Step::Request, error.to_string()))
    }

    /// What a ticket for it has as its subject.
    ///
    /// # Errors
    /// As [`Self::to_bytes`].
    pub fn digest(&self) -> Result<Sha256, SpawnError> {
        self.to_bytes().map(|bytes| crate::tickets::digest(&bytes))
    }

    /// Reads what a caller says, who is hostile.
    pub(crate) fn read(bytes: &[u8], aid: Aid) -> Result<Self, SpawnError> {
        let refused = |text: String| SpawnError::refused(Step::Request, text);
        let listen: Self = serde_json::from_slice(bytes).map_err(|error| refused(error.to_string()))?;
        if listen.aid != aid {
            return Err(refused("it is for another agent than the request".into()));
        }
        if listen.doors.len() > DOORS_MAX || listen.doors.is_empty() {
            return Err(refused(format!("one request is for 1 to {DOORS_MAX} sockets")));
        }
        if listen.doors.contains(&Door::Port(0)) {
            return Err(refused("0 is no port".into()));
        }
        Ok(listen)
    }

    /// Makes the sockets, in the network of the process that the descriptor stands for.
    pub(crate) fn open(&self, pidfd: BorrowedFd<'_>) -> Result<Vec<OwnedFd>, SpawnError> {
        let failed =
            |what: &'static str| move |error: io::Error| SpawnError::failed(Step::Listen, what, &error);
        let away = Away::to(pidfd).map_err(failed("enter the agent's network"))?;
        // In this order: an address that no route leads to yet is taken for one that is not this network's own.
        let made =
            ways().and_then(|()| self.doors.iter().map(|door| bind(*door)).collect::<io::Result<Vec<_>>>());
        away.back();
        made.map_err(failed("listen"))
    }
}

/// Where packets may go in an agent's network, over loopback: to what is its own, and to what stands for names.
pub(crate) fn ways_out() -> [Way; 4] {
    [
        (Ipv4Addr::new(127, 0, 0, 0).into(), 8),
        (NAMES_V4.0.into(), NAMES_V4.1),
        (Ipv6Addr::LOCALHOST.into(), 128),
        (NAMES_V6.0.into(), NAMES_V6.1),
    ]
}

/// Where the agent may connect to: there, and to the address that stands for loopback.
pub(crate) fn hooked_ways() -> [Way; 6] {
    let [a, b, c, d] = ways_out();
    [a, b, c, d, (Ipv4Addr::UNSPECIFIED.into(), 32), (Ipv6Addr::UNSPECIFIED.into(), 128)]
}

/// Loopback, and the addresses that stand for names. Again it changes nothing.
fn ways() -> io::Result<()> {
    netlink::loopback_up()?;
    netlink::local_route(NAMES_V4.0.into(), NAMES_V4.1)?;
    match netlink::local_route(NAMES_V6.0.into(), NAMES_V6.1) {
        // A kernel without IPv6 has no such addresses, and programs ask for others.
        Err(error) if no_ipv6(&error) => Ok(()),
        done => done,
    }
}

fn no_ipv6(error: &io::Error) -> bool {
    [Errno::EAFNOSUPPORT, Errno::EOPNOTSUPP, Errno::EADDRNOTAVAIL]
        .iter()
        .any(|errno| error.raw_os_error() == Some(*errno as i32))
}

fn bind(door: Door) -> io::Result<OwnedFd> {
    let (ip, port) = door.place();
    let listen =
        |ip: IpAddr| -> io::Result<OwnedFd> { Ok(TcpListener::bind(SocketAddr::new(ip, port))?.into()) };
    match (door, ip) {
        (Door::Dns, Some(ip)) => Ok(UdpSocket::bind(SocketAddr::new(ip, port))?.into()),
        (_, Some(ip)) => listen(ip),
        // Bound to every address of both kinds.
        (_, None) => match listen(Ipv6Addr::UNSPECIFIED.into()) {
            Err(error) if no_ipv6(&error) => listen(Ipv4Addr::UNSPECIFIED.into()),
            done => done,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_caller_says_is_checked() {
        let aid = Aid::from_bytes([1; 16]);
        let good = Listen { aid, doors: vec![Door::Dns, Door::Port(443)] };
        assert_eq!(Listen::read(&good.to_bytes().unwrap(), aid), Ok(good.clone()));
        assert_ne!(good.digest(), Listen { doors: vec![Door::Dns], ..good.clone() }.digest());
        let bad = [
            Listen { aid: Aid::from_bytes([2; 16]), ..good.clone() },
            Listen { doors: vec![], ..good.clone() },
            Listen { doors: vec![Door::Port(0)], ..good.clone() },
            Listen { doors: vec![Door::Port(1); DOORS_MAX + 1], ..good },
        ];
        for listen in bad {
            assert!(Listen::read(&listen.to_bytes().unwrap(), aid).is_err(), "{listen:?}");
        }
        assert!(Listen::read(b"{}", aid).is_err());
    }
}
