//! The vault while its process lives: sealed or not, and one change after the other.

use crate::audit::{Audit, Intent, LEDGER_WITHIN, Recorded, done, subject};
use crate::bytes::Memory;
use crate::format::Header;
use crate::gathered::Gathered;
use crate::machine::Facts;
use crate::raw::Raw;
use crate::refusal::Refusal;
use crate::state::{Now, Op, State};
use crate::store::{self, Place, Store, StoreError};
use crate::values::{Picked, open_value};
use octant_api::error::{ApiError, Code};
use octant_api::vault as api;
use octant_crypto::memory::Key;
use octant_crypto::sign::SigningKey;
use octant_ids::{Aid, Principal};
use octant_sys::clock;
use octant_tpm::{Device, Tpm};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Poll;
use std::time::Duration;

/// How often a value is opened anew that was rotated before the ledger had the intent.
const ROTATED_MEANWHILE: usize = 3;
/// How many agents that ended last are remembered.
const ENDED: usize = 4096;
/// How many changes that took something away wait for the file.
const PENDING: usize = 8192;
/// How many ended leases one call clears away.
const EXPIRE_AT_ONCE: usize = 64;

/// What holds for as long as the process lives.
#[derive(Debug)]
pub(crate) struct Site {
    /// The boot's id.
    pub(crate) boot: String,
    /// The static key file.
    pub(crate) key_file: PathBuf,
    /// Approvals of PCR values by a release key.
    pub(crate) approvals: PathBuf,
    /// The release key that new TPM slots are bound to, when there is one.
    pub(crate) release_key: PathBuf,
    /// What PID 1 says about the hardware, and the TPM's own word.
    pub(crate) facts: Facts,
}

/// The vault.
#[derive(Debug)]
pub(crate) struct Vault {
    pub(crate) site: Site,
    pub(crate) audit: Audit,
    pub(crate) memory: Memory,
    pub(crate) tpm: Arc<Mutex<Option<Tpm<Device>>>>,
    pub(crate) place: Arc<Place>,
    phase: Mutex<Phase>,
    /// Told when it was sealed, unsealed, made or replaced.
    pub(crate) turned: tokio::sync::Notify,
    /// How often somebody has sealed it: what was about to open it then does not.
    sealings: AtomicU64,
    /// One change at a time: what was decided holds until it is done.
    writing: Arc<tokio::sync::Mutex<()>>,
    pub(crate) gathered: Mutex<Gathered>,
    /// The agents that ended last.
    ended: Mutex<VecDeque<Aid>>,
    /// What was taken away and does not stand in the file yet. It holds for whatever is opened meanwhile.
    pending: Mutex<Vec<Op>>,
}

/// Whether secrets can be used.
#[derive(Debug)]
pub(crate) enum Phase {
    /// There is no file.
    Absent {
        /// Why none was made.
        why: String,
    },
    /// The data key is not in memory.
    Sealed {
        /// What anybody can read of the file.
        header: Box<Header>,
        /// The vault's epoch, as far as is known without the data key.
        epoch: u64,
        /// Why, for an operator: it can name hardware.
        why: String,
    },
    /// It is.
    Open(Arc<Open>),
    /// The file cannot be relied on.
    Damaged {
        /// What is wrong.
        why: String,
    },
}

/// Everything that there is while the vault is unsealed.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) key: Key,
    pub(crate) machine: SigningKey,
    pub(crate) vault: [u8; 16],
    /// The slot that opened it.
    pub(crate) slot: u32,
    pub(crate) state: Mutex<State>,
    /// Locked while the disk is waited for: by nothing that must answer at once, which asks `face`.
    pub(crate) store: Mutex<Store>,
    /// The header and the epoch.
    face: Mutex<(Header, u64)>,
    /// What an operator should look at.
    pub(crate) warnings: Mutex<Vec<String>>,
    pub(crate) certificate: Mutex<Option<api::Attestation>>,
}

impl Open {
    /// An open vault.
    pub(crate) fn new(
        (key, machine): (Key, SigningKey),
        slot: u32,
        state: State,
        store: Store,
        warnings: Vec<String>,
    ) -> Self {
        Self {
            key,
            machine,
            vault: store.header.vault.0,
            slot,
            state: Mutex::new(state),
            face: Mutex::new((store.header.clone(), store.epoch)),
            store: Mutex::new(store),
            warnings: Mutex::new(warnings),
            certificate: Mutex::default(),
        }
    }

    /// The header, without waiting for the disk.
    pub(crate) fn header(&self) -> Header {
        locked(&self.face).0.clone()
    }

    /// The epoch, without waiting for the disk.
    pub(crate) fn epoch(&self) -> u64 {
        locked(&self.face).1
    }

    /// Shows what the store has come to.
    pub(crate) fn show(&self, store: &Store) {
        *locked(&self.face) = (store.header.clone(), store.epoch);
    }
}

/// Takes a lock. Nothing here panics while it holds one, so what it guards is whole.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The time.
pub(crate) fn now() -> Now {
    Now { wall_ms: clock::wall_ms(), boot_ns: clock::boottime_ns() }
}

/// What a handler is about to do, for messages and the record.
#[derive(Debug, Clone)]
pub(crate) struct Action {
    /// In words, for errors.
    pub(crate) what: &'static str,
    /// With what: a secret's name, a slot.
    pub(crate) place: String,
    /// For the record.
    pub(crate) payload: Value,
    /// The agent that it is about.
    pub(crate) agent: Option<Aid>,
}

impl Action {
    /// An action of somebody with something.
    pub(crate) fn new(what: &'static str, verb: &str, by: &Principal, place: impl ToString) -> Self {
        let place = place.to_string();
        let payload = json!({ "do": format!("vault {verb}"), "by": by.to_string(), "with": place });
        Self { what, place, payload, agent: None }
    }

    /// With more in its record.
    #[must_use]
    pub(crate) fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.payload[key] = value.into();
        self
    }

    /// About an agent.
    #[must_use]
    pub(crate) fn about(mut self, agent: Option<Aid>) -> Self {
        self.agent = agent;
        self
    }

    pub(crate) fn refused(&self, refusal: &Refusal) -> ApiError {
        refusal.answer(self.what, &self.place)
    }

    pub(crate) fn failed(&self, error: &StoreError) -> ApiError {
        let full = matches!(error, StoreError::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull);
        let (code, next) = match error {
            StoreError::Format { .. } => (Code::Damaged, "see `octant vault doctor`"),
            StoreError::Full(_) => (Code::Full, "remove secrets, or versions of them, that are not needed"),
            _ if full => (Code::Full, "make room on the state directory's file system"),
            _ => (Code::Failed, "see `octant vault doctor`"),
        };
        ApiError::new(code, self.what, &self.place, error, next)
    }
}

/// What was made of a secret for an intent that may not be on record yet.
struct Prepared<T>(T);

impl<T> Prepared<T> {
    /// Gives it out, for an intent that is on record.
    fn give(self, _: &Recorded) -> T {
        self.0
    }
}

/// Changes with the sealed values beside them, and what the caller gets.
pub(crate) type Changes<T> = (Vec<(Op, Vec<u8>)>, T);

impl Vault {
    pub(crate) fn new(
        site: Site,
        audit: Audit,
        memory: Memory,
        tpm: Option<Tpm<Device>>,
        place: Place,
        phase: Phase,
    ) -> Self {
        Self {
            site,
            audit,
            memory,
            tpm: Arc::new(Mutex::new(tpm)),
            place: Arc::new(place),
            phase: Mutex::new(phase),
            turned: tokio::sync::Notify::new(),
            sealings: AtomicU64::new(0),
            writing: Arc::default(),
            gathered: Mutex::default(),
            ended: Mutex::default(),
            pending: Mutex::default(),
        }
    }

    /// Remembers that an agent has ended: a lease that was under way then is taken back, and those in a file that is
    /// sealed now are gone when it is opened.
    pub(crate) fn note_end(&self, agent: Aid) {
        let mut ended = locked(&self.ended);
        if !ended.contains(&agent) {
            if ended.len() == ENDED {
                ended.pop_front();
            }
            ended.push_back(agent);
        }
        drop(ended);
        if !self.is_open() {
            self.keep_pending(&[Op::Retire { holder: Principal::Agent(agent) }]);
        }
    }

    /// Keeps what was taken away until it stands in the file. Beyond the bound the oldest goes: it held until now, and a
    /// holder that has ended presents nothing any more.
    fn keep_pending(&self, ops: &[Op]) {
        let mut pending = locked(&self.pending);
        // Told again, it is the same.
        let ops: Vec<&Op> = ops.iter().filter(|op| !pending.contains(op)).collect();
        let excess = (pending.len() + ops.len()).saturating_sub(PENDING).min(pending.len());
        if excess > 0 {
            tracing::error!(
                "{excess} changes that took something away are not in the file and are forgotten"
            );
            pending.drain(..excess);
        }
        pending.extend(ops.into_iter().cloned());
    }

    /// Whether an agent has ended, as far as is remembered.
    pub(crate) fn has_ended(&self, agent: Aid) -> bool {
        locked(&self.ended).contains(&agent)
    }

    pub(crate) fn phase(&self) -> MutexGuard<'_, Phase> {
        locked(&self.phase)
    }

    /// What is there while it is unsealed.
    ///
    /// # Errors
    /// Sealed, absent or damaged: denied, with the reason.
    pub(crate) fn open(&self, what: &'static str, place: &str) -> Result<Arc<Open>, ApiError> {
        let unavailable = |code, state: &str, why: &str, next| {
            Err(ApiError::new(code, what, place, format!("the vault is {state}: {why}"), next))
        };
        match &*self.phase() {
            Phase::Open(open) => Ok(Arc::clone(open)),
            // What it waits for and no more: the whole reason can name hardware, and agents ask too.
            Phase::Sealed { header, .. } => {
                let slots: Vec<api::SlotInfo> = header.slots.iter().map(crate::slots::Slot::info).collect();
                let why = format!("it waits for {}", crate::look::waits_for(&slots, 0));
                unavailable(Code::Unavailable, "sealed", &why, "unseal it with `octant vault unseal`")
            }
            Phase::Absent { why } => {
                unavailable(Code::Unavailable, "not there", why, "make one with `octant vault init`")
            }
            Phase::Damaged { why } => {
                let next = "put a backup in its place with `octant vault restore`";
                unavailable(Code::Damaged, "damaged", why, next)
            }
        }
    }

    /// How often it has been sealed, to be asked before something that ends in [`Vault::become_open`].
    pub(crate) fn sealings(&self) -> u64 {
        self.sealings.load(Ordering::SeqCst)
    }

    /// Opens, unless somebody has sealed the vault meanwhile: then that is what holds.
    pub(crate) fn become_open(&self, open: &Arc<Open>, since: u64) -> bool {
        let mut phase = self.phase();
        self.turned.notify_one();
        if self.sealings() == since {
            // Under the phase's lock: what is taken away from here on finds this one.
            let mut state = locked(&open.state);
            for op in locked(&self.pending).iter() {
                // Taking away fits whatever is there.
                let _fits = state.apply(op.clone(), &[]);
            }
            drop(state);
            *phase = Phase::Open(Arc::clone(open));
            return true;
        }
        let why = "it was sealed while it was being opened".to_owned();
        *phase = Phase::Sealed { header: Box::new(open.header()), epoch: open.epoch(), why };
        false
    }

    /// Takes the right to change the vault, within the time that a blocked ledger is given.
    pub(crate) async fn alone(&self, action: &Action) -> Result<tokio::sync::OwnedMutexGuard<()>, ApiError> {
        within(action, async { Ok(Arc::clone(&self.writing).lock_owned().await) }).await
    }

    /// Changes the vault: decides, puts the intent on record, makes the change durable, and lets it hold.
    ///
    /// It goes on when its caller goes away: a change is never left half made.
    pub(crate) async fn change<T: Send + 'static>(
        self: &Arc<Self>,
        action: Action,
        decide: impl FnOnce(&Open, &State, Now) -> Result<Changes<T>, ApiError> + Send + 'static,
    ) -> Result<(T, u64), ApiError> {
        let vault = Arc::clone(self);
        task(&action.clone(), async move {
            // Its turn and its record together have as long as a blocked ledger is given.
            let (_alone, open, changes, answer, recorded) = within(&action, async {
                let alone = Arc::clone(&vault.writing).lock_owned().await;
                let open = vault.open(action.what, &action.place)?;
                let (changes, answer) = decide(&open, &locked(&open.state), now())?;
                let recorded = vault.intend(&open, &action).await?;
                Ok((alone, open, changes, answer, recorded))
            })
            .await?;
            let (seq, epoch) = (recorded.seq(), open.epoch() + 1);
            let committed = vault.commit(&action, open, changes, seq).await?;
            vault.audit.outcome(recorded, &done(&committed.as_ref().map(drop), Some(epoch)));
            committed.map(|epoch| (answer, epoch)).map_err(|error| action.failed(&error))
        })
        .await
    }

    /// Makes changes durable, and with them what was taken away before and does not stand in the file yet.
    pub(crate) async fn commit(
        &self,
        action: &Action,
        open: Arc<Open>,
        changes: Vec<(Op, Vec<u8>)>,
        ledger: u64,
    ) -> Result<Result<u64, StoreError>, ApiError> {
        let pending = std::mem::take(&mut *locked(&self.pending));
        let before = pending.iter().map(|op| (op.clone(), Vec::new()));
        let changes: Vec<(Op, Vec<u8>)> = before.chain(changes).collect();
        let committed = blocking(action, move || commit(&open, changes, ledger)).await;
        if !matches!(committed, Ok(Ok(_))) {
            let mut later = locked(&self.pending);
            later.splice(0..0, pending);
        }
        committed
    }

    /// Makes a change that takes authority away: it holds at once, also for what is opened later, is on record at once,
    /// and stands in the file as soon as it is its turn. The answer says whether it does.
    pub(crate) async fn take_away<T: Send + 'static>(
        self: &Arc<Self>,
        action: Action,
        decide: impl FnOnce(&State, Now) -> (Vec<Op>, T) + Send + 'static,
    ) -> Result<(T, bool), ApiError> {
        let open = self.open(action.what, &action.place)?;
        let (ops, answer) = {
            let mut state = locked(&open.state);
            let (ops, answer) = decide(&state, now());
            for op in &ops {
                // A change that takes something away fits whatever is there.
                let _fits = state.apply(op.clone(), &[]);
            }
            (ops, answer)
        };
        if ops.is_empty() {
            return Ok((answer, true));
        }
        self.keep_pending(&ops);
        // A state that is just being opened was read before this, and has it from what is pending.
        if let Phase::Open(now_open) = &*self.phase() {
            let mut state = locked(&now_open.state);
            ops.into_iter().for_each(|op| drop(state.apply(op, &[])));
        }
        let subject = subject(&open.vault);
        let mut payload = action.payload.clone();
        payload["done"] = true.into();
        self.audit.later(&payload, action.agent, None);
        let vault = Arc::clone(self);
        let writing = tokio::spawn(async move {
            // The file needs no ledger, only its turn.
            let _alone = Arc::clone(&vault.writing).lock_owned().await;
            let Ok(open) = vault.open(action.what, &action.place) else { return false };
            let written = match vault.commit(&action, open, Vec::new(), 0).await {
                Ok(written) => written.map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            };
            match &written {
                Ok(epoch) => payload["epoch"] = (*epoch).into(),
                Err(error) => {
                    payload["done"] = false.into();
                    payload["why"] = error.clone().into();
                    tracing::error!("what was taken away holds, and does not stand in the file yet: {error}");
                }
            }
            payload["do"] = "vault write what was taken away".into();
            vault.audit.later(&payload, action.agent, written.is_ok().then_some(subject));
            written.is_ok()
        });
        let written = tokio::time::timeout(LEDGER_WITHIN, writing).await;
        Ok((answer, matches!(written, Ok(Ok(true)))))
    }

    /// Puts the intent of a change on record.
    pub(crate) async fn intend(&self, open: &Open, action: &Action) -> Result<Recorded, ApiError> {
        let (epoch, vault) = (open.epoch() + 1, open.vault);
        let mut payload = action.payload.clone();
        payload["vault"] = crate::hex::Hex(vault).to_string().into();
        payload["epoch"] = epoch.into();
        self.audit.intent(Intent { payload, agent: action.agent, subject: Some(subject(&vault)) }).await
    }

    /// Opens one value for `with`: decides, puts the intent on record, and gives out what `with` made only when the entry is
    /// there and it still may be.
    pub(crate) async fn use_value<T: Send + 'static>(
        self: &Arc<Self>,
        action: Action,
        decide: impl Fn(&State, Now) -> Result<Picked, Refusal> + Send + Sync + 'static,
        with: impl Fn(&Picked, &[u8]) -> Result<T, ApiError> + Send + Sync + 'static,
    ) -> Result<T, ApiError> {
        let vault = Arc::clone(self);
        task(&action.clone(), async move {
            for _ in 0..ROTATED_MEANWHILE {
                if let Some(given) = vault.use_once(&action, &decide, &with).await? {
                    return Ok(given);
                }
            }
            let why = "it gets other values faster than the ledger takes an entry";
            Err(ApiError::new(Code::Busy, action.what, &action.place, why, "try again"))
        })
        .await
    }

    /// The same with the value that is current now; nothing if another is when the entry is there. What is asked for is made
    /// while the ledger waits for its disk.
    async fn use_once<T>(
        &self,
        action: &Action,
        decide: impl Fn(&State, Now) -> Result<Picked, Refusal>,
        with: impl Fn(&Picked, &[u8]) -> Result<T, ApiError>,
    ) -> Result<Option<T>, ApiError> {
        let open = self.open(action.what, &action.place)?;
        locked(&open.state).expire(now(), EXPIRE_AT_ONCE);
        let decided = decide(&locked(&open.state), now());
        drop(open);
        let picked = decided.map_err(|refusal| self.deny(action, &refusal))?;
        let mut payload = action.payload.clone();
        payload["with"] = picked.name.as_str().into();
        payload["version"] = picked.version.into();
        let mut intent = pin!(self.audit.intent(Intent { payload, agent: action.agent, subject: None }));
        // The first poll sends it.
        let under_way = poll_fn(|context| Poll::Ready(intent.as_mut().poll(context))).await;
        let made = self.prepare(&picked, action, with);
        let recorded = match under_way {
            Poll::Ready(recorded) => recorded?,
            Poll::Pending => intent.await?,
        };
        // It may have been revoked, destroyed, rotated or sealed while the ledger was waited for.
        let used = self.open(action.what, &action.place).and_then(|open| {
            let again = decide(&locked(&open.state), now()).map_err(|refusal| action.refused(&refusal))?;
            if again == picked { Ok(Some(made?.give(&recorded))) } else { Ok(None) }
        });
        let outcome = match &used {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err("it has another value by now".to_owned()),
            Err(error) => Err(error.to_string()),
        };
        self.audit.outcome(recorded, &done(&outcome, None));
        used
    }

    /// Says no, and puts that on record without waiting.
    pub(crate) fn deny(&self, action: &Action, refusal: &Refusal) -> ApiError {
        let mut payload = action.payload.clone();
        payload["denied"] = refusal.to_string().into();
        self.audit.later(&payload, action.agent, None);
        action.refused(refusal)
    }

    /// What `with` makes of a value, which is plain in locked memory only for that time.
    fn prepare<T>(
        &self,
        picked: &Picked,
        action: &Action,
        with: impl FnOnce(&Picked, &[u8]) -> Result<T, ApiError>,
    ) -> Result<Prepared<T>, ApiError> {
        let open = self.open(action.what, &action.place)?;
        let mut value = self.memory.room(picked.bytes())?;
        open_value(&open.key, &open.vault, picked, &mut value).map_err(|error| {
            ApiError::new(Code::Damaged, action.what, &action.place, error, "restore the vault from a backup")
        })?;
        with(picked, &value).map(Prepared)
    }

    /// Wipes every key: nothing that begins from now on finds one.
    pub(crate) fn close(&self, why: &str) -> Option<Weak<Open>> {
        let mut phase = self.phase();
        self.sealings.fetch_add(1, Ordering::SeqCst);
        locked(&self.gathered).clear();
        let Phase::Open(open) = &*phase else { return None };
        let (weak, header, epoch) = (Arc::downgrade(open), Box::new(open.header()), open.epoch());
        *phase = Phase::Sealed { header, epoch, why: why.to_owned() };
        self.turned.notify_one();
        Some(weak)
    }
}

/// Waits until what was under way when the vault was sealed has come to its end, and says whether it has: an answer under
/// way holds the key for at most as long as the ledger may take.
pub(crate) async fn settled(closed: &Weak<Open>) -> bool {
    for _ in 0..300 {
        if closed.strong_count() == 0 {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    false
}

/// Lets something take as long as a blocked ledger is given.
async fn within<T>(action: &Action, work: impl Future<Output = Result<T, ApiError>>) -> Result<T, ApiError> {
    tokio::time::timeout(LEDGER_WITHIN, work).await.unwrap_or_else(|_| {
        let why = format!("the ledger, or another change of the vault, took longer than {LEDGER_WITHIN:?}");
        let next = "see `octant status`, and try again";
        Err(ApiError::new(Code::Busy, action.what, &action.place, why, next))
    })
}

/// Makes changes durable, then lets them hold. Blocks.
pub(crate) fn commit(open: &Open, changes: Vec<(Op, Vec<u8>)>, ledger: u64) -> Result<u64, StoreError> {
    let mut store = locked(&open.store);
    let now = now();
    let seen = {
        let state = locked(&open.state);
        // What takes something away has no intent; then the last one counts.
        let ledger = if ledger > 0 { ledger } else { state.ledger };
        Op::Seen { ledger, wall_ms: state.wall(now), grants: state.next_grant }
    };
    let all = || std::iter::once((&seen, &[][..])).chain(changes.iter().map(|(op, value)| (op, &value[..])));
    let mut frames = store::contents(all().map(|(op, value)| (op.clone(), value)))?;
    if frames.len() == 1 {
        store.append(&open.key, &frames.remove(0))?;
    } else {
        // More than a frame holds has to hold whole or not at all.
        let mut next = locked(&open.state).clone();
        for (op, value) in all() {
            let _fits = next.apply(op.clone(), value);
        }
        let (header, epoch) = (store.header.clone(), store.epoch + 1);
        store.rewrite(header, &open.key, epoch, &store::snapshot(&next, now)?)?;
    }
    let mut state = locked(&open.state);
    // What is destroyed goes from the file as well, and not at some later time.
    let erases = changes.iter().any(|(op, _)| state.erases(op));
    for (op, value) in all() {
        if let Err(misfit) = state.apply(op.clone(), value) {
            tracing::error!("{misfit}");
        }
    }
    if erases || store.is_worn() {
        let (header, epoch) = (store.header.clone(), store.epoch);
        let contents = store::snapshot(&state, now)?;
        // Values are used while it is written.
        drop(state);
        if let Err(error) = store.rewrite(header, &open.key, epoch, &contents) {
            // The change itself is durable; the next one finds out.
            tracing::error!("the vault's file could not be written anew: {error}");
        }
    }
    open.show(&store);
    Ok(store.epoch)
}

/// Runs to its end, whoever waits.
pub(crate) async fn task<T: Send + 'static>(
    action: &Action,
    work: impl Future<Output = Result<T, ApiError>> + Send + 'static,
) -> Result<T, ApiError> {
    let ended = |error| ApiError::new(Code::Internal, action.what, &action.place, error, "see the log");
    tokio::spawn(work).await.map_err(ended)?
}

/// Runs what blocks.
pub(crate) async fn blocking<T: Send + 'static>(
    action: &Action,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ApiError> {
    let ended = |error| ApiError::new(Code::Internal, action.what, &action.place, error, "see the log");
    tokio::task::spawn_blocking(work).await.map_err(ended)
}

/// Reads what anybody can read of the file.
pub(crate) fn first_phase(place: &Place) -> Phase {
    match place.read() {
        Ok(None) => Phase::Absent { why: "none was made yet".to_owned() },
        Ok(Some(Raw { header, .. })) => {
            let (epoch, why) = (header.epoch, "it was not unsealed yet".to_owned());
            Phase::Sealed { header: Box::new(header), epoch, why }
        }
        Err(error) => Phase::Damaged { why: error.to_string() },
    }
}
