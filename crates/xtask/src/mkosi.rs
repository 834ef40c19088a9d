//! The same initrd, packed by mkosi from mkosi.conf, for people who build their images with it.
//!
//! mkosi is fetched from Debian 13 and run from the target directory with the system's Python; nothing is
//! installed. It gets the finished tree as a skeleton: `Distribution=custom` adds nothing of its own.

use crate::apt::{Private, System};
use crate::cpio::Tree;
use crate::image::{self, Source};
use crate::kernel;
use crate::packages;
use crate::sh::{self, Res, Steps};
use crate::workspace::Workspace;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

/// `cargo x image --mkosi`.
pub(crate) fn main(workspace: &Workspace, source: &Source) -> Res<ExitCode> {
    let mut steps = Steps::new(4);
    steps.next("looking for system packages");
    packages::ensure(workspace, packages::MKOSI)?;
    steps.next("fetching the kernel (about 35 MB the first time)");
    let kernel = kernel::fetch(workspace)?;
    steps.next(&source.step());
    source.get(workspace)?;
    steps.next("mkosi");
    let initrd = initrd(workspace, source)?;
    println!("\nkernel  {}\ninitrd  {}", kernel.vmlinuz.display(), initrd.display());
    println!("done in {}; boot it with `cargo x run --mkosi`", steps.finish());
    Ok(ExitCode::SUCCESS)
}

/// Packs the initrd with mkosi and gives its place.
///
/// # Errors
/// mkosi cannot be fetched, or refuses.
pub(crate) fn initrd(workspace: &Workspace, source: &Source) -> Res<PathBuf> {
    packages::ensure(workspace, packages::MKOSI)?;
    let mkosi = fetch(workspace)?;
    let binary = source.get(workspace)?;
    let mut tree = Tree::default();
    image::add_modules(workspace, &mut tree, &kernel::fetch(workspace)?)?;
    image::add_system(workspace, &binary, &mut tree)?;
    // mkosi wants to know what it packs before it packs it, at the place that systemd gave the file.
    tree.link("etc/os-release", "../usr/lib/os-release");
    tree.file("usr/lib/os-release", 0o644, sh::read(&workspace.root.join("image/tree/etc/os-release"))?);
    let dir = workspace.image().join("mkosi");
    let skeleton = dir.join("skeleton");
    sh::remove(&skeleton)?;
    tree.write_to(&skeleton)?;
    let place = |name: &str| dir.join(name).display().to_string();
    let python = ["/usr/bin/python3", "python3"].into_iter().find(|program| sh::which(program).is_some());
    sh::output(
        Command::new(python.unwrap_or("python3"))
            .args(["-m", "mkosi", "--force", "--directory"])
            .arg(&workspace.root)
            .arg("--skeleton-tree")
            .arg(&skeleton)
            .args(["--output-directory", &place("output"), "--workspace-directory", &place("work")])
            .args(["--cache-directory", &place("cache"), "--package-cache-dir", &place("packages"), "build"])
            .env("PYTHONPATH", mkosi)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("SOURCE_DATE_EPOCH", "0"),
    )
    .map(drop)?;
    let initrd = dir.join("output/octant.cpio.zst");
    if initrd.is_file() {
        Ok(initrd)
    } else {
        Err(format!("mkosi ended well but left no {}", initrd.display()))
    }
}

/// mkosi's Python package, which depends on nothing but Python.
fn fetch(workspace: &Workspace) -> Res<PathBuf> {
    let unpacked = workspace.image().join("mkosi/program");
    let packages = unpacked.join("usr/lib/python3/dist-packages");
    if !packages.is_dir() {
        let system = System::of_this_machine();
        let Some(release) = system.release() else {
            return Err(format!("mkosi is fetched with apt on Debian 12 and 13; this is {}", system.pretty));
        };
        let apt = workspace.image().join("apt");
        Private::with(&apt, release, "trixie", |apt| apt.unpack("mkosi", &unpacked))?;
    }
    Ok(packages)
}
