//! Zstandard, as streams have it.

use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use std::io::{self, Read};

/// Several zstd frames one after the other are one stream; skippable ones say nothing (RFC 8878, 3.1).
pub struct Zstd<R>(State<R>);

enum State<R> {
    Between(Option<R>),
    Within(Box<FrameDecoder>, R),
}

impl<R> std::fmt::Debug for Zstd<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Zstd").finish_non_exhaustive()
    }
}

impl<R> Zstd<R> {
    /// What these frames decompress to.
    pub fn new(frames: R) -> Self {
        Self(State::Between(Some(frames)))
    }
}

impl<R: Read> Read for Zstd<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            self.0 = match std::mem::replace(&mut self.0, State::Between(None)) {
                State::Between(None) => return Ok(0),
                State::Between(Some(mut reader)) => {
                    let mut first = [0; 1];
                    if reader.read(&mut first)? == 0 {
                        return Ok(0);
                    }
                    next_frame(first, reader)?
                }
                State::Within(decoder, reader) if decoder.is_finished() && decoder.can_collect() == 0 => {
                    whole(&decoder)?;
                    State::Between(Some(reader))
                }
                State::Within(mut decoder, mut reader) => {
                    if decoder.can_collect() == 0 {
                        let blocks = BlockDecodingStrategy::UptoBlocks(1);
                        decoder.decode_blocks(&mut reader, blocks).map_err(io::Error::other)?;
                    }
                    let count = decoder.read(buffer)?;
                    self.0 = State::Within(decoder, reader);
                    if count > 0 {
                        return Ok(count);
                    }
                    continue;
                }
            }
        }
    }
}

/// A frame may end with a checksum of what it decompresses to.
fn whole(decoder: &FrameDecoder) -> io::Result<()> {
    match (decoder.get_checksum_from_data(), decoder.get_calculated_checksum()) {
        (Some(said), Some(found)) if said != found => {
            Err(io::Error::new(io::ErrorKind::InvalidData, "a frame has another checksum than it says"))
        }
        _ => Ok(()),
    }
}

/// What begins with the byte `first`: a frame, or nothing after a skippable one.
fn next_frame<R: Read>(first: [u8; 1], mut reader: R) -> io::Result<State<R>> {
    let mut decoder = Box::new(FrameDecoder::new());
    match decoder.init((&first[..]).chain(&mut reader)) {
        Ok(()) => Ok(State::Within(decoder, reader)),
        Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame { length, .. })) => {
            let length = u64::from(length);
            let skipped = io::copy(&mut (&mut reader).take(length), &mut io::sink())?;
            if skipped < length {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            Ok(State::Between(Some(reader)))
        }
        Err(error) => Err(io::Error::other(error)),
    }
}
