//! The four kinds of compressed streams.

use super::bound::{Bounded, Limit};
use bzip2::read::{BzEncoder, MultiBzDecoder};
use flate2::bufread::{GzDecoder, GzEncoder};
use flate2::{Compression, GzBuilder};
use lzma_rust2::{XzOptions, XzReader, XzWriter};
use octant_archive::Zstd;
use ruzstd::encoding::CompressionLevel;
use std::cell::RefCell;
use std::io::{self, BufRead, BufReader, Read, Write};

/// The most memory that a stream of xz may ask for, in KiB: eight times what `xz -9` needs.
const XZ_MEMORY_KIB: u32 = 512 * 1024;

/// How something is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Codec {
    Gzip,
    Bzip2,
    Xz,
    Zstd,
}

impl Codec {
    pub(crate) const ALL: [Self; 4] = [Self::Gzip, Self::Bzip2, Self::Xz, Self::Zstd];
    /// As many bytes of a stream tell which it is.
    pub(crate) const MAGIC_BYTES: usize = 6;

    /// The program's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Bzip2 => "bzip2",
            Self::Xz => "xz",
            Self::Zstd => "zstd",
        }
    }

    /// Endings of compressed files, and what takes their place; the first is what compression adds.
    pub(crate) fn endings(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Gzip => &[(".gz", ""), (".tgz", ".tar"), (".taz", ".tar"), ("-gz", ""), (".z", "")],
            Self::Bzip2 => &[(".bz2", ""), (".tbz2", ".tar"), (".tbz", ".tar"), (".bz", "")],
            Self::Xz => &[(".xz", ""), (".txz", ".tar")],
            Self::Zstd => &[(".zst", ""), (".tzst", ".tar")],
        }
    }

    /// Which one these first bytes are of.
    pub(crate) fn of(first: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|codec| match codec {
            Self::Gzip => first.starts_with(&[0x1f, 0x8b]),
            Self::Bzip2 => first.starts_with(b"BZh"),
            Self::Xz => first.starts_with(b"\xfd7zXZ\0"),
            // A frame, or one of the sixteen kinds that say nothing.
            Self::Zstd => {
                first.starts_with(b"\x28\xb5\x2f\xfd")
                    || (first.get(1..4) == Some(b"\x2a\x4d\x18") && first[0] & 0xf0 == 0x50)
            }
        })
    }

    /// Which one a file of this name should be.
    pub(crate) fn by_name(name: &[u8]) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|codec| codec.endings().iter().any(|(end, _)| name.ends_with(end.as_bytes())))
    }

    /// What a stream decompresses to. Several members one after the other are one stream.
    pub(crate) fn reader<'a>(self, source: impl Read + 'a, limit: Limit) -> Box<dyn Read + 'a> {
        match self {
            Self::Gzip => Box::new(Bounded::new(source, limit, Members::new)),
            Self::Bzip2 => Box::new(Bounded::new(source, limit, MultiBzDecoder::new)),
            Self::Xz => Box::new(Bounded::new(source, limit, |source| {
                XzReader::new_mem_limit(BufReader::with_capacity(64 * 1024, source), true, XZ_MEMORY_KIB)
            })),
            Self::Zstd => Box::new(Bounded::new(source, limit, |source| {
                Zstd::new(BufReader::with_capacity(64 * 1024, source))
            })),
        }
    }

    /// Compresses a stream. `level` goes from 1, quick, to 9, small; `stamp` is what gzip notes of the file.
    pub(crate) fn compress(
        self,
        level: Option<u32>,
        stamp: &Stamp,
        source: &mut dyn Read,
        sink: &mut dyn Write,
    ) -> io::Result<()> {
        match self {
            Self::Gzip => {
                let mut builder = GzBuilder::new().mtime(stamp.mtime).operating_system(3);
                if let Some(name) = &stamp.name {
                    builder = builder.filename(name.clone());
                }
                let source = BufReader::with_capacity(64 * 1024, source);
                let mut packed: GzEncoder<_> = builder.buf_read(source, Compression::new(level.unwrap_or(6)));
                io::copy(&mut packed, sink).map(drop)
            }
            Self::Bzip2 => {
                let mut packed = BzEncoder::new(source, bzip2::Compression::new(level.unwrap_or(9).max(1)));
                io::copy(&mut packed, sink).map(drop)
            }
            Self::Xz => {
                let mut writer = XzWriter::new(sink, XzOptions::with_preset(level.unwrap_or(6)))?;
                io::copy(source, &mut writer)?;
                writer.finish().map(drop)
            }
            Self::Zstd => compress_zstd(source, sink),
        }
    }
}

/// The members of a gzip stream, one after the other. Zeros behind one are what a tape or a disk filled its block with.
struct Members<R>(Option<GzDecoder<BufReader<R>>>);

impl<R: Read> Members<R> {
    fn new(source: R) -> Self {
        Self(Some(GzDecoder::new(BufReader::with_capacity(64 * 1024, source))))
    }
}

impl<R: Read> Read for Members<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(member) = &mut self.0 {
            let read = member.read(buffer)?;
            if read > 0 || buffer.is_empty() {
                return Ok(read);
            }
            let Some(mut source) = self.0.take().map(GzDecoder::into_inner) else { break };
            loop {
                let held = source.fill_buf()?;
                let zeros = held.iter().take_while(|byte| **byte == 0).count();
                if zeros < held.len() {
                    source.consume(zeros);
                    self.0 = Some(GzDecoder::new(source));
                    break;
                }
                if zeros == 0 {
                    return Ok(0);
                }
                source.consume(zeros);
            }
        }
        Ok(0)
    }
}

/// What a compressed stream says of the file that it was.
#[derive(Debug, Default, Clone)]
pub(crate) struct Stamp {
    pub(crate) name: Option<Vec<u8>>,
    pub(crate) mtime: u32,
}

/// The encoder ends the process where a read or a write fails, so failures are kept from it: after one it sees the end of
/// what there is to read, and everything that it writes is taken. It has one level.
fn compress_zstd(source: &mut dyn Read, sink: &mut dyn Write) -> io::Result<()> {
    let failure = RefCell::new(None);
    let source = Guarded { inner: source, failure: &failure };
    let sink = Guarded { inner: sink, failure: &failure };
    ruzstd::encoding::compress(source, sink, CompressionLevel::Fastest);
    failure.into_inner().map_or(Ok(()), Err)
}

struct Guarded<'a, T: ?Sized> {
    inner: &'a mut T,
    failure: &'a RefCell<Option<io::Error>>,
}

impl<T: ?Sized> Guarded<'_, T> {
    fn guard(&mut self, otherwise: usize, act: impl Fn(&mut T) -> io::Result<usize>) -> usize {
        if self.failure.borrow().is_some() {
            return otherwise;
        }
        loop {
            match act(self.inner) {
                Ok(count) => return count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.failure.replace(Some(error));
                    return otherwise;
                }
            }
        }
    }
}

impl Read for Guarded<'_, dyn Read + '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let buffer = RefCell::new(buffer);
        Ok(self.guard(0, |source| source.read(&mut buffer.borrow_mut())))
    }
}

impl Write for Guarded<'_, dyn Write + '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(self.guard(bytes.len(), |sink| sink.write_all(bytes).map(|()| bytes.len())))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.guard(0, |sink| sink.flush().map(|()| 0));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text() -> Vec<u8> {
        (0..40_000_u32).flat_map(|n| format!("line {} of {}\n", n, n % 97).into_bytes()).collect()
    }

    fn packed(codec: Codec, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        codec.compress(Some(3), &Stamp::default(), &mut &bytes[..], &mut out).unwrap();
        out
    }

    #[test]
    fn zeros_behind_a_gzip_stream_are_passed_over_and_nothing_else_is() {
        let unpacked = |stream: &[u8]| {
            let mut out = Vec::new();
            Codec::Gzip.reader(stream, Limit::None).read_to_end(&mut out).map(|_| out)
        };
        let (one, two) = (packed(Codec::Gzip, b"one"), packed(Codec::Gzip, b"two"));
        let zeros = vec![0; 100_000];
        assert_eq!(unpacked(&[&one[..], &two, &zeros].concat()).unwrap(), b"onetwo");
        assert_eq!(unpacked(&[&one[..], &zeros, &two].concat()).unwrap(), b"onetwo");
        assert!(unpacked(&[&one[..], &zeros, b"rubbish"].concat()).is_err());
        assert!(unpacked(&zeros).is_err());
        assert!(unpacked(&one[..one.len() - 1]).is_err());
    }

    #[test]
    fn what_was_packed_is_unpacked_and_known_by_its_first_bytes() {
        for codec in Codec::ALL {
            for bytes in [Vec::new(), b"x".to_vec(), text()] {
                let once = packed(codec, &bytes);
                assert_eq!(Codec::of(&once), Some(codec));
                let twice = [once.as_slice(), &once].concat();
                let mut back = Vec::new();
                codec.reader(&twice[..], Limit::default()).read_to_end(&mut back).unwrap();
                assert_eq!(back, [bytes.as_slice(), &bytes].concat(), "{codec:?}");
            }
        }
    }

    #[test]
    fn what_is_cut_or_changed_is_an_error() {
        for codec in Codec::ALL {
            let whole = packed(codec, &text());
            let cut = &whole[..whole.len() - 3];
            assert!(codec.reader(cut, Limit::None).read_to_end(&mut Vec::new()).is_err(), "{codec:?} cut");
            let mut changed = whole.clone();
            let middle = changed.len() / 2;
            changed[middle] ^= 0x55;
            let result = codec.reader(&changed[..], Limit::None).read_to_end(&mut Vec::new());
            assert!(result.is_err(), "{codec:?} changed");
        }
    }

    #[test]
    fn a_bomb_ends_at_the_limit() {
        for codec in Codec::ALL {
            let bomb = packed(codec, &vec![0; 3 << 20]);
            assert!(bomb.len() < 32 << 10, "{codec:?}: {}", bomb.len());
            let mut reader = codec.reader(&bomb[..], Limit::Bytes(1 << 20));
            let error = io::copy(&mut reader, &mut io::sink()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::FileTooLarge, "{codec:?}");
        }
    }

    #[test]
    fn a_failure_to_write_or_read_is_told() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::ErrorKind::PermissionDenied.into())
            }
        }
        for codec in Codec::ALL {
            let stamp = Stamp::default();
            let error = codec.compress(None, &stamp, &mut &text()[..], &mut Full).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::StorageFull, "{codec:?}");
            let error = codec.compress(None, &stamp, &mut Broken, &mut Vec::new()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{codec:?}");
        }
    }
}
