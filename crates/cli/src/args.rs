//! The command line, as data: every command, option and help text.

mod account;
mod approvals;
mod config;
mod image;
mod ledger;
mod logs;
mod mcp;
mod router;
pub(crate) mod secret;
mod talk;
pub(crate) mod vault;
mod when;
mod workspace;

pub(crate) use account::Account;
pub(crate) use approvals::{Answer, Approvals, Decide};
pub(crate) use config::Config;
pub(crate) use image::Image;
pub(crate) use ledger::{Against, Export, Ledger, Query};
pub(crate) use logs::Logs;
pub(crate) use mcp::Mcp;
pub(crate) use router::{Data as KeyData, Key as RouterKey, NewKey, Router};
pub(crate) use secret::Secret;
pub(crate) use talk::{Chat, Loop, Shows, Words};
pub(crate) use vault::Vault;
pub(crate) use workspace::Workspace;

use clap::{Args, Parser, Subcommand, ValueEnum};
use octant_ids::{Millis, ServiceName, Sha256};
use octant_manifest::Profile;
use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::{Error as ValueError, StrDeserializer};
use std::ffi::OsString;
use std::path::PathBuf;

const AFTER: &str = "\
Also in this binary:
  octant run      Run a program in a workstation, with nothing else running
  octant up       Run Octant below a directory of this machine
  octant sh       The shell
  octant UTILITY  One of the utilities (octant --list)

Exit codes:
  0 done           4 not running        8 a layer of isolation is missing
  1 failed         5 denied             9 deadline passed
  2 usage          6 not valid         10 unhealthy
  3 not found      7 does not verify   70 a fault in Octant

Example:
  octant status";

/// The operator's command line.
#[derive(Debug, Parser)]
#[command(
    name = "octant",
    bin_name = "octant",
    version,
    about = "An operating system userland for AI agents",
    after_help = AFTER,
    disable_help_subcommand = true,
    subcommand_required = true,
    arg_required_else_help = true
)]
pub(crate) struct Cli {
    /// What holds for every command.
    #[command(flatten)]
    pub(crate) global: Global,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// Talk to the instance below DIR (etc, state, run, log) [default: $OCTANT_DIR, else this machine's]
    #[arg(long, global = true, value_name = "DIR", help_heading = "Everywhere")]
    pub(crate) dir: Option<PathBuf>,
    /// Print JSON: one document, or one a line where a command goes on
    #[arg(long, global = true, help_heading = "Everywhere")]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show every unit: state, health, pid, restarts, since when
    #[command(after_help = "Example:\n  octant status --json")]
    Status,
    /// Say whether everything is healthy; exits 10 when something is not
    #[command(after_help = "Example:\n  octant health --wait 30s || octant status")]
    Health {
        /// Wait at most so long (ms, s, min) until everything is healthy
        #[arg(long, value_name = "TIME", value_parser = millis, default_value = "0s")]
        wait: Millis,
    },
    /// Start, look at and end agents
    #[command(subcommand, after_help = "Example:\n  octant agent list")]
    Agent(Agent),
    /// Talk with a language model at the terminal, or ask it once
    ///
    /// What comes on standard input, where that is no terminal, is put behind the question. Commands in a conversation begin
    /// with a slash; /help lists them.
    #[command(
        after_help = "Example:\n  octant chat --model claude-sonnet\n  octant logs ledger | octant chat \"what went wrong here?\""
    )]
    Chat(Chat),
    /// Let an editor drive agents over the Agent Client Protocol, on standard input and output
    ///
    /// Each session is an agent of the manifest, whose program is the agent loop. In an editor's list of agents it is the
    /// command `octant` with the arguments `acp --manifest FILE`.
    #[command(after_help = "Example:\n  octant acp --manifest coder.signed.json")]
    Acp {
        /// The signed manifest (made by `octant manifest sign`)
        #[arg(long, value_name = "FILE")]
        manifest: PathBuf,
        /// The operator's key with which the answers of the editor's user are signed, where an agent waits for approval
        ///
        /// Without it, `octant approvals` answers as for every agent.
        #[arg(long, value_name = "FILE")]
        key: Option<PathBuf>,
    },
    /// See and answer what waits for an operator
    #[command(subcommand, after_help = "Example:\n  octant approvals list")]
    Approvals(Approvals),
    /// See what agents reach outside, and lend them a host for a while
    #[command(subcommand, after_help = "Example:\n  octant egress list")]
    Egress(Egress),
    /// Ask about models: which there are, who asks them, what that costs
    #[command(subcommand, after_help = "Example:\n  octant router status")]
    Router(Router),
    /// See how the machine is connected, and have its addresses asked for again
    #[command(subcommand, after_help = "Example:\n  octant network status")]
    Network(Network),
    /// Write, check, sign and verify the manifests that say what an agent may do
    #[command(subcommand, after_help = "Example:\n  octant manifest check manifest.toml")]
    Manifest(Manifest),
    /// Import OCI images from disk: root file systems for agents
    #[command(subcommand, after_help = "Example:\n  octant image list")]
    Image(Image),
    /// Log in at a machine's console by key
    #[command(subcommand, after_help = "Example:\n  octant account answer login1:... --key alice.key")]
    Account(Account),
    /// Show and change which operators' keys this machine trusts
    #[command(subcommand, after_help = "Example:\n  octant trust list")]
    Trust(Trust),
    /// Read and verify the record of everything that happened
    #[command(subcommand, after_help = "Example:\n  octant ledger tail -n 50")]
    Ledger(Ledger),
    /// Keep secrets, say who may use them, unseal and seal them
    #[command(subcommand, after_help = "Example:\n  octant vault status")]
    Vault(Vault),
    /// Keep, compare and merge what agents have made in their workspaces
    #[command(subcommand, after_help = "Example:\n  octant workspace list")]
    Workspace(Workspace),
    /// Start, stop or restart a unit
    #[command(subcommand, after_help = "Example:\n  octant service restart ledger")]
    Service(Service),
    /// Write, check, sign and apply the machine's configuration, look at it, and go back
    #[command(subcommand, after_help = "Example:\n  octant config show")]
    Config(Config),
    /// Try every layer of isolation, the ledger, the vault and this machine, and say what is wrong and what to do
    ///
    /// A throw-away agent tries what has to be denied. Nothing of it is left behind, and nothing is changed. It works without a
    /// running Octant too, and shows as unknown what only root can ask.
    #[command(
        after_help = "Exit codes:\n  0 all in order   1 weaker than it can be   8 a layer of isolation is missing   10 something is broken\n\nExample:\n  octant doctor --json"
    )]
    Doctor,
    /// Show units, agents, what waits for an operator and the ledger's end as they go; keys suspend, resume and kill
    ///
    /// Without a terminal, or on one that cannot be drawn over (TERM=dumb), what is known now is printed once.
    #[command(name = "top", after_help = "Example:\n  octant top")]
    Live,
    /// Print what units wrote, one or all, in the order of time; or what an agent wrote
    #[command(after_help = "Example:\n  octant logs -f ledger\n  octant logs --since \"10min ago\"")]
    Logs(Logs),
    /// Replace the running PID 1 by the binary now on disk; agents and services keep running
    #[command(alias = "reexec", after_help = "Example:\n  octant upgrade")]
    Upgrade,
    /// Stop everything in order and switch the machine off
    #[command(after_help = "Example:\n  octant poweroff")]
    Poweroff,
    /// Stop everything in order and start the machine again
    #[command(after_help = "Example:\n  octant reboot")]
    Reboot,
    /// Stop everything in order and halt, with the power left on
    #[command(after_help = "Example:\n  octant halt")]
    Halt,
    /// Print a completion script for a shell
    #[command(after_help = "Example:\n  octant completion bash >/etc/bash_completion.d/octant")]
    Completion {
        /// The shell
        shell: Shell,
    },
    /// Inside a workstation: add a note to the ledger
    #[command(after_help = "Example:\n  octant note \"report written: 3 findings\"")]
    Note {
        /// The note: at most 4096 bytes
        text: String,
    },
    /// Inside a workstation: ask to be lent a host beyond the manifest, for a while
    ///
    /// What can be asked for stands in the manifest (network.leases). Where an operator has to approve it, the same command
    /// works again after the answer; `octant approvals wait` waits for that.
    #[command(
        after_help = "Example:\n  octant lease tls://a.example.org:443 --for 10min --reason \"the price list\""
    )]
    Lease(Borrow),
    /// Inside a workstation: serve this agent's tools over MCP on standard input and output; outside: see servers of tools
    ///
    /// For clients of the Model Context Protocol that only start a process; in their list of servers it is the command
    /// `octant` with the argument `mcp`. Others connect to /run/octant/agent.sock, where the same is served.
    #[command(after_help = "Example:\n  octant mcp\n  octant mcp servers")]
    Mcp {
        #[command(subcommand)]
        command: Option<Mcp>,
    },
    /// Inside a workstation: write to the agents in a room, and read what they write
    #[command(subcommand, after_help = "Example:\n  octant message send team \"the first half is done\"")]
    Message(Message),
    /// Inside a workstation: see, sign with and lease the secrets that this agent was granted
    #[command(subcommand, after_help = "Example:\n  octant secret sign prod/key report.txt")]
    Secret(Secret),
    /// Inside a workstation: run a command with an SSH agent whose keys are the vault's
    ///
    /// The command finds the agent in SSH_AUTH_SOCK. It signs logins at the hosts that the manifest grants with `ssh`, by
    /// the hosts' keys, and nothing else; the keys never leave the vault. git finds it by itself.
    #[command(name = "ssh-agent", after_help = "Example:\n  octant ssh-agent -- ssh git@git.example.org")]
    SshAgent {
        /// The directory of the socket that is standard input, to serve and to remove at the end
        #[arg(long, hide = true, value_name = "DIR", conflicts_with = "command")]
        serve: Option<PathBuf>,
        /// The command and its arguments
        #[arg(last = true, required_unless_present = "serve", value_name = "COMMAND")]
        command: Vec<OsString>,
    },
    /// Inside a workstation: show who this agent is and what it was granted
    #[command(name = "self", after_help = "Example:\n  octant self --try mount")]
    Itself {
        /// Instead, really try what no manifest grants, and show the kernel's answer; exits 5 when it was denied
        #[arg(long = "try", value_name = "WHAT")]
        attempt: Option<Attempt>,
        /// What the throw-away agent of `octant doctor` does
        #[arg(long, hide = true, value_name = "STEP", conflicts_with = "attempt")]
        probe: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Agent {
    /// Start an agent from a signed manifest and print its identifier
    #[command(
        after_help = "Example:\n  octant agent spawn --wait manifest.signed.json\n  octant agent spawn coder.signed.json --task \"make the tests pass\""
    )]
    Spawn {
        /// The signed manifest (made by `octant manifest sign`)
        #[arg(required_unless_present = "manifest")]
        file: Option<PathBuf>,
        /// Inside a workstation: the manifest (TOML) of a child, which gets what this agent has at most; nobody signs it
        #[arg(long, value_name = "FILE", conflicts_with = "file")]
        manifest: Option<PathBuf>,
        /// Wait until the agent ends; exit 0 only when it ended with code 0
        #[arg(long)]
        wait: bool,
        #[command(flatten)]
        words: Words,
    },
    /// Say something to an agent that listens, as the agent loop does; or have it stop what it is at
    #[command(
        after_help = "Example:\n  octant agent say coder \"leave the tests as they are\"\n  octant agent say coder --stop"
    )]
    Say {
        #[command(flatten)]
        which: Which,
        /// The words, at most 64 KiB
        #[arg(required_unless_present = "stop")]
        text: Option<String>,
        /// Have it stop what it is at, before the words
        #[arg(long)]
        stop: bool,
    },
    /// Watch an agent until it ends; exit 0 only when it ended with code 0
    ///
    /// What it wrote so far comes first. Ctrl-C ends the watching, not the agent.
    #[command(after_help = "Example:\n  octant agent attach coder")]
    Attach(Which),
    /// Inside a workstation: work on the agent's task with a language model, files, the shell and Octant's tools
    ///
    /// The program of a manifest: executable = "/bin/octant", args = ["agent", "loop", "--model", "NAME"]. What it did is in
    /// /workspace/.octant/transcript.jsonl, from which it goes on, and its result in result.json beside it.
    #[command(
        name = "loop",
        after_help = "Exit codes:\n  0 done   1 stuck, refused or stopped   4 no answer   5 budget used up   6 model or request wrong   9 steps or time over\n\nExample:\n  octant agent loop --model claude-sonnet --max-steps 50"
    )]
    Loop(Box<Loop>),
    /// Build workstations whose programs wait for `octant agent spawn` of this manifest, which then takes one
    #[command(after_help = "Example:\n  octant agent prepare --count 4 manifest.signed.json")]
    Prepare {
        /// The signed manifest (made by `octant manifest sign`)
        file: PathBuf,
        /// How many are to wait, from now on; one that was used is replaced
        #[arg(long, default_value_t = 1)]
        count: u64,
    },
    /// List what is prepared, or free it
    #[command(after_help = "Example:\n  octant agent prepared\n  octant agent prepared --drop")]
    Prepared {
        /// Free what waits, and prepare no more of it
        #[arg(long)]
        drop: bool,
        /// Only what is prepared for this manifest [default: for every one]
        #[arg(long, value_name = "SHA256", requires = "drop")]
        manifest: Option<Sha256>,
    },
    /// List agents
    #[command(after_help = "Example:\n  octant agent list --all")]
    List {
        /// Those that have ended too
        #[arg(long)]
        all: bool,
    },
    /// List agents, each below the one that it is under
    #[command(after_help = "Example:\n  octant agent tree")]
    Tree {
        /// Those that have ended too
        #[arg(long)]
        all: bool,
    },
    /// Inside a workstation: list the agents below this one, and say how many more it may have
    #[command(after_help = "Example:\n  octant agent children --all")]
    Children {
        /// Those that have ended too
        #[arg(long)]
        all: bool,
    },
    /// Show one agent: state, limits, layers of isolation, how it ended
    #[command(after_help = "Example:\n  octant agent show incident-report")]
    Show(Which),
    /// Show what an agent can do, and who granted it
    #[command(after_help = "Example:\n  octant agent authority incident-report")]
    Authority(Which),
    /// Show what an agent has to use up, what it and those below it have used, and what is left
    #[command(after_help = "Example:\n  octant agent budget incident-report")]
    Budget(Which),
    /// Show what an agent was denied: by which rule, in which line, and what would grant it
    #[command(after_help = "Example:\n  octant agent why incident-report --manifest manifest.toml")]
    Why {
        #[command(flatten)]
        which: Which,
        /// Its manifest (TOML, or signed), for the lines
        #[arg(long, value_name = "FILE")]
        manifest: Option<PathBuf>,
    },
    /// Print what an agent wrote to its standard output and error
    #[command(after_help = "Example:\n  octant agent logs -f incident-report")]
    Logs {
        #[command(flatten)]
        which: Which,
        /// Go on with what it writes from now on, until it ends
        #[arg(short, long)]
        follow: bool,
        /// Only one of its two outputs
        #[arg(long, value_name = "OUTPUT")]
        only: Option<Output>,
    },
    /// Wait until an agent ends; exit 0 only when it ended with code 0
    #[command(after_help = "Example:\n  octant agent wait incident-report")]
    Wait(Which),
    /// Wait until an agent ends, and list what its manifest says is kept of its workspace
    #[command(after_help = "\
A manifest names it in lifetime.retain. What did not fit or could not be read is named too.\n\
\n\
Example:\n  octant agent artefacts incident-report --out /srv/report")]
    Artefacts {
        #[command(flatten)]
        which: Which,
        /// A snapshot that the agent took while it ran, by its digest or the digest's first digits; waits for nothing
        #[arg(long, value_name = "DIGEST")]
        snapshot: Option<String>,
        /// Write the files into this directory, which is made
        #[arg(long, value_name = "DIR", conflicts_with = "remove")]
        out: Option<PathBuf>,
        /// Remove them, for their room
        #[arg(long)]
        remove: bool,
    },
    /// Start an agent whose workspace begins with what another's has now, and print its identifier
    #[command(after_help = "\
An agent that runs is frozen while its workspace is read. The manifest has filesystem.workspace = \"any\".\n\
\n\
Example:\n  octant agent fork incident-report")]
    Fork {
        #[command(flatten)]
        which: Which,
        /// The signed manifest of the new agent; without it, the one that the other was spawned from
        #[arg(long, value_name = "FILE")]
        manifest: Option<PathBuf>,
        /// The most MiB that the workspace may have
        #[arg(long, value_name = "MIB", default_value_t = 1024)]
        limit: u64,
        #[command(flatten)]
        words: Words,
    },
    /// End an agent with all its processes
    #[command(after_help = "Example:\n  octant agent kill incident-report")]
    Kill {
        #[command(flatten)]
        which: Which,
        /// How long it has to end after SIGTERM (ms, s, min); 0s kills at once
        #[arg(long, value_name = "TIME", value_parser = millis, default_value = "0s")]
        grace: Millis,
    },
    /// Freeze an agent with all its processes, until it is resumed
    #[command(after_help = "Example:\n  octant agent suspend incident-report")]
    Suspend(Which),
    /// Let a suspended agent run again
    #[command(after_help = "Example:\n  octant agent resume incident-report --for 10min")]
    Resume {
        #[command(flatten)]
        which: Which,
        /// Where its time to live is over: how much longer it may live (ms, s, min), at most what its manifest gave it
        #[arg(long = "for", value_name = "TIME", value_parser = millis)]
        time: Option<Millis>,
    },
    /// Give an agent less of the processors than its manifest does, or all of that back
    #[command(
        after_help = "Example:\n  octant agent throttle incident-report --cpu 10\n  octant agent throttle incident-report --off"
    )]
    Throttle {
        #[command(flatten)]
        which: Which,
        /// At most so many hundredths of one processor, and those after everybody else
        #[arg(long, value_name = "PERCENT", required_unless_present = "off", conflicts_with = "off")]
        cpu: Option<u64>,
        /// Give it its manifest's share again
        #[arg(long)]
        off: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Network {
    /// Show the machine's links, their addresses, who lent them and for how long, and what is wrong
    #[command(after_help = "Example:\n  octant network status")]
    Status,
    /// Set the clock to what the time servers say, also by more than it is set by otherwise, or back
    #[command(after_help = "Example:\n  octant network step")]
    Step,
    /// Ask the servers now for what they have lent
    #[command(after_help = "Example:\n  octant network renew eth0")]
    Renew {
        /// The link; without it, every one that is lent an address
        link: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Egress {
    /// List what agents may reach, have open and have used
    #[command(after_help = "Example:\n  octant egress list fetcher")]
    List {
        /// One agent only: its identifier, or its name
        #[arg(value_name = "AGENT")]
        agent: Option<String>,
    },
    /// Say what would be decided about a connection, without making one
    #[command(after_help = "Example:\n  octant egress preview fetcher https://api.example.org/")]
    Preview {
        /// The agent: its identifier, or its name
        #[arg(value_name = "AGENT")]
        agent: String,
        /// Where to: a URL, or HOST:PORT
        #[arg(value_name = "URL")]
        url: String,
    },
    /// Show what is on record about an agent's connections
    #[command(after_help = "Example:\n  octant egress log fetcher -n 50")]
    Log {
        /// The agent: its identifier, or its name
        #[arg(value_name = "AGENT")]
        agent: String,
        /// At most so many entries
        #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 1000)]
        limit: u32,
    },
    /// Lend an agent a host beyond its manifest
    #[command(
        after_help = "Example:\n  octant egress lease fetcher tls://a.example.org:443 --for 1h --reason fix"
    )]
    Lease {
        /// The agent: its identifier, or its name
        #[arg(value_name = "AGENT")]
        agent: String,
        /// The host: PROTOCOL://HOST:PORT with tls, http or tcp
        #[arg(value_name = "HOST")]
        host: String,
        /// For how long (ms, s, min, h), at most a day
        #[arg(long = "for", value_name = "TIME", value_parser = millis)]
        ttl: Millis,
        /// At most so many bytes, both ways together
        #[arg(long, value_name = "BYTES")]
        bytes: Option<u64>,
        /// At most so many connections
        #[arg(long, value_name = "COUNT")]
        connections: Option<u64>,
        /// Why, for the record
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Take back a host that was lent, and cut its connections
    #[command(after_help = "Example:\n  octant egress revoke fetcher 5d41402abc4b")]
    Revoke {
        /// The agent: its identifier, or its name
        #[arg(value_name = "AGENT")]
        agent: String,
        /// The lease, as `octant egress list` shows it
        #[arg(value_name = "LEASE")]
        lease: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Borrow {
    /// The host: PROTOCOL://HOST:PORT with tls, http or tcp
    #[arg(value_name = "HOST", required_unless_present = "give_back")]
    pub(crate) host: Option<String>,
    /// For how long (ms, s, min, h), at most a day
    #[arg(long = "for", value_name = "TIME", value_parser = millis, default_value = "10min")]
    pub(crate) ttl: Millis,
    /// At most so many bytes, both ways together
    #[arg(long, value_name = "BYTES")]
    pub(crate) bytes: Option<u64>,
    /// At most so many connections
    #[arg(long, value_name = "COUNT")]
    pub(crate) connections: Option<u64>,
    /// Why, for the record and for who is asked
    #[arg(long, value_name = "TEXT", required_unless_present = "give_back")]
    pub(crate) reason: Option<String>,
    /// Instead, give a lease back, and cut its connections
    #[arg(long, value_name = "LEASE", conflicts_with_all = ["host", "reason", "bytes", "connections"])]
    pub(crate) give_back: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Which {
    /// The agent: its identifier, the last 4 or more characters of it, or its name if only one has it
    #[arg(value_name = "AGENT")]
    pub(crate) agent: String,
}

#[derive(Debug, Args)]
pub(crate) struct NewManifest {
    /// The agent's name
    pub(crate) name: String,
    /// The agent's role, which bounds what it can get [default: analyst; with a profile above minimal: developer]
    #[arg(long, value_name = "ROLE")]
    pub(crate) role: Option<String>,
    /// The operator who is going to sign it
    #[arg(long, value_name = "NAME")]
    pub(crate) operator: String,
    /// Grant what programs of this kind need: minimal, shell, python, node or compiler
    #[arg(long, value_name = "PROFILE", value_parser = profile)]
    pub(crate) profile: Option<Profile>,
    /// A directory to work in, which is read and written
    #[arg(long, value_name = "DIR")]
    pub(crate) workspace: Option<PathBuf>,
    /// The program and its arguments, instead of the profile's own
    #[arg(last = true, value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Learn {
    /// The agent's name
    #[arg(long, value_name = "NAME", default_value = "learned")]
    pub(crate) name: String,
    /// The agent's role, which bounds what it can get
    #[arg(long, value_name = "ROLE", default_value = "developer")]
    pub(crate) role: String,
    /// The operator who is going to sign it
    #[arg(long, value_name = "NAME")]
    pub(crate) operator: String,
    /// Where to write the manifest; must not be there yet
    #[arg(short, long, value_name = "FILE", default_value = "learned.toml")]
    pub(crate) output: PathBuf,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Message {
    /// Send a message to everybody else in a room; it is on record, by its digest, before anybody has it
    #[command(after_help = "Example:\n  octant message send team --kind step \"the first half is done\"")]
    Send {
        /// A room that the manifest names
        room: String,
        /// What it says: at most 16 KiB
        body: String,
        /// What sort of message it is, for who reads it
        #[arg(long, value_name = "KIND", default_value = "text")]
        kind: String,
        /// What the body is
        #[arg(long, value_name = "FORM", default_value = "text")]
        form: Form,
    },
    /// Print the messages that wait, one a line: cursor, room, sender, kind, body
    #[command(after_help = "Example:\n  octant message receive --after 17 --wait 30s")]
    Receive {
        /// The cursor of the last message that has been read: it and what came before are taken out
        #[arg(long, value_name = "CURSOR", default_value_t = 0)]
        after: u64,
        /// Wait at most so long (ms, s) for a message where there is none; no longer than 30s
        #[arg(long, value_name = "TIME", value_parser = millis, default_value = "0s")]
        wait: Millis,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Form {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Manifest {
    /// Print a manifest to start from: it grants next to nothing, or what a profile needs on this machine
    #[command(
        after_help = "Example:\n  octant manifest new report --operator alice >manifest.toml\n  octant manifest new tests --operator alice --profile python --workspace . -- python3 -m unittest"
    )]
    New(NewManifest),
    /// Check a manifest without a signature and show what it would grant
    #[command(after_help = "Example:\n  octant manifest check manifest.toml")]
    Check {
        /// The manifest (TOML)
        file: PathBuf,
    },
    /// Show each field of a manifest: its line, its value, what it means
    #[command(after_help = "Example:\n  octant manifest explain manifest.toml")]
    Explain {
        /// The manifest (TOML, or signed)
        file: PathBuf,
    },
    /// Show what a second manifest grants more and less than a first
    #[command(after_help = "Example:\n  octant manifest diff old.toml new.toml")]
    Diff {
        /// The first manifest (TOML, or signed)
        first: PathBuf,
        /// The second
        second: PathBuf,
    },
    /// Show what an agent gets as the child of another: the intersection of their manifests
    #[command(after_help = "Example:\n  octant manifest intersect parent.toml child.toml")]
    Intersect {
        /// The parent's manifest (TOML, or signed)
        parent: PathBuf,
        /// The child's
        child: PathBuf,
    },
    /// Run a command, unconfined, and write the manifest that lets it do again what it was seen to do
    #[command(
        after_help = "Example:\n  octant manifest learn --operator alice -o tests.toml -- python3 -m unittest\n\nThe command is confined by nothing while it is watched: run only what you would run yourself. Another run may need more; see what was written before it is signed."
    )]
    Learn(Learn),
    /// Print the JSON Schema of manifests, for editors
    #[command(after_help = "Example:\n  octant manifest schema >manifest.schema.json")]
    Schema,
    /// Sign a manifest with an operator's key
    #[command(
        after_help = "Example:\n  octant manifest sign manifest.toml --key alice.key -o manifest.signed.json"
    )]
    Sign {
        /// The manifest (TOML)
        file: PathBuf,
        /// The operator's private key (made by `octant manifest keygen`)
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        /// Where to write the signed manifest [default: standard output]
        #[arg(short, long, alias = "out", value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Verify a signed manifest against the trusted operators' keys
    #[command(after_help = "Example:\n  octant manifest verify manifest.signed.json")]
    Verify {
        /// The signed manifest
        file: PathBuf,
        /// The directory of trusted keys [default: /etc/octant/trusted]
        #[arg(long, value_name = "DIR")]
        trusted: Option<PathBuf>,
        /// The machine that it shall be valid for [default: this one, /etc/octant/machine-id]
        #[arg(long, value_name = "MACHINE")]
        machine: Option<String>,
    },
    /// Make an operator's key pair: NAME.key (keep it secret) and NAME.pub
    #[command(
        after_help = "Example:\n  octant manifest keygen alice --role developer --until 2028-01-01T00:00:00Z --into /root"
    )]
    Keygen {
        /// The operator's name
        name: String,
        /// The operator's role: what agents can get at most under this key
        #[arg(long, value_name = "ROLE", default_value = "analyst")]
        role: String,
        /// When the key stops to count, on every machine that trusts it
        #[arg(long, value_name = "DATE")]
        until: Option<String>,
        /// The directory for both files
        #[arg(long, value_name = "DIR", default_value = ".")]
        into: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Trust {
    /// Show every key of the trusted set: whose it is, its role, since when, and whether it still counts
    #[command(after_help = "Example:\n  octant trust list")]
    List,
    /// Trust an operator's public key from the next spawn on
    #[command(after_help = "Example:\n  octant trust add alice.pub --until 2030-01-01T00:00:00Z")]
    Add {
        /// The public key (made by `octant manifest keygen`)
        file: PathBuf,
        /// When it stops to count
        #[arg(long, value_name = "DATE")]
        until: Option<String>,
    },
    /// Revoke a key: no agent is spawned under it any more, and those that run under it are frozen
    #[command(after_help = "Example:\n  octant trust revoke a76eabbc3a4c4196 --reason \"laptop lost\"")]
    Revoke {
        /// The key's identifier, or its beginning
        key: String,
        /// Why, for whoever finds a manifest refused
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Service {
    /// Start a unit that is stopped or failed
    #[command(after_help = "Example:\n  octant service start agents")]
    Start(Unit),
    /// Stop a unit and what needs it
    #[command(after_help = "Example:\n  octant service stop agents")]
    Stop(Unit),
    /// Stop a unit and start it again; its socket and the connections waiting on it are kept
    #[command(after_help = "Example:\n  octant service restart ledger")]
    Restart(Unit),
}

#[derive(Debug, Args)]
pub(crate) struct Unit {
    /// The unit's name, as `octant status` shows it
    pub(crate) name: ServiceName,
    /// Wait at most so long (ms, s, min) until it has arrived
    #[arg(long, value_name = "TIME", value_parser = millis, default_value = "30s")]
    pub(crate) wait: Millis,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// What `octant self --try` tries. Each is one system call that changes nothing that outlives the workstation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Attempt {
    /// Open a TCP connection to 192.0.2.1 port 80
    Connect,
    /// Mount a tmpfs on /tmp
    Mount,
    /// Read the memory of PID 1
    Trace,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    Stdout,
    Stderr,
}

pub(crate) fn profile(text: &str) -> Result<Profile, String> {
    let known = || Profile::ALL.map(Profile::name).join(", ");
    Profile::of_name(text).ok_or_else(|| format!("the profiles are {}", known()))
}

pub(crate) fn millis(text: &str) -> Result<Millis, String> {
    let text: StrDeserializer<'_, ValueError> = text.into_deserializer();
    Millis::deserialize(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        assert_eq!(millis("30s"), Ok(Millis(30_000)));
        assert!(millis("soon").unwrap_err().contains("ms, s, min"));
    }
}
