//! What units print, as it is kept: a line of JSON in a file of the unit's own, which is put aside when it is full.

use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The most bytes of a line's text; a longer line is cut into several.
pub const TEXT_MAX: usize = 1024;
/// The most bytes of a packet to the writer: JSON may need six bytes for one, and there is something around it.
pub const PACKET_MAX: usize = 8192;
/// A file is put aside when it has grown to this many bytes.
pub const FILE_BYTES: u64 = 512 << 10;
/// So many older ones are kept.
pub const OLDER: usize = 3;

/// Where a line comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    /// The unit's standard output.
    Out,
    /// Its standard error.
    Err,
    /// PID 1, about lines of this unit that are not there.
    Log,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// When it was read, milliseconds since 1970.
    pub ms: u64,
    /// The unit.
    pub unit: String,
    /// The unit's main process of then; 0 where it had none.
    pub pid: u32,
    /// Where it comes from.
    pub stream: Stream,
    /// What it says.
    pub text: String,
}

impl Line {
    /// The packet to the writer: the unit's name, and what stands in its file.
    ///
    /// # Errors
    /// None that these types can cause.
    pub fn packet(&self) -> serde_json::Result<Vec<u8>> {
        let mut packet = format!("{}\n", self.unit).into_bytes();
        serde_json::to_writer(&mut packet, self)?;
        packet.push(b'\n');
        Ok(packet)
    }
}

/// The unit's name and the line, from a packet; none for what is no packet.
#[must_use]
pub fn open_packet(packet: &[u8]) -> Option<(&str, &[u8])> {
    let at = packet.iter().position(|byte| *byte == b'\n')?;
    let unit = std::str::from_utf8(&packet[..at]).ok()?;
    let line = &packet[at + 1..];
    (line.len() > 1 && line.ends_with(b"\n")).then_some((unit, line))
}

/// A unit's file, the newest for 0.
#[must_use]
pub fn file(dir: &Path, unit: &str, older: usize) -> PathBuf {
    match older {
        0 => dir.join(format!("{unit}.log")),
        number => dir.join(format!("{unit}.log.{number}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_control_characters_fits_and_comes_back() {
        let text = "\u{1b}".repeat(TEXT_MAX);
        let line = Line { ms: 1, unit: "a".repeat(32), pid: u32::MAX, stream: Stream::Err, text };
        let packet = line.packet().unwrap();
        assert!(packet.len() <= PACKET_MAX);
        let (unit, kept) = open_packet(&packet).unwrap();
        assert_eq!(unit, line.unit);
        assert_eq!(kept.iter().filter(|byte| **byte == b'\n').count(), 1, "one line, whatever is in it");
        assert_eq!(serde_json::from_slice::<Line>(kept).unwrap(), line);
    }

    #[test]
    fn what_is_no_packet_is_none() {
        for bad in [&b""[..], b"unit", b"unit\n", b"unit\n\n", b"unit\n{}", b"\xff\n{}\n"] {
            assert_eq!(open_packet(bad), None, "{bad:?}");
        }
    }
}
