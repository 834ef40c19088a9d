//! `cargo x run --pidns` and `--container`: the same system without a virtual machine.

use crate::cpio::Tree;
use crate::image::{self, Source};
use crate::oci;
use crate::packages;
use crate::run::EXAMPLE;
use crate::sh::{self, Res, Steps};
use crate::workspace::Workspace;
use std::io::IsTerminal;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus};

/// Gives a container's runtime a pure cgroup v2 view where the machine mixes both versions: the runtime refuses a
/// mixed one. Only for what this starts: the mount is in a namespace of its own.
const PURE_CGROUP: &str =
    "umount -l /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup && exec \"$@\"";

/// The layers of isolation that this machine cannot give, as options.
fn missing_layers() -> Vec<&'static str> {
    let controllers = std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    if has_controllers(&controllers) {
        return Vec::new();
    }
    eprintln!(
        "      this machine has no cgroup v2 with the controllers cpu, memory and pids, so agents run WITHOUT LIMITS\n      \
         (--accept-missing cgroup: development only, and on record); `cargo x run` has them"
    );
    vec!["--accept-missing", "cgroup"]
}

fn has_controllers(text: &str) -> bool {
    ["cpu", "memory", "pids"].iter().all(|wanted| text.split_whitespace().any(|word| word == *wanted))
}

/// The job: the given one, or the example where nobody is at the terminal.
fn job_or_example(job: Option<String>) -> Option<String> {
    let terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    job.or_else(|| (!terminal).then(|| EXAMPLE.to_owned()))
}

/// `octant up`: a PID namespace of this machine.
pub(crate) fn pidns(workspace: &Workspace, source: &Source, job: Option<String>) -> Res<ExitCode> {
    let mut steps = Steps::new(3);
    steps.next(&source.step());
    let binary = source.get(workspace)?;
    steps.next("a trusted operator, and the example");
    let dir = instance_place(&workspace.target)?;
    let key = image::operator_key(workspace, &binary)?;
    sh::copy(&key.with_extension("pub"), &dir.join("etc/trusted/operator.pub"))?;
    let files = public_place()?;
    let example = place_example(workspace, &binary, &files, &key)?;
    steps.next("octant up");
    let mut words =
        vec![binary.display().to_string(), "up".into(), "--dir".into(), dir.display().to_string()];
    words.extend(missing_layers().into_iter().map(str::to_owned));
    if let Some(job) = job_or_example(job) {
        // The example's place is another one than in an image, and `octant` is not on this machine's PATH.
        let job = job.replace(image::EXAMPLES, &files.display().to_string());
        let (secret, binary) = (files.join("secret"), binary.display());
        let places = format!("OCTANT={binary} EXAMPLE={} SECRET={}", example.display(), secret.display());
        let job = format!("export {places}; {job}");
        words.extend(["--".into(), "sh".into(), "-c".into(), job]);
    }
    let mut command = as_root(&words)?;
    println!("      {}", sh::shown(&command));
    let status = command.status().map_err(|error| format!("{}: {error}", words[0]));
    sh::remove(&files)?;
    Ok(exit_code(status?))
}

/// Where the instance lives: below the target directory, or, where the services' users cannot get there (a home that
/// is closed to others), in a new directory of its own, which stays.
fn instance_place(target: &Path) -> Res<PathBuf> {
    let open = |dir: &Path| std::fs::metadata(dir).is_ok_and(|meta| meta.permissions().mode() & 0o001 != 0);
    if target.ancestors().all(open) {
        return Ok(target.join("run/up"));
    }
    let place = public_place()?;
    println!("      {} is closed to other users: the instance is in {}", target.display(), place.display());
    Ok(place)
}

/// A new directory of which an agent may be granted files: a role's ceiling has no place in a checkout or home.
fn public_place() -> Res<PathBuf> {
    let made = sh::text(Command::new("mktemp").args(["-d", "/tmp/octant-example.XXXXXXXX"]))?;
    let dir = PathBuf::from(made.trim());
    sh::output(Command::new("chmod").arg("755").arg(&dir))?;
    Ok(dir)
}

/// The incident-report example below `dir`, with the paths that it has there, signed; gives its directory.
fn place_example(workspace: &Workspace, binary: &Path, dir: &Path, key: &Path) -> Res<PathBuf> {
    let from = workspace.root.join("examples/incident-report");
    let to = dir.join("incident-report");
    let logs = dir.join("logs");
    image::write_logs(&logs)?;
    for file in sh::list(&from)?.into_iter().filter(|path| path.is_file()) {
        let text = sh::read_text(&file)?.replace("/srv/logs", &logs.display().to_string());
        let text = text.replace(&format!("{}/incident-report", image::EXAMPLES), &to.display().to_string());
        sh::write(&to.join(file.file_name().unwrap_or_default()), text)?;
    }
    image::sign(binary, key, &to.join("manifest.toml"), &to.join("manifest.signed.json"))?;
    Ok(to)
}

/// A container made from the bundle, by crun. Its root has the operator's key and the example besides `/octant`.
pub(crate) fn container(workspace: &Workspace, source: &Source, job: Option<String>) -> Res<ExitCode> {
    let mut steps = Steps::new(3);
    steps.next(&source.step());
    packages::ensure(workspace, &[&packages::CRUN])?;
    let binary = source.get(workspace)?;
    steps.next("making the bundle");
    let bundle = workspace.target.join("run/container");
    sh::remove(&bundle)?;
    let mut tree = Tree::default();
    tree.file("octant", 0o755, sh::read(&binary)?);
    image::add_examples(workspace, &binary, &mut tree)?;
    tree.write_to(&bundle.join("rootfs"))?;
    let mut more = missing_layers();
    let job = job_or_example(job);
    if let Some(job) = &job {
        more.extend(["--job", job]);
    }
    let config = sh::read_text(&workspace.root.join("image/oci/config.json"))?;
    sh::write(&bundle.join("config.json"), oci::with_arguments(&config, &more)?)?;
    steps.next("crun run");
    let name = format!("octant-{}", std::process::id());
    let mixed = !Path::new("/sys/fs/cgroup/cgroup.controllers").is_file();
    let mut words: Vec<String> = Vec::new();
    if mixed {
        words.extend(["unshare", "--mount", "sh", "-c", PURE_CGROUP, "sh"].map(str::to_owned));
    }
    words.push("crun".into());
    words.extend(mixed.then(|| "--cgroup-manager=disabled".to_owned()));
    words.extend(["run".into(), "--bundle".into(), bundle.display().to_string(), name]);
    let mut command = as_root(&words)?;
    println!("      {}", sh::shown(&command));
    let status = command.status().map_err(|error| format!("crun could not be started: {error}"))?;
    Ok(exit_code(status))
}

/// A command with root's rights: as it is for root, by sudo where that asks nothing.
fn as_root(words: &[String]) -> Res<Command> {
    match packages::means() {
        packages::Means::Root => {
            let mut command = Command::new(&words[0]);
            command.args(&words[1..]);
            Ok(command)
        }
        packages::Means::Sudo => {
            let mut command = Command::new("sudo");
            command.arg("-n").args(words);
            Ok(command)
        }
        packages::Means::None => Err(format!(
            "this makes namespaces and users, which takes root. Run it with:\n  sudo {}\n`cargo x run` boots a virtual machine \
             and needs no rights",
            words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" ")
        )),
    }
}

/// Another program's end as this one's.
pub(crate) fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_need_all_three_controllers_by_their_whole_names() {
        assert!(has_controllers("cpuset cpu io memory hugetlb pids\n"));
        assert!(!has_controllers("cpuset memory pids\n"));
        assert!(!has_controllers(""));
    }
}
