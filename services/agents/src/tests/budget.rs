//! Budgets: drawn from by the gate, shared out over a family, and kept over a restart.

use super::approvals::machinery;
use super::family::{SLEEP, spawn, text};
use super::lend::{Gate, RUN};
use super::life::{api, until};
use super::restart::life;
use super::world::{Machinery, World, key};
use octant_api::agent::BudgetRequest as Own;
use octant_api::agents::{Amounts, BudgetRequest, BudgetRow};
use octant_api::egress::Settled;
use octant_api::error::Code;
use octant_ids::Aid;

const KIB: u64 = 1024;

fn hosts(bytes: &str) -> String {
    format!("hosts = [\"tls://a.example.org:443\"]\n{bytes}")
}

async fn agent(world: &World, bytes: &str) -> Aid {
    let text = text("lead", SLEEP, 2, 4, &[("hosts = []", &hosts(bytes))]);
    let envelope = octant_manifest::sign(text.as_bytes(), &[&key()]);
    world.spawn(String::from_utf8(envelope).unwrap()).await.unwrap().aid
}

fn child(bytes: &str) -> String {
    text("child", SLEEP, 1, 1, &[("hosts = []", &hosts(bytes))])
}

/// The row of bytes.
async fn row(world: &World, aid: Aid) -> BudgetRow {
    let info = world.operator.call(&BudgetRequest { agent: aid.to_string() }).await.unwrap();
    info.budgets.into_iter().find(|row| row.budget == "network.bytes").unwrap()
}

/// Used, reserved, used below, left.
async fn stands(world: &World, aid: Aid) -> (u64, u64, u64, Option<u64>) {
    let row = row(world, aid).await;
    (row.used, row.reserved, row.below, row.left)
}

fn settle(gate: &Gate, aid: Aid, run: &str, bytes: u64) {
    let used = Amounts { bytes, ..Amounts::default() };
    gate.last.lock().unwrap().insert(aid, Settled { run: run.into(), used });
}

#[tokio::test]
async fn what_is_drawn_is_reserved_and_settled_at_the_end() {
    let machinery = machinery();
    let (gate, _running) = Gate::start(&machinery);
    let world = machinery.start("b1");
    let aid = agent(&world, "bytes = \"100KiB\"").await;
    assert!(gate.words.lock().unwrap()[&aid].caps.drawn);
    assert_eq!(row(&world, aid).await.given, Some(100 * KIB));
    assert_eq!(gate.draw(aid, 0, 60 * KIB).await, 60 * KIB);
    assert_eq!(stands(&world, aid).await, (0, 60 * KIB, 0, Some(40 * KIB)));
    assert_eq!(gate.draw(aid, 10 * KIB, 60 * KIB).await, 60 * KIB, "asked twice it is reserved once");
    assert_eq!(stands(&world, aid).await, (10 * KIB, 50 * KIB, 0, Some(40 * KIB)));
    assert_eq!(gate.draw(aid, 60 * KIB, 200 * KIB).await, 100 * KIB, "all that there is");
    assert_eq!(machinery.guest(aid).call(&Own {}).await.unwrap().budgets[2], row(&world, aid).await);
    settle(&gate, aid, RUN, 70 * KIB);
    world.kill(&aid.to_string(), 0).await;
    until("the gate is told", || gate.dismissed.lock().unwrap().contains(&aid)).await;
    until("it is settled", || world.manager.budget(aid).unwrap().budgets[2].reserved == 0).await;
    assert_eq!(row(&world, aid).await.used, 70 * KIB);
}

#[tokio::test]
async fn a_childs_budget_is_its_parents_and_comes_back_but_for_what_it_used() {
    let machinery = machinery();
    let (gate, _running) = Gate::start(&machinery);
    let world = machinery.start("b1");
    let parent = agent(&world, "bytes = \"100KiB\"").await;
    let endless = spawn(&machinery, parent, child("")).await.unwrap_err();
    assert!(endless.message.contains("network.bytes: no end asked"), "{endless}");
    assert_eq!(endless.code, Code::Denied);
    let too_much = spawn(&machinery, parent, child("bytes = \"101KiB\"\nrequests = 1")).await.unwrap_err();
    assert!(too_much.message.contains("network.bytes"), "{too_much}");
    let young = spawn(&machinery, parent, child("bytes = \"30KiB\"")).await.unwrap().aid;
    assert_eq!(stands(&world, parent).await, (0, 0, 0, Some(70 * KIB)));
    assert_eq!(gate.draw(young, 0, 50 * KIB).await, 30 * KIB, "to the unit");
    assert_eq!(gate.draw(parent, 0, 80 * KIB).await, 64 * KIB, "not all at once");
    assert_eq!(gate.draw(parent, 0, 80 * KIB).await, 70 * KIB);
    gate.draw(young, 20 * KIB, 50 * KIB).await;
    assert_eq!(stands(&world, parent).await, (0, 70 * KIB, 20 * KIB, Some(0)), "what is below is seen");
    settle(&gate, young, RUN, 25 * KIB);
    world.kill(&young.to_string(), 0).await;
    until("it is settled", || world.manager.budget(parent).unwrap().budgets[2].below == 25 * KIB).await;
    assert_eq!(stands(&world, parent).await, (0, 70 * KIB, 25 * KIB, Some(5 * KIB)));
    assert_eq!(gate.draw(parent, 70 * KIB, 100 * KIB).await, 75 * KIB, "what came back can be used");
}

#[tokio::test]
async fn without_a_last_word_all_that_was_drawn_counts_as_used() {
    let machinery = machinery();
    let (gate, _running) = Gate::start(&machinery);
    let world = machinery.start("b1");
    let parent = agent(&world, "bytes = \"100KiB\"").await;
    for (word, used) in [(None, 30), (Some("another run"), 60)] {
        let young = spawn(&machinery, parent, child("bytes = \"30KiB\"")).await.unwrap().aid;
        gate.draw(young, 0, 50 * KIB).await;
        if let Some(run) = word {
            settle(&gate, young, run, 1);
        }
        world.kill(&young.to_string(), 0).await;
        let below = || world.manager.budget(parent).unwrap().budgets[2].below;
        until("it is settled", || below() == used * KIB).await;
    }
    assert_eq!(stands(&world, parent).await, (0, 0, 60 * KIB, Some(40 * KIB)));
}

#[test]
fn what_was_used_stays_used_over_a_restart() {
    let machinery = machinery();
    let aid = life(&machinery, "b1", async |world: &World| {
        let (gate, _running) = Gate::start(&machinery);
        let aid = agent(world, "bytes = \"100KiB\"").await;
        until("the gate is followed", || !gate.words.lock().unwrap().is_empty()).await;
        assert_eq!(gate.draw(aid, 0, 60 * KIB).await, 60 * KIB);
        assert_eq!(gate.draw(aid, 50 * KIB, 70 * KIB).await, 70 * KIB);
        aid
    });
    life(&machinery, "b1", async |world: &World| {
        let (gate, _running) = Gate::start(&machinery);
        assert_eq!(stands(world, aid).await, (50 * KIB, 20 * KIB, 0, Some(30 * KIB)));
        assert_eq!(gate.draw(aid, 60 * KIB, 200 * KIB).await, 100 * KIB, "the gate went on meanwhile");
        assert_eq!(stands(world, aid).await, (60 * KIB, 40 * KIB, 0, Some(0)));
    });
}

#[tokio::test]
async fn what_cannot_be_kept_is_not_given() {
    let machinery: Machinery = machinery();
    let (gate, _running) = Gate::start(&machinery);
    let world = machinery.start("b1");
    let aid = agent(&world, "bytes = \"100KiB\"").await;
    let path = machinery.scratch.path().join(format!("state/{aid}.json"));
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    assert_eq!(gate.draw(aid, 0, 60 * KIB).await, 0);
    std::fs::remove_dir(&path).unwrap();
    assert_eq!(stands(&world, aid).await, (0, 0, 0, Some(100 * KIB)), "nothing is lost");
    assert_eq!(gate.draw(aid, 0, 60 * KIB).await, 60 * KIB);
    let none = world.operator.call(&BudgetRequest { agent: "nobody".into() }).await.map_err(api).unwrap_err();
    assert_eq!(none.code, Code::NotFound);
}
