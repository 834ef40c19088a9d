//! The kernel modules in the image: those that image/modules names and what they need, as plain files.
//!
//! Debian packs modules with xz; they are unpacked here, once, rather than at each boot. Their signatures are at
//! the end of the plain file and stay. `modules.dep` is written from the modules' own declarations, since
//! Debian's package has none before it is installed.

use crate::elf;
use crate::kernel::Kernel;
use crate::sh::{self, Res};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// One module of the image.
#[derive(Debug)]
pub(crate) struct Module {
    /// With `_` where the file may have `-`, as the kernel shows it.
    pub(crate) name: String,
    /// Below the directory of the kernel's release, without the compression's suffix.
    pub(crate) file: String,
    pub(crate) bytes: Vec<u8>,
    /// Every module that must be there before, in the order in which to load them.
    needs: Vec<String>,
}

/// A line of image/modules.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    name: String,
    /// `-name`: some of the kernels do not have it.
    optional: bool,
}

/// Reads `list` and gives the modules in the order in which to load them.
///
/// # Errors
/// A module that is not optional is neither in the kernel's package nor built in, or cannot be read.
pub(crate) fn closure(kernel: &Kernel, list: &Path) -> Res<Vec<Module>> {
    let available = Available::of(kernel)?;
    let mut found = Vec::new();
    for wanted in parse(&sh::read_text(list)?) {
        let path = available.files.contains_key(&wanted.name);
        match (path, available.builtin.contains(&wanted.name), wanted.optional) {
            (true, _, _) => available.add(&wanted.name, &mut found, &mut Vec::new())?,
            (false, true, _) | (false, false, true) => {}
            (false, false, false) => {
                return Err(format!(
                    "kernel {} has no module {:?}, which {} names",
                    kernel.release,
                    wanted.name,
                    list.display()
                ));
            }
        }
    }
    Ok(found)
}

/// `modules.dep` in depmod's form: `file: needed files`, the last one to be loaded first.
pub(crate) fn modules_dep(modules: &[Module]) -> String {
    let file_of: BTreeMap<&str, &str> = modules.iter().map(|m| (m.name.as_str(), m.file.as_str())).collect();
    let line = |module: &Module| {
        let needs = module.needs.iter().rev().filter_map(|name| file_of.get(name.as_str()));
        format!("{}:{}\n", module.file, needs.map(|file| format!(" {file}")).collect::<String>())
    };
    modules.iter().map(line).collect()
}

fn parse(list: &str) -> Vec<Wanted> {
    let names = list.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    let names = names.filter(|name| !name.is_empty());
    names
        .map(|word| {
            let name = word.strip_prefix('-');
            Wanted { name: normal(name.unwrap_or(word)), optional: name.is_some() }
        })
        .collect()
}

fn normal(name: &str) -> String {
    name.replace('-', "_")
}

/// What a kernel package has.
struct Available {
    dir: PathBuf,
    /// By name.
    files: BTreeMap<String, PathBuf>,
    builtin: BTreeSet<String>,
}

impl Available {
    fn of(kernel: &Kernel) -> Res<Self> {
        let mut files = BTreeMap::new();
        collect(&kernel.modules, &mut files)?;
        let builtin = sh::read_text(&kernel.modules.join("modules.builtin"))?;
        let builtin = builtin.lines().filter_map(|line| module_name(Path::new(line))).collect();
        Ok(Self { dir: kernel.modules.clone(), files, builtin })
    }

    /// Adds `name` after everything it needs. `above` is the way to it, to notice a circle.
    fn add(&self, name: &str, found: &mut Vec<Module>, above: &mut Vec<String>) -> Res {
        if found.iter().any(|module| module.name == name) || self.builtin.contains(name) {
            return Ok(());
        }
        if above.iter().any(|other| other == name) {
            return Err(format!("kernel modules need each other in a circle: {} {name}", above.join(" ")));
        }
        let Some(path) = self.files.get(name) else {
            return Err(format!(
                "kernel module {name}, needed by {}, is not in the kernel package",
                above.join(" ")
            ));
        };
        let bytes = plain(path)?;
        let info = elf::modinfo(&bytes).map_err(|error| format!("{}: {error}", path.display()))?;
        let direct: Vec<String> = declared(&info, |name| self.files.contains_key(name));
        above.push(name.to_owned());
        for need in &direct {
            self.add(need, found, above)?;
        }
        above.pop();
        let needs = all_needs(&direct, found);
        let file = path.strip_prefix(&self.dir).unwrap_or(path).to_string_lossy().into_owned();
        let file = ["", ".xz", ".zst", ".gz"]
            .iter()
            .filter_map(|end| file.strip_suffix(end))
            .find(|f| f.ends_with(".ko"));
        let file =
            file.map(str::to_owned).ok_or_else(|| format!("{} is not a module's name", path.display()))?;
        found.push(Module { name: name.to_owned(), file, bytes, needs });
        Ok(())
    }
}

/// What a module's `.modinfo` says must be loaded before it: `depends=`, and of `softdep=pre:` what there is.
fn declared(info: &[String], exists: impl Fn(&str) -> bool) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for text in info {
        if let Some(list) = text.strip_prefix("depends=") {
            names.extend(list.split(',').filter(|name| !name.is_empty()).map(normal));
        } else if let Some(list) = text.strip_prefix("softdep=pre:") {
            let before = list.split("post:").next().unwrap_or_default();
            names.extend(before.split_whitespace().map(normal).filter(|name| exists(name)));
        }
    }
    names
}

/// The direct needs and theirs, in the order of loading.
fn all_needs(direct: &[String], found: &[Module]) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for name in direct {
        let before = found.iter().find(|module| module.name == *name);
        let theirs = before.map(|module| module.needs.as_slice()).unwrap_or_default();
        // A need that is built in has no entry and is not to be loaded.
        for need in theirs.iter().chain(before.map(|_| name)) {
            if !all.contains(need) {
                all.push(need.clone());
            }
        }
    }
    all
}

fn collect(dir: &Path, files: &mut BTreeMap<String, PathBuf>) -> Res {
    for path in sh::list(dir)? {
        if path.is_dir() && !path.is_symlink() {
            collect(&path, files)?;
        } else if let Some(name) = module_name(&path) {
            files.insert(name, path);
        }
    }
    Ok(())
}

fn module_name(path: &Path) -> Option<String> {
    let file = path.file_name()?.to_str()?;
    let (name, end) = file.split_once(".ko")?;
    matches!(end, "" | ".xz" | ".zst" | ".gz").then(|| normal(name))
}

fn plain(path: &Path) -> Res<Vec<u8>> {
    let tool = match path.extension().and_then(|end| end.to_str()) {
        Some("xz") => "xz",
        Some("zst") => "zstd",
        Some("gz") => "gzip",
        _ => return sh::read(path),
    };
    sh::output(Command::new(tool).arg("-dc").arg(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(name: &str, needs: &[&str]) -> Module {
        let needs = needs.iter().map(|need| (*need).to_owned()).collect();
        Module { name: name.into(), file: format!("kernel/{name}.ko"), bytes: Vec::new(), needs }
    }

    #[test]
    fn the_list_has_comments_optional_names_and_both_spellings() {
        let list = "# disks\nvirtio-blk\n\n-i6300esb # not in 6.1\n";
        assert_eq!(
            parse(list),
            [
                Wanted { name: "virtio_blk".into(), optional: false },
                Wanted { name: "i6300esb".into(), optional: true }
            ]
        );
    }

    #[test]
    fn needs_are_whole_and_in_the_order_of_loading() {
        let found = [module("a", &[]), module("b", &["a"]), module("c", &["a"])];
        let direct = ["b".to_owned(), "c".into(), "builtin".into()];
        assert_eq!(all_needs(&direct, &found), ["a", "b", "c"]);
    }

    #[test]
    fn modules_dep_names_the_last_to_load_first() {
        let modules = [module("a", &[]), module("b", &["a"]), module("c", &["a", "b"])];
        assert_eq!(
            modules_dep(&modules),
            "kernel/a.ko:\nkernel/b.ko: kernel/a.ko\nkernel/c.ko: kernel/b.ko kernel/a.ko\n"
        );
    }

    #[test]
    fn names_are_read_from_files_and_declarations() {
        assert_eq!(module_name(Path::new("x/virtio-rng.ko.xz")).as_deref(), Some("virtio_rng"));
        assert_eq!(module_name(Path::new("x/modules.order")), None);
        let info = [
            "license=GPL".into(),
            "depends=dm-bufio,libcrc32c".into(),
            "softdep=pre: gone there post: late".into(),
        ];
        assert_eq!(declared(&info, |name| name == "there"), ["dm_bufio", "libcrc32c", "there"]);
    }
}
