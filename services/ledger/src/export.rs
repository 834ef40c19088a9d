//! Exports: what is proven, page by page, against one checkpoint.

use crate::files;
use crate::handlers::blocking;
use crate::publish::{Published, Witnesses};
use crate::read::{ReadError, Reader};
use octant_api::error::{ApiError, Code};
use octant_api::ledger::{ExportEnd, ExportLine, ExportRequest};
use octant_ids::{Aid, Sha256};
use octant_tlog::bundle::{FORMAT, Header, end, line_of_entry};
use octant_tlog::checkpoint::Signed;
use octant_tlog::entry::View;
use octant_tlog::merkle::{self, Nodes};
use octant_wire::Sink;
use std::sync::Arc;

const WHAT: &str = "export the log";
/// How many entries are read at a time.
const STEP: u64 = 256;
/// A page ends with the line that reaches so many bytes.
const PAGE_BYTES: usize = 1 << 20;

/// An export on its way.
#[derive(Debug)]
pub(crate) struct Export {
    reader: Arc<Reader>,
    header: String,
    size: u64,
    root: Sha256,
    from: u64,
    to: u64,
    agent: Option<Aid>,
    complete: bool,
}

impl Export {
    /// Decides which checkpoint and which entries.
    ///
    /// # Errors
    /// Entries that no checkpoint covers, or that are archived.
    pub(crate) fn new(
        reader: &Arc<Reader>,
        request: &ExportRequest,
        published: &Published,
        newest: &Signed,
        witnesses: &Witnesses,
    ) -> Result<Self, ApiError> {
        // What witnesses have cosigned is worth more, so that is taken where it reaches far enough.
        let reaches = |signed: &&Signed| signed.checkpoint.size >= request.to.max(request.from);
        let signed = published.complete.as_ref().filter(reaches).unwrap_or(newest);
        let size = signed.checkpoint.size;
        let from = request.from.max(1);
        let to = if request.to == 0 { size } else { request.to };
        let first = reader.first();
        let refuse = |why: String, next| Err(ApiError::new(Code::NotFound, WHAT, "range", why, next));
        if to > size || from > to {
            let why = format!("{from} to {to} is no range within the newest checkpoint's {size} entries");
            return refuse(why, "ask for entries that it covers; new ones are within a second");
        }
        if from < first {
            let why = format!("entries before {first} are archived");
            return refuse(why, "begin with that entry, or put the segments back and restart the ledger");
        }
        let complete = request.agent.is_none() && from == 1 && to == size;
        let header = Header {
            format: FORMAT.to_owned(),
            origin: signed.checkpoint.origin.clone(),
            key: published.key.clone(),
            checkpoint: signed.to_text(),
            witnesses: witnesses.keys.iter().map(ToString::to_string).collect(),
            quorum: witnesses.quorum,
            from,
            to,
            agent: request.agent,
            complete,
        };
        let header = header.line().map_err(|error| failed(&error))?;
        Ok(Self {
            reader: Arc::clone(reader),
            header,
            size,
            root: signed.checkpoint.root,
            from,
            to,
            agent: request.agent,
            complete,
        })
    }

    /// Sends every line.
    pub(crate) async fn send(self, lines: &Sink<ExportLine>) -> Result<ExportEnd, ApiError> {
        let send = async |line: String| lines.send(&ExportLine { line }).await;
        send(self.header.clone()).await?;
        let export = Arc::new(self);
        let (mut next, mut entries) = (export.from, 0);
        while next <= export.to {
            let (step, last) = (Arc::clone(&export), export.to.min(next + STEP - 1));
            let (page, after) = blocking(move || step.page(next, last)).await?;
            entries += page.len() as u64;
            for line in page {
                send(line).await?;
            }
            next = after;
        }
        send(end(entries)).await?;
        Ok(ExportEnd { entries, size: export.size })
    }

    /// The proof of an entry. Tiles are files: what somebody changed in one is not passed on.
    fn proof(&self, nodes: &impl Nodes, seq: u64, bytes: &[u8]) -> Result<Vec<Sha256>, Stop> {
        let wrong = |why: &dyn std::fmt::Display| Stop::Failed(failed(why));
        let hashes = merkle::inclusion(nodes, seq - 1, self.size)
            .map_err(|_| wrong(&format!("the tiles give no proof of entry {seq}")))?;
        merkle::verify_inclusion(&merkle::leaf_hash(bytes), seq - 1, self.size, &hashes, &self.root)
            .map_err(|error| wrong(&error))?;
        Ok(hashes)
    }

    /// The lines of the entries from `first` to `last` that are wanted, as far as a page holds them, and the entry to go
    /// on with.
    fn page(&self, first: u64, last: u64) -> Result<(Vec<String>, u64), ApiError> {
        let nodes = self.reader.nodes(self.size);
        let (mut lines, mut held, mut next) = (Vec::new(), 0, first);
        let done: Result<(), Stop> = self.reader.each(first, last, |seq, bytes| {
            if held >= PAGE_BYTES {
                return Err(Stop::Full);
            }
            next = seq + 1;
            let view = View::of(bytes).map_err(|error| Stop::Failed(failed(&error)))?;
            if self.agent.is_some() && view.partition.map(|place| place.agent) != self.agent {
                return Ok(());
            }
            let dir = self.reader.dir().join("payloads");
            let payload = match view.commitment {
                None => None,
                Some(_) => files::read_payload(&dir, seq).map_err(|error| Stop::Failed(failed(&error)))?,
            };
            let payload = payload.map(|payload| (payload.text, Sha256(payload.salt)));
            let proof = match self.complete {
                true => None,
                false => Some(self.proof(&nodes, seq, bytes)?),
            };
            let payload = payload.as_ref().map(|(text, salt)| (text.as_str(), salt));
            let line = line_of_entry(seq, bytes, payload, proof.as_deref());
            let line = line.map_err(|error| Stop::Failed(failed(&error)))?;
            held += line.len();
            lines.push(line);
            Ok(())
        });
        match done {
            Ok(()) | Err(Stop::Full) => Ok((lines, next)),
            Err(Stop::Failed(error)) => Err(error),
            Err(Stop::Read(error)) => Err(failed(&error)),
        }
    }
}

/// Why a page ends early.
enum Stop {
    /// The page is full.
    Full,
    Read(ReadError),
    Failed(ApiError),
}

impl From<ReadError> for Stop {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

fn failed(error: &dyn std::fmt::Display) -> ApiError {
    ApiError::new(Code::Damaged, WHAT, "ledger", error.to_string(), "see `octant ledger verify`")
}
