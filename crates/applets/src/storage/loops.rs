//! `losetup`: files as block devices.

use crate::options::{Options, Stop, failed, run, size};
use crate::output::print;
use octant_sys::block::{self, Loop};
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

const HELP: &str = "\
Usage: losetup [-a | -l | LOOPDEV]
       losetup -f [--show] [-r] [-P] [-o OFFSET] [--sizelimit SIZE] [FILE]
       losetup [-r] [-P] [-o OFFSET] [--sizelimit SIZE] LOOPDEV FILE
       losetup -j FILE
       losetup -d LOOPDEV...  |  -D
Show, set up or take away loop devices, which show a file as a block device.

  -f    the first that is free;  --show say which
  -r    nothing can be written;  -P read its partition table
  -j    those that show FILE
  -d    take away;  -D all
  -n    without the line of heads;  -O COLUMN,... accepted: the columns are fixed
";

pub(crate) fn losetup(arguments: Vec<OsString>) -> i32 {
    run("losetup", || {
        let table = "a|all l|list f|find |show r|read-only P|partscan o|offset= |sizelimit= j|associated= d|detach D|detach-all n|noheadings O|output= v";
        let options = Options::read("losetup", HELP, table, &arguments)?;
        let part = (
            options.text("o").map_or(Ok(0), |text| size(&text))?,
            options.text("sizelimit").map_or(Ok(0), |text| size(&text))?,
        );
        if options.has("d") || options.has("D") {
            let all = || used().into_iter().map(|(device, _)| device).collect::<Vec<_>>();
            let devices: Vec<PathBuf> =
                if options.has("D") { all() } else { options.rest.iter().map(PathBuf::from).collect() };
            for device in devices {
                let opened = File::open(&device).map_err(failed(device.display()))?;
                block::clear_loop(opened.as_fd()).map_err(failed(device.display()))?;
            }
            return Ok(0);
        }
        match &options.rest[..] {
            [] if options.has("f") => Ok(print("losetup", &format!("{}\n", free()?.display()))),
            [file] if options.has("f") => {
                let device = attach_free(Path::new(file), part, options.has("r"), false)?;
                if options.has("P") {
                    let opened = File::open(&device).map_err(failed(&device))?;
                    block::reread_partitions(opened.as_fd()).map_err(failed(&device))?;
                }
                Ok(if options.has("show") { print("losetup", &format!("{device}\n")) } else { 0 })
            }
            [device, file] => {
                let what = Loop { partitions: options.has("P"), ..of(part, options.has("r"), false) };
                attach(Path::new(device), Path::new(file), &what)?;
                Ok(0)
            }
            devices => list(&options, devices),
        }
    })
}

fn list(options: &Options, devices: &[OsString]) -> Result<i32, Stop> {
    let wanted =
        options.value("j").map(|file| fs::canonicalize(file).map_err(failed(file.display()))).transpose()?;
    let shown: Vec<(PathBuf, PathBuf)> = used()
        .into_iter()
        .filter(|(device, file)| {
            (devices.is_empty() || devices.iter().any(|named| device == Path::new(named)))
                && wanted.as_ref().is_none_or(|wanted| wanted == file)
        })
        .collect();
    if !devices.is_empty() && shown.is_empty() {
        return Err(Stop::new(1, format!("{}: it shows no file", devices[0].display())));
    }
    let mut rows = Vec::new();
    if !options.has("n")
        && (options.has("l") || (devices.is_empty() && !options.has("a") && !options.has("j")))
    {
        rows.push(
            ["NAME", "SIZELIMIT", "OFFSET", "AUTOCLEAR", "RO", "BACK-FILE"].map(str::to_owned).to_vec(),
        );
    }
    let table = !rows.is_empty() || options.has("n");
    let mut text = String::new();
    for (device, file) in &shown {
        let name = device.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let fact = |fact: &str| {
            let path = Path::new("/sys/block").join(&name).join(fact);
            fs::read_to_string(path).unwrap_or_default().trim().to_owned()
        };
        if table {
            let row = [
                device.display().to_string(),
                fact("loop/sizelimit"),
                fact("loop/offset"),
                fact("loop/autoclear"),
                fact("ro"),
                file.display().to_string(),
            ];
            rows.push(row.to_vec());
        } else {
            let offset = fact("loop/offset");
            let offset = if offset == "0" { String::new() } else { format!(", offset {offset}") };
            text.push_str(&format!("{}: []: ({}){offset}\n", device.display(), file.display()));
        }
    }
    if table && shown.is_empty() {
        return Ok(0);
    }
    Ok(print("losetup", &if table { crate::table_text::aligned(&rows, false) } else { text }))
}

/// Every loop device that shows a file, with that file.
pub(super) fn used() -> Vec<(PathBuf, PathBuf)> {
    let entries = fs::read_dir("/sys/block").into_iter().flatten().flatten();
    let mut found: Vec<(PathBuf, PathBuf)> = entries
        .filter_map(|entry| {
            let file = fs::read(entry.path().join("loop/backing_file")).ok()?;
            let file = file.strip_suffix(b"\n").unwrap_or(&file);
            let file = std::ffi::OsStr::from_bytes(file);
            Some((Path::new("/dev").join(entry.file_name()), PathBuf::from(file)))
        })
        .collect();
    found.sort();
    found
}

/// The device that a whole file is on already.
pub(super) fn attached(file: &Path) -> Option<String> {
    let path = fs::canonicalize(file).ok()?;
    let zero = |device: &Path, name: &str| {
        let about =
            Path::new("/sys/block").join(device.file_name().unwrap_or_default()).join("loop").join(name);
        fs::read_to_string(about).is_ok_and(|text| text.trim() == "0")
    };
    let all = used().into_iter().filter(|(_, backing)| *backing == path);
    let mut whole = all.filter(|(device, _)| zero(device, "offset") && zero(device, "sizelimit"));
    whole.next().map(|(device, _)| device.display().to_string())
}

fn free() -> Result<PathBuf, Stop> {
    let control = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/loop-control")
        .map_err(failed("/dev/loop-control"))?;
    let number = block::free_loop(control.as_fd()).map_err(failed("/dev/loop-control"))?;
    Ok(format!("/dev/loop{number}").into())
}

fn of<'a>((offset, size): (u64, u64), read_only: bool, autoclear: bool) -> Loop<'a> {
    Loop { offset, size, read_only, autoclear, ..Loop::default() }
}

fn attach(device: &Path, file: &Path, what: &Loop<'_>) -> Result<(), Stop> {
    let path = fs::canonicalize(file).map_err(failed(file.display()))?;
    let opened =
        OpenOptions::new().read(true).write(!what.read_only).open(&path).map_err(failed(file.display()))?;
    let device_file = OpenOptions::new()
        .read(true)
        .write(!what.read_only)
        .open(device)
        .map_err(failed(device.display()))?;
    let what = Loop { name: path.as_os_str().as_bytes(), ..*what };
    block::set_loop(device_file.as_fd(), opened.as_fd(), &what).map_err(failed(device.display()))
}

/// How often another one may take the free device first.
const TRIES: u32 = 16;

/// Shows a file by the first loop device that is free; gives its path.
pub(super) fn attach_free(
    file: &Path,
    part: (u64, u64),
    read_only: bool,
    autoclear: bool,
) -> Result<String, Stop> {
    let mut last = None;
    for _ in 0..TRIES {
        let device = free()?;
        let opened = OpenOptions::new()
            .read(true)
            .write(!read_only)
            .open(&device)
            .map_err(failed(device.display()))?;
        let path = fs::canonicalize(file).map_err(failed(file.display()))?;
        let backing =
            OpenOptions::new().read(true).write(!read_only).open(&path).map_err(failed(file.display()))?;
        let what = Loop { name: path.as_os_str().as_bytes(), ..of(part, read_only, autoclear) };
        match block::set_loop(opened.as_fd(), backing.as_fd(), &what) {
            Ok(()) => {
                if autoclear {
                    // It goes when nobody has it open: the mount that follows has to come first.
                    std::mem::forget(opened);
                }
                return Ok(device.display().to_string());
            }
            Err(error) if error.raw_os_error() == Some(nix::libc::EBUSY) => last = Some(error),
            Err(error) => return Err(failed(device.display())(error)),
        }
    }
    let error = last.unwrap_or_else(|| std::io::ErrorKind::ResourceBusy.into());
    Err(failed("a free loop device")(error))
}
