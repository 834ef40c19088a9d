//! What PID 1 tells each service at its start: the sealed `config` descriptor.

use octant_ids::{Layout, ServiceName};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Where this Octant runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// PID 1 of a machine or virtual machine: it owns the kernel.
    Machine,
    /// PID 1 of an OCI container: someone else made the namespaces and the mounts.
    Container,
    /// PID 1 of a PID namespace that `octant up` made.
    Namespace,
}

impl Mode {
    /// The word that stands for it in configuration and messages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Machine => "machine",
            Self::Container => "container",
            Self::Namespace => "namespace",
        }
    }
}

impl std::str::FromStr for Mode {
    type Err = UnknownMode;
    fn from_str(text: &str) -> Result<Self, UnknownMode> {
        [Self::Machine, Self::Container, Self::Namespace]
            .into_iter()
            .find(|mode| mode.as_str() == text)
            .ok_or_else(|| UnknownMode(text.to_owned()))
    }
}

/// A text that names no [`Mode`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a mode; write machine, container or namespace")]
pub struct UnknownMode(pub String);

/// The content of the `config` descriptor (JSON in a sealed memfd).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BootConfig {
    /// The directories of this Octant.
    pub layout: Layout,
    /// 32 hexadecimal digits, new at each boot, kept when PID 1 replaces itself.
    pub boot_id: String,
    /// Where this Octant runs.
    pub mode: Mode,
    /// The user id of the operator; 0 is always an operator too.
    pub operator: u32,
    /// Names of isolation layers that may be missing (development only).
    pub accept_missing: Vec<String>,
    /// The cgroup v2 directory below which each agent gets its own; `None` where there is no usable one.
    pub agents_cgroup: Option<PathBuf>,
    /// What PID 1 knows of the hardware, by name; only for the vault.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub hardware: BTreeMap<String, String>,
    /// Whom every caller of the service's socket counts as, where only one process can reach it: under `octant run`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sole_caller: Option<ServiceName>,
    /// Why the kernel reports nothing of what Landlock denies, where it does not; only for `agents`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub landlock_unreported: Option<String>,
    /// The service's own table of octant.toml; an empty object when there is none.
    pub service: serde_json::Value,
}

/// Why a `config` descriptor cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BootConfigError {
    /// More than [`BootConfig::MAX`] bytes.
    #[error("the boot configuration has {0} bytes, more than {max}", max = BootConfig::MAX)]
    TooLarge(usize),
    /// Not the JSON that PID 1 writes.
    #[error("the boot configuration is not valid: {0}; PID 1 and this program are of different versions")]
    Json(#[from] serde_json::Error),
}

impl BootConfig {
    /// The most bytes that a `config` descriptor may hold.
    pub const MAX: usize = 1 << 20;

    /// Reads what PID 1 wrote.
    ///
    /// # Errors
    /// [`BootConfigError`]: too large, or not of this shape.
    pub fn from_json(bytes: &[u8]) -> Result<Self, BootConfigError> {
        if bytes.len() > Self::MAX {
            return Err(BootConfigError::TooLarge(bytes.len()));
        }
        Ok(serde_json::from_slice(bytes)?)
    }

    /// The bytes for the `config` descriptor.
    ///
    /// # Errors
    /// [`BootConfigError::Json`] when a path is not UTF-8.
    pub fn to_json(&self) -> Result<Vec<u8>, BootConfigError> {
        Ok(serde_json::to_vec(self)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> BootConfig {
        BootConfig {
            layout: Layout::system(),
            boot_id: "00112233445566778899aabbccddeeff".into(),
            mode: Mode::Namespace,
            operator: 1000,
            accept_missing: vec!["cgroup".into()],
            agents_cgroup: None,
            hardware: BTreeMap::from([("product_uuid".into(), "1".into())]),
            sole_caller: None,
            landlock_unreported: Some("audit is off".into()),
            service: serde_json::json!({"segment_bytes": 4096}),
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let bytes = sample().to_json().unwrap();
        assert_eq!(BootConfig::from_json(&bytes).unwrap(), sample());
    }

    #[test]
    fn an_unknown_field_and_an_oversized_text_are_refused() {
        let mut value = serde_json::to_value(sample()).unwrap();
        value["extra"] = 1.into();
        let error = BootConfig::from_json(value.to_string().as_bytes()).unwrap_err();
        assert!(error.to_string().contains("extra"), "{error}");
        assert!(matches!(
            BootConfig::from_json(&vec![b' '; BootConfig::MAX + 1]),
            Err(BootConfigError::TooLarge(_))
        ));
    }
}
