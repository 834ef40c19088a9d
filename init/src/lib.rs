//! PID 1.
//!
//! Owns: early boot, the service graph, supervision, reaping, shutdown, and its own replacement.
//! Promises: it never ends before everything that it started has ended; it never waits for one process; a panic
//! becomes a replacement of itself with every child kept, and too many become an Emergency that says why.
//! Never: runs an async runtime, speaks a network protocol, parses bytes of others beyond its own configuration,
//! notify datagrams and fixed operator frames.
#![forbid(unsafe_code)]

pub mod args;
mod boot;
mod cgroup;
mod channel;
pub mod config;
mod console;
mod edition;
mod fuzz;
pub mod graph;
mod hardware;
mod machine;
mod mounts;
mod notify;
mod operator;
mod output;
pub mod resources;
mod sealed;
mod shutdown;
mod sockets;
mod spawn;
mod supervisor;
mod tickets;
mod units;
mod up;

pub use fuzz::fuzz_unit;
pub use up::up;

use args::InitArgs;
use boot::BootError;
use config::OnEmergency;
use console::Console;
use octant_api::boot::Mode;
use octant_api::unit::Spec;
use octant_ids::{Exit, Layout};
use std::ffi::OsString;
use std::process::ExitCode;
use supervisor::{Ending, How};

/// PID 1's life. `args` is what follows `octant init`, or what the kernel passed to its first program; on a machine it
/// returns only when the kernel refuses to end, in a namespace or container with the exit code.
#[must_use]
pub fn main(args: &[OsString], boot: &'static [Spec]) -> ExitCode {
    if std::process::id() != 1 {
        return refuse(
            "`octant init` is PID 1 and nothing else; on a running system use `octant up`",
            Exit::Usage,
        );
    }
    let started_ns = octant_sys::clock::monotonic_ns();
    let mode_found = boot::find_mode();
    let parsed = match InitArgs::parse(args) {
        Ok(parsed) => parsed,
        // The kernel hands on every word of its command line that it does not know itself.
        Err(_) if mode_found == Mode::Machine => InitArgs::default(),
        Err(error) => return refuse(&error.to_string(), Exit::Usage),
    };
    // Before anything else is opened: every descriptor that the state does not name is closed.
    let resumed = parsed.resume.map(|state| supervisor::take_saved(state, parsed.attempt));
    let mode = match &resumed {
        None => parsed.mode.unwrap_or(mode_found),
        Some(Ok(resumed)) => resumed.setup().mode,
        Some(Err(_)) => lost_mode(),
    };
    on_panic(mode == Mode::Machine);
    let booted = match resumed {
        Some(Err(error)) => Err(error.into()),
        Some(Ok(resumed)) => boot::resume(resumed, boot, Console::open(mode)),
        None => prepare_process(mode)
            .map_err(BootError::from)
            .and_then(|()| boot::fresh(&parsed, mode, boot, started_ns, Console::open(mode))),
    };
    match booted {
        Ok(mut supervisor) => {
            let ending = supervisor.run().unwrap_or_else(|error| Ending {
                how: How::Exit,
                code: i32::from(Exit::Internal.code()),
                emergency: Some(format!("the event loop: {error}")),
            });
            supervisor.finish(&ending)
        }
        Err(error) => cannot_boot(&error, mode, &parsed, boot),
    }
}

/// Whether a unit of this name is Octant's own, so that no file may take it.
#[must_use]
pub fn is_own_unit(name: &str, boot: &[Spec]) -> bool {
    units::RESERVED.contains(&name) || boot.iter().any(|spec| spec.name == name)
}

/// What PID 1 would make of the configuration below `etc`: what there is, or everything that is wrong, a line a thing.
///
/// # Errors
/// The lines of what is wrong.
pub fn check_config(layout: &Layout, boot: &[Spec]) -> Result<Vec<String>, Vec<String>> {
    let one = |error: String| vec![error];
    let edition = octant_editions::Editions::of(layout).current();
    let config = boot::load_config(layout, edition, boot).map_err(|error| one(error.to_string()))?;
    let files = config::load_units(layout, &config).map_err(|error| one(error.to_string()))?;
    let mut units = units::Units::built_in(boot).map_err(one)?;
    units.add_found(files);
    let broken: Vec<String> = units.defs.iter().filter_map(|def| def.broken.clone()).collect();
    if !broken.is_empty() {
        return Err(broken);
    }
    let named = units.defs.iter().map(|def| format!("unit {}", def.name));
    let files = std::iter::once(layout.etc.join("octant.toml").display().to_string());
    let over = (edition != octant_editions::BASE).then(|| octant_editions::name(edition));
    Ok(files.chain(over).chain(named).collect())
}

fn prepare_process(mode: Mode) -> Result<(), mounts::MountError> {
    machine::close_strays();
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    // Neither can fail for PID 1 in a way that matters: / exists, and being a session leader already is as good.
    let _already_there = nix::unistd::chdir("/");
    if mode == Mode::Machine {
        let mounted = boot::first_mounts();
        standard_descriptors();
        return mounted;
    }
    Ok(())
}

/// 0 is /dev/null and 1, 2 the console, so that nothing PID 1 does can be fed or blocked through them.
fn standard_descriptors() {
    use std::os::unix::fs::OpenOptionsExt;
    let flags = nix::libc::O_NOCTTY | nix::libc::O_NONBLOCK;
    let console = std::fs::OpenOptions::new().append(true).custom_flags(flags).open("/dev/console");
    // Without a console the kernel's own three stay.
    if let Ok(console) = console {
        let _stays = nix::unistd::dup2_stdout(&console);
        let _stays = nix::unistd::dup2_stderr(&console);
    }
    if let Ok(null) = std::fs::File::open("/dev/null") {
        let _stays = nix::unistd::dup2_stdin(&null);
    }
    let _may_lead_already = nix::unistd::setsid();
}

/// Where a replacement runs that cannot read the state which would say it: what is mounted tells.
fn lost_mode() -> Mode {
    if std::path::Path::new("/sys/fs/cgroup/init/cgroup.procs").exists() {
        Mode::Machine
    } else {
        Mode::Namespace
    }
}

/// Supervision never began, or could not be taken up again: the Emergency without a graph.
fn cannot_boot(error: &BootError, mode: Mode, args: &InitArgs, boot: &[Spec]) -> ExitCode {
    let mut console = Console::open(mode);
    console.emergency(&error.to_string());
    let exit = match error {
        BootError::Config(_) => Exit::Invalid,
        BootError::Mount(_) | BootError::Cgroup { .. } => Exit::LayerMissing,
        BootError::Faults(_) | BootError::Resume(_) | BootError::Build(_) => Exit::Internal,
        BootError::Setup(_) | BootError::Data { .. } => Exit::Failed,
    };
    if mode == Mode::Machine {
        let layout = args.dir.as_deref().map_or_else(Layout::system, Layout::under);
        let policy = boot::load_config(&layout, octant_editions::BASE, boot)
            .map_or(OnEmergency::default(), |config| config.init.emergency);
        let emergency = Some(error.to_string());
        let ending = Ending { how: How::Poweroff, code: i32::from(exit.code()), emergency };
        return shutdown::end_machine(&ending, policy, &layout.state, &mut console).into();
    }
    shutdown::end_all_processes(&mut console);
    exit.into()
}

fn refuse(why: &str, exit: Exit) -> ExitCode {
    Console::open(Mode::Namespace).say(why);
    exit.into()
}

/// A panic is said where it can be found and then handled like every other fault: the abort that follows it executes
/// the successor (see `supervisor/resume.rs`). Before there is a state to succeed to, a machine is powered off: the
/// end of its PID 1 would be a kernel panic.
fn on_panic(machine: bool) {
    std::panic::set_hook(Box::new(move |info| {
        let text = format!("PID 1 fault: {info}");
        console::kmsg(console::CRITICAL, &text);
        Console::open(Mode::Namespace).say(&text);
        if machine && !octant_sys::fault::is_armed() {
            let Err(_kernel_panic_follows) =
                nix::sys::reboot::reboot(nix::sys::reboot::RebootMode::RB_POWER_OFF);
        }
    }));
}
