//! `octant image` against a layout that the test makes.

use super::{Dir, octant};
use octant_ids::Exit;
use std::fs;
use std::path::{Path, PathBuf};

/// A layout with one image, whose one layer is from the corpus.
fn layout(dir: &Path) -> PathBuf {
    let layout = dir.join("layout");
    fs::create_dir_all(layout.join("blobs/sha256")).unwrap();
    let blob = |kind: &str, bytes: &[u8]| {
        let digest = octant_tree::hash(&mut &*bytes).unwrap().0;
        fs::write(layout.join(format!("blobs/sha256/{digest}")), bytes).unwrap();
        format!(r#"{{"mediaType":"{kind}","digest":"sha256:{digest}","size":{}}}"#, bytes.len())
    };
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/corpus/layer");
    let tar = fs::read(corpus.join("ok-plain")).unwrap();
    let diff_id = octant_tree::hash(&mut tar.as_slice()).unwrap().0;
    let layer = blob("application/vnd.oci.image.layer.v1.tar", &tar);
    let config = blob(
        "application/vnd.oci.image.config.v1+json",
        format!(
            r#"{{"os":"linux","architecture":"amd64","rootfs":{{"type":"layers","diff_ids":["sha256:{diff_id}"]}}}}"#
        )
        .as_bytes(),
    );
    let manifest = blob(
        "application/vnd.oci.image.manifest.v1+json",
        format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{layer}]}}"#).as_bytes(),
    );
    fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    let index = format!(r#"{{"schemaVersion":2,"manifests":[{manifest}]}}"#);
    fs::write(layout.join("index.json"), index).unwrap();
    layout
}

#[test]
fn an_image_is_imported_listed_verified_and_removed() {
    let dir = Dir::new();
    let layout = layout(&dir.0);
    let path = layout.to_str().unwrap();
    let (exit, digest, error) = octant(&dir.0, &["image", "import", path, "--name", "tool:1"]);
    assert_eq!((exit, error), (Exit::Ok, format!("octant: {}\n", crate::deeds::NO_LEDGER)), "{digest}");
    let digest = digest.trim().to_owned();
    assert_eq!(digest.len(), 64);
    let (exit, again, _) = octant(&dir.0, &["image", "import", path, "--json"]);
    assert_eq!(exit, Exit::Ok);
    assert!(again.contains(r#""known":true"#) && again.contains(r#""names":["tool:1"]"#), "{again}");
    let (exit, list, _) = octant(&dir.0, &["image", "list"]);
    assert_eq!(exit, Exit::Ok);
    assert!(
        list.contains(&digest[..12]) && list.contains("linux/amd64") && list.contains("tool:1"),
        "{list}"
    );
    let (exit, text, _) = octant(&dir.0, &["image", "verify", "tool:1"]);
    assert_eq!((exit, text), (Exit::Ok, format!("{digest} is what was imported\n")));

    fs::write(dir.0.join("state/images").join(&digest).join("root/usr/a"), "changed").unwrap();
    let (exit, _, error) = octant(&dir.0, &["image", "verify", &digest[..8]]);
    assert_eq!(exit, Exit::Unverified);
    assert!(error.contains("usr/a differs") && error.contains("next: remove it"), "{error}");

    let (exit, _, _) = octant(&dir.0, &["image", "rm", "tool:1"]);
    assert_eq!(exit, Exit::Ok);
    let (exit, _, error) = octant(&dir.0, &["image", "rm", "tool:1"]);
    assert_eq!(exit, Exit::NotFound);
    assert!(error.contains("octant image list"), "{error}");
    assert_eq!(octant(&dir.0, &["image", "list", "--json"]).1, "[]\n");
}

#[test]
fn what_is_no_image_is_refused_with_the_next_step() {
    let dir = Dir::new();
    let layout = layout(&dir.0);
    let import = || octant(&dir.0, &["image", "import", layout.to_str().unwrap()]);
    let index = fs::read_to_string(layout.join("index.json")).unwrap();
    fs::write(layout.join("index.json"), index.replace("\"size\":", "\"size\":1")).unwrap();
    let (exit, _, error) = import();
    assert_eq!(exit, Exit::Unverified);
    assert!(error.contains("were announced") && error.contains("nothing of it was imported"), "{error}");
    fs::remove_file(layout.join("oci-layout")).unwrap();
    let (exit, _, error) = import();
    assert_eq!(exit, Exit::Invalid);
    assert!(error.contains("no oci-layout") && error.contains("skopeo"), "{error}");
    let (exit, _, _) = octant(&dir.0, &["image", "import", "/nonexistent"]);
    assert_eq!(exit, Exit::NotFound);
    let (exit, _, _) = octant(&dir.0, &["image", "import", layout.to_str().unwrap(), "--name", "../x"]);
    assert_eq!(exit, Exit::Usage);
}
