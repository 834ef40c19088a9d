//! One connection of a program to a PostgreSQL server that the agent is logged in to: the program is asked for no password,
//! the server is shown that this side has one, and from then on bytes go both ways as they are.

use super::Work;
use super::ahead::Ahead;
use super::asking::Asking;
use super::inspect::Not;
use super::upstream::{secured, socket};
use super::using::Used;
use crate::inject::Misuse;
use crate::message::HEAD_WITHIN;
use crate::postgres::{self, Authentication, Key, MESSAGE_MAX, Opening, START_MAX, Start};
use crate::said::{End, Inspect, What};
use crate::scram::{self, Binding, Proof};
use crate::secrets::{Value, read};
use octant_api::egress::Login;
use octant_ids::SecretName;
use octant_manifest::{DatabaseLogin, HostName};
use octant_sys::entropy;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, MutexGuard, PoisonError};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional_with_sizes};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::client::TlsStream;

/// The protocol's name in TLS.
const ALPN: &[u8] = b"postgresql";
/// The first byte of a record of TLS that carries a handshake.
const TLS_HANDSHAKE: u8 = 22;
/// How many messages a server says before a session begins; most are settings that it reports.
const MESSAGES_MAX: usize = 256;
/// How much is passed on at once: a record of TLS.
const RECORD: usize = 16 << 10;
/// How many random bytes make a login's number.
const NONCE: usize = 18;
/// The protocol's codes: a login that is not allowed, a limit that is reached, a connection that does not come about, words
/// that cannot be read.
const NOT_ALLOWED: &str = "28000";
const USED_UP: &str = "53400";
const NO_CONNECTION: &str = "08001";
const UNREADABLE: &str = "08P01";

/// A program, in TLS or not.
trait Program: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Program for T {}

type Server = TlsStream<Ahead<UnixStream>>;

/// The sessions that an agent has, each by what it is cancelled with.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    next: u64,
    open: BTreeMap<u64, (HostName, u16, Key)>,
}

fn sessions(work: &Work) -> MutexGuard<'_, Sessions> {
    work.sessions.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A session that has a key; it is forgotten when this is dropped.
struct Known(Arc<Work>, u64);

impl Drop for Known {
    fn drop(&mut self) {
        sessions(&self.0).open.remove(&self.1);
    }
}

/// Why there is no session.
enum NoSession {
    Not(Not),
    /// The server has said it in its own words.
    Server(Vec<u8>),
}

impl<N: Into<Not>> From<N> for NoSession {
    fn from(not: N) -> Self {
        Self::Not(not.into())
    }
}

fn failed(why: impl Into<String>) -> NoSession {
    NoSession::Not(Not::Failed(why.into()))
}

/// A connection, and what it is held to.
struct Connection {
    work: Arc<Work>,
    asking: Arc<Asking>,
    host: HostName,
    port: u16,
    logins: Vec<(SecretName, DatabaseLogin)>,
}

/// Serves the connection until either side, or the gate, is done with it.
pub(crate) async fn serve(
    work: &Arc<Work>,
    connection: Inspect,
    stream: OwnedFd,
    control: OwnedFd,
) -> io::Result<()> {
    let (work, asking) = (Arc::clone(work), Arc::new(Asking::new(control)?));
    let stream = TcpStream::from_std(std::net::TcpStream::from(stream))?;
    let Inspect { host, port, logins, .. } = connection;
    let host = host.parse().map_err(|error| io::Error::other(format!("{error}")))?;
    let login = |Login { secret, to }: Login| to.parse().map(|to| (secret, to));
    let logins = logins.into_iter().map(login).collect::<Result<_, _>>();
    let logins = logins.map_err(|error| io::Error::other(format!("{error}")))?;
    let listens = Arc::clone(&asking);
    let connection = Connection { work, asking, host, port, logins };
    tokio::select! {
        biased;
        gone = listens.listen() => gone,
        served = connection.converse(stream) => served,
    }
}

async fn within<T>(of: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(HEAD_WITHIN, of).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

impl Connection {
    async fn converse(self, stream: TcpStream) -> io::Result<()> {
        let (mut program, opened) = within(self.opening(stream)).await?;
        let begun = match opened {
            Ok(Opening::Start(start)) => {
                let begun = timeout(HEAD_WITHIN, self.session(&mut program, &start)).await;
                begun.unwrap_or_else(|_| Err(failed("it did not come about within the time for it")))
            }
            Ok(Opening::Cancel(key)) => return self.cancel(&key).await,
            // What asks for encryption is answered before.
            Ok(Opening::Tls | Opening::Gss) => Err(Misuse::Request("it asks twice".into()).into()),
            Err(why) => Err(Misuse::Request(why.to_owned()).into()),
        };
        match begun {
            Ok((mut server, _known)) => {
                let passed = copy_bidirectional_with_sizes(&mut program, &mut server, RECORD, RECORD);
                passed.await.map(drop)
            }
            Err(no) => {
                program.write_all(&self.refused(no).await).await?;
                program.shutdown().await
            }
        }
    }

    /// The program, in TLS where it wants that, and what it begins with. What it says is read to the byte, so nothing that
    /// was said outside of TLS counts inside.
    async fn opening(
        &self,
        mut stream: TcpStream,
    ) -> io::Result<(Box<dyn Program>, Result<Opening, &'static str>)> {
        let mut gss = false;
        loop {
            let first = stream.read_u8().await?;
            if first == TLS_HANDSHAKE {
                return self.in_tls(Ahead::new(vec![first], stream), true).await;
            }
            match said(first, &mut stream).await? {
                Ok(Opening::Tls) => {
                    stream.write_all(b"S").await?;
                    return self.in_tls(Ahead::new(Vec::new(), stream), false).await;
                }
                Ok(Opening::Gss) if !gss => {
                    gss = true;
                    stream.write_all(b"N").await?;
                }
                opened => return Ok((Box::new(stream), opened)),
            }
        }
    }

    async fn in_tls(
        &self,
        stream: Ahead<TcpStream>,
        at_once: bool,
    ) -> io::Result<(Box<dyn Program>, Result<Opening, &'static str>)> {
        let mut config = (*self.work.voucher.as_host(&self.host).map_err(io::Error::other)?).clone();
        config.alpn_protocols = vec![ALPN.to_vec()];
        let mut stream = TlsAcceptor::from(Arc::new(config)).accept(stream).await?;
        if at_once && stream.get_ref().1.alpn_protocol() != Some(ALPN) {
            // As the server has it: TLS that does not say what it is for is not for this.
            return Err(io::Error::other("TLS that does not name the protocol"));
        }
        let first = stream.read_u8().await?;
        let opened = said(first, &mut stream).await?;
        Ok((Box::new(stream), opened))
    }

    /// Makes a session: the program has heard all of its begin when it is there.
    async fn session(
        &self,
        program: &mut Box<dyn Program>,
        start: &Start,
    ) -> Result<(Server, Option<Known>), NoSession> {
        let Start { user, database, .. } = start;
        let granted = self.logins.iter().find(|(_, login)| login.admits(user, database));
        let Some((secret, _)) = granted else {
            return Err(Misuse::Login { user: user.clone(), database: database.clone() }.into());
        };
        let mut server = self.server().await?;
        write(&mut server, &start.bytes()).await?;
        self.log_in(&mut server, secret, start).await?;
        let begin = [start.negotiated(), postgres::admitted()].concat();
        let gone = |_| failed("the program is gone");
        program.write_all(&begin).await.map_err(gone)?;
        let mut known = None;
        for _ in 0..MESSAGES_MAX {
            let (tag, body) = message(&mut server).await?;
            match tag {
                b'S' | b'N' | b'Z' => {}
                b'K' => known = Some(self.knows(&body)?),
                b'E' => return Err(NoSession::Server(body)),
                _ => return Err(failed("it says what does not belong at the begin of a session")),
            }
            program.write_all(&postgres::passed_on(tag, &body)).await.map_err(gone)?;
            if tag == b'Z' {
                program.flush().await.map_err(gone)?;
                return Ok((server, known));
            }
        }
        Err(failed("it comes to no end with the begin of a session"))
    }

    fn knows(&self, body: &[u8]) -> Result<Known, NoSession> {
        let key = body.try_into().map_err(|_| failed("its session has a key of another length"))?;
        let mut sessions = sessions(&self.work);
        sessions.next += 1;
        let number = sessions.next;
        sessions.open.insert(number, (self.host.clone(), self.port, key));
        Ok(Known(Arc::clone(&self.work), number))
    }

    /// A connection to the server, in TLS, which the server does not have a choice about.
    async fn server(&self) -> Result<Server, NoSession> {
        let mut stream = socket(&self.asking, &self.host).await?;
        let asked = async {
            stream.write_all(&postgres::ask_tls()).await?;
            // One byte: what follows it outside of TLS is not read as if it were inside.
            stream.read_u8().await
        };
        match asked.await {
            Ok(b'S') => Ok(secured(&self.host, self.work.roots.clone(), stream).await?),
            Ok(_) => Err(failed("it has no TLS (ssl = on in its postgresql.conf)")),
            Err(error) => Err(failed(format!("asked for TLS: {error}"))),
        }
    }

    /// Shows the server that this side has the password, and has it show the same.
    async fn log_in(&self, server: &mut Server, secret: &SecretName, start: &Start) -> Result<(), NoSession> {
        const NO_WAY: &str = "it knows no login that hides the password: store it as scram-sha-256 (password_encryption) and \
                              ask for that in pg_hba.conf";
        let body = authentication(server).await?;
        let offered = match postgres::authentication(&body) {
            Some(Authentication::Sasl(offered)) => offered,
            Some(Authentication::Done) => {
                return Err(failed(format!("it asks for no password (trust); {NO_WAY}")));
            }
            Some(Authentication::Other(what)) => return Err(failed(format!("{what}; {NO_WAY}"))),
            _ => return Err(failed("it asks for what cannot be read")),
        };
        let certificates = server.get_ref().1.peer_certificates().unwrap_or_default();
        let certificate = certificates.first().map(AsRef::as_ref);
        let (mechanism, binding) = Binding::choose(&offered, certificate).ok_or_else(|| failed(NO_WAY))?;
        let mut random = [0; NONCE];
        entropy::fill_seeded(&mut random).map_err(|error| failed(error.to_string()))?;
        let login = scram::Login::new(binding, &random);
        write(server, &postgres::begin(mechanism, &login.message())).await?;
        let body = authentication(server).await?;
        let Some(Authentication::Continue(said)) = postgres::authentication(&body) else {
            return Err(failed("it does not go on with the login that it offered"));
        };
        let challenge = login.challenged(said).map_err(failed)?;
        // Only now is the password needed, and only for this.
        let (mut used, proof) = self.prove(secret, start, &challenge).await?;
        let done = self.proven(server, &proof).await;
        used.end = match &done {
            Ok(()) => End::LoggedIn,
            Err(no) => End::Failed(self.why(no)),
        };
        done
    }

    async fn prove(
        &self,
        secret: &SecretName,
        start: &Start,
        challenge: &scram::Challenge,
    ) -> Result<(Used, Proof), NoSession> {
        let what = What::LogIn {
            secret: secret.clone(),
            user: start.user.clone(),
            database: start.database.clone(),
        };
        let (used, Value { fd, bytes }) = Used::ask(&self.asking, secret, what).await?;
        let password = read(Value { fd, bytes }).map_err(|error| failed(format!("{secret}: {error}")))?;
        Ok((used, challenge.prove(&password).await))
    }

    async fn proven(&self, server: &mut Server, proof: &Proof) -> Result<(), NoSession> {
        write(server, &postgres::respond(proof.message.as_bytes())).await?;
        let body = authentication(server).await?;
        let Some(Authentication::Final(said)) = postgres::authentication(&body) else {
            return Err(failed("it does not show that it knows the password itself"));
        };
        proof.answered(said).map_err(failed)?;
        match postgres::authentication(&authentication(server).await?) {
            Some(Authentication::Done) => Ok(()),
            _ => Err(failed("it asks for more than the password")),
        }
    }

    /// Cancels what a session of this agent at this server is at. The protocol has no answer to it.
    async fn cancel(&self, key: &Key) -> io::Result<()> {
        let given = |(host, port, known): &(HostName, u16, Key)| {
            *host == self.host && *port == self.port && known == key
        };
        if !sessions(&self.work).open.values().any(given) {
            self.asking.tell(What::Refused(Misuse::Cancel)).await;
            return Ok(());
        }
        let sent = async {
            let mut server = self.server().await?;
            write(&mut server, &postgres::cancel(key)).await?;
            // It closes once it has done so.
            let _ = server.read_u8().await;
            Ok::<_, NoSession>(())
        };
        match timeout(HEAD_WITHIN, sent).await {
            Ok(Err(no)) => Err(io::Error::other(self.why(&no))),
            _ => Ok(()),
        }
    }

    fn why(&self, no: &NoSession) -> String {
        match no {
            NoSession::Server(body) => {
                format!("the server refused it: {}", postgres::code_of(body).unwrap_or("without a code"))
            }
            NoSession::Not(Not::Failed(why) | Not::Denied(why) | Not::Over(why)) => why.clone(),
            NoSession::Not(Not::Misused(misuse)) => misuse.clone().denied(&self.host).to_string(),
        }
    }

    /// What the program is told, in its protocol's own form; what it did wrong goes on record.
    async fn refused(&self, no: NoSession) -> Vec<u8> {
        const SEE: &str = "see `octant agent why` of this agent";
        match no {
            NoSession::Server(body) => postgres::passed_on(b'E', &body),
            NoSession::Not(Not::Failed(why)) => {
                postgres::refusal(NO_CONNECTION, &format!("octant: no session at {}: {why}", self.host), SEE)
            }
            NoSession::Not(Not::Over(why)) => postgres::refusal(USED_UP, &format!("octant: {why}"), SEE),
            NoSession::Not(Not::Denied(why)) => {
                postgres::refusal(NOT_ALLOWED, &format!("octant: {why}"), SEE)
            }
            NoSession::Not(Not::Misused(misuse)) => {
                self.asking.tell(What::Refused(misuse.clone())).await;
                let code = if matches!(misuse, Misuse::Request(_)) { UNREADABLE } else { NOT_ALLOWED };
                let why = misuse.denied(&self.host);
                postgres::refusal(code, &format!("octant: {why}"), why.advice().unwrap_or(SEE))
            }
        }
    }
}

/// A first packet, of which one byte is there.
async fn said(first: u8, from: &mut (impl AsyncRead + Unpin)) -> io::Result<Result<Opening, &'static str>> {
    let mut length = [first, 0, 0, 0];
    from.read_exact(&mut length[1..]).await?;
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    let Some(rest) = length.checked_sub(4).filter(|_| length <= START_MAX) else {
        return Ok(Err("its first packet is too long, or not PostgreSQL's"));
    };
    let mut packet = vec![0; rest];
    from.read_exact(&mut packet).await?;
    Ok(postgres::opening(&packet))
}

/// The next message of a server: its tag, and what it says.
async fn message(from: &mut Server) -> Result<(u8, Vec<u8>), NoSession> {
    let gone = |error: io::Error| failed(format!("it does not go on: {error}"));
    let tag = from.read_u8().await.map_err(gone)?;
    let length = usize::try_from(from.read_u32().await.map_err(gone)?).unwrap_or(usize::MAX);
    let rest = length.checked_sub(4).filter(|rest| *rest <= MESSAGE_MAX);
    let mut body = vec![0; rest.ok_or_else(|| failed("it says more at once than belongs there"))?];
    from.read_exact(&mut body).await.map_err(gone)?;
    Ok((tag, body))
}

/// The next message, which is about the login.
async fn authentication(from: &mut Server) -> Result<Vec<u8>, NoSession> {
    match message(from).await? {
        (b'R', body) => Ok(body),
        (b'E', body) => Err(NoSession::Server(body)),
        _ => Err(failed("it says what does not belong into a login")),
    }
}

async fn write(to: &mut Server, bytes: &[u8]) -> Result<(), NoSession> {
    let written = async {
        to.write_all(bytes).await?;
        to.flush().await
    };
    written.await.map_err(|error| failed(format!("it does not listen: {error}")))
}
