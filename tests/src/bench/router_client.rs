//! A program that asks models, inside a workstation and outside beside it: the same, so that both are measured alike.
//!
//! `router-client WORK AT PATH MODEL COUNT EACH [HEADER...]` prints nanoseconds, one figure a line:
//! - `rate`: EACH connections, on which COUNT requests in all are made at [`A_SECOND`]; how long each took;
//! - `busy`: the same, each as soon as the one before is answered;
//! - `first`: COUNT streams one after another: how long each took to its first piece;
//! - `open`: COUNT streams at once; says how many began, and holds them for EACH seconds.
//!
//! HTTP by hand over blocking sockets: what is measured is not a client.

use crate::vault::text;
use octant_sys::clock::monotonic_ns;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

/// The rate at which latency is measured.
pub(crate) const A_SECOND: u64 = 1000;
/// How long an answer may take.
const WITHIN: Duration = Duration::from_secs(120);
/// So many streams are opened at a time, by a thread each: an agent here may have 32 of them in all.
const AT_ONCE: usize = 16;

/// What is asked, where.
struct Way {
    at: SocketAddr,
    head: String,
    body: String,
}

impl Way {
    fn new(at: &str, path: &str, model: &str, stream: bool, headers: &[String]) -> Result<Self, String> {
        let body = serde_json::json!({
            "model": model, "stream": stream, "max_tokens": 16,
            "messages": [{"role": "user", "content": "What is it like?"}],
        });
        let body = body.to_string();
        let more: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {at}\r\nContent-Type: application/json\r\nAccept: */*\r\n{more}\
             Content-Length: {}\r\n\r\n",
            body.len()
        );
        Ok(Self { at: at.parse().map_err(text)?, head, body })
    }

    fn connect(&self) -> Result<BufReader<TcpStream>, String> {
        let stream = TcpStream::connect(self.at).map_err(|e| format!("{}: {e}", self.at))?;
        stream.set_nodelay(true).map_err(text)?;
        stream.set_read_timeout(Some(WITHIN)).map_err(text)?;
        Ok(BufReader::with_capacity(4096, stream))
    }

    /// Asks, and reads up to the body; gives the body's length, or none where it comes in chunks.
    fn ask(&self, stream: &mut BufReader<TcpStream>) -> Result<Option<usize>, String> {
        stream.get_mut().write_all(format!("{}{}", self.head, self.body).as_bytes()).map_err(text)?;
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if stream.read_line(&mut head).map_err(|e| format!("a head: {e}"))? == 0 {
                return Err(format!("the connection ended in the head {head:?}"));
            }
        }
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
        });
        if head.split(' ').nth(1) == Some("200") {
            return Ok(length);
        }
        let mut body = vec![0; length.unwrap_or(0).min(2000)];
        let _best_effort = stream.read_exact(&mut body);
        Err(format!("{head}{}", String::from_utf8_lossy(&body)))
    }

    fn whole(&self, stream: &mut BufReader<TcpStream>) -> Result<(), String> {
        match self.ask(stream)? {
            Some(length) => stream.read_exact(&mut vec![0; length]).map_err(text),
            None => {
                while chunk(stream)?.is_some() {}
                Ok(())
            }
        }
    }
}

/// The next chunk; none at the end.
fn chunk(stream: &mut BufReader<TcpStream>) -> Result<Option<Vec<u8>>, String> {
    let mut size = String::new();
    stream.read_line(&mut size).map_err(text)?;
    let size =
        usize::from_str_radix(size.trim_end(), 16).map_err(|_| format!("no size of a chunk: {size:?}"))?;
    let mut bytes = vec![0; size + 2];
    stream.read_exact(&mut bytes).map_err(text)?;
    bytes.truncate(size);
    Ok((size > 0).then_some(bytes))
}

/// Requests on several connections, due at a rate or as fast as they are answered.
fn requests(way: &Way, count: usize, connections: usize, paced: bool) -> Result<Vec<u64>, String> {
    let every = connections as u64 * 1_000_000_000 / A_SECOND;
    let begin = monotonic_ns() + 50_000_000;
    let one = |number: usize| -> Result<Vec<u64>, String> {
        let mut stream = way.connect()?;
        // The first request of a connection is the connection's.
        way.whole(&mut stream)?;
        let mut took = Vec::with_capacity(count / connections);
        let mut due = begin + every * number as u64 / connections as u64;
        for _ in 0..count / connections {
            if paced {
                due += every;
                std::thread::sleep(Duration::from_nanos(due.saturating_sub(monotonic_ns())));
            }
            let before = monotonic_ns();
            way.whole(&mut stream)?;
            took.push(monotonic_ns() - before);
        }
        Ok(took)
    };
    let all: Result<Vec<Vec<u64>>, String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..connections).map(|number| scope.spawn(move || one(number))).collect();
        threads.into_iter().map(|thread| thread.join().map_err(|_| "a thread panicked".to_owned())?).collect()
    });
    all.map(|all| all.concat())
}

/// How long streams take to their first piece.
fn first(way: &Way, count: usize) -> Result<Vec<u64>, String> {
    let mut stream = way.connect()?;
    let mut took = Vec::with_capacity(count);
    for _ in 0..=count {
        let before = monotonic_ns();
        way.ask(&mut stream)?;
        chunk(&mut stream)?;
        took.push(monotonic_ns() - before);
        while chunk(&mut stream)?.is_some() {}
    }
    took.remove(0);
    Ok(took)
}

/// Opens streams and holds them; what is read of them meanwhile is thrown away by the kernel's buffers.
fn open(way: &Way, count: usize, seconds: u64) -> Result<Vec<u64>, String> {
    let begun = |mut stream: BufReader<TcpStream>| -> Result<BufReader<TcpStream>, String> {
        way.ask(&mut stream)?;
        chunk(&mut stream)?;
        Ok(stream)
    };
    // Some at a time, since each waits for the ledger.
    let mut held = Vec::with_capacity(count);
    while held.len() < count {
        let more = (count - held.len()).min(AT_ONCE);
        let opened: Result<Vec<_>, String> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..more).map(|_| scope.spawn(|| begun(way.connect()?))).collect();
            threads.into_iter().map(|t| t.join().map_err(|_| "a thread panicked".to_owned())?).collect()
        });
        held.extend(opened?);
    }
    println!("{}", held.len());
    std::io::stdout().flush().map_err(text)?;
    std::thread::sleep(Duration::from_secs(seconds));
    Ok(Vec::new())
}

/// The program.
pub(crate) fn main(args: &[String]) -> ExitCode {
    let done = || -> Result<Vec<u64>, String> {
        let [work, at, path, model, count, each, headers @ ..] = args else {
            return Err("router-client WORK AT PATH MODEL COUNT EACH [HEADER...]".to_owned());
        };
        let (count, each): (usize, usize) = (count.parse().map_err(text)?, each.parse().map_err(text)?);
        let way = Way::new(at, path, model, ["first", "open"].contains(&work.as_str()), headers)?;
        match work.as_str() {
            "rate" => requests(&way, count, each, true),
            "busy" => requests(&way, count, each, false),
            "first" => first(&way, count),
            "open" => open(&way, count, each as u64),
            work => Err(format!("there is no work {work:?}")),
        }
    };
    match done() {
        Ok(figures) => {
            figures.iter().for_each(|figure| println!("{figure}"));
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("router-client: {why}");
            ExitCode::FAILURE
        }
    }
}
