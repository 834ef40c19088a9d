//! `insmod`, `rmmod`, `modprobe`, `lsmod` and `modinfo`.

use crate::options::{Options, Stop, because, failed, run};
use crate::output::{complain, print};
use octant_sys::modules::{Modules, built_in, directory, insert, load, name_of, remove};
use std::ffi::{CString, OsString};
use std::fs;
use std::path::{Path, PathBuf};

const INSMOD_HELP: &str = "\
Usage: insmod FILE [PARAMETER=VALUE]...
Load one module's file into the kernel.
";

const RMMOD_HELP: &str = "\
Usage: rmmod [-v] MODULE...
Take modules out of the kernel that nothing uses.
";

const MODPROBE_HELP: &str = "\
Usage: modprobe [-n] [-v] [-q] [-a] MODULE [PARAMETER=VALUE]...
       modprobe -r MODULE...
Load a module and what it needs, by modules.dep, and by modules.alias where there is no module of that name.

  -a    all words are modules;  -r take out, with what only they needed
  -n    do nothing;  -v say what is done;  -q say nothing of a module that there is not
  -D    print what would be loaded
";

const LSMOD_HELP: &str = "\
Usage: lsmod
List the modules in the kernel, their sizes and what uses them.
";

const MODINFO_HELP: &str = "\
Usage: modinfo [-F FIELD] [-n] MODULE | FILE...
Show what a module says of itself. Of a compressed one only its path is known without unpacking it.

  -F    only this field;  -n only the path
";

fn parameters(words: &[String]) -> Result<CString, Stop> {
    CString::new(words.join(" ")).map_err(|_| Stop::new(1, "a parameter has a zero byte in it"))
}

pub(crate) fn insmod(arguments: Vec<OsString>) -> i32 {
    run("insmod", || {
        let options = Options::read("insmod", INSMOD_HELP, "+ f s v", &arguments)?;
        let words = options.words();
        let [file, rest @ ..] = &words[..] else { return Err(Stop::new(1, "no file given")) };
        insert(Path::new(file), &parameters(rest)?).map_err(failed(file))?;
        Ok(0)
    })
}

pub(crate) fn rmmod(arguments: Vec<OsString>) -> i32 {
    run("rmmod", || {
        let options = Options::read("rmmod", RMMOD_HELP, "v|verbose s|syslog", &arguments)?;
        if options.rest.is_empty() {
            return Err(Stop::new(1, "no module given"));
        }
        let mut code = 0;
        for name in options.words() {
            match remove(&name) {
                Ok(()) if options.has("v") => drop(print("rmmod", &format!("{name} removed\n"))),
                Ok(()) => {}
                Err(error) => {
                    code = 1;
                    complain("rmmod", &why_not(&name, &error));
                }
            }
        }
        Ok(code)
    })
}

fn why_not(name: &str, error: &std::io::Error) -> String {
    match error.raw_os_error() {
        Some(nix::libc::ENOENT) => format!("{name}: not loaded"),
        Some(nix::libc::EWOULDBLOCK | nix::libc::EBUSY) => format!("{name}: in use; lsmod shows by what"),
        _ => because(name, error),
    }
}

pub(crate) fn modprobe(arguments: Vec<OsString>) -> i32 {
    run("modprobe", || {
        let options = Options::read(
            "modprobe",
            MODPROBE_HELP,
            "+ a|all r|remove n|dry-run |show D|show-depends v|verbose q|quiet s b|use-blacklist",
            &arguments,
        )?;
        let words = options.words();
        if words.is_empty() {
            return Err(Stop::new(1, "no module given"));
        }
        let dep = Modules::here();
        if options.has("r") {
            for name in &words {
                take_out(&dep, name, &options)?;
            }
            return Ok(0);
        }
        let (names, rest) = if options.has("a") { (&words[..], &[][..]) } else { words.split_at(1) };
        let mut code = 0;
        for name in names {
            match load_one(&dep, name, rest, &options) {
                Ok(()) => {}
                Err(stop) => {
                    code = stop.code;
                    if !options.has("q") {
                        complain("modprobe", &stop.text);
                    }
                }
            }
        }
        Ok(code)
    })
}

fn load_one(dep: &Modules, name: &str, rest: &[String], options: &Options) -> Result<(), Stop> {
    if built_in().contains(&name_of(name)) {
        return Ok(());
    }
    let by_alias = || {
        let aliases = fs::read_to_string(directory().join("modules.alias")).unwrap_or_default();
        alias(&aliases, name)
    };
    let found = dep.order(name).map(|_| name.to_owned()).ok().or_else(by_alias);
    let Some(module) = found else {
        return Err(Stop::new(1, format!("{name}: no such module in {}", directory().display())));
    };
    let files = dep.order(&module).map_err(|error| Stop::new(1, error.to_string()))?;
    let last = files.len() - 1;
    for (at, file) in files.into_iter().enumerate() {
        let path = directory().join(file);
        let own = if at == last { rest } else { &[] };
        if options.has("v") || options.has("D") || options.has("show") {
            print("modprobe", &format!("insmod {} {}\n", path.display(), own.join(" ")));
        }
        if !(options.has("n") || options.has("D") || options.has("show")) {
            load(&path, &parameters(own)?).map_err(failed(path.display()))?;
        }
    }
    Ok(())
}

/// The module that answers to a name in modules.alias(5), whose patterns are those of a shell.
fn alias(text: &str, name: &str) -> Option<String> {
    // A dash is as good as an underline, except in a set, where it means a range.
    let plain = |name: &str| {
        let mut in_set = false;
        let byte = |c: char| {
            in_set = (in_set || c == '[') && c != ']';
            if c == '-' && !in_set { '_' } else { c }
        };
        name.chars().map(byte).collect::<String>()
    };
    text.lines().find_map(|line| {
        let mut words = line.strip_prefix("alias ")?.split_ascii_whitespace();
        let (pattern, module) = (words.next()?, words.next()?);
        matches(plain(pattern).as_bytes(), plain(name).as_bytes()).then(|| module.to_owned())
    })
}

/// `*`, `?` and `[...]` as fnmatch(3) has them, without going back further than the last `*`.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        let step = match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
                continue;
            }
            Some(b'?') => Some(1),
            Some(b'[') => set(&pattern[p..], text[t]),
            Some(byte) => (*byte == text[t]).then_some(1),
            None => None,
        };
        match (step, star) {
            (Some(step), _) => (p, t) = (p + step, t + 1),
            (None, Some((at, from))) => {
                star = Some((at, from + 1));
                (p, t) = (at + 1, from + 1);
            }
            (None, None) => return false,
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

/// The length of a `[...]` that has this byte.
fn set(pattern: &[u8], byte: u8) -> Option<usize> {
    let end = pattern.iter().position(|byte| *byte == b']')?;
    let inside = &pattern[1..end];
    let hit = (0..inside.len()).any(|at| match inside.get(at..at + 3) {
        Some([low, b'-', high]) => (*low..=*high).contains(&byte),
        _ => inside[at] == byte && byte != b'-',
    });
    hit.then_some(end + 1)
}

/// Takes a module out, and then what it needed and nothing else does.
fn take_out(dep: &Modules, name: &str, options: &Options) -> Result<(), Stop> {
    let files = dep.order(name).map_err(|error| Stop::new(1, error.to_string()))?;
    for (at, file) in files.iter().rev().enumerate() {
        let module = name_of(file);
        if options.has("v") || options.has("n") {
            print("modprobe", &format!("rmmod {module}\n"));
        }
        if options.has("n") {
            continue;
        }
        match remove(&module) {
            // What something else uses stays.
            Err(_) if at > 0 => {}
            other => other.map_err(|error| Stop::new(1, why_not(&module, &error)))?,
        }
    }
    Ok(())
}

pub(crate) fn lsmod(arguments: Vec<OsString>) -> i32 {
    run("lsmod", || {
        Options::read("lsmod", LSMOD_HELP, "v", &arguments)?;
        let text = match fs::read_to_string("/proc/modules") {
            // A kernel without loadable modules has none.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            other => other.map_err(failed("/proc/modules"))?,
        };
        let lines: String = text.lines().filter_map(module_line).collect();
        Ok(print("lsmod", &format!("Module                  Size  Used by\n{lines}")))
    })
}

fn module_line(line: &str) -> Option<String> {
    let mut fields = line.split(' ');
    let (name, size, count, users) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    let users = if users == "-" { "" } else { users.trim_end_matches(',') };
    Some(format!("{name:<19} {size:>8}  {count} {users}").trim_end().to_owned() + "\n")
}

/// The most of a module's file that is read.
const MODULE_MAX: u64 = 64 << 20;

pub(crate) fn modinfo(arguments: Vec<OsString>) -> i32 {
    run("modinfo", || {
        let options = Options::read("modinfo", MODINFO_HELP, "F|field= n|filename k= 0", &arguments)?;
        if options.rest.is_empty() {
            return Err(Stop::new(1, "no module given"));
        }
        let dep = Modules::here();
        let mut text = String::new();
        for word in options.words() {
            let path = match word.contains('/') {
                true => PathBuf::from(&word),
                false => match dep.order(&word) {
                    Ok(files) => directory().join(files.last().copied().unwrap_or_default()),
                    Err(_) if built_in().contains(&name_of(&word)) => "(builtin)".into(),
                    Err(error) => return Err(Stop::new(1, error.to_string())),
                },
            };
            let mut facts = vec![("filename".to_owned(), path.display().to_string())];
            if !options.has("n") && path.extension().is_some_and(|extension| extension == "ko") {
                let size = fs::metadata(&path).map_err(failed(path.display()))?.len();
                if size > MODULE_MAX {
                    return Err(Stop::new(
                        1,
                        format!("{}: {size} bytes are too many for a module", path.display()),
                    ));
                }
                facts.extend(info(&fs::read(&path).map_err(failed(path.display()))?));
            }
            for (key, value) in facts {
                let value: String = value.chars().filter(|c| !c.is_control()).collect();
                match options.text("F") {
                    Some(field) if field == key => text.push_str(&format!("{value}\n")),
                    Some(_) => {}
                    None if options.has("n") => text.push_str(&format!("{value}\n")),
                    None => text.push_str(&format!("{:<15} {value}\n", format!("{key}:"))),
                }
            }
        }
        Ok(print("modinfo", &text))
    })
}

/// The `.modinfo` section of an ELF file of this machine's kind: `key=value`, each ended by a zero byte.
fn info(elf: &[u8]) -> Vec<(String, String)> {
    let number = |from: usize, length: usize| -> Option<usize> {
        let mut raw = [0; 8];
        raw[..length].copy_from_slice(elf.get(from..from.checked_add(length)?)?);
        usize::try_from(u64::from_le_bytes(raw)).ok()
    };
    let section = |table: usize, at: usize| -> Option<(usize, &[u8])> {
        let head = table.checked_add(at.checked_mul(64)?)?;
        let (from, length) = (number(head + 24, 8)?, number(head + 32, 8)?);
        Some((number(head, 4)?, elf.get(from..from.checked_add(length)?)?))
    };
    let find = || -> Option<&[u8]> {
        // ELF, 64 bits, little endian.
        if elf.get(..6)? != b"\x7fELF\x02\x01" {
            return None;
        }
        let (table, count, names) = (number(40, 8)?, number(60, 2)?, number(62, 2)?);
        let (_, names) = section(table, names)?;
        (0..count)
            .filter_map(|at| section(table, at))
            .find(|(name, _)| names.get(*name..).is_some_and(|rest| rest.starts_with(b".modinfo\0")))
            .map(|(_, bytes)| bytes)
    };
    let entry = |entry: &[u8]| {
        let text = String::from_utf8_lossy(entry).into_owned();
        text.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()))
    };
    find().unwrap_or_default().split(|byte| *byte == 0).filter_map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aliases_are_patterns() {
        let text = "# x\nalias pci:v00001AF4d00001000sv*sd*bc*sc*i* virtio_net\nalias fs-ext[2-4] ext4\nalias char-major-10-? misc\n";
        assert_eq!(alias(text, "pci:v00001AF4d00001000sv1sd2bc3sc4i5").as_deref(), Some("virtio_net"));
        assert_eq!(
            (alias(text, "fs-ext3").as_deref(), alias(text, "fs_ext4").as_deref(), alias(text, "fs-ext5")),
            (Some("ext4"), Some("ext4"), None)
        );
        assert_eq!(
            (alias(text, "char-major-10-7").as_deref(), alias(text, "char-major-10-77")),
            (Some("misc"), None)
        );
        assert!(
            matches(b"a*b*c", b"axxbyybzzc")
                && !matches(b"a*b*c", b"axxbyyb")
                && matches(b"*", b"")
                && !matches(b"[", b"[")
        );
    }

    #[test]
    fn the_kernels_list_is_written_as_lsmod_does() {
        assert_eq!(
            module_line("virtio_net 65536 0 - Live 0x0").as_deref(),
            Some("virtio_net             65536  0\n")
        );
        assert_eq!(
            module_line("a 1 2 b,c, Live 0x0").as_deref(),
            Some("a                          1  2 b,c\n")
        );
    }

    #[test]
    fn a_module_says_what_it_is_and_a_broken_one_nothing() {
        // A header, three section heads, names, and the section.
        let mut elf = vec![0; 64 + 3 * 64];
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        elf[40] = 64;
        elf[60] = 3;
        elf[62] = 1;
        let (names, info_at) = (elf.len(), elf.len() + 10);
        elf.extend(b"\0.modinfo\0license=GPL\0depends=\0bad\0");
        let mut head = |at: usize, name: u8, from: usize, length: usize| {
            elf[64 + at * 64] = name;
            elf[64 + at * 64 + 24..64 + at * 64 + 26]
                .copy_from_slice(&u16::try_from(from).unwrap().to_le_bytes());
            elf[64 + at * 64 + 32] = u8::try_from(length).unwrap();
        };
        head(1, 0, names, 10);
        head(2, 1, info_at, 25);
        let found = info(&elf);
        assert_eq!(found, [("license".to_owned(), "GPL".to_owned()), ("depends".into(), String::new())]);
        for length in 0..elf.len() {
            assert!(info(&elf[..length]).len() <= 2);
        }
        elf[24 + 64 + 128..32 + 64 + 128].fill(0xff);
        assert!(info(&elf).is_empty());
    }
}
