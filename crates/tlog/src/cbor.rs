//! Deterministic CBOR (RFC 8949 section 4.2.1), as much of it as entries need: unsigned integers, byte and text
//! strings, arrays, maps with unsigned keys, and `true`. Integers are as short as they can be, lengths are definite,
//! nothing follows the value. A reader that accepts only this form makes a value and its bytes one and the same.

const UNSIGNED: u8 = 0;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const MAP: u8 = 5;
/// Major type 7, simple value 21.
const TRUE: u8 = 0xf5;

fn head(out: &mut Vec<u8>, major: u8, value: u64) {
    let major = major << 5;
    let [.., a, b, c, d] = value.to_be_bytes();
    match value {
        0..=23 => out.push(major | d),
        24..=0xff => out.extend_from_slice(&[major | 24, d]),
        0x100..=0xffff => out.extend_from_slice(&[major | 25, c, d]),
        0x1_0000..=0xffff_ffff => out.extend_from_slice(&[major | 26, a, b, c, d]),
        _ => {
            out.push(major | 27);
            out.extend_from_slice(&value.to_be_bytes());
        }
    }
}

/// Appends an unsigned integer.
pub fn unsigned(out: &mut Vec<u8>, value: u64) {
    head(out, UNSIGNED, value);
}

/// Appends a byte string.
pub fn bytes(out: &mut Vec<u8>, value: &[u8]) {
    head(out, BYTES, value.len() as u64);
    out.extend_from_slice(value);
}

/// Appends a text string.
pub fn text(out: &mut Vec<u8>, value: &str) {
    head(out, TEXT, value.len() as u64);
    out.extend_from_slice(value.as_bytes());
}

/// Appends the head of an array of so many items.
pub fn array(out: &mut Vec<u8>, items: u64) {
    head(out, ARRAY, items);
}

/// Appends the head of a map of so many pairs. The pairs follow in ascending order of their keys.
pub fn map(out: &mut Vec<u8>, pairs: u64) {
    head(out, MAP, pairs);
}

/// Appends `true`.
pub fn yes(out: &mut Vec<u8>) {
    out.push(TRUE);
}

/// Why bytes are not what was expected in deterministic form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CborError {
    /// They end within a value.
    #[error("the bytes end within a value")]
    Short,
    /// Another type of value.
    #[error("byte {0} begins another type of value than belongs there")]
    Type(usize),
    /// An integer or length in a longer form than it needs, or of no definite length.
    #[error("byte {0} begins a value that is not in its shortest form")]
    NotShortest(usize),
    /// A text string that is not UTF-8.
    #[error("the text before byte {0} is not UTF-8")]
    NotText(usize),
    /// Something stands behind the value.
    #[error("{0} bytes stand behind the value")]
    Behind(usize),
}

/// Reads values one after the other.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Starts at the first byte.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], CborError> {
        let taken = self.bytes.get(self.at..).and_then(|rest| rest.get(..len)).ok_or(CborError::Short)?;
        self.at += len;
        Ok(taken)
    }

    fn number<const N: usize>(&mut self) -> Result<u64, CborError> {
        let mut wide = [0; 8];
        wide[8 - N..].copy_from_slice(self.take(N)?);
        Ok(u64::from_be_bytes(wide))
    }

    fn head(&mut self, major: u8) -> Result<u64, CborError> {
        let start = self.at;
        let first = *self.take(1)?.first().ok_or(CborError::Short)?;
        if first >> 5 != major {
            return Err(CborError::Type(start));
        }
        let (value, least) = match first & 31 {
            small @ 0..=23 => (u64::from(small), 0),
            24 => (self.number::<1>()?, 24),
            25 => (self.number::<2>()?, 0x100),
            26 => (self.number::<4>()?, 0x1_0000),
            27 => (self.number::<8>()?, 0x1_0000_0000),
            _ => return Err(CborError::NotShortest(start)),
        };
        if value < least { Err(CborError::NotShortest(start)) } else { Ok(value) }
    }

    /// An unsigned integer.
    ///
    /// # Errors
    /// [`CborError`], as every method here.
    pub fn unsigned(&mut self) -> Result<u64, CborError> {
        self.head(UNSIGNED)
    }

    /// A byte string.
    ///
    /// # Errors
    /// [`CborError`].
    pub fn bytes(&mut self) -> Result<&'a [u8], CborError> {
        let len = self.head(BYTES)?;
        self.take(usize::try_from(len).map_err(|_| CborError::Short)?)
    }

    /// A byte string of exactly this length.
    ///
    /// # Errors
    /// [`CborError`].
    pub fn fixed<const N: usize>(&mut self) -> Result<[u8; N], CborError> {
        let start = self.at;
        self.bytes()?.try_into().map_err(|_| CborError::Type(start))
    }

    /// A text string.
    ///
    /// # Errors
    /// [`CborError`].
    pub fn text(&mut self) -> Result<&'a str, CborError> {
        let len = self.head(TEXT)?;
        let bytes = self.take(usize::try_from(len).map_err(|_| CborError::Short)?)?;
        std::str::from_utf8(bytes).map_err(|_| CborError::NotText(self.at))
    }

    /// The number of an array's items.
    ///
    /// # Errors
    /// [`CborError`].
    pub fn array(&mut self) -> Result<u64, CborError> {
        self.head(ARRAY)
    }

    /// The number of a map's pairs.
    ///
    /// # Errors
    /// [`CborError`].
    pub fn map(&mut self) -> Result<u64, CborError> {
        self.head(MAP)
    }

    /// `true`.
    ///
    /// # Errors
    /// [`CborError`].
    pub fn yes(&mut self) -> Result<(), CborError> {
        let start = self.at;
        match self.take(1)? {
            [TRUE] => Ok(()),
            _ => Err(CborError::Type(start)),
        }
    }

    /// Nothing may be left.
    ///
    /// # Errors
    /// [`CborError::Behind`].
    pub fn end(&self) -> Result<(), CborError> {
        match self.bytes.len() - self.at {
            0 => Ok(()),
            left => Err(CborError::Behind(left)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_examples_of_the_rfc_are_read_and_written() {
        // RFC 8949, appendix A.
        let rows: [(u64, &[u8]); 9] = [
            (0, &[0x00]),
            (23, &[0x17]),
            (24, &[0x18, 0x18]),
            (100, &[0x18, 0x64]),
            (1000, &[0x19, 0x03, 0xe8]),
            (1_000_000, &[0x1a, 0x00, 0x0f, 0x42, 0x40]),
            (1_000_000_000_000, &[0x1b, 0x00, 0x00, 0x00, 0xe8, 0xd4, 0xa5, 0x10, 0x00]),
            (255, &[0x18, 0xff]),
            (u64::MAX, &[0x1b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        ];
        for (value, encoded) in rows {
            let mut out = Vec::new();
            unsigned(&mut out, value);
            assert_eq!(out, encoded);
            assert_eq!(Reader::new(encoded).unsigned(), Ok(value));
        }
        let mut out = Vec::new();
        bytes(&mut out, &[1, 2, 3, 4]);
        text(&mut out, "IETF");
        assert_eq!(out, [0x44, 1, 2, 3, 4, 0x64, 0x49, 0x45, 0x54, 0x46]);
    }

    #[test]
    fn longer_forms_and_indefinite_lengths_are_refused() {
        for long in
            [&[0x18, 0x17][..], &[0x19, 0, 0xff], &[0x1a, 0, 0, 0xff, 0xff], &[0x1b, 0, 0, 0, 0, 1, 0, 0, 0]]
        {
            assert_eq!(Reader::new(long).unsigned(), Err(CborError::NotShortest(0)), "{long:x?}");
        }
        assert_eq!(Reader::new(&[0x5f, 0x41, 1, 0xff]).bytes(), Err(CborError::NotShortest(0)));
        assert_eq!(Reader::new(&[0x9f, 0xff]).array(), Err(CborError::NotShortest(0)));
        assert_eq!(Reader::new(&[0x62, 0xc3, 0x28]).text(), Err(CborError::NotText(3)));
        assert_eq!(
            Reader::new(&[0x5b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]).bytes(),
            Err(CborError::Short)
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(input in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = Reader::new(&input).unsigned();
            let _ = Reader::new(&input).bytes();
            let _ = Reader::new(&input).text();
            let _ = Reader::new(&input).fixed::<4>();
        }

        #[test]
        fn what_is_written_is_read(n: u64, b in prop::collection::vec(any::<u8>(), 0..300), t: String) {
            let mut out = Vec::new();
            map(&mut out, n);
            array(&mut out, n);
            unsigned(&mut out, n);
            bytes(&mut out, &b);
            text(&mut out, &t);
            yes(&mut out);
            let mut reader = Reader::new(&out);
            prop_assert_eq!(reader.map(), Ok(n));
            prop_assert_eq!(reader.array(), Ok(n));
            prop_assert_eq!(reader.unsigned(), Ok(n));
            prop_assert_eq!(reader.bytes(), Ok(&b[..]));
            prop_assert_eq!(reader.text(), Ok(t.as_str()));
            prop_assert_eq!(reader.yes(), Ok(()));
            prop_assert_eq!(reader.end(), Ok(()));
        }
    }
}
