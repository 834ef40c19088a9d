//! Commands behind a colon, and searches.

use super::{Editor, Effect};
use regex::Regex;
use std::path::PathBuf;
use std::rc::Rc;

impl Editor {
    /// Carries out a command.
    pub(super) fn command(&mut self, text: &str) -> Effect {
        let text = text.trim();
        let (range, rest) = self.range(text);
        let (from, to) = match range {
            Ok(range) => range,
            Err(message) => return self.refuse(message),
        };
        let word: String = rest.chars().take_while(char::is_ascii_alphabetic).collect();
        let after = &rest[word.len()..];
        let forced = after.starts_with('!');
        let argument = after.trim_start_matches('!').trim();
        match word.as_str() {
            "" if rest.is_empty() => {
                if from.is_some() {
                    self.go_to_line(to + 1);
                }
            }
            "w" | "wq" | "x" | "write" => return self.write(&word, argument),
            "q" | "quit" if self.changed && !forced => {
                return self.refuse("not written since the last change; :q! quits nevertheless".into());
            }
            "q" | "quit" => return Effect::Quit,
            "r" | "read" if !argument.is_empty() => return Effect::Read(PathBuf::from(argument)),
            "d" => {
                self.whole('d', from.unwrap_or(self.row), to);
            }
            "set" => match argument {
                "number" | "nu" => self.numbers = true,
                "nonumber" | "nonu" => self.numbers = false,
                other => return self.refuse(format!("set {other}: number and nonumber are known")),
            },
            "s" => {
                if let Err(message) = self.substitute(from.unwrap_or(self.row), to, after) {
                    return self.refuse(message);
                }
            }
            _ => return self.refuse(format!("{rest}: not a command; :w :q :wq :x :NUM :s :d :r :set")),
        }
        Effect::None
    }

    fn refuse(&mut self, message: String) -> Effect {
        self.message = message;
        Effect::None
    }

    fn write(&mut self, word: &str, argument: &str) -> Effect {
        let quit = word != "w" && word != "write";
        if word == "x" && !self.changed {
            return Effect::Quit;
        }
        let path = if argument.is_empty() { self.path.clone() } else { Some(PathBuf::from(argument)) };
        match path {
            Some(path) => Effect::Write { path, quit },
            None => self.refuse("no file is named; :w FILE writes to one".into()),
        }
    }

    /// `%`, `N`, `N,M`, with `.` and `$`: the first line, if one is named, and the last.
    fn range<'t>(&self, text: &'t str) -> (Result<(Option<usize>, usize), String>, &'t str) {
        if let Some(rest) = text.strip_prefix('%') {
            return (Ok((Some(0), self.lines.len() - 1)), rest);
        }
        let (first, rest) = self.address(text);
        let Some(first) = first else { return (Ok((None, self.row)), text) };
        let Some(behind) = rest.strip_prefix(',') else { return (Ok((Some(first), first)), rest) };
        let (last, rest) = self.address(behind);
        match last {
            Some(last) if first <= last => (Ok((Some(first), last)), rest),
            _ => (Err("the last line lies before the first".into()), rest),
        }
    }

    fn address<'t>(&self, text: &'t str) -> (Option<usize>, &'t str) {
        let last = self.lines.len() - 1;
        if let Some(rest) = text.strip_prefix('.') {
            return (Some(self.row), rest);
        }
        if let Some(rest) = text.strip_prefix('$') {
            return (Some(last), rest);
        }
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        if digits == 0 {
            return (None, text);
        }
        let number = text[..digits].parse::<usize>().unwrap_or(usize::MAX);
        (Some(number.saturating_sub(1).min(last)), &text[digits..])
    }

    /// `/A/B/g`; A is a regular expression, `&` and `\1` in B what it matched.
    fn substitute(&mut self, from: usize, to: usize, text: &str) -> Result<(), String> {
        let mut chars = text.chars();
        let mark = chars.next().filter(|c| !c.is_alphanumeric() && *c != ' ').ok_or("s needs /A/B/")?;
        let mut parts = vec![String::new()];
        while let Some(c) = chars.next() {
            match c {
                c if c == mark => parts.push(String::new()),
                '\\' => {
                    let escaped = chars.next().unwrap_or('\\');
                    if let Some(part) = parts.last_mut() {
                        if escaped != mark {
                            part.push('\\');
                        }
                        part.push(escaped);
                    }
                }
                c => parts.last_mut().map_or((), |part| part.push(c)),
            }
        }
        parts.resize(3, String::new());
        let pattern = Regex::new(&parts[0]).map_err(|_| format!("{}: not a regular expression", parts[0]))?;
        let instead = template(&parts[1]);
        let most = if parts[2].contains('g') { 0 } else { 1 };
        let mut changed = Vec::new();
        for row in from..=to {
            let line: String = self.lines[row].iter().collect();
            let new = pattern.replacen(&line, most, instead.as_str());
            if new != line {
                changed.push((row, new.chars().collect()));
            }
        }
        let count = changed.len();
        if count == 0 {
            return Err(format!("{}: not found", parts[0]));
        }
        self.remember();
        for (row, line) in changed {
            self.lines[row] = Rc::new(line);
            self.row = row;
        }
        self.column = 0;
        self.message = format!("{count} lines changed");
        Ok(())
    }

    /// Goes to the next match of what was searched last.
    pub(super) fn search_next(&mut self, backwards: bool) {
        let Some((text, _)) = self.search.clone() else {
            self.message = "no search before this one".into();
            return;
        };
        let Ok(pattern) = Regex::new(&text) else {
            self.message = format!("{text}: not a regular expression");
            return;
        };
        let rows = self.lines.len();
        // The line of the cursor comes twice: what lies on one side of it, and last what lies on the other.
        for step in 0..=rows {
            let row =
                if backwards { (self.row + rows - step % rows) % rows } else { (self.row + step) % rows };
            let line: String = self.lines[row].iter().collect();
            let columns = pattern.find_iter(&line).map(|found| line[..found.start()].chars().count());
            let beyond = |column: &usize| match step {
                0 if backwards => *column < self.column,
                0 => *column > self.column,
                _ => true,
            };
            let found = if backwards { columns.filter(beyond).last() } else { columns.filter(beyond).min() };
            if let Some(column) = found {
                (self.row, self.column) = (row, column);
                return;
            }
        }
        self.message = format!("{text}: not found");
    }
}

/// vi's `&` and `\1` in the words of the regular expressions.
fn template(text: &str) -> String {
    let mut template = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '&' => template.push_str("${0}"),
            '$' => template.push_str("$$"),
            '\\' => match chars.next() {
                Some(digit @ '0'..='9') => template.push_str(&format!("${{{digit}}}")),
                Some('t') => template.push('\t'),
                Some('$') => template.push_str("$$"),
                Some(other) => template.push(other),
                None => template.push('\\'),
            },
            c => template.push(c),
        }
    }
    template
}
