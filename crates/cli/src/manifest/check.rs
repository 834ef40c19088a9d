//! `octant manifest check` and `explain`: what a manifest says, with its lines.

use super::{Loaded, invalid, load, summary, take};
use crate::error::CliError;
use crate::out::Out;
use octant_manifest::{Draft, FIELDS, Manifest, ManifestErrors, Unenforceable, field_info};
use serde::Serialize;
use std::path::Path;

#[derive(Serialize)]
struct Report<'a> {
    valid: bool,
    rules: Vec<&'static str>,
    problems: Vec<Problem>,
    unenforceable: Vec<Unenforceable>,
    manifest: Option<&'a Manifest>,
}

#[derive(Serialize)]
struct Problem {
    field: String,
    line: Option<usize>,
    message: String,
}

fn report<'a>(read: &'a Result<Draft, ManifestErrors>) -> Report<'a> {
    match read {
        Ok(draft) => Report {
            valid: true,
            rules: Vec::new(),
            problems: Vec::new(),
            unenforceable: draft.manifest().unenforceable(),
            manifest: Some(draft.manifest()),
        },
        Err(errors) => Report {
            valid: false,
            rules: errors.rules().iter().map(|rule| rule.name()).collect(),
            problems: errors
                .iter()
                .map(|e| Problem { field: e.field.clone(), line: e.line, message: e.problem.to_string() })
                .collect(),
            unenforceable: Vec::new(),
            manifest: None,
        },
    }
}

pub(super) fn check(file: &Path, out: &mut Out) -> Result<(), CliError> {
    let bytes = take(file)?;
    let read = Draft::parse(&bytes);
    if out.json {
        out.json(&report(&read))?;
    }
    let draft = read.map_err(|errors| invalid(file, "manifest", &errors))?;
    if out.json {
        return Ok(());
    }
    out.line(format_args!("{} is valid; it asks for:", file.display()))?;
    summary(draft.manifest(), out)?;
    for row in draft.manifest().unenforceable() {
        let Unenforceable { field, what, why } = row;
        out.line(format_args!(
            "this build cannot enforce {field} ({what}): {why}; no agent is spawned from it"
        ))?;
    }
    Ok(())
}

#[derive(Serialize)]
struct Row {
    field: &'static str,
    line: Option<usize>,
    value: String,
    about: &'static str,
}

/// Every right and budget with its line and meaning; a right that has no line is one that its absence says.
pub(super) fn explain(file: &Path, out: &mut Out) -> Result<(), CliError> {
    let Loaded { draft, lines, .. } = load(file)?;
    let manifest = draft.manifest();
    let mut rows: Vec<Row> = Vec::new();
    for (field, value) in manifest.rows() {
        let about = field_info(field).map_or("", |info| info.about);
        rows.push(Row { field, line: lines.get(field).copied(), value, about });
    }
    rows.sort_by_key(|row| FIELDS.iter().position(|info| info.name == row.field));
    if out.json {
        return out.json(&rows);
    }
    for Row { field, line, value, about } in rows {
        let place = line.map_or("not written".to_owned(), |line| format!("line {line}"));
        out.line(format_args!("{field} = {}  ({place})", crate::out::printable(&value)))?;
        out.line(format_args!("    {about}"))?;
    }
    Ok(())
}
