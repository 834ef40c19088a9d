//! HTTP/1.1 (RFC 9112) as far as the double needs it, by hand: every byte and every border is the script's.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;

/// The longest head of a request.
const HEAD: u64 = 64 << 10;
/// The longest body.
const BODY: usize = 64 << 20;

/// A request.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) method: String,
    /// Without what follows a `?`.
    pub(super) path: String,
    pub(super) query: String,
    /// Names in small letters.
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Request {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

fn bad(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

fn line(from: &mut impl BufRead) -> io::Result<String> {
    let mut line = Vec::new();
    from.take(HEAD).read_until(b'\n', &mut line)?;
    let text = String::from_utf8(line).map_err(|_| bad("a line is not UTF-8"))?;
    text.strip_suffix("\r\n").map(str::to_owned).ok_or_else(|| bad("a line does not end"))
}

/// The next request; none when the other side has closed.
pub(super) fn read(from: &mut BufReader<TcpStream>, to: &mut TcpStream) -> io::Result<Option<Request>> {
    if from.fill_buf()?.is_empty() {
        return Ok(None);
    }
    let first = line(from)?;
    let mut words = first.split(' ');
    let (Some(method), Some(target)) = (words.next(), words.next()) else { return Err(bad("no target")) };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut request = Request {
        method: method.to_owned(),
        path: unescaped(path)?,
        query: query.to_owned(),
        headers: Vec::new(),
        body: Vec::new(),
    };
    loop {
        let line = line(from)?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').ok_or_else(|| bad("a header without a colon"))?;
        request.headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        if request.headers.len() > 128 {
            return Err(bad("too many headers"));
        }
    }
    if request.header("expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue")) {
        to.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    request.body = match (request.header("transfer-encoding"), request.header("content-length")) {
        (Some(_), _) => chunks(from)?,
        (None, Some(length)) => {
            exactly(from, length.parse().map_err(|_| bad("a length that is no number"))?)?
        }
        (None, None) => Vec::new(),
    };
    Ok(Some(request))
}

fn exactly(from: &mut impl Read, length: usize) -> io::Result<Vec<u8>> {
    if length > BODY {
        return Err(bad("the body is too long"));
    }
    let mut body = vec![0; length];
    from.read_exact(&mut body)?;
    Ok(body)
}

fn chunks(from: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let size = line(from)?;
        let size = size.split(';').next().unwrap_or_default();
        let size = usize::from_str_radix(size, 16).map_err(|_| bad("a chunk without its size"))?;
        let chunk = exactly(from, size)?;
        if !line(from)?.is_empty() {
            return Err(bad("a chunk is longer than its size"));
        }
        if size == 0 {
            return Ok(body);
        }
        body.extend(chunk);
        if body.len() > BODY {
            return Err(bad("the body is too long"));
        }
    }
}

/// A path without percent signs: names of models have colons.
fn unescaped(path: &str) -> io::Result<String> {
    let mut out = Vec::new();
    let mut rest = path.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match (byte, after) {
            (b'%', [high, low, after @ ..]) => {
                let digits = [*high, *low];
                let digits = std::str::from_utf8(&digits).map_err(|_| bad("a percent sign alone"))?;
                out.push(u8::from_str_radix(digits, 16).map_err(|_| bad("a percent sign alone"))?);
                rest = after;
            }
            _ => out.push(byte),
        }
    }
    String::from_utf8(out).map_err(|_| bad("a path is not UTF-8"))
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "Scripted",
    }
}

fn head(status: u16, kind: &str, headers: &[(&str, String)]) -> String {
    let mut head = format!("HTTP/1.1 {status} {}\r\ncontent-type: {kind}\r\n", reason(status));
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    head
}

/// The head of an answer of known length.
pub(super) fn whole_head(status: u16, headers: &[(&str, String)], length: usize) -> String {
    format!("{}content-length: {length}\r\n\r\n", head(status, "application/json", headers))
}

/// An answer of known length.
pub(super) fn whole(
    to: &mut TcpStream,
    status: u16,
    headers: &[(&str, String)],
    body: &[u8],
) -> io::Result<()> {
    // One write: two packets would be measured by the bench.
    to.write_all(&[whole_head(status, headers, body.len()).as_bytes(), body].concat())
}

/// The head of an answer in chunks.
pub(super) fn stream_head(to: &mut TcpStream, kind: &str, headers: &[(&str, String)]) -> io::Result<()> {
    let head = format!("{}transfer-encoding: chunked\r\n\r\n", head(200, kind, headers));
    to.write_all(head.as_bytes())
}

/// One chunk.
pub(super) fn chunk(to: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
    to.write_all(&[format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat())
}
