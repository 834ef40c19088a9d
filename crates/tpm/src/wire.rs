//! Marshalling (TPM 2.0 Library, Part 1, section 5; Part 2, section 4): integers big endian, and buffers with their
//! length in two bytes before them (TPM2B).

use zeroize::Zeroizing;

/// The most bytes of a command or a reply: what the kernel's device takes and gives (TPM_BUFSIZE).
pub(crate) const FRAME_MAX: usize = 4096;
/// Tag, length, and the command or response code (Part 1, section 18.2).
pub(crate) const HEADER: usize = 10;

/// What is not as the specification says, in a few words that have nothing of the bytes in them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Broken(pub(crate) &'static str);

/// What a [`Reader`] gives.
pub(crate) type Read<T> = Result<T, Broken>;

/// A buffer with all its room from the start: memory that a vector leaves when it grows is not wiped.
pub(crate) fn frame() -> Zeroizing<Vec<u8>> {
    Zeroizing::new(Vec::with_capacity(FRAME_MAX))
}

/// Appends to a frame. What would make it longer than [`FRAME_MAX`] is not written, and remembered.
pub(crate) struct Writer {
    bytes: Zeroizing<Vec<u8>>,
    too_long: bool,
}

impl Writer {
    pub(crate) fn new() -> Self {
        Self { bytes: frame(), too_long: false }
    }

    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        if bytes.len() > FRAME_MAX - self.bytes.len() {
            self.too_long = true;
        } else {
            self.bytes.extend_from_slice(bytes);
        }
        self
    }

    pub(crate) fn u8(self, value: u8) -> Self {
        self.raw(&[value])
    }

    pub(crate) fn u16(self, value: u16) -> Self {
        self.raw(&value.to_be_bytes())
    }

    pub(crate) fn u32(self, value: u32) -> Self {
        self.raw(&value.to_be_bytes())
    }

    /// A TPM2B.
    pub(crate) fn sized(mut self, bytes: &[u8]) -> Self {
        // What does not fit into two bytes does not fit into a frame either.
        let Ok(len) = u16::try_from(bytes.len()) else {
            self.too_long = true;
            return self;
        };
        self.u16(len).raw(bytes)
    }

    /// What is written.
    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes
    }

    /// Everything written; `None` if it is more than a frame.
    pub(crate) fn finish(self) -> Option<Zeroizing<Vec<u8>>> {
        (!self.too_long).then_some(self.bytes)
    }
}

/// Takes apart what came from outside.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn take(&mut self, len: usize) -> Read<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(Broken("ends too early"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Read<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Broken("ends too early"))?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(crate) fn u8(&mut self) -> Read<u8> {
        self.array().map(u8::from_be_bytes)
    }

    pub(crate) fn u16(&mut self) -> Read<u16> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Read<u32> {
        self.array().map(u32::from_be_bytes)
    }

    /// A TPM2B of at most `max` bytes.
    pub(crate) fn sized(&mut self, max: usize) -> Read<&'a [u8]> {
        let len = usize::from(self.u16()?);
        if len > max { Err(Broken("has a buffer that is too long")) } else { self.take(len) }
    }

    pub(crate) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    pub(crate) fn end(self) -> Read<()> {
        if self.0.is_empty() { Ok(()) } else { Err(Broken("has bytes behind its end")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let bytes = Writer::new().u8(1).u16(2).u32(3).sized(b"four").raw(b"5").finish().unwrap();
        assert_eq!(**bytes, *b"\x01\x00\x02\x00\x00\x00\x03\x00\x04four5");
        let mut reader = Reader::new(&bytes);
        assert_eq!(
            (reader.u8(), reader.u16(), reader.u32(), reader.sized(4)),
            (Ok(1), Ok(2), Ok(3), Ok(&b"four"[..]))
        );
        assert_eq!(reader.end(), Err(Broken("has bytes behind its end")));
        assert_eq!(
            (reader.u16(), reader.rest(), reader.end()),
            (Err(Broken("ends too early")), &b"5"[..], Ok(()))
        );
    }

    #[test]
    fn lengths_are_limited() {
        assert_eq!(Reader::new(b"\0\x05hello").sized(4), Err(Broken("has a buffer that is too long")));
        assert_eq!(Reader::new(b"\0\x05hell").sized(5), Err(Broken("ends too early")));
        assert!(Writer::new().raw(&[0; FRAME_MAX]).finish().is_some());
        assert!(Writer::new().raw(&[0; FRAME_MAX]).u8(0).finish().is_none());
        assert!(Writer::new().sized(&[0; 70_000]).finish().is_none());
        let room = Writer::new().raw(&[0; FRAME_MAX]).finish().unwrap().capacity();
        assert_eq!(room, FRAME_MAX, "a frame never moves");
    }
}
