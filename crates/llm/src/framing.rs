//! How a stream is cut into events: server-sent events (WHATWG HTML, 9.2) and lines of JSON.

use crate::{Failure, Kind};

/// The most bytes of one event or line.
pub(crate) const EVENT_BYTES: usize = 8 << 20;

/// One event of a stream.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame<'a> {
    /// Its name; empty where it has none.
    pub(crate) name: &'a str,
    /// What it is, JSON in every dialect.
    pub(crate) data: &'a [u8],
}

/// Takes events out of bytes that come in pieces.
#[derive(Debug)]
pub(crate) enum Framing {
    Sse(Sse),
    Lines(Lines),
    Frames(crate::bedrock::Frames),
}

impl Framing {
    /// More bytes; `each` gets every event that they complete.
    pub(crate) fn push(&mut self, bytes: &[u8], each: &mut dyn FnMut(Frame<'_>)) -> Result<(), Failure> {
        match self {
            Self::Sse(sse) => sse.push(bytes, each),
            Self::Lines(lines) => lines.push(bytes, &mut |line| line_of_json(line, each)),
            Self::Frames(frames) => frames.push(bytes, each),
        }
    }

    /// Nothing more comes. An event whose last line break is missing counts if it is whole.
    pub(crate) fn end(&mut self, each: &mut dyn FnMut(Frame<'_>)) {
        match self {
            Self::Sse(sse) => sse.end(each),
            Self::Lines(lines) if whole(&lines.line) => line_of_json(&std::mem::take(&mut lines.line), each),
            Self::Lines(_) | Self::Frames(_) => {}
        }
    }
}

fn line_of_json(line: &[u8], each: &mut dyn FnMut(Frame<'_>)) {
    if !line.trim_ascii().is_empty() {
        each(Frame { name: "", data: line });
    }
}

fn whole(data: &[u8]) -> bool {
    data.trim_ascii() == b"[DONE]" || serde_json::from_slice::<serde::de::IgnoredAny>(data).is_ok()
}

/// Lines that end with LF, CR or CRLF, cut anywhere.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    line: Vec<u8>,
    after_cr: bool,
}

impl Lines {
    fn push(&mut self, mut bytes: &[u8], each: &mut dyn FnMut(&[u8])) -> Result<(), Failure> {
        while let Some((&first, behind)) = bytes.split_first() {
            if std::mem::take(&mut self.after_cr) && first == b'\n' {
                bytes = behind;
                continue;
            }
            let end = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
            let (piece, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
            if self.line.len() + piece.len() > EVENT_BYTES {
                return Err(too_large());
            }
            let Some((&mark, behind)) = rest.split_first() else {
                self.line.extend_from_slice(piece);
                return Ok(());
            };
            self.after_cr = mark == b'\r';
            bytes = behind;
            if self.line.is_empty() {
                each(piece);
            } else {
                self.line.extend_from_slice(piece);
                each(&self.line);
                self.line.clear();
                self.line.shrink_to(1 << 16);
            }
        }
        Ok(())
    }
}

pub(crate) fn too_large() -> Failure {
    Failure::new(Kind::Malformed, format!("an event of the stream has more than {EVENT_BYTES} bytes"))
}

/// Server-sent events.
#[derive(Debug, Default)]
pub(crate) struct Sse {
    lines: Lines,
    event: Event,
}

#[derive(Debug, Default)]
struct Event {
    begun: bool,
    name: String,
    data: Vec<u8>,
    /// Whether there was a line of data, which may have been empty.
    filled: bool,
    too_large: bool,
}

impl Sse {
    fn push(&mut self, bytes: &[u8], each: &mut dyn FnMut(Frame<'_>)) -> Result<(), Failure> {
        let event = &mut self.event;
        self.lines.push(bytes, &mut |line| event.line(line, each))?;
        if self.event.too_large { Err(too_large()) } else { Ok(()) }
    }

    fn end(&mut self, each: &mut dyn FnMut(Frame<'_>)) {
        let line = std::mem::take(&mut self.lines.line);
        if !line.is_empty() {
            self.event.line(&line, each);
        }
        if whole(&self.event.data) {
            self.event.line(b"", each);
        }
    }
}

impl Event {
    fn line(&mut self, line: &[u8], each: &mut dyn FnMut(Frame<'_>)) {
        let marked = if self.begun { None } else { line.strip_prefix(b"\xef\xbb\xbf") };
        self.begun = true;
        let line = marked.unwrap_or(line);
        if line.is_empty() {
            if self.filled && !self.data.is_empty() {
                each(Frame { name: &self.name, data: &self.data });
            }
            *self = Self { begun: true, too_large: self.too_large, ..Self::default() };
            return;
        }
        let colon = line.iter().position(|&byte| byte == b':');
        let (field, value) = line.split_at(colon.unwrap_or(line.len()));
        let value = value.strip_prefix(b":").unwrap_or(value);
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"event" => self.name = String::from_utf8_lossy(&value[..value.len().min(256)]).into_owned(),
            b"data" if self.data.len() + value.len() >= EVENT_BYTES => self.too_large = true,
            b"data" => {
                if std::mem::replace(&mut self.filled, true) {
                    self.data.push(b'\n');
                }
                self.data.extend_from_slice(value);
            }
            // A comment, an id, a time to wait, or what a later standard says.
            _ => {}
        }
    }
}

/// Writes an event. The data is one line.
pub(crate) fn write_sse(out: &mut Vec<u8>, name: Option<&str>, data: &[u8]) {
    if let Some(name) = name {
        out.extend_from_slice(b"event: ");
        out.extend_from_slice(name.as_bytes());
        out.push(b'\n');
    }
    out.extend_from_slice(b"data: ");
    out.extend_from_slice(data);
    out.extend_from_slice(b"\n\n");
}
