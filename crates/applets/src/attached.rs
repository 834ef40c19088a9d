//! `-X=VALUE`: to GNU's utilities the value of `X` is `=VALUE`, to the crate that reads uutils' command lines it is `VALUE`.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// The options of one letter that take a value, by utility; of those that are none but with one.
#[rustfmt::skip] // as many as fit on a line
const TAKE_VALUES: &[(&str, &str)] = &[
    ("b2sum", "l"), ("base32", "w"), ("base64", "w"), ("basenc", "w"), ("cksum", "al"), ("cp", "St"), ("csplit", "bfn"),
    ("cut", "bcdf"), ("date", "dfrs"), ("df", "Btx"), ("du", "Bdt"), ("env", "uCS"), ("expand", "t"), ("fmt", "gpw"),
    ("fold", "w"), ("head", "cn"), ("install", "gmotS"), ("join", "aeotv12j"), ("ln", "St"), ("ls", "ITw"),
    ("mkdir", "m"), ("mkfifo", "m"), ("mknod", "m"), ("mktemp", "p"), ("mv", "St"), ("nice", "n"), ("nl", "bdfhilnsvw"),
    ("numfmt", "d"), ("od", "AjNt"), ("paste", "d"), ("ptx", "FMSWbgiow"), ("sed", "efl"), ("seq", "fst"), ("shred", "ns"),
    ("shuf", "ino"), ("sort", "kotST"), ("split", "abCnlt"), ("stat", "c"), ("tac", "s"), ("timeout", "ks"),
    ("touch", "drt"), ("truncate", "rs"), ("unexpand", "t"), ("uniq", "fsw"),
];

/// The words with such values in words of their own, which both take in the same way.
pub(crate) fn apart(utility: &str, words: Vec<OsString>) -> Vec<OsString> {
    let taking =
        TAKE_VALUES.binary_search_by(|(name, _)| (*name).cmp(utility)).map(|at| TAKE_VALUES[at].1.as_bytes());
    let is_attached = |word: &OsString| matches!(word.as_bytes(), [b'-', _, b'=', ..]);
    let Ok(taking) = taking else { return words };
    if !words.iter().any(is_attached) {
        return words;
    }
    let mut out = Vec::with_capacity(words.len() + 1);
    // Whether the word is the value of the one before it; behind `--` none is an option.
    let (mut value, mut ended) = (true, false);
    for word in words {
        match word.as_bytes() {
            [b'-', letter, b'=', rest @ ..] if !value && !ended && taking.contains(letter) => {
                out.push(OsString::from_vec(vec![b'-', *letter]));
                out.push(OsString::from_vec([b"=", rest].concat()));
                continue;
            }
            bytes => {
                ended |= !value && bytes == b"--";
                value = !value && matches!(bytes, [b'-', letter] if taking.contains(letter));
            }
        }
        out.push(word);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_sorted_and_of_utilities() {
        assert!(TAKE_VALUES.is_sorted_by(|left, right| left.0 < right.0));
        assert!(TAKE_VALUES.iter().all(|(name, _)| crate::find(name.as_ref()).is_some()));
    }

    #[test]
    fn an_equals_sign_behind_a_letter_begins_its_value() {
        for (utility, words, expected) in [
            ("paste", &["paste", "-d=", "a"][..], &["paste", "-d", "=", "a"][..]),
            ("sort", &["sort", "-t=", "-k", "-k=2", "-r"], &["sort", "-t", "=", "-k", "-k=2", "-r"]),
            ("cut", &["cut", "-d==", "--", "-f=1"], &["cut", "-d", "==", "--", "-f=1"]),
            ("ls", &["ls", "-l=x", "--color=never"], &["ls", "-l=x", "--color=never"]),
            ("cat", &["cat", "-d=x"], &["cat", "-d=x"]),
            ("paste", &["-d=", "-d=x"], &["-d=", "-d", "=x"]),
        ] {
            let words: Vec<OsString> = words.iter().map(OsString::from).collect();
            assert_eq!(apart(utility, words), expected, "{utility}");
        }
    }
}
