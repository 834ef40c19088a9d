//! The entry for fuzzing.

use crate::frame;
use crate::scan::Scanner;
use octant_api::rpc::Interface;
use octant_api::{agent, agents, ledger};

/// Reads arbitrary bytes as a server reads a line: scanner, frame, then the parameters of every method.
/// It must return for every input.
pub fn fuzz_line(bytes: &[u8]) {
    let mut scanner = Scanner::default();
    let line = scanner.feed(bytes).map_or(bytes, |end| &bytes[..end]);
    let Ok(incoming) = frame::read_request(line, scanner.deepest()) else { return };
    let tables: [&Interface; 3] = [ledger::INTERFACE, agents::INTERFACE, agent::INTERFACE];
    for method in tables.iter().flat_map(|table| table.methods) {
        // Only that they return matters here.
        let _ = octant_api::rpc::params::<ledger::AppendRequest>(method, incoming.params);
        let _ = octant_api::rpc::params::<ledger::QueryRequest>(method, incoming.params);
        let _ = octant_api::rpc::params::<ledger::TailRequest>(method, incoming.params);
        let _ = octant_api::rpc::params::<agents::SpawnRequest>(method, incoming.params);
        let _ = octant_api::rpc::params::<agents::LogsRequest>(method, incoming.params);
        let _ = octant_api::rpc::params::<agent::NoteRequest>(method, incoming.params);
        let _ = octant_api::rpc::params::<agent::SpawnRequest>(method, incoming.params);
        let _ = octant_api::rpc::params::<agent::SendRequest>(method, incoming.params);
    }
}
