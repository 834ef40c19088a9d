//! The keys: one for each actuator, made anew at every boot.

use octant_ids::ServiceName;
use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read, Seek};
use zeroize::{Zeroize, Zeroizing};

/// The most actuators.
pub const KEYS_MAX: usize = 32;
/// The length of a key in bytes: as long as the hash, which is what RFC 2104 section 3 asks for.
const KEY_LEN: usize = 32;
/// The most bytes of a text of keys: so many names, each with a space, its digits and a newline.
const TEXT_MAX: usize = KEYS_MAX * (ServiceName::MAX + 1 + 2 * KEY_LEN + 1);

/// An actuator's key. It is wiped when it is dropped, never shown, and in one place: moving it moves no byte of it.
pub struct Key(Box<Zeroizing<[u8; KEY_LEN]>>);

impl Key {
    /// A key of these bytes, which nobody else may know; the caller wipes its own.
    #[must_use]
    pub fn new(bytes: &[u8; KEY_LEN]) -> Self {
        let mut key = Self::zeros();
        key.0.copy_from_slice(bytes);
        key
    }

    fn zeros() -> Self {
        Self(Box::new(Zeroizing::new([0; KEY_LEN])))
    }

    pub(crate) fn bytes(&self) -> &[u8; KEY_LEN] {
        &self.0
    }

    pub(crate) fn wipe(&mut self) {
        self.0.zeroize();
    }
}

impl Clone for Key {
    fn clone(&self) -> Self {
        Self::new(&self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

/// Why bytes are not a list of keys. No message has anything of a key in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeysError {
    /// They cannot be read.
    #[error("the keys cannot be read: {0}")]
    Read(io::ErrorKind),
    /// More bytes than so many keys have.
    #[error(
        "the keys have {0} bytes, more than {TEXT_MAX}; PID 1 and this program are of different versions"
    )]
    TooLong(usize),
    /// More than [`KEYS_MAX`].
    #[error("there are more than {KEYS_MAX} keys; PID 1 and this program are of different versions")]
    TooMany,
    /// A line that is not an actuator's name, a space and 64 hexadecimal digits.
    #[error(
        "line {0} of the keys is not a name, a space and 64 hexadecimal digits; PID 1 and this program are of \
         different versions"
    )]
    Line(usize),
    /// A name that comes twice.
    #[error("{0} has two keys; one of them would never verify anything")]
    Twice(ServiceName),
}

/// Keys by the names of their actuators. Their text, which is what the descriptor `tickets` holds, is a line for each:
/// the name, a space, 64 lower-case hexadecimal digits.
#[derive(Debug, Clone, Default)]
pub struct Keys(BTreeMap<ServiceName, Key>);

impl Keys {
    /// These keys.
    ///
    /// # Errors
    /// [`KeysError::TooMany`], [`KeysError::Twice`].
    pub fn new(keys: impl IntoIterator<Item = (ServiceName, Key)>) -> Result<Self, KeysError> {
        let mut all = BTreeMap::new();
        for (name, key) in keys {
            if all.len() == KEYS_MAX {
                return Err(KeysError::TooMany);
            }
            if all.contains_key(&name) {
                return Err(KeysError::Twice(name));
            }
            all.insert(name, key);
        }
        Ok(Self(all))
    }

    /// Reads the descriptor `tickets` from its beginning, and no more of it than keys can be.
    ///
    /// # Errors
    /// [`KeysError`].
    pub fn read(mut from: impl Read + Seek) -> Result<Self, KeysError> {
        let failed = |error: io::Error| KeysError::Read(error.kind());
        from.rewind().map_err(failed)?;
        let most = TEXT_MAX + 1;
        let mut text = Zeroizing::new(Vec::with_capacity(most));
        from.take(u64::try_from(most).unwrap_or(u64::MAX)).read_to_end(&mut text).map_err(failed)?;
        Self::parse(&text)
    }

    /// Reads what [`Keys::to_text`] wrote.
    ///
    /// # Errors
    /// [`KeysError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, KeysError> {
        if bytes.len() > TEXT_MAX {
            return Err(KeysError::TooLong(bytes.len()));
        }
        let Some(lines) = bytes.strip_suffix(b"\n") else {
            return if bytes.is_empty() { Ok(Self::default()) } else { Err(KeysError::Line(0)) };
        };
        let rows = lines.split(|byte| *byte == b'\n').zip(1..);
        let rows = rows.map(|(line, number)| row(line).ok_or(KeysError::Line(number)));
        Self::new(rows.collect::<Result<Vec<_>, _>>()?)
    }

    /// The text of all of them.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<Vec<u8>> {
        // With room for all of it from the start: memory that a vector leaves when it grows is not wiped.
        let mut text = Zeroizing::new(Vec::with_capacity(TEXT_MAX));
        for (name, key) in &self.0 {
            text.extend(name.as_str().bytes().chain([b' ']));
            let digits = key.bytes().iter().flat_map(|byte| [byte >> 4, byte & 15]);
            text.extend(digits.map(|digit| b"0123456789abcdef"[usize::from(digit)]).chain([b'\n']));
        }
        text
    }

    /// The key of this actuator.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Key> {
        self.0.iter().find(|(known, _)| known.as_str() == name).map(|(_, key)| key)
    }

    /// The key of this actuator and no other.
    #[must_use]
    pub fn only(&self, name: &str) -> Self {
        Self(
            self.0
                .iter()
                .filter(|(known, _)| known.as_str() == name)
                .map(|(n, k)| (n.clone(), k.clone()))
                .collect(),
        )
    }

    /// The names, in order.
    pub fn names(&self) -> impl Iterator<Item = &ServiceName> {
        self.0.keys()
    }
}

fn row(line: &[u8]) -> Option<(ServiceName, Key)> {
    let space = line.iter().position(|byte| *byte == b' ')?;
    let name = std::str::from_utf8(&line[..space]).ok()?.parse().ok()?;
    let (pairs, rest) = line[space + 1..].as_chunks::<2>();
    if pairs.len() != KEY_LEN || !rest.is_empty() {
        return None;
    }
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut key = Key::zeros();
    for (place, [high, low]) in key.0.iter_mut().zip(pairs) {
        *place = digit(*high)? << 4 | digit(*low)?;
    }
    Some((name, key))
}
