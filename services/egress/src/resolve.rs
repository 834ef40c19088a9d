//! Names outside, asked for by the gate alone and only for a connection that was allowed.

use hickory_resolver::config::{NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::{Resolver, TokioResolver};
use octant_manifest::HostName;
use std::future::Future;
use std::net::IpAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long a name may take.
const WITHIN: Duration = Duration::from_secs(10);

/// Who knows the addresses of names. A seam: tests put another one in its place.
pub(crate) trait Resolve: Send + Sync {
    /// The addresses of a name, the one to try first in front.
    fn addresses<'a>(
        &'a self,
        host: &'a HostName,
    ) -> Pin<Box<dyn Future<Output = Result<Vec<IpAddr>, String>> + Send + 'a>>;
}

/// Name servers on the network.
pub(crate) struct Servers {
    /// Those that the configuration names; none: those of the file.
    named: Vec<IpAddr>,
    file: PathBuf,
    /// The resolver, and of which servers it was made.
    made: Mutex<Option<(Vec<IpAddr>, Arc<TokioResolver>)>>,
}

impl Servers {
    pub(crate) fn new(named: Vec<IpAddr>, file: PathBuf) -> Self {
        Self { named, file, made: Mutex::default() }
    }

    /// The resolver for the servers that there are now: a network that changes brings others.
    fn resolver(&self) -> Result<Arc<TokioResolver>, String> {
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
        if let Some((of, resolver)) = &*made
            && *of == servers
        {
            return Ok(Arc::clone(resolver));
        }
        let resolver = Arc::new(resolver_of(&servers)?);
        *made = Some((servers, Arc::clone(&resolver)));
        Ok(resolver)
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
    fn addresses<'a>(
        &'a self,
        host: &'a HostName,
    ) -> Pin<Box<dyn Future<Output = Result<Vec<IpAddr>, String>> + Send + 'a>> {
        Box::pin(async move {
            let resolver = self.resolver()?;
            // With the dot at its end it is never looked for below another name.
            let asked = tokio::time::timeout(WITHIN, resolver.lookup_ip(format!("{host}.")));
            match asked.await {
                Err(_) => Err(format!("no answer within {WITHIN:?}")),
                Ok(Err(error)) => Err(error.to_string()),
                Ok(Ok(found)) => Ok(found.iter().collect()),
            }
        })
    }
}

/// The name servers that a resolv.conf(5) names.
pub(crate) fn servers_of(text: &str) -> Vec<IpAddr> {
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
    fn name_servers_are_read_as_the_c_library_does() {
        let text = "# a comment\nsearch example.org\nnameserver 9.9.9.9\n nameserver\t2620:fe::fe\noptions ndots:2\n\
                    nameserver fe80::1%eth0\nnameservers 1.1.1.1\nnameserver 1.1.1.1 # x\nnameserver 8.8.8.8\n";
        let expected = ["9.9.9.9", "2620:fe::fe", "1.1.1.1"].map(|ip| ip.parse::<IpAddr>().unwrap());
        assert_eq!(servers_of(text), expected);
        assert!(servers_of("").is_empty());
    }
}
