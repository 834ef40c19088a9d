//! The form of `docker save` before version 25.

use super::maker::{Tar, Temp, sha256};
use crate::{Choice, ImageError, Limits};
use octant_ids::Sha256;
use serde_json::json;
use std::fs;

/// `manifest.json`, a configuration and its layers, the second a link to the first where `twice`.
fn saved(layers: &[&[u8]], config_name: Option<&str>, tags: &[&str], twice: bool) -> Vec<u8> {
    let ids: Vec<String> = layers.iter().map(|layer| format!("sha256:{}", sha256(layer))).collect();
    let rootfs = json!({"type": "layers", "diff_ids": ids});
    let architecture = crate::Platform::here().architecture;
    let config =
        json!({"os": "linux", "architecture": architecture, "config": {"Env": ["A=b"]}, "rootfs": rootfs});
    let config = config.to_string().into_bytes();
    let name = config_name.map_or_else(|| format!("{}.json", sha256(&config)), str::to_owned);
    let places: Vec<String> = (0..layers.len()).map(|number| format!("{number}/layer.tar")).collect();
    let list = json!([{"Config": name, "RepoTags": tags, "Layers": places}]).to_string();
    let mut tar = Tar::default();
    for (number, layer) in layers.iter().enumerate() {
        tar = match number {
            1 if twice => tar.link("1/layer.tar", "../0/layer.tar"),
            _ => tar.file(&places[number], layer),
        };
    }
    tar.file(&name, &config).file("manifest.json", list.as_bytes()).file("repositories", b"{}").end()
}

fn import(temp: &Temp, bytes: &[u8], reference: Option<&str>) -> Result<Sha256, ImageError> {
    let path = temp.0.join("saved.tar");
    fs::write(&path, bytes).unwrap();
    let choice = Choice { reference: reference.map(str::to_owned), ..Choice::default() };
    temp.images().import(&path, &choice, &Limits::DEFAULT, None).map(|imported| imported.image.digest)
}

#[test]
fn it_is_imported_under_a_digest_that_is_always_the_same() {
    let temp = Temp::new();
    let base = Tar::default().dir("bin").program("bin/tool", b"tool").file("gone", b"x").end();
    let top = Tar::default().file(".wh.gone", b"").file("etc/conf", b"conf").end();
    let bytes = saved(&[&base, &top], None, &["tool:1", "tool:latest"], false);
    assert!(matches!(import(&temp, &bytes, None), Err(ImageError::Which { count: 2, .. })));
    let digest = import(&temp, &bytes, Some("tool:latest")).unwrap();
    assert_eq!(fs::read(temp.root(digest).join("bin/tool")).unwrap(), b"tool");
    assert_eq!(fs::read(temp.root(digest).join("etc/conf")).unwrap(), b"conf");
    assert!(!temp.root(digest).join("gone").exists());
    let other_names = saved(&[&base, &top], None, &[], false);
    assert_eq!(import(&temp, &other_names, None).unwrap(), digest);
    temp.images().verify(digest).unwrap();
}

#[test]
fn a_layer_that_is_there_twice_is_found_without_following_its_link() {
    let temp = Temp::new();
    let layer = Tar::default().file("a", b"a").end();
    let digest = import(&temp, &saved(&[&layer, &layer], None, &[], true), None).unwrap();
    assert_eq!(fs::read(temp.root(digest).join("a")).unwrap(), b"a");
}

#[test]
fn what_is_not_what_its_name_says_is_refused() {
    let temp = Temp::new();
    let layer = Tar::default().file("a", b"aaaa").end();
    let good = saved(&[&layer], None, &[], false);
    let at = |bytes: &[u8], what: &[u8]| bytes.windows(what.len()).position(|part| part == what).unwrap();
    let mut bad = good.clone();
    let place = at(&good, b"aaaa");
    bad[place] = b'b';
    assert!(matches!(import(&temp, &bad, None), Err(ImageError::Digest { .. })));
    let mut bad = good.clone();
    let place = at(&good, b"A=b");
    bad[place] = b'B';
    assert!(matches!(import(&temp, &bad, None), Err(ImageError::Digest { .. })));
    for name in ["config.json", "../x.json"] {
        assert!(import(&temp, &saved(&[&layer], Some(name), &[], false), None).is_err(), "{name}");
    }
    // A link to something that no layer is.
    let other = Tar::default().file("b", b"b").end();
    assert!(matches!(
        import(&temp, &saved(&[&layer, &other], None, &[], true), None),
        Err(ImageError::Missing(_))
    ));
    assert!(temp.images().list().unwrap().is_empty());
}
