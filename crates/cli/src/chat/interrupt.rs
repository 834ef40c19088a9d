//! ^C in a conversation: it ends the answer that is coming, and the conversation where none is.

use crate::error::CliError;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

/// Nothing is asked.
const IDLE: u8 = 0;
/// An answer is coming.
const ASKING: u8 = 1;
/// It is not wanted any more.
const STOPPED: u8 = 2;
/// What a shell makes of an end by this signal.
const INTERRUPTED: i32 = 130;

/// Where a conversation is.
#[derive(Debug, Clone, Default)]
pub(super) struct Interrupt(Arc<AtomicU8>);

impl Interrupt {
    /// From here on the signal stops an answer.
    pub(super) fn listen() -> Result<Self, CliError> {
        let fail = |source| CliError::System { step: "wait for signals", source };
        let runtime = Builder::new_current_thread().enable_all().build().map_err(fail)?;
        let mut interrupt = {
            let _within = runtime.enter();
            signal(SignalKind::interrupt()).map_err(fail)?
        };
        let own = Self::default();
        let of_thread = own.clone();
        thread::spawn(move || {
            runtime.block_on(async {
                while interrupt.recv().await.is_some() {
                    if !of_thread.stop() {
                        std::process::exit(INTERRUPTED);
                    }
                }
            });
        });
        Ok(own)
    }

    /// An answer is coming now, or none any more.
    pub(super) fn asking(&self, asking: bool) {
        self.0.store(if asking { ASKING } else { IDLE }, Ordering::Relaxed);
    }

    /// Stops an answer; whether there is one.
    fn stop(&self) -> bool {
        self.0.compare_exchange(ASKING, STOPPED, Ordering::Relaxed, Ordering::Relaxed) != Err(IDLE)
    }

    /// Whether the answer is not wanted any more.
    pub(super) fn stops(&self) -> bool {
        self.0.load(Ordering::Relaxed) == STOPPED
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_stopped_and_nothing_else() {
        let interrupt = Interrupt::default();
        assert!(!interrupt.stop() && !interrupt.stops(), "nothing is asked: it leaves");
        interrupt.asking(true);
        assert!(!interrupt.stops() && interrupt.stop() && interrupt.stops());
        assert!(interrupt.stop(), "once more, while the answer ends");
        interrupt.asking(false);
        assert!(!interrupt.stops() && !interrupt.stop());
    }
}
