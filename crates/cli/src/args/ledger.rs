//! The commands of `octant ledger`.

use super::when::{When, when};
use crate::witness;
use clap::{Args, Subcommand};
use octant_api::ledger::Kind;
use octant_ids::{Aid, Principal, Sha256};
use std::path::PathBuf;

const VERIFY: &str = "\
Hashes alone cannot show that the end was cut off or that everything was written anew: that takes a checkpoint, a key \
or witnesses that were kept elsewhere. What is not proven without them is listed.

Example:
  octant ledger verify --checkpoint kept.checkpoint
  octant ledger verify evidence.octant --key log.pub --witness witness.pub";

const ERASE: &str = "\
It is also what accepts that such a payload was altered, is gone, or is still there after its erasure, where `octant \
ledger verify` names the payload of an entry: the log is whole then, and nothing else is lost. For damage of the log \
itself there is `octant ledger acknowledge`.

Example:
  octant ledger erase 17 --reason \"asked for by the person it names\"";

const ACKNOWLEDGE: &str = "\
For damage of the log itself: entries, tree, checkpoints. It loses every entry from SEQ on, and the log goes on with a \
new key. Where `octant ledger verify` names only the payload of an entry, no entry has to be lost: `octant ledger \
erase` accepts that.

Example:
  octant ledger acknowledge 4711 --reason \"the disk lost its last segment\"";

#[derive(Debug, Subcommand)]
pub(crate) enum Ledger {
    /// Print the latest entries
    #[command(after_help = "Example:\n  octant ledger tail -f")]
    Tail {
        /// How many
        #[arg(short = 'n', long, value_name = "N", default_value_t = 20)]
        lines: u32,
        /// Everything from this sequence number on, instead
        #[arg(long, value_name = "SEQ", conflicts_with = "lines")]
        from: Option<u64>,
        /// Go on with new entries as they come
        #[arg(short, long)]
        follow: bool,
        /// Of these, only what is about this agent, given by its whole identifier
        #[arg(long, value_name = "AID")]
        agent: Option<Aid>,
    },
    /// Show one entry in full
    #[command(after_help = "Example:\n  octant ledger show 17")]
    Show {
        /// Its sequence number
        seq: u64,
    },
    /// Find entries
    #[command(after_help = "Example:\n  octant ledger query --kind note --since \"10min ago\"")]
    Query(Query),
    /// Check that no entry was changed or removed; exits 7 when one was
    #[command(after_help = VERIFY)]
    Verify {
        /// An export to check, or the directory in which `octant run` keeps its record; neither needs a running Octant
        /// [default: the ledger itself, by asking it]
        file: Option<PathBuf>,
        #[command(flatten)]
        against: Against,
    },
    /// Prove that one entry is in the log, to someone who has the log's key and this entry only
    #[command(after_help = "Example:\n  octant ledger prove 17 -o entry-17.tlog-proof")]
    Prove {
        /// The entry's sequence number
        seq: u64,
        /// Where to write the proof (C2SP tlog-proof) [default: standard output]
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
        /// The log's verifier key, or a file with it [default: the one that the ledger names]
        #[arg(long, value_name = "KEY")]
        key: Option<String>,
    },
    /// Write entries, proofs, checkpoint and cosignatures into one file that anyone can check without Octant
    #[command(after_help = "Example:\n  octant ledger export evidence.octant\n  \
        octant ledger export one.octant --agent agent-01jp4ekq030707070707070707")]
    Export(Export),
    /// Print the newest signed checkpoint with its cosignatures: keep it elsewhere, and verify against it later
    #[command(after_help = "Example:\n  octant ledger checkpoint >kept.checkpoint")]
    Checkpoint {
        /// Print the log's verifier key instead
        #[arg(long)]
        key: bool,
    },
    /// Give the ledger a checkpoint that was kept elsewhere: it is compared now and at every later verification
    #[command(after_help = "Example:\n  octant ledger import-checkpoint kept.checkpoint")]
    ImportCheckpoint {
        /// The signed checkpoint
        file: PathBuf,
    },
    /// Erase the payload of an entry that was appended as erasable; the entry and its hash stay
    #[command(after_help = ERASE)]
    Erase {
        /// The entry's sequence number
        seq: u64,
        /// Why; it is on record for good
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Accept a damage: keep the entries before it, set the rest aside, put the loss on record and go on
    #[command(after_help = ACKNOWLEDGE)]
    Acknowledge {
        /// The first entry that cannot be relied on, as `octant ledger verify` names it
        seq: u64,
        /// Why it is accepted; it is on record for good
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Move whole segments of old entries out of the way; proofs about them go on working
    #[command(after_help = "Example:\n  octant ledger archive --before 1000000")]
    Archive {
        /// Only segments all of whose entries come before this sequence number
        #[arg(long, value_name = "SEQ")]
        before: u64,
    },
    /// Run a witness of logs, on another machine than theirs: it cosigns what continues and refuses what does not
    Witness(witness::Witness),
    /// Bring this ledger's checkpoints to its witnesses, and their cosignatures back
    Feed(witness::Feed),
    /// Make and show the keys of witnesses
    #[command(subcommand, after_help = "Example:\n  octant ledger witness-key new --name w1.example w1.key")]
    WitnessKey(witness::WitnessKey),
}

#[derive(Debug, Args)]
pub(crate) struct Query {
    /// Only of this kind; may be given again
    #[arg(long, value_name = "KIND", value_parser = kind)]
    pub(crate) kind: Vec<Kind>,
    /// Only by this one: init, operator:UID, service:NAME or an agent's whole identifier
    #[arg(long, value_name = "WHO", value_parser = principal)]
    pub(crate) actor: Option<Principal>,
    /// Only about this agent, whoever did it, given by its whole identifier
    #[arg(long, value_name = "AID")]
    pub(crate) agent: Option<Aid>,
    /// Only with this subject: 64 hexadecimal digits
    #[arg(long, value_name = "DIGEST")]
    pub(crate) subject: Option<Sha256>,
    /// Only this intent and its outcome
    #[arg(long, value_name = "SEQ")]
    pub(crate) intent: Option<u64>,
    /// Only appended at or after this time: 2026-03-14T13:37:05Z, milliseconds since 1970, or "10min ago"
    #[arg(long, value_name = "TIME", value_parser = when)]
    pub(crate) since: Option<When>,
    /// Only appended before this time
    #[arg(long, value_name = "TIME", value_parser = when)]
    pub(crate) until: Option<When>,
    /// Only from this sequence number on
    #[arg(long, value_name = "SEQ", default_value_t = 0)]
    pub(crate) from: u64,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub(crate) limit: u32,
}

/// What was kept elsewhere, to verify against.
#[derive(Debug, Args)]
pub(crate) struct Against {
    /// The log's verifier key, or a file with it; shows who signed
    #[arg(long, value_name = "KEY")]
    pub(crate) key: Option<String>,
    /// A signed checkpoint that was kept elsewhere; may be given again
    #[arg(long, value_name = "FILE")]
    pub(crate) checkpoint: Vec<PathBuf>,
    /// The verifier key of a witness, or a file with it; may be given again
    #[arg(long, value_name = "KEY")]
    pub(crate) witness: Vec<String>,
    /// How many witnesses must have cosigned [default: all that are given, else as configured or exported]
    #[arg(long, value_name = "N")]
    pub(crate) quorum: Option<u32>,
}

#[derive(Debug, Args)]
pub(crate) struct Export {
    /// The file to write
    pub(crate) file: PathBuf,
    /// From this sequence number on
    #[arg(long, value_name = "SEQ", default_value_t = 1)]
    pub(crate) from: u64,
    /// Up to this one [default: the last that the newest checkpoint covers]
    #[arg(long, value_name = "SEQ")]
    pub(crate) to: Option<u64>,
    /// Only what is about this agent, given by its whole identifier
    #[arg(long, value_name = "AID")]
    pub(crate) agent: Option<Aid>,
    /// Replace the file if it is there
    #[arg(long)]
    pub(crate) force: bool,
}

fn kind(text: &str) -> Result<Kind, String> {
    let known = Kind::ALL.into_iter().find(|kind| kind.as_str() == text);
    known.ok_or_else(|| format!("the kinds are {}", Kind::ALL.map(Kind::as_str).join(", ")))
}

/// The text form in which entries name their actor.
fn principal(text: &str) -> Result<Principal, String> {
    if text == "init" {
        return Ok(Principal::Init);
    }
    let uid = |n: &str| n.parse::<u32>().map_err(|_| format!("{n:?} is not a user id"));
    match text.split_once(':') {
        Some(("operator", n)) => uid(n).map(Principal::Operator),
        Some(("uid", n)) => uid(n).map(Principal::Stranger),
        Some(("service", name)) => name.parse().map(Principal::Service).map_err(|e| format!("{e}")),
        Some(_) => Err("it is init, operator:UID, service:NAME, uid:UID or an agent's identifier".to_owned()),
        None => text.parse().map(Principal::Agent).map_err(|error| error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actors_read_as_they_are_written() {
        for text in ["init", "operator:0", "service:agents", "uid:7", "agent-00000000010000000000000000"] {
            assert_eq!(principal(text).unwrap().to_string(), text);
        }
        for bad in ["", "operator:x", "service:", "nobody:1", "agent-1"] {
            assert!(principal(bad).is_err(), "{bad}");
        }
    }
}
