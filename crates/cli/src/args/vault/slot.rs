//! Ways to unseal, on the command line.

use super::read::Place;
use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{ArgGroup, Args, Subcommand};
use octant_api::vault::Argon2Cost;
use octant_ids::ByteSize;
use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::{Error as ValueError, StrDeserializer};
use std::path::PathBuf;
use std::str::FromStr;

pub(super) const REKEY: &str = "\
What is not named is gone: say --passphrase or --key-file for each that is to remain, or for another one; the TPM seals \
anew, to the PCRs and the release key of the one TPM slot that there is unless others are given, and shares are made anew. Slots are made in this order: passphrases, key files, TPM, shares.

Example:
  octant vault rekey --passphrase --tpm --shares 2/3 --shares-into /media/usb";

const ADD: &str = "\
Example:
  octant vault slots add --shares 2/3 --shares-into /media/usb
  octant vault slots add --tpm --pcrs 7,11";

#[derive(Debug, Subcommand)]
pub(crate) enum Slots {
    /// Add a way to unseal the vault
    #[command(after_help = ADD, override_usage = "octant vault slots add [OPTIONS] <WAY TO UNSEAL>")]
    Add(NewSlotArgs),
    /// Take a way to unseal away
    #[command(after_help = "Example:\n  octant vault slots rm 2 --yes")]
    Rm {
        /// The slot's number, as `octant vault slots` lists it
        slot: u32,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

/// How many shares are needed, of how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) threshold: u8,
    pub(crate) count: u8,
}

impl FromStr for Shape {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.parse::<u8>().ok();
        let shape = text.split_once('/').and_then(|(threshold, count)| {
            Some(Self { threshold: number(threshold)?, count: number(count)? })
        });
        shape
            .filter(|shape| shape.threshold > 1 && shape.threshold <= shape.count)
            .ok_or_else(|| "write K/N, how many shares are needed of how many: 2/3".to_owned())
    }
}

/// What a passphrase costs: memory, passes, and lanes where they are said.
fn cost(text: &str) -> Result<Argon2Cost, String> {
    let wrong = || format!("{text:?} is not a cost; write MEMORY/PASSES: 64MiB/3, 1GiB/4");
    let mut parts = text.split('/');
    let memory: StrDeserializer<'_, ValueError> = parts.next().unwrap_or_default().into_deserializer();
    let memory = ByteSize::deserialize(memory).map_err(|_| wrong())?;
    let memory_kib = u32::try_from(memory.0 / 1024).map_err(|_| wrong())?;
    let number = |part: &str| part.parse().map_err(|_| wrong());
    let passes = parts.next().ok_or_else(wrong).and_then(number)?;
    let lanes = parts.next().map_or(Ok(1), number)?;
    if memory_kib == 0 || passes == 0 || parts.next().is_some() {
        return Err(wrong());
    }
    Ok(Argon2Cost { memory_kib, passes, lanes })
}

fn place() -> impl TypedValueParser<Value = Place> {
    OsStringValueParser::new().map(Place::from)
}

/// Where recovery shares go, which are given once.
#[derive(Debug, Args)]
pub(crate) struct SharesTo {
    /// Write the shares to DIR/share-1.txt and so on, instead of printing them
    #[arg(long, value_name = "DIR", requires = "shares")]
    pub(crate) shares_into: Option<PathBuf>,
    /// Print the shares although standard output is no terminal
    #[arg(long, requires = "shares", conflicts_with = "shares_into")]
    pub(crate) print_shares: bool,
}

/// What a TPM slot or a passphrase demands.
#[derive(Debug, Args)]
pub(crate) struct Demands {
    /// Of a TPM slot, the PCRs that have to be as they are now [default: 7,11]
    #[arg(
        long, value_name = "LIST", value_delimiter = ',', requires = "tpm",
        value_parser = clap::value_parser!(u8).range(0..24)
    )]
    pub(crate) pcrs: Vec<u8>,
    /// Of a TPM slot, a public key (PEM) whose approvals count instead of the PCRs' present values
    #[arg(long, value_name = "FILE", requires = "tpm")]
    pub(crate) release_key: Option<PathBuf>,
    /// Of a passphrase, what it costs to try one: memory and passes [default: 64MiB/3, and never less]
    #[arg(long, value_name = "COST", value_parser = cost)]
    pub(crate) cost: Option<Argon2Cost>,
}

// An option that only another way has is named as a conflict: clap does not miss what it requires where that is in
// conflict with what is given.
const NOT_OF_PASSPHRASES: [&str; 7] =
    ["tpm", "key_file", "shares", "pcrs", "release_key", "shares_into", "print_shares"];
const NOT_OF_TPM: [&str; 5] = ["key_file", "shares", "cost", "shares_into", "print_shares"];
const NOT_OF_KEY_FILES: [&str; 6] = ["shares", "pcrs", "release_key", "cost", "shares_into", "print_shares"];
const NOT_OF_SHARES: [&str; 3] = ["pcrs", "release_key", "cost"];

/// One new way to unseal.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("way").required(true).multiple(true)
    .args(["passphrase", "passphrase_file", "tpm", "key_file", "shares"]))]
pub(crate) struct NewSlotArgs {
    /// A passphrase: asked for twice, or one line of standard input
    #[arg(long, conflicts_with_all = NOT_OF_PASSPHRASES)]
    pub(crate) passphrase: bool,
    /// The same from a file of one line, or - for standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = NOT_OF_PASSPHRASES)]
    pub(crate) passphrase_file: Option<PathBuf>,
    /// This machine's TPM
    #[arg(long, conflicts_with_all = NOT_OF_TPM)]
    pub(crate) tpm: bool,
    /// A file; whoever has it has the vault. It is made when it is not there [default: <etc>/vault/key, where the vault
    /// looks by itself]
    #[arg(
        long, value_name = "FILE", num_args = 0..=1, default_missing_value = "", value_parser = place(),
        conflicts_with_all = NOT_OF_KEY_FILES
    )]
    pub(crate) key_file: Option<Place>,
    /// Recovery shares: N of them, of which K together unseal
    #[arg(long, value_name = "K/N", conflicts_with_all = NOT_OF_SHARES)]
    pub(crate) shares: Option<Shape>,
    /// Your own words about it
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub(crate) label: String,
    #[command(flatten)]
    pub(crate) demands: Demands,
    #[command(flatten)]
    pub(crate) to: SharesTo,
}

/// Every way to unseal that is to remain.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("ways").required(true).multiple(true)
    .args(["passphrase", "passphrase_file", "tpm", "key_file", "shares"]))]
pub(crate) struct KeepSlots {
    /// A passphrase: asked for twice, or one line of standard input; may be given again
    #[arg(long, action = clap::ArgAction::Count)]
    pub(crate) passphrase: u8,
    /// The same from a file of one line, or - for standard input; may be given again
    #[arg(long, value_name = "FILE")]
    pub(crate) passphrase_file: Vec<PathBuf>,
    /// This machine's TPM
    #[arg(long)]
    pub(crate) tpm: bool,
    /// A key file, which is made when it is not there; may be given again [default: <etc>/vault/key]
    #[arg(
        long, value_name = "FILE", num_args = 0..=1, default_missing_value = "", value_parser = place(),
        action = clap::ArgAction::Append
    )]
    pub(crate) key_file: Vec<Place>,
    /// Recovery shares: N of them, of which K together unseal; may be given again
    #[arg(long, value_name = "K/N")]
    pub(crate) shares: Vec<Shape>,
    /// Of the TPM slot, the PCRs that have to be as they are now [default: those of the one that there is, else 7,11]
    #[arg(
        long, value_name = "LIST", value_delimiter = ',', requires = "tpm",
        value_parser = clap::value_parser!(u8).range(0..24)
    )]
    pub(crate) pcrs: Vec<u8>,
    /// Of the TPM slot, a public key (PEM) whose approvals count instead of the PCRs' present values [default: that of the
    /// one that there is, if it has one]
    #[arg(long, value_name = "FILE", requires = "tpm")]
    pub(crate) release_key: Option<PathBuf>,
    /// Of passphrases, what it costs to try one: memory and passes [default: 64MiB/3, and never less]
    #[arg(long, value_name = "COST", value_parser = cost)]
    pub(crate) cost: Option<Argon2Cost>,
    #[command(flatten)]
    pub(crate) to: SharesTo,
}

/// By what to unseal.
#[derive(Debug, Args)]
pub(crate) struct UnsealArgs {
    /// By a passphrase: asked for, or one line of standard input
    #[arg(long, conflicts_with_all = ["share", "key_file", "machine"])]
    pub(crate) passphrase: bool,
    /// The same from a file of one line, or - for standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["share", "key_file", "machine"])]
    pub(crate) passphrase_file: Option<PathBuf>,
    /// By a recovery share: asked for, one line of standard input, or from a file; may be given again
    #[arg(
        long, value_name = "FILE", num_args = 0..=1, default_missing_value = "", value_parser = place(),
        action = clap::ArgAction::Append, conflicts_with_all = ["key_file", "machine"]
    )]
    pub(crate) share: Vec<Place>,
    /// By a key file [default: <etc>/vault/key]
    #[arg(
        long, value_name = "FILE", num_args = 0..=1, default_missing_value = "", value_parser = place(),
        conflicts_with = "machine"
    )]
    pub(crate) key_file: Option<Place>,
    /// By what needs nobody: the TPM, then a key file where the vault looks by itself
    #[arg(long)]
    pub(crate) machine: bool,
    /// Accept this machine although the vault was made on another one. Why; it is on record for good
    #[arg(long, value_name = "REASON")]
    pub(crate) accept_machine: Option<String>,
    /// Accept this state although the ledger knows a later one. Why; it is on record for good
    #[arg(long, value_name = "REASON")]
    pub(crate) accept_rollback: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_so_many_of_so_many() {
        assert_eq!("2/3".parse(), Ok(Shape { threshold: 2, count: 3 }));
        for bad in ["", "2", "3/2", "1/3", "0/0", "2/300", "2/3/4", "a/b", "-2/3"] {
            assert!(bad.parse::<Shape>().unwrap_err().contains("2/3"), "{bad}");
        }
    }

    #[test]
    fn a_cost_is_memory_and_passes() {
        assert_eq!(cost("64MiB/3"), Ok(Argon2Cost { memory_kib: 65_536, passes: 3, lanes: 1 }));
        assert_eq!(cost("1GiB/4/2"), Ok(Argon2Cost { memory_kib: 1 << 20, passes: 4, lanes: 2 }));
        for bad in ["", "64MiB", "64MiB/", "3/64MiB", "0B/3", "64MiB/0", "64MiB/3/1/1", "9999999GiB/3"] {
            assert!(cost(bad).unwrap_err().contains("64MiB/3"), "{bad}");
        }
    }
}
