//! What goes to the ledger together, and in which order, with a ledger that answers when it is told to.

use super::*;
use octant_api::error::ApiError;
use octant_api::rpc::{Deadline, Need};
use octant_ids::{Principal, Sha256};
use octant_wire::{Call, Identity, Limits, Trigger, serve, shutdown};
use std::sync::Arc;
use tokio::net::UnixListener;

/// The ledger's own parameters.
#[derive(Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(transparent)]
pub(crate) struct Append(AppendRequest);

mod part {
    use super::*;
    octant_api::rpc! {
        /// The part of the ledger that records need.
        service "ledger" {
            /// As the ledger's.
            "append" => append, Append(Append) -> Appended,
                needs [Need::AnyService], deadline Deadline::Ms(10_000);
        }
    }
}

/// A ledger that keeps what it is given, and refuses what a rule is against.
struct Ledger {
    /// Which appends came, in this order, whatever became of them.
    came: Mutex<Vec<String>>,
    /// How many have to be here before the first is answered.
    together: tokio::sync::Barrier,
    refuses: fn(&str) -> Option<Code>,
}

impl part::Handler<Call> for Ledger {
    async fn append(&self, Append(request): Append, _: Call) -> Result<Appended, ApiError> {
        // What is no text tells of losses.
        let what: String = request.payload.read().unwrap_or_else(|_| "lost".to_owned());
        let seq = {
            let mut came = self.came.lock().unwrap();
            came.push(what.clone());
            came.len() as u64
        };
        self.together.wait().await;
        match (self.refuses)(&what) {
            Some(code) => Err(ApiError::new(code, "append", "ledger", "it is said so", "nothing")),
            None => Ok(Appended { seq, hash: Sha256::ZERO, ticket: None }),
        }
    }
}

struct World {
    ledger: Arc<Ledger>,
    records: Records,
    path: std::path::PathBuf,
    _stop: Trigger,
}

impl World {
    fn new(name: &str, together: usize, refuses: fn(&str) -> Option<Code>) -> Self {
        let path = std::env::temp_dir().join(format!("octant-records-{name}-{}", std::process::id()));
        let _none_before = std::fs::remove_file(&path);
        let (trigger, stop) = shutdown();
        let (came, together) = (Mutex::default(), tokio::sync::Barrier::new(together));
        let ledger = Arc::new(Ledger { came, together, refuses });
        let identity = Identity::Listener(Principal::Service("vault".parse().unwrap()));
        let server = part::Server(Arc::clone(&ledger));
        tokio::spawn(serve(UnixListener::bind(&path).unwrap(), server, identity, Limits::default(), stop));
        let records = Records::new(Client::new(&path));
        // As after a call that went well.
        records.connected.store(true, Ordering::Relaxed);
        Self { ledger, records, path, _stop: trigger }
    }

    fn came(&self) -> Vec<String> {
        self.ledger.came.lock().unwrap().clone()
    }

    fn left(&self) -> Vec<String> {
        self.records.left().waiting.iter().map(|request| request.payload.read().unwrap()).collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _best_effort = std::fs::remove_file(&self.path);
    }
}

fn run<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(20), work).await.unwrap() })
}

fn about(agent: u8, kind: Kind, what: &str) -> AppendRequest {
    AppendRequest { agent: Some(Aid::new(1, [agent; 10])), ..record(kind, &what.into()) }
}

fn texts(from: usize, to: usize) -> Vec<String> {
    (from..to).map(|number| format!("{number:02}")).collect()
}

#[test]
fn what_waits_goes_together_and_in_its_order() {
    run(async {
        let world = World::new("together", TOGETHER, |_| None);
        let all = texts(0, 3 * TOGETHER);
        // Outcomes of one agent, and what is about nobody.
        for (at, text) in all.iter().enumerate() {
            let request = about(1, Kind::Outcome, text);
            let agent = request.agent.filter(|_| at % 2 == 0);
            world.records.later(AppendRequest { agent, ..request });
        }
        // Nothing is answered before as many are there.
        assert!(world.records.hand_over().await);
        assert_eq!(world.came(), all);
        assert_eq!(world.left(), texts(0, 0));
    });
}

#[test]
fn what_is_about_one_agent_waits_for_what_comes_before() {
    run(async {
        let world = World::new("order", 1, |what| (what == "first of 1").then_some(Code::Busy));
        for (agent, kind, what) in [
            (1, Kind::Grant, "first of 1"),
            (2, Kind::Grant, "first of 2"),
            (1, Kind::Outcome, "second of 1"),
            (2, Kind::Seal, "second of 2"),
            (1, Kind::Seal, "third of 1"),
        ] {
            world.records.later(about(agent, kind, what));
        }
        assert!(!world.records.hand_over().await);
        assert_eq!(world.came(), ["first of 1", "first of 2", "second of 2"]);
        assert_eq!(world.left(), ["first of 1", "second of 1", "third of 1"]);
        assert_eq!(world.records.backlog(), (3, 0));
    });
}

#[test]
fn one_that_is_never_taken_takes_no_other_with_it() {
    run(async {
        let world = World::new("never", 1, |what| (what == "01").then_some(Code::TooLong));
        texts(0, 4).iter().for_each(|text| world.records.later(record(Kind::Note, &text.as_str().into())));
        assert!(world.records.hand_over().await);
        assert_eq!(world.came(), ["00", "01", "02", "03", "lost"]);
        assert_eq!((world.records.left(), world.records.backlog()), (Left::default(), (0, 1)));
    });
}

#[test]
fn without_a_connection_one_goes_first() {
    run(async {
        let world = World::new("first", 1, |_| None);
        world.records.connected.store(false, Ordering::Relaxed);
        let all = texts(0, 40);
        all.iter().for_each(|text| world.records.later(record(Kind::Note, &text.as_str().into())));
        assert_eq!(world.records.next(&BTreeSet::new()).len(), 1);
        assert!(world.records.hand_over().await);
        assert_eq!(world.came(), all);
    });
}

#[test]
fn what_gathers_goes_together() {
    run(async {
        let mut world = World::new("gather", 8, |_| None);
        world.records.gather = Duration::from_millis(200);
        let (trigger, stop) = shutdown();
        let World { records, ledger, .. } = &world;
        let giving = async {
            // The first look finds nothing.
            tokio::time::sleep(Duration::from_millis(20)).await;
            for text in texts(0, 8) {
                records.later(record(Kind::Note, &text.as_str().into()));
                tokio::time::sleep(Duration::from_millis(5)).await;
                assert!(ledger.came.lock().unwrap().is_empty());
            }
            while records.left() != Left::default() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            trigger.pull();
        };
        tokio::join!(records.run(&stop, || {}), giving);
        assert_eq!(world.came(), texts(0, 8));
    });
}

#[test]
fn what_gathers_goes_at_once_where_that_is_asked_for() {
    run(async {
        let mut world = World::new("hurry", 1, |_| None);
        world.records.gather = Duration::from_secs(3600);
        let (trigger, stop) = shutdown();
        let World { records, .. } = &world;
        let giving = async {
            for text in texts(0, 3) {
                records.later(record(Kind::Note, &text.as_str().into()));
                records.hurry();
                while records.left() != Left::default() {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
            trigger.pull();
        };
        tokio::join!(records.run(&stop, || {}), giving);
        assert_eq!(world.came(), texts(0, 3));
    });
}

fn with(count: usize, kind: Kind, agent: Option<Aid>, records: &Records) {
    for _ in 0..count {
        records.later(AppendRequest { agent, ..record(kind, &json!({})) });
    }
}

fn waiting(records: &Records, kind: Kind) -> usize {
    records.left().waiting.iter().filter(|waiting| waiting.kind == kind).count()
}

#[test]
fn denials_push_out_nothing_else_and_one_agents_no_other_agents() {
    let records = Records::new(Client::new("/nowhere"));
    let agent = |n: u8| Some(Aid::new(1, [n; 10]));
    with(5000, Kind::Decision, agent(0), &records);
    assert_eq!((waiting(&records, Kind::Decision), records.backlog().1), (64, 5000 - 64));
    with(1, Kind::Decision, agent(1), &records);
    assert_eq!(waiting(&records, Kind::Decision), 65);
    (2..100).for_each(|n| with(64, Kind::Decision, agent(n), &records));
    with(1, Kind::Decision, None, &records);
    assert_eq!(waiting(&records, Kind::Decision), 512);
    let lost = records.left().lost;
    with(4096 - 512, Kind::Outcome, agent(0), &records);
    assert_eq!(records.left().lost, lost, "the rest is for what was done");
    with(1, Kind::Outcome, agent(0), &records);
    assert_eq!((records.left().waiting.len(), records.left().lost), (4096, lost + 1));
}

#[test]
fn decisions_about_nobody_have_the_places_of_all() {
    let records = Records::new(Client::new("/nowhere"));
    with(1000, Kind::Decision, None, &records);
    assert_eq!((waiting(&records, Kind::Decision), records.left().lost), (512, 488));
}
