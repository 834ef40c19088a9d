//! What runs inside a workstation, and outside beside it: the same program, so that both are measured alike.
//!
//! `gate-client WORK HOST PORT COUNT BYTES [PROXY]` prints one figure a line. Times are differences of this program's own clock,
//! so that it does not matter that clocks inside begin at zero.

use crate::vault::text;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use octant_api::unit::COPIES;
use octant_sys::clock::monotonic_ns;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::Duration;

/// The name in the certificate of the bench's server, whatever the way to it.
pub(crate) const NAME: &str = "api.bench.example.org";
/// What stands for the secret, inside.
const PLACEHOLDER: &str = "OCTANT_SECRET_BENCH_KEY";
/// The key of who has none.
pub(crate) const NONE: &str = "none";
/// Certificates that are trusted: where they are.
pub(crate) const ROOTS: &str = "SSL_CERT_FILE";
/// Who answers questions for names inside.
const NAME_SERVER: &str = "127.0.0.53:53";
/// How often a name is asked for that has no address yet.
const AGAIN: usize = 600;
const BUFFER: usize = 256 << 10;

/// Where to, and how.
#[derive(Clone)]
struct Way {
    host: String,
    to: SocketAddr,
    proxy: Option<SocketAddr>,
}

impl Way {
    fn new(host: &str, port: u16, proxy: Option<SocketAddr>) -> Result<Self, String> {
        let address = host.parse().or_else(|_| address_of(host))?;
        Ok(Self { host: host.to_owned(), to: (address, port).into(), proxy })
    }

    fn connect(&self) -> Result<TcpStream, String> {
        let first = self.proxy.unwrap_or(self.to);
        let mut stream = TcpStream::connect(first).map_err(|e| format!("{} at {first}: {e}", self.host))?;
        stream.set_nodelay(true).map_err(text)?;
        if self.proxy.is_some() {
            let to = format!("{}:{}", self.host, self.to.port());
            stream
                .write_all(format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\n").as_bytes())
                .map_err(text)?;
            let head = head_of(&mut stream)?;
            if head.split(' ').nth(1) != Some("200") {
                return Err(format!("CONNECT {to}: {head:?}"));
            }
        }
        Ok(stream)
    }
}

/// Reads a head of HTTP and nothing behind it.
pub(crate) fn head_of(stream: &mut impl Read) -> Result<String, String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).map_err(|e| format!("a head of HTTP: {e}"))?;
        head.extend(byte);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

/// Asks for a name's address (RFC 1035): the program is static and has no resolver.
fn address_of(host: &str) -> Result<Ipv4Addr, String> {
    let mut question = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in host.split('.') {
        question.push(u8::try_from(label.len()).map_err(text)?);
        question.extend(label.as_bytes());
    }
    question.extend([0, 0, 1, 0, 1]);
    let socket = UdpSocket::bind("127.0.0.1:0").map_err(text)?;
    socket.set_read_timeout(Some(Duration::from_secs(5))).map_err(text)?;
    for _ in 0..AGAIN {
        socket.send_to(&question, NAME_SERVER).map_err(|e| format!("{NAME_SERVER}: {e}"))?;
        let mut answer = [0; 512];
        let count = socket.recv(&mut answer).map_err(|e| format!("{NAME_SERVER}: {e}"))?;
        // Behind the question: a pointer to the name, type, class, life, length, address.
        let found = answer[..count].get(question.len() + 12..question.len() + 16);
        if let (Some(address), Some(1)) = (found.and_then(<[u8]>::first_chunk), answer.get(7)) {
            return Ok(Ipv4Addr::from(*address));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Err(format!("{host} has no address"))
}

fn echo(stream: &mut TcpStream) -> Result<(), String> {
    stream.write_all(&[7]).map_err(|e| format!("a byte to the server: {e}"))?;
    stream.read_exact(&mut [0]).map_err(|e| format!("the byte back: {e}"))
}

/// Connections one after another: a byte there and back on each.
fn latency(way: &Way) -> Result<u64, String> {
    let before = monotonic_ns();
    let mut stream = way.connect()?;
    echo(&mut stream)?;
    Ok(monotonic_ns() - before)
}

fn drain(from: &mut impl Read, bytes: u64) -> Result<(), String> {
    let mut buffer = vec![0; BUFFER];
    let mut left = bytes;
    while left > 0 {
        let most = usize::try_from(left).unwrap_or(BUFFER).min(BUFFER);
        match from.read(&mut buffer[..most]).map_err(text)? {
            0 => return Err(format!("the end, {left} bytes early")),
            count => left -= count as u64,
        }
    }
    Ok(())
}

fn download(way: &Way, bytes: u64) -> Result<(), String> {
    let mut stream = way.connect()?;
    stream.write_all(&bytes.to_be_bytes()).map_err(text)?;
    drain(&mut stream, bytes)
}

fn trusting() -> Result<Arc<ClientConfig>, String> {
    let path = std::env::var(ROOTS).map_err(|_| format!("{ROOTS} is not set"))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(&path).map_err(|e| format!("{path}: {e}"))? {
        roots.add(certificate.map_err(text)?).map_err(text)?;
    }
    Ok(Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth()))
}

/// One request of HTTP/1.1 over TLS, on a connection of its own.
fn request(way: &Way, config: &Arc<ClientConfig>, bytes: u64) -> Result<u64, String> {
    let before = monotonic_ns();
    let name = ServerName::try_from(NAME).map_err(text)?;
    let session = ClientConnection::new(Arc::clone(config), name).map_err(text)?;
    let mut stream = StreamOwned::new(session, way.connect()?);
    let key = std::env::var(PLACEHOLDER).unwrap_or_else(|_| NONE.to_owned());
    let head = format!("GET /{bytes} HTTP/1.1\r\nHost: {NAME}\r\nAuthorization: Bearer {key}\r\n\r\n");
    stream.write_all(head.as_bytes()).map_err(|e| format!("a request: {e}"))?;
    let head = head_of(&mut stream)?;
    if head.split(' ').nth(1) != Some("200") {
        return Err(format!("it answers {head:?}"));
    }
    drain(&mut stream, bytes)?;
    Ok(monotonic_ns() - before)
}

/// Does it as often at once; the time until the last is done.
fn at_once(count: usize, one: impl Fn() -> Result<(), String> + Sync) -> Result<u64, String> {
    let before = monotonic_ns();
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..count).map(|_| scope.spawn(&one)).collect();
        all.into_iter().try_for_each(|one| one.join().map_err(|_| "a thread panicked".to_owned())?)
    })?;
    Ok(monotonic_ns() - before)
}

/// Opens connections and keeps them until it is killed; to `COUNT` hosts of a pattern where the name has `#` in it.
fn hold(host: &str, port: u16, count: usize) -> Result<(), String> {
    let (_, files) = getrlimit(Resource::RLIMIT_NOFILE).map_err(text)?;
    setrlimit(Resource::RLIMIT_NOFILE, files, files).map_err(text)?;
    let mut held = Vec::new();
    for number in 0..count {
        let mut stream = Way::new(&host.replace('#', &number.to_string()), port, None)?.connect()?;
        stream.write_all(&[u8::try_from(number % 256).map_err(text)?]).map_err(text)?;
        stream.read_exact(&mut [0]).map_err(|e| format!("connection {number}: {e}"))?;
        held.push(stream);
    }
    loop {
        std::thread::park();
    }
}

fn work(args: &[String]) -> Result<Vec<u64>, String> {
    let [work, host, port, count, bytes, rest @ ..] = args else { return Err("five words".to_owned()) };
    let port = port.parse().map_err(|e| format!("{port}: {e}"))?;
    let (count, bytes): (usize, u64) = (count.parse().map_err(text)?, bytes.parse().map_err(text)?);
    let proxy = rest.first().map(|at| at.parse().map_err(|e| format!("{at}: {e}"))).transpose()?;
    if work == "hold" {
        return hold(host, port, count).map(|()| Vec::new());
    }
    let way = Way::new(host, port, proxy)?;
    match work.as_str() {
        "latency" => (0..count).map(|_| latency(&way)).collect(),
        "download" => Ok(vec![at_once(count, || download(&way, bytes))?]),
        "requests" => {
            let config = trusting()?;
            (0..count).map(|_| request(&way, &config, bytes)).collect()
        }
        "inspected" => {
            let config = trusting()?;
            Ok(vec![at_once(count, || request(&way, &config, bytes).map(drop))?])
        }
        other => Err(format!("there is no work {other:?}")),
    }
}

/// The program itself, in which the C library copies as it does in the bench and in services.
pub(crate) fn main(args: &[String]) -> ExitCode {
    if let Some((name, value)) = COPIES.split_once('=').filter(|(name, _)| std::env::var_os(name).is_none())
        && let Ok(own) = std::env::current_exe()
    {
        // It only comes back where it cannot be done, and then it is slower.
        let _not_done = Command::new(own).arg("gate-client").args(args).env(name, value).exec();
    }
    match work(args) {
        Ok(figures) => {
            // When all is done, so that nothing is written in between.
            figures.iter().for_each(|figure| println!("{figure}"));
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("gate-client {}: {why}", args.join(" "));
            ExitCode::FAILURE
        }
    }
}
