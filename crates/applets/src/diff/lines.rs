//! Which lines of two texts are the same.

use super::options::Options;
use imara_diff::{Algorithm, Diff, InternedInput};
use std::borrow::Cow;
use std::ops::Range;

/// A place where two texts differ: lines of the one, and those of the other in their place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) from: Range<usize>,
    pub(super) to: Range<usize>,
}

/// The lines of a text, each with its newline.
pub(super) fn lines(text: &[u8]) -> Vec<&[u8]> {
    text.split_inclusive(|&b| b == b'\n').collect()
}

/// What of a line counts.
fn counted<'l>(options: &Options, line: &'l [u8]) -> Cow<'l, [u8]> {
    if !(options.fewer_blanks || options.no_blanks || options.no_case || options.no_cr) {
        return Cow::Borrowed(line);
    }
    let mut text = line.strip_suffix(b"\n").unwrap_or(line);
    if options.no_cr {
        text = text.strip_suffix(b"\r").unwrap_or(text);
    }
    let mut counted = Vec::with_capacity(text.len());
    if options.no_blanks || options.fewer_blanks {
        let mut blank = false;
        for &byte in text {
            if byte.is_ascii_whitespace() {
                blank = true;
                continue;
            }
            if blank && !options.no_blanks {
                counted.push(b' ');
            }
            blank = false;
            counted.push(byte);
        }
    } else {
        counted.extend_from_slice(text);
    }
    if options.no_case {
        counted.make_ascii_lowercase();
    }
    if line.ends_with(b"\n") || options.fewer_blanks || options.no_blanks {
        counted.push(b'\n');
    }
    Cow::Owned(counted)
}

/// Where two texts differ, in order.
pub(super) fn changes(options: &Options, from: &[&[u8]], to: &[&[u8]]) -> Vec<Change> {
    let mut input = InternedInput::default();
    input.update_before(from.iter().map(|line| counted(options, line)));
    input.update_after(to.iter().map(|line| counted(options, line)));
    let mut diff = Diff::compute(Algorithm::Myers, &input);
    diff.postprocess_no_heuristic(&input);
    let range = |range: Range<u32>| range.start as usize..range.end as usize;
    let changes = diff.hunks().map(|hunk| Change { from: range(hunk.before), to: range(hunk.after) });
    let blank = |lines: &[&[u8]]| lines.iter().all(|line| line.trim_ascii().is_empty());
    let only_blank = |change: &Change| blank(&from[change.from.clone()]) && blank(&to[change.to.clone()]);
    changes.filter(|change| !(options.no_blank_lines && only_blank(change))).collect()
}

/// Changes that are so near that their context meets, together.
pub(super) fn groups(changes: &[Change], context: usize) -> Vec<&[Change]> {
    changes.chunk_by(|one, next| next.from.start - one.from.end <= 2 * context).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(options: &Options, from: &str, to: &str) -> Vec<(Range<usize>, Range<usize>)> {
        let changes = changes(options, &lines(from.as_bytes()), &lines(to.as_bytes()));
        changes.into_iter().map(|change| (change.from, change.to)).collect()
    }

    #[test]
    fn changes_are_found_and_what_does_not_count_is_not() {
        let plain = Options::default();
        assert_eq!(found(&plain, "a\nb\nc\n", "a\nx\nc\n"), [(1..2, 1..2)]);
        assert_eq!(found(&plain, "a\n", "a"), [(0..1, 0..1)]);
        assert!(found(&plain, "a\nb\n", "a\nb\n").is_empty());
        let blanks = Options { fewer_blanks: true, ..Options::default() };
        assert!(found(&blanks, "a  b \n", "a b\n").is_empty());
        assert!(!found(&blanks, "a b\n", "ab\n").is_empty());
        let none = Options { no_blanks: true, no_case: true, ..Options::default() };
        assert!(found(&none, " A b\n", "ab\n").is_empty());
        let empty = Options { no_blank_lines: true, ..Options::default() };
        assert!(found(&empty, "a\n\nb\n", "a\nb\n").is_empty());
        let cr = Options { no_cr: true, ..Options::default() };
        assert!(found(&cr, "a\r\n", "a\n").is_empty());
    }

    #[test]
    fn changes_whose_context_meets_are_one_group() {
        let change = |start: usize| Change { from: start..start + 1, to: start..start + 1 };
        let changes = [change(5), change(12), change(20)];
        assert_eq!(groups(&changes, 3).len(), 2);
        assert_eq!(groups(&changes, 0).len(), 3);
    }
}
