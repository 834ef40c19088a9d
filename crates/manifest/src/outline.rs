//! The text of a manifest from its content: what `manifest new`, `octant run` and `manifest learn` write.

use crate::date;
use crate::effective::Machine;
use crate::grants::{Profile, Resources};
use crate::io::{Io, UNLIMITED};
use octant_ids::{ByteSize, Millis};
use std::fmt::{self, Write};

/// The content of a manifest that is to be written. Every grant is spelled out, so that what is signed is
/// complete: nothing is added to it when it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outline {
    /// What the operator calls the agent.
    pub name: String,
    /// The role whose ceiling bounds it.
    pub role: String,
    /// The operator who is going to sign.
    pub operator: String,
    /// Until when it may be used, in milliseconds since 1970.
    pub not_after_ms: u64,
    /// How many agents may be spawned from it.
    pub max_spawns: u64,
    /// The program, as a path in the workstation.
    pub executable: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// Where it starts.
    pub cwd: String,
    /// Trees that may be read.
    pub read: Vec<String>,
    /// Trees that may be read and written.
    pub write: Vec<String>,
    /// The profile of system calls.
    pub profile: Profile,
    /// System calls beyond it.
    pub syscalls: Vec<String>,
    /// Octant's own utilities.
    pub utilities: Vec<String>,
    /// Trees whose files may be executed.
    pub execute: Vec<String>,
    /// Every limit.
    pub resources: Resources,
    /// How long it lives; `None` is without limit.
    pub ttl: Option<Millis>,
}

/// What a profile's expansion has to know of the machine. The expansion itself looks at nothing.
pub struct Host<'a> {
    /// What it has: no limit is written that is above it.
    pub machine: Machine,
    /// Whether a path is there as a plain file or directory, no component of it a symbolic link.
    pub present: &'a dyn Fn(&str) -> bool,
}

impl fmt::Debug for Host<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").field("machine", &self.machine).finish_non_exhaustive()
    }
}

/// Files of `/etc` that programs of a distribution read at their start, and none with a secret in it. `/etc` as a
/// whole is not granted, and its users, groups, hosts and where to look them up are the workstation's own.
const ETC: [&str; 16] = [
    "/etc/alternatives",
    "/etc/bash.bashrc",
    "/etc/debian_version",
    "/etc/gitconfig",
    "/etc/host.conf",
    "/etc/inputrc",
    "/etc/ld.so.cache",
    "/etc/locale.alias",
    "/etc/magic",
    "/etc/mime.types",
    "/etc/profile",
    "/etc/protocols",
    "/etc/services",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
    "/etc/terminfo",
];
/// What Debian's Python reads besides.
const ETC_PYTHON: [&str; 6] = [
    "/etc/python3",
    "/etc/python3.11",
    "/etc/python3.12",
    "/etc/python3.13",
    "/etc/python3.14",
    "/etc/pip.conf",
];
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

impl Outline {
    /// The smallest useful one: a shell, two utilities, and nothing of the machine.
    #[must_use]
    pub fn minimal(name: &str, role: &str, operator: &str) -> Self {
        Self {
            name: name.to_owned(),
            role: role.to_owned(),
            operator: operator.to_owned(),
            // 2035-01-01
            not_after_ms: 2_051_222_400_000,
            max_spawns: 100,
            executable: "/bin/sh".to_owned(),
            args: vec!["-c".into(), "echo hello from $PWD; ls -l /; cat /etc/octant/applets".into()],
            cwd: "/workspace".to_owned(),
            read: Vec::new(),
            write: Vec::new(),
            profile: Profile::Shell,
            syscalls: Vec::new(),
            utilities: owned(&["sh", "ls", "cat"]),
            execute: Vec::new(),
            resources: Resources {
                memory_max: ByteSize(64 * MIB),
                memory_high: ByteSize(48 * MIB),
                pids_max: 16,
                cpu_quota_percent: 100,
                cpu_weight: 100,
                workspace_bytes: ByteSize(16 * MIB),
                workspace_inodes: 1024,
                tmp_bytes: ByteSize(4 * MIB),
                nofile: 256,
                fsize: ByteSize(16 * MIB),
                io: Io::UNLIMITED,
            },
            ttl: Some(Millis(300_000)),
        }
    }

    /// Everything that programs of this kind need on a machine of a usual distribution: its `/usr` to read and
    /// execute, the files of `/etc` that are there, and room.
    ///
    /// [`Profile::Minimal`] has none of the machine's files. In the others `/bin` is the machine's, with the shell that
    /// its scripts and system(3) expect, since none of Octant's own utilities is granted.
    #[must_use]
    pub fn of_profile(profile: Profile, name: &str, role: &str, operator: &str, host: &Host<'_>) -> Self {
        let mut outline = Self::minimal(name, role, operator);
        outline.profile = profile;
        if profile == Profile::Minimal {
            outline.executable = "/bin/ls".to_owned();
            outline.args = owned(&["-l", "/"]);
            outline.utilities = owned(&["cat", "ls"]);
            return outline;
        }
        let present = |paths: &[&str]| -> Vec<String> {
            paths.iter().filter(|path| (host.present)(path)).map(|path| (*path).to_owned()).collect()
        };
        outline.read = present(&ETC);
        let (executable, args): (&str, &[&str]) = match profile {
            Profile::Minimal | Profile::Shell => ("/usr/bin/bash", &[]),
            Profile::Python => ("/usr/bin/python3", &[]),
            Profile::Node => ("/usr/bin/node", &[]),
            Profile::Compiler => ("/usr/bin/make", &[]),
        };
        if profile == Profile::Python || profile == Profile::Compiler {
            outline.read.extend(present(&ETC_PYTHON));
        }
        (outline.executable, outline.args) = (executable.to_owned(), owned(args));
        outline.utilities = Vec::new();
        outline.execute = owned(&["/usr"]);
        if profile.writable_executable() {
            // Programs are built, installed and run there.
            outline.execute.extend(owned(&["/tmp", "/workspace"]));
        }
        outline.resources = room(profile, host.machine);
        outline.ttl = Some(Millis(8 * 3_600_000));
        outline
    }

    /// The same at work in a directory of the machine's: it is written, and is where the program starts.
    #[must_use]
    pub fn in_directory(mut self, dir: &str) -> Self {
        self.write.push(dir.to_owned());
        if self.profile.writable_executable() {
            self.execute.push(dir.to_owned());
        }
        self.cwd = dir.to_owned();
        self
    }

    /// The manifest's text. The values go in as they are; [`crate::Draft::parse`] says when one of them cannot
    /// stand there.
    #[must_use]
    pub fn text(&self) -> String {
        // One pass, so that a value that looks like a slot stays a value. Odd parts are slots.
        let parts = include_str!("template.toml").split('@').enumerate();
        parts.map(|(i, part)| if i % 2 == 0 { part.to_owned() } else { self.value(part) }).collect()
    }

    fn value(&self, slot: &str) -> String {
        let limits = &self.resources;
        match slot {
            "NAME" => quote(&self.name),
            "ROLE" => quote(&self.role),
            "OPERATOR" => quote(&self.operator),
            "NOT_AFTER" => date::text(self.not_after_ms),
            "MAX_SPAWNS" => self.max_spawns.to_string(),
            "EXECUTABLE" => quote(&self.executable),
            "ARGS" => list(&self.args),
            "CWD" => quote(&self.cwd),
            "READ" => list(&self.read),
            "WRITE" => list(&self.write),
            "PROFILE" => quote(self.profile.name()),
            "SYSCALLS" => list(&self.syscalls),
            "UTILITIES" => list(&self.utilities),
            "EXECUTE" => list(&self.execute),
            "MEMORY_MAX" => quote(&limits.memory_max.to_string()),
            "MEMORY_HIGH" => quote(&limits.memory_high.to_string()),
            "PIDS_MAX" => limits.pids_max.to_string(),
            "CPU_QUOTA_PERCENT" => limits.cpu_quota_percent.to_string(),
            "CPU_WEIGHT" => limits.cpu_weight.to_string(),
            "WORKSPACE_BYTES" => quote(&limits.workspace_bytes.to_string()),
            "WORKSPACE_INODES" => limits.workspace_inodes.to_string(),
            "TMP_BYTES" => quote(&limits.tmp_bytes.to_string()),
            "NOFILE" => limits.nofile.to_string(),
            "FSIZE" => quote(&limits.fsize.to_string()),
            "IO" => bounds(&limits.io),
            "TTL" => quote(&self.ttl.map_or("unlimited".to_owned(), duration)),
            // A slot that nobody fills makes the text unreadable, which every test of it shows.
            other => format!("@{other}@"),
        }
    }
}

/// The smallest useful manifest: [`Outline::minimal`] as text.
#[must_use]
pub fn template(name: &str, role: &str, operator: &str) -> String {
    Outline::minimal(name, role, operator).text()
}

/// Room for everyday work of a kind, and not more than the machine has.
fn room(profile: Profile, machine: Machine) -> Resources {
    let (memory, pids) = match profile {
        Profile::Minimal | Profile::Shell => (GIB, 256),
        Profile::Python => (2 * GIB, 512),
        Profile::Node => (4 * GIB, 512),
        Profile::Compiler => (8 * GIB, 2048),
    };
    let memory = memory.min(machine.memory_bytes) / MIB * MIB;
    let disk = (memory / 2 / MIB * MIB).max(64 * MIB);
    Resources {
        memory_max: ByteSize(memory),
        memory_high: ByteSize(memory / 8 * 7 / MIB * MIB),
        pids_max: pids,
        cpu_quota_percent: u64::from(machine.cpus).clamp(1, 4) * 100,
        cpu_weight: 100,
        workspace_bytes: ByteSize(disk),
        workspace_inodes: 1 << 18,
        tmp_bytes: ByteSize(disk / 2 / MIB * MIB),
        nofile: 4096,
        fsize: ByteSize(4 * GIB),
        io: Io::UNLIMITED,
    }
}

fn owned(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

/// The bounds on disks that there are, a line each.
fn bounds(io: &Io) -> String {
    let there = io.rows().into_iter().filter(|row| row.1 != UNLIMITED);
    there.fold(String::new(), |lines, (field, text)| {
        let value = if text.parse::<u64>().is_ok() { text } else { quote(&text) };
        format!("{lines}\n{} = {value}", field.trim_start_matches("resources."))
    })
}

/// A time in the largest unit that a manifest has for it.
fn duration(time: Millis) -> String {
    match time.0 {
        ms if ms % 3_600_000 == 0 => format!("{}h", ms / 3_600_000),
        ms if ms % 60_000 == 0 => format!("{}min", ms / 60_000),
        ms if ms % 1000 == 0 => format!("{}s", ms / 1000),
        ms => format!("{ms}ms"),
    }
}

/// The longest list that is written on one line.
const LINE: usize = 90;

fn list(values: &[String]) -> String {
    let quoted: Vec<String> = values.iter().map(|value| quote(value)).collect();
    let line = format!("[{}]", quoted.join(", "));
    if line.len() <= LINE { line } else { format!("[\n    {},\n]", quoted.join(",\n    ")) }
}

/// A text in TOML's quotes. A text with a line break stays on its line.
fn quote(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => {
                // A String takes everything.
                let _ = write!(out, "\\u{:04X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
