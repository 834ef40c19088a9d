//! The spawner, as this service uses it. A seam: tests put another one in its place.

use octant_api::boot::BootConfig;
use octant_api::ticket::Ticket;
use octant_ids::Aid;
use octant_manifest::Effective;
use octant_workstation::{Layer, Plan, Site, SpawnError, Spawned, SpawnerClient, Step};
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

/// What is asked of the spawner. Every call blocks.
pub(crate) trait Spawner: Send + Sync + 'static {
    /// The plan of a workstation with these rights. Pure.
    fn plan(&self, rights: &Effective, aid: Aid, slot: u32) -> Result<Plan, String>;
    /// Builds a workstation and starts its program, with the ledger's ticket for this plan.
    fn spawn(
        &self,
        plan: &Plan,
        ticket: &Ticket,
        stdout: OwnedFd,
        stderr: OwnedFd,
    ) -> Result<Spawned, SpawnError>;
    /// Asks its program to end.
    fn terminate(&self, slot: u32, aid: Aid) -> Result<(), String>;
    /// Kills all its processes.
    fn kill(&self, slot: u32, aid: Aid) -> Result<(), String>;
    /// Removes what is left of it.
    fn retire(&self, slot: u32, aid: Aid) -> Result<(), String>;
    /// Whether it takes requests.
    fn ping(&self) -> io::Result<()>;
}

/// The real one. Each request has a connection of its own: the spawner takes one at a time, and a slow spawn
/// must not stand in the way of a kill.
#[derive(Debug)]
pub(crate) struct Remote {
    socket: PathBuf,
    /// Where agents' cgroups are, when there are any.
    cgroup: Option<PathBuf>,
    accept_missing: Vec<Layer>,
}

/// The lowest Landlock ABI version that is accepted: that of kernel 6.1, the oldest that Octant runs on.
const LANDLOCK_FLOOR: u32 = 2;

/// A name in `accept_missing` that is no layer that can be missing.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a layer that can be missing; only {known} is", known = Layer::Cgroup)]
pub(crate) struct UnknownLayer(String);

impl Remote {
    pub(crate) fn new(boot: &BootConfig) -> Result<Self, UnknownLayer> {
        let layer = |name: &String| match name.as_str() {
            name if name == Layer::Cgroup.name() => Ok(Layer::Cgroup),
            name => Err(UnknownLayer(name.to_owned())),
        };
        Ok(Self {
            socket: boot.layout.socket("spawner"),
            cgroup: boot.agents_cgroup.clone(),
            accept_missing: boot.accept_missing.iter().map(layer).collect::<Result<_, _>>()?,
        })
    }

    fn connect(&self) -> Result<SpawnerClient, String> {
        SpawnerClient::connect(&self.socket).map_err(|e| format!("connect to {}: {e}", self.socket.display()))
    }
}

/// Whether the spawner knows of no such workstation: its only refusal of its own in this step.
fn unknown(error: &SpawnError) -> bool {
    error.step == Step::Remove && error.errno == 0
}

impl Spawner for Remote {
    fn plan(&self, rights: &Effective, aid: Aid, slot: u32) -> Result<Plan, String> {
        let accept_missing = self.accept_missing.clone();
        let site = Site { aid, slot, accept_missing, landlock_floor: LANDLOCK_FLOOR, here: None };
        Plan::lower(rights, &site).map_err(|e| e.to_string())
    }

    fn spawn(
        &self,
        plan: &Plan,
        ticket: &Ticket,
        stdout: OwnedFd,
        stderr: OwnedFd,
    ) -> Result<Spawned, SpawnError> {
        let connected = SpawnerClient::connect(&self.socket);
        let mut client = connected.map_err(|e| SpawnError {
            step: Step::Request,
            errno: e.raw_os_error().unwrap_or(0),
            text: format!("connect to {}", self.socket.display()),
        })?;
        client.spawn(plan, ticket, stdout, stderr)
    }

    fn terminate(&self, slot: u32, aid: Aid) -> Result<(), String> {
        self.connect()?.terminate(slot, aid).map_err(|e| e.to_string())
    }

    fn kill(&self, slot: u32, aid: Aid) -> Result<(), String> {
        // The kernel kills a whole cgroup at once, and this service owns the file: no other process has to be
        // alive for it. The spawner is asked where there is no cgroup.
        if let Some(cgroup) = &self.cgroup {
            let path = cgroup.join(aid.to_string()).join("cgroup.kill");
            match OpenOptions::new().write(true).open(&path).and_then(|mut file| file.write_all(b"1")) {
                Ok(()) => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => tracing::warn!("{}: {e}; asking the spawner", path.display()),
            }
        }
        match self.connect()?.kill(slot, aid) {
            // Nothing of it runs that could be killed.
            Err(error) if unknown(&error) => Ok(()),
            done => done.map_err(|e| e.to_string()),
        }
    }

    fn retire(&self, slot: u32, aid: Aid) -> Result<(), String> {
        self.connect()?.retire(slot, aid).map_err(|e| e.to_string())
    }

    fn ping(&self) -> io::Result<()> {
        SpawnerClient::connect(&self.socket).map(drop)
    }
}
