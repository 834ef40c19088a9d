//! Where in a request a secret is put.

use crate::pattern::PatternError;
use std::fmt;
use std::str::FromStr;

const PLACE: &str = "\"in header NAME\", \"in basic USER\", \"in query METHOD PATH FIELD\", \"in form METHOD PATH FIELD\", \
                     \"in json METHOD PATH FIELD\" or \"in sigv4 KEY-ID REGION SERVICE\"";
/// Words of a place are no longer than this, paths no longer than [`PATH_MAX`].
const WORD_MAX: usize = 128;
const PATH_MAX: usize = 512;

/// Headers that say what a message is, whom it is for or how it comes, or that hosts keep and show: none is a key.
const NO_KEYS: &[&str] = &[
    "accept",
    "connection",
    "cookie",
    "date",
    "expect",
    "forwarded",
    "from",
    "host",
    "keep-alive",
    "max-forwards",
    "origin",
    "pragma",
    "range",
    "referer",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "via",
    "x-amz-date",
];
const NO_KEYS_BEGIN: &[&str] =
    &["accept-", "access-control-", "content-", "if-", "proxy-", "sec-", "x-forwarded-"];

/// Where a secret is put into a request.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A header that is for keys by its name: Authorization, X-Api-Key and a few others.
    #[default]
    Usual,
    /// The whole value of this header.
    Header(String),
    /// The password of HTTP Basic authentication, for this user.
    Basic(String),
    /// The value of this field of the query.
    Query(Field),
    /// The value of this field of a form in the body.
    Form(Field),
    /// The value of this member of the object that is the body.
    Json(Field),
    /// It is the key that a request is signed with, as AWS has it.
    SigV4(Scope),
}

/// A field of one request.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Field {
    /// The request's method.
    pub method: String,
    /// Its whole path.
    pub path: String,
    /// The field's name.
    pub name: String,
}

/// What a signature is good for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Scope {
    /// Which key it is, to the host.
    pub key_id: String,
    /// The region.
    pub region: String,
    /// The service.
    pub service: String,
}

fn word(text: &str, more: &[u8]) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || more.contains(&byte);
    (1..=WORD_MAX).contains(&text.len()) && text.bytes().all(fits)
}

/// A path that has one spelling: nothing encoded, no empty or dotted part.
fn is_path(text: &str) -> bool {
    let part = |part: &str| !matches!(part, "" | "." | "..");
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*,;=:@/+".contains(&byte);
    let Some(rest) = text.strip_prefix('/') else { return false };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    text.len() <= PATH_MAX && text.bytes().all(fits) && (text == "/" || rest.split('/').all(part))
}

fn header(name: &str) -> Result<Place, &'static str> {
    let name = name.to_ascii_lowercase();
    if !word(&name, b"-_") {
        return Err("no header has this name");
    }
    if NO_KEYS.contains(&name.as_str()) || NO_KEYS_BEGIN.iter().any(|begin| name.starts_with(begin)) {
        return Err("this header is no place for a key: a host keeps it, shows it or acts by it");
    }
    Ok(Place::Header(name))
}

fn field(method: &str, path: &str, name: &str) -> Result<Field, &'static str> {
    if !word(method, b"") || method.bytes().any(|byte| !byte.is_ascii_uppercase()) {
        return Err("the method is not in capitals");
    }
    if !is_path(path) {
        return Err("the path is not one whole path in its only spelling");
    }
    if !word(name, b"-_.") {
        return Err("the field is not one name");
    }
    Ok(Field { method: method.to_owned(), path: path.to_owned(), name: name.to_owned() })
}

fn scope(key_id: &str, region: &str, service: &str) -> Result<Place, &'static str> {
    let lower = |text: &str| word(text, b"-") && !text.bytes().any(|byte| byte.is_ascii_uppercase());
    if !word(key_id, b"") {
        return Err("no key has this identifier");
    }
    if !lower(region) || !lower(service) {
        return Err("region and service are in small letters");
    }
    let (key_id, region, service) = (key_id.to_owned(), region.to_owned(), service.to_owned());
    Ok(Place::SigV4(Scope { key_id, region, service }))
}

impl FromStr for Place {
    type Err = PatternError;

    /// Reads what stands after `in`; nothing is [`Place::Usual`].
    fn from_str(text: &str) -> Result<Self, PatternError> {
        let words: Vec<&str> = if text.is_empty() { Vec::new() } else { text.split(' ').collect() };
        let place = match words[..] {
            [] => Ok(Self::Usual),
            ["header", name] => header(name),
            ["basic", user] if word(user, b"-_.@+") => Ok(Self::Basic(user.to_owned())),
            ["basic", _] => Err("the user's name has other characters than letters, digits and -_.@+"),
            ["query", method, path, name] => field(method, path, name).map(Self::Query),
            ["form", "GET" | "HEAD", ..] | ["json", "GET" | "HEAD", ..] => Err("this method has no body"),
            ["form", method, path, name] => field(method, path, name).map(Self::Form),
            ["json", method, path, name] => field(method, path, name).map(Self::Json),
            ["query" | "form" | "json", ..] => Err("method, whole path and field are not all named"),
            ["sigv4", key_id, region, service] => scope(key_id, region, service),
            ["sigv4", ..] => Err("key, region and service are not all named"),
            _ => Err("it is no place of a request"),
        };
        place.map_err(|why| PatternError::new(text, why, PLACE))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let field = |f: &mut fmt::Formatter<'_>, kind, Field { method, path, name }: &Field| {
            write!(f, "{kind} {method} {path} {name}")
        };
        match self {
            Self::Usual => Ok(()),
            Self::Header(name) => write!(f, "header {name}"),
            Self::Basic(user) => write!(f, "basic {user}"),
            Self::Query(of) => field(f, "query", of),
            Self::Form(of) => field(f, "form", of),
            Self::Json(of) => field(f, "json", of),
            Self::SigV4(Scope { key_id, region, service }) => write!(f, "sigv4 {key_id} {region} {service}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_as_it_is_written_and_nothing_looser_is_one() {
        for good in [
            "",
            "header x-auth-token",
            "basic __token__",
            "basic me@example.org",
            "query GET /maps/api/geocode/json key",
            "query GET / key",
            "form POST /oauth/token client_secret",
            "json POST /v1/login/ password",
            "sigv4 AKIAIOSFODNN7EXAMPLE us-east-1 s3",
        ] {
            assert_eq!(good.parse::<Place>().unwrap().to_string(), good);
        }
        assert_eq!("header X-Auth-Token".parse(), Ok(Place::Header("x-auth-token".into())));
        for bad in [
            " ",
            "header",
            "header Cookie",
            "header Content-Type",
            "header User-Agent",
            "header x:y",
            "header *",
            "basic",
            "basic a:b",
            "basic *",
            "query key",
            "query * /x key",
            "query GET /* *",
            "query GET x key",
            "query GET /a/../b key",
            "query GET //a key",
            "query GET /a%2fb key",
            "query GET /a?b key",
            "query get /a key",
            "query GET /a key more",
            "form GET /a key",
            "json HEAD /a key",
            "json POST /a $.key[0]",
            "sigv4 AKIA us-east-1",
            "sigv4 AKIA * s3",
            "sigv4 AKIA US-EAST-1 s3",
            "body",
        ] {
            assert!(bad.parse::<Place>().is_err(), "{bad}");
        }
    }
}
