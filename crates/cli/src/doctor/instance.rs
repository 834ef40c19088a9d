//! The Octant that runs here: PID 1 and its units, the ledger and the vault, sockets and directories.

use super::{Check, Part, Verdict};
use crate::error::CliError;
use crate::ledger::check_proof;
use crate::operator::{Operator, Overview};
use crate::out::utc;
use crate::service::Service;
use crate::units::{problem, remark};
use octant_api::ledger::{Head, HeadRequest, ProveRequest, QueryRequest};
use octant_api::operator::{Phase, UnitState, UnitStatus};
use octant_api::unit::{ROUTER, Spec};
use octant_api::vault::{DoctorReport, DoctorRequest, Mark};
use octant_editions::{Editions, TEXT, name};
use octant_ids::Layout;
use octant_ids::uid::{NOTIFY_GROUP, of_service};
use octant_manifest::MachineConfig;
use octant_sys::clock;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::PathBuf;

/// Who has each socket that is not its service's own: the spawner's one client.
const SPAWNERS_CLIENT: &str = "agents";

/// What was found.
#[derive(Debug)]
pub(super) struct Facts {
    /// What PID 1 says.
    init: Init,
    /// What should be where; empty where nothing runs.
    places: Vec<Place>,
    /// The ledger's last entry, and whether it proves that it is in its tree.
    ledger: Result<Ledger, String>,
    /// What the vault says of itself.
    vault: Result<DoctorReport, String>,
    /// The machine's configuration.
    configuration: Configuration,
}

/// The machine's configuration, as it lies on the disk.
#[derive(Debug, Default)]
struct Configuration {
    /// The edition in force; 0 for the image's own octant.toml.
    in_force: u32,
    /// Why it is not to be used, where it is in force all the same.
    bad: Option<String>,
    /// What became of the last one that did not come to be in force, or did not stay.
    refused: Option<String>,
    /// Until when the one in force can be taken, and now, both in milliseconds since 1970.
    until_ms: Option<(u64, u64)>,
}

#[derive(Debug)]
enum Init {
    Says(Overview),
    /// Nothing listens.
    Away(String),
    /// Something does, and gives no answer.
    Silent(String),
}

#[derive(Debug)]
struct Ledger {
    head: Head,
    proof: Result<(), String>,
    last_ms: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Socket,
    Directory,
}

/// A socket or directory as it has to be, and as it is.
#[derive(Debug)]
struct Place {
    path: PathBuf,
    kind: Kind,
    mode: u32,
    owner: (u32, u32),
    found: Found,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Found {
    Is {
        kind: Option<Kind>,
        mode: u32,
        owner: (u32, u32),
    },
    Nothing,
    /// This user may not look.
    Closed,
    Failed(String),
}

impl Facts {
    /// When the ledger's last entry was appended.
    pub(super) fn last_entry_ms(&self) -> Option<u64> {
        self.ledger.as_ref().ok().and_then(|ledger| ledger.last_ms)
    }
}

/// Looks and asks. `boot` is what PID 1 starts by itself.
pub(super) fn gather(layout: &Layout, boot: &[Spec], operator: &Operator) -> Facts {
    let init = match operator.status() {
        Ok(overview) => Init::Says(overview),
        Err(CliError::Connect { source, .. })
            if matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) =>
        {
            Init::Away(source.to_string())
        }
        Err(error) => Init::Silent(error.to_string()),
    };
    if matches!(init, Init::Away(_)) {
        let nobody = || "nothing runs".to_owned();
        let configuration = Configuration::default();
        return Facts {
            init,
            places: Vec::new(),
            ledger: Err(nobody()),
            vault: Err(nobody()),
            configuration,
        };
    }
    let vault = Service::of(layout, "vault").call(&DoctorRequest {}).map_err(|error| error.to_string());
    let ledger = ledger(&Service::of(layout, "ledger")).map_err(|error| error.to_string());
    // Where PID 1 does not say what runs, everything that can be is looked for.
    let runs = |name: &str| match &init {
        Init::Says(overview) => overview.units.iter().any(|unit| unit.name == name),
        Init::Away(_) | Init::Silent(_) => true,
    };
    let boot: Vec<&Spec> = boot.iter().filter(|spec| spec.socket_mode != 0 && runs(spec.name)).collect();
    let places = places(layout, &boot);
    Facts { init, places, ledger, vault, configuration: configuration(layout) }
}

fn configuration(layout: &Layout) -> Configuration {
    let editions = Editions::of(layout);
    let in_force = editions.current();
    let text = fs::read(editions.place(in_force).join(TEXT)).ok();
    // It was checked by those who read its tables when it was accepted.
    let config = text.and_then(|text| MachineConfig::parse(&text, |_, _, _| Ok(())).ok());
    let bad = match editions.verdict(in_force) {
        octant_editions::Verdict::Bad(why) => Some(why),
        octant_editions::Verdict::Good | octant_editions::Verdict::Open => None,
    };
    let until_ms = config.map(|config| (config.not_after_ms, clock::wall_ms()));
    Configuration { in_force, bad, refused: editions.refused(), until_ms }
}

fn ledger(service: &Service) -> Result<Ledger, CliError> {
    let head = service.call(&HeadRequest {})?;
    let seq = head.seq;
    if seq == 0 {
        return Ok(Ledger { head, proof: Ok(()), last_ms: None });
    }
    let last = QueryRequest { from: seq, limit: 1, ..QueryRequest::default() };
    let last_ms = service.call(&last)?.entries.first().map(|entry| entry.wall_ms);
    let proof = service.call(&ProveRequest { seq })?;
    let proof = check_proof(&proof, seq);
    Ok(Ledger { head, proof, last_ms })
}

fn places(layout: &Layout, boot: &[&Spec]) -> Vec<Place> {
    let place = |path: PathBuf, kind, mode, owner| {
        let found = look(&path);
        Place { path, kind, mode, owner, found }
    };
    let directory = |path: &PathBuf, mode, owner| place(path.clone(), Kind::Directory, mode, (owner, owner));
    let log = of_service("log").unwrap_or(0);
    let mut places = vec![
        directory(&layout.run, 0o755, 0),
        directory(&layout.state, 0o755, 0),
        directory(&layout.log, 0o750, log),
        place(layout.operator_socket(), Kind::Socket, 0o666, (0, 0)),
        place(layout.socket("notify"), Kind::Socket, 0o660, (0, NOTIFY_GROUP)),
    ];
    for spec in boot {
        let own = if spec.root { 0 } else { of_service(spec.name).unwrap_or(0) };
        let caller = if spec.root { of_service(SPAWNERS_CLIENT).unwrap_or(0) } else { own };
        places.push(place(layout.socket(spec.name), Kind::Socket, spec.socket_mode, (caller, caller)));
        if spec.name == ROUTER {
            places.push(place(layout.router_http(), Kind::Socket, 0o600, (0, 0)));
        }
        places.push(directory(&layout.state_of(spec.name), 0o700, own));
    }
    places
}

fn look(path: &PathBuf) -> Found {
    match fs::symlink_metadata(path) {
        Ok(meta) => {
            let kind = match meta.file_type() {
                kind if kind.is_socket() => Some(Kind::Socket),
                kind if kind.is_dir() => Some(Kind::Directory),
                _ => None,
            };
            Found::Is { kind, mode: meta.mode() & 0o7777, owner: (meta.uid(), meta.gid()) }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Found::Nothing,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Found::Closed,
        Err(error) => Found::Failed(error.to_string()),
    }
}

fn check(
    what: impl Into<String>,
    verdict: Verdict,
    found: impl Into<String>,
    how: impl Into<String>,
) -> Check {
    Check::new(Part::Instance, what, verdict, found, how)
}

/// What the facts mean.
pub(super) fn judge(facts: &Facts) -> Vec<Check> {
    let overview = match &facts.init {
        Init::Away(why) => {
            let how = "Octant does not run here, or below a directory: give --dir DIR. What an instance consists of was \
                       therefore not looked at.";
            return vec![check("PID 1", Verdict::Unknown, format!("not there: {why}"), how)];
        }
        Init::Silent(why) => {
            let how = "PID 1 supervises everything. What it last said is on the console and in `octant logs`; a machine \
                       whose PID 1 does not answer has to be started anew.";
            let mut checks = vec![check("PID 1", Verdict::Broken, why, how)];
            checks.extend(rest(facts));
            return checks;
        }
        Init::Says(overview) => overview,
    };
    let mut checks = vec![phase(overview)];
    checks.extend(overview.units.iter().map(judge_unit));
    checks.extend(rest(facts));
    checks
}

fn judge_unit(unit: &UnitStatus) -> Check {
    let (what, name) = (format!("unit {}", unit.name), &unit.name);
    if unit.state == UnitState::Down {
        let how = format!("`octant service start {name}` starts it, where it was not stopped on purpose.");
        return check(what, Verdict::Weaker, "stopped by an operator", how);
    }
    match problem(unit) {
        None => match remark(unit) {
            Some(bounds) => {
                let how = format!(
                    "Give it more ([resources] in its unit file, [init.resources.{name}] for Octant's own), or find what \
                     it needs it for: `octant logs {name}`."
                );
                check(what, Verdict::Weaker, format!("{}: {bounds}", unit.state.as_str()), how)
            }
            None => check(what, Verdict::Ok, unit.state.as_str(), ""),
        },
        Some(why) => {
            let how = format!(
                "`octant logs {name}` shows what it said; `octant service restart {name}` starts it anew."
            );
            check(what, Verdict::Broken, why, how)
        }
    }
}

fn phase(overview: &Overview) -> Check {
    let (phase, reason) = (overview.end.phase, &overview.end.reason);
    let found =
        if reason.is_empty() { phase.as_str().to_owned() } else { format!("{}: {reason}", phase.as_str()) };
    match phase {
        Phase::Running if reason.is_empty() => check("PID 1", Verdict::Ok, found, ""),
        Phase::Running => {
            let how = "Octant runs without what is named; the rows of the kernel and the configuration say what to do.";
            check("PID 1", Verdict::Weaker, found, how)
        }
        _ => check("PID 1", Verdict::Broken, found, "The rows of the units say which one, and what to do."),
    }
}

fn rest(facts: &Facts) -> Vec<Check> {
    let mut checks = vec![judge_configuration(&facts.configuration)];
    checks.extend(judge_ledger(&facts.ledger));
    checks.extend(judge_vault(&facts.vault));
    checks.extend(judge_places(&facts.places));
    checks
}

fn judge_configuration(facts: &Configuration) -> Check {
    let in_force = format!("in force: {}", name(facts.in_force));
    if let Some(why) = &facts.bad {
        let how = "Nothing is known to work better: `octant config edit` makes another one, with what is wrong put right.";
        return check(
            "configuration",
            Verdict::Broken,
            format!("{in_force}, which does not work: {why}"),
            how,
        );
    }
    if let Some(why) = &facts.refused {
        let how = "What is in force is not what was meant to be. Put right what is said, sign it with a higher serial \
                   number and apply it; `octant config show` has the whole story.";
        return check("configuration", Verdict::Weaker, format!("{in_force}; {why}"), how);
    }
    if let Some((until_ms, _)) = facts.until_ms.filter(|(until_ms, now_ms)| now_ms >= until_ms) {
        let found = format!("{in_force}, which could be taken until {}", utc(until_ms));
        let how = "It stays in force. A machine that begins anew cannot take it: sign it again with a later not_after and a \
                   higher serial number.";
        return check("configuration", Verdict::Weaker, found, how);
    }
    check("configuration", Verdict::Ok, in_force, "")
}

fn judge_ledger(ledger: &Result<Ledger, String>) -> Vec<Check> {
    let ledger = match ledger {
        Ok(ledger) => ledger,
        Err(why) => {
            let how = "Without the ledger nothing is started. `octant logs ledger` shows what it said.";
            return vec![check("ledger", Verdict::Broken, why, how)];
        }
    };
    let append = match &ledger.head.refused {
        None => check("ledger append", Verdict::Ok, format!("entry {} is durable", ledger.head.seq), ""),
        Some(why) => {
            let how =
                "Nothing that adds authority is done until it takes records again: `octant ledger verify`.";
            check("ledger append", Verdict::Broken, why, how)
        }
    };
    let verify = match &ledger.proof {
        Ok(()) => {
            let found = "the newest checkpoint is signed, and has the last entry";
            check("ledger verify", Verdict::Ok, found, "")
        }
        Err(why) => {
            let how = "Its newest entry is not what its checkpoint says. `octant ledger verify` finds the first entry that is \
                       wrong; keep a copy of its state before anything else.";
            check("ledger verify", Verdict::Broken, why, how)
        }
    };
    vec![append, verify]
}

fn judge_vault(vault: &Result<DoctorReport, String>) -> Vec<Check> {
    let report = match vault {
        Ok(report) => report,
        Err(why) => {
            let how = "Agents get no secrets without it. `octant logs vault` shows what it said.";
            return vec![check("vault", Verdict::Broken, why, how)];
        }
    };
    let of = |row: &octant_api::vault::Check| {
        let verdict = match row.mark {
            Mark::Good => Verdict::Ok,
            Mark::Warning => Verdict::Weaker,
            Mark::Bad => Verdict::Broken,
            Mark::Skipped => Verdict::Unknown,
        };
        check(format!("vault: {}", row.what), verdict, &row.found, &row.next)
    };
    report.checks.iter().map(of).collect()
}

/// One row for all that is as it has to be, and one for each thing that is not.
fn judge_places(places: &[Place]) -> Vec<Check> {
    let mut checks: Vec<Check> = places.iter().filter_map(wrong).collect();
    let closed = places.iter().filter(|place| place.found == Found::Closed).count();
    let good = places.len() - checks.len() - closed;
    if closed > 0 {
        let found = format!("{closed} of {} cannot be seen by this user", places.len());
        checks.push(check("sockets and directories", Verdict::Unknown, found, "Ask as root."));
    } else if checks.is_empty() {
        let found = format!("{good} have the owner and mode that they must have");
        checks.push(check("sockets and directories", Verdict::Ok, found, ""));
    }
    checks
}

fn wrong(place: &Place) -> Option<Check> {
    let path = place.path.display();
    let (what, mode, owner) = (path.to_string(), place.mode, place.owner);
    match &place.found {
        Found::Closed => None,
        Found::Nothing => {
            let how = "PID 1 makes it when it starts, and something has removed it: start Octant anew.";
            Some(check(what, Verdict::Broken, "is not there", how))
        }
        Found::Failed(why) => Some(check(what, Verdict::Broken, why, "See `dmesg` for the disk.")),
        Found::Is { kind, .. } if *kind != Some(place.kind) => {
            let found = "is something else than it has to be";
            Some(check(what, Verdict::Broken, found, "Remove it and start Octant anew."))
        }
        Found::Is { mode: is, owner: by, .. } if (*is, *by) != (mode, owner) => {
            let (uid, gid) = owner;
            let found = format!("mode {is:04o} of {}:{} instead of {mode:04o} of {uid}:{gid}", by.0, by.1);
            let how = format!(
                "Whoever may open it decides who is heard and who reads: `chown {uid}:{gid} {path} && chmod {mode:04o} {path}`, \
                 and find out who changed it."
            );
            Some(check(what, Verdict::Broken, found, how))
        }
        Found::Is { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use octant_api::operator::{End, Health, Used};
    use octant_api::vault;
    use octant_ids::Sha256;

    fn unit(name: &str) -> UnitStatus {
        UnitStatus {
            name: name.into(),
            state: UnitState::Ready,
            health: Health::Ok,
            pid: 7,
            restarts: 0,
            since_ns: 1,
            uid: 960,
            heard_ms: Some(1500),
            used: Used::default(),
            out_of_memory: 0,
            text: String::new(),
        }
    }

    fn sound() -> Facts {
        let end = End { count: 2, phase: Phase::Running, reason: String::new() };
        let head = Head {
            seq: 9,
            hash: Sha256::ZERO,
            refused: None,
            checkpointed: 9,
            witnessed: Default::default(),
        };
        let mark =
            |mark| vault::Check { what: "opens".into(), mark, found: "it does".into(), next: String::new() };
        let place = |path: &str, kind, mode, id| Place {
            path: path.into(),
            kind,
            mode,
            owner: (id, id),
            found: Found::Is { kind: Some(kind), mode, owner: (id, id) },
        };
        Facts {
            init: Init::Says(Overview { units: vec![unit("ledger"), unit("vault")], end }),
            places: vec![
                place("/run/octant/ledger.sock", Kind::Socket, 0o600, 960),
                place("/var/lib/octant/ledger", Kind::Directory, 0o700, 960),
            ],
            ledger: Ok(Ledger { head, proof: Ok(()), last_ms: Some(5) }),
            vault: Ok(DoctorReport { checks: vec![mark(Mark::Good)] }),
            configuration: Configuration { in_force: 3, bad: None, refused: None, until_ms: Some((9, 8)) },
        }
    }

    fn overview(facts: &mut Facts) -> &mut Overview {
        match &mut facts.init {
            Init::Says(overview) => overview,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_sound_instance_has_nothing_to_say() {
        let checks = judge(&sound());
        assert!(checks.iter().all(|c| c.verdict == Verdict::Ok && c.how.is_empty()), "{checks:?}");
        assert_eq!(checks.len(), 1 + 2 + 1 + 2 + 1 + 1);
    }

    type Break = fn(&mut Facts);

    fn each_is_one_row(rows: &[(Break, &str, Verdict, &str)]) {
        for (break_it, what, verdict, hint) in rows {
            let mut facts = sound();
            break_it(&mut facts);
            let bad: Vec<Check> = judge(&facts).into_iter().filter(|c| c.verdict != Verdict::Ok).collect();
            let row = bad.first().unwrap_or_else(|| panic!("{what} was not noticed"));
            assert!(row.what == *what && row.verdict == *verdict && row.how.contains(hint), "{row:?}");
            assert_eq!(bad.len(), 1, "{bad:?}");
        }
    }

    #[test]
    fn a_unit_at_its_bounds_and_a_configuration_that_is_not_as_meant_are_told() {
        each_is_one_row(&[
            (
                |f| {
                    let used = Used { memory: Some(95), memory_max: Some(100), ..Used::default() };
                    overview(f).units[1].used = used;
                },
                "unit vault",
                Verdict::Weaker,
                "init.resources.vault",
            ),
            (|f| overview(f).units[1].out_of_memory = 2, "unit vault", Verdict::Weaker, "Give it more"),
            (
                |f| f.configuration.bad = Some("egress failed".into()),
                "configuration",
                Verdict::Broken,
                "config edit",
            ),
            (
                |f| f.configuration.refused = Some("refused: its serial number".into()),
                "configuration",
                Verdict::Weaker,
                "config show",
            ),
            (|f| f.configuration.until_ms = Some((9, 9)), "configuration", Verdict::Weaker, "stays in force"),
        ]);
    }

    #[test]
    fn each_thing_that_breaks_is_one_row_with_what_to_do() {
        let found = |mode, uid| Found::Is { kind: Some(Kind::Socket), mode, owner: (uid, uid) };
        let open: Break =
            |f| f.places[0].found = Found::Is { kind: Some(Kind::Socket), mode: 0o666, owner: (960, 960) };
        assert_eq!(found(0o666, 960), Found::Is { kind: Some(Kind::Socket), mode: 0o666, owner: (960, 960) });
        let socket = "/run/octant/ledger.sock";
        each_is_one_row(&[
            (open, socket, Verdict::Broken, "chmod 0600"),
            (|f| f.places[0].found = Found::Nothing, socket, Verdict::Broken, "start Octant anew"),
            (
                |f| f.places[0].found = Found::Is { kind: None, mode: 0o600, owner: (960, 960) },
                socket,
                Verdict::Broken,
                "Remove it",
            ),
            (
                |f| f.places[1].found = Found::Is { kind: Some(Kind::Directory), mode: 0o700, owner: (0, 0) },
                "/var/lib/octant/ledger",
                Verdict::Broken,
                "chown 960:960",
            ),
            (|f| f.places[1].found = Found::Closed, "sockets and directories", Verdict::Unknown, "as root"),
            (
                |f| overview(f).units[1].state = UnitState::Down,
                "unit vault",
                Verdict::Weaker,
                "service start",
            ),
            (
                |f| overview(f).units[1].health = Health::Unhealthy,
                "unit vault",
                Verdict::Broken,
                "octant logs vault",
            ),
            (|f| overview(f).end.phase = Phase::Degraded, "PID 1", Verdict::Broken, "units"),
            (|f| overview(f).end.reason = "running without: x".into(), "PID 1", Verdict::Weaker, "without"),
            (
                |f| f.ledger.as_mut().unwrap().head.refused = Some("the disk is full".into()),
                "ledger append",
                Verdict::Broken,
                "ledger verify",
            ),
            (
                |f| f.ledger.as_mut().unwrap().proof = Err("another root".into()),
                "ledger verify",
                Verdict::Broken,
                "keep a copy",
            ),
            (|f| f.vault = Err("silence".into()), "vault", Verdict::Broken, "octant logs vault"),
        ]);
    }

    #[test]
    fn without_pid_1_the_rest_is_not_asked_for() {
        let mut facts = sound();
        facts.init = Init::Away("no such file".into());
        let checks = judge(&facts);
        assert_eq!((checks.len(), checks[0].verdict), (1, Verdict::Unknown));
        facts.init = Init::Silent("silence for 10 s".into());
        assert_eq!(judge(&facts)[0].verdict, Verdict::Broken);
    }
}
