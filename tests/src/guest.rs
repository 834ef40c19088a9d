//! A booted QEMU guest: its serial console as lines or as it comes, a time limit that kills, a power button.

use crate::environment::path;
use crate::tpm::Tpm;
use crate::uefi::Board;
use octant_sys::clock::monotonic_ns;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

/// How one guest is started.
#[derive(Debug, Default)]
pub struct Boot<'a> {
    /// Added to the kernel command line.
    pub append: &'a str,
    /// A cpio archive unpacked over the image.
    pub overlay: Option<&'a Path>,
    /// QEMU's `file=` for the data disk, and its format.
    pub data: Option<(String, &'a str)>,
    /// OEM strings in the firmware's tables.
    pub oem_strings: &'a [String],
    /// Another initramfs than that of the image.
    pub initrd: Option<&'a Path>,
    /// Whether it has an Ethernet device, at a network of its own that leads nowhere: 10.0.2.2 answers, and lends addresses.
    pub network: bool,
    /// The machine, where it matters which one: it measures `append` and `overlay` together with the kernel. Without
    /// it QEMU starts the kernel itself, which takes half the time.
    pub board: Option<&'a Board>,
    /// With a board: its firmware starts only what is signed, as the image then is. Register 7 says so.
    pub secure_boot: bool,
    /// With a board: a kernel command line from whoever starts the image, in place of its own, `append` included.
    /// Without secure boot the image's stub obeys. It is measured, but into another register: 12, while the image with
    /// its own line is in 11 as ever.
    pub load_options: Option<&'a str>,
}

/// A running guest. Dropping it kills it.
#[derive(Debug)]
pub struct Guest {
    child: Child,
    parts: Receiver<Vec<u8>>,
    /// What the console has shown and nobody has looked for yet, without commands to the terminal.
    shown: Vec<u8>,
    /// Everything before that.
    pub log: Vec<String>,
    monitor: PathBuf,
    started_ns: u64,
    /// Only held: it ends when it is dropped, which must not be before QEMU has ended.
    tpm: Option<Tpm>,
}

impl Guest {
    /// Boots the image; `dir` takes the monitor's socket and the joined initramfs, or with a board the kernel image.
    ///
    /// # Panics
    /// When QEMU or the emulator of its TPM cannot be started.
    #[must_use]
    pub fn boot(dir: &Path, boot: &Boot<'_>) -> Self {
        let monitor = dir.join("monitor.sock");
        let _gone_or_never_there = std::fs::remove_file(&monitor);
        let mut command = Command::new(path("OCTANT_QEMU"));
        command
            .args(["-M", "q35", "-smp", "2", "-m", "1024", "-nodefaults", "-no-user-config", "-no-reboot"])
            .args(["-display", "none", "-serial", "stdio", "-device", "virtio-rng-pci"])
            .args(if kvm() { ["-accel", "kvm", "-cpu", "host"] } else { ["-accel", "tcg", "-cpu", "max"] })
            .arg("-monitor")
            .arg(format!("unix:{},server=on,wait=off", monitor.display()));
        let tpm = match boot.board {
            Some(board) => Some(board.fit(&mut command, dir, boot)),
            None => {
                without_firmware(&mut command, dir, boot);
                None
            }
        };
        if let Some((file, format)) = &boot.data {
            command.arg("-drive").arg(format!("file={file},format={format},if=none,id=data,cache=writeback"));
            command.args(["-device", "virtio-blk-pci,drive=data"]);
        }
        for string in boot.oem_strings {
            command.arg("-smbios").arg(format!("type=11,value={string}"));
        }
        if boot.network {
            command.args(["-netdev", "user,id=net,restrict=on", "-device", "virtio-net-pci,netdev=net"]);
        }
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap_or_else(|e| panic!("QEMU: {e}"));
        let (sender, parts) = channel();
        let mut console =
            child.stdout.take().unwrap_or_else(|| unreachable!("stdout was asked for as a pipe"));
        std::thread::spawn(move || {
            let (mut part, mut escapes) = ([0; 4096], Escapes::default());
            while let Ok(length @ 1..) = console.read(&mut part) {
                let text = part[..length].iter().copied().filter(|byte| escapes.shows(*byte)).collect();
                if sender.send(text).is_err() {
                    return;
                }
            }
        });
        let (shown, log, started_ns) = (Vec::new(), Vec::new(), monotonic_ns());
        Self { child, parts, shown, log, monitor, started_ns, tpm }
    }

    /// Takes what has been shown up to `end` out of what nobody has looked for yet.
    fn take(&mut self, end: usize) -> String {
        let rest = self.shown.split_off(end);
        let taken = String::from_utf8_lossy(&std::mem::replace(&mut self.shown, rest)).into_owned();
        self.log.extend(taken.lines().map(|line| line.trim_end_matches('\r').to_owned()));
        taken
    }

    /// Waits for more; what it is about is in the message of a failure.
    fn more(&mut self, what: &str, seconds: u64, deadline_ns: u64) {
        let left = Duration::from_nanos(deadline_ns.saturating_sub(monotonic_ns()));
        match self.parts.recv_timeout(left) {
            Ok(part) => self.shown.extend(part),
            Err(RecvTimeoutError::Timeout) => self.fail(&format!("no {what} within {seconds} s")),
            Err(RecvTimeoutError::Disconnected) => self.fail(&format!("the guest ended before {what}")),
        }
    }

    /// Reads the console until it shows `text`, which need not be a whole line; gives what came before it, and it.
    ///
    /// # Panics
    /// When the time is over or the guest ends first; the console so far is in the message.
    pub fn sees(&mut self, text: &str, seconds: u64) -> String {
        let deadline = monotonic_ns() + seconds * 1_000_000_000;
        loop {
            let found = self.shown.windows(text.len()).position(|part| part == text.as_bytes());
            if let Some(at) = found {
                return self.take(at + text.len());
            }
            self.more(&format!("{text:?}"), seconds, deadline);
        }
    }

    /// Reads the console until a line satisfies `found`, for `seconds` at the most.
    ///
    /// # Panics
    /// When the time is over or the guest ends first; the console so far is in the message.
    pub fn until(&mut self, what: &str, seconds: u64, found: impl Fn(&str) -> bool) -> String {
        let deadline = monotonic_ns() + seconds * 1_000_000_000;
        loop {
            while let Some(at) = self.shown.iter().position(|byte| *byte == b'\n') {
                let line = self.take(at + 1).trim_end_matches(['\r', '\n']).to_owned();
                if found(&line) {
                    return line;
                }
            }
            self.more(what, seconds, deadline);
        }
    }

    /// Reads on until the guest has ended by itself.
    ///
    /// # Panics
    /// When it has not after `seconds`.
    pub fn until_off(&mut self, seconds: u64) {
        let deadline = monotonic_ns() + seconds * 1_000_000_000;
        loop {
            let left = Duration::from_nanos(deadline.saturating_sub(monotonic_ns()));
            match self.parts.recv_timeout(left) {
                Ok(part) => self.shown.extend(part),
                Err(RecvTimeoutError::Timeout) => self.fail(&format!("still running after {seconds} s")),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.take(self.shown.len());
        let ended = self.child.wait();
        assert!(ended.as_ref().is_ok_and(std::process::ExitStatus::success), "QEMU ended with {ended:?}");
        // The machine's next guest needs the state that this one holds.
        self.tpm = None;
    }

    /// Types a line on the serial console.
    ///
    /// # Panics
    /// When the guest is gone.
    pub fn type_line(&mut self, text: &str) {
        self.type_keys(&format!("{text}\n"));
    }

    /// The same, without the end of a line.
    ///
    /// # Panics
    /// When the guest is gone.
    pub fn type_keys(&mut self, keys: &str) {
        let stdin =
            self.child.stdin.as_mut().unwrap_or_else(|| unreachable!("stdin was asked for as a pipe"));
        let typed = stdin.write_all(keys.as_bytes()).and_then(|()| stdin.flush());
        typed.unwrap_or_else(|e| panic!("console: {e}"));
    }

    /// Sends one command to QEMU's monitor, such as `system_powerdown`.
    ///
    /// # Panics
    /// When the monitor does not answer.
    pub fn monitor(&self, command: &str) {
        let sent = UnixStream::connect(&self.monitor).and_then(|mut stream| {
            writeln!(stream, "{command}")?;
            // The monitor executes what it has read even when we leave; its echo shows that it has read it.
            BufReader::new(stream).lines().take(2).try_for_each(|line| line.map(drop))
        });
        sent.unwrap_or_else(|e| panic!("QEMU monitor: {e}"));
    }

    /// Ends the guest at once, as a power cut does; gives everything that its console has shown.
    pub fn kill(mut self) -> Vec<String> {
        self.stop();
        self.shown.extend(self.parts.iter().flatten());
        self.take(self.shown.len());
        std::mem::take(&mut self.log)
    }

    /// Nanoseconds since QEMU was started.
    #[must_use]
    pub fn age_ns(&self) -> u64 {
        monotonic_ns() - self.started_ns
    }

    fn stop(&mut self) {
        // Both fail only when the guest has already ended.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }

    fn fail(&mut self, why: &str) -> ! {
        self.stop();
        let rest = String::from_utf8_lossy(&self.shown);
        panic!("{why}; the console so far:\n{}\n{rest}", self.log.join("\n"));
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.stop();
    }
}

pub(crate) fn kvm() -> bool {
    std::env::var("OCTANT_ACCEL").is_ok_and(|accel| accel == "kvm")
}

/// The kernel's whole command line. Under emulation on a busy host no tick of the timer may come while the kernel counts
/// them, and it would panic: so it does not.
pub(crate) fn command_line(append: &str) -> String {
    format!("console=ttyS0 quiet panic=-1 no_timer_check octant.data=/dev/vda {append}")
}

/// Has QEMU load kernel, initrd and command line itself. Nothing measures them.
fn without_firmware(command: &mut Command, dir: &Path, boot: &Boot<'_>) {
    assert!(
        !boot.secure_boot && boot.load_options.is_none(),
        "without a board there is no firmware to do that"
    );
    let mut initrd = boot.initrd.map_or_else(|| path("OCTANT_INITRD"), Path::to_owned);
    if boot.overlay.is_some() {
        let bytes = joined(&initrd, boot.overlay);
        initrd = dir.join("initrd");
        std::fs::write(&initrd, bytes).unwrap_or_else(|e| panic!("{}: {e}", initrd.display()));
    }
    command.arg("-kernel").arg(path("OCTANT_KERNEL")).arg("-initrd").arg(initrd);
    command.args(["-append", &command_line(boot.append)]);
}

/// The kernel unpacks concatenated archives one over the other (initramfs buffer format).
pub(crate) fn joined(image: &Path, overlay: Option<&Path>) -> Vec<u8> {
    let read = |path: &Path| std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut bytes = read(image);
    if let Some(overlay) = overlay {
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes.extend(read(overlay));
    }
    bytes
}

/// Takes commands to a terminal out of what is shown, wherever a part of it ends: ESC and a character, or ESC, `[`,
/// parameters and a letter (ECMA-48, control sequences).
#[derive(Debug, Default)]
enum Escapes {
    #[default]
    Text,
    Escape,
    Sequence,
}

impl Escapes {
    /// Whether this byte is shown.
    fn shows(&mut self, byte: u8) -> bool {
        let (next, shown) = match (&*self, byte) {
            (Self::Text, 0x1b) => (Self::Escape, false),
            (Self::Text, _) => (Self::Text, true),
            (Self::Escape, b'[') => (Self::Sequence, false),
            (Self::Sequence, b' '..=b'?') => (Self::Sequence, false),
            (Self::Escape | Self::Sequence, _) => (Self::Text, false),
        };
        *self = next;
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_to_the_terminal_are_no_part_of_what_is_shown() {
        let shown = |text: &str| {
            let mut escapes = Escapes::default();
            let bytes = text.bytes().filter(|byte| escapes.shows(*byte)).collect();
            String::from_utf8(bytes).unwrap()
        };
        let line = "\u{1b}[2J\u{1b}[01;01H\u{1b}[=3hoctant: \u{1b}[1mready\u{1b}[0m [x]";
        assert_eq!(shown(line), "octant: ready [x]");
        assert_eq!(shown("[    1.2] é"), "[    1.2] é");
        assert_eq!(shown("cut \u{1b}["), "cut ");
    }
}
