//! The listener for programs outside of workstations, who show keys. It is where router.toml says, or nowhere.

use crate::agents::lock;
use crate::http;
use crate::router::Router;
use octant_route::Listen;
use octant_service::Notifier;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

/// Its name in PID 1's store, and among the descriptors that come with the start.
const STORED: &str = "outside";
pub(crate) const KEPT_DOOR: &str = "stored.outside";

/// Why nobody listens.
#[derive(Debug, thiserror::Error)]
enum Closed {
    #[error("{0} can be reached from other machines, and nobody has a key yet: octant router key new")]
    Keyless(SocketAddr),
    #[error("{0}: {1}; octant router reload tries again")]
    Bind(SocketAddr, io::Error),
}

#[derive(Debug, Default)]
struct State {
    /// The listener of an earlier run.
    kept: Option<OwnedFd>,
    open: Option<(SocketAddr, AbortHandle)>,
    fault: String,
}

/// The listener, if there is one.
#[derive(Debug)]
pub(crate) struct Door {
    notifier: Option<Notifier>,
    state: Mutex<State>,
}

fn bind(at: SocketAddr, kept: Option<OwnedFd>) -> io::Result<std::net::TcpListener> {
    let kept = kept.map(std::net::TcpListener::from);
    let listener = match kept.filter(|kept| kept.local_addr().is_ok_and(|is| is == at)) {
        Some(kept) => kept,
        None => std::net::TcpListener::bind(at)?,
    };
    listener.set_nonblocking(true)?;
    Ok(listener)
}

impl Door {
    /// With what PID 1 kept of an earlier run. Without a notifier nothing is kept.
    pub(crate) fn new(notifier: Option<Notifier>, kept: Option<OwnedFd>) -> Self {
        Self { notifier, state: Mutex::new(State { kept, ..State::default() }) }
    }

    /// Where it is, and why it is not where it should be; each empty where there is nothing to say.
    pub(crate) fn stands(&self) -> (String, String) {
        let state = lock(&self.state);
        (state.open.as_ref().map(|(at, _)| at.to_string()).unwrap_or_default(), state.fault.clone())
    }

    /// Brings it to what router.toml says and the keys that there are allow.
    pub(crate) fn set(&self, router: &Arc<Router>) {
        let wanted = router.setup().and_then(|setup| setup.catalogue.listen);
        let mut state = lock(&self.state);
        let done = match wanted {
            Some(listen) if listen.public() && router.keyring.count() == 0 => {
                self.close(&mut state);
                Err(Closed::Keyless(listen.at))
            }
            Some(listen) => self.open(&mut state, router, listen),
            None => {
                self.close(&mut state);
                Ok(())
            }
        };
        let fault = done.err().map(|error| error.to_string()).unwrap_or_default();
        if !fault.is_empty() && fault != state.fault {
            tracing::error!("nobody listens for programs outside of workstations: {fault}");
        }
        state.fault = fault;
    }

    fn open(&self, state: &mut State, router: &Arc<Router>, Listen { at }: Listen) -> Result<(), Closed> {
        if state.open.as_ref().is_some_and(|(is, serving)| *is == at && !serving.is_finished()) {
            return Ok(());
        }
        let kept = state.kept.take();
        self.close(state);
        let made = || {
            let listener = bind(at, kept)?;
            if let Some(notifier) = &self.notifier
                && let Err(error) = notifier.store(STORED, listener.as_fd())
            {
                tracing::warn!("the listener at {at} cannot be kept over a restart: {error}");
            }
            TcpListener::from_std(listener)
        };
        let listener = made().map_err(|error| Closed::Bind(at, error))?;
        let serving = tokio::spawn(http::serve_outside(Arc::clone(router), listener));
        state.open = Some((at, serving.abort_handle()));
        Ok(())
    }

    fn close(&self, state: &mut State) {
        let had = state.kept.take().is_some() | state.open.is_some();
        if let Some((_, serving)) = state.open.take() {
            serving.abort();
        }
        if had
            && let Some(notifier) = &self.notifier
            && let Err(error) = notifier.unstore(STORED)
        {
            tracing::warn!("a listener that is closed stays in PID 1's store: {error}");
        }
    }
}
