//! Images that attack whoever imports them. Each is refused with its own reason, or is harmless; outside of the tree
//! nothing has changed, and nothing that is used is left.

use super::maker::{Layer, Maker, Tar, Temp, gzip, gzipped, import, left, plain, sha256, zstandard};
use crate::error::EntryError;
use crate::{Choice, ImageError, Limits};
use octant_tree::{PlaceError, TreeError};
use serde_json::{Value, json};
use std::fs;

/// Imports layers that have to be refused; the reason.
fn refused(layers: &[Layer]) -> ImageError {
    let temp = Temp::new();
    fs::write(temp.0.join("outside"), "untouched").unwrap();
    let error = import(&temp, layers).unwrap_err();
    nothing_is_left(&temp);
    assert_eq!(fs::read_to_string(temp.0.join("outside")).unwrap(), "untouched");
    assert_eq!(left(&temp.0), ["images", "layout", "outside"]);
    error
}

fn nothing_is_left(temp: &Temp) {
    assert_eq!(left(&temp.0.join("images")), ["lock", "names"]);
}

fn entry(tar: Tar) -> EntryError {
    match refused(&[plain(&tar.end())]) {
        ImageError::Entry { why, .. } => why,
        other => panic!("{other}"),
    }
}

#[test]
fn names_that_lead_out_are_refused() {
    for name in ["../outside", "a/../../outside", "..", "a/..", "/../outside", "./../../../outside"] {
        let why = entry(Tar::default().file(name, b"x"));
        assert!(matches!(why, EntryError::Place(PlaceError::Parent(_))), "{name}: {why}");
        let why = entry(Tar::default().pax(&[("path", name)]).file("a", b"x"));
        assert!(matches!(why, EntryError::Place(PlaceError::Parent(_))), "{name}: {why}");
        let why = entry(Tar::default().same("a", name));
        assert!(matches!(why, EntryError::Place(PlaceError::Parent(_))), "{name}: {why}");
    }
}

#[test]
fn nothing_is_written_through_a_link() {
    let temp = Temp::new();
    let away = temp.0.to_str().unwrap().to_owned();
    let links = ["/", "..", "../../..", ".", "b", &away];
    for to in links {
        let through = |why: EntryError| matches!(why, EntryError::Tree(TreeError::Through { .. }));
        assert!(through(entry(Tar::default().link("a", to).file("a/outside", b"x"))), "{to}");
        assert!(through(entry(Tar::default().link("a", to).dir("b").link("a/outside", "/"))), "{to}");
        assert!(through(entry(Tar::default().link("a", to).dir("a/b"))), "{to}");
        // The link in a layer below, the file in the next.
        let layers = [Tar::default().link("a", to).end(), Tar::default().file("a/outside", b"x").end()];
        let error = refused(&layers.map(|tar| plain(&tar)));
        assert!(matches!(error, ImageError::Entry { layer: 1, why: EntryError::Tree(_), .. }), "{error}");
    }
}

#[test]
fn a_link_that_a_file_replaces_is_not_followed() {
    let temp = Temp::new();
    let outside = temp.0.join("outside");
    fs::write(&outside, "untouched").unwrap();
    let to = outside.to_str().unwrap();
    let layer =
        Tar::default().link("a", to).file("a", b"inside").link("b", "/").dir("b").file("b/c", b"c").end();
    let root = temp.root(import(&temp, &[plain(&layer)]).unwrap().image.digest);
    assert_eq!(fs::read_to_string(outside).unwrap(), "untouched");
    assert_eq!(fs::read_to_string(root.join("a")).unwrap(), "inside");
    assert!(fs::symlink_metadata(root.join("b")).unwrap().is_dir());
}

#[test]
fn another_name_is_one_of_a_file_in_the_image() {
    let file = |why: EntryError| matches!(why, EntryError::Hardlink(_));
    for name in ["/etc/shadow", "etc/nothing", "/", "."] {
        assert!(file(entry(Tar::default().same("a", name))), "{name}");
    }
    assert!(file(entry(Tar::default().dir("d").same("a", "d"))));
    // Not through a link either: there is no such place.
    assert!(file(entry(Tar::default().link("l", "/etc").same("a", "l/passwd"))));
    // What a layer hides it cannot give another name.
    let layers =
        [Tar::default().file("f", b"x").end(), Tar::default().file(".wh.f", b"").same("a", "f").end()];
    let error = refused(&layers.map(|tar| plain(&tar)));
    assert!(matches!(error, ImageError::Entry { layer: 1, why: EntryError::Hardlink(_), .. }), "{error}");
}

#[test]
fn a_second_name_of_a_link_is_the_link_and_not_what_it_says() {
    let temp = Temp::new();
    let layer = Tar::default().link("l", "/etc/shadow").same("a", "l").end();
    let root = temp.root(import(&temp, &[plain(&layer)]).unwrap().image.digest);
    assert_eq!(fs::read_link(root.join("a")).unwrap().to_str(), Some("/etc/shadow"));
}

#[test]
fn whiteouts_that_name_nothing_are_refused() {
    for name in [".wh.", ".wh...", ".wh..", "a/.wh...", "a/.wh.", ".wh.a/b", "a/.wh.b/c/d"] {
        let why = entry(Tar::default().file("a/b", b"x").file(name, b""));
        assert!(matches!(why, EntryError::Whiteout(_)), "{name}: {why}");
    }
}

#[test]
fn a_whiteout_hides_nothing_outside_of_its_tree() {
    let temp = Temp::new();
    fs::write(temp.0.join("outside"), "untouched").unwrap();
    let to = temp.0.to_str().unwrap();
    let layers = [
        Tar::default().link("a", to).file("keep", b"k").end(),
        // The link is no directory of the tree: there is nothing below it to hide.
        Tar::default().file("a/.wh.outside", b"").file("a/.wh..wh..opq", b"").end(),
    ];
    let root = temp.root(import(&temp, &layers.map(|tar| plain(&tar))).unwrap().image.digest);
    assert_eq!(fs::read_to_string(temp.0.join("outside")).unwrap(), "untouched");
    assert_eq!(fs::read_to_string(root.join("keep")).unwrap(), "k");
}

#[test]
fn the_kinds_of_entries_that_images_do_not_have_are_refused() {
    for kind in [b'S', b'D', b'M', b'V', b'A', b'9', b'!'] {
        let why = entry(Tar::default().entry(kind, b"a", b"", 0o644, b""));
        assert_eq!(why, EntryError::Kind(kind.into()));
    }
    for kind in [b'1', b'2', b'3', b'5', b'6'] {
        let why = entry(Tar::default().file("b", b"").entry(kind, b"a", b"b", 0o644, b"hidden"));
        assert_eq!(why, EntryError::Bytes(6));
    }
}

#[test]
fn extended_headers_cannot_lie_or_grow() {
    let extended = |tar: Tar| matches!(entry(tar), EntryError::Extended(_));
    assert!(extended(Tar::default().pax(&[("size", "7")]).file("a", b"x")));
    assert!(extended(Tar::default().pax(&[("size", "x")]).file("a", b"x")));
    assert!(extended(Tar::default().pax(&[("GNU.sparse.major", "1")]).file("a", b"x")));
    for bytes in [
        &b"7 a"[..],
        b"x a=b\n",
        b"9999 a=b\n",
        b"4 ab\n",
        b"0 a=b\n",
        b"5 a=b\n",
        b"18446744073709551616 a=b\n",
    ] {
        assert!(extended(Tar::default().entry(b'x', b"p", b"", 0o644, bytes).file("a", b"x")), "{bytes:?}");
    }
    for kind in *b"LKxg" {
        assert!(extended(Tar::default().entry(kind, b"p", b"", 0o644, &[b'x'; 70_000]).file("a", b"x")));
    }
    let long =
        |tar: Tar| matches!(entry(tar), EntryError::Place(PlaceError::Long { .. } | PlaceError::Deep { .. }));
    assert!(long(Tar::default().entry(b'L', b"p", b"", 0o644, &[b'x'; 300]).file("a", b"x")));
    assert!(long(Tar::default().entry(b'L', b"p", b"", 0o644, &b"x/".repeat(600)).file("a", b"x")));
    assert!(long(Tar::default().entry(b'L', b"p", b"", 0o644, &b"x/".repeat(100)).file("a", b"x")));
    let link = |tar: Tar| matches!(entry(tar), EntryError::Link { .. });
    assert!(link(Tar::default().entry(b'K', b"p", b"", 0o644, &[b'x'; 1025]).link("a", "")));
    assert!(link(Tar::default().link("a", "")));
    // One that stands alone at the end belongs to nothing.
    let error = refused(&[plain(&Tar::default().pax(&[("path", "a")]).end())]);
    assert!(matches!(error, ImageError::Archive { .. }), "{error}");
}

#[test]
fn what_unpacks_to_too_much_is_refused_before_the_disk_is_full() {
    let zeros = vec![0; 8 << 20];
    let limits = Limits { unpacked_bytes: 1 << 20, ..Limits::DEFAULT };
    for layer in
        [gzipped(&Tar::default().file("a", &zeros).end()), zstandard(&Tar::default().file("a", &zeros).end())]
    {
        assert!(layer.packed.len() < 1 << 20);
        let temp = Temp::new();
        let maker = Maker::layers(&temp, &[layer]);
        let error = temp.images().import(&maker.dir, &Choice::default(), &limits, None).unwrap_err();
        assert!(
            matches!(&error, ImageError::Archive { .. }) && error.to_string().contains("more bytes"),
            "{error}"
        );
        nothing_is_left(&temp);
    }
}

#[test]
fn too_much_of_anything_is_refused() {
    let small = Limits { document_bytes: 4096, layers: 3, layer_bytes: 4096, entries: 10, ..Limits::DEFAULT };
    let import = |layers: &[Layer]| {
        let temp = Temp::new();
        let maker = Maker::layers(&temp, layers);
        let error =
            temp.images().import(&maker.dir, &Choice::default(), &small, None).map(|i| i.image.digest);
        error.map_err(|error| error.to_string())
    };
    let tiny = |number: u8| plain(&Tar::default().file("a", &[number]).end());
    import(&[tiny(1), tiny(2), tiny(3)]).unwrap();
    assert!(import(&[tiny(1), tiny(2), tiny(3), tiny(4)]).unwrap_err().contains("layers"));
    assert!(
        import(&[plain(&Tar::default().file("a", &[1; 4096]).end())])
            .unwrap_err()
            .contains("bytes of layer 0")
    );
    let many = (0..11).fold(Tar::default(), |tar, number| tar.file(&format!("{number}"), b"")).end();
    assert!(import(&[gzipped(&many)]).unwrap_err().contains("entries"));
    // Thousands of layers, each nothing: the manifest alone is too long, and with room for it they are too many.
    let thousands = vec![tiny(1); 3000];
    assert!(import(&thousands).unwrap_err().contains("bytes of the manifest"));
    let error = refused(&thousands);
    assert!(matches!(&error, ImageError::Limit { what, .. } if what == "layers"), "{error}");
}

/// A layout with one image, changed by `change` before its documents are written.
fn changed(change: impl FnOnce(&mut Maker, &mut Value)) -> ImageError {
    let temp = Temp::new();
    let mut maker = Maker::layers(&temp, &[gzipped(&Tar::default().file("a", b"x").end())]);
    let mut descriptor = maker.manifests.remove(0);
    change(&mut maker, &mut descriptor);
    maker.manifests = vec![descriptor];
    maker.index();
    let error = temp.import().unwrap_err();
    nothing_is_left(&temp);
    error
}

/// The blob that a descriptor names.
fn blob_of(maker: &Maker, descriptor: &Value) -> std::path::PathBuf {
    let digest = descriptor["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
    maker.dir.join("blobs/sha256").join(digest)
}

fn document(maker: &Maker, descriptor: &Value) -> Value {
    serde_json::from_slice(&fs::read(blob_of(maker, descriptor)).unwrap()).unwrap()
}

/// Writes another manifest in the stead of the one that a descriptor names.
fn manifest(maker: &Maker, descriptor: &mut Value, change: impl FnOnce(&mut Value)) {
    let mut manifest = document(maker, descriptor);
    change(&mut manifest);
    let new = maker.json("application/vnd.oci.image.manifest.v1+json", &manifest);
    descriptor["digest"] = new["digest"].clone();
    descriptor["size"] = new["size"].clone();
}

#[test]
fn a_byte_changed_anywhere_is_found() {
    let flip = |path: std::path::PathBuf| {
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(path, bytes).unwrap();
    };
    let digest = |error: ImageError| assert!(matches!(error, ImageError::Digest { .. }), "{error}");
    digest(changed(|maker, descriptor| flip(blob_of(maker, descriptor))));
    digest(changed(|maker, descriptor| flip(blob_of(maker, &document(maker, descriptor)["config"]))));
    digest(changed(|maker, descriptor| flip(blob_of(maker, &document(maker, descriptor)["layers"][0]))));
    let size = |error: ImageError| assert!(matches!(error, ImageError::Size { .. }), "{error}");
    size(changed(|_, descriptor| descriptor["size"] = json!(1)));
    size(changed(|maker, descriptor| manifest(maker, descriptor, |m| m["layers"][0]["size"] = json!(7))));
    size(changed(|maker, descriptor| {
        let path = blob_of(maker, &document(maker, descriptor)["layers"][0]);
        fs::write(&path, [fs::read(&path).unwrap(), vec![0]].concat()).unwrap();
    }));
    let missing = |error: ImageError| assert!(matches!(error, ImageError::Missing(_)), "{error}");
    missing(changed(|maker, descriptor| fs::remove_file(blob_of(maker, descriptor)).unwrap()));
    missing(changed(|_, descriptor| descriptor["digest"] = json!(format!("sha256:{}", "0".repeat(64)))));
}

#[test]
fn documents_that_say_something_else_are_refused() {
    let refused = |words: &str, change: &dyn Fn(&mut Value)| {
        let error = changed(|maker, descriptor| manifest(maker, descriptor, change)).to_string();
        assert!(error.contains(words), "{words}: {error}");
    };
    refused("no image's configuration", &|m| {
        m["config"]["mediaType"] = json!("application/vnd.oci.empty.v1+json")
    });
    refused("schema version", &|m| m["schemaVersion"] = json!(1));
    refused("says of itself", &|m| m["mediaType"] = json!("application/vnd.oci.image.index.v1+json"));
    refused("a layer of the type", &|m| m["layers"][0]["mediaType"] = json!("application/x-tar"));
    refused("does not list", &|m| m["layers"] = json!([]));
    refused("no SHA-256 digest", &|m| m["layers"][0]["digest"] = json!("sha512:00"));
    refused("no SHA-256 digest", &|m| m["layers"][0]["digest"] = json!("sha256:../../../etc/passwd"));
    let error = changed(|_, descriptor| descriptor["mediaType"] = json!("text/plain")).to_string();
    assert!(error.contains("neither an index nor a manifest"), "{error}");
}

#[test]
fn a_layer_that_decompresses_to_something_else_is_refused() {
    let tar = Tar::default().file("a", b"x").end();
    let mut layer = gzipped(&tar);
    layer.diff_id = sha256(b"something else");
    assert!(refused(&[layer]).to_string().contains("decompressed"));
    // What follows the archive's end counts too.
    let mut layer = gzipped(&tar);
    layer.packed = gzip(&[tar, b"more".to_vec()].concat());
    assert!(refused(&[layer]).to_string().contains("decompressed"));
}

#[test]
fn an_archive_that_is_none_is_refused() {
    let archive = |layer: Layer| matches!(refused(&[layer]), ImageError::Archive { .. });
    let tar = Tar::default().file("a", &[7; 2000]).end();
    let cut = &tar[..1000];
    assert!(archive(plain(cut)));
    assert!(archive(plain(&[7; 512])));
    let mut layer = gzipped(&tar);
    layer.packed.truncate(layer.packed.len() - 9);
    assert!(archive(layer.clone()));
    layer.packed = b"no gzip".to_vec();
    assert!(archive(layer));
    let mut layer = zstandard(&tar);
    layer.packed = b"no zstandard".to_vec();
    assert!(archive(layer));
}

#[test]
fn a_layout_whose_blobs_are_links_is_refused() {
    let temp = Temp::new();
    let maker = Maker::layers(&temp, &[plain(&Tar::default().file("a", b"x").end())]);
    let blob = blob_of(&maker, &maker.manifests[0]);
    fs::rename(&blob, temp.0.join("elsewhere")).unwrap();
    std::os::unix::fs::symlink(temp.0.join("elsewhere"), &blob).unwrap();
    let error = temp.import().unwrap_err();
    assert!(matches!(error, ImageError::Read { .. }), "{error}");
}

#[test]
fn indexes_that_name_each_other_end() {
    let temp = Temp::new();
    let mut maker = Maker::new(&temp);
    let kind = "application/vnd.oci.image.index.v1+json";
    let mut descriptor = maker.json(kind, &json!({"schemaVersion": 2, "manifests": []}));
    for _ in 0..10 {
        descriptor = maker.json(kind, &json!({"schemaVersion": 2, "manifests": [descriptor]}));
    }
    maker.manifests = vec![descriptor];
    maker.index();
    let error = temp.import().unwrap_err();
    assert!(matches!(&error, ImageError::Limit { what, .. } if what == "indexes in indexes"), "{error}");
}

#[test]
fn the_places_of_a_workstation_cannot_be_an_images() {
    let temp = Temp::new();
    let ours = ["dev", "proc", "sys", "run", "tmp", "workspace", "octant"];
    let links =
        ours.iter().fold(Tar::default(), |tar, name| tar.link(name, "/etc")).link("etc", "usr/etc").end();
    let root = temp.root(import(&temp, &[plain(&links)]).unwrap().image.digest);
    assert_eq!(left(&root), ["etc"]);
    assert_eq!(left(&root.join("etc")), ["group", "hosts", "nsswitch.conf", "octant", "passwd"]);
    let dirs = ours
        .iter()
        .fold(Tar::default(), |tar, name| tar.file(&format!("{name}/x"), b""))
        .file("etc", b"")
        .end();
    let root = temp.root(import(&temp, &[plain(&dirs)]).unwrap().image.digest);
    assert_eq!(left(&root), ["etc"]);
    let deep = Tar::default().file("etc/passwd/x", b"").file("etc/octant/applets", b"rm\n").end();
    let root = temp.root(import(&temp, &[plain(&deep)]).unwrap().image.digest);
    assert_eq!(fs::read_link(root.join("etc/octant")).unwrap().to_str(), Some("/run/octant/etc/octant"));
}
