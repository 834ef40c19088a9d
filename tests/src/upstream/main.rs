//! The test double of providers as a program: `octant-upstream [ADDRESS]` listens, says where, and answers until it is ended.
//! What it says is described in `octant_tests::upstream`.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program that tells where it listens")]

use octant_tests::upstream::Upstream;
use std::process::ExitCode;

fn main() -> ExitCode {
    let at = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let Ok(at) = at.parse() else {
        eprintln!("octant-upstream: {at:?} is not an address with a port");
        return ExitCode::from(2);
    };
    match Upstream::start(at) {
        Ok(upstream) => {
            println!("{}", upstream.address());
            loop {
                std::thread::park();
            }
        }
        Err(why) => {
            eprintln!("octant-upstream: {at}: {why}");
            ExitCode::FAILURE
        }
    }
}
