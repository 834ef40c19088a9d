//! From a command line to a signed manifest, and from that to rights.

use crate::args::Args;
use crate::error::{RunError, at, with};
use octant_ids::Millis;
use octant_manifest::{
    Audience, Ceiling, Declared, Draft, Effective, Envelope, GrantPath, Host, Machine, Outline, Profile,
    Roles, SigningKey, TrustedKeys, limits, sign,
};
use octant_sys::{capacity, clock};
use octant_workstation::Link;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The role of a person's own key on a person's own machine: what is granted is bounded by what the person can do.
const ROLE: &str = "admin";
/// The longest life that this role can give. Who works in a shell does not want it to end after a few hours.
const TTL_MS: u64 = 720 * 3_600_000;
/// How long what was signed for one run can be used: long enough to start it.
const VALID_MS: u64 = 600_000;
/// Files, at most, that one process may have open: what this process itself may is the bound.
const NOFILE_MAX: u64 = 65_536;

/// Which kind of program a command is, where that is not said.
const BY_NAME: [(&str, Profile); 19] = [
    ("cargo", Profile::Compiler),
    ("cc", Profile::Compiler),
    ("clang", Profile::Compiler),
    ("cmake", Profile::Compiler),
    ("g++", Profile::Compiler),
    ("gcc", Profile::Compiler),
    ("git", Profile::Compiler),
    ("go", Profile::Compiler),
    ("make", Profile::Compiler),
    ("meson", Profile::Compiler),
    ("ninja", Profile::Compiler),
    ("rustc", Profile::Compiler),
    ("node", Profile::Node),
    ("npm", Profile::Node),
    ("npx", Profile::Node),
    ("pip", Profile::Python),
    ("pip3", Profile::Python),
    ("python", Profile::Python),
    ("python3", Profile::Python),
];

/// What is wished for, signed, and what of it is granted.
#[derive(Debug)]
pub(crate) struct Wish {
    /// The signed manifest, as it is kept.
    pub(crate) envelope: Vec<u8>,
    pub(crate) declared: Declared,
    pub(crate) rights: Effective,
}

impl Wish {
    /// bytes -> `Envelope` -> `Authentic` -> `Declared` -> `Effective`, with this user's key as the only trusted one.
    pub(crate) fn make(args: &Args, here: &GrantPath, key: &SigningKey) -> Result<Self, RunError> {
        let operator = operator();
        let now_ms = clock::wall_ms();
        let machine = Machine {
            memory_bytes: capacity::memory_bytes().map_err(at("ask how much memory this machine has"))?,
            cpus: capacity::cpus().map_err(at("ask how many processors this machine has"))?,
        };
        let envelope = match &args.manifest {
            Some(path) => own_manifest(path, args, here, key)?,
            None => {
                let text = expanded(args, here, machine, &operator, now_ms)?.text();
                Draft::parse(text.as_bytes())?;
                sign(text.as_bytes(), &[key])
            }
        };
        let trusted = TrustedKeys::from_files(&[("developer.pub".into(), key.public_file(&operator, ROLE))])?;
        let audience = Audience { machine: "", now_ms };
        let declared = Envelope::parse(&envelope)?.verify(&trusted, &audience)?.declare()?;
        let rights = Effective::root(&declared, &Ceiling::new(&Roles::builtin(), machine));
        let rights = rights.map_err(|all| {
            RunError::Rights(all.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
        })?;
        Ok(Self { envelope, declared, rights })
    }
}

/// The profile with every grant spelled out.
fn expanded(
    args: &Args,
    here: &GrantPath,
    machine: Machine,
    operator: &str,
    now_ms: u64,
) -> Result<Outline, RunError> {
    let [name, rest @ ..] = args.command.as_slice() else { return Err(RunError::Usage("no command".into())) };
    let program = Program::find(name, here)?;
    let profile = args.profile.unwrap_or_else(|| program.profile());
    let host = Host { machine, present: &present };
    let mut outline = Outline::of_profile(profile, &program.name(), ROLE, operator, &host);
    outline = outline.in_directory(here.as_str());
    // The host's own programs, under the names that they have there, in every profile.
    outline.utilities.clear();
    if !outline.execute.iter().any(|path| path == "/usr") {
        outline.execute.push("/usr".into());
    }
    let hard = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE);
    let (_, hard) = hard.map_err(|errno| at("ask how many files may be open")(errno.into()))?;
    outline.resources.nofile = hard.min(NOFILE_MAX);
    (outline.executable, outline.args) = (program.path, rest.to_vec());
    (outline.max_spawns, outline.not_after_ms) = (1, now_ms + VALID_MS);
    outline.ttl = Some(Millis(TTL_MS));
    Ok(outline)
}

/// A manifest of the person's own: an envelope as it is, or a text that is signed here.
fn own_manifest(path: &Path, args: &Args, here: &GrantPath, key: &SigningKey) -> Result<Vec<u8>, RunError> {
    let mut bytes = Vec::new();
    let most = limits::ENVELOPE_BYTES as u64 + 1;
    let read = File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes));
    read.map_err(with("read the manifest", path))?;
    if bytes.trim_ascii_start().starts_with(b"{") {
        return match args.command.is_empty() {
            true => Ok(bytes),
            false => {
                Err(RunError::Usage("a signed manifest names its program; leave the command out".into()))
            }
        };
    }
    let Some((name, rest)) = args.command.split_first() else {
        Draft::parse(&bytes)?;
        return Ok(sign(&bytes, &[key]));
    };
    // What is signed is what is run, so the command stands in it.
    let unreadable = |why: String| RunError::Path {
        what: "read the manifest",
        path: path.to_owned(),
        source: std::io::Error::other(why),
    };
    let text = String::from_utf8(bytes).map_err(|error| unreadable(error.to_string()))?;
    let mut table: toml::Table =
        text.parse().map_err(|error: toml::de::Error| unreadable(error.to_string()))?;
    let mut program = toml::Table::new();
    program.insert("executable".into(), Program::find(name, here)?.path.into());
    program.insert("args".into(), rest.to_vec().into());
    let cwd = table.get("program").and_then(|section| section.get("cwd")).cloned();
    program.insert("cwd".into(), cwd.unwrap_or_else(|| here.as_str().into()));
    table.insert("program".into(), program.into());
    let text = table.to_string();
    Draft::parse(text.as_bytes())?;
    Ok(sign(text.as_bytes(), &[key]))
}

/// A program that was found.
#[derive(Debug, PartialEq, Eq)]
struct Program {
    /// By a directory that no link leads to, and its own name there, which may be a link: some programs go by the name
    /// that they are called by.
    path: String,
    in_workspace: bool,
}

impl Program {
    fn find(name: &str, here: &GrantPath) -> Result<Self, RunError> {
        if name.contains('/') {
            let path = Path::new(here.as_str()).join(name);
            let found = located(&path).ok_or_else(|| RunError::NotFound(name.to_owned()))?;
            return Self::granted(&found, here).ok_or_else(|| RunError::Elsewhere {
                name: name.to_owned(),
                path: found.display().to_string(),
            });
        }
        let dirs = std::env::var_os("PATH").unwrap_or_default();
        // What the workstation has anyway comes last: a person's search path may be short.
        let usual = ["/usr/local/bin", "/usr/bin", "/usr/sbin"].map(PathBuf::from);
        let found: Vec<PathBuf> = std::env::split_paths(&dirs)
            .filter(|dir| dir.is_absolute())
            .chain(usual)
            .filter_map(|dir| located(&dir.join(name)))
            .collect();
        match (found.iter().find_map(|path| Self::granted(path, here)), found.first()) {
            (Some(program), _) => Ok(program),
            (None, Some(path)) => {
                Err(RunError::Elsewhere { name: name.to_owned(), path: path.display().to_string() })
            }
            (None, None) => Err(RunError::NotFound(name.to_owned())),
        }
    }

    fn granted(path: &Path, here: &GrantPath) -> Option<Self> {
        let in_workspace = path.starts_with(here.as_str());
        let granted = in_workspace || path.starts_with("/usr");
        granted.then(|| path.to_str().map(|path| Self { path: path.to_owned(), in_workspace })).flatten()
    }

    fn file_name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }

    /// A name that a manifest can have.
    fn name(&self) -> String {
        let letter = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
        let name: String = self.file_name().chars().map(letter).take(limits::NAME_BYTES).collect();
        if name.is_empty() { "run".into() } else { name }
    }

    fn profile(&self) -> Profile {
        // `python3.11` is Python, `gcc-12` a compiler.
        let name = self.file_name();
        let kind = |short: &str| {
            name.strip_prefix(short).is_some_and(|rest| {
                rest.is_empty()
                    || rest.starts_with(['.', '-']) && rest[1..].starts_with(|c: char| c.is_ascii_digit())
            })
        };
        let known = BY_NAME.iter().find(|(short, _)| kind(short)).map(|row| row.1);
        // What was built in the workspace runs there.
        let default = if self.in_workspace { Profile::Compiler } else { Profile::Shell };
        known.unwrap_or(default)
    }
}

/// The path by which an executable file can be granted.
fn located(path: &Path) -> Option<PathBuf> {
    let dir = path.parent()?.canonicalize().ok()?;
    let path = dir.join(path.file_name()?);
    let meta = path.metadata().ok()?;
    (meta.is_file() && meta.permissions().mode() & 0o111 != 0).then_some(path)
}

/// Whether a path can be granted: a file or directory that no symbolic link leads to, and that this user can read.
fn present(path: &str) -> bool {
    let path = Path::new(path);
    path.canonicalize().is_ok_and(|real| real == path) && File::open(path).is_ok()
}

/// The name under which this user signs.
fn operator() -> String {
    let name = std::env::var("USER").unwrap_or_default();
    let good = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let name: String = name.chars().filter(|c| good(*c)).take(limits::NAME_BYTES).collect();
    if name.is_empty() { format!("uid-{}", nix::unistd::getuid()) } else { name }
}

/// The symbolic links of the host's root and `/etc` that lead to what is granted.
pub(crate) fn links(rights: &Effective) -> Vec<Link> {
    const LINKS: [&str; 9] = [
        "/bin",
        "/sbin",
        "/lib",
        "/lib32",
        "/lib64",
        "/libx32",
        "/etc/localtime",
        "/etc/os-release",
        "/etc/mtab",
    ];
    let leads_to_granted = |at: &str| {
        let real = fs::canonicalize(at).ok()?;
        let real = GrantPath::parse(real.to_str()?).ok()?;
        let to = fs::read_link(at).ok()?.to_str()?.to_owned();
        let shadowed = rights.grants().read().iter().any(|path| path.as_str() == at);
        (!shadowed && rights.grants().read().covers(&real)).then(|| Link { at: at.to_owned(), to })
    };
    LINKS.into_iter().filter_map(leads_to_granted).collect()
}

/// What of the caller's environment says how to show things. Nothing else goes inside: variables hold secrets.
pub(crate) fn environment() -> Vec<String> {
    const SHOWN: [&str; 8] =
        ["TERM", "COLORTERM", "LANG", "LANGUAGE", "TZ", "NO_COLOR", "CLICOLOR", "FORCE_COLOR"];
    let shown = std::env::vars_os().filter_map(|(name, value)| {
        let (name, value) = (name.into_string().ok()?, value.into_string().ok()?);
        (SHOWN.contains(&name.as_str()) || name.starts_with("LC_")).then(|| format!("{name}={value}"))
    });
    // The workspace is the person's, and is not to be filled with caches and histories.
    ["HOME=/tmp".to_owned()].into_iter().chain(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(path: &str) -> Program {
        Program::granted(Path::new(path), &GrantPath::parse("/home/ada/work").unwrap()).unwrap()
    }

    #[test]
    fn the_profile_goes_by_the_command() {
        let of = |path: &str| program(path).profile();
        assert_eq!(of("/usr/bin/bash"), Profile::Shell);
        assert_eq!(of("/usr/bin/python3.11"), Profile::Python);
        assert_eq!(of("/usr/bin/gcc-12"), Profile::Compiler);
        assert_eq!(of("/usr/bin/pythonista"), Profile::Shell);
        assert_eq!(of("/usr/local/bin/node"), Profile::Node);
        assert_eq!(of("/home/ada/work/build.sh"), Profile::Compiler);
    }

    #[test]
    fn a_program_is_in_usr_or_in_the_workspace() {
        let here = GrantPath::parse("/home/ada/work").unwrap();
        assert!(Program::granted(Path::new("/opt/x"), &here).is_none());
        assert!(Program::granted(Path::new("/home/ada/worker/x"), &here).is_none());
        assert_eq!(program("/usr/bin/[").name(), "-");
    }
}
