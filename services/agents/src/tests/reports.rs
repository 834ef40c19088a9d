//! What the kernel reports as denied to agents, from its records to what callers and the ledger see.

use super::life::until;
use super::restart::{life, spawn};
use super::world::{Machinery, World};
use crate::accesses::{Access, Domain};
use crate::calls::{Denied, Read};
use octant_api::agents::{AgentInfo, KillRequest};
use octant_api::ledger::Kind;
use serde_json::{Value, json};

/// More slots than an agent of these tests can be in.
const SLOTS: u32 = 64;

fn access(slot: u32, path: &str) -> Denied {
    let domain = 0x1000 + slot;
    let text = format!(
        "audit(1795872376.519:7): domain={domain:x} blockers=fs.read_file path=\"{path}\" dev=\"vda\" ino=6"
    );
    Denied::Access(Access::parse(text.as_bytes()).unwrap())
}

fn domain(slot: u32) -> Denied {
    Denied::Domain(Domain { number: u64::from(0x1000 + slot), slot })
}

fn take_in(world: &World, accesses: Vec<Denied>) -> AgentInfo {
    world.manager.take_in(Read { accesses, ..Read::default() });
    world.manager.info(world.manager.list(true)[0].aid).unwrap()
}

fn on_record(machinery: &Machinery) -> Vec<Value> {
    let said =
        machinery.ledger.of(Kind::Decision).into_iter().map(|entry| entry.payload.read::<Value>().unwrap());
    said.filter_map(|said| said.get("denied_accesses").cloned()).collect()
}

#[test]
fn what_landlock_denied_is_its_agents_over_a_restart_and_on_record_once() {
    let machinery = Machinery::new();
    life(&machinery, "b1", async |world: &World| {
        spawn(world, "one", "exec sleep 60").await;
        // The first denial of a domain comes before it is said whose it is; of every slot, since which it has is not told.
        let first = take_in(world, (0..SLOTS).map(|slot| access(slot, "/etc/a")).collect());
        assert_eq!(first.denied_accesses, []);
        let named = take_in(world, (0..SLOTS).map(domain).collect());
        assert_eq!(named.denied_accesses.len(), 1);
        let again = take_in(world, (0..SLOTS).map(|slot| access(slot, "/etc/a")).collect());
        assert_eq!((again.denied_accesses.len(), again.denied_accesses[0].count), (1, 2));
        until("it is on record", || on_record(&machinery) == [json!(["fs.read_file /etc/a"])]).await;
    });
    life(&machinery, "b1", async |world: &World| {
        let after = take_in(world, (0..SLOTS).map(|slot| access(slot, "/etc/b")).collect());
        let rows: Vec<String> = after.denied_accesses.iter().map(|row| row.name()).collect();
        assert_eq!(rows, ["fs.read_file /etc/a", "fs.read_file /etc/b"]);
        until("both are on record", || on_record(&machinery).len() == 2).await;
        assert_eq!(on_record(&machinery)[1], json!(["fs.read_file /etc/b"]));
        world.operator.call(&KillRequest { agent: "one".into(), grace_ms: 0 }).await.unwrap();
    });
}
