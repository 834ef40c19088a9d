//! `mount` and `umount`.

use super::loops::{attach_free, attached};
use super::options::MountOptions;
use super::signatures::find_by_tag;
use super::table::{Mount, mounts, unescape};
use crate::options::{Options, Stop, because, failed, run};
use crate::output::{complain, print};
use nix::mount::{MntFlags, MsFlags, mount as mount2, umount2};
use std::ffi::OsString;
use std::fs;
use std::path::Path;

const MOUNT_HELP: &str = "\
Usage: mount [-t TYPE]
       mount [-t TYPE] [-o OPTION,...] SOURCE DIRECTORY
       mount [-o OPTION,...] DIRECTORY | SOURCE        (the rest from /etc/fstab)
       mount -a [-t TYPE,...]
       mount --bind | --rbind | --move DIRECTORY DIRECTORY
       mount --make-[r]private | shared | slave | unbindable DIRECTORY
List mounted file systems, or mount one. SOURCE is a device, UUID=... or LABEL=..., or what the type wants.

  -t TYPE       the file system; without it found by the device's content
  -o OPTION     ro, nosuid, remount, bind, loop, offset=N, ... and what the file system knows
  -r, -w        read-only; writable
  -B -R -M      the same as --bind, --rbind, --move
  -v            say what was mounted
A mount that an agent's workstation gets is in its manifest: the right to mount is never an agent's.
";

const UMOUNT_HELP: &str = "\
Usage: umount [-f] [-l] [-R] [-r] [-q] DIRECTORY | DEVICE...
       umount -a [-t TYPE,...]
Detach file systems.

  -f    force, for a network file system that does not answer
  -l    detach now, clean up when nobody uses it any more
  -R    with everything below
  -r    where it is in use, make it read-only instead
  -q    say nothing where nothing is mounted
  -a    all but /, /proc, /sys, /dev and what Octant runs in
";

const TABLE: &str = "t|types= o|options= r|read-only w|rw a|all B|bind R|rbind M|move v|verbose n|no-mtab f|fake \
    |make-private |make-rprivate |make-shared |make-rshared |make-slave |make-rslave |make-unbindable |make-runbindable \
    L|label= U|uuid= |source= |target= s";

pub(crate) fn mount(arguments: Vec<OsString>) -> i32 {
    run("mount", || {
        let options = Options::read("mount", MOUNT_HELP, TABLE, &arguments)?;
        let wish = wish(&options)?;
        let words = words(&options);
        let kind = options.text("t");
        if options.has("f") {
            return Ok(0);
        }
        if options.has("a") {
            return mount_all(&options);
        }
        let propagation = wish.propagation;
        match &words[..] {
            [] => {
                let line = |mount: &Mount| {
                    format!(
                        "{} on {} type {} ({})\n",
                        mount.source,
                        mount.target,
                        mount.kind,
                        mount.all_options()
                    )
                };
                let all = mounts()?;
                let shown =
                    all.iter().filter(|mount| kind.as_ref().is_none_or(|kinds| takes(kinds, &mount.kind)));
                return Ok(print("mount", &shown.map(line).collect::<String>()));
            }
            [target] if !propagation.is_empty() => change(propagation, target)?,
            [word] if wish.flags.contains(MsFlags::MS_REMOUNT) => remount(wish, None, word)?,
            [word] => {
                let rows = fstab()?;
                let row = rows.iter().find(|row| row.target == *word || row.source == *word);
                let row = row.ok_or_else(|| {
                    Stop::new(1, format!("{word}: not in /etc/fstab; give source and directory"))
                })?;
                let mut both = MountOptions::default();
                both.add(&row.options).map_err(|why| Stop::new(1, why))?;
                if let Some(text) = options.text("o") {
                    both.add(&text).map_err(|why| Stop::new(1, why))?;
                }
                attach(both, Some(kind.as_deref().unwrap_or(&row.kind)), &row.source, &row.target)?;
            }
            [source, target] if wish.flags.contains(MsFlags::MS_REMOUNT) => {
                remount(wish, Some(source), target)?
            }
            [source, target] => {
                attach(wish, kind.as_deref(), source, target)?;
                if !propagation.is_empty() {
                    change(propagation, target)?;
                }
                if options.has("v") {
                    print("mount", &format!("{source} mounted on {target}\n"));
                }
            }
            _ => return Err(Stop::new(1, "too many words; mount --help lists what there is")),
        }
        Ok(0)
    })
}

fn wish(options: &Options) -> Result<MountOptions, Stop> {
    let mut wish = MountOptions::default();
    for text in options.all("o") {
        wish.add(&text).map_err(|why| Stop::new(1, why))?;
    }
    let by_letter = [("r", "ro"), ("w", "rw"), ("B", "bind"), ("R", "rbind"), ("M", "move")];
    for (_, word) in by_letter.iter().filter(|(letter, _)| options.has(letter)) {
        wish.add(word).map_err(|why| Stop::new(1, why))?;
    }
    let kinds = [
        ("private", MsFlags::MS_PRIVATE),
        ("shared", MsFlags::MS_SHARED),
        ("slave", MsFlags::MS_SLAVE),
        ("unbindable", MsFlags::MS_UNBINDABLE),
    ];
    for (name, flag) in kinds {
        if options.has(&format!("make-{name}")) {
            wish.propagation |= flag;
        }
        if options.has(&format!("make-r{name}")) {
            wish.propagation |= flag | MsFlags::MS_REC;
        }
    }
    Ok(wish)
}

/// The operands, with a source that was given by an option before them.
fn words(options: &Options) -> Vec<String> {
    let tag = |key: &str, name: &str| options.text(key).map(|value| format!("{name}{value}"));
    let source = tag("U", "UUID=").or_else(|| tag("L", "LABEL=")).or_else(|| options.text("source"));
    source.into_iter().chain(options.words()).chain(options.text("target")).collect()
}

fn change(propagation: MsFlags, target: &str) -> Result<(), Stop> {
    mount2(None::<&str>, target, None::<&str>, propagation, None::<&str>).map_err(refused(target))
}

/// util-linux's exit code for a mount that failed.
const FAILED: i32 = 32;

fn refused(what: impl std::fmt::Display) -> impl FnOnce(nix::Error) -> Stop {
    move |error| Stop::new(FAILED, because(what, &error.into()))
}

fn remount(mut wish: MountOptions, source: Option<&str>, target: &str) -> Result<(), Stop> {
    let path = fs::canonicalize(target).map_err(failed(target))?;
    let all = mounts()?;
    let current = all.iter().rev().find(|mount| Path::new(&mount.target) == path);
    let current = current.ok_or_else(|| Stop::new(FAILED, format!("{target}: nothing is mounted there")))?;
    wish.keep(&current.options);
    let source = source.unwrap_or(&current.source);
    let data = (!wish.data.is_empty()).then_some(wish.data.as_str());
    mount2(Some(source), &path, None::<&str>, wish.flags, data).map_err(refused(target))
}

fn attach(wish: MountOptions, kind: Option<&str>, source: &str, target: &str) -> Result<(), Stop> {
    let plain = MsFlags::MS_BIND | MsFlags::MS_MOVE;
    if wish.flags.intersects(plain) {
        mount2(Some(source), target, None::<&str>, wish.flags & (plain | MsFlags::MS_REC), None::<&str>)
            .map_err(refused(target))?;
        // The kernel takes no other flag together with a bind; they are a second step.
        let rest = wish.flags.difference(plain | MsFlags::MS_REC | MsFlags::MS_SILENT);
        if wish.flags.contains(MsFlags::MS_BIND) && !rest.is_empty() {
            let flags = rest | MsFlags::MS_BIND | MsFlags::MS_REMOUNT;
            if let Err(error) = mount2(None::<&str>, target, None::<&str>, flags, None::<&str>) {
                // Better no mount than one that allows what was to be forbidden.
                let _goes_with_the_error = umount2(target, MntFlags::MNT_DETACH);
                return Err(refused(target)(error));
            }
        }
        return Ok(());
    }
    let source = match find_by_tag(source) {
        Some(found) => found?,
        None => source.to_owned(),
    };
    let file = Path::new(&source).metadata().is_ok_and(|meta| meta.is_file());
    let source = if wish.by_loop || (file && kind.is_none_or(|kind| kind != "fuse")) {
        let read_only = wish.flags.contains(MsFlags::MS_RDONLY);
        let whole = (wish.offset, wish.size) == (0, 0);
        // One file system on two devices would be written by two that know nothing of each other.
        match attached(Path::new(&source)).filter(|_| whole) {
            Some(device) => device,
            None => attach_free(Path::new(&source), (wish.offset, wish.size), read_only, true)?,
        }
    } else {
        source
    };
    let data = (!wish.data.is_empty()).then_some(wish.data.as_str());
    let try_kind = |kind: &str| {
        let first = mount2(Some(source.as_str()), target, Some(kind), wish.flags, data);
        // A device that cannot be written is mounted so, as mount(8) does, and said.
        match first {
            Err(nix::Error::EROFS) if !wish.flags.contains(MsFlags::MS_RDONLY) => {
                complain("mount", &format_args!("{source} is write-protected, mounting read-only"));
                mount2(Some(source.as_str()), target, Some(kind), wish.flags | MsFlags::MS_RDONLY, data)
            }
            other => other,
        }
    };
    let kinds = match kind {
        Some(kind) if kind != "auto" => vec![kind.to_owned()],
        _ => vec![super::signatures::kind_of(Path::new(&source))?],
    };
    kinds.iter().try_for_each(|kind| try_kind(kind)).map_err(|error| {
        let why = match error {
            nix::Error::ENODEV => {
                format!("this kernel has no file system {}; modprobe may know it", kinds.join(" "))
            }
            nix::Error::EINVAL => format!(
                "not a {} file system, or an option that it does not know; dmesg may say more",
                kinds.join(" ")
            ),
            error => because(&source, &error.into()),
        };
        Stop::new(FAILED, format!("{target}: {why}"))
    })
}

/// A line of /etc/fstab.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    source: String,
    target: String,
    kind: String,
    options: String,
}

fn fstab() -> Result<Vec<Row>, Stop> {
    let text = fs::read_to_string("/etc/fstab").map_err(failed("/etc/fstab"))?;
    Ok(text.lines().filter_map(fstab_row).collect())
}

fn fstab_row(line: &str) -> Option<Row> {
    let line = line.trim();
    let mut fields = line.split_ascii_whitespace().map(unescape);
    if line.starts_with('#') {
        return None;
    }
    let (source, target, kind) = (fields.next()?, fields.next()?, fields.next()?);
    Some(Row { source, target, kind, options: fields.next().unwrap_or_else(|| "defaults".into()) })
}

/// Whether a list of types has one: with `no` before it, all but those.
fn takes(kinds: &str, kind: &str) -> bool {
    let (listed, wanted) = kinds.strip_prefix("no").map_or((kinds, true), |others| (others, false));
    listed.split(',').any(|listed| listed.strip_prefix("no").filter(|_| !wanted).unwrap_or(listed) == kind)
        == wanted
}

fn mount_all(options: &Options) -> Result<i32, Stop> {
    if options.has("o") {
        return Err(Stop::new(1, "-a mounts what /etc/fstab has as it stands there; it takes no -o"));
    }
    let kinds = options.text("t");
    let there = mounts()?;
    let mut code = 0;
    for row in fstab()? {
        let mut wish = MountOptions::default();
        let read = wish.add(&row.options).map_err(|why| Stop::new(1, why));
        let other = kinds.as_ref().is_some_and(|kinds| !takes(kinds, &row.kind));
        let skip = wish.no_auto
            || other
            || row.kind == "swap"
            || there.iter().any(|mount| mount.target == row.target);
        if skip && read.is_ok() {
            continue;
        }
        let no_fail = wish.no_fail;
        if let Err(stop) = read.and_then(|()| attach(wish, Some(&row.kind), &row.source, &row.target)) {
            complain("mount", &stop.text);
            // util-linux: 64 is "some succeeded"; what may fail does not count.
            code = if no_fail { code } else { 64 };
        }
    }
    Ok(code)
}

/// What `umount -a` leaves: without them nothing can be run or seen any more.
const KEPT: [&str; 5] = ["/", "/proc", "/sys", "/dev", "/run"];

pub(crate) fn umount(arguments: Vec<OsString>) -> i32 {
    run("umount", || {
        let table = "f|force l|lazy R|recursive r|read-only q|quiet a|all t|types= v|verbose n|no-mtab d|detach-loop i";
        let options = Options::read("umount", UMOUNT_HELP, table, &arguments)
            .map_err(|stop| Stop { code: stop.code.min(2), ..stop })?;
        let mut flags = MntFlags::empty();
        flags.set(MntFlags::MNT_FORCE, options.has("f"));
        flags.set(MntFlags::MNT_DETACH, options.has("l"));
        let all = mounts()?;
        let targets = if options.has("a") {
            let kinds = options.text("t");
            let ends = |mount: &&Mount| {
                !KEPT.iter().any(|kept| {
                    Path::new(&mount.target) == Path::new(kept)
                        || (*kept != "/" && Path::new(&mount.target).starts_with(kept))
                }) && kinds.as_ref().is_none_or(|kinds| takes(kinds, &mount.kind))
            };
            all.iter().rev().filter(ends).map(|mount| mount.target.clone()).collect()
        } else {
            let words = options.words();
            if words.is_empty() {
                return Err(Stop::new(1, "no directory given"));
            }
            targets(&words, &all, options.has("R"))
        };
        let mut code = 0;
        for target in targets {
            let mut ended = umount2(target.as_str(), flags);
            if ended == Err(nix::Error::EBUSY) && options.has("r") {
                ended = mount2(
                    None::<&str>,
                    target.as_str(),
                    None::<&str>,
                    MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY,
                    None::<&str>,
                );
            }
            match ended {
                Ok(()) if options.has("v") => drop(print("umount", &format!("{target} unmounted\n"))),
                Ok(()) => {}
                Err(nix::Error::EINVAL) => {
                    code = FAILED;
                    if !options.has("q") {
                        complain("umount", &format_args!("{target}: not mounted"));
                    }
                }
                Err(error) => {
                    code = FAILED;
                    let next = if error == nix::Error::EBUSY { "; fuser -m shows who uses it" } else { "" };
                    complain("umount", &format_args!("{}{next}", because(&target, &error.into())));
                }
            }
        }
        Ok(code)
    })
}

/// Where the words are mounted: a device is detached from where it was mounted last. With `below` everything in it first.
fn targets(words: &[String], all: &[Mount], below: bool) -> Vec<String> {
    let mut out = Vec::new();
    for word in words {
        let path =
            fs::canonicalize(word).map_or_else(|_| word.clone(), |path| path.to_string_lossy().into_owned());
        let by_source = all.iter().rev().find(|mount| mount.source == path && mount.target != path);
        let is_target = all.iter().any(|mount| mount.target == path);
        let target = by_source.filter(|_| !is_target).map_or(path, |mount| mount.target.clone());
        if below {
            out.extend(
                all.iter()
                    .rev()
                    .filter(|m| Path::new(&m.target).starts_with(&target))
                    .map(|m| m.target.clone()),
            );
        } else {
            out.push(target);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_types_has_some_or_all_but_some() {
        assert!(takes("ext4,xfs", "xfs") && !takes("ext4,xfs", "tmpfs"));
        assert!(takes("noext4,xfs", "tmpfs") && !takes("noext4,noxfs", "xfs") && !takes("noext4", "ext4"));
    }

    #[test]
    fn fstab_is_read_as_its_page_says() {
        let row = fstab_row("UUID=1-2 /a\\040b ext4 ro,noauto 0 2").unwrap();
        assert_eq!(
            (row.source.as_str(), row.target.as_str(), row.options.as_str()),
            ("UUID=1-2", "/a b", "ro,noauto")
        );
        assert_eq!(fstab_row("tmpfs /t tmpfs").unwrap().options, "defaults");
        assert_eq!((fstab_row("# x y z"), fstab_row(""), fstab_row("a b")), (None, None, None));
    }

    #[test]
    fn a_device_stands_for_where_it_is_mounted_and_all_below_goes_first() {
        let at = |source: &str, target: &str| Mount {
            id: 1,
            parent: 0,
            device: String::new(),
            root: "/".into(),
            target: target.into(),
            options: String::new(),
            propagation: String::new(),
            kind: "ext4".into(),
            source: source.into(),
            system_options: String::new(),
        };
        let all = [
            at("none", "/"),
            at("/nonexistent/d", "/nonexistent/a"),
            at("none", "/nonexistent/a/b"),
            at("none", "/nonexistent/ab"),
        ];
        let words = |word: &str| vec![word.to_owned()];
        assert_eq!(targets(&words("/nonexistent/d"), &all, false), ["/nonexistent/a"]);
        assert_eq!(targets(&words("/nonexistent/a"), &all, true), ["/nonexistent/a/b", "/nonexistent/a"]);
    }
}
