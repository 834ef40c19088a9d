//! A machine with UEFI firmware and a TPM: what it boots is a unified kernel image, and is measured.

use crate::environment::path;
use crate::guest::{Boot, command_line, joined};
use crate::tpm::Tpm;
use octant_uki::Parts;
use sha2::{Digest, Sha256};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What makes a machine the same one at its next boot: its TPM's state and its UUID. Another board is another machine.
///
/// What firmware keeps besides, its variables, is new at each boot: no setting of one test is met by another.
#[derive(Debug)]
pub struct Board {
    dir: PathBuf,
    uuid: String,
}

impl Board {
    /// Makes a machine with a new TPM, whose state is kept in `dir`; `uuid` is what its firmware says that it is.
    ///
    /// # Panics
    /// When `dir` is there already or cannot be made.
    #[must_use]
    pub fn new(dir: PathBuf, uuid: &str) -> Self {
        fs::create_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
        Self { dir, uuid: uuid.to_owned() }
    }

    /// Adds firmware, TPM and the image of `boot` to QEMU's command line. The TPM must live as long as QEMU.
    ///
    /// What this costs without an accelerator is the hashing: the firmware computes four kinds of hashes of everything
    /// that it measures, whichever of them the TPM's banks want. Only a smaller image helps.
    pub(crate) fn fit(&self, command: &mut Command, dir: &Path, boot: &Boot<'_>) -> Tpm {
        let (code, first_vars) = match boot.secure_boot {
            false => ("OVMF_CODE_4M.fd", "OVMF_VARS_4M.fd"),
            true => ("OVMF_CODE_4M.secboot.fd", "OVMF_VARS_4M.snakeoil.fd"),
        };
        let ovmf = path("OCTANT_FIRMWARE").join("OVMF");
        let (code, vars, efi) = (ovmf.join(code), dir.join("vars.fd"), dir.join("octant.efi"));
        fs::copy(ovmf.join(first_vars), &vars).unwrap_or_else(|e| panic!("{}: {e}", vars.display()));
        fs::write(&efi, image(boot.append, boot.overlay))
            .unwrap_or_else(|e| panic!("{}: {e}", efi.display()));
        if boot.secure_boot {
            sign(dir, &efi);
            // Only code in the processor's management mode may write the variables, keys among them.
            command.args(["-machine", "smm=on", "-global", "driver=cfi.pflash01,property=secure,value=on"]);
        }
        let tpm = Tpm::start(&self.dir);
        let flash = |unit, options, file: &Path| {
            format!("if=pflash,format=raw,unit={unit}{options},file={}", file.display())
        };
        command
            .args(["-uuid", &self.uuid])
            .args(["-drive", &flash(0, ",readonly=on", &code), "-drive", &flash(1, "", &vars)])
            .args(["-chardev", &format!("socket,id=tpm,path={}", tpm.socket.display())])
            .args(["-tpmdev", "emulator,id=tpm0,chardev=tpm", "-device", "tpm-crb,tpmdev=tpm0"])
            .arg("-kernel")
            .arg(efi);
        if let Some(options) = boot.load_options {
            command.args(["-append", options]);
        }
        tpm
    }
}

/// The unified kernel image that a [`Board`] boots for [`Boot::append`] and [`Boot::overlay`]. The same ones give the
/// same bytes.
///
/// # Panics
/// When a part of the image cannot be read or packed.
#[must_use]
pub fn image(append: &str, overlay: Option<&Path>) -> Vec<u8> {
    let read = |path: PathBuf| fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let os_release = read(path("OCTANT_ROOT").join("image/tree/etc/os-release"));
    let packed = octant_uki::pack(&Parts {
        stub: &read(path("OCTANT_STUB")),
        os_release: &String::from_utf8_lossy(&os_release),
        command_line: &command_line(append),
        kernel: &read(path("OCTANT_KERNEL")),
        initrd: &joined(&path("OCTANT_INITRD_PACKED"), overlay),
    });
    packed.unwrap_or_else(|e| panic!("no kernel image for {append:?}: {e}"))
}

/// Signs the program `efi` in place, with the key that everybody has and that Debian's variables for tests trust.
fn sign(dir: &Path, efi: &Path) {
    let (keys, key) = (path("OCTANT_FIRMWARE").join("ovmf"), dir.join("snakeoil.key"));
    let mut open = Command::new("openssl");
    open.arg("pkey").arg("-in").arg(keys.join("PkKek-1-snakeoil.key"));
    // sbsign would ask a person for the password, and it stands in the firmware's documentation.
    done(open.args(["-passin", "pass:snakeoil", "-out"]).arg(&key));
    let mut sign = Command::new("sbsign");
    sign.arg("--key").arg(key).arg("--cert").arg(keys.join("PkKek-1-snakeoil.pem"));
    done(sign.arg("--output").arg(efi).arg(efi));
}

fn done(command: &mut Command) {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}; `cargo x test` installs it"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} ended with {}: {said}", output.status);
}

/// What PCR 11 holds after `image` has been started by nothing but firmware, as the kernel shows it.
///
/// # Panics
/// When `image` is not a kernel image.
#[must_use]
pub fn pcr_11(image: &[u8]) -> String {
    let measured = octant_uki::measured(image).unwrap_or_else(|e| panic!("the kernel image: {e}"));
    let pieces = measured.into_iter().flat_map(|(name, content)| [name.to_bytes_with_nul(), content]);
    let register = pieces.fold(<[u8; 32]>::default(), |register, piece| {
        Sha256::new().chain_update(register).chain_update(Sha256::digest(piece)).finalize().into()
    });
    register.iter().map(|byte| format!("{byte:02X}")).collect()
}
