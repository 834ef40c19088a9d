//! The way to the ledger: records that come first, and records that must not hold anything up.
//!
//! What *adds* authority is appended and waited for ([`Records::append`]); what takes it away is done at once, and its
//! record waits in a bounded queue that counts what it loses ([`Records::later`]).

use octant_api::error::Code;
use octant_api::ledger::{AppendRequest, Appended, HeadRequest, Kind};
use octant_api::text::Json;
use octant_ids::Aid;
use octant_wire::{Client, Shutdown, WireError};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::{BTreeSet, VecDeque};
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

/// Records that the ledger did not take, in order.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Left {
    /// Those that are kept.
    pub waiting: Vec<AppendRequest>,
    /// How many more were lost, of which the ledger was not told.
    pub lost: u64,
}

/// The ledger, as a service uses it.
#[derive(Debug)]
pub struct Records {
    client: Client,
    /// Whether the last call went well, and so has left a connection.
    connected: AtomicBool,
    /// Whether the ledger did not take what waits.
    stuck: AtomicBool,
    /// Whether records may come after the seal of the agent that they are about.
    outlasts: bool,
    later: Mutex<Later>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Later {
    waiting: VecDeque<AppendRequest>,
    /// How many of the first of these an earlier run left: the ledger may have them already.
    again: usize,
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

/// Whether the ledger may take records about other agents while it does not take this one: too many partitions are open,
/// until others are sealed, or this agent has said too much.
fn passes(error: &WireError) -> bool {
    matches!(error, WireError::Api(error) if [Code::Busy, Code::Full].contains(&error.code))
}

/// Whether the ledger says that the record's agent is sealed.
fn sealed(error: &WireError) -> bool {
    matches!(error, WireError::Api(error) if error.code == Code::Conflict)
}

/// What comes next to the ledger.
enum Next {
    /// The waiting record at this place.
    Waiting(usize),
    /// The word that so many were lost.
    Lost(u64),
}

/// A record with a value as its payload.
#[must_use]
pub fn record(kind: Kind, payload: &serde_json::Value) -> AppendRequest {
    AppendRequest::new(kind, json_of(payload))
}

fn json_of(value: &serde_json::Value) -> Json {
    #[expect(clippy::expect_used, reason = "the keys of a Value are text, so it always has a JSON form")]
    Json::of(value).expect("a Value has a JSON form")
}

impl Records {
    /// Over a client of the ledger.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self {
            client,
            connected: AtomicBool::default(),
            stuck: AtomicBool::default(),
            outlasts: false,
            later: Mutex::default(),
            wake: Notify::new(),
        }
    }

    /// For a service that does not seal agents' partitions itself: what it was doing for an agent can end after the agent.
    #[must_use]
    pub fn outlasting_agents(self) -> Self {
        Self { outlasts: true, ..self }
    }

    fn later_queue(&self) -> MutexGuard<'_, Later> {
        self.later.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends records in this order; they are on stable storage when this returns without an error. They are under way
    /// together, so that the ledger can sync them together. After an error those whose answers came are given back;
    /// others may be there too.
    pub async fn append(&self, requests: &[AppendRequest]) -> (Vec<Option<Appended>>, Result<(), WireError>) {
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
    pub fn later(&self, request: AppendRequest) {
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
    pub fn take_up(&self, left: Left) {
        let mut later = self.later_queue();
        later.waiting.extend(left.waiting);
        later.again = later.waiting.len();
        (later.lost, later.lost_ever) = (left.lost, left.lost);
    }

    /// What the ledger has not taken.
    #[must_use]
    pub fn left(&self) -> Left {
        let later = self.later_queue();
        Left { waiting: later.waiting.iter().cloned().collect(), lost: later.lost }
    }

    /// Whether the ledger can be reached and takes records.
    ///
    /// # Errors
    /// Why not, in one line.
    pub async fn healthy(&self) -> Result<(), String> {
        match self.client.call_within(&HeadRequest {}, HEAD_MS).await {
            Ok(head) => head.refused.map_or(Ok(()), |why| Err(format!("the ledger refuses records: {why}"))),
            Err(error) => Err(format!("the ledger does not answer: {error}")),
        }
    }

    /// How many records wait because the ledger did not take them, and how many were lost since the start.
    #[must_use]
    pub fn backlog(&self) -> (usize, u64) {
        let later = self.later_queue();
        let stuck = self.stuck.load(Ordering::Relaxed);
        (if stuck { later.waiting.len() } else { 0 }, later.lost_ever)
    }

    /// Hands over what waits, until `stop`. A record under way then stays among what is left. Calls `first` when nothing
    /// waits for the first time.
    pub async fn run(&self, stop: &Shutdown, first: impl FnOnce()) {
        let (mut pause, mut first) = (RETRY_FIRST, Some(first));
        loop {
            let done = tokio::select! {
                done = self.hand_over() => done,
                () = stop.requested() => return,
            };
            if stop.is_requested() {
                return;
            }
            if done {
                if let Some(first) = first.take() {
                    first();
                }
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
    pub async fn hand_over(&self) -> bool {
        // Agents whose first record was not taken. What else waits about them waits behind it; others do not: the seal
        // of one can be what makes room for another.
        let mut behind = BTreeSet::new();
        let mut last = None;
        while let Some((request, next)) = self.next(&behind) {
            let (_, taken) = self.append(std::slice::from_ref(&request)).await;
            match taken {
                Err(error) if passes(&error) && request.agent.is_some() => {
                    behind.extend(request.agent);
                    last = Some(error);
                }
                Err(error) if sealed(&error) && self.without_agent(&next) => {
                    tracing::info!("a record comes after its agent's seal: {error}");
                }
                Err(error) if !self.dropped(&request, &error) => {
                    last = Some(error);
                    break;
                }
                _ => self.leaves(&next),
            }
        }
        let stuck = self.stuck.swap(last.is_some(), Ordering::Relaxed);
        if let Some(error) = last.as_ref().filter(|_| !stuck) {
            tracing::warn!("the ledger does not take records, trying again and again: {error}");
        }
        last.is_none()
    }

    /// Lets a record go on record outside of its agent's partition, which is sealed: one that an earlier run left may be
    /// there from then, and what a service was doing for an agent at its end comes after it. Its payload names the agent.
    fn without_agent(&self, next: &Next) -> bool {
        let mut later = self.later_queue();
        let Next::Waiting(at) = *next else { return false };
        let allowed = self.outlasts || at < later.again;
        let waiting = later.waiting.get_mut(at).filter(|waiting| allowed && waiting.kind != Kind::Seal);
        waiting.is_some_and(|waiting| waiting.agent.take().is_some())
    }

    /// Whether a record that was not taken leaves the queue nevertheless.
    fn dropped(&self, request: &AppendRequest, error: &WireError) -> bool {
        // What tells of losses is tried for ever: lost itself, it would tell of one more.
        if !never(error) || request.kind == Kind::Lost {
            return false;
        }
        if request.kind == Kind::Seal {
            // A seal that is refused is there already, or there is nothing to seal.
            tracing::info!("the ledger does not seal again: {error}");
            return true;
        }
        tracing::error!("the ledger will never take a record, which is counted as lost: {error}");
        self.later_queue().lose();
        true
    }

    /// Takes what was handed over out of the queue.
    fn leaves(&self, next: &Next) {
        let mut later = self.later_queue();
        match next {
            Next::Waiting(at) => {
                later.waiting.remove(*at);
                later.again -= usize::from(*at < later.again);
            }
            Next::Lost(told) => later.lost = later.lost.saturating_sub(*told),
        }
    }

    /// The next record that is not about one of these agents. That some were lost comes last: they were lost after what
    /// waits.
    fn next(&self, behind: &BTreeSet<Aid>) -> Option<(AppendRequest, Next)> {
        let later = self.later_queue();
        let free = |request: &AppendRequest| request.agent.is_none_or(|agent| !behind.contains(&agent));
        if let Some(at) = later.waiting.iter().position(free) {
            return Some((later.waiting.get(at)?.clone(), Next::Waiting(at)));
        }
        let lost = Some(later.lost).filter(|lost| *lost > 0 && later.waiting.is_empty())?;
        let payload = json!({"lost": lost, "what": "records that the ledger did not take"});
        Some((record(Kind::Lost, &payload), Next::Lost(lost)))
    }
}
