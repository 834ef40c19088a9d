//! Where a person's key and the record of what was run are.

use crate::error::{RunError, with};
use octant_ids::Layout;
use octant_manifest::{GrantPath, SigningKey};
use octant_sys::entropy;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A private key file is one short line.
const KEY_FILE_MAX: u64 = 4096;

/// The directories, which nobody else can enter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Places {
    /// Of the key.
    config: PathBuf,
    /// Of the record.
    state: PathBuf,
}

impl Places {
    /// As the XDG base directory specification has them; root's are below `/var/lib`, so that `sudo` leaves nothing of
    /// root's in somebody's home.
    pub(crate) fn find() -> Result<Self, RunError> {
        let root = nix::unistd::geteuid().is_root();
        Self::of(|name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute()), root)
    }

    pub(crate) fn of(variable: impl Fn(&str) -> Option<PathBuf>, root: bool) -> Result<Self, RunError> {
        let place = |name: &'static str, of_root: &str, in_home: &str| {
            let own = variable(name).map(|dir| dir.join("octant"));
            let default = || match root {
                true => Some(Path::new("/var/lib/octant-run").join(of_root)),
                false => variable("HOME").map(|home| home.join(in_home).join("octant")),
            };
            own.or_else(default).ok_or(RunError::NoHome(name))
        };
        let config = place("XDG_CONFIG_HOME", "config", ".config")?;
        let state = place("XDG_STATE_HOME", "state", ".local/state")?.join("run");
        Ok(Self { config, state })
    }

    /// What no workstation can be shown.
    pub(crate) fn layout(&self) -> Layout {
        let system = Layout::system();
        Layout { etc: self.config.clone(), state: self.state.clone(), run: system.run, log: system.log }
    }

    /// The ledger's directory.
    pub(crate) fn ledger(&self) -> PathBuf {
        self.state.join("ledger")
    }

    /// The lock of the ledger, which is open for as long as something is put on record.
    pub(crate) fn lock(&self) -> PathBuf {
        self.state.join("lock")
    }

    /// Which runs are there.
    pub(crate) fn runs(&self) -> PathBuf {
        self.state.join("runs")
    }

    /// Where what was signed is kept.
    pub(crate) fn manifests(&self) -> PathBuf {
        self.state.join("manifests")
    }

    /// Which placeholders stand in workspaces.
    pub(crate) fn placeholders(&self) -> PathBuf {
        self.state.join("placeholders")
    }

    /// The developer's key, made at the first use.
    pub(crate) fn key(&self) -> Result<SigningKey, RunError> {
        private_dir(&self.config)?;
        private_dir(&self.state)?;
        let path = self.config.join("developer.key");
        match read_key(&path) {
            Err(RunError::Path { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                make_key(&path)?;
                read_key(&path)
            }
            done => done,
        }
    }
}

/// Makes a directory that only this user can enter, and what is above it as usual.
pub(crate) fn private_dir(path: &Path) -> Result<(), RunError> {
    let made = path.parent().map_or(Ok(()), fs::create_dir_all);
    made.map_err(with("make the directory above", path))?;
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(with("make the directory", path)(error))
        }
        _ => Ok(()),
    }
}

fn read_key(path: &Path) -> Result<SigningKey, RunError> {
    let flags = nix::libc::O_NOFOLLOW;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path);
    let file = file.map_err(with("read your key", path))?;
    let meta = file.metadata().map_err(with("read your key", path))?;
    if meta.mode() & 0o077 != 0 || meta.uid() != nix::unistd::geteuid().as_raw() {
        return Err(RunError::KeyOpen(path.to_owned()));
    }
    let mut text = String::new();
    file.take(KEY_FILE_MAX).read_to_string(&mut text).map_err(with("read your key", path))?;
    SigningKey::from_private_file(&text).map_err(|error| RunError::Key { path: path.to_owned(), error })
}

/// Two that are started at once both find the key of the first: it comes into place whole, and never over another.
fn make_key(path: &Path) -> Result<(), RunError> {
    let mut seed = [0; 32];
    entropy::fill_seeded(&mut seed).map_err(crate::error::at("read random bytes for your key"))?;
    let new = path.with_extension(format!("new.{}", std::process::id()));
    let failed = with("write your key", path);
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(SigningKey::from_seed(seed).private_file().as_bytes())?;
        file.sync_all()?;
        match fs::hard_link(&new, path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        }
    };
    let written = write();
    // A name more of the same file.
    let _gone = fs::remove_file(&new);
    written.map_err(failed)
}

/// The current directory, which is to be the workspace.
pub(crate) fn current_dir() -> Result<GrantPath, RunError> {
    let dir = std::env::current_dir().and_then(fs::canonicalize);
    let dir = dir.map_err(crate::error::at("find the current directory"))?;
    let refused = |why: &str| RunError::Here { path: dir.display().to_string(), why: why.to_owned() };
    let text = dir.to_str().ok_or_else(|| refused("its name is not text in UTF-8"))?;
    let path = GrantPath::parse(text).map_err(|error| refused(&error.to_string()))?;
    if path.components().next().is_none() {
        return Err(refused("it is the root of all"));
    }
    let home = std::env::var_os("HOME").map(PathBuf::from).and_then(|home| home.canonicalize().ok());
    if home.is_some_and(|home| home.starts_with(&dir)) {
        return Err(refused("it is your home or holds it, with your keys and what your shells start"));
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(variables: &[(&str, &str)], root: bool) -> Result<Places, RunError> {
        let found = |name: &str| variables.iter().find(|row| row.0 == name).map(|row| PathBuf::from(row.1));
        Places::of(found, root)
    }

    #[test]
    fn the_variables_come_first_then_the_home_and_root_has_a_place_of_its_own() {
        let of = |places: Places| (places.config, places.state);
        let home = ("HOME", "/home/ada");
        assert_eq!(
            of(places(&[home], false).unwrap()),
            ("/home/ada/.config/octant".into(), "/home/ada/.local/state/octant/run".into())
        );
        assert_eq!(
            of(places(&[home, ("XDG_STATE_HOME", "/s")], false).unwrap()).1,
            Path::new("/s/octant/run")
        );
        assert_eq!(of(places(&[home], true).unwrap()).0, Path::new("/var/lib/octant-run/config"));
        assert!(matches!(places(&[], false), Err(RunError::NoHome("XDG_CONFIG_HOME"))));
    }

    #[test]
    fn a_key_is_made_once_and_must_stay_private() {
        use std::os::unix::fs::PermissionsExt;
        let dir = std::env::temp_dir().join(format!("octant-run-key-{}", std::process::id()));
        let text = dir.to_str().unwrap();
        let places = places(&[("XDG_CONFIG_HOME", text), ("XDG_STATE_HOME", text)], false).unwrap();
        let first = places.key().unwrap().id();
        assert_eq!(places.key().unwrap().id(), first);
        let path = dir.join("octant/developer.key");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(
            fs::read_dir(dir.join("octant")).unwrap().count(),
            2,
            "the key and the state, nothing half made"
        );
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(places.key(), Err(RunError::KeyOpen(_))));
        fs::remove_dir_all(dir).unwrap();
    }
}
