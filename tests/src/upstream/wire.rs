//! How an answer goes out: in time, in pieces, and with what the script has go wrong.

use super::http;
use super::script::{Breaks, Script};
use super::{Dialect, script};
use std::io::{self, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Why an answer goes no further.
#[derive(Debug)]
pub(super) enum Stop {
    /// The script closes the connection here.
    Scripted,
    /// The script ends the stream here, as if it were complete.
    Early,
    /// The caller has gone away.
    Gone,
}

impl From<io::Error> for Stop {
    fn from(_: io::Error) -> Self {
        Self::Gone
    }
}

/// A stream on its way.
pub(super) struct Wire<'a> {
    to: &'a mut TcpStream,
    script: &'a Script,
    events: usize,
    ended: bool,
    failed: Vec<u8>,
    garbage: Vec<u8>,
    wrong_end: Vec<u8>,
}

impl<'a> Wire<'a> {
    pub(super) fn new(to: &'a mut TcpStream, script: &'a Script, dialect: &dyn Dialect) -> Self {
        let [failed, garbage, wrong_end] = [dialect.failed(), dialect.garbage(), dialect.wrong_end()];
        Self { to, script, events: 0, ended: false, failed, garbage, wrong_end }
    }

    /// One event.
    pub(super) fn event(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        let wait = if self.events == 0 { self.script.before_first } else { self.script.between };
        std::thread::sleep(wait);
        if let Some((after, how)) = self.script.breaks
            && self.events >= after
        {
            return self.broken(how, bytes);
        }
        self.events += 1;
        self.send(bytes)
    }

    fn broken(&mut self, how: Breaks, bytes: &[u8]) -> Result<(), Stop> {
        match how {
            Breaks::Cut => Err(Stop::Scripted),
            Breaks::Torn => {
                self.send(&bytes[..bytes.len() / 2])?;
                Err(Stop::Scripted)
            }
            Breaks::Failed => {
                let failed = std::mem::take(&mut self.failed);
                self.send(&failed)?;
                Err(Stop::Early)
            }
            Breaks::Garbage => {
                let garbage = std::mem::take(&mut self.garbage);
                self.send(&garbage)?;
                Err(Stop::Early)
            }
        }
    }

    /// An event without which the answer is not complete.
    pub(super) fn last(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        match self.script.end {
            script::End::Right => self.event(bytes),
            script::End::None => Ok(()),
            script::End::Wrong if self.ended => Ok(()),
            script::End::Wrong => {
                self.ended = true;
                let wrong = std::mem::take(&mut self.wrong_end);
                self.event(&wrong)
            }
        }
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        // An empty chunk would be the end.
        if bytes.is_empty() {
            return Ok(());
        }
        if self.script.bytewise {
            return bytes.iter().try_for_each(|byte| http::chunk(self.to, &[*byte])).map_err(Stop::from);
        }
        http::chunk(self.to, bytes).map_err(Stop::from)
    }

    /// The end of the body.
    pub(super) fn end(&mut self) -> Result<(), Stop> {
        self.to.write_all(b"0\r\n\r\n").map_err(Stop::from)
    }
}

/// An answer in one piece, which can be cut and broken too.
pub(super) fn whole(to: &mut TcpStream, script: &Script, body: &[u8]) -> Result<(), Stop> {
    std::thread::sleep(script.before_first);
    let head = http::whole_head(200, &script.headers(), body.len());
    match script.breaks {
        Some((_, Breaks::Cut | Breaks::Torn)) => {
            to.write_all(&[head.as_bytes(), &body[..body.len() / 2]].concat()).map_err(Stop::from)?;
            Err(Stop::Scripted)
        }
        Some((_, Breaks::Garbage)) => {
            http::whole(to, 200, &[], b"<html>this is not JSON</html>").map_err(Stop::from)
        }
        _ if script.bytewise => {
            to.write_all(head.as_bytes()).map_err(Stop::from)?;
            body.iter().try_for_each(|byte| to.write_all(&[*byte])).map_err(Stop::from)
        }
        _ => to.write_all(&[head.as_bytes(), body].concat()).map_err(Stop::from),
    }
}

/// Waits until the caller goes away, or for this long.
pub(super) fn until_gone(stream: &TcpStream, most: Duration) {
    // Without a limit it would wait for ever, which a test does not want: then it does not wait at all.
    if stream.set_read_timeout(Some(most)).is_ok() {
        let _gone_or_over = stream.peek(&mut [0]);
    }
}
