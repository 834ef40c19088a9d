//! The manifest's schema, and its reading.

use crate::action::Approvals;
use crate::denied::denied;
use crate::domains::{self, Budget, Services, Unenforceable};
use crate::effective::unstartable;
use crate::envelope::Signer;
use crate::error::{ManifestError, ManifestErrors, Problem};
use crate::grants::{Grants, Kept, NameSet, OnParentDeath, OnTimeout, Profile, Resources, Retention};
use crate::reader::{Document, Field, Gather, Result, Section, Whole};
use crate::{GrantPath, Io, PathSet, Pins, date, limits};
use octant_ids::{ByteSize, Millis, Sha256};
use serde::Serialize;
use sha2::Digest;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;

/// The version of the schema that is read and written. A field that changes its meaning, or a new one that an older
/// build must not pass over, makes it the next.
pub const VERSION: u64 = 1;
const SECTIONS: [&str; 16] = [
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
    "rooms",
    "lifetime",
    "approvals",
];
const NAME: &str = "1 to 63 characters of a-z, 0-9 and -";
const UTILITY: &str = "the name of a utility, without a directory";
const SYSCALL: &str = "the name of a system call, as in syscalls(2)";
const ROOM: &str = "a room's name: 1 to 63 characters of a-z, 0-9 and . _ -";
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

/// The places that every agent has of its own.
pub(crate) const OWN: [&str; 2] = ["/workspace", "/tmp"];

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
    /// Whether it has the variables that its image's maker wrote down.
    pub image_environment: bool,
    /// Whether it starts in the directory that its image's maker wrote down, where there is one.
    pub image_cwd: bool,
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
    pub(crate) budget: Budget,
    /// How many descendants it asks for.
    pub(crate) descendants: u64,
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

    /// How many descendants it asks for.
    #[must_use]
    pub fn descendants(&self) -> u64 {
        self.descendants
    }

    /// What it asks for and uses up.
    #[must_use]
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Everything in it that is not a right: who, where, when, what is run. Each with its field.
    #[must_use]
    pub fn facts(&self) -> Vec<(&'static str, String)> {
        let Identity { name, role, operator } = &self.identity;
        let Program { executable, args, cwd, image_environment, image_cwd } = &self.program;
        let Validity { machines, not_before_ms, not_after_ms, max_spawns } = &self.validity;
        vec![
            ("identity.name", name.clone()),
            ("identity.role", role.clone()),
            ("identity.operator", operator.clone()),
            ("audience.machines", format!("{machines:?}")),
            ("audience.not_before", not_before_ms.map_or("at once".to_owned(), date::text)),
            ("audience.not_after", date::text(*not_after_ms)),
            ("audience.max_spawns", max_spawns.to_string()),
            ("program.executable", executable.to_string()),
            ("program.args", format!("{args:?}")),
            ("program.cwd", cwd.to_string()),
            ("program.image_environment", image_environment.to_string()),
            ("program.image_cwd", image_cwd.to_string()),
        ]
    }

    /// Everything in it, each with its field.
    #[must_use]
    pub fn rows(&self) -> Vec<(&'static str, String)> {
        let budget = self.budget.rows().into_iter().map(|(field, _, text)| (field, text));
        let descendants = ("spawning.descendants", self.descendants.to_string());
        self.facts().into_iter().chain(self.grants.rows()).chain(budget).chain([descendants]).collect()
    }

    /// Whether its program could be started with these rights.
    #[must_use]
    pub fn startable_with(&self, grants: &Grants) -> bool {
        unstartable(&self.program, grants).is_empty()
    }

    /// What it asks for and this build has nothing to enforce with: it is valid, and no agent is spawned from it.
    #[must_use]
    pub fn unenforceable(&self) -> Vec<Unenforceable> {
        domains::unenforceable(&self.grants)
    }
}

/// A manifest that was read and checked and that nobody has signed: for `manifest check` before signing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft(Manifest);

impl Draft {
    /// Reads a manifest.
    ///
    /// # Errors
    /// Everything that is wrong with it, each with its field and line.
    pub fn parse(bytes: &[u8]) -> std::result::Result<Self, ManifestErrors> {
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
    pub(crate) fn read(payload: &[u8], signers: &[Signer]) -> Whole<Self> {
        let manifest = read(payload)?;
        let named = &manifest.identity.operator;
        let Some(signer) = signers.iter().find(|s| s.operator == *named) else {
            let signed: Vec<&str> = signers.iter().map(|s| s.operator.as_str()).collect();
            let problem = Problem::Operator { named: named.clone(), signed: signed.join(", ") };
            let line = lines(payload).get("identity.operator").copied();
            return Err(ManifestError { field: "identity.operator".into(), line, problem }.into());
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

/// The digest by which a manifest's bytes are named: in the ledger, and in what an agent's children come from.
#[must_use]
pub fn digest(payload: &[u8]) -> Sha256 {
    Sha256(sha2::Sha256::digest(payload).into())
}

pub(crate) fn read(bytes: &[u8]) -> Whole<Manifest> {
    let document = Document::parse(bytes)?;
    let top = document.top(&SECTIONS);
    let version = top.need("manifest", "1")?;
    // Another version has other fields: nothing more can be said of it.
    if version.number()? != VERSION {
        return Err(version.refuse(Problem::Version(version.number()?)).into());
    }
    let mut all = Gather::default();
    all.take(top.no_strays());
    let identity = all.take(identity(&document));
    let validity = all.take(validity(&document));
    let spawning = all.take(spawning(&document));
    let grants = all.take(grants(&document));
    let budget = all.take(domains::budget(&document));
    let program = all.take(program(&document, grants.as_ref()));
    let whole = || {
        let (identity, program, validity, budget) = (identity?, program?, validity?, budget?);
        let (generations, descendants) = spawning?;
        let grants = Grants { generations, ..grants? };
        Some(Manifest { identity, program, validity, grants, budget, descendants })
    };
    all.done(whole())
}

/// The audience alone: what [`crate::Envelope::verify`] needs before the rest is read.
pub(crate) fn read_validity(bytes: &[u8]) -> Whole<Validity> {
    validity(&Document::parse(bytes)?)
}

/// The line of every field and section, by its name, such as `resources.pids_max`: for explaining what a manifest
/// says. Empty when it cannot be read.
#[must_use]
pub fn lines(manifest: &[u8]) -> BTreeMap<String, usize> {
    Document::parse(manifest).map(|document| document.places()).unwrap_or_default()
}

fn identity(document: &Document<'_>) -> Whole<Identity> {
    let section = document.section("identity", &["name", "role", "operator"])?;
    let mut all = Gather::default();
    all.take(section.no_strays());
    let name = all.take(section.need("name", "\"my-agent\"").and_then(|f| f.name("-", NAME)));
    let role = all.take(section.need("role", "\"analyst\"").and_then(|f| f.name("-", NAME)));
    let operator = section.need("operator", "\"your-name\"").and_then(|f| f.name("._-@", OPERATOR));
    let operator = all.take(operator);
    let whole = || Some(Identity { name: name?, role: role?, operator: operator? });
    all.done(whole())
}

fn validity(document: &Document<'_>) -> Whole<Validity> {
    let section = document.section("audience", &["machines", "not_before", "not_after", "max_spawns"])?;
    let mut all = Gather::default();
    all.take(section.no_strays());
    all.take(section.need("machines", "[\"*\"]").map(drop));
    let machines = all.take(section.each("machines", |f| f.name("*-", "a machine's identifier, or \"*\"")));
    let not_before_ms = all.take(section.get("not_before").map(|f| f.date()).transpose());
    let end = section.need("not_after", "2030-01-31T00:00:00Z").and_then(|f| {
        let end = f.date()?;
        let never = not_before_ms.flatten().is_some_and(|start| start >= end);
        if never { Err(f.refuse(Problem::NeverValid)) } else { Ok(end) }
    });
    let not_after_ms = all.take(end);
    let spawns = section.need("max_spawns", "1");
    let max_spawns =
        all.take(spawns.and_then(|f| ranged(f, 1..=u64::MAX, "no agent could be spawned from it")));
    let whole = || {
        let (machines, max_spawns) = (machines?, max_spawns?);
        Some(Validity { machines, not_before_ms: not_before_ms?, not_after_ms: not_after_ms?, max_spawns })
    };
    all.done(whole())
}

/// What is run. What is granted is `None` when that could not be read: then only the form is checked.
fn program(document: &Document<'_>, grants: Option<&Grants>) -> Whole<Program> {
    let known = ["executable", "args", "cwd", "image_environment", "image_cwd"];
    let section = document.section("program", &known)?;
    let mut all = Gather::default();
    all.take(section.no_strays());
    let executable = section.need("executable", "\"/bin/sh\"").and_then(|field| {
        let path = field.path()?;
        let granted = grants.is_none_or(|grants| startable(&path, grants));
        if granted { Ok(path) } else { Err(field.refuse(Problem::ProgramNotGranted(path.to_string()))) }
    });
    let executable = all.take(executable);
    let args = all.take(args(&section));
    let cwd = section.need("cwd", "\"/workspace\"").and_then(|field| {
        let path = field.path()?;
        let own = OWN.contains(&path.as_str());
        let granted = own || grants.is_none_or(|grants| readable(&path, grants));
        if granted { Ok(path) } else { Err(field.refuse(Problem::CwdNotGranted(path.to_string()))) }
    });
    let cwd = all.take(cwd);
    let imageless = grants.is_some_and(|grants| grants.root == Kept::None);
    let of_image = |name: &str, asked: &str| {
        section.get(name).map_or(Ok(false), |field| match field.flag()? {
            true if imageless => {
                let why = "it is that of an image, and filesystem.root names none";
                let next = "name one there, or take it out".to_owned();
                Err(field.refuse(Problem::Impossible { asked: asked.to_owned(), why, next }))
            }
            flag => Ok(flag),
        })
    };
    let image_environment = all.take(of_image("image_environment", "its environment"));
    let image_cwd = all.take(of_image("image_cwd", "its directory"));
    let whole = || {
        let (executable, args, cwd) = (executable?, args?, cwd?);
        let (image_environment, image_cwd) = (image_environment?, image_cwd?);
        Some(Program { executable, args, cwd, image_environment, image_cwd })
    };
    all.done(whole())
}

fn args(section: &Section<'_>) -> Result<Vec<String>> {
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
    Ok(args)
}

/// Whether the grants let this be executed: `/bin/NAME` of a granted utility, a file in an executable tree, or one of the
/// image.
pub(crate) fn startable(executable: &GrantPath, grants: &Grants) -> bool {
    let utility =
        executable.as_str().strip_prefix("/bin/").is_some_and(|name| grants.utilities.contains(name));
    utility || grants.execute.covers(executable) || grants.root.digest().is_some()
}

/// Whether the grants let this be read.
pub(crate) fn readable(path: &GrantPath, grants: &Grants) -> bool {
    grants.read.covers(path) || grants.root.digest().is_some()
}

fn grants(document: &Document<'_>) -> Whole<Grants> {
    let mut all = Gather::default();
    let files = all.take(document.section("filesystem", &["root", "workspace", "read", "write"]));
    let programs = all.take(document.section("executables", &["utilities", "paths", "sha256"]));
    let calls = all.take(document.section("syscalls", &["profile", "add"]));
    let (Some(files), Some(programs), Some(calls)) = (files, programs, calls) else { return all.done(None) };
    for section in [&files, &programs, &calls] {
        all.take(section.no_strays());
    }
    let profile = all.take(profile(&calls));
    let (read, write) = (all.take(paths(&files, "read")), all.take(paths(&files, "write")));
    let execute = all.take(paths(&programs, "paths"));
    if let (Some(profile), Some(write), Some(execute)) = (profile, &write, &execute) {
        all.take(refuse_writable_executable(&programs, profile, write, execute));
    }
    if let (Some(write), Some(execute)) = (&write, &execute) {
        all.take(refuse_swallowed(&files, "read", write, execute));
        all.take(refuse_swallowed(&programs, "paths", write, execute));
    }
    let pins = match (&write, &execute) {
        (Some(write), Some(execute)) => all.take(pins(&programs, write, execute)),
        _ => None,
    };
    let (root, workspace) = (all.take(kept(&files, "root", "image")), all.take(workspace(&files)));
    let utilities = all.take(names(&programs, "utilities", "-_.+[", UTILITY));
    let syscalls = all.take(syscalls(&calls));
    let resources = all.take(resources(document));
    let lifetime = all.take(lifetime(document));
    let services = all.take(domains::services(document));
    let rooms = all.take(rooms(document));
    let approvals = all.take(approvals(document));
    let whole = || {
        let (read, write, execute) = (read?, write?, execute?);
        let Lifetime { ttl, on_timeout, on_parent_death, retain } = lifetime?;
        let Services { hosts, leases, traffic, credentials, models, skills, tools, serves } = services?;
        Some(Grants {
            root: root?,
            workspace: workspace?,
            read: read.join(&write).join(&execute),
            write,
            pins: Pins::of(pins?, &execute),
            execute,
            utilities: utilities?,
            profile: profile?,
            syscalls: syscalls?,
            resources: resources?,
            ttl,
            on_timeout,
            on_parent_death,
            retain,
            generations: 0,
            rooms: rooms?,
            hosts,
            leases,
            traffic,
            credentials,
            models,
            skills,
            tools,
            serves,
            approvals: approvals?,
        })
    };
    all.done(whole())
}

/// Files with their digests, as sha256sum(1) prints them.
fn pins(programs: &Section<'_>, write: &PathSet, execute: &PathSet) -> Whole<Vec<(GrantPath, Sha256)>> {
    let pins: Vec<(GrantPath, Sha256)> = programs.each("sha256", |field| {
        let (path, digest) = field.pin()?;
        let impossible = |why, next: &str| {
            Err(field.refuse(Problem::Impossible {
                asked: format!("a digest of {path}"),
                why,
                next: next.to_owned(),
            }))
        };
        if !execute.iter().any(|granted| *granted == path) {
            return impossible(
                "it is no entry of executables.paths",
                "name the file itself there, and no tree around it",
            );
        }
        if write.covers(&path) {
            return impossible("it can be written", "take it out of filesystem.write");
        }
        Ok((path, digest))
    })?;
    match programs.get("sha256") {
        Some(field) if pins.len() > limits::PINS => {
            let (asked, why) = (format!("{} digests", pins.len()), "each file is read at each spawn");
            Err(field
                .refuse(Problem::Impossible { asked, why, next: format!("{} at the most", limits::PINS) })
                .into())
        }
        _ => Ok(pins),
    }
}

/// A snapshot by its digest, or "any": the one that a fork names.
fn workspace(files: &Section<'_>) -> Result<Kept> {
    match files.get("workspace") {
        Some(field) if field.text()? == "any" => Ok(Kept::Any),
        _ => kept(files, "workspace", "snapshot"),
    }
}

fn kept(files: &Section<'_>, key: &str, kind: &'static str) -> Result<Kept> {
    files.get(key).map_or(Ok(Kept::None), |field| field.kept(kind).map(Kept::Only))
}

/// How many generations and how many descendants it asks for; none where spawning is not allowed.
fn spawning(document: &Document<'_>) -> Whole<(u64, u64)> {
    let section = document.section("spawning", &["allowed", "depth", "descendants"])?;
    section.no_strays()?;
    if section.get("allowed").map_or(Ok(false), |field| field.flag())? {
        let (depth, descendants) = (section.need("depth", "1")?, section.need("descendants", "4")?);
        let depth = ranged(depth, 1..=limits::GENERATIONS, "an agent that spawns has a generation below it")?;
        let why = "an agent that spawns has descendants";
        return Ok((depth, ranged(descendants, 1..=limits::DESCENDANTS, why)?));
    }
    for field in ["depth", "descendants"].into_iter().filter_map(|key| section.get(key)) {
        let (number, why) = (field.number()?, "spawning.allowed is not true");
        let next = "write allowed = true, or take it out".to_owned();
        if number > 0 {
            return Err(field.refuse(Problem::Impossible { asked: number.to_string(), why, next }).into());
        }
    }
    Ok((0, 0))
}

fn rooms(document: &Document<'_>) -> Whole<NameSet> {
    let section = document.section("rooms", &["join"])?;
    section.no_strays()?;
    let names = names(&section, "join", "-._", ROOM)?;
    match (section.get("join"), names.iter().count()) {
        (Some(field), count) if count > limits::ROOMS => {
            let why = "an agent has a mailbox in each of its rooms";
            let next = format!("name at most {}", limits::ROOMS);
            Err(field.refuse(Problem::Impossible { asked: format!("{count} rooms"), why, next }).into())
        }
        _ => Ok(names),
    }
}

fn profile(calls: &Section<'_>) -> Result<Profile> {
    let Some(field) = calls.get("profile") else { return Ok(Profile::Minimal) };
    let name = field.text()?;
    Profile::of_name(name).ok_or_else(|| field.refuse(Problem::Profile(name.chars().take(40).collect())))
}

fn refuse_writable_executable(
    programs: &Section<'_>,
    profile: Profile,
    write: &PathSet,
    execute: &PathSet,
) -> Result<()> {
    // The agent's own places are written without a grant.
    let own = OWN.iter().filter_map(|p| GrantPath::parse(p).ok()).collect();
    let both = write.join(&own).meet(execute);
    match both.iter().next() {
        Some(path) if !profile.writable_executable() => {
            Err(programs.need("paths", "[]")?.refuse(Problem::WritableExecutable(path.to_string())))
        }
        _ => Ok(()),
    }
}

/// The agent's own place below which `path` lies, of those that are in `trees` themselves.
pub(crate) fn below_own(path: &GrantPath, trees: &PathSet) -> Option<&'static str> {
    let below = |own: &str| GrantPath::parse(own).is_ok_and(|own| own.covers(path) && own != *path);
    OWN.into_iter().find(|own| below(own) && trees.iter().any(|tree| tree.as_str() == *own))
}

/// A tree of the machine's below a place of the agent's own that can be executed: in the set of what is granted the place
/// holds it, and so nothing would be bound there. One that can be written is in a set without that place.
fn refuse_swallowed<'a>(
    section: &Section<'a>,
    key: &'a str,
    write: &PathSet,
    execute: &PathSet,
) -> Whole<()> {
    let paths: Whole<Vec<()>> = section.each(key, |field| {
        let path = field.path()?;
        match below_own(&path, execute).filter(|_| !write.covers(&path)) {
            Some(own) => Err(field.refuse(Problem::Swallowed { path: path.to_string(), own })),
            None => Ok(()),
        }
    });
    paths.map(drop)
}

fn paths<'a>(section: &Section<'a>, key: &'a str) -> Whole<PathSet> {
    section.each(key, |field| {
        let path = field.path()?;
        // Read and written in any case; whether what is made there can be executed is for the manifest to say.
        if key == "paths" && OWN.contains(&path.as_str()) {
            return Ok(path);
        }
        let meets = |reserved: &str, below: bool| {
            GrantPath::parse(reserved)
                .is_ok_and(|reserved| path.covers(&reserved) || (!below && reserved.covers(&path)))
        };
        match RESERVED.into_iter().find(|row| meets(row.0, row.1)) {
            Some((reserved, _, why)) => {
                Err(field.refuse(Problem::ReservedPath { path: path.to_string(), reserved, why }))
            }
            None => Ok(path),
        }
    })
}

fn names<'a>(section: &Section<'a>, key: &'a str, more: &str, want: &'static str) -> Whole<NameSet> {
    section.each(key, |field| field.name(more, want)).map(NameSet::Only)
}

fn syscalls(section: &Section<'_>) -> Whole<NameSet> {
    let read = |field: &Field<'_>| match denied(field.text()?) {
        Some(row) => Err(field.refuse(Problem::DeniedSyscall { name: row.name, why: row.why })),
        None => field.name("_", SYSCALL),
    };
    section.each("add", read).map(NameSet::Only)
}

/// A number within a range. `why` says what is wrong with one outside of it.
pub(crate) fn ranged(field: Field<'_>, range: RangeInclusive<u64>, why: &'static str) -> Result<u64> {
    let number = field.number()?;
    within(field, number, number.to_string(), range, why)
}

pub(crate) fn within(
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

fn resources(document: &Document<'_>) -> Whole<Resources> {
    let section = document.section("resources", &RESOURCES)?;
    let mut all = Gather::default();
    all.take(section.no_strays());
    let bytes = |field: Field<'_>, range: RangeInclusive<u64>, why| {
        let size = field.bytes()?;
        within(field, size.0, size.to_string(), range, why).map(ByteSize)
    };
    let size = |key, default: ByteSize, least, why| {
        section.get(key).map_or(Ok(default), |f| bytes(f, least..=MOST_BYTES, why))
    };
    let count = |key, default, range, why| section.get(key).map_or(Ok(default), |f| ranged(f, range, why));
    let memory = section.need("memory_max", "\"64MiB\"");
    let none = "no program can be started in it";
    let memory_max = all.take(memory.and_then(|f| bytes(f, limits::MEMORY_MIN_BYTES..=MOST_BYTES, none)));
    let top = memory_max.unwrap_or(ByteSize(MOST_BYTES));
    let between = "the level from which memory is reclaimed lies between 1MiB and memory_max";
    let memory_high =
        section.get("memory_high").map_or(Ok(top), |field| bytes(field, 1 << 20..=top.0, between));
    let memory_high = all.take(memory_high);
    let most_pids = "a program needs one, and the kernel has 1048576 for everybody";
    let pids = section.need("pids_max", "16").and_then(|f| ranged(f, 1..=(1 << 20) - 1, most_pids));
    let pids_max = all.take(pids);
    let quota = section.need("cpu_quota_percent", "100");
    let quota = quota.and_then(|f| ranged(f, 1..=100_000, "the program would never run"));
    let cpu_quota_percent = all.take(quota);
    let weights = "the kernel's weights are 1 to 10000";
    let cpu_weight = all.take(count("cpu_weight", 100, 1..=10_000, weights));
    let no_page = "not one page fits in it";
    let workspace_bytes = all.take(size("workspace_bytes", ByteSize(16 << 20), PAGE, no_page));
    let itself = "the directory itself is one";
    let workspace_inodes = all.take(count("workspace_inodes", 4096, 2..=1 << 32, itself));
    let tmp_bytes = all.take(size("tmp_bytes", ByteSize(4 << 20), PAGE, no_page));
    let most_files = "programs start with some, and the kernel has 1048576";
    let nofile = all.take(count("nofile", 256, 16..=1 << 20, most_files));
    let workspace = workspace_bytes.unwrap_or_default();
    let fsize = all.take(size("fsize", workspace, 1, "nothing could be written"));
    let io = all.take(io(&section));
    let whole = || {
        Some(Resources {
            memory_max: memory_max?,
            memory_high: memory_high?,
            pids_max: pids_max?,
            cpu_quota_percent: cpu_quota_percent?,
            cpu_weight: cpu_weight?,
            workspace_bytes: workspace_bytes?,
            workspace_inodes: workspace_inodes?,
            tmp_bytes: tmp_bytes?,
            nofile: nofile?,
            fsize: fsize?,
            io: io?,
        })
    };
    all.done(whole())
}

/// What is read from and written to disks in a second.
fn io(section: &Section<'_>) -> Whole<Io> {
    let slow = "the program would stand still for it";
    let bytes = |key| {
        let read = |field: Field<'_>| {
            let size = field.bytes()?;
            within(field, size.0, size.to_string(), limits::IO_BYTES_MIN..=MOST_BYTES, slow)
        };
        section.get(key).map(read).transpose()
    };
    let ops = |key| {
        section.get(key).map(|field| ranged(field, limits::IO_OPS_MIN..=limits::IO_OPS_MAX, slow)).transpose()
    };
    let mut all = Gather::default();
    let (read_bytes, write_bytes) =
        (all.take(bytes("io_read_bytes_per_second")), all.take(bytes("io_write_bytes_per_second")));
    let (read_ops, write_ops) =
        (all.take(ops("io_read_ops_per_second")), all.take(ops("io_write_ops_per_second")));
    let whole = || {
        let (read_bytes, write_bytes) = (read_bytes?, write_bytes?);
        Some(Io { read_bytes, write_bytes, read_ops: read_ops?, write_ops: write_ops? })
    };
    all.done(whole())
}

/// The largest size that the kernel's interfaces take without a change of sign.
const MOST_BYTES: u64 = i64::MAX.cast_unsigned();
/// One page, below which a file system in memory cannot be made.
const PAGE: u64 = 4096;

pub(crate) const RESOURCES: [&str; 14] = [
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
    "io_read_bytes_per_second",
    "io_write_bytes_per_second",
    "io_read_ops_per_second",
    "io_write_ops_per_second",
];

struct Lifetime {
    ttl: Option<Millis>,
    on_timeout: OnTimeout,
    on_parent_death: OnParentDeath,
    retain: Retention,
}

fn lifetime(document: &Document<'_>) -> Whole<Lifetime> {
    let fields = ["ttl", "on_timeout", "on_parent_death", "retain", "retain_bytes", "retain_files"];
    let section = document.section("lifetime", &fields)?;
    section.no_strays()?;
    let field = section.need("ttl", "\"5min\"")?;
    // Whether an unlimited life is granted is for the ceiling, which knows the approvals.
    let ttl = if field.text().is_ok_and(|t| t == "unlimited") { None } else { Some(field.millis()?) };
    if let Some(ttl) = ttl.filter(|t| t.0 == 0 || t.0 > limits::TTL_MS) {
        let why = "a life lasts longer than nothing and at most ten years";
        let next = "write a time such as \"5min\"".to_owned();
        return Err(field.refuse(Problem::Impossible { asked: format!("{}ms", ttl.0), why, next }).into());
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
    Ok(Lifetime { ttl, on_timeout, on_parent_death, retain: retention(&section)? })
}

/// What of the workspace is kept after the end, and how much of it.
fn retention(section: &Section<'_>) -> Whole<Retention> {
    let own = |path: &GrantPath| GrantPath::parse(OWN[0]).is_ok_and(|own| own.covers(path));
    let places = section.each("retain", |field| match field.path()? {
        path if own(&path) => Ok(path),
        path => {
            let (why, next) =
                ("only what is in /workspace goes with the agent", "name a place below /workspace");
            Err(field.refuse(Problem::Impossible { asked: path.to_string(), why, next: next.to_owned() }))
        }
    })?;
    let places: PathSet = places;
    let mut bounds = ["retain_bytes", "retain_files"].into_iter().filter_map(|key| section.get(key));
    if places.is_empty() {
        let (why, next) = ("lifetime.retain names nothing to keep", "name a place, or take it out");
        return match bounds.next() {
            None => Ok(Retention::none()),
            Some(field) => {
                let (asked, next) = ("a limit".to_owned(), next.to_owned());
                Err(field.refuse(Problem::Impossible { asked, why, next }).into())
            }
        };
    }
    if let Some(field) = section.get("retain").filter(|_| places.len() > limits::RETAIN_PLACES) {
        let (asked, why) = (format!("{} places", places.len()), "each is looked for at the end");
        let next = format!("name at most {}, or a directory above them", limits::RETAIN_PLACES);
        return Err(field.refuse(Problem::Impossible { asked, why, next }).into());
    }
    let most = "what is kept takes room on the machine's disk";
    let bytes = section.get("retain_bytes").map_or(Ok(ByteSize(16 << 20)), |field| {
        let size = field.bytes()?;
        within(field, size.0, size.to_string(), 1..=limits::RETAIN_BYTES, most).map(ByteSize)
    })?;
    let files = section.get("retain_files");
    let files = files.map_or(Ok(1024), |field| ranged(field, 1..=limits::RETAIN_FILES, most))?;
    Ok(Retention { places, bytes, files })
}

fn approvals(document: &Document<'_>) -> Whole<Approvals> {
    let section = document.section("approvals", &["required"])?;
    section.no_strays()?;
    section.each("required", Field::pattern)
}
