//! The outside of the gate's bench: a network with names and servers, all of it on the loopback of a namespace of its own.
//!
//! A thread for each server and for each connection: the simplest that is not slower than what is measured.

use crate::gate_client::{NAME, NONE, head_of};
use crate::vault::text;
use nix::fcntl::{SpliceFFlags, splice};
use octant_sys::clock::monotonic_ns;
use octant_sys::netlink;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

/// Where every name leads to, and who says so.
pub(crate) const HOST: Ipv4Addr = Ipv4Addr::new(11, 0, 0, 2);
pub(crate) const NAME_SERVER: Ipv4Addr = Ipv4Addr::new(11, 0, 0, 53);

/// A byte comes back.
pub(crate) const ECHO: u16 = 7001;
/// Eight bytes say how many come back.
pub(crate) const SOURCE: u16 = 7002;
/// The same behind a plain proxy.
pub(crate) const SPLICED: u16 = 7003;
/// A byte comes back, and then the end is waited for.
pub(crate) const HELD: u16 = 7004;
/// HTTP/1.1 over TLS: the path says how many bytes.
pub(crate) const WEB: u16 = 443;

/// The secret, which nobody inside has; who goes straight says [`NONE`].
pub(crate) const VALUE: &str = "a-secret-of-the-bench";

/// What the bench asks of the outside.
pub(crate) struct Outside {
    /// The authority that vouches for [`NAME`], as PEM.
    pub(crate) authority: String,
    /// Connections that [`HELD`] has open.
    pub(crate) held: Arc<AtomicUsize>,
    /// Which connection of [`HELD`] ended when: the byte that it said, and the clock.
    pub(crate) ends: Receiver<(u8, u64)>,
}

impl Outside {
    /// Puts the calling thread, and all that it starts from here on, into a network of its own, and serves there.
    pub(crate) fn new() -> Result<Self, String> {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).map_err(|e| format!("a network: {e}"))?;
        netlink::loopback_up().map_err(|e| format!("loopback: {e}"))?;
        netlink::local_route(Ipv4Addr::new(11, 0, 0, 0).into(), 8).map_err(|e| format!("11.0.0.0/8: {e}"))?;
        let names = UdpSocket::bind((NAME_SERVER, 53)).map_err(|e| format!("{NAME_SERVER}:53: {e}"))?;
        std::thread::spawn(move || answer(&names));
        serve(ECHO, |mut stream| {
            let mut byte = [0];
            while stream.read(&mut byte).is_ok_and(|count| count == 1) && stream.write_all(&byte).is_ok() {}
        })?;
        serve(SOURCE, |mut stream| {
            let mut wanted = [0; 8];
            if stream.read_exact(&mut wanted).is_ok() {
                fill(&mut stream, u64::from_be_bytes(wanted));
            }
        })?;
        serve(SPLICED, |stream| {
            if let Ok(source) = TcpStream::connect((HOST, SOURCE)) {
                pass_on(&stream, &source);
            }
        })?;
        let (held, (tell, ends)) = (Arc::new(AtomicUsize::new(0)), channel());
        hold(Arc::clone(&held), tell)?;
        let (authority, config) = certificate()?;
        serve(WEB, move |stream| web(&config, stream))?;
        Ok(Self { authority, held, ends })
    }
}

/// A thread for each connection to a port.
fn serve(port: u16, with: impl Fn(TcpStream) + Send + Sync + 'static) -> Result<(), String> {
    let listener = TcpListener::bind((HOST, port)).map_err(|e| format!("{HOST}:{port}: {e}"))?;
    let with = Arc::new(with);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let with = Arc::clone(&with);
            std::thread::spawn(move || {
                if stream.set_nodelay(true).is_ok() {
                    with(stream);
                }
            });
        }
    });
    Ok(())
}

/// Answers each question for an address with the same one (RFC 1035), and no other question.
fn answer(socket: &UdpSocket) {
    let mut packet = [0; 512];
    while let Ok((count, from)) = socket.recv_from(&mut packet) {
        let labels = packet[..count].get(12..).unwrap_or_default();
        let Some(end) = labels.iter().position(|byte| *byte == 0) else { continue };
        let Some(question) = labels.get(..end + 5) else { continue };
        let asks_address = question.ends_with(&[0, 1, 0, 1]);
        let mut said = packet[..2].to_vec();
        said.extend([0x81, 0x80, 0, 1, 0, u8::from(asks_address), 0, 0, 0, 0]);
        said.extend(question);
        if asks_address {
            // A life of an hour: names are not what is measured.
            said.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 14, 16, 0, 4]);
            said.extend(HOST.octets());
        }
        // Who does not get it asks again.
        let _sent = socket.send_to(&said, from);
    }
}

fn fill(to: &mut impl Write, bytes: u64) {
    let chunk = vec![b'x'; 256 << 10];
    let mut left = bytes;
    while left > 0 {
        let count = usize::try_from(left).unwrap_or(chunk.len()).min(chunk.len());
        if to.write_all(&chunk[..count]).is_err() {
            return;
        }
        left -= count as u64;
    }
}

/// A plain proxy: splice(2) both ways, nothing looked at and nothing counted.
fn pass_on(one: &TcpStream, other: &TcpStream) {
    std::thread::scope(|scope| {
        scope.spawn(|| one_way(one, other));
        one_way(other, one);
    });
}

fn one_way(from: &TcpStream, to: &TcpStream) {
    const MOST: usize = 1 << 20;
    if let Ok((read, write)) = std::io::pipe() {
        // The most that anybody may have; less is only slower.
        let _size = nix::fcntl::fcntl(&write, nix::fcntl::FcntlArg::F_SETPIPE_SZ(1 << 20));
        while let Ok(count @ 1..) = splice(from, None, &write, None, MOST, SpliceFFlags::SPLICE_F_MOVE) {
            let mut left = count;
            while left > 0 {
                match splice(&read, None, to, None, left, SpliceFFlags::SPLICE_F_MOVE) {
                    Ok(done @ 1..) => left -= done,
                    _ => return,
                }
            }
        }
    }
    let _other_way_may_go_on = to.shutdown(Shutdown::Write);
}

/// Connections that are held: one thread takes them; each end is waited for by a thread only where it is looked for, by
/// [`Outside::ends`], since ten thousand threads would be what is measured.
fn hold(held: Arc<AtomicUsize>, tell: Sender<(u8, u64)>) -> Result<(), String> {
    let address = SocketAddr::from((HOST, HELD));
    let listener = TcpListener::bind(address).map_err(|e| format!("{address}: {e}"))?;
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        for mut stream in listener.incoming().flatten() {
            let mut byte = [0];
            if stream.read_exact(&mut byte).is_err() || stream.write_all(&byte).is_err() {
                continue;
            }
            let before = held.fetch_add(1, Ordering::Relaxed);
            if before < WATCHED {
                let tell = tell.clone();
                std::thread::spawn(move || {
                    // The end, or a reset.
                    let _end = stream.read(&mut [0]);
                    // Who does not listen any more has what it needs.
                    let _told = tell.send((byte[0], monotonic_ns()));
                });
            } else {
                kept.push(stream);
            }
        }
    });
    Ok(())
}

/// How many of the first held connections are watched for their end.
const WATCHED: usize = 200;

/// An authority, and how to serve with a certificate of its own.
fn certificate() -> Result<(String, Arc<ServerConfig>), String> {
    let key = KeyPair::generate().map_err(text)?;
    let mut authority = CertificateParams::new(Vec::new()).map_err(text)?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    // Named apart from what it signs: with one name for both, the certificate passes for one that signs itself.
    authority.distinguished_name.push(DnType::CommonName, "the authority of the bench");
    let pem = authority.self_signed(&key).map_err(text)?.pem();
    let issuer = Issuer::new(authority, key);
    let key = KeyPair::generate().map_err(text)?;
    let params = CertificateParams::new(vec![NAME.to_owned()]).map_err(text)?;
    let certificate = params.signed_by(&key, &issuer).map_err(text)?;
    let private = PrivateKeyDer::try_from(key.serialize_der()).map_err(text)?;
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], private)
        .map_err(text)?;
    Ok((pem, Arc::new(config)))
}

/// Requests one after another on one connection.
fn web(config: &Arc<ServerConfig>, stream: TcpStream) {
    let Ok(session) = ServerConnection::new(Arc::clone(config)) else { return };
    let mut stream = StreamOwned::new(session, stream);
    while let Ok(head) = head_of(&mut stream) {
        let path = head.split(' ').nth(1).and_then(|path| path.strip_prefix('/'));
        let bytes = path.and_then(|path| path.parse().ok()).unwrap_or(0);
        let known = [VALUE, NONE].iter().any(|key| head.contains(&format!("Bearer {key}\r\n")));
        let status = if known { "200 OK" } else { "403 Forbidden" };
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: {bytes}\r\n\r\n");
        if stream.write_all(head.as_bytes()).is_err() {
            return;
        }
        fill(&mut stream, bytes);
        if stream.flush().is_err() {
            return;
        }
    }
}
