//! Which crate may use which. The table is DESIGN's direction of dependencies; docs/architecture.md shows it too.

use crate::json::Json;
use std::collections::{BTreeMap, BTreeSet};

/// A crate of the workspace and the names of everything that it declares a dependency on.
pub(super) type Crates = BTreeMap<String, BTreeSet<String>>;

const IDS: &str = "octant-ids";
const API: &str = "octant-api";
const ARCHIVE: &str = "octant-archive";
const SYS: &str = "octant-sys";
const LLM: &str = "octant-llm";
const LOOP: &str = "octant-loop";
const MANIFEST: &str = "octant-manifest";
const MCP: &str = "octant-mcp";
const WIRE: &str = "octant-wire";
const WORKSTATION: &str = "octant-workstation";
const TICKET: &str = "octant-ticket";
const TLOG: &str = "octant-tlog";
const TPM: &str = "octant-tpm";
const WITNESS: &str = "octant-witness";
const SERVICE: &str = "octant-service";
const CRYPTO: &str = "octant-crypto";
const CONFIG: &str = "octant-config";
const EDITIONS: &str = "octant-editions";
const UKI: &str = "octant-uki";
const TREE: &str = "octant-tree";
const NET: &str = "octant-net";
const OCI: &str = "octant-oci";
const OUTSIDE: &str = "octant-outside";
const LEARN: &str = "octant-learn";
const SSH: &str = "octant-ssh";
const ROUTE: &str = "octant-route";

/// What each crate may use of the others. A service never has another service in its row.
const ALLOWED: &[(&str, &[&str])] = &[
    (IDS, &[]),
    (SYS, &[IDS]),
    (NET, &[SYS]),
    (API, &[IDS]),
    (UKI, &[]),
    (SSH, &[]),
    (TREE, &[IDS]),
    (ARCHIVE, &[]),
    (LLM, &[]),
    (OCI, &[ARCHIVE, IDS, TREE]),
    (MANIFEST, &[IDS, SSH]),
    (ROUTE, &[IDS, LLM, MANIFEST]),
    (MCP, &[API]),
    (OUTSIDE, &[MANIFEST, SYS]),
    (WIRE, &[IDS, API, SYS]),
    (TICKET, &[IDS, API]),
    (TLOG, &[IDS, API]),
    (CRYPTO, &[IDS, SYS]),
    (EDITIONS, &[IDS]),
    (TPM, &[IDS, SYS]),
    (LOOP, &[IDS, API, SYS, WIRE, LLM, MCP]),
    (WORKSTATION, &[IDS, API, MANIFEST, SYS, TICKET, TREE]),
    (SERVICE, &[IDS, API, SYS, WIRE]),
    (CONFIG, &[EDITIONS, IDS, MANIFEST, SERVICE, SYS]),
    (WITNESS, &[IDS, API, SYS, TLOG, WIRE]),
    ("octant-init", &[EDITIONS, IDS, API, SYS, TICKET]),
    ("octant-ledger", &[IDS, API, SYS, WIRE, SERVICE, TICKET, TLOG]),
    ("octant-vault", &[IDS, API, SYS, WIRE, SERVICE, CRYPTO, TPM]),
    ("octant-log", &[IDS, API, SYS, SERVICE]),
    ("octant-egress", &[IDS, API, SYS, WIRE, SERVICE, MANIFEST, OUTSIDE]),
    ("octant-router", &[IDS, API, SYS, WIRE, SERVICE, MANIFEST, OUTSIDE, LLM, ROUTE]),
    ("octant-network", &[IDS, API, SYS, WIRE, SERVICE, NET]),
    ("octant-agents", &[IDS, API, SYS, WIRE, SERVICE, MANIFEST, MCP, SSH, TICKET, TREE, WORKSTATION]),
    ("octant-applets", &[ARCHIVE, NET, SYS, TREE]),
    ("octant-console", &[IDS, API, SYS, CRYPTO, MANIFEST]),
    ("octant-shell", &[]),
    (LEARN, &[IDS, MANIFEST, SYS, WORKSTATION]),
    (
        "octant-cli",
        &[
            CONFIG, EDITIONS, IDS, API, SYS, WIRE, MANIFEST, LEARN, LLM, LOOP, OCI, SSH, TLOG, TPM, TREE,
            WITNESS,
        ],
    ),
    // Supervisor, spawner and ledger of one program, in one go.
    ("octant-run", &[IDS, API, SYS, WIRE, MANIFEST, TICKET, TLOG, WORKSTATION, "octant-ledger"]),
    ("octant-sim", &[IDS, API, "octant-init"]),
    ("xtask", &[UKI]),
];
/// What only puts the others together, or tests them.
const ANY: &[&str] = &["octant", "octant-tests"];

/// Reads `cargo metadata`.
pub(super) fn crates(metadata: &Json) -> Crates {
    let packages = metadata.get("packages").items().iter();
    packages
        .filter_map(|package| {
            let needs = package.get("dependencies").items().iter();
            let needs = needs.filter_map(|need| need.get("name").text().map(str::to_owned)).collect();
            Some((package.get("name").text()?.to_owned(), needs))
        })
        .collect()
}

pub(super) fn check(crates: &Crates) -> Vec<String> {
    let mut findings = Vec::new();
    for (name, needs) in crates {
        if ANY.contains(&name.as_str()) {
            continue;
        }
        let Some((_, allowed)) = ALLOWED.iter().find(|row| row.0 == name) else {
            findings
                .push(format!("{name} has no row in crates/xtask/src/tidy/edges.rs; decide what it may use"));
            continue;
        };
        let inside = needs.iter().filter(|need| crates.contains_key(*need));
        let wrong = inside.filter(|need| !allowed.contains(&need.as_str()));
        findings.extend(
            wrong.map(|need| format!("{name} uses {need}, which it may not; they meet in octant-api")),
        );
    }
    findings
}

/// Entries of `[workspace.dependencies]` that no crate uses.
pub(super) fn unused(manifest: &str, crates: &Crates) -> Vec<String> {
    let used: BTreeSet<&str> = crates.values().flatten().map(String::as_str).collect();
    let section = manifest.lines().skip_while(|line| line.trim() != "[workspace.dependencies]").skip(1);
    let section = section.take_while(|line| !line.starts_with('['));
    let names = section.filter_map(|line| line.split_once('=')).map(|(name, _)| name.trim());
    let unused = names.filter(|name| !name.is_empty() && !name.starts_with('#') && !used.contains(name));
    unused.map(|name| format!("Cargo.toml: no crate uses the workspace dependency {name}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workspace(edges: &[(&str, &[&str])]) -> Crates {
        edges
            .iter()
            .map(|(name, needs)| ((*name).to_owned(), needs.iter().map(|n| (*n).to_owned()).collect()))
            .collect()
    }

    #[test]
    fn an_edge_outside_the_table_is_found() {
        let fine = workspace(&[("octant-ids", &["serde"]), ("octant-api", &["octant-ids", "serde"])]);
        assert_eq!(check(&fine), Vec::<String>::new());
        let wrong = workspace(&[("octant-ledger", &["octant-agents"]), ("octant-agents", &[])]);
        assert_eq!(
            check(&wrong),
            ["octant-ledger uses octant-agents, which it may not; they meet in octant-api"]
        );
        assert!(check(&workspace(&[("octant-new", &[])]))[0].contains("no row"));
        assert_eq!(
            check(&workspace(&[("octant", &["octant-ids"]), ("octant-ids", &[])])),
            Vec::<String>::new()
        );
    }

    #[test]
    fn no_service_may_use_a_service_and_the_table_has_no_circle() {
        let services = ["octant-ledger", "octant-agents"];
        for (name, allowed) in ALLOWED {
            // It runs no service: it is a ledger's only user, in one process with it.
            let alone = *name == "octant-run";
            assert!(alone || !allowed.iter().any(|need| services.contains(need)), "{name}");
            let rank = |wanted: &str| ALLOWED.iter().position(|row| row.0 == wanted).unwrap();
            assert!(allowed.iter().all(|need| rank(need) < rank(name)), "{name} uses what stands below it");
        }
    }

    #[test]
    fn metadata_is_read_and_unused_dependencies_are_found() {
        let text =
            r#"{"packages":[{"name":"octant-ids","dependencies":[{"name":"serde"},{"name":"proptest"}]}]}"#;
        let crates = crates(&Json::parse(text).unwrap());
        assert!(crates["octant-ids"].contains("proptest"));
        let manifest =
            "[workspace.dependencies]\nserde = \"1\"\n# old\nleft = \"2\"\n\n[profile.dev]\nx = 1\n";
        assert_eq!(unused(manifest, &crates), ["Cargo.toml: no crate uses the workspace dependency left"]);
    }
}
