//! Recovery shares on their way from the vault to those who keep them. The vault gives them once.

use super::VaultError;
use super::secret::Secret;
use crate::args::vault::{Shape, SharesTo};
use crate::error::CliError;
use crate::out::Out;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Where the shares of one slot go. It is made before the vault is asked: what fails must fail while there are none.
#[derive(Debug)]
pub(super) struct Sink {
    count: usize,
    /// None where they are printed.
    files: Option<Files>,
}

impl Sink {
    /// `set`: which of several sets of shares it is.
    pub(super) fn open(to: &SharesTo, set: Option<usize>, shape: Shape, out: &Out) -> Result<Self, CliError> {
        let count = usize::from(shape.count);
        if let Some(dir) = &to.shares_into {
            return Ok(Self { count, files: Some(Files::make(dir, set, count)?) });
        }
        if out.json {
            let next = "give --shares-into DIR, which writes each to a file of its own";
            return Err(VaultError::NotInJson { what: "a recovery share", next }.into());
        }
        if out.columns.is_none() && !to.print_shares {
            return Err(VaultError::SharesUnseen.into());
        }
        Ok(Self { count, files: None })
    }

    /// Takes what came with the answer to where it belongs; gives the files that were written.
    pub(super) fn keep(self, pipe: Option<&OwnedFd>, out: &mut Out) -> Result<Vec<PathBuf>, CliError> {
        let lost = |why: String| CliError::from(VaultError::SharesLost { why });
        let pipe = pipe.ok_or_else(|| lost("none came with the vault's answer".to_owned()))?;
        let shares = Secret::receive(pipe).map_err(|error| lost(error.why()))?;
        let lines: Vec<&[u8]> =
            shares.bytes().split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).collect();
        if lines.len() != self.count || lines.iter().any(|line| !line.iter().all(u8::is_ascii_graphic)) {
            return Err(lost(format!("what came is not {} lines of text", self.count)));
        }
        match self.files {
            Some(files) => files.write(&lines).map_err(|error| lost(error.to_string())),
            None => {
                lines.iter().try_for_each(|line| out.secret(line).and_then(|()| out.secret(b"\n")))?;
                Ok(Vec::new())
            }
        }
    }

    /// What whoever made them has to know.
    pub(super) fn warn(&self, out: &mut Out) {
        if self.files.is_none() {
            out.note("these shares are shown this once: write each down, and keep them apart, with different people");
        }
    }
}

/// Files for shares, empty so far; gone again unless they are written.
#[derive(Debug)]
struct Files {
    dir: PathBuf,
    files: Vec<(PathBuf, File)>,
}

impl Files {
    fn make(dir: &Path, set: Option<usize>, count: usize) -> Result<Self, CliError> {
        let fail = |path: &Path| {
            let path = path.to_owned();
            move |source: io::Error| match source.kind() {
                io::ErrorKind::AlreadyExists => VaultError::Exists { path }.into(),
                _ => CliError::Write { path, source },
            }
        };
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(fail(dir))?;
        let mut made = Self { dir: dir.to_owned(), files: Vec::with_capacity(count) };
        for number in 1..=count {
            let set = set.map_or_else(String::new, |set| format!("set-{set}-"));
            let path = dir.join(format!("{set}share-{number}.txt"));
            let file = OpenOptions::new().write(true).create_new(true).mode(0o400).open(&path);
            made.files.push((path.clone(), file.map_err(fail(&path))?));
        }
        Ok(made)
    }

    fn write(mut self, lines: &[&[u8]]) -> io::Result<Vec<PathBuf>> {
        for ((_, file), line) in self.files.iter_mut().zip(lines) {
            file.write_all(line)?;
            file.write_all(b"\n")?;
            file.sync_all()?;
        }
        File::open(&self.dir)?.sync_all()?;
        Ok(std::mem::take(&mut self.files).into_iter().map(|(path, _)| path).collect())
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        for (path, _) in &self.files {
            // It is empty, or has a share that nobody is told of.
            let _gone = fs::remove_file(path);
        }
    }
}
