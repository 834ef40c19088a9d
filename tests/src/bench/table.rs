//! Samples, their summary, and the table that goes into docs/specification.md.

use std::path::Path;

/// What was measured for one contestant: sorted nanoseconds, or whatever unit the row names.
#[derive(Debug, Clone)]
pub(crate) struct Samples(Vec<u64>);

impl Samples {
    pub(crate) fn new(mut values: Vec<u64>) -> Self {
        values.sort_unstable();
        Self(values)
    }

    /// The value below which `per_mille` thousandths of the samples lie.
    pub(crate) fn at(&self, per_mille: usize) -> u64 {
        let last = self.0.len().saturating_sub(1);
        self.0.get(last * per_mille / 1000).copied().unwrap_or(0)
    }

    pub(crate) fn median(&self) -> u64 {
        self.at(500)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// One line of the table.
#[derive(Debug)]
pub(crate) struct Row {
    /// What was measured.
    pub(crate) what: String,
    /// Octant's figure.
    pub(crate) ours: String,
    /// The peers' figures from the same run.
    pub(crate) peers: String,
    /// The goal, and whether this run met it.
    pub(crate) goal: String,
    /// Whether this run met it; none where there is no goal, or its peer is not on this machine.
    pub(crate) met: Option<bool>,
}

/// Milliseconds with two decimals, of nanoseconds.
pub(crate) fn ms(ns: u64) -> String {
    format!("{:.2} ms", ns as f64 / 1e6)
}

/// Microseconds with one decimal, of nanoseconds.
pub(crate) fn us(ns: u64) -> String {
    format!("{:.1} µs", ns as f64 / 1e3)
}

/// Megabytes with one decimal, of bytes.
pub(crate) fn mb(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

/// "median (min to p90)" of a time in nanoseconds.
pub(crate) fn spread(samples: &Samples) -> String {
    format!("{} ({} to {})", ms(samples.median()), ms(samples.at(0)), ms(samples.at(900)))
}

const HEAD: &str = "| what | Octant | peers, same run | goal | met |\n|---|---|---|---|---|\n";

fn line(row: &Row) -> String {
    let met = row.met.map_or("not judged", |met| if met { "yes" } else { "no" });
    format!("| {} | {} | {} | {} | {met} |\n", row.what, row.ours, row.peers, row.goal)
}

/// The table in Markdown.
pub(crate) fn render(rows: &[Row]) -> String {
    rows.iter().fold(HEAD.to_owned(), |table, row| table + &line(row))
}

/// The table `old` with the lines of `rows` in it: each where the line of the same name was, a new one behind the row that
/// it follows.
pub(crate) fn with_rows(old: &str, rows: &[Row]) -> String {
    let name = |line: &str| line.split(" | ").next().map(str::to_owned);
    let mut lines: Vec<String> =
        old.strip_prefix(HEAD).unwrap_or_default().lines().map(|line| format!("{line}\n")).collect();
    let mut behind = lines.len();
    for row in rows {
        let new = line(row);
        match lines.iter().position(|line| name(line) == name(&new)) {
            Some(at) => {
                lines[at] = new;
                behind = at + 1;
            }
            None => {
                lines.insert(behind, new);
                behind += 1;
            }
        }
    }
    lines.iter().fold(HEAD.to_owned(), |table, line| table + line)
}

/// Puts what `change` makes of the table of the specification into its place, between the two markers.
pub(crate) fn into_specification(path: &Path, change: impl FnOnce(&str) -> String) -> Result<(), String> {
    const BEGIN: &str = "<!-- bench:begin -->\n";
    const END: &str = "<!-- bench:end -->";
    let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let (head, rest) = text.split_once(BEGIN).ok_or_else(|| format!("{}: no {BEGIN}", path.display()))?;
    let (old, tail) = rest.split_once(END).ok_or_else(|| format!("{}: no {END}", path.display()))?;
    std::fs::write(path, format!("{head}{BEGIN}{}{END}{tail}", change(old)))
        .map_err(|e| format!("{}: {e}", path.display()))
}
