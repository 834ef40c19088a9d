//! From what was seen to a manifest.

use crate::seen::Seen;
use octant_manifest::{DENIED_SYSCALLS, Draft, Host, Outline, Profile};
use octant_workstation::{grantable, permits};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Where the program was started, and what the manifest is to say of it.
#[derive(Debug, Clone)]
pub struct Place {
    /// The directory it worked in, without links.
    pub cwd: PathBuf,
    /// The program, without links.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// The agent's name.
    pub name: String,
    /// Its role.
    pub role: String,
    /// The operator.
    pub operator: String,
}

/// Trees that are granted whole once something in them is used: a distribution's programs belong together.
const WHOLE: [&str; 1] = ["/usr"];
/// Every workstation has its own of these, or none; and the links of a merged `/usr` are made where `/usr` is granted.
const OWN: [&str; 11] = [
    "/bin",
    "/dev",
    "/lib",
    "/lib64",
    "/octant",
    "/proc",
    "/sbin",
    "/sys",
    "/tmp",
    "/workspace",
    "/run/octant",
];
/// Those of them in which something of the machine's can be shown.
const OWN_DIRS: [&str; 2] = ["/tmp", "/workspace"];
/// The workstation's own files.
const OWN_FILES: [&str; 3] = ["/etc/group", "/etc/hosts", "/etc/passwd"];
/// From so many files of one directory on, the directory is granted instead.
const FEW: usize = 8;

/// The manifest that lets a program do again what it was seen to do, and what of that cannot be granted.
#[must_use]
pub fn outline(seen: &Seen, place: &Place, host: &Host<'_>) -> (Outline, Vec<String>) {
    let mut notes = Vec::new();
    let execute = places(&seen.execute, &place.cwd, false);
    let write = places(&seen.write, &place.cwd, true);
    let read = places(&seen.read, &place.cwd, false);
    let both = write.iter().any(|tree| execute.iter().any(|file| file.starts_with(tree)));
    let profile = profile(seen, both);
    let mut outline = Outline::of_profile(profile, &place.name, &place.role, &place.operator, host);
    outline.resources = seen.usage.limits(outline.resources);
    let texts = |set: &BTreeSet<PathBuf>| set.iter().map(|path| path.display().to_string()).collect();
    outline.executable = place.program.display().to_string();
    outline.args.clone_from(&place.args);
    outline.cwd = place.cwd.display().to_string();
    (outline.read, outline.write, outline.execute) = (texts(&read), texts(&write), texts(&execute));
    let here = place.cwd.clone();
    let own_place = OWN_DIRS.iter().any(|dir| here == Path::new(dir));
    if !own_place && !covers(&read, &here) && !covers(&write, &here) && !covers(&execute, &here) {
        outline.read.push(outline.cwd.clone());
    }
    // The programs that were seen are the machine's own, which /bin then has.
    outline.utilities.clear();
    for call in seen.calls.iter().filter(|call| !permits(profile.name(), call)) {
        if grantable(call) {
            outline.syscalls.push(call.clone());
        } else if DENIED_SYSCALLS.iter().any(|row| row.name == call) {
            notes.push(format!("system call {call}: no manifest can grant it; the program gets EPERM"));
        }
    }
    for link in &seen.links {
        let seen_inside = [&read, &write, &execute].iter().any(|set| covers(set, link)) || own(link);
        if !seen_inside {
            notes.push(format!(
                "link {}: links are not granted; inside, use what it leads to",
                link.display()
            ));
        }
    }
    for address in &seen.connected {
        notes.push(format!("connection to {address}: name the host in network.hosts; no name was seen"));
    }
    drop_refused(&mut outline, &mut notes);
    (outline, notes)
}

/// The least profile that permits every call that a manifest could add, or the one that lacks the fewest.
fn profile(seen: &Seen, writable_executable: bool) -> Profile {
    let runs = |name: &str| {
        let names = seen.execute.iter().filter_map(|file| file.file_name()?.to_str());
        names.into_iter().any(|file| file.starts_with(name))
    };
    // Those with a runtime differ in what else they have, so what runs decides between them.
    let runtime = match () {
        () if runs("python") => Profile::Python,
        () if runs("node") => Profile::Node,
        () => Profile::Compiler,
    };
    let lacks = |profile: &Profile| {
        let name = profile.name();
        seen.calls.iter().filter(|call| !permits(name, call) && (grantable(call) || *call == "clone")).count()
    };
    let fit = |profile: &Profile| !writable_executable || profile.writable_executable();
    let choice = [Profile::Minimal, Profile::Shell, runtime, Profile::Compiler];
    choice.into_iter().filter(fit).min_by_key(lacks).unwrap_or(Profile::Compiler)
}

fn own(path: &Path) -> bool {
    OWN.iter().any(|own| path.starts_with(own)) || OWN_FILES.iter().any(|own| path == Path::new(own))
}

fn covers(set: &BTreeSet<PathBuf>, path: &Path) -> bool {
    set.iter().any(|tree| path.starts_with(tree))
}

/// Files as grants: the workstation's own left out, the working directory and whole trees taken together, and many files
/// of one directory as that directory.
fn places(files: &BTreeSet<PathBuf>, cwd: &Path, directories: bool) -> BTreeSet<PathBuf> {
    let mut kept = BTreeSet::new();
    let mut beside: BTreeMap<PathBuf, Vec<PathBuf>> = BTreeMap::new();
    // A directory below the machine's /tmp can be granted, and is then there inside the workstation's own.
    let at_work = !own(cwd) || OWN_DIRS.iter().any(|dir| cwd.starts_with(dir) && cwd != Path::new(dir));
    let at_work = at_work && cwd.components().count() > 1;
    for file in files {
        if at_work && file.starts_with(cwd) {
            kept.insert(cwd.to_owned());
        } else if own(file) {
            // Every workstation has it, or none.
        } else if let Some(tree) = WHOLE.iter().map(Path::new).find(|tree| file.starts_with(tree)) {
            kept.insert(tree.to_owned());
        } else if file.is_file() || directories {
            beside.entry(file.parent().unwrap_or(file).to_owned()).or_default().push(file.clone());
        }
        // A directory that was only looked at shows inside as far as something in it is granted.
    }
    for (dir, files) in beside {
        if files.len() >= FEW && dir.components().count() > 2 {
            kept.insert(dir);
        } else {
            kept.extend(files);
        }
    }
    let lower = |path: &PathBuf| kept.iter().any(|tree| tree != path && path.starts_with(tree));
    kept.iter().filter(|path| !lower(path)).cloned().collect()
}

/// Takes out what the manifest's own check refuses, and says so.
fn drop_refused(outline: &mut Outline, notes: &mut Vec<String>) {
    let Err(errors) = Draft::parse(outline.text().as_bytes()) else { return };
    let mut refused: Vec<(String, usize)> = Vec::new();
    for error in errors.iter() {
        if let Some((field, at)) = error.field.strip_suffix(']').and_then(|name| name.split_once('[')) {
            notes.push(format!("{field}: {}", error.problem));
            refused.extend(at.parse().ok().map(|at| (field.to_owned(), at)));
        }
    }
    refused.sort();
    for (field, at) in refused.into_iter().rev() {
        let list = match field.as_str() {
            "filesystem.read" => &mut outline.read,
            "filesystem.write" => &mut outline.write,
            "executables.paths" => &mut outline.execute,
            "syscalls.add" => &mut outline.syscalls,
            _ => continue,
        };
        if at < list.len() {
            list.remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use octant_manifest::Machine;

    fn set(paths: &[&str]) -> BTreeSet<PathBuf> {
        paths.iter().map(PathBuf::from).collect()
    }

    fn reduced(seen: &Seen) -> (Outline, Vec<String>) {
        reduced_in("/srv/project", seen)
    }

    fn reduced_in(cwd: &str, seen: &Seen) -> (Outline, Vec<String>) {
        let place = Place {
            cwd: cwd.into(),
            program: "/usr/bin/env".into(),
            args: vec!["-i".into()],
            name: "learned".into(),
            role: "developer".into(),
            operator: "ada".into(),
        };
        let host = Host { machine: Machine { memory_bytes: 8 << 30, cpus: 2 }, present: &|_| true };
        outline(seen, &place, &host)
    }

    #[test]
    fn what_was_seen_is_granted_and_the_rest_is_named() {
        let calls = ["read", "clone", "openat", "getcpu", "name_to_handle_at", "mount"];
        let seen = Seen {
            calls: calls.iter().map(|c| (*c).to_owned()).collect(),
            read: set(&["/usr/lib/a", "/srv/project/in", "/proc/self/maps", "/etc/passwd", "/dev/null"]),
            write: set(&["/srv/project/out", "/srv/project", "/tmp/x"]),
            execute: set(&["/usr/bin/env", "/usr/bin/dash"]),
            links: set(&["/lib64", "/etc/localtime"]),
            usage: crate::usage::Usage::default(),
            connected: ["192.0.2.1:443".to_owned()].into(),
        };
        let (outline, notes) = reduced(&seen);
        assert_eq!(outline.profile, Profile::Shell, "the first that has clone");
        assert_eq!(outline.read, ["/srv/project", "/usr"]);
        assert_eq!(
            (&outline.write[..], &outline.execute[..]),
            (&["/srv/project".to_owned()][..], &["/usr".to_owned()][..])
        );
        assert!(outline.utilities.is_empty(), "the machine's own programs were seen");
        let said = notes.join("\n");
        for part in ["mount: no manifest", "link /etc/localtime", "192.0.2.1:443"] {
            assert!(said.contains(part), "{part} in {said}");
        }
        assert!(!said.contains("/lib64"));
        Draft::parse(outline.text().as_bytes()).unwrap();
    }

    #[test]
    fn a_program_that_is_built_and_run_has_a_profile_that_lets_it() {
        let seen = Seen {
            write: set(&["/srv/project/a.out"]),
            execute: set(&["/usr/bin/gcc", "/srv/project/a.out"]),
            ..Seen::default()
        };
        let (outline, _) = reduced(&seen);
        assert!(outline.profile.writable_executable());
        assert_eq!(outline.execute, ["/srv/project", "/usr"]);
        Draft::parse(outline.text().as_bytes()).unwrap();
    }

    #[test]
    fn a_directory_below_tmp_is_worked_in_and_tmp_itself_is_the_workstations_own() {
        let seen = Seen {
            write: set(&["/tmp/x/out", "/tmp/y"]),
            execute: set(&["/usr/bin/env"]),
            ..Seen::default()
        };
        assert_eq!(reduced_in("/tmp/x", &seen).0.write, ["/tmp/x"]);
        let (outline, _) = reduced_in("/tmp", &seen);
        assert!(outline.write.is_empty() && outline.read.is_empty(), "{outline:?}");
        assert_eq!(outline.cwd, "/tmp");
        Draft::parse(outline.text().as_bytes()).unwrap();
    }

    #[test]
    fn what_cannot_be_granted_is_left_out_by_name() {
        let seen = Seen {
            write: set(&["/etc", "/var/lib/octant/x"]),
            execute: set(&["/usr/bin/env"]),
            ..Seen::default()
        };
        let (outline, notes) = reduced(&seen);
        assert!(outline.write.is_empty(), "{:?}", outline.write);
        assert_eq!(notes.len(), 2, "{notes:?}");
        Draft::parse(outline.text().as_bytes()).unwrap();
    }
}
