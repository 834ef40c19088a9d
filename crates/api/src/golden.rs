//! The schemas under docs/api are what the code says: `UPDATE=1 cargo test -p octant-api` rewrites them.

use crate::{agent, agents, egress, ledger, network, router, vault};
use std::path::PathBuf;

#[test]
fn the_published_schemas_are_current() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/api");
    let schemas = [
        ("agent", agent::schema()),
        ("agents", agents::schema()),
        ("egress", egress::schema()),
        ("router", router::schema()),
        ("ledger", ledger::schema()),
        ("network", network::schema()),
        ("vault", vault::schema()),
    ];
    for (name, schema) in schemas {
        let path = folder.join(format!("{name}.json"));
        let current = serde_json::to_string_pretty(&schema).unwrap() + "\n";
        if std::env::var_os("UPDATE").is_some() {
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(&path, &current).unwrap();
        }
        let published = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            published == current,
            "{} is not what the code says; look at the change, then run UPDATE=1 cargo test -p octant-api",
            path.display()
        );
    }
}
