//! Work that is done once for all who wait for it at that moment.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

/// The work: what it is about, and for how many.
type Work<K, V> = Box<dyn Fn(K, u64) -> Pin<Box<dyn Future<Output = V> + Send>> + Send + Sync>;

/// Who waits for one piece of work.
struct Waiting<V> {
    /// How many times it is being done.
    at_work: usize,
    for_it: Vec<oneshot::Sender<V>>,
}

impl<V> Default for Waiting<V> {
    fn default() -> Self {
        Self { at_work: 0, for_it: Vec::new() }
    }
}

/// Those who wait for a piece of work, by what it is about.
pub(crate) struct Together<K, V> {
    work: Work<K, V>,
    /// How many times the same is being done at a time. Who comes beyond that has it done together with all who come
    /// meanwhile, and never gets what was begun before it came.
    at_once: usize,
    all: Mutex<BTreeMap<K, Waiting<V>>>,
}

impl<K: Ord + Clone + Send + 'static, V: Clone + Send + 'static> Together<K, V> {
    pub(crate) fn new(at_once: usize, work: Work<K, V>) -> Arc<Self> {
        Arc::new(Self { work, at_once, all: Mutex::default() })
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<K, Waiting<V>>> {
        // Nothing here panics while it holds the lock, so what it guards is whole.
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has it done; what comes of it.
    pub(crate) fn want(self: &Arc<Self>, what: K) -> oneshot::Receiver<V> {
        let (sender, receiver) = oneshot::channel();
        let mut all = self.all();
        let waiting = all.entry(what.clone()).or_default();
        waiting.for_it.push(sender);
        if waiting.at_work < self.at_once {
            waiting.at_work += 1;
            tokio::spawn(Arc::clone(self).serve(what));
        }
        receiver
    }

    /// Does it until nobody waits for it.
    async fn serve(self: Arc<Self>, what: K) {
        while let Some(waiting) = self.next(&what) {
            let done = (self.work)(what.clone(), waiting.len() as u64).await;
            for one in waiting {
                // Who has gone away meanwhile does not want it.
                let _ = one.send(done.clone());
            }
        }
    }

    /// Those who wait now, if anybody does.
    fn next(&self, what: &K) -> Option<Vec<oneshot::Sender<V>>> {
        let mut all = self.all();
        let waiting = all.get_mut(what)?;
        waiting.for_it.retain(|one| !one.is_closed());
        if !waiting.for_it.is_empty() {
            return Some(std::mem::take(&mut waiting.for_it));
        }
        waiting.at_work -= 1;
        if waiting.at_work == 0 {
            all.remove(what);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::Semaphore;

    #[tokio::test]
    async fn who_comes_meanwhile_shares_the_next_and_nobody_gets_what_was_begun_before() {
        let (gate, sizes) = (Arc::new(Semaphore::new(0)), Arc::<Mutex<Vec<u64>>>::default());
        let (opens, noted) = (Arc::clone(&gate), Arc::clone(&sizes));
        let together = Together::new(
            2,
            Box::new(move |what: &'static str, count| {
                let number = {
                    let mut sizes = noted.lock().unwrap();
                    sizes.push(count);
                    sizes.len()
                };
                let opens = Arc::clone(&opens);
                Box::pin(async move {
                    opens.acquire().await.unwrap().forget();
                    (what, number)
                })
            }),
        );
        let mut early = Vec::new();
        for _ in 0..2 {
            early.push(together.want("a"));
            tokio::task::yield_now().await;
        }
        let late: Vec<_> = (0..5).map(|_| together.want("a")).collect();
        drop(together.want("a"));
        let other = together.want("b");
        tokio::task::yield_now().await;
        assert_eq!(*sizes.lock().unwrap(), [1, 1, 1], "two of the one, one of the other");
        gate.add_permits(10);
        let mut got = Vec::new();
        for one in early.into_iter().chain(late) {
            got.push(one.await.unwrap());
        }
        assert_eq!(other.await.unwrap(), ("b", 3));
        assert_eq!(got[..2], [("a", 1), ("a", 2)]);
        assert_eq!(got[2..], [("a", 4); 5], "together, without the one that went away");
        assert_eq!(*sizes.lock().unwrap(), [1, 1, 1, 5]);
        tokio::task::yield_now().await;
        assert!(together.all().is_empty(), "nothing is left of it");
    }
}
