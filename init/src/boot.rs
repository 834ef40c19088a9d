//! From the first instruction to the event loop: the phases, each with its time.

use crate::args::{Cmdline, InitArgs};
use crate::cgroup::Cgroups;
use crate::config::{self, Config, ConfigError};
use crate::console::Console;
use crate::edition;
use crate::machine;
use crate::mounts::{self, MountError};
use crate::supervisor::{ResumeError, Resumed, Setup, SetupError, Supervisor};
use crate::tickets::Tickets;
use crate::units::Units;
use nix::unistd::{Gid, Uid, chown};
use octant_api::boot::Mode;
use octant_api::journal::Record;
use octant_api::unit::Spec;
use octant_editions::Editions;
use octant_ids::Layout;
use octant_sys::clock;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long the data disk may take to appear: a slow controller needs seconds, a wrong name should not take minutes.
const DATA_WITHIN: Duration = Duration::from_secs(15);

/// How long the kernel's generator may take to be seeded: no time at all where the processor or the hypervisor helps, a
/// few seconds of interrupts elsewhere. Beyond that the rest of the machine is worth more than agents.
const SEEDED_WITHIN: Duration = Duration::from_secs(10);

/// Why PID 1 cannot begin to supervise.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BootError {
    /// A mount that everything needs.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// octant.toml is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A step of the set-up.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// The state of the PID 1 before this one.
    #[error(transparent)]
    Resume(#[from] ResumeError),
    /// PID 1 faults again and again.
    #[error("PID 1 faulted {0} times within a minute")]
    Faults(usize),
    /// The data disk.
    #[error("data disk {device}: {source}; check octant.data= on the kernel command line")]
    Data {
        /// The device.
        device: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The cgroup tree of a machine.
    #[error("cgroup {path}: {source}")]
    Cgroup {
        /// The path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// This build's own list of services.
    #[error("{0}; this is a mistake in this build")]
    Build(String),
}

/// The phases so far: what has been done, and when, CLOCK_MONOTONIC nanoseconds.
#[derive(Debug)]
pub(crate) struct Phases {
    started: u64,
    done: Vec<(&'static str, u64)>,
}

impl Phases {
    fn done(&mut self, name: &'static str) {
        self.done.push((name, clock::monotonic_ns()));
    }
}

fn at(step: String) -> impl FnOnce(io::Error) -> SetupError {
    move |source| SetupError { step, source }
}

/// Where it runs, when the command line does not say: a machine's kernel starts PID 1 with nothing mounted.
#[must_use]
pub(crate) fn find_mode() -> Mode {
    if Path::new("/proc/self").exists() { Mode::Container } else { Mode::Machine }
}

/// Everything up to the event loop, for the successor of another PID 1.
pub(crate) fn resume(
    mut resumed: Resumed,
    boot: &[Spec],
    mut console: Console,
) -> Result<Supervisor, BootError> {
    if let Some(count) = resumed.too_many_faults {
        return Err(BootError::Faults(count));
    }
    resumed.knows(known(boot));
    let (setup, mut config) = (resumed.setup(), resumed.config().clone());
    let mut changed = Vec::new();
    // After a fault nothing but the fault may change. A replacement that was asked for brings the files' new content,
    // unless that is wrong: what runs is worth more than what was written.
    if resumed.asked() {
        match load_config(&setup.layout, Editions::of(&setup.layout).current(), boot) {
            Ok(new) => {
                changed =
                    edition::follow(setup, &std::mem::replace(&mut config, new.clone()), &new, &mut console)
            }
            Err(error) => console.alarm(&format!("{error}; the configuration stays as it was")),
        }
    }
    let units = list_units(setup, &config, boot)?;
    prepare_network(setup, &units)?;
    let text = on_record(&config, &units, setup);
    let mut supervisor = Supervisor::resume(resumed, config, units, console)?;
    supervisor.record_config(&text);
    supervisor.begin_again(&changed);
    Ok(supervisor)
}

/// Everything up to the event loop, at boot. PID 1 began at `started_ns`; a machine's first mounts are done.
pub(crate) fn fresh(
    args: &InitArgs,
    mode: Mode,
    boot: &[Spec],
    started_ns: u64,
    mut console: Console,
) -> Result<Supervisor, BootError> {
    let mut phases = Phases { started: started_ns, done: Vec::new() };
    let layout = args.dir.as_deref().map_or_else(Layout::system, Layout::under);
    for trouble in machine::own_limits() {
        console.say(&format!("limits: {trouble}"));
    }
    let cmdline = prepare_place(mode, &layout, &mut phases, &mut console)?;
    prepare_layout(&layout)?;
    edition::remember(&layout, &mut console);
    if !cmdline.config.is_empty() {
        edition::take(&layout, &cmdline, &mut console);
        phases.done("configuration");
    }
    let config = edition::begin(&layout, boot, &mut console)?;
    if mode == Mode::Machine {
        for trouble in machine::settle(&config.init) {
            console.say(&format!("setting: {trouble}"));
        }
        phases.done("settings");
    }
    let setup = Setup {
        mode,
        boot_id: machine::random_id().map_err(at("the boot's id".into()))?,
        operator: args.operator,
        accept_missing: [&args.accept_missing[..], &cmdline.accept_missing[..]].concat(),
        job: args.job.clone().or(cmdline.job),
        console: cmdline.console.unwrap_or(config.init.console),
        exe: fs::read_link("/proc/self/exe").map_err(at("/proc/self/exe".into()))?,
        started_ns,
        known: known(boot),
        layout,
    };
    if mode == Mode::Namespace {
        link_own_name(&setup).map_err(at("a link to this program".into()))?;
    }
    let cgroups = make_cgroups(&setup, &mut console)?;
    if !setup.accept_missing.is_empty() {
        console.alarm(&format!("ISOLATION MAY BE MISSING: {}", setup.accept_missing.join(" ")));
    }
    phases.done("cgroups");
    let units = list_units(&setup, &config, boot)?;
    prepare_network(&setup, &units)?;
    for def in units.defs.iter().filter(|def| def.broken.is_some()) {
        console.alarm(&format!("unit {}: {}", def.name, def.broken.as_deref().unwrap_or_default()));
    }
    let tickets = make_keys(&mut console);
    phases.done("keys");
    let text = on_record(&config, &units, &setup);
    let mut supervisor = Supervisor::new(setup, config, units, cgroups, tickets, console)?;
    phases.done("sockets");
    supervisor.record_phases(phases.started, &phases.done);
    supervisor.record_config(&text);
    Ok(supervisor)
}

/// Makes the kernel's file systems ready, as far as that is for this process to do; gives what the kernel command line
/// says, which is only heeded on a machine.
fn prepare_place(
    mode: Mode,
    layout: &Layout,
    phases: &mut Phases,
    console: &mut Console,
) -> Result<Cmdline, BootError> {
    match mode {
        Mode::Machine => {
            let cmdline = Cmdline::parse(&fs::read_to_string("/proc/cmdline").unwrap_or_default());
            for word in &cmdline.unknown {
                console.alarm(&format!("kernel command line: {word:?} is not understood and not obeyed"));
            }
            phases.done("mounts");
            prepare_machine(layout, &cmdline, phases, console)?;
            return Ok(cmdline);
        }
        Mode::Namespace => {
            mounts::make_private()?;
            for row in mounts::rows(mode) {
                mounts::mount_row(row, mode)?;
            }
            phases.done("mounts");
        }
        Mode::Container => {}
    }
    Ok(Cmdline::default())
}

fn on_record(config: &Config, units: &Units, setup: &Setup) -> String {
    let editions = Editions::of(&setup.layout);
    let trouble = editions.refused().map(|why| format!("; {why}")).unwrap_or_default();
    let edition = match editions.info(config.edition) {
        Some(info) => Some(format!("; {}: {}{trouble}", octant_editions::name(config.edition), info.words())),
        None => Some(trouble).filter(|trouble| !trouble.is_empty()),
    };
    config::on_record(config, &units.digests, &setup.accept_missing, edition.as_deref(), Record::TEXT_MAX)
}

/// The keys of tickets. Without them everything runs and no agent can be started, which is better than a machine that
/// does not boot and far better than keys that somebody could guess.
fn make_keys(console: &mut Console) -> Tickets {
    Tickets::make(SEEDED_WITHIN).unwrap_or_else(|error| {
        console.alarm(&format!(
            "no keys for tickets can be made: {error}; no agent can be started until `octant restart ledger` and \
             `octant restart spawner` find the random number generator seeded"
        ));
        Tickets::default()
    })
}

/// On a developer's machine no directory of the search path has `octant` in it, and the job's scripts call it.
fn link_own_name(setup: &Setup) -> io::Result<()> {
    let dir = setup.layout.programs();
    fs::create_dir_all(&dir)?;
    let link = dir.join("octant");
    match fs::remove_file(&link) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    std::os::unix::fs::symlink(&setup.exe, link)
}

fn known(boot: &[Spec]) -> Vec<String> {
    boot.iter().map(|spec| spec.name.to_owned()).collect()
}

pub(crate) fn load_config(layout: &Layout, edition: u32, boot: &[Spec]) -> Result<Config, ConfigError> {
    let names: Vec<&str> = boot.iter().map(|spec| spec.name).collect();
    config::load(layout, edition, &names)
}

fn list_units(setup: &Setup, config: &Config, boot: &[Spec]) -> Result<Units, BootError> {
    // A container's and a namespace's network is somebody else's.
    let asked_for = |spec: &&Spec| setup.mode == Mode::Machine && config.services.contains_key(spec.name);
    let boot: Vec<Spec> = boot.iter().filter(|spec| !spec.optional || asked_for(spec)).copied().collect();
    let mut units = Units::built_in(&boot).map_err(BootError::Build)?;
    units.bound(&config.init.resources);
    match config::load_units(&setup.layout, config) {
        Ok(files) => units.add_found(files),
        // Shown as a failed unit: the built-in ones must come up without the operator's.
        Err(error) => units.add_files(vec![("units".into(), Err(error.to_string()))]),
    }
    edition::add_agents(&setup.layout, config, &mut units);
    if let Some(job) = &setup.job {
        units.add_job(job);
    }
    if setup.mode == Mode::Machine {
        units.add_console(setup.console);
    }
    Ok(units)
}

/// The directory of resolv.conf: there before the gate starts, which reads it and can be shown only what exists. The file's
/// usual place becomes a link to it, unless there is one already or the root cannot be written to.
fn prepare_network(setup: &Setup, units: &Units) -> Result<(), SetupError> {
    let Some(unit) = units.find(NETWORK) else { return Ok(()) };
    let (dir, owner) = (setup.layout.run.join(NETWORK), units.units[unit].uid);
    let made = fs::create_dir_all(&dir)
        .and_then(|()| fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)))
        .and_then(|()| Ok(chown(&dir, Some(Uid::from_raw(owner)), Some(Gid::from_raw(owner)))?));
    made.map_err(at(dir.display().to_string()))?;
    match std::os::unix::fs::symlink(dir.join("resolv.conf"), RESOLV_CONF) {
        Err(error)
            if !matches!(error.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::ReadOnlyFilesystem) =>
        {
            Err(at(RESOLV_CONF.into())(error))
        }
        _ => Ok(()),
    }
}

fn make_cgroups(setup: &Setup, console: &mut Console) -> Result<Cgroups, BootError> {
    let cgroups = match setup.mode {
        Mode::Machine => {
            Cgroups::of_machine().map_err(|(path, source)| BootError::Cgroup { path, source })?
        }
        Mode::Container | Mode::Namespace => Cgroups::of_guest(&setup.boot_id[..8]),
    };
    for missing in &cgroups.missing {
        console.alarm(&format!("missing: {missing}"));
    }
    Ok(cgroups)
}

/// What only a machine needs, from an empty root to a data disk.
fn prepare_machine(
    layout: &Layout,
    cmdline: &Cmdline,
    phases: &mut Phases,
    console: &mut Console,
) -> Result<(), BootError> {
    for trouble in octant_sys::modules::load_listed(Path::new("/etc/octant/modules")) {
        console.alarm(&trouble.to_string());
    }
    phases.done("modules");
    let data = fs::create_dir_all(&layout.state).map_err(at(layout.state.display().to_string()));
    data?;
    if let Some(device) = &cmdline.data {
        machine::wait_for_device(device, DATA_WITHIN)
            .map_err(|source| BootError::Data { device: device.clone(), source })?;
        mounts::mount_data(device, &layout.state)?;
        phases.done("data");
    }
    let mut note = |what: &str, result: io::Result<()>| {
        if let Err(error) = result {
            console.alarm(&format!("{what}: {error}"));
        }
    };
    note("random seed", machine::load_seed(&layout.state).map(drop));
    note("machine id", machine::machine_id(&layout.state).map(drop));
    phases.done("identity");
    Ok(())
}

/// The mounts that come before anything can be said or read; on a machine only.
pub(crate) fn first_mounts() -> Result<(), MountError> {
    let is_initial_root = nix::sys::statfs::statfs("/").is_ok_and(|fs| {
        let kind = fs.filesystem_type();
        kind == nix::sys::statfs::TMPFS_MAGIC || kind.0 == RAMFS_MAGIC
    });
    if is_initial_root {
        mounts::make_root_pivotable()?;
    } else {
        mounts::make_private()?;
    }
    for row in mounts::rows(Mode::Machine) {
        mounts::mount_row(row, Mode::Machine)?;
    }
    Ok(())
}

/// The unit that manages the machine's network, and where everybody looks for name servers.
const NETWORK: &str = "network";
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// linux/magic.h; the type of an initramfs when tmpfs is not built in.
const RAMFS_MAGIC: i64 = 0x8584_58f6;

/// The directories, with the owners and modes that they must have.
fn prepare_layout(layout: &Layout) -> Result<(), SetupError> {
    // With the trusted set from the start: a service can see later only what is below a place that it was shown.
    match fs::create_dir_all(layout.trusted()) {
        // A read-only image without /etc/octant simply has no configuration.
        Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {}
        other => other.map_err(at(layout.trusted().display().to_string()))?,
    }
    let log = octant_ids::uid::of_service("log").unwrap_or(0);
    for (dir, mode, owner) in [(&layout.state, 0o755, 0), (&layout.run, 0o755, 0), (&layout.log, 0o750, log)]
    {
        fs::create_dir_all(dir).map_err(at(dir.display().to_string()))?;
        fs::set_permissions(dir, fs::Permissions::from_mode(mode)).map_err(at(dir.display().to_string()))?;
        chown(dir, Some(Uid::from_raw(owner)), Some(Gid::from_raw(owner)))
            .map_err(io::Error::from)
            .map_err(at(dir.display().to_string()))?;
    }
    match fs::remove_file(layout.run.join("shutdown")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(at("the mark of a shutdown".into())(error))
        }
        _ => Ok(()),
    }
}
