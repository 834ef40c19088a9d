//! What an agent feels of others that take all they can get, in a virtual machine, where there are cgroup controllers.
//!
//! `tests/guest/bombs.sh` is the same script that the tests run; here its figures count.

use crate::table::{Row, us};
use octant_tests::agents;
use octant_tests::environment::{Scratch, path};
use octant_tests::guest::{Boot, Guest};
use std::fs;

const LIMIT_S: u64 = 600;

/// The row of the table.
pub(crate) fn row(scratch: &Scratch) -> Result<Row, String> {
    let overlay = agents::overlay(scratch);
    let disk = scratch.path("bombs.ext4");
    fs::copy(path("OCTANT_DATA"), &disk).map_err(|e| format!("{}: {e}", disk.display()))?;
    let boot = Boot {
        append: "octant.job=sh%20/srv/test/bombs.sh",
        overlay: Some(&overlay),
        data: Some((disk.display().to_string(), "raw")),
        ..Boot::default()
    };
    let mut guest = Guest::boot(&scratch.path(""), &boot);
    let end = guest.until("the bombs' end", LIMIT_S, |line| line.contains("octant: job exit "));
    if !end.contains("job exit 0") {
        return Err(format!("bombs.sh: {end}\n{}", guest.log.join("\n")));
    }
    let felt = agents::felt(&guest.log);
    let said = |felt: &agents::Felt| {
        format!("{}: p50 {}, p99 {}", felt.beside, us(felt.p50 * 1000), us(felt.p99 * 1000))
    };
    let accel = std::env::var("OCTANT_ACCEL").unwrap_or_default();
    Ok(Row {
        what: format!("virtual machine ({accel}), two processors: a neighbour's small unit of work beside"),
        ours: felt.iter().map(said).collect::<Vec<_>>().join("; "),
        peers: String::new(),
        goal: "none of its work fails".into(),
        met: Some(felt.len() > 1),
    })
}
