//! Entries for people: on one line, and in full.

use crate::error::CliError;
use crate::out::{Out, cut, printable, utc};
use crate::service::Service;
use octant_api::ledger::{Entry, Kind, QueryRequest, TailRequest};
use octant_ids::{Principal, Sha256};
use serde_json::Value;

/// An entry on one line: number, time of day, who, kind, what.
pub(super) fn print(entry: &Entry, out: &mut Out) -> Result<(), CliError> {
    if out.json {
        return out.json(entry);
    }
    let text = in_a_line(entry, out.columns.is_some());
    out.line(out.columns.map_or(text.clone(), |columns| cut(&text, columns)))
}

/// The same, cut where it is for a terminal only by what is shortened in it.
pub(crate) fn in_a_line(entry: &Entry, short: bool) -> String {
    let actor = match &entry.actor {
        Principal::Agent(aid) if short => ending(&aid.to_string()),
        actor => actor.to_string(),
    };
    // Whom it is about, where neither the actor nor the payload says so.
    let about = entry.partition.map(|partition| partition.agent);
    let about = about.filter(|aid| entry.actor != Principal::Agent(*aid)).map(|aid| aid.to_string());
    let about = about.filter(|aid| !entry.payload.text().contains(aid.as_str()));
    let about = about.map(|aid| if short { ending(&aid) } else { aid } + " ").unwrap_or_default();
    let time = utc(entry.wall_ms);
    let text = format!(
        "{:>6} {} {:<14} {:<9} {about}{}",
        entry.seq,
        time.get(11..23).unwrap_or(&time),
        actor,
        entry.kind.as_str(),
        what(entry, short)
    );
    printable(&text)
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

/// What an entry says, or why it does not.
fn what(entry: &Entry, short: bool) -> String {
    match (&entry.erasable, &entry.outside) {
        (Some(erasable), _) if erasable.salt.is_none() => "(its payload was erased)".to_owned(),
        (_, Some(outside)) => format!("({} bytes, kept elsewhere)", outside.bytes),
        _ => summary(entry.payload.text(), short),
    }
}

/// One entry in full.
pub(super) fn show(entry: &Entry, service: &Service, out: &mut Out) -> Result<(), CliError> {
    if out.json {
        return out.json(entry);
    }
    let clock =
        format!("{} ns{}", entry.mono_ns, if entry.backfilled { ", reported by init later" } else { "" });
    let mut rows = vec![
        ("entry", entry.seq.to_string()),
        ("kind", entry.kind.as_str().to_owned()),
        ("actor", entry.actor.to_string()),
        ("appended", utc(entry.wall_ms)),
        ("boot", entry.boot_id.clone()),
        ("clock", clock),
    ];
    rows.extend(entry.intent.map(|intent| ("intent", intent.to_string())));
    if entry.kind == Kind::Intent {
        rows.push(("outcome", outcome(entry, service)?));
    }
    if let Some(partition) = &entry.partition {
        rows.push(("agent", partition.agent.to_string()));
        rows.push(("its entry", format!("{}, after {}", partition.seq, partition.prev)));
    }
    let digests = [("manifest", entry.manifest), ("policy", entry.policy), ("subject", entry.subject)];
    rows.extend(digests.into_iter().filter_map(|(name, digest)| Some((name, digest?.to_string()))));
    rows.extend([("previous", entry.prev.to_string()), ("hash", entry.hash.to_string())]);
    rows.extend(payload(entry));
    rows.iter().try_for_each(|(name, value)| out.wrapped(name, value))?;
    let payload: Value = serde_json::from_str(entry.payload.text()).unwrap_or(Value::Null);
    if payload.is_null() && (entry.erasable.is_some() || entry.outside.is_some()) {
        return Ok(());
    }
    let payload = serde_json::to_string_pretty(&payload).unwrap_or_default();
    payload.lines().try_for_each(|line| out.line(printable(line)))
}

/// Where a payload is that does not stand in the entry itself.
fn payload(entry: &Entry) -> Option<(&'static str, String)> {
    let text = match (&entry.erasable, &entry.outside) {
        (Some(erasable), _) if erasable.salt.is_none() => {
            format!("erased; what was there is committed to by {}", erasable.commitment)
        }
        (Some(erasable), _) => format!("can be erased; committed to by {}", erasable.commitment),
        (None, Some(outside)) => format!("{} bytes, kept elsewhere: {}", outside.bytes, outside.sha256),
        (None, None) => return None,
    };
    Some(("payload", text))
}

/// What became of an intent. An outcome that is missing when the boot is over will not come any more: the thing may or
/// may not have been done.
fn outcome(intent: &Entry, service: &Service) -> Result<String, CliError> {
    let request = QueryRequest { intent: Some(intent.seq), ..QueryRequest::default() };
    let found = service.call(&request)?.entries.into_iter();
    let outcome =
        found.filter(|entry| entry.intent == Some(intent.seq)).find(|entry| entry.kind == Kind::Outcome);
    if let Some(outcome) = outcome {
        return Ok(format!("entry {}: {}", outcome.seq, what(&outcome, false)));
    }
    let mut boot = None;
    service.stream(&TailRequest { last: 1, ..TailRequest::default() }, |entry| {
        boot = Some(entry.boot_id);
        Ok(())
    })?;
    Ok(match boot {
        Some(boot) if boot == intent.boot_id => "open: there is none yet".to_owned(),
        _ => "unknown: there is none, and the boot is over in which it was meant to be done".to_owned(),
    })
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
