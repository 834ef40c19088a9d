//! `octant config`.

use clap::Subcommand;
use octant_ids::Millis;
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub(crate) enum Config {
    /// Print a configuration to begin with, with the next serial number and a comment on everything
    #[command(after_help = "Example:\n  octant config new >machine.toml")]
    New {
        /// Its serial number [default: the next one of this machine]
        #[arg(long, value_name = "NUMBER")]
        serial: Option<u64>,
    },
    /// Say everything that is wrong with a configuration; without FILE with this machine's own files
    ///
    /// FILE is a text (TOML), or signed; then its signature, serial number, machines and dates are checked too. Without FILE
    /// octant.toml, the configuration in force and the units' files are read as PID 1 would.
    #[command(after_help = "Example:\n  octant config check machine.toml")]
    Check {
        /// The configuration
        file: Option<PathBuf>,
    },
    /// Sign a configuration, with the key of an operator whose role may configure machines (admin)
    #[command(
        after_help = "Example:\n  octant config sign machine.toml --key alice.key --output machine.json"
    )]
    Sign {
        /// The configuration (TOML)
        file: PathBuf,
        /// The private key (made by `octant manifest keygen`)
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        /// Where the signed configuration is written [default: standard output]
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Show what a configuration would change, field by field, and what that takes
    #[command(after_help = "Example:\n  octant config diff machine.toml")]
    Diff {
        /// The configuration, signed or not [default: what the one in force has changed]
        file: Option<PathBuf>,
    },
    /// Put a signed configuration in force
    ///
    /// It is on record first. What can be changed at once is; a machine that is not healthy with it in time goes back to
    /// the configuration that worked last.
    #[command(after_help = "Example:\n  octant config apply --wait 3min machine.json")]
    Apply {
        /// The signed configuration (made by `octant config sign`)
        file: PathBuf,
        /// Wait at most so long (ms, s, min) until it is known to work; exits 10 when it does not
        #[arg(long, value_name = "TIME", value_parser = super::millis, default_value = "0s")]
        wait: Millis,
    },
    /// Edit what is in force with $EDITOR [default: vi], then check, sign and apply it
    #[command(after_help = "Example:\n  octant config edit --key alice.key")]
    Edit {
        /// The private key to sign with
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        /// Wait at most so long (ms, s, min) until it is known to work; exits 10 when it does not
        #[arg(long, value_name = "TIME", value_parser = super::millis, default_value = "0s")]
        wait: Millis,
    },
    /// Show which configuration is in force, who signed it, which others there are, and what was refused
    #[command(after_help = "Example:\n  octant config show")]
    Show {
        /// The text of this one instead (0 stands for the one in force)
        #[arg(long, value_name = "NUMBER")]
        text: Option<u32>,
    },
    /// Put an earlier configuration in force again
    #[command(after_help = "Example:\n  octant config rollback")]
    Rollback {
        /// Its number, as `octant config show` has it; 0 for the image's own octant.toml [default: the good one before]
        edition: Option<u32>,
    },
}
