//! `octant ledger`: asks the service that keeps the record.

use crate::args::Ledger as Command;
use crate::error::CliError;
use crate::out::{Out, Ticking, cut, printable, utc};
use crate::service::Service;
use octant_api::ledger::{Entry, QUERY_MAX, QueryRequest, TailRequest, VerifyReport, VerifyRequest};
use octant_ids::{Layout, Principal, Sha256};
use serde_json::Value;

/// The command.
pub(crate) fn run(command: &Command, layout: &Layout, out: &mut Out) -> Result<(), CliError> {
    let service = Service::of(layout, "ledger");
    match command {
        Command::Tail { lines, follow } => {
            let request = TailRequest { from: None, last: u64::from(*lines), follow: *follow };
            service.stream(&request, |entry| {
                print(&entry, out)?;
                // Whoever follows wants to see an entry when it is made.
                if *follow { out.flush() } else { Ok(()) }
            })?;
            Ok(())
        }
        Command::Show { seq } => {
            let request = QueryRequest { from: *seq, limit: 1, ..QueryRequest::default() };
            let found = service.call(&request)?.entries.into_iter().next().filter(|entry| entry.seq == *seq);
            show(&found.ok_or_else(|| CliError::NotFound(format!("ledger entry {seq}")))?, out)
        }
        Command::Query { kind, actor, intent, from, limit } => {
            let request = QueryRequest {
                actor: actor.clone(),
                kinds: kind.clone(),
                intent: *intent,
                from: *from,
                limit: 0,
                ..QueryRequest::default()
            };
            query(&service, request, *limit, out)
        }
        Command::Verify => {
            let progress =
                Ticking::new(out.json, "recomputing every hash from the first entry on".to_owned());
            let report = service.call(&VerifyRequest::default())?;
            drop(progress);
            verify(&report, out)
        }
    }
}

/// Page after page, until there is no more or `limit` entries were printed.
fn query(service: &Service, mut request: QueryRequest, limit: u32, out: &mut Out) -> Result<(), CliError> {
    let mut left = limit;
    while left > 0 {
        request.limit = left.min(QUERY_MAX);
        let page = service.call(&request)?;
        page.entries.iter().try_for_each(|entry| print(entry, out))?;
        left = left.saturating_sub(u32::try_from(page.entries.len()).unwrap_or(u32::MAX));
        match page.next {
            None => return Ok(()),
            // A page that leads backwards would never end.
            Some(next) if next <= request.from => {
                return Err(CliError::Answer {
                    service: "ledger".to_owned(),
                    path: service.path().to_owned(),
                    why: format!("the page after entry {} begins at {next}", request.from),
                });
            }
            Some(next) => request.from = next,
        }
    }
    if !out.json {
        out.note(&format!("there is more: --from {}", request.from));
    }
    Ok(())
}

/// An entry on one line: number, time of day, who, kind, what.
fn print(entry: &Entry, out: &mut Out) -> Result<(), CliError> {
    if out.json {
        return out.json(entry);
    }
    let short = out.columns.is_some();
    let actor = match &entry.actor {
        Principal::Agent(aid) if short => ending(&aid.to_string()),
        actor => actor.to_string(),
    };
    let time = utc(entry.wall_ms);
    let text = format!(
        "{:>6} {} {:<14} {:<9} {}",
        entry.seq,
        time.get(11..23).unwrap_or(&time),
        actor,
        entry.kind.as_str(),
        summary(entry.payload.text(), short)
    );
    let text = printable(&text);
    out.line(out.columns.map_or(text.clone(), |columns| cut(&text, columns)))
}

/// The end of an identifier: its random part, and what `octant agent show` takes.
fn ending(aid: &str) -> String {
    format!("agent-..{}", aid.get(aid.len().saturating_sub(6)..).unwrap_or(aid))
}

/// A payload for people: what it is about first, then how it changed, then everything else as `name=value`, free
/// text last.
fn summary(payload: &str, short: bool) -> String {
    let Ok(Value::Object(mut members)) = serde_json::from_str(payload) else { return payload.to_owned() };
    members.retain(|_, value| !value.is_null() && value.as_array().is_none_or(|items| !items.is_empty()));
    let mut take = |name: &str| members.remove(name).map(|value| plain(&value));
    let mut words: Vec<String> = Vec::new();
    words.extend(take("agent").map(|aid| if short { ending(&aid) } else { aid }));
    words.extend(["unit", "do", "name"].into_iter().filter_map(&mut take));
    words.extend(match (take("from"), take("to")) {
        (Some(from), Some(to)) => Some(format!("{from} -> {to}")),
        (None, Some(to)) => Some(format!("-> {to}")),
        (from, None) => from.map(|from| format!("from={from}")),
    });
    let text = take("text");
    words.extend(members.iter().map(|(name, value)| format!("{name}={}", plain(value))));
    words.extend(text);
    words.join(" ")
}

/// A value on one line. What is long in it is for `octant ledger show` and `--json`.
fn plain(value: &Value) -> String {
    match value {
        Value::String(digest) if digest.parse::<Sha256>().is_ok() => format!("{}..", &digest[..8]),
        Value::String(text) if !text.is_empty() => text.clone(),
        Value::Array(items) if items.iter().all(Value::is_string) => {
            items.iter().map(plain).collect::<Vec<_>>().join(",")
        }
        Value::Array(items) => format!("({})", items.len()),
        Value::Object(members) if members.len() == 1 => {
            members.iter().map(|(name, value)| format!("{name}:{}", plain(value))).collect()
        }
        other => other.to_string(),
    }
}

fn show(entry: &Entry, out: &mut Out) -> Result<(), CliError> {
    if out.json {
        return out.json(entry);
    }
    let rows = [
        ("entry", entry.seq.to_string()),
        ("kind", entry.kind.as_str().to_owned()),
        ("actor", entry.actor.to_string()),
        ("appended", utc(entry.wall_ms)),
        ("boot", entry.boot_id.clone()),
        (
            "clock",
            format!("{} ns{}", entry.mono_ns, if entry.backfilled { ", reported by init later" } else { "" }),
        ),
        ("intent", entry.intent.map_or_else(|| "-".to_owned(), |intent| intent.to_string())),
        ("previous", entry.prev.to_string()),
        ("hash", entry.hash.to_string()),
    ];
    rows.iter().try_for_each(|(name, value)| out.wrapped(name, value))?;
    let payload: Value = serde_json::from_str(entry.payload.text()).unwrap_or(Value::Null);
    let payload = serde_json::to_string_pretty(&payload).unwrap_or_default();
    payload.lines().try_for_each(|line| out.line(printable(line)))
}

fn verify(report: &VerifyReport, out: &mut Out) -> Result<(), CliError> {
    if out.json {
        out.json(report)?;
    } else {
        let VerifyReport { entries, segments, bytes, head, .. } = report;
        out.line(format_args!(
            "{entries} entries in {segments} segments ({bytes} bytes) verify; the last one is"
        ))?;
        out.line(head)?;
    }
    match &report.damage {
        None => Ok(()),
        Some(damage) => Err(CliError::Unverified {
            what: format!("ledger entry {} ({} at byte {})", damage.seq, damage.segment, damage.offset),
            why: damage.what.clone(),
            next: damage.next.clone(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_reads_as_a_sentence() {
        let digest = "ab".repeat(32);
        let lifecycle = format!(
            r#"{{"agent":"agent-01jp4ekq030707070707070707","from":"isolated","to":"running","name":"report",
                "manifest":"{digest}","reason":null,"exit":{{"code":0}}}}"#
        );
        let rows = [
            (r#"{"text":"ready after 3 ms","unit":"ledger"}"#, "ledger ready after 3 ms"),
            (&lifecycle, "agent-..070707 report isolated -> running exit=code:0 manifest=abababab.."),
            (r#"{"to":"running","layers":[{"a":1},{"b":2}],"none":[]}"#, "-> running layers=(2)"),
            (r#"{"from":"me","empty":"","missing":["a","b"]}"#, r#"from=me empty="" missing=a,b"#),
            (r#""just text""#, r#""just text""#),
            (r#"{"agent":"x"}"#, "agent-..x"),
        ];
        for (payload, expected) in rows {
            assert_eq!(summary(payload, true), expected);
        }
        assert!(summary(&lifecycle, false).starts_with("agent-01jp4ekq030707070707070707 report"));
    }
}
