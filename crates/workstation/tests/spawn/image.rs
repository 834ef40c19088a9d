//! Workstations whose root is an image.

use crate::bench::{Bench, STATIC, plan, wait};
use octant_ids::{Layout, Sha256};
use octant_workstation::{Bind, Plan, Step};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What this very program needs where it is not static.
const LIBRARIES: [&str; 4] = ["libc.so.6", "libgcc_s.so.1", "libm.so.6", "libseccomp.so.2"];
const IMAGE: Sha256 = Sha256([0xa5; 32]);
/// The top level of the image.
const TOP: [&str; 6] = ["app", "lib", "lib64", "sbin", "srv", "usr"];

/// An image as an import would have made it, with this program at `/app/tool`.
fn image(bench: &Bench) -> PathBuf {
    let root = Layout::under(&bench.dir.join("octant")).images().join(IMAGE.to_string()).join("root");
    for dir in ["app", "bin", "etc", "srv", "usr/lib/x86_64-linux-gnu", "usr/lib64", "usr/sbin"] {
        fs::create_dir_all(root.join(dir)).unwrap();
    }
    fs::copy(std::env::current_exe().unwrap(), root.join("app/tool")).unwrap();
    fs::write(root.join("etc/app.conf"), "of the image").unwrap();
    fs::write(root.join("bin/data"), "").unwrap();
    for name in ["passwd", "group", "hosts", "nsswitch.conf", "octant"] {
        symlink(format!("/run/octant/etc/{name}"), root.join("etc").join(name)).unwrap();
    }
    for name in ["lib", "lib64", "sbin"] {
        symlink(format!("usr/{name}"), root.join(name)).unwrap();
    }
    if !STATIC {
        let copy = |from: &str, to: &str| drop(fs::copy(from, root.join(to)));
        copy("/lib64/ld-linux-x86-64.so.2", "usr/lib64/ld-linux-x86-64.so.2");
        for name in LIBRARIES {
            let at = format!("usr/lib/x86_64-linux-gnu/{name}");
            copy(&format!("/{at}"), &at);
        }
    }
    root
}

/// A plan that executes the image's program, and has nothing of the host.
fn of_image(args: &[&str]) -> Plan {
    let mut plan = plan(args);
    plan.root = Some(IMAGE);
    plan.binds.clear();
    plan.links.clear();
    plan.program.path = "/app/tool".into();
    plan
}

fn path(plan: &Plan) -> &str {
    plan.program.env.iter().find_map(|variable| variable.strip_prefix("PATH=")).unwrap()
}

/// Where the program was started.
pub(crate) fn directory() -> ExitCode {
    println!(
        "cwd: {}",
        std::env::current_dir().map_or_else(|error| error.to_string(), |dir| dir.display().to_string())
    );
    ExitCode::SUCCESS
}

/// What the program of the image says of where it is.
pub(crate) fn inside() -> ExitCode {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_else(|error| error.kind().to_string());
    let list = |path: &str| {
        let mut names: Vec<_> = fs::read_dir(path)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names.join(" ")
    };
    println!("conf: {}", read("/etc/app.conf"));
    println!("user: {}", read("/etc/passwd").lines().next().unwrap());
    println!("applets: {}", read("/etc/octant/applets").replace('\n', " "));
    println!("bin: {}; ours: {}", list("/bin"), list("/run/octant/bin"));
    println!("host: {}", read("/etc/os-release"));
    println!("granted: {}, {}", read("/srv/data/file"), read("/usr/share/x/file"));
    for path in ["/app/new", "/etc/app.conf", "/etc/passwd", "/new", "/run/octant/bin/new"] {
        println!(
            "{path}: {}",
            fs::write(path, "x").map_or_else(|error| error.kind().to_string(), |()| "written".into())
        );
    }
    if let Ok(says) = std::env::var("IMAGE_SAYS") {
        println!("variable: {says}; {}", std::env::var("PATH").unwrap());
    }
    ExitCode::SUCCESS
}

const SAID: &str = "conf: of the image
user: agent:x:1000:1000:agent:/workspace:/bin/sh
applets: ls sh \n\
bin: data; ours: ls sh
host: entity not found
";
const READ_ONLY: &str = "/app/new: read-only filesystem or storage medium
/etc/app.conf: read-only filesystem or storage medium
/etc/passwd: read-only filesystem or storage medium
/new: read-only filesystem or storage medium
/run/octant/bin/new: read-only filesystem or storage medium
";

pub(crate) fn a_program_of_an_image_runs_in_its_own_root() {
    let mut bench = Bench::new(None);
    image(&bench);
    let (code, text) = bench.run(&of_image(&["image"]));
    assert_eq!(code, 0, "{text}");
    assert_eq!(text, format!("{SAID}granted: entity not found, entity not found\n{READ_ONLY}"));
    // With the variables of its maker, which are Octant's where both have one.
    let mut variables = of_image(&["image"]);
    variables.image_environment = true;
    let error = bench.spawn(&variables).unwrap_err().to_string();
    assert!(error.contains("read what is known of the image"), "{error}");
    let known = Layout::under(&bench.dir.join("octant")).images().join(IMAGE.to_string()).join("image.json");
    fs::write(&known, r#"{"version": 1, "config": {"env": ["PATH=/evil", "IMAGE_SAYS=so"]}}"#).unwrap();
    let (code, more) = bench.run(&variables);
    assert_eq!((code, more), (0, format!("{text}variable: so; {}\n", path(&variables))));
    let (code, again) = bench.run(&of_image(&["image"]));
    assert_eq!((code, again), (0, text), "a plan that does not say so has none of them");
    fs::write(&known, r#"{"version": 1, "config": {"env": ["=nameless"]}}"#).unwrap();
    assert!(bench.spawn(&variables).unwrap_err().to_string().contains("variable"));
    // In the directory of its maker, or where it is told to be where that named none.
    let mut directory = of_image(&["cwd"]);
    (directory.image_cwd, directory.program.cwd) = (true, "/tmp".into());
    for (named, is) in [("/usr/", "/usr"), ("", "/tmp"), ("/", "/")] {
        let config = format!(r#"{{"version": 1, "config": {{"env": [], "working_dir": "{named}"}}}}"#);
        fs::write(&known, config).unwrap();
        assert_eq!(bench.run(&directory), (0, format!("cwd: {is}\n")), "{named}");
    }
    for (named, why) in
        [("/usr/../etc", "working directory"), ("usr", "working directory"), ("/nowhere", "/nowhere")]
    {
        let config = format!(r#"{{"version": 1, "config": {{"env": [], "working_dir": "{named}"}}}}"#);
        fs::write(&known, config).unwrap();
        let error = bench.spawn(&directory).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
    // While it runs, its mounts say so: `octant image rm` looks for that.
    let running = of_image(&["sleep"]);
    let (spawned, mut output) = bench.spawn(&running).unwrap();
    crate::read_line(&mut output);
    let mounts = fs::read_to_string(format!("/proc/{}/mountinfo", spawned.report.payload_pid)).unwrap();
    let usr = mounts.lines().find(|line| line.split(' ').nth(4) == Some("/usr")).unwrap();
    assert!(usr.split(' ').nth(3).unwrap().contains(&format!("/{IMAGE}/root/usr")), "{usr}");
    bench.client.retire(running.slot, running.aid).unwrap();
    wait(&spawned);
    // And nothing else than without an image gets through.
    let outside = format!("pid={}", std::process::id());
    let mut probe = of_image(&["probe", "image", &outside, "pids=64"]);
    // It copies itself.
    (probe.workspace.bytes, probe.tmp.bytes, probe.limits.fsize) = (128 << 20, 128 << 20, 1 << 30);
    probe.program.args.extend(TOP.map(|name| format!("also={name}")));
    probe.program.args.push(format!("hidden={}", bench.dir.display()));
    crate::denied(&mut bench, &probe);
}

/// crun's CVE-2026-47766 and those before it: what an image has where the runtime mounts.
pub(crate) fn what_an_image_has_in_our_places_is_not_seen() {
    let mut bench = Bench::new(None);
    let root = image(&bench);
    let away = bench.dir.join("away");
    fs::create_dir(&away).unwrap();
    // An import leaves none of these; the spawner does not count on that.
    for name in ["dev", "proc", "sys", "tmp", "workspace"] {
        symlink(&away, root.join(name)).unwrap();
    }
    fs::create_dir_all(root.join("run/octant/etc")).unwrap();
    fs::write(root.join("run/octant/etc/passwd"), "root::0:0::/:/bin/sh").unwrap();
    fs::write(root.join("octant"), "not ours").unwrap();
    let (code, text) = bench.run(&of_image(&["image"]));
    assert_eq!(code, 0, "{text}");
    assert!(text.starts_with(SAID), "{text}");
    // Links at the top level are laid out as they are, and what they name is looked up inside.
    fs::remove_dir_all(root.join("etc")).unwrap();
    symlink(&away, root.join("etc")).unwrap();
    fs::write(away.join("app.conf"), "of the host").unwrap();
    let refused = bench.spawn(&of_image(&["image"])).unwrap_err();
    assert_eq!(refused.step, Step::Landlock, "{refused}");
    assert_eq!(fs::read_dir(&away).unwrap().count(), 1);
}

pub(crate) fn grants_lie_over_an_image() {
    let mut bench = Bench::new(None);
    let root = image(&bench);
    let data = bench.dir.join("data");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("file"), "of the host").unwrap();
    let grant = |target: &str| Bind {
        source: data.to_str().unwrap().into(),
        target: target.into(),
        write: false,
        exec: false,
    };
    // /srv of the image is empty, and so a place can be made in it; in /usr one must be there.
    let mut plan = of_image(&["image"]);
    plan.binds = vec![grant("/srv/data"), grant("/usr/share/x")];
    assert_eq!(bench.spawn(&plan).unwrap_err().step, Step::Attach);
    fs::create_dir_all(root.join("usr/share")).unwrap();
    symlink("/srv", root.join("usr/share/x")).unwrap();
    plan.aid = of_image(&[]).aid;
    assert_eq!(bench.spawn(&plan).unwrap_err().step, Step::Attach, "a link is no place");
    fs::remove_file(root.join("usr/share/x")).unwrap();
    fs::create_dir(root.join("usr/share/x")).unwrap();
    plan.aid = of_image(&[]).aid;
    let (code, text) = bench.run(&plan);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("granted: of the host, of the host\n"), "{text}");
}

pub(crate) fn an_image_that_is_not_there_refuses_the_spawn() {
    let mut bench = Bench::new(None);
    let refused = |bench: &mut Bench| {
        let plan = of_image(&["image"]);
        let error = bench.spawn(&plan).unwrap_err();
        assert_eq!(error.step, Step::Sources, "{error}");
        bench.assert_nothing_is_left(&plan);
        error.to_string()
    };
    assert!(refused(&mut bench).contains("octant image import"));
    let root = image(&bench);
    // Nor one that is reached through a link.
    let (image, away) = (root.parent().unwrap(), bench.dir.join("away"));
    fs::rename(image, &away).unwrap();
    symlink(&away, image).unwrap();
    refused(&mut bench);
    fs::remove_file(image).unwrap();
    fs::create_dir(image).unwrap();
    symlink(Path::new("/"), &root).unwrap();
    refused(&mut bench);
}
