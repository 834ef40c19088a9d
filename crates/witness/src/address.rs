//! Where a witness listens and where one is reached. There is no resolver here: addresses are numbers.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

/// The longest path of a unix socket (unix(7), less the final zero byte).
const UNIX_PATH_MAX: usize = 107;
/// The longest prefix of a URL's path.
const PREFIX_MAX: usize = 256;
/// The port of `http`.
const HTTP: u16 = 80;

/// Where a witness listens: `ADDRESS:PORT` or `unix:PATH`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A TCP port.
    Tcp(SocketAddr),
    /// A unix socket.
    Unix(PathBuf),
}

/// The text is not where one can listen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Neither form.
    #[error("{0:?} is neither ADDRESS:PORT with an address in numbers ([::1]:8080) nor unix:PATH")]
    Form(String),
    /// The path of a unix socket has a length that none can have.
    #[error("the path of a unix socket has 1 to {UNIX_PATH_MAX} bytes, not {0}")]
    UnixPath(usize),
}

fn unix_path(path: &str) -> Result<PathBuf, usize> {
    let fits = !path.is_empty() && path.len() <= UNIX_PATH_MAX && !path.contains('\0');
    fits.then(|| path.into()).ok_or(path.len())
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        match text.strip_prefix("unix:") {
            Some(path) => unix_path(path).map(Self::Unix).map_err(AddressError::UnixPath),
            None => text.parse().map(Self::Tcp).map_err(|_| AddressError::Form(text.to_owned())),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Where a witness is reached: `http://ADDRESS[:PORT][/PREFIX]` or `unix:PATH`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    text: String,
    pub(crate) to: To,
    /// What stands before `/add-checkpoint`; empty or beginning with a slash.
    pub(crate) prefix: String,
    /// For the header `Host`.
    pub(crate) host: String,
}

/// The addresses of a URL, in the order in which they are tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum To {
    Tcp(Vec<SocketAddr>),
    Unix(PathBuf),
}

/// The text is not where a witness can be reached from here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// It asks for TLS.
    #[error(
        "{0}: this build has no TLS; give http://ADDRESS:PORT. What is sent and what is answered is public and signed, \
         so the connection need not be secret"
    )]
    Tls(String),
    /// The host is a name.
    #[error(
        "{url}: {host:?} is a name, and this build resolves none; give its address in numbers. Whoever answers there, \
         only a cosignature that verifies with the witness's key is taken"
    )]
    Name {
        /// The whole text.
        url: String,
        /// The part that is a name.
        host: String,
    },
    /// The port is no port.
    #[error("{0}: the port is not a number from 1 to 65535")]
    Port(String),
    /// The part after the host is not taken.
    #[error(
        "{0}: after the address stand only letters, digits, and / - . _ ~, at most {PREFIX_MAX} characters, without \
         query or fragment"
    )]
    Prefix(String),
    /// The path of a unix socket has a length that none can have.
    #[error("the path of a unix socket has 1 to {UNIX_PATH_MAX} bytes, not {0}")]
    UnixPath(usize),
    /// Neither form.
    #[error("{0:?} is neither http://ADDRESS:PORT nor unix:PATH")]
    Scheme(String),
}

impl FromStr for Url {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let whole = || text.to_owned();
        if let Some(path) = text.strip_prefix("unix:") {
            let to = unix_path(path).map(To::Unix).map_err(UrlError::UnixPath)?;
            return Ok(Self { text: whole(), to, prefix: String::new(), host: "localhost".to_owned() });
        }
        if text.starts_with("https:") {
            return Err(UrlError::Tls(whole()));
        }
        let rest = text.strip_prefix("http://").ok_or_else(|| UrlError::Scheme(whole()))?;
        let (host, prefix) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let prefix = prefix.trim_end_matches('/');
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"/-._~".contains(&b);
        if prefix.len() > PREFIX_MAX || !prefix.bytes().all(plain) {
            return Err(UrlError::Prefix(whole()));
        }
        let (name, port) = split_port(host).ok_or_else(|| UrlError::Port(whole()))?;
        let addresses =
            addresses(name).ok_or_else(|| UrlError::Name { url: whole(), host: name.to_owned() })?;
        let to = To::Tcp(addresses.into_iter().map(|ip| SocketAddr::new(ip, port)).collect());
        Ok(Self { text: whole(), to, prefix: prefix.to_owned(), host: host.to_owned() })
    }
}

/// A host and its port. An address of IPv6 is in brackets, so a colon after them begins the port.
fn split_port(host: &str) -> Option<(&str, u16)> {
    let at = host.rfind(':').filter(|colon| host.rfind(']').is_none_or(|bracket| bracket < *colon));
    let Some(at) = at else { return Some((host, HTTP)) };
    let digits = &host[at + 1..];
    let port = digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok()).flatten();
    port.filter(|port| *port != 0).map(|port| (&host[..at], port))
}

fn addresses(name: &str) -> Option<Vec<IpAddr>> {
    // RFC 6761 section 6.3: `localhost` is the loopback address without asking anybody.
    if name == "localhost" {
        return Some(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
    }
    let bracketed = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    let address = match bracketed {
        Some(v6) => v6.parse::<Ipv6Addr>().ok().map(IpAddr::from),
        None => name.parse::<Ipv4Addr>().ok().map(IpAddr::from),
    };
    address.map(|address| vec![address])
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_addresses() {
        let tcp = |text: &str| match text.parse::<Url>().unwrap() {
            Url { to: To::Tcp(addresses), prefix, .. } => {
                (addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "), prefix)
            }
            other => panic!("{other:?}"),
        };
        let rows = [
            ("http://192.0.2.1", "192.0.2.1:80", ""),
            ("http://192.0.2.1:8080/", "192.0.2.1:8080", ""),
            ("http://[2001:db8::1]:8080/w/1/", "[2001:db8::1]:8080", "/w/1"),
            ("http://[::1]", "[::1]:80", ""),
            ("http://localhost:7", "127.0.0.1:7 [::1]:7", ""),
        ];
        for (text, addresses, prefix) in rows {
            assert_eq!(tcp(text), (addresses.to_owned(), prefix.to_owned()), "{text}");
            assert_eq!(text.parse::<Url>().unwrap().to_string(), text);
        }
        let unix: Url = "unix:/run/w.sock".parse().unwrap();
        assert_eq!((unix.to, unix.prefix.as_str()), (To::Unix("/run/w.sock".into()), ""));
    }

    #[test]
    fn what_cannot_be_reached_is_refused_with_the_reason() {
        let why = |text: &str| text.parse::<Url>().unwrap_err();
        assert!(matches!(why("https://192.0.2.1"), UrlError::Tls(_)));
        for name in ["http://witness.example:80/x", "http://", "http://user@192.0.2.1", "http://2001:db8::1"]
        {
            assert!(matches!(why(name), UrlError::Name { .. }), "{name}: {:?}", why(name));
        }
        for port in ["http://192.0.2.1:", "http://192.0.2.1:0", "http://[::1]:65536", "http://192.0.2.1:+8"] {
            assert!(matches!(why(port), UrlError::Port(_)), "{port}");
        }
        for path in
            ["http://192.0.2.1/a?b", "http://192.0.2.1#c", "http://192.0.2.1/a b", "http://192.0.2.1/\r"]
        {
            assert!(matches!(why(path), UrlError::Prefix(_)), "{path}");
        }
        for scheme in ["", "ftp://192.0.2.1", "192.0.2.1:80", "HTTP://192.0.2.1"] {
            assert!(matches!(why(scheme), UrlError::Scheme(_)), "{scheme}");
        }
        assert_eq!(why("unix:"), UrlError::UnixPath(0));
        assert_eq!(why(&format!("unix:/{}", "x".repeat(107))), UrlError::UnixPath(108));
    }

    #[test]
    fn addresses_to_listen_at_read_as_they_are_written() {
        for text in ["127.0.0.1:0", "[::1]:8080", "unix:/run/w.sock"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        assert!(matches!("localhost:80".parse::<Address>(), Err(AddressError::Form(_))));
        assert!(matches!("127.0.0.1".parse::<Address>(), Err(AddressError::Form(_))));
    }
}
