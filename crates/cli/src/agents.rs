//! `octant agent`: asks the service that keeps agents.

mod authority;
pub(crate) mod budget;
mod keep;
mod prepared;
mod talk;
mod why;

use crate::args::{Agent as Command, Output as Only, Which};
use crate::error::CliError;
use crate::family;
use crate::manifest;
use crate::out::{Out, Table, Ticking, span, utc};
use crate::service::Service;
use octant_api::agent::Child;
use octant_api::agents::{
    AgentInfo, AgentList, AgentState, BudgetRequest, ENVELOPE_MAX, ExitInfo, KillRequest, ListRequest,
    LogChunk, LogsEnd, LogsRequest, Output, ResumeRequest, ShowRequest, SpawnRequest, SuspendRequest, Task,
    ThrottleRequest, UnthrottleRequest, WaitRequest,
};
use octant_api::rpc::StreamRequest;
use octant_ids::{Aid, Layout};
use octant_manifest::Envelope;
use octant_sys::clock;
use serde::Serialize;
use std::path::Path;

pub(crate) use keep::snapshot;
pub(crate) use talk::{Lines, endpoint, key};

/// The fewest characters of an identifier's end that stand for it: 20 random bits.
const ENDING_MIN: usize = 4;
/// More generations than a manifest can ask for.
const FAMILY_MAX: usize = 64;

/// The command.
///
/// Inside a workstation there is one socket, on which an agent reaches those below it.
pub(crate) fn run(command: &Command, layout: &Layout, out: &mut Out) -> Result<(), CliError> {
    if let Command::Loop(asked) = command {
        return talk::run_loop(asked, layout, out);
    }
    if let Some(own) = family::inside(layout) {
        return family::run(&own, command, out);
    }
    let service = Service::of(layout, "agents");
    let known = |of: &Which| service.call(&ShowRequest { agent: resolve(&service, &of.agent)? });
    match command {
        Command::Spawn { file: Some(file), wait, words, .. } => {
            spawn(&service, file, *wait, talk::task(words)?, out)
        }
        Command::Say { which, text, stop } => {
            let agent = resolve(&service, &which.agent)?;
            talk::say(&service, agent, text.as_deref(), *stop, out)
        }
        Command::Attach(which) => talk::attach(&service, resolve(&service, &which.agent)?, out),
        // It was run above.
        Command::Loop(_) => Ok(()),
        Command::Spawn { .. } | Command::Children { .. } => Err(family::outside()),
        Command::Prepare { file, count } => prepared::prepare(&service, file, *count, out),
        Command::Prepared { drop: false, .. } => prepared::list(&service, out),
        Command::Prepared { manifest, .. } => prepared::drop(&service, *manifest, out),
        Command::List { all } => list(&service, *all, out),
        Command::Tree { all } => tree(&service, *all, out),
        Command::Show(which) => show(&known(which)?, out),
        Command::Authority(which) => {
            let info = known(which)?;
            authority::show(&info, &lineage(&service, &info)?, out)
        }
        Command::Budget(which) => {
            let agent = resolve(&service, &which.agent)?;
            budget::show(&service.call(&BudgetRequest { agent })?, out)
        }
        Command::Why { which, manifest } => {
            why::show(&known(which)?, manifest.as_deref(), &Service::of(layout, "ledger"), out)
        }
        Command::Logs { which, follow, only } => {
            let agent = resolve(&service, &which.agent)?;
            let request = LogsRequest { agent, output: only.map(Output::from), follow: *follow };
            logs(&service, &request, out)
        }
        Command::Wait(which) => {
            let agent = resolve(&service, &which.agent)?;
            let info = wait(&service, agent, out)?;
            if out.json {
                out.json(&info)?;
            }
            verdict(&info)?;
            if out.json { Ok(()) } else { print(&info, out) }
        }
        Command::Artefacts { which, snapshot, out: into, remove } => {
            let todo = keep::Todo { into: into.as_deref(), remove: *remove };
            keep::run(&service, &which.agent, snapshot.as_deref(), todo, out)
        }
        Command::Fork { which, manifest, limit, words } => {
            let begin =
                keep::Begin { file: manifest.as_deref(), limit_mib: *limit, task: talk::task(words)? };
            keep::fork(layout, &service, &which.agent, begin, out)
        }
        Command::Kill { .. } | Command::Suspend(_) | Command::Resume { .. } | Command::Throttle { .. } => {
            hold(&service, command, out)
        }
    }
}

/// The commands that end an agent, stop it for a while or slow it down.
fn hold(service: &Service, command: &Command, out: &mut Out) -> Result<(), CliError> {
    match command {
        Command::Kill { which, grace } => {
            let agent = resolve(service, &which.agent)?;
            print(&service.call(&KillRequest { agent, grace_ms: grace.0 })?, out)
        }
        Command::Suspend(which) => {
            let agent = resolve(service, &which.agent)?;
            print(&service.call(&SuspendRequest { agent })?, out)
        }
        Command::Resume { which, time } => {
            let agent = resolve(service, &which.agent)?;
            print(&service.call(&ResumeRequest { agent, for_ms: time.map(|time| time.0) })?, out)
        }
        Command::Throttle { which, cpu, .. } => {
            let agent = resolve(service, &which.agent)?;
            let info = match *cpu {
                Some(cpu_percent) => service.call(&ThrottleRequest { agent, cpu_percent })?,
                // `--off`: one of the two has to be there.
                None => service.call(&UnthrottleRequest { agent })?,
            };
            print(&info, out)
        }
        // `run` hands over these alone.
        _ => Ok(()),
    }
}

/// What is known of an agent's end, whoever asked.
pub(crate) struct End<'a> {
    aid: Aid,
    state: AgentState,
    exit: Option<ExitInfo>,
    reason: Option<&'a str>,
    cpu_percent: Option<u64>,
    started_ms: Option<u64>,
    ended_ms: Option<u64>,
}

impl<'a> From<&'a AgentInfo> for End<'a> {
    fn from(info: &'a AgentInfo) -> Self {
        let AgentInfo { aid, state, exit, reason, cpu_percent, started_ms, ended_ms, .. } = info;
        let (reason, cpu_percent) = (reason.as_deref(), *cpu_percent);
        let (started_ms, ended_ms) = (*started_ms, *ended_ms);
        Self { aid: *aid, state: *state, exit: *exit, reason, cpu_percent, started_ms, ended_ms }
    }
}

impl<'a> From<&'a Child> for End<'a> {
    fn from(child: &'a Child) -> Self {
        let Child { aid, state, exit, reason, started_ms, ended_ms, .. } = child;
        let (reason, started_ms, ended_ms) = (reason.as_deref(), *started_ms, *ended_ms);
        // How fast it goes is between it and its operator.
        Self { aid: *aid, state: *state, exit: *exit, reason, cpu_percent: None, started_ms, ended_ms }
    }
}

impl From<Only> for Output {
    fn from(only: Only) -> Self {
        match only {
            Only::Stdout => Self::Stdout,
            Only::Stderr => Self::Stderr,
        }
    }
}

/// The agents above one, the nearest first.
fn lineage(service: &Service, info: &AgentInfo) -> Result<Vec<AgentInfo>, CliError> {
    let mut above: Vec<AgentInfo> = Vec::new();
    let mut parent = info.parent;
    while let Some(aid) = parent {
        // A family has so many generations; a service that says otherwise is not followed for ever.
        if above.len() > FAMILY_MAX {
            break;
        }
        let info = service.call(&ShowRequest { agent: aid.to_string() })?;
        parent = info.parent;
        above.push(info);
    }
    Ok(above)
}

/// A signed manifest.
pub(crate) fn envelope(file: &Path) -> Result<String, CliError> {
    const KIND: &str = "signed manifest";
    let bytes = manifest::read(file, KIND, ENVELOPE_MAX)?;
    // Only its form is looked at here, so that a plain TOML file is named as such; whether it is to be believed
    // is for the service.
    Envelope::parse(&bytes).map_err(|e| manifest::invalid(file, KIND, &e))?;
    manifest::text(bytes, file, KIND)
}

fn spawn(
    service: &Service,
    file: &Path,
    wait_too: bool,
    task: Option<Task>,
    out: &mut Out,
) -> Result<(), CliError> {
    let envelope = envelope(file)?;
    let info = service.call(&SpawnRequest { envelope, task })?;
    if !info.missing_layers.is_empty() {
        out.note(&format!("WARNING: {} runs without: {}", info.aid, info.missing_layers.join(", ")));
    }
    if !out.json {
        out.line(info.aid)?;
        out.flush()?;
    }
    if !wait_too {
        return if out.json { out.json(&info) } else { Ok(()) };
    }
    let info = wait(service, info.aid.to_string(), out)?;
    if out.json {
        out.json(&info)?;
    }
    verdict(&info)?;
    if !out.json {
        // Standard output has the identifier alone, for scripts.
        out.note(&format!("{} {}", info.aid, how(&info)));
    }
    Ok(())
}

fn wait(service: &Service, agent: String, out: &Out) -> Result<AgentInfo, CliError> {
    let _progress =
        Ticking::new(out.json, format!("waiting for {agent}; Ctrl-C stops the waiting, not the agent"));
    service.call(&WaitRequest { agent })
}

/// Exit 0 is for agents that ended with code 0.
pub(crate) fn verdict<'a>(end: impl Into<End<'a>>) -> Result<(), CliError> {
    let end = end.into();
    if end.exit == Some(ExitInfo::Code(0)) {
        return Ok(());
    }
    Err(CliError::AgentFailed { aid: end.aid.to_string(), how: how(end) })
}

pub(crate) fn print<'a, T: Serialize>(info: &'a T, out: &mut Out) -> Result<(), CliError>
where
    &'a T: Into<End<'a>>,
{
    let aid = info.into().aid;
    if out.json { out.json(info) } else { out.line(format_args!("{aid} {}", how(info))) }
}

/// What became of it, as the end of a sentence that starts with its identifier.
pub(crate) fn how<'a>(end: impl Into<End<'a>>) -> String {
    let end = end.into();
    let mut text = match end.exit {
        Some(ExitInfo::Code(code)) => format!("ended with code {code}"),
        Some(ExitInfo::Signal(signal)) => format!("was ended by signal {signal}{}", signal_name(signal)),
        None => format!("is {}", end.state.as_str()),
    };
    if let Some(percent) = end.cpu_percent {
        text += &format!(", with at most {percent}% of one processor");
    }
    if let (Some(start), Some(end)) = (end.started_ms, end.ended_ms) {
        text += &format!(" after {}", span(end.saturating_sub(start) / 1000));
    }
    if let Some(reason) = end.reason {
        text += &format!(": {}", crate::out::printable(reason));
    }
    text
}

fn signal_name(number: i32) -> String {
    let signal = nix::sys::signal::Signal::try_from(number);
    signal.map_or_else(|_| String::new(), |signal| format!(" ({signal})"))
}

/// Its state in a table: how it ended where it has.
pub(crate) fn state(state: AgentState, exit: Option<ExitInfo>) -> String {
    match (state, exit) {
        (AgentState::Terminated | AgentState::Archived, Some(ExitInfo::Code(code))) => {
            format!("exited {code}")
        }
        (AgentState::Terminated | AgentState::Archived, Some(ExitInfo::Signal(n))) => format!("signal {n}"),
        (state, _) => state.as_str().to_owned(),
    }
}

/// The same where nobody may have asked for the agent yet.
fn state_of(info: &AgentInfo) -> String {
    if info.prepared { "prepared".to_owned() } else { state(info.state, info.exit) }
}

fn list(service: &Service, all: bool, out: &mut Out) -> Result<(), CliError> {
    let list = service.call(&ListRequest { all })?;
    if out.json {
        return out.json(&list);
    }
    let now = clock::wall_ms();
    let mut table = Table::new(&["AGENT", "STATE", "AGE", "WITHOUT", "NAME"]);
    for info in &list.agents {
        let age = info.started_ms.map(|start| span(now.saturating_sub(start) / 1000));
        let without =
            if info.missing_layers.is_empty() { "-".to_owned() } else { info.missing_layers.join(",") };
        let age = age.unwrap_or_else(|| "-".to_owned());
        table.row([info.aid.to_string(), state_of(info), age, without, info.name.clone()]);
    }
    out.table(&table)
}

fn tree(service: &Service, all: bool, out: &mut Out) -> Result<(), CliError> {
    let list = service.call(&ListRequest { all })?;
    let members = list.agents.iter().map(|info| (info.aid, info.parent)).collect::<Vec<_>>();
    let order = family::order(&members);
    if out.json {
        let agents = order.iter().map(|row| list.agents[row.member].clone()).collect();
        return out.json(&AgentList { agents });
    }
    let mut table = Table::new(&["AGENT", "STATE", "NAME"]);
    for row in order {
        let info = &list.agents[row.member];
        table.row([info.aid.to_string(), state_of(info), row.below(&info.name)]);
    }
    out.table(&table)
}

fn show(info: &AgentInfo, out: &mut Out) -> Result<(), CliError> {
    if out.json {
        return out.json(info);
    }
    let time = |ms: Option<u64>| ms.map_or_else(|| "-".to_owned(), utc);
    let rows = [
        ("agent", info.aid.to_string()),
        ("name", info.name.clone()),
        ("role", info.role.clone()),
        ("operator", info.operator.clone()),
        ("state", state_of(info)),
        ("under", info.parent.map_or_else(|| "its operator".to_owned(), |parent| parent.to_string())),
        ("pid", info.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string())),
        ("started", time(info.started_ms)),
        ("ended", time(info.ended_ms)),
        ("manifest", info.manifest_digest.to_string()),
    ];
    let begun = info.workspace.map(|snapshot| match info.fork_of {
        Some(of) => format!("began with {snapshot}, of {of}"),
        None => format!("began with {snapshot}"),
    });
    rows.iter().try_for_each(|(name, value)| out.wrapped(name, value))?;
    begun.iter().try_for_each(|text| out.wrapped("workspace", text))?;
    if let Some(kept) = &info.artefacts {
        out.wrapped("artefacts", &keep::told(kept))?;
    }
    info.snapshots.iter().try_for_each(|taken| out.wrapped("snapshot", &keep::taken(taken)))?;
    if info.exit.is_some() || info.reason.is_some() || info.cpu_percent.is_some() {
        out.wrapped(if info.state.ended() { "end" } else { "now" }, &how(info))?;
    }
    if !info.missing_layers.is_empty() {
        out.wrapped("WITHOUT", &info.missing_layers.join(", "))?;
    }
    for grant in &info.grants {
        out.wrapped("grant", grant)?;
    }
    for denial in &info.denials {
        let got = if denial.got.is_empty() { "nothing" } else { &denial.got };
        out.wrapped("narrowed", &format!("{}: asked {}, got {got}", denial.field, denial.asked))?;
    }
    info.layers
        .iter()
        .try_for_each(|layer| out.wrapped("layer", &format!("{}: {}", layer.name, layer.detail)))
}

/// Prints what an agent wrote.
pub(crate) fn logs<R>(service: &Service, request: &R, out: &mut Out) -> Result<(), CliError>
where
    R: StreamRequest<Item = LogChunk, Reply = LogsEnd>,
{
    logs_after(service, request, 0, out)
}

/// The same without its first lines.
fn logs_after<R>(service: &Service, request: &R, mut skip: usize, out: &mut Out) -> Result<(), CliError>
where
    R: StreamRequest<Item = LogChunk, Reply = LogsEnd>,
{
    let end = service.stream(request, |mut chunk| {
        while skip > 0
            && let Some(at) = chunk.data.0.iter().position(|byte| *byte == b'\n')
        {
            chunk.data.0.drain(..=at);
            skip -= 1;
        }
        if skip > 0 || chunk.data.0.is_empty() {
            return Ok(());
        }
        if out.json {
            return out.json(&chunk);
        }
        match chunk.stream {
            Output::Stdout => out.foreign(&chunk.data.0),
            Output::Stderr => {
                out.foreign_error(&chunk.data.0);
                Ok(())
            }
        }
    })?;
    if end.lost_bytes > 0 {
        out.note(&format!("{} bytes that it wrote first are not kept any more", end.lost_bytes));
    }
    Ok(())
}

/// Prints what an agent was denied, without the lines of a manifest.
pub(crate) fn why(info: &AgentInfo, ledger: &Service, out: &mut Out) -> Result<(), CliError> {
    why::show(info, None, ledger, out)
}

/// Prints the last lines that an agent wrote, all where it is not said how many.
pub(crate) fn tail(
    service: &Service,
    given: &str,
    follow: bool,
    lines: Option<usize>,
    out: &mut Out,
) -> Result<(), CliError> {
    let agent = resolve(service, given)?;
    let mut request = LogsRequest { agent, output: None, follow: false };
    let mut skip = 0;
    if let Some(most) = lines {
        let mut all = 0_usize;
        service.stream(&request, |chunk| {
            all += chunk.data.0.iter().filter(|byte| **byte == b'\n').count();
            Ok(())
        })?;
        skip = all.saturating_sub(most);
    }
    request.follow = follow;
    logs_after(service, &request, skip, out)
}

/// The agent behind what the operator typed.
pub(crate) fn find(service: &Service, given: &str) -> Result<AgentInfo, CliError> {
    service.call(&ShowRequest { agent: resolve(service, given)? })
}

/// The identifier behind what the operator typed: a whole identifier, the end of one, or a name. Where several
/// agents have the name, the one that has not ended is meant, if it is one.
fn resolve(service: &Service, given: &str) -> Result<String, CliError> {
    if given.parse::<Aid>().is_ok() {
        return Ok(given.to_owned());
    }
    let agents = service.call(&ListRequest { all: true })?.agents;
    choose(&agents, given).map(|aid| aid.to_string())
}

fn choose(agents: &[AgentInfo], given: &str) -> Result<Aid, CliError> {
    let ending = given.len() >= ENDING_MIN;
    let matching: Vec<&AgentInfo> = agents
        .iter()
        // One that is prepared has no name yet that it could be called by.
        .filter(|info| {
            (info.name == given && !info.prepared) || (ending && info.aid.to_string().ends_with(given))
        })
        .collect();
    let live: Vec<&&AgentInfo> = matching.iter().filter(|info| !info.state.ended()).collect();
    match (&matching[..], &live[..]) {
        ([], _) => Err(CliError::NotFound(format!("agent {given:?}"))),
        ([one], _) => Ok(one.aid),
        (_, [one]) => Ok(one.aid),
        (many, _) => Err(CliError::Ambiguous { given: given.to_owned(), count: many.len() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use octant_ids::Sha256;

    fn agent(n: u64, name: &str, state: AgentState) -> AgentInfo {
        AgentInfo {
            aid: Aid::new(n, [u8::try_from(n).unwrap(); 10]),
            name: name.into(),
            role: "analyst".into(),
            operator: "alice".into(),
            state,
            parent: None,
            depth: 0,
            pid: None,
            exit: None,
            reason: None,
            cpu_percent: None,
            prepared: false,
            started_ms: None,
            ended_ms: None,
            manifest_digest: Sha256::ZERO,
            workspace: None,
            fork_of: None,
            artefacts: None,
            snapshots: Vec::new(),
            missing_layers: vec![],
            layers: vec![],
            denials: vec![],
            denied_calls: vec![],
            calls_unreported: None,
            denied_accesses: vec![],
            accesses_unreported: None,
            grants: vec![],
        }
    }

    #[test]
    fn an_agent_is_named_by_its_end_or_by_its_name() {
        let agents = [
            agent(1, "report", AgentState::Archived),
            agent(2, "report", AgentState::Running),
            agent(3, "other", AgentState::Terminated),
            agent(4, "twice", AgentState::Running),
            agent(5, "twice", AgentState::Running),
            AgentInfo { prepared: true, ..agent(6, "report", AgentState::Isolated) },
        ];
        let aid = agents[0].aid.to_string();
        assert_eq!(choose(&agents, &aid[26..]).unwrap(), agents[0].aid);
        assert_eq!(choose(&agents, "report").unwrap(), agents[1].aid, "the one that lives");
        assert_eq!(choose(&agents, "other").unwrap(), agents[2].aid);
        assert!(matches!(choose(&agents, "twice"), Err(CliError::Ambiguous { count: 2, .. })));
        assert!(
            matches!(choose(&agents, &aid[29..]), Err(CliError::NotFound(_))),
            "three characters are few"
        );
        assert_eq!(choose(&agents, &agents[5].aid.to_string()[22..]).unwrap(), agents[5].aid);
        assert!(matches!(choose(&agents, ""), Err(CliError::NotFound(_))));
    }

    #[test]
    fn an_end_is_told_in_words() {
        let mut info = agent(1, "report", AgentState::Terminated);
        (info.started_ms, info.ended_ms) = (Some(1000), Some(62_000));
        info.exit = Some(ExitInfo::Signal(9));
        info.reason = Some("lifetime of 60 s is over\x1b".into());
        assert_eq!(how(&info), "was ended by signal 9 (SIGKILL) after 1m01s: lifetime of 60 s is over?");
        assert!(verdict(&info).is_err());
        info.exit = Some(ExitInfo::Code(0));
        assert!(verdict(&info).is_ok());
        let mut held = agent(2, "report", AgentState::Throttled);
        held.cpu_percent = Some(10);
        assert_eq!(how(&held), "is throttled, with at most 10% of one processor");
        (held.state, held.reason) = (AgentState::Suspended, Some("suspended by an operator".into()));
        assert_eq!(how(&held), "is suspended, with at most 10% of one processor: suspended by an operator");
    }
}
