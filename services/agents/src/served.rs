//! Speaking with a server of tools that nobody here wrote, over its standard input and output.
//!
//! | what it does | what follows |
//! |---|---|
//! | a line that is no message, or nests too deeply; an answer that nobody asked for; a request of its own | dropped, or answered with an error; a fault |
//! | more messages, or longer ones, than it may send | it is not read for a while; a fault |
//! | a line that is too long; its output ends; one fault too many | it is over: who waits gets an error, and its agent is ended |
//! | an answer that comes too late | dropped |
//! | progress, its log | dropped |
//!
//! Each fault is on record, and there are few before it is over, so that a hostile server does not fill the ledger.

use crate::guest::Bucket;
use octant_ids::Aid;
use octant_mcp::Revision;
use octant_mcp::client::{self, Heard, Offered, Unfit};
use octant_sys::clock;
use octant_wire::scan::{DEPTH_MAX, Scanner};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::pipe;
use tokio::sync::{Notify, mpsc, oneshot};

pub(crate) mod pins;

/// The longest line of a server, in bytes: what goes on to an agent has to fit into one of its own.
const LINE_MAX: usize = 960 << 10;
/// How many messages it can send at once, and how many more a second.
const MESSAGES_BURST: u64 = 256;
const MESSAGES_PER_SECOND: u64 = 128;
/// The same in bytes: as many answers of the longest as can be under way, and four more a second.
const BYTES_BURST: u64 = 16 << 20;
const BYTES_PER_SECOND: u64 = 4 << 20;
/// How long one that sends more is not read.
const FLOOD_PAUSE: Duration = Duration::from_millis(250);
/// How many faults it may have.
const FAULTS_MAX: u32 = 8;
/// How many calls can be under way; one caller has at most half of the places that others leave, so that there is one for
/// whoever comes.
const IN_FLIGHT: usize = 16;
/// How many lines wait for a server that does not read.
const UNREAD: usize = 64;
/// How many pages a list has.
const PAGES_MAX: usize = 16;
/// How long a call may take.
pub(crate) const CALL: Duration = Duration::from_secs(60);
/// How long a server may take to begin, and to list its tools: one that is interpreted has to be read first.
pub(crate) const BEGIN: Duration = Duration::from_secs(30);

/// Something that a server may not do and that does not end it yet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    #[error(transparent)]
    Unfit(#[from] Unfit),
    #[error("a line of it nests deeper than {DEPTH_MAX} levels")]
    Deep,
    #[error("it answers request {0}, which was never made")]
    Unasked(u64),
    #[error("it asks {0:?}, and a server of tools asks nothing here")]
    Asks(String),
    #[error("it sends more than {MESSAGES_PER_SECOND} messages, or {} MiB, a second", BYTES_PER_SECOND >> 20)]
    Flood,
}

/// Why a server is over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Over {
    #[error("its output ended")]
    Ended,
    #[error("its output cannot be read: {0}")]
    Unreadable(String),
    #[error("a line of it has more than {LINE_MAX} bytes")]
    Long,
    #[error("it did what it may not {FAULTS_MAX} times, at last: {0}")]
    Faults(Fault),
    #[error("{step}: {why}")]
    Begin { step: &'static str, why: NoAnswer },
    #[error("it took what it does not offer: {0}")]
    Unfit(#[from] Unfit),
    #[error("its list of tools {0}")]
    List(&'static str),
    #[error("its agent has ended")]
    Gone,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoAnswer {
    #[error("the server is over: {0}")]
    Over(String),
    #[error("it did not answer within {} seconds", .0.as_secs())]
    Late(Duration),
    #[error("who asked took it back")]
    TakenBack,
    #[error("{IN_FLIGHT} calls of it are under way")]
    Busy,
    #[error("this agent has {0} calls of it under way, half of the {IN_FLIGHT} that others leave")]
    Share(usize),
    #[error("it does not read what it is sent")]
    Unread,
    #[error("it refused with {code}: {message:?}")]
    Refused { code: i64, message: String },
    #[error(transparent)]
    Unfit(#[from] Unfit),
}

type Answer = Result<Value, NoAnswer>;

/// What is under way.
#[derive(Debug, Default)]
struct Flight {
    /// The number of the request made last.
    last: u64,
    waiting: BTreeMap<u64, Waiting>,
    over: Option<String>,
}

/// Who waits for an answer.
#[derive(Debug)]
struct Waiting {
    /// The agent whose call it is; none for what is asked on nobody's behalf.
    caller: Option<Aid>,
    answer: oneshot::Sender<Answer>,
}

impl Flight {
    /// Whether there is a place for one more.
    fn room(&self, caller: Option<Aid>) -> Result<(), NoAnswer> {
        let all = self.waiting.len();
        let Some(caller) = caller else {
            // One place more than calls have, so that callers cannot keep its list from being read.
            return if all > IN_FLIGHT { Err(NoAnswer::Busy) } else { Ok(()) };
        };
        let own = self.waiting.values().filter(|waiting| waiting.caller == Some(caller)).count();
        let left = IN_FLIGHT.saturating_sub(all - own);
        match left {
            _ if all >= IN_FLIGHT => Err(NoAnswer::Busy),
            _ if own >= left.div_ceil(2) => Err(NoAnswer::Share(own)),
            _ => Ok(()),
        }
    }
}

/// A conversation with a server.
#[derive(Debug)]
pub(crate) struct Session {
    lines: mpsc::Sender<String>,
    flight: Mutex<Flight>,
    /// Told when it says that its list is another.
    pub(crate) changed: Notify,
    /// Told when it is over.
    ended: Notify,
}

/// A request under way. One that is given up is taken back.
struct Asked<'a> {
    session: &'a Session,
    id: u64,
    /// Whether the protocol lets it be taken back.
    cancel: bool,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        let waited = self.session.flight().waiting.remove(&self.id).is_some();
        if waited && self.cancel {
            // Where the server does not read it does not read this either; its answer is dropped then.
            let _ = self.session.lines.try_send(client::cancel(self.id));
        }
    }
}

impl Over {
    /// Whether a list could not be read for want of time or room only: what there was of it stays.
    pub(crate) fn is_of_the_moment(&self) -> bool {
        matches!(self, Self::Begin { why: NoAnswer::Late(_) | NoAnswer::Unread | NoAnswer::Busy, .. })
    }
}

impl Session {
    /// A conversation whose lines go into this pipe.
    pub(crate) fn start(to: pipe::Sender) -> Arc<Self> {
        let (lines, unread) = mpsc::channel(UNREAD);
        tokio::spawn(write(to, unread));
        Arc::new(Self { lines, flight: Mutex::default(), changed: Notify::new(), ended: Notify::new() })
    }

    fn flight(&self) -> MutexGuard<'_, Flight> {
        // Nothing here panics while it holds the lock, so what it guards is whole.
        self.flight.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn say(&self, line: String) -> Result<(), NoAnswer> {
        self.lines.try_send(line).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => NoAnswer::Unread,
            mpsc::error::TrySendError::Closed(_) => {
                const WHY: &str = "its input is closed";
                self.close(WHY);
                NoAnswer::Over(WHY.to_owned())
            }
        })
    }

    /// Makes a request and waits for its answer.
    async fn ask(
        &self,
        cancel: bool,
        caller: Option<Aid>,
        most: Duration,
        line: impl FnOnce(u64) -> String,
    ) -> Answer {
        let (asked, answer) = {
            let mut flight = self.flight();
            if let Some(why) = &flight.over {
                return Err(NoAnswer::Over(why.clone()));
            }
            flight.room(caller)?;
            flight.last += 1;
            let (id, (answer, waits)) = (flight.last, oneshot::channel());
            flight.waiting.insert(id, Waiting { caller, answer });
            (Asked { session: self, id, cancel }, waits)
        };
        self.say(line(asked.id))?;
        match tokio::time::timeout(most, answer).await {
            Ok(Ok(answer)) => answer,
            // Whoever drops what an answer is sent through has said why before.
            Ok(Err(_)) => Err(NoAnswer::Over("it ended".to_owned())),
            Err(_) => Err(NoAnswer::Late(most)),
        }
    }

    /// Begins the conversation, in the newest revision with a handshake that the server speaks, or in that without one.
    pub(crate) async fn begin(&self) -> Result<Revision, Over> {
        let step = "begin the conversation";
        match self.ask(false, None, BEGIN, client::initialize).await {
            Ok(result) => {
                let revision = client::begun(&result)?;
                self.say(client::initialized()).map_err(|why| Over::Begin { step, why })?;
                Ok(revision)
            }
            Err(NoAnswer::Refused { .. }) => {
                let result = self.ask(true, None, BEGIN, client::discover).await;
                Ok(client::found(&result.map_err(|why| Over::Begin { step, why })?)?)
            }
            Err(why) => Err(Over::Begin { step, why }),
        }
    }

    /// Every tool that it lists, by its names.
    pub(crate) async fn list(&self, revision: Revision) -> Result<BTreeMap<String, Offered>, Over> {
        let (mut tools, mut bytes, mut cursor) = (BTreeMap::new(), 0, None::<String>);
        for _ in 0..PAGES_MAX {
            let ask = |id| client::list_tools(revision, id, cursor.as_deref());
            let result = self.ask(true, None, BEGIN, ask).await;
            let result = result.map_err(|why| Over::Begin { step: "list its tools", why })?;
            let (page, next) = client::page(result)?;
            for tool in page {
                bytes += tool.text.len();
                if tools.insert(tool.name.clone(), tool).is_some() {
                    return Err(Over::List("has two of one name"));
                }
            }
            if tools.len() > client::TOOLS_MAX || bytes > client::LIST_MAX {
                return Err(Over::List("has more than 128 tools, or more than 256 KiB"));
            }
            match next {
                None => return Ok(tools),
                Some(next) => cursor = Some(next),
            }
        }
        Err(Over::List("has more than 16 pages"))
    }

    /// Calls a tool for an agent. `gone` is done when nobody waits for it any more.
    pub(crate) async fn call(
        &self,
        caller: Aid,
        revision: Revision,
        tool: &str,
        arguments: &RawValue,
        gone: oneshot::Receiver<()>,
    ) -> Result<Map<String, Value>, NoAnswer> {
        let line = |id| client::call_tool(revision, id, tool, arguments);
        let result = tokio::select! {
            answer = self.ask(true, Some(caller), CALL, line) => answer?,
            _ = gone => return Err(NoAnswer::TakenBack),
        };
        Ok(client::taken(result)?)
    }

    /// Hears the server until it is over, and tells each of its faults.
    pub(crate) async fn hear(&self, from: pipe::Receiver, mut tell: impl FnMut(&Fault)) -> Over {
        let mut from = BufReader::with_capacity(64 << 10, from);
        let mut messages = Bucket::full(MESSAGES_BURST, MESSAGES_PER_SECOND);
        let mut bytes = Bucket::full(BYTES_BURST, BYTES_PER_SECOND);
        let (mut line, mut faults) = (Vec::new(), 0);
        loop {
            line.clear();
            match (&mut from).take(LINE_MAX as u64 + 1).read_until(b'\n', &mut line).await {
                Err(error) => return Over::Unreadable(error.to_string()),
                Ok(_) if line.ends_with(b"\n") => {}
                Ok(bytes) if bytes > LINE_MAX => return Over::Long,
                Ok(_) => return Over::Ended,
            }
            let now_ns = clock::monotonic_ns();
            let flood = !messages.take(now_ns) || !bytes.take_many(line.len() as u64, now_ns);
            let found = if flood { Err(Fault::Flood) } else { self.heard(&line) };
            if let Err(fault) = found {
                faults += 1;
                tell(&fault);
                if faults >= FAULTS_MAX {
                    return Over::Faults(fault);
                }
            }
            if flood {
                tokio::time::sleep(FLOOD_PAUSE).await;
            }
        }
    }

    /// Takes one line.
    fn heard(&self, line: &[u8]) -> Result<(), Fault> {
        let mut scanner = Scanner::default();
        scanner.feed(line);
        if scanner.deepest() > DEPTH_MAX {
            return Err(Fault::Deep);
        }
        match client::hear(line)? {
            Heard::Dropped => {}
            Heard::Changed => self.changed.notify_one(),
            Heard::Request { id, method } => {
                // Where it does not read there is nobody to answer.
                let _ = self.say(client::answer_to(&id, &method));
                if method != "ping" {
                    return Err(Fault::Asks(method.chars().take(64).collect()));
                }
            }
            Heard::Answer { id, result } => {
                let mut flight = self.flight();
                match flight.waiting.remove(&id) {
                    Some(asked) => {
                        let refused = |(code, message): (i64, String)| {
                            let message = message.chars().take(200).collect();
                            NoAnswer::Refused { code, message }
                        };
                        // Who asked may have gone in this moment.
                        let _ = asked.answer.send(result.map_err(refused));
                    }
                    None if id <= flight.last => {}
                    None => return Err(Fault::Unasked(id)),
                }
            }
        }
        Ok(())
    }

    /// Waits until it is over.
    pub(crate) async fn closed(&self) {
        self.ended.notified().await;
    }

    /// Ends it: who waits gets an error, and so does who comes.
    pub(crate) fn close(&self, why: &str) {
        let mut flight = self.flight();
        let why = flight.over.get_or_insert_with(|| why.chars().take(400).collect()).clone();
        for (_, asked) in std::mem::take(&mut flight.waiting) {
            let _ = asked.answer.send(Err(NoAnswer::Over(why.clone())));
        }
        self.ended.notify_one();
    }
}

/// Writes lines whole, one after the other, until the last who could say one is gone, or the server.
async fn write(mut to: pipe::Sender, mut lines: mpsc::Receiver<String>) {
    while let Some(mut line) = lines.recv().await {
        line.push('\n');
        if to.write_all(line.as_bytes()).await.is_err() {
            // Its output says that it has ended, and why; or the next who says something finds its input closed.
            return;
        }
    }
}
