//! Secrets that an agent uses and never sees: what stands for them, and where they are put into a request. Pure.

use crate::core::Denied;
use crate::said::short;
use crate::sigv4;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::http::uri::{PathAndQuery, Uri};
use memchr::memmem;
use octant_api::egress::Credential as Said;
use octant_ids::SecretName;
use octant_manifest::{HostName, HostPattern, Place, PlaceField};
use octant_outside::percent::{decoded, encoded};
use octant_outside::sigv4::Signing;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use zeroize::Zeroizing;

/// How a placeholder begins. Nothing else does, so one is found wherever it stands.
const PREFIX: &str = "octs_";
/// How many digits of base32 follow: 110 random bits.
const DIGITS: usize = 22;
/// Shorter ones would be found in what has nothing to do with them.
const SECRET_MIN: usize = 8;
/// Longer ones are in no request.
const SECRET_MAX: usize = 8 << 10;
/// The headers that a secret may stand in where its grant names no place. In any other one a host may keep it and show it
/// to whoever asks.
const HEADERS: [HeaderName; 5] = [
    AUTHORIZATION,
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("api-key"),
    HeaderName::from_static("x-goog-api-key"),
    HeaderName::from_static("private-token"),
];

/// A secret that is used for an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Credential {
    pub(crate) secret: SecretName,
    pub(crate) host: HostPattern,
    pub(crate) place: Place,
    placeholder: String,
}

/// What is wrong with a request that is read, in the words of who reads it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Misuse {
    /// A placeholder stands in it that is not this agent's for this host.
    Canary,
    /// A placeholder stands where no secret is put.
    Misplaced { secret: SecretName, place: String },
    /// It names another host.
    Host(String),
    /// It cannot be read in one way only.
    Request(String),
    /// It asks for a login that no grant is for.
    Login { user: String, database: String },
    /// It cancels what a session is at that is not this agent's.
    Cancel,
    /// The secret cannot stand where it is to be put.
    Unfit { secret: SecretName, why: String },
}

impl Misuse {
    /// As the refusal of a request to this host; texts are as long as they may be on record.
    pub(crate) fn denied(self, host: &HostName) -> Denied {
        let host = host.to_string();
        match self {
            Self::Canary => Denied::Canary(host),
            Self::Misplaced { secret, place } => {
                Denied::Misplaced { secret: secret.to_string(), place: short(&place) }
            }
            Self::Host(got) => Denied::Host { host, got: short(&got) },
            Self::Request(why) => Denied::Request(short(&why).into()),
            Self::Login { user, database } => {
                Denied::Login { user: short(&user), database: short(&database), host }
            }
            Self::Cancel => Denied::Cancel(host),
            Self::Unfit { secret, why } => {
                Denied::NoSecret { secret: secret.to_string(), host, why: short(&why) }
            }
        }
    }
}

/// Where placeholders stand, anybody's.
fn placeholders(text: &[u8]) -> Vec<(usize, usize)> {
    let digit = |byte: &u8| matches!(byte, b'a'..=b'z' | b'2'..=b'7');
    let len = PREFIX.len() + DIGITS;
    let starts = memmem::find_iter(text, PREFIX.as_bytes());
    let whole = |at: usize| text.get(at + PREFIX.len()..at + len).is_some_and(|rest| rest.iter().all(digit));
    starts.filter(|&at| whole(at)).map(|at| (at, len)).collect()
}

/// What HTTP Basic authentication says (RFC 7617): a user, a colon, a password.
fn basic(name: &HeaderName, value: &HeaderValue) -> Option<Vec<u8>> {
    let (scheme, said) = value.to_str().ok().filter(|_| *name == AUTHORIZATION)?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("basic").then(|| STANDARD.decode(said.trim()).ok())?
}

/// Whether a placeholder, anybody's, stands in the head of a request in which none belongs.
pub(crate) fn is_canary(path: &str, headers: &HeaderMap) -> bool {
    let texts = headers.iter().flat_map(|(name, value)| [name.as_str().as_bytes(), value.as_bytes()]);
    let hidden = headers.iter().filter_map(|(name, value)| basic(name, value));
    std::iter::once(path.as_bytes()).chain(texts).any(|text| !placeholders(text).is_empty())
        || hidden.into_iter().any(|text| !placeholders(&text).is_empty())
}

impl Credential {
    /// Reads what `agents` says.
    pub(crate) fn read(said: &Said) -> Result<Self, String> {
        let whole = |(at, len)| at == 0 && len == said.placeholder.len();
        if !placeholders(said.placeholder.as_bytes()).first().is_some_and(|&found| whole(found)) {
            return Err(format!("what stands for {} is no placeholder", said.secret));
        }
        let host = said.host.parse().map_err(|error| format!("{error}"))?;
        let place = said.place.parse().map_err(|error| format!("{error}"))?;
        Ok(Self { secret: said.secret.clone(), host, place, placeholder: said.placeholder.clone() })
    }

    /// As `agents` said it.
    pub(crate) fn said(&self) -> Said {
        let (secret, placeholder) = (self.secret.clone(), self.placeholder.clone());
        Said { secret, host: self.host.to_string(), placeholder, place: self.place.to_string() }
    }
}

/// Where in one request a secret is to be put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Put {
    pub(crate) secret: SecretName,
    spot: Spot,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Spot {
    /// After what stands before the placeholder: a scheme and a space, or nothing.
    Header(HeaderName, String),
    Basic(String),
    /// The pair of the query with this number.
    Query(usize),
    /// The pair of the form with this number.
    Form(usize),
    /// The text of a member of the body's object, with its quotes.
    Json {
        at: usize,
        len: usize,
    },
    Signature(Signing),
}

/// A request whose head is known, and its body where that is read.
struct Asked<'a> {
    mine: &'a [Credential],
    host: &'a HostName,
    parts: &'a Parts,
    body: Option<&'a [u8]>,
}

fn path_of(parts: &Parts) -> &str {
    parts.uri.path_and_query().map_or("/", PathAndQuery::as_str)
}

/// The pairs of a query or a form.
fn pairs(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

/// Whether the body of a request is read before it is sent: a grant names a field of it, or a signature needs its digest.
pub(crate) fn reads_body(mine: &[Credential], host: &HostName, parts: &Parts) -> bool {
    mine.iter().filter(|c| c.host.matches(host)).any(|c| match &c.place {
        Place::Form(field) | Place::Json(field) => is_at(field, parts),
        Place::SigV4(scope) => {
            sigv4::key_id(&parts.headers) == Some(&*scope.key_id) && sigv4::needs_body(&parts.headers)
        }
        Place::Usual | Place::Header(_) | Place::Basic(_) | Place::Query(_) => false,
    })
}

fn is_at(field: &PlaceField, parts: &Parts) -> bool {
    parts.method.as_str() == field.method && parts.uri.path() == field.path
}

/// Where in a request to a host secrets are to be put. `mine` are the agent's; `body` is there where [`reads_body`] says so.
///
/// # Errors
/// [`Misuse::Canary`] when a placeholder stands there that is not this agent's for this host, [`Misuse::Misplaced`] when
/// it stands where no secret is put.
pub(crate) fn places(
    mine: &[Credential],
    host: &HostName,
    parts: &Parts,
    body: Option<&[u8]>,
) -> Result<Vec<Put>, Misuse> {
    let asked = Asked { mine, host, parts, body };
    let mut puts = asked.in_query()?;
    puts.extend(asked.in_headers()?);
    puts.extend(asked.in_body()?);
    // What is signed is signed as it is sent, so this comes last.
    puts.extend(asked.in_signature()?);
    Ok(puts)
}

fn misplaced(credential: &Credential, place: &str) -> Misuse {
    Misuse::Misplaced { secret: credential.secret.clone(), place: place.to_owned() }
}

impl Asked<'_> {
    /// Every grant of the secret that a placeholder in this text stands for; none where there is no placeholder.
    fn ours(&self, text: &[u8]) -> Result<Vec<&Credential>, Misuse> {
        let mut found = Vec::new();
        for (at, len) in placeholders(text) {
            let said = &text[at..at + len];
            let fits = |c: &&Credential| c.placeholder.as_bytes() == said && c.host.matches(self.host);
            found = self.mine.iter().filter(fits).collect();
            if found.is_empty() {
                return Err(Misuse::Canary);
            }
        }
        Ok(found)
    }

    fn in_query(&self) -> Result<Vec<Put>, Misuse> {
        let path = path_of(self.parts);
        let ours = self.ours(path.as_bytes())?;
        let Some(first) = ours.first() else { return Ok(Vec::new()) };
        let here = ours.iter().find_map(|c| match &c.place {
            Place::Query(field) if is_at(field, self.parts) => {
                only(self.parts.uri.query()?, &field.name, &c.placeholder).map(|number| (c, number))
            }
            _ => None,
        });
        match here {
            Some((c, number)) if placeholders(path.as_bytes()).len() == 1 => {
                Ok(vec![Put { secret: c.secret.clone(), spot: Spot::Query(number) }])
            }
            _ => Err(misplaced(first, "the URL")),
        }
    }

    fn in_headers(&self) -> Result<Vec<Put>, Misuse> {
        let mut puts = Vec::new();
        for (header, value) in &self.parts.headers {
            if let Some(c) = self.ours(header.as_str().as_bytes())?.first() {
                return Err(misplaced(c, "a header's name"));
            }
            let (ours, hidden) = (self.ours(value.as_bytes())?, basic(header, value));
            let concealed = hidden.as_deref().map_or(Ok(Vec::new()), |hidden| self.ours(hidden))?;
            let Some(first) = ours.first().or(concealed.first()) else { continue };
            let once = self.parts.headers.get_all(header).iter().nth(1).is_none();
            let spot = |c: &&Credential| match (&c.place, &hidden) {
                (Place::Basic(user), Some(hidden)) => (*hidden
                    == format!("{user}:{}", c.placeholder).as_bytes())
                .then(|| Spot::Basic(user.clone())),
                (Place::Header(name), None) if header.as_str() == name => whole(c, header, value, false),
                (Place::Usual, None) if HEADERS.contains(header) => whole(c, header, value, true),
                _ => None,
            };
            let found = ours.iter().chain(&concealed).find_map(|c| spot(c).map(|spot| (c, spot)));
            match found {
                Some((c, spot)) if once => puts.push(Put { secret: c.secret.clone(), spot }),
                _ => return Err(misplaced(first, header.as_str())),
            }
        }
        Ok(puts)
    }

    fn in_body(&self) -> Result<Vec<Put>, Misuse> {
        let Some(body) = self.body else { return Ok(Vec::new()) };
        let ours = self.ours(body)?;
        let Some(first) = ours.first() else { return Ok(Vec::new()) };
        let kind =
            self.parts.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let spot = |c: &&Credential| match &c.place {
            Place::Form(field) if is_at(field, self.parts) && kind == "application/x-www-form-urlencoded" => {
                only(std::str::from_utf8(body).ok()?, &field.name, &c.placeholder).map(Spot::Form)
            }
            Place::Json(field) if is_at(field, self.parts) && kind == "application/json" => {
                member(body, &field.name, &c.placeholder)
            }
            _ => None,
        };
        match ours.iter().find_map(|c| spot(c).map(|spot| (c, spot))) {
            Some((c, spot)) if placeholders(body).len() == 1 => {
                Ok(vec![Put { secret: c.secret.clone(), spot }])
            }
            _ => Err(misplaced(first, "the body")),
        }
    }

    fn in_signature(&self) -> Result<Vec<Put>, Misuse> {
        let (signed, query) = (sigv4::key_id(&self.parts.headers), self.parts.uri.query());
        let mut puts = Vec::new();
        for c in self.mine.iter().filter(|c| c.host.matches(self.host)) {
            let Place::SigV4(scope) = &c.place else { continue };
            if query.is_some_and(|query| sigv4::is_signed_by(query, &scope.key_id)) {
                return Err(misplaced(c, "a signature in the URL"));
            }
            if signed == Some(&*scope.key_id) {
                let signed = sigv4::read(&self.parts.headers, scope).map_err(Misuse::Request)?;
                puts.push(Put { secret: c.secret.clone(), spot: Spot::Signature(signed) });
            }
        }
        // Of several keys with one identifier the first is as good as any.
        puts.truncate(1);
        Ok(puts)
    }
}

/// The number of the only pair of this name, when its value is the placeholder.
fn only(text: &str, name: &str, placeholder: &str) -> Option<usize> {
    let mut named = pairs(text).enumerate().filter(|(_, (key, _))| decoded(key) == name.as_bytes());
    let (number, pair) = named.next()?;
    (named.next().is_none() && pair == (name, placeholder)).then_some(number)
}

/// Where the text of the only member of this name of an object is, when it is the placeholder.
fn member(body: &[u8], name: &str, placeholder: &str) -> Option<Spot> {
    // A map keeps one of two members of a name, so they are counted apart.
    let object: Members<'_> = serde_json::from_slice(body).ok()?;
    let mut named = object.0.into_iter().filter(|(key, _)| key == name);
    let (_, value) = named.next()?;
    if named.next().is_some() || value.get() != format!("\"{placeholder}\"") {
        return None;
    }
    let at = value.get().as_ptr().addr().checked_sub(body.as_ptr().addr())?;
    Some(Spot::Json { at, len: value.get().len() })
}

/// The members of an object in their order, each value as it is written.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Each;
        impl<'de> serde::de::Visitor<'de> for Each {
            type Value = Members<'de>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        from.deserialize_map(Each)
    }
}

/// A header whose whole value is the placeholder, or for Authorization follows a scheme (RFC 9110 section 11.4).
fn whole(c: &Credential, header: &HeaderName, value: &HeaderValue, schemes: bool) -> Option<Spot> {
    let before = value.to_str().ok()?.strip_suffix(&c.placeholder)?;
    let scheme = before.strip_suffix(' ').unwrap_or_default();
    let is_scheme = schemes && *header == AUTHORIZATION && !scheme.is_empty();
    let fits = before.is_empty() || (is_scheme && scheme.chars().all(|c| c.is_ascii_alphanumeric()));
    fits.then(|| Spot::Header(header.clone(), before.to_owned()))
}

impl Put {
    /// Puts the secret there.
    ///
    /// # Errors
    /// Why it cannot stand there.
    pub(crate) fn put(
        &self,
        parts: &mut Parts,
        body: &mut Option<Bytes>,
        secret: &[u8],
    ) -> Result<(), String> {
        if !(SECRET_MIN..=SECRET_MAX).contains(&secret.len()) {
            return Err(format!("it has {} bytes, not {SECRET_MIN} to {SECRET_MAX}", secret.len()));
        }
        match &self.spot {
            Spot::Header(name, before) => {
                if !secret.iter().all(u8::is_ascii_graphic) {
                    return Err("it has bytes that cannot stand in a header".into());
                }
                set(parts, name, &Zeroizing::new([before.as_bytes(), secret].concat()))
            }
            Spot::Basic(user) => {
                if secret.iter().any(u8::is_ascii_control) {
                    return Err("it has bytes that cannot stand in a password".into());
                }
                let pair = Zeroizing::new([user.as_bytes(), b":", secret].concat());
                let value = Zeroizing::new(format!("Basic {}", STANDARD.encode(&*pair)));
                set(parts, &AUTHORIZATION, value.as_bytes())
            }
            Spot::Query(number) => {
                let query = with_pair(parts.uri.query().unwrap_or_default(), *number, secret);
                let mut uri = std::mem::take(&mut parts.uri).into_parts();
                let path = uri.path_and_query.as_ref().map_or("/", PathAndQuery::path);
                let whole = Zeroizing::new(format!("{path}?{}", *query));
                uri.path_and_query = Some(whole.parse().map_err(|_| "it makes the URL too long".to_owned())?);
                parts.uri = Uri::from_parts(uri).map_err(|error| error.to_string())?;
                Ok(())
            }
            Spot::Form(number) => {
                let form = std::str::from_utf8(body.as_deref().unwrap_or_default());
                let form = form.map_err(|error| error.to_string())?;
                let whole = with_pair(form, *number, secret).as_bytes().to_vec();
                refill(parts, body, whole);
                Ok(())
            }
            Spot::Json { at, len } => {
                let text = std::str::from_utf8(secret).map_err(|_| "it is no text".to_owned())?;
                let text = Zeroizing::new(serde_json::to_string(text).map_err(|error| error.to_string())?);
                let whole = body.as_deref().unwrap_or_default();
                let (before, after) = (whole.get(..*at), whole.get(at + len..));
                let (before, after) = before.zip(after).ok_or("its place is gone")?;
                let whole = [before, text.as_bytes(), after].concat();
                refill(parts, body, whole);
                Ok(())
            }
            Spot::Signature(signed) => {
                signed.sign(parts, body.as_deref(), secret).map_err(|error| error.to_string())
            }
        }
    }
}

fn set(parts: &mut Parts, name: &HeaderName, value: &[u8]) -> Result<(), String> {
    let mut value = HeaderValue::from_bytes(value).map_err(|error| error.to_string())?;
    value.set_sensitive(true);
    parts.headers.insert(name.clone(), value);
    Ok(())
}

fn refill(parts: &mut Parts, body: &mut Option<Bytes>, whole: Vec<u8>) {
    parts.headers.insert(CONTENT_LENGTH, HeaderValue::from(whole.len()));
    *body = Some(whole.into());
}

/// Pairs with a secret as the value of the one with this number.
fn with_pair(text: &str, number: usize, secret: &[u8]) -> Zeroizing<String> {
    let secret = Zeroizing::new(encoded(secret, b""));
    let pair = |(n, pair): (usize, &str)| match pair.split_once('=') {
        Some((name, _)) if n == number => format!("{name}={}", *secret),
        _ => pair.to_owned(),
    };
    Zeroizing::new(text.split('&').enumerate().map(pair).collect::<Vec<_>>().join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::Request;

    const MINE: &str = "octs_abcdefghijklmnopqrstuv";
    const OTHERS: &str = "octs_bbbbbbbbbbbbbbbbbbbbbb";
    const SECRET: &str = "s3cr+et/\"value\\";
    const API: &str = "api.example.org";

    /// A request, with what stands for a secret in this place.
    struct Try {
        place: &'static str,
        method: &'static str,
        path: String,
        headers: Vec<(&'static str, String)>,
        body: Option<String>,
    }

    fn get(path: &str, headers: &[(&'static str, &str)]) -> Try {
        let headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        Try { place: "", method: "GET", path: path.to_owned(), headers, body: None }
    }

    fn post(kind: &str, body: String) -> Try {
        let headers = vec![("content-type", kind.to_owned())];
        Try { place: "", method: "POST", path: "/in".to_owned(), headers, body: Some(body) }
    }

    impl Try {
        fn at(self, place: &'static str) -> Self {
            Self { place, ..self }
        }

        fn parts(&self) -> Parts {
            let mut request = Request::builder().method(self.method).uri(&self.path);
            for (name, value) in &self.headers {
                request = request.header(*name, value);
            }
            request.body(()).unwrap().into_parts().0
        }

        fn places(&self, host: &str) -> Result<Vec<Put>, Misuse> {
            let said = Said {
                secret: "prod/api".parse().unwrap(),
                host: API.into(),
                placeholder: MINE.into(),
                place: self.place.into(),
            };
            let (mine, host, parts) =
                ([Credential::read(&said).unwrap()], host.parse().unwrap(), self.parts());
            let body = self.body.as_deref().filter(|_| reads_body(&mine, &host, &parts));
            places(&mine, &host, &parts, body.map(str::as_bytes))
        }

        /// The request as it is sent on.
        fn with(&self, secret: &str) -> Result<(Parts, String), String> {
            let put = self.places(API).unwrap().remove(0);
            let (mut parts, mut body) = (self.parts(), self.body.clone().map(Bytes::from));
            put.put(&mut parts, &mut body, secret.as_bytes())?;
            Ok((parts, String::from_utf8(body.unwrap_or_default().to_vec()).unwrap()))
        }
    }

    fn basic_of(user: &str, password: &str) -> String {
        format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
    }

    #[test]
    fn without_a_place_it_is_a_header_for_keys_and_nothing_else() {
        let bearer = format!("Bearer {MINE}");
        for good in [("authorization", bearer.as_str()), ("authorization", MINE), ("x-api-key", MINE)] {
            assert_eq!(get("/", &[good]).places(API).unwrap().len(), 1, "{good:?}");
        }
        assert_eq!(get("/octs_short", &[("x", "octs_")]).places(API), Ok(vec![]));
        let (longer, hidden) = (format!("{MINE}x"), basic_of("me", MINE));
        for bad in [
            &[("x-note", MINE)][..],
            &[("cookie", MINE)],
            &[("x-api-key", bearer.as_str())],
            &[("authorization", &format!("a b {MINE}"))],
            &[("authorization", &hidden)],
            &[("x-api-key", &longer)],
            &[("x-api-key", MINE), ("x-api-key", "other")],
        ] {
            assert!(matches!(get("/", bad).places(API), Err(Misuse::Misplaced { .. })), "{bad:?}");
        }
        let query = get(&format!("/x?key={MINE}"), &[]);
        assert!(matches!(query.places(API), Err(Misuse::Misplaced { .. })));
    }

    #[test]
    fn a_header_or_a_user_that_a_grant_names_is_the_only_one() {
        let named = get("/", &[("x-auth", MINE)]).at("header x-auth");
        assert_eq!(named.with("12345678").unwrap().0.headers["x-auth"], "12345678");
        let hidden = basic_of("me", MINE);
        let basic = get("/", &[("authorization", &hidden)]).at("basic me");
        assert_eq!(basic.with(SECRET).unwrap().0.headers[AUTHORIZATION], *basic_of("me", SECRET));
        assert!(basic.with("with\na line").is_err());
        let (other, raw) = (basic_of("you", MINE), format!("Basic {MINE}"));
        for bad in [
            get("/", &[("x-api-key", MINE)]).at("header x-auth"),
            get("/", &[("x-auth", &raw)]).at("header x-auth"),
            get("/", &[("authorization", &other)]).at("basic me"),
            get("/", &[("authorization", &raw)]).at("basic me"),
            get("/", &[("x-auth", &hidden)]).at("basic me"),
            get("/", &[("x-auth", MINE)]).at("basic me"),
        ] {
            // What is hidden where nobody looks is worth nothing.
            let places = bad.places(API);
            assert!(
                matches!(places, Err(Misuse::Misplaced { .. })) || places == Ok(vec![]),
                "{:?}",
                bad.headers
            );
        }
        let others = basic_of("me", OTHERS);
        assert_eq!(get("/", &[("authorization", &others)]).at("basic me").places(API), Err(Misuse::Canary));
        assert!(is_canary("/", &get("/", &[("authorization", &others)]).parts().headers));
    }

    #[test]
    fn a_field_of_the_query_is_the_one_that_the_grant_names() {
        let place = "query GET /in key";
        let good = get(&format!("/in?a=b&key={MINE}&c"), &[]).at(place);
        let sent = good.with(SECRET).unwrap().0.uri.to_string();
        assert_eq!(sent, "/in?a=b&key=s3cr%2Bet%2F%22value%5C&c");
        for bad in [
            format!("/in?other={MINE}"),
            format!("/out?key={MINE}"),
            format!("/in/?key={MINE}"),
            format!("/in?key=x{MINE}"),
            format!("/in?key={MINE}&key=x"),
            format!("/in?key={MINE}&k%65y=x"),
            format!("/in?k%65y={MINE}"),
            format!("/in?key={MINE}&other={MINE}"),
            format!("/in?{MINE}"),
        ] {
            let asked = get(&bad, &[]).at(place);
            assert!(matches!(asked.places(API), Err(Misuse::Misplaced { .. })), "{bad}");
        }
        let other = Try { method: "POST", ..get(&format!("/in?key={MINE}"), &[]).at(place) };
        assert!(other.places(API).is_err());
        assert_eq!(get(&format!("/in?key={OTHERS}"), &[]).at(place).places(API), Err(Misuse::Canary));
    }

    #[test]
    fn a_field_of_the_body_is_the_one_that_the_grant_names() {
        let (form, json) = ("application/x-www-form-urlencoded", "application/json; charset=utf-8");
        let good = post(form, format!("a=b&key={MINE}")).at("form POST /in key");
        let (parts, sent) = good.with(SECRET).unwrap();
        assert_eq!(sent, "a=b&key=s3cr%2Bet%2F%22value%5C");
        assert_eq!(parts.headers[CONTENT_LENGTH], sent.len().to_string());
        let good = post(json, format!("{{\"a\": [1, {{}}], \"key\": \"{MINE}\"}}")).at("json POST /in key");
        let (_, sent) = good.with(SECRET).unwrap();
        assert_eq!(
            sent,
            format!("{{\"a\": [1, {{}}], \"key\": {}}}", serde_json::to_string(SECRET).unwrap())
        );
        let escaped = MINE.replacen('o', "\\u006f", 1);
        for bad in [
            post(form, format!("key={MINE}&key=x")).at("form POST /in key"),
            post(form, format!("key={MINE}&note={MINE}")).at("form POST /in key"),
            post(form, format!("note={MINE}")).at("form POST /in key"),
            post(json, format!("key={MINE}")).at("form POST /in key"),
            post(json, format!("{{\"note\": \"{MINE}\"}}")).at("json POST /in key"),
            post(json, format!("{{\"key\": {{\"key\": \"{MINE}\"}}}}")).at("json POST /in key"),
            post(json, format!("{{\"key\": \"{MINE}\", \"key\": 1}}")).at("json POST /in key"),
            post(json, format!("{{\"key\": \"{MINE}\", \"k\\u0065y\": 1}}")).at("json POST /in key"),
            post(json, format!("{{\"key\": \"x{MINE}\"}}")).at("json POST /in key"),
            post(json, format!("[\"{MINE}\"]")).at("json POST /in key"),
            // The field has it spelt otherwise, and another member has it as it is.
            post(json, format!("{{\"key\": \"{escaped}\", \"note\": \"{MINE}\"}}")).at("json POST /in key"),
            post(form, format!("{{\"key\": \"{MINE}\"}}")).at("json POST /in key"),
        ] {
            assert!(matches!(bad.places(API), Err(Misuse::Misplaced { .. })), "{:?}", bad.body);
        }
        let canary = post(json, format!("{{\"key\": \"{OTHERS}\"}}")).at("json POST /in key");
        assert_eq!(canary.places(API), Err(Misuse::Canary));
        // Where no grant names the request its body is not looked at.
        assert_eq!(post(json, format!("{{\"key\": \"{MINE}\"}}")).places(API), Ok(vec![]));
    }

    #[test]
    fn what_is_signed_with_a_key_that_is_granted_is_signed_anew() {
        let place = "sigv4 AKID us-east-1 s3";
        let said = "AWS4-HMAC-SHA256 Credential=AKID/20130524/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0";
        let lines = [("authorization", said), ("host", API), ("x-amz-date", "20130524T000000Z")];
        let unsigned = [&lines[..], &[("x-amz-content-sha256", "UNSIGNED-PAYLOAD")]].concat();
        let sent = get("/x", &unsigned).at(place).with("12345678").unwrap().0;
        assert!(sent.headers[AUTHORIZATION].to_str().unwrap().len() > said.len() + 50);
        // Without a digest the body is read for it.
        let body = Try { body: Some("x".into()), ..get("/x", &lines).at(place) };
        assert_ne!(body.with("12345678").unwrap().0.headers[AUTHORIZATION], sent.headers[AUTHORIZATION]);
        let elsewhere = get("/x", &unsigned).at("sigv4 AKID eu-west-1 s3");
        assert!(matches!(elsewhere.places(API), Err(Misuse::Request(_))));
        assert_eq!(get("/x", &unsigned).at("sigv4 OTHER us-east-1 s3").places(API), Ok(vec![]));
        let in_url = get("/x?X-Amz-Credential=AKID%2F20130524%2Fus-east-1", &[]).at(place);
        assert!(matches!(in_url.places(API), Err(Misuse::Misplaced { .. })));
    }

    #[test]
    fn a_placeholder_elsewhere_is_a_canary() {
        let bearer = get("/", &[("authorization", MINE)]);
        assert_eq!(bearer.places("evil.org"), Err(Misuse::Canary));
        assert_eq!(get("/", &[("authorization", OTHERS)]).places(API), Err(Misuse::Canary));
        for (path, headers) in [(format!("/{MINE}"), vec![]), ("/".to_owned(), vec![("x-note", OTHERS)])] {
            assert!(is_canary(&path, &get("/", &headers).parts().headers), "{path} {headers:?}");
        }
        assert!(!is_canary("/octs_short", &get("/", &[("x", "octs_")]).parts().headers));
    }

    #[test]
    fn a_secret_that_cannot_stand_in_a_header_is_not_put_there() {
        let asked = get("/", &[("x-api-key", MINE)]);
        for bad in ["short", "with a space in", "with\r\nanother: line", &"x".repeat(SECRET_MAX + 1)] {
            assert!(asked.with(bad).is_err(), "{bad:?}");
        }
        let sent = asked.with(SECRET).unwrap().0.headers;
        assert_eq!(sent["x-api-key"].as_bytes(), SECRET.as_bytes());
        assert!(!format!("{sent:?}").contains(SECRET), "it is not shown");
    }
}
