//! URLs, as far as HTTP needs them.

/// The longest URL.
const URL_MAX: usize = 16 << 10;

/// Where something is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Url {
    /// Whether it is asked for over TLS.
    pub(super) secure: bool,
    /// A name in lower case, or an address without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    /// With what is asked, from the first slash on.
    pub(super) path: String,
}

impl std::str::FromStr for Url {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        let secure = match scheme.to_ascii_lowercase().as_str() {
            "http" => false,
            "https" => true,
            other => return Err(format!("{other} is not known here, only http and https")),
        };
        if text.len() > URL_MAX || !rest.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("a URL has no spaces and nothing beyond ASCII, which is written as %XX".to_owned());
        }
        let rest = rest.split('#').next().unwrap_or_default();
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        if authority.contains('@') {
            return Err("a password does not belong into a URL; see -u".to_owned());
        }
        let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, rest)) => (host, rest.strip_prefix(':')),
            None => authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port))),
        };
        let port = match port {
            None | Some("") => {
                if secure {
                    443
                } else {
                    80
                }
            }
            Some(port) => port.parse().map_err(|_| format!("{port:?} is no port"))?,
        };
        let fine = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':');
        if host.is_empty() || !host.bytes().all(fine) {
            return Err(format!("{host:?} is no host"));
        }
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Ok(Self { secure, host: host.to_ascii_lowercase(), port, path })
    }
}

impl Url {
    /// What a server pointed to (RFC 3986, 5.2), from here.
    pub(super) fn join(&self, text: &str) -> Result<Self, String> {
        let scheme = if self.secure { "https" } else { "http" };
        if text.contains("://") && !text.starts_with(['/', '?']) {
            return text.parse();
        }
        if let Some(rest) = text.strip_prefix("//") {
            return format!("{scheme}://{rest}").parse();
        }
        let path = self.path.split('?').next().unwrap_or("/");
        let path = match text.chars().next() {
            None => self.path.clone(),
            Some('/') => text.to_owned(),
            Some('?') => format!("{path}{text}"),
            Some(_) => format!("{}/{text}", path.rsplit_once('/').map_or("", |(directory, _)| directory)),
        };
        format!("{scheme}://{}{}", self.host_head(), dots(&path)).parse()
    }

    /// As the head `Host` has it.
    pub(super) fn host_head(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        let usual = if self.secure { 443 } else { 80 };
        if self.port == usual { host } else { format!("{host}:{}", self.port) }
    }

    pub(super) fn same_server(&self, other: &Self) -> bool {
        (self.secure, &self.host, self.port) == (other.secure, &other.host, other.port)
    }

    /// The last part of the path, where that can be a file's name in this directory.
    pub(super) fn file_name(&self) -> Option<&str> {
        let path = self.path.split('?').next()?;
        let name = path.rsplit('/').next()?;
        (!matches!(name, "" | "." | "..")).then_some(name)
    }
}

/// Takes `.` and `..` out of a path.
fn dots(path: &str) -> String {
    let (path, rest) = path.find('?').map_or((path, ""), |at| path.split_at(at));
    let mut parts: Vec<&str> = Vec::new();
    let all: Vec<&str> = path.split('/').skip(1).collect();
    for (number, part) in all.iter().enumerate() {
        let last = number + 1 == all.len();
        match *part {
            "." => {}
            ".." => drop(parts.pop()),
            part => {
                parts.push(part);
                continue;
            }
        }
        if last {
            parts.push("");
        }
    }
    format!("/{}{rest}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Result<Url, String> {
        text.parse()
    }

    fn shown(url: &Url) -> String {
        format!("{}{}{}", if url.secure { "https://" } else { "http://" }, url.host_head(), url.path)
    }

    #[test]
    fn urls_are_read() {
        for (text, expected) in [
            ("http://A.example", "http://a.example/"),
            ("a.example:8080/x?y#z", "http://a.example:8080/x?y"),
            ("https://a.example:443/x", "https://a.example/x"),
            ("https://[2001:db8::1]:8443?q", "https://[2001:db8::1]:8443/?q"),
        ] {
            assert_eq!(shown(&url(text).unwrap()), expected);
        }
        for text in [
            "ftp://a/",
            "http://",
            "http://a b/",
            "http://a:x/",
            "http://u:p@a/",
            "http://a/\r\nX: y",
            "http://\u{e4}/",
        ] {
            assert!(url(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn what_a_server_points_to_is_found_from_where_it_said_so() {
        let here = url("https://a.example/x/y/z?q").unwrap();
        for (text, expected) in [
            ("http://b.example/", "http://b.example/"),
            ("//b.example/c", "https://b.example/c"),
            ("/c", "https://a.example/c"),
            ("c", "https://a.example/x/y/c"),
            ("../c", "https://a.example/x/c"),
            ("../../../../c", "https://a.example/c"),
            ("..", "https://a.example/x/"),
            ("./c/.", "https://a.example/x/y/c/"),
            ("?r", "https://a.example/x/y/z?r"),
            ("/c?u=http://d.example", "https://a.example/c?u=http://d.example"),
        ] {
            assert_eq!(shown(&here.join(text).unwrap()), expected, "{text}");
        }
        assert!(!here.same_server(&url("http://a.example/").unwrap()));
    }

    #[test]
    fn a_file_name_leads_nowhere_else() {
        assert_eq!(url("http://a/x/y.tar?z/w").unwrap().file_name(), Some("y.tar"));
        for text in ["http://a", "http://a/x/", "http://a/..", "http://a/x/."] {
            assert_eq!(url(text).unwrap().file_name(), None, "{text}");
        }
    }
}
