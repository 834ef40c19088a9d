//! `sysctl` and `getconf`: settings of the kernel and of the system.

use crate::options::{Options, Stop, because, failed, run};
use crate::output::{complain, print};
use nix::unistd::{PathconfVar, SysconfVar, pathconf, sysconf};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

const SYSCTL_HELP: &str = "\
Usage: sysctl [-n | -N] [-e] NAME...
       sysctl [-e] [-q] [-w] NAME=VALUE...
       sysctl -p [FILE...]          the settings of a file (/etc/sysctl.conf)
       sysctl -a [-r PATTERN]
Show or change settings of the kernel. What PID 1 sets at boot, and why, is in docs/security.md.

  -n    values only;  -N names only;  -b values without the end of the line
  -e    a setting that there is not is no error;  -q say nothing of what was set
  -r    only those that match a regular expression
";

const GETCONF_HELP: &str = "\
Usage: getconf NAME [PATH]
       getconf -a
Print a configuration value of the system, or of a path's file system.
";

const ROOT: &str = "/proc/sys";

pub(crate) fn sysctl(arguments: Vec<OsString>) -> i32 {
    run("sysctl", || {
        let options = Options::read(
            "sysctl",
            SYSCTL_HELP,
            "a|all A X n|values N|names b|binary e|ignore q|quiet w|write p|load? f r|pattern=",
            &arguments,
        )?;
        if options.has("a") || options.has("A") || options.has("X") {
            let pattern = options.text("r").unwrap_or_default();
            let pattern = regex::RegexBuilder::new(&pattern)
                .size_limit(1 << 20)
                .build()
                .map_err(|error| Stop::new(1, error.to_string()))?;
            let mut text = String::new();
            all(Path::new(ROOT), &mut |path| {
                let name = name_of(path);
                if pattern.is_match(&name)
                    && let Ok(value) = fs::read_to_string(path)
                {
                    text.push_str(&shown(&options, &name, &value));
                }
            });
            return Ok(print("sysctl", &text));
        }
        let words = options.words();
        if options.has("p") || options.has("f") {
            let joined = options.text("p").filter(|path| !path.is_empty());
            let mut files: Vec<String> = joined.into_iter().chain(words).collect();
            if files.is_empty() {
                files.push("/etc/sysctl.conf".into());
            }
            let mut code = 0;
            for file in files {
                let text = fs::read_to_string(&file).map_err(failed(&file))?;
                for (name, value, may_fail) in settings(&text) {
                    code |= one(&options, &format!("{name}={value}"), may_fail);
                }
            }
            return Ok(code);
        }
        if words.is_empty() {
            return Err(Stop::new(1, "no setting given; -a shows all"));
        }
        Ok(words.iter().fold(0, |code, word| code | one(&options, word, options.has("e"))))
    })
}

/// Shows or sets one; the exit code.
fn one(options: &Options, word: &str, may_fail: bool) -> i32 {
    let (name, value) = match word.split_once('=') {
        Some((name, value)) => (name.trim(), Some(value.trim())),
        None => (word, None),
    };
    let Some(path) = path_of(name) else {
        complain("sysctl", &format_args!("{name}: not a setting's name"));
        return 1;
    };
    let done = match value {
        None => fs::read_to_string(&path),
        Some(value) => fs::write(&path, format!("{value}\n")).map(|()| value.to_owned()),
    };
    match done {
        Ok(value_now) if value.is_none() || !options.has("q") => {
            print("sysctl", &shown(options, &name_of(&path), &value_now))
        }
        Ok(_) => 0,
        Err(_) if may_fail => 0,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            complain("sysctl", &format_args!("{name}: this kernel has no such setting"));
            255
        }
        Err(error) => {
            complain("sysctl", &because(name, &error));
            255
        }
    }
}

/// A name's path: dots part it, and slashes may (then a dot belongs to a name, as in eth0.1). Never beyond /proc/sys.
fn path_of(name: &str) -> Option<PathBuf> {
    let slash = name.find('/').is_some_and(|slash| name.find('.').is_none_or(|dot| slash < dot));
    let swapped: String = match slash {
        true => name.to_owned(),
        false => name
            .chars()
            .map(|c| match c {
                '.' => '/',
                '/' => '.',
                c => c,
            })
            .collect(),
    };
    let plain =
        !swapped.is_empty() && swapped.split('/').all(|part| !part.is_empty() && part != ".." && part != ".");
    plain.then(|| Path::new(ROOT).join(swapped))
}

fn name_of(path: &Path) -> String {
    let below = path.strip_prefix(ROOT).unwrap_or(path).to_string_lossy();
    below
        .chars()
        .map(|c| match c {
            '.' => '/',
            '/' => '.',
            c => c,
        })
        .collect()
}

fn shown(options: &Options, name: &str, value: &str) -> String {
    let value = value.trim_end_matches('\n');
    match (options.has("b"), options.has("n"), options.has("N")) {
        (true, ..) => value.to_owned(),
        (_, true, _) => format!("{value}\n"),
        (_, _, true) => format!("{name}\n"),
        // A setting with several lines shows its name on each.
        _ => value.split('\n').map(|line| format!("{name} = {line}\n")).collect(),
    }
}

fn all(directory: &Path, take: &mut impl FnMut(&Path)) {
    let mut entries: Vec<PathBuf> =
        fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() { all(&path, take) } else { take(&path) }
    }
}

/// The lines of a sysctl.conf(5): name, value, and whether it may fail (a dash before it).
fn settings(text: &str) -> Vec<(String, String, bool)> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(['#', ';']));
    lines
        .filter_map(|line| {
            let (name, value) = line.split_once('=')?;
            let (name, may_fail) = name.strip_prefix('-').map_or((name, false), |name| (name, true));
            Some((name.trim().to_owned(), value.trim().to_owned(), may_fail))
        })
        .collect()
}

/// sysconf(3) names, in all the spellings that scripts use.
const SYSTEM: [(&str, SysconfVar); 22] = [
    ("ARG_MAX", SysconfVar::ARG_MAX),
    ("CHILD_MAX", SysconfVar::CHILD_MAX),
    ("CLK_TCK", SysconfVar::CLK_TCK),
    ("HOST_NAME_MAX", SysconfVar::HOST_NAME_MAX),
    ("IOV_MAX", SysconfVar::IOV_MAX),
    ("LINE_MAX", SysconfVar::LINE_MAX),
    ("LOGIN_NAME_MAX", SysconfVar::LOGIN_NAME_MAX),
    ("NGROUPS_MAX", SysconfVar::NGROUPS_MAX),
    ("OPEN_MAX", SysconfVar::OPEN_MAX),
    ("PAGESIZE", SysconfVar::PAGE_SIZE),
    ("PAGE_SIZE", SysconfVar::PAGE_SIZE),
    ("RE_DUP_MAX", SysconfVar::RE_DUP_MAX),
    ("STREAM_MAX", SysconfVar::STREAM_MAX),
    ("SYMLOOP_MAX", SysconfVar::SYMLOOP_MAX),
    ("TTY_NAME_MAX", SysconfVar::TTY_NAME_MAX),
    ("TZNAME_MAX", SysconfVar::TZNAME_MAX),
    ("_NPROCESSORS_CONF", SysconfVar::_NPROCESSORS_CONF),
    ("_NPROCESSORS_ONLN", SysconfVar::_NPROCESSORS_ONLN),
    ("_PHYS_PAGES", SysconfVar::_PHYS_PAGES),
    ("_AVPHYS_PAGES", SysconfVar::_AVPHYS_PAGES),
    ("_POSIX_VERSION", SysconfVar::_POSIX_VERSION),
    ("_XOPEN_VERSION", SysconfVar::_XOPEN_VERSION),
];

const OF_PATH: [(&str, PathconfVar); 6] = [
    ("FILESIZEBITS", PathconfVar::FILESIZEBITS),
    ("LINK_MAX", PathconfVar::LINK_MAX),
    ("NAME_MAX", PathconfVar::NAME_MAX),
    ("PATH_MAX", PathconfVar::PATH_MAX),
    ("PIPE_BUF", PathconfVar::PIPE_BUF),
    ("SYMLINK_MAX", PathconfVar::SYMLINK_MAX),
];

pub(crate) fn getconf(arguments: Vec<OsString>) -> i32 {
    run("getconf", || {
        let options = Options::read("getconf", GETCONF_HELP, "a v=", &arguments)?;
        let words = options.words();
        let path = words.get(1).map_or("/", String::as_str);
        if options.has("a") {
            let system = SYSTEM.iter().map(|(name, _)| *name);
            let names = system.chain(OF_PATH.iter().map(|(name, _)| *name)).chain(["LONG_BIT", "PATH"]);
            let line = |name: &str| Ok(format!("{name:<35}{}\n", value(name, path)?.unwrap_or_default()));
            return Ok(print("getconf", &names.map(line).collect::<Result<String, Stop>>()?));
        }
        let Some(name) = words.first() else { return Err(Stop::new(2, "no name given; -a shows all")) };
        match value(name, path)? {
            Some(value) => Ok(print("getconf", &format!("{value}\n"))),
            None => Err(Stop::new(2, format!("{name}: not known; -a shows all"))),
        }
    })
}

fn value(name: &str, path: &str) -> Result<Option<String>, Stop> {
    let number = |value: Option<i64>| value.map_or_else(|| "undefined".to_owned(), |value| value.to_string());
    let short = name.strip_prefix("_SC_").unwrap_or(name);
    let short = if short.starts_with("NPROCESSORS") { format!("_{short}") } else { short.to_owned() };
    if let Some((_, variable)) = SYSTEM.iter().find(|(known, _)| *known == short) {
        return Ok(Some(number(sysconf(*variable).map_err(failed(name))?)));
    }
    if let Some((_, variable)) = OF_PATH.iter().find(|(known, _)| *known == name) {
        return Ok(Some(number(pathconf(path, *variable).map_err(failed(path))?)));
    }
    Ok(match name {
        "LONG_BIT" | "WORD_BIT" if name == "LONG_BIT" => Some(usize::BITS.to_string()),
        "WORD_BIT" => Some("32".into()),
        "PATH" | "CS_PATH" | "_CS_PATH" => Some("/bin".into()),
        "INT_MAX" => Some(i32::MAX.to_string()),
        "CHAR_BIT" => Some("8".into()),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_paths_that_never_leave_the_settings() {
        assert_eq!(path_of("kernel.ostype").unwrap(), Path::new("/proc/sys/kernel/ostype"));
        assert_eq!(
            path_of("net/ipv4/conf/eth0.1/forwarding").unwrap(),
            Path::new("/proc/sys/net/ipv4/conf/eth0.1/forwarding")
        );
        assert_eq!(
            path_of("net.ipv4.conf.eth0/1.forwarding").unwrap(),
            Path::new("/proc/sys/net/ipv4/conf/eth0.1/forwarding")
        );
        assert_eq!(name_of(Path::new("/proc/sys/net/ipv4/conf/eth0.1/x")), "net.ipv4.conf.eth0/1.x");
        for wrong in ["", "kernel/../../etc/passwd", "/kernel", "kernel..x", "a/./b", "../x"] {
            assert_eq!(path_of(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_file_of_settings_has_comments_and_settings_that_may_fail() {
        let text = "# no\n; no\n\n kernel.x = 1 2 \n-net.y=3\nnonsense\n";
        let expected = [("kernel.x", "1 2", false), ("net.y", "3", true)];
        assert_eq!(
            settings(text),
            expected.map(|(name, value, may)| (name.to_owned(), value.to_owned(), may))
        );
    }

    #[test]
    fn values_are_those_of_this_system() {
        assert_eq!(value("LONG_BIT", "/").unwrap().as_deref(), Some("64"));
        assert_eq!(value("NAME_MAX", "/proc").unwrap().as_deref(), Some("255"));
        assert_eq!(value("NPROCESSORS_ONLN", "/").unwrap(), value("_SC_NPROCESSORS_ONLN", "/").unwrap());
        assert!(value("PAGESIZE", "/").unwrap().is_some() && value("NO_SUCH", "/").unwrap().is_none());
    }
}
