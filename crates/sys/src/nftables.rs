//! What may leave a network namespace, by nf_tables: one chain that drops everything but what goes over loopback to the
//! addresses that it is given. Spoken by netlink, in one batch that the kernel takes whole or not at all.

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};

/// An address, and how many of its leading bits count.
pub type Way = (IpAddr, u8);

/// The name of the table and of its one chain.
const NAME: &[u8] = b"octant\0";
/// The index of the loopback interface in every network namespace.
const LOOPBACK: u32 = 1;
/// NFNL_SUBSYS_NFTABLES: the upper byte of every type here.
const NFTABLES: u16 = 10 << 8;
/// NFNL_MSG_BATCH_BEGIN and NFNL_MSG_BATCH_END.
const BEGIN: u16 = 16;
const END: u16 = 17;
/// NFT_MSG_NEWTABLE, NEWCHAIN and NEWRULE; what lists them is one more.
const TABLE: u16 = NFTABLES;
const CHAIN: u16 = NFTABLES | 3;
const RULE: u16 = NFTABLES | 6;
/// NLMSG_ERROR and NLMSG_DONE.
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP, NLM_F_CREATE with NLM_F_EXCL, NLM_F_CREATE with NLM_F_APPEND.
const REQUEST: u16 = 1;
const ACK: u16 = 4;
const DUMP: u16 = 0x300;
const NEW: u16 = 0x600;
const NEXT: u16 = 0xc00;
/// NFPROTO_INET: IPv4 and IPv6.
const INET: u8 = 1;
/// struct nlmsghdr, and with the struct nfgenmsg behind it.
const HEAD: usize = 16;
const HEADS: usize = 20;
/// The longest answer that is read, and how many seconds it may take.
const ANSWER_MAX: usize = 16 << 10;
const ANSWER_S: i64 = 5;

/// An attribute: its type and its value.
type Attribute = (u16, Value);

#[derive(Debug)]
enum Value {
    Bytes(Vec<u8>),
    Nested(Vec<Attribute>),
}

fn bytes(kind: u16, value: &[u8]) -> Attribute {
    (kind, Value::Bytes(value.to_vec()))
}

/// A number as nf_tables has them: big-endian.
fn number(kind: u16, value: u32) -> Attribute {
    bytes(kind, &value.to_be_bytes())
}

fn nested(kind: u16, inner: Vec<Attribute>) -> Attribute {
    (kind, Value::Nested(inner))
}

/// Lets nothing leave the network namespace of the calling thread but over loopback to these ways. There must be no such
/// rules yet.
///
/// # Errors
/// `EPERM` without CAP_NET_ADMIN over it; see [`is_missing`].
pub fn allow_only(ways: &[Way]) -> io::Result<()> {
    let fd = netfilter()?;
    let begin = message(BEGIN, REQUEST, 0, [0, 0], 10, &[])?;
    let mut parts = vec![
        message(TABLE, REQUEST | ACK | NEW, 1, [INET, 0], 0, &[bytes(1, NAME)])?,
        message(CHAIN, REQUEST | ACK | NEW, 2, [INET, 0], 0, &chain())?,
    ];
    for (sequence, way) in (3..).zip(ways) {
        parts.push(message(RULE, REQUEST | ACK | NEXT, sequence, [INET, 0], 0, &rule(way))?);
    }
    let end = message(END, REQUEST, u32::MAX, [0, 0], 10, &[])?;
    let batch = [begin, parts.concat(), end].concat();
    send(fd.as_raw_fd(), &batch, MsgFlags::empty())?;
    let mut answered = 0;
    while answered < parts.len() {
        receive(&fd, |kind, body| match kind {
            ERROR => {
                answered += 1;
                acknowledged(body).map(|()| true)
            }
            _ => Ok(true),
        })?;
    }
    Ok(())
}

/// Whether that is so, by the kernel's own word: these rules and no others.
///
/// # Errors
/// As [`allow_only`].
pub fn allows_only(ways: &[Way]) -> io::Result<bool> {
    let rules: Vec<Vec<Attribute>> = ways.iter().map(rule).collect();
    Ok(lists(CHAIN, &[chain()])? && lists(RULE, &rules)?)
}

/// Whether an error of this module says that the kernel has no nf_tables for IPv4 and IPv6.
#[must_use]
pub fn is_missing(error: &io::Error) -> bool {
    let missing = [libc::EPROTONOSUPPORT, libc::EOPNOTSUPP, libc::EAFNOSUPPORT, libc::ENOENT];
    error.raw_os_error().is_some_and(|code| missing.contains(&code))
}

/// A chain where packets leave, which drops them. The attributes of each part are in linux/netfilter/nf_tables.h.
fn chain() -> Vec<Attribute> {
    const LOCAL_OUT: u32 = 3;
    const DROP: u32 = 0;
    let hook = vec![number(1, LOCAL_OUT), number(2, 0)];
    vec![bytes(1, NAME), bytes(3, NAME), nested(4, hook), number(5, DROP), bytes(7, b"filter\0")]
}

/// What goes over loopback to a way is accepted.
fn rule(&(address, bits): &Way) -> Vec<Attribute> {
    const OUTGOING: u32 = 5;
    const PROTOCOL: u32 = 15;
    // Of a packet: NFPROTO_IPV4 or NFPROTO_IPV6, where its destination is, and that.
    let (protocol, offset, octets) = match address {
        IpAddr::V4(v4) => (2, 16, v4.octets().to_vec()),
        IpAddr::V6(v6) => (10, 24, v6.octets().to_vec()),
    };
    let whole = usize::from(bits).div_ceil(8).min(octets.len());
    let mask: Vec<u8> = (0..whole).map(|at| mask_of(bits, at)).collect();
    let destination: Vec<u8> = octets.iter().zip(&mask).map(|(octet, mask)| octet & mask).collect();
    let length = u32::try_from(whole).unwrap_or_default();
    let mut expressions = vec![
        loaded(OUTGOING),
        compared(&LOOPBACK.to_ne_bytes()),
        loaded(PROTOCOL),
        compared(&[protocol]),
        // From the network header (1) into the register.
        expression(b"payload\0", vec![number(1, 1), number(2, 1), number(3, offset), number(4, length)]),
    ];
    if mask.iter().any(|byte| *byte != u8::MAX) {
        let data = |bytes_of: &[u8]| vec![bytes(1, bytes_of)];
        let masked = vec![
            number(1, 1),
            number(2, 1),
            number(3, length),
            nested(4, data(&mask)),
            nested(5, data(&vec![0; whole])),
        ];
        expressions.push(expression(b"bitwise\0", masked));
    }
    expressions.push(compared(&destination));
    // Into the register of the verdict (0): NF_ACCEPT (1).
    let verdict = vec![nested(2, vec![number(1, 1)])];
    expressions.push(expression(b"immediate\0", vec![number(1, 0), nested(2, verdict)]));
    vec![bytes(1, NAME), bytes(2, NAME), nested(4, expressions)]
}

fn mask_of(bits: u8, at: usize) -> u8 {
    let left = usize::from(bits).saturating_sub(8 * at);
    if left >= 8 { u8::MAX } else { !(u8::MAX >> left) }
}

/// One of a rule's expressions: its name, and what it is told.
fn expression(name: &[u8], told: Vec<Attribute>) -> Attribute {
    nested(1, vec![bytes(1, name), nested(2, told)])
}

/// What is known of the packet, loaded into the register.
fn loaded(key: u32) -> Attribute {
    expression(b"meta\0", vec![number(2, key), number(1, 1)])
}

/// The register is this (NFT_CMP_EQ), or the rule says nothing.
fn compared(value: &[u8]) -> Attribute {
    expression(b"cmp\0", vec![number(1, 1), number(2, 0), nested(3, vec![bytes(1, value)])])
}

fn netfilter() -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let fd = socket(AddressFamily::Netlink, SockType::Raw, flags, Some(SockProtocol::NetlinkNetFilter))?;
    setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::seconds(ANSWER_S))?;
    Ok(fd)
}

/// A struct nlmsghdr (length, type, flags, sequence, port), a struct nfgenmsg (family, version, resource), attributes.
fn message(
    kind: u16,
    flags: u16,
    sequence: u32,
    [family, version]: [u8; 2],
    resource: u16,
    attributes: &[Attribute],
) -> io::Result<Vec<u8>> {
    let body = encoded(attributes)?;
    let length = u32::try_from(HEADS + body.len()).map_err(|_| too_long())?;
    let mut message = length.to_ne_bytes().to_vec();
    message.extend_from_slice(&kind.to_ne_bytes());
    message.extend_from_slice(&flags.to_ne_bytes());
    message.extend_from_slice(&sequence.to_ne_bytes());
    message.extend_from_slice(&0_u32.to_ne_bytes());
    message.extend_from_slice(&[family, version]);
    message.extend_from_slice(&resource.to_be_bytes());
    message.extend_from_slice(&body);
    Ok(message)
}

fn too_long() -> io::Error {
    io::Error::from_raw_os_error(libc::EMSGSIZE)
}

/// Each a struct nlattr (length, type) and its value, filled up to four bytes.
fn encoded(attributes: &[Attribute]) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    for (kind, value) in attributes {
        let inner;
        let value = match value {
            Value::Bytes(value) => value,
            Value::Nested(attributes) => {
                inner = encoded(attributes)?;
                &inner
            }
        };
        out.extend_from_slice(&u16::try_from(4 + value.len()).map_err(|_| too_long())?.to_ne_bytes());
        out.extend_from_slice(&kind.to_ne_bytes());
        out.extend_from_slice(value);
        out.resize(out.len().next_multiple_of(4), 0);
    }
    Ok(out)
}

/// Reads one packet; each message of it, by its type and what follows the head, until one says that there is no more.
fn receive(fd: &OwnedFd, mut each: impl FnMut(u16, &[u8]) -> io::Result<bool>) -> io::Result<bool> {
    let mut buffer = vec![0; ANSWER_MAX];
    let length = recv(fd.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
    let mut rest = &buffer[..length];
    while let Some((message, after)) = taken(rest, 0) {
        let kind = message.get(4..6).and_then(|bytes| bytes.first_chunk());
        let (Some(kind), Some(body)) = (kind, message.get(HEAD..)) else { return Err(odd()) };
        if !each(u16::from_ne_bytes(*kind), body)? {
            return Ok(false);
        }
        rest = after;
    }
    Ok(true)
}

/// The first of what stands one after the other, each with its own length at its begin: in four bytes, or in two.
fn taken(rest: &[u8], short: u8) -> Option<(&[u8], &[u8])> {
    let length = if short == 0 {
        usize::try_from(u32::from_ne_bytes(*rest.first_chunk()?)).ok()?
    } else {
        usize::from(u16::from_ne_bytes(*rest.first_chunk()?))
    };
    let one = rest.get(..length).filter(|_| length >= 4)?;
    Some((one, rest.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

fn odd() -> io::Error {
    io::Error::from_raw_os_error(libc::EPROTO)
}

/// A struct nlmsgerr: 0, or a negative errno.
fn acknowledged(body: &[u8]) -> io::Result<()> {
    match body.first_chunk().map(|code| i32::from_ne_bytes(*code)) {
        Some(0) => Ok(()),
        Some(negative) => Err(io::Error::from_raw_os_error(negative.saturating_neg())),
        None => Err(odd()),
    }
}

/// Whether all that there is of a kind, in every family, is this, in this order.
fn lists(kind: u16, expected: &[Vec<Attribute>]) -> io::Result<bool> {
    let fd = netfilter()?;
    send(fd.as_raw_fd(), &message(kind + 1, REQUEST | DUMP, 1, [0, 0], 0, &[])?, MsgFlags::empty())?;
    let (mut seen, mut alike) = (0, true);
    while receive(&fd, |answer, body| match answer {
        DONE => Ok(false),
        // A kernel without the subsystem knows no such request.
        ERROR => match acknowledged(body) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP))
            }
            other => other.map(|()| true),
        },
        answer if answer == kind => {
            let attributes = body.get(HEADS - HEAD..).unwrap_or_default();
            let of_inet = body.first() == Some(&INET);
            alike &= of_inet && expected.get(seen).is_some_and(|expected| says(attributes, expected));
            seen += 1;
            Ok(true)
        }
        _ => Ok(true),
    })? {}
    Ok(alike && seen == expected.len())
}

/// Whether what the kernel lists has each of these attributes as often, with these values in this order. It adds others:
/// handles, counts, and what is so by itself.
fn says(listed: &[u8], expected: &[Attribute]) -> bool {
    const KIND: u16 = 0x3fff;
    let (mut all, mut rest) = (Vec::new(), listed);
    while let Some((attribute, after)) = taken(rest, 1) {
        let Some(kind) = attribute.get(2..4).and_then(|bytes| bytes.first_chunk()) else { return false };
        all.push((u16::from_ne_bytes(*kind) & KIND, &attribute[4..]));
        rest = after;
    }
    expected.iter().all(|(kind, _)| {
        let is = all.iter().filter(|(other, _)| other == kind).map(|(_, value)| *value);
        let should = expected.iter().filter(|(other, _)| other == kind).map(|(_, value)| value);
        is.clone().count() == should.clone().count()
            && is.zip(should).all(|(is, should)| match should {
                Value::Bytes(should) => is == should,
                Value::Nested(should) => says(is, should),
            })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::{local_route, loopback_up};
    use std::net::UdpSocket;

    const WAYS: [&str; 4] = ["127.0.0.0/8", "198.18.0.0/15", "::1/128", "fd4f:6374:616e:7400::/64"];

    fn ways() -> Vec<Way> {
        let way = |text: &&str| {
            let (address, bits) = text.split_once('/').unwrap();
            (address.parse().unwrap(), bits.parse().unwrap())
        };
        WAYS.iter().map(way).collect()
    }

    fn sends(to: &str) -> io::Result<usize> {
        let any = if to.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" };
        UdpSocket::bind(any)?.send_to(b"x", to)
    }

    /// Runs in a network namespace of its own; needs root.
    fn apart(work: impl FnOnce() + Send + 'static) {
        let thread = std::thread::spawn(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            loopback_up().unwrap();
            // The other barrier, no way to anywhere, switched off: these all lead somewhere.
            for (address, bits) in [("192.0.2.0", 24), ("198.16.0.0", 12), ("fd4f:6374::", 32)] {
                local_route(address.parse().unwrap(), bits).unwrap();
            }
            work();
        });
        thread.join().unwrap();
    }

    #[test]
    fn nothing_leaves_but_by_the_ways_that_are_allowed() {
        let good = [
            "127.0.0.53:53",
            "127.255.0.1:9",
            "198.18.3.4:80",
            "198.19.255.254:1",
            "[::1]:9",
            "[fd4f:6374:616e:7400::5]:80",
        ];
        let bad = ["192.0.2.1:80", "198.20.0.1:80", "198.17.255.255:80", "[fd4f:6374:616e:7401::5]:80"];
        apart(move || {
            for to in good.iter().chain(&bad) {
                assert!(sends(to).is_ok(), "without rules {to} can be reached");
            }
            allow_only(&ways()).unwrap();
            for to in good {
                assert!(sends(to).is_ok(), "{to}");
            }
            for to in bad {
                assert_eq!(sends(to).unwrap_err().raw_os_error(), Some(libc::EPERM), "{to}");
            }
        });
    }

    #[test]
    fn what_is_in_force_is_read_back() {
        apart(|| {
            assert!(!allows_only(&ways()).unwrap(), "there are none");
            allow_only(&ways()).unwrap();
            assert!(allows_only(&ways()).unwrap());
            // Another way, one less, another order, another length: each is noticed.
            let mut others = vec![ways(), ways(), ways(), ways()];
            others[0].push(("10.0.0.0".parse().unwrap(), 8));
            others[1].pop();
            others[2].swap(0, 1);
            others[3][1].1 = 16;
            for other in others {
                assert!(!allows_only(&other).unwrap(), "{other:?}");
            }
            assert_eq!(allow_only(&ways()).unwrap_err().raw_os_error(), Some(libc::EEXIST), "once is enough");
        });
        // A chain of another table, which could accept nothing that this one drops, is there all the same.
        apart(|| {
            allow_only(&ways()).unwrap();
            let other = vec![bytes(1, b"other\0")];
            let fd = netfilter().unwrap();
            let mut chain = chain();
            chain[0] = bytes(1, b"other\0");
            let batch = [
                message(BEGIN, REQUEST, 0, [0, 0], 10, &[]).unwrap(),
                message(TABLE, REQUEST | NEW, 1, [INET, 0], 0, &other).unwrap(),
                message(CHAIN, REQUEST | ACK | NEW, 2, [INET, 0], 0, &chain).unwrap(),
                message(END, REQUEST, 3, [0, 0], 10, &[]).unwrap(),
            ];
            send(fd.as_raw_fd(), &batch.concat(), MsgFlags::empty()).unwrap();
            receive(&fd, |_, body| acknowledged(body).map(|()| true)).unwrap();
            assert!(!allows_only(&ways()).unwrap());
        });
    }

    #[test]
    fn a_mask_has_as_many_bits_as_it_says() {
        assert_eq!([0, 1, 2].map(|at| mask_of(15, at)), [0xff, 0xfe, 0]);
        assert_eq!([0, 1].map(|at| mask_of(8, at)), [0xff, 0]);
    }

    #[test]
    fn what_the_kernel_says_may_be_cut_anywhere() {
        let whole = encoded(&rule(&ways()[1])).unwrap();
        assert!(says(&whole, &rule(&ways()[1])));
        for cut in 0..whole.len() {
            assert!(!says(&whole[..cut], &rule(&ways()[1])), "{cut}");
        }
        let stranger = io::Error::from_raw_os_error(libc::EPERM);
        assert!(!is_missing(&stranger) && is_missing(&io::Error::from_raw_os_error(libc::EOPNOTSUPP)));
    }
}
