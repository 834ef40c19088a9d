//! The vault's file: a header that anybody can read, and frames that only the data key opens. Pure.
//!
//! docs/vault.md has the form for other programs. Every byte is covered: the header by a MAC under the data key, each
//! frame's own header by a checksum (so that a file that was cut short is told from one that was changed) and by its
//! seal, each frame's place by the 16 bytes before it, and the end by the epoch, which the ledger has too.

use crate::hex::Hex;
use crate::slots::Slot;
use octant_crypto::CryptoError;
use octant_crypto::aead::same;
use octant_crypto::aead::{self, SALT_LEN, TAG_LEN};
use octant_crypto::memory::Key;
use octant_ids::Sha256;
use serde::{Deserialize, Serialize};
use std::io;

/// The first bytes of the file; the digit is the version of the form.
pub(crate) const MAGIC: &[u8; 8] = b"OCTVLT1\n";
/// The longest header.
pub(crate) const HEADER_MAX: usize = 256 << 10;
/// The longest content of a frame; what has more stands in several.
pub(crate) const FRAME_MAX: usize = 4 << 20;
/// The largest file that is read: every secret that fits stays in memory, sealed.
pub(crate) const FILE_MAX: u64 = 1 << 30;

/// Numbers that only grow have room to grow in every file that is accepted.
const NUMBER_MAX: u64 = 1 << 62;
const NEXT_SLOT_MAX: u64 = 1 << 31;
/// What is mixed into the key of every frame.
const FRAME: &[u8] = b"octant vault 1 frame";
const MAC_LEN: usize = 32;
const LINK_LEN: usize = 16;
/// Length u32, epoch u64, CRC-32C of both u32.
const FRAME_HEAD: usize = 16;

/// What stands at the beginning.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Header {
    /// The vault's identifier.
    pub(crate) vault: Hex<16>,
    /// Which data key this is: 1, 2, 3, ...
    pub(crate) key: u64,
    /// The epoch of the file's first frames.
    pub(crate) epoch: u64,
    /// How many frames have that epoch: a file that has fewer was cut.
    pub(crate) frames: u32,
    /// When the vault was made, in milliseconds since 1970.
    pub(crate) created_ms: u64,
    /// The machine's public key.
    pub(crate) machine: Sha256,
    /// The number of the next slot.
    pub(crate) next_slot: u32,
    /// Every way to the data key.
    pub(crate) slots: Vec<Slot>,
}

/// Why bytes are not a vault that can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FormatError {
    /// It begins with something else.
    #[error("it does not begin as a vault does; it is another file")]
    Magic,
    /// It is of a later form.
    #[error(
        "it is a vault of form {0}, and this program reads form 1; use the version of Octant that wrote it"
    )]
    Version(char),
    /// The header cannot be read.
    #[error("its header cannot be read: {0}")]
    Header(String),
    /// The header is not the one that was written under this data key.
    #[error("its header was changed: the MAC under the data key differs")]
    HeaderMac,
    /// A frame is not what was written.
    #[error("it was changed at offset {offset}: {what}")]
    Frame {
        /// Where.
        offset: usize,
        /// What is wrong there.
        what: &'static str,
    },
    /// There are fewer frames than the header says.
    #[error("it was cut: {have} of {want} frames of epoch {epoch} are there")]
    Cut {
        /// How many there are.
        have: u32,
        /// How many the header says.
        want: u32,
        /// Of which epoch.
        epoch: u64,
    },
    /// There is no memory for a key.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
    /// The operating system does not give the bytes; nothing is said of what they are.
    #[error("it cannot be read: {0}")]
    Read(io::ErrorKind),
}

/// What a parser says of bytes that anybody may have written: not all that it repeats of them, and nothing that controls a
/// terminal.
pub(crate) fn told(error: &serde_json::Error) -> String {
    error.to_string().chars().map(|c| if c.is_control() { '?' } else { c }).take(200).collect()
}

/// Reads the header, which nothing vouches for until [`Header::check`].
///
/// # Errors
/// [`FormatError`].
pub(crate) fn read_header(bytes: &[u8]) -> Result<(Header, HeaderEnd), FormatError> {
    let rest = bytes.strip_prefix(MAGIC).ok_or_else(|| match bytes.get(..7).zip(bytes.get(6)) {
        Some((start, digit)) if start[..6] == MAGIC[..6] && digit.is_ascii_digit() && *digit != MAGIC[6] => {
            FormatError::Version(char::from(*digit))
        }
        _ => FormatError::Magic,
    })?;
    let cut = || FormatError::Header("the file ends within it".to_owned());
    let (len, rest) = rest.split_first_chunk::<4>().ok_or_else(cut)?;
    let len = u32::from_be_bytes(*len) as usize;
    if len > HEADER_MAX {
        return Err(FormatError::Header(format!("it has {len} bytes, more than {HEADER_MAX}")));
    }
    let text = rest.get(..len).ok_or_else(cut)?;
    let mac = rest.get(len..len + MAC_LEN).ok_or_else(cut)?;
    let header = Header::parse(text)?;
    let text_end = MAGIC.len() + 4 + len;
    let mut kept = [0; MAC_LEN];
    kept.copy_from_slice(mac);
    Ok((header, HeaderEnd { text: text.into(), offset: text_end + MAC_LEN, mac: kept }))
}

/// A header's text as it stands in the file, where the first frame is, and the MAC before that.
#[derive(Debug, Clone)]
pub(crate) struct HeaderEnd {
    text: Box<[u8]>,
    offset: usize,
    mac: [u8; MAC_LEN],
}

impl Header {
    fn parse(text: &[u8]) -> Result<Self, FormatError> {
        let header: Self = serde_json::from_slice(text).map_err(|error| FormatError::Header(told(&error)))?;
        header.check_limits()?;
        Ok(header)
    }

    /// Whether everything in it is within its limits. What cannot be read is not written either.
    fn check_limits(&self) -> Result<(), FormatError> {
        let numbers = [
            ("epoch", self.epoch, NUMBER_MAX),
            ("key", self.key, NUMBER_MAX),
            ("next_slot", self.next_slot.into(), NEXT_SLOT_MAX),
        ];
        if let Some((name, number, _)) = numbers.into_iter().find(|(_, number, most)| number > most) {
            return Err(FormatError::Header(format!("its {name} is {number}, which no vault comes to")));
        }
        crate::slots::check(self).map_err(FormatError::Header)
    }

    fn mac(&self, key: &Key, text: &[u8]) -> Result<[u8; MAC_LEN], CryptoError> {
        let own = aead::subkey(key, &self.vault.0, &[b"octant vault 1 header"])?;
        Ok(aead::mac(&own, &[MAGIC, text]))
    }

    /// Whether it is what was written under this data key.
    pub(crate) fn check(&self, key: &Key, end: &HeaderEnd) -> Result<(), FormatError> {
        if same(&self.mac(key, &end.text)?, &end.mac) { Ok(()) } else { Err(FormatError::HeaderMac) }
    }

    fn write(&self, key: &Key) -> Result<Vec<u8>, FormatError> {
        self.check_limits()?;
        let text = serde_json::to_vec(self).map_err(|error| FormatError::Header(error.to_string()))?;
        self.write_text(key, &text)
    }

    fn write_text(&self, key: &Key, text: &[u8]) -> Result<Vec<u8>, FormatError> {
        let len = u32::try_from(text.len()).ok().filter(|_| text.len() <= HEADER_MAX);
        let len = len.ok_or_else(|| FormatError::Header(format!("it has {} bytes", text.len())))?;
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&len.to_be_bytes());
        out.extend_from_slice(text);
        out.extend_from_slice(&self.mac(key, text)?);
        Ok(out)
    }

    /// What is mixed into the key of every frame and value.
    fn info<'a>(&'a self, what: &'a [u8], number: &'a [u8; 8]) -> [&'a [u8]; 3] {
        [what, &self.vault.0, number]
    }
}

/// A file that was read and opened.
#[derive(Debug)]
pub(crate) struct Opened {
    /// How many frames there are.
    pub(crate) frames: u32,
    /// The last epoch.
    pub(crate) epoch: u64,
    /// How long the file was when it was written anew.
    pub(crate) base: u64,
    /// Where the next frame goes, and the bytes before it.
    pub(crate) end: End,
    /// How many bytes after that are the beginning of a frame whose writing never came to its end, so that nobody was
    /// told of it.
    pub(crate) torn: usize,
}

/// Where the next frame goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct End {
    /// The offset.
    pub(crate) offset: u64,
    link: [u8; LINK_LEN],
}

/// The bytes of a file, wherever they are.
pub(crate) trait Bytes {
    /// How many there are.
    fn len(&self) -> usize;
    /// Fills `out` with those from `at` on.
    fn read(&self, at: usize, out: &mut [u8]) -> io::Result<()>;
}

impl Bytes for Vec<u8> {
    fn len(&self) -> usize {
        self.len()
    }

    fn read(&self, at: usize, out: &mut [u8]) -> io::Result<()> {
        let end = at.checked_add(out.len());
        let bytes = end.and_then(|end| self.get(at..end)).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(bytes);
        Ok(())
    }
}

/// Opens everything behind the header. Each frame's content is given away and then forgotten: together they are as large as
/// the file.
pub(crate) fn read_frames(
    header: &Header,
    file: &dyn Bytes,
    end: &HeaderEnd,
    key: &Key,
    each: &mut dyn FnMut(&[u8]) -> Result<(), FormatError>,
) -> Result<Opened, FormatError> {
    header.check(key, end)?;
    let mut opened = Opened {
        frames: 0,
        epoch: header.epoch,
        base: end.offset as u64,
        end: End { offset: end.offset as u64, link: link(&end.mac) },
        torn: 0,
    };
    let (mut sealed, mut content) = (Vec::new(), Vec::new());
    let mut at = end.offset;
    while at < file.len() {
        let expected = if opened.frames < header.frames { header.epoch } else { opened.epoch + 1 };
        let Some(len) = read_sealed(file, at, expected, &mut sealed)? else {
            opened.torn = file.len() - at;
            break;
        };
        content.resize(len - TAG_LEN, 0);
        open_frame(header, key, (expected, opened.end.link), &sealed, &mut content)
            .map_err(|_| FormatError::Frame { offset: at, what: "a frame does not open" })?;
        each(&content)?;
        at += FRAME_HEAD + sealed.len();
        opened.epoch = expected;
        opened.end = End { offset: at as u64, link: link(&sealed) };
        opened.frames = opened.frames.saturating_add(1);
        if opened.frames <= header.frames {
            opened.base = at as u64;
        }
    }
    if opened.frames < header.frames {
        return Err(FormatError::Cut { have: opened.frames, want: header.frames, epoch: header.epoch });
    }
    Ok(opened)
}

/// Reads a frame's salt and sealed content into `out`, and gives the length of the latter; none where the file ends before
/// the frame does.
fn read_sealed(
    file: &dyn Bytes,
    at: usize,
    expected: u64,
    out: &mut Vec<u8>,
) -> Result<Option<usize>, FormatError> {
    let read = |at, out: &mut [u8]| file.read(at, out).map_err(|error| FormatError::Read(error.kind()));
    let wrong = |what| Err(FormatError::Frame { offset: at, what });
    let body = at + FRAME_HEAD;
    if body > file.len() {
        return Ok(None);
    }
    let mut head = [0; FRAME_HEAD];
    read(at, &mut head)?;
    // There was never anything but room for a frame.
    if head == [0; FRAME_HEAD] && only_zeros(file, body)? {
        return Ok(None);
    }
    let Some((len, epoch)) = Head::read(&head) else {
        return wrong("the checksum of a frame's head differs");
    };
    if epoch != expected {
        return wrong("a frame is missing, or there twice");
    }
    if body + SALT_LEN + len > file.len() {
        return Ok(None);
    }
    out.resize(SALT_LEN + len, 0);
    read(body, out)?;
    Ok(Some(len))
}

/// Whether a file has nothing but zeros from here on.
fn only_zeros(file: &dyn Bytes, mut at: usize) -> Result<bool, FormatError> {
    let mut piece = vec![0; 64 << 10];
    while at < file.len() {
        let len = piece.len().min(file.len() - at);
        file.read(at, &mut piece[..len]).map_err(|error| FormatError::Read(error.kind()))?;
        if piece[..len].iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
        at += len;
    }
    Ok(true)
}

/// Opens a frame of this epoch behind these bytes: its salt and sealed content.
fn open_frame(
    header: &Header,
    key: &Key,
    (epoch, link): (u64, [u8; LINK_LEN]),
    sealed: &[u8],
    content: &mut [u8],
) -> Result<(), aead::OpenError> {
    let (salt, sealed) = sealed.split_first_chunk::<SALT_LEN>().ok_or(aead::OpenError)?;
    let number = epoch.to_be_bytes();
    let aad: [&[u8]; 2] = [&link, &header.key.to_be_bytes()];
    aead::open(key, salt, &header.info(FRAME, &number), &aad, sealed, content)
}

/// The last bytes, which the next frame is bound to.
fn link(bytes: &[u8]) -> [u8; LINK_LEN] {
    bytes.last_chunk::<LINK_LEN>().copied().unwrap_or_default()
}

/// A frame's head: how long its sealed content is, and its epoch.
struct Head;

impl Head {
    /// None where the checksum differs, or no frame is so long.
    fn read(head: &[u8; FRAME_HEAD]) -> Option<(usize, u64)> {
        let (covered, crc) = head.split_at(12);
        let len = covered.first_chunk().map(|four| u32::from_be_bytes(*four) as usize)?;
        let epoch = covered.last_chunk().map(|eight| u64::from_be_bytes(*eight))?;
        let good =
            crc == crc32c::crc32c(covered).to_be_bytes() && (TAG_LEN..=FRAME_MAX + TAG_LEN).contains(&len);
        good.then_some((len, epoch))
    }

    fn write(len: u32, epoch: u64) -> [u8; FRAME_HEAD] {
        let mut head = [0; FRAME_HEAD];
        head[..4].copy_from_slice(&len.to_be_bytes());
        head[4..12].copy_from_slice(&epoch.to_be_bytes());
        let crc = crc32c::crc32c(&head[..12]);
        head[12..].copy_from_slice(&crc.to_be_bytes());
        head
    }
}

/// The bytes of one frame behind `end`, and where the next one goes.
pub(crate) fn frame(
    header: &Header,
    key: &Key,
    end: End,
    epoch: u64,
    content: &[u8],
) -> Result<(Vec<u8>, End), FormatError> {
    let salt = octant_crypto::random::<SALT_LEN>()?;
    let number = epoch.to_be_bytes();
    let aad: [&[u8]; 2] = [&end.link, &header.key.to_be_bytes()];
    let sealed = aead::seal(key, &salt, &header.info(FRAME, &number), &aad, content);
    let len = u32::try_from(sealed.len()).ok().filter(|_| content.len() <= FRAME_MAX);
    let len = len.ok_or_else(|| FormatError::Header(format!("a frame has {} bytes", content.len())))?;
    let mut out = Head::write(len, epoch).to_vec();
    out.extend_from_slice(&salt);
    out.extend_from_slice(&sealed);
    let offset = end.offset + out.len() as u64;
    Ok((out, End { offset, link: link(&sealed) }))
}

/// A whole file: the header, whose count of frames is set here, and these frames under its epoch.
pub(crate) fn file(
    header: &mut Header,
    key: &Key,
    contents: &[Vec<u8>],
) -> Result<(Vec<u8>, End), FormatError> {
    header.frames =
        u32::try_from(contents.len()).map_err(|_| FormatError::Header("too many frames".to_owned()))?;
    let mut out = header.write(key)?;
    // What cannot be read back is not written in the place of something that can.
    let (again, at) = read_header(&out)?;
    if again != *header {
        return Err(FormatError::Header("it would read as another one".to_owned()));
    }
    again.check(key, &at)?;
    let mut end = end_of(&out);
    for content in contents {
        let (bytes, next) = frame(header, key, end, header.epoch, content)?;
        out.extend_from_slice(&bytes);
        end = next;
    }
    Ok((out, end))
}

/// What a frame says, one thing after the other: the length of a text, the text, the length of a sealed value, the value.
#[derive(Debug, Default)]
pub(crate) struct Content(Vec<u8>);

impl Content {
    /// Adds one thing.
    pub(crate) fn push(&mut self, text: &[u8], value: &[u8]) {
        for part in [text, value] {
            // Texts and values have limits far below.
            let len = u32::try_from(part.len()).unwrap_or(u32::MAX);
            self.0.extend_from_slice(&len.to_be_bytes());
            self.0.extend_from_slice(part);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

/// A text and the sealed value beside it.
pub(crate) type Thing<'a> = (&'a [u8], &'a [u8]);

/// The things in a frame's content, one after the other; the last says when it ends within one.
pub(crate) fn things(content: &[u8]) -> impl Iterator<Item = Result<Thing<'_>, &'static str>> {
    let mut parts = parts(content);
    std::iter::from_fn(move || {
        let thing = parts.next()?.and_then(|text| {
            let value = parts.next().ok_or("a frame ends within a thing")??;
            Ok((text, value))
        });
        Some(thing)
    })
}

/// Parts, each behind its length; the last says when it ends within one.
pub(crate) fn parts(mut content: &[u8]) -> impl Iterator<Item = Result<&[u8], &'static str>> {
    std::iter::from_fn(move || {
        if content.is_empty() {
            return None;
        }
        let part = split_part(content);
        content = part.map_or(&[], |(_, rest)| rest);
        Some(part.map(|(part, _)| part))
    })
}

fn split_part(content: &[u8]) -> Result<(&[u8], &[u8]), &'static str> {
    let (len, rest) = content.split_first_chunk::<4>().ok_or("a frame ends within a length")?;
    rest.split_at_checked(u32::from_be_bytes(*len) as usize).ok_or("a frame ends within a part")
}

/// A header's text under its MAC, for [`crate::fuzz_vault`].
pub(crate) fn sealed_header(text: &[u8], key: &Key) -> Result<(Header, Vec<u8>), FormatError> {
    let header = Header::parse(text)?;
    let bytes = header.write_text(key, text)?;
    Ok((header, bytes))
}

/// Where a frame behind these bytes goes.
pub(crate) fn end_of(bytes: &[u8]) -> End {
    End { offset: bytes.len() as u64, link: link(bytes) }
}
