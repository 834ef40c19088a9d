//! `lsblk`, `blockdev`, `fallocate` and `fstrim`.

use super::signatures::probe;
use super::table::{Mount, mounts};
use crate::options::{Options, Stop, because, failed, parse, run, size};
use crate::output::{complain, print};
use nix::fcntl::FallocateFlags;
use octant_sys::block;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::os::fd::AsFd;
use std::path::Path;

const LSBLK_HELP: &str = "\
Usage: lsblk [-b] [-n] [-l] [-r] [-a] [-d] [-f | -o COLUMN,...] [DEVICE...]
List block devices.

  -b    sizes in bytes;  -n without the line of heads;  -l as a list;  -r plain;  -p with whole paths
  -a    empty ones too;  -d without what is on them
  -f    with what is on them;  -o of NAME MAJ:MIN RM SIZE RO TYPE MOUNTPOINT MOUNTPOINTS FSTYPE LABEL UUID MODEL SERIAL ROTA
        PATH KNAME LOG-SEC PHY-SEC
";

const BLOCKDEV_HELP: &str = "\
Usage: blockdev COMMAND... DEVICE...
Ask or tell block devices.

  --getsz --getsize64 --getss --getpbsz --getro --getra
  --setro --setrw --setra SECTORS --flushbufs --rereadpt
";

const FALLOCATE_HELP: &str = "\
Usage: fallocate [-n] [-o OFFSET] -l LENGTH FILE
       fallocate -p | -c | -z [-n] [-o OFFSET] -l LENGTH FILE
Reserve room for a file, or give it back.

  -l    so many bytes (with K, M, G);  -o from there
  -n    leave the file's length as it is
  -p    make a hole;  -c take the range out;  -z make it zero;  -x write zeros where the file system cannot reserve
";

const FSTRIM_HELP: &str = "\
Usage: fstrim [-v] [-n] [-o OFFSET] [-l LENGTH] [-m LEAST] DIRECTORY | -a
Tell the device below a mounted file system which blocks hold nothing.
";

/// A device in sysfs.
#[derive(Debug)]
struct Device {
    name: String,
    depth: usize,
}

fn fact(name: &str, key: &str) -> String {
    let path = Path::new("/sys/class/block").join(name).join(key);
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

pub(crate) fn lsblk(arguments: Vec<OsString>) -> i32 {
    run("lsblk", || {
        let options = Options::read(
            "lsblk",
            LSBLK_HELP,
            "b|bytes n|noheadings l|list r|raw a|all d|nodeps f|fs o|output= p|paths J|json P|pairs i",
            &arguments,
        )?;
        if options.has("J") {
            return Err(Stop::new(1, "JSON is not written; -r is plain, -P has NAME=\"value\""));
        }
        let columns = match (options.text("o"), options.has("f")) {
            (Some(columns), _) => columns,
            (None, true) => "NAME,FSTYPE,LABEL,UUID,MOUNTPOINTS".into(),
            (None, false) => "NAME,MAJ:MIN,RM,SIZE,RO,TYPE,MOUNTPOINTS".into(),
        };
        let columns: Vec<String> = columns.split(',').map(str::to_uppercase).collect();
        let devices = listed(&options)?;
        let mounts = mounts().unwrap_or_default();
        let mut rows = Vec::new();
        for device in &devices {
            let row = columns.iter().map(|column| {
                let cell = cell(device, column, options.has("b"), &mounts);
                let cell = cell
                    .ok_or_else(|| Stop::new(1, format!("no column {column:?}; lsblk --help lists them")))?;
                let path = column == "NAME" && options.has("p");
                let cell = if path { format!("/dev/{cell}") } else { cell };
                let branch = column == "NAME" && !["l", "r", "P"].iter().any(|key| options.has(key));
                Ok(if branch { format!("{}{cell}", "  ".repeat(device.depth)) } else { cell })
            });
            rows.push(row.collect::<Result<Vec<_>, Stop>>()?);
        }
        if options.has("P") {
            let pairs = |row: &Vec<String>| {
                columns
                    .iter()
                    .zip(row)
                    .map(|(head, cell)| format!("{head}=\"{cell}\""))
                    .collect::<Vec<_>>()
                    .join(" ")
                    + "\n"
            };
            return Ok(print("lsblk", &rows.iter().map(pairs).collect::<String>()));
        }
        if !options.has("n") {
            rows.insert(0, columns);
        }
        Ok(print("lsblk", &crate::table_text::aligned(&rows, options.has("r"))))
    })
}

fn listed(options: &Options) -> Result<Vec<Device>, Stop> {
    let names = |path: &Path| -> Vec<String> {
        let entries = fs::read_dir(path).into_iter().flatten().flatten();
        let mut names: Vec<String> =
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    };
    let mut tops = names(Path::new("/sys/block"));
    if options.rest.is_empty() {
        // An unused loop device is no news, and memory disks never are.
        tops.retain(|name| {
            options.has("a")
                || !(name.starts_with("loop") && fact(name, "size") == "0" || name.starts_with("ram"))
        });
    } else {
        tops.clear();
        for word in &options.rest {
            let path = fs::canonicalize(word).map_err(failed(word.display()))?;
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if !Path::new("/sys/class/block").join(&name).exists() {
                return Err(Stop::new(32, format!("{}: not a block device", word.display())));
            }
            tops.push(name);
        }
    }
    let mut out = Vec::new();
    for top in tops {
        let directory = Path::new("/sys/class/block").join(&top);
        out.push(Device { name: top, depth: 0 });
        if options.has("d") {
            continue;
        }
        for part in
            names(&directory).into_iter().filter(|name| directory.join(name).join("partition").exists())
        {
            let holders = names(&directory.join(&part).join("holders"));
            out.push(Device { name: part, depth: 1 });
            out.extend(holders.into_iter().map(|name| Device { name, depth: 2 }));
        }
        out.extend(names(&directory.join("holders")).into_iter().map(|name| Device { name, depth: 1 }));
    }
    Ok(out)
}

fn cell(device: &Device, column: &str, bytes: bool, mounts: &[Mount]) -> Option<String> {
    let name = device.name.as_str();
    // A partition has no facts of its own about the drive.
    let drive = || if device.depth == 0 { String::new() } else { "../".to_owned() };
    let length = || fact(name, "size").parse::<u64>().unwrap_or(0) * 512;
    let found = |tag: &str| {
        probe(&Path::new("/dev").join(name))
            .ok()
            .flatten()
            .and_then(|found| Some(found.get(tag)?.to_owned()))
            .unwrap_or_default()
    };
    let mounted = || {
        let number = fact(name, "dev");
        let mut at: Vec<String> =
            mounts.iter().filter(|mount| mount.device == number).map(|mount| mount.target.clone()).collect();
        at.dedup();
        if fs::read_to_string("/proc/swaps").is_ok_and(|text| text.contains(&format!("/dev/{name} "))) {
            at.push("[SWAP]".into());
        }
        at
    };
    Some(match column {
        "NAME" => dm_name(name),
        "KNAME" => name.to_owned(),
        "PATH" => format!("/dev/{name}"),
        "MAJ:MIN" => fact(name, "dev"),
        "RM" => fact(name, &format!("{}removable", drive())),
        "SIZE" if bytes => length().to_string(),
        "SIZE" => readable(length()),
        "RO" => fact(name, "ro"),
        "TYPE" => kind(name),
        "MOUNTPOINT" => mounted().into_iter().next().unwrap_or_default(),
        "MOUNTPOINTS" => mounted().join(","),
        "FSTYPE" => found("TYPE"),
        "LABEL" => found("LABEL"),
        "UUID" => found("UUID"),
        "MODEL" => fact(name, &format!("{}device/model", drive())),
        "SERIAL" => fact(name, &format!("{}device/serial", drive())),
        "ROTA" => fact(name, &format!("{}queue/rotational", drive())),
        "LOG-SEC" => fact(name, &format!("{}queue/logical_block_size", drive())),
        "PHY-SEC" => fact(name, &format!("{}queue/physical_block_size", drive())),
        _ => return None,
    })
}

fn dm_name(name: &str) -> String {
    let known = fact(name, "dm/name");
    if known.is_empty() { name.to_owned() } else { known }
}

fn kind(name: &str) -> String {
    if Path::new("/sys/class/block").join(name).join("partition").exists() {
        return "part".into();
    }
    let uuid = fact(name, "dm/uuid");
    if !uuid.is_empty() {
        // `CRYPT-LUKS2-...`, `LVM-...`, `CRYPT-VERITY-...`
        return uuid.split('-').next().unwrap_or("dm").to_lowercase();
    }
    let known = [("loop", "loop"), ("sr", "rom"), ("md", "raid"), ("dm", "dm")];
    known.iter().find(|(start, _)| name.starts_with(start)).map_or("disk", |(_, kind)| kind).into()
}

/// As lsblk writes sizes: one digit behind the point where the number is short and not whole.
fn readable(bytes: u64) -> String {
    let (mut whole, mut rest, mut unit) = (bytes, 0, 'B');
    for larger in ['K', 'M', 'G', 'T', 'P'] {
        if whole < 1024 {
            break;
        }
        (rest, whole, unit) = (whole % 1024, whole / 1024, larger);
    }
    let tenth = (rest * 10 + 512) / 1024;
    match tenth {
        10 => format!("{}{unit}", whole + 1),
        0 => format!("{whole}{unit}"),
        tenth => format!("{whole}.{tenth}{unit}"),
    }
}

pub(crate) fn blockdev(arguments: Vec<OsString>) -> i32 {
    run("blockdev", || {
        let table = "|getsz |getsize |getsize64 |getss |getpbsz |getro |getra |setro |setrw |setra= |flushbufs |rereadpt q v";
        let options = Options::read("blockdev", BLOCKDEV_HELP, table, &arguments)?;
        let acts = [
            "getsz",
            "getsize",
            "getsize64",
            "getss",
            "getpbsz",
            "getro",
            "getra",
            "setro",
            "setrw",
            "setra",
            "flushbufs",
            "rereadpt",
        ];
        let wanted: Vec<&str> = acts.into_iter().filter(|act| options.has(act)).collect();
        if wanted.is_empty() || options.rest.is_empty() {
            return Err(Stop::new(
                1,
                "a command and a device have to be given; blockdev --help lists what there is",
            ));
        }
        let read_ahead: u64 = options.text("setra").map_or(Ok(0), |text| parse(&text))?;
        for path in &options.rest {
            let opened = File::open(path).map_err(failed(path.display()))?;
            let device = opened.as_fd();
            for act in &wanted {
                let number = match *act {
                    "getsz" | "getsize" => block::size(device).map(|bytes| Some(bytes / 512)),
                    "getsize64" => block::size(device).map(Some),
                    "getss" => block::sector(device).map(|bytes| Some(u64::from(bytes.unsigned_abs()))),
                    "getpbsz" => {
                        block::physical_sector(device).map(|bytes| Some(u64::from(bytes.unsigned_abs())))
                    }
                    "getro" => block::is_read_only(device).map(|on| Some(u64::from(on))),
                    "getra" => block::read_ahead(device).map(Some),
                    "setro" => block::set_read_only(device, true).map(|()| None),
                    "setrw" => block::set_read_only(device, false).map(|()| None),
                    "setra" => block::set_read_ahead(device, read_ahead).map(|()| None),
                    "flushbufs" => block::flush(device).map(|()| None),
                    _ => block::reread_partitions(device).map(|()| None),
                };
                if let Some(number) = number.map_err(failed(format_args!("{}: {act}", path.display())))? {
                    print("blockdev", &format!("{number}\n"));
                }
            }
        }
        Ok(0)
    })
}

pub(crate) fn fallocate(arguments: Vec<OsString>) -> i32 {
    run("fallocate", || {
        let options = Options::read(
            "fallocate",
            FALLOCATE_HELP,
            "n|keep-size o|offset= l|length= p|punch-hole c|collapse-range z|zero-range x|posix v",
            &arguments,
        )?;
        let [path] = &options.rest[..] else { return Err(Stop::new(1, "one file has to be given")) };
        let offset = options.text("o").map_or(Ok(0), |text| size(&text))?;
        let length = options.text("l").ok_or_else(|| Stop::new(1, "no length given"))?;
        let (length, offset) = (i64::try_from(size(&length)?), i64::try_from(offset));
        let (Ok(length @ 1..), Ok(offset)) = (length, offset) else {
            return Err(Stop::new(1, "that length is not possible"));
        };
        let mut flags = FallocateFlags::empty();
        flags.set(FallocateFlags::FALLOC_FL_KEEP_SIZE, options.has("n") || options.has("p"));
        flags.set(FallocateFlags::FALLOC_FL_PUNCH_HOLE, options.has("p"));
        flags.set(FallocateFlags::FALLOC_FL_COLLAPSE_RANGE, options.has("c"));
        flags.set(FallocateFlags::FALLOC_FL_ZERO_RANGE, options.has("z"));
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(!options.has("p") && !options.has("c"))
            .truncate(false)
            .open(path);
        let file = file.map_err(failed(path.display()))?;
        if options.has("x") {
            nix::fcntl::posix_fallocate(&file, offset, length).map_err(failed(path.display()))?;
        } else {
            nix::fcntl::fallocate(&file, flags, offset, length).map_err(failed(path.display()))?;
        }
        Ok(0)
    })
}

pub(crate) fn fstrim(arguments: Vec<OsString>) -> i32 {
    run("fstrim", || {
        let options = Options::read(
            "fstrim",
            FSTRIM_HELP,
            "v|verbose n|dry-run o|offset= l|length= m|minimum= a|all A q|quiet-unsupported",
            &arguments,
        )?;
        let number = |key: &str, default: u64| options.text(key).map_or(Ok(default), |text| size(&text));
        let (offset, length, least) = (number("o", 0)?, number("l", u64::MAX)?, number("m", 0)?);
        let all = options.has("a") || options.has("A");
        let directories: Vec<OsString> = if all {
            let mut seen = Vec::new();
            let mounted = mounts()?.into_iter().filter(|mount| {
                mount.source.starts_with("/dev/") && mount.options.split(',').any(|word| word == "rw")
            });
            mounted
                .filter(|mount| {
                    !seen.contains(&mount.device) && {
                        seen.push(mount.device.clone());
                        true
                    }
                })
                .map(|mount| mount.target.into())
                .collect()
        } else {
            options.rest.clone()
        };
        if directories.is_empty() && !all {
            return Err(Stop::new(1, "no directory given; -a is for all"));
        }
        let mut code = 0;
        for directory in directories {
            let opened = File::open(&directory).map_err(failed(directory.display()))?;
            let trimmed =
                if options.has("n") { Ok(0) } else { block::trim(opened.as_fd(), offset, length, least) };
            match trimmed {
                Ok(bytes) if options.has("v") => drop(print(
                    "fstrim",
                    &format!("{}: {} ({bytes} bytes) trimmed\n", directory.display(), readable(bytes)),
                )),
                Ok(_) => {}
                // Of all file systems those that cannot are passed over.
                Err(error)
                    if (all || options.has("q"))
                        && matches!(
                            error.raw_os_error(),
                            Some(nix::libc::EOPNOTSUPP | nix::libc::ENOTTY)
                        ) => {}
                Err(error) => {
                    code = 1;
                    complain("fstrim", &because(directory.display(), &error));
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
    fn sizes_are_short() {
        let cases = [
            (0, "0B"),
            (512, "512B"),
            (1024, "1K"),
            (1536, "1.5K"),
            (10 << 30, "10G"),
            ((10 << 30) + (1 << 29), "10.5G"),
            ((1 << 20) - 1, "1024K"),
        ];
        for (bytes, text) in cases {
            assert_eq!(readable(bytes), text);
        }
    }

    #[test]
    fn what_a_device_is_follows_from_its_name() {
        assert_eq!(
            ["loop7", "sr0", "md1", "vda", "nvme0n1"].map(kind),
            ["loop", "rom", "raid", "disk", "disk"]
        );
    }
}
