//! `status`, `health`, `service`, `upgrade`, `poweroff`, `reboot`, `halt`: what PID 1 answers.

use crate::CheckConfig;
use crate::args;
use crate::error::CliError;
use crate::operator::{Operator, Overview};
use crate::out::{Out, Progress, Table, bytes, printable, span};
use octant_api::operator::{Health, Op, Phase, UnitState, UnitStatus, Used};
use octant_ids::{Exit, Layout};
use octant_sys::clock;
use serde::Serialize;
use std::thread;
use std::time::Duration;

/// Between two looks at a unit that is on its way: short against what a start takes, and nothing for PID 1.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

#[derive(Serialize)]
struct UnitRow<'a> {
    name: &'a str,
    state: &'static str,
    /// None for a unit that makes no probes.
    health: Option<&'static str>,
    pid: Option<u32>,
    restarts: u32,
    since_ns: u64,
    uid: u32,
    /// How long ago it last said how it is; health and text are as old as that.
    heard_ms: Option<u32>,
    /// Bytes, with all its processes; none where the kernel does not count.
    memory: Option<u64>,
    memory_max: Option<u64>,
    pids: Option<u32>,
    pids_max: Option<u32>,
    /// How often the kernel has killed it for want of memory.
    out_of_memory: u32,
    text: &'a str,
}

#[derive(Serialize)]
struct StatusDocument<'a> {
    phase: &'static str,
    reason: &'a str,
    now_ns: u64,
    units: Vec<UnitRow<'a>>,
}

/// `octant status`
pub(crate) fn status(operator: &Operator, out: &mut Out) -> Result<(), CliError> {
    let overview = operator.status()?;
    let now_ns = clock::monotonic_ns();
    if out.json {
        let units = overview.units.iter().map(row).collect();
        let phase = overview.end.phase.as_str();
        return out.json(&StatusDocument { phase, reason: &overview.end.reason, now_ns, units });
    }
    let mut table = Table::new(&["UNIT", "STATE", "HEALTH", "HEARD", "PID", "RESTARTS", "SINCE", "STATUS"]);
    for unit in &overview.units {
        table.row([
            unit.name.clone(),
            unit.state.as_str().to_owned(),
            unit.health.as_str().to_owned(),
            // Health and text are as old as this.
            unit.heard_ms.map_or_else(|| "-".to_owned(), |ms| span(u64::from(ms) / 1000)),
            if unit.pid == 0 { "-".to_owned() } else { unit.pid.to_string() },
            unit.restarts.to_string(),
            span(now_ns.saturating_sub(unit.since_ns) / 1_000_000_000),
            remark(unit)
                .into_iter()
                .chain(Some(unit.text.clone()))
                .filter(|text| !text.is_empty())
                .collect::<Vec<_>>()
                .join("; "),
        ]);
    }
    out.table(&table)?;
    let reason = &overview.end.reason;
    let colon = if reason.is_empty() { "" } else { ": " };
    out.line(format_args!("octant is {}{colon}{reason}", overview.end.phase.as_str()))
}

fn row(unit: &UnitStatus) -> UnitRow<'_> {
    UnitRow {
        name: &unit.name,
        state: unit.state.as_str(),
        health: (unit.health != Health::None).then(|| unit.health.as_str()),
        pid: (unit.pid != 0).then_some(unit.pid),
        restarts: unit.restarts,
        since_ns: unit.since_ns,
        uid: unit.uid,
        heard_ms: unit.heard_ms,
        memory: unit.used.memory,
        memory_max: unit.used.memory_max,
        pids: unit.used.pids,
        pids_max: unit.used.pids_max,
        out_of_memory: unit.out_of_memory,
        text: &unit.text,
    }
}

/// What there is to say of a unit's bounds: where it is near one, and how often it was killed at one.
pub(crate) fn remark(unit: &UnitStatus) -> Option<String> {
    // Nine tenths.
    let near = |used: u64, max: u64| used >= max - max / 10;
    let Used { memory, memory_max, pids, pids_max } = unit.used;
    let mut said = Vec::new();
    match unit.out_of_memory {
        0 => {}
        times => said.push(format!("killed for memory {times}x")),
    }
    if let Some((used, max)) = memory.zip(memory_max).filter(|(used, max)| near(*used, *max)) {
        said.push(format!("memory {} of {}", bytes(used), bytes(max)));
    }
    if let Some((used, max)) = pids.zip(pids_max).filter(|(used, max)| near((*used).into(), (*max).into())) {
        said.push(format!("{used} of {max} processes"));
    }
    (!said.is_empty()).then(|| said.join("; "))
}

#[derive(Serialize)]
struct ConfigDocument {
    valid: bool,
    lines: Vec<String>,
}

/// `octant config check` of what is on the machine.
pub(crate) fn check_config(
    check: Option<CheckConfig>,
    layout: &Layout,
    out: &mut Out,
) -> Result<(), CliError> {
    let Some(check) = check else {
        let (what, why) =
            ("cannot check the configuration".to_owned(), "this build has no PID 1 in it".to_owned());
        return Err(CliError::Refused { what, why, exit: Exit::Unavailable, next: None });
    };
    let checked = check(layout);
    let valid = checked.is_ok();
    let lines = checked.unwrap_or_else(|wrong| wrong);
    let count = lines.len();
    if out.json {
        out.json(&ConfigDocument { valid, lines })?;
    } else {
        lines.iter().try_for_each(|line| out.line(printable(line)))?;
    }
    if valid {
        return Ok(());
    }
    let (path, why) = (layout.etc.clone(), format!("{count} problems, see above"));
    Err(CliError::Invalid { path, kind: "configuration", why })
}

#[derive(Serialize)]
struct HealthDocument {
    healthy: bool,
    problems: Vec<String>,
}

/// `octant health`
pub(crate) fn health(operator: &Operator, wait_ms: u64, out: &mut Out) -> Result<(), CliError> {
    let end_ns = clock::monotonic_ns().saturating_add(wait_ms.saturating_mul(1_000_000));
    let mut progress = Progress::new(out.json);
    let (count, problems) = loop {
        let looked = operator.status().map(|overview| (overview.units.len(), problems(&overview)));
        match looked {
            Ok((count, problems)) if problems.is_empty() => break (count, problems),
            Ok((_, ref problems)) if clock::monotonic_ns() < end_ns => progress.show(&problems[0]),
            Err(_) if clock::monotonic_ns() < end_ns => progress.show("Octant does not answer yet"),
            done => break done?,
        }
        thread::sleep(LOOK_AGAIN);
    };
    drop(progress);
    if out.json {
        out.json(&HealthDocument { healthy: problems.is_empty(), problems: problems.clone() })?;
    } else if problems.is_empty() {
        out.line(format_args!("healthy: {count} units"))?;
    } else {
        problems.iter().try_for_each(|problem| out.line(problem))?;
    }
    match problems.len() {
        0 => Ok(()),
        1 => Err(CliError::Unhealthy("1 thing is not healthy".into())),
        n => Err(CliError::Unhealthy(format!("{n} things are not healthy"))),
    }
}

/// Why this is not healthy, one sentence each. A unit whose first probe is still out is not healthy yet: a
/// light that is green before anything was looked at is worth nothing.
fn problems(overview: &Overview) -> Vec<String> {
    let mut found: Vec<String> = overview.units.iter().filter_map(problem).collect();
    let phase = overview.end.phase;
    if found.is_empty() && matches!(phase, Phase::Degraded | Phase::Stopping | Phase::Emergency) {
        found.push(format!("octant is {}: {}", phase.as_str(), overview.end.reason));
    }
    found
}

pub(crate) fn problem(unit: &UnitStatus) -> Option<String> {
    let word = match (unit.state, unit.health) {
        (UnitState::Ready, Health::Ok | Health::None) | (UnitState::Down | UnitState::Done, _) => {
            return None;
        }
        // A one-shot unit (a job) has no readiness: it does its work until it is done.
        (UnitState::Starting, Health::None) => return None,
        (UnitState::Ready, Health::Unknown) => "has not probed its own work yet",
        (UnitState::Ready, Health::Unhealthy) => "is unhealthy",
        (UnitState::Failed, _) => "failed",
        (UnitState::BackOff, _) => "ended and is started again after a pause",
        (UnitState::Waiting, _) => "waits for what it needs",
        (UnitState::Starting, _) => "is starting",
        (UnitState::Stopping, _) => "is stopping",
    };
    let colon = if unit.text.is_empty() { "" } else { ": " };
    Some(format!("{} {word}{colon}{}", unit.name, printable(&unit.text)))
}

/// `octant service start|stop|restart`
pub(crate) fn service(operator: &Operator, command: &args::Service, out: &mut Out) -> Result<(), CliError> {
    let (op, unit, what) = match command {
        args::Service::Start(unit) => (Op::Start, unit, "start"),
        args::Service::Stop(unit) => (Op::Stop, unit, "stop"),
        args::Service::Restart(unit) => (Op::Restart, unit, "restart"),
    };
    let name = unit.name.as_str();
    let before = find(operator, name)?.since_ns;
    operator.act(op, name, what)?;
    let end_ns = clock::monotonic_ns().saturating_add(unit.wait.0.saturating_mul(1_000_000));
    let mut progress = Progress::new(out.json);
    let after = loop {
        let now = find(operator, name)?;
        let arrived = match op {
            Op::Stop => matches!(now.state, UnitState::Down | UnitState::Done | UnitState::Failed),
            // A restart is over only when the state is another than before it.
            Op::Restart if now.since_ns == before => false,
            _ => matches!(now.state, UnitState::Ready | UnitState::Done | UnitState::Failed),
        };
        if arrived || clock::monotonic_ns() >= end_ns {
            break now;
        }
        progress.show(&format!("{name} is {}", now.state.as_str()));
        thread::sleep(LOOK_AGAIN);
    };
    drop(progress);
    if out.json {
        out.json(&row(&after))?;
    } else {
        let colon = if after.text.is_empty() { "" } else { ": " };
        out.line(format_args!("{name} is {}{colon}{}", after.state.as_str(), after.text))?;
    }
    let wanted = match op {
        Op::Stop => matches!(after.state, UnitState::Down | UnitState::Done),
        _ => matches!(after.state, UnitState::Ready | UnitState::Done),
    };
    if wanted {
        return Ok(());
    }
    Err(CliError::Unhealthy(format!("{name} is {} after {what}", after.state.as_str())))
}

fn find(operator: &Operator, name: &str) -> Result<UnitStatus, CliError> {
    let units = operator.status()?.units;
    units.into_iter().find(|unit| unit.name == name).ok_or_else(|| CliError::NotFound(format!("unit {name}")))
}

#[derive(Serialize)]
struct Accepted<'a> {
    accepted: &'a str,
    text: &'a str,
}

/// `octant upgrade`, `poweroff`, `reboot`, `halt`
pub(crate) fn machine(operator: &Operator, op: Op, what: &str, out: &mut Out) -> Result<(), CliError> {
    let text = operator.act(op, "", what)?;
    if out.json {
        return out.json(&Accepted { accepted: what, text: &text });
    }
    if text.is_empty() { out.line(format_args!("{what}: accepted")) } else { out.line(text) }
}
