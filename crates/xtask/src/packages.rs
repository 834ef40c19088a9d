//! The system packages that the commands use: which, why, how to see that they are there, how to get them.

use crate::apt::{self, Release, System};
use crate::args::Args;
use crate::sh::{self, Res};
use crate::workspace::Workspace;
use std::path::Path;
use std::process::{Command, ExitCode};

/// One system package.
#[derive(Debug)]
pub(crate) struct Package {
    pub(crate) name: &'static str,
    /// What it is for, in one line.
    why: &'static str,
    proof: Proof,
    /// The suite on Debian 12, where it is not the release itself.
    bookworm_suite: Option<&'static str>,
    /// Size of the download on Debian, with what it needs, in MB.
    mb: u32,
}

/// What shows that a package is there, whoever installed it.
#[derive(Debug)]
enum Proof {
    Program(&'static str),
    /// A file that the C compiler finds.
    Library(&'static str),
    /// A program whose version must be at least this.
    ProgramFrom(&'static str, u32),
    /// A module that Python finds.
    Module(&'static str),
}

/// Builds: the seccomp compiler's static library, and a C compiler that links.
pub(crate) const GCC: Package = Package {
    name: "gcc",
    why: "links the binary",
    proof: Proof::Program("gcc"),
    bookworm_suite: None,
    mb: 30,
};
pub(crate) const LIBC: Package = Package {
    name: "libc6-dev",
    why: "the C library to link statically",
    proof: Proof::Library("libc.a"),
    bookworm_suite: None,
    mb: 4,
};
pub(crate) const SECCOMP: Package = Package {
    name: "libseccomp-dev",
    why: "makes the system call filters; linked statically",
    proof: Proof::Library("libseccomp.a"),
    bookworm_suite: None,
    mb: 1,
};
pub(crate) const QEMU: Package = Package {
    name: "qemu-system-x86",
    why: "boots the image; version 10, since 7.2 fails with kernel 6.12 in one boot of four",
    proof: Proof::ProgramFrom("qemu-system-x86_64", 10),
    bookworm_suite: Some("bookworm-backports"),
    mb: 35,
};
pub(crate) const XZ: Package = Package {
    name: "xz-utils",
    why: "unpacks the kernel's modules",
    proof: Proof::Program("xz"),
    bookworm_suite: None,
    mb: 1,
};
pub(crate) const EXT4: Package = Package {
    name: "e2fsprogs",
    why: "makes the data disk",
    proof: Proof::Program("mkfs.ext4"),
    bookworm_suite: None,
    mb: 1,
};
pub(crate) const CRUN: Package = Package {
    name: "crun",
    why: "runs the image as a container",
    proof: Proof::Program("crun"),
    bookworm_suite: None,
    mb: 1,
};
pub(crate) const ZSTD: Package = Package {
    name: "zstd",
    why: "packs the initrd of a unified kernel image, and mkosi's",
    proof: Proof::Program("zstd"),
    bookworm_suite: None,
    mb: 1,
};
pub(crate) const PYTHON: Package = Package {
    name: "python3",
    why: "runs the independent programs of tests/python, and mkosi",
    proof: Proof::Program("python3"),
    bookworm_suite: None,
    mb: 6,
};
pub(crate) const VENV: Package = Package {
    name: "python3-venv",
    why: "keeps packages of Python in the target directory: the verifier's, the bench's",
    proof: Proof::Module("ensurepip"),
    bookworm_suite: None,
    mb: 4,
};
pub(crate) const CPIO: Package = Package {
    name: "cpio",
    why: "mkosi packs the initrd with it",
    proof: Proof::Program("cpio"),
    bookworm_suite: None,
    mb: 1,
};
pub(crate) const SWTPM: Package = Package {
    name: "swtpm",
    why: "is the TPM of machines under test, and the one that sealing is tested against",
    proof: Proof::Program("swtpm"),
    bookworm_suite: None,
    mb: 4,
};
pub(crate) const SBSIGN: Package = Package {
    name: "sbsigntool",
    why: "signs what machines under test with secure boot start",
    proof: Proof::Program("sbsign"),
    bookworm_suite: None,
    mb: 1,
};
pub(crate) const GIT: Package = Package {
    name: "git",
    why: "everyday work inside a workstation is tried with it",
    proof: Proof::Program("git"),
    bookworm_suite: None,
    mb: 9,
};
pub(crate) const SSH: Package = Package {
    name: "openssh-client",
    why: "logs in from inside a workstation with a key that it does not have",
    proof: Proof::Program("ssh"),
    bookworm_suite: None,
    mb: 1,
};
/// Without a service that a machine would start: the programs alone.
pub(crate) const SSHD: Package = Package {
    name: "dropbear-bin",
    why: "is what is logged in at",
    proof: Proof::Program("dropbear"),
    bookworm_suite: None,
    mb: 1,
};
/// Without a server.
pub(crate) const PSQL: Package = Package {
    name: "postgresql-client",
    why: "logs in to a database from inside a workstation with a password that it does not have",
    proof: Proof::Program("psql"),
    bookworm_suite: None,
    mb: 2,
};
pub(crate) const XML: Package = Package {
    name: "libxml2",
    why: "is what the database under test is linked with, which is not installed",
    proof: Proof::Library("libxml2.so.2"),
    bookworm_suite: None,
    mb: 10,
};
pub(crate) const MAKE: Package = Package {
    name: "make",
    why: "everyday work inside a workstation is tried with it",
    proof: Proof::Program("make"),
    bookworm_suite: None,
    mb: 1,
};
pub(crate) const GXX: Package = Package {
    name: "g++",
    why: "everyday work inside a workstation is tried with it",
    proof: Proof::Program("g++"),
    bookworm_suite: None,
    mb: 12,
};
pub(crate) const SQLITE: Package = Package {
    name: "sqlite3",
    why: "everyday work inside a workstation is tried with it",
    proof: Proof::Program("sqlite3"),
    bookworm_suite: None,
    mb: 1,
};
pub(crate) const NODE: Package = Package {
    name: "nodejs",
    why: "everyday work inside a workstation is tried with it; runs clients of the tests and proxies of the bench",
    proof: Proof::Program("node"),
    bookworm_suite: None,
    mb: 25,
};
pub(crate) const NPM: Package = Package {
    name: "npm",
    why: "fetches packages of JavaScript into the target directory: the tests' clients, the bench's proxies",
    proof: Proof::Program("npm"),
    bookworm_suite: None,
    mb: 20,
};
/// What utilities are compared with; the others are on every Debian.
pub(crate) const GAWK: Package = Package {
    name: "gawk",
    why: "is what awk is compared with",
    proof: Proof::Program("gawk"),
    bookworm_suite: None,
    mb: 2,
};
pub(crate) const BZIP2: Package = Package {
    name: "bzip2",
    why: "is what bzip2 is compared with",
    proof: Proof::Program("bzip2"),
    bookworm_suite: None,
    mb: 1,
};
pub(crate) const UIDMAP: Package = Package {
    name: "uidmap",
    why: "maps sub-ids, with which an ordinary user's workstation has a range of users",
    proof: Proof::Program("newuidmap"),
    bookworm_suite: None,
    mb: 1,
};
pub(crate) const RUNC: Package = Package {
    name: "runc",
    why: "starts a container beside ours in the bench",
    proof: Proof::Program("runc"),
    bookworm_suite: None,
    mb: 4,
};
pub(crate) const BWRAP: Package = Package {
    name: "bubblewrap",
    why: "starts a sandbox beside ours in the bench",
    proof: Proof::Program("bwrap"),
    bookworm_suite: None,
    mb: 1,
};
pub(crate) const BUSYBOX: Package = Package {
    name: "busybox-static",
    why: "its init is measured beside ours in the bench",
    proof: Proof::Program("busybox"),
    bookworm_suite: None,
    mb: 1,
};
pub(crate) const RUNIT: Package = Package {
    name: "runit",
    why: "is measured beside our PID 1 in the bench",
    proof: Proof::Program("runsvdir"),
    bookworm_suite: None,
    mb: 1,
};
pub(crate) const S6: Package = Package {
    name: "s6",
    why: "is measured beside our PID 1 in the bench",
    proof: Proof::Program("s6-svscan"),
    bookworm_suite: None,
    mb: 2,
};
pub(crate) const AGE: Package = Package {
    name: "age",
    why: "encrypts beside the vault in the bench",
    proof: Proof::Program("age"),
    bookworm_suite: None,
    mb: 2,
};
pub(crate) const CRYPTOGRAPHY: Package = Package {
    name: "python3-cryptography",
    why: "seals beside the vault in the bench",
    proof: Proof::Module("cryptography"),
    bookworm_suite: None,
    mb: 2,
};
/// What the static binary needs.
pub(crate) const BUILD: &[&Package] = &[&GCC, &LIBC, &SECCOMP];
/// What the boot image needs besides.
pub(crate) const IMAGE: &[&Package] = &[&GCC, &LIBC, &SECCOMP, &XZ, &EXT4];
/// What booting needs besides.
pub(crate) const BOOT: &[&Package] = &[&GCC, &LIBC, &SECCOMP, &XZ, &EXT4, &QEMU];
/// What the unified kernel image needs besides.
pub(crate) const UKI: &[&Package] = &[&GCC, &LIBC, &SECCOMP, &XZ, &EXT4, &ZSTD];
/// What the whole suite needs.
pub(crate) const TEST: &[&Package] = &[
    &GCC, &LIBC, &SECCOMP, &XZ, &EXT4, &QEMU, &ZSTD, &CRUN, &PYTHON, &VENV, &SWTPM, &SBSIGN, &GIT, &SSH,
    &SSHD, &PSQL, &XML, &MAKE, &GXX, &SQLITE, &NODE, &NPM, &UIDMAP, &GAWK, &BZIP2,
];
/// What the bench needs: a machine to boot, and the peers.
pub(crate) const BENCH: &[&Package] = &[
    &GCC,
    &LIBC,
    &SECCOMP,
    &XZ,
    &EXT4,
    &QEMU,
    &CRUN,
    &RUNC,
    &BWRAP,
    &BUSYBOX,
    &RUNIT,
    &S6,
    &AGE,
    &PYTHON,
    &CRYPTOGRAPHY,
    &VENV,
    &NODE,
    &NPM,
];
/// What mkosi needs.
pub(crate) const MKOSI: &[&Package] = &[&GCC, &LIBC, &SECCOMP, &XZ, &PYTHON, &ZSTD, &CPIO];

const GROUPS: &[(&str, &[&Package])] = &[
    ("dist", BUILD),
    ("image", IMAGE),
    ("run", BOOT),
    ("image --uki", UKI),
    ("image --mkosi", MKOSI),
    ("test", TEST),
    ("bench", BENCH),
];

impl Package {
    fn is_there(&self) -> bool {
        match self.proof {
            Proof::Program(program) => sh::which(program).is_some(),
            Proof::ProgramFrom(program, least) => {
                program_version(program).is_some_and(|version| version >= least)
            }
            Proof::Library(file) => compiler_finds(file),
            Proof::Module(name) => python_finds(name),
        }
    }
}

/// The first number of `PROGRAM --version`.
pub(crate) fn program_version(program: &str) -> Option<u32> {
    sh::which(program)?;
    let text = sh::text(Command::new(program).arg("--version")).ok()?;
    first_version(&text)
}

fn first_version(text: &str) -> Option<u32> {
    let word = text.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    word.split('.').next()?.parse().ok()
}

/// gcc answers a name without a directory when it does not know the file.
fn compiler_finds(file: &str) -> bool {
    let answer = sh::text(Command::new("gcc").arg(format!("-print-file-name={file}")));
    answer.is_ok_and(|path| Path::new(path.trim()).is_absolute() && Path::new(path.trim()).is_file())
}

fn python_finds(module: &str) -> bool {
    sh::output(Command::new("python3").args(["-c", &format!("import {module}")])).is_ok()
}

/// How something is done here that takes root.
pub(crate) enum Means {
    Root,
    Sudo,
    /// Not without a person.
    None,
}

/// Installs what is missing of `packages`, or says how.
///
/// # Errors
/// Something is missing that cannot be installed here: the message has the one line that does, or says what
/// this distribution cannot do.
pub(crate) fn ensure(workspace: &Workspace, packages: &[&Package]) -> Res {
    let missing: Vec<&Package> = packages.iter().copied().filter(|package| !package.is_there()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    if missing.iter().all(|package| package.name == QEMU.name)
        && qemu_is_old()
        && matches!(means(), Means::None)
    {
        println!(
            "      QEMU is older than 10: going on with Debian 12's kernel 6.1, which it boots reliably"
        );
        return Ok(());
    }
    let list: String =
        missing.iter().map(|p| format!("\n  {:<16} {} (about {} MB)", p.name, p.why, p.mb)).collect();
    let system = System::of_this_machine();
    let Some(release) = system.release() else {
        return Err(format!(
            "these are missing:{list}\nThis is {}. They can be installed here only on Debian 12 and 13; install them \
             with this system's package manager and run the command again.",
            system.pretty
        ));
    };
    let calls = Calls::new(workspace, release, &missing)?;
    match means() {
        Means::None => {
            Err(format!("these packages are missing:{list}\nInstall them with:\n  {}", calls.as_typed()))
        }
        means => {
            println!("      installing what is missing:{list}");
            calls.run(matches!(means, Means::Sudo))?;
            confirm(&missing, release)
        }
    }
}

/// Looks again: a package manager that succeeds may still not have given what is needed.
fn confirm(installed: &[&Package], release: Release) -> Res {
    let still: Vec<&str> =
        installed.iter().filter(|package| !package.is_there()).map(|package| package.name).collect();
    // QEMU 7.2 is what Debian 12 has without backports; kernel 6.1 boots with it.
    if still.is_empty() || (still == [QEMU.name] && qemu_is_old()) {
        return Ok(());
    }
    Err(format!(
        "{} installed from {} but what they are for is not found",
        still.join(", "),
        release.codename()
    ))
}

/// Whether the QEMU that is there is Debian 12's own, which boots only the older kernel reliably.
pub(crate) fn qemu_is_old() -> bool {
    program_version("qemu-system-x86_64").is_some_and(|version| version < 10)
}

pub(crate) fn means() -> Means {
    // Unlike `id -u`, a look at what may be written also knows a root without rights over the system.
    let own_uid = sh::text(Command::new("id").arg("-u")).unwrap_or_default();
    if own_uid.trim() == "0" {
        return Means::Root;
    }
    match sh::output(Command::new("sudo").args(["-n", "true"])) {
        Ok(_) => Means::Sudo,
        Err(_) => Means::None,
    }
}

/// The apt-get calls that install packages, as plain words.
struct Calls(Vec<Vec<String>>);

impl Calls {
    fn new(workspace: &Workspace, release: Release, missing: &[&Package]) -> Res<Self> {
        let suite_of =
            |package: &Package| if release == Release::Bookworm { package.bookworm_suite } else { None };
        let plain: Vec<&Package> =
            missing.iter().copied().filter(|package| suite_of(package).is_none()).collect();
        let mut calls = Vec::new();
        if !plain.is_empty() {
            calls.push(words(&["apt-get", "-q", "update"]));
            calls.push(install(&[], &plain));
        }
        for package in missing {
            let Some(suite) = suite_of(package) else { continue };
            let file = workspace.image().join(format!("{suite}.list"));
            let mut options = apt::extra_list(release, suite, &file)?;
            let mut update = words(&["apt-get", "-q"]);
            update.extend(options.iter().cloned());
            update.push("update".into());
            calls.push(update);
            options.extend(["-t".into(), suite.into()]);
            calls.push(install(&options, &[package]));
        }
        Ok(Self(calls))
    }

    /// One line for a person with the rights to install.
    fn as_typed(&self) -> String {
        let calls: Vec<String> = self.0.iter().map(|words| format!("sudo {}", words.join(" "))).collect();
        calls.join(" && ")
    }

    fn run(&self, sudo: bool) -> Res {
        for words in &self.0 {
            let mut command = if sudo { Command::new("sudo") } else { Command::new(&words[0]) };
            command
                .args(if sudo { words.as_slice() } else { &words[1..] })
                .env("DEBIAN_FRONTEND", "noninteractive");
            if let Err(error) = sh::output(&mut command) {
                self.without_backports(words, error)?;
            }
        }
        Ok(())
    }

    /// Backports that do not answer are not the end: Debian 12's own QEMU and kernel are a pair that works.
    fn without_backports(&self, failed: &[String], error: String) -> Res {
        let from_backports = failed.iter().any(|word| word.contains("backports"));
        if !from_backports || !failed.iter().any(|word| word == "install") {
            // A failed update of the extra list shows at the install that follows it.
            return if from_backports { Ok(()) } else { Err(error) };
        }
        eprintln!(
            "      backports cannot be used ({})\n      going on with Debian 12's own QEMU 7.2 and kernel 6.1: \
             its Landlock is older, and `octant doctor` inside names what that costs",
            error.lines().next().unwrap_or_default()
        );
        let mut own = words(&["apt-get", "-q", "install", "-y", "--no-install-recommends"]);
        own.extend(failed.iter().skip_while(|word| *word != "--no-install-recommends").skip(1).cloned());
        sh::output(Command::new(&own[0]).args(&own[1..])).map(drop)
    }
}

fn install(options: &[String], packages: &[&Package]) -> Vec<String> {
    // Another package manager may be at work, for instance a nightly upgrade: wait for it, not for ever.
    let mut call = words(&["apt-get", "-q", "-o", "DPkg::Lock::Timeout=120"]);
    call.extend(options.iter().cloned());
    call.extend(words(&["install", "-y", "--no-install-recommends"]));
    call.extend(packages.iter().map(|package| package.name.to_owned()));
    call
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// `cargo x packages`.
pub(crate) fn main(_: &Workspace, mut args: Args) -> Res<ExitCode> {
    if args.help(
        "cargo x packages\n\nShows each command's system packages, what they are for, and what is missing.",
    ) {
        return Ok(ExitCode::SUCCESS);
    }
    args.finish()?;
    let system = System::of_this_machine();
    println!("{}", system.pretty);
    for (commands, packages) in GROUPS {
        println!("\ncargo x {commands}");
        for package in *packages {
            let there = if package.is_there() { "there" } else { "missing" };
            let from = package.bookworm_suite.filter(|_| system.release() == Some(Release::Bookworm));
            let from = from.map(|suite| format!(", from {suite}")).unwrap_or_default();
            println!("  {:<8} {:<16} {}{from} (about {} MB)", there, package.name, package.why, package.mb);
        }
    }
    println!(
        "\nDebian's kernel (about 35 MB) and firmware (6 MB) are fetched into the target directory, not installed."
    );
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workspace() -> Workspace {
        let target = std::env::temp_dir().join(format!("xtask-packages-{}", std::process::id()));
        Workspace { root: target.clone(), target }
    }

    #[test]
    fn versions_are_read_from_what_programs_say() {
        assert_eq!(first_version("QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2)\n"), Some(10));
        assert_eq!(first_version("QEMU emulator version 7.2.22"), Some(7));
        assert_eq!(first_version("no number"), None);
    }

    #[test]
    fn a_plain_package_takes_one_update_and_one_install() {
        let calls = Calls::new(&workspace(), Release::Trixie, &[&QEMU, &XZ]).unwrap();
        assert_eq!(
            calls.as_typed(),
            "sudo apt-get -q update && sudo apt-get -q -o DPkg::Lock::Timeout=120 install -y --no-install-recommends qemu-system-x86 xz-utils"
        );
    }

    #[test]
    fn a_package_from_backports_is_asked_for_with_an_extra_list_and_no_edit_of_the_machine() {
        if System::of_this_machine().release() != Some(Release::Bookworm) {
            return; // Only Debian 12's own sources can name the archive of its backports.
        }
        let workspace = workspace();
        let line = Calls::new(&workspace, Release::Bookworm, &[&QEMU]).unwrap().as_typed();
        for part in ["Dir::Etc::sourcelist=", "List-Cleanup=0", "-t bookworm-backports", "qemu-system-x86"] {
            assert!(line.contains(part), "{part} in {line}");
        }
        let list = sh::read_text(&workspace.image().join("bookworm-backports.list")).unwrap();
        assert!(list.contains(" bookworm-backports main"), "{list}");
        sh::remove(&workspace.target).unwrap();
    }

    #[test]
    fn every_group_names_each_package_once() {
        for (commands, packages) in GROUPS {
            for (at, package) in packages.iter().enumerate() {
                assert!(
                    packages[..at].iter().all(|other| other.name != package.name),
                    "{commands}: {}",
                    package.name
                );
            }
        }
    }
}
