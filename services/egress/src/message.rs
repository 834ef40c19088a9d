//! What every message of HTTP is held to, whoever reads it.

use crate::core::Denied;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::header::{self, HeaderName};
use hyper::http::uri::Authority;
use hyper::{HeaderMap, Response, StatusCode};
use std::time::Duration;

/// How long the head of a request may take.
pub(crate) const HEAD_WITHIN: Duration = Duration::from_secs(30);
/// The longest head, in bytes.
pub(crate) const HEAD_MAX: usize = 64 << 10;
/// How many headers a request has at the most.
pub(crate) const HEADERS_MAX: usize = 128;

pub(crate) type Body = BoxBody<Bytes, hyper::Error>;

/// An answer that a host did not give.
pub(crate) fn say(code: StatusCode, text: &str) -> Response<Body> {
    let body = Full::new(Bytes::from(text.to_owned())).map_err(|never| match never {}).boxed();
    let mut response = Response::new(body);
    *response.status_mut() = code;
    response
}

/// The code of a refusal.
pub(crate) fn code_of(why: &Denied) -> StatusCode {
    match why {
        Denied::Host { .. } => StatusCode::MISDIRECTED_REQUEST,
        Denied::Request(_) | Denied::BadName(_) => StatusCode::BAD_REQUEST,
        Denied::Budget(_) => StatusCode::TOO_MANY_REQUESTS,
        _ => StatusCode::FORBIDDEN,
    }
}

/// A port and a name out of `host:port`.
pub(crate) fn split(authority: &Authority, usual: Option<u16>) -> Result<(&str, u16), Denied> {
    if authority.as_str().contains('@') {
        return Err(Denied::Request("a name and a password stand before the host".into()));
    }
    let port = authority.port_u16().or(usual.filter(|_| authority.port().is_none()));
    port.filter(|port| *port > 0)
        .map(|port| (authority.host(), port))
        .ok_or(Denied::Request("the port is missing".into()))
}

/// What belongs to one connection and not to a request (RFC 9110 section 7.6.1).
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::UPGRADE,
];

/// Takes out of a message what belongs to the connection that it came on.
pub(crate) fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.into_iter().chain(HOP_BY_HOP) {
        headers.remove(name);
    }
}

/// An answer as it is passed on.
pub(crate) fn passed_on(mut response: Response<Body>) -> Response<Body> {
    strip(response.headers_mut());
    response.headers_mut().remove(header::TRANSFER_ENCODING);
    response
}
