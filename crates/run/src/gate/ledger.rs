//! What the gate finds where its ledger is: this process, which opens the ledger of runs for each record.

use crate::error::{RunError, at};
use crate::places::Places;
use crate::record::{GATE, Record};
use nix::sys::signal::SigSet;
use octant_api::error::{ApiError, Code};
use octant_api::ledger::{AppendRequest, Appended};
use octant_api::rpc::{Deadline, Need};
use octant_ids::{Aid, Principal};
use octant_wire::{Call, Identity, Limits, Shutdown, Trigger, serve, shutdown};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::io;
use std::os::unix::net::UnixListener as StdListener;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use tokio::net::UnixListener;
use tokio::runtime::Builder;

/// The ledger's own parameters.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub(crate) struct Append(AppendRequest);

mod part {
    use super::{Append, Appended, Deadline, Need};

    octant_api::rpc! {
        /// The part of the ledger that a gate needs.
        service "ledger" {
            /// As the ledger's.
            "append" => append, Append(Append) -> Appended,
                needs [Need::AnyService], deadline Deadline::Ms(10_000);
        }
    }
}

/// A thread of this process; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Ledger {
    trigger: Trigger,
    thread: Option<JoinHandle<()>>,
}

impl Ledger {
    /// Takes what the gate of this agent says.
    pub(crate) fn serve(listener: StdListener, places: Places, aid: Aid) -> Result<Self, RunError> {
        let failed = || at("take the gate's records");
        let (trigger, stop) = shutdown();
        listener.set_nonblocking(true).map_err(failed())?;
        let runtime = Builder::new_current_thread().enable_all().build().map_err(failed())?;
        // Signals are for the thread that waits for the program.
        let before = SigSet::all().thread_swap_mask(nix::sys::signal::SigmaskHow::SIG_SETMASK);
        let before = before.map_err(|errno| failed()(errno.into()))?;
        let thread = thread::Builder::new().name("ledger".to_owned());
        let thread = thread.spawn(move || {
            let served = runtime.block_on(answer(listener, Book { places, aid }, stop));
            if let Err(error) = served {
                crate::say(&format!(
                    "the gate's records are not taken any more, so it lets nothing through: {error}"
                ));
            }
        });
        before.thread_set_mask().map_err(|errno| failed()(errno.into()))?;
        Ok(Self { trigger, thread: Some(thread.map_err(failed())?) })
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        self.trigger.pull();
        if let Some(thread) = self.thread.take() {
            let _it_has_said_so = thread.join();
        }
    }
}

async fn answer(listener: StdListener, book: Book, stop: Shutdown) -> io::Result<()> {
    let gate = GATE.parse().map_err(io::Error::other)?;
    let identity = Identity::Listener(Principal::Service(gate));
    let listener = UnixListener::from_std(listener)?;
    serve(listener, part::Server(Arc::new(book)), identity, Limits::default(), stop).await
}

struct Book {
    places: Places,
    aid: Aid,
}

impl part::Handler<Call> for Book {
    async fn append(&self, Append(request): Append, _: Call) -> Result<Appended, ApiError> {
        let (places, aid) = (self.places.clone(), self.aid);
        // Another run may have the ledger open for a moment.
        let done = tokio::task::spawn_blocking(move || Record::open(&places)?.by_gate(aid, &request)).await;
        let refused = |why: String| {
            ApiError::new(
                Code::Unavailable,
                "append to the ledger",
                "ledger",
                why,
                "see `octant ledger verify`",
            )
        };
        done.map_err(|error| refused(error.to_string()))?.map_err(|error| refused(error.to_string()))
    }
}
