//! The way to the vault: a secret for one request. The gate passes on what it is in, and never has it itself.

use octant_api::vault::{LeaseRequest, Mode, OpenRequest, ReleaseRequest, Token, VALUE_MAX};
use octant_ids::{Aid, SecretName, Sha256};
use octant_manifest::HostName;
use octant_wire::Client;
use std::fs::File;
use std::future::Future;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::time::Duration;
use zeroize::Zeroizing;

/// How long the vault has. One that is blocked makes the gate deny, not hang.
const WITHIN: Duration = Duration::from_secs(10);
/// How long a lease lasts that is not given back, since this process ended meanwhile.
const LEASE_MS: u64 = 60_000;

/// What a secret is asked for.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) aid: Aid,
    pub(crate) manifest: Option<Sha256>,
    pub(crate) secret: SecretName,
    pub(crate) host: HostName,
}

/// A secret's value, where its reader finds it.
#[derive(Debug)]
pub(crate) struct Value {
    /// All of it is there, and its end.
    pub(crate) fd: OwnedFd,
    pub(crate) bytes: u64,
}

/// Gives secrets. A seam: tests put another one in its place.
pub(crate) trait Secrets: Send + Sync {
    /// The value, for one request.
    fn open(&self, wanted: Wanted) -> Pin<Box<dyn Future<Output = Result<Value, String>> + Send + '_>>;
}

impl Secrets for Client {
    fn open(&self, wanted: Wanted) -> Pin<Box<dyn Future<Output = Result<Value, String>> + Send + '_>> {
        Box::pin(async move {
            let asked = tokio::time::timeout(WITHIN, opened(self, &wanted)).await;
            asked.unwrap_or_else(|_| Err(format!("the vault did not answer within {WITHIN:?}")))
        })
    }
}

async fn opened(vault: &Client, wanted: &Wanted) -> Result<Value, String> {
    let agent = Some(wanted.aid);
    let request = LeaseRequest {
        agent,
        manifest: wanted.manifest,
        cgroup: None,
        name: wanted.secret.clone(),
        mode: Mode::Use,
        ttl_ms: Some(LEASE_MS),
    };
    let lease = vault.call(&request).await.map_err(|error| error.to_string())?;
    let value = value_of(vault, wanted, lease.token.clone()).await;
    let release = ReleaseRequest { agent, cgroup: None, token: lease.token };
    if let Err(error) = vault.call(&release).await {
        tracing::warn!("{}: a lease is not given back and ends by itself: {error}", wanted.aid);
    }
    value
}

async fn value_of(vault: &Client, wanted: &Wanted, token: Token) -> Result<Value, String> {
    let request = OpenRequest {
        agent: Some(wanted.aid),
        cgroup: None,
        token,
        host: Some(wanted.host.to_string()),
        requests: None,
    };
    let (opened, fds) = vault.call_with(&request, &[]).await.map_err(|error| error.to_string())?;
    let fd = fds.into_iter().next().ok_or("the vault sent no value")?;
    Ok(Value { fd, bytes: opened.bytes })
}

/// Takes a value out of where it is. Whoever wrote it has closed its end, so this does not wait.
pub(crate) fn read(value: Value) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(VALUE_MAX + 1));
    File::from(value.fd).take(VALUE_MAX as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 != value.bytes {
        return Err(io::Error::other("the value did not come whole"));
    }
    Ok(bytes)
}
