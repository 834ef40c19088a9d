//! Names: /etc/hosts and the name servers of /etc/resolv.conf, asked by UDP and, for long answers, by TCP. One question after
//! the other, without threads and without the C library, for utilities that live as long as one answer.

use hickory_proto::op::{Message, MessageType, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::time::Duration;

pub use hickory_proto::op;
pub use hickory_proto::rr;

/// The port of name servers.
const PORT: u16 = 53;
/// What is read of either file at most.
const FILE_MAX: u64 = 1 << 20;
/// The longest answer by UDP that is read.
const DATAGRAM_MAX: usize = 4_096;
/// How many datagrams that answer another question are thrown away before a server counts as silent.
const STRAY_MAX: u32 = 16;
const SERVERS_MAX: usize = 3;
const SEARCH_MAX: usize = 6;

/// Why a name has no answer.
#[derive(Debug, thiserror::Error)]
pub enum NameError {
    /// It cannot be a name.
    #[error("{0:?} is no name")]
    NoName(String),
    /// The servers say that there is no such name.
    #[error("there is no name {0}")]
    Absent(String),
    /// It exists, and has no address of the wanted kind.
    #[error("{0} has no such address")]
    NoAddress(String),
    /// A server refuses or fails.
    #[error("{server} says {code} to {name}")]
    Refused {
        /// The name.
        name: String,
        /// The server.
        server: SocketAddr,
        /// What it says.
        code: ResponseCode,
    },
    /// No server has answered.
    #[error("no name server has answered for {name}: {last}")]
    Silent {
        /// The name.
        name: String,
        /// What the last one's failure was.
        last: io::Error,
    },
    /// Nobody can be asked.
    #[error("/etc/resolv.conf names no name server")]
    NoServer,
}

/// Who knows names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// The servers, asked in this order.
    pub servers: Vec<SocketAddr>,
    /// Below which names names without a dot are looked for.
    pub search: Vec<String>,
    /// What /etc/hosts says.
    hosts: Vec<(IpAddr, Vec<String>)>,
    /// How long one server may take.
    pub wait: Duration,
    /// How often all of them are asked.
    pub tries: u32,
}

/// Which kinds of address are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Want {
    /// Both, those of IPv4 first.
    #[default]
    Any,
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Want {
    /// Whether an address is of that kind.
    #[must_use]
    pub fn is(self, ip: IpAddr) -> bool {
        match self {
            Self::Any => true,
            Self::V4 => ip.is_ipv4(),
            Self::V6 => ip.is_ipv6(),
        }
    }
}

impl Names {
    /// As this system's files say.
    #[must_use]
    pub fn system() -> Self {
        Self::of(&text(Path::new("/etc/resolv.conf")), &text(Path::new("/etc/hosts")))
    }

    /// These servers, and no files.
    #[must_use]
    pub fn of_servers(servers: &[IpAddr]) -> Self {
        let servers = servers.iter().map(|ip| SocketAddr::from((*ip, PORT))).collect();
        Self { servers, wait: Duration::from_secs(3), tries: 2, ..Self::default() }
    }

    fn of(resolv: &str, hosts: &str) -> Self {
        let mut names = Self::of_servers(&[]);
        for line in resolv.lines() {
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                Some("nameserver") => {
                    let ip = words.next().and_then(|word| word.parse::<IpAddr>().ok());
                    names.servers.extend(ip.map(|ip| SocketAddr::from((ip, PORT))));
                }
                Some("search" | "domain") => {
                    names.search = words.take(SEARCH_MAX).map(str::to_owned).collect();
                }
                _ => {}
            }
        }
        names.servers.truncate(SERVERS_MAX);
        for line in hosts.lines() {
            let line = line.split('#').next().unwrap_or_default();
            let mut words = line.split_ascii_whitespace();
            if let Some(Ok(ip)) = words.next().map(str::parse) {
                names.hosts.push((ip, words.map(str::to_ascii_lowercase).collect()));
            }
        }
        names
    }

    /// The addresses of a host: it may be an address itself.
    ///
    /// # Errors
    /// [`NameError`].
    pub fn addresses(&self, host: &str, want: Want) -> Result<Vec<IpAddr>, NameError> {
        let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        if let Ok(ip) = bare.parse::<IpAddr>() {
            return if want.is(ip) { Ok(vec![ip]) } else { Err(NameError::NoAddress(host.to_owned())) };
        }
        let lower = host.to_ascii_lowercase();
        let known = self.hosts.iter().filter(|(ip, names)| want.is(*ip) && names.contains(&lower));
        let mut found: Vec<IpAddr> = known.map(|(ip, _)| *ip).collect();
        if found.is_empty() && (lower == "localhost" || lower.ends_with(".localhost")) {
            found = vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
            found.retain(|ip| want.is(*ip));
        }
        if !found.is_empty() {
            return Ok(found);
        }
        let mut last = NameError::NoAddress(host.to_owned());
        for name in self.candidates(host) {
            match self.asked_addresses(&name, want) {
                Ok(found) => return Ok(found),
                Err(error @ (NameError::Absent(_) | NameError::NoAddress(_))) => last = error,
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }

    /// A name without a dot is looked for below the search domains first.
    fn candidates(&self, host: &str) -> Vec<String> {
        let below =
            self.search.iter().filter(|_| !host.contains('.')).map(|domain| format!("{host}.{domain}"));
        below.chain([host.to_owned()]).collect()
    }

    fn asked_addresses(&self, name: &str, want: Want) -> Result<Vec<IpAddr>, NameError> {
        let kinds: &[RecordType] = match want {
            Want::Any => &[RecordType::A, RecordType::AAAA],
            Want::V4 => &[RecordType::A],
            Want::V6 => &[RecordType::AAAA],
        };
        let (mut found, mut failed) = (Vec::new(), None);
        for kind in kinds {
            match self.ask(name, *kind) {
                Ok(answer) => found.extend(answer.answers.iter().filter_map(|record| match &record.data {
                    RData::A(a) => Some(IpAddr::from(a.0)),
                    RData::AAAA(aaaa) => Some(IpAddr::from(aaaa.0)),
                    _ => None,
                })),
                Err(error) => failed = Some(error),
            }
        }
        match failed {
            _ if !found.is_empty() => Ok(found),
            Some(error) => Err(error),
            None => Err(NameError::NoAddress(name.to_owned())),
        }
    }

    /// Asks for one kind of record of exactly this name.
    ///
    /// # Errors
    /// [`NameError`]; an answer without records of that kind is none.
    pub fn ask(&self, name: &str, kind: RecordType) -> Result<Message, NameError> {
        let mut asked: Name = name.parse().map_err(|_| NameError::NoName(name.to_owned()))?;
        asked.set_fqdn(true);
        if self.servers.is_empty() {
            return Err(NameError::NoServer);
        }
        let mut last = Err(NameError::NoServer);
        for _ in 0..self.tries.max(1) {
            for server in &self.servers {
                last = match self.ask_one(*server, &asked, kind) {
                    Err(last) => Err(NameError::Silent { name: name.to_owned(), last }),
                    Ok(answer) => match answer.metadata.response_code {
                        ResponseCode::NoError => return Ok(answer),
                        ResponseCode::NXDomain => return Err(NameError::Absent(name.to_owned())),
                        code => Err(NameError::Refused { name: name.to_owned(), server: *server, code }),
                    },
                };
            }
        }
        last
    }

    fn ask_one(&self, server: SocketAddr, name: &Name, kind: RecordType) -> io::Result<Message> {
        let mut question = Message::query();
        question.metadata.recursion_desired = true;
        question.add_query(Query::query(name.clone(), kind));
        let bytes = question.to_vec().map_err(io::Error::other)?;
        let any: IpAddr =
            if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind((any, 0))?;
        // Connected: what others send to this port is not heard.
        socket.connect(server)?;
        socket.set_read_timeout(Some(self.wait))?;
        socket.send(&bytes)?;
        let mut buffer = [0; DATAGRAM_MAX];
        for _ in 0..STRAY_MAX {
            let length = socket.recv(&mut buffer).map_err(silent)?;
            let Ok(answer) = Message::from_vec(&buffer[..length]) else { continue };
            if !belongs(&answer, &question) {
                continue;
            }
            return if answer.metadata.truncation {
                self.by_tcp(server, &question, &bytes)
            } else {
                Ok(answer)
            };
        }
        Err(io::Error::other("it answers what was not asked"))
    }

    fn by_tcp(&self, server: SocketAddr, question: &Message, bytes: &[u8]) -> io::Result<Message> {
        let mut stream = TcpStream::connect_timeout(&server, self.wait).map_err(silent)?;
        stream.set_read_timeout(Some(self.wait))?;
        stream.set_write_timeout(Some(self.wait))?;
        let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
        stream.write_all(&[&length.to_be_bytes(), bytes].concat())?;
        let mut length = [0; 2];
        stream.read_exact(&mut length).map_err(silent)?;
        let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut answer).map_err(silent)?;
        let answer = Message::from_vec(&answer).map_err(io::Error::other)?;
        if belongs(&answer, question) {
            Ok(answer)
        } else {
            Err(io::Error::other("it answers what was not asked"))
        }
    }
}

/// Whether an answer is one to this question: not another's, and not one that somebody guessed.
fn belongs(answer: &Message, question: &Message) -> bool {
    answer.metadata.id == question.metadata.id
        && answer.metadata.message_type == MessageType::Response
        && answer.queries == question.queries
}

/// A time-out has an odd name where sockets wait (EAGAIN).
fn silent(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::WouldBlock { io::ErrorKind::TimedOut.into() } else { error }
}

/// The name under which an address is asked for (RFC 1035, 3.5; RFC 3596, 2.5).
#[must_use]
pub fn reverse(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(v6) => {
            let digits =
                v6.octets().into_iter().rev().map(|byte| format!("{:x}.{:x}.", byte & 15, byte >> 4));
            digits.collect::<String>() + "ip6.arpa"
        }
    }
}

/// A file as text; one that is not there says nothing.
fn text(path: &Path) -> String {
    let mut bytes = Vec::new();
    match std::fs::File::open(path).and_then(|file| file.take(FILE_MAX).read_to_end(&mut bytes)) {
        Ok(_) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(_) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::rr::Record;
    use hickory_proto::rr::rdata::A;
    use std::net::TcpListener;

    #[test]
    fn files_are_read_as_the_c_library_does() {
        let resolv =
            "# x\nsearch a.example b.example\nnameserver 192.0.2.53\nnameserver ::1\nnameserver bad\n";
        let names = Names::of(resolv, "127.0.0.1 localhost\n192.0.2.7 Box box.example # no.example\n");
        assert_eq!(names.servers, ["192.0.2.53:53".parse().unwrap(), "[::1]:53".parse().unwrap()]);
        let found = |host: &str| names.addresses(host, Want::Any).unwrap();
        assert_eq!(found("BOX"), [IpAddr::from([192, 0, 2, 7])]);
        assert_eq!(found("[2001:db8::1]"), ["2001:db8::1".parse::<IpAddr>().unwrap()]);
        assert_eq!(found("localhost"), [IpAddr::from([127, 0, 0, 1])]);
        assert!(matches!(names.addresses("192.0.2.1", Want::V6), Err(NameError::NoAddress(_))));
        assert_eq!(names.candidates("db"), ["db.a.example", "db.b.example", "db"]);
        assert_eq!(names.candidates("db.example"), ["db.example"]);
        assert!(matches!(Names::of("", "").addresses("x.example", Want::V4), Err(NameError::NoServer)));
    }

    #[test]
    fn addresses_have_names_to_ask_for_them() {
        assert_eq!(reverse("192.0.2.7".parse().unwrap()), "7.2.0.192.in-addr.arpa");
        assert!(reverse("2001:db8::7".parse().unwrap()).starts_with("7.0.0.0.0"));
        assert!(reverse("2001:db8::7".parse().unwrap()).ends_with("8.b.d.0.1.0.0.2.ip6.arpa"));
    }

    /// A server on loopback that answers as told; its port and what ends it.
    fn server(answers: impl Fn(&Message, bool) -> Vec<Message> + Send + 'static) -> Names {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let at = udp.local_addr().unwrap();
        let tcp = TcpListener::bind(at).unwrap();
        std::thread::spawn(move || {
            let mut buffer = [0; 512];
            let (length, from) = udp.recv_from(&mut buffer).unwrap();
            let asked = Message::from_vec(&buffer[..length]).unwrap();
            for answer in answers(&asked, false) {
                udp.send_to(&answer.to_vec().unwrap(), from).unwrap();
            }
            if let Ok((mut stream, _)) = tcp.accept() {
                let mut length = [0; 2];
                stream.read_exact(&mut length).unwrap();
                let mut bytes = vec![0; usize::from(u16::from_be_bytes(length))];
                stream.read_exact(&mut bytes).unwrap();
                for answer in answers(&Message::from_vec(&bytes).unwrap(), true) {
                    let bytes = answer.to_vec().unwrap();
                    let length = u16::try_from(bytes.len()).unwrap().to_be_bytes();
                    stream.write_all(&[&length[..], &bytes].concat()).unwrap();
                }
            }
        });
        Names { servers: vec![at], wait: Duration::from_secs(20), tries: 1, ..Names::default() }
    }

    fn answer(asked: &Message, last: u8) -> Message {
        let mut answer = asked.clone().into_response();
        let data = RData::A(A::new(192, 0, 2, last));
        answer.add_answer(Record::from_rdata(asked.queries[0].name().clone(), 60, data));
        answer
    }

    #[test]
    fn only_the_answer_to_the_question_is_heard_and_a_long_one_comes_by_tcp() {
        let names = server(|asked, tcp| {
            if tcp {
                return vec![answer(asked, 9)];
            }
            let (mut other_id, mut other_name, mut cut) =
                (answer(asked, 1), answer(asked, 2), answer(asked, 3));
            other_id.metadata.id ^= 1;
            other_name.queries[0].set_name("evil.example.".parse().unwrap());
            cut.metadata.truncation = true;
            vec![other_id, other_name, cut]
        });
        assert_eq!(names.addresses("a.example", Want::V4).unwrap(), [IpAddr::from([192, 0, 2, 9])]);
    }

    #[test]
    fn a_name_that_does_not_exist_is_said_so() {
        let names = server(|asked, _| {
            let mut answer = asked.clone().into_response();
            answer.metadata.response_code = ResponseCode::NXDomain;
            vec![answer]
        });
        assert!(
            matches!(names.addresses("a.example", Want::V4), Err(NameError::Absent(name)) if name == "a.example")
        );
    }
}
