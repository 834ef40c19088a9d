//! `application/vnd.amazon.eventstream`: binary frames with headers, each part of which is checked by a CRC-32.

use crate::framing::{EVENT_BYTES, Frame};
use crate::{Failure, Kind};

/// Lengths and their own checksum.
const PRELUDE: usize = 12;
/// The checksum of everything.
const TAIL: usize = 4;

/// Takes frames out of bytes that come in pieces.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    kept: Vec<u8>,
}

impl Frames {
    pub(crate) fn push(&mut self, bytes: &[u8], each: &mut dyn FnMut(Frame<'_>)) -> Result<(), Failure> {
        self.kept.extend_from_slice(bytes);
        let mut at = 0;
        while let Some(rest) = self.kept.get(at..).filter(|rest| rest.len() >= PRELUDE) {
            let length = number(rest, 0)?;
            if !(PRELUDE + TAIL..=EVENT_BYTES).contains(&length) {
                return Err(malformed("a frame of a length that none can have"));
            }
            if crc32fast::hash(slice(rest, 0, 8)?) != checksum(rest, 8)? {
                return Err(malformed("the lengths of a frame do not fit their checksum"));
            }
            let Some(frame) = rest.get(..length) else { break };
            if crc32fast::hash(slice(frame, 0, length - TAIL)?) != checksum(frame, length - TAIL)? {
                return Err(malformed("a frame does not fit its checksum"));
            }
            let headers = number(frame, 4)?;
            let payload = PRELUDE.saturating_add(headers);
            let length_of_payload = (length - TAIL).checked_sub(payload);
            let length_of_payload =
                length_of_payload.ok_or_else(|| malformed("headers longer than their frame"))?;
            event(slice(frame, PRELUDE, headers)?, slice(frame, payload, length_of_payload)?, each)?;
            at += length;
        }
        self.kept.drain(..at);
        Ok(())
    }
}

fn malformed(what: &str) -> Failure {
    Failure::new(Kind::Malformed, format!("not an event stream: {what}"))
}

fn slice(bytes: &[u8], at: usize, length: usize) -> Result<&[u8], Failure> {
    bytes.get(at..).and_then(|rest| rest.get(..length)).ok_or_else(|| malformed("a frame is too short"))
}

fn checksum(bytes: &[u8], at: usize) -> Result<u32, Failure> {
    let four: [u8; 4] = slice(bytes, at, 4)?.try_into().map_err(|_| malformed("a frame is too short"))?;
    Ok(u32::from_be_bytes(four))
}

fn number(bytes: &[u8], at: usize) -> Result<usize, Failure> {
    usize::try_from(checksum(bytes, at)?).map_err(|_| malformed("a frame is too long"))
}

/// What the headers say the payload is.
fn event(headers: &[u8], payload: &[u8], each: &mut dyn FnMut(Frame<'_>)) -> Result<(), Failure> {
    let (mut event, mut exception, mut error, mut message) = ("", "", "", "");
    let mut rest = headers;
    while let Some((&length, behind)) = rest.split_first() {
        let length = usize::from(length);
        let name = slice(behind, 0, length)?;
        let sort = *slice(behind, length, 1)?.first().unwrap_or(&u8::MAX);
        let behind = behind.get(length + 1..).unwrap_or_default();
        let two =
            |behind: &[u8]| slice(behind, 0, 2).map(|two| usize::from(two[0]) << 8 | usize::from(two[1]));
        let (skip, long) = match sort {
            0 | 1 => (0, 0),
            2 => (0, 1),
            3 => (0, 2),
            4 => (0, 4),
            5 | 8 => (0, 8),
            6 | 7 => (2, two(behind)?),
            9 => (0, 16),
            _ => return Err(malformed("a header of no sort")),
        };
        let value = slice(behind, skip, long)?;
        rest = behind.get(skip + long..).unwrap_or_default();
        let value = if sort == 7 { std::str::from_utf8(value).unwrap_or_default() } else { "" };
        match name {
            b":event-type" => event = value,
            b":exception-type" => exception = value,
            b":error-code" => error = value,
            b":error-message" => message = value,
            _ => {}
        }
    }
    if error.is_empty() {
        let name = if exception.is_empty() { event } else { exception };
        each(Frame { name, data: payload });
    } else {
        let data = serde_json::json!({ "message": message }).to_string();
        each(Frame { name: error, data: data.as_bytes() });
    }
    Ok(())
}

/// Writes a frame.
pub(super) fn write(out: &mut Vec<u8>, exception: bool, name: &str, payload: &[u8]) {
    let mut headers = Vec::new();
    let (sort, named) = if exception { ("exception", ":exception-type") } else { ("event", ":event-type") };
    for (header, value) in [(":message-type", sort), (named, name), (":content-type", "application/json")] {
        headers.push(u8::try_from(header.len()).unwrap_or(u8::MAX));
        headers.extend_from_slice(header.as_bytes());
        headers.push(7);
        headers.extend_from_slice(&u16::try_from(value.len()).unwrap_or(u16::MAX).to_be_bytes());
        headers.extend_from_slice(value.as_bytes());
    }
    let begin = out.len();
    let length = PRELUDE + headers.len() + payload.len() + TAIL;
    for number in [length, headers.len()] {
        out.extend_from_slice(&u32::try_from(number).unwrap_or(u32::MAX).to_be_bytes());
    }
    seal(out, begin);
    out.extend_from_slice(&headers);
    out.extend_from_slice(payload);
    seal(out, begin);
}

fn seal(out: &mut Vec<u8>, begin: usize) {
    let checksum = crc32fast::hash(out.get(begin..).unwrap_or_default());
    out.extend_from_slice(&checksum.to_be_bytes());
}
