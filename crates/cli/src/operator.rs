//! The client of PID 1's operator socket: fixed frames over SOCK_SEQPACKET.

use crate::error::CliError;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect, recv, send, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;
use octant_api::operator::{Answer, End, Op, Request, UnitStatus};
use octant_ids::{Exit, Layout};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;

/// PID 1 answers from memory. One that says nothing for so long is not going to.
const PATIENCE_SECONDS: i64 = 10;
/// More units than any configuration has; what answers with more is not PID 1.
const UNITS_MAX: usize = 1024;

/// The state of everything, as PID 1 sees it.
#[derive(Debug)]
pub(crate) struct Overview {
    pub(crate) units: Vec<UnitStatus>,
    pub(crate) end: End,
}

/// PID 1's operator socket of one instance.
#[derive(Debug)]
pub(crate) struct Operator {
    path: PathBuf,
}

impl Operator {
    pub(crate) fn new(layout: &Layout) -> Self {
        Self { path: layout.operator_socket() }
    }

    /// The state of every unit.
    pub(crate) fn status(&self) -> Result<Overview, CliError> {
        let socket = self.ask(Op::Status, "", 0)?;
        let mut units = Vec::new();
        loop {
            match self.answer(&socket)? {
                Answer::Unit(unit) if units.len() < UNITS_MAX => units.push(unit),
                Answer::End(end) if usize::try_from(end.count) == Ok(units.len()) => {
                    return Ok(Overview { units, end });
                }
                Answer::End(end) => {
                    let why = format!("{} units announced, {} received", end.count, units.len());
                    return Err(self.odd(why));
                }
                Answer::Result { ok: false, text } => return Err(refused("show the status", "", text)),
                Answer::Unit(_) | Answer::Result { .. } => return Err(self.odd("not a status answer".into())),
            }
        }
    }

    /// Any other operation; the answer's text when it was accepted.
    pub(crate) fn act(&self, op: Op, unit: &str, what: &str) -> Result<String, CliError> {
        self.act_with(op, unit, 0, what)
    }

    /// The same with its number.
    pub(crate) fn act_with(&self, op: Op, unit: &str, arg: i32, what: &str) -> Result<String, CliError> {
        let socket = self.ask(op, unit, arg)?;
        match self.answer(&socket)? {
            Answer::Result { ok: true, text } => Ok(text),
            Answer::Result { ok: false, text } => Err(refused(what, unit, text)),
            Answer::Unit(_) | Answer::End(_) => Err(self.odd("a status answer to another request".into())),
        }
    }

    fn ask(&self, op: Op, unit: &str, arg: i32) -> Result<OwnedFd, CliError> {
        let fail = |errno: Errno| CliError::Connect {
            service: "init".into(),
            path: self.path.clone(),
            source: errno.into(),
        };
        let flags = SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None).map_err(fail)?;
        let patience = TimeVal::new(PATIENCE_SECONDS, 0);
        setsockopt(&socket, sockopt::ReceiveTimeout, &patience).map_err(fail)?;
        setsockopt(&socket, sockopt::SendTimeout, &patience).map_err(fail)?;
        connect(socket.as_raw_fd(), &UnixAddr::new(&self.path).map_err(fail)?).map_err(fail)?;
        let frame = Request { op, unit: unit.to_owned(), arg }.encode();
        let sent = send(socket.as_raw_fd(), &frame, MsgFlags::MSG_NOSIGNAL).map_err(fail)?;
        if sent == frame.len() {
            Ok(socket)
        } else {
            Err(self.odd(format!("{sent} bytes of a request taken")))
        }
    }

    fn answer(&self, socket: &OwnedFd) -> Result<Answer, CliError> {
        // One byte more than the longest frame, so that a longer one is seen and not silently cut.
        let mut frame = [0_u8; Answer::MAX + 1];
        let length = loop {
            match recv(socket.as_raw_fd(), &mut frame, MsgFlags::empty()) {
                Ok(0) => return Err(self.odd("the connection was closed".into())),
                Ok(length) => break length,
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Err(self.odd(format!("silence for {PATIENCE_SECONDS} s"))),
                Err(errno) => return Err(self.odd(io::Error::from(errno).to_string())),
            }
        };
        Answer::decode(&frame[..length])
            .ok_or_else(|| self.odd(format!("a frame of {length} bytes that this version does not know")))
    }

    fn odd(&self, why: String) -> CliError {
        CliError::Answer { service: "init".into(), path: self.path.clone(), why }
    }
}

/// PID 1's refusals are texts that end with the next step; the two that have an exit code of their own are told
/// by their words.
fn refused(what: &str, unit: &str, why: String) -> CliError {
    let exit = match why.split_once(' ') {
        Some(("no", rest)) if rest.starts_with("unit is named") => Exit::NotFound,
        Some(("user", rest)) if rest.contains("may not do this") => Exit::Denied,
        _ => Exit::Failed,
    };
    let what = if unit.is_empty() { format!("cannot {what}") } else { format!("cannot {what} {unit}") };
    CliError::Refused { what, why, exit, next: None }
}
