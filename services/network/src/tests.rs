//! The service's task against the real kernel, in network namespaces that the tests make; needs root.

mod process;

use crate::config::NetworkConfig;
use crate::manager::{Command, Manager, Places, Troubles};
use nix::sched::{CloneFlags, unshare};
use octant_api::ledger::Kind as Entry;
use octant_api::network::NetworkStatus;
use octant_net::dhcp::{CLIENT_PORT, Kind, MESSAGE_MAX, Message, SERVER_PORT};
use octant_net::kernel::{Address, Kernel, LinkChange};
use octant_service::Records;
use octant_wire::Client;
use std::future::Future;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, mpsc as channel};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

const SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// A DHCP server at the other end, in a network of its own.
struct Server {
    /// The last number of the address that it lends.
    host: AtomicU8,
    /// Whether it refuses what it is asked.
    refuses: AtomicBool,
    ends: AtomicBool,
}

/// What is in the test's network: `a` is the machine's link, and behind it is the server's.
struct World {
    kernel: Kernel,
    server: Arc<Server>,
    dir: PathBuf,
    records: Arc<Records>,
    troubles: Troubles,
    serving: Option<std::thread::JoinHandle<()>>,
}

impl World {
    fn new(name: &str) -> Self {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        let kernel = Kernel::open().unwrap();
        kernel.add_link("a", "veth", Some("b")).unwrap();
        for link in ["all", "a"] {
            // Where the machine is stricter, a new network is too, and answers before there is an address are not heard.
            std::fs::write(format!("/proc/sys/net/ipv4/conf/{link}/rp_filter"), "0").unwrap();
        }
        let server = Arc::new(Server {
            host: AtomicU8::new(50),
            refuses: AtomicBool::new(false),
            ends: AtomicBool::new(false),
        });
        let (ready, readied) = channel::channel();
        let (moved, waits) = channel::channel::<()>();
        let serves = Arc::clone(&server);
        let serving = std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            ready.send(nix::unistd::gettid()).unwrap();
            waits.recv().unwrap();
            serves.serve();
        });
        let thread = readied.recv().unwrap();
        let other = kernel.link("b").unwrap().index;
        let away =
            LinkChange { namespace_of: Some(thread.as_raw().cast_unsigned()), ..LinkChange::default() };
        kernel.change_link(other, &away).unwrap();
        moved.send(()).unwrap();
        let dir = std::env::temp_dir().join(format!("octant-network-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let records = Arc::new(Records::new(Client::new(dir.join("no-ledger"))));
        Self { kernel, server, dir, records, troubles: Troubles::default(), serving: Some(serving) }
    }

    /// Runs the service's task beside what the test does with it.
    fn run<F: Future<Output = ()>>(
        &self,
        config: serde_json::Value,
        work: impl FnOnce(mpsc::Sender<Command>) -> F,
    ) {
        let config: NetworkConfig = serde_json::from_value(config).unwrap();
        config.check().unwrap();
        let places = Places { resolv_conf: self.dir.join("resolv.conf"), last: self.dir.join("addresses") };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let manager = Manager::new(
                config,
                Arc::clone(&self.records),
                places,
                Arc::clone(&self.troubles),
                Arc::default(),
            )
            .unwrap();
            let (sender, receiver) = mpsc::channel(4);
            let (ended, ()) = tokio::join!(manager.run(receiver), work(sender));
            ended.unwrap();
        });
    }

    fn resolv_conf(&self) -> String {
        std::fs::read_to_string(self.dir.join("resolv.conf")).unwrap_or_default()
    }

    /// What went on record, in short.
    fn on_record(&self) -> Vec<String> {
        let entries = self.records.left().waiting.into_iter().map(|entry| {
            assert_eq!(entry.kind, Entry::Config);
            let entry: serde_json::Value = serde_json::from_str(entry.payload.text()).unwrap();
            format!("{} {}", entry["lease"].as_str().unwrap(), entry["address"].as_str().unwrap())
        });
        entries.collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.server.ends.store(true, Ordering::SeqCst);
        if let Some(serving) = self.serving.take() {
            let _failed_already = serving.join();
        }
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

impl Server {
    fn serve(&self) {
        let kernel = Kernel::open().unwrap();
        let link = kernel.link("b").unwrap().index;
        kernel.change_link(link, &LinkChange { up: Some(true), ..LinkChange::default() }).unwrap();
        kernel.add_address(&Address::new(link, SERVER.into(), 24), false).unwrap();
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, SERVER_PORT)).unwrap();
        nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::BindToDevice, &"b".into()).unwrap();
        socket.set_broadcast(true).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let mut buffer = [0; MESSAGE_MAX];
        while !self.ends.load(Ordering::SeqCst) {
            let Ok((length, _)) = socket.recv_from(&mut buffer) else { continue };
            let Some(asked) = Message::of_bytes(&buffer[..length]) else { continue };
            let answer = self.answer(&asked);
            let to = if asked.client.is_unspecified() { Ipv4Addr::BROADCAST } else { asked.client };
            // Noise first: not for this client, and not a message at all.
            let mut wrong = answer.clone();
            wrong.transaction ^= 1;
            for bytes in [wrong.to_bytes(), vec![2; 300], answer.to_bytes()] {
                socket.send_to(&bytes, (to, CLIENT_PORT)).unwrap();
            }
        }
    }

    fn answer(&self, asked: &Message) -> Message {
        let refuses = self.refuses.load(Ordering::SeqCst) && asked.kind == Kind::Request;
        let kind = match asked.kind {
            _ if refuses => Kind::Nak,
            Kind::Discover => Kind::Offer,
            _ => Kind::Ack,
        };
        let mut answer = Message::new(kind, asked.transaction, asked.mac);
        (answer.reply, answer.server) = (true, Some(SERVER));
        if !refuses {
            answer.yours = Ipv4Addr::new(192, 0, 2, self.host.load(Ordering::SeqCst));
            answer.mask = Some(Ipv4Addr::new(255, 255, 255, 0));
            answer.routers = vec![SERVER];
            answer.name_servers = vec![Ipv4Addr::new(192, 0, 2, 53)];
            (answer.lease_s, answer.domain, answer.mtu) =
                (Some(3_600), Some("example.org".into()), Some(1_400));
        }
        answer
    }
}

/// In a thread of its own: the network namespace is a thread's.
fn apart(name: &'static str, work: impl FnOnce(World) + Send + 'static) {
    std::thread::spawn(move || work(World::new(name))).join().unwrap();
}

async fn status(commands: &mpsc::Sender<Command>) -> NetworkStatus {
    let (answer, answered) = oneshot::channel();
    commands.send(Command::Status(answer)).await.unwrap();
    answered.await.unwrap().unwrap()
}

/// Asks until it is so.
async fn until(
    commands: &mpsc::Sender<Command>,
    what: &str,
    so: impl Fn(&NetworkStatus) -> bool,
) -> NetworkStatus {
    let mut last = NetworkStatus::default();
    for _ in 0..1_000 {
        last = status(commands).await;
        if so(&last) {
            return last;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("never {what}: {last:?}");
}

async fn renew(commands: &mpsc::Sender<Command>) -> Vec<String> {
    let (answer, answered) = oneshot::channel();
    commands.send(Command::Renew(None, answer)).await.unwrap();
    answered.await.unwrap()
}

fn has(status: &NetworkStatus, address: &str) -> bool {
    status.links.iter().any(|link| link.addresses.iter().any(|has| has == address))
}

#[test]
fn what_is_lent_is_used_renewed_changed_and_given_up() {
    apart("lent", |world| {
        world.run(serde_json::json!({"links": {"a": {}}}), |commands| async {
            let commands = commands;
            let now = until(&commands, "connected", |now| has(now, "192.0.2.50/24")).await;
            let link = &now.links[0];
            assert!(link.carrier && link.trouble.is_none(), "{link:?}");
            assert_eq!(link.gateways, [std::net::IpAddr::from(SERVER)]);
            let lent = link.dhcp.clone().unwrap();
            assert_eq!((lent.state.as_str(), lent.server), ("bound", Some(SERVER)));
            assert!(lent.left_ms.is_some_and(|left| left <= 3_600_000 && left > 3_000_000));
            let index = world.kernel.link("a").unwrap();
            assert_eq!(index.mtu, 1_400);
            let address =
                world.kernel.addresses().unwrap().into_iter().find(|at| at.ip.to_string() == "192.0.2.50");
            assert!(address.is_some_and(|at| at.lifetime.0 <= 3_600), "it ends by itself");
            assert!(world.resolv_conf().ends_with("search example.org\nnameserver 192.0.2.53\n"));

            // The same again changes nothing and leaves no entry; another address takes the place of the first.
            assert_eq!(renew(&commands).await, ["a"]);
            until(&commands, "renewed", |now| now.links[0].dhcp.as_ref().unwrap().state == "bound").await;
            world.server.host.store(51, Ordering::SeqCst);
            renew(&commands).await;
            let now = until(&commands, "another", |now| has(now, "192.0.2.51/24")).await;
            assert!(!has(&now, "192.0.2.50/24") && !now.links[0].gateways.is_empty(), "{now:?}");

            world.server.refuses.store(true, Ordering::SeqCst);
            renew(&commands).await;
            let now = until(&commands, "refused", |now| !has(now, "192.0.2.51/24")).await;
            assert_eq!(now.links[0].dhcp.as_ref().unwrap().address, None);
            assert!(now.links[0].gateways.is_empty() && !world.resolv_conf().contains("nameserver"));
        });
        let expected =
            ["lent 192.0.2.50/24", "given_up 192.0.2.50/24", "lent 192.0.2.51/24", "given_up 192.0.2.51/24"];
        assert_eq!(world.on_record(), expected);
    });
}

#[test]
fn a_cable_that_is_pulled_and_put_back_has_the_network_asked_again() {
    apart("cable", |world| {
        world.run(serde_json::json!({"links": {"a": {}, "absent": {}}}), |commands| async {
            let commands = commands;
            let now = until(&commands, "connected", |now| has(now, "192.0.2.50/24")).await;
            assert_eq!(now.missing, ["absent"]);
            assert!(world.troubles.lock().unwrap().iter().any(|why| why.starts_with("absent: ")));
            let index = world.kernel.link("a").unwrap().index;
            let set =
                |up| world.kernel.change_link(index, &LinkChange { up: Some(up), ..LinkChange::default() });
            set(false).unwrap();
            let now = until(&commands, "unplugged", |now| !now.links[0].carrier).await;
            assert!(now.links[0].trouble.as_ref().is_some_and(|why| why.contains("nobody")));
            // Meanwhile it is another network.
            world.server.host.store(60, Ordering::SeqCst);
            set(true).unwrap();
            let now = until(&commands, "connected again", |now| has(now, "192.0.2.60/24")).await;
            assert!(!has(&now, "192.0.2.50/24") && !now.links[0].gateways.is_empty());
        });
    });
}

#[test]
fn what_the_configuration_names_is_there_and_what_was_left_behind_is_not() {
    apart("static", |world| {
        let index = world.kernel.link("a").unwrap().index;
        world.kernel.add_address(&Address::new(index, "203.0.113.9".parse().unwrap(), 24), false).unwrap();
        let config = serde_json::json!({"name_servers": ["9.9.9.9"], "links": {"a": {
            "addresses": ["192.0.2.9/24", "2001:db8::9/64"],
            "routes": [{"via": "192.0.2.1"}, {"via": "2001:db8::1"}, {"to": "10.0.0.0/8", "via": "192.0.2.1"}]}}});
        world.run(config, |commands| async {
            let commands = commands;
            let now = until(&commands, "both gateways", |now| {
                now.links[0].gateways.len() == 2 && now.links[0].carrier
            })
            .await;
            assert!(has(&now, "192.0.2.9/24") && has(&now, "2001:db8::9/64") && !has(&now, "203.0.113.9/24"));
            assert!(now.links[0].dhcp.is_none() && now.links[0].trouble.is_none(), "{now:?}");
            assert!(renew(&commands).await.is_empty());
            let routes = world.kernel.routes().unwrap();
            assert!(routes.iter().any(|route| route.to == ("10.0.0.0".parse().unwrap(), 8)));
            assert!(world.resolv_conf().ends_with(".\nnameserver 9.9.9.9\n"));
        });
        assert!(world.on_record().is_empty(), "the configuration is on record as such");
    });
}

#[test]
fn without_ipv6_a_link_has_no_address_of_it() {
    apart("v4only", |world| {
        let config = serde_json::json!({"links": {"a": {"ipv6": false, "addresses": ["192.0.2.9/24"]}}});
        world.run(config, |commands| async {
            let commands = commands;
            let now =
                until(&commands, "its address", |now| has(now, "192.0.2.9/24") && now.links[0].carrier).await;
            assert_eq!(now.links[0].addresses, ["192.0.2.9/24"]);
        });
    });
}
