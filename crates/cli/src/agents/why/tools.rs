//! Which tools of others an agent called and could not have, as it stands in the ledger.

use super::Denied;
use crate::ledger;
use crate::service::Service;
use octant_api::ledger::{Entry, Kind, QueryRequest};
use octant_ids::{Aid, Principal};
use serde::Deserialize;
use std::collections::BTreeMap;

/// How many entries are read.
const ENTRIES_MAX: u32 = 20_000;
/// How many different denials are shown.
const ROWS_MAX: usize = 512;
const FIELD: &str = "skills.tools";

/// What is written of such a call.
#[derive(Deserialize)]
struct Payload {
    tool: String,
    denied: String,
    next: String,
}

/// The denials of one agent: tool and reason, with how often and what would help.
#[derive(Default)]
pub(super) struct Denials {
    rows: BTreeMap<(String, String), (u64, String)>,
    /// Why there may be more of them.
    pub(super) missing: Option<String>,
}

/// Reads them from the ledger. Where that does not say, it is said.
pub(super) fn read(service: &Service, aid: Aid) -> Denials {
    let mut denials = Denials::default();
    let request = QueryRequest {
        actor: "agents".parse().ok().map(Principal::Service),
        agent: Some(aid),
        kinds: vec![Kind::Decision],
        ..QueryRequest::default()
    };
    let more = ledger::each(service, request, ENTRIES_MAX, |entry| {
        denials.see(&entry);
        Ok(())
    });
    match more {
        Ok(None) => {}
        Ok(Some(from)) => {
            denials.missing = Some(format!(
                "calls of tools that were denied after its first {ENTRIES_MAX} entries: octant ledger query --agent {aid} --from {from}"
            ));
        }
        Err(error) => denials.missing = Some(format!("calls of tools that were denied: {error}")),
    }
    denials
}

impl Denials {
    fn see(&mut self, entry: &Entry) {
        // Other decisions about it read otherwise.
        let Ok(said) = serde_json::from_str::<Payload>(entry.payload.text()) else { return };
        let room = self.rows.len() < ROWS_MAX;
        match self.rows.get_mut(&(said.tool.clone(), said.denied.clone())) {
            Some((count, _)) => *count = count.saturating_add(1),
            None if room => drop(self.rows.insert((said.tool, said.denied), (1, said.next))),
            None => {
                self.missing = Some("more calls of tools that were denied: octant ledger query".to_owned())
            }
        }
    }

    /// As they are shown.
    pub(super) fn rows(&self, line: &dyn Fn(&str) -> Option<usize>) -> Vec<Denied> {
        let row = |((tool, why), (count, next)): (&(String, String), &(u64, String))| Denied {
            what: format!("the tool {tool} ({})", super::times(*count)),
            rule: why.clone(),
            line: line(FIELD),
            field: Some(FIELD.to_owned()),
            grant: next.clone(),
        };
        self.rows.iter().map(row).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn entry(seq: u64, payload: &Value) -> Entry {
        serde_json::from_value(json!({
            "seq": seq, "boot_id": "0".repeat(32), "mono_ns": 1, "wall_ms": 1, "actor": {"service": "agents"},
            "kind": Kind::Decision, "payload": payload, "prev": octant_ids::Sha256::ZERO.to_string(),
            "hash": octant_ids::Sha256::ZERO.to_string(),
        }))
        .unwrap()
    }

    #[test]
    fn what_was_called_and_denied_is_counted_and_bounded() {
        let denied =
            |tool: &str| json!({"do": "call a tool", "tool": tool, "denied": "no", "next": "use another"});
        let mut found = Denials::default();
        for (seq, tool) in ["a__x", "b__y", "a__x"].into_iter().enumerate() {
            found.see(&entry(seq as u64 + 1, &denied(tool)));
        }
        found.see(&entry(9, &json!({"approval": "1", "denied": "nobody answered"})));
        let rows = found.rows(&|field| (field == FIELD).then_some(7));
        assert_eq!(
            rows.iter().map(|row| row.what.as_str()).collect::<Vec<_>>(),
            ["the tool a__x (2 times)", "the tool b__y (once)"]
        );
        assert_eq!(
            (rows[0].rule.as_str(), rows[0].line, rows[0].grant.as_str()),
            ("no", Some(7), "use another")
        );
        for n in 0..2 * ROWS_MAX as u64 {
            found.see(&entry(n + 10, &denied(&format!("t{n}__x"))));
        }
        assert_eq!(found.rows(&|_| None).len(), ROWS_MAX);
        assert!(found.missing.is_some());
    }
}
