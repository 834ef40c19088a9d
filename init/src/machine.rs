//! What only a machine's PID 1 does: name, clock, limits, randomness, watchdog, power button, data disk.

use crate::config::InitTable;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::time::{ClockId, clock_settime};
use octant_api::boot::Mode;
use octant_sys::confine::{CORE_LIMIT, landlock_abi};
use octant_sys::{audit, clock, entropy, inherit, netlink};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

/// Kernel settings: what a machine that runs untrusted programs should have. Each is a path below /proc/sys.
const SYSCTLS: [(&str, &str); 14] = [
    ("kernel/kptr_restrict", "2"),
    ("kernel/dmesg_restrict", "1"),
    ("kernel/unprivileged_bpf_disabled", "1"),
    ("kernel/perf_event_paranoid", "3"),
    ("kernel/yama/ptrace_scope", "1"),
    ("kernel/kexec_load_disabled", "1"),
    ("kernel/sysrq", "0"),
    // A kernel that has oopsed can no longer be trusted to isolate anybody: boot again after ten seconds.
    ("kernel/panic_on_oops", "1"),
    ("kernel/panic", "10"),
    ("fs/protected_hardlinks", "1"),
    ("fs/protected_symlinks", "1"),
    ("fs/protected_fifos", "2"),
    ("fs/protected_regular", "2"),
    ("fs/suid_dumpable", "0"),
];

/// A machine's name where it is given none.
pub(crate) const HOSTNAME: &str = "octant";

/// Everything that may fail without stopping the boot; each failure is a line for the console.
#[must_use]
pub(crate) fn settle(table: &InitTable) -> Vec<String> {
    let mut troubles = Vec::new();
    let mut note = |what: &str, result: io::Result<()>| {
        if let Err(error) = result {
            troubles.push(format!("{what}: {error}"));
        }
    };
    let name = table.hostname.as_deref().unwrap_or(HOSTNAME);
    note("hostname", nix::unistd::sethostname(name).map_err(io::Error::from));
    note("loopback", netlink::loopback_up());
    note("Ctrl-Alt-Del", nix::sys::reboot::set_cad_enabled(false).map_err(io::Error::from));
    for (path, value) in SYSCTLS {
        // A setting of a feature that this kernel does not have.
        match fs::write(Path::new("/proc/sys").join(path), value) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => note(path, other),
        }
    }
    note("clock", raise_clock());
    if landlock_abi() >= audit::LANDLOCK_ABI {
        note("audit", audit::switch_on());
    }
    troubles
}

/// Open descriptors of PID 1, and the most that a unit may ask for: four full stores and room to spare.
const NOFILE: u64 = 1 << 16;

/// PID 1's own limits; also where it is not a machine's.
#[must_use]
pub(crate) fn own_limits() -> Vec<String> {
    let mut troubles = Vec::new();
    let mut note = |what: &str, result: io::Result<()>| {
        if let Err(error) = result {
            troubles.push(format!("{what}: {error}"));
        }
    };
    note("core limit", setrlimit(Resource::RLIMIT_CORE, CORE_LIMIT, CORE_LIMIT).map_err(io::Error::from));
    let raised = setrlimit(Resource::RLIMIT_NOFILE, NOFILE, NOFILE).or_else(|_| {
        // Without CAP_SYS_RESOURCE the hard limit stands.
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
    });
    note("descriptor limit", raised.map_err(io::Error::from));
    note("out-of-memory protection", fs::write("/proc/self/oom_score_adj", "-1000"));
    troubles
}

/// A machine without a battery-backed clock wakes in 1970, when no certificate is valid: it is at least as late as
/// the newest thing that is on it.
///
/// # Errors
/// What setting it reports.
pub(crate) fn raise_clock() -> io::Result<()> {
    let built = option_env!("SOURCE_DATE_EPOCH").and_then(|text| text.parse::<i64>().ok()).unwrap_or(0);
    let newest = ["/proc/self/exe", "/var/lib/octant/random-seed"]
        .iter()
        .filter_map(|path| fs::metadata(path).ok())
        .map(|meta| meta.mtime())
        .fold(built, i64::max);
    let now = i64::try_from(clock::wall_ms() / 1000).unwrap_or(i64::MAX);
    if now < newest {
        clock_settime(ClockId::CLOCK_REALTIME, nix::sys::time::TimeSpec::new(newest, 0))?;
    }
    Ok(())
}

/// Waits until a block device is there.
///
/// # Errors
/// `TimedOut` after `within`.
pub(crate) fn wait_for_device(path: &Path, within: Duration) -> io::Result<()> {
    let deadline = clock::monotonic_ns().saturating_add(u64::try_from(within.as_nanos()).unwrap_or(u64::MAX));
    while !path.exists() {
        if clock::monotonic_ns() > deadline {
            let ms = within.as_millis();
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("the device did not appear within {ms} ms"),
            ));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// The saved seed's place below the state directory.
const SEED: &str = "random-seed";

/// Credits the seed that the last run left, once: it is replaced before it is used, because a seed that is credited
/// twice makes two boots alike.
///
/// # Errors
/// What reading, replacing or crediting reports; without a saved seed there is nothing to do.
pub(crate) fn load_seed(state: &Path) -> io::Result<bool> {
    let path = state.join(SEED);
    let mut seed = [0; entropy::SEED_LEN];
    match File::open(&path).and_then(|mut file| file.read_exact(&mut seed)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        other => other?,
    }
    let random = OpenOptions::new().write(true).open("/dev/urandom")?;
    // Uncredited first, so that the replacement depends on it.
    (&random).write_all(&seed)?;
    save_seed(state)?;
    entropy::credit_seed(&random, &seed)?;
    Ok(true)
}

/// Leaves a new seed for the next run.
///
/// # Errors
/// What writing reports.
pub(crate) fn save_seed(state: &Path) -> io::Result<()> {
    let mut seed = [0; entropy::SEED_LEN];
    entropy::fill_unseeded(&mut seed)?;
    write_private(&state.join(SEED), &seed)
}

/// Replaces a file as a whole, readable by root only, durably.
fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}

/// 32 hexadecimal digits from the kernel.
///
/// # Errors
/// What getrandom(2) reports.
pub(crate) fn random_id() -> io::Result<String> {
    let mut bytes = [0; 16];
    entropy::fill_unseeded(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Makes sure that the machine has an id: the one in its state, else a new one; also at /etc/machine-id where that can
/// be written.
///
/// # Errors
/// What writing the one in the state reports.
pub(crate) fn machine_id(state: &Path) -> io::Result<String> {
    let path = state.join("machine-id");
    let id = match fs::read_to_string(&path) {
        Ok(text) if text.trim_end().len() == 32 => text.trim_end().to_owned(),
        _ => {
            let id = random_id()?;
            write_private(&path, format!("{id}\n").as_bytes())?;
            id
        }
    };
    // On a read-only root the image has its own, or none.
    let _may_be_read_only = fs::write("/etc/machine-id", format!("{id}\n"));
    Ok(id)
}

/// The hardware watchdog: resets the machine when PID 1's loop stops turning.
#[derive(Debug)]
pub(crate) struct Watchdog {
    device: File,
    next: u64,
}

impl Watchdog {
    /// How often it is fed. Devices wait at least ten seconds by default.
    pub(crate) const PERIOD_MS: u64 = 3_000;

    /// Opens, and thereby arms, the device, where there is one.
    #[must_use]
    pub(crate) fn open(mode: Mode) -> Option<Self> {
        if mode != Mode::Machine {
            return None;
        }
        let device = OpenOptions::new().write(true).open("/dev/watchdog").ok()?;
        Some(Self { device, next: 0 })
    }

    /// The device as the PID 1 before had it.
    #[must_use]
    pub(crate) fn resume(fd: OwnedFd) -> Self {
        Self { device: fd.into(), next: 0 }
    }

    /// Feeds it when it is due.
    pub(crate) fn ping(&mut self) {
        let now = clock::monotonic_ns();
        if now >= self.next {
            // If this fails the machine is reset, which is what a watchdog is for.
            let _reset_follows = self.device.write(b"\0");
            self.next = now + Self::PERIOD_MS * 1_000_000 / 2;
        }
    }

    /// Disarms it for an orderly end (the "magic close").
    pub(crate) fn disarm(mut self) {
        let _reset_follows = self.device.write(b"V");
    }
}

impl AsFd for Watchdog {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.device.as_fd()
    }
}

/// A device that can report the power key.
#[derive(Debug)]
pub(crate) struct PowerButton {
    device: File,
}

/// linux/input-event-codes.h
const EV_KEY: u16 = 1;
const KEY_POWER: u16 = 116;
/// struct input_event on a 64-bit machine: two 8-byte times, type, code, value.
const EVENT_LEN: usize = 24;

impl PowerButton {
    /// Every input device that has the key.
    #[must_use]
    pub(crate) fn find() -> Vec<Self> {
        let mut out = Vec::new();
        for entry in fs::read_dir("/sys/class/input").into_iter().flatten().flatten() {
            let keys = fs::read_to_string(entry.path().join("device/capabilities/key")).unwrap_or_default();
            let device = Path::new("/dev/input").join(entry.file_name());
            if has_power_key(&keys)
                && let Ok(device) =
                    OpenOptions::new().read(true).custom_flags(nix::libc::O_NONBLOCK).open(device)
            {
                out.push(Self { device });
            }
        }
        out
    }

    /// Reads what happened; whether the key went down.
    pub(crate) fn pressed(&mut self) -> bool {
        let mut events = [0; EVENT_LEN * 16];
        let Ok(length) = self.device.read(&mut events) else { return false };
        events[..length].chunks_exact(EVENT_LEN).any(is_power_press)
    }
}

impl AsFd for PowerButton {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.device.as_fd()
    }
}

/// The bit mask in sysfs is words of 64 bits in hexadecimal, the highest first.
fn has_power_key(keys: &str) -> bool {
    let word = keys.split_ascii_whitespace().rev().nth(usize::from(KEY_POWER) / 64);
    word.and_then(|word| u64::from_str_radix(word, 16).ok())
        .is_some_and(|word| word >> (KEY_POWER % 64) & 1 == 1)
}

fn is_power_press(event: &[u8]) -> bool {
    event[16..] == [EV_KEY.to_ne_bytes(), KEY_POWER.to_ne_bytes(), [1, 0], [0, 0]].concat()[..]
}

/// Takes an inherited descriptor only to close it; for what the kernel or a boot loader left open.
pub(crate) fn close_strays() {
    let _none_are_ours_yet = inherit::close_all_but(&[]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_power_key_is_found_in_the_kernels_bit_mask() {
        // An ACPI power button: bit 116 alone, that is bit 52 of the second word.
        assert!(has_power_key("10000000000000 0\n"));
        assert!(!has_power_key("10000000000000\n"), "bit 52 of the first word is another key");
        assert!(!has_power_key(""));
    }

    #[test]
    fn only_the_press_of_the_power_key_counts() {
        let mut event = [0; EVENT_LEN];
        event[16..18].copy_from_slice(&EV_KEY.to_ne_bytes());
        event[18..20].copy_from_slice(&KEY_POWER.to_ne_bytes());
        assert!(!is_power_press(&event), "a release");
        event[20] = 1;
        assert!(is_power_press(&event));
        event[18] = 30;
        assert!(!is_power_press(&event), "another key");
    }

    #[test]
    fn a_seed_is_replaced_whole() {
        let dir = std::env::temp_dir().join(format!("octant-seed-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        save_seed(&dir).unwrap();
        let first = fs::read(dir.join(SEED)).unwrap();
        save_seed(&dir).unwrap();
        let second = fs::read(dir.join(SEED)).unwrap();
        assert!(first.len() == entropy::SEED_LEN && first != second);
        assert_eq!(fs::metadata(dir.join(SEED)).unwrap().mode() & 0o777, 0o600);
        fs::remove_dir_all(dir).unwrap();
    }
}
