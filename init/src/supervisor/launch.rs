//! Starting a unit: its environment, descriptors, sockets and directories.

use super::Supervisor;
use crate::cgroup::{BoundError, Group};
use crate::hardware;
use crate::sealed::sealed;
use crate::spawn::{self, Launch, Session};
use crate::tickets::{self, Tickets};
use crate::units::{CONSOLE, Command, Stdio};
use nix::unistd::{Gid, Uid, chown};
use octant_api::boot::{BootConfig, Mode};
use octant_api::journal::Kind;
use octant_api::unit::{COPIES, ROUTER_HTTP};
use octant_sys::confine::landlock_abi;
use octant_sys::{audit, clock};
use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::time::Duration;

/// The most descriptors that a unit may leave with PID 1: half of what it may have open, and four for each of 2,000
/// agents.
pub(super) const STORED_MAX: usize = 8192;
/// The most bytes of names in one environment variable; the kernel takes 128 KiB (MAX_ARG_STRLEN).
const NAMES_MAX: usize = 100 << 10;

/// The one that is told what the kernel reports.
const AGENTS: &str = "agents";
/// The one that writes what units print.
const LOG: &str = "log";

/// Why the kernel reports nothing of what Landlock denies, where it does not.
fn landlock_unreported() -> Option<String> {
    let abi = landlock_abi();
    if abi < audit::LANDLOCK_ABI {
        return Some(format!(
            "this kernel's Landlock (ABI {abi}) makes no records; those from Linux 6.15 on do"
        ));
    }
    match audit::is_on() {
        Ok(true) => None,
        Ok(false) => {
            let why = "audit is off, and Landlock then makes no records. It is the whole machine's, and so for who owns that: \
                       auditctl -a task,never && auditctl -e 1, which costs no system call anything";
            Some(why.to_owned())
        }
        Err(error) => Some(format!(
            "whether audit is on, without which Landlock makes no records, cannot be told here: {error}"
        )),
    }
}

/// What kept a unit from being started.
#[derive(Debug, thiserror::Error)]
#[error("cannot be started: {step}: {source}")]
pub(super) struct LaunchError {
    step: &'static str,
    source: io::Error,
}

fn at(step: &'static str) -> impl FnOnce(io::Error) -> LaunchError {
    move |source| LaunchError { step, source }
}

impl Supervisor {
    /// Starts the unit's process and returns its id.
    pub(super) fn launch(&mut self, unit: usize) -> Result<u32, LaunchError> {
        if Tickets::concern(&self.graph.def(unit).name) && !self.tickets.are_made() {
            // They could not be made at boot, which was said then. Without them the unit starts all the same.
            self.tickets = Tickets::make(Duration::ZERO).unwrap_or_default();
        }
        let cgroup = self.group(unit)?;
        let tpm = self.tpm_fd(unit);
        let audit = self.audit_fd(unit);
        let what = &self.units[unit];
        let runtime = &self.runtime[unit];
        let name = self.graph.def(unit).name.as_str();
        let config =
            if what.built_in { Some(self.config_fd(name).map_err(at("its configuration"))?) } else { None };
        if what.built_in && what.socket.is_some() {
            self.make_state_dir(name, what.uid).map_err(at("its state directory"))?;
        }
        let mut fds: Vec<(String, BorrowedFd<'_>)> = Vec::new();
        fds.extend(runtime.socket.as_ref().map(|fd| ("socket".into(), fd.as_fd())));
        fds.extend(runtime.http.as_ref().map(|fd| (ROUTER_HTTP.into(), fd.as_fd())));
        fds.extend(config.as_ref().map(|fd| ("config".into(), fd.as_fd())));
        let keys = self.tickets.of(name).map_err(at("its keys"))?.filter(|_| what.built_in);
        fds.extend(keys.map(|fd| (tickets::DESCRIPTOR.into(), fd)));
        fds.extend(tpm.as_ref().map(|fd| (hardware::TPM.into(), fd.as_fd())));
        match name {
            "ledger" => fds.push(("journal".into(), self.journal.channel.ends().1)),
            LOG => fds.push(("lines".into(), self.lines.ends().1)),
            AGENTS => {
                fds.push(("exits".into(), self.exits.ends().1));
                fds.extend(audit.as_ref().map(|fd| ("audit".into(), fd.as_fd())));
            }
            _ => {}
        }
        fds.extend(runtime.stored.iter().map(|(name, fd)| (format!("stored.{name}"), fd.as_fd())));

        let null = OpenOptions::new().read(true).write(true).open("/dev/null").map_err(at("/dev/null"))?;
        let console = self.console_fd(what.stdio, name);
        let [printed, complained] = runtime.output.pipes.each_ref().map(|pipe| pipe.ends().1);
        let (own_in, own_out, own_err) = (io::stdin(), io::stdout(), io::stderr());
        let (stdio, session) = match (what.stdio, &console) {
            (Stdio::Log, _) => ([null.as_fd(), printed, complained], Session::Own),
            (Stdio::Operator, Some(fd)) => ([fd.as_fd(); 3], Session::Terminal),
            (Stdio::Operator, None) => {
                ([own_in.as_fd(), own_out.as_fd(), own_err.as_fd()], Session::Foreground)
            }
        };
        let capabilities = what
            .capabilities
            .as_ref()
            .map(|names| names.iter().filter_map(|n| spawn::capability(n)).collect());
        let (path, args) = command(&what.command).map_err(at("its command"))?;
        let names: Vec<&str> = fds.iter().map(|(name, _)| name.as_str()).collect();
        let launch = Launch {
            path,
            args,
            env: self.environment(unit, &names).map_err(at("its environment"))?,
            stdio,
            fds: fds.iter().map(|(_, fd)| *fd).collect(),
            uid: what.uid,
            capabilities,
            session,
            nofile: what.resources.nofile,
            cgroup: cgroup.as_ref(),
        };
        spawn::start(&launch).map_err(at("a new process"))
    }

    /// The unit's group, with its bounds. Without one of them an operator's unit does not start, unless that was accepted;
    /// Octant's own do, since what is missing is said of the machine as a whole.
    fn group(&mut self, unit: usize) -> Result<Option<Group>, LaunchError> {
        let name = &self.graph.def(unit).name;
        let group = self.cgroups.open_unit(name).map_err(at("its cgroup"))?;
        let what = &self.units[unit];
        match self.cgroups.bound(name, &what.resources) {
            Err(BoundError::Missing { .. }) if what.built_in => {}
            Err(error @ BoundError::Missing { .. })
                if self.setup.accept_missing.iter().any(|l| l == "cgroup") =>
            {
                let text = format!("starts without {error}");
                self.console.alarm(&format!("{name}: {text}"));
                self.journal.record(Kind::Unit, name, &text, clock::monotonic_ns());
            }
            other => other.map_err(io::Error::other).map_err(at("its resources"))?,
        }
        Ok(group)
    }

    fn environment(&self, unit: usize, fd_names: &[&str]) -> io::Result<Vec<CString>> {
        let def = self.graph.def(unit);
        let layout = &self.setup.layout;
        let mut env = vec![format!("OCTANT_UNIT={}", def.name)];
        if self.units[unit].stdio == Stdio::Operator {
            env.extend(self.operator_environment());
        } else {
            env.push("PATH=/bin".into());
            env.push(format!("NOTIFY_SOCKET={}", layout.run.join("notify.sock").display()));
            env.push(format!("LISTEN_FDS={}", fd_names.len()));
            env.extend(names_of(fd_names));
            if self.units[unit].built_in {
                env.push(COPIES.into());
            }
            if def.watchdog_ns > 0 {
                env.push(format!("WATCHDOG_USEC={}", def.watchdog_ns / 1000));
            }
        }
        env.into_iter().map(|entry| CString::new(entry).map_err(io::Error::other)).collect()
    }

    /// The job and the console's shell see what their operator would: on a developer's machine the own environment,
    /// with the place of this Octant in it and its program at the end of the search path.
    fn operator_environment(&self) -> Vec<String> {
        let mut env = Vec::new();
        if self.setup.mode == Mode::Namespace {
            let skip = |name: &str| matches!(name, "OCTANT_UNIT" | "OCTANT_DIR" | "PATH");
            let path = std::env::var("PATH").unwrap_or_else(|_| "/usr/bin:/bin".into());
            env.push(format!("PATH={path}:{}", self.setup.layout.programs().display()));
            env.extend(
                std::env::vars()
                    .filter(|(name, _)| !skip(name))
                    .map(|(name, value)| format!("{name}={value}")),
            );
        } else {
            env.extend(["PATH=/bin", "HOME=/root", "TERM=linux"].map(String::from));
        }
        if self.setup.layout != octant_ids::Layout::system()
            && let Some(dir) = self.setup.layout.run.parent()
        {
            env.push(format!("OCTANT_DIR={}", dir.display()));
        }
        env
    }

    /// The `config` descriptor: sealed, so that PID 1 and the service mean the same bytes.
    fn config_fd(&self, name: &str) -> io::Result<OwnedFd> {
        let none = || serde_json::Value::Object(serde_json::Map::new());
        let config = BootConfig {
            layout: self.setup.layout.clone(),
            boot_id: self.setup.boot_id.clone(),
            mode: self.setup.mode,
            operator: self.setup.operator,
            accept_missing: self.setup.accept_missing.clone(),
            agents_cgroup: self.cgroups.agents(),
            hardware: if name == hardware::VAULT {
                hardware::facts(self.setup.mode)
            } else {
                BTreeMap::new()
            },
            sole_caller: None,
            landlock_unreported: (name == AGENTS).then(landlock_unreported).flatten(),
            service: self.config.services.get(name).cloned().unwrap_or_else(none),
        };
        let bytes = config.to_json().map_err(io::Error::other)?;
        sealed("config", &bytes)
    }

    /// The TPM, opened anew for each process of the vault: what an earlier one left in it is gone then. A TPM that is
    /// there and cannot be opened is said, and the vault starts without: it has other ways to its key.
    fn tpm_fd(&mut self, unit: usize) -> Option<OwnedFd> {
        if self.graph.def(unit).name != hardware::VAULT || !self.units[unit].built_in {
            return None;
        }
        hardware::tpm(self.setup.mode).unwrap_or_else(|error| {
            self.console.alarm(&format!("the TPM cannot be opened: {error}"));
            None
        })
    }

    /// The kernel's reports of denied system calls, for `agents`, which has no right to ask for them itself. Without them
    /// it says so wherever it would show one.
    fn audit_fd(&self, unit: usize) -> Option<OwnedFd> {
        if self.graph.def(unit).name != AGENTS || !self.units[unit].built_in {
            return None;
        }
        audit::listen().ok()
    }

    fn make_state_dir(&self, name: &str, uid: u32) -> io::Result<()> {
        let dir = self.setup.layout.state_of(name);
        match std::fs::create_dir(&dir) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            other => other?,
        }
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o700))?;
        Ok(chown(&dir, Some(Uid::from_raw(uid)), Some(Gid::from_raw(uid)))?)
    }

    /// The machine's console for an operator's unit; elsewhere PID 1's own standard descriptors are the operator's.
    fn console_fd(&self, stdio: Stdio, name: &str) -> Option<File> {
        if stdio != Stdio::Operator || (self.setup.mode != Mode::Machine && name != CONSOLE) {
            return None;
        }
        OpenOptions::new().read(true).write(true).custom_flags(nix::libc::O_NOCTTY).open("/dev/console").ok()
    }
}

/// The names of the descriptors. What does not fit into the variable that everybody knows goes on in `LISTEN_FDNAMES_2`
/// and so on, which only Octant's own services read, and only they leave so many.
fn names_of(names: &[&str]) -> Vec<String> {
    let mut parts: Vec<String> = vec![String::new()];
    for name in names {
        match parts.last_mut() {
            Some(part) if part.is_empty() => part.push_str(name),
            Some(part) if part.len() + name.len() < NAMES_MAX => part.extend([":", *name]),
            _ => parts.push((*name).to_owned()),
        }
    }
    let variable = |(number, part): (usize, String)| match number {
        1 => format!("LISTEN_FDNAMES={part}"),
        number => format!("LISTEN_FDNAMES_{number}={part}"),
    };
    (1..).zip(parts).map(variable).collect()
}

fn command(command: &Command) -> io::Result<(CString, Vec<CString>)> {
    let text = |text: &str| CString::new(text).map_err(io::Error::other);
    let (path, first, rest) = match command {
        Command::Own(args) => ("/proc/self/exe", "octant", &args[..]),
        Command::Path(args) => match args.split_first() {
            Some((path, rest)) => (path.as_str(), path.as_str(), rest),
            None => return Err(io::Error::new(io::ErrorKind::InvalidInput, "it has no command")),
        },
    };
    let args = std::iter::once(first).chain(rest.iter().map(String::as_str)).map(text);
    Ok((text(path)?, args.collect::<io::Result<_>>()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_fit_are_in_the_variable_that_everybody_knows() {
        assert_eq!(names_of(&[]), ["LISTEN_FDNAMES="]);
        assert_eq!(names_of(&["a", "b"]), ["LISTEN_FDNAMES=a:b"]);
    }

    #[test]
    fn as_many_names_as_there_can_be_fit_and_none_is_lost() {
        let name = format!("stored.agent-{}.sock", "x".repeat(26));
        let names = vec![name.as_str(); STORED_MAX];
        let variables = names_of(&names);
        assert!(variables.len() > 1 && variables.iter().all(|variable| variable.len() < 128 << 10));
        let values = variables.iter().map(|variable| variable.split_once('=').unwrap());
        let (keys, values): (Vec<_>, Vec<_>) = values.unzip();
        assert_eq!(keys[..3], ["LISTEN_FDNAMES", "LISTEN_FDNAMES_2", "LISTEN_FDNAMES_3"]);
        assert_eq!(values.join(":"), names.join(":"));
    }
}
