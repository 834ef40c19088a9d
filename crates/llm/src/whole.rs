//! Cuts the bytes of a stream behind its events and changes none of them: for who passes it on, and must not pass on half
//! an event.

use crate::framing::{EVENT_BYTES, too_large};
use crate::{Dialect, Failure};

/// Holds back what is no whole event yet.
#[derive(Debug)]
pub struct Cutter {
    /// Whether every line is an event; else one ends with a blank line.
    by_line: bool,
    held: Vec<u8>,
    /// Nothing has come of the line that is being read.
    blank: bool,
    /// The last byte was a CR, which may be the first half of a line's end: whether an event ends with it.
    after_cr: Option<bool>,
}

impl Dialect {
    /// Cuts a stream of this dialect behind its events. None for Bedrock's, whose frames are no text.
    #[must_use]
    pub fn cutter(self) -> Option<Cutter> {
        let by_line = match self {
            Self::OllamaChat | Self::OllamaGenerate => true,
            Self::Chat | Self::Responses | Self::Anthropic | Self::Gemini => false,
            Self::Bedrock => return None,
        };
        Some(Cutter { by_line, held: Vec::new(), blank: true, after_cr: None })
    }
}

impl Cutter {
    /// More bytes; `each` gets every event that they complete, with its line ends.
    ///
    /// # Errors
    /// Those of `each`; [`crate::Kind::Malformed`] for an event that is too large.
    pub fn push<E: From<Failure>>(
        &mut self,
        mut bytes: &[u8],
        each: &mut dyn FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        while let Some(end) = self.end_in(bytes) {
            let (piece, rest) = bytes.split_at(end);
            bytes = rest;
            if self.held.is_empty() {
                each(piece)?;
            } else {
                self.hold(piece)?;
                let event = std::mem::take(&mut self.held);
                each(&event)?;
            }
        }
        Ok(self.hold(bytes)?)
    }

    /// Nothing more comes: what is held back, and the line ends that it has not and would need to be a whole event.
    pub fn end(&mut self) -> (Vec<u8>, &'static [u8]) {
        let missing: &[u8] = match (self.by_line, self.blank, self.after_cr) {
            _ if self.held.is_empty() => b"",
            // The last CR becomes one line end with it.
            (_, _, Some(true)) | (true, ..) | (false, true, None) => b"\n",
            (false, ..) => b"\n\n",
        };
        (std::mem::take(&mut self.held), missing)
    }

    fn hold(&mut self, piece: &[u8]) -> Result<(), Failure> {
        if self.held.len() + piece.len() > EVENT_BYTES {
            return Err(too_large());
        }
        self.held.extend_from_slice(piece);
        Ok(())
    }

    /// Behind which byte an event ends. A CR alone ends one when the next byte is there, since an LF would belong to it.
    fn end_in(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        while let Some(&first) = bytes.get(at) {
            match self.after_cr.take() {
                Some(ends) if first == b'\n' => {
                    at += 1;
                    if ends {
                        return Some(at);
                    }
                    continue;
                }
                Some(true) => return Some(at),
                Some(false) | None => {}
            }
            let rest = bytes.get(at..).unwrap_or_default();
            let Some(line) = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')) else {
                self.blank = false;
                return None;
            };
            let ends = (std::mem::replace(&mut self.blank, true) && line == 0) || self.by_line;
            at += line + 1;
            if rest.get(line) == Some(&b'\r') {
                self.after_cr = Some(ends);
            } else if ends {
                return Some(at);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;

    fn cut(dialect: Dialect, text: &str, size: usize) -> (Vec<String>, String, &'static [u8]) {
        let mut cutter = dialect.cutter().unwrap();
        let mut events = Vec::new();
        for piece in text.as_bytes().chunks(size) {
            let pushed: Result<(), Failure> = cutter.push(piece, &mut |event| {
                events.push(String::from_utf8(event.to_vec()).unwrap());
                Ok(())
            });
            pushed.unwrap();
        }
        let (rest, missing) = cutter.end();
        (events, String::from_utf8(rest).unwrap(), missing)
    }

    #[test]
    fn events_come_whole_and_every_byte_stays_however_it_is_cut() {
        let sse = ["event: a\ndata: 1\n\n", ": ping\r\n\r\n", "data: 2\ndata: 3\r\n\n", "\n", "data: 4\r\r"];
        let lines = ["{\"a\":1}\n", "\n", "{\"b\":2}\r\n", "{\"c\":3}\r"];
        for size in [1, 2, 3, 5, 100] {
            for (dialect, wanted) in [(Dialect::Chat, &sse[..]), (Dialect::OllamaChat, &lines)] {
                let (events, rest, missing) = cut(dialect, &(wanted.concat() + "more"), size);
                assert!(events == wanted && rest == "more", "{size}: {events:?} {rest:?}");
                assert!(!missing.is_empty());
            }
        }
    }

    #[test]
    fn what_is_left_becomes_whole_with_the_line_ends_that_it_lacks() {
        for (text, wanted) in [
            ("", ""),
            ("data: 1", "\n\n"),
            ("data: 1\n", "\n"),
            ("data: 1\r\n", "\n"),
            ("data: 1\r", "\n\n"),
            ("data: 1\r\r", "\n"),
            ("data: 1\r\n\r", "\n"),
            ("data: 1\n\n", ""),
        ] {
            let (_, rest, missing) = cut(Dialect::Anthropic, text, 100);
            assert_eq!(missing, wanted.as_bytes(), "{text:?}");
            let mut cutter = Dialect::Anthropic.cutter().unwrap();
            let whole: Result<(), Failure> =
                cutter.push(&[rest.as_bytes(), missing, b"x"].concat(), &mut |_| Ok(()));
            whole.unwrap();
            assert_eq!(cutter.end().0, b"x", "{text:?}");
        }
        assert_eq!(cut(Dialect::OllamaChat, "{}", 1).2, b"\n");
    }

    #[test]
    fn what_never_ends_is_not_held_for_ever() {
        let mut cutter = Dialect::Chat.cutter().unwrap();
        let piece = vec![b':'; 1 << 20];
        let mut push = || cutter.push::<Failure>(&piece, &mut |_| Ok(()));
        let failure = (0..100).find_map(|_| push().err()).unwrap();
        assert_eq!(failure.kind, Kind::Malformed);
    }
}
