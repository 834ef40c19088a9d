//! `host`: asks name servers.

use super::options::Options;
use super::{Failed, ended, failed};
use crate::output::{help_or_version, print};
use octant_net::names::rr::{Name, RData, Record, RecordType};
use octant_net::names::{NameError, Names, Want, reverse};
use std::ffi::OsString;
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

const HELP: &str = "\
Usage: host [-a] [-t TYPE] [-v] [-W SECONDS] [-R TRIES] NAME [SERVER]
Ask name servers for a name's addresses and mail servers, or for the name of an address.

  -t TYPE       another kind of record: A, AAAA, CNAME, MX, NS, PTR, SOA, SRV, TXT, ...
  -a            records of every kind
  -v            as records are written, with their times
  -W SECONDS    how long one server may take (3)
  -R TRIES      how often the servers are asked (2)

SERVER is an address or a name, with a port behind # where it is not 53. Without it, /etc/resolv.conf says who is asked.
/etc/hosts is not looked at. Exit code 1: there is no such name, or no answer.
";

pub(crate) fn host(arguments: Vec<OsString>) -> i32 {
    help_or_version(&arguments, "host", HELP).unwrap_or_else(|| ended("host", run(arguments)))
}

fn run(arguments: Vec<OsString>) -> Result<i32, Failed> {
    let options = Options::read(arguments, "at:vW:R:", &[("type", 't')]).map_err(|why| failed(1, why))?;
    let [asked, server @ ..] = &options.operands[..] else {
        return Err(failed(1, "a name is missing; see --help"));
    };
    let mut names = Names::system();
    names.wait = Duration::from_secs(options.number('W', 3_u64).map_err(|why| failed(1, why))?.clamp(1, 60));
    names.tries = options.number('R', 2).map_err(|why| failed(1, why))?;
    match server {
        [] => {}
        [server] => names.servers = servers(&names, server)?,
        [_, _, ..] => return Err(failed(1, "one server at most; see --help")),
    }
    let (name, kinds) = what(asked, &options)?;
    let (mut out, mut last) = (String::new(), None);
    for name in candidates(&names, asked, &name) {
        for kind in &kinds {
            match names.ask(&name, *kind) {
                Ok(answer) => {
                    out.extend(answer.answers.iter().map(|record| line(record, options.has('v'))));
                }
                Err(error) => last = Some(error),
            }
        }
        if !out.is_empty() {
            return Ok(print("host", &out));
        }
    }
    Err(match last {
        Some(NameError::Absent(name)) => failed(1, format_args!("Host {name} not found: 3(NXDOMAIN)")),
        Some(error) => failed(1, error),
        None => failed(
            1,
            format_args!(
                "{asked} has no {} record",
                kinds.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
            ),
        ),
    })
}

/// The name to ask for, and which records.
fn what(asked: &str, options: &Options) -> Result<(String, Vec<RecordType>), Failed> {
    let kind = match options.value('t') {
        None => None,
        Some(text) => {
            let kind = text.to_ascii_uppercase().parse::<RecordType>();
            Some(kind.map_err(|_| failed(1, format_args!("there is no kind of record {text:?}")))?)
        }
    };
    let ip = asked.parse::<IpAddr>();
    let kinds = match (kind, &ip) {
        (Some(kind), _) => vec![kind],
        (None, _) if options.has('a') => vec![RecordType::ANY],
        (None, Ok(_)) => vec![RecordType::PTR],
        (None, Err(_)) => vec![RecordType::A, RecordType::AAAA, RecordType::MX],
    };
    Ok((ip.map_or_else(|_| asked.to_owned(), reverse), kinds))
}

fn candidates(names: &Names, asked: &str, name: &str) -> Vec<String> {
    let below =
        names.search.iter().filter(|_| !asked.contains(['.', ':'])).map(|domain| format!("{asked}.{domain}"));
    below.chain([name.to_owned()]).collect()
}

fn servers(names: &Names, text: &str) -> Result<Vec<SocketAddr>, Failed> {
    let (host, port) = text.split_once('#').map_or((text, Ok(53)), |(host, port)| (host, port.parse()));
    let port = port.map_err(|_| failed(1, format_args!("{text:?}: the port behind # is no number")))?;
    let found = names.addresses(host, Want::Any).map_err(|error| failed(1, error))?;
    Ok(found.into_iter().map(|ip| SocketAddr::from((ip, port))).collect())
}

fn line(record: &Record, long: bool) -> String {
    let mut out = String::new();
    let owner = bare(&record.name);
    if long {
        let _ = writeln!(
            out,
            "{owner}.\t{}\t{}\t{}\t{}",
            record.ttl,
            record.dns_class,
            record.record_type(),
            record.data
        );
        return out;
    }
    let _ = match &record.data {
        RData::A(a) => writeln!(out, "{owner} has address {}", a.0),
        RData::AAAA(aaaa) => writeln!(out, "{owner} has IPv6 address {}", aaaa.0),
        RData::CNAME(name) => writeln!(out, "{owner} is an alias for {}.", bare(&name.0)),
        RData::PTR(name) => writeln!(out, "{owner} domain name pointer {}.", bare(&name.0)),
        RData::NS(name) => writeln!(out, "{owner} name server {}.", bare(&name.0)),
        RData::MX(mx) => writeln!(out, "{owner} mail is handled by {mx}"),
        RData::TXT(text) => writeln!(out, "{owner} descriptive text \"{}\"", text.to_string().escape_debug()),
        data => {
            writeln!(out, "{owner} has {} record {}", record.record_type(), data.to_string().escape_debug())
        }
    };
    out
}

/// Without the dot at its end, and nothing in it that is not printed.
fn bare(name: &Name) -> String {
    let text = name.to_ascii();
    if text == "." { text } else { text.trim_end_matches('.').to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use octant_net::names::op::Message;
    use octant_net::names::rr::rdata::{A, CNAME};
    use std::net::UdpSocket;

    fn record(owner: &str, data: RData) -> Record {
        Record::from_rdata(owner.parse().unwrap(), 60, data)
    }

    #[test]
    fn records_are_told_as_host_tells_them() {
        let address = record("a.example.", RData::A(A::new(192, 0, 2, 1)));
        assert_eq!(line(&address, false), "a.example has address 192.0.2.1\n");
        assert_eq!(line(&address, true), "a.example.\t60\tIN\tA\t192.0.2.1\n");
        let alias = record("b.example.", RData::CNAME(CNAME("a.example.".parse().unwrap())));
        assert_eq!(line(&alias, false), "b.example is an alias for a.example.\n");
    }

    #[test]
    fn what_is_asked_follows_from_what_was_given() {
        let options = |line: &[&str]| {
            let line = ["host"].iter().chain(line).map(OsString::from).collect();
            Options::read(line, "at:vW:R:", &[]).unwrap()
        };
        assert_eq!(
            what("192.0.2.1", &options(&[])).unwrap(),
            ("1.2.0.192.in-addr.arpa".into(), vec![RecordType::PTR])
        );
        assert_eq!(what("a.example", &options(&["-t", "txt"])).unwrap().1, [RecordType::TXT]);
        assert!(what("a.example", &options(&["-t", "nonsense"])).is_err());
    }

    #[test]
    fn a_server_on_another_port_is_asked() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = server.local_addr().unwrap().port();
        let answering = std::thread::spawn(move || {
            let mut buffer = [0; 512];
            for _ in 0..3 {
                let (length, from) = server.recv_from(&mut buffer).unwrap();
                let asked = Message::from_vec(&buffer[..length]).unwrap();
                let mut answer = asked.clone().into_response();
                if asked.queries[0].query_type() == RecordType::A {
                    answer.add_answer(record("a.example.", RData::A(A::new(192, 0, 2, 1))));
                }
                server.send_to(&answer.to_vec().unwrap(), from).unwrap();
            }
        });
        let line = ["host", "-W", "20", "a.example", &format!("127.0.0.1#{port}")].map(OsString::from);
        assert_eq!(run(line.to_vec()).map_err(|failed| failed.why), Ok(0));
        answering.join().unwrap();
    }
}
