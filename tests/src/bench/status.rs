//! How long an operator waits for `octant status`, and for `octant --version`, which is what of it is the program's start.

use crate::instance::Instance;
use crate::table::{Row, Samples, ms, spread};
use octant_sys::clock::monotonic_ns;

const GOAL_NS: u64 = 50_000_000;

/// The row of the table.
pub(crate) fn row(instance: &Instance, rounds: usize) -> Result<Row, String> {
    let timed = |args: &[&str]| {
        let one = || {
            let before = monotonic_ns();
            instance.must(args).map(|_| monotonic_ns() - before)
        };
        // The first is not counted: the binary may not be in memory yet.
        one()?;
        (0..rounds).map(|_| one()).collect::<Result<Vec<_>, _>>().map(Samples::new)
    };
    let (whole, start) = (timed(&["status"])?, timed(&["--version"])?);
    Ok(Row {
        what: "`octant status`, from its start to its end".into(),
        ours: format!("{}; of that the program's start {}", spread(&whole), ms(start.median())),
        peers: String::new(),
        goal: format!("≤ {} ms", GOAL_NS / 1_000_000),
        met: Some(!whole.is_empty() && whole.median() <= GOAL_NS),
    })
}
