//! `unzip`: listing and unpacking zip archives.

use super::bound::{LIMIT_HELP, Limit};
use super::extract::{Kind, Member, Policy, PutError, Target, copy, shown};
use super::pattern::matches;
use crate::output::{complain, help_or_version};
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use lexopt::{Arg, Parser, ValueExt};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use zip::ZipArchive;
use zip::read::ZipFile;

const HELP: &str = "\
Usage: unzip [OPTION]... ARCHIVE [PATTERN]... [-x PATTERN]...
Unpack a zip archive, or what matches a PATTERN of it. Files that exist are left alone without -o.

  -l    list it
  -t    test it
  -p    to standard output
  -d DIRECTORY
        unpack there; it is made
  -j    without directories
  -n    never replace files
  -o    replace files
  -q    say less
  -x PATTERN
        not what matches

Nothing is ever unpacked outside of the directory, whatever the archive says.
";

/// Info-ZIP's codes: something is wrong with the archive; it cannot be used; nothing matched.
const DAMAGED: i32 = 2;
const UNUSABLE: i32 = 9;
const NOTHING: i32 = 11;
/// What a link of the archive may say.
const LINK_BYTES: u64 = 4096;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Mode {
    #[default]
    Unpack,
    List,
    Test,
    Print,
}

#[derive(Debug, Default)]
struct Options {
    mode: Mode,
    directory: Option<PathBuf>,
    flat: bool,
    replace: bool,
    quiet: bool,
    limit: Limit,
    archive: PathBuf,
    patterns: Vec<OsString>,
    excluded: Vec<OsString>,
}

pub(crate) fn unzip(arguments: Vec<OsString>) -> i32 {
    if let Some(code) = help_or_version(&arguments, "unzip", &format!("{HELP}\n{LIMIT_HELP}")) {
        return code;
    }
    let outcome = match parse(arguments) {
        Ok(options) => run(&options),
        Err(error) => Err((10, format!("{error}; unzip --help lists the options"))),
    };
    outcome.unwrap_or_else(|(code, message)| {
        complain("unzip", &message);
        code
    })
}

fn parse(arguments: Vec<OsString>) -> Result<Options, lexopt::Error> {
    let mut options = Options::default();
    let mut parser = Parser::from_args(arguments.into_iter().skip(1));
    let mut archive = None;
    let mut excluding = false;
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Short('l') => options.mode = Mode::List,
            Arg::Short('t') => options.mode = Mode::Test,
            Arg::Short('p') => options.mode = Mode::Print,
            Arg::Short('d') => options.directory = Some(parser.value()?.into()),
            Arg::Short('j') => options.flat = true,
            Arg::Short('n') => options.replace = false,
            Arg::Short('o') => options.replace = true,
            Arg::Short('q') => options.quiet = true,
            Arg::Short('x') => excluding = true,
            Arg::Long("limit") => {
                let text = parser.value()?.string()?;
                options.limit =
                    Limit::parse(&text).ok_or_else(|| format!("--limit={text}: no number of bytes"))?;
            }
            Arg::Value(value) if archive.is_none() => archive = Some(value.into()),
            Arg::Value(pattern) if excluding => options.excluded.push(pattern),
            Arg::Value(pattern) => options.patterns.push(pattern),
            other => return Err(other.unexpected()),
        }
    }
    options.archive = archive.ok_or("no archive is named")?;
    Ok(options)
}

type Failure = (i32, String);

fn run(options: &Options) -> Result<i32, Failure> {
    let name = options.archive.display();
    let open = |error: io::Error| (UNUSABLE, format!("{name}: {error}"));
    let file = match File::open(&options.archive) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut other = options.archive.clone().into_os_string();
            other.push(".zip");
            File::open(other).map_err(|_| open(error))?
        }
        other => other.map_err(open)?,
    };
    let length = file.metadata().map_err(open)?.len();
    let mut archive =
        ZipArchive::new(BufReader::new(file)).map_err(|error| (UNUSABLE, format!("{name}: {error}")))?;
    if options.mode == Mode::List {
        return list(options, &mut archive);
    }
    if let Some(directory) = &options.directory
        && options.mode == Mode::Unpack
    {
        std::fs::create_dir_all(directory)
            .and_then(|()| std::env::set_current_dir(directory))
            .map_err(|error| (UNUSABLE, format!("{}: {error}", directory.display())))?;
    }
    let policy = Policy { permissions: false, owner: false, touch: false, keep_old: !options.replace };
    let here = |error: io::Error| (UNUSABLE, format!("the working directory: {error}"));
    let mut unpacker = Unpacker {
        options,
        target: Target::here(policy).map_err(here)?,
        out: BufWriter::new(io::stdout()),
        code: 0,
        done: 0,
        length,
        written: 0,
    };
    for index in 0..archive.len() {
        let raw = archive.by_index_raw(index).map_err(|error| (DAMAGED, format!("{name}: {error}")))?;
        let member_name = raw.name_raw().to_vec();
        drop(raw);
        if !chosen(options, &member_name) {
            continue;
        }
        unpacker.done += 1;
        match archive.by_index(index) {
            Ok(file) => {
                unpacker.file(file).map_err(|error| (DAMAGED, format!("standard output: {error}")))?
            }
            Err(error) => unpacker.failed(&member_name, &error),
        }
    }
    unpacker.finish()
}

fn chosen(options: &Options, name: &[u8]) -> bool {
    let any = |patterns: &[OsString]| patterns.iter().any(|pattern| matches(pattern.as_bytes(), name));
    (options.patterns.is_empty() || any(&options.patterns)) && !any(&options.excluded)
}

fn list(options: &Options, archive: &mut ZipArchive<BufReader<File>>) -> Result<i32, Failure> {
    let mut text = format!("Archive:  {}\n", options.archive.display());
    if options.quiet {
        text.clear();
    }
    text.push_str("  Length      Date    Time    Name\n---------  ---------- -----   ----\n");
    let (mut total, mut count) = (0_u64, 0);
    for index in 0..archive.len() {
        let file = archive.by_index_raw(index).map_err(|error| (DAMAGED, error.to_string()))?;
        if !chosen(options, file.name_raw()) {
            continue;
        }
        let time =
            moment(&file).map_or_else(|| " ".repeat(16), |time| time.strftime("%Y-%m-%d %H:%M").to_string());
        text.push_str(&format!("{:>9}  {time}   {}\n", file.size(), shown(file.name_raw())));
        total = total.saturating_add(file.size());
        count += 1;
    }
    let files = if count == 1 { "file" } else { "files" };
    text.push_str(&format!(
        "---------                     -------\n{total:>9}                     {count} {files}\n"
    ));
    io::stdout()
        .write_all(text.as_bytes())
        .map_err(|error| (DAMAGED, format!("standard output: {error}")))?;
    Ok(if count == 0 { NOTHING } else { 0 })
}

/// When a member was changed, in the time of wherever it was packed.
fn moment<R: Read>(file: &ZipFile<'_, R>) -> Option<DateTime> {
    let said = file.last_modified()?;
    let small = |number: u8| i8::try_from(number).ok();
    let (year, month, day) = (i16::try_from(said.year()).ok()?, small(said.month())?, small(said.day())?);
    DateTime::new(year, month, day, small(said.hour())?, small(said.minute())?, small(said.second())?, 0).ok()
}

struct Unpacker<'o> {
    options: &'o Options,
    target: Target,
    out: BufWriter<io::Stdout>,
    code: i32,
    done: usize,
    /// Bytes of the archive, and of what came out of it.
    length: u64,
    written: u64,
}

impl Unpacker<'_> {
    fn failed(&mut self, name: &[u8], error: &dyn std::fmt::Display) {
        complain("unzip", &format_args!("{}: {error}", shown(name)));
        self.code = DAMAGED;
    }

    /// A member; an error is one of standard output.
    fn file<R: Read>(&mut self, mut file: ZipFile<'_, R>) -> io::Result<()> {
        let name = file.name_raw().to_vec();
        let (size, is_file) = (file.size(), file.is_file());
        let mut member = member(&file);
        // Members can share the same packed bytes, so all of them together are held against the archive's length. No
        // more is read of each than it says.
        self.written = self.written.saturating_add(size);
        if !self.options.limit.allows(self.length, self.written) {
            self.failed(&name, &"unpacks to more than the limit; --limit=BYTES or --limit=none raises it");
            return Ok(());
        }
        let body: &mut dyn Read = &mut file;
        match self.options.mode {
            Mode::Test | Mode::Print if !is_file => return Ok(()),
            Mode::Test => {
                let done = copy(body, &mut io::sink(), size).and_then(|()| end(body));
                return self.told(&name, "testing", done);
            }
            Mode::Print => {
                let done = copy(body, &mut self.out, size).and_then(|()| end(body));
                match done {
                    Err(PutError::Write(error)) => return Err(error),
                    Err(error) => self.failed(&name, &error),
                    Ok(()) => {}
                }
                return Ok(());
            }
            Mode::Unpack | Mode::List => {}
        }
        if self.options.flat {
            if member.kind == Kind::Directory {
                return Ok(());
            }
            member.name = name.rsplit(|&b| b == b'/').next().unwrap_or_default().to_vec();
        }
        if let Kind::Symlink(to) = &mut member.kind {
            let mut said = Vec::new();
            if let Err(error) = body.take(LINK_BYTES).read_to_end(&mut said) {
                self.failed(&name, &error);
                return Ok(());
            }
            *to = said;
            let put = self.target.put(&member, &mut io::empty());
            return self.told(&name, "linking", put);
        }
        let put = self.target.put(&member, body).and_then(|()| end(body));
        let what = if member.kind == Kind::Directory { "creating" } else { "inflating" };
        self.told(&name, what, put)
    }

    fn told(&mut self, name: &[u8], what: &str, result: Result<(), PutError>) -> io::Result<()> {
        match result {
            Err(PutError::Exists) => {
                complain("unzip", &format_args!("{}: exists and is kept; -o replaces it", shown(name)));
                self.code = self.code.max(1);
                Ok(())
            }
            Err(error) => {
                self.failed(name, &error);
                Ok(())
            }
            Ok(()) if self.options.quiet => Ok(()),
            Ok(()) => writeln!(self.out, "{what:>11}: {}", shown(name)),
        }
    }

    fn finish(mut self) -> Result<i32, Failure> {
        self.out.flush().map_err(|error| (DAMAGED, format!("standard output: {error}")))?;
        for (name, error) in self.target.finish() {
            complain("unzip", &format_args!("{name}: {error}"));
            self.code = DAMAGED;
        }
        if self.done == 0 {
            return Err((
                NOTHING,
                format!("{}: nothing in it was asked for", self.options.archive.display()),
            ));
        }
        Ok(self.code)
    }
}

/// Nothing may follow; reading so far checks the checksum too.
fn end(body: &mut dyn Read) -> Result<(), PutError> {
    match body.read(&mut [0]) {
        Ok(0) => Ok(()),
        Ok(_) => {
            Err(PutError::Read(io::Error::new(io::ErrorKind::InvalidData, "has more bytes than it says")))
        }
        Err(error) => Err(PutError::Read(error)),
    }
}

fn member<R: Read>(file: &ZipFile<'_, R>) -> Member {
    let kind = if file.is_dir() {
        Kind::Directory
    } else if file.is_symlink() {
        Kind::Symlink(Vec::new())
    } else {
        Kind::File
    };
    let plain = if kind == Kind::Directory { 0o755 } else { 0o644 };
    let local = moment(file).and_then(|time| time.to_zoned(TimeZone::system()).ok());
    Member {
        name: file.name_raw().to_vec(),
        mode: file.unix_mode().map(|mode| mode & 0o777).filter(|mode| *mode != 0).unwrap_or(plain),
        mtime: local.map_or(0, |time| time.timestamp().as_second()),
        owner: (0, 0),
        size: file.size(),
        kind,
    }
}
