//! `ip`: links, addresses, routes and neighbours, shown as iproute2 shows them and changed with its words.

mod print;

use super::{Failed, ended, failed};
use crate::output::{help_or_version, print};
use nix::libc;
use octant_net::kernel::{Address, Kernel, Link, LinkChange, Neighbour, PERMANENT, Route};
use octant_net::names::Want;
use print::Form;
use std::ffi::OsString;
use std::io;
use std::net::IpAddr;

const HELP: &str = "\
Usage: ip [OPTION]... OBJECT [COMMAND [ARGUMENT]...]
Show and change links, addresses, routes and neighbours. Objects and commands can be shortened (`ip a`).

  ip addr [show] [dev LINK]                  ip addr add|replace|del ADDRESS/BITS dev LINK
  ip addr flush dev LINK
  ip link [show] [LINK]                      ip link set LINK [up|down] [mtu N] [address MAC] [name NAME]
  ip link add NAME type TYPE [peer name NAME]      ip link del LINK
  ip route [show] [dev LINK] [table all|N]
  ip route add|replace|del default|PREFIX [via ADDRESS] [dev LINK] [metric N] [src ADDRESS] [table N]
  ip neigh [show] [dev LINK]                 ip neigh add|replace|del ADDRESS [lladdr MAC] dev LINK

  -4, -6      only IPv4, only IPv6
  -o          one line each
  -br         a short table
  -j          JSON
  -s          with what went through each link

Exit code 1: wrong command line. 2: the kernel refuses.
";

const USAGE: i32 = 1;
const REFUSED: i32 = 2;

pub(crate) fn ip(arguments: Vec<OsString>) -> i32 {
    if let Some(code) = help_or_version(&arguments, "ip", HELP) {
        return code;
    }
    ended("ip", run(arguments))
}

fn run(arguments: Vec<OsString>) -> Result<i32, Failed> {
    let words = arguments.into_iter().skip(1).map(OsString::into_string).collect::<Result<Vec<_>, _>>();
    let mut words =
        words.map_err(|word| failed(USAGE, format_args!("argument {word:?} is not UTF-8 text")))?;
    let (mut form, mut want, mut at) = (Form::default(), Want::Any, 0);
    for word in &words {
        match word.as_str() {
            "-4" => want = Want::V4,
            "-6" => want = Want::V6,
            "-o" | "-oneline" => form.oneline = true,
            "-br" | "-brief" => form.brief = true,
            "-j" | "-json" => form.json = true,
            "-s" | "-stats" | "-statistics" => form.traffic = true,
            // How long and how colourful it is: there is one form.
            "-d" | "-details" | "-p" | "-pretty" | "-c" | "-color=never" | "-n" | "-N" => {}
            option if option.starts_with('-') => {
                return Err(failed(USAGE, format_args!("there is no option {option}; see --help")));
            }
            _ => break,
        }
        at += 1;
    }
    let mut words = Words { words: words.split_off(at).into_iter().peekable() };
    let object = words.next("an object: addr, link, route or neigh")?;
    let ip = Ip { kernel: Kernel::open().map_err(refused("netlink"))?, form, want };
    match object.as_str() {
        object if short(object, "address", 1) => ip.address(words),
        object if short(object, "link", 1) => ip.link(words),
        object if short(object, "route", 1) => ip.route(words),
        object if short(object, "neighbour", 1) || short(object, "neighbor", 1) => ip.neighbour(words),
        object => Err(failed(USAGE, format_args!("there is no object {object:?}; see --help"))),
    }
}

/// Whether a word is this one, or a begin of it.
fn short(word: &str, whole: &str, least: usize) -> bool {
    word.len() >= least && whole.starts_with(word)
}

fn refused(what: &str) -> impl Fn(io::Error) -> Failed {
    let what = what.to_owned();
    move |error| failed(REFUSED, format_args!("{what}: {error}"))
}

/// What is left of the command line.
struct Words {
    words: std::iter::Peekable<std::vec::IntoIter<String>>,
}

impl Words {
    fn next(&mut self, what: &str) -> Result<String, Failed> {
        self.words.next().ok_or_else(|| failed(USAGE, format_args!("{what} is missing; see --help")))
    }

    fn parsed<T: std::str::FromStr>(&mut self, what: &str) -> Result<T, Failed> {
        let word = self.next(what)?;
        word.parse().map_err(|_| failed(USAGE, format_args!("{word:?} is not {what}")))
    }

    /// The command, `show` when there is none.
    fn command(&mut self) -> String {
        const COMMANDS: [&str; 8] = ["show", "list", "add", "replace", "delete", "set", "flush", "change"];
        match self.words.peek() {
            Some(word) if COMMANDS.iter().any(|whole| short(word, whole, 1)) => {
                let word = self.words.next().unwrap_or_default();
                let whole = COMMANDS.iter().find(|whole| short(&word, whole, 1));
                let whole = whole.copied().unwrap_or("show");
                if whole == "list" { "show".to_owned() } else { whole.to_owned() }
            }
            _ => "show".to_owned(),
        }
    }

    /// `192.0.2.1/24`, or an address alone.
    fn prefix(&mut self, any: Want) -> Result<(IpAddr, u8), Failed> {
        let word = self.next("an address")?;
        if matches!(word.as_str(), "default" | "any" | "all") {
            let six = any == Want::V6;
            return Ok((if six { IpAddr::from([0; 16]) } else { IpAddr::from([0; 4]) }, 0));
        }
        prefix(&word).ok_or_else(|| failed(USAGE, format_args!("{word:?} is no address, and no prefix")))
    }
}

fn prefix(word: &str) -> Option<(IpAddr, u8)> {
    let (ip, bits) = word.split_once('/').map_or((word, None), |(ip, bits)| (ip, Some(bits)));
    let ip: IpAddr = ip.parse().ok()?;
    let most = if ip.is_ipv4() { 32 } else { 128 };
    let bits = bits.map_or(Some(most), |bits| bits.parse().ok())?;
    (bits <= most).then_some((ip, bits))
}

fn mac(word: &str) -> Option<Vec<u8>> {
    let bytes = word.split(':').map(|byte| u8::from_str_radix(byte, 16).ok()).collect::<Option<Vec<_>>>()?;
    (bytes.len() == 6).then_some(bytes)
}

struct Ip {
    kernel: Kernel,
    form: Form,
    want: Want,
}

impl Ip {
    fn links(&self) -> Result<Vec<Link>, Failed> {
        self.kernel.links().map_err(refused("list links"))
    }

    fn index(&self, name: &str) -> Result<u32, Failed> {
        let link = self.kernel.link(name).map_err(|error| match error.raw_os_error() {
            Some(libc::ENODEV) => failed(USAGE, format_args!("Cannot find device \"{name}\"")),
            _ => refused("list links")(error),
        });
        link.map(|link| link.index)
    }

    /// What is to be shown: of one link, of one table.
    fn filter(&self, mut words: Words) -> Result<(Option<u32>, Option<String>), Failed> {
        let (mut link, mut table) = (None, None);
        while let Some(word) = words.words.next() {
            match word.as_str() {
                "dev" => link = Some(self.index(&words.next("a link")?)?),
                "table" => table = Some(words.next("a table")?),
                "up" | "permanent" | "dynamic" | "to" | "scope" | "nud" | "root" | "match" | "master" => {
                    return Err(failed(USAGE, format_args!("{word} is not known here; see --help")));
                }
                name => link = Some(self.index(name)?),
            }
        }
        Ok((link, table))
    }

    fn address(&self, mut words: Words) -> Result<i32, Failed> {
        let command = words.command();
        if matches!(command.as_str(), "show" | "flush") {
            let (only, _) = self.filter(words)?;
            let mut addresses = self.kernel.addresses().map_err(refused("list addresses"))?;
            addresses
                .retain(|address| only.is_none_or(|only| only == address.index) && self.want.is(address.ip));
            if command == "show" {
                let links = self.links()?;
                let links =
                    links.into_iter().filter(|link| only.is_none_or(|only| only == link.index)).collect();
                return Ok(print("ip", &self.form.addresses(links, &addresses, self.want)));
            }
            if only.is_none() {
                return Err(failed(USAGE, "flush needs a link: `ip addr flush dev LINK`"));
            }
            let each = addresses.iter().map(|address| self.kernel.remove_address(address));
            return each.collect::<io::Result<()>>().map(|()| 0).map_err(refused("remove an address"));
        }
        let (ip, bits) = words.prefix(self.want)?;
        let mut address = Address::new(0, ip, bits);
        while let Some(word) = words.words.next() {
            match word.as_str() {
                "dev" => address.index = self.index(&words.next("a link")?)?,
                "peer" => address.peer = Some(words.parsed("an address")?),
                "label" => address.label = words.next("a label")?,
                "brd" | "broadcast" => {
                    address.broadcast = match words.next("an address")?.as_str() {
                        "+" => all_hosts(ip, bits),
                        text => text.parse().ok(),
                    };
                }
                "valid_lft" => address.lifetime.0 = seconds(&words.next("a time")?)?,
                "preferred_lft" => address.lifetime.1 = seconds(&words.next("a time")?)?,
                word => return Err(failed(USAGE, format_args!("{word:?} is not known here; see --help"))),
            }
        }
        if address.index == 0 {
            return Err(failed(USAGE, "a link is missing: dev LINK"));
        }
        if ip.is_loopback() {
            address.scope = libc::RT_SCOPE_HOST;
        }
        let done = match command.as_str() {
            "add" => self.kernel.add_address(&address, false),
            "replace" | "change" => self.kernel.add_address(&address, true),
            "delete" => self.kernel.remove_address(&address),
            command => return Err(failed(USAGE, format_args!("ip addr cannot {command}; see --help"))),
        };
        done.map(|()| 0).map_err(refused(&format!("{command} {ip}/{bits}")))
    }

    fn link(&self, mut words: Words) -> Result<i32, Failed> {
        let command = words.command();
        match command.as_str() {
            "show" => {
                let (only, _) = self.filter(words)?;
                let links =
                    self.links()?.into_iter().filter(|link| only.is_none_or(|only| only == link.index));
                Ok(print("ip", &self.form.links(links.collect())))
            }
            "set" | "change" => self.set_link(words),
            "add" => self.add_link(words),
            "delete" => {
                let mut name = words.next("a link")?;
                if name == "dev" {
                    name = words.next("a link")?;
                }
                let index = self.index(&name)?;
                self.kernel.remove_link(index).map(|()| 0).map_err(refused(&format!("delete {name}")))
            }
            command => Err(failed(USAGE, format_args!("ip link cannot {command}; see --help"))),
        }
    }

    fn set_link(&self, mut words: Words) -> Result<i32, Failed> {
        let mut name = words.next("a link")?;
        if name == "dev" {
            name = words.next("a link")?;
        }
        let (index, mut change) = (self.index(&name)?, LinkChange::default());
        while let Some(word) = words.words.next() {
            match word.as_str() {
                "up" => change.up = Some(true),
                "down" => change.up = Some(false),
                "mtu" => change.mtu = Some(words.parsed("a number of bytes")?),
                "name" => change.name = Some(words.next("a name")?),
                "netns" => change.namespace_of = Some(words.parsed("the number of a process")?),
                "address" => {
                    let word = words.next("a hardware address")?;
                    let address = mac(&word)
                        .ok_or_else(|| failed(USAGE, format_args!("{word:?} is no hardware address")))?;
                    change.mac = Some(address);
                }
                word => return Err(failed(USAGE, format_args!("{word:?} is not known here; see --help"))),
            }
        }
        self.kernel.change_link(index, &change).map(|()| 0).map_err(refused(&format!("set {name}")))
    }

    fn add_link(&self, mut words: Words) -> Result<i32, Failed> {
        let mut name = words.next("a name")?;
        if matches!(name.as_str(), "dev" | "name") {
            name = words.next("a name")?;
        }
        let (mut kind, mut peer) = (None, None);
        while let Some(word) = words.words.next() {
            match word.as_str() {
                "type" => kind = Some(words.next("a type")?),
                "peer" => {
                    let word = words.next("a name")?;
                    peer = Some(if word == "name" { words.next("a name")? } else { word });
                }
                word => return Err(failed(USAGE, format_args!("{word:?} is not known here; see --help"))),
            }
        }
        let kind = kind.ok_or_else(|| failed(USAGE, "a type is missing: type dummy, bridge or veth"))?;
        let done = self.kernel.add_link(&name, &kind, peer.as_deref());
        done.map(|()| 0).map_err(refused(&format!("add {name} of type {kind}")))
    }

    fn route(&self, mut words: Words) -> Result<i32, Failed> {
        let command = words.command();
        if command == "show" {
            let (only, table) = self.filter(words)?;
            let table = match table.as_deref() {
                None | Some("main") => Some(u32::from(libc::RT_TABLE_MAIN)),
                Some("local") => Some(u32::from(libc::RT_TABLE_LOCAL)),
                Some("all") => None,
                Some(number) => Some(
                    number.parse().map_err(|_| failed(USAGE, "a table is all, main, local or a number"))?,
                ),
            };
            // As iproute2: without a family, IPv4.
            let want = if self.want == Want::Any { Want::V4 } else { self.want };
            let mut routes = self.kernel.routes().map_err(refused("list routes"))?;
            routes.retain(|route| {
                want.is(route.to.0)
                    && only.is_none_or(|only| only == route.index)
                    && table.is_none_or(|table| table == route.table)
            });
            return Ok(print("ip", &self.form.routes(&routes, &self.links()?, only.is_some())));
        }
        let to = words.prefix(self.want)?;
        let mut route = Route::new(to, None, 0);
        while let Some(word) = words.words.next() {
            match word.as_str() {
                "via" => route.via = Some(words.parsed("an address")?),
                "dev" => route.index = self.index(&words.next("a link")?)?,
                "metric" | "preference" | "priority" => route.metric = words.parsed("a number")?,
                "src" => route.source = Some(words.parsed("an address")?),
                "table" => route.table = words.parsed("the number of a table")?,
                "onlink" => {}
                word => return Err(failed(USAGE, format_args!("{word:?} is not known here; see --help"))),
            }
        }
        if let Some(via) = route.via {
            route.scope = libc::RT_SCOPE_UNIVERSE;
            if via.is_ipv6() && to.1 == 0 {
                route.to.0 = IpAddr::from([0; 16]);
            }
        }
        let done = match command.as_str() {
            "add" => self.kernel.add_route(&route, false),
            "replace" | "change" => self.kernel.add_route(&route, true),
            "delete" => self.kernel.remove_route(&route),
            command => return Err(failed(USAGE, format_args!("ip route cannot {command}; see --help"))),
        };
        done.map(|()| 0).map_err(refused(&format!("{command} {}/{}", route.to.0, route.to.1)))
    }

    fn neighbour(&self, mut words: Words) -> Result<i32, Failed> {
        /// NUD_NOARP and NUD_NONE: not shown unless asked for.
        const QUIET: u16 = 0x40;
        let command = words.command();
        if command == "show" {
            let (only, _) = self.filter(words)?;
            let mut all = self.kernel.neighbours().map_err(refused("list neighbours"))?;
            all.retain(|one| {
                one.state & !QUIET != 0 && self.want.is(one.ip) && only.is_none_or(|only| only == one.index)
            });
            return Ok(print("ip", &self.form.neighbours(&all, &self.links()?)));
        }
        let ip = words.parsed("an address")?;
        let mut who = Neighbour { index: 0, ip, mac: Vec::new(), state: PERMANENT, flags: 0 };
        while let Some(word) = words.words.next() {
            match word.as_str() {
                "dev" => who.index = self.index(&words.next("a link")?)?,
                "lladdr" => {
                    let word = words.next("a hardware address")?;
                    who.mac = mac(&word)
                        .ok_or_else(|| failed(USAGE, format_args!("{word:?} is no hardware address")))?;
                }
                word => return Err(failed(USAGE, format_args!("{word:?} is not known here; see --help"))),
            }
        }
        if who.index == 0 {
            return Err(failed(USAGE, "a link is missing: dev LINK"));
        }
        let done = match command.as_str() {
            "add" => self.kernel.add_neighbour(&who, false),
            "replace" | "change" => self.kernel.add_neighbour(&who, true),
            "delete" => self.kernel.remove_neighbour(&who),
            command => return Err(failed(USAGE, format_args!("ip neigh cannot {command}; see --help"))),
        };
        done.map(|()| 0).map_err(refused(&format!("{command} {ip}")))
    }
}

fn all_hosts(ip: IpAddr, bits: u8) -> Option<IpAddr> {
    let IpAddr::V4(v4) = ip else { return None };
    let hosts = u32::MAX.checked_shr(u32::from(bits)).unwrap_or(0);
    Some(std::net::Ipv4Addr::from(u32::from(v4) | hosts).into())
}

fn seconds(text: &str) -> Result<u32, Failed> {
    if text == "forever" {
        return Ok(u32::MAX);
    }
    text.parse().map_err(|_| failed(USAGE, format_args!("{text:?} is no number of seconds")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_and_shortened() {
        assert!(short("a", "address", 1) && short("addr", "address", 1) && !short("adr", "address", 1));
        assert_eq!(prefix("192.0.2.1"), Some(([192, 0, 2, 1].into(), 32)));
        assert_eq!((prefix("192.0.2.0/33"), prefix("x/3"), prefix("::/129")), (None, None, None));
        assert_eq!(mac("02:00:00:00:00:ff"), Some(vec![2, 0, 0, 0, 0, 255]));
        assert_eq!((mac("02:00"), mac("02:00:00:00:00:zz")), (None, None));
        assert_eq!(all_hosts([192, 0, 2, 1].into(), 24), Some([192, 0, 2, 255].into()));
        let words = |text: &str| Words {
            words: text.split(' ').map(str::to_owned).collect::<Vec<_>>().into_iter().peekable(),
        };
        assert_eq!(words("eth0").command(), "show");
        assert_eq!((words("l").command(), words("del x").command()), ("show".into(), "delete".into()));
    }

    fn call(line: &str) -> Result<i32, Failed> {
        run(["ip"].into_iter().chain(line.split(' ')).map(OsString::from).collect())
    }

    /// Needs root: in a network namespace of its own.
    #[test]
    fn what_is_said_is_done() {
        let thread = std::thread::spawn(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            for line in [
                "link add v0 type veth peer name v1",
                "link set v0 up mtu 1400",
                "link set dev v1 up",
                "addr add 192.0.2.2/24 brd + dev v0",
                "-6 addr add 2001:db8::2/64 dev v0",
                "route add default via 192.0.2.1 metric 9",
                "r add 10.0.0.0/8 dev v0 src 192.0.2.2",
                "-6 route add default via 2001:db8::1",
                "neigh replace 192.0.2.9 lladdr 02:00:00:00:00:09 dev v0",
            ] {
                assert_eq!(call(line).map_err(|failed| failed.why), Ok(0), "{line}");
            }
            let kernel = Kernel::open().unwrap();
            let v0 = kernel.link("v0").unwrap();
            assert!(v0.is_up() && v0.mtu == 1400);
            let broadcast = kernel.addresses().unwrap().into_iter().find_map(|address| address.broadcast);
            assert_eq!(broadcast, Some([192, 0, 2, 255].into()));
            let defaults =
                kernel.routes().unwrap().into_iter().filter(|route| route.to.1 == 0 && route.via.is_some());
            assert_eq!(defaults.count(), 2);
            for (line, code) in [
                ("addr add 192.0.2.2/24 dev v0", REFUSED),
                ("route add 10.9.0.0/16 via 203.0.113.1", REFUSED),
                ("link set v9 up", USAGE),
                ("addr add 192.0.2.2/24", USAGE),
                ("frobnicate", USAGE),
                ("-z addr", USAGE),
            ] {
                assert_eq!(call(line).unwrap_err().code, code, "{line}");
            }
            for line in
                ["route del default", "addr del 192.0.2.2/24 dev v0", "addr flush dev v0", "link del v0"]
            {
                assert_eq!(call(line).map_err(|failed| failed.why), Ok(0), "{line}");
            }
            assert!(kernel.link("v1").is_err());
        });
        thread.join().unwrap();
    }
}
