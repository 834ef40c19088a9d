//! `lscpu`, `lsmem`, `lspci` and `lsusb`: the hardware as sysfs shows it.

use crate::options::{Options, Stop, failed, run};
use crate::output::print;
use crate::process::{as_ranges, numbers};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

const LSCPU_HELP: &str = "\
Usage: lscpu [-p]
Show the processors; -p one line a processor: number, core, socket, node.
";

const LSMEM_HELP: &str = "\
Usage: lsmem [-b] [-s]
Show the ranges of memory and whether they are on line; -b in bytes, -s only the sums.
";

const LSPCI_HELP: &str = "\
Usage: lspci [-n] [-v] [-k] [-s SLOT]
List PCI devices by their numbers and classes: there is no list of makers' names on this machine.

  -k    with the kernel's driver;  -v with driver and interrupt;  -n accepted
  -s    only this one
";

const LSUSB_HELP: &str = "\
Usage: lsusb
List USB devices with what they say of themselves.
";

fn fact(path: &Path, name: &str) -> String {
    fs::read_to_string(path.join(name)).unwrap_or_default().trim().to_owned()
}

fn entries(path: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> =
        fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    found.sort();
    found
}

const CPUS: &str = "/sys/devices/system/cpu";

pub(crate) fn lscpu(arguments: Vec<OsString>) -> i32 {
    run("lscpu", || {
        let options = Options::read("lscpu", LSCPU_HELP, "p|parse? e|extended? a|all b c", &arguments)?;
        let online = numbers(&fact(Path::new(CPUS), "online")).unwrap_or_default();
        let topology =
            |cpu: &usize, name: &str| fact(&Path::new(CPUS).join(format!("cpu{cpu}/topology")), name);
        if options.has("p") || options.has("e") {
            let mut text = String::from("# CPU,Core,Socket,Node\n");
            for cpu in &online {
                let node = entries(&format!("{CPUS}/cpu{cpu}"))
                    .into_iter()
                    .find_map(|path| Some(path.file_name()?.to_str()?.strip_prefix("node")?.to_owned()));
                let (core, socket) = (topology(cpu, "core_id"), topology(cpu, "physical_package_id"));
                text.push_str(&format!("{cpu},{core},{socket},{}\n", node.unwrap_or_default()));
            }
            return Ok(print("lscpu", &text));
        }
        let info = fs::read_to_string("/proc/cpuinfo").map_err(failed("/proc/cpuinfo"))?;
        let said = |key: &str| info_value(&info, key);
        let cores: BTreeSet<(String, String)> = online
            .iter()
            .map(|cpu| (topology(cpu, "physical_package_id"), topology(cpu, "core_id")))
            .collect();
        let sockets: BTreeSet<&String> = cores.iter().map(|(socket, _)| socket).collect();
        let name = nix::sys::utsname::uname().map_err(failed("uname"))?;
        let per = |part: usize, whole: usize| (part / whole.max(1)).max(1).to_string();
        let mut rows = vec![
            ("Architecture:", name.machine().to_string_lossy().into_owned()),
            (
                "Byte Order:",
                if cfg!(target_endian = "little") { "Little Endian" } else { "Big Endian" }.into(),
            ),
            ("CPU(s):", online.len().to_string()),
            ("On-line CPU(s) list:", as_ranges(&online)),
            ("Vendor ID:", said("vendor_id")),
            ("Model name:", said("model name")),
            ("CPU family:", said("cpu family")),
            ("Model:", said("model")),
            ("Stepping:", said("stepping")),
            ("Thread(s) per core:", per(online.len(), cores.len())),
            ("Core(s) per socket:", per(cores.len(), sockets.len())),
            ("Socket(s):", sockets.len().to_string()),
            ("BogoMIPS:", said("bogomips")),
            ("Flags:", said("flags")),
        ];
        let caches = entries(&format!("{CPUS}/cpu0/cache"));
        rows.extend(caches.iter().filter(|path| path.join("size").exists()).map(|path| cache(path)));
        for path in entries(&format!("{CPUS}/vulnerabilities")) {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let text = fs::read_to_string(&path).unwrap_or_default();
            rows.push(("Vulnerability:", format!("{name}: {}", text.trim())));
        }
        let line = |(head, value): &(&str, String)| {
            if value.is_empty() { String::new() } else { format!("{head:<24} {value}\n") }
        };
        Ok(print("lscpu", &rows.iter().map(line).collect::<String>()))
    })
}

fn cache(path: &Path) -> (&'static str, String) {
    let head = match (fact(path, "level").as_str(), fact(path, "type").as_str()) {
        ("1", "Data") => "L1d cache:",
        ("1", "Instruction") => "L1i cache:",
        ("2", _) => "L2 cache:",
        ("3", _) => "L3 cache:",
        _ => "Cache:",
    };
    (head, fact(path, "size"))
}

fn info_value(info: &str, key: &str) -> String {
    let value = info.lines().find_map(|line| line.split_once(':').filter(|(name, _)| name.trim() == key));
    value.map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
}

pub(crate) fn lsmem(arguments: Vec<OsString>) -> i32 {
    run("lsmem", || {
        let options =
            Options::read("lsmem", LSMEM_HELP, "b|bytes s|summary? a|all n|noheadings", &arguments)?;
        let root = Path::new("/sys/devices/system/memory");
        let block = u64::from_str_radix(&fact(root, "block_size_bytes"), 16);
        let Ok(block) = block else {
            return Err(Stop::new(
                1,
                "this kernel does not tell its blocks of memory (CONFIG_MEMORY_HOTPLUG); free tells the sum",
            ));
        };
        let mut blocks: Vec<(u64, bool)> = entries("/sys/devices/system/memory")
            .iter()
            .filter_map(|path| {
                let number = path.file_name()?.to_str()?.strip_prefix("memory")?.parse().ok()?;
                Some((number, fact(path, "state") == "online"))
            })
            .collect();
        blocks.sort_unstable();
        let show =
            |bytes: u64| if options.has("b") { bytes.to_string() } else { format!("{}M", bytes >> 20) };
        let mut text = String::new();
        if !options.has("s") {
            text.push_str("RANGE                                       SIZE   STATE BLOCK\n");
            for (first, last, online) in ranges(&blocks) {
                let (from, to) = (first * block, (last + 1) * block - 1);
                let numbers = if first == last { first.to_string() } else { format!("{first}-{last}") };
                let state = if online { "online" } else { "offline" };
                text.push_str(&format!(
                    "0x{from:016x}-0x{to:016x} {:>10} {state:>7} {numbers}\n",
                    show((last - first + 1) * block)
                ));
            }
            text.push('\n');
        }
        let sum =
            |wanted: bool| show(blocks.iter().filter(|(_, online)| *online == wanted).count() as u64 * block);
        text.push_str(&format!(
            "Memory block size:    {:>10}\nTotal online memory:  {:>10}\nTotal offline memory: {:>10}\n",
            show(block),
            sum(true),
            sum(false)
        ));
        Ok(print("lsmem", &text))
    })
}

/// Blocks that follow each other and are in the same state, together.
fn ranges(blocks: &[(u64, bool)]) -> Vec<(u64, u64, bool)> {
    let mut out: Vec<(u64, u64, bool)> = Vec::new();
    for (number, online) in blocks {
        match out.last_mut() {
            Some((_, last, state)) if *last + 1 == *number && *state == *online => *last = *number,
            _ => out.push((*number, *number, *online)),
        }
    }
    out
}

/// PCI's classes with their most usual subclasses (PCI Code and ID Assignment Specification).
const CLASSES: [(u32, &str); 40] = [
    (0x0100, "SCSI storage controller"),
    (0x0101, "IDE interface"),
    (0x0104, "RAID bus controller"),
    (0x0106, "SATA controller"),
    (0x0107, "Serial Attached SCSI controller"),
    (0x0108, "Non-Volatile memory controller"),
    (0x01, "Mass storage controller"),
    (0x0200, "Ethernet controller"),
    (0x0280, "Network controller"),
    (0x02, "Network controller"),
    (0x0300, "VGA compatible controller"),
    (0x0302, "3D controller"),
    (0x03, "Display controller"),
    (0x0401, "Multimedia audio controller"),
    (0x0403, "Audio device"),
    (0x04, "Multimedia controller"),
    (0x05, "Memory controller"),
    (0x0600, "Host bridge"),
    (0x0601, "ISA bridge"),
    (0x0604, "PCI bridge"),
    (0x0680, "Bridge"),
    (0x06, "Bridge"),
    (0x0700, "Serial controller"),
    (0x0780, "Communication controller"),
    (0x07, "Communication controller"),
    (0x0805, "SD Host controller"),
    (0x08, "System peripheral"),
    (0x09, "Input device controller"),
    (0x0a, "Docking station"),
    (0x0b, "Processor"),
    (0x0c03, "USB controller"),
    (0x0c05, "SMBus"),
    (0x0c, "Serial bus controller"),
    (0x0d, "Wireless controller"),
    (0x0e, "Intelligent controller"),
    (0x0f, "Satellite communications controller"),
    (0x10, "Encryption controller"),
    (0x11, "Signal processing controller"),
    (0x12, "Processing accelerator"),
    (0xff, "Unassigned class"),
];

fn class_name(class: u32) -> &'static str {
    let exact = CLASSES.iter().find(|(number, _)| *number == class >> 8 && *number > 0xff);
    let base = || CLASSES.iter().find(|(number, _)| *number == class >> 16);
    exact.or_else(base).map_or("Unknown class", |(_, name)| name)
}

pub(crate) fn lspci(arguments: Vec<OsString>) -> i32 {
    run("lspci", || {
        let options = Options::read("lspci", LSPCI_HELP, "n v k s= m D", &arguments)?;
        let mut text = String::new();
        for device in entries("/sys/bus/pci/devices") {
            let slot = device.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let short = slot.strip_prefix("0000:").filter(|_| !options.has("D")).unwrap_or(&slot).to_owned();
            if options.text("s").is_some_and(|wanted| wanted != slot && wanted != short) {
                continue;
            }
            let number = |name: &str| {
                u32::from_str_radix(fact(&device, name).trim_start_matches("0x"), 16).unwrap_or(0)
            };
            let class = number("class");
            let revision = match number("revision") {
                0 => String::new(),
                revision => format!(" (rev {revision:02x})"),
            };
            text.push_str(&format!(
                "{short} {} [{:04x}]: {:04x}:{:04x}{revision}\n",
                class_name(class),
                class >> 8,
                number("vendor"),
                number("device")
            ));
            if options.has("v") {
                text.push_str(&format!(
                    "\tSubsystem: {:04x}:{:04x}\n\tIRQ {}\n",
                    number("subsystem_vendor"),
                    number("subsystem_device"),
                    fact(&device, "irq")
                ));
            }
            let driver = fs::read_link(device.join("driver")).ok();
            if let Some(driver) = driver.filter(|_| options.has("v") || options.has("k")) {
                text.push_str(&format!(
                    "\tKernel driver in use: {}\n",
                    driver.file_name().unwrap_or_default().display()
                ));
            }
        }
        Ok(print("lspci", &text))
    })
}

pub(crate) fn lsusb(arguments: Vec<OsString>) -> i32 {
    run("lsusb", || {
        Options::read("lsusb", LSUSB_HELP, "t", &arguments)?;
        let mut lines = Vec::new();
        for device in
            entries("/sys/bus/usb/devices").into_iter().filter(|path| path.join("idVendor").exists())
        {
            let number = |name: &str| fact(&device, name).parse::<u32>().unwrap_or(0);
            let named = [fact(&device, "manufacturer"), fact(&device, "product")].join(" ");
            let named: String = named.chars().filter(|c| !c.is_control()).collect();
            let (vendor, product) = (fact(&device, "idVendor"), fact(&device, "idProduct"));
            lines.push(format!(
                "Bus {:03} Device {:03}: ID {vendor}:{product} {}\n",
                number("busnum"),
                number("devnum"),
                named.trim()
            ));
        }
        lines.sort();
        Ok(print("lsusb", &lines.concat()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_has_a_name() {
        assert_eq!(
            [0x01_0802, 0x02_0000, 0x02_0700, 0x06_0400, 0x55_0000].map(class_name),
            [
                "Non-Volatile memory controller",
                "Ethernet controller",
                "Network controller",
                "PCI bridge",
                "Unknown class"
            ]
        );
    }

    #[test]
    fn blocks_of_memory_become_ranges() {
        assert_eq!(
            ranges(&[(0, true), (1, true), (3, true), (4, false)]),
            [(0, 1, true), (3, 3, true), (4, 4, false)]
        );
    }

    #[test]
    fn the_processors_own_words_are_found() {
        let info = "processor\t: 0\nmodel\t\t: 85\nmodel name\t: Some: Thing\n";
        assert_eq!(
            (
                info_value(info, "model").as_str(),
                info_value(info, "model name").as_str(),
                info_value(info, "x").as_str()
            ),
            ("85", "Some: Thing", "")
        );
    }
}
