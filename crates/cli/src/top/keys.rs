//! From what a terminal sends to keys.

/// A key that means something here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    Up,
    Down,
    Escape,
    Interrupt,
    Letter(char),
}

/// The keys in what was read at once. A sequence that is not known is skipped as a whole, so that none of its letters
/// kills an agent.
pub(super) fn keys(bytes: &[u8]) -> Vec<Key> {
    let mut keys = Vec::new();
    let mut rest = bytes;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        match first {
            0x1b => {
                let Some(b'[' | b'O') = rest.first() else {
                    keys.push(Key::Escape);
                    continue;
                };
                let end = rest
                    .iter()
                    .skip(1)
                    .position(|byte| (0x40..0x7f).contains(byte))
                    .map_or(rest.len(), |at| at + 2);
                match rest[..end] {
                    [_, b'A'] => keys.push(Key::Up),
                    [_, b'B'] => keys.push(Key::Down),
                    _ => {}
                }
                rest = &rest[end..];
            }
            3 | 4 => keys.push(Key::Interrupt),
            // What a terminal without arrows has.
            16 => keys.push(Key::Up),
            14 => keys.push(Key::Down),
            letter if letter.is_ascii_alphabetic() => {
                keys.push(Key::Letter(char::from(*letter).to_ascii_lowercase()))
            }
            _ => {}
        }
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrows_of_both_kinds_letters_and_nothing_of_what_is_not_known() {
        assert_eq!(keys(b"\x1b[A\x1bOBq\x03"), [Key::Up, Key::Down, Key::Letter('q'), Key::Interrupt]);
        assert_eq!(keys(b"\x1b"), [Key::Escape]);
        assert_eq!(keys(b"K\x10\x0e"), [Key::Letter('k'), Key::Up, Key::Down]);
        assert_eq!(keys(b"\x1b[1;5k"), [], "no letter of a sequence is a key");
        assert_eq!(keys(b"\x1b[15~s"), [Key::Letter('s')]);
        assert_eq!(keys(b"\x1b["), []);
        assert_eq!(keys(b"\xff\x00 9"), []);
    }
}
