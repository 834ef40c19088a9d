//! The glue between the gate and its process.

use crate::authority::towards_hosts;
use crate::gate::Gate;
use crate::handlers::{Methods, of_kept_name};
use crate::resolve::{Resolve, Servers};
use crate::vet::{Network, Vet};
use octant_api::egress::Server;
use octant_api::unit::{Criticality, Restart, Spec};
use octant_service::{Context, Health, Notifier, Records, ServeError, Service, Shutdown, StartError};
use octant_sys::entropy;
use octant_wire::{Identity, Limits};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde::Deserialize;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::UnixListener;
use tokio_rustls::TlsConnector;

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
}

/// How often what was denied again is recorded.
const AGAIN_EVERY: Duration = Duration::from_secs(60);
/// Where the machine's name servers are.
const RESOLV_CONF: &str = "/etc/resolv.conf";

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
        argv: &["svc", "egress"],
    };
}

/// The authorities that the configuration names; one that cannot be read is a reason not to start.
fn extra_roots(pem: &str) -> io::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        roots.add(certificate.map_err(io::Error::other)?).map_err(io::Error::other)?;
    }
    if roots.is_empty() && !pem.trim().is_empty() {
        return Err(io::Error::other("there is no certificate in it"));
    }
    Ok(roots)
}

impl Service for EgressService {
    const SPEC: Spec = Self::SPEC;
    const PROFILE: &'static str = include_str!("../profile.json");
    type Config = EgressConfig;

    async fn open(config: EgressConfig, mut context: Context) -> Result<Self, StartError> {
        let records = Arc::new(Records::new(context.client("ledger")?).outlasting_agents());
        let resolve: Box<dyn Resolve> =
            Box::new(Servers::new(config.name_servers, PathBuf::from(RESOLV_CONF)));
        let vault = context.client("vault")?;
        let tls = extra_roots(&config.extra_roots)
            .and_then(|roots| towards_hosts(roots).map_err(io::Error::other))
            .map_err(|error| StartError::new("set up TLS", "extra_roots", error))?;
        let tls = TlsConnector::from(Arc::new(tls));
        let vet = Vet { allow: config.allow_addresses };
        let mut waiting = crate::handlers::Waiting::new();
        for (name, fd) in context.inherited.stored() {
            match of_kept_name(&name) {
                Some(whose) => drop(waiting.insert(whose, fd)),
                None => tracing::warn!("PID 1 kept a descriptor {name:?}, which is none of a gate's"),
            }
        }
        let mut random = [0; 8];
        entropy::fill_seeded(&mut random)
            .map_err(|error| StartError::new("name this run", "getrandom", error))?;
        Ok(Self {
            gate: Arc::new(Gate::new(Box::new(Arc::clone(&records)), resolve, vet, Box::new(vault), tls)),
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
        let served =
            octant_wire::serve(listener, server, self.identity.clone(), Limits::default(), stop).await;
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
    fn a_root_that_cannot_be_read_is_not_passed_over() {
        assert!(extra_roots("\n").unwrap().is_empty());
        assert!(extra_roots("what is this").is_err());
        let bad = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(extra_roots(bad).is_err());
    }

    #[test]
    fn the_profile_is_valid_and_gives_a_reason_for_each_line() {
        Profile::parse(EgressService::PROFILE).unwrap();
    }
}
