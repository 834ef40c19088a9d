//! The agent's socket: MCP for the tools that Octant offers, the native methods for everything else.

use crate::error::LoopError;
use crate::picture::Picture;
use octant_api::agent::{
    ApprovalInfo, ApprovalRequest, NoteRequest, PermitRequest, SelfInfo, SelfRequest, Words, WordsRequest,
};
use octant_api::error::{ApiError, Code};
use octant_api::rpc::Request;
use octant_api::text::Json;
use octant_mcp::Revision;
use octant_mcp::client::{self, Heard};
use octant_sys::clock;
use octant_wire::WireError;
use octant_wire::blocking::Client;
use serde_json::Value;
use serde_json::value::RawValue;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The longest line that comes from there, in bytes.
const LINE_MAX: usize = 8 << 20;
/// How often a call that is under way is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// How long the list of tools may take.
const LIST_NS: u64 = 20_000_000_000;
/// The most tools that a model is shown.
const TOOLS_MAX: usize = 512;
/// The most pages of them.
const PAGES_MAX: usize = 64;

/// A tool, as the socket offers it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Offered {
    pub(crate) name: String,
    pub(crate) about: Option<String>,
    pub(crate) schema: Value,
}

/// What came of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Came {
    pub(crate) text: String,
    pub(crate) failed: bool,
    /// The request that an operator has to allow first; nothing was carried out.
    pub(crate) waits: Option<String>,
    /// What the model is shown beside the text.
    pub(crate) picture: Option<Picture>,
}

impl Came {
    pub(crate) fn words(text: String, failed: bool) -> Self {
        Self { text, failed, waits: None, picture: None }
    }
}

/// The socket of this workstation.
#[derive(Debug)]
pub(crate) struct Socket {
    path: PathBuf,
    native: Option<Client>,
    mcp: Option<UnixStream>,
    /// What was read of the next line.
    left: Vec<u8>,
    next: u64,
}

/// Why a call has no result.
#[derive(Debug, thiserror::Error)]
enum NoResult {
    #[error("cannot connect: {0}; the call was not made")]
    Connect(io::Error),
    #[error(
        "the connection ended: {0}; whether the call was carried out is not known, look before you make it again"
    )]
    Broken(io::Error),
    #[error("what came is not what the protocol says: {0}")]
    Odd(String),
    #[error("it did not end in time; whether it was carried out is not known")]
    Late,
    #[error("an operator stopped it; whether it was carried out is not known")]
    Stopped,
    #[error("refused with {code}: {message}")]
    Refused { code: i64, message: String },
}

impl Socket {
    pub(crate) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), native: None, mcp: None, left: Vec::new(), next: 1 }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn native<R: Request>(
        &mut self,
        step: &'static str,
        request: &R,
        ms: u64,
    ) -> Result<R::Reply, LoopError> {
        let failed = |source| LoopError::Socket { step, source };
        // One that the service closed meanwhile is seen by the next call; that one is made anew, since each of these can be.
        for last in [false, true] {
            let mut client = match self.native.take() {
                Some(client) => client,
                None => Client::connect(&self.path).map_err(failed)?,
            };
            match client.call_within(request, ms) {
                Err(WireError::Closed { .. } | WireError::Io { .. }) if !last => {}
                done => {
                    if matches!(done, Ok(_) | Err(WireError::Api(_))) {
                        self.native = Some(client);
                    }
                    return done.map_err(failed);
                }
            }
        }
        Err(failed(WireError::Closed { method: R::METHOD.name }))
    }

    pub(crate) fn who(&mut self) -> Result<SelfInfo, LoopError> {
        self.native("ask who this agent is", &SelfRequest {}, 10_000)
    }

    /// What was said after this number, or once so many stops are not all any more.
    pub(crate) fn words(&mut self, after: u64, stops: u64, wait_ms: u64) -> Result<Words, LoopError> {
        let request = WordsRequest { after, stops: Some(stops), wait_ms };
        self.native("ask what was said", &request, wait_ms + 5_000)
    }

    /// Puts a note on record; whether there was room for it.
    pub(crate) fn note(&mut self, text: &str) -> Result<bool, LoopError> {
        match self.native("put a note on record", &NoteRequest { text: text.to_owned() }, 10_000) {
            Ok(_) => Ok(true),
            Err(LoopError::Socket { source: WireError::Api(error), .. }) if error.code == Code::Busy => {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    pub(crate) fn approval(&mut self, id: &str, wait_ms: u64) -> Result<ApprovalInfo, LoopError> {
        let request = ApprovalRequest { id: id.to_owned(), wait_ms };
        self.native("ask about an approval", &request, wait_ms + 5_000)
    }

    /// Whether a tool of the loop's own may be used now: yes, where no approval is demanded or one is used up for it here.
    pub(crate) fn permit(&mut self, tool: &str, arguments: Json) -> Result<(), LoopError> {
        let request = PermitRequest { tool: tool.to_owned(), arguments };
        self.native("ask for approval", &request, 15_000).map(|_| ())
    }

    /// The tools that the manifest allows.
    pub(crate) fn tools(&mut self) -> Result<Vec<Offered>, LoopError> {
        let (mut tools, mut cursor) = (Vec::new(), None::<String>);
        for _ in 0..PAGES_MAX {
            let id = self.number();
            let line = client::list_tools(Revision::V2026, id, cursor.as_deref());
            let end = clock::monotonic_ns().saturating_add(LIST_NS);
            let mut page =
                self.ask(id, line, end, &|| false).map_err(|error| LoopError::Tools(error.to_string()))?;
            let listed = page["tools"].take();
            for tool in listed.as_array().into_iter().flatten() {
                let (Some(name), true) = (tool["name"].as_str(), tool["inputSchema"].is_object()) else {
                    return Err(LoopError::Tools("one has no name or no inputSchema".to_owned()));
                };
                tools.push(Offered {
                    name: name.to_owned(),
                    about: tool["description"].as_str().map(str::to_owned),
                    schema: tool["inputSchema"].clone(),
                });
            }
            cursor = page["nextCursor"].as_str().map(str::to_owned);
            if cursor.is_none() || tools.len() > TOOLS_MAX {
                tools.truncate(TOOLS_MAX);
                return Ok(tools);
            }
        }
        Err(LoopError::Tools("the list does not end".to_owned()))
    }

    /// Calls a tool by the socket's name of it.
    pub(crate) fn call(
        &mut self,
        name: &str,
        arguments: &Value,
        end_ns: u64,
        stop: &dyn Fn() -> bool,
    ) -> Came {
        let id = self.number();
        let line = RawValue::from_string(arguments.to_string())
            .map(|arguments| client::call_tool(Revision::V2026, id, name, &arguments));
        let came = match line {
            Ok(line) => self.ask(id, line, end_ns, stop),
            Err(error) => Err(NoResult::Odd(error.to_string())),
        };
        match came {
            Ok(result) => read(&result),
            Err(error) => Came::words(format!("{name}: {error}"), true),
        }
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn ask(
        &mut self,
        id: u64,
        line: String,
        end_ns: u64,
        stop: &dyn Fn() -> bool,
    ) -> Result<Value, NoResult> {
        let done = self.try_ask(id, line, end_ns, stop);
        if !matches!(done, Ok(_) | Err(NoResult::Refused { .. })) {
            // What comes on it later would be the answer to this.
            (self.mcp, self.left) = (None, Vec::new());
        }
        done
    }

    fn try_ask(
        &mut self,
        id: u64,
        mut line: String,
        end_ns: u64,
        stop: &dyn Fn() -> bool,
    ) -> Result<Value, NoResult> {
        line.push('\n');
        // A service that has started anew has closed it.
        let standing = self.mcp.take().filter(|stream| (&*stream).write_all(line.as_bytes()).is_ok());
        let mut stream = match standing {
            Some(stream) => stream,
            None => {
                self.left.clear();
                let connect = || {
                    let mut stream = UnixStream::connect(&self.path)?;
                    stream.set_read_timeout(Some(LOOK))?;
                    stream.write_all(line.as_bytes())?;
                    Ok(stream)
                };
                connect().map_err(NoResult::Connect)?
            }
        };
        loop {
            let text = self.line(&mut stream, end_ns, stop)?;
            match client::hear(&text).map_err(|error| NoResult::Odd(error.to_string()))? {
                Heard::Answer { id: of, result } if of == id => {
                    self.mcp = Some(stream);
                    return result.map_err(|(code, message)| NoResult::Refused { code, message });
                }
                _ => {}
            }
        }
    }

    fn line(
        &mut self,
        stream: &mut UnixStream,
        end_ns: u64,
        stop: &dyn Fn() -> bool,
    ) -> Result<Vec<u8>, NoResult> {
        let mut scanned = 0;
        let mut piece = vec![0; 64 << 10];
        loop {
            if let Some(at) = self.left[scanned..].iter().position(|byte| *byte == b'\n') {
                let rest = self.left.split_off(scanned + at + 1);
                return Ok(std::mem::replace(&mut self.left, rest));
            }
            scanned = self.left.len();
            if scanned > LINE_MAX {
                return Err(NoResult::Odd(format!("a line of more than {LINE_MAX} bytes")));
            }
            if stop() {
                return Err(NoResult::Stopped);
            }
            if clock::monotonic_ns() >= end_ns {
                return Err(NoResult::Late);
            }
            match stream.read(&mut piece) {
                Ok(0) => return Err(NoResult::Broken(io::ErrorKind::UnexpectedEof.into())),
                Ok(got) => self.left.extend_from_slice(&piece[..got]),
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                Err(error) => return Err(NoResult::Broken(error)),
            }
        }
    }
}

/// What a model is told of a result.
fn read(result: &Value) -> Came {
    let mut text = String::new();
    for part in result["content"].as_array().into_iter().flatten() {
        let said = match part["type"].as_str() {
            Some("text") => part["text"].as_str().unwrap_or_default().to_owned(),
            Some(other) => format!("[a part of the kind {other}, which is not shown]"),
            None => continue,
        };
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&said);
    }
    if text.is_empty() && !result["structuredContent"].is_null() {
        text = result["structuredContent"].to_string();
    }
    let error: Option<ApiError> = serde_json::from_value(result["_meta"]["octant/error"].clone()).ok();
    let waits =
        error.filter(|error| error.code == Code::ApprovalNeeded).and_then(|error| error.data.approval);
    Came { waits, ..Came::words(text, result["isError"] == true) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_result_is_text_and_says_what_it_waits_for() {
        let came = read(
            &json!({ "content": [{ "type": "text", "text": "a" }, { "type": "image" }], "isError": false }),
        );
        assert_eq!(came.text, "a\n[a part of the kind image, which is not shown]");
        let error =
            ApiError::new(Code::ApprovalNeeded, "send", "agent.send", "x", "y").waits_for("3f".into());
        let came = read(&json!({ "content": [], "isError": true, "_meta": { "octant/error": error } }));
        assert_eq!((came.failed, came.waits.as_deref()), (true, Some("3f")));
        assert_eq!(read(&json!({ "structuredContent": { "a": 1 } })).text, "{\"a\":1}");
    }
}
