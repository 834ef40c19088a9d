//! Unified kernel images: one EFI program that holds a kernel, its initrd and its command line, so that what boots
//! is measured into a TPM as a whole.
//!
//! Owns: how such an image is packed ([`pack`]), and what its stub will measure of it ([`measured`]).
//! Promises: the same parts give the same bytes; no input makes it panic.
//! Never: does I/O, hashes, depends on another crate. `cargo x` is built from it, and has to answer within seconds.
//!
//! The layout is the UAPI group's specification of unified kernel images; the form is PE32+ (Microsoft's PE format),
//! of which no more is read than the table of sections. The program in front is systemd's EFI stub.
#![forbid(unsafe_code)]

mod pe;

use pe::{Pe, Section};
use std::ffi::CStr;
use std::fmt;

/// Sections begin at a multiple of this in memory: the processor's pages, which the firmware protects one by one.
const PAGE: u64 = 4096;

/// The sections that the stub measures into PCR 11, in its order, whatever their order in the file.
/// It extends with each name, its NUL included, and then with the content (systemd-stub(7), "TPM PCR Notes").
const MEASURED: [&CStr; 10] = [
    c".linux",
    c".osrel",
    c".cmdline",
    c".initrd",
    c".ucode",
    c".splash",
    c".dtb",
    c".uname",
    c".sbat",
    c".pcrpkey",
];

/// What goes into an image.
#[derive(Debug, Clone, Copy)]
pub struct Parts<'a> {
    /// systemd's `linuxx64.efi.stub`, which starts the kernel and measures everything before.
    pub stub: &'a [u8],
    /// The system's `os-release`, which boot menus show.
    pub os_release: &'a str,
    /// The kernel's command line.
    pub command_line: &'a str,
    /// A kernel that is an EFI program itself, as Debian's `vmlinuz` is.
    pub kernel: &'a [u8],
    /// One or several cpio archives, joined as the kernel wants them.
    pub initrd: &'a [u8],
}

/// Why an image cannot be packed or read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UkiError {
    /// It is not an EFI program for this processor.
    NotEfi {
        /// Which of the parts.
        part: &'static str,
    },
    /// A field or a section lies beyond the end of the file.
    CutShort {
        /// Where the file was to be read.
        at: u64,
    },
    /// The stub has a section already that is to be added.
    Taken(String),
    /// The stub has no room for the heads of further sections.
    NoRoom,
    /// The stub is signed, and adding to it would break the signature.
    Signed,
    /// The image does not fit into the 4 GiB that the form can say.
    TooLarge,
    /// The kernel would read the command line as another one.
    CommandLine(char),
}

impl fmt::Display for UkiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotEfi { part } => {
                write!(f, "the {part} is not an EFI program (PE32+) for x86-64; is it the right file?")
            }
            Self::CutShort { at } => {
                write!(f, "the EFI program ends before its byte {at}; copy or build it again")
            }
            Self::Taken(name) => {
                write!(f, "the stub has a section {name} already; give a bare stub, not a packed image")
            }
            Self::NoRoom => {
                f.write_str("the stub's header has no room for five sections more; use another stub")
            }
            Self::Signed => {
                f.write_str("the stub is signed; give an unsigned one, and sign the packed image")
            }
            Self::TooLarge => f.write_str("the image would be 4 GiB or more; make the initrd smaller"),
            Self::CommandLine(bad) => {
                write!(
                    f,
                    "the command line has {bad:?}; only printable ASCII stays the same on its way to the kernel"
                )
            }
        }
    }
}

impl std::error::Error for UkiError {}

/// Packs `parts` into one EFI program.
///
/// # Errors
/// Stub or kernel are not what they should be, or what comes out could not be booted.
pub fn pack(parts: &Parts<'_>) -> Result<Vec<u8>, UkiError> {
    if let Some(bad) = parts.command_line.chars().find(|c| !matches!(c, ' '..='~')) {
        return Err(UkiError::CommandLine(bad));
    }
    Pe::read(parts.kernel, "kernel")?;
    // The kernel stands last: one that is started where it lies needs the memory behind it.
    let sections: [(&str, &[u8]); 4] = [
        (".osrel", parts.os_release.as_bytes()),
        (".cmdline", parts.command_line.as_bytes()),
        (".initrd", parts.initrd),
        (".linux", parts.kernel),
    ];
    let mut pe = Pe::read(parts.stub, "stub")?;
    for (name, content) in sections {
        pe.add(name, content, PAGE)?;
    }
    pe.finish()
}

/// What the stub of `image` extends PCR 11 with, in order: for each section first the hash of its name with the NUL
/// at its end, then the hash of its content.
///
/// # Errors
/// `image` is not an EFI program, or is cut short.
pub fn measured(image: &[u8]) -> Result<Vec<(&'static CStr, &[u8])>, UkiError> {
    let sections = pe::sections(image, "image")?;
    let find = |name: &CStr| sections.iter().find(|section| section.name == name.to_bytes());
    let present = MEASURED.iter().filter_map(|name| Some((*name, find(name)?)));
    present.map(|(name, section)| Ok((name, Section::content(section, image)?))).collect()
}

#[cfg(test)]
mod tests;
