//! The requests of one connection that did not finish at once.

use crate::frame::Id;
use octant_api::rpc::Method;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;
use tokio::task::AbortHandle;

/// Nothing in this crate panics while it holds a lock, so what a poisoned lock guards is whole.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Requests that did not finish at once.
#[derive(Debug, Default)]
pub(crate) struct InFlight {
    pub(crate) running: Mutex<Vec<Running>>,
    ended: Notify,
}

#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) id: Id,
    pub(crate) method: &'static Method,
    /// Whether it lasts as long as its caller stays.
    pub(crate) open: bool,
    /// None for the moment between its place here and its start.
    pub(crate) task: Option<AbortHandle>,
}

impl InFlight {
    pub(crate) fn remove(&self, id: &Id) {
        locked(&self.running).retain(|row| row.id != *id);
        self.ended.notify_waiters();
    }

    /// Ends the requests that `which` takes; what they were.
    pub(crate) fn cancel(&self, which: impl Fn(&Running) -> bool) -> Vec<(Id, &'static Method)> {
        let cancelled: Vec<Running> = locked(&self.running).extract_if(.., |row| which(row)).collect();
        cancelled.iter().filter_map(|row| row.task.as_ref()).for_each(AbortHandle::abort);
        self.ended.notify_waiters();
        cancelled.into_iter().map(|row| (row.id, row.method)).collect()
    }

    pub(crate) async fn empty(&self) {
        loop {
            let ended = self.ended.notified();
            if locked(&self.running).is_empty() {
                return;
            }
            ended.await;
        }
    }
}
