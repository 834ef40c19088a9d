//! The files: one for each unit, put aside when it is full.

use octant_api::logs::{FILE_BYTES, OLDER, file};
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
    open: BTreeMap<String, (File, u64)>,
    /// Why the last write failed, where it did, and how many lines that cost.
    failed: Option<(String, u64)>,
}

impl Files {
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self { dir, open: BTreeMap::new(), failed: None }
    }

    /// One line for PID 1.
    pub(crate) fn health(&self) -> String {
        match &self.failed {
            None => "ok".to_owned(),
            Some((why, lost)) => format!("{why}; {lost} lines are lost"),
        }
    }

    /// Adds a line. A full disk must not stop anything: the line is counted as lost, and the next one tries again.
    pub(crate) fn write(&mut self, unit: &str, line: &[u8]) {
        if let Err(error) = self.append(unit, line) {
            self.open.remove(unit);
            let lost = self.failed.as_ref().map_or(0, |failed| failed.1) + 1;
            self.failed = Some((format!("{}: {error}", file(&self.dir, unit, 0).display()), lost));
        } else {
            self.failed = None;
        }
    }

    /// Sees whether a file can be made and written, where no line has shown it.
    pub(crate) fn probe(&mut self) {
        let path = self.dir.join(".probe");
        let made = open(&path).and_then(|mut file| file.write_all(b"probe\n"));
        let removed = fs::remove_file(&path);
        let lost = self.failed.as_ref().map_or(0, |failed| failed.1);
        let failed = made.and(removed).err();
        self.failed = failed.map(|error| (format!("{}: {error}", path.display()), lost));
    }

    fn append(&mut self, unit: &str, line: &[u8]) -> io::Result<()> {
        if self.open.len() >= UNITS_MAX && !self.open.contains_key(unit) {
            self.open.clear();
        }
        if self.open.get(unit).is_some_and(|(_, size)| *size >= FILE_BYTES) {
            self.open.remove(unit);
            self.put_aside(unit)?;
        }
        if !self.open.contains_key(unit) {
            let opened = match open(&file(&self.dir, unit, 0)) {
                // Of another user, as an earlier version made them.
                Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                    self.put_aside(unit)?;
                    open(&file(&self.dir, unit, 0))
                }
                opened => opened,
            }?;
            let size = opened.metadata()?.len();
            self.open.insert(unit.to_owned(), (opened, size));
        }
        if let Some((file, size)) = self.open.get_mut(unit) {
            file.write_all(line)?;
            *size += line.len() as u64;
        }
        Ok(())
    }

    /// Each file becomes one older, and the oldest is gone.
    fn put_aside(&self, unit: &str) -> io::Result<()> {
        for older in (0..OLDER).rev() {
            match fs::rename(file(&self.dir, unit, older), file(&self.dir, unit, older + 1)) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

fn open(path: &std::path::Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o640).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dir(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("octant-log-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        dir
    }

    #[test]
    fn files_are_bounded_in_size_and_number_and_the_newest_lines_are_kept() {
        let dir = dir("bound");
        let mut files = Files::new(dir.clone());
        let lines = FILE_BYTES * 6 / 1000;
        for number in 0..lines {
            files.write("web", format!("{number:0>999}\n").as_bytes());
        }
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1 + OLDER);
        let kept: Vec<String> = (0..=OLDER)
            .rev()
            .flat_map(|older| {
                let text = fs::read_to_string(file(&dir, "web", older)).unwrap();
                assert!(text.len() as u64 <= FILE_BYTES + 1000);
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
        let mut files = Files::new(dir.join("not-there"));
        files.write("web", b"one\n");
        files.write("web", b"two\n");
        assert!(
            files.health().contains("not-there/web.log") && files.health().ends_with("; 2 lines are lost")
        );
        files.probe();
        assert!(files.health().contains(".probe"), "{}", files.health());
        fs::create_dir(dir.join("not-there")).unwrap();
        files.write("web", b"three\n");
        assert_eq!(files.health(), "ok");
        files.probe();
        assert_eq!(files.health(), "ok");
        assert_eq!(fs::read_to_string(dir.join("not-there/web.log")).unwrap(), "three\n");
        assert_eq!(fs::read_dir(dir.join("not-there")).unwrap().count(), 1, "the probe leaves nothing");
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_restart_goes_on_with_the_file_that_is_there() {
        let dir = dir("restart");
        Files::new(dir.clone()).write("web", b"one\n");
        Files::new(dir.clone()).write("web", b"two\n");
        assert_eq!(fs::read_to_string(dir.join("web.log")).unwrap(), "one\ntwo\n");
        fs::remove_dir_all(dir).unwrap();
    }
}
