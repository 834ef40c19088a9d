//! Patterns of names, as tar's `--exclude` and `--wildcards` take them, and cpio and unzip.

/// Whether a pattern matches a name, or a directory above it.
pub(crate) fn below(pattern: &[u8], name: &[u8]) -> bool {
    ends(name).any(|end| matches(pattern, &name[..end]))
}

/// Whether a pattern matches a name, a directory above it, or the part of either behind a slash.
pub(crate) fn anywhere(pattern: &[u8], name: &[u8]) -> bool {
    let behind_slashes = name.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(at, _)| at + 1);
    std::iter::once(0).chain(behind_slashes).any(|start| below(pattern, &name[start..]))
}

/// Where the name ends, and those of the directories above it.
fn ends(name: &[u8]) -> impl Iterator<Item = usize> {
    (1..=name.len()).filter(|&end| end == name.len() || name[end] == b'/')
}

/// `*` is any bytes, a slash too; `?` one, `[...]` one of these; `\` takes a special byte as it is. It takes steps in
/// the order of the product of both lengths: for a star, only the last one is tried again.
pub(crate) fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at, mut here) = (0, 0);
    let mut again: Option<(usize, usize)> = None;
    while here < name.len() {
        if pattern.get(at) == Some(&b'*') {
            again = Some((at + 1, here));
            at += 1;
        } else if let Some(next) = one(&pattern[at..], name[here]) {
            at += next;
            here += 1;
        } else if let Some((behind, from)) = again {
            again = Some((behind, from + 1));
            (at, here) = (behind, from + 1);
        } else {
            return false;
        }
    }
    pattern[at..].iter().all(|&b| b == b'*')
}

/// How much of the pattern stands for this byte.
fn one(pattern: &[u8], byte: u8) -> Option<usize> {
    match *pattern.first()? {
        b'?' => Some(1),
        b'\\' if pattern.len() > 1 => (pattern[1] == byte).then_some(2),
        b'[' => match set(pattern, byte) {
            Some((length, true)) => Some(length),
            Some((_, false)) => None,
            // Not closed: a bracket like any other byte.
            None => (byte == b'[').then_some(1),
        },
        other => (other == byte).then_some(1),
    }
}

/// The length of a set in brackets and whether it has the byte.
fn set(pattern: &[u8], byte: u8) -> Option<(usize, bool)> {
    let negated = matches!(pattern.get(1), Some(b'!' | b'^'));
    let start = 1 + usize::from(negated);
    let mut at = start;
    let mut has = false;
    loop {
        let low = *pattern.get(at)?;
        if low == b']' && at > start {
            return Some((at + 1, has != negated));
        }
        if pattern.get(at + 1) == Some(&b'-') && pattern.get(at + 2).is_some_and(|&b| b != b']') {
            has |= (low..=pattern[at + 2]).contains(&byte);
            at += 3;
        } else {
            has |= low == byte;
            at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_matched() {
        let cases: &[(&str, &str, bool)] = &[
            ("*.o", "a.o", true),
            ("*.o", "b/a.o", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("[a-c]x", "bx", true),
            ("[!a-c]x", "bx", false),
            ("[]]", "]", true),
            ("[a", "[a", true),
            ("\\*", "*", true),
            ("\\*", "a", false),
            ("a*b*c", "a1b2b3c", true),
            ("a*b*c", "a1b2b3", false),
            ("", "", true),
            ("*", "", true),
        ];
        for (pattern, name, wanted) in cases {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), *wanted, "{pattern} {name}");
        }
    }

    #[test]
    fn what_lies_below_a_match_is_matched_too() {
        assert!(anywhere(b"node_modules", b"./a/node_modules/b/c"));
        assert!(anywhere(b"a/b", b"x/a/b"));
        assert!(!anywhere(b"modules", b"a/node_modules"));
        assert!(below(b"a", b"a/b") && !below(b"b", b"a/b"));
    }

    #[test]
    fn many_stars_take_no_longer_than_the_product() {
        let pattern = "*a".repeat(2000);
        let name = "a".repeat(1999) + "b";
        assert!(!matches(pattern.as_bytes(), name.as_bytes()));
    }
}
