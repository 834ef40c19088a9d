//! Secrets that are used for an agent and that it never sees: TLS that ends at the gate, and begins there anew.

use super::{FREE, Line, World, alone};
use crate::authority::Voucher;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use octant_api::egress::{AdmitRequest, Credential};
use octant_ids::{Aid, Sha256};
use rcgen::{CertificateParams, KeyPair};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::{TlsAcceptor, TlsConnector};

pub(super) const MINE: &str = "octs_abcdefghijklmnopqrstuv";
pub(super) const OTHERS: &str = "octs_bbbbbbbbbbbbbbbbbbbbbb";
pub(super) const SECRET: &str = "ghp_the-real-secret-value";
pub(super) const API: &str = "api.example.org";

/// What a host of this name is towards who connects.
pub(super) fn certified(world: &World, name: &str) -> ServerConfig {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &world.issuer).unwrap();
    ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
        .unwrap()
}

/// A host of TLS that answers by what it is asked, and keeps what it heard.
pub(super) async fn host(world: &World, name: &str, at: &str) -> Arc<Mutex<String>> {
    let config = certified(world, name);
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind(at).await.unwrap();
    let heard = Arc::<Mutex<String>>::default();
    let keeps = Arc::clone(&heard);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (keeps, acceptor) = (Arc::clone(&keeps), acceptor.clone());
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let mut buffer = [0; 8192];
                while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                    let text = String::from_utf8_lossy(&buffer[..count]).into_owned();
                    keeps.lock().unwrap().push_str(&text);
                    if answers(&text, &mut stream).await.is_err() {
                        break;
                    }
                }
            });
        }
    });
    heard
}

async fn answers(request: &str, to: &mut (impl AsyncWriteExt + Unpin)) -> std::io::Result<()> {
    if request.starts_with("GET /packed") {
        to.write_all(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\nxx").await?;
    } else if request.starts_with("GET /mirror") {
        // Everything back, in two pieces that part the secret, and a reason of its own.
        let (one, other) = request.split_at(request.find(SECRET).unwrap_or(0) + 5);
        let head = format!(
            "HTTP/1.1 200 {SECRET}\r\nX-Mirror: a {SECRET} b\r\nSet-Cookie: s={SECRET}\r\nTransfer-Encoding: chunked\r\n\r\n"
        );
        to.write_all(head.as_bytes()).await?;
        to.write_all(format!("{:x}\r\n{one}\r\n", one.len()).as_bytes()).await?;
        to.flush().await?;
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        to.write_all(format!("{:x}\r\n{other}\r\n0\r\nX-Trailer: {SECRET}\r\n\r\n", other.len()).as_bytes())
            .await?;
    } else {
        to.write_all(b"HTTP/1.1 302 Found\r\nLocation: https://evil.org/\r\nContent-Length: 2\r\n\r\nok")
            .await?;
    }
    to.flush().await
}

pub(super) fn credential() -> Credential {
    Credential {
        secret: "prod/api".parse().unwrap(),
        host: API.into(),
        placeholder: MINE.into(),
        place: String::new(),
    }
}

/// The hosts, and the authority that the agent trusts.
pub(super) async fn with_api(world: &World) -> (Arc<Mutex<String>>, String) {
    world.name(API, &["11.0.0.2"]);
    let heard = host(world, API, "11.0.0.2:443").await;
    let hosts = ["tls://api.example.org:443", "tls://other.example.org:443", "http://web.example.org:80"];
    let admitted = world.admit_with(&hosts, &[], FREE, &[credential()]).await;
    world.vault.values.lock().unwrap().insert("prod/api".into(), SECRET.into());
    (heard, admitted.authority.unwrap())
}

pub(super) fn trusting(authority: &str) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.as_bytes()).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

/// What a program does that trusts this authority alone: one request, and everything that comes back.
pub(super) async fn ask(world: &World, authority: &str, request: &str) -> Result<String, String> {
    let stream = world.connect("api.example.org.", 443).await.map_err(|e| e.to_string())?;
    let name = ServerName::try_from(API).unwrap();
    let connected = TlsConnector::from(trusting(authority)).connect(name, stream).await;
    let mut stream = connected.map_err(|error| error.to_string())?;
    stream.write_all(request.as_bytes()).await.map_err(|error| error.to_string())?;
    let mut text = Vec::new();
    // The gate need not say that TLS ends before it closes.
    let _ = stream.read_to_end(&mut text).await;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

pub(super) fn get(path: &str, headers: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {API}\r\nConnection: close\r\n{headers}\r\n")
}

#[test]
fn a_secret_is_used_and_never_seen() {
    alone(|world| async move {
        let (heard, authority) = with_api(&world).await;
        let bearer = format!("Authorization: Bearer {MINE}\r\nAccept-Encoding: gzip\r\nRange: bytes=0-3\r\n");
        let answer = ask(&world, &authority, &get("/v1?x=y", &bearer)).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 302") && answer.ends_with("ok"), "{answer}");
        let said = heard.lock().unwrap().to_ascii_lowercase();
        assert!(said.contains(&format!("authorization: bearer {SECRET}\r\n")), "{said}");
        assert!(said.contains("accept-encoding: identity\r\n") && !said.contains("range:"), "{said}");
        assert!(!said.contains(MINE), "{said}");
        let asked = world.vault.asked.lock().unwrap().clone();
        assert_eq!(asked.len(), 1);
        assert_eq!((asked[0].aid, asked[0].manifest), (world.aid, Some(Sha256([3; 32]))));
        assert_eq!((asked[0].secret.as_str(), asked[0].host.as_str()), ("prod/api", API));
        world.outcome(|v| v["status"] == 302).await;
        let lines = world.lines();
        let intents: Vec<_> = lines
            .iter()
            .filter_map(|line| if let Line::Intent(seq, value) = line { Some((*seq, value)) } else { None })
            .collect();
        assert_eq!(intents[0].1["do"], "connect");
        let used = intents[1].1;
        assert_eq!(
            (&used["secret"], &used["method"], &used["connection"]),
            (&"prod/api".into(), &"GET".into(), &intents[0].0.into())
        );
        assert_eq!(used["path_sha256"].as_str().unwrap().len(), 64);
        assert!(!format!("{lines:?}").contains(SECRET));
    });
}

#[test]
fn what_a_host_gives_back_is_taken_out() {
    alone(|world| async move {
        let (_, authority) = with_api(&world).await;
        let request = get("/mirror", &format!("X-Api-Key: {MINE}\r\n"));
        let answer = ask(&world, &authority, &request).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        let masked = "*".repeat(SECRET.len());
        assert!(answer.contains(&format!("x-mirror: a {masked} b")), "{answer}");
        assert!(answer.contains(&format!("set-cookie: s={masked}")), "{answer}");
        assert!(answer.contains("x-api-key: ") && !answer.contains(SECRET), "{answer}");
        assert!(!answer.to_ascii_lowercase().contains("trailer"), "{answer}");
        // Without the piece that was held back, no piece has it either.
        assert!(!answer.contains(&SECRET[..5]) && !answer.contains(&SECRET[5..]), "{answer}");
        let packed =
            ask(&world, &authority, &get("/packed", &format!("X-Api-Key: {MINE}\r\n"))).await.unwrap();
        assert!(packed.starts_with("HTTP/1.1 502") && packed.contains("encodes"), "{packed}");
    });
}

#[test]
fn what_must_not_be_sent_is_not_sent() {
    alone(|world| async move {
        let (heard, authority) = with_api(&world).await;
        for (headers, path, why) in [
            (format!("X-Note: {MINE}\r\n"), "/".to_owned(), "no secret is put"),
            (String::new(), format!("/?key={MINE}"), "no secret is put"),
            (format!("Authorization: Bearer {OTHERS}\r\n"), "/".to_owned(), "not this agent's"),
        ] {
            let answer = ask(&world, &authority, &get(&path, &headers)).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 403") && answer.contains(why), "{answer}");
        }
        let other = get("/", "").replace(API, "other.example.org");
        let answer = ask(&world, &authority, &other).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 421"), "{answer}");
        world.vault.values.lock().unwrap().clear();
        let bearer = format!("Authorization: Bearer {MINE}\r\n");
        let answer = ask(&world, &authority, &get("/", &bearer)).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 403") && answer.contains("not granted"), "{answer}");
        world.vault.values.lock().unwrap().insert("prod/api".into(), SECRET.into());
        world.ledger.broken.store(true, std::sync::atomic::Ordering::Relaxed);
        let answer = ask(&world, &authority, &get("/", &bearer)).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 502") && answer.contains("ledger"), "{answer}");
        assert_eq!(*heard.lock().unwrap(), "", "nothing of it was sent");
        let canaries =
            world.lines().into_iter().filter(|line| matches!(line, Line::Denied(v) if v["canary"] == true));
        assert_eq!(canaries.count(), 1);
    });
}

#[test]
fn a_placeholder_in_the_open_is_a_canary() {
    alone(|world| async move {
        with_api(&world).await;
        world.name("web.example.org", &["11.0.0.3"]);
        let reached = world.echo("11.0.0.3:80").await;
        let mut stream = world.connect("web.example.org.", 80).await.unwrap();
        let request = format!("GET / HTTP/1.1\r\nHost: web.example.org\r\nX-Api-Key: {MINE}\r\n\r\n");
        let answer = super::say(&mut stream, request.as_bytes(), 12).await.unwrap();
        assert_eq!(answer, b"HTTP/1.1 403");
        assert_eq!(reached.load(std::sync::atomic::Ordering::Relaxed), 0);
        assert!(world.denied()[0].contains("web.example.org"), "{:?}", world.denied());
        assert!(matches!(&world.lines()[0], Line::Denied(v) if v["canary"] == true));
    });
}

#[test]
fn a_host_that_nobody_vouches_for_gets_no_secret() {
    alone(|world| async move {
        let (issuer, _) = super::authority();
        let world = World { issuer, ..world };
        let (heard, authority) = with_api(&world).await;
        let bearer = format!("Authorization: Bearer {MINE}\r\n");
        let answer = ask(&world, &authority, &get("/", &bearer)).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 502") && answer.contains("TLS"), "{answer}");
        assert_eq!(*heard.lock().unwrap(), "");
        assert!(world.vault.asked.lock().unwrap().is_empty(), "the vault is not asked before");
    });
}

#[test]
fn an_authority_is_one_agents_and_good_for_its_hosts_alone() {
    alone(|world| async move {
        let (_, authority) = with_api(&world).await;
        let again = world.admit_with(&["tls://api.example.org:443"], &[], FREE, &[credential()]).await;
        assert_eq!(again.authority.as_ref(), Some(&authority), "a later word keeps it");
        let others = world.gate.admit(
            &AdmitRequest {
                aid: Aid::from_bytes([6; 16]),
                generation: 1,
                hosts: vec!["tls://api.example.org:443".into()],
                leases: Vec::new(),
                credentials: vec![credential()],
                logins: Vec::new(),
                manifest: None,
                caps: FREE,
            },
            None,
        );
        let others = others.unwrap().authority.unwrap();
        let refused = ask(&world, &others, &get("/", "")).await.unwrap_err();
        assert!(refused.contains("certificate"), "{refused}");
        // For a host that no secret is used at its word is worth nothing.
        let other = "other.example.org".parse().unwrap();
        let config =
            Voucher::read(world.client().authority().unwrap().fd().try_clone_to_owned().unwrap()).unwrap();
        let config = config.as_host(&other).unwrap();
        let (inside, outside) = tokio::io::duplex(1 << 16);
        let accepting =
            tokio::spawn(async move { TlsAcceptor::from(config).accept(outside).await.map(drop) });
        let connector = TlsConnector::from(trusting(&authority));
        let refused = connector.connect(ServerName::try_from("other.example.org").unwrap(), inside).await;
        assert!(refused.map(drop).unwrap_err().to_string().contains("certificate"));
        assert!(accepting.await.unwrap().is_err());
    });
}

#[test]
fn a_secret_goes_where_its_grant_says() {
    alone(|world| async move {
        world.name(API, &["11.0.0.2"]);
        let heard = host(&world, API, "11.0.0.2:443").await;
        world.vault.values.lock().unwrap().insert("prod/api".into(), SECRET.into());
        let places =
            ["header x-auth", "basic me", "query GET /in key", "form POST /in key", "json PUT /in key"];
        let at = |place: &&str| Credential { place: (*place).into(), ..credential() };
        let credentials: Vec<Credential> =
            places.iter().chain(&["sigv4 AKID us-east-1 s3"]).map(at).collect();
        let admitted = world.admit_with(&["tls://api.example.org:443"], &[], FREE, &credentials).await;
        let authority = admitted.authority.unwrap();
        let basic = |password: &str| format!("Basic {}", STANDARD.encode(format!("me:{password}")));
        let put = |method: &str, kind: &str, body: &str| {
            let lines = format!("Content-Type: {kind}\r\nContent-Length: {}\r\n", body.len());
            get("/in", &lines).replacen("GET", method, 1) + body
        };
        let json = format!("{{\"a\":1,\"key\":\"{SECRET}\"}}");
        for (request, sent) in [
            (get("/", &format!("X-Auth: {MINE}\r\n")), format!("x-auth: {SECRET}\r\n")),
            (
                get("/", &format!("Authorization: {}\r\n", basic(MINE))),
                format!("authorization: {}\r\n", basic(SECRET)),
            ),
            (get(&format!("/in?key={MINE}"), ""), format!("GET /in?key={SECRET} HTTP/1.1\r\n")),
            (
                put("POST", "application/x-www-form-urlencoded", &format!("key={MINE}")),
                format!("\r\n\r\nkey={SECRET}"),
            ),
            (put("PUT", "application/json", &json.replace(SECRET, MINE)), format!("\r\n\r\n{json}")),
        ] {
            heard.lock().unwrap().clear();
            let answer = ask(&world, &authority, &request).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 302"), "{request}: {answer}");
            let said = heard.lock().unwrap().clone();
            assert!(said.contains(&sent) && !said.contains(MINE), "{sent} is not in {said}");
        }
        heard.lock().unwrap().clear();
        let signed = "Authorization: AWS4-HMAC-SHA256 Credential=AKID/20130524/us-east-1/s3/aws4_request, \
                      SignedHeaders=host;x-amz-date, Signature=00\r\nX-Amz-Date: 20130524T000000Z\r\n";
        ask(&world, &authority, &get("/x", signed)).await.unwrap();
        let said = heard.lock().unwrap().clone();
        assert!(
            said.contains("SignedHeaders=host;x-amz-date,Signature=") && !said.contains("Signature=00\r\n"),
            "{said}"
        );
        assert_eq!(world.vault.asked.lock().unwrap().len(), 6);
        // Without a place of its own among them the usual headers are none.
        let answer = ask(&world, &authority, &get("/", &format!("X-Api-Key: {MINE}\r\n"))).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    });
}

#[test]
fn an_authority_outlives_the_gate() {
    alone(|world| async move {
        let (_, authority) = with_api(&world).await;
        let kept = world.client().authority().unwrap().fd().try_clone_to_owned().unwrap();
        world.gate.dismiss(world.aid);
        // Its listeners are closed by then.
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        // Another gate, which has what PID 1 kept.
        let vet = octant_outside::Vet { allow: vec!["11.0.0.0/8".parse().unwrap()] };
        let start = Box::new(Arc::clone(&world.copies));
        let gate = super::gate_of(&world.ledger, &world.outside, &world.vault, vet, start, &world.roots);
        let world = World { gate: Arc::new(gate), ..world };
        let kept = crate::authority::Authority::kept(kept).unwrap();
        let hosts = ["tls://api.example.org:443"];
        let admitted = world.admit_kept(&hosts, &[credential()], Some(kept)).await;
        assert_eq!(admitted.authority.as_ref(), Some(&authority));
        // A program that trusted the gate before trusts it now.
        let answer = ask(&world, &authority, &get("/", &format!("X-Api-Key: {MINE}\r\n"))).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 302"), "{answer}");
        // For other hosts than it was made for it is none.
        let kept = world.client().authority().unwrap().fd().try_clone_to_owned().unwrap();
        world.gate.dismiss(world.aid);
        // Its listeners are closed by then.
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        let kept = crate::authority::Authority::kept(kept).unwrap();
        let others = Credential { host: "other.example.org".into(), ..credential() };
        let admitted = world.admit_kept(&["tls://other.example.org:443"], &[others], Some(kept)).await;
        assert!(admitted.authority.is_some_and(|now| now != authority));
    });
}
