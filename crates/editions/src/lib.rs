//! Editions: the machine configurations that this machine has accepted, as they lie on its disk.
//!
//! Owns: `<state>/config`: one directory for each edition, the word on which of them is in force, which has worked, and
//! which serial number is the highest. And `<state>/trusted`: what operators have said of the trusted set, where that is in
//! memory ([`keep`]).
//! Promises: after a power cut at any moment the edition in force is whole, and it is the one before or the one after;
//! what is half written is never read; an edition that did not work is never chosen again.
//! Never: reads what an edition says, or checks who signed it. PID 1 uses this crate.
//!
//! ```text
//! <state>/config/
//!   4/            an edition, never changed once it is there:
//!     envelope.json machine.toml info octant.toml trusted/ units/ agents/
//!     good | bad  the word on it: written once. Neither: it has still to show that it works
//!   current       the number of the edition in force; 0, or no file: octant.toml of the image alone
//!   worked        the number of the one that worked last
//!   tries         how often the machine has been started with the one that has still to show it
//!   serial        the highest serial number that was accepted
//!   refused       what was refused last, for people
//!   new           one that is being written
//! ```
#![forbid(unsafe_code)]

mod disk;
mod info;
mod trusted;

pub use info::{INFO, Info};
pub use trusted::{keep, remember};

use disk::Disk;
use octant_ids::Layout;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The number that stands for no edition: the image's own octant.toml.
pub const BASE: u32 = 0;
/// How often a machine is started with an edition that has still to show that it works. One start may be cut short by
/// somebody who pulls the plug; a second one is the edition's fault.
pub const TRIES: u32 = 2;
/// So many editions are kept, besides the one in force and the one that worked last.
const KEPT: usize = 8;
/// The longest text that is read of the small files.
const TEXT_MAX: usize = 4096;
/// The envelope, the signed text and what octant.toml is beside the image's.
pub const ENVELOPE: &str = "envelope.json";
/// The signed text.
pub const TEXT: &str = "machine.toml";
/// The word of an edition whose signer was trusted before.
pub const TRUSTED: &str = "trusted";
/// What PID 1 reads over its own octant.toml.
pub const OCTANT: &str = "octant.toml";

/// A step on the store that failed.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", path.display())]
pub struct StoreError {
    /// Where.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

/// Whether an edition has worked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The machine got healthy with it.
    Good,
    /// It did not, and why.
    Bad(String),
    /// That is still to be seen.
    Open,
}

/// What a start begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// The edition; [`BASE`] for none.
    pub edition: u32,
    /// Whether it has still to show that it works.
    pub open: bool,
    /// What the operator has to be told.
    pub words: Vec<String>,
}

/// The editions of one machine.
#[derive(Debug, Clone)]
pub struct Editions {
    dir: PathBuf,
    disk: Disk,
}

impl Editions {
    /// Those of the machine with these directories.
    #[must_use]
    pub fn of(layout: &Layout) -> Self {
        Self { dir: layout.state.join("config"), disk: Disk::default() }
    }

    /// The store's directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// An edition's directory.
    #[must_use]
    pub fn place(&self, edition: u32) -> PathBuf {
        self.dir.join(edition.to_string())
    }

    /// Every edition that is there, the oldest first.
    #[must_use]
    pub fn list(&self) -> Vec<u32> {
        let entries = fs::read_dir(&self.dir).into_iter().flatten().flatten();
        let number = |name: &str| name.parse::<u32>().ok().filter(|n| *n > BASE && n.to_string() == name);
        let mut all: Vec<u32> = entries.filter_map(|entry| number(entry.file_name().to_str()?)).collect();
        all.sort_unstable();
        all
    }

    /// The edition in force.
    #[must_use]
    pub fn current(&self) -> u32 {
        self.number("current").unwrap_or(BASE)
    }

    /// Whether anybody has ever said which edition is in force.
    #[must_use]
    pub fn chosen(&self) -> bool {
        self.dir.join("current").exists()
    }

    /// The one that worked last; none where nothing is known to have worked.
    #[must_use]
    pub fn worked(&self) -> Option<u32> {
        self.number("worked").filter(|edition| *edition == BASE || self.place(*edition).join(INFO).exists())
    }

    /// What a machine goes back to from this edition; none where nothing is known to have worked. One that brought the
    /// machine's first operator is not left for the image's own octant.toml: nobody would own the machine then.
    #[must_use]
    pub fn way_back(&self, from: u32) -> Option<u32> {
        let first = self.info(from).is_some_and(|info| info.trust != TRUSTED);
        self.worked().filter(|to| *to != from && !(first && *to == BASE))
    }

    /// The word on an edition.
    #[must_use]
    pub fn verdict(&self, edition: u32) -> Verdict {
        let place = self.place(edition);
        match text(&place.join("bad")) {
            Some(why) => Verdict::Bad(why),
            None if edition == BASE || place.join("good").exists() => Verdict::Good,
            None => Verdict::Open,
        }
    }

    /// What there is to know of an edition.
    #[must_use]
    pub fn info(&self, edition: u32) -> Option<Info> {
        Info::parse(&text(&self.place(edition).join(INFO))?)
    }

    /// The highest serial number that was accepted; 0 where none was.
    ///
    /// # Errors
    /// The file is there and no number: what was accepted is not known, and nothing may be.
    pub fn serial(&self) -> Result<u64, StoreError> {
        let path = self.dir.join("serial");
        let from_editions = self.list().into_iter().filter_map(|n| Some(self.info(n)?.serial)).max();
        let noted = match fs::read_to_string(&path) {
            Ok(text) => match text.trim().parse() {
                Ok(serial) => Some(serial),
                Err(_) => return Err(StoreError { path, source: io::Error::other("is not a number") }),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(source) => return Err(StoreError { path, source }),
        };
        Ok(noted.max(from_editions).unwrap_or(0))
    }

    /// What was refused last, for people.
    #[must_use]
    pub fn refused(&self) -> Option<String> {
        text(&self.dir.join("refused"))
    }

    /// Notes what was refused, or that nothing is any more.
    ///
    /// # Errors
    /// The step that failed.
    pub fn refuse(&self, why: Option<&str>) -> Result<(), StoreError> {
        match why {
            Some(why) => {
                self.disk.make_dir(&self.dir)?;
                self.disk.replace(&self.dir.join("refused"), why.as_bytes())
            }
            None => self.disk.remove(&self.dir.join("refused")),
        }
    }

    /// Makes the store's directory, for root alone.
    ///
    /// # Errors
    /// The step that failed.
    pub fn make(&self) -> Result<(), StoreError> {
        self.disk.make_dir(&self.dir)
    }

    /// Writes a new edition, durably, and raises the serial number to its own. It is in force only when it is chosen.
    ///
    /// # Errors
    /// The step that failed. Nothing of it counts then.
    pub fn add(&self, serial: u64, files: &[(String, Vec<u8>)]) -> Result<u32, StoreError> {
        self.disk.make_dir(&self.dir)?;
        let new = self.dir.join("new");
        self.disk.remove_all(&new)?;
        self.disk.make_dir(&new)?;
        for (name, bytes) in files {
            let path = new.join(name);
            if let Some(below) = path.parent().filter(|below| *below != new) {
                self.disk.make_dir(below)?;
            }
            self.disk.write(&path, bytes)?;
        }
        for below in ["agents", "trusted", "units"].map(|below| new.join(below)) {
            if below.exists() {
                self.disk.sync_dir(&below)?;
            }
        }
        self.disk.sync_dir(&new)?;
        // Before the edition is there: that it is lost then is repaired by signing it again; that an older one is taken
        // after it is not repaired by anything.
        if serial > self.serial()? {
            self.disk.replace(&self.dir.join("serial"), format!("{serial}\n").as_bytes())?;
        }
        let edition = self.list().last().copied().unwrap_or(BASE).max(self.current()) + 1;
        self.disk.rename(&new, &self.place(edition))?;
        Ok(edition)
    }

    /// Puts an edition in force, from the next look on.
    ///
    /// # Errors
    /// It is not there, did not work before, or cannot be noted.
    pub fn choose(&self, edition: u32) -> Result<(), StoreError> {
        let refuse = |why: String| StoreError { path: self.place(edition), source: io::Error::other(why) };
        if edition != BASE && !self.place(edition).join(INFO).exists() {
            return Err(refuse("there is no such edition".into()));
        }
        let verdict = self.verdict(edition);
        if let Verdict::Bad(why) = &verdict {
            return Err(refuse(format!("it did not work: {why}")));
        }
        self.disk.make_dir(&self.dir)?;
        self.disk.remove(&self.dir.join("tries"))?;
        self.disk.replace(&self.dir.join("current"), format!("{edition}\n").as_bytes())?;
        if verdict == Verdict::Good { self.note_worked(edition) } else { Ok(()) }
    }

    fn note_worked(&self, edition: u32) -> Result<(), StoreError> {
        if self.worked() == Some(edition) {
            return Ok(());
        }
        self.disk.replace(&self.dir.join("worked"), format!("{edition}\n").as_bytes())
    }

    /// The machine got healthy with it.
    ///
    /// # Errors
    /// The step that failed.
    pub fn mark_good(&self, edition: u32) -> Result<(), StoreError> {
        if edition != BASE {
            self.disk.replace(&self.place(edition).join("good"), b"")?;
        }
        self.disk.make_dir(&self.dir)?;
        self.note_worked(edition)?;
        self.disk.remove(&self.dir.join("tries"))?;
        self.prune();
        Ok(())
    }

    /// The edition in force does not work: the one that worked last is in force again, [`BASE`] where there is none.
    ///
    /// # Errors
    /// The step that failed.
    pub fn fall_back(&self, from: u32, why: &str) -> Result<u32, StoreError> {
        if from != BASE && self.place(from).exists() {
            self.disk.replace(&self.place(from).join("bad"), clip(why).as_bytes())?;
        }
        let to = self.way_back(from).unwrap_or(BASE);
        self.choose(to)?;
        Ok(to)
    }

    /// Which edition a start begins with; counts the start, where the edition has still to show that it works.
    #[must_use]
    pub fn begin(&self) -> Choice {
        let mut words = Vec::new();
        if self.dir.join("new").exists() {
            words.push("a configuration that was only half written is ignored".into());
            if let Err(error) = self.disk.remove_all(&self.dir.join("new")) {
                words.push(error.to_string());
            }
        }
        // Each turn goes to an edition that worked, or to none; what worked is not bad.
        for _ in 0..3 {
            let edition = self.current();
            let why = match self.verdict(edition) {
                _ if edition != BASE && !self.place(edition).join(INFO).exists() => "it is not there".into(),
                Verdict::Good => return Choice { edition, open: false, words },
                Verdict::Bad(why) => why,
                Verdict::Open => match self.count_try() {
                    // Where there is no way back, there is nothing better than trying again.
                    Ok(tries) if tries <= TRIES || self.way_back(edition).is_none() => {
                        return Choice { edition, open: true, words };
                    }
                    Ok(_) => format!("the machine did not get healthy with it in {TRIES} starts"),
                    // What is not counted is not tried: it could be tried for ever.
                    Err(error) => format!("its start cannot be counted: {error}"),
                },
            };
            match self.fall_back(edition, &why) {
                Ok(to) => words.push(format!("configuration {edition}: {why}; {} again", name(to))),
                Err(error) => {
                    words.push(format!("configuration {edition}: {why}; and it cannot be left: {error}"));
                    break;
                }
            }
        }
        Choice { edition: BASE, open: false, words }
    }

    fn count_try(&self) -> Result<u32, StoreError> {
        let tries = self.number("tries").unwrap_or(0).saturating_add(1);
        self.disk.replace(&self.dir.join("tries"), format!("{tries}\n").as_bytes())?;
        Ok(tries)
    }

    /// The start that was counted ends in order before there is a word on the edition: it does not count.
    ///
    /// # Errors
    /// The step that failed.
    pub fn uncount(&self) -> Result<(), StoreError> {
        self.disk.remove(&self.dir.join("tries"))
    }

    /// Puts the edition's keys into the trusted set, takes those of other editions out, and says what was left out.
    ///
    /// # Errors
    /// The step that failed. The set is then the old one or partly the new one; the revocations are first.
    pub fn trust(&self, edition: u32, set: &Path) -> Result<Vec<String>, StoreError> {
        trusted::put(&self.disk, &self.place(edition).join("trusted"), set)
    }

    fn number(&self, file: &str) -> Option<u32> {
        text(&self.dir.join(file))?.trim().parse().ok()
    }

    /// Lets old editions go. One that cannot be removed is only room.
    fn prune(&self) {
        let keep = [Some(self.current()), self.worked()];
        let old: Vec<u32> = self.list().into_iter().filter(|n| !keep.contains(&Some(*n))).collect();
        for edition in old.iter().take(old.len().saturating_sub(KEPT)) {
            let _only_room = self.disk.remove_all(&self.place(*edition));
        }
    }
}

/// An edition, for people.
#[must_use]
pub fn name(edition: u32) -> String {
    if edition == BASE { "the image's own octant.toml".into() } else { format!("configuration {edition}") }
}

/// A small file's text.
fn text(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    Some(clip(text.trim_end()).to_owned())
}

fn clip(text: &str) -> &str {
    let mut end = text.len().min(TEXT_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests;
