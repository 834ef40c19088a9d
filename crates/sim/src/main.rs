//! `octant-sim`: runs the simulation under one seed or many.

use std::io::{self, Write};
use std::process::ExitCode;

const USAGE: &str = "usage: octant-sim [--seed N | --seeds N]\n\
                     --seed N   the world of seed N\n\
                     --seeds N  the worlds of the seeds 0 to N-1 [default: 1000]\n";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let number = |text: &str| text.parse::<u64>().ok();
    let seeds = match words[..] {
        [] => Some(0..1000),
        ["--seeds", count] => number(count).map(|count| 0..count),
        ["--seed", seed] => number(seed).map(|seed| seed..seed.saturating_add(1)),
        _ => None,
    };
    let Some(seeds) = seeds else {
        let _nobody_else_to_tell = io::stderr().write_all(USAGE.as_bytes());
        return ExitCode::from(2);
    };
    let count = seeds.end - seeds.start;
    for seed in seeds {
        if let Err(violation) = octant_sim::run(seed) {
            let _nobody_else_to_tell = writeln!(io::stderr(), "{violation}");
            return ExitCode::FAILURE;
        }
    }
    let _nobody_else_to_tell = writeln!(io::stdout(), "{count} worlds, every rule held");
    ExitCode::SUCCESS
}
