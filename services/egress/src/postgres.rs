//! What a program and a server of PostgreSQL say to each other before there is a session (protocol 3.0). Pure.

use crate::scram::{PLAIN, PLUS};

/// The longest first packet, as the server has it.
pub(crate) const START_MAX: usize = 10_000;
/// The longest message of a server before there is a session.
pub(crate) const MESSAGE_MAX: usize = 64 << 10;
/// How many settings a program asks for at the most.
const SETTINGS_MAX: usize = 64;

const VERSION: u32 = 3 << 16;
const CANCEL: u32 = 80_877_102;
const TLS: u32 = 80_877_103;
const GSS: u32 = 80_877_104;

/// By what a session is known to who cancels a statement of it: a process and a number.
pub(crate) type Key = [u8; 8];

/// What a program begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Opening {
    /// It asks for TLS.
    Tls,
    /// It asks for the encryption of GSSAPI.
    Gss,
    /// It cancels a statement.
    Cancel(Key),
    /// It wants a session.
    Start(Start),
}

/// A session that is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Start {
    pub(crate) user: String,
    pub(crate) database: String,
    /// Settings of the session, each with its value.
    settings: Vec<(Vec<u8>, Vec<u8>)>,
    /// Whether a newer protocol is asked for than is spoken here.
    newer: bool,
    /// Options of the protocol; none is known here.
    options: Vec<Vec<u8>>,
}

/// Reads a first packet, after its length.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn opening(packet: &[u8]) -> Result<Opening, &'static str> {
    let (code, rest) = packet.split_first_chunk().ok_or("its first packet is too short")?;
    match (u32::from_be_bytes(*code), rest) {
        (TLS, []) => Ok(Opening::Tls),
        (GSS, []) => Ok(Opening::Gss),
        (CANCEL, rest) => match rest.try_into() {
            Ok(key) => Ok(Opening::Cancel(key)),
            Err(_) => Err("its request to cancel has no key of the length that was given out"),
        },
        (version, rest) if version >> 16 == VERSION >> 16 => start(version, rest).map(Opening::Start),
        _ => Err("it does not begin as PostgreSQL's protocol 3 does"),
    }
}

/// The text up to the next zero, and what follows that.
fn text(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = memchr::memchr(0, bytes)?;
    Some((&bytes[..at], &bytes[at + 1..]))
}

/// The longest name of a user or a database, in bytes: the server itself keeps 63.
const NAME_MAX: usize = 255;

fn start(version: u32, mut rest: &[u8]) -> Result<Start, &'static str> {
    const CUT: &str = "its start breaks off";
    let (mut user, mut database) = (None, None);
    let mut start = Start { newer: version > VERSION, ..Start::default() };
    for _ in 0..=SETTINGS_MAX {
        let (name, after) = text(rest).ok_or(CUT)?;
        if name.is_empty() {
            if !after.is_empty() {
                return Err("something follows the end of its start");
            }
            let user: Vec<u8> =
                user.filter(|user: &Vec<u8>| !user.is_empty()).ok_or("its start names no user")?;
            // As the server does it.
            let database = database.filter(|name: &Vec<u8>| !name.is_empty()).unwrap_or_else(|| user.clone());
            if user.len() > NAME_MAX || database.len() > NAME_MAX {
                return Err("its user or database has more than 255 bytes");
            }
            let named = |name| String::from_utf8(name).map_err(|_| "its user or database is no text");
            (start.user, start.database) = (named(user)?, named(database)?);
            return Ok(start);
        }
        let (value, after) = text(after).ok_or(CUT)?;
        rest = after;
        let twice = match name {
            b"user" => user.replace(value.to_vec()).is_some(),
            b"database" => database.replace(value.to_vec()).is_some(),
            b"replication" => return Err("its start asks for replication, which no grant is for"),
            _ if name.starts_with(b"_pq_.") => {
                start.options.push(name.to_vec());
                false
            }
            _ => {
                start.settings.push((name.to_vec(), value.to_vec()));
                false
            }
        };
        if twice {
            return Err("its start names a user or a database twice");
        }
    }
    Err("its start asks for too many settings")
}

fn packet(tag: Option<u8>, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = 4 + parts.iter().map(|part| part.len()).sum::<usize>();
    let mut bytes: Vec<u8> = tag.into_iter().collect();
    // All that is written is far shorter than this.
    bytes.extend(u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    parts.iter().for_each(|part| bytes.extend(*part));
    bytes
}

/// Asks a server for TLS.
pub(crate) fn ask_tls() -> Vec<u8> {
    packet(None, &[&TLS.to_be_bytes()])
}

/// Asks a server to cancel what a session is at.
pub(crate) fn cancel(key: &Key) -> Vec<u8> {
    packet(None, &[&CANCEL.to_be_bytes(), key])
}

impl Start {
    /// As it is said to the server: user and database as they were looked at, and the settings as they are, which the
    /// session could change anyway.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let named = [(&b"user"[..], self.user.as_bytes()), (b"database", self.database.as_bytes())];
        let settings = self.settings.iter().map(|(name, value)| (&name[..], &value[..]));
        let mut body = VERSION.to_be_bytes().to_vec();
        for (name, value) in named.into_iter().chain(settings) {
            body.extend([name, b"\0", value, b"\0"].concat());
        }
        packet(None, &[&body, b"\0"])
    }

    /// What a program is told that asks for more than the protocol that is spoken here; nothing to any other.
    pub(crate) fn negotiated(&self) -> Vec<u8> {
        if !self.newer && self.options.is_empty() {
            return Vec::new();
        }
        let count = u32::try_from(self.options.len()).unwrap_or(u32::MAX).to_be_bytes();
        let names: Vec<u8> = self.options.iter().flat_map(|name| [&name[..], b"\0"].concat()).collect();
        packet(Some(b'v'), &[&VERSION.to_be_bytes(), &count, &names])
    }
}

/// What a server wants to be shown before there is a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Authentication<'a> {
    /// Nothing more.
    Done,
    /// One of these mechanisms.
    Sasl(Vec<&'a str>),
    /// The next step of the mechanism.
    Continue(&'a [u8]),
    /// Its last.
    Final(&'a [u8]),
    /// Something that is not done here.
    Other(&'static str),
}

/// Reads such a message, after its tag and length.
pub(crate) fn authentication(body: &[u8]) -> Option<Authentication<'_>> {
    let (code, rest) = body.split_first_chunk()?;
    Some(match u32::from_be_bytes(*code) {
        0 if rest.is_empty() => Authentication::Done,
        3 => Authentication::Other("it asks for the password itself (password, ldap, pam or radius)"),
        5 => Authentication::Other("it asks for an MD5 digest of the password"),
        2 | 6..=9 => Authentication::Other("it asks for Kerberos, GSSAPI or SSPI"),
        10 => Authentication::Sasl(mechanisms(rest)?),
        11 => Authentication::Continue(rest),
        12 => Authentication::Final(rest),
        _ => return None,
    })
}

fn mechanisms(mut rest: &[u8]) -> Option<Vec<&str>> {
    let mut found = Vec::new();
    loop {
        let (name, after) = text(rest)?;
        if name.is_empty() {
            return after.is_empty().then_some(found);
        }
        // What is not known is nothing to remember either.
        found.extend([PLAIN, PLUS].into_iter().filter(|known| known.as_bytes() == name));
        rest = after;
    }
}

/// Begins a mechanism.
pub(crate) fn begin(mechanism: &str, first: &[u8]) -> Vec<u8> {
    let length = u32::try_from(first.len()).unwrap_or(u32::MAX).to_be_bytes();
    packet(Some(b'p'), &[mechanism.as_bytes(), b"\0", &length, first])
}

/// Goes on with it.
pub(crate) fn respond(message: &[u8]) -> Vec<u8> {
    packet(Some(b'p'), &[message])
}

/// Says to a program that nothing more is to be shown.
pub(crate) fn admitted() -> Vec<u8> {
    packet(Some(b'R'), &[&0_u32.to_be_bytes()])
}

/// A message of the server, passed on.
pub(crate) fn passed_on(tag: u8, body: &[u8]) -> Vec<u8> {
    packet(Some(tag), &[body])
}

/// Tells a program that there is no session, by the protocol's own code, why, and what to do.
pub(crate) fn refusal(code: &str, why: &str, next: &str) -> Vec<u8> {
    let mut body = Vec::new();
    for (field, text) in [(b'S', "FATAL"), (b'V', "FATAL"), (b'C', code), (b'M', why), (b'H', next)] {
        body.push(field);
        body.extend(text.bytes().filter(|byte| *byte != 0).chain([0]));
    }
    packet(Some(b'E'), &[&body, b"\0"])
}

/// The code of a server's refusal.
pub(crate) fn code_of(body: &[u8]) -> Option<&str> {
    let mut rest = body;
    while let Some((field, after)) = rest.split_first().filter(|(field, _)| **field != 0) {
        let (value, after) = text(after)?;
        if *field == b'C' {
            let code = std::str::from_utf8(value).ok()?;
            return (code.len() == 5 && code.bytes().all(|b| b.is_ascii_alphanumeric())).then_some(code);
        }
        rest = after;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet_of(version: u32, pairs: &[(&str, &str)]) -> Vec<u8> {
        let mut body = version.to_be_bytes().to_vec();
        for (name, value) in pairs {
            body.extend(format!("{name}\0{value}\0").bytes());
        }
        body.push(0);
        body
    }

    fn started(version: u32, pairs: &[(&str, &str)]) -> Result<Start, &'static str> {
        match opening(&packet_of(version, pairs))? {
            Opening::Start(start) => Ok(start),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_start_has_one_meaning_and_is_written_as_it_was_read() {
        let start =
            started(VERSION, &[("user", "app"), ("database", "sales"), ("DateStyle", "ISO")]).unwrap();
        assert_eq!((&*start.user, &*start.database), ("app", "sales"));
        assert_eq!(start.negotiated(), b"");
        assert_eq!(opening(&start.bytes()[4..]), Ok(Opening::Start(start.clone())));
        for named in [&[("user", "app")][..], &[("user", "app"), ("database", "")]] {
            assert_eq!(started(VERSION, named).unwrap().database, "app");
        }
        for bad in [
            &[][..],
            &[("user", "")],
            &[("database", "sales")],
            &[("user", "app"), ("user", "root")],
            &[("user", "app"), ("database", "a"), ("database", "b")],
            &[("user", "app"), ("replication", "database")],
            &[("user", "app"), ("replication", "off")],
            &vec![("x", "y"); SETTINGS_MAX + 1],
        ] {
            assert!(started(VERSION, bad).is_err(), "{bad:?}");
        }
        let whole = packet_of(VERSION, &[("user", "app")]);
        for cut in 0..whole.len() {
            assert!(opening(&whole[..cut]).is_err(), "{cut}");
        }
        assert!(opening(&[whole, vec![0]].concat()).is_err());
        assert!(started(2 << 16, &[("user", "app")]).is_err());
        assert!(opening(&[&VERSION.to_be_bytes()[..], b"user\0\xff\0\0"].concat()).is_err());
        // What a name hides behind a zero is not its value.
        assert!(opening(&[&VERSION.to_be_bytes()[..], b"user\0app\0root\0\0"].concat()).is_err());
    }

    #[test]
    fn a_newer_protocol_is_answered_with_the_one_that_is_spoken() {
        let start = started(VERSION + 2, &[("user", "app"), ("_pq_.x", "1")]).unwrap();
        assert_eq!(start.negotiated(), b"v\0\0\0\x13\0\x03\0\0\0\0\0\x01_pq_.x\0");
        assert!(start.bytes().windows(5).all(|part| part != b"_pq_."));
        assert_eq!(start.bytes()[4..8], VERSION.to_be_bytes());
    }

    #[test]
    fn what_else_a_program_begins_with() {
        assert_eq!(opening(&TLS.to_be_bytes()), Ok(Opening::Tls));
        assert_eq!(opening(&GSS.to_be_bytes()), Ok(Opening::Gss));
        assert!(opening(&[&TLS.to_be_bytes()[..], b"x"].concat()).is_err());
        let key = *b"\0\0\0\x07abcd";
        assert_eq!(opening(&cancel(&key)[4..]), Ok(Opening::Cancel(key)));
        assert!(opening(&cancel(&key)[4..11]).is_err());
        assert!(opening(b"GET / HTTP/1.1\r\n").is_err());
    }

    #[test]
    fn what_a_server_asks_for() {
        let of = |code: u32, rest: &[u8]| {
            let body = [&code.to_be_bytes()[..], rest].concat();
            format!("{:?}", authentication(&body))
        };
        assert_eq!(of(0, b""), "Some(Done)");
        assert_eq!(
            of(10, b"SCRAM-SHA-256-PLUS\0X\0SCRAM-SHA-256\0\0"),
            "Some(Sasl([\"SCRAM-SHA-256-PLUS\", \"SCRAM-SHA-256\"]))"
        );
        assert!(of(3, b"").contains("the password itself") && of(5, b"salt").contains("MD5"));
        for (code, rest) in [(0, &b"x"[..]), (10, b"SCRAM-SHA-256\0"), (10, b"\0x"), (99, b"")] {
            assert_eq!(of(code, rest), "None");
        }
        let said = refusal("28000", "no\0 way", "do this");
        assert_eq!(code_of(&said[5..]), Some("28000"));
        assert!(
            code_of(b"C28\0\0").is_none() && code_of(b"Mx\0\0").is_none() && code_of(b"C28P01").is_none()
        );
    }
}
