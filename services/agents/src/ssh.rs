//! Logins over SSH with keys that only the vault has.
//!
//! The client inside asks for a signature and shows which host has signed the session that it is for ([`octant_ssh`]). What
//! is signed is a login at a host whose key the manifest names, as the user whom it names, and nothing else.

use crate::guest::Guest;
use octant_api::agent::{SshKey, SshKeys, SshLoginRequest};
use octant_api::error::{ApiError, Code};
use octant_api::text::Base64;
use octant_api::vault::{self, Lease, Mode, Signed, Token};
use octant_ids::SecretName;
use octant_manifest::Action;
use octant_ssh::{Binding, Login, ed25519_key};
use octant_wire::Call;
use serde_json::json;
use std::collections::BTreeMap;

const WHAT: &str = "log in over SSH";

/// What the vault gave of each key pair: the token and the public key.
pub(crate) type Leases = BTreeMap<SecretName, (Token, [u8; 32])>;

fn refuse(code: Code, place: &str, why: impl std::fmt::Display, next: &str) -> ApiError {
    ApiError::new(code, WHAT, place, why, next)
}

/// The lease of a key pair, a new one where there is none.
async fn lease(
    guest: &Guest,
    leases: &mut Leases,
    secret: &SecretName,
    cgroup: Option<&String>,
) -> Result<(Token, [u8; 32]), ApiError> {
    if let Some(held) = leases.get(secret) {
        return Ok(held.clone());
    }
    let action = Action::named("lease", secret.as_str());
    let action = action.map_err(|e| refuse(Code::InvalidParams, "credentials.grants", e, ""))?;
    let deed = json!({"name": secret, "for": "ssh"});
    guest.manager.permit(guest.aid, action, "agent.ssh_login", &deed).await?;
    let manifest = Some(guest.manager.info(guest.aid)?.manifest_digest);
    let request = vault::LeaseRequest {
        agent: Some(guest.aid),
        manifest,
        cgroup: cgroup.cloned(),
        name: secret.clone(),
        mode: Mode::Sign,
        ttl_ms: None,
    };
    let Lease { token, public_key, .. } = guest.ask(&request).await?;
    let public_key = public_key.and_then(|Base64(key)| key.try_into().ok());
    let why = "the vault says no public key of it";
    let public_key = public_key.ok_or_else(|| refuse(Code::Internal, secret.as_str(), why, "see its log"))?;
    leases.insert(secret.clone(), (token.clone(), public_key));
    Ok((token, public_key))
}

/// Every key pair that is granted; one that the vault does not give is left out, and is refused with the reason where it is
/// used.
pub(crate) async fn keys(guest: &Guest, call: &Call) -> Result<SshKeys, ApiError> {
    let cgroup = guest.asks(call)?;
    let mut leases = guest.ssh.lock().await;
    let (mut keys, mut refused) = (Vec::new(), None);
    for (secret, to) in guest.manager.ssh_logins(guest.aid) {
        match lease(guest, &mut leases, &secret, cgroup.as_ref()).await {
            Ok((_, public_key)) => {
                keys.push(SshKey { secret, public_key: Base64(public_key.to_vec()), to: to.to_string() });
            }
            Err(error) => refused = Some(error),
        }
    }
    match refused {
        Some(error) if keys.is_empty() => Err(error),
        _ => Ok(SshKeys { keys }),
    }
}

/// Signs one login.
pub(crate) async fn login(guest: &Guest, asked: &SshLoginRequest, call: &Call) -> Result<Signed, ApiError> {
    let cgroup = guest.asks(call)?;
    let binding = Binding {
        host_key: &asked.host_key.0,
        session: &asked.session.0,
        signature: &asked.signature.0,
        forwarded: asked.forwarded,
    };
    let (wanted, host) = Login::bound(&asked.data.0, &binding).map_err(|error| {
        let next = "log in with OpenSSH 8.9 or newer, without forwarding the agent";
        refuse(Code::Denied, "session", error, next)
    })?;
    let host = host.fingerprint();
    let mut leases = guest.ssh.lock().await;
    for (secret, to) in
        guest.manager.ssh_logins(guest.aid).iter().filter(|(_, to)| to.key == host && to.user == wanted.user)
    {
        let (mut token, public_key) = lease(guest, &mut leases, secret, cgroup.as_ref()).await?;
        if ed25519_key(&public_key) != wanted.key {
            continue;
        }
        // What was leased before can have ended since.
        for last in [false, true] {
            let request = vault::SignRequest {
                agent: Some(guest.aid),
                cgroup: cgroup.clone(),
                token,
                message: asked.data.clone(),
                host: Some(to.host.to_string()),
            };
            match guest.ask(&request).await {
                Err(error) if error.code == Code::Denied && !last => {
                    if let Some((token, _)) = leases.remove(secret) {
                        // One that lasts was refused for its host, and takes no place any more; one that has ended is none.
                        let (agent, cgroup) = (Some(guest.aid), cgroup.clone());
                        let _ = guest.ask(&vault::ReleaseRequest { agent, cgroup, token }).await;
                    }
                    token = lease(guest, &mut leases, secret, cgroup.as_ref()).await?.0;
                }
                // A rotated key pair signs as another than the client asked for.
                Ok(signed) if signed.public_key.0 != public_key => {
                    leases.remove(secret);
                    let why = format!("{secret} has another key since it was listed");
                    return Err(refuse(Code::Conflict, secret.as_str(), why, "log in again"));
                }
                answer => return answer,
            }
        }
    }
    let why = format!("no grant of the manifest is for {} at the host with the key {host}", wanted.user);
    let next =
        "compare it with the ssh grants of `octant self`; a host with several keys signs with one of them";
    Err(refuse(Code::Denied, "credentials.grants", why, next))
}
