//! Files of a guest's data disk, read on the host without mounting it.

use std::path::Path;
use std::process::Command;

/// The content of a file on an ext4 image that was unmounted in order.
///
/// # Panics
/// When there is no such file, or no `debugfs`, which comes with `mkfs.ext4`.
#[must_use]
pub fn read(image: &Path, file: &str) -> Vec<u8> {
    // Like mkfs, it is among the programs of administrators, which are not on everybody's PATH.
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    let output = Command::new("debugfs")
        .env("PATH", path)
        .args(["-R", &format!("cat {file}")])
        .arg(image)
        .output()
        .unwrap_or_else(|e| panic!("debugfs: {e}"));
    // It exits with 0 whatever happened; what went wrong is on standard error, after its version.
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.lines().count() <= 1 && !output.stdout.is_empty(), "{file} on {}: {said}", image.display());
    output.stdout
}
