//! PostgreSQL's programs, fetched and unpacked below the target directory. Installed, the package would make a database and
//! start a server of it on this machine.

use crate::apt::{Private, System};
use crate::sh::{self, Res};
use crate::workspace::Workspace;
use std::path::{Path, PathBuf};

/// The folder with the programs that are there, else fetched (17 MB).
///
/// # Errors
/// This is not Debian, the archive does not answer, or its package is laid out in another way.
pub(crate) fn fetch(workspace: &Workspace) -> Res<PathBuf> {
    let tree = workspace.image().join("postgresql");
    if let Ok(programs) = programs(&tree) {
        return Ok(programs);
    }
    let system = System::of_this_machine();
    let Some(release) = system.release() else {
        return Err(format!(
            "Debian's package postgresql is fetched with apt on Debian 12 and 13; this is {}",
            system.pretty
        ));
    };
    Private::with(&workspace.image().join("apt"), release, release.codename(), |apt| {
        apt.unpack(&apt.dependency("postgresql", "postgresql-")?, &tree)
    })?;
    programs(&tree)
}

/// They are in a folder named by the version.
fn programs(tree: &Path) -> Res<PathBuf> {
    let versions = sh::list(&tree.join("usr/lib/postgresql"))?;
    let programs = versions.into_iter().map(|version| version.join("bin"));
    let found = programs.into_iter().find(|programs| programs.join("postgres").is_file());
    found.ok_or_else(|| format!("there is no usr/lib/postgresql/VERSION/bin/postgres in {}", tree.display()))
}
