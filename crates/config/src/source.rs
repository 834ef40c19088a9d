//! Where a signed configuration may come from.

use crate::{label, smbios};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use nix::fcntl::{OFlag, open};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::Mode;
use octant_manifest::limits;
use octant_sys::clock;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The file on a config disk.
const FILE: &str = "machine.json";
/// Where a config disk is mounted, in a mount namespace that nobody else is in.
const PLACE: &str = "/run/octant-config";
/// How long a disk may take to appear.
const DISK_WITHIN: Duration = Duration::from_secs(10);

/// A place that is named on the kernel command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// `file:/PATH`
    File(PathBuf),
    /// `smbios`
    Smbios,
    /// `disk:LABEL`
    Disk(String),
    /// `inline:BASE64`
    Inline(String),
}

/// Why a source gives nothing that could be looked at.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Not a source.
    #[error(
        "octant.config={0}: there is no such source; write file:/PATH, smbios, disk:LABEL or inline:BASE64"
    )]
    Unknown(String),
    /// It cannot be read.
    #[error("{place}: {source}")]
    Read {
        /// Where.
        place: String,
        /// Why.
        source: io::Error,
    },
    /// It is longer than any configuration.
    #[error("{0}: more than {limit} bytes", limit = limits::ENVELOPE_BYTES)]
    TooLarge(String),
    /// It is there and not one whole.
    #[error("{place}: {why}")]
    Broken {
        /// Where.
        place: String,
        /// What is wrong with it.
        why: String,
    },
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Smbios => f.write_str("smbios"),
            Self::Disk(label) => write!(f, "disk:{label}"),
            Self::Inline(_) => f.write_str("inline"),
        }
    }
}

impl std::str::FromStr for Source {
    type Err = SourceError;
    fn from_str(text: &str) -> Result<Self, SourceError> {
        match text.split_once(':') {
            None if text == "smbios" => Ok(Self::Smbios),
            Some(("file", path)) if path.starts_with('/') => Ok(Self::File(path.into())),
            Some(("disk", label)) if (1..=32).contains(&label.len()) => Ok(Self::Disk(label.to_owned())),
            Some(("inline", bytes)) if !bytes.is_empty() => Ok(Self::Inline(bytes.to_owned())),
            _ => Err(SourceError::Unknown(text.chars().take(80).collect())),
        }
    }
}

impl Source {
    /// What lies there, not looked at: an envelope, or for `smbios` the tables that [`Source::open`] looks into.
    ///
    /// # Errors
    /// It is there and cannot be read.
    pub(crate) fn read(&self) -> Result<Option<Vec<u8>>, SourceError> {
        let fail = |source| SourceError::Read { place: self.to_string(), source };
        match self {
            Self::File(path) => self.bounded(path, limits::ENVELOPE_BYTES),
            Self::Smbios => self.bounded(Path::new(smbios::TABLES), smbios::TABLES_MAX),
            Self::Inline(text) => Ok(Some(text.clone().into_bytes())),
            Self::Disk(wanted) => match find(wanted).map_err(fail)? {
                Some((device, kind)) => self.mounted(&device, kind),
                None => Ok(None),
            },
        }
    }

    /// The envelope in what was read.
    ///
    /// # Errors
    /// What was read is not one whole.
    pub(crate) fn open(&self, read: Vec<u8>) -> Result<Option<Vec<u8>>, SourceError> {
        let broken = |why: String| SourceError::Broken { place: self.to_string(), why };
        match self {
            Self::File(_) | Self::Disk(_) => Ok(Some(read)),
            Self::Smbios => smbios::envelope(&read).map_err(broken),
            Self::Inline(_) => {
                let text = read.strip_suffix(b"=").unwrap_or(&read);
                let text = text.strip_suffix(b"=").unwrap_or(text);
                let bytes = URL_SAFE_NO_PAD.decode(text).or_else(|_| STANDARD.decode(&read));
                bytes.map(Some).map_err(|error| broken(format!("not base 64: {error}")))
            }
        }
    }

    /// A file of at most so many bytes, through no link.
    fn bounded(&self, path: &Path, limit: usize) -> Result<Option<Vec<u8>>, SourceError> {
        let fail = |source| SourceError::Read { place: self.to_string(), source };
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let file = match open(path, flags, Mode::empty()) {
            Err(nix::errno::Errno::ENOENT) => return Ok(None),
            other => File::from(other.map_err(|errno| fail(errno.into()))?),
        };
        if !file.metadata().map_err(fail)?.is_file() {
            return Err(fail(io::Error::other("is no file")));
        }
        let mut bytes = Vec::new();
        let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
        file.take(most).read_to_end(&mut bytes).map_err(fail)?;
        if bytes.len() > limit {
            return Err(SourceError::TooLarge(self.to_string()));
        }
        Ok(Some(bytes))
    }

    /// The file on a disk, which is mounted for that long, where nobody else sees it.
    fn mounted(&self, device: &Path, kind: &str) -> Result<Option<Vec<u8>>, SourceError> {
        let fail = |source: io::Error| SourceError::Read { place: self.to_string(), source };
        let none: Option<&str> = None;
        unshare(CloneFlags::CLONE_NEWNS).map_err(|errno| fail(errno.into()))?;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
            .map_err(|errno| fail(errno.into()))?;
        fs::create_dir_all(PLACE).map_err(fail)?;
        let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        // A journal that was not closed is not replayed: nothing is written to the disk.
        let options = (kind == "ext4").then_some("noload");
        mount(Some(device), PLACE, Some(kind), flags, options).map_err(|errno| fail(errno.into()))?;
        let read = self.bounded(&Path::new(PLACE).join(FILE), limits::ENVELOPE_BYTES);
        umount2(PLACE, MntFlags::MNT_DETACH).map_err(|errno| fail(errno.into()))?;
        let _only_tidiness = fs::remove_dir(PLACE);
        match read? {
            Some(bytes) => Ok(Some(bytes)),
            None => {
                let why = format!("{} has no {FILE}", device.display());
                Err(SourceError::Broken { place: self.to_string(), why })
            }
        }
    }
}

/// The one disk with this label.
fn find(wanted: &str) -> io::Result<Option<(PathBuf, &'static str)>> {
    let within = u64::try_from(DISK_WITHIN.as_nanos()).unwrap_or(u64::MAX);
    let deadline = clock::monotonic_ns().saturating_add(within);
    loop {
        let mut found = Vec::new();
        for entry in fs::read_dir("/sys/class/block")? {
            let device = Path::new("/dev").join(entry?.file_name());
            let mut start = Vec::new();
            let limit = u64::try_from(label::START).unwrap_or(u64::MAX);
            // A drive without a disk in it cannot be read.
            let read = File::open(&device).and_then(|file| file.take(limit).read_to_end(&mut start));
            if let (Ok(_), Some((kind, label))) = (read, label::of(&start))
                && label == wanted
            {
                found.push((device, kind));
            }
        }
        match found.len() {
            0 if clock::monotonic_ns() < deadline => std::thread::sleep(Duration::from_millis(50)),
            0 => return Ok(None),
            1 => return Ok(found.pop()),
            count => return Err(io::Error::other(format!("{count} disks have this label; only one may"))),
        }
    }
}
