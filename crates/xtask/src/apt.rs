//! Debian's package archive without touching the machine's own package configuration.
//!
//! Two ways are used. [`Private`] has sources list, state and cache of its own below the target directory: what
//! it fetches is unpacked there and never installed. [`extra_list`] gives apt one more list for one call, to
//! install a package from backports. Both take the archive's address from the machine's own sources, and both
//! have apt check signatures as always.

use crate::sh::{self, Res};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where Debian's `debian-archive-keyring` package puts the archive's keys.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// An index this old is fetched again: long enough to work offline for a week, short enough for fixes.
const INDEX_MAX_AGE_S: u64 = 7 * 24 * 3600;

/// What the running system is, as os-release says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct System {
    pub(crate) id: String,
    pub(crate) codename: String,
    pub(crate) pretty: String,
}

impl System {
    pub(crate) fn of_this_machine() -> Self {
        // A machine without os-release is simply none that is known here.
        Self::parse(&std::fs::read_to_string("/etc/os-release").unwrap_or_default())
    }

    fn parse(os_release: &str) -> Self {
        let field = |name: &str| {
            let lines = os_release.lines();
            let value = lines.filter_map(|line| line.split_once('=')).find(|(key, _)| *key == name);
            value.map(|(_, value)| value.trim_matches('"').to_owned()).unwrap_or_default()
        };
        let pretty = field("PRETTY_NAME");
        let pretty = if pretty.is_empty() { "a system without /etc/os-release".to_owned() } else { pretty };
        Self { id: field("ID"), codename: field("VERSION_CODENAME"), pretty }
    }

    /// The Debian release, where it is one that Octant is built on.
    pub(crate) fn release(&self) -> Option<Release> {
        match (self.id.as_str(), self.codename.as_str()) {
            ("debian", "bookworm") => Some(Release::Bookworm),
            ("debian", "trixie") => Some(Release::Trixie),
            _ => None,
        }
    }
}

/// A Debian release that Octant is built on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Release {
    /// Debian 12.
    Bookworm,
    /// Debian 13.
    Trixie,
}

impl Release {
    pub(crate) fn codename(self) -> &'static str {
        match self {
            Self::Bookworm => "bookworm",
            Self::Trixie => "trixie",
        }
    }
}

/// The address of the archive that the machine's own sources name for its own release.
///
/// # Errors
/// There is no apt, or no source of the release's main component.
pub(crate) fn archive(release: Release) -> Res<String> {
    let format = "$(REPO_URI) $(RELEASE) $(COMPONENT)";
    let listing =
        sh::text(Command::new("apt-get").args(["indextargets", "--format", format, "Created-By: Packages"]))?;
    address(&listing, release.codename()).ok_or_else(|| {
        format!(
            "the machine's package sources have no `main` of {}; `apt-get indextargets` lists them",
            release.codename()
        )
    })
}

fn address(listing: &str, suite: &str) -> Option<String> {
    listing.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let uri = words.next()?;
        (words.next()? == suite && words.next()? == "main").then(|| uri.trim_end_matches('/').to_owned())
    })
}

/// One line for apt that adds `suite`.
fn source_line(archive: &str, suite: &str) -> String {
    let signed = if Path::new(KEYRING).is_file() { format!("[signed-by={KEYRING}] ") } else { String::new() };
    format!("deb {signed}{archive} {suite} main\n")
}

/// Options that make one apt call see `suite` besides the machine's own sources. The list is written to `file`.
pub(crate) fn extra_list(release: Release, suite: &str, file: &Path) -> Res<Vec<String>> {
    let own = read_own_list()?;
    sh::write(file, own + &source_line(&archive(release)?, suite))?;
    Ok(vec![
        "-o".into(),
        format!("Dir::Etc::sourcelist={}", file.display()),
        // Without it apt would throw away the indices of every source that it does not see this time.
        "-o".into(),
        "APT::Get::List-Cleanup=0".into(),
    ])
}

/// The content of the machine's sources.list, which the extra list stands in for; its sources.list.d stays.
fn read_own_list() -> Res<String> {
    let own = Path::new("/etc/apt/sources.list");
    if own.is_file() { sh::read_text(own).map(|text| text + "\n") } else { Ok(String::new()) }
}

/// A package index of one suite in a directory of its own.
pub(crate) struct Private {
    dir: PathBuf,
    /// The index was fetched just now.
    fresh: bool,
}

impl Private {
    /// Opens `suite` of the archive in `dir`, and fetches its index unless a fresh one is there.
    ///
    /// # Errors
    /// The archive does not answer, does not have the suite, or its signature is not the keyring's.
    fn open(dir: &Path, release: Release, suite: &str) -> Res<Self> {
        let mut private = Self { dir: dir.join(suite), fresh: false };
        for part in ["lists/partial", "cache/archives/partial"] {
            sh::make_dir(&private.dir.join(part))?;
        }
        let stamp = private.dir.join("updated");
        if young(&stamp) {
            return Ok(private);
        }
        sh::write(&private.dir.join("sources.list"), source_line(&archive(release)?, suite))?;
        sh::write(&private.dir.join("status"), "")?;
        // Without Error-Mode apt would call an index that could not be fetched a warning.
        sh::output(private.apt("apt-get").args(["-q", "-o", "APT::Update::Error-Mode=any", "update"]))?;
        sh::write(&stamp, "")?;
        private.fresh = true;
        Ok(private)
    }

    /// Opens `suite` and does `work` with it. An index that is not fresh may name a version that the archive has
    /// replaced since: when the work fails, it is done again with a fresh one.
    ///
    /// # Errors
    /// What the work reports the last time.
    pub(crate) fn with<T>(
        dir: &Path,
        release: Release,
        suite: &str,
        work: impl Fn(&Self) -> Res<T>,
    ) -> Res<T> {
        let private = Self::open(dir, release, suite)?;
        match work(&private) {
            Err(_) if !private.fresh => {
                sh::remove(&private.dir.join("updated"))?;
                work(&Self::open(dir, release, suite)?)
            }
            done => done,
        }
    }

    /// The package that the meta package `name` stands for: its first dependency that begins with `prefix`.
    ///
    /// # Errors
    /// The suite has no such package.
    pub(crate) fn dependency(&self, name: &str, prefix: &str) -> Res<String> {
        let listing = sh::text(self.apt("apt-cache").args(["depends", name]))?;
        let found = listing
            .lines()
            .filter_map(|line| line.trim().strip_prefix("Depends: "))
            .find(|d| d.starts_with(prefix));
        found.map(str::to_owned).ok_or_else(|| format!("{name} depends on no {prefix}...:\n{listing}"))
    }

    /// Downloads the newest `package`, unpacks it into `into`, which is made anew, and gives nothing half done.
    ///
    /// # Errors
    /// The download or its check fails.
    pub(crate) fn unpack(&self, package: &str, into: &Path) -> Res {
        let debs = self.dir.join("debs").join(package);
        sh::remove(&debs)?;
        sh::make_dir(&debs)?;
        sh::output(self.apt("apt-get").args(["-q", "download", package]).current_dir(&debs))?;
        let Some(deb) =
            sh::list(&debs)?.into_iter().find(|path| path.extension().is_some_and(|e| e == "deb"))
        else {
            return Err(format!("`apt-get download {package}` left no .deb in {}", debs.display()));
        };
        let half = into.with_extension("half");
        sh::remove(&half)?;
        sh::make_dir(&half)?;
        sh::output(Command::new("dpkg-deb").arg("-x").arg(&deb).arg(&half))?;
        sh::remove(into)?;
        sh::rename(&half, into)?;
        sh::remove(&debs)
    }

    fn apt(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let dir = self.dir.display();
        for option in [
            format!("Dir::Etc::sourcelist={dir}/sources.list"),
            "Dir::Etc::sourceparts=/dev/null".into(),
            "Dir::Etc::preferences=/dev/null".into(),
            "Dir::Etc::preferencesparts=/dev/null".into(),
            format!("Dir::State={dir}"),
            format!("Dir::State::lists={dir}/lists"),
            format!("Dir::State::status={dir}/status"),
            format!("Dir::Cache={dir}/cache"),
            // The directory may be one that the archive's own user cannot enter.
            "APT::Sandbox::User=root".into(),
            "Acquire::Languages=none".into(),
            "Acquire::Retries=2".into(),
            "Acquire::http::Timeout=30".into(),
            // Descriptions for software centres: larger than the index itself.
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".into(),
        ] {
            command.arg("-o").arg(option);
        }
        command
    }
}

fn young(stamp: &Path) -> bool {
    let modified = std::fs::metadata(stamp).and_then(|meta| meta.modified());
    modified.is_ok_and(|time| time.elapsed().is_ok_and(|age| age.as_secs() < INDEX_MAX_AGE_S))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_release_is_read_from_os_release() {
        let text = "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nVERSION_CODENAME=bookworm\nID=debian\n";
        let system = System::parse(text);
        assert_eq!(system.release(), Some(Release::Bookworm));
        assert_eq!(system.pretty, "Debian GNU/Linux 12 (bookworm)");
        assert_eq!(System::parse("ID=ubuntu\nVERSION_CODENAME=noble\n").release(), None);
        assert_eq!(System::parse("").release(), None);
    }

    #[test]
    fn the_archive_is_the_one_that_the_own_release_comes_from() {
        let listing = "http://a.invalid/security/ bookworm-security main\n\
                       http://b.invalid/debian/ bookworm contrib\n\
                       http://b.invalid/debian/ bookworm main\n";
        assert_eq!(address(listing, "bookworm").as_deref(), Some("http://b.invalid/debian"));
        assert_eq!(address(listing, "trixie"), None);
    }
}
