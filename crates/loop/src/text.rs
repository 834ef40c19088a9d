//! Texts of others: cut to a length, and without what a terminal would obey.

use octant_ids::Sha256;
use sha2::Digest;

/// The digest of a text.
pub(crate) fn digest(text: &str) -> Sha256 {
    Sha256(sha2::Sha256::digest(text.as_bytes()).into())
}

/// The longest prefix of at most so many bytes.
pub(crate) fn head(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

/// The longest suffix of at most so many bytes.
pub(crate) fn tail(text: &str, bytes: usize) -> &str {
    &text[text.ceil_char_boundary(text.len().saturating_sub(bytes))..]
}

/// The text with its middle left out, where it is longer than `bytes`; says how much that is.
pub(crate) fn middle_out(text: &str, bytes: usize) -> String {
    if text.len() <= bytes {
        return text.to_owned();
    }
    let (first, last) = (head(text, bytes * 2 / 3), tail(text, bytes / 3));
    let left = text.len() - first.len() - last.len();
    format!("{first}\n[... {left} bytes left out ...]\n{last}")
}

/// The text with every character spelled out that a terminal obeys, or that hides or turns what is beside it. Lines and tabs
/// stay.
#[must_use]
pub fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\t' => shown.push(c),
            c if c.is_control() || hides(c) => shown.extend(c.escape_unicode()),
            c => shown.push(c),
        }
    }
    shown
}

/// Characters without a width of their own that change how others look: directions, joiners, tags.
fn hides(c: char) -> bool {
    matches!(
        c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{fff9}'..='\u{fffb}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_spelled_out() {
        assert_eq!(visible("a\x1b[31mb\r\n\tc\u{202e}"), "a\\u{1b}[31mb\\u{d}\n\tc\\u{202e}");
        assert_eq!(
            visible("a\u{61c}\u{ad}b"),
            "a\\u{61c}\\u{ad}b",
            "as good as U+200F, and a dash that is not there"
        );
        assert_eq!(visible("gr\u{fc}n \u{1f600}"), "gr\u{fc}n \u{1f600}");
    }

    #[test]
    fn the_middle_is_left_out_at_characters() {
        let text = "\u{fc}".repeat(100);
        let cut = middle_out(&text, 31);
        assert!(
            cut.contains("bytes left out") && cut.starts_with('\u{fc}') && cut.ends_with('\u{fc}'),
            "{cut}"
        );
        assert_eq!(middle_out("short", 31), "short");
    }
}
