//! What a new configuration changes, field by field, and what that does to a machine that runs.

use super::text::MachineConfig;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// What it takes for a change to count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Effect {
    /// It says how the configuration is to be taken, and changes nothing on the machine.
    None,
    /// At once.
    Live,
    /// At once: the service that reads it is started anew.
    Restart,
    /// At the next boot.
    Reboot,
}

/// One field that is another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// The field, with all that is above it.
    pub field: String,
    /// What it was; nothing where it was not there.
    pub was: Option<String>,
    /// What it is to be; nothing where it is not there any more.
    pub is: Option<String>,
    /// What it takes.
    pub effect: Effect,
    /// Which unit is started anew.
    pub unit: Option<String>,
}

/// What is different, in the order of the fields.
#[must_use]
pub fn changes(was: Option<&MachineConfig>, is: Option<&MachineConfig>) -> Vec<Change> {
    let fields = |config: Option<&MachineConfig>| config.map(MachineConfig::fields).unwrap_or_default();
    let (was, is) = (fields(was), fields(is));
    let names: BTreeSet<&String> = was.keys().chain(is.keys()).collect();
    let different = names.into_iter().filter(|name| was.get(*name) != is.get(*name));
    different
        .map(|field| {
            let (effect, unit) = effect(field);
            Change {
                field: field.clone(),
                was: was.get(field).cloned(),
                is: is.get(field).cloned(),
                effect,
                unit,
            }
        })
        .collect()
}

fn effect(field: &str) -> (Effect, Option<String>) {
    let parts: Vec<&str> = field.split('.').collect();
    let restart = |unit: &str| (Effect::Restart, Some(unit.to_owned()));
    match parts[..] {
        ["config" | "serial" | "audience", ..] => (Effect::None, None),
        // A vault that is there is not started anew for it, since it would be sealed then.
        ["machine", "console"] | ["vault", ..] => (Effect::Reboot, None),
        ["network", ..] => restart("network"),
        ["egress", ..] => restart("egress"),
        ["limits", ..] => restart("agents"),
        ["logs", ..] => restart("log"),
        ["units", name, ..] => restart(name),
        ["agents", name, ..] => restart(&format!("start-{name}")),
        _ => (Effect::Live, None),
    }
}

impl MachineConfig {
    /// Every field as text, by its name with all that is above it.
    #[must_use]
    pub fn fields(&self) -> BTreeMap<String, String> {
        let mut fields = BTreeMap::new();
        for (name, value) in self.root() {
            flatten(name, value, &mut fields);
        }
        fields
    }
}

fn flatten(name: &str, value: &toml::Value, into: &mut BTreeMap<String, String>) {
    match value {
        // An empty table says something too: an empty [network] asks for addresses.
        toml::Value::Table(table) if !table.is_empty() => {
            table.iter().for_each(|(key, below)| flatten(&format!("{name}.{key}"), below, into));
        }
        toml::Value::String(text) => {
            into.insert(name.to_owned(), short(&format!("{text:?}")));
        }
        other => {
            into.insert(name.to_owned(), short(&other.to_string()));
        }
    }
}

/// A signed manifest in the middle of a table is shown by its beginning.
fn short(text: &str) -> String {
    const MOST: usize = 100;
    if text.chars().count() <= MOST {
        return text.to_owned();
    }
    let digest = crate::schema::digest(text.as_bytes()).to_string();
    format!("{}... (sha256 {})", text.chars().take(40).collect::<String>().replace('\n', " "), &digest[..16])
}
