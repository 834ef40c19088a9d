//! `tar`: reading and writing archives in GNU's format; ustar's and pax's are read.

mod options;
mod read;
mod write;

use super::codec::Codec;
use super::extract::{Kind, Policy, PutError, Target, copy, shown};
use super::pattern;
use crate::output::{complain, help_or_version};
use options::{HELP, Mode, Operand, Options, parse};
use read::{Item, walk};
use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// GNU's code for something that could not be done.
const TROUBLE: i32 = 2;

pub(crate) fn tar(arguments: Vec<OsString>) -> i32 {
    if let Some(code) = help_or_version(&arguments, "tar", HELP) {
        return code;
    }
    let options = match parse(arguments) {
        Ok(options) => options,
        Err(error) => {
            complain("tar", &format_args!("{error}; tar --help lists the options"));
            return TROUBLE;
        }
    };
    let outcome = match options.mode {
        Mode::Create => create(&options),
        Mode::Append => append(&options),
        Mode::List | Mode::Extract => unpack(&options),
    };
    match outcome {
        Ok(0) => 0,
        Ok(code) => {
            if code == TROUBLE {
                complain("tar", &"exiting with failure status due to previous errors");
            }
            code
        }
        Err(message) => {
            complain("tar", &message);
            TROUBLE
        }
    }
}

fn archive_name(options: &Options) -> Option<&Path> {
    options.file.as_deref().filter(|file| *file != Path::new("-"))
}

fn create(options: &Options) -> Result<i32, String> {
    let name = archive_name(options);
    let by_name =
        name.filter(|_| options.auto_compress).and_then(|name| Codec::by_name(name.as_os_str().as_bytes()));
    let codec = options.codec.or(by_name);
    let shown = name.map_or_else(|| "standard output".into(), |name| name.display().to_string());
    let failed = |error: io::Error| format!("{shown}: {error}");
    let (sink, own): (Box<dyn Write + Send>, Option<File>) = match name {
        Some(name) => {
            let file = File::create(name).map_err(failed)?;
            (Box::new(file.try_clone().map_err(failed)?), Some(file))
        }
        None => (Box::new(io::stdout()), None),
    };
    let Some(codec) = codec else {
        let mut sink = BufWriter::with_capacity(64 * 1024, sink);
        let code = write::write(options, own.as_ref(), &mut sink).map_err(failed)?;
        sink.flush().map_err(failed)?;
        return Ok(code);
    };
    let (reader, writer) = io::pipe().map_err(failed)?;
    std::thread::scope(|scope| {
        let packing = scope.spawn(|| pack(codec, reader, sink));
        let mut writer = BufWriter::with_capacity(64 * 1024, writer);
        let code = write::write(options, own.as_ref(), &mut writer).map_err(failed)?;
        writer.flush().map_err(failed)?;
        // The other side reads to the end.
        drop(writer);
        match packing.join() {
            Ok(done) => done.map_err(failed).map(|()| code),
            Err(_) => Err(format!("{shown}: {} ended before its end", codec.name())),
        }
    })
}

/// Compresses what comes through the pipe. After a failure the rest is still read: the writer would die of a closed pipe
/// before the failure is told.
fn pack(codec: Codec, mut source: io::PipeReader, mut sink: Box<dyn Write + Send>) -> io::Result<()> {
    let done = codec.compress(None, &super::codec::Stamp::default(), &mut source, &mut sink);
    io::copy(&mut source, &mut io::sink())?;
    done.and_then(|()| sink.flush())
}

fn append(options: &Options) -> Result<i32, String> {
    let name = archive_name(options).ok_or("-r needs an archive that is a file: -f FILE")?;
    let failed = |error: io::Error| format!("{}: {error}", name.display());
    let mut file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(name).map_err(failed)?;
    let mut first = [0; Codec::MAGIC_BYTES];
    let read = file.read_at(&mut first, 0).map_err(failed)?;
    if let Some(codec) = Codec::of(&first[..read]) {
        return Err(format!(
            "{}: nothing can be appended to what {} has packed",
            name.display(),
            codec.name()
        ));
    }
    let end = walk(BufReader::new(&mut file), &mut |_, _| Ok(()))
        .map_err(|e| format!("{}: {e}", name.display()))?;
    file.seek(SeekFrom::Start(end)).map_err(failed)?;
    let own = file.try_clone().map_err(failed)?;
    let mut sink = BufWriter::with_capacity(64 * 1024, file);
    let code = write::write(options, Some(&own), &mut sink).map_err(failed)?;
    sink.flush().map_err(failed)?;
    Ok(code)
}

/// Opens the archive, whatever it is packed with.
fn open(options: &Options) -> Result<Box<dyn Read>, String> {
    let (name, source): (String, Box<dyn Read>) = match archive_name(options) {
        Some(path) => {
            let file = File::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
            (path.display().to_string(), Box::new(file))
        }
        None => ("standard input".into(), Box::new(io::stdin())),
    };
    let mut source = BufReader::with_capacity(64 * 1024, source);
    let mut first = Vec::new();
    source
        .by_ref()
        .take(Codec::MAGIC_BYTES as u64)
        .read_to_end(&mut first)
        .map_err(|error| format!("{name}: {error}"))?;
    let codec = Codec::of(&first);
    let source = io::Cursor::new(first).chain(source);
    Ok(match codec {
        Some(codec) => codec.reader(source, options.limit),
        None => Box::new(source),
    })
}

/// Lists or extracts.
fn unpack(options: &Options) -> Result<i32, String> {
    let source = open(options)?;
    let mut wanted = Vec::new();
    for operand in &options.operands {
        match operand {
            Operand::Directory(directory) => std::env::set_current_dir(directory)
                .map_err(|error| format!("{}: cannot go there: {error}", directory.display()))?,
            Operand::Name(name) => wanted.push(name.clone()),
        }
    }
    let root = nix::unistd::geteuid().is_root();
    let policy = Policy {
        permissions: options.permissions.unwrap_or(root),
        owner: options.same_owner.unwrap_or(root),
        touch: options.touch,
        keep_old: options.keep_old,
    };
    let target = Target::here(policy).map_err(|error| format!("the working directory: {error}"))?;
    let mut unpacker = Unpacker {
        options,
        wanted,
        found: HashSet::new(),
        target,
        names: read::Names::default(),
        width: 19,
        code: 0,
        out: BufWriter::new(io::stdout()),
    };
    let walked = walk(source, &mut |item, body| unpacker.item(item, body));
    unpacker.finish(walked.map(drop).map_err(|error| error.to_string()))
}

struct Unpacker<'o> {
    options: &'o Options,
    wanted: Vec<OsString>,
    found: HashSet<usize>,
    target: Target,
    names: read::Names,
    /// The columns that owner and size take together.
    width: usize,
    code: i32,
    out: BufWriter<io::Stdout>,
}

impl Unpacker<'_> {
    fn item(&mut self, mut item: Item, body: &mut dyn Read) -> io::Result<()> {
        let options = self.options;
        if !self.chosen(&item.member.name) || options.excludes(&item.member.name) {
            return Ok(());
        }
        if options.mode == Mode::List {
            return self.list(&item, options.verbose > 0);
        }
        if options.verbose > 0 {
            self.list(&item, options.verbose > 1)?;
        }
        if options.to_stdout {
            if item.member.kind != Kind::File {
                return Ok(());
            }
            let copied = copy(body, &mut self.out, item.member.size);
            return self.done(&item.member.name, copied);
        }
        for name in [Some(&mut item.member.name), link_name(&mut item.member.kind)].into_iter().flatten() {
            match options.stripped(name) {
                Some(rest) => *name = rest,
                None => return Ok(()),
            }
        }
        if !options.numeric_owner {
            item.member.owner = self.names.numbers(&item);
        }
        let put = self.target.put(&item.member, body);
        if matches!(put, Err(PutError::Exists)) && options.skip_old {
            return Ok(());
        }
        self.done(&item.member.name, put)
    }

    /// Whether the member was asked for: by its name, or by that of a directory above it.
    fn chosen(&mut self, name: &[u8]) -> bool {
        if self.wanted.is_empty() {
            return true;
        }
        let plain = name.strip_suffix(b"/").unwrap_or(name);
        let mut chosen = false;
        for (at, wanted) in self.wanted.iter().enumerate() {
            let wanted = wanted.as_bytes();
            let wanted = wanted.strip_suffix(b"/").unwrap_or(wanted);
            let below = plain.strip_prefix(wanted).is_some_and(|rest| rest.is_empty() || rest[0] == b'/');
            if below || (self.options.wildcards && pattern::below(wanted, plain)) {
                self.found.insert(at);
                chosen = true;
            }
        }
        chosen
    }

    fn list(&mut self, item: &Item, long: bool) -> io::Result<()> {
        let line = if long {
            self.names.long(item, self.options, &mut self.width)
        } else {
            shown(&item.member.name)
        };
        if self.options.to_stdout {
            // Standard output has the files.
            complain("tar", &line);
            return Ok(());
        }
        writeln!(self.out, "{line}")
    }

    /// Notes a failure; only one of the archive itself ends the walk.
    fn done(&mut self, name: &[u8], result: Result<(), PutError>) -> io::Result<()> {
        match result {
            Ok(()) => Ok(()),
            Err(PutError::Read(error)) => Err(error),
            Err(error) => {
                self.code = TROUBLE;
                complain("tar", &format_args!("{}: {error}", shown(name)));
                Ok(())
            }
        }
    }

    fn finish(mut self, walked: Result<(), String>) -> Result<i32, String> {
        self.out.flush().map_err(|error| format!("standard output: {error}"))?;
        for (name, error) in self.target.finish() {
            self.code = TROUBLE;
            complain("tar", &format_args!("{name}: {error}"));
        }
        walked?;
        for (at, wanted) in self.wanted.iter().enumerate() {
            if !self.found.contains(&at) {
                self.code = TROUBLE;
                complain("tar", &format_args!("{}: not found in archive", wanted.display()));
            }
        }
        Ok(self.code)
    }
}

fn link_name(kind: &mut Kind) -> Option<&mut Vec<u8>> {
    // What a symbolic link says is no name in the archive.
    if let Kind::Hardlink(to) = kind { Some(to) } else { None }
}

/// A name without its slashes at the end.
fn without_slash(name: &OsStr) -> &OsStr {
    let bytes = name.as_bytes();
    let end = bytes.iter().rposition(|&b| b != b'/').map_or(bytes.len().min(1), |last| last + 1);
    OsStr::from_bytes(&bytes[..end])
}
