//! What `docker save` wrote before version 25, as a layout: `manifest.json` names a configuration and layers by their places.
//!
//! There is no manifest that a digest names, so one is made here, always the same from the same image: it names the
//! configuration by the digest that its file is called by, and each layer by the digest that the configuration has of it. All
//! that follows is then verified as in any layout.

use crate::Limits;
use crate::error::ImageError;
use crate::layout::Layout;
use crate::model::{ConfigDocument, read};
use octant_ids::Sha256;
use octant_tree::hash;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The name of the document that says what there is.
pub(crate) const LIST: &str = "manifest.json";

/// One image in `manifest.json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Row {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// What is made of it.
#[derive(Debug, Default)]
pub(crate) struct Saved {
    /// Documents, by the names that they have in a layout.
    pub(crate) made: BTreeMap<String, Vec<u8>>,
    /// Where the blobs lie.
    pub(crate) blobs: BTreeMap<Sha256, String>,
}

/// Reads `manifest.json` of a layout that is none yet.
pub(crate) fn read_saved(from: &Layout, limits: &Limits) -> Result<Saved, ImageError> {
    let rows: Vec<Row> = read(LIST, &from.document(LIST, limits)?)?;
    let (mut saved, mut manifests) = (Saved::default(), Vec::new());
    for row in rows {
        let manifest = saved.manifest(from, &row, limits)?;
        let bytes = manifest.to_string().into_bytes();
        let (digest, size) = digest(&bytes)?;
        saved.made.insert(blob(digest), bytes);
        let named = |name: Option<&String>| {
            let annotations = name.map(|name| json!({"org.opencontainers.image.ref.name": name}));
            json!({
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "digest": format!("sha256:{digest}"),
                "size": size,
                "annotations": annotations.unwrap_or_else(|| json!({})),
            })
        };
        // An image with several names is in an index once for each.
        match row.repo_tags.as_deref() {
            None | Some([]) => manifests.push(named(None)),
            Some(tags) => manifests.extend(tags.iter().map(|tag| named(Some(tag)))),
        }
    }
    let index = json!({"schemaVersion": 2, "manifests": manifests});
    saved.made.insert("index.json".into(), index.to_string().into_bytes());
    Ok(saved)
}

impl Saved {
    fn manifest(&mut self, from: &Layout, row: &Row, limits: &Limits) -> Result<Value, ImageError> {
        let wrong = |why: String| ImageError::Document { what: LIST.into(), why };
        if row.layers.len() > limits.layers {
            return Err(ImageError::Limit { what: "layers".into(), limit: limits.layers as u64 });
        }
        let bytes = from.document(&row.config, limits)?;
        let (config, size) = digest(&bytes)?;
        let stem = row.config.rsplit(['/', ':']).next().unwrap_or_default();
        let named: Option<Sha256> = stem.strip_suffix(".json").unwrap_or(stem).parse().ok();
        let named = named.ok_or_else(|| wrong(format!("{:.100?} is not named by a digest", row.config)))?;
        if named != config {
            return Err(ImageError::Digest {
                what: "the configuration".into(),
                expected: named,
                found: config,
            });
        }
        self.blobs.insert(config, row.config.clone());
        let document: ConfigDocument = read("the configuration", &bytes)?;
        let ids = document.rootfs.diff_ids;
        if ids.len() != row.layers.len() {
            return Err(wrong("it does not list the configuration's layers".into()));
        }
        let mut layers = Vec::new();
        for (place, id) in row.layers.iter().zip(ids) {
            let id: Option<Sha256> = id.strip_prefix("sha256:").and_then(|digits| digits.parse().ok());
            let id = id.ok_or_else(|| wrong("a layer without a SHA-256 digest".into()))?;
            // The same layer a second time is a link to the first, and those are not followed.
            if from.length(place).is_some() {
                self.blobs.entry(id).or_insert_with(|| place.clone());
            }
            let place = self.blobs.get(&id).ok_or(ImageError::Missing(id))?;
            let size = from.length(place).ok_or(ImageError::Missing(id))?;
            layers.push(json!({
                "mediaType": "application/vnd.oci.image.layer.v1.tar",
                "digest": format!("sha256:{id}"),
                "size": size,
            }));
        }
        Ok(json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": format!("sha256:{config}"),
                "size": size,
            },
            "layers": layers,
        }))
    }
}

/// The place of a blob in a layout.
pub(crate) fn blob(digest: Sha256) -> String {
    format!("blobs/sha256/{digest}")
}

fn digest(bytes: &[u8]) -> Result<(Sha256, u64), ImageError> {
    hash(&mut &*bytes).map_err(|source| ImageError::Read { what: LIST.into(), source })
}
