//! `ss` and its old name `netstat`: which sockets there are.

use super::options::Options;
use super::{Failed, ended, failed};
use crate::output::{help_or_version, print};
use nix::libc;
use octant_net::kernel::Kernel;
use octant_net::sockets::{self, Internet, LISTEN, STATES, UNCONNECTED, Unix};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::net::{IpAddr, SocketAddr};

const HELP: &str = "\
Usage: ss [OPTION]...
Show sockets. Without -t, -u, -w or -x: all kinds.

  -t, --tcp         TCP
  -u, --udp         UDP
  -w, --raw         raw
  -x, --unix        Unix sockets
  -l, --listening   only those that wait for connections
  -a, --all         those as well
  -4, -6            only IPv4, only IPv6
  -p, --processes   which processes have them
  -e, --extended    their owner and inode
  -H, --no-header   no headings
  -n, --numeric     addresses and ports are always numbers: this changes nothing
  -o, -O, -i, -m    accepted, nothing is added
  -s, --summary     only how many there are
";
const LONG: [(&str, char); 13] = [
    ("tcp", 't'),
    ("udp", 'u'),
    ("raw", 'w'),
    ("unix", 'x'),
    ("listening", 'l'),
    ("all", 'a'),
    ("processes", 'p'),
    ("extended", 'e'),
    ("no-header", 'H'),
    ("numeric", 'n'),
    ("summary", 's'),
    ("ipv4", '4'),
    ("ipv6", '6'),
];
/// The kinds of a protocol of the Internet's families: option, name, IPPROTO_TCP and so on.
const PROTOCOLS: [(char, &str, u8); 3] = [('t', "tcp", 6), ('u', "udp", 17), ('w', "raw", 255)];

pub(crate) fn ss(arguments: Vec<OsString>) -> i32 {
    help_or_version(&arguments, "ss", HELP).unwrap_or_else(|| ended("ss", run(arguments)))
}

const NETSTAT_HELP: &str = "\
Usage: netstat [-tuwxlapneW46] | netstat -r | netstat -i
The old name of `ss`, `ip route` and `ip -s link`; the output is theirs.
";

pub(crate) fn netstat(arguments: Vec<OsString>) -> i32 {
    if let Some(code) = help_or_version(&arguments, "netstat", NETSTAT_HELP) {
        return code;
    }
    let letters = |letter: char| {
        let given = arguments.iter().skip(1).filter_map(|word| word.to_str()?.strip_prefix('-'));
        given.filter(|word| !word.starts_with('-')).any(|word| word.contains(letter))
    };
    let other = if letters('r') {
        Some(&["ip", "route"][..])
    } else if letters('i') {
        Some(&["ip", "-s", "link"][..])
    } else {
        None
    };
    match other {
        Some(line) => super::ip(line.iter().map(OsString::from).collect()),
        None => ended("netstat", run(arguments)),
    }
}

fn run(arguments: Vec<OsString>) -> Result<i32, Failed> {
    let options = Options::read(arguments, "tuwxlaepHnoOimsW46", &LONG).map_err(|why| failed(255, why))?;
    if !options.operands.is_empty() {
        return Err(failed(255, "filters are not known here; use grep"));
    }
    let kinds = "tuwx".chars().any(|letter| options.has(letter));
    let wanted = |letter| !kinds || options.has(letter);
    let (mut found, links) = (Vec::new(), links());
    for (letter, name, protocol) in PROTOCOLS.into_iter().filter(|(letter, ..)| wanted(*letter)) {
        let listed = sockets::internet(protocol, states(&options, letter))
            .map_err(|error| failed(1, format_args!("{name}: {error}")))?;
        let family = |socket: &Internet| match (options.has('4'), options.has('6')) {
            (true, false) => socket.local.is_ipv4(),
            (false, true) => socket.local.is_ipv6(),
            _ => true,
        };
        found.extend(listed.iter().filter(|socket| family(socket)).map(|socket| row(name, socket, &links)));
    }
    if wanted('x') && !options.has('4') && !options.has('6') {
        let listed = sockets::unix().map_err(|error| failed(1, format_args!("unix: {error}")))?;
        let shown = listed.iter().filter(|socket| match (options.has('l'), options.has('a')) {
            (_, true) => true,
            (true, false) => socket.state == LISTEN,
            (false, false) => socket.state != LISTEN,
        });
        found.extend(shown.map(unix_row));
    }
    if options.has('s') {
        return Ok(print("ss", &summary(&found)));
    }
    let owners = if options.has('p') { owners() } else { BTreeMap::new() };
    Ok(print("ss", &table(&found, &options, &owners)))
}

/// Which states are asked for, one bit each. Of what has no connections, what is bound counts as listening.
fn states(options: &Options, letter: char) -> u32 {
    let waiting = if letter == 't' { 1 << LISTEN } else { 1 << UNCONNECTED };
    // TIME-WAIT and SYN-RECV are nobody's sockets any more, or not yet; iproute2 leaves them out of its usual list.
    let connected = !(1 << LISTEN | 1 << UNCONNECTED | 1 << 6 | 1 << 3);
    match (options.has('l'), options.has('a')) {
        (_, true) => u32::MAX,
        (true, false) => waiting,
        (false, false) => connected,
    }
}

/// One line.
struct Row {
    kind: String,
    state: &'static str,
    queues: (u32, u32),
    local: String,
    peer: String,
    inode: u32,
    uid: Option<u32>,
}

fn row(kind: &str, socket: &Internet, links: &BTreeMap<u32, String>) -> Row {
    let shown = |at: SocketAddr, link: u32| {
        let link = links.get(&link).map_or_else(String::new, |name| format!("%{name}"));
        let port = if at.port() == 0 { "*".to_owned() } else { at.port().to_string() };
        match at.ip() {
            IpAddr::V4(v4) => format!("{v4}{link}:{port}"),
            IpAddr::V6(v6) => format!("[{v6}]{link}:{port}"),
        }
    };
    Row {
        kind: kind.to_owned(),
        state: STATES.get(usize::from(socket.state)).copied().unwrap_or("UNKNOWN"),
        queues: socket.queues,
        local: shown(socket.local, socket.link),
        peer: shown(socket.peer, 0),
        inode: socket.inode,
        uid: Some(socket.uid),
    }
}

fn unix_row(socket: &Unix) -> Row {
    let kind = match i32::from(socket.kind) {
        libc::SOCK_STREAM => "u_str",
        libc::SOCK_DGRAM => "u_dgr",
        libc::SOCK_SEQPACKET => "u_seq",
        _ => "u_unk",
    };
    let name = if socket.name.is_empty() { "*" } else { &socket.name };
    Row {
        kind: kind.to_owned(),
        state: STATES.get(usize::from(socket.state)).copied().unwrap_or("UNKNOWN"),
        queues: socket.queues,
        // A name may hold anything, also what would make two lines of one.
        local: format!("{} {}", name.escape_debug(), socket.inode),
        peer: format!("* {}", socket.peer),
        inode: socket.inode,
        uid: None,
    }
}

fn table(rows: &[Row], options: &Options, owners: &BTreeMap<u32, Vec<String>>) -> String {
    let head = ["Netid", "State", "Recv-Q", "Send-Q", "Local Address:Port", "Peer Address:Port", "Process"];
    let mut cells: Vec<[String; 7]> = Vec::new();
    if !options.has('H') {
        cells.push(head.map(str::to_owned));
    }
    for row in rows {
        let mut last =
            owners.get(&row.inode).map_or_else(String::new, |who| format!("users:({})", who.join(",")));
        if options.has('e') {
            if let Some(uid) = row.uid.filter(|uid| *uid > 0) {
                last.push_str(&format!(" uid:{uid}"));
            }
            last.push_str(&format!(" ino:{}", row.inode));
        }
        let (received, sent) = row.queues;
        let (received, sent) = (received.to_string(), sent.to_string());
        let last = last.trim_start().to_owned();
        cells.push([
            row.kind.clone(),
            row.state.into(),
            received,
            sent,
            row.local.clone(),
            row.peer.clone(),
            last,
        ]);
    }
    // One kind needs no column that says it.
    let kinds = "tuwx".chars().filter(|letter| options.has(*letter)).count();
    let first = usize::from(kinds == 1);
    let width = |column: usize| cells.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |row: &[String; 7]| {
        let columns = row.iter().zip(&widths).skip(first).map(|(cell, width)| format!("{cell:<width$}"));
        columns.collect::<Vec<_>>().join(" ").trim_end().to_owned() + "\n"
    };
    cells.iter().map(line).collect()
}

fn summary(rows: &[Row]) -> String {
    let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for row in rows {
        *counts.entry((&row.kind, row.state)).or_default() += 1;
    }
    counts.iter().map(|((kind, state), count)| format!("{kind} {state} {count}\n")).collect()
}

fn links() -> BTreeMap<u32, String> {
    // Without them the addresses are shown all the same.
    let links = Kernel::open().and_then(|kernel| kernel.links()).unwrap_or_default();
    links.into_iter().map(|link| (link.index, link.name)).collect()
}

/// Which processes have a socket, by its inode. What may not be looked at is left out, as iproute2 does.
fn owners() -> BTreeMap<u32, Vec<String>> {
    let mut all: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    let entries = |path: &str| fs::read_dir(path).into_iter().flatten().flatten();
    for process in entries("/proc") {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        for fd in entries(&format!("/proc/{pid}/fd")) {
            let target = fs::read_link(fd.path()).ok();
            let inode = target
                .as_ref()
                .and_then(|target| target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']'));
            if let Some(inode) = inode.and_then(|inode| inode.parse().ok()) {
                let number = fd.file_name();
                let who = format!("(\"{}\",pid={pid},fd={})", name.trim().escape_debug(), number.display());
                all.entry(inode).or_default().push(who);
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(line: &[&str]) -> Options {
        let line = ["ss"].iter().chain(line).map(OsString::from).collect();
        Options::read(line, "tuwxlaepHnoOimsW46", &LONG).unwrap()
    }

    #[test]
    fn which_states_are_shown() {
        assert_eq!(states(&options(&["-tl"]), 't'), 1 << LISTEN);
        assert_eq!(states(&options(&["-ul"]), 'u'), 1 << UNCONNECTED);
        assert_eq!(states(&options(&["-ta"]), 't'), u32::MAX);
        assert!(states(&options(&["-t"]), 't') & (1 << LISTEN | 1 << 6) == 0);
        assert!(states(&options(&["-t"]), 't') & (1 << 1) != 0);
    }

    #[test]
    fn one_kind_has_no_column_for_it_and_a_socket_says_whose_it_is() {
        let socket = Internet {
            state: LISTEN,
            local: "0.0.0.0:80".parse().unwrap(),
            peer: "0.0.0.0:0".parse().unwrap(),
            link: 2,
            queues: (0, 128),
            uid: 1000,
            inode: 77,
        };
        let links = BTreeMap::from([(2, "eth0".to_owned())]);
        let rows = [row("tcp", &socket, &links)];
        let owners = BTreeMap::from([(77, vec!["(\"web\",pid=5,fd=3)".to_owned()])]);
        let shown = table(&rows, &options(&["-tlnpe"]), &owners);
        let lines: Vec<&str> = shown.lines().collect();
        assert!(lines[0].starts_with("State  Recv-Q Send-Q Local Address:Port"), "{shown}");
        let words: Vec<&str> = lines[1].split_ascii_whitespace().collect();
        let last = "users:((\"web\",pid=5,fd=3))";
        assert_eq!(words, ["LISTEN", "0", "128", "0.0.0.0%eth0:80", "0.0.0.0:*", last, "uid:1000", "ino:77"]);
        assert!(table(&rows, &options(&["-H"]), &owners).starts_with("tcp "));
    }

    #[test]
    fn this_process_is_found_by_its_socket() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let found = sockets::internet(6, 1 << LISTEN).unwrap();
        let inode = found.iter().find(|socket| socket.local == at).unwrap().inode;
        let who = owners().remove(&inode).unwrap();
        assert!(who[0].contains(&format!("pid={},", std::process::id())), "{who:?}");
    }
}
