//! `pivot_root` and `switch_root`: another root for a namespace or a machine.

use crate::options::{Options, Stop, failed, run};
use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use nix::unistd::{chdir, chroot};
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

const PIVOT_HELP: &str = "\
Usage: pivot_root NEW_ROOT PUT_OLD
Make NEW_ROOT, a mount point, the root of this namespace of mounts, and put the old one at PUT_OLD below it.
";

const SWITCH_HELP: &str = "\
Usage: switch_root NEW_ROOT INIT [ARGUMENT]...
From an initial RAM disk's root to the real one: remove what is there, move /dev, /proc, /sys and /run along, and become
INIT. Only process 1 can; Octant's own image needs no such step.
";

pub(crate) fn pivot_root(arguments: Vec<OsString>) -> i32 {
    run("pivot_root", || {
        let options = Options::read("pivot_root", PIVOT_HELP, "", &arguments)?;
        let [new, old] = &options.rest[..] else {
            return Err(Stop::new(1, "the new root and a place for the old one have to be given"));
        };
        let what = format!("{} {}", new.display(), old.display());
        nix::unistd::pivot_root(new.as_os_str(), old.as_os_str()).map_err(|error| {
            let next = if error == nix::Error::EINVAL {
                "; the new root must be a private mount point, and the old one's place below it"
            } else {
                ""
            };
            let stop = failed(what)(error);
            Stop { text: stop.text + next, ..stop }
        })?;
        Ok(0)
    })
}

pub(crate) fn switch_root(arguments: Vec<OsString>) -> i32 {
    run("switch_root", || {
        let options = Options::read("switch_root", SWITCH_HELP, "+ c=", &arguments)?;
        let [new, init, rest @ ..] = &options.rest[..] else {
            return Err(Stop::new(1, "the new root and its first program have to be given"));
        };
        if std::process::id() != 1 {
            return Err(Stop::new(1, "only process 1 can switch the root of a machine"));
        }
        // Everything on the old root is removed: it must be an initial RAM disk, and nothing but one.
        let kind = statfs("/").map_err(failed("/"))?.filesystem_type();
        if kind != TMPFS_MAGIC && kind.0 != RAMFS_MAGIC {
            return Err(Stop::new(1, "/ is no initial RAM disk; nothing was removed"));
        }
        chdir(new.as_os_str()).map_err(failed(new.display()))?;
        let (here, above) =
            (fs::metadata(".").map_err(failed("."))?, fs::metadata("/").map_err(failed("/"))?);
        if here.dev() == above.dev() {
            return Err(Stop::new(1, format!("{}: no mount point", new.display())));
        }
        for directory in ["dev", "proc", "sys", "run"] {
            let (from, to) = (Path::new("/").join(directory), Path::new(".").join(directory));
            if fs::metadata(&from).is_ok_and(|meta| meta.dev() != above.dev()) && to.is_dir() {
                mount(Some(&from), &to, None::<&str>, MsFlags::MS_MOVE, None::<&str>)
                    .map_err(failed(from.display()))?;
            }
        }
        remove_all(Path::new("/"), above.dev());
        mount(Some("."), "/", None::<&str>, MsFlags::MS_MOVE, None::<&str>).map_err(failed("/"))?;
        chroot(".").and_then(|()| chdir("/")).map_err(failed("/"))?;
        let error = Command::new(init).args(rest).exec();
        Err(failed(init.display())(error))
    })
}

/// linux/magic.h
const RAMFS_MAGIC: i64 = 0x8584_58f6;

/// Gives the memory of the RAM disk back: everything on this device, nothing on another.
fn remove_all(directory: &Path, device: u64) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(meta) = fs::symlink_metadata(&path) else { continue };
        if meta.dev() != device {
            continue;
        }
        // What cannot be removed costs memory and nothing else.
        let _stays = if meta.is_dir() {
            remove_all(&path, device);
            fs::remove_dir(&path)
        } else {
            fs::remove_file(&path)
        };
    }
}
