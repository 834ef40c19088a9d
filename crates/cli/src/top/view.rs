//! From what is known to lines: pure.

use super::snapshot::{Agent, Snapshot, Unit, Used};
use crate::out::{bytes, cut, printable, utc};
use octant_ids::Aid;

/// What is left for the ledger's entries where there are many agents.
const ENTRIES_MIN: usize = 3;
/// So many units are shown at the least, and agents.
const ROWS_MIN: usize = 3;

/// How it is looked at.
#[derive(Debug, Default)]
pub(super) struct View {
    /// The chosen agent, by its place.
    pub(super) chosen: usize,
    /// A word on what was done last.
    pub(super) remark: String,
    pub(super) mode: Mode,
    /// Not on a terminal: nothing is chosen, and there are no keys.
    pub(super) once: bool,
}

/// What is in front.
#[derive(Debug, Default)]
pub(super) enum Mode {
    #[default]
    Table,
    /// Whether this agent is really to be killed.
    Sure(Aid),
    /// A text, from one of its lines on.
    Text { title: String, lines: Vec<String>, from: usize },
}

/// One line of the terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Drawn {
    pub(super) text: String,
    /// Shown the other way round.
    pub(super) marked: bool,
}

impl View {
    /// Keeps what is chosen within what is there.
    pub(super) fn fit(&mut self, snapshot: &Snapshot, _rows: usize) {
        self.chosen = self.chosen.min(snapshot.agents.len().saturating_sub(1));
    }
}

/// As many rows as everything needs.
pub(super) fn height(snapshot: &Snapshot) -> usize {
    let Snapshot { units, agents, approvals, entries, away, .. } = snapshot;
    6 + units.len() + agents.len().max(1) + approvals.len() + entries.len() + away.len()
}

fn plain(text: impl Into<String>) -> Drawn {
    Drawn { text: text.into(), marked: false }
}

fn marked(text: impl Into<String>) -> Drawn {
    Drawn { text: text.into(), marked: true }
}

/// Exactly `rows` lines of at most `columns` characters.
pub(super) fn lines(snapshot: &Snapshot, view: &View, columns: usize, rows: usize) -> Vec<Drawn> {
    let mut lines = match &view.mode {
        Mode::Text { title, lines, from } => text(title, lines, *from, rows),
        Mode::Table | Mode::Sure(_) => table(snapshot, view, rows),
    };
    lines.truncate(rows.saturating_sub(1));
    lines.resize(rows.saturating_sub(1), plain(""));
    lines.push(bottom(snapshot, view));
    for line in &mut lines {
        line.text = cut(&printable(&line.text), columns);
        if line.marked {
            // A bar over the whole width.
            let fill = columns.saturating_sub(line.text.chars().count());
            line.text.extend(std::iter::repeat_n(' ', fill));
        }
    }
    lines.truncate(rows);
    lines
}

fn bottom(snapshot: &Snapshot, view: &View) -> Drawn {
    if view.once {
        return plain("");
    }
    match &view.mode {
        Mode::Sure(aid) => {
            let name =
                snapshot.agents.iter().find(|agent| agent.aid == *aid).map_or("it", |agent| &agent.name);
            marked(format!("kill {name} ({aid}) with all its processes? y: yes, any other key: no"))
        }
        Mode::Text { .. } => marked("up/down  q: back"),
        Mode::Table if !view.remark.is_empty() => marked(view.remark.clone()),
        Mode::Table => {
            marked("up/down  s: suspend  r: resume  k: kill  w: why denied  a: approvals  q: quit")
        }
    }
}

fn text(title: &str, lines: &[String], from: usize, rows: usize) -> Vec<Drawn> {
    let head = marked(title);
    std::iter::once(head).chain(lines.iter().skip(from).take(rows).map(plain)).collect()
}

fn table(snapshot: &Snapshot, view: &View, rows: usize) -> Vec<Drawn> {
    let mut out = vec![marked(head(snapshot))];
    out.extend(snapshot.away.iter().map(|who| plain(format!("NO ANSWER from {who}"))));
    let waits = snapshot.approvals.iter().take(2);
    out.extend(
        waits.map(|asked| {
            plain(format!("APPROVAL {} waits: {} for {}", asked.id, asked.action, asked.subject))
        }),
    );
    // The head of each table and the last line.
    let room = rows.saturating_sub(out.len() + 4);
    let entries = snapshot.entries.len().min(ENTRIES_MIN);
    let agents = snapshot.agents.len().max(1);
    let for_units =
        snapshot.units.len().min(room.saturating_sub(entries + agents.min(ROWS_MIN)).max(ROWS_MIN));
    let for_agents = agents.min(room.saturating_sub(for_units + entries).max(1));
    out.push(plain(format!(
        "{:<10} {:<9} {:<9} {:>6} {:>8} {:>5}  STATUS",
        "UNIT", "STATE", "HEALTH", "CPU%", "MEMORY", "AGAIN"
    )));
    // Those that are not well come first, where not all fit.
    let mut units: Vec<&Unit> = snapshot.units.iter().collect();
    if units.len() > for_units {
        units.sort_by_key(|unit| unit.state == "ready" && unit.health != "unhealthy");
    }
    out.extend(units.iter().take(for_units).map(|unit| plain(unit_line(unit))));
    let more =
        |shown: usize, all: usize| if shown < all { format!(" ({shown} of {all})") } else { String::new() };
    let heading = format!("AGENT{}", more(for_agents, snapshot.agents.len()));
    out.push(plain(format!(
        "{heading:<22} {:<9} {:>6} {:>7} {:>4} {:>7} {:>7} {:>8}",
        "STATE", "CPU%", "MEMORY", "OPEN", "OUT", "IN", "SPENT"
    )));
    if snapshot.agents.is_empty() {
        out.push(plain("none"));
    }
    let first = view.chosen.saturating_sub(for_agents.saturating_sub(1));
    for (at, agent) in snapshot.agents.iter().enumerate().skip(first).take(for_agents) {
        let chosen = at == view.chosen && !view.once;
        out.push(Drawn { text: agent_line(agent), marked: chosen });
    }
    out.push(plain("LEDGER"));
    let left = rows.saturating_sub(out.len() + 1);
    let skipped = snapshot.entries.len().saturating_sub(left);
    out.extend(snapshot.entries.iter().skip(skipped).map(plain));
    out
}

fn head(snapshot: &Snapshot) -> String {
    if snapshot.now_ms == 0 {
        return "octant top: looking".to_owned();
    }
    let time = utc(snapshot.now_ms);
    let time = time.get(11..19).unwrap_or(&time);
    let memory = snapshot
        .memory
        .map_or_else(String::new, |(free, all)| format!("  {} of {} free", bytes(free), bytes(all)));
    let approvals = match snapshot.approvals.len() {
        0 => String::new(),
        1 => "  1 APPROVAL WAITS".to_owned(),
        count => format!("  {count} APPROVALS WAIT"),
    };
    let phase = if snapshot.phase.is_empty() { "not answering" } else { &snapshot.phase };
    format!("octant top {time}  {} agents{approvals}{memory}  {phase}", snapshot.agents.len())
}

fn unit_line(unit: &Unit) -> String {
    let Unit { name, state, health, restarts, text, used, memory_max } = unit;
    let (cpu, mut memory) = cells(*used);
    if let Some((used, max)) = used.memory.zip(*memory_max) {
        memory = format!("{}/{}", whole(used), whole(max));
    }
    format!("{:<10} {state:<9} {health:<9} {cpu:>6} {memory:>8} {restarts:>5}  {text}", cut(name, 10))
}

fn agent_line(agent: &Agent) -> String {
    let Agent { aid, name, state, used, egress, spent_microusd } = agent;
    let (cpu, memory) = cells(*used);
    let aid = aid.to_string();
    // The end of an identifier is what commands take, and what tells two of one name apart.
    let end = aid.get(aid.len().saturating_sub(6)..).unwrap_or(&aid);
    let (open, out, into) = egress.map_or_else(
        || ("-".to_owned(), "-".to_owned(), "-".to_owned()),
        |(open, out, into)| (open.to_string(), bytes(out), bytes(into)),
    );
    let spent = spent_microusd.map_or_else(
        || "-".to_owned(),
        |spent| format!("${}.{:04}", spent / 1_000_000, spent % 1_000_000 / 100),
    );
    format!(
        "{:<15} {end:<6} {state:<9} {cpu:>6} {memory:>7} {open:>4} {out:>7} {into:>7} {spent:>8}",
        cut(name, 15)
    )
}

/// An amount without its tenths: two of them stand in one column.
fn whole(count: u64) -> String {
    let text = bytes(count);
    match text.split_once('.') {
        Some((whole, rest)) => format!("{whole}{}", rest.trim_start_matches(|c: char| c.is_ascii_digit())),
        None => text,
    }
}

fn cells(used: Used) -> (String, String) {
    let cpu = used
        .cpu_permille
        .map_or_else(|| "-".to_owned(), |permille| format!("{}.{}", permille / 10, permille % 10));
    (cpu, used.memory.map_or_else(|| "-".to_owned(), bytes))
}
