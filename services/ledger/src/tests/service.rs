//! The service over the wire.

use super::{BOOT, Dir, no_tickets};
use crate::Ledger;
use crate::store::Options;
use crate::writer::WriterLimits;
use octant_api::error::Code;
use octant_api::journal::{self, Record};
use octant_api::ledger::{
    AppendRequest, Entry, HeadRequest, Kind, PAYLOAD_MAX, QueryRequest, Server, TailRequest, VerifyRequest,
};
use octant_api::text::Json;
use octant_ids::{Aid, Principal};
use octant_tlog::state::State;
use octant_wire::{Client, Identity, Limits, Shutdown, Trigger, WireError, shutdown};
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn service(name: &str) -> Identity {
    Identity::Listener(Principal::Service(name.parse().unwrap()))
}

/// Listens for callers of one identity.
fn listen(dir: &Path, name: &str, ledger: &Arc<Ledger>, identity: Identity, stop: &Shutdown) -> PathBuf {
    let path = dir.join(name);
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let server = Server(Arc::clone(ledger));
    tokio::spawn(octant_wire::serve(listener, server, identity, Limits::default(), stop.clone()));
    path
}

struct Set {
    ledger: Arc<Ledger>,
    dir: Dir,
    agents: Client,
    vault: Client,
    operator: Client,
    agent: Client,
    stranger: Client,
    _trigger: Trigger,
}

/// A ledger with a socket for each kind of caller.
fn set(limits: WriterLimits) -> Set {
    let dir = Dir::new();
    let ledger =
        Arc::new(Ledger::open(&dir.0.join("state"), BOOT, Options::default(), limits, no_tickets()).unwrap());
    let (trigger, stop) = shutdown();
    let client = |name: &str, identity: Identity| {
        Client::new(listen(&dir.0, &format!("{name}.sock"), &ledger, identity, &stop))
    };
    Set {
        agents: client("agents", service("agents")),
        vault: client("vault", service("vault")),
        operator: client("operator", Identity::Listener(Principal::Operator(0))),
        agent: client("agent", Identity::Listener(Principal::Agent(aid()))),
        stranger: client("stranger", Identity::Listener(Principal::Stranger(7))),
        ledger,
        dir,
        _trigger: trigger,
    }
}

fn with_set(work: impl AsyncFnOnce(&Set)) {
    runtime().block_on(async { work(&set(WriterLimits::default())).await });
}

fn aid() -> Aid {
    Aid::new(5, [5; 10])
}

fn note(text: &str) -> AppendRequest {
    AppendRequest::new(Kind::Note, Json::of(text).unwrap())
}

fn code<T: std::fmt::Debug>(result: Result<T, WireError>) -> Code {
    match result {
        Err(WireError::Api(error)) => error.code,
        other => panic!("{other:?}"),
    }
}

async fn entries(client: &Client, request: &TailRequest) -> Vec<Entry> {
    let mut stream = client.stream(request).await.unwrap();
    let mut entries = Vec::new();
    while let Some(entry) = stream.next().await.unwrap() {
        entries.push(entry);
    }
    entries
}

async fn all(client: &Client) -> Vec<Entry> {
    entries(client, &TailRequest { from: Some(1), ..TailRequest::default() }).await
}

#[test]
fn what_is_appended_is_read_and_verified() {
    with_set(async |set| {
        for n in 1..=300_u64 {
            let appended = set.vault.call(&note(&format!("entry {n}"))).await.unwrap();
            assert_eq!(appended.seq, n);
        }
        let head = set.operator.call(&HeadRequest {}).await.unwrap();
        assert_eq!((head.seq, head.refused), (300, None));
        let all = all(&set.operator).await;
        assert_eq!(all.len(), 300);
        let mut state = State::default();
        let each = set.ledger.reader().each(1, 300, |seq, bytes| {
            state.accept(bytes, |_, _, _| {}).unwrap();
            let entry = &all[usize::try_from(seq).unwrap() - 1];
            assert_eq!((entry.hash, entry.boot_id.as_str()), (state.tip().hash, BOOT));
            assert_eq!(entry.actor, Principal::Service("vault".parse().unwrap()));
            Ok::<(), crate::ReadError>(())
        });
        each.unwrap();
        assert_eq!(state.tip().hash, head.hash);
        let last = entries(&set.operator, &TailRequest { last: 3, ..TailRequest::default() }).await;
        assert_eq!(last[..], all[297..]);
        let report = set.operator.call(&VerifyRequest::default()).await.unwrap();
        assert_eq!((report.entries, report.head, report.damage), (300, head.hash, None));
    });
}

#[test]
fn a_follower_sees_entries_as_they_become_durable() {
    with_set(async |set| {
        set.vault.call(&note("before")).await.unwrap();
        let request = TailRequest { from: Some(1), follow: true, ..TailRequest::default() };
        let mut stream = set.operator.stream(&request).await.unwrap();
        assert_eq!(stream.next().await.unwrap().unwrap().seq, 1);
        for seq in 2..20 {
            set.vault.call(&note("after")).await.unwrap();
            assert_eq!(stream.next().await.unwrap().unwrap().seq, seq);
        }
    });
}

#[test]
fn only_those_who_may_append_and_only_as_themselves() {
    with_set(async |set| {
        for client in [&set.operator, &set.agent, &set.stranger] {
            assert_eq!(code(client.call(&note("x")).await), Code::Denied);
        }
        for client in [&set.agent, &set.stranger] {
            assert_eq!(code(client.call(&HeadRequest {}).await), Code::Denied);
            assert_eq!(code(client.call(&VerifyRequest::default()).await), Code::Denied);
            assert_eq!(code(client.call(&QueryRequest::default()).await), Code::Denied);
        }
        let named = AppendRequest { actor: Some(aid()), ..note("x") };
        assert_eq!(code(set.vault.call(&named).await), Code::Denied);
        assert_eq!(code(set.agents.call(&named).await), Code::InvalidParams, "its partition is not open");
        let open = AppendRequest { kind: Kind::Lifecycle, agent: Some(aid()), ..note("provisioned") };
        assert_eq!(code(set.vault.call(&open).await), Code::Denied);
        set.agents.call(&open).await.unwrap();
        set.agents.call(&named).await.unwrap();
        assert_eq!(all(&set.operator).await[1].actor, Principal::Agent(aid()));
        for kind in [Kind::Boot, Kind::Unit, Kind::Config, Kind::Erasure, Kind::Key] {
            assert_eq!(code(set.agents.call(&AppendRequest { kind, ..note("x") }).await), Code::Denied);
        }
        let long = "x".repeat(PAYLOAD_MAX);
        assert_eq!(code(set.agents.call(&note(&long)).await), Code::TooLong);
        set.agents.call(&note(&long[..PAYLOAD_MAX - 2])).await.unwrap();
        for intent in [0, 4, u64::MAX] {
            let outcome = AppendRequest { intent: Some(intent), ..note("x") };
            assert_eq!(code(set.agents.call(&outcome).await), Code::InvalidParams);
        }
        assert_eq!(all(&set.operator).await.len(), 3);
    });
}

#[test]
fn queries_take_what_meets_every_condition_in_pages() {
    with_set(async |set| {
        for n in 0..40_u64 {
            let kind = if n % 2 == 0 { Kind::Intent } else { Kind::Outcome };
            let intent = (n % 2 == 1).then_some(n);
            let client = if n % 4 < 2 { &set.agents } else { &set.vault };
            client.call(&AppendRequest { kind, intent, ..note("x") }).await.unwrap();
        }
        let query = async |request: QueryRequest| set.operator.call(&request).await.unwrap();
        let seqs = |entries: &[Entry]| entries.iter().map(|entry| entry.seq).collect::<Vec<_>>();
        let pair = query(QueryRequest { intent: Some(5), ..QueryRequest::default() }).await;
        assert_eq!((seqs(&pair.entries), pair.next), (vec![5, 6], None));
        let vault = Some(Principal::Service("vault".parse().unwrap()));
        let mut request =
            QueryRequest { actor: vault, kinds: vec![Kind::Outcome], limit: 4, ..QueryRequest::default() };
        let mut found = Vec::new();
        loop {
            let page = query(request.clone()).await;
            assert!(page.entries.len() <= 4);
            found.extend(seqs(&page.entries));
            match page.next {
                Some(next) => request.from = next,
                None => break,
            }
        }
        assert_eq!(found, (1..=40).filter(|seq| seq % 4 == 0).collect::<Vec<u64>>());
        let first = all(&set.operator).await.remove(0);
        let none = query(QueryRequest { until_ms: Some(first.wall_ms), ..QueryRequest::default() }).await;
        assert!(none.entries.is_empty() && none.next.is_none());
        let every = query(QueryRequest { since_ms: Some(first.wall_ms), ..QueryRequest::default() }).await;
        assert_eq!(every.entries.len(), 40);
    });
}

#[test]
fn pages_of_large_entries_stay_below_the_longest_answer() {
    with_set(async |set| {
        let large = "x".repeat(PAYLOAD_MAX - 2);
        for _ in 0..40 {
            set.vault.call(&note(&large)).await.unwrap();
        }
        let (mut request, mut seen) = (QueryRequest::default(), 0);
        loop {
            let page = set.operator.call(&request).await.unwrap();
            seen += page.entries.len();
            match page.next {
                Some(next) => request.from = next,
                None => break,
            }
        }
        assert_eq!(seen, 40);
        assert_eq!(all(&set.operator).await.len(), 40);
    });
}

#[test]
fn many_callers_at_once_each_get_their_own_entry() {
    with_set(async |set| {
        let path = set.vault.path().to_owned();
        let callers: Vec<_> = (0..64)
            .map(|caller| {
                let client = Client::new(&path);
                tokio::spawn(async move {
                    let mut seqs = Vec::new();
                    for n in 0..20 {
                        let text = format!("{caller}.{n}");
                        seqs.push((client.call(&note(&text)).await.unwrap().seq, text));
                    }
                    seqs
                })
            })
            .collect();
        let mut acknowledged = Vec::new();
        for caller in callers {
            acknowledged.extend(caller.await.unwrap());
        }
        acknowledged.sort();
        let stored: Vec<(u64, String)> = all(&set.operator)
            .await
            .into_iter()
            .map(|entry| (entry.seq, entry.payload.read::<String>().unwrap()))
            .collect();
        assert_eq!(acknowledged, stored);
        assert_eq!(set.operator.call(&VerifyRequest::default()).await.unwrap().damage, None);
    });
}

#[test]
fn a_full_queue_refuses_and_loses_nothing() {
    let limits = WriterLimits { queue: 2, ..WriterLimits::default() };
    runtime().block_on(async {
        let set = set(limits);
        let draft = || super::draft("x");
        let (mut waiting, mut refused) = (Vec::new(), 0);
        for _ in 0..2000 {
            match set.ledger.writer().append(draft()) {
                Ok(answer) => waiting.push(answer),
                Err(error) => {
                    assert_eq!(error.code, Code::Busy);
                    refused += 1;
                }
            }
        }
        assert!(refused > 0);
        let accepted = waiting.len();
        for answer in waiting {
            answer.await.unwrap().unwrap();
        }
        assert_eq!(all(&set.operator).await.len(), accepted);
        let bytes = WriterLimits { queue_bytes: 10, ..WriterLimits::default() };
        let small =
            Ledger::open(&set.dir.0.join("small"), BOOT, Options::default(), bytes, no_tickets()).unwrap();
        assert_eq!(small.writer().append(super::draft(&"x".repeat(20))).unwrap_err().code, Code::Busy);
        small.writer().append(draft()).unwrap().await.unwrap().unwrap();
    });
}

fn journal_pair() -> (std::os::fd::OwnedFd, std::os::fd::OwnedFd) {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
    socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).unwrap()
}

fn put(socket: &std::os::fd::OwnedFd, bytes: &[u8]) {
    use std::os::fd::AsRawFd;
    let flags = nix::sys::socket::MsgFlags::empty();
    nix::sys::socket::send(socket.as_raw_fd(), bytes, flags).unwrap();
}

async fn drain(ledger: &Ledger, socket: std::os::fd::OwnedFd) {
    crate::journal::take(socket, ledger.writer(), ledger.reader(), BOOT).await.unwrap();
}

#[test]
fn records_of_pid_1_become_entries_once() {
    let record = |kind, mono_ns, unit: &str, text: &str| Record {
        kind,
        backfilled: mono_ns < 100,
        mono_ns,
        unit: unit.into(),
        text: text.into(),
    };
    runtime().block_on(async {
        let dir = Dir::new();
        let ledger =
            Ledger::open(&dir.0, BOOT, Options::default(), WriterLimits::default(), no_tickets()).unwrap();
        let (pid1, ours) = journal_pair();
        let last = record(journal::Kind::Lost, 300, "", "3");
        put(&pid1, &record(journal::Kind::Boot, 10, "", "mounts done").encode());
        put(&pid1, &record(journal::Kind::Unit, 200, "agents", "running").encode());
        put(&pid1, b"not a record");
        put(&pid1, &last.encode());
        drop(pid1);
        drain(&ledger, ours).await;
        // A crash after the append and before the record was taken: it comes again, and only once more.
        let (pid1, ours) = journal_pair();
        put(&pid1, &last.encode());
        put(&pid1, &record(journal::Kind::Unit, 400, "agents", "failed").encode());
        drop(pid1);
        drain(&ledger, ours).await;
        let limits = crate::PageLimits { entries: 99, bytes: 1 << 20, looked_at: 99 };
        let entries = ledger.reader().page(1, limits, |_| true).unwrap().entries;
        let seen: Vec<_> =
            entries.iter().map(|e| (e.kind, e.mono_ns, e.backfilled, e.payload.text())).collect();
        assert!(entries.iter().all(|entry| entry.actor == Principal::Init));
        assert_eq!(seen[0], (Kind::Boot, 10, true, r#"{"text":"mounts done"}"#));
        assert_eq!(seen[1], (Kind::Unit, 200, false, r#"{"text":"running","unit":"agents"}"#));
        assert_eq!(seen[2].0, Kind::Lost);
        assert_eq!(seen[3], (Kind::Lost, 300, false, r#"{"text":"3"}"#));
        assert_eq!(seen[4].1, 400);
        assert_eq!(seen.len(), 5);
    });
}
