//! What the editor looks like.

use super::{Editor, Mode};

const TAB: usize = 8;

/// A character as it is shown from some column on, and how wide that is.
fn cell(c: char, at: usize) -> String {
    match c {
        '\t' => " ".repeat(TAB - at % TAB),
        c if c.is_ascii_control() => format!("^{}", char::from(c as u8 ^ 0x40)),
        c if c.is_control() => "?".into(),
        c => c.into(),
    }
}

impl Editor {
    /// The whole screen, with the cursor where it is. Long lines are shown around the cursor, not wrapped.
    pub(crate) fn screen(&mut self, rows: usize, columns: usize) -> String {
        let body = rows.saturating_sub(1).max(1);
        if self.row < self.top {
            self.top = self.row;
        } else if self.row >= self.top + body {
            self.top = self.row + 1 - body;
        }
        let margin = if self.numbers { 7 } else { 0 };
        let width = columns.saturating_sub(margin).max(1);
        let cursor = self.line().iter().take(self.column).fold(0, |at, c| at + cell(*c, at).chars().count());
        // By half a screen, so that the text does not move with each key.
        let left =
            if cursor < width { 0 } else { (cursor - width / 2) / (width / 2).max(1) * (width / 2).max(1) };
        let mut screen = String::from("\x1b[?25l\x1b[H");
        for row in self.top..self.top + body {
            match self.lines.get(row) {
                Some(line) => {
                    if self.numbers {
                        screen.push_str(&format!("{:>6} ", row + 1));
                    }
                    let mut shown = String::new();
                    let mut at = 0;
                    for c in line.iter() {
                        let text = cell(*c, at);
                        at += text.chars().count();
                        shown.push_str(&text);
                        if at >= left + width {
                            break;
                        }
                    }
                    screen.extend(shown.chars().skip(left).take(width));
                }
                None => screen.push('~'),
            }
            screen.push_str("\x1b[K\r\n");
        }
        let (status, typing) = self.status();
        let status: String = status.chars().take(columns.saturating_sub(1)).collect();
        screen.push_str(&status);
        screen.push_str("\x1b[K");
        let place = if typing {
            (rows, status.chars().count() + 1)
        } else {
            (self.row - self.top + 1, cursor - left + margin + 1)
        };
        screen.push_str(&format!("\x1b[{};{}H\x1b[?25h", place.0, place.1));
        screen
    }

    /// The last line, and whether the cursor is in it.
    fn status(&self) -> (String, bool) {
        match &self.mode {
            Mode::Line(begin, text) => (format!("{begin}{text}"), true),
            _ if !self.message.is_empty() => (clean(&self.message), false),
            Mode::Insert => ("-- INSERT --".into(), false),
            Mode::Replace => ("-- REPLACE --".into(), false),
            Mode::Normal => {
                let name = self.path.as_deref().map_or("[no file]".into(), |path| path.display().to_string());
                let mark = if self.changed { " [+]" } else { "" };
                (
                    clean(&format!(
                        "{name}{mark}  {},{}  of {}",
                        self.row + 1,
                        self.column + 1,
                        self.lines.len()
                    )),
                    false,
                )
            }
        }
    }
}

/// Without what could control the terminal: names of files are anything.
fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}
