//! `mkswap`, `swapon` and `swapoff`.

use super::signatures::{find_by_tag, probe};
use crate::options::{Options, Stop, failed, parse, run};
use crate::output::print;
use octant_sys::block;
use std::ffi::{CString, OsString};
use std::fs::{self, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

const MKSWAP_HELP: &str = "\
Usage: mkswap [-f] [-L LABEL] [-U UUID] [-p SIZE] DEVICE | FILE
Make a device or a file into swap space.

  -f    also where something else is
  -L    its label;  -U its identifier;  -p the page's size (the kernel's)
";

const SWAPON_HELP: &str = "\
Usage: swapon [-p PRIORITY] [-d] DEVICE | FILE | UUID=... | LABEL=...
       swapon -a            all of /etc/fstab
       swapon [-s]          what is used
Begin to swap.
";

const SWAPOFF_HELP: &str = "\
Usage: swapoff -a | DEVICE...
Stop swapping; what is there goes back into memory first.
";

pub(crate) fn mkswap(arguments: Vec<OsString>) -> i32 {
    run("mkswap", || {
        let options = Options::read(
            "mkswap",
            MKSWAP_HELP,
            "f|force L|label= U|uuid= p|pagesize= c|check q|quiet",
            &arguments,
        )?;
        let [path] = &options.rest[..] else { return Err(Stop::new(1, "one device has to be given")) };
        let path = Path::new(path);
        let page: u64 = match options.parsed("p")? {
            Some(page) => page,
            None => page_size(),
        };
        let mut id = [0; 16];
        match options.text("U") {
            Some(text) => {
                id = crate::system::parse_uuid(&text)
                    .ok_or_else(|| Stop::new(1, format!("{text:?} is no UUID")))?
            }
            None => crate::system::random_uuid(&mut id)?,
        }
        // A device that is mounted or swapped to cannot be opened so (open(2), O_EXCL), and -f does not change that.
        let device = fs::metadata(path).is_ok_and(|found| found.file_type().is_block_device());
        let alone = if device { nix::libc::O_EXCL } else { 0 };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(alone)
            .open(path)
            .map_err(failed(path.display()))?;
        let length = file.seek(SeekFrom::End(0)).map_err(failed(path.display()))?;
        if let Some(found) = probe(path).map_err(failed(path.display()))?.filter(|_| !options.has("f"))
            && found.get("TYPE").is_none_or(|kind| kind != "swap")
        {
            let what = found.get("TYPE").or_else(|| found.get("PTTYPE")).unwrap_or("something").to_owned();
            return Err(Stop::new(1, format!("{}: has {what} on it; -f overwrites it", path.display())));
        }
        let label = options.text("L").unwrap_or_default();
        let header = header(length, page, &id, &label)
            .map_err(|why| Stop::new(1, format!("{}: {why}", path.display())))?;
        file.seek(SeekFrom::Start(0))
            .and_then(|_| file.write_all(&header))
            .and_then(|()| file.sync_all())
            .map_err(failed(path.display()))?;
        let size = (length / page - 1) * page / 1024;
        let label = if label.is_empty() { "no label".into() } else { format!("LABEL={label}") };
        Ok(print(
            "mkswap",
            &format!(
                "Setting up swapspace version 1, size = {size} KiB\n{label}, UUID={}\n",
                crate::system::uuid_text(&id)
            ),
        ))
    })
}

fn page_size() -> u64 {
    let answer = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten();
    answer.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(4096)
}

/// The first page of swap space (union swap_header in linux/swap.h), version 1.
fn header(length: u64, page: u64, id: &[u8; 16], label: &str) -> Result<Vec<u8>, String> {
    if !page.is_power_of_two() || !(4096..=65_536).contains(&page) {
        return Err(format!("a page of {page} bytes is not possible"));
    }
    let pages = length / page;
    if pages < 10 {
        return Err(format!("{length} bytes are too few; it takes ten pages of {page}"));
    }
    if label.len() > 15 {
        return Err("a label has at most 15 bytes".into());
    }
    let last = u32::try_from(pages - 1).unwrap_or(u32::MAX - 1);
    let mut out = vec![0; usize::try_from(page).map_err(|error| error.to_string())?];
    out[1024..1028].copy_from_slice(&1_u32.to_ne_bytes());
    out[1028..1032].copy_from_slice(&last.to_ne_bytes());
    out[1036..1052].copy_from_slice(id);
    out[1052..1052 + label.len()].copy_from_slice(label.as_bytes());
    let end = out.len();
    out[end - 10..].copy_from_slice(b"SWAPSPACE2");
    Ok(out)
}

fn c_path(path: &Path) -> Result<CString, Stop> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| Stop::new(1, "a name has a zero byte in it"))
}

fn fstab_swaps() -> Result<Vec<(String, String)>, Stop> {
    let text = fs::read_to_string("/etc/fstab").map_err(failed("/etc/fstab"))?;
    Ok(text.lines().filter_map(fstab_swap).collect())
}

/// The source and the options of a line of fstab(5) that is about swap space.
fn fstab_swap(line: &str) -> Option<(String, String)> {
    let mut fields = line.split('#').next()?.split_ascii_whitespace();
    let source = fields.next()?.to_owned();
    (fields.nth(1)? == "swap").then(|| (source, fields.next().unwrap_or("").to_owned()))
}

pub(crate) fn swapon(arguments: Vec<OsString>) -> i32 {
    run("swapon", || {
        let options = Options::read(
            "swapon",
            SWAPON_HELP,
            "p|priority= d|discard? a|all s|summary |show? e|ifexists |noheadings",
            &arguments,
        )?;
        if !options.has("a") && options.rest.is_empty() {
            return Ok(print("swapon", &fs::read_to_string("/proc/swaps").map_err(failed("/proc/swaps"))?));
        }
        let priority: Option<u16> = options.parsed("p")?;
        let mut list: Vec<(String, Option<u16>)> =
            options.words().into_iter().map(|word| (word, priority)).collect();
        if options.has("a") {
            for (source, words) in fstab_swaps()? {
                if words.split(',').any(|word| word == "noauto") {
                    continue;
                }
                let own =
                    words.split(',').find_map(|word| word.strip_prefix("pri=")).map(parse).transpose()?;
                list.push((source, own.or(priority)));
            }
        }
        let used = fs::read_to_string("/proc/swaps").unwrap_or_default();
        for (word, priority) in list {
            let device = find_by_tag(&word).transpose()?.unwrap_or(word);
            // With -a what is used already is no failure.
            if options.has("a")
                && used.lines().any(|line| line.split_ascii_whitespace().next() == Some(&device))
            {
                continue;
            }
            block::swap_on(&c_path(Path::new(&device))?, priority, options.has("d")).map_err(|error| {
                let code = error.raw_os_error();
                let next = if code == Some(nix::libc::EINVAL) {
                    "; it has no swap space (mkswap makes it), or holes"
                } else {
                    ""
                };
                let stop = failed(&device)(error);
                Stop { text: stop.text + next, ..stop }
            })?;
        }
        Ok(0)
    })
}

pub(crate) fn swapoff(arguments: Vec<OsString>) -> i32 {
    run("swapoff", || {
        let options = Options::read("swapoff", SWAPOFF_HELP, "a|all v", &arguments)?;
        let mut devices = options.words();
        if options.has("a") {
            let text = fs::read_to_string("/proc/swaps").map_err(failed("/proc/swaps"))?;
            devices.extend(
                text.lines()
                    .skip(1)
                    .filter_map(|line| Some(line.split_ascii_whitespace().next()?.to_owned())),
            );
        } else if devices.is_empty() {
            return Err(Stop::new(1, "no device given; -a is for all"));
        }
        for word in devices {
            let device = find_by_tag(&word).transpose()?.unwrap_or(word);
            block::swap_off(&c_path(Path::new(&device))?).map_err(failed(&device))?;
        }
        Ok(0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn swap_space_is_what_blkid_knows_again() {
        let path = std::env::temp_dir().join(format!("octant-swap-{}", std::process::id()));
        fs::write(&path, header(64 * 4096, 4096, &[0xab; 16], "spare").unwrap()).unwrap();
        let found = probe(&path).unwrap().unwrap();
        assert_eq!((found.get("TYPE"), found.get("LABEL")), (Some("swap"), Some("spare")));
        assert_eq!(found.get("UUID"), Some("abababab-abab-abab-abab-abababababab"));
        fs::remove_file(path).unwrap();
        assert!(header(9 * 4096, 4096, &[0; 16], "").is_err() && header(1 << 20, 100, &[0; 16], "").is_err());
        assert!(header(1 << 20, 4096, &[0; 16], "0123456789abcdef").is_err());
    }

    #[test]
    fn swap_in_fstab_is_found() {
        assert_eq!(fstab_swap("/dev/x none swap sw,pri=5 0 0"), Some(("/dev/x".into(), "sw,pri=5".into())));
        assert_eq!((fstab_swap("/dev/x / ext4"), fstab_swap("# /dev/x none swap")), (None, None));
    }
}
