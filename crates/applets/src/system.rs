//! Utilities over the kernel, the hardware and the terminal: what a serial console needs and no crate offers.

mod devices;
mod identifiers;
mod kernel;
mod keyboard;
mod log;
mod memory;
mod modules;
mod rtc;

pub(crate) use devices::{lscpu, lsmem, lspci, lsusb};
pub(crate) use identifiers::{mcookie, parse_uuid, random_uuid, uuid_text, uuidgen};
pub(crate) use kernel::{getconf, sysctl};
pub(crate) use keyboard::{chvt, loadkmap, mesg};
pub(crate) use log::logger;
pub(crate) use memory::free;
pub(crate) use modules::{insmod, lsmod, modinfo, modprobe, rmmod};
pub(crate) use rtc::hwclock;

use crate::output::{complain, help_or_version, print};
use nix::fcntl::OFlag;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;

/// Reads a procfs file whole, or reports why not and gives the exit code.
fn proc_file(name: &str, path: &str) -> Result<String, i32> {
    fs::read_to_string(path).map_err(|error| {
        complain(name, &format_args!("cannot read {path}: {error}"));
        1
    })
}

pub(crate) fn clear(arguments: Vec<OsString>) -> i32 {
    let help = "Usage: clear\nClear the terminal and what was scrolled off it.\n";
    // Home, erase the screen, erase the scrolled lines (ECMA-48 and xterm; the Linux console knows them).
    help_or_version(&arguments, "clear", help).unwrap_or_else(|| print("clear", "\x1b[H\x1b[2J\x1b[3J"))
}

pub(crate) fn reset(arguments: Vec<OsString>) -> i32 {
    let help = "Usage: reset\nBring a garbled terminal back to its initial state.\n";
    if let Some(code) = help_or_version(&arguments, "reset", help) {
        return code;
    }
    // RIS resets the terminal itself; `stty sane` resets the line discipline.
    let written = print("reset", "\x1bc\x1b[!p");
    written.max(uu_stty::uumain(["stty", "sane"].map(OsString::from).into_iter()))
}

pub(crate) fn uptime(arguments: Vec<OsString>) -> i32 {
    let help =
        "Usage: uptime\nPrint how long the machine has been up, and its load over 1, 5 and 15 minutes.\n";
    if let Some(code) = help_or_version(&arguments, "uptime", help) {
        return code;
    }
    let texts = proc_file("uptime", "/proc/uptime")
        .and_then(|up| proc_file("uptime", "/proc/loadavg").map(|load| (up, load)));
    match texts {
        Ok((up, load)) => match uptime_line(&up, &load) {
            Some(line) => print("uptime", &line),
            None => {
                complain(
                    "uptime",
                    &"/proc/uptime or /proc/loadavg is not in the form that proc(5) describes",
                );
                1
            }
        },
        Err(code) => code,
    }
}

fn uptime_line(uptime: &str, load: &str) -> Option<String> {
    let seconds: u64 = uptime.split(['.', ' ']).next()?.parse().ok()?;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    let days = if days == 0 { String::new() } else { format!("{days} days, ") };
    let mut loads = load.split_ascii_whitespace();
    let (one, five, fifteen) = (loads.next()?, loads.next()?, loads.next()?);
    Some(format!("up {days}{hours}:{minutes:02}, load average: {one}, {five}, {fifteen}\n"))
}

/// The longest record that /dev/kmsg gives (the kernel's CONSOLE_EXT_LOG_MAX).
const KMSG_RECORD_MAX: usize = 8_192;

pub(crate) fn dmesg(arguments: Vec<OsString>) -> i32 {
    let help = "Usage: dmesg\nPrint the messages in the kernel's ring buffer.\n";
    if let Some(code) = help_or_version(&arguments, "dmesg", help) {
        return code;
    }
    let opened = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open("/dev/kmsg");
    match opened.and_then(read_kernel_log) {
        Ok(text) => print("dmesg", &text),
        Err(error) => {
            complain("dmesg", &format_args!("cannot read /dev/kmsg: {error}"));
            1
        }
    }
}

/// One read gives one record; `EAGAIN` is the end, `EPIPE` says that records were overwritten meanwhile.
fn read_kernel_log(mut device: File) -> io::Result<String> {
    let mut text = String::new();
    let mut record = [0_u8; KMSG_RECORD_MAX];
    loop {
        match device.read(&mut record) {
            Ok(0) => return Ok(text),
            Ok(length) => text.push_str(&kernel_line(&String::from_utf8_lossy(&record[..length]))),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(text),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            Err(error) => return Err(error),
        }
    }
}

/// `priority,sequence,microseconds,flags;message\n key=value...` becomes `[seconds.micros] message`.
fn kernel_line(record: &str) -> String {
    let (head, body) = record.split_once(';').unwrap_or(("", record));
    let micros: u64 = head.split(',').nth(2).and_then(|text| text.parse().ok()).unwrap_or(0);
    let message = body.lines().next().unwrap_or("");
    format!("[{:>5}.{:06}] {message}\n", micros / 1_000_000, micros % 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uptime_is_told_in_days_hours_and_minutes() {
        let line = uptime_line("93784.21 180000.00\n", "0.10 0.20 0.30 1/100 42\n");
        assert_eq!(line.as_deref(), Some("up 1 days, 2:03, load average: 0.10, 0.20, 0.30\n"));
        assert_eq!(uptime_line("59.9 1.0", "1 2 3").as_deref(), Some("up 0:00, load average: 1, 2, 3\n"));
        assert_eq!(uptime_line("", "1 2 3"), None);
        assert_eq!(uptime_line("1.0", "1 2"), None);
    }

    #[test]
    fn a_kernel_record_becomes_a_line() {
        assert_eq!(kernel_line("6,339,5140900,-;NET: up\n SUBSYSTEM=x\n"), "[    5.140900] NET: up\n");
        assert_eq!(kernel_line("garbage"), "[    0.000000] garbage\n");
    }
}
