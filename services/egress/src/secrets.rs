//! The way to the vault: a secret for one request.

use octant_api::vault::{LeaseRequest, Mode, OpenRequest, ReleaseRequest, Token, VALUE_MAX};
use octant_ids::{Aid, SecretName, Sha256};
use octant_manifest::HostName;
use octant_wire::Client;
use std::fs::File;
use std::future::Future;
use std::io::Read;
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

pub(crate) type Value = Zeroizing<Vec<u8>>;

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
    let request =
        OpenRequest { agent: Some(wanted.aid), cgroup: None, token, host: Some(wanted.host.to_string()) };
    let (opened, fds) = vault.call_with(&request, &[]).await.map_err(|error| error.to_string())?;
    let fd = fds.into_iter().next().ok_or("the vault sent no value")?;
    // The vault has written all of it and closed its end before it answers, so this does not wait.
    let mut value = Zeroizing::new(Vec::with_capacity(VALUE_MAX + 1));
    let read = File::from(fd).take(VALUE_MAX as u64 + 1).read_to_end(&mut value);
    read.map_err(|error| format!("the value cannot be read: {error}"))?;
    if value.len() as u64 != opened.bytes {
        return Err("the value did not come whole".into());
    }
    Ok(value)
}
