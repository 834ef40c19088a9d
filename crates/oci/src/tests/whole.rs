//! Images as they should be, from the layout to the tree on disk.

use super::maker::{Maker, Tar, Temp, gzip, gzipped, import, left, plain, zstandard, zstd};
use crate::{Choice, ImageError, Limits, Platform};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

/// An image of three layers, each compressed in another way.
fn three() -> Vec<super::maker::Layer> {
    let long = format!("usr/{}/file", "long".repeat(60));
    let first = Tar::default()
        .dir("./")
        .dir("./usr/")
        .dir("usr/bin")
        .program("usr/bin/tool", b"tool 1")
        .same("usr/bin/other", "usr/bin/tool")
        .link("bin", "usr/bin")
        .file("/etc/passwd", b"root:x:0:0::/:/bin/sh\n")
        .file("etc/app.conf", b"1")
        .file("srv/data/a", b"a")
        .file("srv/data/b", b"b")
        .dir("dev")
        .entry(b'3', b"dev/null", b"", 0o666, b"")
        .entry(b'6', b"srv/pipe", b"", 0o666, b"")
        .entry(b'L', b"././@LongLink", b"", 0o644, format!("{long}\0").as_bytes())
        .file("cut", b"long name")
        .pax(&[("path", "srv/caf\u{e9}\nnew line"), ("mtime", "1.5"), ("SCHILY.xattr.user.x", "y")])
        .file("short", b"pax name")
        .entry(b'g', b"pax", b"", 0o644, b"20 comment=of gits.\n")
        .end();
    let second = Tar::default()
        .file("etc/app.conf", b"2 longer")
        .file("srv/.wh.pipe", b"")
        .file("srv/data/.wh.a", b"")
        .file("usr/bin/tool", b"tool 2")
        .file(".wh..wh.plnk/7", b"")
        .end();
    let third = Tar::default().file("srv/data/c", b"c").file("srv/data/.wh..wh..opq", b"").end();
    vec![gzipped(&first), zstandard(&second), plain(&third)]
}

#[test]
fn layers_of_every_compression_become_one_tree() {
    let temp = Temp::new();
    let imported = import(&temp, &three()).unwrap();
    assert!(!imported.known);
    let image = imported.image;
    let root = temp.root(image.digest);
    let read = |name: &str| fs::read_to_string(root.join(name)).unwrap();
    assert_eq!(read("etc/app.conf"), "2 longer");
    assert_eq!(read("usr/bin/tool"), "tool 2");
    assert_eq!(read("usr/bin/other"), "tool 1");
    assert_eq!(read(&format!("usr/{}/file", "long".repeat(60))), "long name");
    assert_eq!(read("srv/caf\u{e9}\nnew line"), "pax name");
    assert_eq!(left(&root.join("srv/data")), ["c"]);
    assert_eq!(left(&root), ["bin", "etc", "srv", "usr"]);
    assert_eq!(fs::read_link(root.join("bin")).unwrap().to_str(), Some("usr/bin"));
    assert_eq!(fs::read_link(root.join("etc/passwd")).unwrap().to_str(), Some("/run/octant/etc/passwd"));
    let stat = |name: &str| fs::symlink_metadata(root.join(name)).unwrap();
    // No setuid bit, no owner of the image's, but the time.
    assert_eq!(stat("usr/bin/other").permissions().mode() & 0o7777, 0o755);
    assert_eq!(stat("etc/app.conf").permissions().mode() & 0o7777, 0o644);
    assert_eq!(stat("usr").permissions().mode() & 0o7777, 0o755);
    assert_eq!(stat("usr/bin/other").uid(), stat("usr").uid());
    assert_eq!(stat("etc/app.conf").mtime(), 1_234_567_890);
    assert_eq!(image.record.left_out, 2);
    assert_eq!(image.record.config.env, ["PATH=/bin", "A=b"]);
    assert_eq!(image.record.config.cmd, ["/bin/sh"]);
    assert!(image.record.config.entrypoint.is_empty());
    assert_eq!(image.record.config.working_dir, "/srv");
    // Where the spawner looks for it.
    let kept: Value = serde_json::from_slice(&fs::read(root.with_file_name("image.json")).unwrap()).unwrap();
    assert_eq!(kept["config"]["env"], json!(["PATH=/bin", "A=b"]));
    assert_eq!(temp.images().verify(image.digest).unwrap(), image);
    assert_eq!(left(&temp.0.join("images")), [image.digest.to_string(), "lock".into(), "names".into()]);
}

#[test]
fn files_with_two_names_are_one_file() {
    let temp = Temp::new();
    let layer = Tar::default().file("a", b"x").same("b", "a").same("c", "b").end();
    let root = temp.root(import(&temp, &[plain(&layer)]).unwrap().image.digest);
    let inode = |name: &str| fs::metadata(root.join(name)).unwrap().ino();
    assert_eq!(inode("a"), inode("b"));
    assert_eq!(inode("a"), inode("c"));
}

#[test]
fn a_tar_file_of_the_layout_is_the_same_image() {
    let temp = Temp::new();
    let directory = import(&temp, &three()).unwrap().image;
    let mut builder = tar::Builder::new(fs::File::create(temp.0.join("layout.tar")).unwrap());
    builder.append_dir_all("./", temp.0.join("layout")).unwrap();
    builder.into_inner().unwrap();
    let images = temp.images();
    let from =
        |choice: &Choice| images.import(&temp.0.join("layout.tar"), choice, &Limits::DEFAULT, Some("t:1"));
    let imported = from(&Choice::default()).unwrap();
    assert!(imported.known);
    assert_eq!(imported.image.digest, directory.digest);
    images.remove(directory.digest).unwrap();
    let imported = from(&Choice::default()).unwrap();
    assert!(!imported.known);
    assert_eq!(imported.image.record, directory.record);
    assert_eq!(imported.image.names, ["t:1"]);
    images.verify(directory.digest).unwrap();
    fs::write(temp.0.join("layout.tar"), gzip(b"x")).unwrap();
    assert!(from(&Choice::default()).unwrap_err().to_string().contains("gunzip"));
}

#[test]
fn several_members_and_frames_are_one_layer() {
    let temp = Temp::new();
    let tar = Tar::default().file("a", &[7; 4000]).end();
    let (head, tail) = tar.split_at(700);
    let mut layer = gzipped(&tar);
    layer.packed = [gzip(head), gzip(tail)].concat();
    let one = import(&temp, &[layer]).unwrap().image;
    let mut layer = zstandard(&tar);
    let skippable = [&0x184d_2a53_u32.to_le_bytes()[..], &3_u32.to_le_bytes(), b"xyz"].concat();
    layer.packed = [&zstd(head)[..], &skippable, &zstd(tail), &skippable].concat();
    let other = import(&temp, &[layer]).unwrap().image;
    assert_ne!(one.digest, other.digest);
    assert_eq!(one.record.tree, other.record.tree);
}

#[test]
fn the_image_for_this_machine_is_chosen() {
    let temp = Temp::new();
    let here = Platform::here().architecture;
    let mut maker = Maker::new(&temp);
    let layer = |text: &[u8]| [plain(&Tar::default().file("which", text).end())];
    let (ours, other) = (maker.image(&here, &layer(b"ours")), maker.image("s390x", &layer(b"other")));
    let index = json!({"schemaVersion": 2, "manifests": [other, ours]});
    let mut nested = maker.json("application/vnd.oci.image.index.v1+json", &index);
    nested["annotations"] = json!({"org.opencontainers.image.ref.name": "1.0"});
    let mut second = maker.image(&here, &layer(b"second"));
    second["annotations"] = json!({"org.opencontainers.image.ref.name": "2.0"});
    maker.manifests = vec![nested, second];
    maker.index();
    let import = |reference: Option<&str>, architecture: &str| {
        let platform = Platform { os: "linux".into(), architecture: architecture.into() };
        let choice = Choice { reference: reference.map(str::to_owned), platform };
        let imported = temp.images().import(&maker.dir, &choice, &Limits::DEFAULT, None)?;
        Ok::<_, ImageError>(fs::read_to_string(temp.root(imported.image.digest).join("which")).unwrap())
    };
    assert_eq!(import(Some("1.0"), &here).unwrap(), "ours");
    assert_eq!(import(Some("1.0"), "s390x").unwrap(), "other");
    assert_eq!(import(Some("2.0"), &here).unwrap(), "second");
    assert!(matches!(import(None, &here), Err(ImageError::Which { count: 2, .. })));
    assert!(matches!(import(Some("3.0"), &here), Err(ImageError::Reference { .. })));
    assert!(matches!(import(Some("2.0"), "s390x"), Err(ImageError::Platform { .. })));
}

#[test]
fn names_stand_for_images_until_they_are_removed() {
    let temp = Temp::new();
    let maker = Maker::layers(&temp, &[plain(&Tar::default().file("a", b"1").end())]);
    let images = temp.images();
    assert!(images.list().unwrap().is_empty());
    assert!(matches!(images.find("one"), Err(ImageError::NotFound(_))));
    let import = |name: &str| images.import(&maker.dir, &Choice::default(), &Limits::DEFAULT, Some(name));
    for bad in ["", ".x", "A", "a/b", "sha256:x", &"a".repeat(65), &"a".repeat(64)] {
        assert!(matches!(import(bad), Err(ImageError::Name(_))), "{bad}");
    }
    let digest = import("one").unwrap().image.digest;
    assert_eq!(import("two").unwrap().image.names, ["one", "two"]);
    let text = digest.to_string();
    for which in ["one", "two", &text, &text[..8], &format!("sha256:{text}")] {
        assert_eq!(images.find(which).unwrap().digest, digest, "{which}");
    }
    assert!(matches!(images.find(&text[..7]), Err(ImageError::NotFound(_))));
    assert_eq!(images.list().unwrap().len(), 1);
    images.remove(digest).unwrap();
    assert!(matches!(images.find("one"), Err(ImageError::NotFound(_))));
    assert_eq!(left(&temp.0.join("images")), ["lock", "names"]);
    assert!(left(&temp.0.join("images/names")).is_empty());
}

#[test]
fn what_changed_after_the_import_does_not_verify() {
    type Change = fn(&std::path::Path);
    let change: [(&str, Change); 6] = [
        ("app.conf", |root| fs::write(root.join("etc/app.conf"), "x").unwrap()),
        ("tool", |root| {
            fs::set_permissions(root.join("usr/bin/tool"), fs::Permissions::from_mode(0o755)).unwrap()
        }),
        ("more", |root| fs::write(root.join("more"), "x").unwrap()),
        ("bin", |root| {
            fs::remove_file(root.join("bin")).unwrap();
            std::os::unix::fs::symlink("/", root.join("bin")).unwrap();
        }),
        ("c", |root| fs::remove_file(root.join("srv/data/c")).unwrap()),
        ("pipe", |root| nix::unistd::mkfifo(&root.join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap()),
    ];
    for (name, change) in change {
        let temp = Temp::new();
        let digest = import(&temp, &three()).unwrap().image.digest;
        change(&temp.root(digest));
        let error = temp.images().verify(digest).unwrap_err();
        assert!(matches!(error, ImageError::Changed { .. }) && error.to_string().contains(name), "{error}");
    }
}

#[test]
fn what_a_dead_import_left_is_not_used_and_goes() {
    let temp = Temp::new();
    let digest = import(&temp, &three()).unwrap().image.digest;
    let dead = temp.0.join("images/new-1");
    fs::create_dir_all(dead.join("root/usr")).unwrap();
    fs::write(dead.join("image.json"), "{").unwrap();
    assert_eq!(temp.images().list().unwrap().len(), 1);
    assert!(temp.import().unwrap().known);
    assert!(!dead.exists());
    temp.images().verify(digest).unwrap();
}
