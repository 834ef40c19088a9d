//! The manifest's schema, and its reading.

use crate::denied::denied;
use crate::envelope::Signer;
use crate::error::{ManifestError, Problem};
use crate::grants::{Grants, NameSet, OnParentDeath, OnTimeout, Profile, Resources};
use crate::reader::{Document, Field, Result, Section};
use crate::{GrantPath, PathSet, limits};
use octant_ids::{ByteSize, Millis, Sha256};
use serde::Serialize;
use sha2::Digest;
use std::ops::RangeInclusive;

const SECTIONS: [&str; 15] = [
    "manifest",
    "identity",
    "audience",
    "program",
    "filesystem",
    "network",
    "syscalls",
    "executables",
    "resources",
    "credentials",
    "models",
    "skills",
    "spawning",
    "lifetime",
    "approvals",
];
const NAME: &str = "1 to 63 characters of a-z, 0-9 and -";
const UTILITY: &str = "the name of a utility, without a directory";
const SYSCALL: &str = "the name of a system call, as in syscalls(2)";
const OPERATOR: &str = "an operator's name: 1 to 63 characters of a-z, 0-9 and . _ - @";

/// Places in the workstation that are Octant's, or that it never shows.
/// Each with whether something below it can be granted all the same, and why not.
const RESERVED: [(&str, bool, &str); 11] = [
    ("/proc", false, "which shows only the agent's own processes"),
    ("/sys", false, "which is the kernel's control surface"),
    ("/dev", false, "which holds a fixed few devices"),
    ("/octant", false, "which is the system itself"),
    ("/bin", false, "where the granted utilities are"),
    ("/tmp", true, "which every agent has of its own"),
    ("/workspace", true, "which every agent has of its own"),
    ("/etc/octant", false, "which decides who is trusted"),
    ("/run/octant", false, "where the services' sockets are"),
    ("/var/lib/octant", false, "where the services' state is"),
    ("/var/log/octant", false, "where the services' output is"),
];

/// Who the agent is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Identity {
    /// What the operator calls it; need not be unique.
    pub name: String,
    /// The role whose ceiling bounds it.
    pub role: String,
    /// The operator who answers for it.
    pub operator: String,
}

/// What it runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Program {
    /// The executable, as a path in the workstation.
    pub executable: GrantPath,
    /// The arguments after the executable's own name.
    pub args: Vec<String>,
    /// The directory it starts in.
    pub cwd: GrantPath,
}

/// Where, when and how often a manifest may be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Validity {
    /// The machines, by their identifiers; `*` is every one.
    pub machines: Vec<String>,
    /// From when, in milliseconds since 1970.
    pub not_before_ms: Option<u64>,
    /// Until when, in milliseconds since 1970; at that moment it is no longer valid.
    pub not_after_ms: u64,
    /// How many agents may be spawned from it on one machine, ever.
    pub max_spawns: u64,
}

/// What a manifest says: a wish, whoever signed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Manifest {
    pub(crate) identity: Identity,
    pub(crate) program: Program,
    pub(crate) validity: Validity,
    pub(crate) grants: Grants,
}

impl Manifest {
    /// Who the agent is.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// What it runs.
    #[must_use]
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// Where, when and how often it may be used.
    #[must_use]
    pub fn validity(&self) -> &Validity {
        &self.validity
    }

    /// The rights that it asks for.
    #[must_use]
    pub fn asked(&self) -> &Grants {
        &self.grants
    }
}

/// A manifest that was read and checked and that nobody has signed: for `manifest check` before signing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft(Manifest);

impl Draft {
    /// Reads a manifest.
    ///
    /// # Errors
    /// The first thing wrong with it, with its field and line.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        read(bytes).map(Self)
    }

    /// What it says.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.0
    }
}

/// A manifest that a trusted operator signed. Only [`crate::Authentic::declare`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declared {
    manifest: Manifest,
    signer: Signer,
    digest: Sha256,
}

impl Declared {
    pub(crate) fn read(payload: &[u8], signers: &[Signer]) -> Result<Self> {
        let manifest = read(payload)?;
        let named = &manifest.identity.operator;
        let Some(signer) = signers.iter().find(|s| s.operator == *named) else {
            let signed: Vec<&str> = signers.iter().map(|s| s.operator.as_str()).collect();
            let problem = Problem::Operator { named: named.clone(), signed: signed.join(", ") };
            return Err(ManifestError { field: "identity.operator".into(), line: None, problem });
        };
        Ok(Self { signer: signer.clone(), digest: digest(payload), manifest })
    }

    /// What it says.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The operator who signed it and whom it names.
    #[must_use]
    pub fn signer(&self) -> &Signer {
        &self.signer
    }

    /// The SHA-256 of the manifest's bytes.
    #[must_use]
    pub fn digest(&self) -> Sha256 {
        self.digest
    }
}

pub(crate) fn digest(payload: &[u8]) -> Sha256 {
    Sha256(sha2::Sha256::digest(payload).into())
}

fn read(bytes: &[u8]) -> Result<Manifest> {
    let document = Document::parse(bytes)?;
    let version = document.top(&SECTIONS)?.need("manifest", "1")?;
    if version.number()? != 1 {
        return Err(version.refuse(Problem::Version(version.number()?)));
    }
    refuse_unenforceable(&document)?;
    let identity = identity(&document)?;
    let validity = validity(&document)?;
    let grants = grants(&document)?;
    let program = program(&document, &grants)?;
    Ok(Manifest { identity, program, validity, grants })
}

/// The audience alone: what [`crate::Envelope::verify`] needs before the rest is read.
pub(crate) fn read_validity(bytes: &[u8]) -> Result<Validity> {
    validity(&Document::parse(bytes)?)
}

fn identity(document: &Document<'_>) -> Result<Identity> {
    let section = document.section("identity", &["name", "role", "operator"])?;
    Ok(Identity {
        name: section.need("name", "\"my-agent\"")?.name("-", NAME)?,
        role: section.need("role", "\"analyst\"")?.name("-", NAME)?,
        operator: section.need("operator", "\"your-name\"")?.name("._-@", OPERATOR)?,
    })
}

fn validity(document: &Document<'_>) -> Result<Validity> {
    let section = document.section("audience", &["machines", "not_before", "not_after", "max_spawns"])?;
    section.need("machines", "[\"*\"]")?;
    let machines = section.list("machines")?;
    let machines: Vec<String> =
        machines.iter().map(|f| f.name("*-", "a machine's identifier, or \"*\"")).collect::<Result<_>>()?;
    let not_before_ms = section.get("not_before").map(|f| f.date()).transpose()?;
    let end = section.need("not_after", "2030-01-31T00:00:00Z")?;
    let not_after_ms = end.date()?;
    if not_before_ms.is_some_and(|start| start >= not_after_ms) {
        return Err(end.refuse(Problem::NeverValid));
    }
    let spawns = section.need("max_spawns", "1")?;
    let max_spawns = ranged(spawns, 1..=u64::MAX, "no agent could be spawned from it")?;
    Ok(Validity { machines, not_before_ms, not_after_ms, max_spawns })
}

fn program(document: &Document<'_>, grants: &Grants) -> Result<Program> {
    let section = document.section("program", &["executable", "args", "cwd"])?;
    let field = section.need("executable", "\"/bin/sh\"")?;
    let executable = field.path()?;
    if !startable(&executable, grants) {
        return Err(field.refuse(Problem::ProgramNotGranted(executable.to_string())));
    }
    let mut args = Vec::new();
    let mut total = 0;
    for field in section.list("args")? {
        let text = field.text()?;
        total += text.len() + 1;
        if text.contains('\0') {
            return Err(field.refuse(Problem::Nul));
        }
        if total > limits::ARGS_BYTES {
            return Err(field.refuse(Problem::TextTooLong(total, limits::ARGS_BYTES)));
        }
        args.push(text.to_owned());
    }
    let field = section.need("cwd", "\"/workspace\"")?;
    let cwd = field.path()?;
    let own = ["/workspace", "/tmp"].iter().any(|p| cwd.as_str() == *p);
    if !own && !grants.read.covers(&cwd) {
        return Err(field.refuse(Problem::CwdNotGranted(cwd.to_string())));
    }
    Ok(Program { executable, args, cwd })
}

/// Whether the grants let this be executed: `/bin/NAME` of a granted utility, or a file in an executable tree.
pub(crate) fn startable(executable: &GrantPath, grants: &Grants) -> bool {
    let utility =
        executable.as_str().strip_prefix("/bin/").is_some_and(|name| grants.utilities.contains(name));
    utility || grants.execute.covers(executable)
}

fn grants(document: &Document<'_>) -> Result<Grants> {
    let files = document.section("filesystem", &["read", "write"])?;
    let programs = document.section("executables", &["utilities", "paths"])?;
    let calls = document.section("syscalls", &["profile", "add"])?;
    let profile = match calls.get("profile") {
        None => Profile::Minimal,
        Some(field) => {
            let name = field.text()?;
            Profile::of_name(name)
                .ok_or_else(|| field.refuse(Problem::Profile(name.chars().take(40).collect())))?
        }
    };
    let (read, write) = (paths(&files, "read")?, paths(&files, "write")?);
    let execute = paths(&programs, "paths")?;
    if !profile.writable_executable() {
        let both = write.meet(&execute);
        if let Some(path) = both.iter().next() {
            let field = programs.need("paths", "[]")?;
            return Err(field.refuse(Problem::WritableExecutable(path.to_string())));
        }
    }
    let (ttl, on_timeout, on_parent_death) = lifetime(document)?;
    Ok(Grants {
        read: read.join(&write).join(&execute),
        write,
        execute,
        utilities: names(&programs, "utilities", "-_.+[", UTILITY)?,
        profile,
        syscalls: syscalls(&calls)?,
        resources: resources(document)?,
        ttl,
        on_timeout,
        on_parent_death,
    })
}

fn paths<'a>(section: &Section<'a>, key: &'a str) -> Result<PathSet> {
    let paths = section.paths(key)?;
    for (path, field) in &paths {
        let meets = |reserved: &str, below: bool| {
            GrantPath::parse(reserved)
                .is_ok_and(|reserved| path.covers(&reserved) || (!below && reserved.covers(path)))
        };
        if let Some((reserved, _, why)) = RESERVED.into_iter().find(|row| meets(row.0, row.1)) {
            return Err(field.refuse(Problem::ReservedPath { path: path.to_string(), reserved, why }));
        }
    }
    Ok(paths.into_iter().map(|(path, _)| path).collect())
}

fn names<'a>(section: &Section<'a>, key: &'a str, more: &str, want: &'static str) -> Result<NameSet> {
    section.list(key)?.iter().map(|f| f.name(more, want)).collect::<Result<_>>().map(NameSet::Only)
}

fn syscalls(section: &Section<'_>) -> Result<NameSet> {
    for field in section.list("add")? {
        if let Some(row) = denied(field.text()?) {
            return Err(field.refuse(Problem::DeniedSyscall { name: row.name, why: row.why }));
        }
    }
    names(section, "add", "_", SYSCALL)
}

/// A number within a range. `why` says what is wrong with one outside of it.
fn ranged(field: Field<'_>, range: RangeInclusive<u64>, why: &'static str) -> Result<u64> {
    let number = field.number()?;
    within(field, number, number.to_string(), range, why)
}

fn within(
    field: Field<'_>,
    number: u64,
    asked: String,
    range: RangeInclusive<u64>,
    why: &'static str,
) -> Result<u64> {
    if range.contains(&number) {
        return Ok(number);
    }
    let next = if number < *range.start() {
        format!("write at least {}", range.start())
    } else {
        format!("write at most {}", range.end())
    };
    Err(field.refuse(Problem::Impossible { asked, why, next }))
}

fn resources(document: &Document<'_>) -> Result<Resources> {
    let section = document.section("resources", &RESOURCES)?;
    let bytes = |field: Field<'_>, range: RangeInclusive<u64>, why| {
        let size = field.bytes()?;
        within(field, size.0, size.to_string(), range, why).map(ByteSize)
    };
    let size = |key, default: ByteSize, least, why| {
        section.get(key).map_or(Ok(default), |f| bytes(f, least..=MOST_BYTES, why))
    };
    let count = |key, default, range, why| section.get(key).map_or(Ok(default), |f| ranged(f, range, why));
    let memory_max = bytes(
        section.need("memory_max", "\"64MiB\"")?,
        limits::MEMORY_MIN_BYTES..=MOST_BYTES,
        "no program can be started in it",
    )?;
    let memory_high = match section.get("memory_high") {
        None => memory_max,
        Some(field) => {
            let why = "the level from which memory is reclaimed lies between 1MiB and memory_max";
            bytes(field, 1 << 20..=memory_max.0, why)?
        }
    };
    let workspace_bytes = size("workspace_bytes", ByteSize(16 << 20), PAGE, "not one page fits in it")?;
    let pids_max = section.need("pids_max", "16")?;
    let cpu_quota_percent = section.need("cpu_quota_percent", "100")?;
    Ok(Resources {
        memory_max,
        memory_high,
        pids_max: ranged(
            pids_max,
            1..=(1 << 20) - 1,
            "a program needs one, and the kernel has 1048576 for everybody",
        )?,
        cpu_quota_percent: ranged(cpu_quota_percent, 1..=100_000, "the program would never run")?,
        cpu_weight: count("cpu_weight", 100, 1..=10_000, "the kernel's weights are 1 to 10000")?,
        workspace_bytes,
        workspace_inodes: count("workspace_inodes", 4096, 2..=1 << 32, "the directory itself is one")?,
        tmp_bytes: size("tmp_bytes", ByteSize(4 << 20), PAGE, "not one page fits in it")?,
        nofile: count("nofile", 256, 16..=1 << 20, "programs start with some, and the kernel has 1048576")?,
        fsize: size("fsize", workspace_bytes, 1, "nothing could be written")?,
    })
}

/// The largest size that the kernel's interfaces take without a change of sign.
const MOST_BYTES: u64 = i64::MAX.cast_unsigned();
/// One page, below which a file system in memory cannot be made.
const PAGE: u64 = 4096;

pub(crate) const RESOURCES: [&str; 10] = [
    "memory_max",
    "memory_high",
    "pids_max",
    "cpu_quota_percent",
    "cpu_weight",
    "workspace_bytes",
    "workspace_inodes",
    "tmp_bytes",
    "nofile",
    "fsize",
];

fn lifetime(document: &Document<'_>) -> Result<(Option<Millis>, OnTimeout, OnParentDeath)> {
    let section = document.section("lifetime", &["ttl", "on_timeout", "on_parent_death"])?;
    let field = section.need("ttl", "\"5min\"")?;
    // Whether an unlimited life is granted is for the ceiling, which knows the approvals.
    let ttl = if field.text().is_ok_and(|t| t == "unlimited") { None } else { Some(field.millis()?) };
    if let Some(ttl) = ttl.filter(|t| t.0 == 0 || t.0 > limits::TTL_MS) {
        let why = "a life lasts longer than nothing and at most ten years";
        let next = "write a time such as \"5min\"".to_owned();
        return Err(field.refuse(Problem::Impossible { asked: format!("{}ms", ttl.0), why, next }));
    }
    let on_timeout = match section.get("on_timeout") {
        None => OnTimeout::End,
        Some(field) => {
            let name = field.text()?;
            let found = OnTimeout::ALL.into_iter().find(|p| p.name() == name);
            found.ok_or_else(|| field.refuse(Problem::OnTimeout(name.chars().take(40).collect())))?
        }
    };
    let on_parent_death = match section.get("on_parent_death") {
        None => OnParentDeath::Terminate,
        Some(field) => {
            let name = field.text()?;
            let found = OnParentDeath::ALL.into_iter().find(|p| p.name() == name);
            found.ok_or_else(|| field.refuse(Problem::OnParentDeath(name.chars().take(40).collect())))?
        }
    };
    Ok((ttl, on_timeout, on_parent_death))
}

/// A list field of a domain that does not exist yet: section, field, what, why.
const UNENFORCEABLE_LISTS: [(&str, &str, &str, &str, &str); 6] = [
    ("network", "hosts", "network.hosts", "network hosts", "the egress gate does not exist yet"),
    ("credentials", "grants", "credentials.grants", "credentials", "the vault does not exist yet"),
    ("models", "allowed", "models.allowed", "models", "the router does not exist yet"),
    ("skills", "allowed", "skills.allowed", "skills", "there is no skill runtime yet"),
    ("skills", "tools", "skills.tools", "tools", "there is no tool registry yet"),
    (
        "approvals",
        "required",
        "approvals.required",
        "approvals",
        "only a life without end is asked about yet (lifetime.ttl = \"unlimited\")",
    ),
];

/// Refuses by name what this build has nothing to enforce with. Absent and empty fields pass.
fn refuse_unenforceable(document: &Document<'_>) -> Result<()> {
    let models = document.section("models", &["allowed", "tokens", "spend_usd"])?;
    let spawning = document.section("spawning", &["allowed", "depth", "descendants"])?;
    for (section, key, field, what, why) in UNENFORCEABLE_LISTS {
        let section = match section {
            "models" => document.section(section, &["allowed", "tokens", "spend_usd"])?,
            "skills" => document.section(section, &["allowed", "tools"])?,
            _ => document.section(section, &[key])?,
        };
        if let Some(first) = section.list(key)?.first() {
            return Err(first.refuse(Problem::Unenforceable { what, why, field }));
        }
    }
    let refuse =
        |field: Field<'_>, what, why, name| field.refuse(Problem::Unenforceable { what, why, field: name });
    for (key, name) in [("tokens", "models.tokens"), ("spend_usd", "models.spend_usd")] {
        if let Some(field) = models.get(key)
            && field.number()? > 0
        {
            return Err(refuse(field, "a model budget", "the router does not exist yet", name));
        }
    }
    const ALONE: &str = "agents cannot spawn agents yet";
    if let Some(field) = spawning.get("allowed")
        && field.flag()?
    {
        return Err(refuse(field, "spawning", ALONE, "spawning.allowed"));
    }
    for (key, name) in [("depth", "spawning.depth"), ("descendants", "spawning.descendants")] {
        if let Some(field) = spawning.get(key)
            && field.number()? > 0
        {
            return Err(refuse(field, "spawning", ALONE, name));
        }
    }
    Ok(())
}
