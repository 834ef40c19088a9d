//! Makes images: archives byte by byte, so that they can say what no honest program would.

use crate::{Choice, ImageError, Images, Imported, Limits};
use octant_ids::Sha256;
use serde_json::{Value, json};
use sha2::Digest;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// A directory of its own for one test.
pub(super) struct Temp(pub(super) PathBuf);

impl Temp {
    pub(super) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("octant-oci-{}-{number}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    pub(super) fn images(&self) -> Images {
        Images::new(&self.0.join("images"))
    }

    /// Imports what lies in `layout`.
    pub(super) fn import(&self) -> Result<Imported, ImageError> {
        self.images().import(&self.0.join("layout"), &Choice::default(), &Limits::DEFAULT, None)
    }

    /// A place in the tree of an image.
    pub(super) fn root(&self, image: Sha256) -> PathBuf {
        self.0.join("images").join(image.to_string()).join("root")
    }
}

impl Drop for Temp {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

pub(super) fn sha256(bytes: &[u8]) -> Sha256 {
    Sha256(sha2::Sha256::digest(bytes).into())
}

/// An archive.
#[derive(Clone, Default)]
pub(super) struct Tar(pub(super) Vec<u8>);

impl Tar {
    /// Any entry at all.
    pub(super) fn entry(mut self, kind: u8, name: &[u8], link: &[u8], mode: u32, bytes: &[u8]) -> Self {
        let mut header = tar::Header::new_gnu();
        let old = header.as_old_mut();
        let short = |from: &[u8]| from[..from.len().min(100)].to_vec();
        old.name[..short(name).len()].copy_from_slice(&short(name));
        old.linkname[..short(link).len()].copy_from_slice(&short(link));
        header.set_mode(mode);
        header.set_uid(4711);
        header.set_gid(4711);
        header.set_mtime(1_234_567_890);
        header.set_size(bytes.len() as u64);
        header.as_old_mut().linkflag = [kind];
        header.set_cksum();
        self.0.extend(header.as_bytes());
        self.0.extend(bytes);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub(super) fn file(self, name: &str, bytes: &[u8]) -> Self {
        self.entry(b'0', name.as_bytes(), b"", 0o644, bytes)
    }

    pub(super) fn program(self, name: &str, bytes: &[u8]) -> Self {
        self.entry(b'0', name.as_bytes(), b"", 0o4755, bytes)
    }

    pub(super) fn dir(self, name: &str) -> Self {
        self.entry(b'5', name.as_bytes(), b"", 0o700, b"")
    }

    pub(super) fn link(self, name: &str, to: &str) -> Self {
        self.entry(b'2', name.as_bytes(), to.as_bytes(), 0o777, b"")
    }

    pub(super) fn same(self, name: &str, as_: &str) -> Self {
        self.entry(b'1', name.as_bytes(), as_.as_bytes(), 0o644, b"")
    }

    /// An extended header of POSIX.
    pub(super) fn pax(self, records: &[(&str, &str)]) -> Self {
        let mut bytes = Vec::new();
        for (key, value) in records {
            let rest = format!(" {key}={value}\n");
            let mut length = rest.len() + 1;
            while length != rest.len() + length.to_string().len() {
                length = rest.len() + length.to_string().len();
            }
            bytes.extend(format!("{length}{rest}").into_bytes());
        }
        self.entry(b'x', b"pax", b"", 0o644, &bytes)
    }

    pub(super) fn end(mut self) -> Vec<u8> {
        self.0.extend([0; 1024]);
        self.0
    }
}

pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(super) fn zstd(bytes: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
}

/// One layer: its archive, and that as it is kept.
#[derive(Clone)]
pub(super) struct Layer {
    pub(super) kind: &'static str,
    pub(super) packed: Vec<u8>,
    pub(super) diff_id: Sha256,
}

pub(super) fn plain(tar: &[u8]) -> Layer {
    Layer { kind: "application/vnd.oci.image.layer.v1.tar", packed: tar.to_vec(), diff_id: sha256(tar) }
}

pub(super) fn gzipped(tar: &[u8]) -> Layer {
    let kind = "application/vnd.oci.image.layer.v1.tar+gzip";
    Layer { kind, packed: gzip(tar), diff_id: sha256(tar) }
}

pub(super) fn zstandard(tar: &[u8]) -> Layer {
    let kind = "application/vnd.oci.image.layer.v1.tar+zstd";
    Layer { kind, packed: zstd(tar), diff_id: sha256(tar) }
}

/// A layout being made below `layout`.
pub(super) struct Maker {
    pub(super) dir: PathBuf,
    pub(super) manifests: Vec<Value>,
}

impl Maker {
    pub(super) fn new(temp: &Temp) -> Self {
        let dir = temp.0.join("layout");
        fs::create_dir_all(dir.join("blobs/sha256")).unwrap();
        fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        Self { dir, manifests: Vec::new() }
    }

    pub(super) fn blob(&self, kind: &str, bytes: &[u8]) -> Value {
        let digest = sha256(bytes);
        fs::write(self.dir.join(format!("blobs/sha256/{digest}")), bytes).unwrap();
        json!({"mediaType": kind, "digest": format!("sha256:{digest}"), "size": bytes.len()})
    }

    pub(super) fn json(&self, kind: &str, value: &Value) -> Value {
        self.blob(kind, &serde_json::to_vec(value).unwrap())
    }

    /// The descriptor of an image for a platform.
    pub(super) fn image(&self, architecture: &str, layers: &[Layer]) -> Value {
        let config = json!({
            "os": "linux", "architecture": architecture,
            "config": {"Env": ["PATH=/bin", "A=b"], "Cmd": ["/bin/sh"], "Entrypoint": null, "WorkingDir": "/srv"},
            "rootfs": {"type": "layers", "diff_ids":
                layers.iter().map(|layer| format!("sha256:{}", layer.diff_id)).collect::<Vec<_>>()},
        });
        let config = self.json("application/vnd.oci.image.config.v1+json", &config);
        let layers: Vec<Value> = layers.iter().map(|layer| self.blob(layer.kind, &layer.packed)).collect();
        let kind = "application/vnd.oci.image.manifest.v1+json";
        let manifest = json!({"schemaVersion": 2, "mediaType": kind, "config": config, "layers": layers});
        let mut descriptor = self.json(kind, &manifest);
        descriptor["platform"] = json!({"os": "linux", "architecture": architecture});
        descriptor
    }

    pub(super) fn index(&self) {
        let index = json!({"schemaVersion": 2, "manifests": self.manifests});
        fs::write(self.dir.join("index.json"), serde_json::to_vec(&index).unwrap()).unwrap();
    }

    /// A layout with one image of these layers.
    pub(super) fn layers(temp: &Temp, layers: &[Layer]) -> Self {
        let mut maker = Self::new(temp);
        let architecture = crate::Platform::here().architecture;
        maker.manifests = vec![maker.image(&architecture, layers)];
        maker.index();
        maker
    }
}

/// Imports an image of these archives.
pub(super) fn import(temp: &Temp, layers: &[Layer]) -> Result<Imported, ImageError> {
    Maker::layers(temp, layers);
    temp.import()
}

/// The file names below a directory, for messages.
pub(super) fn left(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
