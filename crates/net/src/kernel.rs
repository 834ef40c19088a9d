//! What the kernel says of the network, and what it is told: links, addresses, routes, neighbours (rtnetlink(7)).

use nix::libc;
use octant_sys::netlink::{CREATE, Netlink, REPLACE, Request, attributes};
use std::io;
use std::net::IpAddr;

/// How often a list that changed while it was sent is asked for again.
const TRIES: u32 = 8;
/// ndmsg's states that an entry of an operator has, and their names in ip-neighbour(8).
pub const PERMANENT: u16 = 0x80;
/// Who made a route: a DHCP client (linux/rtnetlink.h).
pub const RTPROT_DHCP: u8 = 16;
/// Names of neighbours' states.
pub const NEIGHBOUR_STATES: [(u16, &str); 8] = [
    (0x01, "INCOMPLETE"),
    (0x02, "REACHABLE"),
    (0x04, "STALE"),
    (0x08, "DELAY"),
    (0x10, "PROBE"),
    (0x20, "FAILED"),
    (0x40, "NOARP"),
    (PERMANENT, "PERMANENT"),
];

/// A network interface.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Link {
    /// Its number.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// What kind of device it is (ARPHRD_ETHER, ...).
    pub hardware: u16,
    /// IFF_UP and others.
    pub flags: u32,
    /// The longest packet.
    pub mtu: u32,
    /// Its hardware address.
    pub mac: Vec<u8>,
    /// The hardware address that everybody hears.
    pub broadcast: Vec<u8>,
    /// IF_OPER_UP and others (RFC 2863).
    pub state: u8,
    /// The name of its queueing discipline.
    pub queue: String,
    /// How many packets wait at most.
    pub queue_length: u32,
    /// The link that it belongs to; 0 for none.
    pub master: u32,
    /// The other end of it, or what it stands on; 0 for none.
    pub peer: u32,
    /// `veth`, `bridge`, ...; empty for a device.
    pub kind: String,
    /// What went through.
    pub traffic: Traffic,
}

/// What went through a link.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Received and sent packets.
    pub packets: (u64, u64),
    /// Received and sent bytes.
    pub bytes: (u64, u64),
    /// Errors while receiving and sending.
    pub errors: (u64, u64),
    /// Dropped, received and to be sent.
    pub dropped: (u64, u64),
}

impl Link {
    /// Whether it was brought up.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.flags & libc::IFF_UP.cast_unsigned() != 0
    }

    /// Whether there is somebody at the other end.
    #[must_use]
    pub fn has_carrier(&self) -> bool {
        self.flags & libc::IFF_LOWER_UP.cast_unsigned() != 0
    }

    /// Whether it is an Ethernet device, or behaves like one.
    #[must_use]
    pub fn is_ethernet(&self) -> bool {
        self.hardware == libc::ARPHRD_ETHER
    }
}

/// An address of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The link's number.
    pub index: u32,
    /// The address.
    pub ip: IpAddr,
    /// How many leading bits its network has.
    pub bits: u8,
    /// The other end of a link with two.
    pub peer: Option<IpAddr>,
    /// Where everybody of the network hears.
    pub broadcast: Option<IpAddr>,
    /// RT_SCOPE_UNIVERSE and others.
    pub scope: u8,
    /// IFA_F_PERMANENT and others.
    pub flags: u32,
    /// Its label, mostly the link's name.
    pub label: String,
    /// How many seconds it is valid, and preferred; all ones for ever.
    pub lifetime: (u32, u32),
}

impl Address {
    /// An address for ever.
    #[must_use]
    pub fn new(index: u32, ip: IpAddr, bits: u8) -> Self {
        Self {
            index,
            ip,
            bits,
            peer: None,
            broadcast: None,
            scope: libc::RT_SCOPE_UNIVERSE,
            flags: 0,
            label: String::new(),
            lifetime: (u32::MAX, u32::MAX),
        }
    }
}

/// A route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// To which addresses.
    pub to: (IpAddr, u8),
    /// Through whom.
    pub via: Option<IpAddr>,
    /// By which link; 0 for none.
    pub index: u32,
    /// Which of several ways is taken: the smallest.
    pub metric: u32,
    /// From which address.
    pub source: Option<IpAddr>,
    /// RT_TABLE_MAIN and others.
    pub table: u32,
    /// Who made it: RTPROT_DHCP and others.
    pub protocol: u8,
    /// RT_SCOPE_LINK and others.
    pub scope: u8,
    /// RTN_UNICAST and others.
    pub kind: u8,
    /// RTNH_F_LINKDOWN and others.
    pub flags: u32,
}

impl Route {
    /// A route in the main table, made by an operator.
    #[must_use]
    pub fn new(to: (IpAddr, u8), via: Option<IpAddr>, index: u32) -> Self {
        let direct = via.is_none() && to.0.is_ipv4();
        Self {
            to,
            via,
            index,
            metric: 0,
            source: None,
            table: u32::from(libc::RT_TABLE_MAIN),
            protocol: libc::RTPROT_BOOT,
            scope: if direct { libc::RT_SCOPE_LINK } else { libc::RT_SCOPE_UNIVERSE },
            kind: libc::RTN_UNICAST,
            flags: 0,
        }
    }
}

/// Who is known to be on a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighbour {
    /// The link's number.
    pub index: u32,
    /// Its address.
    pub ip: IpAddr,
    /// Its hardware address; empty when it is not known.
    pub mac: Vec<u8>,
    /// One of [`NEIGHBOUR_STATES`].
    pub state: u16,
    /// NTF_ROUTER and others.
    pub flags: u8,
}

/// What is to change of a link.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LinkChange {
    /// Up or down.
    pub up: Option<bool>,
    /// Its longest packet.
    pub mtu: Option<u32>,
    /// Its hardware address.
    pub mac: Option<Vec<u8>>,
    /// Its name.
    pub name: Option<String>,
    /// The network namespace, by a process in it, that it moves to.
    pub namespace_of: Option<u32>,
}

/// The kernel's network.
#[derive(Debug)]
pub struct Kernel(Netlink);

impl Kernel {
    /// That of the calling thread's network namespace.
    ///
    /// # Errors
    /// What socket(2) reports.
    pub fn open() -> io::Result<Self> {
        Netlink::route().map(Self)
    }

    fn list<T>(&self, request: &Request, read: impl Fn(&[u8]) -> Option<T>) -> io::Result<Vec<T>> {
        let mut tries = 0;
        loop {
            let mut found = Vec::new();
            match self.0.list(request, |_, body| found.extend(read(body))) {
                Err(error) if error.raw_os_error() == Some(libc::EINTR) && tries < TRIES => tries += 1,
                Err(error) => return Err(error),
                Ok(()) => return Ok(found),
            }
        }
    }

    /// All links.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn links(&self) -> io::Result<Vec<Link>> {
        self.list(&Request::new(libc::RTM_GETLINK, 0, &[0; 16]), link)
    }

    /// The link of this name.
    ///
    /// # Errors
    /// `ENODEV` when there is none; what the kernel answers.
    pub fn link(&self, name: &str) -> io::Result<Link> {
        let found = self.links()?.into_iter().find(|link| link.name == name);
        found.ok_or_else(|| io::Error::from_raw_os_error(libc::ENODEV))
    }

    /// All addresses.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn addresses(&self) -> io::Result<Vec<Address>> {
        self.list(&Request::new(libc::RTM_GETADDR, 0, &[0; 8]), address)
    }

    /// All routes of all tables.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn routes(&self) -> io::Result<Vec<Route>> {
        self.list(&Request::new(libc::RTM_GETROUTE, 0, &[0; 12]), route)
    }

    /// All neighbours.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn neighbours(&self) -> io::Result<Vec<Neighbour>> {
        self.list(&Request::new(libc::RTM_GETNEIGH, 0, &[0; 12]), neighbour)
    }

    /// Changes a link.
    ///
    /// # Errors
    /// `EPERM` without CAP_NET_ADMIN; what the kernel answers.
    pub fn change_link(&self, index: u32, change: &LinkChange) -> io::Result<()> {
        let up = libc::IFF_UP.cast_unsigned();
        let (flags, which) = match change.up {
            None => (0, 0),
            Some(true) => (up, up),
            Some(false) => (0, up),
        };
        let mut request = Request::new(libc::RTM_NEWLINK, 0, &link_head(index, flags, which));
        if let Some(mtu) = change.mtu {
            request = request.with(libc::IFLA_MTU, &mtu.to_ne_bytes())?;
        }
        if let Some(mac) = &change.mac {
            request = request.with(libc::IFLA_ADDRESS, mac)?;
        }
        if let Some(name) = &change.name {
            request = request.with(libc::IFLA_IFNAME, &zero_ended(name))?;
        }
        if let Some(pid) = change.namespace_of {
            request = request.with(libc::IFLA_NET_NS_PID, &pid.to_ne_bytes())?;
        }
        self.0.ask(&request)
    }

    /// Makes a link without hardware (`dummy`, `bridge`, `veth`); `peer` is the other end's name of a `veth`.
    ///
    /// # Errors
    /// `EPERM` without CAP_NET_ADMIN; what the kernel answers.
    pub fn add_link(&self, name: &str, kind: &str, peer: Option<&str>) -> io::Result<()> {
        /// IFLA_INFO_KIND, IFLA_INFO_DATA, VETH_INFO_PEER.
        const KIND: u16 = 1;
        const DATA: u16 = 2;
        const PEER: u16 = 1;
        let mut info = Request::new(0, 0, &[]).with(KIND, kind.as_bytes())?;
        if let Some(peer) = peer {
            let other = Request::new(0, 0, &[0; 16]).with(libc::IFLA_IFNAME, &zero_ended(peer))?;
            let data = Request::new(0, 0, &[]).with(PEER, &other.into_body())?;
            info = info.with(DATA, &data.into_body())?;
        }
        let request = Request::new(libc::RTM_NEWLINK, CREATE, &[0; 16])
            .with(libc::IFLA_IFNAME, &zero_ended(name))?
            .with(libc::IFLA_LINKINFO, &info.into_body())?;
        self.0.ask(&request)
    }

    /// Removes a link without hardware.
    ///
    /// # Errors
    /// `EPERM` without CAP_NET_ADMIN; what the kernel answers.
    pub fn remove_link(&self, index: u32) -> io::Result<()> {
        self.0.ask(&Request::new(libc::RTM_DELLINK, 0, &link_head(index, 0, 0)))
    }

    /// Gives a link an address, or the one that it has another lifetime.
    ///
    /// # Errors
    /// `EPERM` without CAP_NET_ADMIN; `EEXIST` unless `replace`; what the kernel answers.
    pub fn add_address(&self, address: &Address, replace: bool) -> io::Result<()> {
        let flags = if replace { REPLACE } else { CREATE };
        let mut request = address_request(libc::RTM_NEWADDR, flags, address)?;
        if let Some(broadcast) = address.broadcast {
            request = request.with(libc::IFA_BROADCAST, &octets(broadcast))?;
        }
        if !address.label.is_empty() {
            request = request.with(libc::IFA_LABEL, &zero_ended(&address.label))?;
        }
        // struct ifa_cacheinfo: preferred, valid, two times.
        let (valid, preferred) = address.lifetime;
        let lifetime = [preferred, valid, 0, 0].map(u32::to_ne_bytes).concat();
        self.0.ask(&request.with(libc::IFA_CACHEINFO, &lifetime)?)
    }

    /// Takes an address away.
    ///
    /// # Errors
    /// `EPERM` without CAP_NET_ADMIN; `EADDRNOTAVAIL` when it is not there; what the kernel answers.
    pub fn remove_address(&self, address: &Address) -> io::Result<()> {
        self.0.ask(&address_request(libc::RTM_DELADDR, 0, address)?)
    }

    /// Adds a route.
    ///
    /// # Errors
    /// `EPERM` without CAP_NET_ADMIN; `EEXIST` unless `replace`; `ENETUNREACH` when its gateway is on no link.
    pub fn add_route(&self, route: &Route, replace: bool) -> io::Result<()> {
        let flags = if replace { REPLACE } else { CREATE };
        self.0.ask(&route_request(libc::RTM_NEWROUTE, flags, route)?)
    }

    /// Removes a route.
    ///
    /// # Errors
    /// `EPERM` without CAP_NET_ADMIN; `ESRCH` when it is not there; what the kernel answers.
    pub fn remove_route(&self, route: &Route) -> io::Result<()> {
        self.0.ask(&route_request(libc::RTM_DELROUTE, 0, route)?)
    }

    /// Says who is at an address.
    ///
    /// # Errors
    /// `EPERM` without CAP_NET_ADMIN; what the kernel answers.
    pub fn add_neighbour(&self, neighbour: &Neighbour, replace: bool) -> io::Result<()> {
        let flags = if replace { REPLACE } else { CREATE };
        self.0.ask(&neighbour_request(libc::RTM_NEWNEIGH, flags, neighbour)?)
    }

    /// Forgets who is at an address.
    ///
    /// # Errors
    /// `EPERM` without CAP_NET_ADMIN; `ENOENT` when nobody is known there; what the kernel answers.
    pub fn remove_neighbour(&self, neighbour: &Neighbour) -> io::Result<()> {
        self.0.ask(&neighbour_request(libc::RTM_DELNEIGH, 0, neighbour)?)
    }
}

/// AF_INET or AF_INET6, as the kernel's structures have them.
fn family(ip: IpAddr) -> u8 {
    let family = if ip.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    u8::try_from(family).unwrap_or_default()
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = || <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from);
    v4().or_else(|| <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from))
}

fn zero_ended(text: &str) -> Vec<u8> {
    [text.as_bytes(), b"\0"].concat()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.strip_suffix(b"\0").unwrap_or(bytes)).into_owned()
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|bytes| u16::from_ne_bytes(*bytes))
}

/// struct ifinfomsg: family, padding, type, index, flags, which flags to change.
fn link_head(index: u32, flags: u32, which: u32) -> Vec<u8> {
    [0, index, flags, which].map(u32::to_ne_bytes).concat()
}

fn link(body: &[u8]) -> Option<Link> {
    let mut link = Link {
        hardware: u16_at(body, 2)?,
        index: u32_at(body, 4)?,
        flags: u32_at(body, 8)?,
        ..Link::default()
    };
    for (kind, value) in attributes(body.get(16..)?) {
        let number = || u32_at(value, 0).unwrap_or_default();
        match kind {
            libc::IFLA_IFNAME => link.name = text(value),
            libc::IFLA_ADDRESS => link.mac = value.to_vec(),
            libc::IFLA_BROADCAST => link.broadcast = value.to_vec(),
            libc::IFLA_MTU => link.mtu = number(),
            libc::IFLA_QDISC => link.queue = text(value),
            libc::IFLA_TXQLEN => link.queue_length = number(),
            libc::IFLA_MASTER => link.master = number(),
            libc::IFLA_LINK => link.peer = number(),
            libc::IFLA_OPERSTATE => link.state = value.first().copied().unwrap_or_default(),
            libc::IFLA_STATS64 => link.traffic = traffic(value),
            libc::IFLA_LINKINFO => {
                link.kind =
                    attributes(value).find(|(kind, _)| *kind == 1).map_or_else(String::new, |(_, k)| text(k));
            }
            _ => {}
        }
    }
    Some(link)
}

/// struct rtnl_link_stats64: pairs of received and sent packets, bytes, errors, dropped.
fn traffic(bytes: &[u8]) -> Traffic {
    let number = |at: usize| {
        let bytes = bytes.get(8 * at..).and_then(|bytes| bytes.first_chunk());
        bytes.map_or(0, |bytes| u64::from_ne_bytes(*bytes))
    };
    let pair = |at| (number(at), number(at + 1));
    Traffic { packets: pair(0), bytes: pair(2), errors: pair(4), dropped: pair(6) }
}

/// struct ifaddrmsg: family, bits, flags, scope, index.
fn address_request(kind: u16, flags: u16, address: &Address) -> io::Result<Request> {
    let mut head = vec![family(address.ip), address.bits, 0, address.scope];
    head.extend_from_slice(&address.index.to_ne_bytes());
    Request::new(kind, flags, &head)
        .with(libc::IFA_LOCAL, &octets(address.ip))?
        .with(libc::IFA_ADDRESS, &octets(address.peer.unwrap_or(address.ip)))
}

fn address(body: &[u8]) -> Option<Address> {
    let (mut local, mut other) = (None, None);
    let mut address = Address {
        bits: *body.get(1)?,
        flags: u32::from(*body.get(2)?),
        scope: *body.get(3)?,
        ..Address::new(u32_at(body, 4)?, IpAddr::from([0; 4]), 0)
    };
    for (kind, value) in attributes(body.get(8..)?) {
        match kind {
            libc::IFA_LOCAL => local = ip(value),
            libc::IFA_ADDRESS => other = ip(value),
            libc::IFA_BROADCAST => address.broadcast = ip(value),
            libc::IFA_LABEL => address.label = text(value),
            libc::IFA_FLAGS => address.flags = u32_at(value, 0)?,
            libc::IFA_CACHEINFO => address.lifetime = (u32_at(value, 4)?, u32_at(value, 0)?),
            _ => {}
        }
    }
    address.ip = local.or(other)?;
    address.peer = other.filter(|other| *other != address.ip);
    Some(address)
}

/// struct rtmsg: family, lengths of destination and source, tos, table, protocol, scope, type; flags.
fn route_request(kind: u16, flags: u16, route: &Route) -> io::Result<Request> {
    // Tables beyond a byte are in an attribute; RT_TABLE_UNSPEC here.
    let table = u8::try_from(route.table).unwrap_or(0);
    // Removed is what fits: with RT_SCOPE_NOWHERE, whatever scope it has.
    let scope = if kind == libc::RTM_DELROUTE { libc::RT_SCOPE_NOWHERE } else { route.scope };
    let protocol = if kind == libc::RTM_DELROUTE { 0 } else { route.protocol };
    let mut head = vec![family(route.to.0), route.to.1, 0, 0, table, protocol, scope, route.kind];
    head.extend_from_slice(&0_u32.to_ne_bytes());
    let mut request = Request::new(kind, flags, &head).with(libc::RTA_TABLE, &route.table.to_ne_bytes())?;
    if route.to.1 > 0 {
        request = request.with(libc::RTA_DST, &octets(route.to.0))?;
    }
    if let Some(via) = route.via {
        request = request.with(libc::RTA_GATEWAY, &octets(via))?;
    }
    if route.index > 0 {
        request = request.with(libc::RTA_OIF, &route.index.to_ne_bytes())?;
    }
    if route.metric > 0 {
        request = request.with(libc::RTA_PRIORITY, &route.metric.to_ne_bytes())?;
    }
    if let Some(source) = route.source {
        request = request.with(libc::RTA_PREFSRC, &octets(source))?;
    }
    Ok(request)
}

fn route(body: &[u8]) -> Option<Route> {
    /// RTM_F_CLONED: what is remembered of one way, and no route.
    const CLONED: u32 = 0x200;
    let any = match i32::from(*body.first()?) {
        libc::AF_INET => IpAddr::from([0; 4]),
        libc::AF_INET6 => IpAddr::from([0; 16]),
        _ => return None,
    };
    let mut route = Route {
        table: u32::from(*body.get(4)?),
        protocol: *body.get(5)?,
        scope: *body.get(6)?,
        kind: *body.get(7)?,
        flags: u32_at(body, 8)?,
        ..Route::new((any, *body.get(1)?), None, 0)
    };
    for (kind, value) in attributes(body.get(12..)?) {
        match kind {
            libc::RTA_DST => route.to.0 = ip(value)?,
            libc::RTA_GATEWAY => route.via = ip(value),
            libc::RTA_OIF => route.index = u32_at(value, 0)?,
            libc::RTA_PRIORITY => route.metric = u32_at(value, 0)?,
            libc::RTA_PREFSRC => route.source = ip(value),
            libc::RTA_TABLE => route.table = u32_at(value, 0)?,
            _ => {}
        }
    }
    (route.flags & CLONED == 0).then_some(route)
}

/// struct ndmsg: family, padding, index, state, flags, type.
fn neighbour_request(kind: u16, flags: u16, neighbour: &Neighbour) -> io::Result<Request> {
    let mut head = vec![family(neighbour.ip), 0, 0, 0];
    head.extend_from_slice(&neighbour.index.to_ne_bytes());
    head.extend_from_slice(&neighbour.state.to_ne_bytes());
    head.extend_from_slice(&[neighbour.flags, 0]);
    let request = Request::new(kind, flags, &head).with(libc::NDA_DST, &octets(neighbour.ip))?;
    if neighbour.mac.is_empty() { Ok(request) } else { request.with(libc::NDA_LLADDR, &neighbour.mac) }
}

fn neighbour(body: &[u8]) -> Option<Neighbour> {
    let (mut at, mut mac) = (None, Vec::new());
    for (kind, value) in attributes(body.get(12..)?) {
        match kind {
            libc::NDA_DST => at = ip(value),
            libc::NDA_LLADDR => mac = value.to_vec(),
            _ => {}
        }
    }
    let (index, state, flags) = (u32_at(body, 4)?, u16_at(body, 8)?, *body.get(10)?);
    Some(Neighbour { index, ip: at?, mac, state, flags })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs in a network namespace of its own; needs root.
    fn apart(work: impl FnOnce(Kernel) + Send + 'static) {
        let thread = std::thread::spawn(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            work(Kernel::open().unwrap());
        });
        thread.join().unwrap();
    }

    fn at(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn what_is_told_to_the_kernel_is_what_it_lists() {
        apart(|kernel| {
            kernel.add_link("a", "veth", Some("b")).unwrap();
            let (a, b) = (kernel.link("a").unwrap(), kernel.link("b").unwrap());
            assert!(a.kind == "veth" && a.peer == b.index && a.is_ethernet() && !a.is_up());
            let change = LinkChange {
                up: Some(true),
                mtu: Some(1400),
                mac: Some(vec![2, 0, 0, 0, 0, 7]),
                ..LinkChange::default()
            };
            kernel.change_link(a.index, &change).unwrap();
            assert!(!kernel.link("a").unwrap().has_carrier(), "the other end is down");
            kernel.change_link(b.index, &LinkChange { up: Some(true), ..LinkChange::default() }).unwrap();
            let a = kernel.link("a").unwrap();
            assert!(a.is_up() && a.has_carrier() && a.mtu == 1400 && a.mac == [2, 0, 0, 0, 0, 7]);

            for text in ["192.0.2.2", "2001:db8::2"] {
                let mut address = Address::new(a.index, at(text), 24);
                address.lifetime = (600, 300);
                kernel.add_address(&address, false).unwrap();
                assert_eq!(
                    kernel.add_address(&address, false).unwrap_err().raw_os_error(),
                    Some(libc::EEXIST)
                );
                address.lifetime = (1000, 900);
                kernel.add_address(&address, true).unwrap();
                let all = kernel.addresses().unwrap();
                let found = all.iter().find(|found| found.ip == at(text)).unwrap();
                assert!(found.bits == 24 && found.index == a.index && found.lifetime.0 > 900, "{found:?}");
            }
            let mut route = Route::new((at("0.0.0.0"), 0), Some(at("192.0.2.1")), a.index);
            (route.metric, route.protocol) = (77, libc::RTPROT_STATIC);
            kernel.add_route(&route, false).unwrap();
            let has = |route: &Route| kernel.routes().unwrap().contains(route);
            assert!(has(&route));
            let six = Route::new((at("2001:db8:1::"), 48), Some(at("2001:db8::1")), a.index);
            kernel.add_route(&six, false).unwrap();
            assert!(kernel.routes().unwrap().iter().any(|found| found.to == six.to && found.via == six.via));
            kernel.remove_route(&route).unwrap();
            assert!(!has(&route));
            assert_eq!(kernel.remove_route(&route).unwrap_err().raw_os_error(), Some(libc::ESRCH));

            let who = Neighbour {
                index: a.index,
                ip: at("192.0.2.9"),
                mac: vec![2; 6],
                state: PERMANENT,
                flags: 0,
            };
            kernel.add_neighbour(&who, false).unwrap();
            assert!(kernel.neighbours().unwrap().contains(&who));
            kernel.remove_neighbour(&who).unwrap();
            kernel.remove_address(&Address::new(a.index, at("192.0.2.2"), 24)).unwrap();
            assert!(!kernel.addresses().unwrap().iter().any(|found| found.ip == at("192.0.2.2")));
            kernel.remove_link(a.index).unwrap();
            assert_eq!(kernel.link("b").unwrap_err().raw_os_error(), Some(libc::ENODEV));
        });
    }

    #[test]
    fn what_the_kernel_says_may_be_cut_anywhere() {
        let mut route = Route::new((at("10.0.0.0"), 8), Some(at("192.0.2.1")), 3);
        route.source = Some(at("192.0.2.2"));
        let body = route_request(libc::RTM_NEWROUTE, 0, &route).unwrap().into_body();
        assert_eq!(super::route(&body), Some(route));
        for cut in 0..body.len() {
            let _must_not_panic = (super::route(&body[..cut]), address(&body[..cut]));
            let _must_not_panic = (link(&body[..cut]), neighbour(&body[..cut]));
        }
    }
}
