//! What `cargo x test` tells the tests: where the things are that it built.

use std::path::PathBuf;

/// A path that `cargo x` put into the environment.
///
/// # Panics
/// When the variable is missing: these tests run through `cargo x test`, which builds what they need first.
#[must_use]
pub fn path(variable: &str) -> PathBuf {
    match std::env::var_os(variable) {
        Some(value) => value.into(),
        None => panic!("{variable} is not set; run these tests through `cargo x test`"),
    }
}

/// The static binary.
#[must_use]
pub fn binary() -> PathBuf {
    path("OCTANT_BIN")
}

/// A fresh directory for one test, removed when dropped.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// Makes the directory below the system's temporary directory.
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!(
            "octant-test-{name}-{}-{}",
            std::process::id(),
            octant_sys::clock::monotonic_ns()
        ));
        std::fs::create_dir_all(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
        Self(dir)
    }

    /// A path inside.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Best effort: a left-over directory in the temporary directory harms nothing.
        let _ignored = std::fs::remove_dir_all(&self.0);
    }
}
