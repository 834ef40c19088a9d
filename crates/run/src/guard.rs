//! What in the workspace runs later outside, where nothing confines it: it is read-only inside.
//!
//! Each such file is a mount of its own inside. The kernel lets nobody write to it, and neither remove nor rename a mount
//! point; what holds it (`.git`) is one too, so that it cannot be moved out of the way with what it holds. What is not
//! there cannot be made either: for as long as the program runs an empty directory stands in its place, which tools
//! overlook. It goes again with the last run that needs it, and where a run was killed, with the next.
//!
//! A repository or a settings directory that the program makes further down is not guarded, and neither is what a person
//! starts by name, as a Makefile.

use crate::error::{RunError, with};
use crate::places::private_dir;
use nix::fcntl::{Flock, FlockArg, OFlag};
use octant_ids::Sha256;
use octant_manifest::GrantPath;
use sha2::Digest;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Guarded whether it is there or not: what shells, editors and agents load from a directory by themselves.
const ALWAYS: [&str; 10] = [
    ".envrc",
    ".vscode",
    ".idea",
    ".zed",
    ".exrc",
    ".nvim.lua",
    ".dir-locals.el",
    ".claude",
    ".cursor",
    ".mcp.json",
];
/// Guarded where it is there: what hooks that are there already, or tools that were told to, take commands from.
const WHERE_THERE: [&str; 7] =
    [".husky", ".pre-commit-config.yaml", ".devcontainer", ".fleet", ".mise.toml", "mise.toml", ".nvimrc"];
/// The same in a repository.
const GIT_ALWAYS: [&str; 3] = ["config", "config.worktree", "hooks"];
/// Other repositories in it, each with a configuration and hooks of its own.
const GIT_WHERE_THERE: [&str; 2] = ["modules", "worktrees"];
/// Names another directory as the one with configuration and hooks. Git reads it whenever it is there, so it cannot be an
/// empty directory: it names its own.
const COMMON_DIR: (&str, &str) = ("commondir", ".\n");
/// By which git takes a directory without `.git` for a repository, with a configuration beside it.
const BARE: &str = "HEAD";

/// The guarded paths of one run.
#[derive(Debug)]
pub(crate) struct Guarded {
    /// Each with whether it can be written.
    paths: Vec<(GrantPath, bool)>,
    placeholders: Vec<Placeholder>,
    list: PathBuf,
}

impl Guarded {
    /// Finds what is there, and puts something in the place of what is not. `list` is where placeholders are noted.
    pub(crate) fn find(here: &GrantPath, list: &Path) -> Result<Self, RunError> {
        private_dir(list)?;
        let _lock = alone(list)?;
        sweep(list);
        let top = Path::new(here.as_str());
        let mut guarded = Self { paths: Vec::new(), placeholders: Vec::new(), list: list.to_owned() };
        let found = guarded.fill(top, list);
        if found.is_err() {
            // Here, where the lock is held that this needs.
            guarded.placeholders.drain(..).for_each(Placeholder::release);
        }
        found.map(|()| guarded)
    }

    fn fill(&mut self, top: &Path, list: &Path) -> Result<(), RunError> {
        for name in ALWAYS {
            self.always(&top.join(name), list)?;
        }
        for name in WHERE_THERE {
            self.where_there(&top.join(name))?;
        }
        self.repository(top, list)
    }

    fn repository(&mut self, top: &Path, list: &Path) -> Result<(), RunError> {
        let git = top.join(".git");
        let Some(Kind::Directory) = kind(&git)? else {
            // A file names the repository of a work tree elsewhere; and where there is none, none can be made.
            self.always(&git, list)?;
            return self.always(&top.join(BARE), list);
        };
        if fs::read_dir(&git).map_err(with("look into", &git))?.next().is_none() {
            // Another run's placeholder, or of no use to git either way.
            self.always(&git, list)?;
            return self.always(&top.join(BARE), list);
        }
        self.add(&git, true)?;
        for name in GIT_ALWAYS {
            self.always(&git.join(name), list)?;
        }
        for name in GIT_WHERE_THERE {
            self.where_there(&git.join(name))?;
        }
        let (name, content) = COMMON_DIR;
        self.always_with(&git.join(name), list, Some(content))
    }

    fn always(&mut self, path: &Path, list: &Path) -> Result<(), RunError> {
        self.always_with(path, list, None)
    }

    fn always_with(&mut self, path: &Path, list: &Path, content: Option<&str>) -> Result<(), RunError> {
        if kind(path)?.is_none() || note(list, path).exists() {
            match Placeholder::hold(path, list, content)? {
                Some(placeholder) => self.placeholders.push(placeholder),
                // Nobody can make anything there.
                None if kind(path)?.is_none() => return Ok(()),
                None => {}
            }
        }
        self.add(path, false)
    }

    fn where_there(&mut self, path: &Path) -> Result<(), RunError> {
        if kind(path)?.is_some() { self.add(path, false) } else { Ok(()) }
    }

    fn add(&mut self, path: &Path, write: bool) -> Result<(), RunError> {
        let refused = |why: &str| RunError::Guard { path: path.to_owned(), why: why.to_owned() };
        let text = path.to_str().ok_or_else(|| refused("its name is not text in UTF-8"))?;
        let parsed = GrantPath::parse(text).map_err(|error| refused(&error.to_string()))?;
        self.paths.push((parsed, write));
        Ok(())
    }

    /// The paths, each with whether it can be written.
    pub(crate) fn paths(&self) -> Vec<(GrantPath, bool)> {
        self.paths.clone()
    }

    /// Takes the placeholders away that no other run needs.
    pub(crate) fn release(&mut self) {
        if self.placeholders.is_empty() {
            return;
        }
        // Without the lock they stay until the next run sweeps.
        let Ok(_lock) = alone(&self.list) else { return };
        self.placeholders.drain(..).for_each(Placeholder::release);
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        self.release();
    }
}

enum Kind {
    File,
    Directory,
}

/// What is at a path; none where nothing is. A link is refused: the kernel mounts nothing over one, so it could be replaced.
fn kind(path: &Path) -> Result<Option<Kind>, RunError> {
    match path.symlink_metadata() {
        Ok(meta) if meta.is_dir() => Ok(Some(Kind::Directory)),
        Ok(meta) if meta.is_file() => Ok(Some(Kind::File)),
        Ok(_) => {
            let why = "it is a symbolic link or a special file, and runs or is read outside by itself: as such it cannot \
                       be guarded; put what it leads to in its place";
            Err(RunError::Guard { path: path.to_owned(), why: why.into() })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(with("look at", path)(error)),
    }
}

/// Something that stands where nothing may be made. Who needs it holds a shared lock on it.
#[derive(Debug)]
struct Placeholder {
    path: PathBuf,
    note: PathBuf,
    held: Flock<File>,
}

/// Where it is noted that a path is a placeholder.
fn note(list: &Path, path: &Path) -> PathBuf {
    list.join(Sha256(sha2::Sha256::digest(path.as_os_str().as_bytes()).into()).to_string())
}

/// Of all runs of this user one at a time makes placeholders or takes them away.
fn alone(list: &Path) -> Result<Flock<File>, RunError> {
    let path = list.join("lock");
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = file.map_err(with("open the lock", &path))?;
    let locked = Flock::lock(file, FlockArg::LockExclusive);
    locked.map_err(|(_, errno)| with("lock the placeholders", &path)(errno.into()))
}

impl Placeholder {
    /// Makes it, or holds that of another run; none where nothing can be made.
    fn hold(path: &Path, list: &Path, content: Option<&str>) -> Result<Option<Self>, RunError> {
        let failed = |error| with("put a placeholder at", path)(error);
        let note = note(list, path);
        // Before it is there, so that none is ever left that nobody knows of.
        fs::write(&note, path.as_os_str().as_bytes()).map_err(failed)?;
        match make(path, content) {
            Err(error) if cannot_be_made(path, &error) => {
                let _was_for_nothing = fs::remove_file(&note);
                return Ok(None);
            }
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
            _ => {}
        }
        let file = open(path).map_err(failed)?;
        let held = Flock::lock(file, FlockArg::LockShared).map_err(|(_, errno)| failed(errno.into()))?;
        Ok(Some(Self { path: path.to_owned(), note, held }))
    }

    /// Takes it away, unless another run needs it too or somebody has put something into it.
    fn release(self) {
        let Self { path, note, held } = self;
        if held.relock(FlockArg::LockExclusiveNonblock).is_ok() {
            take_away(&path, &note);
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits();
    OpenOptions::new().read(true).custom_flags(flags).open(path)
}

fn make(path: &Path, content: Option<&str>) -> io::Result<()> {
    let Some(content) = content else { return fs::create_dir(path) };
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(content.as_bytes())
}

/// Whether nobody inside can make it either: on a file system that is read-only, or in a directory of somebody else.
fn cannot_be_made(path: &Path, error: &io::Error) -> bool {
    let owner = path.parent().and_then(|dir| dir.metadata().ok()).map(|meta| meta.uid());
    let others = owner.is_some_and(|owner| owner != nix::unistd::geteuid().as_raw());
    match error.kind() {
        io::ErrorKind::ReadOnlyFilesystem => true,
        io::ErrorKind::PermissionDenied => others,
        _ => false,
    }
}

/// An empty directory goes; a file goes if it has what was put there. Anything else is a person's by now.
fn take_away(path: &Path, note: &Path) {
    let ours = |path: &Path| fs::read(path).is_ok_and(|found| found == COMMON_DIR.1.as_bytes());
    let gone = match path.symlink_metadata() {
        Ok(meta) if meta.is_dir() => fs::remove_dir(path),
        Ok(meta) if meta.is_file() && ours(path) => fs::remove_file(path),
        _ => Ok(()),
    };
    let theirs = |error: &io::Error| error.kind() == io::ErrorKind::DirectoryNotEmpty;
    if gone.as_ref().map_or_else(theirs, |()| true) {
        let _noted_until_the_next_sweep = fs::remove_file(note);
    }
}

/// Takes away what runs that were killed have left.
fn sweep(list: &Path) {
    for entry in fs::read_dir(list).into_iter().flatten().flatten() {
        let note = entry.path();
        let Ok(bytes) = fs::read(&note) else { continue };
        let path = Path::new(OsStr::from_bytes(&bytes));
        if path.is_relative() {
            continue;
        }
        match open(path) {
            Ok(file) => {
                if let Ok(_nobody_needs_it) = Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                    take_away(path, &note);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let _gone = fs::remove_file(&note);
            }
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Dir(PathBuf);

    impl Dir {
        fn new(name: &str) -> Self {
            let dir = std::env::temp_dir().join(format!("octant-run-{name}-{}", std::process::id()));
            let _of_a_run_that_was_killed = fs::remove_dir_all(&dir);
            fs::create_dir_all(dir.join("work")).unwrap();
            Self(dir.canonicalize().unwrap())
        }

        fn work(&self) -> PathBuf {
            self.0.join("work")
        }

        fn find(&self) -> Result<Guarded, RunError> {
            let here = GrantPath::parse(self.work().to_str().unwrap()).unwrap();
            Guarded::find(&here, &self.0.join("list"))
        }

        fn left(&self) -> Vec<String> {
            let names = fs::read_dir(self.work()).unwrap().map(|entry| entry.unwrap().file_name());
            let mut names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
            names.sort();
            names
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn placeholders_go_with_the_last_run_that_needs_them() {
        let dir = Dir::new("last");
        let (first, second) = (dir.find().unwrap(), dir.find().unwrap());
        assert_eq!(first.paths(), second.paths());
        assert!(dir.left().contains(&".git".into()) && dir.left().contains(&"HEAD".into()));
        drop(first);
        assert!(dir.left().contains(&".envrc".into()), "the second run still needs it");
        drop(second);
        assert_eq!(dir.left(), [""; 0]);
    }

    #[test]
    fn what_a_killed_run_has_left_goes_with_the_next_and_what_a_person_made_stays() {
        let dir = Dir::new("killed");
        let mut killed = dir.find().unwrap();
        // A process that is killed lets go of its locks, and of nothing else.
        killed.placeholders.clear();
        drop(killed);
        fs::write(dir.work().join(".vscode/settings.json"), "{}").unwrap();
        drop(dir.find().unwrap());
        assert_eq!(dir.left(), [".vscode"]);
        drop(dir.find().unwrap());
        assert_eq!(dir.left(), [".vscode"], "and is not taken for a placeholder any more");
    }

    #[test]
    fn a_repository_is_pinned_and_what_it_runs_is_read_only() {
        let dir = Dir::new("git");
        let git = dir.work().join(".git");
        fs::create_dir_all(git.join("hooks")).unwrap();
        fs::write(git.join("config"), "[core]\n").unwrap();
        let guarded = dir.find().unwrap();
        let paths = guarded.paths();
        let of = |name: &str| {
            let path = dir.work().join(name);
            paths.iter().find(|row| Path::new(row.0.as_str()) == path).map(|row| row.1)
        };
        assert_eq!(of(".git"), Some(true));
        for name in [".git/config", ".git/config.worktree", ".git/hooks", ".git/commondir", ".envrc"] {
            assert_eq!(of(name), Some(false), "{name}");
        }
        assert_eq!(fs::read_to_string(git.join("commondir")).unwrap(), ".\n");
        drop(guarded);
        let left: Vec<_> = fs::read_dir(&git).unwrap().collect();
        assert_eq!((left.len(), dir.left()), (2, vec![".git".to_owned()]));
    }

    #[test]
    fn what_cannot_be_guarded_is_refused_by_name() {
        let dir = Dir::new("link");
        std::os::unix::fs::symlink("elsewhere", dir.work().join(".mcp.json")).unwrap();
        let error = dir.find().unwrap_err().to_string();
        assert!(error.contains(".mcp.json") && error.contains("symbolic link"), "{error}");
        assert_eq!(dir.left(), [".mcp.json"], "nothing is left of what was made before");
    }
}
