//! What an agent can ask, through the socket in its workstation.

use crate::manager::Manager;
use crate::{family, outside, secrets, ssh};
use octant_api::agent::{
    ApprovalInfo, ApprovalRequest, BorrowRequest, BudgetRequest, Child, Children, ChildrenRequest,
    Credentials, CredentialsRequest, Handler, KillRequest, LeaseRequest, LogsRequest, NOTE_MAX, NoteRequest,
    Noted, PermitRequest, PreviewRequest, ReceiveRequest, Received, ReleaseRequest, RenewRequest,
    ReturnRequest, RevealRequest, SelfInfo, SelfRequest, SendRequest, Sent, SignRequest, SnapshotRequest,
    SpawnRequest, SshKeys, SshKeysRequest, SshLoginRequest, WaitRequest, Words, WordsRequest,
};
use octant_api::agents::{Approval, Artefacts, BudgetInfo, LogChunk, LogsEnd, Permitted, TakenBack};
use octant_api::egress::{HostLease, Preview};
use octant_api::error::{ApiError, Code};
use octant_api::ledger::Kind;
use octant_api::vault::{Lease, Opened, Released, Signed};
use octant_ids::Aid;
use octant_service::record;
use octant_sys::clock;
use octant_wire::{Call, Sink};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, oneshot};

/// How many notes an agent can write at once, and how many more a second; the same for requests about secrets, each of
/// which is on record.
const NOTES_BURST: u64 = 32;
const NOTES_PER_SECOND: u64 = 8;
/// The same for spawning and ending descendants.
const FAMILY_BURST: u64 = 16;
const FAMILY_PER_SECOND: u64 = 2;
/// The same for hosts to be lent, each of which is on record too.
const LEASES_BURST: u64 = 16;
const LEASES_PER_SECOND: u64 = 1;
/// The same for messages, each of which is on record.
const MESSAGES_BURST: u64 = 64;
const MESSAGES_PER_SECOND: u64 = 16;
/// The same for calls of others' tools, each of which is on record twice.
const TOOLS_BURST: u64 = 32;
const TOOLS_PER_SECOND: u64 = 8;
/// The same for snapshots of the workspace, for each of which the agent stands still.
const SNAPSHOTS_BURST: u64 = 4;
const SNAPSHOTS_PER_SECOND: u64 = 1;
/// The longest wait for an answer, in milliseconds.
const APPROVAL_WAIT_MAX_MS: u64 = 600_000;
const SECOND_NS: u64 = 1_000_000_000;

/// One agent's side of the service. Who asks is known from the socket; no message says so.
#[derive(Debug)]
pub(crate) struct Guest {
    pub(crate) manager: Arc<Manager>,
    pub(crate) aid: Aid,
    pub(crate) notes: Mutex<Bucket>,
    pub(crate) secrets: Mutex<Bucket>,
    pub(crate) family: Mutex<Bucket>,
    pub(crate) leases: Mutex<Bucket>,
    pub(crate) messages: Mutex<Bucket>,
    pub(crate) tools: Mutex<Bucket>,
    pub(crate) snapshots: Mutex<Bucket>,
    /// One place, for the one value that can be on its way to this agent: the connections to the vault on which values
    /// come are few, and one agent must not have them all.
    pub(crate) revealing: Semaphore,
    /// Leases of the key pairs that log in over SSH.
    pub(crate) ssh: tokio::sync::Mutex<ssh::Leases>,
}

impl Guest {
    pub(crate) fn new(manager: Arc<Manager>, aid: Aid) -> Self {
        let bucket = |burst, per_second| Mutex::new(Bucket::full(burst, per_second));
        Self {
            manager,
            aid,
            notes: bucket(NOTES_BURST, NOTES_PER_SECOND),
            secrets: bucket(NOTES_BURST, NOTES_PER_SECOND),
            family: bucket(FAMILY_BURST, FAMILY_PER_SECOND),
            leases: bucket(LEASES_BURST, LEASES_PER_SECOND),
            messages: bucket(MESSAGES_BURST, MESSAGES_PER_SECOND),
            tools: bucket(TOOLS_BURST, TOOLS_PER_SECOND),
            snapshots: bucket(SNAPSHOTS_BURST, SNAPSHOTS_PER_SECOND),
            revealing: Semaphore::new(1),
            ssh: tokio::sync::Mutex::default(),
        }
    }

    /// Calls another's tool. Where that is given up before the answer, it is taken back from the server, and on record.
    pub(crate) async fn use_tool(
        &self,
        name: &str,
        arguments: String,
    ) -> Result<Map<String, Value>, ApiError> {
        const WHAT: &str = "call a tool";
        let shown: String = name.chars().take(128).collect();
        if !self.tools.lock().unwrap_or_else(PoisonError::into_inner).take(clock::monotonic_ns()) {
            let why = format!("more than {TOOLS_BURST} calls at once or {TOOLS_PER_SECOND} a second");
            return Err(ApiError::new(Code::Busy, WHAT, shown, why, "call less"));
        }
        let wrong = |e| ApiError::new(Code::InvalidParams, WHAT, shown.clone(), e, "send an object");
        let arguments = RawValue::from_string(arguments).map_err(wrong)?;
        // A task of its own: what becomes of a call is on record, also when who called goes away.
        let (waits, gone) = oneshot::channel();
        let (manager, aid, name) = (Arc::clone(&self.manager), self.aid, shown.clone());
        let task = tokio::spawn(async move {
            let result = manager.use_tool(aid, &name, &arguments, gone).await;
            if let Err(error @ ApiError { code: Code::Denied | Code::Unavailable, .. }) = &result {
                manager.note_denied_tool(aid, error);
            }
            result
        });
        let ended = |e| ApiError::new(Code::Internal, WHAT, shown, e, "see the ledger");
        let result = task.await.map_err(ended)?;
        drop(waits);
        result
    }
}

/// A token bucket, counted in the nanoseconds that its tokens take to come back.
#[derive(Debug)]
pub(crate) struct Bucket {
    /// When it would be full again.
    full_ns: u64,
    burst: u64,
    /// How long one token takes to come back.
    token_ns: u64,
}

impl Bucket {
    pub(crate) fn full(burst: u64, per_second: u64) -> Self {
        Self { full_ns: 0, burst, token_ns: SECOND_NS / per_second }
    }

    /// Takes a token if there is one.
    pub(crate) fn take(&mut self, now_ns: u64) -> bool {
        self.take_many(1, now_ns)
    }

    /// Takes so many tokens, or none.
    pub(crate) fn take_many(&mut self, count: u64, now_ns: u64) -> bool {
        let next = self.full_ns.max(now_ns) + count * self.token_ns;
        let fits = next - now_ns <= self.burst * self.token_ns;
        if fits {
            self.full_ns = next;
        }
        fits
    }
}

impl Handler<Call> for Guest {
    async fn note(&self, asked: NoteRequest, _: Call) -> Result<Noted, ApiError> {
        let refuse =
            |code, why: String, next| Err(ApiError::new(code, "take a note", "agent.note", why, next));
        let bytes = asked.text.len();
        if bytes > NOTE_MAX {
            let why = format!("the text has {bytes} bytes, more than {NOTE_MAX}");
            return refuse(Code::TooLong, why, "write a file and note its name");
        }
        let taken = self.notes.lock().unwrap_or_else(PoisonError::into_inner).take(clock::monotonic_ns());
        if !taken {
            let why = format!("more than {NOTES_BURST} notes at once or {NOTES_PER_SECOND} a second");
            return refuse(Code::Busy, why, "note less, or put several things into one note");
        }
        let mut entry = record(Kind::Note, &json!({ "text": asked.text }));
        entry.actor = Some(self.aid);
        let (done, all) = self.manager.records.append(&[entry]).await;
        match (done.as_slice(), all) {
            ([Some(done)], Ok(())) => Ok(Noted { seq: done.seq, hash: done.hash }),
            (_, Ok(())) => refuse(Code::Internal, "the ledger's answer is missing".into(), "try again"),
            (_, Err(error)) => {
                let why = format!("the ledger did not accept it: {error}");
                refuse(Code::Unavailable, why, "try again")
            }
        }
    }

    async fn describe(&self, _: SelfRequest, _: Call) -> Result<SelfInfo, ApiError> {
        let info = self.manager.info(self.aid)?;
        Ok(SelfInfo {
            aid: info.aid,
            name: info.name,
            role: info.role,
            operator: info.operator,
            state: info.state,
            parent: info.parent,
            depth: info.depth,
            manifest_digest: info.manifest_digest,
            grants: info.grants,
        })
    }

    async fn lease(&self, asked: LeaseRequest, call: Call) -> Result<Lease, ApiError> {
        secrets::lease(self, asked, &call).await
    }

    async fn renew(&self, asked: RenewRequest, call: Call) -> Result<Lease, ApiError> {
        secrets::renew(self, asked, &call).await
    }

    async fn release(&self, asked: ReleaseRequest, call: Call) -> Result<Released, ApiError> {
        secrets::release(self, asked, &call).await
    }

    async fn reveal(&self, asked: RevealRequest, call: Call) -> Result<Opened, ApiError> {
        secrets::reveal(self, asked, &call).await
    }

    async fn sign(&self, asked: SignRequest, call: Call) -> Result<Signed, ApiError> {
        secrets::sign(self, asked, &call).await
    }

    async fn ssh_keys(&self, _: SshKeysRequest, call: Call) -> Result<SshKeys, ApiError> {
        ssh::keys(self, &call).await
    }

    async fn ssh_login(&self, asked: SshLoginRequest, call: Call) -> Result<Signed, ApiError> {
        ssh::login(self, &asked, &call).await
    }

    async fn spawn(&self, asked: SpawnRequest, _: Call) -> Result<Child, ApiError> {
        family::spawn(self, asked).await
    }

    async fn children(&self, asked: ChildrenRequest, _: Call) -> Result<Children, ApiError> {
        Ok(family::children(self, &asked))
    }

    async fn wait(&self, asked: WaitRequest, _: Call) -> Result<Child, ApiError> {
        family::wait(self, &asked).await
    }

    async fn kill(&self, asked: KillRequest, _: Call) -> Result<Child, ApiError> {
        family::kill(self, &asked).await
    }

    async fn send(&self, asked: SendRequest, _: Call) -> Result<Sent, ApiError> {
        let taken = self.messages.lock().unwrap_or_else(PoisonError::into_inner).take(clock::monotonic_ns());
        if !taken {
            let why =
                format!("more than {MESSAGES_BURST} messages at once or {MESSAGES_PER_SECOND} a second");
            return Err(ApiError::new(Code::Busy, "send a message", "agent.send", why, "send less"));
        }
        // A task of its own: what is on record is delivered, also when the sender goes away.
        let (manager, aid) = (Arc::clone(&self.manager), self.aid);
        let task = tokio::spawn(async move { manager.send(aid, asked).await });
        let ended = |e| ApiError::new(Code::Internal, "send a message", "agent.send", e, "see the ledger");
        task.await.map_err(ended)?
    }

    async fn receive(&self, asked: ReceiveRequest, _: Call) -> Result<Received, ApiError> {
        self.manager.receive(self.aid, asked.after, asked.wait_ms).await
    }

    async fn words(&self, asked: WordsRequest, _: Call) -> Result<Words, ApiError> {
        self.manager.words(self.aid, &asked).await
    }

    async fn approval(&self, asked: ApprovalRequest, _: Call) -> Result<ApprovalInfo, ApiError> {
        let wait = Duration::from_millis(asked.wait_ms.min(APPROVAL_WAIT_MAX_MS));
        let approval = self.manager.approval_of(self.aid, &asked.id, wait).await?;
        let Approval { id, action, digest, state, expires_ms, why, .. } = approval;
        Ok(ApprovalInfo { id, action, digest, state, expires_ms, why })
    }

    async fn permit(&self, asked: PermitRequest, _: Call) -> Result<Permitted, ApiError> {
        // A task of its own: an approval that is used up is on record, also when who asked goes away.
        let (manager, aid) = (Arc::clone(&self.manager), self.aid);
        let task = tokio::spawn(async move { manager.permit_own(aid, &asked).await });
        let ended =
            |e| ApiError::new(Code::Internal, "ask for approval", "agent.permit", e, "see the ledger");
        task.await.map_err(ended)?
    }

    async fn credentials(&self, _: CredentialsRequest, _: Call) -> Result<Credentials, ApiError> {
        Ok(outside::credentials(self))
    }

    async fn borrow(&self, asked: BorrowRequest, _: Call) -> Result<HostLease, ApiError> {
        outside::borrow(self, asked).await
    }

    async fn give_back(&self, asked: ReturnRequest, _: Call) -> Result<TakenBack, ApiError> {
        outside::give_back(self, asked).await
    }

    async fn budget(&self, _: BudgetRequest, _: Call) -> Result<BudgetInfo, ApiError> {
        self.manager.budget(self.aid)
    }

    async fn snapshot(&self, _: SnapshotRequest, _: Call) -> Result<Artefacts, ApiError> {
        const WHAT: &str = "keep a snapshot of the workspace";
        if !self.snapshots.lock().unwrap_or_else(PoisonError::into_inner).take(clock::monotonic_ns()) {
            let why =
                format!("more than {SNAPSHOTS_BURST} snapshots at once or {SNAPSHOTS_PER_SECOND} a second");
            return Err(ApiError::new(Code::Busy, WHAT, "agent.snapshot", why, "take fewer"));
        }
        // A task of its own: who was frozen for it is let go on, also when nobody waits for the answer any more.
        let (manager, aid) = (Arc::clone(&self.manager), self.aid);
        let task = tokio::spawn(async move { manager.snapshot(aid).await });
        task.await.map_err(|e| ApiError::new(Code::Internal, WHAT, "agent.snapshot", e, "see the ledger"))?
    }

    async fn preview(&self, asked: PreviewRequest, _: Call) -> Result<Preview, ApiError> {
        outside::preview(self, asked).await
    }

    async fn logs(&self, asked: LogsRequest, items: Sink<LogChunk>, _: Call) -> Result<LogsEnd, ApiError> {
        let aid = self.manager.find_below(self.aid, &asked.agent)?;
        self.manager.send_log(aid, asked.output, asked.follow, &items).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_come_in_bursts_and_then_at_their_rate() {
        let mut bucket = Bucket::full(NOTES_BURST, NOTES_PER_SECOND);
        let start = 5 * SECOND_NS;
        let burst = (0..100).filter(|_| bucket.take(start)).count();
        assert_eq!(burst as u64, NOTES_BURST);
        let second = (0..100).filter(|_| bucket.take(start + SECOND_NS)).count();
        assert_eq!(second as u64, NOTES_PER_SECOND);
        let later = (0..100).filter(|_| bucket.take(start + 3600 * SECOND_NS)).count();
        assert_eq!(later as u64, NOTES_BURST, "silence does not save up more than a burst");
    }
}
