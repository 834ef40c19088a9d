//! `uuidgen` and `mcookie`; identifiers as text (RFC 9562).

use crate::options::{Options, Stop, failed, run};
use crate::output::print;
use octant_sys::entropy;
use std::ffi::OsString;

const UUIDGEN_HELP: &str = "\
Usage: uuidgen [-r | -7]
Print a new identifier: random (version 4), or one that sorts by the time it was made (-7).
";

const MCOOKIE_HELP: &str = "\
Usage: mcookie
Print 128 random bits in hexadecimal.
";

pub(crate) fn uuidgen(arguments: Vec<OsString>) -> i32 {
    run("uuidgen", || {
        let options = Options::read("uuidgen", UUIDGEN_HELP, "r|random 7|time-v7 t|time", &arguments)?;
        if options.has("t") {
            return Err(Stop::new(
                1,
                "version 1 tells the machine's address and is not made; -7 sorts by time as well",
            ));
        }
        let mut id = [0; 16];
        random_uuid(&mut id)?;
        if options.has("7") {
            let ms = octant_sys::clock::wall_ms().to_be_bytes();
            id[..6].copy_from_slice(&ms[2..]);
            id[6] = id[6] & 0x0f | 0x70;
        }
        Ok(print("uuidgen", &format!("{}\n", uuid_text(&id))))
    })
}

pub(crate) fn mcookie(arguments: Vec<OsString>) -> i32 {
    run("mcookie", || {
        Options::read("mcookie", MCOOKIE_HELP, "v", &arguments)?;
        let mut bytes = [0; 16];
        entropy::fill_seeded(&mut bytes).map_err(failed("randomness"))?;
        let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(print("mcookie", &(text + "\n")))
    })
}

/// A random identifier, version 4.
pub(crate) fn random_uuid(id: &mut [u8; 16]) -> Result<(), Stop> {
    entropy::fill_seeded(id).map_err(failed("randomness"))?;
    id[6] = id[6] & 0x0f | 0x40;
    id[8] = id[8] & 0x3f | 0x80;
    Ok(())
}

/// With the four dashes.
pub(crate) fn uuid_text(id: &[u8; 16]) -> String {
    let mut text = String::new();
    for (at, byte) in id.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

/// The bytes of an identifier that is written with its dashes.
pub(crate) fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let digits: String = text.chars().filter(|c| *c != '-').collect();
    let mut id = [0; 16];
    if !digits.is_ascii() || digits.len() != 32 {
        return None;
    }
    for (at, byte) in id.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).ok()?;
    }
    (uuid_text(&id) == text.to_lowercase()).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_read_as_they_are_written() {
        let mut id = [0; 16];
        random_uuid(&mut id).unwrap();
        let text = uuid_text(&id);
        assert_eq!((text.len(), text.as_bytes()[14], parse_uuid(&text)), (36, b'4', Some(id)));
        assert!(matches!(text.as_bytes()[19], b'8' | b'9' | b'a' | b'b'));
        for wrong in ["", "1234", "12345678-9abc-def0-0102-0304050607zz", "123456789abcdef00102030405060708"]
        {
            assert_eq!(parse_uuid(wrong), None, "{wrong}");
        }
    }
}
