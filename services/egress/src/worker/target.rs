//! Which host a request means, and how it is told so. Pure.

use super::upstream::Version;
use crate::inject::Misuse;
use crate::message::split;
use hyper::Method;
use hyper::header::{self, HeaderValue};
use hyper::http::request::Parts;
use hyper::http::uri::{Authority, PathAndQuery, Scheme, Uri};
use octant_manifest::HostName;

/// The port that is left out of a URL.
const USUAL_PORT: u16 = 443;

fn unread(why: &str) -> Misuse {
    Misuse::Request(why.to_owned())
}

/// Looks whether a request means this host, in every part that names one, and in a version that is spoken.
pub(crate) fn check(request: &Parts, version: Version, host: &HostName, port: u16) -> Result<(), Misuse> {
    let spoken = match version {
        Version::Http1 => hyper::Version::HTTP_11,
        Version::Http2 => hyper::Version::HTTP_2,
    };
    if request.version != spoken {
        return Err(unread("it is in another version of HTTP than its connection"));
    }
    if request.method == Method::CONNECT {
        return Err(unread("CONNECT is for a proxy"));
    }
    if request.headers.contains_key(header::UPGRADE) {
        return Err(unread("another protocol is asked for, in which a secret would not be found again"));
    }
    if request.uri.scheme().is_some_and(|scheme| *scheme != Scheme::HTTPS) {
        return Err(unread("it is for another scheme than https"));
    }
    let hosts = request.headers.get_all(header::HOST);
    let said: Option<Vec<Authority>> = hosts.iter().map(|host| host.to_str().ok()?.parse().ok()).collect();
    let mut said = said.ok_or_else(|| unread("the host that is named is no host"))?;
    // HTTP/1.1 has one Host, HTTP/2 one :authority and at the most one Host beside it.
    let least = usize::from(version == Version::Http1);
    if said.len() > 1 || said.len() < least {
        return Err(unread("not exactly one host is named"));
    }
    said.extend(request.uri.authority().cloned());
    if said.is_empty() {
        return Err(unread("no host is named"));
    }
    for authority in said {
        let (name, its) = split(&authority, Some(USUAL_PORT)).map_err(|why| unread(&why.to_string()))?;
        // A program may leave the port out where it is not the usual one: which it is, the connection tells.
        let same_port = its == port || authority.port().is_none();
        if name.parse().as_ref() != Ok(host) || !same_port {
            return Err(Misuse::Host(authority.to_string()));
        }
    }
    Ok(())
}

/// Has a request name its host as the version of its connection does.
pub(crate) fn write(parts: &mut Parts, version: Version, host: &HostName, port: u16) -> Result<(), Misuse> {
    let path = parts.uri.path_and_query().cloned();
    let path = path.unwrap_or_else(|| PathAndQuery::from_static("/"));
    let named = if port == USUAL_PORT { host.to_string() } else { format!("{}:{}", host, port) };
    let unfit = || unread("its host cannot be written");
    match version {
        Version::Http1 => {
            let named = HeaderValue::from_str(&named).map_err(|_| unfit())?;
            parts.uri = Uri::from(path);
            parts.headers.insert(header::HOST, named);
        }
        Version::Http2 => {
            let uri = Uri::builder().scheme(Scheme::HTTPS).authority(named).path_and_query(path);
            parts.uri = uri.build().map_err(|_| unfit())?;
            parts.headers.remove(header::HOST);
        }
    }
    Ok(())
}
