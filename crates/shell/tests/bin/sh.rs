//! The shell alone, for the tests of this crate: it has no utilities of its own.

fn main() -> std::process::ExitCode {
    octant_shell::main(std::env::args_os().collect(), std::iter::empty()).into()
}
