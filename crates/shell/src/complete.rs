//! What a press of Tab puts in place, given the candidates.

use std::path::Path;

/// What Tab does.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Completion {
    /// Nothing fits.
    Nothing,
    /// This text comes in place of the word.
    Insert(String),
    /// More than one fits and nothing more is common to them: show these.
    Show(Vec<String>),
}

/// Chooses among candidates for `word`; with `files`, a directory (seen from `directory`) gets a slash.
pub(crate) fn choose(word: &str, candidates: Vec<String>, files: bool, directory: &Path) -> Completion {
    let mut candidates = candidates;
    candidates.sort();
    candidates.dedup();
    match candidates.as_slice() {
        [] => Completion::Nothing,
        [only] => {
            let is_directory = files && directory.join(only).is_dir();
            let end = if is_directory && !only.ends_with('/') { "/" } else { "" };
            let space = if is_directory { "" } else { " " };
            Completion::Insert(format!("{}{end}{space}", escape(only)))
        }
        [first, .., last] => {
            // Sorted, so that what the first and the last share is shared by all.
            let common: String =
                first.chars().zip(last.chars()).take_while(|(a, b)| a == b).map(|(a, _)| a).collect();
            if common.len() > word.len() {
                Completion::Insert(escape(&common))
            } else {
                Completion::Show(candidates)
            }
        }
    }
}

/// More candidates than fit on a screen are not shown.
const SHOWN: usize = 200;

/// Candidates in columns, as wide as the widest; of a path its last part.
pub(crate) fn table(candidates: &[String], columns: usize) -> String {
    let name = |text: &String| {
        let whole = text.trim_end_matches('/');
        let start = whole.rfind('/').map_or(0, |at| at + 1);
        // What a file is called is not to move the cursor.
        text[start..].chars().map(|c| if c.is_control() { '?' } else { c }).collect::<String>()
    };
    let names: Vec<String> = candidates.iter().take(SHOWN).map(name).collect();
    let width = names.iter().map(|name| name.chars().count() + 2).max().unwrap_or(1);
    let across = (columns / width).max(1);
    let down = names.len().div_ceil(across);
    let mut lines: Vec<String> = vec![String::new(); down];
    for (index, name) in names.iter().enumerate() {
        let line = &mut lines[index % down];
        let padding = (index / down * width).saturating_sub(line.chars().count());
        line.push_str(&" ".repeat(padding));
        line.push_str(name);
    }
    if candidates.len() > SHOWN {
        lines.push(format!("... and {} more", candidates.len() - SHOWN));
    }
    lines.join("\n")
}

/// Backslashes before what the shell would not take literally.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if " \t\\'\"$`&|;<>()*?[]#!{}".contains(c) {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(word: &str, candidates: &[&str]) -> Completion {
        choose(word, candidates.iter().map(ToString::to_string).collect(), true, Path::new("/"))
    }

    #[test]
    fn one_candidate_is_taken_with_a_space_or_a_slash() {
        assert_eq!(chosen("no", &["no-such-thing"]), Completion::Insert("no-such-thing ".into()));
        assert_eq!(chosen("pr", &["proc"]), Completion::Insert("proc/".into()));
        assert_eq!(chosen("a", &["a b", "a b"]), Completion::Insert("a\\ b ".into()));
    }

    #[test]
    fn candidates_are_shown_in_columns() {
        let names: Vec<String> =
            ["a", "bb", "/x/ccc", "dir/", "e\x1b"].iter().map(ToString::to_string).collect();
        assert_eq!(table(&names, 14), "a     dir/\nbb    e?\nccc");
        assert_eq!(table(&names, 3), "a\nbb\nccc\ndir/\ne?");
        let many: Vec<String> = (0..500).map(|n| n.to_string()).collect();
        assert!(table(&many, 80).ends_with("... and 300 more"));
    }

    #[test]
    fn several_candidates_give_what_they_share_or_are_shown() {
        assert_eq!(chosen("s", &["sha256sum", "sha1sum"]), Completion::Insert("sha".into()));
        assert_eq!(
            chosen("sha", &["sha256sum", "sha1sum"]),
            Completion::Show(vec!["sha1sum".into(), "sha256sum".into()])
        );
        assert_eq!(chosen("x", &[]), Completion::Nothing);
    }
}
