//! The witness: requests in, answers out. Blocking, because an answer waits for the disk.

use crate::state::{Directory, Log, StateError, only_of};
use crate::{Level, Say};
use octant_sys::clock;
use octant_tlog::checkpoint::cosign;
use octant_tlog::note::{Algorithm, NoteKey, Verifier};
use octant_tlog::witness::{Refusal, Submission, TEXT_TYPE, open};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// What a witness needs.
pub struct Config {
    /// Its key, which makes cosignatures.
    pub key: NoteKey,
    /// The keys of the logs that it witnesses. A log can have several.
    pub logs: Vec<Verifier>,
    /// Where it remembers them. No other witness may have this directory.
    pub dir: PathBuf,
    /// Takes the lines of its log.
    pub say: Say,
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config").field("logs", &self.logs).field("dir", &self.dir).finish_non_exhaustive()
    }
}

/// Why a witness cannot start.
#[derive(Debug, thiserror::Error)]
pub enum WitnessError {
    /// There is nothing to witness.
    #[error("no log is given; name at least one by its verifier key")]
    NoLog,
    /// Its key is for something else.
    #[error("the key {name} is of {algorithm}; a witness needs one made by `octant ledger witness-key new`")]
    Key {
        /// The key's name.
        name: String,
        /// What it is for.
        algorithm: Algorithm,
    },
    /// A log's key is for something else.
    #[error("the key {name} is of {algorithm}; a log signs with {}", Algorithm::Ed25519)]
    LogKey {
        /// The key's name.
        name: String,
        /// What it is for.
        algorithm: Algorithm,
    },
    /// Its directory cannot be had.
    #[error(transparent)]
    State(#[from] StateError),
}

/// The answer to one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The content type.
    pub content_type: &'static str,
    /// The body.
    pub body: String,
}

impl Answer {
    pub(crate) fn text(status: u16, text: impl fmt::Display) -> Self {
        Self { status, content_type: TEXT_TYPE, body: format!("{text}\n") }
    }
}

impl From<Refusal> for Answer {
    fn from(refusal: Refusal) -> Self {
        Self { status: refusal.status(), content_type: refusal.content_type(), body: format!("{refusal}\n") }
    }
}

/// A witness.
pub struct Witness {
    key: NoteKey,
    keys: Vec<Verifier>,
    directory: Directory,
    /// By origin. The lock is held from the decision until the new state is on stable storage.
    logs: BTreeMap<String, Mutex<Log>>,
    say: Say,
    /// Called when a state is on stable storage and its cosignature has not left.
    #[cfg(test)]
    pub(crate) stored: Option<fn()>,
}

impl fmt::Debug for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Witness").field("logs", &self.logs).finish_non_exhaustive()
    }
}

impl Witness {
    /// Reads what is remembered of every log, and says of each where it is.
    ///
    /// # Errors
    /// [`WitnessError`]. A log whose state is damaged is none: it is refused when it is asked about.
    pub fn open(config: Config) -> Result<Self, WitnessError> {
        let Config { key, logs: keys, dir, say } = config;
        if keys.is_empty() {
            return Err(WitnessError::NoLog);
        }
        let own = key.verifier();
        let of = |key: &Verifier| (key.name().to_owned(), key.algorithm());
        if own.algorithm() != Algorithm::CosignatureV1 {
            let (name, algorithm) = of(&own);
            return Err(WitnessError::Key { name, algorithm });
        }
        if let Some(wrong) = keys.iter().find(|key| key.algorithm() != Algorithm::Ed25519) {
            let (name, algorithm) = of(wrong);
            return Err(WitnessError::LogKey { name, algorithm });
        }
        let directory = Directory::open(&dir)?;
        let mut logs = BTreeMap::new();
        let origins: BTreeSet<&str> = keys.iter().map(Verifier::name).collect();
        for origin in origins {
            let of_log: Vec<&Verifier> = keys.iter().filter(|key| key.name() == origin).collect();
            let log = Log::load(&directory, origin, &of_log, &own);
            match log.seen() {
                Ok(seen) if seen.size == 0 => {
                    say(Level::Info, &format!("{origin}: nothing was cosigned of it yet"));
                }
                Ok(seen) => {
                    let text =
                        format!("{origin}: cosigned last at {} entries, root {}", seen.size, seen.root);
                    say(Level::Info, &text);
                }
                Err(error) => say(Level::Error, &error.to_string()),
            }
            logs.insert(origin.to_owned(), Mutex::new(log));
        }
        Ok(Self {
            key,
            keys,
            directory,
            logs,
            say,
            #[cfg(test)]
            stored: None,
        })
    }

    /// The key with which its cosignatures verify.
    #[must_use]
    pub fn verifier(&self) -> Verifier {
        self.key.verifier()
    }

    /// Answers one `add-checkpoint` request. Waits for the disk and for other requests about the same log.
    #[must_use]
    pub fn add_checkpoint(&self, body: &[u8]) -> Answer {
        let submission = match open(body, &self.keys) {
            Ok(submission) => submission,
            Err(refusal) => return refusal.into(),
        };
        // Every key's name has its log.
        let Some(log) = self.logs.get(submission.origin()) else {
            return Refusal::UnknownOrigin { origin: submission.origin().to_owned() }.into();
        };
        // A panic while it was held would have left the state as it was or closed: `store` changes it last.
        let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
        self.decide(&mut log, &submission)
    }

    fn decide(&self, log: &mut Log, submission: &Submission) -> Answer {
        let seen = match log.seen() {
            Ok(seen) => seen,
            Err(error) => return Answer::text(500, error),
        };
        let new = match submission.decide(&seen) {
            Ok(new) => new,
            Err(refusal) => {
                if let Refusal::Fork { .. } = refusal {
                    self.keep_fork(log, submission);
                }
                return refusal.into();
            }
        };
        let origin = submission.origin();
        let cosignature = cosign(&self.key, &submission.signed().note.text, clock::wall_ms() / 1000);
        if new == seen {
            // It is remembered already. The newest checkpoint is public: whoever sends it again must not be able to
            // keep the disk busy.
            return Answer { status: 200, content_type: TEXT_TYPE, body: cosignature };
        }
        let mut note = only_of(submission.signed(), &self.keys).to_string();
        note.push_str(&cosignature);
        if let Err(error) = log.store(&self.directory, new, note) {
            (self.say)(Level::Error, &error.to_string());
            let status = if matches!(error, StateError::Write { .. }) { 503 } else { 500 };
            return Answer::text(status, error);
        }
        #[cfg(test)]
        if let Some(stored) = self.stored {
            stored();
        }
        if seen.size == 0 && new.size > 0 {
            (self.say)(
                Level::Info,
                &format!("{origin}: cosigned for the first time, at {} entries", new.size),
            );
        }
        Answer { status: 200, content_type: TEXT_TYPE, body: cosignature }
    }

    fn keep_fork(&self, log: &Log, submission: &Submission) {
        let origin = submission.origin();
        let (size, root) = (submission.signed().checkpoint.size, submission.signed().checkpoint.root);
        let other = only_of(submission.signed(), &self.keys).to_string();
        let what =
            format!("{origin}: a fork: the log has signed a second tree of {size} entries, root {root}");
        match log.keep_fork(&self.directory, &other, &root) {
            // It was said when it was kept.
            Ok(false) => {}
            Ok(true) => (self.say)(Level::Error, &format!("{what}; both checkpoints are kept in forks/")),
            Err(error) => {
                (self.say)(
                    Level::Error,
                    &format!("{what}; the checkpoints cannot be kept as evidence: {error}"),
                );
            }
        }
    }
}
