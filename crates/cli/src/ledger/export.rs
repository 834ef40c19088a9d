//! `octant ledger export`, and `octant ledger verify FILE`.

use super::{keys, odd};
use crate::args::{Against, Export};
use crate::error::CliError;
use crate::out::{Out, Progress};
use crate::service::Service;
use octant_api::ledger::ExportRequest;
use octant_tlog::bundle::{Check, Fault, Given, LINE_MAX, Report, Wrong};
use serde::Serialize;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

/// How many entries pass between two signs of life.
const EVERY: u64 = 4096;

/// A file that is renamed into place when it is whole, and is gone otherwise.
struct Partial {
    path: PathBuf,
    file: BufWriter<File>,
}

impl Partial {
    fn beside(target: &Path) -> Result<Self, CliError> {
        let mut path = target.as_os_str().to_owned();
        path.push(format!(".{}.part", std::process::id()));
        let path = PathBuf::from(path);
        let file = OpenOptions::new().write(true).create_new(true).open(&path);
        let file = file.map_err(|source| CliError::Write { path: path.clone(), source })?;
        Ok(Self { path, file: BufWriter::new(file) })
    }

    fn line(&mut self, line: &str) -> Result<(), CliError> {
        let written = self.file.write_all(line.as_bytes()).and_then(|()| self.file.write_all(b"\n"));
        written.map_err(|source| CliError::Write { path: self.path.clone(), source })
    }

    fn keep(mut self, target: &Path, force: bool) -> Result<(), CliError> {
        let write = |source| CliError::Write { path: target.to_owned(), source };
        self.file.flush().and_then(|()| self.file.get_ref().sync_all()).map_err(write)?;
        if !force {
            // Takes the name, or fails because somebody else has it; the rename then replaces what was just made.
            OpenOptions::new()
                .write(true)
                .create_new(true)
                .open(target)
                .map_err(|source| exists(target, source))?;
        }
        fs::rename(&self.path, target).map_err(write)
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // After the rename it is not there any more.
        let _gone = fs::remove_file(&self.path);
    }
}

fn exists(path: &Path, source: io::Error) -> CliError {
    match source.kind() {
        io::ErrorKind::AlreadyExists => CliError::Exists { path: path.to_owned() },
        _ => CliError::Write { path: path.to_owned(), source },
    }
}

/// What was written, for programs.
#[derive(Serialize)]
struct Written<'a> {
    file: &'a Path,
    report: &'a Report,
}

/// The command `octant ledger export`.
pub(super) fn export(service: &Service, asked: &Export, out: &mut Out) -> Result<(), CliError> {
    // Before the ledger reads everything; whether it is still so is seen at the end.
    if !asked.force && asked.file.symlink_metadata().is_ok() {
        return Err(CliError::Exists { path: asked.file.clone() });
    }
    let mut partial = Partial::beside(&asked.file)?;
    let request = ExportRequest { from: asked.from.max(1), to: asked.to.unwrap_or(0), agent: asked.agent };
    let mut check = Check::new(Given::default());
    let mut progress = Progress::new(out.json);
    let mut lines: u64 = 0;
    let end = service.stream(&request, |item| {
        // A newline within would be one more line in the file.
        if item.line.contains('\n') {
            return Err(odd(service, "a line of the export has a newline in it".to_owned()));
        }
        check.line(item.line.as_bytes()).map_err(|wrong| bad(service, &wrong))?;
        partial.line(&item.line)?;
        lines += 1;
        if lines.is_multiple_of(EVERY) {
            progress.show(&format!("{lines} entries"));
        }
        Ok(())
    })?;
    let report = check.finish().map_err(|wrong| bad(service, &wrong))?;
    if end.entries != report.entries || end.size != report.size {
        let (said, found) = (end.entries, report.entries);
        return Err(odd(service, format!("it says that it sent {said} entries, and sent {found}")));
    }
    if report.from != request.from
        || (request.to > 0 && report.to != request.to)
        || report.agent != request.agent
    {
        return Err(odd(service, "it sent other entries than those that were asked for".to_owned()));
    }
    drop(progress);
    partial.keep(&asked.file, asked.force)?;
    if out.json {
        return out.json(&Written { file: &asked.file, report: &report });
    }
    out.line(format_args!("{}: {}", asked.file.display(), what(&report)))?;
    if !report.has_quorum() {
        let (have, quorum) = (report.cosigned.len(), report.quorum);
        out.note(&format!(
            "{have} of {quorum} witnesses have cosigned this checkpoint; the export is not complete"
        ));
    }
    out.line(format_args!(
        "next: `octant ledger verify {} --key KEY` checks it anywhere",
        asked.file.display()
    ))
}

/// What the ledger sent does not verify.
fn bad(service: &Service, wrong: &Wrong) -> CliError {
    CliError::Unverified {
        what: format!("the export that ledger at {} sent", service.path().display()),
        why: wrong.to_string(),
        next: "`octant ledger verify` says what is wrong with the ledger itself".to_owned(),
    }
}

fn what(report: &Report) -> String {
    let Report { entries, from, to, size, origin, .. } = report;
    match report.agent {
        Some(agent) => format!("{entries} entries about {agent} ({from} to {to} of {size}) of {origin}"),
        None => format!("{entries} entries ({from} to {to} of {size}) of {origin}"),
    }
}

/// The command `octant ledger verify FILE`.
pub(super) fn verify(file: &Path, against: &Against, out: &mut Out) -> Result<(), CliError> {
    let given = keys::given(against)?;
    let fail = |source| CliError::Read { path: file.to_owned(), source };
    let mut reader = BufReader::new(File::open(file).map_err(fail)?);
    let mut check = Check::new(given);
    let mut progress = Progress::new(out.json);
    let (mut line, mut lines) = (Vec::new(), 0_u64);
    while next_line(&mut reader, &mut line).map_err(fail)? {
        check.line(&line).map_err(|wrong| unverified(file, &wrong))?;
        lines += 1;
        if lines.is_multiple_of(EVERY) {
            progress.show(&format!("{lines} entries"));
        }
    }
    let report = check.finish().map_err(|wrong| unverified(file, &wrong))?;
    drop(progress);
    if out.json {
        out.json(&report)?;
    } else {
        out.line(format_args!("{} verifies: {}", file.display(), what(&report)))?;
        report.proven.iter().try_for_each(|text| out.paragraph("proven: ", text))?;
        report.not_proven.iter().try_for_each(|text| out.paragraph("not proven: ", text))?;
    }
    if report.has_quorum() {
        return Ok(());
    }
    let (have, quorum) = (report.cosigned.len(), report.quorum);
    Err(CliError::Incomplete {
        what: file.display().to_string(),
        why: format!("{have} of {quorum} witnesses have cosigned its checkpoint"),
        next: "get the file anew once the witnesses have cosigned; --quorum N says how many you ask for"
            .to_owned(),
    })
}

/// The next line without its newline; no more of it than the check needs to see that it is too long.
fn next_line(reader: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    let limit = u64::try_from(LINE_MAX).unwrap_or(u64::MAX).saturating_add(1);
    let read = reader.take(limit).read_until(b'\n', line)?;
    if line.last() == Some(&b'\n') {
        line.pop();
    }
    Ok(read > 0)
}

fn unverified(file: &Path, wrong: &Wrong) -> CliError {
    let next = match (&wrong.fault, wrong.seq) {
        (Fault::OtherKey { .. } | Fault::Checkpoint(_) | Fault::Foreign { .. }, _) => {
            "compare the key with the one that `octant ledger checkpoint --key` prints on the machine itself"
                .to_owned()
        }
        (Fault::Shorter { .. }, _) => {
            "ask for a newer export; when there is none, the log was cut or set back".to_owned()
        }
        (_, None | Some(1)) => "nothing in this file can be relied on; ask for the export again".to_owned(),
        (_, Some(seq)) => {
            format!(
                "nothing from entry {seq} on can be relied on; keep the file, and ask for the export again"
            )
        }
    };
    CliError::Unverified { what: file.display().to_string(), why: wrong.to_string(), next }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_up_to_their_limit() {
        let long = vec![b'x'; LINE_MAX + 5];
        let bytes = [b"one\n\ntwo\r\n".as_slice(), &long].concat();
        let (mut reader, mut line) = (bytes.as_slice(), Vec::new());
        let mut lengths = Vec::new();
        while next_line(&mut reader, &mut line).unwrap() {
            lengths.push(line.len());
        }
        assert_eq!(lengths, [3, 0, 4, LINE_MAX + 1, 4]);
    }
}
