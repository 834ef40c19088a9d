//! What a program was seen to do. All of it is as the program said, and so what it wants and no proof of anything.

use crate::calls::{Access, fallback, named};
use crate::usage::Usage;
use libseccomp::{ScmpArch, ScmpSyscall};
use octant_sys::observe::Call;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// The longest path of the kernel's.
const PATH_MAX: usize = 4096;
/// O_WRONLY, O_RDWR, O_CREAT, O_TRUNC.
const WRITES: u64 = 0o1 | 0o2 | 0o100 | 0o1000;
const PROT_EXEC: u64 = 4;
/// AT_FDCWD, as the lower half of an argument has it.
const HERE: u32 = 0xffff_ff9c;

/// Everything of interest that was seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// System calls by name.
    pub calls: BTreeSet<String>,
    /// Files and directories that were there and were read or looked at, without links.
    pub read: BTreeSet<PathBuf>,
    /// Files that were changed, and directories in which files were made or removed.
    pub write: BTreeSet<PathBuf>,
    /// Files that were executed, or mapped to be.
    pub execute: BTreeSet<PathBuf>,
    /// Symbolic links on the way, where they lie.
    pub links: BTreeSet<PathBuf>,
    /// How much memory and how many tasks there were at once.
    pub usage: Usage,
    /// Addresses beyond the machine that were connected to.
    pub connected: BTreeSet<String>,
}

impl Seen {
    /// Looks at one call. What cannot be read any more is passed over: whoever made it has ended.
    pub(crate) fn look(&mut self, call: &Call) {
        let number = ScmpSyscall::from(call.number);
        let Ok(name) = number.get_name_by_arch(ScmpArch::X8664) else { return };
        for (dir, text, access) in named(&name) {
            if let Some(path) = path(call, *dir, *text) {
                self.file(&path, effective(call, *access));
            }
        }
        match name.as_str() {
            "mmap" if call.args[2] & PROT_EXEC != 0 => {
                if let Some(file) = descriptor(call.thread, call.args[4]) {
                    self.file(&file, Access::Execute);
                }
            }
            "connect" => self.connected.extend(address(call)),
            _ => {}
        }
        self.calls.insert(fallback(&name).map_or(name, str::to_owned));
    }

    fn file(&mut self, path: &Path, access: Access) {
        self.links.extend(links(path));
        let real = fs::canonicalize(path);
        match (access, real) {
            (Access::Write, Ok(real)) => {
                self.write.insert(real);
            }
            (Access::Write, Err(_)) | (Access::Entry, _) => {
                self.write.extend(path.parent().and_then(|parent| fs::canonicalize(parent).ok()));
            }
            (Access::Execute, Ok(real)) => {
                self.interpreter(&real);
                self.execute.insert(real);
            }
            (Access::Read | Access::Flags(_) | Access::How(_), Ok(real)) => {
                self.read.insert(real);
            }
            // What is not there outside is not there inside either.
            (Access::Execute | Access::Read | Access::Flags(_) | Access::How(_), Err(_)) => {}
        }
    }

    /// What the kernel opens by itself to execute a script.
    fn interpreter(&mut self, script: &Path) {
        let Ok(file) = File::open(script) else { return };
        let mut line = Vec::new();
        // The kernel looks at so many bytes (BINPRM_BUF_SIZE).
        if BufReader::new(file.take(256)).read_until(b'\n', &mut line).is_err() {
            return;
        }
        let line = String::from_utf8_lossy(&line);
        let Some(program) = line.strip_prefix("#!").and_then(|rest| rest.split_whitespace().next()) else {
            return;
        };
        let program = Path::new(program);
        self.links.extend(links(program));
        if let Ok(real) = fs::canonicalize(program) {
            self.execute.insert(real);
        }
    }
}

fn effective(call: &Call, access: Access) -> Access {
    let flags = match access {
        Access::Flags(at) => Some(call.args[at]),
        // The first member of struct open_how.
        Access::How(at) => memory(call.thread, call.args[at], 8)
            .and_then(|bytes| bytes.first_chunk::<8>().copied())
            .map(u64::from_ne_bytes),
        _ => return access,
    };
    // Flags that cannot be read any more are those of somebody who has ended.
    if flags.is_some_and(|flags| flags & WRITES != 0) { Access::Write } else { Access::Read }
}

/// The symbolic links on the way to a path.
fn links(path: &Path) -> Vec<PathBuf> {
    let steps: Vec<&Path> = path.ancestors().collect();
    let link = |step: &&&Path| fs::symlink_metadata(step).is_ok_and(|data| data.is_symlink());
    let at = |step: &&Path| {
        let name = step.file_name()?;
        Some(fs::canonicalize(step.parent()?).ok()?.join(name))
    };
    steps.iter().filter(link).filter_map(at).collect()
}

/// What an open descriptor of the program's is.
fn descriptor(thread: u32, number: u64) -> Option<PathBuf> {
    let number = i32::try_from(number & 0xffff_ffff).ok()?;
    fs::read_link(format!("/proc/{thread}/fd/{number}")).ok()
}

/// The path that a call names, from the root.
fn path(call: &Call, dir: Option<usize>, text: usize) -> Option<PathBuf> {
    let bytes = memory(call.thread, call.args[text], PATH_MAX)?;
    let length = bytes.iter().position(|byte| *byte == 0)?;
    let path = PathBuf::from(String::from_utf8(bytes[..length].to_vec()).ok()?);
    if path.is_absolute() {
        return Some(path);
    }
    let number = dir.map(|at| call.args[at] & 0xffff_ffff).filter(|number| *number != u64::from(HERE));
    let base = match number {
        None => fs::read_link(format!("/proc/{}/cwd", call.thread)).ok()?,
        Some(number) => descriptor(call.thread, number)?,
    };
    // An empty path is the descriptor itself, which was opened before.
    (length > 0).then(|| base.join(path))
}

/// Bytes of the program's memory: as many as there are, up to `most`.
fn memory(thread: u32, address: u64, most: usize) -> Option<Vec<u8>> {
    let file = File::open(format!("/proc/{thread}/mem")).ok()?;
    let mut bytes = Vec::new();
    // A page at a time: the text may end right before memory that is not there.
    while bytes.len() < most && !bytes.contains(&0) {
        let at = address.checked_add(bytes.len() as u64)?;
        let mut page = vec![0; 4096 - usize::try_from(at % 4096).ok()?];
        let Ok(got @ 1..) = file.read_at(&mut page, at) else { break };
        bytes.extend(&page[..got]);
    }
    (!bytes.is_empty()).then_some(bytes)
}

/// Where a call connects to, where that is beyond the machine: family 2 or 10 of struct sockaddr.
fn address(call: &Call) -> Option<String> {
    let bytes = memory(call.thread, call.args[1], 28)?;
    let family = u16::from_ne_bytes(*bytes.first_chunk::<2>()?);
    let port = u16::from_be_bytes(*bytes.get(2..)?.first_chunk::<2>()?);
    match family {
        2 => {
            let host = std::net::Ipv4Addr::from(*bytes.get(4..)?.first_chunk::<4>()?);
            Some(format!("{host}:{port}"))
        }
        10 => {
            let host = std::net::Ipv6Addr::from(*bytes.get(8..)?.first_chunk::<16>()?);
            Some(format!("[{host}]:{port}"))
        }
        _ => None,
    }
}
