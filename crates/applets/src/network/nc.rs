//! `nc`: bytes to and from a socket.

use super::options::Options;
use super::{Failed, ended, failed};
use crate::output::{complain, help_or_version};
use octant_net::names::{Names, Want};
use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::time::Duration;

const HELP: &str = "\
Usage: nc [OPTION]... HOST PORT[-PORT]
       nc -l [OPTION]... [HOST] PORT
       nc -U [-l] PATH
Copy standard input to a connection, and what comes from it to standard output.

  -l            wait for a connection instead of making one
  -p PORT       from this port; with -l, on it
  -s ADDRESS    from this address of the machine
  -k            with -l: wait for the next one when one has ended
  -u            UDP
  -U            a Unix socket
  -z            only look whether somebody listens
  -w SECONDS    how long a connection may take to come about, and to be silent
  -N            accepted: the end of standard input always ends this way of the connection
  -v            say what happens
  -4, -6        only IPv4, only IPv6
  -n            HOST is an address, and no name is asked for
";
/// How much is copied at once; the longest datagram.
const BUFFER: usize = 64 << 10;
/// How long a scan waits for one port.
const SCAN_WAIT: Duration = Duration::from_secs(5);

pub(crate) fn nc(arguments: Vec<OsString>) -> i32 {
    help_or_version(&arguments, "nc", HELP).unwrap_or_else(|| ended("nc", run(arguments)))
}

fn run(arguments: Vec<OsString>) -> Result<i32, Failed> {
    let options = Options::read(arguments, "lp:s:kuUzw:Nvq:46n", &[]).map_err(|why| failed(1, why))?;
    let wait =
        options.value('w').map(|_| options.number('w', 0_u64)).transpose().map_err(|why| failed(1, why))?;
    let wait = wait.filter(|wait| *wait > 0).map(Duration::from_secs);
    if options.has('U') {
        return unix(&options, wait);
    }
    let (host, ports) = place(&options)?;
    let run = Run { options: &options, wait };
    if options.has('l') {
        let [port] = ports[..] else { return Err(failed(1, "one port to listen on")) };
        let any: IpAddr =
            if options.has('6') { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
        let at = host.map_or(Ok(any), |host| run.address(&host).map(|all| all[0]))?;
        return run.listen(SocketAddr::from((at, port)));
    }
    let host = host.ok_or_else(|| failed(1, "a host is missing; see --help"))?;
    let addresses = run.address(&host)?;
    if !options.has('z') {
        let [port] = ports[..] else { return Err(failed(1, "one port, unless -z only looks")) };
        return run.connect(&addresses, port);
    }
    let mut found = false;
    for port in ports {
        found |= run.scan(&addresses, port);
    }
    Ok(i32::from(!found))
}

/// Host and ports as they stand on the command line.
fn place(options: &Options) -> Result<(Option<String>, Vec<u16>), Failed> {
    let listen = options.has('l');
    let (host, port) = match (&options.operands[..], options.value('p')) {
        ([], Some(port)) if listen => (None, port),
        ([host], Some(port)) if listen => (Some(host.clone()), port),
        ([port], None) if listen => (None, port.as_str()),
        ([host, port], _) => (Some(host.clone()), port.as_str()),
        _ => return Err(failed(1, "a host and a port are wanted; see --help")),
    };
    let wrong = || failed(1, format_args!("{port:?} is no port"));
    let (first, last) = port.split_once('-').unwrap_or((port, port));
    let (first, last): (u16, u16) = (first.parse().map_err(|_| wrong())?, last.parse().map_err(|_| wrong())?);
    if first > last || first == 0 {
        return Err(wrong());
    }
    Ok((host, (first..=last).collect()))
}

struct Run<'a> {
    options: &'a Options,
    wait: Option<Duration>,
}

impl Run<'_> {
    fn say(&self, text: &str) {
        if self.options.has('v') {
            complain("nc", &text);
        }
    }

    fn address(&self, host: &str) -> Result<Vec<IpAddr>, Failed> {
        let want = match (self.options.has('4'), self.options.has('6')) {
            (true, false) => Want::V4,
            (false, true) => Want::V6,
            _ => Want::Any,
        };
        if self.options.has('n') && host.parse::<IpAddr>().is_err() {
            return Err(failed(1, format_args!("{host:?} is no address, and -n asks for no names")));
        }
        Names::system().addresses(host, want).map_err(|error| failed(1, error))
    }

    fn stream(&self, addresses: &[IpAddr], port: u16, wait: Option<Duration>) -> Result<TcpStream, Failed> {
        let mut last = failed(1, "there is no address");
        for ip in addresses {
            let at = SocketAddr::from((*ip, port));
            match self.stream_to(at, wait) {
                Ok(stream) => {
                    self.say(&format!("connection to {at} succeeded"));
                    return Ok(stream);
                }
                Err(error) => last = failed(1, format_args!("connect to {at}: {error}")),
            }
        }
        Err(last)
    }

    fn stream_to(&self, at: SocketAddr, wait: Option<Duration>) -> io::Result<TcpStream> {
        if self.options.value('p').is_none() && self.options.value('s').is_none() {
            return wait.map_or_else(|| TcpStream::connect(at), |wait| TcpStream::connect_timeout(&at, wait));
        }
        // The standard library cannot say from where.
        use nix::sys::socket::{
            AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, setsockopt, socket, sockopt,
        };
        use std::os::fd::AsRawFd;
        let family = if at.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let fd = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
        setsockopt(&fd, sockopt::ReuseAddr, &true)?;
        bind(fd.as_raw_fd(), &SockaddrStorage::from(self.from(at)?))?;
        connect(fd.as_raw_fd(), &SockaddrStorage::from(at))?;
        Ok(TcpStream::from(fd))
    }

    /// From where, when -p or -s say it.
    fn from(&self, to: SocketAddr) -> io::Result<SocketAddr> {
        let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidInput, format!("{what} is wrong"));
        let any: IpAddr =
            if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let ip = self.options.value('s').map_or(Ok(any), |text| text.parse().map_err(|_| wrong("-s")))?;
        let port = self.options.number('p', 0).map_err(|_| wrong("-p"))?;
        Ok(SocketAddr::from((ip, port)))
    }

    fn connect(&self, addresses: &[IpAddr], port: u16) -> Result<i32, Failed> {
        if self.options.has('u') {
            let at = SocketAddr::from((addresses[0], port));
            let socket = self
                .from(at)
                .and_then(UdpSocket::bind)
                .and_then(|socket| socket.connect(at).map(|()| socket));
            let socket = socket.map_err(|error| failed(1, format_args!("{at}: {error}")))?;
            return self.datagrams(&Arc::new(socket));
        }
        let stream = self.stream(addresses, port, self.wait)?;
        self.copy(Stream::Tcp(stream)).map(|()| 0)
    }

    /// Whether somebody listens. Of UDP that is known only where the host says that nobody does.
    fn scan(&self, addresses: &[IpAddr], port: u16) -> bool {
        let wait = self.wait.unwrap_or(SCAN_WAIT);
        if !self.options.has('u') {
            return match self.stream(addresses, port, Some(wait)) {
                Ok(_) => true,
                Err(failed) => {
                    self.say(&failed.why);
                    false
                }
            };
        }
        let ask = |at: SocketAddr| -> io::Result<()> {
            let socket = UdpSocket::bind(self.from(at)?)?;
            socket.connect(at)?;
            socket.set_read_timeout(Some(wait.min(Duration::from_secs(1))))?;
            socket.send(b"\n")?;
            match socket.recv(&mut [0; 1]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
                other => other.map(drop),
            }
        };
        let at = SocketAddr::from((addresses[0], port));
        let asked = ask(at);
        self.say(&match &asked {
            Ok(()) => format!("{at}: nobody says that it is closed"),
            Err(error) => format!("{at}: {error}"),
        });
        asked.is_ok()
    }

    fn listen(&self, at: SocketAddr) -> Result<i32, Failed> {
        let on = |error: io::Error| failed(1, format_args!("listen on {at}: {error}"));
        if self.options.has('u') {
            let socket = Arc::new(UdpSocket::bind(at).map_err(on)?);
            self.say(&format!("listening on {at}"));
            // Whoever speaks first is whom the answers go to.
            let mut first = vec![0; BUFFER];
            let (length, from) = socket.recv_from(&mut first).map_err(on)?;
            socket.connect(from).map_err(on)?;
            self.say(&format!("{from} speaks"));
            io::stdout()
                .write_all(&first[..length])
                .map_err(|error| failed(1, format_args!("standard output: {error}")))?;
            return self.datagrams(&socket);
        }
        let listener = TcpListener::bind(at).map_err(on)?;
        self.say(&format!("listening on {at}"));
        loop {
            let (stream, from) = listener.accept().map_err(on)?;
            self.say(&format!("connection from {from}"));
            let done = self.copy(Stream::Tcp(stream));
            if !self.options.has('k') {
                return done.map(|()| 0);
            }
            if let Err(failed) = done {
                complain("nc", &failed.why);
            }
        }
    }

    /// Both ways, until the other end has said everything. Standard input is read by a thread that nobody waits for: it may
    /// never end.
    fn copy(&self, stream: Stream) -> Result<(), Failed> {
        let broken = |error: io::Error| failed(1, format_args!("connection: {error}"));
        stream.set_timeout(self.wait).map_err(broken)?;
        let mut writing = stream.try_clone().map_err(broken)?;
        std::thread::spawn(move || {
            let mut buffer = vec![0; BUFFER];
            while let Ok(length) = io::stdin().read(&mut buffer) {
                if length == 0 || writing.write_all(&buffer[..length]).is_err() {
                    break;
                }
            }
            // The other end may be gone, which its reader says.
            let _gone = writing.end();
        });
        let (mut reading, mut buffer, mut out) = (stream, vec![0; BUFFER], io::stdout());
        loop {
            match reading.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(length) => {
                    let written = out.write_all(&buffer[..length]).and_then(|()| out.flush());
                    written.map_err(|error| failed(1, format_args!("standard output: {error}")))?;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(failed(1, "the connection was silent for too long"));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(broken(error)),
            }
        }
    }

    fn datagrams(&self, socket: &Arc<UdpSocket>) -> Result<i32, Failed> {
        let broken = |error: io::Error| failed(1, format_args!("socket: {error}"));
        socket.set_read_timeout(self.wait).map_err(broken)?;
        let sending = Arc::clone(socket);
        std::thread::spawn(move || {
            let mut buffer = vec![0; BUFFER];
            while let Ok(length) = io::stdin().read(&mut buffer) {
                // Refused is what one question was; the next may be heard.
                if length == 0
                    || sending
                        .send(&buffer[..length])
                        .is_err_and(|error| error.kind() != io::ErrorKind::ConnectionRefused)
                {
                    break;
                }
            }
        });
        let (mut buffer, mut out) = (vec![0; BUFFER], io::stdout());
        loop {
            match socket.recv(&mut buffer) {
                Ok(length) => {
                    let written = out.write_all(&buffer[..length]).and_then(|()| out.flush());
                    written.map_err(|error| failed(1, format_args!("standard output: {error}")))?;
                }
                // Datagrams have no end: silence is it.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(0),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(broken(error)),
            }
        }
    }
}

fn unix(options: &Options, wait: Option<Duration>) -> Result<i32, Failed> {
    let [path] = &options.operands[..] else { return Err(failed(1, "one path is wanted; see --help")) };
    let run = Run { options, wait };
    let at = |error: io::Error| failed(1, format_args!("{path}: {error}"));
    if !options.has('l') {
        let stream = UnixStream::connect(path).map_err(at)?;
        return if options.has('z') { Ok(0) } else { run.copy(Stream::Unix(stream)).map(|()| 0) };
    }
    let listener = UnixListener::bind(path).map_err(at)?;
    loop {
        let (stream, _) = listener.accept().map_err(at)?;
        let done = run.copy(Stream::Unix(stream));
        if !options.has('k') {
            std::fs::remove_file(path).map_err(at)?;
            return done.map(|()| 0);
        }
    }
}

/// A connection of either kind.
enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    fn try_clone(&self) -> io::Result<Self> {
        match self {
            Self::Tcp(stream) => stream.try_clone().map(Self::Tcp),
            Self::Unix(stream) => stream.try_clone().map(Self::Unix),
        }
    }

    fn set_timeout(&self, wait: Option<Duration>) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_read_timeout(wait),
            Self::Unix(stream) => stream.set_read_timeout(wait),
        }
    }

    fn end(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Self::Unix(stream) => stream.shutdown(Shutdown::Write),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(line: &[&str]) -> Result<i32, Failed> {
        run(["nc"].iter().chain(line).map(OsString::from).collect())
    }

    #[test]
    fn where_to_is_read_in_every_form() {
        let read = |line: &[&str]| {
            let line = ["nc"].iter().chain(line).map(OsString::from).collect();
            place(&Options::read(line, "lp:s:kuUzw:Nvq:46n", &[]).unwrap())
        };
        assert_eq!(read(&["a", "80"]).unwrap(), (Some("a".into()), vec![80]));
        assert_eq!(read(&["-z", "a", "80-82"]).unwrap().1, [80, 81, 82]);
        for line in [&["-l", "-p", "80"][..], &["-lp80"], &["-l", "80"]] {
            assert_eq!(read(line).unwrap(), (None, vec![80]), "{line:?}");
        }
        assert_eq!(read(&["-l", "127.0.0.1", "80"]).unwrap().0.as_deref(), Some("127.0.0.1"));
        for line in [&["a"][..], &["a", "0"], &["a", "9-8"], &["a", "x"], &["a", "65536"], &[]] {
            assert!(read(line).is_err(), "{line:?}");
        }
    }

    #[test]
    fn a_scan_says_by_its_code_whether_somebody_listens() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port().to_string();
        assert_eq!(call(&["-z", "127.0.0.1", &port]).map_err(|failed| failed.why), Ok(0));
        drop(listener);
        assert_eq!(call(&["-z", "127.0.0.1", &port]).map_err(|failed| failed.why), Ok(1));
        assert!(call(&["-n", "-z", "a.example", &port]).unwrap_err().why.contains("no address"));
    }
}
