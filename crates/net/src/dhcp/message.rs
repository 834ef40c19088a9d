//! What a DHCP client and a server say to each other (RFC 2131, RFC 2132). Lengths and counts are the sender's word:
//! nothing here believes them.

use std::net::Ipv4Addr;

/// The longest message that is read; more than any Ethernet packet.
pub const MESSAGE_MAX: usize = 1500;
/// The shortest that old relays pass on (RFC 1542).
const MESSAGE_MIN: usize = 300;
/// The fixed part.
const HEAD: usize = 236;
/// Says that options follow.
const COOKIE: [u8; 4] = [99, 130, 83, 99];
/// How many servers of a kind, and how many routes, are taken.
const SERVERS_MAX: usize = 4;
const ROUTES_MAX: usize = 32;
/// "Answer to everybody": without an address yet, nothing else arrives.
const BROADCAST: u16 = 0x8000;

/// What a message is for (option 53).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
#[expect(missing_docs, reason = "the names of RFC 2131")]
pub enum Kind {
    Discover = 1,
    Offer = 2,
    Request = 3,
    Decline = 4,
    Ack = 5,
    Nak = 6,
    Release = 7,
    Inform = 8,
}

impl Kind {
    fn of(number: u8) -> Option<Self> {
        let all = [
            Self::Discover,
            Self::Offer,
            Self::Request,
            Self::Decline,
            Self::Ack,
            Self::Nak,
            Self::Release,
            Self::Inform,
        ];
        all.into_iter().find(|kind| *kind as u8 == number)
    }
}

/// A message, as far as a client cares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// What it is for.
    pub kind: Kind,
    /// Whether it comes from a server.
    pub reply: bool,
    /// Which question it belongs to.
    pub transaction: u32,
    /// For how many seconds the client has been asking.
    pub seconds: u16,
    /// Whether the answer goes to everybody.
    pub broadcast: bool,
    /// The address that the client has (`ciaddr`).
    pub client: Ipv4Addr,
    /// The address that it gets (`yiaddr`).
    pub yours: Ipv4Addr,
    /// Its hardware address.
    pub mac: [u8; 6],
    /// Which server (option 54).
    pub server: Option<Ipv4Addr>,
    /// The address that the client would like (option 50).
    pub wanted: Option<Ipv4Addr>,
    /// The network's mask (option 1).
    pub mask: Option<Ipv4Addr>,
    /// Ways out (option 3).
    pub routers: Vec<Ipv4Addr>,
    /// Routes, which come in the place of `routers` (option 121).
    pub routes: Vec<((Ipv4Addr, u8), Ipv4Addr)>,
    /// Name servers (option 6).
    pub name_servers: Vec<Ipv4Addr>,
    /// Time servers (option 42).
    pub time_servers: Vec<Ipv4Addr>,
    /// Below which name names without a dot are (option 15).
    pub domain: Option<String>,
    /// The longest packet of the network (option 26).
    pub mtu: Option<u16>,
    /// How many seconds the address may be used (option 51).
    pub lease_s: Option<u32>,
    /// After how many seconds it is to be asked for again (option 58), and anybody asked (option 59).
    pub renew_s: Option<u32>,
    /// See `renew_s`.
    pub rebind_s: Option<u32>,
    /// The name under which the client would like to be known (option 12).
    pub hostname: Option<String>,
    /// Why a server refuses (option 56).
    pub text: Option<String>,
}

impl Message {
    /// An empty message of a client.
    #[must_use]
    pub fn new(kind: Kind, transaction: u32, mac: [u8; 6]) -> Self {
        Self {
            kind,
            reply: false,
            transaction,
            seconds: 0,
            broadcast: false,
            client: Ipv4Addr::UNSPECIFIED,
            yours: Ipv4Addr::UNSPECIFIED,
            mac,
            server: None,
            wanted: None,
            mask: None,
            routers: Vec::new(),
            routes: Vec::new(),
            name_servers: Vec::new(),
            time_servers: Vec::new(),
            domain: None,
            mtu: None,
            lease_s: None,
            renew_s: None,
            rebind_s: None,
            hostname: None,
            text: None,
        }
    }

    /// Its bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        // op, hardware type, length of hardware addresses, hops.
        let mut out = vec![if self.reply { 2 } else { 1 }, 1, 6, 0];
        out.extend_from_slice(&self.transaction.to_be_bytes());
        out.extend_from_slice(&self.seconds.to_be_bytes());
        out.extend_from_slice(&(if self.broadcast { BROADCAST } else { 0 }).to_be_bytes());
        out.extend_from_slice(&self.client.octets());
        out.extend_from_slice(&self.yours.octets());
        out.extend_from_slice(&[0; 8]);
        out.extend_from_slice(&self.mac);
        out.resize(HEAD, 0);
        out.extend_from_slice(&COOKIE);
        option(&mut out, 53, &[self.kind as u8]);
        self.options(&mut out);
        if !self.reply && matches!(self.kind, Kind::Discover | Kind::Request | Kind::Inform) {
            // What the client would like to know, and how much fits.
            option(&mut out, 55, &[1, 3, 6, 15, 26, 42, 51, 54, 58, 59, 121]);
            option(&mut out, 57, &1500_u16.to_be_bytes());
            option(&mut out, 61, &[&[1][..], &self.mac].concat());
        }
        out.push(255);
        out.resize(out.len().max(MESSAGE_MIN), 0);
        out
    }

    fn options(&self, out: &mut Vec<u8>) {
        let addresses = |list: &[Ipv4Addr]| list.iter().flat_map(Ipv4Addr::octets).collect::<Vec<u8>>();
        let one = [(54, self.server), (50, self.wanted), (1, self.mask)];
        for (number, value) in one {
            if let Some(value) = value {
                option(out, number, &value.octets());
            }
        }
        for (number, list) in [(3, &self.routers), (6, &self.name_servers), (42, &self.time_servers)] {
            if !list.is_empty() {
                option(out, number, &addresses(list));
            }
        }
        for (number, value) in [(51, self.lease_s), (58, self.renew_s), (59, self.rebind_s)] {
            if let Some(value) = value {
                option(out, number, &value.to_be_bytes());
            }
        }
        for (number, value) in [(15, &self.domain), (12, &self.hostname), (56, &self.text)] {
            if let Some(value) = value {
                option(out, number, value.as_bytes());
            }
        }
        if let Some(mtu) = self.mtu {
            option(out, 26, &mtu.to_be_bytes());
        }
        if !self.routes.is_empty() {
            let mut bytes = Vec::new();
            for ((to, bits), via) in &self.routes {
                bytes.push(*bits);
                bytes.extend_from_slice(&to.octets()[..usize::from(*bits).div_ceil(8).min(4)]);
                bytes.extend_from_slice(&via.octets());
            }
            option(out, 121, &bytes);
        }
    }

    /// Reads one; none for what is no DHCP message over Ethernet.
    #[must_use]
    pub fn of_bytes(bytes: &[u8]) -> Option<Self> {
        let head = bytes.get(..HEAD).filter(|_| bytes.len() <= MESSAGE_MAX)?;
        let rest = bytes[HEAD..].strip_prefix(&COOKIE)?;
        let address = |at: usize| head[at..].first_chunk::<4>().map(|octets| Ipv4Addr::from(*octets));
        if !(1..=2).contains(&head[0]) || head[1..3] != [1, 6] {
            return None;
        }
        let mut message = Self::new(
            Kind::Inform,
            u32::from_be_bytes(*head[4..].first_chunk()?),
            *head[28..].first_chunk()?,
        );
        message.reply = head[0] == 2;
        message.seconds = u16::from_be_bytes(*head[8..].first_chunk()?);
        message.broadcast = u16::from_be_bytes(*head[10..].first_chunk()?) & BROADCAST != 0;
        (message.client, message.yours) = (address(12)?, address(16)?);
        let mut kind = None;
        for (number, value) in joined(rest) {
            if number == 53 {
                kind = value.first().and_then(|number| Kind::of(*number));
            }
            message.take(number, &value);
        }
        message.kind = kind?;
        Some(message)
    }

    fn take(&mut self, number: u8, value: &[u8]) {
        let one = || value.first_chunk::<4>().map(|octets| Ipv4Addr::from(*octets));
        let seconds = || value.first_chunk().map(|bytes| u32::from_be_bytes(*bytes));
        let list = || {
            let addresses = value.as_chunks::<4>().0.iter().map(|octets| Ipv4Addr::from(*octets));
            addresses.filter(|address| is_host(*address)).take(SERVERS_MAX).collect()
        };
        match number {
            1 => self.mask = one(),
            3 => self.routers = list(),
            6 => self.name_servers = list(),
            12 => self.hostname = name(value),
            15 => self.domain = name(value),
            26 => self.mtu = value.first_chunk().map(|bytes| u16::from_be_bytes(*bytes)),
            42 => self.time_servers = list(),
            50 => self.wanted = one(),
            51 => self.lease_s = seconds(),
            54 => self.server = one(),
            56 => self.text = Some(printable(value)),
            58 => self.renew_s = seconds(),
            59 => self.rebind_s = seconds(),
            121 => self.routes = routes(value).unwrap_or_default(),
            _ => {}
        }
    }
}

/// Whether an address can be one host's.
pub(super) fn is_host(address: Ipv4Addr) -> bool {
    !(address.is_unspecified()
        || address.is_loopback()
        || address.is_multicast()
        || address.is_broadcast()
        || address.octets()[0] == 0
        || address.octets()[0] >= 240)
}

/// Adds an option; one of more than 255 bytes in parts (RFC 3396).
fn option(out: &mut Vec<u8>, number: u8, value: &[u8]) {
    for part in value.chunks(255) {
        out.push(number);
        out.push(u8::try_from(part.len()).unwrap_or(u8::MAX));
        out.extend_from_slice(part);
    }
}

/// The options in their order, those in parts put together. What is cut off is left out.
fn joined(mut rest: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut all: Vec<(u8, Vec<u8>)> = Vec::new();
    while let Some((&number, after)) = rest.split_first() {
        if number == 0 {
            rest = after;
            continue;
        }
        let value =
            after.split_first().and_then(|(length, rest)| rest.split_at_checked(usize::from(*length)));
        let Some((value, after)) = value.filter(|_| number != 255) else { break };
        match all.iter_mut().find(|(other, _)| *other == number) {
            Some((_, whole)) => whole.extend_from_slice(value),
            None => all.push((number, value.to_vec())),
        }
        rest = after;
    }
    all
}

/// Routes without classes (RFC 3442): bits, as many bytes of the network as they need, the router. One that is wrong
/// makes all of them so.
fn routes(mut rest: &[u8]) -> Option<Vec<((Ipv4Addr, u8), Ipv4Addr)>> {
    let mut all = Vec::new();
    while let Some((&bits, after)) = rest.split_first() {
        let length = usize::from(bits).div_ceil(8);
        let (network, after) = after.split_at_checked(length).filter(|_| bits <= 32)?;
        let (router, after) = after.split_first_chunk::<4>()?;
        let mut octets = [0; 4];
        octets[..length].copy_from_slice(network);
        let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
        all.push(((Ipv4Addr::from(u32::from_be_bytes(octets) & mask), bits), Ipv4Addr::from(*router)));
        rest = after;
    }
    (all.len() <= ROUTES_MAX).then_some(all)
}

/// A name that can stand in resolv.conf, or none.
fn name(value: &[u8]) -> Option<String> {
    let value = value.strip_suffix(b"\0").unwrap_or(value);
    let value = value.strip_suffix(b".").unwrap_or(value);
    let fine = |label: &[u8]| {
        (1..=63).contains(&label.len())
            && label.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    let whole = value.len() <= 253 && value.split(|byte| *byte == b'.').all(fine);
    whole.then(|| String::from_utf8_lossy(value).into_owned())
}

/// What a server writes to people, without what would move a terminal's cursor.
fn printable(value: &[u8]) -> String {
    let text =
        value.iter().take(100).map(|byte| if (32..127).contains(byte) { char::from(*byte) } else { '?' });
    text.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, prop, proptest};

    fn offer() -> Message {
        let mut offer = Message::new(Kind::Offer, 0xdead_beef, [2, 0, 0, 0, 0, 1]);
        offer.reply = true;
        offer.yours = Ipv4Addr::new(10, 0, 2, 15);
        offer.server = Some(Ipv4Addr::new(10, 0, 2, 2));
        offer.mask = Some(Ipv4Addr::new(255, 255, 255, 0));
        offer.routers = vec![Ipv4Addr::new(10, 0, 2, 2)];
        offer.name_servers = vec![Ipv4Addr::new(10, 0, 2, 3)];
        offer.routes = vec![
            ((Ipv4Addr::UNSPECIFIED, 0), Ipv4Addr::new(10, 0, 2, 2)),
            ((Ipv4Addr::new(172, 16, 0, 0), 12), Ipv4Addr::new(10, 0, 2, 9)),
        ];
        (offer.lease_s, offer.renew_s, offer.rebind_s) = (Some(86_400), Some(43_200), Some(75_600));
        (offer.mtu, offer.domain) = (Some(1400), Some("example.org".into()));
        offer
    }

    #[test]
    fn what_is_written_is_read_back() {
        let bytes = offer().to_bytes();
        assert_eq!(Message::of_bytes(&bytes), Some(offer()));
        let mut ask = Message::new(Kind::Request, 7, [2, 0, 0, 0, 0, 1]);
        (ask.wanted, ask.broadcast, ask.hostname) =
            (Some(Ipv4Addr::new(10, 0, 2, 15)), true, Some("box".into()));
        assert_eq!(Message::of_bytes(&ask.to_bytes()), Some(ask.clone()));
        // As RFC 1542 wants it, and a client identifier in front of everything.
        assert!(ask.to_bytes().len() >= 300);
        assert!(ask.to_bytes().windows(9).any(|bytes| bytes == [61, 7, 1, 2, 0, 0, 0, 0, 1]));
    }

    #[test]
    fn what_a_server_must_not_say_is_not_heard() {
        let mut strange = offer();
        strange.domain = Some("a\nnameserver 6.6.6.6".into());
        strange.name_servers = vec![Ipv4Addr::LOCALHOST, Ipv4Addr::BROADCAST, Ipv4Addr::new(224, 0, 0, 1)];
        strange.text = Some("\u{1b}[2Jgone".into());
        let read = Message::of_bytes(&strange.to_bytes()).unwrap();
        assert_eq!((read.domain, read.name_servers), (None, Vec::new()));
        assert_eq!(read.text.as_deref(), Some("?[2Jgone"));
        for (place, value) in [(0, 3), (1, 6), (2, 16), (236, 0)] {
            let mut bytes = offer().to_bytes();
            bytes[place] = value;
            assert_eq!(Message::of_bytes(&bytes), None, "byte {place}");
        }
        assert_eq!(routes(&[33, 1, 2, 3, 4, 5, 1, 2, 3, 4]), None);
        assert_eq!(routes(&[24, 10, 0, 0, 1, 2, 3]), None);
    }

    #[test]
    fn it_may_be_cut_anywhere() {
        let bytes = offer().to_bytes();
        for cut in 0..bytes.len() {
            let _must_not_panic = Message::of_bytes(&bytes[..cut]);
        }
    }

    proptest! {
        #[test]
        fn no_options_break_it(options in prop::collection::vec(any::<u8>(), 0..1200)) {
            let mut bytes = offer().to_bytes()[..HEAD + 4].to_vec();
            bytes.extend_from_slice(&[53, 1, 5]);
            bytes.extend_from_slice(&options);
            if let Some(message) = Message::of_bytes(&bytes) {
                assert!(message.routes.len() <= ROUTES_MAX && message.name_servers.len() <= SERVERS_MAX);
                assert!(Message::of_bytes(&message.to_bytes()).is_some());
            }
        }
    }
}
