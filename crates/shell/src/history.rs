//! What was typed before, kept in a file over the end of the shell.
//!
//! The file is `$HISTFILE`, by default `~/.sh_history`: the user's alone, bounded, one command a line. What begins with
//! a space is not kept (a secret on a command line), nor is what has more than one line.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// How many commands are remembered.
const COMMANDS: usize = 500;

/// A file beyond this size is written anew with the last commands.
const FILE_BYTES: u64 = 256 * 1024;

/// The commands, oldest first.
#[derive(Debug, Default)]
pub(crate) struct History {
    commands: Vec<String>,
    file: Option<PathBuf>,
}

impl History {
    /// Reads what a file has; one that cannot be read has nothing, and one that cannot be written keeps nothing.
    pub(crate) fn open(file: Option<PathBuf>) -> Self {
        let mut history = Self { commands: Vec::new(), file };
        let Some(path) = history.file.clone() else { return history };
        match read(&path) {
            Ok((text, length)) => {
                for line in text.lines() {
                    history.remember(line);
                }
                if length > FILE_BYTES && history.rewrite(&path).is_err() {
                    // It would only grow.
                    history.file = None;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(_) => history.file = None,
        }
        history
    }

    pub(crate) fn commands(&self) -> &[String] {
        &self.commands
    }

    /// Adds a command, in the file too.
    pub(crate) fn add(&mut self, command: &str) {
        if !self.remember(command) || command.contains('\n') {
            return;
        }
        if let Some(path) = &self.file
            && append(path, command).is_err()
        {
            // A read-only home, a full disk: the shell goes on without the file.
            self.file = None;
        }
    }

    /// Says whether the command is a new one to keep.
    fn remember(&mut self, command: &str) -> bool {
        let empty = command.trim().is_empty() || command.starts_with(' ');
        if empty || self.commands.last().is_some_and(|last| last == command) {
            return false;
        }
        if self.commands.len() == COMMANDS {
            self.commands.remove(0);
        }
        self.commands.push(command.to_owned());
        true
    }

    fn rewrite(&self, path: &Path) -> io::Result<()> {
        let new = path.with_extension("new");
        match std::fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        let lines = self.commands.iter().filter(|command| !command.contains('\n'));
        file.write_all(lines.fold(String::new(), |text, command| text + command + "\n").as_bytes())?;
        std::fs::rename(&new, path)
    }
}

/// The last part of a file, and its length.
fn read(path: &Path) -> io::Result<(String, u64)> {
    use std::io::Seek;

    let mut file = File::open(path)?;
    let about = file.metadata()?;
    if !about.is_file() {
        return Err(io::Error::other("not a file"));
    }
    file.seek(io::SeekFrom::Start(about.len().saturating_sub(FILE_BYTES)))?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES).read_to_end(&mut bytes)?;
    Ok((String::from_utf8_lossy(&bytes).into_owned(), about.len()))
}

fn append(path: &Path, command: &str) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(nix::libc::O_NOFOLLOW)
        .open(path)?;
    // One write, so that two shells do not mix their lines.
    file.write_all(format!("{command}\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn scratch(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("octant-history-{name}-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        path
    }

    #[test]
    fn commands_come_back_and_secrets_do_not() {
        let path = scratch("back");
        let mut history = History::open(Some(path.clone()));
        for command in ["ls", "ls", " export KEY=secret", "if x\nthen y; fi", "pwd", "  "] {
            history.add(command);
        }
        assert_eq!(history.commands(), ["ls", "if x\nthen y; fi", "pwd"]);
        assert_eq!(std::fs::metadata(&path).expect("the file").permissions().mode() & 0o777, 0o600);
        assert_eq!(History::open(Some(path.clone())).commands(), ["ls", "pwd"]);
        std::fs::remove_file(path).expect("removed");
    }

    #[test]
    fn a_file_that_has_grown_is_cut_to_the_last_commands() {
        let path = scratch("cut");
        let long: String = (0..40_000).map(|n| format!("command {n}\n")).collect();
        std::fs::write(&path, long).expect("written");
        let history = History::open(Some(path.clone()));
        assert_eq!(history.commands().len(), COMMANDS);
        assert_eq!(history.commands().last().map(String::as_str), Some("command 39999"));
        assert!(std::fs::metadata(&path).expect("the file").len() < FILE_BYTES);
        std::fs::remove_file(path).expect("removed");
    }

    #[test]
    fn a_link_is_not_written_through_and_a_directory_is_no_file() {
        let (target, link) = (scratch("target"), scratch("link"));
        std::os::unix::fs::symlink(&target, &link).expect("a link");
        let mut history = History::open(Some(link.clone()));
        history.add("ls");
        assert!(!target.exists());
        assert_eq!(history.commands(), ["ls"]);
        std::fs::remove_file(link).expect("removed");
        assert!(History::open(Some(std::env::temp_dir())).commands().is_empty());
    }
}
