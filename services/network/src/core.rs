//! What a link should have, and what has to change for it. No I/O, no clock.

use crate::config::{LinkConfig, NetworkConfig};
use nix::libc;
use octant_net::dhcp::Lease;
use octant_net::kernel::{Address, RTPROT_DHCP, Route};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Routes that were lent come after those that the configuration names, and the first link's first.
const LENT_METRIC: u32 = 100;
/// IFA_F_PERMANENT: nobody takes the address away when its time is over.
const PERMANENT: u32 = 0x80;
/// How many name servers resolv.conf(5) has.
const SERVERS_MAX: usize = 3;

/// What a link should have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Desired {
    pub(crate) addresses: Vec<Address>,
    pub(crate) routes: Vec<Route>,
    pub(crate) mtu: Option<u32>,
}

/// What has to be done, in this order: taking an address away takes those with it that came later to the same network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    Mtu(u32),
    RemoveRoute(Route),
    RemoveAddress(Address),
    AddAddress(Address),
    AddRoute(Route),
}

/// What the configuration and a lease with so many seconds left make of a link.
pub(crate) fn desired(index: u32, config: &LinkConfig, lease: Option<(&Lease, u32)>) -> Desired {
    let named = config.addresses.iter().map(|at| address(index, at.ip, at.bits));
    let mut wanted = Desired { addresses: named.collect(), routes: Vec::new(), mtu: config.mtu };
    for route in &config.routes {
        let to = route.to.map_or_else(|| everywhere(route.via), |to| network(to.ip, to.bits));
        let mut made = Route::new(to, route.via, index);
        (made.metric, made.protocol) = (route.metric, libc::RTPROT_STATIC);
        wanted.routes.push(made);
    }
    if let Some((lease, left_s)) = lease {
        let mut lent = address(index, lease.address.into(), lease.bits);
        lent.lifetime = (left_s, left_s);
        wanted.addresses.push(lent);
        for ((to, bits), via) in &lease.routes {
            // A router of zeros: they are on the link (RFC 3442).
            let via = Some(IpAddr::from(*via)).filter(|via| !via.is_unspecified());
            let mut made = Route::new(((*to).into(), *bits), via, index);
            (made.metric, made.protocol) = (LENT_METRIC + index, RTPROT_DHCP);
            made.source = Some(lease.address.into());
            wanted.routes.push(made);
        }
        wanted.mtu = wanted.mtu.or_else(|| lease.mtu.map(u32::from));
    }
    // Who is on the link first: the others go through them.
    wanted.routes.sort_by_key(|route| route.via.is_some());
    wanted
}

fn address(index: u32, ip: IpAddr, bits: u8) -> Address {
    let mut made = Address::new(index, ip, bits);
    if let IpAddr::V4(v4) = ip
        && bits < 31
    {
        let host = u32::MAX.checked_shr(u32::from(bits)).unwrap_or(0);
        made.broadcast = Some(Ipv4Addr::from(u32::from(v4) | host).into());
    }
    made
}

fn everywhere(via: Option<IpAddr>) -> (IpAddr, u8) {
    match via {
        Some(IpAddr::V6(_)) => (Ipv6Addr::UNSPECIFIED.into(), 0),
        _ => (Ipv4Addr::UNSPECIFIED.into(), 0),
    }
}

/// The network that an address with a length is in: the kernel takes no other destination.
fn network(ip: IpAddr, bits: u8) -> (IpAddr, u8) {
    let ip = match ip {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            Ipv4Addr::from(u32::from(v4) & mask).into()
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            Ipv6Addr::from(u128::from(v6) & mask).into()
        }
    };
    (ip, bits)
}

/// What has to be done so that a link has what it should. `asked`: whether the network has answered, with a lease or without;
/// before, what an earlier run of this service was lent stays.
pub(crate) fn changes(
    index: u32,
    wanted: &Desired,
    mtu: u32,
    addresses: &[Address],
    routes: &[Route],
    asked: bool,
) -> Vec<Change> {
    let mut all: Vec<Change> =
        wanted.mtu.filter(|wanted| *wanted != mtu).map(Change::Mtu).into_iter().collect();
    let same_address = |a: &Address, b: &Address| a.ip == b.ip && a.bits == b.bits;
    let same_route = |a: &Route, b: &Route| {
        (a.to, a.via, a.metric, a.protocol, a.source) == (b.to, b.via, b.metric, b.protocol, b.source)
    };
    let own = |route: &&Route| {
        let lent = route.protocol == RTPROT_DHCP;
        route.index == index && ((lent && asked) || route.protocol == libc::RTPROT_STATIC)
    };
    let superfluous =
        routes.iter().filter(own).filter(|have| !wanted.routes.iter().any(|it| same_route(it, have)));
    all.extend(superfluous.cloned().map(Change::RemoveRoute));
    let superfluous = addresses.iter().filter(|have| have.index == index && is_ours(have, asked));
    let superfluous = superfluous.filter(|have| !wanted.addresses.iter().any(|it| same_address(it, have)));
    all.extend(superfluous.cloned().map(Change::RemoveAddress));
    all.extend(wanted.addresses.iter().filter(|it| differs(it, addresses)).cloned().map(Change::AddAddress));
    let there = |it: &Route| routes.iter().any(|have| have.index == index && same_route(it, have));
    // An address that goes takes its routes with it, so they are made again behind it.
    let again = all.iter().any(|change| matches!(change, Change::RemoveAddress(_)));
    all.extend(wanted.routes.iter().filter(|it| again || !there(it)).cloned().map(Change::AddRoute));
    all
}

/// Whether an address is this service's to take away: not what routers and the kernel gave (SLAAC, the link's own).
fn is_ours(have: &Address, asked: bool) -> bool {
    match have.ip {
        IpAddr::V4(_) => asked || have.flags & PERMANENT != 0,
        IpAddr::V6(v6) => have.flags & PERMANENT != 0 && !v6.is_unicast_link_local(),
    }
}

/// Whether an address is not there yet, or was lent for another time.
fn differs(wanted: &Address, have: &[Address]) -> bool {
    let found = have
        .iter()
        .find(|have| have.index == wanted.index && have.ip == wanted.ip && have.bits == wanted.bits);
    found.is_none_or(|found| found.lifetime.0.abs_diff(wanted.lifetime.0) > 1)
}

/// The name servers and search domains of the machine: those that are named, otherwise those that were lent.
pub(crate) fn resolver(config: &NetworkConfig, leases: &[&Lease]) -> (Vec<IpAddr>, Vec<String>) {
    let (mut servers, mut search) = (config.name_servers.clone(), config.search.clone());
    if servers.is_empty() {
        servers = leases.iter().flat_map(|lease| &lease.name_servers).map(|ip| IpAddr::from(*ip)).collect();
    }
    if search.is_empty() {
        search = leases.iter().filter_map(|lease| lease.domain.clone()).collect();
    }
    let mut seen = Vec::new();
    servers.retain(|server| {
        !seen.contains(server) && {
            seen.push(*server);
            true
        }
    });
    servers.truncate(SERVERS_MAX);
    search.dedup();
    (servers, search)
}

/// resolv.conf(5).
pub(crate) fn resolv_conf(servers: &[IpAddr], search: &[String]) -> String {
    let mut text = "# Written by Octant's service network; octant.toml says what it says.\n".to_owned();
    if !search.is_empty() {
        text.push_str(&format!("search {}\n", search.join(" ")));
    }
    text.extend(servers.iter().map(|server| format!("nameserver {server}\n")));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn lease() -> Lease {
        Lease {
            address: Ipv4Addr::new(10, 0, 2, 15),
            bits: 24,
            server: Ipv4Addr::new(10, 0, 2, 2),
            routes: vec![
                ((Ipv4Addr::UNSPECIFIED, 0), Ipv4Addr::new(10, 0, 2, 2)),
                ((Ipv4Addr::new(169, 254, 0, 0), 16), Ipv4Addr::UNSPECIFIED),
            ],
            name_servers: vec![Ipv4Addr::new(10, 0, 2, 3)],
            time_servers: Vec::new(),
            domain: Some("lan".into()),
            mtu: Some(1400),
            seconds: 3600,
        }
    }

    #[test]
    fn a_lease_becomes_an_address_that_ends_and_routes() {
        let wanted = desired(2, &LinkConfig::default(), Some((&lease(), 3600)));
        let [address] = &wanted.addresses[..] else { panic!() };
        assert_eq!((address.ip, address.broadcast), (at("10.0.2.15"), Some(at("10.0.2.255"))));
        assert_eq!((address.lifetime, wanted.mtu), ((3600, 3600), Some(1400)));
        let [direct, default] = &wanted.routes[..] else { panic!() };
        assert_eq!((direct.via, default.via), (None, Some(at("10.0.2.2"))));
        assert_eq!((direct.scope, default.metric), (libc::RT_SCOPE_LINK, 102));
    }

    #[test]
    fn what_is_there_and_should_not_be_goes_first_and_what_is_others_stays() {
        let config: LinkConfig = serde_json::from_value(serde_json::json!({
            "addresses": ["192.0.2.2/24"], "routes": [{"via": "192.0.2.1"}, {"to": "10.9.8.7/8", "via": "192.0.2.3"}]
        }))
        .unwrap();
        let wanted = desired(2, &config, None);
        assert_eq!(wanted.routes[1].to, (at("10.0.0.0"), 8));
        let permanent = |ip, bits| Address { flags: PERMANENT, ..Address::new(2, at(ip), bits) };
        let old_lease = Address { lifetime: (50, 50), ..Address::new(2, at("192.0.2.77"), 24) };
        let of_router = Address { lifetime: (900, 900), ..Address::new(2, at("2001:db8::77"), 64) };
        let have = [
            permanent("192.0.2.9", 24),
            old_lease.clone(),
            of_router,
            permanent("fe80::1", 64),
            permanent("2001:db8::9", 64),
            Address { index: 3, ..permanent("192.0.2.8", 24) },
        ];
        let mut kernels = Route::new((at("192.0.2.0"), 24), None, 2);
        kernels.protocol = libc::RTPROT_KERNEL;
        let mut lent = Route::new((at("0.0.0.0"), 0), Some(at("192.0.2.200")), 2);
        lent.protocol = RTPROT_DHCP;
        let routes = [kernels, lent.clone()];
        let before = changes(2, &wanted, 1500, &have, &routes, false);
        assert_eq!(
            before[..2],
            [Change::RemoveAddress(have[0].clone()), Change::RemoveAddress(have[4].clone())]
        );
        assert_eq!(before.len(), 2 + 1 + 2, "an address and two routes come");
        let after = changes(2, &wanted, 1500, &have, &routes, true);
        assert_eq!(after[0], Change::RemoveRoute(lent));
        assert!(after.contains(&Change::RemoveAddress(old_lease)));
        // And then there is nothing to do.
        let routes = wanted.routes.clone();
        assert_eq!(changes(2, &wanted, 1500, &wanted.addresses, &routes, true), []);
    }

    #[test]
    fn what_the_configuration_names_comes_in_the_place_of_what_was_lent() {
        let (one, two) = (lease(), lease());
        let (servers, search) = resolver(&NetworkConfig::default(), &[&one, &two]);
        assert_eq!(
            resolv_conf(&servers, &search).lines().skip(1).collect::<Vec<_>>(),
            ["search lan", "nameserver 10.0.2.3"]
        );
        let named = NetworkConfig { name_servers: vec![at("9.9.9.9")], ..NetworkConfig::default() };
        assert_eq!(resolver(&named, &[&one]).0, [at("9.9.9.9")]);
    }
}
