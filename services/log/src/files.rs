//! The files: one for each unit, put aside when it is full.

use octant_api::logs::{Line, LogConfig, OLDER_MAX, Stream, file, open_packet};
use octant_sys::clock;
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

/// More units than a configuration can have.
const UNITS_MAX: usize = 256;

/// The files that are open.
#[derive(Debug)]
pub(crate) struct Files {
    dir: PathBuf,
    config: LogConfig,
    open: BTreeMap<String, (File, u64)>,
    /// Why nothing can be written, where a probe has shown it.
    closed: Option<String>,
    /// The units whose last line could not be written.
    failed: BTreeMap<String, Failed>,
}

#[derive(Debug)]
struct Failed {
    why: String,
    /// How many lines that has cost.
    lost: u64,
    /// Whether the file ends within a line.
    torn: bool,
}

impl Files {
    pub(crate) fn new(dir: PathBuf, config: LogConfig) -> Self {
        Self { dir, config, open: BTreeMap::new(), closed: None, failed: BTreeMap::new() }
    }

    /// One line for PID 1. How many lines are lost is not in it: each other text is a record.
    pub(crate) fn health(&self) -> String {
        let first = self.failed.values().next().map(|failed| &failed.why);
        match (first.or(self.closed.as_ref()), self.failed.len()) {
            (None, _) => "ok".to_owned(),
            (Some(why), 0 | 1) => format!("{why}; lines are lost"),
            (Some(why), units) => format!("{why}; lines of {units} units are lost"),
        }
    }

    /// Adds a line. A full disk must not stop anything: the line is counted as lost, and the next one tries again. The first
    /// that is written after that says how many are not there.
    pub(crate) fn write(&mut self, unit: &str, line: &[u8]) {
        let before = self.failed.remove(unit);
        let told = before.as_ref().map_or(Ok(()), |failed| self.append(unit, &missing(unit, failed)));
        let Err((error, torn)) = told.and_then(|()| self.append(unit, line)) else { return };
        let size = self.open.remove(unit);
        let (lost, torn_before) = before.map_or((0, false), |failed| (failed.lost, failed.torn));
        let why = format!("{}: {error}", file(&self.dir, unit, 0).display());
        if self.failed.len() < UNITS_MAX {
            let torn = torn || (torn_before && size.is_some());
            self.failed.insert(unit.to_owned(), Failed { why, lost: lost + 1, torn });
        }
    }

    /// Sees whether a file can be made and written, where no line has shown it.
    pub(crate) fn probe(&mut self) {
        let path = self.dir.join(".probe");
        let made = open(&path).and_then(|mut file| file.write_all(b"probe\n"));
        let removed = fs::remove_file(&path);
        self.closed = made.and(removed).err().map(|error| format!("{}: {error}", path.display()));
    }

    /// Why it failed, and whether a part of the line is in the file.
    fn append(&mut self, unit: &str, line: &[u8]) -> Result<(), (io::Error, bool)> {
        let whole = |error| (error, false);
        if self.open.len() >= UNITS_MAX && !self.open.contains_key(unit) {
            self.open.clear();
        }
        if self.open.get(unit).is_some_and(|(_, size)| *size >= self.config.file_bytes.0) {
            self.open.remove(unit);
            self.put_aside(unit).map_err(whole)?;
        }
        if !self.open.contains_key(unit) {
            let opened = match open(&file(&self.dir, unit, 0)) {
                // Of another user, as an earlier version made them.
                Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                    self.put_aside(unit).map_err(whole)?;
                    open(&file(&self.dir, unit, 0))
                }
                opened => opened,
            };
            let opened = opened.map_err(whole)?;
            let size = opened.metadata().map_err(whole)?.len();
            self.open.insert(unit.to_owned(), (opened, size));
        }
        if let Some((file, size)) = self.open.get_mut(unit) {
            let part = file.write(line).map_err(whole)?;
            *size += part as u64;
            if part < line.len() {
                return Err((ErrorKind::StorageFull.into(), part > 0));
            }
        }
        Ok(())
    }

    /// Each file becomes one older, and the oldest is gone; so is what is left of a time when more were kept.
    fn put_aside(&self, unit: &str) -> io::Result<()> {
        let done = |tried: io::Result<()>| match tried {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
        for older in (0..self.config.older).rev() {
            done(fs::rename(file(&self.dir, unit, older), file(&self.dir, unit, older + 1)))?;
        }
        (self.config.older + 1..=OLDER_MAX)
            .try_for_each(|older| done(fs::remove_file(file(&self.dir, unit, older))))
    }
}

/// What is said in the place of lines that could not be written.
fn missing(unit: &str, failed: &Failed) -> Vec<u8> {
    let Failed { why, lost, torn } = failed;
    let text = format!("{lost} lines are lost: {why}");
    let line = Line { ms: clock::wall_ms(), unit: unit.to_owned(), pid: 0, stream: Stream::Log, text };
    let packet = line.packet().unwrap_or_default();
    let line = open_packet(&packet).map_or(&[][..], |(_, line)| line);
    [if *torn { &b"\n"[..] } else { b"" }, line].concat()
}

fn open(path: &std::path::Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o640).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use octant_ids::ByteSize;

    fn dir(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("octant-log-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        dir
    }

    #[test]
    fn files_are_bounded_in_size_and_number_and_the_newest_lines_are_kept() {
        let dir = dir("bound");
        let config = LogConfig { file_bytes: ByteSize(64 << 10), older: 2, ..LogConfig::default() };
        fs::write(file(&dir, "web", 5), "of a time when more were kept\n").unwrap();
        let mut files = Files::new(dir.clone(), config);
        let lines = config.file_bytes.0 * 6 / 1000;
        for number in 0..lines {
            files.write("web", format!("{number:0>999}\n").as_bytes());
        }
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1 + config.older);
        let kept: Vec<String> = (0..=config.older)
            .rev()
            .flat_map(|older| {
                let text = fs::read_to_string(file(&dir, "web", older)).unwrap();
                assert!(text.len() as u64 <= config.file_bytes.0 + 1000);
                text.lines().map(str::to_owned).collect::<Vec<_>>()
            })
            .collect();
        let numbers: Vec<u64> = kept.iter().map(|line| line.parse().unwrap()).collect();
        assert_eq!(numbers.last(), Some(&(lines - 1)));
        assert!(
            numbers.windows(2).all(|pair| pair[1] == pair[0] + 1),
            "none between the oldest and the newest is gone"
        );
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn what_cannot_be_written_is_counted_and_the_next_line_tries_again() {
        let dir = dir("failing");
        let mut files = Files::new(dir.join("not-there"), LogConfig::default());
        files.write("web", b"one\n");
        files.write("web", b"two\n");
        let health = files.health();
        assert!(health.contains("not-there/web.log") && health.ends_with("; lines are lost"), "{health}");
        files.write("other", b"one\n");
        assert!(files.health().ends_with("; lines of 2 units are lost"), "{}", files.health());
        files.probe();
        fs::create_dir(dir.join("not-there")).unwrap();
        files.probe();
        files.write("other", b"two\n");
        assert_eq!(files.health(), health, "one that works says nothing of another");
        files.write("web", b"three\n");
        assert_eq!(files.health(), "ok");
        fs::remove_file(dir.join("not-there/other.log")).unwrap();
        let text = fs::read_to_string(dir.join("not-there/web.log")).unwrap();
        let (first, rest) = text.split_once('\n').unwrap();
        assert!(first.contains("\"text\":\"2 lines are lost: ") && first.contains("\"log\""), "{first}");
        assert_eq!(rest, "three\n");
        assert_eq!(fs::read_dir(dir.join("not-there")).unwrap().count(), 1, "the probe leaves nothing");
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_restart_goes_on_with_the_file_that_is_there() {
        let dir = dir("restart");
        Files::new(dir.clone(), LogConfig::default()).write("web", b"one\n");
        Files::new(dir.clone(), LogConfig::default()).write("web", b"two\n");
        assert_eq!(fs::read_to_string(dir.join("web.log")).unwrap(), "one\ntwo\n");
        fs::remove_dir_all(dir).unwrap();
    }
}
