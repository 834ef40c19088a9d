//! The unified kernel image: kernel, initrd and command line as one EFI program, which firmware starts and measures.

use crate::firmware::{self, Firmware};
use crate::image::{self, Image, Source};
use crate::packages;
use crate::qemu::COMMAND_LINE;
use crate::sh::{self, Res, Steps};
use crate::workspace::Workspace;
use octant_uki::Parts;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// The initrd as it goes into a unified kernel image: a third of its size, since firmware and stub hash it several
/// times, with a processor that may be emulated.
///
/// # Errors
/// zstd refuses.
pub(crate) fn packed_initrd(initrd: &Path) -> Res<PathBuf> {
    let packed = initrd.with_extension("cpio.zst");
    let half = initrd.with_extension("half");
    // One second. A lower level costs each boot under test 0.4 s, a higher one takes ten for a fiftieth of the size.
    sh::output(Command::new("zstd").args(["-q", "-9", "-f", "-o"]).arg(&half).arg("--").arg(initrd))?;
    sh::rename(&half, &packed)?;
    Ok(packed)
}

/// Packs `image` with `append` after the usual command line.
///
/// # Errors
/// A part cannot be read, or is not what it should be.
fn make(workspace: &Workspace, image: &Image, firmware: &Firmware, append: &str) -> Res<PathBuf> {
    let os_release = sh::read_text(&workspace.root.join("image/tree/etc/os-release"))?;
    let (stub, kernel) = (sh::read(&firmware.stub)?, sh::read(&image.kernel.vmlinuz)?);
    let initrd = sh::read(&packed_initrd(&image.initrd)?)?;
    let command_line = format!("{COMMAND_LINE} {append}");
    let packed = octant_uki::pack(&Parts {
        stub: &stub,
        os_release: &os_release,
        command_line: command_line.trim_end(),
        kernel: &kernel,
        initrd: &initrd,
    });
    let packed = packed.map_err(|error| {
        format!("cannot pack {} with {}: {error}", image.kernel.vmlinuz.display(), firmware.stub.display())
    })?;
    let file = workspace.image().join("octant.efi");
    let half = file.with_extension("half");
    sh::write(&half, &packed)?;
    sh::rename(&half, &file)?;
    println!("      {}", sh::human_bytes(packed.len() as u64));
    Ok(file)
}

/// `cargo x image --uki`.
pub(crate) fn main(workspace: &Workspace, source: &Source, append: &str) -> Res<ExitCode> {
    let mut steps = Steps::new(6);
    let image = image::prepare(workspace, source, packages::UKI, &mut steps)?;
    steps.next("fetching the firmware's stub (about 6 MB the first time)");
    let firmware = firmware::fetch(workspace)?;
    steps.next("packing the unified kernel image");
    let file = make(workspace, &image, &firmware, append)?;
    println!("\nimage     {}\nfirmware  {}", file.display(), firmware.ovmf.join("OVMF").display());
    println!("done in {}; image/README.md says what its measurement covers", steps.finish());
    Ok(ExitCode::SUCCESS)
}
