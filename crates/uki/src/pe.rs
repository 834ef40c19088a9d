//! As much of the PE32+ form as is needed to add sections to an EFI program and to find them again.

use crate::UkiError;

/// Where the head of the file says that the PE header begins.
const PE_AT: u64 = 0x3c;
const X86_64: u64 = 0x8664;
const PE32_PLUS: u64 = 0x20b;
const SECTION_HEAD: u64 = 40;
/// Initialised data that may be read (`IMAGE_SCN_CNT_INITIALIZED_DATA | IMAGE_SCN_MEM_READ`).
const DATA_READABLE: u32 = 0x4000_0040;

/// The largest alignments that are in use: of sections in memory a huge page, in the file what the form allows.
const MAX_ALIGNMENT: (u64, u64) = (2 << 20, 64 << 10);

/// A section's head.
#[derive(Debug, Clone)]
pub(crate) struct Section {
    /// Without the zeros behind it.
    pub(crate) name: Vec<u8>,
    /// Where it stands in memory, and its length there.
    address: u64,
    length: u64,
    /// Where it stands in the file.
    at: u64,
}

impl Section {
    /// Its bytes.
    pub(crate) fn content<'a>(&self, file: &'a [u8]) -> Result<&'a [u8], UkiError> {
        slice(file, self.at, self.length)
    }
}

/// Where the header's fields are.
#[derive(Debug, Clone, Copy)]
struct Header {
    /// The COFF header, after the signature.
    coff: u64,
    /// The optional header, which no EFI program is without.
    optional: u64,
    /// The table of sections.
    table: u64,
    count: u64,
}

impl Header {
    fn read(file: &[u8], part: &'static str) -> Result<Self, UkiError> {
        let wrong = || UkiError::NotEfi { part };
        if !file.starts_with(b"MZ") {
            return Err(wrong());
        }
        let signature = number(file, PE_AT, 4)?;
        let coff = signature + 4;
        let optional = coff + 20;
        if slice(file, signature, 4)? != b"PE\0\0"
            || number(file, coff, 2)? != X86_64
            || number(file, optional, 2)? != PE32_PLUS
        {
            return Err(wrong());
        }
        let table = optional + number(file, coff + 16, 2)?;
        Ok(Self { coff, optional, table, count: number(file, coff + 2, 2)? })
    }
}

/// The heads of every section of `file`.
pub(crate) fn sections(file: &[u8], part: &'static str) -> Result<Vec<Section>, UkiError> {
    let header = Header::read(file, part)?;
    let heads = (0..header.count).map(|index| header.table + index * SECTION_HEAD);
    heads
        .map(|head| {
            let name = slice(file, head, 8)?;
            let length = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
            Ok(Section {
                name: name[..length].to_vec(),
                length: number(file, head + 8, 4)?,
                address: number(file, head + 12, 4)?,
                at: number(file, head + 20, 4)?,
            })
        })
        .collect()
}

/// An EFI program to which sections are added.
#[derive(Debug)]
pub(crate) struct Pe {
    bytes: Vec<u8>,
    header: Header,
    /// In memory, and in the file.
    alignment: (u64, u64),
    names: Vec<Vec<u8>>,
    /// The first address behind the last section.
    free: u64,
    /// How much the added sections take in the file.
    added: u64,
}

impl Pe {
    /// Reads the program.
    pub(crate) fn read(file: &[u8], part: &'static str) -> Result<Self, UkiError> {
        let header = Header::read(file, part)?;
        let optional = header.optional;
        let alignment = (number(file, optional + 32, 4)?, number(file, optional + 36, 4)?);
        // A stub that asks for more would make a small image take gigabytes.
        let sane = |value: u64, most| value.is_power_of_two() && value <= most;
        if !sane(alignment.0, MAX_ALIGNMENT.0) || !sane(alignment.1, MAX_ALIGNMENT.1) {
            return Err(UkiError::NotEfi { part });
        }
        let sections = sections(file, part)?;
        let free = sections.iter().map(|section| section.address + section.length).max().unwrap_or(0);
        let names = sections.into_iter().map(|section| section.name).collect();
        Ok(Self { bytes: file.to_vec(), header, alignment, names, free, added: 0 })
    }

    /// Adds a section behind the others, at a multiple of `align` in memory.
    pub(crate) fn add(&mut self, name: &str, content: &[u8], align: u64) -> Result<(), UkiError> {
        if self.names.iter().any(|other| other == name.as_bytes()) {
            return Err(UkiError::Taken(name.to_owned()));
        }
        // Nothing else may stand where the head goes: behind the table there is only padding up to this size.
        let headers = number(&self.bytes, self.header.optional + 60, 4)?;
        let head = self.header.table + self.header.count * SECTION_HEAD;
        if name.len() > 8 || head + SECTION_HEAD > headers {
            return Err(UkiError::NoRoom);
        }
        let address = self.free.next_multiple_of(align.max(self.alignment.0));
        self.pad()?;
        let at = length_of(&self.bytes)?;
        self.bytes.extend_from_slice(content);
        self.pad()?;
        let length = length_of(content)?;
        let size = length_of(&self.bytes)? - at;
        self.free = address + u64::from(length);
        let address = u32::try_from(address).map_err(|_| UkiError::TooLarge)?;
        let mut text = [0; 8];
        text[..name.len()].copy_from_slice(name.as_bytes());
        self.put(head, &text)?;
        let fields = [length, address, size, at, 0, 0, 0, DATA_READABLE];
        for (offset, field) in (8..).step_by(4).zip(fields) {
            self.put(head + offset, &field.to_le_bytes())?;
        }
        self.names.push(name.as_bytes().to_vec());
        self.header.count += 1;
        self.added += u64::from(size);
        Ok(())
    }

    /// The file, with what its header says of it as a whole.
    pub(crate) fn finish(mut self) -> Result<Vec<u8>, UkiError> {
        let optional = self.header.optional;
        let directories = number(&self.bytes, optional + 108, 4)?;
        // The fifth directory is the table of signatures.
        if directories > 4 && number(&self.bytes, optional + 112 + 4 * 8, 8)? != 0 {
            return Err(UkiError::Signed);
        }
        let count = u16::try_from(self.header.count).map_err(|_| UkiError::NoRoom)?;
        self.put(self.header.coff + 2, &count.to_le_bytes())?;
        let data = number(&self.bytes, optional + 8, 4)? + self.added;
        let image = self.free.next_multiple_of(self.alignment.0);
        // No firmware looks at the last, the checksum; what was right for the stub alone is wrong now.
        for (offset, value) in [(8, data), (56, image), (64, 0)] {
            let value = u32::try_from(value).map_err(|_| UkiError::TooLarge)?;
            self.put(optional + offset, &value.to_le_bytes())?;
        }
        Ok(self.bytes)
    }

    /// Fills up to where a section may begin in the file.
    fn pad(&mut self) -> Result<(), UkiError> {
        let align = usize::try_from(self.alignment.1).map_err(|_| UkiError::TooLarge)?;
        let length = self.bytes.len().checked_next_multiple_of(align).ok_or(UkiError::TooLarge)?;
        length_of(&self.bytes)?;
        self.bytes.resize(length, 0);
        Ok(())
    }

    fn put(&mut self, at: u64, bytes: &[u8]) -> Result<(), UkiError> {
        let from = usize::try_from(at).map_err(|_| UkiError::CutShort { at })?;
        let place = self.bytes.get_mut(from..from + bytes.len()).ok_or(UkiError::CutShort { at })?;
        place.copy_from_slice(bytes);
        Ok(())
    }
}

/// A length as the form says it.
fn length_of(bytes: &[u8]) -> Result<u32, UkiError> {
    u32::try_from(bytes.len()).map_err(|_| UkiError::TooLarge)
}

fn number(file: &[u8], at: u64, size: u64) -> Result<u64, UkiError> {
    let field = slice(file, at, size)?;
    Ok(field.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
}

fn slice(file: &[u8], at: u64, size: u64) -> Result<&[u8], UkiError> {
    let range = usize::try_from(at).ok().zip(at.checked_add(size).and_then(|end| usize::try_from(end).ok()));
    range.and_then(|(from, end)| file.get(from..end)).ok_or(UkiError::CutShort { at })
}
