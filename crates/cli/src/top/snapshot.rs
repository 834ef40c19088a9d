//! What is known at one moment. Each source is asked by itself, within its time; one that does not answer is named.

use crate::error::CliError;
use crate::ledger::in_a_line;
use crate::operator::Operator;
use crate::service::Service;
use crate::units::remark;
use octant_api::agents::{AgentInfo, ApprovalsRequest, BudgetRequest, ListRequest};
use octant_api::egress;
use octant_api::ledger::{HeadRequest, QueryRequest};
use octant_api::operator::UnitStatus;
use octant_ids::uid::is_agents;
use octant_ids::{Aid, Layout};
use octant_sys::clock;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs;

/// How long a service may take for one answer, in milliseconds.
const WITHIN_MS: u64 = 1_500;
/// Of so many agents the budgets are asked for, each by itself.
const BUDGETS_MAX: usize = 64;
/// So many entries of the ledger are shown at the most.
const ENTRIES: u32 = 12;

/// Everything that is shown.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(super) struct Snapshot {
    /// When, milliseconds since 1970; 0 before the first look.
    pub(super) now_ms: u64,
    /// What PID 1 as a whole is doing, and why.
    pub(super) phase: String,
    pub(super) units: Vec<Unit>,
    pub(super) agents: Vec<Agent>,
    pub(super) approvals: Vec<Approval>,
    /// The ledger's last entries, the newest last, each in a line.
    pub(super) entries: Vec<String>,
    /// Who gave no answer, and why.
    pub(super) away: Vec<String>,
    /// The machine's memory: what can be had, and all of it, bytes.
    pub(super) memory: Option<(u64, u64)>,
}

/// A unit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(super) struct Unit {
    pub(super) name: String,
    pub(super) state: String,
    pub(super) health: String,
    pub(super) restarts: u32,
    pub(super) text: String,
    pub(super) used: Used,
    /// Bytes of memory beyond which it is killed.
    pub(super) memory_max: Option<u64>,
}

/// An agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Agent {
    pub(super) aid: Aid,
    pub(super) name: String,
    pub(super) state: String,
    pub(super) used: Used,
    /// Connections that are open, bytes out and in; none without a gate.
    pub(super) egress: Option<(u64, u64, u64)>,
    /// Millionths of a US dollar; none where it has no such budget.
    pub(super) spent_microusd: Option<u64>,
}

/// A request that waits for an operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Approval {
    pub(super) id: String,
    pub(super) action: String,
    pub(super) subject: String,
}

/// What something uses of the machine; none where this user or this place cannot see it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(super) struct Used {
    /// Tenths of a percent of one processor, since the look before.
    pub(super) cpu_permille: Option<u64>,
    /// Bytes of memory.
    pub(super) memory: Option<u64>,
}

/// Asks everybody.
#[derive(Debug)]
pub(super) struct Gatherer {
    operator: Operator,
    pub(super) agents: Service,
    pub(super) ledger: Service,
    gate: Service,
    cgroups: Option<String>,
    /// Processor time of each process so far, microseconds, and when that was, nanoseconds.
    before: BTreeMap<u32, (u64, u64)>,
}

impl Gatherer {
    pub(super) fn new(layout: &Layout) -> Self {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let cgroups = mounts.lines().find_map(|line| {
            let mut fields = line.split(' ').skip(1);
            let at = fields.next()?;
            (fields.next() == Some("cgroup2")).then(|| at.to_owned())
        });
        Self {
            operator: Operator::new(layout),
            agents: Service::of(layout, "agents"),
            ledger: Service::of(layout, "ledger"),
            gate: Service::of(layout, "egress"),
            cgroups,
            before: BTreeMap::new(),
        }
    }

    /// What is known now.
    pub(super) fn look(&mut self) -> Snapshot {
        let mut snapshot = Snapshot { now_ms: clock::wall_ms(), memory: memory(), ..Snapshot::default() };
        let mut away = Vec::new();
        let mut missing = |what: &str, error: CliError| away.push(format!("{what}: {error}"));
        match self.operator.status() {
            Ok(overview) => {
                let (phase, reason) = (overview.end.phase.as_str(), &overview.end.reason);
                let colon = if reason.is_empty() { "" } else { ": " };
                snapshot.phase = format!("{phase}{colon}{reason}");
                snapshot.units = overview.units.iter().map(|unit| self.unit(unit)).collect();
            }
            Err(error) => missing("PID 1", error),
        }
        match self.agents.call_within(&ListRequest { all: false }, WITHIN_MS) {
            Ok(list) => snapshot.agents = list.agents.iter().map(|info| self.agent(info)).collect(),
            Err(error) => missing("agents", error),
        }
        match self.approvals() {
            Ok(approvals) => snapshot.approvals = approvals,
            Err(error) => missing("approvals", error),
        }
        if let Err(error) = self.egress(&mut snapshot.agents) {
            missing("egress", error);
        }
        match self.entries() {
            Ok(entries) => snapshot.entries = entries,
            Err(error) => missing("ledger", error),
        }
        snapshot.away = away;
        self.before.retain(|_, (_, at)| clock::monotonic_ns().saturating_sub(*at) < 60_000_000_000);
        snapshot
    }

    fn unit(&mut self, unit: &UnitStatus) -> Unit {
        let used = self.used(unit.pid, |uid| uid == unit.uid, false);
        let text = remark(unit).into_iter().chain(Some(unit.text.clone()).filter(|text| !text.is_empty()));
        Unit {
            name: unit.name.clone(),
            state: unit.state.as_str().to_owned(),
            health: unit.health.as_str().to_owned(),
            restarts: unit.restarts,
            text: text.collect::<Vec<_>>().join("; "),
            used: Used {
                // With all its processes, where the kernel counts them.
                memory: unit.used.memory.or(used.memory),
                ..used
            },
            memory_max: unit.used.memory_max,
        }
    }

    fn agent(&mut self, info: &AgentInfo) -> Agent {
        Agent {
            aid: info.aid,
            name: info.name.clone(),
            state: if info.prepared { "prepared" } else { info.state.as_str() }.to_owned(),
            used: self.used(info.pid.unwrap_or(0), is_agents, true),
            egress: None,
            spent_microusd: None,
        }
    }

    fn approvals(&self) -> Result<Vec<Approval>, CliError> {
        let list = self.agents.call_within(&ApprovalsRequest { all: false }, WITHIN_MS)?;
        let approval = |asked: &octant_api::agents::Approval| Approval {
            id: asked.id.clone(),
            action: asked.action.clone(),
            subject: asked.subject.clone(),
        };
        Ok(list.approvals.iter().map(approval).collect())
    }

    /// What went through the gate, and what models cost.
    fn egress(&self, agents: &mut [Agent]) -> Result<(), CliError> {
        if agents.is_empty() {
            return Ok(());
        }
        for agent in agents.iter_mut().take(BUDGETS_MAX) {
            let request = BudgetRequest { agent: agent.aid.to_string() };
            // One that has just ended has none to ask for.
            let Ok(info) = self.agents.call_within(&request, WITHIN_MS) else { continue };
            let spend = info.budgets.iter().find(|row| row.budget == "models.spend_usd");
            agent.spent_microusd =
                spend.filter(|row| row.given != Some(0) || row.used > 0).map(|row| row.used);
        }
        let gates = self.gate.call_within(&egress::ListRequest { aid: None }, WITHIN_MS)?.agents;
        for agent in agents {
            let gate = gates.iter().find(|gate| gate.aid == agent.aid);
            agent.egress = gate.map(|gate| (gate.open_count, gate.usage.bytes_out, gate.usage.bytes_in));
        }
        Ok(())
    }

    fn entries(&self) -> Result<Vec<String>, CliError> {
        let last = self.ledger.call_within(&HeadRequest {}, WITHIN_MS)?.seq;
        let from = (last + 1).saturating_sub(u64::from(ENTRIES));
        let request = QueryRequest { from, limit: ENTRIES, ..QueryRequest::default() };
        let page = self.ledger.call_within(&request, WITHIN_MS)?;
        Ok(page.entries.iter().map(|entry| in_a_line(entry, true)).collect())
    }

    /// What a process uses, or all that are in its cgroup: where its owner is who it has to be, and so its number means
    /// the same here as to who named it.
    fn used(&mut self, pid: u32, owner: impl Fn(u32) -> bool, whole_cgroup: bool) -> Used {
        let proc = format!("/proc/{pid}");
        // Not who owns the directory: that is its effective user, and a workstation's first process has one of its own, so
        // that what runs beside it cannot signal it.
        let uid = fs::read_to_string(format!("{proc}/status")).ok().and_then(|status| real_uid(&status));
        if pid == 0 || !uid.is_some_and(owner) {
            return Used::default();
        }
        let cgroup = || {
            let own = fs::read_to_string(format!("{proc}/cgroup")).ok()?;
            let own = own.lines().find_map(|line| line.strip_prefix("0::"))?;
            Some(format!("{}{own}", self.cgroups.as_deref()?))
        };
        let cgroup = whole_cgroup.then(cgroup).flatten();
        let of_cgroup = |name: &str| fs::read_to_string(format!("{}/{name}", cgroup.as_deref()?)).ok();
        let stat = of_cgroup("cpu.stat").and_then(|text| cgroup_us(&text));
        let us = stat.or_else(|| process_us(&fs::read_to_string(format!("{proc}/stat")).ok()?));
        let memory = of_cgroup("memory.current").and_then(|text| text.trim().parse().ok());
        let memory = memory.or_else(|| resident(&fs::read_to_string(format!("{proc}/status")).ok()?));
        let now = clock::monotonic_ns();
        let before = us.and_then(|us| self.before.insert(pid, (us, now)));
        let cpu_permille = us.zip(before).map(|(us, (then, at))| {
            let passed_us = (now.saturating_sub(at) / 1000).max(1);
            us.saturating_sub(then).saturating_mul(1000) / passed_us
        });
        Used { cpu_permille, memory }
    }
}

fn cgroup_us(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("usage_usec "))?.parse().ok()
}

/// proc_pid_stat(5): user and system time are the 14th and 15th field, in hundredths of a second; the second may have
/// anything in its brackets.
fn process_us(text: &str) -> Option<u64> {
    let mut fields = text.get(text.rfind(')')? + 2..)?.split(' ').skip(11);
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some((user + system).saturating_mul(10_000))
}

/// proc_pid_status(5): real, effective, saved and file system's user.
fn real_uid(status: &str) -> Option<u32> {
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    line.split_whitespace().next()?.parse().ok()
}

fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().trim_end_matches(" kB").parse::<u64>().ok().map(|kib| kib * 1024)
}

fn memory() -> Option<(u64, u64)> {
    crate::doctor::memory(&fs::read_to_string("/proc/meminfo").ok()?).map(|(all, free)| (free, all))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says_of_processes_is_read() {
        let stat = "7 (a) (b c) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 1 0 5 1000 10";
        assert_eq!(process_us(stat), Some(3_000_000));
        assert_eq!(process_us("nonsense"), None);
        assert_eq!(cgroup_us("usage_usec 42\nuser_usec 40\n"), Some(42));
        assert_eq!(real_uid("Name:\tx\nUid:\t1\t2\t3\t4\n"), Some(1));
        assert_eq!(resident("Name:\tx\nVmRSS:\t    2048 kB\n"), Some(2 << 20));
    }

    #[test]
    fn only_a_process_of_the_right_owner_is_looked_at() {
        let mut gatherer = Gatherer::new(&Layout::under(&std::env::temp_dir()));
        let own = std::process::id();
        assert_eq!(gatherer.used(own, |_| false, false), Used::default());
        let first = gatherer.used(own, |_| true, false);
        assert!(first.memory.is_some() && first.cpu_permille.is_none(), "{first:?}");
        assert!(gatherer.used(own, |_| true, false).cpu_permille.is_some());
    }
}
