//! The documents of an image (OCI image-spec 1.1, and the same of Docker's registry format, version 2).

use crate::error::ImageError;
use octant_ids::Sha256;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

pub(crate) const INDEXES: [&str; 2] =
    ["application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"];
pub(crate) const MANIFESTS: [&str; 2] =
    ["application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json"];
const CONFIGS: [&str; 2] =
    ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// `oci-layout`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Marker {
    pub(crate) image_layout_version: String,
}

/// `index.json`, and any index.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Index {
    pub(crate) schema_version: u32,
    pub(crate) manifests: Vec<Descriptor>,
}

/// What names a blob.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    #[serde(default)]
    pub(crate) media_type: String,
    pub(crate) digest: String,
    pub(crate) size: u64,
    #[serde(default)]
    pub(crate) platform: Option<Platform>,
    #[serde(default)]
    pub(crate) annotations: BTreeMap<String, String>,
}

impl Descriptor {
    /// The digest; only SHA-256 is one here.
    pub(crate) fn sha256(&self) -> Result<Sha256, ImageError> {
        let digest = self.digest.strip_prefix("sha256:").and_then(|digits| digits.parse().ok());
        digest.ok_or_else(|| ImageError::Document {
            what: "a descriptor".into(),
            why: format!("{:.100?} is no SHA-256 digest", self.digest),
        })
    }

    /// The name that the index gives it.
    pub(crate) fn name(&self) -> Option<&str> {
        self.annotations.get(REF_NAME).map(String::as_str)
    }
}

/// What an image is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// `linux`.
    pub os: String,
    /// `amd64`.
    pub architecture: String,
}

impl Platform {
    /// This machine's.
    #[must_use]
    pub fn here() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        Self { os: "linux".into(), architecture: architecture.into() }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os.escape_debug(), self.architecture.escape_debug())
    }
}

/// A manifest.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Manifest {
    pub(crate) schema_version: u32,
    #[serde(default)]
    pub(crate) media_type: Option<String>,
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
}

impl Manifest {
    /// Refuses what is no image: artefacts too are kept as manifests.
    pub(crate) fn check(&self) -> Result<(), ImageError> {
        let wrong = |why| Err(ImageError::Document { what: "the manifest".into(), why });
        if self.schema_version != 2 {
            return wrong(format!("its schema version is {}, not 2", self.schema_version));
        }
        if let Some(other) = self.media_type.as_deref().filter(|kind| !MANIFESTS.contains(kind)) {
            return wrong(format!("it says of itself that it is {other:.100?}"));
        }
        if !CONFIGS.contains(&self.config.media_type.as_str()) {
            return wrong(format!("{:.100?} is no image's configuration", self.config.media_type));
        }
        Ok(())
    }
}

/// How a layer is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Compression {
    pub(crate) fn of(media_type: &str) -> Option<Self> {
        Some(match media_type {
            "application/vnd.oci.image.layer.v1.tar"
            | "application/vnd.oci.image.layer.nondistributable.v1.tar"
            | "application/vnd.docker.image.rootfs.diff.tar" => Self::None,
            "application/vnd.oci.image.layer.v1.tar+gzip"
            | "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
            | "application/vnd.docker.image.rootfs.diff.tar.gzip"
            | "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip" => Self::Gzip,
            "application/vnd.oci.image.layer.v1.tar+zstd"
            | "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd"
            | "application/vnd.docker.image.rootfs.diff.tar.zstd" => Self::Zstd,
            _ => return None,
        })
    }
}

/// An image's configuration document.
#[derive(Debug, Deserialize)]
pub(crate) struct ConfigDocument {
    pub(crate) os: String,
    pub(crate) architecture: String,
    #[serde(default)]
    pub(crate) config: Option<Config>,
    pub(crate) rootfs: Rootfs,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Rootfs {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) diff_ids: Vec<String>,
}

/// How an image's maker meant it to be run. A manifest decides; this helps who writes one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// The environment, as `NAME=value`.
    #[serde(alias = "Env", deserialize_with = "list")]
    pub env: Vec<String>,
    /// What is run, before [`Config::cmd`].
    #[serde(alias = "Entrypoint", deserialize_with = "list")]
    pub entrypoint: Vec<String>,
    /// What is run, or the arguments of [`Config::entrypoint`].
    #[serde(alias = "Cmd", deserialize_with = "list")]
    pub cmd: Vec<String>,
    /// The working directory.
    #[serde(alias = "WorkingDir")]
    pub working_dir: String,
}

/// Images say `null` where they mean an empty list.
fn list<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// Reads one document.
pub(crate) fn read<T: DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T, ImageError> {
    serde_json::from_slice(bytes)
        .map_err(|error| ImageError::Document { what: what.to_owned(), why: error.to_string() })
}
