//! The sub-ids of an ordinary user: ids beside their own that the machine's owner has given them in `/etc/subuid` and
//! `/etc/subgid`, and that two programs of the distribution map, because the kernel lets only root map more than oneself.

use nix::sys::stat::{SFlag, stat};
use nix::unistd::{Pid, Uid, getegid, geteuid};
use octant_ids::uid::AGENT_RANGE;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// How many ids a workstation has beside that of its user.
pub(crate) const COUNT: u32 = AGENT_RANGE - 1;
/// The longest file that is read.
const FILE_MAX: u64 = 1 << 20;
/// Where the programs are.
const DIRECTORIES: [&str; 2] = ["/usr/bin", "/run/wrappers/bin"];

/// One of the two kinds of ids.
#[derive(Debug)]
struct Kind {
    /// The file that says whose they are.
    file: &'static str,
    /// The program that maps them.
    program: &'static str,
    /// The map of a process.
    map: &'static str,
}

const USERS: Kind = Kind { file: "/etc/subuid", program: "newuidmap", map: "uid_map" };
const GROUPS: Kind = Kind { file: "/etc/subgid", program: "newgidmap", map: "gid_map" };

/// What maps one kind of ids.
#[derive(Debug)]
struct Mapper {
    kind: Kind,
    program: PathBuf,
    /// The user's own id, and the first of the range.
    own: u32,
    first: u32,
}

/// Ranges of users and groups that this user may map.
#[derive(Debug)]
pub(crate) struct SubIds([Mapper; 2]);

impl SubIds {
    /// Finds them.
    ///
    /// # Errors
    /// Why there are none, for people.
    pub(crate) fn find() -> Result<Self, String> {
        let user = geteuid();
        let name = text(Path::new("/etc/passwd")).ok().and_then(|passwd| name_of(&passwd, user.as_raw()));
        let mapper = |kind: Kind, own: u32| {
            let first = range_of(&text(Path::new(kind.file))?, name.as_deref(), user.as_raw());
            let first = first.ok_or_else(|| format!("{} has no range of {COUNT} ids for you", kind.file))?;
            Ok::<_, String>(Mapper { program: program(kind.program)?, kind, own, first })
        };
        Ok(Self([mapper(USERS, user.as_raw())?, mapper(GROUPS, getegid().as_raw())?]))
    }

    /// Maps them in the user namespace of a process of this user: 0 is the user, what follows are the sub-ids. What came of
    /// it is read back.
    ///
    /// # Errors
    /// What failed, for people.
    pub(crate) fn map(&self, process: Pid) -> Result<(), String> {
        self.0.iter().try_for_each(|mapper| mapper.map(process))
    }
}

impl Mapper {
    /// The map as the kernel shows it.
    fn expected(&self) -> [[u32; 3]; 2] {
        [[0, self.own, 1], [1, self.first, COUNT]]
    }

    fn map(&self, process: Pid) -> Result<(), String> {
        let Self { kind, program, .. } = self;
        let numbers = self.expected().into_iter().flatten().map(|number| number.to_string());
        let mut command = Command::new(program);
        command.arg(process.to_string()).args(numbers).env_clear().stdin(Stdio::null());
        let done = command.output().map_err(|error| format!("{}: {error}", program.display()))?;
        if !done.status.success() {
            let said: String = String::from_utf8_lossy(&done.stderr).trim().chars().take(200).collect();
            return Err(format!("{}: {said} ({})", program.display(), done.status));
        }
        let path = format!("/proc/{process}/{}", kind.map);
        let map = text(Path::new(&path))?;
        if parse_map(&map).as_deref() == Some(&self.expected()) {
            return Ok(());
        }
        Err(format!("{} has not made the map that it was asked for: {map:?}", program.display()))
    }
}

fn parse_map(text: &str) -> Option<Vec<[u32; 3]>> {
    let row = |line: &str| {
        let numbers: Result<Vec<u32>, _> = line.split_whitespace().map(str::parse).collect();
        numbers.ok()?.try_into().ok()
    };
    text.lines().map(row).collect()
}

/// The program, where only root can have put it.
fn program(name: &str) -> Result<PathBuf, String> {
    let path = DIRECTORIES.map(|dir| Path::new(dir).join(name)).into_iter().find(|path| path.exists());
    let path = path.ok_or_else(|| format!("{name} is not installed (package uidmap or shadow)"))?;
    let found = stat(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let regular = SFlag::from_bits_truncate(found.st_mode & SFlag::S_IFMT.bits()) == SFlag::S_IFREG;
    if !regular || !Uid::from_raw(found.st_uid).is_root() || found.st_mode & 0o022 != 0 {
        return Err(format!("{} is not root's alone", path.display()));
    }
    Ok(path)
}

/// A file of the machine's, whole or not at all.
fn text(path: &Path) -> Result<String, String> {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(FILE_MAX + 1).read_to_string(&mut text));
    match read {
        Ok(length) if length as u64 > FILE_MAX => Err(format!("{} is too long", path.display())),
        Ok(_) => Ok(text),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}

/// The name of a user in /etc/passwd.
fn name_of(passwd: &str, user: u32) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, _, id) = (fields.next()?, fields.next()?, fields.next()?);
        (id.parse() == Ok(user) && !name.is_empty()).then(|| name.to_owned())
    })
}

/// The first id of the first range of a user that is long enough: `name:first:count`, or the user's number for the name.
fn range_of(file: &str, name: Option<&str>, user: u32) -> Option<u32> {
    file.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [whose, first, count] = fields[..] else { return None };
        let (first, count): (u32, u32) = (first.parse().ok()?, count.trim_end().parse().ok()?);
        let mine = Some(whose) == name || whose.parse() == Ok(user);
        let end = first.checked_add(count)?;
        // Root is nobody's sub-id, and u32::MAX is nobody.
        let good = first > 0 && end < u32::MAX && !(first..end).contains(&user);
        (mine && good && count >= COUNT).then_some(first)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_the_users_own_and_long_enough() {
        let file = "ada:100000:65536\nbob:200000:1000\n1002:300000:65536\nbob:400000:65535\n";
        assert_eq!(range_of(file, Some("ada"), 1000), Some(100_000));
        assert_eq!(range_of(file, Some("bob"), 1001), Some(400_000), "the first is too short");
        assert_eq!(range_of(file, None, 1002), Some(300_000));
        assert_eq!(range_of(file, Some("eve"), 1003), None);
        for bad in [
            "eve:0:65536",
            "eve:4294910000:65536",
            "eve:4294967295:4294967295",
            "eve:1000:65536",
            "eve:-5:65536",
            "eve:100000",
            "eve:100000:65536:",
            "eve::65536",
            "",
        ] {
            assert_eq!(range_of(bad, Some("eve"), 1003), None, "{bad}");
        }
    }

    #[test]
    fn a_user_has_the_name_of_the_first_line_with_the_number() {
        let passwd = "root:x:0:0::/root:/bin/sh\nada:x:1000:1000::/:/bin/sh\nalso:x:1000:1:::\n:x:7:\n";
        assert_eq!(name_of(passwd, 1000).as_deref(), Some("ada"));
        assert_eq!((name_of(passwd, 1), name_of(passwd, 7)), (None, None));
    }

    #[test]
    fn a_map_is_compared_by_its_numbers() {
        let rows = parse_map("         0       1000          1\n         1     100000      65535\n");
        assert_eq!(rows, Some(vec![[0, 1000, 1], [1, 100_000, 65_535]]));
        assert_eq!((parse_map("0 1000"), parse_map("0 1000 -1")), (None, None));
    }

    #[test]
    fn a_program_that_others_can_change_is_none() {
        assert!(program("octant-no-such-program").unwrap_err().contains("not installed"));
        assert!(text(Path::new("/dev/zero")).is_err(), "it never ends, and is not read on");
    }
}
