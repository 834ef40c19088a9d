//! The whole router between a program and upstreams on loopback: what goes through, what does not, what is on record.

mod attacks;
mod doors;
mod ends;
mod keys;
mod limits;
mod operators;
mod pushed;
mod shared;
mod signed;
mod through;
mod tricks;

use crate::agents::Agent;
use crate::book::{Book, Durable};
use crate::core::tests::word;
use crate::door::Door;
use crate::http;
use crate::router::Router;
use crate::secrets::{Coming, Keys};
use crate::upstream::Upstreams;
use octant_api::agents::Amounts;
use octant_api::router::AdmitRequest;
use octant_ids::{Aid, SecretName};
use octant_outside::tls::{extra_roots, towards_hosts};
use octant_outside::{Resolve, Vet};
use rustls::RootCertStore;
use serde_json::Value;
use std::collections::BTreeMap;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What was put on record.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Line {
    Intent(u64, Value),
    Outcome(u64, Value),
    Decided(Value),
}

#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) lines: Mutex<Vec<Line>>,
    next: AtomicU64,
    pub(super) broken: AtomicBool,
    /// Takes no intent for as long as this is so.
    pub(super) slow: AtomicBool,
}

impl Book for Arc<Ledger> {
    fn intent(&self, _: Option<Aid>, payload: Value) -> Durable<'_> {
        Box::pin(async move {
            while self.slow.load(Ordering::Relaxed) {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
            if self.broken.load(Ordering::Relaxed) {
                return Err("the ledger is broken".to_owned());
            }
            let seq = self.next.fetch_add(1, Ordering::Relaxed) + 1;
            self.lines.lock().unwrap().push(Line::Intent(seq, payload));
            Ok(seq)
        })
    }

    fn outcome(&self, _: Option<Aid>, intent: u64, payload: &Value) {
        self.lines.lock().unwrap().push(Line::Outcome(intent, payload.clone()));
    }

    fn decided(&self, _: Option<Aid>, payload: &Value) {
        self.lines.lock().unwrap().push(Line::Decided(payload.clone()));
    }

    fn hurry(&self) {}
}

/// The key that every upstream wants.
pub(super) const KEY: &str = "sk-octant-test-0123456789";

/// Gives keys, and counts how often it was asked for one.
struct Vault(Arc<AtomicU64>);

impl Keys for Vault {
    fn key(&self, name: &SecretName, host: &str) -> Coming {
        self.0.fetch_add(1, Ordering::Relaxed);
        let (name, host) = (name.clone(), host.to_owned());
        Box::pin(async move {
            match name.as_str() {
                "test/key" => Ok(zeroize::Zeroizing::new(KEY.as_bytes().to_vec())),
                "test/aws" => {
                    let parts = [signed::ID, signed::SECRET, signed::TOKEN].join(":");
                    Ok(zeroize::Zeroizing::new(parts.into_bytes()))
                }
                _ => Err(format!("the vault gives no key {name} for {host}")),
            }
        })
    }
}

struct Nowhere;

impl Resolve for Nowhere {
    fn addresses<'a>(
        &'a self,
        _: &'a octant_manifest::HostName,
    ) -> Pin<Box<dyn Future<Output = Result<Vec<IpAddr>, String>> + Send + 'a>> {
        Box::pin(async { Err("no name leads anywhere here".to_owned()) })
    }
}

/// What an upstream answers to one request: all bytes of it, in pieces. After the last it closes the connection.
pub(super) type Script = Vec<Vec<u8>>;

/// An upstream: answers each connection with the next script, the last one again and again.
pub(super) struct Upstream {
    pub(super) at: SocketAddr,
    /// What was asked: head and body.
    pub(super) asked: Arc<Mutex<Vec<String>>>,
    /// How many connections ended before the script did, since the other side went away.
    pub(super) left: Arc<AtomicU64>,
}

impl Upstream {
    pub(super) async fn new(scripts: Vec<Script>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let (asked, left) = (Arc::<Mutex<Vec<String>>>::default(), Arc::<AtomicU64>::default());
        let (noted, leaving) = (Arc::clone(&asked), Arc::clone(&left));
        tokio::spawn(async move {
            let mut number = 0;
            while let Ok((stream, _)) = listener.accept().await {
                let script = scripts[number.min(scripts.len() - 1)].clone();
                number += 1;
                let (noted, leaving) = (Arc::clone(&noted), Arc::clone(&leaving));
                tokio::spawn(async move { speak(stream, script, &noted, &leaving).await });
            }
        });
        Self { at, asked, left }
    }

    pub(super) fn last(&self) -> String {
        self.asked.lock().unwrap().last().cloned().unwrap_or_default()
    }
}

async fn speak(mut stream: TcpStream, script: Script, asked: &Mutex<Vec<String>>, left: &AtomicU64) {
    let (head, body) = message(&mut stream).await;
    asked.lock().unwrap().push(format!("{head}{body}"));
    for piece in script {
        // An empty piece is a pause without end.
        if piece.is_empty() {
            let mut byte = [0];
            let _ = stream.read(&mut byte).await;
            left.fetch_add(1, Ordering::Relaxed);
            return;
        }
        if stream.write_all(&piece).await.is_err() {
            left.fetch_add(1, Ordering::Relaxed);
            return;
        }
        tokio::task::yield_now().await;
    }
}

/// Reads a message of HTTP with a length.
async fn message(stream: &mut TcpStream) -> (String, String) {
    let mut bytes = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().unwrap())
            });
            if body.len() >= length.unwrap_or(0) {
                return (format!("{head}\r\n\r\n"), body.to_owned());
            }
        }
        match stream.read(&mut piece).await {
            Ok(0) | Err(_) => return (text, String::new()),
            Ok(count) => bytes.extend_from_slice(&piece[..count]),
        }
    }
}

/// An answer in one piece.
pub(super) fn json(status: &str, body: &str) -> Script {
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    vec![format!("{head}{body}").into_bytes()]
}

/// A stream of these events, which ends with its connection.
pub(super) fn events(events: &[&str]) -> Script {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n";
    let data = events.iter().map(|event| format!("data: {event}\n\n").into_bytes());
    [head.as_bytes().to_vec()].into_iter().chain(data).collect()
}

/// An answer of chat completions that used 9 and 3 tokens.
pub(super) const CHAT: &str = r#"{"id":"c1","object":"chat.completion","created":1,"model":"m1-2026","own":[1, 2],"choices":[{"index":0,"message":{"role":"assistant","content":"Hello"},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":3,"total_tokens":12}}"#;

/// The same as a stream.
pub(super) const CHUNKS: [&str; 5] = [
    r#"{"id":"c1","object":"chat.completion.chunk","created":1,"model":"m1-2026","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}],"usage":null}"#,
    r#"{"id":"c1","object":"chat.completion.chunk","created":1,"model":"m1-2026","choices":[{"index":0,"delta":{"content":"Hello"},"finish_reason":null}],"usage":null}"#,
    r#"{"id":"c1","object":"chat.completion.chunk","created":1,"model":"m1-2026","choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":null}"#,
    r#"{"id":"c1","object":"chat.completion.chunk","created":1,"model":"m1-2026","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":3,"total_tokens":12}}"#,
    "[DONE]",
];

/// A router with one agent, which listens on loopback.
pub(super) struct World {
    pub(super) router: Arc<Router>,
    pub(super) ledger: Arc<Ledger>,
    /// How often the vault was asked for a key.
    pub(super) keys: Arc<AtomicU64>,
    pub(super) agent: Arc<Agent>,
    pub(super) at: SocketAddr,
    pub(super) dir: PathBuf,
}

impl Drop for World {
    fn drop(&mut self) {
        self.router.agents.dismiss(self.agent.aid);
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// A deployment of a provider at this address.
pub(super) fn deployment(name: &str, dialect: &str, at: SocketAddr) -> String {
    format!(
        "[[provider]]\nname = \"p-{name}\"\nbase = \"http://{at}/v1\"\ndialect = \"{dialect}\"\nauth = \"bearer\"\nstream_usage = true\n\
         [[deployment]]\nname = \"{name}\"\nprovider = \"p-{name}\"\nmodel = \"m-{name}\"\nkey = \"test/key\"\n\
         window = 100000\nmax_output = 1000\nprice = {{ input = 1000000, output = 2000000 }}\n\
         can = [\"answers\", \"streaming\", \"tools\"]\n"
    )
}

static NUMBER: AtomicU64 = AtomicU64::new(0);

impl World {
    /// With this router.toml, and an agent that may ask these models and has so much.
    pub(super) async fn new(file: &str, models: &[&str], has: Amounts) -> Self {
        let aid = Aid::from_bytes([7; 16]);
        Self::with(file, word(aid, models), has).await
    }

    pub(super) async fn with(file: &str, word: AdmitRequest, has: Amounts) -> Self {
        Self::trusting(file, word, has, extra_roots(b"").unwrap()).await
    }

    /// The same, with these authorities for upstreams besides.
    pub(super) async fn trusting(file: &str, word: AdmitRequest, has: Amounts, roots: RootCertStore) -> Self {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("octant-router-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("router.toml"), file).unwrap();
        let (ledger, keys) = (Arc::<Ledger>::default(), Arc::<AtomicU64>::default());
        let tls = towards_hosts(roots).unwrap();
        let upstreams = Upstreams::new(Box::new(Nowhere), Vet::default(), tls);
        let router = Router::new(
            Box::new(Arc::clone(&ledger)),
            Box::new(Vault(Arc::clone(&keys))),
            upstreams,
            dir.join("router.toml"),
            &dir,
            Door::new(None, None),
        );
        let router = Arc::new(router);
        router.reload().unwrap_or_else(|why| panic!("{why}"));
        let (agent, _) = router.agents.admit(&word).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let serving = tokio::spawn(http::serve(Arc::clone(&router), Arc::clone(&agent), listener));
        agent.listens(vec![serving.abort_handle()]);
        fund(&agent, has);
        Self { router, ledger, keys, agent, at, dir }
    }

    /// Asks, and gives the status, the head and the body.
    pub(super) async fn ask(&self, path: &str, body: &str) -> (u16, String, String) {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        self.raw(format!("{head}{body}").as_bytes()).await
    }

    pub(super) async fn get(&self, path: &str) -> (u16, String, String) {
        self.raw(format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes()).await
    }

    /// Sends these bytes; what comes until the end, without the marks of chunks.
    pub(super) async fn raw(&self, bytes: &[u8]) -> (u16, String, String) {
        let mut stream = TcpStream::connect(self.at).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut all = Vec::new();
        let _ = stream.read_to_end(&mut all).await;
        let text = String::from_utf8(all).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
        let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
        (status, head.to_owned(), if chunked { unchunked(body) } else { body.to_owned() })
    }

    /// What is on record, when it has as many lines.
    pub(super) async fn lines(&self, count: usize) -> Vec<Line> {
        for _ in 0..10_000 {
            let lines = self.ledger.lines.lock().unwrap().clone();
            if lines.len() >= count {
                return lines;
            }
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        panic!("{:?}", self.ledger.lines.lock().unwrap())
    }
}

fn unchunked(mut body: &str) -> String {
    let mut out = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
        if size == 0 || rest.len() < size {
            break;
        }
        out.push_str(&rest[..size]);
        body = rest[size..].strip_prefix("\r\n").unwrap_or("");
    }
    out
}

/// Answers what the agent's purse asks, out of so much in all.
pub(super) fn fund(agent: &Arc<Agent>, has: Amounts) {
    let agent = Arc::downgrade(agent);
    tokio::spawn(async move {
        while let Some(agent) = agent.upgrade() {
            if let Some((_, draw)) = agent.purse.question() {
                agent.purse.fund(draw.want.zip(has, u64::min));
            }
            drop(agent);
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    });
}

/// As good as without end.
pub(super) const PLENTY: Amounts = Amounts { tokens: 1 << 40, microusd: 1 << 40, bytes: 0, requests: 0 };

pub(super) fn tokens(tokens: u64) -> Amounts {
    Amounts { tokens, ..PLENTY }
}

/// The payloads of outcomes, by field.
pub(super) fn outcome(lines: &[Line]) -> BTreeMap<String, Value> {
    let found = lines.iter().rev().find_map(|line| match line {
        Line::Outcome(_, payload) => payload.as_object().cloned(),
        _ => None,
    });
    found.unwrap_or_default().into_iter().collect()
}
