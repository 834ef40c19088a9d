//! The entries for fuzzing: what an agent's program says first, as the gate and its workers read it. Each must return for
//! every input.

use crate::core::Rights;
use crate::dns;
use crate::hello;
use crate::inject::{self, Credential};
use crate::message::{HEAD_MAX, HEADERS_MAX, strip};
use crate::names::Names;
use crate::postgres::{self, Authentication, Opening};
use crate::scram;
use crate::scrub::Scrub;
use crate::socks;
use crate::worker::target;
use crate::worker::upstream::Version;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use octant_api::egress::{Caps, Credential as Said};
use octant_ids::Aid;
use octant_manifest::HostName;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Reads arbitrary bytes as the begin of TLS.
pub fn fuzz_hello(bytes: &[u8]) {
    let _ = hello_is_read(bytes);
}

fn hello_is_read(bytes: &[u8]) -> bool {
    matches!(hello::read(bytes), hello::Hello::Named(Some(_)))
}

/// Reads arbitrary bytes as what a program says to SOCKS.
pub fn fuzz_socks(bytes: &[u8]) {
    let _ = socks_is_read(bytes);
}

fn socks_is_read(bytes: &[u8]) -> bool {
    let socks::Next::Greeted { taken } = socks::greeting(bytes) else { return false };
    matches!(socks::request(bytes.get(taken..).unwrap_or_default()), socks::Next::Connect { .. })
}

/// Reads arbitrary bytes as a question for a name.
pub fn fuzz_dns(bytes: &[u8]) {
    let _ = dns_is_read(bytes);
}

fn dns_is_read(bytes: &[u8]) -> bool {
    let caps = Caps { connections: 1, bytes: None, bytes_per_second: None, drawn: false };
    let hosts = ["tls://api.example.org:443".to_owned(), "tls://*.example.net:443".to_owned()];
    let Ok(rights) = Rights::read(1, &hosts, &[], caps, |_| None) else { return false };
    let mut names = Names::new(Aid::from_bytes([1; 16]));
    // The code is in the low half of the fourth byte; 0 is none (RFC 1035 section 4.1.1).
    let code = |bytes: &[u8]| bytes.get(3).map(|byte| byte & 0xf);
    dns::answer(bytes, &rights, &mut names, 0).is_some_and(|answer| code(&answer.bytes) == Some(0))
}

/// Reads arbitrary bytes as a connection to a host that secrets are used at: the first byte tells which version of HTTP
/// it is in. What is put into a request is looked for in what the request says.
pub fn fuzz_http(bytes: &[u8]) {
    let _ = requests_in(bytes);
}

/// Reads arbitrary bytes as the begin of a session with a database: after `c` what a program says first, after `s` what a
/// server says to a login, after `e` its refusal, after `x` its certificate.
pub fn fuzz_postgres(bytes: &[u8]) {
    let _ = postgres_is_read(bytes);
}

fn postgres_is_read(bytes: &[u8]) -> bool {
    match bytes.split_first() {
        Some((b'c', packet)) => match postgres::opening(packet) {
            Ok(Opening::Start(start)) => {
                // What is said to the server has one meaning, and it is the one that was looked at.
                let again = postgres::opening(start.bytes().get(4..).unwrap_or_default());
                let Ok(Opening::Start(again)) = again else { panic!("a start that is written is read") };
                assert_eq!((&again.user, &again.database), (&start.user, &start.database));
                assert!(again.negotiated().is_empty() && start.bytes() == again.bytes());
                true
            }
            Ok(_) => true,
            Err(_) => false,
        },
        Some((b's', body)) => match postgres::authentication(body) {
            Some(Authentication::Continue(said)) => {
                let login = scram::Login::new(scram::Binding::None, b"fuzzed");
                // Rounds are work and not reading.
                login
                    .challenged(said)
                    .is_ok_and(|challenge| challenge.proof(&[7; 32]).answered(said).is_err())
            }
            found => found.is_some(),
        },
        Some((b'e', body)) => postgres::code_of(body).is_some(),
        Some((b'x', certificate)) => scram::Binding::choose(&[scram::PLUS], Some(certificate)).is_some(),
        _ => false,
    }
}

/// How often the other side has its turn before the connection ends.
const TURNS: usize = 64;
const SECRET: &[u8] = b"fuzzed-secret";
const PLACES: [&str; 7] = [
    "",
    "header x-auth",
    "basic me",
    "query GET /in key",
    "form POST /in key",
    "json POST /in key",
    "sigv4 AKID us-east-1 s3",
];

/// How many requests have a meaning.
fn requests_in(bytes: &[u8]) -> u64 {
    let Some((first, bytes)) = bytes.split_first() else { return 0 };
    let version = if *first == b'2' { Version::Http2 } else { Version::Http1 };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let (Ok(runtime), meant) = (runtime, Arc::<AtomicU64>::default()) else { return 0 };
    let counts = Arc::clone(&meant);
    runtime.block_on(async move {
        let (mut program, gate) = tokio::io::duplex(HEAD_MAX);
        let service = service_fn(move |request| {
            let counts = Arc::clone(&counts);
            async move {
                counts.fetch_add(u64::from(is_meant(request, version).await), Ordering::Relaxed);
                Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
            }
        });
        let says = async {
            let (mut reader, mut writer) = tokio::io::split(&mut program);
            let says = async {
                // A side that has closed hears no more.
                let _ = writer.write_all(bytes).await;
                // A connection that ends takes requests with it that were not looked at yet.
                for _ in 0..TURNS {
                    tokio::task::yield_now().await;
                }
                let _ = writer.shutdown().await;
            };
            let mut answers = Vec::new();
            let _ = tokio::join!(says, reader.read_to_end(&mut answers));
        };
        let io = TokioIo::new(gate);
        let serves = async {
            // How it ends is not what is looked for.
            let _ = match version {
                Version::Http1 => {
                    let mut builder = hyper::server::conn::http1::Builder::new();
                    builder
                        .max_buf_size(HEAD_MAX)
                        .max_headers(HEADERS_MAX)
                        .header_read_timeout(None)
                        .half_close(true);
                    builder.serve_connection(io, service).await
                }
                Version::Http2 => {
                    let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                    builder.serve_connection(io, service).await
                }
            };
        };
        tokio::join!(says, serves);
    });
    meant.load(Ordering::Relaxed)
}

async fn is_meant(request: Request<Incoming>, version: Version) -> bool {
    let (mut parts, body) = request.into_parts();
    let Ok(host) = "api.example.org".parse::<HostName>() else { return false };
    let said = |place: &&str| {
        let (secret, placeholder) = ("prod/api".parse().ok()?, "octs_abcdefghijklmnopqrstuv".to_owned());
        let said = Said { secret, host: host.to_string(), placeholder, place: (*place).to_owned() };
        Credential::read(&said).ok()
    };
    let mine: Vec<Credential> = PLACES.iter().filter_map(said).collect();
    if target::check(&parts, version, &host, 443).is_err() {
        return false;
    }
    strip(&mut parts.headers);
    let mut read = None;
    if inject::reads_body(&mine, &host, &parts) {
        let Ok(body) = Limited::new(body, HEAD_MAX).collect().await else { return false };
        read = Some(body.to_bytes());
    }
    let Ok(puts) = inject::places(&mine, &host, &parts, read.as_deref()) else { return false };
    if target::write(&mut parts, version, &host, 443).is_err() {
        return false;
    }
    let mut scrub = Scrub::default();
    scrub.add(SECRET);
    for put in puts {
        // One that does not fit is refused; what then is in the request is never sent.
        if put.put(&mut parts, &mut read, SECRET).is_err() {
            return false;
        }
    }
    let said = format!("{} {:?}", parts.uri, read);
    assert!(!String::from_utf8_lossy(&scrub.whole(said.as_bytes())).contains("fuzzed-secret"));
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    #[test]
    fn the_corpora_are_read_without_a_panic_and_told_apart() {
        type Reads = fn(&[u8]) -> bool;
        let readers: [(&str, Reads); 5] = [
            ("postgres", postgres_is_read),
            ("hello", hello_is_read),
            ("socks", socks_is_read),
            ("dns", dns_is_read),
            ("http", |bytes| requests_in(bytes) > 0),
        ];
        for (name, reads) in readers {
            let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/corpus").join(name);
            let mut seen = 0;
            for entry in std::fs::read_dir(&folder).unwrap() {
                let path = entry.unwrap().path();
                let file = path.file_name().unwrap().to_string_lossy().into_owned();
                let good = reads(&std::fs::read(&path).unwrap());
                assert_eq!(good, file.starts_with("ok-"), "{name}/{file}");
                seen += 1;
            }
            assert!(seen > 5, "the corpus of {name} is not where it was");
        }
    }
}
