//! What the gate denied to an agent, as it stands in the ledger: connections, names, and secrets that were not put in.
//! Each is there when it happened first; how often it happened again follows in counts, and what was cut is in outcomes.

use super::Denied;
use crate::service::Service;
use octant_api::ledger::{Entry, Kind};
use octant_ids::Aid;
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap};

/// How many different denials are shown. The gate tells 256 apart, anew after each of its starts.
const ROWS_MAX: usize = 512;

/// What the gate writes, in so far as it is of use here.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Payload {
    denied: Option<String>,
    host: String,
    port: u16,
    next: String,
    field: Option<String>,
    /// What was denied again, as `HOST:PORT: WHY`, and how often.
    times: BTreeMap<String, u64>,
    /// How a connection ended.
    end: Option<String>,
}

struct Row {
    count: u64,
    what: String,
    why: String,
    next: String,
    field: Option<String>,
}

/// The denials of one agent, in the order in which they happened first.
#[derive(Default)]
pub(super) struct Denials {
    rows: Vec<Row>,
    at: HashMap<String, usize>,
    /// Where connections that have not ended lead to.
    open: HashMap<u64, String>,
    /// Why there may be more of them.
    pub(super) missing: Option<String>,
}

/// Reads them from the ledger. Where that does not say, it is said.
pub(super) fn read(service: &Service, aid: Aid) -> Denials {
    let mut denials = Denials::default();
    let kinds = vec![Kind::Intent, Kind::Outcome, Kind::Decision];
    let missing =
        super::each(service, ("egress", kinds), aid, "what the gate denied", |entry| denials.see(entry));
    denials.missing = missing.or(denials.missing);
    denials
}

impl Denials {
    fn see(&mut self, entry: &Entry) {
        // An entry of another build that reads otherwise says nothing here; `octant egress log` has it.
        let Ok(said) = serde_json::from_str::<Payload>(entry.payload.text()) else { return };
        let to = format!("{}:{}", said.host, said.port);
        match entry.kind {
            Kind::Intent => {
                self.open.insert(entry.seq, to);
            }
            Kind::Outcome => {
                let was = entry.intent.and_then(|intent| self.open.remove(&intent));
                let cut = said.end.as_deref().and_then(|end| end.strip_prefix("cut: "));
                if let (Some(to), Some(why)) = (was, cut) {
                    let next = "see octant egress list; octant egress lease lends a host".to_owned();
                    let (why, what) = (format!("cut while it was used: {why}"), to);
                    self.add(Row { count: 1, what, why, next, field: None });
                }
            }
            _ if said.times.is_empty() => {
                let Some(why) = said.denied else { return };
                self.add(Row { count: 1, what: to, why, next: said.next, field: said.field });
            }
            _ => {
                for (what, count) in said.times {
                    match self.at.get(&what) {
                        Some(at) => self.rows[*at].count = self.rows[*at].count.saturating_add(count),
                        None => {
                            let (why, next) = (
                                "the gate tells no more apart".to_owned(),
                                "see octant egress log".to_owned(),
                            );
                            self.add(Row { count, what, why, next, field: None });
                        }
                    }
                }
            }
        }
    }

    fn add(&mut self, row: Row) {
        let key = format!("{}: {}", row.what, row.why);
        if let Some(at) = self.at.get(&key) {
            self.rows[*at].count = self.rows[*at].count.saturating_add(row.count);
        } else if self.rows.len() < ROWS_MAX {
            self.at.insert(key, self.rows.len());
            self.rows.push(row);
        } else {
            self.missing = Some("more that the gate denied: octant egress log".to_owned());
        }
    }

    /// As they are shown.
    pub(super) fn rows(&self, line: &dyn Fn(&str) -> Option<usize>) -> Vec<Denied> {
        let row = |row: &Row| Denied {
            what: format!("{} ({})", row.what, super::times(row.count)),
            rule: format!("the gate: {}", row.why),
            line: row.field.as_deref().and_then(line),
            field: row.field.clone(),
            grant: row.next.clone(),
        };
        self.rows.iter().map(row).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn entry(seq: u64, kind: Kind, intent: Option<u64>, payload: &Value) -> Entry {
        serde_json::from_value(json!({
            "seq": seq, "boot_id": "0".repeat(32), "mono_ns": 1, "wall_ms": 1, "actor": {"service": "egress"},
            "kind": kind, "intent": intent, "payload": payload, "prev": octant_ids::Sha256::ZERO.to_string(),
            "hash": octant_ids::Sha256::ZERO.to_string(),
        }))
        .unwrap()
    }

    fn denied(host: &str, why: &str) -> Value {
        json!({"do": "connect", "denied": why, "host": host, "port": 443, "next": format!("lend {host}"),
            "field": "network.hosts"})
    }

    #[test]
    fn what_the_gate_denied_is_counted_with_what_would_grant_it() {
        let mut found = Denials::default();
        found.see(&entry(1, Kind::Decision, None, &denied("a.example.org", "no grant names a.example.org")));
        found.see(&entry(2, Kind::Decision, None, &denied("b.example.org", "no grant names b.example.org")));
        let times = json!({"a.example.org:443: no grant names a.example.org": 4, "anything else": 9});
        let again = json!({"do": "connect", "denied": "again", "times": times});
        found.see(&entry(3, Kind::Decision, None, &again));
        // Over a restart of the gate it happens for the first time again.
        found.see(&entry(4, Kind::Decision, None, &denied("a.example.org", "no grant names a.example.org")));
        let rows = found.rows(&|field| (field == "network.hosts").then_some(12));
        assert_eq!(rows.len(), 3);
        assert_eq!(rows[0].what, "a.example.org:443 (6 times)");
        assert_eq!(rows[0].rule, "the gate: no grant names a.example.org");
        assert_eq!((rows[0].field.as_deref(), rows[0].line), (Some("network.hosts"), Some(12)));
        assert_eq!(
            (rows[0].grant.as_str(), rows[1].what.as_str()),
            ("lend a.example.org", "b.example.org:443 (once)")
        );
        assert_eq!(rows[2].what, "anything else (9 times)");
    }

    #[test]
    fn what_was_cut_is_shown_and_what_ended_by_itself_is_not() {
        let mut found = Denials::default();
        for (seq, end) in [(1, "closed"), (3, "cut: the lease 7 is over"), (5, "failed: reset")] {
            found.see(&entry(
                seq,
                Kind::Intent,
                None,
                &json!({"do": "connect", "host": "a.example.org", "port": 443}),
            ));
            found.see(&entry(seq + 1, Kind::Outcome, Some(seq), &json!({"done": true, "end": end})));
        }
        let rows = found.rows(&|_| None);
        assert_eq!(rows.len(), 1);
        assert!(rows[0].rule.contains("the lease 7 is over") && rows[0].what.contains("a.example.org:443"));
    }

    #[test]
    fn it_is_bounded_and_says_so() {
        let mut found = Denials::default();
        for n in 0..2 * ROWS_MAX as u64 {
            found.see(&entry(n + 1, Kind::Decision, None, &denied(&format!("h{n}.example.org"), "no")));
        }
        found.see(&entry(1, Kind::Decision, None, &json!("nothing that is known")));
        assert_eq!(found.rows(&|_| None).len(), ROWS_MAX);
        assert!(found.missing.is_some());
    }
}
