//! `ping`: whether a host answers, and how long it takes (ICMP echo).

use super::options::Options;
use super::{Failed, ended, failed};
use crate::output::help_or_version;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, bind, connect, recv, send,
    setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};
use octant_net::names::{Names, Want};
use octant_sys::clock::monotonic_ns;
use std::ffi::OsString;
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};

const HELP: &str = "\
Usage: ping [OPTION]... HOST
Ask a host to answer, once a second, and say how long it takes.

  -c COUNT      end after so many questions
  -i SECONDS    between two questions (1; at least 0.01, and 0.2 unless one is root)
  -W SECONDS    how long the last answer may take (10)
  -w SECONDS    end after this time
  -s BYTES      beyond the head of each question (56)
  -t NUMBER     how many routers it may pass
  -I WHERE      a link, or an address of this machine
  -4, -6        only IPv4, only IPv6
  -q            only the sum at the end
  -n            addresses are always numbers: this changes nothing

Exit code 0: answers came. 1: none came. 2: it could not be asked.
";
/// The head of a question: type, code, checksum, identifier, number.
const HEAD: usize = 8;
/// The longest question; what is beyond an Ethernet packet goes in pieces.
const SIZE_MAX: usize = 65_000;
const SECOND_NS: u64 = 1_000_000_000;

pub(crate) fn ping(arguments: Vec<OsString>) -> i32 {
    ping_of("ping", arguments, Want::Any)
}

pub(crate) fn ping6(arguments: Vec<OsString>) -> i32 {
    ping_of("ping6", arguments, Want::V6)
}

fn ping_of(name: &str, arguments: Vec<OsString>, want: Want) -> i32 {
    help_or_version(&arguments, name, HELP).unwrap_or_else(|| {
        let ended_with = Wish::read(arguments, want).and_then(|wish| wish.run(&mut io::stdout()));
        ended(name, ended_with)
    })
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
struct Wish {
    host: String,
    want: Want,
    count: Option<u64>,
    every_ns: u64,
    wait_ns: u64,
    within_ns: Option<u64>,
    size: usize,
    hops: Option<u8>,
    from: Option<String>,
    quiet: bool,
}

impl Wish {
    fn read(arguments: Vec<OsString>, mut want: Want) -> Result<Self, Failed> {
        let wrong = |why: String| failed(2, why);
        let options = Options::read(arguments, "c:i:W:w:s:t:I:46qnvOD", &[]).map_err(wrong)?;
        let [host] = &options.operands[..] else { return Err(failed(2, "one host is wanted; see --help")) };
        let time = |letter, other: f64| -> Result<u64, Failed> {
            let seconds: f64 = options.number(letter, other).map_err(wrong)?;
            if !(0.0..=86_400.0).contains(&seconds) {
                return Err(failed(2, format_args!("-{letter}: from 0 to 86400 seconds")));
            }
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within a day")]
            Ok((seconds * 1e9) as u64)
        };
        if options.has('4') {
            want = Want::V4;
        }
        if options.has('6') {
            want = Want::V6;
        }
        let size: usize = options.number('s', 56).map_err(wrong)?;
        if size > SIZE_MAX {
            return Err(failed(2, format_args!("-s {size}: at most {SIZE_MAX}")));
        }
        let count = options.value('c').map(|_| options.number('c', 1)).transpose().map_err(wrong)?;
        if count == Some(0) {
            return Err(failed(2, "-c 0: at least 1"));
        }
        let least = if nix::unistd::geteuid().is_root() { SECOND_NS / 100 } else { SECOND_NS / 5 };
        Ok(Self {
            host: host.clone(),
            want,
            count,
            every_ns: time('i', 1.0)?.max(least),
            wait_ns: time('W', 10.0)?,
            within_ns: options.value('w').map(|_| time('w', 0.0)).transpose()?,
            size,
            hops: options.value('t').map(|_| options.number('t', 64)).transpose().map_err(wrong)?,
            from: options.value('I').map(str::to_owned),
            quiet: options.has('q'),
        })
    }

    fn run(&self, out: &mut dyn Write) -> Result<i32, Failed> {
        let found = Names::system().addresses(&self.host, self.want).map_err(|error| failed(2, error))?;
        let ip = *found.first().ok_or_else(|| failed(2, format_args!("{} has no address", self.host)))?;
        let echo = Echo::open(ip, self).map_err(|error| failed(2, format_args!("{ip}: {error}")))?;
        let written = |result: io::Result<()>| {
            result.map_err(|error| failed(2, format_args!("standard output: {error}")))
        };
        written(writeln!(out, "PING {} ({ip}) {}({}) bytes of data.", self.host, self.size, self.size + 28))?;
        let start = monotonic_ns();
        let mut seen = Seen::default();
        loop {
            let now = monotonic_ns();
            let over = self.within_ns.is_some_and(|within| now - start >= within);
            let enough = self.count.is_some_and(|count| seen.sent >= count);
            if over || (enough && (seen.answered() >= seen.sent || now >= seen.last_ns + self.wait_ns)) {
                break;
            }
            let due = seen.sent == 0 || now >= seen.last_ns + self.every_ns;
            if due && !enough {
                seen.sent += 1;
                seen.last_ns = now;
                if let Err(error) = echo.send(seen.sent, self.size) {
                    written(writeln!(out, "ping: {ip}: {error}"))?;
                }
                continue;
            }
            let until = if enough { seen.last_ns + self.wait_ns } else { seen.last_ns + self.every_ns };
            let until = self.within_ns.map_or(until, |within| until.min(start + within));
            if let Some(answer) = echo
                .receive(until.saturating_sub(now))
                .map_err(|error| failed(2, format_args!("{ip}: {error}")))?
            {
                let took = monotonic_ns().saturating_sub(answer.sent_ns);
                let again = !seen.take(answer.number, took);
                if !self.quiet {
                    let hops = answer.hops.map_or_else(String::new, |hops| format!(" ttl={hops}"));
                    let again = if again { " (DUP!)" } else { "" };
                    let (bytes, number) = (answer.bytes, answer.number);
                    written(writeln!(
                        out,
                        "{bytes} bytes from {ip}: icmp_seq={number}{hops} time={}{again}",
                        milliseconds(took)
                    ))?;
                }
            }
        }
        written(seen.sum(out, &self.host, monotonic_ns() - start))?;
        Ok(i32::from(seen.answered() == 0))
    }
}

/// What was sent and what came.
#[derive(Debug, Default)]
struct Seen {
    sent: u64,
    last_ns: u64,
    numbers: std::collections::BTreeSet<u64>,
    again: u64,
    least: Option<u64>,
    most: u64,
    sum: u64,
}

impl Seen {
    /// Takes an answer; whether it is the first to its question.
    fn take(&mut self, number: u64, took_ns: u64) -> bool {
        if !self.numbers.insert(number) {
            self.again += 1;
            return false;
        }
        self.least = Some(self.least.map_or(took_ns, |least| least.min(took_ns)));
        self.most = self.most.max(took_ns);
        self.sum += took_ns;
        true
    }

    fn answered(&self) -> u64 {
        self.numbers.len() as u64
    }

    fn sum(&self, out: &mut dyn Write, host: &str, whole_ns: u64) -> io::Result<()> {
        let answered = self.answered();
        let lost = (self.sent - answered.min(self.sent)) * 100 / self.sent.max(1);
        writeln!(out, "\n--- {host} ping statistics ---")?;
        let again = if self.again > 0 { format!(", +{} duplicates", self.again) } else { String::new() };
        writeln!(
            out,
            "{} packets transmitted, {answered} received{again}, {lost}% packet loss, time {}ms",
            self.sent,
            whole_ns / 1_000_000
        )?;
        let Some(least) = self.least else { return Ok(()) };
        let figure = |ns: u64| format!("{}.{:03}", ns / 1_000_000, ns / 1_000 % 1_000);
        writeln!(
            out,
            "rtt min/avg/max = {}/{}/{} ms",
            figure(least),
            figure(self.sum / answered),
            figure(self.most)
        )
    }
}

fn milliseconds(ns: u64) -> String {
    let micros = ns / 1_000;
    match micros {
        0..1_000 => format!("0.{micros:03} ms"),
        1_000..10_000 => format!("{}.{:02} ms", micros / 1_000, micros / 10 % 100),
        10_000..100_000 => format!("{}.{} ms", micros / 1_000, micros / 100 % 10),
        _ => format!("{} ms", micros / 1_000),
    }
}

/// An answer.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    number: u64,
    sent_ns: u64,
    bytes: usize,
    hops: Option<u8>,
}

/// The socket: raw where that is allowed, otherwise the one that the kernel has for this alone (net.ipv4.ping_group_range).
struct Echo {
    fd: OwnedFd,
    six: bool,
    raw: bool,
    id: u16,
}

impl Echo {
    fn open(ip: IpAddr, wish: &Wish) -> io::Result<Self> {
        let six = ip.is_ipv6();
        let (family, protocol) = if six {
            (AddressFamily::Inet6, SockProtocol::IcmpV6)
        } else {
            (AddressFamily::Inet, SockProtocol::Icmp)
        };
        let open = |kind| socket(family, kind, SockFlag::SOCK_CLOEXEC, Some(protocol));
        let (fd, raw) = match open(SockType::Raw) {
            Err(Errno::EPERM | Errno::EACCES) => (open(SockType::Datagram)?, false),
            other => (other?, true),
        };
        match wish.from.as_deref().map(|from| (from, from.parse::<IpAddr>())) {
            None => {}
            Some((_, Ok(from))) => bind(fd.as_raw_fd(), &SockaddrStorage::from(SocketAddr::from((from, 0))))?,
            Some((link, Err(_))) => setsockopt(&fd, sockopt::BindToDevice, &link.into())?,
        }
        if let Some(hops) = wish.hops {
            if six {
                setsockopt(&fd, sockopt::Ipv6Ttl, &i32::from(hops))?;
            } else {
                setsockopt(&fd, sockopt::Ipv4Ttl, &i32::from(hops))?;
            }
        }
        // Connected: only this host's answers come.
        connect(fd.as_raw_fd(), &SockaddrStorage::from(SocketAddr::from((ip, 0))))?;
        let id = u16::try_from(std::process::id() & 0xffff).unwrap_or_default();
        Ok(Self { fd, six, raw, id })
    }

    fn send(&self, number: u64, size: usize) -> io::Result<()> {
        let bytes = question(self.six, self.id, number, monotonic_ns(), size);
        send(self.fd.as_raw_fd(), &bytes, MsgFlags::empty())?;
        Ok(())
    }

    /// Waits this long for one answer of ours; none when the time is over or something else came.
    fn receive(&self, within_ns: u64) -> io::Result<Option<Answer>> {
        let micros = i64::try_from(within_ns / 1_000).unwrap_or(i64::MAX).max(1_000);
        setsockopt(&self.fd, sockopt::ReceiveTimeout, &TimeVal::microseconds(micros))?;
        let mut buffer = vec![0; SIZE_MAX + 200];
        match recv(self.fd.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
            Ok(length) => Ok(answer(&buffer[..length], self.six, self.raw, self.id)),
            // What routers said of a question; it stays without an answer.
            Err(
                Errno::EAGAIN | Errno::EINTR | Errno::EHOSTUNREACH | Errno::ENETUNREACH | Errno::ECONNREFUSED,
            ) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// An echo request; where there is room, with the time in it.
fn question(six: bool, id: u16, number: u64, now_ns: u64, size: usize) -> Vec<u8> {
    let mut bytes = vec![if six { 128 } else { 8 }, 0, 0, 0];
    bytes.extend_from_slice(&id.to_be_bytes());
    bytes.extend_from_slice(&number.to_be_bytes()[6..]);
    let time = now_ns.to_be_bytes();
    bytes.extend(
        (0..size).map(|at| time.get(at).copied().unwrap_or(u8::try_from(at % 256).unwrap_or_default())),
    );
    // Of ICMPv6 the kernel writes the sum itself: it goes over the addresses too.
    let sum = if six { 0 } else { checksum(&bytes) };
    bytes[2..4].copy_from_slice(&sum.to_be_bytes());
    bytes
}

fn answer(packet: &[u8], six: bool, raw: bool, id: u16) -> Option<Answer> {
    let (mut icmp, mut hops) = (packet, None);
    if raw && !six {
        // An IPv4 head of so many words comes first.
        let length = usize::from(packet.first()? & 15) * 4;
        hops = packet.get(8).copied();
        icmp = packet.get(length..)?;
    }
    let (head, data) = icmp.split_at_checked(HEAD)?;
    let ours = !raw || head[4..6] == id.to_be_bytes();
    if head[0] != (if six { 129 } else { 0 }) || !ours {
        return None;
    }
    let number = u64::from(u16::from_be_bytes([head[6], head[7]]));
    let sent_ns = data.first_chunk().map_or_else(monotonic_ns, |time| u64::from_be_bytes(*time));
    Some(Answer { number, sent_ns, bytes: icmp.len(), hops })
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let words =
        bytes.chunks(2).map(|two| u32::from(two[0]) << 8 | u32::from(two.get(1).copied().unwrap_or(0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(line: &[&str]) -> Result<Wish, Failed> {
        Wish::read(["ping"].iter().chain(line).map(OsString::from).collect(), Want::Any)
    }

    #[test]
    fn a_question_adds_up_and_its_answer_is_known_again() {
        let asked = question(false, 7, 300, 123_456, 56);
        assert_eq!((asked.len(), checksum(&asked)), (64, 0));
        let mut back = asked.clone();
        back[0] = 0;
        let ip = [&[0x45, 0, 0, 0, 0, 0, 0, 0, 61][..], &[0; 11], &back].concat();
        let found = answer(&ip, false, true, 7).unwrap();
        assert_eq!(found, Answer { number: 300, sent_ns: 123_456, bytes: 64, hops: Some(61) });
        assert_eq!(answer(&ip, false, true, 8), None, "another ping's");
        assert_eq!(answer(&asked, false, false, 7), None, "a question, not an answer");
        for cut in 0..ip.len() {
            let _must_not_panic = answer(&ip[..cut], false, true, 7);
        }
        assert_eq!(checksum(&[1]), !0x100);
    }

    #[test]
    fn the_sum_is_told_as_scripts_read_it() {
        let mut seen = Seen { sent: 4, ..Seen::default() };
        assert!(seen.take(1, 1_000_000) && seen.take(2, 3_000_000) && !seen.take(2, 9_000_000));
        let mut out = Vec::new();
        seen.sum(&mut out, "a.example", 5_000_000).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(
            text.contains("4 packets transmitted, 2 received, +1 duplicates, 50% packet loss, time 5ms"),
            "{text}"
        );
        assert!(text.ends_with("rtt min/avg/max = 1.000/2.000/3.000 ms\n"), "{text}");
        assert_eq!(
            [10_000, 1_234_000, 12_340_000, 123_400_000].map(milliseconds),
            ["0.010 ms", "1.23 ms", "12.3 ms", "123 ms"]
        );
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for line in
            [&["-c", "0", "a"][..], &["-s", "70000", "a"], &["-i", "-1", "a"], &[], &["a", "b"], &["-z", "a"]]
        {
            assert_eq!(wish(line).unwrap_err().code, 2, "{line:?}");
        }
        assert_eq!(wish(&["-c3", "-i", "0.5", "a"]).unwrap().every_ns, SECOND_NS / 2);
    }

    /// Needs root: in a network namespace of its own.
    #[test]
    fn loopback_answers_and_nobody_else_does() {
        let thread = std::thread::spawn(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            octant_sys::netlink::loopback_up().unwrap();
            for ip in ["127.0.0.1", "::1"] {
                let mut out = Vec::new();
                let code = wish(&["-c", "2", "-i", "0.01", "-W", "20", ip]).unwrap().run(&mut out);
                let text = String::from_utf8(out).unwrap();
                assert_eq!(code.map_err(|failed| failed.why), Ok(0), "{text}");
                assert!(text.contains("2 packets transmitted, 2 received, 0% packet loss"), "{text}");
                assert!(text.contains(": icmp_seq=2"), "{text}");
            }
            let unreachable = wish(&["-c", "1", "-W", "1", "192.0.2.1"]).unwrap().run(&mut Vec::new());
            assert!(unreachable.map_or_else(|failed| failed.code == 2, |code| code == 1));
        });
        thread.join().unwrap();
    }
}
