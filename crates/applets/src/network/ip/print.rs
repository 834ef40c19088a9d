//! How `ip` shows things: as iproute2 does, so that what reads it goes on working.

use nix::libc;
use octant_net::kernel::{Address, Link, NEIGHBOUR_STATES, Neighbour, Route};
use octant_net::names::Want;
use serde_json::{Value, json};
use std::fmt::Write;

/// Flags of a link in the order in which they are shown (linux/if.h).
const LINK_FLAGS: [(u32, &str); 14] = [
    (0x8, "LOOPBACK"),
    (0x2, "BROADCAST"),
    (0x10, "POINTOPOINT"),
    (0x1000, "MULTICAST"),
    (0x80, "NOARP"),
    (0x200, "ALLMULTI"),
    (0x100, "PROMISC"),
    (0x400, "MASTER"),
    (0x800, "SLAVE"),
    (0x4, "DEBUG"),
    (0x8000, "DYNAMIC"),
    (0x4000, "AUTOMEDIA"),
    (0x1, "UP"),
    (0x10000, "LOWER_UP"),
];
const STATES: [&str; 7] = ["UNKNOWN", "NOTPRESENT", "DOWN", "LOWERLAYERDOWN", "TESTING", "DORMANT", "UP"];
/// Flags of an address (linux/if_addr.h); the first is shown as its opposite.
const PERMANENT: u32 = 0x80;
const ADDRESS_FLAGS: [(u32, &str); 6] = [
    (0x01, "secondary"),
    (0x08, "dadfailed"),
    (0x20, "deprecated"),
    (0x40, "tentative"),
    (0x100, "mngtmpaddr"),
    (0x200, "noprefixroute"),
];
const PROTOCOLS: [(u8, &str); 8] = [
    (1, "redirect"),
    (2, "kernel"),
    (3, "boot"),
    (4, "static"),
    (9, "ra"),
    (16, "dhcp"),
    (186, "bgp"),
    (188, "ospf"),
];
const KINDS: [(u8, &str); 7] = [
    (2, "local"),
    (3, "broadcast"),
    (4, "anycast"),
    (5, "multicast"),
    (6, "blackhole"),
    (7, "unreachable"),
    (8, "prohibit"),
];

/// In which form.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Form {
    pub(super) oneline: bool,
    pub(super) brief: bool,
    pub(super) json: bool,
    pub(super) traffic: bool,
}

impl Form {
    pub(super) fn links(self, links: Vec<Link>) -> String {
        if self.json {
            return lines(&links.iter().map(|link| link_json(link, &links)).collect::<Vec<_>>());
        }
        let all = links.clone();
        links
            .iter()
            .map(|link| if self.brief { brief(link, &all, &mac(&link.mac)) } else { self.link(link, &all) })
            .collect()
    }

    pub(super) fn addresses(self, links: Vec<Link>, addresses: &[Address], want: Want) -> String {
        let of =
            |link: &Link| addresses.iter().filter(|address| address.index == link.index).collect::<Vec<_>>();
        let shown = links.iter().filter(|link| want == Want::Any || !of(link).is_empty());
        if self.json {
            let each = shown.map(|link| {
                let mut value = link_json(link, &links);
                value["addr_info"] =
                    of(link).into_iter().map(|address| address_json(address, link)).collect();
                value
            });
            return lines(&each.collect::<Vec<_>>());
        }
        let mut out = String::new();
        for link in shown {
            if self.brief {
                let all = of(link).iter().map(|at| format!("{}/{} ", at.ip, at.bits)).collect::<String>();
                out.push_str(&brief(link, &links, &all));
                continue;
            }
            if !self.oneline {
                out.push_str(&self.link(link, &links));
            }
            for address in of(link) {
                if self.oneline {
                    let _ = write!(out, "{}: {}    {}\\", link.index, link.name, address_line(address, link));
                    let _ = writeln!(out, "       {}", lifetime(address));
                } else {
                    let _ =
                        writeln!(out, "    {}\n       {}", address_line(address, link), lifetime(address));
                }
            }
        }
        out
    }

    fn link(self, link: &Link, all: &[Link]) -> String {
        let between = if self.oneline { "\\    " } else { "\n    " };
        let master = all.iter().find(|other| link.master != 0 && other.index == link.master);
        let master = master.map_or_else(String::new, |master| format!(" master {}", master.name));
        let mut out = format!(
            "{}: {}: <{}> mtu {} qdisc {}{master} state {} mode DEFAULT group default",
            link.index,
            shown_name(link, all),
            flags(link),
            link.mtu,
            if link.queue.is_empty() { "noop" } else { &link.queue },
            state(link)
        );
        if link.queue_length > 0 {
            let _ = write!(out, " qlen {}", link.queue_length);
        }
        let _ = write!(out, "{between}link/{} {}", hardware(link), mac(&link.mac));
        if !link.broadcast.is_empty() {
            let _ = write!(out, " brd {}", mac(&link.broadcast));
        }
        if self.traffic {
            let it = link.traffic;
            for (head, at) in [("RX", 0), ("TX", 1)] {
                let pick = |(received, sent): (u64, u64)| if at == 0 { received } else { sent };
                let _ = write!(
                    out,
                    "{between}{head}: bytes {} packets {} errors {} dropped {}",
                    pick(it.bytes),
                    pick(it.packets),
                    pick(it.errors),
                    pick(it.dropped)
                );
            }
        }
        out + "\n"
    }

    pub(super) fn routes(self, routes: &[Route], links: &[Link], of_one: bool) -> String {
        if self.json {
            return lines(&routes.iter().map(|route| route_json(route, links)).collect::<Vec<_>>());
        }
        let mut out = String::new();
        for route in routes {
            if let Some(kind) = word(&KINDS, route.kind) {
                let _ = write!(out, "{kind} ");
            }
            out.push_str(&destination(route));
            if let Some(via) = route.via {
                let _ = write!(out, " via {via}");
            }
            if !of_one && route.index > 0 {
                let _ = write!(out, " dev {}", name(links, route.index));
            }
            if route.table != u32::from(libc::RT_TABLE_MAIN) {
                let table = if route.table == u32::from(libc::RT_TABLE_LOCAL) {
                    "local".into()
                } else {
                    route.table.to_string()
                };
                let _ = write!(out, " table {table}");
            }
            match word(&PROTOCOLS, route.protocol) {
                // What an operator made needs no word.
                Some("boot") => {}
                Some(protocol) => drop(write!(out, " proto {protocol}")),
                None => drop(write!(out, " proto {}", route.protocol)),
            }
            match route.scope {
                libc::RT_SCOPE_LINK => out.push_str(" scope link"),
                libc::RT_SCOPE_HOST => out.push_str(" scope host"),
                _ => {}
            }
            if let Some(source) = route.source {
                let _ = write!(out, " src {source}");
            }
            if route.metric > 0 {
                let _ = write!(out, " metric {}", route.metric);
            }
            for (flag, word) in [(1, " dead"), (16, " linkdown"), (4, " onlink")] {
                if route.flags & flag != 0 {
                    out.push_str(word);
                }
            }
            // iproute2 ends each with a space.
            out.push_str(" \n");
        }
        out
    }

    pub(super) fn neighbours(self, all: &[Neighbour], links: &[Link]) -> String {
        let states = |one: &Neighbour| {
            let named = NEIGHBOUR_STATES.iter().filter(|(bit, _)| one.state & bit != 0);
            named.map(|(_, name)| *name).collect::<Vec<_>>()
        };
        if self.json {
            let each = all.iter().map(|one| {
                let mut value = json!({"dst": one.ip, "dev": name(links, one.index), "state": states(one)});
                if !one.mac.is_empty() {
                    value["lladdr"] = mac(&one.mac).into();
                }
                value
            });
            return lines(&each.collect::<Vec<_>>());
        }
        let mut out = String::new();
        for one in all {
            let _ = write!(out, "{} dev {}", one.ip, name(links, one.index));
            if !one.mac.is_empty() {
                let _ = write!(out, " lladdr {}", mac(&one.mac));
            }
            // NTF_ROUTER.
            if one.flags & 0x80 != 0 {
                out.push_str(" router");
            }
            let _ = writeln!(out, " {} ", states(one).join(" "));
        }
        out
    }
}

fn lines(values: &[Value]) -> String {
    Value::from(values).to_string() + "\n"
}

fn brief(link: &Link, all: &[Link], rest: &str) -> String {
    let rest = if rest.ends_with(' ') { rest.to_owned() } else { format!("{rest} <{}> ", flags(link)) };
    format!("{:<16} {:<14} {rest}\n", shown_name(link, all), state(link))
}

fn name(links: &[Link], index: u32) -> String {
    links
        .iter()
        .find(|link| link.index == index)
        .map_or_else(|| format!("if{index}"), |link| link.name.clone())
}

/// With the other end of it.
fn shown_name(link: &Link, all: &[Link]) -> String {
    if link.peer == 0 {
        return link.name.clone();
    }
    format!("{}@{}", link.name, name(all, link.peer))
}

fn flags(link: &Link) -> String {
    /// IFF_UP and IFF_RUNNING.
    const UP: u32 = 1;
    const RUNNING: u32 = 0x40;
    let dead = link.flags & UP != 0 && link.flags & RUNNING == 0;
    let named = LINK_FLAGS.iter().filter(|(bit, _)| link.flags & bit != 0).map(|(_, name)| *name);
    dead.then_some("NO-CARRIER").into_iter().chain(named).collect::<Vec<_>>().join(",")
}

fn state(link: &Link) -> &'static str {
    STATES.get(usize::from(link.state)).copied().unwrap_or("UNKNOWN")
}

fn hardware(link: &Link) -> String {
    match link.hardware {
        libc::ARPHRD_ETHER => "ether".into(),
        libc::ARPHRD_LOOPBACK => "loopback".into(),
        libc::ARPHRD_NONE => "none".into(),
        other => other.to_string(),
    }
}

pub(super) fn mac(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
}

fn scope(scope: u8) -> String {
    match scope {
        libc::RT_SCOPE_UNIVERSE => "global".into(),
        libc::RT_SCOPE_LINK => "link".into(),
        libc::RT_SCOPE_HOST => "host".into(),
        libc::RT_SCOPE_SITE => "site".into(),
        other => other.to_string(),
    }
}

fn address_line(address: &Address, link: &Link) -> String {
    let mut out = String::from(if address.ip.is_ipv4() { "inet " } else { "inet6 " });
    let _ = match address.peer {
        Some(peer) => write!(out, "{} peer {peer}/{}", address.ip, address.bits),
        None => write!(out, "{}/{}", address.ip, address.bits),
    };
    if let Some(broadcast) = address.broadcast {
        let _ = write!(out, " brd {broadcast}");
    }
    let _ = write!(out, " scope {} ", scope(address.scope));
    for (bit, word) in ADDRESS_FLAGS {
        if address.flags & bit != 0 {
            let _ = write!(out, "{word} ");
        }
    }
    if address.flags & PERMANENT == 0 {
        out.push_str("dynamic ");
    }
    // IPv6 has no labels.
    if address.ip.is_ipv4() {
        out.push_str(if address.label.is_empty() { &link.name } else { &address.label });
    }
    out
}

fn lifetime(address: &Address) -> String {
    let time =
        |seconds: u32| if seconds == u32::MAX { "forever".to_owned() } else { format!("{seconds}sec") };
    format!("valid_lft {} preferred_lft {}", time(address.lifetime.0), time(address.lifetime.1))
}

fn word(table: &[(u8, &'static str)], number: u8) -> Option<&'static str> {
    table.iter().find(|(known, _)| *known == number).map(|(_, word)| *word)
}

fn destination(route: &Route) -> String {
    match route.to {
        (_, 0) => "default".into(),
        (ip, bits) if bits == (if ip.is_ipv4() { 32 } else { 128 }) => ip.to_string(),
        (ip, bits) => format!("{ip}/{bits}"),
    }
}

fn link_json(link: &Link, all: &[Link]) -> Value {
    let mut value = json!({
        "ifindex": link.index, "ifname": link.name, "flags": flags(link).split(',').collect::<Vec<_>>(),
        "mtu": link.mtu, "qdisc": link.queue, "operstate": state(link), "group": "default",
        "txqlen": link.queue_length, "link_type": hardware(link), "address": mac(&link.mac),
        "broadcast": mac(&link.broadcast),
    });
    if link.peer != 0 {
        value["link"] = name(all, link.peer).into();
    }
    if link.master != 0 {
        value["master"] = name(all, link.master).into();
    }
    value
}

fn address_json(address: &Address, link: &Link) -> Value {
    let mut value = json!({
        "family": if address.ip.is_ipv4() { "inet" } else { "inet6" }, "local": address.ip,
        "prefixlen": address.bits, "scope": scope(address.scope), "valid_life_time": address.lifetime.0,
        "preferred_life_time": address.lifetime.1,
    });
    if let Some(broadcast) = address.broadcast {
        value["broadcast"] = broadcast.to_string().into();
    }
    if address.ip.is_ipv4() {
        value["label"] = (if address.label.is_empty() { &link.name } else { &address.label }).clone().into();
    }
    if address.flags & PERMANENT == 0 {
        value["dynamic"] = true.into();
    }
    value
}

fn route_json(route: &Route, links: &[Link]) -> Value {
    let mut value = json!({"dst": destination(route), "dev": name(links, route.index), "flags": []});
    if let Some(via) = route.via {
        value["gateway"] = via.to_string().into();
    }
    if let Some(protocol) = word(&PROTOCOLS, route.protocol) {
        value["protocol"] = protocol.into();
    }
    if let Some(source) = route.source {
        value["prefsrc"] = source.to_string().into();
    }
    if route.metric > 0 {
        value["metric"] = route.metric.into();
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn eth0() -> Link {
        Link {
            index: 2,
            name: "eth0".into(),
            hardware: libc::ARPHRD_ETHER,
            flags: 0x1_1043,
            mtu: 1500,
            mac: vec![2, 0, 0, 0, 0, 1],
            broadcast: vec![255; 6],
            state: 6,
            queue: "fq_codel".into(),
            queue_length: 1000,
            ..Link::default()
        }
    }

    fn lent() -> Address {
        let mut address = Address::new(2, [10, 0, 2, 15].into(), 24);
        (address.broadcast, address.lifetime) = (Some([10, 0, 2, 255].into()), (86_000, 86_000));
        address
    }

    #[test]
    fn links_and_addresses_look_as_iproute2_shows_them() {
        let shown = Form::default().addresses(vec![eth0()], &[lent()], Want::Any);
        assert_eq!(
            shown,
            "2: eth0: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 qdisc fq_codel state UP mode DEFAULT group default qlen 1000
    link/ether 02:00:00:00:00:01 brd ff:ff:ff:ff:ff:ff
    inet 10.0.2.15/24 brd 10.0.2.255 scope global dynamic eth0
       valid_lft 86000sec preferred_lft 86000sec\n"
        );
        let brief = Form { brief: true, ..Form::default() };
        assert_eq!(
            brief.addresses(vec![eth0()], &[lent()], Want::Any),
            "eth0             UP             10.0.2.15/24 \n"
        );
        let line = Form { oneline: true, ..Form::default() }.addresses(vec![eth0()], &[lent()], Want::V4);
        assert!(line.starts_with("2: eth0    inet 10.0.2.15/24 brd") && line.lines().count() == 1);
        let json = Form { json: true, ..Form::default() }.addresses(vec![eth0()], &[lent()], Want::Any);
        let json: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json[0]["addr_info"][0]["local"], "10.0.2.15");
        assert_eq!(json[0]["operstate"], "UP");
    }

    #[test]
    fn routes_and_neighbours_look_as_iproute2_shows_them() {
        let mut route = Route::new(([0; 4].into(), 0), Some([10, 0, 2, 2].into()), 2);
        (route.protocol, route.metric, route.source) = (16, 102, Some([10, 0, 2, 15].into()));
        let mut direct = Route::new(([10, 0, 2, 0].into(), 24), None, 2);
        (direct.protocol, direct.source) = (2, Some([10, 0, 2, 15].into()));
        let shown = Form::default().routes(&[route, direct], &[eth0()], false);
        assert_eq!(
            shown,
            "default via 10.0.2.2 dev eth0 proto dhcp src 10.0.2.15 metric 102 \n\
             10.0.2.0/24 dev eth0 proto kernel scope link src 10.0.2.15 \n"
        );
        let who = Neighbour { index: 2, ip: [10, 0, 2, 2].into(), mac: vec![2; 6], state: 2, flags: 0x80 };
        let shown = Form::default().neighbours(&[who], &[eth0()]);
        assert_eq!(shown, "10.0.2.2 dev eth0 lladdr 02:02:02:02:02:02 router REACHABLE \n");
    }
}
