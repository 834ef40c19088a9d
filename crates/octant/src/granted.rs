//! Which utilities may run here.
//!
//! In a workstation all utilities are one inode, so that the kernel cannot tell `ls` from the shell by file. The
//! supervisor therefore leaves a list there, on a read-only mount; outside of a workstation there is none. This layer
//! is Octant's own: what the kernel enforces does not rest on it.

use nix::unistd::{AccessFlags, access};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Where the supervisor leaves the list: one name a line.
const LIST: &str = "/etc/octant/applets";

/// The commands of Octant's own that speak to the workstation's own socket and, where there is one, to nothing else.
const OF_AN_AGENT: [&str; 10] =
    ["agent", "approvals", "lease", "mcp", "message", "note", "secret", "self", "ssh-agent", "workspace"];

/// Far more than all names together.
const LIST_MAX_BYTES: u64 = 64 * 1024;

/// What may run.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Granted {
    /// This is no workstation: everything.
    All,
    /// These utilities, and no part of Octant but an agent's own commands.
    Only(Vec<String>),
}

/// A list that is there and cannot be relied on: nothing runs.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListError {
    #[error("{LIST}: cannot read the list of granted utilities: {0}; nothing is run")]
    Read(#[from] io::Error),
    #[error("{LIST}: the list of granted utilities can be changed by this user; nothing is run")]
    Writable,
    #[error("{LIST}: the list of granted utilities is longer than {LIST_MAX_BYTES} bytes; nothing is run")]
    TooLong,
}

impl Granted {
    /// What holds where this process runs.
    pub(crate) fn here() -> Result<Self, ListError> {
        Self::read(Path::new(LIST))
    }

    fn read(path: &Path) -> Result<Self, ListError> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                return Ok(Self::All);
            }
            Err(error) => return Err(error.into()),
        };
        // On a read-only mount this is refused to root as well.
        if file.metadata()?.mode() & 0o022 != 0 || access(path, AccessFlags::W_OK).is_ok() {
            return Err(ListError::Writable);
        }
        let mut text = String::new();
        file.take(LIST_MAX_BYTES + 1).read_to_string(&mut text)?;
        if text.len() as u64 > LIST_MAX_BYTES {
            return Err(ListError::TooLong);
        }
        Ok(Self::Only(text.lines().map(str::to_owned).collect()))
    }

    /// Whether this utility may run.
    pub(crate) fn utility(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(names) => names.iter().any(|granted| granted == name),
        }
    }

    /// Whether this command of Octant's own may run.
    pub(crate) fn command(&self, name: &OsStr) -> bool {
        *self == Self::All || OF_AN_AGENT.iter().any(|own| name == *own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    fn scratch(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("octant-granted-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        path
    }

    #[test]
    fn without_a_list_everything_may_run() {
        let directory = scratch("none");
        assert_eq!(Granted::read(&directory.join("applets")).unwrap(), Granted::All);
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn a_list_that_this_user_can_change_counts_as_a_fault() {
        let directory = scratch("writable");
        let path = directory.join("applets");
        fs::write(&path, "ls\n").unwrap();
        for mode in [0o644, 0o466, 0o464] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            assert!(matches!(Granted::read(&path), Err(ListError::Writable)), "{mode:o}");
        }
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn a_list_that_cannot_be_read_grants_nothing() {
        let directory = scratch("unreadable");
        assert!(matches!(Granted::read(&directory), Err(ListError::Writable | ListError::Read(_))));
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn a_grant_is_for_exactly_one_name() {
        let granted = Granted::Only(vec!["ls".into(), "sh".into()]);
        assert!(granted.utility("ls") && !granted.utility("l") && !granted.utility("lss"));
        for own in OF_AN_AGENT {
            assert!(granted.command(OsStr::new(own)), "{own}");
        }
        for other in
            ["agents", "messages", "secrets", "vault", "status", "init", "svc", "--list", "poweroff", "ls"]
        {
            assert!(!granted.command(OsStr::new(other)), "{other}");
        }
    }
}
