//! `loadkmap`, `chvt` and `mesg`: keyboards and terminals.

use crate::options::{Options, Stop, failed, parse, run};
use crate::output::print;
use nix::unistd::ttyname;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;

const LOADKMAP_HELP: &str = "\
Usage: loadkmap [FILE]
Load a keyboard's map from a file or standard input: the binary form that `loadkeys -b` writes.

  -C CONSOLE    this one (/dev/tty0)
";

const CHVT_HELP: &str = "\
Usage: chvt NUMBER
Bring a virtual terminal to the front.
";

const MESG_HELP: &str = "\
Usage: mesg [y | n]
Say or set whether others may write to this terminal. Exit code 0 when they may, 1 when not.
";

/// linux/keyboard.h: so many tables there can be, with so many keys each.
const TABLES: usize = 256;
const KEYS: usize = 128;
const MAGIC: &[u8] = b"bkeymap";

fn console(options: &Options) -> Result<File, Stop> {
    let path = options.text("C").unwrap_or_else(|| "/dev/tty0".into());
    OpenOptions::new().read(true).write(true).open(&path).map_err(failed(&path))
}

pub(crate) fn loadkmap(arguments: Vec<OsString>) -> i32 {
    run("loadkmap", || {
        let options = Options::read("loadkmap", LOADKMAP_HELP, "C|console=", &arguments)?;
        let mut bytes = Vec::new();
        let most = (MAGIC.len() + TABLES + 2 * TABLES * KEYS + 1) as u64;
        match options.rest.first() {
            None => io::stdin().take(most).read_to_end(&mut bytes).map_err(failed("standard input"))?,
            Some(path) => {
                let file = File::open(path).map_err(failed(path.display()))?;
                file.take(most).read_to_end(&mut bytes).map_err(failed(path.display()))?
            }
        };
        let keys = keymap(&bytes).map_err(|why| Stop::new(1, why))?;
        let console = console(&options)?;
        for (table, key, value) in keys {
            octant_sys::console::set_key(console.as_fd(), table, key, value)
                .map_err(failed(format_args!("key {key}")))?;
        }
        Ok(0)
    })
}

/// The binary form: a magic, which tables follow, and for each its keys' values. All of it is read before any is set.
fn keymap(bytes: &[u8]) -> Result<Vec<(u8, u8, u16)>, String> {
    let rest = bytes.strip_prefix(MAGIC).ok_or("no binary keymap; `loadkeys -b NAME` writes one")?;
    let (present, mut rest) = rest.split_at_checked(TABLES).ok_or("the keymap ends too early")?;
    let mut out = Vec::new();
    for (table, there) in (0..=u8::MAX).zip(present) {
        if *there > 1 {
            return Err("the list of tables has something else than 0 and 1 in it".into());
        }
        if *there == 1 {
            let (keys, after) = rest.split_at_checked(2 * KEYS).ok_or("the keymap ends too early")?;
            rest = after;
            let values = keys.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
            out.extend((0..=u8::MAX).zip(values).map(|(key, value)| (table, key, value)));
        }
    }
    if rest.is_empty() { Ok(out) } else { Err("there is more behind the keymap's end".into()) }
}

pub(crate) fn chvt(arguments: Vec<OsString>) -> i32 {
    run("chvt", || {
        let options = Options::read("chvt", CHVT_HELP, "C|console=", &arguments)?;
        let words = options.words();
        let [number] = &words[..] else { return Err(Stop::new(1, "one number has to be given")) };
        let number: u16 = parse(number)?;
        if !(1..=63).contains(&number) {
            return Err(Stop::new(1, "virtual terminals are 1 to 63"));
        }
        octant_sys::console::show(console(&options)?.as_fd(), number)
            .map_err(failed(format_args!("tty{number}")))?;
        Ok(0)
    })
}

pub(crate) fn mesg(arguments: Vec<OsString>) -> i32 {
    run("mesg", || {
        let options = Options::read("mesg", MESG_HELP, "v", &arguments)
            .map_err(|stop| Stop { code: stop.code * 2, ..stop })?;
        let path = ttyname(io::stdin()).map_err(|_| Stop::new(2, "standard input is no terminal"))?;
        let mode = fs::metadata(&path).map_err(failed(path.display()))?.permissions().mode();
        let set = |mode| {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).map_err(failed(path.display()))
        };
        match options.words().first().map(String::as_str) {
            None => {
                print("mesg", if mode & 0o020 == 0 { "is n\n" } else { "is y\n" });
                Ok(i32::from(mode & 0o020 == 0))
            }
            Some("y" | "yes") => set(mode | 0o020).map(|()| 0),
            Some("n" | "no") => set(mode & !0o022).map(|()| 1),
            Some(_) => Err(Stop::new(2, "y or n")),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keymap_is_taken_whole_or_not_at_all() {
        let mut bytes = MAGIC.to_vec();
        bytes.extend([0; TABLES]);
        bytes[MAGIC.len() + 1] = 1;
        bytes.extend((0..KEYS).flat_map(|key| u16::try_from(key * 3).unwrap().to_le_bytes()));
        let keys = keymap(&bytes).unwrap();
        assert_eq!((keys.len(), keys[0], keys[127]), (128, (1, 0, 0), (1, 127, 381)));
        assert!(
            keymap(&bytes[..bytes.len() - 1]).is_err()
                && keymap(b"bkeymap").is_err()
                && keymap(b"text").is_err()
        );
        bytes.push(0);
        assert!(keymap(&bytes).is_err());
    }
}
