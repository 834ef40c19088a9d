//! Requests that are signed as AWS has it (Signature Version 4): the key stays here, what is sent proves that it was there.
//! Pure.

use crate::percent::{decoded, encoded};
use hmac::{Hmac, Mac};
use hyper::header::{AUTHORIZATION, HOST, HeaderMap, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use octant_ids::utc;
use octant_manifest::Scope;
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use zeroize::Zeroizing;

/// How a signature in a header begins.
pub const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// When a request was signed.
pub const DATE: HeaderName = HeaderName::from_static("x-amz-date");
/// The digest of a request's body, or a word for that there is none.
pub const PAYLOAD: HeaderName = HeaderName::from_static("x-amz-content-sha256");
/// What belongs to a key that is good for a while only.
pub const TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");
/// The one service whose paths are encoded once.
const S3: &str = "s3";

/// Why a request cannot be signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// Neither its target nor a header names a host.
    #[error("it names no host to sign")]
    NoHost,
    /// A header that is to be signed is no text.
    #[error("the header {0} cannot be signed: it is no text")]
    Header(HeaderName),
    /// Its body is to be signed and is not there, nor its digest.
    #[error("its body was not read")]
    NoBody,
    /// Key, region or service cannot stand in a header.
    #[error("the names of its key, region and service cannot stand in a header")]
    Scope,
}

/// How a request is signed: for what, when, and which headers of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signing {
    /// The key's name, the region and the service.
    pub scope: Scope,
    /// The time, as [`DATE`] has it.
    pub at: String,
    /// Which headers are signed; those that a request has not are left out.
    pub headers: Vec<HeaderName>,
}

/// A time in milliseconds since 1970 as [`DATE`] has it: `20150830T123600Z`.
#[must_use]
pub fn date(wall_ms: u64) -> String {
    let text = utc(wall_ms);
    let seconds = text.split('.').next().unwrap_or_default();
    seconds.chars().filter(|c| !matches!(c, '-' | ':')).chain(['Z']).collect()
}

/// The only value of a header.
#[must_use]
pub fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing into a string does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn mac(key: &[u8], text: &[u8]) -> Zeroizing<Vec<u8>> {
    // A key of any length is one.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return Zeroizing::default() };
    mac.update(text);
    Zeroizing::new(mac.finalize().into_bytes().to_vec())
}

/// A path as it is signed. Everything but S3 signs one without dotted and empty parts, encoded once more than it is sent.
fn canonical_path(path: &str, service: &str) -> String {
    if service == S3 {
        return encoded(&decoded(path), b"/");
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    let end = if path.ends_with('/') && !parts.is_empty() { "/" } else { "" };
    encoded(format!("/{}{end}", parts.join("/")).as_bytes(), b"/")
}

fn canonical_query(query: &str) -> String {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (encoded(&decoded(name), b""), encoded(&decoded(value), b""))
    };
    let mut pairs: Vec<(String, String)> = pairs.map(pair).collect();
    pairs.sort();
    pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}

impl Signing {
    /// Signs the request, as it now is, with this key.
    ///
    /// # Errors
    /// [`SignError`]; the request is then as it was.
    pub fn sign(&self, parts: &mut Parts, body: Option<&[u8]>, key: &[u8]) -> Result<(), SignError> {
        let host = match (parts.uri.authority(), parts.headers.get(HOST)) {
            (Some(authority), _) => authority.as_str().to_owned(),
            (None, Some(host)) => host.to_str().map_err(|_| SignError::Header(HOST))?.to_owned(),
            (None, None) => return Err(SignError::NoHost),
        };
        // What was taken out on the way is not signed.
        let mut names: Vec<&HeaderName> =
            self.headers.iter().filter(|name| **name == HOST || parts.headers.contains_key(*name)).collect();
        names.sort_by_key(|name| name.as_str());
        names.dedup();
        let mut lines = String::new();
        for name in &names {
            let said = if **name == HOST { host.clone() } else { values(&parts.headers, name)? };
            let _ = writeln!(lines, "{name}:{said}");
        }
        let names = names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(";");
        let payload = match (only(&parts.headers, &PAYLOAD), body) {
            (Some(said), _) => said.to_owned(),
            (None, Some(body)) => hex(&Sha256::digest(body)),
            (None, None) => return Err(SignError::NoBody),
        };
        let Scope { key_id, region, service } = &self.scope;
        let path = canonical_path(parts.uri.path(), service);
        let query = canonical_query(parts.uri.query().unwrap_or_default());
        let request = format!("{}\n{path}\n{query}\n{lines}\n{names}\n{payload}", parts.method);
        let day = self.at.get(..8).unwrap_or_default();
        let scope = format!("{day}/{region}/{service}/aws4_request");
        let text = format!("{ALGORITHM}\n{}\n{scope}\n{}", self.at, hex(&Sha256::digest(request.as_bytes())));
        let mut signing = Zeroizing::new([b"AWS4", key].concat());
        for step in scope.split('/') {
            signing = mac(&signing, step.as_bytes());
        }
        let signature = hex(&mac(&signing, text.as_bytes()));
        let said =
            format!("{ALGORITHM} Credential={key_id}/{scope},SignedHeaders={names},Signature={signature}");
        let mut value = HeaderValue::from_str(&said).map_err(|_| SignError::Scope)?;
        value.set_sensitive(true);
        parts.headers.insert(AUTHORIZATION, value);
        Ok(())
    }
}

/// The values of a header in one line, each without spaces that mean nothing.
fn values(headers: &HeaderMap, name: &HeaderName) -> Result<String, SignError> {
    let one = |value: &HeaderValue| {
        let text = value.to_str().map_err(|_| SignError::Header(name.clone()))?;
        Ok(text.split_ascii_whitespace().collect::<Vec<_>>().join(" "))
    };
    Ok(headers.get_all(name).iter().map(one).collect::<Result<Vec<_>, SignError>>()?.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::Request;

    /// The same request as the one whose signature AWS documents, and what of it cannot be signed.
    #[test]
    fn what_cannot_be_signed_is_left_as_it_was() {
        let signing = Signing {
            scope: Scope {
                key_id: "AKIDEXAMPLE".into(),
                region: "us-east-1".into(),
                service: "service".into(),
            },
            at: date(1_440_938_160_000),
            headers: vec![HOST, DATE, TOKEN],
        };
        let request = |uri: &str| {
            let made = Request::builder().uri(uri).header(DATE, signing.at.as_str());
            made.body(()).unwrap().into_parts().0
        };
        let key = b"wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
        let mut parts = request("https://example.amazonaws.com/");
        signing.sign(&mut parts, Some(b""), key).unwrap();
        assert_eq!(
            parts.headers[AUTHORIZATION],
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request,\
             SignedHeaders=host;x-amz-date,\
             Signature=5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"
        );
        let mut parts = request("/");
        assert_eq!(signing.sign(&mut parts, Some(b""), key), Err(SignError::NoHost));
        let mut parts = request("https://example.amazonaws.com/");
        assert_eq!(signing.sign(&mut parts, None, key), Err(SignError::NoBody));
        parts.headers.insert(TOKEN, HeaderValue::from_bytes(b"\xff").unwrap());
        assert_eq!(signing.sign(&mut parts, Some(b""), key), Err(SignError::Header(TOKEN)));
        let torn = Signing { scope: Scope { region: "a\nb".into(), ..signing.scope.clone() }, ..signing };
        parts.headers.remove(TOKEN);
        assert_eq!(torn.sign(&mut parts, Some(b""), key), Err(SignError::Scope));
        assert!(!parts.headers.contains_key(AUTHORIZATION));
    }

    #[test]
    fn paths_are_encoded_once_more_than_they_are_sent_but_for_s3() {
        let path = "/model/anthropic.claude-v1%3A0/converse";
        assert_eq!(canonical_path(path, "bedrock"), "/model/anthropic.claude-v1%253A0/converse");
        assert_eq!(canonical_path(path, S3), path);
        assert_eq!(canonical_path("/a/./b//../c/", "bedrock"), "/a/c/");
    }
}
