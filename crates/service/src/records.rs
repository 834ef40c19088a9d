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
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;
use tokio::sync::Notify;

/// How many records can wait. Far more than all agents' ends at once; beyond it they are counted as lost.
const WAITING_MAX: usize = 4096;
/// How many of them can be decisions, and how many decisions about one agent. What agents ask for and are denied is as
/// much as they like; it must not push out what became of intents, what was taken away, and seals.
const DECISIONS_MAX: usize = WAITING_MAX / 8;
const DECISIONS_OF_ONE: usize = 64;
/// How long one record may take, in milliseconds; a disk that needs longer is failing.
const APPEND_MS: u64 = 5_000;
/// How many waiting records go to the ledger together. A connection has 64 requests in flight at most, of which what is
/// waited for needs its part.
const TOGETHER: usize = 16;
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
    /// How long a record that nobody waits for waits for others.
    gather: Duration,
    /// Whether those that wait now do not.
    hurried: AtomicBool,
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
    /// Whether there is room for this record.
    fn fits(&self, request: &AppendRequest) -> bool {
        if self.waiting.len() >= WAITING_MAX {
            return false;
        }
        if request.kind != Kind::Decision {
            return true;
        }
        let about = |request: &AppendRequest| request.agent.or(request.actor);
        let decisions = self.waiting.iter().filter(|waiting| waiting.kind == Kind::Decision);
        let same = decisions.clone().filter(|waiting| about(waiting) == about(request));
        decisions.count() < DECISIONS_MAX && (about(request).is_none() || same.count() < DECISIONS_OF_ONE)
    }

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
            gather: Duration::ZERO,
            hurried: AtomicBool::default(),
        }
    }

    /// Lets a record that nobody waits for wait so long for others, which the ledger then syncs together: where each call
    /// leaves one, the next call's own record does not meet it on its way.
    #[must_use]
    pub fn gathering(self, gather: Duration) -> Self {
        Self { gather, ..self }
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

    /// Keeps a record until the ledger takes it, if there is room; else it is counted as lost. Never waits.
    pub fn later(&self, request: AppendRequest) {
        let mut later = self.later_queue();
        if later.fits(&request) {
            later.waiting.push_back(request);
        } else {
            later.lose();
        }
        drop(later);
        self.wake.notify_one();
    }

    /// Has what waits for others handed over now.
    pub fn hurry(&self) {
        self.hurried.store(true, Ordering::Relaxed);
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
                    () = self.gathered() => {}
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

    /// Waits for a record, and then for others: for so many as go together, or as long as one waits.
    async fn gathered(&self) {
        self.wake.notified().await;
        // A timer takes its millisecond even for no time at all.
        if self.gather.is_zero() {
            return;
        }
        let others = async {
            while !self.hurried.swap(false, Ordering::Relaxed) && self.later_queue().waiting.len() < TOGETHER
            {
                self.wake.notified().await;
            }
        };
        // That the time is over is the common case.
        let _few = tokio::time::timeout(self.gather, others).await;
    }

    /// Whether everything was taken. A record leaves the queue only after the ledger has it: one that was
    /// taken while the connection broke can appear twice, none disappears.
    pub async fn hand_over(&self) -> bool {
        // Agents whose first record was not taken. What else waits about them waits behind it; others do not: the seal
        // of one can be what makes room for another.
        let mut behind = BTreeSet::new();
        let (mut last, mut ended) = (None, false);
        while !ended {
            let batch = self.next(&behind);
            if batch.is_empty() {
                break;
            }
            let answers = self.append_each(&batch).await;
            let mut taken = Vec::new();
            for ((request, next), answer) in batch.iter().zip(answers) {
                match answer {
                    Err(error) if passes(&error) && request.agent.is_some() => {
                        behind.extend(request.agent);
                        last = Some(error);
                    }
                    Err(error) if sealed(&error) && self.without_agent(next) => {
                        tracing::info!("a record comes after its agent's seal: {error}");
                    }
                    Err(error) if !self.dropped(request, &error) => {
                        (last, ended) = (Some(error), true);
                    }
                    _ => taken.push(next),
                }
            }
            // From the back: the places of those before stay what they are.
            taken.into_iter().rev().for_each(|next| self.leaves(next));
        }
        let stuck = self.stuck.swap(last.is_some(), Ordering::Relaxed);
        if let Some(error) = last.as_ref().filter(|_| !stuck) {
            tracing::warn!("the ledger does not take records, trying again and again: {error}");
        }
        last.is_none()
    }

    /// Appends records that are under way together, and waits for every answer.
    async fn append_each(&self, batch: &[(AppendRequest, Next)]) -> Vec<Result<Appended, WireError>> {
        let mut calls: Vec<_> =
            batch.iter().map(|(request, _)| Box::pin(self.client.call_within(request, APPEND_MS))).collect();
        let mut answers: Vec<Option<Result<Appended, WireError>>> = batch.iter().map(|_| None).collect();
        // Each is sent at its first poll: in this order.
        poll_fn(|context| {
            for (call, answer) in calls.iter_mut().zip(&mut answers).filter(|(_, answer)| answer.is_none()) {
                if let Poll::Ready(done) = call.as_mut().poll(context) {
                    *answer = Some(done);
                }
            }
            if answers.iter().all(Option::is_some) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        let answers: Vec<_> = answers.into_iter().flatten().collect();
        self.connected.store(answers.iter().all(Result::is_ok), Ordering::Relaxed);
        answers
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

    /// The next records that are not about one of these agents. That some were lost comes last: they were lost after what
    /// waits.
    ///
    /// One agent's records stand in their order whatever becomes of each: of several only outcomes go together, which name
    /// the intents that they are of.
    fn next(&self, behind: &BTreeSet<Aid>) -> Vec<(AppendRequest, Next)> {
        // Until there is a connection each call would make one, and the order would be lost.
        let most = if self.connected.load(Ordering::Relaxed) { TOGETHER } else { 1 };
        let later = self.later_queue();
        let (mut batch, mut about) = (Vec::new(), BTreeMap::new());
        for (at, request) in later.waiting.iter().enumerate() {
            if request.agent.is_some_and(|agent| behind.contains(&agent)) {
                continue;
            }
            let before = request.agent.and_then(|agent| about.insert(agent, request.kind));
            let goes = before.is_none_or(|before| [before, request.kind] == [Kind::Outcome; 2]);
            if batch.len() == most || !goes {
                break;
            }
            batch.push((request.clone(), Next::Waiting(at)));
        }
        if batch.is_empty() && later.lost > 0 && later.waiting.is_empty() {
            let payload = json!({"lost": later.lost, "what": "records that the ledger did not take"});
            batch.push((record(Kind::Lost, &payload), Next::Lost(later.lost)));
        }
        batch
    }
}

#[cfg(test)]
mod tests;
