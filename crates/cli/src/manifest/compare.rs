//! `octant manifest diff` and `intersect`: two manifests beside each other.

use super::load;
use crate::error::CliError;
use crate::out::Out;
use octant_manifest::Manifest;
use serde::Serialize;
use std::path::Path;

/// How much the second grants, beside the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Change {
    /// Not a right: a name, a date, what is run.
    Other,
    /// Less than the first.
    Less,
    /// More than the first.
    More,
    /// Some of the first's, and something of its own.
    Both,
}

#[derive(Debug, Serialize)]
struct Difference {
    field: &'static str,
    first: String,
    second: String,
    change: Change,
}

/// What differs. A right whose intersection is the second's is less, one whose intersection is the first's more.
fn differences(first: &Manifest, second: &Manifest) -> Vec<Difference> {
    let mut found: Vec<Difference> = Vec::new();
    for ((field, one), (_, other)) in first.facts().into_iter().zip(second.facts()) {
        if one != other {
            found.push(Difference { field, first: one, second: other, change: Change::Other });
        }
    }
    let budgets = first.budget().rows().into_iter().zip(second.budget().rows());
    for ((field, amount, one), (_, other, two)) in budgets {
        if amount != other {
            let change = if other < amount { Change::Less } else { Change::More };
            found.push(Difference { field, first: one, second: two, change });
        }
    }
    let both = first.asked().meet(second.asked()).rows();
    let rows = first.asked().rows().into_iter().zip(second.asked().rows()).zip(both);
    for (((field, first), (_, second)), (_, both)) in rows {
        if first != second {
            let change = if both == second {
                Change::Less
            } else if both == first {
                Change::More
            } else {
                Change::Both
            };
            found.push(Difference { field, first, second, change });
        }
    }
    found
}

pub(super) fn diff(first: &Path, second: &Path, out: &mut Out) -> Result<(), CliError> {
    let (a, b) = (load(first)?.draft, load(second)?.draft);
    let found = differences(a.manifest(), b.manifest());
    if out.json {
        return out.json(&found);
    }
    if found.is_empty() {
        return out.line("they say the same");
    }
    for row in &found {
        let word = match row.change {
            Change::Other => "differs",
            Change::Less => "less",
            Change::More => "MORE",
            Change::Both => "LESS AND MORE",
        };
        out.line(format_args!("{}: {word}", row.field))?;
        out.line(format_args!("  - {}", crate::out::printable(&row.first)))?;
        out.line(format_args!("  + {}", crate::out::printable(&row.second)))?;
    }
    let more: Vec<&str> = found
        .iter()
        .filter(|row| matches!(row.change, Change::More | Change::Both))
        .map(|row| row.field)
        .collect();
    if more.is_empty() {
        return out.line(format_args!(
            "{} grants nothing that {} does not",
            second.display(),
            first.display()
        ));
    }
    out.line(format_args!("{} grants more in: {}", second.display(), more.join(", ")))
}

#[derive(Serialize)]
struct Intersection<'a> {
    grants: Vec<(&'static str, String)>,
    narrowed: &'a [octant_manifest::Narrowed],
    startable: bool,
}

pub(super) fn intersect(parent: &Path, child: &Path, out: &mut Out) -> Result<(), CliError> {
    let (parent_draft, child_draft) = (load(parent)?.draft, load(child)?.draft);
    let wish = child_draft.manifest();
    let got = wish.asked().meet(parent_draft.manifest().asked());
    let narrowed = wish.asked().narrowed_to(&got);
    let startable = wish.startable_with(&got);
    if out.json {
        return out.json(&Intersection { grants: got.rows(), narrowed: &narrowed, startable });
    }
    out.line(format_args!("{} as a child of {} gets:", child.display(), parent.display()))?;
    for (field, value) in got.rows() {
        out.line(format_args!("{field} = {}", crate::out::printable(&value)))?;
    }
    if !narrowed.is_empty() {
        out.line("narrowed by the parent:")?;
    }
    for row in &narrowed {
        let asked = crate::out::printable(&row.asked);
        out.line(format_args!("{}: {asked} asked", row.field))?;
    }
    if startable { Ok(()) } else { out.line("its program is not within that: the spawn would be refused") }
}
