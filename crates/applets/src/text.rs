//! Utilities for text and bytes that no crate offers.

mod column;
mod dos2unix;
mod file;
mod getopt;
mod hexdump;
mod less;
mod rev;
mod strings;
mod tail;
mod tree;
mod vi;
mod xxd;

pub(crate) use column::column;
pub(crate) use dos2unix::{dos2unix, unix2dos};
pub(crate) use file::file;
pub(crate) use getopt::getopt;
pub(crate) use hexdump::hexdump;
pub(crate) use less::{less, more};
pub(crate) use rev::rev;
pub(crate) use strings::strings;
pub(crate) use tail::tail;
pub(crate) use tree::tree;
pub(crate) use vi::vi;
pub(crate) use xxd::xxd;

use std::ffi::OsString;

/// Runs a utility whose options `parse` reads: a wrong one is told with what to do next.
fn with_options<O>(
    name: &str,
    help: &str,
    wrong: i32,
    arguments: Vec<OsString>,
    parse: impl FnOnce(lexopt::Parser) -> Result<O, lexopt::Error>,
    run: impl FnOnce(O) -> i32,
) -> i32 {
    if let Some(code) = crate::output::help_or_version(&arguments, name, help) {
        return code;
    }
    match parse(lexopt::Parser::from_args(arguments.into_iter().skip(1))) {
        Ok(options) => run(options),
        Err(error) => {
            crate::output::complain(name, &format_args!("{error}; {name} --help lists the options"));
            wrong
        }
    }
}

/// A number as C writes it: `0x` for hexadecimal, `0` for octal; with a suffix of 1024s where it is a size.
fn number(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text}: not a number of bytes");
    let (digits, unit) = match text.char_indices().last() {
        Some((at, 'k' | 'K')) => (&text[..at], 1 << 10),
        Some((at, 'm' | 'M')) => (&text[..at], 1 << 20),
        Some((at, 'g' | 'G')) => (&text[..at], 1 << 30),
        _ => (text, 1),
    };
    let read = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(hex) => u64::from_str_radix(hex, 16),
        None if digits.len() > 1 && digits.starts_with('0') => u64::from_str_radix(digits, 8),
        None => digits.parse(),
    };
    read.ok().and_then(|number| number.checked_mul(unit)).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn numbers_are_those_of_c() {
        for (text, wanted) in [("0", 0), ("16", 16), ("0x10", 16), ("020", 16), ("2k", 2048), ("1M", 1 << 20)]
        {
            assert_eq!(number(text), Ok(wanted), "{text}");
        }
        for wrong in ["", "x", "-1", "0x", "09", "99999999999g"] {
            assert!(number(wrong).is_err(), "{wrong}");
        }
    }
}
