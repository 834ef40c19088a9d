//! The simulation of supervision: the real service graph, with a fake clock and fake processes, under a seed.
//!
//! Owns: worlds in which units crash, hang, start slowly, ignore SIGTERM, do not die, become unhealthy, and in which
//! operators interfere and PID 1 replaces itself; and the rules that must hold in all of them.
//! Promises: the same seed is the same run, on every machine.
//! Never: reads a clock, makes randomness, does I/O.
#![forbid(unsafe_code)]

mod random;
mod rules;
#[cfg(test)]
mod tests;
mod world;

pub use rules::{Rule, Violation};

use world::World;

/// Runs the world of this seed to its end.
///
/// # Errors
/// [`Violation`]: the first rule that did not hold, when, and what had happened before.
pub fn run(seed: u64) -> Result<(), Violation> {
    let mut world = World::new(seed);
    world.trouble()?;
    world.calm()?;
    world.shutdown()
}
