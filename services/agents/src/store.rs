//! What is kept on disk: one record for each agent, and how often each manifest was used.

use crate::core::budget::Account;
use crate::core::held::Held;
use crate::words::Words;
use octant_api::agents::AgentInfo;
use octant_api::egress::{Credential, HostLease};
use octant_ids::{Aid, Sha256};
use octant_manifest::{GrantPath, OnParentDeath, OnTimeout, Retention};
use octant_service::{KeepError, replace};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// The shape of [`Saved`]; another one is not read.
const VERSION: u32 = 2;
/// The longest record that is read, in bytes.
const RECORD_MAX: u64 = 4 << 20;
const SPAWNS: &str = "spawns.json";

/// What has to be known of an agent after a restart of this service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Saved {
    version: u32,
    /// The boot in which it was started. In another one nothing of it can run any more.
    pub(crate) boot_id: String,
    /// Its slot, until everything of it is retired.
    pub(crate) slot: Option<u32>,
    /// When its life is over, in nanoseconds of CLOCK_BOOTTIME.
    pub(crate) deadline_ns: Option<u64>,
    /// When the spawner was asked, in nanoseconds of CLOCK_MONOTONIC: an exit before that is another's.
    pub(crate) asked_ns: u64,
    /// The ledger entry of the intent to spawn it.
    pub(crate) intent: Option<u64>,
    /// Whether its seal was given to be recorded: the last that is ever recorded about it.
    #[serde(default)]
    pub(crate) sealed: bool,
    /// What its manifest says that counts while it lives; none before it was read.
    #[serde(default)]
    pub(crate) terms: Option<Terms>,
    /// What it does not have for now.
    #[serde(default)]
    pub(crate) held: Held,
    /// The key that signed for the first of its line.
    #[serde(default)]
    pub(crate) signed_with: Option<Sha256>,
    /// Whether it goes on under another only once an operator has approved that.
    #[serde(default)]
    pub(crate) unadopted: bool,
    /// The agents above it when it was spawned, the one that an operator spawned first. Never changed.
    #[serde(default)]
    pub(crate) ancestors: Vec<Aid>,
    /// What the end of the one that it is under means for it.
    #[serde(default)]
    pub(crate) on_parent_death: Option<OnParentDeath>,
    /// What is left of its allotment.
    #[serde(default)]
    pub(crate) allotment: [u64; 5],
    /// What services use up of it.
    #[serde(default)]
    pub(crate) account: Account,
    /// Whether it has a network.
    #[serde(default)]
    pub(crate) network: bool,
    /// Whether it may ask models.
    #[serde(default)]
    pub(crate) models: bool,
    /// How many children it had from each manifest.
    #[serde(default)]
    pub(crate) children_of: BTreeMap<Sha256, u64>,
    /// The hosts that it was lent.
    #[serde(default)]
    pub(crate) leases: Vec<HostLease>,
    /// What stands for the secrets that the gate uses for it.
    #[serde(default)]
    pub(crate) credentials: Vec<Credential>,
    /// The certificate of the authority that its programs trust where that is so.
    #[serde(default)]
    pub(crate) authority: Option<String>,
    /// The name under which it offers tools.
    #[serde(default)]
    pub(crate) serves: Option<String>,
    /// The number of its Landlock domain, once the kernel has named it.
    #[serde(default)]
    pub(crate) domain: Option<u64>,
    /// What operators said to it.
    #[serde(default)]
    pub(crate) words: Words,
    /// What callers see.
    pub(crate) info: AgentInfo,
}

/// What a manifest says that counts while the agent lives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Terms {
    /// How long it may live; none for without end.
    pub(crate) ttl_ms: Option<u64>,
    /// What the end of that means.
    pub(crate) on_timeout: OnTimeout,
    /// Hundredths of a processor that it may use.
    pub(crate) cpu_percent: u64,
    /// Its share of the processors when others want them.
    pub(crate) cpu_weight: u64,
    /// What of its workspace is kept after its end.
    #[serde(default)]
    pub(crate) retain: Option<Retain>,
}

/// What of a workspace is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Retain {
    /// The places in it; all of it where there is no list.
    pub(crate) places: Option<Vec<String>>,
    /// The most bytes of all files.
    pub(crate) bytes: u64,
    /// The most files, directories and links.
    pub(crate) files: u64,
}

impl Retain {
    /// What the rights say; none where they keep nothing.
    pub(crate) fn of(retention: &Retention) -> Option<Self> {
        let Retention { places, bytes, files } = retention;
        let inside = |path: &GrantPath| {
            path.as_str().trim_start_matches("/workspace").trim_start_matches('/').to_owned()
        };
        let places: Vec<String> = places.iter().map(inside).collect();
        let whole = places.iter().any(String::is_empty);
        let some = !places.is_empty();
        some.then(|| Self { places: (!whole).then_some(places), bytes: bytes.0, files: *files })
    }
}

impl Saved {
    /// A record of a new agent.
    pub(crate) fn new(boot_id: &str, info: AgentInfo) -> Self {
        let boot_id = boot_id.to_owned();
        Self {
            version: VERSION,
            boot_id,
            slot: None,
            deadline_ns: None,
            asked_ns: 0,
            intent: None,
            sealed: false,
            terms: None,
            held: Held::default(),
            signed_with: None,
            serves: None,
            domain: None,
            unadopted: false,
            ancestors: Vec::new(),
            on_parent_death: None,
            allotment: [0; 5],
            account: Account::default(),
            network: false,
            models: false,
            children_of: BTreeMap::new(),
            leases: Vec::new(),
            credentials: Vec::new(),
            authority: None,
            words: Words::default(),
            info,
        }
    }
}

/// Where an agent's rights come from: what an operator signed and what each agent below wrote for the next. From it the
/// rights of an agent that spawns are made anew after a restart; they are never read from anywhere.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Chain {
    /// The signed manifest of the first.
    pub(crate) envelope: String,
    /// When it was admitted, in milliseconds since 1970.
    pub(crate) admitted_ms: u64,
    /// Whether an operator approved that its life has no end.
    #[serde(default)]
    pub(crate) unlimited: bool,
    /// The manifests of its descendants down to this agent.
    pub(crate) delegated: Vec<String>,
}

/// The records of agents, oldest first, and those that could not be read.
pub(crate) type Loaded = (Vec<Saved>, Vec<(Aid, StoreError)>);

/// Why something cannot be kept, or was not found as it was kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error("{step} {}: {source}", path.display())]
    Io { step: &'static str, path: PathBuf, source: io::Error },
    #[error(transparent)]
    Keep(#[from] KeepError),
    #[error("{} is damaged: {why}", path.display())]
    Damaged { path: PathBuf, why: String },
    #[error(
        "the manifest {digest} may be used {max} times and has been; sign it again with a larger max_spawns"
    )]
    Used { digest: Sha256, max: u64 },
    #[error("{} has no room for one more manifest that was used; let some expire, or sign with a nearer not_after", .0.display())]
    Full(PathBuf),
}

/// The state directory.
#[derive(Debug)]
pub(crate) struct Store {
    dir: PathBuf,
    spawns: Mutex<BTreeMap<Sha256, Spawns>>,
}

/// How often a manifest was used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Spawns {
    count: u64,
    /// When the manifest expires, in milliseconds since 1970: from then on it is refused for that, and need
    /// not be counted.
    until_ms: u64,
}

fn failed(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    move |source| StoreError::Io { step, path: path.to_owned(), source }
}

impl Store {
    /// Opens the directory, which exists.
    ///
    /// A count of spawns that cannot be read is an error and not zero: it is what stops a replay.
    pub(crate) fn open(dir: PathBuf) -> Result<Self, StoreError> {
        let path = dir.join(SPAWNS);
        let spawns = match read(&path) {
            Ok(None) => BTreeMap::new(),
            Ok(Some(bytes)) => serde_json::from_slice(&bytes)
                .map_err(|e| StoreError::Damaged { path, why: e.to_string() })?,
            Err(error) => return Err(error),
        };
        Ok(Self { dir, spawns: Mutex::new(spawns) })
    }

    /// Where files of an agent are.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    fn record(&self, aid: Aid) -> PathBuf {
        self.dir.join(format!("{aid}.json"))
    }

    /// Keeps an agent's record. Not synced: it matters after a restart of this service, and not after one of
    /// the machine, when nothing of the agent runs any more.
    pub(crate) fn save(&self, saved: &Saved) -> Result<(), StoreError> {
        let path = self.record(saved.info.aid);
        let bytes = serde_json::to_vec(saved)
            .map_err(|e| StoreError::Damaged { path: path.clone(), why: e.to_string() })?;
        Ok(replace(&path, &bytes, false)?)
    }

    /// Forgets an agent's record.
    pub(crate) fn remove(&self, aid: Aid) -> Result<(), StoreError> {
        for path in [self.record(aid), self.chain(aid)] {
            match fs::remove_file(&path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed("remove", &path)(e)),
                _ => {}
            }
        }
        Ok(())
    }

    fn chain(&self, aid: Aid) -> PathBuf {
        self.dir.join(format!("{aid}.chain"))
    }

    /// Keeps where an agent's rights come from.
    pub(crate) fn save_chain(&self, aid: Aid, chain: &Chain) -> Result<(), StoreError> {
        let path = self.chain(aid);
        let bytes = serde_json::to_vec(chain)
            .map_err(|e| StoreError::Damaged { path: path.clone(), why: e.to_string() })?;
        Ok(replace(&path, &bytes, false)?)
    }

    /// Where an agent's rights come from; `None` where nothing below it or beside it needs to know.
    pub(crate) fn load_chain(&self, aid: Aid) -> Result<Option<Chain>, StoreError> {
        let path = self.chain(aid);
        let Some(bytes) = read(&path)? else { return Ok(None) };
        let chain = serde_json::from_slice(&bytes);
        chain.map(Some).map_err(|e| StoreError::Damaged { path, why: e.to_string() })
    }

    /// Every record, oldest first, and what could not be read with the agent that it belongs to.
    pub(crate) fn load(&self) -> Result<Loaded, StoreError> {
        let (mut all, mut bad) = (Vec::new(), Vec::new());
        for entry in fs::read_dir(&self.dir).map_err(failed("list", &self.dir))? {
            let path = entry.map_err(failed("list", &self.dir))?.path();
            let name = path.file_name().and_then(|n| n.to_str()).and_then(|n| n.strip_suffix(".json"));
            let Some(aid) = name.and_then(|n| n.parse::<Aid>().ok()) else { continue };
            match read_record(&path) {
                Ok(saved) if saved.info.aid == aid => all.push(saved),
                Ok(_) => {
                    let why = "it is another agent's".to_owned();
                    bad.push((aid, StoreError::Damaged { path, why }));
                }
                Err(error) => bad.push((aid, error)),
            }
        }
        all.sort_by_key(|saved| saved.info.aid);
        Ok((all, bad))
    }

    /// How often a manifest can still be used.
    pub(crate) fn uses_left(&self, digest: Sha256, max: u64) -> u64 {
        let spawns = self.spawns.lock().unwrap_or_else(PoisonError::into_inner);
        max.saturating_sub(spawns.get(&digest).map_or(0, |row| row.count))
    }

    /// Counts a use of a manifest, on stable storage before this returns. What was counted stays so, also when
    /// the spawn fails afterwards.
    pub(crate) fn count(
        &self,
        digest: Sha256,
        max: u64,
        until_ms: u64,
        now_ms: u64,
    ) -> Result<(), StoreError> {
        let mut spawns = self.spawns.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = spawns.clone();
        next.retain(|_, row| row.until_ms > now_ms);
        let row = next.entry(digest).or_insert(Spawns { count: 0, until_ms });
        if row.count >= max {
            return Err(StoreError::Used { digest, max });
        }
        row.count += 1;
        let path = self.dir.join(SPAWNS);
        let bytes = serde_json::to_vec(&next)
            .map_err(|e| StoreError::Damaged { path: path.clone(), why: e.to_string() })?;
        // What is longer than is read would keep this service from ever starting again.
        if bytes.len() as u64 >= RECORD_MAX {
            return Err(StoreError::Full(path));
        }
        replace(&path, &bytes, true)?;
        *spawns = next;
        Ok(())
    }
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    use io::Read;
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(failed("open", path)(e)),
    };
    let mut bytes = Vec::new();
    file.take(RECORD_MAX).read_to_end(&mut bytes).map_err(failed("read", path))?;
    Ok(Some(bytes))
}

fn read_record(path: &Path) -> Result<Saved, StoreError> {
    let damaged = |why: String| StoreError::Damaged { path: path.to_owned(), why };
    let bytes = read(path)?.unwrap_or_default();
    let saved: Saved = serde_json::from_slice(&bytes).map_err(|e| damaged(e.to_string()))?;
    if saved.version != VERSION {
        return Err(damaged(format!("it has version {}, this build reads {VERSION}", saved.version)));
    }
    Ok(saved)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{Scratch, info};

    #[test]
    fn records_come_back_oldest_first() {
        let scratch = Scratch::new();
        let store = Store::open(scratch.path().to_owned()).unwrap();
        let (old, new) = (Aid::new(1, [9; 10]), Aid::new(2, [0; 10]));
        for aid in [new, old] {
            store.save(&Saved::new("b", info(aid))).unwrap();
        }
        let (all, bad) = store.load().unwrap();
        assert_eq!(all.iter().map(|s| s.info.aid).collect::<Vec<_>>(), [old, new]);
        assert!(bad.is_empty());
        store.remove(old).unwrap();
        store.remove(old).unwrap();
        assert_eq!(store.load().unwrap().0.len(), 1);
    }

    #[test]
    fn a_damaged_record_is_named_and_hides_no_other() {
        let scratch = Scratch::new();
        let store = Store::open(scratch.path().to_owned()).unwrap();
        let (good, cut, swapped) = (Aid::new(1, [1; 10]), Aid::new(2, [2; 10]), Aid::new(3, [3; 10]));
        store.save(&Saved::new("b", info(good))).unwrap();
        fs::write(store.record(cut), b"{\"version\":1").unwrap();
        fs::copy(store.record(good), store.record(swapped)).unwrap();
        let (all, bad) = store.load().unwrap();
        assert_eq!(all.len(), 1);
        let mut named: Vec<Aid> = bad.iter().map(|row| row.0).collect();
        named.sort();
        assert_eq!(named, [cut, swapped]);
    }

    #[test]
    fn spawns_are_counted_over_restarts_and_forgotten_when_the_manifest_expires() {
        let scratch = Scratch::new();
        let (one, other) = (Sha256([1; 32]), Sha256([2; 32]));
        let open = || Store::open(scratch.path().to_owned()).unwrap();
        assert!(open().count(one, 2, 100, 1).is_ok());
        assert!(open().count(one, 2, 100, 2).is_ok());
        assert!(matches!(open().count(one, 2, 100, 3), Err(StoreError::Used { max: 2, .. })));
        assert!(open().count(other, 1, 100, 3).is_ok());
        assert!(open().count(other, 1, 300, 100).is_ok(), "the first use expired at 100");
    }

    #[test]
    fn more_manifests_than_can_be_read_back_are_not_counted() {
        let scratch = Scratch::new();
        let digest = |n: u64| {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&n.to_le_bytes());
            Sha256(bytes)
        };
        let row = Spawns { count: 1, until_ms: 100 };
        let one = serde_json::to_vec(&BTreeMap::from([(digest(0), &row)])).unwrap().len() as u64 - 1;
        let rows: BTreeMap<Sha256, &Spawns> =
            (0..(RECORD_MAX - 2) / one).map(|n| (digest(n), &row)).collect();
        fs::write(scratch.path().join(SPAWNS), serde_json::to_vec(&rows).unwrap()).unwrap();
        let store = Store::open(scratch.path().to_owned()).unwrap();
        assert!(matches!(store.count(digest(u64::MAX), 1, 100, 1), Err(StoreError::Full(_))));
        assert!(Store::open(scratch.path().to_owned()).is_ok(), "what was counted can still be read");
        assert!(store.count(digest(u64::MAX), 1, 200, 100).is_ok(), "the others expired at 100");
    }

    #[test]
    fn a_damaged_count_of_spawns_is_not_zero() {
        let scratch = Scratch::new();
        fs::write(scratch.path().join(SPAWNS), b"{").unwrap();
        assert!(matches!(Store::open(scratch.path().to_owned()), Err(StoreError::Damaged { .. })));
    }
}
