//! The links that the service manages: one task, which the kernel, servers, time and operators tell of changes.

use crate::config::{LinkConfig, NetworkConfig};
use crate::core::{self, Change};
use crate::socket::Socket;
use nix::libc;
use octant_api::ledger::Kind;
use octant_api::network::{DhcpStatus, LinkStatus, NetworkStatus};
use octant_net::dhcp::{Action, Client, Event, Lease, Message, State};
use octant_net::kernel::{Kernel, Link, LinkChange};
use octant_service::{Records, record};
use octant_sys::{clock, entropy, netlink};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{Notify, mpsc, oneshot};

/// RTMGRP_LINK.
const LINKS: u32 = 1;
/// How many messages of servers can wait.
const HEARD_MAX: usize = 32;
/// The longest sleep: what the kernel did not tell is seen by then.
const LOOK_AGAIN_MS: u64 = 60_000;
/// How long a link may be without an answer before that is a trouble.
const PATIENCE_MS: u64 = 15_000;

/// What somebody wants of the task.
#[derive(Debug)]
pub(crate) enum Command {
    Status(oneshot::Sender<io::Result<NetworkStatus>>),
    Renew(Option<String>, oneshot::Sender<Vec<String>>),
}

/// What is wrong, for the service's health; empty when nothing is.
pub(crate) type Troubles = Arc<Mutex<Vec<String>>>;

/// A link's number, and what was said there.
type Heard = (u32, Message);

/// Where the clock's task finds servers.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    /// Time servers that were lent, and name servers.
    pub(crate) now: Mutex<(Vec<IpAddr>, Vec<IpAddr>)>,
    /// That they are others now.
    pub(crate) changed: Notify,
}

/// The task.
#[derive(Debug)]
pub(crate) struct Manager {
    config: NetworkConfig,
    kernel: Kernel,
    changes: AsyncFd<OwnedFd>,
    links: BTreeMap<u32, Managed>,
    records: Arc<Records>,
    places: Places,
    troubles: Troubles,
    sources: Arc<Sources>,
    heard: (mpsc::Sender<Heard>, mpsc::Receiver<Heard>),
    resolver: (Vec<IpAddr>, Vec<String>),
}

/// Where it writes.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    /// The machine's resolv.conf.
    pub(crate) resolv_conf: PathBuf,
    /// Which addresses it had, to ask for them again.
    pub(crate) last: PathBuf,
}

/// One link.
#[derive(Debug)]
struct Managed {
    name: String,
    mac: Vec<u8>,
    carrier: bool,
    config: LinkConfig,
    /// What asks for an address, and its socket; none where none is asked for.
    lent: Option<(Client, Socket)>,
    /// Whether the network has answered.
    asked: bool,
    since_ms: u64,
    /// Why it could not be made ready, and why it does not have what it should.
    unprepared: Option<String>,
    unapplied: Option<String>,
}

fn now_ms() -> u64 {
    // Leases run on while the machine sleeps.
    clock::boottime_ns() / 1_000_000
}

fn random() -> u32 {
    let mut bytes = [0; 4];
    match entropy::fill_seeded(&mut bytes) {
        Ok(()) => u32::from_ne_bytes(bytes),
        // Early in a boot. It only spreads questions and tells answers apart; the link's neighbours could read it anyway.
        Err(_) => u32::try_from(clock::monotonic_ns() & u64::from(u32::MAX)).unwrap_or_default(),
    }
}

impl Manager {
    pub(crate) fn new(
        config: NetworkConfig,
        records: Arc<Records>,
        places: Places,
        troubles: Troubles,
        sources: Arc<Sources>,
    ) -> io::Result<Self> {
        Ok(Self {
            config,
            kernel: Kernel::open()?,
            changes: watch(netlink::changes(LINKS)?)?,
            links: BTreeMap::new(),
            records,
            places,
            troubles,
            sources,
            heard: mpsc::channel(HEARD_MAX),
            resolver: (Vec::new(), Vec::new()),
        })
    }

    /// Works until there is nobody left who could command it.
    pub(crate) async fn run(mut self, mut commands: mpsc::Receiver<Command>) -> io::Result<()> {
        loop {
            self.refresh().await?;
            self.publish();
            let until = self.links.values().filter_map(Managed::until_ms).min().unwrap_or(u64::MAX);
            let sleep = Duration::from_millis(until.saturating_sub(now_ms()).min(LOOK_AGAIN_MS));
            tokio::select! {
                ready = self.changes.readable() => {
                    let mut ready = ready?;
                    netlink::drain(ready.get_inner().as_fd())?;
                    ready.clear_ready();
                }
                heard = self.heard.1.recv() => if let Some((index, message)) = heard {
                    self.step(index, Event::Message(&message)).await;
                },
                () = tokio::time::sleep(sleep) => self.time().await,
                command = commands.recv() => match command {
                    // Who asked and is gone needs no answer.
                    Some(Command::Status(answer)) => drop(answer.send(self.status())),
                    Some(Command::Renew(link, answer)) => drop(answer.send(self.renew(link).await)),
                    None => return Ok(()),
                },
            }
        }
    }

    async fn time(&mut self) {
        let due =
            self.links.iter().filter(|(_, link)| link.until_ms().is_some_and(|until| until <= now_ms()));
        let due: Vec<u32> = due.map(|(index, _)| *index).collect();
        for index in due {
            self.step(index, Event::Time).await;
        }
    }

    async fn renew(&mut self, name: Option<String>) -> Vec<String> {
        let asking = self.links.iter().filter(|(_, link)| link.lent.is_some() && link.carrier);
        let asking = asking.filter(|(_, link)| name.as_ref().is_none_or(|name| *name == link.name));
        let asking: Vec<(u32, String)> = asking.map(|(index, link)| (*index, link.name.clone())).collect();
        for (index, _) in &asking {
            self.step(*index, Event::Renew).await;
        }
        asking.into_iter().map(|(_, name)| name).collect()
    }

    /// The table of a link, if it is one of this service's.
    fn config_of(&self, link: &Link) -> Option<LinkConfig> {
        if self.config.links.is_empty() {
            // Devices only: what somebody made without hardware (a bridge, one end of a pair) is theirs.
            return (link.is_ethernet() && link.kind.is_empty()).then(LinkConfig::default);
        }
        self.config.links.get(&link.name).cloned()
    }

    /// Sees which links there are and whether somebody is at their other ends.
    async fn refresh(&mut self) -> io::Result<()> {
        let links = self.kernel.links()?;
        let there: BTreeSet<u32> = links.iter().map(|link| link.index).collect();
        self.links.retain(|index, _| there.contains(index));
        for link in links {
            let Some(config) = self.config_of(&link) else { continue };
            let index = link.index;
            let known = self.links.get(&index);
            // An index is not used again soon, but a name can change its link and a link its address.
            if known.is_none_or(|known| known.name != link.name || known.mac != link.mac) {
                let managed = self.take(&link, config);
                self.links.insert(index, managed);
                self.apply(index);
            }
            let Some(known) = self.links.get_mut(&index) else { continue };
            let had = std::mem::replace(&mut known.carrier, link.is_up() && link.has_carrier());
            if known.carrier && !had {
                known.since_ms = now_ms();
                tracing::info!("{}: somebody is at the other end", known.name);
                self.apply(index);
                self.step(index, Event::Returned).await;
            } else if had && !known.carrier {
                tracing::warn!("{}: nobody is at the other end", known.name);
            }
        }
        Ok(())
    }

    /// Begins to manage a link.
    fn take(&mut self, link: &Link, config: LinkConfig) -> Managed {
        let mut managed = Managed {
            name: link.name.clone(),
            mac: link.mac.clone(),
            carrier: false,
            asked: !config.asks(),
            config,
            lent: None,
            since_ms: now_ms(),
            unprepared: None,
            unapplied: None,
        };
        managed.unprepared =
            self.prepare(link, &mut managed).err().map(|(step, error)| format!("{step}: {error}"));
        managed
    }

    fn prepare(&self, link: &Link, managed: &mut Managed) -> Result<(), (&'static str, io::Error)> {
        let off = Path::new("/proc/sys/net/ipv6/conf").join(&link.name).join("disable_ipv6");
        match std::fs::write(off, if managed.config.ipv6 { "0" } else { "1" }) {
            // A kernel without IPv6 has it switched off everywhere.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => other.map_err(|error| ("switch IPv6", error))?,
        }
        if !link.is_up() {
            let up = LinkChange { up: Some(true), ..LinkChange::default() };
            self.kernel.change_link(link.index, &up).map_err(|error| ("bring it up", error))?;
        }
        if managed.config.asks() {
            let mac = <[u8; 6]>::try_from(link.mac.as_slice());
            let mac = mac.map_err(|_| ("ask for an address", io::Error::other("it is no Ethernet link")))?;
            let socket = Socket::open(&link.name, link.index, self.heard.0.clone());
            let socket = socket.map_err(|error| ("open DHCP's socket", error))?;
            let client = Client::new(mac, hostname(), self.last_of(&link.name), now_ms());
            managed.lent = Some((client, socket));
        }
        Ok(())
    }

    /// Goes on with a link's client, and does what it wants.
    async fn step(&mut self, index: u32, event: Event<'_>) {
        let Some(link) = self.links.get_mut(&index) else { return };
        let Some((client, socket)) = &mut link.lent else { return };
        let had = client.lease().cloned();
        let actions = client.step(now_ms(), event, random());
        let mut changed = false;
        for action in actions {
            match action {
                Action::Send(message, to) => {
                    if let Err(error) = socket.send(&message, to).await {
                        tracing::warn!("{}: a DHCP message cannot be sent: {error}", link.name);
                    }
                }
                Action::Use(lease) => {
                    link.asked = true;
                    changed = true;
                    let name = link.name.clone();
                    tracing::info!(
                        "{name}: {}/{} from {} for {} s",
                        lease.address,
                        lease.bits,
                        lease.server,
                        lease.seconds
                    );
                    if had.as_ref().is_none_or(|had| !alike(had, &lease)) {
                        self.records.later(record(Kind::Config, &lease_entry("lent", &name, &lease, None)));
                    }
                }
                Action::GiveUp(lease, why) => {
                    link.asked = true;
                    changed = true;
                    let name = link.name.clone();
                    tracing::warn!("{name}: {} is given up: {why}", lease.address);
                    self.records
                        .later(record(Kind::Config, &lease_entry("given_up", &name, &lease, Some(&why))));
                }
            }
        }
        if changed {
            self.apply(index);
            self.remember();
        }
    }

    /// Makes a link have what it should.
    fn apply(&mut self, index: u32) {
        let Some(link) = self.links.get(&index) else { return };
        let lease = link.lent.as_ref().and_then(|(client, _)| {
            let left = client.ends_ms().map_or(u32::MAX, |ends| {
                u32::try_from(ends.saturating_sub(now_ms()) / 1000).unwrap_or(u32::MAX)
            });
            client.lease().map(|lease| (lease, left))
        });
        let wanted = core::desired(index, &link.config, lease);
        let trouble = self.reconcile(index, &wanted, link.asked).err();
        if let Some(link) = self.links.get_mut(&index) {
            if let Some(trouble) = &trouble {
                tracing::error!("{}: {trouble}", link.name);
            }
            link.unapplied = trouble;
        }
    }

    /// Tries every change, also behind one that fails; the first failure is the answer.
    fn reconcile(&self, index: u32, wanted: &core::Desired, asked: bool) -> Result<(), String> {
        let failed = |what: &str| {
            let what = what.to_owned();
            move |error: io::Error| format!("{what}: {error}")
        };
        let links = self.kernel.links().map_err(failed("list links"))?;
        let Some(link) = links.iter().find(|link| link.index == index) else { return Ok(()) };
        let addresses = self.kernel.addresses().map_err(failed("list addresses"))?;
        let routes = self.kernel.routes().map_err(failed("list routes"))?;
        let mut first = Ok(());
        for change in core::changes(index, wanted, link.mtu, &addresses, &routes, asked) {
            let done = match &change {
                Change::Mtu(mtu) => {
                    self.kernel.change_link(index, &LinkChange { mtu: Some(*mtu), ..LinkChange::default() })
                }
                Change::RemoveRoute(route) => gone(self.kernel.remove_route(route)),
                Change::RemoveAddress(address) => gone(self.kernel.remove_address(address)),
                Change::AddAddress(address) => self.kernel.add_address(address, true),
                Change::AddRoute(route) => there(self.kernel.add_route(route, false)),
            };
            if let Err(error) = done
                && first.is_ok()
                // Before somebody is at the other end the kernel takes no route; they are tried again then.
                && link.has_carrier()
            {
                first = Err(format!("{}: {error}", said(&change)));
            }
        }
        first
    }

    /// Writes resolv.conf when it changes, and what is wrong.
    fn publish(&mut self) {
        let leases: Vec<&Lease> = self
            .links
            .values()
            .filter_map(|link| link.lent.as_ref().and_then(|(client, _)| client.lease()))
            .collect();
        let resolver = core::resolver(&self.config, &leases);
        let times = leases.iter().flat_map(|lease| &lease.time_servers).map(|ip| IpAddr::from(*ip));
        let sources = (times.collect(), resolver.0.clone());
        if std::mem::replace(
            &mut *self.sources.now.lock().unwrap_or_else(PoisonError::into_inner),
            sources.clone(),
        ) != sources
        {
            self.sources.changed.notify_one();
        }
        let mut troubles: Vec<String> = self.links.values().filter_map(Managed::what_is_wrong).collect();
        troubles
            .extend(self.missing().into_iter().map(|name| format!("{name}: the machine has no such link")));
        if resolver != self.resolver || !self.places.resolv_conf.exists() {
            let text = core::resolv_conf(&resolver.0, &resolver.1);
            match replace(&self.places.resolv_conf, &text) {
                Ok(()) => self.resolver = resolver,
                Err(error) => troubles.push(format!("{}: {error}", self.places.resolv_conf.display())),
            }
        }
        *self.troubles.lock().unwrap_or_else(PoisonError::into_inner) = troubles;
    }

    fn missing(&self) -> Vec<String> {
        let names =
            self.config.links.keys().filter(|name| !self.links.values().any(|link| link.name == **name));
        names.cloned().collect()
    }

    fn status(&self) -> io::Result<NetworkStatus> {
        let (addresses, routes) = (self.kernel.addresses()?, self.kernel.routes()?);
        let links = self.links.iter().map(|(index, link)| {
            let addresses = addresses.iter().filter(|address| address.index == *index);
            let gateways = routes.iter().filter(|route| route.index == *index && route.to.1 == 0);
            LinkStatus {
                name: link.name.clone(),
                mac: link.mac.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":"),
                carrier: link.carrier,
                addresses: addresses.map(|address| format!("{}/{}", address.ip, address.bits)).collect(),
                gateways: gateways.filter_map(|route| route.via).collect(),
                dhcp: link.lent.as_ref().map(|(client, _)| dhcp(client)),
                trouble: link.what_is_wrong(),
            }
        });
        let (links, missing) = (links.collect(), self.missing());
        let (name_servers, search) = self.resolver.clone();
        // What is known of the time is another task's to say.
        Ok(NetworkStatus { links, name_servers, search, missing, ..NetworkStatus::default() })
    }

    /// The address that a link had when this service last ran.
    fn last_of(&self, name: &str) -> Option<std::net::Ipv4Addr> {
        let text = std::fs::read_to_string(&self.places.last).ok()?;
        let line = text.lines().find_map(|line| line.split_once(' ').filter(|(link, _)| *link == name))?;
        line.1.parse().ok()
    }

    fn remember(&self) {
        let lines = self.links.values().filter_map(|link| {
            let lease = link.lent.as_ref().and_then(|(client, _)| client.lease())?;
            Some(format!("{} {}\n", link.name, lease.address))
        });
        if let Err(error) = replace(&self.places.last, &lines.collect::<String>()) {
            tracing::warn!("{}: {error}", self.places.last.display());
        }
    }
}

impl Managed {
    fn until_ms(&self) -> Option<u64> {
        self.lent.as_ref().filter(|_| self.carrier).map(|(client, _)| client.until_ms())
    }

    fn what_is_wrong(&self) -> Option<String> {
        let name = &self.name;
        if let Some(trouble) = self.unprepared.as_ref().or(self.unapplied.as_ref()) {
            return Some(format!("{name}: {trouble}"));
        }
        if !self.carrier {
            return Some(format!("{name}: nobody is at the other end"));
        }
        let waits = self.lent.as_ref().is_some_and(|(client, _)| client.lease().is_none());
        let for_ms = now_ms().saturating_sub(self.since_ms);
        (waits && for_ms > PATIENCE_MS).then(|| format!("{name}: no DHCP server has answered"))
    }
}

fn dhcp(client: &Client) -> DhcpStatus {
    let state = match client.state() {
        State::Selecting => "selecting",
        State::Requesting(_) => "requesting",
        State::Bound(_) => "bound",
        State::Renewing(_) => "renewing",
        State::Rebinding(_) => "rebinding",
    };
    DhcpStatus {
        state: state.to_owned(),
        address: client.lease().map(|lease| lease.address),
        server: client.lease().map(|lease| lease.server),
        left_ms: client.ends_ms().map(|ends| ends.saturating_sub(now_ms())),
    }
}

/// Whether a lease says the same as the one before, but for its time.
fn alike(before: &Lease, lease: &Lease) -> bool {
    let timeless = |lease: &Lease| Lease { seconds: 0, ..lease.clone() };
    timeless(before) == timeless(lease)
}

fn lease_entry(what: &str, link: &str, lease: &Lease, why: Option<&str>) -> serde_json::Value {
    let routes: Vec<String> =
        lease.routes.iter().map(|((to, bits), via)| format!("{to}/{bits} through {via}")).collect();
    json!({
        "lease": what, "link": link, "address": format!("{}/{}", lease.address, lease.bits),
        "server": lease.server, "routes": routes, "name_servers": lease.name_servers,
        "seconds": lease.seconds, "why": why,
    })
}

fn said(change: &Change) -> String {
    let to = |to: &(IpAddr, u8)| format!("{}/{}", to.0, to.1);
    match change {
        Change::Mtu(mtu) => format!("set the longest packet to {mtu}"),
        Change::RemoveRoute(route) => format!("remove the route to {}", to(&route.to)),
        Change::RemoveAddress(address) => format!("remove {}/{}", address.ip, address.bits),
        Change::AddAddress(address) => format!("add {}/{}", address.ip, address.bits),
        Change::AddRoute(route) => format!("add the route to {}", to(&route.to)),
    }
}

/// What is gone already need not be taken away: an address takes its routes with it.
fn gone(result: io::Result<()>) -> io::Result<()> {
    let codes = [libc::ESRCH, libc::EADDRNOTAVAIL, libc::ENOENT];
    result.or_else(|error| {
        if error.raw_os_error().is_some_and(|code| codes.contains(&code)) { Ok(()) } else { Err(error) }
    })
}

fn there(result: io::Result<()>) -> io::Result<()> {
    result.or_else(|error| if error.raw_os_error() == Some(libc::EEXIST) { Ok(()) } else { Err(error) })
}

fn hostname() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    Some(name.trim().to_owned()).filter(|name| !name.is_empty() && name != "(none)" && name.len() <= 63)
}

fn watch(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    #[expect(
        deprecated,
        reason = "its replacement is unsafe for types that change their descriptor; this one keeps it"
    )]
    AsyncFd::with_interest(fd, Interest::READABLE)
}

/// Whoever reads sees the old text or the new one, whole.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let new = path.with_extension("new");
    std::fs::write(&new, text)?;
    std::fs::rename(new, path)
}
