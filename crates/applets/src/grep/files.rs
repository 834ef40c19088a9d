//! Which files grep searches, and what it says of each. Directories are walked by descriptors, so that a tree may be deeper
//! than a path can be long.

use super::matcher::Matcher;
use super::options::{Devices, Directories, Report, Settings, TROUBLE};
use super::print::Printer;
use super::search::{Failure, Searcher};
use crate::archive::matches;
use crate::options::{Options, Stop, because};
use crate::output::complain;
use nix::dir::{Dir, Type};
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};
use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

/// How many directories above the current one are held open. Those above them are found again through `..`.
const OPEN_MAX: usize = 128;

/// Patterns of names.
#[derive(Debug, Default)]
pub(super) struct Filter {
    /// Whether a file of this name is searched, or not; the last that matches counts.
    files: Vec<(bool, Vec<u8>)>,
    /// Directories that are not searched.
    directories: Vec<Vec<u8>>,
}

impl Filter {
    /// # Errors
    /// A file of patterns cannot be read.
    pub(super) fn read(options: &Options) -> Result<Self, Stop> {
        let mut filter = Self::default();
        for (key, value) in options.given() {
            let bytes = value.as_bytes();
            match key {
                "include" | "exclude" => filter.files.push((key == "include", bytes.to_vec())),
                "exclude-dir" => {
                    let stripped =
                        bytes.iter().rposition(|byte| *byte != b'/').map_or(bytes, |last| &bytes[..=last]);
                    filter.directories.push(stripped.to_vec());
                }
                "exclude-from" => {
                    let text = std::fs::read(value)
                        .map_err(|error| Stop::new(TROUBLE, because(value.display(), &error)))?;
                    let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
                    filter.files.extend(lines.map(|line| (false, line.to_vec())));
                }
                _ => {}
            }
        }
        Ok(filter)
    }

    /// Whether a file of this name is left out. Of one on the command line, the part behind a slash may match, too.
    fn leaves_out(&self, name: &[u8], named: bool) -> bool {
        let last = self.files.iter().rev().find(|(_, pattern)| fits(pattern, name, named));
        match (last, self.files.first()) {
            (Some((include, _)), _) => !include,
            (None, Some((include, _))) => *include,
            (None, None) => false,
        }
    }

    fn leaves_out_directory(&self, name: &[u8], named: bool) -> bool {
        self.directories.iter().any(|pattern| fits(pattern, name, named))
    }
}

fn fits(pattern: &[u8], name: &[u8], named: bool) -> bool {
    let behind_slashes = name.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at + 1);
    matches(pattern, name)
        || (named && behind_slashes.into_iter().any(|start| matches(pattern, &name[start..])))
}

/// Searches everything that the command line names; the exit code.
///
/// # Errors
/// Standard output cannot be written.
pub(super) fn search(settings: &Settings, matcher: &Matcher) -> Result<i32, Stop> {
    let unwritten = |error: &io::Error| Stop::new(TROUBLE, because("write error", error));
    let printer = Printer::new(settings).map_err(|error| unwritten(&error))?;
    let output = fstat(io::stdout().as_fd()).ok();
    let mut walk = Walk {
        settings,
        matcher,
        searcher: Searcher::new(settings, matcher, printer),
        to_nowhere: output
            .as_ref()
            .is_some_and(|stat| is(stat, SFlag::S_IFCHR) && stat.st_rdev == nix::sys::stat::makedev(1, 3)),
        output: output.filter(|stat| is(stat, SFlag::S_IFREG)).map(|stat| (stat.st_dev, stat.st_ino)),
        found: false,
        trouble: false,
    };
    let ended = walk.all().and_then(|()| walk.searcher.printer.flush().map_err(End::Unwritten));
    match ended {
        Ok(()) => {}
        // Enough is known: what is left to write is nothing.
        Err(End::Found) => return Ok(0),
        Err(End::Unwritten(error)) => return Err(unwritten(&error)),
    }
    Ok(if walk.trouble { TROUBLE } else { i32::from(!walk.found) })
}

/// Why no more files are searched.
enum End {
    /// With `-q`, a line was selected.
    Found,
    Unwritten(io::Error),
}

struct Walk<'a> {
    settings: &'a Settings,
    matcher: &'a Matcher,
    searcher: Searcher<'a>,
    /// Standard output is the null device: of a file, the first selected line is enough.
    to_nowhere: bool,
    /// The file that standard output is.
    output: Option<(u64, u64)>,
    found: bool,
    trouble: bool,
}

/// A directory that is being walked.
struct Level {
    directory: Option<OwnedFd>,
    identity: (u64, u64),
    /// What is still to be done, the last first.
    entries: Vec<(CString, Option<Type>)>,
    /// How long the path to it is.
    path: usize,
}

fn is(stat: &FileStat, kind: SFlag) -> bool {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == kind
}

fn identity(stat: &FileStat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

impl Walk<'_> {
    fn all(&mut self) -> Result<(), End> {
        let settings = self.settings;
        let many = settings.files.len() > 1;
        if settings.files.is_empty() && settings.directories == Directories::Recurse {
            return self.tree(OsStr::new("."), Vec::new());
        }
        let stdin = [OsString::from("-")];
        let files = if settings.files.is_empty() { &stdin[..] } else { &settings.files[..] };
        for file in files {
            self.named(file, settings.names.unwrap_or(many))?;
        }
        Ok(())
    }

    /// Tells of a file that cannot be searched.
    fn complain(&mut self, name: &[u8], error: &io::Error) {
        self.trouble = true;
        if !self.settings.silent {
            complain("grep", &because(String::from_utf8_lossy(name), error));
        }
    }

    /// A file that the command line names.
    fn named(&mut self, name: &OsStr, with_name: bool) -> Result<(), End> {
        let settings = self.settings;
        if name == "-" {
            return match io::stdin().as_fd().try_clone_to_owned() {
                Ok(stdin) => self.file(File::from(stdin), settings.label.as_bytes(), with_name, true),
                Err(error) => {
                    self.complain(settings.label.as_bytes(), &error);
                    Ok(())
                }
            };
        }
        let bytes = name.as_bytes();
        let stat = match nix::sys::stat::stat(name) {
            Ok(stat) => stat,
            Err(error) => {
                self.complain(bytes, &error.into());
                return Ok(());
            }
        };
        if is(&stat, SFlag::S_IFDIR) {
            return match settings.directories {
                Directories::Skip => Ok(()),
                Directories::Read => {
                    self.complain(bytes, &io::Error::from(nix::errno::Errno::EISDIR));
                    Ok(())
                }
                Directories::Recurse if settings.filter.leaves_out_directory(bytes, true) => Ok(()),
                Directories::Recurse => self.tree(name, bytes.to_vec()),
            };
        }
        let regular = is(&stat, SFlag::S_IFREG);
        if settings.filter.leaves_out(bytes, true) || (!regular && settings.devices == Devices::Skip) {
            return Ok(());
        }
        match File::open(name) {
            Ok(file) => self.file(file, bytes, with_name, false),
            Err(error) => {
                self.complain(bytes, &error);
                Ok(())
            }
        }
    }

    /// Searches a file and says what is to be said of it.
    fn file(&mut self, mut file: File, name: &[u8], with_name: bool, stdin: bool) -> Result<(), End> {
        let settings = self.settings;
        let stat = fstat(&file).ok();
        let is_output = stat.as_ref().map(identity).is_some_and(|this| self.output == Some(this));
        if is_output && !stdin && settings.report == Report::Lines {
            self.trouble = true;
            complain(
                "grep",
                &format_args!("{}: input file is also the output", String::from_utf8_lossy(name)),
            );
            return Ok(());
        }
        self.searcher.printer.name = with_name.then(|| name.to_vec());
        self.searcher.printer.width = match stat {
            Some(stat) if settings.tab && is(&stat, SFlag::S_IFREG) => stat.st_size.to_string().len(),
            _ if settings.tab => 19,
            _ => 0,
        };
        // A pipe has no place to go back to.
        let start = if stdin { file.stream_position().ok() } else { None };
        let outcome = match self.searcher.file(&mut file, self.to_nowhere) {
            Ok(outcome) => outcome,
            Err(Failure::Read(error)) => {
                self.complain(name, &error);
                return Ok(());
            }
            Err(Failure::Write(error)) => return Err(End::Unwritten(error)),
        };
        if let Some(why) = self.matcher.failure() {
            self.complain(name, &io::Error::other(why));
        }
        if let Some((start, rest)) = start.zip(outcome.rest)
            && let Err(error) = file.seek(SeekFrom::Start(start + rest))
        {
            self.complain(name, &error);
        }
        self.tell(name, outcome.selected, outcome.binary).map_err(End::Unwritten)?;
        self.found |= outcome.selected > 0;
        if settings.report == Report::Nothing && self.found { Err(End::Found) } else { Ok(()) }
    }

    /// What is said of a file as a whole.
    fn tell(&mut self, name: &[u8], selected: u64, binary: bool) -> io::Result<()> {
        let printer = &mut self.searcher.printer;
        match self.settings.report {
            Report::Count => printer.count(selected),
            Report::Matching if selected > 0 => printer.name_alone(name),
            Report::NotMatching if selected == 0 => printer.name_alone(name),
            Report::Lines if binary => {
                printer.flush()?;
                complain("grep", &format_args!("{}: binary file matches", String::from_utf8_lossy(name)));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Searches a directory and all below it; `path` is what its files' names begin with.
    fn tree(&mut self, name: &OsStr, mut path: Vec<u8>) -> Result<(), End> {
        let top =
            nix::fcntl::open(name, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty());
        let top = top.and_then(|directory| Level::new(directory, path.len()));
        let mut levels = match top {
            Ok(top) => vec![top],
            Err(error) => {
                self.complain(name.as_bytes(), &error.into());
                return Ok(());
            }
        };
        while let Some(level) = levels.last_mut() {
            path.truncate(level.path);
            let Some((name, kind)) = level.entries.pop() else {
                let done = levels.pop();
                if let Some((level, done)) = levels.last_mut().zip(done)
                    && let Err(error) = level.reopen(&done)
                {
                    path.truncate(level.path);
                    self.complain(&path, &error);
                    // There is no way back to what is above.
                    return Ok(());
                }
                continue;
            };
            if !path.is_empty() && !path.ends_with(b"/") {
                path.push(b'/');
            }
            path.extend_from_slice(name.as_bytes());
            match self.entry(&levels, &name, kind, &path) {
                Ok(Some(level)) => {
                    levels.push(level);
                    if let Some(far) = levels.len().checked_sub(OPEN_MAX) {
                        levels[far].directory = None;
                    }
                }
                Ok(None) => {}
                Err(EntryEnd::End(end)) => return Err(end),
                Err(EntryEnd::Failed(error)) => self.complain(&path, &error.into()),
            }
        }
        Ok(())
    }

    /// Searches an entry of a directory; a directory that is to be walked is returned.
    fn entry(
        &mut self,
        levels: &[Level],
        name: &CString,
        kind: Option<Type>,
        path: &[u8],
    ) -> Result<Option<Level>, EntryEnd> {
        let settings = self.settings;
        let Some(directory) = levels.last().and_then(|level| level.directory.as_ref()) else {
            return Ok(None);
        };
        let kind = match kind {
            Some(Type::Symlink) if !settings.follow => return Ok(None),
            Some(kind) if kind != Type::Symlink => kind,
            _ => {
                let flag = if settings.follow { AtFlags::empty() } else { AtFlags::AT_SYMLINK_NOFOLLOW };
                kind_of(&fstatat(directory, name.as_c_str(), flag)?)
            }
        };
        let follow = if settings.follow { OFlag::empty() } else { OFlag::O_NOFOLLOW };
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOCTTY | follow;
        if kind == Type::Directory {
            if settings.filter.leaves_out_directory(name.as_bytes(), false) {
                return Ok(None);
            }
            let level = openat(directory, name.as_c_str(), flags | OFlag::O_DIRECTORY, Mode::empty())?;
            let level = Level::new(level, path.len())?;
            if levels.iter().any(|above| above.identity == level.identity) {
                let shown = String::from_utf8_lossy(path);
                complain("grep", &format_args!("{shown}: warning: recursive directory loop"));
                return Ok(None);
            }
            return Ok(Some(level));
        }
        let device = kind != Type::File;
        if settings.filter.leaves_out(name.as_bytes(), false) || (device && settings.devices != Devices::Read)
        {
            return Ok(None);
        }
        let file = openat(directory, name.as_c_str(), flags, Mode::empty())?;
        self.file(File::from(file), path, settings.names.unwrap_or(true), false)?;
        Ok(None)
    }
}

/// Why an entry was not searched.
enum EntryEnd {
    End(End),
    Failed(nix::errno::Errno),
}

impl From<End> for EntryEnd {
    fn from(end: End) -> Self {
        Self::End(end)
    }
}

impl From<nix::errno::Errno> for EntryEnd {
    fn from(error: nix::errno::Errno) -> Self {
        Self::Failed(error)
    }
}

fn kind_of(stat: &FileStat) -> Type {
    match SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT {
        SFlag::S_IFREG => Type::File,
        SFlag::S_IFDIR => Type::Directory,
        SFlag::S_IFLNK => Type::Symlink,
        _ => Type::CharacterDevice,
    }
}

impl Level {
    fn new(directory: OwnedFd, path: usize) -> nix::Result<Self> {
        let identity = identity(&fstat(&directory)?);
        let copy = directory
            .try_clone()
            .map_err(|error| nix::errno::Errno::from_raw(error.raw_os_error().unwrap_or_default()))?;
        let mut entries = Vec::new();
        for entry in Dir::from_fd(copy)? {
            let entry = entry?;
            if ![&b"."[..], b".."].contains(&entry.file_name().to_bytes()) {
                entries.push((entry.file_name().to_owned(), entry.file_type()));
            }
        }
        entries.reverse();
        Ok(Self { directory: Some(directory), identity, entries, path })
    }

    /// Opens the directory again from one in it, if it had been closed.
    fn reopen(&mut self, below: &Self) -> io::Result<()> {
        let (None, Some(below)) = (&self.directory, &below.directory) else { return Ok(()) };
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let directory = openat(below, "..", flags, Mode::empty())?;
        if identity(&fstat(&directory)?) != self.identity {
            return Err(io::Error::other("the way back out of it leads elsewhere"));
        }
        self.directory = Some(directory);
        Ok(())
    }
}
