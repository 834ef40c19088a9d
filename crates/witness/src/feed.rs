//! Brings the ledger's checkpoints to its witnesses and their cosignatures back.
//!
//! One task a witness, so that a slow one holds up nobody. The feeder trusts neither side: the checkpoint has to be
//! signed by the log's key, the cosignature has to verify with the witness's, and only then does the ledger get it,
//! which checks it again.

use crate::address::{Url, UrlError};
use crate::client::{ClientError, Connection};
use crate::{Level, Say};
use octant_api::ledger::{CheckpointRequest, ConsistencyRequest, CosignRequest, Witnessed};
use octant_ids::Sha256;
use octant_sys::{clock, entropy};
use octant_tlog::checkpoint::{CheckpointError, Signed};
use octant_tlog::note::{Algorithm, KeyError, Signature, Verifier};
use octant_tlog::witness::{Request, conflict_size};
use octant_wire::{Client, Shutdown, WireError};
use std::fmt;
use std::mem::{Discriminant, discriminant};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinSet;

/// How often one checkpoint is offered with another old size, and how often a newer checkpoint is fetched in its
/// place: other feeders can bring the witness ahead in between, but not without end.
const TRIES: usize = 4;
/// The longest pause after failures.
const PAUSE_MAX: Duration = Duration::from_secs(300);
/// How often an alarm is said again while it lasts.
const ALARM_AGAIN_NS: u64 = 3600 * 1_000_000_000;
/// The most characters of a witness's own words that are shown.
const WORDS_MAX: usize = 200;

/// How often a checkpoint as large as what the witness has cosigned is looked for before that is a rollback: after a
/// loss of power the ledger signs what it has anew, and until then shows a checkpoint from before.
const BEHIND_TRIES: usize = 6;
/// The pause between two of these: all of them take 3 s, three times what the ledger needs.
const BEHIND_PAUSE: Duration = Duration::from_millis(if cfg!(test) { 5 } else { 500 });
/// What an answer without evidence asks for: a witness can be wrong, or lie.
const ASK: &str =
    "What proves it is the checkpoint that the witness keeps, which this log's key has signed: ask for it";

/// A witness: its key and where it is. As text `VKEY=URL`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The key with which its cosignatures verify.
    pub key: Verifier,
    /// Where it is reached.
    pub url: Url,
}

/// The text names no witness.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Not of the form.
    #[error(
        "{0:?} is not VKEY=URL: a witness's verifier key, an equals sign, and http://ADDRESS:PORT or unix:PATH"
    )]
    Form(String),
    /// The part before the equals sign is no key.
    #[error("before the equals sign stands no verifier key: {0}")]
    Key(KeyError),
    /// The key is not a witness's, or of an algorithm that is not spoken here.
    #[error("{name} is a key of {algorithm}, not of a witness; `octant ledger witness-key new` makes one")]
    Algorithm {
        /// The key's name.
        name: String,
        /// What it is for.
        algorithm: Algorithm,
    },
    /// The part after the equals sign is no address.
    #[error(transparent)]
    Url(#[from] UrlError),
}

impl Target {
    /// The key and the URL of `KEY=URL`, neither of them read.
    ///
    /// # Errors
    /// [`TargetError::Form`].
    pub fn split(text: &str) -> Result<(&str, &str), TargetError> {
        // A key in base 64 can end with equals signs of its own, so the URL's beginning is what is looked for.
        let at = ["=http:", "=https:", "=unix:"].iter().filter_map(|scheme| text.find(scheme)).min();
        let parts = at.map(|at| (&text[..at], &text[at + 1..]));
        parts.ok_or_else(|| TargetError::Form(text.to_owned()))
    }

    /// The witness with this key at this URL.
    ///
    /// # Errors
    /// [`TargetError::Algorithm`] or [`TargetError::Url`].
    pub fn new(key: Verifier, url: &str) -> Result<Self, TargetError> {
        if key.algorithm() != Algorithm::CosignatureV1 {
            let (name, algorithm) = (key.name().to_owned(), key.algorithm());
            return Err(TargetError::Algorithm { name, algorithm });
        }
        Ok(Self { key, url: url.parse()? })
    }
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        let (key, url) = Self::split(text)?;
        Self::new(key.parse().map_err(TargetError::Key)?, url)
    }
}

/// What is brought where.
#[derive(Clone)]
pub struct Plan {
    /// The ledger's socket.
    pub ledger: PathBuf,
    /// The witnesses.
    pub targets: Vec<Target>,
    /// How long to wait after a cosignature before the next checkpoint is looked for.
    pub every: Duration,
    /// How long a witness may take to answer.
    pub patience: Duration,
    /// Takes the lines of the log.
    pub say: Say,
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plan")
            .field("ledger", &self.ledger)
            .field("targets", &self.targets)
            .finish_non_exhaustive()
    }
}

/// How it stands with all witnesses together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overview {
    /// How many witnesses there are.
    pub witnesses: usize,
    /// How many have cosigned the checkpoint that was last brought to them.
    pub cosigning: usize,
    /// The first witness's alarm, if there is one: the log is not what it was.
    pub alarm: Option<String>,
}

/// A checkpoint that a witness has cosigned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cosigned {
    /// How many entries it covers.
    pub size: u64,
    /// When the witness says it did, in seconds since 1970.
    pub time: u64,
    /// How many witnesses have cosigned it by then, as the ledger counts.
    pub witnessed: Witnessed,
}

/// Why a checkpoint has not been cosigned.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// The ledger gave no checkpoint or no proof, or did not take the cosignature.
    #[error("the ledger: {0}")]
    Ledger(#[from] WireError),
    /// What the ledger gave is not signed by the key that it names.
    #[error("the ledger's checkpoint does not verify: {0}; `octant ledger verify` looks at all of it")]
    Checkpoint(String),
    /// The witness gave no answer.
    #[error(transparent)]
    Witness(#[from] ClientError),
    /// The witness said no.
    #[error("the witness refuses with {status}: {words:?}{}", refused(*status))]
    Refused {
        /// The HTTP status.
        status: u16,
        /// Its words.
        words: String,
    },
    /// The witness says what cannot be.
    #[error("the witness does not answer as C2SP tlog-witness says: {0}")]
    Odd(String),
    /// The witness's answer is not its cosignature on this checkpoint.
    #[error(
        "the witness's answer is no cosignature of it on this checkpoint: {0}; compare its key with the one it prints"
    )]
    Cosignature(CheckpointError),
    /// The checkpoint was overtaken again and again.
    #[error("the checkpoint was overtaken {TRIES} times while it was brought to the witness")]
    Overtaken,
    /// The witness says that it holds another tree of the same size.
    #[error(
        "FORK: the witness says that it has cosigned another tree of {size} entries under this log's key. If that is true, \
         the ledger was rewritten or somebody else signs with its key. {ASK}"
    )]
    Fork {
        /// The size of both trees.
        size: u64,
    },
    /// The witness says that it has cosigned more entries than the ledger has.
    #[error(
        "ROLLBACK: the witness says that it has cosigned {theirs} entries, and the ledger's newest checkpoint covers \
         {ours}. If that is true, entries were taken away or an old copy was restored. {ASK}"
    )]
    Rollback {
        /// What the witness says that it has cosigned.
        theirs: u64,
        /// What the ledger has.
        ours: u64,
    },
    /// The witness says that the ledger does not continue what it cosigned.
    #[error(
        "FORK: the witness says that this ledger's tree of {to} entries does not continue the tree of {from} that it has \
         cosigned, with the words {words:?}. If that is true, the ledger was rewritten or somebody else signs with its \
         key. {ASK}"
    )]
    NotContinued {
        /// What the witness says that it has cosigned.
        from: u64,
        /// What the ledger has.
        to: u64,
        /// The witness's words.
        words: String,
    },
}

fn refused(status: u16) -> &'static str {
    match status {
        403 => "; it has another key for this log than the ledger signs with",
        404 => "; it has to be given this log's verifier key, which `octant ledger checkpoint --key` prints",
        _ => "",
    }
}

impl Trouble {
    /// Whether somebody says that the log is not what it was.
    #[must_use]
    pub fn is_alarm(&self) -> bool {
        matches!(self, Self::Fork { .. } | Self::Rollback { .. } | Self::NotContinued { .. })
    }

    /// What has to differ for it to be another trouble than before: sizes do not.
    fn kind(&self) -> (Discriminant<Self>, u16) {
        let status = if let Self::Refused { status, .. } = self { *status } else { 0 };
        (discriminant(self), status)
    }
}

/// What a witness answered to a checkpoint.
enum Offered {
    /// Its cosignature lines, and the time in them.
    Cosigned(String, u64),
    /// It has cosigned a larger tree already.
    Ahead(u64),
}

/// Brings checkpoints to witnesses.
pub struct Feeder {
    plan: Plan,
    ledger: Client,
    /// Whether the ledger has answered yet.
    answered: AtomicBool,
    /// Of each target: whether it cosigns, and its alarm.
    standings: Mutex<Vec<(bool, Option<String>)>>,
    tell: Box<dyn Fn(&Overview) + Send + Sync>,
}

impl fmt::Debug for Feeder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feeder").field("plan", &self.plan).finish_non_exhaustive()
    }
}

impl Feeder {
    /// A feeder; `tell` is called when the ledger has answered for the first time, and on every change after that.
    #[must_use]
    pub fn new(plan: Plan, tell: impl Fn(&Overview) + Send + Sync + 'static) -> Arc<Self> {
        let ledger = Client::new(plan.ledger.clone());
        let standings = Mutex::new(vec![(false, None); plan.targets.len()]);
        Arc::new(Self { plan, ledger, answered: AtomicBool::new(false), standings, tell: Box::new(tell) })
    }

    /// Tells how it stands, after `change` if that changes anything.
    fn tell(&self, change: impl FnOnce(&mut Vec<(bool, Option<String>)>) -> bool) {
        // Nothing panics while it holds the lock. It is held while telling, so that what is told last is true.
        let mut standings = self.standings.lock().unwrap_or_else(PoisonError::into_inner);
        if change(&mut standings) {
            (self.tell)(&Overview {
                witnesses: standings.len(),
                cosigning: standings.iter().filter(|(cosigns, _)| *cosigns).count(),
                alarm: standings.iter().find_map(|(_, alarm)| alarm.clone()),
            });
        }
    }

    /// Brings the newest checkpoint to every witness once; what became of it, in the order of the plan's targets.
    pub async fn once(self: &Arc<Self>) -> Vec<Result<Cosigned, Trouble>> {
        let tasks: Vec<_> = (0..self.plan.targets.len())
            .map(|index| {
                let feeder = Arc::clone(self);
                tokio::spawn(async move { feeder.bring(&feeder.plan.targets[index], &mut 0).await })
            })
            .collect();
        let mut results = Vec::new();
        for task in tasks {
            results.push(task.await.unwrap_or_else(|error| Err(Trouble::Odd(error.to_string()))));
        }
        results
    }

    /// Goes on until `stop`.
    pub async fn run(self: Arc<Self>, stop: Shutdown) {
        let mut tasks = JoinSet::new();
        for index in 0..self.plan.targets.len() {
            let (feeder, stop) = (Arc::clone(&self), stop.clone());
            tasks.spawn(async move {
                tokio::select! {
                    () = feeder.feed(index) => {}
                    () = stop.requested() => {}
                }
            });
        }
        while tasks.join_next().await.is_some() {}
    }

    /// Feeds one witness, for ever.
    async fn feed(&self, index: usize) {
        let target = &self.plan.targets[index];
        let (mut old, mut failures) = (0, 0_u32);
        let mut standing = Standing::default();
        loop {
            let result = self.bring(target, &mut old).await;
            failures = if result.is_ok() { 0 } else { failures.saturating_add(1) };
            if let Some((level, line)) = standing.change(target, &result, clock::monotonic_ns()) {
                (self.plan.say)(level, &line);
            }
            let alarm = result.as_ref().err().filter(|trouble| trouble.is_alarm());
            let now = (result.is_ok(), alarm.map(|trouble| format!("{}: {trouble}", target.key.name())));
            self.tell(|standings| std::mem::replace(&mut standings[index], now.clone()) != now);
            tokio::time::sleep(pause(self.plan.every, failures)).await;
        }
    }

    /// Brings the newest checkpoint to a witness and its cosignature back. `old` is the size that the witness is
    /// believed to have cosigned last.
    async fn bring(&self, target: &Target, old: &mut u64) -> Result<Cosigned, Trouble> {
        let mut ahead = 0;
        let mut refused: Option<(u64, WireError)> = None;
        for _ in 0..TRIES {
            let (signed, witnessed) = self.newest(ahead).await?;
            let size = signed.checkpoint.size;
            if let Ok(time) = signed.cosigned_by(&target.key) {
                *old = size;
                return Ok(Cosigned { size, time, witnessed });
            }
            if size < ahead {
                return Err(Trouble::Rollback { theirs: ahead, ours: size });
            }
            // The ledger takes cosignatures on its newest checkpoint. When that is still the same, it has another reason.
            if let Some((at, error)) = refused.take()
                && at == size
            {
                return Err(error.into());
            }
            match self.offer(target, &signed, old).await? {
                Offered::Ahead(theirs) => ahead = theirs,
                Offered::Cosigned(cosignatures, time) => {
                    *old = size;
                    match self.ledger.call(&CosignRequest { size, cosignatures }).await {
                        Ok(witnessed) => return Ok(Cosigned { size, time, witnessed }),
                        Err(error) => refused = Some((size, error)),
                    }
                }
            }
        }
        Err(refused.map_or(Trouble::Overtaken, |(_, error)| error.into()))
    }

    /// The ledger's newest checkpoint, and who has cosigned it. One that covers fewer than `least` entries is given only
    /// when no larger one comes for a while.
    async fn newest(&self, least: u64) -> Result<(Signed, Witnessed), Trouble> {
        let mut tries = 0;
        loop {
            let info = self.ledger.call(&CheckpointRequest {}).await?;
            if !self.answered.swap(true, Ordering::Relaxed) {
                self.tell(|_| true);
            }
            let signed = verified(&info.checkpoint, &info.key)?;
            if signed.checkpoint.size >= least || tries == BEHIND_TRIES {
                return Ok((signed, info.witnessed));
            }
            tries += 1;
            tokio::time::sleep(BEHIND_PAUSE).await;
        }
    }

    /// Offers one checkpoint to a witness, first from the size it is believed to have, then from the one it says.
    async fn offer(&self, target: &Target, signed: &Signed, old: &mut u64) -> Result<Offered, Trouble> {
        let size = signed.checkpoint.size;
        let checkpoint = signed.to_text();
        let mut witness = Connection::open(&target.url, self.plan.patience).await?;
        if *old > size {
            *old = 0;
        }
        for _ in 0..TRIES {
            let proof = self.proof(*old, size).await?;
            let request = Request { old: *old, proof, checkpoint: &checkpoint };
            let answer = witness.add_checkpoint(request.to_text()).await?;
            let words = || words(&answer.body);
            match answer.status {
                200 => {
                    let (lines, time) = cosignature(signed, &target.key, &answer.body)?;
                    return Ok(Offered::Cosigned(lines, time));
                }
                409 => match conflict_size(&answer.body) {
                    // It was offered the very size that it has, so the conflict is in the root.
                    Some(theirs) if theirs == *old && theirs == size => return Err(Trouble::Fork { size }),
                    Some(theirs) if theirs > size => return Ok(Offered::Ahead(theirs)),
                    Some(theirs) if theirs != *old => *old = theirs,
                    Some(theirs) => {
                        let why =
                            format!("it was given the old size {theirs} and answers that it has {theirs}");
                        return Err(Trouble::Odd(why));
                    }
                    None => return Err(Trouble::Odd(format!("409 without a size: {:?}", words()))),
                },
                422 if *old > 0 => {
                    return Err(Trouble::NotContinued { from: *old, to: size, words: words() });
                }
                status => return Err(Trouble::Refused { status, words: words() }),
            }
        }
        Err(Trouble::Overtaken)
    }

    async fn proof(&self, old: u64, new: u64) -> Result<Vec<Sha256>, Trouble> {
        if old == 0 || old == new {
            return Ok(Vec::new());
        }
        Ok(self.ledger.call(&ConsistencyRequest { old, new }).await?.proof)
    }
}

fn verified(checkpoint: &str, key: &str) -> Result<Signed, Trouble> {
    let key: Verifier = key.parse().map_err(|error: KeyError| Trouble::Checkpoint(error.to_string()))?;
    Signed::open(checkpoint, &key).map_err(|error| Trouble::Checkpoint(error.to_string()))
}

/// The witness's own lines of an answer, when they verify; and the time in them.
fn cosignature(signed: &Signed, witness: &Verifier, answer: &[u8]) -> Result<(String, u64), Trouble> {
    let lines = std::str::from_utf8(answer)
        .map_err(|_| Trouble::Odd("an answer that is not text".to_owned()))
        .and_then(|text| {
            Signature::parse_lines(text).map_err(|error| Trouble::Cosignature(CheckpointError::Note(error)))
        })?;
    let mut only = signed.clone();
    only.note.signatures = lines.into_iter().filter(|line| witness.made(line)).collect();
    let time = only.cosigned_by(witness).map_err(Trouble::Cosignature)?;
    // One right line is enough; the ledger need not be given others under the same name.
    let right =
        only.note.signatures.iter().find(|line| witness.verify(&only.note.text, line) == Ok(Some(time)));
    Ok((right.map(|line| format!("{line}\n")).unwrap_or_default(), time))
}

/// What a witness says, fit to be shown.
fn words(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).take(WORDS_MAX).collect()
}

/// How long to wait: after failures twice as long each time, and up to half of that less, so that feeders that failed
/// together do not come back together.
fn pause(every: Duration, failures: u32) -> Duration {
    if failures == 0 {
        return every;
    }
    let longest = every.saturating_mul(1 << failures.min(16)).min(PAUSE_MAX.max(every));
    let mut random = [0; 4];
    // Without randomness the pause is only more regular.
    let _ = entropy::fill_unseeded(&mut random);
    let part = f64::from(u32::from_ne_bytes(random)) / f64::from(u32::MAX);
    longest.mul_f64(1.0 - part / 2.0)
}

/// How it stood with a witness when it was last said.
#[derive(Debug, Default)]
struct Standing {
    said: Option<Option<(Discriminant<Trouble>, u16)>>,
    at_ns: u64,
}

impl Standing {
    /// The line to say, when something has changed or an alarm has lasted for long.
    fn change(
        &mut self,
        target: &Target,
        result: &Result<Cosigned, Trouble>,
        now_ns: u64,
    ) -> Option<(Level, String)> {
        let now = result.as_ref().err().map(Trouble::kind);
        let alarm = result.as_ref().is_err_and(Trouble::is_alarm);
        let again = alarm && now_ns.saturating_sub(self.at_ns) >= ALARM_AGAIN_NS;
        if self.said == Some(now) && !again {
            return None;
        }
        (self.said, self.at_ns) = (Some(now), now_ns);
        let name = target.key.name();
        Some(match result {
            Ok(Cosigned { size, .. }) => (Level::Info, format!("{name}: cosigns, up to {size} entries")),
            Err(trouble) if alarm => (Level::Error, format!("{name}: {trouble}")),
            Err(trouble) => (Level::Warning, format!("{name}: {trouble}; trying again")),
        })
    }
}
