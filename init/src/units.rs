//! The list of units: the built-in services, the operator's files, a job, a login or a shell on the console.

use crate::config::{ConsoleMode, FoundUnit, UnitFile, UnitKind};
use crate::graph::{Def, Kind};
use crate::resources::Resources;
use octant_api::unit::{Criticality, Restart, Spec};
use octant_ids::Sha256;
use std::collections::BTreeMap;
use std::path::Path;

/// The name of the unit that runs `--job`.
pub(crate) const JOB: &str = "job";
/// The name of the unit that is on the console: logins, or a shell.
pub(crate) const CONSOLE: &str = "console";
/// Names that no file may take, beside those of the services.
pub(crate) const RESERVED: [&str; 3] = [JOB, CONSOLE, "init"];

/// What runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Command {
    /// Octant's own binary with these arguments.
    Own(Vec<String>),
    /// A program by its path, with its arguments.
    Path(Vec<String>),
}

/// Where a unit's standard input and output go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stdio {
    /// Nothing in; out into PID 1's log.
    Log,
    /// The job's: the operator's own terminal or pipe.
    Operator,
}

/// Which kind of socket waits for a unit's clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Socket {
    /// SOCK_SEQPACKET rather than SOCK_STREAM.
    pub(crate) packets: bool,
    /// Its file mode.
    pub(crate) mode: u32,
    /// Its owner, user and group.
    pub(crate) owner: u32,
}

/// What PID 1 has to know to start a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unit {
    /// What the graph has to know.
    pub(crate) command: Command,
    /// One line for people.
    pub(crate) about: String,
    /// User and group id.
    pub(crate) uid: u32,
    /// Capabilities; `None` for all that PID 1 has.
    pub(crate) capabilities: Option<Vec<String>>,
    /// Its listening socket.
    pub(crate) socket: Option<Socket>,
    /// Its standard input and output.
    pub(crate) stdio: Stdio,
    /// What it may use at the most.
    pub(crate) resources: Resources,
    /// Whether it is one of Octant's own: those get the `config` descriptor and a state directory.
    pub(crate) built_in: bool,
}

/// The whole list, what a unit needs always before it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Units {
    /// For the graph.
    pub(crate) defs: Vec<Def>,
    /// For starting; the same indices.
    pub(crate) units: Vec<Unit>,
    /// Each unit file's name and SHA-256, whether it could be used or not.
    pub(crate) digests: Vec<(String, Option<Sha256>)>,
}

/// The unit whose requests are packets with descriptors, where all services speak lines, and the only user who may
/// send them.
const SPAWNER: &str = "spawner";
const SPAWNERS_CLIENT: &str = "agents";
const MS: u64 = 1_000_000;
/// A foreign unit's defaults.
const READY_WITHIN_MS: u64 = 30_000;
const STOP_WITHIN_MS: u64 = 5_000;

impl Units {
    /// The built-in services; a `Spec` without a user id of its own is a mistake in this build.
    ///
    /// # Errors
    /// The name of a service that has neither `root` nor a row in the table of user ids.
    pub(crate) fn built_in(boot: &[Spec]) -> Result<Self, String> {
        let mut out = Self::default();
        for spec in boot {
            let uid = if spec.root { Some(0) } else { octant_ids::uid::of_service(spec.name) };
            let uid = uid.ok_or_else(|| format!("service {} has no user id", spec.name))?;
            let packets = spec.name == SPAWNER;
            let owner = if packets { octant_ids::uid::of_service(SPAWNERS_CLIENT).unwrap_or(0) } else { uid };
            out.defs.push(Def {
                name: spec.name.into(),
                needs: spec.needs.iter().filter_map(|need| out.find(need)).collect(),
                kind: Kind::Notify,
                restart: spec.restart,
                criticality: spec.criticality,
                ready_within_ns: spec.ready_within_ms * MS,
                stop_within_ns: spec.stop_within_ms * MS,
                watchdog_ns: spec.watchdog_ms * MS,
                broken: None,
            });
            out.units.push(Unit {
                command: Command::Own(spec.argv.iter().map(|arg| (*arg).to_owned()).collect()),
                about: spec.about.into(),
                uid,
                capabilities: Some(spec.capabilities.iter().map(|name| (*name).to_owned()).collect()),
                socket: (spec.socket_mode != 0).then_some(Socket { packets, mode: spec.socket_mode, owner }),
                stdio: Stdio::Log,
                resources: crate::resources::built_in(spec.name),
                built_in: true,
            });
        }
        Ok(out)
    }

    /// The index of a unit.
    #[must_use]
    pub(crate) fn find(&self, name: &str) -> Option<usize> {
        self.defs.iter().position(|def| def.name == name)
    }

    /// Bounds Octant's own units as the operator says, over what is built in.
    pub(crate) fn bound(&mut self, resources: &BTreeMap<String, Resources>) {
        for (def, unit) in self.defs.iter().zip(&mut self.units) {
            if let Some(said) = resources.get(&def.name) {
                unit.resources = said.over(unit.resources);
            }
        }
    }

    /// Adds the unit files as they were found.
    pub(crate) fn add_found(&mut self, files: Vec<FoundUnit>) {
        self.digests = files.iter().map(|file| (file.name.clone(), file.digest)).collect();
        self.add_files(files.into_iter().map(|file| (file.name, file.unit)).collect());
    }

    /// Adds the operator's units in an order in which each follows what it needs. A unit that cannot be had (its file
    /// is wrong, it needs an unknown one, it is in a cycle) is kept as broken with the reason.
    pub(crate) fn add_files(&mut self, files: Vec<(String, Result<UnitFile, String>)>) {
        let mut waiting = BTreeMap::new();
        for (name, file) in files {
            if self.find(&name).is_some() || RESERVED.contains(&name.as_str()) {
                // It cannot even be shown under its name, which another unit has.
                let shown = format!("{name}-file").chars().take(octant_ids::ServiceName::MAX).collect();
                self.push_broken(
                    shown,
                    format!("a unit file may not be named {name}, which is Octant's own"),
                );
                continue;
            }
            match file {
                Ok(file) => drop(waiting.insert(name, file)),
                Err(why) => self.push_broken(name, why),
            }
        }
        // Kahn's order by repeated passes: at most 64 files.
        loop {
            let next = waiting
                .iter()
                .find(|(_, file)| file.needs.iter().all(|need| self.find(need).is_some()))
                .map(|(name, _)| name.clone());
            let Some(name) = next else { break };
            if let Some(file) = waiting.remove(&name) {
                self.push_file(name, &file);
            }
        }
        let left: Vec<String> = waiting.keys().cloned().collect();
        for (name, file) in waiting {
            let unknown = file.needs.iter().find(|need| !left.contains(need) && self.find(need).is_none());
            let why = match unknown {
                Some(need) => format!("{name}.toml: needs {need:?}, and there is no such unit"),
                None => format!(
                    "{name}.toml: its needs go in a circle or wait for one, among: {}",
                    left.join(" ")
                ),
            };
            self.push_broken(name, why);
        }
    }

    fn push_broken(&mut self, name: String, why: String) {
        self.push_simple(name, Command::Path(Vec::new()), Some(why));
    }

    fn push_simple(&mut self, name: String, command: Command, broken: Option<String>) {
        self.defs.push(Def {
            name,
            needs: Vec::new(),
            kind: Kind::Simple,
            restart: Restart::Never,
            criticality: Criticality::Degrades,
            ready_within_ns: 0,
            stop_within_ns: STOP_WITHIN_MS * MS,
            watchdog_ns: 0,
            broken,
        });
        self.units.push(Unit {
            command,
            about: String::new(),
            uid: 0,
            capabilities: None,
            socket: None,
            stdio: Stdio::Operator,
            resources: Resources::default(),
            built_in: false,
        });
    }

    fn push_file(&mut self, name: String, file: &UnitFile) {
        let kind = match file.kind {
            UnitKind::Notify => Kind::Notify,
            UnitKind::Simple => Kind::Simple,
            UnitKind::Oneshot => Kind::Oneshot,
        };
        let restart = match file.restart {
            Some(restart) => restart.into(),
            None if kind == Kind::Oneshot => Restart::Never,
            None => Restart::Always,
        };
        // A oneshot's run is its work: it has no limit unless its file sets one.
        let default_ready = if kind == Kind::Oneshot { 0 } else { READY_WITHIN_MS };
        self.defs.push(Def {
            name,
            needs: file.needs.iter().filter_map(|need| self.find(need)).collect(),
            kind,
            restart,
            criticality: Criticality::Degrades,
            ready_within_ns: file.ready_within.map_or(default_ready, |m| m.0).saturating_mul(MS),
            stop_within_ns: file.stop_within.map_or(STOP_WITHIN_MS, |m| m.0).saturating_mul(MS),
            watchdog_ns: file.watchdog.map_or(0, |m| m.0).saturating_mul(MS),
            broken: None,
        });
        self.units.push(Unit {
            command: Command::Path(file.exec.clone()),
            about: file.about.clone(),
            uid: file.user,
            capabilities: Some(file.capabilities.clone()),
            socket: file.socket.then_some(Socket { packets: false, mode: 0o600, owner: file.user }),
            stdio: Stdio::Log,
            resources: file.resources,
            built_in: false,
        });
    }

    /// Adds the unit that starts an agent from its signed manifest, once, when `agents` is ready. What is in its way may be
    /// gone a moment later: a vault that is sealed, a network without an address.
    pub(crate) fn add_agent(&mut self, name: &str, dir: Option<&Path>, manifest: &Path) {
        if self.find(name).is_some() {
            // Two units of one name would be none at all.
            let shown = format!("{name}-agent").chars().take(octant_ids::ServiceName::MAX).collect();
            return self.push_broken(shown, format!("a unit file is named {name}, as what starts the agent"));
        }
        let dir = dir.into_iter().flat_map(|dir| ["--dir".into(), dir.display().to_string()]);
        let spawn = ["agent".into(), "spawn".into(), manifest.display().to_string()];
        let needs = self.find(SPAWNERS_CLIENT).into_iter().collect();
        self.push_simple(name.to_owned(), Command::Own(dir.chain(spawn).collect()), None);
        if let (Some(def), Some(unit)) = (self.defs.last_mut(), self.units.last_mut()) {
            (def.needs, def.kind, def.restart) = (needs, Kind::Oneshot, Restart::OnFailure);
            unit.about = "starts an agent that the machine's configuration names".into();
            (unit.capabilities, unit.stdio) = (Some(Vec::new()), Stdio::Log);
        }
    }

    /// Adds the job: it starts when every built-in service is ready, and runs as the operator would. What has no socket
    /// serves nobody.
    pub(crate) fn add_job(&mut self, command: &str) {
        let serves = |unit: &usize| self.units[*unit].built_in && self.units[*unit].socket.is_some();
        let needs = (0..self.units.len()).filter(serves).collect();
        let command = Command::Own(vec!["sh".into(), "-c".into(), command.into()]);
        self.push_simple(JOB.into(), command, None);
        if let Some(def) = self.defs.last_mut() {
            def.needs = needs;
            def.kind = Kind::Oneshot;
        }
    }

    /// Adds what is on the console.
    pub(crate) fn add_console(&mut self, mode: ConsoleMode) {
        let program = match mode {
            ConsoleMode::Off => return,
            ConsoleMode::Login => "getty",
            ConsoleMode::Shell => "sh",
        };
        self.push_simple(CONSOLE.into(), Command::Own(vec![program.into()]), None);
        if let Some(def) = self.defs.last_mut() {
            def.restart = Restart::Always;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOT: [Spec; 2] = [spec("ledger", &[]), spec("agents", &["ledger"])];

    const fn spec(name: &'static str, needs: &'static [&'static str]) -> Spec {
        Spec {
            name,
            about: "",
            needs,
            restart: Restart::Always,
            criticality: Criticality::Required,
            ready_within_ms: 1,
            stop_within_ms: 1,
            watchdog_ms: 1,
            socket_mode: 0o600,
            capabilities: &[],
            root: false,
            optional: false,
            argv: &["svc"],
        }
    }

    fn file(needs: &[&str]) -> Result<UnitFile, String> {
        let needs: Vec<String> = needs.iter().map(|need| format!("{need:?}")).collect();
        let text = format!("exec = [\"/bin/x\"]\nuser = 1000\nneeds = [{}]\n", needs.join(","));
        Ok(toml::from_str(&text).unwrap())
    }

    fn units(files: &[(&str, Result<UnitFile, String>)]) -> Units {
        let mut units = Units::built_in(&BOOT).unwrap();
        units.add_files(files.iter().map(|(name, file)| ((*name).to_owned(), file.clone())).collect());
        units
    }

    #[test]
    fn files_are_put_behind_what_they_need() {
        let units = units(&[("a", file(&["b"])), ("b", file(&["agents"])), ("c", file(&[]))]);
        let at = |name| units.find(name).unwrap();
        assert!(at("a") > at("b") && at("b") > at("agents"));
        assert_eq!(units.defs[at("a")].needs, [at("b")]);
        assert!(crate::graph::Graph::new(units.defs, 0, 0).is_ok());
    }

    #[test]
    fn circles_unknown_names_and_taken_names_break_only_themselves() {
        let units = units(&[
            ("a", file(&["b"])),
            ("b", file(&["a"])),
            ("c", file(&["nothing"])),
            ("d", Err("d.toml:1: no".into())),
            ("good", file(&["ledger"])),
            ("ledger", file(&[])),
        ]);
        let why = |name: &str| units.defs[units.find(name).unwrap()].broken.clone().unwrap_or_default();
        assert!(why("a").contains("circle") && why("b").contains("among: a b c"), "{}", why("b"));
        assert!(why("c").contains("needs \"nothing\""));
        assert_eq!(why("d"), "d.toml:1: no");
        assert!(why("ledger-file").contains("Octant's own"));
        assert_eq!((why("good"), why("ledger")), (String::new(), String::new()));
    }

    #[test]
    fn the_console_has_what_was_asked_for() {
        let program = |mode| {
            let mut units = Units::built_in(&BOOT).unwrap();
            units.add_console(mode);
            units.find(CONSOLE).map(|at| units.units[at].command.clone())
        };
        assert_eq!(program(ConsoleMode::Off), None);
        assert_eq!(program(ConsoleMode::Login), Some(Command::Own(vec!["getty".into()])));
        assert_eq!(program(ConsoleMode::Shell), Some(Command::Own(vec!["sh".into()])));
    }

    #[test]
    fn the_job_needs_every_built_in_service_and_no_file() {
        let silent = Spec { socket_mode: 0, ..spec("log", &[]) };
        let mut units = Units::built_in(&[BOOT[0], BOOT[1], silent]).unwrap();
        units.add_files(vec![("x".into(), file(&[]))]);
        units.add_job("true");
        assert_eq!(units.defs.last().unwrap().needs, [0, 1]);
    }
}
