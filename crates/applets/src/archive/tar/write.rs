//! From files to the bytes of an archive, in GNU's format.

use super::options::{Operand, Options};
use super::read::{BLOCK, group_name, user_name};
use super::without_slash;
use crate::archive::extract::shown;
use crate::output::complain;
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use tar::{EntryType, Header};

/// Archives are padded to this.
const RECORD: u64 = 20 * BLOCK;
/// GNU's code for a file that changed while it was read.
const CHANGED: i32 = 1;

/// Writes everything that was asked for. `own` is the archive itself, which is left out of itself. The exit code; an
/// error is one of the archive.
pub(super) fn write(options: &Options, own: Option<&File>, sink: &mut dyn Write) -> io::Result<i32> {
    let own = match own {
        Some(file) => file.metadata().ok().map(|found| (found.dev(), found.ino())),
        None => None,
    };
    let mut writer = Writer {
        options,
        own,
        sink,
        written: 0,
        seen: HashMap::new(),
        names: HashMap::new(),
        told: false,
        code: 0,
    };
    for operand in &options.operands {
        match operand {
            Operand::Directory(directory) => std::env::set_current_dir(directory).map_err(|error| {
                io::Error::new(error.kind(), format!("{}: cannot go there: {error}", directory.display()))
            })?,
            Operand::Name(name) => writer.tree(without_slash(name), None)?,
        }
    }
    writer.finish()
}

struct Writer<'w> {
    options: &'w Options,
    own: Option<(u64, u64)>,
    sink: &'w mut dyn Write,
    written: u64,
    /// Files with several links, by device and inode, and the name under which each is in the archive.
    seen: HashMap<(u64, u64), Vec<u8>>,
    names: HashMap<(bool, u32), Option<String>>,
    /// Whether it was said that names lose their beginning.
    told: bool,
    code: i32,
}

impl Writer<'_> {
    /// A file, and everything below it.
    fn tree(&mut self, path: &OsStr, device: Option<u64>) -> io::Result<()> {
        if self.options.excludes(path.as_bytes()) {
            return Ok(());
        }
        let found = if self.options.dereference { fs::metadata(path) } else { fs::symlink_metadata(path) };
        let metadata = match found {
            Ok(metadata) => metadata,
            Err(error) => return self.trouble(path, "cannot look at it", &error),
        };
        if self.own == Some((metadata.dev(), metadata.ino())) {
            complain("tar", &format_args!("{}: is the archive itself, left out", shown(path.as_bytes())));
            return Ok(());
        }
        self.entry(path, &metadata)?;
        if !metadata.is_dir() || self.options.flat {
            return Ok(());
        }
        let device = device.unwrap_or(metadata.dev());
        if self.options.one_file_system && device != metadata.dev() {
            return Ok(());
        }
        let mut inner = match list(path) {
            Ok(inner) => inner,
            Err(error) => return self.trouble(path, "cannot list it", &error),
        };
        if self.options.sorted {
            inner.sort_unstable();
        }
        for name in inner {
            let mut below = path.to_owned();
            if !path.as_bytes().ends_with(b"/") {
                below.push("/");
            }
            below.push(name);
            self.tree(&below, Some(device))?;
        }
        Ok(())
    }

    fn trouble(&mut self, path: &OsStr, what: &str, error: &io::Error) -> io::Result<()> {
        complain("tar", &format_args!("{}: {what}: {error}", shown(path.as_bytes())));
        self.code = super::TROUBLE;
        Ok(())
    }

    fn entry(&mut self, path: &OsStr, metadata: &Metadata) -> io::Result<()> {
        let mut name = self.safe_name(path.as_bytes());
        let kind = metadata.file_type();
        if kind.is_dir() && !name.ends_with(b"/") {
            name.push(b'/');
        }
        let mut header = self.header(metadata);
        if !kind.is_dir() && metadata.nlink() > 1 {
            let id = (metadata.dev(), metadata.ino());
            if let Some(first) = self.seen.get(&id) {
                let first = first.clone();
                header.set_entry_type(EntryType::Link);
                return self.put(header, &name, Some(&first));
            }
            self.seen.insert(id, name.clone());
        }
        if kind.is_file() {
            return self.file(path, &name, header);
        }
        let mut link = None;
        if kind.is_dir() {
            header.set_entry_type(EntryType::Directory);
        } else if kind.is_symlink() {
            header.set_entry_type(EntryType::Symlink);
            match fs::read_link(path) {
                Ok(to) => link = Some(to.into_os_string()),
                Err(error) => return self.trouble(path, "cannot read the link", &error),
            }
        } else if kind.is_fifo() {
            header.set_entry_type(EntryType::Fifo);
        } else if kind.is_socket() {
            complain("tar", &format_args!("{}: a socket, left out", shown(path.as_bytes())));
            return Ok(());
        } else {
            header.set_entry_type(if kind.is_block_device() { EntryType::Block } else { EntryType::Char });
            let device = metadata.rdev();
            let number = |number: u64| u32::try_from(number).map_err(io::Error::other);
            header.set_device_major(number(nix::sys::stat::major(device))?)?;
            header.set_device_minor(number(nix::sys::stat::minor(device))?)?;
        }
        self.put(header, &name, link.as_deref().map(OsStrExt::as_bytes))
    }

    /// A name that leads nowhere but below where it is unpacked, as GNU tar makes one.
    fn safe_name(&mut self, path: &[u8]) -> Vec<u8> {
        if self.options.absolute {
            return path.to_vec();
        }
        let mut start = 0;
        for (at, name) in path.split(|&b| b == b'/').scan(0, |at, name| {
            let here = *at;
            *at += name.len() + 1;
            Some((here, name))
        }) {
            if name == b".." {
                start = (at + 3).min(path.len());
            }
        }
        start += path[start..].iter().take_while(|&&b| b == b'/').count();
        if start > 0 && !self.told {
            self.told = true;
            complain(
                "tar",
                &format_args!("removing `{}' from the beginning of names", shown(&path[..start])),
            );
        }
        if start == path.len() { b"./".to_vec() } else { path[start..].to_vec() }
    }

    fn header(&mut self, metadata: &Metadata) -> Header {
        let options = self.options;
        let mut header = Header::new_gnu();
        header.set_size(0);
        header.set_mode(options.file_mode.unwrap_or(metadata.mode() & 0o7777));
        header.set_mtime(options.mtime.unwrap_or(metadata.mtime()).cast_unsigned());
        let (user, user_name) = self.owner(true, options.owner.as_deref(), metadata.uid());
        let (group, group_name) = self.owner(false, options.group.as_deref(), metadata.gid());
        header.set_uid(user.into());
        header.set_gid(group.into());
        if !options.numeric_owner {
            // A name that does not fit is left out; the number is there.
            let _ = header.set_username(&user_name);
            let _ = header.set_groupname(&group_name);
        }
        header
    }

    /// A number and a name: what was asked for, `NAME`, `NUMBER` or `NAME:NUMBER`, or what the file has.
    fn owner(&mut self, user: bool, asked: Option<&str>, number: u32) -> (u32, String) {
        let lookup = |number| if user { user_name(number) } else { group_name(number) };
        let mut known = |number| {
            self.names.entry((user, number)).or_insert_with(|| lookup(number)).clone().unwrap_or_default()
        };
        let Some(asked) = asked else { return (number, known(number)) };
        if let Some((name, number)) = asked.split_once(':')
            && let Ok(number) = number.parse()
        {
            return (number, name.to_owned());
        }
        match asked.parse() {
            Ok(number) => (number, known(number)),
            Err(_) => {
                let found = if user {
                    nix::unistd::User::from_name(asked).ok().flatten().map(|user| user.uid.as_raw())
                } else {
                    nix::unistd::Group::from_name(asked).ok().flatten().map(|group| group.gid.as_raw())
                };
                (found.unwrap_or(number), asked.to_owned())
            }
        }
    }

    fn file(&mut self, path: &OsStr, name: &[u8], mut header: Header) -> io::Result<()> {
        // Without O_NONBLOCK the open of what has become a pipe meanwhile would wait for ever.
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(nix::libc::O_NONBLOCK | nix::libc::O_NOCTTY);
        let opened = options.open(path).and_then(|file| file.metadata().map(|found| (file, found)));
        let (mut file, found) = match opened {
            Ok(opened) => opened,
            Err(error) => return self.trouble(path, "cannot open it", &error),
        };
        let size = found.len();
        header.set_entry_type(EntryType::Regular);
        header.set_size(size);
        self.put(header, name, None)?;
        let mut body = (&mut file).take(size);
        let mut buffer = vec![0; 64 * 1024];
        let mut copied = 0;
        while copied < size {
            match body.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => {
                    self.bytes(&buffer[..count])?;
                    copied += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.trouble(path, "cannot read it", &error)?;
                    break;
                }
            }
        }
        if copied < size {
            // The header is written; the rest is zeros, as with GNU.
            let short = size - copied;
            complain("tar", &format_args!("{}: shrank by {short} bytes while read", shown(path.as_bytes())));
            self.code = self.code.max(CHANGED);
            self.zeros(short)?;
        }
        self.zeros(size.next_multiple_of(BLOCK) - size)
    }

    /// A header, with those before it that hold what it has no room for.
    fn put(&mut self, mut header: Header, name: &[u8], link: Option<&[u8]>) -> io::Result<()> {
        if self.options.verbose > 0 {
            let line = shown(name);
            let to_stdout = super::archive_name(self.options).is_none();
            if to_stdout { complain_line(&line) } else { writeln!(io::stdout(), "{line}")? }
        }
        for (kind, text) in [(EntryType::GNULongLink, link), (EntryType::GNULongName, Some(name))] {
            if let Some(text) = text.filter(|text| text.len() > 100) {
                self.long(kind, text)?;
            }
        }
        let gnu = header.as_gnu_mut().ok_or(io::ErrorKind::InvalidData)?;
        fill(&mut gnu.name, name);
        fill(&mut gnu.linkname, link.unwrap_or_default());
        header.set_cksum();
        self.bytes(header.as_bytes())
    }

    fn long(&mut self, kind: EntryType, text: &[u8]) -> io::Result<()> {
        let mut header = Header::new_gnu();
        header.set_mode(0o644);
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        fill(&mut header.as_gnu_mut().ok_or(io::ErrorKind::InvalidData)?.name, b"././@LongLink");
        let size = text.len() as u64 + 1;
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_cksum();
        self.bytes(header.as_bytes())?;
        self.bytes(text)?;
        self.zeros(1 + size.next_multiple_of(BLOCK) - size)
    }

    fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.written += bytes.len() as u64;
        self.sink.write_all(bytes)
    }

    fn zeros(&mut self, count: u64) -> io::Result<()> {
        self.written += count;
        io::copy(&mut io::repeat(0).take(count), &mut self.sink).map(drop)
    }

    fn finish(mut self) -> io::Result<i32> {
        let end = (self.written + 2 * BLOCK).next_multiple_of(RECORD);
        self.zeros(end - self.written)?;
        Ok(self.code)
    }
}

/// A line on standard error, where the names go when standard output is the archive.
fn complain_line(line: &str) {
    // Nothing is left to tell it to when standard error itself is gone.
    let _ = writeln!(io::stderr(), "{line}");
}

fn fill(field: &mut [u8; 100], text: &[u8]) {
    field.fill(0);
    let length = text.len().min(field.len());
    field[..length].copy_from_slice(&text[..length]);
}

fn list(path: &OsStr) -> io::Result<Vec<OsString>> {
    fs::read_dir(Path::new(path))?.map(|entry| entry.map(|entry| entry.file_name())).collect()
}
