//! What an agent asks about its network. Who it is is known from its socket.

use crate::guest::Guest;
use octant_api::agent::{BorrowRequest, Credentials, PreviewRequest, ReturnRequest};
use octant_api::agents::TakenBack;
use octant_api::egress::{HostLease, Preview};
use octant_api::error::{ApiError, Code};
use octant_ids::Principal;
use octant_sys::clock;
use std::sync::{Arc, PoisonError};

/// Which secrets the gate uses for it. Of a secret there is nothing in the answer but its name.
pub(crate) fn credentials(guest: &Guest) -> Credentials {
    Credentials { credentials: guest.manager.credentials_of(guest.aid) }
}

pub(crate) async fn preview(guest: &Guest, asked: PreviewRequest) -> Result<Preview, ApiError> {
    guest.manager.preview(guest.aid, asked.url).await
}

pub(crate) async fn borrow(guest: &Guest, asked: BorrowRequest) -> Result<HostLease, ApiError> {
    const WHAT: &str = "borrow a host";
    let taken = guest.leases.lock().unwrap_or_else(PoisonError::into_inner).take(clock::monotonic_ns());
    if !taken {
        let why = "this agent asks for hosts faster than it may";
        return Err(ApiError::new(Code::Busy, WHAT, "agent.borrow", why, "wait a second"));
    }
    // A task of its own: what is on record is done, also when who asked goes away.
    let (manager, aid) = (Arc::clone(&guest.manager), guest.aid);
    let task = tokio::spawn(async move { manager.borrow(aid, asked).await });
    let ended = |e| ApiError::new(Code::Internal, WHAT, "agent.borrow", e, "see the ledger");
    task.await.map_err(ended)?
}

pub(crate) async fn give_back(guest: &Guest, asked: ReturnRequest) -> Result<TakenBack, ApiError> {
    const WHAT: &str = "give a host back";
    let (manager, aid) = (Arc::clone(&guest.manager), guest.aid);
    let lease = asked.lease.clone();
    let by = Principal::Agent(aid);
    let task = tokio::spawn(async move { manager.take_back(aid, &lease, &by).await });
    let ended = |e| ApiError::new(Code::Internal, WHAT, "agent.return", e, "try again");
    let shown: String = asked.lease.chars().take(64).collect();
    match task.await.map_err(ended)? {
        Ok(cut) => Ok(TakenBack { cut }),
        Err((code, why)) => Err(ApiError::new(code, WHAT, shown, why, "name a lease of this agent's own")),
    }
}
