//! `diff` of directories.

use super::options::Options;
use super::{TROUBLE, file, kind};
use crate::archive::matches;
use crate::output::complain;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Deeper is a loop of links.
const DEEPEST: usize = 256;

/// Compares two directories; true when they differ. What cannot be compared is told of, and the rest is.
pub(super) fn compare(
    options: &Options,
    from: &Path,
    to: &Path,
    out: &mut dyn Write,
) -> Result<bool, String> {
    let mut walk = Walk { options, out, code: 0 };
    walk.directory(from, to, 0)?;
    match walk.code {
        TROUBLE => Err("something could not be compared".into()),
        code => Ok(code == 1),
    }
}

struct Walk<'w> {
    options: &'w Options,
    out: &'w mut dyn Write,
    code: i32,
}

impl Walk<'_> {
    fn names(&mut self, directory: &Path) -> BTreeSet<OsString> {
        let listed = fs::read_dir(directory).and_then(|entries| {
            entries.map(|entry| entry.map(|entry| entry.file_name())).collect::<io::Result<BTreeSet<_>>>()
        });
        let mut names = match listed {
            Ok(names) => names,
            // As -N has it: what is not there is empty.
            Err(error) if self.options.new_file && error.kind() == io::ErrorKind::NotFound => BTreeSet::new(),
            Err(error) => {
                self.trouble(&format!("{}: {error}", directory.display()));
                BTreeSet::new()
            }
        };
        names.retain(|name| !self.options.excluded.iter().any(|pattern| matches(pattern, name.as_bytes())));
        names
    }

    fn trouble(&mut self, message: &str) {
        complain("diff", &message);
        self.code = TROUBLE;
    }

    fn differ(&mut self) {
        self.code = self.code.max(1);
    }

    fn directory(&mut self, from: &Path, to: &Path, depth: usize) -> Result<(), String> {
        if depth > DEEPEST {
            self.trouble(&format!("{}: a loop of directories", from.display()));
            return Ok(());
        }
        let (old, new) = (self.names(from), self.names(to));
        for name in old.union(&new) {
            let (one, other) = (from.join(name), to.join(name));
            let in_both = old.contains(name) && new.contains(name);
            if in_both || self.options.new_file {
                self.pair(&one, &other, depth)?;
            } else {
                let directory = if old.contains(name) { from } else { to };
                writeln!(self.out, "Only in {}: {}", directory.display(), name.display()).map_err(told)?;
                self.differ();
            }
        }
        Ok(())
    }

    fn pair(&mut self, one: &Path, other: &Path, depth: usize) -> Result<(), String> {
        let (first, second) = (kind(one), kind(other));
        let directory = |kind: Option<fs::FileType>| kind.map(|kind| kind.is_dir());
        match (directory(first), directory(second)) {
            (Some(true), Some(true) | None) | (None, Some(true)) => {
                if self.options.recursive {
                    return self.directory(one, other, depth + 1);
                }
                if self.options.brief {
                    return Ok(());
                }
                writeln!(self.out, "Common subdirectories: {} and {}", one.display(), other.display())
                    .map_err(told)
            }
            (Some(true), Some(false)) | (Some(false), Some(true)) => {
                let word = |kind: Option<bool>| if kind == Some(true) { "directory" } else { "regular file" };
                let words = (word(directory(first)), word(directory(second)));
                let names = (one.display(), other.display());
                writeln!(
                    self.out,
                    "File {} is a {} while file {} is a {}",
                    names.0, words.0, names.1, words.1
                )
                .map_err(told)?;
                self.differ();
                Ok(())
            }
            _ => self.files(one, other),
        }
    }

    fn files(&mut self, one: &Path, other: &Path) -> Result<(), String> {
        let special = |path: &Path| kind(path).is_some_and(|kind| !kind.is_file());
        if special(one) || special(other) {
            // A pipe would never end.
            writeln!(self.out, "Files {} and {} are no regular files", one.display(), other.display())
                .map_err(told)?;
            self.differ();
            return Ok(());
        }
        let mut text = Vec::new();
        match file(self.options, one, other, &mut text) {
            Ok(differ) => {
                let whole = text.starts_with(b"Files ") || text.starts_with(b"Binary files ");
                if differ && !self.options.brief && !whole {
                    let line = format!("diff{} {} {}\n", self.options.words, one.display(), other.display());
                    self.out.write_all(line.as_bytes()).map_err(told)?;
                }
                self.out.write_all(&text).map_err(told)?;
                if differ {
                    self.differ();
                }
            }
            Err(message) => self.trouble(&message),
        }
        Ok(())
    }
}

fn told(error: io::Error) -> String {
    format!("standard output: {error}")
}
