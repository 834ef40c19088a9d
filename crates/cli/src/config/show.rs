//! `octant config show`.

use crate::error::CliError;
use crate::out::{Out, Table, printable, span, utc};
use octant_config::Here;
use octant_editions::{Editions, Info, Verdict, name};
use octant_ids::Layout;
use octant_sys::clock;
use serde::Serialize;

#[derive(Serialize)]
struct Edition {
    edition: u32,
    in_force: bool,
    /// `good`, `bad`, or `open`.
    verdict: &'static str,
    /// Why it is bad.
    why: Option<String>,
    serial: u64,
    digest: String,
    source: String,
    operator: String,
    key: String,
    /// `trusted`, `named` or `first-use`.
    trust: String,
    at_ms: u64,
}

#[derive(Serialize)]
struct Shown {
    /// 0 stands for the image's own octant.toml.
    in_force: u32,
    /// What a machine goes back to; nothing where nothing is known to have worked.
    worked: Option<u32>,
    /// The highest serial number that was accepted.
    serial: u64,
    /// This machine's identifier in audiences.
    machine: String,
    /// Its labels there.
    labels: Vec<String>,
    refused: Option<String>,
    editions: Vec<Edition>,
}

pub(super) fn word(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Good => "good",
        Verdict::Bad(_) => "bad",
        Verdict::Open => "open",
    }
}

fn edition(editions: &Editions, number: u32) -> Option<Edition> {
    let Info { serial, digest, source, operator, key, trust, at_ms } = editions.info(number)?;
    let verdict = editions.verdict(number);
    let in_force = number == editions.current();
    let (verdict, why) = (word(&verdict), if let Verdict::Bad(why) = verdict { Some(why) } else { None });
    Some(Edition {
        edition: number,
        in_force,
        verdict,
        why,
        serial,
        digest,
        source,
        operator,
        key,
        trust,
        at_ms,
    })
}

pub(super) fn show(layout: &Layout, editions: &Editions, out: &mut Out) -> Result<(), CliError> {
    match std::fs::read_dir(editions.dir()) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(CliError::Read { path: editions.dir().to_owned(), source: error });
        }
        _ => {}
    }
    let (machine, labels) = Here::look(layout).map(|here| (here.machine, here.labels)).unwrap_or_default();
    let shown = Shown {
        in_force: editions.current(),
        worked: editions.worked(),
        serial: editions.serial().map_err(super::store)?,
        machine,
        labels,
        refused: editions.refused(),
        editions: editions.list().into_iter().filter_map(|n| edition(editions, n)).collect(),
    };
    if out.json {
        return out.json(&shown);
    }
    let now = clock::wall_ms();
    out.line(format_args!("in force: {}", name(shown.in_force)))?;
    if let Some(edition) = shown.editions.iter().find(|edition| edition.in_force) {
        let age = span(now.saturating_sub(edition.at_ms) / 1000);
        let trust = match edition.trust.as_str() {
            "first-use" => " (the first operator: nobody was trusted before)",
            "named" => " (the first operator, named on the kernel command line)",
            _ => "",
        };
        out.line(format_args!(
            "signed by: {}{trust}, key {}",
            edition.operator,
            &edition.key[..16.min(edition.key.len())]
        ))?;
        out.line(format_args!("from: {}, {age} ago, {}", printable(&edition.source), utc(edition.at_ms)))?;
        out.line(format_args!("text: sha256 {}", edition.digest))?;
        if edition.verdict == "open" {
            out.line("it has still to show that it works")?;
        }
    }
    let worked = shown.worked.filter(|worked| *worked != shown.in_force);
    if let Some(worked) = worked {
        out.line(format_args!("if it does not work: {}", name(worked)))?;
    }
    let machine = if shown.machine.is_empty() { "without an identifier" } else { &shown.machine };
    let labels: String = shown.labels.iter().map(|label| format!(", label {}", printable(label))).collect();
    out.line(format_args!(
        "this machine: {machine}{labels}, next serial number {}",
        shown.serial.saturating_add(1)
    ))?;
    if let Some(refused) = &shown.refused {
        out.line(format_args!("last trouble: {}", printable(refused)))?;
    }
    if shown.editions.is_empty() {
        return out.line("next: octant config new >machine.toml");
    }
    let mut table = Table::new(&["NUMBER", "SERIAL", "WORD", "SIGNED BY", "ACCEPTED", "FROM"]);
    for edition in &shown.editions {
        let mark = if edition.in_force { "*" } else { "" };
        let row =
            [format!("{}{mark}", edition.edition), edition.serial.to_string(), edition.verdict.to_owned()];
        let rest = [edition.operator.clone(), utc(edition.at_ms), printable(&edition.source)];
        table.row(row.into_iter().chain(rest));
    }
    out.table(&table)
}
