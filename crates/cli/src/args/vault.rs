//! The commands of `octant vault`. No option of theirs takes a secret: a command line is for everybody to read.

mod policy;
mod read;
mod slot;

pub(crate) use policy::{Approve, Policy};
pub(crate) use read::{Place, To};
pub(crate) use slot::{KeepSlots, NewSlotArgs, Shape, SharesTo, Slots, UnsealArgs};

use super::when::{When, span_of, until};
use clap::{Args, Subcommand, ValueEnum};
use octant_api::vault;
use octant_ids::{Aid, Millis, SecretName, ServiceName};
use std::path::PathBuf;

const INIT: &str = "\
A passphrase is asked for, or read from standard input where that is no terminal. A key file that is not there is \
made. One way alone is one way to lose every secret: `octant vault slots add` adds another.

Example:
  octant vault init --passphrase --label office
  octant vault init --shares 2/3 --shares-into /media/usb";

const UNSEAL: &str = "\
Without an option, on a terminal: asks for what the vault can be unsealed by.

Example:
  octant vault unseal
  octant vault unseal --share share-1.txt --share share-3.txt";

const PUT: &str = "\
The value is asked for without echo, or is the whole of standard input where that is no terminal: printf, not echo, \
which adds a newline.

Example:
  octant vault put prod/api-token --from token.txt --expires 90d
  printf %s \"$TOKEN\" | octant vault put prod/api-token --about \"billing\"";

const IMPORT: &str = "\
A line of an .env file is KEY=VALUE; \"export\", comments, quotes, and values over several lines in quotes are read as \
shells do, but nothing is substituted: a $ is taken as it is, and reported. Where a line cannot be read, nothing is \
stored.

Example:
  octant vault import .env --prefix prod/ --shred";

const REVEAL: &str = "\
Only on a terminal, to a person who types the name once more; the reason goes on record. Programs use a lease instead, \
and never see the value.

Example:
  octant vault reveal prod/db/password --reason \"restore by hand\"";

const GRANT: &str = "\
Modes: use (a service uses the value for the holder, who never sees it), sign (the vault signs with the key pair), \
reveal (the holder sees the value).

Example:
  octant vault grant prod/key --to service:router --mode use --ttl 2h";

const RESTORE: &str = "\
The vault that is there now is kept beside it under another name. The restored one is sealed, and older than what the \
ledger knows: unseal it with --accept-rollback.

Example:
  octant vault restore vault.backup --reason \"disk replaced\"";

#[derive(Debug, Subcommand)]
pub(crate) enum Vault {
    /// Make the vault, with a first way to unseal it, and this machine's identity in it
    #[command(after_help = INIT, override_usage = "octant vault init [OPTIONS] <WAY TO UNSEAL>")]
    Init(Init),
    /// Show whether the vault is sealed and what it waits for; exits 10 when it is damaged
    #[command(after_help = "Example:\n  octant vault status")]
    Status,
    /// Bring the vault's key into memory
    #[command(after_help = UNSEAL, override_usage = "octant vault unseal [OPTIONS]")]
    Unseal(UnsealArgs),
    /// Wipe every key from memory, at once
    #[command(after_help = "Example:\n  octant vault seal")]
    Seal,
    /// Store a new secret
    #[command(after_help = PUT)]
    Put(Put),
    /// Give a secret a new value; the earlier one can be brought back
    #[command(after_help = "Example:\n  octant vault rotate prod/api-token --generate")]
    Rotate(Rotate),
    /// Make an earlier version of a secret the current one again
    #[command(after_help = "Example:\n  octant vault rollback prod/api-token 3")]
    Rollback(Version),
    /// Destroy the value of one version; that it was there stays on record
    #[command(after_help = "Example:\n  octant vault destroy prod/api-token 2")]
    Destroy(Version),
    /// Remove a secret with all its versions, grants and leases
    #[command(after_help = "Example:\n  octant vault rm prod/api-token --yes")]
    Rm {
        /// The secret
        name: SecretName,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// List secrets, without their values
    #[command(after_help = "Example:\n  octant vault list prod/")]
    List {
        /// Only names that begin so
        #[arg(default_value = "", hide_default_value = true)]
        prefix: String,
    },
    /// Show what is known of a secret: versions, grants, leases; not its value
    #[command(
        after_help = "Example:\n  octant vault show prod/api-token\n  octant vault show prod/deploy --ssh >> authorized_keys"
    )]
    Show {
        /// The secret
        name: SecretName,
        /// Only the public key of a key pair, as a line of an SSH server's authorized_keys
        #[arg(long)]
        ssh: bool,
    },
    /// Store every entry of an .env file, or of a JSON object of texts
    #[command(after_help = IMPORT)]
    Import(Import),
    /// Print a value on the terminal
    #[command(after_help = REVEAL)]
    Reveal(Reveal),
    /// Let an agent, a manifest or a service have leases of a secret
    #[command(after_help = GRANT, override_usage = "octant vault grant [OPTIONS] --to <WHO> --mode <MODES> <NAME>")]
    Grant(Grant),
    /// Take grants and leases away, at once
    #[command(
        after_help = "Example:\n  octant vault revoke --secret prod/api-token",
        override_usage = "octant vault revoke [OPTIONS] <WHAT>"
    )]
    Revoke(Revoke),
    /// List the leases that are alive
    #[command(after_help = "Example:\n  octant vault leases")]
    Leases {
        /// Only those of this agent, given by its whole identifier
        #[arg(long, value_name = "AID")]
        agent: Option<Aid>,
    },
    /// List the ways to unseal the vault; add and remove them
    #[command(after_help = "Example:\n  octant vault slots")]
    Slots {
        /// What to do with them [default: list them]
        #[command(subcommand)]
        command: Option<Slots>,
    },
    /// Replace the key that seals everything, with the ways to unseal that are to remain
    #[command(after_help = slot::REKEY, override_usage = "octant vault rekey [OPTIONS] <WAYS TO UNSEAL>")]
    Rekey(Rekey),
    /// Make release keys, and approve what systems measure, so that a TPM slot opens after an update
    #[command(subcommand, after_help = policy::POLICY)]
    Policy(Policy),
    /// Write a copy of the vault, sealed as it is, into a new file
    #[command(after_help = "Example:\n  octant vault backup /media/usb/vault.backup")]
    Backup {
        /// The file; it must not be there yet
        file: PathBuf,
    },
    /// Replace the vault by a copy
    #[command(after_help = RESTORE)]
    Restore(Restore),
    /// Try everything that the vault relies on; exits 10 when something does not work
    #[command(after_help = "Example:\n  octant vault doctor")]
    Doctor,
    /// Show this machine's public key and what is known of its hardware
    #[command(after_help = "Example:\n  octant vault identity --json")]
    Identity,
}

#[derive(Debug, Args)]
pub(crate) struct Init {
    #[command(flatten)]
    pub(crate) slot: NewSlotArgs,
    /// Make a new vault although the ledger knows one that is not there: its secrets are lost. Why; it is on record for
    /// good
    #[arg(long, value_name = "REASON")]
    pub(crate) replace: Option<String>,
}

/// Where a value comes from, and how long it is good.
#[derive(Debug, Args)]
pub(crate) struct Value {
    /// A file with the value, or - for standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) from: Option<PathBuf>,
    /// Let the vault make it: 32 random bytes, of a key pair its seed
    #[arg(long, conflicts_with = "from")]
    pub(crate) generate: bool,
    /// Refuse it from then on: 2026-03-14T13:37:05Z, 2026-03-14, milliseconds since 1970, or a time from now (90d)
    #[arg(long, value_name = "WHEN", value_parser = until)]
    pub(crate) expires: Option<When>,
}

#[derive(Debug, Args)]
pub(crate) struct Put {
    /// The new secret's name: a-z, A-Z, 0-9, _, -, . in parts separated by /
    pub(crate) name: SecretName,
    /// What the value is
    #[arg(long, value_name = "KIND", default_value = "opaque")]
    pub(crate) kind: Kind,
    #[command(flatten)]
    pub(crate) value: Value,
    /// What it is for
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub(crate) about: String,
    /// The user whose password it is
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    pub(crate) username: String,
    /// Where it is used; of an OAuth refresh token, where it is exchanged
    #[arg(long, value_name = "URL", default_value = "", hide_default_value = true)]
    pub(crate) url: String,
    /// Your own words about it; may be given again
    #[arg(long, value_name = "K=V", value_parser = read::label)]
    pub(crate) label: Vec<(String, String)>,
}

#[derive(Debug, Args)]
pub(crate) struct Rotate {
    /// The secret
    pub(crate) name: SecretName,
    #[command(flatten)]
    pub(crate) value: Value,
}

#[derive(Debug, Args)]
pub(crate) struct Version {
    /// The secret
    pub(crate) name: SecretName,
    /// The version, as `octant vault show` lists it
    pub(crate) version: u64,
}

#[derive(Debug, Args)]
pub(crate) struct Import {
    /// The file: KEY=VALUE lines, or a JSON object whose members are texts
    pub(crate) file: PathBuf,
    /// Put this before every key to make the secret's name
    #[arg(
        long, value_name = "TEXT", default_value = "", hide_default_value = true,
        value_parser = read::prefix
    )]
    pub(crate) prefix: String,
    /// Give secrets that are there already a new version
    #[arg(long)]
    pub(crate) rotate: bool,
    /// Overwrite and remove the file once everything is stored, without asking
    #[arg(long)]
    pub(crate) shred: bool,
    /// Keep the file, without asking
    #[arg(long, conflicts_with = "shred")]
    pub(crate) keep: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Reveal {
    /// The secret
    pub(crate) name: SecretName,
    /// Which version [default: the current one]
    #[arg(long, value_name = "N")]
    pub(crate) version: Option<u64>,
    /// Why you have to see it; it is on record for good
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: String,
}

#[derive(Debug, Args)]
pub(crate) struct Grant {
    /// The secret
    pub(crate) name: SecretName,
    /// To whom: agent:AID, manifest:SHA256, manifest-file:PATH of a signed manifest, or service:NAME
    #[arg(long, value_name = "WHO", value_parser = read::to)]
    pub(crate) to: To,
    /// For what, separated by commas
    #[arg(long, value_name = "MODES", value_delimiter = ',', required = true)]
    pub(crate) mode: Vec<Mode>,
    /// With use: a host for which the value may be used; may be given again [default: as the service's own rules say]
    #[arg(long, value_name = "PATTERN")]
    pub(crate) host: Vec<String>,
    /// The longest that a lease lasts, with every renewal (ms, s, min, h, d); at most 24h [default: 1h]
    #[arg(long, value_name = "TIME", value_parser = span_of)]
    pub(crate) ttl: Option<Millis>,
    /// Leases last as long as their holder
    #[arg(long, conflicts_with = "ttl")]
    pub(crate) unlimited: bool,
    /// When the grant itself ends: a time, or how long it is until then (90d) [default: when it is revoked]
    #[arg(long, value_name = "WHEN", value_parser = until)]
    pub(crate) until: Option<When>,
    /// Why; it is on record for good
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub(crate) reason: String,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Revoke {
    /// This grant, and the leases that rest on it
    #[arg(long, value_name = "ID")]
    pub(crate) grant: Option<u64>,
    /// Every grant of this secret, and its leases
    #[arg(long, value_name = "NAME")]
    pub(crate) secret: Option<SecretName>,
    /// Every lease of this agent, and every grant to it by its identifier
    #[arg(long, value_name = "AID")]
    pub(crate) agent: Option<Aid>,
    /// Every lease of this service
    #[arg(long, value_name = "NAME")]
    pub(crate) service: Option<ServiceName>,
}

#[derive(Debug, Args)]
pub(crate) struct Rekey {
    #[command(flatten)]
    pub(crate) slots: KeepSlots,
    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Restore {
    /// The copy (made by `octant vault backup`)
    pub(crate) file: PathBuf,
    /// Why; it is on record for good
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: String,
    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,
}

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// Any bytes
    Opaque,
    /// An Ed25519 key pair: its seed of 32 bytes; it signs and is never handed out
    KeyPair,
    /// A password; see --username
    Password,
    /// An OAuth 2.0 refresh token; see --url
    OauthRefresh,
}

impl From<Kind> for vault::Kind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Opaque => Self::Opaque,
            Kind::KeyPair => Self::KeyPair,
            Kind::Password => Self::Password,
            Kind::OauthRefresh => Self::OauthRefresh,
        }
    }
}

/// What a lease is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Mode {
    Use,
    Sign,
    Reveal,
}

impl From<Mode> for vault::Mode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Use => Self::Use,
            Mode::Sign => Self::Sign,
            Mode::Reveal => Self::Reveal,
        }
    }
}
