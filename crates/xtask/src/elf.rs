//! As much of ELF as is needed to tell what a binary depends on and what a kernel module declares.
//! Layout: the System V ABI's 64-bit little-endian form, elf(5).

use crate::sh::Res;

const PT_LOAD: u64 = 1;
const PT_DYNAMIC: u64 = 2;
const PT_INTERP: u64 = 3;
const PT_GNU_RELRO: u64 = 0x6474_e552;
const PF_WRITE_EXECUTE: u64 = 3;
const ET_EXEC: u64 = 2;
const DT_NULL: u64 = 0;
const DT_NEEDED: u64 = 1;

/// What a program needs to be started, and how it lies in memory then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Linkage {
    /// A loader is named in the file.
    interpreter: bool,
    /// At least one shared library is named in the file.
    needs_libraries: bool,
    /// It runs at the addresses that it was linked to, so that a start has none to make right.
    fixed: bool,
    /// Tables of addresses are made read-only before its first line.
    read_only_tables: bool,
    /// A part of it could be written to and run.
    writable_code: bool,
}

impl Linkage {
    /// # Errors
    /// The bytes are not a 64-bit little-endian ELF file, or are cut short.
    pub(crate) fn of(bytes: &[u8]) -> Res<Self> {
        check_magic(bytes)?;
        let mut linkage = Self {
            interpreter: false,
            needs_libraries: false,
            fixed: number(bytes, 0x10, 2)? == ET_EXEC,
            read_only_tables: false,
            writable_code: false,
        };
        let (table, size, count) =
            (number(bytes, 0x20, 8)?, number(bytes, 0x36, 2)?, number(bytes, 0x38, 2)?);
        for at in 0..count {
            let header = table + at * size;
            match number(bytes, header, 4)? {
                PT_INTERP => linkage.interpreter = true,
                PT_GNU_RELRO => linkage.read_only_tables = true,
                PT_LOAD => {
                    let flags = number(bytes, header + 0x04, 4)?;
                    linkage.writable_code |= flags & PF_WRITE_EXECUTE == PF_WRITE_EXECUTE;
                }
                PT_DYNAMIC => {
                    let (offset, length) =
                        (number(bytes, header + 0x08, 8)?, number(bytes, header + 0x20, 8)?);
                    linkage.read_dynamic(bytes, offset, length)?;
                }
                _ => {}
            }
        }
        Ok(linkage)
    }

    fn read_dynamic(&mut self, bytes: &[u8], offset: u64, length: u64) -> Res {
        for entry in (offset..offset.saturating_add(length)).step_by(16) {
            match number(bytes, entry, 8)? {
                DT_NULL => break,
                DT_NEEDED => self.needs_libraries = true,
                _ => {}
            }
        }
        Ok(())
    }

    /// Fails unless the program needs nothing but the kernel, starts as it lies in the file, and can neither write to its
    /// code nor, once it runs, to its tables of addresses.
    pub(crate) fn check_static(self) -> Res {
        match self {
            Self { interpreter: true, .. } => {
                Err("it names a loader (PT_INTERP), so it is not static".into())
            }
            Self { needs_libraries: true, .. } => {
                Err("it names a shared library (DT_NEEDED), so it is not static".into())
            }
            Self { fixed: false, .. } => {
                Err("it is not linked to one address (ET_EXEC), so each start relocates it".into())
            }
            Self { read_only_tables: false, .. } => {
                Err("its tables of addresses stay writable (no PT_GNU_RELRO)".into())
            }
            Self { writable_code: true, .. } => Err("a part of it is writable and executable".into()),
            Self { .. } => Ok(()),
        }
    }
}

/// The `key=value` texts of a kernel module's `.modinfo` section.
///
/// # Errors
/// Not an ELF file, or without that section.
pub(crate) fn modinfo(bytes: &[u8]) -> Res<Vec<String>> {
    check_magic(bytes)?;
    let (table, size) = (number(bytes, 0x28, 8)?, number(bytes, 0x3a, 2)?);
    let (count, names_at) = (number(bytes, 0x3c, 2)?, number(bytes, 0x3e, 2)?);
    let names = section(bytes, table + names_at * size)?;
    for at in 0..count {
        let header = table + at * size;
        let name = usize::try_from(number(bytes, header, 4)?).ok().and_then(|from| names.get(from..));
        if name.is_some_and(|name| name.starts_with(b".modinfo\0")) {
            let texts = section(bytes, header)?.split(|byte| *byte == 0).filter(|text| !text.is_empty());
            return Ok(texts.map(|text| String::from_utf8_lossy(text).into_owned()).collect());
        }
    }
    Err("it has no .modinfo section".into())
}

/// The content of the section whose header is at `header`.
fn section(bytes: &[u8], header: u64) -> Res<&[u8]> {
    slice(bytes, number(bytes, header + 0x18, 8)?, number(bytes, header + 0x20, 8)?)
}

fn check_magic(bytes: &[u8]) -> Res {
    // \x7fELF, 64-bit, little-endian.
    if bytes.starts_with(b"\x7fELF\x02\x01") {
        Ok(())
    } else {
        Err("it is not a 64-bit little-endian ELF file".into())
    }
}

fn number(bytes: &[u8], at: u64, size: u64) -> Res<u64> {
    let field = slice(bytes, at, size)?;
    Ok(field.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
}

fn slice(bytes: &[u8], at: u64, size: u64) -> Res<&[u8]> {
    let range = usize::try_from(at).ok().zip(at.checked_add(size).and_then(|end| usize::try_from(end).ok()));
    range
        .and_then(|(from, end)| bytes.get(from..end))
        .ok_or_else(|| format!("the ELF file is cut short at {at}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header with program headers of the given types, all with the same flags, the dynamic one with the given entries.
    fn program(kind: u8, headers: &[u64], flags: u8, dynamic: &[(u64, u64)]) -> Vec<u8> {
        let mut bytes = b"\x7fELF\x02\x01".to_vec();
        bytes.resize(0x40, 0);
        bytes[0x10] = kind;
        bytes[0x20] = 0x40;
        bytes[0x36] = 56;
        bytes[0x38] = u8::try_from(headers.len()).unwrap();
        let dynamic_at = 0x40 + 56 * headers.len() as u64;
        for header in headers {
            let mut entry = vec![0_u8; 56];
            entry[..4].copy_from_slice(&header.to_le_bytes()[..4]);
            entry[4] = flags;
            entry[8..16].copy_from_slice(&dynamic_at.to_le_bytes());
            entry[0x20..0x28].copy_from_slice(&(16 * dynamic.len() as u64).to_le_bytes());
            bytes.extend(entry);
        }
        for (tag, value) in dynamic {
            bytes.extend(tag.to_le_bytes());
            bytes.extend(value.to_le_bytes());
        }
        bytes
    }

    #[test]
    fn only_a_static_program_passes() {
        const READ_EXECUTE: u8 = 5;
        let check = |kind, headers: &[u64], flags, dynamic: &[(u64, u64)]| {
            Linkage::of(&program(kind, headers, flags, dynamic)).unwrap().check_static()
        };
        let whole = [PT_LOAD, PT_GNU_RELRO];
        check(2, &whole, READ_EXECUTE, &[]).unwrap();
        check(2, &[PT_LOAD, PT_GNU_RELRO, PT_DYNAMIC], READ_EXECUTE, &[(DT_NULL, 0), (DT_NEEDED, 1)])
            .unwrap();
        for (kind, headers, flags, dynamic, cause) in [
            (2, &[PT_LOAD, PT_GNU_RELRO, PT_INTERP][..], READ_EXECUTE, &[][..], "PT_INTERP"),
            (2, &[PT_LOAD, PT_GNU_RELRO, PT_DYNAMIC], READ_EXECUTE, &[(DT_NEEDED, 1)], "DT_NEEDED"),
            (3, &whole, READ_EXECUTE, &[], "ET_EXEC"),
            (2, &[PT_LOAD], READ_EXECUTE, &[], "PT_GNU_RELRO"),
            (2, &whole, 7, &[], "executable"),
        ] {
            let refused = check(kind, headers, flags, dynamic).unwrap_err();
            assert!(refused.to_string().contains(cause), "{refused}");
        }
    }

    #[test]
    fn the_running_test_is_a_dynamic_program() {
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(Linkage::of(&own).unwrap().check_static().unwrap_err().contains("PT_INTERP"));
    }

    #[test]
    fn a_file_cut_at_any_byte_is_an_error_or_less_but_never_a_panic() {
        let whole = program(2, &[PT_DYNAMIC], 5, &[(DT_NEEDED, 1)]);
        // Of the last entry only the tag is looked at.
        for end in 0..whole.len() - 8 {
            assert!(Linkage::of(&whole[..end]).is_err(), "{end}");
            assert!(modinfo(&whole[..end]).is_err(), "{end}");
        }
    }
}
