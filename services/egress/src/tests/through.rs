//! Connections that are let through, that are not, and that are cut.

use super::{FREE, Line, World, alone, gate_of, lease, say};
use crate::hello::tests::{client_hello, record};
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use octant_api::agents::Amounts;
use octant_api::egress::Caps;
use octant_outside::Vet;
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const DB: &str = "tcp://db.example.org:5432";

async fn with_db(world: &World) -> Arc<std::sync::atomic::AtomicU64> {
    world.name("db.example.org", &["11.0.0.1"]);
    let count = world.echo("11.0.0.1:5432").await;
    world.admit(&[DB], &[], FREE).await;
    count
}

#[test]
fn a_granted_host_is_reached_and_everything_is_on_record() {
    alone(|world| async move {
        with_db(&world).await;
        for kind in [RecordType::A, RecordType::AAAA] {
            let address = world.ask("db.example.org.", kind).await.unwrap();
            let mut stream = world.dial((address, 5432).into()).await.unwrap();
            assert_eq!(say(&mut stream, b"hello", 5).await.unwrap(), b"hello");
            assert!(
                matches!(&world.lines()[0], Line::Intent(1, v) if v["host"] == "db.example.org" && v["rule"] == DB)
            );
            stream.shutdown().await.unwrap();
            assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0);
        }
        let end = world.outcome(|v| v["end"] == "closed").await;
        assert_eq!(
            (&end["bytes_out"], &end["bytes_in"], &end["address"]),
            (&5.into(), &5.into(), &"11.0.0.1:5432".into())
        );
        assert_eq!(world.client().rights().grants.len(), 1);
    });
}

#[test]
fn what_is_not_granted_is_not_reached_in_any_way() {
    alone(|world| async move {
        let count = with_db(&world).await;
        world.name("evil.org", &["11.0.0.1"]);
        assert_eq!(world.ask("evil.org.", RecordType::A).await, Err(ResponseCode::NXDomain));
        // An address that nobody asked for, one that stands for a name on another port, and the loopback itself.
        for to in ["198.18.7.7:5432", "127.0.0.1:5432", "[fd4f:6374:616e:7400::77]:5432"] {
            let mut stream = world.dial(to.parse().unwrap()).await.unwrap();
            let said = say(&mut stream, b"hello", 5).await;
            assert!(
                matches!(said, Err(ref e) if e.kind() == ErrorKind::ConnectionReset)
                    || said.unwrap().is_empty(),
                "{to}"
            );
        }
        assert!(world.connect("db.example.org.", 5433).await.is_err());
        assert_eq!(count.load(Ordering::Relaxed), 0);
        assert_eq!(world.outside.asked.load(Ordering::Relaxed), 0, "no name was asked for outside");
        assert!(world.lines().iter().all(|line| matches!(line, Line::Denied(_))), "{:?}", world.lines());
        assert_eq!(world.denied().len(), 4, "{:?}", world.denied());
    });
}

#[test]
fn a_thousand_names_are_refused_without_asking_anybody() {
    alone(|world| async move {
        with_db(&world).await;
        for n in 0..1000 {
            let name = format!("{n:x}.secret-data.evil.org.");
            assert_eq!(world.ask(&name, RecordType::TXT).await, Err(ResponseCode::NXDomain));
        }
        assert_eq!(world.outside.asked.load(Ordering::Relaxed), 0);
        assert!(world.denied().len() <= 256, "the ledger is not filled by it");
    });
}

#[test]
fn a_name_that_leads_inwards_is_refused_at_every_connection() {
    alone(|world| async move {
        world.admit(&[DB], &[], FREE).await;
        let canary = world.echo("127.0.0.1:5432").await;
        // A name whose addresses change between one question and the next.
        for (n, inwards) in
            ["127.0.0.1", "169.254.169.254", "10.0.0.1", "::1", "::ffff:127.0.0.1", "198.18.0.1"]
                .iter()
                .enumerate()
        {
            world.name("db.example.org", &[inwards]);
            let mut stream = world.connect("db.example.org.", 5432).await.unwrap();
            assert!(say(&mut stream, b"hello", 5).await.is_err(), "{inwards}");
            assert_eq!(world.denied().len(), n + 1, "{:?}", world.denied());
        }
        assert_eq!(canary.load(Ordering::Relaxed), 0);
        world.outcome(|v| v["done"] == false && v["end"].as_str().unwrap().starts_with("denied")).await;
    });
}

#[test]
fn the_machine_itself_is_not_reached_by_any_of_its_addresses() {
    alone(|world| async move {
        // 11.0.0.1 is the machine's own here; without the configuration's word it is not connected to.
        let start = Box::new(Arc::clone(&world.copies));
        let strict = gate_of(&world.ledger, &world.outside, &world.vault, Vet::default(), start, "");
        let world = World { gate: Arc::new(strict), ..world };
        let count = with_db(&world).await;
        let mut stream = world.connect("db.example.org.", 5432).await.unwrap();
        assert!(say(&mut stream, b"hello", 5).await.is_err());
        assert_eq!(count.load(Ordering::Relaxed), 0);
        assert!(world.denied()[0].contains("this machine"), "{:?}", world.denied());
    });
}

#[test]
fn tls_goes_to_the_server_that_it_names_and_to_no_other() {
    alone(|world| async move {
        world.name("api.example.org", &["11.0.0.2"]);
        let count = world.echo("11.0.0.2:443").await;
        world.admit(&["tls://api.example.org:443"], &[], FREE).await;
        let good = record(&client_hello(&[b"api.example.org"]));
        for cut in [1, 5, 20, good.len()] {
            let mut stream = world.connect("api.example.org.", 443).await.unwrap();
            stream.set_nodelay(true).unwrap();
            stream.write_all(&good[..cut]).await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
            assert_eq!(say(&mut stream, &good[cut..], good.len()).await.unwrap(), good, "{cut}");
        }
        assert_eq!(count.load(Ordering::Relaxed), 4);
        let http = b"GET / HTTP/1.1\r\nHost: api.example.org\r\n\r\n".to_vec();
        let bad = [
            record(&client_hello(&[b"evil.org"])),
            record(&client_hello(&[b"api.example.org.evil.org"])),
            record(&client_hello(&[])),
            record(&client_hello(&[b"api.example.org", b"evil.org"])),
            http,
            b"\x16\x03\x01garbage garbage garbage".to_vec(),
        ];
        for bytes in bad {
            let mut stream = world.connect("api.example.org.", 443).await.unwrap();
            assert!(say(&mut stream, &bytes, 1).await.map_or(true, |b| b.is_empty()), "{bytes:?}");
        }
        assert_eq!(count.load(Ordering::Relaxed), 4);
        assert!(world.denied().len() >= 5, "{:?}", world.denied());
    });
}

#[test]
fn what_the_ledger_does_not_take_is_not_done() {
    alone(|world| async move {
        let count = with_db(&world).await;
        world.ledger.broken.store(true, Ordering::Relaxed);
        let mut stream = world.connect("db.example.org.", 5432).await.unwrap();
        assert!(say(&mut stream, b"hello", 5).await.is_err());
        assert_eq!((count.load(Ordering::Relaxed), world.outside.asked.load(Ordering::Relaxed)), (0, 0));
    });
}

/// Whether a connection dies while it is waited for.
async fn dies(stream: &mut TcpStream) -> bool {
    let end = tokio::time::timeout(Duration::from_secs(5), async {
        let mut buffer = [0; 4096];
        loop {
            match stream.read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        }
    });
    end.await.is_ok()
}

#[test]
fn what_is_revoked_is_cut_while_it_runs() {
    alone(|world| async move {
        world.name("db.example.org", &["11.0.0.1"]);
        world.echo("11.0.0.1:5432").await;
        world.admit(&[], &[lease("l1", DB, 60_000)], FREE).await;
        let mut stream = world.connect("db.example.org.", 5432).await.unwrap();
        assert_eq!(say(&mut stream, b"hello", 5).await.unwrap(), b"hello");
        // A word that keeps the lease keeps the connection.
        assert_eq!(
            world.admit(&[], &[lease("l1", DB, 60_000), lease("l2", "tcp://x.example.org:1", 9)], FREE).await,
            0
        );
        assert_eq!(say(&mut stream, b"again", 5).await.unwrap(), b"again");
        assert_eq!(world.admit(&[], &[], FREE).await, 1);
        assert!(dies(&mut stream).await);
        let end = world.outcome(|v| v["done"] == true).await;
        assert!(end["end"].as_str().unwrap().contains("gone"), "{end}");
        assert_eq!(world.gate.list(None)[0].open_count, 0);
        assert!(world.connect("db.example.org.", 5432).await.is_err(), "nothing listens there any more");
    });
}

#[test]
fn a_lease_ends_by_itself_and_so_do_its_connections() {
    alone(|world| async move {
        world.name("db.example.org", &["11.0.0.1"]);
        world.echo("11.0.0.1:5432").await;
        world.admit(&[], &[lease("l1", DB, 700)], FREE).await;
        let mut stream = world.connect("db.example.org.", 5432).await.unwrap();
        assert_eq!(say(&mut stream, b"hello", 5).await.unwrap(), b"hello");
        assert!(dies(&mut stream).await);
        assert_eq!(world.ask("db.example.org.", RecordType::A).await, Err(ResponseCode::NXDomain));
    });
}

#[test]
fn the_end_of_an_agent_is_the_end_of_its_connections_and_listeners() {
    alone(|world| async move {
        with_db(&world).await;
        let mut stream = world.connect("db.example.org.", 5432).await.unwrap();
        assert_eq!(say(&mut stream, b"hello", 5).await.unwrap(), b"hello");
        let (usage, drawn) = world.gate.dismiss(world.aid);
        assert_eq!(drawn, None, "what has no budget draws nothing");
        assert_eq!((usage.connections, usage.bytes_out, usage.bytes_in), (1, 5, 5));
        assert!(dies(&mut stream).await);
        let socket = world.datagrams();
        socket.connect("127.0.0.53:53").await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        let _ = socket.send(b"x").await;
        assert_eq!(socket.recv(&mut [0; 8]).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
        assert!(world.dial("127.0.0.1:1080".parse().unwrap()).await.is_err());
        assert!(world.gate.list(None).is_empty());
    });
}

#[test]
fn caps_hold_to_the_byte() {
    alone(|world| async move {
        world.name("db.example.org", &["11.0.0.1"]);
        world.echo("11.0.0.1:5432").await;
        let caps = Caps { bytes: Some(100_000), ..FREE };
        world.admit(&[DB], &[], caps).await;
        let mut stream = world.connect("db.example.org.", 5432).await.unwrap();
        let sending = vec![7; 1 << 20];
        let (mut read, mut write) = stream.split();
        let both = async {
            tokio::join!(write.write_all(&sending), async {
                let (mut all, mut buffer) = (0, vec![0; 65_536]);
                while let Ok(count @ 1..) = read.read(&mut buffer).await {
                    all += count;
                }
                all
            })
        };
        let (_, back) = both.await;
        let end = world.outcome(|v| v["done"] == true).await;
        let (out, into) = (end["bytes_out"].as_u64().unwrap(), end["bytes_in"].as_u64().unwrap());
        assert_eq!(out + into, 100_000, "{end}");
        assert!(back as u64 <= into);
        assert!(end["end"].as_str().unwrap().contains("100000"), "{end}");
        // And no new connection brings more.
        let mut again = world.connect("db.example.org.", 5432).await.unwrap();
        assert!(say(&mut again, b"x", 1).await.is_err());
    });
}

/// Answers what the gate asks, out of so much in all.
pub(super) fn answers(world: &World, total: Amounts) {
    let (gate, aid) = (Arc::clone(&world.gate), world.aid);
    tokio::spawn(async move {
        loop {
            let Some(client) = gate.client(aid) else { return };
            gate.questions().iter().for_each(|(_, draw)| client.fund(draw.want.zip(total, u64::min)));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
}

#[test]
fn a_budget_holds_to_the_byte_and_to_the_request() {
    alone(|world| async move {
        world.name("db.example.org", &["11.0.0.1"]);
        world.echo("11.0.0.1:5432").await;
        world.admit(&[DB], &[], Caps { drawn: true, ..FREE }).await;
        answers(&world, Amounts { bytes: 1_500_001, requests: 3, ..Amounts::default() });
        for _ in 0..2 {
            let mut stream = world.connect("db.example.org.", 5432).await.unwrap();
            assert_eq!(say(&mut stream, b"hello", 5).await.unwrap(), b"hello");
        }
        let mut stream = world.connect("db.example.org.", 5432).await.unwrap();
        let (mut read, mut write) = stream.split();
        let sending = vec![7; 4 << 20];
        let all = async {
            let mut buffer = vec![0; 65_536];
            while read.read(&mut buffer).await.is_ok_and(|count| count > 0) {}
        };
        let _ = tokio::join!(write.write_all(&sending), all);
        let end = world.outcome(|v| v["end"].as_str().is_some_and(|end| end.contains("network.bytes"))).await;
        let sum = end["bytes_out"].as_u64().unwrap() + end["bytes_in"].as_u64().unwrap();
        assert_eq!(sum, 1_500_001 - 20, "{end}");
        let mut fourth = world.connect("db.example.org.", 5432).await.unwrap();
        assert!(say(&mut fourth, b"x", 1).await.map_or(true, |got| got.is_empty()), "three are three");
        let (_, drawn) = world.gate.dismiss(world.aid);
        let drawn = drawn.unwrap();
        assert_eq!((drawn.bytes, drawn.requests), (1_500_001, 3));
    });
}

#[test]
fn an_agent_has_so_many_connections_and_no_more() {
    alone(|world| async move {
        world.name("db.example.org", &["11.0.0.1"]);
        world.echo("11.0.0.1:5432").await;
        world.admit(&[DB], &[], Caps { connections: 3, ..FREE }).await;
        let mut open = Vec::new();
        for _ in 0..3 {
            let mut stream = world.connect("db.example.org.", 5432).await.unwrap();
            assert_eq!(say(&mut stream, b"hello", 5).await.unwrap(), b"hello");
            open.push(stream);
        }
        // Who says nothing at all has a place too.
        for port in [5432, 1080, 3128] {
            let mut stream = world.dial(([127, 0, 0, 1], port).into()).await.unwrap();
            assert!(say(&mut stream, b"hello", 5).await.map_or(true, |b| b.is_empty()), "{port}");
        }
        open.pop();
        tokio::time::sleep(Duration::from_millis(100)).await;
        let mut stream = world.connect("db.example.org.", 5432).await.unwrap();
        assert_eq!(say(&mut stream, b"hello", 5).await.unwrap(), b"hello");
    });
}

#[test]
fn socks_decides_as_any_other_way() {
    alone(|world| async move {
        let count = with_db(&world).await;
        let request = |name: &str| {
            let mut bytes = vec![5, 1, 0, 3, u8::try_from(name.len()).unwrap()];
            bytes.extend(name.as_bytes());
            bytes.extend(5432_u16.to_be_bytes());
            bytes
        };
        let mut stream = world.dial("127.0.0.1:1080".parse().unwrap()).await.unwrap();
        assert_eq!(say(&mut stream, &[5, 1, 0], 2).await.unwrap(), [5, 0]);
        assert_eq!(say(&mut stream, &request("DB.example.org."), 10).await.unwrap()[1], 0);
        assert_eq!(say(&mut stream, b"hello", 5).await.unwrap(), b"hello");
        for name in [
            "evil.org",
            "11.0.0.1",
            "127.0.0.1",
            "0x7f.1",
            "2130706433",
            "db.example.org\0.evil.org",
            "localhost",
        ] {
            let mut stream = world.dial("127.0.0.1:1080".parse().unwrap()).await.unwrap();
            assert_eq!(say(&mut stream, &[5, 1, 0], 2).await.unwrap(), [5, 0]);
            assert_eq!(say(&mut stream, &request(name), 10).await.unwrap()[1], 2, "{name}");
        }
        assert_eq!(count.load(Ordering::Relaxed), 1);
        let mut fourth = world.dial("127.0.0.1:1080".parse().unwrap()).await.unwrap();
        assert_eq!(say(&mut fourth, &[4, 1, 0, 80, 11, 0, 0, 1, 0], 2).await.unwrap(), [5, 0xff]);
    });
}
