//! The ledger of what a person runs: opened for as long as something is put on record, by one process at a time.

use crate::about;
use crate::alive::Alive;
use crate::attend::Ended;
use crate::error::{RunError, at, with};
use crate::places::{Places, private_dir};
use crate::wish::Wish;
use nix::fcntl::{Flock, FlockArg};
use octant_api::ledger::{AppendRequest, Appended, Kind, VerifyReport};
use octant_api::text::Json;
use octant_api::ticket::Ticket;
use octant_ids::{Aid, Principal, ServiceName, Sha256};
use octant_ledger::{Options, PageLimits, Store};
use octant_sys::{clock, entropy};
use octant_ticket::{Issuer, Key, Keys, SECOND_NS};
use octant_tlog::entry::{BootId, Draft, Stamp, boot_id};
use octant_workstation::{Layer, Plan, Spawned};
use serde_json::{Value, json};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The name under which this supervisor makes entries.
const NAME: &str = "run";
/// The actuator that needs a ticket.
const SPAWNER: &str = "spawner";
/// What the ledger calls itself.
const LEDGER: &str = "ledger";
/// The one who says what becomes of connections.
pub(crate) const GATE: &str = "egress";
/// Why a partition is sealed.
const ENDED: &str = "it ended";
/// How long a ticket is good for: the spawner redeems it at once.
const TICKET_NS: u64 = 30 * SECOND_NS;

/// The open ledger.
#[derive(Debug)]
pub(crate) struct Record {
    store: Store,
    manifests: PathBuf,
    /// The entries of what the spawner is to do.
    intents: Vec<u64>,
    // After the store, which is written until it is closed.
    _lock: Flock<File>,
}

impl Record {
    /// Opens it, when no other run has it open; they have it for the blink of an eye.
    pub(crate) fn open(places: &Places) -> Result<Self, RunError> {
        private_dir(&places.ledger())?;
        private_dir(&places.manifests())?;
        let path = places.lock();
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = file.map_err(with("open the lock", &path))?;
        let lock = Flock::lock(file, FlockArg::LockExclusive)
            .map_err(|(_, errno)| with("lock the record", &path)(errno.into()))?;
        let opened = Store::open(&places.ledger(), boot()?, Options::default());
        let (store, torn) = opened.map_err(refused)?;
        let mut record = Self { store, manifests: places.manifests(), intents: Vec::new(), _lock: lock };
        if let Some(torn) = torn {
            let what = json!({
                "text": "the end of the ledger was torn by a crash; nothing acknowledged is missing",
                "segment": torn.segment, "offset": torn.offset, "bytes": torn.bytes, "why": torn.why,
            });
            record.append(draft(service()?, Kind::Lost, &what)?)?;
        }
        Ok(record)
    }

    /// Closes what runs have left open that are not there any more: they were killed, and everything inside with them.
    pub(crate) fn close_dead(&mut self, places: &Places) -> Result<(), RunError> {
        let open = self.store.open_partitions();
        let alive = open.iter().map(|aid| Alive::is(places, *aid)).collect::<Result<Vec<_>, _>>()?;
        for intent in self.store.open_intents() {
            // Runs that are there have connections.
            let agent = self.agent_of(intent)?;
            if open.iter().zip(&alive).any(|(aid, alive)| *alive && Some(*aid) == agent) {
                continue;
            }
            let what = json!({ "unknown": "its run was found dead" });
            // Of what others meant to do only the ledger itself may say that nobody knows.
            let outcome = draft(named(LEDGER)?, Kind::Outcome, &what)?;
            self.append(Draft { intent: Some(intent), ..outcome })?;
        }
        for (aid, alive) in open.into_iter().zip(alive) {
            if !alive {
                let reason = "its run was found dead: it was killed, and what it ran with it";
                self.lifecycle(aid, &json!({ "state": "terminated", "reason": reason }))?;
                self.seal(aid, "it was found dead")?;
            }
        }
        Ok(())
    }

    /// Whom an entry is about.
    fn agent_of(&self, seq: u64) -> Result<Option<Aid>, RunError> {
        let one = PageLimits { entries: 1, bytes: usize::MAX, looked_at: 1 };
        let page = self.store.reader().page(seq, one, |_| true).map_err(refused)?;
        Ok(page.entries.first().and_then(|entry| entry.partition.as_ref()).map(|partition| partition.agent))
    }

    /// Keeps what was signed, puts on record what is about to be done, and gives the ticket for it.
    pub(crate) fn intend(
        &mut self,
        plan: &Plan,
        wish: &Wish,
        missing: &[Layer],
        issuer: &Issuer,
    ) -> Result<Ticket, RunError> {
        let manifest = wish.declared.digest();
        self.keep(manifest, &wish.envelope)?;
        let aid = Some(plan.aid);
        let (rights, agent) = (&wish.rights, service()?);
        let first = json!({ "state": "provisioned", "name": rights.identity().name });
        self.append(Draft { agent: aid, ..draft(agent.clone(), Kind::Lifecycle, &first)? })?;
        let person = Principal::Operator(nix::unistd::getuid().as_raw());
        let mut command = about(plan);
        command["do"] = "run".into();
        self.append(Draft {
            agent: aid,
            manifest: Some(manifest),
            ..draft(person, Kind::Command, &command)?
        })?;
        let digest = plan.digest().map_err(|error| RunError::Record(error.to_string()))?;
        let workspace = plan.binds.iter().find(|bind| bind.target == "/workspace").map(|bind| &bind.source);
        let what = json!({
            "do": "spawn", "agent": plan.aid, "name": rights.identity().name, "role": rights.identity().role,
            "operator": rights.identity().operator, "key": wish.declared.signer().key, "manifest": manifest,
            "program": plan.program.path, "workspace": workspace, "profile": rights.profile().name(),
            "plan": digest, "accept_missing": missing, "narrowed": rights.narrowed(),
        });
        let intent = Draft {
            agent: aid,
            manifest: Some(manifest),
            subject: Some(digest),
            ..draft(agent, Kind::Intent, &what)?
        };
        self.ticket(intent, digest, issuer)
    }

    /// Puts on record what more the spawner is about to do for this, and gives the ticket for it.
    pub(crate) fn intend_more(
        &mut self,
        aid: Aid,
        subject: Sha256,
        what: &Value,
        issuer: &Issuer,
    ) -> Result<Ticket, RunError> {
        let intent = draft(service()?, Kind::Intent, what)?;
        self.ticket(Draft { agent: Some(aid), subject: Some(subject), ..intent }, subject, issuer)
    }

    fn ticket(&mut self, intent: Draft, subject: Sha256, issuer: &Issuer) -> Result<Ticket, RunError> {
        let seq = self.append(intent)?.seq;
        self.intents.push(seq);
        let ticket = issuer.issue(seq, subject, SPAWNER, clock::boottime_ns(), TICKET_NS);
        ticket.ok_or_else(|| RunError::Record("there is no key for tickets".into()))
    }

    /// Puts on record what the gate says about its agent, at once and signed.
    pub(crate) fn by_gate(mut self, aid: Aid, request: &AppendRequest) -> Result<Appended, RunError> {
        let kinds = [Kind::Intent, Kind::Outcome, Kind::Decision, Kind::Lost];
        if !kinds.contains(&request.kind) || request.agent.is_some_and(|about| about != aid) {
            return Err(RunError::Record("a gate says nothing of that kind".into()));
        }
        let said = Draft::new(named(GATE)?, request.kind, request.payload.clone());
        let appended = self.append(Draft { agent: request.agent, intent: request.intent, ..said })?;
        self.close()?;
        Ok(appended)
    }

    /// Says what was achieved.
    pub(crate) fn started(&mut self, plan: &Plan, spawned: &Spawned) -> Result<(), RunError> {
        let report = &spawned.report;
        let what = json!({
            "text": "started", "pid": spawned.pid, "missing": report.missing, "landlock_abi": report.landlock_abi,
            "uid_base": report.uid_base, "filters": report.filters, "namespaces": report.namespaces,
            "mounts": report.mounts,
        });
        self.outcome(plan.aid, &what)?;
        self.lifecycle(plan.aid, &json!({ "state": "running" }))
    }

    /// Says why there is nothing.
    pub(crate) fn refused(&mut self, plan: &Plan, why: &str) -> Result<(), RunError> {
        self.outcome(plan.aid, &json!({ "text": "refused", "why": why }))?;
        self.lifecycle(plan.aid, &json!({ "state": "rejected", "reason": why }))?;
        self.seal(plan.aid, ENDED)?;
        self.publish()
    }

    /// Says how it ended, and closes the agent's partition.
    pub(crate) fn ended(&mut self, plan: &Plan, ended: &Result<Ended, RunError>) -> Result<(), RunError> {
        let what = match ended {
            Ok(ended) => json!({ "state": "terminated", "exit": ended.code(), "reason": ended.reason() }),
            Err(error) => json!({ "state": "terminated", "reason": error.to_string() }),
        };
        self.lifecycle(plan.aid, &what)?;
        self.seal(plan.aid, ENDED)
    }

    /// Signs what has come to be, and lets the next one in.
    pub(crate) fn close(mut self) -> Result<(), RunError> {
        self.publish()
    }

    fn publish(&mut self) -> Result<(), RunError> {
        self.store.publish(true).map_err(RunError::Record)
    }

    fn outcome(&mut self, aid: Aid, what: &Value) -> Result<(), RunError> {
        let mut what = what.clone();
        for intent in std::mem::take(&mut self.intents) {
            let outcome = draft(service()?, Kind::Outcome, &what)?;
            self.append(Draft { agent: Some(aid), intent: Some(intent), ..outcome })?;
            // Of the spawn all is said; what followed for its network came about with it, or did not.
            what = json!({ "text": what["text"] });
        }
        Ok(())
    }

    fn lifecycle(&mut self, aid: Aid, what: &Value) -> Result<(), RunError> {
        let entry = draft(service()?, Kind::Lifecycle, what)?;
        self.append(Draft { agent: Some(aid), ..entry }).map(drop)
    }

    fn seal(&mut self, aid: Aid, reason: &str) -> Result<(), RunError> {
        let entry = draft(service()?, Kind::Seal, &json!({ "reason": reason }))?;
        self.append(Draft { agent: Some(aid), ..entry }).map(drop)
    }

    fn append(&mut self, draft: Draft) -> Result<Appended, RunError> {
        let stamp = Stamp { mono_ns: clock::monotonic_ns(), wall_ms: clock::wall_ms() };
        let mut outcomes = self.store.commit(&[draft.into()], stamp).map_err(refused)?;
        let outcome = outcomes.pop().ok_or_else(|| RunError::Record("it gave no answer".into()))?;
        outcome.map_err(refused)
    }

    /// The signed manifest beside the ledger, by its digest, on the disk before its digest is on record.
    fn keep(&self, digest: Sha256, envelope: &[u8]) -> Result<(), RunError> {
        let path = self.manifests.join(format!("{digest}.dsse.json"));
        let new = path.with_extension("new");
        let write = || {
            let mut file =
                OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
            file.write_all(envelope)?;
            file.sync_all()?;
            fs::rename(&new, &path)?;
            File::open(&self.manifests)?.sync_all()
        };
        write().map_err(with("keep the signed manifest", &path))
    }
}

fn refused(error: impl std::fmt::Display) -> RunError {
    RunError::Record(error.to_string())
}

fn service() -> Result<Principal, RunError> {
    named(NAME)
}

fn named(name: &str) -> Result<Principal, RunError> {
    name.parse::<ServiceName>().map(Principal::Service).map_err(refused)
}

fn draft(actor: Principal, kind: Kind, what: &Value) -> Result<Draft, RunError> {
    Ok(Draft::new(actor, kind, Json::of(what).map_err(refused)?))
}

/// The key by which the spawner knows a ticket of this ledger; new in each run.
pub(crate) fn keys() -> Result<Keys, RunError> {
    let mut bytes = [0; 32];
    entropy::fill_seeded(&mut bytes).map_err(at("make a key for tickets"))?;
    let name: ServiceName = SPAWNER.parse().map_err(refused)?;
    Keys::new([(name, Key::new(&bytes))]).map_err(refused)
}

/// The kernel's name for this boot.
fn boot() -> Result<BootId, RunError> {
    const PATH: &str = "/proc/sys/kernel/random/boot_id";
    let text = fs::read_to_string(PATH).map_err(with("read", PATH))?;
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    boot_id(&digits).ok_or_else(|| RunError::Record(format!("{PATH} is not an identifier")))
}

/// Recomputes the record below a directory, while nothing is put on it, and compares it with these checkpoints besides.
///
/// # Errors
/// It is no such directory, or cannot be opened or read. Damage is in the report.
pub fn verify(dir: &Path, checkpoints: &[String]) -> Result<VerifyReport, String> {
    let ledger = dir.join("ledger");
    if !ledger.join("segments").is_dir() {
        return Err("there is no ledger below it".into());
    }
    let lock = OpenOptions::new().write(true).open(dir.join("lock"));
    let lock = lock.map_err(|error| format!("its lock cannot be opened: {error}"))?;
    let _lock = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, errno)| errno.to_string())?;
    let boot = boot().map_err(|error| error.to_string())?;
    let (store, _torn) = Store::open(&ledger, boot, Options::default()).map_err(|error| error.to_string())?;
    store.verify(checkpoints).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_run_left_open_is_closed_by_the_next_and_what_runs_is_not() {
        let dir = std::env::temp_dir().join(format!("octant-run-dead-{}", std::process::id()));
        let places = Places::of(|_| Some(dir.clone()), false).unwrap();
        let aids = [1, 2, 3].map(|n| Aid::new(n, [0; 10]));
        let [dead, runs, killed_early] = aids;
        let alive = [dead, runs].map(|aid| Alive::new(&places, aid, None).unwrap());
        let open = || Record::open(&places).unwrap();
        let mut record = open();
        for aid in aids {
            record.lifecycle(aid, &json!({ "state": "provisioned" })).unwrap();
        }
        let intent = |agent| Draft {
            agent: Some(agent),
            subject: Some(Sha256([1; 32])),
            ..draft(named(GATE).unwrap(), Kind::Intent, &json!({})).unwrap()
        };
        record.append(intent(killed_early)).unwrap();
        let connection = record.append(intent(runs)).unwrap().seq;
        record.close().unwrap();
        let mut record = open();
        record.close_dead(&places).unwrap();
        assert_eq!(record.store.open_partitions(), [dead, runs], "they are locked by somebody who lives");
        assert_eq!(record.store.open_intents(), [connection], "who lives has connections");
        drop(record);
        // As the kernel does it for whoever is killed: the lock goes, the file stays.
        let [of_dead, of_runs] = alive;
        let file = places.runs().join(dead.to_string());
        drop(of_dead);
        File::create(&file).unwrap();
        let mut record = open();
        record.close_dead(&places).unwrap();
        assert_eq!(record.store.open_partitions(), [runs]);
        assert!(!file.exists());
        record.seal(runs, ENDED).unwrap();
        drop(of_runs);
        record.close().unwrap();
        let report = verify(&dir.join("octant/run"), &[]).unwrap();
        assert!(report.damage.is_none(), "{report:?}");
        fs::remove_dir_all(dir).unwrap();
    }
}
