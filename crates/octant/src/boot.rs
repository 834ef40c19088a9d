//! The built-in units, in the order in which PID 1 starts them.

use octant_agents::{AgentsConfig, AgentsService};
use octant_api::logs::LogConfig;
use octant_api::unit::{Criticality, Restart, Spec, ordered};
use octant_egress::{EgressConfig, EgressService};
use octant_ids::Layout;
use octant_init::config::{InitTable, UnitFile};
use octant_ledger::LedgerService;
use octant_manifest::{Wrong, table};
use octant_network::{NetworkConfig, NetworkService};
use octant_router::RouterService;
use octant_service::Service;
use octant_vault::{VaultConfig, VaultService};
use std::collections::BTreeMap;
use std::ffi::OsStr;
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

/// What PID 1, and then each service, would make of an instance's configuration.
pub(crate) fn check_config(layout: &Layout) -> Result<Vec<String>, Vec<String>> {
    octant_init::check_config(layout, BOOT)
}

/// Checks a table of a machine's configuration by the type of whoever will read it.
pub(crate) fn check_table(owner: &str, names: &[&str], text: &str) -> Result<(), Wrong> {
    let wrong = |field: String, why: String| Wrong { offset: None, field, why };
    let key = |(field, why): (&str, String)| wrong(field.to_owned(), why);
    match owner {
        "init" => {
            let init = table::<InitTable>(text, names, &[])?;
            if let Some(stranger) = init.resources.keys().find(|name| !BOOT.iter().any(|s| s.name == **name))
            {
                let why = "is none of Octant's own units; one of yours has resources in its own table";
                return Err(wrong(format!("resources.{stranger}"), why.into()));
            }
            init.check().map_err(key)
        }
        "network" => {
            table::<NetworkConfig>(text, names, &[])?.check().map_err(|bad| wrong(bad.field, bad.why))
        }
        "egress" => table::<EgressConfig>(text, names, &[]).map(drop),
        "vault" => table::<VaultConfig>(text, names, &[])?.check().map_err(key),
        "log" => table::<LogConfig>(text, names, &[])?.check().map_err(key),
        "agents" => table::<AgentsConfig>(text, names, &[])?.check().map_err(key),
        "unit" if names.last().is_some_and(|name| octant_init::is_own_unit(name, BOOT)) => {
            Err(wrong(String::new(), "is Octant's own unit; give yours another name".into()))
        }
        // One that is only not to run says nothing else.
        "unit"
            if table::<BTreeMap<String, bool>>(text, names, &[])
                .is_ok_and(|keys| keys.get("enabled") == Some(&false)) =>
        {
            Ok(())
        }
        "unit" => table::<UnitFile>(text, names, &["enabled"])?.check().map_err(key),
        _ => Err(wrong(String::new(), format!("nobody reads {owner}"))),
    }
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
    fn tables_of_a_configuration_are_checked_by_those_who_read_them() {
        let text = "[machine]\nhostname = \"a b\"\n[network.links.eth0]\nmtu = 5\n[egress]\nextra = 1\n\
                    [limits]\nmax_agents = 9999\n[units.ledger]\nenabled = false\n[units.off]\nenabled = false\n\
                    [units.web]\nenabled = true\nexec = [\"web\"]\nuser = 5\n\
                    [units.few]\nexec = [\"/few\"]\nuser = 5\nresources = { pids_max = 0 }\n[vault]\nfirst_boot = \"never\"\npcrs = [7]\n[logs]\nolder = 99\n";
        let why =
            |owner, names: &[&str]| check_table(owner, names, text).map_err(|wrong| (wrong.field, wrong.why));
        let rows: [(&str, &[&str], &str, &str); 9] = [
            ("init", &["machine"], "hostname", "1 to 63 letters"),
            ("network", &["network"], "links.eth0.mtu", ""),
            ("egress", &["egress"], "", "unknown field `extra`"),
            ("agents", &["limits"], "max_agents", "is not between"),
            ("unit", &["units", "ledger"], "", "is Octant's own unit"),
            ("unit", &["units", "web"], "exec", "absolute path"),
            ("vault", &["vault"], "pcrs", "is for a TPM"),
            ("log", &["logs"], "older", "is not between"),
            ("unit", &["units", "few"], "resources.pids_max", "1 to"),
        ];
        for (owner, names, field, expected) in rows {
            let (found, why) = why(owner, names).unwrap_err();
            assert!(found == field && why.contains(expected), "{owner} {names:?}: {found}: {why}");
        }
        assert_eq!(why("unit", &["units", "off"]), Ok(()));
        let text = "[machine.resources.router]\nmemory_max = \"2GiB\"\n";
        assert_eq!(check_table("init", &["machine"], text), Ok(()));
        let wrong = check_table("init", &["machine"], "[machine.resources.web]\nnofile = 99\n").unwrap_err();
        assert_eq!(wrong.field, "resources.web");
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
