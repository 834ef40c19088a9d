//! The glue between the gate and its process.

use crate::authority::sealed;
use crate::gate::Gate;
use crate::handlers::{Methods, of_kept_name};
use crate::starter::{self, Starter};
use crate::workers::Workers;
use nix::sys::resource::{Resource, getrlimit};
use octant_api::egress::Server;
use octant_api::unit::{Criticality, Restart, Spec};
use octant_outside::tls::extra_roots;
use octant_outside::{Network, RESOLV_CONF, Resolve, Servers, Vet};
use octant_service::{Context, Health, Notifier, Records, ServeError, Service, Shutdown, StartError};
use octant_sys::entropy;
use octant_wire::{Identity, Limits};
use serde::Deserialize;
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::UnixListener;

/// `[egress]` of octant.toml.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EgressConfig {
    /// The name servers that are asked; without any, those of /etc/resolv.conf.
    pub name_servers: Vec<IpAddr>,
    /// Addresses of private networks, or of this machine, that granted names may lead to all the same.
    pub allow_addresses: Vec<Network>,
    /// Certificates, as PEM, of authorities that are trusted beside those that are built in, for hosts that secrets are
    /// used at.
    pub extra_roots: String,
}

/// The gate as PID 1 runs it.
#[derive(Debug)]
pub struct EgressService {
    gate: Arc<Gate>,
    records: Arc<Records>,
    identity: Identity,
    notifier: Notifier,
    waiting: Mutex<crate::handlers::Waiting>,
    instance: String,
    starter: Arc<Starter>,
}

/// How long what became of a connection, or was denied, waits for others. Each that went alone would be a sync of the ledger
/// that the next intent, for which a program waits, comes behind.
const GATHER: Duration = Duration::from_millis(20);
/// How often what was denied again is recorded.
const AGAIN_EVERY: Duration = Duration::from_secs(60);

impl EgressService {
    /// What PID 1 knows of it.
    pub const SPEC: Spec = Spec {
        name: "egress",
        about: "the one way out of a workstation",
        needs: &["ledger", "vault"],
        restart: Restart::Always,
        criticality: Criticality::Degrades,
        ready_within_ms: 10_000,
        stop_within_ms: 5_000,
        watchdog_ms: 30_000,
        // Whoever may not call is refused by method.
        socket_mode: 0o666,
        capabilities: &[],
        root: false,
        optional: false,
        argv: &["svc", "egress"],
    };
}

impl Service for EgressService {
    const SPEC: Spec = Self::SPEC;
    const PROFILE: &'static str = include_str!("../profile.json");
    type Config = EgressConfig;

    fn helper() -> io::Result<Option<OwnedFd>> {
        starter::make().map(Some)
    }

    async fn open(config: EgressConfig, mut context: Context) -> Result<Self, StartError> {
        let records = Records::new(context.client("ledger")?).outlasting_agents().gathering(GATHER);
        let records = Arc::new(records);
        let resolve: Box<dyn Resolve> =
            Box::new(Servers::new(config.name_servers, PathBuf::from(RESOLV_CONF)));
        let vault = context.client("vault")?;
        // Workers read it again; one that they could not read is a reason not to start.
        let roots = extra_roots(config.extra_roots.as_bytes())
            .and_then(|_| sealed(config.extra_roots.as_bytes()))
            .map_err(|error| StartError::new("set up TLS", "extra_roots", error))?;
        let starter = context.helper.take().ok_or_else(|| io::Error::other("it was not made"));
        let starter = starter.and_then(Starter::new).map(Arc::new);
        let starter =
            starter.map_err(|error| StartError::new("reach the starter of workers", "its socket", error))?;
        let workers = Workers::new(Box::new(Arc::clone(&starter)), roots);
        let vet = Vet { allow: config.allow_addresses };
        let mut waiting = crate::handlers::Waiting::default();
        for (name, fd) in context.inherited.stored() {
            match of_kept_name(&name) {
                Some(whose) => waiting.add(whose, fd),
                None => tracing::warn!("PID 1 kept a descriptor {name:?}, which is none of a gate's"),
            }
        }
        let (descriptors, _) = getrlimit(Resource::RLIMIT_NOFILE).map_err(|error| {
            StartError::new("ask how many descriptors it may have", "RLIMIT_NOFILE", error)
        })?;
        let (book, vault) = (Box::new(Arc::clone(&records)), Box::new(vault));
        let mut random = [0; 8];
        entropy::fill_seeded(&mut random)
            .map_err(|error| StartError::new("name this run", "getrandom", error))?;
        Ok(Self {
            gate: Arc::new(Gate::new(book, resolve, vet, vault, workers, descriptors)),
            starter,
            records,
            identity: context.identity(),
            notifier: context.notifier,
            waiting: Mutex::new(waiting),
            instance: format!("{:016x}", u64::from_be_bytes(random)),
        })
    }

    async fn serve(self: Arc<Self>, listener: UnixListener, stop: Shutdown) -> Result<(), ServeError> {
        let (records, until) = (Arc::clone(&self.records), stop.clone());
        let recording = tokio::spawn(async move { records.run(&until, || ()).await });
        let telling = Arc::clone(&self.gate);
        let again = tokio::spawn(async move {
            loop {
                tokio::time::sleep(AGAIN_EVERY).await;
                telling.tell_all_again();
            }
        });
        let methods = Methods {
            gate: Arc::clone(&self.gate),
            notifier: self.notifier.clone(),
            instance: self.instance.clone(),
            waiting: Mutex::new(std::mem::take(
                &mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner),
            )),
            stop: stop.clone(),
        };
        let server = Server(Arc::new(methods));
        let serving =
            octant_wire::serve(listener, server, self.identity.clone(), Limits::default(), stop.clone());
        let served = tokio::select! {
            served = serving => served,
            // Told to stop, everything of this service is; otherwise PID 1 starts both anew.
            () = self.starter.gone(), if !stop.is_requested() => {
                return Err(ServeError::new("make inspection workers", "their starter has ended"));
            }
        };
        again.abort();
        self.gate.tell_all_again();
        served.map_err(|error| ServeError::new("accept connections", error))?;
        recording.await.map_err(|error| ServeError::new("hand over records", error))?;
        self.records.hand_over().await;
        Ok(())
    }

    async fn health(&self) -> Health {
        let (agents, open) = self.gate.count();
        let (waiting, lost) = self.records.backlog();
        let mut status = format!("{agents} agents, {open} connections");
        for (count, what) in [(waiting as u64, "records waiting"), (lost, "records lost")] {
            if count > 0 {
                status.push_str(&format!(", {count} {what}"));
            }
        }
        self.notifier.status(&status);
        // Without the ledger nothing is let through, and a decision that allows what nobody granted is the worst there is.
        if let Err(why) = self.gate.probe() {
            return Health::Bad(why);
        }
        match self.records.healthy().await {
            Ok(()) => Health::Ok,
            Err(why) => Health::Bad(why),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use octant_service::Profile;

    #[test]
    fn every_profile_is_valid_and_gives_a_reason_for_each_line() {
        for text in [EgressService::PROFILE, crate::worker::PROFILE, starter::PROFILE] {
            Profile::parse(text).unwrap();
        }
    }
}
