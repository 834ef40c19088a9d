//! Debian's cloud kernel, fetched and unpacked below the target directory. Nothing is installed.

use crate::apt::{Private, Release, System};
use crate::packages;
use crate::sh::{self, Res};
use crate::workspace::Workspace;
use std::path::{Path, PathBuf};

/// A kernel to boot, with its modules.
#[derive(Debug, Clone)]
pub(crate) struct Kernel {
    /// As `uname -r` says.
    pub(crate) release: String,
    /// The bootable file.
    pub(crate) vmlinuz: PathBuf,
    /// The directory of its modules.
    pub(crate) modules: PathBuf,
}

const META_PACKAGE: &str = "linux-image-cloud-amd64";

/// Suites to look in, best first. 6.12 has a newer Landlock and IPE; QEMU 7.2 boots only 6.1 reliably.
fn suites(release: Release, qemu_is_old: bool) -> &'static [&'static str] {
    match (release, qemu_is_old) {
        (Release::Bookworm, true) => &["bookworm"],
        (Release::Bookworm, false) => &["bookworm-backports", "trixie", "bookworm"],
        (Release::Trixie, _) => &["trixie"],
    }
}

/// The kernel to boot: the one that is there, else the best that can be fetched.
///
/// # Errors
/// This is not Debian, or no suite can be reached; the message has what each said.
pub(crate) fn fetch(workspace: &Workspace) -> Res<Kernel> {
    let system = System::of_this_machine();
    let Some(release) = system.release() else {
        return Err(format!(
            "the boot image has Debian's kernel, which is fetched with apt on Debian 12 and 13; this is {}. \
             `cargo x run --pidns` and `cargo x run --container` work here without it.",
            system.pretty
        ));
    };
    let kernels = workspace.image().join("kernel");
    let suites = suites(release, packages::qemu_is_old());
    let there = suites.iter().find_map(|suite| Some((suite, Kernel::in_tree(&kernels.join(suite)).ok()?)));
    if let Some((suite, kernel)) = there {
        if *suite != suites[0] {
            println!(
                "      from {suite}, since {} could not be had; remove {} to try again",
                suites[0],
                kernels.display()
            );
        }
        return Ok(kernel);
    }
    let mut refused = String::new();
    for suite in suites {
        let tree = kernels.join(suite);
        match fetch_from(workspace, release, suite, &tree) {
            Ok(kernel) => {
                if !refused.is_empty() {
                    eprintln!(
                        "      kernel {} from {suite}, since a newer one cannot be had:{refused}",
                        kernel.release
                    );
                }
                return Ok(kernel);
            }
            Err(error) => refused += &format!("\n  {suite}: {error}"),
        }
    }
    Err(format!("no kernel can be fetched:{refused}"))
}

fn fetch_from(workspace: &Workspace, release: Release, suite: &str, tree: &Path) -> Res<Kernel> {
    Private::with(&workspace.image().join("apt"), release, suite, |apt| {
        let package = apt.dependency(META_PACKAGE, "linux-image-")?;
        apt.unpack(&package, tree)
    })?;
    Kernel::in_tree(tree)
}

impl Kernel {
    /// The kernel in an unpacked Debian package.
    fn in_tree(tree: &Path) -> Res<Self> {
        let boot = sh::list(&tree.join("boot"))?;
        let found = boot
            .iter()
            .find_map(|file| file.file_name()?.to_str()?.strip_prefix("vmlinuz-").map(|r| (file, r)));
        let Some((vmlinuz, release)) = found else {
            return Err(format!("{} has no boot/vmlinuz-*", tree.display()));
        };
        // Debian 13 has merged /lib into /usr/lib in its packages too.
        let places = ["usr/lib/modules", "lib/modules"].map(|place| tree.join(place).join(release));
        let Some(modules) = places.iter().find(|dir| dir.is_dir()) else {
            return Err(format!("{} has no modules of {release}", tree.display()));
        };
        Ok(Self { release: release.to_owned(), vmlinuz: vmlinuz.clone(), modules: modules.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_of_6_12_is_never_paired_with_an_old_qemu() {
        assert_eq!(suites(Release::Bookworm, true), ["bookworm"]);
        assert_eq!(suites(Release::Bookworm, false)[0], "bookworm-backports");
        assert_eq!(suites(Release::Trixie, false), ["trixie"]);
    }

    #[test]
    fn both_layouts_of_debian_packages_are_read() {
        let tree = std::env::temp_dir().join(format!("xtask-kernel-{}", std::process::id()));
        for modules in ["lib/modules/6.1-x", "usr/lib/modules/6.1-x"] {
            sh::remove(&tree).unwrap();
            sh::write(&tree.join("boot/vmlinuz-6.1-x"), "").unwrap();
            assert!(Kernel::in_tree(&tree).unwrap_err().contains("no modules of 6.1-x"));
            sh::make_dir(&tree.join(modules)).unwrap();
            let kernel = Kernel::in_tree(&tree).unwrap();
            assert_eq!((kernel.release.as_str(), kernel.modules), ("6.1-x", tree.join(modules)));
        }
        sh::remove(&tree).unwrap();
    }
}
