//! Files. What may be read and written the workstation decides; these are for a model's convenience.

use super::{Place, RESULT_MAX};
use crate::picture::Picture;
use crate::text::head;
use crate::transcript::DIRECTORY;
use serde_json::Value;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};

/// The longest file that is edited, in bytes.
const EDIT_MAX: u64 = 8 << 20;
/// How many lines are read where it is not said.
const LINES: u64 = 500;
/// The longest line that is shown whole, in bytes.
const LINE_MAX: usize = 2000;
/// How many entries a list has.
const ENTRIES_MAX: usize = 1000;
/// How many lines a search finds.
const FOUND_MAX: usize = 200;
/// How many files it looks into.
const FILES_MAX: usize = 20_000;
/// The longest file that is searched, in bytes.
const SEARCH_MAX: u64 = 16 << 20;

fn text<'a>(arguments: &'a Value, name: &str) -> &'a str {
    arguments[name].as_str().unwrap_or_default()
}

/// The path that is meant. The loop's own directory is not for the model: what it did is written there.
fn path(place: &Place<'_>, arguments: &Value) -> Result<PathBuf, String> {
    let given = Path::new(arguments["path"].as_str().unwrap_or("."));
    let mut whole = PathBuf::new();
    for part in place.root.join(given).components() {
        match part {
            Component::ParentDir => {
                whole.pop();
            }
            Component::CurDir => {}
            part => whole.push(part),
        }
    }
    if whole.starts_with(place.root.join(DIRECTORY)) {
        return Err(format!("{}: that directory is the loop's own", given.display()));
    }
    Ok(whole)
}

fn failed(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> String {
    move |error| format!("cannot {step} {}: {error}", path.display())
}

/// `file_read` of a picture; none where it is none.
pub(super) fn picture(place: &Place<'_>, arguments: &Value) -> Option<Result<Picture, String>> {
    // What is wrong with the path is said by who reads the file as text.
    let path = path(place, arguments).ok()?;
    Picture::of(&path)
}

/// Opens a file that is one: what blocks or never ends is not read.
pub(crate) fn open(path: &Path) -> Result<File, String> {
    let mut options = OpenOptions::new();
    let file =
        options.read(true).custom_flags(nix::libc::O_NONBLOCK).open(path).map_err(failed("open", path))?;
    let kind = file.metadata().map_err(failed("look at", path))?.file_type();
    match kind.is_file() {
        true => Ok(file),
        false if kind.is_dir() => Err(format!("{} is a directory; file_list lists it", path.display())),
        false => Err(format!("{} is no regular file", path.display())),
    }
}

/// `file_read`
pub(super) fn read(place: &Place<'_>, arguments: &Value) -> Result<String, String> {
    let path = path(place, arguments)?;
    let from = arguments["from_line"].as_u64().unwrap_or(1);
    let most = arguments["lines"].as_u64().unwrap_or(LINES);
    let mut lines = BufReader::new(open(&path)?);
    let (mut shown, mut line, mut number) = (String::new(), Vec::new(), 0);
    loop {
        line.clear();
        // A line without end is read in pieces, of which the first is shown.
        let got = lines.by_ref().take(1 << 20).read_until(b'\n', &mut line).map_err(failed("read", &path))?;
        if got == 0 {
            break;
        }
        number += 1;
        if number < from {
            continue;
        }
        if number >= from.saturating_add(most) || shown.len() > RESULT_MAX {
            shown += &format!("[more follows; read on with from_line {number}]\n");
            return Ok(shown);
        }
        if line.contains(&0) {
            return Err(format!("{} is no text file", path.display()));
        }
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end_matches('\n');
        let cut = head(text, LINE_MAX);
        let dots = if cut.len() < text.len() { " [...]" } else { "" };
        shown += &format!("{number:>6}\t{cut}{dots}\n");
    }
    match shown.is_empty() {
        true if number == 0 => Ok("[the file is empty]\n".to_owned()),
        true => Err(format!("{} has {number} lines", path.display())),
        false => Ok(shown),
    }
}

/// Replaces a file at once, or not at all.
fn replace(path: &Path, text: &str) -> Result<(), String> {
    let mode = fs::metadata(path).ok().map(|meta| meta.permissions());
    let name = path.file_name().ok_or_else(|| format!("{} names no file", path.display()))?;
    let beside = path.with_file_name(format!(".{}.octant", name.display()));
    let write = || {
        let mut file = File::create(&beside)?;
        file.write_all(text.as_bytes())?;
        if let Some(mode) = mode {
            file.set_permissions(mode)?;
        }
        fs::rename(&beside, path)
    };
    write().map_err(|error| {
        // It is nobody's where it is left.
        let _ = fs::remove_file(&beside);
        failed("write", path)(error)
    })
}

/// `file_write`
pub(super) fn write(place: &Place<'_>, arguments: &Value) -> Result<String, String> {
    let (path, text) = (path(place, arguments)?, text(arguments, "text"));
    if path.is_dir() {
        return Err(format!("{} is a directory", path.display()));
    }
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(failed("make", parent))?;
    }
    // Where a link leads is what is meant.
    let path = fs::canonicalize(&path).unwrap_or(path);
    replace(&path, text)?;
    Ok(format!("{}: {} bytes written\n", path.display(), text.len()))
}

/// `file_edit`
pub(super) fn edit(place: &Place<'_>, arguments: &Value) -> Result<String, String> {
    let (path, old, new) = (path(place, arguments)?, text(arguments, "old"), text(arguments, "new"));
    let mut whole = String::new();
    let mut file = open(&path)?.take(EDIT_MAX + 1);
    file.read_to_string(&mut whole).map_err(failed("read", &path))?;
    if whole.len() as u64 > EDIT_MAX {
        return Err(format!("{} has more than {EDIT_MAX} bytes; use the shell", path.display()));
    }
    let times = whole.matches(old).count();
    match (times, arguments["all"] == true) {
        (0, _) => return Err(format!("{} has no such text; read it again, spaces count", path.display())),
        (1, _) | (_, true) => {}
        (times, false) => {
            return Err(format!(
                "{} has that text {times} times; give more of what is around it, or set all",
                path.display()
            ));
        }
    }
    let path = fs::canonicalize(&path).unwrap_or(path);
    replace(&path, &whole.replace(old, new))?;
    Ok(format!("{}: replaced {times} times\n", path.display()))
}

/// Everything below a directory in order, as deep as `depth`; `each` says whether to go on. Links are not followed.
fn walk(
    directory: &Path,
    depth: u64,
    each: &mut dyn FnMut(&Path, &fs::FileType) -> bool,
) -> Result<bool, String> {
    let entries = fs::read_dir(directory).and_then(Iterator::collect::<Result<Vec<fs::DirEntry>, _>>);
    let mut entries = entries.map_err(failed("list", directory))?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        let kind = entry.file_type().map_err(failed("look at", &path))?;
        if !each(&path, &kind) {
            return Ok(false);
        }
        // One that may not be read is listed, and no reason not to show the others.
        if kind.is_dir()
            && depth > 1
            && entry.file_name() != DIRECTORY
            && let Ok(false) = walk(&path, depth - 1, each)
        {
            return Ok(false);
        }
    }
    Ok(true)
}

/// `file_list`
pub(super) fn list(place: &Place<'_>, arguments: &Value) -> Result<String, String> {
    let path = path(place, arguments)?;
    let (mut shown, mut count) = (String::new(), 0);
    let whole = walk(&path, arguments["depth"].as_u64().unwrap_or(1), &mut |entry, kind| {
        count += 1;
        let name = entry.strip_prefix(&path).unwrap_or(entry).display();
        let size = fs::symlink_metadata(entry).map_or(0, |meta| meta.len());
        shown += &match kind {
            kind if kind.is_dir() => format!("{name}/\n"),
            kind if kind.is_symlink() => {
                let to = fs::read_link(entry).unwrap_or_default();
                format!("{name} -> {}\n", to.display())
            }
            _ => format!("{name}  {size} bytes\n"),
        };
        count < ENTRIES_MAX && shown.len() < RESULT_MAX
    })?;
    if !whole {
        shown += &format!("[more than {count} entries; list a part of it]\n");
    }
    Ok(if shown.is_empty() { "[the directory is empty]\n".to_owned() } else { shown })
}

/// `file_search`
pub(super) fn search(place: &Place<'_>, arguments: &Value) -> Result<String, String> {
    let path = path(place, arguments)?;
    let ignore = arguments["ignore_case"] == true;
    let fold = |text: &str| if ignore { text.to_lowercase() } else { text.to_owned() };
    let wanted = fold(text(arguments, "text"));
    let (mut shown, mut found, mut files) = (String::new(), 0, 0);
    let mut look = |file: &Path| {
        files += 1;
        let Ok(opened) = open(file) else { return true };
        let mut bytes = Vec::new();
        if opened.take(SEARCH_MAX).read_to_end(&mut bytes).is_err() || bytes.contains(&0) {
            return true;
        }
        let name = file.strip_prefix(place.root).unwrap_or(file).display();
        for (index, line) in String::from_utf8_lossy(&bytes).lines().enumerate() {
            if fold(line).contains(&wanted) {
                found += 1;
                shown += &format!("{name}:{}: {}\n", index + 1, head(line, 300));
            }
            if found >= FOUND_MAX {
                return false;
            }
        }
        files < FILES_MAX && !(place.stop)()
    };
    let whole = match path.is_dir() {
        true => walk(&path, 64, &mut |entry, kind| !kind.is_file() || look(entry))?,
        false => {
            open(&path)?;
            look(&path)
        }
    };
    if !whole {
        shown += "[there may be more; search in a part of it]\n";
    }
    Ok(if shown.is_empty() { "[not found]\n".to_owned() } else { shown })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn scratch(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("octant-files-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        path
    }

    fn at(root: &Path) -> Place<'_> {
        Place { root, end_ns: u64::MAX, stop: &|| false }
    }

    #[test]
    fn what_is_written_is_read_edited_listed_and_found() {
        let root = scratch("all");
        let place = at(&root);
        write(&place, &json!({ "path": "a/b.txt", "text": "one\ntwo\ntwo\n" })).unwrap();
        assert_eq!(
            read(&place, &json!({ "path": "a/b.txt" })).unwrap(),
            "     1\tone\n     2\ttwo\n     3\ttwo\n"
        );
        let part = read(&place, &json!({ "path": "a/b.txt", "from_line": 2, "lines": 1 })).unwrap();
        assert_eq!(part, "     2\ttwo\n[more follows; read on with from_line 3]\n");
        let change = |old: &str, all: bool| {
            edit(&place, &json!({ "path": "a/b.txt", "old": old, "new": "2", "all": all }))
        };
        assert!(change("three", false).unwrap_err().contains("no such text"));
        assert!(change("two", false).unwrap_err().contains("2 times"));
        assert!(change("two", true).unwrap().contains("replaced 2 times"));
        assert_eq!(fs::read_to_string(root.join("a/b.txt")).unwrap(), "one\n2\n2\n");
        assert_eq!(list(&place, &json!({ "depth": 2 })).unwrap(), "a/\na/b.txt  8 bytes\n");
        assert_eq!(
            search(&place, &json!({ "text": "ONE", "ignore_case": true })).unwrap(),
            "a/b.txt:1: one\n"
        );
        assert_eq!(search(&place, &json!({ "text": "ONE" })).unwrap(), "[not found]\n");
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn what_cannot_be_done_is_said() {
        let root = scratch("refused");
        let place = at(&root);
        fs::create_dir(root.join(DIRECTORY)).unwrap();
        for path in [".octant/x", "./a/../.octant/x", "a/../../nothing/.."] {
            let done = write(&place, &json!({ "path": path, "text": "" }));
            assert!(done.is_err(), "{path}: {done:?}");
        }
        fs::write(root.join("zero"), b"a\0b").unwrap();
        assert!(read(&place, &json!({ "path": "zero" })).unwrap_err().contains("no text file"));
        assert!(read(&place, &json!({ "path": "." })).unwrap_err().contains("file_list"));
        assert!(read(&place, &json!({ "path": "/dev/zero" })).unwrap_err().contains("no regular file"));
        assert!(read(&place, &json!({ "path": "none" })).unwrap_err().contains("cannot open"));
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn long_lines_and_long_lists_are_cut() {
        let root = scratch("long");
        let place = at(&root);
        fs::write(root.join("line"), "x".repeat(9000)).unwrap();
        assert!(read(&place, &json!({ "path": "line" })).unwrap().len() < 2100);
        fs::write(root.join("lines"), "y\n".repeat(5000)).unwrap();
        assert!(read(&place, &json!({ "path": "lines" })).unwrap().ends_with("from_line 501]\n"));
        let found = search(&place, &json!({ "text": "y", "path": "lines" })).unwrap();
        assert_eq!(found.lines().count(), FOUND_MAX + 1);
        fs::remove_dir_all(root).unwrap();
    }
}
