//! Secrets that an agent uses and never sees: what stands for them, where they may be put into a request, and how they
//! are taken out of what comes back. Pure.

use crate::core::Denied;
use crate::said::short;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use hyper::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use memchr::memmem;
use octant_api::egress::Credential as Said;
use octant_ids::SecretName;
use octant_manifest::{HostName, HostPattern};
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use zeroize::Zeroizing;

/// How a placeholder begins. Nothing else does, so one is found wherever it stands.
const PREFIX: &str = "octs_";
/// How many digits of base32 follow: 110 random bits.
const DIGITS: usize = 22;
/// Shorter ones would be found in what has nothing to do with them.
const SECRET_MIN: usize = 8;
/// Longer ones are in no header.
const SECRET_MAX: usize = 8 << 10;
/// The headers that a secret may stand in. In any other one a host may keep it and show it to whoever asks.
const HEADERS: [HeaderName; 5] = [
    AUTHORIZATION,
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("api-key"),
    HeaderName::from_static("x-goog-api-key"),
    HeaderName::from_static("private-token"),
];
/// So much of what may be the begin of a secret is not held back for ever.
const LITTLE: usize = 4;
/// What stands in place of each byte of a secret in an answer, so that nothing changes its length.
const MASK: u8 = b'*';

/// A secret that is used for an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Credential {
    pub(crate) secret: SecretName,
    pub(crate) host: HostPattern,
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
            Self::Unfit { secret, why } => {
                Denied::NoSecret { secret: secret.to_string(), host, why: short(&why) }
            }
        }
    }
}

/// Whether a placeholder, anybody's, stands in the head of a request in which none belongs.
pub(crate) fn is_canary(path: &str, headers: &HeaderMap) -> bool {
    let texts = headers.iter().flat_map(|(name, value)| [name.as_str().as_bytes(), value.as_bytes()]);
    std::iter::once(path.as_bytes()).chain(texts).any(|text| !placeholders(text).is_empty())
}

impl Credential {
    /// Reads what `agents` says.
    pub(crate) fn read(said: &Said) -> Result<Self, String> {
        let whole = |(at, len)| at == 0 && len == said.placeholder.len();
        if !placeholders(said.placeholder.as_bytes()).first().is_some_and(|&found| whole(found)) {
            return Err(format!("what stands for {} is no placeholder", said.secret));
        }
        let host = said.host.parse().map_err(|error| format!("{error}"))?;
        Ok(Self { secret: said.secret.clone(), host, placeholder: said.placeholder.clone() })
    }

    /// As `agents` said it.
    pub(crate) fn said(&self) -> Said {
        let (secret, placeholder) = (self.secret.clone(), self.placeholder.clone());
        Said { secret, host: self.host.to_string(), placeholder }
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

/// A place of a request where a secret is to be put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) secret: SecretName,
    header: HeaderName,
    /// What stands before the placeholder: a scheme and a space, or nothing.
    before: String,
}

/// Where in the head of a request to a host secrets are to be put. `mine` are the agent's.
///
/// # Errors
/// [`Misuse::Canary`] when a placeholder stands there that is not this agent's for this host, [`Misuse::Misplaced`] when
/// it stands where no secret is put.
pub(crate) fn places(
    mine: &[Credential],
    host: &HostName,
    path: &str,
    headers: &HeaderMap,
) -> Result<Vec<Place>, Misuse> {
    let ours = |text: &[u8]| -> Result<Option<&Credential>, Misuse> {
        let mut found = None;
        for (at, len) in placeholders(text) {
            let said = &text[at..at + len];
            let fits = |c: &&Credential| c.placeholder.as_bytes() == said && c.host.matches(host);
            found = Some(mine.iter().find(fits).ok_or(Misuse::Canary)?);
        }
        Ok(found)
    };
    let misplaced = |credential: &Credential, place: &str| {
        Err(Misuse::Misplaced { secret: credential.secret.clone(), place: place.to_owned() })
    };
    if let Some(credential) = ours(path.as_bytes())? {
        return misplaced(credential, "the URL");
    }
    let mut places = Vec::new();
    for (header, value) in headers {
        if let Some(credential) = ours(header.as_str().as_bytes())? {
            return misplaced(credential, "a header's name");
        }
        let Some(credential) = ours(value.as_bytes())? else { continue };
        let once = headers.get_all(header).iter().nth(1).is_none();
        let before = value.to_str().ok().and_then(|value| value.strip_suffix(&credential.placeholder));
        // A whole value, or for Authorization one with its scheme (RFC 9110 section 11.4).
        let scheme = |before: &str| {
            let scheme = before.strip_suffix(' ').unwrap_or_default();
            *header == AUTHORIZATION
                && !scheme.is_empty()
                && scheme.chars().all(|c| c.is_ascii_alphanumeric())
        };
        match before {
            Some(before) if once && HEADERS.contains(header) && (before.is_empty() || scheme(before)) => {
                places.push(Place {
                    secret: credential.secret.clone(),
                    header: header.clone(),
                    before: before.to_owned(),
                });
            }
            _ => return misplaced(credential, header.as_str()),
        }
    }
    Ok(places)
}

impl Place {
    /// Puts the secret there.
    ///
    /// # Errors
    /// Why it cannot stand in a header.
    pub(crate) fn put(&self, headers: &mut HeaderMap, secret: &[u8]) -> Result<(), String> {
        if !(SECRET_MIN..=SECRET_MAX).contains(&secret.len()) {
            return Err(format!("it has {} bytes, not {SECRET_MIN} to {SECRET_MAX}", secret.len()));
        }
        if !secret.iter().all(u8::is_ascii_graphic) {
            return Err("it has bytes that cannot stand in a header".into());
        }
        let whole = Zeroizing::new([self.before.as_bytes(), secret].concat());
        let mut value = HeaderValue::from_bytes(&whole).map_err(|error| error.to_string())?;
        value.set_sensitive(true);
        headers.insert(self.header.clone(), value);
        Ok(())
    }
}

/// The forms in which a host may give back a secret that it was sent.
fn forms(secret: &[u8]) -> Vec<Zeroizing<Vec<u8>>> {
    let mut forms = vec![Zeroizing::new(secret.to_vec())];
    // So large from the begin that no copy is left behind by growing.
    let room = || String::with_capacity(3 * secret.len());
    let (mut low, mut high, mut percent, mut all) = (room(), room(), room(), room());
    for &byte in secret {
        // Writing into a string does not fail.
        let _ = write!(low, "{byte:02x}");
        let _ = write!(high, "{byte:02X}");
        let _ = write!(all, "%{byte:02X}");
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            percent.push(char::from(byte));
        } else {
            let _ = write!(percent, "%{byte:02X}");
        }
    }
    for lower in [&percent, &all].map(|text| text.to_ascii_lowercase()) {
        forms.push(Zeroizing::new(lower.into_bytes()));
    }
    if let Ok(json) = serde_json::to_string(&String::from_utf8_lossy(secret)).map(Zeroizing::new) {
        forms.push(Zeroizing::new(json.trim_matches('"').as_bytes().to_vec()));
    }
    forms.extend([low, high, percent, all].map(|text| Zeroizing::new(text.into_bytes())));
    // In base64 the same bytes look otherwise by how many others stand before them; what depends on their neighbours is
    // left out.
    for before in 0..3 {
        let bytes = Zeroizing::new([&[0_u8; 2][..before], secret].concat());
        let (first, end) = ((before * 8).div_ceil(6), bytes.len() * 8 / 6);
        for text in [STANDARD_NO_PAD.encode(&*bytes), URL_SAFE_NO_PAD.encode(&*bytes)].map(Zeroizing::new) {
            forms.push(Zeroizing::new(text.as_bytes()[first..end].to_vec()));
        }
    }
    forms.sort_by(|one, other| one.as_slice().cmp(other.as_slice()));
    forms.dedup();
    forms
}

/// Takes secrets out of what comes back, however it is cut into pieces.
#[derive(Default)]
pub(crate) struct Scrub {
    forms: Vec<Zeroizing<Vec<u8>>>,
    /// What came and may be the begin of a secret.
    raw: Zeroizing<Vec<u8>>,
    /// The same, without what was found.
    shown: Zeroizing<Vec<u8>>,
    /// How much of it has gone on already.
    released: usize,
}

impl std::fmt::Debug for Scrub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scrub").field("forms", &self.forms.len()).finish_non_exhaustive()
    }
}

impl Scrub {
    /// Looks for this secret too.
    pub(crate) fn add(&mut self, secret: &[u8]) {
        self.forms.extend(forms(secret));
    }

    fn mask(&self, raw: &[u8], shown: &mut [u8]) {
        for form in &self.forms {
            let finder = memmem::Finder::new(form.as_slice());
            let mut from = 0;
            while let Some(at) = raw.get(from..).and_then(|rest| finder.find(rest)) {
                shown[from + at..from + at + form.len()].fill(MASK);
                from += at + 1;
            }
        }
    }

    /// Without any of them.
    pub(crate) fn whole(&self, text: &[u8]) -> Vec<u8> {
        let mut shown = text.to_vec();
        self.mask(text, &mut shown);
        shown
    }

    /// Takes the next piece, and gives what can go on: all but what may be the begin of a secret.
    pub(crate) fn push(&mut self, piece: &[u8]) -> Vec<u8> {
        self.raw.extend_from_slice(piece);
        self.shown.extend_from_slice(piece);
        let mut shown = std::mem::take(&mut self.shown);
        self.mask(&self.raw, &mut shown);
        let longest = self.forms.iter().map(|form| form.len()).max().unwrap_or(1);
        let first = (self.raw.len() + 1).saturating_sub(longest);
        let begins = |at: &usize| self.forms.iter().any(|form| form.starts_with(&self.raw[*at..]));
        let keep = (first..self.raw.len()).find(begins).unwrap_or(self.raw.len());
        let goes = shown[self.released.min(keep)..keep].to_vec();
        self.released = self.released.saturating_sub(keep);
        self.raw = Zeroizing::new(self.raw[keep..].to_vec());
        self.shown = Zeroizing::new(shown[keep..].to_vec());
        goes
    }

    /// Whether what is held back is so little that it hardly is the begin of a secret.
    pub(crate) fn holds_little(&self) -> bool {
        let seen = self.shown.iter().filter(|byte| **byte != MASK).count();
        self.released < self.shown.len() && seen <= LITTLE
    }

    /// What is held back, for a reader that would wait for ever: what follows it is still looked at together with it.
    pub(crate) fn release(&mut self) -> Vec<u8> {
        let goes = self.shown[self.released..].to_vec();
        self.released = self.shown.len();
        goes
    }

    /// What is left at the end.
    pub(crate) fn end(&mut self) -> Vec<u8> {
        let goes = self.release();
        *self = Self { forms: std::mem::take(&mut self.forms), ..Self::default() };
        goes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) const MINE: &str = "octs_abcdefghijklmnopqrstuv";
    const OTHERS: &str = "octs_bbbbbbbbbbbbbbbbbbbbbb";
    const SECRET: &str = "ghp_S3cr+et/\"value\\";

    fn mine() -> Vec<Credential> {
        let said = Said {
            secret: "prod/api".parse().unwrap(),
            host: "api.example.org".into(),
            placeholder: MINE.into(),
        };
        vec![Credential::read(&said).unwrap()]
    }

    fn head(headers: &[(&str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        map
    }

    fn asked(host: &str, path: &str, headers: &[(&str, &str)]) -> Result<Vec<Place>, Misuse> {
        places(&mine(), &host.parse().unwrap(), path, &head(headers))
    }

    #[test]
    fn a_secret_is_put_where_it_is_meant_and_nowhere_else() {
        let api = "api.example.org";
        let bearer = format!("Bearer {MINE}");
        for good in [("authorization", bearer.as_str()), ("authorization", MINE), ("x-api-key", MINE)] {
            assert_eq!(asked(api, "/", &[good]).unwrap().len(), 1, "{good:?}");
        }
        assert_eq!(asked(api, "/octs_short", &[("x", "octs_")]), Ok(vec![]));
        let twice = [("x-api-key", MINE), ("x-api-key", "other")];
        let longer = format!("{MINE}x");
        for bad in [
            &[("x-note", MINE)][..],
            &[("cookie", MINE)],
            &[("x-api-key", bearer.as_str())],
            &[("authorization", &format!("a b {MINE}"))],
            &[("x-api-key", &longer)],
            &twice,
        ] {
            assert!(matches!(asked(api, "/", bad), Err(Misuse::Misplaced { .. })), "{bad:?}");
        }
        let path = format!("/x?key={MINE}");
        assert!(matches!(asked(api, &path, &[]), Err(Misuse::Misplaced { .. })));
    }

    #[test]
    fn a_placeholder_elsewhere_is_a_canary() {
        let canary = |asked| matches!(asked, Err(Misuse::Canary));
        assert!(canary(asked("evil.org", "/", &[("authorization", MINE)])));
        assert!(canary(asked("api.example.org", "/", &[("authorization", OTHERS)])));
        for (path, headers) in [(format!("/{MINE}"), vec![]), ("/".to_owned(), vec![("x-note", OTHERS)])] {
            assert!(is_canary(&path, &head(&headers)), "{path} {headers:?}");
        }
        assert!(!is_canary("/octs_short", &head(&[("x", "octs_")])));
    }

    #[test]
    fn a_secret_that_cannot_stand_in_a_header_is_not_put_there() {
        let place = asked("api.example.org", "/", &[("x-api-key", MINE)]).unwrap().remove(0);
        let mut headers = HeaderMap::new();
        for bad in [&b"short"[..], b"with a space in", b"with\r\nanother: line", &[b'x'; SECRET_MAX + 1]] {
            assert!(place.put(&mut headers, bad).is_err() && headers.is_empty());
        }
        place.put(&mut headers, SECRET.as_bytes()).unwrap();
        assert_eq!(headers["x-api-key"].as_bytes(), SECRET.as_bytes());
        assert!(!format!("{headers:?}").contains(SECRET), "it is not shown");
    }

    fn scrubbed(text: &[u8], cuts: usize) -> Vec<u8> {
        let mut scrub = Scrub::default();
        scrub.add(SECRET.as_bytes());
        let mut out = Vec::new();
        for piece in text.chunks(cuts) {
            out.extend(scrub.push(piece));
        }
        out.extend(scrub.end());
        out
    }

    #[test]
    fn every_form_is_found_however_it_is_cut() {
        let hex: String = SECRET.bytes().map(|byte| format!("{byte:02x}")).collect();
        let texts = [
            SECRET.to_owned(),
            hex.to_uppercase(),
            hex,
            "ghp_S3cr%2Bet%2F%22value%5C".to_owned(),
            serde_json::to_string(SECRET).unwrap(),
        ];
        for text in texts {
            let whole = format!("before {text} after");
            for cuts in 1..whole.len() {
                let out = scrubbed(whole.as_bytes(), cuts);
                let out = String::from_utf8(out).unwrap();
                assert_eq!(out.len(), whole.len());
                let left = out.trim_start_matches("before ").trim_end_matches(" after").trim_matches('"');
                assert!(left.bytes().all(|byte| byte == MASK), "{cuts}: {out}");
            }
        }
        for user in ["u:", "us:", "use:"] {
            let text = STANDARD_NO_PAD.encode(format!("{user}{SECRET} and more"));
            let out = String::from_utf8(scrubbed(text.as_bytes(), 5)).unwrap();
            assert!(out.matches('*').count() + 2 >= SECRET.len() * 8 / 6, "{out}");
        }
    }

    #[test]
    fn what_is_released_early_is_hardly_anything() {
        let mut scrub = Scrub::default();
        scrub.add(SECRET.as_bytes());
        let (text, mut out) = (format!("say g{SECRET}g"), Vec::new());
        for byte in text.bytes() {
            out.extend(scrub.push(&[byte]));
            if scrub.holds_little() {
                out.extend(scrub.release());
            }
        }
        out.extend(scrub.end());
        let out = String::from_utf8(out).unwrap();
        let masked = "*".repeat(SECRET.len() - LITTLE);
        assert_eq!(out, format!("say g{}{masked}g", &SECRET[..LITTLE]));
    }

    proptest! {
        #[test]
        fn what_is_no_secret_goes_through_as_it_is(text in "[a-z_S3%]{0,200}", cuts in 1_usize..20) {
            prop_assert_eq!(scrubbed(text.as_bytes(), cuts), text.as_bytes());
        }

        #[test]
        fn pieces_and_the_whole_are_the_same(text in "(ghp_|S3cr\\+et/|\"value|\\\\|x){0,40}", cuts in 1_usize..30) {
            let mut scrub = Scrub::default();
            scrub.add(SECRET.as_bytes());
            prop_assert_eq!(scrubbed(text.as_bytes(), cuts), scrub.whole(text.as_bytes()));
        }
    }
}
