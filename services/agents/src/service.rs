//! The service: its row for PID 1, its start, its health.

use crate::adopt::{self, Pending};
use crate::approvals::Queue;
use crate::calls::Reports;
use crate::handlers::Methods;
use crate::manager::{Files, Keeper, Manager, Site, Ways, Wishes};
use crate::served::pins::Pins;
use crate::spawner::Remote;
use crate::store::Store;
use crate::trust::Noted;
use octant_api::agents;
use octant_api::unit::{Criticality, Restart, Spec};
use octant_ids::Layout;
use octant_manifest::{Ceiling, Machine, Roles};
use octant_service::{Context, Health, Records, ServeError, Service, Shutdown, StartError};
use octant_sys::capacity;
use octant_wire::{Identity, Limits, serve};
use serde::Deserialize;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::UnixListener;

/// PID 1 keeps 8192 descriptors of a service over its restarts, and an agent has up to five; those that are prepared come
/// on top.
const AGENTS_MOST: usize = 1500;

/// The table `[agents]` of octant.toml.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AgentsConfig {
    /// This machine's identifier in manifests' audiences. Without it, the content of `machine-id` in the
    /// configuration directory; without that, only manifests for every machine are accepted.
    machine: Option<String>,
    /// How many agents can run at once.
    max_agents: usize,
    /// How many agents that have ended are kept, with their output.
    keep_ended: usize,
    /// How many bytes of output are kept of each agent.
    log_bytes: u64,
    /// How many bytes are kept of all workspaces together, of what manifests name in `lifetime.retain`.
    artefact_bytes: u64,
}

impl Default for AgentsConfig {
    fn default() -> Self {
        Self { machine: None, max_agents: 64, keep_ended: 128, log_bytes: 1 << 20, artefact_bytes: 4 << 30 }
    }
}

impl AgentsConfig {
    /// Refuses what the rest of Octant cannot hold.
    fn check(&self) -> Result<(), StartError> {
        let rows = [
            ("max_agents", self.max_agents, 0, AGENTS_MOST),
            ("keep_ended", self.keep_ended, 0, 10_000),
            ("log_bytes", usize::try_from(self.log_bytes).unwrap_or(usize::MAX), 4096, 1 << 30),
            ("artefact_bytes", usize::try_from(self.artefact_bytes).unwrap_or(usize::MAX), 0, 1 << 50),
        ];
        match rows.into_iter().find(|(_, is, least, most)| !(least..=most).contains(&is)) {
            None => Ok(()),
            Some((name, is, least, most)) => {
                let why = format!("{is} is not between {least} and {most}");
                Err(StartError::new("read [agents] of octant.toml", name, why))
            }
        }
    }
}

/// The lifecycle manager.
#[derive(Debug)]
pub struct AgentsService {
    manager: Arc<Manager>,
    identity: Identity,
    /// What serving starts with: PID 1's word on exits, and agents that an earlier run left.
    first: Mutex<Option<(Option<OwnedFd>, Pending)>>,
    notifier: octant_service::Notifier,
}

impl AgentsService {
    /// What PID 1 knows of it.
    pub const SPEC: Spec = Spec {
        name: "agents",
        about: "agents: from a signed manifest to their end",
        needs: &["ledger", "vault", "egress", "router", "spawner"],
        restart: Restart::Always,
        criticality: Criticality::Degrades,
        // It opens files and sockets and asks the ledger for its head.
        ready_within_ms: 10_000,
        // It ends no agent; it hands over what it has to record.
        stop_within_ms: 5_000,
        watchdog_ms: 30_000,
        // Everybody on the machine may connect; who may do what is decided by who they are.
        socket_mode: 0o666,
        capabilities: &[],
        root: false,
        optional: false,
        argv: &["svc", "agents"],
    };
}

impl Service for AgentsService {
    const SPEC: Spec = Self::SPEC;
    const PROFILE: &'static str = include_str!("../profile.json");
    type Config = AgentsConfig;

    async fn open(config: AgentsConfig, mut context: Context) -> Result<Self, StartError> {
        config.check()?;
        let layout = &context.boot.layout;
        let spawner = Remote::new(&context.boot)
            .map_err(|e| StartError::new("read the boot configuration", "accept_missing", e))?;
        let site = Site {
            boot_id: context.boot.boot_id.clone(),
            machine: machine_id(config.machine, layout)?,
            trusted: layout.trusted(),
            accept_missing: context.boot.accept_missing.clone(),
            ceiling: Ceiling::new(&Roles::builtin(), machine()?),
            max_agents: config.max_agents,
            keep_ended: config.keep_ended,
            log_bytes: config.log_bytes,
            artefact_bytes: config.artefact_bytes,
            agents_cgroup: context.boot.agents_cgroup.clone(),
        };
        let records = Records::new(context.client("ledger")?);
        let (vault, gate) = (context.client("vault")?, context.client("egress")?);
        let ways = Ways { vault, gate, router: context.client("router")? };
        let dir = context.state_dir();
        let store =
            Store::open(dir.clone()).map_err(|e| StartError::new("read what was kept", dir.display(), e))?;
        let approvals = Queue::open(&dir)
            .map_err(|e| StartError::new("read what waits for approval", dir.display(), e))?;
        let noted = Noted::open(&dir)
            .map_err(|e| StartError::new("read what is on record of the trusted set", dir.display(), e))?;
        let wishes = Wishes::open(&dir)
            .map_err(|e| StartError::new("read what is wished to be prepared", dir.display(), e))?;
        let pins = Pins::open(&dir)
            .map_err(|e| StartError::new("read which tools are approved", dir.display(), e))?;
        let identity = context.identity();
        let exits = context.inherited.remove("exits");
        let notifier = context.notifier.clone();
        let reports = {
            let unreported = context.boot.landlock_unreported.take();
            Reports::new(context.inherited.remove("audit"), unreported)
        };
        let keeper = Some(Arc::new(context.notifier) as Arc<dyn Keeper>);
        let files = Files { store, approvals, noted, wishes, pins };
        let manager = Manager::new(site, records, ways, files, Arc::new(spawner), keeper);
        let manager = Arc::new(manager.reporting(reports));
        let pending = adopt::adopt(&manager, context.inherited.stored())
            .map_err(|e| StartError::new("take over agents", dir.display(), e))?;
        Ok(Self { manager, identity, first: Mutex::new(Some((exits, pending))), notifier })
    }

    async fn serve(self: Arc<Self>, listener: UnixListener, stop: Shutdown) -> Result<(), ServeError> {
        let first = self.first.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((exits, pending)) = first {
            match exits {
                Some(channel) => {
                    let exits = Arc::clone(&self.manager.exits);
                    tokio::spawn(async move {
                        if let Err(error) = exits.read(channel).await {
                            tracing::error!(
                                "PID 1's word on how agents end cannot be read any more: {error}"
                            );
                        }
                    });
                }
                None => tracing::warn!("PID 1 gave no channel for exits: how agents end is not known"),
            }
            for (aid, events) in pending {
                let manager = Arc::clone(&self.manager);
                tokio::spawn(async move {
                    for event in events {
                        manager.drive(aid, event).await;
                    }
                });
            }
        }
        let beside = Arc::clone(&self.manager);
        let until = stop.clone();
        let running = tokio::spawn(async move { beside.run(&until).await });
        let methods = agents::Server(Arc::new(Methods(Arc::clone(&self.manager))));
        let served = serve(listener, methods, self.identity.clone(), Limits::default(), stop).await;
        served.map_err(|e| ServeError::new("accept connections", e))?;
        running.await.map_err(|e| ServeError::new("hand over records", e))
    }

    async fn health(&self) -> Health {
        let (live, bare, prepared) = self.manager.count();
        let (waiting, lost) = self.manager.records.backlog();
        let mut status = format!("{live} agents");
        let also = [(prepared, "prepared"), (bare, "WITHOUT ALL LAYERS"), (waiting, "records waiting")];
        for (count, what) in also {
            if count > 0 {
                status.push_str(&format!(", {count} {what}"));
            }
        }
        if lost > 0 {
            status.push_str(&format!(", {lost} records lost"));
        }
        self.notifier.status(&status);
        let (ledger, spawner) = tokio::join!(self.manager.records.healthy(), self.manager.spawner_healthy());
        match ledger.and(spawner) {
            Ok(()) => Health::Ok,
            Err(why) => Health::Bad(why),
        }
    }
}

/// What no manifest can be granted more of.
fn machine() -> Result<Machine, StartError> {
    let failed = |place| move |e| StartError::new("ask how large this machine is", place, e);
    Ok(Machine {
        memory_bytes: capacity::memory_bytes().map_err(failed("sysinfo"))?,
        cpus: capacity::cpus().map_err(failed("processors"))?,
    })
}

fn machine_id(configured: Option<String>, layout: &Layout) -> Result<String, StartError> {
    if let Some(machine) = configured {
        return Ok(machine);
    }
    let path = layout.etc.join("machine-id");
    match fs::read_to_string(&path) {
        Ok(text) => Ok(text.trim().to_owned()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(e) => Err(StartError::new("read this machine's identifier", path.display(), e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use octant_service::Profile;

    #[test]
    fn the_profile_is_valid_and_gives_a_reason_for_each_line() {
        Profile::parse(AgentsService::PROFILE).unwrap();
    }

    #[test]
    fn the_configuration_has_bounds_and_no_unknown_fields() {
        AgentsConfig::default().check().unwrap();
        let read = |value| serde_json::from_value::<AgentsConfig>(value);
        assert!(read(serde_json::json!({})).unwrap().check().is_ok());
        assert!(read(serde_json::json!({"max_agent": 1})).is_err());
        for (field, value) in [("max_agents", 1501), ("keep_ended", 10_001), ("log_bytes", 1)] {
            let error = read(serde_json::json!({field: value})).unwrap().check().unwrap_err();
            assert!(error.to_string().contains(field), "{error}");
        }
    }

    #[test]
    fn the_machine_is_asked_how_large_it_is() {
        let machine = machine().unwrap();
        assert!(machine.memory_bytes > 1 << 20 && machine.cpus > 0);
    }
}
