//! One thread that commits what many callers queue: while one sync runs, the next batch gathers.

use crate::publish::EVERY_NS;
use crate::read::locked;
use crate::refusal::Refusal;
use crate::store::{Item, Store};
use octant_api::error::{ApiError, Code};
use octant_api::ledger::{Appended, Kind};
use octant_ids::Principal;
use octant_sys::clock;
use octant_tlog::entry::Stamp;
use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::oneshot;

/// After this long without work a checkpoint is signed and the head file is synced.
const REST: Duration = Duration::from_millis(200);
/// Nothing is waiting to be synced: the thread only wakes for work.
const LONG: Duration = Duration::from_secs(3600);
/// How long a batch waits for callers that were in the one before it. They get their answers at the same moment
/// and come back together; without this wait the first of them would be synced alone, and the others after it.
const GATHER: Duration = Duration::from_micros(200);

/// How much may wait, and how much goes into one batch.
#[derive(Debug, Clone, Copy)]
pub struct WriterLimits {
    /// Appends that wait. One more is refused.
    pub queue: usize,
    /// Bytes of payload that wait. More are refused.
    pub queue_bytes: usize,
    /// Appends in one batch.
    pub batch: usize,
    /// Bytes of payload in one batch.
    pub batch_bytes: usize,
}

impl Default for WriterLimits {
    fn default() -> Self {
        // A queue of 4096 drains in well under a second on any disk that works; 8 MiB are what it may hold of
        // memory; a batch of 1 MiB is written in about the time that its sync takes.
        Self { queue: 4096, queue_bytes: 8 << 20, batch: 1024, batch_bytes: 1 << 20 }
    }
}

enum Job {
    Append(Box<Item>, oneshot::Sender<Result<Appended, Refusal>>),
    /// What is done between batches, by the owner of the files: probes, cosignatures, an operator's commands.
    Run(Box<dyn FnOnce(&mut Store) + Send>),
}

enum NotQueued {
    Full,
    Gone,
}

/// The queue to the thread that owns the [`Store`]. Dropping it lets the thread finish what is queued.
#[derive(Debug)]
pub struct Writer {
    jobs: Option<SyncSender<Job>>,
    waiting_bytes: Arc<AtomicUsize>,
    waiting: Waiting,
    limits: WriterLimits,
    thread: Option<JoinHandle<()>>,
}

/// How many appends of each service wait: one of them does not take the places of all others.
type Waiting = Arc<Mutex<HashMap<Principal, usize>>>;

/// The part of the queue that one caller can have.
const SHARE: usize = 4;

impl Writer {
    /// Starts the thread.
    ///
    /// # Errors
    /// What the operating system says about the new thread.
    pub fn start(store: Store, limits: WriterLimits) -> io::Result<Self> {
        let (jobs, queue) = sync_channel(limits.queue);
        let waiting_bytes = Arc::new(AtomicUsize::new(0));
        let waiting = Waiting::default();
        let work = Work {
            store,
            queue,
            limits,
            waiting_bytes: Arc::clone(&waiting_bytes),
            waiting: Arc::clone(&waiting),
            gathered: 0,
            carried: None,
            logged: None,
            silent: None,
        };
        let thread = std::thread::Builder::new().name("ledger-writer".to_owned()).spawn(|| work.run())?;
        Ok(Self { jobs: Some(jobs), waiting_bytes, waiting, limits, thread: Some(thread) })
    }

    /// Queues a draft. The receiver gets the answer once the entry is durable, or why it is not.
    ///
    /// # Errors
    /// [`Code::Busy`] when the queue is full, [`Code::Unavailable`] when the thread is gone.
    pub fn append(
        &self,
        item: impl Into<Item>,
    ) -> Result<oneshot::Receiver<Result<Appended, Refusal>>, ApiError> {
        let item = item.into();
        let bytes = item.bytes();
        let actor = item.draft.actor.clone();
        let busy = |why: String| {
            ApiError::new(Code::Busy, "append to the ledger", "queue", why, "try again in a moment")
        };
        if self.waiting_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes > self.limits.queue_bytes {
            self.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
            return Err(busy(format!("{} bytes are waiting", self.limits.queue_bytes)));
        }
        let share = (self.limits.queue / SHARE).max(1);
        {
            let mut waiting = locked(&self.waiting);
            let own = waiting.entry(actor.clone()).or_insert(0);
            if *own >= share {
                self.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
                return Err(busy(format!("{share} appends of {actor} are waiting")));
            }
            *own += 1;
        }
        let (sender, receiver) = oneshot::channel();
        match self.send(Job::Append(Box::new(item), sender)) {
            Ok(()) => Ok(receiver),
            Err(error) => {
                left(&self.waiting, &actor);
                self.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
                Err(match error {
                    NotQueued::Full => busy(format!("{} appends are waiting", self.limits.queue)),
                    NotQueued::Gone => gone(),
                })
            }
        }
    }

    /// Queues something to be done with the store, between batches. The receiver gets what it gives.
    ///
    /// # Errors
    /// As [`Writer::append`].
    pub(crate) fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Store) -> T + Send + 'static,
    ) -> Result<oneshot::Receiver<T>, ApiError> {
        let (sender, receiver) = oneshot::channel();
        let job = Job::Run(Box::new(move |store| {
            // Who asked may not wait any more; the work is done all the same.
            let _ = sender.send(work(store));
        }));
        match self.send(job) {
            Ok(()) => Ok(receiver),
            Err(NotQueued::Full) => {
                let why = format!("{} appends are waiting", self.limits.queue);
                Err(ApiError::new(
                    Code::Busy,
                    "reach the ledger's writer",
                    "queue",
                    why,
                    "try again in a moment",
                ))
            }
            Err(NotQueued::Gone) => Err(gone()),
        }
    }

    /// Queues a [`Store::probe`].
    ///
    /// # Errors
    /// As [`Writer::append`].
    pub fn probe(&self) -> Result<oneshot::Receiver<Result<(), Refusal>>, ApiError> {
        self.run(Store::probe)
    }

    fn send(&self, job: Job) -> Result<(), NotQueued> {
        match self.jobs.as_ref().ok_or(NotQueued::Gone)?.try_send(job) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(_)) => Err(NotQueued::Full),
            Err(TrySendError::Disconnected(_)) => Err(NotQueued::Gone),
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // A panic in the thread has been reported by the panic handler already.
            let _ = thread.join();
        }
    }
}

/// One append of an actor does not wait any more.
fn left(waiting: &Waiting, actor: &Principal) {
    let mut waiting = locked(waiting);
    if let Some(own) = waiting.get_mut(actor) {
        *own -= 1;
        if *own == 0 {
            waiting.remove(actor);
        }
    }
}

pub(crate) fn gone() -> ApiError {
    let why = "its writer has ended";
    ApiError::new(Code::Unavailable, "append to the ledger", "writer", why, "restart the ledger")
}

/// How many of a batch have somebody who goes on once it is durable, and may append again. Outcomes are told together when
/// there are some of them, and nobody waits: after those a single intent would wait for the whole of [`GATHER`].
fn come_back(items: &[Item]) -> usize {
    items.iter().filter(|item| item.draft.kind != Kind::Outcome).count()
}

struct Work {
    store: Store,
    queue: Receiver<Job>,
    limits: WriterLimits,
    waiting_bytes: Arc<AtomicUsize>,
    waiting: Waiting,
    /// How many appends of the last batch had somebody who may come back with the next.
    gathered: usize,
    /// A job that was taken from the queue but belongs after the current batch.
    carried: Option<Job>,
    /// The last refusal that was logged: one that goes on for hours is one line.
    logged: Option<Refusal>,
    /// Why no checkpoint can be made, when that was logged.
    silent: Option<String>,
}

type Answers = Vec<oneshot::Sender<Result<Appended, Refusal>>>;

impl Work {
    fn run(mut self) {
        let mut rest = LONG;
        loop {
            let job = match self.carried.take() {
                Some(job) => Ok(job),
                None => self.queue.recv_timeout(rest),
            };
            match job {
                Ok(Job::Append(item, answer)) => {
                    let (items, answers) = self.gather(*item, answer);
                    self.commit(&items, answers);
                    self.publish(false);
                    rest = REST;
                }
                Ok(Job::Run(work)) => {
                    work(&mut self.store);
                    rest = if self.store.has_more() { REST } else { LONG };
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.publish(true);
                    // After a failure it is tried again in the rhythm of checkpoints.
                    rest = if self.store.has_more() { Duration::from_nanos(EVERY_NS) } else { LONG };
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn publish(&mut self, rest: bool) {
        match self.store.publish(rest) {
            Ok(()) => self.silent = None,
            Err(why) => {
                if self.silent.as_ref() != Some(&why) {
                    tracing::error!("no checkpoint can be made: {why}; trying again and again");
                    self.silent = Some(why);
                }
            }
        }
    }

    /// What is queued now, and what comes within a moment from callers of the last batch.
    fn gather(
        &mut self,
        item: Item,
        answer: oneshot::Sender<Result<Appended, Refusal>>,
    ) -> (Vec<Item>, Answers) {
        let mut bytes = item.bytes();
        let (mut items, mut answers) = (vec![item], vec![answer]);
        let until = clock::monotonic_ns() + u64::try_from(GATHER.as_nanos()).unwrap_or(0);
        while items.len() < self.limits.batch && bytes < self.limits.batch_bytes {
            let job = match self.queue.try_recv() {
                Ok(job) => job,
                Err(_) if items.len() >= self.gathered => break,
                Err(_) => {
                    let left = Duration::from_nanos(until.saturating_sub(clock::monotonic_ns()));
                    match self.queue.recv_timeout(left) {
                        Ok(job) => job,
                        Err(_) => break,
                    }
                }
            };
            match job {
                Job::Append(item, answer) => {
                    bytes += item.bytes();
                    items.push(*item);
                    answers.push(answer);
                }
                Job::Run(_) => {
                    self.carried = Some(job);
                    break;
                }
            }
        }
        self.gathered = come_back(&items);
        (items, answers)
    }

    fn commit(&mut self, items: &[Item], answers: Answers) {
        let stamp = Stamp { mono_ns: clock::monotonic_ns(), wall_ms: clock::wall_ms() };
        let done = self.store.commit(items, stamp);
        let bytes: usize = items.iter().map(Item::bytes).sum();
        self.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
        items.iter().for_each(|item| left(&self.waiting, &item.draft.actor));
        // A caller that does not wait any more has its entry all the same.
        match done {
            Ok(appended) => {
                if self.logged.take().is_some() {
                    tracing::info!("entries are accepted again");
                }
                for (answer, appended) in answers.into_iter().zip(appended) {
                    let _ = answer.send(appended);
                }
            }
            Err(refusal) => {
                if self.logged.as_ref() != Some(&refusal) {
                    tracing::error!("entries are refused: {refusal}");
                    self.logged = Some(refusal.clone());
                }
                for answer in answers {
                    let _ = answer.send(Err(refusal.clone()));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_tells_an_outcome_is_not_waited_for() {
        let item = |kind| {
            let mut item = crate::tests::item("{}");
            item.draft.kind = kind;
            item
        };
        let batch = [Kind::Intent, Kind::Outcome, Kind::Outcome, Kind::Note].map(item);
        assert_eq!(come_back(&batch), 2);
    }
}
