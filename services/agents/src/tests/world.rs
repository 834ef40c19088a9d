//! A ledger in memory, a spawner that runs plain processes, and the service between them, over real sockets.

use super::Scratch;
use crate::adopt;
use crate::approvals::Queue;
use crate::handlers::Methods;
use crate::manager::{Files, Keeper, Manager, Site, Ways, Wishes};
use crate::served::pins::Pins;
use crate::spawner::{NotHeld, Spawner};
use crate::store::Store;
use crate::trust::Noted;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use octant_api::error::{ApiError, Code};
use octant_api::exits::Exit;
use octant_api::ledger::{
    AcknowledgeRequest, AppendRequest, Appended, ArchiveRequest, Archived, CheckpointInfo, CheckpointRequest,
    Compared, Consistency, ConsistencyRequest, CosignRequest, Entry, EraseRequest, ExportEnd, ExportLine,
    ExportRequest, Handler, Head, HeadRequest, ImportRequest, Kind, Proof, ProveRequest, QueryPage,
    QueryRequest, TailEnd, TailRequest, VerifyReport, VerifyRequest, Witnessed,
};
use octant_api::ticket::Ticket;
use octant_api::{agents, ledger};
use octant_ids::{Aid, Principal, Sha256};
use octant_manifest::{Ceiling, Effective, Machine, Roles, SigningKey};
use octant_service::Records;
use octant_sys::{clock, packet};
use octant_ticket::{Actuator, Issuer, Key, Keys, SECOND_NS};
use octant_tree::{Dir, Wish};
use octant_wire::{Call, Client, Identity, Limits, Shutdown, Sink, Trigger, serve, shutdown};
use octant_workstation::{Listen, Plan, Report, SpawnError, Spawned, Step, Trust};
use serde_json::Value;
use std::collections::{BTreeSet, HashMap};
use std::io;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::UnixListener;
use tokio::task::JoinHandle;

/// The key that this boot's PID 1 gave to the ledger and the spawner.
fn ticket_keys() -> Keys {
    Keys::new([("spawner".parse().unwrap(), Key::new(&[9; 32]))]).unwrap()
}

/// A ledger that keeps what it is given, unless it is told to refuse. It keeps the rules of partitions.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) entries: Mutex<Vec<AppendRequest>>,
    /// Those about the trusted set, each with how many others there were before it: every life of the service has some.
    pub(crate) trust: Mutex<Vec<(usize, AppendRequest)>>,
    /// Each agent's partition, and whether it is open.
    pub(crate) partitions: Mutex<HashMap<Aid, bool>>,
    /// Whether intents get no tickets.
    pub(crate) no_tickets: AtomicBool,
    /// Refuses from this entry on.
    pub(crate) refuse_from: Mutex<Option<usize>>,
    /// How long each entry takes, in milliseconds.
    pub(crate) slow_ms: AtomicU64,
    /// How many partitions can be open; any number when nothing is said.
    pub(crate) room: Mutex<Option<usize>>,
}

impl Ledger {
    pub(crate) fn refuse(&self, from: Option<usize>) {
        *self.refuse_from.lock().unwrap() = from;
    }

    fn room(&self) -> usize {
        self.room.lock().unwrap().unwrap_or(usize::MAX)
    }

    /// A lifecycle entry opens an agent's partition, a seal closes it for good.
    fn place(&self, request: &AppendRequest) -> Result<(), ApiError> {
        let Some(agent) = request.agent.or(request.actor) else { return Ok(()) };
        let mut partitions = self.partitions.lock().unwrap();
        let refuse = |code, why| Err(ApiError::new(code, "append", "ledger", why, "do not"));
        match (partitions.get(&agent), request.kind) {
            (Some(false), _) => return refuse(Code::Conflict, "it is sealed"),
            (None, Kind::Lifecycle) if partitions.values().filter(|open| **open).count() >= self.room() => {
                return refuse(Code::Busy, "too many partitions are open");
            }
            (None, Kind::Lifecycle) => drop(partitions.insert(agent, true)),
            (None, _) => return refuse(Code::InvalidParams, "it has no partition"),
            (Some(true), Kind::Seal) => drop(partitions.insert(agent, false)),
            (Some(true), _) => {}
        }
        Ok(())
    }

    /// The entries of a kind.
    pub(crate) fn of(&self, kind: Kind) -> Vec<AppendRequest> {
        self.entries.lock().unwrap().iter().filter(|entry| entry.kind == kind).cloned().collect()
    }

    /// What is on record, as short texts.
    pub(crate) fn told(&self) -> Vec<String> {
        let entries = self.entries.lock().unwrap();
        let text = |entry: &AppendRequest| {
            let value: Value = entry.payload.read().unwrap();
            let of = |field: &str| value[field].as_str().map(str::to_owned);
            match entry.kind {
                Kind::Lifecycle => of("to").or(of("end_asked")).unwrap_or_else(|| "adopted".into()),
                Kind::Note => format!("note {}", of("text").unwrap()),
                kind => kind.as_str().to_owned(),
            }
        };
        entries.iter().map(text).collect()
    }
}

/// What this ledger has not: no test of this service asks for it.
fn not_here<T>() -> Result<T, ApiError> {
    Err(ApiError::new(Code::Failed, "ask the ledger", "ledger", "not here", ""))
}

impl Handler<Call> for Ledger {
    async fn append(&self, request: AppendRequest, _: Call) -> Result<Appended, ApiError> {
        match self.slow_ms.load(Ordering::Relaxed) {
            0 => {}
            slow_ms => tokio::time::sleep(Duration::from_millis(slow_ms)).await,
        }
        let mut entries = self.entries.lock().unwrap();
        if self.refuse_from.lock().unwrap().is_some_and(|from| entries.len() >= from) {
            return Err(ApiError::new(Code::Full, "append", "ledger", "it is full", "make room"));
        }
        self.place(&request)?;
        let seq = entries.len() as u64 + 1;
        if request.payload.text().contains(r#""do":"trust""#) {
            self.trust.lock().unwrap().push((entries.len(), request));
            return Ok(Appended { seq, hash: Sha256::ZERO, ticket: None });
        }
        let ticket = request.ticket_for.clone().filter(|_| !self.no_tickets.load(Ordering::Relaxed));
        let ticket = ticket.and_then(|actuator| {
            let issuer = Issuer::new(ticket_keys());
            issuer.issue(
                seq,
                request.subject.unwrap(),
                actuator.as_str(),
                clock::boottime_ns(),
                30 * SECOND_NS,
            )
        });
        entries.push(request);
        Ok(Appended { seq, hash: Sha256::ZERO, ticket })
    }

    async fn head(&self, _: HeadRequest, _: Call) -> Result<Head, ApiError> {
        let refused = self.refuse_from.lock().unwrap().map(|_| "it is full".to_owned());
        let seq = self.entries.lock().unwrap().len() as u64;
        Ok(Head { seq, hash: Sha256::ZERO, refused, checkpointed: 0, witnessed: Witnessed::default() })
    }

    async fn tail(&self, _: TailRequest, _: Sink<Entry>, _: Call) -> Result<TailEnd, ApiError> {
        Ok(TailEnd { next: 1 })
    }

    async fn query(&self, _: QueryRequest, _: Call) -> Result<QueryPage, ApiError> {
        Ok(QueryPage { entries: Vec::new(), next: None })
    }

    async fn verify(&self, _: VerifyRequest, _: Call) -> Result<VerifyReport, ApiError> {
        not_here()
    }

    async fn checkpoint(&self, _: CheckpointRequest, _: Call) -> Result<CheckpointInfo, ApiError> {
        not_here()
    }

    async fn prove(&self, _: ProveRequest, _: Call) -> Result<Proof, ApiError> {
        not_here()
    }

    async fn consistency(&self, _: ConsistencyRequest, _: Call) -> Result<Consistency, ApiError> {
        not_here()
    }

    async fn cosign(&self, _: CosignRequest, _: Call) -> Result<Witnessed, ApiError> {
        not_here()
    }

    async fn import(&self, _: ImportRequest, _: Call) -> Result<Compared, ApiError> {
        not_here()
    }

    async fn erase(&self, _: EraseRequest, _: Call) -> Result<Appended, ApiError> {
        not_here()
    }

    async fn acknowledge(&self, _: AcknowledgeRequest, _: Call) -> Result<Appended, ApiError> {
        not_here()
    }

    async fn archive(&self, _: ArchiveRequest, _: Call) -> Result<Archived, ApiError> {
        not_here()
    }

    async fn export(&self, _: ExportRequest, _: Sink<ExportLine>, _: Call) -> Result<ExportEnd, ApiError> {
        not_here()
    }
}

/// A spawner that runs the plan's arguments with the host's shell.
pub(crate) struct Plain {
    dir: PathBuf,
    exits: OwnedFd,
    pub(crate) running: Mutex<HashMap<Aid, u32>>,
    /// The programs that wait, with what lets each go and what the ticket for that is for.
    pub(crate) waiting: Mutex<HashMap<Aid, (ChildStdin, Sha256)>>,
    /// What was asked, in order.
    pub(crate) asked: Mutex<Vec<String>>,
    /// What the next spawn fails with.
    pub(crate) refuse: Mutex<Option<SpawnError>>,
    /// Why nothing can be frozen or slowed down.
    pub(crate) not_held: Mutex<Option<NotHeld>>,
    /// Which stand still.
    stopped: Mutex<BTreeSet<Aid>>,
    /// Why no workspace can be read.
    pub(crate) unreadable: Mutex<Option<String>>,
    /// How often a retirement fails before it works.
    pub(crate) residue: Mutex<u32>,
    actuator: Mutex<Actuator>,
    /// The intents whose tickets were redeemed.
    pub(crate) redeemed: Mutex<Vec<u64>>,
}

impl Plain {
    fn note(&self, what: &str) {
        self.asked.lock().unwrap().push(what.to_owned());
    }

    fn work(&self, aid: Aid) -> PathBuf {
        self.dir.join(format!("{aid}.work"))
    }

    fn not_held(&self) -> Result<(), NotHeld> {
        self.not_held.lock().unwrap().clone().map_or(Ok(()), Err)
    }

    fn signal(&self, aid: Aid, signal: Signal) -> Result<(), String> {
        let pid = self.running.lock().unwrap().get(&aid).copied().ok_or("no such workstation")?;
        kill(Pid::from_raw(pid.cast_signed()), signal).map_err(|e| e.to_string())
    }
}

impl Plain {
    fn redeem(&self, ticket: &Ticket, digest: &Sha256) -> Result<(), SpawnError> {
        let redeemed = self.actuator.lock().unwrap().redeem(ticket, digest, clock::boottime_ns());
        let seq =
            redeemed.map_err(|e| SpawnError { step: Step::Ticket, errno: 0, text: e.to_string() })?.seq();
        self.redeemed.lock().unwrap().push(seq);
        Ok(())
    }

    fn build(
        self: &Arc<Self>,
        plan: &Plan,
        mut command: Command,
        standard: &[BorrowedFd<'_>],
    ) -> Result<(Spawned, Option<ChildStdin>), SpawnError> {
        if let Some(error) = self.refuse.lock().unwrap().take() {
            return Err(error);
        }
        let bind =
            |kind| std::os::unix::net::UnixListener::bind(self.dir.join(format!("{}.{kind}", plan.aid)));
        let (socket, models) = (bind("sock"), plan.models.then(|| bind("llm").unwrap().into()));
        let work = self.work(plan.aid);
        std::fs::create_dir(&work).unwrap();
        let workspace = plan.retain.then(|| std::fs::File::open(&work).unwrap().into());
        let mut standard = standard.iter().map(|fd| fd.try_clone_to_owned().unwrap());
        if plan.stdio == octant_workstation::Stdio::Served {
            command.stdin(standard.next().unwrap());
        }
        let (stdout, stderr) = (standard.next().unwrap(), standard.next().unwrap());
        command.env("WORK", work).args(&plan.program.args).stdout(stdout).stderr(stderr);
        let mut child = command.spawn().unwrap();
        let stdin = child.stdin.take();
        // Readable at its end, as a pidfd is.
        let (pidfd, held) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap();
        let pid = child.id();
        self.running.lock().unwrap().insert(plan.aid, pid);
        let (world, aid) = (Arc::clone(self), plan.aid);
        std::thread::spawn(move || {
            let status = child.wait().unwrap().into_raw();
            world.running.lock().unwrap().remove(&aid);
            world.waiting.lock().unwrap().remove(&aid);
            let exit = Exit { pid, status, mono_ns: clock::monotonic_ns() };
            let _ = packet::send(world.exits.as_fd(), &exit.encode(), &[]);
            drop(held);
        });
        let report = Report {
            missing: vec![octant_workstation::Layer::Cgroup],
            landlock_abi: 4,
            uid_base: 1,
            payload_pid: pid,
            filters: "00".into(),
            filter_count: 2,
            namespaces: vec![("user".into(), 7)],
            mounts: vec![],
        };
        let socket = socket.unwrap().into();
        Ok((Spawned { pid, pidfd, socket, models, terminal: None, workspace, report }, stdin))
    }
}

impl Spawner for Arc<Plain> {
    fn plan(
        &self,
        rights: &Effective,
        aid: Aid,
        slot: u32,
        base: Option<Sha256>,
        trust: Option<Trust>,
    ) -> Result<Plan, String> {
        let accept_missing = Vec::new();
        let site = octant_workstation::Site {
            aid,
            slot,
            accept_missing,
            landlock_floor: 1,
            base,
            here: None,
            trust,
        };
        Plan::lower(rights, &site).map_err(|e| e.to_string())
    }

    fn spawn(
        &self,
        plan: &Plan,
        ticket: &Ticket,
        standard: &[BorrowedFd<'_>],
    ) -> Result<Spawned, SpawnError> {
        self.redeem(ticket, &plan.digest().unwrap())?;
        self.note("spawn");
        let mut command = Command::new("/bin/sh");
        command.stdin(Stdio::null());
        Ok(self.build(plan, command, standard)?.0)
    }

    fn prepare(
        &self,
        plan: &Plan,
        ticket: &Ticket,
        standard: &[BorrowedFd<'_>],
    ) -> Result<Spawned, SpawnError> {
        let digest = plan.digest().unwrap();
        self.redeem(ticket, &digest)?;
        self.note("prepare");
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "read -r go && exec /bin/sh \"$@\"", "sh"]).stdin(Stdio::piped());
        let (spawned, stdin) = self.build(plan, command, standard)?;
        self.waiting.lock().unwrap().insert(plan.aid, (stdin.unwrap(), digest));
        Ok(spawned)
    }

    fn listen(&self, _: u32, listen: &Listen, ticket: &Ticket) -> Result<Vec<OwnedFd>, SpawnError> {
        self.redeem(ticket, &listen.digest().unwrap())?;
        self.note("listen");
        Ok(listen.doors.iter().map(|_| std::fs::File::open("/dev/null").unwrap().into()).collect())
    }

    fn release(&self, _: u32, aid: Aid, ticket: &Ticket) -> Result<(), SpawnError> {
        let mut waiting = self.waiting.lock().unwrap();
        let none = SpawnError { step: Step::Execute, errno: 0, text: "it does not wait".into() };
        let digest = waiting.get(&aid).ok_or_else(|| none.clone())?.1;
        self.redeem(ticket, &digest)?;
        self.note("release");
        if let Some(error) = self.refuse.lock().unwrap().take() {
            return Err(error);
        }
        let (mut stdin, _) = waiting.remove(&aid).ok_or(none)?;
        stdin.write_all(b"go\n").unwrap();
        Ok(())
    }

    fn terminate(&self, _: u32, aid: Aid) -> Result<(), String> {
        self.note("terminate");
        self.signal(aid, Signal::SIGTERM)
    }

    fn kill(&self, _: u32, aid: Aid) -> Result<(), String> {
        self.note("kill");
        self.signal(aid, Signal::SIGKILL)
    }

    fn freeze(&self, aid: Aid, frozen: bool) -> Result<(), NotHeld> {
        self.note(if frozen { "freeze" } else { "thaw" });
        self.not_held()?;
        let mut stopped = self.stopped.lock().unwrap();
        let _ = if frozen { stopped.insert(aid) } else { stopped.remove(&aid) };
        let signal = if frozen { Signal::SIGSTOP } else { Signal::SIGCONT };
        self.signal(aid, signal).map_err(|why| NotHeld { code: Code::Failed, why })
    }

    fn speed(&self, _: Aid, percent: u64, weight: u64) -> Result<(), NotHeld> {
        self.note(&format!("speed {percent} {weight}"));
        self.not_held()
    }

    fn collect(
        &self,
        _: u32,
        aid: Aid,
        wish: &Wish,
        workspace: BorrowedFd<'_>,
        stream: BorrowedFd<'_>,
    ) -> Result<OwnedFd, String> {
        self.note("collect");
        let still = self.stopped.lock().unwrap().contains(&aid);
        if !still && self.running.lock().unwrap().contains_key(&aid) {
            return Err("it runs".into());
        }
        if let Some(why) = self.unreadable.lock().unwrap().clone() {
            return Err(why);
        }
        let (dir, wish) = (Dir::of(workspace.try_clone_to_owned().unwrap()), wish.clone());
        let mut stream = std::fs::File::from(stream.try_clone_to_owned().unwrap());
        let (ended, held) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap();
        std::thread::spawn(move || {
            octant_tree::pack(&dir, &wish, &mut stream).unwrap();
            drop(held);
        });
        Ok(ended)
    }

    fn retire(&self, _: u32, _: Aid) -> Result<u32, String> {
        self.note("retire");
        let mut residue = self.residue.lock().unwrap();
        match *residue {
            0 => Ok(2),
            left => {
                *residue = left - 1;
                Err("a process is left".into())
            }
        }
    }

    fn ping(&self) -> io::Result<()> {
        Ok(())
    }
}

/// PID 1's store of descriptors.
#[derive(Default)]
pub(crate) struct Shelf(pub(crate) Mutex<HashMap<String, OwnedFd>>);

impl Keeper for Arc<Shelf> {
    fn store(&self, name: &str, fd: BorrowedFd<'_>) -> io::Result<()> {
        self.0.lock().unwrap().insert(name.to_owned(), fd.try_clone_to_owned()?);
        Ok(())
    }

    fn unstore(&self, name: &str) -> io::Result<()> {
        self.0.lock().unwrap().remove(name);
        Ok(())
    }
}

/// What outlives a restart of the service.
pub(crate) struct Machinery {
    pub(crate) scratch: Scratch,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) spawner: Arc<Plain>,
    pub(crate) shelf: Arc<Shelf>,
    /// How many agents can run at once.
    pub(crate) max_agents: usize,
    /// One client for each agent's own socket, on which few connections are served.
    guests: Mutex<HashMap<Aid, Arc<Client>>>,
    exits: OwnedFd,
}

pub(crate) fn key() -> SigningKey {
    SigningKey::from_seed([3; 32])
}

impl Machinery {
    pub(crate) fn new() -> Self {
        let scratch = Scratch::new();
        for dir in ["state", "trusted"] {
            std::fs::create_dir(scratch.path().join(dir)).unwrap();
        }
        std::fs::write(scratch.path().join("trusted/ada.pub"), key().public_file("ada", "analyst")).unwrap();
        let (exits, theirs) = nix::sys::socket::socketpair(
            nix::sys::socket::AddressFamily::Unix,
            nix::sys::socket::SockType::SeqPacket,
            None,
            nix::sys::socket::SockFlag::SOCK_CLOEXEC,
        )
        .unwrap();
        let spawner = Plain {
            dir: scratch.path().to_owned(),
            exits: theirs,
            running: Mutex::default(),
            waiting: Mutex::default(),
            asked: Mutex::default(),
            refuse: Mutex::default(),
            not_held: Mutex::default(),
            stopped: Mutex::default(),
            unreadable: Mutex::default(),
            residue: Mutex::default(),
            actuator: Mutex::new(Actuator::new(
                "spawner".parse().unwrap(),
                ticket_keys().get("spawner").unwrap().clone(),
                clock::boottime_ns(),
            )),
            redeemed: Mutex::default(),
        };
        let (ledger, shelf) = (Arc::new(Ledger::default()), Arc::new(Shelf::default()));
        Self {
            scratch,
            ledger,
            spawner: Arc::new(spawner),
            shelf,
            max_agents: 3,
            guests: Mutex::default(),
            exits,
        }
    }

    /// An agent's own side.
    pub(crate) fn guest(&self, aid: Aid) -> Arc<Client> {
        let mut guests = self.guests.lock().unwrap();
        let socket = self.scratch.path().join(format!("{aid}.sock"));
        Arc::clone(guests.entry(aid).or_insert_with(|| Arc::new(Client::new(socket))))
    }

    /// Starts the service, as after a boot or a restart. Needs a runtime.
    pub(crate) fn start(&self, boot_id: &str) -> World {
        self.guests.lock().unwrap().clear();
        let path = |name: &str| self.scratch.path().join(name);
        let (trigger, stop) = shutdown();
        let agents = Principal::Service("agents".parse().unwrap());
        listen(path("ledger.sock"), ledger::Server(Arc::clone(&self.ledger)), agents, &stop);
        let site = Site {
            boot_id: boot_id.to_owned(),
            machine: "m1".into(),
            trusted: path("trusted"),
            accept_missing: vec!["cgroup".into()],
            ceiling: Ceiling::new(&Roles::builtin(), Machine { memory_bytes: 1 << 30, cpus: 2 }),
            max_agents: self.max_agents,
            keep_ended: 4,
            log_bytes: 64 << 10,
            artefact_bytes: 1 << 20,
            agents_cgroup: None,
        };
        let records = Records::new(Client::new(path("ledger.sock")));
        let files = Files {
            store: Store::open(path("state")).unwrap(),
            approvals: Queue::open(&path("state")).unwrap(),
            noted: Noted::open(&path("state")).unwrap(),
            wishes: Wishes::open(&path("state")).unwrap(),
            pins: Pins::open(&path("state")).unwrap(),
        };
        let manager = Arc::new(Manager::new(
            site,
            records,
            Ways {
                vault: Client::new(path("vault.sock")),
                gate: Client::new(path("egress.sock")),
                router: Client::new(path("router.sock")),
            },
            files,
            Arc::new(Arc::clone(&self.spawner)),
            Some(Arc::new(Arc::clone(&self.shelf))),
        ));
        let stored = std::mem::take(&mut *self.shelf.0.lock().unwrap());
        let back = stored.iter().map(|(name, fd)| (name.clone(), fd.try_clone().unwrap())).collect();
        *self.shelf.0.lock().unwrap() = stored;
        for (aid, events) in adopt::adopt(&manager, back).unwrap() {
            let manager = Arc::clone(&manager);
            tokio::spawn(async move {
                for event in events {
                    manager.drive(aid, event).await;
                }
            });
        }
        let exits = Arc::clone(&manager.exits);
        let channel = self.exits.try_clone().unwrap();
        tokio::spawn(async move { exits.read(channel).await.unwrap() });
        let (beside, until) = (Arc::clone(&manager), stop.clone());
        let running = tokio::spawn(async move { beside.run(&until).await });
        let methods = || agents::Server(Arc::new(Methods(Arc::clone(&manager))));
        listen(path("agents.sock"), methods(), Principal::Operator(0), &stop);
        listen(path("stranger.sock"), methods(), Principal::Stranger(7), &stop);
        World {
            operator: Client::new(path("agents.sock")),
            manager,
            trigger: Some(trigger),
            running: Some(running),
        }
    }
}

pub(crate) fn listen<D: octant_api::rpc::Dispatch<Call>>(
    path: PathBuf,
    service: D,
    caller: Principal,
    stop: &Shutdown,
) {
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(path).unwrap();
    tokio::spawn(serve(listener, service, Identity::Listener(caller), Limits::default(), stop.clone()));
}

/// The running service and its operator.
pub(crate) struct World {
    pub(crate) operator: Client,
    pub(crate) manager: Arc<Manager>,
    trigger: Option<Trigger>,
    running: Option<JoinHandle<()>>,
}

impl World {
    /// Stops the service in order.
    pub(crate) async fn stop(&mut self) {
        drop(self.trigger.take());
        self.running.take().unwrap().await.unwrap();
    }
}

/// A signed manifest that runs a shell command.
pub(crate) fn signed(name: &str, command: &str, change: &[(&str, &str)]) -> String {
    let text = manifest(name, command, change);
    String::from_utf8(octant_manifest::sign(text.as_bytes(), &[&key()])).unwrap()
}

/// The same, which nobody has signed.
pub(crate) fn manifest(name: &str, command: &str, change: &[(&str, &str)]) -> String {
    let mut text = octant_manifest::template(name, "analyst", "ada");
    let args = text.lines().find(|l| l.starts_with("args =")).unwrap().to_owned();
    text = text.replace(&args, &format!("args = [\"-c\", {}]", serde_json::to_string(command).unwrap()));
    for (from, to) in change {
        assert!(text.contains(from), "{from}");
        text = text.replace(from, to);
    }
    text
}

/// A refusal of the spawner's.
pub(crate) fn refusal() -> SpawnError {
    SpawnError { step: Step::Landlock, errno: 0, text: "this kernel has no Landlock".into() }
}
