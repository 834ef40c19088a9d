//! `octant mcp`: the agent's socket on standard input and output, for clients of MCP that only start a process.
//!
//! Lines go to the socket and come from it as they are. Of each only the id is read, so that a request whose connection ends
//! before its answer is answered here: nobody waits for a service that has started anew meanwhile. The next line connects
//! again; neither revision of the protocol needs anything of the connection before.
//!
//! One thread reads standard input and writes to the socket; the other reads the socket and writes standard output. Were it
//! one, each side could wait for the other to read.

use crate::error::CliError;
use crate::out::Out;
use octant_api::error::{ApiError, Code};
use octant_api::rpc::LINE_MAX;
use octant_ids::Layout;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

/// The longest piece of a line that is passed on at once. What is longer than the socket takes comes in several, and is
/// refused there.
const PIECE: u64 = LINE_MAX as u64 + 2;

/// What both threads know.
#[derive(Debug, Default)]
struct Shared {
    /// The connection, while it stands.
    stream: Option<Arc<UnixStream>>,
    /// The ids of requests that went into it and were not answered, as texts of JSON.
    waiting: Vec<String>,
}

/// What the reader of standard input tells the other.
enum Event {
    /// There is a connection to be read.
    Connected(Arc<UnixStream>),
    /// There is none, for this request.
    Unreachable(Option<String>, io::Error),
}

#[derive(Deserialize)]
struct OnlyId<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    method: Option<&'a RawValue>,
}

/// The id of a request, or with `answer` that of an answer.
fn id_of(line: &[u8], answer: bool) -> Option<String> {
    let line: OnlyId<'_> = serde_json::from_slice(line).ok()?;
    line.id.filter(|_| line.method.is_none() == answer).map(|id| id.get().to_owned())
}

fn locked(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    // Nothing panics while it holds the lock, so what it guards is whole.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `octant mcp`
pub(crate) fn run(layout: &Layout, out: &mut Out) -> Result<(), CliError> {
    relay(&layout.socket("agent"), BufReader::new(io::stdin()), out)
}

fn connect(path: &Path) -> Result<Arc<UnixStream>, CliError> {
    let failed =
        |source| CliError::Connect { service: "agent socket".to_owned(), path: path.to_owned(), source };
    UnixStream::connect(path).map(Arc::new).map_err(failed)
}

fn relay(path: &Path, input: impl BufRead + Send + 'static, out: &mut Out) -> Result<(), CliError> {
    // Outside a workstation it ends at once, before a client waits for an answer.
    let first = connect(path)?;
    let shared = Arc::new(Mutex::new(Shared { stream: Some(Arc::clone(&first)), waiting: Vec::new() }));
    let (events, told) = channel();
    // It ends with the receiver, which is there for as long as the other thread runs.
    let _ = events.send(Event::Connected(first));
    let (path, theirs) = (path.to_owned(), Arc::clone(&shared));
    let reader = thread::spawn(move || send(input, &path, &theirs, &events));
    // Where standard output is gone the process ends, and does not wait for the end of standard input.
    receive(&told, &shared, out)?;
    let failed = |source| CliError::Read { path: PathBuf::from("standard input"), source };
    reader.join().unwrap_or_else(|_| Err(io::Error::other("its reader ended"))).map_err(failed)
}

/// Standard input to the socket, until its end.
fn send(
    mut input: impl BufRead,
    path: &Path,
    shared: &Mutex<Shared>,
    events: &Sender<Event>,
) -> io::Result<()> {
    let (mut piece, mut begins) = (Vec::new(), true);
    let read = loop {
        piece.clear();
        match input.by_ref().take(PIECE).read_until(b'\n', &mut piece) {
            Ok(0) => break Ok(()),
            Ok(_) => {}
            Err(error) => break Err(error),
        }
        let stream = if begins { begin(&piece, path, shared, events) } else { locked(shared).stream.clone() };
        begins = piece.ends_with(b"\n");
        if let Some(stream) = stream {
            // Where it fails the connection has ended, and the other thread answers for what was sent into it.
            let _ = (&*stream).write_all(&piece);
        }
    };
    if let Some(stream) = &locked(shared).stream {
        // It fails where the connection has ended, which is what it is for.
        let _ = stream.shutdown(Shutdown::Write);
    }
    read
}

/// The connection for a line that begins: the one that stands, or a new one.
fn begin(
    line: &[u8],
    path: &Path,
    shared: &Mutex<Shared>,
    events: &Sender<Event>,
) -> Option<Arc<UnixStream>> {
    let id = id_of(line, false);
    let mut inner = locked(shared);
    let stream = match &inner.stream {
        Some(stream) => Arc::clone(stream),
        None => match UnixStream::connect(path).map(Arc::new) {
            Ok(stream) => {
                let _ = events.send(Event::Connected(Arc::clone(&stream)));
                Arc::clone(inner.stream.insert(stream))
            }
            Err(error) => {
                let _ = events.send(Event::Unreachable(id, error));
                return None;
            }
        },
    };
    inner.waiting.extend(id);
    Some(stream)
}

/// The socket to standard output, one connection after the other.
fn receive(told: &Receiver<Event>, shared: &Mutex<Shared>, out: &mut Out) -> Result<(), CliError> {
    // The channel ends with the thread that reads standard input.
    while let Ok(event) = told.recv() {
        match event {
            Event::Unreachable(Some(id), error) => refuse(&id, &error.to_string(), out)?,
            Event::Unreachable(None, _) => {}
            Event::Connected(stream) => {
                let mut lines = BufReader::new(&*stream);
                let mut line = Vec::new();
                while lines.read_until(b'\n', &mut line).is_ok_and(|got| got > 0) {
                    if let Some(id) = id_of(&line, true) {
                        locked(shared).waiting.retain(|waits| *waits != id);
                    }
                    out.raw(&line)?;
                    line.clear();
                }
                let left = {
                    let mut inner = locked(shared);
                    inner.stream = None;
                    std::mem::take(&mut inner.waiting)
                };
                left.iter().try_for_each(|id| refuse(id, "the connection ended before its answer", out))?;
            }
        }
    }
    Ok(())
}

/// Answers a request that nobody else will answer any more.
fn refuse(id: &str, why: &str, out: &mut Out) -> Result<(), CliError> {
    let next = "ask again; what was asked may have been done";
    let error = ApiError::new(Code::Unavailable, "ask Octant", "agent socket", why, next);
    // The text of the id is JSON, as it came.
    let error = json!(error);
    out.raw(format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"error\":{error}}}\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;
    use std::os::unix::net::UnixListener;

    /// What was written, for another thread to see.
    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Sink {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A socket that answers `answers` lines of each connection and then ends it.
    fn server(path: &Path, answers: &'static [usize]) -> thread::JoinHandle<Vec<String>> {
        let listener = UnixListener::bind(path).unwrap();
        thread::spawn(move || {
            let mut seen = Vec::new();
            for count in answers {
                let (stream, _) = listener.accept().unwrap();
                let mut lines = BufReader::new(&stream).lines();
                for line in lines.by_ref().take(*count).map_while(Result::ok) {
                    let id = id_of(line.as_bytes(), false).unwrap();
                    (&stream).write_all(format!("{{\"id\":{id},\"result\":{{}}}}\n").as_bytes()).unwrap();
                    seen.push(line);
                }
                // One more is read, and not answered.
                seen.extend(lines.next().and_then(Result::ok));
            }
            seen
        })
    }

    fn relayed(path: &Path, input: &str) -> (Result<(), CliError>, Vec<serde_json::Value>) {
        let sink = Sink::default();
        let mut out = Out::to(false, None, Box::new(sink.clone()), Box::new(io::sink()));
        let done = relay(path, Cursor::new(input.to_owned().into_bytes()), &mut out);
        let text = sink.text();
        (done, text.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
    }

    fn scratch(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("octant-mcp-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        dir
    }

    #[test]
    fn lines_go_through_as_they_are_and_what_is_not_answered_is_refused() {
        let dir = scratch("lines");
        let path = dir.join("agent.sock");
        let serving = server(&path, &[2]);
        let lines = "{\"id\":1,\"method\":\"ping\"}\n{\"id\":\"a\",\"method\":\"tools/list\",\"params\":{ }}\n\
                     {\"id\":3,\"method\":\"tools/call\"}\n";
        let (done, got) = relayed(&path, lines);
        done.unwrap();
        assert_eq!(serving.join().unwrap().join("\n") + "\n", lines, "to the letter");
        assert_eq!((&got[0]["id"], &got[1]["id"]), (&json!(1), &json!("a")));
        assert_eq!((&got[2]["id"], &got[2]["error"]["code"]), (&json!(3), &json!(-32003)));
        assert_eq!(got.len(), 3);
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn outside_a_workstation_it_says_so_and_ends() {
        let dir = scratch("outside");
        let (done, got) = relayed(&dir.join("agent.sock"), "{\"id\":1,\"method\":\"ping\"}\n");
        let error = done.unwrap_err();
        assert!(error.next().unwrap().contains("inside a workstation only"), "{error}");
        assert!(got.is_empty());
        std::fs::remove_dir_all(dir).unwrap();
    }

    /// Gives its lines one after the other, each once it may.
    struct Steps(Receiver<&'static str>);

    impl Read for Steps {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let Ok(line) = self.0.recv() else { return Ok(0) };
            buffer[..line.len()].copy_from_slice(line.as_bytes());
            Ok(line.len())
        }
    }

    #[test]
    fn a_service_that_starts_anew_is_asked_on_a_new_connection() {
        let dir = scratch("anew");
        let path = dir.join("agent.sock");
        let serving = server(&path, &[0, 1]);
        let (lines, steps) = channel();
        let (sink, there) = (Sink::default(), path.clone());
        let mut out = Out::to(false, None, Box::new(sink.clone()), Box::new(io::sink()));
        lines.send("{\"id\":1,\"method\":\"ping\"}\n").unwrap();
        let told = sink.clone();
        let next = thread::spawn(move || {
            while told.text().is_empty() {
                thread::yield_now();
            }
            lines.send("{\"id\":2,\"method\":\"ping\"}\n").unwrap();
        });
        relay(&there, BufReader::new(Steps(steps)), &mut out).unwrap();
        next.join().unwrap();
        assert_eq!(serving.join().unwrap().len(), 2);
        let got = sink.text();
        let got: Vec<serde_json::Value> =
            got.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!((&got[0]["id"], &got[0]["error"]["code"]), (&json!(1), &json!(-32003)));
        assert_eq!((&got[1]["id"], &got[1]["result"]), (&json!(2), &json!({})));
        std::fs::remove_dir_all(dir).unwrap();
    }
}
