//! `octant config edit`: a copy of what is in force, an editor, and then what the other commands do.

use super::{Config, KIND};
use crate::error::CliError;
use crate::manifest::{read, write_new};
use crate::out::Out;
use octant_editions::{BASE, TEXT};
use octant_ids::Exit;
use octant_manifest::{config_template, limits};
use octant_sys::clock;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The editor that there is on every machine of Octant's.
const EDITOR: &str = "vi";

impl Config<'_> {
    pub(super) fn edit(&self, key: &Path, wait_ms: u64, out: &mut Out) -> Result<(), CliError> {
        let text = self.to_edit()?;
        let file = std::env::temp_dir().join(format!("octant-config-{}.toml", std::process::id()));
        write_new(&file, &text, 0o600)?;
        open_editor(&file)?;
        if read(&file, KIND, limits::MANIFEST_BYTES)? == text.as_bytes() {
            remove(&file)?;
            return out.line("nothing was changed");
        }
        let signed = file.with_extension("json");
        // What is wrong stays where it can be corrected.
        let kept = |error: CliError| match error {
            CliError::Invalid { path, kind, why } if path == file => {
                let what = format!("{} is not a valid {kind}", path.display());
                let next =
                    format!("correct {}, then octant config sign and octant config apply", path.display());
                CliError::Refused { what, why, exit: Exit::Invalid, next: Some(next) }
            }
            other => other,
        };
        self.sign(&file, key, Some(&signed), out).map_err(kept)?;
        let applied = self.apply(&signed, wait_ms, out);
        remove(&signed)?;
        applied?;
        remove(&file)
    }

    /// The text in force with the next serial number; without one, the one to begin with.
    fn to_edit(&self) -> Result<String, CliError> {
        let next = self.editions.serial().map_err(super::store)?.saturating_add(1);
        let current = self.editions.current();
        if current == BASE {
            return Ok(config_template(next, clock::wall_ms().saturating_add(super::VALID_MS)));
        }
        let path: PathBuf = self.editions.place(current).join(TEXT);
        let text = crate::manifest::text(read(&path, KIND, limits::MANIFEST_BYTES)?, &path, KIND)?;
        Ok(with_serial(&text, next))
    }
}

/// The text with another serial number. It stands before the first section.
fn with_serial(text: &str, serial: u64) -> String {
    let mut done = false;
    let lines = text.split_inclusive('\n').map(|line| {
        let key = line.split('=').next().unwrap_or_default().trim();
        if done || key != "serial" {
            return line.to_owned();
        }
        done = true;
        format!("serial = {serial}\n")
    });
    lines.collect()
}

fn open_editor(file: &Path) -> Result<(), CliError> {
    let editor = std::env::var("EDITOR").ok().filter(|editor| !editor.is_empty());
    let editor = editor.unwrap_or_else(|| EDITOR.to_owned());
    // As sh(1) splits it: an editor may have options.
    let mut words = editor.split_whitespace();
    let ended = Command::new(words.next().unwrap_or(EDITOR)).args(words).arg(file).status();
    let why = match ended {
        Ok(status) if status.success() => return Ok(()),
        Ok(status) => status.to_string(),
        Err(error) => error.to_string(),
    };
    let next = Some(format!("the text is {}; set EDITOR to another editor", file.display()));
    Err(CliError::Refused { what: format!("the editor {editor}"), why, exit: Exit::Failed, next })
}

fn remove(file: &Path) -> Result<(), CliError> {
    std::fs::remove_file(file).map_err(|source| CliError::Write { path: file.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::with_serial;

    #[test]
    fn only_the_serial_number_is_another() {
        let text = "config = 1\n# serial = 1\nserial   = 4 # old\n[units.a]\nserial = 4\n";
        let expected = "config = 1\n# serial = 1\nserial = 5\n[units.a]\nserial = 4\n";
        assert_eq!(with_serial(text, 5), expected);
    }
}
