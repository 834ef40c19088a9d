//! The methods: from a request to the store and back.

use crate::core::{Draft, Tip};
use crate::read::{PageLimits, ReadError};
use crate::refusal::Refusal;
use crate::service::Ledger;
use crate::writer::gone;
use octant_api::error::{ApiError, Code};
use octant_api::ledger::{
    AppendRequest, Appended, Entry, Handler, Head, HeadRequest, Kind, PAYLOAD_MAX, QUERY_MAX, QueryPage,
    QueryRequest, TailEnd, TailRequest, VerifyReport, VerifyRequest,
};
use octant_ids::Principal;
use octant_wire::{Call, Sink};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Answers stay well below the longest line (4 MiB), whatever their entries hold.
const PAGE_BYTES: usize = 1 << 20;
/// How many entries one query looks at before it answers with where to go on: about a second's work.
const LOOKED_AT: u64 = 100_000;
/// How many entries a tail reads at a time.
const TAIL_PAGE: usize = 256;

/// Decides whose entry it is, and whether the caller may append it.
pub(crate) fn draft(caller: &Principal, request: AppendRequest, tip: Tip) -> Result<Draft, ApiError> {
    let refuse = |code, place: &str, why: String, next| {
        Err(ApiError::new(code, "append to the ledger", place, why, next))
    };
    let actor = match request.actor {
        None => caller.clone(),
        Some(aid) if matches!(caller, Principal::Service(name) if name.as_str() == "agents") => {
            Principal::Agent(aid)
        }
        Some(_) => {
            let why = format!("{caller} appends under its own name only");
            return refuse(Code::Denied, "actor", why, "leave `actor` out");
        }
    };
    if matches!(request.kind, Kind::Boot | Kind::Unit) {
        let why = format!("entries of kind {} are PID 1's", request.kind.as_str());
        return refuse(Code::Denied, "kind", why, "use another kind");
    }
    let len = request.payload.text().len();
    if len > PAYLOAD_MAX {
        let why = format!("it has {len} bytes, more than {PAYLOAD_MAX}");
        return refuse(Code::TooLong, "payload", why, "store the data elsewhere and append its hash");
    }
    if let Some(intent) = request.intent.filter(|seq| *seq == 0 || *seq > tip.seq) {
        let why = format!("there is no entry {intent}");
        return refuse(
            Code::InvalidParams,
            "intent",
            why,
            "give the number that the intent's append answered",
        );
    }
    Ok(Draft {
        actor,
        kind: request.kind,
        intent: request.intent,
        payload: request.payload,
        observed_ns: None,
        backfilled: false,
    })
}

/// Whether an entry meets every condition of a query.
pub(crate) fn matches_query(query: &QueryRequest, entry: &Entry) -> bool {
    query.actor.as_ref().is_none_or(|actor| *actor == entry.actor)
        && (query.kinds.is_empty() || query.kinds.contains(&entry.kind))
        && query.intent.is_none_or(|seq| entry.seq == seq || entry.intent == Some(seq))
        && query.since_ms.is_none_or(|since| entry.wall_ms >= since)
        && query.until_ms.is_none_or(|until| entry.wall_ms < until)
}

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
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(|error| unreadable(&error)),
        Err(error) => {
            Err(ApiError::new(Code::Internal, "read the ledger", "reader", error, "report it as a fault"))
        }
    }
}

impl Handler<Call> for Ledger {
    async fn append(&self, request: AppendRequest, call: Call) -> Result<Appended, ApiError> {
        let draft = draft(&call.caller().principal, request, self.reader().tip())?;
        let answer = self.writer().append(draft)?.await;
        answer.map_err(|_| gone())?.map_err(|refusal| refusal.answer())
    }

    async fn head(&self, _: HeadRequest, _: Call) -> Result<Head, ApiError> {
        let tip = self.reader().tip();
        let refused = self.reader().refusal().map(|refusal: Refusal| refusal.to_string());
        Ok(Head { seq: tip.seq, hash: tip.hash, refused })
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
        let reader = Arc::clone(self.reader());
        let limit = if request.limit == 0 { QUERY_MAX } else { request.limit.min(QUERY_MAX) };
        let limits = PageLimits { entries: limit as usize, bytes: PAGE_BYTES, looked_at: LOOKED_AT };
        let end = reader.tip().seq;
        let page =
            off_thread(move || reader.page(request.from, limits, |entry| matches_query(&request, entry)))
                .await?;
        Ok(QueryPage { next: (page.next <= end).then_some(page.next), entries: page.entries })
    }

    async fn verify(&self, _: VerifyRequest, _: Call) -> Result<VerifyReport, ApiError> {
        let stop = Arc::new(AtomicBool::new(false));
        // When the caller goes, this future is dropped, and the guard ends the work on its thread.
        let _guard = StopOnDrop(Arc::clone(&stop));
        let reader = Arc::clone(self.reader());
        off_thread(move || reader.verify(&stop)).await
    }
}

struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
