//! Logins to databases: a server of PostgreSQL that behaves, and many that do not, and programs of both kinds.

use super::inject::{certified, trusting};
use super::{FREE, Line, World, alone};
use crate::core::{Purpose, Rights};
use crate::postgres::{self, Authentication, Key, Opening};
use crate::scram;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use octant_api::egress::Login;
use octant_ids::Sha256;
use rustls::pki_types::ServerName;
use sha2::Digest as _;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

const DB: &str = "db.example.org";
const PASSWORD: &str = "a password that is in the vault";
const SALT: &[u8] = b"sixteen of salt!";
const KEY: Key = *b"\0\0\0\x07abcd";

/// How a server behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    Good,
    /// It knows no binding.
    NoPlus,
    BadSignature,
    /// It is content before it has shown that it knows the password.
    NoSignature,
    FewRounds,
    Cleartext,
    Md5,
    Trust,
    NoTls,
    /// It says something after its yes to TLS that it hopes is read inside of it.
    Stuffed,
    Oversize,
    Endless,
    Refuses,
}

#[derive(Debug, Default)]
struct Heard {
    connections: usize,
    starts: Vec<(String, String)>,
    cancels: Vec<Key>,
    all: Vec<u8>,
}

type Ears = Arc<Mutex<Heard>>;

fn mac(key: &[u8], text: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(key).unwrap();
    mac.update(text);
    mac.finalize().into_bytes().into()
}

/// What the server has of the password.
fn salted() -> [u8; 32] {
    let mut last = mac(PASSWORD.as_bytes(), &[SALT, &[0, 0, 0, 1]].concat());
    let mut all = last;
    for _ in 1..4096 {
        last = mac(PASSWORD.as_bytes(), &last);
        all.iter_mut().zip(last).for_each(|(byte, other)| *byte ^= other);
    }
    all
}

async fn server(world: &World, mood: Mood) -> Ears {
    let config = Arc::new(certified(world, DB));
    let heard = Ears::default();
    let (keeps, acceptor) = (Arc::clone(&heard), TlsAcceptor::from(config));
    let listener = TcpListener::bind("11.0.0.9:5432").await.unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            keeps.lock().unwrap().connections += 1;
            let (keeps, acceptor) = (Arc::clone(&keeps), acceptor.clone());
            tokio::spawn(async move { drop(serves(stream, &acceptor, mood, &keeps).await) });
        }
    });
    heard
}

async fn first(from: &mut (impl AsyncRead + Unpin)) -> std::io::Result<Opening> {
    let mut packet = vec![0; from.read_u32().await? as usize - 4];
    from.read_exact(&mut packet).await?;
    Ok(postgres::opening(&packet).unwrap())
}

fn asks(code: u32, rest: &[u8]) -> Vec<u8> {
    postgres::passed_on(b'R', &[&code.to_be_bytes(), rest].concat())
}

async fn serves(
    mut stream: TcpStream,
    acceptor: &TlsAcceptor,
    mood: Mood,
    heard: &Ears,
) -> std::io::Result<()> {
    assert_eq!(first(&mut stream).await?, Opening::Tls, "nothing is said outside of TLS");
    if mood == Mood::NoTls {
        stream.write_all(b"N").await?;
        // Whatever is said then is said in the clear.
        let mut said = Vec::new();
        stream.read_to_end(&mut said).await?;
        heard.lock().unwrap().all.extend(said);
        return Ok(());
    }
    stream.write_all(if mood == Mood::Stuffed { b"SR\0\0\0\x08\0\0\0\0" } else { b"S" }).await?;
    let mut stream = acceptor.accept(stream).await?;
    let start = match first(&mut stream).await? {
        Opening::Start(start) => start,
        Opening::Cancel(key) => {
            heard.lock().unwrap().cancels.push(key);
            return Ok(());
        }
        other => panic!("{other:?}"),
    };
    heard.lock().unwrap().starts.push((start.user, start.database));
    let unusual = match mood {
        Mood::Cleartext => asks(3, b""),
        Mood::Md5 => asks(5, b"salt"),
        Mood::Trust => asks(0, b""),
        Mood::Oversize => b"R\x7f\xff\xff\xff".to_vec(),
        Mood::Refuses => postgres::refusal("28P01", "password authentication failed", "none"),
        _ => Vec::new(),
    };
    if !unusual.is_empty() {
        stream.write_all(&unusual).await?;
    } else if !scrams(&mut stream, mood).await? {
        return Ok(());
    }
    let mut begin = [
        postgres::admitted(),
        postgres::passed_on(b'S', b"server_version\x0015\0"),
        postgres::passed_on(b'K', &KEY),
        postgres::passed_on(b'Z', b"I"),
    ]
    .concat();
    if mood == Mood::Endless {
        begin = [postgres::admitted(), postgres::passed_on(b'S', b"a\0b\0").repeat(1000)].concat();
    }
    stream.write_all(&begin).await?;
    stream.flush().await?;
    let mut buffer = [0; 4096];
    while let count @ 1.. = stream.read(&mut buffer).await? {
        heard.lock().unwrap().all.extend(&buffer[..count]);
        stream.write_all(&buffer[..count]).await?;
        stream.flush().await?;
    }
    Ok(())
}

async fn response(from: &mut (impl AsyncRead + Unpin)) -> std::io::Result<Vec<u8>> {
    assert_eq!(from.read_u8().await?, b'p');
    let mut body = vec![0; from.read_u32().await? as usize - 4];
    from.read_exact(&mut body).await?;
    Ok(body)
}

/// The server's side of the login; whether the program knows the password.
async fn scrams<S>(stream: &mut S, mood: Mood) -> std::io::Result<bool>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let offered: &[u8] =
        if mood == Mood::NoPlus { b"SCRAM-SHA-256\0\0" } else { b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0" };
    stream.write_all(&asks(10, offered)).await?;
    stream.flush().await?;
    let begun = response(stream).await?;
    let at = begun.iter().position(|byte| *byte == 0).unwrap();
    let plain = mood == Mood::NoPlus;
    assert_eq!(&begun[..at], if plain { scram::PLAIN.as_bytes() } else { scram::PLUS.as_bytes() });
    let begun = String::from_utf8(begun[at + 5..].to_vec()).unwrap();
    let gs2 = if plain { "y,," } else { "p=tls-server-end-point,," };
    let bare = begun.strip_prefix(gs2).unwrap();
    let (nonce, salt) = (bare.strip_prefix("n=,r=").unwrap(), STANDARD.encode(SALT));
    let rounds = if mood == Mood::FewRounds { 1 } else { 4096 };
    let challenge = format!("r={nonce}more,s={salt},i={rounds}");
    stream.write_all(&asks(11, challenge.as_bytes())).await?;
    stream.flush().await?;
    let last = String::from_utf8(response(stream).await?).unwrap();
    let (bound, proof) = last.rsplit_once(",p=").unwrap();
    let said = STANDARD.decode(bound.strip_prefix("c=").unwrap().split(',').next().unwrap()).unwrap();
    assert_eq!((&said[..gs2.len()], said.len() - gs2.len()), (gs2.as_bytes(), if plain { 0 } else { 32 }));
    let signed = format!("{bare},{challenge},{bound}");
    let key = mac(&salted(), b"Client Key");
    let mut good = mac(&sha2::Sha256::digest(key), signed.as_bytes());
    good.iter_mut().zip(key).for_each(|(byte, key)| *byte ^= key);
    if STANDARD.encode(good) != proof {
        stream.write_all(&postgres::refusal("28P01", "wrong", "none")).await?;
        stream.shutdown().await?;
        return Ok(false);
    }
    let mut signature = mac(&mac(&salted(), b"Server Key"), signed.as_bytes());
    signature[0] ^= u8::from(mood == Mood::BadSignature);
    if mood != Mood::NoSignature {
        stream.write_all(&asks(12, format!("v={}", STANDARD.encode(signature)).as_bytes())).await?;
    }
    Ok(true)
}

fn login(to: &str) -> Login {
    Login { secret: "prod/db".parse().unwrap(), to: to.to_owned() }
}

/// A server, and an agent that is logged in to it; gives the authority that the agent trusts.
async fn with_db(world: &World, mood: Mood) -> (Ears, String) {
    world.name(DB, &["11.0.0.9"]);
    let heard = server(world, mood).await;
    world.vault.values.lock().unwrap().insert("prod/db".into(), PASSWORD.into());
    (heard, admits(world))
}

fn admits(world: &World) -> String {
    let to = login("app@db.example.org:5432/sales");
    let admitted = world.admit_logins(&["tls://db.example.org:5432", "tls://db.example.org:443"], &[to]);
    admitted.authority.unwrap()
}

fn start(pairs: &[(&str, &str)]) -> Vec<u8> {
    let text: String = pairs.iter().map(|(name, value)| format!("{name}\0{value}\0")).collect();
    let length = u32::try_from(text.len() + 9).unwrap();
    [&length.to_be_bytes()[..], &[0, 3, 0, 0], text.as_bytes(), &[0]].concat()
}

fn usual() -> Vec<u8> {
    start(&[("user", "app"), ("database", "sales"), ("application_name", "psql")])
}

async fn message(from: &mut (impl AsyncRead + Unpin)) -> std::io::Result<(u8, Vec<u8>)> {
    let tag = from.read_u8().await?;
    let mut body = vec![0; from.read_u32().await? as usize - 4];
    from.read_exact(&mut body).await?;
    Ok((tag, body))
}

/// Begins a session and says something in it; gives why there is none.
async fn session<S>(stream: &mut S) -> Result<(), String>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut tags = Vec::new();
    loop {
        let (tag, body) = message(stream).await.map_err(|error| error.to_string())?;
        tags.push(tag);
        match tag {
            b'R' => assert_eq!(postgres::authentication(&body), Some(Authentication::Done)),
            b'E' => return Err(String::from_utf8_lossy(&body).replace('\0', " ")),
            b'Z' => break,
            _ => {}
        }
    }
    assert_eq!(tags, b"RSKZ");
    stream.write_all(b"select").await.unwrap();
    stream.flush().await.unwrap();
    let mut back = [0; 6];
    stream.read_exact(&mut back).await.unwrap();
    assert_eq!(&back, b"select");
    Ok(())
}

async fn plain(world: &World, begin: &[u8]) -> Result<TcpStream, String> {
    let mut stream = world.connect("db.example.org.", 5432).await.unwrap();
    stream.write_all(begin).await.unwrap();
    session(&mut stream).await.map(|()| stream)
}

const SSL: &[u8] = &[0, 0, 0, 8, 4, 210, 22, 47];
const GSS: &[u8] = &[0, 0, 0, 8, 4, 210, 22, 48];

#[test]
fn a_program_without_a_password_has_a_session() {
    alone(|world| async move {
        let (heard, authority) = with_db(&world, Mood::Good).await;
        plain(&world, &usual()).await.unwrap();
        let asked = world.vault.asked.lock().unwrap().clone();
        assert_eq!((asked.len(), asked[0].secret.as_str(), asked[0].host.as_str()), (1, "prod/db", DB));
        // In TLS, after a question for another encryption, and in TLS from the first byte.
        let name = ServerName::try_from(DB).unwrap();
        let mut config = (*trusting(&authority)).clone();
        config.alpn_protocols = vec![b"postgresql".to_vec()];
        let connector = TlsConnector::from(Arc::new(config));
        for asks in [&[SSL][..], &[GSS, SSL], &[]] {
            let mut stream = world.connect("db.example.org.", 5432).await.unwrap();
            for ask in asks {
                stream.write_all(ask).await.unwrap();
                assert_eq!(stream.read_u8().await.unwrap(), if *ask == SSL { b'S' } else { b'N' });
            }
            let mut stream = connector.connect(name.clone(), stream).await.unwrap();
            stream.write_all(&usual()).await.unwrap();
            session(&mut stream).await.unwrap();
        }
        assert_eq!(heard.lock().unwrap().starts, vec![("app".to_owned(), "sales".to_owned()); 4]);
        let lines = world.lines();
        let intent = |nth: usize| {
            let of = |line: &Line| if let Line::Intent(_, value) = line { Some(value.clone()) } else { None };
            lines.iter().filter_map(of).nth(nth).unwrap()
        };
        assert_eq!((&intent(0)["do"], &intent(0)["port"]), (&"connect".into(), &5432.into()));
        assert_eq!((&intent(1)["secret"], &intent(1)["user"]), (&"prod/db".into(), &"app".into()));
        assert_eq!((&intent(1)["database"], &intent(1)["connection"]), (&"sales".into(), &1.into()));
        assert!(lines.contains(&Line::Outcome(2, serde_json::json!({"done": true}))), "{lines:?}");
        assert!(!format!("{lines:?}").contains(PASSWORD));
    });
}

#[test]
fn a_start_may_come_in_pieces_and_a_server_may_know_no_binding() {
    alone(|world| async move {
        with_db(&world, Mood::NoPlus).await;
        let mut stream = world.connect("db.example.org.", 5432).await.unwrap();
        stream.set_nodelay(true).unwrap();
        for byte in usual() {
            stream.write_all(&[byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        session(&mut stream).await.unwrap();
    });
}

#[test]
fn who_is_not_granted_is_told_so_and_nothing_is_connected_to() {
    alone(|world| async move {
        let (heard, authority) = with_db(&world, Mood::Good).await;
        let long = "x".repeat(10_000);
        for (begin, code) in [
            (start(&[("user", "root"), ("database", "sales")]), "28000"),
            (start(&[("user", "app"), ("database", "postgres")]), "28000"),
            (start(&[("user", "app")]), "28000"),
            (start(&[("user", "app"), ("database", "sales"), ("replication", "true")]), "08P01"),
            (start(&[("user", "app"), ("user", "root"), ("database", "sales")]), "08P01"),
            (start(&[("user", "app"), ("database", "sales"), ("x", &long)]), "08P01"),
            ([GSS, GSS].concat(), "08P01"),
            (b"GET / HTTP/1.1\r\n\r\n".to_vec(), "08P01"),
        ] {
            let mut stream = world.connect("db.example.org.", 5432).await.unwrap();
            stream.write_all(&begin).await.unwrap();
            if begin.starts_with(GSS) {
                stream.read_u8().await.unwrap();
            }
            let why = session(&mut stream).await.unwrap_err();
            assert!(why.contains(&format!("C{code} Moctant: ")) && why.contains(" H"), "{code}: {why}");
        }
        // TLS that does not say what it is for, and bytes before TLS that want to be read inside of it.
        let name = ServerName::try_from(DB).unwrap();
        let connector = TlsConnector::from(trusting(&authority));
        let stream = world.connect("db.example.org.", 5432).await.unwrap();
        let mut stream = connector.connect(name.clone(), stream).await.unwrap();
        stream.write_all(&usual()).await.unwrap();
        assert!(session(&mut stream).await.is_err());
        let mut stream = world.connect("db.example.org.", 5432).await.unwrap();
        stream.write_all(&[SSL, &usual()].concat()).await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), b'S');
        assert!(connector.connect(name, stream).await.is_err());
        assert_eq!(heard.lock().unwrap().connections, 0);
        assert!(world.vault.asked.lock().unwrap().is_empty());
        let denied = world.denied();
        assert!(denied.iter().any(|why| why.contains("logs root in at db.example.org")), "{denied:?}");
        assert!(denied.len() >= 6, "{denied:?}");
    });
}

/// What a program is told by a server of this mood, and whether the vault was asked.
fn meets(mood: Mood, told: &'static str, asks: bool) {
    alone(move |world| async move {
        let (heard, _) = with_db(&world, mood).await;
        let why = plain(&world, &usual()).await.unwrap_err();
        assert!(why.contains(told) && !why.contains(PASSWORD), "{mood:?}: {why}");
        assert_eq!(!world.vault.asked.lock().unwrap().is_empty(), asks, "{mood:?}");
        if asks && mood != Mood::Endless {
            let end = world.outcome(|v| v["done"] == false && v["why"].is_string()).await;
            assert!(end["why"].as_str().unwrap().len() > 10, "{end}");
        }
        assert!(heard.lock().unwrap().all.is_empty(), "{mood:?}: nothing of the program goes on");
        assert!(!format!("{:?}", world.lines()).contains(PASSWORD));
    });
}

#[test]
fn a_server_that_wants_less_than_a_proof_is_refused_before_the_vault_is_asked() {
    meets(Mood::Cleartext, "asks for the password itself", false);
    meets(Mood::Md5, "MD5", false);
    meets(Mood::Trust, "asks for no password", false);
    meets(Mood::NoTls, "has no TLS", false);
    meets(Mood::Stuffed, "TLS", false);
    meets(Mood::FewRounds, "fewer than 4096", false);
    meets(Mood::Oversize, "says more at once", false);
    meets(Mood::Refuses, "C28P01", false);
}

#[test]
fn a_server_that_does_not_know_the_password_itself_is_refused() {
    meets(Mood::BadSignature, "may be another server", true);
    meets(Mood::NoSignature, "does not show that it knows", true);
    meets(Mood::Endless, "comes to no end", true);
}

#[test]
fn a_password_that_is_wrong_or_missing_is_said_in_the_protocols_own_words() {
    alone(|world| async move {
        with_db(&world, Mood::Good).await;
        world.vault.values.lock().unwrap().insert("prod/db".into(), "another password".into());
        assert!(plain(&world, &usual()).await.unwrap_err().contains("C28P01"));
        let end = world.outcome(|v| v["done"] == false && v["why"].is_string()).await;
        assert!(end["why"].as_str().unwrap().contains("28P01"), "{end}");
        world.vault.values.lock().unwrap().clear();
        let why = plain(&world, &usual()).await.unwrap_err();
        assert!(why.contains("C28000") && why.contains("octant vault grant prod/db"), "{why}");
    });
}

async fn cancels(world: &World, key: &Key) {
    let mut stream = world.connect("db.example.org.", 5432).await.unwrap();
    stream.write_all(&postgres::cancel(key)).await.unwrap();
    // The protocol has no answer but the end.
    assert!(matches!(stream.read(&mut [0]).await, Ok(0)));
}

#[test]
fn a_statement_is_cancelled_by_whose_it_is() {
    alone(|world| async move {
        let (heard, _) = with_db(&world, Mood::Good).await;
        let other = world.beside();
        admits(&other);
        let session = plain(&world, &usual()).await.unwrap();
        cancels(&other, &KEY).await;
        cancels(&world, b"\0\0\0\x07abce").await;
        // The program sees its end before the gate has heard why.
        while world.denied().len() < 2 {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        assert_eq!(heard.lock().unwrap().connections, 1, "{:?}", world.denied());
        cancels(&world, &KEY).await;
        assert_eq!(heard.lock().unwrap().cancels, [KEY]);
        drop(session);
        // The worker learns of the end by itself.
        let mut gone = false;
        for _ in 0..500 {
            let before = heard.lock().unwrap().connections;
            cancels(&world, &KEY).await;
            gone = heard.lock().unwrap().connections == before;
            if gone {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        assert!(gone, "a session that is over has no key");
    });
}

#[test]
fn a_session_ends_with_the_rule_that_allowed_it() {
    alone(|world| async move {
        with_db(&world, Mood::Good).await;
        let mut stream = plain(&world, &usual()).await.unwrap();
        assert_eq!(world.admit(&["tls://db.example.org:443"], &[], FREE).await, 1);
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(std::time::Duration::from_secs(5), stream.read_to_end(&mut rest));
        assert!(ended.await.is_ok());
        world.outcome(|v| v["end"].as_str().is_some_and(|end| end.contains("gone"))).await;
    });
}

#[test]
fn a_worker_has_a_password_for_what_it_is_granted_for_alone() {
    let rights = Rights::read(1, &[], &[], FREE, |_| None).unwrap();
    let rights = rights.using(&[], &[login("app@db.example.org:5432/sales")], None).unwrap();
    let gives = |secret: &str, host: &str, port, user: &str, database: &str| {
        let purpose = Purpose::Login { user: user.into(), database: database.into() };
        rights.gives(&secret.parse().unwrap(), &host.parse().unwrap(), port, &purpose)
    };
    assert!(gives("prod/db", DB, 5432, "app", "sales"));
    assert!(
        !gives("prod/x", DB, 5432, "app", "sales")
            && !gives("prod/db", "x.example.org", 5432, "app", "sales")
    );
    assert!(!gives("prod/db", DB, 5433, "app", "sales") && !gives("prod/db", DB, 5432, "root", "sales"));
    assert!(!gives("prod/db", DB, 5432, "app", "other"));
    // Nor is it ever put into a request, where it would be seen.
    let request = Purpose::Request { method: "GET".into(), path_sha256: Sha256([0; 32]) };
    assert!(!rights.gives(&"prod/db".parse().unwrap(), &DB.parse().unwrap(), 5432, &request));
}
