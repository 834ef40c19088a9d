//! Tests of the whole service over real sockets, with a ledger and a spawner of their own.

mod approvals;
mod artefacts;
mod budget;
mod family;
mod hold;
mod lend;
mod life;
mod mcp;
mod messages;
mod models;
mod prepared;
mod reports;
mod restart;
mod secrets;
mod served;
mod ssh;
mod trust;
mod words;
mod world;

use octant_api::agents::{AgentInfo, AgentState};
use octant_ids::{Aid, Sha256};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// A directory of its own, removed at the end.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("octant-agents-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What is known of an agent of which little is known.
pub(crate) fn info(aid: Aid) -> AgentInfo {
    AgentInfo {
        aid,
        name: "hello".into(),
        role: "analyst".into(),
        operator: "ada".into(),
        state: AgentState::Provisioned,
        parent: None,
        depth: 0,
        pid: None,
        exit: None,
        reason: None,
        cpu_percent: None,
        prepared: false,
        started_ms: None,
        ended_ms: None,
        manifest_digest: Sha256::ZERO,
        workspace: None,
        fork_of: None,
        artefacts: None,
        snapshots: Vec::new(),
        missing_layers: Vec::new(),
        layers: Vec::new(),
        denials: Vec::new(),
        denied_calls: Vec::new(),
        calls_unreported: None,
        denied_accesses: Vec::new(),
        accesses_unreported: None,
        grants: Vec::new(),
    }
}
