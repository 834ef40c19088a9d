//! `octant ledger`: asks the service that keeps the record, and checks what was exported from it.

mod export;
mod keep;
pub(crate) mod keys;
mod print;
mod prove;
mod verify;

use crate::VerifyRecord;
use crate::args::{Ledger as Command, Query};
use crate::error::CliError;
use crate::out::Out;
use crate::service::Service;
use crate::witness;
use octant_api::ledger::{Entry, QUERY_MAX, QueryRequest, TailRequest};
use octant_ids::{Aid, Layout, Principal};
use print::print;

pub(crate) use print::in_a_line;
pub(crate) use prove::check_proof;

/// The command.
pub(crate) fn run(
    command: &Command,
    layout: &Layout,
    verify_record: Option<VerifyRecord>,
    out: &mut Out,
) -> Result<(), CliError> {
    let service = Service::of(layout, "ledger");
    match command {
        Command::Tail { lines, from, follow, agent } => {
            let request = TailRequest { from: *from, last: u64::from(*lines), follow: *follow };
            tail(&service, &request, *agent, out)
        }
        Command::Show { seq } => {
            let request = QueryRequest { from: *seq, limit: 1, ..QueryRequest::default() };
            let found = service.call(&request)?.entries.into_iter().next().filter(|entry| entry.seq == *seq);
            let entry = found.ok_or_else(|| CliError::NotFound(format!("ledger entry {seq}")))?;
            print::show(&entry, &service, out)
        }
        Command::Query(asked) => query(&service, request(asked), asked.limit, out),
        Command::Verify { file: None, against } => verify::run(&service, against, out),
        Command::Verify { file: Some(dir), against } if dir.is_dir() => {
            verify::record(dir, against, verify_record, out)
        }
        Command::Verify { file: Some(file), against } => export::verify(file, against, out),
        Command::Prove { seq, output, key } => {
            prove::prove(&service, *seq, output.as_deref(), key.as_deref(), out)
        }
        Command::Export(asked) => export::export(&service, asked, out),
        Command::Checkpoint { key } => prove::print(&service, *key, out),
        Command::ImportCheckpoint { file } => prove::import(&service, file, out),
        Command::Erase { seq, reason } => keep::erase(&service, *seq, reason, out),
        Command::Acknowledge { seq, reason } => keep::acknowledge(&service, *seq, reason, out),
        Command::Archive { before } => keep::archive(&service, *before, out),
        Command::Witness(args) => witness::witness(args),
        Command::Feed(args) => witness::feed(args, layout, out),
        Command::WitnessKey(command) => witness::key(command, out),
    }
}

fn tail(service: &Service, request: &TailRequest, agent: Option<Aid>, out: &mut Out) -> Result<(), CliError> {
    service.stream(request, |entry| {
        if agent.is_some_and(|agent| !about(&entry, agent)) {
            return Ok(());
        }
        print(&entry, out)?;
        // Whoever follows wants to see an entry when it is made.
        if request.follow { out.flush() } else { Ok(()) }
    })?;
    Ok(())
}

/// Whether an entry is about the agent, or by it.
fn about(entry: &Entry, agent: Aid) -> bool {
    entry.partition.is_some_and(|partition| partition.agent == agent)
        || entry.actor == Principal::Agent(agent)
}

fn request(asked: &Query) -> QueryRequest {
    QueryRequest {
        actor: asked.actor.clone(),
        agent: asked.agent,
        subject: asked.subject,
        kinds: asked.kind.clone(),
        intent: asked.intent,
        since_ms: asked.since.map(|when| when.wall_ms()),
        until_ms: asked.until.map(|when| when.wall_ms()),
        from: asked.from,
        limit: 0,
    }
}

/// Prints what is found, at most `limit` entries.
pub(crate) fn query(
    service: &Service,
    request: QueryRequest,
    limit: u32,
    out: &mut Out,
) -> Result<(), CliError> {
    let more = each(service, request, limit, |entry| print(&entry, out))?;
    if let Some(from) = more.filter(|_| !out.json) {
        out.note(&format!("there is more: --from {from}"));
    }
    Ok(())
}

/// Page after page, until there is no more or `limit` entries were seen: then where the next one begins.
pub(crate) fn each(
    service: &Service,
    mut request: QueryRequest,
    limit: u32,
    mut see: impl FnMut(Entry) -> Result<(), CliError>,
) -> Result<Option<u64>, CliError> {
    let mut left = limit;
    while left > 0 {
        request.limit = left.min(QUERY_MAX);
        let page = service.call(&request)?;
        left = left.saturating_sub(u32::try_from(page.entries.len()).unwrap_or(u32::MAX));
        page.entries.into_iter().try_for_each(&mut see)?;
        match page.next {
            None => return Ok(None),
            // A page that leads backwards would never end.
            Some(next) if next <= request.from => {
                let why = format!("the page after entry {} begins at {next}", request.from);
                return Err(odd(service, why));
            }
            Some(next) => request.from = next,
        }
    }
    Ok(Some(request.from))
}

/// An answer that the ledger cannot have meant.
fn odd(service: &Service, why: String) -> CliError {
    CliError::Answer { service: "ledger".to_owned(), path: service.path().to_owned(), why }
}
