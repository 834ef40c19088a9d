//! A configuration in the firmware's tables (SMBIOS): OEM strings, which whoever makes the virtual machine sets. In QEMU:
//! `-smbios type=11,value=octant.config.0=BASE64,value=octant.config.1=BASE64`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::collections::BTreeMap;

/// Where the kernel shows the tables.
pub(crate) const TABLES: &str = "/sys/firmware/dmi/tables/DMI";
/// The most bytes of them: what a length of 16 bits can say is all that firmware makes, and some room.
pub(crate) const TABLES_MAX: usize = 1 << 20;
/// How our strings begin.
const PREFIX: &[u8] = b"octant.config.";
/// The most strings, so that numbers have an end.
const PARTS_MAX: usize = 4096;
/// DMTF DSP0134: OEM strings, and the end of the table.
const OEM_STRINGS: u8 = 11;
const END: u8 = 127;
const HEADER: usize = 4;

/// The envelope in the tables, if there is one.
///
/// # Errors
/// There are parts, and they are not one whole.
pub(crate) fn envelope(tables: &[u8]) -> Result<Option<Vec<u8>>, String> {
    let mut parts: BTreeMap<usize, &[u8]> = BTreeMap::new();
    for string in oem_strings(tables) {
        let Some(rest) = string.strip_prefix(PREFIX) else { continue };
        let equals = rest.iter().position(|byte| *byte == b'=');
        let number = equals.and_then(|at| std::str::from_utf8(&rest[..at]).ok()?.parse::<usize>().ok());
        let (Some(equals), Some(number)) = (equals, number.filter(|number| *number < PARTS_MAX)) else {
            return Err("a string begins with octant.config. and goes on with no number and =".into());
        };
        if parts.insert(number, &rest[equals + 1..]).is_some() {
            return Err(format!("octant.config.{number} is there twice"));
        }
    }
    if parts.is_empty() {
        return Ok(None);
    }
    if let Some((missing, _)) = parts.keys().enumerate().find(|(at, number)| at != *number) {
        return Err(format!("octant.config.{missing} is missing"));
    }
    let text: Vec<u8> = parts.into_values().flatten().copied().collect();
    STANDARD
        .decode(text)
        .map(Some)
        .map_err(|error| format!("what octant.config.0 begins is not base 64: {error}"))
}

/// The strings of every table of OEM strings. What does not fit into the bytes is not there.
fn oem_strings(mut rest: &[u8]) -> Vec<&[u8]> {
    let mut found = Vec::new();
    while let [kind, length, _, _, ..] = *rest {
        let length = usize::from(length);
        let Some(after) = rest.get(length..).filter(|_| length >= HEADER) else { break };
        // Strings end with a zero each, and the last with one more; without any there are two zeros.
        let Some(end) = after.windows(2).position(|pair| pair == [0, 0]) else { break };
        if kind == OEM_STRINGS {
            found.extend(after[..end].split(|byte| *byte == 0).filter(|string| !string.is_empty()));
        }
        if kind == END {
            break;
        }
        rest = &after[end + 2..];
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn structure(kind: u8, strings: &[String]) -> Vec<u8> {
        let mut out = vec![kind, 5, 0, 0, 1];
        for string in strings {
            out.extend_from_slice(string.as_bytes());
            out.push(0);
        }
        out.extend(if strings.is_empty() { &[0, 0][..] } else { &[0] });
        out
    }

    fn tables(strings: &[&str]) -> Vec<u8> {
        let strings: Vec<String> = strings.iter().map(|string| (*string).to_owned()).collect();
        let other = ["octant.config.0=eHg=".to_owned()];
        [structure(0, &[]), structure(1, &other), structure(OEM_STRINGS, &strings), structure(END, &[])]
            .concat()
    }

    #[test]
    fn parts_are_put_together_by_their_numbers_and_other_strings_are_others() {
        let read = |strings: &[&str]| envelope(&tables(strings));
        let parts = ["vendor", "octant.config.1=Z28=", "octant.config.0=bGV0"];
        assert_eq!(read(&parts).unwrap().unwrap(), b"letgo");
        assert_eq!(read(&[]).unwrap(), None);
        assert_eq!(read(&["octant.job=x"]).unwrap(), None);
        for (strings, why) in [
            (&["octant.config.1=Z28="][..], "octant.config.0 is missing"),
            (&["octant.config.0=Z28=", "octant.config.0=Z28="], "twice"),
            (&["octant.config.x=Z28="], "no number"),
            (&["octant.config.0"], "no number"),
            (&["octant.config.99999=Z28="], "no number"),
            (&["octant.config.0=!"], "base 64"),
        ] {
            assert!(read(strings).unwrap_err().contains(why), "{strings:?}");
        }
    }

    proptest! {
        #[test]
        fn whatever_the_firmware_writes_is_read_to_its_end(bytes in prop::collection::vec(any::<u8>(), 0..400), cut in 0_usize..200) {
            let _any = envelope(&bytes);
            let whole = tables(&["octant.config.0=bGV0"]);
            let _any = envelope(&whole[..cut.min(whole.len())]);
        }
    }
}
