//! What goes between agents and the vault, with a vault that can be slow or not there.

use super::life::until;
use super::world::{Machinery, World, listen, signed};
use octant_api::agent::RevealRequest;
use octant_api::agents::{KillRequest, SpawnRequest};
use octant_api::error::{ApiError, Code};
use octant_api::rpc::{Dispatch, Interface, Meta, Method, Request, params, reply, unreachable_method};
use octant_api::vault::{self, OpenRequest, Opened, Released, RetireRequest, Token};
use octant_ids::{Aid, Principal};
use octant_wire::{Call, Client, Trigger, WireError, shutdown};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A vault that knows two methods.
#[derive(Debug, Default)]
struct Vault {
    /// Whether values stay here.
    holds: AtomicBool,
    opening: AtomicU64,
    /// Of whose ends it was told.
    retired: Mutex<Vec<Aid>>,
    /// Whose end it does not take.
    refused: Mutex<Option<Aid>>,
}

/// It, as something that can be served.
struct Served(Arc<Vault>);

impl Dispatch<Call> for Served {
    type Request = vault::Call;
    const INTERFACE: &'static Interface = vault::INTERFACE;

    fn parse(method: &'static Method, text: &str) -> Result<(vault::Call, Meta), ApiError> {
        match method.name {
            "vault.open" => params(method, text).map(|(request, meta)| (vault::Call::Open(request), meta)),
            "vault.retire" => {
                params(method, text).map(|(request, meta)| (vault::Call::Retire(request), meta))
            }
            _ => Err(unreachable_method(method)),
        }
    }

    async fn handle(&self, request: vault::Call, _: Call, out: &mut Vec<u8>) -> Result<(), ApiError> {
        if let vault::Call::Retire(RetireRequest { agent }) = request {
            if *self.0.refused.lock().unwrap() == Some(agent) {
                return Err(ApiError::new(Code::Failed, "retire", "vault", "not this one", ""));
            }
            self.0.retired.lock().unwrap().push(agent);
            return reply(RetireRequest::METHOD, &Released { leases: 0 }, out);
        }
        self.0.opening.fetch_add(1, Ordering::SeqCst);
        while self.0.holds.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let opened = Opened { version: 1, bytes: 0, username: String::new() };
        reply(OpenRequest::METHOD, &opened, out)
    }
}

impl Vault {
    /// Serves it until the trigger is gone.
    fn serve(self: &Arc<Self>, machinery: &Machinery) -> Trigger {
        let (trigger, stop) = shutdown();
        let path = machinery.scratch.path().join("vault.sock");
        listen(path, Served(Arc::clone(self)), Principal::Service("agents".parse().unwrap()), &stop);
        trigger
    }
}

async fn spawn(world: &World, name: &str) -> Aid {
    let request = SpawnRequest { envelope: signed(name, "exec sleep 60", &[]), task: None };
    world.operator.call(&request).await.unwrap().aid
}

fn code(error: WireError) -> Code {
    match error {
        WireError::Api(error) => error.code,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn one_value_at_a_time_is_on_its_way_to_an_agent() {
    let machinery = Machinery::new();
    let world = machinery.start("b1");
    let vault = Arc::new(Vault::default());
    let _serving = vault.serve(&machinery);
    let (one, other) = (spawn(&world, "one").await, spawn(&world, "other").await);
    let guest = |aid: Aid| Arc::new(Client::new(machinery.scratch.path().join(format!("{aid}.sock"))));
    let (one, other) = (guest(one), guest(other));
    let reveal = |guest: &Arc<Client>| {
        let guest = Arc::clone(guest);
        async move { guest.call_with(&RevealRequest { token: Token([1; 32]) }, &[]).await.map(drop) }
    };
    vault.holds.store(true, Ordering::SeqCst);
    let opening = || vault.opening.load(Ordering::SeqCst);
    let first = tokio::spawn(reveal(&one));
    until("the first is at the vault", || opening() == 1).await;
    for _ in 0..3 {
        assert_eq!(code(reveal(&one).await.unwrap_err()), Code::Busy);
    }
    let others = tokio::spawn(reveal(&other));
    until("another agent's is there too", || opening() == 2).await;
    // A call that the agent takes back leaves its place.
    first.abort();
    vault.holds.store(false, Ordering::SeqCst);
    others.await.unwrap().unwrap();
    for _ in 0..500 {
        match reveal(&one).await {
            Err(error) => assert_eq!(code(error), Code::Busy),
            Ok(()) => return,
        }
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    panic!("the place was not given back");
}

async fn end(world: &World, name: &str) -> Aid {
    let aid = spawn(world, name).await;
    let kill = KillRequest { agent: name.into(), grace_ms: 0 };
    world.operator.call(&kill).await.unwrap();
    aid
}

#[tokio::test]
async fn a_vault_that_appears_late_is_told_of_every_end_once() {
    let machinery = Machinery::new();
    let world = machinery.start("b1");
    let mut ended = vec![end(&world, "one").await, end(&world, "two").await];
    // It was tried and there was nobody.
    tokio::time::sleep(Duration::from_millis(400)).await;
    let vault = Arc::new(Vault::default());
    let serving = vault.serve(&machinery);
    let told = || vault.retired.lock().unwrap().clone();
    until("it is told of both", || told().len() == 2).await;
    ended.push(end(&world, "three").await);
    until("and of the next", || told().len() == 3).await;
    // The same after it was away for a while.
    drop(serving);
    ended.push(end(&world, "four").await);
    tokio::time::sleep(Duration::from_millis(100)).await;
    let _serving = vault.serve(&machinery);
    until("and of that while it was away", || told().len() == 4).await;
    ended.sort();
    let mut told = told();
    told.sort();
    assert_eq!(told, ended);
}

#[tokio::test]
async fn an_end_that_the_vault_does_not_take_holds_up_no_other() {
    let machinery = Machinery::new();
    let world = machinery.start("b1");
    let vault = Arc::new(Vault::default());
    let refused = spawn(&world, "one").await;
    *vault.refused.lock().unwrap() = Some(refused);
    let _serving = vault.serve(&machinery);
    let kill = KillRequest { agent: "one".into(), grace_ms: 0 };
    world.operator.call(&kill).await.unwrap();
    let other = end(&world, "other").await;
    until("it is told of the other", || *vault.retired.lock().unwrap() == [other]).await;
    *vault.refused.lock().unwrap() = None;
    until("and then of the first", || *vault.retired.lock().unwrap() == [other, refused]).await;
}

#[tokio::test]
async fn an_end_that_the_vault_was_not_told_of_it_is_told_of_after_a_restart() {
    let machinery = Machinery::new();
    let mut world = machinery.start("b1");
    let ended = end(&world, "one").await;
    until("nothing of it is left", || machinery.ledger.told().last().is_some_and(|last| last == "seal"))
        .await;
    world.stop().await;
    let vault = Arc::new(Vault::default());
    let _serving = vault.serve(&machinery);
    let _again = machinery.start("b1");
    until("it is told", || *vault.retired.lock().unwrap() == [ended]).await;
}
