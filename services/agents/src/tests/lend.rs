//! Hosts that agents ask for, with a gate that keeps what it is told.

use super::approvals::machinery;
use super::family::{SLEEP, payload, spawn, text};
use super::life::{api, until};
use super::world::{Machinery, World, key, listen};
use octant_api::agent::{BorrowRequest, ReturnRequest};
use octant_api::agents::{Amounts, LendRequest, TakeBackRequest};
use octant_api::egress::{
    self, AdmitRequest, Admitted, AtGates, DismissRequest, Dismissed, Draw, FundRequest, Funded, Handler,
    HostLease, Instance, ListRequest, ListenRequest, Listening, Preview, PreviewRequest, Settled, Told,
    WatchRequest, Watched,
};
use octant_api::error::{ApiError, Code};
use octant_api::ledger::Kind;
use octant_ids::{Aid, Principal};
use octant_wire::{Call, Sink, Trigger, shutdown};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The run of the gate.
pub(super) const RUN: &str = "i1";

/// A gate that keeps the last word about each agent.
#[derive(Debug, Default)]
pub(super) struct Gate {
    pub(super) words: Mutex<BTreeMap<Aid, AdmitRequest>>,
    /// What is to be drawn, and what was answered.
    wishes: Mutex<Vec<Draw>>,
    funded: Mutex<BTreeMap<Aid, Vec<Amounts>>>,
    /// Its last word about each agent that is dismissed.
    pub(super) last: Mutex<BTreeMap<Aid, Settled>>,
    pub(super) dismissed: Mutex<Vec<Aid>>,
}

impl Gate {
    pub(super) fn start(machinery: &Machinery) -> (Arc<Self>, Trigger) {
        let gate = Arc::new(Self::default());
        let (trigger, stop) = shutdown();
        let agents = Principal::Service("agents".parse().unwrap());
        listen(
            machinery.scratch.path().join("egress.sock"),
            egress::Server(Arc::clone(&gate)),
            agents,
            &stop,
        );
        (gate, trigger)
    }

    /// Draws for an agent: says what was used and wants more; up to how much it may use then.
    pub(super) async fn draw(&self, aid: Aid, used: u64, want: u64) -> u64 {
        let answers = || self.funded.lock().unwrap().get(&aid).cloned().unwrap_or_default();
        let before = answers().len();
        let bytes = |bytes| Amounts { bytes, ..Amounts::default() };
        self.wishes.lock().unwrap().push(Draw { aid, used: bytes(used), want: bytes(want) });
        until("the answer", || answers().len() > before).await;
        answers()[before].bytes
    }

    /// The hosts that an agent is lent.
    fn lent(&self, aid: Aid) -> Vec<String> {
        let words = self.words.lock().unwrap();
        words[&aid].leases.iter().map(|lease| lease.host.clone()).collect()
    }
}

impl Handler<Call> for Gate {
    async fn admit(&self, asked: AdmitRequest, _: Call) -> Result<Admitted, ApiError> {
        self.words.lock().unwrap().insert(asked.aid, asked);
        Ok(Admitted { cut: 1, missing: Vec::new(), authority: None })
    }

    async fn listen(&self, _: ListenRequest, _: Call) -> Result<Listening, ApiError> {
        Ok(Listening {})
    }

    async fn dismiss(&self, asked: DismissRequest, _: Call) -> Result<Dismissed, ApiError> {
        self.dismissed.lock().unwrap().push(asked.aid);
        let settled = self.last.lock().unwrap().remove(&asked.aid);
        Ok(Dismissed { settled, ..Dismissed::default() })
    }

    async fn fund(&self, asked: FundRequest, _: Call) -> Result<Funded, ApiError> {
        assert_eq!(asked.run, RUN);
        self.funded.lock().unwrap().entry(asked.aid).or_default().push(asked.limit);
        Ok(Funded {})
    }

    async fn watch(&self, _: WatchRequest, items: Sink<Told>, _: Call) -> Result<Watched, ApiError> {
        let agents = Vec::new();
        items.send(&Told::Began(Instance { instance: RUN.into(), agents })).await?;
        loop {
            let wishes = std::mem::take(&mut *self.wishes.lock().unwrap());
            for wish in wishes {
                items.send(&Told::Draw(wish)).await?;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    async fn preview(&self, asked: PreviewRequest, _: Call) -> Result<Preview, ApiError> {
        let (host, rule) = (asked.url, String::new());
        Ok(Preview { allowed: false, host, port: 443, rule, why: "no".into(), next: "ask".into() })
    }

    async fn list(&self, _: ListRequest, _: Call) -> Result<AtGates, ApiError> {
        Ok(AtGates::default())
    }
}

const ASKABLE: (&str, &str) = ("hosts = []", "hosts = []\nleases = [\"tls://*.example.org:443\"]");

async fn agent(world: &World, change: &[(&str, &str)]) -> Aid {
    let text = text("lead", SLEEP, 2, 4, &[&[ASKABLE], change].concat());
    let envelope = octant_manifest::sign(text.as_bytes(), &[&key()]);
    world.spawn(String::from_utf8(envelope).unwrap()).await.unwrap().aid
}

fn wish(host: &str) -> BorrowRequest {
    let (ttl_ms, reason) = (60_000, "to read the list".to_owned());
    BorrowRequest { host: host.into(), ttl_ms, bytes: Some(1000), connections: None, reason }
}

async fn borrow(machinery: &Machinery, aid: Aid, host: &str) -> Result<HostLease, ApiError> {
    machinery.guest(aid).call(&wish(host)).await.map_err(api)
}

#[tokio::test]
async fn an_agent_is_lent_what_its_manifest_lets_it_ask_for_and_nothing_else() {
    let machinery = machinery();
    let (gate, _running) = Gate::start(&machinery);
    let world = machinery.start("b1");
    let aid = agent(&world, &[]).await;
    assert_eq!(gate.lent(aid), [] as [&str; 0], "it has a network, in which there is nothing");
    let lease = borrow(&machinery, aid, "tls://a.example.org:443").await.unwrap();
    assert_eq!((lease.by.as_str(), lease.bytes), (Principal::Agent(aid).to_string().as_str(), Some(1000)));
    assert_eq!(gate.lent(aid), ["tls://a.example.org:443"]);
    let entry =
        machinery.ledger.of(Kind::Grant).into_iter().find(|e| payload(e)["do"] == "lend a host").unwrap();
    assert_eq!((entry.actor, &payload(&entry)["lease"]["id"]), (Some(aid), &json!(lease.id)));
    for (host, code) in [
        ("tls://example.com:443", Code::Denied),
        ("tcp://a.example.org:443", Code::Denied),
        ("tls://a.example.org:444", Code::Denied),
        ("tls://*.example.org:443", Code::InvalidParams),
        ("https://a.example.org", Code::InvalidParams),
    ] {
        let error = borrow(&machinery, aid, host).await.unwrap_err();
        assert_eq!(error.code, code, "{host}: {error}");
    }
    machinery.ledger.refuse(Some(0));
    assert_eq!(borrow(&machinery, aid, "tls://b.example.org:443").await.unwrap_err().code, Code::Unavailable);
    machinery.ledger.refuse(None);
    assert_eq!(gate.lent(aid), ["tls://a.example.org:443"], "nothing without a record");
    let back = ReturnRequest { lease: lease.id.clone() };
    assert_eq!(machinery.guest(aid).call(&back).await.unwrap().cut, 1);
    assert_eq!(gate.lent(aid), [] as [&str; 0]);
    assert_eq!(machinery.guest(aid).call(&back).await.map_err(api).unwrap_err().code, Code::NotFound);
}

#[tokio::test]
async fn where_the_manifest_says_so_an_operator_is_asked_for_exactly_this() {
    let machinery = machinery();
    let (gate, _running) = Gate::start(&machinery);
    let world = machinery.start("b1");
    let aid = agent(&world, &[("required = []", "required = [\"lease:tls://*\"]")]).await;
    let host = "tls://a.example.org:443";
    let outside = borrow(&machinery, aid, "tls://example.com:443").await.unwrap_err();
    assert_eq!(outside.code, Code::Denied, "nobody is asked about what cannot be had");
    let asked = world.asked(borrow(&machinery, aid, host).await.unwrap_err()).await;
    assert_eq!((asked.action.as_str(), asked.agent), ("lease:tls://a.example.org:443", Some(aid)));
    assert!(asked.what.as_ref().unwrap().text().contains("to read the list"), "the reason is shown");
    world.allow(&asked).await;
    let other = BorrowRequest { ttl_ms: 120_000, ..wish(host) };
    let other = machinery.guest(aid).call(&other).await.map_err(api).unwrap_err();
    assert_eq!(other.code, Code::ApprovalNeeded, "longer is something else");
    assert_eq!(gate.lent(aid), [] as [&str; 0]);
    borrow(&machinery, aid, host).await.unwrap();
    assert_eq!(gate.lent(aid), [host]);
    let entry =
        machinery.ledger.of(Kind::Grant).into_iter().find(|e| payload(e)["do"] == "lend a host").unwrap();
    assert_eq!(payload(&entry)["approval"]["id"], json!(asked.id));
    assert_eq!(borrow(&machinery, aid, host).await.unwrap_err().code, Code::ApprovalNeeded, "it counts once");
}

#[tokio::test]
async fn a_child_asks_within_its_parents_and_loses_with_it() {
    let machinery = machinery();
    let (gate, _running) = Gate::start(&machinery);
    let world = machinery.start("b1");
    let parent = agent(&world, &[]).await;
    let wants =
        [("hosts = []", "hosts = []\nleases = [\"tls://a.example.org:443\", \"tls://example.com:443\"]")];
    let child = spawn(&machinery, parent, text("child", SLEEP, 1, 1, &wants)).await.unwrap();
    let narrowed = child.narrowed.iter().find(|row| row.field == "network.leases").unwrap();
    assert_eq!(narrowed.got, "[\"tls://a.example.org:443\"]");
    let child = child.aid;
    assert_eq!(borrow(&machinery, child, "tls://example.com:443").await.unwrap_err().code, Code::Denied);
    let lend = LendRequest {
        agent: parent.to_string(),
        host: "tls://*.example.org:443".into(),
        ttl_ms: 60_000,
        bytes: None,
        connections: None,
        reason: "all of it".into(),
    };
    let lease = world.operator.call(&lend).await.unwrap();
    borrow(&machinery, child, "tls://a.example.org:443").await.unwrap();
    assert_eq!(gate.lent(child), ["tls://a.example.org:443"]);
    let back = TakeBackRequest { agent: parent.to_string(), lease: lease.id };
    assert_eq!(world.operator.call(&back).await.unwrap().cut, 2, "of both");
    assert_eq!((gate.lent(parent), gate.lent(child)), (vec![], vec![]), "children are cut with their parent");
}
