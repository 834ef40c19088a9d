//! The boot image: an initrd with the binary, what the kernel needs, the examples and their data.
//!
//! The kernel unpacks it into memory and starts `/init`, which is `/octant`. The same tree is packed by mkosi
//! (mkosi.rs); the container image (oci.rs) has the binary alone.

use crate::args::Args;
use crate::build::{self, Profile};
use crate::cpio::Tree;
use crate::kernel::{self, Kernel};
use crate::sh::{self, Res, Steps};
use crate::workspace::Workspace;
use crate::{logs, mkosi, modules, oci, packages, uki};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// The data disk's size. The file is sparse: it takes what is written.
const DATA_BYTES: u64 = 256 << 20;
/// By this the booted system finds its disk.
const DATA_LABEL: &str = "octant-data";
/// Any seed does; with the same one a report can be compared with what was planted.
const LOG_SEED: u64 = 42;
/// The name of this checkout's own operator.
const OPERATOR: &str = "operator";

/// Where the examples are in an image.
pub(crate) const EXAMPLES: &str = "/usr/share/octant/examples";

/// Directories that the booted system mounts on, or writes in.
const DIRECTORIES: &[(&str, u32)] = &[
    ("dev", 0o755),
    ("etc/octant/trusted", 0o755),
    ("etc/octant/units", 0o755),
    ("home", 0o755),
    ("mnt", 0o755),
    ("proc", 0o555),
    ("root", 0o700),
    ("run", 0o755),
    ("srv", 0o755),
    ("sys", 0o555),
    ("tmp", 0o1777),
    ("var/lib/octant", 0o755),
    ("var/log/octant", 0o755),
    ("var/tmp", 0o1777),
];

/// What a machine is booted from.
#[derive(Debug, Clone)]
pub(crate) struct Image {
    pub(crate) kernel: Kernel,
    pub(crate) initrd: PathBuf,
    /// The data disk as it is when new. A boot gets a copy.
    pub(crate) data: PathBuf,
}

/// Makes the initrd and the data disk from a built binary.
///
/// # Errors
/// A file cannot be read or written, or the binary refuses to list its utilities or to sign.
pub(crate) fn make(workspace: &Workspace, binary: &Path, kernel: Kernel) -> Res<Image> {
    let mut tree = Tree::default();
    // The kernel opens it before it starts /init.
    tree.char_device("dev/console", 0o600, 5, 1);
    add_modules(workspace, &mut tree, &kernel)?;
    add_system(workspace, binary, &mut tree)?;
    let initrd = workspace.image().join("octant.cpio");
    let half = initrd.with_extension("half");
    let archive = tree.archive();
    sh::write(&half, &archive)?;
    sh::rename(&half, &initrd)?;
    let data = workspace.image().join("data.ext4");
    if !data.is_file() {
        make_data_disk(&data)?;
    }
    println!("      {} paths, {}", tree.len(), sh::human_bytes(archive.len() as u64));
    Ok(Image { kernel, initrd, data })
}

/// Everything but the kernel's modules.
pub(crate) fn add_system(workspace: &Workspace, binary: &Path, tree: &mut Tree) -> Res {
    for (path, mode) in DIRECTORIES {
        tree.directory(path, *mode);
    }
    tree.file("octant", 0o755, sh::read(binary)?);
    tree.link("init", "octant");
    for applet in applets(binary)? {
        tree.link(&format!("bin/{applet}"), "/octant");
    }
    // Scripts name programs by these places too.
    tree.link("sbin", "bin");
    tree.link("usr/bin", "../bin");
    tree.link("usr/sbin", "../bin");
    add_files(&workspace.root.join("image/tree"), "", tree)?;
    add_examples(workspace, binary, tree)
}

/// The binary, called by its own name: it decides by that what it is, and a file given by hand may have another.
fn octant(binary: &Path) -> Command {
    use std::os::unix::process::CommandExt;
    let mut command = Command::new(binary);
    command.arg0("octant");
    command
}

/// The names that the binary answers to, of which `octant` itself and `sh` always are two.
fn applets(binary: &Path) -> Res<Vec<String>> {
    let listing = sh::text(octant(binary).arg("--list"))?;
    let mut names: Vec<String> = listing.lines().map(|line| line.trim().to_owned()).collect();
    names.extend(["octant".to_owned(), "sh".to_owned()]);
    names.retain(|name| !name.is_empty());
    if let Some(bad) = names.iter().find(|name| name.contains(['/', ' ', '\t'])) {
        return Err(format!(
            "`{} --list` names a utility {bad:?}, which cannot be a file name in /bin",
            binary.display()
        ));
    }
    names.sort();
    names.dedup();
    Ok(names)
}

/// The kernel's modules, the list of them and what each needs.
pub(crate) fn add_modules(workspace: &Workspace, tree: &mut Tree, kernel: &Kernel) -> Res {
    let list = workspace.root.join("image/modules");
    let modules = modules::closure(kernel, &list)?;
    let dir = format!("lib/modules/{}", kernel.release);
    let names: String = modules.iter().map(|module| format!("{}\n", module.name)).collect();
    tree.file(&format!("{dir}/modules.dep"), 0o644, modules::modules_dep(&modules));
    // In the order in which to load them: what one needs stands before it.
    tree.file("etc/octant/modules", 0o644, names);
    for module in modules {
        tree.file(&format!("{dir}/{}", module.file), 0o644, module.bytes);
    }
    Ok(())
}

/// Files of a directory of the checkout, with the modes that they have there reduced to 0755 and 0644.
fn add_files(from: &Path, to: &str, tree: &mut Tree) -> Res {
    use std::os::unix::fs::PermissionsExt;
    for path in sh::list(from)? {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let at = if to.is_empty() { name } else { format!("{to}/{name}") };
        let meta = path.symlink_metadata().map_err(|error| format!("{}: {error}", path.display()))?;
        if meta.is_dir() {
            add_files(&path, &at, tree)?;
        } else if meta.is_symlink() {
            let target = std::fs::read_link(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            tree.link(&at, &target.to_string_lossy());
        } else {
            let mode = if meta.permissions().mode() & 0o100 == 0 { 0o644 } else { 0o755 };
            tree.file(&at, mode, sh::read(&path)?);
        }
    }
    Ok(())
}

/// The examples with their manifests signed by this checkout's operator, his public key, and the logs they read.
pub(crate) fn add_examples(workspace: &Workspace, binary: &Path, tree: &mut Tree) -> Res {
    let key = operator_key(workspace, binary)?;
    let public = key.with_extension("pub");
    tree.file(&format!("etc/octant/trusted/{OPERATOR}.pub"), 0o644, sh::read(&public)?);
    for example in sh::list(&workspace.root.join("examples"))? {
        let manifest = example.join("manifest.toml");
        if !manifest.is_file() {
            continue;
        }
        let name = example.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let at = format!("{}/{name}", EXAMPLES.trim_start_matches('/'));
        add_files(&example, &at, tree)?;
        let signed = workspace.image().join(format!("{name}.signed.json"));
        sign(binary, &key, &manifest, &signed)?;
        tree.file(&format!("{at}/manifest.signed.json"), 0o644, sh::read(&signed)?);
    }
    let dir = workspace.image().join("logs");
    write_logs(&dir)?;
    add_files(&dir, "srv/logs", tree)
}

/// The two logs that the incident-report example reads.
pub(crate) fn write_logs(dir: &Path) -> Res {
    let written = logs::write_logs(dir, LOG_SEED);
    written.map(drop).map_err(|error| format!("cannot write logs to {}: {error}", dir.display()))
}

/// Signs a manifest into `signed`.
pub(crate) fn sign(binary: &Path, key: &Path, manifest: &Path, signed: &Path) -> Res {
    let mut command = octant(binary);
    command.args(["manifest", "sign"]).arg(manifest).arg("--key").arg(key).arg("-o").arg(signed);
    sh::output(&mut command).map(drop)
}

/// This checkout's own operator's private key, made once and readable by its owner alone.
///
/// # Errors
/// The key cannot be made, or others can read it.
pub(crate) fn operator_key(workspace: &Workspace, binary: &Path) -> Res<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let dir = workspace.operator();
    let key = dir.join(format!("{OPERATOR}.key"));
    if !key.is_file() {
        sh::make_dir(&dir)?;
        sh::output(
            octant(binary).args(["manifest", "keygen", OPERATOR, "--role", "developer", "--into"]).arg(&dir),
        )?;
    }
    let mode =
        std::fs::metadata(&key).map_err(|error| format!("{}: {error}", key.display()))?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(format!(
            "{} can be read by others (mode {:o}); chmod 600 it, or remove it for a new one",
            key.display(),
            mode & 0o777
        ));
    }
    Ok(key)
}

/// Makes an empty file system for what the system keeps. The same bytes each time.
fn make_data_disk(path: &Path) -> Res {
    let half = path.with_extension("half");
    sh::write(&half, "")?;
    let file = std::fs::OpenOptions::new().write(true).open(&half);
    let sized = file.and_then(|file| file.set_len(DATA_BYTES));
    sized.map_err(|error| format!("cannot make {}: {error}", half.display()))?;
    let mkfs = sh::which("mkfs.ext4").unwrap_or_else(|| "mkfs.ext4".into());
    let id = "0c7a4700-0000-4000-8000-00000000da7a";
    // lazy_itable_init=0: otherwise the kernel goes on writing in the background of every first boot.
    let extended = format!("hash_seed={id},lazy_itable_init=0,lazy_journal_init=0");
    sh::output(
        Command::new(mkfs)
            .args(["-q", "-F", "-L", DATA_LABEL, "-U", id, "-m", "0", "-E", &extended])
            .arg(&half)
            .env("E2FSPROGS_FAKE_TIME", "1"),
    )?;
    sh::rename(&half, path)
}

/// `cargo x image`.
pub(crate) fn main(workspace: &Workspace, mut args: Args) -> Res<ExitCode> {
    const USAGE: &str = "cargo x image [--uki | --oci | --mkosi | --disk] [--dist] [--bin FILE]\n\n\
        Builds the initrd that a virtual machine boots, its kernel and its data disk.\n\n\
        --uki       the same and its command line as one EFI program, which firmware starts and measures;\n\
        \x20           --append WORDS adds to the command line\n\
        --oci       a container image: an OCI layout with one file, and a bundle for crun\n\
        --mkosi     the same initrd, packed by mkosi from mkosi.conf\n\
        --disk      only the data disk, new and empty\n\
        --dist      with the binary that is shipped rather than the quick one\n\
        --bin FILE  with this binary";
    if args.help(USAGE) {
        return Ok(ExitCode::SUCCESS);
    }
    let (oci, mkosi, disk) = (args.flag("--oci"), args.flag("--mkosi"), args.flag("--disk"));
    let append = if args.flag("--uki") { Some(args.value("--append")?.unwrap_or_default()) } else { None };
    let source = Source::from_args(&mut args)?;
    args.finish()?;
    if disk {
        let data = workspace.image().join("data.ext4");
        make_data_disk(&data)?;
        println!("{}", data.display());
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(append) = append {
        return uki::main(workspace, &source, &append);
    }
    if oci {
        return oci::main(workspace, &source);
    }
    if mkosi {
        return mkosi::main(workspace, &source);
    }
    let mut steps = Steps::new(4);
    let image = prepare(workspace, &source, packages::IMAGE, &mut steps)?;
    println!(
        "\nkernel  {}\ninitrd  {}\ndata    {}",
        image.kernel.vmlinuz.display(),
        image.initrd.display(),
        image.data.display()
    );
    println!("done in {}; boot it with `cargo x run`", steps.finish());
    Ok(ExitCode::SUCCESS)
}

/// Which binary goes in.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    Built(Profile),
    Given(PathBuf),
}

impl Source {
    pub(crate) fn from_args(args: &mut Args) -> Res<Self> {
        let dist = args.flag("--dist");
        match args.value("--bin")? {
            Some(_) if dist => Err("--bin and --dist exclude each other".into()),
            Some(file) => Ok(Self::Given(file.into())),
            None => Ok(Self::Built(if dist { Profile::Dist } else { Profile::Release })),
        }
    }

    /// What the step that gets it is called.
    pub(crate) fn step(&self) -> String {
        match self {
            Self::Built(profile) => format!("building the binary ({})", profile.first_time()),
            Self::Given(file) => format!("taking the binary {}", file.display()),
        }
    }

    pub(crate) fn get(&self, workspace: &Workspace) -> Res<PathBuf> {
        match self {
            Self::Built(profile) => build::octant(workspace, *profile),
            Self::Given(file) => {
                std::path::absolute(file).map_err(|error| format!("{}: {error}", file.display()))
            }
        }
    }
}

/// The four steps from nothing to an image.
pub(crate) fn prepare(
    workspace: &Workspace,
    source: &Source,
    needs: &[&packages::Package],
    steps: &mut Steps,
) -> Res<Image> {
    steps.next("looking for system packages");
    packages::ensure(workspace, needs)?;
    steps.next("fetching the kernel (about 35 MB the first time)");
    let kernel = kernel::fetch(workspace)?;
    println!("      {}", kernel.release);
    steps.next(&source.step());
    let binary = source.get(workspace)?;
    steps.next("packing the image");
    make(workspace, &binary, kernel)
}
