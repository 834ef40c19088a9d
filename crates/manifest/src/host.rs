//! Hosts as grants: a name or everything below one, a port, a protocol.

use crate::pattern::{Pattern, PatternError};
use std::fmt;
use std::str::FromStr;

const HOST: &str = "a name such as \"api.example.org\", or \"*.example.org\" for what is below it";
const GRANT: &str = "PROTOCOL://HOST:PORT such as \"tls://api.example.org:443\"";
/// The longest name and the longest label in it (RFC 1035).
const NAME_BYTES: usize = 253;
const LABEL_BYTES: usize = 63;

/// The name of a host in normal form: lower-case A-labels, no dot at the end, at least two labels, no address.
///
/// What a program asks for becomes one before anything is decided about it, so that no two spellings of a name are
/// decided differently.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostName(String);

impl HostName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HostName {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        normal(text, text).map(Self)
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of a host, or of everything below a name, which is not the name itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostPattern {
    name: String,
    below: bool,
}

impl HostPattern {
    /// Whether it names this host.
    #[must_use]
    pub fn matches(&self, host: &HostName) -> bool {
        if self.below { is_below(&host.0, &self.name) } else { host.0 == self.name }
    }
}

fn is_below(name: &str, suffix: &str) -> bool {
    name.strip_suffix(suffix).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
}

impl Pattern for HostPattern {
    fn meet(&self, other: &Self) -> Option<Self> {
        // What lies below a name that lies below another lies below that one too.
        match (self.below, other.below) {
            _ if self == other => Some(self.clone()),
            (_, true) if is_below(&self.name, &other.name) => Some(self.clone()),
            (true, _) if is_below(&other.name, &self.name) => Some(other.clone()),
            _ => None,
        }
    }
}

/// The normal form of a name; `written` is what stands in an error.
fn normal(name: &str, written: &str) -> Result<String, PatternError> {
    let refuse = |why| PatternError::new(written, why, HOST);
    if !name.is_ascii() {
        return Err(refuse(
            "a name with letters beyond a-z is written with its A-labels, which begin with xn--",
        ));
    }
    let lower = name.to_ascii_lowercase();
    let name = lower.strip_suffix('.').unwrap_or(&lower);
    if name.contains('*') {
        return Err(refuse("a * stands alone for everything before the first dot, and nowhere else"));
    }
    if name.len() > NAME_BYTES || name.split('.').any(|label| label.len() > LABEL_BYTES) {
        return Err(refuse("a name has at most 253 characters, and 63 between two dots"));
    }
    let legal = |label: &str| {
        let inner = label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        inner && !label.is_empty() && !label.starts_with('-') && !label.ends_with('-')
    };
    if !name.split('.').all(legal) {
        return Err(refuse("between the dots stand letters, digits and - within"));
    }
    let mut from_right = name.rsplit('.');
    let top = from_right.next().unwrap_or_default();
    if top.bytes().all(|b| b.is_ascii_digit()) || top.starts_with("0x") {
        return Err(refuse("an address is no name, and what it leads to changes"));
    }
    if from_right.next().is_none() {
        return Err(refuse("one label alone is a whole domain of the registries, or a machine's own affair"));
    }
    Ok(name.to_owned())
}

impl From<HostName> for HostPattern {
    fn from(HostName(name): HostName) -> Self {
        Self { name, below: false }
    }
}

impl FromStr for HostPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let (name, below) = text.strip_prefix("*.").map_or((text, false), |name| (name, true));
        Ok(Self { name: normal(name, text)?, below })
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.below { "*." } else { "" }, self.name)
    }
}

/// What is spoken on a connection, and so what the gate can hold it to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// TLS, whose server name must be the host's.
    Tls,
    /// Plain HTTP, each request of which must name the host.
    Http,
    /// Anything: only the address is held to.
    Tcp,
}

impl Protocol {
    /// Every protocol.
    pub const ALL: [Self; 3] = [Self::Tls, Self::Http, Self::Tcp];

    /// Its name in a manifest.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Tls => "tls",
            Self::Http => "http",
            Self::Tcp => "tcp",
        }
    }

    fn meet(self, other: Self) -> Option<Self> {
        match (self, other) {
            (Self::Tcp, p) | (p, Self::Tcp) => Some(p),
            (a, b) => (a == b).then_some(a),
        }
    }
}

/// A host that may be reached, on one port, with one protocol: `tls://*.example.org:443`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostGrant {
    /// Which hosts.
    pub host: HostPattern,
    /// On which port.
    pub port: u16,
    /// Speaking what.
    pub protocol: Protocol,
}

impl Pattern for HostGrant {
    fn meet(&self, other: &Self) -> Option<Self> {
        let Self { host, port, protocol } = other;
        let host = self.host.meet(host)?;
        let protocol = self.protocol.meet(*protocol)?;
        (self.port == *port).then_some(Self { host, port: *port, protocol })
    }
}

impl FromStr for HostGrant {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let refuse = |why| PatternError::new(text, why, GRANT);
        let (protocol, rest) = text.split_once("://").ok_or_else(|| refuse("the protocol is missing"))?;
        let protocol = Protocol::ALL
            .into_iter()
            .find(|p| p.name() == protocol)
            .ok_or_else(|| refuse("the protocols are tls, http and tcp"))?;
        let (host, port) = rest.rsplit_once(':').ok_or_else(|| refuse("the port is missing"))?;
        if port.is_empty() || port.starts_with('0') || !port.bytes().all(|b| b.is_ascii_digit()) {
            return Err(refuse("the port is not a number from 1 to 65535"));
        }
        let port = port.parse().map_err(|_| refuse("the port is not a number from 1 to 65535"))?;
        Ok(Self { host: host.parse()?, port, protocol })
    }
}

impl fmt::Display for HostGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}:{}", self.protocol.name(), self.host, self.port)
    }
}
