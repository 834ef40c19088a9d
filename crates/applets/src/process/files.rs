//! `lsof`, `fuser`, `pmap` and `pwdx`: what processes have open and where they are.

use super::list::{Process, Units, Users, printable, processes};
use crate::options::{Options, Stop, because, failed, parse, run};
use crate::output::{complain, print};
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

const LSOF_HELP: &str = "\
Usage: lsof [-p PID,...] [-u USER] [-c NAME] [-t] [-a] [FILE...]
List open files: of all processes, of some, or only these files (a directory of a mounted file system: all in it).

  -p PID,...   only these processes
  -u USER      only this user's
  -c NAME      only of commands that begin so
  +D DIR       everything below DIR
  -t           only the processes' numbers
  -n, -P, -l, -a, -w   accepted: nothing is resolved, and conditions hold together
";

const FUSER_HELP: &str = "\
Usage: fuser [-m] [-k [-SIGNAL]] [-s] [-v] FILE...
Print which processes use files, sockets' files or (-m) file systems. Behind a number: c is its working directory, e the
program that it runs, m mapped, r its root.

  -m    everything on the file system that FILE is on
  -k    kill them (KILL, or -SIGNAL)
  -s    say nothing
  -v    with users and commands
";

const PMAP_HELP: &str = "\
Usage: pmap [-q] PID...
Show the memory map of processes.
";

const PWDX_HELP: &str = "\
Usage: pwdx PID...
Print the working directory of processes.
";

/// Something that a process has open.
#[derive(Debug)]
struct Open {
    /// `cwd`, `rtd`, `txt`, `mem` or a number.
    what: String,
    /// `r`, `w` or `u`; empty where there is none.
    access: &'static str,
    /// What the kernel calls it.
    name: PathBuf,
    meta: Option<Metadata>,
}

/// What a process has open, as far as the kernel says it to this user.
fn opened(pid: u32) -> Vec<Open> {
    let directory = PathBuf::from(format!("/proc/{pid}"));
    let mut out = Vec::new();
    for (what, link) in [("cwd", "cwd"), ("rtd", "root"), ("txt", "exe")] {
        let link = directory.join(link);
        if let Ok(name) = fs::read_link(&link) {
            out.push(Open { what: what.into(), access: "", name, meta: fs::metadata(&link).ok() });
        }
    }
    out.extend(mapped(&fs::read_to_string(directory.join("maps")).unwrap_or_default()));
    let mut numbers: Vec<u32> = fs::read_dir(directory.join("fd"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    numbers.sort_unstable();
    for number in numbers {
        let link = directory.join(format!("fd/{number}"));
        let Ok(name) = fs::read_link(&link) else { continue };
        // The link's own mode says how it was opened (proc(5)).
        let mode = fs::symlink_metadata(&link).map_or(0, |meta| meta.mode());
        let access = match (mode & 0o400 != 0, mode & 0o200 != 0) {
            (true, true) => "u",
            (true, false) => "r",
            (false, true) => "w",
            (false, false) => "",
        };
        out.push(Open { what: number.to_string(), access, name, meta: fs::metadata(&link).ok() });
    }
    out
}

/// The files in a memory map, each once; the first is the program, which stands for itself.
fn mapped(maps: &str) -> Vec<Open> {
    let mut names: Vec<&str> = Vec::new();
    for line in maps.lines() {
        let name = line.splitn(6, ' ').nth(5).map_or("", str::trim_start);
        if name.starts_with('/') && !names.contains(&name) {
            names.push(name);
        }
    }
    let open = |name: &&str| Open {
        what: "mem".into(),
        access: "",
        name: name.into(),
        meta: fs::metadata(name).ok(),
    };
    names.iter().skip(1).map(open).collect()
}

impl Open {
    fn kind(&self) -> &'static str {
        let Some(meta) = &self.meta else { return "unknown" };
        let kind = meta.file_type();
        if kind.is_dir() {
            "DIR"
        } else if kind.is_char_device() {
            "CHR"
        } else if kind.is_block_device() {
            "BLK"
        } else if kind.is_fifo() {
            "FIFO"
        } else if kind.is_socket() {
            "sock"
        } else if self.name.to_string_lossy().starts_with("anon_inode:") {
            "a_inode"
        } else {
            "REG"
        }
    }

    fn line(&self) -> String {
        let meta = self.meta.as_ref();
        let device = meta.map_or(0, |meta| if meta.rdev() != 0 { meta.rdev() } else { meta.dev() });
        let device = format!("{},{}", nix::sys::stat::major(device), nix::sys::stat::minor(device));
        let size = meta
            .filter(|meta| meta.is_file() || meta.is_dir())
            .map_or_else(|| "0t0".into(), |m| m.len().to_string());
        let inode = meta.map_or(0, MetadataExt::ino);
        let what = format!("{}{}", self.what, self.access);
        let name = printable(&self.name.to_string_lossy());
        format!("{what:>4} {:>7} {device:>7} {size:>10} {inode:>10} {name}", self.kind())
    }
}

/// Files that were asked for, by what the kernel knows them by.
struct Wanted {
    files: Vec<(u64, u64)>,
    systems: Vec<u64>,
    below: Vec<PathBuf>,
    names: Vec<PathBuf>,
}

impl Wanted {
    fn any(&self) -> bool {
        !(self.files.is_empty() && self.systems.is_empty() && self.below.is_empty())
    }

    fn has(&self, open: &Open) -> bool {
        let by_number = open.meta.as_ref().is_some_and(|meta| {
            self.files.contains(&(meta.dev(), meta.ino())) || self.systems.contains(&meta.dev())
        });
        by_number
            || self.below.iter().any(|top| open.name.starts_with(top))
            || self.names.contains(&open.name)
    }

    /// `whole` also counts everything on the file system of a directory where one is mounted.
    fn of(files: &[OsString], whole: impl Fn(&Path) -> bool) -> Result<Self, Stop> {
        let mut out = Self { files: Vec::new(), systems: Vec::new(), below: Vec::new(), names: Vec::new() };
        for file in files {
            let path = Path::new(file);
            let meta = fs::metadata(path).map_err(failed(path.display()))?;
            if whole(path) {
                out.systems.push(if meta.file_type().is_block_device() { meta.rdev() } else { meta.dev() });
            } else {
                out.files.push((meta.dev(), meta.ino()));
                if meta.file_type().is_socket() {
                    out.add_socket(path);
                }
            }
        }
        Ok(out)
    }

    /// A socket in the file system is another inode than the socket that is bound to it (/proc/net/unix).
    fn add_socket(&mut self, path: &Path) {
        let list = fs::read_to_string("/proc/net/unix").unwrap_or_default();
        let path = path.to_string_lossy();
        for line in list.lines().filter(|line| line.ends_with(&format!(" {path}"))) {
            if let Some(inode) = line.split_ascii_whitespace().nth(6) {
                self.names.push(format!("socket:[{inode}]").into());
            }
        }
    }
}

fn is_mount_point(path: &Path) -> bool {
    let device = |path: &Path| fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()));
    path.is_dir()
        && match (device(path), device(&path.join(".."))) {
            (Some(own), Some(above)) => own.0 != above.0 || own.1 == above.1,
            _ => false,
        }
}

pub(crate) fn lsof(mut arguments: Vec<OsString>) -> i32 {
    run("lsof", || {
        // `+D DIR` is an option that begins with a plus.
        let below: Vec<PathBuf> = match arguments.iter().position(|word| word == "+D" || word == "+d") {
            Some(at) if at + 1 < arguments.len() => {
                arguments.drain(at..=at + 1).skip(1).map(PathBuf::from).collect()
            }
            Some(_) => return Err(Stop::new(1, "+D needs a directory")),
            None => Vec::new(),
        };
        let options = Options::read("lsof", LSOF_HELP, "p= u= c= t n P l a w", &arguments)?;
        let mut wanted = Wanted::of(&options.rest, is_mount_point)?;
        for top in below {
            wanted.below.push(fs::canonicalize(&top).map_err(failed(top.display()))?);
        }
        let users = Users::of_users();
        let pids: Option<Vec<u32>> =
            options.text("p").map(|list| list.split(',').map(parse).collect()).transpose()?;
        let user = options.text("u");
        let uid = user
            .map(|name| users.id(&name).ok_or_else(|| Stop::new(1, format!("no user {name}"))))
            .transpose()?;
        let name = options.text("c").unwrap_or_default();
        let all = processes(Path::new("/proc"), &Units::here()).map_err(failed("/proc"))?;
        let chosen = all.iter().filter(|process| {
            pids.as_ref().is_none_or(|pids| pids.contains(&process.pid))
                && uid.is_none_or(|uid| uid == process.uid.1)
                && process.name.starts_with(&name)
        });
        let (mut text, mut any) = (String::new(), false);
        if !options.has("t") {
            text.push_str(
                "COMMAND             PID     USER   FD    TYPE  DEVICE   SIZE/OFF       NODE NAME\n",
            );
        }
        for process in chosen {
            let open: Vec<Open> =
                opened(process.pid).into_iter().filter(|open| !wanted.any() || wanted.has(open)).collect();
            any |= !open.is_empty();
            if options.has("t") && !open.is_empty() {
                text.push_str(&format!("{}\n", process.pid));
            } else {
                open.iter().for_each(|open| text.push_str(&row(process, &users, open)));
            }
        }
        Ok(if any { print("lsof", &text) } else { 1 })
    })
}

fn row(process: &Process, users: &Users, open: &Open) -> String {
    format!(
        "{:<15} {:>7} {:>8} {}\n",
        printable(&process.name),
        process.pid,
        users.name(process.uid.1),
        open.line()
    )
}

pub(crate) fn fuser(mut arguments: Vec<OsString>) -> i32 {
    run("fuser", || {
        let signal = |word: &OsString| {
            let name = word.to_str()?.strip_prefix('-')?;
            let number =
                name.parse::<i32>().ok().and_then(|number| nix::sys::signal::Signal::try_from(number).ok());
            number.or_else(|| format!("SIG{}", name.trim_start_matches("SIG")).parse().ok())
        };
        let at = arguments.iter().skip(1).position(|word| signal(word).is_some());
        let with =
            at.and_then(|at| signal(&arguments.remove(at + 1))).unwrap_or(nix::sys::signal::Signal::SIGKILL);
        let options =
            Options::read("fuser", FUSER_HELP, "m|mount k|kill s|silent v|verbose a|all", &arguments)?;
        if options.rest.is_empty() {
            return Err(Stop::new(1, "no file given"));
        }
        let all = processes(Path::new("/proc"), &Units::here()).map_err(failed("/proc"))?;
        let users = Users::of_users();
        let mut code = 1;
        for file in &options.rest {
            let wanted = Wanted::of(std::slice::from_ref(file), |_| options.has("m"))?;
            let mut text = String::new();
            for process in all.iter().filter(|process| process.pid != std::process::id()) {
                let how = uses(&opened(process.pid), &wanted);
                let Some(how) = how else { continue };
                code = 0;
                if options.has("v") {
                    let name = printable(&process.name);
                    text.push_str(&format!(
                        "\n{:>8} {:>7} {how:<5} {name}",
                        users.name(process.uid.1),
                        process.pid
                    ));
                } else {
                    text.push_str(&format!(" {:>5}{how}", process.pid));
                }
                if options.has("k")
                    && let Err(error) = octant_sys::process::signal(process.pid, with)
                {
                    complain("fuser", &because(process.pid, &error));
                }
            }
            if !options.has("s") && !text.is_empty() {
                print("fuser", &format!("{}:{text}\n", file.display()));
            }
        }
        Ok(code)
    })
}

/// In what ways a process uses what was asked for; none when it does not.
fn uses(open: &[Open], wanted: &Wanted) -> Option<String> {
    let mut how = String::new();
    let mut any = false;
    for open in open.iter().filter(|open| wanted.has(open)) {
        any = true;
        let letter = match open.what.as_str() {
            "cwd" => 'c',
            "rtd" => 'r',
            "txt" => 'e',
            "mem" => 'm',
            _ => continue,
        };
        if !how.contains(letter) {
            how.push(letter);
        }
    }
    any.then_some(how)
}

pub(crate) fn pmap(arguments: Vec<OsString>) -> i32 {
    run("pmap", || {
        let options = Options::read("pmap", PMAP_HELP, "q|quiet x|extended", &arguments)?;
        if options.rest.is_empty() {
            return Err(Stop::new(1, "no process given"));
        }
        let mut text = String::new();
        for pid in options.words() {
            let pid: u32 = parse(&pid)?;
            let maps = fs::read_to_string(format!("/proc/{pid}/maps"))
                .map_err(failed(format_args!("process {pid}")))?;
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            text.push_str(&format!("{pid}:   {}\n", printable(name.trim_end())));
            text.push_str(&map(&maps, !options.has("q")));
        }
        Ok(print("pmap", &text))
    })
}

fn map(maps: &str, total: bool) -> String {
    let (mut text, mut sum) = (String::new(), 0);
    for line in maps.lines() {
        let mut fields = line.splitn(6, ' ');
        let (range, mode) = (fields.next().unwrap_or(""), fields.next().unwrap_or(""));
        let name = fields.nth(3).map_or("", str::trim_start);
        let bounds =
            range.split_once('-').map(|(a, b)| (u64::from_str_radix(a, 16), u64::from_str_radix(b, 16)));
        let Some((Ok(start), Ok(end))) = bounds else { continue };
        let kib = end.saturating_sub(start) / 1024;
        sum += kib;
        let name = if name.is_empty() { "  [ anon ]" } else { name };
        let name = name.rsplit('/').next().unwrap_or(name);
        text.push_str(&format!("{start:016x} {kib:>6}K {} {}\n", mode.replace('p', "-"), printable(name)));
    }
    if total {
        text.push_str(&format!(" total {sum:>15}K\n"));
    }
    text
}

pub(crate) fn pwdx(arguments: Vec<OsString>) -> i32 {
    run("pwdx", || {
        let options = Options::read("pwdx", PWDX_HELP, "", &arguments)?;
        if options.rest.is_empty() {
            return Err(Stop::new(1, "no process given"));
        }
        let mut code = 0;
        for word in options.words() {
            let pid: u32 = parse(word.strip_prefix("/proc/").unwrap_or(&word))?;
            match fs::read_link(format!("/proc/{pid}/cwd")) {
                Ok(path) => drop(print("pwdx", &format!("{pid}: {}\n", path.display()))),
                Err(error) => {
                    code = 1;
                    complain("pwdx", &because(pid, &error));
                }
            }
        }
        Ok(code)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_file_is_found_by_its_number_and_its_directory() {
        let path = std::env::temp_dir().join(format!("octant-lsof-{}", std::process::id()));
        let file = fs::File::create(&path).unwrap();
        let open = opened(std::process::id());
        let wanted = Wanted::of(&[path.clone().into()], |_| false).unwrap();
        let hit: Vec<&Open> = open.iter().filter(|open| wanted.has(open)).collect();
        assert_eq!((hit.len(), hit[0].access, hit[0].kind()), (1, "w", "REG"));
        assert!(hit[0].line().ends_with(&format!(" {}", path.display())));
        assert!(open.iter().any(|open| open.what == "cwd") && open.iter().any(|open| open.what == "txt"));
        drop(file);
        let open = opened(std::process::id());
        assert!(!open.iter().any(|open| wanted.has(open)));
        fs::remove_file(&path).unwrap();
        assert!(Wanted::of(&[path.into()], |_| false).is_err());
        assert!(
            is_mount_point(Path::new("/proc"))
                && is_mount_point(Path::new("/"))
                && !is_mount_point(Path::new("/proc/self"))
        );
    }

    #[test]
    fn a_memory_map_is_added_up() {
        let maps = "00400000-00402000 r-xp 00000000 08:01 1                  /bin/x y\nnonsense here\n\
                    00600000-00601000 rw-p 00000000 00:00 0 \n00601000-00602000 r--p 00000000 08:01 2 /lib/z\n";
        let text = map(maps, true);
        assert!(
            text.starts_with("0000000000400000      8K r-x- x y\n0000000000600000      4K rw-- "),
            "{text}"
        );
        assert!(text.ends_with(" total              16K\n"));
        let names: Vec<PathBuf> = mapped(maps).into_iter().map(|open| open.name).collect();
        assert_eq!(names, [PathBuf::from("/lib/z")]);
    }
}
