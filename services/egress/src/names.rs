//! Addresses that stand for names, in one agent's network: what a program connects to tells which host it means.

use octant_api::egress::{NAMES_V4, NAMES_V6};
use octant_ids::Aid;
use octant_manifest::HostName;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How many names one agent can have asked for: a wildcard's names are endless.
const NAMES_MAX: usize = 4096;
const V4: u32 = u32::from_be_bytes(NAMES_V4.0.octets());
const V6: u128 = u128::from_be_bytes(NAMES_V6.0.octets());
/// Neither the first nor the last address of the smaller network is given.
const PLACES: u32 = (1 << (32 - NAMES_V4.1)) - 2;

/// The names that one agent has asked for.
#[derive(Debug)]
pub(crate) struct Names {
    aid: Aid,
    by_place: HashMap<u32, HostName>,
    by_name: HashMap<HostName, u32>,
}

impl Names {
    pub(crate) fn new(aid: Aid) -> Self {
        Self { aid, by_place: HashMap::new(), by_name: HashMap::new() }
    }

    /// The place of a name, from now on; none when there are too many names. The place depends on the agent and the name
    /// and hardly ever on what else was asked, so that a program's memory of an address is good after a restart too, once
    /// the name was asked for again.
    pub(crate) fn place(&mut self, host: &HostName) -> Option<u32> {
        if let Some(&place) = self.by_name.get(host) {
            return Some(place);
        }
        if self.by_name.len() >= NAMES_MAX {
            return None;
        }
        let digest =
            Sha256::new_with_prefix(self.aid.to_string()).chain_update([0]).chain_update(host.as_str());
        let digest = digest.finalize();
        let mut place = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]) % PLACES;
        while self.by_place.contains_key(&place) {
            place = (place + 1) % PLACES;
        }
        self.by_place.insert(place, host.clone());
        self.by_name.insert(host.clone(), place);
        Some(place)
    }

    /// The name for which an address stands, if it was asked for.
    pub(crate) fn name(&self, address: IpAddr) -> Option<&HostName> {
        self.by_place.get(&place_of(address)?)
    }
}

/// The IPv4 address of a place.
pub(crate) fn v4(place: u32) -> Ipv4Addr {
    Ipv4Addr::from(V4 + 1 + place)
}

/// The IPv6 address of a place.
pub(crate) fn v6(place: u32) -> Ipv6Addr {
    Ipv6Addr::from(V6 + 1 + u128::from(place))
}

/// Whether an address is one of these, whoever has it.
pub(crate) fn is_ours(address: IpAddr) -> bool {
    place_of(address).is_some()
}

fn place_of(address: IpAddr) -> Option<u32> {
    let place = match address.to_canonical() {
        IpAddr::V4(v4) => u32::from(v4).checked_sub(V4 + 1)?,
        IpAddr::V6(v6) => u32::try_from(u128::from(v6).checked_sub(V6 + 1)?).ok()?,
    };
    (place < PLACES).then_some(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str) -> HostName {
        name.parse().unwrap()
    }

    #[test]
    fn an_address_stands_for_a_name_only_once_it_was_asked_for() {
        let aid = Aid::from_bytes([7; 16]);
        let mut names = Names::new(aid);
        let place = names.place(&host("a.example.org")).unwrap();
        for address in [IpAddr::V4(v4(place)), IpAddr::V6(v6(place)), IpAddr::V6(v4(place).to_ipv6_mapped())]
        {
            assert_eq!(names.name(address), Some(&host("a.example.org")), "{address}");
        }
        assert_eq!(names.place(&host("a.example.org")), Some(place));
        let known = (0..PLACES).filter(|&place| names.name(v4(place).into()).is_some()).count();
        assert_eq!(known, 1);
        for address in
            ["198.18.0.0", "198.19.255.255", "198.17.255.255", "127.0.0.1", "::", "fd4f:6374:616e:7400::"]
        {
            assert!(!is_ours(address.parse().unwrap()), "{address}");
        }
        assert!(is_ours(v4(PLACES - 1).into()) && v4(PLACES - 1) == Ipv4Addr::new(198, 19, 255, 254));
    }

    #[test]
    fn places_are_stable_apart_and_bounded() {
        let aid = Aid::from_bytes([7; 16]);
        let (mut one, mut other) = (Names::new(aid), Names::new(aid));
        let place = other.place(&host("n17.example.org"));
        let places: Vec<Option<u32>> =
            (0..NAMES_MAX).map(|n| one.place(&host(&format!("n{n}.example.org")))).collect();
        assert_eq!(places[17], place);
        let mut apart: Vec<u32> = places.into_iter().map(Option::unwrap).collect();
        apart.sort_unstable();
        apart.dedup();
        assert_eq!(apart.len(), NAMES_MAX);
        assert_eq!(one.place(&host("more.example.org")), None);
    }
}
