//! The tree of an imported image, below everything else that a workstation has.
//!
//! The plan names the image by its digest alone; where images are is the spawner's own knowledge, so this is the one
//! place of Octant's state that is ever a source of mounts, and of variables and a directory where the plan says so.
//! Each entry of the image's top level becomes a bind or a link of the plan, as if it had been granted to be read and
//! executed: what the image has there is looked at without following any link, and a workstation's own places are laid
//! out by the same code as without an image.

use crate::enforce::Made;
use crate::plan::{Bind, Link, Plan, within};
use crate::step::{SpawnError, Step};
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat, openat2, readlinkat};
use nix::sys::stat::{Mode, SFlag, fstat};
use octant_ids::Sha256;
use serde::Deserialize;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// Where a workstation with an image has its own files of `/etc`; an import makes `/etc` of the image link to them.
pub(crate) const ETC: &str = "/run/octant/etc";
/// Where it has the utilities.
pub(crate) const BIN: &str = "/run/octant/bin";
/// What the names of Octant's own variables begin with.
const OUR_VARIABLES: &str = "OCTANT_";
/// The most bytes of what is known of an image; a plan takes a tenth of it as variables.
const RECORD_BYTES: u64 = 1 << 20;
/// Top-level names that a workstation lays out itself.
const OURS: [&str; 7] = ["dev", "proc", "sys", "run", "tmp", "workspace", "octant"];

/// Adds the image's top level to the plan, and opens it; nothing changes for a plan without an image. What is granted
/// goes before what the image has at the same place.
pub(crate) fn lay_below(plan: &mut Plan, sources: &mut Vec<OwnedFd>, images: &Path) -> Made<()> {
    let Some(digest) = plan.root else { return Ok(()) };
    let failed = |what: &str, error: io::Error| {
        SpawnError::failed(Step::Sources, format!("{what} of the image sha256:{digest}"), &error)
    };
    let root = open(digest, images)?;
    if plan.image_environment || plan.image_cwd {
        let config = config(digest, images).map_err(|error| failed("read what is known", error))?;
        if plan.image_environment {
            add_variables(&mut plan.program.env, config.env);
        }
        if plan.image_cwd && !config.working_dir.is_empty() {
            plan.program.cwd = without_end(config.working_dir);
        }
    }
    for name in names(root.as_fd()).map_err(|error| failed("list the tree", error))? {
        let target = format!("/{name}");
        let granted = plan.binds.iter().any(|bind| bind.target == target);
        if OURS.contains(&name.as_str()) || granted {
            continue;
        }
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let fd = openat(&root, name.as_str(), flags, Mode::empty()).map_err(|e| failed(&target, e.into()))?;
        let stat = fstat(&fd).map_err(|error| failed(&target, error.into()))?;
        match SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) {
            // Nothing can be mounted below it once it is there, and it hides nothing when it is not.
            SFlag::S_IFDIR if plan.binds.iter().any(|bind| within(&bind.target, &target)) => {
                if !names(fd.as_fd()).map_err(|error| failed(&target, error))?.is_empty() {
                    add(plan, sources, target, fd);
                }
            }
            SFlag::S_IFDIR | SFlag::S_IFREG => add(plan, sources, target, fd),
            SFlag::S_IFLNK => {
                let to = readlinkat(&root, name.as_str()).map_err(|error| failed(&target, error.into()))?;
                let to = to.into_string().map_err(|_| failed(&target, Errno::EILSEQ.into()))?;
                plan.links.push(Link { at: target, to });
            }
            _ => return Err(failed(&target, Errno::EINVAL.into())),
        }
    }
    Ok(())
}

/// What an import has written down of an image, as far as it is of use here.
#[derive(Deserialize)]
struct Record {
    config: Config,
}

#[derive(Deserialize)]
struct Config {
    env: Vec<String>,
    #[serde(default)]
    working_dir: String,
}

/// What the image's maker wrote down. Whether it can be a program's is for the plan's check to say.
fn config(digest: Sha256, images: &Path) -> io::Result<Config> {
    let file = std::fs::File::open(images.join(digest.to_string()).join("image.json"))?;
    let mut text = Vec::new();
    file.take(RECORD_BYTES + 1).read_to_end(&mut text)?;
    if text.len() as u64 > RECORD_BYTES {
        return Err(io::Error::other(format!("image.json has more than {RECORD_BYTES} bytes")));
    }
    Ok(serde_json::from_slice::<Record>(&text)?.config)
}

/// A directory as a plan writes it: makers like to end it with a slash.
fn without_end(mut directory: String) -> String {
    directory.truncate(directory.trim_end_matches('/').len().max(1));
    directory
}

/// Adds the image's variables to those that Octant sets, which no image changes. Of two with one name the later counts.
fn add_variables(env: &mut Vec<String>, variables: Vec<String>) {
    let name = |text: &str| text.split('=').next().unwrap_or_default().to_owned();
    let own: Vec<String> = env.iter().map(|text| name(text)).collect();
    for variable in variables {
        let its = name(&variable);
        if its.starts_with(OUR_VARIABLES) || own.contains(&its) {
            continue;
        }
        env.retain(|other| name(other) != its);
        env.push(variable);
    }
}

fn add(plan: &mut Plan, sources: &mut Vec<OwnedFd>, target: String, fd: OwnedFd) {
    // The source is for messages: it has been opened.
    let source = target.clone();
    plan.binds.push(Bind { source, target, write: false, exec: true });
    sources.push(fd);
}

fn open(digest: Sha256, images: &Path) -> Made<OwnedFd> {
    let failed = |error: Errno| {
        let text = match error {
            Errno::ENOENT => format!("there is no image sha256:{digest}; `octant image import` imports one"),
            _ => format!("open the image sha256:{digest}"),
        };
        SpawnError::failed(Step::Sources, text, &error.into())
    };
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let dir = nix::fcntl::open(images, flags, Mode::empty()).map_err(failed)?;
    let how = OpenHow::new().flags(flags).resolve(
        ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_XDEV,
    );
    openat2(&dir, format!("{digest}/root").as_str(), how).map_err(failed)
}

/// The names in a directory, sorted, so that the same image is always laid out in the same order.
pub(crate) fn names(dir: BorrowedFd<'_>) -> io::Result<Vec<String>> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut names = Vec::new();
    for entry in nix::dir::Dir::from_fd(openat(dir, ".", flags, Mode::empty())?)? {
        let name = entry?.file_name().to_str().map_err(|_| Errno::EILSEQ)?.to_owned();
        if name != "." && name != ".." {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_adds_variables_and_changes_none() {
        let own = ["PATH=/bin", "OCTANT_AGENT=a"].map(str::to_owned).to_vec();
        let mut env = own.clone();
        let of_image = ["A=1", "PATH=/evil", "A=2=3", "OCTANT_SOCKET=/x", "B=", "PATHS=/y"];
        add_variables(&mut env, of_image.map(str::to_owned).to_vec());
        assert_eq!(env, [own, vec!["A=2=3".into(), "B=".into(), "PATHS=/y".into()]].concat());
    }
}
