//! How much may come out of what is compressed: a few kilobytes can be made to unpack to petabytes.

use std::cell::Cell;
use std::fmt;
use std::io::{self, Read};
use std::rc::Rc;

/// What a compressed stream may always come to.
const FREE_BYTES: u64 = 1 << 30;
/// Beyond that, how many bytes for each of its own. Logs and disk images stay below; zeros do not.
const RATIO: u64 = 250;

/// The most that may come out of one compressed stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Limit {
    /// 1 GiB, and 250 times what went in.
    #[default]
    Ratio,
    /// As many bytes as the caller said.
    Bytes(u64),
    /// Anything.
    None,
}

impl Limit {
    /// Reads `--limit`: a number of bytes with K, M, G or T behind it (powers of 1024), or `none`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text == "none" {
            return Some(Self::None);
        }
        let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
        let shift = match &text[digits.len()..] {
            "" => 0,
            "K" | "k" => 10,
            "M" => 20,
            "G" => 30,
            "T" => 40,
            _ => return None,
        };
        digits.parse::<u64>().ok()?.checked_mul(1 << shift).map(Self::Bytes)
    }

    pub(crate) fn allows(self, read: u64, written: u64) -> bool {
        match self {
            Self::Ratio => written <= FREE_BYTES || written <= read.saturating_mul(RATIO),
            Self::Bytes(limit) => written <= limit,
            Self::None => true,
        }
    }
}

/// For help texts.
pub(crate) const LIMIT_HELP: &str = "\
      --limit=BYTES   the most that a compressed stream may come to (K, M, G, T, or none); without it 1 GiB, and
                      beyond that 250 times its own length
";

/// Counts the bytes that pass.
pub(crate) struct Counted<R> {
    inner: R,
    count: Rc<Cell<u64>>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.count.set(self.count.get() + read as u64);
        Ok(read)
    }
}

/// Ends with an error where more comes out than the limit allows.
pub(crate) struct Bounded<R> {
    inner: R,
    limit: Limit,
    read: Rc<Cell<u64>>,
    written: u64,
}

impl<R: Read> Bounded<R> {
    /// What `decoder` makes of `source`.
    pub(crate) fn new<S: Read>(source: S, limit: Limit, decoder: impl FnOnce(Counted<S>) -> R) -> Self {
        let read = Rc::new(Cell::new(0));
        let inner = decoder(Counted { inner: source, count: Rc::clone(&read) });
        Self { inner, limit, read, written: 0 }
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.written += count as u64;
        if self.limit.allows(self.read.get(), self.written) {
            return Ok(count);
        }
        Err(io::Error::new(io::ErrorKind::FileTooLarge, TooMuch { read: self.read.get() }))
    }
}

#[derive(Debug)]
struct TooMuch {
    read: u64,
}

impl std::error::Error for TooMuch {}

impl fmt::Display for TooMuch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let read = self.read;
        write!(f, "{read} bytes unpack to more than the limit; --limit=BYTES or --limit=none raises it")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read() {
        assert_eq!(Limit::parse("10"), Some(Limit::Bytes(10)));
        assert_eq!(Limit::parse("3M"), Some(Limit::Bytes(3 << 20)));
        assert_eq!(Limit::parse("none"), Some(Limit::None));
        for wrong in ["", "M", "1X", "-1", "99999999999T"] {
            assert_eq!(Limit::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_gigabyte_is_free_and_then_the_ratio_counts() {
        assert!(Limit::Ratio.allows(10, 1 << 30));
        assert!(!Limit::Ratio.allows(10, (1 << 30) + 1));
        assert!(Limit::Ratio.allows(1 << 30, 250 << 30));
        assert!(!Limit::Ratio.allows(1 << 30, (250 << 30) + 1));
        assert!(Limit::None.allows(0, u64::MAX));
    }

    #[test]
    fn what_comes_to_more_is_an_error_and_not_an_end() {
        let source = Bounded::new(io::empty(), Limit::Bytes(100), |_| io::repeat(7));
        let mut all = Vec::new();
        let error = source.take(1000).read_to_end(&mut all).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
        let source = Bounded::new(&b"abc"[..], Limit::Bytes(3), |source| source);
        assert_eq!(io::read_to_string(source).unwrap(), "abc");
    }
}
