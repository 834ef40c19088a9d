//! What a configuration says, and the files that an edition has of it.

use crate::envelope::Envelope;
use crate::error::{ManifestError, ManifestErrors, Problem};
use crate::keys::TrustedKeys;
use crate::reader::{Document, Gather, Section, Whole};
use crate::schema::Draft;
use crate::{CheckTable, date};
use octant_ids::{ServiceName, Sha256};
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::fmt;
use toml::de::{DeTable, DeValue, ValueDeserializer};

/// The version of the text that this build reads.
const VERSION: u64 = 1;
const TOP: [&str; 13] = [
    "config",
    "serial",
    "audience",
    "machine",
    "operators",
    "revoked",
    "network",
    "egress",
    "vault",
    "units",
    "agents",
    "limits",
    "logs",
];
const MACHINE: [&str; 6] = ["hostname", "console", "emergency", "operators", "health_within", "resources"];
const LIMITS: [&str; 4] = ["max_agents", "keep_ended", "log_bytes", "artefact_bytes"];
const UNIT: [&str; 13] = [
    "enabled",
    "about",
    "exec",
    "user",
    "needs",
    "type",
    "restart",
    "ready_within",
    "stop_within",
    "watchdog",
    "socket",
    "capabilities",
    "resources",
];
/// The longest name of an agent: the unit that starts it is called after it.
const AGENT_NAME_MAX: usize = ServiceName::MAX - "start-".len();
const NAME: &str = "a name of a-z, 0-9 and -";

/// One thing that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ConfigProblem {
    /// The line, from 1, where it has one.
    pub line: Option<usize>,
    /// The field with all that is above it; empty for the text as a whole.
    pub field: String,
    /// What is wrong, why, and what to write instead.
    pub why: String,
}

/// Everything that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<ConfigProblem>);

impl fmt::Display for ConfigProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}, ")?;
        }
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.why)
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&texts.join("\n"))
    }
}

impl std::error::Error for ConfigErrors {}

/// What the owner of a table finds wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    /// The byte of the text, where that is known.
    pub offset: Option<usize>,
    /// The field below the table, where that is known.
    pub field: String,
    /// What is wrong.
    pub why: String,
}

/// A table of a text as the type of whoever reads it, without the keys of `skip`, which are for somebody else.
///
/// # Errors
/// What does not fit, and where.
pub fn table<T: DeserializeOwned>(text: &str, names: &[&str], skip: &[&str]) -> Result<T, Wrong> {
    let wrong = |error: toml::de::Error| Wrong {
        offset: error.span().map(|span| span.start),
        field: String::new(),
        why: error.message().replace('\n', ", "),
    };
    let root = DeTable::parse(text).map_err(wrong)?;
    let span = root.span();
    let mut value = toml::Spanned::new(span.clone(), DeValue::Table(root.into_inner()));
    for name in names {
        let DeValue::Table(mut table) = value.into_inner() else {
            return Err(Wrong { offset: None, field: String::new(), why: "is no section".into() });
        };
        value = table
            .remove(*name)
            .unwrap_or_else(|| toml::Spanned::new(span.clone(), DeValue::Table(DeTable::new())));
    }
    if let DeValue::Table(table) = value.get_mut() {
        skip.iter().for_each(|key| drop(table.remove(*key)));
    }
    T::deserialize(ValueDeserializer::from(value)).map_err(wrong)
}

/// A configuration that was read.
#[derive(Debug, Clone, PartialEq)]
pub struct MachineConfig {
    /// Its serial number.
    pub serial: u64,
    /// The machines that it is for.
    pub machines: Vec<String>,
    /// The labels of machines that it is for too.
    pub labels: Vec<String>,
    /// From when it can be taken, in milliseconds since 1970.
    pub not_before_ms: Option<u64>,
    /// Until when it can be taken, in milliseconds since 1970. What was taken stays in force.
    pub not_after_ms: u64,
    /// The signed manifests of the agents that are started after the boot.
    agents: BTreeMap<String, String>,
    /// The lines of the trusted set's files.
    trusted: Vec<(String, String)>,
    root: toml::Table,
}

impl MachineConfig {
    /// Reads a configuration; each table is checked by its owner too.
    ///
    /// # Errors
    /// Everything that is wrong with it, each with its line and field.
    pub fn parse(bytes: &[u8], check: CheckTable) -> Result<Self, ConfigErrors> {
        let document = Document::parse(bytes).map_err(|error| errors_of(error.into()))?;
        // Both were read a moment ago.
        let text = std::str::from_utf8(bytes).unwrap_or_default();
        let mut problems = Vec::new();
        let config = match read(&document, text) {
            Ok(config) => Some(config),
            Err(errors) => {
                problems = errors_of(errors).0;
                None
            }
        };
        if problems.iter().all(|problem| problem.field != "config") {
            problems.extend(owners(&document, text, check, &problems));
        }
        problems.sort_by_key(|problem| problem.line);
        match config {
            Some(config) if problems.is_empty() => Ok(config),
            _ => Err(ConfigErrors(problems)),
        }
    }

    /// The files of the trusted set.
    #[must_use]
    pub fn trusted(&self) -> Vec<(String, String)> {
        self.trusted.clone()
    }

    /// The files of the edition: what PID 1 reads over its octant.toml, keys, units, the agents' signed manifests.
    #[must_use]
    pub fn files(&self) -> Vec<(String, Vec<u8>)> {
        let mut files: Vec<(String, Vec<u8>)> = vec![("octant.toml".into(), self.octant_toml().into_bytes())];
        files
            .extend(self.trusted.iter().map(|(name, text)| (format!("trusted/{name}"), text.clone().into())));
        for (name, unit) in self.units() {
            let mut unit = unit.clone();
            if enabled(&unit) {
                unit.remove("enabled");
                files.push((format!("units/{name}.toml"), written(&unit).into_bytes()));
            }
        }
        files.extend(
            self.agents.iter().map(|(name, text)| (format!("agents/{name}.json"), text.clone().into_bytes())),
        );
        files
    }

    pub(super) fn root(&self) -> &toml::Table {
        &self.root
    }

    fn units(&self) -> impl Iterator<Item = (&String, &toml::Table)> {
        let units = self.root.get("units").and_then(toml::Value::as_table);
        units.into_iter().flatten().filter_map(|(name, unit)| Some((name, unit.as_table()?)))
    }

    /// The tables as octant.toml has them.
    fn octant_toml(&self) -> String {
        let of = |name: &str| self.root.get(name).and_then(toml::Value::as_table).cloned();
        let mut init = of("machine").unwrap_or_default();
        let off: Vec<toml::Value> =
            self.units().filter(|(_, unit)| !enabled(unit)).map(|(name, _)| name.clone().into()).collect();
        if !off.is_empty() {
            init.insert("disabled".into(), off.into());
        }
        let rows = [
            ("init", Some(init)),
            ("network", of("network")),
            ("egress", of("egress")),
            ("vault", of("vault")),
            ("agents", of("limits")),
            ("log", of("logs")),
        ];
        let mut whole = toml::Table::new();
        for (name, table) in rows {
            whole.extend(table.map(|table| (name.to_owned(), toml::Value::Table(table))));
        }
        written(&whole)
    }
}

/// A table that was read can be written.
fn written(table: &toml::Table) -> String {
    toml::to_string(table).unwrap_or_default()
}

fn enabled(unit: &toml::Table) -> bool {
    unit.get("enabled").and_then(toml::Value::as_bool) != Some(false)
}

fn problem(error: &ManifestError) -> ConfigProblem {
    ConfigProblem { line: error.line, field: error.field.clone(), why: error.problem.to_string() }
}

fn errors_of(errors: ManifestErrors) -> ConfigErrors {
    ConfigErrors(errors.iter().map(problem).collect())
}

/// The problems of a section below another, with the other's name before each.
fn above<T>(name: &str, read: Whole<T>) -> Whole<T> {
    read.map_err(|errors| {
        let named = |error: &ManifestError| ManifestError {
            field: format!("{name}.{}", error.field),
            ..error.clone()
        };
        ManifestErrors(errors.iter().map(named).collect())
    })
}

fn read(document: &Document<'_>, text: &str) -> Whole<MachineConfig> {
    let top = document.top(&TOP);
    let version = top.need("config", "1")?;
    // Another version has other fields: nothing more can be said of it.
    if version.number()? != VERSION {
        let next = format!("this build reads {VERSION}; write config = {VERSION}");
        let asked = format!("version {}", version.number()?);
        return Err(version.refuse(Problem::Impossible { asked, why: "it is not known here", next }).into());
    }
    let mut all = Gather::default();
    all.take(top.no_strays());
    let serial = all.take(top.need("serial", "1").and_then(|f| match f.number()? {
        0 => Err(f.refuse(Problem::Quantity("a serial number begins with 1".into()))),
        // TOML has no greater number, and the next one has to fit too.
        serial => Ok(serial),
    }));
    let audience = all.take(audience(document));
    for (name, known) in [("machine", &MACHINE[..]), ("limits", &LIMITS[..])] {
        all.take(document.section(name, known).map_err(ManifestErrors::from).and_then(|s| s.no_strays()));
    }
    all.take(units(document));
    let trusted = all.take(operators(document));
    let agents = all.take(agents(document));
    // What the reader read, this reader reads.
    let root: toml::Table = toml::from_str(text).unwrap_or_default();
    let whole = || {
        let Audience { machines, labels, not_before_ms, not_after_ms } = audience?;
        let (serial, agents, trusted) = (serial?, agents?, trusted?);
        Some(MachineConfig { serial, machines, labels, not_before_ms, not_after_ms, agents, trusted, root })
    };
    all.done(whole())
}

struct Audience {
    machines: Vec<String>,
    labels: Vec<String>,
    not_before_ms: Option<u64>,
    not_after_ms: u64,
}

fn audience(document: &Document<'_>) -> Whole<Audience> {
    let section = document.section("audience", &["machines", "labels", "not_before", "not_after"])?;
    let mut all = Gather::default();
    all.take(section.no_strays());
    if section.get("labels").is_none() {
        all.take(section.need("machines", "[\"*\"]").map(drop));
    }
    let machines = all.take(section.each("machines", |f| f.name("*-", "a machine's identifier, or \"*\"")));
    let labels = all.take(section.each("labels", |f| f.name("-", "a label of machines: a-z, 0-9 and -")));
    let not_before_ms = all.take(section.get("not_before").map(|f| f.date()).transpose());
    let not_after_ms = all.take(section.need("not_after", "2030-01-31T00:00:00Z").and_then(|f| f.date()));
    let whole = || {
        let (not_before_ms, not_after_ms) = (not_before_ms?, not_after_ms?);
        Some(Audience { machines: machines?, labels: labels?, not_before_ms, not_after_ms })
    };
    all.done(whole())
}

fn units(document: &Document<'_>) -> Whole<()> {
    let mut all = Gather::default();
    for name in document.names("units")? {
        let unit = || -> Whole<()> {
            let section = document.below("units", name, &UNIT)?;
            let mut all = Gather::default();
            all.take(section.no_strays());
            all.take(section.get("enabled").map(|f| f.flag()).transpose());
            all.take(named(&section, name, ServiceName::MAX));
            all.done(Some(()))
        };
        all.take(above("units", unit()));
    }
    all.done(Some(()))
}

/// A name that can be a unit's.
fn named(section: &Section<'_>, name: &str, most: usize) -> Result<(), ManifestError> {
    if name.len() <= most && name.parse::<ServiceName>().is_ok() {
        return Ok(());
    }
    let text = name.chars().take(most).collect();
    let problem = Problem::Name { text, want: NAME };
    Err(ManifestError { field: section.name().to_owned(), line: section.line(), problem })
}

fn operators(document: &Document<'_>) -> Whole<Vec<(String, String)>> {
    let mut all = Gather::default();
    let mut files = Vec::new();
    for name in document.names("operators")? {
        files.extend(all.take(above("operators", operator(document, name, &files))));
    }
    let mut list = String::new();
    for id in document.names("revoked")? {
        let section = document.section("revoked", &[id])?;
        let line = |reason: &str| format!("{id} {}\n", reason.replace(char::is_control, " "));
        let read = section.need(id, "\"why\"").and_then(|f| {
            let want = "the identifier of a key: 64 hexadecimal digits";
            id.parse::<Sha256>().map_err(|_| f.refuse(Problem::Name { text: id.to_owned(), want }))?;
            f.text()
        });
        list.extend(all.take(read).map(line));
    }
    if !list.is_empty() {
        files.push(("revoked".into(), list));
    }
    all.done(Some(files))
}

/// An operator's file; the files so far must be a set with it.
fn operator(document: &Document<'_>, name: &str, before: &[(String, String)]) -> Whole<(String, String)> {
    let section = document.below("operators", name, &["key", "role", "until"])?;
    let mut all = Gather::default();
    all.take(section.no_strays());
    let key = all.take(section.need("key", "\"BASE64\"").and_then(|f| f.text()));
    let role = all.take(section.need("role", "\"admin\"").and_then(|f| f.name("-", NAME)));
    let until = all.take(section.get("until").map(|f| f.date()).transpose());
    let (Some(key), Some(role), Some(until)) = (key, role, until) else { return all.done(None) };
    let until = until.map_or_else(String::new, |ms| format!(" until={}", date::text(ms)));
    let file = (format!("{name}.pub"), format!("ed25519 {key} {name} role={role}{until}\n"));
    let set: Vec<_> = before.iter().cloned().chain([file.clone()]).collect();
    if let Err(error) = TrustedKeys::from_files(&set) {
        let field = section.name().to_owned();
        let problem = Problem::Quantity(error.to_string());
        return Err(ManifestError { field, line: section.line(), problem }.into());
    }
    all.done(Some(file))
}

fn agents(document: &Document<'_>) -> Whole<BTreeMap<String, String>> {
    let mut all = Gather::default();
    let mut agents = BTreeMap::new();
    for name in document.names("agents")? {
        let agent = || -> Whole<String> {
            let section = document.below("agents", name, &["manifest"])?;
            let mut all = Gather::default();
            all.take(section.no_strays());
            all.take(named(&section, name, AGENT_NAME_MAX));
            let manifest = section.need("manifest", "'''the signed manifest'''").and_then(|f| {
                let text = f.long_text()?;
                let bad = |why: String| f.refuse(Problem::Quantity(why));
                let envelope = Envelope::parse(text.as_bytes()).map_err(|error| bad(error.to_string()))?;
                Draft::parse(envelope.payload()).map_err(|error| bad(error.to_string()))?;
                Ok(text.to_owned())
            });
            let manifest = all.take(manifest);
            all.done(manifest)
        };
        agents.extend(all.take(above("agents", agent())).map(|text| (name.to_owned(), text)));
    }
    all.done(Some(agents))
}

/// What the owners of the tables find wrong. A table of which fields are unknown is not shown to them.
fn owners(
    document: &Document<'_>,
    text: &str,
    check: CheckTable,
    known: &[ConfigProblem],
) -> Vec<ConfigProblem> {
    let (places, line_of) = (document.all_places(), |offset| document.line_of(offset));
    let mut tables: Vec<(&str, Vec<&str>)> = Vec::new();
    for (owner, name) in [
        ("init", "machine"),
        ("network", "network"),
        ("egress", "egress"),
        ("vault", "vault"),
        ("agents", "limits"),
        ("log", "logs"),
    ] {
        if places.contains_key(name) {
            tables.push((owner, vec![name]));
        }
    }
    let units = document.names("units").unwrap_or_default();
    tables.extend(units.iter().map(|name| ("unit", vec!["units", name])));
    let mut problems = Vec::new();
    for (owner, names) in tables {
        let name = names.join(".");
        let told =
            |problem: &ConfigProblem| problem.field == name || problem.field.starts_with(&format!("{name}."));
        if known.iter().any(told) {
            continue;
        }
        if let Err(Wrong { offset, field, why }) = check(owner, &names, text) {
            let field = if field.is_empty() { name } else { format!("{name}.{field}") };
            let line = offset.map(line_of).or_else(|| nearest(&places, &field));
            problems.push(ConfigProblem { line, field, why });
        }
    }
    problems
}

/// The line of a field, or of what it is below.
fn nearest(places: &BTreeMap<String, usize>, field: &str) -> Option<usize> {
    let mut name = field.split('[').next().unwrap_or(field);
    loop {
        if let Some(line) = places.get(name) {
            return Some(*line);
        }
        name = name.rsplit_once('.')?.0;
    }
}

/// A configuration to begin with.
#[must_use]
pub fn config_template(serial: u64, not_after_ms: u64) -> String {
    include_str!("template.toml")
        .replace("SERIAL", &serial.to_string())
        .replace("NOT_AFTER", &date::text(not_after_ms))
}
