//! The spawner, as this service uses it. A seam: tests put another one in its place.

use octant_api::boot::BootConfig;
use octant_api::error::Code;
use octant_api::ticket::Ticket;
use octant_ids::{Aid, Sha256};
use octant_manifest::Effective;
use octant_sys::clock;
use octant_tree::Wish;
use octant_workstation::{
    Layer, Listen, Plan, Site, SpawnError, Spawned, SpawnerClient, Step, Trust, cpu_files,
};
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Why the kernel did not freeze an agent or change its share of the processors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NotHeld {
    pub(crate) code: Code,
    pub(crate) why: String,
}

impl NotHeld {
    fn missing(why: &str) -> Self {
        Self { code: Code::LayerMissing, why: format!("layer cgroup: {why}") }
    }

    fn failed(why: String) -> Self {
        Self { code: Code::Failed, why }
    }
}

/// What is asked of the spawner. Every call blocks.
pub(crate) trait Spawner: Send + Sync + 'static {
    /// The plan of a workstation with these rights, with this snapshot where one was named, and with what secrets that
    /// are used for it need. Pure.
    fn plan(
        &self,
        rights: &Effective,
        aid: Aid,
        slot: u32,
        base: Option<Sha256>,
        trust: Option<Trust>,
    ) -> Result<Plan, String>;
    /// Builds a workstation and starts its program, with the ledger's ticket for this plan and the standard descriptors that
    /// it asks for.
    fn spawn(&self, plan: &Plan, ticket: &Ticket, standard: &[BorrowedFd<'_>])
    -> Result<Spawned, SpawnError>;
    /// Builds a workstation whose program waits to be let go.
    fn prepare(
        &self,
        plan: &Plan,
        ticket: &Ticket,
        standard: &[BorrowedFd<'_>],
    ) -> Result<Spawned, SpawnError>;
    /// Lets such a program go, with another of the ledger's tickets for the same plan.
    fn release(&self, slot: u32, aid: Aid, ticket: &Ticket) -> Result<(), SpawnError>;
    /// Has sockets listen in its network, with the ledger's ticket for these.
    fn listen(&self, slot: u32, listen: &Listen, ticket: &Ticket) -> Result<Vec<OwnedFd>, SpawnError>;
    /// Asks its program to end.
    fn terminate(&self, slot: u32, aid: Aid) -> Result<(), String>;
    /// Kills all its processes.
    fn kill(&self, slot: u32, aid: Aid) -> Result<(), String>;
    /// Stops all its processes where they are, or lets them go on. Answers when none runs any more.
    fn freeze(&self, aid: Aid, frozen: bool) -> Result<(), NotHeld>;
    /// Gives all its processes together so many hundredths of a processor, and this share when others want it too.
    fn speed(&self, aid: Aid, percent: u64, weight: u64) -> Result<(), NotHeld>;
    /// Has what is wished for of its workspace written into a pipe, once nothing of it runs; the handle of the process that
    /// does it.
    fn collect(
        &self,
        slot: u32,
        aid: Aid,
        wish: &Wish,
        workspace: BorrowedFd<'_>,
        stream: BorrowedFd<'_>,
    ) -> Result<OwnedFd, String>;
    /// Removes what is left of it, and looks whether anything still is; in how many of its namespaces.
    fn retire(&self, slot: u32, aid: Aid) -> Result<u32, String>;
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
#[error("{0:?} is not a layer that can be missing; those are {known}", known = Layer::ACCEPTABLE.map(Layer::name).join(", "))]
pub(crate) struct UnknownLayer(String);

impl Remote {
    pub(crate) fn new(boot: &BootConfig) -> Result<Self, UnknownLayer> {
        let layer = |name: &String| Layer::acceptable(name).ok_or_else(|| UnknownLayer(name.to_owned()));
        Ok(Self {
            socket: boot.layout.socket("spawner"),
            cgroup: boot.agents_cgroup.clone(),
            accept_missing: boot.accept_missing.iter().map(layer).collect::<Result<_, _>>()?,
        })
    }

    fn connect(&self) -> Result<SpawnerClient, String> {
        SpawnerClient::connect(&self.socket).map_err(|e| format!("connect to {}: {e}", self.socket.display()))
    }

    /// The same for what answers with the step that failed.
    fn builder(&self) -> Result<SpawnerClient, SpawnError> {
        SpawnerClient::connect(&self.socket).map_err(|e| SpawnError {
            step: Step::Request,
            errno: e.raw_os_error().unwrap_or(0),
            text: format!("connect to {}", self.socket.display()),
        })
    }
}

/// Whether the spawner knows of no such workstation: its only refusal of its own in this step.
fn unknown(error: &SpawnError) -> bool {
    error.step == Step::Remove && error.errno == 0
}

/// How long a process may take to stop that is in the kernel; others take microseconds.
const FREEZE_NS: u64 = 5_000_000_000;

fn write_to(leaf: &Path, file: &str, value: &str) -> io::Result<()> {
    OpenOptions::new().write(true).open(leaf.join(file))?.write_all(value.as_bytes())
}

/// Waits until the kernel says that none of the processes runs.
fn until_frozen(leaf: &Path) -> Result<(), NotHeld> {
    let (started, mut pause) = (clock::monotonic_ns(), Duration::from_micros(200));
    loop {
        let path = leaf.join("cgroup.events");
        let events =
            fs::read_to_string(&path).map_err(|e| NotHeld::failed(format!("{}: {e}", path.display())))?;
        if events.lines().any(|line| line == "frozen 1") {
            return Ok(());
        }
        if clock::monotonic_ns().saturating_sub(started) > FREEZE_NS {
            let why = "a process of it is in the kernel and does not stop there".to_owned();
            return Err(NotHeld::failed(why));
        }
        std::thread::sleep(pause);
        pause = Duration::from_millis(20).min(pause * 2);
    }
}

impl Spawner for Remote {
    fn plan(
        &self,
        rights: &Effective,
        aid: Aid,
        slot: u32,
        base: Option<Sha256>,
        trust: Option<Trust>,
    ) -> Result<Plan, String> {
        let accept_missing = self.accept_missing.clone();
        let site =
            Site { aid, slot, accept_missing, landlock_floor: LANDLOCK_FLOOR, base, here: None, trust };
        Plan::lower(rights, &site).map_err(|e| e.to_string())
    }

    fn spawn(
        &self,
        plan: &Plan,
        ticket: &Ticket,
        standard: &[BorrowedFd<'_>],
    ) -> Result<Spawned, SpawnError> {
        self.builder()?.spawn(plan, ticket, standard)
    }

    fn prepare(
        &self,
        plan: &Plan,
        ticket: &Ticket,
        standard: &[BorrowedFd<'_>],
    ) -> Result<Spawned, SpawnError> {
        self.builder()?.prepare(plan, ticket, standard)
    }

    fn release(&self, slot: u32, aid: Aid, ticket: &Ticket) -> Result<(), SpawnError> {
        self.builder()?.release(slot, aid, ticket)
    }

    fn listen(&self, slot: u32, listen: &Listen, ticket: &Ticket) -> Result<Vec<OwnedFd>, SpawnError> {
        self.builder()?.listen(slot, listen, ticket)
    }

    fn terminate(&self, slot: u32, aid: Aid) -> Result<(), String> {
        self.connect()?.terminate(slot, aid).map_err(|e| e.to_string())
    }

    fn kill(&self, slot: u32, aid: Aid) -> Result<(), String> {
        // The kernel kills a whole cgroup at once, and this service owns the file: no other process has to be
        // alive for it. The spawner is asked where there is no cgroup.
        if let Some(cgroup) = &self.cgroup {
            let leaf = cgroup.join(aid.to_string());
            match write_to(&leaf, "cgroup.kill", "1") {
                Ok(()) => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => tracing::warn!("{}/cgroup.kill: {e}; asking the spawner", leaf.display()),
            }
        }
        match self.connect()?.kill(slot, aid) {
            // Nothing of it runs that could be killed.
            Err(error) if unknown(&error) => Ok(()),
            done => done.map_err(|e| e.to_string()),
        }
    }

    // As a kill, these two are written by this service itself, to files that the spawner has given it: they work while the
    // spawner builds a workstation, and while there is none.
    fn freeze(&self, aid: Aid, frozen: bool) -> Result<(), NotHeld> {
        let missing = || NotHeld::missing("this instance has no cgroup v2, so nothing can be frozen");
        let leaf = self.cgroup.as_ref().ok_or_else(missing)?.join(aid.to_string());
        write_to(&leaf, "cgroup.freeze", if frozen { "1" } else { "0" })
            .map_err(|e| NotHeld::failed(format!("{}: {e}", leaf.join("cgroup.freeze").display())))?;
        if frozen { until_frozen(&leaf) } else { Ok(()) }
    }

    fn speed(&self, aid: Aid, percent: u64, weight: u64) -> Result<(), NotHeld> {
        let missing = || NotHeld::missing("there is no cpu controller, so nothing can be slowed down");
        let leaf = self.cgroup.as_ref().ok_or_else(missing)?.join(aid.to_string());
        for (file, value) in cpu_files(percent, weight) {
            match write_to(&leaf, file, &value) {
                Err(e) if e.kind() == io::ErrorKind::NotFound && leaf.exists() => return Err(missing()),
                done => done.map_err(|e| NotHeld::failed(format!("{}: {e}", leaf.join(file).display())))?,
            }
        }
        Ok(())
    }

    fn collect(
        &self,
        slot: u32,
        aid: Aid,
        wish: &Wish,
        workspace: BorrowedFd<'_>,
        stream: BorrowedFd<'_>,
    ) -> Result<OwnedFd, String> {
        self.connect()?.collect(slot, aid, wish, workspace, stream).map_err(|e| e.to_string())
    }

    fn retire(&self, slot: u32, aid: Aid) -> Result<u32, String> {
        self.connect()?.retire(slot, aid).map_err(|e| e.to_string())
    }

    fn ping(&self) -> io::Result<()> {
        SpawnerClient::connect(&self.socket).map(drop)
    }
}
