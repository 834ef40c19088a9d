//! UEFI firmware and the stub of unified kernel images, fetched and unpacked below the target directory.
//!
//! Nothing is installed: to install the stub would make apt bring the machine's own systemd to the same version. Both
//! are Debian 13's on either release, so that a machine under test measures the same wherever it is emulated. The
//! firmware is also 3 s faster than Debian 12's without an accelerator, and the stub measures its `.sbat` section,
//! which [`octant_uki::measured`] expects.

use crate::apt::{Private, System};
use crate::sh::Res;
use crate::workspace::Workspace;
use std::path::{Path, PathBuf};

const SUITE: &str = "trixie";

/// What a machine with measured boot needs besides kernel and initrd.
#[derive(Debug, Clone)]
pub(crate) struct Firmware {
    /// The directory with `OVMF`, where the firmware and its first variables are, and `ovmf`, where the key is that
    /// those variables with secure boot trust, and that everybody has.
    pub(crate) ovmf: PathBuf,
    /// systemd's `linuxx64.efi.stub`.
    pub(crate) stub: PathBuf,
}

/// The firmware that is there, else fetched (6 MB).
///
/// # Errors
/// This is not Debian, the archive does not answer, or its package is laid out in another way.
pub(crate) fn fetch(workspace: &Workspace) -> Res<Firmware> {
    let dir = workspace.image().join("firmware");
    let ovmf = package(workspace, "ovmf", &dir, "usr/share")?;
    let stub = package(workspace, "systemd-boot-efi", &dir, "usr/lib/systemd/boot/efi/linuxx64.efi.stub")?;
    Ok(Firmware { ovmf, stub })
}

/// The place `wanted` in the unpacked `package`.
fn package(workspace: &Workspace, package: &str, dir: &Path, wanted: &str) -> Res<PathBuf> {
    let tree = dir.join(package);
    let place = tree.join(wanted);
    if !place.exists() {
        let system = System::of_this_machine();
        let Some(release) = system.release() else {
            return Err(format!(
                "Debian's package {package} is fetched with apt on Debian 12 and 13; this is {}",
                system.pretty
            ));
        };
        Private::with(&workspace.image().join("apt"), release, SUITE, |apt| apt.unpack(package, &tree))?;
    }
    if place.exists() {
        Ok(place)
    } else {
        Err(format!(
            "Debian's package {package} has no {wanted} any more; its files are in {}",
            tree.display()
        ))
    }
}
