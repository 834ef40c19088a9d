//! What an operator says while a loop runs: a thread waits for it, so that a stop comes through whatever the loop does.

use crate::error::LoopError;
use crate::socket::Socket;
use octant_api::agent::{Word, Words};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

/// How long the service is asked to wait, in milliseconds.
const WAIT_MS: u64 = 20_000;
/// How long it is left alone where it does not answer.
const AWAY: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Ears {
    told: Receiver<Words>,
    words: VecDeque<Word>,
    more: bool,
    /// How often it was stopped, as the thread knows it.
    stops: Arc<AtomicU64>,
    /// The same, as far as what was taken tells of it, with how much had been said by then; and as far as the loop has
    /// followed it.
    taken: (u64, u64),
    followed: u64,
}

impl Ears {
    /// Hears everything after what has this number.
    pub(super) fn open(socket: &mut Socket, after: u64) -> Result<Self, LoopError> {
        let words = socket.words(after, 0, 0)?;
        let mut own = Socket::new(socket.path());
        let stops = Arc::new(AtomicU64::new(words.stops));
        let (tell, told) = channel();
        let last = words.words.last().map_or(after, |word| word.number);
        let (seen, followed, more) = (Arc::clone(&stops), words.stops, words.more);
        thread::spawn(move || hear(&mut own, last, &seen, &tell));
        let taken = (followed, words.stopped_at);
        Ok(Self { told, words: words.words.into(), more, stops, taken, followed })
    }

    fn add(&mut self, words: Words) {
        (self.more, self.taken) = (words.more, (words.stops, words.stopped_at));
        self.words.extend(words.words);
    }

    /// Takes what was said meanwhile.
    pub(super) fn take(&mut self) {
        while let Ok(words) = self.told.try_recv() {
            self.add(words);
        }
    }

    /// Waits until something is said.
    pub(super) fn wait(&mut self) {
        // The thread ends after this.
        if let Ok(words) = self.told.recv() {
            self.add(words);
        }
    }

    /// The next word up to this number, and whether more may be said after it.
    pub(super) fn word(&mut self, upto: u64) -> Option<(Word, bool)> {
        let word = self.words.pop_front_if(|word| word.number <= upto)?;
        Some((word, self.more))
    }

    pub(super) fn more(&self) -> bool {
        self.more
    }

    /// Whether there is a stop that the loop has not followed.
    pub(super) fn stops(&self) -> bool {
        self.stops.load(Ordering::Acquire) > self.followed
    }

    /// How much had been said at a stop that the loop has not followed; it counts as followed from here on.
    pub(super) fn stopped_at(&mut self) -> Option<u64> {
        let (stops, at) = self.taken;
        (std::mem::replace(&mut self.followed, stops) < stops).then_some(at)
    }
}

fn hear(socket: &mut Socket, mut after: u64, stops: &AtomicU64, tell: &Sender<Words>) {
    loop {
        match socket.words(after, stops.load(Ordering::Relaxed), WAIT_MS) {
            Ok(words) => {
                after = words.words.last().map_or(after, |word| word.number);
                let (now, before) = (words.stops, stops.load(Ordering::Relaxed));
                if (now != before || !words.words.is_empty()) && tell.send(words).is_err() {
                    return;
                }
                // Told first, so that whoever sees the stop finds what was said before it.
                stops.store(now, Ordering::Release);
            }
            // It starts anew. What is said meanwhile it is asked for then.
            Err(_) => thread::sleep(AWAY),
        }
    }
}
