//! How a machine comes to its configuration: where a signed one may come from, and what makes an edition of it.
//!
//! Owns: the sources, and the step from the bytes of an envelope to an edition on the disk.
//! Promises: what a source gives is not looked at before this process has given up everything but the editions'
//! directory ([`taker`]); an edition is made only of what a trusted operator has signed for this machine and time, with a
//! serial number higher than every one before; what is refused changes nothing.
//! Never: puts an edition in force by itself while a machine runs; that is for PID 1, when an operator says so.
#![forbid(unsafe_code)]

mod label;
mod smbios;
mod source;
mod taker;

pub use source::{Source, SourceError};
pub use taker::taker;

use octant_editions::{ENVELOPE, Editions, INFO, Info, StoreError, TEXT, TRUSTED};
use octant_ids::Layout;
use octant_manifest::{
    AcceptedConfig, CheckTable, ConfigRefusal, ConfigSite, KeyFileError, KeyId, SignedConfig, TrustedKeys,
    limits,
};
use octant_sys::clock;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Why a configuration does not become an edition.
#[derive(Debug, thiserror::Error)]
pub enum TakeError {
    /// It is not to be used.
    #[error(transparent)]
    Refused(#[from] ConfigRefusal),
    /// The machine's own files cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Whom this machine trusts is not known.
    #[error("the trusted set: {0}")]
    Trusted(#[from] KeyFileError),
    /// The editions cannot be read or written.
    #[error("the machine's editions: {0}")]
    Store(#[from] StoreError),
}

/// What there is to know of this machine before a configuration is looked at.
#[derive(Debug, Clone)]
pub struct Here {
    /// Its identifier in audiences; empty where it has none.
    pub machine: String,
    /// Its labels in audiences.
    pub labels: Vec<String>,
    /// Whom it trusts.
    pub keys: TrustedKeys,
    /// Whether nobody owns it yet.
    pub unowned: bool,
    editions: Editions,
}

/// What became of a configuration.
#[derive(Debug, Clone)]
pub enum Taken {
    /// This edition was made of it.
    New(u32, Box<AcceptedConfig>),
    /// This edition is it.
    Known(u32),
}

/// Whether a machine that nobody owns takes its first operators from the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum First {
    /// No: somebody has to be trusted already.
    No,
    /// From whoever is first; with this key, where there is one.
    Yes(Option<KeyId>),
}

impl Here {
    /// Reads it.
    ///
    /// # Errors
    /// Its files cannot be read.
    pub fn look(layout: &Layout) -> Result<Self, TakeError> {
        let editions = Editions::of(layout);
        let files = trusted_files(&layout.trusted())?;
        // An account of the console is an owner too.
        let accounts =
            fs::read_dir(layout.state_of("console")).is_ok_and(|mut entries| entries.next().is_some());
        let unowned = files.is_empty() && editions.list().is_empty() && !accounts;
        let (machine, labels) = (machine_id(layout)?, labels(layout)?);
        Ok(Self { machine, labels, keys: TrustedKeys::from_files(&files)?, unowned, editions })
    }

    /// What a configuration is compared with.
    ///
    /// # Errors
    /// The highest serial number is not known.
    pub fn site(&self, check: CheckTable) -> Result<ConfigSite<'_>, TakeError> {
        let (machine, now_ms) = (self.machine.as_str(), clock::wall_ms());
        Ok(ConfigSite { machine, labels: &self.labels, now_ms, serial: self.editions.serial()?, check })
    }

    /// Makes an edition of the bytes of an envelope. It is not in force yet.
    ///
    /// # Errors
    /// It is refused, or cannot be written. Nothing has changed then.
    pub fn take(
        &self,
        bytes: &[u8],
        source: &str,
        first: First,
        check: CheckTable,
    ) -> Result<Taken, TakeError> {
        let signed = SignedConfig::parse(bytes)?;
        let digest = signed.digest().to_string();
        let same = |edition: &u32| self.editions.info(*edition).is_some_and(|info| info.digest == digest);
        if let Some(edition) = self.editions.list().into_iter().rev().find(same) {
            return Ok(Taken::Known(edition));
        }
        let site = self.site(check)?;
        let (accepted, trust) = match first {
            First::Yes(wanted) if self.unowned => {
                let word = if wanted.is_some() { "named" } else { "first-use" };
                (signed.first(wanted, &site)?, word)
            }
            _ => (signed.verify(&self.keys, &site)?, TRUSTED),
        };
        let info = Info {
            serial: accepted.config.serial,
            digest,
            source: source.to_owned(),
            operator: accepted.signer.operator.clone(),
            key: accepted.signer.key.to_string(),
            trust: trust.to_owned(),
            at_ms: site.now_ms,
        };
        let mut files = vec![(ENVELOPE.to_owned(), bytes.to_vec()), (TEXT.to_owned(), accepted.text.clone())];
        files.extend(accepted.config.files());
        files.push((INFO.to_owned(), info.text().into_bytes()));
        let edition = self.editions.add(accepted.config.serial, &files)?;
        Ok(Taken::New(edition, Box::new(accepted)))
    }
}

/// This machine's identifier: the one that manifests name too, else the one that PID 1 has made.
fn machine_id(layout: &Layout) -> Result<String, TakeError> {
    for path in [layout.etc.join("machine-id"), layout.state.join("machine-id")] {
        match fs::read_to_string(&path) {
            Ok(text) => return Ok(text.trim().to_owned()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(TakeError::Read { path, source }),
        }
    }
    Ok(String::new())
}

/// What this machine is called together with others: what `octant.labels=` on its kernel command line says, and its file
/// `labels`, a word a line. Whoever can write these owns the machine; they say which of the signed configurations is meant.
fn labels(layout: &Layout) -> Result<Vec<String>, TakeError> {
    let read = |path: PathBuf| match fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        other => other.map_err(|source| TakeError::Read { path, source }),
    };
    let own = read(layout.etc.join("labels"))?;
    let kernel = if *layout == Layout::system() { read("/proc/cmdline".into())? } else { String::new() };
    let named = kernel.split_ascii_whitespace().filter_map(|word| word.strip_prefix("octant.labels="));
    Ok(named
        .flat_map(|words| words.split(','))
        .chain(own.split_ascii_whitespace())
        .map(str::to_owned)
        .collect())
}

/// The files of the trusted set, by name; none where there is no directory.
fn trusted_files(dir: &Path) -> Result<Vec<(String, String)>, TakeError> {
    let fail = |path: &Path| {
        let path = path.to_owned();
        move |source| TakeError::Read { path, source }
    };
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(fail(dir))?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(fail(dir))?.path();
        let mut text = String::new();
        let limit = u64::try_from(limits::KEY_FILE_BYTES).unwrap_or(u64::MAX).saturating_add(1);
        File::open(&path).and_then(|file| file.take(limit).read_to_string(&mut text)).map_err(fail(&path))?;
        files.push((path.file_name().unwrap_or_default().to_string_lossy().into_owned(), text));
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests;
