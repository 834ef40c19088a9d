//! Where things are on disk.

use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The four directories of one running Octant.
///
/// The machine has one set at the usual places ([`Layout::system`]); `octant up` keeps a set of its own
/// below one directory ([`Layout::under`]), so that several can run on a developer's machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Layout {
    /// Configuration: `octant.toml`, `trusted/`, `units/`, `manifests/`.
    pub etc: PathBuf,
    /// One directory for each service's state, owned by that service's user.
    pub state: PathBuf,
    /// Sockets; gone at reboot.
    pub run: PathBuf,
    /// Output of services.
    pub log: PathBuf,
}

impl Layout {
    /// The layout of a machine that runs Octant.
    #[must_use]
    pub fn system() -> Self {
        Self {
            etc: "/etc/octant".into(),
            state: "/var/lib/octant".into(),
            run: "/run/octant".into(),
            log: "/var/log/octant".into(),
        }
    }

    /// The layout below `dir`: `etc`, `state`, `run`, `log`.
    #[must_use]
    pub fn under(dir: &Path) -> Self {
        Self { etc: dir.join("etc"), state: dir.join("state"), run: dir.join("run"), log: dir.join("log") }
    }

    /// A service's listening socket: `<run>/<service>.sock`.
    #[must_use]
    pub fn socket(&self, service: &str) -> PathBuf {
        self.run.join(format!("{service}.sock"))
    }

    /// PID 1's operator socket.
    #[must_use]
    pub fn operator_socket(&self) -> PathBuf {
        self.socket("init")
    }

    /// Where the router serves operators over HTTP: the same dialects as in a workstation.
    #[must_use]
    pub fn router_http(&self) -> PathBuf {
        self.socket("router-http")
    }

    /// Where `octant` itself is linked for scripts, on a machine whose search path does not have it.
    #[must_use]
    pub fn programs(&self) -> PathBuf {
        self.run.join("bin")
    }

    /// A service's state directory.
    #[must_use]
    pub fn state_of(&self, service: &str) -> PathBuf {
        self.state.join(service)
    }

    /// The directory of imported images.
    #[must_use]
    pub fn images(&self) -> PathBuf {
        self.state.join("images")
    }

    /// The directory of snapshots of workspaces.
    #[must_use]
    pub fn workspaces(&self) -> PathBuf {
        self.state.join("workspaces")
    }

    /// The directory of trusted operators' public keys.
    #[must_use]
    pub fn trusted(&self) -> PathBuf {
        self.etc.join("trusted")
    }

    /// Where what operators have said of [`Layout::trusted`] is kept, when that is in memory.
    #[must_use]
    pub fn trusted_kept(&self) -> PathBuf {
        self.state.join("trusted")
    }
}
