//! The conversation with a model: OpenAI's chat dialect over HTTP, to a router on this machine.

use crate::entry::{Answer, Call, Piece, Used};
use crate::error::LoopError;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::http::request::Builder;
use hyper::{Request as HttpRequest, Response, header};
use hyper_util::rt::TokioIo;
use octant_llm::{Dialect, Draft, Event, Failure, Kind, Part, Request};
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::runtime::Runtime;
use tokio::time::{sleep, timeout};

/// How long nothing may come. A model can think for minutes before its first word.
const SILENCE: Duration = Duration::from_secs(600);
/// How long the list of models may take.
const FACTS_WITHIN: Duration = Duration::from_secs(10);
/// How often it is looked whether the answer is still wanted.
const LOOK: Duration = Duration::from_millis(100);
/// The longest answer that did not come as a stream, and the longest error, in bytes.
const BODY_MAX: usize = 16 << 20;
/// The most parts of an answer.
const PIECES_MAX: usize = 256;

/// Where a model is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    at: At,
    authority: String,
    /// What stands before the paths of its methods.
    path: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum At {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl Endpoint {
    /// The endpoint of a base URL as OpenAI's clients take it: `http://127.0.0.1:7070/v1`. `unix:/PATH` is a socket.
    ///
    /// # Errors
    /// [`LoopError::Url`]. Names are not looked up: what is asked is on this machine, and holds the keys for what is not.
    pub fn of_url(url: &str) -> Result<Self, LoopError> {
        let wrong = |why| LoopError::Url { url: url.to_owned(), why };
        if let Some(path) = url.strip_prefix("unix:") {
            return Ok(Self::of_socket(Path::new(path)));
        }
        let rest = url.strip_prefix("http://");
        let rest = rest.ok_or_else(|| {
            wrong("it does not begin with http:// or unix:; Octant's router speaks TLS for it")
        })?;
        let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => {
                (host, port.parse().map_err(|_| wrong("its port is no number"))?)
            }
            _ => (authority, 80),
        };
        let host = match host.trim_start_matches('[').trim_end_matches(']') {
            "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
            host => host.parse().map_err(|_| wrong("its host is no address"))?,
        };
        if !host.to_canonical().is_loopback() {
            return Err(wrong(
                "it is on another machine, and what is said and the key would go there unencrypted",
            ));
        }
        Ok(Self {
            at: At::Tcp(SocketAddr::new(host, port)),
            authority: authority.to_owned(),
            path: path.trim_end_matches('/').to_owned(),
        })
    }

    /// The endpoint on a router's socket.
    #[must_use]
    pub fn of_socket(path: &Path) -> Self {
        Self { at: At::Unix(path.to_owned()), authority: "localhost".to_owned(), path: "/v1".to_owned() }
    }

    fn place(&self) -> String {
        match &self.at {
            At::Tcp(address) => address.to_string(),
            At::Unix(path) => path.display().to_string(),
        }
    }
}

/// What whoever is asked knows of a model; none: not known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Facts {
    /// The tokens that question and answer have room for together.
    pub window: Option<u64>,
    /// Whether it sees pictures.
    pub sees: Option<bool>,
    /// What a token of a question and of an answer costs, in millionths of a millionth of a dollar.
    pub price: Option<[u64; 2]>,
}

impl Facts {
    /// What that used costs, in millionths of a dollar, where nothing of it was cheaper.
    #[must_use]
    pub fn cost(&self, used: Used) -> Option<u64> {
        let [input, output] = self.price?.map(u128::from);
        let cost = u128::from(used.input) * input + u128::from(used.output) * output;
        u64::try_from(cost.div_ceil(1_000_000)).ok()
    }
}

/// A model that can be asked, one question at a time.
#[derive(Debug)]
pub struct Model {
    endpoint: Endpoint,
    key: Option<String>,
    runtime: Runtime,
}

impl Model {
    /// The model at an endpoint. The key is what the environment has for it: inside a workstation a placeholder.
    ///
    /// # Errors
    /// [`LoopError::Runtime`].
    pub fn new(endpoint: Endpoint, key: Option<String>) -> Result<Self, LoopError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        Ok(Self { endpoint, key, runtime: runtime.map_err(LoopError::Runtime)? })
    }

    /// Every model that may be asked, with what is known of it: `context_length` and `architecture.input_modalities` of the
    /// list of models.
    ///
    /// # Errors
    /// Why there is no list.
    pub fn known(&self) -> Result<BTreeMap<String, Facts>, Failure> {
        let list = self.runtime.block_on(async {
            let asked = async {
                let response = self.send("GET", "/models", Vec::new()).await?;
                let status = response.status().as_u16();
                let body = all(response.into_body()).await?;
                if status == 200 { Ok(body) } else { Err(Dialect::Chat.read_failure(status, &[], &body)) }
            };
            timeout(FACTS_WITHIN, asked).await.unwrap_or_else(|_| Err(silent(FACTS_WITHIN)))
        })?;
        Ok(facts_of(&list))
    }

    /// Asks, and gives each event as it comes. Ends early, with [`Kind::Cancelled`], once `stop` says so.
    ///
    /// # Errors
    /// Why there is no whole answer.
    pub fn ask(
        &self,
        request: &Request,
        stop: &dyn Fn() -> bool,
        each: &mut dyn FnMut(&Event),
    ) -> Result<Answer, Failure> {
        let body = Dialect::Chat.write_request(request)?;
        let mut draft = Draft::default();
        self.runtime.block_on(async {
            let stopped = async {
                while !stop() {
                    sleep(LOOK).await;
                }
            };
            let mut more = |event: Event| {
                each(&event);
                take(&mut draft, &event)
            };
            tokio::select! {
                biased;
                done = self.stream(body, &mut more) => done,
                () = stopped => Err(Failure::new(Kind::Cancelled, "the answer was not wanted any more")),
            }
        })?;
        whole(draft)
    }

    async fn stream(
        &self,
        body: Vec<u8>,
        each: &mut dyn FnMut(Event) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let response = self.send("POST", "/chat/completions", body).await?;
        let status = response.status();
        let streams = response.headers().get(header::CONTENT_TYPE);
        let streams = streams.is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
        if status.is_success() && streams {
            return events(response.into_body(), each).await;
        }
        let (head, body) = response.into_parts();
        let body = all(body).await?;
        if status.is_success() {
            return Dialect::Chat.read_answer(&body)?.into_iter().try_for_each(each);
        }
        let headers: Vec<(&str, &str)> = head
            .headers
            .iter()
            .filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)))
            .collect();
        Err(Dialect::Chat.read_failure(status.as_u16(), &headers, &body))
    }

    async fn send(&self, method: &str, path: &str, body: Vec<u8>) -> Result<Response<Incoming>, Failure> {
        let request = HttpRequest::builder().method(method).uri(format!("{}{path}", self.endpoint.path));
        match &self.endpoint.at {
            At::Tcp(address) => self.send_on(TcpStream::connect(address).await, request, body).await,
            At::Unix(path) => self.send_on(UnixStream::connect(path).await, request, body).await,
        }
    }

    async fn send_on<S>(
        &self,
        stream: std::io::Result<S>,
        request: Builder,
        body: Vec<u8>,
    ) -> Result<Response<Incoming>, Failure>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let place = self.endpoint.place();
        let failed =
            |why: String| Failure::new(Kind::Unreachable, format!("cannot ask the model at {place}: {why}"));
        let stream = stream.map_err(|error| failed(error.to_string()))?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| failed(error.to_string()))?;
        // What goes wrong with it is told to whoever waits for the answer.
        tokio::spawn(async move { drop(connection.await) });
        let mut request = request
            .header(header::HOST, &self.endpoint.authority)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "text/event-stream, application/json");
        if let Some(key) = &self.key {
            request = request.header(header::AUTHORIZATION, format!("Bearer {key}"));
        }
        let request =
            request.body(Full::new(Bytes::from(body))).map_err(|error| failed(error.to_string()))?;
        let answer = timeout(SILENCE, sender.send_request(request)).await.map_err(|_| silent(SILENCE))?;
        answer.map_err(|error| failed(error.to_string()))
    }
}

fn silent(time: Duration) -> Failure {
    Failure::new(Kind::Timeout, format!("nothing came from the model for {} seconds", time.as_secs()))
}

fn facts_of(list: &[u8]) -> BTreeMap<String, Facts> {
    let list: Value = serde_json::from_slice(list).unwrap_or_default();
    let row = |row: &Value| {
        let inputs = row["architecture"]["input_modalities"].as_array();
        let facts = Facts {
            window: row["context_length"].as_u64().filter(|tokens| *tokens > 0),
            sees: inputs.map(|inputs| inputs.iter().any(|input| input == "image")),
            price: price(&row["pricing"]["prompt"]).zip(price(&row["pricing"]["completion"])).map(Into::into),
        };
        Some((row["id"].as_str()?.to_owned(), facts))
    };
    list["data"].as_array().into_iter().flatten().filter_map(row).collect()
}

/// Dollars as a decimal text, in millionths of a millionth.
fn price(text: &Value) -> Option<u64> {
    const DIGITS: usize = 12;
    let (whole, part) = text.as_str()?.split_once('.').or(text.as_str().map(|whole| (whole, "")))?;
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || part.len() > DIGITS || !digits(whole) || !digits(part) {
        return None;
    }
    format!("{whole}{part:0<DIGITS$}").parse().ok()
}

fn cut(why: &dyn std::fmt::Display) -> Failure {
    Failure::new(Kind::Cut, format!("the connection ended within the answer: {why}"))
}

async fn piece(body: &mut Incoming) -> Result<Option<Bytes>, Failure> {
    while let Some(frame) = timeout(SILENCE, body.frame()).await.map_err(|_| silent(SILENCE))? {
        if let Ok(data) = frame.map_err(|error| cut(&error))?.into_data() {
            return Ok(Some(data));
        }
    }
    Ok(None)
}

async fn events(
    mut body: Incoming,
    each: &mut dyn FnMut(Event) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut decoder = Dialect::Chat.decoder();
    while let Some(data) = piece(&mut body).await? {
        decoder.push(&data).into_iter().try_for_each(&mut *each)?;
    }
    decoder.end().into_iter().try_for_each(each)
}

async fn all(mut body: Incoming) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    while let Some(data) = piece(&mut body).await? {
        bytes.extend_from_slice(&data);
        if bytes.len() > BODY_MAX {
            return Err(Failure::new(Kind::Malformed, format!("the answer has more than {BODY_MAX} bytes")));
        }
    }
    Ok(bytes)
}

/// One more event of an answer, which has to stay within its bounds.
fn take(draft: &mut Draft, event: &Event) -> Result<(), Failure> {
    if matches!(event, Event::BlockStarted { .. }) && draft.parts().len() >= PIECES_MAX {
        return Err(Failure::new(Kind::Malformed, format!("the answer has more than {PIECES_MAX} parts")));
    }
    draft.event(event)
}

/// The whole answer, as a transcript has it.
fn whole(draft: Draft) -> Result<Answer, Failure> {
    let octant_llm::Answer { parts, usage, reason, .. } = draft.end()?;
    let mut pieces: Vec<Piece> = parts.into_iter().filter_map(piece_of).collect();
    name_calls(&mut pieces)?;
    Ok(Answer { pieces, stop: reason.into(), usage: Used { input: usage.input, output: usage.output } })
}

fn piece_of(part: Part) -> Option<Piece> {
    Some(match part {
        Part::Text(text) => Piece::Text { text },
        Part::Reasoning { id, text, signature } => Piece::Reasoning { id, text, signature },
        Part::Sealed { id, data } => Piece::Sealed { id, data },
        Part::Refusal(text) => Piece::Refusal { text },
        Part::ToolCall { id, name, arguments } => Piece::Call(Call { id, name, arguments }),
        // What only somebody who asks can say.
        Part::Image(_) | Part::CacheMark { .. } | Part::ToolResult { .. } => return None,
    })
    .filter(|piece| !matches!(piece, Piece::Text { text } if text.is_empty()))
}

/// Gives each call of an answer an id by which it is told apart from the others.
fn name_calls(pieces: &mut [Piece]) -> Result<(), Failure> {
    let mut seen: Vec<String> = Vec::new();
    for piece in pieces {
        let Piece::Call(call) = piece else { continue };
        if call.id.is_empty() || seen.contains(&call.id) {
            call.id = format!("{}call-{}", crate::text::head(&call.id, 40), seen.len());
        }
        seen.push(call.id.clone());
    }
    if seen.len() > crate::core::CALLS_MAX {
        let why =
            format!("the answer has {} calls, at most {} are taken", seen.len(), crate::core::CALLS_MAX);
        return Err(Failure::new(Kind::Malformed, why));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use octant_llm::{Block, Delta, StopReason};

    #[test]
    fn an_endpoint_is_an_address_on_this_machine() {
        let of = |url: &str| Endpoint::of_url(url).map(|found| (found.place(), found.path));
        let rows = [
            ("http://127.0.0.1:7070/v1", "127.0.0.1:7070", "/v1"),
            ("http://127.0.0.1:7070/v1/", "127.0.0.1:7070", "/v1"),
            ("http://localhost", "127.0.0.1:80", ""),
            ("http://[::1]:9/x", "[::1]:9", "/x"),
            ("unix:/run/octant/llm.sock", "/run/octant/llm.sock", "/v1"),
        ];
        for (url, place, path) in rows {
            assert_eq!(of(url).unwrap(), (place.to_owned(), path.to_owned()), "{url}");
        }
        for url in [
            "https://api.example.org/v1",
            "http://api.example.org/v1",
            "http://127.0.0.1:x/",
            "http://192.0.2.1:8000/v1",
            "http://0.0.0.0:80",
            "http://[2001:db8::1]/v1",
            "",
            "127.0.0.1:1",
        ] {
            assert!(matches!(of(url), Err(LoopError::Url { .. })), "{url}");
        }
    }

    #[test]
    fn what_is_known_of_a_model_is_in_the_list_of_models() {
        let of = |more: &str| {
            let list = facts_of(format!("{{\"data\":[{{\"id\":\"b\"}},{{\"id\":\"a\"{more}}}]}}").as_bytes());
            assert_eq!(list.len(), 2);
            (list["a"].window, list["a"].sees)
        };
        assert_eq!(of(""), (None, None));
        assert_eq!(of(",\"context_length\":0"), (None, None));
        let inputs = |inputs: &str| format!(",\"architecture\":{{\"input_modalities\":[{inputs}]}}");
        assert_eq!(of(&(inputs("\"text\"") + ",\"context_length\":9")), (Some(9), Some(false)));
        assert_eq!(of(&inputs("\"image\"")), (None, Some(true)));
        assert!(facts_of(b"<html>").is_empty());
        let rows = [
            ("0.000001", Some(1_000_000)),
            ("0", Some(0)),
            ("2.5", Some(2_500_000_000_000)),
            ("1e-6", None),
            ("-1", None),
            (".5", None),
            ("", None),
            ("99999999999", None),
            ("0.0000000000001", None),
        ];
        for (text, wanted) in rows {
            assert_eq!(price(&text.into()), wanted, "{text}");
        }
        let facts = Facts { price: Some([1_000_000, 2_000_000]), ..Facts::default() };
        assert_eq!(facts.cost(Used { input: 17, output: 11 }), Some(39));
        assert_eq!(Facts::default().cost(Used::default()), None);
    }

    #[test]
    fn an_answer_without_its_end_is_none_and_ids_are_told_apart() {
        let mut draft = Draft::default();
        for index in 0..3 {
            let id = if index == 2 { String::new() } else { "a".to_owned() };
            let block = Block::ToolCall { id, name: "x".into() };
            take(&mut draft, &Event::BlockStarted { index, block }).unwrap();
            take(&mut draft, &Event::Delta { index, delta: Delta::Arguments("{}".into()) }).unwrap();
        }
        take(&mut draft, &Event::Finished { reason: StopReason::ToolCalls, sequence: None }).unwrap();
        let id = |piece: &Piece| match piece {
            Piece::Call(call) => call.id.clone(),
            other => panic!("{other:?}"),
        };
        let ids: Vec<String> = whole(draft).unwrap().pieces.iter().map(id).collect();
        assert_eq!(ids, ["a", "acall-1", "call-2"]);
        assert_eq!(whole(Draft::default()).unwrap_err().kind, Kind::Cut);
    }

    #[test]
    fn an_answer_has_so_many_parts() {
        let begin = |index| Event::BlockStarted { index, block: Block::Text };
        let (mut draft, most) = (Draft::default(), u32::try_from(PIECES_MAX).unwrap());
        (0..most).for_each(|index| take(&mut draft, &begin(index)).unwrap());
        assert_eq!(take(&mut draft, &begin(most)).unwrap_err().kind, Kind::Malformed);
    }
}
