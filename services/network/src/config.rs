//! `[network]` of octant.toml.

use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// The most links, and of each the most addresses and routes.
const LINKS_MAX: usize = 64;
const EACH_MAX: usize = 64;
/// The most name servers and search domains: resolv.conf(5) has no more.
const SERVERS_MAX: usize = 3;
const SEARCH_MAX: usize = 6;
/// The most time servers.
pub(crate) const TIME_SERVERS_MAX: usize = 8;
/// The kernel's IFNAMSIZ, without the zero at the end.
const NAME_MAX: usize = 15;
/// A route that the configuration names comes before one that was lent.
const METRIC: u32 = 64;

/// The table. Without it the service does not run; an empty one asks every Ethernet link's network for an address.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NetworkConfig {
    /// Name servers, in place of those that were lent.
    pub name_servers: Vec<IpAddr>,
    /// Below which names names without a dot are, in place of what was lent.
    pub search: Vec<String>,
    /// Each link's table by its name; none: every Ethernet link asks for an address.
    pub links: BTreeMap<String, LinkConfig>,
    /// How the clock is kept right.
    pub time: TimeConfig,
}

/// `[network.time]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TimeConfig {
    /// Time servers by name or address, in place of those that were lent; three or more, so that one can be wrong.
    pub servers: Vec<String>,
    /// By how many seconds the clock is set at most without an operator's word.
    pub max_step_s: u64,
}

impl Default for TimeConfig {
    fn default() -> Self {
        // A battery that keeps a clock at all is not wrong by a day.
        Self { servers: Vec::new(), max_step_s: 86_400 }
    }
}

/// `[network.links.NAME]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LinkConfig {
    /// Whether an IPv4 address is asked for; unless said otherwise, where none is named.
    pub dhcp: Option<bool>,
    /// Addresses with their networks: `192.0.2.2/24`.
    pub addresses: Vec<Prefix>,
    /// Routes.
    pub routes: Vec<RouteConfig>,
    /// The longest packet.
    pub mtu: Option<u32>,
    /// Whether it has IPv6 at all; routers then say which addresses (SLAAC).
    pub ipv6: bool,
}

impl Default for LinkConfig {
    fn default() -> Self {
        Self { dhcp: None, addresses: Vec::new(), routes: Vec::new(), mtu: None, ipv6: true }
    }
}

impl LinkConfig {
    /// Whether an IPv4 address is asked for.
    pub(crate) fn asks(&self) -> bool {
        self.dhcp.unwrap_or_else(|| !self.addresses.iter().any(|address| address.ip.is_ipv4()))
    }
}

/// One route of a link.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteConfig {
    /// To which network; absent: to everywhere that nothing else leads to.
    #[serde(default)]
    pub to: Option<Prefix>,
    /// Through whom; absent: they are on the link.
    #[serde(default)]
    pub via: Option<IpAddr>,
    /// Which of several ways is taken: the smallest.
    #[serde(default = "metric")]
    pub metric: u32,
}

fn metric() -> u32 {
    METRIC
}

/// An address and how many of its leading bits are its network's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefix {
    /// The address.
    pub ip: IpAddr,
    /// The bits.
    pub bits: u8,
}

impl std::str::FromStr for Prefix {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("{text:?} is no address with a length, such as 192.0.2.2/24 or 2001:db8::2/64");
        let (ip, bits) = text.split_once('/').ok_or_else(wrong)?;
        let (ip, bits): (IpAddr, u8) = (ip.parse().map_err(|_| wrong())?, bits.parse().map_err(|_| wrong())?);
        let most = if ip.is_ipv4() { 32 } else { 128 };
        if bits > most { Err(format!("{text:?}: at most {most} bits")) } else { Ok(Self { ip, bits }) }
    }
}

impl<'de> Deserialize<'de> for Prefix {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// What is impossible in a table that was read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("network.{field}: {why}")]
pub struct Wrong {
    /// The key.
    pub field: String,
    /// Why, and what would be right.
    pub why: String,
}

impl NetworkConfig {
    /// Whether what it says is possible.
    ///
    /// # Errors
    /// [`Wrong`], naming the key.
    pub fn check(&self) -> Result<(), Wrong> {
        let wrong = |field: String, why: String| Err(Wrong { field, why });
        let counts = [
            ("name_servers", self.name_servers.len(), SERVERS_MAX),
            ("search", self.search.len(), SEARCH_MAX),
            ("links", self.links.len(), LINKS_MAX),
            ("time.servers", self.time.servers.len(), TIME_SERVERS_MAX),
        ];
        for (field, count, most) in counts {
            if count > most {
                return wrong(field.to_owned(), format!("{count} are more than {most}"));
            }
        }
        if let Some(name) = self.search.iter().find(|name| !is_domain(name)) {
            return wrong("search".to_owned(), format!("{name:?} is no name of a domain"));
        }
        let named = |name: &&String| name.parse::<IpAddr>().is_ok() || is_domain(name);
        if let Some(name) = self.time.servers.iter().find(|name| !named(name)) {
            return wrong("time.servers".to_owned(), format!("{name:?} is neither a name nor an address"));
        }
        for (name, link) in &self.links {
            if let Err((field, why)) = link.check(name) {
                return wrong(format!("links.{name}{field}"), why);
            }
        }
        Ok(())
    }
}

impl LinkConfig {
    fn check(&self, name: &str) -> Result<(), (&'static str, String)> {
        let fine = |byte: u8| byte.is_ascii_graphic() && byte != b'/' && byte != b':';
        let named = (1..=NAME_MAX).contains(&name.len()) && name.bytes().all(fine) && !name.starts_with('.');
        if !named {
            return Err(("", format!("a link's name has 1 to {NAME_MAX} letters without / and :")));
        }
        for (field, count) in [(".addresses", self.addresses.len()), (".routes", self.routes.len())] {
            if count > EACH_MAX {
                return Err((field, format!("{count} are more than {EACH_MAX}")));
            }
        }
        if let Some(mtu) = self.mtu.filter(|mtu| !(576..=65_535).contains(mtu)) {
            return Err((".mtu", format!("{mtu} is not from 576 to 65535")));
        }
        if let Some(bad) = self.addresses.iter().find(|at| at.ip.is_unspecified() || at.ip.is_multicast()) {
            return Err((".addresses", format!("{} is no address of one host", bad.ip)));
        }
        if !self.ipv6 && self.addresses.iter().any(|address| address.ip.is_ipv6()) {
            return Err((".ipv6", "it has addresses of IPv6, which is switched off".to_owned()));
        }
        for route in &self.routes {
            match (route.to, route.via) {
                (None, None) => return Err((".routes", "one has neither `to` nor `via`".to_owned())),
                (Some(to), Some(via)) if to.ip.is_ipv4() != via.is_ipv4() => {
                    return Err((".routes", format!("{} cannot be reached through {via}", to.ip)));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

pub(crate) fn is_domain(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    name.len() <= 253 && name.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(json: serde_json::Value) -> Result<NetworkConfig, String> {
        let config: NetworkConfig = serde_json::from_value(json).map_err(|error| error.to_string())?;
        config.check().map_err(|error| error.to_string()).map(|()| config)
    }

    #[test]
    fn a_table_is_read_and_an_empty_one_asks_for_everything() {
        let read = config(serde_json::json!({
            "name_servers": ["9.9.9.9"], "search": ["example.org"],
            "links": {"eth0": {"addresses": ["192.0.2.2/24", "2001:db8::2/64"],
                "routes": [{"via": "192.0.2.1"}, {"to": "10.0.0.0/8", "via": "192.0.2.9", "metric": 5}]},
                "eth1": {}, "eth2": {"addresses": ["2001:db8::3/64"]}}
        }))
        .unwrap();
        let link = &read.links["eth0"];
        assert!(!link.asks() && link.ipv6 && read.links["eth1"].asks() && read.links["eth2"].asks());
        assert_eq!((link.routes[0].to, link.routes[0].metric, link.routes[1].metric), (None, METRIC, 5));
        assert_eq!(config(serde_json::json!({})).unwrap(), NetworkConfig::default());
    }

    #[test]
    fn what_is_impossible_names_its_key() {
        for (json, part) in [
            (serde_json::json!({"links": {"eth0": {"addresses": ["192.0.2.2"]}}}), "192.0.2.2/24"),
            (serde_json::json!({"links": {"eth0": {"addresses": ["192.0.2.2/33"]}}}), "at most 32"),
            (serde_json::json!({"links": {"eth0": {"addresses": ["224.0.0.1/4"]}}}), "links.eth0.addresses"),
            (serde_json::json!({"links": {"../x": {}}}), "links.../x"),
            (serde_json::json!({"links": {"eth0": {"mtu": 5}}}), "links.eth0.mtu"),
            (serde_json::json!({"links": {"eth0": {"routes": [{}]}}}), "neither"),
            (
                serde_json::json!({"links": {"eth0": {"routes": [{"to": "10.0.0.0/8", "via": "::1"}]}}}),
                "cannot be reached",
            ),
            (
                serde_json::json!({"links": {"eth0": {"ipv6": false, "addresses": ["2001:db8::2/64"]}}}),
                "links.eth0.ipv6",
            ),
            (serde_json::json!({"search": ["a b"]}), "network.search"),
            (
                serde_json::json!({"name_servers": ["1.1.1.1", "1.1.1.2", "1.1.1.3", "1.1.1.4"]}),
                "more than 3",
            ),
            (serde_json::json!({"dhcp": true}), "unknown field"),
            (serde_json::json!({"time": {"servers": ["a b"]}}), "network.time.servers"),
        ] {
            let error = config(json).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}
