//! `gzip`, `bzip2`, `xz`, `zstd`, and the names under which each unpacks.

use super::bound::{LIMIT_HELP, Limit};
use super::codec::{Codec, Stamp};
use crate::output::{complain, help_or_version};
use lexopt::{Arg, Parser, ValueExt};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, FileTimes, Metadata, OpenOptions};
use std::io::{self, BufWriter, IsTerminal, Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

/// Something failed.
const FAILED: i32 = 1;
/// Something was left out that may matter (gzip's and xz's code for a warning).
const WARNING: i32 = 2;

macro_rules! names {
    ($($name:ident, $codec:ident, $unpack:literal, $to_stdout:literal;)*) => {
        $(pub(crate) fn $name(arguments: Vec<OsString>) -> i32 {
            run(stringify!($name), Codec::$codec, $unpack, $to_stdout, arguments)
        })*
    };
}

names! {
    gzip, Gzip, false, false;
    gunzip, Gzip, true, false;
    zcat, Gzip, true, true;
    bzip2, Bzip2, false, false;
    bunzip2, Bzip2, true, false;
    bzcat, Bzip2, true, true;
    xz, Xz, false, false;
    unxz, Xz, true, false;
    xzcat, Xz, true, true;
    zstd, Zstd, false, false;
    unzstd, Zstd, true, false;
    zstdcat, Zstd, true, true;
}

/// What the command line asked for.
#[derive(Debug, Clone)]
struct Request {
    codec: Codec,
    unpack: bool,
    to_stdout: bool,
    keep: bool,
    force: bool,
    quiet: bool,
    verbose: bool,
    test: bool,
    /// Whether gzip notes the file's name and time.
    stamped: bool,
    level: Option<u32>,
    suffix: Option<String>,
    /// zstd's `-o`.
    output: Option<PathBuf>,
    limit: Limit,
    files: Vec<OsString>,
}

fn help(name: &str, codec: Codec) -> String {
    let mut text = format!(
        "\
Usage: {name} [OPTION]... [FILE]...
Compress or decompress files; without FILE, or where it is -, standard input to standard output.

  -d, --decompress    decompress
  -z, --compress      compress
  -c, --stdout        write to standard output, keep the files
  -k, --keep          keep the files
  -f, --force         overwrite, and follow links
  -t, --test          say whether the files are whole
  -q, --quiet         no warnings
  -v, --verbose       say what was done
  -1 ... -9           quicker ... smaller
"
    );
    match codec {
        Codec::Gzip => text.push_str("  -n, --no-name       do not note the file's name and time\n  -S SUFFIX           use SUFFIX in place of .gz\n"),
        Codec::Zstd => text.push_str("  -o FILE             write to FILE\n      --rm            remove the files\n\nThere is one level of compression, that of zstd -1; files are kept.\n"),
        Codec::Bzip2 | Codec::Xz => {}
    }
    text + LIMIT_HELP
}

fn run(name: &str, codec: Codec, unpack: bool, to_stdout: bool, arguments: Vec<OsString>) -> i32 {
    if let Some(code) = help_or_version(&arguments, name, &help(name, codec)) {
        return code;
    }
    let request = Request {
        codec,
        unpack,
        to_stdout,
        keep: codec == Codec::Zstd,
        force: false,
        quiet: false,
        verbose: false,
        test: false,
        stamped: true,
        level: None,
        suffix: None,
        output: None,
        limit: Limit::default(),
        files: Vec::new(),
    };
    let request = match parse(request, arguments) {
        Ok(request) => request,
        Err(error) => {
            complain(name, &format_args!("{error}; {name} --help lists the options"));
            return FAILED;
        }
    };
    let mut code = 0;
    for file in &request.files {
        match one(&request, file) {
            Ok(Some(done)) if request.verbose => complain(name, &done),
            Ok(_) => {}
            Err(Failure::Warning(_)) if request.quiet => code = code.max(WARNING),
            Err(Failure::Warning(text)) => {
                complain(name, &text);
                // A failure outranks a warning.
                code = if code == FAILED { FAILED } else { WARNING };
            }
            Err(Failure::Error(text)) => {
                complain(name, &text);
                code = FAILED;
            }
        }
    }
    code
}

fn parse(mut request: Request, arguments: Vec<OsString>) -> Result<Request, lexopt::Error> {
    let mut parser = Parser::from_args(arguments.into_iter().skip(1));
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Short('d') | Arg::Long("decompress" | "uncompress") => request.unpack = true,
            Arg::Short('z') | Arg::Long("compress") => request.unpack = false,
            Arg::Short('c') | Arg::Long("stdout" | "to-stdout") => request.to_stdout = true,
            Arg::Short('k') | Arg::Long("keep") => request.keep = true,
            Arg::Long("rm") => request.keep = false,
            Arg::Short('f') | Arg::Long("force") => request.force = true,
            Arg::Short('q') | Arg::Long("quiet") => request.quiet = true,
            Arg::Short('v') | Arg::Long("verbose") => request.verbose = true,
            Arg::Short('t') | Arg::Long("test") => request.test = true,
            Arg::Short('n') | Arg::Long("no-name") => request.stamped = false,
            Arg::Short('N') | Arg::Long("name") => request.stamped = true,
            Arg::Long("fast") => request.level = Some(1),
            Arg::Long("best") => request.level = Some(9),
            // The number of threads, and small memory: no difference in what comes out.
            Arg::Short('s') | Arg::Long("small") if request.codec == Codec::Bzip2 => {}
            Arg::Short('T') | Arg::Long("threads") => drop(parser.value()?),
            Arg::Short('e') | Arg::Long("extreme") if request.codec == Codec::Xz => {}
            Arg::Short('S') | Arg::Long("suffix") => request.suffix = Some(parser.value()?.string()?),
            Arg::Short('o') if request.codec == Codec::Zstd => request.output = Some(parser.value()?.into()),
            Arg::Long("limit") => {
                let text = parser.value()?.string()?;
                request.limit =
                    Limit::parse(&text).ok_or_else(|| format!("--limit={text}: no number of bytes"))?;
            }
            Arg::Short(digit) if digit.is_ascii_digit() => {
                let level = request.level.unwrap_or(0) * 10 + digit.to_digit(10).unwrap_or(0);
                // zstd has levels up to 22.
                request.level = Some(level.min(9));
            }
            Arg::Value(file) => request.files.push(file),
            other => return Err(other.unexpected()),
        }
    }
    if request.files.is_empty() {
        request.files.push("-".into());
    }
    request.unpack |= request.test;
    Ok(request)
}

/// Why a file was not done.
#[derive(Debug)]
enum Failure {
    Warning(String),
    Error(String),
}

/// Does one file; what there is to say of it when somebody asked.
fn one(request: &Request, file: &OsStr) -> Result<Option<String>, Failure> {
    let shown = Path::new(file).display();
    let failed = |error: io::Error| Failure::Error(format!("{shown}: {error}"));
    if file == "-" {
        if !request.unpack && !request.force && request.output.is_none() && io::stdout().is_terminal() {
            return Err(Failure::Error("compressed data is not written to a terminal without -f".into()));
        }
        if let Some(output) = &request.output {
            return to_file(request, &mut io::stdin().lock(), None, output).map(|()| None);
        }
        to_stdout(request, &mut io::stdin().lock(), &Stamp::default()).map_err(failed)?;
        return Ok(None);
    }
    let (mut source, metadata) = open(request, file)?;
    if request.test || request.to_stdout {
        let stamp = stamp(request, file, &metadata);
        to_stdout(request, &mut source, &stamp).map_err(failed)?;
        return Ok(request.test.then(|| format!("{shown}: OK")));
    }
    let output = match &request.output {
        Some(output) => output.clone(),
        None => output_name(request, file)?,
    };
    to_file(request, &mut source, Some((file, &metadata)), &output)?;
    if !request.keep {
        fs::remove_file(file).map_err(failed)?;
    }
    Ok(Some(format!(
        "{shown}: {} {}",
        if request.keep { "created" } else { "replaced with" },
        output.display()
    )))
}

fn open(request: &Request, file: &OsStr) -> Result<(File, Metadata), Failure> {
    let shown = Path::new(file).display();
    let failed = |error: io::Error| Failure::Error(format!("{shown}: {error}"));
    let reads_only = request.to_stdout || request.test || request.force || request.output.is_some();
    let mut options = OpenOptions::new();
    options.read(true);
    if !reads_only {
        // The file would be replaced: through a link, something else would be.
        let link = fs::symlink_metadata(file).map_err(failed)?;
        if link.is_symlink() {
            return Err(Failure::Warning(format!("{shown}: a symbolic link; -f follows it")));
        }
        options.custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK);
    }
    let source = options.open(file).map_err(failed)?;
    let metadata = source.metadata().map_err(failed)?;
    if metadata.is_dir() {
        return Err(Failure::Warning(format!("{shown}: is a directory, ignored")));
    }
    if !reads_only && !metadata.is_file() {
        return Err(Failure::Warning(format!("{shown}: not a regular file, ignored")));
    }
    if !reads_only && !request.keep && metadata.nlink() > 1 {
        let others = metadata.nlink() - 1;
        return Err(Failure::Warning(format!(
            "{shown}: has {others} other link(s); -f replaces it nevertheless"
        )));
    }
    Ok((source, metadata))
}

fn stamp(request: &Request, file: &OsStr, metadata: &Metadata) -> Stamp {
    if !request.stamped {
        return Stamp::default();
    }
    let name = Path::new(file).file_name().map(|name| name.as_bytes().to_vec());
    Stamp { name, mtime: u32::try_from(metadata.mtime()).unwrap_or(0) }
}

/// The name of what a file becomes.
fn output_name(request: &Request, file: &OsStr) -> Result<PathBuf, Failure> {
    let bytes = file.as_bytes();
    let own = request.suffix.as_deref();
    let endings: Vec<(&str, &str)> =
        own.map(|suffix| (suffix, "")).into_iter().chain(request.codec.endings().iter().copied()).collect();
    let ending = endings.iter().find(|(end, _)| bytes.ends_with(end.as_bytes()) && bytes.len() > end.len());
    let shown = Path::new(file).display();
    match (request.unpack, ending) {
        (true, Some((end, instead))) => {
            let mut name = bytes[..bytes.len() - end.len()].to_vec();
            name.extend(instead.bytes());
            Ok(OsString::from_vec(name).into())
        }
        (true, None) => Err(Failure::Warning(format!("{shown}: unknown suffix, ignored"))),
        (false, Some((end, _))) if !request.force => {
            Err(Failure::Warning(format!("{shown} already has the suffix {end}, unchanged")))
        }
        (false, _) => {
            let mut name = file.to_owned();
            name.push(own.unwrap_or(request.codec.endings()[0].0));
            Ok(name.into())
        }
    }
}

/// Writes to a new file, which is removed again where that fails.
fn to_file(
    request: &Request,
    source: &mut dyn Read,
    from: Option<(&OsStr, &Metadata)>,
    output: &Path,
) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::Error(format!("{}: {error}", output.display()));
    let there = fs::symlink_metadata(output).ok().filter(|_| request.force);
    if let Some(there) = &there {
        if from.is_some_and(|(_, old)| (old.dev(), old.ino()) == (there.dev(), there.ino())) {
            return Err(failed(io::Error::other("is the input itself")));
        }
        // What is no file is written into: /dev/null stays what it is.
        if !there.is_file() && !there.is_symlink() {
            let mut sink = OpenOptions::new().write(true).open(output).map_err(failed)?;
            let stamp = from.map(|(name, metadata)| stamp(request, name, metadata)).unwrap_or_default();
            return convert(request, source, &mut sink, &stamp).map_err(failed);
        }
    }
    // What is overwritten is there until the new one is whole.
    let made = match &there {
        Some(_) => beside(output),
        None => output.to_owned(),
    };
    let file = match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&made) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let shown = output.display();
            return Err(Failure::Warning(format!("{shown} already exists; -f overwrites it")));
        }
        Err(error) => return Err(failed(error)),
    };
    let stamp = from.map(|(name, metadata)| stamp(request, name, metadata)).unwrap_or_default();
    let mut sink = BufWriter::with_capacity(64 * 1024, &file);
    let done = convert(request, source, &mut sink, &stamp).and_then(|()| sink.flush());
    drop(sink);
    let done = done.and_then(|()| dress(&file, from.map(|(_, metadata)| metadata)));
    match done.and_then(|()| if there.is_some() { fs::rename(&made, output) } else { Ok(()) }) {
        Ok(()) => Ok(()),
        Err(error) => {
            // The first failure is the one to tell.
            let _ = fs::remove_file(&made);
            let name = from.map_or(OsStr::new("standard input"), |(name, _)| name);
            Err(Failure::Error(format!("{}: {error}", name.display())))
        }
    }
}

/// A name in the same directory that nobody else takes.
fn beside(output: &Path) -> PathBuf {
    let name = output.file_name().unwrap_or_default().to_string_lossy();
    output.with_file_name(format!(".{name}.{}", std::process::id()))
}

/// Gives the new file the owner, permissions and times of the old one.
fn dress(file: &File, from: Option<&Metadata>) -> io::Result<()> {
    let Some(from) = from else { return file.set_permissions(fs::Permissions::from_mode(0o644)) };
    // Only root can give files away. Without the old group its permissions are not given to the new one either.
    let mode = match fchown(file, Some(from.uid()), Some(from.gid())) {
        Ok(()) => from.mode() & 0o7777,
        Err(_) => from.mode() & 0o700,
    };
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.set_times(FileTimes::new().set_accessed(from.accessed()?).set_modified(from.modified()?))
}

fn to_stdout(request: &Request, source: &mut dyn Read, stamp: &Stamp) -> io::Result<()> {
    if request.test {
        return convert(request, source, &mut io::sink(), stamp);
    }
    let mut sink = BufWriter::with_capacity(64 * 1024, io::stdout().lock());
    convert(request, source, &mut sink, stamp)?;
    sink.flush()
}

fn convert(request: &Request, source: &mut dyn Read, sink: &mut dyn Write, stamp: &Stamp) -> io::Result<()> {
    if !request.unpack {
        return request.codec.compress(request.level, stamp, source, sink);
    }
    let mut first = Vec::new();
    (&mut *source).take(Codec::MAGIC_BYTES as u64).read_to_end(&mut first)?;
    let codec = Codec::of(&first);
    let mut source = first.chain(source);
    if codec == Some(request.codec) {
        return io::copy(&mut request.codec.reader(source, request.limit), sink).map(drop);
    }
    if request.force && request.to_stdout {
        // As zcat -f does: what is not compressed is passed on.
        return io::copy(&mut source, sink).map(drop);
    }
    let name = request.codec.name();
    Err(io::Error::new(io::ErrorKind::InvalidData, format!("not in {name} format")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(codec: Codec, words: &[&str]) -> Result<Request, lexopt::Error> {
        let request = Request {
            codec,
            unpack: false,
            to_stdout: false,
            keep: false,
            force: false,
            quiet: false,
            verbose: false,
            test: false,
            stamped: true,
            level: None,
            suffix: None,
            output: None,
            limit: Limit::default(),
            files: Vec::new(),
        };
        parse(request, ["x"].iter().chain(words).map(OsString::from).collect())
    }

    fn name(words: &[&str]) -> Result<String, Failure> {
        let request = request(Codec::Gzip, words).unwrap();
        output_name(&request, &request.files[0]).map(|path| path.display().to_string())
    }

    #[test]
    fn options_are_read_as_clusters_and_words() {
        let read = request(Codec::Gzip, &["-dck9", "a", "--limit=2M", "-"]).unwrap();
        assert!(read.unpack && read.to_stdout && read.keep && read.level == Some(9));
        assert_eq!((read.limit, read.files.len()), (Limit::Bytes(2 << 20), 2));
        assert_eq!(request(Codec::Zstd, &["-19", "-o", "x"]).unwrap().level, Some(9));
        assert!(request(Codec::Gzip, &["--nonsense"]).is_err());
        assert!(request(Codec::Gzip, &["-o", "x"]).is_err());
        assert!(request(Codec::Gzip, &["--limit=much"]).is_err());
    }

    #[test]
    fn names_get_and_lose_their_endings() {
        assert_eq!(name(&["a"]).unwrap(), "a.gz");
        assert_eq!(name(&["-S", ".q", "a"]).unwrap(), "a.q");
        assert_eq!(name(&["-d", "a.gz"]).unwrap(), "a");
        assert_eq!(name(&["-d", "b/a.tgz"]).unwrap(), "b/a.tar");
        assert!(matches!(name(&["-d", "a.zip"]), Err(Failure::Warning(_))));
        assert!(matches!(name(&["-d", ".gz"]), Err(Failure::Warning(_))));
        assert!(matches!(name(&["a.gz"]), Err(Failure::Warning(_))));
        assert_eq!(name(&["-f", "a.gz"]).unwrap(), "a.gz.gz");
    }
}
