//! The sockets inside an agent's network: what is accepted there, and what it turns out to mean.

use crate::core::{Allowed, Denied, Rule};
use crate::dns;
use crate::flow::{self, End, Way};
use crate::gate::{Client, Gate, NotPassed, Passage, now_ms};
use crate::hello::{self, HELLO_MAX, Hello};
use crate::http;
use crate::socks::{self, GREETING, NO_METHOD, Next, REQUEST_MAX, Reply, Target};
use crate::workers;
use octant_api::egress::Door;
use octant_manifest::{HostName, Protocol};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::time::timeout;

/// How long a program may take to say what it wants.
const SAYS_WITHIN: Duration = Duration::from_secs(10);
/// How long a connection for questions may be idle.
const DNS_IDLE: Duration = Duration::from_secs(10);
/// The pause after a socket could not be accepted: the process has no descriptor left, and others close some.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);
/// The first byte of a record of TLS that carries a handshake.
const TLS_HANDSHAKE: u8 = 22;

/// A socket that is not what it is said to be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotADoor {
    #[error("it cannot be used: {0}")]
    Socket(#[from] io::Error),
    #[error("it is bound to {is}, not to {wanted}")]
    Place { is: std::net::SocketAddr, wanted: String },
}

/// A listener that is ready to be served.
#[derive(Debug)]
pub(crate) enum Listener {
    Datagrams(UdpSocket),
    Streams(TcpListener),
}

impl Listener {
    /// Looks whether a socket is one for this door.
    pub(crate) fn new(fd: OwnedFd, door: Door) -> Result<Self, NotADoor> {
        let (listener, is) = if door == Door::Dns {
            let socket = std::net::UdpSocket::from(fd);
            socket.set_nonblocking(true)?;
            let is = socket.local_addr()?;
            (Self::Datagrams(UdpSocket::from_std(socket)?), is)
        } else {
            let socket = std::net::TcpListener::from(fd);
            socket.set_nonblocking(true)?;
            let is = socket.local_addr()?;
            (Self::Streams(TcpListener::from_std(socket)?), is)
        };
        let (ip, port) = door.place();
        let there = ip.map_or(is.ip().is_unspecified(), |ip| is.ip().to_canonical() == ip);
        if there && is.port() == port {
            return Ok(listener);
        }
        let wanted = format!("{}:{port}", ip.map_or_else(|| "any address".to_owned(), |ip| ip.to_string()));
        Err(NotADoor::Place { is, wanted })
    }
}

/// Serves a door until it is closed.
pub(crate) async fn serve(gate: Arc<Gate>, client: Arc<Client>, door: Door, listener: Listener) {
    match listener {
        Listener::Datagrams(socket) => questions(&gate, &client, &socket).await,
        Listener::Streams(listener) => loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let (gate, client) = (Arc::clone(&gate), Arc::clone(&client));
                    tokio::spawn(async move { accepted(gate, client, door, stream).await });
                }
                Err(error) => {
                    tracing::warn!("a connection of {} cannot be accepted: {error}", client.aid);
                    tokio::time::sleep(ACCEPT_AGAIN).await;
                }
            }
        },
    }
}

async fn accepted(gate: Arc<Gate>, client: Arc<Client>, door: Door, stream: TcpStream) {
    // A place is held for as long as the socket is, so that who opens many and says nothing runs out of places.
    let _place = match gate.place(&client) {
        Ok(place) => place,
        Err(why) => {
            let (_, port) = door.place();
            gate.denied(&client, "any host", port, &why);
            return reset(&stream);
        }
    };
    let _ = stream.set_nodelay(true);
    crate::gate::in_line(&stream);
    match door {
        // Not served here.
        Door::Dns | Door::Models => {}
        Door::DnsTcp => questions_of(&gate, &client, stream).await,
        Door::Proxy => http::proxy(gate, client, stream).await,
        Door::Socks => asked_by_socks(&gate, &client, stream).await,
        Door::Port(port) => {
            let host = stream.local_addr().map_err(|_| Denied::Address).and_then(|to| {
                let denied = |why: &Denied| gate.denied(&client, &to.ip().to_string(), port, why);
                gate.host_of(&client, to.ip()).inspect_err(denied)
            });
            match host {
                Ok(host) => carry(&gate, &client, stream, &host, port).await,
                Err(_) => reset(&stream),
            }
        }
    }
}

/// Closes a connection so that the program sees that it was refused, not that it came to its end.
pub(crate) fn reset(stream: &TcpStream) {
    // Where that fails it is closed all the same.
    let _ = stream.set_zero_linger();
}

/// Takes a connection of a program to a host: what it begins with is looked at where the grant says what it must be.
pub(crate) async fn carry(
    gate: &Arc<Gate>,
    client: &Arc<Client>,
    stream: TcpStream,
    host: &HostName,
    port: u16,
) {
    let said = match client.decide(host, port) {
        Ok(allowed) => by_what_is_spoken(gate, client, &stream, host, port, &allowed).await,
        Err(why) => Err(why.into()),
    };
    match said {
        Ok(Spoken::Http(rule)) => {
            http::guarded(gate, client, stream, host.clone(), port, rule).await;
        }
        Ok(Spoken::Inspected(rule, hello)) => {
            workers::inspect(gate, client, stream, &hello, (host.clone(), port, rule)).await;
        }
        Ok(Spoken::Through(passage, first)) => through(&stream, passage, &first).await,
        Err(not) => {
            if let NotPassed::Denied(why) = &not {
                gate.denied(client, host.as_str(), port, why);
            }
            reset(&stream);
        }
    }
}

/// What was found out about a connection.
enum Spoken {
    /// Requests, each of which is looked at.
    Http(Rule),
    /// What the agent's worker reads, since a secret is used at the host; what was said is there already.
    Inspected(Rule, Vec<u8>),
    /// Bytes for the host, the first of which are there already.
    Through(Passage, Vec<u8>),
}

async fn by_what_is_spoken(
    gate: &Arc<Gate>,
    client: &Arc<Client>,
    stream: &TcpStream,
    host: &HostName,
    port: u16,
    allowed: &Allowed,
) -> Result<Spoken, NotPassed> {
    if let Some(rule) = allowed.opaque() {
        let passage = gate.pass(client, host, port, Protocol::Tcp.name(), rule).await?;
        return Ok(Spoken::Through(passage, Vec::new()));
    }
    if let Some(rule) = allowed.rule(Protocol::Tls)
        && client.rights().logs_in(host, port)
    {
        return Ok(Spoken::Inspected(rule.clone(), Vec::new()));
    }
    let mut first = [0];
    let peeked = timeout(SAYS_WITHIN, stream.peek(&mut first)).await;
    match peeked {
        Ok(Ok(1)) => {}
        _ => return Err(NotPassed::Failed("nothing was said".into())),
    }
    let wrong = |granted| Denied::OtherProtocol { host: host.to_string(), granted };
    match (first[0] == TLS_HANDSHAKE, allowed.rule(Protocol::Tls), allowed.rule(Protocol::Http)) {
        (true, Some(rule), _) => {
            let hello = timeout(SAYS_WITHIN, hello_of(stream)).await;
            let (hello, name) =
                hello.map_err(|_| NotPassed::Failed("no server was named in time".into()))??;
            if name.as_ref().is_none_or(|name| name.parse().as_ref() != Ok(host)) {
                let got = name.unwrap_or_else(|| "missing".to_owned());
                return Err(Denied::ServerName { host: host.to_string(), got }.into());
            }
            if client.rights().inspects(host) {
                return Ok(Spoken::Inspected(rule.clone(), hello));
            }
            let passage = gate.pass(client, host, port, Protocol::Tls.name(), rule).await?;
            Ok(Spoken::Through(passage, hello))
        }
        (false, _, Some(rule)) => Ok(Spoken::Http(rule.clone())),
        (true, None, _) => Err(wrong("http").into()),
        (false, _, None) => Err(wrong("tls").into()),
    }
}

/// Reads until the server is named.
async fn hello_of(stream: &TcpStream) -> Result<(Vec<u8>, Option<String>), NotPassed> {
    let mut bytes = Vec::new();
    loop {
        stream.readable().await.map_err(|error| NotPassed::Failed(error.to_string()))?;
        let mut more = [0; 2048];
        match stream.try_read(&mut more) {
            Ok(0) => return Err(NotPassed::Failed("it ended before a server was named".into())),
            Ok(count) => bytes.extend_from_slice(&more[..count]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(NotPassed::Failed(error.to_string())),
        }
        match hello::read(&bytes) {
            Hello::Part if bytes.len() <= HELLO_MAX + more.len() => {}
            Hello::Part => return Err(Denied::Hello("it is too long".into()).into()),
            Hello::Named(name) => return Ok((bytes, name)),
            Hello::Bad(why) => return Err(Denied::Hello(why).into()),
        }
    }
}

/// Lets a program and a host speak, after what the program said already.
async fn through(stream: &TcpStream, mut passage: Passage, first: &[u8]) {
    let Some(host) = passage.stream.take() else { return };
    let flow = Arc::clone(&passage.flow);
    let end = match flow::send(&host, first, &flow, Way::Out).await {
        Ok(()) => flow::relay(stream, &host, &flow).await,
        Err(end) => end,
    };
    if let End::Cut(_) | End::Failed(_) = end {
        reset(stream);
        reset(&host);
    }
    passage.ended_by(&end);
}

async fn questions(gate: &Gate, client: &Client, socket: &UdpSocket) {
    let mut packet = [0; dns::QUESTION_MAX + 1];
    loop {
        match socket.recv_from(&mut packet).await {
            Ok((count, from)) => {
                if let Some(bytes) = answered(gate, client, &packet[..count]) {
                    // Who does not take an answer asks again.
                    let _ = socket.try_send_to(&bytes, from);
                }
            }
            Err(error) => {
                tracing::debug!("a question of {} cannot be read: {error}", client.aid);
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}

fn answered(gate: &Gate, client: &Client, packet: &[u8]) -> Option<Vec<u8>> {
    let rights = client.rights();
    let answer = {
        let mut names = client.names.lock().unwrap_or_else(PoisonError::into_inner);
        dns::answer(packet, &rights, &mut names, now_ms())?
    };
    if let Some(name) = answer.refused {
        let host = name.trim_end_matches('.').to_owned();
        gate.denied(client, &host, 53, &Denied::NoGrant(host.clone()));
    }
    Some(answer.bytes)
}

/// Questions over TCP: each with its length before it (RFC 1035 section 4.2.2).
async fn questions_of(gate: &Gate, client: &Client, mut stream: TcpStream) {
    loop {
        let asked = timeout(DNS_IDLE, async {
            let length = usize::from(stream.read_u16().await?);
            if length > dns::QUESTION_MAX {
                return Err(io::ErrorKind::InvalidData.into());
            }
            let mut packet = vec![0; length];
            stream.read_exact(&mut packet).await?;
            Ok::<_, io::Error>(packet)
        });
        let Ok(Ok(packet)) = asked.await else { return };
        let Some(bytes) = answered(gate, client, &packet) else { return };
        let Ok(length) = u16::try_from(bytes.len()) else { return };
        let mut whole = length.to_be_bytes().to_vec();
        whole.extend(bytes);
        match timeout(DNS_IDLE, stream.write_all(&whole)).await {
            Ok(Ok(())) => {}
            _ => return,
        }
    }
}

async fn asked_by_socks(gate: &Arc<Gate>, client: &Arc<Client>, mut stream: TcpStream) {
    let asked = timeout(SAYS_WITHIN, socks_target(&mut stream)).await;
    let Ok(Some((target, port))) = asked else { return };
    let said = match &target {
        Target::Name(name) => name.clone(),
        Target::Address(address) => address.to_string(),
    };
    let host = gate.host(client, &said);
    let reply = match host.clone().and_then(|host| client.decide(&host, port)) {
        Ok(_) => Reply::Succeeded,
        Err(why) => {
            gate.denied(client, &said, port, &why);
            Reply::NotAllowed
        }
    };
    // What is granted for one protocol is looked at before there is a connection, so the answer comes before it too.
    if stream.write_all(&reply.bytes()).await.is_ok()
        && let (Reply::Succeeded, Ok(host)) = (reply, host)
    {
        carry(gate, client, stream, &host, port).await;
    }
}

/// Where a program wants to go; none when it said something else, and has been told.
async fn socks_target(stream: &mut TcpStream) -> Option<(Target, u16)> {
    let mut bytes = Vec::new();
    let mut greeted = false;
    loop {
        let next = if greeted { socks::request(&bytes) } else { socks::greeting(&bytes) };
        match next {
            Next::Part if bytes.len() <= REQUEST_MAX => {
                let byte = stream.read_u8().await.ok()?;
                bytes.push(byte);
            }
            Next::Greeted { .. } => {
                stream.write_all(&GREETING).await.ok()?;
                (greeted, bytes) = (true, Vec::new());
            }
            Next::Connect { target, port, .. } => return Some((target, port)),
            Next::Refuse(reply) => {
                stream.write_all(&reply.bytes()).await.ok()?;
                return None;
            }
            Next::Part | Next::Bad => {
                if !greeted {
                    // A program that speaks another version understands that it was closed.
                    stream.write_all(&NO_METHOD).await.ok()?;
                }
                return None;
            }
        }
    }
}
