//! `octant doctor`: tries everything that an agent's confinement and this instance rest on.
//!
//! Owns: what is tried, what each answer means, and what to do about it.
//! Promises: nothing of what it does outlives it; each check ends within its time; what cannot be known is said to be
//! unknown. It works without a running Octant, and as an ordinary user.
//! Never: changes anything that it finds.
//!
//! | file | what |
//! |---|---|
//! | `kernel.rs` | which layers the kernel offers |
//! | `agent.rs`, `attempts.rs` | a throw-away agent, and what it tries inside |
//! | `machine.rs` | clock, entropy, disk, memory |
//! | `instance.rs` | PID 1, services, ledger, vault, sockets and directories |
//!
//! In each, what looks and what judges are apart: the judgement is pure.

mod agent;
mod attempts;
mod instance;
mod kernel;
mod machine;

use crate::error::CliError;
use crate::operator::Operator;
use crate::out::{Out, Table, Ticking, wrap};
pub(crate) use attempts::run as probe;
pub(crate) use machine::memory;
use octant_api::unit::Spec;
use octant_ids::Layout;
use serde::Serialize;
use std::path::Path;

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    /// In order.
    Ok,
    /// Not known to who asks, or nothing to look at.
    Unknown,
    /// It works, and is less than it can be.
    Weaker,
    /// It does not do its work.
    Broken,
    /// A layer of isolation is not there; no agent can be started.
    Missing,
}

/// What a check is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Part {
    /// What the kernel offers.
    Kernel,
    /// What a throw-away agent was denied.
    Agent,
    /// What the machine has.
    Machine,
    /// The Octant that runs here.
    Instance,
}

/// One row of the answer.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Check {
    /// Its part.
    pub(crate) part: Part,
    /// The layer or thing that was tried.
    #[serde(rename = "check")]
    pub(crate) what: String,
    /// How it came out.
    pub(crate) verdict: Verdict,
    /// What was found.
    pub(crate) found: String,
    /// The cause where it is not in what was found, and what to do; empty when nothing is.
    pub(crate) how: String,
}

impl Check {
    fn new(
        part: Part,
        what: impl Into<String>,
        verdict: Verdict,
        found: impl Into<String>,
        how: impl Into<String>,
    ) -> Self {
        Self { part, what: what.into(), verdict, found: found.into(), how: how.into() }
    }
}

#[derive(Serialize)]
struct Document<'a> {
    verdict: Verdict,
    checks: &'a [Check],
}

/// The command. `boot` is what PID 1 starts by itself.
pub(crate) fn run(layout: &Layout, boot: &[Spec], out: &mut Out) -> Result<(), CliError> {
    let progress = Ticking::new(out.json, "trying what agents and this machine rest on".to_owned());
    let kernel = kernel::judge(&kernel::gather(Path::new("/")));
    let lacking: Vec<&str> =
        kernel.iter().filter(|c| c.verdict == Verdict::Missing).map(|c| c.what.as_str()).collect();
    let agent = agent::judge(&agent::try_one(&lacking), &lacking);
    let running = instance::gather(layout, boot, &Operator::new(layout));
    let machine = machine::judge(&machine::gather(layout, running.last_entry_ms()));
    let checks = [kernel, agent, machine, instance::judge(&running)].concat();
    drop(progress);
    let worst = checks.iter().map(|check| check.verdict).max().unwrap_or(Verdict::Ok);
    if out.json {
        out.json(&Document { verdict: worst, checks: &checks })?;
    } else {
        print(&checks, out)?;
    }
    verdict(&checks)
}

/// The exit code says the worst of it.
fn verdict(checks: &[Check]) -> Result<(), CliError> {
    let names = |verdict: Verdict| {
        let of = checks.iter().filter(|check| check.verdict == verdict).map(|check| check.what.as_str());
        of.collect::<Vec<_>>()
    };
    let (missing, broken, weaker) = (names(Verdict::Missing), names(Verdict::Broken), names(Verdict::Weaker));
    if !missing.is_empty() {
        let text = format!("no agent can be started here: missing {}", missing.join(", "));
        return Err(CliError::LayerMissing(text));
    }
    if !broken.is_empty() {
        return Err(CliError::Unwell(format!("not in order: {}", broken.join(", "))));
    }
    if !weaker.is_empty() {
        return Err(CliError::Weaker(format!("weaker than it can be: {}", weaker.join(", "))));
    }
    Ok(())
}

fn print(checks: &[Check], out: &mut Out) -> Result<(), CliError> {
    let mut table = Table::new(&["CHECK", "", "FOUND"]);
    for check in checks {
        let word = match check.verdict {
            Verdict::Ok => "ok",
            Verdict::Unknown => "unknown",
            Verdict::Weaker => "weaker",
            Verdict::Broken => "BROKEN",
            Verdict::Missing => "MISSING",
        };
        table.row([check.what.clone(), word.to_owned(), check.found.clone()]);
    }
    out.table(&table)?;
    for check in checks.iter().filter(|check| !check.how.is_empty()) {
        out.line(format_args!("\n{}:", crate::out::printable(&check.what)))?;
        // What was found is cut in the table where the terminal is narrow.
        for text in [&check.found, &check.how] {
            for line in wrap(&crate::out::printable(text), out.columns.unwrap_or(80) - 2) {
                out.line(format_args!("  {line}"))?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use octant_ids::Exit;

    #[test]
    fn the_exit_code_is_that_of_the_worst() {
        let code = |verdicts: &[Verdict]| {
            let checks: Vec<Check> =
                verdicts.iter().map(|verdict| Check::new(Part::Machine, "x", *verdict, "", "")).collect();
            verdict(&checks).map_or_else(|error| error.exit(), |()| Exit::Ok)
        };
        assert_eq!(code(&[Verdict::Ok, Verdict::Unknown]), Exit::Ok);
        assert_eq!(code(&[Verdict::Ok, Verdict::Weaker]), Exit::Failed);
        assert_eq!(code(&[Verdict::Weaker, Verdict::Broken]), Exit::Unhealthy);
        assert_eq!(code(&[Verdict::Broken, Verdict::Missing]), Exit::LayerMissing);
    }
}
