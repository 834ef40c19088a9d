//! The commands of `octant secret`, which an agent has inside its workstation.

use super::vault::Mode;
use super::when::span_of;
use clap::{Args, Subcommand};
use octant_ids::{Millis, SecretName};
use std::path::PathBuf;

const GET: &str = "\
The value goes to standard output as it is, without a newline after it; what reads it should be a program. It takes a \
grant for reveal, and is on record.

Example:
  octant secret get prod/db/password | ./report --password-stdin";

const SIGN: &str = "\
The key pair stays in the vault. The message has at most 64 KiB: of a longer one, sign the digest.

Example:
  octant secret sign prod/key report.txt >report.sig";

const LEASE: &str = "\
The token proves the lease to Octant's services, which use the secret on this agent's behalf. It is useless to anybody \
else: it counts only when it comes from this workstation.

Example:
  octant secret lease prod/api-token --mode use --ttl 10min";

#[derive(Debug, Subcommand)]
pub(crate) enum Secret {
    /// Print the value of a secret that this agent may see
    #[command(after_help = GET)]
    Get {
        /// The secret
        name: SecretName,
    },
    /// Let the vault sign a message with a key pair, and print the signature (Ed25519) in base64
    #[command(after_help = SIGN)]
    Sign(Sign),
    /// Take a lease of a secret and print its token
    #[command(after_help = LEASE)]
    Lease(Lease),
    /// Give a lease back, whose token is read from standard input
    #[command(after_help = "Example:\n  octant secret release <token.txt")]
    Release,
}

#[derive(Debug, Args)]
pub(crate) struct Sign {
    /// The key pair
    pub(crate) name: SecretName,
    /// The message, or - for standard input
    #[arg(default_value = "-")]
    pub(crate) file: PathBuf,
    /// Print the signature's 64 bytes as they are
    #[arg(long)]
    pub(crate) raw: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Lease {
    /// The secret
    pub(crate) name: SecretName,
    /// For what: use (a service uses the value), sign, or reveal (this agent sees the value)
    #[arg(long, value_name = "MODE", hide_possible_values = true)]
    pub(crate) mode: Mode,
    /// For how long (ms, s, min, h, d) [default: 1h, or what the grant allows if that is shorter]
    #[arg(long, value_name = "TIME", value_parser = span_of)]
    pub(crate) ttl: Option<Millis>,
}
