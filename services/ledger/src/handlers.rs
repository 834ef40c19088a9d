//! The methods: from a request to the store and back.

use crate::core::{item, matches_query, ticket_for};
use crate::export::Export;
use crate::publish::Published;
use crate::read::{Page, PageLimits, ReadError, locked};
use crate::refusal::Refusal;
use crate::service::Ledger;
use crate::store::Store;
use crate::verify::{OUTSIDE_MAX, outside_path};
use crate::writer::gone;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use octant_api::error::{ApiError, Code};
use octant_api::ledger::{
    AcknowledgeRequest, AppendRequest, Appended, ArchiveRequest, Archived, CheckpointInfo, CheckpointRequest,
    Compared, Consistency, ConsistencyRequest, CosignRequest, Entry, EraseRequest, ExportEnd, ExportLine,
    ExportRequest, Handler, Head, HeadRequest, ImportRequest, Proof, ProveRequest, QUERY_MAX, QueryPage,
    QueryRequest, TailEnd, TailRequest, VerifyReport, VerifyRequest, Witnessed,
};
use octant_ids::Principal;
use octant_sys::{clock, entropy};
use octant_tlog::checkpoint::Signed;
use octant_tlog::merkle;
use octant_tlog::note::Verifier;
use octant_tlog::proof::InclusionProof;
use octant_wire::{Call, Sink};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Answers stay well below the longest line (4 MiB), whatever their entries hold.
const PAGE_BYTES: usize = 1 << 20;
/// How many entries one query looks at before it answers with where to go on: about a second's work.
const LOOKED_AT: u64 = 100_000;
/// How many entries a tail reads at a time.
const TAIL_PAGE: usize = 256;
/// How long a ticket is valid: longer than an actuator is busy with those before it.
const TICKET_NS: u64 = 30_000_000_000;
/// The longest checkpoint that is taken, in bytes.
const CHECKPOINT_MAX: usize = 64 << 10;
/// The most checkpoints that one `verify` compares.
const CHECKPOINTS_MAX: usize = 16;
/// The longest cosignatures that are taken, in bytes.
const COSIGNATURES_MAX: usize = 16 << 10;

fn unreadable(error: &ReadError) -> ApiError {
    match error {
        ReadError::Damaged(damage) => {
            ApiError::new(Code::Damaged, "read the ledger", &damage.segment, error, &damage.next)
        }
        ReadError::Io { path, .. } => ApiError::new(
            Code::Unavailable,
            "read the ledger",
            path.display().to_string(),
            error,
            "look at the disk's state, then `octant ledger verify`",
        ),
    }
}

/// Runs reading work on a thread of its own, since files can block.
async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ReadError> + Send + 'static,
) -> Result<T, ApiError> {
    blocking(move || work().map_err(|error| unreadable(&error))).await
}

pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => {
            Err(ApiError::new(Code::Internal, "read the ledger", "reader", error, "report it as a fault"))
        }
    }
}

/// A text of at most so many bytes.
fn short(what: &'static str, place: &str, text: &str, most: usize) -> Result<(), ApiError> {
    if text.len() <= most {
        return Ok(());
    }
    let why = format!("it has {} bytes, more than {most}", text.len());
    Err(ApiError::new(Code::TooLong, what, place, why, "send what a log or witness gave, unchanged"))
}

fn no_proof(place: impl fmt::Display, why: impl fmt::Display) -> ApiError {
    ApiError::new(
        Code::Damaged,
        "prove from the tree's tiles",
        place.to_string(),
        why.to_string(),
        "see `octant ledger verify`",
    )
}

/// The newest checkpoint, or the answer that there is none yet.
fn latest(published: &Published) -> Result<&Signed, ApiError> {
    published.latest.as_ref().ok_or_else(|| {
        let why = "none has been signed yet, or the log's key is not usable";
        let next = "try again in a second, or see `octant ledger verify`";
        ApiError::new(Code::NotFound, "answer with a checkpoint", "checkpoint", why, next)
    })
}

impl Ledger {
    async fn with_store<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Store) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        self.writer().run(work)?.await.map_err(|_| gone())?
    }

    /// Has the entries that are there covered by a checkpoint now, not within a second.
    async fn cover(&self) -> Result<(), ApiError> {
        let published = self.with_store(|store| Ok(store.publish(true))).await?;
        published.map_err(|why| {
            let next = "see the disk's state, then try again";
            ApiError::new(Code::Unavailable, "sign a checkpoint", "checkpoint", why, next)
        })
    }

    /// One page of what matches, by the index as far as that reaches and from the segments beyond it.
    fn page(&self, request: &QueryRequest, limits: PageLimits) -> Result<Page, ReadError> {
        let reader = self.reader();
        let from = request.from.max(1);
        let found = {
            let guard = locked(&self.following.0);
            let upto = guard.as_ref().and_then(|index| index.upto().ok()).map_or(0, |upto| upto.0);
            let found = guard.as_ref().filter(|_| upto >= from);
            found.and_then(|index| Some((upto, index.find(request, from, limits.entries).ok()?)))
        };
        let Some((upto, found)) = found else {
            return reader.page(from, limits, |entry| matches_query(request, entry));
        };
        let mut page = Page { entries: Vec::new(), next: found.next.unwrap_or(upto + 1) };
        let (mut bytes, one) = (0, PageLimits { entries: 1, bytes: usize::MAX, looked_at: 1 });
        for seq in found.seqs {
            let read = reader.page(seq, one, |entry| entry.seq == seq && matches_query(request, entry))?;
            let Some(entry) = read.entries.into_iter().next() else { continue };
            bytes += entry.payload.text().len();
            if !page.entries.is_empty() && bytes > limits.bytes {
                page.next = seq;
                return Ok(page);
            }
            page.entries.push(entry);
        }
        if found.next.is_none() && page.entries.len() < limits.entries {
            let rest = PageLimits { entries: limits.entries - page.entries.len(), ..limits };
            let more = reader.page(upto + 1, rest, |entry| matches_query(request, entry))?;
            page.entries.extend(more.entries);
            page.next = more.next;
        }
        Ok(page)
    }

    fn prove_one(&self, seq: u64) -> Result<Proof, ApiError> {
        const WHAT: &str = "prove an entry";
        let published = self.reader().publication();
        let newest = latest(&published)?;
        // One that witnesses have cosigned is worth more.
        let signed =
            published.complete.as_ref().filter(|signed| signed.checkpoint.size >= seq).unwrap_or(newest);
        let size = signed.checkpoint.size;
        if seq == 0 || seq > size {
            let why = format!("the newest checkpoint covers entries 1 to {size}");
            let next = "name one of them; a new entry is covered within a second";
            return Err(ApiError::new(Code::NotFound, WHAT, format!("entry {seq}"), why, next));
        }
        let nodes = self.reader().nodes(size);
        let failed = |error: &dyn fmt::Display| no_proof(format!("entry {seq}"), error);
        let hashes = merkle::inclusion(&nodes, seq - 1, size).map_err(|error| failed(&error))?;
        let hash = self.reader().leaf(seq).map_err(|error| failed(&error))?;
        // Tiles are files: what somebody changed in one is not passed on as a proof.
        merkle::verify_inclusion(&hash, seq - 1, size, &hashes, &signed.checkpoint.root)
            .map_err(|error| failed(&error))?;
        let mut entry = None;
        if seq >= self.reader().first() {
            let taken = self.reader().each(seq, seq, |_, bytes| {
                entry = Some(STANDARD.encode(bytes));
                Ok::<(), ReadError>(())
            });
            taken.map_err(|error| unreadable(&error))?;
        }
        let proof = InclusionProof { index: seq - 1, hashes, checkpoint: signed.to_text() };
        Ok(Proof { seq, hash, entry, proof: proof.to_text(), key: published.key })
    }

    fn import_one(&self, text: &str) -> Result<Compared, ApiError> {
        const WHAT: &str = "import a checkpoint";
        let refuse = |code, why: String, next| Err(ApiError::new(code, WHAT, "checkpoint", why, next));
        let published = self.reader().publication();
        let log: Verifier = match published.key.parse() {
            Ok(log) => log,
            Err(error) => {
                return refuse(
                    Code::Unavailable,
                    format!("the log's key: {error}"),
                    "see `octant ledger verify`",
                );
            }
        };
        let signed = match Signed::open(text, &log) {
            Ok(signed) => signed,
            Err(error) => {
                let next = "import a checkpoint that this log has signed with its present key";
                return refuse(Code::InvalidParams, error.to_string(), next);
            }
        };
        let (size, root) = (signed.checkpoint.size, signed.checkpoint.root);
        let tip = self.reader().tip();
        let wrong = if size > tip.seq {
            Some(format!("it covers {size} entries, but the log ends with entry {}", tip.seq))
        } else {
            let own = self.reader().root(size).map_err(|error| no_proof(format!("size {size}"), error))?;
            (own != root).then(|| format!("the first {size} entries have another root"))
        };
        let path = outside_path(self.reader().dir(), &signed);
        let place = path.display().to_string();
        let failed =
            |error| ApiError::new(Code::Unavailable, WHAT, place.clone(), error, "see the disk's state");
        let kept = std::fs::read_dir(self.reader().dir().join("outside")).map_err(failed)?.count();
        if kept >= OUTSIDE_MAX && !path.exists() {
            let next = "remove old ones from `outside` of the ledger's state directory";
            return refuse(Code::Full, format!("{kept} are kept already"), next);
        }
        crate::files::replace(&path, text.as_bytes(), true).map_err(failed)?;
        let cosigned = signed.cosigners(&self.witnesses.keys);
        let cosigned = cosigned.into_iter().map(|key| key.name().to_owned()).collect();
        let from = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Ok(Compared { from, size, root, cosigned, wrong })
    }
}

impl Handler<Call> for Ledger {
    async fn append(&self, request: AppendRequest, call: Call) -> Result<Appended, ApiError> {
        let caller = &call.caller().principal;
        let wanted = ticket_for(caller, &request, &self.issuer)?;
        let salt = || {
            let mut salt = [0; 32];
            entropy::fill_seeded(&mut salt).map(|()| salt)
        };
        let item = item(caller, request, self.reader().tip(), salt)?;
        let answer = self.writer().append(item)?.await;
        let mut appended = answer.map_err(|_| gone())?.map_err(|refusal| refusal.answer())?;
        if let Some((actuator, subject)) = wanted {
            let now_ns = clock::boottime_ns();
            appended.ticket = self.issuer.issue(appended.seq, subject, actuator.as_str(), now_ns, TICKET_NS);
        }
        Ok(appended)
    }

    async fn head(&self, _: HeadRequest, _: Call) -> Result<Head, ApiError> {
        let tip = self.reader().tip();
        let published = self.reader().publication();
        Ok(Head {
            seq: tip.seq,
            hash: tip.hash,
            refused: self.reader().refusal().map(|refusal: Refusal| refusal.to_string()),
            checkpointed: published.latest.map_or(0, |signed| signed.checkpoint.size),
            witnessed: published.witnessed,
        })
    }

    async fn tail(&self, request: TailRequest, items: Sink<Entry>, _: Call) -> Result<TailEnd, ApiError> {
        let reader = self.reader();
        let mut tips = reader.watch();
        let start = tips.borrow_and_update().seq;
        let mut next = request.from.unwrap_or_else(|| (start + 1).saturating_sub(request.last)).max(1);
        let until = if request.follow { u64::MAX } else { start };
        loop {
            while next <= tips.borrow_and_update().seq.min(until) {
                let (reader, from) = (Arc::clone(reader), next);
                let limits = PageLimits { entries: TAIL_PAGE, bytes: PAGE_BYTES, looked_at: LOOKED_AT };
                let page = off_thread(move || reader.page(from, limits, |_| true)).await?;
                for entry in page.entries.iter().take_while(|entry| entry.seq <= until) {
                    items.send(entry).await?;
                }
                next = page.next.min(until.saturating_add(1));
            }
            // The sender lives as long as the ledger; when it is gone, so is what there was to follow.
            if next > until || tips.changed().await.is_err() {
                return Ok(TailEnd { next });
            }
        }
    }

    async fn query(&self, request: QueryRequest, _: Call) -> Result<QueryPage, ApiError> {
        let limit = if request.limit == 0 { QUERY_MAX } else { request.limit.min(QUERY_MAX) };
        let limits = PageLimits { entries: limit as usize, bytes: PAGE_BYTES, looked_at: LOOKED_AT };
        let end = self.reader().tip().seq;
        let ledger = self.clone();
        let page = off_thread(move || ledger.page(&request, limits)).await?;
        Ok(QueryPage { next: (page.next <= end).then_some(page.next), entries: page.entries })
    }

    async fn verify(&self, request: VerifyRequest, _: Call) -> Result<VerifyReport, ApiError> {
        const WHAT: &str = "verify the ledger";
        if request.checkpoints.len() > CHECKPOINTS_MAX {
            let why = format!("{} are more than {CHECKPOINTS_MAX}", request.checkpoints.len());
            return Err(ApiError::new(Code::TooLong, WHAT, "checkpoints", why, "give fewer, or import them"));
        }
        for text in &request.checkpoints {
            short(WHAT, "checkpoints", text, CHECKPOINT_MAX)?;
        }
        let Ok(_permit) = self.verifying.try_acquire() else {
            let why = "somebody else has it verified";
            return Err(ApiError::new(Code::Busy, WHAT, "verify", why, "try again when that has ended"));
        };
        let stop = Arc::new(AtomicBool::new(false));
        // When the caller goes, this future is dropped, and the guard ends the work on its thread.
        let _guard = StopOnDrop(Arc::clone(&stop));
        let (reader, witnesses) = (Arc::clone(self.reader()), Arc::clone(&self.witnesses));
        off_thread(move || reader.verify(&stop, &request.checkpoints, &witnesses)).await
    }

    async fn checkpoint(&self, _: CheckpointRequest, call: Call) -> Result<CheckpointInfo, ApiError> {
        // Not for everybody who may ask: it costs a signature and a sync.
        if matches!(call.caller().principal, Principal::Operator(_)) {
            self.cover().await?;
        }
        let published = self.reader().publication();
        let signed = latest(&published)?;
        Ok(CheckpointInfo {
            checkpoint: signed.to_text(),
            key: published.key.clone(),
            size: signed.checkpoint.size,
            root: signed.checkpoint.root,
            witnessed: published.witnessed.clone(),
        })
    }

    async fn prove(&self, request: ProveRequest, _: Call) -> Result<Proof, ApiError> {
        if request.seq > self.reader().publication().latest.map_or(0, |signed| signed.checkpoint.size) {
            self.cover().await?;
        }
        let ledger = self.clone();
        blocking(move || ledger.prove_one(request.seq)).await
    }

    async fn consistency(&self, request: ConsistencyRequest, _: Call) -> Result<Consistency, ApiError> {
        const WHAT: &str = "prove consistency";
        let published = self.reader().publication();
        let size = latest(&published)?.checkpoint.size;
        let ConsistencyRequest { old, new } = request;
        if old > new || new > size {
            let why = format!("{old} to {new} is no range within the newest checkpoint's {size} entries");
            return Err(ApiError::new(
                Code::InvalidParams,
                WHAT,
                "sizes",
                why,
                "ask for sizes of checkpoints",
            ));
        }
        // Anybody may ask, so only so many are answered at a time.
        let _permit = self.proofs.acquire().await;
        let reader = Arc::clone(self.reader());
        let prove = move || {
            let place = format!("{old} to {new}");
            let proof =
                merkle::consistency(&reader.nodes(new), old, new).map_err(|error| no_proof(&place, error))?;
            // Tiles are files: what somebody changed in one is not passed on.
            let root = |size| reader.root(size).map_err(|error| no_proof(&place, error));
            merkle::verify_consistency(old, &root(old)?, new, &root(new)?, &proof)
                .map_err(|error| no_proof(&place, error))?;
            Ok(Consistency { proof })
        };
        blocking(prove).await
    }

    async fn cosign(&self, request: CosignRequest, _: Call) -> Result<Witnessed, ApiError> {
        short("take a cosignature", "cosignatures", &request.cosignatures, COSIGNATURES_MAX)?;
        let published = self.reader().publication();
        match published.cosigned(request.size, &request.cosignatures, &self.witnesses)? {
            None => Ok(published.witnessed),
            Some(checked) => self.with_store(move |store| store.cosign(checked)).await,
        }
    }

    async fn import(&self, request: ImportRequest, _: Call) -> Result<Compared, ApiError> {
        short("import a checkpoint", "checkpoint", &request.checkpoint, CHECKPOINT_MAX)?;
        let ledger = self.clone();
        blocking(move || ledger.import_one(&request.checkpoint)).await
    }

    async fn export(
        &self,
        request: ExportRequest,
        lines: Sink<ExportLine>,
        _: Call,
    ) -> Result<ExportEnd, ApiError> {
        self.cover().await?;
        let published = self.reader().publication();
        let newest = latest(&published)?;
        let export = Export::new(self.reader(), &request, &published, newest, &self.witnesses)?;
        export.send(&lines).await
    }

    async fn erase(&self, request: EraseRequest, call: Call) -> Result<Appended, ApiError> {
        let caller = call.caller().principal.clone();
        self.with_store(move |store| store.erase(&caller, &request)).await
    }

    async fn acknowledge(&self, request: AcknowledgeRequest, call: Call) -> Result<Appended, ApiError> {
        let caller = call.caller().principal.clone();
        self.with_store(move |store| store.acknowledge(&caller, &request)).await
    }

    async fn archive(&self, request: ArchiveRequest, call: Call) -> Result<Archived, ApiError> {
        let caller = call.caller().principal.clone();
        self.with_store(move |store| store.archive(&caller, request)).await
    }
}

struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
