//! What goes between agents and the vault, with a vault that can be slow or not there.

use super::life::until;
use super::world::{Machinery, World, listen, signed};
use octant_api::agent::RevealRequest;
use octant_api::agents::SpawnRequest;
use octant_api::error::{ApiError, Code};
use octant_api::rpc::{Dispatch, Interface, Meta, Method, Request, params, reply, unreachable_method};
use octant_api::vault::{self, OpenRequest, Opened, Token};
use octant_ids::{Aid, Principal};
use octant_wire::{Call, Client, Trigger, WireError, shutdown};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// A vault that knows two methods.
#[derive(Debug, Default)]
struct Vault {
    /// Whether values stay here.
    holds: AtomicBool,
    opening: AtomicU64,
}

/// It, as something that can be served.
struct Served(Arc<Vault>);

impl Dispatch<Call> for Served {
    type Request = vault::Call;
    const INTERFACE: &'static Interface = vault::INTERFACE;

    fn parse(method: &'static Method, text: &str) -> Result<(vault::Call, Meta), ApiError> {
        match method.name {
            "vault.open" => params(method, text).map(|(request, meta)| (vault::Call::Open(request), meta)),
            _ => Err(unreachable_method(method)),
        }
    }

    async fn handle(&self, _: vault::Call, _: Call, out: &mut Vec<u8>) -> Result<(), ApiError> {
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
    let request = SpawnRequest { envelope: signed(name, "exec sleep 60", &[]) };
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
