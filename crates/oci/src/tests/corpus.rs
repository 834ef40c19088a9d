//! tests/corpus/layer and tests/corpus/layout: what fuzzing starts from. `UPDATE=1` writes those that are made here.

use super::maker::{Tar, gzip, zstd};
use crate::{fuzz_layer, fuzz_layout};
use proptest::prelude::*;
use std::fs;
use std::path::PathBuf;

fn dir(target: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/corpus").join(target)
}

fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let files = fs::read_dir(dir(target)).unwrap().map(|entry| entry.unwrap().path());
    let mut seeds: Vec<_> = files
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(&path).unwrap()))
        .collect();
    seeds.sort();
    assert!(seeds.len() >= 10, "{} has the corpus of {target}", dir(target).display());
    seeds
}

fn layers() -> Vec<(&'static str, Vec<u8>)> {
    let tar = Tar::default;
    let good = tar().dir("usr").program("usr/a", b"x").link("bin", "usr").same("usr/b", "usr/a").end();
    vec![
        ("ok-gzip", gzip(&good)),
        ("ok-zstd", zstd(&good)),
        ("ok-plain", good),
        ("ok-whiteouts", tar().file("a/b", b"").file("a/.wh.c", b"").file("a/.wh..wh..opq", b"").end()),
        (
            "ok-long-names",
            tar().entry(b'L', b"p", b"", 0, &[b'n'; 200]).pax(&[("linkpath", "x")]).link("a", "").end(),
        ),
        (
            "ok-nodes",
            tar().entry(b'3', b"dev/null", b"", 0, b"").entry(b'6', b"p", b"", 0, b"").file("a", b"").end(),
        ),
        ("parent", tar().file("a/../../b", b"x").end()),
        ("link-to-root-then-through-it", tar().link("a", "/").file("a/b", b"x").end()),
        ("hardlink-out", tar().same("a", "/etc/shadow").end()),
        ("hardlink-to-directory", tar().dir("d").same("a", "d").end()),
        ("whiteout-of-parent", tar().file("a/.wh...", b"").end()),
        ("pax-size-lies", tar().pax(&[("size", "1000000")]).file("a", b"x").end()),
        ("pax-length-too-long", tar().entry(b'x', b"p", b"", 0, b"999 path=a\n").file("a", b"").end()),
        ("sparse", tar().pax(&[("GNU.sparse.major", "1")]).file("a", b"x").end()),
        ("directory-with-bytes", tar().entry(b'5', b"a", b"", 0, b"x").end()),
        ("cut", tar().file("a", &[1; 600]).0[..900].to_vec()),
        ("bomb", gzip(&tar().file("a", &vec![0; 2 << 20]).end())),
    ]
}

const LAYOUTS: [(&str, &str); 12] = [
    (
        "ok-index",
        r#"{"schemaVersion":2,"manifests":[{"digest":"sha256:00","size":1,"annotations":{"org.opencontainers.image.ref.name":"a"}}]}"#,
    ),
    ("ok-index-empty", r#"{"schemaVersion":2,"manifests":[]}"#),
    (
        "ok-manifest",
        r#"{"schemaVersion":2,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"x","size":2},"layers":[]}"#,
    ),
    (
        "ok-config",
        r#"{"os":"linux","architecture":"amd64","config":null,"rootfs":{"type":"layers","diff_ids":[]}}"#,
    ),
    (
        "ok-config-null-lists",
        r#"{"os":"linux","architecture":"amd64","config":{"Env":null,"Cmd":null},"rootfs":{"type":"layers","diff_ids":["sha256:0"]}}"#,
    ),
    ("negative-size", r#"{"schemaVersion":2,"manifests":[{"digest":"sha256:00","size":-1}]}"#),
    (
        "size-beyond-u64",
        r#"{"schemaVersion":2,"manifests":[{"digest":"sha256:00","size":18446744073709551616}]}"#,
    ),
    ("no-size", r#"{"schemaVersion":2,"manifests":[{"digest":"sha256:00"}]}"#),
    (
        "artefact",
        r#"{"schemaVersion":2,"config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":"x","size":2},"layers":[]}"#,
    ),
    (
        "manifest-list-as-manifest",
        r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"x","size":2},"layers":[]}"#,
    ),
    ("not-an-object", "[]"),
    ("deep", "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[["),
];

#[test]
fn the_corpus_is_what_is_made_here() {
    let update = std::env::var_os("UPDATE").is_some();
    let layouts = LAYOUTS.iter().map(|(name, text)| ("layout", *name, text.as_bytes().to_vec()));
    for (target, name, bytes) in
        layers().into_iter().map(|(name, bytes)| ("layer", name, bytes)).chain(layouts)
    {
        let path = dir(target).join(name);
        if update {
            fs::create_dir_all(dir(target)).unwrap();
            fs::write(&path, &bytes).unwrap();
        }
        assert!(fs::read(&path).is_ok_and(|found| found == bytes), "{}: UPDATE=1 writes it", path.display());
    }
}

/// Seeds named `ok-*` are read; all others are refused.
#[test]
fn the_corpus_is_told_apart() {
    for (name, bytes) in seeds("layer") {
        assert_eq!(fuzz_layer(&bytes), name.starts_with("ok-"), "{name}");
    }
    for (name, bytes) in seeds("layout") {
        assert_eq!(fuzz_layout(&bytes), name.starts_with("ok-"), "{name}");
    }
}

proptest! {
    #[test]
    fn bytes_of_any_kind_are_answered(bytes in any::<Vec<u8>>()) {
        let _any = (fuzz_layer(&bytes), fuzz_layout(&bytes));
    }

    #[test]
    fn damaged_seeds_are_answered(pick in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()) {
        for target in ["layer", "layout"] {
            let seeds = seeds(target);
            let mut bytes = pick.get(&seeds).1.clone();
            let at = at.index(bytes.len());
            if cut { bytes.truncate(at) } else { bytes[at] = byte }
            let _any = (fuzz_layer(&bytes), fuzz_layout(&bytes));
        }
    }
}
