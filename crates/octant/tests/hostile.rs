//! Archives, files and trees that were made to do harm.

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const BINARY: &str = env!("CARGO_BIN_EXE_octant");

/// A directory with `in`, where everything is unpacked, and `outside`, which must stay as it is.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("octant-{}-hostile-{name}", std::process::id()));
        fs::create_dir_all(path.join("in")).unwrap();
        fs::create_dir_all(path.join("outside")).unwrap();
        fs::write(path.join("outside/secret"), "untouched").unwrap();
        Self(path)
    }

    fn inside(&self) -> PathBuf {
        self.0.join("in")
    }

    /// Runs a utility in `in`.
    fn run(&self, arguments: &[&str], input: &[u8]) -> Output {
        let mut command = Command::new(BINARY);
        command.args(arguments).current_dir(self.inside()).env("LC_ALL", "C.UTF-8");
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut pipe = child.stdin.take().unwrap();
        std::thread::scope(|scope| {
            // Who refuses its input closes it first.
            scope.spawn(move || drop(pipe.write_all(input)));
            child.wait_with_output().unwrap()
        })
    }

    /// Nothing came to lie outside, and what was there is as it was.
    fn untouched(&self, what: &str) {
        let outside: Vec<_> =
            fs::read_dir(self.0.join("outside")).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(outside, ["secret"], "{what}");
        assert_eq!(fs::read_to_string(self.0.join("outside/secret")).unwrap(), "untouched", "{what}");
        let mut beside: Vec<_> = fs::read_dir(&self.0).unwrap().map(|e| e.unwrap().file_name()).collect();
        beside.sort();
        assert_eq!(beside, ["in", "outside"], "{what}");
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // What is left over in the temporary directory harms no later run.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A member of a tar archive: name, kind, what it links to, bytes.
fn member(name: &str, kind: u8, link: &str, body: &[u8]) -> Vec<u8> {
    let mut header = [0_u8; 512];
    let mut put = |at: usize, text: &[u8]| header[at..at + text.len()].copy_from_slice(text);
    put(0, name.as_bytes());
    put(100, b"0000644\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{:011o}\0", body.len()).as_bytes());
    put(136, b"00000000000\0");
    put(148, b"        ");
    put(156, &[kind]);
    put(157, link.as_bytes());
    put(257, b"ustar\x0000");
    let sum: u32 = header.iter().map(|&b| u32::from(b)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut bytes = header.to_vec();
    bytes.extend(body);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn archive(members: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = members.concat();
    bytes.extend([0; 1024]);
    bytes
}

#[test]
fn no_archive_reaches_out_of_its_directory() {
    let good = member("good", b'0', "", b"good");
    let cases: &[(&str, Vec<Vec<u8>>)] = &[
        ("parent", vec![member("../outside/x", b'0', "", b"x")]),
        ("parent-within", vec![member("a/../../outside/x", b'0', "", b"x")]),
        ("link-up", vec![member("l", b'2', "../outside", b""), member("l/x", b'0', "", b"x")]),
        (
            "link-over",
            vec![
                member("l", b'2', "../outside/secret", b""),
                member("l/", b'5', "", b""),
                member("l/../../outside/x", b'0', "", b"x"),
            ],
        ),
        (
            "link-deep",
            vec![
                member("d/", b'5', "", b""),
                member("d/l", b'2', "../..", b""),
                member("d/l/outside/x", b'0', "", b"x"),
            ],
        ),
        ("hard-out", vec![member("h", b'1', "../outside/secret", b""), member("h", b'0', "", b"over")]),
        ("hard-through", vec![member("l", b'2', "../outside", b""), member("h", b'1', "l/secret", b"")]),
        ("directory-through", vec![member("l", b'2', "../outside", b""), member("l/x/", b'5', "", b"")]),
    ];
    for (name, members) in cases {
        let place = Place::new(name);
        let mut members = members.clone();
        members.push(good.clone());
        let output = place.run(&["tar", "-xf", "-"], &archive(&members));
        assert_eq!(output.status.code(), Some(2), "{name}: {}", errors(&output));
        place.untouched(name);
        assert_eq!(
            fs::read(place.inside().join("good")).unwrap(),
            b"good",
            "{name}: what is harmless is unpacked"
        );
    }
}

#[test]
fn links_that_were_there_before_are_not_followed() {
    let place = Place::new("before");
    symlink("../outside", place.inside().join("d")).unwrap();
    symlink("../outside/secret", place.inside().join("f")).unwrap();
    let bytes = archive(&[member("d/x", b'0', "", b"x"), member("f", b'0', "", b"new")]);
    let output = place.run(&["tar", "-xf", "-"], &bytes);
    assert_eq!(output.status.code(), Some(2));
    place.untouched("links before");
    assert_eq!(fs::read(place.inside().join("f")).unwrap(), b"new");
    assert!(fs::symlink_metadata(place.inside().join("f")).unwrap().is_file());
}

#[test]
fn absolute_names_lie_below_and_a_link_to_the_root_is_only_a_link() {
    let place = Place::new("absolute");
    let absolute = place.0.join("outside/x").display().to_string();
    let bytes = archive(&[member(&absolute, b'0', "", b"x"), member("root", b'2', "/", b"")]);
    let output = place.run(&["tar", "-xf", "-"], &bytes);
    assert!(output.status.success(), "{}", errors(&output));
    place.untouched("absolute");
    assert_eq!(fs::read(place.inside().join(absolute.trim_start_matches('/'))).unwrap(), b"x");
    assert_eq!(fs::read_link(place.inside().join("root")).unwrap(), Path::new("/"));
}

#[test]
fn names_with_newlines_and_escapes_are_one_harmless_line() {
    let place = Place::new("newline");
    let bytes = archive(&[member("a\n../outside/x\x1b[2J", b'0', "", b"x"), member("b", b'0', "", b"x")]);
    let output = place.run(&["tar", "-tf", "-"], &bytes);
    let listed = String::from_utf8(output.stdout).unwrap();
    assert_eq!(listed.lines().count(), 2, "{listed:?}");
    assert!(!listed.contains('\x1b'));
}

#[test]
fn bombs_end_at_the_limit_and_damage_is_told() {
    let place = Place::new("bomb");
    let zeros = archive(&[member("zeros", b'0', "", &vec![0; 3 << 20])]);
    for codec in ["gzip", "bzip2", "xz", "zstd"] {
        let packed = place.run(&[codec, "-c"], &zeros);
        let output = place.run(&["tar", "--limit=1M", "-xf", "-"], &packed.stdout);
        assert_eq!(output.status.code(), Some(2), "{codec}");
        assert!(errors(&output).contains("--limit"), "{codec}: {}", errors(&output));
        let output = place.run(&[codec, "-dc", "--limit=1M"], &packed.stdout);
        assert_eq!(output.status.code(), Some(1), "{codec}");
        assert!(place.run(&["tar", "-xf", "-"], &packed.stdout).status.success(), "{codec}");
        let cut = &packed.stdout[..packed.stdout.len() - 5];
        assert_eq!(place.run(&["tar", "-tf", "-"], cut).status.code(), Some(2), "{codec}");
    }
    let mut damaged = zeros.clone();
    damaged[3] ^= 1;
    assert!(errors(&place.run(&["tar", "-tf", "-"], &damaged)).contains("checksum"));
    assert_eq!(place.run(&["tar", "-tf", "-"], &zeros[..4096]).status.code(), Some(2));
    // A long name that is longer than any.
    let long =
        archive(&[member("././@LongLink", b'L', "", &vec![b'a'; 1 << 20]), member("a", b'0', "", b"")]);
    assert!(errors(&place.run(&["tar", "-tf", "-"], &long)).contains("64 KiB"));
    place.untouched("bombs");
}

/// A zip archive of one member, stored.
fn zip(name: &str, body: &[u8]) -> Vec<u8> {
    let crc = !body.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    });
    let size = u32::try_from(body.len()).unwrap().to_le_bytes();
    let length = u16::try_from(name.len()).unwrap().to_le_bytes();
    let common = [&[0, 0, 0, 0, 0, 0, 0, 0][..], &crc.to_le_bytes(), &size, &size, &length, &[0, 0]].concat();
    let mut bytes = [b"PK\x03\x04\x14\0", &common[..], name.as_bytes(), body].concat();
    let start = u32::try_from(bytes.len()).unwrap();
    let central = [
        b"PK\x01\x02\x14\x03\x14\0",
        &common[..],
        &[0; 6],
        &0x81a4_0000_u32.to_le_bytes(),
        &[0; 4],
        name.as_bytes(),
    ]
    .concat();
    let length = u32::try_from(central.len()).unwrap();
    bytes.extend(central);
    bytes.extend(
        [b"PK\x05\x06\0\0\0\0\x01\0\x01\0", &length.to_le_bytes()[..], &start.to_le_bytes(), &[0, 0]]
            .concat(),
    );
    bytes
}

#[test]
fn zip_and_cpio_reach_out_no_farther() {
    let place = Place::new("zip");
    for (name, good) in [("../outside/x", false), ("a/../../outside/x", false), ("/a/x", true), ("ok", true)]
    {
        fs::write(place.inside().join("z.zip"), zip(name, b"body")).unwrap();
        let output = place.run(&["unzip", "-o", "z.zip"], b"");
        assert_eq!(output.status.success(), good, "{name}: {}", errors(&output));
        place.untouched(name);
    }
    assert_eq!(fs::read(place.inside().join("ok")).unwrap(), b"body");
    let mut wrong = zip("ok", b"body");
    wrong[14] ^= 1;
    wrong[30 + 2 + 4 + 16] ^= 1;
    fs::write(place.inside().join("z.zip"), &wrong).unwrap();
    assert!(!place.run(&["unzip", "-t", "z.zip"], b"").status.success(), "a wrong checksum is taken");
    let entry = |name: &str, mode: u32, body: &str| {
        let mut bytes = format!(
            "070701{:08X}{mode:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{}{:08X}{:08X}{name}\0",
            1,
            0,
            0,
            1,
            0,
            body.len(),
            "0".repeat(32),
            name.len() + 1,
            0
        );
        while bytes.len() % 4 != 0 {
            bytes.push('\0');
        }
        bytes.push_str(body);
        while bytes.len() % 4 != 0 {
            bytes.push('\0');
        }
        bytes
    };
    let link = entry("l", 0o120_777, "../outside") + &entry("l/x", 0o100_644, "x");
    for bad in [entry("../outside/x", 0o100_644, "x"), link] {
        let bytes = bad + &entry("fine", 0o100_644, "fine") + &entry("TRAILER!!!", 0, "");
        let output = place.run(&["cpio", "-id", "--quiet"], bytes.as_bytes());
        assert_eq!(output.status.code(), Some(2), "{}", errors(&output));
        place.untouched("cpio");
        assert_eq!(fs::read(place.inside().join("fine")).unwrap(), b"fine");
    }
}

#[test]
fn a_line_of_four_mib_goes_through() {
    let place = Place::new("line");
    let mut line = b"word ".repeat((4 << 20) / 5);
    line.extend(b"needle\n");
    let length = line.len();
    for (arguments, wanted) in [
        (&["wc", "-lc"][..], format!("{:>7} {length:>7}\n", 1)),
        (&["grep", "-c", "needle"], "1\n".into()),
        (&["cut", "-c1-4"], "word\n".into()),
        (&["tail", "-c7"], "needle\n".into()),
        (&["sh", "-c", "sort | wc -c"], format!("{length}\n")),
        (&["sh", "-c", "tr d D | tail -c 7"], "neeDle\n".into()),
    ] {
        let output = place.run(arguments, &line);
        let found = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(
            found.split_whitespace().collect::<Vec<_>>(),
            wanted.split_whitespace().collect::<Vec<_>>(),
            "{arguments:?}: {}",
            errors(&output)
        );
    }
}

#[test]
fn deep_trees_loops_and_strange_names_are_walked() {
    let place = Place::new("deep");
    // Deeper than a path may be long: each directory is made from the one above.
    let script = "mkdir t; cd t; for i in $(seq 300); do mkdir d123456789012345; cd d123456789012345; done; echo x >bottom";
    let made = Command::new("/bin/sh").args(["-c", script]).current_dir(place.inside()).output().unwrap();
    assert!(made.status.success(), "{}", errors(&made));
    fs::create_dir(place.inside().join("l")).unwrap();
    symlink(".", place.inside().join("l/here")).unwrap();
    symlink("loop", place.inside().join("l/loop")).unwrap();
    fs::write(place.inside().join("l/new\nline"), "x").unwrap();
    for (arguments, code) in [
        (&["find", "l", "-name", "n*"][..], 0),
        (&["find", "-L", "l", "-name", "n*"], 1),
        (&["grep", "-r", "x", "l"], 0),
        (&["grep", "-rq", "x", "t"], 0),
        (&["grep", "-R", "x", "l"], 2),
        (&["tree", "l"], 0),
        (&["diff", "-r", "l", "l"], 2),
        (&["du", "-s", "l"], 0),
        (&["cp", "-r", "l", "copy"], 0),
        (&["rm", "-r", "t"], 0),
    ] {
        let output = place.run(arguments, b"");
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", errors(&output));
    }
    assert!(!place.inside().join("t").exists());
}

#[test]
fn bytes_that_are_no_text_are_searched() {
    let place = Place::new("binary");
    fs::write(place.inside().join("b"), b"abc\0def\nxyz\xff\n").unwrap();
    let output = place.run(&["grep", "def", "b"], b"");
    assert!(output.status.success() && String::from_utf8_lossy(&output.stdout).len() < 40, "{output:?}");
    assert_eq!(place.run(&["grep", "-c", "xyz", "b"], b"").stdout, b"1\n");
    assert_eq!(place.run(&["grep", "-q", "nothing", "b"], b"").status.code(), Some(1));
}
