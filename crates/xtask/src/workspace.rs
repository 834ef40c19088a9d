//! Where things are: the checkout, the target directory and the places below it.

use crate::sh::Res;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The one target that Octant is shipped for.
pub(crate) const TARGET: &str = "x86_64-unknown-linux-gnu";

/// The checkout that the command was started in, and its target directory.
pub(crate) struct Workspace {
    /// The directory with the workspace's Cargo.toml.
    pub(crate) root: PathBuf,
    /// `CARGO_TARGET_DIR`, or `target` in the checkout. Everything that is made is below it.
    pub(crate) target: PathBuf,
}

impl Workspace {
    /// Finds the checkout by what Cargo says at run time, so that a target directory may be shared by several.
    pub(crate) fn find() -> Res<Self> {
        let own = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
        let own = own.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")));
        let Some(root) = own.ancestors().nth(2).map(Path::to_owned) else {
            return Err(format!("{} is not a crate of the workspace", own.display()));
        };
        if !root.join("Cargo.lock").is_file() {
            return Err(format!("{} has no Cargo.lock; run cargo x inside a checkout", root.display()));
        }
        let target = match std::env::var_os("CARGO_TARGET_DIR") {
            Some(dir) => std::path::absolute(PathBuf::from(dir))
                .map_err(|error| format!("CARGO_TARGET_DIR is not usable: {error}"))?,
            None => root.join("target"),
        };
        Ok(Self { root, target })
    }

    /// A cargo command in the checkout, with the target directory of this workspace.
    pub(crate) fn cargo(&self, words: &[&str]) -> Command {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command.args(words).current_dir(&self.root).env("CARGO_TARGET_DIR", &self.target);
        // Set by the `cargo run` that started this program; the inner one must not take them for its own.
        for name in ["CARGO_MANIFEST_DIR", "CARGO_MANIFEST_PATH", "CARGO_PKG_NAME", "CARGO_PKG_VERSION"] {
            command.env_remove(name);
        }
        command
    }

    /// What the image is made of and what it becomes: kernels, initrd, disks.
    pub(crate) fn image(&self) -> PathBuf {
        self.target.join("image")
    }

    /// Files of this checkout's own operator: its private key stays here.
    pub(crate) fn operator(&self) -> PathBuf {
        self.target.join("operator")
    }

    /// Cargo's target directory for static binaries. It is another one than for development, because other
    /// RUSTFLAGS make Cargo build everything again.
    pub(crate) fn static_target(&self) -> PathBuf {
        self.target.join("static")
    }
}
