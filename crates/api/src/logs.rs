//! What units print, as it is kept: a line of JSON in a file of the unit's own, which is put aside when it is full.

use octant_ids::ByteSize;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The most bytes of a line's text; a longer line is cut into several.
pub const TEXT_MAX: usize = 1024;
/// The most bytes of a packet to the writer: JSON may need six bytes for one, and there is something around it.
pub const PACKET_MAX: usize = 8192;
/// The most bytes that a file of logs can be made to have: `octant logs` reads them whole.
pub const FILE_BYTES_MAX: u64 = 8 << 20;
/// The most older files that can be kept.
pub const OLDER_MAX: usize = 16;

/// `[log]` of octant.toml: how much is kept of what a unit prints, and how fast it may come. The writer keeps it, and PID 1
/// lets it through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// A unit's file is put aside when it has grown to this many bytes.
    pub file_bytes: ByteSize,
    /// So many older ones are kept.
    pub older: usize,
    /// So many lines may come at once,
    pub burst: u64,
    /// and so many each second from then on.
    pub per_second: u64,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { file_bytes: ByteSize(512 << 10), older: 3, burst: 300, per_second: 200 }
    }
}

impl LogConfig {
    /// Whether what it says is possible.
    ///
    /// # Errors
    /// The key, and why.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        const FILE_BYTES_MIN: u64 = 16 << 10;
        const LINES_MAX: u64 = 100_000;
        let older = u64::try_from(self.older).unwrap_or(u64::MAX);
        for (key, value, least, most) in [
            ("file_bytes", self.file_bytes.0, FILE_BYTES_MIN, FILE_BYTES_MAX),
            ("older", older, 1, OLDER_MAX as u64),
            ("burst", self.burst, 1, LINES_MAX),
            ("per_second", self.per_second, 1, LINES_MAX),
        ] {
            if !(least..=most).contains(&value) {
                return Err((key, format!("{key} {value} is not between {least} and {most}")));
            }
        }
        Ok(())
    }
}

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

    #[test]
    fn what_is_kept_and_let_through_has_bounds() {
        assert_eq!(LogConfig::default().check(), Ok(()));
        for (text, key) in [
            (r#"{"file_bytes": 100}"#, "file_bytes"),
            (r#"{"file_bytes": "1GiB"}"#, "file_bytes"),
            (r#"{"older": 0}"#, "older"),
            (r#"{"burst": 0}"#, "burst"),
            (r#"{"per_second": 1000000}"#, "per_second"),
        ] {
            let config: LogConfig = serde_json::from_str(text).unwrap();
            assert_eq!(config.check().unwrap_err().0, key, "{text}");
        }
        assert!(serde_json::from_str::<LogConfig>(r#"{"rate": 1}"#).is_err());
    }
}
