//! The image made `FROM scratch`: one file, under an OCI runtime, with the privileges that its README lists.

use octant_tests::environment::{Scratch, path};
use std::fs;
use std::path::Path;
use std::process::Command;

/// Copies the bundle and gives it `job` to run.
fn bundle_with(scratch: &Scratch, job: &str) -> std::path::PathBuf {
    let bundle = scratch.path("bundle");
    let copied = Command::new("cp").arg("-a").arg(path("OCTANT_BUNDLE")).arg(&bundle).status();
    assert!(copied.as_ref().is_ok_and(std::process::ExitStatus::success), "{copied:?}");
    let file = bundle.join("config.json");
    let config = fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let args = r#""args": ["/octant", "init", "--mode", "container"]"#;
    assert!(config.contains(args), "the bundle's arguments are not the ones that its README names");
    let job = job.replace('\\', "\\\\").replace('"', "\\\"");
    let with_job = format!(
        r#""args": ["/octant", "init", "--mode", "container", "--accept-missing", "cgroup", "--job", "{job}"]"#
    );
    fs::write(&file, config.replace(args, &with_job)).unwrap_or_else(|e| panic!("{e}"));
    bundle
}

/// Runs the bundle for two minutes at the most.
fn run(bundle: &Path, name: &str) -> (Option<i32>, String) {
    // A machine whose cgroup hierarchies are mixed has no pure v2 view, which the runtime demands: it is given one.
    let script = "umount -l /sys/fs/cgroup 2>/dev/null; mount -t cgroup2 cgroup2 /sys/fs/cgroup && \
                  exec timeout --kill-after=5 120 crun --cgroup-manager=disabled run --bundle \"$0\" \"$1\"";
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", script])
        .arg(bundle)
        .arg(format!("octant-{name}-{}", std::process::id()))
        .output()
        .unwrap_or_else(|e| panic!("crun: {e}"));
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.code(), text)
}

#[test]
fn the_image_is_one_file() {
    let root = path("OCTANT_BUNDLE").join("rootfs");
    let names: Vec<_> =
        fs::read_dir(&root).unwrap_or_else(|e| panic!("{e}")).flatten().map(|e| e.file_name()).collect();
    assert_eq!(names, ["octant"]);
}

#[test]
fn the_services_come_up_in_a_container_of_one_file() {
    let scratch = Scratch::new("container");
    let bundle = bundle_with(&scratch, "octant health --wait 60s && octant status && octant ledger verify");
    let (code, text) = run(&bundle, "health");
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("ledger"), "{text}");
}

#[test]
fn the_example_runs_in_a_container_of_one_file() {
    let scratch = Scratch::new("container-example");
    let bundle = bundle_with(&scratch, "sh /usr/share/octant/examples/incident-report/run.sh");
    let root = bundle.join("rootfs");
    let example = octant_tests::agents::guest_files().join("../../examples/incident-report");
    let target = root.join("usr/share/octant/examples/incident-report");
    let made = [&target, &root.join("srv/logs"), &root.join("etc/octant/trusted")]
        .into_iter()
        .try_for_each(fs::create_dir_all);
    made.unwrap_or_else(|e| panic!("{e}"));
    for name in ["report.sh", "run.sh"] {
        fs::copy(example.join(name), target.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
    octant_tests::agents::sign(&example.join("manifest.toml"), &target.join("manifest.signed.json"));
    crate::namespace::write_logs(&root.join("srv/logs"));
    let public = path("OCTANT_OPERATOR_KEY").with_extension("pub");
    fs::copy(public, root.join("etc/octant/trusted/operator.pub")).unwrap_or_else(|e| panic!("{e}"));
    let (code, text) = run(&bundle, "example");
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("# Incident report") && text.contains("incident-report: done"), "{text}");
}
