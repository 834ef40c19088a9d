//! An agent's network: what it may reach is said to the gate, and sockets are made in its network for the gate to serve.
//!
//! The gate forgets what it was told when it ends, and lets nobody through from then on. It is told again when it is
//! back, from the rights that this service has, not from what the gate may have kept.

use super::Manager;
use super::budget::Drawer;
use crate::admit::WHAT;
use crate::spawner::Spawner;
use crate::store::Saved;
use octant_api::agent;
use octant_api::egress::{
    AdmitRequest, Admitted, Caps, Credential, DismissRequest, Door, ListenRequest, Login, Preview,
    PreviewRequest, Told, WatchRequest,
};
use octant_api::error::{ApiError, Code};
use octant_api::ledger::{AppendRequest, Kind};
use octant_api::ticket::Ticket;
use octant_ids::{Aid, SecretName, Sha256};
use octant_manifest::{CredentialGrant, Effective, NO_END, PatternSet, SshLogin, Traffic, Way};
use octant_sys::{clock, entropy};
use octant_wire::{Shutdown, WireError};
use octant_workstation::{DOORS_MAX, Listen, Trust};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

/// The pause before the gate, or the router, is looked for again.
pub(super) const AGAIN: Duration = Duration::from_millis(500);

/// Why an agent has no network.
pub(super) type NoNetwork = (Code, String);

pub(super) fn gate_failed(error: impl std::fmt::Display) -> NoNetwork {
    (Code::Unavailable, format!("the gate: {error}"))
}

/// What is so once the gate has started anew.
const OTHER_AUTHORITY: &str = "the gate has started since its workstation was built, and has another authority: no secret \
                               is used for it any more; spawn it again";
/// How a placeholder begins, and how many digits of base32 follow.
const PLACEHOLDER: (&str, usize) = ("octs_", 22);
const BASE32: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// What stands for the secrets that are used for an agent with these rights: one for each secret, at every host that it is
/// granted for.
fn credentials(rights: &Effective) -> Result<Vec<Credential>, String> {
    let mut made: BTreeMap<String, (SecretName, String)> = BTreeMap::new();
    let mut credentials = Vec::new();
    for grant in rights.grants().credentials().iter() {
        let Way::Use(host, place) = &grant.way else { continue };
        let variable = variable(&grant.secret);
        if !made.contains_key(&variable) {
            made.insert(variable.clone(), (grant.secret.clone(), placeholder()?));
        }
        let Some((secret, placeholder)) = made.get(&variable) else { continue };
        if *secret != grant.secret {
            return Err(format!("{secret} and {} would both be {variable}", grant.secret));
        }
        let (secret, placeholder) = (secret.clone(), placeholder.clone());
        let (host, place) = (host.to_string(), place.to_string());
        credentials.push(Credential { secret, host, placeholder, place });
    }
    Ok(credentials)
}

/// The databases that an agent with these rights is logged in to.
fn logins(rights: &Effective) -> Vec<Login> {
    let login = |grant: &CredentialGrant| match &grant.way {
        Way::Postgres(to) => Some(Login { secret: grant.secret.clone(), to: to.to_string() }),
        Way::Use(..) | Way::Ssh(_) | Way::Sign | Way::Reveal => None,
    };
    rights.grants().credentials().iter().filter_map(login).collect()
}

fn placeholder() -> Result<String, String> {
    let mut random = [0; PLACEHOLDER.1];
    entropy::fill_seeded(&mut random).map_err(|error| error.to_string())?;
    let digits = random.iter().map(|byte| char::from(BASE32[usize::from(byte % 32)]));
    Ok(PLACEHOLDER.0.chars().chain(digits).collect())
}

/// The variable in which an agent finds what stands for a secret.
fn variable(secret: &SecretName) -> String {
    let upper = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    format!("OCTANT_SECRET_{}", secret.as_str().chars().map(upper).collect::<String>())
}

/// What a workstation needs where secrets are used for its agent.
pub(super) fn trust_of(saved: &Saved) -> Option<Trust> {
    let env: BTreeSet<String> =
        saved.credentials.iter().map(|c| format!("{}={}", variable(&c.secret), c.placeholder)).collect();
    Some(Trust { authority: saved.authority.clone()?, env: env.into_iter().collect() })
}

impl Manager {
    /// Where an agent logs in over SSH, and by which key pair.
    pub(crate) fn ssh_logins(&self, aid: Aid) -> Vec<(SecretName, SshLogin)> {
        let inner = self.inner();
        let rights = inner.agents.get(&aid).and_then(|agent| agent.rights.as_ref());
        let grants = rights.into_iter().flat_map(|rights| rights.grants().credentials().iter());
        let of = |grant: &CredentialGrant| match &grant.way {
            Way::Ssh(login) => Some((grant.secret.clone(), login.clone())),
            Way::Use(..) | Way::Postgres(_) | Way::Sign | Way::Reveal => None,
        };
        grants.filter_map(of).collect()
    }

    /// Gives an agent other rights: without a gate, none with a network is spawned.
    #[cfg(test)]
    pub(crate) fn give_rights(&self, aid: Aid, rights: Effective) {
        if let Some(agent) = self.inner().agents.get_mut(&aid) {
            agent.rights = Some(rights);
        }
    }

    /// Whether an agent has a network at all, running or about to, or had one.
    pub(super) fn has_network(&self, aid: Aid) -> bool {
        let inner = self.inner();
        inner.agents.get(&aid).is_some_and(|agent| agent.saved.network)
    }

    /// What the gate is told of an agent; none where it has no network or its rights are not known any more.
    pub(super) fn admission(&self, aid: Aid) -> Option<AdmitRequest> {
        let inner = self.inner();
        let agent = inner.agents.get(&aid)?;
        let PatternSet::Only(hosts) = agent.rights.as_ref()?.grants().hosts() else { return None };
        let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
        let Traffic { connections, bytes_per_second } = agent.rights.as_ref()?.grants().traffic();
        let bytes_per_second = bytes_per_second.map(|rate| rate.0);
        let drawn = agent.saved.account.given;
        let drawn = drawn.bytes != NO_END || drawn.requests != NO_END;
        let caps = Caps { connections, bytes: None, bytes_per_second, drawn };
        let (leases, credentials) = (agent.saved.leases.clone(), agent.saved.credentials.clone());
        let manifest = Some(agent.saved.info.manifest_digest);
        // The machine's own clock, so that a later word has a greater number over a restart too.
        let generation = clock::boottime_ns();
        agent.rights.as_ref()?.grants().has_network().then_some(AdmitRequest {
            aid,
            generation,
            hosts,
            leases,
            credentials,
            logins: logins(agent.rights.as_ref()?),
            manifest,
            caps,
        })
    }

    /// Tells the gate of an agent before its workstation is planned, where secrets are used for it: the plan has the
    /// certificate of the authority that the gate makes for it. Nothing reaches the gate from it before its sockets are
    /// made.
    pub(super) async fn introduce(&self, aid: Aid) -> Result<(), ApiError> {
        let refuse = |code, why: String| {
            ApiError::new(code, WHAT, "credentials.grants", why, "see `octant status`; then spawn it again")
        };
        let (credentials, logs_in) = {
            let inner = self.inner();
            let rights = inner.agents.get(&aid).and_then(|agent| agent.rights.as_ref());
            (
                rights.map_or(Ok(Vec::new()), credentials),
                rights.is_some_and(|rights| !logins(rights).is_empty()),
            )
        };
        let credentials = credentials.map_err(|why| refuse(Code::InvalidParams, why))?;
        if credentials.is_empty() && !logs_in {
            return Ok(());
        }
        if let Some(agent) = self.inner().agents.get_mut(&aid) {
            agent.saved.credentials = credentials;
        }
        let request = self.admission(aid);
        let request = request.ok_or_else(|| refuse(Code::Conflict, "no host is left to it".into()))?;
        let told = self.gate.call(&request).await;
        let Admitted { authority, .. } =
            told.map_err(|error| refuse(Code::Unavailable, error.to_string()))?;
        if authority.is_none() {
            return Err(refuse(Code::Internal, "the gate made no authority for it".into()));
        }
        if let Some(agent) = self.inner().agents.get_mut(&aid) {
            agent.saved.authority = authority;
        }
        Ok(())
    }

    /// The secrets that the gate uses for an agent, with the variable of what stands for each and the hosts, by name.
    pub(crate) fn credentials_of(&self, aid: Aid) -> Vec<agent::Credential> {
        let inner = self.inner();
        let known = inner.agents.get(&aid).map_or(&[][..], |agent| &agent.saved.credentials);
        let mut by_name: BTreeMap<&SecretName, Vec<String>> = BTreeMap::new();
        for credential in known {
            by_name.entry(&credential.secret).or_default().push(credential.host.clone());
        }
        let row = |(secret, hosts): (&SecretName, Vec<String>)| agent::Credential {
            secret: secret.clone(),
            variable: variable(secret),
            hosts,
        };
        by_name.into_iter().map(row).collect()
    }

    /// What the gate would decide for an agent.
    pub(crate) async fn preview(&self, aid: Aid, url: String) -> Result<Preview, ApiError> {
        const WHAT: &str = "preview a connection";
        if !self.has_network(aid) {
            let why = "it has no network, since its manifest names no host";
            return Err(ApiError::new(Code::Denied, WHAT, aid.to_string(), why, "do without"));
        }
        self.gate.call(&PreviewRequest { aid, url }).await.map_err(|error| match error {
            WireError::Api(error) => error,
            other => ApiError::new(Code::Unavailable, WHAT, "the gate", other, "try again"),
        })
    }

    /// Opens the network of a workstation that stands and whose program waits, and its way to models.
    pub(super) async fn open_first_network(&self, aid: Aid, slot: u32) -> Result<(), NoNetwork> {
        if !self.open_network(aid, slot).await? {
            return Err((Code::Unavailable, OTHER_AUTHORITY.to_owned()));
        }
        self.open_models(aid, slot).await
    }

    /// Whether an agent has anything to connect to.
    pub(super) fn connects(&self, aid: Aid) -> bool {
        self.has_network(aid) || self.has_models(aid)
    }

    /// Opens a network; whether the authority of the gate is the one that the workstation was built to trust.
    pub(super) async fn open_network(&self, aid: Aid, slot: u32) -> Result<bool, NoNetwork> {
        let Some(request) = self.admission(aid) else { return Ok(true) };
        let Admitted { missing, authority, .. } = self.gate.call(&request).await.map_err(gate_failed)?;
        for doors in missing.chunks(DOORS_MAX) {
            self.open_doors(aid, slot, doors).await?;
        }
        let inner = self.inner();
        Ok(inner.agents.get(&aid).is_some_and(|agent| agent.saved.authority == authority))
    }

    async fn open_doors(&self, aid: Aid, slot: u32, doors: &[Door]) -> Result<(), NoNetwork> {
        let hand_over = async |sockets: Vec<OwnedFd>| {
            for (door, socket) in doors.iter().zip(sockets) {
                let request = ListenRequest { aid, door: *door };
                self.gate.call_with(&request, &[socket]).await.map_err(gate_failed)?;
            }
            Ok(())
        };
        self.with_sockets(aid, slot, doors, hand_over).await
    }

    /// Has sockets made in an agent's network and handed over to who serves them: on record before, and what became of it.
    pub(super) async fn with_sockets(
        &self,
        aid: Aid,
        slot: u32,
        doors: &[Door],
        hand_over: impl AsyncFnOnce(Vec<OwnedFd>) -> Result<(), NoNetwork>,
    ) -> Result<(), NoNetwork> {
        let listen = Listen { aid, doors: doors.to_vec() };
        let digest = listen.digest().map_err(|error| (Code::Internal, error.to_string()))?;
        let what = json!({"do": "listen", "agent": aid, "doors": doors});
        let (intent, ticket) = self.intend(aid, digest, &what).await?;
        let asked = self.blocking(move |spawner: &dyn Spawner| spawner.listen(slot, &listen, &ticket)).await;
        let sockets = asked.and_then(|sockets| sockets.map_err(|error| error.to_string()));
        let served = match sockets {
            Err(why) => Err((Code::LayerMissing, why)),
            Ok(sockets) => hand_over(sockets).await,
        };
        let became = match &served {
            Ok(()) => json!({"agent": aid, "done": true}),
            Err((_, why)) => json!({"agent": aid, "done": false, "why": why}),
        };
        self.records
            .later(AppendRequest { intent: Some(intent), ..super::about(aid, Kind::Outcome, &became) });
        served
    }

    /// Puts an intent on record that the spawner is to act on, and gives its number and the ticket for it.
    pub(super) async fn intend(
        &self,
        aid: Aid,
        subject: Sha256,
        what: &Value,
    ) -> Result<(u64, Ticket), NoNetwork> {
        let entry = AppendRequest {
            subject: Some(subject),
            ticket_for: "spawner".parse().ok(),
            ..super::about(aid, Kind::Intent, what)
        };
        let (done, all) = self.records.append(&[entry]).await;
        all.map_err(|error| (Code::Unavailable, format!("the ledger did not accept a record: {error}")))?;
        let appended = done.into_iter().next().flatten();
        let ticket = appended.and_then(|appended| Some((appended.seq, appended.ticket?)));
        ticket.ok_or_else(|| (Code::Unavailable, "the ledger gave no ticket for the spawner".to_owned()))
    }

    /// Has the gate cut everything of an agent. It takes authority away, so it waits for nothing.
    pub(super) fn close_network(self: &Arc<Self>, aid: Aid) {
        self.close_models(aid);
        if self.has_network(aid) {
            let manager = Arc::clone(self);
            tokio::spawn(async move {
                if let Err(why) = manager.network_closed(aid).await {
                    tracing::warn!("{aid}: {why}; it is tried again when its workstation is removed");
                }
            });
        }
    }

    /// The same, and waits until nothing of it is left at the gate.
    pub(super) async fn network_closed(&self, aid: Aid) -> Result<(), String> {
        let dismissed = self.gate.call(&DismissRequest { aid }).await;
        let dismissed = dismissed.map_err(|error| format!("the gate: {error}"))?;
        self.settle_drawn(Drawer::Gate, aid, dismissed.settled.as_ref());
        Ok(())
    }

    /// Tells the gate about every agent that lives, each time it comes back.
    pub(super) async fn watch_gate(self: &Arc<Self>, stop: &Shutdown) {
        tokio::select! {
            () = stop.requested() => {}
            () = self.follow_gate() => {}
        }
    }

    async fn follow_gate(self: &Arc<Self>) {
        loop {
            if let Ok(mut stream) = self.gate.stream(&WatchRequest {}).await {
                let mut run = String::new();
                while let Ok(Some(told)) = stream.next().await {
                    match told {
                        Told::Began(instance) => {
                            self.tell_gate(&instance.agents).await;
                            run = instance.instance;
                        }
                        Told::Draw(wish) => {
                            let manager = Arc::clone(self);
                            let run = run.clone();
                            tokio::spawn(async move { manager.fund(Drawer::Gate, run, wish).await });
                        }
                    }
                }
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Of agents that a service knows, those that have ended; and all that live, with their slots.
    pub(super) fn ended_and_live(&self, known: &[Aid]) -> (Vec<Aid>, Vec<(Aid, u32)>) {
        let (mut live, mut ended) = (Vec::new(), Vec::new());
        let inner = self.inner();
        let phase = |aid| inner.agents.get(aid).map(|agent| agent.state.phase);
        ended.extend(known.iter().filter(|aid| phase(aid).is_none_or(|phase| phase.ended())));
        for agent in inner.agents.values() {
            if agent.state.phase.live() && !agent.state.prepared() {
                live.extend(agent.saved.slot.map(|slot| (agent.saved.info.aid, slot)));
            }
        }
        (ended, live)
    }

    /// Who has ended goes, and who lives is told anew.
    async fn tell_gate(&self, known: &[Aid]) {
        let (ended, live) = self.ended_and_live(known);
        for aid in ended {
            if let Err(why) = self.network_closed(aid).await {
                tracing::warn!("{aid}: {why}");
            }
        }
        for (aid, slot) in live {
            if !self.has_network(aid) {
                continue;
            }
            match self.open_network(aid, slot).await {
                Ok(true) => {}
                Ok(false) => tracing::warn!("{aid}: {OTHER_AUTHORITY}"),
                Err((_, why)) => tracing::error!("{aid}: it reaches nothing until the gate is back: {why}"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_for_a_secret_says_nothing_of_it() {
        let (one, other) = (placeholder().unwrap(), placeholder().unwrap());
        assert_ne!(one, other);
        let digits = one.strip_prefix("octs_").unwrap();
        assert!(digits.len() == 22 && digits.bytes().all(|byte| BASE32.contains(&byte)), "{one}");
        let name = |text: &str| variable(&text.parse().unwrap());
        assert_eq!(name("prod/git-hub.x"), "OCTANT_SECRET_PROD_GIT_HUB_X");
    }
}
