//! The table of mounts (/proc/self/mountinfo, proc(5)): `findmnt` and `mountpoint`.

use crate::options::{Options, Stop, failed, run};
use crate::output::{complain, print};
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

const FINDMNT_HELP: &str = "\
Usage: findmnt [-t TYPE,...] [-o COLUMN,...] [-n] [-r | -l | -P] [-f] [-T PATH] [SOURCE | DIRECTORY]
Show mounted file systems, as a tree or (with a condition) as a list.

  -T    the one that PATH lies in;  -M exactly this directory;  -S this source
  -o    of TARGET SOURCE FSTYPE OPTIONS MAJ:MIN FSROOT ID PARENT PROPAGATION
  -n    without the line of heads;  -r plain;  -l list;  -P as NAME=\"value\"
  -f    only the first
";

const MOUNTPOINT_HELP: &str = "\
Usage: mountpoint [-q] [-d] DIRECTORY
       mountpoint [-q] -x DEVICE
Say whether a file system is mounted at a directory: exit code 0, else 32.

  -q    say nothing;  -d print the device's numbers;  -x those of a block device
";

/// A mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mount {
    pub(super) id: u32,
    pub(super) parent: u32,
    pub(super) device: String,
    pub(super) root: String,
    pub(super) target: String,
    pub(super) options: String,
    pub(super) propagation: String,
    pub(super) kind: String,
    pub(super) source: String,
    pub(super) system_options: String,
}

/// The mounts of the caller's namespace, in the order in which they were made.
pub(super) fn mounts() -> Result<Vec<Mount>, Stop> {
    let text = fs::read_to_string("/proc/self/mountinfo").map_err(failed("/proc/self/mountinfo"))?;
    Ok(text.lines().filter_map(mount).collect())
}

fn mount(line: &str) -> Option<Mount> {
    let (before, after) = line.split_once(" - ")?;
    let mut fields = before.split(' ');
    let mut field = || fields.next();
    let (id, parent, device) = (field()?.parse().ok()?, field()?.parse().ok()?, field()?.to_owned());
    let (root, target, options) = (unescape(field()?), unescape(field()?), field()?.to_owned());
    let propagation = fields.map(|tag| tag.split(':').next().unwrap_or(tag)).collect::<Vec<_>>().join(",");
    let propagation = propagation.replace("master", "slave");
    let mut after = after.split(' ');
    let (kind, source) = (after.next()?.to_owned(), unescape(after.next()?));
    let system_options = after.next().unwrap_or("").to_owned();
    let propagation = if propagation.is_empty() { "private".into() } else { propagation };
    Some(Mount { id, parent, device, root, target, options, propagation, kind, source, system_options })
}

impl Mount {
    /// The mount's own options and the file system's, each once.
    pub(super) fn all_options(&self) -> String {
        let mut out: Vec<&str> = self.options.split(',').collect();
        // What the mount says counts: a read-only mount may show a file system that others write to.
        let own = |word: &&str| !out.contains(word) && !matches!(*word, "ro" | "rw");
        let rest: Vec<&str> =
            self.system_options.split(',').filter(|word| !word.is_empty()).filter(own).collect();
        out.extend(rest);
        out.join(",")
    }

    fn column(&self, name: &str) -> Option<String> {
        Some(match name.to_ascii_uppercase().as_str() {
            "TARGET" => self.target.clone(),
            "SOURCE" if self.root != "/" => format!("{}[{}]", self.source, self.root),
            "SOURCE" => self.source.clone(),
            "FSTYPE" => self.kind.clone(),
            "OPTIONS" => self.all_options(),
            "VFS-OPTIONS" => self.options.clone(),
            "FS-OPTIONS" => self.system_options.clone(),
            "MAJ:MIN" => self.device.clone(),
            "FSROOT" => self.root.clone(),
            "ID" => self.id.to_string(),
            "PARENT" => self.parent.to_string(),
            "PROPAGATION" => self.propagation.clone(),
            _ => return None,
        })
    }
}

/// The kernel writes space, tab, newline and backslash as `\` and three octal digits.
pub(super) fn unescape(field: &str) -> String {
    let mut parts = field.split('\\');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let code = part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match (code, part.get(3..)) {
            (Some(code), Some(rest)) if code.is_ascii() => {
                text.push(char::from(code));
                text.push_str(rest);
            }
            _ => {
                text.push('\\');
                text.push_str(part);
            }
        }
    }
    text
}

pub(crate) fn findmnt(arguments: Vec<OsString>) -> i32 {
    run("findmnt", || {
        let table = "t|types= o|output= n|noheadings r|raw l|list P|pairs f|first-only T|target= M|mountpoint= S|source= \
            k|kernel m|mtab a|all e|evaluate u|notruncate v|nofsroot";
        let options = Options::read("findmnt", FINDMNT_HELP, table, &arguments)?;
        let columns = options.text("o").unwrap_or_else(|| "TARGET,SOURCE,FSTYPE,OPTIONS".into());
        let columns: Vec<String> = columns.split(',').map(str::to_owned).collect();
        let all = mounts()?;
        let chosen = chosen(&options, &all)?;
        let plain = chosen.len() < all.len() || ["r", "l", "P", "f"].iter().any(|key| options.has(key));
        let rows: Vec<(usize, &Mount)> =
            if plain { chosen.iter().map(|m| (0, *m)).collect() } else { tree(&all) };
        if rows.is_empty() {
            return Ok(1);
        }
        let mut cells: Vec<Vec<String>> = Vec::new();
        for (depth, mount) in &rows {
            let row = columns.iter().enumerate().map(|(at, name)| {
                let cell = mount
                    .column(name)
                    .ok_or_else(|| Stop::new(1, format!("no column {name:?}; findmnt --help lists them")))?;
                Ok(if at == 0 { format!("{}{cell}", "  ".repeat(*depth)) } else { cell })
            });
            cells.push(row.collect::<Result<_, Stop>>()?);
        }
        let heads: Vec<String> = columns.iter().map(|name| name.to_uppercase()).collect();
        if options.has("P") {
            let pairs = |row: &Vec<String>| {
                heads
                    .iter()
                    .zip(row)
                    .map(|(head, cell)| format!("{head}=\"{cell}\""))
                    .collect::<Vec<_>>()
                    .join(" ")
                    + "\n"
            };
            return Ok(print("findmnt", &cells.iter().map(pairs).collect::<String>()));
        }
        if !options.has("n") {
            cells.insert(0, heads);
        }
        Ok(print("findmnt", &crate::table_text::aligned(&cells, options.has("r"))))
    })
}

fn chosen<'a>(options: &Options, all: &'a [Mount]) -> Result<Vec<&'a Mount>, Stop> {
    let mut chosen: Vec<&Mount> = all.iter().collect();
    if let Some(kinds) = options.text("t") {
        chosen.retain(|mount| kinds.split(',').any(|kind| kind == mount.kind));
    }
    if let Some(source) = options.text("S") {
        chosen.retain(|mount| mount.source == source);
    }
    if let Some(target) = options.text("M") {
        chosen.retain(|mount| mount.target == target);
    }
    if let Some(path) = options.value("T") {
        let path = fs::canonicalize(path).map_err(failed(path.display()))?;
        // The last one of the deepest: a later mount hides an earlier one at the same place.
        let best = chosen
            .iter()
            .filter(|mount| path.starts_with(&mount.target))
            .max_by_key(|mount| Path::new(&mount.target).components().count());
        chosen = best.copied().into_iter().collect();
    }
    if let Some(word) = options.words().first() {
        let path =
            fs::canonicalize(word).map_or_else(|_| word.clone(), |path| path.to_string_lossy().into_owned());
        chosen.retain(|mount| mount.target == path || mount.source == *word);
        chosen = chosen.pop().into_iter().collect();
    }
    if options.has("f") {
        chosen.truncate(1);
    }
    Ok(chosen)
}

/// Each mount behind the one it lies in, with its depth.
fn tree(all: &[Mount]) -> Vec<(usize, &Mount)> {
    fn below<'a>(parent: u32, depth: usize, all: &'a [Mount], out: &mut Vec<(usize, &'a Mount)>) {
        for mount in all.iter().filter(|mount| mount.parent == parent && mount.id != parent) {
            if out.len() >= all.len() {
                return;
            }
            out.push((depth, mount));
            below(mount.id, depth + 1, all, out);
        }
    }
    let mut out = Vec::new();
    for root in all
        .iter()
        .filter(|mount| mount.id == mount.parent || !all.iter().any(|other| other.id == mount.parent))
    {
        out.push((0, root));
        below(root.id, 1, all, &mut out);
    }
    out
}

/// util-linux's exit code for "no mount point".
const NO_MOUNT_POINT: i32 = 32;

pub(crate) fn mountpoint(arguments: Vec<OsString>) -> i32 {
    run("mountpoint", || {
        let options =
            Options::read("mountpoint", MOUNTPOINT_HELP, "q|quiet d|fs-devno x|devno |nofollow", &arguments)?;
        let [path] = &options.rest[..] else { return Err(Stop::new(1, "one directory has to be given")) };
        let say = |text: String| if options.has("q") { 0 } else { print("mountpoint", &text) };
        let meta = match fs::metadata(path) {
            Ok(meta) => meta,
            Err(error) => {
                if !options.has("q") {
                    complain("mountpoint", &crate::options::because(path.display(), &error));
                }
                return Ok(1);
            }
        };
        let numbers =
            |device: u64| format!("{}:{}\n", nix::sys::stat::major(device), nix::sys::stat::minor(device));
        if options.has("x") {
            if !meta.file_type().is_block_device() {
                return Err(Stop::new(NO_MOUNT_POINT, format!("{}: not a block device", path.display())));
            }
            return Ok(say(numbers(meta.rdev())));
        }
        let target = fs::canonicalize(path).map_err(failed(path.display()))?;
        let is = meta.is_dir() && mounts()?.iter().any(|mount| Path::new(&mount.target) == target);
        if options.has("d") {
            say(numbers(meta.dev()));
        } else {
            say(format!("{} is {}a mountpoint\n", path.display(), if is { "" } else { "not " }));
        }
        Ok(if is { 0 } else { NO_MOUNT_POINT })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_kernels_table_is_read() {
        let line =
            "36 35 98:0 /sub /mnt\\0402 rw,noatime shared:7 master:1 - ext3 /dev/root rw,errors=continue";
        let mount = mount(line).unwrap();
        assert_eq!(
            (mount.id, mount.parent, mount.target.as_str(), mount.kind.as_str()),
            (36, 35, "/mnt 2", "ext3")
        );
        assert_eq!(
            (mount.propagation.as_str(), mount.all_options().as_str()),
            ("shared,slave", "rw,noatime,errors=continue")
        );
        assert_eq!(mount.column("source").as_deref(), Some("/dev/root[/sub]"));
        assert_eq!(super::mount("36 35 98:0 / /mnt rw"), None);
        assert_eq!(
            (unescape("end\\"), unescape("\\9zz"), unescape("a\\134b")),
            ("end\\".into(), "\\9zz".into(), "a\\b".into())
        );
    }

    #[test]
    fn the_tree_has_every_mount_once() {
        let of = |id, parent| Mount { id, parent, ..mount("1 1 0:1 / / rw - tmpfs none rw").unwrap() };
        let all = [of(5, 1), of(7, 5), of(6, 5), of(8, 99), of(9, 7)];
        let ids: Vec<(usize, u32)> = tree(&all).iter().map(|(depth, mount)| (*depth, mount.id)).collect();
        assert_eq!(ids, [(0, 5), (1, 7), (2, 9), (1, 6), (0, 8)]);
        assert!(mounts().unwrap().iter().any(|mount| mount.target == "/"));
    }
}
