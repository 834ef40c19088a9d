//! Logins by key: what is asked, once, and whether the answer opens an account.

use crate::accounts::Accounts;
use octant_ids::{Layout, Sha256};
use octant_manifest::{KeyFileError, KeyId, LoginChallenge, LoginPlace, TrustedKeys, limits};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// For so long an answer is waited for: time to carry the challenge to where the key is, and back.
pub(crate) const WITHIN_NS: u64 = 5 * 60 * 1_000_000_000;

/// Why nobody is trusted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TrustError {
    /// A file, or the directory.
    #[error("{path}: cannot be read: {source}; no key opens anything until then")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What is in them.
    #[error("{path}: {source}; no key opens anything until then")]
    Content {
        /// The directory.
        path: PathBuf,
        /// What is wrong.
        source: KeyFileError,
    },
}

/// The trusted set as it is now; empty where there is none. One that cannot be read whole trusts nobody.
pub(crate) fn trusted(directory: &Path) -> Result<TrustedKeys, TrustError> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |source| TrustError::Read { path, source }
    };
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(TrustedKeys::default()),
        entries => entries.map_err(at(directory))?,
    };
    let mut files = Vec::new();
    for entry in entries.take(limits::KEY_FILES + 1) {
        let path = entry.map_err(at(directory))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut text = String::new();
        // One byte more than it may have, so that one that is too long is found to be.
        let limit = u64::try_from(limits::KEY_FILE_BYTES).unwrap_or(u64::MAX).saturating_add(1);
        File::open(&path).and_then(|file| file.take(limit).read_to_string(&mut text)).map_err(at(&path))?;
        files.push((name, text));
    }
    TrustedKeys::from_files(&files)
        .map_err(|source| TrustError::Content { path: directory.to_owned(), source })
}

/// Why nothing can be asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    /// The identifier of this boot.
    #[error("/proc/sys/kernel/random/boot_id: cannot be read: {0}")]
    Boot(#[source] io::Error),
    /// No number.
    #[error(transparent)]
    Random(#[from] octant_crypto::CryptoError),
    /// A terminal that has no name which can be written down.
    #[error(
        "terminal {0:?} has a name that a challenge cannot have; log in by passphrase, or at another terminal"
    )]
    Terminal(String),
}

/// What was asked at a terminal. It is used up by the first answer.
#[derive(Debug)]
pub(crate) struct Asked {
    challenge: LoginChallenge,
    until_ns: u64,
}

impl Asked {
    /// Asks for the key of an account; `now_ns` is CLOCK_MONOTONIC, `wall_ms` is for people.
    pub(crate) fn new(
        layout: &Layout,
        terminal: &str,
        account: &str,
        now_ns: u64,
        wall_ms: u64,
    ) -> Result<Self, AskError> {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").map_err(AskError::Boot)?;
        let place = LoginPlace { machine: &machine(layout), boot: &boot, terminal, account };
        let challenge = LoginChallenge::new(place, wall_ms / 1_000, octant_crypto::random()?)
            .ok_or_else(|| AskError::Terminal(terminal.to_owned()))?;
        Ok(Self { challenge, until_ns: now_ns.saturating_add(WITHIN_NS) })
    }

    /// What is shown.
    pub(crate) fn challenge(&self) -> &LoginChallenge {
        &self.challenge
    }

    /// Until when it is answered, CLOCK_MONOTONIC.
    pub(crate) fn until_ns(&self) -> u64 {
        self.until_ns
    }

    /// The key with which this answer opens its account, if it does. The same is done whether there is such an account or
    /// not.
    pub(crate) fn opened(
        self,
        answer: &[u8],
        accounts: &Accounts,
        trusted: &TrustedKeys,
        now_ns: u64,
        wall_ms: u64,
    ) -> Option<KeyId> {
        let answer = std::str::from_utf8(answer).unwrap_or_default();
        let key = self.challenge.answered(answer, trusted, wall_ms)?;
        let account = accounts.find(self.challenge.account())?;
        (account.has_key(key.0) && now_ns < self.until_ns).then_some(key)
    }
}

/// The machine's identifier: its own, or else what manifests call it. Which it is, is for people to see; what binds an
/// answer to this machine is the number in the challenge.
fn machine(layout: &Layout) -> String {
    let read = |dir: &Path| fs::read_to_string(dir.join("machine-id")).ok();
    read(&layout.state).or_else(|| read(&layout.etc)).unwrap_or_default()
}

/// The key of the trusted set that begins so, where there is just one.
pub(crate) fn find(trusted: &TrustedKeys, beginning: &str) -> Option<Sha256> {
    let mut found = trusted.iter().filter(|key| key.key.to_string().starts_with(beginning));
    let (Some(key), None) = (found.next(), found.next()) else { return None };
    (!beginning.is_empty() && key.revoked.is_none()).then_some(key.key.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accounts::OpenedBy;
    use crate::files::tests::Scratch;
    use octant_manifest::SigningKey;

    /// A machine with two accounts, each with a key of its own, and one key that is trusted and opens nothing.
    struct World {
        scratch: Scratch,
        layout: Layout,
        accounts: Accounts,
    }

    fn key(of: &str) -> SigningKey {
        SigningKey::from_seed([of.as_bytes()[0]; 32])
    }

    fn new_world(name: &str) -> World {
        let scratch = Scratch::new(name);
        let layout = Layout::under(&scratch.0);
        fs::create_dir_all(layout.trusted()).unwrap();
        let mut accounts = Accounts::load(&scratch.0.join("console")).unwrap();
        for who in ["ada", "bob", "eve"] {
            let text = key(who).public_file(who, "developer");
            fs::write(layout.trusted().join(format!("{who}.pub")), text).unwrap();
        }
        for who in ["ada", "bob"] {
            accounts.add(who, 0, OpenedBy::Key(key(who).id().0)).unwrap();
        }
        World { scratch, layout, accounts }
    }

    impl World {
        fn ask(&self, terminal: &str, account: &str) -> Asked {
            Asked::new(&self.layout, terminal, account, 0, 1_764_000_000_000).unwrap()
        }

        fn opened(&self, asked: Asked, answer: &str, now_ns: u64) -> bool {
            let trusted = trusted(&self.layout.trusted()).unwrap();
            asked.opened(answer.as_bytes(), &self.accounts, &trusted, now_ns, 1_764_000_000_000).is_some()
        }
    }

    /// Where the key is, all that is known is the text.
    fn answer(asked: &Asked, of: &str) -> String {
        asked.challenge().to_string().parse::<LoginChallenge>().unwrap().answer(&key(of))
    }

    #[test]
    fn an_answer_opens_its_account_once_and_only_where_it_was_asked() {
        let world = new_world("opens");
        let asked = world.ask("ttyS0", "ada");
        let good = answer(&asked, "ada");
        assert!(world.opened(asked, &good, WITHIN_NS - 1));
        // The one that was used opens nothing that is asked from now on: nor at another terminal, for another account.
        for (terminal, account) in [("ttyS0", "ada"), ("tty1", "ada"), ("ttyS0", "bob")] {
            assert!(!world.opened(world.ask(terminal, account), &good, 0), "{account} at {terminal}");
        }
        let other = new_world("other");
        fs::create_dir_all(&other.layout.state).unwrap();
        fs::write(other.layout.state.join("machine-id"), "fedcba9876543210").unwrap();
        let there = other.ask("ttyS0", "ada");
        assert_eq!(there.challenge().machine(), "fedcba987654");
        assert!(!world.opened(world.ask("ttyS0", "ada"), &answer(&there, "ada"), 0));
    }

    #[test]
    fn what_is_late_or_cut_short_or_from_another_key_opens_nothing() {
        let world = new_world("wrong");
        let of = |who: &str| {
            let asked = world.ask("ttyS0", "ada");
            let answer = answer(&asked, who);
            (asked, answer)
        };
        let (asked, good) = of("ada");
        assert!(!world.opened(asked, &good, WITHIN_NS), "too late");
        let (asked, good) = of("ada");
        assert!(!world.opened(asked, &good[..85], 0), "cut short");
        let (asked, good) = of("ada");
        assert!(!world.opened(asked, &good.replace(|c: char| c.is_ascii_uppercase(), "x"), 0), "altered");
        for who in ["bob", "eve", "mallory"] {
            let (asked, wrong) = of(who);
            assert!(!world.opened(asked, &wrong, 0), "{who}");
        }
        for nobody in ["carol", "ada-"] {
            let asked = world.ask("ttyS0", nobody);
            let wrong = answer(&asked, "ada");
            assert!(!world.opened(asked, &wrong, 0), "{nobody}");
        }
    }

    #[test]
    fn a_key_that_is_revoked_or_gone_or_unreadable_opens_nothing_from_then_on() {
        let world = new_world("revoked");
        let dir = world.layout.trusted();
        let revoked = format!("{} stolen\n", key("ada").id());
        let asked = world.ask("ttyS0", "ada");
        let good = answer(&asked, "ada");
        fs::write(dir.join("revoked"), revoked).unwrap();
        assert!(!world.opened(asked, &good, 0), "revoked after it was asked");
        fs::remove_file(dir.join("revoked")).unwrap();
        fs::write(dir.join("stray"), "").unwrap();
        assert!(matches!(trusted(&dir), Err(TrustError::Content { .. })));
        fs::remove_file(dir.join("stray")).unwrap();
        fs::remove_file(dir.join("ada.pub")).unwrap();
        let asked = world.ask("ttyS0", "ada");
        let good = answer(&asked, "ada");
        assert!(!world.opened(asked, &good, 0), "no more in the set");
        fs::remove_dir_all(&dir).unwrap();
        assert!(trusted(&dir).unwrap().is_empty());
        fs::write(&dir, "").unwrap();
        assert!(matches!(trusted(&dir), Err(TrustError::Read { .. })));
        assert!(world.scratch.0.exists());
    }

    #[test]
    fn a_key_is_named_by_the_beginning_of_its_identifier() {
        let world = new_world("named");
        let set = trusted(&world.layout.trusted()).unwrap();
        let id = key("ada").id();
        assert_eq!(find(&set, &id.to_string()[..16]), Some(id.0));
        assert_eq!((find(&set, ""), find(&set, "zz")), (None, None));
        fs::write(world.layout.trusted().join("revoked"), format!("{id} lost\n")).unwrap();
        assert_eq!(find(&trusted(&world.layout.trusted()).unwrap(), &id.to_string()), None);
    }
}
