//! The container image: one file, `/octant`, in one layer, and a bundle for an OCI runtime.
//!
//! Layout: OCI image-spec 1.1 (image-layout.md, config.md) and POSIX ustar. Written here, so that no container
//! program is needed to build it and the same binary always gives the same digests.

use crate::image::Source;
use crate::sh::{self, Res, Steps};
use crate::workspace::Workspace;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What the container starts. image/oci/config.json has the same words.
const ENTRYPOINT: [&str; 4] = ["/octant", "init", "--mode", "container"];

/// The OCI image layout.
pub(crate) fn layout(workspace: &Workspace) -> PathBuf {
    workspace.target.join("oci/layout")
}

/// The bundle: config.json and rootfs, as an OCI runtime takes it.
pub(crate) fn bundle(workspace: &Workspace) -> PathBuf {
    workspace.target.join("oci/bundle")
}

/// Makes layout and bundle.
///
/// # Errors
/// A file cannot be read or written.
pub(crate) fn make(workspace: &Workspace, binary: &Path) -> Res<String> {
    let layout = layout(workspace);
    sh::remove(&layout)?;
    let blobs = Blobs { dir: layout.join("blobs/sha256") };
    let layer = blobs.add(&tar("octant", 0o755, &sh::read(binary)?)?)?;
    let config = blobs.add(config(&layer).as_bytes())?;
    let manifest = blobs.add(manifest(&config, &layer).as_bytes())?;
    sh::write(&layout.join("oci-layout"), "{\"imageLayoutVersion\":\"1.0.0\"}")?;
    let entry = manifest.descriptor("application/vnd.oci.image.manifest.v1+json");
    let named =
        entry.replacen('{', "{\"annotations\":{\"org.opencontainers.image.ref.name\":\"octant\"},", 1);
    sh::write(
        &layout.join("index.json"),
        format!(
            "{{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.index.v1+json\",\"manifests\":[{named}]}}"
        ),
    )?;
    let bundle = bundle(workspace);
    sh::copy(&workspace.root.join("image/oci/config.json"), &bundle.join("config.json"))?;
    sh::remove(&bundle.join("rootfs"))?;
    sh::copy(binary, &bundle.join("rootfs/octant"))?;
    Ok(manifest.digest)
}

/// `cargo x image --oci`.
pub(crate) fn main(workspace: &Workspace, source: &Source) -> Res<ExitCode> {
    let mut steps = Steps::new(2);
    steps.next(&source.step());
    let binary = source.get(workspace)?;
    steps.next("packing the container image");
    let digest = make(workspace, &binary)?;
    println!(
        "\nlayout  {}\ndigest  sha256:{digest}\nbundle  {}",
        layout(workspace).display(),
        bundle(workspace).display()
    );
    println!("done in {}; what it needs of its host is in image/oci/README.md", steps.finish());
    Ok(ExitCode::SUCCESS)
}

/// The bundle's configuration with more arguments for PID 1.
///
/// # Errors
/// The configuration does not start what it should.
pub(crate) fn with_arguments(config: &str, more: &[&str]) -> Res<String> {
    let words =
        |more: &[&str]| [&ENTRYPOINT, more].concat().into_iter().map(quoted).collect::<Vec<_>>().join(", ");
    let before = words(&[]);
    if config.matches(&before).count() != 1 {
        return Err(format!("image/oci/config.json does not start {before} exactly once"));
    }
    Ok(config.replacen(&before, &words(more), 1))
}

/// A JSON string.
fn quoted(text: &str) -> String {
    let mut out = String::from('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => out.extend(['\\', character]),
            control if control < ' ' => out += &format!("\\u{:04x}", u32::from(control)),
            other => out.push(other),
        }
    }
    out + "\""
}

/// Content by its digest.
struct Blobs {
    dir: PathBuf,
}

struct Blob {
    digest: String,
    size: usize,
}

impl Blobs {
    fn add(&self, bytes: &[u8]) -> Res<Blob> {
        let new = self.dir.join("new");
        sh::write(&new, bytes)?;
        let digest = sh::sha256(&new)?;
        sh::rename(&new, &self.dir.join(&digest))?;
        Ok(Blob { digest, size: bytes.len() })
    }
}

impl Blob {
    fn descriptor(&self, media_type: &str) -> String {
        format!(
            "{{\"mediaType\":\"{media_type}\",\"digest\":\"sha256:{}\",\"size\":{}}}",
            self.digest, self.size
        )
    }
}

fn config(layer: &Blob) -> String {
    let entrypoint = ENTRYPOINT.map(quoted).join(",");
    // The layer is not compressed, so that its digest is also that of its content.
    format!(
        "{{\"created\":\"1970-01-01T00:00:00Z\",\"architecture\":\"amd64\",\"os\":\"linux\",\
         \"config\":{{\"Entrypoint\":[{entrypoint}],\"Env\":[\"PATH=/bin\"],\"WorkingDir\":\"/\",\
         \"Volumes\":{{\"/var/lib/octant\":{{}}}},\"StopSignal\":\"SIGTERM\"}},\
         \"rootfs\":{{\"type\":\"layers\",\"diff_ids\":[\"sha256:{}\"]}}}}",
        layer.digest
    )
}

fn manifest(config: &Blob, layer: &Blob) -> String {
    format!(
        "{{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",\"config\":{},\"layers\":[{}]}}",
        config.descriptor("application/vnd.oci.image.config.v1+json"),
        layer.descriptor("application/vnd.oci.image.layer.v1.tar")
    )
}

/// A ustar archive of one file, of owner 0 and time 0.
fn tar(name: &str, mode: u32, bytes: &[u8]) -> Res<Vec<u8>> {
    if name.len() > 99 || bytes.len() >= 1 << 33 {
        return Err(format!("{name} does not fit in a ustar header"));
    }
    let mut header = [0_u8; 512];
    let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, name);
    put(100, &format!("{mode:07o}"));
    put(108, "0000000");
    put(116, "0000000");
    put(124, &format!("{:011o}", bytes.len()));
    put(136, "00000000000");
    // The sum is taken with its own field blank.
    put(148, "        ");
    put(156, "0");
    put(257, "ustar\u{0}00");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut out = header.to_vec();
    out.extend_from_slice(bytes);
    // Two blocks of zeros end the archive.
    out.resize(out.len().next_multiple_of(512) + 1024, 0);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::Json;
    use std::process::{Command, Stdio};

    fn workspace(name: &str) -> Workspace {
        let target = std::env::temp_dir().join(format!("xtask-oci-{name}-{}", std::process::id()));
        let own = Path::new(env!("CARGO_MANIFEST_DIR"));
        Workspace { root: own.ancestors().nth(2).unwrap().to_owned(), target }
    }

    #[test]
    fn the_layer_is_an_archive_that_tar_reads() {
        let dir = workspace("tar").target;
        let file = dir.join("layer.tar");
        sh::write(&file, tar("octant", 0o755, b"hello").unwrap()).unwrap();
        let input = std::fs::File::open(&file).unwrap();
        let listing =
            Command::new("tar").args(["-tv", "--numeric-owner"]).stdin(Stdio::from(input)).output().unwrap();
        let listing = String::from_utf8(listing.stdout).unwrap();
        assert!(listing.starts_with("-rwxr-xr-x 0/0") && listing.contains(" 5 1970-01-01"), "{listing}");
        sh::remove(&dir).unwrap();
    }

    #[test]
    fn the_layout_is_whole_and_the_same_each_time() {
        let workspace = workspace("layout");
        let binary = workspace.target.join("binary");
        sh::write(&binary, "a binary").unwrap();
        let digest = make(&workspace, &binary).unwrap();
        assert_eq!(make(&workspace, &binary).unwrap(), digest);
        let blobs = layout(&workspace).join("blobs/sha256");
        let index = Json::parse(&sh::read_text(&layout(&workspace).join("index.json")).unwrap()).unwrap();
        assert_eq!(
            index.get("manifests").items()[0].get("digest").text(),
            Some(format!("sha256:{digest}").as_str())
        );
        let manifest = Json::parse(&sh::read_text(&blobs.join(&digest)).unwrap()).unwrap();
        for descriptor in manifest.get("layers").items().iter().chain([manifest.get("config")]) {
            let name = descriptor.get("digest").text().unwrap().strip_prefix("sha256:").unwrap();
            assert_eq!(sh::sha256(&blobs.join(name)).unwrap(), name);
        }
        assert_eq!(sh::read(&bundle(&workspace).join("rootfs/octant")).unwrap(), b"a binary");
        sh::remove(&workspace.target).unwrap();
    }

    #[test]
    fn a_job_is_put_into_the_bundle_and_quoted() {
        let config = sh::read_text(&workspace("job").root.join("image/oci/config.json")).unwrap();
        let with = with_arguments(&config, &["--job", "echo \"a\\b\"\n"]).unwrap();
        let json = Json::parse(&with).unwrap();
        let words: Vec<&str> =
            json.get("process").get("args").items().iter().filter_map(Json::text).collect();
        assert_eq!(words, ["/octant", "init", "--mode", "container", "--job", "echo \"a\\b\"\n"]);
        assert!(with_arguments("{}", &[]).is_err());
    }
}
