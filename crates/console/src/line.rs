//! A line that is typed key by key: the terminal neither shows nor keeps it.

use zeroize::Zeroizing;

/// The longest line; what is typed beyond it makes it wrong as a whole.
pub(crate) const MAX: usize = 1024;

/// What a key did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Press {
    /// The line goes on; this many characters are to be shown as taken back.
    More {
        /// Characters that are gone.
        erased: usize,
    },
    /// It is whole.
    Done,
    /// Whoever types wants to begin again (Ctrl-C).
    Cancel,
    /// Nothing more comes (Ctrl-D on an empty line).
    End,
}

/// The line so far; its memory is never given back before it is wiped.
#[derive(Debug)]
pub(crate) struct Line {
    bytes: Zeroizing<Vec<u8>>,
    over: bool,
}

impl Line {
    pub(crate) fn new() -> Self {
        // Never grown: a vector that grows leaves copies behind.
        Self { bytes: Zeroizing::new(Vec::with_capacity(MAX)), over: false }
    }

    /// What was typed; empty when it was too long.
    pub(crate) fn bytes(&self) -> &[u8] {
        if self.over { &[] } else { &self.bytes }
    }

    /// Whether nothing was typed.
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty() && !self.over
    }

    /// Takes a key.
    pub(crate) fn press(&mut self, key: u8) -> Press {
        match key {
            b'\r' | b'\n' => return Press::Done,
            0x03 => return Press::Cancel,
            0x04 if self.bytes.is_empty() => return Press::End,
            0x08 | 0x7f => return Press::More { erased: usize::from(self.erase()) },
            0x15 => {
                let mut erased = 0;
                while self.erase() {
                    erased += 1;
                }
                self.over = false;
                return Press::More { erased };
            }
            // A tab, an escape: never part of a name or passphrase that can be typed again.
            0..0x20 => {}
            _ if self.bytes.len() < MAX => self.bytes.push(key),
            _ => self.over = true,
        }
        Press::More { erased: 0 }
    }

    /// Takes a whole character back.
    fn erase(&mut self) -> bool {
        while let Some(byte) = self.bytes.pop() {
            if byte & 0xc0 != 0x80 {
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(keys: &str) -> (String, Press) {
        let mut line = Line::new();
        let mut last = Press::More { erased: 0 };
        for key in keys.bytes() {
            last = line.press(key);
        }
        (String::from_utf8_lossy(line.bytes()).into_owned(), last)
    }

    #[test]
    fn keys_edit_the_line() {
        assert_eq!(typed("abc\r"), ("abc".into(), Press::Done));
        assert_eq!(typed("abx\x7fc\n"), ("abc".into(), Press::Done));
        assert_eq!(typed("aä\x08b\n").0, "ab");
        assert_eq!(typed("wrong\x15right\n").0, "right");
        assert_eq!(typed("wä\x15").1, Press::More { erased: 2 });
        assert_eq!(typed("\x7f").1, Press::More { erased: 0 });
        assert_eq!(typed("a\tb\x1bc\n").0, "abc");
        assert_eq!(
            (typed("ab\x03").1, typed("\x04").1, typed("a\x04").1),
            (Press::Cancel, Press::End, Press::More { erased: 0 })
        );
    }

    #[test]
    fn a_line_that_is_too_long_is_no_line() {
        let long = "x".repeat(MAX);
        assert_eq!(typed(&long).0.len(), MAX);
        assert_eq!(typed(&(long.clone() + "y\n")), (String::new(), Press::Done));
        assert_eq!(typed(&(long + "y\x15ok\n")).0, "ok");
    }
}
