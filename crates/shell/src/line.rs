//! The line under the cursor, without any terminal: keys in, text and what to draw out.

use std::fmt::Write;

/// What a key means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Key {
    Char(char),
    Enter,
    Tab,
    Left,
    Right,
    Up,
    Down,
    Home,
    End,
    Backspace,
    Delete,
    /// Ctrl-K.
    CutToEnd,
    /// Ctrl-U.
    CutToStart,
    /// Ctrl-W.
    CutWord,
    /// Ctrl-L.
    Clear,
    /// Ctrl-C.
    Interrupt,
    /// Ctrl-D.
    Eof,
}

/// Turns bytes into keys: UTF-8, control characters, and the escape sequences of VT100 and xterm.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    pending: Vec<u8>,
}

/// Longer than any escape sequence that means something here.
const SEQUENCE_MAX: usize = 8;

impl Decoder {
    /// Takes a byte; gives a key when it completes one.
    pub(crate) fn take(&mut self, byte: u8) -> Option<Key> {
        if self.pending.is_empty() && byte < 0x80 && byte != 0x1b {
            return control(byte);
        }
        self.pending.push(byte);
        if self.pending[0] == 0x1b {
            return self.escape();
        }
        match std::str::from_utf8(&self.pending) {
            Ok(text) => {
                let key = text.chars().next().map(Key::Char);
                self.pending.clear();
                key
            }
            Err(error) => {
                // More bytes can still make it a character, unless it is wrong already.
                if error.error_len().is_some() {
                    self.pending.clear();
                }
                None
            }
        }
    }

    fn escape(&mut self) -> Option<Key> {
        let last = *self.pending.last()?;
        let introduced = matches!(self.pending.get(1), Some(b'[' | b'O'));
        let ended = match self.pending.len() {
            1 => false,
            2 => !introduced,
            length => (0x40..=0x7e).contains(&last) || length >= SEQUENCE_MAX,
        };
        if !ended {
            return None;
        }
        let sequence = std::mem::take(&mut self.pending);
        match sequence.get(2..).unwrap_or_default() {
            b"A" => Some(Key::Up),
            b"B" => Some(Key::Down),
            b"C" => Some(Key::Right),
            b"D" => Some(Key::Left),
            b"H" | b"1~" | b"7~" => Some(Key::Home),
            b"F" | b"4~" | b"8~" => Some(Key::End),
            b"3~" => Some(Key::Delete),
            _ => None,
        }
    }
}

fn control(byte: u8) -> Option<Key> {
    match byte {
        b'\r' | b'\n' => Some(Key::Enter),
        b'\t' => Some(Key::Tab),
        0x01 => Some(Key::Home),
        0x02 => Some(Key::Left),
        0x03 => Some(Key::Interrupt),
        0x04 => Some(Key::Eof),
        0x05 => Some(Key::End),
        0x06 => Some(Key::Right),
        0x08 | 0x7f => Some(Key::Backspace),
        0x0b => Some(Key::CutToEnd),
        0x0c => Some(Key::Clear),
        0x0e => Some(Key::Down),
        0x10 => Some(Key::Up),
        0x15 => Some(Key::CutToStart),
        0x17 => Some(Key::CutWord),
        0x20..=0x7e => Some(Key::Char(char::from(byte))),
        _ => None,
    }
}

/// Where on the terminal a line is: how wide that is, and where in its row the line begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    columns: usize,
    start: usize,
}

/// What a terminal has that does not say.
pub(crate) const COLUMNS: usize = 80;

impl Place {
    /// Behind a prompt of so many columns.
    pub(crate) fn behind(prompt: usize, columns: usize) -> Self {
        let columns = columns.max(1);
        Self { columns, start: prompt % columns }
    }

    /// The row (from that of the beginning) and column of a character.
    fn of(self, index: usize) -> (usize, usize) {
        ((self.start + index) / self.columns, (self.start + index) % self.columns)
    }
}

impl Default for Place {
    fn default() -> Self {
        Self::behind(0, COLUMNS)
    }
}

/// A line that is being edited. One longer than the terminal is wide goes on in the next row.
///
/// Drawing uses backspace, text, relative moves and "erase below" only, never a question to the terminal: a serial line
/// may have a program at its other end that answers none.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Line {
    text: Vec<char>,
    cursor: usize,
    place: Place,
}

impl Line {
    pub(crate) fn at(place: Place) -> Self {
        Self { place, ..Self::default() }
    }

    pub(crate) fn text(&self) -> String {
        self.text.iter().collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// The cursor's place in bytes of [`Self::text`].
    pub(crate) fn cursor_bytes(&self) -> usize {
        self.text[..self.cursor].iter().map(|c| c.len_utf8()).sum()
    }

    /// Carries out an editing key and gives what to write to the terminal; other keys change nothing.
    pub(crate) fn edit(&mut self, key: Key) -> String {
        let (cursor, end) = (self.cursor, self.text.len());
        match key {
            Key::Char(c) => self.splice(cursor, cursor, &[c]),
            Key::Backspace if cursor > 0 => self.splice(cursor - 1, cursor, &[]),
            Key::Delete if cursor < end => self.splice(cursor, cursor + 1, &[]),
            Key::CutToEnd => self.splice(cursor, end, &[]),
            Key::CutToStart => self.splice(0, cursor, &[]),
            Key::CutWord => {
                let before = &self.text[..cursor];
                let word_end = before.iter().rposition(|c| *c != ' ').map_or(0, |at| at + 1);
                let start = before[..word_end].iter().rposition(|c| *c == ' ').map_or(0, |at| at + 1);
                self.splice(start, cursor, &[])
            }
            Key::Left if cursor > 0 => self.move_to(cursor - 1),
            Key::Right if cursor < end => self.move_to(cursor + 1),
            Key::Home => self.move_to(0),
            Key::End => self.move_to(end),
            _ => String::new(),
        }
    }

    /// Puts another text in place of the whole line.
    pub(crate) fn set(&mut self, text: &str) -> String {
        let new: Vec<char> = text.chars().collect();
        self.splice(0, self.text.len(), &new)
    }

    /// Puts a text in place of `delete` bytes from byte `at`. Bytes that are no character boundary change nothing.
    pub(crate) fn complete(&mut self, at: usize, delete: usize, text: &str) -> String {
        let line = self.text();
        let (Some(head), Some(gone)) = (line.get(..at), line.get(at..at + delete)) else {
            return String::new();
        };
        let start = head.chars().count();
        let new: Vec<char> = text.chars().collect();
        self.splice(start, start + gone.chars().count(), &new)
    }

    /// Replaces the characters `from..to` and puts the cursor behind what came in.
    fn splice(&mut self, from: usize, to: usize, new: &[char]) -> String {
        let draw = self.move_to(from);
        self.text.splice(from..to, new.iter().copied());
        self.cursor = from + new.len();
        let erase = if to > from { "\x1b[J" } else { "" };
        draw + &self.draw_from(from, erase)
    }

    /// Draws the whole line again, for a cursor that stands where the line begins.
    pub(crate) fn draw_again(&self) -> String {
        self.draw_from(0, "")
    }

    /// Draws what stands from a character on, and goes back to the cursor.
    fn draw_from(&self, from: usize, erase: &str) -> String {
        let end = self.text.len();
        let mut draw: String = self.text[from..].iter().collect();
        if from < end && self.place.of(end).1 == 0 {
            // A terminal waits in the last column for what comes; this has it go to the next row.
            draw.push_str(" \x08");
        }
        draw.push_str(erase);
        draw.push_str(&self.go(end, self.cursor));
        draw
    }

    fn move_to(&mut self, place: usize) -> String {
        let draw = self.go(self.cursor, place);
        self.cursor = place;
        draw
    }

    fn go(&self, from: usize, to: usize) -> String {
        let ((from_row, _), (row, column)) = (self.place.of(from), self.place.of(to));
        if from_row == row {
            return if to <= from { "\x08".repeat(from - to) } else { self.text[from..to].iter().collect() };
        }
        let (rows, way) = if row < from_row { (from_row - row, 'A') } else { (row - from_row, 'B') };
        let mut draw = format!("\x1b[{rows}{way}\r");
        if column > 0 {
            // Writing to a String cannot fail.
            let _ = write!(draw, "\x1b[{column}C");
        }
        draw
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(bytes: &[u8]) -> Vec<Key> {
        let mut decoder = Decoder::default();
        bytes.iter().filter_map(|byte| decoder.take(*byte)).collect()
    }

    #[test]
    fn bytes_become_keys() {
        assert_eq!(keys("aé\r".as_bytes()), [Key::Char('a'), Key::Char('é'), Key::Enter]);
        assert_eq!(
            keys(b"\x1b[A\x1bOB\x1b[3~\x1b[1~x"),
            [Key::Up, Key::Down, Key::Delete, Key::Home, Key::Char('x')]
        );
        assert_eq!(keys(b"\x03\x04\x7f\t"), [Key::Interrupt, Key::Eof, Key::Backspace, Key::Tab]);
    }

    #[test]
    fn what_means_nothing_is_dropped_whole() {
        assert_eq!(keys(b"\x1b[1;5Cx"), [Key::Char('x')]);
        assert_eq!(keys(b"\x1bfx"), [Key::Char('x')]);
        assert_eq!(keys(b"\xff\xffx"), [Key::Char('x')]);
        assert_eq!(keys(b"\x1b[9999999999999999"), keys(b"9999999999"));
    }

    fn typed(bytes: &[u8]) -> Line {
        let mut line = Line::default();
        for key in keys(bytes) {
            line.edit(key);
        }
        line
    }

    #[test]
    fn keys_edit_the_line() {
        assert_eq!(typed(b"abc\x1b[D\x1b[Dx").text(), "axbc");
        assert_eq!(typed(b"abc\x08").text(), "ab");
        assert_eq!(typed(b"abc\x01\x1b[3~").text(), "bc");
        assert_eq!(typed(b"ab cd  \x17").text(), "ab ");
        assert_eq!(typed(b"ab cd\x01\x0b").text(), "");
        assert_eq!(typed(b"ab cd\x02\x15").text(), "d");
        assert_eq!(typed("né\x08e".as_bytes()).text(), "ne");
    }

    #[test]
    fn typing_at_the_end_draws_only_the_character() {
        let mut line = Line::default();
        assert_eq!(line.edit(Key::Char('a')), "a");
        assert_eq!(line.edit(Key::Char('b')), "b");
        assert_eq!(line.edit(Key::Left), "\x08");
        assert_eq!(line.edit(Key::Char('x')), "xb\x08");
        assert_eq!(line.edit(Key::Backspace), "\x08b\x1b[J\x08");
    }

    #[test]
    fn a_completion_replaces_bytes() {
        let mut line = typed("é /et".as_bytes());
        line.complete(3, 3, "/etc/");
        assert_eq!((line.text().as_str(), line.cursor_bytes()), ("é /etc/", 8));
        assert_eq!(line.complete(1, 1, "x"), "", "not a boundary");
        assert_eq!(line.complete(50, 1, "x"), "");
    }

    /// A small terminal, to see that what is drawn is what is there: its text and the place of the cursor in it.
    fn shown(drawn: &str, columns: usize) -> (String, usize) {
        let mut screen: Vec<char> = Vec::new();
        // The cursor, and whether it waits in the last column for the next character.
        let (mut cursor, mut waits) = (0_usize, false);
        let mut rest = drawn;
        while let Some(c) = rest.chars().next() {
            if let Some(sequence) = rest.strip_prefix("\x1b[") {
                let length = sequence.find(|c: char| c.is_ascii_alphabetic()).expect("a whole sequence");
                let count: usize = sequence[..length].parse().unwrap_or(0);
                waits = false;
                match &sequence[length..=length] {
                    "J" => screen.truncate(cursor),
                    "A" => cursor -= count * columns,
                    "B" => cursor += count * columns,
                    "C" => cursor += count,
                    other => panic!("unknown sequence {other}"),
                }
                rest = &sequence[length + 1..];
                continue;
            }
            rest = &rest[c.len_utf8()..];
            match c {
                '\x08' => {
                    assert!(cursor % columns > 0 || waits, "backspace stops at the left edge");
                    cursor -= 1;
                    waits = false;
                }
                '\r' => cursor -= cursor % columns,
                c => {
                    if waits {
                        cursor += 1;
                    }
                    screen.resize(screen.len().max(cursor + 1), ' ');
                    screen[cursor] = c;
                    waits = cursor % columns == columns - 1;
                    cursor += usize::from(!waits);
                }
            }
        }
        let text: String = screen.into_iter().collect();
        (text.trim_end().to_owned(), cursor)
    }

    #[test]
    fn a_long_line_goes_on_in_the_next_row() {
        let mut line = Line::at(Place::behind(3, 5));
        let mut drawn = String::from("$> ");
        for key in keys(b"abcdefg\x01x\x05\x08") {
            drawn.push_str(&line.edit(key));
        }
        assert_eq!(shown(&drawn, 5), ("$> xabcdef".into(), 10));
        assert_eq!(shown(&format!("$> {}", line.draw_again()), 5), ("$> xabcdef".into(), 10));
    }

    #[test]
    fn any_sequence_of_keys_leaves_the_screen_as_the_line() {
        let all = [
            Key::Char('a'),
            Key::Char(' '),
            Key::Char('é'),
            Key::Left,
            Key::Right,
            Key::Home,
            Key::End,
            Key::Backspace,
            Key::Delete,
            Key::CutWord,
            Key::CutToEnd,
            Key::CutToStart,
        ];
        // A fixed linear congruential sequence: the same keys at every run.
        let mut state: usize = 1;
        for _ in 0..200 {
            let columns = 3 + (state >> 40) % 20;
            let mut line = Line::at(Place::behind(2, columns));
            let mut drawn = String::from("$ ");
            for _ in 0..40 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let pick = (state >> 33) % (all.len() + 6);
                drawn.push_str(&line.edit(*all.get(pick).unwrap_or(&Key::Char('x'))));
                let whole = format!("$ {}", line.text());
                assert_eq!(shown(&drawn, columns), (whole.trim_end().into(), line.cursor + 2), "{drawn:?}");
            }
        }
    }
}
