//! Tar's extended headers: GNU's long names and links, and the records of pax.

use std::io::{self, Read};

/// The most bytes of an extended header: a name and a link, with room for what is not used.
pub const EXTENDED_BYTES: u64 = 64 * 1024;

/// What extended headers say of the next entry.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Extended {
    /// Its name.
    pub name: Option<Vec<u8>>,
    /// What it links to.
    pub link: Option<Vec<u8>>,
    /// How many bytes it has.
    pub size: Option<u64>,
    /// When it was changed, in whole seconds.
    pub mtime: Option<i64>,
    /// Whose it is, by number.
    pub user: Option<u64>,
    /// Its group, by number.
    pub group: Option<u64>,
}

/// Why an extended header cannot be read.
#[derive(Debug)]
pub enum ExtendedError {
    /// The archive cannot be.
    Io(io::Error),
    /// It is none.
    Wrong(&'static str),
}

impl Extended {
    /// Whether an entry of this kind is an extended header.
    #[must_use]
    pub fn is(kind: u8) -> bool {
        matches!(kind, b'L' | b'K' | b'x' | b'g')
    }

    /// Reads one: its kind, its length and its bytes.
    ///
    /// # Errors
    /// [`ExtendedError`].
    pub fn read(&mut self, kind: u8, size: u64, body: &mut impl Read) -> Result<(), ExtendedError> {
        if size > EXTENDED_BYTES {
            return Err(ExtendedError::Wrong("is longer than 64 KiB"));
        }
        let mut bytes = Vec::new();
        body.read_to_end(&mut bytes).map_err(ExtendedError::Io)?;
        // GNU's ends with NUL.
        let text = |bytes: &[u8]| bytes.strip_suffix(b"\0").unwrap_or(bytes).to_vec();
        match kind {
            b'L' => self.name = Some(text(&bytes)),
            b'K' => self.link = Some(text(&bytes)),
            b'x' => self.pax(&bytes).map_err(ExtendedError::Wrong)?,
            // For all entries that follow: git's has a comment, and nothing that makes archives of files needs more.
            _ => {}
        }
        Ok(())
    }

    /// `LENGTH KEY=VALUE\n`, the length that of the whole record (POSIX.1-2017, pax).
    fn pax(&mut self, mut rest: &[u8]) -> Result<(), &'static str> {
        const CUT: &str = "is cut";
        while !rest.is_empty() {
            let space = rest.iter().position(|&b| b == b' ').ok_or(CUT)?;
            let length = number(&rest[..space]).and_then(|length| usize::try_from(length).ok());
            let (record, after) = length.and_then(|length| rest.split_at_checked(length)).ok_or(CUT)?;
            let record = record.get(space + 1..).and_then(|record| record.strip_suffix(b"\n")).ok_or(CUT)?;
            let equals = record.iter().position(|&b| b == b'=').ok_or(CUT)?;
            let (key, value) = (&record[..equals], &record[equals + 1..]);
            match key {
                b"path" => self.name = Some(value.to_vec()),
                b"linkpath" => self.link = Some(value.to_vec()),
                b"size" => self.size = Some(number(value).ok_or("has a size that is no number")?),
                b"uid" => self.user = number(value),
                b"gid" => self.group = number(value),
                b"mtime" => self.mtime = seconds(value),
                key if key.starts_with(b"GNU.sparse.") => return Err("is of a sparse file"),
                // Names of owners, other times, extended attributes: kept nowhere.
                _ => {}
            }
            rest = after;
        }
        Ok(())
    }
}

fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// The whole seconds of `SECONDS[.FRACTION]`.
fn seconds(text: &[u8]) -> Option<i64> {
    let whole = text.split(|&b| b == b'.').next()?;
    std::str::from_utf8(whole).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pax(text: &str) -> Result<Extended, &'static str> {
        let mut extended = Extended::default();
        extended.pax(text.as_bytes()).map(|()| extended)
    }

    #[test]
    fn records_are_read_and_unknown_ones_passed_over() {
        let read = pax("12 path=a/b\n19 mtime=1234.5678\n9 uid=42\n16 comment=hello\n");
        assert!(read.is_err(), "a length that is wrong is taken");
        let read = pax("12 path=a/b\n20 mtime=1234.56789\n10 uid=42\n17 comment=hello\n").unwrap();
        let wanted = Extended {
            name: Some(b"a/b".to_vec()),
            mtime: Some(1234),
            user: Some(42),
            ..Extended::default()
        };
        assert_eq!(read, wanted);
    }

    #[test]
    fn what_is_cut_or_sparse_or_too_long_is_refused() {
        for wrong in ["12 path=a/b", "99 path=a/b\n", "x path=a/b\n", "10 size=x\n", "9 path a\n"] {
            assert!(pax(wrong).is_err(), "{wrong}");
        }
        assert!(pax("22 GNU.sparse.major=1\n").is_err());
        let mut long = Extended::default();
        let result = long.read(b'L', EXTENDED_BYTES + 1, &mut io::repeat(b'a'));
        assert!(matches!(result, Err(ExtendedError::Wrong(_))));
    }
}
