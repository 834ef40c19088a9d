//! Pictures: known by how a file begins, in a transcript by path and digest, and read again whenever the model is asked.

use crate::tools::files;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use octant_ids::Sha256;
use octant_llm::{Image, Part, Request};
use serde::{Deserialize, Serialize};
use sha2::Digest;
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The longest picture, in bytes: in base64 it is 5 MB, which is what providers take.
const BYTES_MAX: u64 = 3_750_000;
/// How many pixels it has on a side.
const SIDE_MAX: u32 = 8_000;
/// How many a model is shown with one question, and how many bytes of them: the last ones.
const SHOWN_MAX: usize = 8;
const SHOWN_BYTES_MAX: u64 = 12 << 20;
/// By how many bytes a kind is known.
const HEAD: usize = 12;

/// A picture in a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Picture {
    /// The file.
    pub path: PathBuf,
    /// The digest of what was in it.
    pub sha256: Sha256,
    /// `image/png` and others.
    pub media_type: String,
    /// How long it is, in bytes.
    pub bytes: u64,
    /// How wide, in pixels.
    pub width: u32,
    /// How high.
    pub height: u32,
}

impl fmt::Display for Picture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, media_type, bytes, width, height, .. } = self;
        write!(f, "{}: {media_type}, {width} x {height} pixels, {bytes} bytes", path.display())
    }
}

impl Picture {
    /// The picture in a file; none where it is none, an error where it is one that cannot be shown.
    pub(crate) fn of(path: &Path) -> Option<Result<Self, String>> {
        let mut file = files::open(path).ok()?;
        let mut bytes = Vec::new();
        file.by_ref().take(HEAD as u64).read_to_end(&mut bytes).ok()?;
        let media_type = media_type(&bytes)?;
        let refused = |why: String| Err(format!("{} is a picture ({media_type}) {why}", path.display()));
        let read = file.take(BYTES_MAX + 1 - bytes.len() as u64).read_to_end(&mut bytes);
        if let Err(error) = read {
            return Some(refused(format!("that cannot be read: {error}")));
        }
        let length = bytes.len() as u64;
        if length > BYTES_MAX {
            return Some(refused(format!("with more than {BYTES_MAX} bytes; make it smaller")));
        }
        Some(match size(media_type, &bytes) {
            None => refused("whose header does not say how large it is".to_owned()),
            Some((width, height)) if width.max(height) > SIDE_MAX || width.min(height) == 0 => {
                refused(format!("of {width} x {height} pixels; each side has 1 to {SIDE_MAX}"))
            }
            Some((width, height)) => Ok(Self {
                path: path.to_owned(),
                sha256: Sha256(sha2::Sha256::digest(&bytes).into()),
                media_type: media_type.to_owned(),
                bytes: length,
                width,
                height,
            }),
        })
    }

    /// What stands for it in a conversation. It leaves the machine in [`show`] alone, as what it is.
    pub(crate) fn mark(&self) -> Image {
        // A path that is no text has no JSON; such a mark is of no picture.
        Image::Url(serde_json::to_string(self).unwrap_or_default())
    }

    /// Its bytes, where they are what they were.
    fn read(&self) -> Result<Vec<u8>, &'static str> {
        let mut bytes = Vec::new();
        let file = files::open(&self.path).map_err(|_| "is not there any more")?;
        file.take(BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|_| "cannot be read any more")?;
        let same = <[u8; 32]>::from(sha2::Sha256::digest(&bytes)) == self.sha256.0;
        if same { Ok(bytes) } else { Err("is another one by now; read it again") }
    }
}

/// Puts the pictures of a question in the places of what stands for them, the last ones first.
pub(crate) fn show(request: &mut Request) {
    let parts = request.messages.iter_mut().rev().flat_map(|message| message.parts.iter_mut().rev());
    let (mut count, mut total) = (0, 0);
    for part in parts {
        let Part::ToolResult { parts, .. } = part else { continue };
        for part in parts.iter_mut().rev() {
            let Part::Image(Image::Url(mark)) = part else { continue };
            let Ok(picture) = serde_json::from_str::<Picture>(mark) else {
                *part = Part::Text("[a picture that cannot be shown]".to_owned());
                continue;
            };
            (count, total) = (count + 1, total + picture.bytes);
            let fits = count <= SHOWN_MAX && total <= SHOWN_BYTES_MAX;
            let read = if fits { picture.read() } else { Err("is left out: there are enough newer ones") };
            *part = match read {
                Ok(bytes) => Part::Image(Image::Bytes {
                    media_type: picture.media_type,
                    base64: STANDARD.encode(bytes),
                }),
                Err(why) => Part::Text(format!("[the picture {} {why}]", picture.path.display())),
            };
        }
    }
}

/// The kind of picture that begins like this.
fn media_type(head: &[u8]) -> Option<&'static str> {
    match head {
        [0x89, b'P', b'N', b'G', 0x0d, 0x0a, 0x1a, 0x0a, ..] => Some("image/png"),
        [0xff, 0xd8, 0xff, ..] => Some("image/jpeg"),
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Some("image/gif"),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some("image/webp"),
        _ => None,
    }
}

/// Width and height, as its header says.
fn size(media_type: &str, bytes: &[u8]) -> Option<(u32, u32)> {
    match media_type {
        "image/png" => Some((big(bytes, 16, 4)?, big(bytes, 20, 4)?)),
        "image/gif" => Some((little(bytes, 6, 2)?, little(bytes, 8, 2)?)),
        "image/webp" => webp(bytes),
        _ => jpeg(bytes),
    }
}

fn big(bytes: &[u8], at: usize, count: usize) -> Option<u32> {
    let field = bytes.get(at..at.checked_add(count)?)?;
    Some(field.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte)))
}

fn little(bytes: &[u8], at: usize, count: usize) -> Option<u32> {
    let field = bytes.get(at..at.checked_add(count)?)?;
    Some(field.iter().rev().fold(0, |sum, byte| sum << 8 | u32::from(*byte)))
}

/// WebP (RFC 9649): what its first chunk is of.
fn webp(bytes: &[u8]) -> Option<(u32, u32)> {
    match bytes.get(12..16)? {
        b"VP8X" => Some((little(bytes, 24, 3)? + 1, little(bytes, 27, 3)? + 1)),
        b"VP8L" => {
            let sides = little(bytes, 21, 4)?;
            Some(((sides & 0x3fff) + 1, (sides >> 14 & 0x3fff) + 1))
        }
        b"VP8 " => Some((little(bytes, 26, 2)? & 0x3fff, little(bytes, 28, 2)? & 0x3fff)),
        _ => None,
    }
}

/// JPEG (ITU T.81): the first frame's header, behind segments that say how long they are.
fn jpeg(bytes: &[u8]) -> Option<(u32, u32)> {
    let mut at = 2;
    while *bytes.get(at)? == 0xff {
        match *bytes.get(at + 1)? {
            // More of them may stand before a marker.
            0xff => at += 1,
            // Tables of codes and of arithmetic are none, though they lie between.
            0xc4 | 0xc8 | 0xcc => at += 2 + usize::try_from(big(bytes, at + 2, 2)?).ok()?,
            0xc0..=0xcf => return Some((big(bytes, at + 7, 2)?, big(bytes, at + 5, 2)?)),
            _ => at += 2 + usize::try_from(big(bytes, at + 2, 2)?).ok()?,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use octant_llm::{Message, Role};
    use proptest::prelude::{any, proptest};

    fn png(width: u32, height: u32) -> Vec<u8> {
        let mut bytes = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec();
        bytes.extend(width.to_be_bytes().into_iter().chain(height.to_be_bytes()));
        bytes
    }

    #[test]
    fn each_kind_says_how_large_it_is() {
        let jpeg = b"\xff\xd8\xff\xe0\0\x04ab\xff\xc4\0\x03x\xff\xff\xc2\0\x0b\x08\x00\x07\x01\x00\x03";
        let rows: [(&[u8], &str, (u32, u32)); 6] = [
            (&png(640, 480), "image/png", (640, 480)),
            (b"GIF89a\x80\x02\xe0\x01", "image/gif", (640, 480)),
            (jpeg, "image/jpeg", (256, 7)),
            (b"RIFF\0\0\0\0WEBPVP8X\0\0\0\0\0\0\0\0\x7f\x02\0\xdf\x01\0", "image/webp", (640, 480)),
            (b"RIFF\0\0\0\0WEBPVP8L\0\0\0\0\x2f\x7f\xc2\x77\0", "image/webp", (640, 480)),
            (b"RIFF\0\0\0\0WEBPVP8 \0\0\0\0\0\0\0\x9d\x01\x2a\x80\x02\xe0\x01", "image/webp", (640, 480)),
        ];
        for (bytes, kind, sides) in rows {
            assert_eq!((media_type(bytes), size(kind, bytes)), (Some(kind), Some(sides)), "{kind}");
            for end in 0..bytes.len() {
                size(kind, &bytes[..end]);
            }
        }
        assert_eq!(media_type(b"plain text"), None);
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_much(bytes in any::<Vec<u8>>()) {
            for kind in ["image/png", "image/jpeg", "image/gif", "image/webp"] {
                let begun = [&b"\xff\xd8"[..], &bytes].concat();
                size(kind, &bytes);
                size(kind, &begun);
            }
        }
    }

    #[test]
    fn a_model_is_shown_what_is_there_and_told_of_the_rest() {
        let root = std::env::temp_dir().join(format!("octant-picture-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&root);
        std::fs::create_dir_all(&root).unwrap();
        let at = |number: usize| root.join(format!("{number}.png"));
        let result = |number: usize| {
            std::fs::write(at(number), png(1, 1)).unwrap();
            let parts = vec![Part::Image(Picture::of(&at(number)).unwrap().unwrap().mark())];
            Part::ToolResult { id: number.to_string(), parts, failed: false }
        };
        let parts: Vec<Part> = (0..=SHOWN_MAX).map(result).collect();
        let mut request =
            Request { messages: vec![Message { role: Role::User, parts }], ..Request::default() };
        std::fs::remove_file(at(1)).unwrap();
        std::fs::write(at(2), png(2, 2)).unwrap();
        show(&mut request);
        let seen: Vec<String> = request.messages[0]
            .parts
            .iter()
            .map(|part| match part {
                Part::ToolResult { parts, .. } => match &parts[0] {
                    Part::Text(text) => text.clone(),
                    Part::Image(image) => image.as_url(),
                    other => panic!("{other:?}"),
                },
                other => panic!("{other:?}"),
            })
            .collect();
        assert!(seen[0].contains("enough newer ones") && seen[1].contains("not there any more"), "{seen:?}");
        assert!(seen[2].contains("another one by now") && seen[3].starts_with("data:image/png;base64,iVBOR"));
        for (bytes, wanted) in [(png(9_000, 1), "9000 x 1"), (png(1, 1)[..18].to_vec(), "header")] {
            std::fs::write(at(1), bytes).unwrap();
            assert!(Picture::of(&at(1)).unwrap().unwrap_err().contains(wanted));
        }
        std::fs::write(at(1), "text").unwrap();
        assert_eq!(Picture::of(&at(1)), None);
        std::fs::remove_dir_all(root).unwrap();
    }
}
