//! `vi`: an editor with the commands of vi that everybody knows.
//!
//! [`editor`] is a function of keys and knows no terminal; this file is the terminal, the screen and the files.

mod editor;

use super::with_options;
use crate::output::complain;
use crate::terminal::Terminal;
use editor::{Editor, Effect};
use lexopt::Arg;
use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

const HELP: &str = "\
Usage: vi [+NUM] [FILE]
Edit a file, on any terminal from 80 columns and 24 rows on. It must be UTF-8 text of at most 64 MiB.

Moves    h j k l w b e 0 ^ $ gg G NUMG f F t T % arrows Ctrl-f Ctrl-b Ctrl-d Ctrl-u / ? n N
Changes  i a I A o O x X r ~ J D C s S dd cc yy p P, d c y with a move, u Ctrl-r . >> <<
Commands :w :w FILE :q :q! :wq :x ZZ :NUM :s/A/B/g :%s/A/B/g :r FILE :set number
";

const LARGEST: u64 = 64 << 20;

struct Request {
    file: Option<PathBuf>,
    line: Option<usize>,
}

pub(crate) fn vi(arguments: Vec<OsString>) -> i32 {
    with_options("vi", HELP, 1, arguments, parse, |request| match edit(&request) {
        Ok(()) => 0,
        Err(message) => {
            complain("vi", &message);
            1
        }
    })
}

fn parse(mut parser: lexopt::Parser) -> Result<Request, lexopt::Error> {
    let mut request = Request { file: None, line: None };
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Value(value) => match value.to_str().and_then(|text| text.strip_prefix('+')) {
                Some(line) => request.line = Some(line.parse().unwrap_or(usize::MAX)),
                None if request.file.is_none() => request.file = Some(value.into()),
                None => return Err("one file at a time".into()),
            },
            other => return Err(other.unexpected()),
        }
    }
    Ok(request)
}

/// The text of a file; nothing where there is none yet.
fn load(path: &Path) -> Result<String, String> {
    let shown = path.display();
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
        Err(error) => return Err(format!("{shown}: {error}")),
        Ok(found) if found.is_dir() => return Err(format!("{shown}: is a directory")),
        Ok(found) if found.len() > LARGEST => return Err(format!("{shown}: more than 64 MiB")),
        Ok(_) => {}
    }
    let bytes = fs::read(path).map_err(|error| format!("{shown}: {error}"))?;
    String::from_utf8(bytes).map_err(|_| format!("{shown}: not UTF-8 text, which would be damaged"))
}

/// Writes beside the file and renames, so that what was there is there until all of the new is; in place where the file is a
/// link, has several names, or its directory may not be written.
fn save(path: &Path, text: &str) -> io::Result<()> {
    use std::os::unix::fs::MetadataExt;
    let found = fs::symlink_metadata(path).ok();
    let plain = found.as_ref().is_none_or(|found| found.is_file() && found.nlink() == 1);
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}~", std::process::id()));
    let beside = PathBuf::from(beside);
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside);
    let Ok(mut file) = made.map_err(drop).and_then(|file| if plain { Ok(file) } else { Err(()) }) else {
        let _ = fs::remove_file(&beside);
        return fs::write(path, text);
    };
    let written = file.write_all(text.as_bytes()).and_then(|()| {
        use std::os::unix::fs::{PermissionsExt, fchown};
        if let Some(found) = &found {
            fchown(&file, Some(found.uid()), Some(found.gid()))?;
            file.set_permissions(fs::Permissions::from_mode(found.mode() & 0o7777))?;
        } else {
            file.set_permissions(fs::Permissions::from_mode(0o644))?;
        }
        file.sync_all()?;
        fs::rename(&beside, path)
    });
    if written.is_err() {
        // The first failure is the one to tell.
        let _ = fs::remove_file(&beside);
    }
    written
}

fn edit(request: &Request) -> Result<(), String> {
    if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        return Err("standard input and output must be a terminal; sed edits without one".into());
    }
    let text = request.file.as_deref().map_or(Ok(String::new()), load)?;
    let failed = |error: io::Error| format!("the terminal: {error}");
    let mut terminal = Terminal::open().map_err(failed)?;
    let mut editor = Editor::new(&text, request.file.clone());
    if let Some(line) = request.line {
        editor.go_to_line(line);
    }
    loop {
        let (rows, columns) = terminal.size();
        terminal.draw(&editor.screen(rows, columns)).map_err(failed)?;
        let Some(key) = terminal.key().map_err(failed)? else { break };
        match editor.key(key) {
            Effect::None => {}
            Effect::Quit => break,
            Effect::Write { path, quit } => match save(&path, &editor.text()) {
                Ok(()) => {
                    editor.written(&path);
                    if quit {
                        break;
                    }
                }
                Err(error) => editor.say(format!("{}: {error}", path.display())),
            },
            Effect::Read(path) => match load(&path) {
                Ok(text) => editor.insert_lines(&text),
                Err(message) => editor.say(message),
            },
        }
    }
    let (rows, _) = terminal.size();
    terminal.draw(&format!("\x1b[{rows};1H\x1b[K\x1b[0m")).map_err(failed)
}
