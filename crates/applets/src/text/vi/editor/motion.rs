//! Moves of the cursor.

use super::Editor;
use crate::terminal::Key;

/// Where a move ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reach {
    pub(super) row: usize,
    pub(super) column: usize,
    /// An operator takes whole lines.
    pub(super) whole: bool,
    /// An operator takes the character there too.
    pub(super) inclusive: bool,
}

/// What keys mean as a move.
pub(super) enum Motion {
    To(Reach),
    /// They need more.
    More,
    /// They are none, or there is nowhere to go.
    None,
}

/// Rows that a screen is moved by.
const PAGE: usize = 20;

fn to(row: usize, column: usize) -> Option<Reach> {
    Some(Reach { row, column, whole: false, inclusive: false })
}

fn lines(editor: &Editor, row: usize) -> Option<Reach> {
    let row = row.min(editor.lines.len() - 1);
    Some(Reach { row, column: editor.column, whole: true, inclusive: false })
}

/// Arrows, as in text that is typed.
pub(super) fn arrow(editor: &Editor, key: Key) -> Option<Reach> {
    let (row, column) = (editor.row, editor.column);
    match key {
        Key::Left => to(row, column.saturating_sub(1)),
        Key::Right => to(row, (column + 1).min(editor.line().len())),
        Key::Up => lines(editor, row.saturating_sub(1)),
        Key::Down => lines(editor, row + 1),
        Key::Home => to(row, 0),
        Key::End => to(row, editor.line().len()),
        _ => None,
    }
}

/// Reads a move.
pub(super) fn read(editor: &mut Editor, count: Option<usize>, first: Key, rest: &[Key]) -> Motion {
    let times = count.unwrap_or(1);
    let (row, column) = (editor.row, editor.column);
    let end = editor.line().len();
    let reach = match first {
        Key::Char('h') | Key::Left | Key::Backspace => to(row, column.saturating_sub(times)),
        Key::Char('l' | ' ') | Key::Right => to(row, column.saturating_add(times).min(end)),
        Key::Char('j') | Key::Down | Key::Control('n') => lines(editor, row.saturating_add(times)),
        Key::Char('k') | Key::Up | Key::Control('p') => lines(editor, row.saturating_sub(times)),
        Key::Char('+') | Key::Enter => first_word(editor, row.saturating_add(times)),
        Key::Char('-') => first_word(editor, row.saturating_sub(times)),
        Key::Char('0') | Key::Home => to(row, 0),
        Key::Char('^' | '_') => to(row, editor.first_word()),
        Key::Char('$') | Key::End => {
            Some(Reach { row, column: end.saturating_sub(1), whole: false, inclusive: end > 0 })
        }
        Key::Char('|') => to(row, times - 1),
        Key::Char('w' | 'W') => repeated(editor, times, first == Key::Char('W'), word),
        Key::Char('b' | 'B') => repeated(editor, times, first == Key::Char('B'), back),
        Key::Char('e' | 'E') => repeated(editor, times, first == Key::Char('E'), word_end)
            .map(|reach| Reach { inclusive: true, ..reach }),
        Key::Char('G') => first_word(editor, count.map_or(usize::MAX, |line| line - 1)),
        Key::Char('g') => match rest.first() {
            None => return Motion::More,
            Some(Key::Char('g')) => first_word(editor, times - 1),
            Some(_) => None,
        },
        Key::Char(kind @ ('f' | 'F' | 't' | 'T')) => match rest.first() {
            None => return Motion::More,
            Some(Key::Char(c)) => {
                editor.find = Some((kind, *c));
                on_line(editor, kind, *c, times)
            }
            Some(_) => None,
        },
        Key::Char(';') => editor.find.and_then(|(kind, c)| on_line(editor, kind, c, times)),
        Key::Char('%') => bracket(editor),
        Key::Char('{') => paragraph(editor, false),
        Key::Char('}') => paragraph(editor, true),
        Key::Control('f') | Key::PageDown => lines(editor, row + PAGE),
        Key::Control('b') | Key::PageUp => lines(editor, row.saturating_sub(PAGE)),
        Key::Control('d') => lines(editor, row + PAGE / 2),
        Key::Control('u') => lines(editor, row.saturating_sub(PAGE / 2)),
        _ => None,
    };
    reach.map_or(Motion::None, Motion::To)
}

fn first_word(editor: &Editor, row: usize) -> Option<Reach> {
    let row = row.min(editor.lines.len() - 1);
    let column = editor.lines[row].iter().position(|c| !c.is_whitespace()).unwrap_or(0);
    Some(Reach { row, column, whole: true, inclusive: false })
}

/// What an operator makes of a move: `dw` on the last word of a line stays in it.
pub(super) fn for_operator(editor: &Editor, first: Key, reach: Reach) -> Reach {
    if matches!(first, Key::Char('w' | 'W')) && reach.row > editor.row {
        return Reach { row: editor.row, column: editor.line().len(), inclusive: false, ..reach };
    }
    reach
}

/// Blank, a letter of a word, or another sign; two neighbours of one kind are of one word.
fn kind(c: char, large: bool) -> u8 {
    match c {
        c if c.is_whitespace() => 0,
        _ if large => 1,
        c if c.is_alphanumeric() || c == '_' => 1,
        _ => 2,
    }
}

type Step = fn(&Editor, (usize, usize), bool) -> (usize, usize);

fn repeated(editor: &Editor, times: usize, large: bool, step: Step) -> Option<Reach> {
    let mut at = (editor.row, editor.column);
    for _ in 0..times {
        let next = step(editor, at, large);
        if next == at {
            break;
        }
        at = next;
    }
    to(at.0, at.1)
}

fn kind_at(editor: &Editor, (row, column): (usize, usize), large: bool) -> u8 {
    editor.lines[row].get(column).map_or(0, |c| kind(*c, large))
}

/// The next place; the end of a line is one, as a blank.
fn next(editor: &Editor, (row, column): (usize, usize)) -> Option<(usize, usize)> {
    if column < editor.lines[row].len() {
        return Some((row, column + 1));
    }
    (row + 1 < editor.lines.len()).then_some((row + 1, 0))
}

fn before(editor: &Editor, (row, column): (usize, usize)) -> Option<(usize, usize)> {
    if column > 0 {
        return Some((row, column - 1));
    }
    row.checked_sub(1).map(|row| (row, editor.lines[row].len()))
}

fn word(editor: &Editor, start: (usize, usize), large: bool) -> (usize, usize) {
    let mut at = start;
    let first = kind_at(editor, at, large);
    while first != 0 && kind_at(editor, at, large) == first {
        match next(editor, at) {
            Some(further) => at = further,
            None => return at,
        }
    }
    while kind_at(editor, at, large) == 0 {
        // An empty line is a word.
        if at != start && editor.lines[at.0].is_empty() {
            break;
        }
        match next(editor, at) {
            Some(further) => at = further,
            None => break,
        }
    }
    at
}

fn word_end(editor: &Editor, start: (usize, usize), large: bool) -> (usize, usize) {
    let mut at = match next(editor, start) {
        Some(further) => further,
        None => return start,
    };
    while kind_at(editor, at, large) == 0 {
        match next(editor, at) {
            Some(further) => at = further,
            None => return start,
        }
    }
    let first = kind_at(editor, at, large);
    while let Some(further) = next(editor, at).filter(|further| kind_at(editor, *further, large) == first) {
        at = further;
    }
    at
}

fn back(editor: &Editor, start: (usize, usize), large: bool) -> (usize, usize) {
    let mut at = match before(editor, start) {
        Some(earlier) => earlier,
        None => return start,
    };
    while kind_at(editor, at, large) == 0 {
        match before(editor, at) {
            Some(earlier) => at = earlier,
            None => return at,
        }
    }
    let first = kind_at(editor, at, large);
    while let Some(earlier) = before(editor, at).filter(|earlier| kind_at(editor, *earlier, large) == first) {
        at = earlier;
    }
    at
}

/// `f`, `F`, `t`, `T`.
fn on_line(editor: &Editor, kind: char, c: char, times: usize) -> Option<Reach> {
    let line = editor.line();
    let forwards = kind.is_lowercase();
    let found = if forwards {
        (editor.column + 1..line.len()).filter(|&at| line[at] == c).nth(times - 1)?
    } else {
        (0..editor.column).rev().filter(|&at| line[at] == c).nth(times - 1)?
    };
    let column = match kind {
        't' => found - 1,
        'T' => found + 1,
        _ => found,
    };
    Some(Reach { row: editor.row, column, whole: false, inclusive: forwards })
}

/// The other bracket of the first one from the cursor on.
fn bracket(editor: &Editor) -> Option<Reach> {
    const PAIRS: [(char, char); 3] = [('(', ')'), ('[', ']'), ('{', '}')];
    let line = editor.line();
    let start =
        (editor.column..line.len()).find(|&at| PAIRS.iter().any(|p| p.0 == line[at] || p.1 == line[at]))?;
    let (open, close) = *PAIRS.iter().find(|p| p.0 == line[start] || p.1 == line[start])?;
    let forwards = line[start] == open;
    let mut depth = 0_usize;
    let mut at = Some((editor.row, start));
    while let Some(place) = at {
        if let Some(c) = editor.lines[place.0].get(place.1) {
            if *c == if forwards { open } else { close } {
                depth += 1;
            } else if *c == if forwards { close } else { open } {
                depth -= 1;
                if depth == 0 {
                    return Some(Reach { row: place.0, column: place.1, whole: false, inclusive: true });
                }
            }
        }
        at = if forwards { next(editor, place) } else { before(editor, place) };
    }
    None
}

/// The next or the last empty line.
fn paragraph(editor: &Editor, forwards: bool) -> Option<Reach> {
    let empty = |row: &usize| editor.lines[*row].is_empty();
    if forwards {
        let last = editor.lines.len() - 1;
        let row = (editor.row + 1..=last).find(empty);
        row.map_or_else(|| to(last, editor.lines[last].len()), |row| to(row, 0))
    } else {
        to((0..editor.row).rev().find(empty).unwrap_or(0), 0)
    }
}
