//! What the vault is told of the hardware: what the firmware says, and the TPM's device.
//!
//! Only on a machine: a container and a namespace run on hardware that is not theirs to be bound to. Both are root's to
//! read, which is why PID 1 does.

use octant_api::boot::Mode;
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::Path;

/// The unit that is told.
pub(crate) const VAULT: &str = "vault";
/// The name of the TPM's descriptor.
pub(crate) const TPM: &str = "tpm";

/// Where the kernel shows the firmware's tables (SMBIOS types 1 and 2).
const DMI: &str = "/sys/class/dmi/id";
const FACTS: [&str; 7] = [
    "product_uuid",
    "product_name",
    "product_serial",
    "sys_vendor",
    "board_vendor",
    "board_name",
    "board_serial",
];
/// The longest fact, in bytes.
const FACT_MAX: u64 = 128;
/// The TPM behind the kernel's resource manager: whoever opens it has handles of their own, flushed at the close.
const DEVICE: &str = "/dev/tpmrm0";
/// What firmware says when nobody filled it in. Two machines with the same one are not the same.
const EMPTY: [&str; 7] = [
    "none",
    "default string",
    "not specified",
    "not available",
    "to be filled by o.e.m.",
    "00000000-0000-0000-0000-000000000000",
    "03000200-0400-0500-0006-000700080009",
];

/// What the firmware says of the machine, without what says nothing.
pub(crate) fn facts(mode: Mode) -> BTreeMap<String, String> {
    if mode == Mode::Machine { facts_below(Path::new(DMI)) } else { BTreeMap::new() }
}

fn facts_below(dir: &Path) -> BTreeMap<String, String> {
    // A machine without these tables, as many virtual ones are, has no such facts.
    FACTS.iter().filter_map(|name| Some(((*name).to_owned(), fact(&dir.join(name))?))).collect()
}

fn fact(path: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(FACT_MAX).read_to_end(&mut bytes).ok()?;
    let text: String = String::from_utf8_lossy(&bytes).chars().filter(|c| !c.is_control()).collect();
    let text = text.trim();
    let says_something = !text.is_empty() && !EMPTY.contains(&text.to_ascii_lowercase().as_str());
    says_something.then(|| text.to_owned())
}

/// The TPM; none where there is none.
///
/// # Errors
/// It is there and cannot be opened.
pub(crate) fn tpm(mode: Mode) -> io::Result<Option<OwnedFd>> {
    if mode != Mode::Machine {
        return Ok(None);
    }
    match OpenOptions::new().read(true).write(true).open(DEVICE) {
        Ok(device) => Ok(Some(device.into())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_says_nothing_is_no_fact() {
        let dir = std::env::temp_dir().join(format!("octant-dmi-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        for (name, text) in [
            ("product_uuid", "4c4c4544-0042\n"),
            ("board_serial", "To Be Filled By O.E.M.\n"),
            ("board_name", " \n"),
            ("product_name", "a\u{1b}[31mb\n"),
            ("chassis_serial", "x"),
        ] {
            std::fs::write(dir.join(name), text).unwrap();
        }
        let facts = facts_below(&dir);
        std::fs::remove_dir_all(&dir).unwrap();
        let rows: Vec<(&str, &str)> = facts.iter().map(|(name, value)| (&**name, &**value)).collect();
        assert_eq!(rows, [("product_name", "a[31mb"), ("product_uuid", "4c4c4544-0042")]);
    }

    #[test]
    fn only_a_machine_is_bound_to_its_hardware() {
        for mode in [Mode::Container, Mode::Namespace] {
            assert!(facts(mode).is_empty() && tpm(mode).unwrap().is_none());
        }
    }
}
