//! PID 1's own records become entries: looked at, appended durably, and only then taken from the socket, so that
//! a crash in between repeats a record rather than losing it.

use crate::read::{PageLimits, Reader};
use crate::writer::Writer;
use nix::sys::socket::{MsgFlags, recv};
use octant_api::journal::{self, Record};
use octant_api::ledger::{Entry, Kind};
use octant_api::text::Json;
use octant_ids::Principal;
use octant_tlog::entry::{Content, Draft};
use serde_json::json;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixDatagram as StdDatagram;
use std::time::Duration;
use tokio::io::Interest;
use tokio::net::UnixDatagram;

/// How long to wait after a refused append before the same record is tried again.
const RETRY: Duration = Duration::from_millis(500);
/// How far back a repetition is looked for: PID 1 keeps fewer records than this while the ledger is away.
const LOOK_BACK: u64 = 256;

/// What a record becomes.
pub(crate) fn draft(record: &Record) -> Result<Draft, serde_json::Error> {
    let payload = if record.unit.is_empty() {
        json!({ "text": record.text })
    } else {
        json!({ "unit": record.unit, "text": record.text })
    };
    let (actor, kind) = match record.kind {
        journal::Kind::Boot => (Principal::Init, Kind::Boot),
        journal::Kind::Unit => (Principal::Init, Kind::Unit),
        journal::Kind::Lost => (Principal::Init, Kind::Lost),
        journal::Kind::Command { uid } => (Principal::Operator(uid), Kind::Command),
        journal::Kind::Config => (Principal::Init, Kind::Config),
    };
    Ok(Draft {
        observed_ns: Some(record.mono_ns),
        backfilled: record.backfilled,
        ..Draft::new(actor, kind, Json::of(&payload)?)
    })
}

/// A datagram that is no record is itself put on record, so that nothing disappears without a word.
fn unreadable(len: usize) -> Result<Draft, serde_json::Error> {
    let payload = json!({ "text": "a record of PID 1 could not be read", "bytes": len });
    Ok(Draft::new(Principal::Init, Kind::Lost, Json::of(&payload)?))
}

fn same(entry: &Entry, draft: &Draft) -> bool {
    entry.actor == draft.actor
        && Some(entry.mono_ns) == draft.observed_ns
        && entry.kind == draft.kind
        && Content::Payload(entry.payload.clone()) == draft.content
}

/// Whether the record that is looked at first after a start was already appended before it.
fn repeated(reader: &Reader, boot_id: &str, draft: &Draft) -> bool {
    let limits = PageLimits { entries: 1, bytes: usize::MAX, looked_at: LOOK_BACK };
    let from = reader.tip().seq.saturating_sub(LOOK_BACK - 1);
    let found = reader.page(from, limits, |entry| entry.boot_id == boot_id && same(entry, draft));
    found.is_ok_and(|page| !page.entries.is_empty())
}

/// Takes records until PID 1 closes its end.
///
/// # Errors
/// The socket cannot be read.
pub(crate) async fn take(socket: OwnedFd, writer: &Writer, reader: &Reader, boot_id: &str) -> io::Result<()> {
    // The type only says how the runtime waits; packets of a sequenced connection are received the same way.
    let socket = StdDatagram::from(socket);
    socket.set_nonblocking(true)?;
    let socket = UnixDatagram::from_std(socket)?;
    let receive = |datagram: &mut [u8], flags: MsgFlags| {
        let flags = flags | MsgFlags::MSG_DONTWAIT;
        socket.try_io(Interest::READABLE, || Ok(recv(socket.as_raw_fd(), datagram, flags)?))
    };
    let mut first = true;
    loop {
        socket.readable().await?;
        let mut datagram = [0; Record::MAX + 1];
        let len = match receive(&mut datagram, MsgFlags::MSG_PEEK) {
            Ok(0) => return Ok(()),
            Ok(len) => len,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                continue;
            }
            Err(error) => return Err(error),
        };
        let draft = match Record::decode(&datagram[..len]) {
            Some(record) => draft(&record),
            None => unreadable(len),
        }
        .map_err(io::Error::other)?;
        if !(std::mem::take(&mut first) && repeated(reader, boot_id, &draft)) {
            append(writer, &draft).await;
        }
        // Takes what was looked at above.
        receive(&mut datagram, MsgFlags::empty())?;
    }
}

/// Appends until it succeeds: PID 1 keeps later records, and counts what it cannot keep.
async fn append(writer: &Writer, draft: &Draft) {
    loop {
        if let Ok(answer) = writer.append(draft.clone())
            && matches!(answer.await, Ok(Ok(_)))
        {
            return;
        }
        tokio::time::sleep(RETRY).await;
    }
}
