//! Names outside, asked for only for a connection that was allowed.

use hickory_resolver::config::{NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::{Resolver, TokioResolver};
use octant_manifest::HostName;
use octant_sys::clock;
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::net::IpAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Where the machine's name servers are.
pub const RESOLV_CONF: &str = "/etc/resolv.conf";
/// How long a name may take.
const WITHIN: Duration = Duration::from_secs(10);
/// How many names' addresses are kept.
const KNOWN_MAX: usize = 1024;
/// For how long at the most, in milliseconds.
const LASTS_MAX_MS: u64 = 24 * 60 * 60 * 1000;

fn now_ms() -> u64 {
    clock::boottime_ns() / 1_000_000
}

/// Who knows the addresses of names. A seam: tests put another one in its place.
pub trait Resolve: Send + Sync {
    /// The same, where they are known and nobody has to be asked.
    fn known(&self, _host: &HostName) -> Option<Vec<IpAddr>> {
        None
    }

    /// The addresses of a name, the one to try first in front.
    fn addresses<'a>(
        &'a self,
        host: &'a HostName,
    ) -> Pin<Box<dyn Future<Output = Result<Vec<IpAddr>, String>> + Send + 'a>>;
}

impl<T: Resolve> Resolve for Arc<T> {
    fn known(&self, host: &HostName) -> Option<Vec<IpAddr>> {
        (**self).known(host)
    }

    fn addresses<'a>(
        &'a self,
        host: &'a HostName,
    ) -> Pin<Box<dyn Future<Output = Result<Vec<IpAddr>, String>> + Send + 'a>> {
        (**self).addresses(host)
    }
}

/// Name servers on the network.
pub struct Servers {
    /// Those that the configuration names; none: those of the file.
    named: Vec<IpAddr>,
    file: PathBuf,
    made: Mutex<Option<Made>>,
}

/// What there is for the servers of the moment.
struct Made {
    of: Vec<IpAddr>,
    resolver: Arc<TokioResolver>,
    known: Known,
}

/// Addresses that servers gave, for as long as they said. The resolver's own memory has what servers said word by word: that a
/// host has no addresses of one kind is asked again for each connection where a server does not say how long that holds.
#[derive(Debug, Default)]
struct Known(BTreeMap<HostName, (u64, Vec<IpAddr>)>);

impl Known {
    fn get(&self, host: &HostName, now_ms: u64) -> Option<Vec<IpAddr>> {
        self.0.get(host).filter(|(until_ms, _)| now_ms < *until_ms).map(|(_, found)| found.clone())
    }

    fn put(&mut self, host: &HostName, found: &[IpAddr], lasts_ms: u64, now_ms: u64) {
        if self.0.len() >= KNOWN_MAX {
            self.0.retain(|_, (until_ms, _)| now_ms < *until_ms);
        }
        if self.0.len() < KNOWN_MAX {
            self.0.insert(host.clone(), (now_ms + lasts_ms.min(LASTS_MAX_MS), found.to_vec()));
        }
    }
}

impl fmt::Debug for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Servers")
            .field("named", &self.named)
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}

impl Servers {
    /// Those that are named; none: those of the file.
    #[must_use]
    pub fn new(named: Vec<IpAddr>, file: PathBuf) -> Self {
        Self { named, file, made: Mutex::default() }
    }

    /// Works with what there is for the servers of the moment: a network that changes brings others.
    fn with_made<T>(&self, work: impl FnOnce(&mut Made) -> T) -> Result<T, String> {
        let servers = if self.named.is_empty() {
            let path = self.file.display();
            let text =
                std::fs::read_to_string(&self.file).map_err(|error| format!("read {path}: {error}"))?;
            servers_of(&text)
        } else {
            self.named.clone()
        };
        if servers.is_empty() {
            return Err(format!(
                "{} names no name server, nor does [egress] of octant.toml",
                self.file.display()
            ));
        }
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let made = match &mut *made {
            Some(made) if made.of == servers => made,
            others => {
                let resolver = Arc::new(resolver_of(&servers)?);
                others.insert(Made { of: servers, resolver, known: Known::default() })
            }
        };
        Ok(work(made))
    }
}

fn resolver_of(servers: &[IpAddr]) -> Result<TokioResolver, String> {
    let servers = servers.iter().map(|&ip| NameServerConfig::udp_and_tcp(ip)).collect();
    let config = ResolverConfig::from_name_servers(servers);
    let mut builder = Resolver::builder_with_config(config, TokioRuntimeProvider::default());
    let options = builder.options_mut();
    // The host's file is not what a grant means, and its addresses would be private ones.
    options.use_hosts_file = ResolveHosts::Never;
    options.ndots = 0;
    options.timeout = Duration::from_secs(3);
    options.cache_size = 1024;
    builder.build().map_err(|error| error.to_string())
}

impl Resolve for Servers {
    fn known(&self, host: &HostName) -> Option<Vec<IpAddr>> {
        self.with_made(|made| made.known.get(host, now_ms())).ok()?
    }

    fn addresses<'a>(
        &'a self,
        host: &'a HostName,
    ) -> Pin<Box<dyn Future<Output = Result<Vec<IpAddr>, String>> + Send + 'a>> {
        Box::pin(async move {
            let resolver = self.with_made(|made| Arc::clone(&made.resolver))?;
            // With the dot at its end it is never looked for below another name.
            let asked = tokio::time::timeout(WITHIN, resolver.lookup_ip(format!("{host}.")));
            match asked.await {
                Err(_) => Err(format!("no answer within {WITHIN:?}")),
                Ok(Err(error)) => Err(error.to_string()),
                Ok(Ok(found)) => {
                    let lasts =
                        found.as_lookup().answers().iter().map(|answer| answer.ttl).min().unwrap_or(0);
                    let found: Vec<IpAddr> = found.iter().collect();
                    self.with_made(|made| made.known.put(host, &found, u64::from(lasts) * 1000, now_ms()))?;
                    Ok(found)
                }
            }
        })
    }
}

/// The name servers that a resolv.conf(5) names.
fn servers_of(text: &str) -> Vec<IpAddr> {
    let lines = text.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next()).flatten()
    });
    // A zone (fe80::1%eth0) is not part of an address that can be asked here.
    lines.filter_map(|word| word.parse().ok()).take(3).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_known_for_as_long_as_servers_say() {
        let host = |name: &str| name.parse::<HostName>().unwrap();
        let (now, found) = (5000, ["9.9.9.9".parse().unwrap()]);
        let mut known = Known::default();
        known.put(&host("never.example.org"), &found, 0, now);
        known.put(&host("a.example.org"), &found, 1000, now);
        assert_eq!(known.get(&host("a.example.org"), now + 999), Some(found.to_vec()));
        assert_eq!(known.get(&host("a.example.org"), now + 1000), None);
        assert_eq!(known.get(&host("never.example.org"), now), None);
        for number in 0..2 * KNOWN_MAX {
            known.put(&host(&format!("n{number}.example.org")), &found, 2000, now);
        }
        assert!(known.0.len() == KNOWN_MAX && known.get(&host("n0.example.org"), now).is_some());
        // What is over makes room.
        known.put(&host("late.example.org"), &found, 1000, now + 2000);
        assert_eq!(known.0.len(), 1);
    }

    #[test]
    fn name_servers_are_read_as_the_c_library_does() {
        let text = "# a comment\nsearch example.org\nnameserver 9.9.9.9\n nameserver\t2620:fe::fe\noptions ndots:2\n\
                    nameserver fe80::1%eth0\nnameservers 1.1.1.1\nnameserver 1.1.1.1 # x\nnameserver 8.8.8.8\n";
        let expected = ["9.9.9.9", "2620:fe::fe", "1.1.1.1"].map(|ip| ip.parse::<IpAddr>().unwrap());
        assert_eq!(servers_of(text), expected);
        assert!(servers_of("").is_empty());
    }
}
