//! `cpio`: archives in the format of the kernel's initial file systems (newc).

use super::extract::{Kind, Member, Policy, PutError, Target, copy, shown};
use super::pattern::matches;
use crate::output::{complain, help_or_version};
use lexopt::{Arg, Parser, ValueExt};
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata};
use std::io::{self, BufReader, BufWriter, ErrorKind, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

const HELP: &str = "\
Usage: cpio -o [OPTION]... < NAMES > ARCHIVE
       cpio -i [OPTION]... [PATTERN]... < ARCHIVE
       cpio -t [OPTION]... [PATTERN]... < ARCHIVE
Keep files in an archive of the newc format, and get them back.

  -o, --create          write an archive of the files whose names come on standard input
  -i, --extract         unpack files, or those that match a PATTERN
  -t, --list            list them
  -H FORMAT             newc, the only one
  -F FILE               the archive, in place of standard input or output
  -D DIRECTORY          go there first
  -0, --null            names end with NUL
  -d, --make-directories
                        directories that are missing are made, which they are anyway
  -m, --preserve-modification-time
  -u, --unconditional   replace files that are newer, which is done anyway
  -v, --verbose         list what is done
  -L, --dereference     what links lead to, in place of links
  -R, --owner=USER:GROUP
                        numbers of whom everything is to be in the archive
      --quiet           do not say how many blocks there were

Nothing is ever extracted outside of the directory, whatever the archive says.
";

/// GNU's code for trouble.
const TROUBLE: i32 = 2;
const HEADER: usize = 110;
const TRAILER: &[u8] = b"TRAILER!!!";
/// What names and links may have; the kernel takes no longer ones.
const NAME_BYTES: u32 = 4096;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Create,
    Extract,
    List,
}

#[derive(Debug, Default)]
struct Options {
    mode: Option<Mode>,
    file: Option<PathBuf>,
    directory: Option<PathBuf>,
    null: bool,
    times: bool,
    verbose: bool,
    dereference: bool,
    owner: Option<(u32, u32)>,
    quiet: bool,
    patterns: Vec<OsString>,
}

pub(crate) fn cpio(arguments: Vec<OsString>) -> i32 {
    if let Some(code) = help_or_version(&arguments, "cpio", HELP) {
        return code;
    }
    let outcome = parse(arguments)
        .map_err(|error| format!("{error}; cpio --help lists the options"))
        .and_then(|options| match options.mode {
            Some(Mode::Create) => create(&options),
            Some(_) => unpack(&options),
            None => Err("one of -o, -i, -t must be given".into()),
        });
    outcome.unwrap_or_else(|message| {
        complain("cpio", &message);
        TROUBLE
    })
}

fn parse(arguments: Vec<OsString>) -> Result<Options, lexopt::Error> {
    let mut options = Options::default();
    let mut parser = Parser::from_args(arguments.into_iter().skip(1));
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Short('o') | Arg::Long("create") => options.mode = Some(Mode::Create),
            Arg::Short('i') | Arg::Long("extract") => options.mode = options.mode.or(Some(Mode::Extract)),
            Arg::Short('t') | Arg::Long("list") => options.mode = Some(Mode::List),
            Arg::Short('H') | Arg::Long("format") => {
                let format = parser.value()?.string()?;
                if format != "newc" {
                    return Err(format!("-H {format}: newc is the only format").into());
                }
            }
            Arg::Short('F') | Arg::Long("file") => options.file = Some(parser.value()?.into()),
            Arg::Short('D') | Arg::Long("directory") => options.directory = Some(parser.value()?.into()),
            Arg::Short('0') | Arg::Long("null") => options.null = true,
            Arg::Short('d' | 'u') | Arg::Long("make-directories" | "unconditional") => {}
            Arg::Long("no-absolute-filenames" | "reproducible") => {}
            Arg::Short('m') | Arg::Long("preserve-modification-time") => options.times = true,
            Arg::Short('v') | Arg::Long("verbose") => options.verbose = true,
            Arg::Short('L') | Arg::Long("dereference") => options.dereference = true,
            Arg::Long("quiet") => options.quiet = true,
            Arg::Short('R') | Arg::Long("owner") => {
                let text = parser.value()?.string()?;
                options.owner = Some(owner(&text).ok_or_else(|| format!("-R {text}: not NUMBER:NUMBER"))?);
            }
            Arg::Value(pattern) => options.patterns.push(pattern),
            other => return Err(other.unexpected()),
        }
    }
    Ok(options)
}

/// `root` and numbers: an archive is for another machine, whose names are not known here.
fn owner(text: &str) -> Option<(u32, u32)> {
    let number = |text: &str| {
        if text == "root" || text == "+0" { Some(0) } else { text.trim_start_matches('+').parse().ok() }
    };
    match text.split_once([':', '.']) {
        Some((user, "")) => number(user).map(|user| (user, user)),
        Some((user, group)) => Some((number(user)?, number(group)?)),
        None => number(text).map(|user| (user, user)),
    }
}

fn create(options: &Options) -> Result<i32, String> {
    let failed = |error: io::Error| format!("cannot write the archive: {error}");
    let sink: Box<dyn Write> = match &options.file {
        Some(path) => Box::new(File::create(path).map_err(failed)?),
        None => Box::new(io::stdout()),
    };
    let mut names = Vec::new();
    io::stdin().read_to_end(&mut names).map_err(|error| format!("standard input: {error}"))?;
    go(options)?;
    let mut writer = Writer { sink: BufWriter::new(sink), written: 0, inodes: HashMap::new() };
    let mut code = 0;
    let end = if options.null { 0 } else { b'\n' };
    for name in names.split(|&b| b == end).filter(|name| !name.is_empty()) {
        let path = Path::new(OsStr::from_bytes(name));
        let found = if options.dereference { fs::metadata(path) } else { fs::symlink_metadata(path) };
        match found.and_then(|metadata| Ok((read(path, &metadata)?, metadata))) {
            Ok((body, metadata)) => writer.entry(name, &metadata, options.owner, body).map_err(failed)?,
            Err(error) => {
                complain("cpio", &format_args!("{}: {error}", shown(name)));
                code = TROUBLE;
                continue;
            }
        }
        if options.verbose {
            complain_plain(&shown(name));
        }
    }
    let blocks = writer.finish().map_err(failed)?;
    told(options, blocks);
    Ok(code)
}

fn complain_plain(line: &str) {
    // Nothing is left to tell it to when standard error itself is gone.
    let _ = writeln!(io::stderr(), "{line}");
}

fn told(options: &Options, blocks: u64) {
    if !options.quiet {
        complain_plain(&format!("{blocks} block{}", if blocks == 1 { "" } else { "s" }));
    }
}

fn go(options: &Options) -> Result<(), String> {
    let Some(directory) = &options.directory else { return Ok(()) };
    std::env::set_current_dir(directory).map_err(|error| format!("{}: {error}", directory.display()))
}

/// What follows a header.
enum Body {
    Nothing,
    Bytes(Vec<u8>),
    File(File, u64),
}

fn read(path: &Path, metadata: &Metadata) -> io::Result<Body> {
    if metadata.is_symlink() {
        return Ok(Body::Bytes(fs::read_link(path)?.into_os_string().into_encoded_bytes()));
    }
    if metadata.is_file() {
        return Ok(Body::File(File::open(path)?, metadata.len()));
    }
    Ok(Body::Nothing)
}

struct Writer<W> {
    sink: W,
    written: u64,
    /// Inode numbers of the archive, by device and inode.
    inodes: HashMap<(u64, u64), u32>,
}

impl<W: Write> Writer<W> {
    fn entry(&mut self, name: &[u8], of: &Metadata, owner: Option<(u32, u32)>, body: Body) -> io::Result<()> {
        let next = u32::try_from(self.inodes.len() + 1).map_err(io::Error::other)?;
        let known = self.inodes.contains_key(&(of.dev(), of.ino()));
        let inode = *self.inodes.entry((of.dev(), of.ino())).or_insert(next);
        // A file with several names has its bytes with the first: whoever unpacks takes them from any.
        let body = if known && of.is_file() { Body::Nothing } else { body };
        let size = match &body {
            Body::Nothing => 0,
            Body::Bytes(bytes) => bytes.len() as u64,
            Body::File(_, size) => *size,
        };
        let small = |number: u64, what: &str| {
            u32::try_from(number).map_err(|_| {
                io::Error::new(ErrorKind::InvalidInput, format!("{}: {what} too large for newc", shown(name)))
            })
        };
        let (user, group) = owner.unwrap_or((of.uid(), of.gid()));
        let device = of.rdev();
        let fields = [
            inode,
            of.mode(),
            user,
            group,
            small(of.nlink(), "number of links")?,
            u32::try_from(of.mtime()).unwrap_or(0),
            small(size, "file")?,
            0,
            0,
            small(nix::sys::stat::major(device), "device number")?,
            small(nix::sys::stat::minor(device), "device number")?,
        ];
        self.header(fields, name)?;
        match body {
            Body::Nothing => {}
            Body::Bytes(bytes) => self.bytes(&bytes)?,
            Body::File(mut file, size) => {
                copy(&mut file, &mut self.sink, size)
                    .map_err(|error| io::Error::other(format!("{}: {error}", shown(name))))?;
                self.written += size;
            }
        }
        self.pad()
    }

    fn header(&mut self, fields: [u32; 11], name: &[u8]) -> io::Result<()> {
        let length = u32::try_from(name.len() + 1).map_err(io::Error::other)?;
        let mut header = String::from("070701");
        for field in fields.into_iter().chain([length, 0]) {
            header.push_str(&format!("{field:08X}"));
        }
        self.bytes(header.as_bytes())?;
        self.bytes(name)?;
        self.bytes(&[0])?;
        self.pad()
    }

    fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.written += bytes.len() as u64;
        self.sink.write_all(bytes)
    }

    fn pad(&mut self) -> io::Result<()> {
        let missing = self.written.next_multiple_of(4) - self.written;
        self.bytes(&[0; 3][..usize::try_from(missing).unwrap_or(0)])
    }

    /// The end, and the number of blocks.
    fn finish(mut self) -> io::Result<u64> {
        self.header([0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0], TRAILER)?;
        let missing = self.written.next_multiple_of(512) - self.written;
        io::copy(&mut io::repeat(0).take(missing), &mut self.sink)?;
        self.sink.flush()?;
        Ok((self.written + missing) / 512)
    }
}

/// A header that was read: what it is of, and what links names to one file.
struct Found {
    member: Member,
    inode: (u32, u32, u32),
    links: u32,
}

/// Reads headers and bodies, counting.
struct Reader<R> {
    source: R,
    read: u64,
}

impl<R: Read> Read for Reader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        self.read += count as u64;
        Ok(count)
    }
}

impl<R: Read> Reader<R> {
    fn pad(&mut self) -> io::Result<()> {
        let missing = usize::try_from(self.read.next_multiple_of(4) - self.read).unwrap_or(0);
        self.read_exact(&mut [0; 3][..missing])
    }

    /// The next member; `None` at the end.
    fn next(&mut self) -> io::Result<Option<Found>> {
        let wrong =
            |at: u64, why: &str| io::Error::new(ErrorKind::InvalidData, format!("at byte {at}: {why}"));
        let at = self.read;
        let mut header = [0; HEADER];
        self.read_exact(&mut header)?;
        if !matches!(&header[..6], b"070701" | b"070702") {
            return Err(wrong(at, "no header of the newc format"));
        }
        let mut fields = [0; 13];
        for (field, text) in fields.iter_mut().zip(header[6..].chunks(8)) {
            let digits =
                std::str::from_utf8(text).ok().filter(|text| text.bytes().all(|b| b.is_ascii_hexdigit()));
            let number = digits.and_then(|text| u32::from_str_radix(text, 16).ok());
            *field = number.ok_or_else(|| wrong(at, "a field that is no number"))?;
        }
        let [inode, mode, user, group, links, mtime, size, major, minor, dev_major, dev_minor, length, _] =
            fields;
        if length == 0 || length > NAME_BYTES {
            return Err(wrong(at, "a name without bytes, or with more than 4096"));
        }
        let mut name = vec![0; length as usize];
        self.read_exact(&mut name)?;
        self.pad()?;
        name.pop();
        if name == TRAILER {
            return Ok(None);
        }
        let kind = match mode & 0o170_000 {
            0o040_000 => Kind::Directory,
            0o100_000 => Kind::File,
            0o120_000 if size > NAME_BYTES => return Err(wrong(at, "a link of more than 4096 bytes")),
            0o120_000 => {
                let mut to = vec![0; size as usize];
                self.read_exact(&mut to)?;
                Kind::Symlink(to)
            }
            0o010_000 => Kind::Fifo,
            0o060_000 => Kind::Device { block: true, major: dev_major, minor: dev_minor },
            0o020_000 => Kind::Device { block: false, major: dev_major, minor: dev_minor },
            _ => return Err(wrong(at, "a member of a kind that is not known")),
        };
        let owner = (user, group);
        let size = if matches!(kind, Kind::Symlink(_)) { 0 } else { size.into() };
        let member = Member { name, kind, mode, mtime: mtime.into(), owner, size };
        Ok(Some(Found { member, inode: (inode, major, minor), links }))
    }
}

fn unpack(options: &Options) -> Result<i32, String> {
    let source: Box<dyn Read> = match &options.file {
        Some(path) => Box::new(File::open(path).map_err(|error| format!("{}: {error}", path.display()))?),
        None => Box::new(io::stdin()),
    };
    go(options)?;
    let root = nix::unistd::geteuid().is_root();
    let policy = Policy { permissions: root, owner: root, touch: !options.times, keep_old: false };
    let mut target = Target::here(policy).map_err(|error| format!("the working directory: {error}"))?;
    let mut reader = Reader { source: BufReader::with_capacity(64 * 1024, source), read: 0 };
    let mut links = Links::default();
    let mut out = BufWriter::new(io::stdout());
    let mut code = 0;
    let damaged = |error: io::Error| format!("the archive: {error}");
    while let Some(found) = reader.next().map_err(damaged)? {
        let name = found.member.name.clone();
        let size = found.member.size;
        let end = reader.read + size;
        if chosen(options, &name) {
            if options.mode == Some(Mode::List) {
                writeln!(out, "{}", shown(&name)).map_err(|error| format!("standard output: {error}"))?;
            } else {
                match links.put(&mut target, found, &mut (&mut reader).take(size)) {
                    Ok(()) if options.verbose => complain_plain(&shown(&name)),
                    Ok(()) => {}
                    Err(PutError::Read(error)) => return Err(damaged(error)),
                    Err(error) => {
                        complain("cpio", &format_args!("{}: {error}", shown(&name)));
                        code = TROUBLE;
                    }
                }
            }
        }
        let rest = end - reader.read;
        if io::copy(&mut (&mut reader).take(rest), &mut io::sink()).map_err(damaged)? < rest {
            return Err(damaged(ErrorKind::UnexpectedEof.into()));
        }
        reader.pad().map_err(damaged)?;
    }
    out.flush().map_err(|error| format!("standard output: {error}"))?;
    for (name, error) in target.finish() {
        complain("cpio", &format_args!("{name}: {error}"));
        code = TROUBLE;
    }
    told(options, reader.read.div_ceil(512));
    Ok(code)
}

fn chosen(options: &Options, name: &[u8]) -> bool {
    options.patterns.is_empty() || options.patterns.iter().any(|pattern| matches(pattern.as_bytes(), name))
}

/// The names of one file with several: its bytes come with any of them, mostly the last.
#[derive(Default)]
struct Links {
    /// By inode and device.
    files: HashMap<(u32, u32, u32), Names>,
}

enum Names {
    /// These are empty until the bytes come.
    Empty(Vec<Vec<u8>>),
    /// This one has the bytes.
    Filled(Vec<u8>),
}

impl Links {
    fn put(&mut self, target: &mut Target, found: Found, body: &mut dyn Read) -> Result<(), PutError> {
        let Found { mut member, inode, links } = found;
        if member.kind != Kind::File || links < 2 {
            return target.put(&member, body);
        }
        let name = member.name.clone();
        let names = self.files.entry(inode).or_insert_with(|| Names::Empty(Vec::new()));
        match names {
            Names::Filled(first) => {
                member.kind = Kind::Hardlink(first.clone());
                target.put(&member, &mut io::empty())
            }
            Names::Empty(waiting) if member.size == 0 => {
                if let Some(first) = waiting.first() {
                    member.kind = Kind::Hardlink(first.clone());
                }
                waiting.push(name);
                target.put(&member, &mut io::empty())
            }
            Names::Empty(waiting) => {
                let waiting = std::mem::take(waiting);
                target.put(&member, body)?;
                *names = Names::Filled(name.clone());
                for other in waiting {
                    (member.name, member.kind) = (other, Kind::Hardlink(name.clone()));
                    target.put(&member, &mut io::empty())?;
                }
                Ok(())
            }
        }
    }
}
