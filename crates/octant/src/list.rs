//! `octant --list`: the names by which the binary can be called.

use crate::dispatch::{BY_NAME, CONSOLE, SHELL};
use octant_applets::APPLETS;
use octant_ids::Exit;
use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

/// What the shell can run without a file for it: the utilities, itself, and the operator's command line.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    rows().into_iter().map(|(name, _)| name).chain(["octant"])
}

/// All names with one line of text each, sorted: one symbolic link for each makes a `/bin`.
fn rows() -> Vec<(&'static str, &'static str)> {
    let mut rows: Vec<_> = APPLETS.iter().map(|applet| (applet.name, applet.about)).collect();
    rows.push((SHELL, "Run commands"));
    rows.extend(BY_NAME.iter().chain(CONSOLE).copied());
    rows.sort_unstable();
    rows
}

pub(crate) fn print(with_text: bool) -> ExitCode {
    let text: String = rows()
        .into_iter()
        .map(|(name, about)| if with_text { format!("{name:<12}{about}\n") } else { format!("{name}\n") })
        .collect();
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            let _ = writeln!(io::stderr(), "octant: cannot write the list: {error}");
            Exit::Failed.into()
        }
        _ => Exit::Ok.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_the_golden_one() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/list.txt");
        let listed: String = rows().into_iter().map(|(name, _)| format!("{name}\n")).collect();
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(path, &listed).unwrap();
        }
        let golden = std::fs::read_to_string(path).unwrap();
        assert_eq!(listed, golden, "UPDATE=1 cargo test -p octant rewrites it");
    }

    #[test]
    fn no_name_is_there_twice() {
        assert!(rows().windows(2).all(|two| two[0].0 < two[1].0));
    }
}
