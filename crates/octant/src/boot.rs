//! The built-in units, in the order in which PID 1 starts them.

use octant_agents::AgentsService;
use octant_api::unit::{Criticality, Restart, Spec, ordered};
use octant_egress::EgressService;
use octant_ledger::LedgerService;
use octant_network::NetworkService;
use octant_router::RouterService;
use octant_service::Service;
use octant_vault::VaultService;
use std::ffi::OsStr;
use std::path::Path;
use std::process::ExitCode;

/// The process that makes workstations. It is no service: it speaks packets, to `agents` only, and keeps what the
/// services have given up.
const SPAWNER: Spec = Spec {
    name: "spawner",
    about: "builds workstations for agents",
    needs: &["ledger"],
    restart: Restart::Always,
    criticality: Criticality::Degrades,
    // It tries every kind of namespace once.
    ready_within_ms: 10_000,
    stop_within_ms: 2_000,
    // Longer than one spawn under emulation, during which it answers nobody.
    watchdog_ms: 60_000,
    // PID 1 gives it to `agents`; the spawner checks all the same who calls.
    socket_mode: 0o600,
    capabilities: &[
        "SYS_ADMIN",
        "SETUID",
        "SETGID",
        "SETPCAP",
        "SETFCAP",
        "CHOWN",
        "DAC_OVERRIDE",
        "DAC_READ_SEARCH",
        "FOWNER",
        "KILL",
        "MKNOD",
        "NET_ADMIN",
        "SYS_CHROOT",
        "SYS_PTRACE",
        "SYS_RESOURCE",
    ],
    root: true,
    optional: false,
    argv: &["spawner"],
};

/// Everything that PID 1 starts by itself.
pub(crate) const BOOT: &[Spec] = &[
    LedgerService::SPEC,
    <VaultService as Service>::SPEC,
    <NetworkService as Service>::SPEC,
    <EgressService as Service>::SPEC,
    <RouterService as Service>::SPEC,
    SPAWNER,
    <AgentsService as Service>::SPEC,
    // It needs nobody, and nobody waits for it: what the others print before is kept for it.
    octant_log::SPEC,
];

const _: () = assert!(ordered(BOOT), "a service needs one that does not boot before it");

/// What PID 1 would make of the configuration below a directory.
pub(crate) fn check_config(etc: &Path) -> Result<Vec<String>, Vec<String>> {
    octant_init::check_config(etc, BOOT)
}

/// Runs the service of this name; none for a name that is not one.
pub(crate) fn service(name: &OsStr) -> Option<ExitCode> {
    match name.to_str()? {
        "ledger" => Some(octant_service::run::<LedgerService>()),
        "vault" => Some(octant_service::run::<VaultService>()),
        "network" => Some(octant_service::run::<NetworkService>()),
        "egress" => Some(octant_service::run::<EgressService>()),
        "router" => Some(octant_service::run::<RouterService>()),
        "agents" => Some(octant_service::run::<AgentsService>()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_unit_has_a_name_of_its_own_and_room_to_start_and_stop() {
        let names: BTreeSet<&str> = BOOT.iter().map(|spec| spec.name).collect();
        assert_eq!(names.len(), BOOT.len());
        for spec in BOOT {
            assert!(spec.name.parse::<octant_ids::ServiceName>().is_ok(), "{}", spec.name);
            assert!(spec.ready_within_ms > 0 && spec.stop_within_ms > 0, "{}", spec.name);
            assert!(!spec.argv.is_empty() && !spec.about.is_empty(), "{}", spec.name);
        }
    }

    #[test]
    fn only_the_spawner_is_root_and_it_and_the_network_alone_have_capabilities() {
        for spec in BOOT.iter().filter(|spec| spec.name != "spawner") {
            let network: &[&str] = &["NET_ADMIN", "NET_BIND_SERVICE", "SYS_TIME"];
            let few = if spec.name == "network" { network } else { &[] };
            assert!(!spec.root && spec.capabilities == few, "{}: {:?}", spec.name, spec.capabilities);
        }
        let risky = ["SYS_MODULE", "SYS_BOOT", "SYS_RAWIO", "BPF", "SYS_TIME", "MAC_ADMIN"];
        assert!(!SPAWNER.capabilities.iter().any(|name| risky.contains(name)));
    }
}
