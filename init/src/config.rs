//! Configuration: `<etc>/octant.toml` and the unit files `<etc>/units/*.toml`.

use crate::resources::Resources;
use octant_api::logs::LogConfig;
use octant_api::unit::Restart;
use octant_editions::Editions;
use octant_ids::{Layout, Millis, ServiceName, Sha256};
use serde::Deserialize;
use sha2::Digest;
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// The most bytes of a configuration file.
const MAX_BYTES: u64 = 1 << 20;
/// The most unit files.
const MAX_UNITS: usize = 64;

/// What PID 1 does when Octant cannot go on, on a machine. In a namespace or container it always exits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnEmergency {
    /// Power off: the default, because a machine that cannot keep its promises should not look alive.
    #[default]
    Poweroff,
    /// Boot again.
    Reboot,
    /// Stop and leave the reason on the screen.
    Halt,
    /// A root shell on the console, then power off. Whoever reaches the console is root.
    Shell,
}

/// What is on the machine's console.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConsoleMode {
    /// PID 1's own words, and nobody to type to.
    #[default]
    Off,
    /// A login, by an account and its passphrase; on a machine without an operator the questions of the first boot.
    Login,
    /// A root shell. Whoever reaches the console is root.
    Shell,
}

impl ConsoleMode {
    /// By the word in octant.toml and on the kernel command line.
    #[must_use]
    pub fn of(word: &str) -> Option<Self> {
        match word {
            "off" => Some(Self::Off),
            "login" => Some(Self::Login),
            "shell" => Some(Self::Shell),
            _ => None,
        }
    }
}

/// The `[init]` table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct InitTable {
    /// What happens in an Emergency.
    pub emergency: OnEmergency,
    /// What is on the console.
    pub console: ConsoleMode,
    /// What `console` was called before; refused with what to write instead.
    #[serde(skip_serializing)]
    console_shell: Option<bool>,
    /// The machine's name.
    pub hostname: Option<String>,
    /// User ids that are operators besides 0 and the one given at start.
    pub operators: Vec<u32>,
    /// Unit files that are not to run.
    pub disabled: Vec<String>,
    /// By when a machine has to be healthy with a new configuration.
    pub health_within: Option<Millis>,
    /// What each of Octant's own units may use at the most, over what is built in.
    pub resources: BTreeMap<String, Resources>,
}

/// The bounds of `health_within`, in milliseconds: enough for a service to start, and no longer than somebody waits.
const HEALTH_WITHIN: std::ops::RangeInclusive<u64> = 10_000..=3_600_000;
/// Its default: a slow disk and a network that is asked for an address twice.
const HEALTH_WITHIN_DEFAULT_MS: u64 = 180_000;

impl InitTable {
    /// Whether what it says is possible.
    ///
    /// # Errors
    /// The key, and why.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        if let Some(shell) = self.console_shell {
            let word = if shell { "shell" } else { "off" };
            let why = format!("console_shell is now console: write console = {word:?}, or \"login\"");
            return Err(("console_shell", why));
        }
        if let Some(name) = &self.hostname
            && (name.is_empty()
                || name.len() > 63
                || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'))
        {
            return Err((
                "hostname",
                format!("hostname {name:?}: 1 to 63 letters, digits and - are allowed"),
            ));
        }
        for (unit, resources) in &self.resources {
            resources.check().map_err(|(_, why)| ("resources", format!("for {unit}: {why}")))?;
        }
        if let Some(time) = self.health_within.filter(|time| !HEALTH_WITHIN.contains(&time.0)) {
            return Err(("health_within", format!("health_within {} ms: 10s to 60min are allowed", time.0)));
        }
        Ok(())
    }

    /// By when a machine has to be healthy with a new configuration, in nanoseconds.
    #[must_use]
    pub(crate) fn health_within_ns(&self) -> u64 {
        self.health_within.map_or(HEALTH_WITHIN_DEFAULT_MS, |time| time.0).saturating_mul(1_000_000)
    }
}

/// A whole octant.toml.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, serde::Serialize)]
pub struct Config {
    /// PID 1's own table.
    pub init: InitTable,
    /// Each service's table, opaque to PID 1: the service checks it.
    pub services: BTreeMap<String, serde_json::Value>,
    /// The SHA-256 of the file that says so; none where there is no file.
    pub digest: Option<Sha256>,
    /// The edition of the machine's configuration that is read over the file; 0 for none.
    #[serde(default)]
    pub edition: u32,
}

/// The table of the logs' writer, of which PID 1 does its part: it reads what units print.
const LOG: &str = "log";

impl Config {
    /// How fast lines may come, as `[log]` says; it was checked when it was read.
    #[must_use]
    pub(crate) fn log(&self) -> LogConfig {
        self.services
            .get(LOG)
            .and_then(|table| serde_json::from_value(table.clone()).ok())
            .unwrap_or_default()
    }
}

/// A unit that an operator has added: `<etc>/units/<name>.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnitFile {
    /// One line for `octant status`.
    #[serde(default)]
    pub about: String,
    /// The program by its absolute path, and its arguments.
    pub exec: Vec<String>,
    /// The numeric user (and group) id that it runs under. There is no default: root has to be asked for.
    pub user: u32,
    /// Units that must be ready before it starts.
    #[serde(default)]
    pub needs: Vec<String>,
    /// How it shows that it is ready.
    #[serde(default, rename = "type")]
    pub kind: UnitKind,
    /// What happens when it ends by itself; a oneshot unit is never restarted unless this says so.
    pub restart: Option<UnitRestart>,
    /// From start to ready.
    pub ready_within: Option<Millis>,
    /// From SIGTERM to the kill of its cgroup.
    pub stop_within: Option<Millis>,
    /// The longest silence on the notify socket; only for type notify.
    pub watchdog: Option<Millis>,
    /// Whether PID 1 makes a listening socket for it, `<run>/<name>.sock`.
    #[serde(default)]
    pub socket: bool,
    /// Capabilities that it keeps, as capabilities(7) names them without `CAP_`.
    #[serde(default)]
    pub capabilities: Vec<String>,
    /// What it may use at the most.
    #[serde(default)]
    pub resources: Resources,
}

/// How an operator's unit shows that it is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UnitKind {
    /// It says READY=1 on the notify socket.
    Notify,
    /// It is ready as soon as it runs.
    #[default]
    Simple,
    /// It is ready when it has ended with code 0.
    Oneshot,
}

/// When an operator's unit is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UnitRestart {
    /// Always.
    Always,
    /// Unless it ended with code 0.
    OnFailure,
    /// Never.
    Never,
}

impl From<UnitRestart> for Restart {
    fn from(restart: UnitRestart) -> Self {
        match restart {
            UnitRestart::Always => Self::Always,
            UnitRestart::OnFailure => Self::OnFailure,
            UnitRestart::Never => Self::Never,
        }
    }
}

/// Why a configuration file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("{path}: cannot be read: {source}; make it a readable file or remove it")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It has more than 1 MiB, or more unit files than 64.
    #[error("{path}: {what}")]
    TooLarge {
        /// The file or directory.
        path: PathBuf,
        /// What is too large, and the limit.
        what: &'static str,
    },
    /// It is not TOML, or has a key or value that is not known.
    #[error("{path}:{line}: {message}; correct the line, then check with `octant config check`")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// It is well formed and says something impossible.
    #[error("{path}:{line}: {why}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is impossible and what would be right.
        why: String,
    },
}

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    init: InitTable,
    // Every other table. Flattening and refusing unknown fields exclude each other in serde, so the names are checked
    // by hand.
    #[serde(flatten)]
    services: BTreeMap<String, toml::Value>,
}

/// Reads `<etc>/octant.toml`, and over it the edition of the machine's configuration that is in force: each key that the
/// edition has stands in the place of the file's. A file that does not exist is an empty one; one that is wrong is an
/// error, never the defaults.
///
/// # Errors
/// [`ConfigError`], with file and line.
pub fn load(layout: &Layout, edition: u32, services: &[&str]) -> Result<Config, ConfigError> {
    let path = layout.etc.join("octant.toml");
    let (base, digest) = match read(&path) {
        Ok(text) => {
            parse(&path, &text, services)?;
            (text.clone(), Some(digest(&text)))
        }
        Err(ConfigError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            (String::new(), None)
        }
        Err(error) => return Err(error),
    };
    if edition == octant_editions::BASE {
        return Ok(Config { digest, ..parse(&path, &base, services)? });
    }
    let over = Editions::of(layout).place(edition).join(octant_editions::OCTANT);
    let text = read(&over)?;
    parse(&over, &text, services)?;
    let both = merged(&base, &text);
    Ok(Config { digest, edition, ..parse(&over, &both, services)? })
}

/// Both texts were read a moment ago, so neither is without its tables here.
fn merged(base: &str, over: &str) -> String {
    let table = |text: &str| toml::from_str::<toml::Table>(text).unwrap_or_default();
    let mut whole = table(base);
    for (name, value) in table(over) {
        match (whole.get_mut(&name), value) {
            (Some(toml::Value::Table(below)), toml::Value::Table(keys)) => below.extend(keys),
            (_, value) => drop(whole.insert(name, value)),
        }
    }
    toml::to_string(&whole).unwrap_or_default()
}

fn parse(path: &Path, text: &str, known: &[&str]) -> Result<Config, ConfigError> {
    let file: File = toml::from_str(text).map_err(|error| syntax(path, text, &error))?;
    let mut services = BTreeMap::new();
    for (name, value) in file.services {
        let line = line_of_table(text, &name);
        let invalid = |why: String| ConfigError::Invalid { path: path.to_owned(), line, why };
        if !known.contains(&name.as_str()) {
            return Err(invalid(format!(
                "no service is named {name:?}; known are: init {}",
                known.join(" ")
            )));
        }
        if !value.is_table() {
            return Err(invalid(format!("{name} must be a table: write [{name}]")));
        }
        let value = serde_json::to_value(value).map_err(|e| invalid(format!("{name}: {e}")))?;
        if name == LOG {
            let read = serde_json::from_value::<LogConfig>(value.clone())
                .map_err(|e| invalid(format!("{name}: {e}")))?;
            read.check().map_err(|(_, why)| invalid(format!("{name}: {why}")))?;
        }
        services.insert(name, value);
    }
    if let Some(stranger) = file.init.resources.keys().find(|name| !known.contains(&name.as_str())) {
        let why = format!(
            "resources.{stranger}: {stranger} is none of Octant's own units; one of yours has [resources] in its own file"
        );
        return Err(ConfigError::Invalid {
            path: path.to_owned(),
            line: line_of_key(text, "resources"),
            why,
        });
    }
    if let Err((key, why)) = file.init.check() {
        return Err(ConfigError::Invalid { path: path.to_owned(), line: line_of_key(text, key), why });
    }
    Ok(Config { init: file.init, services, digest: Some(digest(text)), edition: octant_editions::BASE })
}

/// A unit file as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundUnit {
    /// The unit's name: the file's without `.toml`.
    pub name: String,
    /// The SHA-256 of its bytes; none when they could not be read.
    pub digest: Option<Sha256>,
    /// What it says, or why it cannot be used.
    pub unit: Result<UnitFile, String>,
}

/// Every unit file that is to run: the operator's, and in the place of those with the same names the edition's. A wrong
/// file never hides the others.
///
/// # Errors
/// [`ConfigError`] when a directory itself cannot be read or holds too many files.
pub fn load_units(layout: &Layout, config: &Config) -> Result<Vec<FoundUnit>, ConfigError> {
    let mut units = units_in(&layout.etc.join("units"))?;
    if config.edition != octant_editions::BASE {
        let over = units_in(&Editions::of(layout).place(config.edition).join("units"))?;
        units.retain(|unit| !over.iter().any(|new| new.name == unit.name));
        units.extend(over);
    }
    units.retain(|unit| !config.init.disabled.contains(&unit.name));
    units.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(units)
}

fn units_in(dir: &Path) -> Result<Vec<FoundUnit>, ConfigError> {
    let dir = dir.to_owned();
    let unreadable = |source| ConfigError::Read { path: dir.clone(), source };
    let entries = match std::fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(error)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            paths.push(path);
        }
        if paths.len() > MAX_UNITS {
            return Err(ConfigError::TooLarge { path: dir, what: "more than 64 unit files" });
        }
    }
    paths.sort();
    Ok(paths.iter().map(|path| load_unit(path)).collect())
}

fn load_unit(path: &Path) -> FoundUnit {
    let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let text = read(path).map_err(|error| error.to_string());
    let named = name.parse::<ServiceName>().map_err(|error| format!("{}: {error}", path.display()));
    let unit = match (named, &text) {
        (Ok(_), Ok(text)) => parse_unit(path, text).map_err(|error| error.to_string()),
        (Ok(_), Err(why)) => Err(why.clone()),
        (Err(why), _) => Err(why),
    };
    FoundUnit { name, digest: text.ok().map(|text| digest(&text)), unit }
}

fn digest(text: &str) -> Sha256 {
    Sha256(sha2::Sha256::digest(text).into())
}

/// What goes on record of the configuration: the SHA-256 of octant.toml and of each unit file, in at most `max` bytes.
///
/// There can be more unit files than fit. The digest over their list covers every one of them: it is what
/// `cd <etc>/units && sha256sum *.toml | sha256sum` prints. Then comes each file's own, as far as there is room.
pub(crate) fn on_record(
    config: &Config,
    units: &[(String, Option<Sha256>)],
    accepted: &[String],
    edition: Option<&str>,
    max: usize,
) -> String {
    let hex = |digest: &Option<Sha256>, none: &str| digest.map_or_else(|| none.to_owned(), |d| d.to_string());
    let mut text = format!("octant.toml {}", hex(&config.digest, "absent"));
    if let Some(edition) = edition {
        text += edition;
    }
    if !units.is_empty() {
        let list: String = units
            .iter()
            .map(|(name, digest)| format!("{}  {name}.toml\n", hex(digest, "unreadable")))
            .collect();
        text += &format!("; unit files ({}) {}", units.len(), digest(&list));
    }
    if !accepted.is_empty() {
        text += &format!("; accepted as missing: {}", accepted.join(" "));
    }
    for (name, digest) in units {
        let one = format!("; {name}.toml {}", hex(digest, "unreadable"));
        if text.len() + one.len() <= max {
            text += &one;
        }
    }
    text
}

/// A unit file's content, as if it had been read.
pub(crate) fn unit_of_bytes(bytes: &[u8]) -> Result<UnitFile, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
    parse_unit(Path::new("unit.toml"), text).map_err(|error| error.to_string())
}

fn parse_unit(path: &Path, text: &str) -> Result<UnitFile, ConfigError> {
    let unit: UnitFile = toml::from_str(text).map_err(|error| syntax(path, text, &error))?;
    let line = |key: &str| line_of_key(text, key.rsplit('.').next().unwrap_or(key));
    unit.check().map_err(|(key, why)| ConfigError::Invalid {
        path: path.to_owned(),
        line: line(key),
        why,
    })?;
    Ok(unit)
}

impl UnitFile {
    /// Whether what it says is possible.
    ///
    /// # Errors
    /// The key, and why.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        let unit = self;
        let invalid = |key: &'static str, why: String| Err((key, why));
        if !unit.exec.first().is_some_and(|program| program.starts_with('/')) {
            return invalid("exec", "exec must start with the program's absolute path".into());
        }
        if unit.exec.iter().any(|arg| arg.contains('\0')) {
            return invalid("exec", "exec holds a zero byte".into());
        }
        if octant_ids::uid::service_of(unit.user).is_some() || unit.user >= octant_ids::uid::AGENT_BASE {
            let why =
                format!("user {} belongs to Octant itself; choose one below 960 or from 1000 on", unit.user);
            return invalid("user", why);
        }
        if unit.watchdog.is_some() && unit.kind != UnitKind::Notify {
            return invalid("watchdog", "a watchdog needs type = \"notify\"".into());
        }
        if let Some(unknown) = unit.capabilities.iter().find(|name| crate::spawn::capability(name).is_none())
        {
            let why = format!("{unknown:?} is no capability; write it as in capabilities(7) without CAP_");
            return invalid("capabilities", why);
        }
        unit.resources.check()
    }
}

fn read(path: &Path) -> Result<String, ConfigError> {
    let unreadable = |source| ConfigError::Read { path: path.to_owned(), source };
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(unreadable)?;
    file.take(MAX_BYTES + 1).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > MAX_BYTES {
        return Err(ConfigError::TooLarge { path: path.to_owned(), what: "more than 1 MiB" });
    }
    Ok(text)
}

fn syntax(path: &Path, text: &str, error: &toml::de::Error) -> ConfigError {
    let offset = error.span().map_or(0, |span| span.start.min(text.len()));
    let line = 1 + text.as_bytes()[..offset].iter().filter(|byte| **byte == b'\n').count();
    ConfigError::Syntax { path: path.to_owned(), line, message: error.message().replace('\n', ", ") }
}

fn line_of_table(text: &str, name: &str) -> usize {
    let at = text.lines().position(|line| {
        let line = line.trim_start();
        line.trim_start_matches('[').trim_start().starts_with(name)
    });
    at.map_or(1, |line| line + 1)
}

fn line_of_key(text: &str, key: &str) -> usize {
    text.lines().position(|line| line.trim_start().starts_with(key)).map_or(1, |line| line + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [&str; 3] = ["ledger", "agents", "log"];

    fn config(text: &str) -> Result<Config, String> {
        parse(Path::new("/etc/octant/octant.toml"), text, &KNOWN).map_err(|error| error.to_string())
    }

    fn unit(text: &str) -> Result<UnitFile, String> {
        parse_unit(Path::new("web.toml"), text).map_err(|error| error.to_string())
    }

    #[test]
    fn tables_of_services_are_kept_as_they_are() {
        let read =
            config("[init]\nemergency = \"shell\"\nconsole = \"login\"\n[ledger]\nsegment = 5\n").unwrap();
        assert_eq!(read.init.console, ConsoleMode::Login);
        assert_eq!(read.init.emergency, OnEmergency::Shell);
        assert_eq!(read.services["ledger"], serde_json::json!({"segment": 5}));
        let empty = Config { digest: Some(digest("")), ..Config::default() };
        assert_eq!(config("").unwrap(), empty);
    }

    #[test]
    fn an_editions_keys_and_units_stand_in_the_place_of_the_files() {
        let dir = std::env::temp_dir().join(format!("octant-edition-{}", std::process::id()));
        let layout = Layout::under(&dir);
        let write = |name: &str, text: &str| {
            let path = dir.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write(
            "etc/octant.toml",
            "[init]\nhostname = \"a\"\nconsole = \"login\"\n[ledger]\nx = 1\ny = { z = 1 }\n",
        );
        write("etc/units/web.toml", "exec = [\"/old\"]\nuser = 5\n");
        write("etc/units/tty2.toml", "exec = [\"/getty\"]\nuser = 5\n");
        let over =
            "[init]\nhostname = \"b\"\ndisabled = [\"tty2\"]\n[ledger]\ny = { w = 2 }\n[agents]\nn = 3\n";
        write("state/config/4/octant.toml", over);
        write("state/config/4/units/web.toml", "exec = [\"/new\"]\nuser = 5\n");
        let config = load(&layout, 4, &KNOWN).unwrap();
        assert_eq!((config.edition, config.init.hostname.as_deref()), (4, Some("b")));
        assert_eq!(config.init.console, ConsoleMode::Login);
        assert_eq!(
            config.services["ledger"],
            serde_json::json!({"x": 1, "y": {"w": 2}}),
            "key by key, no deeper"
        );
        assert_eq!(config.services["agents"], serde_json::json!({"n": 3}));
        let units = load_units(&layout, &config).unwrap();
        let units: Vec<_> =
            units.iter().map(|u| (u.name.as_str(), u.unit.as_ref().unwrap().exec[0].as_str())).collect();
        assert_eq!(units, [("web", "/new")]);
        let base = load(&layout, octant_editions::BASE, &KNOWN).unwrap();
        assert_eq!(
            (base.init.hostname.as_deref(), load_units(&layout, &base).unwrap().len()),
            (Some("a"), 2)
        );
        write("state/config/4/octant.toml", "[init]\n[leger]\n");
        let error = load(&layout, 4, &KNOWN).unwrap_err().to_string();
        assert!(error.contains("state/config/4/octant.toml:2: no service is named"), "{error}");
        assert!(load(&layout, 5, &KNOWN).is_err(), "an edition that is not there is not an empty one");
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn what_goes_on_record_names_every_file_and_fits() {
        let with = |count: usize| -> Vec<(String, Option<Sha256>)> {
            (0..count).map(|n| (format!("unit-{n:02}"), (n != 1).then_some(Sha256([7; 32])))).collect()
        };
        let text = on_record(&Config::default(), &[], &[], None, 457);
        assert_eq!(text, "octant.toml absent");
        let read = config("[init]\n").unwrap();
        let text = on_record(&read, &with(2), &["cgroup".into()], None, 457);
        // printf '[init]\n' | sha256sum
        let toml = "0e630268827f0c74cbf3e509552bb58fe6318fcfb37744bb01a97c71a743f0bf";
        assert!(text.starts_with(&format!("octant.toml {toml}; unit files (2) ")), "{text}");
        assert!(text.contains("; accepted as missing: cgroup; unit-00.toml 0707"), "{text}");
        assert!(text.ends_with("; unit-01.toml unreadable"), "{text}");
        let most = on_record(&read, &with(MAX_UNITS), &[], None, 457);
        assert!(most.len() <= 457 && most.contains("; unit files (64) "), "{most}");
        let mut other = with(MAX_UNITS);
        other[63].1 = Some(Sha256([8; 32]));
        assert_ne!(on_record(&read, &other, &[], None, 457), most, "the last one counts too");
    }

    #[test]
    fn errors_name_file_line_and_what_to_do() {
        let error = config("[init]\n\nemergencie = \"shell\"\n").unwrap_err();
        assert!(error.starts_with("/etc/octant/octant.toml:3: unknown field"), "{error}");
        let error = config("[init]\nconsole_shell = true\n").unwrap_err();
        assert!(error.contains("toml:2: console_shell is now console: write console = \"shell\""), "{error}");
        let error = config("[init]\nhostname = \"a b\"\n").unwrap_err();
        assert!(error.contains("toml:2: hostname \"a b\""), "{error}");
        let error = config("\n[leger]\n").unwrap_err();
        assert!(
            error.contains("toml:2: no service is named \"leger\"; known are: init ledger agents log"),
            "{error}"
        );
        let error = config("ledger = 5\n").unwrap_err();
        assert!(error.contains("write [ledger]"), "{error}");
        let error = config("[init.resources.ledger]\nnofile = 1\n").unwrap_err();
        assert!(error.contains("for ledger: nofile 1: 16 to"), "{error}");
        let error = config("[init.resources.web]\nnofile = 99\n").unwrap_err();
        assert!(error.contains("web is none of Octant's own units"), "{error}");
        let error = config("[ledger]\n[log]\nburst = 0\n").unwrap_err();
        assert!(error.contains("toml:2: log: burst 0 is not between 1 and 100000"), "{error}");
        assert_eq!(
            config("[log]\nburst = 7\n").unwrap().log(),
            LogConfig { burst: 7, ..LogConfig::default() }
        );
        let error = config("[init\n").unwrap_err();
        assert!(error.contains("octant.toml:1: "), "{error}");
    }

    #[test]
    fn a_unit_file_is_checked_key_by_key() {
        let good = "exec = [\"/bin/web\"]\nuser = 1000\nneeds = [\"ledger\"]\ntype = \"notify\"\nwatchdog = \"5s\"\n";
        let read = unit(good).unwrap();
        assert_eq!((read.kind, read.watchdog), (UnitKind::Notify, Some(Millis(5000))));
        for (bad, why) in [
            ("exec = [\"web\"]\nuser = 1\n", "absolute path"),
            ("exec = []\nuser = 1\n", "absolute path"),
            ("exec = [\"/a\"]\n", "user"),
            ("exec = [\"/a\"]\nuser = 960\n", "belongs to Octant"),
            ("exec = [\"/a\"]\nuser = 1\nwatchdog = 5\n", "type = \"notify\""),
            ("exec = [\"/a\"]\nuser = 1\nextra = 5\n", "unknown field"),
            (
                "exec = [\"/a\"]\nuser = 1\n[resources]\nmemory_max = 5\n",
                "web.toml:4: 5B of memory: at least 1MiB",
            ),
            ("exec = [\"/a\"]\nuser = 1\ncapabilities = [\"FLY\"]\n", "no capability"),
        ] {
            let error = unit(bad).unwrap_err();
            assert!(error.contains(why) && error.starts_with("web.toml:"), "{bad}: {error}");
        }
    }
}
