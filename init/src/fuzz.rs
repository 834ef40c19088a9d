//! The entry for fuzzing.

use crate::config;
use crate::units::Units;
use octant_api::unit::{Criticality, Restart, Spec};

const LEDGER: Spec = Spec {
    name: "ledger",
    about: "stands for the built-in units",
    needs: &[],
    restart: Restart::Always,
    criticality: Criticality::Required,
    ready_within_ms: 1000,
    stop_within_ms: 1000,
    watchdog_ms: 1000,
    socket_mode: 0o600,
    capabilities: &[],
    root: false,
    optional: false,
    argv: &["svc", "ledger"],
};

/// Reads arbitrary bytes as PID 1 reads a unit file, and puts the result into the list of units beside itself under
/// another name. It must return for every input.
pub fn fuzz_unit(bytes: &[u8]) {
    let file = |name: &str| (name.to_owned(), config::unit_of_bytes(bytes));
    let Ok(mut units) = Units::built_in(&[LEDGER]) else { return };
    units.add_files(vec![file("self"), file("other")]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    #[test]
    fn the_corpus_is_read_without_a_panic_and_told_apart() {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/corpus/unit");
        let mut seen = 0;
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let bytes = std::fs::read(&path).unwrap();
            fuzz_unit(&bytes);
            let good = config::unit_of_bytes(&bytes).is_ok();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let expected = ["ok-", "needs-itself", "many-needs"].iter().any(|start| name.starts_with(start));
            assert_eq!(good, expected, "{name}");
            seen += 1;
        }
        assert!(seen > 10, "the corpus is not where it was");
    }
}
