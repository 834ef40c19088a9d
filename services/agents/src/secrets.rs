//! What an agent asks of the vault. The vault knows no agent: it believes `agents`, and `agents` believes the socket.

use crate::guest::Guest;
use octant_api::agent::{LeaseRequest, ReleaseRequest, RenewRequest, RevealRequest, SignRequest};
use octant_api::error::{ApiError, Code};
use octant_api::rpc::Request;
use octant_api::vault::{self, Lease, Opened, Released, RetireRequest, Signed};
use octant_ids::Aid;
use octant_manifest::Action;
use octant_sys::clock;
use octant_wire::{Call, Client, Shutdown, WireError};
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::fs::File;
use std::io::Read;
use std::ops::Bound;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// The longest list of a cgroup's processes that is read; an agent has far fewer.
const PROCS_MAX: u64 = 1 << 20;
/// How many ends can wait for the vault: those of a machine that starts agents as fast as it can while a vault takes a
/// minute to start, and no more memory than that.
const ENDS_MAX: usize = 4096;
/// How soon the vault is told again, at first and in the end.
const AGAIN_FIRST: Duration = Duration::from_millis(250);
const AGAIN_LAST: Duration = Duration::from_secs(60);

fn failed(error: WireError) -> ApiError {
    match error {
        WireError::Api(error) => error,
        other => ApiError::new(Code::Unavailable, "ask the vault", "vault", other, "try again"),
    }
}

fn busy(why: &str, next: &str) -> ApiError {
    ApiError::new(Code::Busy, "ask the vault", "agent", why, next)
}

impl Guest {
    /// Takes a place among the requests of this agent, and finds the cgroup of the process that asks.
    pub(crate) fn asks(&self, call: &Call) -> Result<Option<String>, ApiError> {
        let taken = self.secrets.lock().unwrap_or_else(PoisonError::into_inner).take(clock::monotonic_ns());
        if !taken {
            let why = "more requests about secrets than this agent has in a second";
            return Err(busy(why, "keep a lease, and ask less"));
        }
        let Some(cgroups) = &self.manager.site.agents_cgroup else { return Ok(None) };
        cgroup_of(cgroups, self.aid, call.caller().pid).map(Some)
    }

    pub(crate) async fn ask<R: Request>(&self, request: &R) -> Result<R::Reply, ApiError> {
        self.manager.vault.call(request).await.map_err(failed)
    }
}

/// The agent's cgroup, if the process that connected is in it. The socket can be reached from one workstation only; this
/// is the kernel's word for it once more.
fn cgroup_of(cgroups: &Path, aid: Aid, pid: u32) -> Result<String, ApiError> {
    let refuse = |why: String| {
        let next = "connect again, from a process of the agent's own";
        Err(ApiError::new(Code::Denied, "ask the vault", "cgroup", why, next))
    };
    let name = aid.to_string();
    let mut text = String::new();
    let read = File::open(cgroups.join(&name).join("cgroup.procs"))
        .and_then(|file| file.take(PROCS_MAX).read_to_string(&mut text));
    if let Err(error) = read {
        return refuse(format!("the agent's processes cannot be listed: {error}"));
    }
    if pid == 0 || !text.lines().any(|line| line.parse() == Ok(pid)) {
        return refuse("the process that connected is not among the agent's".to_owned());
    }
    Ok(name)
}

pub(crate) async fn lease(guest: &Guest, asked: LeaseRequest, call: &Call) -> Result<Lease, ApiError> {
    let cgroup = guest.asks(call)?;
    let manifest = guest.manager.info(guest.aid)?.manifest_digest;
    let action = Action::named("lease", &asked.name.to_string());
    let action = action.map_err(|e| ApiError::new(Code::InvalidParams, "ask the vault", "name", e, ""))?;
    guest.manager.permit(guest.aid, action, "agent.lease", &asked).await?;
    let LeaseRequest { name, mode, ttl_ms } = asked;
    let (agent, manifest) = (Some(guest.aid), Some(manifest));
    guest.ask(&vault::LeaseRequest { agent, manifest, cgroup, name, mode, ttl_ms }).await
}

pub(crate) async fn renew(guest: &Guest, asked: RenewRequest, call: &Call) -> Result<Lease, ApiError> {
    let cgroup = guest.asks(call)?;
    let RenewRequest { token, ttl_ms } = asked;
    guest.ask(&vault::RenewRequest { agent: Some(guest.aid), cgroup, token, ttl_ms }).await
}

pub(crate) async fn release(guest: &Guest, asked: ReleaseRequest, call: &Call) -> Result<Released, ApiError> {
    let cgroup = guest.asks(call)?;
    guest.ask(&vault::ReleaseRequest { agent: Some(guest.aid), cgroup, token: asked.token }).await
}

/// The value goes from the vault to the agent in a pipe that is handed on: it is never in this process.
pub(crate) async fn reveal(guest: &Guest, asked: RevealRequest, call: &Call) -> Result<Opened, ApiError> {
    let cgroup = guest.asks(call)?;
    // Held until the answer is there or the agent's call is dropped.
    let _place = guest
        .revealing
        .try_acquire()
        .map_err(|_| busy("another value is on its way to this agent", "take one value after the other"))?;
    let request =
        vault::OpenRequest { agent: Some(guest.aid), cgroup, token: asked.token, host: None, requests: None };
    let (opened, fds) = guest.manager.vault.call_with(&request, &[]).await.map_err(failed)?;
    fds.into_iter().try_for_each(|fd| call.attach(fd))?;
    Ok(opened)
}

pub(crate) async fn sign(guest: &Guest, asked: SignRequest, call: &Call) -> Result<Signed, ApiError> {
    let cgroup = guest.asks(call)?;
    let SignRequest { token, message } = asked;
    guest.ask(&vault::SignRequest { agent: Some(guest.aid), cgroup, token, message, host: None }).await
}

/// Agents whose ends the vault has not been told of. Their sockets are closed by then, so nobody can present a token of
/// theirs any more; the vault is told so that a service that uses values for them stops too.
#[derive(Debug, Default)]
pub(crate) struct Ends {
    waiting: Mutex<BTreeSet<Aid>>,
    wake: Notify,
}

impl Ends {
    fn waiting(&self) -> MutexGuard<'_, BTreeSet<Aid>> {
        // Nothing here panics while it holds the lock, so what it guards is whole.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the vault told of an agent's end. Never waits.
    /// Whether the vault has not been told of an agent's end yet.
    pub(crate) fn waits(&self, agent: Aid) -> bool {
        self.waiting().contains(&agent)
    }

    pub(crate) fn add(&self, agent: Aid) {
        let mut waiting = self.waiting();
        if waiting.len() >= ENDS_MAX && !waiting.contains(&agent) {
            tracing::error!(
                "{agent}: the vault is not told of its end, its leases last as they would: {ENDS_MAX} others wait for \
                 the vault already; see `octant status` for why it does not answer"
            );
            return;
        }
        waiting.insert(agent);
        drop(waiting);
        self.wake.notify_one();
    }

    /// The one after `last`, in a circle: one that the vault does not take holds up no other.
    fn next(&self, last: Option<Aid>) -> Option<Aid> {
        let waiting = self.waiting();
        let after = last.and_then(|last| waiting.range((Bound::Excluded(last), Bound::Unbounded)).next());
        after.or_else(|| waiting.first()).copied()
    }

    /// Tells the vault of one end after the other, each until it is taken, until `stop`.
    pub(crate) async fn run(&self, vault: &Client, stop: &Shutdown) {
        tokio::select! {
            never = self.tell(vault) => match never {},
            () = stop.requested() => {}
        }
        let left = self.waiting().len();
        if left > 0 {
            tracing::error!("the vault was not told of {left} agents' ends, their leases last as they would");
        }
    }

    async fn tell(&self, vault: &Client) -> Infallible {
        let (mut last, mut pause) = (None, AGAIN_FIRST);
        loop {
            let Some(agent) = self.next(last) else {
                self.wake.notified().await;
                continue;
            };
            last = Some(agent);
            match vault.call(&RetireRequest { agent }).await {
                Ok(_) => {
                    self.waiting().remove(&agent);
                    pause = AGAIN_FIRST;
                }
                Err(error) => {
                    if pause == AGAIN_FIRST {
                        tracing::warn!("{agent}: the vault is told of its end again and again: {error}");
                    }
                    tokio::time::sleep(pause).await;
                    pause = AGAIN_LAST.min(pause * 2);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn ends_wait_each_once_in_bounds_and_in_a_circle() {
        let ends = Ends::default();
        let aid = |n: u16| Aid::new(u64::from(n), [0; 10]);
        (0..5000).for_each(|n| ends.add(aid(n)));
        ends.add(aid(7));
        assert_eq!(ends.waiting().len(), ENDS_MAX);
        assert!(!ends.waiting().contains(&aid(4096)), "who is there stays");
        assert_eq!((ends.next(None), ends.next(Some(aid(0)))), (Some(aid(0)), Some(aid(1))));
        assert_eq!(ends.next(Some(aid(4095))), Some(aid(0)));
        ends.waiting().clear();
        assert_eq!(ends.next(Some(aid(1))), None);
    }

    #[test]
    fn only_a_process_of_the_agents_cgroup_asks() {
        let aid = Aid::new(1, [1; 10]);
        let dir = std::env::temp_dir().join(format!("octant-procs-{}", std::process::id()));
        fs::create_dir_all(dir.join(aid.to_string())).unwrap();
        fs::write(dir.join(aid.to_string()).join("cgroup.procs"), "12\n345\n").unwrap();
        assert_eq!(cgroup_of(&dir, aid, 345).unwrap(), aid.to_string());
        for pid in [0, 1, 34, 3456] {
            assert_eq!(cgroup_of(&dir, aid, pid).unwrap_err().code, Code::Denied, "{pid}");
        }
        let other = Aid::new(1, [2; 10]);
        assert_eq!(cgroup_of(&dir, other, 345).unwrap_err().code, Code::Denied);
        fs::remove_dir_all(&dir).unwrap();
    }
}
