//! The machine's configuration: which edition PID 1 runs with.
//!
//! PID 1 looks at no signature and reads no bytes of others: a process that is started before anything else, confined and
//! waited for, looks for a signed configuration where the kernel command line says, checks it, and leaves an edition of
//! it on the disk ([`take`]). What PID 1 reads is that edition's octant.toml and unit files.

use crate::args::Cmdline;
use crate::boot::load_config;
use crate::config::{Config, ConfigError};
use crate::console::Console;
use crate::spawn::{self, Launch, Session};
use crate::supervisor::Setup;
use crate::units::Units;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use octant_api::boot::Mode;
use octant_api::unit::Spec;
use octant_editions::{BASE, Choice, Editions, name};
use octant_ids::Layout;
use octant_sys::clock;
use std::collections::BTreeSet;
use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

/// How long the taker may take: a disk that has to appear, and one signature.
const TAKEN_WITHIN: Duration = Duration::from_secs(40);
/// The most of its words that are said on the console.
const WORDS_MAX: u64 = 4096;

/// Has what the kernel command line names looked for, and says what came of it. Whatever fails here, the machine boots with
/// what it has.
pub(crate) fn take(layout: &Layout, cmdline: &Cmdline, console: &mut Console) {
    let editions = Editions::of(layout);
    // What is to be checked is checked against the keys of the configuration in force.
    trust(&editions, editions.current(), layout, console);
    if let Err(error) = crate::machine::raise_clock() {
        console.say(&format!("clock: {error}"));
    }
    match run_taker(cmdline) {
        Ok((code, words)) => {
            let lines =
                words.lines().map(|line| line.chars().filter(|c| !c.is_control()).collect::<String>());
            for line in lines {
                if code == 0 { console.say(&line) } else { console.alarm(&line) }
            }
        }
        Err(error) => console.alarm(&format!("the machine's configuration cannot be looked for: {error}")),
    }
}

fn run_taker(cmdline: &Cmdline) -> io::Result<(i32, String)> {
    let mut words = File::from(memfd_create("octant-words", MFdFlags::MFD_CLOEXEC)?);
    let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
    let operator = cmdline.operator.iter().flat_map(|key| ["--operator", key]);
    let args = ["octant", "config-taker"].into_iter().chain(operator);
    let args = args
        .chain(cmdline.config.iter().map(String::as_str))
        .map(|arg| CString::new(arg).map_err(io::Error::other));
    // To mount a disk, which it gives up before it reads what came from there.
    let capabilities = spawn::capability("SYS_ADMIN").into_iter().collect();
    let pid = spawn::start(&Launch {
        path: c"/proc/self/exe".into(),
        args: args.collect::<io::Result<_>>()?,
        env: Vec::new(),
        stdio: [null.as_fd(), words.as_fd(), words.as_fd()],
        fds: Vec::new(),
        uid: 0,
        capabilities: Some(capabilities),
        session: Session::Own,
        nofile: None,
        cgroup: None,
    })?;
    let code = wait_for(Pid::from_raw(i32::try_from(pid).map_err(io::Error::other)?))?;
    let mut text = String::new();
    words.rewind()?;
    words.take(WORDS_MAX).read_to_string(&mut text)?;
    Ok((code, text))
}

/// Nothing else runs yet, so it can be waited for.
fn wait_for(pid: Pid) -> io::Result<i32> {
    let within = u64::try_from(TAKEN_WITHIN.as_nanos()).unwrap_or(u64::MAX);
    let deadline = clock::monotonic_ns().saturating_add(within);
    loop {
        match waitpid(pid, Some(WaitPidFlag::WNOHANG))? {
            WaitStatus::Exited(_, code) => return Ok(code),
            WaitStatus::Signaled(_, signal, _) => {
                return Err(io::Error::other(format!("the process that looks for it ended by {signal}")));
            }
            _ if clock::monotonic_ns() > deadline => {
                kill(pid, Signal::SIGKILL)?;
                let _reaped = waitpid(pid, None)?;
                let s = TAKEN_WITHIN.as_secs();
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("nothing came of it within {s} s"),
                ));
            }
            _ => std::thread::sleep(Duration::from_millis(2)),
        }
    }
}

/// The configuration that this boot begins with: the edition in force, or where that cannot be, the one that worked last.
pub(crate) fn begin(layout: &Layout, boot: &[Spec], console: &mut Console) -> Result<Config, ConfigError> {
    let editions = Editions::of(layout);
    loop {
        let Choice { edition, words, open: _ } = editions.begin();
        words.iter().for_each(|word| console.alarm(word));
        if !words.is_empty()
            && let Err(error) = editions.refuse(Some(&words.join("; ")))
        {
            console.alarm(&error.to_string());
        }
        let error = match load_config(layout, edition, boot) {
            Ok(config) => {
                trust(&editions, edition, layout, console);
                return Ok(config);
            }
            Err(error) if edition == BASE => return Err(error),
            Err(error) => error,
        };
        leave(&editions, edition, &error.to_string(), console);
        if editions.current() == edition {
            // The word that it does not work cannot be written. The disk may be full; the machine is to come up.
            return load_config(layout, BASE, boot);
        }
    }
}

/// Leaves an edition that does not work; gives the one that is in force now.
pub(crate) fn leave(editions: &Editions, edition: u32, why: &str, console: &mut Console) -> String {
    let text = match editions.fall_back(edition, why) {
        Ok(to) => format!("configuration {edition} does not work: {why}; {} is in force again", name(to)),
        Err(error) => format!("configuration {edition} does not work: {why}; and it cannot be left: {error}"),
    };
    console.alarm(&text);
    if let Err(error) = editions.refuse(Some(&text)) {
        console.alarm(&error.to_string());
    }
    text
}

/// Trusts whom operators have said to trust where `/etc` was in memory, and does not trust whom they have revoked.
pub(crate) fn remember(layout: &Layout, console: &mut Console) {
    match octant_editions::remember(layout) {
        Ok(words) => words.iter().for_each(|word| console.say(word)),
        Err(error) => console
            .alarm(&format!("nobody is trusted: what operators have said of that is not known: {error}")),
    }
}

/// Makes the trusted set what an edition says, and says what of it cannot be.
pub(crate) fn trust(editions: &Editions, edition: u32, layout: &Layout, console: &mut Console) {
    // Without any edition the set is the operator's alone, and nothing of it is touched.
    if edition == BASE && editions.list().is_empty() {
        return;
    }
    match editions.trust(edition, &layout.trusted()) {
        Ok(words) => words.iter().for_each(|word| console.say(word)),
        Err(error) => console.alarm(&format!("the trusted set is not what {} says: {error}", name(edition))),
    }
}

/// After PID 1 was told to read its files again: does what the new edition changes beside the units; gives the units that
/// have to be started anew.
pub(crate) fn follow(setup: &Setup, was: &Config, is: &Config, console: &mut Console) -> Vec<String> {
    let (layout, editions) = (&setup.layout, Editions::of(&setup.layout));
    if was.edition == is.edition {
        return Vec::new();
    }
    trust(&editions, is.edition, layout, console);
    if setup.mode == Mode::Machine && was.init.hostname != is.init.hostname {
        let name = is.init.hostname.as_deref().unwrap_or(crate::machine::HOSTNAME);
        if let Err(error) = nix::unistd::sethostname(name) {
            console.alarm(&format!("hostname: {error}"));
        }
    }
    let names: BTreeSet<&String> = was.services.keys().chain(is.services.keys()).collect();
    let services =
        names.into_iter().filter(|name| was.services.get(*name) != is.services.get(*name)).cloned();
    // It reads its table while there is no vault. One that is there would be sealed by a new start.
    let services = services.filter(|name| name != crate::hardware::VAULT);
    let files = |below: &str, edition: u32| -> BTreeSet<(String, Vec<u8>)> {
        let entries = fs::read_dir(editions.place(edition).join(below)).into_iter().flatten().flatten();
        entries
            .filter_map(|entry| {
                let path = entry.path();
                Some((path.file_stem()?.to_str()?.to_owned(), fs::read(&path).ok()?))
            })
            .collect()
    };
    let new = |below: &str| -> Vec<String> {
        let (had, has) = (files(below, was.edition), files(below, is.edition));
        has.difference(&had).map(|(name, _)| name.clone()).collect()
    };
    let agents = new("agents").into_iter().map(|name| starter(&name));
    services.chain(new("units")).chain(agents).collect()
}

/// The unit that starts an agent.
pub(crate) fn starter(agent: &str) -> String {
    format!("start-{agent}")
}

/// The units that start the agents which the edition names.
pub(crate) fn add_agents(layout: &Layout, config: &Config, units: &mut Units) {
    if config.edition == BASE {
        return;
    }
    let dir = Editions::of(layout).place(config.edition).join("agents");
    let entries = fs::read_dir(&dir).into_iter().flatten().flatten();
    let mut paths: Vec<_> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    let own = (*layout != Layout::system()).then(|| layout.run.parent().map(Path::to_owned)).flatten();
    for path in paths {
        let agent = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        units.add_agent(&starter(&agent), own.as_deref(), &path);
    }
}
