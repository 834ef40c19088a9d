//! Mount options as fstab(5) and mount(8) write them.

use nix::mount::MsFlags;

/// Options taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MountOptions {
    /// What every file system knows.
    pub(super) flags: MsFlags,
    /// How the mount hangs together with others: the kernel takes it only alone.
    pub(super) propagation: MsFlags,
    /// What was taken back (`rw`, `exec`).
    cleared: MsFlags,
    /// What only the file system knows, joined by commas.
    pub(super) data: String,
    /// `loop`: the source is a file that a loop device shows.
    pub(super) by_loop: bool,
    /// `offset=` and `sizelimit=` of it.
    pub(super) offset: u64,
    pub(super) size: u64,
    /// `noauto`, `_netdev`, `nofail`: for `mount -a`.
    pub(super) no_auto: bool,
    pub(super) no_fail: bool,
}

/// The options that are flags: name, flag, whether it sets it.
const FLAGS: [(&str, MsFlags, bool); 35] = [
    ("ro", MsFlags::MS_RDONLY, true),
    ("rw", MsFlags::MS_RDONLY, false),
    ("nosuid", MsFlags::MS_NOSUID, true),
    ("suid", MsFlags::MS_NOSUID, false),
    ("nodev", MsFlags::MS_NODEV, true),
    ("dev", MsFlags::MS_NODEV, false),
    ("noexec", MsFlags::MS_NOEXEC, true),
    ("exec", MsFlags::MS_NOEXEC, false),
    ("sync", MsFlags::MS_SYNCHRONOUS, true),
    ("async", MsFlags::MS_SYNCHRONOUS, false),
    ("dirsync", MsFlags::MS_DIRSYNC, true),
    ("noatime", MsFlags::MS_NOATIME, true),
    ("atime", MsFlags::MS_NOATIME, false),
    ("nodiratime", MsFlags::MS_NODIRATIME, true),
    ("diratime", MsFlags::MS_NODIRATIME, false),
    ("relatime", MsFlags::MS_RELATIME, true),
    ("norelatime", MsFlags::MS_RELATIME, false),
    ("strictatime", MsFlags::MS_STRICTATIME, true),
    ("nostrictatime", MsFlags::MS_STRICTATIME, false),
    ("lazytime", MsFlags::MS_LAZYTIME, true),
    ("nolazytime", MsFlags::MS_LAZYTIME, false),
    ("silent", MsFlags::MS_SILENT, true),
    ("loud", MsFlags::MS_SILENT, false),
    ("remount", MsFlags::MS_REMOUNT, true),
    ("bind", MsFlags::MS_BIND, true),
    ("rbind", MsFlags::MS_BIND.union(MsFlags::MS_REC), true),
    ("move", MsFlags::MS_MOVE, true),
    ("private", MsFlags::MS_PRIVATE, true),
    ("rprivate", MsFlags::MS_PRIVATE.union(MsFlags::MS_REC), true),
    ("shared", MsFlags::MS_SHARED, true),
    ("rshared", MsFlags::MS_SHARED.union(MsFlags::MS_REC), true),
    ("slave", MsFlags::MS_SLAVE, true),
    ("rslave", MsFlags::MS_SLAVE.union(MsFlags::MS_REC), true),
    ("unbindable", MsFlags::MS_UNBINDABLE, true),
    ("runbindable", MsFlags::MS_UNBINDABLE.union(MsFlags::MS_REC), true),
];

/// The flags of them that are no part of a mount.
const PROPAGATION: MsFlags =
    MsFlags::MS_PRIVATE.union(MsFlags::MS_SHARED).union(MsFlags::MS_SLAVE).union(MsFlags::MS_UNBINDABLE);

impl Default for MountOptions {
    fn default() -> Self {
        Self {
            flags: MsFlags::empty(),
            propagation: MsFlags::empty(),
            cleared: MsFlags::empty(),
            data: String::new(),
            by_loop: false,
            offset: 0,
            size: 0,
            no_auto: false,
            no_fail: false,
        }
    }
}

impl MountOptions {
    /// Reads one or more words joined by commas.
    pub(super) fn add(&mut self, text: &str) -> Result<(), String> {
        for word in text.split(',').filter(|word| !word.is_empty()) {
            if let Some((_, flag, set)) = FLAGS.iter().find(|(name, ..)| *name == word) {
                if flag.intersects(PROPAGATION) {
                    self.propagation |= *flag;
                    continue;
                }
                self.flags.set(*flag, *set);
                self.cleared.set(*flag, !*set);
                continue;
            }
            match word.split_once('=').unwrap_or((word, "")) {
                // What is for mount(8) itself, or says what is so anyway.
                ("defaults" | "auto" | "_netdev" | "nouser" | "owner" | "group", _) => {}
                ("noauto", _) => self.no_auto = true,
                ("nofail", _) => self.no_fail = true,
                ("loop", _) => self.by_loop = true,
                ("offset", value) => self.offset = number(word, value)?,
                ("sizelimit", value) => self.size = number(word, value)?,
                (name, _) if name.starts_with("x-") || name == "comment" => {}
                _ => {
                    if !self.data.is_empty() {
                        self.data.push(',');
                    }
                    self.data.push_str(word);
                }
            }
        }
        Ok(())
    }

    /// On a remount the kernel forgets every flag that is not given again; mount(8) keeps those that the mount has.
    pub(super) fn keep(&mut self, current: &str) {
        let mut kept = Self::default();
        // The kernel's own words; one that is not known belongs to the file system, which keeps it by itself.
        if kept.add(current).is_ok() {
            self.flags |= kept.flags.difference(self.cleared);
        }
    }
}

fn number(word: &str, value: &str) -> Result<u64, String> {
    crate::options::size(value).map_err(|_| format!("{word}: not a size"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> MountOptions {
        let mut options = MountOptions::default();
        options.add(text).unwrap();
        options
    }

    #[test]
    fn flags_and_what_the_file_system_knows_are_told_apart() {
        let options = read("ro,nosuid,size=5m,mode=700,noexec,exec,loop,offset=4K,x-y=z,nofail");
        assert_eq!(options.flags, MsFlags::MS_RDONLY | MsFlags::MS_NOSUID);
        assert_eq!(
            (options.data.as_str(), options.by_loop, options.offset, options.no_fail),
            ("size=5m,mode=700", true, 4096, true)
        );
        assert_eq!(read("ro,rw").flags, MsFlags::empty());
        assert_eq!(read("rbind").flags, MsFlags::MS_BIND | MsFlags::MS_REC);
        assert!(MountOptions::default().add("offset=x").is_err());
        let slave = read("bind,rslave");
        assert_eq!((slave.flags, slave.propagation), (MsFlags::MS_BIND, MsFlags::MS_SLAVE | MsFlags::MS_REC));
    }

    #[test]
    fn a_remount_keeps_what_it_does_not_name() {
        let mut options = read("remount,ro,exec");
        options.keep("rw,nosuid,noexec,relatime,size=7k");
        assert_eq!(
            options.flags,
            MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_RELATIME
        );
        assert_eq!(options.data, "");
    }
}
