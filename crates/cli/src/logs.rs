//! `octant logs`: what units and agents wrote.
//!
//! A unit's lines are read from its files, so that they can be read when nothing runs any more; what an agent wrote is
//! asked of the service that keeps it.

use crate::args::Logs;
use crate::error::CliError;
use crate::out::{Out, cut, revealed, utc};
use crate::{agents, service::Service};
use octant_api::logs::{FILE_BYTES_MAX, Line, OLDER_MAX, Stream, file};
use octant_ids::{Aid, Exit, Layout, ServiceName};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

/// Between two looks for what is new.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// More than a file of logs has.
const FILE_MAX: u64 = 2 * FILE_BYTES_MAX;

/// The command.
pub(crate) fn run(asked: &Logs, layout: &Layout, out: &mut Out) -> Result<(), CliError> {
    let units = units(&layout.log)?;
    let chosen = match &asked.name {
        None => None,
        Some(name) if units.contains(name) => Some(name.as_str()),
        Some(name) => return of_agent(asked, name, layout, out),
    };
    let mut source =
        Source { dir: layout.log.clone(), chosen: chosen.map(str::to_owned), at: BTreeMap::new() };
    let mut lines = source.more()?;
    if let Some(since) = &asked.since {
        let since_ms = since.wall_ms();
        lines.retain(|line| line.ms >= since_ms);
    }
    // Everything since then, unless it was said how much of it.
    let most = asked.lines.unwrap_or(if asked.since.is_some() { usize::MAX } else { 50 });
    let skipped = lines.len().saturating_sub(most);
    print(&lines[skipped..], out)?;
    if !asked.follow {
        return Ok(());
    }
    loop {
        out.flush()?;
        thread::sleep(LOOK_AGAIN);
        print(&source.more()?, out)?;
    }
}

/// An agent's output, which has no times.
fn of_agent(asked: &Logs, name: &str, layout: &Layout, out: &mut Out) -> Result<(), CliError> {
    if name.parse::<Aid>().is_err()
        && name.parse::<ServiceName>().is_ok()
        && !layout.socket("agents").exists()
    {
        return Err(CliError::NotFound(format!("unit {name}, of which there would be a log")));
    }
    if asked.since.is_some() {
        return Err(CliError::Refused {
            what: format!("cannot show what {name} wrote since then"),
            why: "what an agent wrote is kept in its order, without times".into(),
            exit: Exit::Usage,
            next: Some("leave out --since; -n shows its last lines".into()),
        });
    }
    match agents::tail(&Service::of(layout, "agents"), name, asked.follow, asked.lines, out) {
        Err(CliError::NotFound(_)) => {
            Err(CliError::NotFound(format!("log of a unit {name:?}, and no such agent")))
        }
        done => done,
    }
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> CliError {
    let path = path.to_owned();
    move |source| CliError::Read { path, source }
}

/// The units of which there are files.
fn units(dir: &Path) -> Result<Vec<String>, CliError> {
    let mut units = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed(dir))? {
        let name = entry.map_err(failed(dir))?.file_name();
        let unit = name.to_str().and_then(|name| name.strip_suffix(".log"));
        units.extend(unit.filter(|unit| unit.parse::<ServiceName>().is_ok()).map(str::to_owned));
    }
    units.sort_unstable();
    Ok(units)
}

/// How far a unit's files have been read: the file, by its number in the file system, and the place in it.
#[derive(Debug)]
struct Place {
    inode: u64,
    offset: u64,
    /// Open, so that no other file gets its number.
    _file: File,
}

/// The files of one unit or of all.
#[derive(Debug)]
struct Source {
    dir: PathBuf,
    chosen: Option<String>,
    at: BTreeMap<String, Place>,
}

impl Source {
    /// What has come since the last time, in the order of time.
    fn more(&mut self) -> Result<Vec<Line>, CliError> {
        let units = match &self.chosen {
            Some(unit) => vec![unit.clone()],
            // A unit may have been added.
            None => units(&self.dir)?,
        };
        let mut lines = Vec::new();
        for unit in units {
            let (more, at) = read_unit(&self.dir, &unit, self.at.get(&unit))?;
            lines.extend(more);
            self.at.extend(at.map(|at| (unit, at)));
        }
        // The lines of one unit keep their order.
        lines.sort_by_key(|line| line.ms);
        Ok(lines)
    }
}

/// What a unit's files have behind a place, across the files that were put aside since then; none for the new place where
/// there is no file.
fn read_unit(dir: &Path, unit: &str, at: Option<&Place>) -> Result<(Vec<Line>, Option<Place>), CliError> {
    let mut files: Vec<(u64, File)> = Vec::new();
    // The newest first: a file that is put aside in between is then met twice rather than never.
    for older in 0..=OLDER_MAX {
        let path = file(dir, unit, older);
        let opened = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            opened => opened.map_err(failed(&path))?,
        };
        let inode = opened.metadata().map_err(failed(&path))?.ino();
        if files.iter().all(|(known, _)| *known != inode) {
            files.push((inode, opened));
        }
    }
    files.reverse();
    let first = at.and_then(|at| files.iter().position(|(inode, _)| *inode == at.inode));
    let mut lines = Vec::new();
    if at.is_some() && first.is_none() && !files.is_empty() {
        lines.push(remark(unit, "lines are missing here: they were gone before they could be read"));
    }
    let mut place = None;
    for (inode, mut file) in files.drain(first.unwrap_or(0)..) {
        let offset = at.filter(|at| at.inode == inode).map_or(0, |at| at.offset);
        let (more, offset) = read_file(&mut file, unit, offset).map_err(failed(&dir.join(unit)))?;
        lines.extend(more);
        place = Some(Place { inode, offset, _file: file });
    }
    Ok((lines, place))
}

/// The whole lines behind an offset, and where they end.
fn read_file(file: &mut File, unit: &str, offset: u64) -> io::Result<(Vec<Line>, u64)> {
    file.seek(SeekFrom::Start(offset))?;
    let mut bytes = Vec::new();
    file.take(FILE_MAX).read_to_end(&mut bytes)?;
    // The rest of a line is going to come.
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let lines = bytes[..whole].split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let lines = lines.map(|line| {
        // What an earlier version wrote is text without a time.
        serde_json::from_slice(line).unwrap_or_else(|_| remark(unit, &String::from_utf8_lossy(line)))
    });
    Ok((lines.collect(), offset + whole as u64))
}

fn remark(unit: &str, text: &str) -> Line {
    Line { ms: 0, unit: unit.to_owned(), pid: 0, stream: Stream::Log, text: text.to_owned() }
}

fn print(lines: &[Line], out: &mut Out) -> Result<(), CliError> {
    for line in lines {
        if out.json {
            out.json(line)?;
            continue;
        }
        let time = if line.ms == 0 { "-".to_owned() } else { utc(line.ms) };
        // A terminal must not obey it, and whoever looks for an attack has to see it.
        let text = revealed(&line.text);
        let mark = if line.stream == Stream::Log { "!" } else { "" };
        out.line(format_args!("{time} {}[{}]{mark}: {text}", cut(&line.unit, 32), line.pid))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::Dir;
    use std::io::Write;

    fn add(dir: &Path, unit: &str, ms: u64, text: &str) {
        let line = Line { ms, unit: unit.into(), pid: 7, stream: Stream::Err, text: text.into() };
        let mut bytes = serde_json::to_vec(&line).unwrap();
        bytes.push(b'\n');
        let path = file(dir, unit, 0);
        File::options().create(true).append(true).open(path).unwrap().write_all(&bytes).unwrap();
    }

    fn rotate(dir: &Path, unit: &str) {
        for older in (0..OLDER_MAX).rev() {
            let _not_there = fs::rename(file(dir, unit, older), file(dir, unit, older + 1));
        }
    }

    fn texts(lines: &[Line]) -> Vec<&str> {
        lines.iter().map(|line| line.text.as_str()).collect()
    }

    #[test]
    fn who_follows_loses_nothing_when_files_are_put_aside() {
        let dir = Dir::new();
        let dir = dir.0.as_path();
        let mut source = Source { dir: dir.into(), chosen: None, at: BTreeMap::new() };
        add(dir, "web", 1, "one");
        add(dir, "db", 2, "two");
        assert_eq!(texts(&source.more().unwrap()), ["one", "two"]);
        add(dir, "web", 3, "three");
        rotate(dir, "web");
        add(dir, "web", 4, "four");
        rotate(dir, "web");
        add(dir, "web", 6, "six");
        add(dir, "db", 5, "five");
        add(dir, "new", 7, "seven");
        assert_eq!(texts(&source.more().unwrap()), ["three", "four", "five", "six", "seven"]);
        assert!(source.more().unwrap().is_empty());
        for number in 0..=OLDER_MAX {
            rotate(dir, "web");
            add(dir, "web", 10 + number as u64, "x");
        }
        let lines = source.more().unwrap();
        assert!(lines[0].text.contains("missing") && lines.len() == 2 + OLDER_MAX, "{lines:?}");
    }

    #[test]
    fn a_line_that_is_half_written_waits_for_its_end() {
        let dir = Dir::new();
        let mut source = Source { dir: dir.0.clone(), chosen: Some("web".into()), at: BTreeMap::new() };
        let path = file(&dir.0, "web", 0);
        let mut writer = File::create(&path).unwrap();
        writer.write_all(b"old text\n{\"ms\":5,\"unit\":\"web\",").unwrap();
        let lines = source.more().unwrap();
        assert!(texts(&lines) == ["old text"] && lines[0].ms == 0);
        writer.write_all(b"\"pid\":1,\"stream\":\"out\",\"text\":\"whole\"}\n").unwrap();
        assert_eq!(texts(&source.more().unwrap()), ["whole"]);
    }
}
