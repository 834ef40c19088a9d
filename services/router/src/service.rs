//! The glue between the router and its process.

use crate::door::{Door, KEPT_DOOR};
use crate::handlers::{Methods, Waiting, of_kept_name};
use crate::http;
use crate::push::Collector;
use crate::router::Router;
use crate::secrets::Vault;
use crate::upstream::Upstreams;
use octant_api::router::Server;
use octant_api::unit::{Criticality, ROUTER, ROUTER_HTTP, Restart, Spec};
use octant_outside::tls::{extra_roots, towards_hosts};
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

/// `[router]` of octant.toml. What there is to ask is in router.toml, beside it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RouterConfig {
    /// The name servers that are asked; without any, those of /etc/resolv.conf.
    pub name_servers: Vec<IpAddr>,
    /// Addresses of private networks that upstreams' names may lead to all the same.
    pub allow_addresses: Vec<Network>,
    /// Certificates, as PEM, of authorities that are trusted beside those that are built in.
    pub extra_roots: String,
    /// Where a collector of OpenTelemetry is, for what was counted: `https://HOST:4318`, or `http` on this machine; without
    /// one nothing is told.
    pub otlp: String,
}

/// The router as PID 1 runs it.
#[derive(Debug)]
pub struct RouterService {
    router: Arc<Router>,
    records: Arc<Records>,
    identity: Identity,
    notifier: Notifier,
    waiting: Mutex<Waiting>,
    instance: String,
    collector: Mutex<Option<Collector>>,
    /// Where operators ask, and whom this Octant belongs to.
    operators: Mutex<Option<(UnixListener, u32)>>,
}

fn operators(fd: OwnedFd, operator: u32) -> io::Result<(UnixListener, u32)> {
    let listener = std::os::unix::net::UnixListener::from(fd);
    listener.set_nonblocking(true)?;
    Ok((UnixListener::from_std(listener)?, operator))
}

/// How long what became of a call waits for others, so that it does not stand in the way of the next intent.
const GATHER: Duration = Duration::from_millis(20);
/// How often what was denied again is recorded, and connections that nobody uses are closed.
const AGAIN_EVERY: Duration = Duration::from_secs(60);
/// How often keys whose time is over are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// The operator's file.
const FILE: &str = "router.toml";

impl RouterService {
    /// What PID 1 knows of it.
    pub const SPEC: Spec = Spec {
        name: ROUTER,
        about: "every call of a language model",
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
        argv: &["svc", "router"],
    };
}

impl Service for RouterService {
    const SPEC: Spec = Self::SPEC;
    const PROFILE: &'static str = include_str!("../profile.json");
    type Config = RouterConfig;

    async fn open(config: RouterConfig, mut context: Context) -> Result<Self, StartError> {
        let records = Records::new(context.client("ledger")?).outlasting_agents().gathering(GATHER);
        let records = Arc::new(records);
        let resolve: Box<dyn Resolve> =
            Box::new(Servers::new(config.name_servers, PathBuf::from(RESOLV_CONF)));
        let vault = Vault::new(context.client("vault")?);
        let tls = |error: String| StartError::new("set up TLS", "extra_roots", error);
        let roots = extra_roots(config.extra_roots.as_bytes()).map_err(|error| tls(error.to_string()))?;
        let client = towards_hosts(roots).map_err(|error| tls(error.to_string()))?;
        let vet = Vet { allow: config.allow_addresses };
        let upstreams = Upstreams::new(resolve, vet, client);
        let file = context.boot.layout.etc.join(FILE);
        let kept_door = context.inherited.remove(KEPT_DOOR);
        let router = Router::new(
            Box::new(Arc::clone(&records)),
            Box::new(vault),
            upstreams,
            file,
            &context.state_dir(),
            Door::new(Some(context.notifier.clone()), kept_door),
        );
        let router = Arc::new(router);
        // A file that is wrong is no reason to stand still for the others: it is said, and nobody can be asked.
        if let Err(why) = router.reload() {
            tracing::error!(
                "nobody can be asked until it is right and `octant router reload` was run: {why}"
            );
        }
        let mut waiting = Waiting::default();
        for (name, fd) in context.inherited.stored() {
            match of_kept_name(&name) {
                Some(aid) => waiting.add(aid, fd),
                None => tracing::warn!("PID 1 kept a descriptor {name:?}, which is none of the router's"),
            }
        }
        let operators = context.inherited.remove(ROUTER_HTTP).map(|fd| operators(fd, context.boot.operator));
        let operators = operators.transpose();
        let operators =
            operators.map_err(|error| StartError::new("listen for operators", ROUTER_HTTP, error))?;
        let mut random = [0; 8];
        entropy::fill_seeded(&mut random)
            .map_err(|error| StartError::new("name this run", "getrandom", error))?;
        let instance = format!("{:016x}", u64::from_be_bytes(random));
        let collector = (!config.otlp.is_empty())
            .then(|| Collector::new(&config.otlp, instance.clone()))
            .transpose()
            .map_err(|error| StartError::new("know its collector", "otlp", error))?;
        Ok(Self {
            router,
            records,
            identity: context.identity(),
            notifier: context.notifier,
            waiting: Mutex::new(waiting),
            instance,
            collector: Mutex::new(collector),
            operators: Mutex::new(operators),
        })
    }

    async fn serve(self: Arc<Self>, listener: UnixListener, stop: Shutdown) -> Result<(), ServeError> {
        let (records, until) = (Arc::clone(&self.records), stop.clone());
        let recording = tokio::spawn(async move { records.run(&until, || ()).await });
        let sweeping = Arc::clone(&self.router);
        let sweeping = tokio::spawn(async move {
            loop {
                tokio::time::sleep(SWEEP_EVERY).await;
                if sweeping.keyring.sweep(&sweeping).await {
                    sweeping.door.set(&sweeping);
                }
            }
        });
        let telling = Arc::clone(&self.router);
        let again = tokio::spawn(async move {
            loop {
                tokio::time::sleep(AGAIN_EVERY).await;
                telling.tell_all_again();
                telling.upstreams.sweep();
                telling.tally.keep().await;
            }
        });
        let collector = self.collector.lock().unwrap_or_else(PoisonError::into_inner).take();
        let pushing = collector.map(|collector| tokio::spawn(collector.run(Arc::clone(&self.router))));
        let operators = self.operators.lock().unwrap_or_else(PoisonError::into_inner).take();
        let operators = operators.map(|(listener, operator)| {
            tokio::spawn(http::serve_operators(Arc::clone(&self.router), operator, listener))
        });
        let methods = Methods {
            router: Arc::clone(&self.router),
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
        sweeping.abort();
        if let Some(pushing) = pushing {
            pushing.abort();
        }
        operators.inspect(tokio::task::JoinHandle::abort);
        self.router.tell_all_again();
        self.router.tally.keep().await;
        if let Err(why) = self.router.windows.close().await {
            tracing::error!("what was set apart counts as used: {why}");
        }
        served.map_err(|error| ServeError::new("accept connections", error))?;
        recording.await.map_err(|error| ServeError::new("hand over records", error))?;
        self.records.hand_over().await;
        Ok(())
    }

    async fn health(&self) -> Health {
        let (agents, open) = self.router.count();
        let (waiting, lost) = self.records.backlog();
        let mut status = format!("{agents} agents, {open} calls, {} deployments", self.router.deployments());
        for (count, what) in [(waiting as u64, "records waiting"), (lost, "records lost")] {
            if count > 0 {
                status.push_str(&format!(", {count} {what}"));
            }
        }
        self.notifier.status(&status);
        // Without the ledger nobody is asked, and a decision that allows what nobody granted is the worst there is.
        if let Err(why) = self.router.probe() {
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
    fn the_profile_is_valid_and_gives_a_reason_for_each_line() {
        Profile::parse(RouterService::PROFILE).unwrap();
    }
}
