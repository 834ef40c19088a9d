//! Models that agents may ask, with a router that keeps what it is told.

use super::approvals::machinery;
use super::family::{SLEEP, text};
use super::life::until;
use super::world::{Machinery, World, key, listen};
use octant_api::agents::{Amounts, BudgetRequest};
use octant_api::egress::{Draw, Instance, Settled, Told};
use octant_api::error::ApiError;
use octant_api::router::{
    self, AdmitRequest, Admitted, DataClass, DismissRequest, Dismissed, ExplainRequest, Explained,
    FundRequest, Funded, Handler, IssueRequest, Issued, KeysFound, KeysRequest, ListenRequest, Listening,
    Metrics, MetricsRequest, Providers, ProvidersRequest, ReloadRequest, Reloaded, RevokeRequest, Revoked,
    Status, StatusRequest, TestRequest, Tested, UsageRequest, Used, WatchRequest, Watched,
};
use octant_ids::{Aid, Principal};
use octant_wire::{Call, Sink, Trigger, shutdown};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const RUN: &str = "r1";

/// A router that keeps the last word about each agent.
#[derive(Debug, Default)]
struct Router {
    words: Mutex<BTreeMap<Aid, AdmitRequest>>,
    listeners: Mutex<Vec<Aid>>,
    wishes: Mutex<Vec<Draw>>,
    funded: Mutex<Vec<Amounts>>,
    last: Mutex<BTreeMap<Aid, Settled>>,
    dismissed: Mutex<Vec<Aid>>,
}

impl Router {
    fn start(machinery: &Machinery) -> (Arc<Self>, Trigger) {
        let router = Arc::new(Self::default());
        let (trigger, stop) = shutdown();
        let agents = Principal::Service("agents".parse().unwrap());
        let at = machinery.scratch.path().join("router.sock");
        listen(at, router::Server(Arc::clone(&router)), agents, &stop);
        (router, trigger)
    }

    async fn draw(&self, aid: Aid, used: u64, want: u64) -> u64 {
        let before = self.funded.lock().unwrap().len();
        let tokens = |tokens| Amounts { tokens, bytes: 999, ..Amounts::default() };
        self.wishes.lock().unwrap().push(Draw { aid, used: tokens(used), want: tokens(want) });
        until("the answer", || self.funded.lock().unwrap().len() > before).await;
        self.funded.lock().unwrap()[before].tokens
    }
}

impl Handler<Call> for Router {
    async fn admit(&self, asked: AdmitRequest, _: Call) -> Result<Admitted, ApiError> {
        let listens = self.listeners.lock().unwrap().contains(&asked.aid);
        self.words.lock().unwrap().insert(asked.aid, asked);
        Ok(Admitted { cut: 0, listens })
    }

    async fn listen(&self, asked: ListenRequest, mut call: Call) -> Result<Listening, ApiError> {
        assert_eq!(call.take_fds().len(), 2, "the sockets come with it, again after a restart");
        self.listeners.lock().unwrap().push(asked.aid);
        Ok(Listening {})
    }

    async fn dismiss(&self, asked: DismissRequest, _: Call) -> Result<Dismissed, ApiError> {
        self.dismissed.lock().unwrap().push(asked.aid);
        Ok(Dismissed { settled: self.last.lock().unwrap().remove(&asked.aid) })
    }

    async fn fund(&self, asked: FundRequest, _: Call) -> Result<Funded, ApiError> {
        assert_eq!(asked.run, RUN);
        self.funded.lock().unwrap().push(asked.limit);
        Ok(Funded {})
    }

    async fn watch(&self, _: WatchRequest, items: Sink<Told>, _: Call) -> Result<Watched, ApiError> {
        items.send(&Told::Began(Instance { instance: RUN.into(), agents: Vec::new() })).await?;
        loop {
            let wishes = std::mem::take(&mut *self.wishes.lock().unwrap());
            for wish in wishes {
                items.send(&Told::Draw(wish)).await?;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    async fn status(&self, _: StatusRequest, _: Call) -> Result<Status, ApiError> {
        Ok(Status::default())
    }

    async fn providers(&self, _: ProvidersRequest, _: Call) -> Result<Providers, ApiError> {
        Ok(Providers::default())
    }

    async fn explain(&self, _: ExplainRequest, _: Call) -> Result<Explained, ApiError> {
        Ok(Explained::default())
    }

    async fn usage(&self, _: UsageRequest, _: Call) -> Result<Used, ApiError> {
        Ok(Used::default())
    }

    async fn metrics(&self, _: MetricsRequest, _: Call) -> Result<Metrics, ApiError> {
        Ok(Metrics::default())
    }

    async fn test(&self, _: TestRequest, _: Call) -> Result<Tested, ApiError> {
        Ok(Tested::default())
    }

    async fn issue(&self, _: IssueRequest, _: Call) -> Result<Issued, ApiError> {
        Ok(Issued { key: String::new() })
    }

    async fn keys(&self, _: KeysRequest, _: Call) -> Result<KeysFound, ApiError> {
        Ok(KeysFound::default())
    }

    async fn revoke(&self, _: RevokeRequest, _: Call) -> Result<Revoked, ApiError> {
        Ok(Revoked::default())
    }

    async fn reload(&self, _: ReloadRequest, _: Call) -> Result<Reloaded, ApiError> {
        Ok(Reloaded::default())
    }
}

async fn agent(world: &World, models: &str) -> Aid {
    let text = text("asker", SLEEP, 1, 1, &[("[models]\nallowed = []", models)]);
    let envelope = octant_manifest::sign(text.as_bytes(), &[&key()]);
    world.spawn(String::from_utf8(envelope).unwrap()).await.unwrap().aid
}

#[tokio::test]
async fn the_router_is_told_of_an_agent_gets_its_listener_and_draws_from_its_budgets() {
    let machinery = machinery();
    let (router, _running) = Router::start(&machinery);
    let world = machinery.start("b1");
    let models = "[models]\nallowed = [\"small\", \"a/*\"]\ntokens = 50000\nspend_usd = 0.5\ndata = \"local\"\ncache = true\ntokens_per_day = 30000";
    let aid = agent(&world, models).await;
    until("it listens", || router.listeners.lock().unwrap().contains(&aid)).await;
    let word = router.words.lock().unwrap()[&aid].clone();
    assert_eq!(word.models, ["a/*", "small"]);
    assert_eq!((word.data, word.cache, word.keep_prompts), (DataClass::Local, true, false));
    assert_eq!((word.tokens_per_minute, word.microusd_per_minute), (50_000, 500_000));
    assert_eq!((word.tokens_per_day, word.microusd_per_day, word.above.len()), (Some(30_000), None, 0));
    // Tokens and money are its to draw, and nothing else.
    assert_eq!(router.draw(aid, 0, 16_384).await, 16_384);
    assert_eq!(router.funded.lock().unwrap()[0].bytes, 0);
    assert_eq!(router.draw(aid, 10_000, 16_384).await, 16_384, "asked twice it is reserved once");
    let used = Amounts { tokens: 12_000, ..Amounts::default() };
    router.last.lock().unwrap().insert(aid, Settled { run: RUN.into(), used });
    world.kill(&aid.to_string(), 0).await;
    until("the router is told", || router.dismissed.lock().unwrap().contains(&aid)).await;
    let row = || world.manager.budget(aid).unwrap().budgets[0].clone();
    until("it is settled", || row().reserved == 0).await;
    assert_eq!((row().budget.as_str(), row().used), ("models.tokens", 12_000));
    let info = world.operator.call(&BudgetRequest { agent: aid.to_string() }).await.unwrap();
    assert_eq!(info.budgets[0].used, 12_000);
}

#[tokio::test]
async fn an_agent_without_models_is_none_of_the_routers() {
    let machinery = machinery();
    let (router, _running) = Router::start(&machinery);
    let world = machinery.start("b1");
    let aid = agent(&world, "[models]\nallowed = []").await;
    world.kill(&aid.to_string(), 0).await;
    until("it ended", || world.manager.budget(aid).unwrap().budgets[0].reserved == 0).await;
    assert!(router.words.lock().unwrap().is_empty() && router.dismissed.lock().unwrap().is_empty());
}
