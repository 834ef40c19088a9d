//! What a TPM says of itself.

use crate::tpm::{Result, Tpm};
use crate::transport::Transport;
use serde::{Deserialize, Serialize};

/// TPM_PT (Part 2, section 6.13): the first of the fixed properties, and those that are told here.
const PT_FIXED: u32 = 0x100;
const PT_REVISION: u32 = 0x102;
const PT_MANUFACTURER: u32 = 0x105;
const PT_VENDOR_STRING_1: u32 = 0x106;
const PT_VENDOR_STRING_4: u32 = 0x109;
const PT_FIRMWARE_VERSION_1: u32 = 0x10b;
const PT_FIRMWARE_VERSION_2: u32 = 0x10c;
/// From the first property to the last of these.
const PROPERTIES: u32 = PT_FIRMWARE_VERSION_2 - PT_FIXED + 1;

/// What a TPM says of itself. Nothing of it is proven; it is for people to read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// Who made it, up to four letters of the TCG's vendor registry.
    pub manufacturer: String,
    /// What they call it, up to sixteen letters.
    pub vendor: String,
    /// Its firmware's version, four numbers with dots.
    pub firmware: String,
    /// The revision of the specification, for instance `1.59`.
    pub revision: String,
}

impl<T: Transport> Tpm<T> {
    /// What the TPM says of itself, by TPM2_GetCapability.
    ///
    /// # Errors
    /// What any command can fail with.
    pub fn describe(&mut self) -> Result<Description> {
        let properties = self.properties(PT_FIXED, PROPERTIES)?;
        let of = |wanted| {
            properties.iter().find(|(property, _)| *property == wanted).map_or(0, |(_, value)| *value)
        };
        let [a, b, c, d] = [of(PT_FIRMWARE_VERSION_1), of(PT_FIRMWARE_VERSION_2)]
            .map(|version| [version >> 16, version & 0xffff])
            .as_flattened()
            .try_into()
            .unwrap_or_default();
        let revision = of(PT_REVISION);
        Ok(Description {
            manufacturer: letters([of(PT_MANUFACTURER)]),
            vendor: letters((PT_VENDOR_STRING_1..=PT_VENDOR_STRING_4).map(of)),
            firmware: format!("{a}.{b}.{c}.{d}"),
            revision: format!("{}.{:02}", revision / 100, revision % 100),
        })
    }
}

/// Four letters to a number, without what is not printable: this goes to terminals.
fn letters(numbers: impl IntoIterator<Item = u32>) -> String {
    let bytes = numbers.into_iter().flat_map(u32::to_be_bytes);
    let text: String = bytes.filter(|byte| matches!(byte, b' '..=b'~')).map(char::from).collect();
    text.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_printable() {
        assert_eq!(letters([u32::from_be_bytes(*b"IBM\0"), u32::from_be_bytes(*b" \x1b[m")]), "IBM [m");
    }
}
