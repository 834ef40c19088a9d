//! The way to the ledger: records that come first, and records that must not hold anything up.

use crate::store::Left;
use octant_api::error::Code;
use octant_api::ledger::{AppendRequest, Appended, HeadRequest, Kind};
use octant_api::text::Json;
use octant_wire::{Client, Shutdown, WireError};
use serde_json::json;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;
use tokio::sync::Notify;

/// How many records can wait. Far more than all agents' ends at once; beyond it they are counted as lost.
const WAITING_MAX: usize = 4096;
/// How long one record may take, in milliseconds; a disk that needs longer is failing.
const APPEND_MS: u64 = 5_000;
/// How long a health check waits for the ledger, in milliseconds.
const HEAD_MS: u64 = 1_000;
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_LAST: Duration = Duration::from_secs(2);

/// The ledger, as this service uses it.
#[derive(Debug)]
pub(crate) struct Records {
    client: Client,
    /// Whether the last call went well, and so has left a connection.
    connected: AtomicBool,
    /// Whether the ledger did not take what waits.
    stuck: AtomicBool,
    later: Mutex<Later>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Later {
    waiting: VecDeque<AppendRequest>,
    /// How many were lost and the ledger was not told of yet.
    lost: u64,
    /// How many were lost since the start of this service.
    lost_ever: u64,
}

impl Later {
    fn lose(&mut self) {
        self.lost = self.lost.saturating_add(1);
        self.lost_ever = self.lost_ever.saturating_add(1);
    }
}

/// Whether the ledger will never take this record, however often it is asked: its rules are against it, as they are
/// after an acknowledged loss of the entries that it follows.
fn never(error: &WireError) -> bool {
    let codes = [Code::Conflict, Code::InvalidParams, Code::Denied, Code::TooLong];
    matches!(error, WireError::Api(error) if codes.contains(&error.code))
}

/// A record with a value as its payload.
pub(crate) fn request(kind: Kind, payload: &serde_json::Value) -> AppendRequest {
    AppendRequest::new(kind, json_of(payload))
}

fn json_of(value: &serde_json::Value) -> Json {
    #[expect(clippy::expect_used, reason = "the keys of a Value are text, so it always has a JSON form")]
    Json::of(value).expect("a Value has a JSON form")
}

impl Records {
    pub(crate) fn new(client: Client) -> Self {
        Self {
            client,
            connected: AtomicBool::default(),
            stuck: AtomicBool::default(),
            later: Mutex::default(),
            wake: Notify::new(),
        }
    }

    fn later_queue(&self) -> MutexGuard<'_, Later> {
        self.later.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends records in this order; they are on stable storage when this returns without an error. They are under way
    /// together, so that the ledger can sync them together. After an error those whose answers came are given back;
    /// others may be there too.
    pub(crate) async fn append(
        &self,
        requests: &[AppendRequest],
    ) -> (Vec<Option<Appended>>, Result<(), WireError>) {
        let call = |request| Box::pin(self.client.call_within(request, APPEND_MS));
        let mut done: Vec<Option<Appended>> = vec![None; requests.len()];
        let mut start = 0;
        if let [first, ..] = requests
            && !self.connected.load(Ordering::Relaxed)
        {
            // Until there is a connection each call would make one, and the order would be lost.
            match self.noted(call(first).await) {
                Ok(appended) => done[0] = Some(appended),
                Err(error) => return (done, Err(error)),
            }
            start = 1;
        }
        // Each is sent at its first poll: in this order.
        let mut calls: Vec<_> = requests[start..].iter().map(call).collect();
        let all = poll_fn(|context| {
            let mut waiting = false;
            for (call, place) in calls.iter_mut().zip(&mut done[start..]) {
                if place.is_some() {
                    continue;
                }
                match call.as_mut().poll(context) {
                    Poll::Ready(Ok(appended)) => *place = Some(appended),
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => waiting = true,
                }
            }
            if waiting { Poll::Pending } else { Poll::Ready(Ok(())) }
        });
        let all = self.noted(all.await);
        (done, all)
    }

    fn noted<T>(&self, done: Result<T, WireError>) -> Result<T, WireError> {
        self.connected.store(done.is_ok(), Ordering::Relaxed);
        done
    }

    /// Keeps a record until the ledger takes it. Never waits.
    pub(crate) fn later(&self, request: AppendRequest) {
        let mut later = self.later_queue();
        if later.waiting.len() < WAITING_MAX {
            later.waiting.push_back(request);
        } else {
            later.lose();
        }
        drop(later);
        self.wake.notify_one();
    }

    /// Takes up what an earlier run left, before anything of this one.
    pub(crate) fn take_up(&self, left: Left) {
        let mut later = self.later_queue();
        later.waiting.extend(left.waiting);
        (later.lost, later.lost_ever) = (left.lost, left.lost);
    }

    /// What the ledger has not taken.
    pub(crate) fn left(&self) -> Left {
        let later = self.later_queue();
        Left { waiting: later.waiting.iter().cloned().collect(), lost: later.lost }
    }

    /// Whether the ledger can be reached and takes records.
    pub(crate) async fn healthy(&self) -> Result<(), String> {
        match self.client.call_within(&HeadRequest {}, HEAD_MS).await {
            Ok(head) => head.refused.map_or(Ok(()), |why| Err(format!("the ledger refuses records: {why}"))),
            Err(error) => Err(format!("the ledger does not answer: {error}")),
        }
    }

    /// How many records wait because the ledger did not take them, and how many were lost since the start.
    pub(crate) fn backlog(&self) -> (usize, u64) {
        let later = self.later_queue();
        let stuck = self.stuck.load(Ordering::Relaxed);
        (if stuck { later.waiting.len() } else { 0 }, later.lost_ever)
    }

    /// Hands over what waits, until `stop`. A record under way then stays among what is left.
    pub(crate) async fn run(&self, stop: &Shutdown) {
        let mut pause = RETRY_FIRST;
        loop {
            let done = tokio::select! {
                done = self.hand_over() => done,
                () = stop.requested() => return,
            };
            if stop.is_requested() {
                return;
            }
            if done {
                pause = RETRY_FIRST;
                tokio::select! {
                    () = self.wake.notified() => {}
                    () = stop.requested() => {}
                }
            } else {
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = stop.requested() => {}
                }
                pause = RETRY_LAST.min(pause * 2);
            }
        }
    }

    /// Whether everything was taken. A record leaves the queue only after the ledger has it: one that was
    /// taken while the connection broke can appear twice, none disappears.
    pub(crate) async fn hand_over(&self) -> bool {
        loop {
            let Some((next, lost)) = self.next() else { return true };
            let (_, taken) = self.append(std::slice::from_ref(&next)).await;
            // What tells of losses is tried for ever: lost itself, it would tell of one more.
            let refused = taken.as_ref().is_err_and(never) && next.kind != Kind::Lost;
            let stuck = self.stuck.swap(taken.is_err() && !refused, Ordering::Relaxed);
            match taken {
                Ok(_) => {}
                // A seal that is refused is there already, or there is nothing to seal.
                Err(error) if refused && next.kind == Kind::Seal => {
                    tracing::info!("the ledger does not seal again: {error}");
                }
                Err(error) if refused => {
                    tracing::error!("the ledger will never take a record, which is counted as lost: {error}");
                    self.later_queue().lose();
                }
                Err(error) => {
                    if !stuck {
                        tracing::warn!("the ledger does not take records, trying again and again: {error}");
                    }
                    return false;
                }
            }
            let mut later = self.later_queue();
            match lost {
                0 => drop(later.waiting.pop_front()),
                told => later.lost -= told,
            }
        }
    }

    /// The next record, and how many lost ones it tells of. Those come last: they were lost after what waits.
    fn next(&self) -> Option<(AppendRequest, u64)> {
        let later = self.later_queue();
        if let Some(first) = later.waiting.front() {
            return Some((first.clone(), 0));
        }
        let payload =
            json!({"lost": later.lost, "what": "records of agents' ends, which the ledger did not take"});
        (later.lost > 0).then(|| (request(Kind::Lost, &payload), later.lost))
    }
}
