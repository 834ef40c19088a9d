//! `fetch`: gets what a URL names, with the words of curl(1) that scripts use most.

mod url;
mod way;

use super::options::Options;
use super::{Failed, ended, failed};
use crate::output::help_or_version;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    ACCEPT, AUTHORIZATION, CONTENT_RANGE, CONTENT_TYPE, COOKIE, HOST, HeaderMap, HeaderName, HeaderValue,
    LOCATION, RANGE, USER_AGENT,
};
use hyper::{Method, Request, Response, StatusCode};
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;
use url::Url;
use way::Way;

const HELP: &str = "\
Usage: fetch [OPTION]... URL...
Get what a URL (http, https) names, and write it to standard output.

  -o, --output FILE        to this file
  -O, --remote-name        to the file that the URL names, in this directory
  -L, --location           follow where the server points to, 20 times at most
  -f, --fail               no output and exit code 22 when the server answers with an error
  -I, --head               only the heads of the answer
  -i, --include            the heads too
  -H, --header LINE        another head of the request (`Name: value`; `Name:` leaves one out)
  -d, --data TEXT          send this, as forms are sent; @FILE for a file's content
      --data-binary TEXT   the same without leaving out ends of lines
  -T, --upload-file FILE   send a file (PUT)
  -X, --request METHOD     another method
  -u, --user USER:PASSWORD
  -A, --user-agent TEXT
  -C, --continue-at -      go on behind what the file has already
  -m, --max-time SECONDS   for everything together
      --connect-timeout SECONDS
      --cacert FILE        trust these authorities, and no others
  -4, -6                   only IPv4, only IPv6
  -s, -S, -#               accepted: it says nothing but errors
  -v, --verbose            what is sent and what comes, on standard error

Names come from the name servers of /etc/resolv.conf. The roots that are trusted are built in, unless --cacert or the variable
SSL_CERT_FILE names others. Proxies of the environment are not used. Exit codes are curl's.
";
const SHORT: &str = "o:OLfIiH:d:B:T:X:u:A:C:m:c:a:46sS#v";
const LONG: [(&str, char); 23] = [
    ("output", 'o'),
    ("remote-name", 'O'),
    ("location", 'L'),
    ("fail", 'f'),
    ("head", 'I'),
    ("include", 'i'),
    ("header", 'H'),
    ("data", 'd'),
    ("data-binary", 'B'),
    ("upload-file", 'T'),
    ("request", 'X'),
    ("user", 'u'),
    ("user-agent", 'A'),
    ("continue-at", 'C'),
    ("max-time", 'm'),
    ("connect-timeout", 'c'),
    ("cacert", 'a'),
    ("silent", 's'),
    ("show-error", 'S'),
    ("progress-bar", '#'),
    ("verbose", 'v'),
    ("ipv4", '4'),
    ("ipv6", '6'),
];
/// How often a server may point elsewhere.
const POINTERS_MAX: u32 = 20;
/// How long a connection may take, unless it is said.
const CONNECT_S: u64 = 60;
/// The most that is sent.
const SENT_MAX: u64 = 1 << 30;
/// curl's exit codes.
const USAGE: i32 = 2;
const READ: i32 = 26;
const SEND: i32 = 55;
const RECEIVE: i32 = 56;
const WRITE: i32 = 23;
const HTTP_ERROR: i32 = 22;
const NO_RANGE: i32 = 33;
const TOO_MANY: i32 = 47;
const TIME: i32 = 28;

pub(crate) fn fetch(arguments: Vec<OsString>) -> i32 {
    help_or_version(&arguments, "fetch", HELP).unwrap_or_else(|| ended("fetch", run(arguments)))
}

fn run(arguments: Vec<OsString>) -> Result<i32, Failed> {
    let options = Options::read(arguments, SHORT, &LONG).map_err(|why| failed(USAGE, why))?;
    if options.operands.is_empty() {
        return Err(failed(USAGE, "a URL is missing; see --help"));
    }
    if options.operands.len() > 1 && options.has('o') {
        return Err(failed(USAGE, "several URLs do not go to one file; see -O"));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| failed(USAGE, format_args!("runtime: {error}")))?;
    let seconds = options.number('m', 0_u64).map_err(|why| failed(USAGE, why))?;
    let asked = Asked::read(&options)?;
    let way = Way::new(&options)?;
    let all = async {
        for text in &options.operands {
            let url = text.parse().map_err(|why| failed(3, format_args!("{text}: {why}")))?;
            get(&options, &way, &asked, url).await?;
        }
        Ok(0)
    };
    runtime.block_on(async {
        if seconds == 0 {
            return all.await;
        }
        let within = tokio::time::timeout(Duration::from_secs(seconds), all).await;
        within.unwrap_or_else(|_| Err(failed(TIME, format_args!("it took more than {seconds} s"))))
    })
}

/// What is asked of every server.
#[derive(Debug, Clone)]
struct Asked {
    method: Method,
    /// Said with -X: it stays when a server points elsewhere.
    stays: bool,
    heads: HeaderMap,
    body: Bytes,
}

impl Asked {
    fn read(options: &Options) -> Result<Self, Failed> {
        let (data, upload) = (data(options)?, options.value('T').map(file).transpose()?);
        let mut method = match (&data, &upload, options.has('I')) {
            (Some(_), Some(_), _) => return Err(failed(USAGE, "-d and -T exclude each other")),
            (Some(_), None, _) => Method::POST,
            (None, Some(_), _) => Method::PUT,
            (None, None, true) => Method::HEAD,
            (None, None, false) => Method::GET,
        };
        let stays = options.value('X').is_some();
        if let Some(text) = options.value('X') {
            method = text.parse().map_err(|_| failed(USAGE, format_args!("-X {text:?} is no method")))?;
        }
        let mut heads = HeaderMap::new();
        let text = |text: &str| {
            HeaderValue::from_str(text)
                .map_err(|_| failed(USAGE, format_args!("{text:?} cannot be sent as a head")))
        };
        heads.insert(ACCEPT, HeaderValue::from_static("*/*"));
        let agent = concat!("octant-fetch/", env!("CARGO_PKG_VERSION"));
        heads.insert(USER_AGENT, text(options.value('A').unwrap_or(agent))?);
        if data.is_some() {
            heads.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        }
        if let Some(user) = options.value('u') {
            use base64::Engine;
            let word = base64::engine::general_purpose::STANDARD.encode(user);
            heads.insert(AUTHORIZATION, text(&format!("Basic {word}"))?);
        }
        // The first of a name takes the place of what is sent anyway; more of it are added.
        let mut said = Vec::new();
        for line in options.values('H') {
            let wrong = || failed(USAGE, format_args!("-H {line:?}: write `Name: value`"));
            let (name, value) = line.split_once(':').ok_or_else(wrong)?;
            let name: HeaderName = name.trim().parse().map_err(|_| wrong())?;
            if !said.contains(&name) {
                heads.remove(&name);
                said.push(name.clone());
            }
            if !value.trim().is_empty() {
                heads.append(name, text(value.trim())?);
            }
        }
        Ok(Self { method, stays, heads, body: Bytes::from(data.or(upload).unwrap_or_default()) })
    }

    /// For the next server, after one that pointed elsewhere.
    fn pointed(&mut self, status: StatusCode, from: &Url, to: &Url) {
        // What was meant for one server is not another's to see.
        if !from.same_server(to) {
            for name in [AUTHORIZATION, COOKIE, HOST] {
                self.heads.remove(name);
            }
        }
        let see_other = status == StatusCode::SEE_OTHER && self.method != Method::HEAD;
        let moved = matches!(status, StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND)
            && self.method == Method::POST;
        if (see_other || moved) && !self.stays {
            self.method = Method::GET;
            self.heads.remove(CONTENT_TYPE);
            self.body = Bytes::new();
        }
    }
}

/// What -d and --data-binary say, joined as curl joins it.
fn data(options: &Options) -> Result<Option<Vec<u8>>, Failed> {
    let mut all: Option<Vec<u8>> = None;
    for (letter, whole) in [('d', false), ('B', true)] {
        for text in options.values(letter) {
            let mut bytes = match text.strip_prefix('@') {
                Some(path) => file(path)?,
                None => text.as_bytes().to_vec(),
            };
            if !whole && text.starts_with('@') {
                bytes.retain(|byte| !matches!(byte, b'\r' | b'\n' | 0));
            }
            match &mut all {
                None => all = Some(bytes),
                Some(all) => all.extend([&b"&"[..], &bytes].concat()),
            }
        }
    }
    Ok(all)
}

fn file(path: &str) -> Result<Vec<u8>, Failed> {
    let mut bytes = Vec::new();
    let read = if path == "-" {
        io::stdin().take(SENT_MAX + 1).read_to_end(&mut bytes)
    } else {
        File::open(path).and_then(|file| file.take(SENT_MAX + 1).read_to_end(&mut bytes))
    };
    read.map_err(|error| failed(READ, format_args!("{path}: {error}")))?;
    if bytes.len() as u64 > SENT_MAX {
        Err(failed(READ, format_args!("{path}: more than 1 GiB")))
    } else {
        Ok(bytes)
    }
}

async fn get(options: &Options, way: &Way, asked: &Asked, mut url: Url) -> Result<(), Failed> {
    let mut out = Output::new(options, &url)?;
    let mut asked = asked.clone();
    if out.there > 0 {
        let from = HeaderValue::from_str(&format!("bytes={}-", out.there));
        asked.heads.insert(RANGE, from.map_err(|error| failed(USAGE, error))?);
    }
    for _ in 0..=POINTERS_MAX {
        let answer = ask(options, way, &asked, &url).await?;
        let status = answer.status();
        let to = answer.headers().get(LOCATION).filter(|_| status.is_redirection() && options.has('L'));
        if let Some(to) = to {
            let text = to.to_str().map_err(|_| failed(RECEIVE, "the server points to what is no URL"))?;
            let to = url
                .join(text)
                .map_err(|why| failed(RECEIVE, format_args!("the server points to {text:?}: {why}")))?;
            if options.has('I') || options.has('i') {
                out.write(&heads(&answer))?;
            }
            asked.pointed(status, &url, &to);
            url = to;
            continue;
        }
        return out.take(options, answer).await;
    }
    Err(failed(TOO_MANY, format_args!("the servers point elsewhere more than {POINTERS_MAX} times")))
}

async fn ask(options: &Options, way: &Way, asked: &Asked, url: &Url) -> Result<Response<Incoming>, Failed> {
    let verbose = options.has('v');
    let mut sender = way.open(url).await?;
    let mut request = Request::builder().method(asked.method.clone()).uri(&url.path);
    if !asked.heads.contains_key(HOST) {
        request = request.header(HOST, url.host_head());
    }
    let mut request = request
        .body(Full::new(asked.body.clone()))
        .map_err(|error| failed(3, format_args!("{}: {error}", url.path)))?;
    request.headers_mut().extend(asked.heads.clone());
    if verbose {
        let heads = request.headers().iter().map(|(name, value)| {
            // A password on a screen is seen by who stands behind.
            let value = if *name == AUTHORIZATION {
                "(not shown)".into()
            } else {
                String::from_utf8_lossy(value.as_bytes())
            };
            format!("> {name}: {}\n", value.escape_debug())
        });
        said(&format!("> {} {} HTTP/1.1\n{}", asked.method, url.path, heads.collect::<String>()));
    }
    let answer = sender
        .send_request(request)
        .await
        .map_err(|error| failed(SEND, format_args!("{}: {error}", url.host)))?;
    if verbose {
        let heads = String::from_utf8_lossy(&heads(&answer)).into_owned();
        said(&heads.lines().map(|line| format!("< {}\n", line.escape_debug())).collect::<String>());
    }
    Ok(answer)
}

fn said(text: &str) {
    // Nothing is left to tell it to when standard error itself is gone.
    let _ = io::stderr().write_all(text.as_bytes());
}

fn heads(answer: &Response<Incoming>) -> Vec<u8> {
    let status = answer.status();
    let line = format!(
        "{:?} {} {}",
        answer.version(),
        status.as_u16(),
        status.canonical_reason().unwrap_or_default()
    );
    let mut out = format!("{}\r\n", line.trim_end()).into_bytes();
    for (name, value) in answer.headers() {
        out.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    out.extend(b"\r\n");
    out
}

/// Where it goes: nothing is made before there is something to write.
struct Output {
    path: Option<PathBuf>,
    file: Option<File>,
    /// How much the file has already, where it is to be gone on with.
    there: u64,
}

impl Output {
    fn new(options: &Options, url: &Url) -> Result<Self, Failed> {
        let path = match options.value('o') {
            Some("-") => None,
            Some(path) => Some(PathBuf::from(path)),
            None if options.has('O') => Some(PathBuf::from(url.file_name().ok_or_else(|| {
                failed(WRITE, format_args!("{}: the URL names no file; see -o", url.path))
            })?)),
            None => None,
        };
        let there = match (options.value('C'), &path) {
            (None, _) => 0,
            (Some("-"), Some(path)) => match std::fs::metadata(path) {
                Ok(about) => about.len(),
                Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
                Err(error) => return Err(failed(READ, format_args!("{}: {error}", path.display()))),
            },
            (Some("-"), None) => return Err(failed(USAGE, "-C needs a file: -o or -O")),
            (Some(_), _) => return Err(failed(USAGE, "-C - is the only form")),
        };
        Ok(Self { path, file: None, there })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Failed> {
        let Some(path) = &self.path else {
            return io::stdout()
                .write_all(bytes)
                .map_err(|error| failed(WRITE, format_args!("standard output: {error}")));
        };
        let wrong =
            |path: &Path, error: io::Error| failed(WRITE, format_args!("{}: {error}", path.display()));
        let file = match &mut self.file {
            Some(file) => file,
            None => {
                let mut open = OpenOptions::new();
                let open = if self.there > 0 {
                    open.append(true)
                } else {
                    open.write(true).create(true).truncate(true)
                };
                self.file.insert(open.open(path).map_err(|error| wrong(path, error))?)
            }
        };
        file.write_all(bytes).map_err(|error| wrong(path, error))
    }

    async fn take(&mut self, options: &Options, answer: Response<Incoming>) -> Result<(), Failed> {
        let status = answer.status();
        if self.there > 0 && status == StatusCode::RANGE_NOT_SATISFIABLE {
            let whole = answer.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
            // It has everything already.
            if whole.and_then(|text| text.strip_prefix("bytes */")) == Some(self.there.to_string().as_str()) {
                return Ok(());
            }
        }
        if options.has('f') && status.as_u16() >= 400 {
            return Err(failed(HTTP_ERROR, format_args!("the server answers {status}")));
        }
        if self.there > 0 && status.is_success() {
            let range = answer.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
            let from = range.and_then(|range| range.strip_prefix("bytes ")?.split_once('-')?.0.parse().ok());
            if status != StatusCode::PARTIAL_CONTENT || from != Some(self.there) {
                return Err(failed(
                    NO_RANGE,
                    "the server does not go on where the file ends; remove it, or leave -C out",
                ));
            }
        } else if self.there > 0 {
            return Err(failed(
                HTTP_ERROR,
                format_args!("the server answers {status}, which is no rest of the file"),
            ));
        }
        if options.has('I') || options.has('i') {
            self.write(&heads(&answer))?;
        }
        let mut body = answer.into_body();
        while let Some(frame) = body.frame().await {
            let frame =
                frame.map_err(|error| failed(RECEIVE, format_args!("the answer ends too early: {error}")))?;
            if let Some(bytes) = frame.data_ref() {
                self.write(bytes)?;
            }
        }
        // An answer without content makes an empty file.
        self.write(&[])?;
        if self.path.is_none() {
            io::stdout().flush().map_err(|error| failed(WRITE, format_args!("standard output: {error}")))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
