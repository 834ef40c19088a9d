//! What keys do to a text. No terminal, no files.

mod command;
mod motion;
mod screen;

use crate::terminal::Key;
use motion::{Motion, Reach};
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// So many changes can be undone.
const UNDO: usize = 500;
/// The most that a count can be.
const COUNT: usize = 99_999;

/// What the editor asks of whoever has the files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Effect {
    None,
    Quit,
    Write { path: PathBuf, quit: bool },
    Read(PathBuf),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Mode {
    Normal,
    Insert,
    Replace,
    /// A command or a search that is being typed, with what it begins with.
    Line(char, String),
}

type Line = Rc<Vec<char>>;

/// A text at some time, and where the cursor was.
#[derive(Clone)]
struct Moment {
    lines: Vec<Line>,
    row: usize,
    column: usize,
}

/// What was deleted or yanked.
#[derive(Default, Clone)]
struct Register {
    lines: Vec<Vec<char>>,
    whole: bool,
}

pub(super) struct Editor {
    lines: Vec<Line>,
    row: usize,
    column: usize,
    top: usize,
    mode: Mode,
    /// Keys of a command that is not whole yet.
    pending: Vec<Key>,
    register: Register,
    undone: Vec<Moment>,
    done: Vec<Moment>,
    /// The keys of the last change, and of the one that is under way.
    last: Vec<Key>,
    recording: Vec<Key>,
    replaying: bool,
    search: Option<(String, bool)>,
    find: Option<(char, char)>,
    path: Option<PathBuf>,
    changed: bool,
    numbers: bool,
    message: String,
}

impl Editor {
    pub(super) fn new(text: &str, path: Option<PathBuf>) -> Self {
        let mut lines: Vec<Line> = text.split('\n').map(|line| Rc::new(line.chars().collect())).collect();
        if lines.len() > 1 && text.ends_with('\n') {
            lines.pop();
        }
        let message = path
            .as_deref()
            .map_or(String::new(), |path| format!("\"{}\" {} lines", path.display(), lines.len()));
        Self {
            lines,
            row: 0,
            column: 0,
            top: 0,
            mode: Mode::Normal,
            pending: Vec::new(),
            register: Register::default(),
            undone: Vec::new(),
            done: Vec::new(),
            last: Vec::new(),
            recording: Vec::new(),
            replaying: false,
            search: None,
            find: None,
            path,
            changed: false,
            numbers: false,
            message,
        }
    }

    /// The text as it is written: every line ends with a newline.
    pub(super) fn text(&self) -> String {
        if self.lines.len() == 1 && self.lines[0].is_empty() {
            return String::new();
        }
        self.lines.iter().flat_map(|line| line.iter().copied().chain(['\n'])).collect()
    }

    pub(super) fn say(&mut self, message: String) {
        self.message = message;
    }

    pub(super) fn written(&mut self, path: &Path) {
        self.changed = false;
        self.message = format!("\"{}\" {} lines written", path.display(), self.lines.len());
        self.path.get_or_insert_with(|| path.to_owned());
    }

    pub(super) fn insert_lines(&mut self, text: &str) {
        self.remember();
        let new = text.lines().map(|line| Rc::new(line.chars().collect()));
        self.lines.splice(self.row + 1..self.row + 1, new.collect::<Vec<Line>>());
    }

    pub(super) fn go_to_line(&mut self, number: usize) {
        self.row = number.saturating_sub(1).min(self.lines.len() - 1);
        self.column = self.first_word();
    }

    /// Takes a key.
    pub(super) fn key(&mut self, key: Key) -> Effect {
        self.message.clear();
        match self.mode.clone() {
            Mode::Normal => return self.normal(key),
            Mode::Insert | Mode::Replace => self.typed(key),
            Mode::Line(begin, text) => return self.line_key(begin, text, key),
        }
        Effect::None
    }

    fn line_key(&mut self, begin: char, mut text: String, key: Key) -> Effect {
        match key {
            Key::Enter => {
                self.mode = Mode::Normal;
                if begin == ':' {
                    return self.command(&text);
                }
                let backwards = begin == '?';
                if !text.is_empty() {
                    self.search = Some((text, backwards));
                }
                self.search_next(backwards);
                return Effect::None;
            }
            Key::Backspace if text.pop().is_some() => self.mode = Mode::Line(begin, text),
            Key::Escape | Key::Backspace | Key::Control('c') => self.mode = Mode::Normal,
            Key::Char(c) => {
                text.push(c);
                self.mode = Mode::Line(begin, text);
            }
            _ => {}
        }
        Effect::None
    }

    fn line(&self) -> &Line {
        &self.lines[self.row]
    }

    fn line_mut(&mut self) -> &mut Vec<char> {
        Rc::make_mut(&mut self.lines[self.row])
    }

    /// The column of the first character that is no blank.
    fn first_word(&self) -> usize {
        self.line().iter().position(|c| !c.is_whitespace()).unwrap_or(0)
    }

    /// Keeps the cursor on the text.
    fn clamp(&mut self) {
        self.row = self.row.min(self.lines.len() - 1);
        let last =
            if self.mode == Mode::Normal { self.line().len().saturating_sub(1) } else { self.line().len() };
        self.column = self.column.min(last);
    }

    /// Before a change.
    fn remember(&mut self) {
        if self.done.len() == UNDO {
            self.done.remove(0);
        }
        self.done.push(Moment { lines: self.lines.clone(), row: self.row, column: self.column });
        self.undone.clear();
        self.changed = true;
    }

    fn undo(&mut self, again: bool) {
        let from = if again { &mut self.undone } else { &mut self.done };
        let Some(moment) = from.pop() else {
            self.message = "nothing more to undo or redo".into();
            return;
        };
        let now = Moment {
            lines: std::mem::replace(&mut self.lines, moment.lines),
            row: self.row,
            column: self.column,
        };
        (self.row, self.column) = (moment.row, moment.column);
        if again {
            self.done.push(now)
        } else {
            self.undone.push(now)
        }
        self.changed = true;
        self.clamp();
    }

    /// Begins to insert; what is typed until Escape is one change.
    fn insert(&mut self, mode: Mode) {
        self.mode = mode;
    }

    /// A key while text is typed.
    fn typed(&mut self, key: Key) {
        if !self.replaying {
            self.recording.push(key);
        }
        match key {
            Key::Escape | Key::Control('c') => {
                self.mode = Mode::Normal;
                self.column = self.column.saturating_sub(1);
                if !self.replaying {
                    self.last = std::mem::take(&mut self.recording);
                }
            }
            Key::Enter => {
                let column = self.column;
                let rest = self.line_mut().split_off(column);
                self.lines.insert(self.row + 1, Rc::new(rest));
                (self.row, self.column) = (self.row + 1, 0);
            }
            Key::Backspace if self.column > 0 => {
                self.column -= 1;
                let column = self.column;
                self.line_mut().remove(column);
            }
            Key::Backspace if self.row > 0 => {
                let rest = self.lines.remove(self.row);
                self.row -= 1;
                self.column = self.line().len();
                self.line_mut().extend(rest.iter());
            }
            Key::Delete if self.column < self.line().len() => {
                let column = self.column;
                self.line_mut().remove(column);
            }
            Key::Control('i') => self.put('\t'),
            Key::Char(c) => self.put(c),
            Key::Left | Key::Right | Key::Up | Key::Down | Key::Home | Key::End => {
                if let Some(Reach { row, column, .. }) = motion::arrow(self, key) {
                    (self.row, self.column) = (row, column);
                    self.clamp();
                }
            }
            _ => {}
        }
    }

    fn put(&mut self, c: char) {
        let column = self.column;
        let replace = self.mode == Mode::Replace;
        let line = self.line_mut();
        match line.get_mut(column) {
            Some(old) if replace => *old = c,
            _ => line.insert(column, c),
        }
        self.column += 1;
    }

    /// A key of a command.
    fn normal(&mut self, key: Key) -> Effect {
        if key == Key::Escape {
            self.pending.clear();
            return Effect::None;
        }
        self.pending.push(key);
        let keys = self.pending.clone();
        let (count, rest) = number(&keys);
        let Some(first) = rest.first() else { return Effect::None };
        match self.act(count, *first, &rest[1..]) {
            Done::More if self.pending.len() < 16 => return Effect::None,
            Done::More | Done::Moved => {}
            Done::Changed => {
                if !self.replaying {
                    if self.mode == Mode::Normal { self.last = keys } else { self.recording = keys }
                }
            }
            Done::Asked(effect) => {
                self.pending.clear();
                return effect;
            }
        }
        self.pending.clear();
        self.clamp();
        Effect::None
    }

    /// One command: how often, its first key, and the others.
    fn act(&mut self, count: Option<usize>, first: Key, rest: &[Key]) -> Done {
        if let Key::Char(operator @ ('d' | 'c' | 'y' | '>' | '<')) = first {
            return self.operator(operator, count, rest);
        }
        match motion::read(self, count, first, rest) {
            Motion::To(reach) => {
                (self.row, self.column) = (reach.row, reach.column);
                return Done::Moved;
            }
            Motion::More => return Done::More,
            Motion::None => {}
        }
        let times = count.unwrap_or(1);
        match first {
            Key::Char(begin @ (':' | '/' | '?')) => self.mode = Mode::Line(begin, String::new()),
            Key::Char('n' | 'N') => {
                let backwards =
                    self.search.as_ref().is_some_and(|search| search.1) != (first == Key::Char('N'));
                self.search_next(backwards);
            }
            Key::Char('u') => (0..times).for_each(|_| self.undo(false)),
            Key::Control('r') => (0..times).for_each(|_| self.undo(true)),
            Key::Char('.') => self.repeat(),
            Key::Char('Y') => self.operator('y', count, &[Key::Char('y')]).ignore(),
            Key::Char('Z') => match rest.first() {
                None => return Done::More,
                Some(Key::Char('Z')) => return Done::Asked(self.command("x")),
                Some(Key::Char('Q')) => return Done::Asked(Effect::Quit),
                Some(_) => {}
            },
            Key::Control('g') => {
                self.message =
                    format!("line {} of {}, column {}", self.row + 1, self.lines.len(), self.column + 1);
            }
            _ => return self.change(times, count, first, rest),
        }
        Done::Moved
    }

    /// Commands that change the text and take no move.
    fn change(&mut self, times: usize, count: Option<usize>, first: Key, rest: &[Key]) -> Done {
        match first {
            Key::Char('i') => self.begin_insert(self.column),
            Key::Char('a') => self.begin_insert(self.column + 1),
            Key::Char('I') => self.begin_insert(self.first_word()),
            Key::Char('A') => self.begin_insert(usize::MAX),
            Key::Char(open @ ('o' | 'O')) => {
                self.remember();
                let row = self.row + usize::from(open == 'o');
                self.lines.insert(row, Line::default());
                (self.row, self.column) = (row, 0);
                self.insert(Mode::Insert);
            }
            Key::Char('R') => {
                self.remember();
                self.insert(Mode::Replace);
            }
            Key::Char('x') | Key::Delete => self.cut(self.column..self.column.saturating_add(times)),
            Key::Char('X') => {
                let start = self.column.saturating_sub(times);
                self.cut(start..self.column);
                self.column = start;
            }
            Key::Char('D') => self.cut(self.column..usize::MAX),
            Key::Char('C') => {
                self.cut(self.column..usize::MAX);
                self.insert(Mode::Insert);
            }
            Key::Char('s') => {
                self.cut(self.column..self.column.saturating_add(times));
                self.insert(Mode::Insert);
            }
            Key::Char('S') => return self.operator('c', count, &[Key::Char('c')]),
            Key::Char('r') => match rest.first() {
                None => return Done::More,
                Some(Key::Char(c)) if self.column + times <= self.line().len() => {
                    self.remember();
                    let (column, c) = (self.column, *c);
                    self.line_mut()[column..column + times].fill(c);
                    self.column += times - 1;
                }
                Some(_) => return Done::Moved,
            },
            Key::Char('~') => self.swap_case(times),
            Key::Char('J') => self.join(times.max(2) - 1),
            Key::Char(p @ ('p' | 'P')) => self.paste(p == 'p', times),
            _ => return Done::Moved,
        }
        Done::Changed
    }

    fn begin_insert(&mut self, column: usize) {
        self.remember();
        self.column = column.min(self.line().len());
        self.insert(Mode::Insert);
    }

    /// Takes characters of the line into the register.
    fn cut(&mut self, range: std::ops::Range<usize>) {
        self.remember();
        let length = self.line().len();
        let range = range.start.min(length)..range.end.min(length);
        let cut = self.line_mut().drain(range).collect();
        self.register = Register { lines: vec![cut], whole: false };
    }

    fn swap_case(&mut self, times: usize) {
        self.remember();
        let (start, length) = (self.column, self.line().len());
        let end = start.saturating_add(times).min(length);
        for c in &mut self.line_mut()[start.min(length)..end] {
            // A letter whose other form is several characters stays.
            let mut other: Vec<char> =
                if c.is_uppercase() { c.to_lowercase().collect() } else { c.to_uppercase().collect() };
            if let (Some(one), true) = (other.pop(), other.is_empty()) {
                *c = one;
            }
        }
        self.column = end;
    }

    fn join(&mut self, times: usize) {
        self.remember();
        for _ in 0..times.min(self.lines.len() - 1 - self.row) {
            let next = self.lines.remove(self.row + 1);
            let text: Vec<char> = next.iter().copied().skip_while(|c| c.is_whitespace()).collect();
            let line = self.line_mut();
            let at = line.len();
            if !text.is_empty() && line.last().is_some_and(|c| !c.is_whitespace()) {
                line.push(' ');
            }
            line.extend(text);
            self.column = at;
        }
    }

    fn paste(&mut self, behind: bool, times: usize) {
        self.remember();
        let register = self.register.clone();
        if register.whole {
            let row = (self.row + usize::from(behind)).min(self.lines.len());
            let lines = register.lines.iter().cycle().take(register.lines.len() * times.min(COUNT));
            self.lines.splice(row..row, lines.map(|line| Rc::new(line.clone())).collect::<Vec<_>>());
            self.row = row;
            self.column = self.first_word();
            return;
        }
        let column = (self.column + usize::from(behind)).min(self.line().len());
        let rest = self.line_mut().split_off(column);
        for _ in 0..times {
            for (at, line) in register.lines.iter().enumerate() {
                if at > 0 {
                    self.row += 1;
                    self.lines.insert(self.row, Line::default());
                }
                self.line_mut().extend(line);
            }
        }
        self.column = self.line().len().saturating_sub(1);
        self.line_mut().extend(rest);
    }

    /// `d`, `c`, `y`, `>`, `<` with a move, or with itself for whole lines.
    fn operator(&mut self, operator: char, count: Option<usize>, rest: &[Key]) -> Done {
        let (second, keys) = number(rest);
        let Some(first) = keys.first() else { return Done::More };
        let times = match (count, second) {
            (None, None) => None,
            (a, b) => Some(a.unwrap_or(1).saturating_mul(b.unwrap_or(1)).min(COUNT)),
        };
        if *first == Key::Char(operator) {
            let last = self.row.saturating_add(times.unwrap_or(1) - 1).min(self.lines.len() - 1);
            return self.whole(operator, self.row, last);
        }
        // cw is ce, but on a blank.
        let on_word = self.line().get(self.column).is_some_and(|c| !c.is_whitespace());
        let first =
            if operator == 'c' && *first == Key::Char('w') && on_word { Key::Char('e') } else { *first };
        match motion::read(self, times, first, &keys[1..]) {
            Motion::More => Done::More,
            Motion::None => Done::Moved,
            Motion::To(reach) if reach.whole || matches!(operator, '>' | '<') => {
                self.whole(operator, self.row.min(reach.row), self.row.max(reach.row))
            }
            Motion::To(reach) => {
                let reach = motion::for_operator(self, first, reach);
                self.part(operator, reach)
            }
        }
    }

    fn whole(&mut self, operator: char, from: usize, to: usize) -> Done {
        let lines: Vec<Vec<char>> = self.lines[from..=to].iter().map(|line| line.to_vec()).collect();
        match operator {
            'y' => {
                self.register = Register { lines, whole: true };
                self.row = from;
                return Done::Moved;
            }
            '>' | '<' => {
                self.remember();
                for line in &mut self.lines[from..=to] {
                    let line = Rc::make_mut(line);
                    if operator == '>' && !line.is_empty() {
                        line.insert(0, '\t');
                    } else if operator == '<' {
                        let blanks = line.iter().take(8).take_while(|c| **c == ' ').count();
                        let blanks = if line.first() == Some(&'\t') { 1 } else { blanks };
                        line.drain(..blanks);
                    }
                }
            }
            _ => {
                self.remember();
                self.register = Register { lines, whole: true };
                self.lines.drain(from..=to);
                if operator == 'c' || self.lines.is_empty() {
                    self.lines.insert(from.min(self.lines.len()), Line::default());
                }
            }
        }
        self.row = from.min(self.lines.len() - 1);
        self.column = self.first_word();
        if operator == 'c' {
            self.insert(Mode::Insert);
        }
        Done::Changed
    }

    /// Characters from the cursor to where a move ends, in order.
    fn part(&mut self, operator: char, reach: Reach) -> Done {
        let here = (self.row, self.column);
        let there = (reach.row, reach.column);
        let (start, mut end) = if here <= there { (here, there) } else { (there, here) };
        end.1 = (end.1 + usize::from(reach.inclusive)).min(self.lines[end.0].len());
        let mut lines: Vec<Vec<char>> =
            self.lines[start.0..=end.0].iter().map(|line| line.to_vec()).collect();
        let last = lines.len() - 1;
        lines[last].truncate(end.1);
        let begin = start.1.min(lines[0].len());
        lines[0].drain(..begin);
        self.register = Register { lines, whole: false };
        if operator == 'y' {
            (self.row, self.column) = start;
            return Done::Moved;
        }
        self.remember();
        let rest: Vec<char> = self.lines[end.0][end.1..].to_vec();
        self.lines.drain(start.0 + 1..=end.0);
        (self.row, self.column) = start;
        let line = self.line_mut();
        line.truncate(start.1);
        line.extend(rest);
        if operator == 'c' {
            self.insert(Mode::Insert);
        }
        Done::Changed
    }

    fn repeat(&mut self) {
        self.replaying = true;
        self.pending.clear();
        for key in self.last.clone() {
            // A change holds no command that asks for a file.
            let _ = self.key(key);
        }
        self.replaying = false;
    }
}

/// How far a command came.
#[derive(Debug, PartialEq, Eq)]
enum Done {
    /// It needs more keys.
    More,
    Moved,
    Changed,
    Asked(Effect),
}

impl Done {
    /// For a command whose outcome is known.
    fn ignore(self) {}
}

/// A count at the beginning, and the keys behind it. Zero begins none: it is a move.
fn number(keys: &[Key]) -> (Option<usize>, &[Key]) {
    let digit = |key: &Key| if let Key::Char(c) = key { c.to_digit(10) } else { None };
    if keys.first() == Some(&Key::Char('0')) {
        return (None, keys);
    }
    let length = keys.iter().take_while(|key| digit(key).is_some()).count();
    if length == 0 {
        return (None, keys);
    }
    let count =
        keys[..length].iter().filter_map(digit).fold(0, |sum, digit| (sum * 10 + digit as usize).min(COUNT));
    (Some(count.max(1)), &keys[length..])
}

#[cfg(test)]
mod tests;
