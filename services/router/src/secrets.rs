//! The way to the vault: a provider's key, for the requests that wait for it at that moment. It is in memory for as long as
//! their headers are made and sent.

use crate::together::Together;
use octant_api::error::{ApiError, Code};
use octant_api::vault::{LeaseRequest, Mode, OpenRequest, Token, VALUE_MAX};
use octant_ids::SecretName;
use octant_wire::{Client, WireError};
use std::collections::BTreeMap;
use std::fs::File;
use std::future::Future;
use std::io::Read;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use zeroize::Zeroizing;

/// How long the vault has. One that is blocked makes the router deny, not hang.
const WITHIN: Duration = Duration::from_secs(10);
/// How long the right to a key is asked for at a time. The key itself is asked for anew for each request.
const LEASE_MS: u64 = 10 * 60 * 1000;
/// How many openings of one key are under way at a time. Who comes meanwhile shares the next one, which says for how many
/// requests it is: each costs a record of its own.
const OPENINGS: usize = 2;

/// A key.
pub(crate) type Key = Zeroizing<Vec<u8>>;
/// A key to come, or why none comes.
pub(crate) type Coming = Pin<Box<dyn Future<Output = Result<Key, String>> + Send>>;

/// Gives keys. A seam: tests put another one in its place.
pub(crate) trait Keys: Send + Sync {
    /// The key of this name, for one request to this host. It is asked for before this returns, whoever waits for it.
    fn key(&self, name: &SecretName, host: &str) -> Coming;
}

/// The vault.
pub(crate) struct Vault(Arc<Together<(SecretName, String), Result<Key, String>>>);

impl Vault {
    pub(crate) fn new(client: Client) -> Self {
        let opener = Arc::new(Opener { client, leases: Mutex::default() });
        Self(Together::new(
            OPENINGS,
            Box::new(move |(name, host), requests| {
                let opener = Arc::clone(&opener);
                Box::pin(async move { opener.key(&name, &host, requests).await })
            }),
        ))
    }
}

/// What opens keys.
#[derive(Debug)]
struct Opener {
    client: Client,
    leases: Mutex<BTreeMap<SecretName, Token>>,
}

impl Opener {
    fn leases(&self) -> MutexGuard<'_, BTreeMap<SecretName, Token>> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn lease(&self, name: &SecretName) -> Result<Token, WireError> {
        let request = LeaseRequest {
            agent: None,
            manifest: None,
            cgroup: None,
            name: name.clone(),
            mode: Mode::Use,
            ttl_ms: Some(LEASE_MS),
        };
        let token = self.client.call(&request).await?.token;
        self.leases().insert(name.clone(), token.clone());
        Ok(token)
    }

    async fn open(&self, token: Token, host: &str, requests: u64) -> Result<Key, WireError> {
        let requests = Some(requests).filter(|requests| *requests > 1);
        let request = OpenRequest { agent: None, cgroup: None, token, host: Some(host.to_owned()), requests };
        let (opened, fds) = self.client.call_with(&request, &[]).await?;
        let mut bytes = Zeroizing::new(Vec::with_capacity(VALUE_MAX + 1));
        if let Some(fd) = fds.into_iter().next() {
            // Whoever wrote it has closed its end, so this does not wait.
            File::from(fd).take(VALUE_MAX as u64 + 1).read_to_end(&mut bytes).map_err(torn)?;
        }
        if bytes.len() as u64 != opened.bytes {
            return Err(torn("the value did not come whole"));
        }
        Ok(bytes)
    }

    async fn opened(&self, name: &SecretName, host: &str, requests: u64) -> Result<Key, WireError> {
        let known = self.leases().get(name).cloned();
        if let Some(token) = known {
            match self.open(token, host, requests).await {
                // It is over, or was taken back; whether another is given is the vault's to say.
                Err(WireError::Api(_)) => drop(self.leases().remove(name)),
                done => return done,
            }
        }
        let token = self.lease(name).await?;
        self.open(token, host, requests).await
    }

    async fn key(&self, name: &SecretName, host: &str, requests: u64) -> Result<Key, String> {
        match tokio::time::timeout(WITHIN, self.opened(name, host, requests)).await {
            Err(_) => Err(format!("the vault did not answer within {WITHIN:?}")),
            Ok(Ok(key)) => Ok(key),
            Ok(Err(WireError::Api(error))) if error.code == Code::Denied => {
                Err(format!("the vault gives no key {name} for {host}: {}", how_to(name, host)))
            }
            Ok(Err(error)) => Err(format!("the vault gives no key {name}: {error}; octant vault status")),
        }
    }
}

fn torn(why: impl std::fmt::Display) -> WireError {
    ApiError::new(Code::Unavailable, "read a key", "the vault's pipe", why, "try again").into()
}

/// What an operator does about a key that is not given.
pub(crate) fn how_to(name: &SecretName, host: &str) -> String {
    format!(
        "octant vault put {name} --from FILE; octant vault grant {name} --to service:router --mode use --host {host}"
    )
}

impl Keys for Vault {
    fn key(&self, name: &SecretName, host: &str) -> Coming {
        let coming = self.0.want((name.clone(), host.to_owned()));
        Box::pin(async move { coming.await.unwrap_or_else(|_| Err("the router ends".to_owned())) })
    }
}
