//! Random interleavings: whatever agents, services and restarts do to each other, the log verifies, every entry can be
//! proven, and every checkpoint is continued by the next.

use super::{Dir, STAMP, draft, verify};
use crate::core;
use crate::store::{Item, Options, Store};
use octant_api::ledger::{AppendRequest, Kind};
use octant_api::text::Json;
use octant_ids::{Aid, Principal};
use octant_tlog::checkpoint::Checkpoint;
use octant_tlog::entry::{BootId, Draft};
use octant_tlog::merkle::{consistency, inclusion, verify_consistency, verify_inclusion};
use octant_tlog::state::Tip;
use proptest::prelude::*;
use std::path::Path;

#[derive(Debug, Clone)]
enum Op {
    Append(Vec<Step>),
    Publish,
    Reopen { boot: u8 },
    SealStale,
}

#[derive(Debug, Clone)]
enum Step {
    Open(u8),
    Note(u8),
    About(u8),
    Seal(u8),
    Intent,
    Outcome(u64),
    Erasable,
    Long(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let who = 0_u8..4;
    prop_oneof![
        2 => who.clone().prop_map(Step::Open),
        4 => who.clone().prop_map(Step::Note),
        2 => who.clone().prop_map(Step::About),
        1 => who.prop_map(Step::Seal),
        2 => Just(Step::Intent),
        2 => (1_u64..60).prop_map(Step::Outcome),
        1 => Just(Step::Erasable),
        1 => (0_usize..3000).prop_map(Step::Long),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => prop::collection::vec(step(), 1..12).prop_map(Op::Append),
        2 => Just(Op::Publish),
        1 => (0_u8..3).prop_map(|boot| Op::Reopen { boot }),
        1 => Just(Op::SealStale),
    ]
}

fn item(step: &Step) -> Item {
    let agent = |n: u8| Aid::new(u64::from(n), [n; 10]);
    let about = |n: u8, kind| Draft { kind, agent: Some(agent(n)), ..draft("x") };
    match step {
        Step::Open(n) => about(*n, Kind::Lifecycle).into(),
        Step::Note(n) => Draft { actor: Principal::Agent(agent(*n)), ..about(*n, Kind::Note) }.into(),
        Step::About(n) => about(*n, Kind::Grant).into(),
        Step::Seal(n) => about(*n, Kind::Seal).into(),
        Step::Intent => Draft { kind: Kind::Intent, ..draft("x") }.into(),
        Step::Outcome(seq) => Draft { kind: Kind::Outcome, intent: Some(*seq), ..draft("x") }.into(),
        Step::Long(len) => draft(&"y".repeat(*len)).into(),
        Step::Erasable => {
            let request =
                AppendRequest { erasable: true, ..AppendRequest::new(Kind::Note, Json::of("z").unwrap()) };
            let caller = Principal::Service("vault".parse().unwrap());
            core::item(&caller, request, Tip::START, || Ok([1; 32])).unwrap()
        }
    }
}

fn open(dir: &Path, boot: BootId) -> Store {
    Store::open(dir, boot, Options { segment_bytes: 5000, ..Options::default() }).unwrap().0
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_interleaving_verifies_and_proves(ops in prop::collection::vec(op(), 1..24)) {
        let dir = Dir::quick();
        let mut store = open(&dir.0, [0; 16]);
        let (mut expected, mut checkpoints) = (0, Vec::<Checkpoint>::new());
        for op in &ops {
            match op {
                Op::Append(steps) => {
                    let items: Vec<Item> = steps.iter().map(item).collect();
                    let done = store.commit(&items, STAMP).unwrap();
                    let seqs: Vec<u64> = done.iter().filter_map(|done| done.as_ref().ok()).map(|d| d.seq).collect();
                    prop_assert_eq!(&seqs, &(expected + 1..=expected + seqs.len() as u64).collect::<Vec<_>>());
                    expected += seqs.len() as u64;
                }
                Op::Publish => {
                    store.publish(true).unwrap();
                    checkpoints.extend(store.reader().publication().latest.map(|signed| signed.checkpoint));
                }
                Op::Reopen { boot } => {
                    drop(store);
                    store = open(&dir.0, [*boot; 16]);
                    prop_assert_eq!(store.reader().refusal(), None);
                }
                Op::SealStale => expected += store.seal_stale().unwrap() as u64,
            }
            prop_assert_eq!(store.reader().tip().seq, expected);
        }
        let report = verify(&store.reader());
        prop_assert_eq!((report.entries, report.damage), (expected, None));
        let reader = store.reader();
        let nodes = reader.nodes(expected);
        for seq in 1..=expected {
            let proof = inclusion(&nodes, seq - 1, expected).unwrap();
            let leaf = reader.leaf(seq).unwrap();
            prop_assert_eq!(verify_inclusion(&leaf, seq - 1, expected, &proof, &report.root), Ok(()));
        }
        for pair in checkpoints.windows(2) {
            let [old, new] = pair else { continue };
            let proof = consistency(&reader.nodes(new.size), old.size, new.size).unwrap();
            let verified = verify_consistency(old.size, &old.root, new.size, &new.root, &proof);
            prop_assert_eq!(verified, Ok(()));
        }
    }
}
