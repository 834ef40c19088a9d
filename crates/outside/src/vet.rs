//! Which addresses may be connected to. A granted name that leads to the machine itself, to its neighbours or to a
//! cloud's metadata is how a gate is turned inwards.

use serde::Deserialize;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// Addresses with so many leading bits in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

/// Why a text is no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no network; write ADDRESS/BITS with no bit set beyond them, such as \"10.1.0.0/16\"")]
pub struct NetworkError(String);

impl Network {
    const fn v4(address: [u8; 4], bits: u8) -> Self {
        let [a, b, c, d] = address;
        Self { address: IpAddr::V4(std::net::Ipv4Addr::new(a, b, c, d)), bits }
    }

    const fn v6(first: u16, second: u16, bits: u8) -> Self {
        Self { address: IpAddr::V6(Ipv6Addr::new(first, second, 0, 0, 0, 0, 0, 0)), bits }
    }

    /// Whether the address is one of these.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let (ours, theirs, width) = match (self.address, address) {
            (IpAddr::V4(a), IpAddr::V4(b)) => (u128::from(u32::from(a)), u128::from(u32::from(b)), 32),
            (IpAddr::V6(a), IpAddr::V6(b)) => (u128::from(a), u128::from(b), 128),
            _ => return false,
        };
        let beyond = width - u32::from(self.bits);
        ours.checked_shr(beyond) == theirs.checked_shr(beyond)
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let bad = || NetworkError(text.chars().take(100).collect());
        let (address, bits) = text.split_once('/').ok_or_else(bad)?;
        let address: IpAddr = address.parse().map_err(|_| bad())?;
        let bits: u8 = bits.parse().map_err(|_| bad())?;
        let (value, width): (u128, u32) = match address {
            IpAddr::V4(v4) => (u128::from(u32::from(v4)), 32),
            IpAddr::V6(v6) => (u128::from(v6), 128),
        };
        let beyond = width.checked_sub(u32::from(bits)).ok_or_else(bad)?;
        let stray = value & 1_u128.checked_shl(beyond).map_or(u128::MAX, |mask| mask - 1);
        if stray == 0 { Ok(Self { address, bits }) } else { Err(bad()) }
    }
}

impl TryFrom<String> for Network {
    type Error = NetworkError;

    fn try_from(text: String) -> Result<Self, NetworkError> {
        text.parse()
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

/// What is not the internet, each with what it is (the special-purpose registries of RFC 6890 and what came after).
const INWARDS: [(Network, &str); 29] = [
    (Network::v4([0, 0, 0, 0], 8), "this machine"),
    (Network::v4([10, 0, 0, 0], 8), "a private network"),
    (Network::v4([100, 64, 0, 0], 10), "a carrier's network"),
    (Network::v4([127, 0, 0, 0], 8), "this machine"),
    (Network::v4([169, 254, 0, 0], 16), "this link, where clouds have their metadata"),
    (Network::v4([172, 16, 0, 0], 12), "a private network"),
    (Network::v4([192, 0, 0, 0], 24), "a protocol's own"),
    (Network::v4([192, 0, 2, 0], 24), "for documentation"),
    (Network::v4([192, 88, 99, 0], 24), "a relay that is no more"),
    (Network::v4([192, 168, 0, 0], 16), "a private network"),
    (Network::v4([198, 18, 0, 0], 15), "for benchmarks, and stands for names in workstations"),
    (Network::v4([198, 51, 100, 0], 24), "for documentation"),
    (Network::v4([203, 0, 113, 0], 24), "for documentation"),
    (Network::v4([224, 0, 0, 0], 3), "multicast or reserved"),
    (Network::v6(0, 0, 8), "this machine, or another way to write an IPv4 address"),
    (Network::v6(0x64, 0xff9b, 32), "another way to write an IPv4 address"),
    (Network::v6(0x100, 0, 16), "thrown away"),
    (Network::v6(0x2001, 0, 23), "a protocol's own, or another way to write an IPv4 address"),
    (Network::v6(0x2001, 0xdb8, 32), "for documentation"),
    (Network::v6(0x2002, 0, 16), "another way to write an IPv4 address"),
    (Network::v6(0x3fff, 0, 20), "for documentation"),
    (Network::v6(0x5f00, 0, 16), "a protocol's own"),
    (Network::v6(0xfc00, 0, 7), "a private network"),
    (Network::v6(0xfe80, 0, 10), "this link"),
    (Network::v6(0xfec0, 0, 10), "a private network"),
    (Network::v6(0xff00, 0, 8), "multicast"),
    (Network::v6(0, 0, 3), "not given to anybody yet"),
    (Network::v6(0x4000, 0, 2), "not given to anybody yet"),
    (Network::v6(0x8000, 0, 1), "not given to anybody yet"),
];

/// Looks at addresses that names lead to.
#[derive(Debug, Clone, Default)]
pub struct Vet {
    /// What the machine's configuration allows all the same.
    pub allow: Vec<Network>,
}

impl Vet {
    /// Whether the machine's configuration names this address; it need not, where the internet is.
    ///
    /// # Errors
    /// What the address is, when it may not be connected to.
    pub fn check(&self, address: IpAddr) -> Result<bool, &'static str> {
        // As the kernel would: a mapped address is an IPv4 address.
        let address = address.to_canonical();
        if self.allow.iter().any(|network| network.contains(address)) {
            return Ok(true);
        }
        match INWARDS.iter().find(|(network, _)| network.contains(address)) {
            Some((_, what)) => Err(what),
            None => Ok(false),
        }
    }

    /// Those of a host's addresses that may be connected to.
    ///
    /// # Errors
    /// Why none of them may.
    pub fn good(&self, found: Vec<IpAddr>) -> Result<Vec<IpAddr>, String> {
        let mut why = None;
        let mut good = Vec::new();
        for address in found {
            match self.check(address) {
                // What the machine's configuration names is meant, whosever it is.
                Ok(false) if is_own(address) => why = why.or(Some(format!("{address} is this machine"))),
                Ok(_) => good.push(address),
                Err(what) => why = why.or(Some(format!("{address} is {what}"))),
            }
        }
        if good.is_empty() {
            return Err(why.unwrap_or_else(|| "its name servers know none".to_owned()));
        }
        Ok(good)
    }
}

/// Whether an address is one of this machine's own: then the way to it begins at itself. A datagram socket that is
/// connected finds its way and sends nothing.
fn is_own(address: IpAddr) -> bool {
    let any: SocketAddr =
        if address.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    let way = || -> io::Result<IpAddr> {
        let socket = std::net::UdpSocket::bind(any)?;
        socket.connect(SocketAddr::new(address, 9))?;
        Ok(socket.local_addr()?.ip())
    };
    // Where there is no way at all, connecting fails by itself.
    way().is_ok_and(|from| from.to_canonical() == address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_internet_is_let_through() {
        let vet = Vet::default();
        let inwards = "0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 100.64.0.1 100.127.255.255 127.0.0.1 127.255.0.1 \
             169.254.169.254 172.16.0.1 172.31.255.255 192.0.0.1 192.0.2.1 192.168.1.1 198.18.0.1 \
             198.19.255.254 224.0.0.1 239.1.1.1 240.0.0.1 255.255.255.255 :: ::1 ::ffff:127.0.0.1 \
             ::ffff:10.0.0.1 ::127.0.0.1 64:ff9b::7f00:1 64:ff9b:1::1 2002:7f00:1:: 2001::1 2001:db8::1 \
             fc00::1 fd4f:6374:616e:7400::1 fe80::1 febf::1 fec0::1 ff02::1 100::1 1000::1 4000::1 5f00::1 \
             8000::1 e000::1";
        for address in inwards.split_ascii_whitespace() {
            assert!(vet.check(address.parse().unwrap()).is_err(), "{address}");
        }
        let outwards = "1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.1 \
             169.253.255.255 172.15.255.255 172.32.0.0 192.167.0.1 198.17.0.1 198.20.0.1 223.255.255.255 \
             2606:4700::1111 2a00:1450::1 ::ffff:8.8.8.8";
        for address in outwards.split_ascii_whitespace() {
            assert_eq!(vet.check(address.parse().unwrap()), Ok(false), "{address}");
        }
    }

    #[test]
    fn a_machine_may_allow_a_network_of_its_own() {
        let vet = Vet { allow: vec!["10.1.0.0/16".parse().unwrap(), "fd00:1::/32".parse().unwrap()] };
        for (address, allowed) in [
            ("10.1.2.3", true),
            ("::ffff:10.1.2.3", true),
            ("10.2.0.1", false),
            ("fd00:1::5", true),
            ("fd00:2::5", false),
        ] {
            assert_eq!(vet.check(address.parse().unwrap()).is_ok(), allowed, "{address}");
        }
        for bad in ["10.0.0.1", "10.0.0.1/8", "10.0.0.0/33", "::/129", "x/8", "1.2.3.5/31", ""] {
            assert!(bad.parse::<Network>().is_err(), "{bad}");
        }
        let all: Network = "0.0.0.0/0".parse().unwrap();
        assert!(all.contains("8.8.8.8".parse().unwrap()) && all.to_string() == "0.0.0.0/0");
    }
}
