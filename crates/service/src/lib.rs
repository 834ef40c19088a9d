//! What every service shares, so that a service is its own work and nothing else.
//!
//! Owns: start (descriptors, configuration, confinement), the runtime, readiness, health, watchdog, stop, the way to the ledger
//! and what is kept for it over a restart.
//! Promises: a service opens and serves only after its whole profile is in force; `READY=1` is sent only when it
//! serves and its first real health check has given an answer; it ends in order when asked to.
//! Never: restarts anything (PID 1 does), degrades a profile, decides what a service does.
//!
//! | step | state | a failure means |
//! |---|---|---|
//! | take inherited descriptors, read `config` | one thread, unconfined | exit, naming the descriptor |
//! | [`Service::helper`] | one thread, unconfined | exit, naming the service |
//! | no_new_privs, Landlock, seccomp | one thread | exit, naming the layer |
//! | runtime, [`Service::open`] | confined | exit, with the service's reason |
//! | [`Service::serve`], first [`Service::health`] | serving | no answer: not ready; a bad answer: ready and unhealthy |
//! | `READY=1`, then watchdog and health at intervals | ready | reported; PID 1 decides |
//! | SIGTERM | stopping | requests in flight finish |
#![forbid(unsafe_code)]

mod confine;
mod denials;
mod error;
mod inherited;
mod kept;
mod log;
mod notify;
mod profile;
mod records;
mod run;
#[cfg(test)]
mod tests;

pub use confine::{confine_helper, confine_helper_in};
pub use denials::Denials;
pub use error::{ServeError, ServiceError, StartError};
pub use inherited::Inherited;
pub use kept::{KeepError, Kept, read_kept, replace};
pub use notify::Notifier;
pub use octant_wire::Shutdown;
pub use profile::{Profile, ProfileError};
pub use records::{Left, Records, record};
pub use run::run;

use octant_api::boot::BootConfig;
use octant_api::unit::Spec;
use octant_ids::Principal;
use octant_wire::{Client, Identity};
use serde::de::DeserializeOwned;
use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::net::UnixListener;

/// Whether a service can do its work right now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// It has just done it.
    Ok,
    /// Why it cannot, in one line.
    Bad(String),
}

/// A service: a process of its own, started by PID 1.
pub trait Service: Sized + Send + Sync + 'static {
    /// What PID 1 knows of it.
    const SPEC: Spec;
    /// Its profile.json (see [`Profile`]).
    const PROFILE: &'static str;
    /// Its table in octant.toml.
    type Config: DeserializeOwned + Default;

    /// Makes what can be made only by a process that is not confined yet and has one thread: its socket is then in
    /// [`Context::helper`]. Most services have none.
    ///
    /// # Errors
    /// What failed; the process ends with it.
    fn helper() -> io::Result<Option<OwnedFd>> {
        Ok(None)
    }

    /// Makes it ready to serve.
    ///
    /// # Errors
    /// What failed; the process ends with it and PID 1 decides what follows.
    fn open(config: Self::Config, context: Context) -> impl Future<Output = Result<Self, StartError>> + Send;

    /// Serves until `stop` is asked for, then finishes what is in flight.
    ///
    /// # Errors
    /// What failed; the process ends with it.
    fn serve(
        self: Arc<Self>,
        listener: UnixListener,
        stop: Shutdown,
    ) -> impl Future<Output = Result<(), ServeError>> + Send;

    /// Does a small piece of the real work and says how it went. Never a constant, and it leaves nothing behind.
    fn health(&self) -> impl Future<Output = Health> + Send;
}

/// What a service is given at its start.
#[derive(Debug)]
pub struct Context {
    /// Its own row.
    pub spec: &'static Spec,
    /// What PID 1 says about this Octant.
    pub boot: BootConfig,
    /// Descriptors that PID 1 gave it beyond `socket` and `config`.
    pub inherited: Inherited,
    /// Speaks to PID 1.
    pub notifier: Notifier,
    /// The way to what [`Service::helper`] made.
    pub helper: Option<OwnedFd>,
}

impl Context {
    /// The service's own directory, the only one that it may write to unless its profile says otherwise.
    #[must_use]
    pub fn state_dir(&self) -> PathBuf {
        self.boot.layout.state_of(self.spec.name)
    }

    /// How callers of the service's own socket are known: by the kernel's word on their user, or by that only one can reach
    /// it.
    #[must_use]
    pub fn identity(&self) -> Identity {
        match &self.boot.sole_caller {
            Some(caller) => Identity::Listener(Principal::Service(caller.clone())),
            None => Identity::PeerCredentials { operator: self.boot.operator },
        }
    }

    /// A client of a service that this one needs.
    ///
    /// # Errors
    /// [`StartError`] when the service is not among the needs of this one's row: it may not be called.
    pub fn client(&self, service: &str) -> Result<Client, StartError> {
        if self.spec.needs.contains(&service) {
            return Ok(Client::new(self.boot.layout.socket(service)));
        }
        Err(StartError::new(
            "make a client",
            service,
            format!("{} does not declare that it needs it", self.spec.name),
        ))
    }
}
