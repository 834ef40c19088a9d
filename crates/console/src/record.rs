//! Telling PID 1 what happens at the console; it puts that on the ledger's record, now or once there is a ledger.

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect, recv, send, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;
use octant_api::operator::{Answer, Op, Request};
use octant_ids::Layout;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// PID 1 answers from memory.
const PATIENCE_SECONDS: i64 = 5;

/// Why something is not on record.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecordError {
    /// PID 1 cannot be asked.
    #[error("PID 1 does not answer at {path}: {source}; what is not on record is refused")]
    Ask {
        /// Its socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It does not take it.
    #[error("PID 1 does not put it on record: {0}")]
    Refused(String),
}

/// Has PID 1 put it on record: who (an account at a terminal), with the number that belongs to the operation.
pub(crate) fn tell(layout: &Layout, op: Op, who: &str, arg: u32) -> Result<(), RecordError> {
    let path = layout.operator_socket();
    let arg = i32::try_from(arg).unwrap_or(-1);
    let answer = ask(&path, &Request { op, unit: who.to_owned(), arg });
    match answer.map_err(|source| RecordError::Ask { path, source })? {
        Some(Answer::Result { ok: true, .. }) => Ok(()),
        Some(Answer::Result { ok: false, text }) => Err(RecordError::Refused(text)),
        _ => Err(RecordError::Refused("an answer that this version does not know".into())),
    }
}

fn ask(path: &Path, request: &Request) -> io::Result<Option<Answer>> {
    let socket = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)?;
    let patience = TimeVal::new(PATIENCE_SECONDS, 0);
    setsockopt(&socket, sockopt::ReceiveTimeout, &patience)?;
    setsockopt(&socket, sockopt::SendTimeout, &patience)?;
    connect(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    send(socket.as_raw_fd(), &request.encode(), MsgFlags::MSG_NOSIGNAL)?;
    let mut frame = [0; Answer::MAX + 1];
    let length = recv(socket.as_raw_fd(), &mut frame, MsgFlags::empty())?;
    Ok(Answer::decode(&frame[..length]))
}
