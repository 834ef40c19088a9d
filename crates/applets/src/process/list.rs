//! What procfs says of processes (proc(5)).

use nix::unistd::{SysconfVar, sysconf};
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) pid: u32,
    pub(super) parent: u32,
    pub(super) group: u32,
    pub(super) session: u32,
    pub(super) terminal: String,
    pub(super) state: char,
    /// Its name in the kernel, at most 15 bytes.
    pub(super) name: String,
    /// Its command line; empty for a thread of the kernel.
    pub(super) words: Vec<String>,
    pub(super) ticks: u64,
    /// When it started, in ticks after the boot.
    pub(super) start: u64,
    pub(super) priority: i64,
    pub(super) nice: i64,
    pub(super) threads: u64,
    pub(super) virtual_kib: u64,
    pub(super) resident_kib: u64,
    pub(super) processor: u64,
    /// Real and effective.
    pub(super) uid: (u32, u32),
    pub(super) gid: (u32, u32),
    pub(super) foreground: i64,
    pub(super) locked: bool,
}

impl Process {
    /// The command line in one piece, or the name in brackets.
    pub(super) fn command(&self) -> String {
        if self.words.is_empty() { format!("[{}]", self.name) } else { self.words.join(" ") }
    }

    /// The state as ps(1) writes it: with what is special about the process.
    pub(super) fn states(&self) -> String {
        let mut out = String::from(self.state);
        let mut add = |on: bool, letter: char| {
            if on {
                out.push(letter);
            }
        };
        add(self.nice < 0, '<');
        add(self.nice > 0, 'N');
        add(self.locked, 'L');
        add(self.session == self.pid, 's');
        add(self.threads > 1, 'l');
        add(self.foreground >= 0 && self.foreground == i64::from(self.group), '+');
        out
    }
}

/// What is counted in what.
#[derive(Debug, Clone, Copy)]
pub(super) struct Units {
    pub(super) ticks: u64,
    pub(super) page_kib: u64,
    /// Seconds since the boot, and since 1970 at the boot.
    pub(super) uptime: u64,
    pub(super) booted: u64,
    pub(super) memory_kib: u64,
    /// The most digits of a process's number.
    pub(super) pid_digits: usize,
}

impl Units {
    /// This kernel's.
    pub(super) fn here() -> Self {
        let number = |variable, default| {
            let answer = sysconf(variable).ok().flatten().and_then(|value| u64::try_from(value).ok());
            answer.filter(|value| *value > 0).unwrap_or(default)
        };
        let uptime = octant_sys::clock::boottime_ns() / 1_000_000_000;
        let total = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let total = total.split_ascii_whitespace().nth(1).and_then(|kib| kib.parse().ok());
        let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
        let booted = stat.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok());
        let most = fs::read_to_string("/proc/sys/kernel/pid_max").unwrap_or_default();
        let most = most.trim().parse::<u64>().unwrap_or(1 << 22) - 1;
        Self {
            pid_digits: most.to_string().len().max(5),
            ticks: number(SysconfVar::CLK_TCK, 100),
            page_kib: number(SysconfVar::PAGE_SIZE, 4096) / 1024,
            uptime,
            booted: booted.unwrap_or(0),
            memory_kib: total.unwrap_or(1).max(1),
        }
    }
}

/// Every process, by number. One that ends while it is read is left out.
pub(super) fn processes(proc: &Path, units: &Units) -> io::Result<Vec<Process>> {
    let mut found: Vec<Process> = fs::read_dir(proc)?
        .filter_map(Result::ok)
        .filter(|entry| entry.file_name().as_bytes().iter().all(u8::is_ascii_digit))
        .filter_map(|entry| read(&entry.path(), units))
        .collect();
    found.sort_by_key(|process| process.pid);
    Ok(found)
}

/// One process by its directory.
fn read(directory: &Path, units: &Units) -> Option<Process> {
    let file = |name: &str| fs::read(directory.join(name)).ok();
    let text = |name: &str| file(name).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    process(&text("stat")?, &text("status")?, &file("cmdline")?, units)
}

/// One process out of its `stat`, `status` and `cmdline`.
pub(super) fn process(stat: &str, status: &str, cmdline: &[u8], units: &Units) -> Option<Process> {
    // The name stands in brackets and may itself contain brackets and spaces.
    let (pid, rest) = stat.split_once(" (")?;
    let (name, rest) = rest.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    // Counted from `state`, which proc(5) numbers 3.
    let field = |number: usize| fields.get(number - 3).copied();
    let number = |at: usize| field(at).and_then(|text| text.parse::<i64>().ok()).unwrap_or(0);
    let count = |at: usize| u64::try_from(number(at)).unwrap_or(0);
    let ids = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key))?;
        let mut ids = line.split_ascii_whitespace().filter_map(|id| id.parse::<u32>().ok());
        Some((ids.next()?, ids.next().unwrap_or(0)))
    };
    let id = |at: usize| u32::try_from(number(at)).unwrap_or(0);
    let words = cmdline.strip_suffix(b"\0").unwrap_or(cmdline).split(|byte| *byte == 0);
    let words: Vec<String> = words.map(|word| String::from_utf8_lossy(word).into_owned()).collect();
    let locked = status.lines().any(|line| line.starts_with("VmLck:") && !line.ends_with(" 0 kB"));
    Some(Process {
        pid: pid.parse().ok()?,
        parent: id(4),
        group: id(5),
        session: id(6),
        terminal: terminal(number(7)),
        foreground: number(8),
        state: field(3)?.chars().next()?,
        name: name.to_owned(),
        words: if cmdline.is_empty() { Vec::new() } else { words },
        ticks: field(14)?.parse::<u64>().ok()? + field(15)?.parse::<u64>().ok()?,
        priority: number(18),
        nice: number(19),
        threads: count(20),
        start: count(22),
        virtual_kib: count(23) / 1024,
        resident_kib: count(24) * units.page_kib,
        processor: count(39.min(fields.len() + 2)),
        uid: ids("Uid:")?,
        gid: ids("Gid:").unwrap_or((0, 0)),
        locked,
    })
}

/// The controlling terminal's name without `/dev/`, by its number (Documentation/admin-guide/devices.txt).
fn terminal(device: i64) -> String {
    let (major, minor) = (device >> 8 & 0xfff, device & 0xff | device >> 12 & 0xfff00);
    match (major, minor) {
        (0, 0) => "?".into(),
        (4, 0..64) => format!("tty{minor}"),
        (4, _) => format!("ttyS{}", minor - 64),
        (5, 1) => "console".into(),
        (136..144, _) => format!("pts/{}", minor + (major - 136) * 256),
        (204, 64..) => format!("ttyAMA{}", minor - 64),
        (229, _) => format!("hvc{minor}"),
        _ => format!("{major}:{minor}"),
    }
}

/// The users' names by `/etc/passwd`; a machine without one shows numbers.
#[derive(Debug, Default)]
pub(crate) struct Users(Vec<(u32, String)>);

impl Users {
    /// Those of users.
    pub(crate) fn of_users() -> Self {
        Self::parse(&fs::read_to_string("/etc/passwd").unwrap_or_default())
    }

    /// Those of groups.
    pub(crate) fn of_groups() -> Self {
        Self::parse(&fs::read_to_string("/etc/group").unwrap_or_default())
    }

    fn parse(text: &str) -> Self {
        let row = |line: &str| {
            let mut fields = line.split(':');
            let name = fields.next()?.to_owned();
            Some((fields.nth(1)?.parse().ok()?, name))
        };
        Self(text.lines().filter_map(row).collect())
    }

    /// The name of an id.
    pub(crate) fn name(&self, id: u32) -> String {
        self.0.iter().find(|(known, _)| *known == id).map_or_else(|| id.to_string(), |(_, name)| name.clone())
    }

    /// The id of a name, or of a number.
    pub(crate) fn id(&self, name: &str) -> Option<u32> {
        let known = self.0.iter().find(|(_, known)| known == name).map(|(id, _)| *id);
        known.or_else(|| name.parse().ok())
    }
}

/// The text without what would command a terminal.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// The last part of a path.
pub(super) fn base(path: &str) -> &str {
    Path::new(path).file_name().and_then(OsStr::to_str).unwrap_or(path)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::process) const UNITS: Units = Units {
        pid_digits: 7,
        ticks: 100,
        page_kib: 4,
        uptime: 1000,
        booted: 1_000_000_000,
        memory_kib: 1000,
    };
    pub(in crate::process) const STAT: &str =
        "42 (a) b (c) S 1 42 42 34817 42 4194560 1 0 0 0 6000 200 0 0 20 5 3 0 100 4096000 25 1844 0";

    #[test]
    fn a_name_with_brackets_does_not_shift_the_fields() {
        let found = process(STAT, "Name:\tx\nUid:\t7\t0\t0\t0\n", b"/bin/x\0-v\0\x1b[31m\0", &UNITS).unwrap();
        assert_eq!((found.pid, found.parent, found.uid, found.state), (42, 1, (7, 0), 'S'));
        assert_eq!((found.ticks, found.resident_kib, found.start, found.nice), (6200, 100, 100, 5));
        assert_eq!((found.terminal.as_str(), found.states().as_str()), ("pts/1", "SNsl+"));
        assert_eq!(printable(&found.command()), "/bin/x -v ?[31m");
    }

    #[test]
    fn a_kernel_thread_shows_its_name() {
        let found = process(STAT, "Uid:\t0\t0\n", b"", &UNITS).unwrap();
        assert_eq!(found.command(), "[a) b (c]");
        assert_eq!(process("", "", b"", &UNITS), None);
    }

    #[test]
    fn this_process_is_listed() {
        let all = processes(Path::new("/proc"), &Units::here()).unwrap();
        assert!(all.iter().any(|process| process.pid == std::process::id() && !process.words.is_empty()));
    }

    #[test]
    fn terminals_and_users_have_names() {
        let names = [0, 0x0440, 0x0401, 0x0501, 0x8803].map(terminal);
        assert_eq!(names, ["?", "ttyS0", "tty1", "console", "pts/3"]);
        let users = Users::parse("root:x:0:0::/:/bin/sh\nbad\n");
        assert_eq!(
            (users.name(0), users.name(7), users.id("root"), users.id("9")),
            ("root".into(), "7".into(), Some(0), Some(9))
        );
    }
}
